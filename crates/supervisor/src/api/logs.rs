//! What tasks printed, as it is; followed until nothing more may come.

use super::describe::{Made, Output};
use super::{ApiError, App, Asked, Caller, JobId};
use crate::ask::LogScope;
use crate::error::ServiceError;
use crate::logs::{Filter, Reader, Streams};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, header};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A follower looks at least this often.
const LOOK: Duration = Duration::from_secs(2);
/// How long output may come after the job's end is known: reports and logs travel apart.
const AFTERMATH: Duration = Duration::from_millis(300);

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogQuery {
    step: Option<String>,
    task: Option<u64>,
    attempt: Option<u32>,
    stream: Option<String>,
    /// So many bytes of the answer are known already.
    offset: u64,
    follow: bool,
    prefix: bool,
}

pub(crate) async fn logs(
    State(app): State<App>,
    caller: Caller,
    id: JobId,
    Asked(query): Asked<LogQuery>,
) -> Result<Made<Output>, ApiError> {
    let scope = app.service.log_scope(&caller, id.0, query.step.as_deref(), query.task).await?;
    let streams = streams(query.stream.as_deref())?;
    let filter = Filter { attempt: query.attempt, streams, prefix: query.prefix, ..Filter::default() };
    app.service.views_log(&caller, &scope).await?;
    let reader = app.service.log_reader(&scope, filter);
    let is_over = app.service.is_log_over(&scope).await?;
    let mut response = Response::new(output(app, caller, scope, reader, (query.offset, query.follow)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    let end = if is_over || query.follow { "true" } else { "false" };
    headers.insert("x-stead-end", header::HeaderValue::from_static(end));
    Ok(response.into())
}

/// All there is from an offset on, for as long as the caller may have it; and, who follows, what comes.
pub(crate) fn output(app: App, caller: Caller, scope: LogScope, reader: Reader, (at, follow): (u64, bool)) -> Body {
    let (to_client, pieces) = mpsc::channel::<Bytes>(4);
    let reading = Reading::new(app, caller, scope);
    tokio::spawn(give(reader, at, reading, follow, to_client));
    Body::from_stream(futures_util::stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((Ok::<_, Infallible>(piece), pieces))
    }))
}

/// For whom output is read.
pub(crate) struct Reading {
    app: App,
    caller: Caller,
    scope: LogScope,
    /// When that was asked last.
    asked: Instant,
}

impl Reading {
    pub(crate) fn new(app: App, caller: Caller, scope: LogScope) -> Self {
        Self { app, caller, scope, asked: Instant::now() }
    }

    pub(crate) fn job(&self) -> u64 {
        self.scope.job
    }

    /// Whether nothing more may come.
    pub(crate) async fn is_over(&self) -> bool {
        self.app.service.is_log_over(&self.scope).await.unwrap_or(true)
    }

    /// The right to read it may end while it is read.
    pub(crate) async fn may_go_on(&mut self) -> bool {
        self.asked = Instant::now();
        let service = &self.app.service;
        self.caller.is_still(&service.identity, &self.app.authn).await
            && service.open_to(&self.caller, self.scope.job).await.is_ok()
    }

    /// The same between the pieces of what is there: a long log takes a slow reader long.
    pub(crate) async fn may_have_more(&mut self) -> bool {
        self.asked.elapsed() < LOOK || self.may_go_on().await
    }
}

fn streams(word: Option<&str>) -> Result<Streams, ApiError> {
    match word {
        None | Some("all") => Ok(Streams::All),
        Some("stdout") => Ok(Streams::Stdout),
        Some("stderr") => Ok(Streams::Stderr),
        Some(other) => Err(ServiceError::input("stream", format!("{other:?} is not stdout, stderr or all")).into()),
    }
}

/// Sends all there is, then what comes, until it is over or nobody reads any more.
async fn give(mut reader: Reader, mut skip: u64, mut reading: Reading, follow: bool, to_client: mpsc::Sender<Bytes>) {
    let mut listener = reading.app.service.events.listen();
    loop {
        // Asked first: what was printed before the end is then there to be read.
        let is_over = match follow {
            false => true,
            true if !reading.may_go_on().await => return,
            true => reading.is_over().await,
        };
        if is_over && follow {
            tokio::time::sleep(AFTERMATH).await;
        }
        reader = match give_what_is_there(reader, &mut skip, &mut reading, &to_client).await {
            Some(reader) => reader,
            None => return,
        };
        if is_over {
            return;
        }
        tokio::select! {
            _ = tokio::time::timeout(LOOK, listener.changed(reading.scope.job)) => {}
            () = to_client.closed() => return,
        }
    }
}

/// `None` when the client is gone or may not go on, or the log can't be read.
async fn give_what_is_there(
    mut reader: Reader,
    skip: &mut u64,
    reading: &mut Reading,
    to_client: &mpsc::Sender<Bytes>,
) -> Option<Reader> {
    loop {
        let (back, piece) = tokio::task::spawn_blocking(move || {
            let piece = reader.next();
            (reader, piece)
        })
        .await
        .ok()?;
        reader = back;
        let mut piece = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) => return Some(reader),
            Err(error) => {
                tracing::error!(%error, "a log can't be read");
                return None;
            }
        };
        let known = usize::try_from(*skip).unwrap_or(usize::MAX).min(piece.len());
        *skip -= known as u64;
        piece.drain(..known);
        if !reading.may_have_more().await {
            return None;
        }
        if !piece.is_empty() {
            to_client.send(piece.into()).await.ok()?;
        }
    }
}
