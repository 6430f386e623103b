//! The engines against a server in the same process that can be made to misbehave: it cuts lines after any byte,
//! loses answers, is busy, and edits the very file that is being sent.

mod fake;
mod get;
mod put;
