//! The scrub: everything that files and unfinished uploads hold is read and authenticated, object after object, and what
//! is damaged is named. Owns its progress, which is in the catalog, so that a restart goes on where it was. How fast it goes,
//! and when the next pass begins, is said by whoever runs it.
//!
//! ```text
//!   objects, by id:  read what is held of it ─> authenticate ─> compare the values of whole parts
//!   blobs, by row:   identity fits the fingerprint, values of parts merge to it, inline bytes hash to it
//!   damaged blobs:   read once more; those that are good again are damaged no longer
//! ```

use hapax_proto::digest::FileHash;
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::{Frontier, PART, PartHasher, part_count};
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use crate::catalog::{Blob, BlobId, Extent, Holder, Intent, Owner, Refusal, UploadId};
use crate::content::CHUNK;
use crate::error::StoreError;
use crate::heal::is_unreadable;
use crate::id::{ObjectId, ObjectName};
use crate::job::{Go, Pace};
use crate::sealed::{SEGMENT, SealedReader};
use crate::store::Store;

/// What it is called in the catalog.
const NAME: &str = "scrub";

/// Rows looked up at a time.
const PAGE: usize = 256;

/// How much is read before the progress is saved: what a crash costs.
const SAVED_EVERY: Length = Length::new(256 << 20);

/// How many damaged uploads are named.
const UPLOADS_MAX: usize = 100;

/// One pass through everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// When it began, in milliseconds of the steady clock.
    pub started: u64,
    /// When it ended, if it did.
    pub ended: Option<u64>,
    /// How many bytes there were to read when it began.
    pub total: u64,
    /// Objects that were read.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Objects, and contents in the catalog, that cannot be read as they should.
    pub damaged: u64,
    /// Unfinished uploads that lost bytes by that, a hundred of them.
    pub uploads: Vec<String>,
}

/// What the scrub keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The pass that was begun and has not ended.
    pub now: Option<Pass>,
    /// The pass before.
    pub last: Option<Pass>,
    /// The last object that was looked at, in hex.
    object: Option<String>,
    /// The last blob, once all objects were.
    blob: Option<i64>,
}

/// What is wrong with an object: the bytes of it that cannot be had.
type Bad = Vec<Span>;

impl Store {
    /// Returns how far the scrub has come.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if what was kept cannot be read.
    pub fn scrub_progress(&self) -> Result<Progress, StoreError> {
        let Some(saved) = self.catalog().job(NAME)? else { return Ok(Progress::default()) };
        serde_json::from_str(&saved.state).map_err(|_| StoreError::Corrupt {
            what: "the progress of the scrub".to_owned(),
            why: "it cannot be read",
        })
    }

    /// Goes on with the pass that was begun, or begins one, and tells whether it came to its end. Blocks for as long as
    /// reading everything takes. May run beside everything else, and be killed anywhere.
    ///
    /// # Errors
    /// What the catalog says. What cannot be read is damage, and no error.
    pub fn scrub(&self, go: Pace<'_>) -> Result<Go, StoreError> {
        let mut progress = self.scrub_progress().or_else(|error| match error {
            // It is only progress: what it was about is read again.
            StoreError::Corrupt { .. } => Ok(Progress::default()),
            error => Err(error),
        })?;
        if progress.now.is_none() {
            let stats = self.catalog().stats()?;
            let total = stats.stored.saturating_sub(stats.given_up).saturating_sub(stats.dead);
            let started = self.now().steady.as_millis();
            progress.now = Some(Pass { started, total, ..Pass::default() });
            self.save(&progress)?;
        }
        let mut scrub = Scrub { store: self, go, unsaved: Length::ZERO, progress };
        let ended = scrub.objects()? == Go::On && scrub.blobs()? == Go::On && scrub.damaged()? == Go::On;
        let mut progress = scrub.progress;
        if ended {
            let mut pass = progress.now.take().unwrap_or_default();
            pass.ended = Some(self.now().steady.as_millis());
            info!(
                objects = pass.objects,
                bytes = pass.bytes,
                damaged = pass.damaged,
                "everything was scrubbed"
            );
            progress = Progress { last: Some(pass), ..Progress::default() };
        }
        self.save(&progress)?;
        Ok(if ended { Go::On } else { Go::Stop })
    }

    fn save(&self, progress: &Progress) -> Result<(), StoreError> {
        let state = serde_json::to_string(progress).expect("numbers and texts can be written");
        self.commit(Intent::SaveJob { name: NAME.to_owned(), state, now: self.now().steady }).map(drop)
    }

    /// Returns a blob that is live, with what it is shown by.
    pub(crate) fn live_blob(&self, blob: BlobId) -> Result<Option<(Blob, Vec<String>)>, StoreError> {
        let found = self.catalog().blobs(Some(BlobId(blob.0 - 1)), 1)?;
        Ok(found.into_iter().find(|(found, _)| found.id == blob))
    }

    fn paths_of(&self, blob: BlobId) -> Result<Vec<String>, StoreError> {
        Ok(self.live_blob(blob)?.map(|(_, paths)| paths).unwrap_or_default())
    }
}

/// One run of the scrub.
struct Scrub<'a> {
    store: &'a Store,
    go: Pace<'a>,
    /// How much was read since the progress was saved.
    unsaved: Length,
    progress: Progress,
}

impl Scrub<'_> {
    fn pass(&mut self) -> &mut Pass {
        self.progress.now.as_mut().expect("a run has a pass")
    }

    /// Counts what was read, and saves the progress now and then.
    fn advance(&mut self, read: Length) -> Result<(), StoreError> {
        self.unsaved = self.unsaved.checked_add(read).unwrap_or(SAVED_EVERY);
        if self.unsaved >= SAVED_EVERY {
            self.unsaved = Length::ZERO;
            self.store.save(&self.progress)?;
        }
        Ok(())
    }

    // -------------------------------------------------------- objects

    fn objects(&mut self) -> Result<Go, StoreError> {
        if self.progress.blob.is_some() {
            return Ok(Go::On);
        }
        let mut after = self.progress.object.as_deref().and_then(ObjectId::parse);
        loop {
            let page = self.store.catalog().live_objects(after, PAGE)?;
            for (object, length, _) in &page {
                if self.object(*object, *length)? == Go::Stop {
                    return Ok(Go::Stop);
                }
                self.progress.object = Some(object.id.to_string());
                after = Some(object.id);
            }
            if page.len() < PAGE {
                self.progress.blob = Some(0);
                return Ok(Go::On);
            }
        }
    }

    fn object(&mut self, object: ObjectName, length: Length) -> Result<Go, StoreError> {
        let holders = self.holders(object.id)?;
        let Some((bad, read)) = self.read(object, length, &holders)? else { return Ok(Go::Stop) };
        if read.is_zero() {
            return Ok(Go::On);
        }
        if !bad.is_empty() {
            // Compaction or the sweep may have taken it away meanwhile, and a disk may have failed for a moment.
            let holders = self.holders(object.id)?;
            let Some((bad, _)) = self.read(object, length, &holders)? else { return Ok(Go::Stop) };
            // Bytes go only after nothing points to them: what points to them now misses them.
            let holders = self.holders(object.id)?;
            self.tell(object, &bad, holders)?;
        }
        // Only now: if it was stopped before, it begins with this object again.
        let pass = self.pass();
        pass.objects += 1;
        pass.bytes += read.get();
        self.advance(read)?;
        Ok(Go::On)
    }

    /// Returns what points to an object and is not about to go.
    fn holders(&self, object: ObjectId) -> Result<Vec<Holder>, StoreError> {
        let mut holders = self.store.catalog().holders(object)?;
        holders.retain(|holder| matches!(holder.owner, Owner::Blob(_) | Owner::Upload(_)));
        Ok(holders)
    }

    /// Reads what is held of an object; returns what is bad of it and how much was read, or `None` if it was stopped.
    fn read(
        &self,
        object: ObjectName,
        length: Length,
        holders: &[Holder],
    ) -> Result<Option<(Bad, Length)>, StoreError> {
        let spans = joined(holders.iter().map(|holder| held(&holder.extent)).collect());
        let Some(whole) =
            spans.first().zip(spans.last()).and_then(|(first, last)| Span::new(first.start(), last.end()))
        else {
            return Ok(Some((Bad::new(), Length::ZERO)));
        };
        let (objects, ring) = (self.store.stores.objects.as_ref(), &self.store.stores.ring);
        let reader = match SealedReader::open(objects, ring, object, length) {
            Ok(reader) => reader,
            Err(error) if is_unreadable(&error) => return Ok(Some((vec![whole], whole.length()))),
            Err(error) => return Err(error),
        };
        let (mut bytes, mut bad, mut read) = (vec![0; to_usize(length)], Bad::new(), Length::ZERO);
        for span in spans {
            let Some(more) = self.read_span(&reader, span, &mut bytes)? else { return Ok(None) };
            bad.extend(more);
            read = read.checked_add(span.length()).expect("spans lie side by side in an object");
        }
        let wrong =
            |holder: &&Holder| !overlaps(&bad, held(&holder.extent)) && !self.is_right(holder, &bytes);
        let wrong: Bad = holders.iter().filter(wrong).map(|holder| held(&holder.extent)).collect();
        bad.extend(wrong);
        Ok(Some((bad, read)))
    }

    /// Reads a span of an object, and where it fails finds out which segments are bad; `None` if it was stopped.
    fn read_span(
        &self,
        reader: &SealedReader,
        span: Span,
        bytes: &mut [u8],
    ) -> Result<Option<Bad>, StoreError> {
        let mut bad = Bad::new();
        for chunk in pieces(span, CHUNK) {
            if (self.go)(chunk.length()) == Go::Stop {
                return Ok(None);
            }
            let mut read = |piece: Span| match reader.read(piece.start(), &mut bytes[within(piece)]) {
                Ok(()) => Ok(true),
                Err(error) if is_unreadable(&error) => Ok(false),
                Err(error) => Err(error),
            };
            if read(chunk)? {
                continue;
            }
            for segment in pieces(chunk, Length::new(SEGMENT as u64)) {
                if !read(segment)? {
                    bad.push(segment);
                }
            }
        }
        Ok(Some(bad))
    }

    /// Tells whether the bytes of an extent that holds a whole part are what the part's value says, and for a blob of one
    /// part what its identity says.
    fn is_right(&self, holder: &Holder, bytes: &[u8]) -> bool {
        let extent = &holder.extent;
        let Some((part, value)) = self.store.value_of(extent) else { return true };
        let blob = match &holder.owner {
            Owner::Blob(blob) => Some(blob),
            _ => None,
        };
        let is_whole = match blob {
            Some(blob) => part.span(blob.size) == Some(extent.span),
            None => extent.span.length() == PART,
        };
        if !is_whole {
            return true;
        }
        let mut hasher = PartHasher::new(part);
        if hasher.update(&bytes[within(held(extent))]).is_err() || hasher.value() != Some(value) {
            return false;
        }
        let identity = blob.filter(|blob| blob.size <= PART).and_then(|blob| self.store.identity(blob).ok());
        identity.is_none_or(|identity| hasher.root() == Some(identity.blake3))
    }

    /// Notes which contents are damaged by what is bad of an object, and heals those that have another copy.
    fn tell(&mut self, object: ObjectName, bad: &[Span], holders: Vec<Holder>) -> Result<(), StoreError> {
        let mut is_damaged = false;
        for holder in holders {
            if !overlaps(bad, held(&holder.extent)) {
                continue;
            }
            match holder.owner {
                Owner::Blob(blob) => is_damaged |= self.blame(&blob, &format!("object {object}"))?,
                Owner::Upload(id) => is_damaged |= self.blame_upload(id, object)?,
                Owner::Spare(_) | Owner::Orphan(_) => {}
            }
        }
        self.pass().damaged += u64::from(is_damaged);
        Ok(())
    }

    /// Notes that a blob is damaged, if its content is still what was read.
    fn blame(&self, blob: &Blob, what: &str) -> Result<bool, StoreError> {
        let damaged = Some(self.store.now().steady);
        match self.store.commit(Intent::JudgeBlob { blob: blob.id, content: blob.content, damaged }) {
            Ok(_) => {}
            Err(StoreError::Refused(Refusal::Superseded | Refusal::NotFound)) => return Ok(false),
            Err(error) => return Err(error),
        }
        let paths = self.store.paths_of(blob.id)?.join(", ");
        error!(blob = %blob.id, %what, %paths, "a content is damaged: put one of the files again");
        self.store.settle_spares(|of, _| of.id == blob.id, self.go)?;
        Ok(true)
    }

    fn blame_upload(&mut self, id: UploadId, object: ObjectName) -> Result<bool, StoreError> {
        let Some(upload) = self.store.catalog().upload(id)? else { return Ok(false) };
        let space = self.store.catalog().space_by_id(upload.space)?.map(|space| space.name);
        let name = format!("upload {id} to /@{}{}", space.unwrap_or_default(), upload.path);
        error!(%object, upload = %name, "an unfinished upload is damaged: begin it again");
        let uploads = &mut self.pass().uploads;
        if uploads.len() < UPLOADS_MAX && !uploads.contains(&name) {
            uploads.push(name);
        }
        Ok(true)
    }

    // -------------------------------------------------------- blobs

    fn blobs(&mut self) -> Result<Go, StoreError> {
        loop {
            let after = self.progress.blob.map(BlobId);
            let page = self.store.catalog().blobs(after, PAGE)?;
            if (self.go)(Length::ZERO) == Go::Stop {
                return Ok(Go::Stop);
            }
            for (blob, _) in &page {
                if let Some(why) = self.wrong(blob)?
                    && self.blame(blob, why)?
                {
                    self.pass().damaged += 1;
                }
                self.progress.blob = Some(blob.id.0);
            }
            if page.len() < PAGE {
                return Ok(Go::On);
            }
            self.store.save(&self.progress)?;
        }
    }

    /// Says what is wrong with a blob apart from its objects.
    fn wrong(&self, blob: &Blob) -> Result<Option<&'static str>, StoreError> {
        let identity = match self.store.identity(blob) {
            Ok(identity) => identity,
            Err(StoreError::Pending) => return Ok(None),
            Err(StoreError::Corrupt { .. }) => return Ok(Some("its identity")),
            Err(error) => return Err(error),
        };
        if self.store.fingerprint(&identity) != blob.fingerprint {
            return Ok(Some("its identity"));
        }
        if blob.size > PART {
            let values = self.store.part_values(blob.content)?;
            // A file that was composed before its values were kept has them missing.
            let is_all = values.len() as u64 == part_count(blob.size);
            let mut frontier = Frontier::new();
            for (_, value) in values {
                frontier.push(value);
            }
            return Ok(
                (is_all && frontier.root() != Some(identity.blake3)).then_some("the values of its parts")
            );
        }
        if self.store.catalog().inline(blob.content)?.is_none() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read =
            self.store.read_blob(blob).and_then(|mut reader| reader.read(Span::whole(blob.size), &mut bytes));
        match read {
            Ok(()) if FileHash::of(&bytes) == identity.blake3 => Ok(None),
            Ok(()) => Ok(Some("its bytes")),
            // It may have been replaced by other bytes in the middle.
            Err(_) => Ok((!self.store.is_good(blob, blob.content)?).then_some("its bytes")),
        }
    }

    /// Reads the damaged blobs once more: a disk may have come back.
    fn damaged(&mut self) -> Result<Go, StoreError> {
        let mut after = None;
        loop {
            let page = self.store.catalog().damaged(after, PAGE)?;
            for (blob, _) in &page {
                let Some(is_good) = self.store.prove(blob, blob.content, self.go)? else {
                    return Ok(Go::Stop);
                };
                self.store.judge(blob, is_good)?;
                after = Some(blob.id);
            }
            if page.len() < PAGE {
                return Ok(Go::On);
            }
        }
    }
}

/// Returns the bytes of its object that an extent holds.
fn held(extent: &Extent) -> Span {
    Span::at(extent.object_start, extent.span.length()).expect("an extent lies in its object")
}

fn overlaps(bad: &[Span], span: Span) -> bool {
    bad.iter().any(|bad| bad.intersection(span).is_some())
}

/// Joins spans that overlap or adjoin.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| span.start());
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.start() <= last.end() => {
                *last = Span::new(last.start(), last.end().max(span.end())).expect("it only grows");
            }
            _ => joined.push(span),
        }
    }
    joined
}

/// Cuts a span at multiples of a length.
fn pieces(span: Span, length: Length) -> impl Iterator<Item = Span> {
    let mut next = span.start();
    std::iter::from_fn(move || {
        let border = (next.get() / length.get() + 1) * length.get();
        let piece = Span::new(next, span.end().min(Offset::new(border))).filter(|piece| !piece.is_empty())?;
        next = piece.end();
        Some(piece)
    })
}

/// Where the bytes of a span of an object lie in memory.
fn within(span: Span) -> std::ops::Range<usize> {
    to_usize(span.start().since(Offset::ZERO).unwrap_or_default())
        ..to_usize(span.end().since(Offset::ZERO).unwrap_or_default())
}

fn to_usize(length: Length) -> usize {
    usize::try_from(length.get()).expect("an object fits into memory")
}
