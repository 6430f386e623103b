//! Whether the server has the content already. Owns the question that is asked while sending begins, the hashing of a whole
//! file on all cores, and the claim that follows from it; what the answers mean for the put is `hapax_proto::course`'s.
//!
//! ```text
//!   features ─▶ probe ─▶ told ─▶ course        beside the creation of the upload and its first parts
//!   hash first:  core 1  v0 v2 v5 …─┐
//!                core 2  v1 v3 v4 …─┴─▶ all known: claim
//! ```

use std::sync::Arc;

use hapax_proto::course::{Abilities, Likeness, Prospect, is_worth_probing};
use hapax_proto::dialect::native::Completed;
use hapax_proto::digest::FileHash;
use hapax_proto::span::{Length, Span};
use hapax_proto::tree::{PartNumber, merge_parts, part_count, parts};
use tokio::task::JoinSet;

use super::Transfer;
use super::plan::Journal;
use super::settle::is_still;
use crate::claim::{Target, claim, probe};
use crate::client::Client;
use crate::error::TransferError;
use crate::progress::{Event, Progress, Silent};
use crate::source::{Facts, Hashed, Source};
use crate::tasks::EveryCore;

/// What the server said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) abilities: Abilities,
    pub(super) likeness: Likeness,
}

/// A question that is answered in its own time; dropping it takes it back.
pub(super) type Asking = JoinSet<Told>;

/// What recognising needs: one version of a source, and where it goes.
#[derive(Clone)]
pub(super) struct Subject {
    client: Client,
    target: Target,
    journal: Arc<Journal>,
    source: Source,
    facts: Facts,
    progress: Arc<dyn Progress>,
}

/// What became of a claim.
pub(super) enum Recognised {
    /// The content is linked.
    Linked { stored: Completed, blake3: FileHash },
    /// It is to be sent.
    Not,
    /// The source is another version now.
    Changed,
}

impl Subject {
    pub(super) fn new(transfer: &Transfer, source: &Source, facts: Facts) -> Self {
        Self {
            client: transfer.client.clone(),
            target: transfer.put.target.clone(),
            journal: Arc::clone(&transfer.journal),
            source: source.clone(),
            facts,
            progress: Arc::clone(&transfer.progress),
        }
    }

    /// Begins to ask what the server does and whether it may have the content; an empty set if nothing can come of it.
    /// `claimed` is the version that was claimed already, and is to be sent.
    pub(super) fn ask(&self, claimed: Option<Facts>) -> Asking {
        let size = self.facts.size();
        // What the server really holds is known later, and decided by then.
        let missing = size.checked_sub(self.journal.stored_bytes(size)).unwrap_or(Length::ZERO);
        let prospect = Prospect { missing, claimed: claimed == Some(self.facts) };
        let mut asking = JoinSet::new();
        if prospect.is_worth_a_claim() {
            asking.spawn(self.clone().told(prospect));
        }
        asking
    }

    async fn told(self, prospect: Prospect) -> Told {
        let abilities = self.client.abilities().await;
        // The hash itself is a better question.
        let is_hashed = self.journal.values(part_count(self.facts.size())).is_some();
        if is_hashed || !is_worth_probing(abilities, prospect) {
            return Told { abilities, likeness: Likeness::Unknown };
        }
        // What is wrong with the line is said by whoever sends.
        let silent: Arc<dyn Progress> = Arc::new(Silent);
        let probed = probe(&self.client, &self.target, (&self.source, self.facts), &silent).await;
        let probed = probed.inspect_err(|error| tracing::debug!(%error, "the probe is not answered"));
        Told { abilities, likeness: probed.unwrap_or(Likeness::Unknown) }
    }

    /// Hashes all that is not hashed yet, on every core, and claims it.
    pub(super) async fn hash_first(&self) -> Result<Recognised, TransferError> {
        self.progress.event(Event::HashingFirst);
        let (source, facts) = (self.source.clone(), self.facts);
        let all = parts(facts.size()).map(|(part, _)| part);
        let unread: Vec<_> = all.filter(|part| self.journal.value(*part).is_none()).collect();
        let mut hashing = EveryCore::begin(unread, move |part| {
            (part, source.hash_part_now(part, span_of(facts, part), facts))
        });
        while let Some((part, hashed)) = hashing.next().await {
            if self.note(part, hashed?).await? == Hashing::Changed {
                return Ok(Recognised::Changed);
            }
        }
        self.claim().await
    }

    /// Hashes one part and notes its value.
    pub(super) async fn hash_part(&self, part: PartNumber) -> Result<Hashing, TransferError> {
        let hashed = self.source.hash_part(part, span_of(self.facts, part), self.facts).await?;
        self.note(part, hashed).await
    }

    /// Notes the value of a part.
    async fn note(&self, part: PartNumber, hashed: Option<Hashed>) -> Result<Hashing, TransferError> {
        let Some(hashed) = hashed else { return Ok(Hashing::Changed) };
        self.journal.hashed(part, &hashed).await?;
        self.progress.event(Event::Hashed(span_of(self.facts, part).length()));
        Ok(Hashing::Whole)
    }

    /// Claims the content, if all of it is hashed and the source still is what was hashed.
    pub(super) async fn claim(&self) -> Result<Recognised, TransferError> {
        let values = self.journal.values(part_count(self.facts.size()));
        let Some(blake3) = values.and_then(|values| merge_parts(&values)) else {
            return Ok(Recognised::Not);
        };
        if !is_still(&self.journal, &self.source, self.facts).await? {
            return Ok(Recognised::Changed);
        }
        let ours = (&self.facts, blake3);
        let claimed = claim(&self.client, &self.target, &self.source, ours, &self.progress).await?;
        Ok(claimed.map_or(Recognised::Not, |stored| Recognised::Linked { stored, blake3 }))
    }
}

fn span_of(facts: Facts, part: PartNumber) -> Span {
    part.span(facts.size()).expect("a plan has the parts of its size")
}

/// Whether what was hashed was all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hashing {
    /// It was.
    Whole,
    /// The source ended before.
    Changed,
}
