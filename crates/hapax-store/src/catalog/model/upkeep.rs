//! What jobs keep, which blobs are damaged, and where the bytes of a blob are put together anew.

use hapax_proto::span::Length;
use hapax_proto::tree::part_count;
use hapax_proto::upload::State;

use super::objects::Fate;
use super::tables::{ObjectState, Tables, overlap, sum};
use crate::catalog::{
    Answer, Blob, BlobId, ContentId, Extent, Holder, Outcome, Owner, Refusal, Rewrite, Saved,
};
use crate::clock::Timestamp;
use crate::id::{ObjectId, ObjectName};

impl Tables {
    pub(super) fn save_job(&mut self, name: &str, state: &str, now: Timestamp) -> Outcome {
        let saved = Saved { state: state.to_owned(), updated: now };
        self.jobs.insert(name.to_owned(), saved);
        Outcome::Done
    }

    pub(super) fn judge(&mut self, blob: BlobId, content: ContentId, damaged: Option<Timestamp>) -> Answer {
        let row = self.blobs.get_mut(&blob).ok_or(Refusal::NotFound)?;
        if row.content != content {
            return Err(Refusal::Superseded);
        }
        row.damaged = damaged.map(|now| row.damaged.unwrap_or(now));
        Ok(Outcome::Done)
    }

    pub(super) fn rewrite(&mut self, rewrite: &Rewrite) -> Answer {
        let owner = self.blobs.values().find(|row| row.content == rewrite.content);
        let size = owner.ok_or(Refusal::NotFound)?.size;
        let content = &self.contents[&rewrite.content];
        if content.version != rewrite.version {
            return Err(Refusal::Superseded);
        }
        if content.inline.is_some() {
            return Err(Refusal::Malformed("an inline content is rewritten"));
        }
        let cut = |old: &Extent| overlap(old.span, rewrite.clear) && !rewrite.clear.contains(old.span);
        if content.extents.values().any(cut) {
            return Err(Refusal::Malformed("an extent reaches out of the cleared span"));
        }
        self.clear(rewrite.content, |span| overlap(span, rewrite.clear), Fate::Drop(rewrite.now));
        for extent in &rewrite.put {
            self.place(rewrite.content, extent)?;
        }
        let content = self.contents.get_mut(&rewrite.content).expect("just found");
        content.version += 1;
        if content.is_whole(size) { Ok(Outcome::Done) } else { Err(Refusal::Incomplete) }
    }

    /// Gives a blob another copy of its content: in place of one that is damaged, else beside the one that it has.
    pub(super) fn add_copy(&mut self, blob: BlobId, content: ContentId) {
        let row = self.blobs.get_mut(&blob).expect("callers add to what is there");
        let spare = match row.damaged.take() {
            Some(_) => std::mem::replace(&mut row.content, content),
            None => content,
        };
        self.spares.insert(spare, blob);
    }

    pub(super) fn damaged(&self, after: Option<BlobId>, limit: usize) -> Vec<(Blob, Vec<String>)> {
        let damaged = |(blob, _): &(Blob, _)| blob.damaged;
        self.blobs_behind(after, usize::MAX).into_iter().filter(damaged).take(limit).collect()
    }

    pub(super) fn live_objects(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Vec<(ObjectName, Length, Length)> {
        let live = self.objects.iter().filter(|(id, object)| {
            object.state == ObjectState::Live && after.is_none_or(|after| **id > after)
        });
        let extents = || self.contents.values().flat_map(|content| content.extents.values());
        let used =
            |id| sum(extents().filter(|extent| extent.object.id == id).map(|extent| extent.span.length()));
        live.map(|(id, object)| (ObjectName { dir: object.dir, id: *id }, object.length, used(*id)))
            .take(limit)
            .collect()
    }

    pub(super) fn holders_of(&self, object: ObjectId) -> Vec<Holder> {
        let of_it = self
            .contents
            .iter()
            .flat_map(|(content, row)| row.extents.values().map(|extent| (*content, extent.clone())));
        of_it
            .filter(|(_, extent)| extent.object.id == object)
            .map(|(content, extent)| Holder { owner: self.owner(content), content, extent })
            .collect()
    }

    fn owner(&self, content: ContentId) -> Owner {
        if let Some((id, row)) = self.blobs.iter().find(|(_, row)| row.content == content) {
            return if row.orphan.is_some() { Owner::Orphan(*id) } else { Owner::Blob(self.blob(*id)) };
        }
        if let Some(blob) = self.spares.get(&content) {
            return Owner::Spare(self.blob(*blob));
        }
        let open = self.uploads.values().map(|row| &row.upload).filter(|row| row.state == State::Open);
        let owner = open.clone().find(|upload| upload.content == content);
        Owner::Upload(owner.expect("every content has an owner").id)
    }

    pub(super) fn version(&self, content: ContentId) -> Option<u64> {
        let is_owned = self.blobs.values().any(|row| row.content == content);
        self.contents.get(&content).filter(|_| is_owned).map(|content| content.version)
    }

    pub(super) fn extent_counts(&self, after: Option<BlobId>, limit: usize) -> Vec<(Blob, u64)> {
        let live = self.blobs.iter().filter(|(_, row)| row.orphan.is_none());
        let behind = live.filter(|(id, _)| after.is_none_or(|after| **id > after)).take(limit);
        behind.map(|(id, row)| (self.blob(*id), self.contents[&row.content].extents.len() as u64)).collect()
    }

    /// Returns how many extents live blobs have beyond one for each part.
    pub(super) fn fragments(&self) -> u64 {
        let counts = self.extent_counts(None, usize::MAX).into_iter();
        counts.map(|(blob, count)| count.saturating_sub(part_count(blob.size))).sum()
    }

    /// Returns how many bytes of live objects no extent holds, and how many those objects have that wait to be removed.
    pub(super) fn garbage(&self) -> (u64, u64) {
        let dead = |(_, length, used): (ObjectName, Length, Length)| length.get().saturating_sub(used.get());
        let dead = self.live_objects(None, usize::MAX).into_iter().map(dead).sum();
        let given_up = self.objects.values().filter(|object| object.state != ObjectState::Live);
        (dead, sum(given_up.map(|object| object.length)).get())
    }
}
