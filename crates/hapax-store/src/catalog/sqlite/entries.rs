//! The tree of entries: rows by (parent, name), so that moving a folder is one row; and `publish`, which puts a
//! content under a name.

use hapax_proto::name::{EntryName, EntryPath};
use hapax_proto::span::Length;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{
    BlobId, Entry, EntryId, EntryKind, Expect, Meta, Outcome, Publish, Refusal, Source, SpaceId, Upload,
    UploadId,
};
use super::{Applied, Stop, blobs, row, spaces, upkeep, uploads};
use crate::clock::{Moment, Timestamp};
use crate::key::Fingerprint;

/// An entry's own columns; `Entry` adds what its ancestors say.
struct Node {
    id: i64,
    name: String,
    version: u64,
    modified: Timestamp,
    weak: bool,
    vacated: Option<i64>,
    blob: Option<BlobId>,
}

const NODE_COLUMNS: &str = "id, name, version, modified, weak, vacated, blob";

impl Node {
    fn read(found: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: found.get(0)?,
            name: found.get(1)?,
            version: row::get_u64(found, 2)?,
            modified: row::get_time(found, 3)?,
            weak: found.get(4)?,
            vacated: found.get(5)?,
            blob: found.get::<_, Option<i64>>(6)?.map(BlobId),
        })
    }

    fn is_folder(&self) -> bool {
        self.blob.is_none()
    }
}

/// When a path got its present content, gathered on the way down from the root.
#[derive(Clone, Copy, Default)]
struct Dated {
    modified: Timestamp,
    weak: bool,
}

impl Dated {
    /// Takes one more entry of the path into account: the latest second counts, and is weak if any entry of that second is.
    fn below(self, node: &Node) -> Self {
        let weak = match node.modified.as_secs().cmp(&self.modified.as_secs()) {
            std::cmp::Ordering::Less => self.weak,
            std::cmp::Ordering::Equal => self.weak || node.weak,
            std::cmp::Ordering::Greater => node.weak,
        };
        Self { modified: self.modified.max(node.modified), weak }
    }
}

// ---------------------------------------------------------------- walking

fn root(db: &Connection, space: SpaceId) -> rusqlite::Result<Option<Node>> {
    db.prepare_cached(&format!(
        "SELECT {NODE_COLUMNS} FROM entries WHERE id = (SELECT root FROM spaces WHERE id = ?1)"
    ))?
    .query_row([space.0], Node::read)
    .optional()
}

fn child(db: &Connection, parent: i64, name: &EntryName) -> rusqlite::Result<Option<Node>> {
    db.prepare_cached(&format!("SELECT {NODE_COLUMNS} FROM entries WHERE parent = ?1 AND name = ?2"))?
        .query_row(params![parent, name.as_str()], Node::read)
        .optional()
}

/// Walks from the root to `path`; `None` if there is no such entry.
fn walk(db: &Connection, space: SpaceId, path: &EntryPath) -> rusqlite::Result<Option<(Node, Dated)>> {
    let Some(mut node) = root(db, space)? else { return Ok(None) };
    let mut dated = Dated::default().below(&node);
    for name in path.names() {
        match child(db, node.id, name)? {
            Some(next) => node = next,
            None => return Ok(None),
        }
        dated = dated.below(&node);
    }
    Ok(Some((node, dated)))
}

/// Walks to a folder; a missing name is `NotFound`, a file on the way `NotAFolder`.
fn folder(db: &Connection, space: SpaceId, path: &EntryPath) -> Result<(Node, Dated), Stop> {
    let mut node = root(db, space)?.ok_or(Refusal::NotFound)?;
    let mut dated = Dated::default().below(&node);
    for name in path.names() {
        node = child(db, node.id, name)?.ok_or(Refusal::NotFound)?;
        if !node.is_folder() {
            return Err(Refusal::NotAFolder.into());
        }
        dated = dated.below(&node);
    }
    Ok((node, dated))
}

/// Walks to a folder and makes what is missing; tells whether the last name is new.
fn folder_with_parents(
    db: &Connection,
    space: SpaceId,
    path: &EntryPath,
    now: Moment,
) -> Result<(Node, Dated, bool), Stop> {
    let mut node = root(db, space)?.ok_or(Refusal::NotFound)?;
    let mut dated = Dated::default().below(&node);
    let mut created = false;
    for name in path.names() {
        let found = child(db, node.id, name)?;
        created = found.is_none();
        node = match found {
            Some(next) => next,
            None => add(db, space, &node, name, None, &Meta::default(), now)?,
        };
        if !node.is_folder() {
            return Err(Refusal::NotAFolder.into());
        }
        dated = dated.below(&node);
    }
    Ok((node, dated, created))
}

fn entry_from(db: &Connection, space: SpaceId, node: &Node, dated: Dated) -> rusqlite::Result<Entry> {
    let kind = match node.blob {
        None => EntryKind::Folder,
        Some(_) => file_of(db, node.id)?,
    };
    Ok(Entry {
        id: EntryId(node.id),
        space,
        name: EntryName::parse(&node.name).ok(),
        version: node.version,
        modified: dated.modified,
        date_weak: dated.weak,
        kind,
    })
}

fn file_of(db: &Connection, entry: i64) -> rusqlite::Result<EntryKind> {
    db.prepare_cached(&format!(
        "SELECT {}, e.mtime, e.executable, e.media_type, e.entity FROM entries e JOIN blobs b ON b.id = e.blob WHERE e.id = ?1",
        blobs::BLOB_COLUMNS
    ))?
    .query_row([entry], |found| {
        let blob = blobs::blob_from(found, 0)?;
        let next = blobs::BLOB_COLUMNS_COUNT;
        let meta = Meta {
            mtime: found.get(next)?,
            executable: found.get(next + 1)?,
            media_type: found.get(next + 2)?,
        };
        let entity = match found.get_ref(next + 3)? {
            ValueRef::Null => blob.fingerprint,
            _ => Fingerprint(row::get_bytes(found, next + 3)?),
        };
        Ok(EntryKind::File { blob, entity, meta })
    })
}

pub(super) fn find(db: &Connection, space: SpaceId, path: &EntryPath) -> rusqlite::Result<Option<Entry>> {
    walk(db, space, path)?.map(|(node, dated)| entry_from(db, space, &node, dated)).transpose()
}

pub(super) fn children(
    db: &Connection,
    space: SpaceId,
    folder: &EntryPath,
    after: Option<&EntryName>,
    limit: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let Some((parent, dated)) = walk(db, space, folder)? else { return Ok(Vec::new()) };
    let nodes = db
        .prepare_cached(&format!(
            "SELECT {NODE_COLUMNS} FROM entries WHERE parent = ?1 AND name > ?2 ORDER BY name LIMIT ?3"
        ))?
        .query_map(params![parent.id, after.map_or("", EntryName::as_str), row::limit(limit)], Node::read)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    nodes.iter().map(|node| entry_from(db, space, node, dated.below(node))).collect()
}

/// Names up to this many paths that show a blob.
const PATHS_NAMED: usize = 4;

/// Returns the long forms of some paths that show a blob, for people.
pub(super) fn paths_of(db: &Connection, blob: BlobId) -> rusqlite::Result<Vec<String>> {
    let entries = db
        .prepare_cached("SELECT id FROM entries WHERE blob = ?1 ORDER BY id LIMIT ?2")?
        .query_map(params![blob.0, row::limit(PATHS_NAMED)], |found| found.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    entries.into_iter().map(|entry| long_path(db, entry)).collect()
}

/// Returns the long form of an entry's path.
fn long_path(db: &Connection, entry: i64) -> rusqlite::Result<String> {
    db.prepare_cached(
        "WITH RECURSIVE up (id, parent, space, path) AS (
             SELECT id, parent, space, '' FROM entries WHERE id = ?1
             UNION ALL
             SELECT p.id, p.parent, p.space, '/' || (SELECT name FROM entries WHERE id = up.id) || up.path
             FROM up JOIN entries p ON p.id = up.parent)
         SELECT '/@' || (SELECT name FROM spaces WHERE id = up.space) || path FROM up WHERE parent IS NULL",
    )?
    .query_row([entry], |found| found.get(0))
}

// ---------------------------------------------------------------- changing

/// Tells whether a path that changes now may have shown another content in this very second. `replaced` is the date
/// that was told of the path until now.
fn is_weak(now: Moment, replaced: Option<Timestamp>, vacated: Option<i64>) -> bool {
    let second = row::int(now.wall.as_secs());
    replaced.is_some_and(|time| row::int(time.as_secs()) >= second)
        || vacated.is_some_and(|time| time >= second)
}

fn add(
    db: &Connection,
    space: SpaceId,
    parent: &Node,
    name: &EntryName,
    blob: Option<BlobId>,
    meta: &Meta,
    now: Moment,
) -> rusqlite::Result<Node> {
    let weak = is_weak(now, None, parent.vacated);
    db.prepare_cached(
        "INSERT INTO entries (space, parent, name, version, modified, weak, blob, mtime, executable, media_type)
         VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        space.0,
        parent.id,
        name.as_str(),
        row::time(now.wall),
        weak,
        blob.map(|blob| blob.0),
        meta.mtime,
        meta.executable,
        meta.media_type
    ])?;
    let id = db.last_insert_rowid();
    Ok(Node { id, name: name.as_str().to_owned(), version: 1, modified: now.wall, weak, vacated: None, blob })
}

pub(super) fn add_root(db: &Connection, space: SpaceId, now: Moment) -> rusqlite::Result<EntryId> {
    db.prepare_cached(
        "INSERT INTO entries (space, parent, name, version, modified, weak, executable) VALUES (?1, NULL, '', 1, ?2, 0, 0)",
    )?
    .execute(params![space.0, row::time(now.wall)])?;
    Ok(EntryId(db.last_insert_rowid()))
}

/// Notes that a folder lost a name, of which `told` was the last date told.
fn vacate(db: &Connection, parent: i64, told: Timestamp, now: Moment) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE entries SET vacated = max(coalesce(vacated, 0), ?2) WHERE id = ?1")?
        .execute(params![parent, row::int(now.wall.max(told).as_secs())])?;
    Ok(())
}

fn expect(found: Option<&Node>, expect: Expect) -> Result<(), Refusal> {
    match (expect, found) {
        (Expect::Anything, _) | (Expect::Nothing, None) => Ok(()),
        (Expect::Entry(id, version), Some(node)) if node.id == id.0 && node.version == version => Ok(()),
        _ => Err(Refusal::Unexpected),
    }
}

pub(super) fn make_folder(db: &Connection, space: SpaceId, path: &EntryPath, now: Moment) -> Applied {
    let (node, _, created) = folder_with_parents(db, space, path, now)?;
    Ok(Outcome::Entry { id: EntryId(node.id), created })
}

pub(super) fn move_entry(
    db: &Connection,
    space: SpaceId,
    from: &EntryPath,
    to: &EntryPath,
    overwrite: bool,
    now: Moment,
) -> Applied {
    let (Some((from_parent, from_name)), Some((to_parent, to_name))) = (from.split_last(), to.split_last())
    else {
        return Err(Refusal::Malformed("the root of a space cannot be moved or replaced").into());
    };
    let (source_folder, source_dated) = folder(db, space, &from_parent)?;
    let source = child(db, source_folder.id, from_name)?.ok_or(Refusal::NotFound)?;
    if from == to {
        return Ok(Outcome::Entry { id: EntryId(source.id), created: false });
    }
    if source.is_folder() && to.starts_with(from) {
        return Err(Refusal::IntoItself.into());
    }
    let (target_folder, target_dated) = folder(db, space, &to_parent)?;
    let replaced = child(db, target_folder.id, to_name)?;
    if let Some(target) = &replaced {
        if !overwrite || target.is_folder() || source.is_folder() {
            return Err(Refusal::Exists.into());
        }
        remove_node(db, space, target, now)?;
    }
    let replaced = replaced.map(|node| target_dated.below(&node).modified);
    let weak = is_weak(now, replaced, target_folder.vacated);
    let modified = replaced.map_or(now.wall, |told| told.max(now.wall));
    db.prepare_cached(
        "UPDATE entries SET parent = ?2, name = ?3, version = version + 1, modified = ?4, weak = ?5 WHERE id = ?1",
    )?
    .execute(params![source.id, target_folder.id, to_name.as_str(), row::time(modified), weak])?;
    vacate(db, source_folder.id, source_dated.below(&source).modified, now)?;
    if let Some(told) = replaced {
        vacate(db, target_folder.id, told, now)?;
    }
    Ok(Outcome::Entry { id: EntryId(source.id), created: false })
}

pub(super) fn remove(
    db: &Connection,
    space: SpaceId,
    path: &EntryPath,
    expected: Expect,
    recursive: bool,
    now: Moment,
) -> Applied {
    let Some((parent, name)) = path.split_last() else {
        return Err(Refusal::Malformed("the root of a space cannot be removed").into());
    };
    let (folder, dated) = folder(db, space, &parent)?;
    let node = child(db, folder.id, name)?.ok_or(Refusal::NotFound)?;
    expect(Some(&node), expected)?;
    if node.is_folder() && !recursive && has_children(db, node.id)? {
        return Err(Refusal::NotEmpty.into());
    }
    let told = remove_tree(db, space, &node, now)?.max(dated.modified);
    vacate(db, folder.id, told, now)?;
    Ok(Outcome::Done)
}

fn has_children(db: &Connection, folder: i64) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM entries WHERE parent = ?1 LIMIT 1")?.exists([folder])
}

/// Removes an entry and all below it, deepest first. Returns the latest time of all.
pub(super) fn remove_below(
    db: &Connection,
    space: SpaceId,
    top: EntryId,
    now: Moment,
) -> rusqlite::Result<Timestamp> {
    let nodes = db
        .prepare_cached(&format!(
            "WITH RECURSIVE below (entry, depth) AS (
                 SELECT ?1, 0
                 UNION ALL
                 SELECT e.id, depth + 1 FROM entries e JOIN below ON e.parent = below.entry)
             SELECT {NODE_COLUMNS} FROM below JOIN entries ON id = entry ORDER BY depth DESC"
        ))?
        .query_map([top.0], Node::read)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    nodes.iter().try_for_each(|node| remove_node(db, space, node, now))?;
    Ok(nodes.iter().map(|node| node.modified).max().unwrap_or_default())
}

fn remove_tree(db: &Connection, space: SpaceId, node: &Node, now: Moment) -> rusqlite::Result<Timestamp> {
    if node.is_folder() {
        return remove_below(db, space, EntryId(node.id), now);
    }
    remove_node(db, space, node, now)?;
    Ok(node.modified)
}

fn remove_node(db: &Connection, space: SpaceId, node: &Node, now: Moment) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM entries WHERE id = ?1")?.execute([node.id])?;
    if let Some(blob) = node.blob {
        spaces::add_used(db, space, -row::length(size_of(db, blob)?))?;
        blobs::release(db, blob, now.steady)?;
    }
    Ok(())
}

fn size_of(db: &Connection, blob: BlobId) -> rusqlite::Result<Length> {
    db.prepare_cached("SELECT size FROM blobs WHERE id = ?1")?
        .query_row([blob.0], |found| row::get_length(found, 0))
}

pub(super) fn set_meta(
    db: &Connection,
    (space, path, expected): (SpaceId, &EntryPath, Expect),
    mtime: Option<i64>,
    executable: Option<bool>,
) -> Applied {
    let Some((parent, name)) = path.split_last() else {
        return Err(Refusal::IsAFolder.into());
    };
    let node = child(db, folder(db, space, &parent)?.0.id, name)?.ok_or(Refusal::NotFound)?;
    if node.is_folder() {
        return Err(Refusal::IsAFolder.into());
    }
    expect(Some(&node), expected)?;
    if let Some(mtime) = mtime {
        db.prepare_cached("UPDATE entries SET mtime = ?2 WHERE id = ?1")?.execute(params![node.id, mtime])?;
    }
    if let Some(executable) = executable {
        db.prepare_cached("UPDATE entries SET executable = ?2 WHERE id = ?1")?
            .execute(params![node.id, executable])?;
    }
    db.prepare_cached("UPDATE entries SET version = version + 1 WHERE id = ?1")?.execute([node.id])?;
    Ok(Outcome::Entry { id: EntryId(node.id), created: false })
}

// ---------------------------------------------------------------- publishing

/// The content that `publish` settled on.
struct Settled {
    blob: BlobId,
    /// Whether it was held already.
    known: bool,
}

pub(super) fn publish(db: &Connection, publish: &Publish) -> Applied {
    let Some((parent, name)) = publish.path.split_last() else {
        return Err(Refusal::IsAFolder.into());
    };
    let (folder, dated, _) = folder_with_parents(db, publish.space, &parent, publish.now)?;
    let target = child(db, folder.id, name)?;
    if target.as_ref().is_some_and(Node::is_folder) {
        return Err(Refusal::IsAFolder.into());
    }
    expect(target.as_ref(), publish.expect)?;

    let settled = settle(db, publish)?;
    let freed = match target.as_ref().and_then(|node| node.blob) {
        Some(old) => row::length(size_of(db, old)?),
        None => 0,
    };
    let was = spaces::filled(db, publish.space)?;
    spaces::add_used(db, publish.space, row::length(publish.size) - freed)?;

    let (entry, version) = if let Some(node) = &target {
        let told = dated.below(node).modified;
        let weak = is_weak(publish.now, Some(told), folder.vacated);
        let dated = Dated { modified: publish.now.wall.max(told), weak };
        replace(db, node, dated, &settled, publish)?
    } else {
        let node = add(db, publish.space, &folder, name, Some(settled.blob), &publish.meta, publish.now)?;
        (node.id, node.version)
    };
    set_entity(db, entry, publish)?;
    let replaced = target.is_some();
    if let Source::Upload { id, .. } | Source::Instead { id, .. } = &publish.source {
        uploads::finish(db, *id, publish, version, replaced)?;
    }
    spaces::check_quota(db, publish.space, was)?;
    Ok(Outcome::Published {
        entry: EntryId(entry),
        version,
        replaced,
        blob: settled.blob,
        known: settled.known,
    })
}

/// Keeps what the entity tag of a file is made of, if that will not be the fingerprint of its blob for ever.
fn set_entity(db: &Connection, entry: i64, publish: &Publish) -> rusqlite::Result<()> {
    let entity = publish.identity.is_none().then_some(&publish.fingerprint.0[..]);
    db.prepare_cached("UPDATE entries SET entity = ?2 WHERE id = ?1 AND entity IS NOT ?2")?
        .execute(params![entry, entity])?;
    Ok(())
}

fn replace(
    db: &Connection,
    node: &Node,
    dated: Dated,
    settled: &Settled,
    publish: &Publish,
) -> rusqlite::Result<(i64, u64)> {
    let meta = &publish.meta;
    db.prepare_cached(
        "UPDATE entries SET version = version + 1, modified = ?2, weak = ?3, blob = ?4, mtime = ?5, executable = ?6,
             media_type = ?7 WHERE id = ?1",
    )?
    .execute(params![
        node.id,
        row::time(dated.modified),
        dated.weak,
        settled.blob.0,
        meta.mtime,
        meta.executable,
        meta.media_type
    ])?;
    if let Some(old) = node.blob {
        blobs::release(db, old, publish.now.steady)?;
    }
    Ok((node.id, node.version + 1))
}

/// Finds or makes the blob; content that is held already makes the new copy a spare.
fn settle(db: &Connection, publish: &Publish) -> Result<Settled, Stop> {
    if let Source::Known(blob) | Source::Instead { blob, .. } = &publish.source {
        blobs::hold(db, *blob)?;
        let held = blobs::by_fingerprint(db, &publish.fingerprint)?;
        if held.is_none_or(|held| held.id != *blob || held.size != publish.size) {
            return Err(Refusal::NotLive.into());
        }
        if let Source::Instead { id, generation, .. } = &publish.source {
            let upload = check_upload(db, *id, *generation, publish)?;
            uploads::drop_content(db, &upload)?;
        }
        return Ok(Settled { blob: *blob, known: true });
    }
    let held = blobs::by_fingerprint(db, &publish.fingerprint)?;
    let content = match &publish.source {
        Source::Upload { id, generation, content_version } => {
            Some(take_upload(db, *id, *generation, *content_version, publish)?)
        }
        Source::Extents(put) => {
            let content = blobs::new_content(db)?;
            blobs::place(db, content, put)?;
            if !blobs::is_whole(db, content, publish.size)? {
                return Err(Refusal::Incomplete.into());
            }
            Some(content)
        }
        Source::Inline(sealed) => {
            if let Some(held) = held.as_ref().filter(|held| held.size == publish.size)
                && upkeep::replace_inline(db, held, sealed)?
            {
                blobs::revive(db, held.id)?;
                return Ok(Settled { blob: held.id, known: true });
            }
            let content = blobs::new_content(db)?;
            blobs::set_inline(db, content, sealed)?;
            Some(content)
        }
        Source::Known(_) | Source::Instead { .. } => None,
    };
    match (held, content) {
        (Some(held), _) if held.size != publish.size => {
            Err(Refusal::Malformed("one identity has two sizes").into())
        }
        (Some(held), content) => {
            blobs::revive(db, held.id)?;
            if let Some(content) = content {
                upkeep::add_copy(db, &held, content)?;
            }
            Ok(Settled { blob: held.id, known: true })
        }
        (None, Some(content)) => {
            let blob =
                blobs::insert(db, &publish.fingerprint, publish.identity.as_deref(), publish.size, content)?;
            Ok(Settled { blob, known: false })
        }
        (None, None) => Err(Refusal::NotLive.into()),
    }
}

fn take_upload(
    db: &Connection,
    id: UploadId,
    generation: u32,
    content_version: u64,
    publish: &Publish,
) -> Result<super::super::ContentId, Stop> {
    let upload = check_upload(db, id, generation, publish)?;
    if upload.content_version != content_version {
        return Err(Refusal::Superseded.into());
    }
    if !blobs::is_whole(db, upload.content, publish.size)? {
        return Err(Refusal::Incomplete.into());
    }
    Ok(upload.content)
}

/// Returns an open upload into the space and of the size that is published.
fn check_upload(db: &Connection, id: UploadId, generation: u32, publish: &Publish) -> Result<Upload, Stop> {
    let upload = uploads::open(db, id, generation)?;
    if upload.space != publish.space {
        return Err(Refusal::Malformed("the upload is another space's").into());
    }
    if upload.size.is_some_and(|size| size != publish.size) {
        return Err(Refusal::Incomplete.into());
    }
    Ok(upload)
}
