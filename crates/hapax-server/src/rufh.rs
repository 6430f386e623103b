//! Resumable uploads for HTTP, the draft of the IETF: a PUT, POST or PATCH on a file that says whether it is complete
//! opens an upload, and PATCH on the upload goes on. Its fields are read by `hapax_proto::dialect::rufh`; what happens
//! is [`append`](crate::append)'s and [`finish`](crate::finish)'s.
//!
//! No interim answer tells the upload's address before the body has come: common clients take a 104 for the final
//! answer. Whoever wants to resume begins with an empty creation that is not complete.

use hapax_proto::access::Verb;
use hapax_proto::dialect::native::Precondition;
use hapax_proto::dialect::rufh::{self, Request};
use hapax_proto::dialect::{Conflict, Notes};
use hapax_proto::name::UrlPath;
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::{Length, Offset};
use hapax_proto::upload::{Append, State};
use hapax_store::catalog::{Expect, Upload, UploadId};
use hapax_store::upload::CreateUpload;
use http::header::{CONTENT_LOCATION, ETAG, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::append::{self, Appended, Extent};
use crate::call::Call;
use crate::files::{completion, described, entity_tag, location, named_place, weigh};
use crate::finish::conclude;
use crate::resource::{standing, tell};
use crate::respond::{self, Refusal, Response};
use crate::uploads;

/// Names the media types that a PATCH may have.
pub const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// The media types of bytes for an upload, of this dialect and of tus.
const PATCH_TYPES: HeaderValue =
    HeaderValue::from_static("application/partial-upload, application/offset+octet-stream");

/// `PUT`, `POST` or `PATCH` on `/files/<path>` with `Upload-Complete`: opens an upload, and takes its first bytes.
pub async fn create(call: &mut Call<'_>, named: UrlPath) -> Result<Response, Refusal> {
    let content = call.content_length().map(Length::new);
    let place = named_place(call, named).await?;
    let request = Request::parse(&call.parts.headers, content)?;
    if request.offset.is_some_and(|offset| offset > Offset::ZERO) {
        return Err(Kind::InconsistentUploadLength.into());
    }
    let max = call.app.config.caps.size;
    if request.total.or(content).is_some_and(|size| size > max) {
        return Err(Problem::new(Kind::TooLarge).member("limit", max.get()).into());
    }
    call.refuse_coding()?;
    let new = opened(call, &place, request.total).await?;
    let (upload, _) = call.store(move |store| store.create_upload(new)).await?;
    // From here on the request is one on its upload.
    call.verb = Verb::WriteUpload;
    let url = HeaderValue::from_str(&uploads::url(call.app, upload.id)).expect("a URL is visible ASCII");
    let request = Request { offset: Some(Offset::ZERO), ..request };
    let taken = take(call, upload.id, request, Guard::Target).await;
    // The upload exists whatever became of its bytes, and the client must learn where: it asks there and goes on.
    let mut response = taken.map_err(|refusal| refusal.field(LOCATION, url.clone()))?;
    if !request.complete {
        *response.status_mut() = StatusCode::CREATED;
        response.headers_mut().insert(LOCATION, url);
    }
    Ok(response)
}

/// Finds out what the upload is to become. The preconditions are weighed now, and again in the end.
async fn opened(
    call: &Call<'_>,
    place: &crate::call::Place,
    size: Option<Length>,
) -> Result<CreateUpload, Refusal> {
    let (space, path) = (place.space.id, place.path.clone());
    let entry = call.store(move |store| store.entry(space, &path)).await?;
    let weighed = weigh(&call.app.store, &call.parts.headers, entry)?;
    if !weighed.holds {
        return Err(Kind::PreconditionFailed.into());
    }
    let precondition = match (&weighed.expect, &weighed.file) {
        (Expect::Anything, _) => None,
        (_, None) => Some(Precondition::Absent),
        (_, Some(file)) => {
            let tag = entity_tag(&call.app.store, &file.entity).to_value();
            Some(Precondition::Matches(tag.to_str().expect("a tag is visible ASCII").to_owned()))
        }
    };
    let conflict = if call.parts.method == Method::POST { Conflict::Rename } else { Conflict::Replace };
    Ok(CreateUpload {
        user: call.who()?.user,
        key: None,
        space,
        path: place.path.clone(),
        size,
        meta: described(&call.parts.headers),
        precondition: precondition.map(|precondition| {
            serde_json::to_string(&precondition).expect("the shapes of the API always serialise")
        }),
        declared: call.declared_digests()?.representation,
        notes: Some(Notes { conflict, ..Notes::default() }.encode()),
        members: Vec::new(),
    })
}

/// `PATCH /uploads/<id>`: bytes behind what is there.
pub async fn append(call: &mut Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    let upload = call.upload(id).await?;
    let media_type = || Refusal::from(Kind::MediaType).field(ACCEPT_PATCH, PATCH_TYPES);
    // Without a word of any dialect nobody knows where the bytes belong.
    if !rufh::is_spoken(&call.parts.headers) {
        return Err(media_type());
    }
    let content = call.content_length().map(Length::new);
    let request = Request::parse(&call.parts.headers, content)?;
    if !request.takes_media_type(&call.parts.headers) {
        return Err(media_type());
    }
    if request.offset.is_none() {
        return Err(crate::call::bad_field("upload-offset"));
    }
    if upload.state == State::Done
        && request.complete
        && request.total == upload.size
        && request.total.is_some()
    {
        // The last append again: its answer was lost, or the file was whole before it. Nothing it brings can change what
        // is there.
        return answer_done(call, &upload, false).await;
    }
    take(call, id, request, Guard::Prefix).await
}

/// What the preconditions of a request speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// The file that the upload is to become; weighed by whoever created it.
    Target,
    /// The prefix of the upload.
    Prefix,
}

/// Takes the body in, and makes the file visible if it was the last one.
async fn take(
    call: &mut Call<'_>,
    id: UploadId,
    request: Request,
    guard: Guard,
) -> Result<Response, Refusal> {
    let content = call.content_length().map(Length::new);
    let at = request.offset.unwrap_or(Offset::ZERO);
    let is_whole = request.complete && at == Offset::ZERO;
    let append = append::Request {
        append: Append { at, length: content },
        total: request.total,
        checksum: None,
        extent: if is_whole { Extent::Whole } else { Extent::Piece },
    };
    let appended = match guard {
        Guard::Target => append::append(call, id, append).await,
        Guard::Prefix => append::append_if(call, id, append).await,
    };
    let appended = match appended {
        Err(refusal) if refusal.problem().kind == Kind::TooLarge => {
            // A body of unknown length that turns out too long makes it unknowable what belongs to the file.
            if content.is_none() {
                call.store(move |store| store.end_upload(id, State::Poisoned)).await?;
            }
            return Err(Kind::InconsistentUploadLength.into());
        }
        appended => appended?,
    };
    let Appended { upload, offset, lane } = appended;
    if !request.complete {
        let size = upload.size.filter(|size| size.end() == offset && !size.is_zero());
        let told = match size {
            None => tell(call, upload, offset).await?,
            Some(size) => {
                // Not one byte more can come, and some clients never say so: tus-js-client 4 in Node does not when it
                // reads a file in chunks.
                conclude(call, upload, size).await?;
                standing(call, id).await?
            }
        };
        drop(lane);
        return Ok(respond::empty(StatusCode::NO_CONTENT, with_completeness(call, told.fields, false)));
    }
    let size = offset.since(Offset::ZERO).unwrap_or_default();
    if upload.size.is_some_and(|agreed| agreed != size) {
        return Err(Kind::InconsistentUploadLength.into());
    }
    let published = conclude(call, upload, size).await?;
    drop(lane);
    let upload = call.upload(id).await?;
    answer_done(call, &upload, !published.replaced).await
}

/// Answers for a file that is visible: the answer of the target itself, so it may say that the upload is complete.
async fn answer_done(call: &Call<'_>, upload: &Upload, created: bool) -> Result<Response, Refusal> {
    let done = upload.done.clone().ok_or(Kind::AlreadyComplete)?;
    let owned = upload.clone();
    let (space, published) = call
        .store(move |store| {
            let space = store.catalog().space_by_id(owned.space)?;
            Ok((space, store.completion(&owned, &done)?))
        })
        .await?;
    let space = space.ok_or(Kind::NotFound)?;
    let store = &call.app.store;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = respond::json(status, &completion(store, &space, &upload.path, &published));
    let standing = with_completeness(call, standing(call, upload.id).await?.fields, true);
    let location = location(call.app, &space, &upload.path);
    let fields = response.headers_mut();
    fields.extend(standing);
    fields.insert(ETAG, entity_tag(store, &published.fingerprint).to_value());
    if created {
        fields.insert(LOCATION, location.clone());
    }
    fields.insert(CONTENT_LOCATION, location);
    Ok(response)
}

fn with_completeness(call: &Call<'_>, mut fields: HeaderMap, complete: bool) -> HeaderMap {
    let (name, value) = rufh::completeness(&call.parts.headers, complete);
    fields.insert(name, value);
    fields
}
