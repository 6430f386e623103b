//! What campaigns and benchmarks are made of: real processes, seeded bytes, and a line between them that counts.
//! Owns no judgement: what was seen is for the caller to weigh.
//!
//! ```text
//!   dice ──▶ bytes (a file)     client ──▶ link (counts, cuts) ──▶ server
//!                  └──────────── digest, by another process ◀── curl ┘
//! ```

/// Seeded choices.
pub(crate) mod dice;

/// Files of seeded content, and edits of them.
pub(crate) mod bytes;

/// Digests computed by another process.
pub(crate) mod digest;

/// Lines that are long and lossy.
pub(crate) mod weather;

/// The line between client and server.
pub(crate) mod link;

/// What must not outlive this program.
pub(crate) mod leftovers;

/// Limits of memory.
pub(crate) mod limit;

/// A child process with a deadline.
pub(crate) mod process;

/// The server as a process.
pub(crate) mod server;

/// The client as a process.
pub(crate) mod client;

/// A plain conversation over HTTP.
pub(crate) mod talk;

/// What curl gets.
pub(crate) mod curl;

/// What a process used up.
pub(crate) mod usage;

/// Building the program.
pub(crate) mod build;

/// Tables for terminals and for Markdown.
pub(crate) mod table;
