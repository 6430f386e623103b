//! Gets whose disk fills: they end with exit code 9 and leave nothing under the name; with room the same command goes
//! on, and what was proven is not fetched again.

use std::time::Duration;

use super::disk::SmallDisk;
use super::full::NO_SPACE;
use super::plan::{At, Direction, Plan, Scale};
use super::tally::{Carried, Tally, mebibytes};
use super::world::World;
use crate::rig::bytes::write_file;
use crate::rig::dice::Dice;
use crate::rig::process::{End, Process};

/// How long every piece waits on the line: long enough that a disk can be filled meanwhile.
const SLOW: Duration = Duration::from_millis(2);

/// Fills the client's disk while it gets.
pub(crate) fn run(
    world: &mut World,
    disk: &SmallDisk,
    scale: &Scale,
    dice: &mut Dice,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let source = world.folder.join("source");
    // One part at a time: what the full disk loses is then less than what must not be fetched again.
    let file = Plan { parallel: 1, ..Plan::draw(scale, dice) };
    write_file(&source, file.content, file.size)?;
    world.place(&source, "/get")?;
    let whole = world.hashing.file(&source)?;
    while tally.strikes < scale.events && tally.runs < 2 * scale.events + 4 {
        tally.runs += 1;
        let target = disk.path().join("got");
        let words = ["get", "--parallel", "1", ":/get", &target.to_string_lossy()].map(str::to_owned);
        // What the client remembers lies on the full disk too, or on one with room.
        let state = if dice.chance(50) { disk.path().join("state") } else { world.folder.join("state") };
        let get = |world: &World| -> anyhow::Result<Process> {
            let mut command = world.client.command(&words)?;
            command.env("HAPAX_STATE_DIR", &state);
            Ok(Process::start(&mut command, world.client.patience)?)
        };
        let at = At::Content(dice.within(400..=850));
        let start = world.link.counts();
        world.link.delay(SLOW);
        let mut first = get(world)?;
        let in_time = world.link.wait(at.moment(Direction::Get, start, file.size), || first.is_over());
        disk.fill()?;
        let end = world.wait(&mut first, tally)?;
        let kept = world.link.counts();
        world.link.delay(Duration::ZERO);
        tally.say(&format!("{}, full at {at:?}: {end:?}", mebibytes(file.size)));
        match end {
            End::Exit(NO_SPACE) => {
                tally.strikes += u32::from(in_time);
                if target.exists() {
                    tally.violation("a file that found no room is visible under its name");
                }
            }
            // The last byte was faster than what filled the disk.
            End::Exit(0) => {}
            end => {
                tally.violation(format!("the get to a full disk ended with {end:?}: {}", world.last_words()));
            }
        }
        disk.clear()?;
        let end = if end == End::Exit(0) { end } else { get(world)?.wait()? };
        if end != End::Exit(0) {
            tally.violation(format!("with room the get ended with {end:?}: {}", world.last_words()));
            return Ok(());
        }
        let got = world.hashing.file(&target)?;
        if got != whole {
            tally.violation(format!("the file that was got is {got}, not {whole}"));
        }
        std::fs::remove_file(&target)?;
        let now = world.link.counts();
        tally.say(&format!("{} fetched then", mebibytes(now.since(kept).down)));
        let seen = now.since(start).down;
        tally.bytes(Carried { needed: file.size, seen, allowed: file.allowance(1) });
    }
    if tally.strikes < scale.events {
        tally.violation(format!(
            "the disk was full in time in only {} of {} runs",
            tally.strikes, scale.events
        ));
    }
    Ok(())
}
