//! Many small files in one request, and many in one answer. Every record is a whole file for itself, as a PUT is: with its own rights, its own
//! precondition, its own answer. What they share is the request, the commit and the object that their bytes go to.
//!
//! ```text
//!   body ──> decoder ──> a record, whole and hashed ──> gathered ──(GROUP_BYTES, or the end)──> one commit
//!                                                                        the next group gathers while it is synced
//! ```
//!
//! Memory: the group that gathers, the group that is being committed, and the answers.

/// Many small files in one answer.
mod fetch;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use hapax_proto::access::Verb;
use hapax_proto::batch::{ANSWER_TYPE, BadBatch, Decoder, MEDIA_TYPE, Piece};
use hapax_proto::dialect::native::{BatchOutcome, BatchRecord, BatchResult, Completed, Precondition};
use hapax_proto::digest::FileHash;
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::span::Length;
use hapax_store::catalog::Meta;
use hapax_store::publish::{Published, Target};
use hapax_store::short::{PendingFile, ShortFile, ShortIntake};
use hapax_store::store::Store;
use http::StatusCode;
use tokio::task::spawn_blocking;

use crate::body::{Bounds, Ended, Pumped, Sink, pump};
use crate::call::{Call, Place, Spaces, misunderstood};
use crate::files::{completion, expected_of, is_standing, standing};
use crate::respond::{self, Refusal, Response};
use crate::stamp;

pub use fetch::fetch;

/// How many bytes are committed together: enough for the sync to cost little a file, few enough to be held twice.
const GROUP_BYTES: usize = 2 << 20;
/// How many files are committed together.
const GROUP_FILES: usize = 1_000;

/// `POST /api/v1/batch`.
pub async fn store(call: &mut Call<'_>) -> Result<Response, Refusal> {
    let (user, spaces) = (call.who()?.user, call.spaces()?);
    if call.is_declared_as(MEDIA_TYPE) != Some(true) {
        return Err(Problem::new(Kind::MediaType).detail(format!("send {MEDIA_TYPE}")).into());
    }
    call.refuse_coding()?;
    let caps = &call.app.config.caps;
    if call.content_length().is_some_and(|length| length > caps.batch.body.get()) {
        return Err(too_large(caps.batch.body));
    }
    let _pass = call.app.batches.enter(user).ok_or(Kind::TooMany)?;
    let receiving = Box::new(Receiving {
        store: Arc::clone(&call.app.store),
        spaces,
        size_max: caps.size,
        decoder: Decoder::new(caps.batch),
        open: None,
        gathered: Vec::new(),
        bytes: 0,
        under_way: Vec::new(),
        answers: Answers::default(),
    });
    let bounds = Bounds { length_max: caps.batch.body, idle_max: call.app.config.deadlines.idle_body };
    let stop = call.app.life.cut();
    let Pumped { sink, ended, .. } = pump(&mut *call.body, receiving, bounds, stop).await?;
    let settled = spawn_blocking(move || sink.end(ended, bounds.length_max)).await;
    let lines = settled.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    Ok(respond::text(StatusCode::OK, ANSWER_TYPE, lines))
}

/// A batch on its way in.
struct Receiving {
    store: Arc<Store>,
    spaces: Spaces,
    size_max: Length,
    decoder: Decoder,
    /// The record whose content is arriving.
    open: Option<Open>,
    /// Whole records that wait for others.
    gathered: Vec<(Wanted, ShortFile)>,
    /// How many bytes of theirs are in memory.
    bytes: usize,
    /// The group before, on its way to be durable.
    under_way: Vec<(Wanted, PendingFile)>,
    /// What came of the records.
    answers: Answers,
}

/// What came of the records, in their order, as it is sent: clients choose how long the names in it are, so it is kept once.
#[derive(Debug, Default)]
struct Answers {
    /// The lines of the first records, as many as are settled one behind the other, and how many they are.
    lines: String,
    count: usize,
    /// The lines of those behind them; `None` for those that are not settled yet.
    rest: VecDeque<Option<String>>,
}

impl Answers {
    /// Keeps a place for the answer to the next record, and returns which it is.
    fn begin(&mut self) -> usize {
        self.rest.push_back(None);
        self.count + self.rest.len() - 1
    }

    fn settle(&mut self, index: usize, result: &BatchResult) {
        let line = serde_json::to_string(result).expect("the shapes of the API always serialise");
        self.rest[index - self.count] = Some(line);
        while let Some(line) = self.rest.front_mut().and_then(Option::take) {
            self.rest.pop_front();
            self.count += 1;
            self.lines += &line;
            self.lines.push('\n');
        }
    }

    fn end(self) -> String {
        assert!(self.rest.is_empty(), "every record was settled");
        self.lines
    }
}

/// The record whose content is arriving; one that was refused already is passed over.
struct Open {
    wanted: Wanted,
    blake3: Option<FileHash>,
    intake: ShortIntake,
}

/// What a record asks for.
struct Wanted {
    /// Which record of the batch it is.
    index: usize,
    /// How the client calls it.
    id: u64,
    place: Place,
    meta: Meta,
    precondition: Option<Precondition>,
}

impl Wanted {
    /// Returns how many bytes of memory its texts take: clients choose how long they are.
    fn bytes_in_memory(&self) -> usize {
        let tag = match &self.precondition {
            Some(Precondition::Matches(tag)) => tag.len(),
            Some(Precondition::Absent) | None => 0,
        };
        tag + self.place.long().len()
    }
}

impl Sink for Receiving {
    type Error = Refusal;

    fn push(&mut self, chunk: &[u8]) -> Result<(), Refusal> {
        self.take_in(chunk).map_err(|bad| {
            self.settle();
            refusal(&bad)
        })
    }
}

impl Receiving {
    fn take_in(&mut self, mut chunk: &[u8]) -> Result<(), BadBatch> {
        while let Some(piece) = self.decoder.next(&mut chunk)? {
            match piece {
                Piece::Begin(record) => self.begin(*record),
                Piece::Content(bytes) => self.push_into_record(bytes),
                Piece::Whole => self.end_record(),
            }
        }
        Ok(())
    }

    fn begin(&mut self, record: BatchRecord) {
        let (index, id) = (self.answers.begin(), record.id);
        match self.admit(index, record) {
            Ok(open) => self.open = Some(open),
            Err(refusal) => self.answers.settle(index, &refused(id, &refusal)),
        }
    }

    /// Finds out where a record goes, and whether the caller may write there.
    fn admit(&mut self, index: usize, record: BatchRecord) -> Result<Open, Refusal> {
        let BatchRecord { id, path, size, blake3, mtime, executable, precondition } = record;
        let place = self.spaces.place_in_body(&path, Verb::WriteEntry)?;
        let mtime = stamp::parse_mtime(mtime.as_deref())?;
        let size = Length::new(size);
        if size > self.size_max {
            return Err(too_large(self.size_max));
        }
        let meta = Meta { mtime, executable, media_type: None };
        let wanted = Wanted { index, id, place, meta, precondition };
        Ok(Open { wanted, blake3, intake: self.store.begin_short(Some(size))? })
    }

    fn push_into_record(&mut self, bytes: &[u8]) {
        let Some(mut open) = self.open.take() else { return };
        match open.intake.push(bytes) {
            Ok(()) => self.open = Some(open),
            Err(error) => self.answer(&open.wanted, Err(error.into())),
        }
    }

    fn end_record(&mut self) {
        let Some(Open { wanted, blake3, intake }) = self.open.take() else { return };
        match intake.end(blake3) {
            Err(error) => self.answer(&wanted, Err(error.into())),
            Ok(file) => {
                self.bytes += file.bytes_in_memory() + wanted.bytes_in_memory();
                self.gathered.push((wanted, file));
            }
        }
        if self.bytes >= GROUP_BYTES || self.gathered.len() >= GROUP_FILES {
            self.submit();
        }
    }

    /// Commits what gathered, once the group before is durable.
    fn submit(&mut self) {
        self.wait();
        self.bytes = 0;
        let (mut wanted, mut files) = (Vec::new(), Vec::new());
        for (record, file) in mem::take(&mut self.gathered) {
            match self.decide(&record, file) {
                Ok(Decided::Stands(published)) => self.stored(&record, StatusCode::OK, &published),
                Ok(Decided::Publish(file, target)) => {
                    files.push((*file, target));
                    wanted.push(record);
                }
                Err(refusal) => self.answer(&record, Err(refusal)),
            }
        }
        self.under_way = wanted.into_iter().zip(self.store.publish_short(files)).collect();
    }

    /// Decides what is to be done for a whole record. A repeated one, whose answer was lost, finds that it was done.
    fn decide(&self, wanted: &Wanted, file: ShortFile) -> Result<Decided, Refusal> {
        let Wanted { place, meta, precondition, .. } = wanted;
        let (identity, space) = (file.identity(), place.space.id);
        let entry = self.store.entry(space, &place.path)?;
        if let Some(published) = is_standing(&self.store, entry.as_ref(), &identity, meta) {
            return Ok(Decided::Stands(published));
        }
        let expect = expected_of(&self.store, entry.as_ref(), precondition.as_ref())?;
        let held = self.store.catalog().blob_in_space(space, &self.store.fingerprint(&identity))?;
        let file = match held {
            Some(blob) => file.held_by(&blob),
            None => file,
        };
        let target = Target { space, path: place.path.clone(), expect, meta: meta.clone() };
        Ok(Decided::Publish(Box::new(file), target))
    }

    /// Waits until the group that is under way is durable.
    fn wait(&mut self) {
        let (records, pending): (Vec<_>, Vec<_>) = mem::take(&mut self.under_way).into_iter().unzip();
        let identities: Vec<_> = pending.iter().map(PendingFile::identity).collect();
        let stored = self.store.wait_short(pending);
        for ((wanted, identity), stored) in records.into_iter().zip(identities).zip(stored) {
            match stored {
                Ok(published) => {
                    let status = if published.replaced { StatusCode::OK } else { StatusCode::CREATED };
                    self.stored(&wanted, status, &published);
                }
                // Another record or request may just have stored the same.
                Err(error) => match standing(&self.store, &wanted.place, &identity, &wanted.meta) {
                    Ok(Some(published)) => self.stored(&wanted, StatusCode::OK, &published),
                    _ => self.answer(&wanted, Err(error.into())),
                },
            }
        }
    }

    /// Makes everything durable that is whole.
    fn settle(&mut self) {
        self.submit();
        self.wait();
    }

    /// Ends the batch as its body ended.
    ///
    /// # Errors
    /// What was wrong with the body; what was whole of it is stored all the same.
    fn end(mut self, ended: Ended, length_max: Length) -> Result<String, Refusal> {
        self.settle();
        match ended {
            Ended::Complete => self.decoder.finish().map_err(|bad| refusal(&bad))?,
            Ended::TooLong => return Err(too_large(length_max)),
            Ended::Cut | Ended::Idle | Ended::Stopped(_) => return Err(Kind::Unavailable.into()),
        }
        Ok(self.answers.end())
    }

    fn stored(&mut self, wanted: &Wanted, status: StatusCode, published: &Published) {
        let completed = completion(&self.store, &wanted.place.space, &wanted.place.path, published);
        self.answer(wanted, Ok((status, completed)));
    }

    fn answer(&mut self, wanted: &Wanted, outcome: Result<(StatusCode, Completed), Refusal>) {
        let result = match outcome {
            Ok((status, completed)) => BatchResult {
                id: wanted.id,
                status: status.as_u16(),
                outcome: BatchOutcome::Stored(completed),
            },
            Err(refusal) => refused(wanted.id, &refusal),
        };
        self.answers.settle(wanted.index, &result);
    }
}

/// What is to be done for a whole record.
enum Decided {
    /// Nothing: this is what stands there.
    Stands(Published),
    /// To publish it.
    Publish(Box<ShortFile>, Target),
}

fn refused(id: u64, refusal: &Refusal) -> BatchResult {
    let kind = refusal.problem().kind;
    let outcome = BatchOutcome::Refused { problem: kind.name().to_owned() };
    BatchResult { id, status: kind.status().as_u16(), outcome }
}

fn too_large(max: Length) -> Refusal {
    Problem::new(Kind::TooLarge).member("limit", max.get()).into()
}

/// The problem of a batch that breaks a rule of its framing.
fn refusal(bad: &BadBatch) -> Refusal {
    match bad {
        BadBatch::Header(error) => misunderstood(error).into(),
        BadBatch::TooMany { max } => Problem::new(Kind::TooLarge)
            .detail(bad.to_string())
            .member("limit", u64::try_from(*max).unwrap_or(u64::MAX))
            .into(),
        BadBatch::TooLarge { max, .. } => {
            Problem::new(Kind::TooLarge).detail(bad.to_string()).member("limit", max.get()).into()
        }
        BadBatch::HeaderTooLong { .. } | BadBatch::Trailing | BadBatch::Truncated => {
            Problem::new(Kind::BadField).detail(bad.to_string()).member("field", "body").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_is_kept_once_and_in_order() {
        let settle = |answers: &mut Answers, index: usize| {
            answers.settle(index, &refused(index as u64, &Kind::NotFound.into()));
        };
        let mut answers = Answers::default();
        let indices = [(); 5].map(|()| answers.begin());
        assert_eq!(indices, [0, 1, 2, 3, 4]);
        for (index, lines) in [(1, 0), (0, 2), (4, 2), (2, 3), (3, 5)] {
            settle(&mut answers, index);
            assert_eq!((answers.lines.lines().count(), answers.rest.len()), (lines, 5 - lines), "{index}");
        }
        let last = answers.begin();
        settle(&mut answers, last);
        let lines = answers.end();
        let ids: Vec<_> =
            lines.lines().map(|line| serde_json::from_str::<BatchResult>(line).unwrap().id).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5]);
    }
}
