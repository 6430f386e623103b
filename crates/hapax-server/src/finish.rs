//! Making a complete upload visible, as its creator asked: the end that every dialect comes to. It never receives a
//! byte.

use std::sync::Arc;

use hapax_proto::dialect::native::Precondition;
use hapax_proto::dialect::{Conflict, Notes, Role};
use hapax_proto::digest::{Algorithm, FileHash};
use hapax_proto::name::{EntryName, EntryPath};
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::Length;
use hapax_proto::upload::State;
use hapax_store::catalog::{Blob, Counted, Expect, Refusal as StoreRefusal, Upload, UserId};
use hapax_store::compose::Composed;
use hapax_store::error::StoreError;
use hapax_store::job::Pace;
use hapax_store::publish::Published;
use hapax_store::store::Store;

use crate::call::Call;
use crate::files::expectation;
use crate::limits::Pass;
use crate::refuse::problem_of;
use crate::respond::Refusal;

/// How many names are tried for an upload whose own is taken.
const NAMES_MAX: u32 = 10_000;

/// Makes a complete upload visible, for a dialect that says nothing more at the end.
///
/// # Errors
/// As [`publish`] and [`admit_reading`].
pub async fn conclude(call: &Call<'_>, upload: Upload, size: Length) -> Result<Published, Refusal> {
    let pass = admit_reading(call, &upload).await?;
    call.store_until_cut(move |store, go| {
        let published = publish(store, &upload, (size, None), go);
        drop(pass);
        Ok(published)
    })
    .await?
}

/// Returns the right to read all of an upload for what it was declared to be, if that takes reading; to be held until it is
/// read. Without a limit, one account could have every thread read.
///
/// # Errors
/// 429 if the account has as many digests computed as may be.
pub async fn admit_reading(call: &Call<'_>, upload: &Upload) -> Result<Option<Pass<UserId>>, Refusal> {
    if upload.state != State::Open || upload.digests.is_none() {
        return Ok(None);
    }
    let looked_up = upload.clone();
    let declared = call.store(move |store| store.declared(&looked_up)).await?;
    let is_composed = upload.counted == Counted::InMembers;
    if is_composed || declared.algorithms().any(|algorithm| algorithm != Algorithm::Blake3) {
        return Ok(Some(call.app.digests.enter(upload.user).ok_or(Kind::TooMany)?));
    }
    Ok(None)
}

/// Makes a complete upload visible. Blocks.
///
/// Several may come to this at once, for it may take long: one that finds the upload done by another returns what that came
/// to.
///
/// # Errors
/// 412 if its precondition does not hold, 422 if it is not what was declared now or at its creation: it stays open
/// then. The refusals of a publication.
pub fn publish(
    store: &Arc<Store>,
    upload: &Upload,
    (size, declared): (Length, Option<FileHash>),
    go: Pace<'_>,
) -> Result<Published, Refusal> {
    if notes_of(upload)?.role() != Role::File {
        let detail = "an upload for concatenation is no file by itself";
        return Err(Problem::new(Kind::Forbidden).detail(detail).into());
    }
    publish_open(store, upload, (size, declared), go).or_else(|refusal| {
        let upload = store.upload(upload.id)?;
        if upload.state == State::Done { replay(store, &upload, size, declared) } else { Err(refusal) }
    })
}

fn publish_open(
    store: &Arc<Store>,
    upload: &Upload,
    (size, declared): (Length, Option<FileHash>),
    go: Pace<'_>,
) -> Result<Published, Refusal> {
    store.close_last_part(&Upload { size: Some(size), ..upload.clone() })?;
    let upload = store.upload(upload.id)?;
    publish_by(
        store,
        upload,
        &Finish {
            verify: &|upload| store.verify_upload(upload, size, declared, go),
            give: &|upload, expect, verified| store.finish_verified(upload, expect, verified),
        },
    )
}

/// Returns what the completion of an upload that is done came to, if it was one of the same. Blocks.
///
/// # Errors
/// 400 and 422 if it was of another size or content.
pub fn replay(
    store: &Store,
    upload: &Upload,
    size: Length,
    declared: Option<FileHash>,
) -> Result<Published, Refusal> {
    let done = upload.done.as_ref().ok_or(Kind::AlreadyComplete)?;
    let published = store.completion(upload, done)?;
    if size != published.identity.size {
        return Err(Kind::InconsistentUploadLength.into());
    }
    match declared {
        Some(declared) if declared != published.identity.blake3 => {
            let problem = Problem::new(Kind::FinalDigestMismatch)
                .member("expected", declared.to_string())
                .member("actual", published.identity.blake3.to_string());
            Err(problem.into())
        }
        _ => Ok(published),
    }
}

/// Makes content that the caller may read visible as the file of an upload that has no byte of it. Blocks.
///
/// # Errors
/// As [`publish`]; 503 if the content was given up meanwhile. The upload stays open.
pub fn publish_known(store: &Arc<Store>, upload: Upload, blob: &Blob) -> Result<Published, Refusal> {
    publish_by(
        store,
        upload,
        &Finish {
            verify: &|_| Ok(()),
            give: &|upload, expect, ()| store.finish_instead(upload, expect, blob),
        },
    )
}

/// Makes an upload visible that holds all bytes of its members. Blocks.
///
/// # Errors
/// As [`publish`].
pub fn publish_composed(
    store: &Arc<Store>,
    upload: Upload,
    size: Length,
    go: Pace<'_>,
) -> Result<Composed, Refusal> {
    publish_by(
        store,
        upload,
        &Finish {
            verify: &|upload| store.verify_composed(upload, size, go),
            give: &|upload, expect, verified| {
                store.finish_composed_as(upload, size, expect, verified.as_ref())
            },
        },
    )
}

/// How an upload is finished.
struct Finish<'a, V, T> {
    /// Finds out once whether it is what was declared: that may take long.
    verify: &'a dyn Fn(&Upload) -> Result<V, StoreError>,
    /// Gives it a name, if what must stand there does.
    give: &'a dyn Fn(&Upload, Expect, &V) -> Result<T, StoreError>,
}

fn publish_by<V, T>(store: &Arc<Store>, upload: Upload, finish: &Finish<'_, V, T>) -> Result<T, Refusal> {
    let id = upload.id;
    let published = publish_as_noted(store, upload, finish)?;
    // Whoever still sends a part that is held already need not go on.
    store.lanes().evict_all(id);
    Ok(published)
}

/// Publishes under the name that the creator of the upload would have.
fn publish_as_noted<V, T>(
    store: &Arc<Store>,
    upload: Upload,
    finish: &Finish<'_, V, T>,
) -> Result<T, Refusal> {
    match notes_of(&upload)?.conflict {
        Conflict::Replace => {
            let precondition: Option<Precondition> = upload
                .precondition
                .as_deref()
                .map(serde_json::from_str)
                .transpose()
                .map_err(|error| unreadable(&upload, &error))?;
            let expect = expectation(store, upload.space, &upload.path, precondition.as_ref())??;
            let given = (finish.verify)(&upload).and_then(|found| (finish.give)(&upload, expect, &found));
            given.map_err(|error| refused(&error))
        }
        Conflict::Rename => {
            let found = (finish.verify)(&upload).map_err(|error| refused(&error))?;
            publish_under_free_name(upload, &|upload, expect| (finish.give)(upload, expect, &found))
        }
    }
}

/// Reads what the dialect of an upload noted at its creation.
///
/// # Errors
/// 500 if what is kept cannot be read.
pub fn notes_of(upload: &Upload) -> Result<Notes, Refusal> {
    Notes::decode(upload.notes.as_deref()).map_err(|error| unreadable(upload, &error))
}

fn unreadable(upload: &Upload, error: &serde_json::Error) -> Refusal {
    tracing::error!(%error, upload = %upload.id, "what is kept of an upload cannot be read");
    Kind::Damaged.into()
}

fn refused(error: &StoreError) -> Refusal {
    match error {
        StoreError::Mismatch { expected, actual } => Problem::new(Kind::FinalDigestMismatch)
            .member("expected", expected.as_str())
            .member("actual", actual.as_str())
            .into(),
        error => problem_of(error).into(),
    }
}

/// Gives an upload a name.
type Give<'a, T> = dyn Fn(&Upload, Expect) -> Result<T, StoreError> + 'a;

/// Tries the upload's own name, then others, until one is free in the very transaction that takes it. Where a file
/// stands in the way of its folder, it goes to the root: the bytes are here, and a name is no reason to lose them.
fn publish_under_free_name<T>(upload: Upload, give: &Give<'_, T>) -> Result<T, Refusal> {
    for number in 0..NAMES_MAX {
        let Some(path) = free_name(&upload.path, number) else { continue };
        match give(&Upload { path, ..upload.clone() }, Expect::Nothing) {
            Err(StoreError::Refused(StoreRefusal::NotAFolder)) => {
                let name = upload.path.name().cloned().ok_or(Kind::IsAFolder)?;
                // In the root nothing stands in the way of a folder, so this goes no deeper.
                let path = EntryPath::root().join(name).map_err(|_| Kind::BadPath)?;
                return publish_under_free_name(Upload { path, ..upload }, give);
            }
            Err(StoreError::Refused(
                StoreRefusal::Unexpected | StoreRefusal::Exists | StoreRefusal::IsAFolder,
            )) => {}
            finished => return finished.map_err(|error| refused(&error)),
        }
    }
    Err(Kind::Exists.into())
}

/// Returns the name of a number: itself, then `film (1).mkv`, `film (2).mkv`. `None` if that is too long to be one.
fn free_name(path: &EntryPath, number: u32) -> Option<EntryPath> {
    if number == 0 {
        return Some(path.clone());
    }
    let (folder, name) = path.split_last()?;
    let name = name.as_str();
    // A dot at the front begins a hidden name and no extension.
    let dot = name.rfind('.').filter(|dot| *dot > 0).unwrap_or(name.len());
    let (stem, extension) = name.split_at(dot);
    let name = EntryName::parse(&format!("{stem} ({number}){extension}")).ok()?;
    folder.join(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_name_keeps_its_extension() {
        #[track_caller]
        fn check(path: &str, number: u32, expected: Option<&str>) {
            let found = free_name(&EntryPath::parse(path).unwrap(), number);
            assert_eq!(found.map(|path| path.to_string()).as_deref(), expected);
        }
        check("/a/film.mkv", 0, Some("/a/film.mkv"));
        check("/a/film.mkv", 1, Some("/a/film (1).mkv"));
        check("/film.tar.gz", 2, Some("/film.tar (2).gz"));
        check("/README", 1, Some("/README (1)"));
        check("/.profile", 1, Some("/.profile (1)"));
        check(&format!("/{}", "x".repeat(255)), 1, None);
    }
}
