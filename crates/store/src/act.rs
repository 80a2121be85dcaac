//! What people, and the supervisor's rules, do to jobs and tasks.

use job::{Hold, JobAction, JobState, TaskState};
use sqlx::query;

use crate::Result;
use crate::convert::{get, i, number, small};
use crate::dialect::Conn;
use crate::edit::{Effects, JobEdit, Piece, Range, Tries, delete_piece, resize_piece};
use crate::error::StoreError;
use crate::lease::{Ask, Leases};
use crate::pack;
use crate::submit::keep_audit;
use crate::types::{Acted, AuditRef, RunningTask};

pub(crate) async fn act(
    conn: &mut Conn,
    id: u64,
    action: JobAction,
    reason: Option<String>,
    audit: Option<AuditRef>,
    now: i64,
) -> Result<Acted> {
    let mut job = JobEdit::load(conn, id).await?;
    job.state.after(action)?;
    if matches!(action, JobAction::Retry | JobAction::Requeue) {
        stays(conn, id).await?;
    }
    let mut cancel = Cancel::default();
    match action {
        JobAction::Kill => {
            kill(conn, &mut job, &mut cancel, Hold::Killed, reason.or_else(|| Some("killed".into()))).await?
        }
        JobAction::Retry => retry(conn, &mut job).await?,
        JobAction::Block => block(conn, &mut job, &mut cancel, reason.or_else(|| Some("blocked".into()))).await?,
        JobAction::Unblock => unblock(conn, &mut job).await?,
        JobAction::Suspend => job.set_hold(Hold::Suspended, reason.or_else(|| Some("suspended".into()))),
        JobAction::Resume => go_on(conn, &mut job).await?,
        // One write: nothing of it can start in between.
        JobAction::Requeue => {
            retry(conn, &mut job).await?;
            job.set_hold(Hold::Blocked, reason.or_else(|| Some("requeued".into())));
        }
    }
    if let Some(audit) = audit {
        keep_audit(conn, &audit).await?;
    }
    close(conn, job, cancel, now).await
}

/// What is to go runs no more.
async fn stays(conn: &mut Conn, job: u64) -> Result<()> {
    let going = query("SELECT 1 FROM removals WHERE job = $1").bind(i(job)).fetch_optional(conn).await?;
    going.map_or(Ok(()), |_| Err(StoreError::Removed(job)))
}

pub(crate) async fn badlogin(conn: &mut Conn, id: u64, reason: String, now: i64) -> Result<Acted> {
    let mut job = JobEdit::load(conn, id).await?;
    let mut cancel = Cancel::default();
    refuse_login(conn, &mut job, &mut cancel, reason).await?;
    close(conn, job, cancel, now).await
}

/// Does nothing to a job that is over.
pub(crate) async fn refuse_login(
    conn: &mut Conn,
    job: &mut JobEdit,
    cancel: &mut Cancel,
    reason: String,
) -> Result<()> {
    if job.state.is_over() {
        return Ok(());
    }
    kill(conn, job, cancel, Hold::Badlogin, Some(reason)).await
}

pub(crate) async fn block_with_reason(conn: &mut Conn, id: u64, reason: String, now: i64) -> Result<Acted> {
    let mut job = JobEdit::load(conn, id).await?;
    let mut cancel = Cancel::default();
    if !job.state.is_over() {
        block(conn, &mut job, &mut cancel, Some(reason)).await?;
    }
    close(conn, job, cancel, now).await
}

/// What is leased comes to its end; nothing else starts.
pub(crate) async fn hold(conn: &mut Conn, id: u64, reason: String, now: i64) -> Result<Acted> {
    let mut job = JobEdit::load(conn, id).await?;
    if !job.state.is_over() {
        job.set_hold(Hold::Blocked, Some(reason));
    }
    close(conn, job, Cancel::default(), now).await
}

pub(crate) async fn set_reason(conn: &mut Conn, job: u64, reason: Option<String>) -> Result<()> {
    query("UPDATE jobs SET reason = $2 WHERE id = $1 AND state = 'pending' AND waits = 0")
        .bind(i(job))
        .bind(reason)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn modify(
    conn: &mut Conn,
    id: u64,
    name: Option<String>,
    priority: Option<i32>,
    audit: Option<AuditRef>,
) -> Result<Vec<u64>> {
    let job = JobEdit::load(conn, id).await?;
    if job.state.is_over() {
        return Err(StoreError::Over { job: id, state: job.state });
    }
    if let Some(name) = name {
        query("UPDATE jobs SET name = $2 WHERE id = $1").bind(i(id)).bind(name).execute(&mut *conn).await?;
    }
    if let Some(priority) = priority.map(i64::from) {
        query("UPDATE jobs SET priority = $2 WHERE id = $1").bind(i(id)).bind(priority).execute(&mut *conn).await?;
        query("UPDATE steps SET priority = $2 WHERE job = $1").bind(i(id)).bind(priority).execute(&mut *conn).await?;
    }
    if let Some(audit) = audit {
        keep_audit(conn, &audit).await?;
    }
    Ok(living_sessions(conn, id).await?.into_iter().map(|(session, _)| session).collect())
}

/// The leased tasks that are to be cancelled.
#[derive(Debug, Default)]
pub(crate) struct Cancel {
    ranges: Vec<(u64, Range)>,
}

/// Writes what was done, and says what the sessions must be told.
async fn close(conn: &mut Conn, job: JobEdit, cancel: Cancel, now: i64) -> Result<Acted> {
    let id = job.id;
    let sessions = living_sessions(conn, id).await?;
    let mut effects = Effects::default();
    let state = job.finish(conn, &mut effects, now).await?;
    effects.release(conn, now).await?;
    let worker = |session: u64| sessions.iter().find(|(id, _)| *id == session).map(|(_, worker)| worker.clone());
    let running = cancel
        .ranges
        .iter()
        .filter_map(|(session, range)| Some((session, range, worker(*session)?)))
        .flat_map(|(session, range, worker)| {
            (range.first..=range.last).map(move |index| RunningTask {
                session: *session,
                worker: worker.clone(),
                step: range.step,
                index,
                epoch: range.epoch,
            })
        })
        .collect();
    Ok(Acted {
        state,
        running,
        sessions,
        changed_jobs: effects.changed.into_iter().collect(),
        finished_jobs: effects.finished.into_iter().collect(),
    })
}

async fn living_sessions(conn: &mut Conn, job: u64) -> Result<Vec<(u64, String)>> {
    let rows = query(
        "SELECT id, worker FROM sessions JOIN session_states ON session = id WHERE job = $1 AND alive ORDER BY id",
    )
    .bind(i(job))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((number(row, "id")?, get(row, "worker")?))).collect()
}

async fn kill(
    conn: &mut Conn,
    job: &mut JobEdit,
    cancel: &mut Cancel,
    hold: Hold,
    reason: Option<String>,
) -> Result<()> {
    move_all(conn, job, TaskState::Pending, TaskState::Killed, reason.as_deref()).await?;
    move_all(conn, job, TaskState::Blocked, TaskState::Killed, reason.as_deref()).await?;
    ask_all(conn, job.id, cancel, Ask::Kill, reason.as_deref(), |_| true).await?;
    job.set_hold(hold, reason);
    Ok(())
}

async fn block(conn: &mut Conn, job: &mut JobEdit, cancel: &mut Cancel, reason: Option<String>) -> Result<()> {
    ask_all(conn, job.id, cancel, Ask::Requeue, reason.as_deref(), |ask| ask.is_none()).await?;
    job.set_hold(Hold::Blocked, reason);
    Ok(())
}

async fn unblock(conn: &mut Conn, job: &mut JobEdit) -> Result<()> {
    move_all(conn, job, TaskState::Blocked, TaskState::Pending, None).await?;
    let mut nobody = Cancel::default();
    ask_all(conn, job.id, &mut nobody, Ask::Requeue, None, |ask| ask == Some(Ask::Block)).await?;
    go_on(conn, job).await
}

async fn go_on(conn: &mut Conn, job: &mut JobEdit) -> Result<()> {
    let reason = crate::edit::waiting_reason(conn, job.id).await?;
    job.set_hold(Hold::None, reason);
    job.no_back_off();
    Ok(())
}

/// Failed and killed tasks, or all if all are complete, wait again under the next epoch.
async fn retry(conn: &mut Conn, job: &mut JobEdit) -> Result<()> {
    let all_complete = job.counters == crate::edit::Counters { complete: job.counters.complete, ..Default::default() };
    if all_complete {
        reopen_done(conn, job).await?;
    }
    for state in [TaskState::Failed, TaskState::Killed] {
        for (step, n) in counts_of(conn, job.id, state).await? {
            job.shift(step, state, TaskState::Pending, n);
        }
        query(
            "UPDATE pieces SET state = 'pending', epoch = epoch + 1, fails = 0, losses = 0, misfires = 0, \
             reason = NULL WHERE job = $1 AND state = $2",
        )
        .bind(i(job.id))
        .bind(state.as_str())
        .execute(&mut *conn)
        .await?;
    }
    let mut nobody = Cancel::default();
    ask_all(conn, job.id, &mut nobody, Ask::Requeue, Some("killed, then retried"), |ask| ask == Some(Ask::Kill))
        .await?;
    go_on(conn, job).await
}

async fn reopen_done(conn: &mut Conn, job: &mut JobEdit) -> Result<()> {
    let rows = query("SELECT step, first, last, epoch FROM done WHERE job = $1 AND current ORDER BY step, first")
        .bind(i(job.id))
        .fetch_all(&mut *conn)
        .await?;
    let mut open: Option<Range> = None;
    for row in &rows {
        let (step, first, last) = (small(row, "step")?, number(row, "first")?, number(row, "last")?);
        let next =
            Range { step, first, last, epoch: small(row, "epoch")?, tries: Tries::default() }.again(Tries::default());
        job.shift(step, TaskState::Complete, TaskState::Pending, next.len());
        open = Some(match open {
            Some(range) if range.step == step && range.last + 1 == first && range.epoch == next.epoch => {
                Range { last, ..range }
            }
            Some(range) => {
                JobEdit::insert_row(conn, job.id, range, TaskState::Pending, None).await?;
                next
            }
            None => next,
        });
    }
    if let Some(range) = open {
        JobEdit::insert_row(conn, job.id, range, TaskState::Pending, None).await?;
    }
    query("UPDATE done SET current = FALSE WHERE job = $1 AND current").bind(i(job.id)).execute(conn).await?;
    Ok(())
}

/// Moves all tasks that are set aside in one state into another one; a matter of ranges, not of tasks.
async fn move_all(
    conn: &mut Conn,
    job: &mut JobEdit,
    from: TaskState,
    to: TaskState,
    reason: Option<&str>,
) -> Result<()> {
    for (step, n) in counts_of(conn, job.id, from).await? {
        job.shift(step, from, to, n);
    }
    query("UPDATE pieces SET state = $3, reason = $4 WHERE job = $1 AND state = $2")
        .bind(i(job.id))
        .bind(from.as_str())
        .bind(to.as_str())
        .bind(reason)
        .execute(conn)
        .await?;
    Ok(())
}

/// How many tasks of each step are set aside in a state.
async fn counts_of(conn: &mut Conn, job: u64, state: TaskState) -> Result<Vec<(u32, u64)>> {
    let rows = query("SELECT step, first, last FROM pieces WHERE job = $1 AND state = $2")
        .bind(i(job))
        .bind(state.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok((small(row, "step")?, number(row, "last")? - number(row, "first")? + 1))).collect()
}

/// Asks for the leases of a job that `which` picks by what was asked before.
async fn ask_all(
    conn: &mut Conn,
    job: u64,
    cancel: &mut Cancel,
    ask: Ask,
    why: Option<&str>,
    which: impl Fn(Option<Ask>) -> bool,
) -> Result<()> {
    let mut leases = Leases::of_job(conn, job).await?;
    for lease in leases.now.iter_mut().filter(|l| which(l.ask)) {
        lease.ask(ask, why);
        cancel.ranges.push((lease.session, lease.range));
    }
    leases.write(conn).await
}

// --- single tasks

pub(crate) async fn act_on_tasks(
    conn: &mut Conn,
    id: u64,
    tasks: Vec<(u32, u64)>,
    action: JobAction,
    reason: Option<String>,
    audit: Option<AuditRef>,
    now: i64,
) -> Result<Acted> {
    let mut job = JobEdit::load(conn, id).await?;
    if job.hold == Hold::Badlogin {
        return Err(StoreError::JobIsOver { job: id, state: JobState::Badlogin });
    }
    if action == JobAction::Retry {
        stays(conn, id).await?;
    }
    let mut cancel = Cancel::default();
    for (step, index) in tasks {
        act_on_task(conn, &mut job, &mut cancel, (step, index), action, reason.as_deref()).await?;
    }
    if action == JobAction::Retry && job.hold == Hold::Killed {
        go_on(conn, &mut job).await?;
    }
    if let Some(audit) = audit {
        keep_audit(conn, &audit).await?;
    }
    close(conn, job, cancel, now).await
}

async fn act_on_task(
    conn: &mut Conn,
    job: &mut JobEdit,
    cancel: &mut Cancel,
    (step, index): (u32, u64),
    action: JobAction,
    reason: Option<&str>,
) -> Result<()> {
    check_task(conn, job.id, step, index).await?;
    if let Some(piece) = piece_with(conn, job.id, step, index).await? {
        return act_on_piece(conn, job, piece, index, action, reason).await;
    }
    let mut leases = Leases::of_job(conn, job.id).await?;
    if let Some(at) = leases.find(step, index, None) {
        let ask = match (TaskState::Running.after(action)?, action) {
            (TaskState::Killed, _) => Ask::Kill,
            (TaskState::Blocked, _) => Ask::Block,
            // Only whole jobs are suspended: a session runs many tasks.
            _ => return Err(only_whole_jobs(action)),
        };
        let mut held = leases.take(at, index, index);
        held.ask(ask, reason.or(Some(if ask == Ask::Kill { "killed" } else { "blocked" })));
        cancel.ranges.push((held.session, held.range));
        leases.add(at, held);
        return leases.write(conn).await;
    }
    TaskState::Complete.after(action)?;
    redo_complete(conn, job, step, index).await
}

fn only_whole_jobs(action: JobAction) -> StoreError {
    job::TransitionError { kind: "single task", state: TaskState::Running.as_str(), action, from: Vec::new() }.into()
}

async fn check_task(conn: &mut Conn, job: u64, step: u32, index: u64) -> Result<()> {
    let row = query("SELECT tasks FROM steps WHERE job = $1 AND step = $2")
        .bind(i(job))
        .bind(i64::from(step))
        .fetch_optional(conn)
        .await?
        .ok_or(StoreError::NoSuchStep { job, step })?;
    let tasks = number(&row, "tasks")?;
    if index < tasks { Ok(()) } else { Err(StoreError::NoSuchTask { job, step, index, tasks }) }
}

async fn piece_with(conn: &mut Conn, job: u64, step: u32, index: u64) -> Result<Option<Piece>> {
    for state in [TaskState::Pending, TaskState::Failed, TaskState::Killed, TaskState::Blocked] {
        let row = query(
            "SELECT id, step, state, first, last, epoch, fails, losses, misfires, reason FROM pieces \
             WHERE job = $1 AND step = $2 AND state = $3 AND first <= $4 ORDER BY first DESC LIMIT 1",
        )
        .bind(i(job))
        .bind(i64::from(step))
        .bind(state.as_str())
        .bind(i(index))
        .fetch_optional(&mut *conn)
        .await?;
        if let Some(piece) = row.as_ref().map(Piece::of).transpose()?.filter(|p| p.range.contains(index)) {
            return Ok(Some(piece));
        }
    }
    Ok(None)
}

async fn act_on_piece(
    conn: &mut Conn,
    job: &mut JobEdit,
    piece: Piece,
    index: u64,
    action: JobAction,
    reason: Option<&str>,
) -> Result<()> {
    let to = piece.state.after(action)?;
    let one = piece.range.only(index);
    let one = if action == JobAction::Retry { one.again(Tries::default()) } else { one };
    let reason = match to {
        TaskState::Killed => reason.or(Some("killed")),
        TaskState::Blocked => reason.or(Some("blocked")),
        _ => None,
    };
    cut_piece(conn, job.id, &piece, index).await?;
    job.put(conn, one, piece.state, to, reason).await
}

/// Takes one task out of a piece.
async fn cut_piece(conn: &mut Conn, job: u64, piece: &Piece, index: u64) -> Result<()> {
    match (piece.range.before(index), piece.range.after(index)) {
        (None, None) => delete_piece(conn, piece.id).await,
        (Some(rest), None) | (None, Some(rest)) => resize_piece(conn, piece.id, rest).await,
        (Some(front), Some(back)) => {
            resize_piece(conn, piece.id, front).await?;
            JobEdit::insert_row(conn, job, back, piece.state, piece.reason.as_deref()).await
        }
    }
}

/// A complete task waits again; its attempt stays as history.
async fn redo_complete(conn: &mut Conn, job: &mut JobEdit, step: u32, index: u64) -> Result<()> {
    let row = query(
        "SELECT id, step, first, last, epoch, session, data FROM done \
         WHERE job = $1 AND step = $2 AND last >= $3 AND current ORDER BY last LIMIT 1",
    )
    .bind(i(job.id))
    .bind(i64::from(step))
    .bind(i(index))
    .fetch_optional(&mut *conn)
    .await?
    .ok_or(StoreError::NoSuchTask { job: job.id, step, index, tasks: 0 })?;
    let (first, last) = (number(&row, "first")?, number(&row, "last")?);
    let chunk = Range { step, first, last, epoch: small(&row, "epoch")?, tries: Tries::default() };
    let tasks = pack::decode(get(&row, "data")?).ok_or_else(pack::damaged)?;
    let session = number(&row, "session")?;
    query("DELETE FROM done WHERE id = $1").bind(get::<i64, _>(&row, "id")?).execute(&mut *conn).await?;
    let parts = [(chunk.before(index), true), (Some(chunk.only(index)), false), (chunk.after(index), true)];
    for (part, current) in parts {
        if let Some(part) = part {
            pack::insert(conn, job.id, session, part, pack::slice(&tasks, first, part), current).await?;
        }
    }
    job.put(conn, chunk.only(index).again(Tries::default()), TaskState::Complete, TaskState::Pending, None).await
}
