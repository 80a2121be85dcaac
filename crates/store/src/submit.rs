//! A job comes in: a row for the job, one per step with one range of pending tasks, however many they are.

use std::collections::BTreeMap;

use job::{Hold, JobState, TaskState};
use sqlx::query;

use crate::Result;
use crate::convert::{get, i, job_state, number};
use crate::dialect::Conn;
use crate::edit::{Counters, JobEdit, Range, Tries, state_of, unmet_reason, waiting_reason};
use crate::error::StoreError;
use crate::types::{After, AuditRef, NewJob, NewStep};

pub(crate) async fn submit(conn: &mut Conn, job: NewJob, now: i64) -> Result<u64> {
    check(&job)?;
    if let Some(known) = requested_before(conn, &job).await? {
        return Ok(known);
    }
    let waits = open_waits(conn, &job.after).await?;
    let id = insert_job(conn, &job, &waits, now).await?;
    for (index, step) in (0_u32..).zip(&job.steps) {
        insert_step(conn, id, index, step, &job, waits.jobs.is_empty() && waits.unmet.is_none()).await?;
    }
    for after in &waits.jobs {
        query("INSERT INTO waits (job, on_job, any_end) VALUES ($1, $2, $3) ON CONFLICT (job, on_job) DO UPDATE SET any_end = (waits.any_end AND excluded.any_end)")
            .bind(i(id))
            .bind(i(after.job))
            .bind(after.any_end)
            .execute(&mut *conn)
            .await?;
    }
    keep_spec(conn, id, &job).await?;
    if let Some(audit) = &job.audit {
        keep_audit(conn, audit).await?;
    }
    if !waits.jobs.is_empty() && job.blocked.is_none() && waits.unmet.is_none() {
        let reason = waiting_reason(conn, id).await?;
        query("UPDATE jobs SET reason = $2 WHERE id = $1").bind(i(id)).bind(reason).execute(conn).await?;
    }
    Ok(id)
}

fn check(job: &NewJob) -> Result<()> {
    if job.steps.is_empty() {
        return Err(StoreError::NoSteps);
    }
    let mut total = 0_u64;
    for step in &job.steps {
        if step.tasks == 0 {
            return Err(StoreError::EmptyStep { name: step.name.clone() });
        }
        total = total.saturating_add(step.tasks);
    }
    if i64::try_from(total).is_err() {
        return Err(StoreError::TooLarge { what: "a number of tasks", value: total });
    }
    check_links(&job.steps)
}

/// Takes away step after step that waits for nothing; what is left waits for itself.
fn check_links(steps: &[NewStep]) -> Result<()> {
    let mut left: BTreeMap<u32, &NewStep> = (0_u32..).zip(steps).collect();
    for step in steps {
        if let Some(on) = step.depends_on.iter().find(|on| !left.contains_key(on)) {
            return Err(StoreError::BadDependency { name: step.name.clone(), on: *on });
        }
    }
    while !left.is_empty() {
        let free: Vec<u32> = left
            .iter()
            .filter(|(_, step)| !step.depends_on.iter().any(|on| left.contains_key(on)))
            .map(|(index, _)| *index)
            .collect();
        if free.is_empty() {
            let Some((step, on)) =
                left.values().find_map(|s| s.depends_on.iter().find(|on| left.contains_key(on)).map(|on| (s, on)))
            else {
                return Ok(());
            };
            return Err(StoreError::BadDependency { name: step.name.clone(), on: *on });
        }
        left.retain(|index, _| !free.contains(index));
    }
    Ok(())
}

async fn requested_before(conn: &mut Conn, job: &NewJob) -> Result<Option<u64>> {
    let Some(request) = &job.request_id else { return Ok(None) };
    let row = query("SELECT job FROM requests WHERE login_user = $1 AND run_user = $2 AND request = $3")
        .bind(&job.login_user)
        .bind(&job.user)
        .bind(request)
        .fetch_optional(conn)
        .await?;
    row.map(|row| number(&row, "job")).transpose()
}

#[derive(Default)]
struct Waits {
    /// Those that still have to end.
    jobs: Vec<After>,
    /// Why one of them can't be waited for any more.
    unmet: Option<String>,
}

async fn open_waits(conn: &mut Conn, after: &[After]) -> Result<Waits> {
    let mut waits = Waits::default();
    for one in after {
        let row = query("SELECT state, ended_at FROM jobs WHERE id = $1")
            .bind(i(one.job))
            .fetch_optional(&mut *conn)
            .await?
            .ok_or(StoreError::NoSuchJob(one.job))?;
        let state = job_state(get(&row, "state")?)?;
        let ended: Option<i64> = get(&row, "ended_at")?;
        if ended.is_none() {
            match waits.jobs.iter_mut().find(|w| w.job == one.job) {
                Some(same) => same.any_end &= one.any_end,
                None => waits.jobs.push(*one),
            }
        } else if !one.any_end && state != JobState::Complete {
            waits.unmet.get_or_insert_with(|| unmet_reason(one.job, state));
        }
    }
    Ok(waits)
}

async fn insert_job(conn: &mut Conn, job: &NewJob, waits: &Waits, now: i64) -> Result<u64> {
    let tasks: u64 = job.steps.iter().map(|s| s.tasks).sum();
    let reason = job.blocked.as_ref().or(waits.unmet.as_ref());
    let hold = if reason.is_some() { Hold::Blocked } else { Hold::None };
    let counters = Counters { pending: i(tasks), ..Counters::default() };
    let row = query(
        "INSERT INTO jobs (name, login_user, run_user, state, hold, reason, submitted_at, priority, retries, steps_n, \
         linked, waits, not_before, refusals, tasks, pending, running, complete, failed, killed, blocked, stuck, grant_id, \
         via) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, $13, $13, 0, 0, 0, 0, 0, 0, $14, $15) \
         RETURNING id",
    )
    .bind(&job.name)
    .bind(&job.login_user)
    .bind(&job.user)
    .bind(state_of(&counters, 0, 0, hold).as_str())
    .bind(hold.as_str())
    .bind(reason)
    .bind(now)
    .bind(i64::from(job.priority))
    .bind(i64::from(job.retries))
    .bind(i64::try_from(job.steps.len()).unwrap_or(i64::MAX))
    .bind(job.steps.iter().any(|s| !s.depends_on.is_empty()))
    .bind(i64::try_from(waits.jobs.len()).unwrap_or(i64::MAX))
    .bind(i(tasks))
    .bind(job.grant.map(i))
    .bind(&job.via)
    .fetch_one(conn)
    .await?;
    number(&row, "id")
}

async fn insert_step(conn: &mut Conn, id: u64, index: u32, step: &NewStep, job: &NewJob, open: bool) -> Result<()> {
    let mut links = step.depends_on.clone();
    links.sort_unstable();
    links.dedup();
    query(
        "INSERT INTO steps (job, step, name, priority, queued, unmet, hopeless, tasks, pending, running, complete, \
         failed, killed, blocked, needs) VALUES ($1, $2, $3, $4, $5, $6, FALSE, $7, $7, 0, 0, 0, 0, 0, $8)",
    )
    .bind(i(id))
    .bind(i64::from(index))
    .bind(&step.name)
    .bind(i64::from(job.priority))
    .bind(open && job.blocked.is_none() && links.is_empty())
    .bind(i64::try_from(links.len()).unwrap_or(i64::MAX))
    .bind(i(step.tasks))
    .bind(&step.needs)
    .execute(&mut *conn)
    .await?;
    for on in links {
        query("INSERT INTO step_links (job, step, on_step) VALUES ($1, $2, $3)")
            .bind(i(id))
            .bind(i64::from(index))
            .bind(i64::from(on))
            .execute(&mut *conn)
            .await?;
    }
    let all = Range { step: index, first: 0, last: step.tasks - 1, epoch: 1, tries: Tries::default() };
    JobEdit::insert_row(conn, id, all, TaskState::Pending, None).await
}

async fn keep_spec(conn: &mut Conn, id: u64, job: &NewJob) -> Result<()> {
    query("INSERT INTO specs (job, spec) VALUES ($1, $2)").bind(i(id)).bind(&job.spec).execute(&mut *conn).await?;
    if let Some(request) = &job.request_id {
        query("INSERT INTO requests (login_user, run_user, request, job) VALUES ($1, $2, $3, $4)")
            .bind(&job.login_user)
            .bind(&job.user)
            .bind(request)
            .bind(i(id))
            .execute(conn)
            .await?;
    }
    Ok(())
}

pub(crate) async fn keep_audit(conn: &mut Conn, audit: &AuditRef) -> Result<()> {
    let done = query(
        "INSERT INTO audited (chain, sequence, hash) VALUES ($1, $2, $3) ON CONFLICT (chain, sequence) DO NOTHING",
    )
    .bind(&audit.chain)
    .bind(i(audit.sequence))
    .bind(&audit.hash[..])
    .execute(conn)
    .await?;
    if done.rows_affected() == 0 {
        return Err(StoreError::AuditTaken { chain: audit.chain.clone(), sequence: audit.sequence });
    }
    Ok(())
}
