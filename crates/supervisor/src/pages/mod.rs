//! The pages for browsers. Each handler asks the same functions of `service` as the API does, for the same `Caller`, and
//! fills a struct of the crate `web`: there is no second notion of who may do what, and what isn't yours is the same 404.
//!
//! # Adding a screen
//!
//! 1. The struct and template: see the head of the crate `web`.
//! 2. A handler here with [`Visit`] as its first argument (who looks, and the frame), returning
//!    `Result<Html, ApiError>`. Errors need no care: [`as_page`] turns every [`ApiError`] into a page in the same frame.
//! 3. What changes something is a POST with [`Fields`] or [`Sent`] (a hidden field says as whom the page was shown: for anybody else it is
//!    refused), and answers with [`see`] (to a path of ours) or a page. The check
//!    that a page of ours asked is the one that the API has for cookies (`authn::shown`): the cookie is `SameSite=Strict`,
//!    and a request that brings it and isn't a GET has to say by `Sec-Fetch-Site` or `Origin` that it is same-origin.
//!    Whoever brings no cookie is nobody. So there is no token in forms: it would be checked beside a stronger proof.
//! 4. A row in [`routes`], and in the table of `tests/pages.rs`, which asks each page as everybody.
//!
//! Pages are no part of the API and of its document.

mod acting;
mod audit;
mod files;
mod job;
mod jobs;
mod live;
mod log;
mod me;
mod people;
mod results;
mod settings;
mod sign_in;
mod submit;
mod view;
mod workers;

pub(crate) use view::{badge, counts, moment, natural, reason, rules, text, times, when};

use crate::api::{self, ACTING_AS, ApiError, App};
use crate::caller::{Asks, Caller};
use crate::error::ServiceError;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use bytes::Bytes;
use policy::Principal;
use web::pages::{AgainPage, ErrorPage};
use web::{ActingBar, Frame, Me, Nav, Template, Text};

/// Everything comes from here; nothing inline, nothing evaluated, nobody frames it, forms go nowhere else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                           form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Method, path, and who serves it.
type Route = (&'static str, &'static str, MethodRouter<App>);

/// The pages of browsers.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        ("GET", "/", get(async || see("/jobs"))),
        ("GET", "/assets/{name}", get(files::asset)),
        ("GET", "/login", get(sign_in::page)),
        ("POST", "/login", post(sign_in::enter)),
        ("GET", "/login/code", get(sign_in::code_page)),
        ("POST", "/login/code", post(sign_in::exchange)),
        ("POST", "/logout", post(sign_in::leave)),
        ("GET", "/as", get(acting::page)),
        ("POST", "/as", post(acting::act_as)),
        ("POST", "/as/stop", post(acting::stop)),
        ("GET", "/events", get(live::events)),
        ("GET", "/jobs", get(jobs::list)),
        ("POST", "/jobs/act", post(jobs::act)),
        ("GET", "/jobs/new", get(submit::page)),
        ("POST", "/jobs/new", post(submit::submit)),
        ("POST", "/jobs/new/preview", post(submit::preview)),
        ("POST", "/jobs/new/parameters", post(submit::read_parameters)),
        ("GET", "/jobs/{id}", get(job::page)),
        ("POST", "/jobs/{id}/resubmit", post(job::resubmit)),
        ("GET", "/jobs/{id}/head", get(log::only_head)),
        ("GET", "/jobs/{id}/ran-as", get(job::ran_as)),
        ("GET", "/jobs/{id}/log", get(log::page)),
        ("GET", "/jobs/{id}/log/events", get(log::events)),
        ("GET", "/jobs/{id}/results", get(results::page)),
        ("GET", "/jobs/{id}/picture", get(results::picture)),
        ("GET", "/users", get(people::users)),
        ("POST", "/users", post(people::add_user)),
        ("GET", "/users/{user}", get(people::user)),
        ("POST", "/users/{user}", post(people::change_user)),
        ("POST", "/users/{user}/remove", post(people::remove_user)),
        ("GET", "/grants", get(people::grants)),
        ("GET", "/grants/matrix", get(people::matrix)),
        ("GET", "/grants/new", get(people::new_grant)),
        ("POST", "/grants/new", post(people::make_grant)),
        ("POST", "/grants/{grant}/approve", post(people::approve)),
        ("GET", "/grants/{grant}/revoke", get(people::ask_revoke)),
        ("POST", "/grants/{grant}/revoke", post(people::revoke)),
        ("GET", "/may-act", get(people::lists)),
        ("POST", "/may-act", post(people::set_listed)),
        ("GET", "/what-if", get(people::what_if)),
        ("GET", "/audit", get(audit::page)),
        ("POST", "/audit/verify", post(audit::verify)),
        ("GET", "/settings", get(settings::page)),
        ("POST", "/settings/check", post(settings::check)),
        ("POST", "/settings/reload", post(settings::reload)),
        ("GET", "/me", get(me::page)),
        ("POST", "/me/tokens", post(me::make_token)),
        ("POST", "/me/end", post(me::end)),
        ("GET", "/credentials", get(me::credentials)),
        ("POST", "/credentials", post(me::set_password)),
        ("POST", "/credentials/check", post(me::check_password)),
        ("POST", "/credentials/remove", post(me::remove_password)),
        ("GET", "/workers", get(workers::list)),
        ("POST", "/workers", post(workers::act)),
        ("GET", "/workers/{worker}", get(workers::worker)),
        ("GET", "/account-check", get(workers::account_check)),
        ("GET", "/worker-config", get(workers::config)),
        ("POST", "/worker-config", post(workers::set_config)),
    ]
}

/// What is around all that people ask for, the API's answers as well.
pub(crate) fn around(router: Router, app: App) -> Router {
    router.layer(from_fn_with_state(app, as_page))
}

/// A page.
#[derive(Debug)]
pub(crate) struct Html(String);

impl Html {
    pub(crate) fn of(page: &impl Template) -> Result<Self, ApiError> {
        page.render().map(Self).map_err(|error| {
            tracing::error!(%error, "a page can't be written");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "page", "the page can't be written")
        })
    }
}

impl IntoResponse for Html {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
        response
    }
}

/// On to another page of ours.
pub(crate) fn see(path: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let to = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/jobs"));
    response.headers_mut().insert(header::LOCATION, to);
    response
}

/// A path of this farm, from somebody's hands; anything else is the list of jobs. `//host` is another's address, and so
/// is what browsers make of a backslash.
pub(crate) fn own_path(path: Option<&str>) -> &str {
    match path {
        Some(path)
            if path.starts_with('/')
                && !path.starts_with("//")
                && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') =>
        {
            path
        }
        _ => "/jobs",
    }
}

/// Somebody who looks at a page, with what is around it.
pub(crate) struct Visit {
    pub(crate) caller: Caller,
    me: Me,
    url: String,
}

impl FromRequestParts<App> for Visit {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, app).await?;
        parts.extensions.insert(Shown::to(&caller.principal).with_user(&caller));
        let mut me = me(&caller.principal);
        me.acting = acting_bar(app, &caller).await;
        Ok(Self { caller, me, url: url(parts) })
    }
}

impl Visit {
    /// As whom, for the forms of a page.
    pub(crate) fn shown(&self) -> String {
        Shown::to(&self.caller.principal).with_user(&self.caller).text()
    }

    /// The frame of a page for them.
    pub(crate) fn frame(&self, title: impl Into<Text>, here: Nav) -> Frame {
        let shown = self.shown();
        Frame { title: title.into(), here, me: Some(self.me.clone()), shown, url: Text::from(&self.url), ..bare("") }
    }
}

/// The frame for somebody who isn't known.
pub(crate) fn bare(title: &str) -> Frame {
    Frame { title: title.into(), version: env!("CARGO_PKG_VERSION"), ..Frame::default() }
}

fn url(parts: &Parts) -> String {
    parts.uri.path_and_query().map_or_else(|| "/jobs".to_owned(), |all| all.as_str().to_owned())
}

fn me(principal: &Principal) -> Me {
    let roles = principal.roles;
    let words = [("admin", roles.admin), ("impersonate", roles.impersonate), ("auditor", roles.auditor)];
    let roles = words.iter().filter(|(_, has)| *has).map(|(word, _)| *word).collect();
    Me { name: principal.login_user.as_str().into(), roles, acting: None, problem: None }
}

async fn acting_bar(app: &App, caller: &Caller) -> Option<ActingBar> {
    let acting = caller.acting.as_ref()?;
    let (login, user) = (caller.principal.login_user.as_str(), acting.user.as_str());
    let people = app.service.identity.people(login, Some(user)).await.ok();
    let until = people.and_then(|p| p.grants.iter().find(|g| g.id == acting.grant).and_then(|g| g.until));
    Some(ActingBar { user: user.into(), until: until.map(moment), is_bound: caller.asks != Asks::Nothing })
}

/// As whom a page was shown, or a request is made: marks, as far as known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    login: String,
    user: Option<String>,
}

impl Shown {
    pub(crate) fn to(principal: &Principal) -> Self {
        Self { login: mark("login", principal.login_user.as_str()), user: None }
    }

    fn with_user(self, caller: &Caller) -> Self {
        let user = caller.acting.as_ref().map_or(caller.principal.login_user.as_str(), |acting| acting.user.as_str());
        Self { user: Some(mark("user", user)), ..self }
    }

    fn text(&self) -> String {
        format!("{}.{}", self.login, self.user.as_deref().unwrap_or_default())
    }

    /// Whether a form was sent by a page of theirs. Programs, and pages that say what is wrong, don't say so.
    fn is_of(&self, form: &[u8]) -> bool {
        let Some(said) = form.split(|b| *b == b'&').find_map(|field| field.strip_prefix(b"shown=")) else {
            return true;
        };
        if said.is_empty() {
            return true;
        }
        let Some((login, user)) = std::str::from_utf8(said).ok().and_then(|said| said.split_once('.')) else {
            return false;
        };
        login == self.login && self.user.as_deref().is_none_or(|now| now == user)
    }
}

/// Characters that stand for themselves in a form.
fn mark(what: &str, name: &str) -> String {
    warrant::hex(&warrant::sha256(&[what.as_bytes(), b"\0", name.as_bytes()])[..8])
}

/// A form, or a query: names and values in their order.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl FromRequest<App> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        form::<Vec<(String, String)>>(request, app).await.map(Self)
    }
}

/// A form, within the time and the size that bodies have for whoever sends it.
async fn form<T: serde::de::DeserializeOwned>(request: Request, app: &App) -> Result<T, ApiError> {
    let headers = request.headers().clone();
    let bytes = sent(request, app).await?;
    let mut whole = Request::new(Body::from(bytes));
    (*whole.method_mut(), *whole.headers_mut()) = (Method::POST, headers);
    // What was typed may be a password: nothing of it is repeated.
    let unread = |error: FormRejection| ApiError::new(error.status(), "form", "the form can't be read");
    Form::<T>::from_request(whole, app).await.map(|Form(fields)| fields).map_err(unread)
}

/// What was sent, if by a page of who they are now.
async fn sent(request: Request, app: &App) -> Result<Bytes, ApiError> {
    let now = request.extensions().get::<Shown>().cloned();
    let bytes = api::body(request, app).await?;
    if now.is_none_or(|now| now.is_of(&bytes)) {
        return Ok(bytes);
    }
    let message = "this page was shown to somebody else, or while you acted as somebody else; nothing was done";
    let error = ApiError::new(StatusCode::CONFLICT, "conflict", message);
    let hint = "load it again, and see as whom you are there".to_owned();
    Err(ApiError { rule: Some("page_shown".to_owned()), hint: Some(hint), ..error })
}

/// A form that says nothing but by whose page it was sent.
pub(crate) struct Sent;

impl FromRequest<App> for Sent {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        sent(request, app).await.map(|_| Self)
    }
}

impl Fields {
    /// The first value of a name; an empty field is none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Those whose name begins so, without that.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(n, v)| Some((n.strip_prefix(prefix)?, v.as_str())))
    }
}

/// What a browser is told about every answer; and an error becomes a page where one was asked for.
async fn as_page(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_page = !["/api/", "/healthz", "/readyz", "/metrics"].iter().any(|p| request.uri().path().starts_with(p));
    if !is_page {
        return harmless(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let kept = parts.clone();
    let response = next.run(Request::from_parts(parts, body)).await;
    let Some(error) = response.extensions().get::<ApiError>().cloned() else { return harmless(response) };
    parts = kept;
    if came_by_a_link(&parts, &error) {
        let again = Html::of(&AgainPage { url: Text::from(url(&parts)) });
        return harmless(again.into_response());
    }
    harmless(error_page(&app, parts, error).await)
}

/// Somebody who followed a link on another site: their browser left out the cookie, or sent it and said whence they
/// came. A page that only reads is asked for again from here.
fn came_by_a_link(parts: &Parts, error: &ApiError) -> bool {
    let says = |name: &str, value: &str| parts.headers.get(name).is_some_and(|v| v == value);
    let elsewhere = says("sec-fetch-site", "cross-site") || says("sec-fetch-site", "same-site");
    let turned_away = matches!(error.rule.as_deref(), Some("sign_in" | "cross_site"));
    parts.method == Method::GET && elsewhere && turned_away && says("sec-fetch-mode", "navigate")
}

async fn error_page(app: &App, mut parts: Parts, error: ApiError) -> Response {
    // Who isn't known is not asked about again: that is on record.
    let known = match error.status {
        StatusCode::UNAUTHORIZED => None,
        _ => api::known(&mut parts, app).await.ok(),
    };
    let me = match known {
        Some(known) => {
            let mut me = me(&known.principal);
            // Their association itself may be what is refused.
            match Caller::from_request_parts(&mut parts, app).await {
                Ok(caller) => me.acting = acting_bar(app, &caller).await,
                Err(refused) if parts.headers.get(ACTING_AS).is_none() => me.problem = Some(reason(&refused)),
                Err(_) => {}
            }
            Some(me)
        }
        None => None,
    };
    let heading = match error.status {
        StatusCode::UNAUTHORIZED => "Please sign in",
        StatusCode::NOT_FOUND => "Not here",
        StatusCode::FORBIDDEN => "Refused",
        StatusCode::CONFLICT => "Not possible now",
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => "Not understood",
        StatusCode::TOO_MANY_REQUESTS => "Too often",
        StatusCode::METHOD_NOT_ALLOWED => "Not that way",
        _ => "Not available",
    };
    let is_get = parts.method == Method::GET;
    let next = if is_get { url(&parts) } else { "/jobs".to_owned() };
    let page = ErrorPage {
        frame: Frame { me, url: Text::from(&next), ..bare(heading) },
        heading,
        reason: reason(&error),
        offers_sign_in: error.status == StatusCode::UNAUTHORIZED,
        next: web::encoded(&next),
    };
    let mut response = match Html::of(&page) {
        Ok(html) => html.into_response(),
        Err(plain) => return plain.into_response(),
    };
    *response.status_mut() = error.status;
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    // The part of it that a page asked for in the background can show.
    response.headers_mut().insert("hx-reselect", HeaderValue::from_static("#error"));
    response
}

/// Nothing is shown inside another's page, or tells another where one came from, or shares its window with it.
fn harmless(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// What a page shows of an error of a service, without becoming an error page.
pub(crate) fn shown(error: ServiceError) -> web::Reason {
    reason(&ApiError::from(error))
}

#[cfg(test)]
mod tests {
    use super::own_path;

    #[test]
    fn one_comes_back_only_to_pages_of_ours() {
        for path in ["/jobs", "/jobs?state=failed&q=a%20b", "/jobs/7/log?line=3"] {
            assert_eq!(own_path(Some(path)), path);
        }
        for path in
            ["", "//evil.example/", "/\\evil.example", "https://evil.example", "/a b", "/a\r\nx: y", "/é", "jobs"]
        {
            assert_eq!(own_path(Some(path)), "/jobs", "{path:?}");
        }
        assert_eq!(own_path(None), "/jobs");
    }
}
