//! Background work: what an operator sees of it, and that it stands in nobody's way.

use std::num::NonZero;
use std::time::Duration;

use hapax_server::admin::{JobStats, StoreStats};
use tokio::time::timeout;

use crate::files::noise;
use crate::server::Running;
use crate::wire::Client;

pub(crate) async fn stats(root: &Client) -> StoreStats {
    root.get("/api/v1/admin/stats").await.expect(200).read()
}

/// Asks until what a background job is to bring about is so.
pub(crate) async fn until(root: &Client, holds: impl Fn(&StoreStats) -> bool) -> StoreStats {
    let asking = async {
        loop {
            let stats = stats(root).await;
            if holds(&stats) {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_mins(1), asking).await.expect("a job does its work")
}

pub(crate) fn job<'a>(stats: &'a StoreStats, name: &str) -> &'a JobStats {
    stats.jobs.iter().find(|job| job.name == name).unwrap()
}

/// At its rate the job would take minutes: it waits for its turn when the server ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_for_its_turn_ends_with_the_server() {
    let slow = NonZero::new(64 << 10);
    let server = Running::start_with(|config| config.jobs.rate = slow).await;
    let bytes = noise(40 << 20);
    server.alice().send("PUT", "/files/a", &[], &bytes).await.expect(201);
    let root = server.root();
    let seen = until(&root, |stats| job(stats, "lookup").bytes > 0).await;
    assert!(job(&seen, "lookup").running && job(&seen, "lookup").bytes < bytes.len() as u64);
    assert_eq!((seen.unhashed, job(&seen, "lookup").failures), (1, 0));
    // Nobody else waits for it.
    assert!(server.alice().get("/files/a").await.expect(200).body == bytes);
    timeout(Duration::from_mins(1), server.end()).await.expect("it ends");
}
