//! What is known of an upload, and the plan that follows from it. Owns the records of a put's checkpoint and the
//! asking of the server; the plan itself is `hapax_proto::resume`'s. Sends no content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use data_encoding::BASE64URL_NOPAD;
use hapax_proto::dialect::native::{CreateUpload, Precondition, Resize, UploadStatus};
use hapax_proto::digest::Digests;
use hapax_proto::resume::{Plan, Source as Ours, Step, Upload, outstanding, plan_resume};
use hapax_proto::span::Length;
use hapax_proto::tree::{PartNumber, PartValue};
use hapax_proto::upload::{Held, State};
use serde::{Deserialize, Serialize};

use super::{Transfer, is_gone};
use crate::attempt::repeat;
use crate::checkpoint::Log;
use crate::error::TransferError;
use crate::source::{Facts, Hashed, Stamp};

/// How often planning may change the upload before there is a plan to fill it: begin, resize, and once more each.
const STEPS_MAX: u32 = 5;

/// One line of a put's checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Record {
    /// An upload is about to be created under this key.
    Key { key: String, precondition: Option<Precondition> },
    /// It was created; the server was told this modification time, and this bit, which older records do not have.
    Created {
        id: String,
        modified: Stamp,
        #[serde(default)]
        executable: Option<bool>,
    },
    /// The server was told another one.
    Told { modified: Stamp },
    /// What the source is. Values of parts from before belong to another version.
    Source { facts: Facts },
    /// A part of the source has this value; `settled` if the facts vouch for it in a later session.
    Hashed { part: PartNumber, value: PartValue, settled: bool },
    /// Bytes of a part are about to be sent under this value.
    Sending { part: PartNumber, value: PartValue },
    /// The server has the part, durable.
    Stored { part: PartNumber },
    /// The server does not have the upload any more.
    Gone,
}

/// What the server was told of the file beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Told {
    modified: Option<Stamp>,
    executable: Option<bool>,
}

/// What the records say together.
#[derive(Debug, Default)]
pub(super) struct Known {
    key: Option<(String, Option<Precondition>)>,
    upload: Option<String>,
    told: Told,
    facts: Option<Facts>,
    values: BTreeMap<PartNumber, PartValue>,
    declared: BTreeMap<PartNumber, PartValue>,
    stored: BTreeSet<PartNumber>,
    /// Parts that were hashed so soon after a write that the next write might not show. Never on disk: there such
    /// values are not believed at all.
    raced: BTreeSet<PartNumber>,
}

impl Known {
    /// Takes in what a session before this one wrote.
    fn recall(records: Vec<Record>) -> Self {
        let mut known = Self::default();
        for record in records {
            match record {
                Record::Hashed { part, settled: false, .. } => {
                    known.values.remove(&part);
                }
                record => known.apply(&record),
            }
        }
        known
    }

    fn apply(&mut self, record: &Record) {
        match record {
            Record::Key { key, precondition } => {
                self.forget_upload();
                self.key = Some((key.clone(), precondition.clone()));
            }
            Record::Created { id, modified, executable } => {
                self.upload = Some(id.clone());
                self.told = Told { modified: Some(*modified), executable: *executable };
            }
            Record::Told { modified } => self.told.modified = Some(*modified),
            Record::Source { facts } => {
                if self.facts != Some(*facts) {
                    self.values.clear();
                    self.raced.clear();
                }
                self.facts = Some(*facts);
            }
            Record::Hashed { part, value, .. } => {
                self.values.insert(*part, *value);
            }
            Record::Sending { part, value } => {
                self.declared.insert(*part, *value);
                self.stored.remove(part);
            }
            Record::Stored { part } => {
                self.stored.insert(*part);
            }
            Record::Gone => self.forget_upload(),
        }
    }

    /// What is known of the source outlives the upload.
    fn forget_upload(&mut self) {
        (self.key, self.upload, self.told) = (None, None, Told::default());
        self.declared.clear();
        self.stored.clear();
    }
}

/// The checkpoint of a put, and what it says.
#[derive(Debug)]
pub(super) struct Journal {
    log: Log<Record>,
    known: Mutex<Known>,
}

impl Journal {
    pub(super) fn new(log: Log<Record>, records: Vec<Record>) -> Self {
        Self { log, known: Mutex::new(Known::recall(records)) }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn note(&self, record: Record) -> Result<(), TransferError> {
        self.known().apply(&record);
        self.log.append([record]).await
    }

    /// Takes note of what the source is, and tells whether an upload of another version had been begun.
    pub(super) async fn adopt(&self, facts: Facts) -> Result<bool, TransferError> {
        let changed = {
            let known = self.known();
            let other = |known: Facts| {
                (known.size, known.modified, known.inode) != (facts.size, facts.modified, facts.inode)
            };
            known.upload.is_some() && known.facts.is_some_and(other)
        };
        self.note(Record::Source { facts }).await?;
        Ok(changed)
    }

    /// Takes note of a part's value.
    pub(super) async fn hashed(&self, part: PartNumber, hashed: &Hashed) -> Result<PartValue, TransferError> {
        let value = hashed.hasher.value().expect("a part of a file has a byte");
        if hashed.raced {
            self.known().raced.insert(part);
        }
        self.note(Record::Hashed { part, value, settled: hashed.settled }).await?;
        Ok(value)
    }

    /// Takes note that bytes are about to leave under a value, so that what the server keeps of them is known for
    /// what it is.
    pub(super) async fn sending(&self, part: PartNumber, value: PartValue) -> Result<(), TransferError> {
        if self.known().declared.get(&part) == Some(&value) {
            return Ok(());
        }
        self.note(Record::Sending { part, value }).await
    }

    /// Takes note that a part is durable at the server.
    pub(super) async fn stored(&self, part: PartNumber) -> Result<(), TransferError> {
        self.note(Record::Stored { part }).await
    }

    /// Forgets the upload; the next plan begins another one.
    pub(super) async fn forget_upload(&self) -> Result<(), TransferError> {
        self.note(Record::Gone).await
    }

    /// Forgets a value that turned out not to hold any more, although the facts are the same.
    pub(super) fn forget_value(&self, part: PartNumber) {
        let mut known = self.known();
        known.values.remove(&part);
        known.raced.remove(&part);
    }

    pub(super) fn value(&self, part: PartNumber) -> Option<PartValue> {
        self.known().values.get(&part).copied()
    }

    /// Returns the values of all parts in order, if they are known.
    pub(super) fn values(&self, parts: u64) -> Option<Vec<PartValue>> {
        let known = self.known();
        (known.values.len() as u64 == parts).then(|| known.values.values().copied().collect())
    }

    /// Returns the parts whose values must be looked at again before they are relied on.
    pub(super) fn raced(&self) -> BTreeSet<PartNumber> {
        self.known().raced.clone()
    }

    /// Takes note that the value of a part was looked at again, and holds.
    pub(super) fn confirmed(&self, part: PartNumber) {
        self.known().raced.remove(&part);
    }

    pub(super) fn upload(&self) -> Option<String> {
        self.known().upload.clone()
    }

    /// Tells whether the server was told the very time and bit that the source has.
    pub(super) fn is_told(&self, facts: Facts) -> bool {
        let (modified, executable) = (Some(facts.modified), Some(facts.executable));
        self.known().told == Told { modified, executable }
    }

    /// Tells whether an upload was begun whose id is not known: the answer to its creation was lost.
    pub(super) fn is_unheard(&self) -> bool {
        let known = self.known();
        known.key.is_some() && known.upload.is_none()
    }

    /// Returns how many bytes are known, without asking, to be durable at the server.
    pub(super) fn stored_bytes(&self, size: Length) -> Length {
        let known = self.known();
        let spans = known.stored.iter().filter_map(|part| part.span(size));
        Length::new(spans.map(|span| span.length().get()).sum())
    }

    pub(super) async fn sync(&self) -> Result<(), TransferError> {
        self.log.sync().await
    }

    pub(super) async fn tidy(&self) -> Result<(), TransferError> {
        self.log.tidy().await
    }

    pub(super) async fn remove(&self) -> Result<(), TransferError> {
        self.log.remove().await
    }

    /// Decides on one part by what is known now.
    pub(super) fn decide(&self, size: Length, part: PartNumber, held: Held) -> Step {
        let known = self.known();
        let ours = Ours { size, values: &known.values, declared: &known.declared };
        hapax_proto::resume::decide_step(&ours, part, held)
    }
}

/// What the server holds of an upload.
#[derive(Debug, Default)]
pub(super) struct Remote {
    state: Option<State>,
    size: Option<Length>,
    held: BTreeMap<PartNumber, Held>,
    parts_in_flight: u32,
}

impl Remote {
    fn take(&mut self, status: &UploadStatus) {
        self.state = Some(status.state);
        self.size = status.size.map(Length::new);
        self.parts_in_flight = status.limits.parts_in_flight;
        for partial in &status.partial {
            self.held.insert(PartNumber::new(partial.n), Held::Partial { have: Length::new(partial.have) });
        }
        for part in &status.parts {
            self.held.insert(PartNumber::new(part.n), Held::Whole { value: part.value });
        }
    }
}

/// An upload, and what is to be done with its parts.
#[derive(Debug)]
pub(super) struct Planned {
    /// The upload's id.
    pub(super) id: String,
    /// The parts that are not known to be there, with what is held of them.
    pub(super) steps: Vec<(PartNumber, Step, Held)>,
    /// Bytes that are known to be there.
    pub(super) kept: Length,
    /// How many parts may be on the way at once.
    pub(super) parts_in_flight: usize,
    /// Whether the upload became a file before, of which this session did not hear.
    pub(super) is_done: bool,
}

/// Finds or creates the upload of a source, gives it the source's size, and plans what to send.
pub(super) async fn plan(transfer: &Transfer, facts: Facts) -> Result<Planned, TransferError> {
    let journal = &transfer.journal;
    let mut remote = look(transfer, facts).await?;
    for _ in 0..STEPS_MAX {
        let plan = {
            let known = journal.known();
            let ours = Ours { size: facts.size(), values: &known.values, declared: &known.declared };
            let upload = remote.as_ref().and_then(|remote| {
                Some(Upload { state: remote.state?, size: remote.size, held: &remote.held })
            });
            plan_resume(&ours, upload.as_ref())
        };
        match (plan, remote.take(), journal.upload()) {
            (Plan::Fill(steps), Some(theirs), Some(id)) => {
                return Ok(planned(transfer, facts, steps, (theirs, id)));
            }
            (Plan::Resize, _, Some(id)) => {
                tell(transfer, facts, &id).await?;
                remote = look(transfer, facts).await?;
            }
            _ => {
                journal.forget_upload().await?;
                remote = Some(begin(transfer, facts).await?);
            }
        }
    }
    let doing = format!("upload to {}", transfer.put.target.path);
    Err(TransferError::Unexpected { doing, status: http::StatusCode::CONFLICT, retry_after: None })
}

fn planned(
    transfer: &Transfer,
    facts: Facts,
    steps: Vec<(PartNumber, Step)>,
    (theirs, id): (Remote, String),
) -> Planned {
    let mut missing = Length::ZERO;
    let mut open = Vec::new();
    for (part, step) in steps {
        let span = part.span(facts.size()).expect("a plan has the parts of its size");
        missing =
            missing.checked_add(outstanding(step, span)).expect("no more is missing than the source has");
        // A part that is kept still counts if its value is not known yet: completing needs the values of all.
        if step != Step::Keep || transfer.journal.value(part).is_none() {
            let held = theirs.held.get(&part).copied().unwrap_or(Held::Nothing);
            open.push((part, step, held));
        }
    }
    let allowed = usize::try_from(theirs.parts_in_flight).unwrap_or(usize::MAX);
    Planned {
        id,
        steps: open,
        kept: facts.size().checked_sub(missing).expect("no more is missing than the source has"),
        parts_in_flight: transfer.put.cut.parts_in_flight.min(allowed).max(1),
        is_done: theirs.state == Some(State::Done),
    }
}

/// Asks what the server holds of the upload that the checkpoint knows, and tells it the source's present time.
/// `None` if there is none, or it is gone, or it was created under another precondition.
async fn look(transfer: &Transfer, facts: Facts) -> Result<Option<Remote>, TransferError> {
    let journal = &transfer.journal;
    let (key, upload, told) = {
        let known = journal.known();
        (known.key.clone(), known.upload.clone(), known.told)
    };
    let Some((_, precondition)) = key else { return Ok(None) };
    if precondition != transfer.put.target.precondition {
        if let Some(id) = upload {
            // The upload cannot be given another precondition. It expires by itself if it is not cancelled now.
            let _ = transfer.client.api.cancel_upload(&id).await;
        }
        return Ok(None);
    }
    // The answer to its creation was lost: the same key finds it again.
    let Some(id) = upload else { return create(transfer, facts, None).await.map(Some) };
    let remote = match status(transfer, &id).await {
        Err(error) if is_gone(&error) => return Ok(None),
        remote => remote?,
    };
    if remote.state == Some(State::Open)
        && remote.size == Some(facts.size())
        && told.modified != Some(facts.modified)
    {
        tell(transfer, facts, &id).await?;
    }
    Ok(Some(remote))
}

/// Begins an upload under a new key.
///
/// DURABILITY: the key is on disk before the server hears of it, so an answer that is lost, in whatever way, leaves
/// no upload that nobody knows.
async fn begin(transfer: &Transfer, facts: Facts) -> Result<Remote, TransferError> {
    let precondition = transfer.put.target.precondition.clone();
    transfer.journal.note(Record::Key { key: random_key(), precondition }).await?;
    transfer.journal.sync().await?;
    create(transfer, facts, Some(facts.executable)).await
}

/// Creates the upload of the journal's key, or finds it if it was created before. `executable` is the bit that it has
/// then; none where it may have been created with the time and the bit of another moment.
pub(super) async fn create(
    transfer: &Transfer,
    facts: Facts,
    executable: Option<bool>,
) -> Result<Remote, TransferError> {
    let (key, precondition) = transfer.journal.known().key.clone().expect("a key is noted before it is used");
    let create = CreateUpload {
        key,
        path: transfer.put.target.path.to_string(),
        size: Some(facts.size().get()),
        mtime: facts.modified.to_rfc3339(),
        executable: facts.executable,
        media_type: transfer.put.media_type.clone(),
        digests: Digests::default(),
        precondition,
    };
    let client = &transfer.client;
    let status = repeat(&client.policy, &transfer.progress, || client.api.create_upload(&create)).await?;
    let (id, modified) = (status.id.clone(), facts.modified);
    transfer.journal.note(Record::Created { id, modified, executable }).await?;
    transfer.journal.sync().await?;
    let mut remote = Remote::default();
    remote.take(&status);
    match status.next {
        // An upload found again may hold more than a page.
        Some(_) => self::status(transfer, &status.id).await,
        None => Ok(remote),
    }
}

/// Asks for all pages of an upload's state.
async fn status(transfer: &Transfer, id: &str) -> Result<Remote, TransferError> {
    let client = &transfer.client;
    let mut remote = Remote::default();
    let mut from = Some(PartNumber::FIRST);
    while let Some(part) = from {
        let page = repeat(&client.policy, &transfer.progress, || client.api.upload_status(id, part)).await?;
        remote.take(&page);
        // A page that does not lead forward would be asked for for ever.
        from = page.next.map(PartNumber::new).filter(|next| *next > part);
    }
    Ok(remote)
}

/// Tells the server the source's size and time.
async fn tell(transfer: &Transfer, facts: Facts, id: &str) -> Result<(), TransferError> {
    let resize = Resize { size: facts.size().get(), mtime: facts.modified.to_rfc3339() };
    let client = &transfer.client;
    repeat(&client.policy, &transfer.progress, || client.api.resize(id, &resize)).await?;
    transfer.journal.note(Record::Told { modified: facts.modified }).await
}

/// Draws the key of an upload.
pub(super) fn random_key() -> String {
    let mut key = [0; 24];
    getrandom::fill(&mut key).expect("the system has a source of randomness");
    BASE64URL_NOPAD.encode(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(size: u64, nanos: u32) -> Facts {
        let stamp = Stamp { seconds: 1, nanos };
        Facts {
            size: Length::new(size).into(),
            modified: stamp,
            changed: stamp,
            inode: 1,
            device: 1,
            executable: false,
        }
    }

    fn part(number: u32) -> PartNumber {
        PartNumber::new(number)
    }

    fn value(byte: u8) -> PartValue {
        PartValue::new([byte; 32])
    }

    fn hashed(number: u32, byte: u8, settled: bool) -> Record {
        Record::Hashed { part: part(number), value: value(byte), settled }
    }

    fn key(key: &str) -> Record {
        Record::Key { key: key.to_owned(), precondition: None }
    }

    fn created(id: &str) -> Record {
        Record::Created { id: id.to_owned(), modified: facts(1, 1).modified, executable: Some(false) }
    }

    #[test]
    fn values_are_recalled_only_of_the_same_version_and_once_settled() {
        #[track_caller]
        fn check(records: &[Record], values: &[(u32, u8)]) {
            let known = Known::recall(records.to_vec());
            let expected: BTreeMap<_, _> =
                values.iter().map(|(number, byte)| (part(*number), value(*byte))).collect();
            assert_eq!(known.values, expected);
        }
        let (same, other) = (Record::Source { facts: facts(9, 1) }, Record::Source { facts: facts(9, 2) });
        check(&[same.clone(), hashed(0, 1, true), hashed(1, 2, false)], &[(0, 1)]);
        check(&[same.clone(), hashed(0, 1, true), same.clone()], &[(0, 1)]);
        check(&[same.clone(), hashed(0, 1, true), other, hashed(1, 3, true)], &[(1, 3)]);
        check(&[same.clone(), hashed(0, 1, true), hashed(0, 2, false)], &[]);
        check(&[same, hashed(0, 1, true), key("k"), created("u"), Record::Gone], &[(0, 1)]);
    }

    #[test]
    fn a_new_key_leaves_nothing_of_the_old_upload() {
        let sending = Record::Sending { part: part(0), value: value(1) };
        let stored = Record::Stored { part: part(0) };
        let known = Known::recall(vec![key("k"), created("u"), sending.clone(), stored.clone()]);
        assert_eq!(known.upload.as_deref(), Some("u"));
        assert_eq!(known.declared.len(), 1);
        assert!(known.stored.contains(&part(0)));
        let known = Known::recall(vec![key("k"), created("u"), sending, stored, key("l")]);
        assert_eq!((known.upload, known.declared.len(), known.stored.len()), (None, 0, 0));
        assert_eq!(known.key.unwrap().0, "l");
    }

    #[test]
    fn an_upload_of_an_older_checkpoint_is_known_but_not_its_bit() {
        let record = r#"{"created":{"id":"u","modified":{"seconds":1,"nanos":1}}}"#;
        let known = Known::recall(vec![key("k"), serde_json::from_str(record).unwrap()]);
        assert_eq!(known.upload.as_deref(), Some("u"));
        assert_eq!(known.told, Told { modified: Some(facts(1, 1).modified), executable: None });
    }

    #[test]
    fn keys_are_long_and_plain() {
        let key = random_key();
        assert!((16..=64).contains(&key.len()));
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
        assert_ne!(key, random_key());
    }
}
