//! A job as the record of a task: what was said of it when it was submitted is in its environment, where its own tasks
//! see it too. Jobs that came another way have a record as well.

use super::output;
use crate::api::{ApiError, App};
use crate::ask::TasksQuery;
use crate::caller::Caller;
use crate::service::Service;
use crate::views::TaskView;
use compat_linkis::{APP, ExecId, Format, Location, Task, TaskState};
use job::{Body, JobSpec, JobState};
use store::JobRow;

pub(super) const CREATOR: &str = "LINKIS_CREATOR";
pub(super) const RUN_TYPE: &str = "LINKIS_RUN_TYPE";
pub(super) const ENGINE_TYPE: &str = "LINKIS_ENGINE_TYPE";
/// What jobs that came another way are called.
const OTHER: &str = "stead";
/// How a task's reason begins that ran into its time limit.
const OUT_OF_TIME: &str = "time limit reached";

/// What a job's description says of it.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) creator: String,
    pub(super) run_type: String,
    pub(super) engine_type: String,
    pub(super) code: Option<String>,
    pub(super) format: Format,
}

impl Facts {
    pub(super) fn of(service: &Service, row: &JobRow) -> Self {
        let spec = JobSpec::from_json(&row.spec).ok();
        let said = |name: &str| spec.as_ref().and_then(|spec| spec.env.get(name)).cloned();
        // A job may say what it likes of itself, but paths are made of it.
        let word = |name: &str| said(name).filter(|word| is_word(word)).unwrap_or_else(|| OTHER.to_owned());
        let run_type = word(RUN_TYPE);
        let format = service.settings.linkis.run.get(&run_type).map_or(Format::Lines, |run| run.format);
        let code = spec.as_ref().and_then(|spec| match &spec.body {
            Body::Command(command) if run_type != OTHER => command.argv.last().cloned(),
            Body::Command(command) => Some(command.argv.join(" ")),
            Body::Template(_) => None,
        });
        Self { creator: word(CREATOR), engine_type: word(ENGINE_TYPE), run_type, code, format }
    }
}

/// Letters, digits and what stands in versions.
pub(super) fn is_word(word: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    !word.is_empty() && word.len() <= 64 && !word.starts_with('.') && word.bytes().all(is_plain)
}

pub(super) fn location(row: &JobRow, facts: &Facts) -> Location {
    let at = jiff::Timestamp::from_microsecond(row.submitted_at).unwrap_or_default();
    Location {
        user: row.user.clone(),
        date: at.strftime("%Y-%m-%d").to_string(),
        time: at.strftime("%H%M%S").to_string(),
        creator: facts.creator.clone(),
        task: row.id,
    }
}

pub(super) fn exec_id(app: &App, row: &JobRow, facts: &Facts) -> String {
    let url = &app.service.facts.url;
    let id = ExecId {
        instance: url.split_once("://").map_or(url.as_str(), |(_, rest)| rest).to_owned(),
        creator: facts.creator.clone(),
        user: row.user.clone(),
        run_type: facts.run_type.clone(),
        task: row.id,
    };
    id.encode()
}

/// Why a job is over that didn't succeed, and whether its time was.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub(super) why: Option<String>,
    pub(super) is_out_of_time: bool,
    pub(super) exit_code: Option<i32>,
    run_as: Option<String>,
}

/// What the job's row says; and, of one that the caller may open, what its task says, with the end of what it printed.
pub(super) async fn trouble(app: &App, caller: &Caller, row: &JobRow) -> Result<Trouble, ApiError> {
    let own = Trouble { why: row.reason.clone(), ..Trouble::default() };
    match row.state {
        JobState::Badlogin => {
            let why = format!("badlogin: {}", row.reason.as_deref().unwrap_or("the account is refused"));
            return Ok(Trouble { why: Some(why), ..own });
        }
        JobState::Failed => {}
        _ => return Ok(own),
    }
    let query = TasksQuery { state: Some("failed".to_owned()), limit: Some(1), ..TasksQuery::default() };
    let Ok(tasks) = app.service.tasks(caller, row.id, query).await else { return Ok(own) };
    let Some(task) = tasks.first() else { return Ok(own) };
    let last = task.attempts.last();
    let reason = task.reason.clone().or_else(|| last.and_then(|attempt| attempt.reason.clone()));
    let is_out_of_time = reason.as_deref().is_some_and(|why| why.starts_with(OUT_OF_TIME));
    let exit_code = last.and_then(|attempt| attempt.exit_code);
    let why = reason.or_else(|| exit_code.map(|code| format!("exit code {code}"))).or(own.why);
    let printed = output::last_words(app, caller, row.id).await?;
    let why = match (why, printed.is_empty()) {
        (why, true) => why,
        (Some(why), false) => Some(format!("{why}: {printed}")),
        (None, false) => Some(printed),
    };
    Ok(Trouble { why, is_out_of_time, exit_code, run_as: run_as(task) })
}

/// The account that the last try really ran under.
fn run_as(task: &TaskView) -> Option<String> {
    task.attempts.last()?.run_as.as_ref().map(|account| account.name.clone())
}

/// `whole`: with why it failed, which needs its tasks and its output.
pub(super) async fn record(app: &App, caller: &Caller, row: &JobRow, whole: bool) -> Result<Task, ApiError> {
    let facts = Facts::of(&app.service, row);
    let trouble = match whole {
        true => trouble(app, caller, row).await?,
        false => Trouble { is_out_of_time: is_out_of_time(app, caller, row).await, ..Trouble::default() },
    };
    let state = TaskState::of(settled(row), trouble.is_out_of_time);
    let location = location(row, &facts);
    let exec_id = exec_id(app, row, &facts);
    let ended = row.ended_at.or(row.started_at).unwrap_or(row.submitted_at);
    let now = if state.is_final() { ended } else { crate::clock::now() };
    let why = trouble.why.or_else(|| row.reason.clone());
    let is_bad = state.is_final() && state != TaskState::Succeed;
    Ok(Task {
        task_id: row.id,
        stronger_exec_id: exec_id.clone(),
        exec_id,
        instance: APP.to_owned(),
        um_user: row.login_user.clone(),
        execute_user: row.user.clone(),
        engine_instance: String::new(),
        execution_code: facts.code,
        progress: share(row).to_string(),
        log_path: location.log(),
        result_location: location.to_string(),
        status: state.as_str(),
        created_time: row.submitted_at / 1000,
        updated_time: ended / 1000,
        engine_start_time: row.started_at.map(|at| at / 1000),
        labels: vec![
            format!("engineType:{}", facts.engine_type),
            format!("userCreator:{}-{}", row.user, facts.creator),
            format!("codeType:{}", facts.run_type),
        ],
        engine_type: facts.engine_type,
        err_code: is_bad.then(|| i64::from(trouble.exit_code.unwrap_or(1))),
        // A client that finds no sentence shows the name of the field.
        err_desc: if is_bad { Some(why.unwrap_or_else(|| format!("the job is {}", row.state))) } else { why },
        execute_application_name: facts.run_type.clone(),
        request_application_name: facts.creator,
        run_type: facts.run_type,
        params_json: "{}".to_owned(),
        source_json: "{}".to_owned(),
        source_tailor: String::new(),
        cost_time: (now - row.submitted_at) / 1000,
        can_retry: false,
        observe_info: None,
        is_reuse: None,
        run_as: trouble.run_as,
    })
}

/// A job whose last processes still end is not over: its output isn't complete.
pub(super) fn settled(row: &JobRow) -> JobState {
    if row.state.is_over() && row.ended_at.is_none() { JobState::Running } else { row.state }
}

/// How much of it is done.
pub(super) fn share(row: &JobRow) -> f64 {
    let counts = &row.counts;
    Task::share(counts.complete + counts.failed + counts.killed, counts.total)
}

/// Whether its time limit ended a job, as far as the caller may know.
pub(super) async fn is_out_of_time(app: &App, caller: &Caller, row: &JobRow) -> bool {
    if row.state != JobState::Failed {
        return false;
    }
    let query = TasksQuery { state: Some("failed".to_owned()), limit: Some(1), ..TasksQuery::default() };
    let tasks = app.service.tasks(caller, row.id, query).await.unwrap_or_default();
    let says = |text: &Option<String>| text.as_deref().is_some_and(|why| why.starts_with(OUT_OF_TIME));
    tasks.first().is_some_and(|task| says(&task.reason) || task.attempts.last().is_some_and(|a| says(&a.reason)))
}
