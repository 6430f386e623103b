//! Sources that change: between an interrupted put and the next, only what changed is sent again; during a put, the
//! result is the new content or exit code 8, never a mix.

use std::path::Path;

use super::plan::{At, Direction, Plan, Scale};
use super::tally::{Carried, Tally, mebibytes};
use super::world::{TEMPORARY, World};
use crate::rig::bytes::{MIB, PART, flip_byte, grow_file, write_file};
use crate::rig::curl::Got;
use crate::rig::dice::Dice;
use crate::rig::process::End;
use crate::rig::server::ADMIN;

/// The code of a put whose source did not hold still.
const SOURCE_CHANGED: i32 = 8;

/// How a source changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    /// The byte at this offset is another.
    Flip(u64),
    /// So many bytes are appended.
    Grow(u64),
}

impl Edit {
    fn draw(size: u64, dice: &mut Dice) -> Self {
        if dice.chance(60) {
            Self::Flip(dice.within(0..=size - 1))
        } else {
            Self::Grow(dice.within(1..=20 * MIB))
        }
    }

    fn make(self, path: &Path, content: u64) -> std::io::Result<()> {
        match self {
            Self::Flip(at) => flip_byte(path, at),
            Self::Grow(more) => grow_file(path, content, more),
        }
    }

    /// Returns by how much the file grows.
    fn growth(self) -> u64 {
        match self {
            Self::Flip(_) => 0,
            Self::Grow(more) => more,
        }
    }
}

fn words(plan: &Plan, local: &Path, remote: &str) -> Vec<String> {
    let local = local.to_string_lossy().into_owned();
    vec!["put".into(), "--parallel".into(), plan.parallel.to_string(), local, format!(":{remote}")]
}

/// Compares what is stored with the local file.
fn check_equal(world: &World, local: &Path, remote: &str, tally: &mut Tally) -> anyhow::Result<bool> {
    let wanted = Got::Content(world.hashing.file(local)?);
    let got = world.see(ADMIN, remote)?;
    if got != wanted {
        tally.violation(format!("{remote} has {got:?}; the source is {wanted:?}"));
    }
    Ok(got == wanted)
}

/// Edits between an interrupted put and the next.
pub(crate) fn run_between(
    world: &mut World,
    scale: &Scale,
    dice: &mut Dice,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let source = world.folder.join("source");
    // An interruption may come too late; such a run does not count as an edit.
    while tally.strikes < scale.events && tally.runs < 2 * scale.events + 4 {
        tally.runs += 1;
        // One part at a time, so that what the kill loses does not hide what the edit costs.
        let plan = Plan { parallel: 1, ..Plan::draw(scale, dice) };
        let edit = Edit::draw(plan.size, dice);
        let at = At::Content(dice.within(300..=950));
        let remote = format!("/between-{}", tally.runs);
        let words = words(&plan, &source, &remote);
        write_file(&source, plan.content, plan.size)?;
        let start = world.link.counts();
        let mut first = world.client.start(&words)?;
        let moment = at.moment(Direction::Put, start, plan.size);
        let interrupted = world.link.wait(moment, || first.is_over()) && !first.is_over();
        first.kill()?;
        edit.make(&source, plan.content)?;
        let kept = world.link.counts();
        if !world.insist(&words, tally)? {
            continue;
        }
        check_equal(world, &source, &remote, tally)?;
        world.keep_newest(&remote, tally)?;
        if !interrupted {
            continue;
        }
        tally.strikes += 1;
        let now = world.link.counts();
        let carried = now.since(start).up;
        let again = mebibytes(now.since(kept).up);
        tally.say(&format!("{}, {edit:?} after {at:?}: {again} sent then", mebibytes(plan.size)));
        let needed = plan.size + edit.growth();
        // Beyond the loss of the kill: the part with the flipped byte, or the one that was the shorter last.
        let allowed = plan.allowance(1) + edit.growth() + PART;
        tally.bytes(Carried { needed, seen: carried, allowed });
    }
    Ok(())
}

/// Edits while the source is read.
pub(crate) fn run_during(
    world: &mut World,
    scale: &Scale,
    dice: &mut Dice,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let source = world.folder.join("source");
    while tally.strikes < scale.events && tally.runs < 2 * scale.events + 4 {
        tally.runs += 1;
        let plan = Plan::draw(scale, dice);
        let edit = Edit::draw(plan.size, dice);
        // Well before the last bytes: an edit behind the client's last look happened after the put.
        let at = At::Content(dice.within(0..=850));
        let remote = format!("/during-{}", tally.runs);
        let words = words(&plan, &source, &remote);
        write_file(&source, plan.content, plan.size)?;
        let start = world.link.counts();
        let mut put = world.client.start(&words)?;
        let moment = at.moment(Direction::Put, start, plan.size);
        if world.link.wait(moment, || put.is_over()) {
            edit.make(&source, plan.content)?;
            tally.strikes += 1;
        }
        let end = world.wait(&mut put, tally)?;
        tally.say(&format!("{}, {edit:?} at {at:?}: {end:?}", mebibytes(plan.size)));
        match end {
            End::Exit(0) => drop(check_equal(world, &source, &remote, tally)?),
            End::Exit(SOURCE_CHANGED | TEMPORARY) => {
                let seen = world.see(ADMIN, &remote)?;
                if seen != Got::Nothing {
                    tally.violation(format!("the put ended with {end:?}, but {remote} has {seen:?}"));
                }
            }
            end => tally.violation(format!("the put ended with {end:?}: {}", world.last_words())),
        }
        if world.insist(&words, tally)? {
            check_equal(world, &source, &remote, tally)?;
            world.keep_newest(&remote, tally)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_seeded_and_lie_in_the_file() {
        let draw = |seed| {
            let mut dice = Dice::new(seed, "edits");
            (0..50).map(|_| Edit::draw(10, &mut dice)).collect::<Vec<_>>()
        };
        assert_eq!(draw(4), draw(4));
        assert!(draw(4).iter().all(|edit| match edit {
            Edit::Flip(at) => *at < 10,
            Edit::Grow(more) => (1..=20 * MIB).contains(more),
        }));
        assert!(draw(4).iter().any(|edit| edit.growth() > 0));
    }
}
