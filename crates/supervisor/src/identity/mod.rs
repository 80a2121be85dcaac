//! The people of a question, as `policy` wants them: rows of the store, groups of the directory, and what the host says
//! of an account. Read on every decision, so that a change acts on the next one, whoever made it.
//!
//! Reading is cheap because of a stamp: every change of these tables, by hand too, raises it, and what was read under
//! the same stamp is the same. Decides nothing: that is `policy`'s.

mod host;
mod rows;
mod seal;
mod settings;

pub(crate) use host::{Host, HostGroups};
pub(crate) use rows::{micros, person, roles, standing};
pub(crate) use seal::Seal;
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
}

#[derive(Default)]
struct Known {
    stamp: i64,
    people: HashMap<(String, Option<String>), Remembered>,
    settings: HashMap<String, Carried>,
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
        Self(Arc::new(Inner { store, audit, host, seal, needs_approval, known: Mutex::default() }))
    }

    pub(crate) fn seal(&self) -> &Seal {
        &self.0.seal
    }

    /// What the tables say of a login user and of whom they want to be; of their association when nobody is named.
    pub(crate) async fn people(&self, login: &str, target: Option<&str>) -> Result<Arc<People>, StoreError> {
        let stamp = self.0.store.identity_stamp().await?;
        self.people_at(stamp, login, target).await
    }

    /// What now holds; for [`Self::people_at`].
    pub(crate) async fn stamp(&self) -> Result<i64, StoreError> {
        self.0.store.identity_stamp().await
    }

    /// The same for many questions of one moment.
    pub(crate) async fn people_at(
        &self,
        stamp: i64,
        login: &str,
        target: Option<&str>,
    ) -> Result<Arc<People>, StoreError> {
        // What is too long for a name is nobody's, and would fill what is remembered.
        let is_name = target.is_none_or(|target| target.len() <= NAME_MAX);
        let key = (login.to_owned(), target.filter(|_| is_name).map(str::to_owned));
        if let Some(people) = is_name.then(|| self.remembered(stamp, &key)).flatten() {
            return Ok(people);
        }
        let rows = self.0.store.identity(login, target).await?;
        let (mut people, outside) = rows::people(&rows, &self.0.seal, self.0.needs_approval);
        for change in outside {
            self.notice(login, change).await;
        }
        let has_groups = people.grants.iter().any(|g| matches!(g.holder, Holder::Group(_)));
        if has_groups {
            people.groups = self.groups(login).await;
        }
        let of = target.map(str::to_owned).or_else(|| people.association.as_ref().map(|a| a.proxy_user.clone()));
        let by_grant = of.filter(|_| !people.grants.is_empty());
        if let Some(target) = &by_grant {
            people.is_system = self.is_system(target).await;
        }
        let people = Arc::new(people);
        let asked = (has_groups || by_grant.is_some()).then(Instant::now);
        let mut known = self.lock();
        if is_name && known.stamp == stamp {
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

    /// The directory's groups of a login user.
    pub(crate) async fn groups(&self, login: &str) -> Groups {
        let (host, name) = (self.0.host.clone(), login.to_owned());
        match tokio::task::spawn_blocking(move || host.groups_of(&name)).await {
            Ok(Ok(groups)) => Groups::Known(groups),
            Ok(Err(error)) => Groups::Unknown(error),
            Err(error) => Groups::Unknown(error.to_string()),
        }
    }

    /// A name that the supervisor's host has for a system account. What can't be found out is not one: the launcher
    /// of each host has the last word.
    pub(crate) async fn is_system(&self, user: &str) -> bool {
        let (host, name) = (self.0.host.clone(), user.to_owned());
        tokio::task::spawn_blocking(move || host.is_system(&name)).await.unwrap_or(false)
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

/// A user named in a request, as far as it is a name.
pub(crate) fn user(name: &str) -> Result<User, ServiceError> {
    User::parse(name).map_err(|e| ServiceError::input("user", format!("{name:?} is no user name: {e}")))
}
