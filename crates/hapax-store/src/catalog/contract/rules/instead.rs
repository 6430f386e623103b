//! Uploads that are finished by a blob which is there already.

use super::*;

fn instead(number: u8, blob: BlobId, identity: u8, size: Length) -> Intent {
    let source = Source::Instead { id: upload(number), generation: 0, blob };
    Intent::Publish(Box::new(publish("/u", identity, size, source, T0)))
}

#[test]
fn a_blob_finishes_an_upload_and_what_that_held_is_dropped() {
    on_each(|catalog| {
        done(catalog, file("/a", 1, 3, T0));
        let id = blob(catalog, "/a").id;
        done(catalog, create(1, Some(cells(3))));
        done(catalog, stored(put(1, vec![extent(0, 1, DIR, 2)])));
        assert_eq!(filled(catalog), (3 * CELL, 3 * CELL));
        let Outcome::Published { known, blob: shown, .. } = done(catalog, instead(1, id, 1, cells(3))) else {
            panic!()
        };
        assert_eq!((known, shown), (true, id));
        assert_eq!(blob(catalog, "/u").id, id);
        assert_eq!(filled(catalog), (6 * CELL, 0));
        let ended = row(catalog, 1);
        assert_eq!((ended.state, ended.size), (State::Done, Some(cells(3))));
        assert_eq!(ended.done.unwrap().fingerprint, fingerprint(1));
        assert_eq!(doomed(catalog), [object(2)]);
        assert_eq!(catalog.spares(9).unwrap(), [], "no second copy was made");
        refused(catalog, instead(1, id, 1, cells(3)), Refusal::Ended(State::Done));
        refused(catalog, stored(put(1, vec![extent(0, 1, DIR, 3)])), Refusal::Ended(State::Done));
    });
}

#[test]
fn a_blob_that_does_not_fit_leaves_the_upload_open() {
    on_each(|catalog| {
        done(catalog, file("/a", 1, 3, T0));
        let id = blob(catalog, "/a").id;
        done(catalog, create(1, Some(cells(2))));
        done(catalog, create(2, Some(cells(3))));
        refused(catalog, instead(1, id, 1, cells(3)), Refusal::Incomplete);
        refused(catalog, instead(1, id, 1, cells(2)), Refusal::NotLive);
        refused(catalog, instead(2, id, 2, cells(3)), Refusal::NotLive);
        refused(catalog, instead(3, id, 1, cells(3)), Refusal::NotFound);
        done(catalog, remove("/a", T0));
        refused(catalog, instead(2, id, 1, cells(3)), Refusal::NotLive);
        assert_eq!((row(catalog, 1).state, row(catalog, 2).state), (State::Open, State::Open));
        assert_eq!(catalog.entry(HERS, &path("/u")).unwrap(), None);
        done(catalog, stored(put(2, vec![extent(0, 3, DIR, 4)])));
        done(catalog, finish(2, 1, 2, cells(3)));
    });
}
