//! From an error of the store to a problem on the wire: the one table of both. What the server's disk or keys say
//! goes into the log and never into an answer.

use std::error::Error;

use hapax_proto::problem::{Kind, Problem};
use hapax_proto::upload::State;
use hapax_store::catalog::Refusal as StoreRefusal;
use hapax_store::error::{ErrorClass, StoreError};
use serde_json::Value;

use crate::respond::Refusal;

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        problem_of(&error).into()
    }
}

/// Finds the problem that an error of the store is, and logs what only the operator should know.
pub fn problem_of(error: &StoreError) -> Problem {
    match error {
        StoreError::Refused(refusal) => problem_of_refusal(refusal),
        StoreError::Mismatch { expected, actual } => Problem::new(Kind::BodyDigestMismatch)
            .member("expected", expected.as_str())
            .member("actual", actual.as_str()),
        StoreError::TooLong { room, .. } => Problem::new(Kind::TooLarge).member("limit", room.get()),
        StoreError::Batch(cause) => problem_of(cause),
        StoreError::Pending => {
            Problem::new(Kind::Unavailable).detail("what the file is is still being computed")
        }
        _ => {
            let kind = kind_of_class(error.class());
            let cause = error as &dyn Error;
            match kind {
                Kind::Damaged | Kind::Internal => tracing::error!(error = cause, "the store failed"),
                _ => tracing::warn!(error = cause, "the store could not do it now"),
            }
            kind.into()
        }
    }
}

fn kind_of_class(class: ErrorClass) -> Kind {
    match class {
        ErrorClass::Full => Kind::OutOfSpace,
        ErrorClass::Corrupt | ErrorClass::Missing => Kind::Damaged,
        ErrorClass::Busy | ErrorClass::Io => Kind::Unavailable,
        _ => Kind::Internal,
    }
}

fn problem_of_refusal(refusal: &StoreRefusal) -> Problem {
    let kind = match refusal {
        StoreRefusal::NotFound => Kind::NotFound,
        StoreRefusal::Exists => Kind::Exists,
        StoreRefusal::IsAFolder => Kind::IsAFolder,
        StoreRefusal::NotAFolder => Kind::NotAFolder,
        StoreRefusal::NotEmpty => Kind::NotEmpty,
        StoreRefusal::IntoItself => Kind::IntoItself,
        StoreRefusal::Unexpected => Kind::PreconditionFailed,
        StoreRefusal::Superseded => Kind::Superseded,
        StoreRefusal::TooManyUploads => Kind::TooMany,
        StoreRefusal::TooManyTokens => {
            return Problem::new(Kind::TooMany)
                .detail("the account has too many tokens and sessions: revoke some");
        }
        StoreRefusal::ClosedDir | StoreRefusal::NotLive => Kind::Unavailable,
        StoreRefusal::Ended(state) => return ended(*state),
        StoreRefusal::Incomplete => {
            return Problem::new(Kind::Incomplete)
                .member("missing", Value::Array(Vec::new()))
                .member("more", true);
        }
        StoreRefusal::Quota { limit, used } => {
            return Problem::new(Kind::Quota).member("limit", limit.get()).member("used", used.get());
        }
        _ => {
            tracing::error!(%refusal, "the catalog was asked for what it never does");
            Kind::Internal
        }
    };
    kind.into()
}

/// The problem of a request that needs an open upload.
pub fn ended(state: State) -> Problem {
    match state {
        State::Done => Kind::AlreadyComplete.into(),
        State::Open | State::Expired | State::Cancelled | State::Poisoned => {
            let state = serde_json::to_value(state).expect("a state is a word");
            Problem::new(Kind::UploadGone).member("state", state)
        }
    }
}

#[cfg(test)]
mod tests {
    use hapax_proto::span::Length;

    use super::*;

    #[test]
    fn every_error_is_a_problem_that_tells_nothing_of_the_server() {
        #[track_caller]
        fn check(error: &StoreError, kind: Kind) {
            let problem = problem_of(error);
            assert_eq!(problem.kind, kind);
            assert!(!String::from_utf8(problem.encode()).unwrap().contains("/data"), "{error}");
        }
        let disk = |kind: std::io::ErrorKind| StoreError::Disk {
            doing: "write",
            what: "/data/objects/1/2".into(),
            source: kind.into(),
        };
        check(&disk(std::io::ErrorKind::StorageFull), Kind::OutOfSpace);
        check(&disk(std::io::ErrorKind::Other), Kind::Unavailable);
        check(&StoreError::BelowWatermark { free_bytes: 1 }, Kind::OutOfSpace);
        check(&StoreError::Corrupt { what: "/data/x".into(), why: "it rotted" }, Kind::Damaged);
        check(&StoreError::MissingObject { name: "1/2".into() }, Kind::Damaged);
        check(&StoreError::Closed, Kind::Unavailable);
        check(&StoreError::WrongKey, Kind::Internal);
        check(&StoreRefusal::NotFound.into(), Kind::NotFound);
        check(&StoreRefusal::Ended(State::Done).into(), Kind::AlreadyComplete);
        check(&StoreRefusal::Ended(State::Expired).into(), Kind::UploadGone);
        check(&StoreRefusal::Malformed("x").into(), Kind::Internal);
        let quota = StoreRefusal::Quota { limit: Length::new(7), used: Length::new(9) };
        check(&quota.into(), Kind::Quota);
    }

    #[test]
    fn an_ended_upload_says_how() {
        assert_eq!(ended(State::Cancelled).members["state"], "cancelled");
    }
}
