//! Instant upload: content that the caller can read already appears under another name without a byte sent, and content
//! that others have does for who proves to have every byte of it, if the scope reaches so far. A digest alone never hands
//! out somebody else's file: unknown content and content that is not spoken of get the same answer after the same work.
//! What is looked up and what follows from what was found is decided by `hapax_proto::claim`.

mod wider;

use std::sync::Arc;
use std::time::Instant;

use hapax_proto::access::Verb;
use hapax_proto::claim::{CANDIDATES_MAX, Found, Question, Rules, Verdict, decide_claim, decide_question};
use hapax_proto::dialect::native::{ClaimDigest, ClaimItem, ClaimResult, ClaimResults, Claims, Precondition};
use hapax_proto::digest::{Algorithm, Digest, Identity};
use hapax_proto::span::{Length, SIZE_MAX};
use hapax_store::catalog::{Blob, Expect, Meta, Refusal as StoreRefusal, UserId};
use hapax_store::error::StoreError;
use hapax_store::publish::{Published, Target};
use hapax_store::short::ShortFile;
use hapax_store::store::Store;
use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

pub use self::wider::prove;
use crate::call::{Call, Place, Spaces, bad_field};
use crate::challenges::Challenges;
use crate::files::{completion, expectation, expected_of, is_standing, standing};
use crate::respond::{self, Refusal, Response};
use crate::stamp;

/// Threads that work on the claims of one request.
const AT_ONCE: usize = 8;
/// Claims that a thread takes at a time: one change of threads costs as much as several answers.
const RUN: usize = 32;
/// Contents that are linked in one commit.
const GROUP: usize = 1_000;

/// `POST /api/v1/claims`.
pub async fn claim(call: &mut Call<'_>) -> Result<Response, Refusal> {
    let claims: Claims = call.json_items(call.app.config.caps.claims).await?;
    let asker = Arc::new(Asker::of(call)?);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut working = JoinSet::new();
    let mut items = claims.items.into_iter();
    for run in 0.. {
        let claimed: Vec<_> = items.by_ref().take(RUN).collect();
        if claimed.is_empty() {
            break;
        }
        let turn = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let (asker, mut spaces) = (Arc::clone(&asker), call.spaces()?);
        working.spawn_blocking(move || {
            let _turn = turn;
            let answer_one = |item| answer(&asker, parse(&mut spaces, &asker.rules, item)?);
            let answers = claimed.into_iter().map(answer_one);
            (
                run,
                answers
                    .map(|answer| answer.unwrap_or_else(|refusal| Step::Answer(refused(&refusal))))
                    .collect(),
            )
        });
    }
    let mut decided: Vec<(usize, Vec<Step>)> = working.join_all().await;
    decided.sort_unstable_by_key(|(run, _)| *run);
    let steps = decided.into_iter().flat_map(|(_, steps)| steps).collect();
    let linked = spawn_blocking(move || link_all(&asker.store, steps)).await;
    let results = linked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    Ok(respond::json(StatusCode::OK, &ClaimResults { results }))
}

/// Who claims, and by what rules.
struct Asker {
    store: Arc<Store>,
    challenges: Arc<Challenges>,
    rules: Rules,
    user: UserId,
}

impl Asker {
    fn of(call: &Call<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            store: Arc::clone(&call.app.store),
            challenges: Arc::clone(&call.app.challenges),
            rules: call.app.config.claims.clone(),
            user: call.who()?.user,
        })
    }
}

/// A claim that was read.
struct Claimed {
    place: Place,
    question: Question,
    meta: Meta,
    precondition: Option<Precondition>,
}

/// What is to be done for a claim.
enum Step {
    /// Nothing more: this is the answer.
    Answer(ClaimResult),
    /// The content is there, and gets its name together with others.
    Link(Box<Linking>),
}

/// A content on its way to its name.
struct Linking {
    place: Place,
    file: ShortFile,
    target: Target,
}

/// Reads a claim.
fn parse(spaces: &mut Spaces, rules: &Rules, item: ClaimItem) -> Result<Claimed, Refusal> {
    let place = spaces.place_in_body(&item.path, Verb::Claim)?;
    if item.size > SIZE_MAX {
        return Err(bad_field("size"));
    }
    let digest = item.digest.as_ref().map(parse_digest).transpose()?.flatten();
    let quick = item.quick.as_deref().map(str::parse).transpose().map_err(|_| bad_field("quick"))?;
    let question = decide_question(digest, quick, Length::new(item.size), rules);
    let mtime = stamp::parse_mtime(item.mtime.as_deref())?;
    let meta = Meta { mtime, executable: item.executable, media_type: None };
    Ok(Claimed { place, question, meta, precondition: item.precondition })
}

/// Reads a digest; `None` for an algorithm that nobody here knows.
fn parse_digest(digest: &ClaimDigest) -> Result<Option<Digest>, Refusal> {
    let Some(algorithm) = Algorithm::from_key(&digest.alg) else { return Ok(None) };
    Digest::parse_hex(algorithm, &digest.value).map(Some).map_err(|_| bad_field("digest"))
}

/// Looks up what was claimed where it is claimed for, and prepares to link it if it is there; looks further if the scope
/// reaches further. Blocks.
fn answer(asker: &Asker, claimed: Claimed) -> Result<Step, Refusal> {
    let store = &asker.store;
    let space = claimed.place.space.id;
    let (found, content) = match &claimed.question {
        Question::Content(identity) => {
            let entry = store.entry(space, &claimed.place.path)?;
            // The same tree claimed again: what stands there is what was claimed, so there is nothing to look up, and
            // nothing to commit.
            if let Some(published) = is_standing(store, entry.as_ref(), identity, &claimed.meta) {
                return Ok(Step::Answer(linked(store, &claimed.place, &published)));
            }
            let blob = store.catalog().blob_in_space(space, &store.fingerprint(identity))?;
            (Found::Content(blob.is_some()), blob.map(|blob| (entry, blob)))
        }
        Question::Digest(digest, size) => {
            let blobs = store.find_by_digest(Some(space), digest, *size, CANDIDATES_MAX)?;
            let contents = blobs.iter().map(|blob| Ok(store.identity(blob)?.blake3));
            (Found::Digest(contents.collect::<Result<_, StoreError>>()?), None)
        }
        Question::Quick(quick, size) => {
            let may_read = |length| asker.challenges.may_read(asker.user, length, Instant::now());
            (Found::Quick(store.may_hold(space, (*size, *quick), &may_read)?), None)
        }
        Question::Nothing => (Found::Nothing, None),
    };
    Ok(Step::Answer(match (decide_claim(found), content) {
        (Verdict::Link, Some((entry, blob))) => {
            let Claimed { place, meta, precondition, .. } = claimed;
            let expect = expected_of(store, entry.as_ref(), precondition.as_ref())?;
            let target = Target { space, path: place.path.clone(), expect, meta };
            return Ok(Step::Link(Box::new(Linking { place, file: store.stored(&blob)?, target })));
        }
        (Verdict::Candidates(blake3), _) => ClaimResult::Candidates { blake3 },
        (Verdict::Maybe, _) => ClaimResult::Maybe,
        (Verdict::Absent, _) => ClaimResult::Absent,
        (Verdict::Link | Verdict::Upload, _) => wider::pose(asker, &claimed)?,
    }))
}

/// Gives contents their names, many in one commit; one that is refused takes nothing from the others. Blocks.
fn link_all(store: &Arc<Store>, steps: Vec<Step>) -> Vec<ClaimResult> {
    let (mut results, mut linking) = (Vec::with_capacity(steps.len()), Vec::new());
    for step in steps {
        results.push(match step {
            Step::Answer(result) => Some(result),
            Step::Link(content) => {
                linking.push((results.len(), *content));
                None
            }
        });
    }
    while !linking.is_empty() {
        let rest = linking.split_off(linking.len().min(GROUP));
        let group = std::mem::replace(&mut linking, rest);
        let (places, files): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|(index, Linking { place, file, target })| ((index, place), (file, target)))
            .unzip();
        for ((index, place), stored) in places.into_iter().zip(store.wait_short(store.publish_short(files))) {
            results[index] = Some(match stored {
                Ok(published) => linked(store, &place, &published),
                // It was given up meanwhile: a claim brings nothing back that was deleted.
                Err(StoreError::Refused(StoreRefusal::NotLive)) => ClaimResult::Upload,
                Err(error) => refused(&error.into()),
            });
        }
    }
    results.into_iter().map(|result| result.expect("every claim was answered or linked")).collect()
}

fn linked(store: &Arc<Store>, place: &Place, published: &Published) -> ClaimResult {
    ClaimResult::Linked(completion(store, &place.space, &place.path, published))
}

/// Gives a content that is there the name that was asked for; `None` if it was given up meanwhile: a claim brings nothing
/// back that was deleted.
fn link(
    store: &Arc<Store>,
    claimed: &Claimed,
    identity: Identity,
    blob: &Blob,
) -> Result<Option<ClaimResult>, Refusal> {
    let Claimed { place, meta, precondition, .. } = claimed;
    let expect = expectation(store, place.space.id, &place.path, precondition.as_ref())??;
    // The same tree claimed again: what stands there is what was claimed, so there is nothing to commit.
    let published = match standing(store, place, &identity, meta)? {
        Some(published) => published,
        None => match publish(store, claimed, expect, meta, blob) {
            Err(StoreError::Refused(StoreRefusal::NotLive)) => return Ok(None),
            published => published?,
        },
    };
    Ok(Some(linked(store, place, &published)))
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
