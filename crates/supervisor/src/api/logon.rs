//! Passwords of the accounts that jobs run as. They come in, and never go out.

use super::{Answer, App, Body};
use crate::caller::Caller;
use crate::service::{CheckView, GivenPassword, LogonView};
use crate::views::RemovedView;
use axum::Json;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::Serialize;
use warrant::hex;

/// A sealed form of a password.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SealedView {
    account: String,
    /// What a configuration file takes.
    sealed: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct KeyView {
    /// Public X25519 key, hexadecimal; of this life of the supervisor.
    key: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RotatedView {
    /// How many are under the new key.
    passwords: u64,
    /// What the new key is known by.
    key: String,
}

pub(crate) async fn list(State(app): State<App>, caller: Caller) -> Answer<Vec<LogonView>> {
    Ok(Json(app.service.logons(&caller).await?))
}

pub(crate) async fn set(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
    Body(given): Body<GivenPassword>,
) -> Answer<LogonView> {
    Ok(Json(app.service.set_logon(&caller, &account, given).await?))
}

pub(crate) async fn remove(State(app): State<App>, caller: Caller, Path(account): Path<String>) -> Answer<RemovedView> {
    app.service.delete_logon(&caller, &account).await?;
    Ok(Json(RemovedView { removed: account }))
}

pub(crate) async fn check(State(app): State<App>, caller: Caller, Path(account): Path<String>) -> Answer<CheckView> {
    Ok(Json(app.service.check_logon(&caller, &account).await?))
}

pub(crate) async fn seal(
    State(app): State<App>,
    caller: Caller,
    Path(account): Path<String>,
    Body(given): Body<GivenPassword>,
) -> Answer<SealedView> {
    let sealed = app.service.sealed_logon(&caller, &account, given).await?;
    Ok(Json(SealedView { account, sealed }))
}

/// What passwords are sealed for on their way here.
pub(crate) async fn key(State(app): State<App>, _: Caller) -> Answer<KeyView> {
    Ok(Json(KeyView { key: hex(&app.service.logons.incoming_key()) }))
}

pub(crate) async fn rotate(State(app): State<App>, caller: Caller) -> Answer<RotatedView> {
    let (passwords, key) = app.service.rotate_logons(&caller).await?;
    Ok(Json(RotatedView { passwords, key }))
}
