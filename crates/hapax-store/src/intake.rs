//! Bytes in: one ordered run of bytes of one part is hashed and sealed as it comes, and ends as something that the
//! committer can make durable. Knows neither uploads nor names.
//!
//! ```text
//!   push ──> hash (part hasher) ──> small buffer ──(past SMALL_MAX)──> object, sealed as it grows
//!                              └──> tail: a copy of the last 1 to 64 KiB, for a run that ends early
//! ```

use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::tree::{BadTail, OpenState, PART, PartHasher, PartNumber, PastBorder, SEGMENT};

use crate::committer::{Bytes, Committer, PendingObject};
use crate::error::StoreError;

/// Runs up to this length share an object with others of the same moment; longer ones get their own.
pub const SMALL_MAX: usize = 1 << 20;

/// One ordered run of bytes of one part.
pub struct PartWriter {
    hasher: PartHasher,
    /// Where in the part the bytes in `sink` begin: a border of segments.
    base: Length,
    sink: Sink,
    /// The last 1 to 64 KiB of the part so far; empty only while the part is.
    tail: Vec<u8>,
}

enum Sink {
    Small(Vec<u8>),
    Object(Box<PendingObject>),
    /// The disk refused bytes that the hasher had taken in: nothing of this run can be kept.
    Broken,
}

/// What a part is after a run that ended early.
pub struct CutRun {
    /// What goes into an object: whole segments, maybe none. The object may hold more bytes behind them.
    pub bytes: Bytes,
    /// Where in the file those whole segments belong.
    pub span: Span,
    /// The hashing state without the tail.
    pub state: OpenState,
    /// The last 1 to 64 KiB.
    pub tail: Vec<u8>,
    /// How many bytes of the part are there in all.
    pub have: Length,
}

impl PartWriter {
    /// Begins a part.
    pub fn new(part: PartNumber) -> Self {
        let (hasher, sink) = (PartHasher::new(part), Sink::Small(Vec::new()));
        Self { hasher, base: Length::ZERO, sink, tail: Vec::new() }
    }

    /// Goes on where an earlier run ended.
    ///
    /// # Errors
    /// [`BadTail`] if state and tail do not belong together.
    pub fn resume(part: PartNumber, state: &OpenState, tail: Vec<u8>) -> Result<Self, BadTail> {
        let hasher = PartHasher::resume(part, state, &tail)?;
        Ok(Self { hasher, base: state.length(), sink: Sink::Small(tail.clone()), tail })
    }

    /// Puts the bytes before `base` in front again, so that the part becomes one object: they were read back because
    /// too many fragments had gathered. To be called before the first push.
    pub fn prepend(&mut self, committer: &Committer, fragments: &[u8]) -> Result<(), StoreError> {
        debug_assert_eq!(Length::of(fragments), self.base, "all fragments, and nothing else");
        self.base = Length::ZERO;
        self.sink = Sink::Small(Vec::new());
        self.write(committer, fragments)?;
        let tail = std::mem::take(&mut self.tail);
        self.write(committer, &tail)?;
        self.tail = tail;
        Ok(())
    }

    /// Says how many bytes are to come. Many of them get an object at once, instead of a buffer first that grows until it
    /// is given up for one.
    pub fn expect(&mut self, committer: &Committer, length: Length) -> Result<(), StoreError> {
        if length.get() > SMALL_MAX as u64 {
            self.sink = Sink::Object(self.take_object(committer)?);
        }
        Ok(())
    }

    /// Returns how many bytes of the part are there.
    pub fn length(&self) -> Length {
        self.hasher.length()
    }

    /// Returns what the part hashes to so far.
    pub fn hasher(&self) -> &PartHasher {
        &self.hasher
    }

    /// Tells whether the part so far is exactly these bytes.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        let mut hasher = PartHasher::new(self.hasher.part());
        hasher.update(bytes).is_ok()
            && hasher.length() == self.length()
            && hasher.state() == self.hasher.state()
            && bytes.ends_with(&self.tail)
    }

    /// Takes in bytes; hand over about 256 KiB at a time. Blocks for the disk now and then.
    ///
    /// # Errors
    /// [`StoreError::TooLong`] if the bytes pass the part's border: then nothing was taken. After any other error the run
    /// is [broken](StoreError::BrokenRun).
    pub fn push(&mut self, committer: &Committer, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes).map_err(|PastBorder { held, offered, .. }| StoreError::TooLong {
            bytes: offered,
            room: PART.checked_sub(held).unwrap_or_default(),
        })?;
        self.write(committer, bytes)?;
        self.keep_tail(bytes);
        Ok(())
    }

    fn write(&mut self, committer: &Committer, bytes: &[u8]) -> Result<(), StoreError> {
        match &mut self.sink {
            Sink::Small(small) if small.len() + bytes.len() <= SMALL_MAX => small.extend_from_slice(bytes),
            _ => {
                let mut object = self.take_object(committer)?;
                object.write(bytes)?;
                self.sink = Sink::Object(object);
            }
        }
        Ok(())
    }

    /// Takes the object out of the sink, having made it of the buffer if there is none yet. Until it is put back the
    /// sink is broken: what the disk refused half is never taken for whole.
    fn take_object(&mut self, committer: &Committer) -> Result<Box<PendingObject>, StoreError> {
        match std::mem::replace(&mut self.sink, Sink::Broken) {
            Sink::Small(small) => {
                let mut object = Box::new(committer.begin_object()?);
                object.write(&small)?;
                Ok(object)
            }
            Sink::Object(object) => Ok(object),
            Sink::Broken => Err(StoreError::BrokenRun),
        }
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let wanted = usize::try_from(self.hasher.tail_length().get()).expect("a tail is at most a segment");
        if bytes.len() >= wanted {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - wanted..]);
        } else {
            self.tail.extend_from_slice(bytes);
            self.tail.drain(..self.tail.len() - wanted);
        }
    }

    /// Ends the run with the part as it is. The part must not be empty.
    ///
    /// Returns what goes into an object, and which bytes of the file that is.
    ///
    /// # Errors
    /// [`StoreError::BrokenRun`] if an earlier push failed.
    pub fn whole(self) -> Result<(Bytes, Span), StoreError> {
        let span = self.span_up_to(self.length());
        match self.sink {
            Sink::Small(bytes) => Ok((Bytes::Small(bytes), span)),
            Sink::Object(object) => Ok((Bytes::Object(object), span)),
            Sink::Broken => Err(StoreError::BrokenRun),
        }
    }

    /// Ends the run early: whole segments become a fragment, the rest a tail. The part must not be empty.
    ///
    /// # Errors
    /// [`StoreError::BrokenRun`] if an earlier push failed.
    pub fn cut(self) -> Result<CutRun, StoreError> {
        let (state, have) = (self.hasher.state(), self.hasher.length());
        let span = self.span_up_to(state.length());
        let bytes = match self.sink {
            Sink::Broken => return Err(StoreError::BrokenRun),
            _ if span.is_empty() => Bytes::None,
            Sink::Small(mut bytes) => {
                bytes.truncate(usize::try_from(span.length().get()).expect("it lies in memory"));
                Bytes::Small(bytes)
            }
            Sink::Object(object) => Bytes::Object(object),
        };
        Ok(CutRun { bytes, span, state, tail: self.tail, have })
    }

    /// Returns the bytes of the file from `base` up to `length` bytes into the part.
    fn span_up_to(&self, length: Length) -> Span {
        let start = self.hasher.part().start();
        let at =
            |length| -> Offset { start.checked_add(length).expect("a part lies below the largest size") };
        Span::new(at(self.base), at(length)).expect("the state never falls behind its base")
    }
}

/// Writes an open hashing state and its tail as one value, to be sealed: `u16 BE length of state ‖ state ‖ tail`.
pub fn encode_open(state: &OpenState, tail: &[u8]) -> Vec<u8> {
    let state = state.encode();
    let length = u16::try_from(state.len()).expect("a state has at most eight values");
    [&length.to_be_bytes()[..], &state, tail].concat()
}

/// Reads what [`encode_open`] wrote.
pub fn decode_open(bytes: &[u8]) -> Option<(OpenState, Vec<u8>)> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (state, tail) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let fits = !tail.is_empty() && Length::of(tail) <= SEGMENT;
    Some((OpenState::decode(state).ok().filter(|_| fits)?, tail.to_vec()))
}
