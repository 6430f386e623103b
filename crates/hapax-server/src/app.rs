//! What all requests share: settings, gates, the store's door, and the life of the server. It acts on nothing.

use std::net::IpAddr;
use std::sync::Arc;

use hapax_proto::digest::{Algorithm, Digest};
use hapax_store::catalog::{UploadId, UserId};
use hapax_store::store::Store;
use tokio::sync::{Mutex, watch};

use crate::auth::Auth;
use crate::body::Stop;
use crate::challenges::Challenges;
use crate::config::Config;
use crate::limits::Gate;
use crate::metrics::Metrics;
use crate::pace::Jobs;
use crate::recent::Recent;

/// How many digests of stored bytes one account has computed at once.
const DIGESTS_AT_ONCE: u32 = 2;
/// How many requests to begin a session are read at once, of one network and of all: whoever sends them is nobody yet.
const SIGN_INS_OF_NETWORK: u32 = 64;
const SIGN_INS: u32 = 1_024;
/// How many digests of prefixes are remembered: some hundred bytes each.
const PREFIXES_MAX: usize = 4_096;

/// Which digest of which prefix: the numbers change with the bytes of the upload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrefixKey {
    /// The upload.
    pub upload: UploadId,
    /// Its generation.
    pub generation: u32,
    /// The version of its content.
    pub content_version: u64,
    /// The algorithm.
    pub algorithm: Algorithm,
}

/// What all requests share.
pub struct App {
    /// The settings.
    pub config: Config,
    /// Where everything is kept.
    pub store: Arc<Store>,
    /// Who is asking.
    pub auth: Auth,
    /// The numbers of the process.
    pub metrics: Metrics,
    /// Requests of each account.
    pub requests: Gate<UserId>,
    /// Requests to begin a session that are being read, of each network.
    pub sign_ins_of_network: Gate<IpAddr>,
    /// The same of all.
    pub sign_ins: Gate<()>,
    /// Parts in flight of each upload.
    pub parts: Gate<UploadId>,
    /// Batches being received of each account.
    pub batches: Gate<UserId>,
    /// Digests being computed from stored bytes, for each account.
    pub digests: Gate<UserId>,
    /// Digests of the prefixes of unfinished uploads that were computed lately.
    pub prefixes: Recent<PrefixKey, Digest>,
    /// Challenges that are open, and what asking beyond one's own costs.
    pub challenges: Arc<Challenges>,
    /// Background work.
    pub jobs: Jobs,
    /// Held by the one check or sweep that runs.
    pub housework: Mutex<()>,
    /// Where the server is in its life.
    pub life: Life,
}

impl App {
    /// Puts together what requests share.
    ///
    /// # Errors
    /// The operating system gave no random bytes.
    pub fn new(config: Config, store: Arc<Store>) -> Result<Self, getrandom::Error> {
        Ok(Self {
            auth: Auth::new(Arc::clone(&store) as Arc<_>)?,
            store,
            metrics: Metrics::of_process(),
            requests: Gate::new(config.caps.requests_per_account),
            sign_ins_of_network: Gate::new(SIGN_INS_OF_NETWORK),
            sign_ins: Gate::new(SIGN_INS),
            parts: Gate::new(config.caps.parts_in_flight),
            batches: Gate::new(config.caps.batches_in_flight),
            digests: Gate::new(DIGESTS_AT_ONCE),
            prefixes: Recent::new(PREFIXES_MAX),
            challenges: Arc::new(Challenges::new(config.deadlines.challenge)),
            jobs: Jobs::new(&config.jobs),
            housework: Mutex::default(),
            life: Life::begin(),
            config,
        })
    }
}

/// Where a server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Takes requests.
    Running,
    /// Takes no new ones; those that run may end by themselves.
    Draining,
    /// Bodies still arriving are cut, so that what they brought becomes durable.
    Cutting,
}

/// The life of a server, which only moves forward.
#[derive(Debug)]
pub struct Life(watch::Sender<Phase>);

impl Life {
    fn begin() -> Self {
        Self(watch::Sender::new(Phase::Running))
    }

    /// Moves on to a later phase.
    pub fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let moves = phase > *now;
            *now = phase.max(*now);
            moves
        });
    }

    /// Tells whether the server takes requests.
    pub fn is_running(&self) -> bool {
        *self.0.borrow() == Phase::Running
    }

    /// Resolves when the phase, or a later one, is reached.
    pub fn reached(&self, phase: Phase) -> impl Future<Output = ()> + use<> {
        let mut life = self.0.subscribe();
        async move {
            // If the life is gone, so is the server.
            let _ = life.wait_for(|now| *now >= phase).await;
        }
    }

    /// Resolves when a pump has to stop, to be passed to [`crate::body::pump`].
    pub fn cut(&self) -> impl Future<Output = Stop> + use<> {
        let reached = self.reached(Phase::Cutting);
        async move {
            reached.await;
            Stop::Draining
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_life_moves_forward_only() {
        let life = Life::begin();
        assert!(life.is_running());
        let cut = life.cut();
        life.enter(Phase::Cutting);
        life.enter(Phase::Draining);
        assert_eq!(*life.0.borrow(), Phase::Cutting);
        assert_eq!(cut.await, Stop::Draining);
        life.reached(Phase::Draining).await;
    }
}
