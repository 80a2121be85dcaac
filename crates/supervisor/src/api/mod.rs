//! HTTP: takes requests apart, asks who is there, and leaves the rest to `service`. Decides nothing.
//!
//! Every route stands in [`routes`] or [`worker_routes`], so that a test can hold a table of who gets what against it.

mod answer;
mod audit;
mod bodies;
mod describe;
mod document;
mod files;
mod logon;
pub(crate) mod logs;
mod oidc;
mod people;
mod sign_in;
mod stream;
mod worker;

pub(crate) use answer::{ApiError, ByRule};
pub(crate) use bodies::Budget;
pub use document::openapi;
pub(crate) use files::handed_out;
pub(crate) use people::GrantId;
pub(crate) use sign_in::{Visitor, session_cookie};

use self::bodies::{BODY_MAX, Payer};
use crate::ask::{ExplainQuery, JobsQuery, TasksQuery};
use crate::authn::{Authn, AuthnError, Known, Peer};
use crate::caller::{Asks, Caller};
use crate::error::ServiceError;
use crate::foresight::Change;
use crate::foresight::DiffView;
use crate::linkis;
use crate::metrics::Metrics;
use crate::pages;
use crate::service::{
    ActRequest, ConfigurationView, Listing, Modification, ReloadView, Resubmission, Service, Submission,
    WorkerConfigurationView, WorkersChange, WorkersChangedView,
};
use crate::views::{
    AccountCheckView, ActedView, DrainedView, ExplainView, FarmView, JobView, ReadyView, SubmittedView, TaskView,
    WorkerView,
};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Json, Router};
pub(crate) use bodies::body;
use bytes::Bytes;
use describe::{Created, Described, Figures, Made, Operation, Schemas};
use job::JobAction;
use policy::{Principal, User};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Instant;
use store::List;

/// Names a proxy user for one request.
pub(crate) const ACTING_AS: &str = "stead-as";

/// What handlers reach.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) service: Service,
    pub(crate) authn: Authn,
    pub(crate) bodies: Budget,
}

type Answer<T> = Result<Json<T>, ApiError>;

/// A page: where it is, who serves it, and what can be said of it.
pub(crate) struct Page {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// For programs made of the document.
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    handler: MethodRouter<App>,
    describe: fn(&mut Operation, &mut Schemas),
    /// Refusals that its arguments don't show.
    refusals: &'static [u16],
}

impl Page {
    fn new<H, T>(
        method: &'static str,
        path: &'static str,
        name: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, App> + Described<T>,
        T: 'static,
    {
        let handler = match method {
            "GET" => get(handler),
            "PUT" => put(handler),
            "DELETE" => delete(handler),
            _ => post(handler),
        };
        Self { method, path, name, summary, handler, describe: H::describe, refusals: &[] }
    }

    fn refuses(self, refusals: &'static [u16]) -> Self {
        Self { refusals, ..self }
    }

    pub(crate) fn operation(&self, schemas: &mut Schemas) -> Operation {
        let mut operation = Operation::default();
        (self.describe)(&mut operation, schemas);
        operation.refuses(self.refusals);
        operation
    }

    #[cfg(test)]
    pub(crate) fn is_ones_own(&self) -> bool {
        self.operation(&mut Schemas::new()).whom == describe::For::Oneself
    }

    /// What it is about: `jobs` of `/api/v1/jobs/{id}`.
    fn tag(&self) -> &'static str {
        self.path.split('/').nth(3).unwrap_or("farm")
    }

    /// The names in its path, in their order.
    fn in_path(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

/// The pages of one of the two lists.
fn list_pages(list: List, pages: [(&'static str, &'static str, &'static str); 3]) -> [Page; 3] {
    let [all, set, unlist] = pages;
    [
        Page::new("GET", all.0, all.1, all.2, move |State(app): State<App>, caller: Caller| {
            people::listed(app, caller, list)
        }),
        Page::new(
            "PUT",
            set.0,
            set.1,
            set.2,
            move |State(app): State<App>, caller: Caller, Path(name): Path<String>, Body(said): Body<Listing>| async move {
                people::set_listed(app, caller, list, &name, Some(said.allowed)).await
            },
        ),
        Page::new(
            "DELETE",
            unlist.0,
            unlist.1,
            unlist.2,
            move |State(app): State<App>, caller: Caller, Path(name): Path<String>| async move {
                people::set_listed(app, caller, list, &name, None).await
            },
        ),
    ]
}

/// The pages of people. The OpenAPI document says of them what is here and what their handlers' types say.
pub(crate) fn routes() -> Vec<Page> {
    let act = |action: JobAction| {
        move |State(app): State<App>, caller: Caller, id: JobId, Body(request): Body<ActRequest>| async move {
            let state = app.service.act(&caller, id.0, action, request).await?;
            Ok::<_, ApiError>(Json(ActedView { job: id.0, state }))
        }
    };
    let mut pages = vec![
        Page::new("GET", "/healthz", "healthz", "Whether the supervisor runs.", async || "ok"),
        Page::new("GET", "/readyz", "readyz", "Whether the supervisor can do its work.", readyz).refuses(&[503]),
        Page::new("GET", "/metrics", "metrics", "The farm's figures, for Prometheus.", metrics),
        Page::new("GET", "/api/v1/openapi.json", "openapi", "This document.", document::page),
        Page::new(
            "GET",
            "/api/v1/whoami",
            "whoami",
            "Who the request comes from, and as whom it would act.",
            sign_in::whoami,
        ),
        Page::new("POST", "/api/v1/login", "login", "Sign in with a password.", sign_in::login)
            .refuses(&[401, 403, 409, 429, 503]),
        Page::new(
            "POST",
            "/api/v1/login/code",
            "login_code",
            "Have an address made that signs a browser in, once, as whoever asks by the local socket.",
            sign_in::login_code,
        ),
        Page::new("GET", "/api/v1/oidc/start", "oidc_start", "Begin to sign in at the OpenID provider.", oidc::start)
            .refuses(&[403, 503]),
        Page::new("GET", crate::oidc::CALLBACK, "oidc_callback", "Come back from the OpenID provider.", oidc::callback)
            .refuses(&[403, 503]),
        Page::new(
            "POST",
            "/api/v1/oidc/session",
            "oidc_session",
            "Exchange what the provider said for a session, as a program.",
            oidc::session,
        )
        .refuses(&[401, 403, 409, 503]),
        Page::new("POST", "/api/v1/logout", "logout", "End the session that is shown.", sign_in::logout)
            .refuses(&[400]),
        Page::new("PUT", "/api/v1/password", "change_password", "Change the own password.", sign_in::change_password)
            .refuses(&[404, 429]),
        Page::new(
            "PUT",
            "/api/v1/accounts/{name}",
            "set_password",
            "Set somebody's password, and make their account if there is none.",
            sign_in::set_password,
        ),
        Page::new(
            "DELETE",
            "/api/v1/accounts/{name}",
            "remove_account",
            "Remove somebody's password.",
            sign_in::remove_account,
        ),
        Page::new(
            "GET",
            "/api/v1/password-key",
            "password_key",
            "The key that passwords are sealed for on their way here.",
            logon::key,
        ),
        Page::new(
            "POST",
            "/api/v1/password-key",
            "rotate_passwords",
            "Seal all passwords of accounts that jobs run as under a new key.",
            logon::rotate,
        )
        .refuses(&[409]),
        Page::new(
            "GET",
            "/api/v1/passwords",
            "passwords",
            "List whose passwords are kept, and what is known.",
            logon::list,
        ),
        Page::new(
            "PUT",
            "/api/v1/passwords/{account}",
            "keep_password",
            "Keep the password of an account that jobs run as.",
            logon::set,
        )
        .refuses(&[409]),
        Page::new(
            "DELETE",
            "/api/v1/passwords/{account}",
            "remove_password",
            "Take the password of an account away.",
            logon::remove,
        ),
        Page::new(
            "POST",
            "/api/v1/passwords/{account}/check",
            "check_password",
            "Whether the password that is kept is right.",
            logon::check,
        ),
        Page::new(
            "POST",
            "/api/v1/passwords/{account}/seal",
            "seal_password",
            "A form of a password that may stand in a configuration file. Keeps nothing.",
            logon::seal,
        )
        .refuses(&[409]),
        Page::new("GET", "/api/v1/sessions", "sessions", "List sessions.", sign_in::sessions),
        Page::new("DELETE", "/api/v1/sessions/{id}", "end_session", "End a session.", sign_in::end_session),
        Page::new("GET", "/api/v1/tokens", "tokens", "List tokens.", sign_in::tokens),
        Page::new("POST", "/api/v1/tokens", "make_token", "Make a token.", sign_in::make_token).refuses(&[409]),
        Page::new("DELETE", "/api/v1/tokens/{id}", "end_token", "End a token.", sign_in::end_token),
        Page::new("GET", "/api/v1/jobs", "jobs", "List jobs, the newest first.", jobs),
        Page::new("POST", "/api/v1/jobs", "submit", "Submit a job.", submit).refuses(&[404]),
        Page::new("GET", "/api/v1/jobs/{id}", "job", "Look at a job.", job),
        Page::new("POST", "/api/v1/jobs/{id}/resubmit", "resubmit", "Submit a job again, as a new job.", resubmit)
            .refuses(&[409]),
        Page::new(
            "POST",
            "/api/v1/jobs/{id}/modify",
            "modify",
            "Give a job that is not over another name or priority.",
            modify,
        )
        .refuses(&[409]),
        Page::new("POST", "/api/v1/jobs/{id}/kill", "kill", "Kill a job, or some of its tasks.", act(JobAction::Kill))
            .refuses(&[409]),
        Page::new(
            "POST",
            "/api/v1/jobs/{id}/retry",
            "retry",
            "Run again what failed of a job, or some of its tasks.",
            act(JobAction::Retry),
        )
        .refuses(&[409]),
        Page::new("POST", "/api/v1/jobs/{id}/block", "block", "Hold a job back.", act(JobAction::Block))
            .refuses(&[409]),
        Page::new(
            "POST",
            "/api/v1/jobs/{id}/unblock",
            "unblock",
            "Let a job that was held back go on.",
            act(JobAction::Unblock),
        )
        .refuses(&[409]),
        Page::new(
            "POST",
            "/api/v1/jobs/{id}/suspend",
            "suspend",
            "Stop what runs of a job for a while.",
            act(JobAction::Suspend),
        )
        .refuses(&[409]),
        Page::new(
            "POST",
            "/api/v1/jobs/{id}/resume",
            "resume",
            "Let a job that was suspended go on.",
            act(JobAction::Resume),
        )
        .refuses(&[409]),
        Page::new(
            "POST",
            "/api/v1/jobs/{id}/requeue",
            "requeue",
            "Try a job that is over again, held back before anything starts.",
            act(JobAction::Requeue),
        )
        .refuses(&[409]),
        Page::new(
            "DELETE",
            "/api/v1/jobs/{id}",
            "remove",
            "Remove a job that is over, with its output; it goes once its folders on the workers are gone.",
            remove,
        )
        .refuses(&[409]),
        Page::new("GET", "/api/v1/jobs/{id}/tasks", "tasks", "List the tasks of a job, with their attempts.", tasks),
        Page::new("GET", "/api/v1/jobs/{id}/logs", "logs", "Read what tasks printed; follow it.", logs::logs),
        Page::new("GET", "/api/v1/jobs/{id}/files", "files", "List what lies in a job's folder.", files::files)
            .refuses(&[400, 409, 503]),
        Page::new("GET", "/api/v1/jobs/{id}/file", "file", "Take a file of a job's folder.", files::file)
            .refuses(&[400, 409, 503]),
        Page::new("GET", "/api/v1/jobs/{id}/wait", "wait", "Wait until a job is over, for a while.", wait),
        Page::new(
            "GET",
            "/api/v1/jobs/{id}/explain",
            "explain_job",
            "Why a job runs as whom it does, where, or not.",
            explain_job,
        ),
        Page::new("GET", "/api/v1/explain", "explain", "As whom a job would run, where, and by which rules.", explain)
            .refuses(&[404]),
        Page::new(
            "POST",
            "/api/v1/policy/diff",
            "policy_diff",
            "Which of the last jobs would run otherwise under changed rows. Changes nothing.",
            policy_diff,
        )
        .refuses(&[404, 409]),
        Page::new("GET", "/api/v1/events", "events", "Follow what changes.", stream::events).refuses(&[404]),
        Page::new("GET", "/api/v1/workers", "workers", "List workers.", workers),
        Page::new("POST", "/api/v1/workers/{name}/drain", "drain", "Give a worker nothing new, or end that.", drain),
        Page::new(
            "GET",
            "/api/v1/workers/{name}/configuration",
            "worker_configuration",
            "What holds for a worker, and where each of it comes from.",
            worker_configuration,
        )
        .refuses(&[404]),
        Page::new("GET", "/api/v1/configuration", "configuration", "What Qube!'s files say.", configuration),
        Page::new(
            "POST",
            "/api/v1/configuration/reload",
            "reload",
            "Read Qube!'s files again. With an error in them nothing changes.",
            reload,
        )
        .refuses(&[400]),
        Page::new(
            "POST",
            "/api/v1/configuration/workers",
            "configure_workers",
            "Write into qbwrk.conf as whom some workers run jobs, and put it into force; or say what that would change.",
            configure_workers,
        )
        .refuses(&[404, 409]),
        Page::new(
            "GET",
            "/api/v1/account-check/{account}",
            "account_check",
            "What an account is on each worker's host, and whether it is the same everywhere.",
            account_check,
        ),
        Page::new("GET", "/api/v1/farm", "farm", "The farm itself.", farm),
        Page::new("GET", "/api/v1/as", "acting_as", "As whom one acts, and may act.", people::acting_as),
        Page::new("PUT", "/api/v1/as", "act_as", "Act as a proxy user from now on.", people::act_as),
        Page::new("DELETE", "/api/v1/as", "act_as_oneself", "Act as oneself again.", people::act_as_oneself),
        Page::new("GET", "/api/v1/users", "users", "List users.", people::users),
        Page::new("POST", "/api/v1/users", "put_user", "Make a user, or change one.", people::put_user)
            .refuses(&[409]),
        Page::new("GET", "/api/v1/users/{name}", "user", "Look at a user.", people::user),
        Page::new(
            "DELETE",
            "/api/v1/users/{name}",
            "remove_user",
            "Remove a user, and end what they were given.",
            people::remove_user,
        ),
        Page::new("GET", "/api/v1/grants", "grants", "List grants.", people::grants),
        Page::new(
            "POST",
            "/api/v1/grants",
            "give_grant",
            "Give somebody leave to act as a proxy user.",
            people::give_grant,
        )
        .refuses(&[409]),
        Page::new(
            "POST",
            "/api/v1/grants/request",
            "request_grant",
            "Ask for leave to act as a proxy user.",
            people::request_grant,
        )
        .refuses(&[409]),
        Page::new(
            "POST",
            "/api/v1/grants/{id}/approve",
            "approve_grant",
            "Approve a grant that was asked for.",
            people::approve_grant,
        )
        .refuses(&[409]),
        Page::new("POST", "/api/v1/grants/{id}/revoke", "revoke_grant", "End a grant.", people::revoke_grant)
            .refuses(&[409]),
        Page::new("GET", "/api/v1/audit", "audit", "Read the audit; follow it.", audit::audit),
        Page::new(
            "GET",
            "/api/v1/audit/verify",
            "verify_audit",
            "Whether the audit is as it was written.",
            audit::verify,
        ),
        Page::new("GET", "/api/v1/audit/whence", "whence", "Who was behind a file or a process.", audit::whence)
            .refuses(&[404]),
    ];
    pages.extend(list_pages(
        List::MayAct,
        [
            ("/api/v1/may-act", "may_act", "List who may act as another at all."),
            (
                "/api/v1/may-act/{name}",
                "set_may_act",
                "Say whether somebody, or `group:NAME`, may act as another at all.",
            ),
            ("/api/v1/may-act/{name}", "unlist_may_act", "Take somebody out of the list of those who may act."),
        ],
    ));
    pages.extend(list_pages(
        List::MayBeActedAs,
        [
            ("/api/v1/may-be-acted-as", "may_be_acted_as", "List who may be acted as at all."),
            (
                "/api/v1/may-be-acted-as/{name}",
                "set_may_be_acted_as",
                "Say whether a proxy user may be acted as at all.",
            ),
            (
                "/api/v1/may-be-acted-as/{name}",
                "unlist_may_be_acted_as",
                "Take somebody out of the list of those who may be acted as.",
            ),
        ],
    ));
    pages
}

/// The pages of workers, on their own socket: no part of the interface, so they are in no document.
pub(crate) fn worker_routes() -> Vec<WorkerPage> {
    vec![
        WorkerPage { method: "GET", path: wire::CHANNEL_PATH, handler: get(worker::channel) },
        WorkerPage { method: "POST", path: wire::REPORTS_PATH, handler: post(worker::reports) },
        WorkerPage { method: "PUT", path: "/worker/v1/logs/{session}", handler: put(worker::log) },
    ]
}

/// A page of workers.
pub(crate) struct WorkerPage {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    handler: MethodRouter<App>,
}

pub(crate) fn for_people(app: App) -> Router {
    let api = routes().into_iter().map(|page| (page.path, page.handler));
    let pages = pages::routes().into_iter().map(|(_, path, handler)| (path, handler));
    let linkis = if app.service.settings.linkis.is_on { linkis::routes() } else { Vec::new() };
    let linkis = linkis.into_iter().map(|(_, path, handler)| (path, handler));
    pages::around(router(api.chain(pages).chain(linkis), app.clone()), app)
}

pub(crate) fn for_workers(app: App) -> Router {
    router(worker_routes().into_iter().map(|page| (page.path, page.handler)), app)
}

/// A router over a table of pages.
fn router(pages: impl Iterator<Item = (&'static str, MethodRouter<App>)>, app: App) -> Router {
    let router = pages.fold(Router::new(), |router, (path, handler)| router.route(path, handler));
    router
        .fallback(async || ApiError::from(ServiceError::NoSuchPage))
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "the page takes other methods")
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn(bodies::hold))
        .layer(from_fn_with_state(app.service.metrics.clone(), count_refusals))
        .layer(from_fn(harmless))
        .with_state(app)
}

async fn count_refusals(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(ByRule(rule)) = response.extensions().get() {
        metrics.refused.count(rule);
    }
    response
}

/// What a browser might make of an answer.
async fn harmless(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // But for what is everybody's and never changes: styles and scripts of the pages.
    if !headers.get(header::CACHE_CONTROL).is_some_and(|value| value.as_bytes().starts_with(b"public")) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Whoever the channel says is there, as nobody else: a request that names another is refused, not done as oneself. A
/// handler without it or a [`Caller`] serves anybody.
pub(crate) struct Oneself(pub(crate) Principal);

impl FromRequestParts<App> for Oneself {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let principal = known(parts, app).await?.principal;
        if let Asks::Named(name) = asks(parts)? {
            app.service.only_oneself(&principal, &name).await?;
        }
        Ok(Self(principal))
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
pub(crate) async fn known(parts: &mut Parts, app: &App) -> Result<Known, ApiError> {
    let peer = parts.extensions.get::<Peer>().copied().ok_or(AuthnError::NotSignedIn)?;
    let mut known = match app.authn.request(peer, parts).await {
        Ok(known) => known,
        Err(error) => {
            app.service.nobody(peer, &error).await?;
            return Err(error.into());
        }
    };
    app.service.admit(&mut known.principal).await?;
    parts.extensions.insert(Payer::Person(known.principal.login_user.to_string()));
    parts.extensions.insert(pages::Shown::to(&known.principal));
    Ok(known)
}

/// A credential that was made for one user serves no other.
pub(crate) fn for_whom(asks: Asks, bound: Option<User>) -> Result<Asks, ApiError> {
    match (asks, bound) {
        (asks, None) => Ok(asks),
        (Asks::Named(name), Some(user)) if name != user.as_str() => {
            Err(ServiceError::input(ACTING_AS, format!("this credential is for {user} alone, not {name:?}")).into())
        }
        (_, Some(user)) => Ok(Asks::Bound(user)),
    }
}

/// The proxy user that a request names for itself.
pub(crate) fn asks(parts: &Parts) -> Result<Asks, ApiError> {
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
        json_body(request, app).await.map(Self)
    }
}

/// A JSON body of somebody who isn't known yet.
pub(crate) struct StrangersBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for StrangersBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        json_body(request, app).await.map(Self)
    }
}

async fn json_body<T: DeserializeOwned>(request: Request, app: &App) -> Result<T, ApiError> {
    let bytes = body(request, app).await?;
    let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
    serde_json::from_slice(&bytes).map_err(|e| ServiceError::input("body", e).into())
}

async fn jobs(State(app): State<App>, caller: Caller, Asked(query): Asked<JobsQuery>) -> Answer<Vec<JobView>> {
    Ok(Json(app.service.jobs(&caller, query).await?))
}

async fn submit(
    State(app): State<App>,
    caller: Caller,
    Body(submission): Body<Submission>,
) -> Result<Created<SubmittedView>, ApiError> {
    let began = Instant::now();
    let job = app.service.submit(&caller, submission).await?;
    app.service.metrics.submit.took(began.elapsed());
    Ok(Created(SubmittedView { job }))
}

async fn resubmit(
    State(app): State<App>,
    caller: Caller,
    id: JobId,
    Body(request): Body<Resubmission>,
) -> Result<Created<SubmittedView>, ApiError> {
    Ok(Created(SubmittedView { job: app.service.resubmit(&caller, id.0, request).await? }))
}

async fn modify(
    State(app): State<App>,
    caller: Caller,
    id: JobId,
    Body(change): Body<Modification>,
) -> Answer<ActedView> {
    let state = app.service.modify(&caller, id.0, change).await?;
    Ok(Json(ActedView { job: id.0, state }))
}

async fn job(State(app): State<App>, caller: Caller, id: JobId) -> Answer<JobView> {
    Ok(Json(app.service.job(&caller, id.0).await?))
}

async fn remove(State(app): State<App>, caller: Caller, id: JobId) -> Answer<ActedView> {
    let state = app.service.remove(&caller, id.0, None).await?;
    Ok(Json(ActedView { job: id.0, state }))
}

async fn tasks(
    State(app): State<App>,
    caller: Caller,
    id: JobId,
    Asked(query): Asked<TasksQuery>,
) -> Answer<Vec<TaskView>> {
    Ok(Json(app.service.tasks(&caller, id.0, query).await?))
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
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

async fn policy_diff(State(app): State<App>, caller: Caller, Body(change): Body<Change>) -> Answer<DiffView> {
    Ok(Json(app.service.policy_diff(&caller, change).await?))
}

async fn workers(State(app): State<App>, caller: Caller) -> Answer<Vec<WorkerView>> {
    Ok(Json(app.service.workers(&caller).await?))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DrainRequest {
    drained: bool,
}

async fn drain(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(request): Body<DrainRequest>,
) -> Answer<DrainedView> {
    app.service.drain(&caller, &name, request.drained).await?;
    Ok(Json(DrainedView { worker: name, drained: request.drained }))
}

/// Whether it can do its work, for whatever sends requests its way. Strangers learn only what is not as it should be.
async fn readyz(State(app): State<App>) -> Answer<ReadyView> {
    let troubles = app.service.health.troubles().await;
    if troubles.is_empty() {
        return Ok(Json(ReadyView { ready: true }));
    }
    Err(ApiError::not_ready(&troubles.iter().map(|trouble| trouble.check).collect::<Vec<_>>().join(", ")))
}

/// Figures say nothing of anybody, but much of the farm: they are for its administrators.
async fn metrics(State(app): State<App>, caller: Caller) -> Result<Made<Figures>, ApiError> {
    let figures = app.service.figures(&caller).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], figures).into_response().into())
}

/// What is answered until everything is there.
pub(crate) fn starting() -> Router {
    let soon = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "the supervisor is starting").soon();
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(async || ApiError::not_ready("starting")))
        .fallback(async move || soon())
        .layer(from_fn(harmless))
}

async fn worker_configuration(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<WorkerConfigurationView> {
    caller.needs(caller.principal.scopes.read, "read")?;
    Ok(Json(app.service.worker_configuration(&name).await?))
}

async fn configuration(State(app): State<App>, caller: Caller) -> Answer<ConfigurationView> {
    Ok(Json(app.service.configuration(&caller)?))
}

async fn reload(State(app): State<App>, caller: Caller) -> Answer<ReloadView> {
    Ok(Json(app.service.reload(&caller).await?))
}

async fn configure_workers(
    State(app): State<App>,
    caller: Caller,
    Body(change): Body<WorkersChange>,
) -> Answer<WorkersChangedView> {
    Ok(Json(app.service.configure_workers(&caller, change).await?))
}

async fn account_check(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
) -> Answer<AccountCheckView> {
    Ok(Json(app.service.account_check(&caller, &account).await?))
}

async fn farm(State(app): State<App>, caller: Caller) -> Answer<FarmView> {
    Ok(Json(app.service.farm(&caller).await?))
}
