//! What is always one's own: sessions and tokens, and the passwords of accounts that jobs run as.

use super::{Fields, Html, Visit, form, me as looker, own_path, reason, see, text, times};
use crate::api::{ApiError, App, Oneself};
use crate::authn::{Kind, Password, scope_words};
use crate::error::ServiceError;
use crate::service::{GivenPassword, LogonView, TokenRequest};
use crate::views::{CredentialView, NewCredentialView};
use axum::extract::{FromRequest, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;
use web::pages::{CredentialLine, CredentialsPage, LogonLine, MePage, NewToken};
use web::{Frame, Nav, State as Shown, Text};

/// They are the same whoever one acts as; a request that names another is refused, not done as oneself.
async fn me_page(app: &App, visit: &Visit) -> Result<MePage, ApiError> {
    let principal = &visit.caller.principal;
    let all = async |kind| -> Result<Vec<CredentialLine>, ServiceError> {
        let found = app.service.credentials(principal, kind, None).await?;
        Ok(found.iter().map(line).collect())
    };
    let may_manage = principal.scopes.manage;
    let (sessions, tokens) = match may_manage {
        true => (all(Kind::Session).await?, all(Kind::Token).await?),
        false => (Vec::new(), Vec::new()),
    };
    let frame = visit.frame("You", Nav::None);
    Ok(MePage {
        frame: Frame { api: Some("/api/v1/tokens".into()), cli: Some("stead tokens list".into()), ..frame },
        login_user: principal.login_user.as_str().into(),
        roles: looker(principal).roles,
        source: text(&principal.source),
        scopes: scope_words(principal.scopes),
        sessions,
        tokens,
        problem: None,
        token_name: String::new(),
        expires: String::new(),
        made: None,
        may_manage,
    })
}

fn line(view: &CredentialView) -> CredentialLine {
    let at = |time: &Option<String>| time.as_deref().and_then(times);
    CredentialLine {
        id: view.id,
        name: view.name.as_ref().map(Text::from),
        scopes: view.scopes.iter().map(Text::from).collect(),
        client: view.client.as_ref().map(Text::from),
        created: at(&view.created_at),
        used: at(&view.last_used_at),
        expires: at(&view.expires_at),
        is_current: view.current,
    }
}

pub(super) async fn page(State(app): State<App>, _: Oneself, visit: Visit) -> Result<Html, ApiError> {
    Html::of(&me_page(&app, &visit).await?)
}

/// The token stands in this answer, and nowhere else.
pub(super) async fn make_token(
    State(app): State<App>,
    Oneself(principal): Oneself,
    visit: Visit,
    fields: Fields,
) -> Result<Response, ApiError> {
    let get = |name| fields.get(name).map(|v| v.trim().to_owned()).unwrap_or_default();
    let request = TokenRequest {
        name: get("name"),
        scopes: fields.all("scope").map(str::to_owned).collect(),
        expires: Some(get("expires")).filter(|e| !e.is_empty()),
    };
    match app.service.make_token(&principal, request).await {
        Ok(NewCredentialView { id, token, expires_at, .. }) => {
            let made = NewToken { id, secret: token.to_string(), expires: times(&expires_at) };
            let page = MePage { made: Some(made), ..me_page(&app, &visit).await? };
            Ok(Html::of(&page)?.into_response())
        }
        Err(error) => {
            let error = ApiError::from(error);
            let page = MePage {
                problem: Some(reason(&error)),
                token_name: get("name"),
                expires: get("expires"),
                ..me_page(&app, &visit).await?
            };
            let mut response = Html::of(&page)?.into_response();
            *response.status_mut() = error.status;
            Ok(response)
        }
    }
}

pub(super) async fn end(
    State(app): State<App>,
    Oneself(principal): Oneself,
    fields: Fields,
) -> Result<Response, ApiError> {
    let kind = match fields.get("kind").unwrap_or_default() {
        "session" => Kind::Session,
        "token" => Kind::Token,
        other => return Err(ServiceError::input("kind", format!("{other:?} is neither session nor token")).into()),
    };
    app.service.end_credential(&principal, kind, fields.get("id").unwrap_or_default()).await?;
    Ok(see("/me"))
}

// --- passwords of accounts

/// What was typed is a password: it goes nowhere but to where it is sealed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordForm {
    account: String,
    password: Password,
    again: Password,
    #[serde(default)]
    next: String,
    /// Compared before the form is read.
    #[serde(default, rename = "shown")]
    _shown: IgnoredAny,
}

impl FromRequest<App> for PasswordForm {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        form(request, app).await
    }
}

async fn credentials_page(app: &App, visit: &Visit, account: &str, next: &str) -> Result<CredentialsPage, ApiError> {
    let rows = app.service.logons(&visit.caller).await?;
    let account = if account.is_empty() && !visit.caller.principal.is_operator {
        visit.caller.principal.login_user.as_str()
    } else {
        account
    };
    let cli = if account.is_empty() { "stead password list".to_owned() } else { command(account) };
    let frame = visit.frame("Set Windows password", Nav::None);
    Ok(CredentialsPage {
        frame: Frame { api: Some("/api/v1/passwords".into()), cli: Some(cli.into()), ..frame },
        problem: None,
        said: None,
        account: account.into(),
        next: if next.is_empty() { Text::default() } else { own_path(Some(next)).into() },
        rows: rows.iter().map(logon_line).collect(),
        enforced: app.service.enforces_password(),
        is_admin: visit.caller.is_admin(),
    })
}

fn command(account: &str) -> String {
    format!("stead password set {}", super::jobs::quoted(account))
}

fn logon_line(view: &LogonView) -> LogonLine {
    let at = |time: &Option<String>| time.as_deref().and_then(times);
    let some = |text: &Option<String>| text.as_ref().map(Text::from);
    LogonLine {
        account: text(&view.account),
        state: Shown::of(view.state),
        proved: view.proved,
        set: at(&view.set_at),
        set_by: some(&view.set_by),
        said: some(&view.said),
        said_by: some(&view.said_by),
        said_at: at(&view.said_at),
        is_there: view.version.is_some(),
    }
}

pub(super) async fn credentials(
    State(app): State<App>,
    visit: Visit,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Html, ApiError> {
    let fields = Fields(query);
    let get = |name| fields.get(name).unwrap_or_default();
    Html::of(&credentials_page(&app, &visit, get("account").trim(), get("next")).await?)
}

pub(super) async fn set_password(
    State(app): State<App>,
    visit: Visit,
    form: PasswordForm,
) -> Result<Response, ApiError> {
    let PasswordForm { account, password, again, next, .. } = form;
    let account = account.trim().to_owned();
    let kept = if password == again {
        app.service.set_logon(&visit.caller, &account, GivenPassword::typed(password)).await.map(drop)
    } else {
        Err(ServiceError::input("password", "the two are not the same: nothing was kept"))
    };
    let mut page = credentials_page(&app, &visit, &account, &next).await?;
    match kept {
        Ok(()) => {
            page.said = Some(
                format!("The password of {account} is kept. Whether it is right shows when it is first used.").into(),
            );
            Ok(Html::of(&page)?.into_response())
        }
        Err(error) => {
            let error = ApiError::from(error);
            page.problem = Some(reason(&error));
            let mut response = Html::of(&page)?.into_response();
            *response.status_mut() = error.status;
            Ok(response)
        }
    }
}

pub(super) async fn check_password(State(app): State<App>, visit: Visit, fields: Fields) -> Result<Html, ApiError> {
    let account = fields.get("account").unwrap_or_default();
    let found = app.service.check_logon(&visit.caller, account).await?;
    let mut page = credentials_page(&app, &visit, account, "").await?;
    let why = found.why.map(|why| format!(": {why}")).unwrap_or_default();
    page.said = Some(match found.right {
        "yes" => format!("The password of {account} is right.").into(),
        "no" => format!("The password of {account} is not right{why}.").into(),
        _ => format!("This host can't say whether the password of {account} is right{why}.").into(),
    });
    Html::of(&page)
}

pub(super) async fn remove_password(
    State(app): State<App>,
    visit: Visit,
    fields: Fields,
) -> Result<Response, ApiError> {
    app.service.delete_logon(&visit.caller, fields.get("account").unwrap_or_default()).await?;
    Ok(see("/credentials"))
}
