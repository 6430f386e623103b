//! From a request to its response: route, authenticate, let a handler act, and finish what every response needs.
//! The order is part of the protocol: authentication, existence and right, limits, preconditions, body; and nothing
//! reads the body before a handler decided to.

use std::net::SocketAddr;
use std::time::Instant;

use hapax_proto::access::{Subject, Verb};
use hapax_proto::problem::Kind;
use http::request::Parts;
use http::{Request, header::HOST};
use hyper::body::Incoming;

use crate::app::App;
use crate::auth::decide_origin;
use crate::body::RequestBody;
use crate::call::Call;
use crate::health;
use crate::metrics;
use crate::respond::{self, Refusal, Response};
use crate::routes::{Found, Route, route};

/// The name of what no row of the table has, in metrics.
const NO_ROUTE: &str = "None";

/// Answers a request.
pub async fn answer(app: &App, peer: SocketAddr, request: Request<Incoming>) -> Response {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let mut body = RequestBody::new(body);
    let found = route(&parts.method, parts.uri.path(), &app.config.base_path);
    let name = match &found {
        Ok(Found::Route(row, _)) => row.name,
        Ok(Found::Options(_)) | Err(_) => NO_ROUTE,
    };
    let outcome = match found {
        Ok(Found::Route(row, route)) => act(app, peer, row.verb, route, &parts, &mut body).await,
        Ok(Found::Options(allow)) => Ok(respond::options(allow)),
        Err(refusal) => Err(refusal),
    };
    let mut response = outcome.unwrap_or_else(respond::refusal);
    respond::challenge(&mut response, &parts.headers);
    respond::share(&mut response, &parts.headers, &app.config.allowed_origins);
    let response = respond::early(response, body, parts.version, app.config.deadlines.idle_body).await;
    let (status, took) = (response.status(), begun.elapsed());
    metrics::request_answered(name, status, took);
    tracing::debug!(%peer, method = %parts.method, route = name, status = status.as_u16(), ?took, "answered");
    response
}

/// Answers a request that has a route.
async fn act(
    app: &App,
    peer: SocketAddr,
    verb: Verb,
    route: Route,
    parts: &Parts,
    body: &mut RequestBody,
) -> Result<Response, Refusal> {
    let caller = app.auth.caller(&parts.headers, peer.ip()).await?;
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = parts.uri.authority().map(http::uri::Authority::as_str).or(host);
    decide_origin(&parts.method, &parts.headers, host, &app.config.allowed_origins)?;
    // What nobody may do is refused before anything is looked up.
    let _pass = match caller.subject {
        Subject::Anonymous if verb != Verb::ReadService => return Err(Kind::Unauthenticated.into()),
        Subject::Anonymous => None,
        Subject::User { id, .. } => Some(app.requests.enter(id).ok_or(Kind::TooMany)?),
    };
    dispatch(&route, &Call { app, caller, verb, parts, body })
}

/// Hands the request to its handler.
fn dispatch(route: &Route, call: &Call<'_>) -> Result<Response, Refusal> {
    match route {
        Route::DescribeService => health::describe(call),
        Route::Health => health::health(call),
        Route::Ready => health::ready(call),
        Route::Metrics => health::metrics(call),
        _ => Err(Kind::NotFound.into()),
    }
}
