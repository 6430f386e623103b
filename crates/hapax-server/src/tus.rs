//! tus 1.0.0: create, ask, append, end, under `/tus/`. Its fields are read by `hapax_proto::dialect::tus`; what happens
//! is [`append`](crate::append)'s and [`finish`](crate::finish)'s.
//!
//! A client takes an offset that equals the length for success. So it is told only in or after the transaction that
//! makes the file visible.

use hapax_proto::access::Verb;
use hapax_proto::claim::{Question, decide_question};
use hapax_proto::dialect::tus::{
    self, Checksum, Concat, Creation, MEDIA_TYPE, METHOD_OVERRIDE, Metadata, TUS_RESUMABLE, TUS_VERSION,
    UPLOAD_OFFSET,
};
use hapax_proto::dialect::{Conflict, Notes, Role};
use hapax_proto::digest::{Algorithm, Digest, Digests, FileHash};
use hapax_proto::name::safe_base_name;
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::{Length, Offset};
use hapax_proto::upload::{Append, State};
use hapax_store::catalog::{LaneId, Meta, Upload, UploadId};
use hapax_store::error::StoreError;
use hapax_store::store::Store;
use hapax_store::upload::CreateUpload;
use http::header::{CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::app::App;
use crate::append::{self, Appended, Extent};
use crate::call::{Call, Place, bad_field};
use crate::concat::{self, settle_piece};
use crate::finish::{self, notes_of, publish_known};
use crate::resource::{Told, is_waiting, may_write, settled, standing, tell, with_digest};
use crate::respond::{self, Refusal, Response};
use crate::rufh::ACCEPT_PATCH;
use crate::{stamp, uploads};

/// Tells whether a raw path is one of tus.
pub fn is_below(path: &str, base_path: &str) -> bool {
    let below = path.strip_prefix(base_path).and_then(|path| path.strip_prefix("/tus"));
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Tells whether a request on an upload speaks tus, whatever its path is.
pub fn is_spoken(fields: &HeaderMap) -> bool {
    fields.contains_key(TUS_RESUMABLE) || fields.get(CONTENT_TYPE).is_some_and(|media| media == MEDIA_TYPE)
}

/// Returns the method that a request means: some networks let no other through than GET and POST.
///
/// # Errors
/// 400 if it names no method.
pub fn meant_method(parts: &Parts) -> Result<Method, Refusal> {
    match parts.headers.get(METHOD_OVERRIDE) {
        Some(meant) if parts.method == Method::POST => {
            Method::from_bytes(meant.as_bytes()).map_err(|_| bad_field(METHOD_OVERRIDE.as_str()))
        }
        _ => Ok(parts.method.clone()),
    }
}

/// Adds to every answer below `/tus/` what the protocol asks of all of them, refusals included.
pub fn sign(response: &mut Response) {
    let is_of_version = response.status() == StatusCode::PRECONDITION_FAILED;
    let fields = response.headers_mut();
    fields.insert(TUS_RESUMABLE, HeaderValue::from_static(tus::VERSION));
    if is_of_version {
        fields.insert(TUS_VERSION, HeaderValue::from_static(tus::VERSION));
    }
}

/// `POST /tus/`: opens an upload, and takes its first bytes if it brings them.
pub async fn create(call: &mut Call<'_>) -> Result<Response, Refusal> {
    tus::check_version(&call.parts.headers)?;
    let creation = tus::parse_creation(&call.parts.headers)?;
    let max = call.app.config.caps.size;
    if creation.length.is_some_and(|length| length > max) {
        return Err(Problem::new(Kind::TooLarge).member("limit", max.get()).into());
    }
    let brings_bytes = call.parts.headers.get(CONTENT_TYPE).is_some_and(|media| media == MEDIA_TYPE);
    let checksum = Checksum::parse(&call.parts.headers)?;
    if brings_bytes && matches!(creation.concat, Some(Concat::Final(_))) {
        return Err(Kind::FinalUpload.into());
    }
    let new = described(call, &creation).await?;
    let claimed = if creation.concat.is_none() { claimed(call.app, &new) } else { Question::Nothing };
    let upload = call.store(move |store| opened(store, new)).await?;
    // From here on the request is one on its upload.
    call.verb = Verb::WriteUpload;
    let url = url(call.app, upload.id);
    let mut fields = if is_waiting(&upload) {
        let _lane = call.app.store.lanes().take(upload.id, LaneId::Append).await;
        concat::conclude(call, call.upload(upload.id).await?).await?;
        standing(call, upload.id).await?.fields
    } else if let Some(fields) = link(call, &upload, claimed).await? {
        fields
    } else if brings_bytes {
        let append = Append { at: Offset::ZERO, length: call.content_length().map(Length::new) };
        let request = append::Request { append, total: None, checksum, extent: Extent::Piece };
        // The upload exists whatever becomes of its bytes, and the client must learn where: it asks there and goes on.
        let appended = append::append(call, upload.id, request).await;
        let appended = appended.map_err(|refusal| refusal.field(LOCATION, url.clone()))?;
        let concluded = conclude(call, appended.upload, appended.offset).await;
        concluded.map_err(|refusal| refusal.field(LOCATION, url.clone()))?.fields
    } else if upload.state == State::Done {
        standing(call, upload.id).await?.fields
    } else {
        settle_piece(call, &upload, Offset::ZERO).await?;
        let mut fields = conclude(call, upload, Offset::ZERO).await?.fields;
        // Only a creation that brought bytes tells an offset.
        fields.remove(UPLOAD_OFFSET);
        fields
    };
    fields.insert(LOCATION, url);
    Ok(respond::empty(StatusCode::CREATED, fields))
}

/// Opens an upload. One that is composed of the same members in the same way as an earlier one is that one: the answer to its
/// creation was lost.
fn opened(store: &Store, new: CreateUpload) -> Result<Upload, StoreError> {
    let (upload, created) = store.create_upload(new.clone())?;
    if created || matches!(upload.state, State::Open | State::Done) {
        return Ok(upload);
    }
    Ok(store.create_upload(CreateUpload { key: None, ..new })?.0)
}

/// Returns the content that a client says it has, by its size and a digest that nobody can make two contents of. No
/// client of tus would hash again for candidates, and none has to: the first one is it.
fn claimed(app: &App, new: &CreateUpload) -> Question {
    let Some(size) = new.size else { return Question::Nothing };
    let mut proving = new.declared.iter().filter(|digest| digest.algorithm().is_collision_resistant());
    decide_question(proving.next(), None, size, &app.config.claims)
}

/// Finishes an upload at once if its space holds the content already: an instant upload. Else it says nothing, and
/// the upload is one like any other; content that others have is like content nobody has.
///
/// A digest that is declared besides and is not known here can only be compared with bytes, so these are awaited.
async fn link(call: &Call<'_>, upload: &Upload, claimed: Question) -> Result<Option<HeaderMap>, Refusal> {
    if claimed == Question::Nothing {
        return Ok(None);
    }
    let (id, named) = (upload.id, upload.clone());
    let linked = call.store(move |store| {
        let found = match claimed {
            Question::Content(identity) => {
                store.catalog().blob_in_space(named.space, &store.fingerprint(&identity))?
            }
            Question::Digest(digest, size) => {
                store.find_by_digest(Some(named.space), &digest, size, 1)?.pop()
            }
            Question::Quick(..) | Question::Nothing => None,
        };
        let Some(blob) = found else { return Ok(false) };
        let known = store.known_digests(&blob)?;
        if store.declared(&named)?.iter().any(|digest| known.get(digest.algorithm()) != Some(digest)) {
            return Ok(false);
        }
        // Given up meanwhile, or too many names are taken: bytes or another try will tell.
        Ok(publish_known(store, named, &blob).is_ok())
    });
    if !linked.await? {
        return Ok(None);
    }
    Ok(Some(standing(call, id).await?.fields))
}

/// Finds out where an upload goes, from what the client says about the file.
async fn described(call: &Call<'_>, creation: &Creation) -> Result<CreateUpload, Refusal> {
    let Creation { length, metadata, concat } = creation;
    let members = match concat {
        Some(Concat::Final(names)) => concat::members(call, names).await?,
        _ => Vec::new(),
    };
    let place = target(call, metadata).await?;
    let conflict = if metadata.has("overwrite") { Conflict::Replace } else { Conflict::Rename };
    let concat = call.parts.headers.get(tus::UPLOAD_CONCAT);
    let concat = concat.and_then(|text| text.to_str().ok()).map(|text| text.trim().to_owned());
    let notes = Notes { conflict, metadata: metadata.raw().map(str::to_owned), concat };
    // No key of a client's has a colon.
    let key = (!members.is_empty()).then(|| format!("tus:{}", FileHash::of(notes.encode().as_bytes())));
    let declared = declared(metadata)?;
    let media_type = metadata.text("filetype").or(metadata.text("type")).map(str::to_owned);
    let mtime = stamp::parse_mtime(metadata.text("mtime"))?;
    Ok(CreateUpload {
        user: call.who()?.user,
        key,
        space: place.space.id,
        path: place.path,
        size: *length,
        meta: Meta { mtime, executable: false, media_type },
        precondition: None,
        declared,
        notes: Some(notes.encode()),
        members,
    })
}

/// Reads what the whole must hash to.
fn declared(metadata: &Metadata) -> Result<Digests, Refusal> {
    let named = [("blake3", Algorithm::Blake3), ("sha256", Algorithm::Sha256)];
    let stated = named.into_iter().filter_map(|(key, algorithm)| Some((algorithm, metadata.text(key)?)));
    let parsed: Result<Digests, _> =
        stated.map(|(algorithm, text)| Digest::parse_hex(algorithm, &text.to_ascii_lowercase())).collect();
    parsed.map_err(|_| bad_field("upload-metadata"))
}

/// Returns the place that the metadata name: `path`, the `relativePath` of a folder dropped on a page, or the base name
/// in `filename` or `name`; without any of them a name nobody has.
async fn target(call: &Call<'_>, metadata: &Metadata) -> Result<Place, Refusal> {
    let named = metadata.text("path").or(metadata.text("relativePath"));
    let path = match named {
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("/{path}"),
        None => {
            let name = metadata.text("filename").or(metadata.text("name")).and_then(safe_base_name);
            let name = match name {
                Some(name) => name,
                None => format!("upload {}", UploadId::random().map_err(|_| Kind::Unavailable)?),
            };
            format!("/{name}")
        }
    };
    let place = call.place_in_body(&path, Verb::CreateUpload).await?;
    if place.path.is_root() { Err(Kind::IsAFolder.into()) } else { Ok(place) }
}

/// Returns the URL of an upload, relative to the host.
fn url(app: &App, id: UploadId) -> HeaderValue {
    let url = format!("{}/tus/{id}", app.config.base_path);
    HeaderValue::from_str(&url).expect("a URL is visible ASCII")
}

/// `HEAD /tus/<id>`: where the upload stands. It ends a running append, which keeps what arrived; and it finishes an
/// upload that has all its bytes, because an offset that equals the length says that. For who may only read nothing ends
/// and nothing is finished.
///
/// # Errors
/// 423 for whatever will pass: on any other status clients forget the URL and start over.
pub async fn probe(call: &Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    let probed = ask(call, id).await;
    let fields = probed.map_err(|refusal| match refusal.problem().kind {
        Kind::Unavailable | Kind::TooMany | Kind::OutOfSpace | Kind::Superseded => Kind::Busy.into(),
        _ => refusal,
    })?;
    Ok(respond::empty(StatusCode::OK, fields))
}

async fn ask(call: &Call<'_>, id: UploadId) -> Result<HeaderMap, Refusal> {
    let upload = call.upload(id).await?;
    tus::check_version(&call.parts.headers)?;
    let may_write = may_write(call, &upload);
    loop {
        let told = if may_write { concluded(call, id).await? } else { standing(call, id).await? };
        // A digest may take long to compute; nobody has to wait for the lane that long.
        let told = with_digest(call, told).await?;
        // Unless the last bytes came in the meantime: then the file comes first.
        if ready(&told.upload, told.offset)?.is_none() {
            return Ok(told.fields);
        }
        // Who may only read makes nothing visible; the offset would say that it is.
        if !may_write {
            return Err(Kind::Busy.into());
        }
    }
}

/// Ends a running append, makes the file visible if all of it is there, and says where the upload stands then.
async fn concluded(call: &Call<'_>, id: UploadId) -> Result<Told, Refusal> {
    let (upload, _lane) = settled(call, id).await?;
    if is_waiting(&upload) {
        concat::conclude(call, upload).await?;
        return standing(call, id).await;
    }
    let (upload, offset) = call.store(move |store| store.standing(id)).await?;
    if !concat::is_settled(&upload) {
        settle_piece(call, &upload, offset).await?;
    }
    conclude(call, upload, offset).await
}

/// `PATCH /tus/<id>`: bytes behind what is there.
pub async fn append(call: &mut Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    let upload = call.upload(id).await?;
    tus::check_version(&call.parts.headers)?;
    if call.parts.headers.get(CONTENT_TYPE).is_none_or(|media| media != MEDIA_TYPE) {
        let accepted = HeaderValue::from_static(MEDIA_TYPE);
        return Err(Refusal::from(Kind::MediaType).field(ACCEPT_PATCH, accepted));
    }
    let at = tus::parse_offset(&call.parts.headers)?;
    concat::refuse_composed(&upload)?;
    if upload.state == State::Done {
        return append_to_done(call, &upload, at).await;
    }
    let total = tus::parse_number(&call.parts.headers, &tus::UPLOAD_LENGTH)?.map(Length::new);
    let checksum = Checksum::parse(&call.parts.headers)?;
    let append = Append { at, length: call.content_length().map(Length::new) };
    let Appended { upload, offset, lane } =
        append::append_if(call, id, append::Request { append, total, checksum, extent: Extent::Piece })
            .await?;
    let fields = conclude(call, upload, offset).await?.fields;
    drop(lane);
    Ok(respond::empty(StatusCode::NO_CONTENT, fields))
}

/// Whoever did not read in the answer to its creation that nothing is missing learns it here, before its bytes.
/// Nothing at the end is welcome: tuspy sends that after it found by a `HEAD` that its last answer was lost.
async fn append_to_done(call: &Call<'_>, upload: &Upload, at: Offset) -> Result<Response, Refusal> {
    let end = upload.size.unwrap_or_default().end();
    if at == end && call.content_length() == Some(0) {
        return Ok(respond::empty(StatusCode::NO_CONTENT, standing(call, upload.id).await?.fields));
    }
    Err(Refusal::from(Kind::AlreadyComplete).field(UPLOAD_OFFSET, end.get().into()))
}

/// `DELETE /tus/<id>`: ends the upload.
pub async fn terminate(call: &Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    call.upload(id).await?;
    tus::check_version(&call.parts.headers)?;
    uploads::cancel(call, id).await
}

/// Makes the file visible if all of it is there, and says where the upload stands then.
///
/// # Errors
/// 460 if it is not what was declared at its creation: no client sends other bytes to the same upload, so it ends.
async fn conclude(call: &Call<'_>, upload: Upload, offset: Offset) -> Result<Told, Refusal> {
    let Some(size) = ready(&upload, offset)? else {
        // Not looked at again: what came since might be the last byte.
        return tell(call, upload, offset).await;
    };
    let id = upload.id;
    match finish::conclude(call, upload, size).await {
        Ok(_) => standing(call, id).await,
        Err(refusal) if refusal.problem().kind == Kind::FinalDigestMismatch => {
            call.store(move |store| store.end_upload(id, State::Poisoned)).await?;
            Err(Kind::ChecksumMismatch.into())
        }
        Err(refusal) => Err(refusal),
    }
}

/// Returns the size of an open upload that is to be a file and has all its bytes.
fn ready(upload: &Upload, offset: Offset) -> Result<Option<Length>, Refusal> {
    if upload.state != State::Open || notes_of(upload)?.role() != Role::File {
        return Ok(None);
    }
    Ok(upload.size.filter(|size| size.end() == offset))
}
