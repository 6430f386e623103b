//! A server of a test: a real store in a directory of its own, a free port of 127.0.0.1, and three accounts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hapax_server::app::App;
use hapax_server::auth::{Token, hash_password};
use hapax_server::config::Config;
use hapax_server::serve::{ServeError, Server};
use hapax_store::account::NewToken;
use hapax_store::catalog::UserId;
use hapax_store::check::Depth;
use hapax_store::clock::SystemClock;
use hapax_store::disk::RealDisk;
use hapax_store::key::MasterSource;
use hapax_store::layout::Layout;
use hapax_store::store::{Settings, Store};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::wire::{Client, Wire};

/// The password of every account.
pub(crate) const PASSWORD: &str = "correct horse";

/// A running server.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<Store>,
    config: Config,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
    /// Alice, who owns things; Bob, who does not; Root, who is an admin.
    users: [UserId; 3],
    dir: TempDir,
}

impl Running {
    /// Starts a server with the default settings.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a server whose settings a test changed.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_over(Settings::default(), change).await
    }

    /// Starts a server over a store with other settings.
    pub(crate) async fn start_over(settings: Settings, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
        change(&mut config);
        let (store, users) = outside(|| {
            let store = Arc::new(open(&dir, &settings));
            let hash = hash_password(PASSWORD).unwrap();
            let users = [("alice", false), ("bob", false), ("root", true)]
                .map(|(name, admin)| store.create_user(name.to_owned(), hash.clone(), admin).unwrap());
            (store, users)
        });
        Self::serve(config, store, users, dir).await
    }

    async fn serve(config: Config, store: Arc<Store>, users: [UserId; 3], dir: TempDir) -> Self {
        let app = App::new(config.clone(), Arc::clone(&store)).unwrap();
        let server = Server::bind(app).await.unwrap();
        let address = server.address();
        let (shutdown, told) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            // A test that fails drops the sender, which ends the server as well.
            let _ = told.await;
        }));
        Self { address, store, config, shutdown, task, users, dir }
    }

    /// Ends it in order and starts another one over the same store.
    pub(crate) async fn restart(self) -> Self {
        self.shutdown.send(()).unwrap();
        self.task.await.unwrap().unwrap();
        Self::serve(self.config, self.store, self.users, self.dir).await
    }

    /// Returns the data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns how many bytes of objects lie in the data directory, finished or not.
    pub(crate) fn bytes_of_objects(&self) -> u64 {
        let dirs = std::fs::read_dir(self.data().join("objects")).unwrap();
        let objects = dirs.flat_map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap());
        objects.map(|object| object.unwrap().metadata().unwrap().len()).sum()
    }

    /// Connects to it.
    pub(crate) async fn connect(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// A client without credentials.
    pub(crate) fn nobody(&self) -> Client {
        Client { address: self.address, authorization: None }
    }

    /// Alice, with every scope.
    pub(crate) fn alice(&self) -> Client {
        self.client(self.users[0], "read write admin")
    }

    /// Alice, with some scopes.
    pub(crate) fn alice_who_may(&self, scope: &str) -> Client {
        self.client(self.users[0], scope)
    }

    /// Bob, with every scope.
    pub(crate) fn bob(&self) -> Client {
        self.client(self.users[1], "read write admin")
    }

    /// The admin, with every scope.
    pub(crate) fn root(&self) -> Client {
        self.client(self.users[2], "read write admin")
    }

    fn client(&self, user: UserId, scope: &str) -> Client {
        let token = Token::random().unwrap();
        let new = NewToken {
            user,
            name: "test".to_owned(),
            hash: *token.hash().as_bytes(),
            scope: scope.to_owned(),
            expires: None,
        };
        outside(|| self.store.add_token(new).unwrap());
        Client { address: self.address, authorization: Some(format!("Bearer {}", token.reveal())) }
    }

    /// Returns the URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits until it ended by itself, and returns how.
    pub(crate) async fn ended(self) -> Result<(), ServeError> {
        self.task.await.unwrap()
    }

    /// Tells it to end, waits until it did, and checks what it leaves behind.
    pub(crate) async fn end(self) {
        self.shutdown.send(()).unwrap();
        self.task.await.unwrap().unwrap();
        let store = self.store;
        let report = tokio::task::spawn_blocking(move || store.check(Depth::Data)).await.unwrap().unwrap();
        assert_eq!(report.findings, Vec::<String>::new());
    }
}

/// Runs what blocks on a thread that drives nothing else.
pub(crate) fn outside<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}

fn open(dir: &TempDir, settings: &Settings) -> Store {
    let settings = Settings { watermark: false, ..settings.clone() };
    let clock = Box::new(SystemClock::start());
    let layout = Layout::new(dir.path().join("data"));
    Store::open(Arc::new(RealDisk), &layout, &MasterSource::Own, clock, settings).unwrap()
}
