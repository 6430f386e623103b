//! Instant upload: content that the caller can read already appears under another name without a byte sent. A digest
//! alone never hands out somebody else's file: only the caller's own space is looked into, so unknown content and
//! content that others have get the same answer after the same work.

use std::sync::Arc;

use hapax_proto::access::Verb;
use hapax_proto::dialect::native::{ClaimItem, ClaimResult, ClaimResults, Claims};
use hapax_proto::digest::{Algorithm, Digest, FileHash, Identity};
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::Length;
use hapax_store::catalog::{Blob, Expect, Meta};
use hapax_store::error::StoreError;
use hapax_store::publish::{Published, Target};
use hapax_store::store::Store;
use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

use crate::call::{Call, Place, bad_field};
use crate::files::{completion, expectation, standing};
use crate::respond::{self, Refusal, Response};
use crate::stamp;

/// Claims of one request that are worked on at once: enough for a group commit to be worth it.
const AT_ONCE: usize = 64;

/// `POST /api/v1/claims`.
pub async fn claim(call: &mut Call<'_>) -> Result<Response, Refusal> {
    let claims: Claims = call.json().await?;
    let max = call.app.config.caps.claims;
    if claims.items.len() > max {
        return Err(Problem::new(Kind::TooLarge).member("limit", max as u64).into());
    }
    let mut results: Vec<Option<ClaimResult>> = Vec::new();
    results.resize_with(claims.items.len(), || None);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut working = JoinSet::new();
    for (index, item) in claims.items.into_iter().enumerate() {
        let claimed = match parse(call, item).await {
            Ok(Some(claimed)) => claimed,
            Ok(None) => {
                results[index] = Some(ClaimResult::Upload);
                continue;
            }
            Err(refusal) => {
                results[index] = Some(refused(&refusal));
                continue;
            }
        };
        let turn = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let store = Arc::clone(&call.app.store);
        working.spawn(async move {
            let linked = spawn_blocking(move || {
                let _turn = turn;
                link(&store, &claimed)
            });
            let linked = linked.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            (index, linked.unwrap_or_else(|refusal| refused(&refusal)))
        });
    }
    while let Some(done) = working.join_next().await {
        let (index, result) = done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        results[index] = Some(result);
    }
    let results = results.into_iter().map(|result| result.expect("every claim was worked on")).collect();
    Ok(respond::json(StatusCode::OK, &ClaimResults { results }))
}

/// A claim that can be looked up.
struct Claimed {
    place: Place,
    identity: Identity,
    meta: Meta,
    precondition: Option<hapax_proto::dialect::native::Precondition>,
}

/// Reads a claim; `None` for one whose digest says nothing that could be looked up.
async fn parse(call: &Call<'_>, item: ClaimItem) -> Result<Option<Claimed>, Refusal> {
    let place = call.place_in_body(&item.path, Verb::Claim).await?;
    let Some(blake3) =
        item.digest.map(|digest| parse_digest(&digest.alg, &digest.value)).transpose()?.flatten()
    else {
        return Ok(None);
    };
    let identity = Identity { blake3, size: Length::new(item.size) };
    let mtime = stamp::parse_mtime(item.mtime.as_deref())?;
    let meta = Meta { mtime, executable: item.executable, media_type: None };
    Ok(Some(Claimed { place, identity, meta, precondition: item.precondition }))
}

/// Reads a digest; `None` for an algorithm that identifies nothing here.
fn parse_digest(algorithm: &str, value: &str) -> Result<Option<FileHash>, Refusal> {
    match Algorithm::from_key(algorithm) {
        Some(Algorithm::Blake3) => {
            let digest = Digest::parse_hex(Algorithm::Blake3, value).map_err(|_| bad_field("digest"))?;
            Ok(digest.file_hash())
        }
        _ => Ok(None),
    }
}

/// Links the content if the target's space holds it. Blocks.
fn link(store: &Arc<Store>, claimed: &Claimed) -> Result<ClaimResult, Refusal> {
    let Claimed { place, identity, meta, precondition } = claimed;
    let space = place.space.id;
    let Some(blob) = store.catalog().blob_in_space(space, &store.fingerprint(identity))? else {
        return Ok(ClaimResult::Upload);
    };
    let expect = expectation(store, space, &place.path, precondition.as_ref())??;
    // The same tree claimed again: what stands there is what was claimed, so there is nothing to commit.
    let published = match standing(store, place, identity, meta)? {
        Some(published) => published,
        None => publish(store, claimed, expect, meta, &blob)?,
    };
    Ok(ClaimResult::Linked(completion(store, &place.space, &place.path, &published)))
}

fn publish(
    store: &Store,
    claimed: &Claimed,
    expect: Expect,
    meta: &Meta,
    blob: &Blob,
) -> Result<Published, StoreError> {
    let (space, path) = (claimed.place.space.id, claimed.place.path.clone());
    store.link(Target { space, path, expect, meta: meta.clone() }, blob)
}

fn refused(refusal: &Refusal) -> ClaimResult {
    let kind = refusal.problem().kind;
    ClaimResult::Refused { problem: kind.name().to_owned(), status: kind.status().as_u16() }
}
