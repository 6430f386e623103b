//! Sealed objects: header, stride arithmetic, writer and reader. Owns the object format, version 1, whose normative
//! text is docs/on-disk-format.md; the bytes go through [`crate::object`] and the ciphers of [`crate::seal`].
//!
//! ```text
//!   0        128                    128 + S              128 + 2S
//!   | header | segment 0      | tag | segment 1    | tag | last segment | tag |      S = 64 KiB + 16
//!              64 KiB           16    64 KiB         16    1 to 64 KiB    16
//! ```
//!
//! Every segment but the last is full, so the place of a byte is arithmetic and a range touches at most two segments
//! more than it needs. The last one is sealed as the last, so an object cut short does not read as whole.

use std::sync::{Mutex, PoisonError};

use hapax_proto::span::{Length, Offset, Span};
use zeroize::Zeroizing;

use crate::{
    error::StoreError,
    id::{ObjectId, ObjectName},
    key::KeyRing,
    object::{ObjectReader, ObjectWriter, Objects},
    seal::{Cipher, NONCE_ONCE, SecretKey, SegmentCipher, SegmentPlace, TAG_LENGTH},
};

/// Plaintext of a full segment, in bytes.
pub const SEGMENT: usize = 64 << 10;

/// A full segment as it is stored.
const STRIDE: usize = SEGMENT + TAG_LENGTH;

/// The version of the object format.
const VERSION: u16 = 1;

/// What an object begins with.
const MAGIC: &[u8; 8] = b"hapaxobj";

/// The header: fields in the clear that the wrap authenticates, then the data key, wrapped.
const CLEAR_LENGTH: usize = 80;
const HEADER_LENGTH: usize = CLEAR_LENGTH + 32 + TAG_LENGTH;

/// Segments that are written with one call, and read with one: enough that the call costs little, and no more,
/// because each object being written holds that much memory.
const SEGMENTS_PER_CALL: usize = 4;

/// How many buffers a reader keeps between reads; more readers at once allocate their own.
const BUFFERS_KEPT: usize = 4;

/// How long a finished object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedLength {
    /// What was written into it.
    pub plaintext: Length,
    /// What it takes in the store.
    pub sealed: Length,
}

impl SealedLength {
    /// Returns the lengths of an object of `plaintext` bytes, or `None` for none and for more than fit.
    pub fn of(plaintext: Length) -> Option<Self> {
        let segments = plaintext.get().div_ceil(SEGMENT as u64);
        let tags = Length::new(segments.checked_mul(TAG_LENGTH as u64)?);
        let sealed = plaintext.checked_add(tags)?.checked_add(Length::new(HEADER_LENGTH as u64))?;
        (segments > 0).then_some(Self { plaintext, sealed })
    }
}

/// Returns the part of the header that depends on nothing but the object and the ring.
///
/// Magic (8), version (2, little-endian), zero (6), object id (16), root key id (8), reserved and zero (40).
fn clear_header(id: ObjectId, ring: &KeyRing) -> [u8; CLEAR_LENGTH] {
    let mut header = [0; CLEAR_LENGTH];
    header[..8].copy_from_slice(MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[16..32].copy_from_slice(id.as_bytes());
    header[32..40].copy_from_slice(&ring.root_id());
    header
}

/// An object being sealed. Dropping it abandons the object; nothing refers to it yet.
///
/// Bytes may come in any cuts; whole segments at a time are sealed straight from the caller's memory.
pub struct SealedWriter {
    object: Box<dyn ObjectWriter>,
    name: ObjectName,
    cipher: SegmentCipher,
    /// The header until it is written, then sealed segments and the room of the open one.
    buffer: Vec<u8>,
    /// How many bytes of `buffer` are final: header and sealed segments.
    sealed: usize,
    /// How many bytes of plaintext stand behind them. INVARIANT: not 0 once something was written, because what is
    /// sealed as a middle segment can no longer be the last.
    open: usize,
    index: u64,
    length: Length,
}

impl SealedWriter {
    /// Begins an object under a name that was never used, with a data key of its own.
    pub fn create(objects: &dyn Objects, ring: &KeyRing, name: ObjectName) -> Result<Self, StoreError> {
        Self::create_with(&SecretKey::random()?, objects, ring, name)
    }

    /// Begins an object with a data key that was never used before.
    fn create_with(
        data_key: &SecretKey,
        objects: &dyn Objects,
        ring: &KeyRing,
        name: ObjectName,
    ) -> Result<Self, StoreError> {
        let mut buffer = Vec::with_capacity(HEADER_LENGTH + STRIDE);
        buffer.extend_from_slice(&clear_header(name.id, ring));
        buffer.resize(HEADER_LENGTH, 0);
        let (clear, wrapped) = buffer.split_at_mut(CLEAR_LENGTH);
        Cipher::new(&ring.object_wrap(name.id)).seal(NONCE_ONCE, clear, data_key.as_bytes(), wrapped);
        Ok(Self {
            object: objects.create(name)?,
            name,
            cipher: SegmentCipher::new(data_key, VERSION, name.id),
            buffer,
            sealed: HEADER_LENGTH,
            open: 0,
            index: 0,
            length: Length::ZERO,
        })
    }

    /// Appends plaintext.
    pub fn write(&mut self, mut plaintext: &[u8]) -> Result<(), StoreError> {
        self.length = self.length.checked_add(Length::of(plaintext)).expect("no memory holds 2^64 bytes");
        while !plaintext.is_empty() {
            if self.open == SEGMENT {
                self.seal_open(false);
            }
            if self.sealed >= SEGMENTS_PER_CALL * STRIDE {
                self.flush()?;
            }
            if self.open == 0 && plaintext.len() > SEGMENT {
                plaintext = self.seal_whole(plaintext);
            } else {
                plaintext = self.keep(plaintext);
            }
        }
        Ok(())
    }

    /// Returns how much plaintext was written so far.
    pub fn length(&self) -> Length {
        self.length
    }

    /// Seals the last segment and waits for the object's bytes.
    ///
    /// DURABILITY: on return the bytes survive power loss; the name does after [`Objects::sync_dir`].
    ///
    /// # Errors
    /// [`StoreError::EmptyObject`] if nothing was written.
    pub fn finish(mut self) -> Result<SealedLength, StoreError> {
        let lengths = SealedLength::of(self.length)
            .ok_or_else(|| StoreError::EmptyObject { name: self.name.to_string() })?;
        self.seal_open(true);
        self.flush()?;
        self.object.finish()?;
        Ok(lengths)
    }

    /// Seals one segment straight from the caller's bytes; there are more behind it, so it is not the last.
    fn seal_whole<'a>(&mut self, plaintext: &'a [u8]) -> &'a [u8] {
        let (segment, rest) = plaintext.split_at(SEGMENT);
        let end = self.sealed + STRIDE;
        self.reserve(end);
        let place = SegmentPlace { index: self.index, last: false };
        self.cipher.seal(place, segment, &mut self.buffer[self.sealed..end]);
        self.sealed = end;
        self.index += 1;
        rest
    }

    /// Copies as much as the open segment takes; it is sealed when it is known whether more comes.
    fn keep<'a>(&mut self, plaintext: &'a [u8]) -> &'a [u8] {
        let (kept, rest) = plaintext.split_at(plaintext.len().min(SEGMENT - self.open));
        let start = self.sealed + self.open;
        self.reserve(start + kept.len() + TAG_LENGTH);
        self.buffer[start..start + kept.len()].copy_from_slice(kept);
        self.open += kept.len();
        rest
    }

    /// Seals the open segment in place.
    fn seal_open(&mut self, last: bool) {
        let end = self.sealed + self.open + TAG_LENGTH;
        let place = SegmentPlace { index: self.index, last };
        self.cipher.seal_in_place(place, &mut self.buffer[self.sealed..end]);
        self.sealed = end;
        self.open = 0;
        self.index += 1;
    }

    /// Makes the buffer at least `length` long. It grows with the object, so that a small one takes little memory.
    fn reserve(&mut self, length: usize) {
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
    }

    /// Writes what is sealed. INVARIANT: no segment is open.
    fn flush(&mut self) -> Result<(), StoreError> {
        self.object.write(&self.buffer[..self.sealed])?;
        self.sealed = 0;
        Ok(())
    }
}

/// A sealed object, opened. Threads may share it.
pub struct SealedReader {
    object: Box<dyn ObjectReader>,
    name: ObjectName,
    cipher: SegmentCipher,
    length: Length,
    /// Buffers that no read is using.
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl SealedReader {
    /// Opens an object of which the catalog says how long it is.
    ///
    /// # Errors
    /// [`StoreError::MissingObject`]; [`StoreError::Corrupt`] if it has another length or its header is not the one
    /// that was written for this name and ring.
    pub fn open(
        objects: &dyn Objects,
        ring: &KeyRing,
        name: ObjectName,
        plaintext: Length,
    ) -> Result<Self, StoreError> {
        let object = objects.open(name)?;
        let expected = SealedLength::of(plaintext).map(|lengths| lengths.sealed);
        if expected != Some(object.length()) {
            return Err(damaged(name, "it has not the length it was written with"));
        }
        let mut header = [0; HEADER_LENGTH];
        object.read_at(Offset::ZERO, &mut header)?;
        let data_key = open_header(&header, ring, name)?;
        let cipher = SegmentCipher::new(&data_key, VERSION, name.id);
        Ok(Self { object, name, cipher, length: plaintext, buffers: Mutex::default() })
    }

    /// Returns how much plaintext the object holds.
    pub fn length(&self) -> Length {
        self.length
    }

    /// Fills `out` with the plaintext from `start` on. Every byte was authenticated in this call (R5).
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if a segment that is touched is not as it was written, or the span leaves the object.
    /// Of what is in `out` then, nothing may be used; it holds no byte of a segment that failed.
    pub fn read(&self, start: Offset, out: &mut [u8]) -> Result<(), StoreError> {
        let span = Span::at(start, Length::of(out)).filter(|span| Span::whole(self.length).contains(*span));
        let span = span.ok_or_else(|| damaged(self.name, "a span behind its end was asked for"))?;
        if span.is_empty() {
            return Ok(());
        }
        let mut buffer = self.take_buffer();
        let read = self.read_span(span, out, &mut buffer);
        self.keep_buffer(buffer);
        read
    }

    fn read_span(&self, span: Span, mut out: &mut [u8], buffer: &mut Vec<u8>) -> Result<(), StoreError> {
        let stride = SEGMENT as u64;
        let (mut index, end) = (span.start().get() / stride, span.end().get().div_ceil(stride));
        let mut skip = usize::try_from(span.start().get() % stride).expect("less than a segment");
        while index < end {
            let count = usize::try_from(end - index).map_or(SEGMENTS_PER_CALL, |n| n.min(SEGMENTS_PER_CALL));
            let sealed = self.fetch(index, count, buffer)?;
            for segment in sealed.chunks_mut(STRIDE) {
                let length = (segment.len() - TAG_LENGTH - skip).min(out.len());
                let (part, rest) = out.split_at_mut(length);
                self.open_part(index, segment, skip, part)?;
                out = rest;
                skip = 0;
                index += 1;
            }
        }
        Ok(())
    }

    /// Opens one segment and puts its bytes from `skip` on into `part`.
    fn open_part(
        &self,
        index: u64,
        segment: &mut [u8],
        skip: usize,
        part: &mut [u8],
    ) -> Result<(), StoreError> {
        let place = SegmentPlace { index, last: index == self.last_index() };
        let opened = if part.len() == segment.len() - TAG_LENGTH {
            self.cipher.open(place, segment, part)
        } else {
            let end = skip + part.len();
            self.cipher
                .open_in_place(place, segment)
                .map(|plaintext| part.copy_from_slice(&plaintext[skip..end]))
        };
        opened.map_err(|_| StoreError::Corrupt {
            what: format!("object {}, segment {index}", self.name),
            why: "it does not authenticate",
        })
    }

    /// Reads `count` segments as they are stored, in one call.
    fn fetch<'a>(
        &self,
        index: u64,
        count: usize,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a mut [u8], StoreError> {
        let start = HEADER_LENGTH as u64 + index * STRIDE as u64;
        let left = self.object.length().get() - start;
        let length = usize::try_from(left).map_or(count * STRIDE, |left| left.min(count * STRIDE));
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let sealed = &mut buffer[..length];
        self.object.read_at(Offset::new(start), sealed)?;
        Ok(sealed)
    }

    fn last_index(&self) -> u64 {
        (self.length.get() - 1) / SEGMENT as u64
    }

    fn take_buffer(&self) -> Vec<u8> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn keep_buffer(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < BUFFERS_KEPT {
            buffers.push(buffer);
        }
    }
}

/// Checks a header against what it must be, and unwraps the data key.
fn open_header(
    header: &[u8; HEADER_LENGTH],
    ring: &KeyRing,
    name: ObjectName,
) -> Result<SecretKey, StoreError> {
    let (clear, wrapped) = header.split_at(CLEAR_LENGTH);
    let expected = clear_header(name.id, ring);
    if clear != expected {
        let why = match () {
            () if clear[..8] != expected[..8] => "it does not begin as an object does",
            () if clear[8..10] != expected[8..10] => "it is of a version this program does not know",
            () if clear[16..32] != expected[16..32] => "it is another object",
            () if clear[32..40] != expected[32..40] => "it was sealed under another key ring",
            () => "its reserved bytes are not zero",
        };
        return Err(damaged(name, why));
    }
    let mut key = Zeroizing::new([0; 32]);
    Cipher::new(&ring.object_wrap(name.id))
        .open(NONCE_ONCE, clear, wrapped, &mut *key)
        .map_err(|_| damaged(name, "its data key does not authenticate"))?;
    Ok(SecretKey::from_bytes(*key))
}

fn damaged(name: ObjectName, why: &'static str) -> StoreError {
    StoreError::Corrupt { what: format!("object {name}"), why }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        error::ErrorClass,
        id::DirId,
        object::{
            contract::fresh_name,
            memory::{MemoryObjects, Verb},
        },
    };

    struct Store {
        objects: MemoryObjects,
        ring: KeyRing,
    }

    impl Store {
        fn new() -> Self {
            let objects = MemoryObjects::new();
            objects.make_dir(fresh_name().dir).unwrap();
            Self { objects, ring: KeyRing::generate().unwrap() }
        }

        fn put(&self, plaintext: &[u8]) -> ObjectName {
            let name = fresh_name();
            let mut writer = SealedWriter::create(&self.objects, &self.ring, name).unwrap();
            writer.write(plaintext).unwrap();
            assert_eq!(writer.length(), Length::of(plaintext));
            let lengths = writer.finish().unwrap();
            assert_eq!(lengths.plaintext, Length::of(plaintext));
            assert_eq!(lengths.sealed, self.objects.open(name).unwrap().length());
            name
        }

        fn open(&self, name: ObjectName, length: usize) -> Result<SealedReader, StoreError> {
            SealedReader::open(&self.objects, &self.ring, name, Length::new(length as u64))
        }

        fn read(&self, name: ObjectName, length: usize, span: (usize, usize)) -> Result<Vec<u8>, StoreError> {
            let mut out = vec![0xee; span.1 - span.0];
            self.open(name, length)?.read(Offset::new(span.0 as u64), &mut out)?;
            Ok(out)
        }

        fn sealed_bytes(&self, name: ObjectName) -> Vec<u8> {
            let mut bytes = Vec::new();
            assert!(self.objects.alter(name, |object| bytes.clone_from(object)));
            bytes
        }
    }

    /// Bytes of which no two segments, nor their parts, are equal.
    fn pattern(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(b"pattern").finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn an_object_is_laid_out_as_the_format_page_says() {
        #[track_caller]
        fn check(length: usize, known: &str) {
            let store = Store { ring: KeyRing::fixed(), ..Store::new() };
            let name = ObjectName { dir: fresh_name().dir, id: ObjectId::from_bytes([9; 16]) };
            let data_key = SecretKey::from_bytes([10; 32]);
            let mut writer = SealedWriter::create_with(&data_key, &store.objects, &store.ring, name).unwrap();
            let plaintext: Vec<u8> = (0..251).cycle().take(length).collect();
            writer.write(&plaintext).unwrap();
            writer.finish().unwrap();
            let stored = blake3::hash(&store.sealed_bytes(name));
            assert_eq!(stored.to_hex().as_str(), known, "see fixtures/known_answers.py");
        }
        check(1, "50f55dca11488d6aabe6ded6a811b64358c5b14cbb0f874455349ce07fb99ca2");
        check(SEGMENT, "4f24663444473f1796eac8b52bc116ca34fd738a38a9ccd12d328a838d5e7e79");
        check(2 * SEGMENT + 100, "be3628b536189d7a64f403dd0d89b7ff1603b3ecdb236f257176a83daa3dcc80");
    }

    /// Where segment `index` begins in the stored bytes.
    const fn at(index: usize) -> usize {
        HEADER_LENGTH + index * STRIDE
    }

    const LENGTH: usize = 3 * SEGMENT + 1000;

    /// Damages an object of three full segments and a short one. Where `unharmed` is `None` the object must not open;
    /// else exactly these segments must read, and no other.
    #[track_caller]
    fn check_mutation(mutate: impl FnOnce(&mut Vec<u8>), unharmed: Option<&[usize]>) {
        let store = Store::new();
        let plaintext = pattern(LENGTH);
        let name = store.put(&plaintext);
        assert!(store.objects.alter(name, mutate));
        let opened = store.open(name, LENGTH);
        let Some(unharmed) = unharmed else {
            assert_eq!(opened.err().unwrap().class(), ErrorClass::Corrupt);
            return;
        };
        let reader = opened.unwrap();
        for first in 0..4 {
            for end in first + 1..=4 {
                let span = first * SEGMENT + 1..(end * SEGMENT).min(LENGTH) - 1;
                check_span(&reader, &plaintext, span, (first..end).all(|index| unharmed.contains(&index)));
                let span = first * SEGMENT..(end * SEGMENT).min(LENGTH);
                check_span(&reader, &plaintext, span, (first..end).all(|index| unharmed.contains(&index)));
            }
        }
    }

    #[track_caller]
    fn check_span(reader: &SealedReader, plaintext: &[u8], span: std::ops::Range<usize>, reads: bool) {
        let mut out = vec![0xee; span.len()];
        match reader.read(Offset::new(span.start as u64), &mut out) {
            Ok(()) => assert!(reads && out == plaintext[span.clone()], "{span:?}"),
            Err(error) => assert!(!reads && error.class() == ErrorClass::Corrupt, "{span:?}: {error}"),
        }
    }

    #[test]
    fn a_flipped_bit_in_the_header_closes_the_object() {
        for byte in 0..HEADER_LENGTH {
            check_mutation(|object| object[byte] ^= 1 << (byte % 8), None);
        }
    }

    #[test]
    fn a_flipped_bit_fails_its_segment_and_no_other() {
        check_mutation(|object| object[at(0)] ^= 1, Some(&[1, 2, 3]));
        check_mutation(|object| object[at(1) + 777] ^= 0x80, Some(&[0, 2, 3]));
        check_mutation(|object| object[at(2) + SEGMENT - 1] ^= 1, Some(&[0, 1, 3]));
        check_mutation(|object| object[at(3) + 999] ^= 4, Some(&[0, 1, 2]));
    }

    #[test]
    fn a_flipped_bit_in_a_tag_fails_its_segment_and_no_other() {
        check_mutation(|object| object[at(1) - 1] ^= 1, Some(&[1, 2, 3]));
        check_mutation(|object| object[at(2) + SEGMENT] ^= 1, Some(&[0, 1, 3]));
        check_mutation(|object| *object.last_mut().unwrap() ^= 1, Some(&[0, 1, 2]));
    }

    #[test]
    fn a_wrong_length_closes_the_object() {
        check_mutation(|object| object.truncate(object.len() - 1), None);
        check_mutation(|object| object.truncate(at(3)), None);
        check_mutation(|object| object.truncate(at(2)), None);
        check_mutation(|object| object.truncate(HEADER_LENGTH), None);
        check_mutation(Vec::clear, None);
        check_mutation(|object| object.push(0), None);
        check_mutation(|object| object.extend_from_within(at(1)..at(2)), None);
    }

    #[test]
    fn moved_segments_fail() {
        let swap = |object: &mut Vec<u8>| {
            let (first, second) = object[at(0)..].split_at_mut(STRIDE);
            first.swap_with_slice(&mut second[..STRIDE]);
        };
        check_mutation(swap, Some(&[2, 3]));
        check_mutation(|object| object.copy_within(at(0)..at(1), at(2)), Some(&[0, 1, 3]));
        check_mutation(|object| object[at(1) + 4096..at(1) + 8192].fill(0), Some(&[0, 2, 3]));
        check_mutation(|object| object[at(2)..at(3)].fill(0), Some(&[0, 1, 3]));
    }

    #[test]
    fn an_object_cut_at_a_segment_border_does_not_read_as_a_shorter_one() {
        let store = Store::new();
        let plaintext = pattern(2 * SEGMENT);
        let name = store.put(&plaintext);
        store.objects.alter(name, |object| object.truncate(at(1)));
        assert!(store.read(name, SEGMENT, (0, SEGMENT)).is_err());
        let name = store.put(&plaintext);
        assert_eq!(store.open(name, SEGMENT).err().unwrap().class(), ErrorClass::Corrupt);
    }

    #[test]
    fn bytes_of_another_object_fail() {
        let store = Store::new();
        let plaintext = pattern(LENGTH);
        let (a, b) = (store.put(&plaintext), store.put(&plaintext));
        let stolen = store.sealed_bytes(b);
        store.objects.alter(a, |object| object[at(1)..at(2)].copy_from_slice(&stolen[at(1)..at(2)]));
        assert!(store.read(a, LENGTH, (SEGMENT, SEGMENT + 1)).is_err());
        assert_eq!(store.read(a, LENGTH, (0, SEGMENT)).unwrap(), plaintext[..SEGMENT]);
        store.objects.alter(a, |object| object.clone_from(&stolen));
        assert_eq!(store.open(a, LENGTH).err().unwrap().class(), ErrorClass::Corrupt);
        // Even if the name inside is made to fit, the wrap was made for the other one.
        store.objects.alter(a, |object| object[16..32].copy_from_slice(a.id.as_bytes()));
        assert_eq!(store.open(a, LENGTH).err().unwrap().class(), ErrorClass::Corrupt);
    }

    #[test]
    fn another_ring_opens_nothing() {
        let store = Store::new();
        let name = store.put(b"secret");
        let other = KeyRing::generate().unwrap();
        let opened = SealedReader::open(&store.objects, &other, name, Length::new(6));
        assert_eq!(opened.err().unwrap().class(), ErrorClass::Corrupt);
        assert!(!store.sealed_bytes(name).windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn a_failed_read_shows_no_byte_of_the_segment() {
        let store = Store::new();
        let name = store.put(&pattern(LENGTH));
        store.objects.alter(name, |object| object[at(1)] ^= 1);
        let reader = store.open(name, LENGTH).unwrap();
        let mut out = vec![0xee; LENGTH];
        assert!(reader.read(Offset::ZERO, &mut out).is_err());
        assert!(out[SEGMENT..2 * SEGMENT].iter().all(|byte| *byte == 0));
        assert!(out[2 * SEGMENT..].iter().all(|byte| *byte == 0xee), "nothing behind it was opened");
    }

    #[test]
    fn an_empty_object_is_refused_and_leaves_nothing() {
        let store = Store::new();
        let name = fresh_name();
        let mut writer = SealedWriter::create(&store.objects, &store.ring, name).unwrap();
        writer.write(b"").unwrap();
        assert!(matches!(writer.finish(), Err(StoreError::EmptyObject { .. })));
        assert_eq!(store.objects.list(name.dir).unwrap(), []);
        let name = store.put(b"x");
        assert_eq!(store.open(name, 0).err().unwrap().class(), ErrorClass::Corrupt);
    }

    #[test]
    fn faults_of_the_store_come_through() {
        let store = Store::new();
        let name = store.put(b"abc");
        let reader = store.open(name, 3).unwrap();
        store.objects.fail(&[Verb::Read]);
        assert_eq!(reader.read(Offset::ZERO, &mut [0; 3]).unwrap_err().class(), ErrorClass::Io);
        store.objects.fail(&[Verb::Write]);
        let mut writer = SealedWriter::create(&store.objects, &store.ring, fresh_name()).unwrap();
        writer.write(b"abc").unwrap();
        assert_eq!(writer.finish().unwrap_err().class(), ErrorClass::Io);
        let unknown = ObjectName { dir: DirId::new(9), ..name };
        assert_eq!(store.open(unknown, 3).err().unwrap().class(), ErrorClass::Missing);
    }

    #[test]
    fn spans_behind_the_end_are_refused() {
        #[track_caller]
        fn check(start: u64, length: usize, reads: bool) {
            let store = Store::new();
            let name = store.put(&pattern(100));
            let read = store.open(name, 100).unwrap().read(Offset::new(start), &mut vec![0; length]);
            assert_eq!(read.is_ok(), reads);
        }
        check(0, 100, true);
        check(100, 0, true);
        check(0, 101, false);
        check(101, 0, false);
        check(100, 1, false);
        check(u64::MAX, 2, false);
    }

    #[test]
    fn threads_share_a_reader() {
        let store = Store::new();
        let plaintext = pattern(20 * SEGMENT + 5);
        let reader = store.open(store.put(&plaintext), plaintext.len()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (reader, plaintext) = (&reader, &plaintext);
                scope.spawn(move || {
                    for start in (thread * 1000..plaintext.len()).step_by(SEGMENT * 3 + 17) {
                        let mut out = vec![0; (plaintext.len() - start).min(SEGMENT * 9)];
                        reader.read(Offset::new(start as u64), &mut out).unwrap();
                        assert_eq!(out, plaintext[start..start + out.len()]);
                    }
                });
            }
        });
        assert!((1..=BUFFERS_KEPT).contains(&reader.buffers.lock().unwrap().len()), "buffers are reused");
    }

    /// Lengths around everything that has a border.
    fn lengths() -> impl Strategy<Value = usize> {
        let borders = [1, 2, SEGMENT, 2 * SEGMENT, SEGMENTS_PER_CALL * SEGMENT, 17 * SEGMENT];
        let near = (prop::sample::select(borders.to_vec()), 0..3_usize);
        prop_oneof![near.prop_map(|(border, more)| (border + more - 1).max(1)), 1..20 * SEGMENT]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_span_reads_as_written(
            length in lengths(),
            cuts in prop::collection::vec(prop_oneof![1..200_usize, 1..3 * SEGMENT, Just(SEGMENT)], 1..8),
            spans in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 8),
        ) {
            let store = Store::new();
            let plaintext = pattern(length);
            let name = fresh_name();
            let mut writer = SealedWriter::create(&store.objects, &store.ring, name).unwrap();
            let (mut rest, mut cuts) = (&plaintext[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let cut = rest.len().min(*cuts.next().unwrap());
                writer.write(&rest[..cut]).unwrap();
                rest = &rest[cut..];
            }
            let lengths = writer.finish().unwrap();
            prop_assert_eq!(lengths, SealedLength::of(Length::new(length as u64)).unwrap());
            prop_assert_eq!(&store.read(name, length, (0, length)).unwrap(), &plaintext);
            for (a, b) in spans {
                let (a, b) = (a.index(length + 1), b.index(length + 1));
                let span = (a.min(b), a.max(b));
                prop_assert_eq!(&store.read(name, length, span).unwrap(), &plaintext[span.0..span.1]);
            }
        }
    }
}
