//! A server in the same process that speaks the native dialect, decides by `hapax_proto`, keeps everything in
//! memory and misbehaves on demand. It counts the bytes of content that cross the line.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hapax_proto::batch::{Decoder, END, Piece, encode_header};
use hapax_proto::claim::{QuickHasher, quick_spans};
use hapax_proto::dialect::native::{
    BatchOutcome, BatchRecord, BatchResult, ClaimResult, ClaimResults, Claims, Complete, Completed,
    CreateUpload, EntryInfo, EntryKind, EntryPatch, FetchBatch, FetchOutcome, FetchRecord, FetchedFile,
    HeldPart, Limits, PartialPart, Precondition, Resize, Service, StoredPart, Tree, UploadStatus,
};
use hapax_proto::digest::{Algorithm, Digest, Digests, FileHash, Hasher, REPR_DIGEST};
use hapax_proto::download::{Answer, Description, Facts, answer_fields, decide_get};
use hapax_proto::precondition::Validators;
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PART, PART_VALUE, PartHasher, PartNumber, PartValue, part_count, parts};
use hapax_proto::upload::{
    Finish, FinishFacts, FinishVerdict, Held, PartRun, PartVerdict, State, decide_finish, decide_part,
};
use hapax_proto::validator::EntityTag;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It is not looked at: this answer instead, with `Retry-After: 0`.
    Refuse(Kind),
    /// Everything happens, but the answer never arrives.
    LoseAnswer,
    /// The line breaks after so many bytes of the request's body.
    CutBody(u64),
    /// The line breaks after so many bytes of the answer's body.
    CutAnswer(u64),
    /// A byte of the answer's body, or of the request's, is another one.
    Flip,
    /// All of it is read and nothing is answered, for as long as the line is there.
    Stall,
    /// It never arrives: all of it is read by something on the way, which answers 200 with a page of its own.
    Portal,
}

type Script = Box<dyn FnMut(&str) -> Fault + Send>;

/// A stored file.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) bytes: Bytes,
    pub(crate) etag: String,
    pub(crate) mtime: Option<String>,
    pub(crate) executable: bool,
    pub(crate) version: u64,
}

/// An upload.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) parts: BTreeMap<u32, (Bytes, PartValue)>,
    pub(crate) partial: BTreeMap<u32, Vec<u8>>,
    create: CreateUpload,
    answer: Option<Completed>,
}

/// Everything the server knows.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) files: BTreeMap<String, File>,
    pub(crate) uploads: Vec<Upload>,
    /// Method and target of every request, in order.
    pub(crate) requests: Vec<String>,
    /// Bytes of content that came in, whether they were kept or not.
    pub(crate) bytes_in: u64,
    /// Bytes of content that went out.
    pub(crate) bytes_out: u64,
    /// Files of one batch that goes out, if not all of them.
    pub(crate) room: Option<usize>,
    /// Whether claims link something else than was claimed.
    pub(crate) deceives: bool,
    /// What it says that it does.
    pub(crate) features: Vec<&'static str>,
    versions: u64,
}

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    store: Arc<Mutex<Store>>,
    script: Arc<Mutex<Script>>,
    running: watch::Sender<u32>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            address: listener.local_addr().unwrap(),
            store: Arc::new(Mutex::new(Store {
                features: vec!["batch", "tree", "claims", "candidates", "quick"],
                ..Store::default()
            })),
            script: Arc::new(Mutex::new(Box::new(|_| Fault::None))),
            running: watch::Sender::new(0),
        };
        let (store, script) = (Arc::clone(&fake.store), Arc::clone(&fake.script));
        let running = fake.running.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (store, script, running) = (Arc::clone(&store), Arc::clone(&script), running.clone());
                let service = hyper::service::service_fn(move |request| {
                    serve(Arc::clone(&store), Arc::clone(&script), Running::begin(&running), request)
                });
                // A connection that the script breaks ends with an error; that is its purpose.
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        fake
    }

    /// Waits until no request is being served: after a client ended, what it had sent may still be read.
    pub(crate) async fn quiet(&self) {
        self.running.subscribe().wait_for(|running| *running == 0).await.unwrap();
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        locked(&self.store)
    }

    /// Lets every request from now on be judged: by its method and target, to a fault.
    pub(crate) fn script(&self, script: impl FnMut(&str) -> Fault + Send + 'static) {
        *locked(&self.script) = Box::new(script);
    }

    /// Puts a file into the store, as somebody else's doing.
    pub(crate) fn put(&self, path: &str, bytes: Vec<u8>) {
        self.store().publish(path, bytes.into(), None, false);
    }

    /// Returns the same server, for a script that changes what is stored.
    pub(crate) fn handle(&self) -> Self {
        let (store, script) = (Arc::clone(&self.store), Arc::clone(&self.script));
        Self { address: self.address, store, script, running: self.running.clone() }
    }

    /// Returns the counts of bytes in and out since the last call.
    pub(crate) fn take_counts(&self) -> (u64, u64) {
        let mut store = self.store();
        (std::mem::take(&mut store.bytes_in), std::mem::take(&mut store.bytes_out))
    }

    pub(crate) fn requests_of(&self, what: &str) -> usize {
        self.store().requests.iter().filter(|request| request.starts_with(what)).count()
    }
}

impl Store {
    fn publish(&mut self, path: &str, bytes: Bytes, mtime: Option<String>, executable: bool) -> Completed {
        self.versions += 1;
        let blake3 = FileHash::of(&bytes);
        let etag = format!("\"{}\"", &blake3.to_string()[..16]);
        let size = bytes.len() as u64;
        let file = File { bytes, etag: etag.clone(), mtime, executable, version: self.versions };
        let replaced = self.files.insert(path.to_owned(), file).is_some();
        Completed { path: path.to_owned(), etag, size, blake3, version: self.versions, replaced }
    }

    fn holds(&self, path: &str, precondition: Option<&Precondition>) -> bool {
        let there = self.files.get(path);
        match precondition {
            None => true,
            Some(Precondition::Absent) => there.is_none(),
            Some(Precondition::Matches(etag)) => there.is_some_and(|file| file.etag == *etag),
        }
    }

    fn upload(&mut self, id: &str) -> Result<&mut Upload, Failure> {
        self.uploads.iter_mut().find(|upload| upload.id == id).ok_or(Kind::NotFound.into())
    }
}

/// Why there is no success.
enum Failure {
    Problem(Problem),
    /// The line breaks.
    Break,
}

impl From<Kind> for Failure {
    fn from(kind: Kind) -> Self {
        Self::Problem(Problem::new(kind))
    }
}

type Reply = Response<http_body_util::combinators::BoxBody<Bytes, std::io::Error>>;

fn full(bytes: impl Into<Bytes>) -> http_body_util::combinators::BoxBody<Bytes, std::io::Error> {
    http_body_util::Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    Response::builder().status(status).body(full(serde_json::to_vec(body).unwrap())).unwrap()
}

fn problem(problem: &Problem) -> Reply {
    let builder =
        Response::builder().status(problem.kind.status()).header("hapax-problem", problem.kind.name());
    let builder = if problem.kind.retries_later() { builder.header("retry-after", "0") } else { builder };
    builder.body(full(problem.encode())).unwrap()
}

/// A request that is being served.
struct Running(watch::Sender<u32>);

impl Running {
    fn begin(running: &watch::Sender<u32>) -> Self {
        running.send_modify(|running| *running += 1);
        Self(running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

async fn serve(
    store: Arc<Mutex<Store>>,
    script: Arc<Mutex<Script>>,
    running: Running,
    request: Request<Incoming>,
) -> Result<Reply, std::io::Error> {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().unwrap().as_str();
    let name = format!("{} {target}", head.method);
    locked(&store).requests.push(name.clone());
    let fault = (locked(&script))(&name);
    if fault == Fault::Stall {
        Receiving { body, fault }.read(&store).await;
        // Nothing more happens here.
        drop(running);
        return std::future::pending().await;
    }
    if fault == Fault::Portal {
        Receiving { body, fault }.read(&store).await;
        return Ok(Response::new(full("<title>Please log in</title>")));
    }
    if let Fault::Refuse(kind) = fault {
        return Ok(problem(&Problem::new(kind)));
    }
    let reply = match route(&store, &head, body, fault).await {
        Ok(reply) => reply,
        Err(Failure::Problem(refused)) => problem(&refused),
        Err(Failure::Break) => return Err(std::io::ErrorKind::ConnectionAborted.into()),
    };
    if fault == Fault::LoseAnswer { Err(std::io::ErrorKind::ConnectionAborted.into()) } else { Ok(reply) }
}

async fn route(
    store: &Mutex<Store>,
    head: &http::request::Parts,
    body: Incoming,
    fault: Fault,
) -> Result<Reply, Failure> {
    let path = head.uri.path();
    let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
    match (&head.method, segments.as_slice()) {
        (&Method::PUT, ["api", "v1", "uploads", id, "parts", number]) => {
            let number = number.parse().unwrap();
            put_part(store, (id, number), head, Receiving { body, fault }).await
        }
        (&Method::PUT, ["files", ..]) => put_file(store, &path[6..], head, Receiving { body, fault }).await,
        (&Method::GET, ["files", ..]) => get_file(store, &path[6..], &head.headers, fault),
        (&Method::GET, ["api", "v1", "entries", ..]) => stat(&locked(store), &path[15..]),
        (&Method::GET, ["api", "v1", "tree", ..]) => {
            tree(&locked(store), &path[12..], head.uri.query().unwrap_or_default())
        }
        (&Method::POST, ["api", "v1", "batch", "get"]) => {
            let body = body.collect().await.map_err(|_| Failure::Break)?.to_bytes();
            Ok(fetch_batch(store, &serde_json::from_slice(&body).map_err(|_| Kind::UnknownMember)?, fault))
        }
        (method, segments) => {
            let body = body.collect().await.map_err(|_| Failure::Break)?.to_bytes();
            let mut store = locked(store);
            if method == Method::PATCH && !is_matched(&store, &path[15..], &head.headers) {
                return Err(Kind::PreconditionFailed.into());
            }
            command(&mut store, (method, segments, path), &body)
        }
    }
}

/// Tells whether `If-Match`, where there is one, names what stands at a path.
fn is_matched(store: &Store, path: &str, fields: &HeaderMap) -> bool {
    let wanted = fields.get("if-match");
    wanted
        .is_none_or(|etag| store.files.get(path).is_some_and(|file| file.etag.as_bytes() == etag.as_bytes()))
}

fn command(
    store: &mut Store,
    (method, segments, path): (&Method, &[&str], &str),
    body: &[u8],
) -> Result<Reply, Failure> {
    let read = |_| Failure::from(Kind::UnknownMember);
    match (method, segments) {
        (&Method::GET, ["api", "v1"]) => Ok(json(StatusCode::OK, &service(store))),
        (&Method::POST, ["api", "v1", "uploads"]) => {
            create(store, serde_json::from_slice(body).map_err(read)?)
        }
        (&Method::GET, ["api", "v1", "uploads", id]) => Ok(json(StatusCode::OK, &status(store.upload(id)?))),
        (&Method::DELETE, ["api", "v1", "uploads", id]) => {
            store.upload(id)?.state = State::Cancelled;
            Ok(json(StatusCode::OK, &()))
        }
        (&Method::POST, ["api", "v1", "uploads", id, "resize"]) => {
            let resize: Resize = serde_json::from_slice(body).map_err(read)?;
            let upload = store.upload(id)?;
            upload.create.mtime = resize.mtime;
            if upload.create.size != Some(resize.size) {
                let old = upload.create.size.replace(resize.size).unwrap_or_default();
                // Whole parts stay if the same bytes are a whole part of the new size too.
                let same = |n: &u32| {
                    let span = |size| PartNumber::new(*n).span(Length::new(size));
                    span(old) == span(resize.size)
                };
                upload.parts.retain(|n, _| same(n));
                upload.partial.retain(|n, _| same(n));
            }
            Ok(json(StatusCode::OK, &status(upload)))
        }
        (&Method::POST, ["api", "v1", "uploads", id, "complete"]) => {
            complete(store, id, &serde_json::from_slice(body).map_err(read)?)
        }
        (&Method::POST, ["api", "v1", "batch"]) => batch(store, body),
        (&Method::POST, ["api", "v1", "claims"]) => {
            Ok(claims(store, &serde_json::from_slice(body).map_err(read)?))
        }
        (&Method::PATCH, ["api", "v1", "entries", ..]) => {
            let wanted: EntryPatch = serde_json::from_slice(body).map_err(read)?;
            let file = store.files.get_mut(&path[15..]).ok_or(Kind::NotFound)?;
            file.mtime = wanted.mtime.or(file.mtime.take());
            file.executable = wanted.executable.unwrap_or(file.executable);
            stat(store, &path[15..])
        }
        _ => Err(Kind::NotFound.into()),
    }
}

fn service(store: &Store) -> Service {
    Service {
        name: "hapax".to_owned(),
        version: "0".to_owned(),
        api: 1,
        features: store.features.iter().map(|feature| (*feature).to_owned()).collect(),
        limits: Limits { size_max: u64::MAX, parts_in_flight: 3, uploads_max: 9 },
        batch: None,
        digests: Vec::new(),
        part_size: PART.get(),
        rufh_interop: Vec::new(),
    }
}

fn create(store: &mut Store, create: CreateUpload) -> Result<Reply, Failure> {
    if let Some(upload) = store.uploads.iter().find(|upload| upload.create.key == create.key) {
        return Ok(json(StatusCode::OK, &status(upload)));
    }
    if !store.holds(&create.path, create.precondition.as_ref()) {
        return Err(Kind::PreconditionFailed.into());
    }
    let id = format!("u{}", store.uploads.len());
    let (parts, partial) = (BTreeMap::new(), BTreeMap::new());
    store.uploads.push(Upload { id, state: State::Open, parts, partial, create, answer: None });
    Ok(json(StatusCode::CREATED, &status(store.uploads.last().unwrap())))
}

fn status(upload: &Upload) -> UploadStatus {
    UploadStatus {
        id: upload.id.clone(),
        url: format!("/uploads/{}", upload.id),
        path: upload.create.path.clone(),
        size: upload.create.size,
        part_size: PART.get(),
        state: upload.state,
        offset: 0,
        expires: "2099-01-01T00:00:00Z".to_owned(),
        epoch: 0,
        limits: Limits { size_max: u64::MAX, parts_in_flight: 3, uploads_max: 9 },
        received: Vec::new(),
        parts: upload.parts.iter().map(|(n, (_, value))| HeldPart { n: *n, value: *value }).collect(),
        partial: upload
            .partial
            .iter()
            .map(|(n, bytes)| PartialPart { n: *n, have: bytes.len() as u64 })
            .collect(),
        next: None,
    }
}

/// The body of a request, with what is to go wrong with it.
struct Receiving {
    body: Incoming,
    fault: Fault,
}

impl Receiving {
    /// Reads the body; tells whether it came to its end.
    async fn read(mut self, store: &Mutex<Store>) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let limit = if let Fault::CutBody(limit) = self.fault { limit } else { u64::MAX };
        while let Some(frame) = self.body.frame().await {
            let Ok(frame) = frame else { return (bytes, false) };
            let data = frame.into_data().unwrap_or_default();
            locked(store).bytes_in += data.len() as u64;
            bytes.extend_from_slice(&data);
            if bytes.len() as u64 >= limit {
                bytes.truncate(usize::try_from(limit).unwrap());
                return (bytes, false);
            }
        }
        if let (Fault::Flip, Some(byte)) = (self.fault, bytes.first_mut()) {
            *byte ^= 1;
        }
        (bytes, true)
    }
}

fn length_of(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

fn query(query: &str, name: &str) -> Option<u64> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?.parse().ok()
}

async fn put_part(
    store: &Mutex<Store>,
    (id, number): (&str, u32),
    head: &http::request::Parts,
    receiving: Receiving,
) -> Result<Reply, Failure> {
    let part = PartNumber::new(number);
    let declared = head.headers.get(PART_VALUE).map(|field| PartValue::parse_field(field).unwrap());
    let from = query(head.uri.query().unwrap_or_default(), "from").unwrap_or_default();
    let length = head.headers["content-length"].to_str().unwrap().parse().unwrap();
    let run = PartRun { number: part, from: Length::new(from), length: Length::new(length), value: declared };
    let (whole, mut bytes) = {
        let mut store = locked(store);
        let upload = store.upload(id)?;
        let present = match (upload.parts.get(&number), upload.partial.get(&number)) {
            (Some((_, value)), None) => Held::Whole { value: *value },
            (_, Some(bytes)) => Held::Partial { have: Length::of(bytes) },
            (None, None) => Held::Nothing,
        };
        match decide_part(upload.state, upload.create.size.map(Length::new), present, &run) {
            PartVerdict::Write { whole } => {
                let kept = if from == 0 { Vec::new() } else { upload.partial[&number].clone() };
                (whole, kept)
            }
            PartVerdict::AlreadyHeld => {
                let have = length_of(&upload.parts[&number].0);
                return Ok(json(StatusCode::OK, &StoredPart { n: number, value: declared, have, offset: 0 }));
            }
            PartVerdict::Ended(State::Done) => return Err(Kind::AlreadyComplete.into()),
            PartVerdict::Ended(_) => return Err(Kind::UploadGone.into()),
            PartVerdict::OutOfRange { .. } => return Err(Kind::PartOutOfRange.into()),
            PartVerdict::WrongOffset { have } => {
                return Err(Failure::Problem(Problem::new(Kind::PartOffset).member("have", have.get())));
            }
            PartVerdict::WrongLength { .. } => return Err(Kind::PartLength.into()),
        }
    };
    let (run, ended) = receiving.read(store).await;
    bytes.extend_from_slice(&run);
    let mut store = locked(store);
    let upload = store.upload(id)?;
    let have = length_of(&bytes);
    if have < whole.get() {
        if !bytes.is_empty() && declared.is_some() {
            upload.partial.insert(number, bytes);
        }
        let answer = StoredPart { n: number, value: None, have, offset: 0 };
        return if ended { Ok(json(StatusCode::CREATED, &answer)) } else { Err(Failure::Break) };
    }
    upload.partial.remove(&number);
    let mut hasher = PartHasher::new(part);
    hasher.update(&bytes).unwrap();
    let value = hasher.value();
    if declared.is_some() && value != declared {
        return Err(Kind::BodyDigestMismatch.into());
    }
    upload.parts.insert(number, (bytes.into(), value.unwrap()));
    Ok(json(StatusCode::CREATED, &StoredPart { n: number, value, have, offset: 0 }))
}

fn complete(store: &mut Store, id: &str, complete: &Complete) -> Result<Reply, Failure> {
    let upload = store.upload(id)?.clone();
    let covered: u64 = upload.parts.values().map(|(bytes, _)| length_of(bytes)).sum();
    let facts = FinishFacts {
        state: upload.state,
        size: upload.create.size.map(Length::new),
        covered: Length::new(covered),
    };
    match decide_finish(&facts, &Finish { size: Length::new(complete.size) }) {
        FinishVerdict::Publish => {}
        FinishVerdict::Replay => return replay(&upload, complete),
        FinishVerdict::Ended(_) => return Err(Kind::UploadGone.into()),
        FinishVerdict::WrongSize { .. } => return Err(Kind::InconsistentUploadLength.into()),
        FinishVerdict::Incomplete => return Err(Kind::Incomplete.into()),
    }
    let bytes: Vec<u8> = upload.parts.values().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
    if complete.blake3.is_some_and(|blake3| blake3 != FileHash::of(&bytes)) {
        return Err(Kind::FinalDigestMismatch.into());
    }
    let CreateUpload { path, precondition, mtime, executable, .. } = upload.create;
    if !store.holds(&path, precondition.as_ref()) {
        return Err(Kind::PreconditionFailed.into());
    }
    let answer = store.publish(&path, bytes.into(), mtime, executable);
    let upload = store.upload(id)?;
    (upload.state, upload.answer) = (State::Done, Some(answer.clone()));
    Ok(json(StatusCode::CREATED, &answer))
}

/// Answers a repeated `complete` as the first was answered, if it asks for the same, whatever became of the file.
fn replay(upload: &Upload, complete: &Complete) -> Result<Reply, Failure> {
    let answer = upload.answer.as_ref().ok_or(Kind::AlreadyComplete)?;
    match complete.blake3 {
        _ if complete.size != answer.size => Err(Kind::InconsistentUploadLength.into()),
        Some(blake3) if blake3 != answer.blake3 => Err(Kind::FinalDigestMismatch.into()),
        _ => Ok(json(StatusCode::OK, answer)),
    }
}

pub(crate) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new([algorithm]);
    hasher.update(bytes);
    hasher.digests().get(algorithm).unwrap()
}

fn quick_of(bytes: &Bytes) -> FileHash {
    let size = Length::of(bytes);
    let mut hasher = QuickHasher::new(size);
    for span in quick_spans(size) {
        hasher.update(&slice(bytes, span));
    }
    hasher.finish()
}

fn claims(store: &mut Store, claims: &Claims) -> Reply {
    let results = claims.items.iter().map(|item| {
        if let Some(quick) = &item.quick {
            let alike = |file: &File| {
                length_of(&file.bytes) == item.size && quick_of(&file.bytes).to_string() == *quick
            };
            return if store.files.values().any(alike) { ClaimResult::Maybe } else { ClaimResult::Absent };
        }
        let value = item.digest.as_ref().map(|digest| digest.value.clone()).unwrap_or_default();
        if let Some(algorithm) = item.digest.as_ref().and_then(|digest| Algorithm::from_key(&digest.alg))
            && algorithm != Algorithm::Blake3
        {
            let has = |file: &&File| digest_of(algorithm, &file.bytes).hex() == value;
            let blake3: Vec<_> =
                store.files.values().filter(has).map(|file| FileHash::of(&file.bytes)).collect();
            return if blake3.is_empty() { ClaimResult::Upload } else { ClaimResult::Candidates { blake3 } };
        }
        let is_found = |file: &&File| store.deceives || FileHash::of(&file.bytes).to_string() == value;
        let found = store.files.values().find(is_found).cloned();
        match found {
            _ if !store.holds(&item.path, item.precondition.as_ref()) => {
                let kind = Kind::PreconditionFailed;
                ClaimResult::Refused { problem: kind.name().to_owned(), status: kind.status().as_u16() }
            }
            Some(file) => ClaimResult::Linked(store.publish(
                &item.path,
                file.bytes,
                item.mtime.clone(),
                item.executable,
            )),
            None => ClaimResult::Upload,
        }
    });
    let results = results.collect();
    json(StatusCode::OK, &ClaimResults { results })
}

fn batch(store: &mut Store, mut body: &[u8]) -> Result<Reply, Failure> {
    let bad = |_| Failure::from(Kind::BadField);
    let mut decoder = Decoder::new(hapax_proto::batch::Limits::default());
    let mut records: Vec<(BatchRecord, Vec<u8>)> = Vec::new();
    while let Some(piece) = decoder.next(&mut body).map_err(bad)? {
        match piece {
            Piece::Begin(record) => records.push((*record, Vec::new())),
            Piece::Content(bytes) => records.last_mut().unwrap().1.extend_from_slice(bytes),
            Piece::Whole => {}
        }
    }
    decoder.finish().map_err(bad)?;
    let mut lines = String::new();
    for (record, bytes) in records {
        store.bytes_in += bytes.len() as u64;
        let result = stored_of_batch(store, record, bytes);
        lines += &(serde_json::to_string(&result).unwrap() + "\n");
    }
    Ok(Response::builder().status(StatusCode::OK).body(full(lines)).unwrap())
}

fn stored_of_batch(store: &mut Store, record: BatchRecord, bytes: Vec<u8>) -> BatchResult {
    let BatchRecord { id, path, blake3, mtime, executable, precondition, .. } = record;
    let refused = |kind: Kind| BatchResult {
        id,
        status: kind.status().as_u16(),
        outcome: BatchOutcome::Refused { problem: kind.name().to_owned() },
    };
    let stands = store.files.get(&path).is_some_and(|file| file.bytes == bytes && file.mtime == mtime);
    if blake3.is_some_and(|blake3| blake3 != FileHash::of(&bytes)) {
        return refused(Kind::BodyDigestMismatch);
    }
    if !stands && !store.holds(&path, precondition.as_ref()) {
        return refused(Kind::PreconditionFailed);
    }
    let completed = store.publish(&path, bytes.into(), mtime, executable);
    let status = if completed.replaced { 200 } else { 201 };
    BatchResult { id, status, outcome: BatchOutcome::Stored(completed) }
}

fn fetch_batch(store: &Mutex<Store>, batch: &FetchBatch, fault: Fault) -> Reply {
    let mut body = Vec::new();
    let room = locked(store).room.unwrap_or(usize::MAX);
    for item in batch.items.iter().take(room) {
        let found = locked(store).files.get(&item.path).cloned();
        let refused =
            |kind: Kind| (kind.status().as_u16(), FetchOutcome::Refused { problem: kind.name().to_owned() });
        let ((status, outcome), content) = match found {
            None => (refused(Kind::NotFound), Bytes::new()),
            Some(file) if item.etag.as_ref().is_some_and(|etag| *etag != file.etag) => {
                (refused(Kind::Changed), Bytes::new())
            }
            Some(File { bytes, etag, mtime, executable, .. }) => {
                let (path, size, blake3) = (item.path.clone(), length_of(&bytes), FileHash::of(&bytes));
                let file = FetchedFile { path, etag, size, blake3, mtime, executable };
                ((200, FetchOutcome::File(file)), bytes)
            }
        };
        body.extend(encode_header(&FetchRecord { id: item.id, status, outcome }).unwrap());
        body.extend(content);
    }
    // The last byte that is no end.
    if let (Fault::Flip, Some(byte)) = (fault, body.last_mut()) {
        *byte ^= 1;
    }
    body.extend(END);
    let fault = if fault == Fault::Flip { Fault::None } else { fault };
    Response::builder().status(StatusCode::OK).body(sending(store, &body.into(), fault)).unwrap()
}

async fn put_file(
    store: &Mutex<Store>,
    path: &str,
    head: &http::request::Parts,
    receiving: Receiving,
) -> Result<Reply, Failure> {
    let precondition = match (head.headers.get("if-none-match"), head.headers.get("if-match")) {
        (Some(_), _) => Some(Precondition::Absent),
        (None, Some(etag)) => Some(Precondition::Matches(etag.to_str().unwrap().to_owned())),
        (None, None) => None,
    };
    if !locked(store).holds(path, precondition.as_ref()) {
        return Err(Kind::PreconditionFailed.into());
    }
    let fault = receiving.fault;
    let (bytes, ended) = receiving.read(store).await;
    if !ended {
        return Err(Failure::Break);
    }
    let declared =
        Digests::parse_field(head.headers.get_all(REPR_DIGEST)).unwrap().get(Algorithm::Blake3).unwrap();
    if declared.file_hash() != Some(FileHash::of(&bytes)) {
        return Err(Kind::BodyDigestMismatch.into());
    }
    let answer = locked(store).publish(path, bytes.into(), None, false);
    let status = if answer.replaced { StatusCode::OK } else { StatusCode::CREATED };
    if matches!(fault, Fault::CutAnswer(_)) {
        let body = sending(store, &serde_json::to_vec(&answer).unwrap().into(), fault);
        return Ok(Response::builder().status(status).body(body).unwrap());
    }
    Ok(json(status, &answer))
}

fn stat(store: &Store, path: &str) -> Result<Reply, Failure> {
    let file = store.files.get(path).ok_or(Kind::NotFound)?;
    let info = EntryInfo {
        path: path.to_owned(),
        name: path.rsplit('/').next().unwrap().to_owned(),
        kind: EntryKind::File,
        size: Some(length_of(&file.bytes)),
        blake3: Some(FileHash::of(&file.bytes)),
        etag: Some(file.etag.clone()),
        mtime: file.mtime.clone(),
        modified: "2026-01-01T00:00:00Z".to_owned(),
        executable: file.executable,
        media_type: None,
        version: file.version,
    };
    Ok(json(StatusCode::OK, &info))
}

/// How many values a page of a tree has: few, so that pages are turned.
const VALUES_PER_PAGE: usize = 2;

fn tree(store: &Store, path: &str, asked: &str) -> Result<Reply, Failure> {
    let file = store.files.get(path).ok_or(Kind::NotFound)?;
    if !asked.contains(file.etag.trim_matches('"')) {
        return Err(Kind::Changed.into());
    }
    let size = Length::of(&file.bytes);
    let count = u32::try_from(part_count(size)).unwrap();
    let from = u32::try_from(query(asked, "from").unwrap_or_default()).unwrap();
    let values: Vec<_> = parts(size)
        .filter(|_| count > 1)
        .skip(from as usize)
        .take(VALUES_PER_PAGE)
        .map(|(part, span)| {
            let mut hasher = PartHasher::new(part);
            hasher.update(&slice(&file.bytes, span)).unwrap();
            hasher.value().unwrap()
        })
        .collect();
    let behind = from + u32::try_from(values.len()).unwrap();
    let next = (count > 1 && behind < count).then_some(behind);
    let tree = Tree {
        etag: file.etag.clone(),
        size: size.get(),
        blake3: FileHash::of(&file.bytes),
        part_size: PART.get(),
        grain: PART.get(),
        parts: count,
        from,
        values,
        next,
    };
    Ok(json(StatusCode::OK, &tree))
}

fn slice(bytes: &Bytes, span: Span) -> Bytes {
    let [start, end] = [span.start(), span.end()].map(|offset| usize::try_from(offset.get()).unwrap());
    bytes.slice(start..end)
}

fn get_file(store: &Mutex<Store>, path: &str, fields: &HeaderMap, fault: Fault) -> Result<Reply, Failure> {
    let file = locked(store).files.get(path).ok_or(Kind::NotFound)?.clone();
    let etag = EntityTag::parse(file.etag.as_bytes()).unwrap();
    let facts = Facts { validators: Validators { etag, last_modified: None }, size: Length::of(&file.bytes) };
    let answer = decide_get(&Method::GET, fields, &facts);
    let span = match &answer {
        Answer::Whole => Span::whole(facts.size),
        Answer::Part { span, .. } => *span,
        _ => Span::default(),
    };
    let description = Description {
        name: "a".to_owned(),
        content_type: HeaderValue::from_static("application/octet-stream"),
        location: HeaderValue::from_static("/files/@ann/a"),
    };
    let mut reply = Response::builder().status(answer.status());
    reply.headers_mut().unwrap().extend(answer_fields(&answer, &facts, &description));
    let body = sending(store, &slice(&file.bytes, span), fault);
    Ok(reply.body(body).unwrap())
}

/// Sends a body in pieces, through a channel that ends as the fault says.
fn sending(
    store: &Mutex<Store>,
    bytes: &Bytes,
    fault: Fault,
) -> http_body_util::combinators::BoxBody<Bytes, std::io::Error> {
    let mut bytes = bytes.to_vec();
    let limit =
        if let Fault::CutAnswer(limit) = fault { usize::try_from(limit).unwrap() } else { usize::MAX };
    if let (Fault::Flip, Some(byte)) = (fault, bytes.last_mut()) {
        *byte ^= 1;
    }
    let cut = bytes.len() > limit;
    bytes.truncate(limit);
    locked(store).bytes_out += length_of(&bytes);
    let (sender, receiver) = mpsc::unbounded_channel();
    let bytes = Bytes::from(bytes);
    for start in (0..bytes.len()).step_by(100_000) {
        let piece = bytes.slice(start..bytes.len().min(start + 100_000));
        sender.send(Ok(Frame::data(piece))).unwrap();
    }
    if cut {
        sender.send(Err(std::io::ErrorKind::ConnectionAborted.into())).unwrap();
    }
    Pieces { receiver, failure: None }.boxed()
}

/// A channel as a body.
struct Pieces {
    receiver: mpsc::UnboundedReceiver<Result<Frame<Bytes>, std::io::Error>>,
    /// The failure that comes next: what was sent before it leaves first.
    failure: Option<std::io::Error>,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if let Some(failure) = self.failure.take() {
            return std::task::Poll::Ready(Some(Err(failure)));
        }
        match self.receiver.poll_recv(context) {
            std::task::Poll::Ready(Some(Err(failure))) => {
                self.failure = Some(failure);
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            }
            other => other,
        }
    }
}
