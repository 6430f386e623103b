//! `cargo xtask`: the checks and chores of the workspace that are no tests.
//!
//! Owns the command line only; each command is one module. It never ships, and nothing else depends on it.
//!
//! The modules, bottom-up; a module uses only modules listed above it:
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a terminal program: printing is how it answers the person who typed the command"
)]

/// The files of the workspace as values, and where it is.
mod workspace;

/// The parts of the documentation that are printed from code.
mod docs;

/// The house rules that neither rustc nor clippy knows.
mod tidy;

/// Everything but the tests that a change must pass.
mod ci;

/// Real processes, seeded bytes and the line between them.
mod rig;

/// Kills, cuts, edits and full disks, at seeded moments.
mod campaign;

/// The cheapest server imaginable.
mod floor;

/// A server that lies on purpose, and what downloaders make of it.
mod hostile;

/// Clients of others.
mod clients;

/// Arbitrary bytes for every parser.
mod fuzz;

/// What the program costs.
mod bench;

use std::process::ExitCode;

use clap::Parser;

/// Checks and chores of the hapax workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Runs formatting, lints, tidy, the dependency rules and the documentation build; no tests.
    Ci,
    /// Checks the house rules; prints one line per finding.
    Tidy,
    /// Rewrites the documentation that is printed from code.
    Docs,
    /// Strikes the real program at seeded moments; exit code 1 if a promise was broken.
    Campaign(campaign::Args),
    /// Measures what the program costs, against the floor and whatever peers are installed.
    Bench(bench::Args),
    /// Runs downloaders against a server that lies; exit code 1 if `hapax get` believed it.
    Hostile(hostile::Args),
    /// Runs the tests with clients of others: tus-js-client, Uppy, tuspy, curl.
    Clients(clients::Args),
    /// Gives every parser and decoder arbitrary bytes for a while.
    Fuzz(fuzz::Args),
    /// Serves a folder as cheaply as possible, for comparison.
    #[command(hide = true)]
    Floor {
        /// The folder.
        folder: std::path::PathBuf,
    },
    /// Prints the BLAKE3 of standard input.
    #[command(hide = true)]
    Hash,
}

fn main() -> anyhow::Result<ExitCode> {
    let command = Command::parse();
    let root = workspace::root()?;
    if matches!(command, Command::Campaign(_) | Command::Bench(_)) {
        rig::leftovers::end_with_signals()?;
    }
    match command {
        Command::Ci => ci::run(&root),
        Command::Tidy => tidy::run(&root),
        Command::Docs => docs::run(&root).map(|()| ExitCode::SUCCESS),
        Command::Campaign(args) => campaign::run(&root, &args),
        Command::Bench(args) => bench::run(&root, &args),
        Command::Clients(args) => clients::run(&root, &args),
        Command::Fuzz(args) => fuzz::run(&root, &args),
        Command::Hostile(args) => hostile::run(&root, &args),
        Command::Floor { folder } => Ok(floor::run(&folder).map(|()| ExitCode::SUCCESS)?),
        Command::Hash => Ok(rig::digest::hash_standard_input().map(|()| ExitCode::SUCCESS)?),
    }
}
