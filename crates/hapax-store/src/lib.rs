//! Sealed objects, the catalog, and the protocol by which bytes become durable and visible.
//!
//! Two stores, each behind one narrow door: *objects* hold large, immutable, sealed bytes; the *catalog* holds
//! everything that has a name, a state or a reference. Only a committed catalog row makes anything visible.
//! This crate knows nothing of HTTP.
//!
//! ```text
//!   bytes --> intake --(hash, seal)--> object --(sync)--> committer --(one transaction)--> catalog
//!   bytes <-- content <--(authenticate)-- object          <--(snapshot)-----------------   catalog
//! ```
//!
//! The modules, bottom-up; a module uses only modules listed above it:

/// Every error of this crate, and what a caller should do about it.
pub mod error;
/// The names of things in storage.
pub mod id;
/// The seam under everything but SQLite: the real disk, and one that fails on purpose.
pub mod disk;
/// The only place that joins paths inside the data directory.
pub mod layout;
/// Time that jumps cannot fool.
pub mod clock;
/// Sealing and opening: segments of objects, and small values.
pub mod seal;
/// The key ring, and wrapping by the master key.
pub mod key;
/// The door to objects: one contract, its stores.
pub mod object;
/// Sealed objects: header, stride arithmetic, writer and reader.
pub mod sealed;
/// The catalog: everything that has a name, a state or a reference.
pub mod catalog;
/// Two-stage group commit: bytes, then rows.
pub mod committer;
/// Lanes: where one writer at a time may write in an upload.
pub mod lane;
/// The open store: what all verbs share.
pub mod store;
/// What background jobs have in common.
pub mod job;
/// Contents: reading a span across extents.
pub mod content;
/// Copies of one content: the good one stays.
pub mod heal;
/// Digests in the algorithms of others, computed and kept.
pub mod digests;
/// Bytes in: hash, seal, and cut one run of a part.
pub mod intake;
/// What every verb comes to that makes a content visible.
pub mod publish;
/// Files of one part or none, alone or many at a time.
pub mod short;
/// The verbs of uploads.
pub mod upload;
/// Reading what an unfinished upload holds.
pub mod durable;
/// Appends: bytes in order, through however many parts they reach.
pub mod append;
/// Files composed of other uploads, without a byte copied.
pub mod compose;
/// What composed files are: computed in background.
pub mod identify;
/// Digests that contents are found by: computed in background.
pub mod lookup;
/// Who else has a content, and what proves to have it.
pub mod possession;
/// Whole files in one go.
pub mod file;
/// The verbs of the tree of entries.
pub mod entry;
/// The verbs of accounts.
pub mod account;
/// Everything is read and authenticated in background.
pub mod scrub;
/// Pieces become whole parts, dead bytes are left behind.
pub mod compact;
/// What ran out is ended, what nobody points to is removed.
pub mod sweep;
/// Every invariant, verified.
pub mod check;
