//! Instant upload: content that the server already has for this user is linked instead of sent. Owns when a claim
//! is worth its round trip and what its answers mean; never sends content, and never fails a transfer that could
//! go on by sending.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hapax_proto::claim::{CHALLENGE_LIFETIME, ProofHasher, more_time};
use hapax_proto::course::Likeness;
use hapax_proto::dialect::native::{
    ClaimDigest, ClaimItem, ClaimResult, Claims, Completed, EntryInfo, Precondition, ProofItem, Proofs,
};
use hapax_proto::digest::{Digest, FileHash, Identity};
use hapax_proto::problem::{Advice, Kind, Problem};
use hapax_proto::span::Length;
use http::StatusCode;

use crate::api::RemotePath;
use crate::attempt::repeat;
use crate::cache::Digested;
use crate::client::Client;
use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::source::{Facts, Source, Stamp, absolute, look, show_writes};

/// The smallest content that is claimed: sending less costs no more than asking.
pub const CLAIM_MIN: Length = Length::new(64 * 1024);

/// The most items of one request that the protocol allows.
const ITEMS_MAX: usize = 10_000;

/// Where content should appear, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The remote path.
    pub path: RemotePath,
    /// What must hold there.
    pub precondition: Option<Precondition>,
}

/// A local file that may be linked without being read.
#[derive(Debug, Clone)]
pub struct Known {
    /// The local file.
    pub source: PathBuf,
    /// What it is, if somebody looked just now.
    pub facts: Option<Facts>,
    /// Where it should appear.
    pub target: Target,
}

/// Links every file whose hash the cache knows and whose content the server has; the others, `None`, must be put.
///
/// No file is read, and a tree that did not change costs one request for every ten thousand files.
pub async fn claim_known(
    client: &Client,
    files: Vec<Known>,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Option<Completed>>, TransferError> {
    let mut linked = vec![None; files.len()];
    let mut known = known(client, files).await?;
    while !known.is_empty() {
        let rest = known.split_off(known.len().min(ITEMS_MAX));
        let (indices, items) = std::mem::replace(&mut known, rest).into_iter().unzip::<_, _, Vec<_>, _>();
        let claims = Claims { items };
        let Some(results) = ask(client, &claims, progress).await? else { continue };
        for ((index, item), result) in indices.into_iter().zip(&claims.items).zip(results) {
            let is_claimed = |completed: &Completed| {
                item.digest.as_ref().is_some_and(|digest| digest.value == completed.blake3.to_string())
            };
            if let ClaimResult::Linked(completed) = result
                && is_claimed(&completed)
            {
                linked[index] = Some(completed);
            }
        }
    }
    Ok(linked)
}

/// Makes claims for those of the files that the cache knows, with their numbers.
async fn known(client: &Client, files: Vec<Known>) -> Result<Vec<(usize, ClaimItem)>, TransferError> {
    let Some(cache) = &client.cache else { return Ok(Vec::new()) };
    let (paths, targets) = files.into_iter().map(|file| ((file.source, file.facts), file.target)).unzip();
    // A file that cannot be looked at fails where it is put, by its own name.
    let looked = look(paths).await?;
    let told = cache.lookup_all(looked).await;
    let told = told.inspect_err(|error| tracing::debug!(%error, "the digest cache does not answer"));
    let targets: Vec<Target> = targets;
    let claims = told
        .unwrap_or_default()
        .into_iter()
        .map(|(number, facts, blake3)| (number, item(&targets[number], &facts, &blake3.into())));
    Ok(claims.collect())
}

/// Claims one content; `None` means that it must be sent.
///
/// # Errors
/// What would be refused just the same after everything was sent: a name that is taken, a quota that is used up.
pub(crate) async fn claim(
    client: &Client,
    target: &Target,
    source: &Source,
    (facts, blake3): (&Facts, FileHash),
    progress: &Arc<dyn Progress>,
) -> Result<Option<Completed>, TransferError> {
    let claims = Claims { items: vec![item(target, facts, &blake3.into())] };
    match ask(client, &claims, progress).await?.unwrap_or_default().into_iter().next() {
        // What stands there if it is another one is replaced by sending.
        Some(ClaimResult::Linked(completed)) if completed.blake3 != blake3 => Ok(None),
        Some(ClaimResult::Linked(completed)) => {
            progress.event(Event::Instant);
            Ok(Some(completed))
        }
        Some(ClaimResult::Challenge { token, seed, .. }) => {
            let hasher = ProofHasher::new(&seed, &blake3.into(), facts.size());
            let proven = prove(client, (source, *facts), &claims, (token, hasher), progress).await?;
            Ok(proven.filter(|completed| completed.blake3 == blake3))
        }
        Some(ClaimResult::Refused { problem, status }) => match refusal(&problem, status) {
            Some(kind) if kind.advice() == Advice::GiveUp => {
                let refused = refused(target, kind);
                let ours = Identity { blake3, size: facts.size() };
                unless_there(client, target, ours, (refused, progress)).await.map(Some)
            }
            _ => Ok(None),
        },
        // Nobody has to be told candidates who named the content itself.
        Some(
            ClaimResult::Candidates { .. } | ClaimResult::Upload | ClaimResult::Absent | ClaimResult::Maybe,
        )
        | None => Ok(None),
    }
}

/// Answers a challenge by reading the file once more; `None` means that it must be sent. Where the answer to the proof is lost
/// on the way, the claim is made once more: what was linked is one's own then.
async fn prove(
    client: &Client,
    (source, facts): (&Source, Facts),
    claims: &Claims,
    (token, hasher): (String, ProofHasher),
    progress: &Arc<dyn Progress>,
) -> Result<Option<Completed>, TransferError> {
    let until = Instant::now() + CHALLENGE_LIFETIME + more_time(facts.size());
    let Some(proof) = source.prove(facts, hasher, until).await? else { return Ok(None) };
    progress.event(Event::Hashed(facts.size()));
    let proven = client.api.prove(&Proofs { items: vec![ProofItem { token, proof }] }).await;
    let results = match proven {
        Ok(answer) => Some(answer.results),
        Err(error) => {
            tracing::debug!(%error, "the proof is not answered");
            ask(client, claims, progress).await?
        }
    };
    let Some(ClaimResult::Linked(completed)) = results.and_then(|results| results.into_iter().next()) else {
        return Ok(None);
    };
    progress.event(Event::Instant);
    Ok(Some(completed))
}

/// Asks whether the caller may have a file already, after reading three MiB of it.
///
/// # Errors
/// The file cannot be read; the server does not let the caller ask.
pub async fn probe(
    client: &Client,
    target: &Target,
    (source, facts): (&Source, Facts),
    progress: &Arc<dyn Progress>,
) -> Result<Likeness, TransferError> {
    let Some(quick) = source.quick(facts).await? else { return Ok(Likeness::Unknown) };
    let item = ClaimItem { digest: None, quick: Some(quick.to_string()), ..described(target, &facts) };
    let results = ask(client, &Claims { items: vec![item] }, progress).await?.unwrap_or_default();
    Ok(match results.first() {
        Some(ClaimResult::Absent) => Likeness::Absent,
        Some(ClaimResult::Maybe) => Likeness::Maybe,
        _ => Likeness::Unknown,
    })
}

/// Claims a local file by a digest that somebody knows of it already, an MD5 say, and reads it only if the server has
/// something with that digest: then its BLAKE3 is computed, once, and claimed. `None` means that it must be put.
///
/// # Errors
/// What would be refused just the same after everything was sent: a name that is taken, a quota that is used up. The file
/// cannot be read.
pub async fn claim_digest(
    client: &Client,
    path: &Path,
    (target, digest): (&Target, &Digest),
    progress: &Arc<dyn Progress>,
) -> Result<Option<Completed>, TransferError> {
    let path = absolute(path)?;
    let (source, facts) = Source::open(&path).await?;
    if let Some(blake3) = digest.file_hash() {
        return claim(client, target, &source, (&facts, blake3), progress).await;
    }
    let claims = Claims { items: vec![item(target, &facts, digest)] };
    match ask(client, &claims, progress).await?.unwrap_or_default().into_iter().next() {
        Some(ClaimResult::Candidates { blake3: candidates }) => {
            let begun = Stamp::now();
            let hashed = match cached(client, &path, &facts).await {
                Some(blake3) => Some(blake3),
                None => source.hash(facts).await?,
            };
            let Some(blake3) = hashed else { return Ok(None) };
            remember(client, &path, (&facts, begun), blake3).await;
            // Another content with the same digest is no reason to ask again.
            if !candidates.contains(&blake3) {
                return Ok(None);
            }
            claim(client, target, &source, (&facts, blake3), progress).await
        }
        // What is not among the caller's own and may be linked all the same.
        Some(ClaimResult::Challenge { token, seed, .. }) => {
            let hasher = ProofHasher::new(&seed, digest, facts.size());
            prove(client, (&source, facts), &claims, (token, hasher), progress).await
        }
        Some(ClaimResult::Refused { problem, status }) => match refusal(&problem, status) {
            Some(kind) if kind.advice() == Advice::GiveUp => Err(refused(target, kind)),
            _ => Ok(None),
        },
        // Nothing is linked by such a digest.
        Some(ClaimResult::Linked(_) | ClaimResult::Upload | ClaimResult::Absent | ClaimResult::Maybe)
        | None => Ok(None),
    }
}

/// Returns what the cache says of a file; a cache that fails says nothing.
pub(crate) async fn cached(client: &Client, path: &Path, facts: &Facts) -> Option<FileHash> {
    let found = client.cache.as_ref()?.lookup(path, facts).await;
    found.inspect_err(|error| tracing::debug!(%error, "the digest cache does not answer")).ok()?
}

/// Tells the cache what a file hashed to that a [`Source`] was opened for; a cache that fails is done without.
pub(crate) async fn remember(
    client: &Client,
    path: &Path,
    (facts, begun): (&Facts, Stamp),
    blake3: FileHash,
) {
    remember_all(client, vec![Digested { path: path.to_owned(), facts: *facts, begun, blake3 }]).await;
}

/// Claims the contents of several files in one request; returns those that were linked, by the number that the caller
/// gave them.
pub(crate) async fn claim_all(
    client: &Client,
    files: &[(usize, &Target, (Facts, FileHash))],
    progress: &Arc<dyn Progress>,
) -> Result<Vec<(usize, Completed)>, TransferError> {
    let items = files.iter().map(|(_, target, (facts, blake3))| item(target, facts, &(*blake3).into()));
    let items = items.collect();
    let results = ask(client, &Claims { items }, progress).await?.unwrap_or_default();
    let linked = |(number, result)| match result {
        ClaimResult::Linked(completed) => Some((number, completed)),
        // What is challenged is claimed again where it is sent, one by one.
        _ => None,
    };
    Ok(files.iter().map(|(number, ..)| *number).zip(results).filter_map(linked).collect())
}

/// Tells the cache what several files hashed to that had been written back; a cache that fails is done without.
pub(crate) async fn remember_all(client: &Client, mut files: Vec<Digested>) {
    let Some(cache) = &client.cache else { return };
    let shown = show_writes(files.iter().map(|file| file.path.clone()).collect()).await;
    let mut shown = shown.into_iter();
    files.retain(|_| shown.next() == Some(true));
    if let Err(error) = cache.store_all(files).await {
        tracing::debug!(%error, "the digest cache does not take digests");
    }
}

/// Turns a refusal into a success if the target holds the very content already: then an earlier request succeeded
/// whose answer was lost, or there was nothing to do in the first place.
pub(crate) async fn unless_there(
    client: &Client,
    target: &Target,
    ours: Identity,
    (refusal, progress): (TransferError, &Arc<dyn Progress>),
) -> Result<Completed, TransferError> {
    if !matches!(refusal.problem(), Some(Kind::PreconditionFailed | Kind::Exists)) {
        return Err(refusal);
    }
    // Asked until it is answered: a server that refused a body early may close the very connection this goes out on.
    match there(client, target, ours, progress).await {
        Ok(Some(completed)) => Ok(completed),
        _ => Err(refusal),
    }
}

/// Looks whether the target holds the very content; `None` if it holds another, or nothing.
pub(crate) async fn there(
    client: &Client,
    target: &Target,
    ours: Identity,
    progress: &Arc<dyn Progress>,
) -> Result<Option<Completed>, TransferError> {
    match repeat(&client.policy, progress, || client.api.stat(&target.path)).await {
        Ok(EntryInfo { path, etag: Some(etag), size: Some(size), blake3: Some(blake3), version, .. })
            if blake3 == ours.blake3 && size == ours.size.get() =>
        {
            Ok(Some(Completed { path, etag, size, blake3, version, replaced: false }))
        }
        Ok(_) => Ok(None),
        Err(error) if matches!(error.problem(), Some(Kind::NotFound | Kind::NotAFolder)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks; `None` if this server does not answer claims in a way that is understood. A claim only saves work.
///
/// Where nothing is known of the server the claim itself is the question: it costs no more than any other.
async fn ask(
    client: &Client,
    claims: &Claims,
    progress: &Arc<dyn Progress>,
) -> Result<Option<Vec<ClaimResult>>, TransferError> {
    if client.abilities_known().is_some_and(|abilities| !abilities.claims) {
        return Ok(None);
    }
    match repeat(&client.policy, progress, || client.api.claim(claims)).await {
        Ok(answer) => Ok(Some(answer.results)),
        Err(error @ TransferError::Disconnected { .. }) => Err(error),
        Err(error) if matches!(error.problem(), Some(Kind::Unauthenticated | Kind::Forbidden)) => Err(error),
        Err(error) => {
            tracing::debug!(%error, "the claim is not answered");
            Ok(None)
        }
    }
}

fn item(target: &Target, facts: &Facts, digest: &Digest) -> ClaimItem {
    let digest = ClaimDigest { alg: digest.algorithm().key().to_owned(), value: digest.hex() };
    ClaimItem { digest: Some(digest), ..described(target, facts) }
}

fn described(target: &Target, facts: &Facts) -> ClaimItem {
    ClaimItem {
        path: target.path.to_string(),
        size: facts.size().get(),
        digest: None,
        quick: None,
        mtime: facts.modified.to_rfc3339(),
        executable: facts.executable,
        precondition: target.precondition.clone(),
    }
}

fn refusal(name: &str, status: u16) -> Option<Kind> {
    Kind::find(name, StatusCode::from_u16(status).ok()?)
}

fn refused(target: &Target, kind: Kind) -> TransferError {
    let doing = format!("claim {}", target.path);
    TransferError::Refused { doing, problem: Box::new(Problem::new(kind)), retry_after: None }
}
