//! The small things: workers, exclusions, meta values, how much of a log is safe, and forgetting old jobs.

use sqlx::query;

use crate::Result;
use crate::convert::{get, i, job_state};
use crate::dialect::Conn;
use crate::error::StoreError;
use crate::submit::keep_audit;
use crate::types::{AuditRef, NewWorker};

pub(crate) async fn logged(conn: &mut Conn, session: u64, through: u64) -> Result<()> {
    query("UPDATE session_states SET logged = $2 WHERE session = $1 AND logged < $2")
        .bind(i(session))
        .bind(i(through))
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn enters(conn: &mut Conn, session: u64, steps: Vec<u32>) -> Result<()> {
    let steps = serde_json::Value::from(steps).to_string();
    query("UPDATE session_states SET entered = $2 WHERE session = $1")
        .bind(i(session))
        .bind(steps)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn end_audited(conn: &mut Conn, session: u64) -> Result<()> {
    query("UPDATE session_states SET end_audited = TRUE WHERE session = $1").bind(i(session)).execute(conn).await?;
    Ok(())
}

pub(crate) async fn clear_exclusions(conn: &mut Conn, worker: String) -> Result<()> {
    query("DELETE FROM exclusions WHERE worker = $1").bind(worker).execute(conn).await?;
    Ok(())
}

pub(crate) async fn upsert_worker(conn: &mut Conn, worker: NewWorker, now: i64) -> Result<()> {
    let labels = serde_json::Value::from(worker.labels).to_string();
    query(
        "INSERT INTO workers (name, mode, proxy_account, slots, labels, drained, last_seen, panic, hello) \
         VALUES ($1, $2, $3, $4, $5, FALSE, $6, $7, $8) \
         ON CONFLICT (name) DO UPDATE SET mode = excluded.mode, proxy_account = excluded.proxy_account, \
         slots = excluded.slots, labels = excluded.labels, last_seen = excluded.last_seen, panic = excluded.panic, \
         hello = excluded.hello",
    )
    .bind(worker.name)
    .bind(worker.mode)
    .bind(worker.proxy_account)
    .bind(i64::from(worker.slots))
    .bind(labels)
    .bind(now)
    .bind(worker.panic)
    .bind(worker.hello)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn set_drained(conn: &mut Conn, name: String, drained: bool, audit: Option<AuditRef>) -> Result<()> {
    let done =
        query("UPDATE workers SET drained = $2 WHERE name = $1").bind(&name).bind(drained).execute(&mut *conn).await?;
    if done.rows_affected() == 0 {
        return Err(StoreError::NoSuchWorker(name));
    }
    match audit {
        Some(audit) => keep_audit(conn, &audit).await,
        None => Ok(()),
    }
}

pub(crate) async fn set_panic(conn: &mut Conn, name: String, panic: Option<String>) -> Result<()> {
    let done = query("UPDATE workers SET panic = $2 WHERE name = $1").bind(&name).bind(panic).execute(conn).await?;
    if done.rows_affected() == 0 { Err(StoreError::NoSuchWorker(name)) } else { Ok(()) }
}

pub(crate) async fn worker_seen(conn: &mut Conn, name: String, now: i64) -> Result<()> {
    query("UPDATE workers SET last_seen = $2 WHERE name = $1 AND last_seen < $2")
        .bind(name)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn set_meta(conn: &mut Conn, key: String, value: String) -> Result<()> {
    query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind(key)
        .bind(value)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn claim_meta(conn: &mut Conn, key: String, value: String) -> Result<String> {
    query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING")
        .bind(&key)
        .bind(value)
        .execute(&mut *conn)
        .await?;
    let row = query("SELECT value FROM meta WHERE key = $1").bind(key).fetch_one(conn).await?;
    get(&row, "value")
}

/// Says of a job that is over that it is to go. Twice is once.
pub(crate) async fn remove_job(
    conn: &mut Conn,
    job: u64,
    reason: String,
    audit: Option<AuditRef>,
    now: i64,
) -> Result<()> {
    let row = query("SELECT state FROM jobs WHERE id = $1")
        .bind(i(job))
        .fetch_optional(&mut *conn)
        .await?
        .ok_or(StoreError::NoSuchJob(job))?;
    if !job_state(get(&row, "state")?)?.is_over() {
        return Err(StoreError::NotEnded(job));
    }
    let new = query("INSERT INTO removals (job, at) VALUES ($1, $2) ON CONFLICT (job) DO NOTHING")
        .bind(i(job))
        .bind(now)
        .execute(&mut *conn)
        .await?;
    if new.rows_affected() == 1 {
        query("UPDATE jobs SET reason = $2 WHERE id = $1").bind(i(job)).bind(reason).execute(&mut *conn).await?;
    }
    match audit {
        Some(audit) => keep_audit(conn, &audit).await,
        None => Ok(()),
    }
}

pub(crate) async fn delete_job(conn: &mut Conn, job: u64) -> Result<()> {
    let row = query("SELECT ended_at FROM jobs WHERE id = $1")
        .bind(i(job))
        .fetch_optional(&mut *conn)
        .await?
        .ok_or(StoreError::NoSuchJob(job))?;
    if get::<Option<i64>, _>(&row, "ended_at")?.is_none() {
        return Err(StoreError::NotEnded(job));
    }
    query("DELETE FROM jobs WHERE id = $1").bind(i(job)).execute(conn).await?;
    Ok(())
}
