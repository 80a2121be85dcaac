//! All that is only read, by connections that can't write.

use std::collections::BTreeMap;

use job::{AttemptState, Hold, JobState, TaskState};
use serde_json::Value;
use sqlx::query;

use crate::Result;
use crate::convert::{attempt_state, get, hold, i, job_state, number, small, task_state};
use crate::dialect::{Conn, Row};
use crate::edit::Counters;
use crate::pack;
use crate::types::{
    AttemptRow, ByState, Exclusion, JobFilter, JobList, JobRow, JobSort, JobsListed, Lease, Purpose, Reach, Ready,
    ReadyAt, RunningTask, SessionRow, SessionState, StepRow, TaskAttempts, TaskFilter, TaskRow, Whose, WorkerRow,
};

const EXPIRED_MAX: i64 = 1000;

macro_rules! job_columns {
    () => {
        "SELECT id, name, login_user, run_user, state, hold, reason, submitted_at, started_at, ended_at, priority, \
         retries, steps_n, pending, running, complete, failed, killed, blocked, stuck, grant_id, via"
    };
}

fn job_row(row: &Row) -> Result<JobRow> {
    Ok(JobRow {
        id: number(row, "id")?,
        name: get(row, "name")?,
        login_user: get(row, "login_user")?,
        user: get(row, "run_user")?,
        state: job_state(get(row, "state")?)?,
        reason: get(row, "reason")?,
        submitted_at: get(row, "submitted_at")?,
        started_at: get(row, "started_at")?,
        ended_at: get(row, "ended_at")?,
        priority: i32::try_from(get::<i64, _>(row, "priority")?).unwrap_or_default(),
        retries: small(row, "retries")?,
        spec: String::new(),
        counts: Counters::of(row)?.seen(get(row, "stuck")?, hold(get(row, "hold")?)?),
        steps_n: small(row, "steps_n")?,
        grant: get::<Option<i64>, _>(row, "grant_id")?.map(crate::convert::u),
        via: get(row, "via")?,
    })
}

pub(crate) async fn job(conn: &mut Conn, id: u64) -> Result<Option<JobRow>> {
    let row = query(concat!(job_columns!(), ", spec FROM jobs JOIN specs ON job = id WHERE id = $1"))
        .bind(i(id))
        .fetch_optional(&mut *conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(JobRow { spec: get(&row, "spec")?, ..job_row(&row)? }))
}

/// The statement for each combination of filters: an index serves each.
macro_rules! jobs_where {
    ($condition:expr) => {
        concat!(
            job_columns!(),
            " FROM jobs WHERE id < $1 AND state IN ($2, $3, $4, $5, $6, $7, $8, $9)",
            $condition,
            " ORDER BY id DESC LIMIT $10"
        )
    };
}

/// `$12`: who submitted it; `$13`: patterns of names.
macro_rules! jobs_reached {
    ($condition:literal) => {
        jobs_where!(concat!(
            " AND run_user = $11 AND (login_user = $12 \
             OR EXISTS (SELECT 1 FROM json_each($13) AS pattern WHERE jobs.name GLOB pattern.value))",
            $condition
        ))
    };
}

pub(crate) async fn jobs(conn: &mut Conn, filter: JobFilter) -> Result<Vec<JobRow>> {
    if let (Some(user), Some(reach)) = (&filter.user, &filter.reach) {
        let mut names = vec![user.clone(), reach.login_user.clone(), globs(reach)];
        names.extend(filter.login_user.clone());
        let sql = match &filter.login_user {
            None => jobs_reached!(""),
            Some(_) => jobs_reached!(" AND login_user = $14"),
        };
        return select_jobs(conn, sql, &filter, names).await;
    }
    let sql = match (&filter.user, &filter.login_user) {
        (None, None) => jobs_where!(""),
        (Some(_), None) => jobs_where!(" AND run_user = $11"),
        (None, Some(_)) => jobs_where!(" AND login_user = $11"),
        (Some(_), Some(_)) => jobs_where!(" AND run_user = $11 AND login_user = $12"),
    };
    let names = filter.user.iter().chain(&filter.login_user).cloned().collect();
    select_jobs(conn, sql, &filter, names).await
}

const TASK_STATES: [&str; 6] = ["pending", "running", "complete", "failed", "killed", "blocked"];

/// In one pass over the jobs.
pub(crate) async fn by_state(conn: &mut Conn) -> Result<ByState> {
    let sql = "SELECT state, count(*), sum(pending), sum(running), sum(complete), sum(failed), sum(killed), sum(blocked) \
               FROM jobs GROUP BY state";
    let mut jobs: BTreeMap<String, u64> = JobState::ALL.iter().map(|s| (s.as_str().to_owned(), 0)).collect();
    let mut tasks = TASK_STATES.map(|state| (state, 0));
    for row in query(sql).fetch_all(&mut *conn).await? {
        jobs.insert(get(&row, 0)?, number(&row, 1)?);
        for (n, (_, count)) in tasks.iter_mut().enumerate() {
            *count += number(&row, n + 2)?;
        }
    }
    Ok(ByState { jobs: jobs.into_iter().collect(), tasks: tasks.to_vec() })
}

/// Those that run as the filter's user by a grant.
pub(crate) async fn jobs_by_grant(conn: &mut Conn, filter: JobFilter) -> Result<Vec<JobRow>> {
    let sql = match &filter.login_user {
        None => jobs_where!(" AND via = 'grant' AND run_user = $11"),
        Some(_) => jobs_where!(" AND via = 'grant' AND run_user = $11 AND login_user = $12"),
    };
    let names = filter.user.iter().chain(&filter.login_user).cloned().collect();
    select_jobs(conn, sql, &filter, names).await
}

/// What `reach` names, as SQLite's GLOB has it: there `[` begins a set.
fn globs(reach: &Reach) -> String {
    Value::from(reach.names.iter().map(|name| name.replace('[', "[[]")).collect::<Vec<_>>()).to_string()
}

async fn select_jobs(
    conn: &mut Conn,
    sql: &'static str,
    filter: &JobFilter,
    names: Vec<String>,
) -> Result<Vec<JobRow>> {
    let states = if filter.states.is_empty() { JobState::ALL } else { &filter.states };
    let mut select = query(sql).bind(filter.after.map_or(i64::MAX, i));
    for n in 0..JobState::ALL.len() {
        select = select.bind(states.get(n).map_or("", |s| s.as_str()));
    }
    select = select.bind(i64::from(filter.limit));
    for name in names {
        select = select.bind(name);
    }
    select.fetch_all(&mut *conn).await?.iter().map(job_row).collect()
}

/// What a list is of. `$1`: of whom; `$2`: run as whom; then what is asked for besides.
macro_rules! listed {
    () => {
        " FROM jobs WHERE ($1 IS NULL OR login_user = $1 OR run_user = $1) AND ($2 IS NULL OR run_user = $2) \
         AND ($3 IS NULL OR run_user = $3) AND ($4 IS NULL OR login_user = $4) \
         AND ($5 IS NULL OR name LIKE $5 ESCAPE '\\' OR id = $6) \
         AND ($7 IS NULL OR login_user = $8 \
              OR EXISTS (SELECT 1 FROM json_each($7) AS pattern WHERE jobs.name GLOB pattern.value))"
    };
}

macro_rules! list_ordered {
    ($order:literal) => {
        concat!(job_columns!(), listed!(), " AND ($9 IS NULL OR state = $9) ORDER BY ", $order, " LIMIT $10 OFFSET $11")
    };
}

/// A page of a list, and how many there are of each state.
pub(crate) async fn job_list(conn: &mut Conn, list: &JobList) -> Result<JobsListed> {
    let (of, run_as) = match &list.whose {
        Whose::Everybody => (None, None),
        Whose::Of(name) => (Some(name.as_str()), None),
        Whose::RunAs(name) => (None, Some(name.as_str())),
    };
    let like = list.text.as_deref().map(|text| format!("%{}%", escaped(text)));
    let id = list.text.as_deref().and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or(-1);
    let globs = list.reach.as_ref().map(globs);
    let submitter = list.reach.as_ref().map(|reach| reach.login_user.as_str());
    let sql = match list.sort {
        JobSort::Newest => list_ordered!("id DESC"),
        JobSort::Oldest => list_ordered!("id"),
        JobSort::Priority => list_ordered!("priority DESC, id"),
        JobSort::Name => list_ordered!("name, id DESC"),
    };
    let counted = query(concat!("SELECT state, COUNT(*) AS n", listed!(), " GROUP BY state"))
        .bind(of)
        .bind(run_as)
        .bind(list.user.as_deref())
        .bind(list.login_user.as_deref())
        .bind(like.as_deref())
        .bind(id)
        .bind(globs.as_deref())
        .bind(submitter)
        .fetch_all(&mut *conn)
        .await?;
    let counts = counted.iter().map(|row| Ok((job_state(get(row, "state")?)?, number(row, "n")?)));
    let counts = counts.collect::<Result<_>>()?;
    let rows = query(sql)
        .bind(of)
        .bind(run_as)
        .bind(list.user.as_deref())
        .bind(list.login_user.as_deref())
        .bind(like.as_deref())
        .bind(id)
        .bind(globs.as_deref())
        .bind(submitter)
        .bind(list.state.map(JobState::as_str))
        .bind(i64::from(list.limit))
        .bind(i(list.offset))
        .fetch_all(&mut *conn)
        .await?;
    Ok(JobsListed { rows: rows.iter().map(job_row).collect::<Result<_>>()?, counts })
}

/// Text that means itself in `LIKE … ESCAPE '\'`.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if matches!(c, '%' | '_' | '\\') {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

/// The accounts that a job's sessions were for, each once.
pub(crate) async fn accounts(conn: &mut Conn, job: u64) -> Result<Vec<String>> {
    let rows = query("SELECT DISTINCT account FROM sessions WHERE job = $1 ORDER BY account LIMIT 8")
        .bind(i(job))
        .fetch_all(&mut *conn)
        .await?;
    rows.iter().map(|row| get(row, "account")).collect()
}

pub(crate) async fn reason(conn: &mut Conn, job: u64) -> Result<Option<String>> {
    let row = query("SELECT reason FROM jobs WHERE id = $1").bind(i(job)).fetch_optional(&mut *conn).await?;
    row.as_ref().map_or(Ok(None), |row| get(row, "reason"))
}

pub(crate) async fn steps(conn: &mut Conn, job: u64) -> Result<Vec<StepRow>> {
    let links = query("SELECT step, on_step FROM step_links WHERE job = $1 ORDER BY step, on_step")
        .bind(i(job))
        .fetch_all(&mut *conn)
        .await?;
    let links = links.iter().map(|r| Ok((small(r, "step")?, small(r, "on_step")?))).collect::<Result<Vec<_>>>()?;
    let rows = query(
        "SELECT steps.step, steps.name, unmet, hopeless, steps.tasks, steps.pending, steps.running, steps.complete, \
         steps.failed, steps.killed, steps.blocked, hold \
         FROM steps JOIN jobs ON id = job WHERE job = $1 ORDER BY steps.step",
    )
    .bind(i(job))
    .fetch_all(&mut *conn)
    .await?;
    rows.iter().map(|row| step_row(job, row, &links)).collect()
}

fn step_row(job: u64, row: &Row, links: &[(u32, u32)]) -> Result<StepRow> {
    let step = small(row, "step")?;
    let counters = Counters::of(row)?;
    let hopeless = get(row, "hopeless")?;
    let stuck = if hopeless { counters.pending } else { 0 };
    Ok(StepRow {
        job,
        step,
        name: get(row, "name")?,
        tasks: number(row, "tasks")?,
        depends_on: links.iter().filter(|(s, _)| *s == step).map(|(_, on)| *on).collect(),
        counts: counters.seen(stuck, hold(get(row, "hold")?)?),
        waiting: get::<i64, _>(row, "unmet")? > 0,
        hopeless,
    })
}

// --- dispatch

pub(crate) async fn ready(conn: &mut Conn, limit: usize, after: Option<ReadyAt>, now: i64) -> Result<Vec<Ready>> {
    // Within the priority first, then below it: both are ranges of the queue's index.
    let mut ready = Vec::new();
    let mut below = i64::MAX;
    if let Some(after) = after {
        below = i64::from(after.priority);
        let rows = query(
            "SELECT steps.job, steps.step, steps.priority, steps.pending, steps.needs, jobs.name, login_user, run_user, \
             grant_id, via \
             FROM steps JOIN jobs ON jobs.id = steps.job \
             WHERE steps.queued AND jobs.not_before <= $1 \
             AND steps.priority = $3 AND (steps.job, steps.step) > ($4, $5) \
             ORDER BY steps.job, steps.step LIMIT $2",
        )
        .bind(now)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(below)
        .bind(i(after.job))
        .bind(i64::from(after.step))
        .fetch_all(&mut *conn)
        .await?;
        ready = ready_rows(&rows)?;
    }
    let left = limit.saturating_sub(ready.len());
    if left == 0 {
        return Ok(ready);
    }
    let rows = query(
        "SELECT steps.job, steps.step, steps.priority, steps.pending, steps.needs, jobs.name, login_user, run_user, \
             grant_id, via \
         FROM steps JOIN jobs ON jobs.id = steps.job \
         WHERE steps.queued AND jobs.not_before <= $1 AND steps.priority < $3 \
         ORDER BY steps.priority DESC, steps.job, steps.step LIMIT $2",
    )
    .bind(now)
    .bind(i64::try_from(left).unwrap_or(i64::MAX))
    .bind(below)
    .fetch_all(&mut *conn)
    .await?;
    ready.extend(ready_rows(&rows)?);
    Ok(ready)
}

fn ready_rows(rows: &[Row]) -> Result<Vec<Ready>> {
    rows.iter()
        .map(|row| {
            Ok(Ready {
                job: number(row, "job")?,
                step: small(row, "step")?,
                priority: i32::try_from(get::<i64, _>(row, "priority")?).unwrap_or_default(),
                login_user: get(row, "login_user")?,
                user: get(row, "run_user")?,
                grant: get::<Option<i64>, _>(row, "grant_id")?.map(crate::convert::u),
                via: get(row, "via")?,
                name: get(row, "name")?,
                count: number(row, "pending")?,
                needs: get(row, "needs")?,
            })
        })
        .collect()
}

pub(crate) async fn next_retry(conn: &mut Conn, now: i64) -> Result<Option<i64>> {
    let row =
        query("SELECT not_before FROM jobs WHERE not_before > $1 AND state IN ('pending', 'running') ORDER BY not_before LIMIT 1")
            .bind(now)
            .fetch_optional(&mut *conn)
            .await?;
    row.as_ref().map(|row| get(row, "not_before")).transpose()
}

pub(crate) async fn expired(conn: &mut Conn, now: i64) -> Result<Vec<u64>> {
    let rows =
        query("SELECT session FROM session_states WHERE alive AND lease_until <= $1 ORDER BY lease_until LIMIT $2")
            .bind(now)
            .bind(EXPIRED_MAX)
            .fetch_all(&mut *conn)
            .await?;
    rows.iter().map(|row| number(row, "session")).collect()
}

/// Tasks that are to end instead of going on, and are still held.
pub(crate) async fn asked(conn: &mut Conn, session: u64) -> Result<Vec<RunningTask>> {
    let rows = query(
        "SELECT step, first, last, epoch, worker FROM leases JOIN sessions ON sessions.id = session \
         WHERE session = $1 AND asked IS NOT NULL ORDER BY leases.id",
    )
    .bind(i(session))
    .fetch_all(&mut *conn)
    .await?;
    let mut tasks = Vec::new();
    for row in &rows {
        let (step, epoch, worker): (u32, u32, &str) = (small(row, "step")?, small(row, "epoch")?, get(row, "worker")?);
        let range = number(row, "first")?..=number(row, "last")?;
        tasks.extend(range.map(|index| RunningTask { session, worker: worker.to_owned(), step, index, epoch }));
    }
    Ok(tasks)
}

pub(crate) async fn leases(conn: &mut Conn, session: u64) -> Result<Vec<Lease>> {
    let rows = query("SELECT id, job, step, first, last, epoch, session FROM leases WHERE session = $1 ORDER BY id")
        .bind(i(session))
        .fetch_all(&mut *conn)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Lease {
                id: number(row, "id")?,
                job: number(row, "job")?,
                step: small(row, "step")?,
                first: number(row, "first")?,
                last: number(row, "last")?,
                epoch: small(row, "epoch")?,
                session: number(row, "session")?,
            })
        })
        .collect()
}

// --- tasks

/// A range of tasks that look alike.
struct Span {
    step: u32,
    first: u64,
    last: u64,
    epoch: u32,
    state: TaskState,
    reason: Option<String>,
}

/// What decides how the tasks of a job look.
struct View {
    hold: Hold,
    /// Steps whose pending tasks can't run any more.
    hopeless: Vec<u32>,
    reason: Option<String>,
}

impl View {
    async fn load(conn: &mut Conn, job: u64) -> Result<Option<Self>> {
        let row = query("SELECT hold, reason FROM jobs WHERE id = $1").bind(i(job)).fetch_optional(&mut *conn).await?;
        let Some(row) = row else { return Ok(None) };
        let steps =
            query("SELECT step FROM steps WHERE job = $1 AND hopeless").bind(i(job)).fetch_all(&mut *conn).await?;
        let hopeless = steps.iter().map(|row| small(row, "step")).collect::<Result<_>>()?;
        Ok(Some(Self { hold: hold(get(&row, "hold")?)?, hopeless, reason: get(&row, "reason")? }))
    }

    fn seen(&self, mut span: Span) -> Span {
        let held = match (span.state, self.hold) {
            (TaskState::Pending, Hold::Blocked) => Some(TaskState::Blocked),
            (TaskState::Running, Hold::Suspended) => Some(TaskState::Suspended),
            _ => None,
        };
        if span.state == TaskState::Pending && self.hopeless.contains(&span.step) {
            span.state = TaskState::Blocked;
            span.reason = Some("a step it depends on did not complete".into());
        } else if let Some(state) = held {
            span.state = state;
            span.reason.clone_from(&self.reason);
        }
        span
    }
}

pub(crate) async fn tasks(conn: &mut Conn, job: u64, filter: &TaskFilter) -> Result<Vec<TaskRow>> {
    let Some(view) = View::load(conn, job).await? else { return Ok(Vec::new()) };
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    let mut steps = query("SELECT step FROM steps WHERE job = $1 AND step >= $2 ORDER BY step")
        .bind(i(job))
        .bind(i64::from(filter.from_step))
        .fetch_all(&mut *conn)
        .await?
        .iter()
        .map(|row| small(row, "step"))
        .collect::<Result<Vec<_>>>()?;
    steps.retain(|step| filter.step.is_none_or(|only| only == *step));
    for step in steps {
        if rows.len() >= limit {
            break;
        }
        let first = if step == filter.from_step { filter.first } else { 0 };
        expand(&mut rows, spans(conn, job, step, first, filter, &view).await?, first, limit);
    }
    Ok(rows)
}

/// The ranges of a step from `first` on, as people see them, in order. Each source gives at most `limit` of them.
async fn spans(
    conn: &mut Conn,
    job: u64,
    step: u32,
    first: u64,
    filter: &TaskFilter,
    view: &View,
) -> Result<Vec<Span>> {
    let wanted = |state: TaskState| filter.states.is_empty() || filter.states.contains(&state);
    let mut spans = Vec::new();
    for state in [TaskState::Pending, TaskState::Failed, TaskState::Killed, TaskState::Blocked] {
        // Pending ones may look blocked.
        if wanted(state) || (state == TaskState::Pending && wanted(TaskState::Blocked)) {
            spans.extend(piece_spans(conn, job, step, first, state, filter.limit).await?);
        }
    }
    if wanted(TaskState::Running) || wanted(TaskState::Suspended) {
        spans.extend(lease_spans(conn, job, step, first, filter.limit).await?);
    }
    if wanted(TaskState::Complete) {
        spans.extend(done_spans(conn, job, step, first, filter.limit).await?);
    }
    let mut spans: Vec<Span> = spans.into_iter().map(|s| view.seen(s)).filter(|s| wanted(s.state)).collect();
    spans.sort_unstable_by_key(|s| s.first);
    Ok(spans)
}

fn expand(rows: &mut Vec<TaskRow>, spans: Vec<Span>, first: u64, limit: usize) {
    for span in spans {
        for index in span.first.max(first)..=span.last {
            if rows.len() >= limit {
                return;
            }
            rows.push(TaskRow {
                step: span.step,
                index,
                state: span.state,
                reason: span.reason.clone(),
                epoch: span.epoch,
            });
        }
    }
}

async fn piece_spans(
    conn: &mut Conn,
    job: u64,
    step: u32,
    first: u64,
    state: TaskState,
    limit: u32,
) -> Result<Vec<Span>> {
    // The range that reaches over `first` begins before it, and is the last one that does.
    let rows = query(
        "SELECT step, first, last, epoch, state, reason FROM pieces WHERE job = $1 AND step = $2 AND state = $3 \
         AND first >= COALESCE((SELECT max(first) FROM pieces WHERE job = $1 AND step = $2 AND state = $3 \
         AND first <= $4), 0) AND last >= $4 ORDER BY first LIMIT $5",
    )
    .bind(i(job))
    .bind(i64::from(step))
    .bind(state.as_str())
    .bind(i(first))
    .bind(i64::from(limit))
    .fetch_all(&mut *conn)
    .await?;
    rows.iter().map(|row| span(row, task_state(get(row, "state")?)?, get(row, "reason")?)).collect()
}

async fn lease_spans(conn: &mut Conn, job: u64, step: u32, first: u64, limit: u32) -> Result<Vec<Span>> {
    let rows = query(
        "SELECT step, first, last, epoch FROM leases WHERE job = $1 AND step = $2 AND last >= $3 \
         ORDER BY first LIMIT $4",
    )
    .bind(i(job))
    .bind(i64::from(step))
    .bind(i(first))
    .bind(i64::from(limit))
    .fetch_all(&mut *conn)
    .await?;
    rows.iter().map(|row| span(row, TaskState::Running, None)).collect()
}

async fn done_spans(conn: &mut Conn, job: u64, step: u32, first: u64, limit: u32) -> Result<Vec<Span>> {
    let rows = query(
        "SELECT step, first, last, epoch FROM done WHERE job = $1 AND step = $2 AND last >= $3 AND current \
         ORDER BY last LIMIT $4",
    )
    .bind(i(job))
    .bind(i64::from(step))
    .bind(i(first))
    .bind(i64::from(limit))
    .fetch_all(&mut *conn)
    .await?;
    rows.iter().map(|row| span(row, TaskState::Complete, None)).collect()
}

fn span(row: &Row, state: TaskState, reason: Option<String>) -> Result<Span> {
    Ok(Span {
        step: small(row, "step")?,
        first: number(row, "first")?,
        last: number(row, "last")?,
        epoch: small(row, "epoch")?,
        state,
        reason,
    })
}

// --- attempts

/// The attempts of tasks `first..=last` of a step, by task and epoch.
pub(crate) async fn attempts(conn: &mut Conn, job: u64, step: u32, first: u64, last: u64) -> Result<Vec<AttemptRow>> {
    let mut rows = kept_attempts(conn, job, step, first, last).await?;
    rows.extend(done_attempts(conn, job, step, first, last).await?);
    rows.extend(living_attempts(conn, job, step, first, last).await?);
    rows.sort_unstable_by_key(|a| (a.index, a.attempt));
    Ok(rows)
}

pub(crate) async fn attempts_page(conn: &mut Conn, job: u64, filter: &TaskFilter) -> Result<Vec<TaskAttempts>> {
    let tasks = tasks(conn, job, filter).await?;
    let mut page: Vec<TaskAttempts> =
        tasks.into_iter().map(|task| TaskAttempts { task, attempts: Vec::new() }).collect();
    for of_step in page.chunk_by_mut(|a, b| a.task.step == b.task.step) {
        let (Some(first), Some(last)) = (of_step.first(), of_step.last()) else { continue };
        let found = attempts(conn, job, first.task.step, first.task.index, last.task.index).await?;
        let mut found = found.into_iter().peekable();
        for one in of_step {
            while found.next_if(|a| a.index < one.task.index).is_some() {}
            while let Some(attempt) = found.next_if(|a| a.index == one.task.index) {
                one.attempts.push(attempt);
            }
        }
    }
    Ok(page)
}

async fn kept_attempts(conn: &mut Conn, job: u64, step: u32, first: u64, last: u64) -> Result<Vec<AttemptRow>> {
    let rows = query(
        "SELECT step, task, epoch, session, state, exit_code, signal, started_at, ended_at, cpu_us, max_rss, reason \
         FROM attempts WHERE job = $1 AND step = $2 AND task BETWEEN $3 AND $4",
    )
    .bind(i(job))
    .bind(i64::from(step))
    .bind(i(first))
    .bind(i(last))
    .fetch_all(&mut *conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(AttemptRow {
                step: small(row, "step")?,
                index: number(row, "task")?,
                attempt: small(row, "epoch")?,
                session: number(row, "session")?,
                state: attempt_state(get(row, "state")?)?,
                exit_code: optional(row, "exit_code")?,
                signal: optional(row, "signal")?,
                started_at: get(row, "started_at")?,
                ended_at: get(row, "ended_at")?,
                cpu_us: number(row, "cpu_us")?,
                max_rss: number(row, "max_rss")?,
                reason: get(row, "reason")?,
            })
        })
        .collect()
}

fn optional(row: &Row, column: &str) -> Result<Option<i32>> {
    Ok(get::<Option<i64>, _>(row, column)?.and_then(|n| i32::try_from(n).ok()))
}

async fn done_attempts(conn: &mut Conn, job: u64, step: u32, first: u64, last: u64) -> Result<Vec<AttemptRow>> {
    // Chunks may overlap where tasks were done again: all that reach into the range.
    let rows = query(
        "SELECT step, first, epoch, session, data FROM done \
         WHERE job = $1 AND step = $2 AND last >= $3 AND first <= $4",
    )
    .bind(i(job))
    .bind(i64::from(step))
    .bind(i(first))
    .bind(i(last))
    .fetch_all(&mut *conn)
    .await?;
    let mut attempts = Vec::new();
    for row in &rows {
        let tasks = pack::decode(get(row, "data")?).ok_or_else(pack::damaged)?;
        let (attempt, session) = (small(row, "epoch")?, number(row, "session")?);
        let indices = number(row, "first")?..;
        attempts.extend(indices.zip(&tasks).filter(|(index, _)| (first..=last).contains(index)).map(
            |(index, task)| AttemptRow {
                step,
                index,
                attempt,
                session,
                state: AttemptState::Complete,
                exit_code: Some(0),
                signal: None,
                started_at: Some(task.started_at),
                ended_at: Some(task.ended_at()),
                cpu_us: task.cpu_us,
                max_rss: task.max_rss,
                reason: None,
            },
        ));
    }
    Ok(attempts)
}

/// The task that runs now in each session, or the one that a session is being launched for.
async fn living_attempts(conn: &mut Conn, job: u64, step: u32, first: u64, last: u64) -> Result<Vec<AttemptRow>> {
    let rows = query(
        "SELECT leases.first, leases.epoch, leases.session, leases.started, leases.started_at, state \
         FROM leases JOIN session_states ON session_states.session = leases.session \
         WHERE leases.job = $1 AND leases.step = $2 AND leases.first <= $4 AND leases.last >= $3",
    )
    .bind(i(job))
    .bind(i64::from(step))
    .bind(i(first))
    .bind(i(last))
    .fetch_all(&mut *conn)
    .await?;
    let mut attempts = Vec::new();
    for row in &rows {
        let started: Option<i64> = get(row, "started")?;
        let launching = SessionState::parse(get(row, "state")?)? == SessionState::Launching;
        let (index, state) = match started {
            Some(index) => (crate::convert::u(index), AttemptState::Running),
            None if launching => (number(row, "first")?, AttemptState::Launching),
            None => continue,
        };
        if !(first..=last).contains(&index) {
            continue;
        }
        attempts.push(AttemptRow {
            step,
            index,
            attempt: small(row, "epoch")?,
            session: number(row, "session")?,
            state,
            exit_code: None,
            signal: None,
            started_at: get(row, "started_at")?,
            ended_at: None,
            cpu_us: 0,
            max_rss: 0,
            reason: None,
        });
    }
    Ok(attempts)
}

// --- sessions

macro_rules! sessions_where {
    ($condition:literal) => {
        concat!(
            "SELECT id, job, worker, incarnation, mode, login_user, run_user, account, grant_id, policy_version, \
             decision, purpose, opened_at, state, lease_until, run_as, attested_by, started_at, ended_at, ending, \
             reason, proof_started, proof_ended, reported, logged, cpu_us, max_rss, batches, entered \
             FROM sessions JOIN session_states ON session = id WHERE ",
            $condition,
            " ORDER BY id"
        )
    };
}

fn session_row(row: &Row) -> Result<SessionRow> {
    let run_as: Option<&str> = get(row, "run_as")?;
    let run_as = run_as.map(serde_json::from_str).transpose();
    Ok(SessionRow {
        id: number(row, "id")?,
        job: number(row, "job")?,
        worker: get(row, "worker")?,
        incarnation: get(row, "incarnation")?,
        mode: get(row, "mode")?,
        login_user: get(row, "login_user")?,
        user: get(row, "run_user")?,
        account: get(row, "account")?,
        grant: get::<Option<i64>, _>(row, "grant_id")?.map(crate::convert::u),
        policy_version: get(row, "policy_version")?,
        decision: get(row, "decision")?,
        purpose: Purpose::parse(get(row, "purpose")?)?,
        lease_until: get(row, "lease_until")?,
        state: SessionState::parse(get(row, "state")?)?,
        run_as: run_as.map_err(|e| crate::convert::unknown("an account", &e.to_string()))?,
        attested_by: get(row, "attested_by")?,
        opened_at: get(row, "opened_at")?,
        started_at: get(row, "started_at")?,
        ended_at: get(row, "ended_at")?,
        end: get(row, "ending")?,
        reason: get(row, "reason")?,
        proof_started: get(row, "proof_started")?,
        proof_ended: get(row, "proof_ended")?,
        reported: number(row, "reported")?,
        logged: number(row, "logged")?,
        cpu_us: number(row, "cpu_us")?,
        max_rss: number(row, "max_rss")?,
        batches: number(row, "batches")?,
        entered: entered(get(row, "entered")?)?,
    })
}

fn entered(json: Option<&str>) -> Result<Vec<u32>> {
    let steps = json.map_or(Ok(Vec::new()), serde_json::from_str);
    steps.map_err(|_| crate::convert::unknown("entered environments", json.unwrap_or_default()))
}

pub(crate) async fn sessions(conn: &mut Conn, job: u64) -> Result<Vec<SessionRow>> {
    query(sessions_where!("job = $1")).bind(i(job)).fetch_all(&mut *conn).await?.iter().map(session_row).collect()
}

pub(crate) async fn session(conn: &mut Conn, id: u64) -> Result<Option<SessionRow>> {
    let row = query(sessions_where!("id = $1")).bind(i(id)).fetch_optional(&mut *conn).await?;
    row.as_ref().map(session_row).transpose()
}

pub(crate) async fn unaudited_ends(conn: &mut Conn) -> Result<Vec<SessionRow>> {
    let rows = query(sessions_where!("NOT alive AND NOT end_audited")).fetch_all(&mut *conn).await?;
    rows.iter().map(session_row).collect()
}

pub(crate) async fn job_of_request(
    conn: &mut Conn,
    login_user: &str,
    user: &str,
    request: &str,
) -> Result<Option<u64>> {
    let row = query("SELECT job FROM requests WHERE login_user = $1 AND run_user = $2 AND request = $3")
        .bind(login_user)
        .bind(user)
        .bind(request)
        .fetch_optional(&mut *conn)
        .await?;
    row.map(|row| number(&row, "job")).transpose()
}

pub(crate) async fn live_sessions(conn: &mut Conn, worker: Option<&str>) -> Result<Vec<SessionRow>> {
    let rows = match worker {
        Some(worker) => query(sessions_where!("alive AND worker = $1")).bind(worker).fetch_all(&mut *conn).await?,
        None => query(sessions_where!("alive")).fetch_all(&mut *conn).await?,
    };
    rows.iter().map(session_row).collect()
}

// --- workers, exclusions, meta, retention, audit

pub(crate) async fn workers(conn: &mut Conn) -> Result<Vec<WorkerRow>> {
    let rows = query(
        "SELECT name, mode, proxy_account, slots, labels, drained, last_seen, panic, hello FROM workers ORDER BY name",
    )
    .fetch_all(&mut *conn)
    .await?;
    rows.iter()
        .map(|row| {
            let labels: &str = get(row, "labels")?;
            Ok(WorkerRow {
                name: get(row, "name")?,
                mode: get(row, "mode")?,
                proxy_account: get(row, "proxy_account")?,
                slots: small(row, "slots")?,
                labels: serde_json::from_str(labels).map_err(|_| crate::convert::unknown("labels", labels))?,
                drained: get(row, "drained")?,
                last_seen: get(row, "last_seen")?,
                panic: get(row, "panic")?,
                hello: get(row, "hello")?,
            })
        })
        .collect()
}

pub(crate) async fn exclusions(conn: &mut Conn) -> Result<Vec<Exclusion>> {
    let rows = query("SELECT worker, account, rule, reason, at FROM exclusions ORDER BY worker, account")
        .fetch_all(&mut *conn)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Exclusion {
                worker: get(row, "worker")?,
                account: get(row, "account")?,
                rule: get(row, "rule")?,
                reason: get(row, "reason")?,
                at: get(row, "at")?,
            })
        })
        .collect()
}

pub(crate) async fn is_shared_account(conn: &mut Conn, name: &str) -> Result<bool> {
    let row = query("SELECT 1 FROM workers WHERE mode = 'proxy' AND proxy_account = $1 LIMIT 1").bind(name);
    Ok(row.fetch_optional(&mut *conn).await?.is_some())
}

pub(crate) async fn meta(conn: &mut Conn, key: &str) -> Result<Option<String>> {
    let row = query("SELECT value FROM meta WHERE key = $1").bind(key).fetch_optional(&mut *conn).await?;
    row.as_ref().map(|row| get(row, "value")).transpose()
}

pub(crate) async fn ended_before(conn: &mut Conn, before: i64, limit: u32) -> Result<Vec<u64>> {
    let rows = query("SELECT id FROM jobs WHERE ended_at IS NOT NULL AND ended_at < $1 ORDER BY ended_at, id LIMIT $2")
        .bind(before)
        .bind(i64::from(limit))
        .fetch_all(&mut *conn)
        .await?;
    rows.iter().map(|row| number(row, "id")).collect()
}

/// Jobs that are to go, newest first, from behind `after` on.
pub(crate) async fn removals(conn: &mut Conn, limit: u32, after: Option<u64>) -> Result<Vec<u64>> {
    let rows = query("SELECT job FROM removals WHERE job < $2 ORDER BY job DESC LIMIT $1")
        .bind(i64::from(limit))
        .bind(after.map_or(i64::MAX, i))
        .fetch_all(&mut *conn)
        .await?;
    rows.iter().map(|row| number(row, "job")).collect()
}

pub(crate) async fn is_removed(conn: &mut Conn, job: u64) -> Result<bool> {
    let row = query("SELECT 1 FROM removals WHERE job = $1").bind(i(job)).fetch_optional(&mut *conn).await?;
    Ok(row.is_some())
}

pub(crate) async fn audit_tail(conn: &mut Conn, chain: &str) -> Result<Option<(u64, [u8; 32])>> {
    let row = query("SELECT sequence, hash FROM audited WHERE chain = $1 ORDER BY sequence DESC LIMIT 1")
        .bind(chain)
        .fetch_optional(&mut *conn)
        .await?;
    row.as_ref().map(|row| Ok((number(row, "sequence")?, hash(row)?))).transpose()
}

pub(crate) async fn audited(conn: &mut Conn, chain: &str, sequence: u64) -> Result<Option<[u8; 32]>> {
    let row = query("SELECT hash FROM audited WHERE chain = $1 AND sequence = $2")
        .bind(chain)
        .bind(i(sequence))
        .fetch_optional(&mut *conn)
        .await?;
    row.as_ref().map(hash).transpose()
}

fn hash(row: &Row) -> Result<[u8; 32]> {
    let bytes: &[u8] = get(row, "hash")?;
    bytes.try_into().map_err(|_| crate::convert::unknown("a hash", &format!("{} bytes", bytes.len())))
}
