//! tus 1.0.0: the fields of its requests and answers, read and written. What happens to an upload is decided by
//! [`upload`](crate::upload); this knows only how tus says it.

use data_encoding::{BASE64, BASE64_NOPAD};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{bad_field, single};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::problem::{Kind, Problem};
use crate::span::{Length, Offset, SIZE_MAX};

/// The version spoken, and the only one there is.
pub const VERSION: &str = "1.0.0";
/// The extensions spoken.
pub const EXTENSIONS: &str = "creation,creation-with-upload,creation-defer-length,expiration,checksum,checksum-trailer,termination,concatenation,concatenation-unfinished";
/// The algorithms of checksums.
pub const CHECKSUM_ALGORITHMS: &str = "sha1,sha256,md5,crc32";
/// The media type of the bytes of an upload.
pub const MEDIA_TYPE: &str = "application/offset+octet-stream";

/// The version a request or answer speaks.
pub const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
/// The versions a server speaks.
pub const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
/// The extensions a server speaks.
pub const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
/// The largest size a server takes.
pub const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
/// The algorithms of checksums a server computes.
pub const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
/// The size of the whole.
pub const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// Says that the size is told later.
pub const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
/// Where the bytes belong, or where the upload stands.
pub const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// What the client says about the file.
pub const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
/// What the bytes of this request hash to.
pub const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
/// Whether an upload is a piece of another, or made of such pieces.
pub const UPLOAD_CONCAT: HeaderName = HeaderName::from_static("upload-concat");
/// The method meant, where only POST gets through.
pub const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// The most uploads that one is composed of.
pub const MEMBERS_MAX: usize = 1_000;

/// The longest `Upload-Metadata` taken, in bytes.
const METADATA_MAX: usize = 16 << 10;

/// Refuses a request that does not speak this version.
///
/// # Errors
/// 412.
pub fn check_version(fields: &HeaderMap) -> Result<(), Problem> {
    match fields.get(TUS_RESUMABLE) {
        Some(version) if version == VERSION => Ok(()),
        _ => Err(Kind::TusVersion.into()),
    }
}

/// What a client says when it creates an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// The size; `None` if it is told later.
    pub length: Option<Length>,
    /// What it says about the file.
    pub metadata: Metadata,
    /// What the upload is to others, if it is something.
    pub concat: Option<Concat>,
}

/// What an upload is to others: `Upload-Concat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concat {
    /// A piece: never a file by itself.
    Partial,
    /// Composed of pieces, which are named in order by the last segments of their URLs. One may stand there several times.
    Final(Vec<String>),
}

impl Concat {
    /// Reads `Upload-Concat`. Members are absolute or relative URLs; whatever leads to their last segment is not looked at, for
    /// a proxy may have changed it.
    ///
    /// # Errors
    /// 400 if it is malformed, or names no member or more than [`MEMBERS_MAX`].
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text == "partial" {
            return Ok(Self::Partial);
        }
        let members = text.strip_prefix("final;").ok_or_else(|| bad_field(&UPLOAD_CONCAT))?;
        let members: Vec<_> = members.split_ascii_whitespace().map(last_segment).collect();
        let fits = (1..=MEMBERS_MAX).contains(&members.len()) && members.iter().all(|name| !name.is_empty());
        if fits { Ok(Self::Final(members)) } else { Err(bad_field(&UPLOAD_CONCAT)) }
    }
}

/// Returns the last segment of the path of a URL.
fn last_segment(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Reads the fields of a creation.
///
/// # Errors
/// 400 for a field that is malformed, missing, doubled or at odds with another.
pub fn parse_creation(fields: &HeaderMap) -> Result<Creation, Problem> {
    let length = parse_number(fields, &UPLOAD_LENGTH)?.map(Length::new);
    let deferred = match single(fields, &UPLOAD_DEFER_LENGTH)? {
        None => false,
        Some("1") => true,
        Some(_) => return Err(bad_field(&UPLOAD_DEFER_LENGTH)),
    };
    let concat = single(fields, &UPLOAD_CONCAT)?.map(Concat::parse).transpose()?;
    // What is composed is as long as its members.
    let says_length = !matches!(concat, Some(Concat::Final(_)));
    if usize::from(length.is_some()) + usize::from(deferred) != usize::from(says_length) {
        return Err(bad_field(&UPLOAD_LENGTH));
    }
    let metadata =
        single(fields, &UPLOAD_METADATA)?.map_or_else(|| Ok(Metadata::default()), Metadata::parse)?;
    Ok(Creation { length, metadata, concat })
}

/// Reads a field that is a count of bytes.
///
/// # Errors
/// 400 for everything but digits that say at most the largest size there is, once.
pub fn parse_number(fields: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Problem> {
    let Some(text) = single(fields, name)? else { return Ok(None) };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_number && *number <= SIZE_MAX);
    number.map(Some).ok_or_else(|| bad_field(name))
}

/// Reads where the bytes of a request belong.
///
/// # Errors
/// 400 if it says so not at all, malformed or twice.
pub fn parse_offset(fields: &HeaderMap) -> Result<Offset, Problem> {
    parse_number(fields, &UPLOAD_OFFSET)?.map(Offset::new).ok_or_else(|| bad_field(&UPLOAD_OFFSET))
}

/// What a client says about a file: keys with values, which are bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    raw: String,
    pairs: Vec<(String, Vec<u8>)>,
}

impl Metadata {
    /// Reads `Upload-Metadata`: pairs behind commas, each a key and, behind a blank, its value in base64.
    ///
    /// # Errors
    /// 400 if it is malformed, has a key twice, or is too long.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let bad = || bad_field(&UPLOAD_METADATA);
        if text.len() > METADATA_MAX {
            return Err(bad());
        }
        let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
        // Some clients send the field empty rather than not at all.
        for pair in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
            let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
            let value = decode(value.trim()).ok_or_else(bad)?;
            if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(bad());
            }
            if pairs.iter().any(|(known, _)| known == key) {
                return Err(bad());
            }
            pairs.push((key.to_owned(), value));
        }
        Ok(Self { raw: text.to_owned(), pairs })
    }

    /// Returns the field as it came, or `None` if there was none.
    pub fn raw(&self) -> Option<&str> {
        Some(&*self.raw).filter(|raw| !raw.is_empty())
    }

    /// Tells whether a key is there, with or without a value.
    pub fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == key)
    }

    /// Returns the value of a key as text; `None` if it is absent, empty or no text. `null` is how a page's script
    /// spells what it does not have.
    pub fn text(&self, key: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(known, _)| known == key)?;
        std::str::from_utf8(value).ok().filter(|text| !text.is_empty() && *text != "null")
    }
}

/// Decodes base64 with or without its padding, which clients forget.
fn decode(text: &str) -> Option<Vec<u8>> {
    let encoding = if text.contains('=') || text.len().is_multiple_of(4) { BASE64 } else { BASE64_NOPAD };
    encoding.decode(text.as_bytes()).ok()
}

/// What the bytes of a request must hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// One of the algorithms that HTTP knows too.
    Digest(Digest),
    /// CRC-32 as zip and PNG have it (ISO HDLC); four bytes, the highest first.
    Crc32(u32),
}

impl Checksum {
    /// Reads `Upload-Checksum`.
    ///
    /// # Errors
    /// 400 if it is malformed or of an algorithm that is not among [`CHECKSUM_ALGORITHMS`].
    pub fn parse(fields: &HeaderMap) -> Result<Option<Self>, Problem> {
        let bad = || bad_field(&UPLOAD_CHECKSUM);
        let Some(text) = single(fields, &UPLOAD_CHECKSUM)? else { return Ok(None) };
        let (name, value) = text.split_once(' ').ok_or_else(bad)?;
        let value = decode(value.trim()).ok_or_else(bad)?;
        let algorithm = match name {
            "sha1" => Algorithm::Sha1,
            "sha256" => Algorithm::Sha256,
            "md5" => Algorithm::Md5,
            "crc32" => {
                let value: [u8; 4] = value.try_into().map_err(|_| bad())?;
                return Ok(Some(Self::Crc32(u32::from_be_bytes(value))));
            }
            _ => return Err(bad()),
        };
        Digest::new(algorithm, &value).map(|digest| Some(Self::Digest(digest))).map_err(|_| bad())
    }

    /// Begins to compute what the bytes really hash to.
    pub fn hasher(&self) -> ChecksumHasher {
        match self {
            Self::Digest(digest) => {
                ChecksumHasher { digests: Hasher::new([digest.algorithm()]), crc32: None }
            }
            Self::Crc32(_) => ChecksumHasher { digests: Hasher::new([]), crc32: Some(crc32()) },
        }
    }
}

/// Computes checksums as bytes come.
pub struct ChecksumHasher {
    digests: Hasher,
    /// CRC-32, which is none of the algorithms that HTTP knows.
    crc32: Option<Box<crc_fast::Digest>>,
}

impl ChecksumHasher {
    /// Begins to compute every checksum that may be asked for: one that comes behind the bytes names its algorithm
    /// only then.
    pub fn any() -> Self {
        let digests = Hasher::new([Algorithm::Sha1, Algorithm::Sha256, Algorithm::Md5]);
        Self { digests, crc32: Some(crc32()) }
    }

    /// Takes in bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digests.update(bytes);
        if let Some(crc32) = &mut self.crc32 {
            crc32.update(bytes);
        }
    }

    /// Tells whether all that came hashes to this; what is not computed fits nothing.
    pub fn fits(&self, checksum: &Checksum) -> bool {
        match checksum {
            Checksum::Digest(digest) => self.digests.digests().get(digest.algorithm()) == Some(*digest),
            Checksum::Crc32(expected) => {
                self.crc32.as_ref().is_some_and(|crc32| crc32.finalize() == u64::from(*expected))
            }
        }
    }
}

fn crc32() -> Box<crc_fast::Digest> {
    Box::new(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc))
}

/// Returns what `OPTIONS` says of the service.
pub fn capabilities(size_max: Length) -> [(HeaderName, HeaderValue); 5] {
    [
        (TUS_RESUMABLE, HeaderValue::from_static(VERSION)),
        (TUS_VERSION, HeaderValue::from_static(VERSION)),
        (TUS_EXTENSION, HeaderValue::from_static(EXTENSIONS)),
        (TUS_MAX_SIZE, HeaderValue::from(size_max.get())),
        (TUS_CHECKSUM_ALGORITHM, HeaderValue::from_static(CHECKSUM_ALGORITHMS)),
    ]
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
    fn numbers_are_digits_once() {
        #[track_caller]
        fn check(values: &[&str], expected: Result<Option<u64>, ()>) {
            let pairs: Vec<_> = values.iter().map(|value| ("upload-offset", *value)).collect();
            assert_eq!(parse_number(&fields(&pairs), &UPLOAD_OFFSET).map_err(drop), expected, "{values:?}");
        }
        check(&[], Ok(None));
        check(&["0"], Ok(Some(0)));
        check(&["007"], Ok(Some(7)));
        check(&["999999999999999"], Ok(Some(SIZE_MAX)));
        check(&["1000000000000000"], Err(()));
        check(&["99999999999999999999999999"], Err(()));
        for bad in ["", "-1", "+1", "1.0", "0x1", "1 2", "1,2", "١"] {
            check(&[bad], Err(()));
        }
        check(&["1", "1"], Err(()));
    }

    #[test]
    fn a_creation_says_its_length_or_that_it_does_not() {
        #[track_caller]
        fn check(pairs: &[(&'static str, &str)], expected: Result<Option<u64>, ()>) {
            let parsed =
                parse_creation(&fields(pairs)).map(|creation| creation.length.map(Length::get)).map_err(drop);
            assert_eq!(parsed, expected, "{pairs:?}");
        }
        check(&[("upload-length", "5")], Ok(Some(5)));
        check(&[("upload-length", "0")], Ok(Some(0)));
        check(&[("upload-defer-length", "1")], Ok(None));
        check(&[], Err(()));
        check(&[("upload-length", "5"), ("upload-defer-length", "1")], Err(()));
        check(&[("upload-defer-length", "0")], Err(()));
        check(&[("upload-defer-length", "true")], Err(()));
        check(&[("upload-length", "-5")], Err(()));
        check(&[("upload-length", "5"), ("upload-length", "6")], Err(()));
        check(&[("upload-length", "5"), ("upload-concat", "partial")], Ok(Some(5)));
        check(&[("upload-defer-length", "1"), ("upload-concat", "partial")], Ok(None));
        check(&[("upload-concat", "partial")], Err(()));
        check(&[("upload-concat", "final;/tus/a")], Ok(None));
        check(&[("upload-length", "5"), ("upload-concat", "final;/tus/a")], Err(()));
        check(&[("upload-defer-length", "1"), ("upload-concat", "final;/tus/a")], Err(()));
        check(&[("upload-length", "5"), ("upload-concat", "whole")], Err(()));
        check(&[("upload-length", "5"), ("upload-metadata", "a !")], Err(()));
    }

    #[test]
    fn a_composed_upload_names_its_members() {
        #[track_caller]
        fn check(text: &str, expected: Option<&[&str]>) {
            let members = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(Concat::parse(text).ok(), members.map(Concat::Final), "{text:?}");
        }
        check("final;/tus/a /tus/b", Some(&["a", "b"]));
        check("final;https://host/deep/tus/a a ../b", Some(&["a", "a", "b"]));
        check("final; /tus/a?x=/y#z  b ", Some(&["a", "b"]));
        check("final;", None);
        check("final", None);
        check("final;/tus/", None);
        check("Final;/tus/a", None);
        check(&format!("final;{}", "a ".repeat(MEMBERS_MAX + 1)), None);
        assert!(Concat::parse(&format!("final;{}", "a ".repeat(MEMBERS_MAX))).is_ok());
        assert_eq!(Concat::parse("partial"), Ok(Concat::Partial));
    }

    #[test]
    fn metadata_are_keys_with_base64() {
        #[track_caller]
        fn check(text: &str, expected: Option<&[(&str, &str)]>) {
            let parsed = Metadata::parse(text).ok();
            let pairs = expected.map(|pairs| {
                pairs
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_owned()))
                    .collect::<Vec<_>>()
            });
            assert_eq!(parsed.map(|metadata| metadata.pairs), pairs, "{text:?}");
        }
        check("", Some(&[]));
        check(
            "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential",
            Some(&[("filename", "world_domination_plan.pdf"), ("is_confidential", "")]),
        );
        check("a YQ==, b Yg==", Some(&[("a", "a"), ("b", "b")]));
        check("a YQ", Some(&[("a", "a")]));
        check("a ", Some(&[("a", "")]));
        check("a YQ==,a Yg==", None);
        check("a YQ===", None);
        check("a Y*==", None);
        check(",", None);
        check("ä YQ==", None);
        check(&format!("a {}", "A".repeat(METADATA_MAX)), None);
        assert_eq!(Metadata::parse("a bnVsbA==").unwrap().text("a"), None);
        assert_eq!(Metadata::parse("a /w==").unwrap().text("a"), None);
    }

    #[test]
    fn checksums_fit_their_bytes_and_no_others() {
        #[track_caller]
        fn check(value: &str) {
            let checksum = Checksum::parse(&fields(&[("upload-checksum", value)])).unwrap().unwrap();
            for (bytes, fits) in [("hello world", true), ("hello worle", false)] {
                for mut hasher in [checksum.hasher(), ChecksumHasher::any()] {
                    hasher.update(&bytes.as_bytes()[..4]);
                    hasher.update(&bytes.as_bytes()[4..]);
                    assert_eq!(hasher.fits(&checksum), fits, "{value} of {bytes}");
                }
            }
        }
        check("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=");
        check("md5 XrY7u+Ae7tCTyyK7j1rNww==");
        check("sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=");
        check("crc32 DUoRhQ==");
    }

    #[test]
    fn what_no_checksum_is() {
        #[track_caller]
        fn check(value: &str) {
            assert!(Checksum::parse(&fields(&[("upload-checksum", value)])).is_err(), "{value:?}");
        }
        for value in [
            "",
            "sha1",
            "sha1 ",
            "sha1 !",
            "sha1 YQ==",
            "crc32 YWJj",
            "sha512 YQ==",
            "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
        ] {
            check(value);
        }
        assert_eq!(Checksum::parse(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn the_version_is_one() {
        assert!(check_version(&fields(&[("tus-resumable", "1.0.0")])).is_ok());
        for bad in ["0.2.2", "1.0", "2.0.0", ""] {
            assert!(check_version(&fields(&[("tus-resumable", bad)])).is_err());
        }
        assert!(check_version(&HeaderMap::new()).is_err());
    }
}
