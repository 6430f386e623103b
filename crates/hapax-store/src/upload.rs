//! The verbs of uploads: create, store, resize, finish, end. Owns the way from a run of bytes to rows; what may be
//! stored is decided by `hapax_proto::upload` before a verb is called, and checked again inside the transaction.
//!
//! Every verb is atomic and, once it returned `Ok`, durable. Repeating one is safe: `create` by its key, `store` by the
//! part's value, `finish` by the stored completion.

/// What is held of a part, read back.
mod held;
/// Comparing an upload with what was declared, and making it a file.
mod finish;

use std::sync::Arc;

use hapax_proto::digest::{Algorithm, Digest, Digests, FileHash, Identity};
use hapax_proto::name::EntryPath;
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::{Frontier, OpenState, PART, PartHasher, PartNumber, PartValue, part_count};
use hapax_proto::upload::{Held, State};

use crate::catalog::{
    Blob, Completion, Expect, Extent, Intent, LaneId, Meta, NewUpload, OpenPart, Outcome, Refusal, Source,
    SpaceId, Store as StoreIntent, Upload, UploadId, UserId,
};
use crate::committer::{Pending, Placed};
use crate::content::ContentReader;
use crate::error::StoreError;
use crate::intake::{CutRun, PartWriter, decode_open, encode_open};
use crate::publish::{Published, Target};
use crate::seal::{Purpose, Row};
use crate::store::{Store, mask};

pub use finish::Verified;

/// Fragments of one part after which the next run first makes them one.
const FRAGMENTS_MAX: usize = 32;

/// An upload as its creator describes it.
#[derive(Debug, Clone)]
pub struct CreateUpload {
    /// Who creates it.
    pub user: UserId,
    /// The client's key, by which a repeated creation finds the first one.
    pub key: Option<String>,
    /// The space of the target.
    pub space: SpaceId,
    /// The target.
    pub path: EntryPath,
    /// The size, if known.
    pub size: Option<Length>,
    /// What the client says about the file.
    pub meta: Meta,
    /// What must hold at the target at the end, in the caller's own encoding.
    pub precondition: Option<String>,
    /// What the whole must hash to.
    pub declared: Digests,
    /// What the creator wants to find again, in its own encoding.
    pub notes: Option<String>,
    /// The open uploads that it is composed of, in order, if it is: see [`compose`](crate::compose).
    pub members: Vec<UploadId>,
}

/// What is there of an upload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// The end of the contiguous prefix.
    pub offset: Offset,
    /// Durable bytes, ascending, never adjoining.
    pub spans: Vec<Span>,
    /// Whole parts with their values, ascending: one page.
    pub parts: Vec<(PartNumber, PartValue)>,
    /// Parts of which a prefix is kept.
    pub partial: Vec<(PartNumber, Length)>,
    /// Where the next page of `parts` begins.
    pub next: Option<PartNumber>,
}

/// A run of bytes on its way into a part.
pub struct PartIntake {
    store: Arc<Store>,
    upload: Upload,
    lane: LaneId,
    epoch: u64,
    writer: PartWriter,
    /// How long the part is when all of it is there.
    whole: Length,
    declared: Option<PartValue>,
    /// Fragments of earlier runs, before what `writer` holds.
    fragments: Vec<Extent>,
    /// How many bytes of the part are durable already.
    held: Length,
    /// Whether what is held now is a whole part.
    held_whole: bool,
    /// Whether the run goes on behind what is held.
    goes_on: bool,
    meets: Meets,
}

/// What becomes of what is held of a part behind a run that ends before the part does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meets {
    /// A whole part stays until another whole one is there; a prefix gives way.
    Parts,
    /// It stays if it begins with the very bytes that came, and else gives way: they are announced, so they must be what
    /// is read.
    Bytes,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All announced bytes arrived.
    Complete,
    /// The line broke, or a newer request took over: what arrived is worth keeping if the part's value was declared.
    Cut,
}

/// What a finished run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRun {
    /// How many bytes of the part are durable.
    pub have: Length,
    /// The value of the part, once it is whole.
    pub value: Option<PartValue>,
}

/// A run that is on its way to be durable.
pub struct PendingRun {
    pending: Option<Pending>,
    stored: StoredRun,
}

impl PendingRun {
    /// Waits until the run is durable. For async code.
    pub async fn durable(self) -> Result<StoredRun, StoreError> {
        if let Some(pending) = self.pending {
            pending.await?;
        }
        Ok(self.stored)
    }

    /// Blocks until the run is durable.
    pub fn wait(self) -> Result<StoredRun, StoreError> {
        if let Some(pending) = self.pending {
            pending.wait()?;
        }
        Ok(self.stored)
    }
}

// ---------------------------------------------------------------- create and look

impl Store {
    /// Opens an upload. Idempotent by its key; the flag tells whether it is new.
    pub fn create_upload(&self, new: CreateUpload) -> Result<(Upload, bool), StoreError> {
        self.admit()?;
        let (id, now) = (UploadId::random()?, self.now());
        let declared = Some(&new.declared).filter(|declared| !declared.is_empty());
        let digests = declared.map(|declared| self.seal_declared(id, declared)).transpose()?;
        let outcome = self.commit(Intent::CreateUpload(Box::new(NewUpload {
            id,
            user: new.user,
            key: new.key,
            space: new.space,
            path: new.path,
            size: new.size,
            meta: new.meta,
            precondition: new.precondition,
            digests,
            notes: new.notes,
            members: new.members,
            now: now.wall,
            expires: now.steady.after(self.settings.upload_idle),
            uploads_max: self.settings.uploads_max,
        })))?;
        match outcome {
            Outcome::Upload { id, created } => Ok((self.upload(id)?, created)),
            other => unreachable!("a creation came to {other:?}"),
        }
    }

    /// Returns the upload that a user created under a key, ended or not. Whoever never heard the answer to its creation
    /// knows nothing else of it.
    pub fn upload_by_key(&self, user: UserId, key: &str) -> Result<Option<Upload>, StoreError> {
        self.catalog().upload_by_key(user, key)
    }

    /// Returns an upload.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn upload(&self, id: UploadId) -> Result<Upload, StoreError> {
        Ok(self.catalog().upload(id)?.ok_or(Refusal::NotFound)?)
    }

    /// Returns what is held of one part.
    pub fn held_part(&self, upload: &Upload, part: PartNumber) -> Result<Held, StoreError> {
        let lane = self.catalog().lane(upload.id, LaneId::Part(part))?;
        if let Some(open) = lane.and_then(|lane| lane.open) {
            return Ok(Held::Partial { have: open.have });
        }
        let span = span_of(part);
        let first = self.catalog().extents(upload.content, span, 1)?;
        Ok(match first.first().and_then(|extent| self.value_of(extent)) {
            Some((_, value)) => Held::Whole { value },
            None => Held::Nothing,
        })
    }

    /// Returns an upload and what is there of it, both of one moment; `parts` from the given part on, at most `limit` of
    /// them.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn received(
        &self,
        id: UploadId,
        from: PartNumber,
        limit: usize,
    ) -> Result<(Upload, Received), StoreError> {
        let mut received = Received::default();
        let mut spans = Vec::new();
        let all = Span::whole(Length::new(hapax_proto::span::SIZE_MAX));
        let held = self.catalog().holdings(id, all, &mut |extent| {
            push_span(&mut spans, extent.span);
            if let Some((part, value)) = self.value_of(&extent).filter(|(part, _)| *part >= from) {
                if received.parts.len() < limit {
                    received.parts.push((part, value));
                } else {
                    received.next.get_or_insert(part);
                }
            }
        })?;
        let (upload, lanes) = held.ok_or(Refusal::NotFound)?;
        received.offset = upload.prefix;
        for open in lanes.iter().filter_map(|lane| lane.open.as_ref()) {
            received.partial.push((open.part, open.have));
            spans.extend(Span::at(open.part.start(), open.have));
            if PartNumber::holding(upload.prefix) == Some(open.part) {
                received.offset = announced(&upload, open);
            }
        }
        received.spans = union(spans);
        Ok((upload, received))
    }

    /// Returns the end of the durable contiguous prefix: what an upload announces. Costs the same however much is there.
    /// To be called [at one moment](Self::at_one_moment): what became whole since the upload was looked at would be
    /// missing.
    pub fn durable_offset(&self, upload: &Upload) -> Result<Offset, StoreError> {
        let Some(part) = PartNumber::holding(upload.prefix) else { return Ok(upload.prefix) };
        let open = self.catalog().lane(upload.id, LaneId::Part(part))?.and_then(|lane| lane.open);
        Ok(open.map_or(upload.prefix, |open| announced(upload, &open)))
    }

    /// Returns the part whose value stands at an extent, and the value.
    pub(crate) fn value_of(&self, extent: &Extent) -> Option<(PartNumber, PartValue)> {
        let part = PartNumber::holding(extent.span.start())?;
        let value = self.unmask(extent.object.id, extent.object_start, part, extent.value?);
        Some((part, value))
    }

    /// Returns the values of all whole parts of a content, ascending.
    pub fn part_values(
        &self,
        content: crate::catalog::ContentId,
    ) -> Result<Vec<(PartNumber, PartValue)>, StoreError> {
        let mut values = Vec::new();
        self.catalog().each_extent(content, &mut |extent| values.extend(self.value_of(&extent)))?;
        Ok(values)
    }

    /// Begins to read the durable bytes of an open upload.
    pub fn read_upload(&self, upload: &Upload) -> ContentReader {
        let end = upload.size.unwrap_or(Length::new(hapax_proto::span::SIZE_MAX));
        ContentReader::new(&self.stores, upload.content, end)
    }

    fn seal_declared(&self, id: UploadId, declared: &Digests) -> Result<Vec<u8>, StoreError> {
        let text = encode_declared(declared);
        self.stores.ring.small().seal(Purpose::Declared, &upload_row(&id, 0), &text)
    }

    /// Returns the digests that were declared when the upload was created.
    pub fn declared(&self, upload: &Upload) -> Result<Digests, StoreError> {
        let Some(sealed) = &upload.digests else { return Ok(Digests::default()) };
        let opened = self.stores.ring.small().open(Purpose::Declared, &upload_row(&upload.id, 0), sealed)?;
        decode_declared(&opened).ok_or_else(|| damaged(upload.id, "what was declared cannot be read"))
    }

    fn open_hash(&self, purpose: Purpose, id: UploadId, sealed: &[u8]) -> Result<FileHash, StoreError> {
        let opened = self.stores.ring.small().open(purpose, &upload_row(&id, 0), sealed)?;
        let hash: [u8; 32] =
            opened.try_into().map_err(|_| damaged(id, "a sealed hash has another length"))?;
        Ok(FileHash::new(hash))
    }
}

/// Writes declared digests: one a line, `<key>:<hex>`.
fn encode_declared(declared: &Digests) -> Vec<u8> {
    declared.iter().map(|digest| digest.to_string()).collect::<Vec<_>>().join("\n").into_bytes()
}

/// Reads what [`encode_declared`] wrote, or a bare BLAKE3, as schema 1 kept it; no line is as short as that.
fn decode_declared(bytes: &[u8]) -> Option<Digests> {
    if let Ok(hash) = <[u8; 32]>::try_from(bytes) {
        return Some([Digest::from(FileHash::new(hash))].into_iter().collect());
    }
    let line = |line: &str| {
        let (key, value) = line.split_once(':')?;
        Digest::parse_hex(Algorithm::from_key(key)?, value).ok()
    };
    std::str::from_utf8(bytes).ok()?.split('\n').map(line).collect()
}

fn upload_row(id: &UploadId, version: u64) -> Row<'_> {
    Row { table: "uploads", key: &id.0, version }
}

/// Returns the end of the durable contiguous prefix, of which the part that holds the end of what lies in objects is open.
fn announced(upload: &Upload, open: &OpenPart) -> Offset {
    let kept = open.part.start().checked_add(open.have);
    kept.map_or(upload.prefix, |kept| kept.max(upload.prefix))
}

fn damaged(id: UploadId, why: &'static str) -> StoreError {
    StoreError::Corrupt { what: format!("upload {id}"), why }
}

/// Adds a span behind others, joining what adjoins.
fn push_span(spans: &mut Vec<Span>, next: Span) {
    match spans.last_mut() {
        Some(last) if next.start() <= last.end() => {
            *last = Span::new(last.start(), last.end().max(next.end())).expect("it only grows");
        }
        _ => spans.push(next),
    }
}

fn union(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| span.start());
    let mut joined = Vec::with_capacity(spans.len());
    for span in spans {
        push_span(&mut joined, span);
    }
    joined
}

// ---------------------------------------------------------------- store

impl Store {
    /// Begins to take a run of bytes of a part in. The caller holds the part's lane and has decided that the run fits.
    ///
    /// `from` is 0, or how many bytes are held; `whole` is the length of the part when all of it is there.
    pub fn begin_part(
        self: &Arc<Self>,
        upload: &Upload,
        part: PartNumber,
        from: Length,
        whole: Length,
        declared: Option<PartValue>,
    ) -> Result<PartIntake, StoreError> {
        self.admit()?;
        self.open_run(upload, part, from, whole, declared)
    }

    /// Forgets what is held of a part.
    pub(crate) fn clear_part(self: &Arc<Self>, upload: &Upload, part: PartNumber) -> Result<(), StoreError> {
        let run = self.open_run(upload, part, Length::ZERO, PART, None)?;
        self.commit(Intent::Store(Box::new(run.rows(span_of(part))))).map(drop)
    }

    fn open_run(
        self: &Arc<Self>,
        upload: &Upload,
        part: PartNumber,
        from: Length,
        whole: Length,
        declared: Option<PartValue>,
    ) -> Result<PartIntake, StoreError> {
        let lane = LaneId::Part(part);
        let row = self.catalog().lane(upload.id, lane)?;
        let epoch = row.as_ref().map_or(0, |row| row.epoch) + 1;
        let open = row.and_then(|row| row.open);
        let held_whole = open.is_none() && matches!(self.held_part(upload, part)?, Held::Whole { .. });
        let held = match &open {
            Some(open) => open.have,
            None if held_whole => self.length_in_objects(upload, part)?,
            None => Length::ZERO,
        };
        let (writer, fragments) = match open.filter(|_| !from.is_zero()) {
            Some(open) if open.part == part && open.have == from => self.resume_part(upload, lane, &open)?,
            Some(_) => return Err(Refusal::Superseded.into()),
            None if from.is_zero() => (PartWriter::new(part), Vec::new()),
            None => (self.reopen_part(upload, part, from)?, Vec::new()),
        };
        let store = Arc::clone(self);
        let upload = upload.clone();
        let (goes_on, meets) = (!from.is_zero(), Meets::Parts);
        Ok(PartIntake {
            store,
            upload,
            lane,
            epoch,
            writer,
            whole,
            declared,
            fragments,
            held,
            held_whole,
            goes_on,
            meets,
        })
    }

    fn resume_part(
        &self,
        upload: &Upload,
        lane: LaneId,
        open: &OpenPart,
    ) -> Result<(PartWriter, Vec<Extent>), StoreError> {
        let (state, tail) = open_tail(self, upload.id, lane, open)?;
        let kept = state.length();
        let mut writer = PartWriter::resume(open.part, &state, tail)
            .map_err(|_| damaged(upload.id, "state and tail of an open part do not fit"))?;
        let held = Span::at(open.part.start(), kept).expect("a part lies below the largest size");
        let fragments = self.catalog().extents(upload.content, held, usize::MAX)?;
        if fragments.len() < FRAGMENTS_MAX {
            return Ok((writer, fragments));
        }
        let mut bytes = Vec::new();
        self.read_upload(upload).read(held, &mut bytes)?;
        writer.prepend(&self.committer, &bytes)?;
        Ok((writer, Vec::new()))
    }
}

/// The key of the row that a tail is sealed for: the upload, and 0 for the append lane or the part's number + 1.
fn tail_key(upload: &UploadId, lane: LaneId) -> [u8; 24] {
    let lane = match lane {
        LaneId::Append => 0,
        LaneId::Part(part) => u64::from(part.get()) + 1,
    };
    let mut key = [0; 24];
    key[..16].copy_from_slice(&upload.0);
    key[16..].copy_from_slice(&lane.to_le_bytes());
    key
}

/// The row that a tail is sealed for: the length held is its version, so that an older tail does not open.
fn tail_row(key: &[u8; 24], have: Length) -> Row<'_> {
    Row { table: "lanes", key, version: have.get() }
}

impl PartIntake {
    /// Takes over a first part that was begun before its upload was opened. Nobody else knows the upload, so its lane
    /// need not be held.
    pub(crate) fn adopt(store: &Arc<Store>, upload: &Upload, writer: PartWriter) -> Self {
        Self {
            store: Arc::clone(store),
            upload: upload.clone(),
            lane: LaneId::Part(writer.hasher().part()),
            epoch: 1,
            whole: writer.length(),
            writer,
            declared: None,
            fragments: Vec::new(),
            held: Length::ZERO,
            held_whole: false,
            goes_on: false,
            meets: Meets::Parts,
        }
    }

    /// Says that the part ends where it is now, as the last part of a file whose size was not announced.
    #[must_use]
    pub(crate) fn ending_here(mut self) -> Self {
        self.whole = self.writer.length();
        self
    }

    /// Says what becomes of what is held behind the run, if it is not as for [a run of a part](Meets::Parts).
    #[must_use]
    pub fn meeting(mut self, meets: Meets) -> Self {
        self.meets = meets;
        self
    }

    /// Returns the epoch of its lane that it writes under.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns which part it is.
    pub fn part(&self) -> PartNumber {
        self.writer.hasher().part()
    }

    /// Returns how many bytes of the part are there.
    pub fn length(&self) -> Length {
        self.writer.length()
    }

    /// Says how many bytes this run brings, if that is known: see [`PartWriter::expect`].
    pub fn expect(&mut self, length: Length) -> Result<(), StoreError> {
        self.writer.expect(&self.store.committer, length)
    }

    /// Returns how many bytes the part still takes.
    pub fn room(&self) -> Length {
        self.whole.checked_sub(self.writer.length()).unwrap_or_default()
    }

    /// Takes in bytes; hand over about 256 KiB at a time. Blocks for the disk now and then.
    ///
    /// # Errors
    /// [`StoreError::TooLong`] if the bytes pass the end of the part: then nothing was taken.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let room = self.room();
        if Length::of(bytes) > room {
            return Err(StoreError::TooLong { bytes: Length::of(bytes), room });
        }
        self.writer.push(&self.store.committer, bytes)
    }

    /// Ends the run and hands it to the committer.
    ///
    /// A whole part replaces what was held of it; a declared value that it does not have discards it together with the
    /// fragments before it. A run that ended before the part did is kept as a prefix, if it arrived completely or a value
    /// was declared, and [what is held does not stay](Meets).
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] if the part is whole and does not have the declared value.
    pub fn finish(self, ending: Ending) -> Result<PendingRun, StoreError> {
        let have = self.writer.length();
        if have == self.whole && !have.is_zero() {
            return self.finish_whole();
        }
        let worth_keeping = ending == Ending::Complete || self.declared.is_some();
        let stays = match self.meets {
            Meets::Parts => self.held_whole,
            Meets::Bytes => self.is_held()?,
        };
        if have.is_zero() || stays || !worth_keeping {
            return Ok(PendingRun { pending: None, stored: StoredRun { have: self.held, value: None } });
        }
        self.finish_cut()
    }

    fn finish_whole(self) -> Result<PendingRun, StoreError> {
        let value = self.writer.hasher().value().expect("a part that is not empty has a value");
        if let Some(declared) = self.declared.filter(|declared| *declared != value) {
            self.discard()?;
            return Err(StoreError::Mismatch { expected: declared.to_string(), actual: value.to_string() });
        }
        let first_root = self.writer.hasher().root().map(|root| self.seal_first_root(&root)).transpose()?;
        let part = self.writer.hasher().part();
        let mut rows = self.rows(span_of(part));
        rows.first_root = first_root;
        rows.put = self.fragments.iter().map(keep_extent).collect();
        let ring = Arc::clone(&self.store.stores.ring);
        let stored = StoredRun { have: self.whole, value: Some(value) };
        let (bytes, span) = self.writer.whole()?;
        let pending = self.store.committer.submit(bytes, move |placed| {
            rows.put.push(new_extent(span, &placed.expect("a run has bytes")));
            if let Some(first) = rows.put.first_mut() {
                first.value = Some(mask(&ring, first.object.id, first.object_start, part, value));
            }
            Intent::Store(Box::new(rows))
        });
        Ok(PendingRun { pending: Some(pending), stored })
    }

    fn finish_cut(self) -> Result<PendingRun, StoreError> {
        let part = self.writer.hasher().part();
        let mut rows = self.rows(span_of(part));
        rows.put = self.fragments.iter().map(keep_extent).collect();
        let CutRun { bytes, span, state, tail, have } = self.writer.cut()?;
        let key = tail_key(&self.upload.id, self.lane);
        let opened = encode_open(&state, &tail);
        let sealed = self.store.stores.ring.small().seal(Purpose::Tail, &tail_row(&key, have), &opened)?;
        rows.open = Some(OpenPart { part, have, tail: Length::of(&tail), sealed });
        let pending = self.store.committer.submit(bytes, move |placed| {
            rows.put.extend(placed.map(|placed| new_extent(span, &placed)));
            Intent::Store(Box::new(rows))
        });
        Ok(PendingRun { pending: Some(pending), stored: StoredRun { have, value: None } })
    }

    /// Forgets what was held of a part whose bytes turned out wrong; a whole part that is held stays.
    fn discard(&self) -> Result<(), StoreError> {
        if self.held_whole || !self.goes_on {
            return Ok(());
        }
        let part = self.writer.hasher().part();
        let rows = self.rows(span_of(part));
        self.store.commit(Intent::Store(Box::new(rows))).map(drop)
    }

    fn seal_first_root(&self, root: &FileHash) -> Result<Vec<u8>, StoreError> {
        let row = upload_row(&self.upload.id, 0);
        self.store.stores.ring.small().seal(Purpose::FirstRoot, &row, root.as_bytes())
    }

    /// The intent without what is put.
    fn rows(&self, clear: Span) -> StoreIntent {
        let now = self.store.now().steady;
        StoreIntent {
            upload: self.upload.id,
            generation: self.upload.generation,
            lane: self.lane,
            epoch: self.epoch,
            clear,
            put: Vec::new(),
            open: None,
            first_root: None,
            now,
            expires: now.after(self.store.settings.upload_idle),
        }
    }
}

fn new_extent(span: Span, placed: &Placed) -> Extent {
    Extent {
        span,
        object: placed.object,
        object_length: placed.object_length,
        object_start: placed.start,
        value: None,
    }
}

/// An extent that stays where it is while its part is stored anew.
fn keep_extent(extent: &Extent) -> Extent {
    Extent { value: None, ..extent.clone() }
}

/// Returns where the bytes of a whole part lie.
pub(crate) fn span_of(part: PartNumber) -> Span {
    Span::at(part.start(), PART).expect("a part lies below the largest size")
}

// ---------------------------------------------------------------- resize, finish, end

impl Store {
    /// Gives an open upload another size; whole parts that are the same in both sizes stay. Whoever is writing ends, unless
    /// this is the first time that the size is told.
    pub fn resize_upload(
        &self,
        upload: &Upload,
        size: Length,
        mtime: Option<i64>,
    ) -> Result<Upload, StoreError> {
        if upload.size.is_some() {
            self.lanes.evict_all(upload.id);
        }
        let keep = upload.size.map_or(size.end(), |old| common_parts(old, size));
        self.commit(Intent::Resize {
            upload: upload.id,
            generation: upload.generation,
            size,
            mtime: mtime.or(upload.meta.mtime),
            keep,
            now: self.now().steady,
        })?;
        self.upload(upload.id)
    }

    /// Makes a live blob that the caller may read visible as the file of an upload, instead of what that holds: an
    /// instant upload. Copies no byte and reads none: the caller has compared what was declared.
    ///
    /// # Errors
    /// [`Refusal::NotLive`] if the blob was given up meanwhile, [`Refusal::Incomplete`] if the upload has another size,
    /// and the other refusals of [`Publish`](crate::catalog::Publish): the upload stays open.
    pub fn finish_instead(
        &self,
        upload: &Upload,
        expect: Expect,
        blob: &Blob,
    ) -> Result<Published, StoreError> {
        let source = Source::Instead { id: upload.id, generation: upload.generation, blob: blob.id };
        let target =
            Target { space: upload.space, path: upload.path.clone(), expect, meta: upload.meta.clone() };
        let published = self.publish(target, source, self.identity(blob)?)?;
        self.lanes.evict_all(upload.id);
        Ok(published)
    }

    /// Computes the BLAKE3 of a complete upload from the values of its parts; no object is read.
    fn upload_root(&self, upload: &Upload, size: Length) -> Result<FileHash, StoreError> {
        if size.is_zero() {
            return Ok(FileHash::of(&[]));
        }
        if size <= PART {
            let sealed = upload.first_root.as_ref().ok_or(Refusal::Incomplete)?;
            return self.open_hash(Purpose::FirstRoot, upload.id, sealed);
        }
        let values = self.part_values(upload.content)?;
        let in_order = values.iter().zip(0u32..).all(|((part, _), number)| part.get() == number);
        if !in_order || values.len() as u64 != part_count(size) {
            return Err(Refusal::Incomplete.into());
        }
        let frontier: Frontier = values.into_iter().map(|(_, value)| value).collect();
        Ok(frontier.root().ok_or(Refusal::Incomplete)?)
    }

    /// Returns what the completion of a done upload came to.
    ///
    /// # Errors
    /// [`StoreError::Pending`] for one that was composed of others, until its identity is computed.
    pub fn completion(&self, upload: &Upload, done: &Completion) -> Result<Published, StoreError> {
        let sealed = done.identity.as_ref().ok_or(StoreError::Pending)?;
        let blake3 = self.open_identity(&done.fingerprint, sealed)?;
        Ok(Published {
            identity: Identity { blake3, size: upload.size.unwrap_or_default() },
            fingerprint: done.fingerprint,
            version: done.version,
            replaced: done.replaced,
            known: false,
        })
    }

    /// Ends an open upload without a result: cancelled by its owner, or poisoned by what it declared.
    pub fn end_upload(&self, id: UploadId, state: State) -> Result<(), StoreError> {
        self.lanes.evict_all(id);
        self.commit(Intent::EndUpload { upload: id, state, now: self.now().steady }).map(drop)
    }

    /// Returns the hash of the durable prefix `[0, length)` if it can be told without reading an object: where a whole
    /// part ends, and where an open part ends.
    pub fn prefix_root(&self, upload: &Upload, length: Length) -> Result<Option<FileHash>, StoreError> {
        let Some(last) = part_count(length).checked_sub(1) else { return Ok(Some(FileHash::of(&[]))) };
        let part = PartNumber::new(u32::try_from(last).unwrap_or(u32::MAX));
        let values = self.part_values(upload.content)?;
        let mut frontier = Frontier::new();
        let before =
            values.iter().zip(0..last).take_while(|((part, _), number)| u64::from(part.get()) == *number);
        frontier.extend(before.map(|((_, value), _)| *value));
        if frontier.parts() != last {
            return Ok(None);
        }
        let in_part = length.end().since(part.start()).unwrap_or_default();
        if let Some(open) = self.open_hasher(upload, part, in_part)? {
            return Ok(frontier.prefix_root(&open));
        }
        let whole = values.iter().find(|(number, _)| *number == part).map(|(_, value)| *value);
        let ends_here = in_part == PART || upload.size == Some(length);
        match (whole.filter(|_| ends_here), &upload.first_root) {
            (Some(_), Some(sealed)) if part == PartNumber::FIRST => {
                self.open_hash(Purpose::FirstRoot, upload.id, sealed).map(Some)
            }
            (Some(value), _) => {
                frontier.push(value);
                Ok(frontier.root())
            }
            (None, _) => Ok(None),
        }
    }

    /// Returns the hashing state of a part of which exactly `length` bytes are held.
    fn open_hasher(
        &self,
        upload: &Upload,
        part: PartNumber,
        length: Length,
    ) -> Result<Option<PartHasher>, StoreError> {
        let lane = LaneId::Part(part);
        let open = self.catalog().lane(upload.id, lane)?.and_then(|row| row.open);
        let Some(open) = open.filter(|open| open.have == length) else { return Ok(None) };
        let (state, tail) = open_tail(self, upload.id, lane, &open)?;
        PartHasher::resume(part, &state, &tail)
            .map(Some)
            .map_err(|_| damaged(upload.id, "state and tail of an open part do not fit"))
    }
}

/// Opens the hashing state and the tail of an open part.
pub(crate) fn open_tail(
    store: &Store,
    upload: UploadId,
    lane: LaneId,
    open: &OpenPart,
) -> Result<(OpenState, Vec<u8>), StoreError> {
    let key = tail_key(&upload, lane);
    let opened = store.stores.ring.small().open(Purpose::Tail, &tail_row(&key, open.have), &open.sealed)?;
    decode_open(&opened).ok_or_else(|| damaged(upload, "an open part cannot be read"))
}

/// Compares what was declared with what the bytes are.
pub(crate) fn check_declared(declared: &Digests, ours: &Digests) -> Result<(), StoreError> {
    match declared.disagreement(ours) {
        Some((theirs, ours)) => Err(StoreError::Mismatch { expected: theirs.hex(), actual: ours.hex() }),
        None => Ok(()),
    }
}

/// Returns the end of the parts that are the same in files of both sizes, apart from their bytes.
fn common_parts(old: Length, new: Length) -> Offset {
    if old == new {
        return old.end();
    }
    let shorter = old.min(new).get();
    Offset::new(shorter - shorter % PART.get())
}

#[cfg(test)]
mod tests {
    use hapax_proto::digest::Hasher;

    use super::*;

    #[test]
    fn what_was_declared_is_read_back_also_from_the_first_schema() {
        let mut hasher = Hasher::new(Algorithm::ALL.iter().copied());
        hasher.update(b"abc");
        let all = hasher.digests();
        assert_eq!(decode_declared(&encode_declared(&all)), Some(all.clone()));
        for digest in all.iter() {
            let one: Digests = [digest].into_iter().collect();
            assert_eq!(decode_declared(&encode_declared(&one)), Some(one));
        }
        let old = FileHash::of(b"abc");
        assert_eq!(decode_declared(old.as_bytes()), Some([Digest::from(old)].into_iter().collect()));
        for text in ["", "md6:00", "md5:00", "md5"] {
            assert_eq!(decode_declared(text.as_bytes()), None, "{text}");
        }
    }
}
