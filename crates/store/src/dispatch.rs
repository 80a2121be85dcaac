//! Work goes out: sessions and their leases.

use job::TaskState;
use sqlx::query;

use crate::Result;
use crate::convert::{get, i, number};
use crate::dialect::Conn;
use crate::edit::{Effects, JobEdit, Piece, Range, delete_piece, resize_piece};
use crate::error::StoreError;
use crate::lease;
use crate::types::{Lease, NewSession, Purpose, SessionState};

pub(crate) async fn open_session(
    conn: &mut Conn,
    session: NewSession,
    step: u32,
    max_tasks: u64,
    now: i64,
) -> Result<Option<(u64, Lease)>> {
    let mut job = JobEdit::load(conn, session.job).await?;
    let Some(range) = take_ready(conn, &mut job, step, max_tasks, now).await? else { return Ok(None) };
    let id = insert_session(conn, &session, now).await?;
    job.started(now);
    if session.purpose == Purpose::Run {
        job.sessions(1);
    }
    let lease = hand_out(conn, job, id, range, now).await?;
    Ok(Some((id, lease)))
}

pub(crate) async fn open_errand(conn: &mut Conn, session: NewSession, now: i64) -> Result<u64> {
    JobEdit::load(conn, session.job).await?;
    insert_session(conn, &session, now).await
}

pub(crate) async fn claim(conn: &mut Conn, session: u64, step: u32, max_tasks: u64, now: i64) -> Result<Option<Lease>> {
    let row = query("SELECT job, purpose, alive FROM sessions JOIN session_states ON session = id WHERE id = $1")
        .bind(i(session))
        .fetch_optional(&mut *conn)
        .await?
        .ok_or(StoreError::NoSuchSession(session))?;
    if !get::<bool, _>(&row, "alive")? || get::<&str, _>(&row, "purpose")? != Purpose::Run.as_str() {
        return Ok(None);
    }
    let mut job = JobEdit::load(conn, number(&row, "job")?).await?;
    match take_ready(conn, &mut job, step, max_tasks, now).await? {
        Some(range) => hand_out(conn, job, session, range, now).await.map(Some),
        None => Ok(None),
    }
}

/// The first pending tasks of the step, taken out of the queue.
async fn take_ready(conn: &mut Conn, job: &mut JobEdit, step: u32, max_tasks: u64, now: i64) -> Result<Option<Range>> {
    if max_tasks == 0 || !job.is_open() || job.not_before > now || !is_queued(conn, job.id, step).await? {
        return Ok(None);
    }
    let row = query(
        "SELECT id, step, state, first, last, epoch, fails, losses, misfires, reason FROM pieces \
         WHERE job = $1 AND step = $2 AND state = 'pending' ORDER BY first LIMIT 1",
    )
    .bind(i(job.id))
    .bind(i64::from(step))
    .fetch_optional(&mut *conn)
    .await?;
    let Some(piece) = row.as_ref().map(Piece::of).transpose()? else { return Ok(None) };
    let last = piece.range.last.min(piece.range.first.saturating_add(max_tasks - 1));
    match piece.range.after(last) {
        Some(rest) => resize_piece(conn, piece.id, rest).await?,
        None => delete_piece(conn, piece.id).await?,
    }
    let taken = Range { last, ..piece.range };
    job.shift(step, TaskState::Pending, TaskState::Running, taken.len());
    Ok(Some(taken))
}

async fn is_queued(conn: &mut Conn, job: u64, step: u32) -> Result<bool> {
    let row = query("SELECT queued FROM steps WHERE job = $1 AND step = $2")
        .bind(i(job))
        .bind(i64::from(step))
        .fetch_optional(conn)
        .await?
        .ok_or(StoreError::NoSuchStep { job, step })?;
    get(&row, "queued")
}

async fn hand_out(conn: &mut Conn, job: JobEdit, session: u64, range: Range, now: i64) -> Result<Lease> {
    let id = lease::grant(conn, job.id, session, range).await?;
    let lease =
        Lease { id, job: job.id, step: range.step, first: range.first, last: range.last, epoch: range.epoch, session };
    // Nothing can end by a claim: no other job is looked at.
    job.finish(conn, &mut Effects::default(), now).await?;
    Ok(lease)
}

async fn insert_session(conn: &mut Conn, session: &NewSession, now: i64) -> Result<u64> {
    let row = query(
        "INSERT INTO sessions (job, worker, incarnation, mode, login_user, run_user, account, grant_id, \
         policy_version, decision, purpose, opened_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id",
    )
    .bind(i(session.job))
    .bind(&session.worker)
    .bind(&session.incarnation)
    .bind(&session.mode)
    .bind(&session.login_user)
    .bind(&session.user)
    .bind(&session.account)
    .bind(session.grant.map(i))
    .bind(&session.policy_version)
    .bind(&session.decision)
    .bind(session.purpose.as_str())
    .bind(now)
    .fetch_one(&mut *conn)
    .await?;
    let id = number(&row, "id")?;
    query(
        "INSERT INTO session_states (session, state, alive, lease_until, reported, logged, cpu_us, max_rss, \
         tasks_ended) VALUES ($1, $2, TRUE, $3, 0, 0, 0, 0, 0)",
    )
    .bind(i(id))
    .bind(SessionState::Launching.as_str())
    .bind(session.lease_until)
    .execute(conn)
    .await?;
    Ok(id)
}

pub(crate) async fn renew(conn: &mut Conn, sessions: Vec<u64>, lease_until: i64) -> Result<Vec<u64>> {
    let mut renewed = Vec::with_capacity(sessions.len());
    for session in sessions {
        let done = query("UPDATE session_states SET lease_until = $2 WHERE session = $1 AND alive")
            .bind(i(session))
            .bind(lease_until)
            .execute(&mut *conn)
            .await?;
        if done.rows_affected() > 0 {
            renewed.push(session);
        }
    }
    Ok(renewed)
}
