//! The audit for auditors: records as they lie in the files, line by line; followed as long as whoever reads may.

use super::describe::{Made, Records};
use super::{Answer, ApiError, App, Asked};
use crate::audit::{self, Reader};
use crate::auditor::{AuditQuery, Whence, WhenceQuery};
use crate::caller::Caller;
use crate::error::ServiceError;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, header};
use bytes::Bytes;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;

/// Whether a follower may still read is asked at least this often.
const LOOK: Duration = Duration::from_secs(5);

pub(crate) async fn audit(
    State(app): State<App>,
    caller: Caller,
    Asked(query): Asked<AuditQuery>,
) -> Result<Made<Records>, ApiError> {
    let filter = query.filter()?;
    app.service.reads_audit(&caller, &query).await?;
    let (to_client, pieces) = mpsc::channel::<Bytes>(4);
    match query.last {
        Some(n) if !query.follow => {
            let stem = query.stem(&app.service);
            let lines = tokio::task::spawn_blocking(move || audit::last(&stem, &filter, n));
            let lines = lines.await.map_err(|e| ServiceError::input("audit", e))?;
            let lines = lines.map_err(|e| ServiceError::input("audit", e))?;
            return Ok(ndjson(Body::from(lines.concat())).into());
        }
        _ => {
            let reader = app.service.audit_reader(&query)?;
            tokio::spawn(give(app, reader, query.follow.then_some(caller), to_client));
        }
    }
    let body = futures_util::stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((Ok::<_, Infallible>(piece), pieces))
    });
    Ok(ndjson(Body::from_stream(body)).into())
}

fn ndjson(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/x-ndjson"));
    response
}

/// Sends what there is, then what comes, until nobody reads any more or may no longer.
async fn give(app: App, mut reader: Reader, follower: Option<Caller>, to_client: mpsc::Sender<Bytes>) {
    let mut grown = app.service.audit.grown();
    loop {
        grown.mark_unchanged();
        loop {
            let read = tokio::task::spawn_blocking(move || {
                let piece = reader.next();
                (reader, piece)
            });
            let Ok((back, piece)) = read.await else { return };
            reader = back;
            match piece {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => {
                    if to_client.send(piece.into()).await.is_err() {
                        return;
                    }
                }
                Err(error) => return tracing::error!(%error, "the audit can't be read"),
            }
        }
        let Some(caller) = &follower else { return };
        tokio::select! {
            _ = tokio::time::timeout(LOOK, grown.changed()) => {}
            () = to_client.closed() => return,
        }
        if !app.service.is_still_auditor(caller, &app.authn).await {
            return;
        }
    }
}

pub(crate) async fn verify(State(app): State<App>, caller: Caller) -> Answer<audit::Report> {
    Ok(Json(app.service.verify_audit(&caller).await?))
}

pub(crate) async fn whence(State(app): State<App>, caller: Caller, Asked(query): Asked<WhenceQuery>) -> Answer<Whence> {
    Ok(Json(app.service.whence(&caller, query).await?))
}
