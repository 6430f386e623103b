//! How far an upload's contiguous prefix reaches, told after every part without going through all parts again. The
//! memory here is a hint: the catalog is asked for everything behind it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use hapax_proto::span::{Length, Offset, SIZE_MAX, Span};
use hapax_proto::tree::{PART, PartNumber};
use hapax_store::catalog::{LaneId, Upload, UploadId};
use hapax_store::error::StoreError;
use hapax_store::store::Store;

/// Extents looked at together.
const PAGE: usize = 256;
/// Uploads remembered; beyond it all are forgotten, which costs one longer look each.
const REMEMBERED_MAX: usize = 16_384;

/// Remembers up to where uploads were seen to be whole.
///
/// INVARIANT: what is remembered is a border of parts before which every part was whole. A whole part is only ever
/// replaced by another, except by a resize, which raises the generation.
#[derive(Debug, Default)]
pub struct Prefixes(Mutex<HashMap<UploadId, (u32, Offset)>>);

impl Prefixes {
    /// Returns the end of the durable contiguous prefix. Blocks.
    ///
    /// # Errors
    /// The catalog's.
    pub fn end(&self, store: &Store, upload: &Upload) -> Result<Offset, StoreError> {
        let hint = self.recall(upload);
        let end = walk(store, upload, hint)?;
        self.remember(upload, end);
        match PartNumber::holding(end) {
            None => Ok(end),
            // A prefix of the next part may be kept, its last bytes outside of extents.
            Some(part) => {
                let open = store.catalog().lane(upload.id, LaneId::Part(part))?.and_then(|lane| lane.open);
                let kept = open.and_then(|open| open.part.start().checked_add(open.have));
                Ok(kept.map_or(end, |kept| kept.max(end)))
            }
        }
    }

    /// Forgets an upload whose parts are no longer what they were.
    pub fn forget(&self, upload: UploadId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&upload);
    }

    fn recall(&self, upload: &Upload) -> Offset {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match remembered.get(&upload.id) {
            Some((generation, offset)) if *generation == upload.generation => *offset,
            _ => Offset::ZERO,
        }
    }

    fn remember(&self, upload: &Upload, end: Offset) {
        let border = Offset::new(end.get() - end.get() % PART.get());
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(upload.id, (upload.generation, border));
    }
}

/// Follows extents that adjoin, from an offset that is known to be reached.
fn walk(store: &Store, upload: &Upload, from: Offset) -> Result<Offset, StoreError> {
    let mut end = from;
    loop {
        let Some(rest) = Span::new(end, Length::new(SIZE_MAX).end()) else {
            return Ok(end);
        };
        let page = store.catalog().extents(upload.content, rest, PAGE)?;
        for extent in &page {
            if extent.span.start() > end {
                return Ok(end);
            }
            end = end.max(extent.span.end());
        }
        if page.len() < PAGE {
            return Ok(end);
        }
    }
}
