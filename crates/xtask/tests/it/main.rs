//! This program from outside: how it ends.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

/// Campaigns that are ended by a signal.
mod signals;
