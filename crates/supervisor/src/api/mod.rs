//! HTTP: takes requests apart, asks who is there, and leaves the rest to `service`. Decides nothing.
//!
//! Every route stands in [`routes`] or [`worker_routes`], so that a test can hold a table of who gets what against it.

mod answer;
mod audit;
mod logs;
mod oidc;
mod people;
mod sign_in;
mod stream;
mod worker;

pub(crate) use answer::ApiError;

use crate::ask::{ExplainQuery, JobsQuery, TasksQuery};
use crate::authn::{Authn, AuthnError, Known, Peer};
use crate::caller::{Asks, Caller};
use crate::error::ServiceError;
use crate::foresight::Change;
use crate::service::{ActRequest, Service, Submission};
use crate::views::{ExplainView, JobView, TaskView, WorkerView};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Json, Router};
use bytes::Bytes;
use job::JobAction;
use policy::{Principal, User};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;

/// Largest body of a request of a person, and of a worker.
const BODY_MAX: usize = 32 << 20;
/// Names a proxy user for one request.
pub(crate) const ACTING_AS: &str = "stead-as";
/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(60);
/// The same for whoever isn't known yet: a name and a password, at once.
const STRANGER_BODY_MAX: usize = 16 << 10;
const STRANGER_PATIENCE: Duration = Duration::from_secs(5);

/// What handlers reach.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) service: Service,
    pub(crate) authn: Authn,
}

type Answer<T> = Result<Json<T>, ApiError>;
type Route = (&'static str, &'static str, MethodRouter<App>);

/// The pages of people.
pub(crate) fn routes() -> Vec<Route> {
    let act = |action: JobAction| {
        post(move |State(app): State<App>, caller: Caller, id: JobId, Body(request): Body<ActRequest>| async move {
            let state = app.service.act(&caller, id.0, action, request).await?;
            Ok::<_, ApiError>(Json(json!({ "job": id.0, "state": state })))
        })
    };
    vec![
        ("GET", "/healthz", get(async || "ok")),
        ("GET", "/readyz", get(async || "ready")),
        ("GET", "/api/v1/whoami", get(sign_in::whoami)),
        ("POST", "/api/v1/login", post(sign_in::login).layer(DefaultBodyLimit::max(STRANGER_BODY_MAX))),
        ("GET", "/api/v1/oidc/start", get(oidc::start)),
        ("GET", crate::oidc::CALLBACK, get(oidc::callback)),
        ("POST", "/api/v1/oidc/session", post(oidc::session).layer(DefaultBodyLimit::max(STRANGER_BODY_MAX))),
        ("POST", "/api/v1/logout", post(sign_in::logout)),
        ("PUT", "/api/v1/password", put(sign_in::change_password)),
        ("PUT", "/api/v1/accounts/{name}", put(sign_in::set_password)),
        ("DELETE", "/api/v1/accounts/{name}", delete(sign_in::remove_account)),
        ("GET", "/api/v1/sessions", get(sign_in::sessions)),
        ("DELETE", "/api/v1/sessions/{id}", delete(sign_in::end_session)),
        ("GET", "/api/v1/tokens", get(sign_in::tokens)),
        ("POST", "/api/v1/tokens", post(sign_in::make_token)),
        ("DELETE", "/api/v1/tokens/{id}", delete(sign_in::end_token)),
        ("GET", "/api/v1/jobs", get(jobs)),
        ("POST", "/api/v1/jobs", post(submit)),
        ("GET", "/api/v1/jobs/{id}", get(job)),
        ("POST", "/api/v1/jobs/{id}/kill", act(JobAction::Kill)),
        ("POST", "/api/v1/jobs/{id}/retry", act(JobAction::Retry)),
        ("POST", "/api/v1/jobs/{id}/block", act(JobAction::Block)),
        ("POST", "/api/v1/jobs/{id}/unblock", act(JobAction::Unblock)),
        ("POST", "/api/v1/jobs/{id}/suspend", act(JobAction::Suspend)),
        ("POST", "/api/v1/jobs/{id}/resume", act(JobAction::Resume)),
        ("GET", "/api/v1/jobs/{id}/tasks", get(tasks)),
        ("GET", "/api/v1/jobs/{id}/logs", get(logs::logs)),
        ("GET", "/api/v1/jobs/{id}/wait", get(wait)),
        ("GET", "/api/v1/jobs/{id}/explain", get(explain_job)),
        ("GET", "/api/v1/explain", get(explain)),
        ("POST", "/api/v1/policy/diff", post(policy_diff)),
        ("GET", "/api/v1/events", get(stream::events)),
        ("GET", "/api/v1/workers", get(workers)),
        ("POST", "/api/v1/workers/{name}/drain", post(drain)),
        ("GET", "/api/v1/farm", get(farm)),
        ("GET", "/api/v1/as", get(people::acting_as)),
        ("PUT", "/api/v1/as", put(people::act_as)),
        ("DELETE", "/api/v1/as", delete(people::act_as_oneself)),
        ("GET", "/api/v1/users", get(people::users)),
        ("POST", "/api/v1/users", post(people::put_user)),
        ("GET", "/api/v1/users/{name}", get(people::user)),
        ("DELETE", "/api/v1/users/{name}", delete(people::remove_user)),
        ("GET", "/api/v1/grants", get(people::grants)),
        ("POST", "/api/v1/grants", post(people::give_grant)),
        ("POST", "/api/v1/grants/request", post(people::request_grant)),
        ("POST", "/api/v1/grants/{id}/approve", post(people::approve_grant)),
        ("POST", "/api/v1/grants/{id}/revoke", post(people::revoke_grant)),
        ("GET", "/api/v1/audit", get(audit::audit)),
        ("GET", "/api/v1/audit/verify", get(audit::verify)),
        ("GET", "/api/v1/audit/whence", get(audit::whence)),
    ]
}

/// The pages of workers, on their own socket.
pub(crate) fn worker_routes() -> Vec<Route> {
    vec![
        ("GET", wire::CHANNEL_PATH, get(worker::channel)),
        ("POST", wire::REPORTS_PATH, post(worker::reports)),
        ("PUT", "/worker/v1/logs/{session}", put(worker::log)),
    ]
}

/// A router over a table of routes.
pub(crate) fn router(routes: Vec<Route>, app: App) -> Router {
    let router = routes.into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    router
        .fallback(async || ApiError::from(ServiceError::NoSuchPage))
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "the page takes other methods")
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn(harmless))
        .with_state(app)
}

/// What a browser might make of an answer.
async fn harmless(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whoever the channel says is there, as nobody else. A handler without it or a [`Caller`] serves anybody.
pub(crate) struct Oneself(pub(crate) Principal);

impl FromRequestParts<App> for Oneself {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        known(parts, app).await.map(|known| Self(known.principal))
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Known { principal, bound } = known(parts, app).await?;
        let asks = for_whom(asks(parts)?, bound)?;
        Ok(app.service.caller(principal, asks).await?)
    }
}

/// Who the request comes from, if they are let in.
async fn known(parts: &Parts, app: &App) -> Result<Known, ApiError> {
    let peer = parts.extensions.get::<Peer>().copied().ok_or(AuthnError::NotSignedIn)?;
    let mut known = app.authn.request(peer, parts).await?;
    app.service.admit(&mut known.principal).await?;
    Ok(known)
}

/// A credential that was made for one user serves no other.
fn for_whom(asks: Asks, bound: Option<User>) -> Result<Asks, ApiError> {
    match (asks, bound) {
        (asks, None) => Ok(asks),
        (Asks::Named(name), Some(user)) if name != user.as_str() => {
            Err(ServiceError::input(ACTING_AS, format!("this credential is for {user} alone, not {name:?}")).into())
        }
        (_, Some(user)) => Ok(Asks::Bound(user)),
    }
}

/// The proxy user that a request names for itself.
fn asks(parts: &Parts) -> Result<Asks, ApiError> {
    let mut named = parts.headers.get_all(ACTING_AS).iter();
    let Some(first) = named.next() else { return Ok(Asks::Nothing) };
    if named.next().is_some() {
        return Err(ServiceError::input(ACTING_AS, "it is there twice").into());
    }
    match first.to_str() {
        Ok(name) => Ok(Asks::Named(name.to_owned())),
        Err(_) => Err(ServiceError::input(ACTING_AS, "it is no name").into()),
    }
}

/// The number in a path. What is no number is no job, as any other that isn't there.
pub(crate) struct JobId(pub(crate) u64);

impl FromRequestParts<App> for JobId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, app)
            .await
            .map_err(|_| ApiError::from(ServiceError::NoSuchPage))?;
        let id = job::job_number(&text).map_err(|_| ServiceError::NoSuchJob(text.escape_debug().to_string()))?;
        Ok(Self(id))
    }
}

/// The query, or what is wrong with it.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, app).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(e) => Err(ServiceError::input("query", e.body_text()).into()),
        }
    }
}

/// A JSON body; an empty one is `{}`.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        json_body(request, app, BODY_PATIENCE).await.map(Self)
    }
}

/// A JSON body of somebody who isn't known yet; its page has a limit of its own.
pub(crate) struct StrangersBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for StrangersBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        json_body(request, app, STRANGER_PATIENCE).await.map(Self)
    }
}

async fn json_body<T: DeserializeOwned>(request: Request, app: &App, patience: Duration) -> Result<T, ApiError> {
    let bytes = body(request, app, patience).await?;
    let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
    serde_json::from_slice(&bytes).map_err(|e| ServiceError::input("body", e).into())
}

/// The whole body within its time and size.
async fn body(request: Request, app: &App, patience: Duration) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(patience, Bytes::from_request(request, app)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) => Err(ApiError::new(e.status(), "body", &e.body_text())),
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body took too long to arrive")),
    }
}

async fn jobs(State(app): State<App>, caller: Caller, Asked(query): Asked<JobsQuery>) -> Answer<Vec<JobView>> {
    Ok(Json(app.service.jobs(&caller, query).await?))
}

async fn submit(
    State(app): State<App>,
    caller: Caller,
    Body(submission): Body<Submission>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let job = app.service.submit(&caller, submission).await?;
    Ok((StatusCode::CREATED, Json(json!({ "job": job }))))
}

async fn job(State(app): State<App>, caller: Caller, id: JobId) -> Answer<JobView> {
    Ok(Json(app.service.job(&caller, id.0).await?))
}

async fn tasks(
    State(app): State<App>,
    caller: Caller,
    id: JobId,
    Asked(query): Asked<TasksQuery>,
) -> Answer<Vec<TaskView>> {
    Ok(Json(app.service.tasks(&caller, id.0, query).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WaitQuery {
    timeout_s: Option<u64>,
}

async fn wait(State(app): State<App>, caller: Caller, id: JobId, Asked(query): Asked<WaitQuery>) -> Answer<JobView> {
    Ok(Json(app.service.wait(&caller, &app.authn, id.0, query.timeout_s).await?))
}

async fn explain_job(State(app): State<App>, caller: Caller, id: JobId) -> Answer<ExplainView> {
    Ok(Json(app.service.explain_job(&caller, id.0).await?))
}

async fn explain(State(app): State<App>, caller: Caller, Asked(query): Asked<ExplainQuery>) -> Answer<ExplainView> {
    Ok(Json(app.service.explain(&caller, query).await?))
}

async fn policy_diff(
    State(app): State<App>,
    caller: Caller,
    Body(change): Body<Change>,
) -> Answer<impl serde::Serialize> {
    Ok(Json(app.service.policy_diff(&caller, change).await?))
}

async fn workers(State(app): State<App>, _: Caller) -> Answer<Vec<WorkerView>> {
    Ok(Json(app.service.workers().await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainRequest {
    drained: bool,
}

async fn drain(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(request): Body<DrainRequest>,
) -> Answer<Value> {
    app.service.drain(&caller, &name, request.drained).await?;
    Ok(Json(json!({ "worker": name, "drained": request.drained })))
}

async fn farm(State(app): State<App>, caller: Caller) -> Answer<Value> {
    Ok(Json(app.service.farm(&caller).await?))
}
