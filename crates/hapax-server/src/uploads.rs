//! The native dialect of uploads, under `/api/v1/uploads`: create, look, resize, complete, cancel; parts are in
//! `part`, digests of what is there in `digest`. What may happen is decided by `hapax_proto::upload`.

/// Receiving a run of a part.
mod part;

/// Digests of durable spans.
mod digest;

use std::sync::Arc;

use hapax_proto::access::Object;
use hapax_proto::dialect::native::{
    Complete, Completed, CreateUpload, HeldPart, PartialPart, Precondition, Resize, UploadList, UploadStatus,
    UploadSummary,
};
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::{PART, PartNumber};
use hapax_proto::upload::{Finish, FinishFacts, FinishVerdict, State, decide_finish};
use hapax_store::catalog::{Counted, Meta, Refusal as StoreRefusal, Upload, UploadId};
use hapax_store::durable;
use hapax_store::error::StoreError;
use hapax_store::job::Pace;
use hapax_store::publish::Published;
use hapax_store::store::Store;
use hapax_store::upload as stored;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::access_id;
use crate::call::{Call, bad_field, long_path};
use crate::concat::refuse_composed;
use crate::files::{completion, expectation};
use crate::finish::{admit_reading, publish, replay};
use crate::health::limits;
use crate::refuse::ended;
use crate::respond::{self, Refusal, Response};
use crate::stamp;

pub use digest::digest_span;
pub use part::store_part;

/// Whole parts in one page of a status.
const PARTS_PAGE: usize = 4_096;
/// Uploads in a page of the list, if the client does not say, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Missing spans told at once.
const MISSING_MAX: usize = 256;
/// How often a `complete` looks again at an upload that changes meanwhile.
const LOOKS_MAX: usize = 16;

/// `POST /api/v1/uploads`.
pub async fn create(call: &mut Call<'_>) -> Result<Response, Refusal> {
    let create: CreateUpload = call.json().await?;
    let place = call.place_in_body(&create.path, call.verb).await?;
    if place.path.is_root() {
        return Err(Kind::IsAFolder.into());
    }
    let new = described(call, create, &place)?;
    let precondition: Option<Precondition> =
        new.precondition.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let (upload, created) =
        call.store(move |store| find_or_create(store, new, precondition.as_ref())).await??;
    let status = status(call, upload.id, PartNumber::FIRST).await?;
    let location = HeaderValue::from_str(&status.url).expect("a URL is visible ASCII");
    let code = if created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = respond::json(code, &status);
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// Finds the upload by its key, whatever became of its target meanwhile, or creates it. Tells whether it is new. Blocks.
///
/// # Errors
/// The inner one is the problem of what stands at the target.
fn find_or_create(
    store: &Store,
    new: stored::CreateUpload,
    precondition: Option<&Precondition>,
) -> Result<Result<(Upload, bool), Kind>, StoreError> {
    let key = new.key.as_deref();
    if let Some(known) = key.map(|key| store.upload_by_key(new.user, key)).transpose()?.flatten() {
        return Ok(Ok((known, false)));
    }
    match expectation(store, new.space, &new.path, precondition)? {
        Ok(_) => store.create_upload(new).map(Ok),
        Err(kind) => Ok(Err(kind)),
    }
}

/// Reads what the client says about the upload.
fn described(
    call: &Call<'_>,
    create: CreateUpload,
    place: &crate::call::Place,
) -> Result<stored::CreateUpload, Refusal> {
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !(16..=64).contains(&create.key.len()) || !create.key.bytes().all(is_key) {
        return Err(bad_field("key"));
    }
    let size_max = call.app.config.caps.size;
    let size = create.size.map(Length::new);
    if size.is_some_and(|size| size > size_max) {
        return Err(Problem::new(Kind::TooLarge).member("limit", size_max.get()).into());
    }
    let declared = create.digests;
    let precondition = create.precondition.map(|precondition| {
        serde_json::to_string(&precondition).expect("the shapes of the API always serialise")
    });
    let meta = Meta {
        mtime: stamp::parse_mtime(create.mtime.as_deref())?,
        executable: create.executable,
        media_type: create.media_type,
    };
    let (space, path) = (place.space.id, place.path.clone());
    let (user, key) = (call.who()?.user, Some(create.key));
    Ok(stored::CreateUpload {
        user,
        key,
        space,
        path,
        size,
        meta,
        precondition,
        declared,
        notes: None,
        members: Vec::new(),
    })
}

/// `GET /api/v1/uploads/<id>?from=`.
pub async fn read(call: &Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    let upload = call.upload(id).await?;
    let from = PartNumber::new(call.parsed("from")?.unwrap_or(0));
    Ok(respond::json(StatusCode::OK, &status(call, upload.id, from).await?))
}

/// Returns what JSON says of an upload; `parts` from the given part on.
async fn status(call: &Call<'_>, id: UploadId, from: PartNumber) -> Result<UploadStatus, Refusal> {
    let limits = limits(call.app);
    let url = url(call.app, id);
    call.store(move |store| {
        let (upload, received) = store.received(id, from, PARTS_PAGE)?;
        let pair = |span: &Span| (span.start().get(), span.end().get());
        Ok(UploadStatus {
            id: upload.id.to_string(),
            url,
            path: target(store, &upload)?,
            size: upload.size.map(Length::get),
            part_size: PART.get(),
            state: upload.state,
            offset: received.offset.get(),
            expires: stamp::spell(store.wall_time_of(upload.expires)),
            epoch: upload.generation.into(),
            limits,
            received: received.spans.iter().map(pair).collect(),
            parts: received.parts.iter().map(|&(part, value)| HeldPart { n: part.get(), value }).collect(),
            partial: received
                .partial
                .iter()
                .map(|(part, have)| PartialPart { n: part.get(), have: have.get() })
                .collect(),
            next: received.next.map(PartNumber::get),
        })
    })
    .await
}

/// Returns the upload's own resource, relative to the host.
pub fn url(app: &App, id: UploadId) -> String {
    format!("{}/uploads/{id}", app.config.base_path)
}

/// Returns the long form of the target.
fn target(store: &Store, upload: &Upload) -> Result<String, StoreError> {
    let space = store.catalog().space_by_id(upload.space)?;
    Ok(space.map_or_else(|| upload.path.to_string(), |space| long_path(&space, &upload.path)))
}

/// `GET /api/v1/uploads?after=&limit=`.
pub async fn list(call: &Call<'_>) -> Result<Response, Refusal> {
    let user = call.who()?.user;
    call.allow(&Object::Account { owner: access_id(user) })?;
    let limit = call.parsed::<usize>("limit")?.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let after = call.parameter("after")?;
    let after = after.map(|after| UploadId::parse(&after).ok_or_else(|| bad_field("after"))).transpose()?;
    let page = call
        .store(move |store| {
            let uploads = store.catalog().uploads(user, after, limit)?;
            let full = uploads.len() == limit;
            let next = uploads.last().filter(|_| full).map(|upload| upload.id.to_string());
            let summary = |upload: &Upload| {
                Ok(UploadSummary {
                    id: upload.id.to_string(),
                    path: target(store, upload)?,
                    size: upload.size.map(Length::get),
                    covered: upload.covered.get(),
                    state: upload.state,
                    expires: stamp::spell(store.wall_time_of(upload.expires)),
                })
            };
            // What became part of a file is nobody's concern any more.
            let shown = uploads.iter().filter(|upload| upload.counted != Counted::InFile);
            let uploads = shown.map(summary).collect::<Result<_, StoreError>>()?;
            Ok(UploadList { uploads, next })
        })
        .await?;
    Ok(respond::json(StatusCode::OK, &page))
}

/// `POST /api/v1/uploads/<id>/resize`: the source has another size than was stated.
pub async fn resize(call: &mut Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    let upload = call.upload(id).await?;
    refuse_composed(&upload)?;
    let resize: Resize = call.json().await?;
    if upload.state != State::Open {
        return Err(ended(upload.state).into());
    }
    let (size, max) = (Length::new(resize.size), call.app.config.caps.size);
    if size > max {
        return Err(Problem::new(Kind::TooLarge).member("limit", max.get()).into());
    }
    let mtime = stamp::parse_mtime(resize.mtime.as_deref())?;
    let resized = call.store(move |store| store.resize_upload(&upload, size, mtime)).await;
    let status = status(call, resized?.id, PartNumber::FIRST).await?;
    Ok(respond::json(StatusCode::OK, &status))
}

/// `POST /api/v1/uploads/<id>/complete`.
pub async fn complete(call: &mut Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    let upload = call.upload(id).await?;
    refuse_composed(&upload)?;
    let complete: Complete = call.json().await?;
    let pass = admit_reading(call, &upload).await?;
    let completed = call
        .store_until_cut(move |store, go| {
            let completed = finish(store, id, &complete, go);
            // Held until the reading ends, which it does not when the client goes away.
            drop(pass);
            Ok(completed)
        })
        .await??;
    let status = if completed.replaced { StatusCode::OK } else { StatusCode::CREATED };
    Ok(respond::json(status, &completed))
}

/// Completes an upload. Blocks.
fn finish(store: &Arc<Store>, id: UploadId, complete: &Complete, go: Pace<'_>) -> Result<Completed, Refusal> {
    let published = publish_complete(store, id, complete, go)?;
    let upload = store.upload(id)?;
    let space = store.catalog().space_by_id(upload.space)?.ok_or(Kind::NotFound)?;
    Ok(completion(store, &space, &upload.path, &published))
}

/// Decides and does what completes an upload. Blocks.
fn publish_complete(
    store: &Arc<Store>,
    id: UploadId,
    complete: &Complete,
    go: Pace<'_>,
) -> Result<Published, Refusal> {
    let size = Length::new(complete.size);
    for _ in 0..LOOKS_MAX {
        // Not what the upload's row says: the tail of a part whose end is not known yet is durable, too.
        let (upload, offset) = &store.standing(id)?;
        let covered = match upload.state {
            State::Open => offset.since(Offset::ZERO).unwrap_or_default(),
            _ => Length::ZERO,
        };
        let facts = FinishFacts { state: upload.state, size: upload.size, covered };
        match decide_finish(&facts, &Finish { size }) {
            FinishVerdict::Publish => return publish(store, upload, (size, complete.blake3), go),
            FinishVerdict::Replay => return replay(store, upload, size, complete.blake3),
            FinishVerdict::Ended(state) => return Err(ended(state).into()),
            FinishVerdict::WrongSize { .. } => return Err(Kind::InconsistentUploadLength.into()),
            FinishVerdict::Incomplete => {}
        }
        let (upload, received) = store.received(id, PartNumber::FIRST, 0)?;
        let gaps = durable::missing(received.spans, Span::whole(size));
        // Else the last bytes came, or the upload ended, just now.
        if upload.state == State::Open && (!gaps.is_empty() || received.offset > size.end()) {
            return Err(missing(gaps).into());
        }
    }
    Err(Kind::Superseded.into())
}

/// The problem that these bytes are not there.
fn missing(mut spans: Vec<Span>) -> Problem {
    let more = spans.len() > MISSING_MAX;
    spans.truncate(MISSING_MAX);
    let pairs = spans.iter().map(|span| json!([span.start().get(), span.end().get()])).collect();
    Problem::new(Kind::Incomplete).member("missing", Value::Array(pairs)).member("more", more)
}

/// `DELETE /api/v1/uploads/<id>`, and of the upload resource: ends it. Repeating it is harmless.
pub async fn cancel(call: &Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    let upload = call.upload(id).await?;
    match upload.state {
        State::Open => match call.try_store(move |store| store.end_upload(id, State::Cancelled)).await {
            // Somebody else just did.
            Ok(()) | Err(StoreError::Refused(StoreRefusal::Ended(State::Cancelled))) => {}
            Err(error) => return Err(error.into()),
        },
        State::Cancelled => {}
        state => return Err(ended(state).into()),
    }
    Ok(respond::empty(StatusCode::NO_CONTENT, HeaderMap::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_is_missing() {
        #[track_caller]
        fn check(spans: &[(u64, u64)], size: u64, missing: &[(u64, u64)]) {
            let span = |&(start, end): &(u64, u64)| Span::new(Offset::new(start), Offset::new(end)).unwrap();
            let spans: Vec<_> = spans.iter().map(span).collect();
            let missing: Vec<_> = missing.iter().map(span).collect();
            assert_eq!(durable::missing(spans, Span::whole(Length::new(size))), missing);
        }
        check(&[], 0, &[]);
        check(&[], 5, &[(0, 5)]);
        check(&[(0, 5)], 5, &[]);
        check(&[(0, 2), (3, 4)], 5, &[(2, 3), (4, 5)]);
        check(&[(1, 9)], 5, &[(0, 1)]);
        check(&[(7, 9)], 5, &[(0, 5)]);
    }
}
