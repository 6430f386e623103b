//! The settings of a server, as values with defaults that are safe on a network. Owns their names and units; it
//! reads no file, no environment and no argument: that is the program's work.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use hapax_proto::batch::Limits;
use hapax_proto::claim::{CHALLENGE_LIFETIME, Rules};
use hapax_proto::span::{Length, SIZE_MAX};

/// Everything a server can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// What stands before every path of ours: empty, or `/` and segments without a slash at the end.
    pub base_path: String,
    /// The certificate and key to serve TLS with; plain TCP without.
    pub tls: Option<TlsFiles>,
    /// The origins of foreign pages that may read answers, exactly as browsers spell them: `https://host:port`.
    pub allowed_origins: Vec<String>,
    /// How claims are answered: whose contents they reach, and by which digests contents are found, besides BLAKE3: those
    /// of [`LOOKUPS`](hapax_proto::claim::LOOKUPS) that are worth reading every content once.
    pub claims: Rules,
    /// How fast background work goes.
    pub jobs: JobLimits,
    /// How long anything may take.
    pub deadlines: Deadlines,
    /// How much of anything there may be.
    pub caps: Caps,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4_000)),
            base_path: String::new(),
            tls: None,
            allowed_origins: Vec::new(),
            claims: Rules::default(),
            jobs: JobLimits::default(),
            deadlines: Deadlines::default(),
            caps: Caps::default(),
        }
    }
}

/// How fast background work goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLimits {
    /// How many bytes a second all jobs together read; no limit if absent.
    pub rate: Option<NonZero<u64>>,
    /// Within what time everything that is stored is read and authenticated; zero turns that off. It has a rate of its own,
    /// which follows from this.
    pub scrub_period: Duration,
}

impl Default for JobLimits {
    fn default() -> Self {
        // Of what hashing and authenticating take, about a fifth of one core.
        Self { rate: NonZero::new(64 << 20), scrub_period: Duration::from_hours(30 * 24) }
    }
}

/// Where the certificate lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, PEM, the server's own certificate first.
    pub certificates: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// How long anything may take. They protect the server from peers that do nothing, so none of them restarts
/// without a byte of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From the first byte expected to the end of a request's header; on an idle connection, to the next request.
    pub header: Duration,
    /// From one piece of a body to the next, in either direction.
    pub idle_body: Duration,
    /// How long a challenge may be answered.
    pub challenge: Duration,
    /// How long a shutdown waits for running requests.
    pub drain: Duration,
    /// The part of `drain` that is left to requests, after they were cut short, to make durable what they have.
    pub flush: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle_body: Duration::from_mins(1),
            challenge: CHALLENGE_LIFETIME,
            drain: Duration::from_secs(10),
            flush: Duration::from_secs(4),
        }
    }
}

/// How much of anything there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Connections at once; more wait in the system's queue.
    pub connections: u32,
    /// Requests of one account at once.
    pub requests_per_account: u32,
    /// Parts of one upload that are received at once.
    pub parts_in_flight: u32,
    /// Unfinished uploads of one account.
    pub uploads_per_account: u32,
    /// The largest file.
    pub size: Length,
    /// The largest JSON body, in bytes.
    pub json_bytes: usize,
    /// Items of one request for claims.
    pub claims: usize,
    /// What one batch of small files may hold.
    pub batch: Limits,
    /// Batches of one account that are received at once; each takes a few MiB of memory, and its answers.
    pub batches_in_flight: u32,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            connections: 16_384,
            requests_per_account: 256,
            parts_in_flight: 16,
            uploads_per_account: 1_000,
            size: Length::new(SIZE_MAX),
            json_bytes: 8 << 20,
            claims: 10_000,
            batch: Limits::default(),
            batches_in_flight: 8,
        }
    }
}
