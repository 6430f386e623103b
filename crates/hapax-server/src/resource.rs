//! The upload resource `/uploads/<id>`, as every dialect sees it: one representation, the durable contiguous prefix.

use hapax_proto::access::{Object, Verb};
use hapax_proto::dialect::rufh::{UPLOAD_COMPLETE, completeness};
use hapax_proto::dialect::tus::{self, TUS_RESUMABLE, UPLOAD_DEFER_LENGTH, UPLOAD_LENGTH, UPLOAD_OFFSET};
use hapax_proto::digest::{Digests, REPR_DIGEST};
use hapax_proto::disposition::content_type;
use hapax_proto::download::{Description, Facts};
use hapax_proto::precondition::Validators;
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::Offset;
use hapax_proto::upload::State;
use hapax_proto::validator::HttpDate;
use hapax_store::catalog::{Blob, Counted, LaneId, Space, Upload, UploadId};
use hapax_store::content::Shown;
use hapax_store::lane::LaneGuard;
use http::header::{CACHE_CONTROL, CONTENT_LOCATION, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::app::App;
use crate::auth::access_id;
use crate::call::Call;
use crate::concat;
use crate::files::{Readable, entity_tag, location, send, wanted};
use crate::finish::notes_of;
use crate::prefix;
use crate::refuse::ended;
use crate::respond::{self, Refusal, Response, UPLOAD_LIMIT};

const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");

/// What is told of an upload, all of it of one moment.
pub struct Told {
    /// The upload: open, or done.
    pub upload: Upload,
    /// Where it stands; for one that is done, its end.
    pub offset: Offset,
    /// The fields that say so, alike in every dialect. For one that is done, they say where its file went.
    pub fields: HeaderMap,
}

/// `HEAD /uploads/<id>`: where the upload stands, and with `Want-Repr-Digest` what its prefix hashes to.
///
/// It ends a running append, which keeps what arrived; so the offset told here is accepted by the next append. For who
/// may only read, nothing ends: it is told what stands now.
pub async fn probe(call: &Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    let upload = call.upload(id).await?;
    if may_write(call, &upload) {
        let (upload, lane) = settled(call, id).await?;
        if is_waiting(&upload) {
            concat::conclude(call, upload).await?;
        }
        drop(lane);
    }
    let Told { upload, mut fields, .. } = with_digest(call, standing(call, id).await?).await?;
    let (name, value) = completeness(&call.parts.headers, upload.state == State::Done);
    fields.insert(name, value);
    Ok(respond::empty(StatusCode::OK, fields))
}

/// Adds the digest that the request wants: of the prefix, or of the file once there is one. It may tell of a later moment
/// then, but of one all the same, whoever wrote while the digest was computed.
pub async fn with_digest(call: &Call<'_>, mut told: Told) -> Result<Told, Refusal> {
    if !prefix::is_digest_wanted(call)? {
        return Ok(told);
    }
    let mut digest = None;
    // What a composed upload is, its members say.
    if told.upload.state == State::Open && !is_waiting(&told.upload) {
        match prefix::look(call, told.upload.id).await {
            Ok(prefix) => {
                told = tell(call, prefix.upload, prefix.offset).await?;
                digest = prefix.digest;
            }
            // Somebody completed it meanwhile.
            Err(refusal) if refusal.problem().kind == Kind::AlreadyComplete => {
                told = standing(call, told.upload.id).await?;
            }
            Err(refusal) => return Err(refusal),
        }
    }
    // What the file hashes to is of its content, which not everybody may read who sees the upload.
    if told.upload.state == State::Done
        && let Some((blob, space)) = blob_of(call, &told.upload).await?.filter(|(blob, _)| !blob.damaged)
        && may_read(call, &space).is_ok()
    {
        digest = wanted(call, &blob).await?;
    }
    let digests: Digests = digest.into_iter().collect();
    told.fields.extend(digests.format_field().map(|field| (HeaderName::from_static(REPR_DIGEST), field)));
    Ok(told)
}

/// Ends a running append and returns the upload as that left it, with the lane. The caller has been let in already.
pub async fn settled(call: &Call<'_>, id: UploadId) -> Result<(Upload, LaneGuard), Refusal> {
    let lane = call.app.store.lanes().take(id, LaneId::Append).await;
    Ok((call.upload(id).await?, lane))
}

/// Tells whether the caller may write to an upload, and so end what is under way there.
pub fn may_write(call: &Call<'_>, upload: &Upload) -> bool {
    call.allow_verb(Verb::WriteUpload, &Object::Upload { owner: access_id(upload.user) }).is_ok()
}

/// Asks whether the caller may read the entries of a space: what an upload became is one.
fn may_read(call: &Call<'_>, space: &Space) -> Result<(), Refusal> {
    call.allow_verb(Verb::ReadEntry, &Object::Space { owner: access_id(space.owner) })
}

/// Tells whether an upload waits for others of which it is composed.
pub fn is_waiting(upload: &Upload) -> bool {
    upload.state == State::Open && upload.counted == Counted::InMembers
}

/// `GET /uploads/<id>`: the file, once the upload is done.
///
/// # Errors
/// 403 while it is not, and for who may not read entries; 410 if it never will be, 404 if the file is no longer in the owner's space.
pub async fn read(call: &Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    let mut upload = call.upload(id).await?;
    if upload.state == State::Open {
        let told = standing(call, id).await?;
        if told.upload.state == State::Open {
            return Err(unfinished(told));
        }
        upload = told.upload;
    }
    let (blob, space) = blob_of(call, &upload).await?.ok_or(Kind::NotFound)?;
    may_read(call, &space)?;
    let app = call.app;
    let name = upload.path.name().map_or("", |name| name.as_str());
    let validators = Validators { etag: entity_tag(&app.store, &blob.fingerprint), last_modified: None };
    let file = Readable {
        facts: Facts { validators, size: blob.size },
        description: Description {
            name: name.to_owned(),
            content_type: content_type(upload.meta.media_type.as_deref(), name),
            location: location(app, &space, &upload.path),
        },
        shown: Shown { blob: blob.id, entry: None },
        blob,
    };
    send(call, file).await
}

fn unfinished(told: Told) -> Refusal {
    let problem = Problem::new(Kind::UploadUnfinished).member("offset", told.offset.get());
    let fields = told.fields.into_iter().filter_map(|(name, value)| Some((name?, value)));
    fields.fold(problem.into(), |refusal: Refusal, (name, value)| refusal.field(name, value))
}

/// Finds the file that an upload became, if it is still in the owner's space.
async fn blob_of(call: &Call<'_>, upload: &Upload) -> Result<Option<(Blob, Space)>, Refusal> {
    if upload.state != State::Done {
        return Err(ended(upload.state).into());
    }
    let upload = upload.clone();
    call.store(move |store| {
        let blob = store.file_of_upload(&upload)?;
        Ok(blob.zip(store.catalog().space_by_id(upload.space)?))
    })
    .await
}

/// Looks at an upload, and tells where it stands.
///
/// # Errors
/// 410 if it ended without a result.
pub async fn standing(call: &Call<'_>, id: UploadId) -> Result<Told, Refusal> {
    let (upload, offset) = call.store(move |store| store.standing(id)).await?;
    tell(call, upload, offset).await
}

/// Tells where an upload stood when it was looked at.
///
/// # Errors
/// As [`standing`].
pub async fn tell(call: &Call<'_>, upload: Upload, offset: Offset) -> Result<Told, Refusal> {
    let offset = match upload.state {
        State::Open => offset,
        State::Done => upload.size.unwrap_or_default().end(),
        state => return Err(ended(state).into()),
    };
    let mut fields = describe(call, &upload, offset)?;
    if upload.state == State::Done {
        let space = upload.space;
        let space =
            call.store(move |store| store.catalog().space_by_id(space)).await?.ok_or(Kind::NotFound)?;
        fields.insert(CONTENT_LOCATION, location(call.app, &space, &upload.path));
    }
    Ok(Told { upload, offset, fields })
}

/// Returns the fields that say how an upload stands that is open, or done, at an offset.
fn describe(call: &Call<'_>, upload: &Upload, offset: Offset) -> Result<HeaderMap, Refusal> {
    let is_done = upload.state == State::Done;
    let mut fields = HeaderMap::from_iter([
        (UPLOAD_OFFSET, number(offset.get())),
        (UPLOAD_COMPLETE, HeaderValue::from_static(if is_done { "?1" } else { "?0" })),
        (UPLOAD_LIMIT, limit(call.app, upload)),
        (ETAG, prefix::tag(upload, offset).to_value()),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (TUS_RESUMABLE, HeaderValue::from_static(tus::VERSION)),
    ]);
    match upload.size {
        Some(size) => fields.insert(UPLOAD_LENGTH, number(size.get())),
        None => fields.insert(UPLOAD_DEFER_LENGTH, number(1)),
    };
    if is_waiting(upload) {
        // How long it is, and how much of that is there, its members say.
        fields.remove(UPLOAD_OFFSET);
        fields.remove(UPLOAD_DEFER_LENGTH);
    }
    let notes = notes_of(upload)?;
    for (name, note) in [(tus::UPLOAD_METADATA, notes.metadata), (tus::UPLOAD_CONCAT, notes.concat)] {
        fields.extend(note.and_then(|note| HeaderValue::from_str(&note).ok()).map(|note| (name, note)));
    }
    if !is_done {
        let date = HttpDate::from_seconds(call.app.store.wall_time_of(upload.expires).as_secs());
        fields.insert(UPLOAD_EXPIRES, date.to_value());
    }
    Ok(fields)
}

fn number(number: u64) -> HeaderValue {
    HeaderValue::from(number)
}

/// What the upload is limited to (IETF draft, `Upload-Limit`).
fn limit(app: &App, upload: &Upload) -> HeaderValue {
    let age = upload.expires.since(app.store.now().steady).as_secs();
    let limit = format!("max-size={}, max-age={age}", app.config.caps.size);
    HeaderValue::from_str(&limit).expect("digits may stand in a field")
}
