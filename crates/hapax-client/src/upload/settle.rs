//! The end of an upload. Owns the last look at the source, before which nothing is published, and the request that
//! publishes; sends no content.

use hapax_proto::dialect::native::{Complete, Completed};
use hapax_proto::digest::{FileHash, Identity};
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::tree::{merge_parts, part_count};

use super::plan::{Journal, Planned};
use super::small::adorn;
use super::{Transfer, is_gone};
use crate::attempt::Attempts;
use crate::claim::{claim, there, unless_there};
use crate::error::TransferError;
use crate::source::{Facts, Source};

/// What became of an upload whose parts are all there.
pub(super) enum Settled {
    /// It is a file now.
    Stored { stored: Completed, blake3: FileHash },
    /// It was a file before, which is not there any more; but the server has the content still.
    Linked { stored: Completed, blake3: FileHash },
    /// The source is another version than the one whose parts are there.
    Changed,
    /// The upload is not there any more.
    Gone(TransferError),
    /// The server holds something else than was thought.
    Otherwise(TransferError),
}

/// Tells whether the source still is the version that was hashed.
///
/// Facts that were young when a part was read do not vouch for it, so those parts, the few of the first moments
/// behind a write, are read again.
pub(super) async fn is_still(
    journal: &Journal,
    source: &Source,
    facts: Facts,
) -> Result<bool, TransferError> {
    if source.facts_now().await? != facts {
        return Ok(false);
    }
    let mut same = true;
    for part in journal.raced() {
        let Some(span) = part.span(facts.size()) else { continue };
        let again = source.hash_part(part, span, facts).await?;
        // Only now is it forgotten that it had to be looked at: whoever looks may be cut off at any await.
        if again.and_then(|again| again.hasher.value()) == journal.value(part) {
            journal.confirmed(part);
        } else {
            journal.forget_value(part);
            same = false;
        }
    }
    Ok(same && source.facts_now().await? == facts)
}

/// Publishes the upload, if its parts are those of one version of the source, with the time and the bit of that version.
pub(super) async fn settle(
    transfer: &Transfer,
    source: &Source,
    facts: Facts,
    planned: &Planned,
) -> Result<Settled, TransferError> {
    let settled = publish(transfer, source, facts, planned).await?;
    if let Settled::Stored { stored, .. } = &settled
        && !transfer.journal.is_told(facts)
    {
        adorn(&transfer.client, &transfer.put, (stored, facts), &transfer.progress).await?;
    }
    Ok(settled)
}

async fn publish(
    transfer: &Transfer,
    source: &Source,
    facts: Facts,
    planned: &Planned,
) -> Result<Settled, TransferError> {
    if !is_still(&transfer.journal, source, facts).await? {
        return Ok(Settled::Changed);
    }
    // Somebody else who looked may have found that a value does not hold any more.
    let Some(values) = transfer.journal.values(part_count(facts.size())) else { return Ok(Settled::Changed) };
    let blake3 = merge_parts(&values).expect("an upload of a file has two parts or more");
    let identity = Identity { blake3, size: facts.size() };
    if planned.is_done {
        return look_at_published(transfer, (source, facts), blake3).await;
    }
    let complete = Complete { size: facts.size().get(), blake3: Some(blake3) };
    let client = &transfer.client;
    let mut attempts = Attempts::new(&client.policy, &transfer.progress, 0);
    loop {
        let error = match client.api.complete(&planned.id, &complete).await {
            Ok(stored) if stored.blake3 == blake3 => return Ok(Settled::Stored { stored, blake3 }),
            Ok(stored) => {
                let (path, actual) = (source.path().to_owned(), stored.blake3);
                return Err(TransferError::FinishedOtherwise { path, expected: blake3, actual });
            }
            Err(error) => error,
        };
        match error.problem() {
            Some(Kind::Incomplete | Kind::FinalDigestMismatch) => return Ok(Settled::Otherwise(error)),
            Some(Kind::PreconditionFailed | Kind::Exists) => {
                let stored =
                    unless_there(client, &transfer.put.target, identity, (error, &transfer.progress)).await?;
                return Ok(Settled::Stored { stored, blake3 });
            }
            _ if is_gone(&error) => return Ok(Settled::Gone(error)),
            _ => attempts.after(error, 0).await?,
        }
    }
}

/// Looks what became of an upload that was published before: somebody may have moved or removed the file since, or written
/// over it, or it was made of another version of the source. To repeat `complete` would only repeat its first answer.
async fn look_at_published(
    transfer: &Transfer,
    (source, facts): (&Source, Facts),
    blake3: FileHash,
) -> Result<Settled, TransferError> {
    let (client, target, progress) = (&transfer.client, &transfer.put.target, &transfer.progress);
    let identity = Identity { blake3, size: facts.size() };
    if let Some(stored) = there(client, target, identity, progress).await? {
        return Ok(Settled::Stored { stored, blake3 });
    }
    // What the server has elsewhere by now need not be sent again.
    if let Some(stored) = claim(client, target, source, (&facts, blake3), progress).await? {
        return Ok(Settled::Linked { stored, blake3 });
    }
    let doing = format!("complete the upload to {}", target.path);
    let problem = Box::new(Problem::new(Kind::AlreadyComplete));
    Ok(Settled::Gone(TransferError::Refused { doing, problem, retry_after: None }))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::{Arc, Mutex};
    use std::task::Poll;

    use hapax_proto::span::Span;
    use hapax_proto::tree::{PartHasher, PartNumber};

    use super::*;
    use crate::checkpoint::{Direction, Key, Log};
    use crate::source::Hashed;

    /// Drives a future until it waits for the second time; then it is dropped.
    async fn cut_off(future: impl Future) {
        let (mut future, mut waits) = (pin!(future), 0);
        std::future::poll_fn(move |context| {
            assert!(future.as_mut().poll(context).is_pending(), "it is let run so far and no further");
            waits += 1;
            if waits == 2 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[test]
    fn a_look_that_is_cut_off_forgets_no_part() {
        // One thread, so that what is asked of it waits behind what holds it.
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(look_and_look_again());
    }

    async fn look_and_look_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("source");
        std::fs::write(&path, vec![1; 4 << 20]).unwrap();
        let (source, facts) = Source::open(&path).await.unwrap();
        let key = Key { direction: Direction::Put, server: "s", user: "u", local: &path, remote: "/r" };
        let (log, records) = Log::open(folder.path(), &key).await.unwrap();
        let journal = Journal::new(log, records);
        // It was hashed as something else a moment ago, and its facts do not show that it was written since.
        let mut other = PartHasher::new(PartNumber::FIRST);
        other.update(&vec![2; 4 << 20]).unwrap();
        let hashed = Hashed { hasher: other, settled: false, raced: true };
        journal.hashed(PartNumber::FIRST, &hashed).await.unwrap();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let hold = || {
            let gate = Arc::clone(&gate);
            drop(tokio::task::spawn_blocking(move || gate.lock().unwrap().recv()));
        };
        hold();
        // The facts are taken between the two holds; the part would be read behind them.
        let between = async {
            hold();
            go.send(()).unwrap();
        };
        tokio::join!(biased; cut_off(is_still(&journal, &source, facts)), between);
        go.send(()).unwrap();
        assert!(!is_still(&journal, &source, facts).await.unwrap(), "what must be looked at was forgotten");
        assert_eq!(journal.values(1), None);
        // What is hashed again is looked at again, once.
        let span = Span::whole(facts.size());
        let again = source.hash_part(PartNumber::FIRST, span, facts).await.unwrap().unwrap();
        journal.hashed(PartNumber::FIRST, &again).await.unwrap();
        assert!(is_still(&journal, &source, facts).await.unwrap());
        assert!(journal.raced().is_empty());
    }
}
