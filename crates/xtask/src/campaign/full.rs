//! Disks and quotas that are full: the put waits or ends with exit code 9, everything else goes on, and with room
//! the same command finishes. Owns what is demanded meanwhile; the disk itself is `disk`'s.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;

use super::disk::SmallDisk;
use super::plan::{At, Direction, Plan, Scale};
use super::tally::{Tally, mebibytes};
use super::world::{TEMPORARY, World};
use crate::rig::bytes::{MIB, write_file};
use crate::rig::client::Client;
use crate::rig::curl::Got;
use crate::rig::dice::Dice;
use crate::rig::process::End;
use crate::rig::server::{ADMIN, Account};

/// The code of a command that finds no room.
pub(crate) const NO_SPACE: i32 = 9;

/// How long every piece waits on the line: long enough that a disk can be filled meanwhile.
const SLOW: Duration = Duration::from_millis(5);

/// The account with a quota.
const SAVER: Account = Account { name: "saver", password: "a penny saved is a penny" };

/// Fills the server's disk while a client puts.
pub(crate) fn run_disk(
    world: &mut World,
    disk: &SmallDisk,
    scale: &Scale,
    dice: &mut Dice,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let [source, small] = ["source", "small"].map(|name| world.folder.join(name));
    write_file(&small, 1, MIB)?;
    world.place(&small, "/small")?;
    let untouched = Got::Content(world.hashing.file(&small)?);
    while tally.strikes < scale.events && tally.runs < 2 * scale.events + 4 {
        tally.runs += 1;
        let plan = Plan::draw(scale, dice);
        let at = At::Content(dice.within(0..=800));
        let remote = format!("/full-{}", tally.runs);
        write_file(&source, plan.content, plan.size)?;
        let words = ["put".to_owned(), "--parallel".to_owned(), plan.parallel.to_string()];
        let words = words.into_iter().chain([source.to_string_lossy().into_owned(), format!(":{remote}")]);
        let words = words.collect::<Vec<_>>();
        world.link.delay(SLOW);
        let moment = at.moment(Direction::Put, world.link.counts(), plan.size);
        let mut put = world.client.start(&words)?;
        let in_time = world.link.wait(moment, || put.is_over());
        disk.fill()?;
        let in_time = in_time && !put.is_over();
        check_alive(world, &untouched, tally)?;
        disk.clear()?;
        world.link.delay(Duration::ZERO);
        if tally.runs > 1 {
            // A client may wait for room as long as the server asks it to; once is enough to see that.
            put.kill()?;
        }
        let end = world.wait(&mut put, tally)?;
        tally.say(&format!("{}, full at {at:?}: {end:?}", mebibytes(plan.size)));
        match end {
            End::Exit(0 | NO_SPACE | TEMPORARY) | End::Signal => tally.strikes += u32::from(in_time),
            end => {
                tally.violation(format!("the put on a full disk ended with {end:?}: {}", world.last_words()));
            }
        }
        finish(world, &words, &remote, &source, tally)?;
        world.forget(&remote, tally)?;
    }
    if tally.strikes < scale.events {
        tally.violation(format!(
            "the disk was full in time in only {} of {} runs",
            tally.strikes, scale.events
        ));
    }
    Ok(())
}

/// While the disk is full, what needs no room goes on.
fn check_alive(world: &World, untouched: &Got, tally: &mut Tally) -> anyhow::Result<()> {
    for words in [["ls", ":/"], ["stat", ":/small"]] {
        let end = world.client.run(words)?.end;
        if end != End::Exit(0) {
            tally.violation(format!("on a full disk `{}` ended with {end:?}", words.join(" ")));
        }
    }
    let got = world.see(ADMIN, "/small")?;
    if got != *untouched {
        tally.violation(format!("on a full disk curl saw {got:?} of /small"));
    }
    Ok(())
}

/// With room again, the same command ends well.
fn finish(
    world: &World,
    words: &[String],
    remote: &str,
    source: &Path,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    if world.insist(words, tally)? {
        let wanted = Got::Content(world.hashing.file(source)?);
        let got = world.see(world.client.account, remote)?;
        if got != wanted {
            tally.violation(format!("{remote} has {got:?}, not {wanted:?}"));
        }
    }
    Ok(())
}

/// Puts more than an account may store.
pub(crate) fn run_quota(
    world: &mut World,
    scale: &Scale,
    dice: &mut Dice,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let source = world.folder.join("source");
    let admin = world.client.clone();
    let mut command = admin.command(["admin", "user", "add", SAVER.name])?;
    let added = command.env("HAPAX_NEW_PASSWORD", SAVER.password).status()?;
    ensure!(added.success(), "no account could be added: {}", world.last_words());
    let limit = |limit: &str| -> anyhow::Result<()> {
        let end = admin.run(["admin", "user", "quota", SAVER.name, limit])?.end;
        ensure!(end == End::Exit(0), "a quota of {limit} could not be set: {end:?}");
        Ok(())
    };
    world.client = Client { home: world.folder.join("saver"), account: SAVER, ..admin.clone() };
    for _ in 0..scale.events {
        tally.runs += 1;
        let plan = Plan::draw(scale, dice);
        let remote = format!("/quota-{}", tally.runs);
        write_file(&source, plan.content, plan.size)?;
        let words = ["put".to_owned(), source.to_string_lossy().into_owned(), format!(":{remote}")];
        limit(&dice.within(0..=plan.size - 1).to_string())?;
        let start = world.link.counts();
        let end = world.client.start(&words)?.wait()?;
        tally.strikes += 1;
        let sent = world.link.counts().since(start).up;
        tally.say(&format!("{}: {end:?}, {} sent", mebibytes(plan.size), mebibytes(sent)));
        if end != End::Exit(NO_SPACE) {
            tally.violation(format!("a put beyond the quota ended with {end:?}: {}", world.last_words()));
        }
        // A known length is refused at creation.
        if sent > MIB {
            tally.violation(format!("{} were sent that the quota does not allow", mebibytes(sent)));
        }
        let seen = world.see(SAVER, &remote)?;
        if seen != Got::Nothing {
            tally.violation(format!("beyond the quota curl saw {seen:?}"));
        }
        limit("none")?;
        finish(world, &words, &remote, &source, tally)?;
        let end = world.client.run(["rm", &format!(":{remote}")])?.end;
        if end != End::Exit(0) {
            tally.violation(format!("`rm` ended with {end:?}"));
        }
    }
    world.client = admin;
    Ok(())
}
