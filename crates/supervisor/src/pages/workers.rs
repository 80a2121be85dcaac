//! Workers: what they are, what holds for them and who said so; drained, resumed, and said as whom they run jobs.

use super::people::foreseen;
use super::{Fields, Html, Visit, form, moment, natural, own_path, reason, see, text, times};
use crate::api::{ApiError, App};
use crate::authn::Password;
use crate::error::ServiceError;
use crate::service::{GivenPassword, SettingView, WorkersChange, WorkersChangedView};
use crate::views::{AccountOnHostView, WorkerView};
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::response::Response;
use web::pages::{
    AccountCheckPage, AccountOnHosts, ConfigDone, ConfigPreview, LiveSession, SettingLine, WorkerConfigPage,
    WorkerLine, WorkerPage, WorkersPage,
};
use web::{Badge, Frame, Nav, State as Shown, Text};

/// What needs somebody first.
const CHIPS: [&str; 5] = ["panic", "down", "locked", "busy", "idle"];
/// Sessions shown of a worker.
const SESSIONS: usize = 100;
/// The field that is never shown again.
const PASSWORD: &str = "proxy_password";
/// Workers changed at once.
const AT_ONCE: usize = 200;

type Asked = Query<Vec<(String, String)>>;

fn frame(visit: &Visit, title: impl Into<Text>, api: impl Into<Text>, cli: impl Into<Text>) -> Frame {
    Frame { api: Some(api.into()), cli: Some(cli.into()), ..visit.frame(title, Nav::Workers) }
}

fn live(frame: Frame) -> Frame {
    Frame { live: Some("/events".to_owned()), ..frame }
}

fn line(view: &WorkerView) -> WorkerLine {
    WorkerLine {
        name: text(&view.name),
        state: Shown::of(view.state),
        mode: match view.mode {
            "user" => Badge { word: "user mode", means: "each job runs as its user" },
            "proxy" => Badge { word: "proxy mode", means: "all jobs run as one account" },
            "desktop" => {
                Badge { word: "desktop", means: "it belongs to the person who started it, and runs jobs as them" }
            }
            _ => Badge { word: "unknown", means: "a mode that this release doesn't know" },
        },
        proxy_account: view.proxy_account.as_ref().map(Text::from),
        owner: view.owner.as_ref().map(Text::from),
        slots: view.slots,
        used: u64::try_from(view.used).unwrap_or(u64::MAX),
        labels: view.labels.iter().map(Text::from).collect(),
        said_by: match view.settings {
            "central" => Badge { word: "central", means: "the supervisor's qbwrk.conf says what holds" },
            "local" => Badge { word: "local", means: "its host says what holds" },
            "mixed" => Badge { word: "mixed", means: "the supervisor's qbwrk.conf and its host say what holds" },
            _ => Badge { word: "default", means: "nobody said anything: what is built in holds" },
        },
        reason: view.reason.as_ref().map(Text::from),
        cores: view.cores,
        memory: super::job::size(view.memory),
        load: view.load.map(|load| format!("{load:.2}")),
        seen: times(&view.last_seen_at).filter(|_| view.state == "down"),
    }
}

pub(super) async fn list(State(app): State<App>, visit: Visit, Query(query): Asked) -> Result<Html, ApiError> {
    let filter = Fields(query).get("state").unwrap_or_default().to_owned();
    let all = app.service.workers(&visit.caller).await?;
    let count = |state: &str| all.iter().filter(|w| w.state == state).count();
    let chips = CHIPS.map(|state| (Shown::of(state), u64::try_from(count(state)).unwrap_or(u64::MAX)));
    let mut rows: Vec<WorkerLine> = all.iter().filter(|w| filter.is_empty() || w.state == filter).map(line).collect();
    // Those that need somebody come first.
    rows.sort_by_cached_key(|w| (!matches!(w.state.word(), "panic" | "down"), natural(w.name.as_str())));
    Html::of(&WorkersPage {
        frame: live(frame(&visit, "Workers", "/api/v1/workers", "stead worker list")),
        filter,
        chips: chips.to_vec(),
        total: u64::try_from(all.len()).unwrap_or(u64::MAX),
        rows,
        is_admin: visit.caller.is_admin(),
    })
}

/// Drains or resumes each of them; the first that is refused says why.
pub(super) async fn act(State(app): State<App>, visit: Visit, fields: Fields) -> Result<Response, ApiError> {
    let drained = match fields.get("act").unwrap_or_default() {
        "drain" => true,
        "resume" => false,
        other => return Err(ServiceError::input("act", format!("{other:?} is neither drain nor resume")).into()),
    };
    if fields.all("worker").count() > AT_ONCE {
        return Err(ServiceError::input("worker", format!("at most {AT_ONCE} at once")).into());
    }
    visit.caller.needs_admin("drain a worker")?;
    for worker in fields.all("worker") {
        app.service.drain(&visit.caller, worker, drained).await?;
    }
    Ok(see(match fields.get("back") {
        Some(back) => own_path(Some(back)),
        None => "/workers",
    }))
}

pub(super) async fn worker(State(app): State<App>, visit: Visit, Path(name): Path<String>) -> Result<Html, ApiError> {
    let all = app.service.workers(&visit.caller).await?;
    let view = all.iter().find(|w| w.name == name).ok_or_else(|| ServiceError::NoSuchWorker(name.clone()))?;
    let held = app.service.worker_configuration(&name).await?;
    let sessions = app.service.sessions_on(&visit.caller, &name).await?;
    let farm = app.service.farm(&visit.caller).await?;
    let excluded = farm.exclusions.iter().flatten().filter(|e| e.worker == name);
    let session = |row: &store::SessionRow| LiveSession {
        session: row.id,
        job: row.job,
        user: text(&row.user),
        account: text(row.run_as.as_ref().map_or(&row.account, |a| &a.name)),
        state: Shown::of(row.state.as_str()),
        since: Some(moment(row.started_at.unwrap_or(row.opened_at))),
    };
    let api = format!("/api/v1/workers/{}/configuration", web::encoded(&name));
    let cli = format!("stead config show --worker {}", super::jobs::quoted(&name));
    Html::of(&WorkerPage {
        frame: live(frame(&visit, name.as_str(), api, cli)),
        line: line(view),
        lookup: held.lookup,
        settings: held.settings.iter().map(setting_line).collect(),
        trouble: held.trouble.as_ref().filter(|t| view.reason.as_ref() != Some(*t)).map(Text::from),
        sessions: sessions.iter().take(SESSIONS).map(session).collect(),
        excluded: excluded.map(|e| (text(&e.account), text(&e.reason))).collect(),
        is_admin: visit.caller.is_admin(),
    })
}

pub(super) fn setting_line(setting: &SettingView) -> SettingLine {
    SettingLine {
        key: text(&setting.key),
        value: text(&setting.value),
        from: text(&setting.from),
        is_built_in: setting.from == compat_qube::Origin::BuiltIn.to_string(),
    }
}

// --- an account on all hosts

pub(super) async fn account_check(State(app): State<App>, visit: Visit, Query(query): Asked) -> Result<Html, ApiError> {
    let fields = Fields(query);
    let own = visit.caller.acting.as_ref().map(|a| a.user.to_string());
    let own = own.unwrap_or_else(|| visit.caller.principal.login_user.to_string());
    let account = fields.get("account").map_or(own, |name| name.trim().to_owned());
    let api = format!("/api/v1/account-check/{}", web::encoded(&account));
    let cli = format!("stead explain --user {}", super::jobs::quoted(&account));
    let mut page = AccountCheckPage {
        frame: frame(&visit, "Account check", api, cli),
        problem: None,
        same: None,
        hosts: Vec::new(),
        account,
    };
    match app.service.account_check(&visit.caller, &page.account).await {
        Ok(view) => {
            page.same = view.same;
            page.hosts = together(&view.hosts);
        }
        Err(error) => page.problem = Some(reason(&error.into())),
    }
    Html::of(&page)
}

fn together(hosts: &[AccountOnHostView]) -> Vec<AccountOnHosts> {
    let mut rows: Vec<AccountOnHosts> = Vec::new();
    for host in hosts {
        let exact = host.run_as.as_ref().map(exactly).map(Text::from);
        let (state, why) = (Shown::of(host.there), host.why.as_ref().map(Text::from));
        let same = |row: &&mut AccountOnHosts| row.state == state && row.exact == exact && row.why == why;
        match rows.iter_mut().find(same) {
            Some(row) => row.workers.push(text(&host.worker)),
            None => rows.push(AccountOnHosts { workers: vec![text(&host.worker)], state, exact, why }),
        }
    }
    for row in &mut rows {
        row.workers.sort_by_cached_key(|worker| natural(worker.as_str()));
    }
    rows
}

fn exactly(account: &crate::views::RunAsView) -> String {
    let number = |n: Option<u32>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let mut groups = account.groups.clone().unwrap_or_default();
    groups.sort_unstable();
    let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
    format!("{}: uid {}, gid {}, groups {}", account.name, number(account.uid), number(account.gid), groups.join(" "))
}

// --- as whom they run jobs

fn config_page(visit: &Visit, fields: &Fields) -> WorkerConfigPage {
    let get = |name| fields.get(name).unwrap_or_default().trim().to_owned();
    WorkerConfigPage {
        frame: frame(visit, "Config on Supervisor", "/api/v1/configuration", "stead config show"),
        workers: fields.all("worker").take(AT_ONCE).map(text).collect(),
        mode: get("proxy_execution_mode"),
        proxy_account: get("proxy_account"),
        worker_host_domain: get("worker_host_domain"),
        has_password: false,
        problem: None,
        preview: None,
    }
}

pub(super) async fn config(visit: Visit, Query(query): Asked) -> Result<Html, ApiError> {
    visit.caller.needs_admin("change the configuration of workers")?;
    let fields = Fields(query);
    if fields.all("worker").next().is_none() {
        return Err(ServiceError::input("worker", "none is selected: select some on the page of workers").into());
    }
    Html::of(&config_page(&visit, &fields))
}

/// What was typed: a password may be among it, which goes nowhere but to where it is sealed.
pub(crate) struct ConfigForm {
    fields: Fields,
    password: Option<Password>,
}

impl FromRequest<App> for ConfigForm {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let typed = form::<Vec<(String, Password)>>(request, app).await?;
        let (secret, others): (Vec<_>, Vec<_>) = typed.into_iter().partition(|(name, _)| name == PASSWORD);
        let others = others.into_iter().map(|(name, value)| (name, value.as_str().to_owned()));
        let password = secret.into_iter().map(|(_, password)| password).find(Password::is_possible);
        Ok(Self { fields: Fields(others.collect()), password })
    }
}

/// As it may stand in a file: sealed for this account, unless it is already.
async fn sealed(app: &App, visit: &Visit, account: Option<&str>, password: Password) -> Result<String, ServiceError> {
    let is_sealed = password.as_str().trim().starts_with(compat_qube::STEAD_MARK);
    if is_sealed {
        return Ok(password.as_str().trim().to_owned());
    }
    let whose = "a password is sealed for one account: write into proxy_account whose it is, too";
    let account = account.ok_or_else(|| ServiceError::input(PASSWORD, whose))?;
    app.service.sealed_logon(&visit.caller, account, GivenPassword::typed(password)).await
}

pub(super) async fn set_config(State(app): State<App>, visit: Visit, form: ConfigForm) -> Result<Html, ApiError> {
    visit.caller.needs_admin("change the configuration of workers")?;
    let ConfigForm { fields, password } = form;
    let mut page = config_page(&visit, &fields);
    page.has_password = password.is_some();
    match configure(&app, &visit, &fields, password).await {
        Ok(view) => page.preview = Some(preview(view)),
        Err(error) => page.problem = Some(reason(&error.into())),
    }
    Html::of(&page)
}

async fn configure(
    app: &App,
    visit: &Visit,
    fields: &Fields,
    password: Option<Password>,
) -> Result<WorkersChangedView, ServiceError> {
    let get = |name| fields.get(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
    let saves = fields.get("how") == Some("save");
    let change = WorkersChange {
        workers: fields.all("worker").map(str::to_owned).collect(),
        proxy_execution_mode: get("proxy_execution_mode"),
        worker_host_domain: get("worker_host_domain"),
        proxy_password: match password {
            Some(password) => Some(sealed(app, visit, get("proxy_account").as_deref(), password).await?),
            None => None,
        },
        proxy_account: get("proxy_account"),
        dry_run: !saves,
        // Of what was looked at: nothing is saved unseen.
        sha256: saves.then(|| get("sha256").unwrap_or_default()),
    };
    app.service.configure_workers(&visit.caller, change).await
}

fn preview(view: WorkersChangedView) -> ConfigPreview {
    let all = |names: &[String]| names.iter().map(Text::from).collect();
    ConfigPreview {
        file: view.file.display().to_string().into(),
        sha256: view.sha256,
        left_out: view.changed.saturating_sub(view.changes.len()),
        changes: all(&view.changes),
        unheeded: all(&view.unheeded),
        jobs: foreseen(view.jobs),
        done: view.done.map(|done| ConfigDone { told: done.told, late: all(&done.late) }),
    }
}
