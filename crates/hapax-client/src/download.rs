//! The download engine. Owns the rounds in which a local file becomes one version of a remote one: whole, proven
//! and at once; whether a response may be used is decided by `hapax_proto::pin`.
//!
//! ```text
//!   stat ──▶ there already: nothing to do
//!     │
//!   tree ──▶ values, proven to be the file's ──▶ fetch parts into name.part ──▶ prove each ──▶ rename
//!                                                  └─ another version: anew ◀── 412
//! ```
//!
//! A part is recorded only after its bytes are proven *and* on disk. A download that goes on reads what it has and proves it
//! once more, on all cores: nothing vouches for a file that lay about between two commands, not its name, number and times.

mod plan;

mod fetch;

mod prove;

mod stream;

mod local;

mod stage;

mod batch;

use std::path::Path;
use std::sync::Arc;

use hapax_proto::digest::FileHash;
use hapax_proto::problem::Kind;
use hapax_proto::span::Length;
use hapax_proto::tree::parts;

pub use self::batch::{Brought, fetch_capacity, get_batch};
use self::fetch::Line;
pub use self::local::{Listed, Local, look_for, take_over};
use self::plan::{Begun, Record, Version, begin, forget, values, version};
use self::prove::{Keeper, still_here};
pub use self::stage::Stage;
pub use self::stream::get_stream;
use crate::api::RemotePath;
use crate::checkpoint::{Direction, Log};
use crate::claim::cached;
use crate::client::Client;
use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::sink::{Finish, Overwrite, Sink, apply_all};
use crate::source::{Source, absolute};
use crate::tasks::joined;

/// How often the remote file may change while it is fetched, before the get fails.
const ROUNDS_MAX: u32 = 5;

/// What to get.
#[derive(Debug, Clone)]
pub struct Get {
    /// The remote file.
    pub source: RemotePath,
    /// Whether a local file of another content may be replaced.
    pub overwrite: Overwrite,
    /// How many parts are on the way at once.
    pub parts_in_flight: usize,
}

impl Get {
    /// Gets a file without replacing another one.
    pub fn new(source: RemotePath) -> Self {
        Self { source, overwrite: Overwrite::Never, parts_in_flight: 4 }
    }
}

/// What came of a get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// In which way the content got here.
    pub how: How,
    /// Its size.
    pub size: Length,
    /// Its hash, by which every byte was proven.
    pub blake3: FileHash,
}

/// In which way a content got here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The local file has it already.
    There,
    /// It was fetched from the start.
    Fetched,
    /// An earlier transfer was continued.
    Resumed {
        /// How many bytes were here.
        kept: Length,
    },
    /// What had been fetched of an earlier version was dropped.
    Changed,
}

/// Gets a remote file. The same call again, in any process, goes on where this one was ended.
///
/// # Errors
/// [`TransferError::TargetExists`] if another file has the name and may not be replaced, [`TransferError::NoSpace`]
/// if the disk is full, [`TransferError::Corrupt`] if a part arrives damaged however often it is asked for. Whatever
/// the error, what was proven is kept.
pub async fn get_file(
    client: &Client,
    get: &Get,
    target: &Path,
    progress: &Arc<dyn Progress>,
) -> Result<Got, TransferError> {
    let target = absolute(target)?;
    let remote = get.source.to_string();
    let key = client.key(Direction::Get, &target, &remote);
    let (log, records) = Log::open(client.checkpoints(), &key).await?;
    let log = Arc::new(log);
    let got = rounds(client, get, (&log, records), &target, progress).await;
    match &got {
        Ok(_) => {
            log.remove().await?;
            progress.event(Event::Done);
        }
        Err(_) => log.tidy().await?,
    }
    got
}

/// Fetches one version after the other, until one holds still.
async fn rounds(
    client: &Client,
    get: &Get,
    (log, mut records): (&Arc<Log<Record>>, Vec<Record>),
    target: &Path,
    progress: &Arc<dyn Progress>,
) -> Result<Got, TransferError> {
    let mut changed = false;
    for _ in 0..ROUNDS_MAX {
        let version = version(client, &get.source, progress).await?;
        if holds(client, target, &version).await? {
            forget(log, records).await?;
            if get.overwrite == Overwrite::Replace {
                apply_all(vec![(target.to_owned(), version.finish(get.overwrite))]).await;
            }
            return Ok(version.got(How::There));
        }
        if get.overwrite == Overwrite::Never && target.symlink_metadata().is_ok() {
            return Err(TransferError::TargetExists { path: target.to_owned() });
        }
        let begun = begin(log, std::mem::take(&mut records), target, &version).await?;
        changed |= begun.changed;
        match round(client, get, log, (&version, &begun), progress).await {
            Ok(kept) => {
                let how = how(changed, kept);
                begun.sink.publish(target, version.finish(get.overwrite)).await?;
                return Ok(version.got(how));
            }
            Err(TransferError::Changed { .. }) => {
                progress.event(Event::Changed);
                changed = true;
                records = begun.recall(&version);
            }
            Err(error) => return Err(error),
        }
    }
    Err(TransferError::Unsettled { path: get.source.to_string(), rounds: ROUNDS_MAX })
}

/// Fetches what is missing of one version, and returns how much of it was here.
async fn round(
    client: &Client,
    get: &Get,
    log: &Arc<Log<Record>>,
    (version, begun): (&Version, &Begun),
    progress: &Arc<dyn Progress>,
) -> Result<Length, TransferError> {
    let size = version.identity.size;
    let proven = Arc::new(values(client, &get.source, version, progress).await?);
    let here = still_here(&begun.sink, &proven, begun.here.clone()).await?;
    let (kept, missing): (Vec<_>, Vec<_>) = parts(size).partition(|(part, _)| here.contains(part));
    let kept = Length::new(kept.iter().map(|(_, span)| span.length().get()).sum());
    progress.event(Event::Begun { size: Some(size), kept });
    let keeper = Arc::new(Keeper::new(begun.sink.clone(), Arc::clone(log), Arc::clone(progress)));
    let line = Line::new(client, &get.source, version, progress);
    let mut missing = missing.into_iter().map(|(part, _)| part);
    let mut lines = tokio::task::JoinSet::new();
    loop {
        while lines.len() < get.parts_in_flight.max(1) {
            let Some(part) = missing.next() else { break };
            let (line, proven, keeper, sink) =
                (line.clone(), Arc::clone(&proven), Arc::clone(&keeper), begun.sink.clone());
            lines.spawn(async move {
                let length = fetch::fetch_part(&line, &proven, part, &sink).await?;
                keeper.keep(part, length).await
            });
        }
        match lines.join_next().await {
            Some(ended) => joined(ended)?,
            None => return Ok(kept),
        }
    }
}

/// Tells whether the local file has the version's content.
async fn holds(client: &Client, target: &Path, version: &Version) -> Result<bool, TransferError> {
    let Ok((file, facts)) = Source::open(target).await else { return Ok(false) };
    if facts.size() != version.identity.size {
        return Ok(false);
    }
    let blake3 = match cached(client, target, &facts).await {
        Some(blake3) => Some(blake3),
        None => file.hash(facts).await?,
    };
    Ok(blake3 == Some(version.identity.blake3))
}

fn how(changed: bool, kept: Length) -> How {
    match kept {
        _ if changed => How::Changed,
        kept if kept.is_zero() => How::Fetched,
        kept => How::Resumed { kept },
    }
}
