//! Every invariant of the catalog, as a query that must find nothing. `check` and all fault tests rely on it.

use rusqlite::Connection;

/// What must never be found, and the query that would find it; each gives one text column.
const INVARIANTS: &[(&str, &str)] = &[
    (
        "an extent overlaps the one before it",
        "SELECT 'content ' || content || ' at ' || start FROM (
             SELECT content, start, lag(start + length) OVER (PARTITION BY content ORDER BY start) AS before FROM extents)
         WHERE before > start",
    ),
    (
        "an extent is empty or lies outside of its object",
        "SELECT 'content ' || e.content || ' at ' || e.start FROM extents e JOIN objects o ON o.id = e.object
         WHERE e.length <= 0 OR e.object_start < 0 OR e.object_start + e.length > o.length",
    ),
    (
        "an extent points to an object that is not live",
        "SELECT 'content ' || e.content || ' at ' || e.start FROM extents e LEFT JOIN objects o ON o.id = e.object
         WHERE o.id IS NULL OR o.state <> 0",
    ),
    (
        "a live object has no extent",
        "SELECT 'object ' || lower(hex(id)) FROM objects
         WHERE state = 0 AND NOT EXISTS (SELECT 1 FROM extents WHERE object = objects.id)",
    ),
    (
        "an object lies in an unknown directory",
        "SELECT 'object ' || lower(hex(id)) FROM objects WHERE dir NOT IN (SELECT id FROM dirs)",
    ),
    (
        "the covered bytes of a content are not the sum of its extents",
        "SELECT 'content ' || id FROM contents
         WHERE covered <> (SELECT coalesce(sum(length), 0) FROM extents WHERE content = contents.id)",
    ),
    (
        "the prefix of a content does not end at its first hole",
        "SELECT 'content ' || c.id FROM contents c
         WHERE c.prefix <> (SELECT coalesce(sum(length), 0) FROM extents WHERE content = c.id AND start < c.prefix)
            OR EXISTS (SELECT 1 FROM extents WHERE content = c.id AND start = c.prefix)",
    ),
    (
        "a content has no owner, or more than one",
        "SELECT 'content ' || id FROM contents
         WHERE 1 <> (SELECT count(*) FROM blobs WHERE content = contents.id)
                  + (SELECT count(*) FROM uploads WHERE content = contents.id)
                  + (SELECT count(*) FROM spares WHERE content = contents.id)",
    ),
    (
        "a blob has holes",
        "SELECT 'blob ' || b.id FROM blobs b JOIN contents c ON c.id = b.content
         WHERE c.covered <> b.size AND NOT EXISTS (SELECT 1 FROM inline WHERE content = b.content)",
    ),
    (
        "a blob reaches behind its size",
        "SELECT 'blob ' || b.id FROM blobs b JOIN extents e ON e.content = b.content WHERE e.start + e.length > b.size",
    ),
    (
        "a content is both inline and in extents",
        "SELECT 'content ' || i.content FROM inline i JOIN contents c ON c.id = i.content WHERE c.covered <> 0",
    ),
    (
        "an orphan has an entry",
        "SELECT 'blob ' || id FROM blobs
         WHERE orphan IS NOT NULL AND EXISTS (SELECT 1 FROM entries WHERE blob = blobs.id)",
    ),
    (
        "a live blob has no entry",
        "SELECT 'blob ' || id FROM blobs
         WHERE orphan IS NULL AND NOT EXISTS (SELECT 1 FROM entries WHERE blob = blobs.id)",
    ),
    (
        "an entry points to no blob",
        "SELECT 'entry ' || id FROM entries WHERE blob IS NOT NULL AND blob NOT IN (SELECT id FROM blobs)",
    ),
    (
        "an entry lies in nothing, in a file, or in another space",
        "SELECT 'entry ' || e.id FROM entries e LEFT JOIN entries p ON p.id = e.parent
         WHERE e.parent IS NOT NULL AND (p.id IS NULL OR p.blob IS NOT NULL OR p.space <> e.space)",
    ),
    (
        "an entry hangs below no root",
        "WITH RECURSIVE below (id) AS (
             SELECT root FROM spaces UNION ALL SELECT e.id FROM entries e JOIN below ON e.parent = below.id)
         SELECT 'entry ' || id FROM entries WHERE id NOT IN (SELECT id FROM below)",
    ),
    (
        "the used bytes of a space are not the sum of its files",
        "SELECT 'space ' || name FROM spaces WHERE used <> (
             SELECT coalesce(sum(b.size), 0) FROM entries e JOIN blobs b ON b.id = e.blob WHERE e.space = spaces.id)",
    ),
    (
        "the reserved bytes of a space are not the sum of its uploads",
        "SELECT 'space ' || name FROM spaces
         WHERE reserved <> (SELECT coalesce(sum(reserved), 0) FROM uploads WHERE space = spaces.id)",
    ),
    (
        "an open upload has no content, or an ended one still has one",
        "SELECT 'upload ' || lower(hex(id)) FROM uploads WHERE (state = 0) <> (content IS NOT NULL)",
    ),
    (
        "an upload has no user or no space",
        "SELECT 'upload ' || lower(hex(id)) FROM uploads
         WHERE user NOT IN (SELECT id FROM users) OR space NOT IN (SELECT id FROM spaces)",
    ),
    (
        "a space has no owner or no root",
        "SELECT 'space ' || name FROM spaces
         WHERE owner NOT IN (SELECT id FROM users) OR root NOT IN (SELECT id FROM entries WHERE parent IS NULL)",
    ),
    (
        "an upload reaches behind its size",
        "SELECT 'upload ' || lower(hex(u.id)) FROM uploads u JOIN extents e ON e.content = u.content
         WHERE e.start + e.length > u.size",
    ),
    (
        "a lane belongs to no open upload",
        "SELECT 'upload ' || lower(hex(upload)) FROM lanes WHERE upload NOT IN (SELECT id FROM uploads WHERE state = 0)",
    ),
    ("SQLite finds damage", "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'"),
    ("a reference points nowhere", "SELECT \"table\" || ' row ' || rowid FROM pragma_foreign_key_check"),
];

/// At most so many findings of one kind are told; more say nothing new.
const TOLD_MAX: usize = 20;

pub(super) fn audit(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut findings = Vec::new();
    for (what, query) in INVARIANTS {
        let mut statement = db.prepare(query)?;
        let found = statement.query_map([], |row| row.get::<_, Option<String>>(0))?;
        for which in found.take(TOLD_MAX) {
            findings.push(format!("{what}: {}", which?.unwrap_or_default()));
        }
    }
    Ok(findings)
}
