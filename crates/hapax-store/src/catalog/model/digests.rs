//! Digests of blobs in the algorithms of others, and finding blobs by them.

use hapax_proto::digest::Algorithm;

use super::tables::Tables;
use crate::catalog::{Answer, Blob, BlobId, Outcome, Refusal, SpaceId};
use crate::key::Lookup;

impl Tables {
    pub(super) fn keep_digest(&mut self, blob: BlobId, lookup: &Lookup, sealed: &[u8]) -> Answer {
        let takes = self.blobs.get(&blob).is_some_and(|row| row.orphan.is_none() && row.identity.is_some());
        if !takes {
            return Err(Refusal::NotLive);
        }
        self.digests.insert((blob, lookup.algorithm), (sealed.to_vec(), *lookup));
        Ok(Outcome::Done)
    }

    pub(super) fn digests_of(&self, blob: BlobId) -> Vec<(Algorithm, Vec<u8>)> {
        let of_it = self.digests.iter().filter(|((of, _), _)| *of == blob);
        of_it.map(|((_, algorithm), (sealed, _))| (*algorithm, sealed.clone())).collect()
    }

    pub(super) fn blobs_by_digest(&self, space: Option<SpaceId>, lookup: &Lookup, limit: usize) -> Vec<Blob> {
        let found = self.digests.iter().filter(|(_, (_, found))| found == lookup).map(|((blob, _), _)| *blob);
        let is_in = |entry| space.is_none_or(|space| self.entries[&entry].space == space);
        let good = found.filter(|blob| self.blobs[blob].damaged.is_none());
        let shown = good.filter(|blob| self.shown_by(*blob).any(is_in));
        shown.map(|blob| self.blob(blob)).take(limit).collect()
    }

    pub(super) fn findable(&self, after: Option<BlobId>, limit: usize) -> Vec<(Blob, Vec<Algorithm>)> {
        let behind = self.identified().filter(|id| after.is_none_or(|after| *id > after)).take(limit);
        behind
            .map(|id| (self.blob(id), self.digests_of(id).into_iter().map(|(found, _)| found).collect()))
            .collect()
    }

    pub(super) fn unfindable(&self, algorithms: &[Algorithm]) -> u64 {
        let lacks = |id: &BlobId| algorithms.iter().any(|by| !self.digests.contains_key(&(*id, *by)));
        self.identified().filter(lacks).count() as u64
    }

    /// Returns the live blobs whose identity is known.
    fn identified(&self) -> impl Iterator<Item = BlobId> {
        let rows = self.blobs.iter();
        rows.filter(|(_, row)| row.orphan.is_none() && row.identity.is_some()).map(|(id, _)| *id)
    }
}
