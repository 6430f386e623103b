//! The tables: maps of values, and nothing derived. Owns their shape and the numbers of new rows.

use std::collections::{BTreeMap, BTreeSet};

use hapax_proto::digest::Algorithm;
use hapax_proto::name::EntryName;
use hapax_proto::span::{Length, Offset, Span};

use crate::catalog::{
    BlobId, BootId, ContentId, EntryId, Extent, Lane, LaneId, Meta, Saved, SpaceId, Token, TokenId, Upload,
    UploadId, User, UserId,
};
use crate::clock::Timestamp;
use crate::id::{DirId, ObjectId};
use crate::key::{Fingerprint, Lookup};

/// All rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    pub(super) clock: Timestamp,
    pub(super) boots: BTreeSet<BootId>,
    pub(super) dirs: BTreeMap<DirId, Dir>,
    pub(super) objects: BTreeMap<ObjectId, Object>,
    pub(super) contents: BTreeMap<ContentId, Content>,
    pub(super) users: BTreeMap<UserId, User>,
    pub(super) tokens: BTreeMap<[u8; 32], Token>,
    pub(super) spaces: BTreeMap<SpaceId, SpaceRow>,
    pub(super) entries: BTreeMap<EntryId, EntryRow>,
    pub(super) blobs: BTreeMap<BlobId, BlobRow>,
    /// Digests of blobs: sealed, and what they are found by.
    pub(super) digests: BTreeMap<(BlobId, Algorithm), (Vec<u8>, Lookup)>,
    /// Which blob a spare content belongs to.
    pub(super) spares: BTreeMap<ContentId, BlobId>,
    pub(super) uploads: BTreeMap<UploadId, UploadRow>,
    pub(super) lanes: BTreeMap<(UploadId, LaneId), Lane>,
    /// What jobs keep.
    pub(super) jobs: BTreeMap<String, Saved>,
    numbers: Numbers,
}

/// The last number given to a row of each table.
#[derive(Debug, Clone, Default)]
struct Numbers {
    dir: u32,
    content: i64,
    user: i64,
    token: i64,
    space: i64,
    entry: i64,
    blob: i64,
}

/// A directory of objects.
#[derive(Debug, Clone)]
pub(super) struct Dir {
    pub(super) boot: BootId,
    pub(super) open: bool,
}

/// An object.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) dir: DirId,
    pub(super) length: Length,
    pub(super) state: ObjectState,
}

/// Where an object is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectState {
    /// An extent points to it.
    Live,
    /// No extent does, since then.
    Dropped(Timestamp),
    /// Its file is to be deleted.
    Doomed,
}

/// Bytes: in extents by their start, or inline.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) extents: BTreeMap<Offset, Extent>,
    pub(super) inline: Option<Vec<u8>>,
    /// INVARIANT: that of an open upload is kept with the upload, and put here when a blob gets the content.
    pub(super) version: u64,
}

/// A space without its sums.
#[derive(Debug, Clone)]
pub(super) struct SpaceRow {
    pub(super) name: String,
    pub(super) owner: UserId,
    pub(super) quota: Option<Length>,
}

/// An entry with its own time.
#[derive(Debug, Clone)]
pub(super) struct EntryRow {
    pub(super) space: SpaceId,
    /// The folder and the name in it; the root of a space has neither.
    pub(super) place: Option<(EntryId, EntryName)>,
    pub(super) version: u64,
    pub(super) time: Timestamp,
    pub(super) weak: bool,
    /// When a name in it was lost last.
    pub(super) lost: Option<Timestamp>,
    /// What it shows; a folder shows nothing.
    pub(super) file: Option<FileRow>,
}

/// What a file shows.
#[derive(Debug, Clone)]
pub(super) struct FileRow {
    pub(super) blob: BlobId,
    pub(super) meta: Meta,
    /// What the entity tag is made of.
    pub(super) entity: Fingerprint,
}

/// A blob.
#[derive(Debug, Clone)]
pub(super) struct BlobRow {
    pub(super) fingerprint: Fingerprint,
    pub(super) identity: Option<Vec<u8>>,
    pub(super) size: Length,
    pub(super) content: ContentId,
    /// Since when no entry points to it.
    pub(super) orphan: Option<Timestamp>,
    /// Since when its content is known to be damaged.
    pub(super) damaged: Option<Timestamp>,
}

/// An upload, and when it ended.
#[derive(Debug, Clone)]
pub(super) struct UploadRow {
    /// INVARIANT: `covered` and `prefix` are not kept here; a reader gets them from the extents.
    pub(super) upload: Upload,
    /// What it is composed of while it is open.
    pub(super) members: Vec<UploadId>,
    pub(super) ended: Option<Timestamp>,
}

impl Content {
    /// Returns how many bytes lie in extents.
    pub(super) fn covered(&self) -> Length {
        sum(self.extents.values().map(|extent| extent.span.length()))
    }

    /// Returns where the first byte is missing.
    pub(super) fn prefix(&self) -> Offset {
        self.extents.values().fold(Offset::ZERO, |end, extent| {
            if extent.span.start() == end { extent.span.end() } else { end }
        })
    }

    /// Tells whether the extents hold every byte of a file of this size, and no more.
    pub(super) fn is_whole(&self, size: Length) -> bool {
        let mut end = Offset::ZERO;
        for extent in self.extents.values() {
            if extent.span.start() != end {
                return false;
            }
            end = extent.span.end();
        }
        end == size.end()
    }
}

/// Adds lengths.
pub(super) fn sum(lengths: impl IntoIterator<Item = Length>) -> Length {
    lengths
        .into_iter()
        .try_fold(Length::ZERO, Length::checked_add)
        .expect("every length is checked against SIZE_MAX, and there are fewer than 2^14 rows")
}

/// Tells whether two spans have a byte in common.
pub(super) fn overlap(one: Span, other: Span) -> bool {
    one.intersection(other).is_some()
}

macro_rules! numbered {
    ($($next:ident $table:ident $id:path)*) => {
        impl Tables {$(
            /// Numbers a new row. A refused change takes its numbers back with all else.
            pub(super) fn $next(&mut self) -> $id {
                self.numbers.$table += 1;
                $id(self.numbers.$table)
            }
        )*}
    };
}

numbered! {
    next_content content ContentId
    next_user user UserId
    next_token token TokenId
    next_space space SpaceId
    next_entry entry EntryId
    next_blob blob BlobId
}

impl Tables {
    /// Numbers a new directory.
    pub(super) fn next_dir(&mut self) -> DirId {
        self.numbers.dir += 1;
        DirId::new(self.numbers.dir)
    }

    /// Adds a content without a byte.
    pub(super) fn add_content(&mut self, content: Content) -> ContentId {
        let id = self.next_content();
        self.contents.insert(id, content);
        id
    }
}
