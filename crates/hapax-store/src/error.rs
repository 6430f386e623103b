//! Every error of this crate, and what a caller should do about it. Owns the words; never decides an answer on
//! the wire: that is the server's table of problems.

use std::{io, path::Path, sync::Arc};

use hapax_proto::span::Length;
use hapax_proto::upload::State;

/// What went wrong in storage.
///
/// `Display` tells this level only; [`std::error::Error::source`] keeps the cause. The texts name internal paths
/// and belong into logs, never into an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk refused or failed an operation.
    #[error("could not {doing} {what}")]
    Disk {
        /// What was tried, as a verb: "sync", "create".
        doing: &'static str,
        /// What it was tried on.
        what: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Stored bytes are not what was written.
    #[error("{what} is damaged: {why}")]
    Corrupt {
        /// What is damaged, as precisely as known.
        what: String,
        /// How that was noticed.
        why: &'static str,
    },
    /// An object that should be there is not.
    #[error("object {name} is missing")]
    MissingObject {
        /// The directory and id that were asked for.
        name: String,
    },
    /// An object without a byte was to be stored. Nothing is an extent of no bytes, so that is a mistake upstream.
    #[error("object {name} would be empty")]
    EmptyObject {
        /// The directory and id it would have had.
        name: String,
    },
    /// The key ring is whole, but this master key does not open it.
    #[error("the master key does not open this key ring")]
    WrongKey,
    /// A key file cannot be used as it is.
    #[error("key file {path}: {why}")]
    KeyFile {
        /// The file.
        path: String,
        /// What is wrong with it, and what would be right.
        why: &'static str,
    },
    /// The data directory has a format this program does not know.
    #[error("the data directory has format {found}, this program knows format {supported}")]
    Format {
        /// What the format file says.
        found: String,
        /// The one format this program reads and writes.
        supported: u32,
    },
    /// The directory is neither empty nor a data directory of hapax.
    #[error("{dir} is not empty and is not a data directory of hapax")]
    ForeignDirectory {
        /// The directory.
        dir: String,
    },
    /// Another process holds the data directory.
    #[error("{dir} is in use by another process")]
    Locked {
        /// The data directory.
        dir: String,
    },
    /// The catalog's database failed.
    #[error("could not {doing}")]
    Catalog {
        /// What was tried, as a verb with its object.
        doing: &'static str,
        /// What the database said.
        source: rusqlite::Error,
    },
    /// The database library is older than what is trusted.
    #[error("SQLite {found} is too old")]
    Sqlite {
        /// Its version.
        found: String,
    },
    /// The transaction that this was part of failed, and with it every other part.
    #[error("the batch failed")]
    Batch(#[source] Arc<StoreError>),
    /// The committer has ended, because the catalog failed or the store was closed.
    #[error("the store takes nothing more")]
    Closed,
    /// A thread of the committer panicked: a mistake in this program.
    #[error("the {thread} thread of the committer panicked")]
    Panicked {
        /// What the thread did.
        thread: &'static str,
    },
    /// The catalog was asked for a change that is not allowed, or no longer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A run of bytes does not fit where it was to go.
    #[error("{bytes} bytes do not fit into {room}")]
    TooLong {
        /// How many came.
        bytes: Length,
        /// How many would fit.
        room: Length,
    },
    /// An earlier write of the run failed, so that nothing of it can be kept.
    #[error("an earlier write of this run failed")]
    BrokenRun,
    /// The bytes that arrived do not have the digest or value that was declared.
    #[error("the bytes have {actual}, declared was {expected}")]
    Mismatch {
        /// What was declared, hex.
        expected: String,
        /// What they have, hex.
        actual: String,
    },
    /// What a composed file is has not been computed yet.
    #[error("the identity of the file is still being computed")]
    Pending,
    /// Whoever asked for bytes to be read said that it is enough.
    #[error("the reading was stopped")]
    Stopped,
    /// Free space is below the watermark: nothing new is taken in.
    #[error("only {free_bytes} bytes are free")]
    BelowWatermark {
        /// What is free.
        free_bytes: u64,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Randomness(#[source] getrandom::Error),
}

/// Why an intent changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// What the intent is about does not exist.
    #[error("it does not exist")]
    NotFound,
    /// The name is taken.
    #[error("the name is taken")]
    Exists,
    /// A folder stands where a file is needed.
    #[error("it is a folder")]
    IsAFolder,
    /// A file stands where a folder is needed.
    #[error("a name on the way is a file")]
    NotAFolder,
    /// The folder is not empty.
    #[error("the folder is not empty")]
    NotEmpty,
    /// The target lies inside the source.
    #[error("a folder cannot be moved into itself")]
    IntoItself,
    /// What must stand at the path does not.
    #[error("something else stands there by now")]
    Unexpected,
    /// The upload is not open.
    #[error("the upload has ended")]
    Ended(State),
    /// A newer writer, generation or version was committed before.
    #[error("a newer request took over")]
    Superseded,
    /// Bytes are missing.
    #[error("bytes are missing")]
    Incomplete,
    /// The space's quota does not suffice.
    #[error("the quota is used up")]
    Quota {
        /// The most bytes that may lie in the space.
        limit: Length,
        /// What lies in it or is promised.
        used: Length,
    },
    /// The user has too many open uploads.
    #[error("too many unfinished uploads")]
    TooManyUploads,
    /// The user has too many tokens.
    #[error("too many tokens")]
    TooManyTokens,
    /// A directory is not open, or belongs to another boot.
    #[error("the directory of an object is closed")]
    ClosedDir,
    /// An object or blob that a reference is to be added to is not live.
    #[error("it is being deleted")]
    NotLive,
    /// The intent contradicts itself.
    #[error("the intent is malformed: {0}")]
    Malformed(&'static str),
}

/// The kind of an error: what storage as a whole does about it (rule R7 of the storage design).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// No space, or no quota on the file system. Passes when something is removed.
    Full,
    /// Somebody else holds what is needed. Passes by itself.
    Busy,
    /// The disk failed. What the operation covered is lost; repeats make the store read-only.
    Io,
    /// Stored bytes are wrong. Never retried: a second look must not hide it.
    Corrupt,
    /// Something named is not there.
    Missing,
    /// The installation is wrong: keys, format, directory. Only the operator can change that.
    Setup,
    /// What was asked for is not allowed, or no longer; nothing failed.
    Refused,
    /// The caller asked for what the contract excludes.
    Misuse,
}

/// What a caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The same again, later.
    Retry,
    /// Look at the state again first: what was believed to be there is not, and a retry writes a new object.
    Reprobe,
    /// Nothing: tell somebody.
    GiveUp,
}

impl StoreError {
    /// Returns a function that makes a [`StoreError::Disk`] of an I/O error, for `map_err`.
    pub(crate) fn disk(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { doing, what: path.display().to_string(), source }
    }

    /// Returns the kind of this error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Disk { source, .. } if is_full(source) => ErrorClass::Full,
            Self::BelowWatermark { .. } => ErrorClass::Full,
            Self::Batch(cause) => cause.class(),
            Self::Refused(_) | Self::TooLong { .. } | Self::Mismatch { .. } => ErrorClass::Refused,
            Self::Disk { .. } | Self::Randomness(_) | Self::Closed | Self::BrokenRun => ErrorClass::Io,
            Self::Catalog { source, .. } => class_of_database(source),
            Self::Corrupt { .. } => ErrorClass::Corrupt,
            Self::MissingObject { .. } => ErrorClass::Missing,
            Self::EmptyObject { .. } | Self::Panicked { .. } => ErrorClass::Misuse,
            Self::Locked { .. } | Self::Pending | Self::Stopped => ErrorClass::Busy,
            Self::WrongKey
            | Self::KeyFile { .. }
            | Self::Format { .. }
            | Self::ForeignDirectory { .. }
            | Self::Sqlite { .. } => ErrorClass::Setup,
        }
    }

    /// Returns what the caller does next.
    pub fn advice(&self) -> Advice {
        match self.class() {
            ErrorClass::Full | ErrorClass::Busy => Advice::Retry,
            ErrorClass::Io | ErrorClass::Missing | ErrorClass::Refused => Advice::Reprobe,
            ErrorClass::Corrupt | ErrorClass::Setup | ErrorClass::Misuse => Advice::GiveUp,
        }
    }
}

/// Classes what SQLite reports. Whatever is neither a full disk nor a lock is taken for a failing disk: the process
/// ends rather than guess what the database file holds (R7).
fn class_of_database(error: &rusqlite::Error) -> ErrorClass {
    use rusqlite::ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(Code::DiskFull) => ErrorClass::Full,
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => ErrorClass::Busy,
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => ErrorClass::Corrupt,
        None if matches!(error, rusqlite::Error::FromSqlConversionFailure(..)) => ErrorClass::Corrupt,
        _ => ErrorClass::Io,
    }
}

/// Tells whether an I/O error means that there is no space left: `ENOSPC` or `EDQUOT`.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn disk(errno: rustix::io::Errno) -> StoreError {
        StoreError::disk("write", Path::new("/data/x"))(errno.into())
    }

    #[test]
    fn errors_are_classed_by_what_storage_does_about_them() {
        #[track_caller]
        fn check(error: &StoreError, class: ErrorClass, advice: Advice) {
            assert_eq!((error.class(), error.advice()), (class, advice), "{error}");
        }
        check(&disk(rustix::io::Errno::NOSPC), ErrorClass::Full, Advice::Retry);
        check(&disk(rustix::io::Errno::DQUOT), ErrorClass::Full, Advice::Retry);
        check(&disk(rustix::io::Errno::IO), ErrorClass::Io, Advice::Reprobe);
        check(&disk(rustix::io::Errno::ROFS), ErrorClass::Io, Advice::Reprobe);
        let damage = StoreError::Corrupt { what: "object 1".into(), why: "wrong length" };
        check(&damage, ErrorClass::Corrupt, Advice::GiveUp);
        check(&StoreError::MissingObject { name: "1/2".into() }, ErrorClass::Missing, Advice::Reprobe);
        check(&StoreError::Locked { dir: "/data".into() }, ErrorClass::Busy, Advice::Retry);
        check(&StoreError::WrongKey, ErrorClass::Setup, Advice::GiveUp);
    }

    #[test]
    fn the_cause_is_the_source_and_not_the_text() {
        let error = disk(rustix::io::Errno::IO);
        assert_eq!(error.to_string(), "could not write /data/x");
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).unwrap();
        assert_eq!(cause.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    }
}
