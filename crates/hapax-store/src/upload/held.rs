//! What is held of a part, read back: to go on behind bytes whose hashing state was not kept, and to find out whether
//! what is there begins with the very bytes that came again. It commits nothing.

use std::sync::Arc;

use hapax_proto::span::{Length, Span};
use hapax_proto::tree::PartNumber;

use super::{PartIntake, open_tail, span_of};
use crate::catalog::{LaneId, Refusal, Upload};
use crate::error::StoreError;
use crate::intake::PartWriter;
use crate::store::Store;

impl Store {
    /// Goes on behind bytes that lie in objects without a hashing state: a part that counted as whole while the end of
    /// the file was unknown, or one that a new size cut. They are read and hashed again, and become one object with
    /// what follows.
    pub(super) fn reopen_part(
        self: &Arc<Self>,
        upload: &Upload,
        part: PartNumber,
        from: Length,
    ) -> Result<PartWriter, StoreError> {
        if self.length_in_objects(upload, part)? != from {
            return Err(Refusal::Superseded.into());
        }
        let mut bytes = Vec::new();
        let span = Span::at(part.start(), from).expect("a part lies below the largest size");
        self.read_upload(upload).read(span, &mut bytes)?;
        let mut writer = PartWriter::new(part);
        writer.push(&self.committer, &bytes)?;
        Ok(writer)
    }

    /// Returns how many bytes of a part lie in objects in front of the first hole.
    pub(super) fn length_in_objects(&self, upload: &Upload, part: PartNumber) -> Result<Length, StoreError> {
        let extents = self.catalog().extents(upload.content, span_of(part), usize::MAX)?;
        let end = extents.iter().fold(part.start(), |end, extent| {
            if extent.span.start() == end { extent.span.end() } else { end }
        });
        Ok(end.since(part.start()).unwrap_or_default())
    }
}

impl PartIntake {
    /// Tells whether what is held of the part is longer than what came and begins with the very same bytes.
    pub(super) fn is_held(&self) -> Result<bool, StoreError> {
        let have = self.writer.length();
        if self.held <= have {
            return Ok(false);
        }
        let store = &self.store;
        let part = self.part();
        let in_objects = store.length_in_objects(&self.upload, part)?.min(have);
        let mut bytes = Vec::new();
        let span = Span::at(part.start(), in_objects).expect("a part lies below the largest size");
        store.read_upload(&self.upload).read(span, &mut bytes)?;
        let rest = have.checked_sub(in_objects).unwrap_or_default();
        if !rest.is_zero() {
            let lane = LaneId::Part(part);
            let open = store.catalog().lane(self.upload.id, lane)?.and_then(|row| row.open);
            let Some(open) = open else { return Ok(false) };
            let (_, tail) = open_tail(store, self.upload.id, lane, &open)?;
            let rest = usize::try_from(rest.get()).expect("a tail fits into memory");
            let Some(rest) = tail.get(..rest) else { return Ok(false) };
            bytes.extend_from_slice(rest);
        }
        Ok(self.writer.is_of(&bytes))
    }
}
