//! Work goes out and word of it comes back: connected workers, warrants, batches, leases.
//!
//! What happened is in the store; what is known right now is in [`farm`]. The scheduler decides on plain structs,
//! `policy` decides who may run where, and here that becomes signed bytes for one worker. Each session has a driver
//! ([`session`]) of its own; a session that was not handed out by this connection of its worker is only drained.
//!
//! Deadlines are counted on the monotonic clock: a jump of the wall clock ends no lease. After a restart each session
//! found in the store is given a whole lease from then on, because its last renewal can't have been later.

mod batch;
mod channel;
mod farm;
mod jobs;
mod open;
mod place;
mod proof;
mod retention;
mod session;

pub(crate) use channel::channel;
pub(crate) use jobs::{JobsError, who};
#[cfg(test)]
pub(crate) use place::tests::hello as hello_for_tests;

use crate::audit::{Audit, AuditError, Record};
use crate::clock;
use crate::config::Settings;
use crate::events::{Event, Events};
use crate::keys::Keys;
use crate::logs::Logs;
use crate::scheduler;
use farm::{Farm, Live, Outbox, Worker};
use futures_util::future::join_all;
use job::JobAction;
use jobs::Jobs;
use place::{HelloError, HostClock};
use policy::{Decision, Place, Who};
use session::{Driver, Said, Summary};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use store::{Acted, NewWorker, Reported, SessionRow, Store, StoreError, WorkerRow};
use tokio::sync::{Notify, mpsc, oneshot};
use warrant::{PublicKey, Renewal, hex};
use wire::{Account, FromWorker, Hello, Keep, Report, Reports, Task, ToWorker};

/// How much longer than its lease a session is waited for.
const GRACE: Duration = Duration::from_secs(5);
/// Least time between two rounds: what arrives meanwhile is looked at together.
const PAUSE: Duration = Duration::from_millis(5);
/// Longest time without a round.
const IDLE: Duration = Duration::from_secs(30);
/// Ready steps looked at in a round; more when all of them find no place.
const READY: usize = 256;
const READY_MAX: usize = 4096;
const LOOKUP_PATIENCE: Duration = Duration::from_secs(3);

/// Why something was not handed out or taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DispatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Jobs(#[from] JobsError),
    #[error("a task of job {job} can't be worked out: {error}")]
    Task { job: u64, error: job::JobError },
}

/// Clones are the same dispatcher.
#[derive(Clone)]
pub(crate) struct Dispatcher(Arc<Inner>);

struct Inner {
    store: Store,
    audit: Audit,
    events: Events,
    logs: Logs,
    keys: Keys,
    settings: Settings,
    farm: Mutex<Farm>,
    jobs: Jobs,
    wake: Notify,
}

impl Dispatcher {
    /// Takes over what the store says is alive.
    pub(crate) async fn new(
        store: Store,
        audit: Audit,
        events: Events,
        logs: Logs,
        keys: Keys,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let alive = store.live_sessions(None).await?;
        let farm = Mutex::default();
        let inner =
            Inner { store, audit, events, logs, keys, settings, farm, jobs: Jobs::default(), wake: Notify::new() };
        let dispatcher = Self(Arc::new(inner));
        for row in alive {
            dispatcher.adopt(&row);
        }
        Ok(dispatcher)
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        tokio::join!(self.schedule(), self.keep_time(), self.retire());
    }

    /// Ends the connections of all workers; they come back when somebody is there again.
    pub(crate) fn hang_up(&self) {
        self.farm().workers.clear();
    }

    pub(crate) fn wake(&self) {
        self.0.wake.notify_one();
    }

    fn farm(&self) -> MutexGuard<'_, Farm> {
        self.0.farm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> &Store {
        &self.0.store
    }

    fn keys(&self) -> &Keys {
        &self.0.keys
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    // --- rounds

    async fn schedule(&self) {
        loop {
            let rest = match self.rounds().await {
                Ok(rest) => rest,
                Err(error) => {
                    tracing::error!(%error, "a scheduling round failed");
                    Duration::from_secs(1)
                }
            };
            tokio::time::sleep(PAUSE).await;
            // Nothing said meanwhile is missed: a notification is kept.
            let _ = tokio::time::timeout(rest, self.0.wake.notified()).await;
        }
    }

    /// Places what can be placed; says after what time to look again.
    async fn rounds(&self) -> Result<Duration, DispatchError> {
        let mut limit = READY;
        loop {
            let now = clock::now();
            let ready = self.store().ready(limit, now).await?;
            let candidates = self.candidates(&ready).await?;
            let (plan, yields) = {
                let farm = self.farm();
                let workers = farm.for_scheduler();
                let plan = scheduler::plan(&workers, &candidates, &farm.sessions_by_job());
                let yields = scheduler::yields(&workers, &candidates, &farm.running(), &plan);
                (plan, yields)
            };
            self.ask_to_yield(&yields);
            self.say_why(&plan).await?;
            let opened = join_all(plan.placements.into_iter().map(|p| self.open(p))).await;
            let opened: usize = opened.into_iter().map(|o| usize::from(self.logged_open(o))).sum();
            let has_room = self.farm().for_scheduler().iter().any(|w| w.free_slots > 0 && w.place.panic.is_none());
            if has_room && ready.len() == limit && opened == 0 && limit < READY_MAX {
                limit *= 4;
            } else if opened == 0 {
                return self.rest(now).await;
            }
        }
    }

    fn logged_open(&self, opened: Result<bool, DispatchError>) -> bool {
        opened.unwrap_or_else(|error| {
            tracing::error!(%error, "a session was not opened");
            false
        })
    }

    async fn rest(&self, now: i64) -> Result<Duration, DispatchError> {
        let retry = self.store().next_retry(now).await?;
        let until = retry.map_or(IDLE, |at| Duration::from_micros(u64::try_from(at - now).unwrap_or(0)));
        Ok(until.min(IDLE))
    }

    async fn candidates(&self, ready: &[store::Ready]) -> Result<Vec<scheduler::Candidate>, DispatchError> {
        let mut candidates = Vec::with_capacity(ready.len());
        for step in ready {
            match self.0.jobs.get(self.store(), step.job).await {
                Ok(job) => candidates.push(scheduler::Candidate {
                    job: step.job,
                    step: step.step,
                    priority: step.priority,
                    who: job.who.clone(),
                    count: step.count,
                    requires: job.requires(step.step),
                    asks: job.asks(step.step),
                }),
                Err(JobsError::Store(error)) => return Err(error.into()),
                Err(JobsError::Gone(_)) => {}
                // It would come back in every round.
                Err(error) => self.block(step.job, error.to_string()).await?,
            }
        }
        Ok(candidates)
    }

    fn ask_to_yield(&self, sessions: &[u64]) {
        let mut farm = self.farm();
        for session in sessions {
            if let Some(live) = farm.sessions.get_mut(session) {
                live.yielding = true;
            }
            farm.tell(*session, Said::Yield);
        }
    }

    /// Tells the store why jobs wait, where that changed.
    async fn say_why(&self, plan: &scheduler::Plan) -> Result<(), DispatchError> {
        let mut changed = Vec::new();
        {
            let mut farm = self.farm();
            let busy = farm.sessions_by_job();
            // A job that runs is not pending; it is looked at again when its sessions are over.
            for (job, reason) in plan.waiting.iter().filter(|(job, _)| !busy.contains_key(job)) {
                let known = farm.reasons.get(job);
                if known != Some(reason) && !(known.is_none() && reason.is_none()) {
                    farm.reasons.insert(*job, reason.clone());
                    changed.push((*job, reason.clone()));
                }
            }
            for placement in &plan.placements {
                if farm.reasons.remove(&placement.job).flatten().is_some() {
                    changed.push((placement.job, None));
                }
            }
        }
        for (job, reason) in changed {
            self.store().set_reason(job, reason).await?;
            self.0.events.say(Event::Job(job));
        }
        Ok(())
    }

    async fn block(&self, job: u64, reason: String) -> Result<(), DispatchError> {
        tracing::warn!(job, reason, "the job is blocked");
        let acted = self.store().block_with_reason(job, reason, clock::now()).await?;
        self.acted(JobAction::Block, &acted);
        Ok(())
    }

    // --- what people did

    /// Passes an act on to the sessions it concerns.
    pub(crate) fn acted(&self, action: JobAction, acted: &Acted) {
        {
            let farm = self.farm();
            match action {
                JobAction::Kill | JobAction::Block => {
                    for (session, worker) in &acted.sessions {
                        if acted.running.iter().any(|t| t.session == *session) {
                            let recall = ToWorker::Recall { session: *session, through: u64::MAX };
                            farm.send_to(worker, &recall, &[]);
                        }
                    }
                }
                JobAction::Suspend => {
                    for (session, worker) in &acted.sessions {
                        farm.send_to(worker, &ToWorker::Suspend { session: *session }, &[]);
                    }
                }
                JobAction::Resume => {
                    for (session, worker) in &acted.sessions {
                        farm.send_to(worker, &ToWorker::Resume { session: *session }, &[]);
                    }
                }
                JobAction::Retry | JobAction::Unblock => {}
            }
            for t in &acted.running {
                let task = Task { step: t.step, index: t.index, epoch: t.epoch };
                farm.send_to(&t.worker, &ToWorker::Cancel { session: t.session, task }, &[]);
            }
            farm.poke(&acted.changed_jobs);
        }
        self.changed(&acted.changed_jobs, &acted.finished_jobs);
    }

    fn changed(&self, changed: &[u64], finished: &[u64]) {
        {
            let mut farm = self.farm();
            for job in finished {
                farm.reasons.remove(job);
            }
        }
        self.0.jobs.forget(finished);
        self.0.events.jobs(changed);
        self.wake();
    }

    pub(crate) fn set_drained(&self, name: &str, drained: bool) {
        {
            let mut farm = self.farm();
            if let Some(worker) = farm.workers.get_mut(name) {
                worker.place.drained = drained;
            }
            for session in farm.sessions_of_worker(name) {
                farm.tell(session, Said::Poke);
            }
        }
        self.0.events.say(Event::Worker);
        self.wake();
    }

    // --- workers

    /// Takes a worker in: what it is, which of its sessions go on.
    async fn hello(&self, hello: Hello, outbox: Outbox) -> Result<(String, u64), HelloError> {
        let name = hello.name.clone();
        let stored = |e: StoreError| HelloError::Store(e.to_string());
        let mut checked = place::check(&hello)?;
        self.wait_for_the_former(&name).await?;
        let host_key = self.pinned(&name, checked.host_key).await?;
        let known = self.store().workers().await.map_err(stored)?.into_iter().find(|w| w.name == name);
        checked.place.drained = known.as_ref().is_some_and(|w| w.drained);
        if known.and_then(|w| incarnation_of(&w)) != Some(hello.incarnation.clone()) {
            self.store().clear_exclusions(&name).await.map_err(stored)?;
        }
        checked.place.excluded = self.excluded(&name).await.map_err(stored)?;
        self.store().upsert_worker(row_of(&hello), clock::now()).await.map_err(stored)?;
        let keep = self.settle_sessions(&hello).await.map_err(stored)?;
        let kept: Vec<u64> = keep.iter().map(|k| k.session).collect();
        let welcome = ToWorker::Welcome {
            farm: self.keys().farm_hex(),
            keys: vec![hex(&self.keys().warrant.public().to_bytes())],
            keep,
        };
        let connection = {
            let mut farm = self.farm();
            let connection = farm.number();
            outbox.send(&welcome, &[]);
            farm.workers.insert(
                name.clone(),
                Worker {
                    connection,
                    place: checked.place,
                    labels: hello.labels,
                    slots: hello.slots,
                    total: scheduler::Resources { cpu_milli: u64::from(hello.cores) * 1000, memory: hello.memory },
                    incarnation: checked.incarnation,
                    host_key,
                    clock: HostClock::set(hello.tick),
                    heard: Instant::now(),
                    outbox,
                },
            );
            for session in &kept {
                farm.tell(*session, Said::Reconnected);
            }
            connection
        };
        self.repeat_orders(&kept).await.map_err(stored)?;
        self.renew(&kept).await.map_err(stored)?;
        tracing::info!(worker = name, mode = hello.mode, slots = hello.slots, sessions = kept.len(), "worker is here");
        self.0.events.say(Event::Worker);
        self.wake();
        Ok((name, connection))
    }

    /// A newer connection of the same name waits until the older is known to be gone.
    async fn wait_for_the_former(&self, name: &str) -> Result<(), HelloError> {
        let until = Instant::now() + Duration::from_secs(2);
        while self.farm().is_alive(name) {
            if Instant::now() >= until {
                return Err(HelloError::Taken);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The key proofs are checked with: the one this worker was first seen with.
    async fn pinned(&self, name: &str, key: Option<PublicKey>) -> Result<Option<PublicKey>, HelloError> {
        let Some(key) = key else { return Ok(None) };
        let stored = |e: StoreError| HelloError::Store(e.to_string());
        let (entry, shown) = (format!("host_key/{name}"), hex(&key.to_bytes()));
        match self.store().meta(&entry).await.map_err(stored)? {
            None => self.store().set_meta(&entry, &shown).await.map_err(stored)?,
            Some(pinned) if pinned == shown => {}
            Some(pinned) => {
                tracing::warn!(worker = name, pinned, shown, "the host's key changed: its proofs are not accepted");
                let record = Record::new("host_key_changed").with("worker", name).with("pinned", pinned);
                let written = self.0.audit.write(record.with("shown", shown)).await;
                return written.map(|_| None).map_err(|e| HelloError::Store(e.to_string()));
            }
        }
        Ok(Some(key))
    }

    /// Compares the sessions a worker has with those the store thinks it has.
    async fn settle_sessions(&self, hello: &Hello) -> Result<Vec<Keep>, StoreError> {
        let mut keep = Vec::new();
        for row in self.store().live_sessions(Some(&hello.name)).await? {
            if hello.sessions.contains(&row.id) {
                self.adopt(&row);
                keep.push(Keep { session: row.id, reported: row.reported, logged: row.logged });
            } else {
                let text = "its worker came back without it".to_owned();
                let reported = self.store().session_lost(row.id, text, clock::now()).await?;
                self.settle(row.id, &reported).await;
            }
        }
        Ok(keep)
    }

    /// What was acknowledged while the worker was away reaches its sessions now.
    async fn repeat_orders(&self, kept: &[u64]) -> Result<(), StoreError> {
        for id in kept {
            let Some(row) = self.store().session(*id).await? else { continue };
            let Some(job) = self.store().job(row.job).await? else { continue };
            let order = match job.state {
                job::JobState::Suspended => ToWorker::Suspend { session: *id },
                job::JobState::Killed | job::JobState::Badlogin | job::JobState::Blocked => {
                    ToWorker::Kill { session: *id }
                }
                _ => continue,
            };
            self.tell_worker(&row.worker, &order);
        }
        Ok(())
    }

    /// Makes sure that a session the store knows has a driver.
    fn adopt(&self, row: &SessionRow) {
        let mut farm = self.farm();
        if farm.sessions.contains_key(&row.id) {
            return;
        }
        let (to_driver, inbox) = mpsc::unbounded_channel();
        farm.sessions.insert(
            row.id,
            Live {
                job: row.job,
                worker: row.worker.clone(),
                priority: 0,
                asks: scheduler::Resources::default(),
                deadline: Instant::now() + self.settings().lease(),
                since: Instant::now(),
                reported: row.reported,
                to_driver,
                yielding: true,
            },
        );
        drop(farm);
        let is_errand = row.purpose != store::Purpose::Run;
        let driver = Driver::new(self.clone(), row.id, row.worker.clone(), inbox);
        tokio::spawn(if is_errand { driver.working_alone().drive(None) } else { driver.drive(None) });
    }

    fn goodbye(&self, name: &str, connection: u64) {
        let mut farm = self.farm();
        if farm.workers.get(name).is_some_and(|w| w.connection == connection) {
            farm.workers.remove(name);
            tracing::info!(worker = name, "worker is gone");
        }
        drop(farm);
        self.0.events.say(Event::Worker);
        self.wake();
    }

    /// A message on the channel. Nothing in it is about identity or about what must not be lost.
    async fn hear(&self, name: &str, connection: u64, message: FromWorker) -> Result<(), DispatchError> {
        {
            let mut farm = self.farm();
            let Some(worker) = farm.workers.get_mut(name).filter(|w| w.connection == connection) else {
                return Ok(());
            };
            worker.heard = Instant::now();
            match &message {
                FromWorker::Tick { tick } => worker.clock = HostClock::set(*tick),
                FromWorker::NewIncarnation { incarnation, tick } => match place::incarnation(incarnation) {
                    Ok(incarnation) => (worker.incarnation, worker.clock) = (incarnation, HostClock::set(*tick)),
                    Err(error) => worker.place.panic = Some(error.to_string()),
                },
                FromWorker::Panic { reason } => worker.place.panic.clone_from(reason),
                FromWorker::LookedUp { id, .. } => {
                    if let (Some(waiting), FromWorker::LookedUp { account, error, .. }) =
                        (farm.lookups.remove(id), message)
                    {
                        // Whoever asked may have lost patience.
                        let _ = waiting.send(error.map_or(Ok(account), Err));
                    }
                    return Ok(());
                }
                FromWorker::Hello(_) | FromWorker::Progress { .. } => return Ok(()),
            }
        }
        if let FromWorker::Panic { reason } = message {
            tracing::warn!(worker = name, reason, "worker's panic changed");
            self.store().set_panic(name, reason).await?;
            self.0.events.say(Event::Worker);
        }
        if !matches!(self.farm().workers.get(name), Some(w) if w.place.panic.is_some()) {
            self.wake();
        }
        Ok(())
    }

    /// What the account would be on that host; `None` when it can't be asked.
    pub(crate) async fn look_up(&self, worker: &str, account: &str) -> Option<Result<Option<Account>, String>> {
        let (id, answer) = {
            let mut farm = self.farm();
            let id = farm.number();
            let (waiting, answer) = oneshot::channel();
            farm.lookups.insert(id, waiting);
            if !farm.send_to(worker, &ToWorker::Lookup { id, account: account.to_owned() }, &[]) {
                farm.lookups.remove(&id);
                return None;
            }
            (id, answer)
        };
        let answer = tokio::time::timeout(LOOKUP_PATIENCE, answer).await;
        self.farm().lookups.remove(&id);
        answer.ok()?.ok()
    }

    /// Every known worker as policy sees it, connected or not.
    pub(crate) async fn places(&self) -> Result<Vec<Place>, StoreError> {
        let known = self.store().workers().await?;
        let exclusions = self.store().exclusions().await?;
        let farm = self.farm();
        let place = |row: &WorkerRow| match farm.workers.get(&row.name) {
            Some(worker) => Some(worker.place.clone()),
            None => {
                let hello: Hello = serde_json::from_str(&row.hello).ok()?;
                let mut place = place::check(&hello).ok()?.place;
                (place.online, place.drained, place.panic) = (false, row.drained, row.panic.clone());
                let excluded = exclusions.iter().filter(|e| e.worker == row.name);
                place.excluded = excluded.map(|e| (e.account.clone(), e.reason.clone())).collect();
                Some(place)
            }
        };
        Ok(known.iter().filter_map(place).collect())
    }

    /// Slots in use, and slots, of a worker; slots only if it is connected.
    pub(crate) fn slots(&self, worker: &str) -> (usize, Option<u32>) {
        let farm = self.farm();
        (farm.used(worker), farm.workers.get(worker).map(|w| w.slots))
    }

    pub(crate) fn live_sessions(&self) -> usize {
        self.farm().sessions.len()
    }

    async fn excluded(&self, name: &str) -> Result<Vec<(String, String)>, StoreError> {
        let all = self.store().exclusions().await?;
        Ok(all.into_iter().filter(|e| e.worker == name).map(|e| (e.account, e.reason)).collect())
    }

    fn sessions_of_job(&self, job: u64) -> u64 {
        self.farm().sessions.values().filter(|s| s.job == job && !s.yielding).count() as u64
    }

    /// The decision for a worker that is connected.
    fn decide(&self, who: &Who, worker: &str) -> Option<Decision> {
        self.with_worker(worker, |w| policy::decide(who, &w.place))
    }

    fn with_worker<T>(&self, name: &str, f: impl FnOnce(&Worker) -> T) -> Option<T> {
        self.farm().workers.get(name).map(f)
    }

    fn tell_worker(&self, name: &str, message: &ToWorker) {
        self.farm().send_to(name, message, &[]);
    }

    // --- reports

    /// Takes a group of reports in: proofs are checked, the store keeps what is new, drivers hear of it.
    pub(crate) async fn report(&self, group: Reports) -> Result<u64, DispatchError> {
        let Reports { worker, session, first, mut reports } = group;
        let row = self.store().session(session).await?.ok_or(StoreError::NoSuchSession(session))?;
        if row.worker == worker {
            self.check_proofs(&row, &mut reports).await?;
        }
        let skip = self.farm().sessions.get(&session).map_or(0, |l| (l.reported + 1).saturating_sub(first));
        let new = reports.get(usize::try_from(skip).unwrap_or(usize::MAX)..).unwrap_or_default();
        let summary = Summary::of(new);
        let excludes = new.iter().any(|r| matches!(r, Report::Refused { .. }));
        let reported = self.store().report(session, &worker, first, reports, clock::now()).await?;
        {
            let mut farm = self.farm();
            if let Some(live) = farm.sessions.get_mut(&session)
                && reported.through > live.reported
            {
                live.reported = reported.through;
                farm.tell(session, Said::Reports(summary));
            }
        }
        if excludes {
            let excluded = self.excluded(&worker).await?;
            if let Some(worker) = self.farm().workers.get_mut(&worker) {
                worker.place.excluded = excluded;
            }
        }
        if reported.batch_refused.is_some() {
            self.tell_worker(&worker, &ToWorker::Kill { session });
        }
        self.settle(session, &reported).await;
        Ok(reported.through)
    }

    /// A proof that doesn't hold is not kept. Where it contradicts the decision, the session is ended and the worker
    /// gets no more work: something on that host doesn't do what it was told.
    async fn check_proofs(&self, row: &SessionRow, reports: &mut [Report]) -> Result<(), DispatchError> {
        if row.mode == "desktop" {
            return Ok(());
        }
        let key = self.with_worker(&row.worker, |w| w.host_key.clone()).flatten();
        for report in reports {
            let Err(error) = proof::check(report, row, key.as_ref()) else { continue };
            let (fact, proof) = match report {
                Report::Started { proof, .. } => ("started", proof),
                Report::Ended { proof, .. } => ("ended", proof),
                Report::Refused { proof, .. } => ("refused", proof),
                _ => continue,
            };
            // Nobody saw it end, or the launcher refused before it read the warrant: there is no proof to have.
            if error == proof::ProofError::Missing && fact != "started" {
                continue;
            }
            *proof = None;
            let (session, worker) = (row.id, &row.worker);
            tracing::warn!(session, worker, fact, %error, "a proof is not accepted");
            let record = Record::new("proof_refused").by(&row.login_user, &row.user).job(row.job);
            let record = record.with("session", session).with("worker", worker).with("fact", fact);
            self.0.audit.write(record.with("why", error.to_string())).await?;
            if fact == "started" && error != proof::ProofError::Key {
                self.distrust(row, &format!("its proof of session {session} was not accepted: {error}")).await?;
            }
        }
        Ok(())
    }

    async fn distrust(&self, row: &SessionRow, reason: &str) -> Result<(), DispatchError> {
        {
            let mut farm = self.farm();
            farm.send_to(&row.worker, &ToWorker::Kill { session: row.id }, &[]);
            if let Some(worker) = farm.workers.get_mut(&row.worker) {
                worker.place.panic = Some(reason.to_owned());
            }
        }
        Ok(self.store().set_panic(&row.worker, Some(reason.to_owned())).await?)
    }

    /// What follows from reports that are stored.
    async fn settle(&self, session: u64, reported: &Reported) {
        if reported.session_over {
            self.over(session).await;
        }
        if reported.retry_at.is_some() || !reported.changed_jobs.is_empty() || reported.session_over {
            self.farm().poke(&reported.changed_jobs);
            self.changed(&reported.changed_jobs, &reported.finished_jobs);
        }
    }

    /// A session has no process any more.
    async fn over(&self, session: u64) {
        let Some(live) = self.farm().sessions.remove(&session) else { return };
        let _ = live.to_driver.send(Said::Over);
        self.0.logs.session_over(session);
        let row = match self.store().session(session).await {
            Ok(Some(row)) => row,
            Ok(None) => return,
            Err(error) => return tracing::error!(session, %error, "its end is not in the audit"),
        };
        let record = Record::new("session_end")
            .by(&row.login_user, &row.user)
            .job(row.job)
            .with("session", session)
            .with("worker", &row.worker)
            .with("end", &row.end)
            .with("run_as", row.run_as.as_ref())
            .with("attested_by", &row.attested_by);
        if let Err(error) = self.0.audit.write(record).await {
            tracing::error!(session, %error, "its end is not in the audit");
        }
    }

    // --- time

    async fn keep_time(&self) {
        let third = self.settings().lease() / 3;
        let mut renewed = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let silent = self.farm().silent();
            for (name, connection) in silent {
                tracing::warn!(worker = name, "worker fell silent");
                self.goodbye(&name, connection);
            }
            if let Err(error) = self.end_expired().await {
                tracing::error!(%error, "expired sessions were not given up");
            }
            if renewed.elapsed() >= third {
                renewed = Instant::now();
                let all: Vec<u64> = self.farm().sessions.keys().copied().collect();
                if let Err(error) = self.renew(&all).await {
                    tracing::error!(%error, "leases were not renewed");
                }
            }
        }
    }

    /// Gives up sessions whose host has ended them by now.
    async fn end_expired(&self) -> Result<(), StoreError> {
        let now = Instant::now();
        let expired: Vec<u64> =
            self.farm().sessions.iter().filter(|(_, s)| s.deadline + GRACE <= now).map(|(id, _)| *id).collect();
        for session in expired {
            let text = "its lease ran out while its worker was away".to_owned();
            let reported = self.store().session_lost(session, text, clock::now()).await?;
            self.settle(session, &reported).await;
        }
        Ok(())
    }

    /// Moves the deadline of those sessions whose worker is here: first in the store, then at the host.
    async fn renew(&self, sessions: &[u64]) -> Result<(), StoreError> {
        let here: Vec<u64> = {
            let farm = self.farm();
            let is_here = |id: &&u64| farm.sessions.get(id).is_some_and(|s| farm.workers.contains_key(&s.worker));
            sessions.iter().filter(is_here).copied().collect()
        };
        if here.is_empty() {
            return Ok(());
        }
        let lease = self.settings().lease();
        let until = clock::now() + i64::try_from(lease.as_micros()).unwrap_or(i64::MAX / 2);
        let renewed = self.store().renew(&here, until).await?;
        let mut farm = self.farm();
        for id in renewed {
            let Some(name) = farm.sessions.get(&id).map(|s| s.worker.clone()) else { continue };
            let Some(worker) = farm.workers.get(&name) else { continue };
            let renewal = Renewal {
                farm: self.keys().farm,
                worker: name,
                session: id,
                lease_until: worker.clock.now() + self.settings().lease_seconds * 1000,
            };
            let sent =
                worker.outbox.send(&ToWorker::Renew { session: id }, &renewal.sign(&self.keys().warrant).encode());
            if let Some(live) = farm.sessions.get_mut(&id)
                && sent
            {
                live.deadline = Instant::now() + lease;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl Dispatcher {
    /// Ends the connection of a worker.
    pub(crate) fn cut_for_tests(&self, worker: &str) {
        self.farm().workers.remove(worker);
    }

    pub(crate) async fn retire_for_tests(&self, now: i64) {
        self.retire_once(now).await.expect("retired");
    }
}

fn incarnation_of(row: &WorkerRow) -> Option<String> {
    serde_json::from_str::<Hello>(&row.hello).ok().map(|h| h.incarnation)
}

fn row_of(hello: &Hello) -> NewWorker {
    NewWorker {
        name: hello.name.clone(),
        mode: hello.mode.clone(),
        proxy_account: hello.proxy_account.clone(),
        slots: hello.slots,
        labels: hello.labels.clone(),
        panic: hello.panic.clone(),
        hello: serde_json::to_string(hello).unwrap_or_default(),
    }
}
