//! What an error looks like from outside: a word, a sentence, and what would change it. What happened inside is logged.

use crate::authn::{AuthnError, Denial, password};
use crate::dispatch::PinError;
use crate::error::ServiceError;
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use policy::Refusal;
use schemars::JsonSchema;
use serde::Serialize;
use store::StoreError;
use warrant::files::FileRule;

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct ApiError {
    #[serde(skip)]
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) rule: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) hint: Option<String>,
    /// Seconds.
    #[serde(skip)]
    pub(crate) retry_after: Option<u16>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned(), rule: None, value: None, hint: None, retry_after: None }
    }

    /// `not` ready: the words of what isn't.
    pub(crate) fn not_ready(not: &str) -> Self {
        let message = format!("the supervisor can't do its work: {not}");
        let answer = Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", &message);
        let hint = "administrators learn more by `stead doctor`, and from the supervisor's log";
        Self { rule: Some("ready".to_owned()), value: Some(not.to_owned()), retry_after: Some(1), ..answer.hint(hint) }
    }

    pub(crate) fn soon(self) -> Self {
        Self { retry_after: Some(1), ..self.hint("try again in a moment") }
    }

    /// A limit was met that something else is going to free.
    pub(crate) fn limited(self, rule: &str, max: usize, hint: &str) -> Self {
        let value = Some(max.to_string());
        Self { rule: Some(rule.to_owned()), value, retry_after: Some(1), ..self.hint(hint) }
    }

    fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }
}

/// The rule that refused, for whoever counts.
#[derive(Debug, Clone)]
pub(crate) struct ByRule(pub(crate) String);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let rule = self.rule.clone();
        let seconds = self.retry_after;
        let mut response = (self.status, Json(serde_json::json!({ "error": &self }))).into_response();
        if let Some(rule) = rule {
            response.extensions_mut().insert(ByRule(rule));
        }
        if let Some(seconds) = seconds {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        // Where a browser asked for a page it becomes one.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<AuthnError> for ApiError {
    fn from(error: AuthnError) -> Self {
        let (status, code) = match error {
            AuthnError::CrossSite => (StatusCode::FORBIDDEN, "refused"),
            AuthnError::Unavailable | AuthnError::Database { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            _ => (StatusCode::UNAUTHORIZED, "not_authenticated"),
        };
        let answer = Self::new(status, code, &error.to_string());
        Self { rule: Some(error.rule().to_owned()), ..answer.hint(error.hint()) }
    }
}

impl From<Denial> for ApiError {
    fn from(denial: Denial) -> Self {
        let (status, code) = match denial {
            Denial::Wrong => (StatusCode::UNAUTHORIZED, "not_authenticated"),
            Denial::Limited { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many"),
            Denial::Unavailable | Denial::DirectoryDown => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Denial::Expired | Denial::MustChange | Denial::Refused | Denial::Off { .. } => {
                (StatusCode::FORBIDDEN, "refused")
            }
        };
        let retry_after = match denial {
            Denial::Limited { retry_after } => Some(u16::try_from(password::seconds(retry_after)).unwrap_or(u16::MAX)),
            _ => None,
        };
        let answer = Self::new(status, code, &denial.to_string()).hint(denial.hint());
        Self { rule: Some(denial.rule().to_owned()), retry_after, ..answer }
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let message = error.to_string();
        let plain = |status, code| Self::new(status, code, &message);
        match error {
            ServiceError::Denied(denial) => denial.into(),
            ServiceError::NoSuchJob(_)
            | ServiceError::NoSuchWorker(_)
            | ServiceError::NoSuchUser(_)
            | ServiceError::NoSuchAccount(_)
            | ServiceError::NoSuchGrant(_)
            | ServiceError::NoSuchCredential { .. }
            | ServiceError::NoSuchPage => plain(StatusCode::NOT_FOUND, "not_found"),
            ServiceError::Refused(refusal) => Self {
                rule: Some(refusal.rule),
                value: Some(refusal.value),
                hint: Some(refusal.hint),
                ..plain(StatusCode::FORBIDDEN, "refused")
            },
            ServiceError::NoRoom(refusal) => no_room(refusal),
            ServiceError::ProviderDown(_) => {
                Self { rule: Some("oidc_provider".to_owned()), ..plain(StatusCode::SERVICE_UNAVAILABLE, "unavailable") }
                    .hint("try again later; the supervisor's log says more to its administrator")
            }
            ServiceError::FilesAway(_) => {
                Self { rule: Some("files_away".to_owned()), ..plain(StatusCode::SERVICE_UNAVAILABLE, "unavailable") }
                    .hint("files are where the job ran: they can be had while that worker is connected")
            }
            ServiceError::File { rule, .. } => {
                let (status, code) = of_file(rule);
                Self { rule: Some(rule.as_str().to_owned()), ..plain(status, code) }
            }
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
            ServiceError::Worker(PinError::NotYours { .. } | PinError::Unlisted(_)) => {
                plain(StatusCode::FORBIDDEN, "refused")
            }
            ServiceError::Worker(PinError::Store(error)) => of_store(&error),
            ServiceError::Configuration(_) => plain(StatusCode::BAD_REQUEST, "invalid")
                .hint("`stead config check FILE` says all that is wrong with a file; mend it and reload"),
            ServiceError::Job(_) | ServiceError::Input { .. } => plain(StatusCode::BAD_REQUEST, "invalid"),
            ServiceError::Store(error) => of_store(&error),
            ServiceError::Audit(error) => {
                tracing::error!(%error, "an act was not accepted: it can't be recorded");
                let rule = error.is_full().then(|| "disk_full".to_owned());
                Self { rule, ..plain(StatusCode::SERVICE_UNAVAILABLE, "unavailable") }
                    .hint("nothing was done; try again when the supervisor's disk is in order")
            }
        }
    }
}

/// What the account's own session said.
fn of_file(rule: FileRule) -> (StatusCode, &'static str) {
    match rule {
        FileRule::Path => (StatusCode::BAD_REQUEST, "invalid"),
        FileRule::Missing => (StatusCode::NOT_FOUND, "not_found"),
        FileRule::LeadsOut | FileRule::Denied => (StatusCode::FORBIDDEN, "refused"),
        _ => (StatusCode::CONFLICT, "not_possible"),
    }
}

/// It may have gone when it is asked again.
fn no_room(refusal: Refusal) -> ApiError {
    let Refusal { rule, value, text, hint } = refusal;
    let answer = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &text);
    ApiError { rule: Some(rule), value: Some(value), hint: Some(hint), retry_after: Some(5), ..answer }
}

fn of_store(error: &StoreError) -> ApiError {
    let message = error.to_string();
    let answer = |status, code| ApiError::new(status, code, &message);
    match error {
        StoreError::NoSuchJob(_)
        | StoreError::NoSuchSession(_)
        | StoreError::NoSuchGrant(_)
        | StoreError::NoSuchWorker(_) => answer(StatusCode::NOT_FOUND, "not_found"),
        StoreError::NotPossible(_)
        | StoreError::ChangedMeanwhile(_)
        | StoreError::JobIsOver { .. }
        | StoreError::Over { .. }
        | StoreError::NotEnded(_)
        | StoreError::Removed(_)
        | StoreError::BadRow(_) => answer(StatusCode::CONFLICT, "not_possible"),
        StoreError::NoNumbers { table, row } => {
            let hint = format!(
                "an administrator gives that row another number or removes it, and then says to the database: {}",
                store::numbers_again(table)
            );
            let answer = answer(StatusCode::CONFLICT, "not_possible").hint(&hint);
            ApiError { rule: Some("row_numbers".to_owned()), value: Some(format!("{table} {row}")), ..answer }
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
            let answer = answer(StatusCode::SERVICE_UNAVAILABLE, "unavailable");
            ApiError { rule: Some("disk_full".to_owned()), retry_after: Some(5), ..answer }
        }
        // What the database says is for the operator's eyes.
        _ => {
            tracing::error!(%error, "the store is unavailable");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the store is unavailable")
                .hint("nothing was done; see the supervisor's own log")
        }
    }
}
