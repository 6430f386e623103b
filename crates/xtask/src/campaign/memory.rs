//! Memory: a large file put and got, and a hundred uploads at once, each within a control group that allows no more
//! than was promised, and with the most that was ever resident read from `/proc` beside it. Where no control group
//! can be made, the reading alone is held against the promise, and the output says so.

use std::ffi::OsString;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::plan::Scale;
use super::tally::{Tally, mebibytes};
use super::world::World;
use crate::rig::bytes::{MIB, write_file};
use crate::rig::client::Client;
use crate::rig::curl;
use crate::rig::dice::Dice;
use crate::rig::limit::MemoryLimit;
use crate::rig::process::{End, Process};
use crate::rig::server::ADMIN;
use crate::rig::usage::peak_memory;

/// What server and client may each hold while one file is transferred.
const ONE_MAX: u64 = 64 * MIB;
/// What the server may hold while many are.
const CROWD_MAX: u64 = 256 * MIB;
/// How many that is.
const CROWD: u64 = 100;

/// How often a running process is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What one process may hold, enforced if that can be done here.
struct Cage {
    name: &'static str,
    bytes_max: u64,
    limit: Option<MemoryLimit>,
}

impl Cage {
    fn make(name: &'static str, bytes_max: u64, tally: &Tally) -> Self {
        let limit = MemoryLimit::make(name, bytes_max);
        let limit =
            limit.inspect_err(|error| tally.say(&format!("only what is read is judged: {error:#}"))).ok();
        Self { name, bytes_max, limit }
    }

    fn around(&self) -> Vec<OsString> {
        self.limit.as_ref().map_or_else(Vec::new, MemoryLimit::around)
    }

    fn judge(&self, what: &str, peak: u64, tally: &mut Tally) -> anyhow::Result<()> {
        let (name, max) = (self.name, mebibytes(self.bytes_max));
        let how = if self.limit.is_some() { "enforced" } else { "read only" };
        tally.say(&format!("{what}: the {name} held {} of {max} ({how})", mebibytes(peak)));
        if peak > self.bytes_max {
            tally.violation(format!("{what}: the {name} held {}; {max} were promised", mebibytes(peak)));
        }
        if let Some(limit) = &self.limit
            && limit.kills()? > 0
        {
            tally.violation(format!("{what}: the {name} was killed because it needed more than {max}"));
        }
        Ok(())
    }
}

/// Measures all three.
pub(crate) fn run(
    world: &mut World,
    scale: &Scale,
    dice: &mut Dice,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let [source, target] =
        ["source", "target"].map(|name| world.folder.join(name).to_string_lossy().into_owned());
    write_file(source.as_ref(), dice.any(), scale.memory)?;
    one(world, "put", &["put", &source, ":/large"], tally)?;
    one(world, "get", &["get", ":/large", &target], tally)?;
    if tally.violations.is_empty()
        && world.hashing.file(target.as_ref())? != world.hashing.file(source.as_ref())?
    {
        tally.violation("what was got is not what was put");
    }
    std::fs::remove_file(&source)?;
    crowd(world, scale, dice, tally)
}

/// Transfers one file between a server and a client that are both watched.
fn one(world: &mut World, what: &str, words: &[&str], tally: &mut Tally) -> anyhow::Result<()> {
    tally.runs += 1;
    let [server, client] = ["server", "client"].map(|name| Cage::make(name, ONE_MAX, tally));
    world.restart_server_by(server.around())?;
    let caged = Client { around: client.around(), ..world.client.clone() };
    let mut process = caged.start(words)?;
    let mut peak = 0;
    while !process.has_ended()? && !process.is_late() {
        peak = peak_memory(process.id()).max(peak);
        thread::sleep(LOOK);
    }
    let end = world.wait(&mut process, tally)?;
    if end != End::Exit(0) {
        tally.violation(format!("the {what} ended with {end:?}: {}", world.last_words()));
    }
    tally.strikes += 2;
    client.judge(what, peak, tally)?;
    server.judge(what, world.server_peak(), tally)?;
    world.restart_server_by(Vec::new())
}

/// Puts a hundred files at once with curl.
fn crowd(world: &mut World, scale: &Scale, dice: &mut Dice, tally: &mut Tally) -> anyhow::Result<()> {
    tally.runs += 1;
    let folder = world.folder.join("crowd");
    std::fs::create_dir_all(&folder)?;
    for number in 0..CROWD {
        write_file(&folder.join(format!("{number:02}")), dice.any(), scale.crowd)?;
    }
    let server = Cage::make("server", CROWD_MAX, tally);
    world.restart_server_by(server.around())?;
    let mut command = curl::curl(ADMIN);
    // Without `--parallel-immediate` curl would wait to see whether one connection could carry all.
    command.args(["--parallel", "--parallel-immediate", "--parallel-max", "100", "--fail"]);
    command
        .args(["--no-progress-meter", "--upload-file"])
        .arg(format!("{}/[00-{}]", folder.display(), CROWD - 1))
        .arg(world.url("/files/crowd/"));
    command.stdout(Stdio::null()).stderr(world.client.open_log()?);
    let end = Process::start(&mut command, world.client.patience)?.wait()?;
    if end != End::Exit(0) {
        tally.violation(format!("a hundred uploads with curl ended with {end:?}: {}", world.last_words()));
    }
    tally.strikes += 1;
    server.judge("a hundred uploads", world.server_peak(), tally)?;
    std::fs::remove_dir_all(&folder)?;
    world.restart_server_by(Vec::new())
}
