//! The rows of the catalog, as values: what snapshots are made of. Owns their meaning; how they come about is the
//! intents' matter.

use std::time::Duration;

use hapax_proto::name::{EntryName, EntryPath};
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::PartNumber;
use hapax_proto::upload::State;

use super::{BlobId, ContentId, EntryId, LaneId, SpaceId, TokenId, UploadId, UserId};
use crate::clock::Timestamp;
use crate::id::ObjectName;
use crate::key::{Fingerprint, MaskSalt};

/// A span of one object placed at an offset of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The bytes of the content that it holds.
    pub span: Span,
    /// The object that holds them; durable before an intent names it.
    pub object: ObjectName,
    /// How many bytes of plaintext the object holds in all.
    pub object_length: Length,
    /// Where in the object's plaintext the extent begins.
    pub object_start: Offset,
    /// The masked subtree value of the part that begins where this extent begins, if the part is whole.
    pub value: Option<MaskedValue>,
}

/// A part's subtree value as the catalog holds it: masked, so that a stolen catalog cannot be asked for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskedValue {
    /// The value under its mask.
    pub masked: [u8; 32],
    /// Random bytes that the mask was made with besides the place, for values that may share theirs with others.
    pub salt: Option<MaskSalt>,
}

impl MaskedValue {
    /// Returns what the catalog keeps: 32 bytes, with the salt behind them if there is one.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.masked.to_vec();
        bytes.extend(self.salt.into_iter().flatten());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (masked, salt) = bytes.split_first_chunk()?;
        let salt = if salt.is_empty() { None } else { Some(salt.try_into().ok()?) };
        Some(Self { masked: *masked, salt })
    }
}

/// An immutable content with an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The row.
    pub id: BlobId,
    /// The keyed fingerprint of its identity.
    pub fingerprint: Fingerprint,
    /// Its BLAKE3, sealed; `None` while it is pending: the fingerprint is a random one then.
    pub identity: Option<Vec<u8>>,
    /// Its size.
    pub size: Length,
    /// Its bytes.
    pub content: ContentId,
    /// Whether they were found damaged, and no good ones came since.
    pub damaged: bool,
}

/// What points to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Whose content it is.
    pub owner: Owner,
    /// The content.
    pub content: ContentId,
    /// Where in it, and where in the object.
    pub extent: Extent,
}

/// What owns a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A live blob.
    Blob(Blob),
    /// A blob, live or not, whose other copy it is.
    Spare(Blob),
    /// A blob that no entry points to.
    Orphan(BlobId),
    /// An open upload.
    Upload(UploadId),
}

/// What a job keeps to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// In the job's own encoding.
    pub state: String,
    /// When it was saved, by the steady clock.
    pub updated: Timestamp,
}

/// A name in a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The row.
    pub id: EntryId,
    /// The space it lies in.
    pub space: SpaceId,
    /// Its name; `None` for the root of a space.
    pub name: Option<EntryName>,
    /// Grows with every change of the entry.
    pub version: u64,
    /// When this path got its present content: the latest of its own and its ancestors' times.
    pub modified: Timestamp,
    /// Whether another content may have stood at this path within the second of `modified` (RFC 9110 §8.8.2.2).
    pub date_weak: bool,
    /// Folder or file.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// Holds entries.
    Folder,
    /// Points to a blob.
    File {
        /// The content.
        blob: Blob,
        /// What the client said about it.
        meta: Meta,
        /// What its entity tag is made of: the fingerprint that its content had when it was put here.
        entity: Fingerprint,
    },
}

/// What a client says about a file beside its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// The source's modification time, as milliseconds since the epoch (may lie before it).
    pub mtime: Option<i64>,
    /// The executable bit.
    pub executable: bool,
    /// The media type, if not guessed from the name.
    pub media_type: Option<String>,
}

/// An upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// Who created it.
    pub user: UserId,
    /// The client's key, if it gave one.
    pub key: Option<String>,
    /// The space of the target.
    pub space: SpaceId,
    /// The target; of an upload that is done, where it went.
    pub path: EntryPath,
    /// The size, once known.
    pub size: Option<Length>,
    /// What the client said about the file.
    pub meta: Meta,
    /// What must hold at the target at the end, in the author's own encoding.
    pub precondition: Option<String>,
    /// The digests declared at creation, in the author's own encoding, sealed.
    pub digests: Option<Vec<u8>>,
    /// What its author wants to find again, in the author's own encoding.
    pub notes: Option<String>,
    /// Who counts its bytes towards the quota.
    pub counted: Counted,
    /// Where it is in its life.
    pub state: State,
    /// Raised by whatever ends all lanes at once.
    pub generation: u32,
    /// The bytes.
    pub content: ContentId,
    /// Raised by every change of the content.
    pub content_version: u64,
    /// How many bytes of the content are durable.
    pub covered: Length,
    /// Where the first byte is missing that is in no extent.
    pub prefix: Offset,
    /// The sealed BLAKE3 that the file has if it ends where part 0 ends now.
    pub first_root: Option<Vec<u8>>,
    /// When it was created.
    pub created: Timestamp,
    /// When it ends if nothing more arrives.
    pub expires: Timestamp,
    /// What its completion came to.
    pub done: Option<Completion>,
}

/// Who counts the bytes of an upload towards the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// The upload itself.
    Here,
    /// Its members: it is composed of other uploads.
    InMembers,
    /// A file that was composed of it.
    InFile,
}

/// How long an upload lives at most after a file was composed of it.
pub const COMPOSED_KEPT: Duration = Duration::from_hours(1);

/// What lies in a space without a quota at the most, 1 EiB: composed files are far larger than what is stored for them, and their
/// sum must stay a number.
pub const SPACE_MAX: Length = Length::new(1 << 60);

/// How many open uploads may be composed of one: each is looked at when that one has all its bytes.
pub const WAITING_MAX: u32 = 16;

/// What the completion of an upload came to, kept for a repeated `complete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The version of the entry.
    pub version: u64,
    /// Whether a file of that name was replaced.
    pub replaced: bool,
    /// The fingerprint of the published identity.
    pub fingerprint: Fingerprint,
    /// The sealed BLAKE3; `None` while it is pending.
    pub identity: Option<Vec<u8>>,
}

/// The durable state of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Which lane.
    pub id: LaneId,
    /// The highest epoch under which something was committed.
    pub epoch: u64,
    /// The open part, if one is begun.
    pub open: Option<OpenPart>,
}

/// A part of which only a prefix is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPart {
    /// Which part.
    pub part: PartNumber,
    /// How many of its bytes are durable.
    pub have: Length,
    /// How many of them are in the tail instead of in extents.
    pub tail: Length,
    /// The open hashing state and the tail's bytes, sealed together.
    pub sealed: Vec<u8>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The row.
    pub id: UserId,
    /// The login name.
    pub name: String,
    /// The argon2id hash in PHC form.
    pub password: String,
    /// Whether the user may administer the service.
    pub admin: bool,
    /// The user's own space.
    pub space: SpaceId,
    /// The group, if the account belongs to one: within it claims may reach from one account to another.
    pub group: Option<String>,
    /// When the account was made.
    pub created: Timestamp,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The row.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserId,
    /// A name for people.
    pub name: String,
    /// What it may do, as the author encoded it.
    pub scope: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

/// How many tokens a user may have, sessions among them.
pub const TOKENS_MAX: u32 = 1_000;

/// A space and what lies in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The row.
    pub id: SpaceId,
    /// Its name, unique in the service.
    pub name: String,
    /// Who owns it.
    pub owner: UserId,
    /// The most bytes that may lie in it, if limited.
    pub quota: Option<Length>,
    /// The logical bytes of its files.
    pub used: Length,
    /// The bytes promised to its unfinished uploads.
    pub reserved: Length,
}

/// Counts for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Users.
    pub users: u64,
    /// File entries.
    pub files: u64,
    /// Folder entries, roots included.
    pub folders: u64,
    /// Blobs that an entry points to.
    pub blobs: u64,
    /// Bytes of the files as users see them.
    pub logical: u64,
    /// Bytes of the blobs.
    pub unique: u64,
    /// Objects.
    pub objects: u64,
    /// Plaintext bytes of the objects.
    pub stored: u64,
    /// Open uploads.
    pub uploads: u64,
    /// Blobs that an entry points to and whose bytes were found damaged.
    pub damaged: u64,
    /// Extents of such blobs beyond one for each part.
    pub fragments: u64,
    /// Bytes of live objects that no extent holds.
    pub dead: u64,
    /// Bytes of objects that were given up and are not forgotten yet.
    pub given_up: u64,
}
