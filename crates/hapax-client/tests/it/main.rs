//! The engines against a server in the same process that can be made to misbehave: it cuts lines after any byte,
//! loses answers, is busy, and edits the very file that is being sent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod claims;
mod batch;
mod fetch;
mod fake;
mod foreign;
mod get;
mod mapped;
mod put;
mod recognise;
mod wild;
