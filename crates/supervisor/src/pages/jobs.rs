//! The list of jobs, and acts on several of them.

use super::{Fields, Html, Visit, badge, counts, moment, own_path, shown, text};
use crate::api::{ApiError, App};
use crate::ask::JobsPageQuery;
use crate::clock;
use crate::error::ServiceError;
use crate::service::ActRequest;
use axum::extract::{Query, State};
use job::{JobAction, JobState};
use web::pages::{ActedPage, JobRow, JobsPage, JobsQuery};
use web::{Nav, Reason, State as Shown, Text, took};

/// Rows of a page.
const PAGE: u32 = 50;
/// Jobs acted on at once.
const AT_ONCE: usize = 200;
/// What needs somebody first.
const CHIPS: [JobState; 8] = [
    JobState::Running,
    JobState::Pending,
    JobState::Blocked,
    JobState::Suspended,
    JobState::Failed,
    JobState::Badlogin,
    JobState::Killed,
    JobState::Complete,
];

fn understood(fields: &Fields) -> JobsQuery {
    let get = |name| fields.get(name).unwrap_or_default().trim().to_owned();
    JobsQuery {
        state: get("state"),
        user: get("user"),
        login_user: get("login_user"),
        q: get("q"),
        sort: get("sort"),
        page: fields.get("page").and_then(|p| p.parse().ok()).unwrap_or(1).clamp(1, 100_000),
    }
}

pub(super) async fn list(
    State(app): State<App>,
    visit: Visit,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Html, ApiError> {
    let query = understood(&Fields(query));
    let mut frame = visit.frame("Jobs", Nav::Jobs);
    frame.live = Some("/events".to_owned());
    (frame.api, frame.cli) = elsewhere(&query);
    let asked = JobsPageQuery {
        state: query.state.clone(),
        user: query.user.clone(),
        login_user: query.login_user.clone(),
        text: query.q.clone(),
        sort: query.sort.clone(),
        offset: u64::from(query.page - 1) * u64::from(PAGE),
        limit: PAGE + 1,
    };
    let mut page = JobsPage {
        frame,
        query,
        chips: CHIPS.map(|state| (Shown::of(state.as_str()), 0)).to_vec(),
        total: 0,
        rows: Vec::new(),
        problem: None,
        has_more: false,
    };
    match app.service.jobs_page(&visit.caller, asked).await {
        Ok(found) => {
            page.total = found.counts.iter().map(|(_, n)| n).sum();
            for (state, n) in found.counts {
                page.chips.iter_mut().filter(|(s, _)| s.word() == state.as_str()).for_each(|(_, count)| *count = n);
            }
            let size = usize::try_from(PAGE).unwrap_or(usize::MAX);
            page.has_more = found.rows.len() > size;
            page.rows = found.rows.iter().take(size).map(|(row, accounts)| job_row(row, accounts)).collect();
        }
        Err(ServiceError::Input { what, problem }) => {
            page.problem = Some(Reason::new(format!("{what}: {problem}")));
        }
        Err(error) => return Err(error.into()),
    }
    Html::of(&page)
}

/// The same for programs, and at a terminal.
fn elsewhere(query: &JobsQuery) -> (Option<Text>, Option<Text>) {
    let skipped = u64::from(query.page.saturating_sub(1)) * u64::from(PAGE);
    let (offset, limit) = if skipped > 0 { (skipped.to_string(), PAGE.to_string()) } else { Default::default() };
    let given = [
        ("state", "state", &query.state),
        ("user", "user", &query.user),
        ("login_user", "login-user", &query.login_user),
        ("text", "search", &query.q),
        ("sort", "sort", &query.sort),
        ("offset", "skip", &offset),
        ("limit", "limit", &limit),
    ];
    let given = || given.iter().filter(|(_, _, value)| !value.is_empty());
    let api: Vec<String> = given().map(|(name, _, value)| format!("{name}={}", web::encoded(value))).collect();
    let api = if api.is_empty() { "/api/v1/jobs".to_owned() } else { format!("/api/v1/jobs?{}", api.join("&")) };
    let cli: Vec<String> = given().map(|(_, option, value)| format!(" --{option} {}", quoted(value))).collect();
    (Some(api.into()), Some(format!("stead jobs{}", cli.concat()).into()))
}

/// A word for a shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn job_row(row: &store::JobRow, accounts: &[String]) -> JobRow {
    let until = row.ended_at.or_else(|| row.started_at.map(|_| clock::now()));
    JobRow {
        id: row.id,
        name: text(&row.name),
        state: Shown::of(row.state.as_str()),
        login_user: text(&row.login_user),
        user: text(&row.user),
        badge: badge(&row.via),
        accounts: accounts.iter().filter(|account| **account != row.user).map(Text::from).collect(),
        priority: row.priority,
        bar: counts(&row.counts),
        submitted: moment(row.submitted_at),
        took: took(row.started_at, until),
        reason: row.reason.as_ref().map(Text::from),
    }
}

/// What is done to each of them.
#[derive(Debug, Clone, Copy)]
enum Doing {
    Act(JobAction),
    Remove,
}

impl Doing {
    fn parse(word: &str) -> Result<Self, ApiError> {
        match word {
            "remove" => Ok(Self::Remove),
            word => JobAction::parse(word).map(Self::Act).map_err(|e| wrong("act", &e.to_string())),
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Act(JobAction::Kill) => "Killed",
            Self::Act(JobAction::Retry) => "Retried",
            Self::Act(JobAction::Block) => "Blocked",
            Self::Act(JobAction::Unblock) => "Unblocked",
            Self::Act(JobAction::Suspend) => "Suspended",
            Self::Act(JobAction::Resume) => "Resumed",
            Self::Act(JobAction::Requeue) => "Requeued",
            Self::Remove => "Removed",
        }
    }

    const fn note(self) -> Option<&'static str> {
        match self {
            Self::Remove => Some("What is removed goes as soon as its folders on the workers are gone."),
            Self::Act(JobAction::Requeue) => Some("Nothing of it starts before it is unblocked."),
            Self::Act(_) => None,
        }
    }
}

fn wrong(what: &'static str, problem: &str) -> ApiError {
    ApiError::from(ServiceError::input(what, problem))
}

/// Acts on each job by itself: what is refused for one says so, and doesn't keep the others.
pub(super) async fn act(State(app): State<App>, visit: Visit, fields: Fields) -> Result<Html, ApiError> {
    let doing = Doing::parse(fields.get("act").unwrap_or_default())?;
    let jobs: Vec<&str> = fields.all("job").collect();
    if jobs.len() > AT_ONCE {
        return Err(wrong("job", &format!("at most {AT_ONCE} jobs at once")));
    }
    let tasks: Vec<String> = fields.all("task").map(str::to_owned).collect();
    let tasks = (!tasks.is_empty()).then_some(tasks);
    if tasks.is_some() && jobs.len() != 1 {
        return Err(wrong("task", "tasks are of one job"));
    }
    if tasks.is_some() && matches!(doing, Doing::Remove) {
        return Err(wrong("task", "only whole jobs are removed"));
    }
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    for job in jobs {
        let request = ActRequest { reason: fields.get("reason").map(str::to_owned), tasks: tasks.clone() };
        match act_on(&app, &visit, job, doing, request).await {
            Ok(what) => done.push(what),
            Err(error) => refused.push((Text::from(format!("job {job}")), shown(error))),
        }
    }
    Html::of(&ActedPage {
        frame: visit.frame(doing.done(), Nav::Jobs),
        action: doing.done().into(),
        note: doing.note(),
        done,
        refused,
        back: own_path(fields.get("back")).into(),
    })
}

async fn act_on(
    app: &App,
    visit: &Visit,
    job: &str,
    doing: Doing,
    request: ActRequest,
) -> Result<(u64, Option<Shown>), ServiceError> {
    let id = job::job_number(job).map_err(|_| crate::service::no_such_job(job.escape_debug()))?;
    let service = &app.service;
    match doing {
        Doing::Act(action) => {
            let state = service.act(&visit.caller, id, action, request).await?;
            Ok((id, Some(Shown::of(state.as_str()))))
        }
        Doing::Remove => service.remove(&visit.caller, id, request.reason.as_deref()).await.map(|_| (id, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_for_a_shell() {
        assert_eq!(quoted("ada"), "ada");
        assert_eq!(quoted("$(rm -rf /)'x"), "'$(rm -rf /)'\\''x'");
        assert_eq!(quoted(""), "''");
    }
}
