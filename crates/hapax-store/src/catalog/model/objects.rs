//! Boots, directories, objects, and the extents that point to them. Owns the states of objects; a content's owner
//! is somebody else's.

use std::collections::BTreeSet;

use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::PartNumber;

use super::tables::{Dir, Object, ObjectState, Tables, overlap};
use crate::catalog::{Answer, BootId, ContentId, Extent, Outcome, Refusal};
use crate::clock::Timestamp;
use crate::id::{DirId, ObjectId, ObjectName};

/// What becomes of objects that lose their last extent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// They wait out the grace, from this time on.
    Drop(Timestamp),
    /// They go at once: nobody was ever shown them.
    Doom,
}

impl Tables {
    pub(super) fn boot(&mut self) -> Outcome {
        let id = BootId(self.boots.last().map_or(1, |last| last.0 + 1));
        self.boots.insert(id);
        Outcome::Booted(id)
    }

    pub(super) fn open_dir(&mut self, boot: BootId) -> Answer {
        if self.boots.last() != Some(&boot) {
            return Err(Refusal::Superseded);
        }
        let id = self.next_dir();
        self.dirs.insert(id, Dir { boot, open: true });
        Ok(Outcome::Dir(id))
    }

    pub(super) fn close_dir(&mut self, dir: DirId) -> Answer {
        self.dirs.get_mut(&dir).ok_or(Refusal::NotFound)?.open = false;
        Ok(Outcome::Done)
    }

    /// Places an extent in a content that has nothing there.
    pub(super) fn place(&mut self, content: ContentId, new: &Extent) -> Result<(), Refusal> {
        let read = Span::at(new.object_start, new.span.length());
        if new.span.is_empty() || !read.is_some_and(|read| Span::whole(new.object_length).contains(read)) {
            return Err(Refusal::Malformed("an extent that its object does not hold"));
        }
        if self.contents[&content].extents.values().any(|old| overlap(old.span, new.span)) {
            return Err(Refusal::Malformed("extents overlap"));
        }
        self.refer(new)?;
        let extents = &mut self.contents.get_mut(&content).expect("callers place in what is there").extents;
        extents.insert(new.span.start(), new.clone());
        Ok(())
    }

    /// R8: makes the object that an extent is to point to live, or refuses.
    fn refer(&mut self, new: &Extent) -> Result<(), Refusal> {
        if let Some(object) = self.objects.get_mut(&new.object.id) {
            if object.state == ObjectState::Doomed {
                return Err(Refusal::NotLive);
            }
            if object.dir != new.object.dir || object.length != new.object_length {
                return Err(Refusal::Malformed("an object is described in two ways"));
            }
            object.state = ObjectState::Live;
            return Ok(());
        }
        let newest = self.boots.last();
        if !self.dirs.get(&new.object.dir).is_some_and(|dir| dir.open && Some(&dir.boot) == newest) {
            return Err(Refusal::ClosedDir);
        }
        let object = Object { dir: new.object.dir, length: new.object_length, state: ObjectState::Live };
        self.objects.insert(new.object.id, object);
        Ok(())
    }

    /// Takes the extents that are told out of a content. Tells whether one of them began in the first part.
    pub(super) fn clear(&mut self, content: ContentId, gone: impl Fn(Span) -> bool, fate: Fate) -> bool {
        let extents = &mut self.contents.get_mut(&content).expect("callers clear what is there").extents;
        let left: Vec<_> = extents.extract_if(.., |_, extent| gone(extent.span)).collect();
        let in_first = left.iter().any(|(start, _)| is_in_first(*start));
        self.release(&left.into_iter().map(|(_, extent)| extent.object.id).collect(), fate);
        in_first
    }

    /// Removes a content.
    pub(super) fn remove_content(&mut self, content: ContentId, fate: Fate) {
        let content = self.contents.remove(&content).expect("callers remove what is there");
        self.release(&content.extents.into_values().map(|extent| extent.object.id).collect(), fate);
    }

    /// Gives up those of the objects that no extent points to.
    fn release(&mut self, candidates: &BTreeSet<ObjectId>, fate: Fate) {
        let held = self.referred();
        for id in candidates.difference(&held) {
            let object = self.objects.get_mut(id).expect("an extent pointed to it until now");
            object.state = match fate {
                Fate::Drop(now) => ObjectState::Dropped(now),
                Fate::Doom => ObjectState::Doomed,
            };
        }
    }

    /// Returns every object that an extent points to.
    pub(super) fn referred(&self) -> BTreeSet<ObjectId> {
        let extents = self.contents.values().flat_map(|content| content.extents.values());
        extents.map(|extent| extent.object.id).collect()
    }

    pub(super) fn doom_objects(&mut self, before: Timestamp, limit: usize) -> Outcome {
        let mut dropped: Vec<_> = self
            .objects
            .iter()
            .filter_map(|(id, object)| match object.state {
                ObjectState::Dropped(since) if since < before => Some((since, *id)),
                _ => None,
            })
            .collect();
        dropped.sort_unstable();
        dropped.truncate(limit);
        let mut names = Vec::new();
        for (_, id) in dropped {
            let object = self.objects.get_mut(&id).expect("just found");
            object.state = ObjectState::Doomed;
            names.push(ObjectName { dir: object.dir, id });
        }
        Outcome::Doomed(names)
    }

    pub(super) fn forget_objects(&mut self, objects: &[ObjectId]) -> Outcome {
        let before = self.objects.len();
        self.objects.retain(|id, object| object.state != ObjectState::Doomed || !objects.contains(id));
        Outcome::Count(before - self.objects.len())
    }

    pub(super) fn extents(&self, content: ContentId, span: Span, limit: usize) -> Vec<Extent> {
        let Some(content) = self.contents.get(&content) else { return Vec::new() };
        content.extents.values().filter(|extent| overlap(extent.span, span)).take(limit).cloned().collect()
    }

    pub(super) fn dead_dirs(&self, boot: BootId) -> Vec<DirId> {
        self.dirs.iter().filter(|(_, dir)| dir.open && dir.boot != boot).map(|(id, _)| *id).collect()
    }

    pub(super) fn objects_in(&self, dir: DirId) -> Vec<ObjectId> {
        self.objects.iter().filter(|(_, object)| object.dir == dir).map(|(id, _)| *id).collect()
    }

    pub(super) fn doomed(&self, limit: usize) -> Vec<ObjectName> {
        let doomed = self.objects.iter().filter(|(_, object)| object.state == ObjectState::Doomed);
        doomed.map(|(id, object)| ObjectName { dir: object.dir, id: *id }).take(limit).collect()
    }

    pub(super) fn objects_behind(&self, after: Option<ObjectId>, limit: usize) -> Vec<(ObjectName, Length)> {
        let kept = self.objects.iter().filter(|(id, object)| {
            object.state != ObjectState::Doomed && after.is_none_or(|after| **id > after)
        });
        kept.map(|(id, object)| (ObjectName { dir: object.dir, id: *id }, object.length))
            .take(limit)
            .collect()
    }
}

/// Tells whether an offset lies in the first part of a file.
pub(super) fn is_in_first(offset: Offset) -> bool {
    PartNumber::holding(offset) == Some(PartNumber::FIRST)
}
