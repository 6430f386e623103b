//! The upload and download engines of hapax: what `hapax put` and `hapax get` do, as a library.
//!
//! Both engines repeat one thought until it holds: find out what the other side has, move exactly the difference,
//! prove it. So a first transfer, a resumed one and one whose source changes underneath are the same walk. What is
//! known of a transfer is in a checkpoint that survives `kill -9` at any instruction; the same call again is the
//! resume. Nothing here writes to a terminal.
//!
//! The modules, bottom-up; a module uses only modules listed above it:

/// What can go wrong with a transfer, and what to do then.
pub mod error;
/// Work on other threads and tasks.
mod tasks;
/// What a transfer tells whoever watches it.
pub mod progress;
/// Local files that are sent: what they are, their bytes, their digests.
pub mod source;
/// Local files that are received: parts written in place, then one name.
pub mod sink;
/// The saved progress of a transfer: an append-only log.
pub mod checkpoint;
/// Digests of known local files.
pub mod cache;
/// One request, one answer.
pub mod wire;
/// The server's routes as functions.
pub mod api;
/// The retry loop.
pub mod attempt;
/// What every transfer needs: the server, the places on disk, the patience.
pub mod client;
/// Instant upload.
pub mod claim;
/// The upload engine.
pub mod upload;
/// The download engine.
pub mod download;
/// Downloads from servers that are not ours.
pub mod foreign;

pub use client::{Client, Connection, Places};
pub use error::TransferError;
