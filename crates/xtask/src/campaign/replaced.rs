//! Remote files that are replaced while a client gets them: what arrives is the old file or the new one, never a
//! mix of both, and nothing is visible before it is whole.

use super::plan::{At, Direction, Plan, Scale};
use super::tally::{Tally, mebibytes};
use super::world::World;
use crate::rig::bytes::write_file;
use crate::rig::dice::Dice;
use crate::rig::process::End;

/// Replaces the file at seeded moments.
pub(crate) fn run(
    world: &mut World,
    scale: &Scale,
    dice: &mut Dice,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let [old, new, target] = ["old", "new", "got"].map(|name| world.folder.join(name));
    while tally.strikes < scale.events && tally.runs < 2 * scale.events + 4 {
        tally.runs += 1;
        let plan = Plan::draw(scale, dice);
        let at = At::Content(dice.within(0..=950));
        let remote = format!("/replaced-{}", tally.runs);
        // Equal sizes: only the content tells the two apart.
        write_file(&old, plan.content, plan.size)?;
        write_file(&new, plan.content ^ 1, plan.size)?;
        let versions = [world.hashing.file(&old)?, world.hashing.file(&new)?];
        world.place(&old, &remote)?;
        let words =
            ["get".to_owned(), "--parallel".to_owned(), plan.parallel.to_string(), format!(":{remote}")];
        let words = words.into_iter().chain([target.to_string_lossy().into_owned()]).collect::<Vec<_>>();
        // A line on which one can be in time.
        world.link.delay(std::time::Duration::from_micros(200));
        let moment = at.moment(Direction::Get, world.link.counts(), plan.size);
        let mut get = world.client.start(&words)?;
        if world.link.wait(moment, || get.is_over()) {
            world.place(&new, &remote)?;
            tally.strikes += 1;
        }
        let end = world.wait(&mut get, tally)?;
        world.link.delay(std::time::Duration::ZERO);
        tally.say(&format!("{}, replaced at {at:?}: {end:?}", mebibytes(plan.size)));
        if (end == End::Exit(0)) != target.exists() {
            tally.violation(format!("the get ended with {end:?}; the file is there: {}", target.exists()));
        }
        if end != End::Exit(0) && !world.insist(&words, tally)? {
            continue;
        }
        let got = world.hashing.file(&target)?;
        if !versions.contains(&got) {
            tally.violation(format!("what was got is {got}, neither of {versions:?}"));
        }
        std::fs::remove_file(&target)?;
        world.keep_newest(&remote, tally)?;
    }
    Ok(())
}
