//! How a command ends that did not succeed: an exit code that scripts branch on, one sentence that names the thing,
//! and a hint when a next step is known. The only place that gives codes and words to the libraries' errors; it
//! prints nothing and ends no process.

use std::fmt;
use std::io;
use std::path::Path;

use hapax_client::TransferError;
use hapax_proto::pin::Refusal;
use hapax_proto::problem::{Advice, Kind};

/// What a script learns from the end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Of several files some failed, or something broke that has no code of its own.
    Failed = 1,
    /// The command line or a setting cannot be used.
    Usage = 2,
    /// What was named is not there.
    NotFound = 3,
    /// Not with these credentials.
    NotAllowed = 4,
    /// It passes by itself; the same command again goes on.
    Temporary = 5,
    /// Something else has the name, or another process is at it.
    Conflict = 6,
    /// Bytes are not what they should be.
    Integrity = 7,
    /// The source changed while it was read, and went on doing so.
    SourceChanged = 8,
    /// A disk or a quota is full.
    NoSpace = 9,
    /// Ended by Ctrl-C.
    Interrupted = 130,
    /// Ended by SIGTERM.
    Terminated = 143,
}

impl Code {
    /// Returns the number that the process ends with.
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the name in NDJSON events.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::NotAllowed => "not-allowed",
            Self::Temporary => "temporary",
            Self::Conflict => "conflict",
            Self::Integrity => "integrity",
            Self::SourceChanged => "source-changed",
            Self::NoSpace => "no-space",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }
}

/// A command that did not succeed, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What a script learns.
    pub(crate) code: Code,
    /// What happened: one sentence without its full stop, naming the thing.
    pub(crate) sentence: String,
    /// What to do next, if that is known.
    pub(crate) hint: Option<String>,
    /// Whether it is about a local file, which says nothing about others.
    local: bool,
    /// Whether a disk is full, which leaves no room for others either.
    full: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// Makes a failure without a hint.
    pub(crate) fn new(code: Code, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into(), hint: None, local: false, full: false }
    }

    /// Makes the failure of a command line that cannot be used.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Code::Usage, sentence)
    }

    /// Adds the next step.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Makes the failure of a local file: `doing` is a verb such as "read".
    pub(crate) fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let failure = Self::new(io_code(error), format!("cannot {doing} {}: {error}", path.display()));
        Self { local: true, ..failure }
    }

    /// Tells whether going on with other files would only fail in the same way.
    pub(crate) fn ends_everything(&self) -> bool {
        match self.code {
            Code::NotAllowed => !self.local,
            Code::NoSpace => self.full,
            code => matches!(code, Code::Interrupted | Code::Terminated),
        }
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        let code = code_of(&error);
        let local = matches!(error, TransferError::Io { .. });
        let full =
            matches!(error, TransferError::NoSpace { .. }) || error.problem() == Some(Kind::OutOfSpace);
        let failure = Self { local, full, ..Self::new(code, in_one_line(&error)) };
        match hint_for(&error, code) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Returns an error and its causes in one line, without the full stops between them.
pub(crate) fn in_one_line(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut line = String::new();
    for cause in causes {
        let said = cause.to_string();
        let said = said.trim_end_matches('.');
        // Some libraries repeat their cause in their own text.
        if line.ends_with(said) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(said);
    }
    line
}

fn io_code(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::NotAllowed,
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            Code::Conflict
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Code::NoSpace
        }
        _ => Code::Failed,
    }
}

fn code_of(error: &TransferError) -> Code {
    match error {
        TransferError::Io { source, .. } => io_code(source),
        TransferError::NoSpace { .. } | TransferError::NoRoom { .. } => Code::NoSpace,
        TransferError::NotAFile { .. } | TransferError::BadAddress { .. } => Code::Usage,
        TransferError::TargetExists { .. }
        | TransferError::Locked { .. }
        | TransferError::Unprovable { .. } => Code::Conflict,
        TransferError::SourceChanged { .. }
        | TransferError::Changed { .. }
        | TransferError::Unsettled { .. } => Code::SourceChanged,
        TransferError::Disconnected { .. }
        | TransferError::Stalled { .. }
        | TransferError::Exhausted { .. }
        | TransferError::Unusable { refusal: Refusal::Interposed, .. } => Code::Temporary,
        TransferError::Untrusted { .. } => Code::NotAllowed,
        TransferError::Refused { problem, .. } => kind_code(problem.kind),
        // Whatever was worth another attempt to the last passes by itself.
        TransferError::Unexpected { .. } if error.advice() == Advice::Retry => Code::Temporary,
        TransferError::Unexpected { status, .. } => status_code(status.as_u16()),
        TransferError::Unusable { .. }
        | TransferError::DigestMismatch { .. }
        | TransferError::FalseTree { .. }
        | TransferError::StoredOtherwise { .. }
        | TransferError::Corrupt { .. }
        | TransferError::FinishedOtherwise { .. } => Code::Integrity,
        _ => Code::Failed,
    }
}

fn kind_code(kind: Kind) -> Code {
    match kind {
        Kind::BadPath => Code::Usage,
        Kind::TooLarge | Kind::OutOfSpace | Kind::Quota => Code::NoSpace,
        Kind::Damaged | Kind::BodyDigestMismatch | Kind::FinalDigestMismatch | Kind::ChecksumMismatch => {
            Code::Integrity
        }
        Kind::UploadGone => Code::Conflict,
        // A server that is in the way of something newer, as seen from here.
        Kind::Superseded => Code::Temporary,
        _ => status_code(kind.status().as_u16()),
    }
}

fn status_code(status: u16) -> Code {
    match status {
        401 | 403 | 407 => Code::NotAllowed,
        404 | 410 => Code::NotFound,
        409 | 412 => Code::Conflict,
        413 | 507 => Code::NoSpace,
        408 | 423 | 425 | 429 | 502..=504 => Code::Temporary,
        _ => Code::Failed,
    }
}

fn hint_for(error: &TransferError, code: Code) -> Option<String> {
    let hint = match error {
        TransferError::NotAFile { .. } => {
            "only files are sent; a folder is, with what lies in it, by `hapax put -r`"
        }
        TransferError::TargetExists { .. } => "add --overwrite to replace it, or name another target",
        TransferError::Locked { .. } => "wait for the other process, or end it",
        TransferError::BadAddress { .. } => {
            "a server is named like http://nas.lan:4000, without user, query or fragment"
        }
        TransferError::SourceChanged { .. } => {
            "run the same command again when nothing writes to it any more"
        }
        TransferError::Unsettled { .. } => "run the same command again when nothing replaces it any more",
        TransferError::NoRoom { .. } => "make room, or name a target on another disk",
        TransferError::Untrusted { .. } => "if the server is yours, let the system trust its certificate",
        TransferError::Redirected { .. } => "name the address that it leads to, if you trust it",
        TransferError::DigestMismatch { .. } => "nothing of it was kept: ask where the digest is from",
        TransferError::Unusable { refusal: Refusal::Interposed, .. } => {
            "sign in to the network and run the same command again, or remove the .part file if it is the page you want"
        }
        TransferError::NoSpace { .. } => "make room and run the same command again: what is proven is kept",
        TransferError::Refused { problem, .. } => match problem.kind {
            Kind::Unauthenticated => "run `hapax login URL` again, or set HAPAX_SERVER and HAPAX_TOKEN",
            Kind::NotEmpty => "add -r to remove it with everything in it",
            Kind::IsAFolder => "end the path with a slash to mean a name inside the folder",
            Kind::Exists => "add --overwrite to replace it, if it is of the same kind",
            Kind::PreconditionFailed => "leave --no-overwrite out to replace it",
            Kind::Quota => "remove something, or ask the administrator for more",
            Kind::Damaged => "put the same file again: that heals the stored copy",
            _ if code == Code::Temporary => GO_ON,
            _ => return None,
        },
        _ if code == Code::Temporary => GO_ON,
        _ => return None,
    };
    Some(hint.to_owned())
}

const GO_ON: &str = "run the same command again: it goes on where this one ended";

#[cfg(test)]
mod tests {
    use hapax_proto::problem::Problem;

    use super::*;

    fn refused(kind: Kind) -> Failure {
        let problem = Box::new(Problem::new(kind));
        TransferError::Refused { doing: "GET /x".to_owned(), problem, retry_after: None }.into()
    }

    #[test]
    fn every_problem_has_a_code() {
        #[track_caller]
        fn check(kind: Kind, code: Code) {
            assert_eq!(refused(kind).code, code);
        }
        check(Kind::BadPath, Code::Usage);
        check(Kind::Unauthenticated, Code::NotAllowed);
        check(Kind::Forbidden, Code::NotAllowed);
        check(Kind::NotFound, Code::NotFound);
        check(Kind::Exists, Code::Conflict);
        check(Kind::IsAFolder, Code::Conflict);
        check(Kind::NotEmpty, Code::Conflict);
        check(Kind::PreconditionFailed, Code::Conflict);
        check(Kind::UploadGone, Code::Conflict);
        check(Kind::TooLarge, Code::NoSpace);
        check(Kind::OutOfSpace, Code::NoSpace);
        check(Kind::Quota, Code::NoSpace);
        check(Kind::Busy, Code::Temporary);
        check(Kind::TooMany, Code::Temporary);
        check(Kind::Unavailable, Code::Temporary);
        check(Kind::Superseded, Code::Temporary);
        check(Kind::Damaged, Code::Integrity);
        check(Kind::FinalDigestMismatch, Code::Integrity);
        check(Kind::ChecksumMismatch, Code::Integrity);
        check(Kind::Internal, Code::Failed);
    }

    #[test]
    fn a_file_that_may_not_be_read_leaves_the_others_to_be_tried() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let found = Failure::io("read", Path::new("secret"), &denied());
        assert!(found.code == Code::NotAllowed && !found.ends_everything());
        let opened =
            Failure::from(TransferError::Io { doing: "open", path: "secret".into(), source: denied() });
        assert!(opened.code == Code::NotAllowed && !opened.ends_everything());
        assert!(refused(Kind::Unauthenticated).ends_everything());
        // The next one would wait for room as long; a quota may have some for a smaller file.
        assert!(refused(Kind::OutOfSpace).ends_everything() && !refused(Kind::Quota).ends_everything());
    }

    #[test]
    fn a_local_error_has_the_code_of_its_kind() {
        #[track_caller]
        fn check(kind: io::ErrorKind, code: Code) {
            let failure = Failure::io("read", Path::new("film.mkv"), &kind.into());
            assert_eq!(failure.code, code);
            assert!(failure.sentence.starts_with("cannot read film.mkv: "), "{failure}");
        }
        check(io::ErrorKind::NotFound, Code::NotFound);
        check(io::ErrorKind::PermissionDenied, Code::NotAllowed);
        check(io::ErrorKind::StorageFull, Code::NoSpace);
        check(io::ErrorKind::IsADirectory, Code::Conflict);
        check(io::ErrorKind::BrokenPipe, Code::Failed);
    }

    #[test]
    fn what_passes_by_itself_says_how_to_go_on() {
        let failure = Failure::from(TransferError::Disconnected { doing: "PUT /x".to_owned(), source: None });
        assert_eq!((failure.code, failure.hint.as_deref()), (Code::Temporary, Some(GO_ON)));
        assert_eq!(refused(Kind::Unavailable).hint.as_deref(), Some(GO_ON));
        assert_eq!(refused(Kind::NotFound).hint, None);
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = io::Error::other("the disk is on fire.");
        let error = TransferError::Input { offset: hapax_proto::span::Offset::ZERO, source: cause };
        assert_eq!(in_one_line(&error), "cannot read the input at byte 0: the disk is on fire");
        let repeats = io::Error::other(io::Error::other("no"));
        assert_eq!(in_one_line(&repeats), "no");
    }

    #[test]
    fn numbers_are_those_of_the_manual() {
        #[track_caller]
        fn check(code: Code, number: u8) {
            assert_eq!(code.number(), number);
        }
        check(Code::Failed, 1);
        check(Code::Usage, 2);
        check(Code::NotFound, 3);
        check(Code::NotAllowed, 4);
        check(Code::Temporary, 5);
        check(Code::Conflict, 6);
        check(Code::Integrity, 7);
        check(Code::SourceChanged, 8);
        check(Code::NoSpace, 9);
        check(Code::Interrupted, 130);
        check(Code::Terminated, 143);
    }
}
