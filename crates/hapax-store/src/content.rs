//! Contents: reading a span across extents. Owns the way from a span of a file to the sealed objects that hold it;
//! every byte that comes out was authenticated on the way (R5).
//!
//! ```text
//!   span of the file   [─────────────────)
//!   extents          [── a ──)[── b ──)[── c ──)
//!   objects             └ read    └ read   └ read, each opened once and kept while the reading goes on in it
//! ```

use hapax_proto::name::EntryPath;
use hapax_proto::span::{Length, Span};

use crate::catalog::{Blob, BlobId, ContentId, Entry, EntryKind, Extent, SpaceId};
use crate::committer::Stores;
use crate::error::StoreError;
use crate::id::ObjectName;
use crate::job::{Go, Pace};
use crate::key::Fingerprint;
use crate::seal::{Purpose, Row};
use crate::sealed::SealedReader;
use crate::store::Store;

/// Extents looked up at a time.
const WINDOW: usize = 64;

/// How many bytes are read at a time where a long span is read.
pub(crate) const CHUNK: Length = Length::new(256 << 10);

/// Reads the bytes of one content.
pub struct ContentReader {
    stores: Stores,
    content: ContentId,
    size: Length,
    /// The extents around where was read last.
    window: Vec<Extent>,
    /// The object that was read last.
    open: Option<(ObjectName, SealedReader)>,
    /// Whether the window is all there is, and was so at one moment; else the catalog is asked as the reading goes on.
    fixed: bool,
    /// The whole content, if the catalog holds it itself.
    inline: Option<Vec<u8>>,
    /// Where the same bytes are found if this copy of them is given up.
    shown: Option<Shown>,
}

/// What shows a content, whichever copy of it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The blob. Its content is another one once another copy proved to be better.
    pub blob: BlobId,
    /// The file, and what its entity tag is made of. It shows another blob once its own proved to be that one's equal.
    pub entry: Option<(SpaceId, EntryPath, Fingerprint)>,
}

impl Store {
    /// Begins to read a blob. Concurrent: never waits for a writer, nor for the committer.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if a blob that is kept in the catalog fails authentication.
    pub fn read_blob(&self, blob: &Blob) -> Result<ContentReader, StoreError> {
        let mut reader = ContentReader::new(&self.stores, blob.content, blob.size);
        reader.inline = open_inline(&self.stores, blob)?;
        Ok(reader)
    }

    pub(crate) fn seal_inline(&self, fingerprint: &Fingerprint, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.stores.ring.small().seal(Purpose::Inline, &inline_row(fingerprint), bytes)
    }
}

/// Opens a content that the catalog holds itself.
fn open_inline(stores: &Stores, blob: &Blob) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(sealed) = stores.catalog.inline(blob.content)? else { return Ok(None) };
    let bytes = stores.ring.small().open(Purpose::Inline, &inline_row(&blob.fingerprint), &sealed)?;
    if Length::of(&bytes) != blob.size {
        return Err(damaged("an inline content", "it has another length than its blob"));
    }
    Ok(Some(bytes))
}

fn inline_row(fingerprint: &Fingerprint) -> Row<'_> {
    Row { table: "inline", key: &fingerprint.0, version: 0 }
}

fn damaged(what: impl Into<String>, why: &'static str) -> StoreError {
    StoreError::Corrupt { what: what.into(), why }
}

impl ContentReader {
    /// Reads extents; a content that is kept in the catalog is for [`Store::read_blob`].
    pub(crate) fn new(stores: &Stores, content: ContentId, size: Length) -> Self {
        Self {
            stores: stores.clone(),
            content,
            size,
            window: Vec::new(),
            open: None,
            fixed: false,
            inline: None,
            shown: None,
        }
    }

    /// Lets the reading go on in another copy of the same bytes if this one is given up. Not for whoever judges a copy.
    #[must_use]
    pub fn shown_by(self, shown: Shown) -> Self {
        Self { shown: Some(shown), ..self }
    }

    /// Reads these extents of a content, ascending, whatever becomes of it meanwhile: objects never change, and what is
    /// dropped stays for a while.
    pub(crate) fn of_extents(
        stores: &Stores,
        content: ContentId,
        size: Length,
        extents: Vec<Extent>,
    ) -> Self {
        Self { window: extents, fixed: true, ..Self::new(stores, content, size) }
    }

    /// Goes on to another blob, with the object that is open: small files of one moment share one.
    ///
    /// # Errors
    /// As [`Store::read_blob`].
    pub fn turn_to(self, store: &Store, blob: &Blob) -> Result<Self, StoreError> {
        Ok(Self { open: self.open, ..store.read_blob(blob)? })
    }

    /// Returns how long the content is.
    pub fn size(&self) -> Length {
        self.size
    }

    /// Appends the bytes of a span to `out`. Blocks; ask for about 256 KiB at a time.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if any segment that was touched fails authentication or bytes are missing: then nothing
    /// that was appended may be used, and `out` is as it was.
    pub fn read(&mut self, span: Span, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let before = out.len();
        let read = self.read_all(span, out);
        if read.is_err() {
            out.truncate(before);
        }
        read
    }

    /// Reads a span and hands its bytes to `take`, a chunk at a time. Blocks for as long as that takes; `go` is asked
    /// before each chunk. Tells whether it was let finish.
    ///
    /// # Errors
    /// As [`ContentReader::read`]: then no byte may be used, for those that came first are not the content.
    pub fn each_chunk(
        &mut self,
        span: Span,
        go: Pace<'_>,
        mut take: impl FnMut(&[u8]),
    ) -> Result<Go, StoreError> {
        let (mut rest, mut bytes) = (span, Vec::new());
        while !rest.is_empty() {
            let chunk =
                Span::at(rest.start(), rest.length().min(CHUNK)).expect("a chunk lies within the rest");
            if go(chunk.length()) == Go::Stop {
                return Ok(Go::Stop);
            }
            bytes.clear();
            self.read(chunk, &mut bytes)?;
            take(&bytes);
            rest = Span::new(chunk.end(), rest.end()).expect("a chunk lies within the rest");
        }
        Ok(Go::On)
    }

    fn read_all(&mut self, span: Span, out: &mut Vec<u8>) -> Result<(), StoreError> {
        if !Span::whole(self.size).contains(span) {
            return Err(damaged(format!("content {}", self.content), "a span behind its end was asked for"));
        }
        if let Some(bytes) = &self.inline {
            out.extend_from_slice(&bytes[to_usize(span.start().get())..to_usize(span.end().get())]);
            return Ok(());
        }
        let mut next = span.start();
        while next < span.end() {
            let rest = Span::new(next, span.end()).expect("the loop stops at the end");
            let extent = match self.extent_at(rest) {
                Err(StoreError::Corrupt { .. }) if self.turn_to_other_copy()? => {
                    return self.read_all(rest, out);
                }
                found => found?,
            };
            let piece = extent.span.intersection(rest).expect("the extent was found by this span");
            if piece.start() != next {
                return Err(damaged(format!("content {}", self.content), "it has a hole"));
            }
            self.read_piece(&extent, piece, out)?;
            next = piece.end();
        }
        Ok(())
    }

    /// Finds the extent that holds the first byte of a span, from the window or from the catalog.
    fn extent_at(&mut self, span: Span) -> Result<Extent, StoreError> {
        let held = |window: &[Extent]| {
            let i = window.partition_point(|extent| extent.span.end() <= span.start());
            window.get(i).filter(|extent| extent.span.intersection(span).is_some()).cloned()
        };
        if let Some(extent) = held(&self.window) {
            return Ok(extent);
        }
        if self.fixed {
            return Err(damaged(format!("content {}", self.content), "it has a hole"));
        }
        let ahead = Span::new(span.start(), self.size.end()).unwrap_or(span);
        self.window = self.stores.catalog.extents(self.content, ahead, WINDOW)?;
        held(&self.window).ok_or_else(|| damaged(format!("content {}", self.content), "it ends too early"))
    }

    /// Turns to the copy that is shown by now; tells whether that is another one.
    fn turn_to_other_copy(&mut self) -> Result<bool, StoreError> {
        let Some(shown) = &mut self.shown else { return Ok(false) };
        let catalog = self.stores.catalog.as_ref();
        let live = catalog.blobs(Some(BlobId(shown.blob.0 - 1)), 1)?.into_iter().map(|(blob, _)| blob);
        let mut now = live.into_iter().find(|blob| blob.id == shown.blob);
        if now.is_none()
            && let Some((space, path, tagged)) = &shown.entry
            && let Some(Entry { kind: EntryKind::File { blob, entity, .. }, .. }) =
                catalog.entry(*space, path)?
            && entity == *tagged
        {
            now = Some(blob);
        }
        let Some(now) = now.filter(|now| now.content != self.content && now.size == self.size) else {
            return Ok(false);
        };
        shown.blob = now.id;
        (self.content, self.open) = (now.content, None);
        self.window.clear();
        self.inline = open_inline(&self.stores, &now)?;
        Ok(true)
    }

    fn read_piece(&mut self, extent: &Extent, piece: Span, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let skipped = piece.start().since(extent.span.start()).expect("the piece lies in the extent");
        let start = extent
            .object_start
            .checked_add(skipped)
            .ok_or_else(|| damaged(format!("content {}", self.content), "an extent lies too far out"))?;
        let filled = out.len();
        out.resize(filled + to_usize(piece.length().get()), 0);
        match self.object(extent).and_then(|object| object.read(start, &mut out[filled..])) {
            Err(StoreError::MissingObject { .. }) if !self.fixed => {
                // Compaction may have moved the bytes since the window was filled: look once more, then give up.
                self.open = None;
                self.window.clear();
                if self.extent_at(piece).is_ok_and(|again| again == *extent) {
                    return Err(StoreError::MissingObject { name: extent.object.to_string() });
                }
                out.truncate(filled);
                self.read_all(piece, out)
            }
            read => read,
        }
    }

    fn object(&mut self, extent: &Extent) -> Result<&SealedReader, StoreError> {
        if self.open.as_ref().is_none_or(|(name, _)| *name != extent.object) {
            let (objects, ring) = (self.stores.objects.as_ref(), &self.stores.ring);
            let reader = SealedReader::open(objects, ring, extent.object, extent.object_length)?;
            self.open = Some((extent.object, reader));
        }
        Ok(&self.open.as_ref().expect("it was opened just now").1)
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a span that is read at once fits into memory")
}
