//! The workers' socket: the channel, and what must not be lost. Only accounts named at start get here at all.

use super::bodies::Payer;
use super::{ApiError, App, Asked, Body, body};
use crate::authn::{AuthnError, Peer};
use crate::dispatch;
use crate::error::ServiceError;
use crate::events::Event;
use crate::logs::LogError;
use axum::Json;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;
use wire::{Reported, Reports};

/// The account at the other end, as the kernel says, and whether it is known that no session holds the process.
pub(crate) struct Uid {
    uid: u32,
    is_free: bool,
}

impl FromRequestParts<App> for Uid {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match parts.extensions.get::<Peer>() {
            // A desktop's worker may itself have been started anywhere.
            Some(peer @ (Peer::Unix { uid } | Peer::Session { uid, .. } | Peer::Untold { uid, .. })) => {
                let found = Self { uid: *uid, is_free: matches!(peer, Peer::Unix { .. }) };
                let is_service = app.service.dispatcher.is_service(found.uid);
                // A person's worker has the room that persons have.
                let payer = if is_service { Payer::Worker } else { Payer::Person(format!("desk/{}", found.uid)) };
                parts.extensions.insert(payer);
                Ok(found)
            }
            Some(Peer::Tcp { .. }) | None => Err(AuthnError::NotSignedIn.into()),
        }
    }
}

pub(crate) async fn channel(State(app): State<App>, Uid { uid, is_free }: Uid, upgrade: WebSocketUpgrade) -> Response {
    let most = app.service.dispatcher.message_max(uid);
    upgrade
        .max_message_size(most)
        .max_frame_size(most)
        .on_upgrade(move |socket| dispatch::channel(app.service.dispatcher, socket, (uid, is_free)))
}

pub(crate) async fn reports(
    State(app): State<App>,
    Uid { uid, is_free }: Uid,
    Body(group): Body<Reports>,
) -> Result<Json<Reported>, ApiError> {
    app.service.dispatcher.may_bring(uid, is_free).map_err(ServiceError::from)?;
    let through = app.service.report(group, uid).await?;
    Ok(Json(Reported { through }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Offset {
    offset: u64,
}

pub(crate) async fn log(
    State(app): State<App>,
    Uid { uid, is_free }: Uid,
    Path(session): Path<u64>,
    Asked(Offset { offset }): Asked<Offset>,
    request: Request,
) -> Result<Response, ApiError> {
    app.service.dispatcher.may_bring(uid, is_free).map_err(ServiceError::from)?;
    // A worker keeps what a session printed until there is room.
    app.service.room.begin().map_err(ServiceError::NoRoom)?;
    let data = body(request, &app).await?;
    let store = &app.service.store;
    let row = store.session(session).await.map_err(ServiceError::from)?;
    let row = row.ok_or(ServiceError::Store(store::StoreError::NoSuchSession(session)))?;
    app.service.dispatcher.is_session_from(&row, uid).await.map_err(ServiceError::from)?;
    let logs = app.service.logs.clone();
    let appended = tokio::task::spawn_blocking(move || logs.append(row.job, session, offset, &data)).await;
    match appended {
        Ok(Ok(through)) => {
            store.logged(session, through).await.map_err(ServiceError::from)?;
            app.service.events.say(Event::Log(row.job));
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Ok(Err(LogError::Offset { have })) => Ok((StatusCode::CONFLICT, Json(json!({ "have": have }))).into_response()),
        Ok(Err(error)) => {
            tracing::error!(session, %error, "output is not kept");
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the log can't be written"))
        }
        Err(_) => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the log was not written")),
    }
}
