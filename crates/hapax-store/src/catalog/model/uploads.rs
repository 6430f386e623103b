//! Uploads and their lanes. Owns how bytes enter an unfinished content and how an upload ends without a result.

use hapax_proto::span::{Length, Offset, SIZE_MAX};
use hapax_proto::tree::PartNumber;
use hapax_proto::upload::State;

use super::objects::{Fate, is_in_first};
use super::tables::{Content, Tables, UploadRow, overlap};
use crate::catalog::{
    Answer, COMPOSED_KEPT, ContentId, Counted, Lane, LaneId, NewUpload, OpenPart, Outcome, Refusal, Store,
    Upload, UploadId, UserId, WAITING_MAX,
};
use crate::clock::Timestamp;

/// What an upload is resized to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resize {
    pub(super) size: Length,
    pub(super) mtime: Option<i64>,
    pub(super) keep: Offset,
    pub(super) now: Timestamp,
}

impl Tables {
    /// Returns an upload that takes bytes under this generation.
    pub(super) fn open_upload(&mut self, id: UploadId, generation: u32) -> Result<&mut Upload, Refusal> {
        let upload = &mut self.uploads.get_mut(&id).ok_or(Refusal::NotFound)?.upload;
        if upload.state != State::Open {
            return Err(Refusal::Ended(upload.state));
        }
        if upload.generation != generation {
            return Err(Refusal::Superseded);
        }
        Ok(upload)
    }

    /// Returns one whose bytes or size may change: not one that became part of a file.
    fn changeable_upload(&mut self, id: UploadId, generation: u32) -> Result<&mut Upload, Refusal> {
        let upload = self.open_upload(id, generation)?;
        if upload.counted == Counted::InFile { Err(Refusal::Ended(State::Done)) } else { Ok(upload) }
    }

    pub(super) fn create_upload(&mut self, new: &NewUpload) -> Answer {
        let mut own = self.uploads.values().map(|row| &row.upload).filter(|row| row.user == new.user);
        if let Some(known) = own.clone().find(|upload| new.key.is_some() && upload.key == new.key) {
            return Ok(Outcome::Upload { id: known.id, created: false });
        }
        if !self.users.contains_key(&new.user) || !self.spaces.contains_key(&new.space) {
            return Err(Refusal::NotFound);
        }
        if self.uploads.contains_key(&new.id) {
            return Err(Refusal::Exists);
        }
        let is_one = |upload: &&Upload| upload.state == State::Open && upload.counted != Counted::InFile;
        let open = own.by_ref().filter(is_one).count();
        if open >= new.uploads_max as usize {
            return Err(Refusal::TooManyUploads);
        }
        self.check_members(new)?;
        let was = self.filled(new.space);
        let content = self.add_content(Content::default());
        let upload = Upload {
            id: new.id,
            user: new.user,
            key: new.key.clone(),
            space: new.space,
            path: new.path.clone(),
            size: new.size,
            meta: new.meta.clone(),
            precondition: new.precondition.clone(),
            digests: new.digests.clone(),
            notes: new.notes.clone(),
            counted: if new.members.is_empty() { Counted::Here } else { Counted::InMembers },
            state: State::Open,
            generation: 0,
            content,
            content_version: 0,
            covered: Length::ZERO,
            prefix: Offset::ZERO,
            first_root: None,
            created: new.now,
            expires: new.expires,
            done: None,
        };
        self.uploads.insert(new.id, UploadRow { upload, members: new.members.clone(), ended: None });
        self.check_quota(new.space, was)?;
        Ok(Outcome::Upload { id: new.id, created: true })
    }

    /// Members are open uploads of the same user that have none themselves.
    fn check_members(&self, new: &NewUpload) -> Result<(), Refusal> {
        let fits = |upload: &Upload| {
            upload.user == new.user && upload.state == State::Open && upload.counted != Counted::InMembers
        };
        let known = |id: &UploadId| self.uploads.get(id).is_some_and(|row| fits(&row.upload));
        if !new.members.iter().all(known) {
            return Err(Refusal::NotFound);
        }
        let is_awaited = |id: &UploadId| self.composed_of(*id).len() >= WAITING_MAX as usize;
        if new.members.iter().any(is_awaited) { Err(Refusal::TooManyUploads) } else { Ok(()) }
    }

    /// The bytes of the members are a file's from now on.
    pub(super) fn count_in_file(&mut self, id: UploadId, now: Timestamp) {
        for member in self.members_of(id) {
            let Some(row) = self.uploads.get_mut(&member) else { continue };
            if row.upload.state == State::Open {
                row.upload.counted = Counted::InFile;
                row.upload.expires = row.upload.expires.min(now.after(COMPOSED_KEPT));
            }
        }
    }

    pub(super) fn members_of(&self, upload: UploadId) -> Vec<UploadId> {
        self.uploads.get(&upload).map(|row| row.members.clone()).unwrap_or_default()
    }

    pub(super) fn composed_of(&self, member: UploadId) -> Vec<UploadId> {
        self.uploads.iter().filter(|(_, row)| row.members.contains(&member)).map(|(id, _)| *id).collect()
    }

    pub(super) fn store(&mut self, store: &Store) -> Answer {
        let upload = self.changeable_upload(store.upload, store.generation)?.clone();
        let lane = (store.upload, store.lane);
        if self.lanes.get(&lane).is_some_and(|lane| lane.epoch >= store.epoch) {
            return Err(Refusal::Superseded);
        }
        check_store(store, upload.size)?;
        let was = self.filled(upload.space);
        let extents = self.contents[&upload.content].extents.values();
        if extents.clone().any(|old| overlap(old.span, store.clear) && !store.clear.contains(old.span)) {
            return Err(Refusal::Malformed("an extent reaches out of the cleared span"));
        }
        let cleared = self.clear(upload.content, |span| overlap(span, store.clear), Fate::Drop(store.now));
        for extent in &store.put {
            self.place(upload.content, extent)?;
        }
        let row = self.open_upload(store.upload, store.generation)?;
        row.content_version += 1;
        row.expires = row.expires.max(store.expires);
        let row = Lane { id: store.lane, epoch: store.epoch, open: store.open.clone() };
        let before = self.lanes.insert(lane, row);
        let is_first = |open: &OpenPart| open.part == PartNumber::FIRST;
        let opened = before.and_then(|lane| lane.open).iter().chain(&store.open).any(is_first);
        let placed = store.put.iter().any(|extent| is_in_first(extent.span.start()));
        if cleared || placed || opened || store.first_root.is_some() {
            let row = self.open_upload(store.upload, store.generation)?;
            row.first_root.clone_from(&store.first_root);
        }
        self.check_quota(upload.space, was)?;
        Ok(Outcome::Done)
    }

    pub(super) fn resize(&mut self, id: UploadId, generation: u32, resize: &Resize) -> Answer {
        let upload = self.changeable_upload(id, generation)?.clone();
        if resize.keep > resize.size.end() {
            return Err(Refusal::Malformed("more is kept than the new size holds"));
        }
        let was = self.filled(upload.space);
        let mut first = self.clear(upload.content, |span| span.end() > resize.keep, Fate::Drop(resize.now));
        for lane in self.lanes.iter_mut().filter(|((of, _), _)| *of == id).map(|(_, lane)| lane) {
            if let Some(open) = lane.open.take_if(|open| end_of(open) > Some(resize.keep)) {
                first |= open.part == PartNumber::FIRST;
            }
        }
        let row = self.open_upload(id, generation)?;
        row.size = Some(resize.size);
        row.meta.mtime = resize.mtime;
        row.generation += 1;
        row.content_version += 1;
        if first {
            row.first_root = None;
        }
        self.check_quota(upload.space, was)?;
        Ok(Outcome::Done)
    }

    pub(super) fn end_upload(&mut self, id: UploadId, state: State, now: Timestamp) -> Answer {
        if !matches!(state, State::Cancelled | State::Expired | State::Poisoned) {
            return Err(Refusal::Malformed("an upload does not end so"));
        }
        let upload = &self.uploads.get(&id).ok_or(Refusal::NotFound)?.upload;
        if upload.state != State::Open {
            return Err(Refusal::Ended(upload.state));
        }
        self.end(id, state, now);
        Ok(Outcome::Done)
    }

    /// Ends an open upload without a result: what it held alone is doomed.
    pub(super) fn end(&mut self, id: UploadId, state: State, now: Timestamp) {
        let content = self.close(id, state, now);
        self.remove_content(content, Fate::Doom);
    }

    /// Moves an upload out of `open`, and with it all lanes. Its content is left to the caller.
    pub(super) fn close(&mut self, id: UploadId, state: State, now: Timestamp) -> ContentId {
        let row = self.uploads.get_mut(&id).expect("callers end what is there");
        row.upload.state = state;
        row.upload.generation += 1;
        row.ended = Some(now);
        row.members.clear();
        row.upload.content_version = 0;
        row.upload.first_root = None;
        self.lanes.retain(|(of, _), _| *of != id);
        std::mem::replace(&mut row.upload.content, ContentId(0))
    }

    pub(super) fn expire_uploads(&mut self, now: Timestamp, limit: usize) -> Outcome {
        let late = self.uploads.values().map(|row| &row.upload);
        let late = late.filter(|upload| upload.state == State::Open && upload.expires <= now);
        let mut late: Vec<_> = late.map(|upload| (upload.expires, upload.id)).collect();
        late.sort_unstable();
        let late: Vec<_> = late.into_iter().map(|(_, id)| id).take(limit).collect();
        for id in &late {
            self.end(*id, State::Expired, now);
        }
        Outcome::Ended(late)
    }

    pub(super) fn forget_uploads(&mut self, before: Timestamp, limit: usize) -> Outcome {
        let ended = self.uploads.iter().filter_map(|(id, row)| Some((row.ended?, *id)));
        let mut ended: Vec<_> = ended.filter(|(ended, _)| *ended < before).collect();
        ended.sort_unstable();
        ended.truncate(limit);
        for (_, id) in &ended {
            self.uploads.remove(id);
        }
        Outcome::Count(ended.len())
    }

    pub(super) fn lanes_of(&self, upload: UploadId) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter(move |((of, _), _)| *of == upload).map(|(_, lane)| lane)
    }

    pub(super) fn upload(&self, id: UploadId) -> Option<Upload> {
        let upload = &self.uploads.get(&id)?.upload;
        let content = self.contents.get(&upload.content);
        let covered = content.map(Content::covered).unwrap_or_default();
        let prefix = content.map(Content::prefix).unwrap_or_default();
        Some(Upload { covered, prefix, ..upload.clone() })
    }

    pub(super) fn uploads_of(&self, user: UserId, after: Option<UploadId>, limit: usize) -> Vec<Upload> {
        let own = self.uploads.values().map(|row| &row.upload).filter(|upload| upload.user == user);
        let behind = own.filter(|upload| after.is_none_or(|after| upload.id > after));
        behind.take(limit).filter_map(|upload| self.upload(upload.id)).collect()
    }
}

/// Returns the offset behind what an open part has.
fn end_of(open: &OpenPart) -> Option<Offset> {
    open.part.start().checked_add(open.have)
}

/// Tells whether what is to be stored fits the upload and the lane.
fn check_store(store: &Store, size: Option<Length>) -> Result<(), Refusal> {
    let end = size.unwrap_or(Length::new(SIZE_MAX)).end();
    if store.put.iter().any(|extent| extent.span.end() > end) {
        return Err(Refusal::Malformed("an extent reaches behind the size"));
    }
    let Some(open) = &store.open else { return Ok(()) };
    let is_foreign = matches!(store.lane, LaneId::Part(part) if part != open.part);
    if is_foreign || open.tail > open.have || end_of(open).is_none_or(|open| open > end) {
        return Err(Refusal::Malformed("an open part that cannot be"));
    }
    Ok(())
}
