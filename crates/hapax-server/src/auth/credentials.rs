//! Reading the fields of a request: which credentials it has (RFC 6265, RFC 6750, RFC 7617), and whether a browser may
//! have been made to send them by somebody else's page.

use std::fmt;

use data_encoding::BASE64;
use hapax_proto::problem::{Kind, Problem};
use http::header::{AUTHORIZATION, COOKIE, ORIGIN};
use http::{HeaderMap, HeaderName, Method};

use crate::auth::Token;
use crate::respond::Refusal;

/// The cookie of a session. The prefix makes browsers take it from this host alone, and over TLS only.
pub const COOKIE_TLS: &str = "__Host-hapax";
/// The cookie of a session without TLS, where browsers accept no such prefix.
pub const COOKIE_PLAIN: &str = "hapax";

/// From where a browser says a request comes (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// A secret text. Its `Debug` does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept(String);

impl Kept {
    /// Keeps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::ops::Deref for Kept {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept(…)")
    }
}

/// What a request says about who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    None,
    /// A token.
    Bearer(Token),
    /// The token of a session.
    Cookie(Token),
    /// A name, and a password or token.
    Basic {
        /// The name as given.
        user: String,
        /// The password as given.
        password: Kept,
    },
}

/// Reads `Authorization`, and `Cookie` if there is none.
///
/// # Errors
/// 401 for everything in `Authorization` that cannot be right: it is not the same as nothing. A cookie that cannot be
/// right is nothing: the browser sends it with every request and the page cannot take it back.
pub fn parse_credentials(fields: &HeaderMap) -> Result<Credentials, Refusal> {
    let mut lines = fields.get_all(AUTHORIZATION).iter();
    let Some(line) = lines.next() else {
        return Ok(parse_cookies(fields).map_or(Credentials::None, Credentials::Cookie));
    };
    let parsed = match lines.next() {
        None => line.to_str().ok().and_then(parse_line),
        Some(_) => None,
    };
    parsed.ok_or_else(|| Kind::Unauthenticated.into())
}

/// Finds the token of a session among the cookies.
fn parse_cookies(fields: &HeaderMap) -> Option<Token> {
    // HTTP/2 may bring each cookie in a line of its own (RFC 9113 §8.2.3).
    let lines = fields.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs: Vec<_> =
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('=')).collect();
    let named =
        |wanted| pairs.iter().find(|(name, _)| *name == wanted).and_then(|(_, value)| Token::parse(value));
    named(COOKIE_TLS).or_else(|| named(COOKIE_PLAIN))
}

fn parse_line(line: &str) -> Option<Credentials> {
    let (scheme, value) = line.trim().split_once(' ')?;
    let value = value.trim_start();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Token::parse(value).map(Credentials::Bearer);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64.decode(value.as_bytes()).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    (password.len() <= PASSWORD_BYTES_MAX)
        .then(|| Credentials::Basic { user: user.to_owned(), password: Kept::new(password.to_owned()) })
}

/// Where a request came to, as far as its `Origin` can agree with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Here<'a> {
    /// The host that it names, with the port.
    pub host: Option<&'a str>,
    /// Whether we do TLS ourselves. If not, a proxy before us may, so a page of either scheme can be ours.
    pub tls: bool,
}

impl Here<'_> {
    /// Tells whether an origin is that of our own pages: of ours with TLS, one without is none, for whoever is on the way can
    /// write such a page.
    fn is_ours(self, origin: &str) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let is_here = self.host.is_some_and(|host| authority.eq_ignore_ascii_case(host));
        is_here && (scheme == "https" || !self.tls)
    }
}

/// Decides whether a browser sent this because a foreign page told it to. Browsers add cookies and Basic by themselves
/// to what they are told to send, and then name the page in `Origin`; a bearer token is only ever added by who knows it.
/// A request without credentials counts too: it may begin a session.
///
/// # Errors
/// 403 for an unsafe method without a bearer token from a page that is neither ours nor listed, and for one with a
/// cookie of which nothing says that our own page sent it.
pub fn decide_origin(
    method: &Method,
    fields: &HeaderMap,
    here: Here<'_>,
    allowed_origins: &[String],
) -> Result<(), Refusal> {
    let credentials = parse_credentials(fields);
    if method.is_safe() || matches!(credentials, Ok(Credentials::Bearer(_))) {
        return Ok(());
    }
    let foreign = || Problem::new(Kind::Forbidden).detail("a foreign page sent this request").into();
    let Some(origin) = fields.get(ORIGIN) else {
        let says_ours = fields.get(SEC_FETCH_SITE).is_some_and(|site| site == "same-origin");
        let by_cookie = matches!(credentials, Ok(Credentials::Cookie(_)));
        return if by_cookie && !says_ours { Err(foreign()) } else { Ok(()) };
    };
    let is_listed = allowed_origins.iter().any(|allowed| origin == allowed.as_str());
    let is_ours = origin.to_str().is_ok_and(|origin| here.is_ours(origin));
    if is_listed || is_ours {
        return Ok(());
    }
    Err(foreign())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    const NAS: Here<'static> = Here { host: Some("nas.lan"), tls: false };

    #[test]
    fn rfc7617_basic() {
        #[track_caller]
        fn check(value: &str, expected: Option<(&str, &str)>) {
            let parsed = parse_credentials(&fields(&[("authorization", value)]));
            let expected = expected.map(|(user, password)| Credentials::Basic {
                user: user.to_owned(),
                password: Kept::new(password.to_owned()),
            });
            assert_eq!(parsed.ok(), expected);
        }
        check("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some(("Aladdin", "open sesame")));
        check("bASIC  QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some(("Aladdin", "open sesame")));
        check("Basic dGVzdDoxMjPCow==", Some(("test", "123£")));
        check("Basic Og==", Some(("", "")));
        check("Basic YTpiOmM=", Some(("a", "b:c")));
        check("Basic bm9jb2xvbg==", None);
        check("Basic", None);
        check("Basic ", None);
        check("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ", None);
        check("Basic /w==", None);
        check(&format!("Basic {}", BASE64.encode(format!("a:{}", "x".repeat(1_025)).as_bytes())), None);
    }

    #[test]
    fn credentials_given_twice_are_none_that_count() {
        let mut twice = fields(&[("authorization", "Basic Og==")]);
        twice.append(AUTHORIZATION, "Basic Og==".parse().unwrap());
        assert!(parse_credentials(&twice).is_err());
        assert_eq!(parse_credentials(&HeaderMap::new()).unwrap(), Credentials::None);
    }

    #[test]
    fn rfc6265_the_token_of_a_session_is_found_among_the_cookies() {
        #[track_caller]
        fn check(lines: &[&str], expected: Option<&str>) {
            let mut request = HeaderMap::new();
            for line in lines {
                request.append(COOKIE, line.parse().unwrap());
            }
            let expected = expected.map(|text| Credentials::Cookie(Token::parse(text).unwrap()));
            assert_eq!(
                parse_credentials(&request).unwrap(),
                expected.unwrap_or(Credentials::None),
                "{lines:?}"
            );
        }
        let (a, b) = (&format!("hapax_{}", "A".repeat(43)), &format!("hapax_{}E", "A".repeat(42)));
        check(&[&format!("hapax={a}")], Some(a));
        check(&[&format!("theme=dark; hapax={a};x=y")], Some(a));
        check(&["theme=dark", &format!("hapax={a}")], Some(a));
        check(&[&format!("hapax={a}; __Host-hapax={b}")], Some(b));
        check(&[&format!("nothapax={a}")], None);
        check(&["hapax=expired-shape; =; ;;"], None);
        check(&[], None);
        let mut both = fields(&[("authorization", "Basic YTpi")]);
        both.append(COOKIE, format!("hapax={a}").parse().unwrap());
        assert!(matches!(parse_credentials(&both), Ok(Credentials::Basic { .. })));
    }

    #[test]
    fn a_cookie_changes_something_only_from_our_own_page() {
        #[track_caller]
        fn check(method: &Method, pairs: &[(&'static str, &str)], allowed: bool) {
            let mut request = fields(pairs);
            request.insert(COOKIE, format!("hapax=hapax_{}", "A".repeat(43)).parse().unwrap());
            assert_eq!(decide_origin(method, &request, NAS, &[]).is_ok(), allowed, "{pairs:?}");
        }
        check(&Method::GET, &[], true);
        check(&Method::PUT, &[], false);
        check(&Method::PUT, &[("sec-fetch-site", "same-origin")], true);
        check(&Method::PUT, &[("sec-fetch-site", "same-site")], false);
        check(&Method::PUT, &[("origin", "http://nas.lan")], true);
        check(&Method::PUT, &[("origin", "http://evil.example")], false);
        check(&Method::PUT, &[("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")], false);
        check(&Method::PUT, &[("origin", "null"), ("sec-fetch-site", "same-origin")], false);
    }

    #[test]
    fn a_foreign_page_begins_no_session() {
        let request = fields(&[("origin", "http://evil.example")]);
        assert!(decide_origin(&Method::POST, &request, NAS, &[]).is_err());
        assert!(decide_origin(&Method::POST, &HeaderMap::new(), NAS, &[]).is_ok());
    }

    #[test]
    fn a_page_without_tls_is_foreign_to_a_server_with_it() {
        #[track_caller]
        fn check(origin: &'static str, tls: bool, allowed: bool) {
            let request = fields(&[("authorization", "Basic YTpi"), ("origin", origin)]);
            let decided = decide_origin(&Method::PUT, &request, Here { tls, ..NAS }, &[]);
            assert_eq!(decided.is_ok(), allowed, "{origin}");
        }
        check("https://nas.lan", true, true);
        check("http://nas.lan", true, false);
        check("https://nas.lan", false, true);
        check("http://nas.lan", false, true);
        check("ftp://nas.lan", true, false);
    }

    #[test]
    fn a_foreign_page_changes_nothing_with_basic() {
        #[track_caller]
        fn check(method: &Method, authorization: &str, origin: Option<&'static str>, allowed: bool) {
            let mut request = fields(&[("authorization", authorization)]);
            if let Some(origin) = origin {
                request.insert(ORIGIN, http::HeaderValue::from_static(origin));
            }
            let listed = ["https://listed.example".to_owned()];
            let here = Here { host: Some("nas.lan:4000"), tls: false };
            let decided = decide_origin(method, &request, here, &listed);
            assert_eq!(decided.is_ok(), allowed);
        }
        let basic = "Basic YTpi";
        check(&Method::PUT, basic, None, true);
        check(&Method::PUT, basic, Some("http://nas.lan:4000"), true);
        check(&Method::PUT, basic, Some("https://NAS.lan:4000"), true);
        check(&Method::PUT, basic, Some("https://listed.example"), true);
        check(&Method::PUT, basic, Some("http://nas.lan"), false);
        check(&Method::PUT, basic, Some("http://evil.example"), false);
        check(&Method::PUT, basic, Some("null"), false);
        check(&Method::DELETE, basic, Some("http://evil.example"), false);
        check(&Method::GET, basic, Some("http://evil.example"), true);
        let bearer = format!("Bearer hapax_{}", "A".repeat(43));
        check(&Method::PUT, &bearer, Some("http://evil.example"), true);
    }
}
