//! The only place that builds responses: from answers, from problems, and for requests whose body is unread. It
//! decides nothing about the request.

use std::time::Duration;

use bytes::Bytes;
use hapax_proto::download::NO_SNIFFING;
use hapax_proto::problem::{Kind, Problem};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH,
    CONTENT_TYPE, ORIGIN, RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use serde::Serialize;
use tokio::time::timeout;

use crate::body::{Ahead, Download, Keeping, Producer, RequestBody, Source, Taken};

/// The body of every response.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// Every response.
pub type Response = http::Response<Body>;

/// Names the problem where a response has no body.
pub const HAPAX_PROBLEM: HeaderName = HeaderName::from_static("hapax-problem");
/// How a request says that a page's script sent it.
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// The limits of uploads to a target, as the IETF draft spells them.
pub const UPLOAD_LIMIT: HeaderName = HeaderName::from_static("upload-limit");

/// How many unread bytes of an HTTP/2 request are taken before its stream is reset.
const DISCARD_BYTES: usize = 256 << 10;
/// How long that may take.
const DISCARD: Duration = Duration::from_secs(1);

/// Why a request is not done: a problem, and the fields that the answer carries besides.
#[derive(Debug, Clone)]
pub struct Refusal(Box<Refused>);

#[derive(Debug, Clone)]
struct Refused {
    problem: Problem,
    fields: HeaderMap,
}

impl Refusal {
    /// Adds a field to the answer.
    #[must_use]
    pub fn field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.fields.insert(name, value);
        self
    }

    /// Says when the same request may succeed.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.field(RETRY_AFTER, seconds.max(1).into())
    }

    /// Returns the problem.
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(Refused { problem, fields: HeaderMap::new() }))
    }
}

impl From<Kind> for Refusal {
    fn from(kind: Kind) -> Self {
        Problem::new(kind).into()
    }
}

/// Answers with a problem.
pub fn refusal(refusal: Refusal) -> Response {
    let Refused { problem, fields } = *refusal.0;
    let mut response =
        response(problem.kind.status(), "application/problem+json", Bytes::from(problem.encode()));
    let answer = response.headers_mut();
    answer.insert(HAPAX_PROBLEM, HeaderValue::from_static(problem.kind.name()));
    if problem.kind.retries_later() {
        answer.insert(RETRY_AFTER, usual_wait(problem.kind).as_secs().into());
    }
    answer.extend(fields);
    response
}

/// How long the reason of a problem usually lasts.
fn usual_wait(kind: Kind) -> Duration {
    Duration::from_secs(match kind {
        Kind::OutOfSpace => 5,
        Kind::Unavailable | Kind::TooMany => 2,
        _ => 1,
    })
}

/// Answers with JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("the shapes of the API always serialise");
    response(status, "application/json", Bytes::from(text))
}

/// Answers with a text for machines that read no JSON.
pub fn text(status: StatusCode, content_type: &'static str, text: String) -> Response {
    response(status, content_type, Bytes::from(text))
}

/// Answers with fields alone.
pub fn empty(status: StatusCode, fields: HeaderMap) -> Response {
    with_body(status, fields, Empty::new().map_err(|never| match never {}).boxed_unsync())
}

/// Answers with bytes of a file, described by `fields`.
pub fn file<S: Source + Unpin>(status: StatusCode, fields: HeaderMap, body: Download<S>) -> Response {
    with_body(status, fields, body.boxed_unsync())
}

/// Answers with a body that is made while it is sent; one that fails on the way has no end.
pub fn made<P: Producer + Unpin>(status: StatusCode, content_type: &'static str, body: Ahead<P>) -> Response {
    let fields = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, NO_SNIFFING),
    ]);
    with_body(status, fields, body.boxed_unsync())
}

/// Answers OPTIONS: what the target can do, whether or not it exists.
pub fn options(allow: HeaderValue, capabilities: &[(HeaderName, HeaderValue)]) -> Response {
    let mut fields =
        HeaderMap::from_iter([(ALLOW, allow), (UPLOAD_LIMIT, HeaderValue::from_static("min-size=0"))]);
    fields.extend(capabilities.iter().cloned());
    empty(StatusCode::NO_CONTENT, fields)
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let fields = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CONTENT_LENGTH, body.len().into()),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, NO_SNIFFING),
    ]);
    with_body(status, fields, Full::new(body).map_err(|never| match never {}).boxed_unsync())
}

fn with_body(status: StatusCode, fields: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

/// Adds to a 401 how to authenticate (RFC 9110 §11.6.1).
///
/// `Basic` is left out for a page's script: the browser would open its own dialogue over the page.
pub fn challenge(response: &mut Response, request: &HeaderMap) {
    if response.status() != StatusCode::UNAUTHORIZED {
        return;
    }
    let fields = response.headers_mut();
    fields.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    let by_script = request.get(SEC_FETCH_MODE).is_some_and(|mode| mode != "navigate");
    if !by_script {
        fields.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"hapax\", charset=\"UTF-8\""));
    }
}

/// The request fields that a foreign page may send.
const SHARED_REQUEST_FIELDS: &str = "Authorization, Content-Type, Content-Digest, Repr-Digest, \
     Want-Repr-Digest, Hapax-Part-Value, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, \
     If-Range, Range, Tus-Resumable, Upload-Checksum, Upload-Complete, Upload-Concat, Upload-Defer-Length, \
     Upload-Draft-Interop-Version, Upload-Length, Upload-Metadata, Upload-Offset, X-HTTP-Method-Override, \
     X-Request-ID, X-Requested-With";
/// The response fields that a foreign page may read.
const SHARED_RESPONSE_FIELDS: &str = "Accept-Ranges, Allow, Content-Disposition, Content-Length, \
     Content-Location, Content-Range, ETag, Hapax-Problem, Last-Modified, Location, Repr-Digest, Retry-After, \
     Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Complete, \
     Upload-Concat, Upload-Defer-Length, Upload-Expires, Upload-Length, Upload-Limit, Upload-Metadata, \
     Upload-Offset, WWW-Authenticate";

/// Lets the page of a listed origin read the answer (CORS); there is no credentials mode.
pub fn share(response: &mut Response, request: &HeaderMap, allowed_origins: &[String]) {
    let Some(origin) = request.get(ORIGIN) else {
        return;
    };
    if !allowed_origins.iter().any(|allowed| origin == allowed.as_str()) {
        return;
    }
    let is_preflight = response.headers().contains_key(ALLOW) && response.status() == StatusCode::NO_CONTENT;
    let fields = response.headers_mut();
    fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(SHARED_RESPONSE_FIELDS));
    if !fields.contains_key(VARY) {
        fields.insert(VARY, HeaderValue::from_static("Origin"));
    }
    if is_preflight {
        let methods = fields[ALLOW].clone();
        fields.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(SHARED_REQUEST_FIELDS));
        fields.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
}

/// Lets an answer keep something until its body was sent, or nobody takes it any more.
pub fn keep<K: Send + Unpin + 'static>(response: Response, kept: K) -> Response {
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|body| Keeping::new(body, kept).boxed_unsync())
}

/// Watches whether an answer is taken, where its stream has a window of its own.
pub fn watch(response: Response) -> Response {
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|body| Taken::watch(body).map_or_else(|body| body, BodyExt::boxed_unsync))
}

/// Sends a response although the body of its request was not read to its end.
///
/// HTTP/1.1: the connection ends after the answer, and its [`Socket`](crate::socket::Socket) lingers, for the
/// client may be busy sending. Dropping the body here makes the HTTP library stop reading without having sent
/// `100 Continue`.
///
/// HTTP/2: dropping the body resets the stream, and curl then loses the answer; so it is kept for a moment. An
/// early success is never sent there: clients abort on the reset that follows it, so the body is read first.
pub async fn early(
    mut response: Response,
    mut body: RequestBody,
    version: Version,
    idle_max: Duration,
) -> Response {
    if body.is_read() {
        return response;
    }
    if version != Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    } else if response.status().is_success() {
        while let Ok(Some(Ok(_))) = timeout(idle_max, body.frame()).await {}
    } else {
        tokio::spawn(timeout(DISCARD, discard(body)));
    }
    response
}

/// Takes up to [`DISCARD_BYTES`], and then holds the stream without reading until its time is up: the window fills,
/// the client stops sending and has the answer. Reading on would give a fast client room for ever, and a reset
/// that overtakes its reading of the answer.
async fn discard(mut body: RequestBody) {
    let mut left = DISCARD_BYTES;
    while left > 0 {
        let Some(Ok(frame)) = body.frame().await else {
            return;
        };
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[tokio::test]
    async fn a_refusal_names_its_problem_twice() {
        let response = refusal(Problem::new(Kind::PartOffset).member("have", 7).into());
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[HAPAX_PROBLEM], "part-offset");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers().get(RETRY_AFTER), None);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem = Problem::decode(StatusCode::CONFLICT, &body).unwrap();
        assert_eq!(problem.members["have"], 7);
    }

    #[test]
    fn what_passes_says_when() {
        #[track_caller]
        fn check(refused: Refusal, wait: Option<&str>) {
            let response = refusal(refused);
            assert_eq!(response.headers().get(RETRY_AFTER).map(|wait| wait.to_str().unwrap()), wait);
        }
        check(Kind::Busy.into(), Some("1"));
        check(Kind::TooMany.into(), Some("2"));
        check(Kind::Unavailable.into(), Some("2"));
        check(Kind::OutOfSpace.into(), Some("5"));
        check(Kind::Quota.into(), None);
        check(Kind::NotFound.into(), None);
        check(Refusal::from(Kind::TooMany).retry_after(Duration::from_millis(6_001)), Some("7"));
        check(Refusal::from(Kind::TooMany).retry_after(Duration::ZERO), Some("1"));
    }

    #[test]
    fn a_script_is_not_asked_for_basic() {
        #[track_caller]
        fn check(request: &[(&'static str, &'static str)], challenges: &[&str]) {
            let mut response = refusal(Kind::Unauthenticated.into());
            challenge(&mut response, &fields(request));
            let found: Vec<_> = response
                .headers()
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .map(|value| value.to_str().unwrap().split(' ').next().unwrap())
                .collect();
            assert_eq!(found, challenges);
        }
        check(&[], &["Bearer", "Basic"]);
        check(&[("sec-fetch-mode", "navigate")], &["Bearer", "Basic"]);
        check(&[("sec-fetch-mode", "cors")], &["Bearer"]);
        check(&[("sec-fetch-mode", "same-origin")], &["Bearer"]);
    }

    #[test]
    fn only_a_listed_origin_reads_an_answer() {
        #[track_caller]
        fn check(request: &[(&'static str, &'static str)], shared_with: Option<&str>) {
            let mut response = refusal(Kind::NotFound.into());
            share(&mut response, &fields(request), &["https://a.example".to_owned()]);
            let origin = response.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(origin.map(|origin| origin.to_str().unwrap()), shared_with);
            assert_eq!(response.headers().contains_key(ACCESS_CONTROL_EXPOSE_HEADERS), shared_with.is_some());
            assert!(!response.headers().contains_key("access-control-allow-credentials"));
        }
        check(&[("origin", "https://a.example")], Some("https://a.example"));
        check(&[("origin", "https://a.example.evil")], None);
        check(&[("origin", "http://a.example")], None);
        check(&[("origin", "null")], None);
        check(&[], None);
    }

    #[test]
    fn a_preflight_tells_methods_and_fields() {
        let mut response = options(HeaderValue::from_static("GET, OPTIONS"), &[]);
        share(&mut response, &fields(&[("origin", "https://a.example")]), &["https://a.example".to_owned()]);
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_METHODS], "GET, OPTIONS");
        assert!(response.headers().contains_key(ACCESS_CONTROL_ALLOW_HEADERS));
    }
}
