//! Changes of who may act as whom: users, grants and associations. Each is decided, written down, then stored.
//!
//! Grants are given by administrators and by those who answer for a proxy user; anybody may ask for one, or give one
//! that serves them up.

use super::Service;
use crate::audit::{Act, Actor, Intent, Record};
use crate::caller::Caller;
use crate::clock;
use crate::error::ServiceError;
use crate::events::Event;
use crate::identity::{micros, person, roles, understood, user};
use crate::views::{GrantView, UserView};
use futures_util::future::join_all;
use job::{JobAction, JobState, Requires};
use policy::{For, Groups, Holder, JobNames, Kind, NoRight, Principal, Refusal, User};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use store::{GrantFilter, GrantRow, NewGrant, NewUser, Raw, StoreError, UserRow};

const PAGE: u32 = 1000;
const PAGE_MAX: u32 = 10_000;
const TEXT_MAX: usize = 1000;
/// Longer than any time.
const TIME_MAX: usize = 64;
/// Jobs of a grant looked at together when it ends.
const JOBS_AT_ONCE: u32 = 500;
/// Requests of a pair that were refused or taken back; then nobody asks for it any more.
const REQUESTS_MAX: usize = 20;
/// How long the end of a grant waits until workers have said that nothing more starts by it.
const SETTLES: Duration = Duration::from_secs(5);

/// What an administrator says of a user; what is left out stays as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UserChange {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: Option<Kind>,
    pub(crate) roles: Option<Vec<String>>,
    pub(crate) disabled: Option<bool>,
    pub(crate) note: Option<String>,
    pub(crate) environment: Option<BTreeMap<String, String>>,
    pub(crate) working_root: Option<String>,
    pub(crate) workers: Option<String>,
    pub(crate) default_cpus_milli: Option<u64>,
    pub(crate) max_cpus_milli: Option<u64>,
    pub(crate) default_memory: Option<u64>,
    pub(crate) max_memory: Option<u64>,
    pub(crate) answers: Option<Vec<String>>,
    /// For a proxy user: whether it is in the list of those who may be acted as; for a login user: whether they may act.
    pub(crate) listed: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GrantRequest {
    pub(crate) login_user: Option<String>,
    pub(crate) proxy_user: String,
    pub(crate) reason: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) until: Option<String>,
    pub(crate) workers: Option<String>,
    pub(crate) jobs: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GrantsQuery {
    pub(crate) login_user: Option<String>,
    pub(crate) proxy_user: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) limit: Option<u32>,
    pub(crate) after: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UsersQuery {
    pub(crate) limit: Option<u32>,
    pub(crate) after: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Revocation {
    pub(crate) kill: bool,
}

/// As whom someone acts and may act.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ActingView {
    pub(crate) login_user: String,
    pub(crate) active: Option<String>,
    /// Why the active one gives nothing any more.
    pub(crate) ended: Option<String>,
    pub(crate) since: Option<String>,
    pub(crate) permitted: Vec<PermittedView>,
    /// Whom to ask for a grant.
    pub(crate) ask: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PermittedView {
    pub(crate) proxy_user: String,
    pub(crate) grant: u64,
    pub(crate) until: Option<String>,
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SwitchView {
    pub(crate) active: Option<String>,
    /// As whom it was before.
    pub(crate) before: Option<String>,
}

/// What became of the jobs of a grant that ended.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct RevokedView {
    pub(crate) grant: u64,
    pub(crate) blocked: Vec<u64>,
    pub(crate) killed: Vec<u64>,
    /// Of which a worker that is away, or slow to answer, may still start what it was given before; of all others
    /// nothing starts any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unsettled: Vec<u64>,
}

impl Service {
    // --- associations

    pub(crate) async fn acting_as(&self, principal: &Principal) -> Result<ActingView, ServiceError> {
        reads(principal)?;
        let login = principal.login_user.as_str();
        let people = self.identity.people(login, None).await?;
        let now = clock::now();
        let row = self.store.identity(login, None).await?.1.association;
        let (active, since) = match row {
            Some(Ok(row)) => {
                let since = row.since.map(|text| micros(&text).map_or(text, clock::rfc3339_seconds));
                (Some(row.proxy_user), since)
            }
            Some(Err(_)) => (Some(String::new()), None),
            None => (None, None),
        };
        let ended = match policy::acting(principal, policy::Ask::Nothing, &people, now) {
            Err(refusal) => Some(refusal.text),
            Ok(_) => None,
        };
        let permitted = self.permitted(principal).await?;
        let ask = if permitted.is_empty() { self.whom_to_ask().await? } else { Vec::new() };
        Ok(ActingView { login_user: login.to_owned(), active, ended, since, permitted, ask })
    }

    /// Whom someone may act as now.
    async fn permitted(&self, principal: &Principal) -> Result<Vec<PermittedView>, ServiceError> {
        let login = principal.login_user.as_str();
        let groups = match self.identity.groups(login, None).await {
            Groups::Known(groups) => groups,
            Groups::Unknown(_) => Vec::new(),
        };
        let rows = self.store.grants_for(login, &groups).await?;
        let proxies: BTreeSet<String> = rows.iter().flatten().map(|row| row.proxy_user.clone()).collect();
        let mut permitted = Vec::new();
        for proxy in proxies {
            let Ok(user) = User::parse(&proxy) else { continue };
            let people = self.identity.people(login, Some(&proxy)).await?;
            if let Ok(grant) = policy::acts(&principal.login_user, &user, For::default(), &people, clock::now()) {
                let row = rows.iter().flatten().find(|row| row.id == grant.id);
                permitted.push(PermittedView {
                    proxy_user: proxy,
                    grant: grant.id,
                    until: grant.until.map(clock::rfc3339),
                    reason: row.and_then(|row| row.reason.clone()),
                });
            }
        }
        Ok(permitted)
    }

    /// Administrators with a name; whoever runs the farm, at least.
    async fn whom_to_ask(&self) -> Result<Vec<String>, ServiceError> {
        let users = self.store.users(PAGE_MAX, None).await?;
        let admins = users.iter().map(person).filter(|p| p.roles.admin && !p.disabled).map(|p| p.name);
        let operator = self.facts.operator.clone().into_iter();
        Ok(admins.chain(operator).collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// From now on they act as this proxy user, and as no other.
    pub(crate) async fn act_as(&self, principal: &Principal, proxy: &str) -> Result<SwitchView, ServiceError> {
        if proxy == principal.login_user.as_str() {
            return self.act_as_oneself(principal).await;
        }
        let user = user(proxy)?;
        let people = self.identity.people(principal.login_user.as_str(), Some(proxy)).await?;
        // A proxy user acts as nobody, and is told that, whatever it shows.
        if people.login.as_ref().is_none_or(|person| person.kind != Kind::Proxy) {
            manages(principal)?;
        }
        let grant = match policy::acts(&principal.login_user, &user, For::default(), &people, clock::now()) {
            Ok(grant) => grant.id,
            Err(no) => {
                let actor = Actor::of(principal);
                return Err(self.refused_as(actor, Act::Switch, Some(proxy), no.refusal()).await);
            }
        };
        let actor = Actor { grant: Some(grant), ..Actor::of(principal).for_user(proxy) };
        let intent = self.intent(Record::intent(Act::Switch, actor).object(proxy)).await?;
        let login = principal.login_user.as_str();
        let stored = self.store.set_association(login, proxy, Some(grant), audit(&intent), clock::now()).await;
        let before = self.carried_out(&intent, stored).await?;
        self.events.say(Event::Rights);
        Ok(SwitchView {
            active: Some(proxy.to_owned()),
            before: before.map(|row| row.map_or_else(|_| String::new(), |a| a.proxy_user)),
        })
    }

    pub(crate) async fn act_as_oneself(&self, principal: &Principal) -> Result<SwitchView, ServiceError> {
        manages(principal)?;
        let login = principal.login_user.as_str();
        let record = Record::intent(Act::Switch, Actor::of(principal)).object(login);
        let before = self.ends(record, |audit| self.store.clear_association(login, audit)).await?;
        self.events.say(Event::Rights);
        Ok(SwitchView { active: None, before: before.map(|row| row.map_or_else(|_| String::new(), |a| a.proxy_user)) })
    }

    // --- users

    pub(crate) async fn users(&self, caller: &Caller, query: UsersQuery) -> Result<Vec<UserView>, ServiceError> {
        caller.needs_admin("list the users")?;
        let limit = query.limit.unwrap_or(PAGE).min(PAGE_MAX);
        let rows = self.store.users(limit, query.after.as_deref()).await?;
        Ok(rows.iter().map(UserView::of).collect())
    }

    pub(crate) async fn user(&self, caller: &Caller, name: &str) -> Result<UserView, ServiceError> {
        if name != caller.principal.login_user.as_str() || caller.acting.is_some() {
            caller.needs_admin("look at other users")?;
        }
        reads(&caller.principal)?;
        self.user_view(name).await
    }

    async fn user_view(&self, name: &str) -> Result<UserView, ServiceError> {
        let row = self.store.user(name).await?.ok_or_else(|| ServiceError::NoSuchUser(name.to_owned()))?;
        Ok(UserView::of(&row))
    }

    /// Makes a user, or changes one.
    pub(crate) async fn put_user(&self, caller: &Caller, change: UserChange) -> Result<UserView, ServiceError> {
        caller.needs_admin("change users")?;
        manages(&caller.principal)?;
        let name = user(&change.name)?;
        let old = match self.store.user(name.as_str()).await? {
            Some(Ok(row)) => Some(row),
            // What can't be read is written anew, but not by guessing the rest of it.
            Some(Err(_)) | None => None,
        };
        let new = changed(&change, old.as_ref(), &caller.principal)?;
        // Whoever is disabled runs nothing: that is always possible.
        if !new.disabled {
            understood(&as_row(&new)).map_err(|fault| ServiceError::input("user", fault))?;
        }
        let kind = Kind::parse(&new.kind).unwrap_or(Kind::Login);
        if kind == Kind::Proxy {
            self.may_be_proxy(caller, &name, &new).await?;
        }
        let act = if old.is_some() { Act::UserChange } else { Act::UserCreate };
        let record = Record::intent(act, caller.actor()).object(name.as_str());
        let record = record.with("type", &new.kind).with("roles", &new.roles).with("disabled", new.disabled);
        let record = record.with("answers", &new.answers).with("listed", change.listed);
        // Variables may hold what is nobody's business: only their names.
        let names = change.environment.as_ref().map(|variables| variables.keys().collect::<Vec<_>>());
        let record = record.with("environment", names).with("working_root", &new.working_root);
        let record = record.with("workers", &new.workers);
        let record = record.with("max_cpus_milli", new.max_cpus_milli).with("max_memory", new.max_memory);
        let put = |audit| self.store.change_user(new.clone(), old.clone(), audit, clock::now());
        // Whoever is disabled has lost what they had.
        if new.disabled {
            self.ends(record, put).await?;
        } else {
            let intent = self.intent(record).await?;
            self.carried_out(&intent, put(audit(&intent)).await).await?;
        }
        self.list(&name, kind, change.listed, old.as_ref()).await?;
        self.events.say(Event::Rights);
        self.dispatcher.wake();
        self.user_view(name.as_str()).await
    }

    /// System accounts are never acted as; a proxy user holds no role.
    async fn may_be_proxy(&self, caller: &Caller, name: &User, new: &NewUser) -> Result<(), ServiceError> {
        if !new.roles.is_empty() {
            return Err(ServiceError::input("roles", "a proxy user holds none: it never acts by itself"));
        }
        let mut people = (*self.identity.people(name.as_str(), None).await?).clone();
        let told = self.identity.is_system(name.as_str()).await;
        let may = told.and_then(|is_system| {
            people.is_system = is_system;
            policy::may_be_proxy(name, &people)
        });
        match may {
            Ok(()) => Ok(()),
            Err(refusal) => Err(self.refused(&caller.principal, Act::UserCreate, refusal).await),
        }
    }

    /// The two lists. A proxy user is made to be acted as, unless it is said otherwise.
    async fn list(
        &self,
        name: &User,
        kind: Kind,
        listed: Option<bool>,
        old: Option<&UserRow>,
    ) -> Result<(), ServiceError> {
        let was_proxy = old.is_some_and(|row| row.kind == Kind::Proxy.as_str());
        match (kind, listed) {
            (Kind::Proxy, Some(allowed)) => self.store.set_may_be_acted_as(name.as_str(), allowed, None).await?,
            (Kind::Proxy, None) if !was_proxy => self.store.set_may_be_acted_as(name.as_str(), true, None).await?,
            (Kind::Login, Some(allowed)) => self.store.set_may_act(name.as_str(), allowed, None).await?,
            (Kind::Proxy | Kind::Login, None) => {}
        }
        Ok(())
    }

    /// Removes a user, and everything the next one of that name would inherit.
    pub(crate) async fn remove_user(&self, caller: &Caller, name: &str) -> Result<(), ServiceError> {
        caller.needs_admin("remove users")?;
        manages(&caller.principal)?;
        if self.store.user(name).await?.is_none() {
            return Err(ServiceError::NoSuchUser(name.to_owned()));
        }
        let of = |login_user: Option<&str>, proxy_user: Option<&str>| GrantFilter {
            login_user: login_user.map(str::to_owned),
            proxy_user: proxy_user.map(str::to_owned),
            limit: u32::MAX,
            ..GrantFilter::default()
        };
        let mut grants = self.store.grants(of(Some(name), None)).await?;
        grants.extend(self.store.grants(of(None, Some(name))).await?);
        for grant in grants.iter().flatten().filter(|grant| grant.state != "revoked") {
            self.end(caller, grant, false).await?;
        }
        let record = Record::intent(Act::UserRemove, caller.actor()).object(name);
        self.ends(record, |audit| self.store.delete_user(name, audit)).await?;
        let store = &self.store;
        let rest = || async move {
            store.delete_account(name, None).await?;
            store.revoke_tokens_of(name, None, clock::now()).await?;
            store.clear_association(name, None).await
        };
        self.room.through(rest).await?;
        self.events.say(Event::Rights);
        Ok(())
    }

    // --- grants

    pub(crate) async fn grants(&self, caller: &Caller, query: GrantsQuery) -> Result<Vec<GrantView>, ServiceError> {
        reads(&caller.principal)?;
        let limit = query.limit.unwrap_or(PAGE).min(PAGE_MAX);
        let filter = GrantFilter {
            login_user: query.login_user,
            proxy_user: query.proxy_user,
            state: query.state,
            limit,
            after: query.after,
        };
        let rows =
            if caller.is_admin() { self.store.grants(filter).await? } else { self.grants_of(caller, filter).await? };
        Ok(rows.iter().map(|row| GrantView::of(row, clock::now())).collect())
    }

    /// Of somebody else's grants people see those that serve them, and those of whom they answer for.
    async fn grants_of(&self, caller: &Caller, filter: GrantFilter) -> Result<Vec<Raw<GrantRow>>, ServiceError> {
        let login = caller.principal.login_user.as_str();
        if caller.acting.is_some() {
            return Ok(Vec::new());
        }
        let own = GrantFilter { login_user: Some(login.to_owned()), ..filter.clone() };
        let mut rows = match &filter.login_user {
            Some(other) if other != login => Vec::new(),
            _ => self.store.grants(own).await?,
        };
        for proxy in self.answered_by(login).await? {
            if filter.proxy_user.as_ref().is_none_or(|p| *p == proxy) {
                let theirs = GrantFilter { proxy_user: Some(proxy), ..filter.clone() };
                rows.extend(self.store.grants(theirs).await?);
            }
        }
        rows.retain(Result::is_ok);
        rows.sort_by_key(|row| row.as_ref().map_or(0, |row| row.id));
        rows.dedup_by_key(|row| row.as_ref().map_or(0, |row| row.id));
        rows.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
        Ok(rows)
    }

    /// The proxy users somebody answers for.
    async fn answered_by(&self, login: &str) -> Result<Vec<String>, ServiceError> {
        let users = self.store.users(u32::MAX, None).await?;
        let answers = |row: &&UserRow| names(row.answers.as_deref()).any(|name| name == login);
        Ok(users.iter().flatten().filter(answers).map(|row| row.name.clone()).collect())
    }

    /// An administrator, or someone who answers for the proxy user; neither while acting as another.
    async fn may_give(&self, caller: &Caller, proxy: &str, what: &'static str) -> Result<(), ServiceError> {
        manages(&caller.principal)?;
        if caller.is_admin() {
            return Ok(());
        }
        let login = caller.principal.login_user.as_str();
        if caller.acting.is_none()
            && let Some(Ok(row)) = self.store.user(proxy).await?
            && row.kind == Kind::Proxy.as_str()
            && names(row.answers.as_deref()).any(|name| name == login)
        {
            return Ok(());
        }
        Err(ServiceError::AdminOnly(what))
    }

    pub(crate) async fn give_grant(&self, caller: &Caller, request: GrantRequest) -> Result<GrantView, ServiceError> {
        self.may_give(caller, &request.proxy_user, "give grants").await?;
        let holder = holder(request.login_user.as_deref().unwrap_or_default())?;
        let login = caller.principal.login_user.as_str();
        let serves_giver = self.serves(&holder, login).await?;
        if serves_giver && !caller.is_admin() {
            let refusal = Refusal {
                rule: "grant_to_self".into(),
                value: holder.to_string(),
                text: format!("{login} can't give {login} a grant"),
                hint: "ask for it: `stead grants request`; somebody else approves it".into(),
            };
            return Err(self.refused(&caller.principal, Act::GrantGive, refusal).await);
        }
        let id = self.new_grant(caller, Act::GrantGive, &holder, request, "active").await?;
        // Given by another than it serves, it is approved.
        if !serves_giver {
            let seal = self.identity.seal().clone();
            self.store.approve_grant(id, login, move |row| seal.of(row), None, clock::now()).await?;
        }
        self.grant_view(id).await
    }

    /// Anybody may ask for themselves, a group they are in, or on behalf of whom they administer.
    pub(crate) async fn request_grant(
        &self,
        caller: &Caller,
        request: GrantRequest,
    ) -> Result<GrantView, ServiceError> {
        manages(&caller.principal)?;
        let login = caller.principal.login_user.as_str();
        let holder = holder(request.login_user.as_deref().unwrap_or(login))?;
        if !self.serves(&holder, login).await? {
            self.may_give(caller, &request.proxy_user, "ask for grants of others").await?;
        }
        self.is_first_request(&holder, &request.proxy_user).await?;
        self.is_patient(&holder, &request.proxy_user).await?;
        let id = self.new_grant(caller, Act::GrantRequest, &holder, request, "requested").await?;
        self.grant_view(id).await
    }

    /// Rows of a pair are read at each of its decisions: whoever may ask can't make them many.
    async fn is_first_request(&self, holder: &Holder, proxy: &str) -> Result<(), ServiceError> {
        let filter = GrantFilter {
            login_user: Some(holder.to_string()),
            proxy_user: Some(proxy.to_owned()),
            state: Some("requested".to_owned()),
            limit: 1,
            ..GrantFilter::default()
        };
        match self.store.grants(filter).await?.first() {
            None => Ok(()),
            Some(open) => {
                let id = open.as_ref().map_or_else(|bad| bad.key.clone(), |row| row.id.to_string());
                // A group's isn't there for those whom it is for.
                let instead = match holder {
                    Holder::Login(_) => format!("`stead grants revoke {id}` first"),
                    Holder::Group(_) => format!("have it revoked by who answers for {proxy}"),
                };
                Err(ServiceError::Conflict(format!("grant {id} is asked for already: have it approved, or {instead}")))
            }
        }
    }

    /// Nor by asking and taking it back.
    async fn is_patient(&self, holder: &Holder, proxy: &str) -> Result<(), ServiceError> {
        let filter = GrantFilter {
            login_user: Some(holder.to_string()),
            proxy_user: Some(proxy.to_owned()),
            state: Some("revoked".to_owned()),
            limit: PAGE,
            ..GrantFilter::default()
        };
        let rows = self.store.grants(filter).await?;
        let never_given =
            rows.iter().flatten().filter(|row| row.given_by.is_none() && row.approved_by.is_none()).count();
        if never_given < REQUESTS_MAX {
            return Ok(());
        }
        let why = format!(
            "{holder} asked for {proxy} {never_given} times and none was approved: whoever answers for {proxy} gives one, if at all"
        );
        Err(ServiceError::Conflict(why))
    }

    async fn new_grant(
        &self,
        caller: &Caller,
        act: Act,
        holder: &Holder,
        request: GrantRequest,
        state: &str,
    ) -> Result<u64, ServiceError> {
        let proxy = user(&request.proxy_user)?;
        check_grant(&request)?;
        let login = match holder {
            Holder::Login(login) => login.as_str(),
            // Whose it is when it is used is asked then.
            Holder::Group(_) => "",
        };
        let mut people = (*self.identity.people(login, Some(proxy.as_str())).await?).clone();
        let told = self.identity.is_system(proxy.as_str()).await;
        let may = told.and_then(|is_system| {
            people.is_system = is_system;
            policy::may_grant(holder, &proxy, &people)
        });
        // Only an administrator says who may act at all. Asking for a grant says nothing of that.
        let may = may.and_then(|()| match state == "active" && !caller.is_admin() {
            true => policy::is_listed(holder, &people),
            false => Ok(()),
        });
        if let Err(refusal) = may {
            return Err(self.refused(&caller.principal, act, refusal).await);
        }
        let by = caller.principal.login_user.to_string();
        let new = NewGrant {
            login_user: holder.to_string(),
            proxy_user: proxy.to_string(),
            given_by: (state == "active").then(|| by.clone()),
            reason: request.reason,
            valid_from: request.from,
            valid_until: request.until,
            workers: request.workers,
            jobs: request.jobs,
            state: state.to_owned(),
            requested_by: (state == "requested").then_some(by),
        };
        let record = Record::intent(act, caller.actor()).object(&format!("{holder} as {proxy}"));
        let record = record.with("from", &new.valid_from).with("until", &new.valid_until);
        let record = record.with("workers", &new.workers).with("jobs", &new.jobs).with("reason", &new.reason);
        let intent = self.intent(record).await?;
        let seal = self.identity.seal().clone();
        let stored = self.store.add_grant(new, move |row| seal.of(row), audit(&intent), clock::now()).await;
        let id = self.carried_out(&intent, stored).await?;
        if state == "active" && caller.is_admin() {
            self.store.list_may_act(&holder.to_string()).await?;
        }
        Ok(id)
    }

    /// Somebody else than it serves, and than asked for it, says yes.
    pub(crate) async fn approve_grant(&self, caller: &Caller, id: u64) -> Result<GrantView, ServiceError> {
        let row = self.grant_of(caller, id).await?;
        self.may_give(caller, &row.proxy_user, "approve grants").await?;
        let login = caller.principal.login_user.as_str();
        let holder = holder(&row.login_user)?;
        if self.serves(&holder, login).await? || row.requested_by.as_deref() == Some(login) {
            let refusal = Refusal {
                rule: "grant_approval".into(),
                value: id.to_string(),
                text: format!(
                    "grant {id} serves {login}, or was asked for by {login}: somebody else has to approve it"
                ),
                hint: "another administrator, or another who answers for the proxy user".into(),
            };
            return Err(self.refused(&caller.principal, Act::GrantApprove, refusal).await);
        }
        if !caller.is_admin() {
            let who = if let Holder::Login(login) = &holder { login.as_str() } else { "" };
            let people = self.identity.people(who, Some(&row.proxy_user)).await?;
            if let Err(refusal) = policy::is_listed(&holder, &people) {
                return Err(self.refused(&caller.principal, Act::GrantApprove, refusal).await);
            }
        }
        let record = Record::intent(Act::GrantApprove, caller.actor()).object(&row.proxy_user).with("of", id);
        let intent = self.intent(record).await?;
        let seal = self.identity.seal().clone();
        let stored = self.store.approve_grant(id, login, move |row| seal.of(row), audit(&intent), clock::now()).await;
        if !self.carried_out(&intent, stored).await? {
            return Err(ServiceError::Conflict(format!("grant {id} is revoked: a revoked grant stays so")));
        }
        if caller.is_admin() {
            self.store.list_may_act(&holder.to_string()).await?;
        }
        self.grant_view(id).await
    }

    /// Ends a grant: what waits for it is blocked, what runs comes to its end or, if asked, is killed.
    pub(crate) async fn revoke_grant(
        &self,
        caller: &Caller,
        id: u64,
        how: Revocation,
    ) -> Result<RevokedView, ServiceError> {
        let row = self.may_end(caller, id).await?;
        self.end(caller, &row, how.kill).await
    }

    /// A grant, if it is the caller's to end: their own, or one that they might have given.
    pub(crate) async fn may_end(&self, caller: &Caller, id: u64) -> Result<GrantRow, ServiceError> {
        let row = self.grant_of(caller, id).await?;
        if row.login_user != caller.principal.login_user.as_str() || caller.acting.is_some() {
            self.may_give(caller, &row.proxy_user, "revoke grants").await?;
        }
        manages(&caller.principal)?;
        Ok(row)
    }

    async fn end(&self, caller: &Caller, row: &GrantRow, kill: bool) -> Result<RevokedView, ServiceError> {
        let record = Record::intent(Act::GrantRevoke, caller.actor());
        let record = record.object(&format!("{} as {}", row.login_user, row.proxy_user));
        let by = caller.principal.login_user.as_str();
        let end = |audit| {
            let seal = self.identity.seal().clone();
            self.store.end_grant(row.id, by, move |row| seal.of(row), audit, clock::now())
        };
        self.ends(record.with("of", row.id).with("kill", kill), end).await?;
        self.events.say(Event::Rights);
        self.end_jobs(row, kill).await
    }

    /// The jobs that a grant let have their user's name, unless another does.
    async fn end_jobs(&self, row: &GrantRow, kill: bool) -> Result<RevokedView, ServiceError> {
        let mut ended = RevokedView { grant: row.id, ..RevokedView::default() };
        let login = (!row.login_user.starts_with("group:")).then_some(row.login_user.as_str());
        // What is blocked may still run: by hand, or because the dispatcher saw the grant's end first.
        let states = [JobState::Pending, JobState::Running, JobState::Suspended, JobState::Blocked];
        let (mut after, mut held, mut elsewhere) = (None, Vec::new(), Vec::new());
        self.dispatcher.right_has_ended();
        loop {
            let jobs = self.store.jobs_of_pair(login, &row.proxy_user, &states, JOBS_AT_ONCE, after).await?;
            for job in &jobs {
                let Ok(who) = crate::dispatch::who(job) else { continue };
                let refusal = match self.identity.right(&who, &job.name).await? {
                    Err(NoRight::Ended(refusal)) => refusal,
                    // Nobody knows whether another grant lets it go on: nothing of it does until that is known.
                    Err(NoRight::Unknown(refusal)) => {
                        held.push(job.id);
                        if kill && job.grant == Some(row.id) && self.kill_running(job.id, &refusal.text).await? {
                            ended.killed.push(job.id);
                        }
                        continue;
                    }
                    // By another grant, and not on every worker perhaps.
                    Ok(_) | Err(NoRight::NotHere(_)) => {
                        let there = self.dispatcher.out_of_reach(job.id, &who, &job.name).await?;
                        elsewhere.extend((!there.is_empty()).then_some((job.id, there)));
                        continue;
                    }
                };
                let reason = format!("{}; {}", refusal.text, refusal.hint);
                let was_blocked = job.state == JobState::Blocked;
                held.push(job.id);
                // Held first: from then on nothing new of it starts, and what runs is known.
                if !was_blocked {
                    self.dispatcher.hold(job.id, reason.clone()).await.map_err(super::of_dispatch)?;
                }
                if kill && self.kill_running(job.id, &reason).await? {
                    ended.killed.push(job.id);
                } else if !was_blocked || job.reason.as_ref() == Some(&reason) {
                    ended.blocked.push(job.id);
                }
            }
            match jobs.last() {
                Some(last) if jobs.len() == JOBS_AT_ONCE as usize => after = Some(last.id),
                _ => break,
            }
        }
        // What was decided before the end may be on its way: after the answer nothing starts any more.
        let until = Instant::now() + SETTLES;
        let (settled, settled_there) = tokio::join!(
            join_all(held.iter().map(|job| self.dispatcher.withdrawn(*job, until))),
            join_all(elsewhere.iter().map(|(_, of)| self.dispatcher.withdrawn_there(of.clone(), kill, until))),
        );
        let all = held.into_iter().zip(settled).chain(elsewhere.into_iter().map(|(job, _)| job).zip(settled_there));
        ended.unsettled = all.filter(|(_, is_settled)| !is_settled).map(|(job, _)| job).collect();
        Ok(ended)
    }

    /// Kills a job of which a task runs, whatever the job's own state: a suspended job's does, and one's that is held.
    async fn kill_running(&self, job: u64, reason: &str) -> Result<bool, ServiceError> {
        let row = self.store.job(job).await?;
        if row.is_none_or(|row| row.state.is_over() || row.counts.running == 0) {
            return Ok(false);
        }
        let kill = || self.store.act(job, JobAction::Kill, Some(reason.to_owned()), None, clock::now());
        match self.room.through(kill).await {
            Ok(acted) => {
                self.dispatcher.acted(JobAction::Kill, &acted);
                Ok(true)
            }
            // It came to its end meanwhile.
            Err(StoreError::NotPossible(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A grant, if the caller may know of it.
    async fn grant_of(&self, caller: &Caller, id: u64) -> Result<GrantRow, ServiceError> {
        let absent = || ServiceError::NoSuchGrant(id);
        let row = self.store.grant(id).await?.ok_or_else(absent)?;
        let row = match row {
            Ok(row) => row,
            Err(bad) if caller.is_admin() => return Err(ServiceError::Conflict(bad.to_string())),
            Err(_) => return Err(absent()),
        };
        let login = caller.principal.login_user.as_str();
        let is_seen = caller.is_admin()
            || (caller.acting.is_none()
                && (row.login_user == login || self.answered_by(login).await?.contains(&row.proxy_user)));
        if is_seen { Ok(row) } else { Err(absent()) }
    }

    async fn grant_view(&self, id: u64) -> Result<GrantView, ServiceError> {
        let row = self.store.grant(id).await?.ok_or(ServiceError::NoSuchGrant(id))?;
        Ok(GrantView::of(&row, clock::now()))
    }

    /// Whether a grant of this holder serves somebody. Not knowing counts as yes: nobody approves for themselves.
    async fn serves(&self, holder: &Holder, login: &str) -> Result<bool, ServiceError> {
        Ok(match holder {
            Holder::Login(name) => name.as_str() == login,
            Holder::Group(group) => match self.identity.groups(login, Some(vec![group.clone()])).await {
                Groups::Known(groups) => groups.contains(group),
                Groups::Unknown(_) => true,
            },
        })
    }
}

fn audit(intent: &Intent) -> Option<store::AuditRef> {
    Some(intent.reference())
}

/// A credential for less changes nothing of this.
pub(super) fn manages(principal: &Principal) -> Result<(), ServiceError> {
    if principal.scopes.manage { Ok(()) } else { Err(ServiceError::Scope("manage")) }
}

/// What isn't a job's takes leave to read, too.
fn reads(principal: &Principal) -> Result<(), ServiceError> {
    if principal.scopes.read { Ok(()) } else { Err(ServiceError::Scope("read")) }
}

fn names(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty())
}

pub(super) fn holder(text: &str) -> Result<Holder, ServiceError> {
    Holder::parse(text)
        .map_err(|e| ServiceError::input("login_user", format!("{text:?} is neither NAME nor group:NAME: {e}")))
}

fn check_grant(request: &GrantRequest) -> Result<(), ServiceError> {
    let time = |what: &'static str, text: &Option<String>| match text {
        Some(text) if text.len() > TIME_MAX => {
            Err(ServiceError::input(what, format!("it has more than {TIME_MAX} bytes")))
        }
        Some(text) => micros(text).map(Some).map_err(|e| ServiceError::input(what, format!("it {e}"))),
        None => Ok(None),
    };
    let (from, until) = (time("from", &request.from)?, time("until", &request.until)?);
    if let Some(until) = until
        && (until <= clock::now() || from.is_some_and(|from| until <= from))
    {
        return Err(ServiceError::input("until", "the grant would end before it begins"));
    }
    Requires::parse(request.workers.as_deref().unwrap_or_default()).map_err(|e| ServiceError::input("workers", e))?;
    check_text("reason", request.reason.as_deref())?;
    check_text("jobs", request.jobs.as_deref())?;
    let jobs = JobNames::parse(request.jobs.as_deref().unwrap_or_default());
    jobs.map(drop).map_err(|e| ServiceError::input("jobs", e))
}

fn check_text(what: &'static str, text: Option<&str>) -> Result<(), ServiceError> {
    let text = text.unwrap_or_default();
    if text.len() > TEXT_MAX {
        return Err(ServiceError::input(what, format!("it has more than {TEXT_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(ServiceError::input(what, "it contains a control character"));
    }
    Ok(())
}

/// The row as it is to be: what is not said stays.
fn changed(change: &UserChange, old: Option<&UserRow>, by: &Principal) -> Result<NewUser, ServiceError> {
    let kind = match (change.kind, old) {
        (Some(kind), _) => kind.as_str().to_owned(),
        (None, Some(old)) => old.kind.clone(),
        (None, None) => Kind::Login.as_str().to_owned(),
    };
    let words = match (&change.roles, old) {
        (Some(words), _) => words.join(","),
        (None, Some(old)) => old.roles.clone(),
        (None, None) => String::new(),
    };
    roles(&words).map_err(|e| ServiceError::input("roles", e))?;
    check_text("note", change.note.as_deref())?;
    for name in change.answers.iter().flatten() {
        user(name)?;
    }
    let environment = match &change.environment {
        Some(variables) => Some(serde_json::to_string(variables).map_err(|e| ServiceError::input("environment", e))?),
        None => old.and_then(|old| old.environment.clone()),
    };
    let text = |new: &Option<String>, old: Option<&Option<String>>| match new {
        Some(text) if text.is_empty() => None,
        Some(text) => Some(text.clone()),
        None => old.cloned().flatten(),
    };
    let number = |new: Option<u64>, old: Option<Option<u64>>| match new {
        Some(0) => None,
        Some(n) => Some(n),
        None => old.flatten(),
    };
    Ok(NewUser {
        name: change.name.clone(),
        kind,
        roles: words,
        disabled: change.disabled.or(old.map(|o| o.disabled)).unwrap_or(false),
        note: text(&change.note, old.map(|o| &o.note)),
        environment,
        working_root: text(&change.working_root, old.map(|o| &o.working_root)),
        workers: text(&change.workers, old.map(|o| &o.workers)),
        default_cpus_milli: number(change.default_cpus_milli, old.map(|o| o.default_cpus_milli)),
        max_cpus_milli: number(change.max_cpus_milli, old.map(|o| o.max_cpus_milli)),
        default_memory: number(change.default_memory, old.map(|o| o.default_memory)),
        max_memory: number(change.max_memory, old.map(|o| o.max_memory)),
        answers: text(&change.answers.as_ref().map(|names| names.join(",")), old.map(|o| &o.answers)),
        created_by: Some(by.login_user.to_string()),
    })
}

/// As it is to stand in the table.
fn as_row(new: &NewUser) -> UserRow {
    UserRow {
        name: new.name.clone(),
        kind: new.kind.clone(),
        roles: new.roles.clone(),
        disabled: new.disabled,
        note: new.note.clone(),
        environment: new.environment.clone(),
        working_root: new.working_root.clone(),
        workers: new.workers.clone(),
        default_cpus_milli: new.default_cpus_milli,
        max_cpus_milli: new.max_cpus_milli,
        default_memory: new.default_memory,
        max_memory: new.max_memory,
        answers: new.answers.clone(),
        created_at: None,
        created_by: new.created_by.clone(),
    }
}
