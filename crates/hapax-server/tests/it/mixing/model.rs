//! What an upload must be after any requests: the reference that the server is compared with. It knows no wire, no
//! store and no time; bytes are told apart by the version of the source they come from.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use hapax_proto::digest::FileHash;
use hapax_proto::tree::{PartHasher, PartNumber, PartValue};

/// The length of a part.
pub(super) const P: u64 = 16 << 20;
/// The longest source.
pub(super) const LONGEST: u64 = 2 * P + 200_000;
/// How many versions of the source there are.
pub(super) const VERSIONS: usize = 3;

/// The source in each of its versions: at no offset do two of them have the same byte.
static SOURCES: LazyLock<[Vec<u8>; VERSIONS]> = LazyLock::new(|| {
    let mut first = vec![0; index(LONGEST)];
    blake3::Hasher::new().update(b"mixing").finalize_xof().fill(&mut first);
    [0x00, 0x55, 0xAA].map(|version| first.iter().map(|byte| byte ^ version).collect())
});

/// Returns bytes of a version of the source.
pub(super) fn source(version: usize, span: Range<u64>) -> &'static [u8] {
    &SOURCES[version][index(span.start)..index(span.end)]
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

/// What is held of a part: its first bytes, each run from one version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Part {
    /// Where in the part each run ends, and its version.
    runs: Vec<(u64, usize)>,
    /// Whether it counts as all of the part.
    pub(super) whole: bool,
}

impl Part {
    pub(super) fn have(&self) -> u64 {
        self.runs.last().map_or(0, |(end, _)| *end)
    }

    /// The first bytes of it.
    fn cut(&self, length: u64) -> Self {
        let mut runs = Vec::new();
        let mut from = 0;
        for &(end, version) in &self.runs {
            if from < length {
                runs.push((end.min(length), version));
            }
            from = end;
        }
        Self { runs, whole: false }
    }

    /// It, and behind its first `from` bytes others.
    pub(super) fn then(&self, from: u64, length: u64, version: usize) -> Self {
        let mut part = self.cut(from);
        match part.runs.last_mut() {
            Some((end, last)) if *last == version => *end += length,
            _ if length > 0 => part.runs.push((from + length, version)),
            _ => {}
        }
        part
    }

    /// Tells whether it begins with these very bytes.
    fn begins_with(&self, other: &Self) -> bool {
        self.have() >= other.have() && self.cut(other.have()).runs == other.runs
    }

    pub(super) fn bytes(&self, number: u32) -> Vec<u8> {
        let start = u64::from(number) * P;
        let mut bytes = Vec::new();
        for &(end, version) in &self.runs {
            let from = start + bytes.len() as u64;
            bytes.extend_from_slice(source(version, from..start + end));
        }
        bytes
    }

    pub(super) fn value(&self, number: u32) -> PartValue {
        let mut hasher = PartHasher::new(PartNumber::new(number));
        hasher.update(&self.bytes(number)).unwrap();
        hasher.value().expect("a part that is not empty has a value")
    }
}

/// Where it is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    Done,
    Cancelled,
}

/// An upload.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) life: Life,
    pub(super) size: Option<u64>,
    pub(super) parts: BTreeMap<u32, Part>,
}

impl Model {
    pub(super) fn new(size: Option<u64>) -> Self {
        Self { life: Life::Open, size, parts: BTreeMap::new() }
    }

    /// Returns what is held of a part.
    pub(super) fn part(&self, number: u32) -> Part {
        self.parts.get(&number).cloned().unwrap_or_default()
    }

    pub(super) fn put(&mut self, number: u32, part: Part) {
        if part.runs.is_empty() {
            self.parts.remove(&number);
        } else {
            self.parts.insert(number, part);
        }
    }

    /// How long a part is when all of it is there.
    pub(super) fn length_of(&self, number: u32) -> Option<u64> {
        let start = u64::from(number) * P;
        match self.size {
            Some(size) => size.checked_sub(start).filter(|left| *left > 0).map(|left| left.min(P)),
            None => Some(P),
        }
    }

    /// How long a part is when all of it is there, if a run ends at `end` in it: while nobody knows where the file ends,
    /// a run says where its part does.
    pub(super) fn whole_by(&self, number: u32, end: u64) -> Option<u64> {
        if self.size.is_some() { self.length_of(number) } else { Some(end.min(P)) }
    }

    /// Returns what a run makes of a part.
    pub(super) fn with_run(&self, number: u32, from: u64, length: u64, version: usize) -> Part {
        let mut part = self.part(number).then(from, length, version);
        part.whole = self.whole_by(number, from + length) == Some(from + length);
        part
    }

    /// Where the contiguous prefix ends.
    pub(super) fn durable(&self) -> u64 {
        let mut number = 0;
        while let Some(part) = self.parts.get(&number).filter(|part| part.have() == P) {
            debug_assert!(part.whole);
            number += 1;
        }
        u64::from(number) * P + self.part(number).have()
    }

    /// Takes in bytes behind the prefix. What is there longer stays if it begins with the same bytes; otherwise the new
    /// ones supersede it.
    pub(super) fn append(&mut self, length: u64, version: usize) {
        let (mut at, mut left) = (self.durable(), length);
        while left > 0 {
            let number = u32::try_from(at / P).unwrap();
            let from = at % P;
            let whole = self.length_of(number).expect("bytes behind the end are refused");
            let now = left.min(whole - from);
            let old = self.part(number);
            let mut new = old.then(from, now, version);
            new.whole = from + now == whole;
            let stays = old.have() > new.have() && old.begins_with(&new);
            if !stays {
                self.put(number, new);
            }
            at += now;
            left -= now;
        }
    }

    /// Takes the last part for whole: somebody said that the file ends there.
    pub(super) fn close(&mut self, size: u64) {
        let last = u32::try_from(size.saturating_sub(1) / P).unwrap();
        if let Some(part) = self.parts.get_mut(&last) {
            part.whole = true;
        }
    }

    /// Returns the durable spans, joined.
    pub(super) fn received(&self) -> Vec<(u64, u64)> {
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for (number, part) in &self.parts {
            let start = u64::from(*number) * P;
            let end = start + part.have();
            match spans.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => spans.push((start, end)),
            }
        }
        spans
    }

    /// Returns the bytes of a durable span.
    pub(super) fn bytes(&self, span: Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = span.start;
        while at < span.end {
            let number = u32::try_from(at / P).unwrap();
            let start = u64::from(number) * P;
            let part = self.part(number).bytes(number);
            let end = (start + part.len() as u64).min(span.end);
            assert!(end > at, "{span:?} is not all there");
            bytes.extend_from_slice(&part[index(at - start)..index(end - start)]);
            at = end;
        }
        bytes
    }

    /// Returns the digest of the prefix.
    pub(super) fn prefix_digest(&self) -> FileHash {
        FileHash::of(&self.bytes(0..self.durable()))
    }

    /// Tells whether every byte of the file is there.
    pub(super) fn is_full(&self) -> bool {
        self.size == Some(self.durable())
    }
}
