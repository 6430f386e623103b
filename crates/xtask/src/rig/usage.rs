//! What a process used up, as Linux tells it in `/proc`: processor time, of the process and its descendants, and
//! the most memory it ever held. Owns the parsing; it stops nothing and changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// Linux reports processor time to programs in hundredths of a second, whatever it uses itself.
const TICK: Duration = Duration::from_millis(10);

/// One row of the table of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    parent: u32,
    /// User and system time, its own and that of children it has waited for.
    ticks: u64,
}

/// Reads the line of `/proc/<id>/stat`. The name of the program may hold blanks and parentheses.
fn parse_stat(line: &str) -> Option<Row> {
    let (_, fields) = line.rsplit_once(") ")?;
    let fields = fields.split_whitespace().collect::<Vec<_>>();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // Behind the name: state, ppid, …, utime, stime, cutime, cstime at 11 to 14 (proc(5), counted from 3).
    let ticks = (11..=14).map(number).sum::<Option<u64>>()?;
    Some(Row { parent: fields.get(1)?.parse().ok()?, ticks })
}

fn row(id: u32) -> Option<Row> {
    parse_stat(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// Returns a process and all its living descendants.
fn family(id: u32) -> BTreeSet<u32> {
    let everyone = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parents = everyone
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id: u32| Some((id, row(id)?.parent)))
        .collect::<Vec<_>>();
    let mut found = BTreeSet::from([id]);
    loop {
        let before = found.len();
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| found.contains(parent))
                .map(|(id, _)| *id)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            return found;
        }
    }
}

/// Returns the processor time of a process and its descendants, also of a process that ended but was not waited
/// for. What is gone counts nothing.
pub(crate) fn processor_time(id: u32) -> Duration {
    let ticks = family(id).into_iter().filter_map(row).map(|row| row.ticks).sum::<u64>();
    TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// Returns the most memory that a process and its living descendants ever held, in bytes, each at its own peak.
pub(crate) fn peak_memory(id: u32) -> u64 {
    family(id).into_iter().filter_map(peak_of).sum()
}

/// Returns how much memory a process and its living descendants hold now, in bytes.
pub(crate) fn resident_memory(id: u32) -> u64 {
    let held = |id| parse_memory(&fs::read_to_string(format!("/proc/{id}/status")).ok()?, "VmRSS:");
    family(id).into_iter().filter_map(held).sum()
}

fn peak_of(id: u32) -> Option<u64> {
    parse_memory(&fs::read_to_string(format!("/proc/{id}/status")).ok()?, "VmHWM:")
}

/// Reads one of the lines of `/proc/<id>/status` that tell memory.
fn parse_memory(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_behind_any_name() {
        let tail = "S 17 4 4 0 -1 4194304 2 0 0 0 5 6 7 8 20 0 1 0 99 0 0";
        let expected = Some(Row { parent: 17, ticks: 5 + 6 + 7 + 8 });
        assert_eq!(parse_stat(&format!("4 (hapax) {tail}")), expected);
        assert_eq!(parse_stat(&format!("4 (a ) S (b) {tail}")), expected);
        assert_eq!(parse_stat("4 (hapax) S 17"), None);
    }

    #[test]
    fn memory_is_read() {
        let status = "VmPeak:\t 9 kB\nVmHWM:\t   12 kB\nVmRSS:\t 3 kB\n";
        assert_eq!(parse_memory(status, "VmHWM:"), Some(12 << 10));
        assert_eq!(parse_memory(status, "VmRSS:"), Some(3 << 10));
        assert_eq!(parse_memory("State:\tZ (zombie)\n", "VmHWM:"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let me = std::process::id();
        assert!(peak_memory(me) > 0 && resident_memory(me) > 0);
        assert!(family(me).contains(&me));
    }
}
