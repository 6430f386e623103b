//! What every transfer needs: the way to the server, the places on disk, the patience. Owns none of the work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hapax_proto::retry::Policy;

use crate::api::Api;
use crate::cache::Cache;
use crate::checkpoint::{Direction, Key};
use crate::error::TransferError;
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
        })
    }

    /// Returns the server's routes, for everything that is no transfer.
    pub fn api(&self) -> &Api {
        &self.api
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
