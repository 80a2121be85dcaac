//! Records of tasks: those that the caller sees everywhere else, too.

use super::answer::{Answer, said};
use super::entrance::TaskId;
use super::guest::Guest;
use super::task::{self, Facts};
use crate::api::{ApiError, App, Asked};
use crate::ask::JobsPageQuery;
use crate::caller::Caller;
use crate::error::ServiceError;
use axum::extract::State;
use compat_linkis::TaskState;
use serde::Deserialize;
use serde_json::json;
use store::JobRow;

const PAGE: u32 = 20;
const PAGE_MAX: u32 = 500;
/// How many of the newest jobs are looked through for what a list asks for.
const LOOKED_AT: u32 = 10_000;

/// What a caller may see of one.
pub(super) async fn one(State(app): State<App>, Guest(caller): Guest, TaskId(id): TaskId) -> Answer {
    let row = app.service.visible(&caller, id).await?;
    let task = task::record(&app, &caller, &row, true).await?;
    Ok(said(json!({ "task": task })))
}

/// Numbers come as text, and what isn't asked for comes empty.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListQuery {
    start_date: String,
    end_date: String,
    status: String,
    page_now: String,
    page_size: String,
    #[serde(rename = "taskID")]
    task: String,
    creator: String,
    run_type: String,
    proxy_user: String,
    is_admin_view: String,
}

/// What a list is narrowed to.
#[derive(Debug, Default)]
struct Wanted {
    from: Option<i64>,
    until: Option<i64>,
    states: Vec<TaskState>,
    task: Option<u64>,
    creator: String,
    run_type: String,
}

impl Wanted {
    fn of(query: &ListQuery) -> Result<Self, ApiError> {
        let state = |word: &str| {
            TaskState::parse(word).ok_or_else(|| ServiceError::input("status", format!("{word:?} is no state")))
        };
        let words = query.status.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "ALL");
        Ok(Self {
            from: number("startDate", &query.start_date)?,
            until: number("endDate", &query.end_date)?,
            states: words.map(state).collect::<Result<_, _>>()?,
            task: number("taskID", &query.task)?,
            creator: query.creator.clone(),
            run_type: query.run_type.clone(),
        })
    }

    fn is_all(&self) -> bool {
        let Self { from, until, states, task, creator, run_type } = self;
        from.is_none()
            && until.is_none()
            && states.is_empty()
            && task.is_none()
            && creator.is_empty()
            && run_type.is_empty()
    }

    /// By what every row has.
    fn takes(&self, row: &JobRow) -> bool {
        let at = row.submitted_at / 1000;
        self.from.is_none_or(|from| from <= at)
            && self.until.is_none_or(|until| at <= until)
            && self.task.is_none_or(|task| task == row.id)
            && [false, true].into_iter().any(|is_out_of_time| self.takes_state(row, is_out_of_time))
    }

    fn takes_state(&self, row: &JobRow, is_out_of_time: bool) -> bool {
        self.states.is_empty() || self.states.contains(&TaskState::of(task::settled(row), is_out_of_time))
    }

    /// Whether only its tasks say if a row is taken.
    fn wants_tasks(&self, row: &JobRow) -> bool {
        self.takes_state(row, false) != self.takes_state(row, true)
    }

    /// By what is in the job's description.
    fn takes_facts(&self, facts: &Facts) -> bool {
        (self.creator.is_empty() || self.creator == facts.creator)
            && (self.run_type.is_empty() || self.run_type == facts.run_type)
    }
}

fn number<T: std::str::FromStr>(name: &'static str, text: &str) -> Result<Option<T>, ApiError> {
    match text {
        "" => Ok(None),
        text => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                let shown: String = text.chars().take(40).collect();
                Err(ServiceError::input(name, format!("{shown:?} is no number")).into())
            }
        },
    }
}

/// `totalPage` is the number of rows: so it is in Linkis, and clients count pages by it.
pub(super) async fn list(State(app): State<App>, Guest(caller): Guest, Asked(query): Asked<ListQuery>) -> Answer {
    answer(&app, &caller, &query, Wanted::of(&query)?).await
}

pub(super) async fn undone(State(app): State<App>, Guest(caller): Guest, Asked(query): Asked<ListQuery>) -> Answer {
    let mut wanted = Wanted::of(&query)?;
    if wanted.states.is_empty() {
        wanted.states = TaskState::ALL.into_iter().filter(|state| !state.is_final()).collect();
    }
    answer(&app, &caller, &query, wanted).await
}

async fn answer(app: &App, caller: &Caller, query: &ListQuery, wanted: Wanted) -> Answer {
    let size = number::<u32>("pageSize", &query.page_size)?.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let page = number::<u32>("pageNow", &query.page_now)?.unwrap_or(1).max(1);
    let offset = u64::from(page - 1) * u64::from(size);
    let mut asked = JobsPageQuery { limit: size, offset, user: query.proxy_user.clone(), ..JobsPageQuery::default() };
    // An administrator's list is of everybody's where it is asked for.
    if caller.is_admin() && query.is_admin_view != "true" {
        asked.login_user = caller.principal.login_user.to_string();
    }
    let (rows, total) = if wanted.is_all() {
        let listed = app.service.jobs_page(caller, asked).await?;
        let total = listed.counts.iter().map(|(_, n)| n).sum();
        let mut rows = Vec::with_capacity(listed.rows.len());
        for (row, _) in listed.rows {
            rows.extend(whole(app, &row).await?);
        }
        (rows, total)
    } else {
        let (offset, limit) = (0, LOOKED_AT);
        let listed = app.service.jobs_page(caller, JobsPageQuery { offset, limit, ..asked }).await?;
        narrowed((app, caller), listed.rows.into_iter().map(|(row, _)| row), &wanted, (page, size)).await?
    };
    let mut tasks = Vec::with_capacity(rows.len());
    for row in &rows {
        tasks.push(task::record(app, caller, row, false).await?);
    }
    Ok(said(json!({ "tasks": tasks, "totalPage": total })))
}

/// A page of those that are wanted, and how many they are.
async fn narrowed(
    (app, caller): (&App, &Caller),
    rows: impl Iterator<Item = JobRow>,
    wanted: &Wanted,
    (page, size): (u32, u32),
) -> Result<(Vec<JobRow>, u64), ApiError> {
    let by_facts = !(wanted.creator.is_empty() && wanted.run_type.is_empty());
    let first = u64::from(page - 1) * u64::from(size);
    let (mut of_page, mut total) = (Vec::new(), 0);
    for row in rows.filter(|row| wanted.takes(row)) {
        if wanted.wants_tasks(&row) && !wanted.takes_state(&row, task::is_out_of_time(app, caller, &row).await) {
            continue;
        }
        let is_on_page = (first..first + u64::from(size)).contains(&total);
        if !by_facts && !is_on_page {
            total += 1;
            continue;
        }
        let Some(row) = whole(app, &row).await? else { continue };
        if wanted.takes_facts(&Facts::of(&app.service, &row)) {
            if is_on_page {
                of_page.push(row);
            }
            total += 1;
        }
    }
    Ok((of_page, total))
}

/// Lists are without the jobs' descriptions.
async fn whole(app: &App, row: &JobRow) -> Result<Option<JobRow>, ApiError> {
    Ok(app.service.store.job(row.id).await.map_err(ServiceError::from)?)
}

pub(super) async fn admin(Guest(caller): Guest) -> Answer {
    let is_admin = caller.is_admin();
    Ok(said(json!({ "admin": is_admin, "historyAdmin": is_admin, "deptAdmin": false, "errorMsg": "" })))
}
