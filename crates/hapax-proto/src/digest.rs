//! Digests: which algorithms there are, their values, hashing with several of them in one pass, and the fields
//! of RFC 9530. Owns every spelling of a digest (hexadecimal in JSON and for people, byte sequences in fields);
//! never reads a file and never decides whom a digest gives access to: a digest is not a credential.
//!
//! ```text
//!                     ┌ Blake3 ┐
//!   bytes ─▶ Hasher ──┤ Sha256 ├─▶ Digests ─▶ Repr-Digest: blake3=:…:, sha-256=:…:
//!                     └ …      ┘           ─▶ {"blake3": "9f…", "sha-256": "44…"}
//! ```
//!
//! [`FileHash`] is the BLAKE3 of a whole file as a type of its own, because an identity, a tree's root and a
//! prefix digest are always BLAKE3; [`Digest`] is for the places where the algorithm is a choice.
//!
//! [`FileHash`]: crate::digest::FileHash
//! [`Digest`]: crate::digest::Digest

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use http::HeaderValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sfv::{BareItem, DictSerializer, Dictionary, Integer, Item, KeyRef, ListEntry, Parser};

use crate::span::Length;

mod hasher;

pub use hasher::Hasher;

/// The field with digests of a message's content (RFC 9530 §2).
pub const CONTENT_DIGEST: &str = "content-digest";
/// The field with digests of the whole selected representation, also beside a part of it (RFC 9530 §3).
pub const REPR_DIGEST: &str = "repr-digest";
/// The field that asks for [`CONTENT_DIGEST`] (RFC 9530 §4).
pub const WANT_CONTENT_DIGEST: &str = "want-content-digest";
/// The field that asks for [`REPR_DIGEST`] (RFC 9530 §4).
pub const WANT_REPR_DIGEST: &str = "want-repr-digest";

/// The longest value a [`Digest`] has room for: that of a 512-bit algorithm.
const VALUE_MAX: usize = 64;

/// Why a text or field is not a digest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// The field is not a dictionary (RFC 9651 §3.2).
    #[error("the field is not a dictionary")]
    Syntax(#[source] sfv::Error),
    /// A member that this module knows is not of the type that the field asks for.
    #[error("the member {algorithm} is not {expected}")]
    Member {
        /// The member's key.
        algorithm: Algorithm,
        /// What should stand there, in words.
        expected: &'static str,
    },
    /// The value is not as long as the algorithm's values are.
    #[error("a {algorithm} value has {expected} bytes, this one has {found}")]
    ValueLength {
        /// The algorithm.
        algorithm: Algorithm,
        /// The length of its values, in bytes.
        expected: usize,
        /// The length found, in bytes.
        found: usize,
    },
    /// The text is not what [`HexError`] says it should be.
    #[error(transparent)]
    Hex(#[from] HexError),
    /// No algorithm has this key.
    #[error("there is no digest algorithm {key:?}")]
    UnknownAlgorithm {
        /// The key as it was written.
        key: String,
    },
}

/// A text that should be bytes in lower-case hexadecimal and is not.
///
/// Capitals are refused: a value has one spelling, so texts compare as values do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {expected} bytes in lower-case hexadecimal")]
pub struct HexError {
    /// How many bytes the text should stand for.
    pub expected: usize,
}

/// A digest algorithm. The order of the variants is the order in which fields are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
#[non_exhaustive]
pub enum Algorithm {
    /// BLAKE3 with 256 bits. The key `blake3` is private to hapax: it is not registered.
    Blake3,
    /// SHA-256 (FIPS 180-4), registered as `sha-256`.
    Sha256,
    /// SHA-512 (FIPS 180-4), registered as `sha-512`.
    Sha512,
    /// MD5 (RFC 1321), registered as `md5`. Good against accidents; two files with one value are made in seconds.
    Md5,
    /// SHA-1 (FIPS 180-4), registered as `sha`. Good against accidents; two files with one value exist.
    Sha1,
    /// CRC-32C (RFC 9260 Appendix A), registered as `crc32c`: four bytes, the highest first. Good against accidents.
    Crc32c,
}

impl Algorithm {
    /// Every algorithm there is.
    pub const ALL: &'static [Self] =
        &[Self::Blake3, Self::Sha256, Self::Sha512, Self::Md5, Self::Sha1, Self::Crc32c];

    /// Returns the key in fields and JSON (RFC 9530 §7.2).
    pub const fn key(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha-256",
            Self::Sha512 => "sha-512",
            Self::Md5 => "md5",
            Self::Sha1 => "sha",
            Self::Crc32c => "crc32c",
        }
    }

    /// Returns the algorithm of a key. Keys compare byte by byte (RFC 9651 §3.1.2).
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.key() == key)
    }

    /// Tells whether nobody can make two contents of one value: only then does an equal value prove equal bytes
    /// against somebody who chose them.
    pub const fn is_collision_resistant(self) -> bool {
        match self {
            Self::Blake3 | Self::Sha256 | Self::Sha512 => true,
            Self::Md5 | Self::Sha1 | Self::Crc32c => false,
        }
    }

    /// Returns how many bytes a value has.
    pub const fn value_length(self) -> usize {
        match self {
            Self::Blake3 | Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Crc32c => 4,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

impl From<Algorithm> for &'static str {
    fn from(algorithm: Algorithm) -> Self {
        algorithm.key()
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(key: &str) -> Result<Self, DigestError> {
        Self::from_key(key).ok_or_else(|| DigestError::UnknownAlgorithm { key: key.to_owned() })
    }
}

impl TryFrom<String> for Algorithm {
    type Error = DigestError;

    fn try_from(key: String) -> Result<Self, DigestError> {
        key.parse()
    }
}

/// An algorithm and its value over some bytes. Copied freely, never on the heap.
///
/// INVARIANT: the bytes of `value` behind the algorithm's length are zero, so that equality may be derived.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    value: [u8; VALUE_MAX],
}

impl Digest {
    /// Wraps a value.
    ///
    /// # Errors
    /// [`DigestError::ValueLength`] if it is not as long as the algorithm's values are.
    pub fn new(algorithm: Algorithm, value: &[u8]) -> Result<Self, DigestError> {
        let (expected, found) = (algorithm.value_length(), value.len());
        if found != expected {
            return Err(DigestError::ValueLength { algorithm, expected, found });
        }
        let mut padded = [0; VALUE_MAX];
        padded[..found].copy_from_slice(value);
        Ok(Self { algorithm, value: padded })
    }

    /// Parses a value in lower-case hexadecimal, as it stands in JSON.
    ///
    /// # Errors
    /// [`DigestError::Hex`] if it is anything else, or of another length.
    pub fn parse_hex(algorithm: Algorithm, text: &str) -> Result<Self, DigestError> {
        let mut value = [0; VALUE_MAX];
        parse_hex_into(&mut value[..algorithm.value_length()], text)?;
        Ok(Self { algorithm, value })
    }

    /// Returns the algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the value.
    pub fn value(&self) -> &[u8] {
        &self.value[..self.algorithm.value_length()]
    }

    /// Returns the value in lower-case hexadecimal.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(self.value())
    }

    /// Returns the value as a file's BLAKE3, or `None` if this is another algorithm's.
    pub fn file_hash(&self) -> Option<FileHash> {
        match self.algorithm {
            Algorithm::Blake3 => self.value().try_into().ok().map(FileHash::new),
            _ => None,
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A digest as claims spell it: `{"alg": "sha-256", "value": "44…"}`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DigestJson {
    alg: Algorithm,
    value: String,
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        DigestJson { alg: self.algorithm, value: self.hex() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = DigestJson::deserialize(deserializer)?;
        Self::parse_hex(json.alg, &json.value).map_err(serde::de::Error::custom)
    }
}

/// The BLAKE3 hash of a whole file, or of a prefix as though the file ended there: what `b3sum` prints.
///
/// It is the *root* of the file's hash tree, which no value inside a tree can be mistaken for (see
/// [`tree`](crate::tree)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileHash([u8; 32]);

impl FileHash {
    /// Wraps the 32 bytes.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// Hashes bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<blake3::Hash> for FileHash {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

impl From<FileHash> for Digest {
    fn from(hash: FileHash) -> Self {
        Self::new(Algorithm::Blake3, &hash.0).expect("a BLAKE3 value has 32 bytes")
    }
}

impl FromStr for FileHash {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        parse_hex32(text).map(Self)
    }
}

impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileHash({self})")
    }
}

impl Serialize for FileHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a blob is: the same identity means the same bytes. Always computed from the bytes, never taken from a
/// client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The BLAKE3 of the plaintext.
    pub blake3: FileHash,
    /// The length of the plaintext.
    pub size: Length,
}

impl Identity {
    /// Returns the identity of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self { blake3: FileHash::of(bytes), size: Length::of(bytes) }
    }
}

/// Digests of the same bytes, at most one of each algorithm.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Digests(BTreeMap<Algorithm, Digest>);

impl Digests {
    /// Parses `Content-Digest` or `Repr-Digest` from all the lines of the field.
    ///
    /// Unknown keys are ignored, whatever stands behind them, and so are parameters (RFC 9530 §2); of a key
    /// that is there twice the last value counts (RFC 9651 §3.2).
    ///
    /// # Errors
    /// A field that is no dictionary, and a known key whose value is no byte sequence or has the wrong length:
    /// such a digest cannot be verified, and ignoring it would look as if it had been.
    pub fn parse_field<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> Result<Self, DigestError> {
        known_members(lines)?
            .map(|(algorithm, member)| match member {
                Some(BareItem::ByteSequence(value)) => Digest::new(algorithm, &value),
                _ => Err(DigestError::Member { algorithm, expected: "a byte sequence" }),
            })
            .collect()
    }

    /// Returns the field's value, or `None` if there are no digests: an empty dictionary is not sent
    /// (RFC 9651 §4.1).
    pub fn format_field(&self) -> Option<HeaderValue> {
        let mut field = DictSerializer::new();
        for digest in self.iter() {
            field.bare_item(wire_key(digest.algorithm), digest.value());
        }
        field.finish().map(visible)
    }

    /// Adds a digest; an earlier one of the same algorithm gives way.
    pub fn insert(&mut self, digest: Digest) {
        self.0.insert(digest.algorithm, digest);
    }

    /// Returns the digest of one algorithm.
    pub fn get(&self, algorithm: Algorithm) -> Option<Digest> {
        self.0.get(&algorithm).copied()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates in the order of [`Algorithm`].
    pub fn iter(&self) -> impl Iterator<Item = Digest> + '_ {
        self.0.values().copied()
    }

    /// Iterates over the algorithms there is a value of: what a [`Hasher`] must compute to verify them.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> + '_ {
        self.0.keys().copied()
    }

    /// Returns the first digest that differs from the one of the same algorithm in `theirs`, as
    /// `(ours, theirs)`. Algorithms that only one side knows say nothing.
    pub fn disagreement(&self, theirs: &Self) -> Option<(Digest, Digest)> {
        self.iter()
            .filter_map(|ours| theirs.get(ours.algorithm).map(|theirs| (ours, theirs)))
            .find(|(ours, theirs)| ours != theirs)
    }
}

impl FromIterator<Digest> for Digests {
    fn from_iter<I: IntoIterator<Item = Digest>>(digests: I) -> Self {
        Self(digests.into_iter().map(|digest| (digest.algorithm, digest)).collect())
    }
}

impl Serialize for Digests {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|digest| (digest.algorithm, digest.hex())))
    }
}

impl<'de> Deserialize<'de> for Digests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::<Algorithm, String>::deserialize(deserializer)?
            .into_iter()
            .map(|(algorithm, text)| Digest::parse_hex(algorithm, &text).map_err(serde::de::Error::custom))
            .collect()
    }
}

/// How much the sender of `Want-Repr-Digest` or `Want-Content-Digest` would like each algorithm: from 10, most,
/// down to 1; 0 stands for never (RFC 9530 §4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preferences(BTreeMap<Algorithm, u8>);

impl Preferences {
    /// The preference that no other exceeds.
    const MOST: u8 = 10;

    /// Asks for one algorithm and no other.
    pub fn only(algorithm: Algorithm) -> Self {
        Self(BTreeMap::from([(algorithm, Self::MOST)]))
    }

    /// Parses the field from all its lines. Unknown keys and parameters are ignored.
    ///
    /// # Errors
    /// A field that is no dictionary, and a known key whose value is not an integer from 0 to 10.
    pub fn parse_field<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> Result<Self, DigestError> {
        let preference = |(algorithm, member): (Algorithm, Option<BareItem>)| {
            member
                .and_then(|item| item.as_integer())
                .and_then(|integer| u8::try_from(i64::from(integer)).ok())
                .filter(|&preference| preference <= Self::MOST)
                .map(|preference| (algorithm, preference))
                .ok_or(DigestError::Member { algorithm, expected: "an integer from 0 to 10" })
        };
        known_members(lines)?.map(preference).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the field's value, or `None` if nothing is wanted.
    pub fn format_field(&self) -> Option<HeaderValue> {
        let mut field = DictSerializer::new();
        for (&algorithm, &preference) in &self.0 {
            field.bare_item(wire_key(algorithm), Integer::from(preference));
        }
        field.finish().map(visible)
    }

    /// Returns the most wanted of the algorithms that are `available`, or `None` if none of them is wanted.
    ///
    /// Among equals the earlier in `available` wins: list the cheapest first.
    pub fn choose(&self, available: &[Algorithm]) -> Option<Algorithm> {
        let preference = |algorithm: &Algorithm| self.0.get(algorithm).copied().unwrap_or(0);
        // `max_by_key` returns the last of several equals, so the walk is backwards.
        available.iter().copied().rev().filter(|a| preference(a) > 0).max_by_key(preference)
    }
}

/// Parses the lines of a dictionary and returns the members whose keys are algorithms, each with its item or,
/// for an inner list, `None`.
fn known_members<L: AsRef<[u8]>>(
    lines: impl IntoIterator<Item = L>,
) -> Result<impl Iterator<Item = (Algorithm, Option<BareItem>)>, DigestError> {
    let mut members = Dictionary::new();
    for line in lines {
        members = Parser::new(&line).parse_dictionary_with_visitor(members).map_err(DigestError::Syntax)?;
    }
    Ok(members.into_iter().filter_map(|(key, member)| {
        let algorithm = Algorithm::from_key(key.as_str())?;
        match member {
            ListEntry::Item(Item { bare_item, .. }) => Some((algorithm, Some(bare_item))),
            ListEntry::InnerList(_) => Some((algorithm, None)),
        }
    }))
}

fn wire_key(algorithm: Algorithm) -> &'static KeyRef {
    KeyRef::from_str(algorithm.key()).expect("every algorithm's key is a structured-field key")
}

/// Turns a serialised structured field into a field value.
fn visible(field: String) -> HeaderValue {
    HeaderValue::try_from(field).expect("structured fields are visible ASCII (RFC 9651 §4.1)")
}

/// Parses 32 bytes in lower-case hexadecimal.
pub(crate) fn parse_hex32(text: &str) -> Result<[u8; 32], HexError> {
    let mut value = [0; 32];
    parse_hex_into(&mut value, text)?;
    Ok(value)
}

/// Fills `value` from exactly as much lower-case hexadecimal.
fn parse_hex_into(value: &mut [u8], text: &str) -> Result<(), HexError> {
    let error = HexError { expected: value.len() };
    if HEXLOWER.decode_len(text.len()) != Ok(value.len()) {
        return Err(error);
    }
    HEXLOWER.decode_mut(text.as_bytes(), value).map(|_| ()).map_err(|_| error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The content of RFC 9530's examples (Appendix A) and its SHA-256 in both spellings.
    const HELLO: &[u8] = b"{\"hello\": \"world\"}\n";
    const HELLO_SHA256: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    const HELLO_SHA512: &str =
        "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";

    fn hash(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new([algorithm]);
        hasher.update(bytes);
        hasher.digests().get(algorithm).unwrap()
    }

    #[test]
    fn algorithms_give_their_published_values() {
        #[track_caller]
        fn check(algorithm: Algorithm, bytes: &[u8], hex: &str) {
            assert_eq!(hash(algorithm, bytes).hex(), hex);
            assert_eq!(hash(algorithm, bytes), Digest::parse_hex(algorithm, hex).unwrap());
        }
        use Algorithm::{Blake3, Crc32c, Md5, Sha1, Sha256, Sha512};
        check(
            Sha512,
            b"",
            "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
             47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
        );
        check(
            Sha512,
            b"abc",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        );
        check(Md5, b"", "d41d8cd98f00b204e9800998ecf8427e");
        check(Md5, b"abc", "900150983cd24fb0d6963f7d28e17f72");
        check(Sha1, b"", "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        check(Sha1, b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
        check(Crc32c, b"", "00000000");
        check(Crc32c, b"123456789", "e3069283");
        check(Crc32c, &[0; 32], "8a9136aa");
        check(Blake3, b"", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
        check(Blake3, b"abc", "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        check(Sha256, b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        check(Sha256, b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn every_key_names_its_algorithm() {
        for &algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_key(algorithm.key()), Some(algorithm));
            assert_eq!(wire_key(algorithm).as_str(), algorithm.key());
            assert!(algorithm.value_length() <= VALUE_MAX);
        }
        assert_eq!(Algorithm::from_key("SHA-256"), None);
        assert!("md6".parse::<Algorithm>().is_err());
    }

    #[test]
    fn hexadecimal_has_one_spelling() {
        #[track_caller]
        fn check(text: &str, accepted: bool) {
            assert_eq!(text.parse::<FileHash>().is_ok(), accepted);
            assert_eq!(Digest::parse_hex(Algorithm::Sha256, text).is_ok(), accepted);
        }
        check(&"0a".repeat(32), true);
        check(&"0A".repeat(32), false);
        check(&"0a".repeat(31), false);
        check(&"0a".repeat(33), false);
        check(&format!("{}0", "0a".repeat(31)), false);
        check(&format!(" {}", "0a".repeat(32)), false);
        check(&"0g".repeat(32), false);
        check("", false);
    }

    #[test]
    fn digest_fields_parse() {
        let sha256 = hash(Algorithm::Sha256, HELLO);
        let check = |lines: &[&str], expected: &[Digest]| {
            let expected: Digests = expected.iter().copied().collect();
            assert_eq!(Digests::parse_field(lines).unwrap(), expected, "{lines:?}");
        };
        let zeros = format!("sha-256=:{}:", data_encoding::BASE64.encode(&[0; 32]));
        check(&[], &[]);
        check(&[""], &[]);
        check(&[HELLO_SHA256], &[sha256]);
        let sha512 = hash(Algorithm::Sha512, HELLO);
        check(&["sha-999=:YMAa:"], &[]);
        check(&[HELLO_SHA512], &[sha512]);
        check(&[&format!("{HELLO_SHA512}, {HELLO_SHA256}")], &[sha256, sha512]);
        check(&[HELLO_SHA512, HELLO_SHA256], &[sha256, sha512]);
        check(&["md5=:CY9rzUYh03PK3k6DJie09g==:"], &[hash(Algorithm::Md5, b"test")]);
        check(&["sha=:qUqP5cyxm6YcTAhz05Hph5gvu9M=:"], &[hash(Algorithm::Sha1, b"test")]);
        check(&[&format!("{HELLO_SHA256};state=final")], &[sha256]);
        check(&["unixsum=1, id-sha-256=(a b), x", HELLO_SHA256], &[sha256]);
        check(&[&zeros, HELLO_SHA256], &[sha256]);
        check(&["sha-256=1", HELLO_SHA256], &[sha256]);
    }

    #[test]
    fn broken_digest_fields_are_errors() {
        #[track_caller]
        fn check(line: &str, expected: fn(&DigestError) -> bool) {
            let error = Digests::parse_field([line]).unwrap_err();
            assert!(expected(&error), "{line:?} gives {error:?}");
        }
        let syntax = |error: &DigestError| matches!(error, DigestError::Syntax(_));
        let member = |error: &DigestError| matches!(error, DigestError::Member { .. });
        let length = |error: &DigestError| matches!(error, DigestError::ValueLength { .. });
        check("sha-256=:????:", syntax);
        check("sha-256=:RK/0", syntax);
        check("SHA-256=:RK/0:", syntax);
        check("sha-256=RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=", syntax);
        check(&format!("{HELLO_SHA256},"), syntax);
        check("sha-256", member);
        check("sha-256=44", member);
        check("sha-256=\"44aff4ab\"", member);
        check("sha-256=(:RK/0:)", member);
        check("sha-256=:RK/0:", length);
        check("blake3=::", length);
        check(&HELLO_SHA512.replace("sha-512", "blake3"), length);
    }

    #[test]
    fn digest_fields_are_written_as_the_rfc_shows() {
        let mut digests = Digests::default();
        assert_eq!(digests.format_field(), None);
        digests.insert(hash(Algorithm::Sha256, HELLO));
        assert_eq!(digests.format_field().unwrap(), HELLO_SHA256);
    }

    #[test]
    fn a_disagreement_needs_the_same_algorithm_on_both_sides() {
        let ours: Digests =
            [hash(Algorithm::Sha256, b"a"), hash(Algorithm::Blake3, b"a")].into_iter().collect();
        let check = |theirs: &[Digest], expected: Option<(Digest, Digest)>| {
            assert_eq!(ours.disagreement(&theirs.iter().copied().collect()), expected);
        };
        let (right, wrong) = (hash(Algorithm::Sha256, b"a"), hash(Algorithm::Sha256, b"b"));
        check(&[], None);
        check(&[right], None);
        check(&[wrong], Some((right, wrong)));
        check(&[hash(Algorithm::Blake3, b"a"), wrong], Some((right, wrong)));
    }

    #[test]
    fn the_most_wanted_available_algorithm_is_chosen() {
        use Algorithm::{Blake3, Sha256};
        #[track_caller]
        fn check(want: &str, available: &[Algorithm], expected: Option<Algorithm>) {
            assert_eq!(Preferences::parse_field([want]).unwrap().choose(available), expected);
        }
        let both = &[Blake3, Sha256];
        check("", both, None);
        check("sha-256=1", both, Some(Sha256));
        check("sha-256=1", &[Blake3], None);
        check("sha-256=3, blake3=10", both, Some(Blake3));
        check("sha-256=10, blake3=3", both, Some(Sha256));
        check("sha-256=10, blake3=3", &[Blake3], Some(Blake3));
        check("sha-512=10, sha-256=1", both, Some(Sha256));
        check("sha-999=yes, sha-256=1", both, Some(Sha256));
        check("sha-256=0", both, None);
        check("sha-256=0, blake3=1", both, Some(Blake3));
        check("sha-256=5, blake3=5", both, Some(Blake3));
        check("sha-256=5, blake3=5", &[Sha256, Blake3], Some(Sha256));
        check("sha-256=10, sha-256=0", both, None);
    }

    #[test]
    fn broken_preferences_are_errors() {
        #[track_caller]
        fn check(line: &str) {
            assert!(Preferences::parse_field([line]).is_err(), "{line:?}");
        }
        check("sha-256=11");
        check("sha-256=-1");
        check("sha-256=256");
        check("sha-256=1.0");
        check("sha-256");
        check("sha-256=(1)");
        check("sha-256=1,");
        check("=1");
    }

    #[test]
    fn json_spells_digests_in_hexadecimal() {
        let (hash, hex) = (FileHash::of(b""), FileHash::of(b"").to_string());
        assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{hex}\""));
        let digest = Digest::from(hash);
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!(r#"{{"alg":"blake3","value":"{hex}"}}"#));
        let digests: Digests = [digest].into_iter().collect();
        assert_eq!(serde_json::to_string(&digests).unwrap(), format!(r#"{{"blake3":"{hex}"}}"#));
        assert_eq!(digest.file_hash(), Some(hash));
    }

    #[test]
    fn json_refuses_what_it_does_not_know() {
        let hex = FileHash::of(b"").to_string();
        assert!(serde_json::from_str::<Digest>(&format!(r#"{{"alg":"md6","value":"{hex}"}}"#)).is_err());
        assert!(serde_json::from_str::<Digest>(r#"{"alg":"blake3","value":"00"}"#).is_err());
        assert!(serde_json::from_str::<Digests>(&format!(r#"{{"md6":"{hex}"}}"#)).is_err());
        assert!(serde_json::from_str::<FileHash>("\"00\"").is_err());
        assert!(serde_json::from_str::<FileHash>("7").is_err());
    }

    fn any_digest() -> impl Strategy<Value = Digest> {
        (proptest::sample::select(Algorithm::ALL), any::<[u8; VALUE_MAX]>()).prop_map(|(algorithm, value)| {
            Digest::new(algorithm, &value[..algorithm.value_length()]).unwrap()
        })
    }

    /// The pieces that fields are made of, so that random fields come near to being right.
    fn field_piece() -> impl Strategy<Value = String> {
        let pieces = [
            HELLO_SHA256,
            HELLO_SHA512,
            "blake3",
            "sha-256",
            "=",
            ":",
            "RK/0",
            "10",
            "0",
            ", ",
            ";",
            "(",
            ")",
            "?1",
            "\"",
            "\t",
            "\u{e9}",
        ];
        proptest::sample::select(pieces.map(str::to_owned).to_vec())
    }

    proptest! {
        #[test]
        fn digests_survive_a_field_and_json(digests in proptest::collection::vec(any_digest(), 0..4)) {
            let digests: Digests = digests.into_iter().collect();
            prop_assert_eq!(&Digests::parse_field(digests.format_field()).unwrap(), &digests);
            let json = serde_json::to_string(&digests).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Digests>(&json).unwrap(), &digests);
            for digest in digests.iter() {
                let json = serde_json::to_string(&digest).unwrap();
                prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
            }
        }

        #[test]
        fn preferences_survive_a_field(chosen in proptest::collection::btree_map(proptest::sample::select(Algorithm::ALL), 0..=10u8, 1..6)) {
            let preferences = Preferences(chosen);
            prop_assert_eq!(Preferences::parse_field(preferences.format_field()).unwrap(), preferences);
        }

        #[test]
        fn no_field_panics(pieces in proptest::collection::vec(field_piece(), 0..12)) {
            let line = pieces.concat();
            if let Ok(digests) = Digests::parse_field([&line]) {
                prop_assert_eq!(Digests::parse_field(digests.format_field()).unwrap(), digests);
            }
            if let Ok(preferences) = Preferences::parse_field([&line]) {
                prop_assert_eq!(Preferences::parse_field(preferences.format_field()).unwrap(), preferences);
            }
        }

        #[test]
        fn cuts_do_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..5_000), cut in 0..5_000usize) {
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let mut hasher = Hasher::new(Algorithm::ALL.iter().copied());
            hasher.update(head);
            for digest in hasher.digests().iter() {
                prop_assert_eq!(digest, hash(digest.algorithm(), head));
            }
            hasher.update(tail);
            prop_assert_eq!(hasher.digests().get(Algorithm::Blake3), Some(FileHash::of(&bytes).into()));
            for digest in hasher.digests().iter() {
                prop_assert_eq!(digest, hash(digest.algorithm(), &bytes));
            }
        }
    }
}
