//! From a request to its response: route, authenticate, let a handler act, and finish what every response needs.
//! The order is part of the protocol: authentication, existence and right, limits, preconditions, body; and nothing
//! reads the body before a handler decided to.

use std::time::Instant;

use hapax_proto::access::{Subject, Verb};
use hapax_proto::dialect::rufh as rufh_fields;
use hapax_proto::dialect::tus::capabilities;
use hapax_proto::problem::Kind;
use http::request::Parts;
use http::{Request, header::HOST};
use hyper::body::Incoming;

use crate::app::App;
use crate::auth::{Here, decide_origin};
use crate::body::RequestBody;
use crate::call::Call;
use crate::line::Peer;
use crate::respond::{self, Refusal, Response};
use crate::routes::{Found, Route, route};
use crate::{
    admin, batch, claims, entries, files, hash_tree, health, metrics, resource, rufh, session, tokens, tus,
    uploads,
};

/// The name of what no row of the table has, in metrics.
const NO_ROUTE: &str = "None";

/// Answers a request.
pub async fn answer(app: &App, peer: &Peer, request: Request<Incoming>) -> Response {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let mut body = RequestBody::new(body);
    let is_tus = tus::is_below(parts.uri.path(), &app.config.base_path);
    let meant = if is_tus { tus::meant_method(&parts) } else { Ok(parts.method.clone()) };
    let found = meant.and_then(|method| route(&method, parts.uri.path(), &app.config.base_path));
    let name = match &found {
        Ok(Found::Route(row, _)) => row.name,
        Ok(Found::Options(_)) | Err(_) => NO_ROUTE,
    };
    let outcome = match found {
        Ok(Found::Route(row, route)) => act(app, peer, row.verb, route, &parts, &mut body).await,
        Ok(Found::Options(allow)) => Ok(respond::options(allow, &capabilities(app.config.caps.size))),
        Err(refusal) => Err(refusal),
    };
    let mut response = outcome.unwrap_or_else(respond::refusal);
    if is_tus {
        tus::sign(&mut response);
    }
    respond::challenge(&mut response, &parts.headers);
    respond::share(&mut response, &parts.headers, &app.config.allowed_origins);
    let response = respond::early(response, body, parts.version, app.config.deadlines.idle_body).await;
    let (status, took) = (response.status(), begun.elapsed());
    metrics::request_answered(name, status, took);
    tracing::debug!(peer = %peer.address, method = %parts.method, route = name, status = status.as_u16(), ?took, "answered");
    response
}

/// Answers a request that has a route.
async fn act(
    app: &App,
    peer: &Peer,
    verb: Verb,
    route: Route,
    parts: &Parts,
    body: &mut RequestBody,
) -> Result<Response, Refusal> {
    let caller = app.auth.caller(&parts.headers, peer.address.ip()).await?;
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = parts.uri.authority().map(http::uri::Authority::as_str).or(host);
    let here = Here { host, tls: app.config.tls.is_some() };
    decide_origin(&parts.method, &parts.headers, here, &app.config.allowed_origins)?;
    // What nobody may do is refused before anything is looked up.
    let pass = match caller.subject {
        Subject::Anonymous if verb != Verb::ReadService => return Err(Kind::Unauthenticated.into()),
        Subject::Anonymous => None,
        Subject::User { .. } => {
            let who = caller.who.as_ref().ok_or(Kind::Internal)?;
            Some(app.requests.enter(who.user).ok_or(Kind::TooMany)?)
        }
    };
    let response = dispatch(route, Call { app, caller, peer, verb, parts, body }).await?;
    Ok(respond::keep(response, pass))
}

/// Hands the request to its handler.
async fn dispatch(route: Route, mut call: Call<'_>) -> Result<Response, Refusal> {
    let call = &mut call;
    match route {
        Route::DescribeService => health::describe(call),
        Route::Health => health::health(call),
        Route::Ready => health::ready(call),
        Route::Metrics => health::metrics(call),
        Route::CreateUpload => uploads::create(call).await,
        Route::ListUploads => uploads::list(call).await,
        Route::ReadUpload { upload } => uploads::read(call, upload).await,
        Route::CancelUpload { upload } | Route::DeleteUpload { upload } => {
            uploads::cancel(call, upload).await
        }
        Route::StorePart { upload, part } => uploads::store_part(call, upload, part).await,
        Route::ResizeUpload { upload } => uploads::resize(call, upload).await,
        Route::CompleteUpload { upload } => uploads::complete(call, upload).await,
        Route::DigestSpan { upload } => uploads::digest_span(call, upload).await,
        Route::Claim => claims::claim(call).await,
        Route::ProveClaims => claims::prove(call).await,
        Route::StoreBatch => batch::store(call).await,
        Route::FetchBatch => batch::fetch(call).await,
        Route::ReadTree { path } => hash_tree::read(call, path).await,
        Route::ReadEntry { path } => entries::read(call, path).await,
        Route::OperateOnEntry { path } => entries::operate(call, path).await,
        Route::PatchEntry { path } => entries::patch(call, path).await,
        Route::DeleteEntry { path } => entries::delete(call, path).await,
        Route::CreateSession => session::create(call).await,
        Route::ReadSession => Ok(session::read(call)),
        Route::EndSession => session::end(call).await,
        Route::CreateToken => tokens::create(call).await,
        Route::ListTokens => tokens::list(call).await,
        Route::RevokeToken { token } => tokens::revoke(call, token).await,
        Route::ListUsers => admin::list_users(call).await,
        Route::CreateUser => admin::create_user(call).await,
        Route::ChangeUser { user } => admin::change_user(call, user).await,
        Route::RemoveUser { user } => admin::remove_user(call, user).await,
        Route::CheckStore => admin::check(call).await,
        Route::SweepStore => admin::sweep(call).await,
        Route::CompactStore => admin::compact(call).await,
        Route::ScrubStore => admin::scrub(call).await,
        Route::ReadScrub => admin::scrub_state(call).await,
        Route::MeasureStore => admin::stats(call).await,
        Route::ReadFile { path } => files::read(call, path).await,
        Route::PutFile { path } | Route::PostFile { path } | Route::PatchFile { path }
            if rufh_fields::is_spoken(&call.parts.headers) =>
        {
            rufh::create(call, path).await
        }
        Route::PutFile { path } => files::put(call, path).await,
        Route::PostFile { path } => files::post(call, path).await,
        Route::PatchFile { path } => files::refuse_patch(call, path).await,
        Route::AppendUpload { upload } if tus::is_spoken(&call.parts.headers) => {
            tus::append(call, upload).await
        }
        Route::AppendUpload { upload } => rufh::append(call, upload).await,
        Route::DeleteFile { path } => files::delete(call, path).await,
        Route::ProbeUpload { upload } => resource::probe(call, upload).await,
        Route::CreateTus => tus::create(call).await,
        Route::ProbeTus { upload } => tus::probe(call, upload).await,
        Route::AppendTus { upload } => tus::append(call, upload).await,
        Route::TerminateTus { upload } => tus::terminate(call, upload).await,
        Route::ReadUploadContent { upload } => resource::read(call, upload).await,
    }
}
