//! The check: verifies every invariant on demand, and is the oracle of all fault tests. Reads only; what it finds it
//! names by the paths that people know.

use std::collections::BTreeSet;

use crate::catalog::{Blob, BlobId};
use crate::error::StoreError;
use crate::id::{DirId, ObjectId};
use crate::sealed::SealedReader;
use crate::store::Store;

/// Rows read at a time.
const PAGE: usize = 512;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Rows, and whether every object is there with the right length and header.
    Structure,
    /// Every byte is read, authenticated and hashed besides.
    Data,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, in words; empty if all is well.
    pub findings: Vec<String>,
    /// Objects looked at.
    pub objects: u64,
    /// Blobs looked at.
    pub blobs: u64,
    /// Bytes read, if data was read.
    pub bytes: u64,
}

impl Report {
    /// Tells whether all is well.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Store {
    /// Checks the store. Blocks; may run beside everything else.
    ///
    /// # Errors
    /// Only if it cannot look: what is damaged is a finding.
    pub fn check(&self, depth: Depth) -> Result<Report, StoreError> {
        let mut report = Report { findings: self.catalog().audit()?, ..Report::default() };
        self.check_objects(&mut report)?;
        self.check_blobs(depth, &mut report)?;
        Ok(report)
    }

    fn check_objects(&self, report: &mut Report) -> Result<(), StoreError> {
        let mut after: Option<ObjectId> = None;
        let mut dirs: BTreeSet<DirId> = BTreeSet::new();
        loop {
            let page = self.catalog().objects(after, PAGE)?;
            for (object, length) in &page {
                dirs.insert(object.dir);
                report.objects += 1;
                let opened =
                    SealedReader::open(self.stores.objects.as_ref(), &self.stores.ring, *object, *length);
                // Nobody misses an object that was deleted since the page was read, nor one that was given up.
                if let Err(error) = opened
                    && !self.catalog().holders(object.id)?.is_empty()
                {
                    report.findings.push(format!("object {object}: {error}"));
                }
            }
            match page.last() {
                Some((object, _)) if page.len() == PAGE => after = Some(object.id),
                _ => return Ok(()),
            }
        }
    }

    fn check_blobs(&self, depth: Depth, report: &mut Report) -> Result<(), StoreError> {
        let mut after: Option<BlobId> = None;
        loop {
            let page = self.catalog().blobs(after, PAGE)?;
            for (blob, _) in &page {
                report.blobs += 1;
                self.check_blob(blob.clone(), depth, report)?;
            }
            match page.last() {
                Some((blob, _)) if page.len() == PAGE => after = Some(blob.id),
                _ => return Ok(()),
            }
        }
    }

    /// Checks a blob as the catalog showed it a while ago, and where something is wrong looks once more: it may have been
    /// removed since, or have another content by now, which is judged in its place.
    fn check_blob(&self, mut blob: Blob, depth: Depth, report: &mut Report) -> Result<(), StoreError> {
        loop {
            let finding = match depth {
                Depth::Structure => self.check_identity(&blob)?,
                Depth::Data => {
                    report.bytes += blob.size.get();
                    self.check_data(&blob)?
                }
            };
            let Some(what) = finding else { return Ok(()) };
            let Some((now, paths)) = self.live_blob(blob.id)? else { return Ok(()) };
            if now.content == blob.content && now.fingerprint == blob.fingerprint {
                report.findings.push(format!("{}: {what}", paths.join(", ")));
                return Ok(());
            }
            blob = now;
        }
    }

    fn check_identity(&self, blob: &Blob) -> Result<Option<String>, StoreError> {
        match self.identity(blob) {
            Ok(identity) if self.fingerprint(&identity) != blob.fingerprint => {
                Ok(Some("its identity is not the one it is found by".to_owned()))
            }
            // What it is will be known when it has been read.
            Ok(_) | Err(StoreError::Pending) => Ok(None),
            Err(StoreError::Corrupt { what, why }) => Ok(Some(format!("{what}: {why}"))),
            Err(error) => Err(error),
        }
    }

    fn check_data(&self, blob: &Blob) -> Result<Option<String>, StoreError> {
        if let Some(finding) = self.check_identity(blob)? {
            return Ok(Some(finding));
        }
        if self.is_good(blob, blob.content)? {
            return Ok(None);
        }
        Ok(Some(format!("its content of {} bytes is damaged", blob.size)))
    }
}
