//! Users, grants, and as whom somebody acts.

use super::{Answer, ApiError, App, Asked, Body, Caller, Oneself};
use crate::error::ServiceError;
use crate::service::{GrantRequest, GrantsQuery, Revocation, UserChange, UsersQuery};
use crate::views::{GrantView, UserView};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

// Whoever's association has ended still has to be able to see and end it: these ask for oneself.

pub(super) async fn acting_as(
    State(app): State<App>,
    Oneself(p): Oneself,
) -> Result<Json<impl serde::Serialize>, ApiError> {
    Ok(Json(app.service.acting_as(&p).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActAs {
    proxy_user: String,
}

pub(super) async fn act_as(
    State(app): State<App>,
    Oneself(p): Oneself,
    Body(asked): Body<ActAs>,
) -> Result<Json<impl serde::Serialize>, ApiError> {
    Ok(Json(app.service.act_as(&p, &asked.proxy_user).await?))
}

pub(super) async fn act_as_oneself(
    State(app): State<App>,
    Oneself(p): Oneself,
) -> Result<Json<impl serde::Serialize>, ApiError> {
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

pub(super) async fn remove_user(State(app): State<App>, caller: Caller, Path(name): Path<String>) -> Answer<Value> {
    app.service.remove_user(&caller, &name).await?;
    Ok(Json(json!({ "removed": name })))
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
) -> Result<(StatusCode, Json<GrantView>), ApiError> {
    Ok((StatusCode::CREATED, Json(app.service.give_grant(&caller, request).await?)))
}

pub(super) async fn request_grant(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<GrantRequest>,
) -> Result<(StatusCode, Json<GrantView>), ApiError> {
    Ok((StatusCode::CREATED, Json(app.service.request_grant(&caller, request).await?)))
}

pub(super) async fn approve_grant(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Answer<GrantView> {
    Ok(Json(app.service.approve_grant(&caller, grant_id(&id)?).await?))
}

pub(super) async fn revoke_grant(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(how): Body<Revocation>,
) -> Result<Json<impl serde::Serialize>, ApiError> {
    Ok(Json(app.service.revoke_grant(&caller, grant_id(&id)?, how).await?))
}

/// What is no number is no grant, as any other that isn't there.
fn grant_id(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| ServiceError::NoSuchGrant(0).into())
}
