//! The supervisor's side of one session: hands it batches until there is nothing more for it.
//!
//! After a reconnection nobody here knows which batches still reached the session, so such a session is drained:
//! what it has not started is recalled, it finishes the task it runs and leaves, and a new session takes the rest.
//! What never reached it is free again when it ends, because the store frees what a session held and never started.

use super::batch::{self, Entered, Pace};
use super::jobs::Job;
use super::{DispatchError, Dispatcher};
use policy::Decision;
use std::collections::BTreeSet;
use std::sync::Arc;
use store::Lease;
use tokio::sync::mpsc;
use warrant::{Account, Item};
use wire::{End, Report, ToWorker};

/// What a driver hears.
#[derive(Debug)]
pub(crate) enum Said {
    Reports(Summary),
    /// The worker's connection is a new one.
    Reconnected,
    /// Perhaps there is more to do, or less.
    Poke,
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
}

impl Summary {
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
                Report::Recalled { tasks } => summary.recalled |= !tasks.is_empty(),
                Report::BatchRefused { .. } => summary.refused = true,
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
    /// Was told so.
    Finished,
}

pub(crate) struct Driver {
    dispatcher: Dispatcher,
    session: u64,
    worker: String,
    /// `None`: found alive after a restart; it is only drained.
    job: Option<Arc<Job>>,
    account: Option<Account>,
    step: u32,
    sequence: u64,
    /// Batches that are not done.
    open: BTreeSet<u64>,
    pace: Pace,
    entered: Entered,
    stage: Stage,
    is_alone: bool,
    inbox: mpsc::UnboundedReceiver<Said>,
}

impl Driver {
    pub(super) fn new(
        dispatcher: Dispatcher,
        session: u64,
        worker: String,
        inbox: mpsc::UnboundedReceiver<Said>,
    ) -> Self {
        Self {
            dispatcher,
            session,
            worker,
            job: None,
            account: None,
            step: 0,
            sequence: 0,
            open: BTreeSet::new(),
            pace: Pace::default(),
            entered: Entered::default(),
            stage: Stage::Finishing,
            is_alone: false,
            inbox,
        }
    }

    /// For a session that was just opened for a step of `job`.
    pub(super) fn working(mut self, job: Arc<Job>, step: u32, account: Account) -> Self {
        (self.job, self.step, self.account, self.stage) = (Some(job), step, Some(account), Stage::Working);
        self
    }

    /// For a session that needs nothing of us.
    pub(super) fn working_alone(mut self) -> Self {
        (self.stage, self.is_alone) = (Stage::Finished, true);
        self
    }

    /// From the first lease to the last report.
    pub(super) async fn drive(mut self, first: Option<Lease>) {
        if let Some(lease) = first
            && let Err(error) = self.hand_out(lease).await
        {
            self.give_up(&error);
        }
        while let Some(said) = self.inbox.recv().await {
            let mut next = Some(said);
            while let Some(said) = next {
                match said {
                    Said::Over => return,
                    said => self.hear(said),
                }
                next = self.inbox.try_recv().ok();
            }
            if let Err(error) = self.feed().await {
                self.give_up(&error);
            }
        }
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::Reports(summary) => {
                self.pace.ended(summary.ended, summary.took_us);
                for sequence in &summary.done {
                    self.open.remove(sequence);
                }
                // What was to enter an environment may have come back unstarted with the tasks.
                if summary.refused || (summary.recalled && !self.entered.is_empty()) {
                    self.finish_soon();
                }
            }
            Said::Reconnected => self.drain(),
            Said::Yield => self.finish_soon(),
            Said::Poke | Said::Over => {}
        }
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
        if self.stage == Stage::Finishing && self.open.is_empty() {
            self.finish();
        }
        Ok(())
    }

    /// More tasks of the job: of the same step, or of one that asks for the same.
    async fn claim(&mut self) -> Result<Option<Lease>, DispatchError> {
        let Some(job) = self.job.clone() else { return Ok(None) };
        if !self.may_go_on(&job) {
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
                return Ok(Some(lease));
            }
        }
        Ok(None)
    }

    /// The decision, made again: the same account as when the session was opened, and nothing that holds it back.
    fn may_go_on(&self, job: &Job) -> bool {
        match self.dispatcher.decide(&job.who, &self.worker) {
            Some(Decision::Run(plan, _)) => Some(&plan.account) == self.account.as_ref(),
            Some(Decision::Waiting(..) | Decision::Refused(..)) | None => false,
        }
    }

    async fn hand_out(&mut self, lease: Lease) -> Result<(), DispatchError> {
        let Some(job) = self.job.clone() else { return Ok(()) };
        let items = match batch::items(&job, &lease, &mut self.entered, &mut self.pace) {
            Ok(items) => items,
            Err(error) => {
                let reason = format!("a task of step {} can't be worked out: {error}", lease.step);
                self.dispatcher.block(job.id, reason).await?;
                return Err(DispatchError::Task { job: job.id, error });
            }
        };
        self.send(&job, items);
        Ok(())
    }

    fn send(&mut self, job: &Job, items: Vec<Item>) {
        self.sequence += 1;
        self.open.insert(self.sequence);
        let (session, sequence) = (self.session, self.sequence);
        let d = &self.dispatcher;
        let sent = d.with_worker(&self.worker, |worker| {
            let not_after = worker.clock.now() + batch::NOT_AFTER_MS;
            let batch = batch::batch(d.keys().farm, session, sequence, job, not_after, items);
            let signed = batch.sign(&d.keys().warrant).encode();
            worker.outbox.send(&ToWorker::Batch { session, sequence }, &signed)
        });
        if sent != Some(true) {
            // The worker is away; when it is back, the session is drained.
            tracing::debug!(session, sequence, "a batch was not sent");
        }
    }

    /// Leaves the environments and the session, once nothing is open.
    fn finish(&mut self) {
        let leave = self.entered.leave();
        if let (Some(job), false) = (self.job.clone(), leave.is_empty()) {
            self.send(&job, leave);
        }
        self.tell(&ToWorker::Finish { session: self.session });
        self.stage = Stage::Finished;
    }

    fn drain(&mut self) {
        if self.is_alone {
            return;
        }
        self.tell(&ToWorker::Recall { session: self.session, through: u64::MAX });
        self.finish();
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
    use wire::Task;

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
            Report::Recalled { tasks: Vec::new() },
        ]);
        assert_eq!(summary, Summary { ended: 2, took_us: 500, done: vec![1], recalled: false, refused: false });
        assert!(Summary::of(&[Report::Recalled { tasks: vec![task(3)] }]).recalled);
        assert!(Summary::of(&[Report::BatchRefused { text: String::new() }]).refused);
    }
}
