//! Blobs: publishing, spares, orphans and their end, and the counts for people.

use std::collections::BTreeSet;

use hapax_proto::span::{Length, Offset};
use hapax_proto::upload::State;

use super::objects::Fate;
use super::tables::{BlobRow, Content, FileRow, Tables, sum};
use crate::catalog::{
    Answer, Blob, BlobId, Completion, ContentId, EntryId, Extent, Outcome, Publish, Refusal, Source, SpaceId,
    Stats, Upload, UploadId, UserId,
};
use crate::clock::Timestamp;
use crate::key::Fingerprint;

/// How many paths of a blob are told.
const PATHS_MAX: usize = 4;

impl Tables {
    pub(super) fn publish(&mut self, publish: &Publish) -> Answer {
        if publish.path.is_root() {
            return Err(Refusal::IsAFolder);
        }
        self.check_target(publish.space, &publish.path, publish.expect)?;
        let was = self.filled(publish.space);
        let (blob, known) = self.settle(publish)?;
        let file = FileRow { blob, meta: publish.meta.clone(), entity: publish.fingerprint };
        let (entry, replaced) = self.show(publish.space, &publish.path, file, publish.now.wall)?;
        self.orphan_blobs(publish.now.steady);
        let version = self.entries[&entry].version;
        if let Source::Upload { id, .. } | Source::Instead { id, .. } = publish.source {
            let upload = &mut self.uploads.get_mut(&id).expect("just taken").upload;
            upload.size = Some(publish.size);
            upload.path = publish.path.clone();
            upload.done = Some(Completion {
                version,
                replaced,
                fingerprint: publish.fingerprint,
                identity: publish.identity.clone(),
            });
        }
        self.check_quota(publish.space, was)?;
        Ok(Outcome::Published { entry, version, replaced, blob, known })
    }

    /// Finds or makes the blob. Tells whether its fingerprint was held.
    fn settle(&mut self, publish: &Publish) -> Result<(BlobId, bool), Refusal> {
        let content = match &publish.source {
            Source::Known(blob) => return Ok((self.known(*blob, publish)?, true)),
            Source::Instead { id, generation, blob } => {
                let blob = self.known(*blob, publish)?;
                self.check_upload(*id, *generation, publish)?;
                self.end(*id, State::Done, publish.now.steady);
                return Ok((blob, true));
            }
            Source::Upload { id, generation, content_version } => {
                Some(self.take_upload(*id, *generation, *content_version, publish)?)
            }
            Source::Extents(extents) => Some(self.fresh(extents, publish)?),
            Source::Inline(_) => None,
        };
        let held = self.blobs.iter_mut().find(|(_, blob)| blob.fingerprint == publish.fingerprint);
        if let Some((id, blob)) = held {
            if blob.size != publish.size {
                return Err(Refusal::Malformed("one identity has two sizes"));
            }
            blob.orphan = None;
            let id = *id;
            match (content, &publish.source) {
                (Some(content), _) => self.add_copy(id, content),
                (None, Source::Inline(bytes)) => self.add_inline(id, bytes),
                (None, _) => {}
            }
            return Ok((id, true));
        }
        let content = match &publish.source {
            Source::Inline(bytes) => {
                self.add_content(Content { inline: Some(bytes.clone()), ..Content::default() })
            }
            _ => content.ok_or(Refusal::NotLive)?,
        };
        let id = self.next_blob();
        let row = BlobRow {
            fingerprint: publish.fingerprint,
            identity: publish.identity.clone(),
            size: publish.size,
            content,
            orphan: None,
            damaged: None,
        };
        self.blobs.insert(id, row);
        Ok((id, false))
    }

    /// Takes a fresh inline content in: it is good, so it takes the place of an inline one.
    fn add_inline(&mut self, blob: BlobId, bytes: &[u8]) {
        let row = self.blobs.get_mut(&blob).expect("callers add to what is there");
        let held = self.contents.get_mut(&row.content).expect("a blob has a content");
        if let Some(inline) = &mut held.inline {
            bytes.clone_into(inline);
            row.damaged = None;
            return;
        }
        let content = self.add_content(Content { inline: Some(bytes.to_vec()), ..Content::default() });
        self.add_copy(blob, content);
    }

    /// R8: a claim is for what is live; it never brings an orphan back.
    fn known(&self, blob: BlobId, publish: &Publish) -> Result<BlobId, Refusal> {
        let row = self.blobs.get(&blob).ok_or(Refusal::NotLive)?;
        let is_it = row.fingerprint == publish.fingerprint && row.size == publish.size;
        if is_it && row.orphan.is_none() && row.damaged.is_none() { Ok(blob) } else { Err(Refusal::NotLive) }
    }

    /// Takes the content out of an open upload, which is done thereby.
    fn take_upload(
        &mut self,
        id: UploadId,
        generation: u32,
        content_version: u64,
        publish: &Publish,
    ) -> Result<ContentId, Refusal> {
        let upload = self.check_upload(id, generation, publish)?;
        if upload.content_version != content_version {
            return Err(Refusal::Superseded);
        }
        if !self.contents[&upload.content].is_whole(publish.size) {
            return Err(Refusal::Incomplete);
        }
        let row = self.contents.get_mut(&upload.content).expect("an open upload has a content");
        row.version = upload.content_version;
        self.count_in_file(id, publish.now.steady);
        Ok(self.close(id, State::Done, publish.now.steady))
    }

    /// Returns an open upload into the space and of the size that is published.
    fn check_upload(&mut self, id: UploadId, generation: u32, publish: &Publish) -> Result<Upload, Refusal> {
        let upload = self.open_upload(id, generation)?.clone();
        if upload.space != publish.space {
            return Err(Refusal::Malformed("the upload is another space's"));
        }
        if upload.size.is_some_and(|size| size != publish.size) {
            return Err(Refusal::Incomplete);
        }
        Ok(upload)
    }

    fn fresh(&mut self, extents: &[Extent], publish: &Publish) -> Result<ContentId, Refusal> {
        let content = self.add_content(Content::default());
        for extent in extents {
            self.place(content, extent)?;
        }
        if self.contents[&content].is_whole(publish.size) { Ok(content) } else { Err(Refusal::Incomplete) }
    }

    pub(super) fn settle_spare(
        &mut self,
        blob: BlobId,
        spare: ContentId,
        promote: bool,
        now: Timestamp,
    ) -> Answer {
        if self.spares.get(&spare) != Some(&blob) {
            return Err(Refusal::NotFound);
        }
        self.spares.remove(&spare);
        let row = self.blobs.get_mut(&blob).expect("a spare goes before its blob");
        row.damaged = None;
        let loser = if promote { std::mem::replace(&mut row.content, spare) } else { spare };
        self.remove_content(loser, Fate::Drop(now));
        Ok(Outcome::Done)
    }

    /// Marks the blobs that have lost their last entry.
    pub(super) fn orphan_blobs(&mut self, now: Timestamp) {
        let shown: BTreeSet<_> =
            self.entries.values().filter_map(|entry| Some(entry.file.as_ref()?.blob)).collect();
        for (id, blob) in &mut self.blobs {
            if !shown.contains(id) && blob.orphan.is_none() {
                blob.orphan = Some(now);
            }
        }
    }

    pub(super) fn bury_blobs(&mut self, before: Timestamp, limit: usize, now: Timestamp) -> Outcome {
        let orphans = self.blobs.iter().filter_map(|(id, blob)| Some((blob.orphan?, *id)));
        let mut orphans: Vec<_> = orphans.filter(|(since, _)| *since < before).collect();
        orphans.sort_unstable();
        orphans.truncate(limit);
        for (_, id) in &orphans {
            let blob = self.blobs.remove(id).expect("just found");
            self.digests.retain(|(of, _), _| of != id);
            let spares = self.spares.extract_if(.., |_, of| of == id).map(|(content, _)| content);
            for content in spares.chain([blob.content]).collect::<Vec<_>>() {
                self.remove_content(content, Fate::Drop(now));
            }
        }
        Outcome::Count(orphans.len())
    }

    pub(super) fn blob(&self, id: BlobId) -> Blob {
        let row = &self.blobs[&id];
        Blob {
            id,
            fingerprint: row.fingerprint,
            identity: row.identity.clone(),
            size: row.size,
            content: row.content,
            damaged: row.damaged.is_some(),
        }
    }

    /// Returns the entries that show a blob.
    pub(super) fn shown_by(&self, blob: BlobId) -> impl Iterator<Item = EntryId> {
        let shows = move |file: &Option<FileRow>| file.as_ref().is_some_and(|file| file.blob == blob);
        self.entries.iter().filter(move |(_, entry)| shows(&entry.file)).map(|(id, _)| *id)
    }

    pub(super) fn blob_in_space(&self, space: SpaceId, fingerprint: &Fingerprint) -> Option<Blob> {
        self.shown_in_space(space, fingerprint).filter(|blob| !blob.damaged)
    }

    pub(super) fn shown_in_space(&self, space: SpaceId, fingerprint: &Fingerprint) -> Option<Blob> {
        let (id, _) = self.blobs.iter().find(|(_, blob)| blob.fingerprint == *fingerprint)?;
        self.shown_by(*id).any(|entry| self.entries[&entry].space == space).then(|| self.blob(*id))
    }

    pub(super) fn blobs_of_size(&self, space: SpaceId, size: Length, limit: usize) -> Vec<Blob> {
        let alike = self
            .blobs
            .iter()
            .filter(|(_, blob)| blob.size == size && blob.damaged.is_none())
            .map(|(id, _)| *id);
        let shown = alike.filter(|id| self.shown_by(*id).any(|entry| self.entries[&entry].space == space));
        shown.map(|id| self.blob(id)).take(limit).collect()
    }

    pub(super) fn held_by_others(
        &self,
        fingerprint: &Fingerprint,
        beside: UserId,
        group: bool,
        limit: u32,
    ) -> Option<(Blob, u32)> {
        let is_it = |blob: &BlobRow| {
            blob.fingerprint == *fingerprint && blob.orphan.is_none() && blob.damaged.is_none()
        };
        let (id, _) = self.blobs.iter().find(|(_, blob)| is_it(blob))?;
        Some((self.blob(*id), self.holders(*id, beside, group).min(limit)))
    }

    fn holders(&self, blob: BlobId, beside: UserId, group: bool) -> u32 {
        let group_of = |user| self.users.get(&user).and_then(|user| user.group.as_deref());
        let owners = self.shown_by(blob).map(|entry| self.spaces[&self.entries[&entry].space].owner);
        let within = |owner: &UserId| {
            *owner != beside
                && (!group || group_of(beside).is_some_and(|group| group_of(*owner) == Some(group)))
        };
        let holders: BTreeSet<_> = owners.filter(within).collect();
        u32::try_from(holders.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn spares(&self, limit: usize) -> Vec<(Blob, ContentId)> {
        self.spares.iter().map(|(spare, blob)| (self.blob(*blob), *spare)).take(limit).collect()
    }

    pub(super) fn blobs_behind(&self, after: Option<BlobId>, limit: usize) -> Vec<(Blob, Vec<String>)> {
        let live = self.blobs.iter().filter(|(_, blob)| blob.orphan.is_none()).map(|(id, _)| *id);
        let behind = live.filter(|id| after.is_none_or(|after| *id > after)).take(limit);
        let path = |entry: EntryId| {
            format!("/@{}{}", self.spaces[&self.entries[&entry].space].name, self.path_of(entry))
        };
        behind.map(|id| (self.blob(id), self.shown_by(id).take(PATHS_MAX).map(path).collect())).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        let is_file = |entry: &&super::tables::EntryRow| entry.file.is_some();
        let live = || self.blobs.values().filter(|blob| blob.orphan.is_none());
        Stats {
            users: self.users.len() as u64,
            files: self.entries.values().filter(is_file).count() as u64,
            folders: self.entries.values().filter(|entry| entry.file.is_none()).count() as u64,
            blobs: live().count() as u64,
            logical: sum(self.spaces.keys().map(|space| self.used(*space))).get(),
            unique: sum(live().map(|blob| blob.size)).get(),
            objects: self.objects.len() as u64,
            stored: sum(self.objects.values().map(|object| object.length)).get(),
            damaged: live().filter(|blob| blob.damaged.is_some()).count() as u64,
            fragments: self.fragments(),
            dead: self.garbage().0,
            given_up: self.garbage().1,
            uploads: self.uploads.values().filter(|row| row.upload.state == State::Open).count() as u64,
        }
    }

    /// Tells whether a content's extents lie side by side, each inside of its object.
    pub(super) fn is_sound(&self, content: ContentId) -> bool {
        let mut end = Offset::ZERO;
        self.contents[&content].extents.values().all(|extent| {
            let apart = extent.span.start() >= end && !extent.span.is_empty();
            end = extent.span.end();
            let read = extent.object_start.checked_add(extent.span.length());
            apart && read.is_some_and(|read| read <= Length::end(extent.object_length))
        })
    }
}
