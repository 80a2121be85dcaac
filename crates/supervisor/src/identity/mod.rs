//! The people of a question, as `policy` wants them: rows of the store, groups of the directory, and what the host says
//! of an account. Read on every decision, so that a change acts on the next one, whoever made it.
//!
//! Reading is cheap because of a stamp: every change of these tables, by hand too, raises it, and what was read under
//! the same stamp is the same. Decides nothing: that is `policy`'s.

mod host;
mod outside;
mod rows;
mod seal;
mod settings;

pub(crate) use host::{Host, HostGroups};
pub(crate) use rows::{micros, person, roles, standing};
pub(crate) use seal::{Seal, is_same};
pub(crate) use settings::{UserSettings, understood};

use crate::audit::{Act, Audit, Record};
use crate::error::ServiceError;
use policy::{Acting, Ask, Groups, Holder, NoRight, People, Principal, Refusal, User, Who};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use store::{Store, StoreError};
use warrant::names::NAME_MAX;

/// How many questions are remembered.
const REMEMBERED: usize = 10_000;
/// How long what the directory said is believed.
const BELIEVED: Duration = Duration::from_secs(3);

/// Clones are the same.
#[derive(Clone)]
pub(crate) struct Identity(Arc<Inner>);

struct Inner {
    store: Store,
    audit: Audit,
    host: Arc<dyn Host>,
    seal: Seal,
    needs_approval: bool,
    known: Mutex<Known>,
    /// One at a time puts on record what others changed; nobody decides by it before.
    settling: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    stamp: i64,
    people: HashMap<(String, Option<String>), Remembered>,
    settings: HashMap<String, Carried>,
    /// Which names the host had for system accounts, and when it said so.
    systems: HashMap<String, (bool, Instant)>,
    /// Rows whose hand edit is on record.
    noticed: HashSet<(u64, [u8; 32])>,
}

/// What a user carries, or why that can't be understood.
pub(crate) type Carried = Result<Arc<UserSettings>, Refusal>;

#[derive(Clone)]
struct Remembered {
    people: Arc<People>,
    /// What the directory was asked for doesn't stay true by itself.
    asked: Option<Instant>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    pub(crate) fn new(store: Store, audit: Audit, host: Arc<dyn Host>, seal: Seal, needs_approval: bool) -> Self {
        let (known, settling) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { store, audit, host, seal, needs_approval, known, settling }))
    }

    pub(crate) fn seal(&self) -> &Seal {
        &self.0.seal
    }

    /// What the tables say of a login user and of whom they want to be; of their association when nobody is named.
    pub(crate) async fn people(&self, login: &str, target: Option<&str>) -> Result<Arc<People>, StoreError> {
        // A look at the stamp is worth its way only where it may save another.
        let is_known = question(login, target).is_some_and(|key| self.lock().people.contains_key(&key));
        if is_known { self.people_at(self.stamp().await?, login, target).await } else { self.read(login, target).await }
    }

    /// What now holds; for [`Self::people_at`].
    pub(crate) async fn stamp(&self) -> Result<i64, StoreError> {
        let (mut stamp, mut can_settle) = (self.0.store.identity_stamp().await?, true);
        while stamp.outside && can_settle {
            can_settle = self.settle().await?;
            stamp = self.0.store.identity_stamp().await?;
        }
        Ok(stamp.n)
    }

    /// The same for many questions of one moment.
    pub(crate) async fn people_at(
        &self,
        stamp: i64,
        login: &str,
        target: Option<&str>,
    ) -> Result<Arc<People>, StoreError> {
        match question(login, target).and_then(|key| self.remembered(stamp, &key)) {
            Some(people) => Ok(people),
            None => self.read(login, target).await,
        }
    }

    async fn read(&self, login: &str, target: Option<&str>) -> Result<Arc<People>, StoreError> {
        let (mut stamp, mut rows) = self.0.store.identity(login, target).await?;
        let mut can_settle = true;
        // Again, too, for what was changed between the two.
        while stamp.outside && can_settle {
            can_settle = self.settle().await?;
            (stamp, rows) = self.0.store.identity(login, target).await?;
        }
        let (mut people, outside) = rows::people(&rows, &self.0.seal, self.0.needs_approval);
        for change in outside {
            self.notice(login, change).await;
        }
        let wanted = groups_in(&people.grants);
        let has_groups = !wanted.is_empty();
        let of = target.map(str::to_owned).or_else(|| people.association.as_ref().map(|a| a.proxy_user.clone()));
        let by_grant = of.filter(|_| !people.grants.is_empty());
        let believed = by_grant.as_deref().and_then(|user| self.believed(user));
        let asked = (has_groups || by_grant.is_some()).then(|| believed.map_or_else(Instant::now, |(_, at)| at));
        let to_ask = by_grant.filter(|_| believed.is_none());
        if has_groups || to_ask.is_some() {
            let told = self.ask_host(has_groups.then_some((login, Some(wanted))), to_ask.as_deref()).await;
            (people.groups, people.is_system) = (told.0.unwrap_or(people.groups), told.1);
        }
        if let Some((is_system, _)) = believed {
            people.is_system = is_system;
        }
        let people = Arc::new(people);
        if let Some(key) = question(login, target) {
            let mut known = self.known_at(stamp.n);
            if known.people.len() >= REMEMBERED {
                known.people.clear();
            }
            known.people.insert(key, Remembered { people: people.clone(), asked });
        }
        Ok(people)
    }

    /// What jobs get that run as a user.
    pub(crate) async fn settings(&self, user: &User) -> Result<Carried, StoreError> {
        let stamp = self.stamp().await?;
        self.settings_at(stamp, user.as_str()).await
    }

    /// The same for many questions of one moment.
    pub(crate) async fn settings_at(&self, stamp: i64, user: &str) -> Result<Carried, StoreError> {
        let known = self.known_at(stamp).settings.get(user).cloned();
        if let Some(carried) = known {
            return Ok(carried);
        }
        let row = self.0.store.user(user).await?;
        let carried = settings::settings(row.as_ref()).map(Arc::new);
        let mut known = self.lock();
        if known.stamp == stamp {
            if known.settings.len() >= REMEMBERED {
                known.settings.clear();
            }
            known.settings.insert(user.to_owned(), carried.clone());
        }
        Ok(carried)
    }

    /// What is remembered of this stamp: of another, nothing is.
    fn known_at(&self, stamp: i64) -> MutexGuard<'_, Known> {
        let mut known = self.lock();
        if known.stamp != stamp {
            known.stamp = stamp;
            known.people.clear();
            known.settings.clear();
        }
        known
    }

    fn remembered(&self, stamp: i64, key: &(String, Option<String>)) -> Option<Arc<People>> {
        let known = self.known_at(stamp);
        let found = known.people.get(key)?;
        found.asked.is_none_or(|at| at.elapsed() < BELIEVED).then(|| found.people.clone())
    }

    /// As whom a request acts.
    pub(crate) async fn acting(&self, principal: &Principal, ask: Ask<'_>) -> Result<Option<Acting>, ServiceError> {
        let target = match ask {
            Ask::Nothing => None,
            Ask::Named(name) => Some(name),
            Ask::Bound(user) => Some(user.as_str()),
        };
        let login = principal.login_user.as_str();
        let people = self.people(login, target).await?;
        policy::acting(principal, ask, &people, crate::clock::now()).map_err(ServiceError::Refused)
    }

    /// Whether the names of a job are still right, on no worker in particular.
    pub(crate) async fn right(&self, who: &Who, job: &str) -> Result<Result<Option<u64>, NoRight>, StoreError> {
        let people = self.people(who.login_user.as_str(), Some(who.user.as_str())).await?;
        let wanted = policy::For { job: Some(job), place: None };
        Ok(policy::right(who, wanted, &people, crate::clock::now()))
    }

    /// The directory's groups of a login user; all of them, or at least those that are wanted.
    pub(crate) async fn groups(&self, login: &str, wanted: Option<Vec<String>>) -> Groups {
        let asked = self.ask_host(Some((login, wanted)), None).await.0;
        asked.unwrap_or_else(|| Groups::Unknown("nobody was asked".to_owned()))
    }

    /// A name that the supervisor's host has for a system account. What can't be found out is not one: the launcher
    /// of each host has the last word.
    pub(crate) async fn seems_system(&self, user: &str) -> bool {
        self.ask_host(None, Some(user)).await.1
    }

    /// Whether the host had this name for a system account's, and when it said so, if that was a moment ago.
    fn believed(&self, user: &str) -> Option<(bool, Instant)> {
        self.lock().systems.get(user).filter(|(_, at)| at.elapsed() < BELIEVED).copied()
    }

    /// Both by one way to a thread that may wait.
    async fn ask_host(
        &self,
        groups_of: Option<(&str, Option<Vec<String>>)>,
        is_system: Option<&str>,
    ) -> (Option<Groups>, bool) {
        let host = self.0.host.clone();
        let has_groups = groups_of.is_some();
        let groups_of = groups_of.map(|(login, wanted)| (login.to_owned(), wanted));
        let user = is_system.map(str::to_owned);
        let asking = Instant::now();
        let asked = tokio::task::spawn_blocking(move || {
            let groups = |(login, wanted): (String, Option<Vec<String>>)| host.groups_of(&login, wanted.as_deref());
            let groups = groups_of.map(|asked| groups(asked).map_or_else(Groups::Unknown, Groups::Known));
            (groups, user.is_some_and(|user| host.seems_system(&user)))
        });
        let told = asked.await;
        if let (Some(user), Ok((_, told))) = (is_system, &told) {
            let mut known = self.lock();
            if known.systems.len() >= REMEMBERED {
                known.systems.clear();
            }
            known.systems.insert(user.to_owned(), (*told, asking));
        }
        told.unwrap_or_else(|error| (has_groups.then(|| Groups::Unknown(error.to_string())), false))
    }

    /// Whether a name is a system account's, for what is to last: one that nobody can tell about now is refused.
    pub(crate) async fn is_system(&self, user: &str) -> Result<bool, Refusal> {
        let (host, name) = (self.0.host.clone(), user.to_owned());
        let asked = tokio::task::spawn_blocking(move || host.is_system(&name)).await;
        asked.map_err(|e| e.to_string()).and_then(|told| told).map_err(|error| Refusal {
            rule: "directory".into(),
            value: user.to_owned(),
            text: format!("whether {user} is a system account can't be told: {error}"),
            hint: "try again when the directory of the supervisor's host answers".into(),
        })
    }

    /// A hand edit goes on record at its first use.
    async fn notice(&self, login: &str, change: rows::Outside) {
        if !self.lock().noticed.insert((change.grant, change.content)) {
            return;
        }
        let record = Record::new(Act::ChangedOutside)
            .by(login, &change.proxy_user)
            .grant(Some(change.grant))
            .with("table", "grants")
            .with("row", &change.row);
        if let Err(error) = self.0.audit.write(record).await {
            self.lock().noticed.remove(&(change.grant, change.content));
            tracing::error!(%error, grant = change.grant, "a change from outside is not on record");
        }
    }

    #[cfg(test)]
    pub(crate) fn remembered_names(&self) -> usize {
        self.lock().people.len()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By what a question is remembered. What is too long for a name is nobody's, and would fill what is remembered.
fn question(login: &str, target: Option<&str>) -> Option<(String, Option<String>)> {
    let is_name = target.is_none_or(|target| target.len() <= NAME_MAX);
    is_name.then(|| (login.to_owned(), target.map(str::to_owned)))
}

/// The directory's groups that hold some of these grants.
fn groups_in(grants: &[policy::Grant]) -> Vec<String> {
    let group = |g: &policy::Grant| match &g.holder {
        Holder::Group(group) => Some(group.clone()),
        Holder::Login(_) => None,
    };
    grants.iter().filter_map(group).collect()
}

/// A user named in a request, as far as it is a name.
pub(crate) fn user(name: &str) -> Result<User, ServiceError> {
    User::parse(name).map_err(|e| ServiceError::input("user", format!("{name:?} is no user name: {e}")))
}
