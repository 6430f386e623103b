//! What was seen, as a table for people and for the page about downloading. Owns the words and the comparison with
//! what the page says of ours.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::behaviour::{Behaviour, Honest};
use super::subject::Subject;
use super::trial::{Outcome, Seen};

/// The worst of what was seen of each downloader at each behaviour.
#[derive(Debug, Default)]
pub(crate) struct Report {
    columns: Vec<String>,
    versions: Vec<String>,
    rows: Vec<&'static Behaviour>,
    worst: BTreeMap<(&'static str, String), Outcome>,
}

impl Report {
    /// Starts a report with its columns and rows.
    pub(crate) fn new(subjects: &[Subject], rows: Vec<&'static Behaviour>) -> Self {
        Self {
            columns: subjects.iter().map(|subject| subject.name().to_owned()).collect(),
            versions: subjects
                .iter()
                .filter(|subject| !subject.is_ours())
                .filter_map(Subject::version)
                .collect(),
            rows,
            worst: BTreeMap::new(),
        }
    }

    /// Notes what was seen: the worst of the forms counts.
    pub(crate) fn note(&mut self, behaviour: &'static Behaviour, subject: &Subject, seen: &Seen) {
        let key = (behaviour.name, subject.name().to_owned());
        let worst = self.worst.entry(key).or_insert(seen.outcome);
        *worst = (*worst).max(seen.outcome);
    }

    fn word(&self, row: &Behaviour, column: &str) -> &'static str {
        self.worst.get(&(row.name, column.to_owned())).map_or("–", |outcome| outcome.word())
    }

    fn count(&self, column: &str, outcome: Outcome) -> usize {
        self.rows
            .iter()
            .filter(|row| row.honest != Honest::Unknowable)
            .filter(|row| self.worst.get(&(row.name, column.to_owned())) == Some(&outcome))
            .count()
    }

    /// Prints the section of the page.
    pub(crate) fn section(&self) -> String {
        let mut text = String::new();
        let head = self.columns.join(" | ");
        let line = "---|".repeat(self.columns.len());
        let counted = self.rows.iter().filter(|row| row.honest != Honest::Unknowable).count();
        // Writing into a string cannot fail.
        let _ = writeln!(text, "Compared with {}.\n", self.versions.join(", "));
        let _ = writeln!(text, "| of {counted} behaviours | {head} |\n|---|{line}");
        let outcomes =
            [Outcome::Right, Outcome::Refused, Outcome::Unverified, Outcome::GaveUp, Outcome::Wrong];
        for outcome in outcomes {
            let cells = self.columns.iter().map(|column| self.count(column, outcome).to_string());
            let _ = writeln!(text, "| {} | {} |", outcome.word(), cells.collect::<Vec<_>>().join(" | "));
        }
        let _ = writeln!(text, "\n| path | the server … | {head} |\n|---|---|{line}");
        for row in &self.rows {
            let cells = self.columns.iter().map(|column| self.word(row, column)).collect::<Vec<_>>();
            let mark = if row.honest == Honest::Unknowable { " (nobody can know)" } else { "" };
            let _ = writeln!(text, "| `{}` | {}{mark} | {} |", row.name, row.says, cells.join(" | "));
        }
        text
    }

    /// Compares the column of ours with the page; returns the rows that differ, in words.
    pub(crate) fn drift(&self, section: &str) -> Vec<String> {
        let Some(ours) = self.columns.iter().position(|column| column == "hapax") else {
            return Vec::new();
        };
        let said = |row: &Behaviour| {
            let begin = format!("| `{}` |", row.name);
            let line = section.lines().find(|line| line.starts_with(&begin))?;
            Some(line.split('|').nth(3 + ours)?.trim().to_owned())
        };
        let differs = |row: &&Behaviour| said(row).as_deref() != Some(self.word(row, "hapax"));
        let words = |row: &Behaviour| {
            let said = said(row).unwrap_or_else(|| "nothing".to_owned());
            format!("{}: the page says {said}, the run {}", row.name, self.word(row, "hapax"))
        };
        self.rows.iter().copied().filter(differs).map(words).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hostile::behaviour;
    use crate::rig::process::End;

    fn report(outcomes: &[Outcome]) -> Report {
        let ours = Subject::Hapax("/nowhere/hapax".into());
        let row = behaviour::find("honest").unwrap();
        let mut report = Report::new(std::slice::from_ref(&ours), vec![row]);
        for outcome in outcomes {
            let seen = Seen {
                outcome: *outcome,
                end: End::Exit(0),
                requests: 1,
                note: String::new(),
                said: String::new(),
                took: Duration::ZERO,
            };
            report.note(row, &ours, &seen);
        }
        report
    }

    #[test]
    fn the_worst_of_the_forms_counts() {
        let section = report(&[Outcome::Right, Outcome::GaveUp, Outcome::Right]).section();
        assert!(section.contains("| `honest` | does everything right | gave up |"), "{section}");
        assert!(section.contains("| gave up | 1 |") && section.contains("| right | 0 |"), "{section}");
    }

    #[test]
    fn a_page_that_says_something_else_has_drifted() {
        let right = report(&[Outcome::Right]);
        assert!(right.drift(&right.section()).is_empty());
        let refused = report(&[Outcome::Refused]);
        assert_eq!(refused.drift(&right.section()), ["honest: the page says right, the run refused"]);
        assert_eq!(right.drift("").len(), 1);
    }
}
