//! Damage and its end, blobs whose bytes move to other objects, and what jobs keep.

use super::*;
use crate::catalog::{Holder, Owner, Rewrite, Saved};
use crate::key::Lookup;
use hapax_proto::digest::Algorithm;

fn judged(catalog: &dyn Catalog, of: &Blob, damaged: Option<Timestamp>) {
    done(catalog, Intent::JudgeBlob { blob: of.id, content: of.content, damaged });
}

fn known(to: &str, of: &Blob) -> Intent {
    Intent::Publish(Box::new(publish(to, 1, of.size, Source::Known(of.id), T0)))
}

fn objects_of(catalog: &dyn Catalog, what: &str) -> Vec<ObjectId> {
    let extents = catalog.extents(blob(catalog, what).content, whole(), 9).unwrap();
    extents.into_iter().map(|extent| extent.object.id).collect()
}

#[test]
fn a_damaged_blob_is_not_found_nor_linked_until_it_is_good() {
    on_each(|catalog| {
        done(catalog, file("/a", 1, 1, T0));
        let whole = blob(catalog, "/a");
        let lookup = Lookup { algorithm: Algorithm::Md5, value: [7; 32] };
        done(catalog, Intent::KeepDigest { blob: whole.id, lookup, sealed: vec![1] });
        let found = || {
            let of_others = catalog.held_by_others(&fingerprint(1), UserId(2), false, 9).unwrap();
            [
                catalog.blob_in_space(HERS, &fingerprint(1)).unwrap().is_some(),
                !catalog.blobs_by_digest(Some(HERS), &lookup, 9).unwrap().is_empty(),
                !catalog.blobs_by_digest(None, &lookup, 9).unwrap().is_empty(),
                !catalog.blobs_of_size(HERS, cells(1), 9).unwrap().is_empty(),
                of_others.is_some(),
            ]
        };
        assert_eq!(found(), [true; 5]);
        judged(catalog, &whole, Some(at(1)));
        assert_eq!(found(), [false; 5]);
        refused(catalog, known("/b", &whole), Refusal::NotLive);
        assert!(blob(catalog, "/a").damaged, "its entry shows it all the same");
        assert!(catalog.shown_in_space(HERS, &fingerprint(1)).unwrap().unwrap().damaged);
        assert_eq!(catalog.shown_in_space(HERS, &fingerprint(2)).unwrap(), None);
        let told = catalog.damaged(None, 9).unwrap();
        assert_eq!(told, [(Blob { damaged: true, ..whole.clone() }, vec!["/@ann/a".to_owned()])]);
        assert_eq!(catalog.damaged(Some(whole.id), 9).unwrap(), []);
        assert_eq!(catalog.stats().unwrap().damaged, 1);
        // What was read is another content than it has.
        let other = Intent::JudgeBlob { blob: whole.id, content: ContentId(99), damaged: None };
        refused(catalog, other, Refusal::Superseded);
        let nobody = Intent::JudgeBlob { blob: BlobId(99), content: whole.content, damaged: None };
        refused(catalog, nobody, Refusal::NotFound);
        judged(catalog, &whole, None);
        assert_eq!(found(), [true; 5]);
        done(catalog, known("/b", &whole));
    });
}

#[test]
fn fresh_bytes_take_the_place_of_damaged_ones_and_those_are_kept_until_they_are_settled() {
    on_each(|catalog| {
        done(catalog, file("/a", 1, 1, T0));
        let old = blob(catalog, "/a");
        judged(catalog, &old, Some(at(1)));
        let again = publish("/b", 1, cells(1), Source::Extents(vec![extent(0, 1, DIR, 2)]), T0);
        done(catalog, Intent::Publish(Box::new(again)));
        let healed = blob(catalog, "/a");
        assert_eq!((healed.id, healed.damaged), (old.id, false));
        assert_eq!(objects_of(catalog, "/a"), [object(2)]);
        assert_eq!(catalog.spares(9).unwrap(), [(healed.clone(), old.content)]);
        // It was the new copy that was bad: the old one was only out of reach.
        judged(catalog, &healed, Some(at(2)));
        let settle = Intent::SettleSpare { blob: old.id, spare: old.content, promote: true, now: T0 };
        done(catalog, settle);
        assert_eq!(blob(catalog, "/a"), old, "what was proven is not damaged");
        assert_eq!(objects_of(catalog, "/b"), [object(1)]);
    });
}

#[test]
fn a_fresh_inline_content_heals_one_at_once() {
    on_each(|catalog| {
        done(catalog, inline("/a", 1, T0));
        let old = blob(catalog, "/a");
        judged(catalog, &old, Some(at(1)));
        let bytes = publish("/b", 1, old.size, Source::Inline(vec![9]), T0);
        done(catalog, Intent::Publish(Box::new(bytes)));
        assert_eq!(blob(catalog, "/a"), old);
        assert_eq!(catalog.inline(old.content).unwrap(), Some(vec![9]));
        assert_eq!(catalog.spares(9).unwrap(), []);
    });
}

#[test]
fn a_blob_moves_to_other_objects_if_it_is_what_was_read() {
    on_each(|catalog| {
        let pieces = vec![extent(0, 1, DIR, 1), extent(1, 1, DIR, 2), extent(2, 1, DIR, 3)];
        let publish = publish("/a", 1, cells(3), Source::Extents(pieces), T0);
        done(catalog, Intent::Publish(Box::new(publish)));
        let moved = blob(catalog, "/a");
        let rewrite = |version, clear, put| {
            Intent::Rewrite(Box::new(Rewrite { content: moved.content, version, clear, put, now: T0 }))
        };
        let one = || vec![extent(0, 2, DIR, 4)];
        assert_eq!(catalog.extent_counts(None, 9).unwrap(), [(moved.clone(), 3)]);
        assert_eq!(catalog.stats().unwrap().fragments, 1);
        let version = catalog.version(moved.content).unwrap().unwrap();
        refused(catalog, rewrite(version + 1, span(0, 2), one()), Refusal::Superseded);
        refused(catalog, rewrite(version, span(0, 2), vec![extent(0, 1, DIR, 4)]), Refusal::Incomplete);
        refused(catalog, rewrite(version, span(0, 1), one()), MALFORMED);
        done(catalog, rewrite(version, span(0, 2), one()));
        refused(catalog, rewrite(version, span(0, 2), one()), Refusal::Superseded);
        assert_eq!(objects_of(catalog, "/a"), [object(4), object(3)]);
        assert_eq!(catalog.stats().unwrap().fragments, 0);
        assert_eq!(catalog.stats().unwrap().given_up, 2 * CELL);
        // A reader may still hold them.
        assert_eq!(doomed(catalog), []);
        let nobody = Rewrite { content: ContentId(99), version, clear: span(0, 2), put: one(), now: T0 };
        refused(catalog, Intent::Rewrite(Box::new(nobody)), Refusal::NotFound);
        done(catalog, inline("/b", 2, T0));
        let inline = Rewrite {
            content: blob(catalog, "/b").content,
            version: 0,
            clear: span(0, 1),
            put: vec![],
            now: T0,
        };
        refused(catalog, Intent::Rewrite(Box::new(inline)), MALFORMED);
    });
}

#[test]
fn whoever_points_to_an_object_is_told() {
    on_each(|catalog| {
        done(catalog, create(1, Some(cells(1))));
        let shared = |first, number| Extent { object_length: cells(2), ..extent(first, 1, DIR, number) };
        done(catalog, stored(put(1, vec![shared(0, 1)])));
        for (to, number) in [("/live", 1), ("/live", 1), ("/gone", 2)] {
            let publish = publish(to, number, cells(1), Source::Extents(vec![shared(0, 1)]), T0);
            done(catalog, Intent::Publish(Box::new(publish)));
        }
        let gone = blob(catalog, "/gone").id;
        done(catalog, remove("/gone", T0));
        let live = blob(catalog, "/live");
        let holders = catalog.holders(object(1)).unwrap();
        assert!(holders.windows(2).all(|pair| pair[0].content < pair[1].content));
        let owners: Vec<_> = holders.iter().map(|holder: &Holder| holder.owner.clone()).collect();
        for owner in
            [Owner::Upload(upload(1)), Owner::Blob(live.clone()), Owner::Spare(live), Owner::Orphan(gone)]
        {
            assert!(owners.contains(&owner), "{owner:?} is not among {owners:?}");
        }
        assert!(holders.iter().all(|holder| holder.extent == shared(0, 1)));
        let name = ObjectName { dir: DIR, id: object(1) };
        assert_eq!(catalog.live_objects(None, 9).unwrap(), [(name, cells(2), cells(4))]);
        assert_eq!(catalog.live_objects(Some(object(1)), 9).unwrap(), []);
        assert_eq!(catalog.holders(object(2)).unwrap(), []);
    });
}

#[test]
fn what_no_extent_holds_of_a_live_object_is_dead() {
    on_each(|catalog| {
        let half = Extent { object_length: cells(2), ..extent(0, 1, DIR, 1) };
        let publish = publish("/a", 1, cells(1), Source::Extents(vec![half]), T0);
        done(catalog, Intent::Publish(Box::new(publish)));
        assert_eq!(catalog.stats().unwrap().dead, CELL);
    });
}

#[test]
fn a_job_keeps_what_it_kept_last() {
    on_each(|catalog| {
        assert_eq!(catalog.job("scrub").unwrap(), None);
        for (state, now) in [("{}", at(1)), ("{\"x\":1}", at(2))] {
            done(catalog, Intent::SaveJob { name: "scrub".to_owned(), state: state.to_owned(), now });
            assert_eq!(catalog.job("scrub").unwrap(), Some(Saved { state: state.to_owned(), updated: now }));
        }
        assert_eq!(catalog.job("compact").unwrap(), None);
    });
}
