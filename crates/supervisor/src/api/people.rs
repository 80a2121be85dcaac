//! Users, grants, and as whom somebody acts.

use super::describe::Created;
use super::{Answer, ApiError, App, Asked, Body, Caller, Oneself};
use crate::error::ServiceError;
use crate::service::{
    ActingView, GrantRequest, GrantsQuery, Revocation, RevokedView, SwitchView, UserChange, UsersQuery,
};
use crate::views::{GrantView, ListedView, RemovedView, UserView};
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::Deserialize;
use store::List;

// Whoever's association has ended still has to be able to see and end it: these ask for oneself.

pub(super) async fn acting_as(State(app): State<App>, Oneself(p): Oneself) -> Answer<ActingView> {
    Ok(Json(app.service.acting_as(&p).await?))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ActAs {
    proxy_user: String,
}

pub(super) async fn act_as(
    State(app): State<App>,
    Oneself(p): Oneself,
    Body(asked): Body<ActAs>,
) -> Answer<SwitchView> {
    Ok(Json(app.service.act_as(&p, &asked.proxy_user).await?))
}

pub(super) async fn act_as_oneself(State(app): State<App>, Oneself(p): Oneself) -> Answer<SwitchView> {
    Ok(Json(app.service.act_as_oneself(&p).await?))
}

pub(super) async fn users(
    State(app): State<App>,
    caller: Caller,
    Asked(query): Asked<UsersQuery>,
) -> Answer<Vec<UserView>> {
    Ok(Json(app.service.users(&caller, query).await?))
}

pub(super) async fn user(State(app): State<App>, caller: Caller, Path(name): Path<String>) -> Answer<UserView> {
    Ok(Json(app.service.user(&caller, &name).await?))
}

pub(super) async fn put_user(
    State(app): State<App>,
    caller: Caller,
    Body(change): Body<UserChange>,
) -> Answer<UserView> {
    Ok(Json(app.service.put_user(&caller, change).await?))
}

pub(super) async fn remove_user(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<RemovedView> {
    app.service.remove_user(&caller, &name).await?;
    Ok(Json(RemovedView { removed: name }))
}

pub(super) async fn grants(
    State(app): State<App>,
    caller: Caller,
    Asked(query): Asked<GrantsQuery>,
) -> Answer<Vec<GrantView>> {
    Ok(Json(app.service.grants(&caller, query).await?))
}

pub(super) async fn give_grant(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<GrantRequest>,
) -> Result<Created<GrantView>, ApiError> {
    Ok(Created(app.service.give_grant(&caller, request).await?))
}

pub(super) async fn request_grant(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<GrantRequest>,
) -> Result<Created<GrantView>, ApiError> {
    Ok(Created(app.service.request_grant(&caller, request).await?))
}

pub(super) async fn approve_grant(State(app): State<App>, caller: Caller, id: GrantId) -> Answer<GrantView> {
    Ok(Json(app.service.approve_grant(&caller, id.0).await?))
}

pub(super) async fn revoke_grant(
    State(app): State<App>,
    caller: Caller,
    id: GrantId,
    Body(how): Body<Revocation>,
) -> Answer<RevokedView> {
    Ok(Json(app.service.revoke_grant(&caller, id.0, how).await?))
}

pub(super) async fn listed(app: App, caller: Caller, list: List) -> Answer<Vec<ListedView>> {
    Ok(Json(app.service.listed(&caller, list).await?))
}

pub(super) async fn set_listed(
    app: App,
    caller: Caller,
    list: List,
    name: &str,
    allowed: Option<bool>,
) -> Answer<ListedView> {
    Ok(Json(app.service.set_listed(&caller, list, name, allowed).await?))
}

/// The number in a path. What is no number is no grant, as any other that isn't there.
pub(crate) struct GrantId(pub(crate) u64);

impl FromRequestParts<App> for GrantId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, app)
            .await
            .map_err(|_| ApiError::from(ServiceError::NoSuchPage))?;
        text.parse().map(Self).map_err(|_| ServiceError::NoSuchGrant(0).into())
    }
}
