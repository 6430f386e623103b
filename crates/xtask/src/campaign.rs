//! `cargo xtask campaign`: kills, cuts, edits, full disks and races, at seeded moments, of the real program over a
//! real line; afterwards nothing may be lost, half visible or sent more often than the promise allows.
//!
//! Owns which kinds there are and how often each happens. Every judgement is made by curl and a hashing process
//! that share no code with the program. Everything random comes from the printed seed.
//!
//! ```text
//!   seed ──▶ plan ──▶ hapax put ⇄ link ⇄ hapax serve        after every strike, and at the end:
//!                       ▲ SIGKILL  ▲ cut     ▲ SIGKILL        curl | hash, stat, admin check
//! ```

/// From a seed to what happens when.
mod plan;

/// What was seen of a kind.
mod tally;

/// A server, a link and a client in a folder of their own.
mod world;

/// Transfers that are struck: the put or the get, the client, the server or the line.
mod strikes;

/// Sources that change.
mod edits;

/// Remote files that are replaced while they are got.
mod replaced;

/// Two puts of one file.
mod races;

/// A small disk that can be filled.
mod disk;

/// The server's disk, or an account's quota, that is full.
mod full;

/// The client's disk that is full.
mod full_target;

/// A catalog whose files fail.
mod catalog_faults;

/// What server and client hold in memory.
mod memory;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::ValueEnum;

use crate::rig::build::{self, Profile};
use crate::rig::bytes::MIB;
use crate::rig::dice::Dice;
use crate::rig::digest::Hashing;
use crate::rig::leftovers::{Holding, Leftover};
use crate::rig::table::Table;
use disk::SmallDisk;
use plan::{Direction, Scale, Victim};
use tally::Tally;
use world::World;

/// What to do how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run the long form: 2 GiB files and the counts of a release
    #[arg(long)]
    full: bool,
    /// The seed of all choices [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Run only this kind; may be repeated
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// Kill and cut so often [default: 20, in the long form 200]
    #[arg(long, value_name = "N")]
    strikes: Option<u32>,
    /// Move files of about this size, such as 2GiB [default: 64 to 96 MiB, in the long form 2 GiB]
    #[arg(long, value_parser = plan::parse_size)]
    size: Option<u64>,
    /// Run this program instead of building one
    #[arg(long, value_name = "FILE")]
    hapax: Option<PathBuf>,
}

impl Args {
    /// Returns how much of everything is asked for.
    fn scale(&self) -> Scale {
        let scale = if self.full { Scale::FULL } else { Scale::SHORT };
        let scale = self.size.map_or(scale.clone(), |size| scale.with_size(size));
        self.strikes.map_or(scale.clone(), |strikes| scale.with_strikes(strikes))
    }
}

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// SIGKILL of the client while it puts
    PutClient,
    /// SIGKILL of the server while a client puts
    PutServer,
    /// SIGKILL of both while a client puts
    PutBoth,
    /// The line breaks while a client puts
    PutLine,
    /// SIGKILL of the client while it gets
    GetClient,
    /// SIGKILL of the server while a client gets
    GetServer,
    /// The line breaks while a client gets
    GetLine,
    /// The remote file is replaced while a client gets it
    GetReplaced,
    /// The source is edited between an interrupted put and the next
    EditBetween,
    /// The source is edited while it is put
    EditDuring,
    /// Two processes put the same file
    Race,
    /// The server's disk fills while a client puts
    DiskFull,
    /// The client's disk fills while it gets
    GetDiskFull,
    /// The account has no room
    Quota,
    /// A sync or write of the catalog's files fails while a client puts
    CatalogFaults,
    /// One large file and a crowd of uploads, under a limit of memory
    Memory,
    /// Power cuts, simulated in the tests of the store
    PowerCut,
}

impl Kind {
    /// Returns the name that the command line has for it.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Returns what the number in the column of strikes counts.
    fn strike(self) -> &'static str {
        match self {
            Self::PutClient | Self::PutServer | Self::PutBoth | Self::GetClient | Self::GetServer => "kills",
            Self::PutLine | Self::GetLine => "cuts",
            Self::EditBetween | Self::EditDuring => "edits",
            Self::GetReplaced => "replacements",
            Self::Race => "races",
            Self::DiskFull | Self::GetDiskFull | Self::Quota => "refusals",
            Self::CatalogFaults => "faults",
            Self::Memory => "peaks",
            Self::PowerCut => "test runs",
        }
    }
}

/// What all kinds are given.
struct Field {
    root: PathBuf,
    folder: PathBuf,
    /// Removes the folder, unless something in it is to be looked at.
    held: Option<Holding>,
    hapax: PathBuf,
    hashing: Hashing,
    scale: Scale,
    full: bool,
    seed: u64,
}

/// Runs the campaign and prints its table; the exit code tells whether nothing was violated.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let mut field = Field::prepare(root, args)?;
    let kinds = if args.only.is_empty() { Kind::value_variants() } else { &args.only };
    let mut table =
        Table::new(&["kind", "runs", "strikes", "of", "violations", "bytes over", "allowed", "s"]);
    let mut violations = Vec::new();
    let mut not_run = Vec::new();
    for kind in kinds {
        let name = kind.name();
        println!("== {name}");
        let start = Instant::now();
        let mut tally = Tally::new(&name);
        if let Err(error) = field.run(*kind, &mut tally) {
            tally.violation(format!("the run could not go on: {error:#}"));
        }
        table.row(tally.cells(kind.strike(), start.elapsed()));
        if let (false, Some(held)) = (tally.violations.is_empty(), field.held.take()) {
            held.keep();
        }
        not_run.extend(tally.not_run.map(|reason| format!("{name}: NOT RUN: {reason}")));
        violations.extend(tally.violations.into_iter().map(|what| format!("{name}: {what}")));
    }
    println!("\n{table}");
    not_run.iter().chain(&violations).for_each(|line| println!("{line}"));
    let seconds = begin.elapsed().as_secs_f64();
    println!("campaign: {} violations, seed {}, {seconds:.0} s", violations.len(), field.seed);
    if violations.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("campaign: logs, data and sources are kept in {}", field.folder.display());
    Ok(ExitCode::FAILURE)
}

impl Field {
    fn prepare(root: &Path, args: &Args) -> anyhow::Result<Self> {
        let clock =
            || SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_secs()).unwrap_or_default();
        let seed = args.seed.unwrap_or_else(clock);
        let scale = args.scale();
        // Large files are moved by what is fast enough for them.
        let profile = if scale.size_max > Scale::SHORT.size_max { Profile::Bench } else { Profile::Dev };
        let hapax = match &args.hapax {
            Some(hapax) => hapax.canonicalize().context("the program that was named is not there")?,
            None => build::hapax(root, profile)?,
        };
        let target = root.join("target");
        std::fs::create_dir_all(&target)?;
        let folder = tempfile::Builder::new().prefix("campaign-").tempdir_in(target)?.keep();
        let held = Some(Holding::make(Leftover::Folder(folder.clone()), || Ok(()))?);
        let hashing = Hashing::find(root)?;
        println!(
            "campaign: seed {seed} (--seed {seed} makes the same choices), {} form, {} strikes of a kind, files of {} to \
             {} MiB, hashed by {}",
            if args.full { "full" } else { "short" },
            scale.strikes,
            scale.size_min / MIB,
            scale.size_max / MIB,
            hashing.name,
        );
        Ok(Self { root: root.to_owned(), folder, held, hapax, hashing, scale, full: args.full, seed })
    }

    /// Makes the world of a kind, with its data where it is told.
    fn world(&self, kind: Kind, data: Option<&Path>) -> anyhow::Result<World> {
        let folder = self.folder.join(kind.name());
        std::fs::create_dir_all(&folder)?;
        let data = data.map_or_else(|| folder.join("data"), Path::to_owned);
        World::start(&self.hapax, &folder, &data, &self.hashing, self.scale.patience)
    }

    fn run(&self, kind: Kind, tally: &mut Tally) -> anyhow::Result<()> {
        let struck = |direction, victim, tally: &mut Tally| {
            let mut dice = Dice::new(self.seed, &kind.name());
            let mut world = self.world(kind, None)?;
            strikes::run(&mut world, (direction, victim), &self.scale, &mut dice, tally)?;
            world.close(tally)
        };
        let quiet =
            |tally: &mut Tally, body: fn(&mut World, &Scale, &mut Dice, &mut Tally) -> anyhow::Result<()>| {
                let mut dice = Dice::new(self.seed, &kind.name());
                let mut world = self.world(kind, None)?;
                body(&mut world, &self.scale, &mut dice, tally)?;
                world.close(tally)
            };
        match kind {
            Kind::PutClient => struck(Direction::Put, Victim::Client, tally),
            Kind::PutServer => struck(Direction::Put, Victim::Server, tally),
            Kind::PutBoth => struck(Direction::Put, Victim::Both, tally),
            Kind::PutLine => struck(Direction::Put, Victim::Line, tally),
            Kind::GetClient => struck(Direction::Get, Victim::Client, tally),
            Kind::GetServer => struck(Direction::Get, Victim::Server, tally),
            Kind::GetLine => struck(Direction::Get, Victim::Line, tally),
            Kind::GetReplaced => quiet(tally, replaced::run),
            Kind::EditBetween => quiet(tally, edits::run_between),
            Kind::EditDuring => quiet(tally, edits::run_during),
            Kind::Race => quiet(tally, races::run),
            Kind::Quota => quiet(tally, full::run_quota),
            Kind::CatalogFaults => quiet(tally, catalog_faults::run),
            Kind::Memory => quiet(tally, memory::run),
            Kind::DiskFull => self.on_small_disk(tally, |disk, tally| {
                let mut dice = Dice::new(self.seed, &kind.name());
                let mut world = self.world(kind, Some(&disk.path().join("data")))?;
                full::run_disk(&mut world, disk, &self.scale, &mut dice, tally)?;
                world.close(tally)
            }),
            Kind::GetDiskFull => self.on_small_disk(tally, |disk, tally| {
                let mut dice = Dice::new(self.seed, &kind.name());
                let mut world = self.world(kind, None)?;
                full_target::run(&mut world, disk, &self.scale, &mut dice, tally)?;
                world.close(tally)
            }),
            Kind::PowerCut => self.power_cut(tally),
        }
    }

    /// Runs a kind with a small disk, if one can be made.
    fn on_small_disk(
        &self,
        tally: &mut Tally,
        body: impl FnOnce(&SmallDisk, &mut Tally) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match SmallDisk::mount(&self.folder.join("small-disk"), self.scale.disk) {
            Ok(disk) => body(&disk, tally),
            Err(error) => {
                tally.not_run = Some(format!("{error:#}"));
                Ok(())
            }
        }
    }

    /// Power cuts need a disk that forgets: the store's tests have one.
    fn power_cut(&self, tally: &mut Tally) -> anyhow::Result<()> {
        if !self.full {
            tally.not_run =
                Some("the store's own tests cut the power; --full runs their long form".to_owned());
            return Ok(());
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["nextest", "run", "--locked", "--package", "hapax-store", "faults"])
            .current_dir(&self.root)
            .env("HAPAX_TEST_FULL", "1")
            .status()?;
        tally.runs += 1;
        tally.strikes += 1;
        if !status.success() {
            tally.violation(format!("the tests of power cuts failed: {status}"));
        }
        Ok(())
    }
}
