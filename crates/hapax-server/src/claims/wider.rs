//! Claims beyond the caller's own: who may be asked to prove possession, and what a proof is worth. Holds nothing back from
//! whoever has the file and gives nothing to whoever has only heard of it.
//!
//! ```text
//!   claim ─▶ in scope, held by enough others? ─▶ challenge ─▶ (the client hashes all of it under the seed)
//!   proof ─▶ taken once, in time, by its own? ─▶ looked up again ─▶ read and hashed ─▶ equal: link
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hapax_proto::access::{Object, Verb};
use hapax_proto::claim::{CHALLENGED_MAX, Proof, ProofHasher, Question, Scope, Seed, Wide, decide_challenge};
use hapax_proto::dialect::native::{ClaimResult, ClaimResults, Proofs};
use hapax_proto::digest::{Digest, Identity};
use hapax_proto::problem::Kind;
use hapax_proto::span::Length;
use hapax_store::catalog::Blob;
use hapax_store::error::StoreError;
use hapax_store::job::{Go, Pace};
use http::StatusCode;
use tokio::task::spawn_blocking;

use super::{Asker, Claimed, link, refused};
use crate::auth::access_id;
use crate::call::{Call, Place, allow};
use crate::challenges::Challenge;
use crate::metrics;
use crate::respond::{self, Refusal, Response};
use crate::stamp;

/// Answers a claim that nothing of the caller's own fulfils: by a challenge, or by `upload`. Blocks.
pub(super) fn pose(asker: &Asker, claimed: &Claimed) -> Result<ClaimResult, Refusal> {
    let (digest, size) = match &claimed.question {
        Question::Content(Identity { blake3, size }) => (Digest::from(*blake3), *size),
        Question::Digest(digest, size) => (*digest, *size),
        Question::Quick(..) | Question::Nothing => return Ok(ClaimResult::Upload),
    };
    let now = Instant::now();
    if !asker.rules.reach_beyond_the_caller(size) || !asker.challenges.may_look_up(asker.user, now) {
        return Ok(ClaimResult::Upload);
    }
    if spoken_of(asker, &digest, size)?.is_empty() {
        return Ok(ClaimResult::Upload);
    }
    let mut random = [0; 48];
    getrandom::fill(&mut random).map_err(|error| {
        tracing::error!(%error, "the operating system gives no random bytes");
        Kind::Internal
    })?;
    let (token, seed) = random.split_at(16);
    let seed = Seed::new(seed.try_into().expect("32 of 48 bytes"));
    let challenge = Challenge {
        digest,
        size,
        seed,
        space: claimed.place.space.id,
        path: claimed.place.path.clone(),
        meta: claimed.meta.clone(),
        precondition: claimed.precondition.clone(),
    };
    let token = token.try_into().expect("16 of 48 bytes");
    Ok(match asker.challenges.pose(asker.user, token, challenge, now) {
        Some(token) => {
            metrics::challenge_posed();
            let ends = asker.store.now().wall.after(asker.challenges.lifetime(size));
            ClaimResult::Challenge { token, seed, expires: stamp::spell(ends) }
        }
        None => ClaimResult::Upload,
    })
}

/// Returns the contents beyond the caller's own that a digest names, if they are spoken of.
fn spoken_of(asker: &Asker, digest: &Digest, size: Length) -> Result<Vec<Blob>, StoreError> {
    let Asker { store, rules, user, .. } = asker;
    let fingerprints = if let Some(blake3) = digest.file_hash() {
        vec![store.fingerprint(&Identity { blake3, size })]
    } else {
        let named = store.find_by_digest(None, digest, size, CHALLENGED_MAX)?;
        named.into_iter().map(|blob| blob.fingerprint).collect()
    };
    let (group, most) = (rules.scope == Scope::Group, rules.holders_max.max(1));
    let held = fingerprints.iter().map(|it| store.catalog().held_by_others(it, *user, group, most));
    let held = held.filter_map(Result::transpose).collect::<Result<Vec<_>, StoreError>>()?;
    let is_spoken_of = |(blob, holders): &(Blob, u32)| {
        decide_challenge(rules, size, Wide { fingerprint: &blob.fingerprint.0, holders: *holders })
    };
    Ok(held.into_iter().filter(is_spoken_of).map(|(blob, _)| blob).collect())
}

/// `POST /api/v1/claims/proofs`.
pub async fn prove(call: &mut Call<'_>) -> Result<Response, Refusal> {
    // Before any challenge is taken: who may not claim burns none.
    call.allow(&Object::Space { owner: access_id(call.who()?.user) })?;
    let proofs: Proofs = call.json_items(call.app.config.caps.claims).await?;
    let asker = Arc::new(Asker::of(call)?);
    let Some(_pass) = call.app.digests.enter(asker.user) else {
        return Err(Kind::TooMany.into());
    };
    // Taken all at once: what is late is what came late, not what waited here.
    let now = Instant::now();
    let take = |token: &str| asker.challenges.take(token, asker.user, now);
    let taken: Vec<_> = proofs.items.iter().map(|item| (take(&item.token), item.proof)).collect();
    let mut results = Vec::new();
    for (challenge, proof) in taken {
        let result = if let Some(challenge) = challenge {
            judged(call, &asker, challenge, proof).await?
        } else {
            asker.challenges.was_wrong(asker.user, now);
            metrics::challenge_answered(false, 0);
            Ok(None)
        };
        let result = result.map(|linked| linked.unwrap_or(ClaimResult::Upload));
        results.push(result.unwrap_or_else(|refusal| refused(&refusal)));
    }
    Ok(respond::json(StatusCode::OK, &ClaimResults { results }))
}

/// Finds out what an answer is worth; `None` if nothing is linked for it. The reading ends when nobody waits for it any more.
async fn judged(
    call: &Call<'_>,
    asker: &Arc<Asker>,
    challenge: Challenge,
    proof: Proof,
) -> Result<Result<Option<ClaimResult>, Refusal>, Refusal> {
    let waiting = Waiting::default();
    let waits = Arc::clone(&waiting.0);
    let (asker, subject) = (Arc::clone(asker), call.caller.subject);
    let judged = spawn_blocking(move || {
        let Some(space) = asker.store.catalog().space_by_id(challenge.space)? else { return Ok(None) };
        allow(&subject, Verb::Claim, &Object::Space { owner: access_id(space.owner) })?;
        let place = Place { space, path: challenge.path, folder: false };
        let Challenge { digest, size, seed, meta, precondition, .. } = challenge;
        let claimed = Claimed { place, question: Question::Nothing, meta, precondition };
        let go = |_| if waits.load(Ordering::Relaxed) { Go::On } else { Go::Stop };
        let begin = || ProofHasher::new(&seed, &digest, size);
        let content = proven(&asker, (&digest, size), (&begin, proof), &go)?;
        let Some(blob) = content else { return Ok(None) };
        let identity = asker.store.identity(&blob)?;
        link(&asker.store, &claimed, identity, &blob)
    });
    tokio::select! {
        judged = judged => Ok(judged.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))),
        () = call.peer.gone() => Err(Kind::Unavailable.into()),
    }
}

/// Returns the content, of those that a claim may still reach, that an answer proves possession of, and counts an answer
/// that is wrong. What was deleted meanwhile proves nobody wrong. Blocks for as long as reading takes.
fn proven(
    asker: &Asker,
    (digest, size): (&Digest, Length),
    (begin, proof): (&dyn Fn() -> ProofHasher, Proof),
    go: Pace<'_>,
) -> Result<Option<Blob>, StoreError> {
    let mut is_wrong = false;
    for blob in spoken_of(asker, digest, size)? {
        if !asker.challenges.may_read(asker.user, size, Instant::now()) {
            return Ok(None);
        }
        let expected = match asker.store.expected_proof(&blob, begin(), go) {
            Err(
                error @ (StoreError::Corrupt { .. }
                | StoreError::MissingObject { .. }
                | StoreError::Disk { .. }),
            ) => {
                tracing::warn!(blob = %blob.id, %error, "a content cannot be read to compare a proof");
                continue;
            }
            expected => expected?,
        };
        // Nobody waits for the answer any more.
        let Some(expected) = expected else { return Ok(None) };
        let is_right = expected == proof;
        metrics::challenge_answered(is_right, size.get());
        if is_right {
            asker.challenges.was_right(asker.user, size);
            return Ok(Some(blob));
        }
        is_wrong = true;
    }
    if is_wrong {
        asker.challenges.was_wrong(asker.user, Instant::now());
    }
    Ok(None)
}

/// Says that somebody waits, for as long as it lives.
struct Waiting(Arc<AtomicBool>);

impl Default for Waiting {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
