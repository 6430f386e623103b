//! The invariants, said over the tables. Owns their words; changes nothing.

use std::collections::BTreeSet;

use hapax_proto::upload::State;

use super::tables::{ObjectState, Tables};
use crate::catalog::ContentId;

impl Tables {
    pub(super) fn audit(&self) -> Vec<String> {
        let mut broken = Vec::new();
        self.audit_objects(&mut broken);
        self.audit_contents(&mut broken);
        self.audit_blobs(&mut broken);
        self.audit_entries(&mut broken);
        self.audit_uploads(&mut broken);
        broken
    }

    fn audit_objects(&self, broken: &mut Vec<String>) {
        let referred = self.referred();
        for (id, object) in &self.objects {
            if (object.state == ObjectState::Live) != referred.contains(id) {
                broken.push(format!("object {id} is {:?}, against what points to it", object.state));
            }
            if !self.dirs.contains_key(&object.dir) {
                broken.push(format!("object {id} lies in no directory"));
            }
        }
        for content in self.contents.values() {
            for extent in content.extents.values() {
                let described = |row: &super::tables::Object| {
                    (row.dir, row.length) == (extent.object.dir, extent.object_length)
                };
                if !self.objects.get(&extent.object.id).is_some_and(described) {
                    broken.push(format!("an extent points to {}, which is another or none", extent.object));
                }
            }
        }
    }

    /// Every content has exactly one owner: a blob, a blob that has it as a spare, or an open upload.
    fn audit_contents(&self, broken: &mut Vec<String>) {
        let open = self.uploads.values().map(|row| &row.upload).filter(|row| row.state == State::Open);
        let owned: Vec<ContentId> = (self.blobs.values().map(|blob| blob.content))
            .chain(self.spares.keys().copied())
            .chain(open.map(|upload| upload.content))
            .collect();
        let distinct: BTreeSet<_> = owned.iter().copied().collect();
        if distinct.len() != owned.len() || distinct != self.contents.keys().copied().collect() {
            broken.push("a content has no owner, or two, or is missing".to_owned());
        }
        for id in self.contents.keys().filter(|id| !self.is_sound(**id)) {
            broken.push(format!("content {id} has extents over each other or out of their objects"));
        }
    }

    fn audit_blobs(&self, broken: &mut Vec<String>) {
        let shown: BTreeSet<_> =
            self.entries.values().filter_map(|entry| Some(entry.file.as_ref()?.blob)).collect();
        let fingerprints: BTreeSet<_> = self.blobs.values().map(|blob| blob.fingerprint.0).collect();
        if fingerprints.len() != self.blobs.len() {
            broken.push("two blobs have one fingerprint".to_owned());
        }
        for (id, blob) in &self.blobs {
            if blob.orphan.is_none() != shown.contains(id) {
                broken.push(format!("blob {id} is orphan since {:?}, against what shows it", blob.orphan));
            }
            let spares = self.spares.iter().filter(|(_, of)| *of == id).map(|(spare, _)| *spare);
            for content in spares.chain([blob.content]) {
                let is_whole = |row: &super::tables::Content| row.inline.is_some() || row.is_whole(blob.size);
                if !self.contents.get(&content).is_some_and(is_whole) {
                    broken.push(format!("content {content} of blob {id} has holes"));
                }
            }
        }
        for (blob, algorithm) in self.digests.keys().filter(|(blob, _)| !self.blobs.contains_key(blob)) {
            broken.push(format!("the {algorithm} of blob {blob} outlives it"));
        }
        for blob in shown.iter().filter(|blob| !self.blobs.contains_key(blob)) {
            broken.push(format!("an entry shows blob {blob}, which is not there"));
        }
    }

    fn audit_entries(&self, broken: &mut Vec<String>) {
        let mut places = BTreeSet::new();
        for (id, entry) in &self.entries {
            if !places.insert((entry.space, entry.place.clone())) {
                broken.push(format!("entry {id} has a place that another has too"));
            }
            let Some((folder, _)) = &entry.place else { continue };
            let holds = |row: &super::tables::EntryRow| row.file.is_none() && row.space == entry.space;
            if !self.entries.get(folder).is_some_and(holds) {
                broken.push(format!("entry {id} does not lie in a folder of its space"));
            }
        }
        for (id, space) in &self.spaces {
            if !self.entries.values().any(|entry| entry.space == *id && entry.place.is_none()) {
                broken.push(format!("space {id} has no root"));
            }
            if !self.users.contains_key(&space.owner) {
                broken.push(format!("space {id} has no owner"));
            }
        }
    }

    fn audit_uploads(&self, broken: &mut Vec<String>) {
        for (id, row) in &self.uploads {
            let upload = &row.upload;
            if (upload.state == State::Open) != row.ended.is_none() {
                broken.push(format!("upload {id} is open with an end, or ended without one"));
            }
            if (upload.state == State::Done) != upload.done.is_some() {
                broken.push(format!("upload {id} is done without a result, or the other way round"));
            }
            if !self.users.contains_key(&upload.user) || !self.spaces.contains_key(&upload.space) {
                broken.push(format!("upload {id} has no user or no space"));
            }
        }
        for (of, lane) in self.lanes.keys() {
            if !self.uploads.get(of).is_some_and(|row| row.upload.state == State::Open) {
                broken.push(format!("lane {lane:?} of {of} outlives it"));
            }
        }
    }
}
