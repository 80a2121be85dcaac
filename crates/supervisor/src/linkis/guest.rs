//! Who asks, by what Linkis's clients show. Everything it finds becomes one ordinary credential of the farm, so that who
//! that is, is said where it is said for all other requests.

use crate::api::{self, ApiError, App};
use crate::audit::Act;
use crate::authn::{AuthnError, Known, Peer, cookie, says_it_is_ours};
use crate::caller::{Asks, Caller};
use crate::error::ServiceError;
use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use compat_linkis::unquoted;
use policy::{Acting, Principal, Refusal};

const TOKEN: &str = "token-code";
const TOKEN_USER: &str = "token-user";
/// What sessions begin with: nothing else is a login ticket.
const SESSION: &str = "stead_s_";

/// What a request shows.
struct Shown {
    credential: Option<String>,
    token_user: Option<String>,
    /// The proxy cookie.
    ticket: Option<String>,
}

/// Who asks, as whom they act for this request, as Stead's own `Caller`.
#[derive(Debug)]
pub(super) struct Guest(pub(super) Caller);

/// Whoever is there, as nobody else, also when their association has ended.
#[derive(Debug)]
pub(super) struct Oneself {
    pub(super) principal: Principal,
    /// Their proxy cookie is true.
    pub(super) is_proxied: bool,
}

/// The same for a request that has to be possible whatever the proxy cookie says: it ends things.
#[derive(Debug)]
pub(super) struct Leaving(pub(super) Oneself);

impl FromRequestParts<App> for Guest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let shown = shown(parts, app)?;
        let known = known(parts, app, &shown).await?;
        let asks = asked(parts, shown.token_user)?;
        let asks = api::for_whom(asks, known.bound)?;
        let caller = app.service.caller(known.principal, asks).await?;
        if let Some(ticket) = &shown.ticket {
            believe(app, &caller.principal, ticket, Some(&caller)).await?;
        }
        Ok(Self(caller))
    }
}

impl FromRequestParts<App> for Oneself {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let shown = shown(parts, app)?;
        let known = known(parts, app, &shown).await?;
        only_oneself(parts, app, &known, shown.token_user).await?;
        if let Some(ticket) = &shown.ticket {
            believe(app, &known.principal, ticket, None).await?;
        }
        Ok(Self { principal: known.principal, is_proxied: shown.ticket.is_some() })
    }
}

impl FromRequestParts<App> for Leaving {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let shown = shown(parts, app)?;
        let known = known(parts, app, &shown).await?;
        only_oneself(parts, app, &known, shown.token_user).await?;
        let is_proxied = match &shown.ticket {
            Some(ticket) => is_true(app, &known.principal, ticket, None).await?,
            None => false,
        };
        Ok(Self(Oneself { principal: known.principal, is_proxied }))
    }
}

/// A browser sends cookies with whatever any page makes it ask: what another site asks for is refused. Programs say
/// nothing of where they come from; that browsers keep quiet about it, too, is what `SameSite` is for.
fn shown(parts: &Parts, app: &App) -> Result<Shown, ApiError> {
    let names = &app.service.settings.linkis.cookies;
    let value = |name| cookie(&parts.headers, name).map(|value| value.map(|text| unquoted(&text).to_owned()));
    let (login, ticket) = (value(&names.login)?, value(&names.proxy)?);
    let (token, token_user) = (header(parts, TOKEN)?, header(parts, TOKEN_USER)?);
    if token.is_some() != token_user.is_some() {
        let message = "Token-Code and Token-User come together: the token, and whom it is for";
        return Err(unauthorised("token_pair", message));
    }
    if ticket.is_some() && login.is_none() {
        let message = "the proxy cookie says nothing without the login cookie that it was made for";
        return Err(unauthorised("proxy_ticket_alone", message));
    }
    let ways = [login.is_some(), token.is_some(), parts.headers.contains_key(AUTHORIZATION)];
    if ways.into_iter().filter(|is_there| *is_there).count() > 1 {
        return Err(AuthnError::TwoCredentials.into());
    }
    if let Some(login) = &login {
        if !login.starts_with(SESSION) {
            return Err(AuthnError::NoCredential.into());
        }
        let is_tls = parts.extensions.get::<Peer>().is_some_and(|peer| peer.is_tls());
        says_it_is_ours(parts, is_tls)?;
    }
    Ok(Shown { credential: login.or(token), token_user, ticket })
}

fn header(parts: &Parts, name: &str) -> Result<Option<String>, ApiError> {
    let mut all = parts.headers.get_all(name).iter();
    let Some(first) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(AuthnError::TwoCredentials.into());
    }
    let text = first.to_str().map_err(|_| AuthnError::NoCredential)?;
    Ok(Some(text.to_owned()))
}

fn unauthorised(rule: &str, message: &str) -> ApiError {
    let error = ApiError::new(StatusCode::UNAUTHORIZED, "not_authenticated", message);
    ApiError { rule: Some(rule.to_owned()), hint: Some("sign in again: POST user/login".to_owned()), ..error }
}

/// From here on it is a request as any other, with that credential; the farm's own cookie counts on its own pages only.
async fn known(parts: &mut Parts, app: &App, shown: &Shown) -> Result<Known, ApiError> {
    parts.headers.remove(COOKIE);
    if let Some(credential) = &shown.credential {
        let bearer = HeaderValue::from_str(&format!("Bearer {credential}"));
        let mut bearer = bearer.map_err(|_| AuthnError::NoCredential)?;
        bearer.set_sensitive(true);
        parts.headers.insert(AUTHORIZATION, bearer);
    }
    api::known(parts, app).await
}

/// The user that a request names: by Stead's header, or beside a token.
fn asked(parts: &Parts, token_user: Option<String>) -> Result<Asks, ApiError> {
    match (token_user, api::asks(parts)?) {
        (None, asks) => Ok(asks),
        (Some(user), Asks::Named(name)) if user != name => {
            Err(ServiceError::input(TOKEN_USER, format!("the header {} names somebody else", api::ACTING_AS)).into())
        }
        (Some(user), _) => Ok(Asks::Named(user)),
    }
}

async fn only_oneself(parts: &Parts, app: &App, known: &Known, token_user: Option<String>) -> Result<(), ApiError> {
    if let Asks::Named(name) = asked(parts, token_user)? {
        app.service.only_oneself(&known.principal, &name).await?;
    }
    Ok(())
}

/// A proxy cookie that isn't true is refused, and the refusal is on record: nothing is done as either of the two.
async fn believe(app: &App, principal: &Principal, ticket: &str, caller: Option<&Caller>) -> Result<(), ApiError> {
    if is_true(app, principal, ticket, caller.map(|caller| caller.acting.as_ref())).await? {
        return Ok(());
    }
    let login = &principal.login_user;
    let refusal = Refusal {
        rule: "proxy_ticket".to_owned(),
        value: login.to_string(),
        text: format!("the proxy cookie is not of this session of {login}, or not of as whom {login} acts now"),
        hint: "sign out, sign in, and choose the proxy user again; or go on without that cookie".to_owned(),
    };
    Err(app.service.refused(principal, Act::Switch, refusal).await.into())
}

/// Whether the ticket was made for this session and for the association that there is. With `acting`: and gives that
/// right now.
async fn is_true(
    app: &App,
    principal: &Principal,
    ticket: &str,
    acting: Option<Option<&Acting>>,
) -> Result<bool, ApiError> {
    let Some((own, row)) = ticket_of(app, principal).await? else { return Ok(false) };
    let is_live = match acting {
        None => true,
        Some(None) => false,
        Some(Some(acting)) => acting.user.as_str() == row.proxy_user && Some(acting.grant) == row.grant_id,
    };
    Ok(crate::identity::is_same(ticket, &own) && is_live)
}

/// The proxy ticket of a session: over both users, the session, and the association as it was begun.
pub(super) async fn ticket_of(
    app: &App,
    principal: &Principal,
) -> Result<Option<(String, store::AssociationRow)>, ApiError> {
    let login = principal.login_user.as_str();
    let Some(session) = principal.credential else { return Ok(None) };
    let row = app.service.store.identity(login, None).await.map_err(ServiceError::from)?.1.association;
    let Some(Ok(row)) = row else { return Ok(None) };
    let words = [session.to_string(), row.grant_id.map_or_else(String::new, |id| id.to_string())];
    let [session, grant] = &words;
    let since = row.since.as_deref().unwrap_or_default();
    let mac = app.service.identity.seal().ticket(&["linkis proxy", login, &row.proxy_user, session, grant, since]);
    Ok(Some((format!("stead_p_{mac}"), row)))
}
