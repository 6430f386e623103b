//! Entries: the trees of names. Owns walking, dates and versions; what a file points to is `blobs`'s.

use std::collections::BTreeSet;

use hapax_proto::name::{EntryName, EntryPath};

use super::tables::{EntryRow, FileRow, Tables};
use crate::catalog::{Answer, Entry, EntryId, EntryKind, Expect, Outcome, Refusal, SpaceId};
use crate::clock::{Moment, Timestamp};

impl Tables {
    /// Returns the root of a space.
    fn root(&self, space: SpaceId) -> Result<EntryId, Refusal> {
        let is_root = |row: &EntryRow| row.space == space && row.place.is_none();
        self.entries.iter().find(|(_, row)| is_root(row)).map(|(id, _)| *id).ok_or(Refusal::NotFound)
    }

    fn child(&self, folder: EntryId, name: &EntryName) -> Option<EntryId> {
        let is_it = |row: &EntryRow| row.place.as_ref().is_some_and(|(f, n)| *f == folder && n == name);
        self.entries.iter().find(|(_, row)| is_it(row)).map(|(id, _)| *id)
    }

    /// Returns what stands at a path, if anything does. A file on the way is a refusal of its own.
    pub(super) fn locate(&self, space: SpaceId, path: &EntryPath) -> Result<Option<EntryId>, Refusal> {
        let mut at = self.root(space)?;
        for name in path.names() {
            if self.entries[&at].file.is_some() {
                return Err(Refusal::NotAFolder);
            }
            match self.child(at, name) {
                Some(child) => at = child,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Returns an entry and everything above it, upward.
    fn lineage(&self, entry: EntryId) -> Vec<EntryId> {
        let mut lineage = vec![entry];
        let mut at = entry;
        while let Some((folder, _)) = &self.entries[&at].place {
            at = *folder;
            lineage.push(at);
        }
        lineage
    }

    /// Returns an entry and everything below it.
    fn subtree(&self, entry: EntryId) -> BTreeSet<EntryId> {
        self.entries.keys().copied().filter(|id| self.lineage(*id).contains(&entry)).collect()
    }

    /// Returns the date of an entry as it is told, and whether it is weak.
    fn date(&self, entry: EntryId) -> (Timestamp, bool) {
        let rows: Vec<_> = self.lineage(entry).iter().map(|id| &self.entries[id]).collect();
        let latest = rows.iter().map(|row| row.time).max().expect("an entry is in its own lineage");
        let is_weak = rows.iter().any(|row| row.weak && row.time.as_secs() == latest.as_secs());
        (latest, is_weak)
    }

    /// Tells whether a path of a folder that changes now is dated weak. `replaced` is the date that was told of it until now.
    fn is_weak(&self, folder: EntryId, replaced: Option<Timestamp>, now: Timestamp) -> bool {
        let earlier = replaced.max(self.entries[&folder].lost);
        earlier.is_some_and(|earlier| now.as_secs() <= earlier.as_secs())
    }

    /// Notes that a folder loses a name, of which `told` was the last date told.
    fn lose(&mut self, folder: EntryId, told: Timestamp, now: Timestamp) {
        let now = now.max(told);
        let lost = &mut self.entries.get_mut(&folder).expect("a folder outlives what lies in it").lost;
        *lost = (*lost).max(Some(now));
    }

    fn add_entry(
        &mut self,
        folder: EntryId,
        name: &EntryName,
        file: Option<FileRow>,
        now: Timestamp,
    ) -> EntryId {
        let row = EntryRow {
            space: self.entries[&folder].space,
            place: Some((folder, name.clone())),
            version: 1,
            time: now,
            weak: self.is_weak(folder, None, now),
            lost: None,
            file,
        };
        let id = self.next_entry();
        self.entries.insert(id, row);
        id
    }

    /// Makes a folder and what is missing above it.
    fn folder(
        &mut self,
        space: SpaceId,
        path: &EntryPath,
        now: Timestamp,
    ) -> Result<(EntryId, bool), Refusal> {
        let (mut at, mut created) = (self.root(space)?, false);
        for name in path.names() {
            if self.entries[&at].file.is_some() {
                return Err(Refusal::NotAFolder);
            }
            (at, created) = match self.child(at, name) {
                Some(child) => (child, false),
                None => (self.add_entry(at, name, None, now), true),
            };
        }
        Ok((at, created))
    }

    pub(super) fn make_folder(&mut self, space: SpaceId, path: &EntryPath, now: Timestamp) -> Answer {
        let (id, created) = self.folder(space, path, now)?;
        if self.entries[&id].file.is_some() {
            return Err(Refusal::NotAFolder);
        }
        Ok(Outcome::Entry { id, created })
    }

    pub(super) fn move_entry(
        &mut self,
        space: SpaceId,
        from: &EntryPath,
        to: &EntryPath,
        overwrite: bool,
        now: Moment,
    ) -> Answer {
        let Some((folder_path, name)) = to.split_last().filter(|_| !from.is_root()) else {
            return Err(Refusal::Malformed("the root cannot be moved or replaced"));
        };
        let id = self.locate(space, from)?.ok_or(Refusal::NotFound)?;
        let (old_folder, _) = self.entries[&id].place.clone().expect("it is not the root");
        if to == from {
            return Ok(Outcome::Entry { id, created: false });
        }
        let is_folder = |id: EntryId| self.entries[&id].file.is_none();
        if is_folder(id) && to.starts_with(from) {
            return Err(Refusal::IntoItself);
        }
        let folder = self.locate(space, &folder_path)?.ok_or(Refusal::NotFound)?;
        if !is_folder(folder) {
            return Err(Refusal::NotAFolder);
        }
        let target = self.child(folder, name);
        if target.is_some_and(|target| !overwrite || is_folder(target) || is_folder(id)) {
            return Err(Refusal::Exists);
        }
        let told = self.date(id).0;
        let replaced = target.map(|target| self.date(target).0);
        let weak = self.is_weak(folder, replaced, now.wall);
        if let (Some(target), Some(replaced)) = (target, replaced) {
            self.entries.remove(&target);
            self.lose(folder, replaced, now.wall);
        }
        self.lose(old_folder, told, now.wall);
        let row = self.entries.get_mut(&id).expect("just located");
        row.place = Some((folder, name.clone()));
        row.version += 1;
        (row.time, row.weak) = (replaced.unwrap_or(now.wall).max(now.wall), weak);
        self.orphan_blobs(now.steady);
        Ok(Outcome::Entry { id, created: false })
    }

    pub(super) fn remove(
        &mut self,
        space: SpaceId,
        path: &EntryPath,
        expect: Expect,
        recursive: bool,
        now: Moment,
    ) -> Answer {
        if path.is_root() {
            return Err(Refusal::Malformed("the root cannot be removed"));
        }
        let id = self.locate(space, path)?.ok_or(Refusal::NotFound)?;
        self.check_expect(Some(id), expect)?;
        let (folder, _) = self.entries[&id].place.clone().expect("it is not the root");
        let gone = self.subtree(id);
        if gone.len() > 1 && !recursive {
            return Err(Refusal::NotEmpty);
        }
        let told = gone.iter().map(|id| self.date(*id).0).max().expect("the entry itself is among them");
        self.entries.retain(|id, _| !gone.contains(id));
        self.lose(folder, told, now.wall);
        self.orphan_blobs(now.steady);
        Ok(Outcome::Done)
    }

    /// Compares what stands at a path with what its author believed.
    fn check_expect(&self, found: Option<EntryId>, expect: Expect) -> Result<(), Refusal> {
        let holds = match expect {
            Expect::Anything => true,
            Expect::Nothing => found.is_none(),
            Expect::Entry(id, version) => found == Some(id) && self.entries[&id].version == version,
        };
        if holds { Ok(()) } else { Err(Refusal::Unexpected) }
    }

    pub(super) fn set_meta(
        &mut self,
        (space, path, expect): (SpaceId, &EntryPath, Expect),
        mtime: Option<i64>,
        executable: Option<bool>,
    ) -> Answer {
        if path.is_root() {
            return Err(Refusal::IsAFolder);
        }
        let id = self.locate(space, path)?.ok_or(Refusal::NotFound)?;
        if self.entries[&id].file.is_none() {
            return Err(Refusal::IsAFolder);
        }
        self.check_expect(Some(id), expect)?;
        let row = self.entries.get_mut(&id).expect("just located");
        let meta = &mut row.file.as_mut().expect("it is a file").meta;
        meta.mtime = mtime.or(meta.mtime);
        meta.executable = executable.unwrap_or(meta.executable);
        row.version += 1;
        Ok(Outcome::Entry { id, created: false })
    }

    /// Refuses if a file cannot stand at a path.
    pub(super) fn check_target(
        &self,
        space: SpaceId,
        path: &EntryPath,
        expect: Expect,
    ) -> Result<(), Refusal> {
        let found = self.locate(space, path)?;
        if found.is_some_and(|id| self.entries[&id].file.is_none()) {
            return Err(Refusal::IsAFolder);
        }
        self.check_expect(found, expect)
    }

    /// Lets a path show a blob. Returns the entry, and whether a file was replaced.
    pub(super) fn show(
        &mut self,
        space: SpaceId,
        path: &EntryPath,
        file: FileRow,
        now: Timestamp,
    ) -> Result<(EntryId, bool), Refusal> {
        let found = self.locate(space, path)?;
        let Some((folder_path, name)) = path.split_last() else {
            return Err(Refusal::IsAFolder);
        };
        let Some(id) = found else {
            let (folder, _) = self.folder(space, &folder_path, now)?;
            return Ok((self.add_entry(folder, name, Some(file), now), false));
        };
        let (folder, _) = self.entries[&id].place.clone().expect("a file is no root");
        let told = self.date(id).0;
        let weak = self.is_weak(folder, Some(told), now);
        let row = self.entries.get_mut(&id).expect("just located");
        row.version += 1;
        (row.time, row.weak, row.file) = (now.max(told), weak, Some(file));
        Ok((id, true))
    }

    fn told(&self, id: EntryId) -> Entry {
        let row = &self.entries[&id];
        let (modified, date_weak) = self.date(id);
        let kind = match &row.file {
            None => EntryKind::Folder,
            Some(file) => {
                EntryKind::File { blob: self.blob(file.blob), meta: file.meta.clone(), entity: file.entity }
            }
        };
        let name = row.place.as_ref().map(|(_, name)| name.clone());
        Entry { id, space: row.space, name, version: row.version, modified, date_weak, kind }
    }

    pub(super) fn entry(&self, space: SpaceId, path: &EntryPath) -> Option<Entry> {
        Some(self.told(self.locate(space, path).ok()??))
    }

    pub(super) fn children(
        &self,
        space: SpaceId,
        folder: &EntryPath,
        after: Option<&EntryName>,
        limit: usize,
    ) -> Vec<Entry> {
        let Ok(Some(folder)) = self.locate(space, folder) else { return Vec::new() };
        let in_folder = |row: &EntryRow| row.place.as_ref().filter(|place| place.0 == folder).cloned();
        let mut named: Vec<_> =
            self.entries.iter().filter_map(|(id, row)| Some((in_folder(row)?.1, *id))).collect();
        named.retain(|(name, _)| after.is_none_or(|after| name > after));
        named.sort();
        named.into_iter().take(limit).map(|(_, id)| self.told(id)).collect()
    }

    /// Returns the path of an entry, for people.
    pub(super) fn path_of(&self, id: EntryId) -> String {
        let names = self.lineage(id).into_iter().rev().filter_map(|id| self.entries[&id].place.clone());
        names.fold(String::new(), |path, (_, name)| path + "/" + name.as_str())
    }
}
