//! What every catalog must do, as tests: by name in `rules`, at random in `random`, and what only the embedded
//! engine promises in `embedded`. Owns the small universe they all play in.

use hapax_proto::name::EntryPath;
use hapax_proto::span::{Length, Offset, SIZE_MAX, Span};

use super::{Answer, Catalog, Extent, Intent, Refusal, UploadId};
use crate::id::{DirId, ObjectId, ObjectName};
use crate::key::Fingerprint;

mod rules;
mod random;
mod embedded;

/// The unit of all sizes here: two cells are one part.
const CELL: u64 = 8 << 20;

fn cells(count: u64) -> Length {
    Length::new(count * CELL)
}

/// The span of `count` cells from the cell `first` on.
fn span(first: u64, count: u64) -> Span {
    Span::at(Offset::new(first * CELL), cells(count)).unwrap()
}

fn whole() -> Span {
    Span::whole(Length::new(SIZE_MAX))
}

fn path(text: &str) -> EntryPath {
    EntryPath::parse(text).unwrap()
}

fn object(number: u8) -> ObjectId {
    ObjectId::from_bytes([number; 16])
}

fn upload(number: u8) -> UploadId {
    UploadId([number; 16])
}

fn fingerprint(number: u8) -> Fingerprint {
    Fingerprint([number; 32])
}

/// An extent over `count` cells from `first` on, in an object of just that length.
fn extent(first: u64, count: u64, dir: DirId, number: u8) -> Extent {
    Extent {
        span: span(first, count),
        object: ObjectName { dir, id: object(number) },
        object_length: cells(count),
        object_start: Offset::ZERO,
        value: None,
    }
}

/// Makes one change.
#[track_caller]
fn commit(catalog: &dyn Catalog, intent: Intent) -> Answer {
    let mut answers = catalog.commit(&[intent]).unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// Two engines may say in different words why an intent contradicts itself.
fn without_words(answer: Answer) -> Answer {
    match answer {
        Err(Refusal::Malformed(_)) => Err(Refusal::Malformed("")),
        other => other,
    }
}
