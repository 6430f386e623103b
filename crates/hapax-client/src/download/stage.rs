//! Where small files wait for their names: a folder of its own below the one that is received, so that a rename brings
//! each to its place. Owns that folder, its checkpoint and the order in which many files become durable at once.
//!
//! ```text
//!   bytes, proven ──▶ stage/0, stage/1, … ──▶ all of them synced ──▶ each renamed ──▶ the names synced
//! ```
//!
//! A file that was renamed is whole. What a run leaves behind that was killed is a folder whose name its checkpoint
//! knows, and the next run of the same get removes it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, remove_dir_all, symlink_metadata};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hapax_proto::digest::FileHash;
use serde::{Deserialize, Serialize};

use super::Finish;
use crate::api::RemotePath;
use crate::checkpoint::{Direction, Log};
use crate::client::Client;
use crate::error::TransferError;
use crate::sink::rename;
use crate::source::absolute;
use crate::tasks::blocking;

/// One line of the checkpoint of a folder's get.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Record {
    /// Files wait in this folder.
    Stage { folder: PathBuf },
}

/// The place of one get of a folder; nobody else gets the same folder meanwhile.
#[derive(Debug)]
pub struct Stage {
    folder: Arc<Path>,
    log: Log<Record>,
    /// How many files were begun.
    begun: AtomicU64,
}

/// A small file that arrived.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) bytes: Vec<u8>,
    /// What it must hash to.
    pub(super) blake3: FileHash,
    pub(super) target: PathBuf,
    pub(super) finish: Finish,
}

/// What became of a file that arrived.
#[derive(Debug)]
pub(super) enum Placed {
    /// It is whole under its name, and on disk.
    Whole,
    /// It is not what it should be, or its place is on another file system.
    Unfit,
    /// Its name is not to be had.
    Refused(TransferError),
}

impl Stage {
    /// Makes the place for a remote folder below the local folder that it is received into, and removes what an earlier
    /// run left there.
    ///
    /// # Errors
    /// [`TransferError::Locked`] if another process gets the same folder.
    pub async fn open(client: &Client, source: &RemotePath, root: &Path) -> Result<Self, TransferError> {
        let root = absolute(root)?;
        // With a slash, which no file's key has.
        let remote = format!("{source}/");
        let (log, records) =
            Log::open(client.checkpoints(), &client.key(Direction::Get, &root, &remote)).await?;
        for Record::Stage { folder } in records {
            blocking(move || clear(&folder)).await?;
        }
        log.clear().await?;
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| TransferError::io("name a folder in", &root, io::Error::other(error)))?;
        let folder = root.join(format!(".hapax-{}.part", data_encoding::HEXLOWER.encode(&random)));
        // Known before it is there: a crash in between leaves a record of nothing.
        log.append([Record::Stage { folder: folder.clone() }]).await?;
        log.sync().await?;
        let made = folder.clone();
        let made = blocking(move || DirBuilder::new().mode(0o700).create(&made)).await;
        made.map_err(|error| TransferError::io("create", &folder, error))?;
        Ok(Self { folder: folder.into(), log, begun: AtomicU64::new(0) })
    }

    /// Brings files that arrived to their places; one that cannot get there takes nothing from the others.
    ///
    /// DURABILITY: on return every file that is [`Placed::Whole`] survives power loss, name and bytes.
    ///
    /// # Errors
    /// The disk does not take them; each is whole under its name or not there.
    pub(super) async fn place(&self, files: Vec<Arrived>) -> Result<Vec<Placed>, TransferError> {
        let folder = Arc::clone(&self.folder);
        let first = self.begun.fetch_add(files.len() as u64, Ordering::Relaxed);
        blocking(move || {
            let written: Vec<Option<PathBuf>> = (first..)
                .zip(&files)
                .map(|(number, file)| write(&folder, number, file))
                .collect::<Result<_, _>>()?;
            sync(&folder)?;
            let named = written.into_iter().zip(files).map(|(written, file)| match written {
                Some(written) => give_name(&written, &file),
                None => Placed::Unfit,
            });
            let named = named.collect();
            sync(&folder)?;
            Ok(named)
        })
        .await
    }

    /// Removes the place: the get is over.
    pub async fn close(self) -> Result<(), TransferError> {
        let folder = Arc::clone(&self.folder);
        blocking(move || clear(&folder)).await?;
        self.log.remove().await
    }
}

/// Writes a file under a name that nobody knows; `None` if it is not what it should be.
fn write(folder: &Path, number: u64, file: &Arrived) -> Result<Option<PathBuf>, TransferError> {
    if FileHash::of(&file.bytes) != file.blake3 {
        return Ok(None);
    }
    let path = folder.join(number.to_string());
    let written = OpenOptions::new().write(true).create_new(true).open(&path).and_then(|mut written| {
        written.write_all(&file.bytes)?;
        if file.finish.executable {
            // Whoever may read it may execute it.
            let mode = written.metadata()?.permissions().mode();
            written.set_permissions(Permissions::from_mode(mode | (mode & 0o444) >> 2))?;
        }
        file.finish.modified.map_or(Ok(()), |modified| written.set_modified(modified))
    });
    written.map(|()| Some(path.clone())).map_err(|error| TransferError::io("write", &path, error))
}

/// Waits until all that was written on this file system is on disk: once for all files, however many they are.
fn sync(folder: &Path) -> Result<(), TransferError> {
    let synced = File::open(folder).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
    synced.map_err(|error| TransferError::io("sync", folder, error))
}

fn give_name(written: &Path, file: &Arrived) -> Placed {
    match rename(written, &file.target, file.finish.overwrite) {
        Ok(()) => Placed::Whole,
        Err(TransferError::Io { source, .. }) if source.kind() == io::ErrorKind::CrossesDevices => {
            Placed::Unfit
        }
        Err(error) => Placed::Refused(error),
    }
}

/// Removes a stage with all that waits in it. Nothing is removed through a link.
fn clear(folder: &Path) -> Result<(), TransferError> {
    match symlink_metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {
            remove_dir_all(folder).map_err(|error| TransferError::io("remove", folder, error))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(TransferError::io("remove", folder, error)),
    }
}
