//! A store whose disk and catalog fail on purpose. Both live in memory and outlive the process that is killed, so one
//! test goes through hundreds of crashes. Also owns how much of all cases is run, and from which seed.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::sync::Arc;

use hapax_store::catalog::model::ModelCatalog;
use hapax_store::catalog::model::faulty::{Fault as CatalogFault, FaultyCatalog, Report, Spell};
use hapax_store::catalog::{Catalog, SpaceId, UserId};
use hapax_store::clock::{TestClock, Timestamp};
use hapax_store::committer::Stores;
use hapax_store::disk::faulty::{FaultyDisk, Torn};
use hapax_store::disk::{Disk, HeldLock};
use hapax_store::id::{DirId, ObjectId, ObjectName};
use hapax_store::key::KeyRing;
use hapax_store::layout::{Ballast, Layout};
use hapax_store::object::local::LocalObjects;
use hapax_store::store::{Settings, Store};

/// Where the data directory lies on the disk in memory.
const DATA: &str = "/data";

/// Makes a clock that the test moves while the store holds it.
pub(crate) fn shared_clock() -> Arc<TestClock> {
    Arc::new(TestClock::at(Timestamp::from_secs(1_790_000_000)))
}

/// How a process ends, if it does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// It goes on; whatever was wrong is right again.
    GoesOn,
    /// It is killed, and another one begins.
    Killed,
    /// The power is cut: what was not synced is gone, apart from what is torn.
    PowerCut(Torn),
}

/// Disk, catalog and keys, and the process that has them open.
pub(crate) struct Rig {
    pub(crate) disk: FaultyDisk,
    /// What this process sees of the catalog; reopened, the next one sees the same rows.
    pub(crate) catalog: Arc<FaultyCatalog>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) user: UserId,
    pub(crate) space: SpaceId,
    pub(crate) settings: Settings,
    rows: Arc<dyn Catalog>,
    ring: Arc<KeyRing>,
    with_ballast: bool,
    /// `None` only between two processes.
    process: Option<Process>,
}

struct Process {
    store: Arc<Store>,
    _lock: HeldLock,
}

pub(crate) fn layout() -> Layout {
    Layout::new(DATA)
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(Arc::new(ModelCatalog::new()), false)
    }

    /// With room held back, which takes a while to make.
    pub(crate) fn with_ballast() -> Self {
        Self::with(Arc::new(ModelCatalog::new()), true)
    }

    pub(crate) fn with(rows: Arc<dyn Catalog>, with_ballast: bool) -> Self {
        let mut rig = Self {
            disk: FaultyDisk::new(),
            catalog: Arc::new(FaultyCatalog::new(Arc::clone(&rows))),
            clock: shared_clock(),
            user: UserId(0),
            space: SpaceId(0),
            settings: Settings { watermark: false, ..Settings::default() },
            rows,
            ring: Arc::new(KeyRing::generate().unwrap()),
            with_ballast,
            process: None,
        };
        rig.open();
        rig.user = rig.store().create_user("ann".to_owned(), "$hash".to_owned(), true).unwrap();
        rig.space = rig.rows.user("ann").unwrap().unwrap().space;
        rig
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.process.as_ref().expect("a process runs").store
    }

    pub(crate) fn ballast(&self) -> Ballast {
        Ballast::new(Arc::new(self.disk.clone()), &layout())
    }

    fn open(&mut self) {
        let layout = layout();
        let lock = layout.open(&self.disk).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let ballast = self.ballast();
        if self.with_ballast {
            ballast.restore().unwrap();
        }
        let stores = Stores {
            objects: Arc::new(LocalObjects::new(disk, layout).unwrap()),
            ring: Arc::clone(&self.ring),
            catalog: Arc::clone(&self.catalog) as Arc<dyn Catalog>,
            ballast: self.with_ballast.then(|| Arc::new(ballast)),
        };
        let clock = Box::new(self.clock.clone());
        let store = Arc::new(Store::assemble(stores, clock, self.settings.clone()).unwrap());
        self.process = Some(Process { store, _lock: lock });
    }

    /// Ends the process as asked, and opens the store again if it has to.
    pub(crate) fn end(&mut self, end: End) {
        match end {
            End::GoesOn => {
                self.disk.heal();
                self.catalog.heal();
            }
            End::Killed => self.reopen_on(FaultyDisk::kill),
            End::PowerCut(torn) => self.reopen_on(|disk| disk.power_cut(torn)),
        }
    }

    fn reopen_on(&mut self, next: impl FnOnce(&FaultyDisk) -> FaultyDisk) {
        // A dead process commits nothing more, nor touches the disk; only then are its threads joined.
        self.catalog.fail(CatalogFault::Before, Spell::Always, Report::Io);
        self.disk = next(&self.disk);
        self.catalog = Arc::new(FaultyCatalog::new(Arc::clone(&self.rows)));
        self.process = None;
        self.open();
    }

    /// Stops in good order and starts again.
    pub(crate) fn restart(&mut self) {
        self.process = None;
        self.open();
    }

    /// Returns every object that the disk has, whoever knows of it.
    pub(crate) fn objects_on_disk(&self) -> BTreeSet<ObjectName> {
        let top = layout().objects_dir();
        let names = |path: &Path| self.disk.list(path).unwrap();
        let in_dir = |dir: std::ffi::OsString| {
            let id = DirId::new(dir.to_str().unwrap().parse().expect("a directory is a number"));
            let objects = names(&top.join(&dir)).into_iter();
            objects.map(move |name| {
                let id_of = ObjectId::parse(name.to_str().unwrap()).expect("nothing else lies there");
                ObjectName { dir: id, id: id_of }
            })
        };
        names(&top).into_iter().flat_map(in_dir).collect()
    }

    /// Returns an object as it lies on the disk.
    pub(crate) fn bytes_of(&self, name: ObjectName) -> Vec<u8> {
        let file = self.disk.open(&layout().object(name)).unwrap();
        let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    /// Returns every object that the catalog has, live or dropped.
    pub(crate) fn objects_in_catalog(&self) -> BTreeSet<ObjectName> {
        self.rows.objects(None, usize::MAX).unwrap().into_iter().map(|(name, _)| name).collect()
    }
}

/// Tells whether all cases are to be run, however long that takes.
pub(crate) fn full() -> bool {
    env::var_os("HAPAX_TEST_FULL").is_some_and(|value| value == "1")
}

/// Returns the seed of this run, and prints it: another with every run, or the one in `HAPAX_TEST_SEED`.
#[expect(clippy::print_stderr, reason = "whoever sees a failure needs the seed")]
pub(crate) fn seed() -> u64 {
    let given = env::var("HAPAX_TEST_SEED").ok().map(|text| text.parse().expect("a seed is a number"));
    let drawn = || u64::from_le_bytes(ObjectId::random().unwrap().as_bytes()[..8].try_into().unwrap());
    let seed = given.unwrap_or_else(drawn);
    eprintln!("HAPAX_TEST_SEED={seed}");
    seed
}

/// Numbers drawn from a seed (splitmix64).
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Draws a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// Says which case it was if the test fails while this lives.
pub(crate) struct Case(pub(crate) String);

impl Drop for Case {
    #[expect(clippy::print_stderr, reason = "whoever sees a failure needs the case")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it failed in this case: {}", self.0);
        }
    }
}
