//! The JSON shapes and fields of `/api/v1`, used by the server to parse and answer and by the client to ask and
//! read. Unknown members of a request are an error (`deny_unknown_fields`); unknown members of an answer are
//! ignored, so that the API can grow within v1.

use serde::{Deserialize, Serialize};

use crate::claim::{Proof, Seed};
use crate::digest::{Digests, FileHash};
use crate::tree::PartValue;
use crate::upload::State;

/// The version of the API in its path.
pub const API: &str = "/api/v1";

/// `GET /api/v1`: what this service is and can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Always `hapax`.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// The version of the API.
    pub api: u32,
    /// Names of optional abilities.
    pub features: Vec<String>,
    /// What the service refuses beyond.
    pub limits: Limits,
    /// What a batch of small files may hold; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchLimits>,
    /// Digest algorithms that fields may use.
    pub digests: Vec<String>,
    /// The storage part, in bytes.
    pub part_size: u64,
    /// Interop versions of the IETF draft that are spoken.
    pub rufh_interop: Vec<u32>,
}

/// What the service refuses beyond.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The largest file, in bytes.
    pub size_max: u64,
    /// Parts of one upload that may be sent at the same time.
    pub parts_in_flight: u32,
    /// Unfinished uploads of one account.
    pub uploads_max: u32,
}

/// How much one `POST /api/v1/batch` may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchLimits {
    /// Records.
    pub records_max: usize,
    /// The content of one record, in bytes.
    pub record_max: u64,
    /// The whole body, in bytes.
    pub body_max: u64,
    /// Batches of one account at the same time.
    pub in_flight: u32,
}

/// What must hold at the target when an upload is finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precondition {
    /// Nothing may have the name.
    Absent,
    /// The file there must have this strong entity tag.
    Matches(String),
}

/// `POST /api/v1/uploads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateUpload {
    /// A random id of the client's, so that a lost answer leaves no orphan: 16 to 64 characters of `[A-Za-z0-9_-]`.
    pub key: String,
    /// `[/@space]/path` of the target.
    pub path: String,
    /// The size in bytes, if known yet.
    pub size: Option<u64>,
    /// The source's modification time, RFC 3339.
    pub mtime: Option<String>,
    /// The executable bit.
    #[serde(default)]
    pub executable: bool,
    /// The media type to store, else guessed from the name.
    pub media_type: Option<String>,
    /// Digests of the whole content that the server must find at the end.
    #[serde(default)]
    pub digests: Digests,
    /// What must hold at the target.
    pub precondition: Option<Precondition>,
}

/// The state of an upload: the answer to its creation and to `GET /api/v1/uploads/<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadStatus {
    /// The upload's id.
    pub id: String,
    /// Its resource, relative to the host.
    pub url: String,
    /// The target, long form.
    pub path: String,
    /// The size, once known.
    pub size: Option<u64>,
    /// The storage part, in bytes.
    pub part_size: u64,
    /// Where it is in its life.
    pub state: State,
    /// The end of the durable contiguous prefix.
    pub offset: u64,
    /// When it ends if nothing more arrives, RFC 3339.
    pub expires: String,
    /// Grows whenever the upload's writers change.
    pub epoch: u64,
    /// What the service refuses beyond.
    pub limits: Limits,
    /// Durable bytes as `[start, end)` pairs, ascending.
    #[serde(default)]
    pub received: Vec<(u64, u64)>,
    /// Whole parts with their values, ascending.
    #[serde(default)]
    pub parts: Vec<HeldPart>,
    /// Parts of which a prefix is kept.
    #[serde(default)]
    pub partial: Vec<PartialPart>,
    /// Where the next page of `parts` begins, if there is one.
    #[serde(default)]
    pub next: Option<u32>,
}

/// A whole part that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPart {
    /// Its number.
    pub n: u32,
    /// Its BLAKE3 subtree value.
    pub value: PartValue,
}

/// A part of which only a prefix is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialPart {
    /// Its number.
    pub n: u32,
    /// How many bytes are kept.
    pub have: u64,
}

/// `GET /api/v1/uploads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadList {
    /// The caller's uploads, by id.
    pub uploads: Vec<UploadSummary>,
    /// The id behind which the next page begins.
    pub next: Option<String>,
}

/// One line of the list of uploads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadSummary {
    /// The upload's id.
    pub id: String,
    /// The target, long form.
    pub path: String,
    /// The size, once known.
    pub size: Option<u64>,
    /// How many bytes are durable.
    pub covered: u64,
    /// Where it is in its life.
    pub state: State,
    /// When it ends if nothing more arrives, RFC 3339.
    pub expires: String,
}

/// The answer to a stored part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPart {
    /// Its number.
    pub n: u32,
    /// The value of the whole part; absent while only a prefix of it is there.
    pub value: Option<PartValue>,
    /// How many bytes of the part are durable.
    pub have: u64,
    /// The end of the durable contiguous prefix of the upload.
    pub offset: u64,
}

/// `POST /api/v1/uploads/<id>/resize`: the source has another size than was stated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// The new size in bytes.
    pub size: u64,
    /// The source's new modification time, RFC 3339.
    pub mtime: Option<String>,
}

/// `POST /api/v1/uploads/<id>/complete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Complete {
    /// The size in bytes.
    pub size: u64,
    /// What the client computed over its source; the server's own must agree.
    pub blake3: Option<FileHash>,
}

/// The answer to `complete`, and to everything else that makes a file visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// The entry, long form.
    pub path: String,
    /// Its strong entity tag.
    pub etag: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its BLAKE3, computed by the server.
    pub blake3: FileHash,
    /// The version of the entry.
    pub version: u64,
    /// Whether a file of that name was replaced.
    #[serde(default)]
    pub replaced: bool,
}

/// `GET /api/v1/uploads/<id>/digest`: the digest of a durable span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanDigest {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// The algorithm's name.
    pub alg: String,
    /// The value, hex.
    pub value: String,
}

/// `GET /api/v1/tree/<path>`: the values by which a download is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// The version they belong to.
    pub etag: String,
    /// The size of the file in bytes.
    pub size: u64,
    /// The root they merge to.
    pub blake3: FileHash,
    /// The storage part, in bytes.
    pub part_size: u64,
    /// The span of one value, in bytes.
    pub grain: u64,
    /// How many values the whole file has.
    pub parts: u32,
    /// The number of the first value here.
    pub from: u32,
    /// The values; empty if the file is one part or less, for then the digest is the proof.
    pub values: Vec<PartValue>,
    /// Where the next page begins, if there is one.
    pub next: Option<u32>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Holds entries.
    Folder,
    /// Points to a blob.
    File,
}

/// One entry: the answer to stat, and a line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryInfo {
    /// The long form, `/@space/…`.
    pub path: String,
    /// The last segment of the path; empty for the root of a space.
    pub name: String,
    /// Folder or file.
    pub kind: EntryKind,
    /// The size in bytes; absent for folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// BLAKE3-256; absent for folders and while it is being computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<FileHash>,
    /// The strong entity tag; absent for folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The client's modification time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<String>,
    /// When this path got its present content, by the server's clock, RFC 3339.
    pub modified: String,
    /// The executable bit.
    #[serde(default)]
    pub executable: bool,
    /// The stored media type; absent for folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Grows with every change of the entry.
    pub version: u64,
}

/// `GET /api/v1/entries/<folder>/?list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryList {
    /// The entries in byte order of their paths.
    pub entries: Vec<EntryInfo>,
    /// What to pass as `after` for the next page.
    pub next: Option<String>,
}

/// `POST /api/v1/entries/<path>`: what to do with the entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryOperation {
    /// Which operation.
    pub op: EntryVerb,
    /// The target of a move or copy, `[/@space]/path`.
    #[serde(default)]
    pub to: Option<String>,
    /// Whether a file at the target may be replaced.
    #[serde(default)]
    pub overwrite: bool,
}

/// The operations on an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryVerb {
    /// Makes the folder, with its parents.
    Mkdir,
    /// Gives the entry another name.
    Move,
    /// Makes a second entry with the same content.
    Copy,
}

/// `PATCH /api/v1/entries/<path>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryPatch {
    /// The new modification time, RFC 3339.
    #[serde(default)]
    pub mtime: Option<String>,
    /// The new executable bit.
    #[serde(default)]
    pub executable: Option<bool>,
}

/// `POST /api/v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// A name for people.
    pub name: String,
    /// What the token may do: `read`, `write`, `admin`.
    pub scope: Vec<String>,
    /// When it ends, RFC 3339; never if absent.
    #[serde(default)]
    pub expires: Option<String>,
}

/// The answer to the creation of a token: the only time that its text is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedToken {
    /// By which it is listed and deleted.
    pub id: i64,
    /// The credential.
    pub token: String,
    /// The user it acts for.
    pub user: String,
}

/// One line of the list of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// By which it is deleted.
    pub id: i64,
    /// A name for people.
    pub name: String,
    /// What the token may do.
    pub scope: Vec<String>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When it ends, RFC 3339.
    pub expires: Option<String>,
}

/// `POST /api/v1/session`: a page's way in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// The name of the account.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// Who asks: `GET /api/v1/session`, and the answer to its creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// The account; absent for nobody.
    pub user: Option<String>,
    /// What the credentials may do.
    pub scope: Vec<String>,
    /// When a session just begun ends, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// `POST /api/v1/claims`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// What the caller says it has.
    pub items: Vec<ClaimItem>,
}

/// One content that the caller says it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimItem {
    /// Where it should appear, `[/@space]/path`.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Option<ClaimDigest>,
    /// Its [quick digest](crate::claim::QuickHasher), hex, if whoever asks has not read all of it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quick: Option<String>,
    /// The source's modification time, RFC 3339.
    #[serde(default)]
    pub mtime: Option<String>,
    /// The executable bit.
    #[serde(default)]
    pub executable: bool,
    /// What must hold at the target.
    #[serde(default)]
    pub precondition: Option<Precondition>,
}

/// A digest by algorithm name and hex value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimDigest {
    /// The algorithm's name.
    pub alg: String,
    /// The value, hex.
    pub value: String,
}

/// The answer to `POST /api/v1/claims`: one result an item, in the same order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimResults {
    /// The results.
    pub results: Vec<ClaimResult>,
}

/// What came of one claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum ClaimResult {
    /// The content is under its name now; nothing need be sent.
    Linked(Completed),
    /// Nothing was created. These contents of the caller's have the digest and the size: hash with BLAKE3 and claim again.
    Candidates {
        /// What they are, at most [`CANDIDATES_MAX`](crate::claim::CANDIDATES_MAX).
        blake3: Vec<FileHash>,
    },
    /// Nothing was created. The content is linked for who proves to have every byte of it.
    Challenge {
        /// Names this challenge, once.
        token: String,
        /// The key of the [proof](crate::claim::ProofHasher).
        seed: Seed,
        /// When it ends, RFC 3339.
        expires: String,
    },
    /// Nothing was created; send the bytes.
    Upload,
    /// Nothing that the caller has is like the quick digest.
    Absent,
    /// Something that the caller has may be like the quick digest: hash the whole file and claim it.
    Maybe,
    /// The claim cannot be fulfilled.
    Refused {
        /// The name of the problem.
        problem: String,
        /// Its HTTP status.
        status: u16,
    },
}

/// `POST /api/v1/claims/proofs`. The answer is [`ClaimResults`], `linked`, `upload` or `refused`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proofs {
    /// Answers to challenges.
    pub items: Vec<ProofItem>,
}

/// The answer to one challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofItem {
    /// Which challenge.
    pub token: String,
    /// What shows that every byte is there.
    pub proof: Proof,
}

/// The header of one record of `POST /api/v1/batch`; its content stands right behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRecord {
    /// The client's number for it, by which the answer names it.
    pub id: u64,
    /// Where it should appear, `[/@space]/path`.
    pub path: String,
    /// How many bytes of content follow.
    pub size: u64,
    /// What they hash to, if the server should verify it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<FileHash>,
    /// The source's modification time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<String>,
    /// The executable bit.
    #[serde(default)]
    pub executable: bool,
    /// What must hold at the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precondition: Option<Precondition>,
}

/// One line of the answer to `POST /api/v1/batch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchResult {
    /// Which record.
    pub id: u64,
    /// The HTTP status that a request for this record alone would have had.
    pub status: u16,
    /// What is stored, or why nothing is.
    #[serde(flatten)]
    pub outcome: BatchOutcome,
}

/// What came of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BatchOutcome {
    /// The content is durable under its name.
    Stored(Completed),
    /// Nothing changed.
    Refused {
        /// The name of the problem.
        problem: String,
    },
}

/// `POST /api/v1/batch/get`: which files are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchBatch {
    /// The files, in the order in which they are answered.
    pub items: Vec<FetchItem>,
}

/// One file that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchItem {
    /// The client's number for it, by which the answer names it.
    pub id: u64,
    /// Where it is, `[/@space]/path`.
    pub path: String,
    /// Which version is wanted; whichever there is, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// The header of one record of the answer to `POST /api/v1/batch/get`; its content stands right behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRecord {
    /// Which item.
    pub id: u64,
    /// The HTTP status that a request for this file alone would have had.
    pub status: u16,
    /// What follows, or why nothing does.
    #[serde(flatten)]
    pub outcome: FetchOutcome,
}

/// What came of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FetchOutcome {
    /// `size` bytes of content follow, which hash to `blake3`.
    File(FetchedFile),
    /// Nothing follows.
    Refused {
        /// The name of the problem.
        problem: String,
    },
}

/// A file as a batch brings it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchedFile {
    /// The long form of its path.
    pub path: String,
    /// The entity tag, quoted.
    pub etag: String,
    /// How many bytes of content follow.
    pub size: u64,
    /// What they hash to.
    pub blake3: FileHash,
    /// The source's modification time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<String>,
    /// The executable bit.
    #[serde(default)]
    pub executable: bool,
}
