//! `cargo xtask hostile`: a server that lies on purpose, one lie per path, and what downloaders make of it. Ours may
//! never call a wrong file a success, must have every file that can be had honestly, and must do it in a bounded
//! number of requests; the others are run for the table in `docs/downloading.md`.
//!
//! Owns the command line, the order of the trials and the verdict. Content is deterministic, and nothing is random.
//!
//! ```text
//!   behaviour ──▶ reply ──▶ server ⇄ hapax | curl | wget | aria2c ──▶ trial ──▶ report
//!                             │ half of the file sent: hold still       ▲
//!                             └──────▶ kill, and the same command again ┘
//! ```

/// The files, and what is true of them.
mod version;

/// Requests.
mod ask;

/// Answers.
mod reply;

/// What the server does wrong.
mod behaviour;

/// One client at one behaviour.
mod visit;

/// The server.
mod server;

/// The downloaders.
mod subject;

/// One downloader at one behaviour.
mod trial;

/// What was seen.
mod report;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::docs;
use crate::rig::build::{self, Profile};
use behaviour::{Behaviour, Special};
use report::Report;
use server::Server;
use subject::Subject;
use trial::{Seen, Trial};
use visit::Form;

/// How many trials run at once: most of them wait for each other's disks and for retries.
const AT_ONCE: usize = 8;

/// How many lines of what ours said are shown with an objection.
const LINES_SHOWN: usize = 12;

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Serve at this address until interrupted, and run nothing
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["only", "json", "write"])]
    serve: Option<SocketAddr>,
    /// Run only this behaviour; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Run only these downloaders: hapax, curl, wget, aria2c
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    subject: Vec<String>,
    /// Print one JSON object per trial
    #[arg(long)]
    json: bool,
    /// Write the table into docs/downloading.md instead of comparing with it
    #[arg(long, conflicts_with_all = ["only", "subject"])]
    write: bool,
    /// Run this program instead of building one
    #[arg(long, value_name = "FILE")]
    hapax: Option<PathBuf>,
}

/// Runs the trials and prints the table; the exit code tells whether ours did everything right.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(address) = args.serve {
        return serve(address);
    }
    let begin = Instant::now();
    let rows = rows(&args.only)?;
    let subjects = subjects(root, args)?;
    let target = root.join("target").join("hostile");
    std::fs::create_dir_all(&target)?;
    let folder = tempfile::tempdir_in(target)?;
    let server = Server::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let trials = trials(&server, &rows, &subjects, folder.path());
    let count = trials.len();
    let mut report = Report::new(&subjects, rows);
    let mut objections = Vec::new();
    for (trial, seen) in all(trials)? {
        if args.json {
            println!("{}", json(&trial, &seen));
        }
        report.note(trial.behaviour, trial.subject, &seen);
        if let Some(objection) = trial.objection(&seen).filter(|_| trial.subject.is_ours()) {
            let (name, form) = (trial.behaviour.name, trial.form);
            let said = seen.said.lines().take(LINES_SHOWN).map(|line| format!("\n    {line}"));
            objections.push(format!("{name} ({form:?}): {objection}{}", said.collect::<String>()));
        }
    }
    println!("\n{}", report.section());
    if args.write {
        docs::write(root, docs::DOWNLOADING, docs::HOSTILE, &report.section())?;
    } else {
        objections.extend(drift(root, &report)?);
    }
    for line in &objections {
        println!("{line}");
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("hostile: {count} trials, {} objections, {seconds:.0} s", objections.len());
    Ok(if objections.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Serves until the process is ended.
fn serve(address: SocketAddr) -> anyhow::Result<ExitCode> {
    let server = Server::start(address)?;
    println!("http://{}/ lists what can be asked for; nothing here is to be believed", server.address());
    loop {
        std::thread::park();
    }
}

/// Chooses the behaviours.
fn rows(only: &[String]) -> anyhow::Result<Vec<&'static Behaviour>> {
    if only.is_empty() {
        return Ok(behaviour::all());
    }
    let find = |name: &String| {
        behaviour::find(name).with_context(|| format!("there is no behaviour {name}; --serve lists them"))
    };
    only.iter().map(find).collect()
}

/// Chooses the downloaders, and builds ours.
fn subjects(root: &Path, args: &Args) -> anyhow::Result<Vec<Subject>> {
    let wanted = |name: &str| args.subject.is_empty() || args.subject.iter().any(|known| known == name);
    let mut subjects = Vec::new();
    if wanted("hapax") {
        let program = match &args.hapax {
            Some(path) => path.canonicalize().context("the program that was named is not there")?,
            None => build::hapax(root, Profile::Dev)?,
        };
        subjects.push(Subject::Hapax(program));
    }
    for subject in [Subject::Curl, Subject::Wget, Subject::Aria2] {
        if !wanted(subject.name()) {
            continue;
        }
        if subject.version().is_some() {
            subjects.push(subject);
        } else {
            ensure!(!args.write, "the table needs {}; test.sh installs it", subject.name());
            println!("NOT RUN: {} is not installed; test.sh installs it", subject.name());
        }
    }
    ensure!(!subjects.is_empty(), "no downloader has one of these names");
    Ok(subjects)
}

fn trials<'a>(
    server: &'a Server,
    rows: &[&'static Behaviour],
    subjects: &'a [Subject],
    folder: &Path,
) -> VecDeque<Trial<'a>> {
    let mut trials = VecDeque::new();
    for behaviour in rows {
        for subject in subjects {
            for form in [Form::Plain, Form::Interrupted] {
                // What others wrote under the server's name they do not continue.
                if form == Form::Interrupted && behaviour.special == Special::Names && !subject.is_ours() {
                    continue;
                }
                let folder = folder.join(behaviour.name).join(format!("{}-{form:?}", subject.name()));
                trials.push_back(Trial { server, behaviour, form, subject, folder });
            }
        }
    }
    trials
}

/// Runs trials, several at once; what they saw comes in their order.
fn all(trials: VecDeque<Trial<'_>>) -> anyhow::Result<Vec<(Trial<'_>, Seen)>> {
    let count = trials.len();
    let queue = Mutex::new(trials.into_iter().enumerate().collect::<VecDeque<_>>());
    let done = Mutex::new(Vec::with_capacity(count));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    // The queue is not locked while a trial runs.
                    let next = lock(&queue).pop_front();
                    let Some((at, trial)) = next else { break };
                    let seen = trial.run();
                    lock(&done).push((at, trial, seen));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, ..)| *at);
    done.into_iter().map(|(_, trial, seen)| Ok((trial, seen?))).collect()
}

/// A thread that panicked with the lock ends the run anyway.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compares ours with what the page says.
fn drift(root: &Path, report: &Report) -> anyhow::Result<Vec<String>> {
    let page = std::fs::read_to_string(root.join(docs::DOWNLOADING))
        .with_context(|| format!("cannot read {}", docs::DOWNLOADING))?;
    let (_, section, _) = docs::HOSTILE.split(&page).context(docs::DOWNLOADING)?;
    Ok(report.drift(section))
}

fn json(trial: &Trial<'_>, seen: &Seen) -> serde_json::Value {
    serde_json::json!({
        "behaviour": trial.behaviour.name,
        "form": format!("{:?}", trial.form).to_lowercase(),
        "downloader": trial.subject.name(),
        "outcome": seen.outcome.word(),
        "end": format!("{:?}", seen.end),
        "requests": seen.requests,
        "note": seen.note,
        "ms": u64::try_from(seen.took.as_millis()).unwrap_or(u64::MAX),
    })
}
