//! The program `hapax`: server, command-line client and demonstration in one binary. This file owns the way from a
//! command line to an exit code and nothing between.
//!
//! The modules, bottom-up; a module uses only modules listed above it:

/// How a command ends that did not succeed.
mod exit;
/// Where files of the user's are kept.
mod places;
/// The command line.
mod args;
/// Settings and where they come from.
mod settings;
/// Numbers as people read them.
mod words;
/// Tokens on disk and passwords from a terminal.
mod secrets;
/// Remote paths as people type them.
mod remote;

fn main() {}
