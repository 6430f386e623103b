//! What the tests of the store stand on: a store in a directory of its own, and bytes that repeat nowhere.

use std::path::Path;
use std::sync::Arc;

use hapax_proto::digest::{Digests, FileHash};
use hapax_proto::name::EntryPath;
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::PartNumber;
use hapax_store::catalog::{EntryKind, Expect, Meta, SpaceId, Upload, UserId};
use hapax_store::check::Depth;
use hapax_store::clock::SystemClock;
use hapax_store::disk::RealDisk;
use hapax_store::error::StoreError;
use hapax_store::key::MasterSource;
use hapax_store::layout::Layout;
use hapax_store::publish::Target;
use hapax_store::store::{Settings, Store};
use hapax_store::upload::{CreateUpload, Ending};
use tempfile::TempDir;

/// A store in a directory of its own, with one user.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) store: Arc<Store>,
    pub(crate) user: UserId,
    pub(crate) space: SpaceId,
}

pub(crate) fn open(dir: &TempDir) -> Arc<Store> {
    let settings = Settings { watermark: false, ..Settings::default() };
    let layout = Layout::new(dir.path());
    let clock = Box::new(SystemClock::start());
    Arc::new(Store::open(Arc::new(RealDisk), &layout, &MasterSource::Own, clock, settings).unwrap())
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        let user = store.create_user("ann".to_owned(), "$hash".to_owned(), true).unwrap();
        let space = store.catalog().user("ann").unwrap().unwrap().space;
        Self { dir, store, user, space }
    }

    /// Closes the store and opens it again, as a restart does.
    pub(crate) fn restart(self) -> Self {
        let Self { dir, store, user, space } = self;
        drop(Arc::into_inner(store).expect("nothing else holds the store"));
        let store = open(&dir);
        Self { dir, store, user, space }
    }

    /// Opens what another store left in a directory.
    pub(crate) fn reopen(dir: TempDir) -> Self {
        let store = open(&dir);
        let user = store.catalog().user("ann").unwrap().unwrap();
        Self { dir, store, user: user.id, space: user.space }
    }

    /// Closes the store and returns its directory, for whoever reads it without us.
    pub(crate) fn close(self) -> TempDir {
        drop(Arc::into_inner(self.store).expect("nothing else holds the store"));
        self.dir
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn create(&self, path: &str, size: u64) -> Upload {
        let new = CreateUpload {
            user: self.user,
            key: None,
            space: self.space,
            path: EntryPath::parse(path).unwrap(),
            size: Some(Length::new(size)),
            meta: Meta::default(),
            precondition: None,
            declared: Digests::default(),
            notes: None,
            members: Vec::new(),
        };
        self.store.create_upload(new).unwrap().0
    }

    pub(crate) fn target(&self, path: &str) -> Target {
        Target {
            space: self.space,
            path: EntryPath::parse(path).unwrap(),
            expect: Expect::Anything,
            meta: Meta::default(),
        }
    }

    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        let mut file = self.store.begin_file(self.user, self.target(path), None).unwrap();
        for chunk in bytes.chunks(256 << 10) {
            file.push(chunk).unwrap();
        }
        file.publish(Some(FileHash::of(bytes))).unwrap();
    }

    pub(crate) fn send(&self, upload: &Upload, part: u32, from: u64, bytes: &[u8], ending: Ending) -> Length {
        let number = PartNumber::new(part);
        let whole = number.span(upload.size.unwrap()).unwrap().length();
        let mut run = self.store.begin_part(upload, number, Length::new(from), whole, None).unwrap();
        for chunk in bytes.chunks(100_000) {
            run.push(chunk).unwrap();
        }
        run.finish(ending).unwrap().wait().unwrap().have
    }

    pub(crate) fn get(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        let entry =
            self.store.entry(self.space, &EntryPath::parse(path).unwrap())?.expect("there is an entry");
        let EntryKind::File { blob, .. } = entry.kind else { panic!("{path} is a folder") };
        let mut bytes = Vec::new();
        self.store.read_blob(&blob)?.read(Span::whole(blob.size), &mut bytes)?;
        Ok(bytes)
    }

    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        let report = self.store.check(Depth::Data).unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
    }
}

/// Bytes that repeat nowhere.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
