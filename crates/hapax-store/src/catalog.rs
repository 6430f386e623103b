//! The catalog: everything that has a name, a state or a reference. The door is synchronous and made of values:
//! a batch of *intents* goes in and becomes one transaction with a savepoint per intent; *snapshots* come out.
//!
//! An intent is small enough to be re-checked inside the transaction: it carries what its author believed
//! (epochs, versions, what stood at a path), and a belief that no longer holds is a [`Refusal`](crate::error::Refusal) that changes nothing,
//! while the other intents of the batch go on.
//!
//! ```text
//!   verbs --Intent--> committer --[Intent]--> Catalog::commit --> [Outcome | Refusal]
//!   verbs <--rows---------------------------- Catalog::entry, upload, extents, ...
//! ```
//!
//! Rule R8: whoever adds a reference *updates* the row it points to and demands that exactly one live row changed;
//! whoever removes the last reference locks that row first and counts in a second statement.
//!
//! What the contract fixes beyond the documentation of each intent:
//!
//! - *Versions.* A new entry has version 1; replacing a file's content, moving an entry or changing its meta keeps its id and
//!   raises its version by one; an entry that was removed and made again has a new id. A content's version grows
//!   by one with every `Store` and `Resize`.
//! - *Modified.* Every entry has its own time: set when its path gets its present content (made, replaced, moved here).
//!   What `entry` reports is the latest own time along the path from the root. It is *date-weak* if any entry along
//!   the path whose own time lies in that second was itself marked weak. An entry is marked weak when at the moment of
//!   the change the second of its `wall` is not later than the second reported until then of the path it takes (if a file is
//!   replaced there), or not later than the second in which its folder last lost a name. A name is lost by removal, by a
//!   move and by replacement by a move, at that `wall` or at the date reported of it (after a removal also of what lay below)
//!   if that is later. The time of what replaces a file is never earlier than the date reported of that file. So dates hold
//!   even while the wall clock is behind what it once said, except below a folder that moves meanwhile.
//! - *Clocks.* Times that are shown (`modified`, `created`) are by the wall clock; times that end things (`expires`, orphan
//!   and dropped `since`, the end of an upload) by the steady one. A plain `Timestamp` called `now` is steady, except in `CreateUpload`
//!   and `AddToken`, where it only says when something was made.
//! - *Quota.* `used` is the sum of the sizes of a space's files; `reserved` is the sum over its open uploads of the size, or,
//!   while that is unknown, of the covered bytes rounded up to 64 MiB. An intent that
//!   raises `used + reserved` past the quota is refused: `CreateUpload`, `Resize`, `Store`, and `Publish`, which releases the
//!   reservation of its own upload. One that does not raise the sum is never refused for it, even if the quota was
//!   lowered since. So what was promised to an upload is never taken by a file that is smaller and quicker.
//! - *Objects* are `live`, `dropped` since a time (no extent pointed to them when the last one went) or `doomed`. The first
//!   extent that names an unknown object adds its row: its directory must be open and of the newest boot, else
//!   `ClosedDir`. A dropped object becomes live again when an extent is placed in it; a doomed one refuses with `NotLive`.
//!   Objects that an ended upload held alone are doomed at once; everything else that is given up is dropped.
//! - *Blobs* are `live`, or `orphan` since the last entry went. `Publish` from an upload or fresh bytes revives an orphan of the
//!   same fingerprint; `Known` does not. If the fingerprint is held, the blob's own content stays and the new content
//!   becomes a *spare* of the blob; a new inline content takes the place of an inline one, for it is known to be good.
//! - *Damaged*: a blob whose content was found so is not linked (`NotLive`) and not found, except by its entries, until other
//!   bytes of the same fingerprint come: they become its content, and the old one a spare, for the new one is not proven
//!   yet. Settling a spare ends it too, for what stays then was read. An inline content that takes the place of another
//!   ends it at once.
//!   An identity that is held has one size; another one with its fingerprint is `Malformed`.
//! - *Digests* of a blob in other algorithms than BLAKE3 are kept beside it, one an algorithm, the newest, each with the lookup
//!   value it is found by. Only a live blob that is not pending takes one (`NotLive`); they stay while it is an orphan and go
//!   when it is buried. What an older schema kept has no lookup value: it can be read and is not found.
//! - *A composed upload* has members: other open uploads, whose extents its content repeats. At most [`WAITING_MAX`](crate::catalog::WAITING_MAX)
//!   open ones have the same member; one more is refused with `TooManyUploads`. It reserves nothing, for its
//!   members do; when it is published, its members are counted in the file: they reserve nothing from then on, are
//!   no longer among the uploads that a user may have open, and end at most an hour later ([`COMPOSED_KEPT`](crate::catalog::COMPOSED_KEPT)).
//!   Until then they are what they were, and may be members of others: `Store` and `Resize` are refused with `Ended(Done)`, for nobody
//!   would count what they took.
//! - *Pending*: a blob that was published without an identity has a random fingerprint until `Identify` says what it is. `KeepValues`
//!   and `Identify` are refused (`NotLive`) for a blob that is not live or not pending. If the identity is held by another blob, the entries
//!   go over to that one, which is revived, and the content becomes a spare of it. An entry keeps what its
//!   entity tag was made of until it shows another content; an upload that is done learns the identity with its blob.
//! - *Covered* counts the bytes in extents, not those in tails; *prefix* is where the first of them is missing.
//! - *The first root* of an upload is what the last `Store` said that touched part 0: that removed or put an extent which
//!   begins there, had or has part 0 as its lane's open part, or said one. `Resize` forgets it if it drops any of part 0.
//! - *An ended upload* tells its completion, its size and what it was created with; its content is gone or a blob's, so it has
//!   content 0 in version 0, nothing covered, no first root and no lanes.
//! - *Numbers* of rows only grow, but a refused intent gives back those it took.
//! - *Refusals* are looked for in this order, the first one counts: what is said of a path (the root, a missing space or parent, a
//!   file on the way, what stands there); what is believed to stand there; what the intent builds on (an upload: missing, ended,
//!   of another generation, epoch or version; a blob); each extent in the order given (its shape, what it overlaps, its object);
//!   the quota. `CreateUpload` looks at the key before all else, and at the number of open uploads before the quota.
//! - *Slices* (`limit`) take the oldest first. `expires <= now` has run out; `before` is not included.
//!
//! This module owns the vocabulary; `sqlite` is the embedded engine, `model` the oracle that tests compare it with.

use std::fmt;

use hapax_proto::digest::Algorithm;
use hapax_proto::name::{EntryName, EntryPath};
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::PartNumber;
use hapax_proto::upload::State;

use crate::clock::{Moment, Timestamp};
use crate::error::StoreError;

pub use crate::error::Refusal;
use crate::id::{DirId, ObjectId, ObjectName};
use crate::key::{Fingerprint, Lookup};

mod rows;

pub use rows::{
    Blob, COMPOSED_KEPT, Completion, Counted, Entry, EntryKind, Extent, Holder, Lane, MaskedValue, Meta,
    OpenPart, Owner, SPACE_MAX, Saved, Space, Stats, TOKENS_MAX, Token, Upload, User, WAITING_MAX,
};

/// The embedded engine.
pub mod sqlite;
/// The reference model in memory.
pub mod model;
/// What every implementation must do, as tests.
#[cfg(test)]
mod contract;

macro_rules! row_ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
    )*};
}

row_ids! {
    /// A run of the server process; directories belong to one.
    BootId
    /// A user.
    UserId
    /// A space: one user's tree of entries.
    SpaceId
    /// An entry of a space.
    EntryId
    /// A blob: immutable bytes with an identity.
    BlobId
    /// A content: ordered extents.
    ContentId
    /// A token.
    TokenId
}

/// The id of an upload: random, unguessable, part of its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub [u8; 16]);

impl UploadId {
    /// Draws a fresh id.
    pub fn random() -> Result<Self, StoreError> {
        crate::id::random_bytes().map(Self)
    }

    /// Reads the form used in URLs: 32 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Where one writer at a time may write in an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneId {
    /// The append lane: moves the contiguous prefix forward.
    Append,
    /// One native part.
    Part(PartNumber),
}

// ---------------------------------------------------------------- intents

/// One change that is made whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// A new run of the server begins; directories of earlier runs are no longer written to.
    Boot,
    /// Gives this boot a directory for objects; `Superseded` if it is not the newest boot.
    OpenDir {
        /// Whose it is.
        boot: BootId,
    },
    /// Takes no more objects into the directory; everything in it is accounted for. Closing it twice is no mistake.
    CloseDir {
        /// Which one.
        dir: DirId,
    },
    /// Saves the clock.
    SaveClock {
        /// The time now.
        now: Timestamp,
    },
    /// Makes a user with a space of the same name.
    CreateUser {
        /// The login name.
        name: String,
        /// The argon2id hash.
        password: String,
        /// Whether the user may administer the service.
        admin: bool,
        /// The time now.
        now: Moment,
    },
    /// Replaces a user's password; all tokens stay.
    SetPassword {
        /// Whose.
        user: UserId,
        /// The argon2id hash.
        password: String,
    },
    /// Puts a user into a group, or into none. A group is no more than a name that accounts share.
    SetGroup {
        /// Who.
        user: UserId,
        /// The name.
        group: Option<String>,
    },
    /// Limits a space; `None` lifts the limit.
    SetQuota {
        /// Which space.
        space: SpaceId,
        /// The most bytes.
        quota: Option<Length>,
    },
    /// Removes a user with space, entries, uploads and tokens, and whatever others are uploading into the space.
    RemoveUser {
        /// Who.
        user: UserId,
        /// The time now.
        now: Moment,
    },
    /// Adds a token. If the user has [`TOKENS_MAX`], those that ended go first; if none did, it is refused with `TooManyTokens`.
    AddToken {
        /// Whose.
        user: UserId,
        /// A name for people.
        name: String,
        /// The hash of the credential.
        hash: [u8; 32],
        /// What it may do.
        scope: String,
        /// The time now.
        now: Timestamp,
        /// When it ends.
        expires: Option<Timestamp>,
    },
    /// Removes a token.
    RemoveToken {
        /// Whose.
        user: UserId,
        /// Which one.
        token: TokenId,
    },
    /// Makes a folder and its missing parents; a folder that is there already is left alone.
    MakeFolder {
        /// Where.
        space: SpaceId,
        /// Its path.
        path: EntryPath,
        /// The time now.
        now: Moment,
    },
    /// Moves an entry, folders with all they hold; parents of the target must exist.
    Move {
        /// In which space.
        space: SpaceId,
        /// From where.
        from: EntryPath,
        /// To where.
        to: EntryPath,
        /// Whether a file at the target may be replaced (by a file).
        overwrite: bool,
        /// The time now.
        now: Moment,
    },
    /// Removes an entry.
    Remove {
        /// In which space.
        space: SpaceId,
        /// Which one.
        path: EntryPath,
        /// What must stand there.
        expect: Expect,
        /// Whether a folder goes with all it holds.
        recursive: bool,
        /// The time now.
        now: Moment,
    },
    /// Changes what is said about a file beside its bytes; raises the entry's version.
    SetMeta {
        /// In which space.
        space: SpaceId,
        /// Which file.
        path: EntryPath,
        /// What must stand there.
        expect: Expect,
        /// The new mtime in milliseconds since the epoch, if it changes.
        mtime: Option<i64>,
        /// The new executable bit, if it changes.
        executable: Option<bool>,
    },
    /// Opens an upload; with a key that its user used before, gives back that upload instead.
    CreateUpload(Box<NewUpload>),
    /// Puts bytes into an open upload.
    Store(Box<Store>),
    /// Gives an open upload another size; bytes and open parts behind `keep` are dropped, and the generation is raised,
    /// for a run that is under way was measured by the old size.
    Resize {
        /// Which upload.
        upload: UploadId,
        /// Under which generation.
        generation: u32,
        /// The new size.
        size: Length,
        /// The new mtime of the source.
        mtime: Option<i64>,
        /// Extents and open parts that reach behind this offset are dropped whole. It lies inside of the new size.
        keep: Offset,
        /// The time now.
        now: Timestamp,
    },
    /// Ends an open upload without a result; its unshared objects are free at once.
    EndUpload {
        /// Which upload.
        upload: UploadId,
        /// `Cancelled`, `Expired` or `Poisoned`.
        state: State,
        /// The time now.
        now: Timestamp,
    },
    /// Makes a content visible under a name.
    Publish(Box<Publish>),
    /// Keeps a digest of a live blob, so that its bytes need not be read for it again, and the blob is found by it.
    KeepDigest {
        /// The blob.
        blob: BlobId,
        /// By which algorithm, and what it is found by.
        lookup: Lookup,
        /// The value, sealed.
        sealed: Vec<u8>,
    },
    /// Keeps values of parts of a pending blob, as far as they are computed. Where the bytes lie in another object by now,
    /// nothing is kept: a value is masked for its place, and who moved them brought it.
    KeepValues {
        /// The blob.
        blob: BlobId,
        /// Extents that begin with a part, as they were when it was read, with the value of the part.
        extents: Vec<Extent>,
    },
    /// Says what a pending blob is.
    Identify {
        /// The blob.
        blob: BlobId,
        /// The keyed fingerprint of its identity.
        fingerprint: Fingerprint,
        /// Its BLAKE3, sealed.
        identity: Vec<u8>,
    },
    /// Says what became of a spare content: the copy that lost against one held already.
    SettleSpare {
        /// The blob.
        blob: BlobId,
        /// The spare.
        spare: ContentId,
        /// Whether the blob takes the spare's content and gives up its own.
        promote: bool,
        /// The time now.
        now: Timestamp,
    },
    /// Says whether the content of a blob can be read. `NotFound` without the blob, `Superseded` if it has another content.
    JudgeBlob {
        /// The blob.
        blob: BlobId,
        /// What was read.
        content: ContentId,
        /// When it was found damaged; an earlier time stays. `None` says that it is good.
        damaged: Option<Timestamp>,
    },
    /// Places the bytes of a blob in other objects.
    Rewrite(Box<Rewrite>),
    /// Keeps what a job goes on with.
    SaveJob {
        /// What the job is called.
        name: String,
        /// In its own encoding.
        state: String,
        /// The time now.
        now: Timestamp,
    },
    /// Ends open uploads whose time ran out.
    ExpireUploads {
        /// The time now.
        now: Timestamp,
        /// At most so many.
        limit: usize,
    },
    /// Forgets ended uploads, and with them their keys and completions.
    ForgetUploads {
        /// Those that ended, done or not, before this.
        before: Timestamp,
        /// At most so many.
        limit: usize,
    },
    /// Removes blobs that no entry has pointed to since `before`; their objects become dropped.
    BuryBlobs {
        /// Orphans since earlier than this go.
        before: Timestamp,
        /// At most so many.
        limit: usize,
        /// The time now.
        now: Timestamp,
    },
    /// Marks objects for deletion that no extent has pointed to since `before`.
    DoomObjects {
        /// Dropped earlier than this.
        before: Timestamp,
        /// At most so many.
        limit: usize,
    },
    /// Forgets objects whose files are gone.
    ForgetObjects {
        /// Which ones.
        objects: Vec<ObjectId>,
    },
}

/// An upload to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUpload {
    /// Its id.
    pub id: UploadId,
    /// Who creates it.
    pub user: UserId,
    /// The client's key.
    pub key: Option<String>,
    /// The space of the target.
    pub space: SpaceId,
    /// The target.
    pub path: EntryPath,
    /// The size, if known.
    pub size: Option<Length>,
    /// What the client says about the file.
    pub meta: Meta,
    /// What must hold at the target at the end.
    pub precondition: Option<String>,
    /// The digests declared.
    pub digests: Option<Vec<u8>>,
    /// What the author wants to find again.
    pub notes: Option<String>,
    /// The open uploads of the same user that it is composed of, in order, if it is. One may stand there several times.
    pub members: Vec<UploadId>,
    /// The time now.
    pub now: Timestamp,
    /// When it ends if nothing arrives.
    pub expires: Timestamp,
    /// How many open uploads the user may have in all.
    pub uploads_max: u32,
}

/// Bytes for an open upload: the one way in which its content changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Which upload.
    pub upload: UploadId,
    /// Under which generation.
    pub generation: u32,
    /// Through which lane.
    pub lane: LaneId,
    /// Under which epoch; one that is not newer than what was committed before is refused, for its author did not know of
    /// that.
    pub epoch: u64,
    /// Extents that overlap this span are removed first; if one of them reaches outside of it, the store is `Malformed`, for
    /// extents are never cut. An empty span overlaps nothing.
    pub clear: Span,
    /// What is placed instead.
    pub put: Vec<Extent>,
    /// The open part of the lane from now on.
    pub open: Option<OpenPart>,
    /// If part 0 is among what is stored: the sealed root of a file that ends with it.
    pub first_root: Option<Vec<u8>>,
    /// The time now.
    pub now: Timestamp,
    /// When the upload ends if nothing more arrives; an earlier time than it has changes nothing.
    pub expires: Timestamp,
}

/// Bytes of a blob in another place: the same bytes, which the author has read and written anew.
///
/// `NotFound` if the content is no blob's, `Superseded` if it has another version, `Malformed` if it is inline or an extent
/// reaches outside of what is cleared, `Incomplete` if the content had holes then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The content of the blob.
    pub content: ContentId,
    /// What was read: the content must not have changed since. Its version is raised.
    pub version: u64,
    /// Extents that overlap this span are removed first.
    pub clear: Span,
    /// What is placed instead.
    pub put: Vec<Extent>,
    /// The time now.
    pub now: Timestamp,
}

/// A content to be made visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// In which space.
    pub space: SpaceId,
    /// Under which name; missing parents are made.
    pub path: EntryPath,
    /// What must stand there.
    pub expect: Expect,
    /// Where the bytes are.
    pub source: Source,
    /// The keyed fingerprint of the identity.
    pub fingerprint: Fingerprint,
    /// The BLAKE3, sealed; `None` leaves it pending: then the fingerprint is a random one.
    pub identity: Option<Vec<u8>>,
    /// The size.
    pub size: Length,
    /// What the client says about the file.
    pub meta: Meta,
    /// The time now.
    pub now: Moment,
}

/// Where the bytes of a content to be published are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In an open upload into the same space, which is done thereby. Its path may be another.
    Upload {
        /// Which one.
        id: UploadId,
        /// Under which generation.
        generation: u32,
        /// The content must not have changed since.
        content_version: u64,
    },
    /// In fresh extents, without an upload.
    Extents(Vec<Extent>),
    /// In the catalog itself, sealed.
    Inline(Vec<u8>),
    /// In a live blob of the same fingerprint and size that is not damaged; else `NotLive`.
    Known(BlobId),
    /// In such a blob, instead of in an open upload into the same space, which is done thereby. What it held is dropped.
    Instead {
        /// The upload.
        id: UploadId,
        /// Under which generation.
        generation: u32,
        /// The blob.
        blob: BlobId,
    },
}

/// What must stand at a path for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever may.
    Anything,
    /// Nothing.
    Nothing,
    /// This version of this entry.
    Entry(EntryId, u64),
}

/// What an intent came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done, and there is nothing to tell.
    Done,
    /// The run of the server.
    Booted(BootId),
    /// The directory.
    Dir(DirId),
    /// The user.
    User(UserId),
    /// The token.
    Token(TokenId),
    /// The entry; `created` is false if it was there already.
    Entry {
        /// The row.
        id: EntryId,
        /// Whether it is new.
        created: bool,
    },
    /// The upload; `created` is false if the key was known.
    Upload {
        /// Its id.
        id: UploadId,
        /// Whether it is new.
        created: bool,
    },
    /// The published file.
    Published {
        /// The entry.
        entry: EntryId,
        /// Its version.
        version: u64,
        /// Whether a file of that name was replaced.
        replaced: bool,
        /// The blob.
        blob: BlobId,
        /// Whether the content was held already: then the new copy is a spare until the old one is proven good.
        known: bool,
    },
    /// How many rows were changed.
    Count(usize),
    /// Uploads that ended.
    Ended(Vec<UploadId>),
    /// Objects whose files are to be deleted now.
    Doomed(Vec<ObjectName>),
}

/// What an intent came to, or why it changed nothing.
pub type Answer = Result<Outcome, Refusal>;

// ---------------------------------------------------------------- the door

/// The transactional database behind everything.
///
/// Every method is one consistent read or one transaction. Concurrency: `commit` is called by one thread, the
/// committer's; reads by any number.
pub trait Catalog: Send + Sync {
    /// Makes the intents durable, in order, in one transaction with a savepoint per intent.
    ///
    /// DURABILITY: on `Ok` every intent whose answer is `Ok` survives power loss. On `Err` none is visible; whether a
    /// power cut could still bring them back is unknown, so what they refer to must be kept.
    fn commit(&self, intents: &[Intent]) -> Result<Vec<Answer>, StoreError>;

    /// Returns the entry at a path.
    fn entry(&self, space: SpaceId, path: &EntryPath) -> Result<Option<Entry>, StoreError>;

    /// Returns the names in a folder behind `after`, in byte order.
    fn children(
        &self,
        space: SpaceId,
        folder: &EntryPath,
        after: Option<&EntryName>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Returns the extents of a content that overlap a span, ascending.
    fn extents(&self, content: ContentId, span: Span, limit: usize) -> Result<Vec<Extent>, StoreError>;

    /// Hands over all extents of a content, ascending, as of one moment. `each` must not ask the catalog.
    fn each_extent(&self, content: ContentId, each: &mut dyn FnMut(Extent)) -> Result<(), StoreError>;

    /// Returns a content that is kept in the catalog itself, sealed.
    fn inline(&self, content: ContentId) -> Result<Option<Vec<u8>>, StoreError>;

    /// Returns the live blob with this fingerprint, if an entry of the space points to it and it is not damaged: what is
    /// found so stands for its bytes.
    fn blob_in_space(&self, space: SpaceId, fingerprint: &Fingerprint) -> Result<Option<Blob>, StoreError>;

    /// Returns the blob with this fingerprint, if an entry of the space points to it, damaged or not.
    fn shown_in_space(&self, space: SpaceId, fingerprint: &Fingerprint) -> Result<Option<Blob>, StoreError>;

    /// Returns live blobs of this size, by row, that are not damaged and that an entry of the space points to.
    fn blobs_of_size(&self, space: SpaceId, size: Length, limit: usize) -> Result<Vec<Blob>, StoreError>;

    /// Returns the live blob with this fingerprint, unless it is damaged, whoever has it, and how many accounts beside one have an entry that
    /// points to it, counted up to `limit`; of its own group only, if `group` says so, which for an account without a group
    /// is nobody. It takes the same steps for a blob that is not there.
    fn held_by_others(
        &self,
        fingerprint: &Fingerprint,
        beside: UserId,
        group: bool,
        limit: u32,
    ) -> Result<Option<(Blob, u32)>, StoreError>;

    /// Returns the digests kept of a blob, sealed, in the order of their algorithms.
    fn digests(&self, blob: BlobId) -> Result<Vec<(Algorithm, Vec<u8>)>, StoreError>;

    /// Returns live blobs, by row, that have a digest with this lookup value, are not damaged, and that an entry of the space
    /// points to; of any space, if none is named. Of an algorithm that is not collision resistant there may be several.
    fn blobs_by_digest(
        &self,
        space: Option<SpaceId>,
        lookup: &Lookup,
        limit: usize,
    ) -> Result<Vec<Blob>, StoreError>;

    /// Returns live blobs behind `after`, by row, whose identity is known, each with the algorithms, in order, by whose
    /// digests it is found.
    fn findable(
        &self,
        after: Option<BlobId>,
        limit: usize,
    ) -> Result<Vec<(Blob, Vec<Algorithm>)>, StoreError>;

    /// Returns how many live blobs with a known identity are not found by a digest of each of these algorithms. Looks at
    /// every blob.
    fn unfindable(&self, algorithms: &[Algorithm]) -> Result<u64, StoreError>;

    /// Returns an upload.
    fn upload(&self, id: UploadId) -> Result<Option<Upload>, StoreError>;

    /// Returns the upload that a user created under a key, ended or not.
    fn upload_by_key(&self, user: UserId, key: &str) -> Result<Option<Upload>, StoreError>;

    /// Returns a user's uploads behind `after`, by id.
    fn uploads(&self, user: UserId, after: Option<UploadId>, limit: usize)
    -> Result<Vec<Upload>, StoreError>;

    /// Returns what an open upload is composed of, in order.
    fn members(&self, upload: UploadId) -> Result<Vec<UploadId>, StoreError>;

    /// Returns the open uploads that are composed of this one, by id.
    fn composed_of(&self, member: UploadId) -> Result<Vec<UploadId>, StoreError>;

    /// Returns live blobs behind `after`, by row, whose identity is pending.
    fn pending(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<Blob>, StoreError>;

    /// Returns one lane of an upload, if anything was ever committed through it.
    fn lane(&self, upload: UploadId, lane: LaneId) -> Result<Option<Lane>, StoreError>;

    /// Shows what an upload holds of a span, all of it at one moment: hands over the extents that overlap the span,
    /// ascending, and returns the upload with its lanes that have an open part, in order.
    fn holdings(
        &self,
        id: UploadId,
        span: Span,
        each: &mut dyn FnMut(Extent),
    ) -> Result<Option<(Upload, Vec<Lane>)>, StoreError>;

    /// Returns a user by login name.
    fn user(&self, name: &str) -> Result<Option<User>, StoreError>;

    /// Returns all users, by name.
    fn users(&self) -> Result<Vec<User>, StoreError>;

    /// Returns a space by name.
    fn space(&self, name: &str) -> Result<Option<Space>, StoreError>;

    /// Returns a space by its row.
    fn space_by_id(&self, id: SpaceId) -> Result<Option<Space>, StoreError>;

    /// Returns the token with this hash, and its user.
    fn token(&self, hash: &[u8; 32]) -> Result<Option<(Token, User)>, StoreError>;

    /// Returns a user's tokens.
    fn tokens(&self, user: UserId) -> Result<Vec<Token>, StoreError>;

    /// Returns the saved clock.
    fn clock(&self) -> Result<Timestamp, StoreError>;

    /// Returns the open directories of boots other than this one.
    fn dead_dirs(&self, boot: BootId) -> Result<Vec<DirId>, StoreError>;

    /// Returns the objects of a directory that have a row.
    fn objects_in(&self, dir: DirId) -> Result<Vec<ObjectId>, StoreError>;

    /// Returns the directory in which an object is known, if it has a row.
    fn object_dir(&self, object: ObjectId) -> Result<Option<DirId>, StoreError>;

    /// Returns objects that were marked for deletion and not forgotten yet.
    fn doomed(&self, limit: usize) -> Result<Vec<ObjectName>, StoreError>;

    /// Returns spare contents with their blobs: `(blob, spare)`.
    fn spares(&self, limit: usize) -> Result<Vec<(Blob, ContentId)>, StoreError>;

    /// Returns what a job keeps.
    fn job(&self, name: &str) -> Result<Option<Saved>, StoreError>;

    /// Returns live blobs behind `after` that were found damaged, by row, each with the paths that show it (at most a few).
    fn damaged(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<(Blob, Vec<String>)>, StoreError>;

    /// Returns live objects behind `after`, by id, each with its plaintext length and how many bytes extents hold of it; more
    /// than it has, if several hold the same.
    fn live_objects(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectName, Length, Length)>, StoreError>;

    /// Returns what points to an object, by content and offset.
    fn holders(&self, object: ObjectId) -> Result<Vec<Holder>, StoreError>;

    /// Returns the version of a content, if a blob has it.
    fn version(&self, content: ContentId) -> Result<Option<u64>, StoreError>;

    /// Returns live blobs behind `after`, by row, each with the number of its extents.
    fn extent_counts(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<(Blob, u64)>, StoreError>;

    /// Returns counts for people.
    fn stats(&self) -> Result<Stats, StoreError>;

    /// Returns every invariant of the catalog that does not hold, in words; empty if all do.
    fn audit(&self) -> Result<Vec<String>, StoreError>;

    /// Returns live blobs behind `after`, by row, each with the paths that show it (at most a few): for `check`.
    fn blobs(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<(Blob, Vec<String>)>, StoreError>;

    /// Returns objects behind `after` with their plaintext length, by id, live and dropped: for `check`.
    fn objects(&self, after: Option<ObjectId>, limit: usize)
    -> Result<Vec<(ObjectName, Length)>, StoreError>;
}
