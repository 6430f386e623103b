//! The name that a POST gives its file, read from `Content-Disposition` (RFC 6266 §4). It only reads; whether the
//! text is a name at all is for whoever uses it.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::CONTENT_DISPOSITION;
use percent_encoding::percent_decode_str;

/// Returns `filename*` if it is there and readable, else `filename` (§4.3); `None` if there is neither.
pub(super) fn file_name(fields: &HeaderMap) -> Option<String> {
    let text = std::str::from_utf8(fields.get(CONTENT_DISPOSITION)?.as_bytes()).ok()?;
    let parameters = parameters(text);
    let find = |name: &str| parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    find("filename*")
        .and_then(|(_, value)| extended(value))
        .or_else(|| find("filename").map(|(_, value)| value.clone()))
}

/// Splits what stands behind the type into parameters, values without their quotes.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut rest = text.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((key, behind)) = rest.split_once('=') {
        let (value, next) = if let Some(quoted) = behind.trim_start().strip_prefix('"') {
            unquoted(quoted)
        } else {
            let (value, next) = behind.split_once(';').unwrap_or((behind, ""));
            (value.trim().to_owned(), next)
        };
        parameters.push((key.trim_matches([' ', '\t', ';']).to_owned(), value));
        rest = next;
    }
    parameters
}

/// Reads a quoted string (RFC 9110 §5.6.4) behind its first quote, and returns what follows it.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// Reads an extended value (RFC 8187 §3.2); UTF-8 is the one charset that recipients must know.
fn extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, encoded) = rest.split_once('\'')?;
    let is_utf8 = charset.eq_ignore_ascii_case("utf-8");
    is_utf8.then(|| percent_decode_str(encoded).decode_utf8().ok())?.map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6266_names() {
        #[track_caller]
        fn check(field: &str, expected: Option<&str>) {
            let fields = HeaderMap::from_iter([(CONTENT_DISPOSITION, field.parse().unwrap())]);
            assert_eq!(file_name(&fields).as_deref(), expected);
        }
        check("attachment; filename=example.html", Some("example.html"));
        check("Attachment; FileName=\"an example.html\"", Some("an example.html"));
        check("attachment; filename=\"a;b=c.txt\"; x=y", Some("a;b=c.txt"));
        check("attachment; filename=\"a\\\"b\\\\c\"", Some("a\"b\\c"));
        check("attachment; filename=\"EURO rates\"; filename*=utf-8''%e2%82%ac%20rates", Some("€ rates"));
        check("attachment; filename*=UTF-8'en'%e2%82%ac%20rates; filename=x", Some("€ rates"));
        check("attachment; filename*=iso-8859-1''%A3; filename=fallback", Some("fallback"));
        check("attachment; filename*=UTF-8''%ff; filename=fallback", Some("fallback"));
        check("attachment; filename=\"unclosed", Some("unclosed"));
        check("attachment; filename=", Some(""));
        check("attachment", None);
        check("inline; name=x", None);
        check("", None);
    }
}
