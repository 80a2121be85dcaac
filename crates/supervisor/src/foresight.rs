//! What would be: for another person, at another time, under other rows. Asks the same functions as the act itself, and
//! changes nothing.

use crate::ask::within;
use crate::caller::{Asks, Caller};
use crate::clock;
use crate::dispatch::{place, who};
use crate::error::ServiceError;
use crate::identity::{Carried, micros, roles};
use crate::service::Service;
use crate::views::GrantView;
use job::{JobState, Requires};
use policy::{
    Accept, Acting, Ask, Channel, Decision, Effect, Grant, GrantState, Groups, Holder, Identified, JobNames, Kind,
    LoginUser, Mode, People, Person, Place, Principal, ProxyAccount, Refusal, Request, Roles, Scopes, Sight, User, Who,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use store::{JobFilter, JobRow};
use warrant::Account;

/// Jobs looked at unless told, and at most.
const JOBS: u32 = 1000;
const JOBS_MAX: u32 = 10_000;
/// The number of a grant that isn't there yet.
const NEW_GRANT: u64 = 0;

// --- another person, another time

impl Service {
    /// As whom a job would be submitted then, and whether by an administrator: by the caller, or by somebody else about
    /// whom they may ask.
    pub(crate) async fn foreseen(
        &self,
        caller: &Caller,
        user: Option<&str>,
        acting_as: Option<&str>,
        at: i64,
    ) -> Result<(LoginUser, bool, Identified), ServiceError> {
        let login = caller.principal.login_user.as_str();
        let is_another = caller.is_auditor() && user.is_some_and(|name| name != login);
        let (principal, request) = match user.filter(|_| is_another) {
            Some(name) => (self.imagined(name)?, Request::default()),
            None => (caller.principal.clone(), Request { user: user.map(str::to_owned), job: None }),
        };
        let found = if is_another {
            self.imagined_acting(principal, acting_as, at).await?
        } else {
            self.own_acting(caller, acting_as, at).await?.map(|acting| (principal, acting))
        };
        let login = caller.principal.login_user.clone();
        match found {
            Ok((principal, acting)) => {
                let identified = self.identified(&principal, acting.as_ref(), &request, at).await?;
                // As a request of theirs would have it: an administrator, and as oneself.
                let is_admin = principal.roles.admin && acting.is_none() && (is_another || !caller.is_bound());
                Ok((principal.login_user, is_admin, identified))
            }
            Err(refusal) => {
                let asked = user.filter(|_| is_another).map(login_user).transpose()?;
                Ok((asked.unwrap_or(login), false, Identified::Refused(refusal, Vec::new())))
            }
        }
    }

    /// Somebody as they would be if they signed in.
    fn imagined(&self, name: &str) -> Result<Principal, ServiceError> {
        Ok(Principal {
            login_user: login_user(name)?,
            uid: None,
            roles: Roles::default(),
            is_operator: name == "root" || self.facts.operator.as_deref() == Some(name),
            channel: Channel::Unix,
            client: String::new(),
            credential: None,
            scopes: Scopes::ALL,
            source: format!("as if {name} had signed in"),
        })
    }

    /// With their roles, and as whom they would act. One who is named is acted as alone: they would switch first.
    async fn imagined_acting(
        &self,
        mut principal: Principal,
        acting_as: Option<&str>,
        at: i64,
    ) -> Result<Result<(Principal, Option<Acting>), policy::Refusal>, ServiceError> {
        let mut people = (*self.identity.people(principal.login_user.as_str(), acting_as).await?).clone();
        if acting_as.is_some() {
            people.association = None;
        }
        principal.roles = match policy::admit(&principal, &people) {
            Ok(roles) => roles,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let ask = acting_as.map_or(Ask::Nothing, Ask::Named);
        Ok(policy::acting(&principal, ask, &people, at).map(|acting| (principal, acting)))
    }

    async fn own_acting(
        &self,
        caller: &Caller,
        acting_as: Option<&str>,
        at: i64,
    ) -> Result<Result<Option<Acting>, policy::Refusal>, ServiceError> {
        let is_active = |name: &str| caller.acting.as_ref().is_some_and(|a| a.user.as_str() == name);
        let Some(name) = acting_as.filter(|name| !is_active(name)) else { return Ok(Ok(caller.acting.clone())) };
        if caller.asks != Asks::Nothing {
            return Err(ServiceError::input("as", format!("the request itself is for another than {name:?}")));
        }
        let people = self.identity.people(caller.principal.login_user.as_str(), Some(name)).await?;
        Ok(policy::acting(&caller.principal, Ask::Named(name), &people, at))
    }
}

fn login_user(name: &str) -> Result<LoginUser, ServiceError> {
    LoginUser::parse(name).map_err(|e| ServiceError::input("user", format!("{name:?} is no login name: {e}")))
}

// --- the end of a grant

/// Jobs that are looked at together.
const PAIR_JOBS: u32 = 500;
/// More are not told one by one.
const TOUCHED_MAX: usize = 200;

/// What the end of a grant would touch.
#[derive(Debug)]
pub(crate) struct TouchedView {
    pub(crate) grant: GrantView,
    /// Their right to their user would have ended, the newest first.
    pub(crate) jobs: Vec<Touched>,
    /// There may be more.
    pub(crate) is_cut: bool,
}

#[derive(Debug)]
pub(crate) struct Touched {
    pub(crate) row: JobRow,
    /// Whoever answers for a proxy user ends its grants, and sees none of its jobs for that.
    pub(crate) is_seen: bool,
}

impl Service {
    /// Which jobs would have no right to their user any more: for whoever may end the grant.
    pub(crate) async fn would_end(&self, caller: &Caller, id: u64) -> Result<TouchedView, ServiceError> {
        caller.needs(caller.principal.scopes.read, "read")?;
        let row = self.may_end(caller, id).await?;
        let now = clock::now();
        let login = (!row.login_user.starts_with("group:")).then_some(row.login_user.as_str());
        let states = [JobState::Pending, JobState::Running, JobState::Suspended, JobState::Blocked];
        let rows = self.store.jobs_of_pair(login, &row.proxy_user, &states, PAIR_JOBS, None).await?;
        let mut is_cut = rows.len() >= PAIR_JOBS as usize;
        let mut without: HashMap<String, People> = HashMap::new();
        let mut jobs = Vec::new();
        for job in rows {
            let Ok(who) = who(&job) else { continue };
            if !without.contains_key(&job.login_user) {
                let mut people = (*self.identity.people(&job.login_user, Some(&row.proxy_user)).await?).clone();
                for grant in people.grants.iter_mut().filter(|g| g.id == id) {
                    grant.state = GrantState::Revoked;
                }
                without.insert(job.login_user.clone(), people);
            }
            let Some(people) = without.get(&job.login_user) else { continue };
            let wanted = policy::For { job: Some(&job.name), place: None };
            if matches!(policy::right(&who, wanted, people, now), Err(policy::NoRight::Ended(_))) {
                jobs.push(job);
            }
        }
        is_cut |= jobs.len() > TOUCHED_MAX;
        jobs.truncate(TOUCHED_MAX);
        let mut touched = Vec::with_capacity(jobs.len());
        for row in jobs {
            let is_seen = self.sight(caller, &row).await? != Sight::None;
            touched.push(Touched { row, is_seen });
        }
        Ok(TouchedView { grant: GrantView::of(&Ok(row), now), jobs: touched, is_cut })
    }
}

// --- other rows

/// Rows as they might be.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PolicyChange")]
pub(crate) struct Change {
    /// To be added.
    pub(crate) grants: Vec<NewGrant>,
    /// To be revoked.
    pub(crate) revoke: Vec<u64>,
    pub(crate) users: BTreeMap<String, UserChange>,
    pub(crate) workers: BTreeMap<String, WorkerChange>,
    /// So many of the last jobs.
    pub(crate) jobs: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PolicyGrant")]
pub(crate) struct NewGrant {
    pub(crate) login_user: String,
    pub(crate) proxy_user: String,
    pub(crate) from: Option<String>,
    pub(crate) until: Option<String>,
    pub(crate) workers: Option<String>,
    pub(crate) jobs: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PolicyUser")]
pub(crate) struct UserChange {
    #[serde(rename = "type")]
    kind: Option<Kind>,
    roles: Option<Vec<String>>,
    disabled: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PolicyWorker")]
pub(crate) struct WorkerChange {
    pub(crate) mode: Option<String>,
    pub(crate) proxy_account: Option<String>,
    pub(crate) accept: Option<Vec<String>>,
    pub(crate) labels: Option<Vec<String>>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DiffView {
    /// So many jobs were looked at.
    pub(crate) jobs: usize,
    pub(crate) changes: Vec<ChangedView>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChangedView {
    pub(crate) job: u64,
    pub(crate) name: String,
    pub(crate) login_user: String,
    pub(crate) user: String,
    pub(crate) worker: String,
    pub(crate) before: Foretold,
    pub(crate) after: Foretold,
    /// What makes the difference.
    pub(crate) rule: Option<policy::Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Foretold {
    pub(crate) verdict: &'static str,
    pub(crate) run_as: Option<String>,
}

/// A change, understood.
#[derive(Debug)]
struct Changes {
    grants: Vec<(User, Grant)>,
    revoke: Vec<u64>,
    users: BTreeMap<String, Person>,
    places: Vec<(Place, Place)>,
}

/// Jobs for which the answer is the same.
#[derive(Debug)]
struct Case {
    who: Who,
    name: String,
    jobs: Vec<u64>,
}

impl Service {
    /// Which of the last jobs would run as somebody else, or not at all.
    pub(crate) async fn policy_diff(&self, caller: &Caller, change: Change) -> Result<DiffView, ServiceError> {
        caller.needs_admin("ask what a change would do")?;
        let limit = change.jobs.unwrap_or(JOBS).min(JOBS_MAX);
        let changes = self.changes(change).await?;
        let rows = self.store.jobs(JobFilter { limit, ..JobFilter::default() }).await?;
        let mut cases: HashMap<_, Case> = HashMap::new();
        for row in &rows {
            // A job whose names can't be read runs nowhere, before and after.
            let Ok(who) = who(row) else { continue };
            let key = (&row.login_user, &row.user, &row.via, &row.name);
            let case = cases.entry(key).or_insert_with(|| Case { who, name: row.name.clone(), jobs: Vec::new() });
            case.jobs.push(row.id);
        }
        let mut asked = Vec::with_capacity(cases.len());
        for case in cases.into_values() {
            let (login, user) = (case.who.login_user.as_str(), case.who.user.as_str());
            let before = self.identity.people(login, Some(user)).await?;
            let after = self.changed_people(&changes, &case.who, &before).await;
            let carried = self.identity.settings(&case.who.user).await?;
            asked.push((case, before, after, carried));
        }
        let work = tokio::task::spawn_blocking(move || compare(&changes, asked, clock::now()));
        let changes = work.await.map_err(|e| ServiceError::Conflict(format!("the comparison ended early: {e}")))?;
        Ok(DiffView { jobs: rows.len(), changes })
    }

    async fn changes(&self, change: Change) -> Result<Changes, ServiceError> {
        for id in &change.revoke {
            if self.store.grant(*id).await?.is_none() {
                return Err(ServiceError::NoSuchGrant(*id));
            }
        }
        let mut users = BTreeMap::new();
        for (name, change) in &change.users {
            let old = self.store.user(name).await?.map(|row| crate::identity::person(&row));
            users.insert(name.clone(), person(name, change, old)?);
        }
        let mut workers = change.workers;
        let mut places = Vec::new();
        for place in self.dispatcher.places().await? {
            // Whether a worker is there right now is not what is asked.
            let before = Place { online: true, drained: false, panic: None, ..place };
            let after = match workers.remove(&before.worker) {
                Some(change) => changed_place(&before, change)?,
                None => before.clone(),
            };
            places.push((before, after));
        }
        if let Some((name, _)) = workers.pop_first() {
            return Err(ServiceError::NoSuchWorker(name));
        }
        let grants = change.grants.iter().map(new_grant).collect::<Result<_, _>>()?;
        Ok(Changes { grants, revoke: change.revoke, users, places })
    }

    /// What would be known of the two names of a job.
    async fn changed_people(&self, changes: &Changes, who: &Who, before: &People) -> People {
        let mut people = before.clone();
        if let Some(person) = changes.users.get(who.login_user.as_str()) {
            people.login = Some(person.clone());
        }
        if let Some(person) = changes.users.get(who.user.as_str()) {
            // As when a proxy user is made.
            if person.kind == Kind::Proxy && people.may_be_acted_as.is_none() {
                people.may_be_acted_as = Some(true);
            }
            people.target = Some(person.clone());
        }
        for grant in people.grants.iter_mut().filter(|g| changes.revoke.contains(&g.id)) {
            grant.state = GrantState::Revoked;
        }
        let added: Vec<_> =
            changes.grants.iter().filter(|(user, _)| *user == who.user).map(|(_, g)| g.clone()).collect();
        if added.iter().any(|g| matches!(g.holder, Holder::Group(_))) && people.groups == Groups::default() {
            people.groups = self.identity.groups(who.login_user.as_str(), None).await;
        }
        if !added.is_empty() && people.grants.is_empty() {
            people.is_system = self.identity.seems_system(who.user.as_str()).await;
        }
        people.grants.extend(added);
        people
    }
}

fn person(name: &str, change: &UserChange, old: Option<Person>) -> Result<Person, ServiceError> {
    User::parse(name).map_err(|e| ServiceError::input("users", format!("{name:?} is no user name: {e}")))?;
    let words = change.roles.as_ref().map(|words| roles(&words.join(",")));
    let words = words.transpose().map_err(|e| ServiceError::input("roles", format!("of {name}: {e}")))?;
    let old = old.unwrap_or_else(|| Person {
        name: name.to_owned(),
        kind: Kind::Login,
        roles: Roles::default(),
        disabled: false,
        fault: None,
    });
    Ok(Person {
        kind: change.kind.unwrap_or(old.kind),
        roles: words.unwrap_or(old.roles),
        disabled: change.disabled.unwrap_or(old.disabled),
        ..old
    })
}

fn new_grant(grant: &NewGrant) -> Result<(User, Grant), ServiceError> {
    let wrong = |what, e: &dyn std::fmt::Display| ServiceError::input(what, format!("of a grant to add: {e}"));
    let time =
        |what, text: &Option<String>| text.as_deref().map(|t| micros(t).map_err(|e| wrong(what, &e))).transpose();
    let user = User::parse(&grant.proxy_user).map_err(|e| wrong("proxy_user", &e))?;
    let workers = Requires::parse(grant.workers.as_deref().unwrap_or_default());
    let grant = Grant {
        id: NEW_GRANT,
        holder: Holder::parse(&grant.login_user).map_err(|e| wrong("login_user", &e))?,
        state: GrantState::Active,
        from: time("from", &grant.from)?,
        until: time("until", &grant.until)?,
        workers: workers.map_err(|e| wrong("workers", &e))?,
        jobs: JobNames::parse(grant.jobs.as_deref().unwrap_or_default()).map_err(|e| wrong("jobs", &e))?,
        approved: true,
        ended_by: None,
        changed_outside: false,
        fault: None,
    };
    Ok((user, grant))
}

fn changed_place(before: &Place, change: WorkerChange) -> Result<Place, ServiceError> {
    let wrong = |e: &dyn std::fmt::Display| ServiceError::input("workers", format!("{}: {e}", before.worker));
    let mode = |word: &str| Mode::parse(word).ok_or_else(|| wrong(&format!("mode = {word:?} is no mode")));
    let account = |name: &str| place::proxy_account(name).map_err(|e| wrong(&e));
    let accept = |names: &Vec<String>| place::accept(names).map_err(|e| wrong(&e));
    let proxy_account: Option<ProxyAccount> = change.proxy_account.as_deref().map(account).transpose()?;
    let accept: Option<Accept> = change.accept.as_ref().map(accept).transpose()?;
    Ok(Place {
        mode: change.mode.as_deref().map(mode).transpose()?.unwrap_or(before.mode),
        proxy_account: proxy_account.or_else(|| before.proxy_account.clone()),
        accept: accept.unwrap_or_else(|| before.accept.clone()),
        labels: change.labels.unwrap_or_else(|| before.labels.clone()),
        ..before.clone()
    })
}

/// The differences, newest job first.
fn compare(changes: &Changes, asked: Vec<(Case, Arc<People>, People, Carried)>, now: i64) -> Vec<ChangedView> {
    let mut found = Vec::new();
    for (Case { who, name, jobs }, before_people, after_people, carried) in asked {
        let decide = |place: &Place, people: &People| {
            foretold(&within(policy::decide(&who, Some(&name), place, people, now), place, &who, &carried))
        };
        for (before_place, after_place) in &changes.places {
            let (before, _) = decide(before_place, &before_people);
            let (after, rule) = decide(after_place, &after_people);
            if before == after {
                continue;
            }
            found.extend(jobs.iter().map(|job| ChangedView {
                job: *job,
                name: name.clone(),
                login_user: who.login_user.to_string(),
                user: who.user.to_string(),
                worker: after_place.worker.clone(),
                before: before.clone(),
                after: after.clone(),
                rule: rule.clone(),
            }));
        }
    }
    found.sort_by(|a, b| (b.job, &a.worker).cmp(&(a.job, &b.worker)));
    found
}

/// The answer in a word, and the rule that gave it.
fn foretold(decision: &Decision) -> (Foretold, Option<policy::Rule>) {
    let refused = |refusal: &Refusal, effect| {
        let (rule, text) = (refusal.rule.clone(), refusal.text.clone());
        let known = decision.rules().iter().rev().find(|known| known.rule == rule).cloned();
        known.unwrap_or_else(|| policy::Rule { rule, effect, text, source: "users".to_owned() })
    };
    let (verdict, run_as, rule) = match decision {
        Decision::Run(plan, rules) => {
            let name = match &plan.account {
                Account::Named { name, .. } => name.to_string(),
                Account::Throwaway => "throwaway".to_owned(),
            };
            ("run", Some(name), rules.iter().rev().find(|rule| rule.effect == Effect::Selects).cloned())
        }
        Decision::Waiting(refusal, _) => ("waiting", None, Some(refused(refusal, Effect::Waits))),
        Decision::Refused(refusal, _) => ("refused", None, Some(refused(refusal, Effect::Refuses))),
        Decision::Blocked(refusal, _) => ("blocked", None, Some(refused(refusal, Effect::Refuses))),
    };
    (Foretold { verdict, run_as }, rule)
}
