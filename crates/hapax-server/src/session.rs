//! The sessions of pages: a password becomes a cookie that no script can read. A session is a token like any other,
//! listed and revoked with them; what differs is how a browser carries it. It never reads a cookie itself.

use std::time::Duration;

use hapax_proto::access::{Object, Scopes};
use hapax_proto::dialect::native::{CreateSession, SessionInfo};
use hapax_proto::problem::Kind;
use hapax_store::account::NewToken;
use hapax_store::clock::Timestamp;
use http::header::{ORIGIN, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::auth::{COOKIE_PLAIN, COOKIE_TLS, Kept, Token, access_id, spell_scopes};
use crate::call::Call;
use crate::respond::{self, Refusal, Response};
use crate::{stamp, throttle};

/// How long a session lasts.
const LIFETIME: Duration = Duration::from_hours(30 * 24);

/// The largest body that begins one: a name and a password, every byte of them escaped.
const BODY_BYTES_MAX: usize = 8 << 10;

/// What a session is called in the list of tokens.
const NAME: &str = "session";

/// `POST /api/v1/session`. Whoever had a session before has two then: the old one ends by itself.
///
/// # Errors
/// 401 for a wrong name or password (never which), 413 for a body that no name and password make, 429 for too many of
/// them.
pub async fn create(call: &mut Call<'_>) -> Result<Response, Refusal> {
    let CreateSession { user, password } = read_sign_in(call).await?;
    let caller = call.app.auth.by_password(&user, Kept::new(password), call.peer.address.ip()).await?;
    let who = caller.who.ok_or(Kind::Internal)?;
    let token = Token::random().map_err(|_| Kind::Unavailable)?;
    let (user, hash) = (who.user, *token.hash().as_bytes());
    let expires = call
        .store(move |store| {
            let expires = store.now().wall.after(LIFETIME);
            let (name, scope) = (NAME.to_owned(), spell_scopes(Scopes::ALL).join(" "));
            store.add_token(NewToken { user, name, hash, scope, expires: Some(expires) }).map(|_| expires)
        })
        .await?;
    let mut response =
        respond::json(StatusCode::CREATED, &info(who.name.as_str(), Scopes::ALL, Some(expires)));
    let cookie = format_cookie(cookie_of(call), token.reveal(), LIFETIME);
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// Reads the body, which anybody may send: so it is small, and few are read at once.
async fn read_sign_in(call: &mut Call<'_>) -> Result<CreateSession, Refusal> {
    let app = call.app;
    let network = throttle::network(call.peer.address.ip());
    let _of_network = app.sign_ins_of_network.enter(network).ok_or(Kind::TooMany)?;
    let _of_all = app.sign_ins.enter(()).ok_or(Kind::TooMany)?;
    call.json_of(BODY_BYTES_MAX).await
}

/// `GET /api/v1/session`: a page asks this first, so nobody is an answer and no refusal.
pub fn read(call: &Call<'_>) -> Response {
    let info = match &call.caller.who {
        Some(who) => info(who.name.as_str(), who.scopes, None),
        None => SessionInfo { user: None, scope: Vec::new(), expires: None },
    };
    respond::json(StatusCode::OK, &info)
}

/// `DELETE /api/v1/session`: the credential that the request came with is worth nothing from then on.
///
/// # Errors
/// 404 if it came with a password.
pub async fn end(call: &Call<'_>) -> Result<Response, Refusal> {
    let who = call.who()?;
    call.allow(&Object::Account { owner: access_id(who.user) })?;
    let (user, token) = (who.user, who.token.ok_or(Kind::NotFound)?);
    call.store(move |store| store.remove_token(user, token)).await?;
    let cookie = format_cookie(cookie_of(call), "", Duration::ZERO);
    Ok(respond::empty(StatusCode::NO_CONTENT, HeaderMap::from_iter([(SET_COOKIE, cookie)])))
}

fn info(user: &str, scopes: Scopes, expires: Option<Timestamp>) -> SessionInfo {
    let scope = spell_scopes(scopes).into_iter().map(str::to_owned).collect();
    SessionInfo { user: Some(user.to_owned()), scope, expires: expires.map(stamp::spell) }
}

/// Which cookie a browser gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    /// The browser sees TLS.
    Tls,
    /// It does not.
    Plain,
}

/// Finds out whether the browser sees TLS, maybe of a proxy before us: it names the page in `Origin` with every POST
/// and DELETE, and a lie there harms nobody but the liar.
fn cookie_of(call: &Call<'_>) -> Carried {
    let origin = call.parts.headers.get(ORIGIN);
    let by_origin = origin.is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    if by_origin || call.app.config.tls.is_some() { Carried::Tls } else { Carried::Plain }
}

/// Writes a cookie (RFC 6265 §4.1) that scripts cannot read and other sites cannot make a browser send.
fn format_cookie(carried: Carried, value: &str, lifetime: Duration) -> HeaderValue {
    let (name, secure) = match carried {
        Carried::Tls => (COOKIE_TLS, "; Secure"),
        Carried::Plain => (COOKIE_PLAIN, ""),
    };
    let age = lifetime.as_secs();
    let line = format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&line).expect("a token is letters, digits, `-` and `_`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_kept_from_scripts_and_other_sites() {
        #[track_caller]
        fn check(carried: Carried, value: &str, lifetime: u64, expected: &str) {
            assert_eq!(format_cookie(carried, value, Duration::from_secs(lifetime)), expected);
        }
        check(Carried::Plain, "t", 60, "hapax=t; Path=/; Max-Age=60; HttpOnly; SameSite=Strict");
        check(Carried::Tls, "t", 60, "__Host-hapax=t; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure");
        check(Carried::Plain, "", 0, "hapax=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    }
}
