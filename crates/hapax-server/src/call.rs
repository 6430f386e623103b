//! One request on its way through a handler: who asks, what for, and the moves that every handler makes: find the
//! place, ask whether it may be done, read parameters and JSON, let the store act. It builds no response.

use std::error::Error;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use hapax_proto::access::{Access, Object, Subject, Verb, decide_access};
use hapax_proto::dialect::integrity::parse_digests;
use hapax_proto::digest::{CONTENT_DIGEST, Digests, REPR_DIGEST};
use hapax_proto::name::{EntryPath, UrlPath, UserName, parse_space_path};
use hapax_proto::problem::{Kind, Problem};
use hapax_store::catalog::{Space, SpaceId, Upload, UploadId};
use hapax_store::error::StoreError;
use hapax_store::job::{Go, Pace};
use hapax_store::store::Store;
use http::HeaderValue;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::app::{App, Phase};
use crate::auth::{Caller, Who, access_id};
use crate::body::RequestBody;
use crate::line::Peer;
use crate::respond::Refusal;

/// One request on its way through a handler.
pub struct Call<'a> {
    /// What all requests share.
    pub app: &'a App,
    /// Who asks.
    pub caller: Caller,
    /// From where.
    pub peer: &'a Peer,
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
    /// As [`Self::allow_verb`].
    pub fn allow(&self, object: &Object) -> Result<(), Refusal> {
        self.allow_verb(self.verb, object)
    }

    /// Asks whether a verb may be done to this: for routes that do more than one thing.
    ///
    /// # Errors
    /// 401, 403 or, for what belongs to others, 404.
    pub fn allow_verb(&self, verb: Verb, object: &Object) -> Result<(), Refusal> {
        allow(&self.caller.subject, verb, object)
    }

    /// Returns the account that asks.
    ///
    /// # Errors
    /// 401 if nobody does.
    pub fn who(&self) -> Result<&Who, Refusal> {
        self.caller.who.as_ref().ok_or_else(|| Kind::Unauthenticated.into())
    }

    /// Lets the store act on a thread that may block.
    ///
    /// # Errors
    /// The problem that the store's error is.
    pub async fn store<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Arc<Store>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        Ok(self.try_store(act).await?)
    }

    /// Lets the store act, for callers that branch on its error.
    ///
    /// # Errors
    /// The store's.
    pub async fn try_store<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Arc<Store>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(&self.app.store);
        let acted = spawn_blocking(move || act(&store)).await;
        acted.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Lets the store read for long on a thread that may block: to its end, though nobody may wait for it any more, for the
    /// next request finds the result; but only until the server cuts what runs.
    ///
    /// # Errors
    /// As [`Self::store`]; 503 if it was stopped.
    pub async fn store_until_cut<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Arc<Store>, Pace<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let cut = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&cut);
        let go = move |_| if told.load(Ordering::Relaxed) { Go::Stop } else { Go::On };
        let mut working = pin!(self.store(move |store| act(store, &go)));
        tokio::select! {
            done = &mut working => done,
            () = self.app.life.reached(Phase::Cutting) => {
                cut.store(true, Ordering::Relaxed);
                working.await
            }
        }
    }

    /// Finds the place a URL names, and asks whether the route's verb may be done there.
    ///
    /// # Errors
    /// 404 for a space that does not exist or is not the caller's to see.
    pub async fn place(&self, named: UrlPath) -> Result<Place, Refusal> {
        let UrlPath { space, path, folder } = named;
        let space = self.space(space, self.verb).await?;
        Ok(Place { space, path, folder })
    }

    /// Finds the place that a member of a JSON body names, and asks whether a verb may be done there.
    ///
    /// # Errors
    /// 400 for what is no path, 404 as [`Self::place`].
    pub async fn place_in_body(&self, text: &str, verb: Verb) -> Result<Place, Refusal> {
        let (space, path) = named_in_body(text)?;
        let space = self.space(space, verb).await?;
        let folder = path.is_root();
        Ok(Place { space, path, folder })
    }

    async fn space(&self, name: Option<UserName>, verb: Verb) -> Result<Space, Refusal> {
        let mut spaces = self.spaces()?;
        let found = spawn_blocking(move || spaces.find(name.as_ref(), verb)).await;
        found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Returns the spaces as the caller sees them, for work on another thread.
    ///
    /// # Errors
    /// 401 if nobody asks.
    pub fn spaces(&self) -> Result<Spaces, Refusal> {
        let own = self.who()?.space;
        Ok(Spaces { store: Arc::clone(&self.app.store), subject: self.caller.subject, own, last: None })
    }

    /// Finds an upload, and asks whether the route's verb may be done to it.
    ///
    /// # Errors
    /// 404 for one that does not exist or is not the caller's.
    pub async fn upload(&self, id: UploadId) -> Result<Upload, Refusal> {
        let upload = self.store(move |store| store.upload(id)).await?;
        self.allow(&Object::Upload { owner: access_id(upload.user) })?;
        Ok(upload)
    }

    /// Returns the value of a query parameter, percent-decoded; without `=` it is empty.
    ///
    /// # Errors
    /// 400 if it is given twice or is not UTF-8.
    pub fn parameter(&self, name: &str) -> Result<Option<String>, Refusal> {
        parameter(self.parts.uri.query().unwrap_or_default(), name)
    }

    /// Returns the value of a query parameter that is a number or a word.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn parsed<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Refusal> {
        let value = self.parameter(name)?;
        value.map(|value| value.parse().map_err(|_| bad_field(name))).transpose()
    }

    /// Returns the digests that the request declares of its body or of the whole file.
    ///
    /// # Errors
    /// 400 for a field that cannot be read: ignoring it would look as if it had been verified.
    pub fn declared_digests(&self) -> Result<Declared, Refusal> {
        let parse = |field| parse_digests(&self.parts.headers, field);
        Ok(Declared { content: parse(CONTENT_DIGEST)?, representation: parse(REPR_DIGEST)? })
    }

    /// Refuses a body that is coded: what is stored is what was sent, and digests are of that.
    ///
    /// # Errors
    /// 415 for every coding but `identity`.
    pub fn refuse_coding(&self) -> Result<(), Refusal> {
        let codings = self.parts.headers.get_all(CONTENT_ENCODING);
        if codings.iter().all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Ok(());
        }
        Err(Refusal::from(Kind::ContentCoding).field(ACCEPT_ENCODING, HeaderValue::from_static("identity")))
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// 415 if it is declared to be something else, 413 if it is too large, 400 if it is not what is asked for.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Refusal> {
        self.json_of(self.app.config.caps.json_bytes).await
    }

    /// Reads the body as JSON of at most so many bytes.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub async fn json_of<T: DeserializeOwned>(&mut self, max: usize) -> Result<T, Refusal> {
        let bytes = self.json_bytes(max).await?;
        serde_json::from_slice(&bytes).map_err(|error| misunderstood(&error).into())
    }

    /// Reads the body as JSON with a member `items` of at most so many. They are counted before they are kept: an item of a
    /// few bytes becomes one of hundreds.
    ///
    /// # Errors
    /// As [`Self::json`], and 413 for more items.
    pub async fn json_items<T: DeserializeOwned>(&mut self, max: usize) -> Result<T, Refusal> {
        let bytes = self.json_bytes(self.app.config.caps.json_bytes).await?;
        // What cannot be counted cannot be read either, and that is told better below.
        if serde_json::from_slice(&bytes).is_ok_and(|Counted { items }| items.len() > max) {
            return Err(too_large(max));
        }
        serde_json::from_slice(&bytes).map_err(|error| misunderstood(&error).into())
    }

    async fn json_bytes(&mut self, max: usize) -> Result<Bytes, Refusal> {
        if self.is_declared_as("application/json") == Some(false) {
            return Err(Problem::new(Kind::MediaType).detail("send application/json").into());
        }
        if self.content_length().is_some_and(|length| length > max as u64) {
            return Err(too_large(max));
        }
        let idle_max = self.app.config.deadlines.idle_body;
        let collected = timeout(idle_max, Limited::new(&mut *self.body, max).collect()).await;
        let collected = collected.map_err(|_| Refusal::from(Kind::Unavailable))?;
        Ok(collected.map_err(|error| unreadable(error.as_ref(), max))?.to_bytes())
    }

    /// Tells whether the body is declared to be of a media type; `None` if nothing is said.
    pub fn is_declared_as(&self, media_type: &str) -> Option<bool> {
        let declared = self.parts.headers.get(CONTENT_TYPE)?.as_bytes();
        let essence = declared.split(|byte| *byte == b';').next().unwrap_or_default();
        Some(essence.trim_ascii().eq_ignore_ascii_case(media_type.as_bytes()))
    }

    /// Returns the stated length of the body.
    pub fn content_length(&self) -> Option<u64> {
        self.parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

/// The spaces as one caller sees them during one request. What one request names lies in one space nearly always, so the
/// last one is remembered.
pub struct Spaces {
    store: Arc<Store>,
    subject: Subject,
    own: SpaceId,
    /// How it was named, what was to be done in it, and what it is.
    last: Option<(Option<UserName>, Verb, Space)>,
}

impl Spaces {
    /// Does what [`Call::place_in_body`] does. Blocks.
    ///
    /// # Errors
    /// As that.
    pub fn place_in_body(&mut self, text: &str, verb: Verb) -> Result<Place, Refusal> {
        let (space, path) = named_in_body(text)?;
        let space = self.find(space.as_ref(), verb)?;
        let folder = path.is_root();
        Ok(Place { space, path, folder })
    }

    fn find(&mut self, name: Option<&UserName>, verb: Verb) -> Result<Space, Refusal> {
        if let Some((last, allowed, space)) = &self.last
            && (last.as_ref(), *allowed) == (name, verb)
        {
            return Ok(space.clone());
        }
        let found = match name {
            None => self.store.catalog().space_by_id(self.own)?,
            Some(name) => self.store.catalog().space(name.as_str())?,
        };
        let space = found.ok_or(Kind::NotFound)?;
        allow(&self.subject, verb, &Object::Space { owner: access_id(space.owner) })?;
        self.last = Some((name.cloned(), verb, space.clone()));
        Ok(space)
    }
}

fn named_in_body(text: &str) -> Result<(Option<UserName>, EntryPath), Refusal> {
    parse_space_path(text).map_err(|bad| Problem::new(Kind::BadPath).detail(bad.to_string()).into())
}

/// Asks the one function of authorisation, and says what its answer is on the wire.
///
/// # Errors
/// As [`Call::allow_verb`].
pub fn allow(subject: &Subject, verb: Verb, object: &Object) -> Result<(), Refusal> {
    let kind = match decide_access(subject, verb, object) {
        Access::Allowed => return Ok(()),
        Access::Hidden => Kind::NotFound,
        Access::Forbidden => Kind::Forbidden,
        Access::Unauthenticated => Kind::Unauthenticated,
    };
    Err(kind.into())
}

/// A place in the tree of a space that the caller may act on.
#[derive(Debug, Clone)]
pub struct Place {
    /// The space.
    pub space: Space,
    /// The path in it.
    pub path: EntryPath,
    /// Whether the URL says that a folder is meant.
    pub folder: bool,
}

impl Place {
    /// Returns the long form, as JSON spells it: `/@space/path`.
    pub fn long(&self) -> String {
        long_path(&self.space, &self.path)
    }
}

/// Returns the long form of a path, as JSON spells it: `/@space/path`.
pub fn long_path(space: &Space, path: &EntryPath) -> String {
    format!("/@{}{path}", space.name)
}

/// What a request says that its body, and the file it makes, hash to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// Of the body.
    pub content: Digests,
    /// Of the whole file.
    pub representation: Digests,
}

impl Declared {
    /// Returns what a request whose body is the whole file says of it: both fields speak of the same bytes.
    pub fn whole(&self) -> Digests {
        self.content.iter().chain(self.representation.iter()).collect()
    }
}

/// A body of which only is known how many items it has: they take no memory.
#[derive(Deserialize)]
struct Counted {
    items: Vec<IgnoredAny>,
}

/// A field or parameter that cannot be read.
pub fn bad_field(name: &str) -> Refusal {
    Problem::new(Kind::BadField).member("field", name).into()
}

fn parameter(query: &str, name: &str) -> Result<Option<String>, Refusal> {
    let mut values = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let (first, second) = (values.next(), values.next());
    match (first, second) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let decoded =
                percent_encoding::percent_decode_str(value).decode_utf8().map_err(|_| bad_field(name))?;
            Ok(Some(decoded.into_owned()))
        }
        (Some(_), Some(_)) => Err(bad_field(name)),
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

/// Says what of JSON is wrong; the texts are of the parser and name only what was sent.
pub fn misunderstood(error: &serde_json::Error) -> Problem {
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
