//! One job: what it is and does, and *ran as*: requested, decided, and what really happened.

use super::jobs::quoted;
use super::{Fields, Html, Visit, badge, counts, moment, natural, rules, see, text, times};
use crate::api::{ApiError, App, JobId};
use crate::ask::TasksQuery;
use crate::clock;
use crate::error::ServiceError;
use crate::service::Resubmission;
use crate::views::{AttemptView, RefusedView, RunAsView, SessionView, TaskView, VerdictView};
use axum::extract::{Query, State};
use axum::response::Response;
use job::{Body, JobAction, JobSpec, JobState, Plan, Space, TaskState};
use policy::Sight;
use std::collections::HashMap;
use store::{JobRow, TaskFilter};
use web::pages::{Action, AttemptRow, Cell, Happened, JobHead, JobPage, RanAsPage, StepLine, Tab, TaskRow, Tasks};
use web::{Fact, Nav, Reason, Rules, State as Shown, Text, VerdictRow, Verdicts, took};

/// Rows of a page, and tasks at one glance.
const PAGE: u32 = 100;
const CELLS: u32 = 1000;
/// Sessions shown, and the attempts named with each.
const SESSIONS: usize = 50;
const NAMED: usize = 40;
/// A throwaway account is an id without a name: whatever it was, it is as decided.
const THROWAWAY: &str = "throwaway";

/// What stands on top of every page of a job.
pub(super) async fn head(app: &App, visit: &Visit, id: u64, tab: Tab) -> Result<JobHead, ApiError> {
    let service = &app.service;
    let row = service.visible(&visit.caller, id).await?;
    let is_open = service.sight(&visit.caller, &row).await? == Sight::All;
    let accounts = service.store.accounts(id).await.map_err(ServiceError::from)?;
    let is_going = row.state.is_over() && service.store.is_removed(id).await.map_err(ServiceError::from)?;
    let (trouble, trouble_log) = match &row.reason {
        Some(reason) if is_going => (Some(Reason::new(reason)), None),
        _ => trouble(app, visit, &row, is_open).await?,
    };
    let until = row.ended_at.or_else(|| row.started_at.map(|_| clock::now()));
    Ok(JobHead {
        id,
        name: text(&row.name),
        state: Shown::of(row.state.as_str()),
        password: (is_open
            && row.state == JobState::Badlogin
            && row.reason.as_ref().is_some_and(|r| r.contains("password")))
        .then(|| format!("/credentials?account={}&next=%2Fjobs%2F{id}", web::encoded(&row.user))),
        resubmits: (is_open && row.state.is_over()).then(super::submit::random).transpose()?,
        trouble,
        trouble_log,
        login_user: text(&row.login_user),
        user: text(&row.user),
        badge: badge(&row.via),
        accounts: accounts.iter().filter(|account| **account != row.user).map(Text::from).collect(),
        submitted: moment(row.submitted_at),
        started: row.started_at.map(moment),
        ended: row.ended_at.map(moment),
        took: took(row.started_at, until),
        bar: counts(&row.counts),
        facts: if is_open { facts(&row) } else { Vec::new() },
        actions: if is_going { Vec::new() } else { actions(row.state, is_open) },
        is_going,
        can_go: is_open && row.state.is_over() && !is_going,
        tab,
        is_open,
    })
}

fn actions(state: JobState, is_open: bool) -> Vec<Action> {
    let plain = |action, word| (action, word, None, false);
    let held = "Requeue this job? What is over is tried again, but nothing of it starts before somebody unblocks it.";
    let all = [
        plain(JobAction::Retry, "Retry"),
        (JobAction::Requeue, "Requeue", Some(held), false),
        plain(JobAction::Unblock, "Unblock"),
        plain(JobAction::Resume, "Resume"),
        plain(JobAction::Block, "Block"),
        plain(JobAction::Suspend, "Suspend"),
        (JobAction::Kill, "Kill", Some("Kill this job? What it has running is ended."), true),
    ];
    let may = |action| (is_open || action == JobAction::Kill) && state.after(action).is_ok();
    let shown = all.into_iter().filter(|(action, ..)| may(*action));
    shown.map(|(action, word, sure, is_danger)| Action { act: action.as_str(), word, sure, is_danger }).collect()
}

/// What a person would want to know of what was submitted.
fn facts(row: &JobRow) -> Vec<Fact> {
    let Ok(spec) = JobSpec::from_json(&row.spec) else { return Vec::new() };
    let mut facts = Vec::new();
    match &spec.body {
        Body::Command(command) => {
            let words: Vec<String> = command.argv.iter().map(|word| quoted(word)).collect();
            facts.push(Fact::new("Command", words.join(" ")));
            match &command.space {
                Space::Frames(frames) => facts.push(Fact::new("Frames", frames.text())),
                Space::Single | Space::Each(_) => {}
            }
        }
        Body::Template(template) => {
            let given: Vec<String> = template.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let given = if given.is_empty() { "as it is".to_owned() } else { given.join(" ") };
            facts.push(Fact::new("Template", given));
        }
    }
    if row.priority != 0 {
        facts.push(Fact::new("Priority", row.priority.to_string()));
    }
    if row.retries > 0 {
        facts.push(Fact::new("Retries", row.retries.to_string()));
    }
    if !spec.requires.is_empty() {
        facts.push(Fact::new("Workers", spec.requires.as_str()));
    }
    if !spec.after.is_empty() {
        let after: Vec<String> = spec.after.iter().map(|a| a.job.to_string()).collect();
        facts.push(Fact::new("After", after.join(", ")));
    }
    facts
}

/// What went wrong, in a sentence, with what helps; and where to look.
async fn trouble(
    app: &App,
    visit: &Visit,
    row: &JobRow,
    is_open: bool,
) -> Result<(Option<Reason>, Option<String>), ApiError> {
    if is_open && row.counts.failed > 0 {
        let query = TasksQuery { state: Some("failed".to_owned()), limit: Some(1), ..TasksQuery::default() };
        let failed = app.service.tasks(&visit.caller, row.id, query).await?;
        if let Some(task) = failed.first() {
            return Ok(failure(row, task));
        }
    }
    let hint = match row.state {
        JobState::Badlogin => "have the account put right, then submit the job again: a badlogin is not retried",
        JobState::Blocked => "Unblock has it decided again",
        JobState::Suspended => "Resume lets it go on",
        JobState::Pending => "it begins by itself once that is over",
        JobState::Failed => "mend the cause, then Retry: what is complete does not run again",
        JobState::Running | JobState::Complete | JobState::Killed => return Ok((None, None)),
    };
    let Some(reason) = &row.reason else { return Ok((None, None)) };
    Ok((Some(Reason { hint: Some(hint.into()), ..Reason::new(reason) }), None))
}

fn failure(row: &JobRow, task: &TaskView) -> (Option<Reason>, Option<String>) {
    let name = format!("Task {}.{} ({})", task.step, task.task, label(task));
    let others = match row.counts.failed {
        0 | 1 => String::new(),
        n => format!(" So did {} other{}.", n - 1, if n == 2 { "" } else { "s" }),
    };
    let Some(last) = task.attempts.last() else {
        let why = task.reason.as_deref().unwrap_or("nobody says why");
        return (Some(Reason::new(format!("{name} failed: {why}.{others}"))), None);
    };
    let place = last.worker.as_ref().map(|w| format!(" on {w}")).unwrap_or_default();
    let account = last.run_as.as_ref().map(|a| format!(" as {}", a.name)).unwrap_or_default();
    let why = last.reason.clone().or_else(|| task.reason.clone()).unwrap_or_else(|| exit(last));
    let why = why.trim_end_matches('.');
    let hint = "mend the cause, then Retry: what is complete does not run again";
    let reason =
        Reason { hint: Some(hint.into()), ..Reason::new(format!("{name} failed{place}{account}: {why}.{others}")) };
    let log =
        format!("/jobs/{}/log?step={}&task={}&attempt={}&at=error#wanted", row.id, task.step, task.task, last.attempt);
    (Some(reason), Some(log))
}

fn exit(attempt: &AttemptView) -> String {
    match (attempt.exit_code, attempt.signal) {
        (_, Some(signal)) => format!("signal {signal}"),
        (Some(code), None) => format!("exit {code}"),
        (None, None) => "–".to_owned(),
    }
}

fn label(task: &TaskView) -> String {
    match task.frame {
        Some(frame) => format!("frame {frame}"),
        None if task.params.is_empty() => "the task".to_owned(),
        None => task.params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "),
    }
}

pub(super) async fn page(
    State(app): State<App>,
    visit: Visit,
    id: JobId,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Html, ApiError> {
    let id = id.0;
    let query = Fields(query);
    let head = head(&app, &visit, id, Tab::Tasks).await?;
    let tasks = if head.is_open { Some(tasks(&app, &visit, id, &query).await?) } else { None };
    let mut frame = visit.frame(format!("{id} {}", head.name), Nav::Jobs);
    frame.live = Some(format!("/events?job={id}"));
    frame.api = Some(format!("/api/v1/jobs/{id}").into());
    frame.cli = Some(format!("stead tasks {id}").into());
    Html::of(&JobPage { frame, head, tasks })
}

/// The same job again, as a new one.
pub(super) async fn resubmit(
    State(app): State<App>,
    visit: Visit,
    id: JobId,
    fields: Fields,
) -> Result<Response, ApiError> {
    let request = Resubmission { request_id: fields.get("request_id").map(str::to_owned) };
    let job = app.service.resubmit(&visit.caller, id.0, request).await?;
    Ok(see(&format!("/jobs/{job}")))
}

async fn tasks(app: &App, visit: &Visit, id: u64, query: &Fields) -> Result<Tasks, ApiError> {
    let service = &app.service;
    let filter = query.get("state").unwrap_or_default().to_owned();
    let one = query.get("at").map(one_task).transpose()?;
    let asked = TasksQuery {
        step: one.map(|(step, _)| step.to_string()),
        task: one.map(|(_, task)| task),
        state: (!filter.is_empty()).then(|| filter.clone()),
        limit: Some(PAGE + 1),
        after: query.get("after").map(str::to_owned),
    };
    let mut found = service.tasks(&visit.caller, id, asked).await?;
    let size = usize::try_from(PAGE).unwrap_or(usize::MAX);
    let more = found.len() > size;
    found.truncate(size);
    let more_after = found.last().filter(|_| more).map(|t| format!("{}.{}", t.step, t.task));
    let decided = decided(app, &found).await?;
    let job = service.worked_out(id).await?;
    let steps = service.store.steps(id).await.map_err(ServiceError::from)?;
    let name_of = |step: u32| steps.iter().find(|s| s.step == step).map(|s| text(&s.name)).unwrap_or_default();
    let several = steps.len() > 1;
    let all = steps.iter().fold(job::Counts::default(), |sum, step| sum.plus(&step.counts));
    let (cells, cells_left_out) = cells(app, id, &job.plan, all.total).await?;
    Ok(Tasks {
        chips: TaskState::ALL.iter().map(|s| (Shown::of(s.as_str()), all.get(*s))).collect(),
        total: all.total,
        steps: steps
            .iter()
            .map(|s| StepLine {
                name: text(&s.name),
                bar: counts(&s.counts),
                waits_for: s.depends_on.iter().map(|on| name_of(*on)).collect(),
            })
            .collect(),
        cells,
        cells_left_out,
        rows: found.iter().map(|task| task_row(task, several, &decided)).collect(),
        more_after,
        is_later: query.get("after").is_some(),
        filter,
    })
}

/// `STEP.TASK`.
fn one_task(text: &str) -> Result<(u32, u64), ApiError> {
    let parts = text.split_once('.').and_then(|(step, task)| Some((step.parse().ok()?, task.parse().ok()?)));
    parts.ok_or_else(|| ServiceError::input("at", format!("{text:?} is no STEP.TASK")).into())
}

async fn cells(app: &App, id: u64, plan: &Plan, total: u64) -> Result<(Vec<Cell>, u64), ApiError> {
    let filter = TaskFilter { limit: CELLS, ..TaskFilter::default() };
    let rows = app.service.store.tasks(id, filter).await.map_err(ServiceError::from)?;
    let cell = |row: &store::TaskRow| Cell {
        task: format!("{}.{}", row.step, row.index),
        state: Shown::of(row.state.as_str()),
        label: match plan.frame(row.step, row.index) {
            Some(frame) => format!("frame {frame}"),
            None => format!("task {}.{}", row.step, row.index),
        },
    };
    let cells: Vec<Cell> = rows.iter().map(cell).collect();
    let left_out = total.saturating_sub(cells.len() as u64);
    Ok((cells, left_out))
}

/// The account that was decided for each session of these tasks.
async fn decided(app: &App, tasks: &[TaskView]) -> Result<HashMap<u64, String>, ApiError> {
    let mut ids: Vec<u64> = tasks.iter().flat_map(|t| t.attempts.iter().map(|a| a.session)).collect();
    ids.sort_unstable();
    ids.dedup();
    let sessions = app.service.store.sessions_by_id(&ids).await.map_err(ServiceError::from)?;
    Ok(sessions.into_iter().map(|s| (s.id, s.account)).collect())
}

fn agrees(decided: Option<&str>, read_back: Option<&wire::Account>) -> Option<bool> {
    let (decided, read_back) = (decided?, read_back?);
    Some(decided == THROWAWAY || decided == read_back.name)
}

fn exactly(account: &wire::Account) -> String {
    format!("{} (uid {}, gid {})", account.name, account.uid, account.gid)
}

fn listed(groups: &[u32]) -> String {
    groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

fn task_row(task: &TaskView, several: bool, decided: &HashMap<u64, String>) -> TaskRow {
    let percent = task.progress.map(|p| p.clamp(0.0, 100.0).round());
    TaskRow {
        task: format!("{}.{}", task.step, task.task),
        step: task.step,
        index: task.task,
        step_name: task.step_name.as_ref().filter(|_| several).map(Text::from),
        label: label(task).into(),
        state: Shown::of(task.state.as_str()),
        reason: task.reason.as_ref().map(Text::from),
        // Between 0 and 100.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was clamped")]
        progress: percent.map(|p| p as u8),
        status: task.status.as_ref().map(Text::from),
        attempts: task.attempts.iter().rev().map(|a| attempt_row(a, decided.get(&a.session))).collect(),
    }
}

fn attempt_row(attempt: &AttemptView, decided: Option<&String>) -> AttemptRow {
    let at = |time: &Option<String>| time.as_deref().and_then(|t| crate::identity::micros(t).ok());
    let (started, ended) = (at(&attempt.started_at), at(&attempt.ended_at));
    let exact = attempt.run_as.as_ref().map(|a| format!("{}, groups {}", exactly(a), listed(&a.groups)));
    AttemptRow {
        attempt: attempt.attempt,
        state: Shown::of(attempt.state.as_str()),
        worker: attempt.worker.as_ref().map(Text::from),
        ran_as: attempt.run_as.as_ref().map(|a| text(&a.name)),
        ran_as_exact: exact.unwrap_or_default().into(),
        agrees: agrees(decided.map(String::as_str), attempt.run_as.as_ref()),
        exit: if ended.is_some() { exit(attempt).into() } else { Text::default() },
        started: started.map(moment),
        took: took(started, ended.or_else(|| started.map(|_| clock::now()))),
        cpu: if ended.is_some() { format!("{:.1} s", attempt.cpu_s) } else { String::new() },
        memory: if attempt.max_rss > 0 { size(attempt.max_rss) } else { String::new() },
        reason: attempt.reason.as_ref().map(Text::from),
    }
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} K", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} M", bytes >> 20),
        _ => format!("{}.{} G", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30),
    }
}

// --- ran as

pub(super) async fn ran_as(State(app): State<App>, visit: Visit, id: JobId) -> Result<Html, ApiError> {
    let id = id.0;
    let head = head(&app, &visit, id, Tab::RanAs).await?;
    let row = app.service.visible(&visit.caller, id).await?;
    let explained = app.service.explain_job(&visit.caller, id).await?;
    let mut attempts: HashMap<u64, Vec<String>> = HashMap::new();
    if head.is_open {
        let query = TasksQuery { limit: Some(500), ..TasksQuery::default() };
        for task in app.service.tasks(&visit.caller, id, query).await? {
            for a in &task.attempts {
                let name = format!("{}.{} try {}", task.step, task.task, a.attempt);
                attempts.entry(a.session).or_default().push(name);
            }
        }
    }
    let newest = explained.sessions.iter().rev().take(SESSIONS);
    let mut frame = visit.frame(format!("{id} {}: ran as", head.name), Nav::Jobs);
    frame.live = Some(format!("/events?job={id}"));
    frame.api = Some(format!("/api/v1/jobs/{id}/explain").into());
    frame.cli = Some(format!("stead explain {id}").into());
    Html::of(&RanAsPage {
        frame,
        via: badge(&row.via).means.into(),
        grant: row.grant,
        refused: explained.refused.as_ref().map(refused),
        happened: newest.map(|s| happened(s, attempts.remove(&s.session).unwrap_or_default())).collect(),
        verdicts: verdicts(explained.workers),
        head,
    })
}

fn happened(session: &SessionView, mut tasks: Vec<String>) -> Happened {
    if tasks.len() > NAMED {
        let more = tasks.len() - NAMED;
        tasks.truncate(NAMED);
        tasks.push(format!("and {more} more"));
    }
    let lines: Vec<policy::Rule> = serde_json::from_value(session.rules.clone()).unwrap_or_default();
    let end = [&session.end, &session.reason].into_iter().flatten().cloned().collect::<Vec<_>>().join(": ");
    Happened {
        session: session.session,
        purpose: match session.purpose {
            store::Purpose::Run => None,
            store::Purpose::Read => Some("for its files"),
            store::Purpose::Clean => Some("to remove its folder"),
        },
        state: Shown::of(session.state.as_str()),
        worker: text(&session.worker),
        mode: text(&session.mode),
        decided: text(&session.account),
        read_back: session.run_as.as_ref().map(|a| exactly(a).into()),
        groups: session.run_as.as_ref().map(|a| listed(&a.groups)).unwrap_or_default().into(),
        attested: match session.attested_by.as_deref() {
            Some("launcher") => "the launcher of that host read it back from the kernel and signed it".into(),
            Some("worker") => "the worker says so: in desktop mode there is no launcher".into(),
            _ => "nobody yet".into(),
        },
        proof: session.proof.as_ref().map(|p| {
            format!("record {} of host key {}…", p.log_sequence, p.host_key.get(..8).unwrap_or_default()).into()
        }),
        agrees: agrees(Some(&session.account), session.run_as.as_ref()),
        rules: rules(&lines),
        grant: session.grant,
        policy: text(session.policy_version.get(..12).unwrap_or(&session.policy_version)),
        started: session.started_at.as_deref().and_then(times),
        end: (!end.is_empty()).then(|| end.into()),
        tasks,
    }
}

pub(super) fn refused(refused: &RefusedView) -> Reason {
    Reason {
        text: text(&refused.text),
        rule: Some(text(&refused.rule)),
        value: (!refused.value.is_empty()).then(|| text(&refused.value)),
        hint: (!refused.hint.is_empty()).then(|| text(&refused.hint)),
        ..Reason::default()
    }
}

/// Workers of which the same is true stand together.
pub(super) fn verdicts(all: Vec<VerdictView>) -> Verdicts {
    let mut rows: Vec<VerdictRow> = Vec::new();
    for view in all {
        let (worker, row) = verdict(view);
        let same = |known: &&mut VerdictRow| {
            let rule = |r: &VerdictRow| r.refused.as_ref().map(|r| (r.rule.clone(), r.hint.clone()));
            let names = |r: &Rules| r.lines.iter().map(|l| (l.effect, l.rule.clone())).collect::<Vec<_>>();
            (known.mode, known.state, &known.run_as, &known.exact) == (row.mode, row.state, &row.run_as, &row.exact)
                && rule(known) == rule(&row)
                && names(&known.rules) == names(&row.rules)
        };
        match rows.iter_mut().find(same) {
            Some(known) => known.workers.push(worker),
            None => rows.push(VerdictRow { workers: vec![worker], ..row }),
        }
    }
    for row in &mut rows {
        row.workers.sort_by_cached_key(|worker| natural(worker.as_str()));
    }
    // Where it runs first.
    rows.sort_by_key(|row| match row.state.word() {
        "run" => 0,
        "waiting" => 1,
        _ => 2,
    });
    Verdicts { rows }
}

fn verdict(view: VerdictView) -> (Text, VerdictRow) {
    let exact =
        |r: &RunAsView| Some(format!("uid {}, gid {}, groups {}", r.uid?, r.gid?, listed(r.groups.as_deref()?)));
    let row = VerdictRow {
        workers: Vec::new(),
        mode: view.mode,
        state: Shown::of(view.verdict),
        run_as: view.run_as.as_ref().map(|r| text(&r.name)),
        exact: view.run_as.as_ref().and_then(exact).map(Text::from),
        refused: view.refused.as_ref().map(refused),
        rules: rules(&view.rules),
    };
    (text(&view.worker), row)
}
