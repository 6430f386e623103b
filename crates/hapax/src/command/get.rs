//! `hapax get` and `hapax cat`: remote files to this machine. Owns which file goes where and what is said about it;
//! the transfer itself is the client's download engine.

/// Files of servers that are not hapax.
mod web;

/// Folders with all that lies in them.
mod folder;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hapax_client::TransferError;
use hapax_client::client::Client;
use hapax_client::download::{Get as Wish, Got, How, Listed, get_file, get_stream};
use hapax_client::foreign::Address;
use hapax_client::progress::Progress;
use hapax_client::sink::{Overwrite, temporary};
use hapax_proto::dialect::native::EntryKind;
use serde::Serialize;

use super::abreast::Abreast;
use super::context::{Context, Tally};
use super::tree;
use crate::args::{Get, Paths};
use crate::exit::{Code, Failure};
use crate::remote::{Remote, Side, expect_remote, side};
use crate::render::{Board, Sums};
use crate::screen::Screen;
use crate::words;

/// What standard output is called.
const STDOUT: &str = "-";

/// One file to be received.
struct Job {
    client: Client,
    source: Remote,
    target: PathBuf,
    size: u64,
    /// What the listing of its folder said of it.
    listed: Option<Listed>,
    /// Local names of earlier files that some file systems do not tell from this one's.
    twins: Vec<PathBuf>,
}

/// Receives what the arguments name.
pub(super) async fn run(context: &Context, get: &Get) -> Result<(), Failure> {
    let (sources, target) = match sides(get)? {
        (Sources::Web(addresses), target) => return web::run(context, get, (&addresses, target)).await,
        (Sources::Hapax(sources), target) => (sources, target),
    };
    if !get.web.digest.is_empty() {
        let failure = Failure::usage("--digest is for files from addresses");
        return Err(failure.hint("files from a hapax server are proven without it"));
    }
    if target == Path::new(STDOUT) {
        if get.recursive || context.global.json {
            let failure = Failure::usage("standard output takes the bytes of files and nothing else");
            return Err(failure.hint("leave -r and --json out, or name a local target"));
        }
        return stream(context, &sources).await;
    }
    let mut tally = Tally::default();
    let (mut jobs, mut trees) = (Vec::new(), Vec::new());
    let mut servers = context.servers();
    for source in sources {
        let client = servers.client(&source.alias).await?;
        if get.recursive && is_folder(&client, &source).await? {
            trees.push(folder::plan(&client, &source, target, (&mut tally, &context.screen)).await?);
        } else {
            // What a listing of everything was asked of may be a file all the same.
            let source = Remote { is_folder: source.is_folder && !get.recursive, ..source };
            let target = file_target(&source, target)?;
            jobs.push(Job { client, source, target, size: 0, listed: None, twins: Vec::new() });
        }
    }
    let planned = jobs.len() + trees.iter().map(|tree| tree.jobs.len()).sum::<usize>();
    let only = planned == 1 && tally.is_clean();
    let board = Board::new(context.screen.clone());
    if !only {
        let sizes = jobs.iter().chain(trees.iter().flat_map(|tree| &tree.jobs)).map(|job| job.size);
        board.expect(planned as u64, sizes.sum());
    }
    let mut run = Run { screen: context.screen.clone(), get, board, tally };
    for tree in trees {
        jobs.extend(if only { tree.jobs } else { run.bring(tree).await? });
    }
    if only {
        let (got, sums) = run.receive(&jobs[0]).await?;
        run.done(&jobs[0], &got, &sums);
        return Ok(());
    }
    run.receive_all(&jobs).await?;
    run.tally.end(&context.screen, "received")
}

/// What the jobs of one command share.
struct Run<'a> {
    screen: Screen,
    get: &'a Get,
    board: Arc<Board>,
    tally: Tally,
}

impl Run<'_> {
    /// Counts and says that a file is here.
    fn done(&mut self, job: &Job, got: &Got, sums: &Sums) {
        self.tally.done(got.size.get(), sums.moved);
        say(&self.screen, job, got, sums);
    }

    /// Receives files, several at a time: a line with a long way is not filled by one photo.
    async fn receive_all(&mut self, jobs: &[Job]) -> Result<(), Failure> {
        let mut abreast = Abreast::new(self.get.pace.parallel);
        let together = together(jobs);
        let weigh = |abreast: &Abreast<_>, job: &Job| {
            if together.contains(job.target.as_path()) { abreast.weigh(job.size) } else { abreast.alone() }
        };
        let mut rest = jobs.iter().enumerate().peekable();
        loop {
            while let Some((index, job)) = rest.next_if(|(_, job)| abreast.takes(weigh(&abreast, job))) {
                let receiving = self.receive(job);
                abreast.begin(weigh(&abreast, job), async move { (index, receiving.await) });
            }
            let Some((index, received)) = abreast.next().await else { return Ok(()) };
            match received {
                Ok((got, sums)) => self.done(&jobs[index], &got, &sums),
                Err(failure) if failure.ends_everything() => return Err(failure),
                Err(failure) => self.tally.fail(&self.screen, &failure),
            }
        }
    }

    /// Receives one file.
    fn receive(&self, job: &Job) -> impl Future<Output = Result<(Got, Sums), Failure>> + use<> {
        let wish = Wish {
            overwrite: overwrite(self.get),
            parts_in_flight: usize::from(self.get.pace.parallel),
            ..Wish::new(job.source.path.clone())
        };
        let (client, source, target) = (job.client.clone(), job.source.clone(), job.target.clone());
        let (board, twins) = (Arc::clone(&self.board), job.twins.clone());
        async move {
            if let Some(twin) = twins.iter().find(|twin| tree::is_one(twin, &target)) {
                return Err(folder::one_name(&target, twin));
            }
            let watcher = Arc::new(board.file(source.name().unwrap_or_default()));
            let progress: Arc<dyn Progress> = Arc::clone(&watcher) as _;
            match get_file(&client, &wish, &target, &progress).await {
                Ok(got) => Ok((got, watcher.sums())),
                Err(TransferError::Unprovable { .. }) => Err(unprovable(&client, &source).await),
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// Returns the targets of jobs that may be done beside others. The rest goes alone and in order: whose size nobody told, and
/// what has a name that another one has, may have on some file systems, or has until it is whole.
fn together(jobs: &[Job]) -> HashSet<&Path> {
    let mut targets: HashSet<&Path> = HashSet::new();
    let mut twice: HashSet<&Path> = HashSet::new();
    for job in jobs {
        if !targets.insert(&job.target) {
            twice.insert(&job.target);
        }
    }
    let temporaries: HashSet<PathBuf> = jobs.iter().filter_map(|job| temporary(&job.target)).collect();
    let is_temporary = |job: &Job| {
        let name = job.target.as_os_str().as_bytes();
        let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        temporaries.contains(Path::new(OsStr::from_bytes(&name[..name.len() - digits])))
    };
    let fits = |job: &&Job| job.listed.is_some() && job.twins.is_empty() && !is_temporary(job);
    jobs.iter().filter(fits).map(|job| &*job.target).filter(|target| !twice.contains(target)).collect()
}

fn overwrite(get: &Get) -> Overwrite {
    if get.overwrite { Overwrite::Replace } else { Overwrite::Never }
}

async fn is_folder(client: &Client, source: &Remote) -> Result<bool, Failure> {
    Ok(client.api().stat(&source.path).await?.kind == EntryKind::Folder)
}

/// Writes remote files to standard output, one behind the other.
pub(super) async fn cat(context: &Context, paths: &Paths) -> Result<(), Failure> {
    if context.global.json {
        return Err(Failure::usage("cat writes the bytes of files and no events").hint("leave --json out"));
    }
    let sources: Result<Vec<_>, _> = paths.paths.iter().map(|path| Remote::parse(path)).collect();
    stream(context, &sources?).await
}

/// What is to be received.
#[derive(Debug)]
enum Sources {
    /// Files of hapax servers.
    Hapax(Vec<Remote>),
    /// Files of other servers.
    Web(Vec<Address>),
}

impl Sources {
    fn len(&self) -> usize {
        match self {
            Self::Hapax(sources) => sources.len(),
            Self::Web(addresses) => addresses.len(),
        }
    }
}

/// Tells the two sides apart.
fn sides(get: &Get) -> Result<(Sources, &Path), Failure> {
    let (last, before) = get.paths.split_last().expect("clap demands a path");
    let (sources, target) = match side(last.as_os_str()) {
        Side::Local if !before.is_empty() => (before, last.as_path()),
        _ => (&get.paths[..], Path::new(".")),
    };
    let from_the_web = sources.iter().filter(|word| side(word.as_os_str()) == Side::Web).count();
    if from_the_web > 0 && from_the_web < sources.len() {
        let failure = Failure::usage("remote paths and addresses cannot be received together");
        return Err(failure.hint("run two commands"));
    }
    let sources = if from_the_web > 0 {
        let parsed = sources.iter().map(|word| word.to_string_lossy().parse().map_err(web::unfit));
        Sources::Web(parsed.collect::<Result<_, _>>()?)
    } else {
        let parsed = sources.iter().map(|word| expect_remote(word, "a source of get"));
        Sources::Hapax(parsed.collect::<Result<_, _>>()?)
    };
    if sources.len() > 1 && target != Path::new(STDOUT) && !means_folder(target) {
        let failure = Failure::usage(format!("several files cannot all become {}", target.display()));
        return Err(failure.hint("name a folder that exists, or end the target with a slash"));
    }
    Ok((sources, target))
}

/// Tells whether things are to be put into this, rather than to become it.
fn means_folder(target: &Path) -> bool {
    target.as_os_str().as_encoded_bytes().ends_with(b"/") || target.is_dir()
}

fn file_target(source: &Remote, target: &Path) -> Result<PathBuf, Failure> {
    let name = source.name().filter(|_| !source.is_folder).ok_or_else(|| is_a_folder(source))?;
    if !means_folder(target) {
        return Ok(target.to_owned());
    }
    Ok(tree::make_folders(target, [])?.join(name))
}

fn is_a_folder(source: &Remote) -> Failure {
    Failure::usage(format!("{source} is a folder")).hint("add -r to receive it with everything in it")
}

/// Tells a folder from a file without a hash.
async fn unprovable(client: &Client, source: &Remote) -> Failure {
    match client.api().stat(&source.path).await {
        Ok(about) if about.kind == EntryKind::Folder => is_a_folder(source),
        _ => Failure::new(Code::Temporary, format!("{source} has no hash yet by which it could be proven"))
            .hint("run the same command again in a moment"),
    }
}

async fn stream(context: &Context, sources: &[Remote]) -> Result<(), Failure> {
    let screen = context.screen.clone().without_output();
    let mut servers = context.servers();
    for source in sources {
        let client = servers.client(&source.alias).await?;
        let board = Board::new(screen.clone());
        let watcher: Arc<dyn Progress> = Arc::new(board.file(source.name().unwrap_or_default()));
        match get_stream(&client, &source.path, Stdout, &watcher).await {
            Ok(_) => {}
            // Whoever reads has heard enough, as `head` does.
            Err(TransferError::Output { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(());
            }
            Err(TransferError::Unprovable { .. }) => return Err(is_a_folder(source)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Standard output, without the buffer that breaks writes at line feeds.
struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    file: String,
    source: String,
    how: &'static str,
    size: u64,
    kept: u64,
    moved: u64,
    blake3: String,
}

fn say(screen: &Screen, job: &Job, got: &Got, sums: &Sums) {
    let size = got.size.get();
    let (how, kept) = match got.how {
        How::There => ("there", size),
        How::Fetched => ("received", 0),
        How::Resumed { kept } => ("resumed", kept.get()),
        How::Changed => ("changed", 0),
    };
    let event = Done {
        event: "done",
        file: job.target.display().to_string(),
        source: job.source.to_string(),
        how,
        size,
        kept,
        moved: sums.moved,
        blake3: got.blake3.to_string(),
    };
    screen.outcome(&format!("{}: {}", job.target.display(), words_for(got.how, size)), &event);
}

/// Says in a few words what a get came to.
fn words_for(how: How, size: u64) -> String {
    match how {
        How::There => format!("there already: {} not received", words::bytes(size)),
        How::Fetched => format!("received {}, every byte proven", words::bytes(size)),
        How::Resumed { kept } => {
            let kept = kept.get();
            format!("resumed at {} % ({} kept, proven)", words::percent(kept, size), words::bytes(kept))
        }
        How::Changed => format!("changed on the server: received {} of the new version", words::bytes(size)),
    }
}

#[cfg(test)]
mod tests {
    use hapax_proto::span::Length;

    use super::*;
    use crate::args::{Command, CommandLine};

    fn get(line: &str) -> Get {
        let parsed = <CommandLine as clap::Parser>::try_parse_from(line.split_whitespace()).unwrap();
        match parsed.command {
            Command::Get(get) => get,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sides_are_not_guessed() {
        #[track_caller]
        fn check(line: &str, expected: Option<(usize, &str)>) {
            let get = get(line);
            let found = sides(&get);
            let found = found.map(|(sources, target)| (sources.len(), target.to_str().unwrap().to_owned()));
            let expected = expected.map(|(sources, target)| (sources, target.to_owned()));
            assert_eq!(found.as_ref().ok(), expected.as_ref(), "{found:?}");
            if let Err(failure) = found {
                assert_eq!(failure.code, Code::Usage);
                assert!(failure.hint.is_some());
            }
        }
        check("hapax get :/a", Some((1, ".")));
        check("hapax get :/a b", Some((1, "b")));
        check("hapax get :/a -", Some((1, "-")));
        check("hapax get :/a :/b", Some((2, ".")));
        check("hapax get :/a nas:/b there/", Some((2, "there/")));
        check("hapax get :/a :/b -", Some((2, "-")));
        check("hapax get :/a :/b no-such-folder", None);
        check("hapax get a", None);
        check("hapax get a :/b", None);
        check("hapax get a b", None);
        check("hapax get https://any.example/big.iso", Some((1, ".")));
        check("hapax get https://any.example/big.iso a.iso", Some((1, "a.iso")));
        check("hapax get http://any.example/a https://any.example/b there/", Some((2, "there/")));
        check("hapax get http://any.example/a http://any.example/b", Some((2, ".")));
        check("hapax get http://any.example/a :/b", None);
        check("hapax get http://", None);
        check("hapax get :/a b :/c", None);
    }

    #[test]
    fn an_outcome_is_one_line() {
        #[track_caller]
        fn check(how: How, words: &str) {
            assert_eq!(words_for(how, 4 << 30), words);
        }
        check(How::There, "there already: 4 GiB not received");
        check(How::Fetched, "received 4 GiB, every byte proven");
        check(How::Resumed { kept: Length::new(3 << 30) }, "resumed at 75 % (3 GiB kept, proven)");
        check(How::Changed, "changed on the server: received 4 GiB of the new version");
    }
}
