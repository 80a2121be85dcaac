//! Prints how fast the store is here (`--nocapture`); asserts only that all was stored.

mod common;

use std::time::{Duration, Instant};

use common::*;
use store::JobFilter;

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn tell(what: &str, n: u64, took: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = n as f64 / took.as_secs_f64();
    println!("{what}: {n} in {took:.2?} = {rate:.0}/s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates() {
    let farm = Farm::fresh().await;
    one_by_one(&farm).await;
    many_at_once(&farm).await;
    for (sessions, group, rounds) in [(16, 100, 20), (16, 1000, 5), (64, 10, 20)] {
        completions(&farm, sessions, group, rounds).await;
    }
}

async fn one_by_one(farm: &Farm) {
    let began = Instant::now();
    for _ in 0..100 {
        farm.submit(1_000_000).await;
    }
    tell("jobs of 1,000,000 tasks, one after another", 100, began.elapsed());
}

async fn many_at_once(farm: &Farm) {
    let began = Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..2000 {
        let store = farm.store.clone();
        all.spawn(async move { store.submit(job(&[10]), T0).await.expect("job") });
    }
    all.join_all().await;
    tell("jobs, 2,000 at once", 2000, began.elapsed());
    assert_eq!(farm.store.jobs(JobFilter { limit: 10_000, ..JobFilter::default() }).await.expect("jobs").len(), 2100);
}

async fn completions(farm: &Farm, sessions: u64, group: u64, rounds: u64) {
    let tasks = sessions * group * rounds;
    let id = farm.submit(tasks).await;
    let began = Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..sessions {
        let store = farm.store.clone();
        all.spawn(async move {
            let opened = store.open_session(session(id), 0, group, T0).await.expect("opened");
            let Some((id, lease)) = opened else { return };
            let (mut next, mut through) = (Some(lease), 0);
            while let Some(lease) = next {
                through = store.report(id, WORKER, through + 1, complete(&lease), T0).await.expect("reported").through;
                next = store.claim(id, 0, group, T0).await.expect("claimed");
            }
        });
    }
    all.join_all().await;
    tell(&format!("tasks, {sessions} sessions, {group} to a report, with their claims"), tasks, began.elapsed());
    assert_eq!(farm.job(id).await.counts.complete, tasks);
}
