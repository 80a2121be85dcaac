//! Signing in with a password or with a code that a program of the same person was given, and signing out.
//!
//! The page itself is for anybody. What signs in has to come from a page of ours: otherwise somebody could be signed in
//! as another without noticing.

use super::{Fields, Html, bare, form, own_path, reason, see};
use crate::api::{ApiError, App, Oneself, Visitor, session_cookie};
use crate::authn::{AuthnError, Password, set_cookie};
use crate::service::LoginRequest;
use crate::views::NewCredentialView;
use axum::Extension;
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use std::time::Duration;
use web::Text;
use web::pages::{CodePage, LoginPage};

/// How lists of sessions call one that began here.
const SESSION_NAME: &str = "browser";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginForm {
    user: String,
    password: Password,
    #[serde(default)]
    next: Option<String>,
}

impl FromRequest<App> for LoginForm {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        form(request, app).await
    }
}

fn login_page(app: &App, next: Option<&str>) -> LoginPage {
    let off = app.service.sign_in.is_off();
    LoginPage {
        frame: bare("Sign in"),
        next: own_path(next).into(),
        by_password: off.is_none(),
        why_no_password: off.map(Text::from),
        by_oidc: app.service.settings.oidc.is_some(),
        ..LoginPage::default()
    }
}

pub(super) async fn page(State(app): State<App>, Query(query): Query<Vec<(String, String)>>) -> Result<Html, ApiError> {
    Html::of(&login_page(&app, Fields(query).get("next")))
}

/// A wrong password is said on the page itself, with the name still there.
pub(super) async fn enter(State(app): State<App>, visitor: Visitor, form: LoginForm) -> Result<Response, ApiError> {
    of_ours(&visitor)?;
    let LoginForm { user, password, next } = form;
    let request = LoginRequest { user: user.clone(), password, name: Some(SESSION_NAME.to_owned()) };
    match app.service.login(visitor.peer, request).await {
        Ok(made) => Ok(signed_in(&app, &made, &visitor, own_path(next.as_deref()))),
        Err(error) => {
            let error = ApiError::from(error);
            let page = LoginPage {
                problem: Some(reason(&error)),
                user: Text::from(user),
                ..login_page(&app, next.as_deref())
            };
            let mut response = Html::of(&page)?.into_response();
            *response.status_mut() = error.status;
            Ok(response)
        }
    }
}

pub(super) async fn code_page() -> Result<Html, ApiError> {
    Html::of(&CodePage { frame: bare("Sign in"), problem: None })
}

/// The code came in the fragment of an address, which no server and no log sees, and comes here in a form.
pub(super) async fn exchange(State(app): State<App>, visitor: Visitor, fields: Fields) -> Result<Response, ApiError> {
    of_ours(&visitor)?;
    match app.service.enter_with_code(visitor.peer, fields.get("code").unwrap_or_default(), SESSION_NAME).await {
        Ok(made) => Ok(signed_in(&app, &made, &visitor, "/jobs")),
        Err(error) => {
            let error = ApiError::from(error);
            let mut response =
                Html::of(&CodePage { frame: bare("Sign in"), problem: Some(reason(&error)) })?.into_response();
            *response.status_mut() = error.status;
            Ok(response)
        }
    }
}

pub(super) async fn leave(
    State(app): State<App>,
    Oneself(principal): Oneself,
    Extension(peer): Extension<crate::authn::Peer>,
) -> Result<Response, ApiError> {
    app.service.logout(&principal).await?;
    let mut response = see("/login");
    response.headers_mut().extend(set_cookie("", Duration::ZERO, peer.is_tls()).map(|cookie| (SET_COOKIE, cookie)));
    Ok(response)
}

fn of_ours(visitor: &Visitor) -> Result<(), ApiError> {
    if visitor.is_our_page { Ok(()) } else { Err(AuthnError::CrossSite.into()) }
}

fn signed_in(app: &App, made: &NewCredentialView, visitor: &Visitor, next: &str) -> Response {
    let mut response = see(next);
    response.headers_mut().extend(session_cookie(app, made, visitor.peer).map(|cookie| (SET_COOKIE, cookie)));
    response
}
