//! Files: the content of entries. Reading goes through the decisions of RFC 9110 in `hapax_proto::download`; a PUT
//! replaces atomically at its end, and one that breaks off changes nothing. It knows no upload.

/// The name that a POST gives its file.
mod posted;

/// Digests of whole files on request.
mod digests;

use std::sync::Arc;

use hapax_proto::byteranges::{Boundary, Multipart, Piece};
use hapax_proto::claim::{Question, decide_question};
use hapax_proto::dialect::integrity::{Announced, Trailing, check_digests};
use hapax_proto::dialect::native::{Completed, Precondition as Guard};
use hapax_proto::digest::{Algorithm, Digests, Hasher, Identity, REPR_DIGEST};
use hapax_proto::disposition::content_type;
use hapax_proto::download::{Answer, Description, Facts, answer_fields, decide_get};
use hapax_proto::name::{BadPath, EntryName, EntryPath, UrlPath};
use hapax_proto::precondition::{Conditions, MethodKind, Precondition, Validators, decide_precondition};
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::{Length, Span};
use hapax_proto::validator::{EntityTag, HttpDate};
use hapax_store::catalog::{Blob, Entry, EntryKind, Expect, Meta, Refusal as StoreRefusal, Space, SpaceId};
use hapax_store::content::{ContentReader, Shown};
use hapax_store::error::StoreError;
use hapax_store::file::FileIntake;
use hapax_store::key::Fingerprint;
use hapax_store::publish::{Published, Target};
use hapax_store::store::Store;
use http::header::{ALLOW, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPECT, IF_MATCH, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use crate::app::App;
use crate::body::{Bounds, Download, Ended, Pumped, Sink, Source, pump};
use crate::call::{Call, Declared, Place, bad_field, long_path};
use crate::respond::{self, Refusal, Response, UPLOAD_LIMIT};

pub use digests::{Choice, READ_MAX, choose, preferences, wanted};

/// What is to be read, with everything that describes it.
pub struct Readable {
    /// The bytes.
    pub blob: Blob,
    /// What shows them.
    pub shown: Shown,
    /// What decides the answer.
    pub facts: Facts,
    /// What describes it.
    pub description: Description,
}

/// `GET` and `HEAD /files/<path>`.
pub async fn read(call: &Call<'_>, named: UrlPath) -> Result<Response, Refusal> {
    let place = call.place(named).await?;
    let (space, path) = (place.space.id, place.path.clone());
    let entry = call.store(move |store| store.entry(space, &path)).await?.ok_or(Kind::NotFound)?;
    let EntryKind::File { blob, meta, entity } = &entry.kind else {
        return Err(Kind::IsAFolder.into());
    };
    if place.folder {
        return Err(Kind::NotFound.into());
    }
    let name = place.path.name().map_or("", |name| name.as_str());
    let facts = Facts { validators: validators(&call.app.store, &entry, entity), size: blob.size };
    let description = Description {
        name: name.to_owned(),
        content_type: content_type(meta.media_type.as_deref(), name),
        location: location(call.app, &place.space, &place.path),
    };
    let shown = Shown { blob: blob.id, entry: Some((place.space.id, place.path, *entity)) };
    send(call, Readable { blob: blob.clone(), shown, facts, description }).await
}

/// Answers a GET or HEAD with what the request's conditions and range leave of a file.
pub async fn send(call: &Call<'_>, file: Readable) -> Result<Response, Refusal> {
    let Readable { blob, shown, facts, description } = file;
    let answer = decide_get(&call.parts.method, &call.parts.headers, &facts);
    let mut fields = answer_fields(&answer, &facts, &description);
    let status = answer.status();
    let body = match answer {
        Answer::Whole => vec![Piece::File(Span::whole(facts.size))],
        Answer::Part { span, .. } => vec![Piece::File(span)],
        Answer::Parts { spans, .. } => {
            let parts = Multipart::new(&spans, facts.size, &description.content_type, boundary()?);
            fields.extend(parts.fields());
            parts.into_pieces()
        }
        Answer::NotModified => return Ok(respond::empty(status, fields)),
        Answer::PreconditionFailed => return Err(with_fields(Kind::PreconditionFailed.into(), fields)),
        Answer::Unsatisfiable => {
            let problem = Problem::new(Kind::Range).member("size", facts.size.get());
            return Err(with_fields(problem, fields));
        }
    };
    let digests: Digests = wanted(call, &blob).await?.into_iter().collect();
    fields.extend(digests.format_field().map(|field| (HeaderName::from_static(REPR_DIGEST), field)));
    if call.parts.method == Method::HEAD {
        return Ok(respond::empty(status, fields));
    }
    let stored = call.store(move |store| Stored::begin(store, blob, shown)).await?;
    let download = Download::begin(stored, body).await?;
    Ok(respond::file(status, fields, download))
}

/// Draws what separates the parts of one answer.
fn boundary() -> Result<Boundary, Refusal> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        tracing::error!(%error, "the operating system gave no random bytes");
        Kind::Internal
    })?;
    Ok(Boundary::new(random))
}

/// A problem with the fields that a refused read has.
fn with_fields(problem: Problem, fields: HeaderMap) -> Refusal {
    let kept = fields.into_iter().filter_map(|(name, value)| Some((name?, value)));
    kept.fold(problem.into(), |refusal: Refusal, (name, value)| refusal.field(name, value))
}

/// Stored bytes on their way out. Damage that shows is told to the store.
pub struct Stored {
    reader: ContentReader,
    store: Arc<Store>,
    blob: Blob,
}

impl Stored {
    /// Begins to read a blob.
    ///
    /// # Errors
    /// As [`Store::read_blob`].
    pub fn begin(store: &Arc<Store>, blob: Blob, shown: Shown) -> Result<Self, StoreError> {
        let reader = store.read_blob(&blob).inspect_err(|error| store.report_damage(&blob, error))?;
        Ok(Self { reader: reader.shown_by(shown), store: Arc::clone(store), blob })
    }
}

impl Source for Stored {
    type Error = StoreError;

    fn read(&mut self, span: Span, into: &mut Vec<u8>) -> Result<(), StoreError> {
        self.reader.read(span, into).inspect_err(|error| self.store.report_damage(&self.blob, error))
    }
}

/// Returns the strong entity tag of a content: of what a file's entry keeps for it.
pub fn entity_tag(store: &Store, entity: &Fingerprint) -> EntityTag {
    EntityTag::strong(&store.entity_tag(entity)).expect("base64url may stand in an entity tag")
}

/// Returns an entity tag as JSON spells it: as the field does, with its quotes.
pub fn spell_entity_tag(store: &Store, entity: &Fingerprint) -> String {
    format!("\"{}\"", store.entity_tag(entity))
}

/// Returns what validates a file. While the second of its date is not over, a second content could share it.
pub fn validators(store: &Store, entry: &Entry, entity: &Fingerprint) -> Validators {
    let is_dated = !entry.date_weak && entry.modified.as_secs() < store.now().wall.as_secs();
    Validators {
        etag: entity_tag(store, entity),
        last_modified: is_dated.then(|| HttpDate::from_seconds(entry.modified.as_secs())),
    }
}

/// Returns the long form of a file's URL, relative to the host.
pub fn location(app: &App, space: &Space, path: &EntryPath) -> HeaderValue {
    let url = format!("{}/files/@{}{}", app.config.base_path, space.name, path.to_url());
    HeaderValue::from_str(&url).expect("a URL is visible ASCII")
}

/// A file that stands somewhere.
pub struct File {
    /// Its entry.
    pub entry: Entry,
    /// Its content.
    pub blob: Blob,
    /// What its entity tag is made of.
    pub entity: Fingerprint,
}

/// What stands at the target of a change, and what must still stand there when it is made.
pub struct Standing {
    /// The file there, if there is one.
    pub file: Option<File>,
    /// What the change demands.
    pub expect: Expect,
    /// Whether the preconditions hold.
    pub holds: bool,
}

/// Weighs the preconditions of a change against what stands at its target.
///
/// A change without preconditions may happen over whatever is there; one with any demands that what it was weighed
/// against is still there in the transaction that makes it.
///
/// # Errors
/// 409 if a folder stands there.
pub fn weigh(store: &Store, fields: &HeaderMap, entry: Option<Entry>) -> Result<Standing, Refusal> {
    let file = match entry {
        None => None,
        Some(entry) => match entry.kind.clone() {
            EntryKind::Folder => return Err(Kind::IsAFolder.into()),
            EntryKind::File { blob, entity, .. } => Some(File { entry, blob, entity }),
        },
    };
    let conditions = Conditions::parse(fields);
    let current = file.as_ref().map(|file| validators(store, &file.entry, &file.entity));
    let decided = decide_precondition(MethodKind::Write, &conditions, current.as_ref());
    let expect = match &file {
        _ if conditions == Conditions::default() => Expect::Anything,
        None => Expect::Nothing,
        Some(File { entry, .. }) => Expect::Entry(entry.id, entry.version),
    };
    Ok(Standing { file, expect, holds: decided == Precondition::Proceed })
}

/// Finds out what must stand at a target for a precondition of the native dialect to hold.
///
/// # Errors
/// The inner one is the problem, as of [`expected_of`].
pub fn expectation(
    store: &Store,
    space: SpaceId,
    path: &EntryPath,
    precondition: Option<&Guard>,
) -> Result<Result<Expect, Kind>, StoreError> {
    Ok(expected_of(store, store.entry(space, path)?.as_ref(), precondition))
}

/// Finds out the same where it is known what stands there.
///
/// # Errors
/// A folder stands there, or the precondition does not hold already.
pub fn expected_of(
    store: &Store,
    entry: Option<&Entry>,
    precondition: Option<&Guard>,
) -> Result<Expect, Kind> {
    let file = match entry {
        None => None,
        Some(Entry { kind: EntryKind::Folder, .. }) => return Err(Kind::IsAFolder),
        Some(entry @ Entry { kind: EntryKind::File { entity, .. }, .. }) => Some((entry, entity)),
    };
    match (precondition, file) {
        (None, _) => Ok(Expect::Anything),
        (Some(Guard::Absent), None) => Ok(Expect::Nothing),
        (Some(Guard::Matches(etag)), Some((entry, entity))) if *etag == spell_entity_tag(store, entity) => {
            Ok(Expect::Entry(entry.id, entry.version))
        }
        (Some(_), _) => Err(Kind::PreconditionFailed),
    }
}

/// Finds out whether a file stands at a place that is what somebody wants to put there, so that nothing need be changed.
///
/// # Errors
/// The store's.
pub fn standing(
    store: &Store,
    place: &Place,
    identity: &Identity,
    meta: &Meta,
) -> Result<Option<Published>, StoreError> {
    Ok(is_standing(store, store.entry(place.space.id, &place.path)?.as_ref(), identity, meta))
}

/// Finds out the same where it is known what stands there.
pub fn is_standing(
    store: &Store,
    entry: Option<&Entry>,
    identity: &Identity,
    meta: &Meta,
) -> Option<Published> {
    let Entry { kind: EntryKind::File { blob, meta: held, entity }, version, .. } = entry? else {
        return None;
    };
    let is_same = blob.fingerprint == store.fingerprint(identity)
        && !blob.damaged
        && (held.mtime, held.executable) == (meta.mtime, meta.executable);
    is_same.then_some(Published {
        identity: *identity,
        fingerprint: *entity,
        version: *version,
        replaced: false,
        known: true,
    })
}

/// `PUT /files/<path>`.
pub async fn put(call: &mut Call<'_>, named: UrlPath) -> Result<Response, Refusal> {
    let place = call.place(named).await?;
    if place.folder {
        return Err(Kind::IsAFolder.into());
    }
    replace(call, place, Expect::Anything).await
}

/// `POST /files/<folder>/`: creates in the folder; the name comes from `Content-Disposition`.
pub async fn post(call: &mut Call<'_>, named: UrlPath) -> Result<Response, Refusal> {
    if !named.folder {
        call.place(named).await?;
        return Err(Kind::NotAFolder.into());
    }
    let place = named_place(call, named).await?;
    replace(call, place, Expect::Nothing).await
}

/// Finds the place of a file that is to be stored: what the URL names, or in the folder that it names what
/// `Content-Disposition` does.
///
/// # Errors
/// As [`Call::place`]; 409 for a folder with another method than POST, 400 if there is no name, or none that may be one.
pub async fn named_place(call: &Call<'_>, named: UrlPath) -> Result<Place, Refusal> {
    let mut place = call.place(named).await?;
    if !place.folder {
        return Ok(place);
    }
    if call.parts.method != Method::POST {
        return Err(Kind::IsAFolder.into());
    }
    let name = posted::file_name(&call.parts.headers);
    let name = name.ok_or_else(|| bad_field("content-disposition"))?;
    let bad_path = |bad: BadPath| Problem::new(Kind::BadPath).detail(bad.to_string());
    let name = EntryName::parse(&name).map_err(bad_path)?;
    place.path = place.path.join(name).map_err(bad_path)?;
    place.folder = false;
    Ok(place)
}

/// `PATCH /files/<path>` means something in a dialect of uploads only.
///
/// # Errors
/// 405, unless there is nothing to see for the caller.
pub async fn refuse_patch(call: &Call<'_>, named: UrlPath) -> Result<Response, Refusal> {
    call.place(named).await?;
    let allow = HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, POST, PUT");
    Err(Refusal::from(Kind::MethodNotAllowed).field(ALLOW, allow))
}

/// Takes the body in as the content of a file. `expect` is what the method itself demands.
async fn replace(call: &mut Call<'_>, place: Place, expect: Expect) -> Result<Response, Refusal> {
    if call.parts.headers.contains_key(CONTENT_RANGE) {
        return Err(Kind::ContentRange.into());
    }
    call.refuse_coding()?;
    let declared = call.declared_digests()?;
    let size = stated_size(call)?;
    let (space, path) = (place.space.id, place.path.clone());
    let entry = call.store(move |store| store.entry(space, &path)).await?;
    if expect == Expect::Nothing && entry.is_some() {
        return Err(Kind::Exists.into());
    }
    let standing = weigh(&call.app.store, &call.parts.headers, entry)?;
    if !standing.holds {
        return lost_answer(call, &place, standing, &declared, size).await;
    }
    let blake3 = declared.whole().get(Algorithm::Blake3).and_then(|digest| digest.file_hash());
    let expect = if expect == Expect::Nothing { expect } else { standing.expect };
    let target = Target { space, path: place.path.clone(), expect, meta: described(&call.parts.headers) };
    if let (Some(blake3), Some(size)) = (blake3, size)
        && waits_for_100(call)
        && let Question::Content(identity) =
            decide_question(Some(blake3.into()), None, size, &call.app.config.claims)
    {
        let known = target.clone();
        let linked = call.store(move |store| link_known(store, known, &identity)).await?;
        if let Some(published) = linked {
            return Ok(completed(call, &place, &published));
        }
    }
    let user = call.who()?.user;
    let announced = Announced { checksum: false, ..Announced::parse(&call.parts.headers) };
    let receiving = call
        .store(move |store| {
            let hasher = Hasher::new(others_than_blake3(&declared, announced));
            let intake = store.begin_file(user, target, size)?;
            let declared = vec![declared.content, declared.representation];
            Ok(Box::new(Receiving { intake, hasher, declared, space }))
        })
        .await?;
    let published = receive(call, receiving, size, announced).await?;
    Ok(completed(call, &place, &published))
}

/// Returns how many bytes the request states.
fn stated_size(call: &Call<'_>) -> Result<Option<Length>, Refusal> {
    let size = call.content_length().map(Length::new);
    let max = call.app.config.caps.size;
    if size.is_some_and(|size| size > max) {
        let limit = HeaderValue::from_str(&format!("max-size={max}")).expect("digits may stand in a field");
        let problem = Problem::new(Kind::TooLarge).member("limit", max.get());
        return Err(Refusal::from(problem).field(UPLOAD_LIMIT, limit));
    }
    Ok(size)
}

/// What the client says about the file. A generic type says nothing, so the name may say more.
pub fn described(fields: &HeaderMap) -> Meta {
    let declared = fields.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let says_nothing = |value: &&str| {
        value.starts_with("application/octet-stream")
            || value.starts_with("application/x-www-form-urlencoded")
    };
    let media_type = declared.filter(|value| !says_nothing(value)).map(str::to_owned);
    Meta { media_type, ..Meta::default() }
}

/// A request whose `If-Match` fails because it succeeded before: the answer was lost, and what it wanted to store is
/// what stands there.
async fn lost_answer(
    call: &Call<'_>,
    place: &Place,
    standing: Standing,
    declared: &Declared,
    size: Option<Length>,
) -> Result<Response, Refusal> {
    let has_if_match = call.parts.headers.contains_key(IF_MATCH);
    let (Some(File { entry, blob, entity }), true) = (standing.file, has_if_match) else {
        return Err(Kind::PreconditionFailed.into());
    };
    let is_of_size = size.is_none_or(|size| size == blob.size);
    if !is_of_size || blob.damaged || !digests::is_what_was_declared(call, &blob, declared).await? {
        return Err(Kind::PreconditionFailed.into());
    }
    let identity = call.store(move |store| store.identity(&blob)).await?;
    let version = entry.version;
    let published = Published { identity, fingerprint: entity, version, replaced: true, known: true };
    Ok(completed(call, place, &published))
}

/// Tells whether the client waits for `100 Continue` before it sends its body. Only HTTP/1.1 clients are known to
/// take a final answer instead.
fn waits_for_100(call: &Call<'_>) -> bool {
    let expects = call.parts.headers.get(EXPECT);
    call.parts.version == Version::HTTP_11
        && expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Links content that the target's space holds already; its owner is the caller. `None` if it does not, or if it was given
/// up meanwhile: the client has the bytes.
fn link_known(store: &Store, target: Target, identity: &Identity) -> Result<Option<Published>, StoreError> {
    let blob = store.catalog().blob_in_space(target.space, &store.fingerprint(identity))?;
    match blob.map(|blob| store.link(target, &blob)).transpose() {
        Err(StoreError::Refused(StoreRefusal::NotLive)) => Ok(None),
        linked => linked,
    }
}

/// Returns the algorithms besides BLAKE3 that have to be computed, because they were declared, or may be.
fn others_than_blake3(declared: &Declared, announced: Announced) -> Vec<Algorithm> {
    let mut algorithms: Vec<_> =
        if announced.any() { Algorithm::ALL.to_vec() } else { declared.whole().algorithms().collect() };
    algorithms.retain(|algorithm| *algorithm != Algorithm::Blake3);
    algorithms
}

/// A file on its way in, with what it must hash to.
struct Receiving {
    intake: FileIntake,
    hasher: Hasher,
    /// What each field says.
    declared: Vec<Digests>,
    space: SpaceId,
}

impl Sink for Receiving {
    type Error = StoreError;

    fn push(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(chunk);
        self.intake.push(chunk)
    }
}

/// Takes the body in and makes it visible.
async fn receive(
    call: &mut Call<'_>,
    receiving: Box<Receiving>,
    size: Option<Length>,
    announced: Announced,
) -> Result<Published, Refusal> {
    let bounds = Bounds {
        length_max: size.unwrap_or(call.app.config.caps.size),
        idle_max: call.app.config.deadlines.idle_body,
    };
    let stop = call.app.life.cut();
    let Pumped { mut sink, ended, trailers, .. } = pump(&mut *call.body, receiving, bounds, stop).await?;
    match ended {
        Ended::Complete => {
            let Trailing { content, representation, .. } = announced.read(&trailers)?;
            sink.declared.extend([content, representation]);
            call.store(move |store| Ok(publish(store, sink))).await?
        }
        Ended::TooLong => Err(Problem::new(Kind::TooLarge).member("limit", bounds.length_max.get()).into()),
        Ended::Cut | Ended::Idle | Ended::Stopped(_) => Err(Kind::Unavailable.into()),
    }
}

/// Compares the digests that are not ours, publishes, and keeps what was computed on the way. Blocks.
fn publish(store: &Store, receiving: Box<Receiving>) -> Result<Published, Refusal> {
    let computed = receiving.hasher.digests();
    // The intake computes BLAKE3 and compares one with it; the others have to be the same.
    let blake3 = receiving.declared.iter().find_map(|field| field.get(Algorithm::Blake3));
    let known: Digests = computed.iter().chain(blake3).collect();
    for declared in &receiving.declared {
        check_digests(declared, &known)?;
    }
    let published = receiving.intake.publish(blake3.and_then(|digest| digest.file_hash()))?;
    store.keep_digests_of(receiving.space, &published.fingerprint, &computed);
    Ok(published)
}

/// Answers with the file that is visible now.
fn completed(call: &Call<'_>, place: &Place, published: &Published) -> Response {
    let status = if published.replaced { StatusCode::OK } else { StatusCode::CREATED };
    let store = &call.app.store;
    let mut response = respond::json(status, &completion(store, &place.space, &place.path, published));
    let location = location(call.app, &place.space, &place.path);
    let fields = response.headers_mut();
    fields.insert(ETAG, entity_tag(store, &published.fingerprint).to_value());
    if status == StatusCode::CREATED {
        fields.insert(LOCATION, location.clone());
    }
    fields.insert(CONTENT_LOCATION, location);
    response
}

/// Returns what JSON says of a file that became visible.
pub fn completion(store: &Arc<Store>, space: &Space, path: &EntryPath, published: &Published) -> Completed {
    Completed {
        path: long_path(space, path),
        etag: spell_entity_tag(store, &published.fingerprint),
        size: published.identity.size.get(),
        blake3: published.identity.blake3,
        version: published.version,
        replaced: published.replaced,
    }
}

/// `DELETE /files/<path>`: a file, or an empty folder.
pub async fn delete(call: &Call<'_>, named: UrlPath) -> Result<Response, Refusal> {
    let place = call.place(named).await?;
    remove(call, place, Contents::Keep).await
}

/// What happens to that which lies in a folder that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// It stays, and so does the folder.
    Keep,
    /// It goes with the folder.
    RemoveToo,
}

/// Deletes an entry if the request's preconditions hold.
///
/// # Errors
/// 404 if there is none, 403 for the root of a space, 412 if a precondition fails, 409 for a folder that is not empty.
pub async fn remove(call: &Call<'_>, place: Place, contents: Contents) -> Result<Response, Refusal> {
    if place.path.is_root() {
        return Err(Problem::new(Kind::Forbidden).detail("the root of a space stays").into());
    }
    let (space, path) = (place.space.id, place.path.clone());
    let entry = call.store(move |store| store.entry(space, &path)).await?.ok_or(Kind::NotFound)?;
    let is_file = matches!(entry.kind, EntryKind::File { .. });
    if is_file && place.folder {
        return Err(Kind::NotFound.into());
    }
    let (holds, expect) = if is_file {
        let standing = weigh(&call.app.store, &call.parts.headers, Some(entry))?;
        (standing.holds, standing.expect)
    } else {
        // A folder has no representation, so no tag is its own (RFC 9110 §13.1.1).
        let decided = decide_precondition(MethodKind::Write, &Conditions::parse(&call.parts.headers), None);
        (decided == Precondition::Proceed, Expect::Entry(entry.id, entry.version))
    };
    if !holds {
        return Err(Kind::PreconditionFailed.into());
    }
    let path = place.path;
    call.store(move |store| store.remove(space, path, expect, contents == Contents::RemoveToo)).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT, HeaderMap::new()))
}
