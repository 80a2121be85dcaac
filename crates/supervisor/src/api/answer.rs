//! What an error looks like from outside: a word, a sentence, and what would change it. What happened inside is logged.

use crate::authn::AuthnError;
use crate::dispatch::PinError;
use crate::error::ServiceError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use store::StoreError;

#[derive(Debug, Serialize)]
pub(crate) struct ApiError {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    message: String,
    rule: Option<String>,
    value: Option<String>,
    hint: Option<String>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned(), rule: None, value: None, hint: None }
    }

    fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self }))).into_response()
    }
}

impl From<AuthnError> for ApiError {
    fn from(error: AuthnError) -> Self {
        let answer = Self::new(StatusCode::UNAUTHORIZED, "not_authenticated", &error.to_string());
        Self { rule: Some(error.rule().to_owned()), ..answer.hint(error.hint()) }
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let message = error.to_string();
        let plain = |status, code| Self::new(status, code, &message);
        match error {
            ServiceError::NoSuchJob(_)
            | ServiceError::NoSuchWorker(_)
            | ServiceError::NoSuchUser(_)
            | ServiceError::NoSuchGrant(_)
            | ServiceError::NoSuchPage => plain(StatusCode::NOT_FOUND, "not_found"),
            ServiceError::Refused(refusal) => Self {
                rule: Some(refusal.rule),
                value: Some(refusal.value),
                hint: Some(refusal.hint),
                ..plain(StatusCode::FORBIDDEN, "refused")
            },
            ServiceError::Conflict(_) => plain(StatusCode::CONFLICT, "not_possible"),
            ServiceError::Scope(scope) => Self {
                rule: Some("scope".to_owned()),
                value: Some(scope.to_owned()),
                ..plain(StatusCode::FORBIDDEN, "refused")
            }
            .hint("use a token that has it, or sign in"),
            ServiceError::AdminOnly(_) => {
                Self { rule: Some("admin".to_owned()), ..plain(StatusCode::FORBIDDEN, "refused") }
                    .hint("ask an administrator of the farm")
            }
            ServiceError::AuditorOnly => {
                Self { rule: Some("auditor".to_owned()), ..plain(StatusCode::FORBIDDEN, "refused") }
                    .hint("ask an administrator for the role `auditor`")
            }
            ServiceError::Worker(PinError::NotSeen(_)) => plain(StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            ServiceError::Worker(PinError::NotYours { .. }) => plain(StatusCode::FORBIDDEN, "refused"),
            ServiceError::Worker(PinError::Store(error)) => of_store(&error),
            ServiceError::Job(_) | ServiceError::Input { .. } => plain(StatusCode::BAD_REQUEST, "invalid"),
            ServiceError::Store(error) => of_store(&error),
            ServiceError::Audit(error) => {
                tracing::error!(%error, "an act was not accepted: it can't be recorded");
                plain(StatusCode::SERVICE_UNAVAILABLE, "unavailable")
                    .hint("nothing was done; try again when the supervisor's disk is in order")
            }
        }
    }
}

fn of_store(error: &StoreError) -> ApiError {
    let message = error.to_string();
    let answer = |status, code| ApiError::new(status, code, &message);
    match error {
        StoreError::NoSuchJob(_)
        | StoreError::NoSuchSession(_)
        | StoreError::NoSuchGrant(_)
        | StoreError::NoSuchWorker(_) => answer(StatusCode::NOT_FOUND, "not_found"),
        StoreError::NotPossible(_) | StoreError::JobIsOver { .. } | StoreError::NotEnded(_) | StoreError::BadRow(_) => {
            answer(StatusCode::CONFLICT, "not_possible")
        }
        StoreError::NoSuchStep { .. }
        | StoreError::NoSuchTask { .. }
        | StoreError::NoSteps
        | StoreError::EmptyStep { .. }
        | StoreError::BadDependency { .. }
        | StoreError::TooLarge { .. } => answer(StatusCode::BAD_REQUEST, "invalid"),
        StoreError::NotYours { .. } => answer(StatusCode::FORBIDDEN, "refused"),
        StoreError::DiskFull { .. } => {
            tracing::error!(%error, "the store is unavailable");
            answer(StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        }
        // What the database says is for the operator's eyes.
        _ => {
            tracing::error!(%error, "the store is unavailable");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the store is unavailable")
                .hint("nothing was done; see the supervisor's own log")
        }
    }
}
