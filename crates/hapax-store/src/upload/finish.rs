//! The end of an upload that becomes a file: first its bytes are compared with what was declared, which may take reading
//! all of them, then they get their name. Two steps, for a name that is taken must not cost the reading once more.

use hapax_proto::digest::{Algorithm, Digest, Digests, FileHash, Identity};
use hapax_proto::span::{Length, Span};

use super::check_declared;
use crate::catalog::{Expect, Source, Upload};
use crate::error::StoreError;
use crate::job::{Pace, UNPACED};
use crate::publish::{Published, Target};
use crate::store::Store;

/// What an upload is: everything that was declared agrees with it.
#[derive(Debug, Clone)]
pub struct Verified {
    pub(crate) identity: Identity,
    /// What was computed besides.
    pub(crate) others: Digests,
}

impl Store {
    /// Makes an upload visible as a file: no byte is copied. The caller decided that it is complete.
    ///
    /// If anything else than BLAKE3 was declared at creation, all bytes are read once for it: this blocks for as long as
    /// that takes, and the result is kept.
    ///
    /// # Errors
    /// As [`Store::verify_upload`] and [`Store::finish_verified`].
    pub fn finish_upload(
        &self,
        upload: &Upload,
        size: Length,
        expect: Expect,
        declared: Option<FileHash>,
    ) -> Result<Published, StoreError> {
        let verified = self.verify_upload(upload, size, declared, UNPACED)?;
        self.finish_verified(upload, expect, &verified)
    }

    /// Compares a complete upload with what was declared, now and at its creation. Blocks for as long as reading takes, if
    /// that was anything else than BLAKE3.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] if the content is not what was declared now or at creation: the upload stays open.
    /// [`Refusal::Incomplete`](crate::catalog::Refusal::Incomplete). [`StoreError::Stopped`].
    pub fn verify_upload(
        &self,
        upload: &Upload,
        size: Length,
        declared: Option<FileHash>,
        go: Pace<'_>,
    ) -> Result<Verified, StoreError> {
        let identity = Identity { blake3: self.upload_root(upload, size)?, size };
        let ours: Digests = [Digest::from(identity.blake3)].into_iter().collect();
        let now: Digests = declared.map(Digest::from).into_iter().collect();
        let at_creation = self.declared(upload)?;
        check_declared(&now, &ours)?;
        check_declared(&at_creation, &ours)?;
        let others = at_creation.algorithms().filter(|algorithm| *algorithm != Algorithm::Blake3);
        let others = self.read_upload(upload).digests_at(Span::whole(size), others, go)?;
        let others = others.ok_or(StoreError::Stopped)?;
        check_declared(&at_creation, &others)?;
        Ok(Verified { identity, others })
    }

    /// Makes an upload visible as the file that it was found to be.
    ///
    /// # Errors
    /// [`Refusal::Unexpected`](crate::catalog::Refusal::Unexpected) and the other refusals of
    /// [`Publish`](crate::catalog::Publish).
    pub fn finish_verified(
        &self,
        upload: &Upload,
        expect: Expect,
        verified: &Verified,
    ) -> Result<Published, StoreError> {
        let source = Source::Upload {
            id: upload.id,
            generation: upload.generation,
            content_version: upload.content_version,
        };
        let target =
            Target { space: upload.space, path: upload.path.clone(), expect, meta: upload.meta.clone() };
        let published = self.publish(target, source, verified.identity)?;
        if !verified.others.is_empty() {
            self.keep_digests_of(upload.space, &published.fingerprint, &verified.others);
        }
        Ok(published)
    }
}
