//! Putting: what crosses the line, what is stored, what is said, whatever happens on the way.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hapax_client::api::RemotePath;
use hapax_client::claim::{Known, Target, claim_known};
use hapax_client::progress::{Event, Progress, Silent};
use hapax_client::upload::{Cut, How, Outcome, Put, put_file, put_stream};
use hapax_client::{Client, Connection, Places, TransferError};
use hapax_proto::dialect::native::Precondition;
use hapax_proto::problem::Kind;
use hapax_proto::retry::Policy;
use hapax_proto::span::Length;
use hapax_proto::tree::PART;
use hapax_proto::upload::State;
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::fake::{Fake, Fault};

pub(crate) const P: usize = 16 * 1024 * 1024;
const PARTS_IN_FLIGHT: u64 = 3;

/// Bytes that no part of repeats: the same for the same seed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let key = blake3::hash(&seed.to_le_bytes());
    blake3::Hasher::new_keyed(key.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A client, its places and a source, all of which survive from one call to the next as on a disk.
pub(crate) struct Bench {
    pub(crate) fake: Fake,
    pub(crate) folder: TempDir,
    pub(crate) silent: Arc<dyn Progress>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self { fake: Fake::start().await, folder: tempfile::tempdir().unwrap(), silent: Arc::new(Silent) }
    }

    /// Opens a client as a new process would.
    pub(crate) async fn client(&self, attempts_max: u32) -> Client {
        let connection = Connection {
            address: format!("http://{}", self.fake.address),
            patience: Policy {
                base: Duration::ZERO,
                retry_after_max: Duration::ZERO,
                attempts_max,
                ..Policy::default()
            },
            ..Connection::default()
        };
        let cache = Some(self.folder.path().join("cache.db"));
        Client::open(connection, Places { checkpoints: self.folder.path().join("state"), cache })
            .await
            .unwrap()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    pub(crate) fn write(&self, bytes: &[u8]) {
        std::fs::write(self.path(), bytes).unwrap();
    }

    /// Puts as a new process that gives up at the first failure.
    pub(crate) async fn put_once(&self) -> Result<Outcome, TransferError> {
        self.put_with(1, &put_to("/a")).await
    }

    /// Puts as a new, patient process.
    pub(crate) async fn put(&self) -> Result<Outcome, TransferError> {
        self.put_with(10, &put_to("/a")).await
    }

    /// Puts as the process behind one that was killed. A dropped future is no ended process: what it had begun on a
    /// blocking thread still holds the lock for a moment.
    pub(crate) async fn put_again(&self) -> Result<Outcome, TransferError> {
        loop {
            match self.put().await {
                Err(TransferError::Locked { .. }) => tokio::task::yield_now().await,
                ended => return ended,
            }
        }
    }

    pub(crate) async fn put_with(&self, attempts_max: u32, put: &Put) -> Result<Outcome, TransferError> {
        put_file(&self.client(attempts_max).await, &self.path(), put, &self.silent).await
    }

    #[track_caller]
    pub(crate) fn assert_stored(&self, path: &str) {
        let stored = self.fake.store().files[path].bytes.clone();
        assert!(stored == std::fs::read(self.path()).unwrap(), "another content is stored");
    }

    pub(crate) fn checkpoints(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("state")).map_or(0, Iterator::count)
    }
}

pub(crate) fn remote(path: &str) -> RemotePath {
    path.parse().unwrap()
}

pub(crate) fn put_to(path: &str) -> Put {
    Put::new(Target { path: remote(path), precondition: None })
}

pub(crate) fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(bytes).unwrap();
}

/// Gives the first `times` requests that begin with `what` the fault.
pub(crate) fn first(times: u32, what: &'static str, fault: Fault) -> impl FnMut(&str) -> Fault + Send {
    let mut left = times;
    move |request| {
        if !request.starts_with(what) || left == 0 {
            return Fault::None;
        }
        left -= 1;
        fault
    }
}

pub(crate) fn is_part(request: &str) -> bool {
    request.starts_with("PUT /api/v1/uploads/")
}

pub(crate) fn is_complete(request: &str) -> bool {
    request.ends_with("/complete")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_once_and_stored_whole() {
    let bench = Bench::new().await;
    for (length, parts) in [(2 * P + 77, 3), (2 * P, 2), (P + 1, 2)] {
        bench.write(&noise(length, 1));
        bench.fake.take_counts();
        let outcome = bench.put().await.unwrap();
        assert_eq!(outcome.how, How::Sent);
        assert_eq!(bench.fake.take_counts().0, length as u64);
        assert_eq!(bench.fake.store().uploads.last().unwrap().parts.len(), parts);
        bench.assert_stored("/a");
        assert!(bench.fake.store().files["/a"].mtime.is_some());
        assert_eq!(bench.checkpoints(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_line_costs_nothing_in_the_same_process() {
    let bench = Bench::new().await;
    let length = 3 * P + 5;
    bench.write(&noise(length, 2));
    let mut requests = 0;
    bench.fake.script(move |request| {
        requests += u64::from(is_part(request));
        if is_part(request) && requests < 12 {
            Fault::CutBody(requests * 1_000_003 % PART.get())
        } else {
            Fault::None
        }
    });
    assert_eq!(bench.put().await.unwrap().how, How::Sent);
    bench.assert_stored("/a");
    assert_eq!(bench.fake.store().uploads.len(), 1);
    // What was read of a frame behind the cut is lost, a frame each.
    let sent = bench.fake.take_counts().0;
    assert!(sent < length as u64 + 12 * 512 * 1024, "{sent} bytes were sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_ended_anywhere_goes_on_where_it_ended() {
    let bench = Bench::new().await;
    let length = 4 * P + 50;
    let bytes = noise(length, 3);
    for (round, cut) in [(1, 0), (2, 70_000), (4, 9_000_001), (5, 3)] {
        bench.write(&bytes[..length - round]);
        let mut requests = 0;
        bench.fake.script(move |request| {
            requests += usize::from(is_part(request));
            if is_part(request) && requests >= round { Fault::CutBody(cut) } else { Fault::None }
        });
        let ended = bench.put_once().await;
        assert!(matches!(ended, Err(TransferError::Disconnected { .. })), "{ended:?}");
        assert_eq!(bench.checkpoints(), 1);
        bench.fake.quiet().await;
        let kept = kept(&bench);
        bench.fake.script(|_| Fault::None);
        bench.fake.take_counts();
        let outcome = bench.put().await.unwrap();
        let expected = if kept == 0 { How::Sent } else { How::Resumed { kept: Length::new(kept) } };
        assert_eq!(outcome.how, expected);
        assert_eq!(bench.fake.take_counts().0, (length - round) as u64 - kept);
        bench.assert_stored("/a");
        assert_eq!(bench.fake.requests_of("POST /api/v1/uploads/"), bench.fake.store().uploads.len());
    }
}

/// Returns how many bytes the newest upload holds, of whole parts and of kept prefixes.
fn kept(bench: &Bench) -> u64 {
    let store = bench.fake.store();
    let upload = store.uploads.last().unwrap();
    let whole: usize = upload.parts.values().map(|(bytes, _)| bytes.len()).sum();
    let partial: usize = upload.partial.values().map(Vec::len).sum();
    (whole + partial) as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_killed_resends_at_most_what_was_in_flight() {
    let bench = Bench::new().await;
    let length = 5 * P;
    bench.write(&noise(length, 4));
    let mut sent = 0;
    for kill_at in [1, 3, 6, 2, 4] {
        let (reached, requests) = (Arc::new(Notify::new()), AtomicU32::new(0));
        let reach = Arc::clone(&reached);
        bench.fake.script(move |request| {
            if is_part(request) && requests.fetch_add(1, Ordering::Relaxed) + 1 == kill_at {
                reach.notify_one();
            }
            if is_complete(request) { Fault::Refuse(Kind::Quota) } else { Fault::None }
        });
        // Dropping the future is what `kill -9` is to the server: the lines break, nothing is said.
        tokio::select! {
            ended = bench.put_again() => assert_eq!(ended.unwrap_err().problem(), Some(Kind::Quota)),
            () = reached.notified() => {}
        }
        bench.fake.quiet().await;
        sent += bench.fake.take_counts().0;
    }
    bench.fake.script(|_| Fault::None);
    bench.put_again().await.unwrap();
    bench.assert_stored("/a");
    assert_eq!(bench.fake.store().uploads.len(), 1);
    sent += bench.fake.take_counts().0;
    let allowed = length as u64 + 5 * PARTS_IN_FLIGHT * PART.get();
    assert!(sent <= allowed, "{sent} of {allowed} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_leave_no_orphan_and_no_second_file() {
    let bench = Bench::new().await;
    bench.write(&noise(P + 5, 5));
    for what in ["POST /api/v1/uploads", "POST /api/v1/uploads/u", "PUT /api/v1/uploads/"] {
        let outcomes = bench.fake.store().files.get("/a").map_or(0, |file| file.version);
        let uploads = bench.fake.store().uploads.len();
        bench.write(&noise(P + 5 + uploads, 5));
        // The second answer is lost as well, to the process that comes after the first.
        bench.fake.script(first(2, what, Fault::LoseAnswer));
        assert!(bench.put_once().await.is_err());
        bench.put().await.unwrap();
        bench.assert_stored("/a");
        assert_eq!(bench.fake.store().uploads.len(), uploads + 1, "{what}");
        assert_eq!(bench.fake.store().files["/a"].version, outcomes + 1, "{what}");
        assert!(bench.fake.store().uploads.iter().all(|upload| upload.state == State::Done));
    }
}

/// Begins a put whose upload becomes a file, which it does not hear of.
async fn put_unheard(bench: &Bench) {
    bench.fake.script(first(1, "POST /api/v1/uploads/u", Fault::LoseAnswer));
    assert!(bench.put_once().await.is_err());
    assert_eq!(bench.fake.store().uploads.last().unwrap().state, State::Done);
    assert_eq!(bench.checkpoints(), 1);
    bench.fake.take_counts();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_behind_a_complete_whose_answer_was_lost_is_put() {
    let bench = Bench::new().await;
    bench.write(&noise(2 * P, 60));
    put_unheard(&bench).await;
    overwrite(&bench.path(), 5, b"edited, and as long as before");
    assert_eq!(bench.put().await.unwrap().how, How::Changed { sent: 2, parts: 2 });
    bench.assert_stored("/a");
    assert_eq!(bench.checkpoints(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_repeated_behind_a_lost_answer_says_what_stands_there_now() {
    #[track_caller]
    fn check(bench: &Bench, outcome: &Outcome, how: How, sent: usize) {
        assert_eq!(outcome.how, how);
        assert_eq!(bench.fake.take_counts().0, sent as u64);
        bench.assert_stored("/a");
        assert_eq!(bench.checkpoints(), 0);
    }
    let (bench, length) = (Bench::new().await, P + 5);
    bench.write(&noise(length, 61));
    put_unheard(&bench).await;
    check(&bench, &bench.put().await.unwrap(), How::Resumed { kept: Length::new(length as u64) }, 0);
    // Somebody else removed it, wrote over it, moved it away.
    bench.write(&noise(length, 62));
    put_unheard(&bench).await;
    bench.fake.store().files.remove("/a");
    check(&bench, &bench.put().await.unwrap(), How::Sent, length);
    bench.write(&noise(length, 63));
    put_unheard(&bench).await;
    bench.fake.put("/a", b"theirs".to_vec());
    check(&bench, &bench.put().await.unwrap(), How::Sent, length);
    bench.write(&noise(length, 64));
    put_unheard(&bench).await;
    let moved = bench.fake.store().files.remove("/a").unwrap();
    bench.fake.store().files.insert("/b".to_owned(), moved);
    check(&bench, &bench.put().await.unwrap(), How::Instant, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_and_the_bit_are_those_of_the_source_when_it_was_stored() {
    let make_executable =
        |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let touch = |path: &Path| {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    };
    // Before it became a file, and behind; and before anything was heard of the upload.
    let (begin, complete) = ("POST /api/v1/uploads", "POST /api/v1/uploads/u");
    let cases =
        [(complete, Fault::Refuse(Kind::Quota)), (complete, Fault::LoseAnswer), (begin, Fault::LoseAnswer)];
    for (what, fault) in cases {
        let bench = Bench::new().await;
        bench.write(&noise(P + 5, 65));
        bench.fake.script(first(1, what, fault));
        assert!(bench.put_once().await.is_err());
        make_executable(&bench.path());
        touch(&bench.path());
        bench.put().await.unwrap();
        bench.assert_stored("/a");
        let stored = bench.fake.store().files["/a"].clone();
        assert!(stored.executable, "{what} {fault:?}");
        assert_eq!(stored.mtime.as_deref(), Some("2001-09-09T01:46:40.000000000Z"));
        // What the server was told need not be told again.
        let patches = bench.fake.requests_of("PATCH");
        bench.write(&noise(P + 6, 66));
        bench.put().await.unwrap();
        assert_eq!(bench.fake.requests_of("PATCH"), patches);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_waited_for() {
    let bench = Bench::new().await;
    bench.write(&noise(P + 5, 6));
    let mut count = 0;
    bench.fake.script(move |_| {
        count += 1;
        if count % 3 == 0 { Fault::Refuse(Kind::Unavailable) } else { Fault::None }
    });
    assert_eq!(bench.put().await.unwrap().how, How::Sent);
    bench.assert_stored("/a");
    bench.fake.script(|_| Fault::Refuse(Kind::Unavailable));
    bench.write(&noise(P + 6, 6));
    assert_eq!(bench.put().await.unwrap_err().problem(), Some(Kind::Unavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_sessions_only_what_changed_is_sent() {
    #[track_caller]
    fn check(bench: &Bench, outcome: &Outcome, (sent, parts): (u64, u64), bytes: usize) {
        assert_eq!(outcome.how, How::Changed { sent, parts });
        assert_eq!(bench.fake.take_counts().0, bytes as u64);
        bench.assert_stored("/a");
        assert_eq!(bench.fake.store().uploads.len(), 1);
    }
    type Edit = fn(&Path);
    let grow: Edit = |path| overwrite(path, 3 * P + 5, &noise(P, 8));
    let shrink: Edit =
        |path| std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(2 * P as u64 + 9).unwrap();
    let replace: Edit = |path| {
        let other = path.with_extension("new");
        let mut bytes = std::fs::read(path).unwrap();
        bytes[P + 1] ^= 1;
        std::fs::write(&other, bytes).unwrap();
        std::fs::rename(other, path).unwrap();
    };
    let cases: [(Edit, (u64, u64), usize); 6] = [
        (|path| overwrite(path, P + 7, b"!"), (1, 4), P),
        (|path| overwrite(path, 3 * P, b"?"), (1, 4), 5),
        (|path| overwrite(path, P - 1, b"..."), (2, 4), 2 * P),
        (grow, (2, 5), P + 5),
        (shrink, (1, 3), 9),
        (replace, (1, 4), P),
    ];
    for (edit, parts, bytes) in cases {
        let bench = Bench::new().await;
        bench.write(&noise(3 * P + 5, 7));
        bench
            .fake
            .script(|request| if is_complete(request) { Fault::Refuse(Kind::Quota) } else { Fault::None });
        assert_eq!(bench.put_once().await.unwrap_err().problem(), Some(Kind::Quota));
        bench.fake.script(|_| Fault::None);
        bench.fake.take_counts();
        edit(&bench.path());
        check(&bench, &bench.put().await.unwrap(), parts, bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_during_the_put_is_never_mixed_in() {
    // Edited when the n-th request of a part comes in: behind, in and before what is being read.
    for (request, at) in [(1, 5), (1, P + 5), (2, 3 * P + 1), (4, 5), (4, P), (3, 4 * P - 6)] {
        let bench = Bench::new().await;
        bench.write(&noise(4 * P, 9));
        let (path, mut requests) = (bench.path(), 0);
        bench.fake.script(move |name| {
            requests += i32::from(is_part(name));
            if is_part(name) && requests == request {
                overwrite(&path, at, b"edited");
            }
            Fault::None
        });
        let outcome = bench.put().await.unwrap();
        assert!(matches!(outcome.how, How::Changed { parts: 4, .. }), "{outcome:?}");
        bench.assert_stored("/a");
        assert_eq!(bench.fake.store().files["/a"].version, 1, "only one version was ever visible");
        let sent = bench.fake.take_counts().0;
        let allowed = (4 * P) as u64 + PARTS_IN_FLIGHT * PART.get();
        assert!(sent <= allowed, "{sent} of {allowed} bytes for {request}, {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_grows_or_shrinks_or_is_replaced_during_the_put_settles() {
    type Edit = fn(&Path);
    let edits: [Edit; 4] = [
        |path| overwrite(path, 3 * P, b"more than before"),
        |path| std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(P as u64 + 1).unwrap(),
        |path| std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap(),
        |path| {
            let other = path.with_extension("new");
            std::fs::write(&other, noise(3 * P, 11)).unwrap();
            std::fs::rename(other, path).unwrap();
        },
    ];
    for edit in edits {
        let bench = Bench::new().await;
        bench.write(&noise(3 * P, 10));
        let (path, mut requests) = (bench.path(), 0);
        bench.fake.script(move |name| {
            requests += i32::from(is_part(name));
            if is_part(name) && requests == 2 {
                edit(&path);
            }
            Fault::None
        });
        bench.put().await.unwrap();
        bench.assert_stored("/a");
        assert_eq!(bench.fake.store().files["/a"].version, 1);
        assert!(bench.fake.store().uploads.iter().all(|upload| upload.state != State::Open));
        assert_eq!(bench.checkpoints(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_never_settles_is_given_up() {
    let bench = Bench::new().await;
    bench.write(&noise(P + 5, 12));
    let (path, mut edits) = (bench.path(), 0_u32);
    bench.fake.script(move |name| {
        if is_part(name) {
            edits += 1;
            overwrite(&path, 9, &edits.to_le_bytes());
        }
        Fault::None
    });
    let ended = bench.put().await;
    assert!(matches!(ended, Err(TransferError::SourceChanged { rounds: 5, .. })), "{ended:?}");
    assert!(bench.fake.store().files.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_the_line_damaged_are_sent_again() {
    let bench = Bench::new().await;
    bench.write(&noise(P + 5, 13));
    bench.fake.script(first(2, "PUT /api/v1/uploads/", Fault::Flip));
    assert_eq!(bench.put().await.unwrap().how, How::Sent);
    bench.assert_stored("/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_gone_is_begun_anew() {
    let bench = Bench::new().await;
    bench.write(&noise(2 * P, 15));
    bench.fake.script(|request| if is_complete(request) { Fault::Refuse(Kind::Quota) } else { Fault::None });
    assert!(bench.put_once().await.is_err());
    bench.fake.script(|_| Fault::None);
    bench.fake.store().uploads[0].state = State::Expired;
    assert!(matches!(bench.put().await.unwrap().how, How::Sent));
    bench.assert_stored("/a");
    // And one that is cancelled while its parts are sent.
    bench.write(&noise(2 * P, 16));
    bench.fake.script(first(1, "PUT /api/v1/uploads/", Fault::Refuse(Kind::UploadGone)));
    bench.put().await.unwrap();
    bench.assert_stored("/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time_transfers_a_file() {
    let bench = Bench::new().await;
    bench.write(&noise(2 * P, 17));
    let (first, second) = tokio::join!(bench.put(), bench.put());
    let locked =
        |outcome: &Result<Outcome, TransferError>| matches!(outcome, Err(TransferError::Locked { .. }));
    assert!(locked(&first) || locked(&second), "{first:?} {second:?}");
    assert!(first.is_ok() || second.is_ok());
    bench.assert_stored("/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_precondition_is_kept_and_an_equal_file_satisfies_it() {
    let bench = Bench::new().await;
    for length in [2 * P, 100_000, 3] {
        let path = format!("/a{length}");
        let target = Target { path: remote(&path), precondition: Some(Precondition::Absent) };
        let put = Put::new(target);
        bench.write(&noise(length, 18));
        bench.fake.put(&path, b"theirs".to_vec());
        let refused = bench.put_with(10, &put).await.unwrap_err();
        assert_eq!(refused.problem(), Some(Kind::PreconditionFailed), "{refused}");
        assert_eq!(&bench.fake.store().files[&path].bytes[..], b"theirs");
        // An answer that is lost makes the repeated request fail, although the first one succeeded.
        bench.fake.store().files.remove(&path);
        bench.fake.script(|_| Fault::None);
        let what = if length > P { "POST /api/v1/uploads/" } else { "PUT /files/" };
        bench.fake.script(first(1, what, Fault::LoseAnswer));
        bench.put_with(10, &put).await.unwrap();
        bench.assert_stored(&path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_is_one_request_however_often_it_is_repeated() {
    let bench = Bench::new().await;
    for (length, fault) in [
        (0, Fault::None),
        (1, Fault::LoseAnswer),
        (70_000, Fault::CutBody(100)),
        (P - 1, Fault::Refuse(Kind::Unavailable)),
        (P, Fault::Flip),
    ] {
        bench.write(&noise(length, 19));
        bench.fake.script(first(1, "PUT /files/", fault));
        assert_eq!(bench.put().await.unwrap().how, How::Sent);
        bench.assert_stored("/a");
        assert!(bench.fake.store().uploads.is_empty());
        assert!(bench.fake.store().files["/a"].mtime.is_some());
    }
    bench.fake.put("/elsewhere", noise(70_000, 20));
    bench.write(&noise(70_000, 20));
    assert_eq!(bench.put().await.unwrap().how, How::Instant);
    bench.assert_stored("/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ones_version_does_not_get_the_time_and_the_bit_of_ours() {
    #[track_caller]
    fn check(outcome: Result<Outcome, TransferError>, bench: &Bench, theirs: Option<&[u8]>) {
        assert_eq!(outcome.unwrap().how, How::Sent, "what was put was stored");
        let stored = bench.fake.store().files.get("/a").cloned();
        assert_eq!(stored.as_ref().map(|file| &file.bytes[..]), theirs);
        assert_eq!(stored.and_then(|file| file.mtime), None);
    }
    let bench = Bench::new().await;
    bench.write(b"ours");
    let fake = bench.fake.handle();
    bench.fake.script(move |request| {
        if request.starts_with("PATCH ") {
            fake.put("/a", b"theirs".to_vec());
        }
        Fault::None
    });
    check(bench.put().await, &bench, Some(b"theirs"));
    let fake = bench.fake.handle();
    bench.fake.script(move |request| {
        if request.starts_with("PATCH ") {
            fake.store().files.clear();
        }
        Fault::None
    });
    check(bench.put().await, &bench, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_that_changes_is_stored_as_one_of_its_versions() {
    let bench = Bench::new().await;
    bench.write(&noise(100_000, 21));
    let (path, mut edits) = (bench.path(), 0);
    bench.fake.script(move |name| {
        if name.starts_with("POST /api/v1/claims") && edits < 2 {
            edits += 1;
            overwrite(&path, 5, &[edits; 9]);
        }
        Fault::None
    });
    assert_eq!(bench.put().await.unwrap().how, How::Changed { sent: 1, parts: 1 });
    bench.assert_stored("/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_behind_the_last_byte_of_a_small_file_is_noticed() {
    for precondition in [None, Some(Precondition::Absent)] {
        let bench = Bench::new().await;
        bench.write(&noise(100_000, 23));
        let (path, mut edits) = (bench.path(), 0);
        bench.fake.script(move |name| {
            // Everything was read, sent and stored by then.
            if name.starts_with("PATCH /api/v1/entries") && edits < 2 {
                edits += 1;
                overwrite(&path, 5, &[edits; 9]);
            }
            Fault::None
        });
        let mut put = put_to("/a");
        put.target.precondition = precondition;
        let outcome = bench.put_with(10, &put).await.unwrap();
        assert_eq!(outcome.how, How::Changed { sent: 1, parts: 1 });
        bench.assert_stored("/a");
        assert_eq!(bench.fake.store().files["/a"].version, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_may_be_shorter_than_parts() {
    let bench = Bench::new().await;
    let length = P + 3_000_000;
    bench.write(&noise(length, 22));
    let mut put = put_to("/a");
    put.cut = Cut::default().with_run(Length::new(1_000_000));
    let mut requests = 0;
    bench.fake.script(move |request| {
        requests += u64::from(is_part(request));
        if is_part(request) && requests % 5 == 0 { Fault::CutBody(500_000) } else { Fault::None }
    });
    bench.put_with(10, &put).await.unwrap();
    bench.assert_stored("/a");
    assert!(bench.fake.requests_of("PUT /api/v1/uploads/") >= length / 983_040);
    assert!(bench.fake.take_counts().0 < length as u64 * 11 / 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_add_up() {
    let bench = Bench::new().await;
    let length = 3 * P as u64;
    bench.write(&noise(3 * P, 23));
    bench.fake.script(first(3, "PUT /api/v1/uploads/", Fault::CutBody(2_000_000)));
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let progress: Arc<dyn Progress> = Arc::new(sender);
    put_file(&bench.client(10).await, &bench.path(), &put_to("/a"), &progress).await.unwrap();
    let (mut solid, mut hashed, mut moved, mut last) = (0, 0, 0, None);
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Solid(length) => solid += length.get(),
            Event::Hashed(length) => hashed += length.get(),
            Event::Moved(length) => moved += length.get(),
            _ => {}
        }
        last = Some(event);
    }
    assert_eq!((solid, hashed), (length, length));
    assert!(moved >= length);
    assert_eq!(last, Some(Event::Done));
}

/// A stream that fails at its end, if told to.
struct Input {
    bytes: io::Cursor<Vec<u8>>,
    fails: bool,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(99_999);
        match self.bytes.read(&mut buffer[..length])? {
            0 if self.fails => Err(io::ErrorKind::BrokenPipe.into()),
            read => Ok(read),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_put_up_to_its_end() {
    let bench = Bench::new().await;
    for length in [0, 1, P - 1, P, P + 1, 2 * P] {
        let bytes = noise(length, 24);
        bench.fake.script(first(1, "PUT /", Fault::CutBody(300)));
        let input = Input { bytes: io::Cursor::new(bytes.clone()), fails: false };
        put_stream(&bench.client(10).await, input, &put_to("/a"), &bench.silent).await.unwrap();
        assert!(bench.fake.store().files["/a"].bytes == bytes, "{length}");
    }
    bench.fake.store().files.clear();
    for length in [5, P + 5] {
        let input = Input { bytes: io::Cursor::new(noise(length, 25)), fails: true };
        let ended = put_stream(&bench.client(10).await, input, &put_to("/a"), &bench.silent).await;
        assert!(matches!(ended, Err(TransferError::Input { .. })), "{ended:?}");
        assert!(bench.fake.store().files.is_empty());
        assert!(bench.fake.store().uploads.iter().all(|upload| upload.state != State::Open));
    }
}

async fn put_bytes(bench: &Bench, attempts_max: u32, put: &Put) -> Result<Outcome, TransferError> {
    let input = Input { bytes: io::Cursor::new(noise(70_000, 27)), fails: false };
    put_stream(&bench.client(attempts_max).await, input, put, &bench.silent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_answered_on_the_way_is_not_taken_for_a_stored_stream() {
    let bench = Bench::new().await;
    bench.fake.script(|_| Fault::Portal);
    let ended = put_bytes(&bench, 10, &put_to("/a")).await;
    assert!(matches!(ended, Err(TransferError::Unreadable { .. })), "{ended:?}");
    // An answer that breaks off says nothing yet.
    bench.fake.script(|_| Fault::CutAnswer(20));
    let ended = put_bytes(&bench, 1, &put_to("/a")).await;
    assert!(matches!(ended, Err(TransferError::Disconnected { .. })), "{ended:?}");
    bench.fake.script(first(1, "PUT /files/", Fault::CutAnswer(20)));
    let stored = put_bytes(&bench, 2, &put_to("/a")).await.unwrap().stored;
    assert_eq!(stored.version, bench.fake.store().files["/a"].version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_answer_was_lost_is_no_file_of_somebody_else() {
    let bench = Bench::new().await;
    let put = Put::new(Target { path: remote("/a"), precondition: Some(Precondition::Absent) });
    bench.fake.script(first(1, "PUT /files/", Fault::LoseAnswer));
    let outcome = put_bytes(&bench, 2, &put).await.unwrap();
    assert_eq!(outcome.stored.version, bench.fake.store().files["/a"].version);
    bench.fake.put("/a", b"theirs".to_vec());
    let refused = put_bytes(&bench, 2, &put).await.unwrap_err();
    assert_eq!(refused.problem(), Some(Kind::PreconditionFailed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_tree_is_linked_without_being_read() {
    let bench = Bench::new().await;
    let client = bench.client(10).await;
    bench.write(&noise(100_000, 26));
    let file = |path| Known {
        source: bench.path(),
        facts: None,
        target: Target { path: remote(path), precondition: None },
    };
    let linked = claim_known(&client, vec![file("/a")], &bench.silent).await.unwrap();
    assert_eq!(linked, [None], "nothing is known of it");
    let events = Arc::new(Mutex::new(Vec::new()));
    let facts = hapax_client::source::Source::open(&bench.path()).await.unwrap().1;
    let cache = hapax_client::cache::Cache::open(&bench.folder.path().join("cache.db")).await.unwrap();
    let late = hapax_client::source::Stamp { seconds: facts.changed.seconds + 3, nanos: 0 };
    let blake3 = hapax_proto::digest::FileHash::of(&noise(100_000, 26));
    cache.store(&bench.path(), &facts, late, blake3).await.unwrap();
    bench.fake.put("/elsewhere", noise(100_000, 26));
    let names = Arc::clone(&events);
    bench.fake.script(move |name| {
        names.lock().unwrap().push(name.to_owned());
        Fault::None
    });
    let linked = claim_known(&client, vec![file("/a"), file("/b")], &bench.silent).await.unwrap();
    assert!(linked.iter().all(Option::is_some));
    bench.assert_stored("/b");
    assert_eq!(*events.lock().unwrap(), ["POST /api/v1/claims"]);
    bench.fake.store().files.retain(|path, _| path == "/b");
    bench.fake.put("/0", b"something else".to_vec());
    bench.fake.store().deceives = true;
    assert_eq!(claim_known(&client, vec![file("/c")], &bench.silent).await.unwrap(), [None]);
}
