//! Composing: a file made of other uploads. Owns the way from their extents to those of the whole; not a byte is read or
//! written for it. What the whole *is* nobody knows then, for its pieces were hashed at other places:
//! [`identify`](crate::identify) finds out later.
//!
//! ```text
//!   members        [ a ──────────── )[ b ── )[ c ───────── )
//!   the whole      [ a ───────|──── )[ b ── )[ c ─|─────── )
//!                             border of parts    border of parts: extents are cut there, objects are not
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use hapax_proto::digest::{Algorithm, FileHash, Identity};
use hapax_proto::span::{Length, Offset, SIZE_MAX, Span};
use hapax_proto::tree::PartNumber;

use crate::catalog::{
    Catalog, ContentId, EntryKind, Expect, Extent, Intent, LaneId, Outcome, Publish, Refusal, Source,
    Store as StoreIntent, Upload, UploadId,
};
use crate::error::StoreError;
use crate::id::random_bytes;
use crate::job::{Pace, UNPACED};
use crate::key::Fingerprint;
use crate::store::Store;
use crate::upload::{Verified, check_declared, span_of};

/// Extents of a member read at a time.
const PAGE: usize = 4_096;

/// Extents placed in one transaction: a few milliseconds of the committer's time.
const SLICE: usize = 256;

/// Whether an upload can be composed by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Members {
    /// All of them have all their bytes.
    Complete {
        /// How long the whole is.
        size: Length,
    },
    /// One of them has not.
    Unfinished,
}

/// A composed file that was made visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Composed {
    /// The version of its entry.
    pub version: u64,
    /// Whether a file of that name was replaced.
    pub replaced: bool,
}

impl Store {
    /// Tells whether all members of an upload have all their bytes.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if one of them ended: then this upload never can be composed. [`StoreError::TooLong`] if together
    /// they are longer than a file can be.
    pub fn look_at_members(&self, upload: &Upload) -> Result<Members, StoreError> {
        let mut size = Length::ZERO;
        let mut known = BTreeMap::new();
        for id in self.catalog().members(upload.id)? {
            // The same one may stand a thousand times.
            let length = match known.entry(id) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(unknown) => {
                    let member = self.open_member(id)?;
                    let Some(length) = member.size.filter(|size| *size == member.covered) else {
                        return Ok(Members::Unfinished);
                    };
                    *unknown.insert(length)
                }
            };
            let room = Length::new(SIZE_MAX).checked_sub(size).unwrap_or_default();
            size = size
                .checked_add(length)
                .filter(|size| size.get() <= SIZE_MAX)
                .ok_or(StoreError::TooLong { bytes: length, room })?;
        }
        Ok(Members::Complete { size })
    }

    /// Places the bytes of its members in an upload, and returns it as it is then. The caller holds its append lane.
    /// Repeating it begins anew.
    ///
    /// # Errors
    /// As [`Store::look_at_members`].
    pub fn compose(&self, upload: &Upload) -> Result<Upload, StoreError> {
        let lane = self.catalog().lane(upload.id, LaneId::Append)?;
        let mut slices =
            Slices { store: self, upload, epoch: lane.map_or(0, |lane| lane.epoch), put: Vec::new() };
        slices.commit(Span::whole(Length::new(SIZE_MAX)))?;
        let mut base = Offset::ZERO;
        for id in self.catalog().members(upload.id)? {
            let member = self.open_member(id)?;
            let mut placed = Ok(());
            by_pages(self.catalog(), member.content, |extent| {
                if placed.is_ok() {
                    placed = slices.place(extent, base, member.size.unwrap_or_default());
                }
            })?;
            placed?;
            base = base.checked_add(member.size.unwrap_or_default()).ok_or(Refusal::Incomplete)?;
        }
        slices.commit(Span::default())?;
        self.upload(upload.id)
    }

    /// Refuses a composed upload that passes the quota of its space for certain: before anything is read or placed for it.
    ///
    /// # Errors
    /// [`Refusal::Quota`].
    pub fn refuse_past_quota(&self, upload: &Upload, size: Length) -> Result<(), StoreError> {
        let space = self.catalog().space_by_id(upload.space)?.ok_or(Refusal::NotFound)?;
        let Some(limit) = space.quota else { return Ok(()) };
        let replaced = match self.entry_at(upload)? {
            Some(EntryKind::File { blob, .. }) => blob.size,
            Some(EntryKind::Folder) | None => Length::ZERO,
        };
        let stays = space.used.checked_sub(replaced).unwrap_or_default();
        let was = space.used.checked_add(space.reserved).unwrap_or(space.used);
        match stays.checked_add(size) {
            Some(filled) if filled <= limit.max(was) => Ok(()),
            _ => Err(Refusal::Quota { limit, used: was }.into()),
        }
    }

    fn entry_at(&self, upload: &Upload) -> Result<Option<EntryKind>, StoreError> {
        Ok(self.catalog().entry(upload.space, &upload.path)?.map(|entry| entry.kind))
    }

    /// Makes a composed upload visible as a file: no byte is copied.
    ///
    /// Its identity stays pending, unless a digest was declared at creation: then all bytes are read for it first.
    ///
    /// # Errors
    /// As [`Store::verify_composed`]. The refusals of a publication.
    pub fn finish_composed(
        self: &Arc<Self>,
        upload: &Upload,
        size: Length,
        expect: Expect,
    ) -> Result<Composed, StoreError> {
        let verified = self.verify_composed(upload, size, UNPACED)?;
        self.finish_composed_as(upload, size, expect, verified.as_ref())
    }

    /// Compares what was composed with what was declared at creation, for which all bytes are read: blocks for as long as
    /// that takes. `None` if nothing was.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] if the content is not what was declared. [`StoreError::Stopped`].
    pub fn verify_composed(
        &self,
        upload: &Upload,
        size: Length,
        go: Pace<'_>,
    ) -> Result<Option<Verified>, StoreError> {
        let declared = self.declared(upload)?;
        if declared.is_empty() && !size.is_zero() {
            return Ok(None);
        }
        let algorithms = declared.algorithms().chain([Algorithm::Blake3]);
        let ours = self.read_upload(upload).digests_at(Span::whole(size), algorithms, go)?;
        let ours = ours.ok_or(StoreError::Stopped)?;
        check_declared(&declared, &ours)?;
        let blake3 = ours.get(Algorithm::Blake3).and_then(|digest| digest.value().try_into().ok());
        let blake3 = blake3.map(FileHash::new).expect("it was asked for");
        let others = ours.iter().filter(|digest| digest.algorithm() != Algorithm::Blake3).collect();
        Ok(Some(Verified { identity: Identity { blake3, size }, others }))
    }

    /// Makes a composed upload visible as what it was found to be, or as a file that somebody is to identify later.
    ///
    /// # Errors
    /// The refusals of a publication.
    pub fn finish_composed_as(
        self: &Arc<Self>,
        upload: &Upload,
        size: Length,
        expect: Expect,
        verified: Option<&Verified>,
    ) -> Result<Composed, StoreError> {
        if let Some(verified) = verified {
            let published = self.finish_verified(upload, expect, verified)?;
            return Ok(Composed { version: published.version, replaced: published.replaced });
        }
        let source = Source::Upload {
            id: upload.id,
            generation: upload.generation,
            content_version: upload.content_version,
        };
        let intent = Intent::Publish(Box::new(Publish {
            space: upload.space,
            path: upload.path.clone(),
            expect,
            source,
            fingerprint: Fingerprint(random_bytes()?),
            identity: None,
            size,
            meta: upload.meta.clone(),
            now: self.now(),
        }));
        match self.commit(intent)? {
            Outcome::Published { version, replaced, .. } => {
                self.composed.notify_one();
                Ok(Composed { version, replaced })
            }
            other => unreachable!("a publication came to {other:?}"),
        }
    }

    /// Returns the open uploads that are composed of this one.
    pub fn composed_of(&self, member: UploadId) -> Result<Vec<UploadId>, StoreError> {
        self.catalog().composed_of(member)
    }

    fn open_member(&self, id: UploadId) -> Result<Upload, StoreError> {
        let member = self.upload(id)?;
        if member.state == hapax_proto::upload::State::Open {
            Ok(member)
        } else {
            Err(Refusal::NotFound.into())
        }
    }
}

/// Extents on their way into a composed upload, a slice to a transaction.
struct Slices<'a> {
    store: &'a Store,
    upload: &'a Upload,
    /// The last epoch committed under.
    epoch: u64,
    put: Vec<Extent>,
}

impl Slices<'_> {
    /// Places an extent of a member that begins at `base` and is `size` long.
    fn place(&mut self, extent: &Extent, base: Offset, size: Length) -> Result<(), StoreError> {
        for piece in pieces(extent, base, size).ok_or(Refusal::Incomplete)? {
            self.put.push(piece);
            if self.put.len() == SLICE {
                self.commit(Span::default())?;
            }
        }
        Ok(())
    }

    fn commit(&mut self, clear: Span) -> Result<(), StoreError> {
        self.epoch += 1;
        let now = self.store.now().steady;
        let intent = Intent::Store(Box::new(StoreIntent {
            upload: self.upload.id,
            generation: self.upload.generation,
            lane: LaneId::Append,
            epoch: self.epoch,
            clear,
            put: std::mem::take(&mut self.put),
            open: None,
            first_root: None,
            now,
            expires: now,
        }));
        self.store.commit(intent).map(drop)
    }
}

/// Goes through all extents of a content in order, a page at a time: no read is open while `each` commits.
fn by_pages(
    catalog: &dyn Catalog,
    content: ContentId,
    mut each: impl FnMut(&Extent),
) -> Result<(), StoreError> {
    let mut rest = Span::whole(Length::new(SIZE_MAX));
    loop {
        let page = catalog.extents(content, rest, PAGE)?;
        page.iter().for_each(&mut each);
        match page.last() {
            Some(last) if page.len() == PAGE => {
                rest = Span::new(last.span.end(), rest.end()).expect("extents lie below the largest size");
            }
            _ => return Ok(()),
        }
    }
}

/// Moves an extent of a member to its place in the whole, cut where a part of the whole begins. The value of a part stays
/// true only where it was computed: in the first member, unless that part ends with it.
fn pieces(extent: &Extent, base: Offset, size: Length) -> Option<Vec<Extent>> {
    let start = base.checked_add(extent.span.start().since(Offset::ZERO)?)?;
    let mut rest = Span::at(start, extent.span.length())?;
    let part = PartNumber::holding(extent.span.start())?;
    let is_whole = base == Offset::ZERO && span_of(part).end() <= size.end();
    let mut value = extent.value.filter(|_| is_whole);
    let mut object_start = extent.object_start;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let border = span_of(PartNumber::holding(rest.start())?).end();
        let span = Span::new(rest.start(), rest.end().min(border))?;
        pieces.push(Extent { span, object_start, value: value.take(), ..extent.clone() });
        object_start = object_start.checked_add(span.length())?;
        rest = Span::new(span.end(), rest.end())?;
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use hapax_proto::tree::PART;

    use super::*;
    use crate::catalog::MaskedValue;
    use crate::id::{DirId, ObjectId, ObjectName};

    const VALUE: MaskedValue = MaskedValue { masked: [7; 32], salt: None };

    /// An extent of `length` bytes at `start`, deep in a large object.
    fn extent(start: u64, length: u64, value: Option<MaskedValue>) -> Extent {
        Extent {
            span: Span::at(Offset::new(start), Length::new(length)).unwrap(),
            object: ObjectName { dir: DirId::new(1), id: ObjectId::from_bytes([1; 16]) },
            object_length: Length::new(1 << 40),
            object_start: Offset::new(1_000),
            value,
        }
    }

    #[test]
    fn extents_move_and_are_cut_at_the_borders_of_parts() {
        const P: u64 = PART.get();
        #[track_caller]
        fn check(start: u64, length: u64, base: u64, expected: &[(u64, u64, u64)]) {
            let pieces =
                pieces(&extent(start, length, None), Offset::new(base), Length::new(SIZE_MAX)).unwrap();
            let told: Vec<_> = pieces
                .iter()
                .map(|piece| (piece.span.start().get(), piece.span.length().get(), piece.object_start.get()))
                .collect();
            assert_eq!(told, expected);
        }
        check(0, 5, 0, &[(0, 5, 1_000)]);
        check(5, 5, 7, &[(12, 5, 1_000)]);
        check(0, P, 0, &[(0, P, 1_000)]);
        check(0, P, P, &[(P, P, 1_000)]);
        check(0, P, 1, &[(1, P - 1, 1_000), (P, 1, 1_000 + P - 1)]);
        check(P, P, P - 1, &[(2 * P - 1, 1, 1_000), (2 * P, P - 1, 1_001)]);
    }

    #[test]
    fn a_value_stays_where_its_part_is_the_same_part_of_the_whole() {
        const P: u64 = PART.get();
        #[track_caller]
        fn check(start: u64, length: u64, base: u64, size: u64, stays: bool) {
            let moved =
                pieces(&extent(start, length, Some(VALUE)), Offset::new(base), Length::new(size)).unwrap();
            let values: Vec<_> = moved.iter().filter_map(|piece| piece.value).collect();
            assert_eq!(values, if stays { vec![VALUE] } else { vec![] });
        }
        check(0, P, 0, P, true);
        check(P, P, 0, 3 * P, true);
        check(0, 9, 0, P, true);
        check(0, 9, 0, 9, false);
        check(P, 9, 0, P + 9, false);
        check(0, P, P, P, false);
        check(0, P, 1, P, false);
    }
}
