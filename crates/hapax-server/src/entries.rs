//! The tree of entries: describing, listing, making folders, moving, copying, deleting. It moves no byte.

use hapax_proto::access::{Object, Verb};
use hapax_proto::dialect::native::{
    EntryInfo, EntryKind as Word, EntryList, EntryOperation, EntryPatch, EntryVerb,
};
use hapax_proto::disposition::content_type;
use hapax_proto::name::{EntryPath, UrlPath};
use hapax_proto::problem::{Kind, Problem};
use hapax_store::catalog::{Entry, EntryKind, Expect, Space};
use hapax_store::error::StoreError;
use hapax_store::publish::Target;
use hapax_store::store::Store;
use http::StatusCode;

use crate::auth::access_id;
use crate::call::{Call, Place, bad_field, long_path};
use crate::files::{Contents, remove, spell_entity_tag, weigh};
use crate::respond::{self, Refusal, Response};
use crate::stamp;

/// Entries in a page of a listing, if the client does not say, and at most.
const PAGE: usize = 1_000;
const PAGE_MAX: usize = 10_000;

/// `GET /api/v1/entries/<path>`: describes the entry, or with `?list` what lies in it.
pub async fn read(call: &Call<'_>, named: UrlPath) -> Result<Response, Refusal> {
    let place = call.place(named).await?;
    if call.parameter("list")?.is_some() {
        return list(call, place).await;
    }
    let info = call
        .store(move |store| {
            let entry = store.entry(place.space.id, &place.path)?;
            let fits = |entry: &Entry| !place.folder || matches!(entry.kind, EntryKind::Folder);
            entry.filter(fits).map(|entry| describe(store, &place.space, &place.path, &entry)).transpose()
        })
        .await?;
    Ok(respond::json(StatusCode::OK, &info.ok_or(Kind::NotFound)?))
}

async fn list(call: &Call<'_>, place: Place) -> Result<Response, Refusal> {
    let recursive = call.parameter("recursive")?.is_some_and(|value| value != "0");
    let limit = call.parsed::<usize>("limit")?.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    call.allow_verb(Verb::ListFolder, &Object::Space { owner: access_id(place.space.owner) })?;
    let after = call.parameter("after")?;
    let after = after.map(|after| EntryPath::parse(&after)).transpose().map_err(|_| bad_field("after"))?;
    let page = call
        .store(move |store| {
            let folder = store.entry(place.space.id, &place.path)?;
            match folder.map(|entry| entry.kind) {
                None => return Ok(Err(Kind::NotFound)),
                Some(EntryKind::File { .. }) => return Ok(Err(Kind::NotAFolder)),
                Some(EntryKind::Folder) => {}
            }
            let found = store.list(place.space.id, &place.path, recursive, after.as_ref(), limit)?;
            let next = (found.len() == limit).then(|| found.last().map(|(path, _)| path.to_string()));
            let entries = found
                .iter()
                .map(|(path, entry)| describe(store, &place.space, path, entry))
                .collect::<Result<_, _>>()?;
            Ok(Ok(EntryList { entries, next: next.flatten() }))
        })
        .await?;
    Ok(respond::json(StatusCode::OK, &page?))
}

/// Returns what JSON says of an entry.
///
/// # Errors
/// The identity of the blob cannot be opened.
pub fn describe(
    store: &Store,
    space: &Space,
    path: &EntryPath,
    entry: &Entry,
) -> Result<EntryInfo, StoreError> {
    let name = path.name().map_or("", |name| name.as_str());
    let folder = EntryInfo {
        path: long_path(space, path),
        name: name.to_owned(),
        kind: Word::Folder,
        size: None,
        blake3: None,
        etag: None,
        mtime: None,
        modified: stamp::spell(entry.modified),
        executable: false,
        media_type: None,
        version: entry.version,
    };
    let EntryKind::File { blob, meta, entity } = &entry.kind else {
        return Ok(folder);
    };
    let media_type = content_type(meta.media_type.as_deref(), name);
    Ok(EntryInfo {
        kind: Word::File,
        size: Some(blob.size.get()),
        blake3: store.known_identity(blob)?.map(|identity| identity.blake3),
        etag: Some(spell_entity_tag(store, entity)),
        mtime: meta.mtime.and_then(stamp::spell_mtime),
        executable: meta.executable,
        media_type: media_type.to_str().ok().map(str::to_owned),
        ..folder
    })
}

/// `POST /api/v1/entries/<path>`: makes a folder, moves or copies an entry; answers with what is there now.
pub async fn operate(call: &mut Call<'_>, named: UrlPath) -> Result<Response, Refusal> {
    let place = call.place(named).await?;
    let operation: EntryOperation = call.json().await?;
    let target = match (operation.op, &operation.to) {
        (EntryVerb::Mkdir, None) => None,
        (EntryVerb::Move | EntryVerb::Copy, Some(to)) => {
            Some(call.place_in_body(to, Verb::WriteEntry).await?)
        }
        (EntryVerb::Mkdir, Some(_)) | (EntryVerb::Move | EntryVerb::Copy, None) => {
            return Err(bad_field("to"));
        }
    };
    match (operation.op, target) {
        (EntryVerb::Copy, Some(target)) => copy(call, place, target, operation.overwrite).await,
        (EntryVerb::Move, Some(target)) => rename(call, place, target, operation.overwrite).await,
        _ => make_folder(call, place).await,
    }
}

async fn make_folder(call: &Call<'_>, place: Place) -> Result<Response, Refusal> {
    let (space, path) = (place.space.id, place.path.clone());
    let created = call.store(move |store| store.make_folder(space, path)).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    described(call, status, place).await
}

async fn rename(call: &Call<'_>, from: Place, to: Place, overwrite: bool) -> Result<Response, Refusal> {
    call.allow_verb(Verb::DeleteEntry, &Object::Space { owner: access_id(from.space.owner) })?;
    if from.path.is_root() || to.path.is_root() {
        return Err(Problem::new(Kind::Forbidden).detail("the root of a space stays").into());
    }
    if from.space.id != to.space.id {
        return Err(Problem::new(Kind::Forbidden).detail("an entry stays in its space").into());
    }
    let (space, source, target) = (from.space.id, from.path, to.path.clone());
    call.store(move |store| store.move_entry(space, source, target, overwrite)).await?;
    described(call, StatusCode::OK, to).await
}

async fn copy(call: &Call<'_>, from: Place, to: Place, overwrite: bool) -> Result<Response, Refusal> {
    call.allow_verb(Verb::ReadEntry, &Object::Space { owner: access_id(from.space.owner) })?;
    let (space, path) = (to.space.id, to.path.clone());
    let expect = if overwrite { Expect::Anything } else { Expect::Nothing };
    let copied = call
        .try_store(move |store| {
            let source = store.entry(from.space.id, &from.path)?;
            match source.map(|entry| entry.kind) {
                None => Ok(Err(Kind::NotFound)),
                Some(EntryKind::Folder) => Ok(Err(Kind::IsAFolder)),
                Some(EntryKind::File { blob, .. }) if blob.damaged => Ok(Err(Kind::Damaged)),
                Some(EntryKind::File { blob, meta, .. }) => {
                    store.link(Target { space, path, expect, meta }, &blob).map(Ok)
                }
            }
        })
        .await;
    let published = copied.map_err(|error| unless_expected(&error, Kind::Exists))??;
    let status = if published.replaced { StatusCode::OK } else { StatusCode::CREATED };
    described(call, status, to).await
}

/// The problem of an error; where something stood that was not expected to, it is `unexpected`.
fn unless_expected(error: &StoreError, unexpected: Kind) -> Refusal {
    let problem = crate::refuse::problem_of(error);
    if problem.kind == Kind::PreconditionFailed { unexpected.into() } else { problem.into() }
}

/// Answers with what is at a place now.
async fn described(call: &Call<'_>, status: StatusCode, place: Place) -> Result<Response, Refusal> {
    let info = call
        .store(move |store| {
            let entry = store.entry(place.space.id, &place.path)?;
            entry.map(|entry| describe(store, &place.space, &place.path, &entry)).transpose()
        })
        .await?;
    // Somebody may have moved it away since.
    Ok(respond::json(status, &info.ok_or(Kind::NotFound)?))
}

/// `PATCH /api/v1/entries/<path>`: changes what is said about a file beside its bytes, if the request's preconditions
/// hold.
pub async fn patch(call: &mut Call<'_>, named: UrlPath) -> Result<Response, Refusal> {
    let place = call.place(named).await?;
    let EntryPatch { mtime, executable } = call.json().await?;
    let mtime = stamp::parse_mtime(mtime.as_deref())?;
    let (space, path) = (place.space.id, place.path.clone());
    let entry = call.store(move |store| store.entry(space, &path)).await?.ok_or(Kind::NotFound)?;
    let standing = weigh(&call.app.store, &call.parts.headers, Some(entry))?;
    if !standing.holds {
        return Err(Kind::PreconditionFailed.into());
    }
    let target = (place.path.clone(), standing.expect);
    call.store(move |store| store.set_meta(space, target, mtime, executable)).await?;
    described(call, StatusCode::OK, place).await
}

/// `DELETE /api/v1/entries/<path>`: with `?recursive=1` a folder goes with all it holds.
pub async fn delete(call: &Call<'_>, named: UrlPath) -> Result<Response, Refusal> {
    let place = call.place(named).await?;
    let recursive = call.parameter("recursive")?.is_some_and(|value| value != "0");
    let contents = if recursive { Contents::RemoveToo } else { Contents::Keep };
    remove(call, place, contents).await
}
