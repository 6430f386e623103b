//! Sealing and opening: segments of objects, and small values. Owns keys in memory, how subkeys are derived, and
//! every use of AES-256-GCM; it stores nothing and knows no file.
//!
//! ```text
//!   secret --derive(context)--> subkey --keyed hash(salt or id)--> key of one thing --AES-256-GCM--> sealed
//! ```
//!
//! A nonce is never drawn at random here. Either the key is used once (then the nonce is zero), or the nonce
//! numbers the segments of the one object the key belongs to.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroize;

use crate::{
    error::StoreError,
    id::{ObjectId, random_bytes},
};

/// Length of the tag that proves a sealed thing, in bytes.
pub const TAG_LENGTH: usize = 16;

/// Length of the salt of a small value. 192 random bits never repeat, so every value has a key of its own.
const SALT_LENGTH: usize = 24;

/// The version of the layout of small values, their first byte.
const SMALL_VERSION: u8 = 1;

/// How much longer a sealed small value is than what is in it, in bytes.
pub const SMALL_OVERHEAD: usize = 1 + SALT_LENGTH + TAG_LENGTH;

/// The context of the subkey for small values.
const SMALL_CONTEXT: &str = "hapax store 2026 small value v1";

/// A secret of 32 bytes. It is wiped when dropped and has no `Debug`, so that it cannot slip into a log.
pub struct SecretKey([u8; 32]);

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl SecretKey {
    /// Draws a fresh secret from the operating system.
    pub fn random() -> Result<Self, StoreError> {
        random_bytes().map(Self)
    }

    /// Wraps the bytes of a secret.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the secret.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Derives the subkey for one purpose (BLAKE3's `derive_key`; contexts are constants of the program).
    #[must_use]
    pub fn derive(&self, context: &'static str) -> Self {
        Self(blake3::derive_key(context, &self.0))
    }

    /// Hashes with this secret as the key: the key of one thing, or a value nobody else can compute.
    ///
    /// Callers pass fields of fixed length, or with their lengths, so that no two inputs are the same bytes.
    pub fn hash(&self, fields: &[&[u8]]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for field in fields {
            hasher.update(field);
        }
        hasher.finalize().into()
    }
}

/// What a thing that does not open says: changed, moved, or sealed under another key. More cannot be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forged;

/// AES-256-GCM under one key.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    pub(crate) fn new(key: &SecretKey) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key.as_bytes()).expect("an AES-256 key has 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Seals `plaintext` into `sealed`, which is longer by the tag.
    pub(crate) fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], sealed: &mut [u8]) {
        let (ciphertext, tag) = sealed.split_at_mut(plaintext.len());
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_out_of_place_scatter(nonce, Aad::from(aad), plaintext, ciphertext, &[], tag)
            .expect("AES-GCM seals everything shorter than 64 GiB into room of the right length");
    }

    /// Seals in place what is in `bytes`, but for the room for the tag at its end.
    pub(crate) fn seal_in_place(&self, nonce: [u8; NONCE_LEN], aad: &[u8], bytes: &mut [u8]) {
        let (text, room) = bytes.split_at_mut(bytes.len() - TAG_LENGTH);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), text)
            .expect("AES-GCM seals everything shorter than 64 GiB");
        room.copy_from_slice(tag.as_ref());
    }

    /// Opens `sealed` into `plaintext`, which is shorter by the tag. On failure `plaintext` is wiped.
    pub(crate) fn open(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        sealed: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), Forged> {
        let (ciphertext, tag) = sealed.split_at_checked(plaintext.len()).ok_or(Forged)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, plaintext).map_err(|_| {
            // The library may have written what it decrypted before it knew the tag was wrong.
            plaintext.fill(0);
            Forged
        })
    }

    /// Opens in place and returns the plaintext. On failure `sealed` is wiped.
    pub(crate) fn open_in_place<'a>(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Forged> {
        let length = sealed.len().checked_sub(TAG_LENGTH).ok_or(Forged)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        if self.0.open_in_place(nonce, Aad::from(aad), sealed).is_err() {
            sealed.fill(0);
            return Err(Forged);
        }
        Ok(&sealed[..length])
    }
}

/// The nonce of a key that is used once.
pub(crate) const NONCE_ONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// Where a segment stands in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentPlace {
    /// The segment's number, from 0.
    pub index: u64,
    /// Whether it is the object's last: without this, an object cut at a segment border would read as whole.
    pub last: bool,
}

impl SegmentPlace {
    /// Returns the nonce: the index in 8 bytes big-endian, the flag in one, 3 zero bytes.
    fn nonce(self) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.index.to_be_bytes());
        nonce[8] = u8::from(self.last);
        nonce
    }
}

/// Seals and opens the segments of one object.
pub struct SegmentCipher {
    cipher: Cipher,
    /// What binds a segment to its format and object; the nonce behind it binds it to its place.
    bound: [u8; 15 + 2 + 16],
}

impl SegmentCipher {
    /// Takes the data key of an object. A data key serves one object of one format version.
    pub fn new(data_key: &SecretKey, version: u16, object: ObjectId) -> Self {
        let mut bound = [0; 33];
        bound[..15].copy_from_slice(b"hapax segment\0\0");
        bound[15..17].copy_from_slice(&version.to_le_bytes());
        bound[17..].copy_from_slice(object.as_bytes());
        Self { cipher: Cipher::new(data_key), bound }
    }

    /// Seals a segment into `sealed`, which is [`TAG_LENGTH`] longer.
    ///
    /// No place may be sealed twice with different bytes: the nonce would repeat.
    pub fn seal(&self, place: SegmentPlace, plaintext: &[u8], sealed: &mut [u8]) {
        self.cipher.seal(place.nonce(), &self.aad(place), plaintext, sealed);
    }

    /// Seals in place the segment that is in `bytes`, but for [`TAG_LENGTH`] bytes of room at its end.
    ///
    /// No place may be sealed twice with different bytes: the nonce would repeat.
    pub fn seal_in_place(&self, place: SegmentPlace, bytes: &mut [u8]) {
        self.cipher.seal_in_place(place.nonce(), &self.aad(place), bytes);
    }

    /// Opens a segment into `plaintext`, which is [`TAG_LENGTH`] shorter. On failure it holds zeros.
    pub fn open(&self, place: SegmentPlace, sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Forged> {
        self.cipher.open(place.nonce(), &self.aad(place), sealed, plaintext)
    }

    /// Opens a segment in place and returns its plaintext. On failure the bytes are zeros.
    pub fn open_in_place<'a>(&self, place: SegmentPlace, sealed: &'a mut [u8]) -> Result<&'a [u8], Forged> {
        self.cipher.open_in_place(place.nonce(), &self.aad(place), sealed)
    }

    fn aad(&self, place: SegmentPlace) -> [u8; 33 + NONCE_LEN] {
        let mut aad = [0; 33 + NONCE_LEN];
        aad[..33].copy_from_slice(&self.bound);
        aad[33..].copy_from_slice(&place.nonce());
        aad
    }
}

/// What a small value is for. A value sealed for one purpose does not open for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// The last 1 to 64 KiB of an append lane.
    Tail,
    /// A blob of at most 4 KiB.
    Inline,
    /// The BLAKE3 and size of a blob.
    Identity,
    /// The BLAKE3 that an upload has if it ends where its first part ends now.
    FirstRoot,
    /// The digests that a client declared for an upload.
    Declared,
    /// A digest of a blob in another algorithm than BLAKE3.
    Digest,
}

impl Purpose {
    /// Returns the word that stands in the key derivation; fixed for ever.
    fn word(self) -> &'static [u8] {
        match self {
            Self::Tail => b"tail",
            Self::Inline => b"inline",
            Self::Identity => b"identity",
            Self::FirstRoot => b"first-root",
            Self::Declared => b"declared",
            Self::Digest => b"digest",
        }
    }
}

/// The row that a small value belongs to. It opens there and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The table's name.
    pub table: &'a str,
    /// The row's key, in bytes.
    pub key: &'a [u8],
    /// A number that changes whenever the value is replaced, so that an older value of the row does not open.
    pub version: u64,
}

impl Row<'_> {
    /// Writes the associated data; lengths stand before what varies, so that no two rows are the same bytes.
    fn aad(&self) -> Vec<u8> {
        let mut aad = vec![SMALL_VERSION];
        for field in [self.table.as_bytes(), self.key] {
            aad.extend_from_slice(&(field.len() as u64).to_le_bytes());
            aad.extend_from_slice(field);
        }
        aad.extend_from_slice(&self.version.to_le_bytes());
        aad
    }
}

/// Seals and opens small values: `version (1) ‖ salt (24) ‖ ciphertext ‖ tag (16)`.
///
/// Each value has a key of its own, derived from the root key, the purpose and the salt, so its nonce is zero and
/// no counter has to survive a crash or be shared between nodes.
pub struct SmallCipher {
    subkey: SecretKey,
}

impl SmallCipher {
    /// Takes the store root key.
    pub fn new(root: &SecretKey) -> Self {
        Self { subkey: root.derive(SMALL_CONTEXT) }
    }

    /// Seals a value for its row.
    pub fn seal(&self, purpose: Purpose, row: &Row<'_>, plaintext: &[u8]) -> Result<Vec<u8>, StoreError> {
        Ok(self.seal_with(random_bytes()?, purpose, row, plaintext))
    }

    /// Seals with a salt that was never used before.
    fn seal_with(
        &self,
        salt: [u8; SALT_LENGTH],
        purpose: Purpose,
        row: &Row<'_>,
        plaintext: &[u8],
    ) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(plaintext.len() + SMALL_OVERHEAD);
        sealed.push(SMALL_VERSION);
        sealed.extend_from_slice(&salt);
        let start = sealed.len();
        sealed.extend_from_slice(plaintext);
        sealed.resize(sealed.len() + TAG_LENGTH, 0);
        self.cipher(purpose, &salt).seal_in_place(NONCE_ONCE, &row.aad(), &mut sealed[start..]);
        sealed
    }

    /// Opens a value of its row.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it is not exactly what was last sealed for this purpose and row.
    pub fn open(&self, purpose: Purpose, row: &Row<'_>, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let damaged = |why| StoreError::Corrupt { what: format!("a sealed value of {}", row.table), why };
        let (&version, rest) = sealed.split_first().ok_or_else(|| damaged("empty"))?;
        if version != SMALL_VERSION {
            return Err(damaged("unknown version"));
        }
        let (salt, rest) = rest.split_first_chunk::<SALT_LENGTH>().ok_or_else(|| damaged("too short"))?;
        let length = rest.len().checked_sub(TAG_LENGTH).ok_or_else(|| damaged("too short"))?;
        let mut plaintext = vec![0; length];
        self.cipher(purpose, salt)
            .open(NONCE_ONCE, &row.aad(), rest, &mut plaintext)
            .map_err(|Forged| damaged("does not authenticate"))?;
        Ok(plaintext)
    }

    fn cipher(&self, purpose: Purpose, salt: &[u8; SALT_LENGTH]) -> Cipher {
        // The salt has a fixed length and stands first, so the word needs none.
        Cipher::new(&SecretKey(self.subkey.hash(&[salt, purpose.word()])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row<'static> = Row { table: "tails", key: b"upload 7", version: 3 };

    fn segments() -> SegmentCipher {
        SegmentCipher::new(&SecretKey::from_bytes([7; 32]), 1, ObjectId::from_bytes([9; 16]))
    }

    fn small() -> SmallCipher {
        SmallCipher::new(&SecretKey::from_bytes([1; 32]))
    }

    #[test]
    fn a_segment_opens_at_its_place_only() {
        #[track_caller]
        fn check(sealed: &[u8], place: SegmentPlace, cipher: &SegmentCipher, opens: bool) {
            let mut plaintext = [1; 5];
            assert_eq!(cipher.open(place, sealed, &mut plaintext).is_ok(), opens);
            assert_eq!(&plaintext, if opens { b"hello" } else { &[0; 5] });
            let mut bytes = sealed.to_vec();
            let opened = cipher.open_in_place(place, &mut bytes).ok().map(<[u8]>::to_vec);
            assert_eq!(opened, opens.then(|| b"hello".to_vec()));
            assert!(opens || bytes.iter().all(|byte| *byte == 0));
        }
        let place = SegmentPlace { index: 5, last: false };
        let mut sealed = [0; 5 + TAG_LENGTH];
        segments().seal(place, b"hello", &mut sealed);
        assert_ne!(&sealed[..5], b"hello");

        let other_key = SegmentCipher::new(&SecretKey::from_bytes([8; 32]), 1, ObjectId::from_bytes([9; 16]));
        let other_object =
            SegmentCipher::new(&SecretKey::from_bytes([7; 32]), 1, ObjectId::from_bytes([8; 16]));
        let other_version =
            SegmentCipher::new(&SecretKey::from_bytes([7; 32]), 2, ObjectId::from_bytes([9; 16]));
        check(&sealed, place, &segments(), true);
        check(&sealed, SegmentPlace { index: 4, last: false }, &segments(), false);
        check(&sealed, SegmentPlace { index: 5, last: true }, &segments(), false);
        check(&sealed, place, &other_key, false);
        check(&sealed, place, &other_object, false);
        check(&sealed, place, &other_version, false);
        for byte in 0..sealed.len() {
            let mut flipped = sealed;
            flipped[byte] ^= 0x10;
            check(&flipped, place, &segments(), false);
        }
    }

    #[test]
    fn sealing_in_place_is_the_same() {
        let place = SegmentPlace { index: 1, last: true };
        let (mut apart, mut inside) = ([0; 3 + TAG_LENGTH], [0; 3 + TAG_LENGTH]);
        segments().seal(place, b"abc", &mut apart);
        inside[..3].copy_from_slice(b"abc");
        segments().seal_in_place(place, &mut inside);
        assert_eq!(apart, inside);
    }

    #[test]
    fn a_small_value_opens_in_its_row_only() {
        #[track_caller]
        fn check(purpose: Purpose, row: &Row<'_>, cipher: &SmallCipher, opens: bool) {
            let sealed = small().seal(Purpose::Tail, &ROW, b"bytes").unwrap();
            assert_eq!(sealed.len(), 5 + SMALL_OVERHEAD);
            match cipher.open(purpose, row, &sealed) {
                Ok(plaintext) => assert!(opens && plaintext == b"bytes"),
                Err(error) => assert!(!opens && matches!(error, StoreError::Corrupt { .. }), "{error}"),
            }
        }
        check(Purpose::Tail, &ROW, &small(), true);
        check(Purpose::Inline, &ROW, &small(), false);
        check(Purpose::Tail, &Row { table: "inline", ..ROW }, &small(), false);
        check(Purpose::Tail, &Row { key: b"upload 8", ..ROW }, &small(), false);
        check(Purpose::Tail, &Row { version: 2, ..ROW }, &small(), false);
        check(Purpose::Tail, &Row { table: "tailsu", key: b"pload 7", ..ROW }, &small(), false);
        check(Purpose::Tail, &ROW, &SmallCipher::new(&SecretKey::from_bytes([2; 32])), false);
    }

    #[test]
    fn a_small_value_is_laid_out_as_the_format_page_says() {
        let sealed = small().seal_with([11; SALT_LENGTH], Purpose::Tail, &ROW, b"bytes");
        let known = format!("01{}19d6177ad55c392ac2d968d39b30110e9a483172ce", "0b".repeat(SALT_LENGTH));
        assert_eq!(data_encoding::HEXLOWER.encode(&sealed), known, "see fixtures/known_answers.py");
    }

    #[test]
    fn a_changed_small_value_does_not_open() {
        let sealed = small().seal(Purpose::Inline, &ROW, b"bytes").unwrap();
        for byte in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[byte] ^= 1;
            assert!(small().open(Purpose::Inline, &ROW, &flipped).is_err(), "byte {byte}");
            assert!(small().open(Purpose::Inline, &ROW, &sealed[..byte]).is_err(), "cut at {byte}");
        }
    }

    #[test]
    fn a_small_value_may_be_empty_and_never_repeats() {
        let (a, b) = (
            small().seal(Purpose::Identity, &ROW, b"").unwrap(),
            small().seal(Purpose::Identity, &ROW, b"").unwrap(),
        );
        assert_ne!(a, b);
        assert_eq!(small().open(Purpose::Identity, &ROW, &a).unwrap(), b"");
    }
}
