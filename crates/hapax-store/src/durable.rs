//! Reading what an unfinished upload holds, at one moment: bytes in objects, and the tails that the catalog keeps. What
//! is read does not change while it is being read, whoever writes meanwhile. It never writes.
//!
//! ```text
//!   part 0            part 1                    part 2 (nothing)   part 3
//!   [── an extent ──) [── fragment ──)[ tail )                     [── an extent ──)   an island
//!   └───────────── the prefix ───────────────┘
//! ```

use hapax_proto::digest::Hasher;
use hapax_proto::span::{Length, Offset, Span};

use crate::catalog::{LaneId, OpenPart, Refusal, Upload, UploadId};
use crate::content::ContentReader;
use crate::error::StoreError;
use crate::job::UNPACED;
use crate::store::Store;
use crate::upload::open_tail;

/// How often an upload is looked at again because it changed meanwhile. A look takes a fraction of what a change does.
const LOOKS_MAX: u32 = 64;

/// What an upload holds of a span.
pub enum Durable {
    /// All of it.
    Held(Box<DurableReader>),
    /// Not all of it: these spans are missing, ascending.
    Missing(Vec<Span>),
}

/// Reads a span of an unfinished upload as it was when the reader was made.
pub struct DurableReader {
    span: Span,
    extents: ContentReader,
    /// What lies in no object, ascending.
    tails: Vec<(Span, Vec<u8>)>,
}

impl Store {
    /// Looks at an upload in several steps until nothing changed between the first and the last, so that all that was
    /// seen is of one moment. Returns the upload of that moment as well.
    ///
    /// # Errors
    /// What `look` returns; [`Refusal::Superseded`] if the upload does not stand still.
    pub fn at_one_moment<T>(
        &self,
        id: UploadId,
        look: impl Fn(&Upload) -> Result<T, StoreError>,
    ) -> Result<(Upload, T), StoreError> {
        let mut upload = self.upload(id)?;
        for _ in 0..LOOKS_MAX {
            let seen = look(&upload);
            let now = self.upload(id)?;
            if is_same(&upload, &now) {
                return Ok((upload, seen?));
            }
            upload = now;
        }
        Err(Refusal::Superseded.into())
    }

    /// Returns an upload and the end of its durable contiguous prefix, which is what it announces, both of one moment.
    /// Costs the same however much is there.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], and as [`at_one_moment`](Self::at_one_moment).
    pub fn standing(&self, id: UploadId) -> Result<(Upload, Offset), StoreError> {
        self.at_one_moment(id, |upload| self.durable_offset(upload))
    }

    /// Tells whether an upload holds other bytes than it did, or ended.
    pub fn has_changed(&self, upload: &Upload) -> Result<bool, StoreError> {
        Ok(!is_same(upload, &self.upload(upload.id)?))
    }

    /// Finds what an open upload holds of a span. The list of what is to be read is in memory, so the span should be
    /// bounded.
    pub fn read_durable(&self, upload: &Upload, span: Span) -> Result<Durable, StoreError> {
        let mut extents = Vec::new();
        let held = self.catalog().holdings(upload.id, span, &mut |extent| extents.push(extent))?;
        let (now, lanes) = held.ok_or(Refusal::NotFound)?;
        let mut tails = Vec::new();
        for lane in lanes {
            tails.extend(
                lane.open.map(|open| self.tail_within(now.id, lane.id, &open, span)).transpose()?.flatten(),
            );
        }
        tails.sort_by_key(|(tail, _)| tail.start());
        let held = extents.iter().map(|extent| extent.span).chain(tails.iter().map(|(tail, _)| *tail));
        let missing = missing(held.collect(), span);
        if !missing.is_empty() {
            return Ok(Durable::Missing(missing));
        }
        let size = span.end().since(Offset::ZERO).unwrap_or_default();
        let extents = ContentReader::of_extents(&self.stores, now.content, size, extents);
        Ok(Durable::Held(Box::new(DurableReader { span, extents, tails })))
    }

    /// Opens the tail of an open part, if any of it lies in a span.
    fn tail_within(
        &self,
        upload: UploadId,
        lane: LaneId,
        open: &OpenPart,
        span: Span,
    ) -> Result<Option<(Span, Vec<u8>)>, StoreError> {
        let start = open.have.checked_sub(open.tail).and_then(|kept| open.part.start().checked_add(kept));
        let tail = start.and_then(|start| Span::at(start, open.tail));
        let Some(tail) = tail.filter(|tail| tail.intersection(span).is_some()) else { return Ok(None) };
        let (_, bytes) = open_tail(self, upload, lane, open)?;
        if Length::of(&bytes) != tail.length() {
            let what = format!("upload {upload}");
            return Err(StoreError::Corrupt { what, why: "a tail has another length than its row says" });
        }
        Ok(Some((tail, bytes)))
    }
}

/// Tells whether two looks saw the same bytes: every change raises one of these numbers.
fn is_same(before: &Upload, after: &Upload) -> bool {
    let state = |upload: &Upload| (upload.state, upload.generation, upload.content_version, upload.size);
    state(before) == state(after)
}

/// Returns the spans of `span` that lie in none of `held`.
pub fn missing(mut held: Vec<Span>, span: Span) -> Vec<Span> {
    held.sort_by_key(|held| held.start());
    let mut missing = Vec::new();
    let mut from = span.start();
    for held in held {
        missing.extend(Span::new(from, held.start().min(span.end())).filter(|gap| !gap.is_empty()));
        from = from.max(held.end());
    }
    missing.extend(Span::new(from, span.end()).filter(|gap| !gap.is_empty()));
    missing
}

impl DurableReader {
    /// Returns what it reads.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Hashes some of it. Blocks for as long as that takes.
    ///
    /// # Errors
    /// As [`ContentReader::read`]; [`StoreError::MissingObject`] also if the upload ended since.
    pub fn hash(&mut self, span: Span, hasher: &mut Hasher) -> Result<(), StoreError> {
        let mut rest = span;
        while !rest.is_empty() {
            let next = self.tails.iter().find(|(tail, _)| tail.end() > rest.start());
            let end = match next {
                Some((tail, bytes)) if tail.start() <= rest.start() => {
                    let piece = tail.intersection(rest).expect("it begins in the tail");
                    hasher.update(within(*tail, bytes, piece));
                    piece.end()
                }
                next => {
                    let end = next.map_or(rest.end(), |(tail, _)| rest.end().min(tail.start()));
                    let piece = Span::new(rest.start(), end).expect("the tail begins behind it");
                    self.extents.each_chunk(piece, UNPACED, |bytes| hasher.update(bytes))?;
                    end
                }
            };
            rest = Span::new(end, rest.end()).expect("what was read lies within the rest");
        }
        Ok(())
    }
}

/// Returns the bytes of a piece of a tail.
fn within(tail: Span, bytes: &[u8], piece: Span) -> &[u8] {
    let skipped = piece.start().since(tail.start()).expect("the piece lies in the tail");
    let at = |length: Length| usize::try_from(length.get()).expect("a tail lies in memory");
    &bytes[at(skipped)..at(skipped) + at(piece.length())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_of_a_span() {
        #[track_caller]
        fn check(held: &[(u64, u64)], span: (u64, u64), expected: &[(u64, u64)]) {
            let spans = |pairs: &[(u64, u64)]| -> Vec<Span> {
                pairs
                    .iter()
                    .map(|&(start, end)| Span::new(Offset::new(start), Offset::new(end)).unwrap())
                    .collect()
            };
            assert_eq!(missing(spans(held), spans(&[span])[0]), spans(expected));
        }
        check(&[], (0, 0), &[]);
        check(&[], (3, 9), &[(3, 9)]);
        check(&[(0, 9)], (3, 9), &[]);
        check(&[(5, 9), (0, 5)], (3, 8), &[]);
        check(&[(0, 4), (6, 7)], (3, 9), &[(4, 6), (7, 9)]);
        check(&[(0, 4), (8, 20)], (3, 9), &[(4, 8)]);
        check(&[(9, 20)], (3, 9), &[(3, 9)]);
    }
}
