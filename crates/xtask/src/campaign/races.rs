//! Two processes that put the same file to the same name at once, with the same saved progress or each with its
//! own: both end well in the end, and what is stored is the file.

use super::plan::{Plan, Scale};
use super::tally::{Carried, Tally, mebibytes};
use super::world::{TEMPORARY, World};
use crate::rig::bytes::write_file;
use crate::rig::client::Client;
use crate::rig::curl::Got;
use crate::rig::dice::Dice;
use crate::rig::process::End;
use crate::rig::server::ADMIN;

/// How often each of the two tries.
const ATTEMPTS_MAX: u32 = 60;

/// The code of a command that finds another process at the same work.
const CONFLICT: i32 = 6;

/// Runs races.
pub(crate) fn run(
    world: &mut World,
    scale: &Scale,
    dice: &mut Dice,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let source = world.folder.join("source");
    while tally.strikes < scale.events {
        tally.runs += 1;
        let plan = Plan::draw(scale, dice);
        let remote = format!("/race-{}", tally.runs);
        let strangers = tally.runs.is_multiple_of(2);
        write_file(&source, plan.content, plan.size)?;
        let words = ["put".to_owned(), "--parallel".to_owned(), plan.parallel.to_string()];
        let words = words.into_iter().chain([source.to_string_lossy().into_owned(), format!(":{remote}")]);
        let words = words.collect::<Vec<_>>();
        let mut other = world.client.clone();
        if strangers {
            other.home = world.folder.join("other-client");
        }
        let start = world.link.counts();
        let ends = std::thread::scope(|scope| {
            let runners = [&world.client, &other].map(|client| scope.spawn(|| insist(client, &words)));
            runners.map(|runner| runner.join().expect("a runner returns its errors"))
        });
        tally.strikes += 1;
        for (end, refusals) in ends.into_iter().collect::<anyhow::Result<Vec<_>>>()? {
            tally.say(&format!(
                "{}, strangers: {strangers}: {end:?} after {refusals} refusals",
                mebibytes(plan.size)
            ));
            if end != End::Exit(0) {
                tally.violation(format!("a put ended with {end:?}: {}", world.last_words()));
            }
        }
        let wanted = Got::Content(world.hashing.file(&source)?);
        let got = world.see(ADMIN, &remote)?;
        if got != wanted {
            tally.violation(format!("{remote} has {got:?}, not {wanted:?}"));
        }
        let carried = world.link.counts().since(start).up;
        // Two who do not know of each other may both send all of it.
        let allowed = 2 * plan.allowance(1);
        tally.bytes(Carried { needed: plan.size, seen: carried, allowed });
        world.keep_newest(&remote, tally)?;
    }
    Ok(())
}

/// Repeats a command while it says that it is worth repeating; returns its end and how often it was refused.
fn insist(client: &Client, words: &[String]) -> anyhow::Result<(End, u32)> {
    let mut refusals = 0;
    loop {
        match client.start(words)?.wait()? {
            End::Exit(TEMPORARY | CONFLICT) if refusals < ATTEMPTS_MAX => refusals += 1,
            end => return Ok((end, refusals)),
        }
        // A person would wait too; nothing depends on for how long.
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}
