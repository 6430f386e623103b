//! The upload resource `/uploads/<id>`, as every dialect sees it: one representation, the durable contiguous prefix.

use hapax_proto::dialect::rufh::{UPLOAD_COMPLETE, completeness};
use hapax_proto::dialect::tus::{self, TUS_RESUMABLE, UPLOAD_DEFER_LENGTH, UPLOAD_LENGTH, UPLOAD_OFFSET};
use hapax_proto::digest::{Algorithm, Digest, Digests, REPR_DIGEST};
use hapax_proto::disposition::content_type;
use hapax_proto::download::{Description, Facts};
use hapax_proto::precondition::Validators;
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::Offset;
use hapax_proto::upload::State;
use hapax_proto::validator::{EntityTag, HttpDate};
use hapax_store::catalog::{Counted, LaneId, Upload, UploadId};
use hapax_store::lane::LaneGuard;
use http::header::{CACHE_CONTROL, CONTENT_LOCATION, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::app::App;
use crate::call::Call;
use crate::concat;
use crate::files::{Readable, entity_tag, location, preferences, send};
use crate::finish::notes_of;
use crate::refuse::ended;
use crate::respond::{self, Refusal, Response, UPLOAD_LIMIT};

const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");

/// `HEAD /uploads/<id>`: where the upload stands, and with `Want-Repr-Digest` what its prefix hashes to.
///
/// It ends a running append, which keeps what arrived; so the offset told here is accepted by the next append.
pub async fn probe(call: &Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    call.upload(id).await?;
    let (upload, lane) = settled(call, id).await?;
    let upload = if is_waiting(&upload) { concat::conclude(call, upload).await? } else { upload };
    drop(lane);
    let wants_digest = preferences(&call.parts.headers)?.choose(&[Algorithm::Blake3]).is_some();
    let (mut fields, offset) = standing(call, &upload).await?;
    let (name, value) = completeness(&call.parts.headers, upload.state == State::Done);
    fields.insert(name, value);
    if wants_digest && upload.state == State::Open {
        let length = offset.since(Offset::ZERO).unwrap_or_default();
        let root = call.store(move |store| store.prefix_root(&upload, length)).await?;
        let digests: Digests = root.map(Digest::from).into_iter().collect();
        fields.extend(digests.format_field().map(|field| (HeaderName::from_static(REPR_DIGEST), field)));
    }
    Ok(respond::empty(StatusCode::OK, fields))
}

/// Ends a running append and returns the upload as that left it, with the lane. The caller has been let in already.
pub async fn settled(call: &Call<'_>, id: UploadId) -> Result<(Upload, LaneGuard), Refusal> {
    let lane = call.app.store.lanes().take(id, LaneId::Append).await;
    Ok((call.upload(id).await?, lane))
}

/// Tells whether an upload waits for others of which it is composed.
pub fn is_waiting(upload: &Upload) -> bool {
    upload.state == State::Open && upload.counted == Counted::InMembers
}

/// `GET /uploads/<id>`: the file, once the upload is done.
///
/// # Errors
/// 403 while it is not, 410 if it never will be, 404 if the file is no longer in the owner's space.
pub async fn read(call: &Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    let upload = call.upload(id).await?;
    if upload.state == State::Open {
        let (fields, offset) = standing(call, &upload).await?;
        let problem = Problem::new(Kind::UploadUnfinished).member("offset", offset.get());
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name?, value)));
        return Err(fields.fold(problem.into(), |refusal: Refusal, (name, value)| refusal.field(name, value)));
    }
    let done = upload.done.clone().ok_or_else(|| ended(upload.state))?;
    let (owned, app) = (upload.clone(), call.app);
    let found = call
        .store(move |store| {
            let blob = store.catalog().blob_in_space(owned.space, &done.fingerprint)?;
            Ok(blob.zip(store.catalog().space_by_id(owned.space)?))
        })
        .await?;
    let (blob, space) = found.ok_or(Kind::NotFound)?;
    let name = upload.path.name().map_or("", |name| name.as_str());
    let validators = Validators { etag: entity_tag(&app.store, &blob.fingerprint), last_modified: None };
    let file = Readable {
        facts: Facts { validators, size: blob.size },
        description: Description {
            name: name.to_owned(),
            content_type: content_type(upload.meta.media_type.as_deref(), name),
            location: location(app, &space, &upload.path),
        },
        blob,
    };
    send(call, file).await
}

/// Returns the fields that say where an upload stands, alike in every dialect, and the offset among them. For one
/// that is done, they say where its file went.
///
/// # Errors
/// 410 if it ended without a result.
pub async fn standing(call: &Call<'_>, upload: &Upload) -> Result<(HeaderMap, Offset), Refusal> {
    let (is_done, offset) = match upload.state {
        State::Done => (true, upload.size.unwrap_or_default().end()),
        State::Open => {
            let looked_up = upload.clone();
            (false, call.store(move |store| store.durable_offset(&looked_up)).await?)
        }
        state => return Err(ended(state).into()),
    };
    let mut fields = HeaderMap::from_iter([
        (UPLOAD_OFFSET, number(offset.get())),
        (UPLOAD_COMPLETE, HeaderValue::from_static(if is_done { "?1" } else { "?0" })),
        (UPLOAD_LIMIT, limit(call.app, upload)),
        (ETAG, prefix_tag(upload, offset)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ]);
    match upload.size {
        Some(size) => fields.insert(UPLOAD_LENGTH, number(size.get())),
        None => fields.insert(UPLOAD_DEFER_LENGTH, number(1)),
    };
    fields.insert(TUS_RESUMABLE, HeaderValue::from_static(tus::VERSION));
    if is_waiting(upload) {
        // How long it is, and how much of that is there, its members say.
        fields.remove(UPLOAD_OFFSET);
        fields.remove(UPLOAD_DEFER_LENGTH);
    }
    let notes = notes_of(upload)?;
    for (name, note) in [(tus::UPLOAD_METADATA, notes.metadata), (tus::UPLOAD_CONCAT, notes.concat)] {
        fields.extend(note.and_then(|note| HeaderValue::from_str(&note).ok()).map(|note| (name, note)));
    }
    if is_done {
        let space = upload.space;
        let space =
            call.store(move |store| store.catalog().space_by_id(space)).await?.ok_or(Kind::NotFound)?;
        fields.insert(CONTENT_LOCATION, location(call.app, &space, &upload.path));
    } else {
        let date = HttpDate::from_seconds(call.app.store.wall_time_of(upload.expires).as_secs());
        fields.insert(UPLOAD_EXPIRES, date.to_value());
    }
    Ok((fields, offset))
}

fn number(number: u64) -> HeaderValue {
    HeaderValue::from(number)
}

/// The tag of the prefix: it changes when the prefix does.
fn prefix_tag(upload: &Upload, offset: Offset) -> HeaderValue {
    let tag = EntityTag::strong(&format!("{}-{offset}", upload.generation));
    tag.expect("digits may stand in an entity tag").to_value()
}

/// What the upload is limited to (IETF draft, `Upload-Limit`).
fn limit(app: &App, upload: &Upload) -> HeaderValue {
    let age = upload.expires.since(app.store.now().steady).as_secs();
    let limit = format!("max-size={}, max-age={age}", app.config.caps.size);
    HeaderValue::from_str(&limit).expect("digits may stand in a field")
}
