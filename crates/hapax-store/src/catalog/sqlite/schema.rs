//! The tables of the embedded catalog, and the way from one version of them to the next. Migrations are only ever
//! added; each runs in one transaction and is followed by the number of the schema in `user_version`.

use rusqlite::Connection;

/// One step per version, oldest first.
const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6];

/// Notes on the columns: times are milliseconds since the epoch; ids of uploads, objects and tokens' hashes are raw bytes.
///
/// - `objects.state`: 0 live, 1 dropped (since), 2 doomed. `blobs.orphan`: since when no entry points to it.
/// - `uploads.state`: 0 open, 1 done, 2 expired, 3 cancelled, 4 poisoned.
/// - `lanes.lane`: 0 the append lane, n + 1 the native part n.
/// - `contents.covered`: bytes in extents; `contents.prefix`: how many of them lie before the first hole.
/// - `entries.vacated`: the second in which the folder last lost a name.
const VERSION_1: &str = "
CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), now INTEGER NOT NULL);
INSERT INTO clock VALUES (1, 0);

CREATE TABLE boots (id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE dirs (id INTEGER PRIMARY KEY AUTOINCREMENT, boot INTEGER NOT NULL REFERENCES boots, open INTEGER NOT NULL);
CREATE INDEX dirs_open ON dirs (boot) WHERE open = 1;

CREATE TABLE objects (
    id BLOB PRIMARY KEY, dir INTEGER NOT NULL REFERENCES dirs, length INTEGER NOT NULL,
    state INTEGER NOT NULL, since INTEGER
) WITHOUT ROWID;
CREATE INDEX objects_dir ON objects (dir);
CREATE INDEX objects_going ON objects (state, since) WHERE state <> 0;

CREATE TABLE contents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, version INTEGER NOT NULL, covered INTEGER NOT NULL, prefix INTEGER NOT NULL
);
CREATE TABLE extents (
    content INTEGER NOT NULL REFERENCES contents, start INTEGER NOT NULL, length INTEGER NOT NULL,
    object BLOB NOT NULL REFERENCES objects, object_start INTEGER NOT NULL, value BLOB,
    PRIMARY KEY (content, start)
) WITHOUT ROWID;
CREATE INDEX extents_object ON extents (object);
CREATE TABLE inline (content INTEGER PRIMARY KEY REFERENCES contents, sealed BLOB NOT NULL);

CREATE TABLE blobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, fingerprint BLOB NOT NULL UNIQUE, identity BLOB NOT NULL,
    size INTEGER NOT NULL, content INTEGER NOT NULL UNIQUE REFERENCES contents, orphan INTEGER
);
CREATE INDEX blobs_orphan ON blobs (orphan) WHERE orphan IS NOT NULL;
CREATE TABLE spares (blob INTEGER NOT NULL REFERENCES blobs, content INTEGER PRIMARY KEY REFERENCES contents);
CREATE INDEX spares_blob ON spares (blob);

CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, password TEXT NOT NULL, admin INTEGER NOT NULL,
    space INTEGER NOT NULL, created INTEGER NOT NULL
);
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT, user INTEGER NOT NULL REFERENCES users, name TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE, scope TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER
);
CREATE INDEX tokens_user ON tokens (user);
CREATE TABLE spaces (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, owner INTEGER NOT NULL, root INTEGER NOT NULL,
    quota INTEGER, used INTEGER NOT NULL, reserved INTEGER NOT NULL
);

CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, space INTEGER NOT NULL, parent INTEGER REFERENCES entries, name TEXT NOT NULL,
    version INTEGER NOT NULL, modified INTEGER NOT NULL, weak INTEGER NOT NULL, vacated INTEGER,
    blob INTEGER REFERENCES blobs, mtime INTEGER, executable INTEGER NOT NULL, media_type TEXT
);
CREATE UNIQUE INDEX entries_name ON entries (parent, name);
CREATE INDEX entries_blob ON entries (blob) WHERE blob IS NOT NULL;

CREATE TABLE uploads (
    id BLOB PRIMARY KEY, user INTEGER NOT NULL REFERENCES users, key TEXT, space INTEGER NOT NULL, path TEXT NOT NULL,
    size INTEGER, mtime INTEGER, executable INTEGER NOT NULL, media_type TEXT, precondition TEXT, digests BLOB,
    state INTEGER NOT NULL, generation INTEGER NOT NULL, content INTEGER REFERENCES contents, first_root BLOB,
    reserved INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL, ended INTEGER,
    done_version INTEGER, done_replaced INTEGER, done_fingerprint BLOB, done_identity BLOB
) WITHOUT ROWID;
CREATE UNIQUE INDEX uploads_key ON uploads (user, key) WHERE key IS NOT NULL;
CREATE INDEX uploads_user ON uploads (user, id);
CREATE INDEX uploads_open ON uploads (expires) WHERE state = 0;
CREATE INDEX uploads_open_user ON uploads (user) WHERE state = 0;
CREATE INDEX uploads_ended ON uploads (ended) WHERE state <> 0;
CREATE TABLE lanes (
    upload BLOB NOT NULL REFERENCES uploads, lane INTEGER NOT NULL, epoch INTEGER NOT NULL,
    part INTEGER, have INTEGER, tail INTEGER, sealed BLOB,
    PRIMARY KEY (upload, lane)
) WITHOUT ROWID;
";

/// What the author of an upload wants to find again: how a dialect described it.
const VERSION_2: &str = "ALTER TABLE uploads ADD COLUMN notes TEXT;";

/// Digests of blobs in other algorithms than BLAKE3, sealed; `algorithm` is the key of RFC 9530.
const VERSION_3: &str = "
CREATE TABLE digests (
    blob INTEGER NOT NULL REFERENCES blobs, algorithm TEXT NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (blob, algorithm)
) WITHOUT ROWID;
";

/// Uploads that are composed of others, and blobs whose identity is pending: their `identity` is empty.
///
/// - `entries.entity`: what the entity tag is made of, if not the blob's fingerprint.
/// - `uploads.counted`: 0 by itself, 1 in its members, 2 in a file.
const VERSION_4: &str = "
ALTER TABLE entries ADD COLUMN entity BLOB;
ALTER TABLE uploads ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;
CREATE TABLE members (
    upload BLOB NOT NULL REFERENCES uploads, position INTEGER NOT NULL, member BLOB NOT NULL,
    PRIMARY KEY (upload, position)
) WITHOUT ROWID;
DROP INDEX uploads_open_user;
CREATE INDEX uploads_open_user ON uploads (user) WHERE state = 0 AND counted <> 2;
CREATE INDEX members_member ON members (member);
CREATE INDEX blobs_pending ON blobs (id) WHERE identity = x'';
CREATE INDEX uploads_pending ON uploads (done_fingerprint) WHERE done_identity = x'';
";

/// What a digest is found by. Rows of older schemas have nothing until the job of the lookup digests comes by.
const VERSION_5: &str = "
ALTER TABLE digests ADD COLUMN lookup BLOB;
CREATE INDEX digests_lookup ON digests (algorithm, lookup) WHERE lookup IS NOT NULL;
";

/// Groups of accounts, and what claims look up: files by size, and whether a space points to a blob. What jobs go on with;
/// blobs whose content was found damaged, and since when; whose content it is that an upload fills.
const VERSION_6: &str = "
ALTER TABLE users ADD COLUMN \"group\" TEXT;
CREATE INDEX blobs_size ON blobs (size);
DROP INDEX entries_blob;
CREATE INDEX entries_blob ON entries (blob, space) WHERE blob IS NOT NULL;
CREATE TABLE jobs (name TEXT PRIMARY KEY, state TEXT NOT NULL, updated INTEGER NOT NULL) WITHOUT ROWID;
ALTER TABLE blobs ADD COLUMN damaged INTEGER;
CREATE INDEX blobs_damaged ON blobs (id) WHERE damaged IS NOT NULL;
CREATE INDEX uploads_content ON uploads (content) WHERE content IS NOT NULL;
";

/// Brings a database to the newest schema. A database newer than this program is left alone.
///
/// # Errors
/// The number found, if it is newer than any this program knows.
pub(super) fn migrate(db: &mut Connection) -> Result<Result<(), u32>, rusqlite::Error> {
    let found: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let Some(missing) = MIGRATIONS.get(found as usize..) else { return Ok(Err(found)) };
    for (version, step) in (found + 1..).zip(missing) {
        let transaction = db.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(Ok(()))
}

/// Returns the number of the newest schema.
pub(super) fn newest() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("there are few migrations")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a database of an old schema with a file in it.
    fn old(version: usize) -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        for step in &MIGRATIONS[..version] {
            db.execute_batch(step).unwrap();
        }
        db.pragma_update(None, "user_version", u32::try_from(version).unwrap()).unwrap();
        db.execute_batch(
            "INSERT INTO contents VALUES (1, 0, 0, 0); INSERT INTO inline VALUES (1, x'07');
             INSERT INTO blobs (id, fingerprint, identity, size, content) VALUES (1, zeroblob(32), x'08', 1, 1);
             INSERT INTO entries (id, space, parent, name, version, modified, weak, blob, executable)
                 VALUES (1, 1, NULL, '', 1, 0, 0, NULL, 0), (2, 1, 1, 'a', 1, 0, 0, 1, 0);",
        )
        .unwrap();
        db
    }

    #[test]
    fn every_old_schema_becomes_the_newest_and_keeps_its_rows() {
        for version in 1..=MIGRATIONS.len() {
            let mut db = old(version);
            migrate(&mut db).unwrap().unwrap();
            let found: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
            assert_eq!(found, newest(), "from {version}");
            let file: (String, Vec<u8>) = db
                .query_row(
                    "SELECT e.name, i.sealed FROM entries e JOIN blobs b ON b.id = e.blob
                     JOIN inline i ON i.content = b.content",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .unwrap();
            assert_eq!(file, ("a".to_owned(), vec![7]), "from {version}");
            db.execute("INSERT INTO digests (blob, algorithm, sealed) VALUES (1, 'md5', x'09')", []).unwrap();
            let lookup: Option<Vec<u8>> =
                db.query_row("SELECT lookup FROM digests", [], |row| row.get(0)).unwrap();
            assert_eq!(lookup, None, "from {version}");
            let damaged: Option<i64> =
                db.query_row("SELECT damaged FROM blobs", [], |row| row.get(0)).unwrap();
            assert_eq!(damaged, None, "from {version}");
            db.execute("INSERT INTO jobs VALUES ('scrub', '{}', 0)", []).unwrap();
            let entity: Option<Vec<u8>> =
                db.query_row("SELECT entity FROM entries WHERE id = 2", [], |row| row.get(0)).unwrap();
            assert_eq!(entity, None, "from {version}");
        }
    }
}
