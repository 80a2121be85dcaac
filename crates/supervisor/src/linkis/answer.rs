//! Every answer goes into Linkis's envelope, in one place: what handlers say, and every error.

use crate::api::{ApiError, ByRule};
use axum::Json;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use compat_linkis::{Envelope, Status};
use serde_json::Value;

/// What a handler says; the envelope follows.
#[derive(Debug, Clone)]
pub(super) struct Said {
    message: &'static str,
    data: Value,
}

pub(super) type Answer = Result<Said, ApiError>;

pub(super) fn said(data: Value) -> Said {
    Said { message: "OK", data }
}

impl IntoResponse for Said {
    fn into_response(self) -> Response {
        let mut response = StatusCode::OK.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Keeps headers, among them cookies, and who counts refusals.
pub(super) async fn enveloped(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let (mut head, body) = response.into_parts();
    let (status, envelope) = if let Some(said) = head.extensions.remove::<Said>() {
        (StatusCode::OK, Envelope::new(&path, Status::Ok, said.message, said.data))
    } else if let Some(error) = head.extensions.remove::<ApiError>() {
        let status = Status::of_http(error.status.as_u16());
        (http(error.status, status), Envelope::error(&path, status, number(&error), &sentence(&error)))
    } else {
        return Response::from_parts(head, body);
    };
    let mut whole = (status, Json(envelope)).into_response();
    head.headers.remove(axum::http::header::CONTENT_LENGTH);
    head.headers.remove(axum::http::header::CONTENT_TYPE);
    whole.headers_mut().extend(head.headers);
    if let Some(rule) = head.extensions.remove::<ByRule>() {
        whole.extensions_mut().insert(rule);
    }
    whole
}

/// Linkis's, but where a client should come again later.
fn http(ours: StatusCode, status: Status) -> StatusCode {
    match ours {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::PAYLOAD_TOO_LARGE => ours,
        _ => StatusCode::from_u16(status.http()).unwrap_or(ours),
    }
}

/// The sentence and what would change it: most clients show nothing else.
fn sentence(error: &ApiError) -> String {
    match &error.hint {
        Some(hint) => format!("{} ({hint})", error.message),
        None => error.message.clone(),
    }
}

/// The numbers that clients of Linkis's know.
fn number(error: &ApiError) -> Option<u32> {
    match (error.status, error.rule.as_deref()) {
        (_, Some("user_creator")) => Some(50080),
        (_, Some("no_proxy_user")) => Some(60050),
        (_, Some("sign_in" | "credential_ended")) => Some(11002),
        (StatusCode::UNAUTHORIZED, Some("credential")) => Some(11003),
        _ => None,
    }
}
