//! Settings, for administrators: what holds and where it stands, what keeps the supervisor from its work, and what a new
//! farm still lacks. What is in files is changed there; they can be read again from here.

use super::workers::setting_line;
use super::{Fields, Html, Sent, Visit, see, text};
use crate::api::{ApiError, App};
use crate::ask::JobsQuery;
use crate::config::Settings;
use crate::service::UsersQuery;
use crate::views::FarmView;
use axum::extract::State;
use axum::response::Response;
use std::path::Path;
use web::pages::{Check, OwnSetting, SettingsPage, WouldBe};
use web::{Fact, Frame, Nav, Reason, Text};

/// Users looked at for one with the role.
const USERS: u32 = 1000;

pub(super) async fn page(State(app): State<App>, visit: Visit) -> Result<Html, ApiError> {
    shown(&app, &visit, None).await
}

async fn shown(app: &App, visit: &Visit, checked: Option<WouldBe>) -> Result<Html, ApiError> {
    let files = app.service.configuration(&visit.caller)?;
    let farm = app.service.farm(&visit.caller).await?;
    let trouble = |t: &crate::health::Trouble| Reason {
        text: text(&t.text),
        rule: Some(t.check.into()),
        value: None,
        hint: Some(text(&t.hint)),
        ..Reason::default()
    };
    let mut seen: Vec<Fact> = Vec::new();
    for file in &files.files {
        seen.push(Fact::new(
            "File",
            format!("{} (SHA-256 {}…)", file.path.display(), file.sha256.get(..12).unwrap_or_default()),
        ));
    }
    let frame = visit.frame("Settings", Nav::Settings);
    Html::of(&SettingsPage {
        frame: Frame { api: Some("/api/v1/farm".into()), cli: Some("stead doctor".into()), ..frame },
        troubles: farm.troubles.iter().flatten().map(trouble).collect(),
        checks: checks(app, visit).await?,
        facts: facts(&farm),
        own: own(&app.service.settings),
        checked,
        files: seen,
        warnings: files.warnings.iter().map(Text::from).collect(),
        settings: files.settings.iter().map(setting_line).collect(),
    })
}

fn facts(farm: &FarmView) -> Vec<Fact> {
    vec![
        Fact::new("Version", farm.version),
        Fact::new("Farm", &*farm.farm),
        Fact::new("Address", &*farm.url),
        Fact::new("Operator", farm.operator.as_deref().unwrap_or("nobody by name")),
        Fact::new("Folder", farm.data.as_deref().unwrap_or("–")),
    ]
}

/// What stands in `supervisor.toml`, or is built in.
fn own(settings: &Settings) -> Vec<OwnSetting> {
    let built_in = Settings::default().words();
    let line = |((key, value, means), (_, default, _)): ((_, String, _), (_, String, _))| OwnSetting {
        key,
        is_built_in: value == default,
        value: value.into(),
        built_in: default.into(),
        means,
    };
    settings.words().into_iter().zip(built_in).map(line).collect()
}

/// What the supervisor would make of a `supervisor.toml` at its next start. Nothing is read, kept or changed by it.
pub(super) async fn check(State(app): State<App>, visit: Visit, fields: Fields) -> Result<Html, ApiError> {
    visit.caller.needs_admin("see the configuration")?;
    let text = fields.get("text").unwrap_or_default();
    let checked = match Settings::parse(Path::new("supervisor.toml"), &text.replace("\r\n", "\n")) {
        Err(error) => WouldBe { problem: Some(Reason::new(error.to_string())), changes: Vec::new() },
        Ok(then) => {
            let now = app.service.settings.words();
            let pairs = now.into_iter().zip(then.words());
            let changed = pairs.filter(|((_, now, _), (_, then, _))| now != then);
            let change =
                |((key, now, _), (_, then, _)): ((_, String, _), (_, String, _))| (key, now.into(), then.into());
            let mut changes: Vec<_> = changed.map(change).collect();
            // What of these sections is in no word.
            let of = |then: &Settings, now: &Settings| {
                [("[oidc]", then.oidc != now.oidc), ("[linkis]", then.linkis != now.linkis)]
            };
            let other = of(&then, &app.service.settings).into_iter().filter(|(_, differs)| *differs);
            changes.extend(other.map(|(section, _)| (section, "as it is".into(), "other settings".into())));
            WouldBe { problem: None, changes }
        }
    };
    shown(&app, &visit, Some(checked)).await
}

/// In the order in which a farm is set up.
async fn checks(app: &App, visit: &Visit) -> Result<Vec<Check>, ApiError> {
    let service = &app.service;
    let users = service.users(&visit.caller, UsersQuery { limit: Some(USERS), after: None }).await?;
    let admins: Vec<&str> = users
        .iter()
        .filter(|u| !u.disabled && u.fault.is_none() && u.roles.iter().any(|r| r == "admin"))
        .map(|u| u.name.as_str())
        .collect();
    let workers = service.workers(&visit.caller).await?;
    let up = workers.iter().filter(|w| ["idle", "busy"].contains(&w.state)).count();
    let done = JobsQuery { state: Some("complete".to_owned()), limit: Some(1), ..JobsQuery::default() };
    let done = service.jobs(&visit.caller, done).await?;
    let off = service.sign_in.is_off();
    let audit = service.audit_state(&visit.caller).await.ok();
    let is_whole =
        audit.as_ref().and_then(|a| a.checked.as_ref()).is_some_and(|(_, report)| report.findings.is_empty());
    let anchored = audit.is_some_and(|a| a.anchored_at.is_some());
    let check = |is_done, what, how: String, href| Check { is_done, what, how: how.into(), href };
    Ok(vec![
        check(
            !admins.is_empty(),
            "An administrator with a name",
            if admins.is_empty() { "stead users add NAME --role admin".to_owned() } else { admins.join(", ") },
            Some("/users"),
        ),
        check(
            up > 0,
            "A worker that takes jobs",
            if workers.is_empty() {
                "stead worker run, on a host".to_owned()
            } else {
                format!("{up} of {}", workers.len())
            },
            Some("/workers"),
        ),
        check(
            !done.is_empty(),
            "A job that ran as whom it should",
            done.first().map_or_else(
                || "submit one, and look at “ran as”".to_owned(),
                |job| format!("job {} is complete", job.id),
            ),
            Some(if done.is_empty() { "/jobs/new" } else { "/jobs?state=complete" }),
        ),
        check(
            off.is_none() || service.settings.oidc.is_some(),
            "People sign in from elsewhere",
            off.map_or_else(|| "with their password".to_owned(), |why| why.to_string()),
            None,
        ),
        check(
            anchored,
            "The audit is anchored elsewhere",
            if anchored { "it is".to_owned() } else { "audit_anchor in supervisor.toml".to_owned() },
            None,
        ),
        check(is_whole, "The audit was checked since the start", String::new(), Some("/audit")),
    ])
}

pub(super) async fn reload(State(app): State<App>, visit: Visit, _: Sent) -> Result<Response, ApiError> {
    app.service.reload(&visit.caller).await?;
    Ok(see("/settings"))
}
