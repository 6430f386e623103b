//! Reading the fields of a request: which credentials it has (RFC 6750, RFC 7617), and whether a browser may have
//! been made to send them by somebody else's page.

use std::fmt;

use data_encoding::BASE64;
use hapax_proto::problem::{Kind, Problem};
use http::header::{AUTHORIZATION, ORIGIN};
use http::{HeaderMap, Method};

use crate::auth::Token;
use crate::respond::Refusal;

/// The longest password, in bytes.
const PASSWORD_BYTES_MAX: usize = 1_024;

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
    /// A name, and a password or token.
    Basic {
        /// The name as given.
        user: String,
        /// The password as given.
        password: Kept,
    },
}

/// Reads `Authorization`.
///
/// # Errors
/// 401 for everything that is there and cannot be right: it is not the same as nothing.
pub fn parse_credentials(fields: &HeaderMap) -> Result<Credentials, Refusal> {
    let mut lines = fields.get_all(AUTHORIZATION).iter();
    let Some(line) = lines.next() else {
        return Ok(Credentials::None);
    };
    let parsed = match lines.next() {
        None => line.to_str().ok().and_then(parse_line),
        Some(_) => None,
    };
    parsed.ok_or_else(|| Kind::Unauthenticated.into())
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

/// Decides whether a browser sent this because a foreign page told it to. Browsers add Basic by themselves to what
/// they are told to send, and then name the page in `Origin`; a token is only ever added by who knows it.
///
/// # Errors
/// 403 for an unsafe method with Basic from a page that is neither ours nor listed.
pub fn decide_origin(
    method: &Method,
    fields: &HeaderMap,
    host: Option<&str>,
    allowed_origins: &[String],
) -> Result<(), Refusal> {
    let Some(origin) = fields.get(ORIGIN) else {
        return Ok(());
    };
    let is_basic = matches!(parse_credentials(fields), Ok(Credentials::Basic { .. }));
    if method.is_safe() || !is_basic {
        return Ok(());
    }
    let is_listed = allowed_origins.iter().any(|allowed| origin == allowed.as_str());
    let authority =
        origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, behind)| behind);
    let is_ours = authority.zip(host).is_some_and(|(theirs, ours)| theirs.eq_ignore_ascii_case(ours));
    if is_listed || is_ours {
        return Ok(());
    }
    Err(Problem::new(Kind::Forbidden).detail("a foreign page sent this request").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

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
    fn a_foreign_page_changes_nothing_with_basic() {
        #[track_caller]
        fn check(method: &Method, authorization: &str, origin: Option<&'static str>, allowed: bool) {
            let mut request = fields(&[("authorization", authorization)]);
            if let Some(origin) = origin {
                request.insert(ORIGIN, http::HeaderValue::from_static(origin));
            }
            let listed = ["https://listed.example".to_owned()];
            let decided = decide_origin(method, &request, Some("nas.lan:4000"), &listed);
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
