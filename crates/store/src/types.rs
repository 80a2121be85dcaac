//! What goes into the store and what comes out. Times are µs since 1970, given by the caller.

use job::{AttemptState, Counts, JobState, TaskState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What [`crate::Store::submit`] keeps.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub name: String,
    pub login_user: String,
    pub user: String,
    pub priority: i32,
    /// How often a task that failed is tried again.
    pub retries: u32,
    /// JSON of `job::JobSpec`; opaque here.
    pub spec: String,
    pub steps: Vec<NewStep>,
    pub after: Vec<After>,
    /// Why the job starts blocked, if it does.
    pub blocked: Option<String>,
    /// The client's own key: the same (login user, key) is the same job, whatever else was said the second time.
    pub request_id: Option<String>,
    /// As in [`JobRow`]. Without a word it is the login user's own, like what was stored before there were others.
    pub grant: Option<u64>,
    pub via: String,
    pub audit: Option<AuditRef>,
}

impl Default for NewJob {
    fn default() -> Self {
        Self {
            name: String::new(),
            login_user: String::new(),
            user: String::new(),
            priority: 0,
            retries: 0,
            spec: String::new(),
            steps: Vec::new(),
            after: Vec::new(),
            blocked: None,
            request_id: None,
            grant: None,
            via: "own".into(),
            audit: None,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct NewStep {
    pub name: String,
    /// At least one.
    pub tasks: u64,
    /// Indices of steps of the same job.
    pub depends_on: Vec<u32>,
    /// What it asks of a worker; opaque here.
    pub needs: String,
}

/// A job waits for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    pub job: u64,
    /// Any end will do; otherwise it must be complete.
    pub any_end: bool,
}

/// The audit record of the intent that a change carries out; stored in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRef {
    pub chain: String,
    pub sequence: u64,
    pub hash: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobRow {
    pub id: u64,
    pub name: String,
    pub login_user: String,
    pub user: String,
    pub state: JobState,
    pub reason: Option<String>,
    pub submitted_at: i64,
    /// When the first session was opened for it.
    pub started_at: Option<i64>,
    /// Set once its state is a final one *and* none of its tasks is leased any more.
    pub ended_at: Option<i64>,
    pub priority: i32,
    pub retries: u32,
    /// Only from [`crate::Store::job`]; empty in lists.
    pub spec: String,
    pub counts: Counts,
    pub steps_n: u32,
    /// The grant that was found last; any live one of the pair does.
    pub grant: Option<u64>,
    /// By what right it carries its user's name: a word of the crate `policy`, opaque here.
    pub via: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepRow {
    pub job: u64,
    pub step: u32,
    pub name: String,
    pub tasks: u64,
    pub depends_on: Vec<u32>,
    pub counts: Counts,
    /// A step it depends on isn't complete.
    pub waiting: bool,
    /// A step it depends on, perhaps through others, ended without being complete; its tasks count as blocked.
    pub hopeless: bool,
}

#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    pub user: Option<String>,
    pub login_user: Option<String>,
    /// Empty: all.
    pub states: Vec<JobState>,
    pub limit: u32,
    /// Newest first; only jobs older than this one.
    pub after: Option<u64>,
    /// Only with `user`.
    pub reach: Option<Reach>,
}

/// Jobs with such names (patterns with `*` and `?`), and what this login user submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub login_user: String,
    pub names: Vec<String>,
}

/// Whose jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    Everybody,
    /// Submitted by them, or running as them.
    Of(String),
    /// Running as them.
    RunAs(String),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JobSort {
    #[default]
    Newest,
    Oldest,
    Priority,
    Name,
}

/// A page of the list that people look at.
#[derive(Debug, Clone)]
pub struct JobList {
    pub whose: Whose,
    pub reach: Option<Reach>,
    pub user: Option<String>,
    pub login_user: Option<String>,
    /// In the name, or the whole number.
    pub text: Option<String>,
    /// Counts are of all of them.
    pub state: Option<JobState>,
    pub sort: JobSort,
    pub limit: u32,
    pub offset: u64,
}

/// What it holds, and how many there are of each state.
#[derive(Debug, Clone, Default)]
pub struct JobsListed {
    pub rows: Vec<JobRow>,
    pub counts: Vec<(JobState, u64)>,
}

/// Tasks in the order (step, index), from (`from_step`, `first`) on.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Only of this step.
    pub step: Option<u32>,
    /// Empty: all.
    pub states: Vec<TaskState>,
    pub from_step: u32,
    pub first: u64,
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskRow {
    pub step: u32,
    pub index: u64,
    pub state: TaskState,
    pub reason: Option<String>,
    pub epoch: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptRow {
    pub step: u32,
    pub index: u64,
    /// The task's epoch.
    pub attempt: u32,
    pub session: u64,
    pub state: AttemptState,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub cpu_us: u64,
    pub max_rss: u64,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskAttempts {
    pub task: TaskRow,
    /// Oldest first.
    pub attempts: Vec<AttemptRow>,
}

/// A step with work that may start now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    pub job: u64,
    pub step: u32,
    pub priority: i32,
    pub login_user: String,
    pub user: String,
    /// As in [`JobRow`].
    pub grant: Option<u64>,
    pub via: String,
    /// The job's: a grant may be for some only.
    pub name: String,
    /// Tasks that may start.
    pub count: u64,
    /// As submitted; empty for jobs of before it was kept.
    pub needs: String,
}

impl Ready {
    #[must_use]
    pub const fn at(&self) -> ReadyAt {
        ReadyAt { priority: self.priority, job: self.job, step: self.step }
    }
}

/// A place in the order in which steps are dispatched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyAt {
    pub priority: i32,
    pub job: u64,
    pub step: u32,
}

/// Tasks `first..=last` of a step, held by a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub id: u64,
    pub job: u64,
    pub step: u32,
    pub first: u64,
    pub last: u64,
    pub epoch: u32,
    pub session: u64,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Tasks.
    Run,
    /// Work with the job's files.
    Read,
    /// To remove the job's folder.
    Clean,
}

#[derive(Debug, Clone)]
pub struct NewSession {
    pub job: u64,
    pub worker: String,
    /// The launcher's (hex).
    pub incarnation: String,
    pub mode: String,
    pub login_user: String,
    pub user: String,
    /// The account asked for; `throwaway` is one.
    pub account: String,
    pub grant: Option<u64>,
    /// Hex.
    pub policy_version: String,
    /// JSON of the decision, for `explain`.
    pub decision: String,
    pub purpose: Purpose,
    pub lease_until: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    Launching,
    Running,
    Ended,
    /// Nothing was executed.
    Refused,
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionRow {
    /// Also the sequence number of its warrant.
    pub id: u64,
    pub job: u64,
    pub worker: String,
    pub incarnation: String,
    pub mode: String,
    pub login_user: String,
    pub user: String,
    pub account: String,
    pub grant: Option<u64>,
    pub policy_version: String,
    pub decision: String,
    pub purpose: Purpose,
    pub lease_until: i64,
    pub state: SessionState,
    /// As read back after the switch.
    pub run_as: Option<wire::Account>,
    /// `launcher` or `worker`.
    pub attested_by: Option<String>,
    pub opened_at: i64,
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
    /// `left`, `lost`, …, or `refused:KIND`.
    pub end: Option<String>,
    pub reason: Option<String>,
    pub proof_started: Option<String>,
    pub proof_ended: Option<String>,
    /// Reports stored.
    pub reported: u64,
    /// Bytes of its log segment that are safe.
    pub logged: u64,
    pub cpu_us: u64,
    pub max_rss: u64,
    /// The highest number of a batch that it said was done.
    pub batches: u64,
    /// Steps whose environments it may have entered, the latest last.
    pub entered: Vec<u32>,
}

/// A worker as it said hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWorker {
    pub name: String,
    pub mode: String,
    pub proxy_account: Option<String>,
    pub slots: u32,
    pub labels: Vec<String>,
    pub panic: Option<String>,
    /// JSON of its hello.
    pub hello: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerRow {
    pub name: String,
    pub mode: String,
    pub proxy_account: Option<String>,
    pub slots: u32,
    pub labels: Vec<String>,
    /// Takes no new work (state `locked`).
    pub drained: bool,
    pub last_seen: i64,
    pub panic: Option<String>,
    pub hello: String,
}

/// This account can't be had on this worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exclusion {
    pub worker: String,
    pub account: String,
    /// The host's rule: `account_unknown`, `uid_below_floor`, ….
    pub rule: String,
    pub reason: String,
    pub at: i64,
}

/// One task that a living session holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningTask {
    pub session: u64,
    pub worker: String,
    pub step: u32,
    pub index: u64,
    pub epoch: u32,
}

/// What an act did, and what its session must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acted {
    pub state: JobState,
    /// The tasks to cancel: held by sessions when the act was stored. Empty after acts that cancel nothing.
    pub running: Vec<RunningTask>,
    /// The living sessions of the job, with their workers.
    pub sessions: Vec<(u64, String)>,
    /// Jobs whose state or counters changed: this one, and those that waited for it.
    pub changed_jobs: Vec<u64>,
    pub finished_jobs: Vec<u64>,
}

/// How many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByState {
    pub jobs: Vec<(String, u64)>,
    pub tasks: Vec<(&'static str, u64)>,
}

/// What became of a group of reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reported {
    /// Everything up to this number is stored. Lower than what was sent when reports before it are missing.
    pub through: u64,
    /// Reports about tasks that the session doesn't hold any more; they changed nothing.
    pub stale: u64,
    pub changed_jobs: Vec<u64>,
    pub finished_jobs: Vec<u64>,
    /// No process of the session is alive; nothing of it is leased.
    pub session_over: bool,
    /// Its job isn't dispatched before this time.
    pub retry_at: Option<i64>,
    /// Jobs whose folder was removed.
    pub cleaned: Vec<u64>,
    /// The session refused a batch: it should be ended, which releases the tasks.
    pub batch_refused: Option<String>,
}
