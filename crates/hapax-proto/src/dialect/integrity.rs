//! What a request of any dialect says that its bytes hash to, in its fields or behind the bytes, and whether they do.
//! It hashes what it is given; whose bytes they are, and what becomes of them, is not its business.
//!
//! | field | of | wrong |
//! |---|---|---|
//! | `Upload-Checksum` (tus) | the body | 460 |
//! | `Content-Digest` (RFC 9530) | the body | 400 |
//! | `Repr-Digest` (RFC 9530) | the file, so also the body that is all of it | 400 |
//!
//! Each may come in the trailer section instead, if `Trailer` announced it (RFC 9110 §6.6.2). Whoever announced one
//! has said that the bytes are worth nothing without it: if it does not come, they are not taken.

use http::HeaderMap;
use http::header::TRAILER;

use super::tus::{Checksum, ChecksumHasher, UPLOAD_CHECKSUM};
use crate::digest::{Algorithm, CONTENT_DIGEST, Digests, Hasher, REPR_DIGEST};
use crate::problem::{Kind, Problem};

/// The digests that a request announced to send behind its body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Announced {
    /// `Upload-Checksum`.
    pub checksum: bool,
    /// `Content-Digest`.
    pub content: bool,
    /// `Repr-Digest`.
    pub representation: bool,
}

/// The digests that came behind a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trailing {
    /// `Upload-Checksum`.
    pub checksum: Option<Checksum>,
    /// `Content-Digest`.
    pub content: Digests,
    /// `Repr-Digest`.
    pub representation: Digests,
}

impl Announced {
    /// Reads `Trailer`: names of fields, in any case, on any number of lines. Other fields are none of ours.
    pub fn parse(fields: &HeaderMap) -> Self {
        let lines = fields.get_all(TRAILER).iter().filter_map(|line| line.to_str().ok());
        let names: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let has = |field: &str| names.iter().any(|name| name.eq_ignore_ascii_case(field));
        Self {
            checksum: has(UPLOAD_CHECKSUM.as_str()),
            content: has(CONTENT_DIGEST),
            representation: has(REPR_DIGEST),
        }
    }

    /// Tells whether any was announced.
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Reads what was announced from the trailer section. What comes without having been announced is ignored, as
    /// trailers may be (RFC 9110 §6.5.1): the bytes counted before it came.
    ///
    /// # Errors
    /// 400 for a field that was announced and is missing or malformed.
    pub fn read(self, trailers: &HeaderMap) -> Result<Trailing, Problem> {
        let came = |announced: bool, name: &str| match (announced, trailers.contains_key(name)) {
            (true, false) => Err(missing(name)),
            (announced, _) => Ok(announced),
        };
        let checksum =
            if came(self.checksum, UPLOAD_CHECKSUM.as_str())? { Checksum::parse(trailers)? } else { None };
        let digests = |announced: bool, name: &'static str| {
            if came(announced, name)? { parse_digests(trailers, name) } else { Ok(Digests::default()) }
        };
        let content = digests(self.content, CONTENT_DIGEST)?;
        let representation = digests(self.representation, REPR_DIGEST)?;
        Ok(Trailing { checksum, content, representation })
    }
}

fn missing(field: &str) -> Problem {
    Problem::new(Kind::BadField)
        .member("field", field)
        .detail("it was announced to come behind the body, and did not")
}

/// Reads `Content-Digest` or `Repr-Digest`.
///
/// # Errors
/// 400 for a field that cannot be read: ignoring it would look as if it had been verified.
pub fn parse_digests(fields: &HeaderMap, name: &'static str) -> Result<Digests, Problem> {
    Digests::parse_field(fields.get_all(name))
        .map_err(|error| Problem::new(Kind::BadField).member("field", name).detail(error.to_string()))
}

/// Compares what was declared with what the bytes are.
///
/// # Errors
/// 400 `digest-mismatch`.
pub fn check_digests(declared: &Digests, computed: &Digests) -> Result<(), Problem> {
    match declared.disagreement(computed) {
        Some((theirs, ours)) => Err(Problem::new(Kind::BodyDigestMismatch)
            .member("expected", theirs.hex())
            .member("actual", ours.hex())),
        None => Ok(()),
    }
}

/// Everything that a request says about the bytes of its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Integrity {
    /// `Upload-Checksum`.
    pub checksum: Option<Checksum>,
    /// `Content-Digest`.
    pub content: Digests,
    /// What comes behind the body.
    pub announced: Announced,
}

impl Integrity {
    /// Reads the fields of a request. `checksum` is what its dialect understood.
    ///
    /// # Errors
    /// 400 for a field that cannot be read.
    pub fn parse(fields: &HeaderMap, checksum: Option<Checksum>) -> Result<Self, Problem> {
        let content = parse_digests(fields, CONTENT_DIGEST)?;
        Ok(Self { checksum, content, announced: Announced::parse(fields) })
    }

    /// Tells whether there is nothing to verify.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Begins to compute what has to be compared in the end. What comes behind the body names its algorithm only then,
    /// so all are computed that it may name.
    pub fn hasher(self) -> IntegrityHasher {
        let Announced { checksum, content, representation } = self.announced;
        let checksums =
            if checksum { Some(ChecksumHasher::any()) } else { self.checksum.as_ref().map(Checksum::hasher) };
        let digests = if content || representation {
            Hasher::new(Algorithm::ALL.iter().copied())
        } else {
            Hasher::new(self.content.algorithms())
        };
        IntegrityHasher { said: self, checksums, digests }
    }
}

/// Computes what a request said of its bytes as they come.
pub struct IntegrityHasher {
    said: Integrity,
    checksums: Option<ChecksumHasher>,
    digests: Hasher,
}

impl IntegrityHasher {
    /// Takes in bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(checksums) = &mut self.checksums {
            checksums.update(bytes);
        }
        self.digests.update(bytes);
    }

    /// Tells whether something that was announced is still to come: without it the bytes are worth nothing.
    pub fn waits(&self) -> bool {
        self.said.announced.any()
    }

    /// Decides whether the bytes of a body that was received entirely are what was said of them, in its fields and
    /// behind it.
    ///
    /// # Errors
    /// 460 or 400 `digest-mismatch` if they are not, 400 for a trailer that is missing or malformed.
    pub fn verify(&self, trailers: &HeaderMap) -> Result<(), Problem> {
        let Trailing { checksum, content, representation } = self.said.announced.read(trailers)?;
        let fits = |checksum: &Checksum| self.checksums.as_ref().is_some_and(|sums| sums.fits(checksum));
        if !self.said.checksum.iter().chain(&checksum).all(fits) {
            return Err(Kind::ChecksumMismatch.into());
        }
        let computed = self.digests.digests();
        for declared in [&self.said.content, &content, &representation] {
            check_digests(declared, &computed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    /// The SHA-1 and the CRC-32 of `hello world`, as tus spells them.
    const SHA1: &str = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
    const CRC32: &str = "crc32 DUoRhQ==";
    /// Its SHA-256, as RFC 9530 spells it.
    const SHA256: &str = "sha-256=:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=:";

    fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        fields
    }

    #[test]
    fn what_comes_behind_the_body_is_announced_by_name() {
        #[track_caller]
        fn check(lines: &[&str], announced: (bool, bool, bool)) {
            let pairs: Vec<_> = lines.iter().map(|line| ("trailer", *line)).collect();
            let (checksum, content, representation) = announced;
            assert_eq!(
                Announced::parse(&fields(&pairs)),
                Announced { checksum, content, representation },
                "{lines:?}"
            );
        }
        check(&[], (false, false, false));
        check(&["Upload-Checksum"], (true, false, false));
        check(&["upload-checksum , CONTENT-DIGEST"], (true, true, false));
        check(&["Expires", "Repr-Digest"], (false, false, true));
        check(&["", ",,", "Upload-Checksums"], (false, false, false));
    }

    /// Says `head` in front of `hello world`, or of other bytes, and `trailers` behind it.
    #[track_caller]
    fn check(head: &[(&'static str, &str)], trailers: &[(&'static str, &str)], expected: Option<Kind>) {
        for (bytes, expected) in
            [("hello world", expected), ("hello worle", expected.or(Some(Kind::ChecksumMismatch)))]
        {
            let head = fields(head);
            let checksum = Checksum::parse(&head).unwrap();
            let mut hasher = Integrity::parse(&head, checksum).unwrap().hasher();
            hasher.update(&bytes.as_bytes()[..3]);
            hasher.update(&bytes.as_bytes()[3..]);
            let found = hasher.verify(&fields(trailers)).err().map(|problem| problem.kind);
            let found = found.map(|kind| match kind {
                Kind::BodyDigestMismatch => Kind::ChecksumMismatch,
                kind => kind,
            });
            assert_eq!(found, expected, "{head:?} {trailers:?} {bytes}");
        }
    }

    #[test]
    fn bytes_are_what_is_said_before_or_behind_them() {
        let announced = ("trailer", "Upload-Checksum");
        check(&[("upload-checksum", SHA1)], &[], None);
        check(&[("content-digest", SHA256)], &[], None);
        check(&[announced], &[("upload-checksum", SHA1)], None);
        check(&[announced], &[("upload-checksum", CRC32)], None);
        check(&[announced, ("upload-checksum", CRC32)], &[("upload-checksum", SHA1)], None);
        check(&[("trailer", "Content-Digest")], &[("content-digest", SHA256)], None);
        check(&[("trailer", "Repr-Digest")], &[("repr-digest", SHA256)], None);
    }

    #[test]
    fn what_was_announced_has_to_come() {
        let bad = Some(Kind::BadField);
        let announced = ("trailer", "Upload-Checksum");
        check(&[announced], &[], bad);
        check(&[announced], &[("content-digest", SHA256)], bad);
        check(&[announced], &[("upload-checksum", "sha512 YQ==")], bad);
        check(&[announced], &[("upload-checksum", "sha1 !")], bad);
        check(&[announced], &[("upload-checksum", SHA1), ("upload-checksum", SHA1)], bad);
        check(&[announced, ("upload-checksum", SHA1)], &[], bad);
        check(&[("trailer", "Content-Digest")], &[], bad);
        check(&[("trailer", "Content-Digest")], &[("content-digest", "sha-256=1")], bad);
        check(&[("trailer", "Repr-Digest")], &[("content-digest", SHA256)], bad);
    }

    #[test]
    fn what_was_not_announced_is_ignored() {
        let mut hasher = Integrity::default().hasher();
        hasher.update(b"other");
        assert!(!hasher.waits());
        assert_eq!(hasher.verify(&fields(&[("upload-checksum", SHA1), ("content-digest", SHA256)])), Ok(()));
        assert!(Integrity::default().is_empty());
    }
}
