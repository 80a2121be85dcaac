//! To the OpenID provider and back, as pages. A browser comes here from another site, so none of them looks at a session.

use super::describe::{ForPeople, Made, Onward};
use super::sign_in::session_cookie;
use super::{Answer, ApiError, App, Asked, Body};
use crate::authn::{Peer, cookie};
use crate::error::ServiceError;
use crate::oidc::{self, Begin, PATIENCE};
use crate::service::{CodeRequest, SignedIn};
use crate::views::NewCredentialView;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};

/// Holds what binds a browser to its question.
const COOKIE: &str = "stead-oidc";

/// The browser's cookie: comes back with it from the provider, and only then.
fn binding(value: &str, seconds: u64, is_tls: bool) -> Option<HeaderValue> {
    let secure = if is_tls { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; Path={}; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}", oidc::CALLBACK);
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

pub(crate) async fn start(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Asked(begin): Asked<Begin>,
) -> Result<Made<Onward>, ApiError> {
    let asked = app.service.oidc_start(peer, begin).await?;
    let to =
        HeaderValue::from_str(&asked.url).map_err(|_| ServiceError::input("oidc", "the provider has no address"))?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, to);
    headers.extend(binding(&asked.cookie, PATIENCE.as_secs(), peer.is_tls()).map(|cookie| (SET_COOKIE, cookie)));
    Ok(response.into())
}

pub(crate) async fn callback(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Asked(answer): Asked<oidc::Answer>,
) -> Result<Made<ForPeople>, ApiError> {
    // One cookie or none: two of one name are nobody's choice.
    let bound = cookie(&headers, COOKIE).unwrap_or_default();
    let (session, text) = match app.service.oidc_back(peer, answer, bound.as_deref()).await? {
        SignedIn::Browser(made) => {
            let text = format!("<p>You are signed in as {}.</p>", plain(&made.login_user));
            (session_cookie(&app, &made, peer), text)
        }
        // A click: another account of this machine may have sent the link that began this.
        SignedIn::Program { login_user, url, word } => (
            None,
            format!(
                "<p>A program on your machine wants to be signed in as {}.</p><p>Go on only if you have just typed \
                 <code>stead login --oidc</code> and your terminal shows <b>{}</b>.</p><p><a href=\"{}\">Sign it in</a></p>\
                 <p>If the terminal is on another machine than this browser, copy the address of that link and paste it there.</p>",
                plain(login_user.as_str()),
                plain(&word),
                plain(&url)
            ),
        ),
    };
    let mut response = page(&text);
    let forgotten = binding("", 0, peer.is_tls());
    for cookie in session.into_iter().chain(forgotten) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response.into())
}

/// A program exchanges what a browser brought it.
pub(crate) async fn session(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(request): Body<CodeRequest>,
) -> Answer<NewCredentialView> {
    Ok(Json(app.service.oidc_session(peer, request).await?))
}

/// Nothing of it runs, is shown in another page, or says where one came from: the address holds the provider's code.
fn page(text: &str) -> Response {
    let html = format!("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Stead</title>{text}</html>\n");
    let mut response = html.into_response();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Text that stays text in a page.
fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}
