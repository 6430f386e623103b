//! What the service is, and how it is. These answers are for everybody, except the numbers; they touch no file of
//! anybody's.

use hapax_proto::access::Object;
use hapax_proto::batch::Limits as Batch;
use hapax_proto::claim::{Rules, Scope};
use hapax_proto::dialect::native::{BatchLimits, Limits, Service};
use hapax_proto::digest::Algorithm;
use hapax_proto::problem::Kind;
use hapax_proto::tree::PART;
use http::StatusCode;

use crate::app::App;
use crate::call::Call;
use crate::respond::{self, Refusal, Response};

/// `GET /api/v1`.
pub fn describe(call: &Call<'_>) -> Result<Response, Refusal> {
    call.allow(&Object::Service)?;
    Ok(respond::json(
        StatusCode::OK,
        &Service {
            name: "hapax".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: 1,
            features: features(call.app),
            limits: limits(call.app),
            batch: Some(batch_limits(call.app)),
            digests: Algorithm::ALL.iter().map(|algorithm| algorithm.key().to_owned()).collect(),
            part_size: PART.get(),
            rufh_interop: Vec::new(),
        },
    ))
}

/// Returns what not every server does, or does at every time.
fn features(app: &App) -> Vec<String> {
    let Rules { scope, lookups, .. } = &app.config.claims;
    let claims = [
        ("claims", *scope != Scope::Off),
        ("candidates", *scope != Scope::Off && !lookups.is_empty()),
        ("quick", *scope != Scope::Off),
        ("challenge", *scope >= Scope::Group),
    ];
    let claims = claims.into_iter().filter_map(|(name, is_on)| is_on.then_some(name));
    ["batch", "batch-get", "tree"].into_iter().chain(claims).map(str::to_owned).collect()
}

/// Returns what the service refuses beyond, as clients are told.
pub fn limits(app: &App) -> Limits {
    let caps = &app.config.caps;
    Limits {
        size_max: caps.size.get(),
        parts_in_flight: caps.parts_in_flight,
        uploads_max: caps.uploads_per_account,
    }
}

fn batch_limits(app: &App) -> BatchLimits {
    let Batch { records, record, body } = app.config.caps.batch;
    let in_flight = app.config.caps.batches_in_flight;
    BatchLimits { records_max: records, record_max: record.get(), body_max: body.get(), in_flight }
}

/// `GET /healthz`: the process runs; nothing else is looked at.
pub fn health(call: &Call<'_>) -> Result<Response, Refusal> {
    call.allow(&Object::Service)?;
    Ok(respond::text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".to_owned()))
}

/// `GET /readyz`: whether a load balancer should send requests here.
pub fn ready(call: &Call<'_>) -> Result<Response, Refusal> {
    call.allow(&Object::Service)?;
    if !call.app.life.is_running() {
        return Err(Kind::Unavailable.into());
    }
    Ok(respond::text(StatusCode::OK, "text/plain; charset=utf-8", "ready\n".to_owned()))
}

/// `GET /metrics`.
pub fn metrics(call: &Call<'_>) -> Result<Response, Refusal> {
    call.allow(&Object::Service)?;
    let text = call.app.metrics.render();
    Ok(respond::text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
}
