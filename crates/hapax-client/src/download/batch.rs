//! Many small files in few answers. Owns what is asked for together, what an answer brings of it, and what is asked for
//! again; a file that needs more than that is left to be got alone, where it is told what is wrong with it.
//!
//! ```text
//!   listed ──▶ one request for all that are missing ──▶ whole records ──▶ staged, proven, named
//!                 ▲ the answer broke off, or was full      │ refused, broke twice
//!                 └──────────────────┘                     └──▶ alone
//! ```

use std::sync::Arc;

use hapax_proto::batch::{Decoder, Limits, Piece};
use hapax_proto::dialect::native::{FetchBatch, FetchItem, FetchOutcome, FetchRecord};
use hapax_proto::problem::{Advice, Kind};

use super::local::Listed;
use super::stage::{Arrived, Placed, Stage};
use super::{Got, How};
use crate::attempt::Attempts;
use crate::client::Client;
use crate::error::TransferError;
use crate::progress::Progress;
use crate::sink::Overwrite;
use crate::upload::Capacity;
use crate::wire::Answer;

/// How a server says that it answers batches.
const FEATURE: &str = "batch-get";

/// What came of a file of a batch.
#[derive(Debug)]
pub enum Brought {
    /// It is here.
    Here(Got),
    /// It has to be got alone.
    Alone,
    /// It cannot be here.
    Refused(TransferError),
}

/// Asks which batches a server answers; `None` if it answers none, or does not say.
///
/// # Errors
/// The server does not answer at all.
pub async fn fetch_capacity(
    client: &Client,
    progress: &Arc<dyn Progress>,
) -> Result<Option<Capacity>, TransferError> {
    match client.service(progress).await {
        Ok(service) if !service.features.iter().any(|feature| feature == FEATURE) => Ok(None),
        Ok(service) => Ok(service.batch.map(Capacity::within)),
        Err(error) if error.advice() == Advice::GiveUp => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gets small files in few requests, the same order coming back. Safe to repeat.
///
/// # Errors
/// The server does not answer, or not this caller; the disk does not take them. What had arrived is here all the same,
/// as far as the disk took it.
pub async fn get_batch(
    client: &Client,
    stage: &Stage,
    (files, overwrite): (&[Listed], Overwrite),
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Brought>, TransferError> {
    let mut receiving = Receiving { files, states: files.iter().map(|_| State::Missing).collect() };
    let ended = receiving.receive(client, progress).await;
    let (mut numbers, mut arrived) = (Vec::new(), Vec::new());
    let mut brought: Vec<_> = files.iter().map(|_| Brought::Alone).collect();
    for (index, (file, state)) in files.iter().zip(receiving.states).enumerate() {
        if let State::Arrived(bytes) = state {
            let (target, finish) = (file.target.clone(), file.finish(overwrite));
            numbers.push(index);
            arrived.push(Arrived { bytes, blake3: file.blake3, target, finish });
        }
    }
    if !arrived.is_empty() {
        for (index, placed) in numbers.into_iter().zip(stage.place(arrived).await?) {
            let Listed { blake3, .. } = files[index];
            brought[index] = match placed {
                Placed::Whole => {
                    Brought::Here(Got { how: How::Fetched, size: files[index].length(), blake3 })
                }
                Placed::Unfit => Brought::Alone,
                Placed::Refused(error) => Brought::Refused(error),
            };
        }
    }
    ended.map(|()| brought)
}

/// How far a file is.
enum State {
    /// It was not answered yet.
    Missing,
    /// All its bytes came.
    Arrived(Vec<u8>),
    /// It is left to be got alone.
    Left,
}

/// A batch on its way here.
struct Receiving<'a> {
    files: &'a [Listed],
    states: Vec<State>,
}

/// How an answer ended.
enum Ended {
    /// With its end.
    Whole,
    /// Before it.
    Broken(TransferError),
    /// It is no batch.
    Nonsense,
}

impl Receiving<'_> {
    /// Asks until every file arrived or is left.
    async fn receive(&mut self, client: &Client, progress: &Arc<dyn Progress>) -> Result<(), TransferError> {
        let mut attempts = Attempts::new(&client.policy, progress, 0);
        let mut broke_at = None;
        while self.first_missing().is_some() {
            let before = self.settled();
            let failed = match self.ask(client).await {
                Ok(mut answer) => match self.take(&mut answer).await {
                    Ended::Whole if self.settled() > before => continue,
                    // It would answer the same again.
                    Ended::Whole | Ended::Nonsense => {
                        self.leave_all();
                        return Ok(());
                    }
                    Ended::Broken(error) => {
                        let broken = self.first_missing();
                        if broken == broke_at
                            && let Some(index) = broken
                        {
                            self.states[index] = State::Left;
                        }
                        broke_at = broken;
                        error
                    }
                },
                Err(error) if error.problem() == Some(Kind::Unauthenticated) => return Err(error),
                Err(error) if error.advice() == Advice::GiveUp => {
                    tracing::debug!(%error, "the batch is not answered");
                    self.leave_all();
                    return Ok(());
                }
                Err(error) => error,
            };
            attempts.after(failed, self.settled()).await?;
        }
        Ok(())
    }

    fn first_missing(&self) -> Option<usize> {
        self.states.iter().position(|state| matches!(state, State::Missing))
    }

    /// Returns how many files were answered, for good or bad.
    fn settled(&self) -> u64 {
        self.states.iter().filter(|state| !matches!(state, State::Missing)).count() as u64
    }

    fn leave_all(&mut self) {
        for state in self.states.iter_mut().filter(|state| matches!(state, State::Missing)) {
            *state = State::Left;
        }
    }

    /// Asks for what is missing.
    async fn ask(&self, client: &Client) -> Result<Answer, TransferError> {
        let missing = self.files.iter().zip(&self.states).enumerate();
        let missing = missing.filter(|(_, (_, state))| matches!(state, State::Missing));
        let item = |(index, (file, _)): (usize, (&Listed, &State))| FetchItem {
            id: index as u64,
            path: file.source.to_string(),
            etag: Some(file.etag.clone()),
        };
        client.api.fetch_batch(&FetchBatch { items: missing.map(item).collect() }).await
    }

    /// Takes an answer in, as far as it comes.
    async fn take(&mut self, answer: &mut Answer) -> Ended {
        let mut decoder = Decoder::<FetchRecord>::new(Limits::default());
        let mut open = None;
        loop {
            let chunk = match answer.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if decoder.finish().is_ok() => return Ended::Whole,
                Ok(None) => return Ended::Broken(answer.broken()),
                Err(error) => return Ended::Broken(error),
            };
            let mut input = &chunk[..];
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(Piece::Begin(record))) => open = self.begin(&record),
                    Ok(Some(Piece::Content(bytes))) => {
                        if let Some((_, content)) = &mut open {
                            content.extend_from_slice(bytes);
                        }
                    }
                    Ok(Some(Piece::Whole)) => {
                        if let Some((index, content)) = open.take() {
                            self.states[index] = State::Arrived(content);
                        }
                    }
                    Ok(None) => break,
                    Err(bad) => {
                        tracing::debug!(error = %bad, "the answer is no batch");
                        return Ended::Nonsense;
                    }
                }
            }
        }
    }

    /// Begins a record; `None` if nothing of it is to be kept. What was not asked for, and what is longer than it was said
    /// to be, takes no memory.
    fn begin(&mut self, record: &FetchRecord) -> Option<(usize, Vec<u8>)> {
        let index = usize::try_from(record.id).ok().filter(|index| *index < self.files.len())?;
        if !matches!(self.states[index], State::Missing) {
            return None;
        }
        match &record.outcome {
            FetchOutcome::File(file) if file.size == self.files[index].size => {
                Some((index, Vec::with_capacity(usize::try_from(file.size).ok()?)))
            }
            FetchOutcome::File(_) | FetchOutcome::Refused { .. } => {
                self.states[index] = State::Left;
                None
            }
        }
    }
}
