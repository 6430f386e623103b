//! How a stored file is presented to a browser: its media type, whether it may be shown in place, and the name
//! it is saved under (RFC 6266, RFC 8187). It never looks into the file: guessing from content is how a picture
//! becomes a page.

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The media type of a file about which nothing is known.
pub const MEDIA_TYPE_DEFAULT: &str = "application/octet-stream";

/// The `Content-Security-Policy` of every stored file. Whatever a file is taken for, it runs no script, loads
/// nothing, and has an origin of its own; the page a browser makes around a picture or a film still works.
pub const SANDBOX: &str =
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox";

/// The longest media type that is passed on, in bytes: RFC 6838 §4.2 allows 127 for either name, and parameters are
/// short. Each part of a body in parts repeats it, so it must not be what makes an answer long.
const MEDIA_TYPE_MAX: usize = 384;

/// What a browser does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Show it in place.
    Inline,
    /// Save it.
    Attachment,
}

/// Media types that carry no script and are safe to show under [`SANDBOX`]. HTML, SVG, XML and PDF are not among
/// them.
const INLINE: &[&str] = &[
    "audio/aac",
    "audio/flac",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/wav",
    "audio/webm",
    "image/apng",
    "image/avif",
    "image/bmp",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/plain",
    "video/mp4",
    "video/ogg",
    "video/webm",
];

/// Media types by the last extension, in lower case and sorted.
const BY_EXTENSION: &[(&str, &str)] = &[
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("apng", "image/apng"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("bz2", "application/x-bzip2"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("epub", "application/epub+zip"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("heic", "image/heic"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("iso", "application/x-iso9660-image"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("log", "text/plain; charset=utf-8"),
    ("m4a", "audio/mp4"),
    ("m4v", "video/mp4"),
    ("md", "text/markdown; charset=utf-8"),
    ("mkv", "video/x-matroska"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("rar", "application/vnd.rar"),
    ("rtf", "application/rtf"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "application/xml"),
    ("xz", "application/x-xz"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// Returns the media type of a file by its extension, else [`MEDIA_TYPE_DEFAULT`].
pub fn media_type_by_name(name: &str) -> &'static str {
    let Some((_, extension)) = name.rsplit_once('.') else {
        return MEDIA_TYPE_DEFAULT;
    };
    let extension = extension.to_ascii_lowercase();
    BY_EXTENSION
        .binary_search_by_key(&extension.as_str(), |(extension, _)| extension)
        .map_or(MEDIA_TYPE_DEFAULT, |at| BY_EXTENSION[at].1)
}

/// Returns the `Content-Type` of a file: the declared media type if it is well-formed, else the one its name
/// suggests. The declaration came from a client, so it may be anything.
pub fn content_type(declared: Option<&str>, name: &str) -> HeaderValue {
    declared
        .filter(|declared| declared.len() <= MEDIA_TYPE_MAX && is_media_type(essence(declared)))
        .and_then(|declared| HeaderValue::from_str(declared).ok())
        .unwrap_or_else(|| HeaderValue::from_static(media_type_by_name(name)))
}

/// Decides what a browser does with a file of this media type: it is saved, unless the type is on a short list.
pub fn decide_disposition(content_type: &HeaderValue) -> Disposition {
    let essence = essence(content_type.to_str().unwrap_or(MEDIA_TYPE_DEFAULT));
    let is_listed = INLINE.iter().any(|listed| listed.eq_ignore_ascii_case(essence));
    if is_listed { Disposition::Inline } else { Disposition::Attachment }
}

/// Returns the media type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Tells whether this is `type/subtype`, both of them tokens (RFC 9110 §5.6.2, §8.3.1).
fn is_media_type(essence: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_tchar);
    essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

/// What `filename*` encodes: everything but the `attr-char` of RFC 8187 §3.2.1.
const ENCODED_IN_FIELD: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Writes `Content-Disposition` with the name in both forms (RFC 6266 §4.3): `filename*` is exact and preferred
/// by whoever knows it, `filename` is its nearest spelling in plain ASCII.
pub fn format_disposition(disposition: Disposition, name: &str) -> HeaderValue {
    let kind = match disposition {
        Disposition::Inline => "inline",
        Disposition::Attachment => "attachment",
    };
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let exact = utf8_percent_encode(name, ENCODED_IN_FIELD);
    HeaderValue::from_str(&format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{exact}"))
        .expect("both spellings are printable ASCII")
}

/// Tells whether recipients agree on a character between quotes. Some unescape a backslash and some do not, some
/// decode a percent sign (RFC 6266 Appendix D).
fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%')
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_can_be_searched_and_its_types_are_well_formed() {
        assert!(BY_EXTENSION.is_sorted_by(|a, b| a.0 < b.0));
        for (extension, media_type) in BY_EXTENSION {
            assert!(is_media_type(essence(media_type)), "{extension}");
            assert_eq!(*extension, extension.to_ascii_lowercase());
        }
    }

    #[test]
    fn the_extension_suggests_a_media_type() {
        #[track_caller]
        fn check(name: &str, media_type: &str) {
            assert_eq!(media_type_by_name(name), media_type);
        }
        check("film.mkv", "video/x-matroska");
        check("IMG_1.JPG", "image/jpeg");
        check("backup.tar.gz", "application/gzip");
        check("a.7z", "application/x-7z-compressed");
        check("a.zst", "application/zstd");
        check("README", MEDIA_TYPE_DEFAULT);
        check("file.", MEDIA_TYPE_DEFAULT);
        check("file.unheard-of", MEDIA_TYPE_DEFAULT);
        check("png", MEDIA_TYPE_DEFAULT);
    }

    #[test]
    fn a_declared_media_type_counts_if_it_is_one() {
        #[track_caller]
        fn check(declared: &str, content: &str) {
            assert_eq!(content_type(Some(declared), "a.png"), content);
        }
        check("video/mp4", "video/mp4");
        check("text/plain; charset=gbk", "text/plain; charset=gbk");
        check("", "image/png");
        check("png", "image/png");
        check("image/", "image/png");
        check("/png", "image/png");
        check("image/png/x", "image/png");
        check("image /png", "image/png");
        check("text/html\r\nSet-Cookie: a=b", "image/png");
        check("text/plain; x=\r\nSet-Cookie: a=b", "image/png");
        check(&format!("text/{}", "x".repeat(MEDIA_TYPE_MAX)), "image/png");
        assert_eq!(content_type(None, "a.png"), "image/png");
    }

    #[test]
    fn only_what_carries_no_script_is_shown_in_place() {
        #[track_caller]
        fn check(content_type: &'static str, expected: Disposition) {
            assert_eq!(decide_disposition(&HeaderValue::from_static(content_type)), expected);
        }
        check("image/png", Disposition::Inline);
        check("IMAGE/PNG", Disposition::Inline);
        check("text/plain; charset=utf-8", Disposition::Inline);
        check("text/plain ;charset=utf-8", Disposition::Inline);
        check("video/mp4", Disposition::Inline);
        check("text/html", Disposition::Attachment);
        check("image/svg+xml", Disposition::Attachment);
        check("application/xhtml+xml", Disposition::Attachment);
        check("application/xml", Disposition::Attachment);
        check("application/pdf", Disposition::Attachment);
        check("text/html; x=image/png", Disposition::Attachment);
        check("image/png, text/html", Disposition::Attachment);
        check(MEDIA_TYPE_DEFAULT, Disposition::Attachment);
        check("", Disposition::Attachment);
    }

    #[test]
    fn rfc6266_names_stand_in_both_forms() {
        #[track_caller]
        fn check(name: &str, plain: &str, exact: &str) {
            let expected = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}");
            assert_eq!(format_disposition(Disposition::Attachment, name), expected);
        }
        check("film.mkv", "film.mkv", "film.mkv");
        check("a b.txt", "a b.txt", "a%20b.txt");
        check("€ rates", "_ rates", "%E2%82%AC%20rates");
        check("网盘.zip", "__.zip", "%E7%BD%91%E7%9B%98.zip");
        check("a\"b\\c%41.txt", "a_b_c_41.txt", "a%22b%5Cc%2541.txt");
        check("a;b='c'*(d)", "a;b='c'*(d)", "a%3Bb%3D%27c%27%2A%28d%29");
        check("!#$&+-.^_`|~", "!#$&+-.^_`|~", "!#$&+-.^_`|~");
        check("a\r\nSet-Cookie: b", "a__Set-Cookie: b", "a%0D%0ASet-Cookie%3A%20b");
    }

    #[test]
    fn an_inline_file_has_a_name_too() {
        assert_eq!(
            format_disposition(Disposition::Inline, "a.png"),
            "inline; filename=\"a.png\"; filename*=UTF-8''a.png"
        );
    }

    proptest! {
        #[test]
        fn the_exact_form_is_exact(name in any::<String>()) {
            let value = format_disposition(Disposition::Attachment, &name);
            let (_, exact) = value.to_str().unwrap().rsplit_once("''").unwrap();
            prop_assert_eq!(percent_decode_str(exact).decode_utf8().unwrap(), name);
        }
    }
}
