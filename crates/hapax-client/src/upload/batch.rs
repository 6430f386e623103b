//! Many small files in few requests. Owns which files a batch may hold, how it is made and what its answer means for each
//! of them. A file that needs more than that, because it changed or was refused, is left to be put alone.
//!
//! ```text
//!   load ──▶ claim those that are worth it ──▶ one batch ──▶ stored, if the file is still the same
//!    │ changed, too large      │ linked            │ refused
//!    └─────────▶ alone         └─▶ instant         └──────────▶ alone
//! ```
//!
//! What is sent is what was hashed: both come from the same bytes in memory.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use hapax_proto::batch::{END, encode_header};
use hapax_proto::dialect::native::{
    BatchLimits, BatchOutcome, BatchRecord, BatchResult, Completed, Precondition,
};
use hapax_proto::problem::{Advice, Kind};
use hapax_proto::span::Length;

use super::{How, Outcome, Put};
use crate::attempt::repeat;
use crate::cache::Digested;
use crate::checkpoint::Direction;
use crate::claim::{CLAIM_MIN, claim_all, remember_all};
use crate::client::Client;
use crate::error::TransferError;
use crate::progress::{Progress, Silent};
use crate::source::{Loaded, Wanted, absolute, load, unchanged};
use crate::wire::{Content, Meter, Payload, Pieces};

/// Longer files have requests of their own.
const FILE_MAX: u64 = 1 << 20;
/// A batch ends where it would pass this: what a line that breaks costs.
const BATCH_BYTES: u64 = 4 << 20;
/// And where it has so many files.
const BATCH_FILES: usize = 1_000;

/// What batches may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// The longest file, in bytes.
    pub file_max: u64,
    /// Bytes of all files of a batch.
    pub bytes_max: u64,
    /// Files of a batch.
    pub files_max: usize,
    /// Batches at the same time.
    pub in_flight: usize,
}

impl Capacity {
    /// Returns what is sent to a server with these limits.
    pub(crate) fn within(limits: BatchLimits) -> Self {
        let headers = hapax_proto::batch::HEADER_MAX as u64 * BATCH_FILES as u64;
        Self {
            file_max: FILE_MAX.min(limits.record_max),
            bytes_max: BATCH_BYTES.min(limits.body_max.saturating_sub(headers)),
            files_max: BATCH_FILES.min(limits.records_max),
            in_flight: if limits.in_flight > 1 { 2 } else { 1 },
        }
    }

    /// Cuts files of these sizes, the small ones of a longer list, into batches. Returns their positions; a file that is
    /// in none is to be put alone, as is one that no other goes with.
    pub fn cut(&self, sizes: &[(usize, u64)]) -> Vec<Vec<usize>> {
        let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
        for &(position, size) in sizes.iter().filter(|(_, size)| *size <= self.file_max) {
            if batch.len() == self.files_max || (!batch.is_empty() && bytes + size > self.bytes_max) {
                batches.push(std::mem::take(&mut batch));
                bytes = 0;
            }
            batch.push(position);
            bytes += size;
        }
        batches.push(batch);
        batches.retain(|batch| batch.len() > 1);
        batches
    }
}

/// One small file, and what is wished for it.
#[derive(Debug, Clone)]
pub struct Small {
    /// The local file.
    pub source: PathBuf,
    /// Where it goes.
    pub put: Put,
}

/// What came of a file of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Batched {
    /// It is where it should be.
    Stored(Outcome),
    /// It has to be put alone, under this precondition: which is not the one that was wished for where the batch stored
    /// a version that is not the file's any more.
    Alone(Option<Precondition>),
}

/// Asks what batches a server takes; `None` if it takes none, or does not say.
///
/// # Errors
/// The server does not answer.
pub async fn batch_capacity(
    client: &Client,
    progress: &Arc<dyn Progress>,
) -> Result<Option<Capacity>, TransferError> {
    match client.service(progress).await {
        Ok(service) => Ok(service.batch.map(Capacity::within)),
        Err(error) if error.advice() == Advice::GiveUp => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts small files in one request, the same order coming back. Safe to repeat: what is there already is found so.
///
/// # Errors
/// The server does not answer, or not this caller. What single files are refused for is no error: they are to be put
/// alone, and fail by their own names.
pub async fn put_batch(
    client: &Client,
    files: &[Small],
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Batched>, TransferError> {
    let mut loaded = load_all(client, files).await?;
    let mut outcomes: Vec<Option<Completed>> = vec![None; files.len()];
    let mut instant = vec![false; files.len()];
    let claims: Vec<_> = present(&loaded)
        .filter(|(_, loaded)| loaded.facts.size() >= CLAIM_MIN)
        .map(|(index, loaded)| (index, &files[index].put.target, (loaded.facts, loaded.blake3)))
        .collect();
    if !claims.is_empty() {
        for (index, completed) in claim_all(client, &claims, progress).await? {
            (outcomes[index], instant[index]) = (Some(completed), true);
        }
    }
    let body = encode(files, &mut loaded, |index| outcomes[index].is_none());
    for result in send(client, body, progress).await? {
        let index = usize::try_from(result.id).ok().filter(|index| *index < files.len());
        if let (Some(index), BatchOutcome::Stored(completed)) = (index, result.outcome) {
            outcomes[index] = Some(completed);
        }
    }
    settle(client, files, loaded, outcomes.into_iter().zip(instant)).await
}

fn present(loaded: &[Option<Loaded>]) -> impl Iterator<Item = (usize, &Loaded)> {
    loaded.iter().enumerate().filter_map(|(index, loaded)| Some((index, loaded.as_ref()?)))
}

/// Reads the files; `None` for one that is another than was thought, or cannot be read: alone it says why.
async fn load_all(client: &Client, files: &[Small]) -> Result<Vec<Option<Loaded>>, TransferError> {
    let mut wanted = Vec::with_capacity(files.len());
    for file in files {
        let path = absolute(&file.source)?;
        // A small file has a checkpoint only if it was larger once; then its upload is to be cancelled.
        let remote = file.put.target.path.to_string();
        let checkpoint = client.key(Direction::Put, &path, &remote).file_name();
        let unless = client.checkpoints().join(checkpoint);
        wanted.push(Wanted { path, links: file.put.links, unless });
    }
    Ok(load(wanted, FILE_MAX).await)
}

/// Writes the files that are `missing` into a batch; their bytes are not kept twice.
fn encode(files: &[Small], loaded: &mut [Option<Loaded>], missing: impl Fn(usize) -> bool) -> Option<Bytes> {
    let mut body = Vec::new();
    for (index, (file, loaded)) in files.iter().zip(loaded).enumerate() {
        let Some(loaded) = loaded.as_mut().filter(|_| missing(index)) else { continue };
        let record = BatchRecord {
            id: index as u64,
            path: file.put.target.path.to_string(),
            size: loaded.bytes.len() as u64,
            blake3: Some(loaded.blake3),
            mtime: loaded.facts.modified.to_rfc3339(),
            executable: loaded.facts.executable,
            precondition: file.put.target.precondition.clone(),
        };
        let bytes = std::mem::take(&mut loaded.bytes);
        // A name that does not fit into a header is sent in a request that has room for it.
        if let Ok(header) = encode_header(&record) {
            body.extend(header);
            body.extend(bytes);
        }
    }
    (!body.is_empty()).then(|| {
        body.extend(END);
        Bytes::from(body)
    })
}

/// Sends a batch until there is an answer; none means that this server takes no such batch.
async fn send(
    client: &Client,
    body: Option<Bytes>,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<BatchResult>, TransferError> {
    let Some(body) = body else { return Ok(Vec::new()) };
    let answered = repeat(&client.policy, progress, || {
        let meter = Meter::new(Arc::new(Silent));
        let (from, length) = (Pieces::Memory(body.clone()), Length::of(&body));
        client.api.put_batch(Payload::Content(Content { from, length, meter }))
    });
    match answered.await {
        Ok(results) => Ok(results),
        Err(error) if matches!(error.problem(), Some(Kind::Unauthenticated)) => Err(error),
        Err(error) if error.advice() == Advice::GiveUp => {
            tracing::debug!(%error, "the batch is not taken");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Looks whether the files are still what was stored, and remembers what they hash to.
async fn settle(
    client: &Client,
    files: &[Small],
    loaded: Vec<Option<Loaded>>,
    outcomes: impl Iterator<Item = (Option<Completed>, bool)>,
) -> Result<Vec<Batched>, TransferError> {
    let (loaded, same) = unchanged(loaded).await;
    let mut settled = Vec::with_capacity(files.len());
    let mut known = Vec::new();
    let each = files.iter().zip(loaded).zip(same).zip(outcomes);
    for (((file, loaded), same), (completed, instant)) in each {
        let guard = file.put.target.precondition.clone();
        settled.push(match (loaded, completed) {
            (Some(loaded), Some(stored)) if same && stored.blake3 == loaded.blake3 => {
                let Loaded { path, facts, begun, blake3, written_back, .. } = loaded;
                if written_back {
                    known.push(Digested { path, facts, begun, blake3 });
                }
                Batched::Stored(Outcome { how: if instant { How::Instant } else { How::Sent }, stored })
            }
            // Who guards the name guards it from others, not from the version of a moment ago.
            (_, Some(stored)) => Batched::Alone(guard.map(|_| Precondition::Matches(stored.etag))),
            (_, None) => Batched::Alone(guard),
        });
    }
    remember_all(client, known).await;
    Ok(settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_end_at_bytes_or_files() {
        #[track_caller]
        fn check(sizes: &[u64], batches: &[&[usize]]) {
            let capacity = Capacity { file_max: 10, bytes_max: 20, files_max: 4, in_flight: 2 };
            let sizes: Vec<_> = sizes.iter().copied().enumerate().collect();
            assert_eq!(capacity.cut(&sizes), batches);
        }
        check(&[], &[]);
        check(&[1], &[]);
        check(&[1, 1], &[&[0, 1]]);
        check(&[10, 10, 10], &[&[0, 1]]);
        check(&[10, 10, 10, 0], &[&[0, 1], &[2, 3]]);
        check(&[1, 11, 1], &[&[0, 2]]);
        check(&[0; 9], &[&[0, 1, 2, 3], &[4, 5, 6, 7]]);
    }

    #[test]
    fn a_server_that_takes_less_is_sent_less() {
        let limits = BatchLimits { records_max: 10, record_max: 500, body_max: 17 << 20, in_flight: 1 };
        let capacity = Capacity::within(limits);
        assert_eq!((capacity.file_max, capacity.files_max, capacity.in_flight), (500, 10, 1));
        assert!(capacity.bytes_max < 2 << 20);
        let usual =
            BatchLimits { records_max: 10_000, record_max: 16 << 20, body_max: 64 << 20, in_flight: 8 };
        let expected =
            Capacity { file_max: FILE_MAX, bytes_max: BATCH_BYTES, files_max: BATCH_FILES, in_flight: 2 };
        assert_eq!(Capacity::within(usual), expected);
    }
}
