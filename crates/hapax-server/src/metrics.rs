//! What is counted and measured, and how `/metrics` spells it. Owns every name of a metric; it never decides
//! anything, and no label carries a path, a name or an id, so that the number of series is bounded.

use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// The upper ends of the buckets of request durations, in seconds.
const DURATION_BUCKETS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0];

/// The numbers of this process.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Returns the numbers of this process, which begin with the first call.
    ///
    /// The recorder of the `metrics` crate is global; a program that installed its own keeps it, and `/metrics`
    /// is empty then.
    pub fn of_process() -> Self {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_buckets(DURATION_BUCKETS)
                .expect("the list of buckets is not empty")
                .build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("the program records its own metrics; /metrics stays empty");
            }
            handle
        });
        Self { handle: handle.clone() }
    }

    /// Writes every number in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }
}

/// Counts an answered request. `route` is a name of the route table.
pub fn request_answered(route: &'static str, status: StatusCode, took: Duration) {
    counter!("hapax_requests_total", "route" => route, "status" => status.as_str().to_owned()).increment(1);
    histogram!("hapax_request_seconds", "route" => route).record(took);
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
}
