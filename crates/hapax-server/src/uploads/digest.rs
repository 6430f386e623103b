//! Digests of durable spans: `GET /api/v1/uploads/<id>/digest`. For a client without a hash tree, which finds what
//! still matches by halving.

use std::str::FromStr;

use hapax_proto::dialect::native::SpanDigest;
use hapax_proto::digest::{Algorithm, Digest};
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::{PartNumber, SEGMENT};
use hapax_proto::upload::State;
use hapax_store::catalog::{Upload, UploadId};
use hapax_store::upload::Received;
use http::StatusCode;

use crate::call::{Call, bad_field};
use crate::files::READ_MAX;
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
    let end = Offset::new(call.parsed("end")?.ok_or_else(|| bad_field("end"))?);
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
    let upload = upload.clone();
    let root = call.store(move |store| store.prefix_root(&upload, span.length())).await?;
    Ok(root.map(Digest::from))
}

async fn read(call: &Call<'_>, upload: Upload, span: Span, algorithm: Algorithm) -> Result<Digest, Refusal> {
    if span.length() > READ_MAX {
        return Err(Problem::new(Kind::TooLarge).member("limit", READ_MAX.get()).into());
    }
    let pass = call.app.digests.enter(call.who()?.user).ok_or(Kind::TooMany)?;
    let digest = call
        .store(move |store| {
            let received = store.received(&upload, PartNumber::FIRST, 0)?;
            if !is_readable(&received, span) {
                return Ok(Err(Kind::Incomplete));
            }
            let digests = store.read_upload(&upload).digests(span, [algorithm]);
            // Held until the reading ends, which it does not when the client goes away.
            drop(pass);
            Ok(Ok(digests?.get(algorithm).expect("the hasher was made for it")))
        })
        .await?;
    digest.map_err(|_| {
        let missing = serde_json::json!([[span.start().get(), span.end().get()]]);
        Problem::new(Kind::Incomplete).member("missing", missing).member("more", true).into()
    })
}

/// Tells whether all bytes of a span lie in objects. The tail of an open part does not: it is durable, and its
/// digest is told as part of a prefix, but a span that ends inside it cannot be read.
fn is_readable(received: &Received, span: Span) -> bool {
    if span.is_empty() {
        return true;
    }
    let in_tail = received.partial.iter().any(|&(part, have)| {
        let last = have.get().saturating_sub(1);
        let kept = Length::new(last - last % SEGMENT.get());
        let tail = part.start().checked_add(kept).zip(part.start().checked_add(have));
        let tail = tail.and_then(|(start, end)| Span::new(start, end));
        tail.is_some_and(|tail| tail.intersection(span).is_some())
    });
    !in_tail && received.spans.iter().any(|held| held.contains(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_there_but_cannot_be_read() {
        #[track_caller]
        fn check(start: u64, end: u64, readable: bool) {
            let span = |start, end| Span::new(Offset::new(start), Offset::new(end)).unwrap();
            let segment = SEGMENT.get();
            let have = Length::new(2 * segment + 5);
            let received = Received {
                spans: vec![span(0, have.get())],
                partial: vec![(PartNumber::FIRST, have)],
                ..Received::default()
            };
            assert_eq!(is_readable(&received, span(start, end)), readable);
        }
        let segment = SEGMENT.get();
        check(0, 2 * segment, true);
        check(5, segment, true);
        check(0, 2 * segment + 1, false);
        check(2 * segment + 1, 2 * segment + 2, false);
        check(9 * segment, 9 * segment, true);
        check(0, 9 * segment, false);
    }
}
