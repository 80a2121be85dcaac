//! A store of its own for each test, and short words for what farms do.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;

use job::{Counts, JobState};
use store::{
    After, JobRow, Lease, NewJob, NewSession, NewStep, Options, Purpose, Reported, Store, TaskFilter, TaskRow,
};
use wire::{Account, End, Report, SessionEnd, Task};

pub(crate) const T0: i64 = 1_700_000_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const WORKER: &str = "w1";

/// The engine under test; a second one needs another `fresh`.
pub(crate) struct Farm {
    pub(crate) store: Store,
    pub(crate) dir: tempfile::TempDir,
}

impl Farm {
    pub(crate) async fn fresh() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open_with(&dir.path().join("store.db"), options).await.expect("a new store");
        Self { store, dir }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    pub(crate) async fn submit(&self, tasks: u64) -> u64 {
        self.store.submit(job(&[tasks]), T0).await.expect("submitted")
    }

    pub(crate) async fn job(&self, id: u64) -> JobRow {
        self.store.job(id).await.expect("readable").expect("there")
    }

    pub(crate) async fn state(&self, id: u64) -> JobState {
        self.job(id).await.state
    }

    /// A session with up to `max` tasks of step 0.
    pub(crate) async fn open(&self, job: u64, max: u64) -> (u64, Lease) {
        self.try_open(job, 0, max, T0).await.expect("work is ready")
    }

    pub(crate) async fn try_open(&self, job: u64, step: u32, max: u64, now: i64) -> Option<(u64, Lease)> {
        self.store.open_session(session(job), step, max, now).await.expect("opened or not")
    }

    /// Reports from the first one on.
    pub(crate) async fn report(&self, session: u64, reports: Vec<Report>) -> Reported {
        self.report_at(session, 1, reports, T0 + SECOND).await
    }

    pub(crate) async fn report_at(&self, session: u64, first: u64, reports: Vec<Report>, now: i64) -> Reported {
        self.store.report(session, WORKER, first, reports, now).await.expect("reported")
    }

    pub(crate) async fn tasks(&self, job: u64) -> Vec<TaskRow> {
        let all = TaskFilter { limit: 1_000_000, ..TaskFilter::default() };
        self.store.tasks(job, all).await.expect("tasks")
    }

    pub(crate) async fn task(&self, job: u64, index: u64) -> TaskRow {
        let one = TaskFilter { first: index, limit: 1, ..TaskFilter::default() };
        self.store.tasks(job, one).await.expect("tasks").remove(0)
    }

    /// Every task is in exactly one place, and the counters are what a count of the places gives.
    pub(crate) async fn check(&self, id: u64) {
        let job = self.job(id).await;
        let steps = self.store.steps(id).await.expect("steps");
        let tasks = self.tasks(id).await;
        let mut sum = Counts::default();
        for step in &steps {
            let mine: Vec<&TaskRow> = tasks.iter().filter(|t| t.step == step.step).collect();
            let indices: Vec<u64> = mine.iter().map(|t| t.index).collect();
            assert_eq!(indices, (0..step.tasks).collect::<Vec<_>>(), "each task of step {} once", step.step);
            let mut counted = Counts { total: step.tasks, ..Counts::default() };
            for task in mine {
                *counted.get_mut(task.state) += 1;
            }
            assert_eq!(step.counts, counted, "counters of step {}", step.step);
            sum = sum.plus(&counted);
        }
        assert_eq!(job.counts, sum, "counters of the job");
        assert_eq!(job.ended_at.is_some(), job.state.is_over() && job.counts.running == 0, "{job:?}");
    }
}

pub(crate) fn job(steps: &[u64]) -> NewJob {
    NewJob {
        name: "render".into(),
        login_user: "ada".into(),
        user: "ada".into(),
        spec: "{}".into(),
        steps: steps
            .iter()
            .map(|n| NewStep { name: format!("s{n}"), tasks: *n, needs: format!("{n} cores"), ..NewStep::default() })
            .collect(),
        ..NewJob::default()
    }
}

/// Steps in a chain: each waits for the one before.
pub(crate) fn chain(steps: &[u64]) -> NewJob {
    let mut job = job(steps);
    for (index, step) in (0_u32..).zip(&mut job.steps) {
        step.name = format!("step{index}");
        step.depends_on = index.checked_sub(1).into_iter().collect();
    }
    job
}

pub(crate) fn after(job: NewJob, on: u64, any_end: bool) -> NewJob {
    NewJob { after: vec![After { job: on, any_end }], ..job }
}

pub(crate) fn session(job: u64) -> NewSession {
    NewSession {
        job,
        worker: WORKER.into(),
        incarnation: "00".into(),
        mode: "user".into(),
        login_user: "ada".into(),
        user: "ada".into(),
        account: "ada".into(),
        grant: None,
        policy_version: "ab".into(),
        decision: "{}".into(),
        purpose: Purpose::Run,
        lease_until: T0 + 60 * SECOND,
    }
}

pub(crate) fn account() -> Account {
    Account { name: "ada".into(), uid: 1001, gid: 1001, groups: vec![1001, 2001] }
}

pub(crate) fn started() -> Report {
    Report::Started { run_as: account(), proof: Some("beef".into()), at_us: us(T0) }
}

pub(crate) fn begun(lease: &Lease, index: u64) -> Report {
    Report::TaskStarted { task: task(lease, index), at_us: us(T0) }
}

pub(crate) fn ended(lease: &Lease, index: u64, end: End) -> Report {
    Report::TaskEnded {
        task: task(lease, index),
        end,
        started_us: us(T0) + index,
        ended_us: us(T0) + index + 500,
        cpu_us: 400,
        max_rss: 1 << 20,
    }
}

pub(crate) fn exit(lease: &Lease, index: u64, code: u8) -> Report {
    ended(lease, index, End::Exited { code })
}

pub(crate) fn complete(lease: &Lease) -> Vec<Report> {
    (lease.first..=lease.last).map(|index| exit(lease, index, 0)).collect()
}

pub(crate) fn over(end: SessionEnd) -> Report {
    Report::Ended { end, text: String::new(), cpu_us: 7, max_rss: 9, proof: None }
}

pub(crate) fn refused(kind: &str) -> Report {
    Report::Refused {
        kind: kind.into(),
        stage: "setgroups".into(),
        errno: 1,
        text: "no".into(),
        hint: "ask".into(),
        proof: None,
    }
}

pub(crate) fn task(lease: &Lease, index: u64) -> Task {
    Task { step: lease.step, index, epoch: lease.epoch }
}

pub(crate) fn us(time: i64) -> u64 {
    time.unsigned_abs()
}
