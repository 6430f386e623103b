//! A server of a test: it listens on a free port of 127.0.0.1 and ends with the test.

use std::net::SocketAddr;
use std::sync::Arc;

use hapax_proto::name::UserName;
use hapax_proto::problem::Kind;
use hapax_server::app::App;
use hapax_server::auth::{Account, Accounts, LiveToken, TokenHash};
use hapax_server::config::Config;
use hapax_server::serve::Server;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::wire::Wire;

/// A service nobody has an account of.
struct Nobody;

impl Accounts for Nobody {
    fn account(&self, _: &UserName) -> Result<Option<Account>, Kind> {
        Ok(None)
    }

    fn token(&self, _: &TokenHash) -> Result<Option<LiveToken>, Kind> {
        Ok(None)
    }
}

/// A running server.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts a server with the default settings.
    pub(crate) async fn start() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let app = App::new(Config { listen, ..Config::default() }, Arc::new(Nobody)).unwrap();
        let server = Server::bind(app).await.unwrap();
        let address = server.address();
        let (shutdown, told) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = told.await;
        }));
        Self { address, shutdown, task }
    }

    /// Connects to it.
    pub(crate) async fn connect(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// Returns the URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Tells it to end and waits until it did.
    pub(crate) async fn end(self) {
        self.shutdown.send(()).unwrap();
        self.task.await.unwrap();
    }
}
