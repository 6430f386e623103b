//! Who else holds a blob, and which blobs are as large.

use super::*;

const BOB: UserId = UserId(2);
const HIS: SpaceId = SpaceId(2);

/// The same content in Bob's space.
fn his(to: &str, number: u8) -> Intent {
    let here = publish(to, number, Length::new(1), Source::Inline(vec![number]), T0);
    Intent::Publish(Box::new(Publish { space: HIS, ..here }))
}

fn group(user: UserId, name: Option<&str>) -> Intent {
    Intent::SetGroup { user, group: name.map(str::to_owned) }
}

#[test]
fn holders_are_counted_beside_one_and_within_a_group() {
    on_each(|catalog| {
        let eve =
            Intent::CreateUser { name: "eve".into(), password: String::new(), admin: false, now: T0.into() };
        let Outcome::User(eve) = done(catalog, eve) else { panic!() };
        done(catalog, inline("/a", 1, T0));
        done(catalog, his("/b", 1));
        done(catalog, his("/c", 1));
        let blob = blob(catalog, "/a");
        let held = |user, group, limit| catalog.held_by_others(&fingerprint(1), user, group, limit).unwrap();
        let count = |user, group| {
            let (found, count) = held(user, group, 9).unwrap();
            assert_eq!(found, blob);
            count
        };
        // Bob has it twice and is one.
        assert_eq!([ANN, BOB, eve].map(|user| count(user, false)), [1, 1, 2]);
        assert_eq!([ANN, BOB, eve].map(|user| count(user, true)), [0, 0, 0]);
        assert_eq!(held(eve, false, 1).unwrap().1, 1);
        for nobodys in [0, 2, 255] {
            assert_eq!(catalog.held_by_others(&fingerprint(nobodys), eve, false, 9).unwrap(), None);
            assert_eq!(catalog.blob_in_space(HERS, &fingerprint(nobodys)).unwrap(), None);
        }
        done(catalog, group(eve, Some("lab")));
        done(catalog, group(BOB, Some("lab")));
        done(catalog, group(ANN, Some("film")));
        assert_eq!([ANN, BOB, eve].map(|user| count(user, true)), [0, 0, 1]);
        assert_eq!(catalog.user("bob").unwrap().unwrap().group.as_deref(), Some("lab"));
        done(catalog, group(BOB, None));
        assert_eq!(count(eve, true), 0);
        refused(catalog, group(UserId(9), None), Refusal::NotFound);
    });
}

#[test]
fn a_live_blob_is_found_whoever_has_it() {
    on_each(|catalog| {
        done(catalog, his("/b", 1));
        assert_eq!(catalog.blob_in_space(HERS, &fingerprint(1)).unwrap(), None);
        assert_eq!(catalog.shown_in_space(HERS, &fingerprint(1)).unwrap(), None);
        let live = || catalog.held_by_others(&fingerprint(1), ANN, false, 9).unwrap();
        assert_eq!(live().map(|(blob, _)| blob), catalog.blob_in_space(HIS, &fingerprint(1)).unwrap());
        assert_eq!(live().unwrap().1, 1);
        let gone = Intent::Remove {
            space: HIS,
            path: path("/b"),
            expect: Expect::Anything,
            recursive: false,
            now: T0.into(),
        };
        done(catalog, gone);
        assert_eq!(live(), None);
    });
}

#[test]
fn blobs_of_a_size_are_found_where_they_are_shown() {
    on_each(|catalog| {
        done(catalog, inline("/a", 1, T0));
        done(catalog, inline("/b", 2, T0));
        done(catalog, his("/c", 3));
        done(catalog, file("/d", 4, 1, T0));
        let sized = |space, size| -> Vec<BlobId> {
            let blobs = catalog.blobs_of_size(space, Length::new(size), 9).unwrap();
            blobs.into_iter().map(|blob| blob.id).collect()
        };
        assert_eq!(sized(HERS, 1), [BlobId(1), BlobId(2)]);
        assert_eq!(sized(HIS, 1), [BlobId(3)]);
        assert_eq!(sized(HERS, 2), []);
        assert_eq!(catalog.blobs_of_size(HERS, Length::new(1), 1).unwrap().len(), 1);
        done(catalog, remove("/a", T0));
        assert_eq!(sized(HERS, 1), [BlobId(2)]);
    });
}
