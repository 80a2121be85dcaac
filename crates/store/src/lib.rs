//! The store: jobs, their tasks, sessions and attempts, and what is known of the workers.
//!
//! * What was acknowledged is durable: every change returns after its commit (`writer` commits in groups).
//! * Tasks are ranges. A job of a million tasks is one row until something happens to it; a task is in exactly one of
//!   *pieces* (waiting, or set aside as failed, killed, blocked), *leases* (held by a session) and *done* (packed).
//! * Counters per step and job change in the same transaction as the ranges, and the job's state follows from them.
//! * Reports are idempotent (numbered per session) and fenced (a session can only speak of what it still holds).
//!
//! Decides nothing about who may do what, knows no clock but the `now` it is given, and starts nothing. What differs
//! between databases is in `dialect`.

#![forbid(unsafe_code)]

mod act;
mod cell;
mod convert;
mod dialect;
mod dispatch;
mod edit;
mod entitle;
mod error;
mod identity;
mod keep;
mod lease;
mod logon;
mod outside;
mod pack;
mod people;
mod read;
mod readers;
mod report;
mod stats;
mod submit;
mod types;
mod writer;

use std::path::Path;
use std::sync::Arc;

use job::JobAction;

pub use cell::{BadRow, Raw};
pub use dialect::numbers_again;
pub use error::StoreError;
pub use logon::{LogonName, LogonRow, LogonState, LogonWord, ResealError, Sealed};
pub use people::*;
pub use stats::{Counted, Histogram, Stats};
pub use types::*;

use dialect::{Lock, Place};
use readers::{Reader, Readers};
use sqlx::Connection as _;
use writer::Writer;

pub type Result<T> = std::result::Result<T, StoreError>;

/// A handle; clones share one store. [`Store::close`] ends it for all.
#[derive(Debug, Clone)]
pub struct Store {
    readers: Readers,
    writer: Writer,
    place: Arc<Place>,
}

/// How a store is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The file doesn't grow beyond so many pages (of 4 KiB); then it is as if the disk were full.
    pub max_pages: Option<u32>,
}

impl Store {
    /// Opens the store at `path`, making it if there is none. Only one process at a time may have it open.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Options::default()).await
    }

    pub async fn open_with(path: &Path, options: Options) -> Result<Self> {
        let lock = Lock::take(path)?;
        dialect::create(path)?;
        let place = Place::new(path, options.max_pages);
        let mut conn = place.connect().await?;
        place.migrate(&mut conn).await?;
        let place = Arc::new(place);
        let readers = Readers::open(place.clone()).await?;
        dialect::sync_folder(path)?;
        let writer = Writer::start(place.as_ref().clone(), conn, lock);
        Ok(Self { readers, writer, place })
    }

    /// Commits what was accepted, closes the files and gives up the lock. Changes after it fail.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// How it writes.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.writer.stats()
    }

    // --- submissions and acts of people

    /// Keeps a job; the cost doesn't depend on its number of tasks.
    pub async fn submit(&self, job: NewJob, now: i64) -> Result<u64> {
        self.writer.write(move |c| Box::pin(submit::submit(c, job, now))).await
    }

    /// Carries an action on a whole job out, if its state allows it.
    ///
    /// * `kill`: what is pending is killed at once; leased tasks become killed when they are reported or lost.
    /// * `retry`: failed and killed tasks (all, of a complete job) become pending under the next epoch.
    /// * `requeue`: as `retry`, and blocked with it.
    /// * `block`: nothing more starts; what is leased is to be cancelled and comes back. `unblock` undoes it, for tasks
    ///   blocked singly too.
    /// * `suspend`: nothing more starts; what is leased stays with its sessions. `resume` undoes it.
    pub async fn act(
        &self,
        job: u64,
        action: JobAction,
        reason: Option<String>,
        audit: Option<AuditRef>,
        now: i64,
    ) -> Result<Acted> {
        self.writer.write(move |c| Box::pin(act::act(c, job, action, reason, audit, now))).await
    }

    /// Gives a job that is not over another name or priority; what is `None` stays. Returns its living sessions.
    pub async fn modify(
        &self,
        job: u64,
        name: Option<String>,
        priority: Option<i32>,
        audit: Option<AuditRef>,
    ) -> Result<Vec<u64>> {
        self.writer.write(move |c| Box::pin(act::modify(c, job, name, priority, audit))).await
    }

    /// Carries an action out on single tasks, given as (step, index): all or none. Tasks can't be suspended singly.
    pub async fn act_on_tasks(
        &self,
        job: u64,
        tasks: Vec<(u32, u64)>,
        action: JobAction,
        reason: Option<String>,
        audit: Option<AuditRef>,
        now: i64,
    ) -> Result<Acted> {
        self.writer.write(move |c| Box::pin(act::act_on_tasks(c, job, tasks, action, reason, audit, now))).await
    }

    /// Says why a pending job is pending. Never changes a state; nothing happens when the job isn't pending any more.
    pub async fn set_reason(&self, job: u64, reason: Option<String>) -> Result<()> {
        if read::reason(&mut *self.reader().await?, job).await.map_err(|e| self.explain(e))? == reason {
            return Ok(());
        }
        self.writer.write(move |c| Box::pin(act::set_reason(c, job, reason))).await
    }

    /// The account itself was refused: the whole job becomes `badlogin`, for good. Nothing happens when it is over.
    pub async fn badlogin(&self, job: u64, reason: String, now: i64) -> Result<Acted> {
        self.writer.write(move |c| Box::pin(act::badlogin(c, job, reason, now))).await
    }

    /// Blocks a job that may not go on (its grant ended, …), from any state but a final one.
    pub async fn block_with_reason(&self, job: u64, reason: String, now: i64) -> Result<Acted> {
        self.writer.write(move |c| Box::pin(act::block_with_reason(c, job, reason, now))).await
    }

    /// The same, except that what is leased may come to its end.
    pub async fn hold(&self, job: u64, reason: String, now: i64) -> Result<Acted> {
        self.writer.write(move |c| Box::pin(act::hold(c, job, reason, now))).await
    }

    // --- dispatch

    /// Steps with work that may start now: higher priority first, then the older job, then the earlier step.
    pub async fn ready(&self, limit: usize, now: i64) -> Result<Vec<Ready>> {
        self.ready_after(limit, None, now).await
    }

    /// The same, behind one that was seen.
    pub async fn ready_after(&self, limit: usize, after: Option<ReadyAt>, now: i64) -> Result<Vec<Ready>> {
        read::ready(&mut *self.reader().await?, limit, after, now).await.map_err(|e| self.explain(e))
    }

    /// When the earliest backed-off job may be dispatched again; `None` when none waits for that.
    pub async fn next_retry(&self, now: i64) -> Result<Option<i64>> {
        read::next_retry(&mut *self.reader().await?, now).await.map_err(|e| self.explain(e))
    }

    /// A new session with its first tasks; `None` when nothing is ready there any more. Its id is above every former one.
    pub async fn open_session(
        &self,
        session: NewSession,
        step: u32,
        max_tasks: u64,
        now: i64,
    ) -> Result<Option<(u64, Lease)>> {
        self.writer.write(move |c| Box::pin(dispatch::open_session(c, session, step, max_tasks, now))).await
    }

    /// A new session without tasks (to read or clean a job's folder).
    pub async fn open_errand(&self, session: NewSession, now: i64) -> Result<u64> {
        self.writer.write(move |c| Box::pin(dispatch::open_errand(c, session, now))).await
    }

    /// More tasks of its job for a living session; `None` when nothing is ready, or the session may have no more.
    pub async fn claim(&self, session: u64, step: u32, max_tasks: u64, now: i64) -> Result<Option<Lease>> {
        self.writer.write(move |c| Box::pin(dispatch::claim(c, session, step, max_tasks, now))).await
    }

    /// Notes the steps whose environments a session may have entered, before it is told to enter them.
    pub async fn enters(&self, session: u64, steps: &[u32]) -> Result<()> {
        let steps = steps.to_vec();
        self.writer.write(move |c| Box::pin(keep::enters(c, session, steps))).await
    }

    /// Moves the deadline of living sessions. Returns those that were renewed: the others are over.
    pub async fn renew(&self, sessions: &[u64], lease_until: i64) -> Result<Vec<u64>> {
        let sessions = sessions.to_vec();
        self.writer.write(move |c| Box::pin(dispatch::renew(c, sessions, lease_until))).await
    }

    // --- reports

    /// Stores reports of a session, the first having number `first` (from 1). Those stored before are skipped; when
    /// some are missing in between nothing is stored, and `through` says where to begin.
    pub async fn report(
        &self,
        session: u64,
        worker: &str,
        first: u64,
        reports: Vec<wire::Report>,
        now: i64,
    ) -> Result<Reported> {
        let worker = worker.to_owned();
        self.writer.write(move |c| Box::pin(report::report(c, session, worker, first, reports, now))).await
    }

    /// Gives the sessions whose deadline has passed up, and their tasks back.
    pub async fn lost_sessions(&self, now: i64) -> Result<Vec<(SessionRow, Reported)>> {
        let mut lost = Vec::new();
        // The loop needs a reader of its own: none is kept while another is waited for.
        let expired = read::expired(&mut *self.reader().await?, now).await.map_err(|e| self.explain(e))?;
        for session in expired {
            let text = "its lease ran out before it was renewed".to_owned();
            let op = self.writer.write(move |c| Box::pin(report::expired(c, session, text, now))).await?;
            if let Some(reported) = op
                && let Some(row) = self.session(session).await?
            {
                lost.push((row, reported));
            }
        }
        Ok(lost)
    }

    /// Gives one session up. Only when it is certain that none of its processes lives.
    pub async fn session_lost(&self, session: u64, text: String, now: i64) -> Result<Reported> {
        self.writer.write(move |c| Box::pin(report::lost(c, session, text, now))).await
    }

    /// The session was opened here only: its warrant was never sent. No try is burnt and no epoch passes, but the job
    /// is not dispatched again at once.
    pub async fn never_opened(&self, session: u64, text: String, now: i64) -> Result<Reported> {
        self.writer.write(move |c| Box::pin(report::never_opened(c, session, text, now))).await
    }

    /// So many bytes of the session's log are safe. Never goes back.
    pub async fn logged(&self, session: u64, through: u64) -> Result<()> {
        self.writer.write(move |c| Box::pin(keep::logged(c, session, through))).await
    }

    // --- reading

    pub async fn job(&self, id: u64) -> Result<Option<JobRow>> {
        read::job(&mut *self.reader().await?, id).await.map_err(|e| self.explain(e))
    }

    pub async fn jobs(&self, filter: JobFilter) -> Result<Vec<JobRow>> {
        read::jobs(&mut *self.reader().await?, filter).await.map_err(|e| self.explain(e))
    }

    /// How many jobs and tasks there are. Looks at every job.
    pub async fn by_state(&self) -> Result<ByState> {
        read::by_state(&mut *self.reader().await?).await.map_err(|e| self.explain(e))
    }

    /// A page of a list with its counts, of one moment.
    pub async fn job_list(&self, list: &JobList) -> Result<JobsListed> {
        let mut reader = self.reader().await?;
        let mut moment = reader.begin().await.map_err(|e| self.explain(e.into()))?;
        read::job_list(&mut moment, list).await.map_err(|e| self.explain(e))
    }

    /// The accounts that a job's sessions were for, each once, and not more than a few.
    pub async fn accounts(&self, job: u64) -> Result<Vec<String>> {
        read::accounts(&mut *self.reader().await?, job).await.map_err(|e| self.explain(e))
    }

    pub async fn steps(&self, job: u64) -> Result<Vec<StepRow>> {
        read::steps(&mut *self.reader().await?, job).await.map_err(|e| self.explain(e))
    }

    pub async fn tasks(&self, job: u64, filter: TaskFilter) -> Result<Vec<TaskRow>> {
        let mut reader = self.reader().await?;
        let mut moment = reader.begin().await.map_err(|e| self.explain(e.into()))?;
        read::tasks(&mut moment, job, &filter).await.map_err(|e| self.explain(e))
    }

    /// The attempts of one task, oldest first.
    pub async fn attempts(&self, job: u64, step: u32, index: u64) -> Result<Vec<AttemptRow>> {
        let mut reader = self.reader().await?;
        let mut moment = reader.begin().await.map_err(|e| self.explain(e.into()))?;
        read::attempts(&mut moment, job, step, index, index).await.map_err(|e| self.explain(e))
    }

    /// Tasks with their attempts, in a number of queries that doesn't depend on the number of tasks.
    pub async fn attempts_page(&self, job: u64, filter: TaskFilter) -> Result<Vec<TaskAttempts>> {
        let mut reader = self.reader().await?;
        let mut moment = reader.begin().await.map_err(|e| self.explain(e.into()))?;
        read::attempts_page(&mut moment, job, &filter).await.map_err(|e| self.explain(e))
    }

    /// All sessions of a job, oldest first.
    pub async fn sessions(&self, job: u64) -> Result<Vec<SessionRow>> {
        read::sessions(&mut *self.reader().await?, job).await.map_err(|e| self.explain(e))
    }

    pub async fn session(&self, id: u64) -> Result<Option<SessionRow>> {
        read::session(&mut *self.reader().await?, id).await.map_err(|e| self.explain(e))
    }

    /// Those of `ids` that exist.
    pub async fn sessions_by_id(&self, ids: &[u64]) -> Result<Vec<SessionRow>> {
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            rows.extend(self.session(*id).await?);
        }
        Ok(rows)
    }

    /// Sessions that are launching or running, of one worker or of all.
    pub async fn live_sessions(&self, worker: Option<&str>) -> Result<Vec<SessionRow>> {
        read::live_sessions(&mut *self.reader().await?, worker).await.map_err(|e| self.explain(e))
    }

    /// Sessions that are over and whose end was not said to be in the audit.
    pub async fn unaudited_ends(&self) -> Result<Vec<SessionRow>> {
        read::unaudited_ends(&mut *self.reader().await?).await.map_err(|e| self.explain(e))
    }

    pub async fn end_audited(&self, session: u64) -> Result<()> {
        self.writer.write(move |c| Box::pin(keep::end_audited(c, session))).await
    }

    /// The job that a person's earlier request with this id made.
    pub async fn job_of_request(&self, login_user: &str, user: &str, request: &str) -> Result<Option<u64>> {
        read::job_of_request(&mut *self.reader().await?, login_user, user, request).await.map_err(|e| self.explain(e))
    }

    /// The tasks a session holds that are to end instead of going on: what it has to be told when it is back.
    pub async fn asked(&self, session: u64) -> Result<Vec<RunningTask>> {
        read::asked(&mut *self.reader().await?, session).await.map_err(|e| self.explain(e))
    }

    /// What a session holds, in the order in which it was given.
    pub async fn leases(&self, session: u64) -> Result<Vec<Lease>> {
        read::leases(&mut *self.reader().await?, session).await.map_err(|e| self.explain(e))
    }

    // --- workers, exclusions, meta, retention

    pub async fn exclusions(&self) -> Result<Vec<Exclusion>> {
        read::exclusions(&mut *self.reader().await?).await.map_err(|e| self.explain(e))
    }

    pub async fn clear_exclusions(&self, worker: &str) -> Result<()> {
        let worker = worker.to_owned();
        self.writer.write(move |c| Box::pin(keep::clear_exclusions(c, worker))).await
    }

    /// Keeps what a worker said of itself; whether it is drained stays.
    pub async fn upsert_worker(&self, worker: NewWorker, now: i64) -> Result<()> {
        self.writer.write(move |c| Box::pin(keep::upsert_worker(c, worker, now))).await
    }

    pub async fn workers(&self) -> Result<Vec<WorkerRow>> {
        read::workers(&mut *self.reader().await?).await.map_err(|e| self.explain(e))
    }

    pub async fn set_drained(&self, name: &str, drained: bool, audit: Option<AuditRef>) -> Result<()> {
        let name = name.to_owned();
        self.writer.write(move |c| Box::pin(keep::set_drained(c, name, drained, audit))).await
    }

    pub async fn set_panic(&self, name: &str, panic: Option<String>) -> Result<()> {
        let name = name.to_owned();
        self.writer.write(move |c| Box::pin(keep::set_panic(c, name, panic))).await
    }

    pub async fn worker_seen(&self, name: &str, now: i64) -> Result<()> {
        let name = name.to_owned();
        self.writer.write(move |c| Box::pin(keep::worker_seen(c, name, now))).await
    }

    /// Whether a worker, seen at any time, runs everybody's jobs under that account.
    pub async fn is_shared_account(&self, name: &str) -> Result<bool> {
        read::is_shared_account(&mut *self.reader().await?, name).await.map_err(|e| self.explain(e))
    }

    pub async fn meta(&self, key: &str) -> Result<Option<String>> {
        read::meta(&mut *self.reader().await?, key).await.map_err(|e| self.explain(e))
    }

    pub async fn set_meta(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.writer.write(move |c| Box::pin(keep::set_meta(c, key, value))).await
    }

    /// Keeps the value unless there is one already; returns the one that is kept.
    pub async fn claim_meta(&self, key: &str, value: &str) -> Result<String> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.writer.write(move |c| Box::pin(keep::claim_meta(c, key, value))).await
    }

    /// Jobs that ended before then, oldest end first.
    pub async fn retire_jobs(&self, ended_before: i64, limit: u32) -> Result<Vec<u64>> {
        read::ended_before(&mut *self.reader().await?, ended_before, limit).await.map_err(|e| self.explain(e))
    }

    /// Says of a job that is over that it is to go: nothing of it runs any more.
    pub async fn remove_job(&self, job: u64, reason: String, audit: Option<AuditRef>, now: i64) -> Result<()> {
        self.writer.write(move |c| Box::pin(keep::remove_job(c, job, reason, audit, now))).await
    }

    /// Jobs that are to go, newest first, from behind `after` on.
    pub async fn removals(&self, limit: u32, after: Option<u64>) -> Result<Vec<u64>> {
        read::removals(&mut *self.reader().await?, limit, after).await.map_err(|e| self.explain(e))
    }

    /// Whether a job is to go.
    pub async fn is_removed(&self, job: u64) -> Result<bool> {
        read::is_removed(&mut *self.reader().await?, job).await.map_err(|e| self.explain(e))
    }

    /// Removes a job that has ended, with its history. Its id is not used again.
    pub async fn delete_job(&self, job: u64) -> Result<()> {
        self.writer.write(move |c| Box::pin(keep::delete_job(c, job))).await
    }

    /// The last audit record whose act is stored.
    pub async fn audit_tail(&self, chain: &str) -> Result<Option<(u64, [u8; 32])>> {
        read::audit_tail(&mut *self.reader().await?, chain).await.map_err(|e| self.explain(e))
    }

    /// The hash of one audit record, if its act is stored.
    pub async fn audited(&self, chain: &str, sequence: u64) -> Result<Option<[u8; 32]>> {
        read::audited(&mut *self.reader().await?, chain, sequence).await.map_err(|e| self.explain(e))
    }

    async fn reader(&self) -> Result<Reader> {
        self.readers.get().await
    }

    fn explain(&self, error: StoreError) -> StoreError {
        self.place.explain_again(error)
    }
}
