//! The supervisor's side of one session: hands it batches until there is nothing more for it.
//!
//! After a reconnection nobody here knows which batches still reached the session, so such a session is drained:
//! what it has not started is recalled, it finishes the task it runs and leaves, and a new session takes the rest.
//! What never reached it is free again when it ends, because the store frees what a session held and never started.
//!
//! It leaves its environments by a batch of exits. The number of that batch is found by trying: the first one after
//! the last that the session said was done, and the next one each time it answers that it had that number already.
//! A session takes each number once, so that the exits run once, and what had the number before never runs.
//!
//! A session that refuses a batch while it works misses one before it. It is drained just the same: it is well, and
//! has environments to leave.

use super::batch::{self, Entered, Pace};
use super::jobs::Job;
use super::paths;
use super::{DispatchError, Dispatcher, Ends};
use crate::authn::Secret;
use crate::identity::UserSettings;
use crate::scheduler::Resources;
use policy::{Decision, Refusal};
use std::collections::BTreeSet;
use std::sync::Arc;
use store::{Lease, SessionRow};
use tokio::sync::mpsc;
use warrant::{Account, Batch, Item};
use wire::{End, Report, Task, ToWorker};

/// What a driver hears.
#[derive(Debug)]
pub(crate) enum Said {
    Reports(Summary),
    /// The worker's connection is a new one.
    Reconnected,
    /// Perhaps there is more to do, or less.
    Poke,
    /// Tasks it holds are to end. They were cancelled when that was said; a batch may have been on its way then.
    Asked,
    /// Others wait for the slot: finish what was handed out.
    Yield,
    /// No process of it is alive.
    Over,
}

/// What a group of reports means for handing out more.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    ended: u64,
    took_us: u64,
    done: Vec<u64>,
    recalled: bool,
    refused: bool,
    /// Exits that ended in one way or another.
    exits: usize,
    /// Some of them came back unstarted.
    exits_back: bool,
}

impl Summary {
    /// Tasks that ran to an end of their own.
    pub(crate) fn ended(&self) -> u64 {
        self.ended
    }

    pub(crate) fn of(reports: &[Report]) -> Self {
        let mut summary = Self::default();
        for report in reports {
            match report {
                Report::TaskEnded { end: End::Cancelled | End::CannotStart { .. }, .. } => {}
                Report::TaskEnded { started_us, ended_us, .. } => {
                    summary.ended += 1;
                    summary.took_us = summary.took_us.saturating_add(ended_us.saturating_sub(*started_us));
                }
                Report::BatchDone { sequence } => summary.done.push(*sequence),
                Report::Recalled { tasks, .. } => summary.recalled |= !tasks.is_empty(),
                Report::BatchRefused { .. } => summary.refused = true,
                Report::EnvironmentEnded { entered: false, end, .. } => {
                    summary.exits += 1;
                    summary.exits_back |= matches!(end, End::CannotStart { stage, .. } if stage == "recalled");
                }
                _ => {}
            }
        }
        summary
    }
}

/// How far a session is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Working,
    /// Gets no more tasks.
    Finishing,
    /// Was given the exits of its environments.
    Leaving,
    /// Was told that no batch follows.
    Finished,
}

/// Batches that may have reached a session without a word about it: those that are open at a time, and one of exits;
/// and as many refusals that were on their way when it was drained.
const UNKNOWN: u32 = 8;
/// Steps whose environments may be entered at a time: as far as batches may be ahead of what is known.
const INSIDE: usize = 3;

pub(crate) struct Driver {
    dispatcher: Dispatcher,
    session: u64,
    worker: String,
    job_id: u64,
    /// `None`: found alive after a restart; it is only drained.
    job: Option<Arc<Job>>,
    account: Option<Account>,
    /// What the session was opened with.
    asks: Resources,
    /// What the user carries, as far as it was asked for.
    settings: Arc<UserSettings>,
    step: u32,
    /// The last batch sent.
    sequence: u64,
    /// The highest that the session said was done.
    done: u64,
    /// Batches that are not done.
    open: BTreeSet<u64>,
    pace: Pace,
    /// Claimed, and too much for the last batch.
    rest: Option<Lease>,
    entered: Entered,
    /// Steps whose environments the session may have entered, the latest last; as the store knows them.
    inside: Vec<u32>,
    /// What leaves the environments, once the session is to leave.
    exits: Option<Vec<Item>>,
    /// Exits that ended since they were sent, and whether some came back.
    exits_ended: usize,
    exits_back: bool,
    refusals: u32,
    stage: Stage,
    is_alone: bool,
    /// Found alive, and its worker isn't here yet.
    is_away: bool,
    /// What reached it isn't known.
    is_drained: bool,
    /// Tasks it holds are to end.
    is_asked: bool,
    /// What it was opened by may have ended since.
    is_doubtful: bool,
    /// When the right that was found last ends by itself.
    ends: Ends,
    /// Made, and not handed over yet.
    fresh_token: Option<Secret>,
    inbox: mpsc::UnboundedReceiver<Said>,
}

impl Driver {
    pub(super) fn new(
        dispatcher: Dispatcher,
        session: u64,
        job_id: u64,
        worker: String,
        inbox: mpsc::UnboundedReceiver<Said>,
    ) -> Self {
        Self {
            dispatcher,
            session,
            worker,
            job_id,
            job: None,
            account: None,
            asks: Resources::default(),
            settings: Arc::default(),
            step: 0,
            sequence: 0,
            done: 0,
            open: BTreeSet::new(),
            pace: Pace::default(),
            rest: None,
            entered: Entered::default(),
            inside: Vec::new(),
            exits: None,
            exits_ended: 0,
            exits_back: false,
            refusals: 0,
            stage: Stage::Finishing,
            is_alone: false,
            is_away: false,
            is_drained: false,
            is_asked: false,
            is_doubtful: false,
            ends: None,
            fresh_token: None,
            inbox,
        }
    }

    /// For a session that was just opened for a step of `job`.
    pub(super) fn working(
        mut self,
        job: Arc<Job>,
        step: u32,
        account: Account,
        asks: Resources,
        settings: Arc<UserSettings>,
    ) -> Self {
        (self.job, self.step, self.account, self.stage) = (Some(job), step, Some(account), Stage::Working);
        (self.asks, self.settings) = (asks, settings);
        self
    }

    /// Whether the decision is made again before its first batch, as before each other one.
    pub(super) fn asking_again(mut self, is_doubtful: bool) -> Self {
        self.is_doubtful = is_doubtful;
        self
    }

    /// When what it was opened by ends by itself.
    pub(super) fn until(mut self, ends: Ends) -> Self {
        self.ends = ends;
        self
    }

    /// For a session found alive, as the store knows it.
    pub(super) fn kept(mut self, row: &SessionRow) -> Self {
        (self.done, self.inside, self.is_away) = (row.batches, row.entered.clone(), true);
        self
    }

    /// For a session that needs nothing of us.
    pub(super) fn working_alone(mut self) -> Self {
        (self.stage, self.is_alone) = (Stage::Finished, true);
        self
    }

    /// From the first lease to the last report.
    pub(super) async fn drive(mut self, first: Option<Lease>) {
        if let Some(lease) = first {
            let is_all = self.is_all(&lease);
            match self.hand_out_first(lease).await {
                // Nothing can follow: it need not ask before it leaves.
                Ok(()) if is_all && self.entered.is_empty() => self.finish(),
                Ok(()) => {}
                Err(error) => self.give_up(&error),
            }
            // Somebody may have killed the job before there was a driver to hear of it.
            self.is_asked = true;
        }
        if let Err(error) = self.cancel_asked().await {
            self.give_up(&error);
        }
        while let Some(said) = self.inbox.recv().await {
            let mut next = Some(said);
            while let Some(said) = next {
                match said {
                    Said::Over => return self.revoke_token().await,
                    said => self.hear(said),
                }
                next = self.inbox.try_recv().ok();
            }
            if let Err(error) = self.cancel_asked().await {
                self.give_up(&error);
            }
            if let Err(error) = self.feed().await {
                self.give_up(&error);
            }
        }
    }

    async fn hand_out_first(&mut self, lease: Lease) -> Result<(), DispatchError> {
        if self.is_doubtful
            && let Some(job) = self.job.clone()
            && !self.may_go_on(&job).await?
        {
            // What it holds goes back with its end.
            self.finish_soon();
            return self.feed().await;
        }
        self.hand_out(lease).await
    }

    /// The job has no other task, and this one no other try.
    fn is_all(&self, lease: &Lease) -> bool {
        let Some(job) = &self.job else { return false };
        let tasks = lease.last - lease.first + 1;
        job.spec.retries == 0 && matches!(job.plan.steps(), [only] if only.tasks == tasks)
    }

    /// Says again which tasks are to end, now that all that was handed out is on its way.
    async fn cancel_asked(&mut self) -> Result<(), DispatchError> {
        if !std::mem::take(&mut self.is_asked) {
            return Ok(());
        }
        for t in self.dispatcher.store().asked(self.session).await? {
            let task = Task { step: t.step, index: t.index, epoch: t.epoch };
            self.tell(&ToWorker::Cancel { session: self.session, task });
        }
        Ok(())
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::Reports(summary) => {
                self.pace.ended(summary.ended, summary.took_us);
                self.exits_ended += summary.exits;
                self.exits_back |= summary.exits_back;
                self.done_with(&summary.done);
                // What was to enter an environment may have come back unstarted with the tasks.
                if summary.recalled && !self.entered.is_empty() {
                    self.finish_soon();
                }
                if summary.refused {
                    self.refused();
                }
            }
            Said::Reconnected => self.drain(),
            Said::Asked => {
                self.is_asked = true;
                // What it holds and was not sent can't be cancelled: it goes back with the session's end.
                if self.rest.is_some() {
                    self.finish_soon();
                }
            }
            Said::Yield => self.finish_soon(),
            Said::Poke | Said::Over => {}
        }
    }

    fn done_with(&mut self, batches: &[u64]) {
        // Without all exits it was another batch that had the number of ours: ours will be refused.
        let exits = self.exits.as_ref().map_or(0, Vec::len);
        let is_ours = |n: u64| self.stage != Stage::Leaving || n != self.sequence || self.exits_ended >= exits;
        let ours: Vec<u64> = batches.iter().copied().filter(|n| is_ours(*n)).collect();
        for sequence in ours {
            self.open.remove(&sequence);
        }
        self.done = batches.iter().copied().fold(self.done, u64::max);
    }

    fn finish_soon(&mut self) {
        self.stage = self.stage.max(Stage::Finishing);
    }

    /// Hands out what the session should have now; ends it when there is nothing.
    async fn feed(&mut self) -> Result<(), DispatchError> {
        while self.stage == Stage::Working {
            let ahead = if self.pace.is_short(self.dispatcher.settings().batch_target_ms) { 2 } else { 1 };
            if self.open.len() >= ahead {
                return Ok(());
            }
            match self.claim().await? {
                Some(lease) => self.hand_out(lease).await?,
                None if self.open.is_empty() => self.finish_soon(),
                None => return Ok(()),
            }
        }
        if self.stage == Stage::Leaving && self.open.is_empty() {
            self.left();
        }
        if self.stage == Stage::Finishing && self.open.is_empty() && !self.is_away {
            self.leave().await;
        }
        if self.stage == Stage::Finished && self.open.is_empty() && !self.is_drained && !self.is_alone {
            self.dispatcher.leaves(self.session);
        }
        Ok(())
    }

    /// More tasks of the job: of the same step, or of one that asks for the same.
    async fn claim(&mut self) -> Result<Option<Lease>, DispatchError> {
        let Some(job) = self.job.clone() else { return Ok(None) };
        if self.dispatcher.farm().is_withdrawn(self.session) || !self.may_go_on(&job).await? {
            return Ok(None);
        }
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        // What is leased goes on; nothing new begins.
        if self.dispatcher.0.room.begin().is_err() {
            return Ok(None);
        }
        let d = self.dispatcher.clone();
        let mut steps: Vec<_> = d.store().steps(job.id).await?;
        steps.retain(|s| s.counts.pending > 0 && !s.waiting && !s.hopeless && job.is_alike(s.step, self.step));
        steps.sort_by_key(|s| (s.step != self.step, s.step));
        for step in steps {
            let sessions = d.sessions_of_job(job.id);
            let max = self.pace.next(d.settings().batch_target_ms, step.counts.pending, sessions);
            if let Some(lease) = d.store().claim(self.session, step.step, max, crate::clock::now()).await? {
                self.step = lease.step;
                d.0.metrics.dispatched.add(lease.last - lease.first + 1);
                return Ok(Some(lease));
            }
        }
        Ok(None)
    }

    /// The decision, made again: the same account as when the session was opened, and nothing that holds it back.
    async fn may_go_on(&mut self, job: &Job) -> Result<bool, DispatchError> {
        match self.dispatcher.decide(&job.who, job.plan.name(), &self.worker).await? {
            Some((Decision::Run(plan, _), ends)) if Some(&plan.account) == self.account.as_ref() => self.ends = ends,
            Some((Decision::Blocked(refusal, _), _)) => return self.is_over_for_all(job, &refusal).await,
            Some((Decision::Run(..) | Decision::Waiting(..) | Decision::Refused(..), _)) | None => return Ok(false),
        }
        let user = job.who.user.as_str();
        let carried = self.dispatcher.carried(&job.who).await?;
        match carried.and_then(|settings| Ok((settings.asks(user, job.asks(self.step))?, settings))) {
            Err(refusal) => self.is_over_for_all(job, &refusal).await,
            // What the host bounds it by stays as it is: another session gets the new bounds.
            Ok((asks, _)) if asks != self.asks => Ok(false),
            Ok((_, settings)) => {
                let admits = |w: &super::Worker| w.place.admits(&settings.workers).is_ok();
                let is_admitted = self.dispatcher.with_worker(&self.worker, admits) == Some(true);
                self.settings = settings;
                Ok(is_admitted)
            }
        }
    }

    /// Not this session alone: the others of the job get nothing more either.
    async fn is_over_for_all(&self, job: &Job, refusal: &Refusal) -> Result<bool, DispatchError> {
        self.dispatcher.right_ended(job.id, &job.who, refusal).await.map(|()| false)
    }

    async fn hand_out(&mut self, lease: Lease) -> Result<(), DispatchError> {
        let Some(job) = self.job.clone() else { return Ok(()) };
        if job.spec.token && self.sequence == 0 {
            self.fresh_token = Some(self.dispatcher.make_token(&job, self.session).await?);
        }
        self.note_environments(&job, lease.step).await?;
        let items = match self.items(&job, lease).await {
            Ok((items, rest)) => {
                self.rest = rest;
                items
            }
            Err(error) => {
                let reason = format!("a task of step {} can't be worked out: {error}", lease.step);
                self.dispatcher.block(job.id, reason).await?;
                return Err(DispatchError::Task { job: job.id, error });
            }
        };
        self.send(&job, items).await
    }

    /// What a template's expressions cost is not paid on a thread that others wait for.
    async fn items(&mut self, job: &Arc<Job>, lease: Lease) -> Result<(Vec<Item>, Option<Lease>), job::JobError> {
        if !job.is_template() {
            return batch::items(job, &lease, &mut self.entered, &mut self.pace);
        }
        let (job, mut entered, mut pace) = (job.clone(), self.entered.clone(), self.pace.clone());
        let worked_out = tokio::task::spawn_blocking(move || {
            let items = batch::items(&job, &lease, &mut entered, &mut pace);
            (items, entered, pace)
        });
        match worked_out.await {
            Ok((items, entered, pace)) => {
                (self.entered, self.pace) = (entered, pace);
                items
            }
            Err(broken) => std::panic::resume_unwind(broken.into_panic()),
        }
    }

    /// Before a session may enter environments, the store knows whose: whoever drives it later has to leave them.
    async fn note_environments(&mut self, job: &Job, step: u32) -> Result<(), DispatchError> {
        if self.inside.last() == Some(&step) || !batch::has_exits(job, step) {
            return Ok(());
        }
        self.inside.retain(|s| *s != step);
        self.inside.push(step);
        let old = self.inside.len().saturating_sub(INSIDE);
        self.inside.drain(..old);
        Ok(self.dispatcher.store().enters(self.session, &self.inside).await?)
    }

    /// One that can never be sent blocks the job: it would be as long the next time.
    async fn send(&mut self, job: &Job, items: Vec<Item>) -> Result<(), DispatchError> {
        let size = batch::total(&items);
        if size > batch::BYTES_MAX {
            let (limit, mib) = (batch::BYTES_MAX >> 20, size >> 20);
            let reason = format!("what a session is to be given at once has {mib} MiB, at most {limit} are allowed");
            self.dispatcher.block(job.id, reason).await?;
            self.tell(&ToWorker::Kill { session: self.session });
            self.stage = Stage::Finished;
            return Ok(());
        }
        let settings = self.settings.clone();
        let mut batch = batch::batch(self.dispatcher.keys().farm, self.session, 0, job, &settings, 0, items);
        if job.spec.convert_paths {
            batch = self.with_its_paths(batch).await;
        }
        self.sequence += 1;
        self.open.insert(self.sequence);
        let (session, sequence) = (self.session, self.sequence);
        let fresh = self.fresh_token.take();
        let d = &self.dispatcher;
        let is_exits = self.stage == Stage::Leaving;
        let farm = d.farm();
        // Under the same lock as it is withdrawn: a batch is on its way before the recall, or never.
        if farm.is_withdrawn(session) && !is_exits {
            drop(farm);
            self.open.remove(&sequence);
            self.sequence -= 1;
            self.finish_soon();
            return Ok(());
        }
        let sent = farm.workers.get(&self.worker).map(|worker| {
            // A task that a grant lets run begins before the grant's end. What is entered is left all the same.
            let ends = self.ends.filter(|_| !is_exits);
            batch.sequence = sequence;
            batch.not_after = worker.clock.now() + batch::starts_within(ends, crate::clock::now());
            if job.spec.token {
                batch::hand_token(&mut batch, d.url(), fresh);
            }
            batch::hand_nice(&mut batch, worker.nice);
            let signed = batch.sign(&d.keys().warrant).encode();
            worker.outbox.send(&ToWorker::Batch { session, sequence }, &signed)
        });
        drop(farm);
        if sent != Some(true) {
            // The worker is away; when it is back, the session is drained.
            tracing::debug!(session, sequence, "a batch was not sent");
        }
        Ok(())
    }

    /// As its worker's host has paths. Megabytes of them take long: not under the farm's lock, and not on a thread that
    /// others wait for.
    async fn with_its_paths(&self, mut batch: Batch) -> Batch {
        let map = self.dispatcher.with_worker(&self.worker, |worker| worker.path_map.clone());
        let Some(map) = map.filter(|map| !map.is_empty()) else { return batch };
        let work = move || {
            let is_done = paths::convert(&mut batch, &map);
            (batch, is_done)
        };
        let (batch, is_done) = match tokio::task::spawn_blocking(work).await {
            Ok(converted) => converted,
            Err(broken) => std::panic::resume_unwind(broken.into_panic()),
        };
        if !is_done {
            tracing::warn!(
                job = batch.job,
                worker = self.worker,
                "its paths are not converted: too much would be sent"
            );
        }
        batch
    }

    /// It is of no use any more; this is for those who look at the table.
    async fn revoke_token(&self) {
        if self.job.as_ref().is_some_and(|job| job.spec.token)
            && let Err(error) =
                self.dispatcher.store().revoke_tokens_of_session(self.session, crate::clock::now()).await
        {
            tracing::warn!(session = self.session, %error, "its token is not marked as revoked");
        }
    }

    /// Leaves the environments, then the session, once nothing is open.
    async fn leave(&mut self) {
        let exits = match self.exits.clone() {
            Some(exits) => exits,
            None => self.exits().await,
        };
        self.exits = Some(exits.clone());
        match self.job.clone() {
            Some(job) if !exits.is_empty() => {
                (self.exits_ended, self.exits_back) = (0, false);
                self.stage = Stage::Leaving;
                if let Err(error) = self.send(&job, exits).await {
                    self.give_up(&error);
                }
            }
            _ => self.finish(),
        }
    }

    /// Exits of what is entered, as far as it is known; a session passes over those it never entered.
    async fn exits(&mut self) -> Vec<Item> {
        if !self.is_drained {
            return self.entered.leave();
        }
        if self.inside.is_empty() {
            return Vec::new();
        }
        if self.job.is_none() {
            match self.dispatcher.jobs().get(self.dispatcher.store(), self.job_id).await {
                Ok(job) => {
                    // Environments are left as they were entered, as far as that can be had.
                    if let Ok(Ok(settings)) = self.dispatcher.carried(&job.who).await {
                        self.settings = settings;
                    }
                    self.job = Some(job);
                }
                Err(error) => {
                    let (session, job) = (self.session, self.job_id);
                    tracing::error!(session, job, %error, "environments are not left");
                    return Vec::new();
                }
            }
        }
        self.job.as_ref().map(|job| batch::exits(job, &self.inside)).unwrap_or_default()
    }

    /// The batch of exits is done, or came back because its time was over while a task ran.
    fn left(&mut self) {
        if self.exits_back {
            self.stage = Stage::Finishing;
        } else {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.tell(&ToWorker::Finish { session: self.session });
        self.stage = Stage::Finished;
    }

    fn refused(&mut self) {
        match self.stage {
            // It had that number already: the next one.
            Stage::Leaving if self.refusals < UNKNOWN => {
                self.refusals += 1;
                self.sequence = self.sequence.max(self.done);
                self.open.clear();
                self.stage = Stage::Finishing;
            }
            Stage::Leaving => {
                tracing::warn!(session = self.session, "it takes no batch, not even its exits, and is ended");
                self.tell(&ToWorker::Kill { session: self.session });
                self.stage = Stage::Finished;
            }
            // Of before: what became of it is about to be found out.
            Stage::Working | Stage::Finishing if self.is_away || self.is_drained => {}
            Stage::Working | Stage::Finishing => {
                tracing::warn!(session = self.session, "it refused a batch, and is drained");
                self.drain();
            }
            Stage::Finished => {}
        }
    }

    fn drain(&mut self) {
        if self.is_alone {
            return;
        }
        self.dispatcher.farm().recall(self.session, &self.worker);
        (self.stage, self.is_away, self.is_drained, self.refusals) = (Stage::Finishing, false, true, 0);
        // Which of those that are open it has is found out.
        self.sequence = self.done;
        self.open.clear();
        self.exits = None;
    }

    /// Something went wrong on our side: the session is ended, and its end frees what it held.
    fn give_up(&mut self, error: &DispatchError) {
        tracing::error!(session = self.session, %error, "the session is given up");
        self.tell(&ToWorker::Kill { session: self.session });
        self.stage = Stage::Finished;
    }

    fn tell(&self, message: &ToWorker) {
        self.dispatcher.tell_worker(&self.worker, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reports_mean_for_handing_out_more() {
        let task = |index| Task { step: 0, index, epoch: 1 };
        let ended = |index, end| Report::TaskEnded {
            task: task(index),
            end,
            started_us: 100,
            ended_us: 350,
            cpu_us: 0,
            max_rss: 0,
        };
        let summary = Summary::of(&[
            ended(0, End::Exited { code: 0 }),
            ended(1, End::Exited { code: 1 }),
            ended(2, End::Cancelled),
            Report::BatchDone { sequence: 1 },
            Report::Recalled { tasks: Vec::new(), answers: 1 },
        ]);
        assert_eq!(summary, Summary { ended: 2, took_us: 500, done: vec![1], recalled: false, ..Summary::default() });
        assert!(Summary::of(&[Report::Recalled { tasks: vec![task(3)], answers: 1 }]).recalled);
        assert!(Summary::of(&[Report::BatchRefused { text: String::new() }]).refused);
    }
}
