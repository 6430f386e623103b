//! Fields of requests and answers, and paths. Input is text as it stands on the line: `Name: value`, one a line; what
//! no HTTP library would hand over is left out before the parsers see it.

use hapax_proto::dialect::integrity::{Announced, Integrity};
use hapax_proto::dialect::{rufh, tus};
use hapax_proto::digest::{Algorithm, CONTENT_DIGEST, Digest, Digests, Hasher, Preferences, REPR_DIGEST};
use hapax_proto::disposition::{content_type, decide_disposition, format_disposition};
use hapax_proto::download::{Answer, Facts, decide_get};
use hapax_proto::name::{EntryName, EntryPath, UserName, parse_space_path, parse_url_path, safe_base_name};
use hapax_proto::pin::foreign::{First, Opening, decide_first, decide_next};
use hapax_proto::pin::naming::file_name;
use hapax_proto::pin::{Response, Verdict};
use hapax_proto::precondition::Validators;
use hapax_proto::range::{Resolved, SPANS_MAX, parse_range};
use hapax_proto::retry::parse_retry_after;
use hapax_proto::span::{Length, Offset, SIZE_MAX, Span};
use hapax_proto::validator::{EntityTag, HttpDate};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// Reads fields, one a line.
fn fields(text: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    fields
}

/// Takes a number off the front: how large the file is.
fn sized(data: &[u8]) -> Option<(Length, &[u8])> {
    let (size, rest) = data.split_first_chunk()?;
    Some((Length::new(u64::from(u32::from_le_bytes(*size))), rest))
}

/// A request for a file of a size: ranges and conditions. What is answered lies inside the file.
pub fn request(data: &[u8]) {
    let Some((size, text)) = sized(data) else { return };
    let fields = fields(text);
    if let Some(set) = parse_range(&fields) {
        if let Resolved::Spans(spans) = set.resolve(size) {
            assert!(!spans.is_empty() && spans.len() <= SPANS_MAX);
        }
    }
    let facts = Facts {
        validators: Validators {
            etag: EntityTag::strong("abc").expect("it is a tag"),
            last_modified: Some(HttpDate::from_seconds(784_111_777)),
        },
        size,
    };
    let whole = Span::whole(size);
    for method in [Method::GET, Method::HEAD] {
        match decide_get(&method, &fields, &facts) {
            Answer::Part { span, .. } => assert!(!span.is_empty() && whole.contains(span)),
            Answer::Parts { spans, .. } => {
                assert!((2..=SPANS_MAX).contains(&spans.len()));
                assert!(spans.iter().all(|span| !span.is_empty() && whole.contains(*span)));
            }
            Answer::Unsatisfiable => assert!(parse_range(&fields).is_some()),
            _ => {}
        }
    }
}

/// Entity tags and dates: what is written is read back as the same.
pub fn validator(data: &[u8]) {
    if let Some(tag) = EntityTag::parse(data) {
        let again = EntityTag::parse(tag.to_value().as_bytes()).expect("what is written can be read");
        assert_eq!(again, tag);
        assert!(tag.matches_weakly(&again) && tag.matches_strongly(&again) != tag.is_weak());
    }
    if let Some(date) = HttpDate::parse(data) {
        assert_eq!(HttpDate::parse(date.to_value().as_bytes()), Some(date));
    }
    if let Ok(value) = HeaderValue::from_bytes(data) {
        let _ = parse_retry_after(&value, HttpDate::from_seconds(784_111_777));
    }
}

/// Requests of tus and of the IETF draft: no number passes the largest size, what is declared twice or at odds with
/// itself is refused, and metadata come back as they were sent.
///
/// Behind a `~` stand trailers: what was announced and did not come is refused, and what fits is not.
pub fn dialect(data: &[u8]) {
    let (data, behind) = match data.iter().position(|byte| *byte == b'~') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b""[..]),
    };
    let (fields, trailers) = (fields(data), fields(behind));
    if let Ok(creation) = tus::parse_creation(&fields) {
        assert!(creation.length.is_none_or(|length| length.get() <= SIZE_MAX));
        let says_length = [creation.length.is_some(), fields.contains_key(tus::UPLOAD_DEFER_LENGTH)];
        if let Some(tus::Concat::Final(members)) = &creation.concat {
            assert!((1..=tus::MEMBERS_MAX).contains(&members.len()));
            assert!(members.iter().all(|name| !name.is_empty() && !name.contains(['/', '?', '#', ' '])));
            assert_eq!(says_length, [false, false]);
        } else {
            assert_ne!(says_length[0], says_length[1]);
        }
        if let Some(raw) = creation.metadata.raw() {
            assert_eq!(tus::Metadata::parse(raw).ok().as_ref(), Some(&creation.metadata));
        }
    }
    if let Ok(offset) = tus::parse_offset(&fields) {
        assert!(offset.get() <= SIZE_MAX);
    }
    if let Ok(Some(checksum)) = tus::Checksum::parse(&fields) {
        let mut hasher = checksum.hasher();
        hasher.update(data);
        let _ = hasher.fits(&checksum);
    }
    integrity(&fields, &trailers, data);
    for content in [None, Some(Length::new(data.len() as u64)), Some(Length::new(u64::MAX))] {
        if let Ok(request) = rufh::Request::parse(&fields, content) {
            let _ = request.takes_media_type(&fields);
            let (name, value) = rufh::completeness(&fields, request.complete);
            let said = HeaderMap::from_iter([
                (name, value),
                (rufh::INTEROP_VERSION, u16::from(request.version.unwrap_or(9)).into()),
            ]);
            let again = rufh::Request::parse(&said, None).expect("what is written is read");
            assert_eq!(again.complete, request.complete);
        }
    }
}

/// What a request says of its bytes, before and behind them.
fn integrity(fields: &HeaderMap, trailers: &HeaderMap, bytes: &[u8]) {
    let Ok(checksum) = tus::Checksum::parse(fields) else { return };
    let Ok(said) = Integrity::parse(fields, checksum) else { return };
    let announced = said.announced;
    let mut hasher = said.clone().hasher();
    hasher.update(bytes);
    assert_eq!(hasher.waits(), announced.any());
    if let Ok(trailing) = announced.read(trailers) {
        assert_eq!(trailing.checksum.is_some(), announced.checksum);
        assert!(trailing.content.is_empty() || announced.content);
        assert!(trailing.representation.is_empty() || announced.representation);
    } else {
        assert!(announced.any() && hasher.verify(trailers).is_err());
    }
    let none = HeaderMap::new();
    if announced.any() {
        assert!(hasher.verify(&none).is_err(), "what was announced has to come");
    } else {
        assert_eq!(hasher.verify(&none), hasher.verify(trailers), "what was not announced says nothing");
    }
    let alone = Integrity { announced: Announced { checksum: false, ..announced }, ..Integrity::default() };
    let mut hasher = alone.hasher();
    hasher.update(bytes);
    let mut own = Hasher::new(Algorithm::ALL.iter().copied());
    own.update(bytes);
    let digests = own.digests().format_field().expect("there are digests");
    let right = [CONTENT_DIGEST, REPR_DIGEST].map(|name| (HeaderName::from_static(name), digests.clone()));
    assert!(hasher.verify(&HeaderMap::from_iter(right)).is_ok());
}

/// Digest fields, preferences and digests in hexadecimal: what is written is read back as the same.
pub fn digest(data: &[u8]) {
    let lines = || data.split(|byte| *byte == b'\n');
    if let Ok(digests) = Digests::parse_field(lines()) {
        if let Some(field) = digests.format_field() {
            assert_eq!(Digests::parse_field([field.as_bytes()]).ok().as_ref(), Some(&digests));
        } else {
            assert!(digests.is_empty());
        }
        assert!(digests.disagreement(&digests).is_none());
    }
    if let Ok(preferences) = Preferences::parse_field(lines()) {
        if let Some(chosen) = preferences.choose(Algorithm::ALL) {
            assert!(Algorithm::ALL.contains(&chosen));
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    for algorithm in Algorithm::ALL {
        if let Ok(digest) = Digest::parse_hex(*algorithm, text) {
            assert!(digest.hex().eq_ignore_ascii_case(text));
        }
    }
}

/// Names and media types that go into an answer: whatever they are, a field comes out, in one line.
pub fn disposition(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (declared, name) = text.split_once('\n').map_or((None, &*text), |(first, rest)| (Some(first), rest));
    let media_type = content_type(declared, name);
    let field = format_disposition(decide_disposition(&media_type), name);
    assert!(field.to_str().is_ok(), "{field:?}");
}

/// Names and paths: what is accepted is written and read back as the same, and nothing leads upwards.
pub fn name(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(name) = EntryName::parse(&text) {
        assert!(!matches!(name.as_str(), "" | "." | "..") && !name.as_str().contains(['/', '\0']));
    }
    if let Ok(path) = EntryPath::parse(&text) {
        assert_eq!(EntryPath::parse(&path.to_string()).as_ref(), Ok(&path));
    }
    if let Ok(path) = parse_url_path(&text) {
        assert_eq!(EntryPath::parse(&path.path.to_string()).as_ref(), Ok(&path.path));
    }
    if let Ok((Some(space), _)) = parse_space_path(&text) {
        assert_eq!(UserName::parse(space.as_str()), Some(space));
    }
    if let Some(safe) = safe_base_name(&text) {
        check_safe(&safe);
        assert_eq!(safe_base_name(&safe).as_deref(), Some(&*safe), "a safe name is left as it is");
    }
    let (first, rest) = text.split_once('\n').unwrap_or(("", &text));
    check_safe(&file_name(&fields(rest.as_bytes()), first));
}

fn check_safe(name: &str) {
    assert!(!name.is_empty() && name.len() <= 255 && !name.starts_with('.'), "{name:?}");
    assert!(!name.contains(['/', '\\', '\0']) && !name.chars().any(char::is_control), "{name:?}");
}

/// Answers of other people's servers, a first one and another: what is accepted is what was asked.
pub fn pin(data: &[u8]) {
    let Some(([kind, start], rest)) = data.split_first_chunk() else { return };
    let statuses = [200, 206, 304, 404, 412, 416, 429, 503, 204, 500];
    let status = |at: u8| {
        let at = usize::from(at) % statuses.len();
        StatusCode::from_u16(statuses[at]).expect("they are statuses")
    };
    let mut parts = rest.splitn(2, |byte| *byte == b'~');
    let [first_fields, next_fields] = [(); 2].map(|()| fields(parts.next().unwrap_or_default()));
    let received = HttpDate::from_seconds(784_111_777);
    let response = |status, fields| Response { status, fields, received };
    let opening = if kind % 2 == 0 { Opening::Range } else { Opening::Plain };
    let version = match decide_first(opening, &response(status(kind >> 4), &first_fields)) {
        First::Part { version, span } => {
            let size = version.size.expect("a part has a total");
            assert!(span.start() == Offset::ZERO && Span::whole(size).contains(span));
            version
        }
        First::Whole { version } => version,
        _ => return,
    };
    let Some(held) = version.held(&Digests::default()) else { return };
    let size = held.pin.size.get();
    if size == 0 {
        return;
    }
    let first = u64::from(*start) % size;
    let asked = Span::new(Offset::new(first), Offset::new(size)).expect("it ends behind its start");
    if let Verdict::Accept { span } = decide_next(&held, asked, &response(status(kind & 15), &next_fields)) {
        assert!(span.start() == asked.start() && asked.contains(span) && !span.is_empty());
    }
}
