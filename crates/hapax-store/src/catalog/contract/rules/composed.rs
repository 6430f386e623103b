//! Uploads that are composed of others, and the blobs that come of them: pending until somebody has read them.

use super::*;
use crate::catalog::{COMPOSED_KEPT, Counted, MaskedValue, WAITING_MAX};
use crate::key::Fingerprint;

/// Opens an upload that is composed of others.
fn compose(number: u8, members: &[u8]) -> Intent {
    Intent::CreateUpload(Box::new(NewUpload {
        members: members.iter().copied().map(upload).collect(),
        ..new_upload(number, None)
    }))
}

/// Publishes an upload without an identity, under the fingerprint of a number.
fn pending(number: u8, content_version: u64, to: &str, size: Length) -> Intent {
    let source = Source::Upload { id: upload(number), generation: 0, content_version };
    Intent::Publish(Box::new(Publish { identity: None, ..publish(to, 100 + number, size, source, at(9)) }))
}

fn identify(blob: BlobId, number: u8) -> Intent {
    Intent::Identify { blob, fingerprint: fingerprint(number), identity: vec![number] }
}

fn entity(catalog: &dyn Catalog, at: &str) -> Fingerprint {
    match catalog.entry(HERS, &path(at)).unwrap().unwrap().kind {
        EntryKind::File { entity, .. } => entity,
        EntryKind::Folder => panic!("{at} is a folder"),
    }
}

/// Opens uploads 1 and 2 of a cell each, fills them, and composes them into upload 3.
fn composed(catalog: &dyn Catalog) {
    for number in [1, 2] {
        commit(catalog, create(number, Some(cells(1)))).unwrap();
        commit(catalog, stored(put(number, vec![extent(0, 1, DIR, number)]))).unwrap();
    }
    commit(catalog, compose(3, &[1, 2])).unwrap();
    let second = Extent { span: span(1, 1), ..extent(0, 1, DIR, 2) };
    let mut whole = put(3, vec![extent(0, 1, DIR, 1), second]);
    whole.clear = Span::whole(Length::new(SIZE_MAX));
    commit(catalog, stored(whole)).unwrap();
}

#[test]
fn members_are_open_uploads_of_the_same_user_with_none_of_their_own() {
    on_each(|catalog| {
        commit(catalog, create(1, Some(cells(1)))).unwrap();
        commit(catalog, compose(2, &[1, 1])).unwrap();
        assert_eq!(catalog.members(upload(2)).unwrap(), [upload(1), upload(1)]);
        assert_eq!(catalog.composed_of(upload(1)).unwrap(), [upload(2)]);
        assert_eq!(commit(catalog, compose(3, &[2])), Err(Refusal::NotFound));
        assert_eq!(commit(catalog, compose(3, &[4])), Err(Refusal::NotFound));
        let others = NewUpload { user: UserId(2), members: vec![upload(1)], ..new_upload(4, None) };
        assert_eq!(commit(catalog, Intent::CreateUpload(Box::new(others))), Err(Refusal::NotFound));
        let end = Intent::EndUpload { upload: upload(1), state: State::Cancelled, now: T0 };
        commit(catalog, end).unwrap();
        assert_eq!(commit(catalog, compose(3, &[1])), Err(Refusal::NotFound));
        assert_eq!(catalog.members(upload(2)).unwrap(), [upload(1), upload(1)], "what ended is not left out");
    });
}

#[test]
fn so_many_wait_for_one_piece_and_no_more() {
    on_each(|catalog| {
        let new = |number, members: &[u8]| {
            let members = members.iter().copied().map(upload).collect();
            Intent::CreateUpload(Box::new(NewUpload { members, uploads_max: 99, ..new_upload(number, None) }))
        };
        for number in [1, 2, 3] {
            commit(catalog, create(number, Some(cells(1)))).unwrap();
        }
        let first = 10;
        let end = first + u8::try_from(WAITING_MAX).unwrap();
        for number in first..end {
            commit(catalog, new(number, &[1, 2, 1])).unwrap();
        }
        for members in [&[1][..], &[2], &[3, 3, 1]] {
            assert_eq!(commit(catalog, new(99, members)), Err(Refusal::TooManyUploads));
        }
        commit(catalog, new(99, &[3])).unwrap();
        let gone = Intent::EndUpload { upload: upload(first), state: State::Cancelled, now: T0 };
        commit(catalog, gone).unwrap();
        commit(catalog, new(end, &[3, 1, 2])).unwrap();
    });
}

#[test]
fn a_composed_file_is_counted_once() {
    on_each(|catalog| {
        let reserved = || {
            let space = catalog.space_by_id(HERS).unwrap().unwrap();
            (space.used, space.reserved)
        };
        commit(catalog, Intent::SetQuota { space: HERS, quota: Some(cells(2)) }).unwrap();
        composed(catalog);
        assert_eq!(reserved(), (cells(0), cells(2)));
        commit(catalog, pending(3, 1, "/f", cells(2))).unwrap();
        assert_eq!(reserved(), (cells(2), cells(0)));
        let member = catalog.upload(upload(1)).unwrap().unwrap();
        assert_eq!((member.state, member.counted), (State::Open, Counted::InFile));
        assert!(member.expires <= at(9).after(COMPOSED_KEPT));
        assert_eq!(catalog.members(upload(3)).unwrap(), []);
    });
}

#[test]
fn what_became_part_of_a_file_does_not_grow_uncounted() {
    on_each(|catalog| {
        composed(catalog);
        commit(catalog, pending(3, 1, "/f", cells(2))).unwrap();
        let before = row(catalog, 1);
        let resize = |size| Intent::Resize {
            upload: upload(1),
            generation: 0,
            size,
            mtime: None,
            keep: Offset::ZERO,
            now: at(10),
        };
        for size in [cells(9), cells(1), cells(0)] {
            assert_eq!(commit(catalog, resize(size)), Err(Refusal::Ended(State::Done)));
        }
        let more = Store { expires: at(99_000_000), ..put(1, vec![extent(0, 1, DIR, 7)]) };
        assert_eq!(commit(catalog, stored(more)), Err(Refusal::Ended(State::Done)));
        assert_eq!(row(catalog, 1), before, "its end does not move either");
        commit(catalog, compose(4, &[2, 1])).unwrap();
    });
}

#[test]
fn the_bytes_of_a_composed_file_outlive_its_members() {
    on_each(|catalog| {
        composed(catalog);
        commit(catalog, pending(3, 1, "/f", cells(2))).unwrap();
        for number in [1, 2] {
            let end = Intent::EndUpload { upload: upload(number), state: State::Cancelled, now: at(10) };
            commit(catalog, end).unwrap();
        }
        assert_eq!(catalog.doomed(9).unwrap(), []);
        let found = blob(catalog, "/f");
        assert_eq!(catalog.extents(found.content, whole(), 9).unwrap().len(), 2);
    });
}

#[test]
fn a_pending_blob_becomes_what_it_is_and_its_entry_keeps_its_tag() {
    on_each(|catalog| {
        composed(catalog);
        commit(catalog, pending(3, 1, "/f", cells(2))).unwrap();
        let found = blob(catalog, "/f");
        assert_eq!((found.identity.clone(), found.fingerprint), (None, fingerprint(103)));
        assert_eq!(catalog.pending(None, 9).unwrap(), std::slice::from_ref(&found));
        let value = || catalog.extents(found.content, whole(), 1).unwrap().remove(0);
        let seen = Extent { value: Some(MaskedValue { masked: [1; 32], salt: Some([2; 16]) }), ..value() };
        let elsewhere = [
            Extent { object: ObjectName { id: object(99), ..seen.object }, ..seen.clone() },
            Extent { object_start: Offset::new(1), ..seen.clone() },
        ];
        let keep = |extents: &[Extent]| Intent::KeepValues { blob: found.id, extents: extents.to_vec() };
        commit(catalog, keep(&elsewhere)).unwrap();
        assert_eq!(value().value, None, "a value belongs to a place");
        commit(catalog, keep(std::slice::from_ref(&seen))).unwrap();
        assert_eq!(value(), seen);

        commit(catalog, identify(found.id, 7)).unwrap();
        let identified = blob(catalog, "/f");
        assert_eq!((identified.identity.clone(), identified.fingerprint), (Some(vec![7]), fingerprint(7)));
        assert_eq!(catalog.pending(None, 9).unwrap(), []);
        assert_eq!(entity(catalog, "/f"), fingerprint(103));
        let done = catalog.upload(upload(3)).unwrap().unwrap().done.unwrap();
        assert_eq!((done.fingerprint, done.identity), (fingerprint(7), Some(vec![7])));
        assert_eq!(commit(catalog, identify(found.id, 8)), Err(Refusal::NotLive), "only once");

        commit(catalog, inline("/f", 9, at(20))).unwrap();
        assert_eq!(entity(catalog, "/f"), fingerprint(9));
    });
}

#[test]
fn a_pending_blob_that_is_held_already_becomes_a_spare_of_it() {
    on_each(|catalog| {
        commit(catalog, file("/held", 7, 2, T0)).unwrap();
        let held = blob(catalog, "/held");
        commit(catalog, remove("/held", at(1))).unwrap();
        composed(catalog);
        commit(catalog, pending(3, 1, "/f", cells(2))).unwrap();
        let found = blob(catalog, "/f");
        commit(catalog, identify(found.id, 7)).unwrap();
        assert_eq!(blob(catalog, "/f").id, held.id, "and revives it");
        assert_eq!(entity(catalog, "/f"), fingerprint(103));
        let spares = catalog.spares(9).unwrap();
        assert_eq!(
            spares.iter().map(|(blob, spare)| (blob.id, *spare)).collect::<Vec<_>>(),
            [(held.id, found.content)]
        );
    });
}

#[test]
fn what_is_gone_or_has_another_size_is_not_identified() {
    on_each(|catalog| {
        commit(catalog, file("/held", 7, 1, T0)).unwrap();
        composed(catalog);
        commit(catalog, pending(3, 1, "/f", cells(2))).unwrap();
        let found = blob(catalog, "/f");
        assert_eq!(without_words(commit(catalog, identify(found.id, 7))), Err(Refusal::Malformed("")));
        commit(catalog, remove("/f", at(20))).unwrap();
        assert_eq!(commit(catalog, identify(found.id, 8)), Err(Refusal::NotLive));
        assert_eq!(catalog.pending(None, 9).unwrap(), []);
    });
}
