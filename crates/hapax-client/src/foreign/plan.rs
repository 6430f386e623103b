//! What is known of a fetch between processes. Owns the records of its checkpoint, and the temporary file that they
//! name.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hapax_proto::digest::{Algorithm, Digests, Hasher};
use hapax_proto::pin::foreign::{Held, Opening, Version};
use hapax_proto::pin::spans::Spans;
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::validator::{EntityTag, HttpDate};
use serde::{Deserialize, Serialize};

use super::line::Body;
use super::probe::Opened;
use crate::checkpoint::Log;
use crate::error::TransferError;
use crate::sink::{FileId, Sink, room_beside};
use crate::source::Source;

/// One line of a fetch's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Record {
    /// This version is fetched into this file.
    Version { version: Saved, target: PathBuf, temporary: PathBuf, id: FileId },
    /// These bytes are in it, and on disk: all of them, as start and end.
    Solid { spans: Vec<[u64; 2]> },
    /// All of it is in it, so many bytes, proven and on disk; next it gets its name.
    Whole { size: u64 },
}

/// A version in a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The entity tag as the server wrote it, which need not be text.
    tag: Option<Vec<u8>>,
    modified: Option<u64>,
    date_is_strong: bool,
    size: Option<u64>,
    media_type: Option<String>,
    digests: Digests,
}

impl From<&Version> for Saved {
    fn from(version: &Version) -> Self {
        Self {
            tag: version.tag.as_ref().map(|tag| tag.to_value().as_bytes().to_vec()),
            modified: version.modified.map(HttpDate::seconds),
            date_is_strong: version.date_is_strong,
            size: version.size.map(Length::get),
            media_type: version.media_type.clone(),
            digests: version.digests.clone(),
        }
    }
}

impl From<&Saved> for Version {
    fn from(saved: &Saved) -> Self {
        Self {
            tag: saved.tag.as_deref().and_then(EntityTag::parse),
            modified: saved.modified.map(HttpDate::from_seconds),
            date_is_strong: saved.date_is_strong,
            size: saved.size.map(Length::new),
            media_type: saved.media_type.clone(),
            digests: saved.digests.clone(),
        }
    }
}

/// A file that is being filled with a version.
pub(super) struct Begun {
    pub(super) sink: Sink,
    id: FileId,
    pub(super) target: PathBuf,
    pub(super) version: Version,
    /// What pins it, if anything does.
    pub(super) held: Option<Held>,
    /// What is in it.
    pub(super) here: Spans,
    /// How many bytes that are.
    pub(super) kept: Length,
    /// The first answer, if this process got it and nobody has taken it yet.
    body: Mutex<Option<Body>>,
    /// Whether that answer has all of it.
    pub(super) is_whole: bool,
}

impl Begun {
    /// Tells whether more than one answer may be put together.
    pub(super) fn goes_on(&self, opening: Opening) -> bool {
        self.held.is_some() && opening == Opening::Range
    }

    /// Takes the first answer.
    pub(super) fn take_body(&self) -> Option<Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the records that name what was begun.
    pub(super) fn records(&self) -> Vec<Record> {
        vec![Record::Version {
            version: Saved::from(&self.version),
            target: self.target.clone(),
            temporary: self.sink.path().to_owned(),
            id: self.id,
        }]
    }
}

/// Begins a file with a first answer.
///
/// # Errors
/// [`TransferError::NoRoom`] if the version is larger than the room there is.
pub(super) async fn begin(
    log: &Log<Record>,
    (target, opened): (PathBuf, Opened),
    known: &Digests,
) -> Result<Begun, TransferError> {
    let version = opened.version;
    if let (Some(size), Some(room)) = (version.size, room_beside(&target).await)
        && size > room
    {
        return Err(TransferError::NoRoom { path: target.display().to_string(), size, room });
    }
    // It grows: what a server claims about a size must not cost anything before it is true.
    let (sink, id) = Sink::create(&target, Length::ZERO).await?;
    let held = version.held(known);
    let body = Mutex::new(Some(opened.body));
    let here = Spans::default();
    let is_whole = opened.is_whole;
    let begun = Begun { sink, id, target, version, held, here, kept: Length::ZERO, body, is_whole };
    log.append(begun.records()).await?;
    log.sync().await?;
    Ok(begun)
}

/// Finds the file of the records, if it is there and its version is pinned by something.
pub(super) async fn recall(records: &[Record], known: &Digests) -> Result<Option<Begun>, TransferError> {
    let (mut found, mut here) = (None, Spans::default());
    for record in records {
        match record {
            Record::Version { version, target, temporary, id } => {
                (found, here) = (Some((version, target, temporary, *id)), Spans::default());
            }
            Record::Solid { spans } => {
                here = spans.iter().filter_map(|[start, end]| span(*start, *end)).collect();
            }
            // The same was said by its spans, where there are any.
            Record::Whole { .. } => {}
        }
    }
    let Some((saved, target, temporary, id)) = found else { return Ok(None) };
    let version = Version::from(saved);
    let Some(held) = version.held(known) else { return Ok(None) };
    let kept = here.length();
    let least = here.iter().last().map_or(Length::ZERO, |last| Length::new(last.end().get()));
    let Some(sink) = Sink::reopen_growing(temporary, id, least).await? else { return Ok(None) };
    let target = target.clone();
    let body = Mutex::new(None);
    Ok(Some(Begun { sink, id, target, version, held: Some(held), here, kept, body, is_whole: false }))
}

/// Finds the file of the records under its target's name, as long as it was when it was whole: then an earlier process ended
/// between giving it that name and saying so. What was not whole yet was given the name by somebody else.
pub(super) async fn published(
    records: &[Record],
) -> Result<Option<(PathBuf, Length, Version)>, TransferError> {
    let mut whole = None;
    for record in records.iter().rev() {
        match record {
            Record::Whole { size } => whole = whole.or(Some(Length::new(*size))),
            Record::Solid { .. } => {}
            Record::Version { version, target, id, .. } => {
                let Some(size) = whole else { return Ok(None) };
                let file = Sink::reopen(target, *id, size).await?;
                return Ok(file.map(|_| (target.clone(), size, Version::from(version))));
            }
        }
    }
    Ok(None)
}

/// Takes note that a file is whole.
///
/// DURABILITY: on return its bytes are on disk, and the record behind them.
pub(super) async fn note_whole(log: &Log<Record>, sink: &Sink, size: Length) -> Result<(), TransferError> {
    sink.sync().await?;
    log.append([Record::Whole { size: size.get() }]).await?;
    log.sync().await
}

/// Returns the version that the records name last, pinned or not.
pub(super) fn last_version(records: &[Record]) -> Option<Version> {
    records.iter().rev().find_map(|record| match record {
        Record::Version { version, .. } => Some(Version::from(version)),
        Record::Solid { .. } | Record::Whole { .. } => None,
    })
}

fn span(start: u64, end: u64) -> Option<Span> {
    Span::new(Offset::new(start), Offset::new(end))
}

/// Removes the temporary file that the records name, and the records.
pub(super) async fn forget(log: &Log<Record>, records: Vec<Record>) -> Result<(), TransferError> {
    for record in records {
        if let Record::Version { temporary, id, .. } = record
            && let Some(sink) = Sink::reopen_growing(&temporary, id, Length::ZERO).await?
        {
            sink.discard().await?;
        }
    }
    log.clear().await
}

/// Makes the record of what is on disk.
pub(super) fn solid(spans: &Spans) -> Record {
    Record::Solid { spans: spans.iter().map(|span| [span.start().get(), span.end().get()]).collect() }
}

/// Hashes a file that is there, and returns its size.
pub(super) async fn digests_of(
    path: &Path,
    algorithms: impl Iterator<Item = Algorithm>,
) -> Result<(Digests, Length), TransferError> {
    let (file, facts) = Source::open(path).await?;
    let (size, mut hasher) = (facts.size(), Hasher::new(algorithms));
    let mut pieces = file.read(Span::whole(size));
    while let Some(piece) = pieces.recv().await {
        hasher.update(&piece.map_err(|error| TransferError::io("read", path, error))?);
    }
    Ok((hasher.digests(), size))
}
