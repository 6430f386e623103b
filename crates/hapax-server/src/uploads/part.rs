//! Receiving a run of a part: `PUT /api/v1/uploads/<id>/parts/<n>`.
//!
//! It is decided twice: once before the lane is taken, so that a part held already is answered without disturbing
//! anybody, and once after, because whoever held the lane may have stored something.

use hapax_proto::dialect::integrity::check_digests;
use hapax_proto::dialect::native::StoredPart;
use hapax_proto::digest::{Digests, Hasher};
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PART, PART_VALUE, PartNumber, PartValue};
use hapax_proto::upload::{Held, PartRun, PartVerdict, State, decide_part};
use hapax_store::catalog::{Counted, LaneId, Upload, UploadId};
use hapax_store::error::StoreError;
use hapax_store::lane::LaneGuard;
use hapax_store::upload::{Ending, PartIntake, StoredRun};
use http::StatusCode;

use crate::body::{Bounds, Ended, Pumped, Sink, Stop, pump};
use crate::call::{Call, bad_field};
use crate::concat::{is_settled, refuse_composed, settle_piece};
use crate::refuse::ended;
use crate::respond::{self, Refusal, Response};

/// `PUT /api/v1/uploads/<id>/parts/<n>?from=`.
pub async fn store_part(call: &mut Call<'_>, id: UploadId, part: PartNumber) -> Result<Response, Refusal> {
    let upload = call.upload(id).await?;
    refuse_composed(&upload)?;
    call.refuse_coding()?;
    let run = parse_run(call, part)?;
    let declared = call.declared_digests()?.content;
    let _pass = call.app.parts.enter(id).ok_or(Kind::TooMany)?;
    if let Decided::Held(value) = decide(call, &upload, run).await? {
        return held(call, upload, part, value).await;
    }
    let mut lane = call.app.store.lanes().take(id, LaneId::Part(part)).await;
    if lane.is_evicted() {
        return Err(Kind::Superseded.into());
    }
    let upload = call.upload(id).await?;
    let whole = match decide(call, &upload, run).await? {
        Decided::Held(value) => return held(call, upload, part, value).await,
        Decided::Write { whole } => whole,
    };
    let begun = upload.clone();
    let run = call
        .store(move |store| {
            let mut intake = store.begin_part(&begun, part, run.from, whole, run.value)?;
            intake.expect(run.length)?;
            let hasher = Hasher::new(declared.algorithms());
            Ok(Box::new(Run { intake, hasher, declared, length: run.length }))
        })
        .await?;
    let stored = receive(call, &mut lane, run).await?;
    drop(lane);
    if !is_settled(&upload) {
        settle_part(call, id).await?;
    }
    answer(call, upload, part, stored, StatusCode::CREATED).await
}

/// Concludes what waits for an upload that is a piece of it, if this part was the last one missing.
async fn settle_part(call: &Call<'_>, id: UploadId) -> Result<(), Refusal> {
    let upload = call.upload(id).await?;
    let offset = upload.prefix;
    settle_piece(call, &upload, offset).await
}

/// Reads what the request says about its bytes.
fn parse_run(call: &Call<'_>, number: PartNumber) -> Result<PartRun, Refusal> {
    let length = Length::new(call.content_length().ok_or(Kind::LengthRequired)?);
    let from = Length::new(call.parsed("from")?.unwrap_or(0));
    let mut values = call.parts.headers.get_all(PART_VALUE).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => Some(PartValue::parse_field(value).map_err(|_| bad_field(PART_VALUE))?),
        (Some(_), Some(_)) => return Err(bad_field(PART_VALUE)),
    };
    Ok(PartRun { number, from, length, value })
}

enum Decided {
    /// Take the bytes in.
    Write {
        /// How long the part is when all of it is there.
        whole: Length,
    },
    /// The very part is there.
    Held(PartValue),
}

/// Decides the run against what is held now.
async fn decide(call: &Call<'_>, upload: &Upload, run: PartRun) -> Result<Decided, Refusal> {
    let looked_up = upload.clone();
    let held = call.store(move |store| store.held_part(&looked_up, run.number)).await?;
    let problem = match decide_part(upload.state, upload.size, held, &run) {
        // Its bytes are a file's: no other ones can come.
        PartVerdict::Write { .. } if upload.counted == Counted::InFile => ended(State::Done),
        PartVerdict::Write { whole } => return Ok(Decided::Write { whole }),
        PartVerdict::AlreadyHeld => match held {
            Held::Whole { value } => return Ok(Decided::Held(value)),
            Held::Nothing | Held::Partial { .. } => Kind::Internal.into(),
        },
        PartVerdict::Ended(state) => ended(state),
        PartVerdict::OutOfRange { parts } => Problem::new(Kind::PartOutOfRange).member("parts", parts),
        PartVerdict::WrongOffset { have } => Problem::new(Kind::PartOffset).member("have", have.get()),
        PartVerdict::WrongLength { expected } => {
            Problem::new(Kind::PartLength).member("expected", expected.get())
        }
    };
    Err(problem.into())
}

/// A run on its way in, with what its bytes must hash to.
struct Run {
    intake: PartIntake,
    hasher: Hasher,
    declared: Digests,
    length: Length,
}

impl Sink for Run {
    type Error = StoreError;

    fn push(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(chunk);
        self.intake.push(chunk)
    }
}

/// Takes the body in and makes what arrived durable, however it ended.
async fn receive(call: &mut Call<'_>, lane: &mut LaneGuard, run: Box<Run>) -> Result<StoredRun, Refusal> {
    let bounds = Bounds { length_max: run.length, idle_max: call.app.config.deadlines.idle_body };
    let cut = call.app.life.cut();
    let stop = async {
        tokio::select! {
            () = lane.evicted() => Stop::Evicted,
            stop = cut => stop,
        }
    };
    let Pumped { sink: run, ended, .. } = pump(&mut *call.body, run, bounds, stop).await?;
    let ending = if ended == Ended::Complete { Ending::Complete } else { Ending::Cut };
    if ending == Ending::Complete {
        // Received entirely and wrong: discarded. Cut short, it could not be told, and is kept.
        check_digests(&run.declared, &run.hasher.digests())?;
    }
    let pending = call.store(move |_| run.intake.finish(ending)).await?;
    let stored = pending.durable().await?;
    match ended {
        Ended::Complete => Ok(stored),
        Ended::Stopped(Stop::Evicted) => Err(Kind::Superseded.into()),
        Ended::TooLong => {
            Err(Problem::new(Kind::PartLength).member("expected", bounds.length_max.get()).into())
        }
        Ended::Stopped(Stop::Draining) | Ended::Cut | Ended::Idle => Err(Kind::Unavailable.into()),
    }
}

/// Answers for a part that is held already; its body is not read.
async fn held(
    call: &Call<'_>,
    upload: Upload,
    part: PartNumber,
    value: PartValue,
) -> Result<Response, Refusal> {
    let have = upload.size.and_then(|size| part.span(size)).map_or(PART, Span::length);
    answer(call, upload, part, StoredRun { have, value: Some(value) }, StatusCode::OK).await
}

async fn answer(
    call: &Call<'_>,
    upload: Upload,
    part: PartNumber,
    stored: StoredRun,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let (upload, offset) = call.store(move |store| store.standing(upload.id)).await?;
    let offset = match upload.state {
        State::Open => offset,
        State::Done => upload.size.unwrap_or_default().end(),
        state => return Err(ended(state).into()),
    };
    let StoredRun { have, value } = stored;
    let body = StoredPart { n: part.get(), value, have: have.get(), offset: offset.get() };
    Ok(respond::json(status, &body))
}
