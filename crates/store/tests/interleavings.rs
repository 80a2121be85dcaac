//! Whatever order things happen in: no task is lost, none is in two places, and each completes at most once.

mod common;

use std::collections::{BTreeMap, VecDeque};

use common::*;
use job::{AttemptState, JobAction, JobState, TaskState};
use proptest::prelude::*;
use store::{Lease, NewJob, StoreError, TaskFilter};
use wire::{End, Report, SessionEnd};

/// What happens next; numbers pick among what there is.
#[derive(Debug, Clone)]
enum Event {
    Open {
        step: u32,
        max: u64,
    },
    Claim {
        session: usize,
        step: u32,
        max: u64,
    },
    /// The session runs its next task.
    Run {
        session: usize,
        end: u8,
    },
    Begin {
        session: usize,
    },
    Recall {
        session: usize,
        tasks: usize,
    },
    End {
        session: usize,
        end: u8,
    },
    Refuse {
        session: usize,
        kind: u8,
    },
    /// Some of the session's reports come to the store, perhaps not for the first time.
    Send {
        session: usize,
        from: usize,
        len: usize,
    },
    Lose {
        session: usize,
    },
    Act {
        action: usize,
    },
    ActOnTask {
        step: u32,
        index: u64,
        action: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let session = || 0..6_usize;
    prop_oneof![
        4 => (0..3_u32, 1..5_u64).prop_map(|(step, max)| Event::Open { step, max }),
        2 => (session(), 0..3_u32, 1..5_u64).prop_map(|(session, step, max)| Event::Claim { session, step, max }),
        8 => (session(), 0..8_u8).prop_map(|(session, end)| Event::Run { session, end }),
        1 => session().prop_map(|session| Event::Begin { session }),
        1 => (session(), 1..4_usize).prop_map(|(session, tasks)| Event::Recall { session, tasks }),
        2 => (session(), 0..6_u8).prop_map(|(session, end)| Event::End { session, end }),
        1 => (session(), 0..4_u8).prop_map(|(session, kind)| Event::Refuse { session, kind }),
        10 => (session(), 0..12_usize, 1..12_usize).prop_map(|(session, from, len)| Event::Send { session, from, len }),
        1 => session().prop_map(|session| Event::Lose { session }),
        2 => (0..JobAction::ALL.len()).prop_map(|action| Event::Act { action }),
        2 => (0..3_u32, 0..5_u64, 0..JobAction::ALL.len())
            .prop_map(|(step, index, action)| Event::ActOnTask { step, index, action }),
    ]
}

/// A session as its worker sees it: it knows what it was given, not what the store thinks by now.
#[derive(Debug)]
struct Sess {
    id: u64,
    todo: VecDeque<(Lease, u64)>,
    reports: Vec<Report>,
    over: bool,
}

struct World {
    farm: Farm,
    job: u64,
    now: i64,
    sessions: Vec<Sess>,
    epochs: BTreeMap<(u32, u64), u32>,
}

const STEPS: [u64; 3] = [5, 3, 2];

impl World {
    async fn new() -> Self {
        let farm = Farm::fresh().await;
        let mut new = NewJob { retries: 1, ..job(&STEPS) };
        new.steps[2].depends_on = vec![0];
        let job = farm.store.submit(new, T0).await.expect("job");
        Self { farm, job, now: T0, sessions: Vec::new(), epochs: BTreeMap::new() }
    }

    fn pick(&mut self, n: usize) -> Option<&mut Sess> {
        let len = self.sessions.len();
        // The youngest ones: the others have mostly ended.
        self.sessions.iter_mut().rev().nth(n % len.max(1))
    }

    async fn happen(&mut self, event: Event) {
        // Longer than any back-off, shorter than the deadline of a session.
        self.now += 61 * SECOND;
        match event {
            Event::Open { step, max } => self.open(step, max).await,
            Event::Claim { session, step, max } => self.claim(session, step, max).await,
            Event::Run { session, end } => {
                let Some(sess) = self.pick(session).filter(|s| !s.over) else { return };
                let Some((lease, index)) = sess.todo.pop_front() else { return };
                sess.reports.push(begun(&lease, index));
                sess.reports.push(ended(&lease, index, task_end(end)));
            }
            Event::Begin { session } => {
                let Some(sess) = self.pick(session).filter(|s| !s.over) else { return };
                if let Some((lease, index)) = sess.todo.front() {
                    sess.reports.push(begun(lease, *index));
                }
            }
            Event::Recall { session, tasks } => {
                let Some(sess) = self.pick(session).filter(|s| !s.over) else { return };
                let keep = sess.todo.len().saturating_sub(tasks);
                let tasks = sess.todo.drain(keep..).map(|(lease, index)| task(&lease, index)).collect();
                sess.reports.push(Report::Recalled { tasks, answers: 0 });
            }
            Event::End { session, end } => {
                let Some(sess) = self.pick(session).filter(|s| !s.over) else { return };
                sess.reports.push(over(session_end(end)));
                sess.over = true;
            }
            Event::Refuse { session, kind } => {
                let Some(sess) = self.pick(session).filter(|s| s.reports.len() == 1) else { return };
                let kind = ["account", "transient", "stage", "warrant"][usize::from(kind)];
                sess.reports = vec![refused(kind)];
                sess.over = true;
            }
            Event::Send { session, from, len } => self.send(session, from, len).await,
            Event::Lose { session } => {
                let Some(id) = self.pick(session).map(|s| s.id) else { return };
                self.farm.store.session_lost(id, "gone".into(), self.now).await.expect("lost");
            }
            Event::Act { action } => {
                let done = self.farm.store.act(self.job, JobAction::ALL[action], None, None, self.now).await;
                assert!(matches!(done, Ok(_) | Err(StoreError::NotPossible(_))), "{done:?}");
            }
            Event::ActOnTask { step, index, action } => {
                let tasks = vec![(step, index % STEPS[step as usize])];
                let action = JobAction::ALL[action];
                let done = self.farm.store.act_on_tasks(self.job, tasks, action, None, None, self.now).await;
                assert!(matches!(done, Ok(_) | Err(StoreError::NotPossible(_))), "{done:?}");
            }
        }
    }

    async fn open(&mut self, step: u32, max: u64) {
        if let Some((id, lease)) = self.farm.try_open(self.job, step, max, self.now).await {
            let todo = (lease.first..=lease.last).map(|index| (lease, index)).collect();
            self.sessions.push(Sess { id, todo, reports: vec![started()], over: false });
        }
    }

    async fn claim(&mut self, session: usize, step: u32, max: u64) {
        let Some(id) = self.pick(session).filter(|s| !s.over).map(|s| s.id) else { return };
        let lease = self.farm.store.claim(id, step, max, self.now).await.expect("claimed or not");
        if let (Some(lease), Some(sess)) = (lease, self.pick(session)) {
            sess.todo.extend((lease.first..=lease.last).map(|index| (lease, index)));
        }
    }

    async fn send(&mut self, session: usize, from: usize, len: usize) {
        let now = self.now;
        let Some(sess) = self.pick(session) else { return };
        let from = from % sess.reports.len();
        let part: Vec<Report> = sess.reports.iter().skip(from).take(len).cloned().collect();
        let (id, number) = (sess.id, from as u64 + 1);
        self.farm.report_at(id, number, part, now).await;
    }

    async fn check(&mut self) {
        self.farm.check(self.job).await;
        let all = TaskFilter { limit: 1000, ..TaskFilter::default() };
        for row in self.farm.store.attempts_page(self.job, all).await.expect("page") {
            let task = &row.task;
            let epoch = self.epochs.entry((task.step, task.index)).or_default();
            assert!(task.epoch >= *epoch, "the epoch went back: {task:?}");
            *epoch = task.epoch;
            let mut epochs: Vec<u32> = row.attempts.iter().map(|a| a.attempt).collect();
            epochs.dedup();
            assert_eq!(epochs.len(), row.attempts.len(), "two attempts under one epoch: {row:?}");
            assert!(epochs.iter().all(|e| *e <= task.epoch), "an attempt of an epoch to come: {row:?}");
            let now = row.attempts.last().filter(|a| a.attempt == task.epoch).map(|a| a.state);
            assert_eq!(task.state == TaskState::Complete, now == Some(AttemptState::Complete), "{row:?}");
        }
    }

    /// From anywhere a job can be brought to its end: nothing was lost on the way.
    async fn bring_to_its_end(&mut self) {
        for sess in std::mem::take(&mut self.sessions) {
            self.farm.store.session_lost(sess.id, "gone".into(), self.now).await.expect("lost");
        }
        for _ in 0..20 {
            for action in [JobAction::Resume, JobAction::Unblock, JobAction::Retry] {
                let _ = self.farm.store.act(self.job, action, None, None, self.now).await;
            }
            for row in self.farm.tasks(self.job).await {
                let action = if row.state == TaskState::Blocked { JobAction::Unblock } else { JobAction::Retry };
                if matches!(row.state, TaskState::Blocked | TaskState::Failed | TaskState::Killed) {
                    let tasks = vec![(row.step, row.index)];
                    let _ = self.farm.store.act_on_tasks(self.job, tasks, action, None, None, self.now).await;
                }
            }
            self.check().await;
            for ready in self.farm.store.ready(10, self.now + 100 * SECOND).await.expect("ready") {
                self.now += 61 * SECOND;
                while let Some((id, lease)) = self.farm.try_open(self.job, ready.step, 9, self.now).await {
                    self.farm.report_at(id, 1, complete(&lease), self.now).await;
                }
            }
            self.check().await;
            if self.farm.state(self.job).await == JobState::Complete {
                break;
            }
        }
        assert_eq!(self.farm.state(self.job).await, JobState::Complete, "{:#?}", self.farm.tasks(self.job).await);
        assert_eq!(self.farm.job(self.job).await.counts.complete, STEPS.iter().sum::<u64>());
    }
}

fn task_end(n: u8) -> End {
    match n {
        5 => End::Exited { code: 1 },
        6 => End::Cancelled,
        7 => End::TimedOut,
        _ => End::Exited { code: 0 },
    }
}

fn session_end(n: u8) -> SessionEnd {
    match n {
        0 => SessionEnd::Signalled,
        1 => SessionEnd::OutOfMemory,
        2 => SessionEnd::LeaseExpired,
        3 => SessionEnd::Killed,
        4 => SessionEnd::Lost,
        _ => SessionEnd::Left,
    }
}

/// `PROPTEST_CASES` for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_keeps_the_promises(events in prop::collection::vec(event(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new().await;
            for event in events {
                world.happen(event).await;
                world.check().await;
            }
            world.bring_to_its_end().await;
        });
    }
}
