//! Uploads composed of others (tus, concatenation): what their members are, and the moment at which all of these have all
//! their bytes. No byte passes through here, and none is copied.

use hapax_proto::dialect::Role;
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::{Length, Offset};
use hapax_proto::upload::State;
use hapax_store::catalog::{LaneId, Refusal as StoreRefusal, Upload, UploadId};
use hapax_store::compose::Members;
use hapax_store::error::StoreError;

use crate::call::{Call, bad_field};
use crate::finish::{admit_reading, notes_of, publish_composed};
use crate::refuse::ended;
use crate::respond::Refusal;

/// Returns the uploads of these names.
///
/// # Errors
/// 404 for one that is unknown, ended or somebody else's, 400 for one that is no piece.
pub async fn members(call: &Call<'_>, names: &[String]) -> Result<Vec<UploadId>, Refusal> {
    let ids: Option<Vec<_>> = names.iter().map(|name| UploadId::parse(name)).collect();
    let (ids, user) = (ids.ok_or(Kind::NotFound)?, call.who()?.user);
    let looked_up = ids.clone();
    let found = call
        .store(move |store| {
            let mut distinct = looked_up;
            distinct.sort_unstable();
            distinct.dedup();
            distinct.into_iter().map(|id| store.catalog().upload(id)).collect::<Result<Vec<_>, _>>()
        })
        .await?;
    for upload in found {
        let own = upload.filter(|upload| upload.user == user && upload.state == State::Open);
        if notes_of(&own.ok_or(Kind::NotFound)?)?.role() != Role::Piece {
            return Err(bad_field("upload-concat"));
        }
    }
    Ok(ids)
}

/// Refuses an upload that takes no bytes of its own.
///
/// # Errors
/// 403.
pub fn refuse_composed(upload: &Upload) -> Result<(), Refusal> {
    if notes_of(upload)?.role() == Role::Composed { Err(Kind::FinalUpload.into()) } else { Ok(()) }
}

/// Makes the file of a composed upload visible if all of it is there, and returns the upload as it is then. The caller holds its
/// append lane.
///
/// # Errors
/// 410 if a member ended before it was complete, 413 if together they are too long, 460 if it is not what was declared:
/// the upload ends. 429 if it is to be read and the account has as many digests computed as may be. The refusals of a publication.
pub async fn conclude(call: &Call<'_>, upload: Upload) -> Result<Upload, Refusal> {
    let (id, looked_up) = (upload.id, upload.clone());
    let size_max = call.app.config.caps.size;
    let members = match call.try_store(move |store| store.look_at_members(&looked_up)).await {
        Err(StoreError::Refused(StoreRefusal::NotFound)) => {
            return give_up(call, id, State::Cancelled, ended(State::Cancelled).into()).await;
        }
        Err(StoreError::TooLong { .. }) => Members::Complete { size: Length::new(u64::MAX) },
        looked => looked?,
    };
    let size = match members {
        Members::Unfinished => return Ok(upload),
        Members::Complete { size } if size > size_max => {
            let problem = Problem::new(Kind::TooLarge).member("limit", size_max.get());
            return give_up(call, id, State::Cancelled, problem.into()).await;
        }
        Members::Complete { size } => size,
    };
    let pass = admit_reading(call, &upload).await?;
    let published = call
        .store_until_cut(move |store, go| {
            store.refuse_past_quota(&upload, size)?;
            let filled = store.compose(&upload)?;
            let published = publish_composed(store, filled, size, go);
            drop(pass);
            Ok(published)
        })
        .await?;
    match published {
        Ok(_) => call.upload(id).await,
        Err(refusal) if refusal.problem().kind == Kind::FinalDigestMismatch => {
            give_up(call, id, State::Poisoned, Kind::ChecksumMismatch.into()).await
        }
        Err(refusal) => Err(refusal),
    }
}

/// Ends an upload that never will be a file.
async fn give_up<T>(call: &Call<'_>, id: UploadId, state: State, why: Refusal) -> Result<T, Refusal> {
    call.store(move |store| store.end_upload(id, state)).await?;
    Err(why)
}

/// Tells whether an upload has all its bytes where a whole takes them from. Whoever made it so [settled](settle_piece) it, and
/// need not again: what waited and was not concluded is when it is asked for.
pub fn is_settled(upload: &Upload) -> bool {
    upload.size == Some(upload.covered)
}

/// Once a piece has all its bytes, by this very request: concludes what waited for it. That this fails is no error of the piece; the next `HEAD` on what
/// waited tries again.
pub async fn settle_piece(call: &Call<'_>, upload: &Upload, offset: Offset) -> Result<(), Refusal> {
    let is_full = upload.state == State::Open && upload.size.is_some_and(|size| size.end() == offset);
    if !is_full || notes_of(upload)?.role() != Role::Piece {
        return Ok(());
    }
    let piece = upload.clone();
    let waiting = call
        .store(move |store| {
            store.close_last_part(&piece)?;
            store.composed_of(piece.id)
        })
        .await?;
    for id in waiting {
        let _lane = call.app.store.lanes().take(id, LaneId::Append).await;
        let Ok(whole) = call.upload(id).await else { continue };
        if whole.state == State::Open
            && let Err(refusal) = conclude(call, whole).await
        {
            tracing::info!(upload = %id, problem = ?refusal.problem().kind, "a composed upload is not concluded");
        }
    }
    Ok(())
}
