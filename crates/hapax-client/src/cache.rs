//! Digests of known local files. Owns one SQLite file that several processes use at once; never reads the files
//! themselves. What it says is a hint worth a hash: it is asked with the facts of the file as they are now, and it
//! was told facts that had settled, so what it answers is as true as the file system's clock.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hapax_proto::digest::FileHash;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::TransferError;
use crate::source::{Facts, Stamp};
use crate::tasks::blocking;

/// The layout of the file. One of another layout is emptied: nothing in it cannot be computed again.
const VERSION: i64 = 1;

/// How long one process waits for another one's write.
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    BEGIN IMMEDIATE;
    DROP TABLE IF EXISTS digests;
    CREATE TABLE digests (
        path BLOB PRIMARY KEY,
        size INTEGER NOT NULL,
        modified_s INTEGER NOT NULL, modified_ns INTEGER NOT NULL,
        changed_s INTEGER NOT NULL, changed_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL, device INTEGER NOT NULL,
        blake3 BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1;
    COMMIT;";

/// What a file hashed to.
#[derive(Debug, Clone)]
pub struct Digested {
    /// Where it is.
    pub path: PathBuf,
    /// What it was, before and after.
    pub facts: Facts,
    /// When hashing began.
    pub begun: Stamp,
    /// What it hashed to.
    pub blake3: FileHash,
}

/// The digests of local files, by path. Clones share one connection.
#[derive(Debug, Clone)]
pub struct Cache {
    connection: Arc<Mutex<Connection>>,
    path: Arc<Path>,
}

impl Cache {
    /// Opens the cache, or makes one.
    pub async fn open(path: &Path) -> Result<Self, TransferError> {
        let path: Arc<Path> = path.into();
        blocking(move || {
            if let Some(folder) = path.parent() {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
                made.map_err(|error| TransferError::io("create", folder, error))?;
            }
            // Made here, because SQLite would let everybody read it.
            let made = OpenOptions::new().append(true).create(true).mode(0o600).open(&*path);
            made.map_err(|error| TransferError::io("create", &path, error))?;
            let connection =
                connect(&path).map_err(|source| TransferError::Cache { path: path.to_path_buf(), source })?;
            Ok(Self { connection: Arc::new(Mutex::new(connection)), path })
        })
        .await
    }

    /// Returns the hash of the file that has these facts now, if it was told.
    pub async fn lookup(&self, path: &Path, facts: &Facts) -> Result<Option<FileHash>, TransferError> {
        let found = self.lookup_all(vec![Some((path.to_owned(), *facts))]).await?;
        Ok(found.into_iter().next().map(|(_, _, blake3)| blake3))
    }

    /// Returns the hashes of those of the files that were told, each with its position and its facts. What nobody could
    /// look at is passed over.
    pub async fn lookup_all(
        &self,
        files: Vec<Option<(PathBuf, Facts)>>,
    ) -> Result<Vec<(usize, Facts, FileHash)>, TransferError> {
        self.with(move |connection| {
            // One transaction: so the file is locked and looked at once, and not for each path.
            let transaction = connection.unchecked_transaction()?;
            let mut statement = transaction.prepare_cached(
                "SELECT blake3 FROM digests WHERE path = ?1 AND size = ?2 AND modified_s = ?3 AND modified_ns = ?4
                 AND changed_s = ?5 AND changed_ns = ?6 AND inode = ?7 AND device = ?8",
            )?;
            let mut found = Vec::new();
            for (position, file) in files.iter().enumerate() {
                let Some((path, facts)) = file else { continue };
                let row = Row::of(path, facts);
                let told = statement.query_row(
                    params![row.path, row.size, row.modified.0, row.modified.1, row.changed.0, row.changed.1, row.inode, row.device],
                    |found| found.get::<_, [u8; 32]>(0),
                );
                found.extend(told.optional()?.map(|blake3| (position, *facts, FileHash::new(blake3))));
            }
            drop(statement);
            transaction.commit()?;
            Ok(found)
        })
        .await
    }

    /// Remembers the hash of a file whose facts were the same before and after it was hashed, from `begun` on.
    /// Facts that had not settled then are not remembered.
    pub async fn store(
        &self,
        path: &Path,
        facts: &Facts,
        begun: Stamp,
        blake3: FileHash,
    ) -> Result<(), TransferError> {
        self.store_all(vec![Digested { path: path.to_owned(), facts: *facts, begun, blake3 }]).await
    }

    /// Remembers the hashes of several files at once, as [`Self::store`] does each.
    pub async fn store_all(&self, mut files: Vec<Digested>) -> Result<(), TransferError> {
        files.retain(|file| file.facts.settled_at(file.begun));
        if files.is_empty() {
            return Ok(());
        }
        self.with(move |connection| {
            let transaction = connection.unchecked_transaction()?;
            let mut statement = transaction.prepare_cached(
                "INSERT OR REPLACE INTO digests VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            for Digested { path, facts, blake3, .. } in &files {
                let row = Row::of(path, facts);
                let (modified, changed) = (row.modified, row.changed);
                statement.execute(params![
                    row.path,
                    row.size,
                    modified.0,
                    modified.1,
                    changed.0,
                    changed.1,
                    row.inode,
                    row.device,
                    blake3.as_bytes()
                ])?;
            }
            drop(statement);
            transaction.commit()
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, TransferError> {
        let connection = Arc::clone(&self.connection);
        let done = blocking(move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner))).await;
        done.map_err(|source| TransferError::Cache { path: PathBuf::from(&*self.path), source })
    }
}

/// The facts as SQLite keeps them: its integers are signed.
struct Row<'a> {
    path: &'a [u8],
    size: i64,
    modified: (i64, u32),
    changed: (i64, u32),
    inode: i64,
    device: i64,
}

impl<'a> Row<'a> {
    fn of(path: &'a Path, facts: &Facts) -> Self {
        Self {
            path: path.as_os_str().as_bytes(),
            size: facts.size().get().cast_signed(),
            modified: (facts.modified.seconds, facts.modified.nanos),
            changed: (facts.changed.seconds, facts.changed.nanos),
            inode: facts.inode.cast_signed(),
            device: facts.device.cast_signed(),
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A power cut may lose the newest rows, not the file.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Without it a cached statement is compiled again for every path.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        connection.execute_batch(SCHEMA)?;
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use hapax_proto::span::Length;

    use super::*;

    fn facts() -> Facts {
        let stamp = Stamp { seconds: 100, nanos: 5 };
        Facts {
            size: Length::new(7).into(),
            modified: stamp,
            changed: stamp,
            inode: u64::MAX,
            device: 3,
            executable: false,
        }
    }

    const LATER: Stamp = Stamp { seconds: 200, nanos: 0 };

    #[tokio::test]
    async fn a_digest_is_found_by_exactly_the_facts_it_was_stored_with() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache.db")).await.unwrap();
        let (path, hash) = (Path::new("/a"), FileHash::of(b"a"));
        cache.store(path, &facts(), LATER, hash).await.unwrap();
        assert_eq!(cache.lookup(path, &facts()).await.unwrap(), Some(hash));
        assert_eq!(cache.lookup(Path::new("/b"), &facts()).await.unwrap(), None);
        let stamp = Stamp { seconds: 100, nanos: 6 };
        let others = [
            Facts { size: Length::new(8).into(), ..facts() },
            Facts { modified: stamp, ..facts() },
            Facts { changed: stamp, ..facts() },
            Facts { inode: 1, ..facts() },
            Facts { device: 1, ..facts() },
        ];
        for other in others {
            assert_eq!(cache.lookup(path, &other).await.unwrap(), None, "{other:?}");
        }
        // The executable bit is no part of a file's content.
        assert_eq!(cache.lookup(path, &Facts { executable: true, ..facts() }).await.unwrap(), Some(hash));
    }

    #[tokio::test]
    async fn what_is_remembered_is_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/cache.db");
        let cache = Cache::open(&file).await.unwrap();
        cache.store(Path::new("/a"), &facts(), LATER, FileHash::of(b"a")).await.unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file.parent().unwrap()), 0o700);
        // What SQLite keeps beside the file has the file's mode.
        for file in std::fs::read_dir(file.parent().unwrap()).unwrap() {
            let path = file.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }

    #[tokio::test]
    async fn facts_that_had_not_settled_are_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache.db")).await.unwrap();
        let early = Stamp { seconds: 102, nanos: 4 };
        cache.store(Path::new("/a"), &facts(), early, FileHash::of(b"a")).await.unwrap();
        assert_eq!(cache.lookup(Path::new("/a"), &facts()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn processes_share_the_file_and_another_layout_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cache.db");
        let (ours, theirs) = (Cache::open(&file).await.unwrap(), Cache::open(&file).await.unwrap());
        ours.store(Path::new("/a"), &facts(), LATER, FileHash::of(b"a")).await.unwrap();
        theirs.store(Path::new("/a"), &facts(), LATER, FileHash::of(b"b")).await.unwrap();
        assert_eq!(ours.lookup(Path::new("/a"), &facts()).await.unwrap(), Some(FileHash::of(b"b")));
        drop((ours, theirs));
        Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let cache = Cache::open(&file).await.unwrap();
        assert_eq!(cache.lookup(Path::new("/a"), &facts()).await.unwrap(), None);
    }
}
