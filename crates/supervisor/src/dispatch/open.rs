//! Opening a session: lease, audit record, signed warrant, first batch.

use super::farm::{Live, Worker};
use super::jobs::{Job, JobsError};
use super::logon::Needs;
use super::session::Driver;
use super::{DispatchError, Dispatcher, PLAN_PATIENCE, ends};
use crate::audit::{Act, Record};
use crate::clock;
use crate::logon::seal_for;
use crate::scheduler::Placement;
use policy::{People, Rule, RunPlan, Who};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;
use store::{NewSession, Purpose};
use tokio::sync::mpsc;
use warrant::{Account, Incarnation, Limits, Secret, Warrant, hex};
use wire::ToWorker;

/// How long the launcher may take to accept a warrant.
const NOT_AFTER_MS: u64 = 30_000;
/// What files of a job are not by default: writable by group and others.
const UMASK: u32 = 0o022;

/// What a session is opened with, besides the job's own names.
pub(super) struct Terms<'a> {
    pub(super) who: &'a Who,
    pub(super) people: &'a People,
    pub(super) plan: &'a RunPlan,
    pub(super) rules: &'a [Rule],
    pub(super) purpose: Purpose,
    pub(super) limits: Limits,
    pub(super) umask: u32,
}

/// Which life of a worker, and of its launcher, a session is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addressee {
    connection: u64,
    incarnation: Incarnation,
}

impl Addressee {
    pub(super) fn of(worker: &Worker) -> Self {
        Self { connection: worker.connection, incarnation: worker.incarnation }
    }
}

impl Dispatcher {
    /// Opens a session where the scheduler wants it; false when there was nothing to do there any more.
    /// `holds`: how many jobs had been held when that was decided.
    pub(super) async fn open(&self, placement: Placement, holds: u64) -> Result<bool, DispatchError> {
        let Some(job) = self.worked_out(placement.job).await? else { return Ok(false) };
        let terms = Terms {
            who: &placement.who,
            people: &placement.people,
            plan: &placement.plan,
            rules: &placement.rules,
            purpose: Purpose::Run,
            limits: Limits {
                memory: placement.asks.memory,
                cpu_milli: u32::try_from(placement.asks.cpu_milli).unwrap_or(u32::MAX),
                pids: 0,
            },
            umask: job.spec.umask.unwrap_or(UMASK),
        };
        let Some((new, to)) = self.new_session(placement.job, &placement.worker, &terms) else {
            return Ok(false);
        };
        // Another session may have had the account's turn since it was placed.
        let Some(turn) = self.try_logon(&placement.worker, &placement.plan.account) else { return Ok(false) };
        let Some((session, lease)) = self.store().open_session(new, placement.step, 1, clock::now()).await? else {
            return Ok(false);
        };
        turn.of(session);
        let (inbox, is_doubtful) = {
            let (to_driver, inbox) = mpsc::unbounded_channel();
            let (user, worker) = (placement.who.user.to_string(), placement.worker.clone());
            let deadline = Instant::now() + self.settings().lease();
            let live = Live {
                to: Some(to),
                priority: placement.priority,
                asks: placement.asks,
                yielding: false,
                ..Live::new(placement.job, user, worker, deadline, to_driver)
            };
            let mut farm = self.farm();
            farm.sessions.insert(session, live);
            // Whoever held the job meanwhile didn't see it here.
            (inbox, farm.holds != holds)
        };
        if !self.issue(session, placement.job, &placement.worker, to, &terms).await? {
            return Ok(false);
        }
        self.0.metrics.sessions.add(1);
        self.0.metrics.dispatched.add(lease.last - lease.first + 1);
        self.0.events.say(crate::events::Event::Job(placement.job));
        let driver = Driver::new(self.clone(), session, placement.job, placement.worker, inbox);
        let driver = driver.working(job, placement.step, placement.plan.account, placement.asks, placement.settings);
        let driver = driver.asking_again(is_doubtful).until(ends(placement.plan.grant, &placement.people));
        tokio::spawn(driver.drive(Some(lease)));
        Ok(true)
    }

    /// The job, unless its plan takes long: then its turn is when the plan is there.
    async fn worked_out(&self, job: u64) -> Result<Option<Arc<Job>>, DispatchError> {
        let (until, dispatcher) = (Instant::now() + PLAN_PATIENCE, self.clone());
        match self.0.jobs.get_until(self.store(), job, until, move || dispatcher.wake()).await {
            Some(Ok(job)) => Ok(Some(job)),
            None | Some(Err(JobsError::Gone(_))) => Ok(None),
            Some(Err(JobsError::Store(error))) => Err(error.into()),
            // It would come back in every round.
            Some(Err(error)) => self.block(job, error.to_string()).await.map(|()| None),
        }
    }

    /// The row of a session on a worker that is connected.
    pub(super) fn new_session(&self, job: u64, worker: &str, terms: &Terms<'_>) -> Option<(NewSession, Addressee)> {
        let (place, to) = self.with_worker(worker, |w| (w.place.clone(), Addressee::of(w)))?;
        let lease = i64::try_from(self.settings().lease().as_micros()).unwrap_or(i64::MAX / 2);
        let account = match &terms.plan.account {
            Account::Named { name, .. } => name.to_string(),
            Account::Throwaway => "throwaway".to_owned(),
        };
        let decision = json!({
            "account": account, "mode": terms.plan.mode.as_str(), "shared": terms.plan.shared, "rules": terms.rules,
        });
        let new = NewSession {
            job,
            worker: worker.to_owned(),
            incarnation: hex(&to.incarnation),
            mode: terms.plan.mode.as_str().to_owned(),
            login_user: terms.who.login_user.to_string(),
            user: terms.who.user.to_string(),
            account,
            grant: terms.plan.grant,
            policy_version: hex(&policy::version(terms.who, &place, terms.people)),
            decision: decision.to_string(),
            purpose: terms.purpose,
            lease_until: clock::now() + lease,
        };
        Some((new, to))
    }

    /// Writes the warrant down, signs it and sends it. If that is not possible the session never was.
    pub(super) async fn issue(
        &self,
        session: u64,
        job: u64,
        worker: &str,
        to: Addressee,
        terms: &Terms<'_>,
    ) -> Result<bool, DispatchError> {
        let written = self.0.audit.write(self.record(session, job, worker, terms)).await;
        let password = match terms.purpose {
            Purpose::Run | Purpose::Read => self.password_for(worker, &terms.plan.account).await,
            Purpose::Clean => Ok(None),
        };
        // Whatever keeps it from being sent: the session is taken back.
        let sent = match (&written, password) {
            (Ok(_), Ok(password)) => self.send_warrant((session, job, worker, to), terms, password),
            (Ok(_), Err(error)) => {
                tracing::error!(session, %error, "the account's password can't be read");
                false
            }
            (Err(_), _) => false,
        };
        if !sent {
            let text = match &written {
                Ok(_) => "its warrant was not sent".to_owned(),
                Err(error) => format!("the audit can't be written: {error}"),
            };
            let reported = self.store().never_opened(session, text, clock::now()).await?;
            self.settle(session, &reported).await;
        }
        written?;
        Ok(sent)
    }

    fn record(&self, session: u64, job: u64, worker: &str, terms: &Terms<'_>) -> Record {
        let account = match &terms.plan.account {
            Account::Named { name, .. } => name.to_string(),
            Account::Throwaway => "throwaway".to_owned(),
        };
        let version = self.farm().workers.get(worker).map(|w| policy::version(terms.who, &w.place, terms.people));
        let record = Record::new(Act::Warrant)
            .by(terms.who.login_user.as_str(), terms.who.user.as_str())
            .grant(terms.plan.grant)
            .run_as(account)
            .job(job)
            .object(worker)
            .with("session", session)
            .with("mode", terms.plan.mode.as_str())
            .with("via", terms.who.via)
            .with("purpose", terms.purpose);
        match version {
            Some(version) => record.policy(warrant::hex(&version)),
            None => record,
        }
    }

    /// Only on the connection that the session was opened for: a worker that came back since was told, and is
    /// counted on, not to have it.
    fn send_warrant(
        &self,
        (session, job, worker, to): (u64, u64, &str, Addressee),
        terms: &Terms<'_>,
        password: Option<Secret>,
    ) -> bool {
        let mut farm = self.farm();
        // Writing it down may have taken so long that it was given up.
        if !farm.sessions.contains_key(&session) {
            return false;
        }
        let sent = farm.workers.get(worker).is_some_and(|w| {
            if w.connection != to.connection {
                return false;
            }
            let now = w.clock.now();
            let mut warrant = Warrant {
                farm: self.keys().farm,
                worker: worker.to_owned(),
                incarnation: to.incarnation,
                sequence: session,
                not_after: now + NOT_AFTER_MS,
                lease_until: now + self.settings().lease_seconds * 1000,
                purpose: match terms.purpose {
                    Purpose::Run => warrant::Purpose::Run,
                    Purpose::Read => warrant::Purpose::Read,
                    Purpose::Clean => warrant::Purpose::Clean,
                },
                session,
                job,
                login_user: terms.who.login_user.clone(),
                user: terms.who.user.clone(),
                account: terms.plan.account.clone(),
                mode: terms.plan.mode,
                shared: terms.plan.shared,
                grant: terms.plan.grant,
                policy_version: policy::version(terms.who, &w.place, terms.people),
                limits: terms.limits,
                umask: terms.umask,
                submitter_signature: Vec::new(),
                password: None,
            };
            // For this life of its launcher, as it is known at this moment, and for nobody between here and there.
            if let (Needs::Sealed(key), Some(password)) = (w.needs, &password) {
                warrant.password = seal_for(password, &key, &warrant.password_context());
            }
            let signed = warrant.sign(&self.keys().warrant).encode();
            let message = match terms.purpose {
                Purpose::Clean => ToWorker::Clean { session, job },
                Purpose::Run | Purpose::Read => ToWorker::Open { session, job, lease_until: warrant.lease_until },
            };
            w.outbox.send(&message, &signed)
        });
        // The host's lease counts from here, too.
        if let Some(live) = farm.sessions.get_mut(&session) {
            live.deadline = Instant::now() + self.settings().lease();
        }
        sent
    }
}
