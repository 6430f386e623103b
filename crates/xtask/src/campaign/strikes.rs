//! Transfers that are struck at seeded moments: SIGKILL for the client, the server or both, or a cut line. The
//! same command again is the resume; it is repeated until it succeeds, and then everything is compared.

use std::path::PathBuf;
use std::time::Duration;

use super::plan::{At, Direction, Plan, Scale, Victim};
use super::tally::{Carried, Tally, mebibytes};
use super::world::{TEMPORARY, Versions, World};
use crate::rig::bytes::{MIB, write_file};
use crate::rig::curl::Got;
use crate::rig::dice::Dice;
use crate::rig::digest::Digest;
use crate::rig::link::Counts;
use crate::rig::process::{End, Process};
use crate::rig::server::ADMIN;

/// How often a transfer is begun before it counts as never ending.
const ATTEMPTS_MAX: u32 = 40;
/// How long every piece waits on a slow line.
const SLOW: Duration = Duration::from_millis(2);
/// The size of a file that is replaced.
const OLD: u64 = 2 * MIB;

/// One transfer on its way.
struct Run<'a> {
    world: &'a mut World,
    plan: Plan,
    direction: Direction,
    victim: Victim,
    local: PathBuf,
    remote: String,
    whole: Digest,
    versions: Versions,
    start: Counts,
    struck: u32,
}

/// Runs transfers until there were enough strikes.
pub(crate) fn run(
    world: &mut World,
    (direction, victim): (Direction, Victim),
    scale: &Scale,
    dice: &mut Dice,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut kept = None;
    if matches!(victim, Victim::Server | Victim::Line) {
        // The client lives on while what is left is looked at; on a fast line it would be done by then.
        world.link.delay(SLOW);
    }
    // Not every strike finds its moment; and what strikes nothing at all must end too.
    while tally.strikes < scale.strikes && tally.runs < 3 * scale.strikes && tally.violations.is_empty() {
        tally.runs += 1;
        let mut plan = Plan::draw(scale, dice);
        if direction == Direction::Get {
            // One remote file serves all gets.
            plan = Plan { ..kept.get_or_insert(plan.clone()).clone() }.with_strikes(plan);
        }
        let run = Run::prepare(world, plan, direction, victim, tally)?;
        run.go(tally)?;
        if direction == Direction::Put && tally.violations.is_empty() {
            world.keep_newest(&format!("/put-{}", tally.runs), tally)?;
        }
    }
    if tally.strikes < scale.strikes && tally.violations.is_empty() {
        tally.violation(format!("only {} of {} strikes found their moment", tally.strikes, scale.strikes));
    }
    Ok(())
}

impl Plan {
    /// Returns this file with the strikes of another plan.
    fn with_strikes(self, other: Self) -> Self {
        Self { parallel: other.parallel, strikes: other.strikes, ..self }
    }
}

impl<'a> Run<'a> {
    fn prepare(
        world: &'a mut World,
        plan: Plan,
        direction: Direction,
        victim: Victim,
        tally: &Tally,
    ) -> anyhow::Result<Self> {
        let number = tally.runs;
        let source = world.folder.join("source");
        let mut versions = Versions { nothing: true, contents: Vec::new() };
        let (local, remote) = match direction {
            Direction::Put => {
                let remote = format!("/put-{number}");
                write_file(&source, plan.content, plan.size)?;
                if plan.replaces {
                    let old = world.folder.join("old");
                    write_file(&old, plan.content ^ 1, OLD)?;
                    world.place(&old, &remote)?;
                    versions = Versions { nothing: false, contents: vec![world.hashing.file(&old)?] };
                }
                (source.clone(), remote)
            }
            Direction::Get => {
                versions.nothing = false;
                if number == 1 {
                    write_file(&source, plan.content, plan.size)?;
                    world.place(&source, "/get")?;
                }
                (world.folder.join(format!("got-{number}")), "/get".to_owned())
            }
        };
        let whole = world.hashing.file(&source)?;
        versions.contents.push(whole.clone());
        let start = world.link.counts();
        Ok(Self { world, plan, direction, victim, local, remote, whole, versions, start, struck: 0 })
    }

    fn words(&self) -> Vec<String> {
        let (local, remote) = (self.local.to_string_lossy().into_owned(), format!(":{}", self.remote));
        let parallel = self.plan.parallel.to_string();
        let words = match self.direction {
            Direction::Put => ["put", "--parallel", &parallel, &local, &remote],
            Direction::Get => ["get", "--parallel", &parallel, &remote, &local],
        };
        words.map(str::to_owned).to_vec()
    }

    /// Repeats the command until it succeeds, striking as planned.
    fn go(mut self, tally: &mut Tally) -> anyhow::Result<()> {
        let mut strikes = self.plan.strikes.clone().into_iter();
        for _ in 0..ATTEMPTS_MAX {
            let mut process = self.world.client.start(self.words())?;
            for at in strikes.by_ref() {
                if !self.strike(at, &mut process, tally)?
                    || matches!(self.victim, Victim::Client | Victim::Both)
                {
                    break;
                }
            }
            match self.world.wait(&mut process, tally)? {
                End::Exit(0) => return self.compare(tally),
                End::Exit(TEMPORARY) | End::Signal => {}
                end => {
                    tally.violation(format!("the client ended with {end:?}: {}", self.world.last_words()));
                    return Ok(());
                }
            }
        }
        tally.violation(format!("not done after {ATTEMPTS_MAX} attempts: {}", self.world.last_words()));
        Ok(())
    }

    /// Strikes at a moment and looks at what is left; false if the transfer was over first.
    fn strike(&mut self, at: At, process: &mut Process, tally: &mut Tally) -> anyhow::Result<bool> {
        let now = self.world.link.counts();
        let done = now.since(self.start).of(self.direction.content());
        let moment = at.moment(self.direction, now, self.plan.size.saturating_sub(done));
        if !self.world.link.wait(moment, || process.is_over()) || process.is_over() {
            return Ok(false);
        }
        match self.victim {
            Victim::Client => drop(process.kill()?),
            Victim::Server => self.world.kill_server()?,
            Victim::Both => {
                process.kill()?;
                self.world.kill_server()?;
            }
            Victim::Line => drop(self.world.link.cut()),
        }
        if matches!(self.victim, Victim::Server | Victim::Both) {
            self.world.restart_server()?;
        }
        self.struck += 1;
        tally.strikes += 1;
        self.world.check_remote(&self.remote, &self.versions, tally)?;
        self.check_local(tally)?;
        Ok(true)
    }

    /// A file that is being got is not there before it is whole.
    fn check_local(&self, tally: &mut Tally) -> anyhow::Result<()> {
        if self.direction == Direction::Get && self.local.exists() {
            let seen = self.world.hashing.file(&self.local)?;
            if seen != self.whole {
                tally.violation(format!("the local file is visible with {seen}, not {}", self.whole));
            }
        }
        Ok(())
    }

    fn compare(self, tally: &mut Tally) -> anyhow::Result<()> {
        let carried = self.world.link.counts().since(self.start).of(self.direction.content());
        match self.direction {
            Direction::Put => {
                let got = self.world.see(ADMIN, &self.remote)?;
                if got != Got::Content(self.whole.clone()) {
                    tally.violation(format!("{} has {got:?}, not {}", self.remote, self.whole));
                }
            }
            Direction::Get => {
                let got = self.world.hashing.file(&self.local)?;
                if got != self.whole {
                    tally.violation(format!("the file that was got is {got}, not {}", self.whole));
                }
                std::fs::remove_file(&self.local)?;
            }
        }
        tally.say(&format!(
            "{}, {} at once, {} strikes, {} carried",
            mebibytes(self.plan.size),
            self.plan.parallel,
            self.struck,
            mebibytes(carried)
        ));
        let allowed = self.plan.allowance(self.struck);
        tally.bytes(Carried { needed: self.plan.size, seen: carried, allowed });
        Ok(())
    }
}
