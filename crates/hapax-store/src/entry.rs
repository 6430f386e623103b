//! The verbs of the tree of entries: look, list, make, move, remove. Atomic and durable each; repeating `make_folder` is
//! harmless, repeating the others tells that there is nothing left to do.

use hapax_proto::name::{EntryName, EntryPath};
use hapax_proto::tree::{PART, PartNumber, PartValue, part_count};

use crate::catalog::{Blob, Completion, Entry, EntryKind, Expect, Intent, SpaceId, Upload};
use crate::error::StoreError;
use crate::store::Store;

/// Names read at a time while a tree is walked.
const PAGE: usize = 512;

/// The values of the parts of a file, ascending.
pub type PartValues = Vec<(PartNumber, PartValue)>;

impl Store {
    /// Returns the entry at a path.
    pub fn entry(&self, space: SpaceId, path: &EntryPath) -> Result<Option<Entry>, StoreError> {
        self.catalog().entry(space, path)
    }

    /// Returns the entry at a path, and of a file of several parts their values, which are those of the very content that
    /// the entry shows. Some are missing only where they are not known: of a file that was composed of others.
    pub fn entry_with_values(
        &self,
        space: SpaceId,
        path: &EntryPath,
    ) -> Result<Option<(Entry, PartValues)>, StoreError> {
        let content = |entry: &Entry| match &entry.kind {
            EntryKind::File { blob, .. } if blob.size > PART => Some((blob.content, part_count(blob.size))),
            _ => None,
        };
        let mut found = self.entry(space, path)?;
        while let Some(entry) = found {
            let Some((shown, parts)) = content(&entry) else { return Ok(Some((entry, Vec::new()))) };
            let values = self.part_values(shown)?;
            if values.len() as u64 == parts {
                return Ok(Some((entry, values)));
            }
            // Between the two looks the bytes may have come to be shown from another copy, and this one been given up.
            found = self.entry(space, path)?;
            if found.as_ref().and_then(content).is_some_and(|(now, _)| now == shown) {
                return Ok(Some((entry, values)));
            }
        }
        Ok(None)
    }

    /// Returns what an upload that is done became, if an entry of its space still shows it, damaged or not. The upload may
    /// have been looked up before it was found out what it is.
    ///
    /// # Errors
    /// [`Refusal::NotFound`](crate::catalog::Refusal::NotFound) for an upload that is forgotten.
    pub fn file_of_upload(&self, upload: &Upload) -> Result<Option<Blob>, StoreError> {
        let mut done = upload.done.clone();
        loop {
            let Some(Completion { fingerprint, .. }) = done else { return Ok(None) };
            let shown = self.catalog().shown_in_space(upload.space, &fingerprint)?;
            if shown.is_some() {
                return Ok(shown);
            }
            done = self.upload(upload.id)?.done.filter(|now| now.fingerprint != fingerprint);
        }
    }

    /// Lists what lies below a folder in byte order of the paths, behind `after`; with `recursive`, all of it.
    ///
    /// What exists throughout is listed exactly once, whatever changes in between pages.
    pub fn list(
        &self,
        space: SpaceId,
        folder: &EntryPath,
        recursive: bool,
        after: Option<&EntryPath>,
        limit: usize,
    ) -> Result<Vec<(EntryPath, Entry)>, StoreError> {
        let mut walk = Walk { store: self, space, recursive, limit, found: Vec::new() };
        let after = after
            .filter(|after| after.starts_with(folder))
            .map(|after| &after.names()[folder.names().len()..]);
        walk.folder(folder, after.unwrap_or_default())?;
        Ok(walk.found)
    }

    /// Makes a folder with its missing parents; tells whether it is new.
    pub fn make_folder(&self, space: SpaceId, path: EntryPath) -> Result<bool, StoreError> {
        let outcome = self.commit(Intent::MakeFolder { space, path, now: self.now() })?;
        Ok(matches!(outcome, crate::catalog::Outcome::Entry { created: true, .. }))
    }

    /// Moves an entry inside its space; a folder goes with all it holds, in one row.
    pub fn move_entry(
        &self,
        space: SpaceId,
        from: EntryPath,
        to: EntryPath,
        overwrite: bool,
    ) -> Result<(), StoreError> {
        self.commit(Intent::Move { space, from, to, overwrite, now: self.now() }).map(drop)
    }

    /// Removes an entry; a folder only if it is empty or `recursive`.
    pub fn remove(
        &self,
        space: SpaceId,
        path: EntryPath,
        expect: Expect,
        recursive: bool,
    ) -> Result<(), StoreError> {
        self.commit(Intent::Remove { space, path, expect, recursive, now: self.now() }).map(drop)
    }

    /// Changes mtime and executable bit of a file, if what is expected stands there.
    pub fn set_meta(
        &self,
        space: SpaceId,
        (path, expect): (EntryPath, Expect),
        mtime: Option<i64>,
        executable: Option<bool>,
    ) -> Result<(), StoreError> {
        self.commit(Intent::SetMeta { space, path, expect, mtime, executable }).map(drop)
    }
}

/// A listing under way. Paths compare name by name, which is the order of a walk; compared as one string, `/` would
/// sort behind some characters of names.
struct Walk<'a> {
    store: &'a Store,
    space: SpaceId,
    recursive: bool,
    limit: usize,
    found: Vec<(EntryPath, Entry)>,
}

impl Walk<'_> {
    /// Walks a folder behind the path `after`, given relative to it.
    fn folder(&mut self, folder: &EntryPath, after: &[EntryName]) -> Result<(), StoreError> {
        let mut last: Option<EntryName> = None;
        if let Some((first, below)) = after.split_first() {
            if self.recursive {
                // The name itself was listed; what lies below it may not have been.
                if let Ok(path) = folder.clone().join(first.clone()) {
                    self.folder(&path, below)?;
                }
            }
            last = Some(first.clone());
        }
        while self.found.len() < self.limit {
            let wanted = PAGE.min(self.limit - self.found.len());
            let page = self.store.catalog().children(self.space, folder, last.as_ref(), wanted)?;
            let full = page.len() == wanted;
            for entry in page {
                let Some(name) = entry.name.clone() else { continue };
                last = Some(name.clone());
                self.visit(folder, name, entry)?;
                if self.found.len() >= self.limit {
                    return Ok(());
                }
            }
            if !full {
                break;
            }
        }
        Ok(())
    }

    fn visit(&mut self, folder: &EntryPath, name: EntryName, entry: Entry) -> Result<(), StoreError> {
        let Ok(path) = folder.clone().join(name) else {
            // Deeper than a path may be: a folder was moved there. It is reached by moving it up again.
            return Ok(());
        };
        let is_folder = matches!(entry.kind, EntryKind::Folder);
        self.found.push((path.clone(), entry));
        if is_folder && self.recursive && self.found.len() < self.limit {
            self.folder(&path, &[])?;
        }
        Ok(())
    }
}
