//! When a path is said to have got its content, and when that date is too weak to be told.

use super::*;

/// Checks the date of a path: milliseconds behind the start, and whether it is weak.
#[track_caller]
fn dated(catalog: &dyn Catalog, what: &str, millis: u64, weak: bool) {
    let entry = entry(catalog, what);
    assert_eq!((entry.modified, entry.date_weak), (at(millis), weak), "{what}");
    let (folder, name) = path(what).split_last().map(|(folder, name)| (folder, name.clone())).unwrap();
    let listed = catalog.children(HERS, &folder, None, 99).unwrap();
    let listed = listed.iter().find(|entry| entry.name.as_ref() == Some(&name)).unwrap();
    assert_eq!((listed.modified, listed.date_weak), (at(millis), weak), "{what} in its folder");
}

#[test]
fn same_second_replacement_is_date_weak() {
    on_each(|catalog| {
        done(catalog, inline("/a", 1, at(5_100)));
        dated(catalog, "/a", 5_100, false);
        done(catalog, inline("/a", 2, at(5_900)));
        dated(catalog, "/a", 5_900, true);
        done(catalog, inline("/a", 3, at(6_000)));
        dated(catalog, "/a", 6_000, false);
        done(catalog, inline("/a", 4, at(4_000)));
        dated(catalog, "/a", 6_000, true);
        done(catalog, inline("/a", 5, at(6_900)));
        dated(catalog, "/a", 6_900, true);
        done(catalog, inline("/a", 6, at(7_000)));
        dated(catalog, "/a", 7_000, false);
    });
}

#[test]
fn delete_and_recreate_within_a_second_is_date_weak() {
    on_each(|catalog| {
        done(catalog, inline("/a", 1, at(5_100)));
        done(catalog, remove("/a", at(5_200)));
        done(catalog, inline("/a", 2, at(5_900)));
        dated(catalog, "/a", 5_900, true);
        done(catalog, remove("/a", at(4_000)));
        done(catalog, inline("/a", 3, at(5_950)));
        dated(catalog, "/a", 5_950, true);
        done(catalog, inline("/d/e/x", 1, at(9_000)));
        done(catalog, remove("/d", at(6_000)));
        done(catalog, inline("/d/e/x", 2, at(9_100)));
        dated(catalog, "/d/e/x", 9_100, true);
        done(catalog, inline("/d/e/x", 3, at(10_000)));
        dated(catalog, "/d/e/x", 10_000, false);
    });
}

#[test]
fn moving_a_folder_redates_what_lies_below() {
    on_each(|catalog| {
        done(catalog, inline("/d/e/x", 1, at(1_000)));
        done(catalog, rename("/d", "/f", at(5_300)));
        dated(catalog, "/f/e/x", 5_300, false);
        done(catalog, inline("/f/e/x", 2, at(5_700)));
        dated(catalog, "/f/e/x", 5_700, true);
        dated(catalog, "/f/e", 5_300, false);
        done(catalog, folder("/d/e", at(5_800)));
        dated(catalog, "/d/e", 5_800, true);
        done(catalog, inline("/d/e/x", 1, at(6_000)));
        dated(catalog, "/d/e/x", 6_000, false);
    });
}

#[test]
fn moving_over_a_file_is_a_replacement() {
    on_each(|catalog| {
        done(catalog, inline("/a", 1, at(1_000)));
        done(catalog, inline("/b", 2, at(5_000)));
        done(catalog, rename("/a", "/b", at(5_500)));
        dated(catalog, "/b", 5_500, true);
        done(catalog, inline("/a", 3, at(5_600)));
        dated(catalog, "/a", 5_600, true);
        done(catalog, rename("/a", "/c", at(6_000)));
        dated(catalog, "/c", 6_000, false);
    });
}
