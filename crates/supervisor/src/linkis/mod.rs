//! Linkis's REST interface, at `/api/rest_j/v1`, for clients that know nothing else. Each handler asks the same functions
//! of `service` as the API does, for the same `Caller`: there is no second notion of sessions, of who may act as whom, or
//! of who sees what. What the shapes mean is the crate `compat-linkis`.
//!
//! Who asks is said by one of: the login cookie, whose value is a session as `POST /api/v1/login` makes it; `Token-Code`
//! with `Token-User`, a token; a bearer; or, without any, the connection. As whom is their association, or the name in
//! `Token-User`, or `executeUser` for one submission. The proxy cookie adds nothing to that: it says that the client
//! believes to act as somebody, and a request whose cookie isn't true is refused.
//!
//! It serves no file of any host: paths of results and logs name what the supervisor keeps of a job.

mod answer;
mod entrance;
mod files;
mod guest;
mod history;
mod output;
mod proxy;
mod settings;
mod task;
mod user;

pub use settings::LinkisSettings;

use crate::api::{ApiError, App};
use crate::error::ServiceError;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, any, get, post};

/// Method, path, and who serves it.
type Route = (&'static str, &'static str, MethodRouter<App>);

macro_rules! at {
    ($path:literal) => {
        concat!("/api/rest_j/v1/", $path)
    };
}

/// The pages of Linkis that there are.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes: Vec<Route> = vec![
        ("POST", at!("user/login"), post(user::login)),
        ("POST", at!("user/logout"), post(user::logout)),
        ("GET", at!("user/userInfo"), get(user::info)),
        ("GET", at!("user/heartbeat"), get(user::heartbeat)),
        ("GET", at!("user/publicKey"), get(user::public_key)),
        ("GET", at!("user/baseinfo"), get(user::base_info)),
        ("POST", at!("entrance/submit"), post(entrance::submit)),
        ("POST", at!("entrance/execute"), post(entrance::execute)),
        ("GET", at!("entrance/{id}/status"), get(entrance::status)),
        ("GET", at!("entrance/{id}/progress"), get(entrance::progress)),
        ("GET", at!("entrance/{id}/log"), get(entrance::log)),
        ("GET", at!("entrance/{id}/kill"), get(entrance::kill)),
        ("POST", at!("entrance/{id}/killJobs"), post(entrance::kill_jobs)),
        ("GET", at!("jobhistory/{id}/get"), get(history::one)),
        ("GET", at!("jobhistory/list"), get(history::list)),
        ("GET", at!("jobhistory/listundonetasks"), get(history::undone)),
        ("GET", at!("jobhistory/governanceStationAdmin"), get(history::admin)),
        ("GET", at!("filesystem/getDirFileTrees"), get(files::tree)),
        ("GET", at!("filesystem/openFile"), get(files::open)),
        ("GET", at!("filesystem/openLog"), get(files::open_log)),
        ("GET", at!("filesystem/resultsetToExcel"), get(files::export)),
        ("POST", at!("filesystem/download"), post(files::download)),
    ];
    routes.extend(proxy::routes());
    let mut routes: Vec<Route> =
        routes.into_iter().map(|(method, path, handler)| (method, path, wrapped(handler))).collect();
    let nothing = any(async || ApiError::from(ServiceError::NoSuchPage));
    routes.push(("GET", at!("{*rest}"), nothing.layer(from_fn(answer::enveloped))));
    routes
}

fn wrapped(handler: MethodRouter<App>) -> MethodRouter<App> {
    let other = async || ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "the page takes another method");
    handler.fallback(other).layer(from_fn(answer::enveloped))
}
