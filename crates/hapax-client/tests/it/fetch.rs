//! Small files of a folder, many in one answer: what comes, what is left, what is asked for again, and what a run that was
//! killed leaves behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use hapax_client::download::{Brought, Listed, Local, Stage, get_batch, look_for};
use hapax_client::sink::Overwrite;
use hapax_client::{Client, TransferError};
use hapax_proto::dialect::native::{EntryInfo, EntryKind};
use hapax_proto::digest::FileHash;
use hapax_proto::problem::Kind;

use crate::fake::Fault;
use crate::put::{Bench, noise, remote};

const FETCH: &str = "POST /api/v1/batch/get";

/// A folder that is received.
struct Receiving {
    bench: Bench,
    root: PathBuf,
}

impl Receiving {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let root = bench.folder.path().join("root");
        fs::create_dir(&root).unwrap();
        Self { bench, root }
    }

    /// Puts files of these lengths into the store and lists them.
    fn files(&self, lengths: &[usize]) -> Vec<Listed> {
        let each = lengths.iter().enumerate();
        each.map(|(number, length)| self.file(&format!("/f{number}"), noise(*length, number as u64)))
            .collect()
    }

    fn file(&self, path: &str, bytes: Vec<u8>) -> Listed {
        self.bench.fake.put(path, bytes);
        self.list(path)
    }

    /// Returns what a listing says of a stored file.
    fn list(&self, path: &str) -> Listed {
        let file = self.bench.fake.store().files[path].clone();
        let info = EntryInfo {
            path: path.to_owned(),
            name: path[1..].to_owned(),
            kind: EntryKind::File,
            size: Some(file.bytes.len() as u64),
            blake3: Some(FileHash::of(&file.bytes)),
            etag: Some(file.etag),
            mtime: Some("2001-09-09T01:46:40.000000007Z".to_owned()),
            modified: "2026-01-01T00:00:00Z".to_owned(),
            executable: path == "/f1",
            media_type: None,
            version: 1,
        };
        Listed::of(&info, remote(path), self.root.join(&path[1..])).unwrap()
    }

    async fn stage(&self, client: &Client) -> Result<Stage, TransferError> {
        Stage::open(client, &remote("/"), &self.root).await
    }

    /// Gets files as a new process, and checks that nothing else is left.
    async fn get(&self, files: &[Listed], overwrite: Overwrite) -> Result<Vec<String>, TransferError> {
        let client = self.bench.client(4).await;
        let stage = self.stage(&client).await?;
        let brought = get_batch(&client, &stage, (files, overwrite), &self.bench.silent).await;
        stage.close().await?;
        let names = fs::read_dir(&self.root).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with('.')), "a stage is left");
        Ok(brought?.iter().map(word).collect())
    }

    #[track_caller]
    fn assert_here(&self, files: &[Listed]) {
        for file in files {
            let stored = self.bench.fake.store().files[&file.source.to_string()].bytes.clone();
            assert!(stored == fs::read(&file.target).unwrap(), "{}", file.target.display());
        }
    }
}

fn word(brought: &Brought) -> String {
    match brought {
        Brought::Here(_) => "here".to_owned(),
        Brought::Alone => "alone".to_owned(),
        Brought::Refused(error) => error.to_string().rsplit('/').next().unwrap().to_owned(),
    }
}

#[tokio::test]
async fn a_batch_is_one_request_and_keeps_time_and_bit() {
    let receiving = Receiving::new().await;
    let files = receiving.files(&[0, 1, 70_000, 1 << 20]);
    assert_eq!(receiving.get(&files, Overwrite::Never).await.unwrap(), ["here"; 4]);
    assert_eq!(receiving.bench.fake.store().requests, [FETCH]);
    receiving.assert_here(&files);
    let modified = UNIX_EPOCH + Duration::new(1_000_000_000, 7);
    for (number, file) in files.iter().enumerate() {
        let metadata = fs::metadata(&file.target).unwrap();
        assert_eq!(metadata.modified().unwrap(), modified);
        assert_eq!(metadata.permissions().mode() & 0o100 != 0, number == 1);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_gone_on_with() {
    for cut in [0, 3, 100, 5_000, 25_000, 30_900] {
        let receiving = Receiving::new().await;
        let files = receiving.files(&[10_000, 10_000, 10_000]);
        let asked = AtomicU32::new(0);
        receiving.bench.fake.script(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Fault::CutAnswer(cut),
            1 => Fault::Refuse(Kind::Unavailable),
            2 => Fault::LoseAnswer,
            _ => Fault::None,
        });
        assert_eq!(receiving.get(&files, Overwrite::Never).await.unwrap(), ["here"; 3], "{cut}");
        receiving.assert_here(&files);
        // What was whole does not come again: at most the lost answer and the file that was cut come twice.
        let whole = cut / 10_300 * 10_000;
        let (_, out) = receiving.bench.fake.take_counts();
        assert!(out <= cut + 2 * (32_000 - whole), "{out} bytes after a cut at {cut}");
    }
}

#[tokio::test]
async fn a_full_answer_is_followed_by_the_next_one() {
    let receiving = Receiving::new().await;
    let files = receiving.files(&[100; 10]);
    receiving.bench.fake.store().room = Some(4);
    assert_eq!(receiving.get(&files, Overwrite::Never).await.unwrap(), ["here"; 10]);
    assert_eq!(receiving.bench.fake.requests_of(FETCH), 3);
    // One that names nothing would go on like that.
    fs::remove_file(&files[3].target).unwrap();
    receiving.bench.fake.store().room = Some(0);
    assert_eq!(receiving.get(&files[3..4], Overwrite::Never).await.unwrap(), ["alone"]);
    assert_eq!(receiving.bench.fake.requests_of(FETCH), 4);
}

#[tokio::test]
async fn what_is_not_as_it_should_be_is_left_to_come_alone() {
    let receiving = Receiving::new().await;
    let mut files = receiving.files(&[1_000, 2_000, 3_000, 4_000]);
    receiving.bench.fake.put("/f1", b"another version".to_vec());
    receiving.bench.fake.store().files.remove("/f2");
    // A bit of the last content is wrong: it never gets its name.
    receiving.bench.fake.script(|_| Fault::Flip);
    let words = receiving.get(&files, Overwrite::Never).await.unwrap();
    assert_eq!(words, ["here", "alone", "alone", "alone"]);
    assert_eq!(fs::read_dir(&receiving.root).unwrap().count(), 1);
    // A file under which the answer breaks again and again does not hold the others up.
    files.swap(0, 3);
    receiving.bench.fake.script(|_| Fault::CutAnswer(3_000));
    let files = [files[3].clone(), files[0].clone()];
    fs::remove_file(&files[0].target).unwrap();
    assert_eq!(receiving.get(&files, Overwrite::Never).await.unwrap(), ["here", "alone"]);
    // A server that knows no such request.
    for kind in [Kind::NotFound, Kind::MethodNotAllowed] {
        receiving.bench.fake.script(move |_| Fault::Refuse(kind));
        assert_eq!(receiving.get(&files, Overwrite::Never).await.unwrap(), ["alone"; 2]);
    }
    receiving.bench.fake.script(|_| Fault::Refuse(Kind::Unauthenticated));
    assert!(receiving.get(&files, Overwrite::Never).await.is_err());
}

#[tokio::test]
async fn a_server_that_goes_away_takes_nothing_of_what_came() {
    let receiving = Receiving::new().await;
    let files = receiving.files(&[1_000, 2_000, 3_000]);
    let asked = AtomicU32::new(0);
    receiving.bench.fake.script(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Fault::CutAnswer(2_500),
        _ => Fault::LoseAnswer,
    });
    let failed = receiving.get(&files, Overwrite::Never).await.unwrap_err();
    assert!(matches!(failed, TransferError::Disconnected { .. }), "{failed}");
    receiving.assert_here(&files[..1]);
    assert_eq!(fs::read_dir(&receiving.root).unwrap().count(), 1);
}

#[tokio::test]
async fn nothing_is_overwritten_unless_asked_and_nothing_through_a_link() {
    let receiving = Receiving::new().await;
    let files = receiving.files(&[100, 200, 300]);
    let outside = receiving.bench.folder.path().join("outside");
    fs::write(&outside, "outside").unwrap();
    fs::write(&files[0].target, "mine").unwrap();
    symlink(&outside, &files[1].target).unwrap();
    let words = receiving.get(&files, Overwrite::Never).await.unwrap();
    assert_eq!(words, ["f0 exists already", "f1 exists already", "here"]);
    assert_eq!(fs::read_to_string(&files[0].target).unwrap(), "mine");
    assert_eq!(receiving.get(&files, Overwrite::Replace).await.unwrap(), ["here"; 3]);
    receiving.assert_here(&files);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "outside");
    assert!(fs::symlink_metadata(&files[1].target).unwrap().is_file());
}

#[tokio::test]
async fn the_next_run_removes_what_a_killed_one_left() {
    let receiving = Receiving::new().await;
    let client = receiving.bench.client(1).await;
    let stage = receiving.stage(&client).await.unwrap();
    let left = only_name(&receiving.root);
    fs::write(left.join("0"), "half").unwrap();
    // While it lives, nobody else gets the same folder.
    assert!(matches!(receiving.stage(&client).await, Err(TransferError::Locked { .. })));
    // A process that is killed closes nothing.
    drop(stage);
    let stage = receiving.stage(&client).await.unwrap();
    assert!(!left.exists());
    assert_ne!(only_name(&receiving.root), left);
    stage.close().await.unwrap();
    assert_eq!(fs::read_dir(&receiving.root).unwrap().count(), 0);
    assert_eq!(fs::read_dir(receiving.bench.folder.path().join("state")).unwrap().count(), 0);
}

fn only_name(folder: &Path) -> PathBuf {
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [name] = &names[..] else { panic!("{names:?}") };
    name.clone()
}

#[tokio::test]
async fn what_is_here_is_found_by_its_content() {
    let receiving = Receiving::new().await;
    let files = receiving.files(&[100, 200, 300, 400, 500, 0]);
    let stored = |number: usize| noise(100 * (number + 1), number as u64);
    fs::write(&files[0].target, stored(0)).unwrap();
    fs::write(&files[1].target, noise(200, 77)).unwrap();
    fs::write(&files[2].target, "shorter").unwrap();
    fs::create_dir(&files[3].target).unwrap();
    let elsewhere = receiving.bench.folder.path().join("elsewhere");
    fs::write(&elsewhere, stored(4)).unwrap();
    symlink(&elsewhere, &files[4].target).unwrap();
    let client = receiving.bench.client(1).await;
    let found = look_for(&client, &files).await.unwrap();
    assert_eq!(found, [Local::Same, Local::Other, Local::Other, Local::Other, Local::Other, Local::Free]);
    assert_eq!(receiving.bench.fake.store().requests.len(), 0);
    let many: Vec<_> =
        (0..300).map(|number| receiving.file(&format!("/m{number}"), noise(9, number))).collect();
    for file in &many {
        fs::write(&file.target, &receiving.bench.fake.store().files[&file.source.to_string()].bytes).unwrap();
    }
    assert_eq!(look_for(&client, &many).await.unwrap(), [Local::Same; 300]);
}
