//! Numbers with the bars they are held against. Owns the median, the verdict and how both are written.

use std::fmt;
use std::time::Duration;

/// What a number has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
    /// Measured for comparison only.
    None,
}

impl Bar {
    /// Tells whether a number is as it has to be; nothing is told of what has no bar.
    pub(crate) fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(bar) => Some(value <= bar),
            Self::AtLeast(bar) => Some(value >= bar),
            Self::None => None,
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bar) => write!(f, "≤ {}", number(*bar)),
            Self::AtLeast(bar) => write!(f, "≥ {}", number(*bar)),
            Self::None => Ok(()),
        }
    }
}

/// One thing that was measured, once or more.
#[derive(Debug, Clone)]
pub(crate) struct Metric {
    /// What was measured, with its unit.
    pub(crate) what: String,
    /// Of whom.
    pub(crate) subject: String,
    pub(crate) samples: Vec<f64>,
    pub(crate) bar: Bar,
}

impl Metric {
    /// Makes a metric of what was sampled.
    pub(crate) fn new(what: &str, subject: &str, samples: impl IntoIterator<Item = f64>, bar: Bar) -> Self {
        let (what, subject) = (what.to_owned(), subject.to_owned());
        Self { what, subject, samples: samples.into_iter().collect(), bar }
    }

    /// Returns the sample in the middle.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => sorted[count / 2],
            count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
        }
    }

    /// Returns the cells of its row.
    pub(crate) fn cells(&self) -> Vec<String> {
        let median = self.median();
        let low = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let verdict = match self.bar.is_met(median) {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let range = if self.samples.len() > 1 {
            format!("{}–{}", number(low), number(high))
        } else {
            String::new()
        };
        vec![
            self.what.clone(),
            self.subject.clone(),
            number(median),
            range,
            self.bar.to_string(),
            verdict.to_owned(),
        ]
    }
}

/// Writes a number with about three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Returns a count of bytes in GiB.
#[expect(clippy::cast_precision_loss, reason = "a measurement has fewer digits than a double")]
pub(crate) fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Returns a count of bytes in MiB.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    gibibytes(bytes) * 1_024.0
}

/// Returns seconds per GiB.
pub(crate) fn per_gibibyte(time: Duration, bytes: u64) -> f64 {
    time.as_secs_f64() / gibibytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        #[track_caller]
        fn check(samples: &[f64], median: f64) {
            let metric = Metric::new("w", "s", samples.iter().copied(), Bar::None);
            assert!((metric.median() - median).abs() < 1e-9, "{}", metric.median());
        }
        check(&[3.0], 3.0);
        check(&[9.0, 1.0, 2.0], 2.0);
        check(&[4.0, 1.0, 2.0, 9.0], 3.0);
        assert!(Metric::new("w", "s", [], Bar::None).median().is_nan());
    }

    #[test]
    fn bars_judge_the_median() {
        #[track_caller]
        fn check(bar: Bar, cells: [&str; 6]) {
            assert_eq!(Metric::new("w", "s", [1.0, 2.0, 30.0], bar).cells(), cells);
        }
        check(Bar::AtMost(2.0), ["w", "s", "2.00", "1.00–30.0", "≤ 2.00", "met"]);
        check(Bar::AtMost(1.9), ["w", "s", "2.00", "1.00–30.0", "≤ 1.90", "MISSED"]);
        check(Bar::AtLeast(4_000.0), ["w", "s", "2.00", "1.00–30.0", "≥ 4000", "MISSED"]);
        check(Bar::None, ["w", "s", "2.00", "1.00–30.0", "", ""]);
    }

    #[test]
    fn what_was_not_measured_meets_no_bar() {
        assert_eq!(Bar::AtMost(1.0).is_met(f64::NAN), Some(false));
        assert_eq!(Bar::AtLeast(1.0).is_met(f64::NAN), Some(false));
    }

    #[test]
    fn units_are_binary() {
        assert!((mebibytes(3 << 20) - 3.0).abs() < 1e-9);
        assert!((per_gibibyte(Duration::from_secs(3), 2 << 30) - 1.5).abs() < 1e-9);
    }
}
