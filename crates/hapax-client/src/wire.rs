//! One request, one answer. Owns the HTTP client, its deadlines, credentials and the shape of bodies; never repeats
//! a request and knows no route.
//!
//! A deadline for a whole request would kill every long one, so silence is what is limited: a request fails if
//! neither a piece of its body leaves nor anything of the answer comes for as long as `Deadlines::idle`.

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hapax_proto::pin::foreign::End;
use hapax_proto::problem::{self, Kind, Problem};
use hapax_proto::retry::parse_retry_after;
use hapax_proto::span::Length;
use hapax_proto::validator::{HttpDate, single_line};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::source::PIECE;

/// The longest answer that is read into memory: a page of a tree or of a listing.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The longest problem that is read.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;

/// The most redirects that one request follows.
const REDIRECTS_MAX: usize = 10;

/// How long the line may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Until a connection is there.
    pub connect: Duration,
    /// Between two pieces of a body, and from the last piece to the answer.
    pub idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), idle: Duration::from_mins(1) }
    }
}

/// Who asks.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// The holder of a token.
    Token(String),
    /// A user with a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Token(_) => f.write_str("Token(…)"),
            Self::Password { user, .. } => write!(f, "Password({user:?}, …)"),
        }
    }
}

impl Credentials {
    fn field(&self) -> Result<Option<HeaderValue>, TransferError> {
        let text = match self {
            Self::Anonymous => return Ok(None),
            Self::Token(token) => format!("Bearer {token}"),
            Self::Password { user, password } => {
                format!("Basic {}", data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes()))
            }
        };
        let unfit = |_| TransferError::BadAddress { what: "the credential".to_owned() };
        let mut value = HeaderValue::try_from(text).map_err(unfit)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// A request without its target's host.
#[derive(Debug)]
pub struct Ask {
    /// Its method.
    pub method: Method,
    /// Its path and query, percent-encoded, from the slash behind the server's address on.
    pub target: String,
    /// Its fields beside those of its body and of the credentials.
    pub fields: HeaderMap,
    /// Its body.
    pub payload: Payload,
}

impl Ask {
    /// Makes a request without body or fields of its own.
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), fields: HeaderMap::new(), payload: Payload::Nothing }
    }

    /// Gives it a JSON body.
    #[must_use]
    pub fn json(mut self, body: &impl Serialize) -> Self {
        let json = serde_json::to_vec(body).expect("request bodies are plain values");
        self.fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.payload = Payload::Memory(json.into());
        self
    }
}

/// The body of a request.
#[derive(Debug)]
pub enum Payload {
    /// None at all.
    Nothing,
    /// Bytes in memory, that nobody counts.
    Memory(Bytes),
    /// Bytes of the content that is sent.
    Content(Content),
}

/// Bytes of a file on their way to the server, counted as they leave.
pub struct Content {
    /// Where they come from.
    pub from: Pieces,
    /// How many they are.
    pub length: Length,
    /// Who is told.
    pub meter: Meter,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.length)
    }
}

/// Where the bytes of a content come from.
#[derive(Debug)]
pub enum Pieces {
    /// From memory; cut into pieces here.
    Memory(Bytes),
    /// From a thread that reads.
    Reading(mpsc::Receiver<io::Result<Bytes>>),
}

/// Counts the bytes of one request that went onto the wire. Clones count together.
#[derive(Clone)]
pub struct Meter {
    moved: Arc<AtomicU64>,
    progress: Arc<dyn Progress>,
}

impl Meter {
    /// Begins at nothing.
    pub fn new(progress: Arc<dyn Progress>) -> Self {
        Self { moved: Arc::default(), progress }
    }

    /// Counts bytes, and tells whoever watches.
    pub fn add(&self, length: Length) {
        self.moved.fetch_add(length.get(), Ordering::Relaxed);
        self.progress.event(Event::Moved(length));
    }

    /// Returns how many bytes went.
    pub fn moved(&self) -> Length {
        Length::new(self.moved.load(Ordering::Relaxed))
    }
}

/// When something last moved in a request.
#[derive(Clone)]
struct LastMove(Arc<Mutex<Instant>>);

impl LastMove {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body that hyper polls.
struct Sending {
    content: Content,
    left: Length,
    last_move: LastMove,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left.is_zero() {
            return Poll::Ready(None);
        }
        let piece = match &mut self.content.from {
            Pieces::Memory(bytes) => Some(Ok(bytes.split_to(bytes.len().min(PIECE)))),
            Pieces::Reading(receiver) => match receiver.poll_recv(context) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return Poll::Pending,
            },
        };
        let piece = piece.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
        let length = Length::of(&piece);
        self.left = self.left.checked_sub(length).ok_or(io::ErrorKind::InvalidData)?;
        self.last_move.note();
        self.content.meter.add(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_zero()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.get())
    }
}

/// The way to one server.
#[derive(Debug, Clone)]
pub struct Wire {
    http: reqwest::Client,
    base: Arc<str>,
    credentials: Option<HeaderValue>,
    idle: Duration,
}

impl Wire {
    /// Prepares to talk to the server at an address such as `https://nas.lan:4000/prefix`. Nothing is sent yet.
    pub fn new(
        address: &str,
        credentials: &Credentials,
        deadlines: Deadlines,
    ) -> Result<Self, TransferError> {
        let base = base_of(address).ok_or_else(|| TransferError::BadAddress { what: address.to_owned() })?;
        let http = reqwest::Client::builder()
            .connect_timeout(deadlines.connect)
            // A redirect of an upload would send its bytes, and the credential, somewhere else.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("hapax/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| TransferError::BadAddress { what: error.to_string() })?;
        Ok(Self { http, base: base.into(), credentials: credentials.field()?, idle: deadlines.idle })
    }

    /// Prepares to ask any server, by whole addresses. Proxies of the environment are used, and certificates are
    /// believed that the system believes.
    pub(crate) fn to_any(deadlines: Deadlines) -> Result<Self, TransferError> {
        let http = reqwest::Client::builder()
            .connect_timeout(deadlines.connect)
            .redirect(reqwest::redirect::Policy::custom(redirect))
            // An address may carry a secret, which is no business of the host that a redirect leads to.
            .referer(false)
            .user_agent(concat!("hapax/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| TransferError::BadAddress { what: error.to_string() })?;
        Ok(Self { http, base: "".into(), credentials: None, idle: deadlines.idle })
    }

    /// Asks for what an address names, from there on through all redirects, and waits for the head of the answer.
    /// `shown` is the address without its secrets.
    pub(crate) async fn get(
        &self,
        address: &reqwest::Url,
        shown: &str,
        fields: HeaderMap,
    ) -> Result<Answer, TransferError> {
        let doing = format!("GET {shown}");
        let asked = self.http.get(address.clone()).headers(fields).send();
        match tokio::time::timeout(self.idle, asked).await {
            Ok(Ok(response)) => Ok(Answer { response, doing, idle: self.idle }),
            Ok(Err(error)) if error.is_redirect() => {
                Err(TransferError::Redirected { doing, source: Box::new(error.without_url()) })
            }
            Ok(Err(error)) if is_untrusted(&error) => {
                Err(TransferError::Untrusted { doing, source: Box::new(error.without_url()) })
            }
            Ok(Err(error)) if is_unreadable(&error) => {
                Err(TransferError::NotHttp { doing, source: Box::new(error.without_url()) })
            }
            Ok(Err(error)) => Err(disconnected(&doing, error)),
            Err(_) => Err(TransferError::Disconnected { doing, source: None }),
        }
    }

    /// Returns the server's address, spelled in one way.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request and waits for the head of the answer, whatever its status.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, TransferError> {
        let doing = format!("{} {}", ask.method, ask.target);
        let last_move = LastMove(Arc::new(Mutex::new(Instant::now())));
        let mut request =
            self.http.request(ask.method, format!("{}{}", self.base, ask.target)).headers(ask.fields);
        if let Some(credentials) = &self.credentials {
            request = request.header(AUTHORIZATION, credentials);
        }
        request = match ask.payload {
            Payload::Nothing => request,
            Payload::Memory(bytes) => request.body(bytes),
            Payload::Content(content) => {
                let left = content.length;
                let sending = Sending { content, left, last_move: last_move.clone() };
                request.header(CONTENT_LENGTH, left.get()).body(reqwest::Body::wrap(sending))
            }
        };
        let mut answered = pin!(request.send());
        loop {
            let silent_until = last_move.at() + self.idle;
            tokio::select! {
                answer = &mut answered => {
                    let response = answer.map_err(|error| disconnected(&doing, error))?;
                    return Ok(Answer { response, doing, idle: self.idle });
                }
                () = sleep_until(silent_until) => {
                    if last_move.at() + self.idle <= Instant::now() {
                        return Err(TransferError::Disconnected { doing, source: None });
                    }
                }
            }
        }
    }
}

/// The answer to a request, its body not read yet.
#[derive(Debug)]
pub struct Answer {
    response: reqwest::Response,
    doing: String,
    idle: Duration,
}

impl Answer {
    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Returns the fields.
    pub fn fields(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Returns how the end of the body is told.
    pub(crate) fn end(&self) -> End {
        let framed = self.response.version() >= Version::HTTP_2
            || self.fields().contains_key(CONTENT_LENGTH)
            || self.fields().contains_key(TRANSFER_ENCODING);
        if framed { End::Marked } else { End::Closed }
    }

    /// Returns what was asked, for messages.
    pub(crate) fn doing(&self) -> &str {
        &self.doing
    }

    /// Returns the next bytes of the body, or `None` behind the last.
    ///
    /// # Errors
    /// [`TransferError::Disconnected`] if the body ends before the length that was announced for it.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, TransferError> {
        match tokio::time::timeout(self.idle, self.response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| disconnected(&self.doing, error)),
            Err(_) => Err(self.broken()),
        }
    }

    /// Turns every status but a success into an error.
    pub async fn success(self) -> Result<Self, TransferError> {
        if self.status().is_success() { Ok(self) } else { Err(self.refusal().await) }
    }

    /// Reads the body as JSON, if the status is a success.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, TransferError> {
        let mut answer = self.success().await?;
        let body = answer.body(ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&body)
            .map_err(|source| TransferError::Unreadable { doing: answer.doing, source })
    }

    /// Reads the body as lines of JSON, if the status is a success.
    pub async fn lines<T: DeserializeOwned>(self) -> Result<Vec<T>, TransferError> {
        let mut answer = self.success().await?;
        let body = answer.body(ANSWER_BYTES_MAX).await?;
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(serde_json::from_slice)
            .collect::<Result<_, _>>()
            .map_err(|source| TransferError::Unreadable { doing: answer.doing, source })
    }

    /// Makes the error of an answer that is no success.
    pub async fn refusal(mut self) -> TransferError {
        let status = self.status();
        let retry_after = self.retry_after();
        let named = single_line(self.fields(), &http::HeaderName::from_static(problem::FIELD))
            .and_then(|name| Kind::find(name.to_str().ok()?, status));
        // A body that broke off takes nothing from what the status says.
        let body = self.body(PROBLEM_BYTES_MAX).await.unwrap_or_default();
        let problem = Problem::decode(status, &body).or_else(|| named.map(Problem::new));
        match problem {
            Some(problem) => {
                TransferError::Refused { doing: self.doing, problem: Box::new(problem), retry_after }
            }
            None => TransferError::Unexpected { doing: self.doing, status, retry_after },
        }
    }

    /// Makes the error of a body that ended before its time.
    pub(crate) fn broken(&self) -> TransferError {
        TransferError::Disconnected { doing: self.doing.clone(), source: None }
    }

    /// Reads at most `bytes_max` of the body; what lies behind is not waited for.
    async fn body(&mut self, bytes_max: usize) -> Result<Vec<u8>, TransferError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() >= bytes_max {
                break;
            }
        }
        Ok(body)
    }

    /// Reads `Retry-After`; a date is taken by the server's own clock where it tells it.
    fn retry_after(&self) -> Option<Duration> {
        let now = HttpDate::parse_field(self.fields(), &DATE).unwrap_or_else(now);
        parse_retry_after(single_line(self.fields(), &RETRY_AFTER)?, now)
    }
}

/// Returns the present moment as HTTP writes it.
pub fn now() -> HttpDate {
    HttpDate::from_seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

fn disconnected(doing: &str, error: reqwest::Error) -> TransferError {
    // The address stands in `doing` already, without the host.
    TransferError::Disconnected { doing: doing.to_owned(), source: Some(Box::new(error.without_url())) }
}

/// Follows a redirect, unless there were too many or the line would not be secret any more: whoever named an address
/// of TLS asked for nothing less.
fn redirect(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let bared =
        attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https");
    if bared {
        attempt.error("a redirect leads away from TLS")
    } else if attempt.previous().len() > REDIRECTS_MAX {
        attempt.error("too many redirects")
    } else {
        attempt.follow()
    }
}

/// Tells whether a request failed because the server's certificate is not believed, or TLS is not spoken there: the
/// TLS library calls all of that invalid data.
fn is_untrusted(error: &reqwest::Error) -> bool {
    error.is_connect()
        && std::iter::successors(std::error::Error::source(error), |cause| cause.source())
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(is_invalid_data)
}

/// An error that another one wraps is not among its sources.
fn is_invalid_data(error: &io::Error) -> bool {
    let wrapped = || error.get_ref().and_then(|wrapped| wrapped.downcast_ref::<io::Error>());
    error.kind() == io::ErrorKind::InvalidData || wrapped().is_some_and(is_invalid_data)
}

/// Tells whether what came is no answer: a head that cannot be read is not a line that broke, and asking again gives
/// the same.
fn is_unreadable(error: &reqwest::Error) -> bool {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_parse)
}

/// Spells an address without a slash at its end; `None` if it is no address of an HTTP server.
fn base_of(address: &str) -> Option<String> {
    let url = reqwest::Url::parse(address).ok()?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && plain)
        .then(|| url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        #[track_caller]
        fn check(address: &str, base: Option<&str>) {
            assert_eq!(base_of(address).as_deref(), base);
        }
        check("http://nas.lan:4000", Some("http://nas.lan:4000"));
        check("http://nas.lan:4000/", Some("http://nas.lan:4000"));
        check("HTTPS://NAS.lan:443/a/b/", Some("https://nas.lan/a/b"));
        check("http://127.0.0.1:80", Some("http://127.0.0.1"));
        check("http://user:secret@nas.lan", None);
        check("http://nas.lan/?a", None);
        check("http://nas.lan/#a", None);
        check("ftp://nas.lan", None);
        check("nas.lan", None);
        check("", None);
    }

    #[test]
    fn credentials_are_not_printed() {
        #[track_caller]
        fn check(credentials: &Credentials, field: Option<&str>) {
            let value = credentials.field().unwrap();
            assert_eq!(value.as_ref().map(|value| value.to_str().unwrap()), field);
            assert!(value.is_none_or(|value| value.is_sensitive()));
            assert!(!format!("{credentials:?}").contains("sesame"));
        }
        check(&Credentials::Anonymous, None);
        check(&Credentials::Token("sesame".to_owned()), Some("Bearer sesame"));
        let password = Credentials::Password { user: "ann".to_owned(), password: "sesame".to_owned() };
        check(&password, Some("Basic YW5uOnNlc2FtZQ=="));
        let unfit = Credentials::Token("a\nb".to_owned());
        assert!(matches!(unfit.field(), Err(TransferError::BadAddress { .. })));
    }
}
