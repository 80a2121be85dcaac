//! One job while it is being changed: ranges of tasks move, counters are gathered, and [`JobEdit::finish`] writes them
//! with the state that follows. Every change goes through here, so that counters and ranges can't part.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use job::{Counts, Hold, JobState, TaskState};
use sqlx::query;

use crate::Result;
use crate::convert::{clip, get, hold, i, job_state, number, small, task_state, u};
use crate::dialect::Conn;
use crate::error::StoreError;

/// Longest reason of a task within a job's.
const FIRST_FAILURE_MAX: usize = 500;

/// A counter per state in which tasks are stored (suspended tasks are running ones of a suspended job).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) pending: i64,
    pub(crate) running: i64,
    pub(crate) complete: i64,
    pub(crate) failed: i64,
    pub(crate) killed: i64,
    pub(crate) blocked: i64,
}

impl Counters {
    pub(crate) fn of(row: &crate::dialect::Row) -> Result<Self> {
        Ok(Self {
            pending: get(row, "pending")?,
            running: get(row, "running")?,
            complete: get(row, "complete")?,
            failed: get(row, "failed")?,
            killed: get(row, "killed")?,
            blocked: get(row, "blocked")?,
        })
    }

    fn at(&mut self, state: TaskState) -> &mut i64 {
        match state {
            TaskState::Pending => &mut self.pending,
            TaskState::Running | TaskState::Suspended => &mut self.running,
            TaskState::Complete => &mut self.complete,
            TaskState::Failed => &mut self.failed,
            TaskState::Killed => &mut self.killed,
            TaskState::Blocked => &mut self.blocked,
        }
    }

    fn minus(&self, other: &Self) -> Self {
        Self {
            pending: self.pending - other.pending,
            running: self.running - other.running,
            complete: self.complete - other.complete,
            failed: self.failed - other.failed,
            killed: self.killed - other.killed,
            blocked: self.blocked - other.blocked,
        }
    }

    fn total(&self) -> i64 {
        self.pending + self.running + self.complete + self.failed + self.killed + self.blocked
    }

    /// As people see them: what can't run because of another step, or because the job is blocked, is blocked.
    pub(crate) fn seen(&self, stuck: i64, hold: Hold) -> Counts {
        let mut counts = Counts {
            total: u(self.total()),
            pending: u(self.pending - stuck),
            running: u(self.running),
            complete: u(self.complete),
            failed: u(self.failed),
            killed: u(self.killed),
            blocked: u(self.blocked + stuck),
            suspended: 0,
        };
        match hold {
            Hold::Blocked => counts.blocked += std::mem::take(&mut counts.pending),
            Hold::Suspended => counts.suspended = std::mem::take(&mut counts.running),
            Hold::None | Hold::Killed | Hold::Badlogin => {}
        }
        counts
    }

    /// Where a step stands for those that depend on it.
    fn standing(&self) -> Standing {
        if self.pending > 0 || self.running > 0 || self.blocked > 0 {
            Standing::Open
        } else if self.failed > 0 || self.killed > 0 {
            Standing::Ended
        } else {
            Standing::Complete
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Open,
    Complete,
    /// Without being complete.
    Ended,
}

/// What was tried with a task since somebody last retried it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    pub(crate) fails: i64,
    pub(crate) losses: i64,
    pub(crate) misfires: i64,
}

/// Tasks of one step with the same epoch and tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) step: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) epoch: u32,
    pub(crate) tries: Tries,
}

impl Range {
    pub(crate) fn len(&self) -> u64 {
        self.last - self.first + 1
    }

    pub(crate) fn contains(&self, index: u64) -> bool {
        (self.first..=self.last).contains(&index)
    }

    pub(crate) fn only(self, index: u64) -> Self {
        Self { first: index, last: index, ..self }
    }

    /// What comes before `index`.
    pub(crate) fn before(self, index: u64) -> Option<Self> {
        (index > self.first).then(|| Self { last: index - 1, ..self })
    }

    /// What comes after `index`.
    pub(crate) fn after(self, index: u64) -> Option<Self> {
        (index < self.last).then(|| Self { first: index + 1, ..self })
    }

    /// Under the next epoch: no attempt of before is accepted any more.
    pub(crate) fn again(self, tries: Tries) -> Self {
        Self { epoch: self.epoch.saturating_add(1), tries, ..self }
    }
}

/// A range that waits or was set aside.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) id: i64,
    pub(crate) state: TaskState,
    pub(crate) range: Range,
    pub(crate) reason: Option<String>,
}

impl Piece {
    /// Of a row with id, step, state, first, last, epoch, fails, losses, misfires, reason.
    pub(crate) fn of(row: &crate::dialect::Row) -> Result<Self> {
        Ok(Self {
            id: get(row, "id")?,
            state: task_state(get(row, "state")?)?,
            range: range_of(row)?,
            reason: get(row, "reason")?,
        })
    }
}

pub(crate) fn range_of(row: &crate::dialect::Row) -> Result<Range> {
    Ok(Range {
        step: small(row, "step")?,
        first: number(row, "first")?,
        last: number(row, "last")?,
        epoch: small(row, "epoch")?,
        tries: Tries { fails: get(row, "fails")?, losses: get(row, "losses")?, misfires: get(row, "misfires")? },
    })
}

/// What a change did to jobs; jobs that wait for an ended one are looked at in the end.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) changed: BTreeSet<u64>,
    pub(crate) finished: BTreeSet<u64>,
    ended: VecDeque<(u64, JobState)>,
}

#[derive(Debug)]
pub(crate) struct JobEdit {
    pub(crate) id: u64,
    pub(crate) state: JobState,
    pub(crate) hold: Hold,
    pub(crate) reason: Option<String>,
    pub(crate) retries: i64,
    pub(crate) waits: i64,
    pub(crate) not_before: i64,
    pub(crate) refusals: i64,
    pub(crate) counters: Counters,
    stuck: i64,
    /// Living sessions that run tasks.
    live: i64,
    linked: bool,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    deltas: BTreeMap<u32, Counters>,
    /// Something else than counters changed.
    dirty: bool,
    /// Whether its steps may be dispatched, when it was loaded.
    was_open: bool,
    reason_given: bool,
}

impl JobEdit {
    pub(crate) async fn load(conn: &mut Conn, id: u64) -> Result<Self> {
        let row = query(
            "SELECT state, hold, reason, retries, waits, not_before, refusals, pending, running, complete, failed, \
             killed, blocked, stuck, live, linked, started_at, ended_at FROM jobs WHERE id = $1",
        )
        .bind(i(id))
        .fetch_optional(conn)
        .await?
        .ok_or(StoreError::NoSuchJob(id))?;
        let mut edit = Self {
            id,
            state: job_state(get(&row, "state")?)?,
            hold: hold(get(&row, "hold")?)?,
            reason: get(&row, "reason")?,
            retries: get(&row, "retries")?,
            waits: get(&row, "waits")?,
            not_before: get(&row, "not_before")?,
            refusals: get(&row, "refusals")?,
            counters: Counters::of(&row)?,
            stuck: get(&row, "stuck")?,
            live: get(&row, "live")?,
            linked: get(&row, "linked")?,
            started_at: get(&row, "started_at")?,
            ended_at: get(&row, "ended_at")?,
            deltas: BTreeMap::new(),
            dirty: false,
            was_open: false,
            reason_given: false,
        };
        edit.was_open = edit.is_open();
        Ok(edit)
    }

    /// Nothing holds the job as a whole (back-off apart).
    pub(crate) fn is_open(&self) -> bool {
        self.hold == Hold::None && self.waits == 0
    }

    pub(crate) fn set_hold(&mut self, hold: Hold, reason: Option<String>) {
        self.hold = hold;
        self.say(reason);
    }

    pub(crate) fn say(&mut self, reason: Option<String>) {
        self.reason = reason;
        self.reason_given = true;
        self.dirty = true;
    }

    pub(crate) fn started(&mut self, now: i64) {
        self.dirty |= self.started_at.is_none();
        self.started_at.get_or_insert(now);
    }

    /// A session that runs tasks began (1) or is over (-1).
    pub(crate) fn sessions(&mut self, change: i64) {
        self.live += change;
        self.dirty = true;
    }

    pub(crate) fn set_waits(&mut self, waits: i64) {
        self.waits = waits;
        self.dirty = true;
    }

    /// Not dispatched before a time that moves away with every refusal in a row: 1 s, doubling, at most 60 s.
    pub(crate) fn back_off(&mut self, now: i64) -> i64 {
        let seconds = 1_i64 << self.refusals.clamp(0, 6);
        self.not_before = now.saturating_add(seconds.min(60) * 1_000_000);
        self.refusals = self.refusals.saturating_add(1);
        self.dirty = true;
        self.not_before
    }

    pub(crate) fn no_back_off(&mut self) {
        self.dirty |= self.refusals != 0 || self.not_before != 0;
        self.refusals = 0;
        self.not_before = 0;
    }

    /// Counts `n` tasks of a step over from one state to another.
    pub(crate) fn shift(&mut self, step: u32, from: TaskState, to: TaskState, n: u64) {
        let delta = self.deltas.entry(step).or_default();
        *delta.at(from) -= i(n);
        *delta.at(to) += i(n);
        *self.counters.at(from) -= i(n);
        *self.counters.at(to) += i(n);
    }

    /// Puts tasks that were leased into the queue or aside, joined with neighbours that are alike.
    pub(crate) async fn put(
        &mut self,
        conn: &mut Conn,
        range: Range,
        from: TaskState,
        to: TaskState,
        reason: Option<&str>,
    ) -> Result<()> {
        self.shift(range.step, from, to, range.len());
        self.insert_piece(conn, range, to, reason).await
    }

    pub(crate) async fn insert_piece(
        &mut self,
        conn: &mut Conn,
        mut range: Range,
        state: TaskState,
        reason: Option<&str>,
    ) -> Result<()> {
        let alike =
            |p: &Piece| p.range.epoch == range.epoch && p.range.tries == range.tries && p.reason.as_deref() == reason;
        let before = self.neighbour_before(conn, range, state).await?.filter(alike);
        let after = self.neighbour_after(conn, range, state).await?.filter(alike);
        for piece in before.iter().chain(&after) {
            range.first = range.first.min(piece.range.first);
            range.last = range.last.max(piece.range.last);
        }
        match (before, after) {
            (None, None) => return Self::insert_row(conn, self.id, range, state, reason).await,
            (Some(one), None) | (None, Some(one)) => resize_piece(conn, one.id, range).await?,
            (Some(one), Some(other)) => {
                delete_piece(conn, other.id).await?;
                resize_piece(conn, one.id, range).await?;
            }
        }
        Ok(())
    }

    /// A range of its own, not joined with others.
    pub(crate) async fn insert_row(
        conn: &mut Conn,
        job: u64,
        range: Range,
        state: TaskState,
        reason: Option<&str>,
    ) -> Result<()> {
        query(
            "INSERT INTO pieces (job, step, state, first, last, epoch, fails, losses, misfires, reason) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(i(job))
        .bind(i64::from(range.step))
        .bind(state.as_str())
        .bind(i(range.first))
        .bind(i(range.last))
        .bind(i64::from(range.epoch))
        .bind(range.tries.fails)
        .bind(range.tries.losses)
        .bind(range.tries.misfires)
        .bind(reason)
        .execute(conn)
        .await?;
        Ok(())
    }

    async fn neighbour_before(&self, conn: &mut Conn, range: Range, state: TaskState) -> Result<Option<Piece>> {
        let row = query(
            "SELECT id, step, state, first, last, epoch, fails, losses, misfires, reason FROM pieces \
             WHERE job = $1 AND step = $2 AND state = $3 AND first < $4 ORDER BY first DESC LIMIT 1",
        )
        .bind(i(self.id))
        .bind(i64::from(range.step))
        .bind(state.as_str())
        .bind(i(range.first))
        .fetch_optional(conn)
        .await?;
        let piece = row.as_ref().map(Piece::of).transpose()?;
        Ok(piece.filter(|p| p.range.last + 1 == range.first))
    }

    async fn neighbour_after(&self, conn: &mut Conn, range: Range, state: TaskState) -> Result<Option<Piece>> {
        let row = query(
            "SELECT id, step, state, first, last, epoch, fails, losses, misfires, reason FROM pieces \
             WHERE job = $1 AND step = $2 AND state = $3 AND first = $4",
        )
        .bind(i(self.id))
        .bind(i64::from(range.step))
        .bind(state.as_str())
        .bind(i(range.last.saturating_add(1)))
        .fetch_optional(conn)
        .await?;
        row.as_ref().map(Piece::of).transpose()
    }

    /// Writes counters, state and what follows from them; gives what happened to `effects`.
    pub(crate) async fn finish(mut self, conn: &mut Conn, effects: &mut Effects, now: i64) -> Result<JobState> {
        let deltas: Vec<_> =
            std::mem::take(&mut self.deltas).into_iter().filter(|(_, d)| *d != Counters::default()).collect();
        if deltas.is_empty() && !self.dirty {
            return Ok(self.state);
        }
        let mut moved = false;
        for (step, delta) in &deltas {
            moved |= self.write_step(conn, *step, delta).await?;
        }
        if self.is_open() != self.was_open {
            self.requeue(conn).await?;
        }
        let mut culprit = None;
        if self.linked && moved {
            culprit = self.settle_steps(conn).await?;
        }
        if self.linked && !deltas.is_empty() {
            self.stuck = stuck(conn, self.id).await?;
        }
        let before = self.state;
        self.state = state_of(&self.counters, self.stuck, self.live, self.hold);
        self.choose_reason(conn, before, culprit).await?;
        self.mark_end(effects, now);
        self.write_job(conn).await?;
        effects.changed.insert(self.id);
        Ok(self.state)
    }

    /// Returns whether the step's standing changed.
    async fn write_step(&self, conn: &mut Conn, step: u32, delta: &Counters) -> Result<bool> {
        let row = query(
            "UPDATE steps SET pending = pending + $3, running = running + $4, complete = complete + $5, \
             failed = failed + $6, killed = killed + $7, blocked = blocked + $8, \
             queued = (pending + $3 > 0 AND unmet = 0 AND NOT hopeless AND $9) \
             WHERE job = $1 AND step = $2 \
             RETURNING pending, running, complete, failed, killed, blocked",
        )
        .bind(i(self.id))
        .bind(i64::from(step))
        .bind(delta.pending)
        .bind(delta.running)
        .bind(delta.complete)
        .bind(delta.failed)
        .bind(delta.killed)
        .bind(delta.blocked)
        .bind(self.is_open())
        .fetch_one(conn)
        .await?;
        let now = Counters::of(&row)?;
        Ok(now.standing() != now.minus(delta).standing())
    }

    async fn requeue(&self, conn: &mut Conn) -> Result<()> {
        query("UPDATE steps SET queued = (pending > 0 AND unmet = 0 AND NOT hopeless AND $2) WHERE job = $1")
            .bind(i(self.id))
            .bind(self.is_open())
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Works out anew which steps wait for which, and which can't run any more. Happens when a step ends or begins
    /// again, so it may look at all of them. Returns the first one that ended without being complete.
    async fn settle_steps(&self, conn: &mut Conn) -> Result<Option<String>> {
        let mut steps = load_steps(conn, self.id).await?;
        for row in
            query("SELECT step, on_step FROM step_links WHERE job = $1").bind(i(self.id)).fetch_all(&mut *conn).await?
        {
            let on = small(&row, "on_step")?;
            if let Some(step) = steps.get_mut(&small(&row, "step")?) {
                step.links.push(on);
            }
        }
        for (index, (unmet, hopeless)) in settled(&steps) {
            if steps.get(&index).is_some_and(|s| (s.unmet, s.hopeless) != (unmet, hopeless)) {
                self.write_links(conn, index, unmet, hopeless).await?;
            }
        }
        Ok(steps.into_values().find(|s| s.counters.standing() == Standing::Ended).map(|s| s.name))
    }

    async fn write_links(&self, conn: &mut Conn, step: u32, unmet: i64, hopeless: bool) -> Result<()> {
        query(
            "UPDATE steps SET unmet = $3, hopeless = $4, queued = (pending > 0 AND $3 = 0 AND NOT $4 AND $5) \
             WHERE job = $1 AND step = $2",
        )
        .bind(i(self.id))
        .bind(i64::from(step))
        .bind(unmet)
        .bind(hopeless)
        .bind(self.is_open())
        .execute(conn)
        .await?;
        Ok(())
    }

    async fn choose_reason(&mut self, conn: &mut Conn, before: JobState, culprit: Option<String>) -> Result<()> {
        if self.reason_given || self.state == before {
            return Ok(());
        }
        let all = self.counters.total();
        self.reason = match self.state {
            JobState::Failed | JobState::Killed if self.hold == Hold::None => {
                let what = match culprit {
                    Some(step) if self.stuck > 0 => {
                        format!("step {step} did not complete, and {} tasks depend on it", self.stuck)
                    }
                    _ if self.state == JobState::Failed => format!("{} of {all} tasks failed", self.counters.failed),
                    _ => format!("{} of {all} tasks were killed", self.counters.killed),
                };
                Some(match self.first_failure(conn).await? {
                    Some(first) => format!("{what}: {first}"),
                    None => what,
                })
            }
            JobState::Pending if self.waits > 0 => return Ok(()),
            JobState::Blocked if self.hold == Hold::None => Some("all remaining tasks are blocked".into()),
            JobState::Pending | JobState::Running | JobState::Complete => None,
            _ => return Ok(()),
        };
        Ok(())
    }

    /// The first task that failed, and why: `42.render.7: exit code 1`.
    async fn first_failure(&self, conn: &mut Conn) -> Result<Option<String>> {
        if self.counters.failed == 0 {
            return Ok(None);
        }
        let row = query(
            "SELECT s.name AS step_name, p.first AS task, p.reason AS why, j.steps_n AS steps_n FROM pieces p \
             JOIN steps s ON s.job = p.job AND s.step = p.step JOIN jobs j ON j.id = p.job \
             WHERE p.job = $1 AND p.state = 'failed' ORDER BY p.step, p.first LIMIT 1",
        )
        .bind(i(self.id))
        .fetch_optional(conn)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let Some(why) = get::<Option<&str>, _>(&row, "why")? else { return Ok(None) };
        let several = small(&row, "steps_n")? > 1;
        let step = if several { format!("{}.", get::<&str, _>(&row, "step_name")?) } else { String::new() };
        let task = number(&row, "task")?;
        Ok(Some(format!("{}.{step}{task}: {}", self.id, clip(why, FIRST_FAILURE_MAX))))
    }

    fn mark_end(&mut self, effects: &mut Effects, now: i64) {
        if !self.state.is_over() || self.counters.running > 0 {
            self.ended_at = None;
        } else if self.ended_at.is_none() {
            self.ended_at = Some(now);
            effects.finished.insert(self.id);
            effects.ended.push_back((self.id, self.state));
        }
    }

    async fn write_job(&self, conn: &mut Conn) -> Result<()> {
        query(
            "UPDATE jobs SET state = $2, hold = $3, reason = $4, waits = $5, not_before = $6, refusals = $7, \
             pending = $8, running = $9, complete = $10, failed = $11, killed = $12, blocked = $13, stuck = $14, \
             started_at = $15, ended_at = $16, live = $17 WHERE id = $1",
        )
        .bind(i(self.id))
        .bind(self.state.as_str())
        .bind(self.hold.as_str())
        .bind(self.reason.as_deref())
        .bind(self.waits)
        .bind(self.not_before)
        .bind(self.refusals)
        .bind(self.counters.pending)
        .bind(self.counters.running)
        .bind(self.counters.complete)
        .bind(self.counters.failed)
        .bind(self.counters.killed)
        .bind(self.counters.blocked)
        .bind(self.stuck)
        .bind(self.started_at)
        .bind(self.ended_at)
        .bind(self.live)
        .execute(conn)
        .await?;
        Ok(())
    }
}

/// The state that follows. Differs from [`JobState::of`] where only tasks are left that wait for killed ones: that job
/// is over, for nothing but a retry would make it go on. And where a session is between two batches: its job runs.
pub(crate) fn state_of(counters: &Counters, stuck: i64, live: i64, hold: Hold) -> JobState {
    let state = JobState::of(&counters.seen(stuck, Hold::None), hold);
    if state == JobState::Pending && live > 0 && counters.pending > stuck {
        return JobState::Running;
    }
    let only_stuck = stuck > 0 && counters.pending == stuck && counters.running == 0 && counters.blocked == 0;
    if state == JobState::Blocked && hold == Hold::None && only_stuck { JobState::Killed } else { state }
}

pub(crate) async fn resize_piece(conn: &mut Conn, id: i64, range: Range) -> Result<()> {
    query("UPDATE pieces SET first = $2, last = $3 WHERE id = $1")
        .bind(id)
        .bind(i(range.first))
        .bind(i(range.last))
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn delete_piece(conn: &mut Conn, id: i64) -> Result<()> {
    query("DELETE FROM pieces WHERE id = $1").bind(id).execute(conn).await?;
    Ok(())
}

async fn stuck(conn: &mut Conn, job: u64) -> Result<i64> {
    let rows = query("SELECT pending FROM steps WHERE job = $1 AND hopeless").bind(i(job)).fetch_all(conn).await?;
    rows.iter().try_fold(0, |sum, row| Ok(sum + get::<i64, _>(row, "pending")?))
}

struct Step {
    name: String,
    counters: Counters,
    unmet: i64,
    hopeless: bool,
    links: Vec<u32>,
}

async fn load_steps(conn: &mut Conn, job: u64) -> Result<BTreeMap<u32, Step>> {
    let rows = query(
        "SELECT step, name, unmet, hopeless, pending, running, complete, failed, killed, blocked \
         FROM steps WHERE job = $1 ORDER BY step",
    )
    .bind(i(job))
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let step = Step {
                name: get(row, "name")?,
                counters: Counters::of(row)?,
                unmet: get(row, "unmet")?,
                hopeless: get(row, "hopeless")?,
                links: Vec::new(),
            };
            Ok((small(row, "step")?, step))
        })
        .collect()
}

/// Per step: how many of those it depends on aren't complete, and whether one of them never will be.
fn settled(steps: &BTreeMap<u32, Step>) -> BTreeMap<u32, (i64, bool)> {
    let mut hopeless = BTreeSet::new();
    loop {
        let more: Vec<u32> = steps
            .iter()
            .filter(|(index, step)| {
                !hopeless.contains(*index)
                    && step.links.iter().any(|on| {
                        hopeless.contains(on) || steps.get(on).is_some_and(|s| s.counters.standing() == Standing::Ended)
                    })
            })
            .map(|(index, _)| *index)
            .collect();
        if more.is_empty() {
            break;
        }
        hopeless.extend(more);
    }
    let complete = |on: &&u32| steps.get(*on).is_some_and(|s| s.counters.standing() == Standing::Complete);
    steps
        .iter()
        .map(|(index, step)| {
            let unmet = step.links.len() - step.links.iter().filter(complete).count();
            (*index, (i64::try_from(unmet).unwrap_or(i64::MAX), hopeless.contains(index)))
        })
        .collect()
}

impl Effects {
    /// Lets the jobs that waited for an ended one go on, or blocks them.
    pub(crate) async fn release(&mut self, conn: &mut Conn, now: i64) -> Result<()> {
        while let Some((ended, state)) = self.ended.pop_front() {
            let rows =
                query("SELECT job, any_end FROM waits WHERE on_job = $1").bind(i(ended)).fetch_all(&mut *conn).await?;
            for row in rows {
                let met = get(&row, "any_end")? || state == JobState::Complete;
                self.release_one(conn, number(&row, "job")?, ended, state, met, now).await?;
            }
        }
        Ok(())
    }

    async fn release_one(
        &mut self,
        conn: &mut Conn,
        job: u64,
        ended: u64,
        state: JobState,
        met: bool,
        now: i64,
    ) -> Result<()> {
        query("DELETE FROM waits WHERE job = $1 AND on_job = $2")
            .bind(i(job))
            .bind(i(ended))
            .execute(&mut *conn)
            .await?;
        let mut edit = JobEdit::load(conn, job).await?;
        edit.set_waits(edit.waits - 1);
        if !met && matches!(edit.hold, Hold::None | Hold::Blocked | Hold::Suspended) {
            edit.set_hold(Hold::Blocked, Some(unmet_reason(ended, state)));
        } else if edit.hold == Hold::None {
            let reason = waiting_reason(conn, job).await?;
            edit.say(reason);
        }
        edit.finish(conn, self, now).await?;
        Ok(())
    }
}

pub(crate) fn unmet_reason(job: u64, state: JobState) -> String {
    format!("job {job}, which it waits for, ended {state}: unblock it to run it all the same")
}

/// `waits for job 4 and 2 more`
pub(crate) async fn waiting_reason(conn: &mut Conn, job: u64) -> Result<Option<String>> {
    let rows = query("SELECT on_job FROM waits WHERE job = $1 ORDER BY on_job").bind(i(job)).fetch_all(conn).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let first = number(first, "on_job")?;
    Ok(Some(match rows.len() {
        1 => format!("waits for job {first}"),
        n => format!("waits for job {first} and {} more", n - 1),
    }))
}
