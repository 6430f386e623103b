//! Making a complete upload visible, as its creator asked: the end that every dialect comes to. It never receives a
//! byte.

use std::sync::Arc;

use hapax_proto::dialect::native::Precondition;
use hapax_proto::dialect::{Conflict, Notes, Role};
use hapax_proto::digest::FileHash;
use hapax_proto::name::{EntryName, EntryPath};
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::Length;
use hapax_proto::upload::State;
use hapax_store::catalog::{Blob, Expect, Refusal as StoreRefusal, Upload};
use hapax_store::compose::Composed;
use hapax_store::error::StoreError;
use hapax_store::publish::Published;
use hapax_store::store::Store;

use crate::files::expectation;
use crate::refuse::problem_of;
use crate::respond::Refusal;

/// How many names are tried for an upload whose own is taken.
const NAMES_MAX: u32 = 10_000;

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
    size: Length,
    declared: Option<FileHash>,
) -> Result<Published, Refusal> {
    if notes_of(upload)?.role() != Role::File {
        let detail = "an upload for concatenation is no file by itself";
        return Err(Problem::new(Kind::Forbidden).detail(detail).into());
    }
    publish_open(store, upload, size, declared).or_else(|refusal| {
        let upload = store.upload(upload.id)?;
        if upload.state == State::Done { replay(store, &upload, size, declared) } else { Err(refusal) }
    })
}

fn publish_open(
    store: &Arc<Store>,
    upload: &Upload,
    size: Length,
    declared: Option<FileHash>,
) -> Result<Published, Refusal> {
    store.close_last_part(&Upload { size: Some(size), ..upload.clone() })?;
    let upload = store.upload(upload.id)?;
    publish_by(store, upload, &|upload, expect| store.finish_upload(upload, size, expect, declared))
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
    publish_by(store, upload, &|upload, expect| store.finish_instead(upload, expect, blob))
}

/// Makes an upload visible that holds all bytes of its members. Blocks.
///
/// # Errors
/// As [`publish`].
pub fn publish_composed(store: &Arc<Store>, upload: Upload, size: Length) -> Result<Composed, Refusal> {
    publish_by(store, upload, &|upload, expect| store.finish_composed(upload, size, expect))
}

/// How an upload is finished under a path, if what must stand there does.
type Finish<'a, T> = dyn Fn(&Upload, Expect) -> Result<T, StoreError> + 'a;

fn publish_by<T>(store: &Arc<Store>, upload: Upload, finish: &Finish<'_, T>) -> Result<T, Refusal> {
    let id = upload.id;
    let published = publish_as_noted(store, upload, finish)?;
    // Whoever still sends a part that is held already need not go on.
    store.lanes().evict_all(id);
    Ok(published)
}

/// Publishes under the name that the creator of the upload would have.
fn publish_as_noted<T>(store: &Arc<Store>, upload: Upload, finish: &Finish<'_, T>) -> Result<T, Refusal> {
    match notes_of(&upload)?.conflict {
        Conflict::Replace => {
            let precondition: Option<Precondition> = upload
                .precondition
                .as_deref()
                .map(serde_json::from_str)
                .transpose()
                .map_err(|error| unreadable(&upload, &error))?;
            let expect = expectation(store, upload.space, &upload.path, precondition.as_ref())??;
            finish(&upload, expect).map_err(|error| refused(&error))
        }
        Conflict::Rename => publish_under_free_name(upload, finish),
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

/// Tries the upload's own name, then others, until one is free in the very transaction that takes it. Where a file
/// stands in the way of its folder, it goes to the root: the bytes are here, and a name is no reason to lose them.
fn publish_under_free_name<T>(upload: Upload, finish: &Finish<'_, T>) -> Result<T, Refusal> {
    for number in 0..NAMES_MAX {
        let Some(path) = free_name(&upload.path, number) else { continue };
        match finish(&Upload { path, ..upload.clone() }, Expect::Nothing) {
            Err(StoreError::Refused(StoreRefusal::NotAFolder)) => {
                let name = upload.path.name().cloned().ok_or(Kind::IsAFolder)?;
                // In the root nothing stands in the way of a folder, so this goes no deeper.
                let path = EntryPath::root().join(name).map_err(|_| Kind::BadPath)?;
                return publish_under_free_name(Upload { path, ..upload }, finish);
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
