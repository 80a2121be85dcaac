//! Reading: what people may see of jobs, workers and decisions. Changes nothing.

use crate::audit::{Act, Record};
use crate::authn::Authn;
use crate::caller::Caller;
use crate::dispatch::KnownWorker;
use crate::dispatch::who;
use crate::error::ServiceError;
use crate::identity::{Carried, micros};
use crate::logs::{Filter, Reader};
use crate::service::{Service, Submission, no_such_job, step_of};
use crate::views::{
    AccountCheckView, AccountOnHostView, AuditView, ConfigView, ExclusionView, ExplainView, FarmView, JobView,
    PreviewView, QueueView, RefusedView, RunAsView, SessionView, TaskView, VerdictView, WorkerView,
};
use futures_util::future::join_all;
use job::{JobState, Plan, Requires, StepRef, TaskState};
use policy::{Decision, Identified, Place, Refusal, Request, Sight, Who};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use store::{JobFilter, JobList, JobRow, JobSort, Reach, TaskFilter, Whose};
use warrant::Account;

/// Entries of a page unless told, and at most.
const PAGE: u32 = 1000;
const PAGE_MAX: u32 = 10_000;
/// A long poll answers after this at the latest.
const WAIT_MAX_S: u64 = 60;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JobsQuery {
    pub(crate) user: Option<String>,
    pub(crate) login_user: Option<String>,
    /// Words with commas.
    pub(crate) state: Option<String>,
    pub(crate) limit: Option<u32>,
    pub(crate) after: Option<u64>,
    /// In the job's name, or its number. With this, an order or an offset, `state` is one word and `after` isn't taken.
    pub(crate) text: Option<String>,
    /// `newest`, `oldest`, `priority`, `name`.
    pub(crate) sort: Option<String>,
    /// So many of them are left out.
    pub(crate) offset: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TasksQuery {
    pub(crate) step: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) limit: Option<u32>,
    /// `STEP.TASK` (or `TASK`) of the last one seen.
    pub(crate) after: Option<String>,
    /// Only this one.
    pub(crate) task: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExplainQuery {
    pub(crate) user: Option<String>,
    #[serde(rename = "as")]
    pub(crate) acting_as: Option<String>,
    pub(crate) worker: Option<String>,
    /// Then instead of now.
    pub(crate) at: Option<String>,
    /// With this priority: those above a limit are administrators'.
    pub(crate) priority: Option<i32>,
}

/// A page of the list that people look at; empty is not asked for.
#[derive(Debug, Default)]
pub(crate) struct JobsPageQuery {
    pub(crate) state: String,
    pub(crate) user: String,
    pub(crate) login_user: String,
    pub(crate) text: String,
    /// `newest`, `oldest`, `priority` or `name`.
    pub(crate) sort: String,
    pub(crate) offset: u64,
    pub(crate) limit: u32,
}

/// Jobs with the accounts of their sessions, and how many there are of each state.
#[derive(Debug, Default)]
pub(crate) struct JobsPage {
    pub(crate) rows: Vec<(JobRow, Vec<String>)>,
    pub(crate) counts: Vec<(JobState, u64)>,
}

/// Whose output, until when.
#[derive(Debug, Clone)]
pub(crate) struct LogScope {
    pub(crate) job: u64,
    pub(crate) step: Option<u32>,
    pub(crate) task: Option<u64>,
}

impl Service {
    pub(crate) async fn job(&self, caller: &Caller, id: u64) -> Result<JobView, ServiceError> {
        Ok(JobView::from(&self.visible(caller, id).await?))
    }

    /// Pages of what the caller may see: full as long as there is more.
    pub(crate) async fn jobs(&self, caller: &Caller, query: JobsQuery) -> Result<Vec<JobView>, ServiceError> {
        if query.text.is_some() || query.sort.is_some() || query.offset.is_some() {
            return self.jobs_in_order(caller, query).await;
        }
        caller.needs(caller.principal.scopes.read, "read")?;
        let states = words(query.state.as_deref(), JobState::parse)?;
        let limit = query.limit.unwrap_or(PAGE).min(PAGE_MAX);
        let JobsQuery { user, login_user, after, .. } = query;
        let mut filter = JobFilter { user, login_user, states, limit, after, reach: reach(caller) };
        let name = caller.principal.login_user.to_string();
        let is_own = |q: &Option<String>| *q == Some(name.clone());
        let acting = caller.acting.as_ref().map(|acting| acting.user.to_string());
        if let Some(only) = acting.or_else(|| caller.is_bound().then(|| name.clone())) {
            // As the proxy user, or as whom alone the credential is for: its jobs, whoever submitted them, nothing else.
            if filter.user.as_ref().is_some_and(|user| *user != only) {
                return Ok(Vec::new());
            }
            filter.user = Some(only);
        } else if !caller.is_admin() && !is_own(&filter.user) && !is_own(&filter.login_user) {
            return self.jobs_of(caller, &name, filter, limit).await;
        }
        let rows = self.store.jobs(filter).await?;
        Ok(self.seen(caller, rows).await?.iter().map(JobView::from).collect())
    }

    async fn jobs_in_order(&self, caller: &Caller, query: JobsQuery) -> Result<Vec<JobView>, ServiceError> {
        if query.after.is_some() {
            let problem = "a row to go on after is for the usual order without a search: leave rows out with an offset";
            return Err(ServiceError::input("after", problem));
        }
        let asked = JobsPageQuery {
            state: query.state.unwrap_or_default(),
            user: query.user.unwrap_or_default(),
            login_user: query.login_user.unwrap_or_default(),
            text: query.text.unwrap_or_default(),
            sort: query.sort.unwrap_or_default(),
            offset: query.offset.unwrap_or_default(),
            limit: query.limit.unwrap_or(PAGE).min(PAGE_MAX),
        };
        let page = self.jobs_page(caller, asked).await?;
        Ok(page.rows.iter().map(|(row, _)| JobView::from(row)).collect())
    }

    /// The same view as [`Self::jobs`], sorted, searched and counted.
    pub(crate) async fn jobs_page(&self, caller: &Caller, query: JobsPageQuery) -> Result<JobsPage, ServiceError> {
        caller.needs(caller.principal.scopes.read, "read")?;
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let state = some(&query.state).map(|word| JobState::parse(&word)).transpose();
        let sort = match query.sort.as_str() {
            "" | "newest" => JobSort::Newest,
            "oldest" => JobSort::Oldest,
            "priority" => JobSort::Priority,
            "name" => JobSort::Name,
            other => {
                let problem = format!("{other:?} is not newest, oldest, priority or name");
                return Err(ServiceError::input("sort", problem));
            }
        };
        let list = JobList {
            whose: whose(caller),
            reach: reach(caller),
            user: some(&query.user),
            login_user: some(&query.login_user),
            text: some(&query.text),
            state: state.map_err(|e| ServiceError::input("state", e))?,
            sort,
            limit: query.limit.min(PAGE_MAX),
            offset: query.offset,
        };
        let listed = self.store.job_list(&list).await?;
        let mut rows = Vec::with_capacity(listed.rows.len());
        for row in self.seen(caller, listed.rows).await? {
            let accounts = self.store.accounts(row.id).await?;
            rows.push((row, accounts));
        }
        Ok(JobsPage { rows, counts: listed.counts })
    }

    /// Someone's view holds jobs submitted by them and jobs that run as them: two ordered lists.
    async fn jobs_of(
        &self,
        caller: &Caller,
        name: &str,
        mut filter: JobFilter,
        limit: u32,
    ) -> Result<Vec<JobView>, ServiceError> {
        let mut as_user = filter.clone();
        let (asked_user, asked_login) = (filter.user.take(), filter.login_user.take());
        filter.login_user = Some(name.to_owned());
        filter.user = asked_user.clone();
        as_user.user = Some(name.to_owned());
        as_user.login_user = asked_login.clone();
        let mut rows = self.store.jobs(filter).await?;
        rows.extend(self.store.jobs(as_user).await?);
        let mut rows = self.seen(caller, rows).await?;
        rows.retain(|row| {
            asked_user.as_ref().is_none_or(|u| *u == row.user)
                && asked_login.as_ref().is_none_or(|l| *l == row.login_user)
        });
        rows.sort_by_key(|row| std::cmp::Reverse(row.id));
        rows.dedup_by_key(|row| row.id);
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(rows.iter().map(JobView::from).collect())
    }

    /// Those of which the caller may know.
    async fn seen(&self, caller: &Caller, rows: Vec<JobRow>) -> Result<Vec<JobRow>, ServiceError> {
        let mut seen = Vec::with_capacity(rows.len());
        for row in rows {
            // In a list everybody sees the record at most: whether a right lives doesn't matter.
            let is_there = match who(&row) {
                Ok(who) => caller.viewer().sight(&who, &row.name, || false) != Sight::None,
                Err(_) => caller.is_admin(),
            };
            if is_there {
                seen.push(row);
            }
        }
        Ok(seen)
    }

    pub(crate) async fn tasks(
        &self,
        caller: &Caller,
        id: u64,
        query: TasksQuery,
    ) -> Result<Vec<TaskView>, ServiceError> {
        let row = self.open_to(caller, id).await?;
        let job = self.worked_out(row.id).await?;
        let plan = &job.plan;
        let step = query.step.as_deref().map(|s| step_of(plan, Some(&step_ref(s)))).transpose()?;
        let mut filter = TaskFilter {
            step,
            states: words(query.state.as_deref(), TaskState::parse)?,
            from_step: step.unwrap_or(0),
            first: 0,
            limit: query.limit.unwrap_or(PAGE).min(PAGE_MAX),
        };
        if let Some(after) = &query.after {
            let (after_step, index) = position(plan, after)?;
            (filter.from_step, filter.first) = (after_step, index.saturating_add(1));
        }
        if let Some(task) = query.task {
            let step = match step {
                Some(step) => step,
                None => step_of(plan, None)?,
            };
            (filter.step, filter.from_step, filter.first, filter.limit) = (Some(step), step, task, 1);
        }
        let mut page = self.store.attempts_page(id, filter).await?;
        page.retain(|t| query.task.is_none_or(|task| task == t.task.index));
        let ids: BTreeSet<u64> = page.iter().flat_map(|t| t.attempts.iter().map(|a| a.session)).collect();
        let progress = self.dispatcher.progress(id);
        let sessions = self.store.sessions_by_id(&ids.into_iter().collect::<Vec<_>>()).await?;
        let proofs = self.dispatcher.proofs(&sessions).await?;
        let sessions: HashMap<_, _> = sessions.into_iter().map(|s| (s.id, s)).collect();
        Ok(page.into_iter().map(|t| TaskView::new(id, plan, t, &sessions, &progress).with_proofs(&proofs)).collect())
    }

    /// Answers when the job is over, or after the time.
    pub(crate) async fn wait(
        &self,
        caller: &Caller,
        authn: &Authn,
        id: u64,
        timeout_s: Option<u64>,
    ) -> Result<JobView, ServiceError> {
        let mut listener = self.events.listen();
        let time = Duration::from_secs(timeout_s.unwrap_or(WAIT_MAX_S).min(WAIT_MAX_S));
        let until = tokio::time::Instant::now() + time;
        let mut is_late = false;
        loop {
            // What let them ask may end while they wait.
            if !caller.is_still(&self.identity, authn).await {
                return Err(no_such_job(id));
            }
            let row = self.visible(caller, id).await?;
            if is_late || (row.state.is_over() && row.ended_at.is_some()) {
                return Ok(JobView::from(&row));
            }
            is_late = tokio::time::timeout_at(until, listener.changed(id)).await.is_err();
        }
    }

    /// Checks that the log may be read, and says where it is.
    pub(crate) async fn log_scope(
        &self,
        caller: &Caller,
        id: u64,
        step: Option<&str>,
        task: Option<u64>,
    ) -> Result<LogScope, ServiceError> {
        let row = self.open_to(caller, id).await?;
        if step.is_none() && task.is_none() {
            return Ok(LogScope { job: id, step: None, task: None });
        }
        let job = self.worked_out(row.id).await?;
        let plan = &job.plan;
        let step = step_of(plan, step.map(step_ref).as_ref())?;
        if let Some(task) = task {
            plan.task(step, task)?;
        }
        Ok(LogScope { job: id, step: Some(step), task })
    }

    /// Whoever reads what a job of another's name printed is on record before they read it.
    pub(crate) async fn views_log(&self, caller: &Caller, scope: &LogScope) -> Result<(), ServiceError> {
        self.looks_at(caller, scope, Act::ViewLog, None).await
    }

    /// The same of whoever takes a file of it.
    pub(crate) async fn downloads(&self, caller: &Caller, scope: &LogScope, path: &str) -> Result<(), ServiceError> {
        self.looks_at(caller, scope, Act::Download, Some(path)).await
    }

    async fn looks_at(
        &self,
        caller: &Caller,
        scope: &LogScope,
        act: Act,
        path: Option<&str>,
    ) -> Result<(), ServiceError> {
        let row = self.store.job(scope.job).await?.ok_or_else(|| no_such_job(scope.job))?;
        let login = caller.principal.login_user.as_str();
        let is_own = login == row.user;
        // The submitter reads it in the name it has; whoever looks after others' jobs, in their own.
        let actor = if login == row.login_user { caller.actor().for_user(&row.user) } else { caller.actor() };
        let record = Record::done(act, actor).grant(caller.acting.as_ref().map(|a| a.grant)).job(row.id);
        let record = record.with("of", &row.user).with("step", scope.step).with("task", scope.task).with("path", path);
        match self.audit.write(record).await {
            Ok(_) => Ok(()),
            // Nobody is kept from their own by a full disk.
            Err(error) if is_own => {
                tracing::error!(%error, job = row.id, "a look at a log is not in the audit");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn log_reader(&self, scope: &LogScope, filter: Filter) -> Reader {
        self.logs.reader(scope.job, Filter { step: scope.step, task: scope.task, ..filter })
    }

    /// Nothing more will be printed.
    pub(crate) async fn is_log_over(&self, scope: &LogScope) -> Result<bool, ServiceError> {
        let row = self.store.job(scope.job).await?.ok_or_else(|| no_such_job(scope.job))?;
        if row.state.is_over() && row.ended_at.is_some() {
            return Ok(true);
        }
        let (Some(step), Some(task)) = (scope.step, scope.task) else { return Ok(false) };
        let filter = TaskFilter { step: Some(step), states: Vec::new(), from_step: step, first: task, limit: 1 };
        let tasks = self.store.tasks(scope.job, filter).await?;
        Ok(tasks.first().is_none_or(|t| t.index != task || t.state.is_over()))
    }

    pub(crate) async fn workers(&self, caller: &Caller) -> Result<Vec<WorkerView>, ServiceError> {
        caller.needs(caller.principal.scopes.read, "read")?;
        self.all_workers().await
    }

    pub(crate) async fn all_workers(&self) -> Result<Vec<WorkerView>, ServiceError> {
        let known = self.dispatcher.known_workers().await?;
        let view = |known: &KnownWorker| WorkerView::new(known, self.dispatcher.used(&known.place.worker));
        Ok(known.iter().map(view).collect())
    }

    /// What an account is on each worker's host, by the host's own word: one's own, or any for who looks after all.
    pub(crate) async fn account_check(&self, caller: &Caller, name: &str) -> Result<AccountCheckView, ServiceError> {
        caller.needs(caller.principal.scopes.read, "read")?;
        let own = caller.acting.as_ref().map_or(caller.principal.login_user.as_str(), |acting| acting.user.as_str());
        if name != own && !caller.is_auditor() {
            return Err(ServiceError::AdminOnly("ask what other accounts are on the hosts"));
        }
        let account = warrant::AccountName::parse(name).map_err(|e| ServiceError::input("account", e))?;
        let places = self.dispatcher.places().await?;
        let hosts = join_all(places.iter().map(|place| self.account_on(place, account.as_str()))).await;
        let exact: Vec<_> = hosts.iter().filter_map(|h| h.run_as.as_ref()).map(sorted).collect();
        let same = (exact.len() > 1).then(|| exact.windows(2).all(|pair| pair[0] == pair[1]));
        Ok(AccountCheckView { account: name.to_owned(), hosts, same })
    }

    async fn account_on(&self, place: &Place, account: &str) -> AccountOnHostView {
        let (there, run_as, why) = match self.dispatcher.look_up(&place.worker, account).await {
            Some(Ok(Some(a))) => {
                let found = RunAsView { name: a.name, uid: Some(a.uid), gid: Some(a.gid), groups: Some(a.groups) };
                ("yes", Some(found), None)
            }
            Some(Ok(None)) => ("no", None, Some("the host knows no such account".to_owned())),
            Some(Err(error)) => ("unknown", None, Some(error)),
            None => ("unknown", None, Some("the worker is away, or did not answer".to_owned())),
        };
        AccountOnHostView { worker: place.worker.clone(), there, run_as, why }
    }

    /// Sessions that are alive on a worker, of jobs that the caller may see.
    pub(crate) async fn sessions_on(
        &self,
        caller: &Caller,
        worker: &str,
    ) -> Result<Vec<store::SessionRow>, ServiceError> {
        caller.needs(caller.principal.scopes.read, "read")?;
        let mut seen = Vec::new();
        for session in self.store.live_sessions(None).await?.into_iter().filter(|s| s.worker == worker) {
            match self.visible(caller, session.job).await {
                Ok(_) => seen.push(session),
                Err(ServiceError::NoSuchJob(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(seen)
    }

    /// As whom a job runs on each worker, why, and what really happened.
    pub(crate) async fn explain_job(&self, caller: &Caller, id: u64) -> Result<ExplainView, ServiceError> {
        let row = self.visible(caller, id).await?;
        let who = who(&row).map_err(|_| no_such_job(id))?;
        let job = self.worked_out(id).await?;
        let steps = requirements(&job.plan);
        let workers = self.verdicts(&who, Some((&row.name, &steps)), None, crate::clock::now()).await?;
        let sessions = self.store.sessions(id).await?;
        let mut proofs = self.dispatcher.proofs(&sessions).await?;
        let sessions = sessions.into_iter().map(|s| {
            let proof = proofs.remove(&s.id);
            SessionView::new(s, proof)
        });
        let refused = (row.state == JobState::Badlogin).then(|| RefusedView {
            rule: "badlogin".to_owned(),
            value: row.user.clone(),
            hint: "submit it again once the account is right".to_owned(),
            text: row.reason.clone().unwrap_or_default(),
        });
        Ok(ExplainView {
            job: Some(id),
            login_user: row.login_user,
            user: Some(row.user),
            rules: Vec::new(),
            refused,
            workers,
            sessions: sessions.collect(),
        })
    }

    /// As whom a job would run if the caller submitted it, now or then; or somebody else, for those who may ask that.
    pub(crate) async fn explain(&self, caller: &Caller, query: ExplainQuery) -> Result<ExplainView, ServiceError> {
        caller.needs(caller.principal.scopes.read, "read")?;
        let places = self.dispatcher.places().await?;
        let only = query.worker.as_deref();
        if let Some(name) = only.filter(|name| !places.iter().any(|p| p.worker == *name)) {
            return Err(ServiceError::NoSuchWorker(name.to_owned()));
        }
        let at = query.at.as_deref().map(|text| micros(text).map_err(|e| ServiceError::input("at", format!("it {e}"))));
        let at = at.transpose()?.unwrap_or_else(crate::clock::now);
        let (user, acting_as) = (query.user.as_deref(), query.acting_as.as_deref());
        let (login_user, is_admin, mut identified) = self.foreseen(caller, user, acting_as, at).await?;
        if let (Some(priority), Identified::As(_, rules)) = (query.priority, &identified)
            && let Err(refusal) = self.may_anybody_have_priority(is_admin, priority)
        {
            identified = Identified::Refused(refusal, rules.clone());
        }
        let (user, refused, rules, workers) = match identified {
            Identified::As(who, rules) => {
                // Nothing can be submitted as a user whose row can't be understood, whatever each worker says.
                let refused = self.identity.settings(&who.user).await?.err().as_ref().map(RefusedView::from);
                (Some(who.user.to_string()), refused, rules, self.verdicts(&who, None, only, at).await?)
            }
            Identified::Refused(refusal, rules) => {
                let verdict = |place: &Place| VerdictView {
                    worker: place.worker.clone(),
                    mode: place.mode.as_str(),
                    run_as: None,
                    verdict: "refused",
                    refused: Some(RefusedView::from(&refusal)),
                    rules: rules.clone(),
                };
                let wanted = |p: &&Place| only.is_none_or(|name| name == p.worker);
                let workers = places.iter().filter(wanted).map(verdict).collect();
                (None, Some(RefusedView::from(&refusal)), rules, workers)
            }
        };
        let login_user = login_user.to_string();
        Ok(ExplainView { job: None, login_user, user, rules, refused, workers, sessions: Vec::new() })
    }

    /// What would become of a submission: as whom, on which workers, or why not. The same questions as those of the
    /// submission and of the dispatch, and nothing is changed or recorded.
    pub(crate) async fn preview(&self, caller: &Caller, submission: Submission) -> Result<PreviewView, ServiceError> {
        let principal = &caller.principal;
        caller.needs(principal.scopes.submit, "submit")?;
        let (spec, plan) = self.understood(principal, submission.spec).await?;
        for after in &spec.after {
            self.visible(caller, after.job).await?;
        }
        let now = crate::clock::now();
        let request = Request { user: submission.user, job: Some(plan.name().to_owned()) };
        let mut view = PreviewView {
            name: plan.name().to_owned(),
            tasks: plan.steps().iter().map(|s| s.tasks).sum(),
            login_user: principal.login_user.to_string(),
            user: None,
            rules: Vec::new(),
            refused: None,
            workers: Vec::new(),
        };
        let who = match self.identified(principal, caller.acting.as_ref(), &request, now).await? {
            Identified::As(who, rules) => {
                view.rules = rules;
                who
            }
            Identified::Refused(refusal, rules) => {
                (view.rules, view.refused) = (rules, Some(RefusedView::from(&refusal)));
                return Ok(view);
            }
        };
        view.user = Some(who.user.to_string());
        if let Err(refusal) = self.fits_its_user(&who, &plan).await? {
            view.refused = Some(RefusedView::from(&refusal));
            return Ok(view);
        }
        view.workers = self.verdicts(&who, Some((plan.name(), &requirements(&plan))), None, now).await?;
        Ok(view)
    }

    async fn verdicts(
        &self,
        who: &Who,
        job: Option<(&str, &[Requires])>,
        only: Option<&str>,
        at: i64,
    ) -> Result<Vec<VerdictView>, ServiceError> {
        let (job, steps) = job.unzip();
        let mut places = self.dispatcher.places().await?;
        places.retain(|p| only.is_none_or(|name| name == p.worker));
        let people = self.identity.people(who.login_user.as_str(), Some(who.user.as_str())).await?;
        let carried = self.identity.settings(&who.user).await?;
        let decide = |place| {
            let decision = within(policy::decide(who, job, place, &people, at), place, who, &carried);
            required(decision, place, steps.unwrap_or_default())
        };
        let verdict = async |place| self.verdict(decide(place), place).await;
        Ok(join_all(places.iter().map(verdict)).await)
    }

    async fn verdict(&self, decision: Decision, place: &Place) -> VerdictView {
        let (verdict, run_as, refused, rules) = match decision {
            Decision::Run(plan, rules) => match self.run_as(place, &plan.account).await {
                Ok(run_as) => ("run", Some(run_as), None, rules),
                Err(refused) => ("refused", None, Some(refused), rules),
            },
            Decision::Waiting(refusal, rules) => ("waiting", None, Some(RefusedView::from(&refusal)), rules),
            Decision::Refused(refusal, rules) | Decision::Blocked(refusal, rules) => {
                ("refused", None, Some(RefusedView::from(&refusal)), rules)
            }
        };
        VerdictView { worker: place.worker.clone(), mode: place.mode.as_str(), run_as, verdict, refused, rules }
    }

    /// What the account is on that host: the host's own answer. A throwaway account is in no database.
    async fn run_as(&self, place: &Place, account: &Account) -> Result<RunAsView, RefusedView> {
        let only_name = |name: &str| RunAsView { name: name.to_owned(), uid: None, gid: None, groups: None };
        let Account::Named { name, .. } = account else { return Ok(only_name("throwaway")) };
        let unknown = |text: String| RefusedView {
            rule: "account_on_host".to_owned(),
            value: name.to_string(),
            hint: format!("see `getent passwd {name}` on the host of {}", place.worker),
            text,
        };
        match self.dispatcher.look_up(&place.worker, name.as_str()).await {
            Some(Ok(Some(a))) => {
                Ok(RunAsView { name: a.name, uid: Some(a.uid), gid: Some(a.gid), groups: Some(a.groups) })
            }
            Some(Ok(None)) => Err(unknown(format!("the host of {} knows no account {name}", place.worker))),
            Some(Err(error)) => Err(unknown(error)),
            None => Ok(only_name(name.as_str())),
        }
    }

    /// What `doctor` wants to know.
    pub(crate) async fn farm(&self, caller: &Caller) -> Result<FarmView, ServiceError> {
        caller.needs(caller.principal.scopes.read, "read")?;
        let ready = self.store.ready(1000, crate::clock::now()).await?;
        let ready_tasks = ready.iter().map(|r| r.count).sum();
        let mut farm = FarmView {
            version: env!("CARGO_PKG_VERSION"),
            farm: self.facts.farm.clone(),
            operator: self.facts.operator.clone(),
            url: self.facts.url.clone(),
            sessions_live: self.dispatcher.live_sessions(),
            queue: QueueView { ready_steps: ready.len(), ready_tasks },
            data: None,
            config: None,
            exclusions: None,
            troubles: None,
            audit: None,
        };
        if caller.is_admin() {
            farm.exclusions = Some(self.store.exclusions().await?.into_iter().map(ExclusionView::from).collect());
            farm.troubles = Some(self.health.troubles().await);
            farm.audit = Some(AuditView::of(self.audit.state()));
            farm.data = Some(self.facts.data.display().to_string());
            farm.config = Some(ConfigView {
                listen: self.settings.listen.clone(),
                jobs_keep_days: self.settings.jobs_keep_days,
                logs_keep_days: self.settings.logs_keep_days,
                enforce_password: self.enforces_password(),
                batch_target_ms: self.settings.batch_target_ms,
                lease_seconds: self.settings.lease_seconds,
                log_max_mib: self.settings.log_max_mib,
            });
        }
        Ok(farm)
    }
}

/// Whose jobs somebody sees.
fn whose(caller: &Caller) -> Whose {
    let login = caller.principal.login_user.as_str();
    match &caller.acting {
        Some(acting) => Whose::RunAs(acting.user.to_string()),
        None if caller.is_bound() => Whose::RunAs(login.to_owned()),
        None if caller.is_admin() => Whose::Everybody,
        None => Whose::Of(login.to_owned()),
    }
}

/// Which of the jobs that run as somebody they see, acting as that one by grants for some names.
fn reach(caller: &Caller) -> Option<Reach> {
    let names = caller.acting.as_ref().filter(|acting| !acting.jobs.is_all())?.jobs.patterns().to_vec();
    Some(Reach { login_user: caller.principal.login_user.to_string(), names })
}

/// What each step asks of its worker.
fn requirements(plan: &Plan) -> Vec<Requires> {
    plan.steps().iter().map(|step| step.requires.clone()).collect()
}

/// The decision, as far as what the job asks of workers lets it be: it runs where one of its steps may.
fn required(decision: Decision, place: &Place, steps: &[Requires]) -> Decision {
    let (Decision::Run(_, rules) | Decision::Waiting(_, rules)) = &decision else { return decision };
    let unmet = steps.iter().map(|requires| place.admits(requires).err()).collect::<Option<Vec<_>>>();
    let Some(first) = unmet.and_then(|all| all.into_iter().next()) else { return decision };
    let refusal = Refusal {
        rule: "requires".to_owned(),
        value: place.worker.clone(),
        text: format!("the job asks for workers with something else: {first}"),
        hint: "ask for less, or have the worker labelled so".to_owned(),
    };
    Decision::Refused(refusal, rules.clone())
}

/// The decision, as far as what its user carries lets it be.
pub(crate) fn within(decision: Decision, place: &Place, who: &Who, carried: &Carried) -> Decision {
    let Decision::Run(_, rules) = &decision else { return decision };
    let refusal = match carried {
        Err(refusal) => return Decision::Blocked(refusal.clone(), rules.clone()),
        Ok(settings) => match place.admits(&settings.workers) {
            Ok(()) => return decision,
            Err(unmet) => Refusal {
                rule: "user_workers".to_owned(),
                value: place.worker.clone(),
                text: format!("jobs of {} run on workers with {}: {unmet}", who.user, settings.workers.as_str()),
                hint: format!("an administrator changes that: `stead users add {}`", who.user),
            },
        },
    };
    Decision::Refused(refusal, rules.clone())
}

/// An account whose groups can be compared: hosts list them in any order.
fn sorted(account: &RunAsView) -> (String, Option<u32>, Option<u32>, Vec<u32>) {
    let mut groups = account.groups.clone().unwrap_or_default();
    groups.sort_unstable();
    (account.name.clone(), account.uid, account.gid, groups)
}

fn step_ref(text: &str) -> StepRef {
    text.parse().map_or_else(|_| StepRef::Name(text.to_owned()), StepRef::Index)
}

/// `STEP.TASK` or `TASK`.
fn position(plan: &Plan, text: &str) -> Result<(u32, u64), ServiceError> {
    let wrong = || ServiceError::input("after", format!("{text:?} is no STEP.TASK"));
    let (step, task) = match text.rsplit_once('.') {
        Some((step, task)) => (step_of(plan, Some(&step_ref(step)))?, task),
        None => (step_of(plan, None)?, text),
    };
    Ok((step, task.parse().map_err(|_| wrong())?))
}

fn words<T>(text: Option<&str>, parse: impl Fn(&str) -> Result<T, job::UnknownWord>) -> Result<Vec<T>, ServiceError> {
    let parts = text.unwrap_or_default().split(',').map(str::trim).filter(|w| !w.is_empty());
    parts.map(|word| parse(word).map_err(|e| ServiceError::input("state", e))).collect()
}
