//! The table and the raw samples, for the terminal and for `bench/results/`. Owns the facts about the machine that
//! make numbers comparable; names no machine and no person.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::metric::{Metric, gibibytes};
use crate::rig::table::Table;

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    date: String,
    commit: String,
    facts: Vec<(&'static str, String)>,
    metrics: Vec<Metric>,
    notes: Vec<String>,
    complete: bool,
}

/// Returns the first line that a command prints, or nothing.
fn first_line(root: &Path, words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).current_dir(root).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    line.trim_start_matches([' ', '\t', ':']).to_owned()
}

impl Report {
    /// Starts with the facts that hold for all of it.
    pub(crate) fn start(root: &Path, size: u64, samples: u32) -> Self {
        let cores = std::thread::available_parallelism().map(|cores| cores.to_string()).unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let facts = vec![
            ("cores", cores),
            ("processor", processor()),
            (
                "kernel",
                fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            ),
            ("load at the start", load.split_whitespace().next().unwrap_or_default().to_owned()),
            ("large file", format!("{:.2} GiB", gibibytes(size))),
            ("samples", samples.to_string()),
        ];
        let (date, commit) = (
            first_line(root, &["date", "-u", "+%Y-%m-%d"]),
            first_line(root, &["git", "rev-parse", "--short", "HEAD"]),
        );
        Self { date, commit, facts, metrics: Vec::new(), notes: Vec::new(), complete: true }
    }

    /// Adds what was measured.
    pub(crate) fn add(&mut self, metrics: Vec<Metric>) {
        self.metrics.extend(metrics);
    }

    /// Notes what could not be measured although it should.
    pub(crate) fn failed(&mut self, note: &str) {
        println!("{note}");
        self.notes.push(note.to_owned());
        self.complete = false;
    }

    /// Adds remarks.
    pub(crate) fn notes(&mut self, notes: Vec<String>) {
        self.notes.extend(notes);
    }

    /// Tells whether everything that was asked for was measured.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Writes the table and the samples, named after the day and the commit.
    pub(crate) fn keep(&self, folder: &Path) -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let name = format!("{}-{}", self.date, self.commit);
        fs::write(folder.join(format!("{name}.md")), self.to_string())?;
        let text = serde_json::to_string_pretty(&self.samples())?;
        fs::write(folder.join(format!("{name}.json")), text + "\n")
    }

    fn samples(&self) -> serde_json::Value {
        let metrics = self.metrics.iter().map(|metric| {
            json!({"what": metric.what, "subject": metric.subject, "samples": metric.samples, "bar": metric.bar.to_string()})
        });
        let facts = self.facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        json!({
            "date": self.date,
            "commit": self.commit,
            "facts": facts.collect::<serde_json::Map<_, _>>(),
            "metrics": metrics.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Measured on {} at {}\n", self.date, self.commit)?;
        for (name, value) in &self.facts {
            writeln!(f, "- {name}: {value}")?;
        }
        let mut table = Table::new(&["what", "of whom", "median", "range", "bar", ""]);
        for metric in &self.metrics {
            table.row(metric.cells());
        }
        write!(f, "\n{table}")?;
        for (at, note) in self.notes.iter().enumerate() {
            write!(f, "{}- {note}", if at == 0 { "\n" } else { "" })?;
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::metric::Bar;

    #[test]
    fn a_report_says_what_was_measured_and_keeps_the_samples() {
        let mut report = Report {
            date: "2026-01-02".to_owned(),
            commit: "abc".to_owned(),
            facts: vec![("cores", "2".to_owned())],
            metrics: Vec::new(),
            notes: Vec::new(),
            complete: true,
        };
        report.add(vec![Metric::new("upload, s", "us", [1.0, 3.0, 2.0], Bar::AtMost(2.0))]);
        report.notes(vec!["peer: not installed".to_owned()]);
        let text = report.to_string();
        assert!(text.starts_with("# Measured on 2026-01-02 at abc\n\n- cores: 2\n\n| what"), "{text}");
        assert!(text.ends_with("|\n\n- peer: not installed\n"), "{text}");
        let folder = tempfile::tempdir().unwrap();
        report.keep(folder.path()).unwrap();
        let json = fs::read_to_string(folder.path().join("2026-01-02-abc.json")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["metrics"][0]["samples"], json!([1.0, 3.0, 2.0]));
        assert_eq!(fs::read_to_string(folder.path().join("2026-01-02-abc.md")).unwrap(), text);
        assert!(report.is_complete());
    }
}
