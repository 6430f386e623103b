//! Resumable uploads for HTTP, the draft of the IETF (draft-ietf-httpbis-resumable-upload): the fields of its requests
//! and answers, read and written. Lenient on versions: clients of many drafts are about, and they differ in little.
//!
//! | interop version | draft | how it differs |
//! |---|---|---|
//! | 3 | 01 | `Upload-Incomplete` says the opposite of `Upload-Complete` |
//! | 4, 5 | 02 to 04 | an append needs no media type |
//! | 6 and later, or none | 05 on | an append is `application/partial-upload` |

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::tus::{UPLOAD_LENGTH, UPLOAD_OFFSET, parse_number};
use super::{bad_field, single};
use crate::problem::{Kind, Problem};
use crate::span::{Length, Offset};

/// Whether the bytes of this message are the last ones.
pub const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
/// The opposite of [`UPLOAD_COMPLETE`], in the first draft.
pub const UPLOAD_INCOMPLETE: HeaderName = HeaderName::from_static("upload-incomplete");
/// Which draft a client speaks.
pub const INTEROP_VERSION: HeaderName = HeaderName::from_static("upload-draft-interop-version");
/// The media type of an append.
pub const MEDIA_TYPE: &str = "application/partial-upload";

/// The last version that says `Upload-Incomplete`.
const INCOMPLETE_MAX: u8 = 3;
/// The last version whose appends need no media type.
const ANY_MEDIA_TYPE_MAX: u8 = 5;

/// What a request of this dialect says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Which draft it speaks; `None` for the newest.
    pub version: Option<u8>,
    /// Whether its bytes are the last ones.
    pub complete: bool,
    /// Where its bytes belong; a creation says nothing.
    pub offset: Option<Offset>,
    /// The size of the whole, if it is told.
    pub total: Option<Length>,
}

/// Tells whether a request is one of this dialect.
pub fn is_spoken(fields: &HeaderMap) -> bool {
    [UPLOAD_COMPLETE, UPLOAD_INCOMPLETE, INTEROP_VERSION].iter().any(|name| fields.contains_key(name))
        || fields.get(CONTENT_TYPE).is_some_and(|media| media == MEDIA_TYPE)
}

impl Request {
    /// Reads the fields of a creation or an append. `content` is how many bytes it brings, if that is known.
    ///
    /// # Errors
    /// 400 for a field that is malformed, missing or doubled, and for lengths that disagree.
    pub fn parse(fields: &HeaderMap, content: Option<Length>) -> Result<Self, Problem> {
        let version = parse_version(fields);
        let complete = match parse_boolean(fields, &UPLOAD_COMPLETE)? {
            Some(complete) => complete,
            None => !parse_boolean(fields, &UPLOAD_INCOMPLETE)?.ok_or_else(|| bad_field(&UPLOAD_COMPLETE))?,
        };
        let offset = parse_number(fields, &UPLOAD_OFFSET)?.map(Offset::new);
        let stated = parse_number(fields, &UPLOAD_LENGTH)?.map(Length::new);
        // The last bytes say by their own number how long the whole is.
        let counted = match content.filter(|_| complete) {
            Some(content) => {
                let end = offset.unwrap_or(Offset::ZERO).checked_add(content);
                Some(end.and_then(|end| end.since(Offset::ZERO)).ok_or(Kind::InconsistentUploadLength)?)
            }
            None => None,
        };
        match (stated, counted) {
            (Some(stated), Some(counted)) if stated != counted => Err(Kind::InconsistentUploadLength.into()),
            _ => Ok(Self { version, complete, offset, total: stated.or(counted) }),
        }
    }

    /// Tells whether an append of this draft may have the media type that it has.
    pub fn takes_media_type(&self, fields: &HeaderMap) -> bool {
        self.version.is_some_and(|version| version <= ANY_MEDIA_TYPE_MAX)
            || fields.get(CONTENT_TYPE).is_some_and(|media| media == MEDIA_TYPE)
    }
}

/// Returns the field that says whether an upload is complete, as the client's draft spells it.
pub fn completeness(fields: &HeaderMap, complete: bool) -> (HeaderName, HeaderValue) {
    let spell = |value| HeaderValue::from_static(if value { "?1" } else { "?0" });
    match parse_version(fields) {
        Some(version) if version <= INCOMPLETE_MAX => (UPLOAD_INCOMPLETE, spell(!complete)),
        _ => (UPLOAD_COMPLETE, spell(complete)),
    }
}

/// Reads the version; one that cannot be read is the newest.
fn parse_version(fields: &HeaderMap) -> Option<u8> {
    let stated = fields.get(INTEROP_VERSION).and_then(|version| version.to_str().ok()?.trim().parse().ok());
    // The first draft did not always say so.
    stated.or_else(|| fields.contains_key(UPLOAD_INCOMPLETE).then_some(INCOMPLETE_MAX))
}

/// Reads a boolean of structured fields (RFC 9651 §3.3.6).
fn parse_boolean(fields: &HeaderMap, name: &HeaderName) -> Result<Option<bool>, Problem> {
    match single(fields, name)? {
        None => Ok(None),
        Some("?1") => Ok(Some(true)),
        Some("?0") => Ok(Some(false)),
        Some(_) => Err(bad_field(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        fields
    }

    #[test]
    fn a_request_says_whether_it_is_the_last() {
        #[track_caller]
        fn check(pairs: &[(&'static str, &str)], expected: Option<bool>) {
            let parsed = Request::parse(&fields(pairs), None);
            assert_eq!(parsed.ok().map(|request| request.complete), expected, "{pairs:?}");
        }
        check(&[("upload-complete", "?1")], Some(true));
        check(&[("upload-complete", "?0")], Some(false));
        check(&[("upload-incomplete", "?1")], Some(false));
        check(&[("upload-incomplete", "?0"), ("upload-draft-interop-version", "3")], Some(true));
        check(&[("upload-draft-interop-version", "6")], None);
        for bad in ["1", "true", "?2", "", "?1, ?1"] {
            check(&[("upload-complete", bad)], None);
        }
        check(&[("upload-complete", "?1"), ("upload-complete", "?1")], None);
    }

    #[test]
    fn the_last_bytes_tell_the_size() {
        #[track_caller]
        fn check(pairs: &[(&'static str, &str)], content: Option<u64>, expected: Result<Option<u64>, ()>) {
            let parsed = Request::parse(&fields(pairs), content.map(Length::new));
            assert_eq!(
                parsed.map(|request| request.total.map(Length::get)).map_err(drop),
                expected,
                "{pairs:?}"
            );
        }
        let (last, more) = (("upload-complete", "?1"), ("upload-complete", "?0"));
        check(&[last], Some(7), Ok(Some(7)));
        check(&[last], None, Ok(None));
        check(&[last, ("upload-offset", "5")], Some(7), Ok(Some(12)));
        check(&[last, ("upload-offset", "5"), ("upload-length", "12")], Some(7), Ok(Some(12)));
        check(&[last, ("upload-offset", "5"), ("upload-length", "13")], Some(7), Err(()));
        check(&[last, ("upload-offset", "999999999999999")], Some(u64::MAX), Err(()));
        check(&[more], Some(7), Ok(None));
        check(&[more, ("upload-length", "100")], Some(7), Ok(Some(100)));
        check(&[more, ("upload-length", "-1")], Some(7), Err(()));
    }

    #[test]
    fn drafts_differ_in_what_they_ask_and_say() {
        #[track_caller]
        fn check(
            version: Option<&str>,
            media: Option<&str>,
            taken: bool,
            (name, value): (&HeaderName, &str),
        ) {
            let mut request = fields(&[("upload-complete", "?0")]);
            if let Some(version) = version {
                request.insert(INTEROP_VERSION, version.parse().unwrap());
            }
            if let Some(media) = media {
                request.insert(CONTENT_TYPE, media.parse().unwrap());
            }
            let parsed = Request::parse(&request, None).unwrap();
            assert_eq!(parsed.takes_media_type(&request), taken, "{version:?} {media:?}");
            let said = completeness(&request, false);
            assert_eq!((&said.0, said.1.to_str().unwrap()), (name, value), "{version:?}");
        }
        let complete = (&UPLOAD_COMPLETE, "?0");
        check(Some("3"), None, true, (&UPLOAD_INCOMPLETE, "?1"));
        check(Some("5"), None, true, complete);
        check(Some("6"), None, false, complete);
        check(Some("6"), Some(MEDIA_TYPE), true, complete);
        check(None, None, false, complete);
        check(None, Some("text/plain"), false, complete);
        check(None, Some(MEDIA_TYPE), true, complete);
        check(Some("many"), Some(MEDIA_TYPE), true, complete);
    }

    #[test]
    fn what_is_of_this_dialect() {
        assert!(is_spoken(&fields(&[("upload-complete", "?1")])));
        assert!(is_spoken(&fields(&[("upload-incomplete", "?1")])));
        assert!(is_spoken(&fields(&[("content-type", MEDIA_TYPE)])));
        assert!(!is_spoken(&fields(&[("upload-offset", "0"), ("content-type", "text/plain")])));
    }
}
