//! Digests that are kept beside a blob.

use hapax_proto::digest::Algorithm;

use super::*;

fn keep(blob: BlobId, algorithm: Algorithm, sealed: u8) -> Intent {
    Intent::KeepDigest { blob, algorithm, sealed: vec![sealed] }
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
    });
}
