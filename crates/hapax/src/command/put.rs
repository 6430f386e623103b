//! `hapax put`: local files to a server. Owns which file goes where and what is said about it; the transfer itself
//! is the client's upload engine.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hapax_client::TransferError;
use hapax_client::api::RemotePath;
use hapax_client::claim::{Known, Target, claim_known};
use hapax_client::client::Client;
use hapax_client::progress::{Event, Progress, Silent};
use hapax_client::source::{Facts, Links};
use hapax_client::upload::{
    Batched, Cut, How, Outcome, Put as Wish, Small, batch_capacity, put_batch, put_file, put_stream,
};
use hapax_proto::dialect::native::{Completed, EntryOperation, EntryVerb, Precondition};
use hapax_proto::problem::Kind;
use hapax_proto::span::Length;
use serde::Serialize;
use tokio::task::JoinSet;

use super::abreast::Abreast;
use super::context::{Context, Tally};
use super::tree;
use crate::args::Put;
use crate::exit::{Code, Failure};
use crate::remote::{Remote, expect_local, expect_remote};
use crate::render::{Board, Sums};
use crate::words;

/// What standard input is called.
const STDIN: &str = "-";

/// How many of a folder's links, devices and pipes are named one by one.
const SKIPPED_TOLD: usize = 20;

/// Folders that are made at the same time.
const FOLDERS_AT_ONCE: usize = 8;

/// What is to be said where going on would need bytes that nobody kept.
const STDIN_IS_GONE: &str = "standard input is kept one part at a time, so another process cannot go on: produce it again, or put a file";

/// One file to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Job {
    source: PathBuf,
    target: Remote,
    size: u64,
    /// What the source is, and by how many names it lies below the folder that was named, if it was found in one.
    found: Option<(Facts, usize)>,
    /// What must hold at the target.
    guard: Option<Precondition>,
}

/// What the jobs of one command share.
struct Run<'a> {
    context: &'a Context,
    put: &'a Put,
    client: Client,
    board: Arc<Board>,
    tally: Tally,
}

/// Sends what the arguments name.
pub(super) async fn run(context: &Context, put: &Put) -> Result<(), Failure> {
    let (sources, target) = sides(put)?;
    let mut tally = Tally::default();
    let (mut jobs, folders) = plan(context, put, (sources, &target), &mut tally)?;
    let client = context.servers().client(&target.alias).await?;
    make_folders(&client, folders).await?;
    let only = jobs.len() == 1 && tally.is_clean();
    let mut run = Run { context, put, client, board: Board::new(context.screen.clone()), tally };
    if only {
        let (outcome, sums) = run.send(&jobs[0]).await?;
        run.done(&jobs[0], &outcome, &sums);
        return Ok(());
    }
    let linked = link(&run.client, &jobs, put).await?;
    run.board.expect(jobs.len() as u64, jobs.iter().map(|job| job.size).sum());
    let mut through = vec![false; jobs.len()];
    for (index, stored) in linked.into_iter().enumerate() {
        let Some(stored) = stored else { continue };
        let sums = run.board.file(&shown(&jobs[index])).sums();
        run.done(&jobs[index], &Outcome { how: How::Instant, stored }, &sums);
        through[index] = true;
    }
    run.send_batches(&mut jobs, &mut through).await?;
    run.send_rest(&jobs, &through).await?;
    run.tally.end(&context.screen, "sent")
}

impl Run<'_> {
    /// Counts and says that a file is where it should be.
    fn done(&mut self, job: &Job, outcome: &Outcome, sums: &Sums) {
        self.tally.done(outcome.stored.size, sums.moved);
        say(self.context, job, outcome, sums);
    }

    /// Sends small files many at a time, and says which jobs are through. The others are to be sent one by one, under the
    /// guards that they have then.
    async fn send_batches(&mut self, jobs: &mut [Job], through: &mut [bool]) -> Result<(), Failure> {
        let rest = jobs.iter().enumerate().filter(|(index, _)| !through[*index]);
        let small: Vec<_> = rest.map(|(index, job)| (index, job.size)).collect();
        if small.len() < 2 {
            return Ok(());
        }
        let silent: Arc<dyn Progress> = Arc::new(Silent);
        let Some(capacity) = batch_capacity(&self.client, &silent).await? else { return Ok(()) };
        let mut batches = capacity.cut(&small).into_iter();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < capacity.in_flight
                && let Some(batch) = batches.next()
            {
                under_way.spawn(self.batch(jobs, batch));
            }
            let Some(ended) = under_way.join_next().await else { return Ok(()) };
            let (batch, outcome) = ended.unwrap_or_else(|error| resume_unwind(error.into_panic()));
            match outcome.map_err(Failure::from) {
                Ok(outcomes) => {
                    for (index, outcome) in batch.into_iter().zip(outcomes) {
                        match outcome {
                            Batched::Alone(guard) => jobs[index].guard = guard,
                            Batched::Stored(outcome) => {
                                through[index] = true;
                                let sums = self.tell(&jobs[index], &outcome);
                                self.done(&jobs[index], &outcome, &sums);
                            }
                        }
                    }
                }
                Err(failure) if failure.ends_everything() => return Err(failure),
                Err(failure) => {
                    for index in batch {
                        through[index] = true;
                        self.tally.fail(&self.context.screen, &failure);
                    }
                }
            }
        }
    }

    /// Sends what went in no batch, several files at a time: a line with a long way is not filled by one photo.
    async fn send_rest(&mut self, jobs: &[Job], through: &[bool]) -> Result<(), Failure> {
        let mut abreast = Abreast::new(self.put.pace.parallel);
        let mut rest = (0..jobs.len()).filter(|index| !through[*index]).peekable();
        loop {
            while let Some(index) = rest.next_if(|index| abreast.takes(abreast.weigh(jobs[*index].size))) {
                let sending = self.send(&jobs[index]);
                abreast.begin(abreast.weigh(jobs[index].size), async move { (index, sending.await) });
            }
            let Some((index, sent)) = abreast.next().await else { return Ok(()) };
            match sent {
                Ok((outcome, sums)) => self.done(&jobs[index], &outcome, &sums),
                Err(failure) if failure.ends_everything() => return Err(failure),
                Err(failure) => self.tally.fail(&self.context.screen, &failure),
            }
        }
    }

    /// Sends one file.
    fn send(&self, job: &Job) -> impl Future<Output = Result<(Outcome, Sums), Failure>> + use<> {
        let (client, source, wish) = (self.client.clone(), job.source.clone(), wish(job, self.put));
        let (board, shown) = (Arc::clone(&self.board), shown(job));
        async move {
            let watcher = Arc::new(board.file(&shown));
            let progress: Arc<dyn Progress> = Arc::clone(&watcher) as _;
            let from_stdin = source == Path::new(STDIN);
            let sent = if from_stdin {
                put_stream(&client, std::io::stdin(), &wish, &progress).await
            } else {
                put_file(&client, &source, &wish, &progress).await
            };
            match sent.map_err(Failure::from) {
                Ok(outcome) => Ok((outcome, watcher.sums())),
                Err(failure) if from_stdin && failure.code == Code::Temporary => {
                    Err(failure.hint(STDIN_IS_GONE))
                }
                Err(failure) => Err(failure),
            }
        }
    }

    /// Puts one batch, on a task of its own.
    fn batch(
        &self,
        jobs: &[Job],
        batch: Vec<usize>,
    ) -> impl Future<Output = (Vec<usize>, Result<Vec<Batched>, TransferError>)> + use<> {
        let wished =
            |index: &usize| Small { source: jobs[*index].source.clone(), put: wish(&jobs[*index], self.put) };
        let files: Vec<_> = batch.iter().map(wished).collect();
        let name = words::count(batch.len() as u64, "file", "files");
        let (client, watcher) = (self.client.clone(), Arc::new(self.board.file(&name)));
        async move {
            let progress: Arc<dyn Progress> = watcher;
            let outcome = put_batch(&client, &files, &progress).await;
            (batch, outcome)
        }
    }

    /// Tells the watchers of a file that was stored with others what was done for it.
    fn tell(&self, job: &Job, outcome: &Outcome) -> Sums {
        let watcher = self.board.file(&shown(job));
        let size = Length::new(outcome.stored.size);
        watcher.event(Event::Begun { size: Some(size), kept: Length::ZERO });
        if outcome.how == How::Instant {
            watcher.event(Event::Instant);
        } else {
            watcher.event(Event::Moved(size));
            watcher.event(Event::Solid(size));
        }
        watcher.event(Event::Done);
        watcher.sums()
    }
}

/// Returns the jobs that have a target of their own: no file takes the place of another that the same command sends.
fn distinct(jobs: Vec<Job>, mut refuse: impl FnMut(&Failure)) -> Vec<Job> {
    let mut first: HashMap<RemotePath, PathBuf> = HashMap::new();
    let mut is_first = |job: &Job| match first.entry(job.target.path.clone()) {
        Entry::Vacant(free) => {
            free.insert(job.source.clone());
            true
        }
        Entry::Occupied(earlier) => {
            if *earlier.get() != job.source {
                let (ours, theirs) = (job.source.display(), earlier.get().display());
                let failure = format!("{ours} would take the place of {theirs} as {}", job.target);
                refuse(&Failure::new(Code::Conflict, failure).hint("put it under another name"));
            }
            false
        }
    };
    jobs.into_iter().filter(|job| is_first(job)).collect()
}

/// Tells the two sides apart.
fn sides(put: &Put) -> Result<(&[PathBuf], Remote), Failure> {
    let (target, sources) = put.paths.split_last().expect("clap demands two paths");
    let target = expect_remote(target, "the target of put, its last argument,")?;
    for source in sources {
        expect_local(source, "a source of put")?;
    }
    if sources.len() > 1 && !target.is_folder {
        let failure = Failure::usage(format!("several files cannot all become {target}"));
        return Err(failure.hint(format!("end the target with a slash to put them into a folder: {target}/")));
    }
    Ok((sources, target))
}

/// Finds out which file goes where, and which folders there must be. What cannot be sent is counted and said.
fn plan(
    context: &Context,
    put: &Put,
    (sources, target): (&[PathBuf], &Remote),
    tally: &mut Tally,
) -> Result<(Vec<Job>, Vec<Remote>), Failure> {
    let (mut jobs, mut folders) = (Vec::new(), Vec::new());
    for source in sources {
        if !(put.recursive && source.is_dir()) {
            match job(source, target, put) {
                Ok(job) => jobs.push(job),
                Err(failure) if sources.len() == 1 => return Err(failure),
                Err(failure) => tally.fail(&context.screen, &failure),
            }
            continue;
        }
        let found = tree::walk(source)?;
        found.failures.iter().for_each(|failure| tally.fail(&context.screen, failure));
        found.closed.iter().for_each(|failure| tally.fail_folder(&context.screen, failure));
        for path in found.skipped.iter().take(SKIPPED_TOLD) {
            let what = if path.is_symlink() { "a symbolic link" } else { "neither a file nor a folder" };
            context.screen.note(&format!("{} is {what}: left out", path.display()));
        }
        if let more @ 1.. = found.skipped.len().saturating_sub(SKIPPED_TOLD) {
            context.screen.note(&format!("{more} more are links, devices or pipes: left out"));
        }
        for (one, other) in &found.alike {
            context.screen.note(&format!(
                "{} and {} look the same and are two names (they differ in the form of Unicode): both are sent",
                one.display(),
                other.display()
            ));
        }
        let root = folder_target(source, target)?;
        for names in &found.folders {
            match inside(&root, names) {
                Ok(folder) => folders.push(folder),
                Err(failure) => tally.fail_folder(&context.screen, &failure),
            }
        }
        for file in found.files {
            match inside(&root, &file.names) {
                Ok(target) => {
                    let (size, found) = (file.facts.size().get(), Some((file.facts, file.names.len())));
                    jobs.push(Job { source: file.path, target, size, found, guard: guard(put) });
                }
                Err(failure) => tally.fail(&context.screen, &failure),
            }
        }
    }
    Ok((distinct(jobs, |failure| tally.fail(&context.screen, failure)), folders))
}

fn inside(root: &Remote, names: &[String]) -> Result<Remote, Failure> {
    names.iter().try_fold(root.clone(), |folder, name| folder.join(name))
}

fn job(source: &Path, target: &Remote, put: &Put) -> Result<Job, Failure> {
    let guard = guard(put);
    if source == Path::new(STDIN) {
        if target.is_folder {
            let failure = Failure::usage("standard input has no name to be put into a folder under");
            return Err(failure.hint(format!("name the file: {target}name")));
        }
        return Ok(Job { source: source.to_owned(), target: target.clone(), size: 0, found: None, guard });
    }
    let metadata = std::fs::metadata(source).map_err(|error| Failure::io("read", source, &error))?;
    if metadata.is_dir() {
        let failure = Failure::usage(format!("{} is a folder", source.display()));
        return Err(failure.hint("add -r to send it with everything in it"));
    }
    let target = if target.is_folder { target.join(name_of(source)?)? } else { target.clone() };
    Ok(Job { source: source.to_owned(), target, size: metadata.len(), found: None, guard })
}

/// Returns where a folder goes: `photos` under its name, what lies in `photos/` without it.
fn folder_target(source: &Path, target: &Remote) -> Result<Remote, Failure> {
    let contents_only = source.as_os_str().as_encoded_bytes().ends_with(b"/") || source.file_name().is_none();
    if contents_only || !target.is_folder { Ok(target.clone()) } else { target.join(name_of(source)?) }
}

fn name_of(source: &Path) -> Result<&str, Failure> {
    let name = source.file_name().unwrap_or(source.as_os_str());
    name.to_str().ok_or_else(|| {
        let failure = Failure::usage(format!("the name of {} is not UTF-8", source.display()));
        failure.hint("name the remote file in full")
    })
}

/// Makes the folders that no file brings along, some at a time.
async fn make_folders(client: &Client, folders: Vec<Remote>) -> Result<(), Failure> {
    let (mut folders, mut making) = (folders.into_iter(), JoinSet::new());
    loop {
        while making.len() < FOLDERS_AT_ONCE
            && let Some(folder) = folders.next()
        {
            let client = client.clone();
            making.spawn(async move { make_folder(&client, &folder).await });
        }
        let Some(made) = making.join_next().await else { return Ok(()) };
        made.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
    }
}

async fn make_folder(client: &Client, folder: &Remote) -> Result<(), Failure> {
    if folder.path.path.is_root() {
        return Ok(());
    }
    let make = EntryOperation { op: EntryVerb::Mkdir, to: None, overwrite: false };
    match client.api().operate(&folder.path, &make).await {
        Err(error) if error.problem() != Some(Kind::Exists) => Err(error.into()),
        _ => Ok(()),
    }
}

fn guard(put: &Put) -> Option<Precondition> {
    put.no_overwrite.then_some(Precondition::Absent)
}

fn wish(job: &Job, put: &Put) -> Wish {
    let target = Target { path: job.target.path.clone(), precondition: job.guard.clone() };
    let mut cut = Cut::default().with_run(Length::new(put.request_size));
    cut.parts_in_flight = usize::from(put.pace.parallel);
    let links = job.found.map_or(Links::Followed, |(_, names)| Links::Refused { names });
    Wish { cut, links, ..Wish::new(target) }
}

/// Asks about all files at once which ones need not be sent.
async fn link(client: &Client, jobs: &[Job], put: &Put) -> Result<Vec<Option<Completed>>, Failure> {
    let known = |job: &Job| {
        let (source, facts) = (job.source.clone(), job.found.map(|(facts, _)| facts));
        Known { source, facts, target: wish(job, put).target }
    };
    let silent: Arc<dyn Progress> = Arc::new(Silent);
    Ok(claim_known(client, jobs.iter().map(known).collect(), &silent).await?)
}

fn shown(job: &Job) -> String {
    if job.source == Path::new(STDIN) {
        return "standard input".to_owned();
    }
    job.source.file_name().unwrap_or(job.source.as_os_str()).to_string_lossy().into_owned()
}

#[derive(Serialize)]
struct Done<'a> {
    event: &'static str,
    file: String,
    target: String,
    how: &'static str,
    size: u64,
    kept: u64,
    moved: u64,
    blake3: String,
    etag: &'a str,
}

fn say(context: &Context, job: &Job, outcome: &Outcome, sums: &Sums) {
    let stored = &outcome.stored;
    let (how, kept) = match outcome.how {
        How::Instant => ("instant", stored.size),
        How::Recognised { saved, .. } => ("recognised", saved.get()),
        How::Sent => ("sent", 0),
        How::Resumed { kept } => ("resumed", kept.get()),
        How::Changed { .. } => ("changed", stored.size.saturating_sub(sums.moved)),
    };
    let event = Done {
        event: "done",
        file: job.source.display().to_string(),
        target: job.target.to_string(),
        how,
        size: stored.size,
        kept,
        moved: sums.moved,
        blake3: stored.blake3.to_string(),
        etag: &stored.etag,
    };
    context.screen.outcome(&format!("{}: {}", job.target, words_for(outcome.how, stored.size)), &event);
}

/// Says in a few words what a put came to.
fn words_for(how: How, size: u64) -> String {
    match how {
        How::Instant => format!("instant: {} not sent", words::bytes(size)),
        How::Recognised { after, saved } => {
            format!("recognised after {}: {} not sent", words::bytes(after.get()), words::bytes(saved.get()))
        }
        How::Sent => format!("sent {}", words::bytes(size)),
        How::Resumed { kept } => {
            let kept = kept.get();
            format!(
                "resumed at {} % ({} kept, prefix proven)",
                words::percent(kept, size),
                words::bytes(kept)
            )
        }
        How::Changed { sent, parts } => {
            format!("source changed: {sent} of {} sent again", words::count(parts, "part", "parts"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command, CommandLine};

    fn put(line: &str) -> Put {
        let parsed = <CommandLine as clap::Parser>::try_parse_from(line.split_whitespace()).unwrap();
        match parsed.command {
            Command::Put(put) => put,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sides_are_not_guessed() {
        #[track_caller]
        fn check(line: &str, target: Option<&str>) {
            let put = put(line);
            let found = sides(&put).map(|(_, target)| target.to_string());
            assert_eq!(found.as_deref().ok(), target, "{found:?}");
            if let Err(failure) = found {
                assert_eq!(failure.code, Code::Usage);
                assert!(failure.hint.is_some());
            }
        }
        check("hapax put a :/b", Some(":/b"));
        check("hapax put a b :/c/", Some(":/c/"));
        check("hapax put a b :/c", None);
        check("hapax put :/a b", None);
        check("hapax put :/a :/b", None);
        check("hapax put a b", None);
        check("hapax put a http://nas/b", None);
    }

    #[test]
    fn a_folder_keeps_its_name_unless_it_ends_with_a_slash() {
        #[track_caller]
        fn check(source: &str, target: &str, expected: &str) {
            let target = Remote::parse(target).unwrap();
            assert_eq!(folder_target(Path::new(source), &target).unwrap().path.to_string(), expected);
        }
        check("photos", ":/backup/", "/backup/photos");
        check("photos/", ":/backup/", "/backup");
        check("photos", ":/backup", "/backup");
        check(".", ":/backup/", "/backup");
        check("a/..", ":/backup/", "/backup");
    }

    #[test]
    fn an_outcome_is_one_line() {
        #[track_caller]
        fn check(how: How, size: u64, words: &str) {
            assert_eq!(words_for(how, size), words);
        }
        check(How::Instant, 20 << 30, "instant: 20 GiB not sent");
        let (after, saved) = (Length::new(6 << 27), Length::new(77 << 28));
        check(How::Recognised { after, saved }, 20 << 30, "recognised after 768 MiB: 19 GiB not sent");
        check(How::Sent, 5, "sent 5 B");
        let kept = Length::new(37 << 28);
        check(How::Resumed { kept }, 15 << 30, "resumed at 61 % (9.2 GiB kept, prefix proven)");
        check(How::Changed { sent: 3, parts: 640 }, 10 << 30, "source changed: 3 of 640 parts sent again");
    }
}
