//! What has been over for long goes: job folders on the workers, removed as their account; logs; history; sessions and
//! tokens that have ended.

use super::farm::Live;
use super::open::Terms;
use super::session::Driver;
use super::{DispatchError, Dispatcher, who};
use crate::clock;
use crate::scheduler::Resources;
use policy::{Decision, Via, Who};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use store::{Purpose, SessionRow};
use tokio::sync::mpsc;
use warrant::Limits;

/// How often it is looked what is over for long.
const EVERY: Duration = Duration::from_secs(600);
/// Jobs looked at in one go; so many that some which can't be cleaned now don't stand before all others.
const AT_ONCE: u32 = 1000;
/// The same for logs, which are only files.
const LOGS_AT_ONCE: u32 = 100_000;
/// A folder that could not be removed in so many times the retention stays; its history goes.
const PATIENCE: i64 = 2;
const DAY_US: i64 = 86_400 * 1_000_000;

impl Dispatcher {
    pub(super) async fn retire(&self) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.retire_once(clock::now()).await {
                tracing::error!(%error, "old jobs were not removed");
            }
        }
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
            let ended = self.store().job(job).await?.and_then(|j| j.ended_at).unwrap_or(now);
            let is_overdue = ended < now - keep.saturating_mul(PATIENCE);
            if self.folders_are_gone(job).await? || is_overdue {
                self.remove_logs(job);
                self.store().delete_job(job).await?;
                tracing::info!(job, "job is over for long: removed");
            }
        }
        Ok(())
    }

    fn remove_logs(&self, job: u64) {
        if let Err(error) = self.0.logs.remove(job) {
            tracing::warn!(job, %error, "logs were not removed");
        }
    }

    /// Sees to it that every worker that ran the job removes its folders, each account's; true when all have.
    async fn folders_are_gone(&self, job: u64) -> Result<bool, DispatchError> {
        let mut ran: BTreeMap<(String, String), SessionRow> = BTreeMap::new();
        let mut cleaned = BTreeSet::new();
        for row in self.store().sessions(job).await? {
            let is_alive = row.ended_at.is_none();
            match row.purpose {
                Purpose::Clean if is_alive => return Ok(false),
                Purpose::Clean if row.end.as_deref() == Some("left") => {
                    cleaned.insert((row.worker, row.account));
                }
                // What was refused made no folder.
                Purpose::Run if row.started_at.is_some() => {
                    ran.entry((row.worker.clone(), row.account.clone())).or_insert(row);
                }
                Purpose::Clean | Purpose::Run | Purpose::Read => {}
            }
        }
        ran.retain(|whose, _| !cleaned.contains(whose));
        for ((worker, _), row) in &ran {
            self.clean(job, worker, row).await?;
        }
        Ok(ran.is_empty())
    }

    /// One errand: as the account that owns the folder, if it is still what policy says.
    async fn clean(&self, job: u64, worker: &str, ran: &SessionRow) -> Result<(), DispatchError> {
        let Some(row) = self.store().job(job).await? else { return Ok(()) };
        // The folder is there whatever became of the right to make it.
        let who = Who { via: Via::Operator, ..who(&row)? };
        let people = self.people(&who).await?;
        let Some(Decision::Run(plan, rules)) = self.decide_errand(&who, &row.name, worker).await? else {
            return Ok(());
        };
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
        if new.account != ran.account {
            return Ok(());
        }
        let session = self.store().open_errand(new, clock::now()).await?;
        let (to_driver, inbox) = mpsc::unbounded_channel();
        let live = Live {
            job,
            worker: worker.to_owned(),
            to: Some(to),
            priority: 0,
            asks: Resources::default(),
            deadline: Instant::now() + self.settings().lease(),
            since: Instant::now(),
            reported: 0,
            to_driver,
            yielding: true,
            progress: None,
            held_up: None,
            withdrawn: false,
            awaited: Vec::new(),
        };
        self.farm().sessions.insert(session, live);
        if self.issue(session, job, worker, to, &terms).await? {
            let driver = Driver::new(self.clone(), session, job, worker.to_owned(), inbox).working_alone();
            tokio::spawn(driver.drive(None));
        }
        Ok(())
    }
}
