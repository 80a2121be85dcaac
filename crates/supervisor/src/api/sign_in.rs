//! Sessions and tokens, as pages. All of them are about the login user, whoever they act as.

use super::describe::{Created, Made, WithCookie};
use super::{Answer, ApiError, App, Asked, Body, Oneself, StrangersBody, asks, for_whom, known};
use crate::authn::{AuthnError, Kind, Peer, says_it_is_ours, set_cookie};
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::service::{LoginRequest, NewPassword, OwnPassword, TokenRequest};
use crate::views::{
    AccountView, CredentialView, EndedView, LoggedOutView, LoginCodeView, NewCredentialView, RemovedView, SignedInView,
    WhoamiView,
};
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse as _;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// Who asks, and as whom that would be: an association that has ended takes nobody the word about it.
pub(crate) struct Me {
    caller: Result<Caller, ServiceError>,
    principal: policy::Principal,
}

impl FromRequestParts<App> for Me {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let known = known(parts, app).await?;
        let asks = for_whom(asks(parts)?, known.bound)?;
        let caller = Caller::new(&app.service.identity, known.principal.clone(), asks).await;
        Ok(Self { caller, principal: known.principal })
    }
}

/// Whoever is about to sign in. A page that isn't ours signs nobody in.
pub(crate) struct Visitor {
    pub(crate) peer: Peer,
    pub(crate) is_our_page: bool,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let peer = parts.extensions.get::<Peer>().copied().ok_or(AuthnError::NotSignedIn)?;
        Ok(Self { peer, is_our_page: says_it_is_ours(parts, peer.is_tls())? })
    }
}

/// A browser keeps the session as a cookie, out of reach of what runs in the page, and isn't told it otherwise.
pub(crate) async fn login(
    State(app): State<App>,
    visitor: Visitor,
    StrangersBody(request): StrangersBody<LoginRequest>,
) -> Result<Made<WithCookie<SignedInView>>, ApiError> {
    let made = app.service.login(visitor.peer, request).await?;
    let cookie = visitor.is_our_page.then(|| session_cookie(&app, &made, visitor.peer)).flatten();
    let token = (!visitor.is_our_page).then_some(made.token);
    let said = SignedInView { id: made.id, login_user: made.login_user, expires_at: made.expires_at, token };
    let mut response = Json(said).into_response();
    response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    Ok(response.into())
}

pub(crate) fn session_cookie(app: &App, made: &NewCredentialView, peer: Peer) -> Option<HeaderValue> {
    let lasts = Duration::from_secs(app.service.settings.session_max_days.saturating_mul(86_400));
    set_cookie(&made.token, lasts, peer.is_tls())
}

pub(crate) async fn whoami(State(app): State<App>, me: Me) -> Answer<WhoamiView> {
    let p = me.principal;
    let roles = [("admin", p.roles.admin), ("impersonate", p.roles.impersonate), ("auditor", p.roles.auditor)];
    let (acting_as, problem) = match me.caller {
        Ok(caller) => (caller.acting.map(|a| a.user.to_string()), None),
        Err(ServiceError::Refused(refusal)) => (None, Some(refusal)),
        Err(error) => return Err(error.into()),
    };
    let login_user = p.login_user.to_string();
    // root administers; it is nobody a job runs as. Whose association has ended is nobody either.
    let user = match (&acting_as, &problem) {
        (Some(user), _) => Some(user.clone()),
        (None, None) => (login_user != "root").then(|| login_user.clone()),
        (None, Some(_)) => None,
    };
    let credential = app.service.shown(&p).await?;
    Ok(Json(WhoamiView {
        login_user,
        uid: p.uid,
        roles: roles.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect(),
        user,
        acting_as,
        problem,
        source: p.source,
        channel: p.channel,
        client: p.client,
        scopes: crate::authn::scope_words(p.scopes),
        expires_at: credential.as_ref().and_then(|c| c.expires_at.clone()),
        credential,
    }))
}

/// For whoever wants to open the pages without a password: only they can be told.
pub(crate) async fn login_code(State(app): State<App>, Oneself(principal): Oneself) -> Answer<LoginCodeView> {
    Ok(Json(app.service.login_code(&principal).await?))
}

/// Also has a browser forget the cookie.
pub(crate) async fn logout(
    State(app): State<App>,
    Oneself(principal): Oneself,
    peer: axum::Extension<Peer>,
) -> Result<Made<WithCookie<LoggedOutView>>, ApiError> {
    let ended = app.service.logout(&principal).await?;
    let mut response = Json(LoggedOutView { ended }).into_response();
    if let Some(cookie) = set_cookie("", Duration::ZERO, peer.is_tls()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response.into())
}

pub(crate) async fn change_password(
    State(app): State<App>,
    Oneself(principal): Oneself,
    Body(request): Body<OwnPassword>,
) -> Answer<AccountView> {
    app.service.change_password(&principal, request).await?;
    Ok(Json(AccountView { account: principal.login_user.to_string() }))
}

pub(crate) async fn set_password(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(request): Body<NewPassword>,
) -> Answer<AccountView> {
    app.service.set_password(&caller, &name, request).await?;
    Ok(Json(AccountView { account: name }))
}

pub(crate) async fn remove_account(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<RemovedView> {
    app.service.remove_account(&caller, &name).await?;
    Ok(Json(RemovedView { removed: name }))
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OfWhom {
    user: Option<String>,
}

pub(crate) async fn sessions(
    State(app): State<App>,
    Oneself(principal): Oneself,
    Asked(query): Asked<OfWhom>,
) -> Answer<Vec<CredentialView>> {
    Ok(Json(app.service.credentials(&principal, Kind::Session, query.user.as_deref()).await?))
}

pub(crate) async fn tokens(
    State(app): State<App>,
    Oneself(principal): Oneself,
    Asked(query): Asked<OfWhom>,
) -> Answer<Vec<CredentialView>> {
    Ok(Json(app.service.credentials(&principal, Kind::Token, query.user.as_deref()).await?))
}

pub(crate) async fn end_session(
    State(app): State<App>,
    Oneself(principal): Oneself,
    Path(id): Path<String>,
) -> Answer<EndedView> {
    app.service.end_credential(&principal, Kind::Session, &id).await?;
    Ok(Json(EndedView { ended: id }))
}

pub(crate) async fn end_token(
    State(app): State<App>,
    Oneself(principal): Oneself,
    Path(id): Path<String>,
) -> Answer<EndedView> {
    app.service.end_credential(&principal, Kind::Token, &id).await?;
    Ok(Json(EndedView { ended: id }))
}

pub(crate) async fn make_token(
    State(app): State<App>,
    Oneself(principal): Oneself,
    Body(request): Body<TokenRequest>,
) -> Result<Created<NewCredentialView>, ApiError> {
    Ok(Created(app.service.make_token(&principal, request).await?))
}
