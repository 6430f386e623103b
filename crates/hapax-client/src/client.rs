//! What every transfer needs: the way to the server, the places on disk, the patience. Owns none of the work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hapax_proto::course::Abilities;
use hapax_proto::dialect::native::Service;
use hapax_proto::retry::Policy;
use tokio::sync::OnceCell;

use crate::api::Api;
use crate::attempt::repeat;
use crate::cache::Cache;
use crate::checkpoint::{Direction, Key};
use crate::error::TransferError;
use crate::progress::{Progress, Silent};
use crate::wire::{Credentials, Deadlines, Wire};

/// Where a client keeps what it knows between runs.
#[derive(Debug, Clone)]
pub struct Places {
    /// The folder of the checkpoints; made on first use.
    pub checkpoints: PathBuf,
    /// The file of the digest cache; without one, files are hashed whenever their hash is needed.
    pub cache: Option<PathBuf>,
}

/// Who a client talks to, and how.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// The server's address, with its path if it has one.
    pub address: String,
    /// Who asks.
    pub credentials: Credentials,
    /// Whose transfers these are: part of the name of a checkpoint, so that two accounts do not share one.
    pub user: String,
    /// How long the line may be silent.
    pub deadlines: Deadlines,
    /// How patient transfers are.
    pub patience: Policy,
}

/// One server, as one user. Clones share everything.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) api: Api,
    pub(crate) policy: Arc<Policy>,
    pub(crate) cache: Option<Cache>,
    checkpoints: Arc<Path>,
    user: Arc<str>,
    /// What the server is and can do, once it was asked.
    service: Arc<OnceCell<Service>>,
}

impl Client {
    /// Prepares to talk to a server. Nothing is sent yet.
    ///
    /// A digest cache that cannot be used is done without: it only saves work.
    pub async fn open(connection: Connection, places: Places) -> Result<Self, TransferError> {
        let wire = Wire::new(&connection.address, &connection.credentials, connection.deadlines)?;
        let cache = match &places.cache {
            None => None,
            Some(path) => {
                Cache::open(path).await.inspect_err(|error| tracing::warn!(%error, "no digest cache")).ok()
            }
        };
        Ok(Self {
            api: Api::new(wire),
            policy: Arc::new(connection.patience),
            cache,
            checkpoints: places.checkpoints.into(),
            user: connection.user.into(),
            service: Arc::default(),
        })
    }

    /// Returns the server's routes, for everything that is no transfer.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Returns what the server is and can do. It is asked until it answers, and then no more.
    pub(crate) async fn service(&self, progress: &Arc<dyn Progress>) -> Result<&Service, TransferError> {
        self.service.get_or_try_init(|| repeat(&self.policy, progress, || self.api.service())).await
    }

    /// Returns what the server does with claims; one that does not say is asked for nothing.
    pub(crate) async fn abilities(&self) -> Abilities {
        // Whoever sends meanwhile says what is wrong with the line.
        let silent: Arc<dyn Progress> = Arc::new(Silent);
        let asked = self.service(&silent).await;
        let known = asked.inspect_err(|error| tracing::debug!(%error, "the service is not described"));
        known.map(|service| Abilities::of(&service.features)).unwrap_or_default()
    }

    /// Returns the same as far as it is known without asking.
    pub(crate) fn abilities_known(&self) -> Option<Abilities> {
        self.service.get().map(|service| Abilities::of(&service.features))
    }

    /// Returns the folder of the checkpoints.
    pub(crate) fn checkpoints(&self) -> &Path {
        &self.checkpoints
    }

    /// Names the transfer between a local file, by its absolute path, and a remote one.
    pub(crate) fn key<'a>(&'a self, direction: Direction, local: &'a Path, remote: &'a str) -> Key<'a> {
        Key { direction, server: self.api.wire().base(), user: &self.user, local, remote }
    }
}
