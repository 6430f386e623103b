//! A file of one part or none: one request that says what it carries, and so may be repeated. Keeps no checkpoint,
//! because what could be resumed is no more than what is in flight.

use std::path::Path;
use std::sync::Arc;

use hapax_proto::dialect::native::{Completed, EntryPatch, Precondition};
use hapax_proto::digest::{FileHash, Identity};
use hapax_proto::problem::Kind;
use hapax_proto::span::{Length, Span};

use super::{How, Outcome, Put, ROUNDS_MAX};
use crate::attempt::{Attempts, repeat};
use crate::claim::{CLAIM_MIN, cached, claim, remember, unless_there};
use crate::client::Client;
use crate::error::TransferError;
use crate::progress::{Event, Progress};
use crate::source::{Facts, Source, Stamp};
use crate::wire::{Content, Meter, Payload, Pieces};

/// Puts a file that was at most one part long a moment ago.
pub(super) async fn put_small(
    client: &Client,
    path: &Path,
    put: &Put,
    progress: &Arc<dyn Progress>,
) -> Result<Outcome, TransferError> {
    let mut put = put.clone();
    for round in 0..ROUNDS_MAX {
        let begun = Stamp::now();
        let (source, facts) = Source::open_if(path, put.links).await?;
        progress.event(Event::Begun { size: Some(facts.size()), kept: Length::ZERO });
        if let Some(blake3) = hash(client, &source, facts, progress).await?
            && let Some((way, stored)) = bring(client, &source, (facts, blake3), &put, progress).await?
        {
            remember(client, path, (&facts, begun), blake3).await;
            // An edit behind what was read already is in no request.
            if source.facts_now().await? == facts {
                progress.event(Event::Done);
                let how = match way {
                    How::Sent if round > 0 => How::Changed { sent: 1, parts: 1 },
                    way => way,
                };
                return Ok(Outcome { how, stored });
            }
            // Who guards the name guards it from others, not from the version of a moment ago.
            let guard = put.target.precondition.take();
            put.target.precondition = guard.map(|_| Precondition::Matches(stored.etag));
        }
        progress.event(Event::Changed);
    }
    Err(TransferError::SourceChanged { path: path.to_owned(), rounds: ROUNDS_MAX })
}

/// Gets the content to the server, by a claim or by sending it, or returns `None` if it changed meanwhile.
async fn bring(
    client: &Client,
    source: &Source,
    (facts, blake3): (Facts, FileHash),
    put: &Put,
    progress: &Arc<dyn Progress>,
) -> Result<Option<(How, Completed)>, TransferError> {
    if facts.size() >= CLAIM_MIN
        && let Some(stored) = claim(client, &put.target, source, (&facts, blake3), progress).await?
    {
        return Ok(Some((How::Instant, stored)));
    }
    match send(client, source, (facts, blake3), put, progress).await? {
        Some(stored) => {
            adorn(client, put, (&stored, facts), progress).await?;
            Ok(Some((How::Sent, stored)))
        }
        None => Ok(None),
    }
}

/// Returns the hash of the file, or `None` if it changed while it was read.
async fn hash(
    client: &Client,
    source: &Source,
    facts: Facts,
    progress: &Arc<dyn Progress>,
) -> Result<Option<FileHash>, TransferError> {
    if let Some(blake3) = cached(client, source.path(), &facts).await {
        return Ok(Some(blake3));
    }
    let hashed = source.hash(facts).await?;
    if hashed.is_some() {
        progress.event(Event::Hashed(facts.size()));
    }
    Ok(hashed)
}

/// Sends the file until it is stored, or returns `None` if it changed. What is stored is what was hashed: the
/// server compares.
async fn send(
    client: &Client,
    source: &Source,
    (facts, blake3): (Facts, FileHash),
    put: &Put,
    progress: &Arc<dyn Progress>,
) -> Result<Option<Completed>, TransferError> {
    let size = facts.size();
    let identity = Identity { blake3, size };
    let mut attempts = Attempts::new(&client.policy, progress, 0);
    loop {
        let meter = Meter::new(Arc::clone(progress));
        let from = Pieces::Reading(source.read(Span::whole(size)));
        let payload = Payload::Content(Content { from, length: size, meter: meter.clone() });
        let precondition = put.target.precondition.as_ref();
        match store(client, put, blake3, (precondition, payload)).await {
            Ok(stored) => {
                progress.event(Event::Solid(size));
                return Ok(Some(stored));
            }
            Err(error) => {
                progress.event(Event::Lost(meter.moved()));
                if matches!(error.problem(), Some(Kind::PreconditionFailed | Kind::Exists)) {
                    return unless_there(client, &put.target, identity, (error, progress)).await.map(Some);
                }
                if source.facts_now().await? != facts {
                    return Ok(None);
                }
                if error.problem() == Some(Kind::BodyDigestMismatch) {
                    // Either the line damaged the bytes or they are others now.
                    if source.hash(facts).await? != Some(blake3) {
                        return Ok(None);
                    }
                }
                attempts.after(error, 0).await?;
            }
        }
    }
}

async fn store(
    client: &Client,
    put: &Put,
    blake3: FileHash,
    (precondition, payload): (Option<&Precondition>, Payload),
) -> Result<Completed, TransferError> {
    client.api.put_file(&put.target.path, blake3, precondition, payload).await
}

/// Gives the entry the time and the bit of its source; a plain PUT has no words for them. Where something else stands
/// there by now they are not for that.
pub(super) async fn adorn(
    client: &Client,
    put: &Put,
    (stored, facts): (&Completed, Facts),
    progress: &Arc<dyn Progress>,
) -> Result<(), TransferError> {
    let wanted = EntryPatch { mtime: facts.modified.to_rfc3339(), executable: Some(facts.executable) };
    let path = &put.target.path;
    match repeat(&client.policy, progress, || client.api.patch(path, &stored.etag, &wanted)).await {
        Err(error)
            if matches!(
                error.problem(),
                Some(Kind::PreconditionFailed | Kind::NotFound | Kind::IsAFolder)
            ) =>
        {
            tracing::debug!(%error, %path, "what was put is not there any more");
            Ok(())
        }
        patched => patched.map(drop),
    }
}
