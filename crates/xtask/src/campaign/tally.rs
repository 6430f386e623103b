//! What was seen of a kind: runs, strikes, bytes and violations. Owns the counting and its row in the table.

use std::time::Duration;

use crate::rig::bytes::MIB;

/// The counts of one kind.
#[derive(Debug)]
pub(crate) struct Tally {
    name: String,
    pub(crate) runs: u32,
    pub(crate) strikes: u32,
    pub(crate) violations: Vec<String>,
    /// Why the kind could not be run here.
    pub(crate) not_run: Option<String>,
    /// Bytes that had to cross the line, that did, and that were allowed to.
    needed: u64,
    carried: u64,
    allowed: u64,
}

/// The bytes of one transfer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    /// What had to cross the line.
    pub(crate) needed: u64,
    /// What did.
    pub(crate) seen: u64,
    /// What was allowed to.
    pub(crate) allowed: u64,
}

impl Tally {
    /// Starts at nothing.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            runs: 0,
            strikes: 0,
            violations: Vec::new(),
            not_run: None,
            needed: 0,
            carried: 0,
            allowed: 0,
        }
    }

    /// Notes and prints a broken promise.
    pub(crate) fn violation(&mut self, what: impl std::fmt::Display) {
        println!("{}: VIOLATION in run {}: {what}", self.name, self.runs);
        self.violations.push(format!("run {}: {what}", self.runs));
    }

    /// Prints a line about the present run.
    pub(crate) fn say(&self, what: &str) {
        println!("{} run {}: {what}", self.name, self.runs);
    }

    /// Counts the bytes of a transfer; too many are a violation.
    pub(crate) fn bytes(&mut self, bytes: Carried) {
        self.needed += bytes.needed;
        self.carried += bytes.seen;
        self.allowed += bytes.allowed;
        if bytes.seen > bytes.allowed {
            let [needed, carried, allowed] = [bytes.needed, bytes.seen, bytes.allowed].map(mebibytes);
            self.violation(format!("{carried} crossed the line for {needed}; {allowed} were allowed"));
        }
    }

    /// Returns the cells of its row.
    pub(crate) fn cells(&self, strike: &str, took: Duration) -> Vec<String> {
        let share = |bytes: u64| match self.needed {
            0 => "–".to_owned(),
            needed => percent_over(bytes, needed),
        };
        vec![
            self.name.clone(),
            if self.not_run.is_some() { "not run".to_owned() } else { self.runs.to_string() },
            self.strikes.to_string(),
            strike.to_owned(),
            self.violations.len().to_string(),
            share(self.carried),
            share(self.allowed),
            took.as_secs().to_string(),
        ]
    }
}

/// Formats bytes as mebibytes with one digit behind the point.
pub(crate) fn mebibytes(bytes: u64) -> String {
    let tenths = bytes * 10 / MIB;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Formats by how many per cent `bytes` is more than `needed`, with one digit.
fn percent_over(bytes: u64, needed: u64) -> String {
    let per_mille = bytes.saturating_sub(needed) * 1_000 / needed;
    format!("+{}.{} %", per_mille / 10, per_mille % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_the_allowance_are_a_violation() {
        let mut tally = Tally::new("k");
        tally.bytes(Carried { needed: 1_000, seen: 1_100, allowed: 1_100 });
        assert!(tally.violations.is_empty());
        tally.bytes(Carried { needed: 1_000, seen: 1_101, allowed: 1_100 });
        assert_eq!(tally.violations.len(), 1);
        let cells = tally.cells("kills", Duration::from_secs(3));
        assert_eq!(cells, ["k", "0", "0", "kills", "1", "+10.0 %", "+10.0 %", "3"]);
    }

    #[test]
    fn a_kind_that_was_not_run_says_so() {
        let mut tally = Tally::new("k");
        tally.not_run = Some("no disk".to_owned());
        assert_eq!(tally.cells("kills", Duration::ZERO)[1], "not run");
    }

    #[test]
    fn bytes_are_written_for_people() {
        assert_eq!(mebibytes(MIB * 3 / 2), "1.5 MiB");
        assert_eq!(percent_over(1_005, 1_000), "+0.5 %");
        assert_eq!(percent_over(900, 1_000), "+0.0 %");
    }
}
