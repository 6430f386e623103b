//! Digests of durable spans: `GET /api/v1/uploads/<id>/digest`. For a client without a hash tree, which finds what
//! still matches by halving.

use std::str::FromStr;

use hapax_proto::dialect::native::SpanDigest;
use hapax_proto::digest::{Algorithm, Digest};
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::{Offset, SIZE_MAX, Span};
use hapax_proto::upload::State;
use hapax_store::catalog::{Upload, UploadId};
use hapax_store::durable::Durable;
use http::StatusCode;

use super::missing;
use crate::call::{Call, bad_field};
use crate::files::READ_MAX;
use crate::prefix::digest_of;
use crate::refuse::ended;
use crate::respond::{self, Refusal, Response};

/// `GET /api/v1/uploads/<id>/digest?start=&end=&alg=`.
///
/// # Errors
/// 400 for a span or algorithm that cannot be, 409 for bytes that are not there, 413 for too many of them, 429 when
/// the caller has as many computed as may be.
pub async fn digest_span(call: &Call<'_>, id: UploadId) -> Result<Response, Refusal> {
    let upload = call.upload(id).await?;
    if upload.state != State::Open {
        return Err(ended(upload.state).into());
    }
    let start = Offset::new(call.parsed("start")?.unwrap_or(0));
    let end = call.parsed("end")?.filter(|end| *end <= SIZE_MAX);
    let end = Offset::new(end.ok_or_else(|| bad_field("end"))?);
    let span = Span::new(start, end).ok_or_else(|| bad_field("start"))?;
    let algorithm = call.parameter("alg")?.unwrap_or_else(|| Algorithm::Blake3.key().to_owned());
    let algorithm = Algorithm::from_str(&algorithm).map_err(|_| bad_field("alg"))?;
    let digest = match known(call, &upload, span, algorithm).await? {
        Some(digest) => digest,
        None => read(call, upload, span, algorithm).await?,
    };
    Ok(respond::json(
        StatusCode::OK,
        &SpanDigest {
            start: start.get(),
            end: end.get(),
            alg: algorithm.key().to_owned(),
            value: digest.hex(),
        },
    ))
}

/// Returns the digest if it can be told without reading an object.
async fn known(
    call: &Call<'_>,
    upload: &Upload,
    span: Span,
    algorithm: Algorithm,
) -> Result<Option<Digest>, Refusal> {
    if span.start() != Offset::ZERO || algorithm != Algorithm::Blake3 {
        return Ok(None);
    }
    let id = upload.id;
    let (_, root) = call
        .store(move |store| store.at_one_moment(id, |upload| store.prefix_root(upload, span.length())))
        .await?;
    Ok(root.map(Digest::from))
}

/// Reads a span for its digest.
async fn read(call: &Call<'_>, upload: Upload, span: Span, algorithm: Algorithm) -> Result<Digest, Refusal> {
    if span.length() > READ_MAX {
        return Err(Problem::new(Kind::TooLarge).member("limit", READ_MAX.get()).into());
    }
    let _pass = call.app.digests.enter(call.who()?.user).ok_or(Kind::TooMany)?;
    let id = upload.id;
    let (upload, durable) =
        call.store(move |store| store.at_one_moment(id, |upload| store.read_durable(upload, span))).await?;
    if upload.state != State::Open {
        return Err(ended(upload.state).into());
    }
    match durable {
        Durable::Held(reader) => digest_of(call, &upload, *reader, algorithm).await,
        Durable::Missing(spans) => Err(missing(spans).into()),
    }
}
