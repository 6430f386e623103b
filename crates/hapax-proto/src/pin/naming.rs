//! Names for files that other people's servers send. Owns the reading of `Content-Disposition` (RFC 6266) and of
//! the last segment of a URL; whatever either says is reduced to a safe base name, because a server must not choose
//! where on this machine a file lands.

use http::HeaderMap;
use http::header::CONTENT_DISPOSITION;
use percent_encoding::percent_decode;

use crate::name::safe_base_name;
use crate::validator::{single_line, trim_blanks};

/// The name of a file for which neither its server nor its URL has a usable one.
pub const NAME_DEFAULT: &str = "download";

/// Returns the name that a response suggests, else the one in the path of its URL, else [`NAME_DEFAULT`].
pub fn file_name(fields: &HeaderMap, url_path: &str) -> String {
    let suggested = single_line(fields, &CONTENT_DISPOSITION).and_then(|field| suggested(field.as_bytes()));
    suggested
        .as_deref()
        .and_then(safe_base_name)
        .or_else(|| safe_base_name(&decoded(url_path.rsplit('/').next().unwrap_or_default().as_bytes())))
        .unwrap_or_else(|| NAME_DEFAULT.to_owned())
}

/// Reads the name of a `Content-Disposition`: `filename*` is preferred wherever it stands (RFC 6266 §4.3).
fn suggested(field: &[u8]) -> Option<String> {
    let mut plain = None;
    for (name, value) in parameters(field) {
        if name.eq_ignore_ascii_case(b"filename*") {
            if let Some(exact) = extended(&value) {
                return Some(exact);
            }
        } else if name.eq_ignore_ascii_case(b"filename") {
            plain.get_or_insert_with(|| String::from_utf8_lossy(&value).into_owned());
        }
    }
    plain
}

/// Reads an extended value (RFC 8187 §3.2), `UTF-8'en'a%20b`; other charsets are not known here.
fn extended(value: &[u8]) -> Option<String> {
    let mut pieces = value.splitn(3, |byte| *byte == b'\'');
    let (charset, _language, encoded) = (pieces.next()?, pieces.next()?, pieces.next()?);
    charset.eq_ignore_ascii_case(b"utf-8").then(|| decoded(encoded))
}

fn decoded(encoded: &[u8]) -> String {
    percent_decode(encoded).decode_utf8_lossy().into_owned()
}

/// Splits a field into its parameters. What stands before the first semicolon is the disposition, which says
/// nothing about the name; what cannot be read is passed over.
fn parameters(field: &[u8]) -> Vec<(&[u8], Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = behind(field, b';');
    while !rest.is_empty() {
        let name_end = rest.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(rest.len());
        let name = trim_blanks(&rest[..name_end]);
        if rest.get(name_end) != Some(&b'=') {
            rest = behind(rest, b';');
            continue;
        }
        let (value, left) = value(trim_blanks(&rest[name_end + 1..]));
        found.push((name, value));
        rest = behind(left, b';');
    }
    found
}

/// Reads a token or a quoted string (RFC 9110 §5.6.4), and returns what follows it.
fn value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| *byte == b';').unwrap_or(text.len());
        return (trim_blanks(&text[..end]).to_vec(), &text[end..]);
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return (value, &quoted[at + 1..]),
            b'\\' => value.extend(bytes.next().map(|(_, escaped)| *escaped)),
            byte => value.push(*byte),
        }
    }
    (value, &[])
}

/// Returns what stands behind the first of these bytes.
fn behind(text: &[u8], byte: u8) -> &[u8] {
    text.iter().position(|found| *found == byte).map_or(&[], |at| &text[at + 1..])
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn named(disposition: Option<&[u8]>, path: &str) -> String {
        let mut fields = HeaderMap::new();
        if let Some(disposition) = disposition {
            fields.insert(CONTENT_DISPOSITION, HeaderValue::from_bytes(disposition).unwrap());
        }
        file_name(&fields, path)
    }

    #[test]
    fn rfc6266_a_response_names_its_file() {
        #[track_caller]
        fn check(disposition: &str, expected: &str) {
            assert_eq!(named(Some(disposition.as_bytes()), "/dir/in-url"), expected);
        }
        check("attachment; filename=a.iso", "a.iso");
        check("attachment; filename=\"a b.iso\"", "a b.iso");
        check("attachment;filename = \"a;b.iso\" ; x=y", "a;b.iso");
        check("inline; FILENAME=\"a.iso\"", "a.iso");
        check("attachment; filename=\"a.iso\"; filename*=UTF-8''%e7%bd%91.iso", "网.iso");
        check("attachment; filename*=utf-8'en'a%20b.iso; filename=c", "a b.iso");
        check("attachment; filename*=ISO-8859-1''%e9; filename=c", "c");
        check("attachment; filename*=nonsense", "in-url");
        check("attachment; filename=\"say \\\"hi\\\".txt\"", "say _hi_.txt");
        check("attachment; filename=\"open", "open");
        check("attachment; filename=", "in-url");
        check("attachment; filename", "in-url");
        check("attachment", "in-url");
        check("", "in-url");
        check("filename=a.iso", "in-url");
    }

    #[test]
    fn no_server_chooses_a_folder() {
        #[track_caller]
        fn check(disposition: &str, expected: &str) {
            assert_eq!(named(Some(disposition.as_bytes()), "/dir/in-url"), expected);
        }
        check("attachment; filename=\"../../.ssh/authorized_keys\"", "authorized_keys");
        check("attachment; filename=\"/etc/passwd\"", "passwd");
        check("attachment; filename=\"..\\\\..\\\\boot.ini\"", "boot.ini");
        check("attachment; filename=\"..\"", "in-url");
        check("attachment; filename=\".bashrc\"", "bashrc");
        check("attachment; filename*=UTF-8''..%2f..%2fx", "x");
        check("attachment; filename*=UTF-8''a%00b%0ac", "abc");
        check("attachment; filename=\"CON\"", "_CON");
    }

    #[test]
    fn a_url_names_its_file() {
        #[track_caller]
        fn check(path: &str, expected: &str) {
            assert_eq!(named(None, path), expected);
        }
        check("/pub/big.iso", "big.iso");
        check("/a%20b.iso", "a b.iso");
        check("/..%2f..%2fetc%2fpasswd", "passwd");
        check("/%2e%2e", NAME_DEFAULT);
        check("/folder/", NAME_DEFAULT);
        check("/", NAME_DEFAULT);
        check("", NAME_DEFAULT);
    }

    proptest! {
        #[test]
        fn every_name_is_safe(field in prop::collection::vec(prop_oneof![Just(b'\t'), 32..=255_u8], 0..80), path in "[/.%2eEfF\\\\a-z]{0,20}") {
            prop_assume!(HeaderValue::from_bytes(&field).is_ok());
            let name = named(Some(&field), &path);
            prop_assert_eq!(safe_base_name(&name), Some(name));
        }
    }
}
