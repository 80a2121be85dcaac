//! What a job printed, read for a client: as a table, as lines, or the end of it. All of it within the caller's right to
//! the job, and one at a time for each person; whoever shows any of it has put that on record before.

use super::task::Facts;
use crate::api::{ApiError, App};
use crate::ask::{LogScope, TasksQuery};
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::logs::{Filter, Reader, Streams};
use crate::workshop::Gone;
use axum::http::StatusCode;
use compat_linkis::Table;
use store::JobRow;

/// Most bytes of lines given at once.
const LINES_MAX: usize = 8 << 20;
/// Most bytes of the end of what was printed that stand in a sentence.
const LAST_WORDS: usize = 2000;

/// Lines of a log, from one on.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) text: String,
    /// The number of the line after them.
    pub(super) next: u64,
    /// There is more that was not given.
    pub(super) is_cut: bool,
}

fn all(job: u64) -> LogScope {
    LogScope { job, step: None, task: None }
}

fn unreadable(error: &std::io::Error) -> ApiError {
    tracing::error!(%error, "a log can't be read");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "what the job printed can't be read")
}

/// Reads a log to its end, or until it is enough.
async fn read<T: Send + 'static>(
    app: &App,
    caller: &Caller,
    mut reader: Reader,
    mut state: T,
    mut take: impl FnMut(&mut T, &[u8]) -> Result<bool, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let work = move |gone: &Gone| {
        while let Some(piece) = reader.next().map_err(|error| unreadable(&error))? {
            if gone.is() || !take(&mut state, &piece)? {
                break;
            }
        }
        Ok(state)
    };
    let done = app.service.reading.work_while_wanted(caller.principal.login_user.as_str(), work).await;
    done.unwrap_or_else(|_| Err(ServiceError::input("log", "reading it broke off").into()))
}

/// The table of a job's results. Of a job with one task, of its last try alone: one that was lost before it printed a
/// part of the same.
pub(super) async fn table(
    app: &App,
    caller: &Caller,
    row: &JobRow,
    facts: &Facts,
    wanted: Option<u64>,
) -> Result<Table, ApiError> {
    let mut filter = Filter { streams: Streams::Stdout, ..Filter::default() };
    if row.counts.total == 1 {
        let query = TasksQuery { limit: Some(1), ..TasksQuery::default() };
        let tasks = app.service.tasks(caller, row.id, query).await?;
        filter.attempt = tasks.first().and_then(|task| task.attempts.last()).map(|attempt| attempt.attempt);
    }
    let reader = app.service.log_reader(&all(row.id), filter);
    let table = Table::new(facts.format, wanted);
    let no_table = |error| ApiError::from(ServiceError::input("result", error));
    let table = read(app, caller, reader, table, move |table: &mut Table, piece: &[u8]| {
        table.push(piece).map(|()| true).map_err(no_table)
    });
    table.await?.finish().map_err(no_table)
}

/// `size` lines from one on, of both streams.
pub(super) async fn lines(app: &App, caller: &Caller, job: u64, (from, size): (u64, u64)) -> Result<Lines, ApiError> {
    let reader = app.service.log_reader(&all(job), Filter::default());
    let until = from.saturating_add(size);
    let take = move |(at, kept): &mut (u64, Vec<u8>), piece: &[u8]| {
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            if *at >= until || kept.len() > LINES_MAX {
                return Ok(false);
            }
            if *at >= from {
                kept.extend_from_slice(line);
            }
            *at += u64::from(line.ends_with(b"\n"));
        }
        Ok(true)
    };
    let (next, mut kept) = read(app, caller, reader, (0, Vec::new()), take).await?;
    let is_cut = kept.len() > LINES_MAX;
    kept.truncate(LINES_MAX);
    Ok(Lines { text: String::from_utf8_lossy(&kept).into_owned(), next: next.max(from), is_cut })
}

/// The end of what a job complained of. Nothing where the caller may not read it.
pub(super) async fn last_words(app: &App, caller: &Caller, job: u64) -> Result<String, ApiError> {
    let Ok(scope) = app.service.log_scope(caller, job, None, None).await else { return Ok(String::new()) };
    app.service.views_log(caller, &scope).await?;
    let reader = app.service.log_reader(&scope, Filter { streams: Streams::Stderr, ..Filter::default() });
    let take = |kept: &mut Vec<u8>, piece: &[u8]| {
        kept.extend_from_slice(piece);
        kept.drain(..kept.len().saturating_sub(LAST_WORDS));
        Ok(true)
    };
    let kept = read(app, caller, reader, Vec::new(), take).await?;
    Ok(String::from_utf8_lossy(&kept).trim().to_owned())
}
