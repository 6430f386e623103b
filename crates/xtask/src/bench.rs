//! `cargo xtask bench`: what the program costs, in processor seconds per GiB, peak memory and ratios to the floor
//! and to whatever peers are installed, in the same run. Owns which measurements there are; the bars are those of
//! the design's page on performance, and none of this is a test.

/// Numbers with the bars they are held against.
mod metric;

/// Servers that are measured.
mod subject;

/// One command against one server.
mod measure;

/// Whole files up and down.
mod transfers;

/// Many ranges of one file at once.
mod ranges;

/// Files of servers that are not ours.
mod foreign;

/// Many small files.
mod trees;

/// What need not be sent: instant puts and resumes.
mod again;

/// Sending while hashing.
mod ahead;

/// Many at once.
mod crowd;

/// Uploads by tus, and one composed of others.
mod tus;

/// Senders that fell silent.
mod silent;

/// A server that was killed and comes back.
mod restart;

/// What answers to claims cost and tell.
mod claims;

/// The table and the raw samples.
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use crate::rig::build::{self, Profile};
use crate::rig::bytes::MIB;
use crate::rig::digest::Hashing;
use metric::Metric;
use report::Report;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Measure each once, on small files, and keep no record
    #[arg(long)]
    quick: bool,
    /// Measure only this; may be repeated
    #[arg(long, value_enum)]
    only: Vec<Topic>,
    /// Measure this program instead of building one
    #[arg(long, value_name = "FILE")]
    hapax: Option<PathBuf>,
}

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Topic {
    /// One large file to the server
    Upload,
    /// One large file from the server
    Download,
    /// 200 ranges of one file at once
    Ranges,
    /// One large file from a server that is not ours, near and far
    Foreign,
    /// 2,000 files of 16 KiB, and 100,000 small ones
    Tree,
    /// Content that the server has
    Instant,
    /// Sending while it is found out whether the server has it
    SendWhileHashing,
    /// Going on after a kill
    Resume,
    /// 100 uploads at once
    Memory,
    /// One large file by tus
    Tus,
    /// One file of four uploads of tus
    Concatenation,
    /// Going on in the place of a sender that fell silent or was reset
    TakeOver,
    /// 5,000 uploads whose senders fell silent
    Stalled,
    /// The first answer of a server that was killed
    Restart,
    /// What the time of claims tells, and what a proof costs
    Claims,
}

/// What all measurements are given.
struct Bench {
    hapax: PathBuf,
    folder: PathBuf,
    hashing: Hashing,
    /// The size of a large file.
    size: u64,
    /// How often each is measured.
    samples: u32,
    /// The size of each of a hundred files.
    crowd_size: u64,
    /// The size of a file that crosses a lossy line.
    lossy_size: u64,
    /// How many requests are made where a quantile is asked for.
    tries: u32,
    /// How many uploads stall at once.
    stalled: u32,
    /// How many files the large tree has; a quick look makes none.
    tree_files: Option<u32>,
    patience: Duration,
}

/// Measures, prints the table, and keeps it unless it was a quick look.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let hapax = match &args.hapax {
        Some(hapax) => hapax.canonicalize()?,
        None => build::hapax(root, Profile::Bench)?,
    };
    let target = root.join("target");
    std::fs::create_dir_all(&target)?;
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(target)?;
    let bench = Bench {
        hapax,
        folder: folder.path().to_owned(),
        hashing: Hashing::find(root)?,
        size: if args.quick { 256 * MIB } else { 2_048 * MIB },
        samples: if args.quick { 1 } else { 3 },
        crowd_size: if args.quick { 2 * MIB } else { 16 * MIB },
        lossy_size: if args.quick { 8 * MIB } else { 64 * MIB },
        tries: if args.quick { 20 } else { 100 },
        stalled: if args.quick { 500 } else { 5_000 },
        tree_files: (!args.quick).then_some(100_000),
        patience: Duration::from_mins(20),
    };
    let topics = if args.only.is_empty() { Topic::value_variants() } else { &args.only };
    let mut report = Report::start(root, bench.size, bench.samples);
    for topic in topics {
        let outcome = bench.measure(*topic);
        match outcome {
            Ok(metrics) => report.add(metrics),
            Err(error) => report.failed(&format!("{topic:?}: not measured: {error:#}")),
        }
    }
    report.notes(subject::absent());
    report.notes(foreign::absent());
    println!("\n{report}");
    if !args.quick {
        report.keep(&root.join("bench/results"))?;
    }
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Bench {
    fn measure(&self, topic: Topic) -> anyhow::Result<Vec<Metric>> {
        println!(
            "measuring: {}",
            topic.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
        );
        match topic {
            Topic::Upload => transfers::upload(self),
            Topic::Download => transfers::download(self),
            Topic::Ranges => ranges::run(self),
            Topic::Foreign => foreign::run(self),
            Topic::Tree => trees::run(self),
            Topic::Instant => again::instant(self),
            Topic::SendWhileHashing => ahead::run(self),
            Topic::Resume => again::resume(self),
            Topic::Memory => crowd::run(self),
            Topic::Tus => tus::upload(self),
            Topic::Concatenation => tus::concatenation(self),
            Topic::TakeOver => silent::take_over(self),
            Topic::Stalled => silent::stalled(self),
            Topic::Restart => restart::run(self),
            Topic::Claims => claims::run(self),
        }
    }
}
