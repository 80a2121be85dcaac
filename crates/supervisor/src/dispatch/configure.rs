//! What the files say, put into force: every worker that is here has it at once, and one that is to run jobs as
//! somebody else takes none until it has said that it can. What runs keeps its account.

use super::farm::Worker;
use super::{Dispatcher, place};
use crate::configuration::{Held, Loaded, enforced_in_vain, held};
use crate::events::Event;
use policy::{Mode, Place, ProxyAccount};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use store::StoreError;
use tokio::time::Instant;
use wire::{Hello, ToWorker};

/// How long workers are waited for that take new settings over.
const SETTLE: Duration = Duration::from_secs(3);

/// What became of new settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Configured {
    /// Workers that are here.
    pub(crate) here: usize,
    /// Of these, the ones that run jobs as somebody else by now.
    pub(crate) told: usize,
    /// They have not answered yet.
    pub(crate) late: Vec<String>,
}

/// A worker that is known, with what holds for it.
pub(crate) struct KnownWorker {
    pub(crate) hello: Arc<Hello>,
    pub(crate) place: Place,
    pub(crate) slots: u32,
    pub(crate) said_by: &'static str,
    /// µs since 1970.
    pub(crate) last_seen: i64,
    /// Of its host, if it is connected.
    pub(crate) load_milli: Option<u32>,
}

impl Dispatcher {
    /// The settings that everything goes by are these: workers are brought to them.
    pub(crate) async fn configure(&self, loaded: &Loaded) -> Result<Configured, StoreError> {
        let (mut changed, mut told, here) = (Vec::new(), HashMap::new(), self.farm().workers.len());
        {
            let mut farm = self.farm();
            let names: Vec<String> = farm.workers.keys().cloned().collect();
            for name in names {
                let number = farm.number();
                let Some(worker) = farm.workers.get_mut(&name) else { continue };
                let Ok(held) = held(&worker.hello, loaded) else { continue };
                let before = (worker.place.clone(), worker.slots);
                let identity = (before.0.mode, before.0.proxy_account.clone());
                worker.take(held);
                if identity != (worker.place.mode, worker.place.proxy_account.clone()) {
                    worker.tell_settings(number);
                    told.insert(name.clone(), number);
                }
                if before != (worker.place.clone(), worker.slots) {
                    changed.push(name);
                }
            }
            // Whether an account can be logged on is asked of the new ones.
            farm.judge_logons();
            for name in &changed {
                for session in farm.sessions_of_worker(name) {
                    farm.tell(session, super::session::Said::Poke);
                }
            }
        }
        self.take_given_passwords().await?;
        for name in &changed {
            // What was refused in another mode, or of another account, may be allowed now.
            self.store().clear_exclusions(name).await?;
            if let Some(worker) = self.farm().workers.get_mut(name) {
                worker.place.excluded.clear();
            }
        }
        self.0.events.say(Event::Worker);
        self.wake();
        let late = self.wait_for_settled(&told).await;
        Ok(Configured { here, told: told.len(), late })
    }

    async fn wait_for_settled(&self, told: &HashMap<String, u64>) -> Vec<String> {
        let until = Instant::now() + SETTLE;
        loop {
            let settled = self.0.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let is_late = |(name, number): &(&String, &u64)| {
                self.with_worker(name, |w| w.settling == Some(**number)) == Some(true)
            };
            let mut late: Vec<String> = told.iter().filter(is_late).map(|(name, _)| name.clone()).collect();
            if late.is_empty() || tokio::time::timeout_at(until, settled).await.is_err() {
                late.sort();
                return late;
            }
        }
    }

    /// A worker goes by the settings it was sent.
    pub(super) async fn settled(&self, name: &str, number: u64, panic: Option<String>) -> Result<(), StoreError> {
        let reason = {
            let mut farm = self.farm();
            let Some(worker) = farm.workers.get_mut(name).filter(|w| w.settling == Some(number)) else {
                return Ok(());
            };
            worker.settling = None;
            worker.trouble = panic;
            worker.look_at_panic();
            worker.place.panic.clone()
        };
        tracing::info!(worker = name, reason, "the worker has taken over its settings");
        self.store().set_panic(name, reason).await?;
        self.0.settled.notify_waiters();
        self.0.events.say(Event::Worker);
        self.wake();
        Ok(())
    }

    /// Where no worker runs jobs as their users, no user's password is ever used, and nobody can submit without one.
    pub(crate) async fn enforced_in_vain(&self, by_settings: bool) -> Result<Option<String>, StoreError> {
        let modes: Vec<Mode> = self.known_workers().await?.iter().map(|known| known.place.mode).collect();
        Ok(enforced_in_vain(by_settings, &self.0.configuration.current(), &modes))
    }

    pub(crate) async fn warn_of_enforcement(&self, by_settings: bool) -> Result<(), StoreError> {
        if let Some(text) = self.enforced_in_vain(by_settings).await? {
            tracing::warn!("{text}");
        }
        Ok(())
    }

    /// Every worker that was ever here, with what holds for it now.
    pub(crate) async fn known_workers(&self) -> Result<Vec<KnownWorker>, StoreError> {
        let rows = self.store().workers().await?;
        let exclusions = self.store().exclusions().await?;
        let loaded = self.0.configuration.current();
        let farm = self.farm();
        let known = |row: &store::WorkerRow| {
            if let Some(worker) = farm.workers.get(&row.name) {
                let (hello, place, slots) = (worker.hello.clone(), worker.place.clone(), worker.slots);
                let (said_by, last_seen, load_milli) = (worker.said_by, row.last_seen, worker.load_milli);
                return Some(KnownWorker { hello, place, slots, said_by, last_seen, load_milli });
            }
            let hello: Hello = serde_json::from_str(&row.hello).ok()?;
            let Held { checked, slots, said_by, trouble, .. } = held(&hello, &loaded).ok()?;
            let place::Checked { mut place, .. } = checked;
            (place.online, place.drained, place.panic) = (false, row.drained, trouble.or_else(|| row.panic.clone()));
            place.excluded = super::excluded_on(&row.name, &exclusions);
            place.logons = hello.sealing_key.is_some().then(|| farm.logons.clone());
            let last_seen = row.last_seen;
            Some(KnownWorker { hello: Arc::new(hello), place, slots, said_by, last_seen, load_milli: None })
        };
        Ok(rows.iter().filter_map(known).collect())
    }
}

impl Worker {
    /// What holds for it from now on, as far as the supervisor goes.
    pub(super) fn take(&mut self, held: Held) {
        let wanted = held.checked.place;
        if (self.place.mode, &self.place.proxy_account) != (wanted.mode, &wanted.proxy_account) {
            // It was the other account, or the other mode, that its host would not have.
            if std::mem::take(&mut self.until_new_launcher) {
                self.distrusted = None;
            }
        }
        (self.place.mode, self.place.proxy_account, self.place.labels) =
            (wanted.mode, wanted.proxy_account, wanted.labels);
        (self.slots, self.said_by, self.misconfigured) = (held.slots, held.said_by, held.trouble);
        (self.nice, self.path_map) = (held.nice, held.path_map);
        (self.given, self.not_opened) = (held.given, None);
        self.look_at_panic();
    }

    /// Tells it as whom it runs jobs; it takes none until it has answered.
    pub(super) fn tell_settings(&mut self, number: u64) {
        let proxy_account = self.place.proxy_account.as_ref().map(|account| match account {
            ProxyAccount::Named(name) => name.to_string(),
            ProxyAccount::Throwaway => "throwaway".to_owned(),
        });
        let mode = if self.place.mode == Mode::User { "user" } else { "proxy" };
        self.outbox.send(&ToWorker::Settings { number, mode: mode.to_owned(), proxy_account }, &[]);
        self.settling = Some(number);
        self.look_at_panic();
    }
}
