//! What sessions report. Each report is stored at most once (they are numbered), and only about tasks that the session
//! still holds under that epoch; everything else changes nothing.

use job::{AttemptState, TaskState};
use sqlx::query;
use wire::{End, Report, SessionEnd, Task};

use crate::Result;
use crate::act::{Cancel, refuse_login};
use crate::convert::{get, i, number};
use crate::dialect::Conn;
use crate::edit::{Effects, JobEdit, Range, Tries};
use crate::error::StoreError;
use crate::lease::{Ask, Held, Leases};
use crate::pack::{self, Done};
use crate::types::{Purpose, Reported, SessionState};

/// A task that was lost, or not launched, so many times has failed.
const TRIES_MAX: i64 = 3;
/// A task whose session was ended under it, by nobody here, so many times has failed: log-outs of a desktop's owner.
const INTERRUPTIONS_MAX: i64 = 10;
const TEXT_MAX: usize = 2000;

pub(crate) async fn report(
    conn: &mut Conn,
    session: u64,
    worker: String,
    first: u64,
    reports: Vec<Report>,
    now: i64,
) -> Result<Reported> {
    let known = Known::load(conn, session).await?;
    if known.worker != worker {
        return Err(StoreError::NotYours { session, owner: known.worker, worker });
    }
    let expected = known.reported + 1;
    if first > expected {
        return Ok(Reported { through: known.reported, session_over: !known.state.is_alive(), ..Reported::default() });
    }
    let skip = usize::try_from(expected - first).unwrap_or(usize::MAX);
    let mut reading = Reading::begin(conn, known, now).await?;
    for report in reports.into_iter().skip(skip) {
        reading.known.reported += 1;
        reading.take_in(conn, report).await?;
    }
    reading.finish(conn).await
}

/// A session whose deadline has passed, if it is still so.
pub(crate) async fn expired(conn: &mut Conn, session: u64, text: String, now: i64) -> Result<Option<Reported>> {
    let known = match Known::load(conn, session).await {
        Err(StoreError::NoSuchSession(_)) => return Ok(None),
        other => other?,
    };
    if !known.state.is_alive() || known.lease_until > now {
        return Ok(None);
    }
    give_up(conn, known, text, now).await.map(Some)
}

pub(crate) async fn lost(conn: &mut Conn, session: u64, text: String, now: i64) -> Result<Reported> {
    let known = Known::load(conn, session).await?;
    if !known.state.is_alive() {
        return Ok(Reported { through: known.reported, session_over: true, ..Reported::default() });
    }
    give_up(conn, known, text, now).await
}

/// A session whose warrant never reached its worker: what it was to have is as if nobody had taken it, but for a pause.
pub(crate) async fn never_opened(conn: &mut Conn, session: u64, text: String, now: i64) -> Result<Reported> {
    let known = Known::load(conn, session).await?;
    if !known.state.is_alive() {
        return Ok(Reported { through: known.reported, session_over: true, ..Reported::default() });
    }
    let mut reading = Reading::begin(conn, known, now).await?;
    reading.never_opened(conn, &text).await?;
    reading.finish(conn).await
}

async fn give_up(conn: &mut Conn, known: Known, text: String, now: i64) -> Result<Reported> {
    let mut reading = Reading::begin(conn, known, now).await?;
    reading.over(conn, SessionEnd::Lost, &text).await?;
    reading.known.state = SessionState::Lost;
    reading.finish(conn).await
}

/// What changes of a session's row.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    id: u64,
    job: u64,
    worker: String,
    mode: String,
    account: String,
    purpose: Purpose,
    state: SessionState,
    lease_until: i64,
    run_as: Option<String>,
    attested_by: Option<String>,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    end: Option<String>,
    reason: Option<String>,
    proof_started: Option<String>,
    proof_ended: Option<String>,
    reported: u64,
    cpu_us: u64,
    max_rss: u64,
    tasks_ended: i64,
    environment: Option<String>,
    /// Highest number of a batch that is done.
    batches: u64,
}

impl Known {
    async fn load(conn: &mut Conn, id: u64) -> Result<Self> {
        let row = query(
            "SELECT job, worker, mode, account, purpose, state, lease_until, run_as, attested_by, started_at, ended_at, ending, \
             reason, proof_started, proof_ended, reported, cpu_us, max_rss, tasks_ended, environment, batches \
             FROM sessions JOIN session_states ON session = id WHERE id = $1",
        )
        .bind(i(id))
        .fetch_optional(conn)
        .await?
        .ok_or(StoreError::NoSuchSession(id))?;
        Ok(Self {
            id,
            job: number(&row, "job")?,
            worker: get(&row, "worker")?,
            mode: get(&row, "mode")?,
            account: get(&row, "account")?,
            purpose: Purpose::parse(get(&row, "purpose")?)?,
            state: SessionState::parse(get(&row, "state")?)?,
            lease_until: get(&row, "lease_until")?,
            run_as: get(&row, "run_as")?,
            attested_by: get(&row, "attested_by")?,
            started_at: get(&row, "started_at")?,
            ended_at: get(&row, "ended_at")?,
            end: get(&row, "ending")?,
            reason: get(&row, "reason")?,
            proof_started: get(&row, "proof_started")?,
            proof_ended: get(&row, "proof_ended")?,
            reported: number(&row, "reported")?,
            cpu_us: number(&row, "cpu_us")?,
            max_rss: number(&row, "max_rss")?,
            tasks_ended: get(&row, "tasks_ended")?,
            environment: get(&row, "environment")?,
            batches: number(&row, "batches")?,
        })
    }

    async fn write(&self, conn: &mut Conn) -> Result<()> {
        query(
            "UPDATE session_states SET state = $2, alive = $3, run_as = $4, attested_by = $5, started_at = $6, \
             ended_at = $7, ending = $8, reason = $9, proof_started = $10, proof_ended = $11, reported = $12, \
             cpu_us = $13, max_rss = $14, tasks_ended = $15, environment = $16, batches = $17 WHERE session = $1",
        )
        .bind(i(self.id))
        .bind(self.state.as_str())
        .bind(self.state.is_alive())
        .bind(self.run_as.as_deref())
        .bind(self.attested_by.as_deref())
        .bind(self.started_at)
        .bind(self.ended_at)
        .bind(self.end.as_deref())
        .bind(self.reason.as_deref())
        .bind(self.proof_started.as_deref())
        .bind(self.proof_ended.as_deref())
        .bind(i(self.reported))
        .bind(i(self.cpu_us))
        .bind(i(self.max_rss))
        .bind(self.tasks_ended)
        .bind(self.environment.as_deref())
        .bind(i(self.batches))
        .execute(conn)
        .await?;
        Ok(())
    }
}

/// Complete tasks of one lease, one after another, that aren't written yet.
#[derive(Debug)]
struct Run {
    range: Range,
    tasks: Vec<Done>,
}

/// How an attempt ended.
struct Ending<'a> {
    state: AttemptState,
    exit_code: Option<i64>,
    signal: Option<i64>,
    started_at: Option<i64>,
    ended_at: i64,
    cpu_us: u64,
    max_rss: u64,
    reason: &'a str,
}

/// Reports while they are taken in: session, leases and job in memory until [`Reading::finish`].
struct Reading {
    known: Known,
    was: Known,
    leases: Leases,
    job: JobEdit,
    run: Option<Run>,
    now: i64,
    out: Reported,
}

impl Reading {
    async fn begin(conn: &mut Conn, known: Known, now: i64) -> Result<Self> {
        let leases = Leases::of_session(conn, known.job, known.id).await?;
        let job = JobEdit::load(conn, known.job).await?;
        Ok(Self { was: known.clone(), known, leases, job, run: None, now, out: Reported::default() })
    }

    async fn finish(mut self, conn: &mut Conn) -> Result<Reported> {
        self.write_run(conn).await?;
        self.leases.write(conn).await?;
        let ends = self.was.state.is_alive() && !self.known.state.is_alive();
        if ends && self.known.purpose == Purpose::Run {
            self.job.sessions(-1);
        }
        let mut effects = Effects::default();
        self.job.finish(conn, &mut effects, self.now).await?;
        effects.release(conn, self.now).await?;
        if self.known != self.was {
            self.known.write(conn).await?;
        }
        self.out.through = self.known.reported;
        self.out.session_over = !self.known.state.is_alive();
        self.out.changed_jobs = effects.changed.into_iter().collect();
        self.out.finished_jobs = effects.finished.into_iter().collect();
        Ok(self.out)
    }

    async fn take_in(&mut self, conn: &mut Conn, report: Report) -> Result<()> {
        match report {
            Report::Started { run_as, proof, at_us } => self.session_started(&run_as, proof, time(at_us)),
            Report::Refused { kind, stage, text, proof, hint, .. } => {
                self.known.proof_ended = proof;
                let refusal = Refusal { kind, stage, text: with_hint(&text, &hint) };
                self.refused(conn, &refusal).await?;
            }
            Report::TaskStarted { task, at_us } => self.task_started(task, time(at_us)),
            Report::TaskEnded { task, end, started_us, ended_us, cpu_us, max_rss } => {
                let times = (time(started_us), time(ended_us));
                self.task_ended(conn, task, &end, times, cpu_us, max_rss).await?;
            }
            Report::Recalled { tasks, .. } => self.recalled(conn, &tasks).await?,
            Report::BatchDone { sequence } => self.known.batches = self.known.batches.max(sequence),
            Report::BatchRefused { text } => {
                self.known.reason = Some(clip(&text));
                self.out.batch_refused = Some(text);
            }
            Report::EnvironmentEnded { name, entered, end } => self.environment_ended(&name, entered, &end),
            Report::Ended { end, text, cpu_us, max_rss, proof } => {
                self.known.cpu_us = cpu_us;
                self.known.max_rss = max_rss;
                self.known.proof_ended = proof;
                self.session_ended(conn, end, &text).await?;
            }
            Report::Cleaned { job } => {
                if job == self.known.job {
                    self.out.cleaned.push(job);
                } else {
                    self.out.stale += 1;
                }
            }
        }
        Ok(())
    }

    fn session_started(&mut self, run_as: &wire::Account, proof: Option<String>, at: i64) {
        self.known.attested_by = Some(if proof.is_some() { "launcher" } else { "worker" }.into());
        self.known.run_as = serde_json::to_string(run_as).ok();
        self.known.proof_started = proof;
        self.known.started_at = Some(at);
        if self.known.state == SessionState::Launching {
            self.known.state = SessionState::Running;
            if self.known.purpose == Purpose::Run {
                self.job.no_back_off();
            }
        }
    }

    fn task_started(&mut self, task: Task, at: i64) {
        match self.leases.find(task.step, task.index, Some(task.epoch)) {
            Some(found) => {
                if let Some(lease) = self.leases.now.get_mut(found) {
                    lease.started = Some((task.index, at));
                }
            }
            None => self.out.stale += 1,
        }
    }

    fn environment_ended(&mut self, name: &str, entered: bool, end: &End) {
        // Given back before it began, like the tasks behind it: nothing is wrong with it.
        let is_recalled = matches!(end, End::CannotStart { stage, .. } if stage == "recalled");
        if entered && !is_recalled && *end != (End::Exited { code: 0 }) {
            let what = format!("environment {name} could not be entered: {}", end_text(end, 0));
            self.known.reason = Some(clip(&what));
            self.known.environment = Some(clip(&what));
        }
    }

    // --- tasks

    async fn task_ended(
        &mut self,
        conn: &mut Conn,
        task: Task,
        end: &End,
        (started, ended): (i64, i64),
        cpu_us: u64,
        max_rss: u64,
    ) -> Result<()> {
        let Some(at) = self.leases.find(task.step, task.index, Some(task.epoch)) else {
            self.out.stale += 1;
            return Ok(());
        };
        let held = self.leases.take(at, task.index, task.index);
        if let (End::CannotStart { stage, .. }, None) = (end, held.ask)
            && stage == LIMIT
        {
            // Nothing of it ran, and it isn't the task's fault: later, and no retry is used up.
            self.out.retry_at = Some(self.job.back_off(self.now));
            return self.put(conn, held.range.again(held.range.tries), TaskState::Pending, None).await;
        }
        self.known.tasks_ended += 1;
        if *end == (End::Exited { code: 0 }) {
            let duration_us = u64::try_from(ended.saturating_sub(started)).unwrap_or(0);
            return self.complete(conn, held.range, Done { started_at: started, duration_us, cpu_us, max_rss }).await;
        }
        let text = end_text(end, ended.saturating_sub(started));
        let (exit_code, signal) = match end {
            End::Exited { code } => (Some(i64::from(*code)), None),
            End::Signalled { signal } => (None, Some(i64::from(*signal))),
            _ => (None, None),
        };
        let ending = Ending {
            state: AttemptState::Failed,
            exit_code,
            signal,
            started_at: Some(started),
            ended_at: ended,
            cpu_us,
            max_rss,
            reason: &text,
        };
        if held.ask.is_some() {
            self.stopped(conn, &held, ending).await
        } else if *end == End::Cancelled {
            // Nobody here asked for it: the worker's side ends (shutdown, log-out). It isn't the task's fault.
            self.interrupted(conn, held.range, ending).await
        } else {
            self.failed(conn, held.range, ending).await
        }
    }

    async fn complete(&mut self, conn: &mut Conn, range: Range, done: Done) -> Result<()> {
        self.job.shift(range.step, TaskState::Running, TaskState::Complete, 1);
        match &mut self.run {
            Some(run) if follows(&run.range, &range) => {
                run.range.last = range.first;
                run.tasks.push(done);
            }
            _ => {
                self.write_run(conn).await?;
                self.run = Some(Run { range, tasks: vec![done] });
            }
        }
        Ok(())
    }

    async fn write_run(&mut self, conn: &mut Conn) -> Result<()> {
        match self.run.take() {
            Some(run) => pack::keep(conn, self.job.id, self.known.id, run.range, &run.tasks).await,
            None => Ok(()),
        }
    }

    /// A task that was to be killed, and was running.
    async fn stopped(&mut self, conn: &mut Conn, held: &Held, ending: Ending<'_>) -> Result<()> {
        let why = held.why.as_deref().unwrap_or("killed");
        self.keep_attempt(conn, held.range, &Ending { state: AttemptState::Killed, reason: why, ..ending }).await?;
        let (range, to) = match held.ask {
            Some(Ask::Requeue) => (held.range.again(held.range.tries), TaskState::Pending),
            Some(Ask::Block) => (held.range.again(held.range.tries), TaskState::Blocked),
            Some(Ask::Kill) | None => (held.range, TaskState::Killed),
        };
        self.put(conn, range, to, held.why.as_deref()).await
    }

    /// Tasks that were to be killed, and had not begun.
    async fn dropped(&mut self, conn: &mut Conn, held: &Held) -> Result<()> {
        let to = match held.ask {
            Some(Ask::Kill) => TaskState::Killed,
            Some(Ask::Block) => TaskState::Blocked,
            Some(Ask::Requeue) | None => TaskState::Pending,
        };
        self.put(conn, held.range, to, held.why.as_deref()).await
    }

    async fn interrupted(&mut self, conn: &mut Conn, range: Range, ending: Ending<'_>) -> Result<()> {
        self.keep_attempt(conn, range, &Ending { state: AttemptState::Killed, ..ending }).await?;
        // A task can bring this about itself, by a signal to its session: not for ever, and not in a tight loop.
        self.out.retry_at = Some(self.job.back_off(self.now));
        let tries = Tries { losses: range.tries.losses + 1, ..range.tries };
        if tries.losses >= INTERRUPTIONS_MAX {
            let reason = clip(&format!("interrupted {INTERRUPTIONS_MAX} times; the last time: {}", ending.reason));
            return self.put(conn, range, TaskState::Failed, Some(&reason)).await;
        }
        self.put(conn, range.again(tries), TaskState::Pending, None).await
    }

    async fn failed(&mut self, conn: &mut Conn, range: Range, ending: Ending<'_>) -> Result<()> {
        self.keep_attempt(conn, range, &ending).await?;
        if range.tries.fails >= self.job.retries {
            return self.put(conn, range, TaskState::Failed, Some(&clip(ending.reason))).await;
        }
        let tries = Tries { fails: range.tries.fails + 1, ..range.tries };
        self.put(conn, range.again(tries), TaskState::Pending, None).await
    }

    async fn lost_task(&mut self, conn: &mut Conn, range: Range, ending: Ending<'_>) -> Result<()> {
        self.keep_attempt(conn, range, &Ending { state: AttemptState::Lost, ..ending }).await?;
        let tries = Tries { losses: range.tries.losses + 1, ..range.tries };
        if tries.losses >= TRIES_MAX {
            let reason = clip(&format!("lost {TRIES_MAX} times; the last time: {}", ending.reason));
            return self.put(conn, range, TaskState::Failed, Some(&reason)).await;
        }
        self.put(conn, range.again(tries), TaskState::Pending, None).await
    }

    async fn recalled(&mut self, conn: &mut Conn, tasks: &[Task]) -> Result<()> {
        let mut tasks = tasks.iter().copied().peekable();
        while let Some(task) = tasks.next() {
            let Some(at) = self.leases.find(task.step, task.index, Some(task.epoch)) else {
                self.out.stale += 1;
                continue;
            };
            let mut last = task.index;
            let end = self.leases.now.get(at).map_or(last, |l| l.range.last);
            while last < end
                && tasks.next_if(|t| (t.step, t.index, t.epoch) == (task.step, last + 1, task.epoch)).is_some()
            {
                last += 1;
            }
            let held = self.leases.take(at, task.index, last);
            self.dropped(conn, &held).await?;
        }
        Ok(())
    }

    /// Puts leased tasks into the queue or aside. Only what is set aside keeps a reason.
    async fn put(&mut self, conn: &mut Conn, range: Range, to: TaskState, reason: Option<&str>) -> Result<()> {
        let reason = reason.filter(|_| to != TaskState::Pending);
        self.job.put(conn, range, TaskState::Running, to, reason).await
    }

    async fn keep_attempt(&self, conn: &mut Conn, range: Range, ending: &Ending<'_>) -> Result<()> {
        query(
            "INSERT INTO attempts (job, step, task, epoch, session, state, exit_code, signal, started_at, ended_at, \
             cpu_us, max_rss, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(i(self.job.id))
        .bind(i64::from(range.step))
        .bind(i(range.first))
        .bind(i64::from(range.epoch))
        .bind(i(self.known.id))
        .bind(ending.state.as_str())
        .bind(ending.exit_code)
        .bind(ending.signal)
        .bind(ending.started_at)
        .bind(ending.ended_at)
        .bind(i(ending.cpu_us))
        .bind(i(ending.max_rss))
        .bind(clip(ending.reason))
        .execute(conn)
        .await?;
        Ok(())
    }

    // --- the end of a session

    async fn session_ended(&mut self, conn: &mut Conn, end: SessionEnd, text: &str) -> Result<()> {
        if self.known.state.is_alive() {
            self.over(conn, end, text).await?;
            self.known.state = if end == SessionEnd::Lost { SessionState::Lost } else { SessionState::Ended };
        }
        Ok(())
    }

    /// Gives back all that the session holds. One task may have been running: it is charged with the end.
    async fn over(&mut self, conn: &mut Conn, end: SessionEnd, text: &str) -> Result<()> {
        self.known.ended_at = Some(self.now);
        self.known.end = Some(end_word(end).into());
        if !text.is_empty() {
            self.known.reason = Some(clip(text));
        }
        let charged = self.charged(end);
        while !self.leases.now.is_empty() {
            let range = match self.leases.now.first() {
                Some(lease) => lease.range,
                None => return Ok(()),
            };
            match charged
                .filter(|(step, index, epoch)| (*step, *epoch) == (range.step, range.epoch) && range.contains(*index))
            {
                Some((_, index, _)) => {
                    if let Some(front) = range.before(index) {
                        let held = self.leases.take(0, front.first, front.last);
                        self.dropped(conn, &held).await?;
                    }
                    let held = self.leases.take(0, index, index);
                    self.charge(conn, &held, end, text).await?;
                    if let Some(back) = range.after(index) {
                        let held = self.leases.take(0, back.first, back.last);
                        self.dropped(conn, &held).await?;
                    }
                }
                None => {
                    let held = self.leases.take(0, range.first, range.last);
                    self.dropped(conn, &held).await?;
                }
            }
        }
        Ok(())
    }

    /// The task that was running: the one said to have started, else (unless the session left in order) the first one
    /// that nothing was said of.
    fn charged(&self, end: SessionEnd) -> Option<(u32, u64, u32)> {
        let started =
            self.leases.now.iter().find_map(|l| l.started.map(|(index, _)| (l.range.step, index, l.range.epoch)));
        let in_order = end == SessionEnd::Left && self.known.tasks_ended > 0 && self.known.environment.is_none();
        let first = self.leases.now.first().filter(|_| !in_order);
        started.or_else(|| first.map(|l| (l.range.step, l.range.first, l.range.epoch)))
    }

    async fn charge(&mut self, conn: &mut Conn, held: &Held, end: SessionEnd, text: &str) -> Result<()> {
        let started_at = held.started.map(|(_, at)| at);
        let environment = self.known.environment.clone();
        let reason = match (&environment, end) {
            (Some(environment), SessionEnd::Left) => environment.clone(),
            _ => lost_text(end, text),
        };
        let ending = Ending {
            state: AttemptState::Failed,
            exit_code: None,
            signal: None,
            started_at,
            ended_at: self.now,
            cpu_us: 0,
            max_rss: 0,
            reason: &reason,
        };
        match (held.ask, end) {
            (Some(_), _) if held.started.is_some() => self.stopped(conn, held, ending).await,
            (Some(_), _) => self.dropped(conn, held).await,
            (None, SessionEnd::Killed) => self.interrupted(conn, held.range, ending).await,
            (None, SessionEnd::OutOfMemory) => self.failed(conn, held.range, ending).await,
            (None, SessionEnd::Left) if environment.is_some() => self.failed(conn, held.range, ending).await,
            (None, _) => self.lost_task(conn, held.range, ending).await,
        }
    }

    // --- nothing was executed

    async fn refused(&mut self, conn: &mut Conn, refusal: &Refusal) -> Result<()> {
        if !self.known.state.is_alive() {
            return Ok(());
        }
        self.known.state = SessionState::Refused;
        self.known.ended_at = Some(self.now);
        self.known.end = Some(format!("refused:{}", refusal.kind));
        self.known.reason = Some(clip(&refusal.text));
        if self.known.purpose == Purpose::Read {
            // Nothing of the job waits for it, and nothing follows for the job.
            return Ok(());
        }
        match refusal.kind.as_str() {
            // The user has nothing to do with the account of proxy mode.
            // Another password puts that right: the worker waits for it, in panic.
            "bad_login" if self.known.mode == "proxy" && refusal.stage.starts_with("password_") => {
                self.out.retry_at = Some(self.job.back_off(self.now));
            }
            "bad_login" if self.known.mode == "proxy" => self.exclude(conn, refusal).await?,
            "bad_login" => self.bad_login(conn, refusal).await?,
            "account" | "local_policy" => self.exclude(conn, refusal).await?,
            "stage" => self.misfire(conn, refusal).await?,
            // A void warrant won't be a good one at once: the host's launcher knows another farm, clock or key.
            // `transient`, and kinds of a later version: waiting is never wrong.
            _ => self.out.retry_at = Some(self.job.back_off(self.now)),
        }
        self.drop_all(conn).await
    }

    async fn never_opened(&mut self, conn: &mut Conn, text: &str) -> Result<()> {
        self.known.state = SessionState::Refused;
        self.known.ended_at = Some(self.now);
        self.known.end = Some("refused:not_sent".into());
        self.known.reason = Some(clip(text));
        if self.known.purpose == Purpose::Run {
            self.out.retry_at = Some(self.job.back_off(self.now));
        }
        self.drop_all(conn).await
    }

    /// Gives back all that is left, under the same epoch: nothing of it began.
    async fn drop_all(&mut self, conn: &mut Conn) -> Result<()> {
        while let Some(range) = self.leases.now.first().map(|l| l.range) {
            let held = self.leases.take(0, range.first, range.last);
            self.dropped(conn, &held).await?;
        }
        Ok(())
    }

    async fn bad_login(&mut self, conn: &mut Conn, refusal: &Refusal) -> Result<()> {
        if let Some(first) = self.leases.now.first().map(|l| l.range.only(l.range.first)) {
            self.keep_attempt(conn, first, &self.unstarted(AttemptState::Badlogin, &refusal.text)).await?;
        }
        // The asks go to all leases of the job; this session's own are in memory here.
        refuse_login(conn, &mut self.job, &mut Cancel::default(), clip(&refusal.text)).await?;
        for lease in &mut self.leases.now {
            lease.ask(Ask::Kill, Some(&refusal.text));
        }
        Ok(())
    }

    async fn exclude(&mut self, conn: &mut Conn, refusal: &Refusal) -> Result<()> {
        query(
            "INSERT INTO exclusions (worker, account, rule, reason, at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (worker, account) DO UPDATE SET rule = excluded.rule, reason = excluded.reason, \
             at = excluded.at",
        )
        .bind(&self.known.worker)
        .bind(&self.known.account)
        .bind(clip(&refusal.stage))
        .bind(clip(&refusal.text))
        .bind(self.now)
        .execute(conn)
        .await?;
        Ok(())
    }

    async fn misfire(&mut self, conn: &mut Conn, refusal: &Refusal) -> Result<()> {
        self.out.retry_at = Some(self.job.back_off(self.now));
        let Some(first) = self.leases.now.first().filter(|l| l.ask.is_none()).map(|l| l.range.first) else {
            return Ok(());
        };
        let range = self.leases.take(0, first, first).range;
        let reason = format!("launch_failed:{}: {}", refusal.stage, refusal.text_without_stage());
        self.keep_attempt(conn, range, &self.unstarted(AttemptState::LaunchFailed, &reason)).await?;
        let tries = Tries { misfires: range.tries.misfires + 1, ..range.tries };
        if tries.misfires >= TRIES_MAX {
            let reason = clip(&format!("could not be launched {TRIES_MAX} times; the last time: {reason}"));
            return self.put(conn, range, TaskState::Failed, Some(&reason)).await;
        }
        self.put(conn, range.again(tries), TaskState::Pending, None).await
    }

    fn unstarted<'a>(&self, state: AttemptState, reason: &'a str) -> Ending<'a> {
        Ending {
            state,
            exit_code: None,
            signal: None,
            started_at: None,
            ended_at: self.now,
            cpu_us: 0,
            max_rss: 0,
            reason,
        }
    }
}

/// The stage of a task that can't start because its account has as many processes as it may have.
const LIMIT: &str = "limit";

struct Refusal {
    kind: String,
    stage: String,
    text: String,
}

impl Refusal {
    /// Whoever names the stage besides need not say it twice.
    fn text_without_stage(&self) -> &str {
        self.text.strip_prefix(&self.stage).and_then(|t| t.strip_prefix(": ")).unwrap_or(&self.text)
    }
}

fn with_hint(text: &str, hint: &str) -> String {
    if hint.is_empty() { text.to_owned() } else { format!("{text}: {hint}") }
}

fn follows(before: &Range, next: &Range) -> bool {
    (before.step, before.epoch, before.last.checked_add(1)) == (next.step, next.epoch, Some(next.first))
}

fn end_text(end: &End, took_us: i64) -> String {
    match end {
        End::Exited { code } => format!("exit code {code}"),
        End::Signalled { signal } => format!("killed by signal {signal}"),
        End::TimedOut => format!("time limit reached after {} s", took_us / 1_000_000),
        End::Cancelled => "stopped by the worker".into(),
        End::CannotStart { stage, text, .. } => format!("could not start ({stage}): {text}"),
        End::Failed { text } => text.clone(),
    }
}

fn lost_text(end: SessionEnd, text: &str) -> String {
    let what = match end {
        SessionEnd::Left => "the session left without a word about it",
        SessionEnd::Signalled => "the session was killed by a signal",
        SessionEnd::OutOfMemory => "out of memory",
        SessionEnd::LeaseExpired => "the session's lease ran out",
        SessionEnd::Killed => "the session was ended",
        SessionEnd::Lost => "the session was lost",
    };
    if text.is_empty() { what.into() } else { format!("{what}: {text}") }
}

fn end_word(end: SessionEnd) -> &'static str {
    match end {
        SessionEnd::Left => "left",
        SessionEnd::Signalled => "signalled",
        SessionEnd::OutOfMemory => "out_of_memory",
        SessionEnd::LeaseExpired => "lease_expired",
        SessionEnd::Killed => "killed",
        SessionEnd::Lost => "lost",
    }
}

fn time(us: u64) -> i64 {
    i(us)
}

/// Texts come from accounts and hosts: they are bounded.
fn clip(text: &str) -> String {
    crate::convert::clip(text, TEXT_MAX)
}
