//! Bytes behind what an upload holds, from whatever dialect they come: the append lane is taken over, the offsets are
//! compared, the body is pumped into the store, and what arrived is durable before anything is said.

use hapax_proto::access::Object;
use hapax_proto::dialect::integrity::{Integrity, IntegrityHasher};
use hapax_proto::dialect::rufh::UPLOAD_COMPLETE;
use hapax_proto::dialect::tus::{Checksum, UPLOAD_OFFSET};
use hapax_proto::precondition::{Conditions, MethodKind, Precondition, Validators, decide_precondition};
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::{Length, Offset};
use hapax_proto::tree::PartNumber;
use hapax_proto::upload::{Append, AppendVerdict, Progress, State, decide_append};
use hapax_store::append::{AppendIntake, Counts};
use hapax_store::catalog::{LaneId, Upload, UploadId};
use hapax_store::error::StoreError;
use hapax_store::lane::LaneGuard;
use http::HeaderValue;
use http::header::{ETAG, TRAILER};

use crate::auth::access_id;
use crate::body::{Bounds, Ended, Pumped, Sink, Stop, pump};
use crate::call::{Call, bad_field};
use crate::concat::{is_settled, refuse_composed, settle_piece};
use crate::prefix;
use crate::refuse::ended;
use crate::respond::Refusal;

/// An append, as a dialect understood it.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Where the client believes the upload stands, and how many bytes it sends.
    pub append: Append,
    /// The size of the whole, if the request states it.
    pub total: Option<Length>,
    /// What its bytes must hash to, as tus says it.
    pub checksum: Option<Checksum>,
    /// Whether its bytes are all of the file.
    pub extent: Extent,
}

/// How much of the file an append brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it, so that a digest of the file is one of these bytes.
    Whole,
    /// A piece, as far as anybody knows.
    Piece,
}

/// What an append came to.
pub struct Appended {
    /// The upload as it is now.
    pub upload: Upload,
    /// Where it stands.
    pub offset: Offset,
    /// The append lane, held until this is dropped: whoever finishes the upload does so before another append begins.
    pub lane: LaneGuard,
}

/// Takes an append in.
///
/// # Errors
/// 415 for a coded body, 409 with the true offset if the client is out of step, 400 for another total than was agreed on, 413 for more than
/// fits. 460 and 400 for bytes that are not what the request says of them, or a trailer that did not come: then the
/// offset is what it was. 503, and 409 `superseded`, for a body that was cut or taken over: what arrived of it is
/// durable, unless it was to be verified by a trailer.
pub async fn append(call: &mut Call<'_>, id: UploadId, request: Request) -> Result<Appended, Refusal> {
    take(call, id, request, &Conditions::default()).await
}

/// Takes an append in that was sent to the upload itself: there the request's preconditions speak of its prefix. They
/// are weighed before anybody is disturbed, and once more when whoever was writing has ended.
///
/// # Errors
/// As [`append`], and 412 if the prefix is not what the client takes it for: nothing of the body was read then.
pub async fn append_if(call: &mut Call<'_>, id: UploadId, request: Request) -> Result<Appended, Refusal> {
    let conditions = Conditions::parse(&call.parts.headers);
    if conditions != Conditions::default() {
        let (upload, durable) = standing(call, id).await?;
        weigh(&conditions, &upload, durable)?;
    }
    take(call, id, request, &conditions).await
}

async fn take(
    call: &mut Call<'_>,
    id: UploadId,
    request: Request,
    conditions: &Conditions,
) -> Result<Appended, Refusal> {
    call.refuse_coding()?;
    let said = said(call, &request)?;
    let mut lane = call.app.store.lanes().take(id, LaneId::Append).await;
    if lane.is_evicted() {
        return Err(Kind::Superseded.into());
    }
    let (mut upload, mut durable, mut room) = admitted(call, id, &request, conditions).await?;
    let first = PartNumber::holding(durable).unwrap_or_default();
    if call.app.store.lanes().end_parts_from(id, first).await {
        // What they kept may have moved the end of the prefix.
        (upload, durable, room) = admitted(call, id, &request, conditions).await?;
    }
    let was_settled = is_settled(&upload);
    let upload = agree_on_size(call, upload, durable, request.total).await?;
    let counts = if said.is_empty() { Counts::AtOnce } else { Counts::OnceVerified };
    let expected = request.append.length;
    let taking = call
        .store(move |store| {
            let intake = Box::new(store.begin_append(&upload, durable, expected, counts)?);
            Ok(Box::new(Taking { intake, hasher: said.hasher() }))
        })
        .await?;
    receive(call, &mut lane, taking, expected.unwrap_or(room)).await?;
    let (upload, offset) = standing(call, id).await?;
    if !was_settled {
        settle_piece(call, &upload, offset).await?;
    }
    Ok(Appended { upload, offset, lane })
}

/// Finds out where the upload stands, and how many bytes the request may bring.
///
/// # Errors
/// 409, 412 and 413, as [`append_if`].
async fn admitted(
    call: &Call<'_>,
    id: UploadId,
    request: &Request,
    conditions: &Conditions,
) -> Result<(Upload, Offset, Length), Refusal> {
    let (upload, durable) = standing(call, id).await?;
    weigh(conditions, &upload, durable)?;
    let progress = Progress { durable, total: upload.size.or(request.total) };
    match decide_append(&progress, &request.append) {
        AppendVerdict::Write { room } => Ok((upload, durable, room.length())),
        AppendVerdict::Mismatch { durable } => Err(mismatch(&request.append, durable)),
        AppendVerdict::TooLong { room } => Err(too_long(room)),
    }
}

/// Reads what the request says about its bytes.
///
/// # Errors
/// 400 for what cannot be read, and for the announcement of a digest that cannot be compared with these bytes: to ignore
/// it would look as if it had been verified.
fn said(call: &Call<'_>, request: &Request) -> Result<Integrity, Refusal> {
    let said = Integrity::parse(&call.parts.headers, request.checksum)?;
    if said.announced.representation && request.extent == Extent::Piece {
        return Err(bad_field(TRAILER.as_str()));
    }
    Ok(said)
}

/// Finds an open upload and where it stands.
///
/// # Errors
/// 404, or 409 and 410 for one that ended.
pub async fn standing(call: &Call<'_>, id: UploadId) -> Result<(Upload, Offset), Refusal> {
    let (upload, offset) = call.store(move |store| store.standing(id)).await?;
    call.allow(&Object::Upload { owner: access_id(upload.user) })?;
    refuse_composed(&upload)?;
    // Asked of the same moment: one that ended since would be told to stand at its begin.
    if upload.state != State::Open {
        return Err(ended(upload.state).into());
    }
    Ok((upload, offset))
}

/// Weighs preconditions against the prefix that is durable.
fn weigh(conditions: &Conditions, upload: &Upload, durable: Offset) -> Result<(), Refusal> {
    let current = Validators { etag: prefix::tag(upload, durable), last_modified: None };
    match decide_precondition(MethodKind::Write, conditions, Some(&current)) {
        Precondition::Proceed | Precondition::NotModified => Ok(()),
        Precondition::Failed => Err(Refusal::from(Kind::PreconditionFailed)
            .field(ETAG, current.etag.to_value())
            .field(UPLOAD_OFFSET, durable.get().into())
            .field(UPLOAD_COMPLETE, HeaderValue::from_static("?0"))),
    }
}

/// Takes the size that a request states for the upload's, if none was agreed on before.
async fn agree_on_size(
    call: &Call<'_>,
    upload: Upload,
    durable: Offset,
    stated: Option<Length>,
) -> Result<Upload, Refusal> {
    let max = call.app.config.caps.size;
    match (upload.size, stated) {
        (_, None) => Ok(upload),
        (Some(agreed), Some(stated)) if agreed == stated => Ok(upload),
        (Some(_), Some(_)) => Err(Kind::InconsistentUploadLength.into()),
        (None, Some(stated)) if stated.end() < durable => Err(Kind::InconsistentUploadLength.into()),
        (None, Some(stated)) if stated > max => {
            Err(Problem::new(Kind::TooLarge).member("limit", max.get()).into())
        }
        (None, Some(stated)) => {
            let resized = call.store(move |store| store.resize_upload(&upload, stated, None)).await?;
            // Runs of parts that began before took their own end for that of the part; none of them can be stored now.
            call.app.store.lanes().evict_parts_from(resized.id, PartNumber::FIRST);
            Ok(resized)
        }
    }
}

/// Tells the client where the upload stands: it goes on there (IETF draft, and what tus clients find by a HEAD).
fn mismatch(append: &Append, durable: Offset) -> Refusal {
    let problem = Problem::new(Kind::MismatchingUploadOffset)
        .member("expected-offset", durable.get())
        .member("provided-offset", append.at.get());
    Refusal::from(problem)
        .field(UPLOAD_OFFSET, durable.get().into())
        .field(UPLOAD_COMPLETE, HeaderValue::from_static("?0"))
}

fn too_long(room: Length) -> Refusal {
    Problem::new(Kind::TooLarge).member("limit", room.get()).into()
}

/// An append on its way in, with what its bytes must hash to.
struct Taking {
    /// Boxed: it is moved from thread to thread, and a request that waits for its body weighs what may be moved.
    intake: Box<AppendIntake>,
    hasher: IntegrityHasher,
}

impl Sink for Taking {
    type Error = StoreError;

    fn push(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(chunk);
        self.intake.push(chunk)
    }
}

/// Takes the body in and makes what arrived durable, however it ended.
async fn receive(
    call: &mut Call<'_>,
    lane: &mut LaneGuard,
    taking: Box<Taking>,
    length_max: Length,
) -> Result<(), Refusal> {
    let bounds = Bounds { length_max, idle_max: call.app.config.deadlines.idle_body };
    let cut = call.app.life.cut();
    let stop = async {
        tokio::select! {
            () = lane.evicted() => Stop::Evicted,
            stop = cut => stop,
        }
    };
    let Pumped { sink, ended, trailers, .. } = pump(&mut *call.body, taking, bounds, stop).await?;
    let Taking { intake, hasher } = *sink;
    match ended {
        // Received entirely and wrong.
        Ended::Complete if let Err(problem) = hasher.verify(&trailers) => {
            call.store(move |_| intake.discard()).await?;
            return Err(problem.into());
        }
        // Nobody will ever know what these bytes were to be.
        Ended::Cut | Ended::Idle | Ended::Stopped(_) | Ended::TooLong if hasher.waits() => {
            call.store(move |_| intake.discard()).await?;
        }
        // Cut short, it cannot be told whether they are right: what arrived is kept.
        _ => call.store(move |_| intake.finish()).await?,
    }
    match ended {
        Ended::Complete => Ok(()),
        Ended::Stopped(Stop::Evicted) => Err(Kind::Superseded.into()),
        Ended::TooLong => Err(too_long(length_max)),
        Ended::Stopped(Stop::Draining) | Ended::Cut | Ended::Idle => Err(Kind::Unavailable.into()),
    }
}
