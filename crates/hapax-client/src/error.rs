//! What can go wrong with a transfer. Owns the one error type of this crate and the advice it gives; never chooses
//! words for people beyond one sentence, nor an exit code.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hapax_proto::digest::{Digest, FileHash};
use hapax_proto::pin::Refusal;
use hapax_proto::problem::{Advice, Kind, Problem};
use hapax_proto::span::{Length, Offset};
use hapax_proto::tree::{PartNumber, PartValue, Unproven};
use http::StatusCode;

/// A transfer that did not come to its end. Callers branch on [`advice`](Self::advice).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// A local file cannot be read or written.
    #[error("cannot {doing} {path}", path = path.display())]
    Io {
        /// What was tried: a verb.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The local disk, or the quota on it, is full. What was proven before is kept.
    #[error("no space left for {path}", path = path.display())]
    NoSpace {
        /// The file that was written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The source is no regular file.
    #[error("{path} is no regular file", path = path.display())]
    NotAFile {
        /// The source.
        path: PathBuf,
    },
    /// The local target exists, and replacing it was not asked for.
    #[error("{path} exists already", path = path.display())]
    TargetExists {
        /// The target.
        path: PathBuf,
    },
    /// Another process is busy with the same transfer.
    #[error("another process is transferring this already (it holds {checkpoint})", checkpoint = checkpoint.display())]
    Locked {
        /// The checkpoint that is locked.
        checkpoint: PathBuf,
    },
    /// The digest cache cannot be opened.
    #[error("cannot use the digest cache {path}", path = path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The source kept changing for as many rounds as were allowed.
    #[error("{path} changed while it was read, {rounds} times in a row", path = path.display())]
    SourceChanged {
        /// The source.
        path: PathBuf,
        /// How many rounds were tried.
        rounds: u32,
    },
    /// A stream ended with an error while it was read.
    #[error("cannot read the input at byte {offset}")]
    Input {
        /// How far it was read.
        offset: Offset,
        /// What the system said.
        source: io::Error,
    },
    /// The stream that a download goes to does not take it.
    #[error("cannot write the output at byte {offset}")]
    Output {
        /// How far it was written.
        offset: Offset,
        /// What the system said.
        source: io::Error,
    },
    /// The address of the server, a credential or a target cannot be put into a request.
    #[error("{what} cannot be used in a request")]
    BadAddress {
        /// Which of them.
        what: String,
    },
    /// The line to the server broke, or was silent for too long, or never came up.
    #[error("the connection broke: {doing}")]
    Disconnected {
        /// The request.
        doing: String,
        /// What the HTTP library said.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Bytes came, but far too few of them in too long a time.
    #[error("the connection hardly moves: {doing}: {moved} bytes in {} s", window.as_secs())]
    Stalled {
        /// The request.
        doing: String,
        /// How many bytes came.
        moved: Length,
        /// In how long.
        window: Duration,
    },
    /// The certificate of a server is not believed, or it speaks no TLS.
    #[error("no trusted connection: {doing}")]
    Untrusted {
        /// The request.
        doing: String,
        /// What the TLS library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What came is no answer of HTTP, or too large a one.
    #[error("the server's answer cannot be read: {doing}")]
    NotHttp {
        /// The request.
        doing: String,
        /// What the HTTP library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Redirects that are not followed.
    #[error("the redirects are not followed: {doing}")]
    Redirected {
        /// The request.
        doing: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server that brings something each time it is asked, but too little.
    #[error("gave up on {path} after {requests} requests")]
    Exhausted {
        /// The address.
        path: String,
        /// How many there were.
        requests: u64,
    },
    /// A file that is larger than the room there is for it; found out before a byte was written.
    #[error("{path} has {size} bytes, and there is room for {room}")]
    NoRoom {
        /// The address.
        path: String,
        /// How large the server says it is.
        size: Length,
        /// How much room there is.
        room: Length,
    },
    /// A file that arrived whole and is another one.
    #[error("{path} has the digest {actual}, not {expected}")]
    DigestMismatch {
        /// The address.
        path: String,
        /// The digest it should have.
        expected: Box<Digest>,
        /// The digest it has.
        actual: Box<Digest>,
    },
    /// The server refused, by one of its own problems.
    #[error("{doing}: {about}", about = problem.detail.as_deref().unwrap_or_else(|| problem.kind.about()))]
    Refused {
        /// The request.
        doing: String,
        /// What the server said.
        problem: Box<Problem>,
        /// The least time to wait, if the server said it.
        retry_after: Option<Duration>,
    },
    /// The server, or something on the way to it, answered a status that the request does not know.
    #[error("{doing}: unexpected answer {status}")]
    Unexpected {
        /// The request.
        doing: String,
        /// The status.
        status: StatusCode,
        /// The least time to wait, if the server said it.
        retry_after: Option<Duration>,
    },
    /// The answer's body is not what the protocol says.
    #[error("{doing}: the answer is not understood")]
    Unreadable {
        /// The request.
        doing: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The answer to a ranged request may not be used.
    #[error("{path}: {refusal}")]
    Unusable {
        /// The remote path.
        path: String,
        /// Why not.
        refusal: Refusal,
    },
    /// The remote file is another version now than the one whose parts are held.
    #[error("{path} changed on the server")]
    Changed {
        /// The remote path.
        path: String,
    },
    /// The remote file kept changing for as many rounds as were allowed.
    #[error("{path} changed on the server, {rounds} times in a row")]
    Unsettled {
        /// The remote path.
        path: String,
        /// How many rounds were tried.
        rounds: u32,
    },
    /// The values that a server told do not belong to the file it told.
    #[error("the hash tree of {path} is false")]
    FalseTree {
        /// The remote path.
        path: String,
        /// In which way.
        source: Unproven,
    },
    /// A remote file has no hash yet by which it could be proven, or it is a folder.
    #[error("{path} has no content that can be proven")]
    Unprovable {
        /// The remote path.
        path: String,
    },
    /// The server stored another part than was sent, however often it was sent.
    #[error("part {part} of {path} is stored as {actual:?}, not as {expected}", path = path.display())]
    StoredOtherwise {
        /// The source.
        path: PathBuf,
        /// Which part.
        part: PartNumber,
        /// The value of what was sent.
        expected: PartValue,
        /// The value of what is stored, if the server told one.
        actual: Option<PartValue>,
    },
    /// Bytes that came over the line are not those of the file, however often they were asked for.
    #[error("the {length} bytes of {path} at {offset} are damaged")]
    Corrupt {
        /// The remote path.
        path: String,
        /// Where the damaged part begins.
        offset: Offset,
        /// How long it is.
        length: Length,
        /// The value it should have, where the tree has one.
        expected: Option<PartValue>,
        /// The value it has.
        actual: Option<PartValue>,
    },
    /// The server finished the upload with another content than the source's.
    #[error("{path} is stored as {actual}, but is {expected}", path = path.display())]
    FinishedOtherwise {
        /// The source.
        path: PathBuf,
        /// The hash of the source.
        expected: FileHash,
        /// The hash of what is stored.
        actual: FileHash,
    },
}

impl TransferError {
    /// Returns what the caller should do next.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Disconnected { .. } | Self::Stalled { .. } => Advice::Reprobe,
            Self::Refused { problem, .. } => problem.kind.advice(),
            // Of a foreign status (a proxy on the way), those that pass by themselves.
            Self::Unexpected { status, .. } => match status.as_u16() {
                408 | 425 | 429 | 500 | 502..=504 => Advice::Retry,
                _ => Advice::GiveUp,
            },
            Self::Changed { .. } => Advice::Restart,
            _ => Advice::GiveUp,
        }
    }

    /// Returns the kind of problem that the server refused with, if it did.
    pub fn problem(&self) -> Option<Kind> {
        match self {
            Self::Refused { problem, .. } => Some(problem.kind),
            _ => None,
        }
    }

    /// Returns how long the server asked to wait, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } | Self::Unexpected { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Makes the error of a local file, telling a full disk from everything else.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { path, source }
            }
            _ => Self::Io { doing, path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_every_other_failure() {
        #[track_caller]
        fn check(kind: io::ErrorKind, no_space: bool) {
            let error = TransferError::io("write", Path::new("a"), kind.into());
            assert_eq!(matches!(error, TransferError::NoSpace { .. }), no_space);
            assert_eq!(error.advice(), Advice::GiveUp);
        }
        check(io::ErrorKind::StorageFull, true);
        check(io::ErrorKind::QuotaExceeded, true);
        check(io::ErrorKind::FileTooLarge, true);
        check(io::ErrorKind::PermissionDenied, false);
        check(io::ErrorKind::NotFound, false);
    }

    #[test]
    fn a_foreign_status_is_retried_if_it_passes_by_itself() {
        #[track_caller]
        fn check(status: u16, advice: Advice) {
            let status = StatusCode::from_u16(status).unwrap();
            let error = TransferError::Unexpected { doing: String::new(), status, retry_after: None };
            assert_eq!(error.advice(), advice);
        }
        check(500, Advice::Retry);
        check(502, Advice::Retry);
        check(503, Advice::Retry);
        check(504, Advice::Retry);
        check(429, Advice::Retry);
        check(501, Advice::GiveUp);
        check(404, Advice::GiveUp);
        check(302, Advice::GiveUp);
    }

    #[test]
    fn a_problem_advises_as_its_table_says() {
        for kind in Kind::ALL {
            let problem = Box::new(Problem::new(*kind));
            let error = TransferError::Refused { doing: String::new(), problem, retry_after: None };
            assert_eq!(error.advice(), kind.advice());
            assert_eq!(error.problem(), Some(*kind));
        }
    }
}
