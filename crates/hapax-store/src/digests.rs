//! Digests of contents in the algorithms of others: computed by reading the bytes, and kept beside the blob, sealed, so
//! that they are read once. It decides neither whether a digest is worth that nor who may know it.

use hapax_proto::digest::{Algorithm, Digest, Digests, Hasher};
use hapax_proto::span::{Length, Span};

use crate::catalog::{Blob, Intent, Refusal, SpaceId};
use crate::content::ContentReader;
use crate::error::StoreError;
use crate::job::{Go, Pace, UNPACED};
use crate::key::{Fingerprint, Lookup};
use crate::seal::{Purpose, Row};
use crate::store::Store;

impl ContentReader {
    /// Reads a span and returns its digests. Blocks for as long as that takes.
    ///
    /// # Errors
    /// As [`ContentReader::read`].
    pub fn digests(
        &mut self,
        span: Span,
        algorithms: impl IntoIterator<Item = Algorithm>,
    ) -> Result<Digests, StoreError> {
        let computed = self.digests_at(span, algorithms, UNPACED)?;
        Ok(computed.expect("it is never told to stop"))
    }

    /// Does the same at a pace; `None` if it was stopped.
    pub(crate) fn digests_at(
        &mut self,
        span: Span,
        algorithms: impl IntoIterator<Item = Algorithm>,
        go: Pace<'_>,
    ) -> Result<Option<Digests>, StoreError> {
        let algorithms: Vec<_> = algorithms.into_iter().collect();
        let mut hasher = Hasher::new(algorithms.iter().copied());
        let span = if algorithms.is_empty() { Span::default() } else { span };
        let read = self.each_chunk(span, go, |bytes| hasher.update(bytes))?;
        Ok((read == Go::On).then(|| hasher.digests()))
    }
}

impl Store {
    /// Returns the digests of a blob that are known without reading it: its BLAKE3, and those kept. None of one whose
    /// identity was pending when it was looked up: what is kept of it since is sealed for the fingerprint that it has now.
    pub fn known_digests(&self, blob: &Blob) -> Result<Digests, StoreError> {
        let Some(identity) = self.known_identity(blob)? else { return Ok(Digests::default()) };
        let mut known: Digests = [Digest::from(identity.blake3)].into_iter().collect();
        for (algorithm, sealed) in self.catalog().digests(blob.id)? {
            let key = row_key(&blob.fingerprint, algorithm);
            let value = self.stores.ring.small().open(Purpose::Digest, &row(&key), &sealed)?;
            let digest = Digest::new(algorithm, &value).map_err(|_| StoreError::Corrupt {
                what: format!("the {algorithm} of blob {}", blob.id),
                why: "it has another length",
            })?;
            known.insert(digest);
        }
        Ok(known)
    }

    /// Reads a blob for digests of it, and keeps them. Blocks for as long as that takes.
    ///
    /// That they cannot be kept is no error: the next one who asks reads again.
    pub fn compute_digests(
        &self,
        blob: &Blob,
        algorithms: impl IntoIterator<Item = Algorithm>,
    ) -> Result<Digests, StoreError> {
        let computed = self.read_blob(blob)?.digests(Span::whole(blob.size), algorithms)?;
        if let Err(error) = self.keep_digests(blob, &computed) {
            tracing::warn!(%error, blob = %blob.id, "the digests of a blob were computed and are not kept");
        }
        Ok(computed)
    }

    /// Keeps digests of a content that was published just now. Failing to is no error: whoever asks has them computed again.
    pub fn keep_digests_of(&self, space: SpaceId, fingerprint: &Fingerprint, digests: &Digests) {
        let blob = self.catalog().blob_in_space(space, fingerprint);
        let kept = blob.and_then(|blob| blob.map_or(Ok(()), |blob| self.keep_digests(&blob, digests)));
        if let Err(error) = kept {
            tracing::warn!(%error, "verified digests are not kept");
        }
    }

    /// Keeps digests that were computed from the bytes of a blob. A blob that is being given up takes none, nor does one
    /// whose identity was pending when it was looked up: they are sealed for a fingerprint that it will not keep.
    pub fn keep_digests(&self, blob: &Blob, digests: &Digests) -> Result<(), StoreError> {
        self.commit_digests(self.digest_intents(blob, digests)?)
    }

    /// Returns what keeps digests of a blob, each with what the blob is found by.
    pub(crate) fn digest_intents(&self, blob: &Blob, digests: &Digests) -> Result<Vec<Intent>, StoreError> {
        if blob.identity.is_none() {
            return Ok(Vec::new());
        }
        let others = digests.iter().filter(|digest| digest.algorithm() != Algorithm::Blake3);
        let intent = |digest: Digest| {
            let key = row_key(&blob.fingerprint, digest.algorithm());
            let sealed = self.stores.ring.small().seal(Purpose::Digest, &row(&key), digest.value())?;
            Ok(Intent::KeepDigest { blob: blob.id, lookup: self.lookup(&digest, blob.size), sealed })
        };
        others.map(intent).collect()
    }

    /// Makes kept digests durable, all in one go. A blob that is being given up needs none.
    pub(crate) fn commit_digests(&self, intents: Vec<Intent>) -> Result<(), StoreError> {
        let pending: Vec<_> = intents.into_iter().map(|intent| self.committer.commit(intent)).collect();
        for kept in pending {
            match kept.wait() {
                Ok(_) | Err(StoreError::Refused(Refusal::NotLive)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns what contents of a size are found by that have a digest.
    pub fn lookup(&self, digest: &Digest, size: Length) -> Lookup {
        self.stores.ring.lookup(digest, size)
    }

    /// Returns the contents of a space, or of any, that have a digest and a size, at most `limit`. Where the algorithm is not
    /// collision resistant, somebody may have made several.
    pub fn find_by_digest(
        &self,
        space: Option<SpaceId>,
        digest: &Digest,
        size: Length,
        limit: usize,
    ) -> Result<Vec<Blob>, StoreError> {
        self.catalog().blobs_by_digest(space, &self.lookup(digest, size), limit)
    }
}

/// The key of the row that a digest is sealed for: the fingerprint of its blob, and the algorithm's key.
fn row_key(fingerprint: &Fingerprint, algorithm: Algorithm) -> Vec<u8> {
    [&fingerprint.0[..], algorithm.key().as_bytes()].concat()
}

fn row(key: &[u8]) -> Row<'_> {
    Row { table: "digests", key, version: 0 }
}
