//! What is counted and measured, and how `/metrics` spells it. Owns every name of a metric; it never decides
//! anything, and no label carries a path, a name or an id, so that the number of series is bounded.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::StatusCode;
use metrics::{counter, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// The upper ends of the buckets of request durations, in seconds.
const DURATION_BUCKETS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0];
/// The name of request durations.
const SECONDS: &str = "hapax_request_seconds";

/// The numbers of this process.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Returns the numbers of this process, which begin with the first call.
    ///
    /// The recorder of the `metrics` crate is global; a program that installed its own keeps it, and `/metrics`
    /// tells only how long answers took then.
    pub fn of_process() -> Self {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("the program records its own metrics; /metrics stays nearly empty");
            }
            handle
        });
        Self { handle: handle.clone() }
    }

    /// Writes every number in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        let mut text = self.handle.render();
        render_durations(&mut text).expect("a text takes everything");
        text
    }
}

/// How long the answers of each route took.
///
/// Counted here: a histogram of the `metrics` crate keeps every measurement until somebody asks for `/metrics`, which on
/// many a server nobody ever does.
static TOOK: Mutex<BTreeMap<&'static str, Durations>> = Mutex::new(BTreeMap::new());

/// How many durations lay in which bucket. It does not grow.
#[derive(Debug, Default)]
struct Durations {
    /// How many were as long as each of [`DURATION_BUCKETS`] at most and longer than the one before.
    within: [u64; DURATION_BUCKETS.len()],
    /// How many were longer than all of them.
    longer: u64,
    sum: Duration,
}

impl Durations {
    fn count(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = DURATION_BUCKETS.partition_point(|end| *end < seconds);
        *self.within.get_mut(bucket).unwrap_or(&mut self.longer) += 1;
        self.sum = self.sum.saturating_add(took);
    }
}

/// Writes the histogram of each route. Routes are named by us, so nothing in them is to be escaped.
fn render_durations(text: &mut String) -> fmt::Result {
    let measured = TOOK.lock().unwrap_or_else(PoisonError::into_inner);
    if !measured.is_empty() {
        writeln!(text, "# TYPE {SECONDS} histogram")?;
    }
    for (route, durations) in &*measured {
        let mut count = 0;
        for (end, within) in DURATION_BUCKETS.iter().zip(durations.within) {
            count += within;
            writeln!(text, "{SECONDS}_bucket{{route=\"{route}\",le=\"{end}\"}} {count}")?;
        }
        count += durations.longer;
        writeln!(text, "{SECONDS}_bucket{{route=\"{route}\",le=\"+Inf\"}} {count}")?;
        writeln!(text, "{SECONDS}_sum{{route=\"{route}\"}} {}", durations.sum.as_secs_f64())?;
        writeln!(text, "{SECONDS}_count{{route=\"{route}\"}} {count}\n")?;
    }
    Ok(())
}

/// Counts an answered request. `route` is a name of the route table.
pub fn request_answered(route: &'static str, status: StatusCode, took: Duration) {
    counter!("hapax_requests_total", "route" => route, "status" => status.as_str().to_owned()).increment(1);
    measured(route, took);
}

/// Measures how long an answer took.
fn measured(route: &'static str, took: Duration) {
    let mut measured = TOOK.lock().unwrap_or_else(PoisonError::into_inner);
    measured.entry(route).or_default().count(took);
}

/// Counts the bytes of a request body that were handed on.
pub fn body_received(bytes: u64) {
    counter!("hapax_body_bytes_received_total").increment(bytes);
}

/// Counts the bytes of a file that were handed to a connection.
pub fn body_sent(bytes: u64) {
    counter!("hapax_body_bytes_sent_total").increment(bytes);
}

/// Counts the bytes of unfinished uploads that were read for a digest.
pub fn upload_read(bytes: u64) {
    counter!("hapax_upload_bytes_hashed_total").increment(bytes);
}

/// Counts a challenge that was posed.
pub fn challenge_posed() {
    counter!("hapax_claims_challenged_total").increment(1);
}

/// Counts an answered challenge: whether what came proved anything, and how many bytes were read to tell.
pub fn challenge_answered(is_right: bool, bytes: u64) {
    let outcome = if is_right { "right" } else { "wrong" };
    counter!("hapax_claims_proofs_total", "outcome" => outcome).increment(1);
    counter!("hapax_claims_bytes_read_total").increment(bytes);
}

/// Counts a run of a background job.
pub fn job_ended(job: &'static str, failed: bool) {
    let outcome = if failed { "failed" } else { "done" };
    counter!("hapax_job_runs_total", "job" => job, "outcome" => outcome).increment(1);
}

/// Counts bytes that a background job reads.
pub fn job_read(job: &'static str, bytes: u64) {
    counter!("hapax_job_bytes_read_total", "job" => job).increment(bytes);
}

/// Tells how many contents are damaged.
pub fn damaged(contents: u64) {
    gauge!("hapax_damaged_contents").set(u32::try_from(contents).map_or(f64::INFINITY, f64::from));
}

/// Counts a refused password or token.
pub fn credentials_refused() {
    counter!("hapax_credentials_refused_total").increment(1);
}

/// One open connection, for as long as the value lives.
#[derive(Debug)]
pub struct OpenConnection(());

impl OpenConnection {
    /// Counts a connection in.
    pub fn count() -> Self {
        counter!("hapax_connections_total").increment(1);
        gauge!("hapax_connections_open").increment(1);
        Self(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!("hapax_connections_open").decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn no_answer_takes_memory_until_somebody_looks() {
        const ANSWERS: u32 = 2_000_000;
        let resident_pages = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
        };
        let _metrics = Metrics::of_process();
        measured("another-route-of-this-test", Duration::ZERO);
        let before = resident_pages();
        for _ in 0..ANSWERS {
            measured("another-route-of-this-test", Duration::ZERO);
        }
        // A number for each answer would be 16 MB; other tests may run besides.
        let grown = resident_pages().saturating_sub(before) * 4_096;
        assert!(grown < u64::from(ANSWERS) * 8 / 2, "{grown} bytes");
    }

    #[test]
    fn what_was_counted_is_rendered() {
        let metrics = Metrics::of_process();
        request_answered("a-route-of-this-test", StatusCode::NOT_FOUND, Duration::from_millis(3));
        let text = metrics.render();
        assert!(
            text.contains(r#"hapax_requests_total{route="a-route-of-this-test",status="404"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"hapax_request_seconds_bucket{route="a-route-of-this-test",le="0.005"} 1"#),
            "{text}"
        );
    }

    #[test]
    fn a_duration_lies_in_each_bucket_that_reaches_it() {
        let route = "a-route-with-durations";
        for millis in [0, 1, 2, 60_000, 700_000] {
            measured(route, Duration::from_millis(millis));
        }
        let mut text = String::new();
        render_durations(&mut text).unwrap();
        assert!(text.starts_with("# TYPE hapax_request_seconds histogram\n"), "{text}");
        let ours: Vec<_> = text.lines().filter(|line| line.contains(route)).collect();
        let told: Vec<_> = ours.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(told, ["2", "3", "3", "3", "3", "3", "3", "4", "4", "5", "760.003", "5"], "{text}");
        assert!(ours[7].contains(r#"le="60""#) && ours[9].contains(r#"le="+Inf""#), "{text}");
    }
}
