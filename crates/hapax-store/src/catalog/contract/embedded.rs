//! What only the embedded engine promises: its file outlives it, newer files are left alone, several may look at one
//! file. That large contents are looked into by index stands beside the query, in `sqlite::blobs`.

use rusqlite::Connection;

use super::super::sqlite::SqliteCatalog;
use super::super::{BootId, Outcome, SpaceId, UserId};
use super::*;
use crate::clock::Timestamp;
use crate::error::StoreError;

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn user(name: &str) -> Intent {
    Intent::CreateUser { name: name.into(), password: String::new(), admin: false, now: NOW.into() }
}

#[test]
fn reopening_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.db");
    let folder = Intent::MakeFolder { space: SpaceId(1), path: path("/d/e"), now: NOW.into() };
    let before = {
        let catalog = SqliteCatalog::open(&file).unwrap();
        catalog.commit(&[Intent::Boot, user("ann"), folder, Intent::SaveClock { now: NOW }]).unwrap();
        (
            catalog.users().unwrap(),
            catalog.entry(SpaceId(1), &path("/d/e")).unwrap(),
            catalog.stats().unwrap(),
        )
    };
    let catalog = SqliteCatalog::open(&file).unwrap();
    let after = (
        catalog.users().unwrap(),
        catalog.entry(SpaceId(1), &path("/d/e")).unwrap(),
        catalog.stats().unwrap(),
    );
    assert_eq!(before, after);
    assert_eq!(catalog.clock().unwrap(), NOW);
    assert_eq!(commit(&catalog, Intent::Boot), Ok(Outcome::Booted(BootId(2))));
    assert_eq!(catalog.audit().unwrap(), Vec::<String>::new());
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.db");
    drop(SqliteCatalog::open(&file).unwrap());
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 1_000).unwrap();
    let Err(StoreError::Format { found, .. }) = SqliteCatalog::open(&file) else {
        panic!("a newer schema was opened");
    };
    assert_eq!(found, "1000");
    let version: u32 =
        Connection::open(&file).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 1_000);
}

#[test]
fn two_catalogs_on_one_file_see_each_others_commits() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.db");
    let (one, other) = (SqliteCatalog::open(&file).unwrap(), SqliteCatalog::open(&file).unwrap());
    commit(&one, user("ann")).unwrap();
    assert!(other.user("ann").unwrap().is_some());
    assert_eq!(commit(&other, user("ann")), Err(Refusal::Exists));
    assert_eq!(commit(&other, user("bob")), Ok(Outcome::User(UserId(2))));
    assert_eq!(one.users().unwrap().len(), 2);
}
