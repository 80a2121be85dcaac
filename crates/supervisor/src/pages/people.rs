//! Users, grants and the two lists: who may act as whom, who gives and ends that, and what would be if.

use super::job::{refused, verdicts};
use super::{Fields, Html, Sent, Visit, own_path, reason, rules, see, text, times, when};
use crate::api::{ApiError, App, GrantId};
use crate::ask::ExplainQuery;
use crate::error::ServiceError;
use crate::foresight::{Change, DiffView, Foretold, NewGrant, Touched};
use crate::service::{GrantRequest, GrantsQuery, Revocation, UserChange, UsersQuery};
use crate::views::{GrantView, UserView};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use policy::Kind;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::List;
use web::pages::{
    Foreseen, ForeseenLine, GrantLine, GrantTable, GrantsPage, ListTable, ListedRow, ListsPage, MatrixPage, MatrixRow,
    NewGrantPage, PeopleTab, PeopleTabs, RevokePage, RevokedPage, TouchedJob, UserLine, UserPage, UsersPage, WhatIf,
    WhatIfPage,
};
use web::{Fact, Frame, Nav, Reason, RuleLine, State as Shown, Text};

/// Rows of a page.
const PAGE: u32 = 200;
/// Grants looked at for counts and the matrix.
const GRANTS_MAX: u32 = 10_000;
const MATRIX_ROWS: usize = 200;
const MATRIX_COLUMNS: usize = 40;
/// Lines of what would be otherwise.
const LINES_MAX: usize = 200;

type Query0 = Query<Vec<(String, String)>>;

fn tabs(visit: &Visit, here: PeopleTab) -> PeopleTabs {
    PeopleTabs { here, is_admin: visit.caller.is_admin() }
}

fn frame(visit: &Visit, title: impl Into<Text>, api: impl Into<Text>, cli: impl Into<Text>) -> Frame {
    Frame { api: Some(api.into()), cli: Some(cli.into()), ..visit.frame(title, Nav::Users) }
}

fn live(frame: Frame) -> Frame {
    Frame { live: Some("/events".to_owned()), ..frame }
}

/// Words with commas or spaces between them.
fn words(text: Option<&str>) -> Vec<String> {
    let parts = text.unwrap_or_default().split([',', ' ']).map(str::trim).filter(|w| !w.is_empty());
    parts.map(str::to_owned).collect()
}

// --- users

/// Who is no administrator sees what is theirs: their grants.
pub(super) async fn users(State(app): State<App>, visit: Visit, Query(query): Query0) -> Result<Response, ApiError> {
    if !visit.caller.is_admin() {
        return Ok(see("/grants"));
    }
    let after = Fields(query).get("after").map(str::to_owned);
    let asked = UsersQuery { limit: Some(PAGE + 1), after };
    let mut found = app.service.users(&visit.caller, asked).await?;
    let size = usize::try_from(PAGE).unwrap_or(usize::MAX);
    let more_after = (found.len() > size).then(|| web::encoded(&found[size - 1].name));
    found.truncate(size);
    let listed = Lists::read(&app, &visit).await?;
    let grants = app.service.grants(&visit.caller, active()).await?;
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for grant in grants.iter().filter(|g| g.state == "active") {
        for name in [&grant.login_user, &grant.proxy_user].into_iter().flatten() {
            *counts.entry(name.as_str()).or_default() += 1;
        }
    }
    let line = |view: &UserView| UserLine {
        grants: counts.get(view.name.as_str()).copied().unwrap_or(0),
        ..user_line(view, &listed)
    };
    let page = UsersPage {
        frame: live(frame(&visit, "Users", "/api/v1/users", "stead users list")),
        tabs: tabs(&visit, PeopleTab::Users),
        rows: found.iter().map(line).collect(),
        more_after,
    };
    Ok(Html::of(&page)?.into_response())
}

fn active() -> GrantsQuery {
    GrantsQuery { state: Some("active".to_owned()), limit: Some(GRANTS_MAX), ..GrantsQuery::default() }
}

/// What the two lists say, by name.
struct Lists {
    may_act: HashMap<String, bool>,
    may_be_acted_as: HashMap<String, bool>,
}

impl Lists {
    async fn read(app: &App, visit: &Visit) -> Result<Self, ApiError> {
        let said = async |list| -> Result<HashMap<String, bool>, ApiError> {
            let rows = app.service.listed(&visit.caller, list).await?;
            Ok(rows.into_iter().filter_map(|row| Some((row.name, row.allowed?))).collect())
        };
        Ok(Self { may_act: said(List::MayAct).await?, may_be_acted_as: said(List::MayBeActedAs).await? })
    }

    fn of(&self, view: &UserView) -> Option<bool> {
        let list = if is_proxy(view) { &self.may_be_acted_as } else { &self.may_act };
        list.get(&view.name).copied()
    }
}

fn is_proxy(view: &UserView) -> bool {
    view.kind.as_deref() == Some(Kind::Proxy.as_str())
}

fn user_line(view: &UserView, listed: &Lists) -> UserLine {
    UserLine {
        name: text(&view.name),
        is_proxy: is_proxy(view),
        roles: view.roles.iter().map(Text::from).collect(),
        disabled: view.disabled,
        listed: listed.of(view),
        grants: 0,
        note: view.note.as_ref().map(Text::from),
        answers: view.answers.iter().map(Text::from).collect(),
        fault: view.fault.as_ref().map(Text::from),
    }
}

pub(super) async fn add_user(State(app): State<App>, visit: Visit, fields: Fields) -> Result<Response, ApiError> {
    let kind = fields.get("type").map(|word| Kind::parse(word).ok_or_else(|| no_kind(word))).transpose()?;
    let roles: Vec<String> = fields.all("role").map(str::to_owned).collect();
    let answers = words(fields.get("answers"));
    // What isn't said stays as it is, should there be such a user.
    let change = UserChange {
        name: fields.get("name").unwrap_or_default().trim().to_owned(),
        kind,
        roles: (!roles.is_empty()).then_some(roles),
        answers: (!answers.is_empty()).then_some(answers),
        note: fields.get("note").map(str::to_owned),
        ..UserChange::default()
    };
    let made = app.service.put_user(&visit.caller, change).await?;
    Ok(see(&format!("/users/{}", web::encoded(&made.name))))
}

fn no_kind(word: &str) -> ServiceError {
    ServiceError::input("type", format!("{word:?} is neither login nor proxy"))
}

pub(super) async fn user(State(app): State<App>, visit: Visit, Path(name): Path<String>) -> Result<Html, ApiError> {
    let view = match app.service.user(&visit.caller, &name).await {
        Ok(view) => Some(view),
        // Whoever looks at themself is somebody, row or not.
        Err(ServiceError::NoSuchUser(_)) if name == visit.caller.principal.login_user.as_str() => None,
        Err(error) => return Err(error.into()),
    };
    let is_admin = visit.caller.is_admin();
    let is_proxy = view.as_ref().is_some_and(is_proxy);
    let of = |login_user: Option<String>, proxy_user: Option<String>| GrantsQuery {
        login_user,
        proxy_user,
        limit: Some(PAGE),
        ..GrantsQuery::default()
    };
    let own = app.service.grants(&visit.caller, of(Some(name.clone()), None)).await?;
    let holders = match is_proxy {
        true => Some(app.service.grants(&visit.caller, of(None, Some(name.clone()))).await?),
        false => None,
    };
    let back = format!("/users/{}", web::encoded(&name));
    let row = match &view {
        Some(view) if is_admin => Some(user_line(view, &Lists::read(&app, &visit).await?)),
        Some(view) => {
            let nothing = Lists { may_act: HashMap::new(), may_be_acted_as: HashMap::new() };
            Some(user_line(view, &nothing))
        }
        None => None,
    };
    let api = format!("/api/v1/users/{}", web::encoded(&name));
    let cli = format!("stead users show {}", super::jobs::quoted(&name));
    Html::of(&UserPage {
        frame: live(frame(&visit, name.as_str(), api, cli)),
        tabs: tabs(&visit, PeopleTab::Users),
        facts: view.as_ref().map(|view| user_facts(view, row.as_ref(), is_admin)).unwrap_or_default(),
        row,
        may_change: is_admin,
        grants: table(&visit, own, "As nobody but themself.", &back),
        holders: holders.map(|rows| table(&visit, rows, "Nobody.", &back)),
        name: name.into(),
    })
}

fn user_facts(view: &UserView, row: Option<&UserLine>, is_admin: bool) -> Vec<Fact> {
    let cores = |milli: u64| format!("{}.{:03}", milli / 1000, milli % 1000);
    let environment = view.environment.as_ref().and_then(serde_json::Value::as_object);
    let names = environment.map(|variables| variables.keys().cloned().collect::<Vec<_>>().join(", "));
    let listed = row.filter(|_| is_admin).map(|row| match row.listed {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => "not listed: what lists say of their groups counts".to_owned(),
    });
    let says = if is_proxy(view) { "May be acted as" } else { "May act" };
    let facts = [
        (says, listed),
        ("Answer for it", (!view.answers.is_empty()).then(|| view.answers.join(", "))),
        ("Note", view.note.clone()),
        ("Runs on workers with", view.workers.clone()),
        ("Works in", view.working_root.clone()),
        ("Environment", names),
        ("Cores unless asked", view.default_cpus_milli.map(cores)),
        ("Cores at most", view.max_cpus_milli.map(cores)),
        ("Memory unless asked", view.default_memory.map(super::job::size)),
        ("Memory at most", view.max_memory.map(super::job::size)),
        ("Made", view.created_at.clone()),
        ("Made by", view.created_by.clone()),
    ];
    facts.into_iter().filter_map(|(name, value)| Some(Fact::new(name, value?))).collect()
}

pub(super) async fn change_user(
    State(app): State<App>,
    visit: Visit,
    Path(name): Path<String>,
    fields: Fields,
) -> Result<Response, ApiError> {
    // Only whom there is: the form changes, it makes nobody.
    let old = app.service.user(&visit.caller, &name).await?;
    let is_proxy = is_proxy(&old);
    let change = UserChange {
        roles: (!is_proxy).then(|| fields.all("role").map(str::to_owned).collect()),
        answers: is_proxy.then(|| words(fields.get("answers"))),
        disabled: Some(fields.get("disabled").is_some()),
        note: Some(fields.get("note").unwrap_or_default().to_owned()),
        name: name.clone(),
        ..UserChange::default()
    };
    app.service.put_user(&visit.caller, change).await?;
    Ok(see(&format!("/users/{}", web::encoded(&name))))
}

pub(super) async fn remove_user(
    State(app): State<App>,
    visit: Visit,
    Path(name): Path<String>,
    _: Sent,
) -> Result<Response, ApiError> {
    app.service.remove_user(&visit.caller, &name).await?;
    Ok(see("/users"))
}

// --- grants

fn table(visit: &Visit, rows: Vec<GrantView>, empty: &'static str, back: &str) -> GrantTable {
    let rows = rows.iter().map(|view| grant_line(visit, view)).collect();
    GrantTable { rows, empty, back: back.into(), shown: visit.shown() }
}

fn grant_line(visit: &Visit, view: &GrantView) -> GrantLine {
    let own = visit.caller.principal.login_user.as_str();
    let is_own = view.login_user.as_deref() == Some(own);
    let is_over = matches!(view.state, "revoked" | "expired");
    let some = |text: &Option<String>| text.as_ref().map(Text::from);
    GrantLine {
        id: view.id.unwrap_or_default(),
        state: Shown::of(view.state),
        holder: some(&view.login_user).unwrap_or_default(),
        proxy_user: some(&view.proxy_user).unwrap_or_default(),
        from: view.from.as_deref().and_then(times),
        until: view.until.as_deref().and_then(times),
        workers: some(&view.workers),
        jobs: some(&view.jobs),
        reason: some(&view.reason),
        story: story(view).into(),
        fault: some(&view.fault),
        // Nobody approves their own; the service says so to whoever tries.
        may_approve: view.state == "requested" && !is_own && view.requested_by.as_deref() != Some(own),
        may_revoke: view.id.is_some() && !is_over,
    }
}

/// Who did what to it.
fn story(view: &GrantView) -> String {
    let told = [
        ("asked for by", &view.requested_by),
        ("given by", &view.given_by),
        ("approved by", &view.approved_by),
        ("ended by", &view.ended_by),
    ];
    let parts: Vec<String> = told.iter().filter_map(|(what, who)| Some(format!("{what} {}", who.as_ref()?))).collect();
    parts.join(", ")
}

pub(super) async fn grants(State(app): State<App>, visit: Visit, Query(query): Query0) -> Result<Html, ApiError> {
    let fields = Fields(query);
    let get = |name| fields.get(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
    let (login_user, proxy_user, all) = (get("login_user"), get("proxy_user"), fields.get("all").is_some());
    let after = fields.get("after").and_then(|n| n.parse().ok());
    let asked = GrantsQuery {
        login_user: login_user.clone(),
        proxy_user: proxy_user.clone(),
        state: None,
        limit: Some(PAGE + 1),
        after,
    };
    let mut found = app.service.grants(&visit.caller, asked).await?;
    let size = usize::try_from(PAGE).unwrap_or(usize::MAX);
    let more_after = if found.len() > size { found[size - 1].id } else { None };
    found.truncate(size);
    let before = found.len();
    found.retain(|view| all || !matches!(view.state, "revoked" | "expired"));
    let left_out = before - found.len();
    let query: Vec<String> = [("login_user", &login_user), ("proxy_user", &proxy_user)]
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", web::encoded(value.as_ref()?))))
        .collect();
    let api =
        if query.is_empty() { "/api/v1/grants".to_owned() } else { format!("/api/v1/grants?{}", query.join("&")) };
    let option = |name: &str, value: &Option<String>| {
        value.as_ref().map(|v| format!(" --{name} {}", super::jobs::quoted(v))).unwrap_or_default()
    };
    let cli = format!(
        "stead grants list{}{}{}",
        option("login", &login_user),
        option("proxy", &proxy_user),
        if all { " --all" } else { "" }
    );
    let empty = if visit.caller.acting.is_some() {
        "Grants are always one's own: be yourself again to see them."
    } else {
        "None in your own name: ask for one with the button above. What a group of yours may is under your name at the top right."
    };
    let frame = live(frame(&visit, "Grants", api, cli));
    let back = frame.url.as_str().to_owned();
    Html::of(&GrantsPage {
        frame,
        tabs: tabs(&visit, PeopleTab::Grants),
        login_user: login_user.unwrap_or_default().into(),
        proxy_user: proxy_user.unwrap_or_default().into(),
        all,
        left_out,
        table: table(&visit, found, empty, &back),
        more_after,
    })
}

/// For administrators: what everybody may.
pub(super) async fn matrix(State(app): State<App>, visit: Visit) -> Result<Html, ApiError> {
    let users = UsersQuery { limit: Some(GRANTS_MAX), after: None };
    let users = app.service.users(&visit.caller, users).await?;
    let asked = GrantsQuery { limit: Some(GRANTS_MAX), ..GrantsQuery::default() };
    let grants = app.service.grants(&visit.caller, asked).await?;
    let mut pairs: BTreeMap<(String, String), BTreeSet<(u8, &'static str)>> = BTreeMap::new();
    for grant in &grants {
        let (Some(holder), Some(proxy)) = (&grant.login_user, &grant.proxy_user) else { continue };
        pairs.entry((holder.clone(), proxy.clone())).or_default().insert((weight(grant.state), grant.state));
    }
    let proxies: BTreeSet<&str> = users.iter().filter(|u| is_proxy(u)).map(|u| u.name.as_str()).collect();
    let holders = users.iter().filter(|u| !is_proxy(u) && !u.disabled).map(|u| u.name.as_str());
    let holders: BTreeSet<&str> = holders.chain(pairs.keys().map(|(holder, _)| holder.as_str())).collect();
    let left_out = proxies.len().saturating_sub(MATRIX_COLUMNS) + holders.len().saturating_sub(MATRIX_ROWS);
    let columns: Vec<&str> = proxies.into_iter().take(MATRIX_COLUMNS).collect();
    let cell = |holder: &str, proxy: &str| {
        let states = pairs.get(&(holder.to_owned(), proxy.to_owned()));
        // Those that ended are told only where there is nothing else to tell.
        let is_live = states.is_some_and(|s| s.iter().any(|(weight, _)| *weight < ENDED));
        let shown = states.into_iter().flatten().filter(|(weight, _)| *weight < ENDED || !is_live);
        shown.map(|(_, state)| Shown::of(state)).collect()
    };
    let row = |holder: &str| MatrixRow {
        holder: text(holder),
        cells: columns.iter().map(|proxy| cell(holder, proxy)).collect(),
    };
    Html::of(&MatrixPage {
        frame: live(frame(&visit, "Who may act as whom", "/api/v1/grants", "stead grants list --all")),
        tabs: tabs(&visit, PeopleTab::Matrix),
        rows: holders.iter().take(MATRIX_ROWS).map(|holder| row(holder)).collect(),
        proxy_users: columns.iter().map(|name| text(name)).collect(),
        left_out,
    })
}

const ENDED: u8 = 4;

fn weight(state: &str) -> u8 {
    match state {
        "active" => 0,
        "requested" => 1,
        "later" => 2,
        "invalid" => 3,
        "expired" => ENDED,
        _ => ENDED + 1,
    }
}

fn new_grant_page(visit: &Visit, fields: &Fields) -> NewGrantPage {
    let get = |name| fields.get(name).unwrap_or_default().to_owned();
    let holder = fields.get("login_user").map(|l| format!(" {}", super::jobs::quoted(l))).unwrap_or_default();
    let proxy = super::jobs::quoted(fields.get("proxy_user").unwrap_or("PROXYUSER"));
    let option =
        |name: &str| fields.get(name).map(|v| format!(" --{name} {}", super::jobs::quoted(v))).unwrap_or_default();
    let options = ["until", "from", "reason", "workers", "jobs"].map(option).concat();
    let verb = if holder.is_empty() { "request" } else { "add" };
    let cli = format!("stead grants {verb}{holder} {proxy}{options}");
    NewGrantPage {
        frame: frame(visit, "New grant", "/api/v1/grants", cli),
        tabs: tabs(visit, PeopleTab::Grants),
        problem: None,
        login_user: get("login_user"),
        proxy_user: get("proxy_user"),
        reason: get("reason"),
        from: get("from"),
        until: get("until"),
        workers: get("workers"),
        jobs: get("jobs"),
        own_name: visit.caller.principal.login_user.as_str().into(),
        is_admin: visit.caller.is_admin(),
        foreseen: None,
    }
}

pub(super) async fn new_grant(visit: Visit, Query(query): Query0) -> Result<Html, ApiError> {
    Html::of(&new_grant_page(&visit, &Fields(query)))
}

/// What the form asks for: a request, a grant, or what it would change.
pub(super) async fn make_grant(State(app): State<App>, visit: Visit, fields: Fields) -> Result<Response, ApiError> {
    let made = match fields.get("how") {
        Some("give") => match grant_request(&fields) {
            Ok(request) => app.service.give_grant(&visit.caller, request).await.map(drop),
            Err(error) => Err(error),
        },
        Some("foresee") => {
            let mut page = new_grant_page(&visit, &fields);
            match foresee_grant(&app, &visit, &fields).await {
                Ok(view) => page.foreseen = Some(foreseen(view)),
                Err(error) => page.problem = Some(reason(&error.into())),
            }
            return Ok(Html::of(&page)?.into_response());
        }
        _ => match grant_request(&fields) {
            Ok(request) => app.service.request_grant(&visit.caller, request).await.map(drop),
            Err(error) => Err(error),
        },
    };
    match made {
        Ok(()) => Ok(see("/grants")),
        Err(error) => {
            let error = ApiError::from(error);
            let page = NewGrantPage { problem: Some(reason(&error)), ..new_grant_page(&visit, &fields) };
            let mut response = Html::of(&page)?.into_response();
            *response.status_mut() = error.status;
            Ok(response)
        }
    }
}

fn grant_request(fields: &Fields) -> Result<GrantRequest, ServiceError> {
    let get = |name| fields.get(name).map(|v| v.trim().to_owned());
    Ok(GrantRequest {
        login_user: get("login_user"),
        proxy_user: get("proxy_user").unwrap_or_default(),
        reason: get("reason"),
        from: when("from", fields.get("from"))?,
        until: when("until", fields.get("until"))?,
        workers: get("workers"),
        jobs: get("jobs"),
    })
}

async fn foresee_grant(app: &App, visit: &Visit, fields: &Fields) -> Result<DiffView, ServiceError> {
    let GrantRequest { login_user, proxy_user, from, until, workers, jobs, .. } = grant_request(fields)?;
    let login_user = login_user.unwrap_or_else(|| visit.caller.principal.login_user.to_string());
    let grant = NewGrant { login_user, proxy_user, from, until, workers, jobs };
    app.service.policy_diff(&visit.caller, Change { grants: vec![grant], ..Change::default() }).await
}

/// Lines as far as anybody reads them.
pub(super) fn foreseen(view: DiffView) -> Foreseen {
    let left_out = view.changes.len().saturating_sub(LINES_MAX);
    let state = |f: &Foretold| (Shown::of(f.verdict), f.run_as.as_ref().map(Text::from));
    let lines = view.changes.iter().take(LINES_MAX).map(|c| {
        let ((before, before_as), (after, after_as)) = (state(&c.before), state(&c.after));
        ForeseenLine {
            job: c.job,
            name: text(&c.name),
            login_user: text(&c.login_user),
            user: text(&c.user),
            worker: text(&c.worker),
            before,
            before_as,
            after,
            after_as,
            rule: c.rule.as_ref().map(rule_line),
        }
    });
    Foreseen { jobs: view.jobs, lines: lines.collect(), left_out }
}

fn rule_line(rule: &policy::Rule) -> RuleLine {
    let mut lines = rules(std::slice::from_ref(rule)).lines;
    lines.remove(0)
}

pub(super) async fn approve(
    State(app): State<App>,
    visit: Visit,
    id: GrantId,
    fields: Fields,
) -> Result<Response, ApiError> {
    app.service.approve_grant(&visit.caller, id.0).await?;
    Ok(see(match fields.get("next") {
        Some(next) => own_path(Some(next)),
        None => "/grants",
    }))
}

/// What its end would touch.
pub(super) async fn ask_revoke(State(app): State<App>, visit: Visit, id: GrantId) -> Result<Html, ApiError> {
    let touched = app.service.would_end(&visit.caller, id.0).await?;
    let api = format!("/api/v1/grants/{}/revoke", id.0);
    let jobs = touched.jobs.iter().map(|Touched { row, is_seen }| TouchedJob {
        id: row.id,
        name: is_seen.then(|| text(&row.name)),
        state: Shown::of(row.state.as_str()),
        login_user: text(&row.login_user),
        running: row.counts.running,
    });
    Html::of(&RevokePage {
        frame: frame(&visit, format!("Revoke grant {}", id.0), api, format!("stead grants revoke {}", id.0)),
        tabs: tabs(&visit, PeopleTab::Grants),
        grant: grant_line(&visit, &touched.grant),
        jobs: jobs.collect(),
        is_cut: touched.is_cut,
    })
}

pub(super) async fn revoke(
    State(app): State<App>,
    visit: Visit,
    id: GrantId,
    fields: Fields,
) -> Result<Html, ApiError> {
    let how = Revocation { kill: fields.get("kill").is_some() };
    let ended = app.service.revoke_grant(&visit.caller, id.0, how).await?;
    let api = format!("/api/v1/grants/{}/revoke", id.0);
    Html::of(&RevokedPage {
        frame: frame(&visit, format!("Grant {} is revoked", id.0), api, format!("stead grants revoke {}", id.0)),
        tabs: tabs(&visit, PeopleTab::Grants),
        grant: ended.grant,
        blocked: ended.blocked,
        killed: ended.killed,
        unsettled: ended.unsettled,
    })
}

// --- the two lists

const MAY_ACT: &str = "may_act";
const MAY_BE_ACTED_AS: &str = "may_be_acted_as";

pub(super) async fn lists(State(app): State<App>, visit: Visit) -> Result<Html, ApiError> {
    let rows = async |list| -> Result<Vec<ListedRow>, ApiError> {
        let rows = app.service.listed(&visit.caller, list).await?.into_iter();
        let row = |row: crate::views::ListedView| ListedRow {
            name: text(&row.name),
            allowed: row.allowed,
            fault: row.fault.map(Text::from),
        };
        Ok(rows.map(row).collect())
    };
    let lists = vec![
        ListTable {
            word: MAY_ACT,
            title: "Who may act",
            means: "Login users, and groups of the directory. Giving a grant as an administrator says yes here.",
            placeholder: "ada, group:artists",
            rows: rows(List::MayAct).await?,
        },
        ListTable {
            word: MAY_BE_ACTED_AS,
            title: "Who may be acted as",
            means: "Proxy users. Making one says yes here.",
            placeholder: "render",
            rows: rows(List::MayBeActedAs).await?,
        },
    ];
    Html::of(&ListsPage {
        frame: frame(&visit, "Who may at all", "/api/v1/may-act", "stead users may-act"),
        tabs: tabs(&visit, PeopleTab::Lists),
        lists,
    })
}

pub(super) async fn set_listed(State(app): State<App>, visit: Visit, fields: Fields) -> Result<Response, ApiError> {
    let wrong = |what, word: &str| ServiceError::input(what, format!("{word:?} is not one of those there are"));
    let list = match fields.get("list").unwrap_or_default() {
        MAY_ACT => List::MayAct,
        MAY_BE_ACTED_AS => List::MayBeActedAs,
        other => return Err(wrong("list", other).into()),
    };
    let allowed = match fields.get("allowed").unwrap_or_default() {
        "yes" => Some(true),
        "no" => Some(false),
        "none" => None,
        other => return Err(wrong("allowed", other).into()),
    };
    let name = fields.get("name").unwrap_or_default();
    let name = if matches!(list, List::MayAct) || allowed != Some(true) { name } else { name.trim() };
    app.service.set_listed(&visit.caller, list, name, allowed).await?;
    Ok(see("/may-act"))
}

// --- what if

pub(super) async fn what_if(State(app): State<App>, visit: Visit, Query(query): Query0) -> Result<Html, ApiError> {
    let fields = Fields(query);
    let get = |name| fields.get(name).unwrap_or_default().trim().to_owned();
    let given = |name| Some(get(name)).filter(|v| !v.is_empty());
    let names = ["user", "as", "worker", "at"];
    let api: Vec<String> =
        names.iter().filter_map(|name| Some(format!("{name}={}", web::encoded(&given(name)?)))).collect();
    let api = if api.is_empty() { "/api/v1/explain".to_owned() } else { format!("/api/v1/explain?{}", api.join("&")) };
    let cli = names.iter().filter_map(|name| Some(format!(" --{name} {}", super::jobs::quoted(&given(name)?))));
    let cli = format!("stead explain{}", cli.collect::<String>());
    let asked = match when("at", fields.get("at")) {
        Ok(at) => {
            let query = ExplainQuery {
                user: given("user"),
                acting_as: given("as"),
                worker: given("worker"),
                at,
                priority: None,
            };
            app.service.explain(&visit.caller, query).await
        }
        Err(error) => Err(error),
    };
    let (answer, problem): (_, Option<Reason>) = match asked {
        Ok(view) => {
            let answer = WhatIf {
                login_user: text(&view.login_user),
                user: view.user.as_ref().map(Text::from),
                refused: view.refused.as_ref().map(refused),
                rules: rules(&view.rules),
                verdicts: verdicts(view.workers),
            };
            (Some(answer), None)
        }
        Err(error) => (None, Some(reason(&error.into()))),
    };
    Html::of(&WhatIfPage {
        frame: frame(&visit, "What if?", api, cli),
        tabs: tabs(&visit, PeopleTab::WhatIf),
        user: get("user"),
        acting_as: get("as"),
        worker: get("worker"),
        at: get("at"),
        asks_of_others: visit.caller.is_auditor(),
        problem,
        answer,
    })
}
