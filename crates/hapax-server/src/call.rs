//! One request on its way through a handler: who asks, what for, and the moves that every handler makes: ask
//! whether it may be done, read parameters and JSON. It builds no response.

use std::error::Error;

use hapax_proto::access::{Access, Object, UserId, Verb, decide_access};
use hapax_proto::problem::{Kind, Problem};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::app::App;
use crate::auth::Caller;
use crate::body::RequestBody;
use crate::respond::Refusal;

/// One request on its way through a handler.
pub struct Call<'a> {
    /// What all requests share.
    pub app: &'a App,
    /// Who asks.
    pub caller: Caller,
    /// What the route needs.
    pub verb: Verb,
    /// Method, target and fields.
    pub parts: &'a Parts,
    /// The body, unread until a handler decides to.
    pub body: &'a mut RequestBody,
}

impl Call<'_> {
    /// Asks whether the route's verb may be done to this.
    ///
    /// # Errors
    /// 401, 403 or, for what belongs to others, 404.
    pub fn allow(&self, object: &Object) -> Result<(), Refusal> {
        let kind = match decide_access(&self.caller.subject, self.verb, object) {
            Access::Allowed => return Ok(()),
            Access::Hidden => Kind::NotFound,
            Access::Forbidden => Kind::Forbidden,
            Access::Unauthenticated => Kind::Unauthenticated,
        };
        Err(kind.into())
    }

    /// Returns the account that asks.
    ///
    /// # Errors
    /// 401 if nobody does.
    pub fn user(&self) -> Result<UserId, Refusal> {
        match self.caller.subject {
            hapax_proto::access::Subject::User { id, .. } => Ok(id),
            hapax_proto::access::Subject::Anonymous => Err(Kind::Unauthenticated.into()),
        }
    }

    /// Returns the value of a query parameter, percent-decoded; without `=` it is empty.
    ///
    /// # Errors
    /// 400 if it is given twice or is not UTF-8.
    pub fn parameter(&self, name: &str) -> Result<Option<String>, Refusal> {
        parameter(self.parts.uri.query().unwrap_or_default(), name)
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// 415 if it is declared to be something else, 413 if it is too large, 400 if it is not what is asked for.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Refusal> {
        let declared = self.parts.headers.get(CONTENT_TYPE);
        let is_json = |value: &http::HeaderValue| {
            let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
            essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
        };
        if !declared.is_none_or(is_json) {
            return Err(Problem::new(Kind::MediaType).detail("send application/json").into());
        }
        let max = self.app.config.caps.json_bytes;
        if self.content_length().is_some_and(|length| length > max as u64) {
            return Err(too_large(max));
        }
        let idle_max = self.app.config.deadlines.idle_body;
        let collected = timeout(idle_max, Limited::new(&mut *self.body, max).collect()).await;
        let collected = collected.map_err(|_| Refusal::from(Kind::Unavailable))?;
        let bytes = collected.map_err(|error| unreadable(error.as_ref(), max))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| misunderstood(&error).into())
    }

    /// Returns the stated length of the body.
    pub fn content_length(&self) -> Option<u64> {
        self.parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

fn parameter(query: &str, name: &str) -> Result<Option<String>, Refusal> {
    let bad = || Refusal::from(Problem::new(Kind::BadField).member("field", name));
    let mut values = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let (first, second) = (values.next(), values.next());
    match (first, second) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let decoded = percent_encoding::percent_decode_str(value).decode_utf8().map_err(|_| bad())?;
            Ok(Some(decoded.into_owned()))
        }
        (Some(_), Some(_)) => Err(bad()),
    }
}

fn too_large(max: usize) -> Refusal {
    Problem::new(Kind::TooLarge).member("limit", max as u64).into()
}

fn unreadable(error: &(dyn Error + Send + Sync + 'static), max: usize) -> Refusal {
    if error.is::<LengthLimitError>() {
        return too_large(max);
    }
    Problem::new(Kind::BadField).member("field", "body").detail("the body was cut off").into()
}

/// Says what of a JSON body is wrong; the texts are of the parser and name only what was sent.
fn misunderstood(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let unknown = text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    match unknown {
        Some(member) => Problem::new(Kind::UnknownMember).member("member", member),
        None => Problem::new(Kind::BadField).member("field", "body").detail(text),
    }
}

#[cfg(test)]
mod tests {
    use hapax_proto::dialect::native::Resize;

    use super::*;

    #[test]
    fn a_query_names_each_parameter_once() {
        #[track_caller]
        fn check(query: &str, expected: Result<Option<&str>, Kind>) {
            let found = parameter(query, "after").map_err(|refusal| refusal.problem().kind);
            assert_eq!(found.as_ref().map(Option::as_deref), expected.as_ref().copied());
        }
        check("", Ok(None));
        check("list&limit=3", Ok(None));
        check("after", Ok(Some("")));
        check("list&after=a%20b%2F+&limit=3", Ok(Some("a b/+")));
        check("after=1&after=2", Err(Kind::BadField));
        check("after=%ff", Err(Kind::BadField));
    }

    #[test]
    fn a_body_that_is_not_understood_says_why() {
        #[track_caller]
        fn check(body: &str, kind: Kind, member: &str) {
            let problem = misunderstood(&serde_json::from_str::<Resize>(body).unwrap_err());
            assert_eq!(
                (problem.kind, problem.members.values().next().unwrap().as_str()),
                (kind, Some(member))
            );
        }
        check(r#"{"size":1,"sise":2}"#, Kind::UnknownMember, "sise");
        check(r#"{"size":-1}"#, Kind::BadField, "body");
        check("", Kind::BadField, "body");
        check("{", Kind::BadField, "body");
    }
}
