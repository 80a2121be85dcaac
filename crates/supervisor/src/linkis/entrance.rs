//! Tasks come in, are asked after, and are killed.

use super::answer::{Answer, said};
use super::guest::Guest;
use super::output;
use super::task::{self, CREATOR, ENGINE_TYPE, Facts, RUN_TYPE, is_word};
use crate::api::{ApiError, App, Asked, Body};
use crate::audit::Act;
use crate::authn::AuthnError;
use crate::caller::{Asks, Caller};
use crate::error::ServiceError;
use crate::service::{ActRequest, Submission};
use axum::extract::{FromRequestParts, Path, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use compat_linkis::{LabelError, TaskState, label_of, task_number};
use job::{JobAction, JobSpec};
use policy::Refusal;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::time::Instant;
use store::JobRow;

/// What labels call a creator that isn't named.
const CREATOR_DEFAULT: &str = "IDE";
/// Tasks that are killed by one request.
const KILL_MAX: usize = 1000;
/// Lines of a log unless told, and at most.
const LINES: u64 = 100;
const LINES_MAX: u64 = 10_000;

/// The task in a path, by its number or its long form.
#[derive(Debug)]
pub(super) struct TaskId(pub(super) u64);

impl FromRequestParts<App> for TaskId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        let Path(text) = path.map_err(|_| ApiError::from(ServiceError::NoSuchPage))?;
        number(&text).map(Self)
    }
}

fn number(text: &str) -> Result<u64, ApiError> {
    let shown = || text.chars().take(100).collect::<String>().escape_debug().to_string();
    task_number(text).ok_or_else(|| ServiceError::NoSuchJob(shown()).into())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Content {
    code: String,
    run_type: String,
}

/// What else clients send changes nothing of how the code is run.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Submit {
    execution_content: Content,
    labels: Map<String, Value>,
    execute_user: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Execute {
    execution_code: String,
    run_type: String,
    execute_application_name: Option<String>,
    request_application_name: Option<String>,
    execute_user: Option<String>,
}

/// What both forms come to.
struct Wanted {
    code: String,
    run_type: String,
    engine_type: Option<String>,
    creator: String,
}

pub(super) async fn submit(State(app): State<App>, Guest(caller): Guest, Body(asked): Body<Submit>) -> Answer {
    let (caller, user) = for_user(&app, caller, asked.execute_user).await?;
    let label = |name: &str| asked.labels.get(name).and_then(Value::as_str).map(str::to_owned);
    let creator = match label("userCreator") {
        Some(label) => creator(&app, &caller, user.as_deref(), &label).await?,
        None => CREATOR_DEFAULT.to_owned(),
    };
    let Content { code, run_type } = asked.execution_content;
    take(&app, &caller, user, Wanted { code, run_type, engine_type: label("engineType"), creator }).await
}

/// The older form of the same.
pub(super) async fn execute(State(app): State<App>, Guest(caller): Guest, Body(asked): Body<Execute>) -> Answer {
    let (caller, user) = for_user(&app, caller, asked.execute_user).await?;
    let creator = asked.request_application_name.unwrap_or_else(|| CREATOR_DEFAULT.to_owned());
    if !is_word(&creator) {
        return Err(ServiceError::input("requestApplicationName", "it is no word of letters and digits").into());
    }
    let Execute { execution_code: code, run_type, execute_application_name: engine_type, .. } = asked;
    take(&app, &caller, user, Wanted { code, run_type, engine_type, creator }).await
}

/// As whom one submission is to run: never by its word alone, and never as somebody else instead. Whoever acts already
/// acts as one; whoever doesn't needs a grant, or the role that names others.
async fn for_user(app: &App, caller: Caller, named: Option<String>) -> Result<(Caller, Option<String>), ApiError> {
    let Some(name) = named else { return Ok((caller, None)) };
    let now = caller.acting.as_ref().map_or(caller.principal.login_user.as_str(), |acting| acting.user.as_str());
    if name == now {
        return Ok((caller, None));
    }
    if name.is_empty() {
        return Err(ServiceError::input("executeUser", "it is empty: leave it out to run as yourself").into());
    }
    let roles = caller.principal.roles;
    if caller.acting.is_some() || caller.is_bound() || roles.admin || roles.impersonate {
        return Ok((caller, Some(name)));
    }
    Ok((app.service.caller(caller.principal, Asks::Named(name)).await?, None))
}

/// A label that names a third person is refused.
async fn creator(app: &App, caller: &Caller, user: Option<&str>, label: &str) -> Result<String, ApiError> {
    let login = caller.principal.login_user.as_str();
    let user = user.or(caller.acting.as_ref().map(|acting| acting.user.as_str())).unwrap_or(login);
    match label_of(label, login, user) {
        Ok(creator) => Ok(creator),
        Err(error @ LabelError::Form(_)) => Err(ServiceError::input("labels", error).into()),
        Err(error @ LabelError::OtherUser { .. }) => {
            let refusal = Refusal {
                rule: "user_creator".to_owned(),
                value: label.chars().take(100).collect::<String>().escape_debug().to_string(),
                text: error.to_string(),
                hint: format!("say {login}-IDE or {user}-IDE; as whom a job runs isn't said by a label"),
            };
            Err(app.service.refused(&caller.principal, Act::Submit, refusal).await.into())
        }
    }
}

/// One command, run once, as every other job.
async fn take(app: &App, caller: &Caller, user: Option<String>, wanted: Wanted) -> Answer {
    let began = Instant::now();
    let Wanted { code, run_type, engine_type, creator } = wanted;
    if code.trim().is_empty() {
        return Err(ServiceError::input("code", "there is none").into());
    }
    let run = app.service.settings.linkis.run.get(&run_type).map_err(|why| ServiceError::input("runType", why))?;
    let engine_type = engine_type.unwrap_or_else(|| run_type.clone());
    if !is_word(&engine_type) {
        return Err(ServiceError::input("engineType", "it is no word of letters and digits").into());
    }
    let mut spec = JobSpec::command(run.argv(&code));
    spec.name = Some(format!("{creator} {run_type}"));
    let said = [(CREATOR, creator), (RUN_TYPE, run_type), (ENGINE_TYPE, engine_type)];
    spec.env = said.into_iter().map(|(name, word)| (name.to_owned(), word)).collect();
    let spec = RawValue::from_string(spec.to_json().map_err(ServiceError::from)?);
    let spec = spec.map_err(|e| ServiceError::input("spec", e))?;
    let submission = Submission { spec, user, request_id: None, blocked: false, resubmits: None };
    let job = app.service.submit(caller, submission).await?;
    app.service.metrics.submit.took(began.elapsed());
    let row = app.service.store.job(job).await.map_err(ServiceError::from)?;
    let row = row.ok_or_else(|| ServiceError::NoSuchJob(job.to_string()))?;
    Ok(self::said(json!({ "taskID": job, "execID": id_of(app, &row) })))
}

fn id_of(app: &App, row: &JobRow) -> String {
    task::exec_id(app, row, &Facts::of(&app.service, row))
}

/// With the word for a time limit, which is in the tasks.
async fn state(app: &App, caller: &Caller, row: &JobRow) -> Result<TaskState, ApiError> {
    let is_out_of_time = task::is_out_of_time(app, caller, row).await;
    Ok(TaskState::of(task::settled(row), is_out_of_time))
}

pub(super) async fn status(State(app): State<App>, Guest(caller): Guest, TaskId(id): TaskId) -> Answer {
    let row = app.service.visible(&caller, id).await?;
    let state = state(&app, &caller, &row).await?;
    Ok(said(json!({ "status": state.as_str(), "execID": id_of(&app, &row), "taskID": id })))
}

pub(super) async fn progress(State(app): State<App>, Guest(caller): Guest, TaskId(id): TaskId) -> Answer {
    let row = app.service.visible(&caller, id).await?;
    let counts = &row.counts;
    let info = json!({
        "id": id.to_string(),
        "succeedTasks": counts.complete,
        "failedTasks": counts.failed + counts.killed,
        "runningTasks": counts.running,
        "totalTasks": counts.total,
    });
    Ok(said(json!({ "progress": task::share(&row), "progressInfo": [info], "execID": id_of(&app, &row) })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LogQuery {
    from_line: Option<u64>,
    size: Option<u64>,
    distinct_level: Option<bool>,
}

/// While it runs; afterwards there is the log of its record.
pub(super) async fn log(
    State(app): State<App>,
    Guest(caller): Guest,
    TaskId(id): TaskId,
    Asked(query): Asked<LogQuery>,
) -> Answer {
    let scope = app.service.log_scope(&caller, id, None, None).await?;
    let row = app.service.visible(&caller, id).await?;
    if task::settled(&row).is_over() {
        let facts = Facts::of(&app.service, &row);
        let path = task::location(&row, &facts).log();
        return Err(ServiceError::input("log", format!("task {id} has ended: download the log file {path}")).into());
    }
    app.service.views_log(&caller, &scope).await?;
    let size = query.size.unwrap_or(LINES).min(LINES_MAX);
    let lines = output::lines(&app, &caller, id, (query.from_line.unwrap_or(0), size)).await?;
    let log = match query.distinct_level {
        Some(false) => Value::from(lines.text),
        _ => json!(["", "", "", lines.text]),
    };
    Ok(said(json!({ "log": log, "fromLine": lines.next, "execID": id_of(&app, &row) })))
}

/// A GET that changes something: an address that was typed, or came by mail, is not a person's wish.
pub(super) async fn kill(
    State(app): State<App>,
    Guest(caller): Guest,
    TaskId(id): TaskId,
    headers: HeaderMap,
) -> Answer {
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return Err(AuthnError::CrossSite.into());
    }
    let row = app.service.visible(&caller, id).await?;
    app.service.act(&caller, id, JobAction::Kill, ActRequest::default()).await?;
    Ok(said(json!({ "execID": id_of(&app, &row), "taskID": id })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KillList {
    #[serde(rename = "idList")]
    ids: Vec<String>,
    #[serde(rename = "taskIDList")]
    tasks: Vec<u64>,
}

/// Each by itself, with its own answer.
pub(super) async fn kill_jobs(
    State(app): State<App>,
    Guest(caller): Guest,
    TaskId(_): TaskId,
    Body(list): Body<KillList>,
) -> Answer {
    if list.ids.len().max(list.tasks.len()) > KILL_MAX {
        return Err(ServiceError::input("idList", format!("at most {KILL_MAX} at once")).into());
    }
    let named: Vec<(String, Result<u64, ApiError>)> = match list.ids.is_empty() {
        true => list.tasks.iter().map(|id| (id.to_string(), Ok(*id))).collect(),
        false => list.ids.iter().map(|id| (id.clone(), number(id))).collect(),
    };
    let mut messages = Vec::with_capacity(named.len());
    for (name, id) in named {
        let killed = match id {
            Ok(id) => {
                app.service.act(&caller, id, JobAction::Kill, ActRequest::default()).await.map_err(ApiError::from)
            }
            Err(error) => Err(error),
        };
        let (status, message) = match killed {
            Ok(_) => (0, "it is killed".to_owned()),
            Err(error) => (1, error.message),
        };
        let answer = json!({ "method": "killJobs", "status": status, "message": message, "data": { "execID": name } });
        messages.push(answer);
    }
    Ok(said(json!({ "messages": messages })))
}
