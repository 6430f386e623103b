//! Control groups that allow their processes so much memory and no more: the kernel kills what needs more. Owns the
//! group; whether there can be one is for the machine to say (it needs the right to make one).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::leftovers::{Holding, Leftover};

/// A control group with a limit of memory. Dropping it removes it; its processes must be gone by then.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    folder: PathBuf,
    /// What holds the group's counters of killed processes.
    events: &'static str,
    _group: Holding,
}

/// One of the two generations of control groups, as far as memory goes.
struct Generation {
    root: &'static str,
    /// What is written the limit to, in bytes.
    limit: &'static str,
    /// The same for memory and swap together, or swap alone; absent where there is no swap.
    swap: (&'static str, Swap),
    events: &'static str,
}

enum Swap {
    /// The file counts swap alone: there is none.
    None,
    /// The file counts memory and swap together.
    Together,
}

const GENERATIONS: [Generation; 2] = [
    Generation {
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        swap: ("memory.swap.max", Swap::None),
        events: "memory.events",
    },
    Generation {
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        swap: ("memory.memsw.limit_in_bytes", Swap::Together),
        events: "memory.oom_control",
    },
];

impl MemoryLimit {
    /// Makes a group whose processes may have so many bytes together.
    pub(crate) fn make(name: &str, bytes: u64) -> anyhow::Result<Self> {
        let name = format!("hapax-{}-{name}", std::process::id());
        let tried = GENERATIONS.iter().map(|generation| generation.make(&name, bytes));
        let mut failure = None;
        for made in tried {
            match made {
                Ok(limit) => return Ok(limit),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.context("there are no control groups")?).context("no memory limit can be set")
    }

    /// Returns the words that go before a command line to run it inside.
    pub(crate) fn around(&self) -> Vec<OsString> {
        let enter = r#"echo $$ > "$0" && exec "$@""#;
        vec!["sh".into(), "-c".into(), enter.into(), self.folder.join("cgroup.procs").into()]
    }

    /// Returns how many processes were killed because they needed more.
    pub(crate) fn kills(&self) -> anyhow::Result<u64> {
        parse_kills(&fs::read_to_string(self.folder.join(self.events))?)
            .context("the group does not tell how many were killed")
    }
}

impl Generation {
    fn make(&self, name: &str, bytes: u64) -> anyhow::Result<MemoryLimit> {
        let folder = Path::new(self.root).join(name);
        let make = || {
            fs::create_dir(&folder)?;
            let limited = self.limit(&folder, bytes);
            if limited.is_err() {
                fs::remove_dir(&folder)?;
            }
            limited
        };
        let group = Holding::make(Leftover::Group(folder.clone()), make)?;
        Ok(MemoryLimit { folder, events: self.events, _group: group })
    }

    fn limit(&self, folder: &Path, bytes: u64) -> anyhow::Result<()> {
        let limit = folder.join(self.limit);
        // Writing would make a file in a folder that is no group of memory.
        ensure!(limit.exists(), "{} has no limit of memory", folder.display());
        fs::write(limit, bytes.to_string())?;
        let (name, kind) = &self.swap;
        let swap = folder.join(name);
        if swap.exists() {
            let allowed = if matches!(kind, Swap::None) { 0 } else { bytes };
            fs::write(swap, allowed.to_string())?;
        }
        Ok(())
    }
}

fn parse_kills(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_read_from_either_generation() {
        assert_eq!(parse_kills("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), Some(1));
        assert_eq!(parse_kills("oom_kill_disable 0\n"), None);
    }
}
