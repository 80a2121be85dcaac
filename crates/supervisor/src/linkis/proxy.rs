//! As whom one acts, as the application in front of Linkis has it: on the farm's own association and grants.

use super::answer::{Answer, Said, said};
use super::guest::{Guest, Oneself, ticket_of};
use super::{Route, user};
use crate::api::{ApiError, App, Asked, Body};
use crate::authn::{AuthnError, Peer};
use crate::error::ServiceError;
use crate::service::{GrantRequest, GrantsQuery, Revocation};
use axum::Extension;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;

macro_rules! proxied {
    ($($method:literal $name:literal $handler:expr,)*) => {
        vec![$(
            ($method, concat!("/api/rest_j/v1/dss/framework/proxy/", $name), $handler),
            ($method, concat!("/api/rest_j/v1/dss/scriptis/proxy/", $name), $handler),
        )*]
    };
}

pub(super) fn routes() -> Vec<Route> {
    proxied![
        "POST" "setProxyUser" post(set),
        "GET" "getProxyUser" get(current),
        "GET" "listProxyUsers" get(list),
        "GET" "list" get(list),
        "POST" "add" post(add),
        "POST" "revokeProxyUser" post(revoke),
        "GET" "getProxyUserName" get(of_user),
    ]
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Choice {
    proxy_user_name: String,
}

/// From now on they act as that user, everywhere; oneself ends it. The cookie only says so to this client.
async fn set(
    State(app): State<App>,
    who: Oneself,
    Extension(peer): Extension<Peer>,
    Body(choice): Body<Choice>,
) -> Result<(HeaderMap, Said), ApiError> {
    let principal = &who.principal;
    if principal.credential.is_none() {
        return Err(AuthnError::NotSignedIn.into());
    }
    let switched = app.service.act_as(principal, &choice.proxy_user_name).await?;
    let ticket = match &switched.active {
        // Somebody may have switched again meanwhile: a ticket is made for what they asked for, or not at all.
        Some(active) => match ticket_of(&app, principal).await? {
            Some((ticket, row)) if row.proxy_user == *active => Some(ticket),
            _ => return Err(ServiceError::Conflict("as whom you act was changed at the same time".to_owned()).into()),
        },
        None => None,
    };
    let name = &app.service.settings.linkis.cookies.proxy;
    let mut headers = HeaderMap::new();
    headers.extend(user::set(name, ticket.as_deref(), peer).map(|cookie| (SET_COOKIE, cookie)));
    let data = json!({ "userName": principal.login_user.as_str(), "proxyUser": switched.active });
    Ok((headers, said(data)))
}

async fn current(Guest(caller): Guest) -> Answer {
    let login = caller.principal.login_user.as_str();
    match &caller.acting {
        Some(acting) => Ok(said(json!({ "userName": login, "proxyUser": acting.user.as_str() }))),
        None => {
            let error =
                ApiError::new(StatusCode::BAD_REQUEST, "no_proxy_user", &format!("{login} acts as nobody else"));
            Err(ApiError { rule: Some("no_proxy_user".to_owned()), ..error })
        }
    }
}

/// Oneself, and whom one may act as now.
async fn list(State(app): State<App>, who: Oneself) -> Answer {
    let view = app.service.acting_as(&who.principal).await?;
    let permitted = view.permitted.into_iter().map(|permitted| permitted.proxy_user);
    let names: Vec<String> = [view.login_user].into_iter().chain(permitted).collect();
    Ok(said(json!({ "proxyUserList": names })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Grant {
    user_name: String,
    proxy_user_name: String,
    expire_time: Option<String>,
    remark: Option<String>,
}

/// A grant, by whoever may give it.
async fn add(State(app): State<App>, Guest(caller): Guest, Body(grant): Body<Grant>) -> Answer {
    let request = GrantRequest {
        login_user: Some(grant.user_name),
        proxy_user: grant.proxy_user_name,
        until: grant.expire_time,
        reason: grant.remark,
        ..GrantRequest::default()
    };
    let view = app.service.give_grant(&caller, request).await?;
    Ok(said(json!({ "grant": view.id, "userName": view.login_user, "proxyUserName": view.proxy_user })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Revoke {
    user_name: String,
    proxy_user_names: Vec<String>,
}

/// Ends every live grant of these pairs that the caller may end.
async fn revoke(State(app): State<App>, Guest(caller): Guest, Body(revoke): Body<Revoke>) -> Answer {
    let mut revoked = Vec::new();
    for proxy in revoke.proxy_user_names.iter().collect::<BTreeSet<_>>() {
        let query = GrantsQuery {
            login_user: Some(revoke.user_name.clone()),
            proxy_user: Some(proxy.clone()),
            // However many were revoked before, and come first.
            state: Some("active".to_owned()),
            ..GrantsQuery::default()
        };
        let grants = app.service.grants(&caller, query).await?;
        for id in grants.iter().filter(|grant| matches!(grant.state, "active" | "later")).filter_map(|grant| grant.id) {
            app.service.revoke_grant(&caller, id, Revocation::default()).await?;
            revoked.push(id);
        }
    }
    if revoked.is_empty() {
        let what = format!("{:?} has no grant for {:?} that you may end", revoke.user_name, revoke.proxy_user_names);
        return Err(ServiceError::input("revokeProxyUser", what).into());
    }
    Ok(said(json!({ "revoked": revoked })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct OfWhom {
    user_name: Option<String>,
}

/// Whom somebody may act as by the grants that the caller may see.
async fn of_user(State(app): State<App>, Guest(caller): Guest, Asked(query): Asked<OfWhom>) -> Answer {
    let login_user = query.user_name.unwrap_or_else(|| caller.principal.login_user.to_string());
    let grants = app.service.grants(&caller, GrantsQuery { login_user: Some(login_user), ..GrantsQuery::default() });
    let live = grants.await?.into_iter().filter(|grant| grant.state == "active").filter_map(|grant| grant.proxy_user);
    Ok(said(json!({ "userNames": live.collect::<BTreeSet<String>>() })))
}
