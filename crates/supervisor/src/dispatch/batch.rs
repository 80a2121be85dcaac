//! Batches: how many tasks, and which items with which environments.
//!
//! A session's first batch is one task; then as many as fit the target time by what its tasks took so far, at most
//! four times the last batch, and never more than a fair part of what is left. Nobody's estimate is binding: a batch
//! ends at its not-after, and what of it has not started comes back.

use super::jobs::Job;
use crate::authn::Secret;
use crate::identity::UserSettings;
use job::{FILES_MARKER, JobError, Resolved, ResolvedEnvironment};
use store::Lease;
use warrant::{Batch, File, Item, ItemKind, TaskRef};

/// In the session's own folder, which only its account can enter.
const TOKEN_FILE: &str = "token";
/// Most tasks of a batch.
const TASKS_MAX: u64 = 1024;
/// About the most bytes of a batch.
const BYTES_TARGET: u64 = 1 << 20;
/// What a batch's items may have together; the rest of a batch fits beside it.
pub(crate) const BYTES_MAX: u64 = (warrant::batch::BATCH_MAX - (8 << 20)) as u64;
/// What a task costs besides itself.
const OVERHEAD_US: u64 = 300;
/// How long a batch may start items after it was signed.
const NOT_AFTER_MS: u64 = 30_000;

/// How long a batch may start items, in ms, when the right to them ends at `ends`. What has not begun then comes back.
pub(crate) fn starts_within(ends: Option<i64>, now: i64) -> u64 {
    within(NOT_AFTER_MS, ends, now)
}

/// So many ms, or what is left until `ends`.
pub(crate) fn within(ms: u64, ends: Option<i64>, now: i64) -> u64 {
    let left = ends.map(|ends| u64::try_from(ends.saturating_sub(now) / 1000).unwrap_or_default());
    left.map_or(ms, |left| left.min(ms))
}

/// What a session's tasks took so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pace {
    tasks: u64,
    took_us: u64,
    bytes: u64,
    built: u64,
    last: u64,
}

impl Pace {
    /// So many tasks ended that took so long together.
    pub(crate) fn ended(&mut self, tasks: u64, took_us: u64) {
        // Later tasks count more: old ones fade.
        if self.tasks > 4096 {
            self.tasks /= 2;
            self.took_us /= 2;
        }
        self.tasks += tasks;
        self.took_us = self.took_us.saturating_add(took_us);
    }

    fn mean_us(&self) -> Option<u64> {
        (self.tasks > 0).then(|| (self.took_us / self.tasks).saturating_add(OVERHEAD_US))
    }

    /// Tasks are short enough that the next batch should wait in the session.
    pub(crate) fn is_short(&self, target_ms: u64) -> bool {
        self.mean_us().is_some_and(|mean| mean < target_ms.saturating_mul(1000))
    }

    /// How many tasks to claim now, when so many wait in the step for so many sessions.
    pub(crate) fn next(&self, target_ms: u64, waiting: u64, sessions: u64) -> u64 {
        let Some(mean) = self.mean_us() else { return 1 };
        let by_time = target_ms.saturating_mul(1000) / mean.max(1);
        let by_bytes = self.bytes.checked_div(self.built).map_or(1, |mean| BYTES_TARGET / mean.max(1));
        let fair = waiting.div_ceil(sessions.max(1) * 2);
        by_time.min(by_bytes).min(fair).min(self.last.max(1) * 4).clamp(1, TASKS_MAX)
    }
}

/// What is entered in a session, outermost first.
#[derive(Debug, Default, Clone)]
pub(crate) struct Entered(Vec<ResolvedEnvironment>);

impl Entered {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|e| e.exit.is_none())
    }

    /// Items that leave everything.
    pub(crate) fn leave(&mut self) -> Vec<Item> {
        self.move_to(Vec::new())
    }

    /// Items that lead from these environments to those of a step: what both begin with stays.
    fn move_to(&mut self, wanted: Vec<ResolvedEnvironment>) -> Vec<Item> {
        let common = self.0.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
        let mut items: Vec<Item> = self.0.split_off(common).into_iter().rev().filter_map(exit).collect();
        items.extend(wanted[common..].iter().filter_map(enter));
        self.0 = wanted;
        items
    }
}

/// An environment that has only an exit is entered all the same: the exit belongs to entered ones.
fn enter(environment: &ResolvedEnvironment) -> Option<Item> {
    let kind = ItemKind::Enter { name: environment.name.clone() };
    match (&environment.enter, &environment.exit) {
        (Some(action), _) => Some(item(kind, action.clone())),
        (None, Some(_)) => Some(item(kind, Resolved { argv: vec![b"true".to_vec()], ..Resolved::default() })),
        (None, None) => None,
    }
}

fn exit(environment: ResolvedEnvironment) -> Option<Item> {
    let kind = ItemKind::Exit { name: environment.name };
    environment.exit.map(|action| item(kind, action))
}

fn item(kind: ItemKind, action: Resolved) -> Item {
    Item {
        kind,
        argv: action.argv,
        env: action.env,
        files: action.files,
        timeout_ms: action.timeout_ms,
        grace_ms: action.grace_ms,
    }
}

/// Whether something has to be left after this step.
pub(crate) fn has_exits(job: &Job, step: u32) -> bool {
    job.plan.environments(step).iter().any(|e| e.exit.is_some())
}

/// Exits of all environments of these steps, those of the latest step first, of the job itself last.
pub(crate) fn exits(job: &Job, steps: &[u32]) -> Vec<Item> {
    leave_all(steps.iter().map(|step| job.plan.environments(*step)))
}

fn leave_all(steps: impl Iterator<Item = Vec<ResolvedEnvironment>>) -> Vec<Item> {
    let mut all: Vec<ResolvedEnvironment> = Vec::new();
    for environment in steps.flatten() {
        if !all.contains(&environment) {
            all.push(environment);
        }
    }
    all.into_iter().rev().filter_map(exit).collect()
}

/// The items of a lease, with the change of environments in front; and what of the lease is for a batch of its own,
/// because tasks are larger than those before them.
pub(crate) fn items(
    job: &Job,
    lease: &Lease,
    entered: &mut Entered,
    pace: &mut Pace,
) -> Result<(Vec<Item>, Option<Lease>), JobError> {
    let (mut tasks, mut bytes, mut rest) = (Vec::new(), 0, None);
    for index in lease.first..=lease.last {
        if bytes >= BYTES_TARGET {
            rest = Some(Lease { first: index, ..*lease });
            break;
        }
        let task = TaskRef { step: lease.step, index, epoch: lease.epoch };
        let item = item(ItemKind::Task(task), job.plan.task(lease.step, index)?);
        bytes += size(&item);
        tasks.push(item);
    }
    pace.last = tasks.len() as u64;
    pace.built += pace.last;
    pace.bytes += bytes;
    let mut items = entered.move_to(job.plan.environments(lease.step));
    items.append(&mut tasks);
    Ok((items, rest))
}

/// Bytes of items as they travel, with room for what stands around their parts.
pub(crate) fn total(items: &[Item]) -> u64 {
    const AROUND: usize = 64;
    let parts = |i: &Item| 1 + i.argv.len() + i.env.len() + i.files.len();
    items.iter().map(|item| size(item) + (parts(item) * AROUND) as u64).sum()
}

fn size(item: &Item) -> u64 {
    let bytes = item.argv.iter().map(Vec::len).sum::<usize>()
        + item.env.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()
        + item.files.iter().map(|f| f.path.len() + f.data.len()).sum::<usize>();
    bytes as u64
}

/// A batch of `job` for a session, with what its user carries.
pub(crate) fn batch(
    farm: [u8; 16],
    session: u64,
    sequence: u64,
    job: &Job,
    settings: &UserSettings,
    not_after: u64,
    items: Vec<Item>,
) -> Batch {
    Batch {
        farm,
        session,
        sequence,
        job: job.id,
        not_after,
        env: settings.environment(&job.spec),
        cwd: settings.cwd(&job.spec),
        files: Vec::new(),
        items,
    }
}

/// Says where the session finds its token and whom to show it; with a fresh one, brings it. Only its file's name is in
/// the environment.
pub(crate) fn hand_token(batch: &mut Batch, url: &str, fresh: Option<Secret>) {
    let says = |name: &str, value: String| (name.as_bytes().to_vec(), value.into_bytes());
    batch.env.push(says("STEAD_TOKEN_FILE", format!("{FILES_MARKER}/{TOKEN_FILE}")));
    batch.env.push(says("STEAD_URL", url.to_owned()));
    if let Some(secret) = fresh {
        let data = secret.reveal().as_bytes().to_vec();
        batch.files.push(File { path: TOKEN_FILE.as_bytes().to_vec(), data, executable: false });
    }
}

/// By how much its processes give way to others of the host. Taking more than others is root's alone, and nobody is root.
pub(crate) fn hand_nice(batch: &mut Batch, nice: i8) {
    if nice > 0 {
        batch.env.push((b"STEAD_NICE".to_vec(), nice.to_string().into_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_worker_takes_is_known_before_it_is_sent() {
        let file = |size| warrant::File { path: b"f".to_vec(), data: vec![0; size], executable: false };
        let item = |size| {
            item(ItemKind::Enter { name: "e".into() }, Resolved { files: vec![file(size)], ..Resolved::default() })
        };
        assert!(total(&[item(16 << 20), item(16 << 20)]) <= BYTES_MAX);
        assert!(total(&vec![item(8 << 20); 7]) > BYTES_MAX);
        assert!(BYTES_MAX < warrant::batch::BATCH_MAX as u64 && warrant::batch::BATCH_MAX < wire::FRAME_MAX);
    }

    #[test]
    fn nothing_of_a_batch_begins_after_the_end_of_the_right_to_it() {
        let within = |ends: Option<i64>| starts_within(ends, 5_000_000);
        assert_eq!((within(None), within(Some(i64::MAX))), (NOT_AFTER_MS, NOT_AFTER_MS));
        assert_eq!(within(Some(7_000_999)), 2000);
        assert_eq!((within(Some(5_000_999)), within(Some(5_000_000)), within(Some(i64::MIN))), (0, 0, 0));
    }

    #[test]
    fn batches_grow_to_the_target_and_stay_fair() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(1000, 1_000_000, 2), 1, "nothing is known yet");
        pace.ended(1, 700);
        (pace.last, pace.built, pace.bytes) = (1, 1, 20);
        assert_eq!(pace.next(1000, 1_000_000, 2), 4, "four times the last");
        pace.last = 1000;
        assert_eq!(pace.next(1000, 1_000_000, 2), 1000, "a second at 1 ms each");
        assert_eq!(pace.next(1000, 40, 2), 10, "a fair part of what is left");
        assert_eq!(pace.next(1000, 0, 0), 1, "never nothing");
        pace.bytes = 1 << 17;
        assert_eq!(pace.next(1000, 1_000_000, 2), 8, "a mebibyte at most");
        let mut slow = Pace::default();
        slow.ended(2, 10_000_000);
        slow.built = 1;
        assert_eq!(slow.next(1000, 1_000_000, 1), 1);
        assert!(pace.is_short(1000) && !slow.is_short(1000) && !Pace::default().is_short(1000));
    }

    fn environment(name: &str, enter: bool, exit: bool) -> ResolvedEnvironment {
        let action = |word: &str| Resolved { argv: vec![word.into()], ..Resolved::default() };
        ResolvedEnvironment {
            name: name.to_owned(),
            enter: enter.then(|| action("in")),
            exit: exit.then(|| action("out")),
            variables: Vec::new(),
        }
    }

    fn kinds(items: &[Item]) -> Vec<String> {
        items
            .iter()
            .map(|i| match &i.kind {
                ItemKind::Enter { name } => format!("+{name} {}", String::from_utf8_lossy(&i.argv[0])),
                ItemKind::Exit { name } => format!("-{name}"),
                ItemKind::Task(t) => format!("{}", t.index),
            })
            .collect()
    }

    #[test]
    fn from_step_to_step_only_what_differs_is_left_and_entered() {
        let (job, a, b) =
            (environment("job", true, true), environment("a", false, true), environment("b", true, false));
        let mut entered = Entered::default();
        assert_eq!(kinds(&entered.move_to(vec![job.clone(), a.clone()])), ["+job in", "+a true"]);
        assert_eq!(kinds(&entered.move_to(vec![job.clone(), a])), [""; 0]);
        assert_eq!(kinds(&entered.move_to(vec![job, b])), ["-a", "+b in"]);
        assert!(!entered.is_empty());
        assert_eq!(kinds(&entered.leave()), ["-job"]);
        assert!(entered.is_empty());
    }

    #[test]
    fn what_may_be_entered_is_left_from_the_inside_out() {
        let (job, a, b) =
            (environment("job", true, true), environment("a", false, true), environment("b", true, false));
        let c = environment("c", true, true);
        let steps = [vec![job.clone(), a], vec![job.clone(), b], vec![job, c]];
        assert_eq!(kinds(&leave_all(steps.into_iter())), ["-c", "-a", "-job"]);
    }
}
