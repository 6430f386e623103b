//! Copies of the data directory as `docs/deploying.md` says they are safe: beside a running server the catalog first,
//! by SQLite's own means, then the objects.

use std::path::Path;

use hapax_proto::name::EntryPath;
use hapax_store::catalog::Expect;
use hapax_store::sweep::Keep;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::world::{World, noise};

/// What `sqlite3 catalog.db "VACUUM INTO '…'"` does in another process.
fn copy_catalog(from: &Path, to: &Path) {
    let catalog =
        Connection::open_with_flags(from.join("catalog.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    catalog.execute("VACUUM INTO ?1", [to.join("catalog.db").to_str().unwrap()]).unwrap();
}

/// Copies files and directories below a name, as `cp -a` does.
fn copy_tree(from: &Path, to: &Path, name: &str) {
    let (from, to) = (from.join(name), to.join(name));
    if from.is_file() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        copy_tree(&from, &to, entry.unwrap().file_name().to_str().unwrap());
    }
}

#[test]
fn a_copy_beside_a_running_server_holds_what_the_catalog_held() {
    let world = World::new();
    let (kept, replaced, removed, small) =
        (noise(3_000_000, 1), noise(2_000_000, 2), noise(70_000, 3), noise(100, 4));
    world.put("/kept", &kept);
    world.put("/replaced", &replaced);
    world.put("/removed", &removed);
    world.put("/small", &small);
    let copy = TempDir::new().unwrap();
    copy_catalog(world.path(), copy.path());

    // The server goes on: nothing of this is in the copy, and nothing of it takes away what is.
    world.put("/replaced", &noise(2_000_000, 5));
    world.put("/new", &noise(1_500_000, 6));
    world.store.remove(world.space, EntryPath::parse("/removed").unwrap(), Expect::Anything, false).unwrap();
    world.store.sweep(Keep::Grace).unwrap();
    for name in ["objects", "format", "keys"] {
        copy_tree(world.path(), copy.path(), name);
    }
    drop(world);

    let restored = World::reopen(copy);
    for (path, bytes) in
        [("/kept", &kept), ("/replaced", &replaced), ("/removed", &removed), ("/small", &small)]
    {
        assert!(restored.get(path).unwrap() == *bytes, "{path}");
    }
    let new = restored.store.entry(restored.space, &EntryPath::parse("/new").unwrap()).unwrap();
    assert_eq!(new, None);
    restored.assert_sound();
    // It is a store like any other: what is written now meets nothing of the state that was lost.
    restored.put("/new", &kept);
    let restored = restored.restart();
    restored.store.sweep(Keep::Nothing).unwrap();
    restored.assert_sound();
    assert!(restored.get("/new").unwrap() == kept);
}
