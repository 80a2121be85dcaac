//! Workers of people: the list of those who may have one changes while their workers are here, and none of them is heard
//! more often than a worker has reason to speak.

use super::Dispatcher;
use super::place::HelloError;
use crate::audit::{Act, AuditError, Record};
use crate::desks::{Desks, DesksError};
use policy::Kind;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use store::StoreError;
use wire::{Hello, ToWorker};

/// What the list was when it was last put on record.
const KNOWN: &str = "desktop_owners";

/// Why the list could not be followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error(transparent)]
    List(#[from] DesksError),
    #[error("a change of who may run desktop workers is not on record yet: {0}")]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How often something may be done: once in `every`, and what was saved up to `ahead` at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    every: Duration,
    ahead: Duration,
    /// Up to here it is used.
    used: Option<Instant>,
}

impl Pace {
    /// Of one person's workers: each is looked up in the store.
    pub(super) const HELLOS: Self = Self::new(Duration::from_secs(1), 10);
    /// Of one connection: ticks, progress, what is asked for.
    pub(super) const MESSAGES: Self = Self::new(Duration::from_millis(10), 500);

    const LONGEST: Duration = Duration::from_secs(20);

    const fn new(every: Duration, at_once: u32) -> Self {
        Self { every, ahead: every.saturating_mul(at_once - 1), used: None }
    }

    /// How long to wait for one more; it counts as done.
    pub(super) fn turn(&mut self, now: Instant) -> Duration {
        // However often it was tried too early, it is not forgotten for long.
        let used = self.used.map_or(now, |used| used.clamp(now, now + self.ahead + Self::LONGEST));
        self.used = Some(used + self.every);
        (used - now).saturating_sub(self.ahead)
    }
}

/// The hellos of each person.
pub(super) type Greetings = HashMap<u32, Pace>;

impl Dispatcher {
    /// Sends away whom the list does not take any more, and has each change of it on record.
    pub(super) async fn follow_desks(&self) -> Result<(), FollowError> {
        // Also when it is as it was: it may have been another in between, and somebody come by that. Without a list that
        // can be read nobody stays.
        let desks = self.0.doorkeeper.desks().unwrap_or_default();
        self.send_away_unlisted(&desks).await;
        self.record_desks().await.map(drop)
    }

    /// The list as it is now, once it is on record: before anybody comes by it.
    pub(super) async fn record_desks(&self) -> Result<Desks, FollowError> {
        let mut recorded = self.0.desks.lock().await;
        let desks = self.0.doorkeeper.desks()?;
        if recorded.as_ref() == Some(&desks) {
            return Ok(desks);
        }
        let now = desks.lines();
        if self.store().meta(KNOWN).await?.unwrap_or_default() != now {
            self.0.audit.write(Record::new(Act::DesktopOwners).with("owners", &now)).await?;
            self.store().set_meta(KNOWN, &now).await?;
        }
        *recorded = Some(desks.clone());
        Ok(desks)
    }

    async fn send_away_unlisted(&self, desks: &Desks) {
        let workers: Vec<_> = {
            let farm = self.farm();
            let desktops = farm.workers.iter().filter(|(_, w)| w.hello.mode == "desktop");
            desktops.map(|(name, w)| (name.clone(), w.connection, w.hello.clone(), w.outbox.clone())).collect()
        };
        for (name, connection, hello, outbox) in workers {
            let uid = hello.owner.as_ref().map_or(0, |owner| owner.uid);
            // It was free when it came.
            let listed = self.0.doorkeeper.check(desks, &hello, uid, true);
            let checked = match listed {
                // Of whom nothing can be read, nothing is known anew; the others are looked at all the same.
                Ok(()) => self.check_is_a_persons(&hello, uid).await.unwrap_or_else(|error| {
                    tracing::error!(worker = name, %error, "whether its owner is one person can't be read");
                    Ok(())
                }),
                refused => refused,
            };
            if let Err(refused) = checked {
                tracing::warn!(worker = name, "desktop worker is sent away: {refused}");
                outbox.send(&ToWorker::Refused { reason: refused.to_string() }, &[]);
                self.goodbye(&name, connection);
            }
        }
    }

    /// The uid of a proxy user, or of the account that a worker runs everybody's jobs under, says nothing of who is there.
    pub(super) async fn check_is_a_persons(
        &self,
        hello: &Hello,
        uid: u32,
    ) -> Result<Result<(), HelloError>, StoreError> {
        let Some(owner) = hello.owner.as_ref().filter(|_| !self.is_service(uid)) else { return Ok(Ok(())) };
        let people = self.0.identity.people(&owner.name, None).await?;
        let is_proxy = people.login.as_ref().is_some_and(|person| person.kind == Kind::Proxy);
        let is_shared = is_proxy || self.store().is_shared_account(&owner.name).await?;
        Ok(if is_shared { Err(HelloError::Shared(owner.name.clone())) } else { Ok(()) })
    }

    /// How long that person's worker has to wait before its hello is looked at; the farm's own never do.
    pub(super) fn before_hello(&self, uid: u32) -> Duration {
        if self.is_service(uid) {
            return Duration::ZERO;
        }
        self.farm().greetings.entry(uid).or_insert(Pace::HELLOS).turn(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_had_at_once_and_the_rest_at_its_pace() {
        let mut pace = Pace::new(Duration::from_secs(1), 3);
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let waits: Vec<u64> =
            [0, 0, 0, 0, 0, 4, 100, 100, 100, 100].into_iter().map(|at| pace.turn(after(at)).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2, 0, 0, 0, 0, 1]);
    }
}
