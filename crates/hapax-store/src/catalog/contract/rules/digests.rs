//! Digests that are kept beside a blob, and blobs that are found by them.

use hapax_proto::digest::Algorithm;

use super::*;
use crate::key::Lookup;

const LIMIT: usize = 9;

fn lookup(algorithm: Algorithm, number: u8) -> Lookup {
    Lookup { algorithm, value: [number; 32] }
}

/// Keeps a digest that is found by its own number.
fn keep(blob: BlobId, algorithm: Algorithm, sealed: u8) -> Intent {
    Intent::KeepDigest { blob, lookup: lookup(algorithm, sealed), sealed: vec![sealed] }
}

/// Returns the blobs of the first space that are found by a digest.
fn found(catalog: &dyn Catalog, algorithm: Algorithm, number: u8) -> Vec<BlobId> {
    let blobs = catalog.blobs_by_digest(Some(SpaceId(1)), &lookup(algorithm, number), LIMIT).unwrap();
    blobs.into_iter().map(|blob| blob.id).collect()
}

#[test]
fn digests_are_kept_one_an_algorithm() {
    on_each(|catalog| {
        done(catalog, inline("/a", 1, T0));
        done(catalog, inline("/b", 2, T0));
        let (one, other) = (BlobId(1), BlobId(2));
        assert_eq!(catalog.digests(one).unwrap(), []);
        done(catalog, keep(one, Algorithm::Md5, 1));
        done(catalog, keep(one, Algorithm::Sha256, 2));
        done(catalog, keep(other, Algorithm::Sha256, 3));
        done(catalog, keep(one, Algorithm::Md5, 4));
        assert_eq!(catalog.digests(one).unwrap(), [(Algorithm::Sha256, vec![2]), (Algorithm::Md5, vec![4])]);
        assert_eq!(catalog.digests(other).unwrap(), [(Algorithm::Sha256, vec![3])]);
        refused(catalog, keep(BlobId(3), Algorithm::Md5, 1), Refusal::NotLive);
        // What was replaced is not found any more.
        assert_eq!(found(catalog, Algorithm::Md5, 1), []);
        assert_eq!(found(catalog, Algorithm::Md5, 4), [one]);
    });
}

#[test]
fn a_blob_is_found_by_its_digests_where_it_is_shown() {
    on_each(|catalog| {
        done(catalog, inline("/a", 1, T0));
        done(catalog, inline("/b", 2, T0));
        done(catalog, inline("/c", 3, T0));
        for (blob, algorithm, number) in [
            (1, Algorithm::Md5, 7),
            (2, Algorithm::Md5, 7),
            (3, Algorithm::Md5, 8),
            (3, Algorithm::Sha256, 7),
        ] {
            done(catalog, keep(BlobId(blob), algorithm, number));
        }
        // Forged twins have one digest and are two.
        assert_eq!(found(catalog, Algorithm::Md5, 7), [BlobId(1), BlobId(2)]);
        assert_eq!(found(catalog, Algorithm::Md5, 8), [BlobId(3)]);
        assert_eq!(found(catalog, Algorithm::Sha256, 7), [BlobId(3)]);
        assert_eq!(found(catalog, Algorithm::Sha1, 7), []);
        let twins = lookup(Algorithm::Md5, 7);
        assert_eq!(catalog.blobs_by_digest(Some(SpaceId(1)), &twins, 1).unwrap().len(), 1);
        assert_eq!(catalog.blobs_by_digest(Some(SpaceId(2)), &twins, LIMIT).unwrap(), []);
        done(catalog, remove("/a", T0));
        assert_eq!(found(catalog, Algorithm::Md5, 7), [BlobId(2)]);
        // It comes back with what it had.
        done(catalog, inline("/d", 1, T0));
        assert_eq!(found(catalog, Algorithm::Md5, 7), [BlobId(1), BlobId(2)]);
    });
}

#[test]
fn what_a_blob_is_not_found_by_is_told() {
    on_each(|catalog| {
        done(catalog, inline("/a", 1, T0));
        done(catalog, inline("/b", 2, T0));
        let told = |after| -> Vec<(BlobId, Vec<Algorithm>)> {
            let findable = catalog.findable(after, LIMIT).unwrap();
            findable.into_iter().map(|(blob, algorithms)| (blob.id, algorithms)).collect()
        };
        let both = [Algorithm::Md5, Algorithm::Sha256];
        assert_eq!(told(None), [(BlobId(1), vec![]), (BlobId(2), vec![])]);
        assert_eq!(catalog.unfindable(&both).unwrap(), 2);
        assert_eq!(catalog.unfindable(&[]).unwrap(), 0);
        done(catalog, keep(BlobId(1), Algorithm::Md5, 1));
        done(catalog, keep(BlobId(1), Algorithm::Crc32c, 1));
        assert_eq!(catalog.unfindable(&both).unwrap(), 2);
        assert_eq!(catalog.unfindable(&both[..1]).unwrap(), 1);
        assert_eq!(catalog.unfindable(&[Algorithm::Md5, Algorithm::Md5]).unwrap(), 1);
        done(catalog, keep(BlobId(1), Algorithm::Sha256, 1));
        let all = vec![Algorithm::Sha256, Algorithm::Md5, Algorithm::Crc32c];
        assert_eq!(told(None), [(BlobId(1), all), (BlobId(2), vec![])]);
        assert_eq!(told(Some(BlobId(1))), [(BlobId(2), vec![])]);
        assert_eq!(catalog.findable(None, 1).unwrap().len(), 1);
        assert_eq!(catalog.unfindable(&both).unwrap(), 1);
        // What is given up is nobody's work.
        done(catalog, remove("/b", T0));
        assert_eq!(catalog.unfindable(&both).unwrap(), 0);
        assert_eq!(told(Some(BlobId(1))), []);
    });
}

#[test]
fn digests_live_as_long_as_their_blob() {
    on_each(|catalog| {
        done(catalog, inline("/a", 1, T0));
        done(catalog, keep(BlobId(1), Algorithm::Md5, 1));
        done(catalog, remove("/a", T0));
        refused(catalog, keep(BlobId(1), Algorithm::Sha256, 2), Refusal::NotLive);
        assert_eq!(catalog.digests(BlobId(1)).unwrap(), [(Algorithm::Md5, vec![1])]);
        // The same content comes back before its grace is over.
        done(catalog, inline("/b", 1, T0));
        done(catalog, keep(BlobId(1), Algorithm::Sha256, 2));
        done(catalog, remove("/b", T0));
        assert_eq!(done(catalog, Intent::BuryBlobs { before: at(1), limit: 9, now: T0 }), Outcome::Count(1));
        assert_eq!(catalog.digests(BlobId(1)).unwrap(), []);
        assert_eq!(found(catalog, Algorithm::Md5, 1), []);
    });
}
