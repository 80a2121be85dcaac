//! What has been over for long goes: job folders on the workers, removed as their account; logs; history; sessions and
//! tokens that have ended.

use super::farm::Live;
use super::open::Terms;
use super::session::Driver;
use super::{DispatchError, Dispatcher, who};
use crate::audit::{Act, Outcome, Record};
use crate::clock;
use policy::{Effect, Rule, RunPlan, Via, Who};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use store::{Purpose, SessionRow, StoreError};
use tokio::sync::mpsc;
use warrant::names::AccountName;
use warrant::{Account, Limits, Mode};

/// How often it is looked what is over for long.
const EVERY: Duration = Duration::from_secs(600);
/// Jobs looked at in one go; so many that some which can't be cleaned now don't stand before all others.
const AT_ONCE: u32 = 1000;
/// The same for logs, which are only files.
const LOGS_AT_ONCE: u32 = 100_000;
/// A folder that could not be removed in so many times the retention stays; its history goes.
const PATIENCE: i64 = 2;
const DAY_US: i64 = 86_400 * 1_000_000;

/// A job's folder on a worker: (worker, account).
type Place = (String, String);

/// What is there of a job on the workers.
struct Folders {
    /// Something of it is still at work: nothing can be done yet.
    is_busy: bool,
    /// Those that nobody has removed, with a session that made each.
    there: BTreeMap<Place, SessionRow>,
}

impl Dispatcher {
    pub(super) async fn retire(&self) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Errands for jobs that somebody removed; each is sent once between two ticks.
        let mut sent = BTreeSet::new();
        loop {
            let is_time = tokio::select! {
                _ = tick.tick() => true,
                () = self.0.removed.notified() => false,
            };
            if is_time {
                sent.clear();
                if let Err(error) = self.retire_once(clock::now()).await {
                    tracing::error!(%error, "old jobs were not removed");
                }
            }
            if let Err(error) = self.remove_once(&mut sent, is_time).await {
                tracing::error!(%error, "removed jobs did not go");
            }
        }
    }

    /// Somebody removed a job: it goes as soon as its folders are gone.
    pub(crate) fn removed(&self) {
        self.0.removing.store(true, Ordering::Release);
        self.0.removed.notify_one();
    }

    /// A session is over, which a job that was removed may have waited for.
    pub(super) fn may_be_gone(&self) {
        if self.0.removing.load(Ordering::Acquire) {
            self.0.removed.notify_one();
        }
    }

    /// One look at the jobs that somebody removed: at the newest, or at `all`, however many wait for a worker.
    async fn remove_once(&self, sent: &mut BTreeSet<(u64, Place)>, all: bool) -> Result<(), DispatchError> {
        // Before the look: who removes one meanwhile says so again.
        self.0.removing.store(false, Ordering::Release);
        let mut after = None;
        loop {
            let jobs = self.store().removals(AT_ONCE, after).await?;
            let Some(last) = jobs.last().copied() else { return Ok(()) };
            // Before their sessions are looked at: one that ends meanwhile says so again.
            self.0.removing.store(true, Ordering::Release);
            for job in jobs {
                // What is wrong with one says nothing of the others.
                match self.remove_job(job, sent).await {
                    Err(DispatchError::Store(StoreError::Closed)) => return Ok(()),
                    Err(error) => tracing::error!(job, %error, "a removed job did not go"),
                    Ok(()) => {}
                }
            }
            if !all {
                return Ok(());
            }
            after = Some(last);
        }
    }

    async fn remove_job(&self, job: u64, sent: &mut BTreeSet<(u64, Place)>) -> Result<(), DispatchError> {
        let Folders { is_busy, there } = self.folders(job).await?;
        if is_busy {
            return Ok(());
        }
        if there.is_empty() {
            return self.forget(job).await;
        }
        for (place, row) in there {
            if sent.insert((job, place)) {
                self.clean(&row).await?;
            }
        }
        Ok(())
    }

    /// One look at what has been over for long.
    pub(super) async fn retire_once(&self, now: i64) -> Result<(), DispatchError> {
        let days = |n: u64| i64::try_from(n).unwrap_or(36_500) * DAY_US;
        for job in self.store().retire_jobs(now - days(self.settings().logs_keep_days), LOGS_AT_ONCE).await? {
            self.remove_logs(job);
        }
        let keep = days(self.settings().jobs_keep_days);
        self.store().forget_tokens(now - keep).await?;
        for job in self.store().retire_jobs(now - keep, AT_ONCE).await? {
            match self.retire_job(job, now, keep).await {
                Err(error @ DispatchError::Store(StoreError::Closed)) => return Err(error),
                Err(error) => tracing::error!(job, %error, "an old job was not removed"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    async fn retire_job(&self, job: u64, now: i64, keep: i64) -> Result<(), DispatchError> {
        let ended = self.store().job(job).await?.and_then(|j| j.ended_at).unwrap_or(now);
        let is_overdue = ended < now - keep.saturating_mul(PATIENCE);
        let Folders { is_busy, there } = self.folders(job).await?;
        match (is_overdue, is_busy) {
            (true, _) => {
                for place in there.into_keys() {
                    self.left(job, place).await?;
                }
                self.forget(job).await?;
            }
            (false, true) => {}
            (false, false) if there.is_empty() => self.forget(job).await?,
            (false, false) => {
                for row in there.values() {
                    self.clean(row).await?;
                }
            }
        }
        Ok(())
    }

    async fn forget(&self, job: u64) -> Result<(), DispatchError> {
        self.remove_logs(job);
        self.store().delete_job(job).await?;
        self.0.jobs.forget(&[job]);
        self.0.events.jobs(&[job]);
        tracing::info!(job, "a job that is over was removed");
        Ok(())
    }

    /// What nobody could remove in all that time: an administrator of the host can, and learns of it here.
    async fn left(&self, job: u64, (worker, account): Place) -> Result<(), DispatchError> {
        let hint = format!("as root on the host of {worker}, remove the folder of job {job} that is {account}'s");
        tracing::warn!(job, worker, account, hint, "a job went, and a folder of it is left");
        let record = Record::new(Act::FolderLeft).outcome(Outcome::Failed).run_as(account).job(job);
        self.0.audit.write(record.object(&worker).with("hint", hint)).await?;
        Ok(())
    }

    fn remove_logs(&self, job: u64) {
        if let Err(error) = self.0.logs.remove(job) {
            tracing::warn!(job, %error, "logs were not removed");
        }
    }

    /// The folders of a job that no errand has removed yet.
    async fn folders(&self, job: u64) -> Result<Folders, DispatchError> {
        let mut ran: BTreeMap<Place, SessionRow> = BTreeMap::new();
        let (mut cleaned, mut is_busy) = (BTreeSet::new(), false);
        for row in self.store().sessions(job).await? {
            is_busy |= row.ended_at.is_none();
            match row.purpose {
                // With a reason, it could not.
                Purpose::Clean if row.end.as_deref() == Some("left") && row.reason.is_none() => {
                    cleaned.insert((row.worker, row.account));
                }
                // What was refused made no folder.
                Purpose::Run if row.started_at.is_some() => {
                    let whose = (row.worker.clone(), row.account.clone());
                    // It was tried again since.
                    cleaned.remove(&whose);
                    ran.entry(whose).or_insert(row);
                }
                Purpose::Clean | Purpose::Run | Purpose::Read => {}
            }
        }
        ran.retain(|whose, _| !cleaned.contains(whose));
        Ok(Folders { is_busy, there: ran })
    }

    /// One errand, as the account that owns the folder and in the mode that it was made in, whatever became of the
    /// worker's mode and of the right to make it since: it starts nothing of the job's. The host has the last word.
    async fn clean(&self, ran: &SessionRow) -> Result<(), DispatchError> {
        let (job, worker) = (ran.job, ran.worker.as_str());
        let is_excluded = |w: &super::farm::Worker| w.place.excluded.iter().any(|e| e.account == ran.account);
        if self.with_worker(worker, is_excluded).unwrap_or(true) {
            return Ok(());
        }
        let Some(row) = self.store().job(job).await? else { return Ok(()) };
        let who = Who { via: Via::Operator, ..who(&row)? };
        let people = self.people(&who).await?;
        let Some(plan) = former(ran) else {
            tracing::warn!(job, session = ran.id, "as whom a session ran can't be read back");
            return Ok(());
        };
        let rules = [Rule {
            rule: "owner_of_the_folder".to_owned(),
            effect: Effect::Selects,
            text: format!("the job's folder was made as {}, which removes it", ran.account),
            source: format!("session {}", ran.id),
        }];
        let terms = Terms {
            who: &who,
            people: &people,
            plan: &plan,
            rules: &rules,
            purpose: Purpose::Clean,
            limits: Limits::default(),
            umask: 0o077,
        };
        let Some((new, to)) = self.new_session(job, worker, &terms) else { return Ok(()) };
        let session = self.store().open_errand(new, clock::now()).await?;
        let (to_driver, inbox) = mpsc::unbounded_channel();
        let deadline = Instant::now() + self.settings().lease();
        let live = Live::new(job, who.user.to_string(), worker.to_owned(), deadline, to_driver);
        let live = Live { to: Some(to), ..live };
        self.farm().sessions.insert(session, live);
        if self.issue(session, job, worker, to, &terms).await? {
            let driver = Driver::new(self.clone(), session, job, worker.to_owned(), inbox).working_alone();
            tokio::spawn(driver.drive(None));
        }
        Ok(())
    }
}

/// As whom a session ran.
fn former(ran: &SessionRow) -> Option<RunPlan> {
    let account = match ran.account.as_str() {
        "throwaway" => Account::Throwaway,
        name => Account::Named { name: AccountName::parse(name).ok()?, uid: None },
    };
    let decision: serde_json::Value = serde_json::from_str(&ran.decision).ok()?;
    Some(RunPlan { account, mode: Mode::parse(&ran.mode)?, shared: decision["shared"].as_bool()?, grant: None })
}
