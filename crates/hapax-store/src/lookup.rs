//! Lookup digests: a job that computes the digests by which contents are found that their owners know by MD5, SHA-1 or
//! SHA-256. Its state is what is missing in the catalog, so it survives restarts; what it looked at already is remembered
//! in memory only. It decides neither which algorithms are worth it nor how fast it goes: whoever runs it does.
//!
//! ```text
//!   publish ──wakes──▶ job: blobs behind the last one looked at ─▶ read ─▶ digests ─▶ catalog (sealed, lookup)
//!   identify ──turns it back to──▶ the blob that has an identity now
//! ```

use hapax_proto::digest::{Algorithm, Digests};
use hapax_proto::span::{Length, Span};
use tracing::warn;

use crate::catalog::{Blob, Intent};
use crate::error::StoreError;
use crate::job::{Go, Pace};
use crate::store::Store;

/// Blobs looked at in one read of the catalog.
const PAGE: usize = 256;

/// Digests kept in one transaction, and the most bytes read before they are: what a crash costs.
const KEPT_TOGETHER: usize = 64;
const READ_TOGETHER: Length = Length::new(64 << 20);

/// What was computed and is not kept yet.
#[derive(Default)]
struct Computed {
    intents: Vec<Intent>,
    bytes: Length,
}

impl Store {
    /// Waits until a content was published, or identified, since the job last looked.
    pub async fn unhashed(&self) {
        self.looked.changed.notified().await;
    }

    /// Has the job look at every blob again: for those that came back, and those that it could not read.
    pub fn look_at_all_again(&self) {
        self.looked.forget();
    }

    /// Returns how many contents lack a digest by which they should be found.
    pub fn lookup_backlog(&self, algorithms: &[Algorithm]) -> Result<u64, StoreError> {
        self.catalog().unfindable(algorithms)
    }

    /// Computes digests by these algorithms of every blob that lacks one, oldest first, and returns how many blobs it
    /// read. Blocks for as long as that takes; `go` is asked before each blob and every 256 KiB.
    ///
    /// Blobs that were looked at since the store was opened are not looked at again. A blob that cannot be read is left, for
    /// [`Store::look_at_all_again`] and for `check` to name. A blob that was being read when it was told to stop begins anew.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn compute_lookups(&self, algorithms: &[Algorithm], go: Pace<'_>) -> Result<usize, StoreError> {
        let mut read = 0;
        while !algorithms.is_empty() {
            let page = self.looked.advance(|behind| self.catalog().findable(behind, PAGE))?;
            let Some((first, _)) = page.first() else { break };
            let outcome = self.compute_page(&page, algorithms, go, &mut read);
            if !matches!(outcome, Ok(Go::On)) {
                self.looked.turn_back_to(first.id);
                return outcome.map(|_| read);
            }
        }
        Ok(read)
    }

    fn compute_page(
        &self,
        page: &[(Blob, Vec<Algorithm>)],
        algorithms: &[Algorithm],
        go: Pace<'_>,
        read: &mut usize,
    ) -> Result<Go, StoreError> {
        let mut computed = Computed::default();
        for (blob, findable) in page {
            let missing: Vec<_> = algorithms.iter().copied().filter(|it| !findable.contains(it)).collect();
            if missing.is_empty() {
                continue;
            }
            match self.compute_missing(blob, missing, go) {
                Ok(Some(digests)) => {
                    computed.intents.extend(self.digest_intents(blob, &digests)?);
                    computed.bytes = computed.bytes.checked_add(blob.size).unwrap_or(READ_TOGETHER);
                    *read += 1;
                }
                Ok(None) => {
                    self.commit_digests(computed.intents)?;
                    return Ok(Go::Stop);
                }
                Err(
                    error @ (StoreError::Corrupt { .. }
                    | StoreError::MissingObject { .. }
                    | StoreError::Disk { .. }),
                ) => {
                    warn!(blob = %blob.id, %error, "a content cannot be read for its digests");
                    self.report_damage(blob, &error);
                }
                Err(error) => return Err(error),
            }
            if computed.intents.len() >= KEPT_TOGETHER || computed.bytes >= READ_TOGETHER {
                self.commit_digests(std::mem::take(&mut computed).intents)?;
            }
        }
        self.commit_digests(computed.intents)?;
        Ok(Go::On)
    }

    /// Returns the digests that a blob is to be found by and is not; `None` if it was stopped. Those that an older schema
    /// kept are known without reading.
    fn compute_missing(
        &self,
        blob: &Blob,
        missing: Vec<Algorithm>,
        go: Pace<'_>,
    ) -> Result<Option<Digests>, StoreError> {
        let known = self.known_digests(blob)?;
        let (kept, unread): (Vec<_>, Vec<_>) = missing.into_iter().partition(|it| known.get(*it).is_some());
        let kept: Digests = kept.into_iter().filter_map(|algorithm| known.get(algorithm)).collect();
        let is_read = !unread.is_empty() && !blob.size.is_zero();
        if !is_read && go(Length::ZERO) == Go::Stop {
            return Ok(None);
        }
        if unread.is_empty() {
            return Ok(Some(kept));
        }
        let computed = self.read_blob(blob)?.digests_at(Span::whole(blob.size), unread, go)?;
        Ok(computed.map(|computed| computed.iter().chain(kept.iter()).collect()))
    }
}
