//! Signing in and out, and who one is.

use super::answer::{Answer, Said, said};
use super::guest::{Guest, Leaving};
use crate::api::{ApiError, App, StrangersBody, Visitor};
use crate::authn::{Password, Peer};
use crate::service::LoginRequest;
use axum::Extension;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::json;

/// How lists of sessions call one that began here.
const SESSION_NAME: &str = "linkis";
/// How many of them somebody has at once: some clients sign in for every question.
const SESSIONS: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Login {
    user_name: String,
    password: Password,
}

/// The same question as at `/api/v1/login`, with its limits. Names are taken as they are.
pub(super) async fn login(
    State(app): State<App>,
    visitor: Visitor,
    StrangersBody(login): StrangersBody<Login>,
) -> Result<(HeaderMap, Said), ApiError> {
    let request = LoginRequest { user: login.user_name, password: login.password, name: Some(SESSION_NAME.to_owned()) };
    let made = app.service.login(visitor.peer, request).await?;
    let names = &app.service.settings.linkis.cookies;
    let mut headers = HeaderMap::new();
    headers.extend(set(&names.login, Some(&made.token), visitor.peer).map(|cookie| (SET_COOKIE, cookie)));
    let roles = app.service.retire(&made, visitor.peer, (SESSION_NAME, SESSIONS)).await?;
    let minutes = app.service.settings.session_idle_minutes;
    let data = json!({
        "userName": made.login_user,
        "isAdmin": roles.admin,
        "sessionTimeOut": minutes.saturating_mul(60_000),
        "enableWatermark": false,
    });
    Ok((headers, said(data)))
}

/// Ends the session, and both cookies with it. Whoever holds a true proxy cookie ends what it stands for, too.
pub(super) async fn logout(
    State(app): State<App>,
    Leaving(who): Leaving,
    Extension(peer): Extension<Peer>,
) -> Result<(HeaderMap, Said), ApiError> {
    if who.is_proxied {
        app.service.act_as_oneself(&who.principal).await?;
    }
    app.service.logout(&who.principal).await?;
    let names = &app.service.settings.linkis.cookies;
    let mut headers = HeaderMap::new();
    for name in [&names.login, &names.proxy] {
        if let Some(cookie) = set(name, None, peer) {
            headers.append(SET_COOKIE, cookie);
        }
    }
    Ok((headers, said(json!({}))))
}

/// Has a browser keep a ticket for its session, or forget it.
pub(super) fn set(name: &str, ticket: Option<&str>, peer: Peer) -> Option<HeaderValue> {
    let secure = if peer.is_tls() { "; Secure" } else { "" };
    let age = if ticket.is_some() { "" } else { "; Max-Age=0" };
    let text = format!("{name}={}; Path=/; HttpOnly; SameSite=Strict{age}{secure}", ticket.unwrap_or_default());
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

pub(super) async fn info(Guest(caller): Guest) -> Answer {
    let acting = caller.acting.as_ref().map(|acting| acting.user.as_str());
    Ok(said(json!({ "userName": caller.principal.login_user.as_str(), "proxyUser": acting })))
}

pub(super) async fn heartbeat(Guest(_): Guest) -> Answer {
    Ok(said(json!({})))
}

/// Passwords are sent as they are: over TLS, or to this machine.
pub(super) async fn public_key(Extension(peer): Extension<Peer>) -> Answer {
    Ok(said(json!({ "enableSSL": peer.is_tls(), "enableLoginEncrypt": false })))
}

pub(super) async fn base_info(State(app): State<App>, Guest(_): Guest) -> Answer {
    Ok(said(json!({
        "resultSetExportEnable": true,
        "linkisClusterName": app.service.facts.farm,
        "engineLogOnlyAdminEnable": false,
    })))
}
