//! Background jobs: when each runs, at which pace, and that a shutdown ends it. What a job does is the store's matter;
//! none of them is ever on the path of an answer.
//!
//! ```text
//!   wake-up: the start, a clock, or something that was stored ──> a blocking thread ──> the store's job
//!                                                                  └── before each step: pacer, or the end
//! ```

use std::error::Error;
use std::fmt::Debug;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use hapax_store::clock::Timestamp;
use hapax_store::error::StoreError;
use hapax_store::job::{Go, Pace};
use hapax_store::store::Store;
use hapax_store::sweep::Keep;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout_at};

use crate::app::{App, Phase};
use crate::metrics;
use crate::pace::{Job, Jobs, STEP_COST, decide_scrub_rate};

/// When the store is swept first, and how often then.
const SWEEP_DELAY: Duration = Duration::from_secs(5);
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);

/// How often all contents are looked at for digests, besides the new ones.
const LOOKUP_INTERVAL: Duration = Duration::from_hours(1);

/// When the store is compacted first, and how often then.
const COMPACT_DELAY: Duration = Duration::from_mins(10);
const COMPACT_INTERVAL: Duration = Duration::from_hours(1);

/// When it is looked first whether a scrub is due, and how long a failed one waits.
const SCRUB_DELAY: Duration = Duration::from_mins(1);

/// Which job.
pub(crate) type Which = fn(&Jobs) -> &Job;

/// Starts all background jobs. Dropping what is returned ends them: one that is at work stops before its next step.
pub(crate) fn start(app: &Arc<App>) -> JoinSet<()> {
    let mut jobs = JoinSet::new();
    jobs.spawn(sweep(Arc::clone(app)));
    jobs.spawn(identify(Arc::clone(app)));
    jobs.spawn(compute_lookups(Arc::clone(app)));
    jobs.spawn(heal(Arc::clone(app)));
    jobs.spawn(compact(Arc::clone(app)));
    jobs.spawn(scrub(Arc::clone(app)));
    jobs
}

/// Runs a job once, on a thread where it may block; `None` if it failed, which is logged and counted.
pub(crate) async fn run<T: Debug + Send + 'static>(
    app: &Arc<App>,
    which: Which,
    work: impl FnOnce(&Store, Pace<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Option<T> {
    let job = which(&app.jobs);
    job.begin();
    let paced = Arc::clone(app);
    let runtime = Handle::current();
    let done = spawn_blocking(move || {
        let go = |length| {
            let job = which(&paced.jobs);
            runtime.block_on(async {
                tokio::select! {
                    () = job.pacer.turn(length) => {}
                    () = paced.life.reached(Phase::Draining) => {}
                }
            });
            job.read(length);
            if paced.life.is_running() { Go::On } else { Go::Stop }
        };
        work(&paced.store, &go)
    });
    let done = match done.await {
        Ok(Ok(done)) => {
            tracing::debug!(job = job.name, ?done, "a job is done");
            Some(done)
        }
        Ok(Err(error)) => {
            tracing::warn!(job = job.name, error = &error as &dyn Error, "a job stopped");
            None
        }
        Err(error) => {
            tracing::error!(job = job.name, %error, "a job failed");
            None
        }
    };
    job.end(done.is_none());
    done
}

/// Sweeps the store now and then: soon after the start for what a crash left, then regularly for what ran out.
async fn sweep(app: Arc<App>) {
    sleep(SWEEP_DELAY).await;
    loop {
        let turn = app.housework.lock().await;
        run(&app, |jobs| &jobs.sweep, |store, go| store.sweep_at(Keep::Grace, go)).await;
        drop(turn);
        sleep(SWEEP_INTERVAL).await;
    }
}

/// Finds out what composed files are: at the start those that an earlier run left, then each as it is made.
async fn identify(app: Arc<App>) {
    loop {
        run(&app, |jobs| &jobs.identify, Store::identify_pending).await;
        app.store.composed().await;
    }
}

/// Hashes contents by the algorithms they are to be found by: at the start those that an earlier run left, then each as it
/// is made, and now and then whatever came back or could not be read.
async fn compute_lookups(app: Arc<App>) {
    let algorithms = app.config.claims.lookups.clone();
    while !algorithms.is_empty() {
        app.store.look_at_all_again();
        let next = Instant::now() + LOOKUP_INTERVAL;
        loop {
            let algorithms = algorithms.clone();
            run(&app, |jobs| &jobs.lookup, move |store, go| store.compute_lookups(&algorithms, go)).await;
            if timeout_at(next, app.store.unhashed()).await.is_err() {
                break;
            }
        }
    }
}

/// Compares the copies of contents that have several: at the start those of an earlier run, then as they come, or as one is
/// found damaged.
async fn heal(app: Arc<App>) {
    loop {
        let healed = run(
            &app,
            |jobs| &jobs.heal,
            |store, go| {
                let settled = store.heal(go)?;
                Ok((settled, store.damage()?.len()))
            },
        );
        tell_damage(healed.await.map(|(_, damaged)| damaged));
        app.store.ailing().await;
    }
}

/// Puts pieces together now and then.
async fn compact(app: Arc<App>) {
    sleep(COMPACT_DELAY).await;
    loop {
        run(&app, |jobs| &jobs.compact, Store::compact).await;
        sleep(COMPACT_INTERVAL).await;
    }
}

/// Reads and authenticates everything within the period, again and again; and whenever somebody waits for it, at once.
async fn scrub(app: Arc<App>) {
    let period = app.config.jobs.scrub_period;
    let mut pause = SCRUB_DELAY;
    loop {
        let is_hurried = tokio::select! {
            () = app.jobs.hurry.notified() => true,
            () = sleep(pause), if !period.is_zero() => false,
        };
        let store = Arc::clone(&app.store);
        let planned = spawn_blocking(move || plan_scrub(&store, period)).await;
        let Ok(Ok(plan)) = planned else {
            tracing::warn!("how far the scrub has come cannot be read");
            pause = SCRUB_DELAY;
            continue;
        };
        if let (Plan::Wait(wait), false) = (plan, is_hurried) {
            pause = wait.max(SCRUB_DELAY);
            continue;
        }
        app.jobs.scrub.pacer.set_rate(match plan {
            Plan::Now(rate) if !is_hurried => Some(rate),
            _ => None,
        });
        let scrubbed = run(
            &app,
            |jobs| &jobs.scrub,
            |store, go| {
                let ended = store.scrub(go)?;
                Ok((ended, store.damage()?.len()))
            },
        );
        tell_damage(scrubbed.await.map(|(_, damaged)| damaged));
        pause = SCRUB_DELAY;
    }
}

/// Has `/metrics` tell how many contents are damaged, at most as many as are listed.
fn tell_damage(damaged: Option<usize>) {
    if let Some(damaged) = damaged {
        metrics::damaged(damaged as u64);
    }
}

/// What is to be done about the scrub.
#[derive(Debug, Clone, Copy)]
enum Plan {
    /// To begin a pass, or go on with one, at this rate.
    Now(NonZero<u64>),
    /// To wait for so long.
    Wait(Duration),
}

/// Finds out when the next pass is due, or how fast the one that was begun goes on.
fn plan_scrub(store: &Store, period: Duration) -> Result<Plan, StoreError> {
    let now = store.now().steady;
    let progress = store.scrub_progress().unwrap_or_default();
    if let Some(pass) = progress.now {
        let end = Timestamp::from_millis(pass.started).after(period);
        let left = pass.total.saturating_sub(pass.bytes);
        return Ok(Plan::Now(decide_scrub_rate(left, end.since(now))));
    }
    let due = progress.last.map(|pass| Timestamp::from_millis(pass.started).after(period));
    if let Some(due) = due.filter(|due| *due > now) {
        return Ok(Plan::Wait(due.since(now)));
    }
    let stats = store.catalog().stats()?;
    // Small objects cost more than their bytes.
    let left = stats.stored.max(stats.objects.saturating_mul(STEP_COST));
    Ok(Plan::Now(decide_scrub_rate(left, period)))
}

#[cfg(test)]
mod tests {
    use hapax_proto::name::EntryPath;
    use hapax_store::catalog::{Expect, Meta};
    use hapax_store::clock::TestClock;
    use hapax_store::disk::RealDisk;
    use hapax_store::job::UNPACED;
    use hapax_store::key::MasterSource;
    use hapax_store::layout::Layout;
    use hapax_store::publish::Target;
    use hapax_store::store::Settings;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const LEAST: u64 = 1 << 20;

    #[track_caller]
    fn assert_now(store: &Store, rate: u64) {
        let plan = plan_scrub(store, DAY * 30).unwrap();
        assert!(matches!(plan, Plan::Now(planned) if planned.get() == rate), "{plan:?}");
    }

    #[test]
    fn a_pass_begins_a_period_after_the_one_before_and_goes_on_until_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::at(Timestamp::from_secs(1_790_000_000)));
        let held = Box::new(Arc::clone(&clock));
        let settings = Settings { watermark: false, ..Settings::default() };
        let (disk, layout) = (Arc::new(RealDisk), Layout::new(dir.path()));
        let store = Arc::new(Store::open(disk, &layout, &MasterSource::Own, held, settings).unwrap());
        assert_now(&store, LEAST);
        let user = store.create_user("ann".to_owned(), "$hash".to_owned(), false).unwrap();
        let space = store.catalog().user("ann").unwrap().unwrap().space;
        let path = EntryPath::parse("/a").unwrap();
        let target = Target { space, path, expect: Expect::Anything, meta: Meta::default() };
        let mut file = store.begin_file(user, target, None).unwrap();
        file.push(&vec![7; 100_000]).unwrap();
        file.publish(None).unwrap();
        // One that was stopped goes on, however long ago it was begun.
        assert_eq!(store.scrub(&|_| Go::Stop).unwrap(), Go::Stop);
        assert_now(&store, LEAST);
        clock.advance(DAY * 20);
        assert_now(&store, LEAST);
        assert_eq!(store.scrub(UNPACED).unwrap(), Go::On);
        // It began twenty days ago.
        let plan = plan_scrub(&store, DAY * 30).unwrap();
        assert!(matches!(plan, Plan::Wait(wait) if wait == DAY * 10), "{plan:?}");
        clock.advance(DAY * 10);
        assert_now(&store, LEAST);
    }
}
