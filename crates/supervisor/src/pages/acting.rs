//! As whom one acts: the list that the chip opens, the switch, and the way back.

use super::{Fields, Html, Visit, bare, me, own_path, see, times};
use crate::api::{ApiError, App, Oneself, known};
use crate::service::ActingView;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::response::Response;
use policy::Principal;
use web::pages::{ActingPage, PermittedRow};
use web::{Frame, Nav, Reason, Text};

/// Whoever looks, also when their association has ended: here they can do something about it.
pub(crate) struct Looker {
    principal: Principal,
    /// For them as whom they act; nothing where that is refused.
    visit: Option<Visit>,
}

impl FromRequestParts<App> for Looker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let principal = known(parts, app).await?.principal;
        Ok(Self { principal, visit: Visit::from_request_parts(parts, app).await.ok() })
    }
}

impl Looker {
    fn frame(&self, view: &ActingView) -> Frame {
        let frame = match &self.visit {
            Some(visit) => visit.frame("As whom you act", Nav::None),
            None => {
                let problem = view.ended.as_deref().map(Reason::new);
                Frame { me: Some(web::Me { problem, ..me(&self.principal) }), ..bare("As whom you act") }
            }
        };
        Frame { api: Some("/api/v1/as".into()), cli: Some("stead as --list".into()), ..frame }
    }
}

pub(super) async fn page(
    State(app): State<App>,
    looker: Looker,
    axum::extract::Query(query): axum::extract::Query<Vec<(String, String)>>,
) -> Result<Html, ApiError> {
    let principal = &looker.principal;
    let view = app.service.acting_as(principal).await?;
    let next = Fields(query).get("next").map(str::to_owned);
    let permitted = view.permitted.iter().map(|p| PermittedRow {
        proxy_user: Text::from(&p.proxy_user),
        grant: p.grant,
        until: p.until.as_deref().and_then(times),
        reason: p.reason.as_ref().map(Text::from),
        is_active: view.active.as_ref() == Some(&p.proxy_user),
    });
    Html::of(&ActingPage {
        frame: looker.frame(&view),
        login_user: Text::from(&view.login_user),
        roles: me(principal).roles,
        source: Text::from(&principal.source),
        is_acting: view.active.is_some(),
        ended: view.ended.as_deref().map(Reason::new),
        permitted: permitted.collect(),
        ask: view.ask.iter().map(Text::from).collect(),
        can_sign_out: principal.credential.is_some(),
        next: own_path(next.as_deref()).into(),
    })
}

pub(super) async fn act_as(
    State(app): State<App>,
    Oneself(principal): Oneself,
    fields: Fields,
) -> Result<Response, ApiError> {
    app.service.act_as(&principal, fields.get("proxy_user").unwrap_or_default()).await?;
    Ok(see(own_path(fields.get("next"))))
}

pub(super) async fn stop(
    State(app): State<App>,
    Oneself(principal): Oneself,
    fields: Fields,
) -> Result<Response, ApiError> {
    app.service.act_as_oneself(&principal).await?;
    Ok(see(own_path(fields.get("next"))))
}
