//! The saved progress of a transfer. Owns one append-only log per transfer, its lock and its repair; knows nothing
//! of what the records mean to an upload or a download.
//!
//! ```text
//!   "hapaxck1" │ length u32 LE │ checksum 8 │ JSON │ length │ checksum │ JSON │ …torn tail…
//!                └────────────── record ──────────┘                            └ ignored, then cut off
//! ```
//!
//! A record is whole or it is not there: what a crash left behind the last whole one is cut off before anything
//! new is appended. So a checkpoint can lose its newest records, which costs sending a little again, but it is
//! never corrupt. Whoever relies on a record across a power cut calls `Log::sync` behind it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::TransferError;
use crate::tasks::blocking;

/// What every log begins with: what it is, and the version of its layout.
const MAGIC: &[u8; 8] = b"hapaxck1";
/// How many bytes of a record's BLAKE3 stand before it.
const CHECKSUM_BYTES: usize = 8;
/// What stands before a record: its length and its checksum.
const HEADER_BYTES: usize = 4 + CHECKSUM_BYTES;

/// Which transfer a checkpoint belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// Whether bytes go up or down.
    pub direction: Direction,
    /// The address of the server.
    pub server: &'a str,
    /// Who asks, as far as the client knows.
    pub user: &'a str,
    /// The local file, absolute.
    pub local: &'a Path,
    /// The remote path, long form.
    pub remote: &'a str,
}

/// Whether bytes go up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Put,
    /// From the server.
    Get,
}

impl Key<'_> {
    /// Returns the name of the checkpoint's file: a hash, so that any path has one, and equal ones the same.
    pub fn file_name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let direction = match self.direction {
            Direction::Put => "put",
            Direction::Get => "get",
        };
        let local = self.local.as_os_str().as_encoded_bytes();
        for field in [
            direction.as_bytes(),
            self.server.as_bytes(),
            self.user.as_bytes(),
            local,
            self.remote.as_bytes(),
        ] {
            hasher.update(&(field.len() as u64).to_le_bytes()).update(field);
        }
        let name = hasher.finalize();
        format!("{direction}-{}.checkpoint", data_encoding::HEXLOWER.encode(&name.as_bytes()[..16]))
    }
}

/// A log of records of one type, locked against other processes for as long as it lives.
///
/// The lock is advisory and goes with the process, however it ends.
#[derive(Debug)]
pub struct Log<R> {
    inner: Arc<Mutex<File>>,
    path: PathBuf,
    records: PhantomData<fn(R)>,
}

impl<R: Serialize + DeserializeOwned + Send + 'static> Log<R> {
    /// Opens the log of a transfer, or begins one, and returns the records it holds.
    ///
    /// # Errors
    /// [`TransferError::Locked`] if another process has it.
    pub async fn open(folder: &Path, key: &Key<'_>) -> Result<(Self, Vec<R>), TransferError> {
        let (folder, path) = (folder.to_owned(), folder.join(key.file_name()));
        blocking(move || {
            let failed = |error| TransferError::io("open the checkpoint", &path, error);
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
            let mut file = lock(&path)?;
            let records = repair(&mut file).map_err(failed)?;
            // DURABILITY: the name of the log, so that what is synced into it later can be found again.
            File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
            Ok((Self { inner: Arc::new(Mutex::new(file)), path, records: PhantomData }, records))
        })
        .await
    }

    /// Returns where the log lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends records. They survive the end of the process, but a power cut only after [`sync`](Self::sync).
    pub async fn append(&self, records: impl IntoIterator<Item = R>) -> Result<(), TransferError> {
        let mut bytes = Vec::new();
        for record in records {
            encode(&record, &mut bytes);
        }
        // One write, so that records of concurrent callers are never interleaved.
        self.with("write", move |file| file.write_all(&bytes)).await
    }

    /// Waits until all that was appended is on disk.
    ///
    /// DURABILITY: on return the records survive power loss.
    pub async fn sync(&self) -> Result<(), TransferError> {
        self.with("sync", |file| file.sync_data()).await
    }

    /// Forgets all records. A crash leaves the old ones or none.
    pub async fn clear(&self) -> Result<(), TransferError> {
        self.with("clear", |file| file.set_len(MAGIC.len() as u64)).await
    }

    /// Removes the log: the transfer is over. The lock stays until the log is dropped.
    pub async fn remove(&self) -> Result<(), TransferError> {
        let path = self.path.clone();
        // Removed while it is still locked, so nobody else's log can be hit.
        self.with("remove", move |_| std::fs::remove_file(path)).await
    }

    /// Removes the log if it has no record: the transfer ended before there was anything to go on from.
    pub async fn tidy(&self) -> Result<(), TransferError> {
        let path = self.path.clone();
        self.with("remove", move |file| {
            let empty = file.metadata()?.len() <= MAGIC.len() as u64;
            if empty { std::fs::remove_file(path) } else { Ok(()) }
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut File) -> io::Result<T> + Send + 'static,
    ) -> Result<T, TransferError> {
        let inner = Arc::clone(&self.inner);
        let done = blocking(move || work(&mut inner.lock().unwrap_or_else(PoisonError::into_inner))).await;
        done.map_err(|error| TransferError::io(doing, &self.path, error))
    }
}

/// Opens and locks the file that has the name. A file that lost its name between the two (its transfer ended in
/// another process) is left alone, and the name tried again.
fn lock(path: &Path) -> Result<File, TransferError> {
    let failed = |error: io::Error| TransferError::io("lock", path, error);
    loop {
        let file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(TransferError::Locked { checkpoint: path.to_owned() });
            }
            other => other.map_err(|error| failed(error.into()))?,
        }
        if file.metadata().map_err(failed)?.nlink() > 0 {
            return Ok(file);
        }
    }
}

/// Reads the whole records and cuts off whatever stands behind them.
fn repair<R: DeserializeOwned>(file: &mut File) -> io::Result<Vec<R>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (records, length) = read_log(&bytes);
    if length == 0 {
        file.set_len(0)?;
        file.write_all(MAGIC)?;
    } else if length < bytes.len() {
        file.set_len(length as u64)?;
    }
    Ok(records)
}

/// Reads the whole records of a log, and returns with them how many bytes they take, what every log begins with
/// included: 0 of what is no log, and behind them nothing counts.
pub fn read_log<R: DeserializeOwned>(bytes: &[u8]) -> (Vec<R>, usize) {
    let mut records = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else { return (records, 0) };
    while let Some((record, behind)) = decode(rest) {
        records.push(record);
        rest = behind;
    }
    (records, bytes.len() - rest.len())
}

/// Appends one record to `bytes`.
fn encode(record: &impl Serialize, bytes: &mut Vec<u8>) {
    let json = serde_json::to_vec(record).expect("records are plain values");
    let length = u32::try_from(json.len()).expect("records are small");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum(&json));
    bytes.extend_from_slice(&json);
}

/// Reads the first record, or `None` if it is torn, damaged or of another kind.
fn decode<R: DeserializeOwned>(bytes: &[u8]) -> Option<(R, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let (length, sum) = header.split_first_chunk::<4>()?;
    let (json, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    (checksum(json) == sum).then(|| serde_json::from_slice(json).ok()).flatten().map(|record| (record, rest))
}

fn checksum(json: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::hash(json);
    *hash.as_bytes().first_chunk().expect("a hash is longer than a checksum")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn key(remote: &str) -> Key<'_> {
        Key { direction: Direction::Put, server: "s", user: "u", local: Path::new("/l"), remote }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    async fn open(folder: &TempDir) -> (Log<String>, Vec<String>) {
        Log::open(folder.path(), &key("/r")).await.unwrap()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn every_transfer_has_a_checkpoint_of_its_own() {
        let key = key("/r");
        let others = [
            Key { direction: Direction::Get, ..key },
            Key { server: "t", ..key },
            Key { user: "v", ..key },
            Key { local: Path::new("/m"), ..key },
            Key { remote: "/q", ..key },
            // The same letters, cut elsewhere.
            Key { server: "su", user: "", ..key },
        ];
        for other in others {
            assert_ne!(other.file_name(), key.file_name(), "{other:?}");
        }
    }

    #[tokio::test]
    async fn records_survive_and_a_removed_log_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (log, records) = open(&folder).await;
        assert!(records.is_empty());
        log.append(words(&["a", "b"])).await.unwrap();
        log.tidy().await.unwrap();
        log.append(words(&["c"])).await.unwrap();
        log.sync().await.unwrap();
        drop(log);
        let (log, records) = open(&folder).await;
        assert_eq!(records, ["a", "b", "c"]);
        log.clear().await.unwrap();
        log.append(words(&["d"])).await.unwrap();
        drop(log);
        let (log, records) = open(&folder).await;
        assert_eq!(records, ["d"]);
        let path = log.path().to_owned();
        log.remove().await.unwrap();
        drop(log);
        assert!(!path.exists());
        let (log, records) = open(&folder).await;
        assert!(records.is_empty() && path.exists());
        log.tidy().await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_log_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = open(&folder).await;
        let second = Log::<String>::open(folder.path(), &key("/r")).await;
        assert!(matches!(second, Err(TransferError::Locked { .. })));
        assert!(Log::<String>::open(folder.path(), &key("/other")).await.is_ok());
        drop(log);
        open(&folder).await;
    }

    #[tokio::test]
    async fn a_file_that_is_no_log_becomes_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(key("/r").file_name());
        std::fs::write(&path, b"hapax").unwrap();
        let (log, records) = open(&folder).await;
        assert!(records.is_empty());
        log.append(words(&["a"])).await.unwrap();
        drop(log);
        assert_eq!(open(&folder).await.1, ["a"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Cuts the log anywhere, or damages a byte anywhere behind the cut's last whole record, as a crash may.
        #[test]
        fn a_torn_tail_costs_only_itself(
            written in prop::collection::vec("[a-z]{0,9}", 1..8),
            cut in any::<prop::sample::Index>(),
            flip in any::<Option<prop::sample::Index>>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(key("/r").file_name());
            let mut bytes = MAGIC.to_vec();
            let mut ends = vec![bytes.len()];
            for record in &written {
                encode(record, &mut bytes);
                ends.push(bytes.len());
            }
            let length = cut.index(bytes.len() + 1);
            bytes.truncate(length);
            let mut damaged_at = length;
            if let Some(flip) = flip.filter(|_| length > 0) {
                damaged_at = flip.index(length);
                bytes[damaged_at] ^= 0x40;
            }
            std::fs::write(&path, &bytes).unwrap();
            let whole = ends.iter().filter(|end| **end <= damaged_at.min(length)).count().saturating_sub(1);
            runtime().block_on(async {
                let (log, records) = open(&folder).await;
                prop_assert_eq!(&records, &written[..whole]);
                log.append(words(&["new"])).await.unwrap();
                drop(log);
                let (_, records) = open(&folder).await;
                let expected = [&written[..whole], &words(&["new"])].concat();
                prop_assert_eq!(records, expected);
                Ok(())
            })?;
        }
    }
}
