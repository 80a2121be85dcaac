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
mod configure;
mod desks;
mod farm;
mod files;
mod jobs;
mod logon;
mod misfires;
mod open;
mod paths;
mod pin;
pub(crate) mod place;
mod proof;
mod retention;
mod session;
mod token;

pub(crate) use channel::channel;
pub(crate) use configure::KnownWorker;
pub(crate) use farm::Progress;
pub(crate) use files::{FileError, FilePlace};
pub(crate) use jobs::{Job, JobsError, Needs, who};
pub(crate) use pin::{PinError, pinned_key};
#[cfg(test)]
pub(crate) use place::tests::hello as hello_for_tests;

use crate::audit::{Act, Audit, AuditError, Outcome, Record};
use crate::authn::Authn;
use crate::clock;
use crate::config::Settings;
use crate::configuration::{Configuration, held};
use crate::desks::{Desks, Doorkeeper};
use crate::events::{Event, Events};
use crate::identity::{Carried, Identity};
use crate::keys::Keys;
use crate::logon::Logons;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::room::Room;
use crate::scheduler;
use crate::workshop::Workshop;
use bytes::Bytes;
use farm::{Farm, Live, Outbox, Worker};
use futures_util::future::join_all;
use job::{JobAction, JobState};
use jobs::Jobs;
use logon::Needs as Passwords;
use misfires::{Launch, Misfires};
use open::Addressee;
pub(crate) use place::HelloError;
use place::HostClock;
use policy::{ACCOUNT_UNKNOWN, Decision, Excluded, People, Place, Refusal, Who};
pub(crate) use proof::{ProofView, proved_pid};
use session::{Driver, Said, Summary};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use store::{Acted, Exclusion, NewWorker, ReadyAt, Reported, SessionRow, Store, StoreError};
use tokio::sync::{Notify, mpsc, oneshot};
use warrant::{PublicKey, Renewal, hex};
use wire::{Account, End, FromWorker, Hello, Keep, Report, Reports, Task, ToWorker};

/// How much longer than its lease a session is waited for.
const GRACE: Duration = Duration::from_secs(5);
/// Least time from round to round: what arrives meanwhile is looked at together.
const PAUSE: Duration = Duration::from_millis(2);
/// Longest time without a round.
const IDLE: Duration = Duration::from_secs(30);
/// How often is looked whether somebody has edited the rows of people by hand.
const ROWS_LOOK: Duration = Duration::from_secs(1);
/// Ready steps looked at together.
const READY: usize = 256;
/// How often as many more are looked at before others have their turn, where those in front find no place.
const PAGES: usize = 8;
/// How long a job whose plan isn't at hand holds up the others that are placed with it.
const PLAN_PATIENCE: Duration = Duration::from_millis(50);
/// How long a person's jobs are kept in order by waiting for their plans.
const PLAN_HOLD: Duration = Duration::from_secs(15);
/// How long nothing is handed out after a record that could not be written.
const AUDIT_REST: Duration = Duration::from_secs(1);
/// The same while the disk is full.
const ROOM_REST: Duration = Duration::from_secs(1);
const NO_ROOM: &str = "the supervisor's disk is full: nothing is begun until there is room";
/// The launcher's word for an account that is refused.
const BAD_LOGIN: &str = "bad_login";
const LOOKUP_PATIENCE: Duration = Duration::from_secs(3);

/// Why something was not handed out or taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DispatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(transparent)]
    Jobs(#[from] JobsError),
    #[error("a task of job {job} can't be worked out: {error}")]
    Task { job: u64, error: job::JobError },
}

/// Clones are the same dispatcher.
#[derive(Clone)]
pub(crate) struct Dispatcher(Arc<Inner>);

/// What it asks besides.
pub(crate) struct Helpers {
    pub(crate) workshop: Workshop,
    pub(crate) owners: Authn,
    pub(crate) doorkeeper: Doorkeeper,
    pub(crate) identity: Identity,
    pub(crate) logons: Logons,
    pub(crate) configuration: Configuration,
    /// Where jobs reach the supervisor.
    pub(crate) url: String,
    pub(crate) room: Room,
    pub(crate) metrics: Metrics,
}

struct Inner {
    store: Store,
    audit: Audit,
    events: Events,
    logs: Logs,
    keys: Keys,
    settings: Settings,
    farm: Mutex<Farm>,
    jobs: Jobs,
    /// Who the accounts of desktop workers are.
    owners: Authn,
    doorkeeper: Doorkeeper,
    /// The list of desktop owners that is on record.
    desks: tokio::sync::Mutex<Option<Desks>>,
    identity: Identity,
    logons: Logons,
    configuration: Configuration,
    url: String,
    room: Room,
    metrics: Metrics,
    files: files::Pool,
    /// A worker has taken over its settings.
    settled: Notify,
    wake: Notify,
    /// How often it was woken.
    woken: AtomicU64,
    /// A file's password is being taken: two workers that join bring the same one.
    taking_given: tokio::sync::Mutex<()>,
    /// Jobs that were removed may be there yet.
    removing: AtomicBool,
    /// One of them may go now.
    removed: Notify,
}

/// A look at what is ready.
struct Round {
    opened: usize,
    /// The last one looked at, if there may be more behind it that could be placed.
    more: Option<ReadyAt>,
}

/// The look behind those in front, from one round to the next.
#[derive(Default)]
struct Sweep {
    at: Option<ReadyAt>,
    /// How often it was woken when the sweep began: what came later may be behind it.
    woken: u64,
    /// People one of whose jobs waits for its plan: what they have behind it is not looked at.
    held: HashSet<String>,
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
        Helpers { workshop, owners, identity, logons, configuration, url, room, metrics, doorkeeper }: Helpers,
    ) -> Result<Self, StoreError> {
        let alive = store.live_sessions(None).await?;
        let farm = Mutex::new(Farm::new());
        let (jobs, wake, woken) = (Jobs::new(workshop), Notify::new(), AtomicU64::new(0));
        let settled = Notify::new();
        let inner = Inner {
            store,
            audit,
            events,
            logs,
            keys,
            settings,
            farm,
            jobs,
            owners,
            doorkeeper,
            desks: tokio::sync::Mutex::default(),
            identity,
            logons,
            configuration,
            url,
            room,
            metrics,
            files: files::Pool::default(),
            settled,
            wake,
            woken,
            taking_given: tokio::sync::Mutex::default(),
            // The former supervisor may have left some.
            removing: AtomicBool::new(true),
            removed: Notify::new(),
        };
        let dispatcher = Self(Arc::new(inner));
        dispatcher.record_late_ends().await?;
        for row in alive {
            dispatcher.adopt(&row);
            // It may have the account's password, and nobody knows yet what came of it.
            if row.started_at.is_none() {
                dispatcher.farm().trying.insert(row.account.clone(), (row.id, row.worker.clone()));
            }
        }
        dispatcher.logons_changed().await?;
        Ok(dispatcher)
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        tokio::join!(self.schedule(), self.keep_time(), self.retire(), self.watch_rows());
    }

    /// Ends the connections of all workers; they come back when somebody is there again.
    pub(crate) fn hang_up(&self) {
        self.farm().workers.clear();
    }

    pub(crate) fn wake(&self) {
        self.0.woken.fetch_add(1, Ordering::Relaxed);
        self.0.wake.notify_one();
    }

    fn farm(&self) -> MutexGuard<'_, Farm> {
        self.0.farm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn jobs(&self) -> &Jobs {
        &self.0.jobs
    }

    fn keys(&self) -> &Keys {
        &self.0.keys
    }

    fn url(&self) -> &str {
        &self.0.url
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    // --- rounds

    async fn schedule(&self) {
        let mut sweep = Sweep::default();
        loop {
            let began = Instant::now();
            if let Err(refusal) = self.0.room.begin() {
                self.waits_for_room(&refusal).await;
                tokio::time::sleep(ROOM_REST).await;
                continue;
            }
            let rest = match self.rounds(&mut sweep).await {
                Ok(rest) => rest,
                // The supervisor is ending.
                Err(DispatchError::Store(StoreError::Closed)) => return,
                Err(DispatchError::Audit(_)) => {
                    self.wait_for_audit().await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "a scheduling round failed");
                    Duration::from_secs(1)
                }
            };
            if let Some(left) = PAUSE.checked_sub(began.elapsed()) {
                tokio::time::sleep(left).await;
            }
            // Nothing said meanwhile is missed: a notification is kept.
            let _ = tokio::time::timeout(rest, self.0.wake.notified()).await;
        }
    }

    /// Whoever edits rows by hand tells nobody: the next round is called, and whoever has something open is asked again.
    async fn watch_rows(&self) {
        let mut known = None;
        loop {
            match self.0.identity.stamp().await {
                Ok(stamp) if known.replace(stamp).is_some_and(|before| before != stamp) => {
                    self.wake();
                    self.0.events.say(Event::Rights);
                }
                Err(StoreError::Closed) => return,
                // Rounds and requests say what is wrong with the store.
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(ROWS_LOOK).await;
        }
    }

    /// Nothing is opened that can't be written down. Whatever happens meanwhile, it isn't tried more often.
    async fn wait_for_audit(&self) {
        loop {
            tokio::time::sleep(AUDIT_REST).await;
            match self.0.audit.write(Record::new(Act::AuditResumed)).await {
                Ok(_) => return,
                Err(error) => match self.store().ready_after(READY, None, clock::now()).await {
                    Ok(ready) => self.audit_fails(ready.iter().map(|r| r.job), &error).await,
                    Err(StoreError::Closed) => return,
                    Err(error) => tracing::error!(%error, "jobs were not told why they wait"),
                },
            }
        }
    }

    /// Nothing is opened for which there may be no room in the end.
    async fn waits_for_room(&self, refusal: &Refusal) {
        let Ok(ready) = self.store().ready_after(READY, None, clock::now()).await else { return };
        for step in ready {
            // Said once; where there is no room for that either, `explain` and `/readyz` say it.
            if self.say_of(step.job, NO_ROOM).await.is_err() {
                return tracing::warn!(rule = refusal.rule, "jobs were not told why they wait");
            }
        }
    }

    async fn audit_fails(&self, jobs: impl Iterator<Item = u64>, error: &AuditError) {
        let reason = format!("the audit can't be written: {error}");
        for job in jobs {
            if let Err(error) = self.say_of(job, &reason).await {
                tracing::error!(job, %error, "the job was not told why it waits");
            }
        }
    }

    /// Tells the store why a job waits, as long as it isn't looked at.
    async fn say_of(&self, job: u64, reason: &str) -> Result<(), StoreError> {
        let reason = Some(reason.to_owned());
        {
            let mut farm = self.farm();
            if farm.sessions.values().any(|s| s.job == job) {
                return Ok(());
            }
            farm.reasons.insert(job, reason.clone());
        }
        // Only what changes is written.
        self.store().set_reason(job, reason).await?;
        self.0.events.say(Event::Job(job));
        Ok(())
    }

    /// Places what can be placed; says after what time to look again.
    async fn rounds(&self, sweep: &mut Sweep) -> Result<Duration, DispatchError> {
        let now = clock::now();
        let mut held = HashSet::new();
        let mut front = self.round(None, &mut held, now).await?;
        while front.opened > 0 {
            held.clear();
            front = self.round(None, &mut held, now).await?;
        }
        let Some(end_of_front) = front.more else {
            sweep.at = None;
            self.hold_only(&held);
            return self.rest(now).await;
        };
        if sweep.at.is_none() {
            sweep.held.clear();
        }
        sweep.held.extend(held);
        self.sweep(sweep, end_of_front, now).await
    }

    /// What is in front finds no place: looks at what is behind, some of it at a time.
    async fn sweep(&self, sweep: &mut Sweep, front: ReadyAt, now: i64) -> Result<Duration, DispatchError> {
        if sweep.at.is_none() {
            sweep.woken = self.0.woken.load(Ordering::Relaxed);
        }
        let mut at = sweep.at.take().unwrap_or(front);
        for _ in 0..PAGES {
            let more = self.round(Some(at), &mut sweep.held, now).await?.more;
            if more.is_none() {
                self.hold_only(&sweep.held);
            }
            match more {
                Some(next) => at = next,
                None if self.0.woken.load(Ordering::Relaxed) == sweep.woken => return self.rest(now).await,
                None => return Ok(Duration::ZERO),
            }
        }
        sweep.at = Some(at);
        Ok(Duration::ZERO)
    }

    /// Whoever had all plans at hand is held up anew when one is missing.
    fn hold_only(&self, held: &HashSet<String>) {
        self.farm().held.retain(|person, _| held.contains(person));
    }

    async fn round(
        &self,
        after: Option<ReadyAt>,
        held: &mut HashSet<String>,
        now: i64,
    ) -> Result<Round, DispatchError> {
        let holds = self.farm().holds;
        let ready = self.store().ready_after(READY, after, now).await?;
        let candidates = self.candidates(&ready, held).await?;
        let (plan, yields) = {
            let farm = self.farm();
            let workers = farm.for_scheduler();
            let plan = scheduler::plan(&workers, &candidates, &farm.sessions_by_job(), &self.shares(&farm), now);
            let yields = scheduler::yields(&workers, &candidates, &farm.running(), &plan, now);
            (plan, yields)
        };
        self.ask_to_yield(&yields);
        for (job, refusal) in &plan.blocked {
            let ended = candidates.iter().find(|c| c.job == *job);
            if let Some(candidate) = ended {
                self.right_ended(*job, &candidate.who, refusal).await?;
            }
        }
        self.say_why(&plan).await?;
        self.give_up(&candidates, &plan).await?;
        let no_place = plan.waiting.values().all(Option::is_some);
        let opened = join_all(plan.placements.into_iter().map(|p| self.open(p, holds))).await;
        let unrecorded = opened.iter().find_map(|o| match o {
            Err(DispatchError::Audit(error)) => Some(error.clone()),
            _ => None,
        });
        let opened: usize = opened.into_iter().map(|o| usize::from(self.logged_open(o))).sum();
        if let Some(error) = unrecorded {
            self.audit_fails(candidates.iter().map(|c| c.job), &error).await;
            return Err(error.into());
        }
        let has_room = || self.farm().for_scheduler().iter().any(|w| w.free_slots > 0 && w.place.panic.is_none());
        let more = ready.last().filter(|_| ready.len() == READY && (no_place || has_room())).map(store::Ready::at);
        Ok(Round { opened, more })
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

    /// What the scheduler has to know of these steps; it needs no plans. A job whose turn has come and whose plan takes
    /// long to work out keeps its place before the others of the same person, for a while; it holds no slot meanwhile,
    /// and nobody else's jobs up. It is looked at when the plan is there.
    async fn candidates(
        &self,
        ready: &[store::Ready],
        held: &mut HashSet<String>,
    ) -> Result<Vec<scheduler::Candidate>, DispatchError> {
        let awaited = self.0.jobs.awaited();
        let stamp = self.0.identity.stamp().await?;
        let mut candidates = Vec::with_capacity(ready.len());
        for step in ready {
            if awaited.contains(&step.job) {
                let since = *self.farm().held.entry(step.login_user.clone()).or_insert_with(Instant::now);
                if since.elapsed() < PLAN_HOLD {
                    held.insert(step.login_user.clone());
                }
                continue;
            }
            if held.contains(&step.login_user) {
                continue;
            }
            let people = self.0.identity.people_at(stamp, &step.login_user, Some(&step.user)).await?;
            let carried = self.0.identity.settings_at(stamp, &step.user).await?;
            match self.0.jobs.candidate(self.store(), step, people, carried).await {
                Ok(candidate) => candidates.push(candidate),
                Err(JobsError::Gone(_)) => {}
                Err(JobsError::Store(error)) => return Err(error.into()),
                Err(JobsError::Settings { who, refusal }) => self.right_ended(step.job, &who, &refusal).await?,
                // It would come back in every round.
                Err(error) => self.block(step.job, error.to_string()).await?,
            }
        }
        let farm = self.farm();
        for candidate in &mut candidates {
            candidate.avoids = farm.avoided_by(candidate.job);
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

    /// How many sessions each user has, and may have.
    fn shares(&self, farm: &Farm) -> scheduler::Shares {
        let loaded = self.0.configuration.current();
        let limits = &loaded.supervisor.user_limits;
        if *limits == compat_qube::Limits::default() {
            return scheduler::Shares::default();
        }
        scheduler::Shares {
            sessions: farm.sessions_by_user(),
            usual: limits.default,
            of: limits.of.iter().cloned().collect(),
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
        let said = changed.into_iter().map(async |(job, reason)| {
            self.store().set_reason(job, reason).await?;
            self.0.events.say(Event::Job(job));
            Ok(())
        });
        // At once: the store keeps them together.
        join_all(said).await.into_iter().collect()
    }

    /// Nothing of the job starts any more; what runs is not touched.
    async fn right_ended(&self, job: u64, who: &Who, refusal: &Refusal) -> Result<(), DispatchError> {
        // Several sessions may come upon it.
        if self.store().job(job).await?.is_none_or(|row| row.state.is_over() || row.state == JobState::Blocked) {
            return Ok(());
        }
        let record = Record::new(Act::RightEnded)
            .by(who.login_user.as_str(), who.user.as_str())
            .job(job)
            .grant(who.grant)
            .with("rule", &refusal.rule)
            .with("value", &refusal.value);
        self.0.audit.write(record).await?;
        self.hold(job, format!("{}; {}", refusal.text, refusal.hint)).await
    }

    /// Blocks what has not begun: what runs comes to its end, what was handed out beyond it comes back.
    pub(crate) async fn hold(&self, job: u64, reason: String) -> Result<(), DispatchError> {
        tracing::info!(job, reason, "the job is held");
        let acted = self.0.room.through(|| self.store().hold(job, reason.clone(), clock::now())).await?;
        {
            let mut farm = self.farm();
            farm.withdraw(job);
            for (session, worker) in &acted.sessions {
                // It may have been suspended: stopped, what runs would never come to its end.
                farm.send_to(worker, &ToWorker::Resume { session: *session }, &[]);
            }
            farm.poke(&acted.changed_jobs);
        }
        self.changed(&acted.changed_jobs, &acted.finished_jobs);
        Ok(())
    }

    /// Waits until no session of a held job starts anything more: each has given back what it had not started, or is over.
    /// False: one has not said so in time, or its worker isn't there to be asked.
    pub(crate) async fn withdrawn(&self, job: u64, until: Instant) -> bool {
        let awaited = self.farm().withdraw(job);
        all_heard(awaited, until).await
    }

    /// The same of some sessions; `kill`: what runs in them ends, too.
    pub(crate) async fn withdrawn_there(&self, sessions: Vec<(u64, String)>, kill: bool, until: Instant) -> bool {
        let awaited = {
            let mut farm = self.farm();
            let awaited = farm.withdraw_some(sessions.clone());
            for (session, worker) in sessions.iter().filter(|_| kill) {
                farm.send_to(worker, &ToWorker::Kill { session: *session }, &[]);
            }
            awaited
        };
        all_heard(awaited, until).await
    }

    /// A right ended: what is being opened asks again, wherever that is.
    pub(crate) fn right_has_ended(&self) {
        self.farm().holds += 1;
    }

    /// Sessions of a job that may go on, but not on the workers where they are; or nobody can say.
    pub(crate) async fn out_of_reach(&self, job: u64, who: &Who, name: &str) -> Result<Vec<(u64, String)>, StoreError> {
        let mut sessions = self.farm().sessions_of(job);
        if sessions.is_empty() {
            return Ok(sessions);
        }
        let (people, now) = (self.people(who).await?, clock::now());
        let reaches = |w: &Worker| {
            let wanted = policy::For { job: Some(name), place: Some(&w.place) };
            policy::right(who, wanted, &people, now).is_ok()
        };
        sessions.retain(|(_, worker)| self.with_worker(worker, reaches) != Some(true));
        Ok(sessions)
    }

    /// Jobs whose account no worker has are refused once and for all.
    async fn give_up(&self, candidates: &[scheduler::Candidate], plan: &scheduler::Plan) -> Result<(), DispatchError> {
        // Most of the time nobody has said so of any account.
        let may_refuse =
            |w: &Worker| w.place.logons.is_some() || w.place.excluded.iter().any(|e| e.rule == ACCOUNT_UNKNOWN);
        if !self.farm().workers.values().any(may_refuse) {
            return Ok(());
        }
        let busy = self.farm().sessions_by_job();
        let waits = |job: &u64| matches!(plan.waiting.get(job), Some(Some(_))) && !busy.contains_key(job);
        let mut steps: BTreeMap<u64, Vec<&scheduler::Candidate>> = BTreeMap::new();
        for candidate in candidates.iter().filter(|c| waits(&c.job)) {
            steps.entry(candidate.job).or_default().push(candidate);
        }
        let workers = self.registered().await?;
        let now = clock::now();
        let nowhere = |c: &&scheduler::Candidate| scheduler::nowhere(c, &workers, now);
        let given_up = steps.values().filter_map(|steps| {
            // As long as one step may run somewhere, the others wait.
            let reasons: Option<Vec<String>> = steps.iter().map(nowhere).collect();
            Some((*steps.first()?, reasons?.into_iter().next()?))
        });
        join_all(given_up.map(|(step, reason)| self.badlogin(step, reason))).await.into_iter().collect()
    }

    async fn badlogin(&self, step: &scheduler::Candidate, reason: String) -> Result<(), DispatchError> {
        let (job, who) = (step.job, &step.who);
        tracing::warn!(job, login_user = %who.login_user, user = %who.user, reason, "the job's account is refused");
        let record = Record::new(Act::Badlogin)
            .outcome(Outcome::Refused)
            .by(who.login_user.as_str(), who.user.as_str())
            .job(job);
        self.0.audit.write(record.with("why", &reason)).await?;
        let acted = self.store().badlogin(job, reason, clock::now()).await?;
        self.0.metrics.badlogins.add(1);
        self.acted(JobAction::Kill, &acted);
        Ok(())
    }

    async fn block(&self, job: u64, reason: String) -> Result<(), DispatchError> {
        tracing::warn!(job, reason, "the job is blocked");
        let acted = self.store().block_with_reason(job, reason, clock::now()).await?;
        self.acted(JobAction::Block, &acted);
        Ok(())
    }

    // --- what people did

    /// A job has another name, or another priority: what runs of it keeps its place by that, too.
    pub(crate) fn modified(&self, job: u64, priority: Option<i32>, sessions: &[u64]) {
        if let Some(priority) = priority {
            let mut farm = self.farm();
            for session in sessions {
                if let Some(live) = farm.sessions.get_mut(session) {
                    live.priority = priority;
                }
            }
        }
        self.0.events.say(Event::Job(job));
        self.wake();
    }

    /// Passes an act on to the sessions it concerns.
    pub(crate) fn acted(&self, action: JobAction, acted: &Acted) {
        {
            let mut farm = self.farm();
            // What it waits for was not kept while it was held: it is said anew.
            for job in &acted.changed_jobs {
                farm.reasons.remove(job);
            }
            match action {
                JobAction::Kill | JobAction::Block => {
                    for (session, worker) in &acted.sessions {
                        if acted.running.iter().any(|t| t.session == *session) {
                            farm.recall(*session, worker);
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
                JobAction::Retry | JobAction::Unblock | JobAction::Requeue => {}
            }
            for t in &acted.running {
                let task = Task { step: t.step, index: t.index, epoch: t.epoch };
                farm.send_to(&t.worker, &ToWorker::Cancel { session: t.session, task }, &[]);
                farm.tell(t.session, Said::Asked);
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
                farm.avoid.remove(job);
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
    async fn hello(
        &self,
        hello: Hello,
        (uid, is_free): (u32, bool),
        outbox: Outbox,
    ) -> Result<(String, u64), HelloError> {
        let name = hello.name.clone();
        let stored = |e: StoreError| HelloError::Store(e.to_string());
        let mut checked = place::check(&hello)?;
        self.check_peer(&hello, uid, is_free).await?;
        self.wait_for_the_former(&name).await?;
        let host_key = self.pinned(&name, checked.host_key).await?;
        let needs = Passwords::of(hello.sealing_key.as_deref(), host_key.as_ref(), checked.incarnation);
        let known = self.store().workers().await.map_err(stored)?.into_iter().find(|w| w.name == name);
        checked.place.drained = known.is_some_and(|w| w.drained);
        // What was wrong with an account may have been put right: each is asked for once more.
        self.store().clear_exclusions(&name).await.map_err(stored)?;
        self.store().upsert_worker(row_of(&hello), clock::now()).await.map_err(stored)?;
        let keep = self.settle_sessions(&hello).await.map_err(stored)?;
        let kept: Vec<u64> = keep.iter().map(|k| k.session).collect();
        let welcome = ToWorker::Welcome {
            farm: self.keys().farm_hex(),
            keys: vec![hex(&self.keys().warrant.public().to_bytes())],
            keep,
        };
        let total = total(&hello);
        let (mode, hello) = (hello.mode.clone(), Arc::new(hello));
        let connection = {
            let mut farm = self.farm();
            let (connection, number) = (farm.number(), farm.number());
            outbox.send(&welcome, &[]);
            // It may have been mended.
            for workers in farm.avoid.values_mut() {
                workers.remove(&name);
            }
            // Looked at while nobody else changes workers: no reload passes it by.
            let held = held(&hello, &self.0.configuration.current())?;
            let differs = held.differs;
            let mut worker = Worker {
                misfires: Misfires::default(),
                until_new_launcher: false,
                distrusted: None,
                needs,
                no_logon: None,
                given: None,
                not_opened: None,
                trouble: hello.panic.clone(),
                connection,
                place: checked.place,
                slots: hello.slots,
                nice: 0,
                path_map: Arc::default(),
                said_by: held.said_by,
                total,
                incarnation: checked.incarnation,
                host_key,
                clock: HostClock::set(hello.tick),
                heard: Instant::now(),
                outbox,
                settling: None,
                misconfigured: None,
                load_milli: None,
                hello: hello.clone(),
            };
            worker.take(held);
            if differs {
                worker.tell_settings(number);
            }
            farm.workers.insert(name.clone(), worker);
            farm.judge_logons();
            for session in &kept {
                farm.tell(*session, Said::Reconnected);
            }
            connection
        };
        self.take_given_passwords().await.map_err(stored)?;
        self.repeat_orders(&kept).await.map_err(stored)?;
        self.renew(&kept).await.map_err(stored)?;
        tracing::info!(worker = name, mode, slots = hello.slots, sessions = kept.len(), "worker is here");
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
        // Nothing is sent on what is left of it while the newer one is being taken in.
        self.farm().workers.remove(name);
        Ok(())
    }

    /// The key proofs are checked with: the one this worker was first seen with.
    async fn pinned(&self, name: &str, key: Option<PublicKey>) -> Result<Option<PublicKey>, HelloError> {
        let Some(key) = key else { return Ok(None) };
        let stored = |e: StoreError| HelloError::Store(e.to_string());
        let (entry, shown) = (format!("host_key/{name}"), hex(&key.to_bytes()));
        match self.store().meta(&entry).await.map_err(stored)? {
            None => {
                let record = Record::new(Act::HostKeyPinned).by_worker(name).object(name).with("host_key", &shown);
                self.0.audit.write(record).await.map_err(|e| HelloError::Store(e.to_string()))?;
                self.store().set_meta(&entry, &shown).await.map_err(stored)?;
            }
            Some(pinned) if pinned == shown => {}
            Some(pinned) => {
                tracing::warn!(worker = name, pinned, shown, "the host's key changed: its proofs are not accepted");
                let record = Record::new(Act::HostKeyChanged).outcome(Outcome::Refused).by_worker(name).object(name);
                let record = record.with("pinned", pinned).with("shown", shown);
                let written = self.0.audit.refusal(record).await;
                return written.map(|()| None).map_err(|e| HelloError::Store(e.to_string()));
            }
        }
        Ok(Some(key))
    }

    /// Where the proofs of these sessions stand, by session.
    pub(crate) async fn proofs(&self, rows: &[SessionRow]) -> Result<HashMap<u64, ProofView>, StoreError> {
        let mut keys: HashMap<&str, Option<PublicKey>> = HashMap::new();
        let mut views = HashMap::new();
        for row in rows {
            if !keys.contains_key(row.worker.as_str()) {
                keys.insert(&row.worker, self.pinned_key(&row.worker).await?);
            }
            let key = keys.get(row.worker.as_str()).and_then(Option::as_ref);
            views.extend(key.and_then(|key| proof::view(row, key)).map(|view| (row.id, view)));
        }
        Ok(views)
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
            // What runs of one that is blocked comes to its end, unless it was asked to end before.
            if let job::JobState::Killed | job::JobState::Badlogin = job.state {
                self.tell_worker(&row.worker, &ToWorker::Kill { session: *id });
                continue;
            }
            for t in self.store().asked(*id).await? {
                let task = Task { step: t.step, index: t.index, epoch: t.epoch };
                self.tell_worker(&row.worker, &ToWorker::Cancel { session: *id, task });
            }
            // Both may have been said while it was away.
            let is_suspended = job.state == job::JobState::Suspended;
            let order =
                if is_suspended { ToWorker::Suspend { session: *id } } else { ToWorker::Resume { session: *id } };
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
        let is_for_files = row.purpose == store::Purpose::Read;
        let (to_driver, inbox) = mpsc::unbounded_channel();
        let deadline = Instant::now() + self.settings().lease();
        let live = Live::new(row.job, row.user.clone(), row.worker.clone(), deadline, to_driver);
        let files = is_for_files.then(|| mpsc::channel(1).0);
        farm.sessions.insert(row.id, Live { reported: row.reported, files, ..live });
        drop(farm);
        if is_for_files {
            // Whoever asked is gone with the former supervisor.
            tokio::spawn(self.clone().bury(row.id, row.worker.clone(), inbox));
            return;
        }
        let is_errand = row.purpose != store::Purpose::Run;
        let driver = Driver::new(self.clone(), row.id, row.job, row.worker.clone(), inbox).kept(row);
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
    async fn hear(
        &self,
        name: &str,
        connection: u64,
        message: FromWorker,
        payload: Bytes,
    ) -> Result<(), DispatchError> {
        {
            let mut farm = self.farm();
            let Some(worker) = farm.workers.get_mut(name).filter(|w| w.connection == connection) else {
                return Ok(());
            };
            worker.heard = Instant::now();
            match &message {
                FromWorker::Tick { tick, load_milli } => {
                    (worker.clock, worker.load_milli) = (HostClock::set(*tick), *load_milli);
                }
                FromWorker::NewIncarnation { incarnation, tick, sealing_key } => {
                    match place::incarnation(incarnation) {
                        Ok(incarnation) => {
                            worker.needs = Passwords::of(sealing_key.as_deref(), worker.host_key.as_ref(), incarnation);
                            (worker.incarnation, worker.clock) = (incarnation, HostClock::set(*tick));
                            worker.place.excluded.clear();
                            // What failed was the former launcher, or was meant for it.
                            let misfired = std::mem::take(&mut worker.misfires).is_broken().is_some();
                            if std::mem::take(&mut worker.until_new_launcher) || misfired {
                                worker.distrusted = None;
                                worker.look_at_panic();
                            }
                            farm.judge_logons();
                        }
                        Err(error) => worker.place.panic = Some(error.to_string()),
                    }
                }
                FromWorker::Panic { reason } => {
                    worker.trouble.clone_from(reason);
                    worker.look_at_panic();
                }
                // Below, when nothing is locked.
                FromWorker::Settled { .. } => {}
                // Nobody answers what another was asked.
                FromWorker::LookedUp { id, .. } if farm.lookups.get(id).is_none_or(|(asked, _)| asked != name) => {
                    return Ok(());
                }
                FromWorker::LookedUp { id, .. } => {
                    if let (Some((_, waiting)), FromWorker::LookedUp { account, error, .. }) =
                        (farm.lookups.remove(id), message)
                    {
                        // Whoever asked may have lost patience.
                        let _ = waiting.send(error.map_or(Ok(account), Err));
                    }
                    return Ok(());
                }
                FromWorker::Progress { .. } => {
                    let progressed = farm.progress(name, message);
                    drop(farm);
                    progressed.into_iter().for_each(|event| self.0.events.say(event));
                    return Ok(());
                }
                FromWorker::Answered { session, sequence } => {
                    let live = farm.sessions.get(session).filter(|live| live.worker == name);
                    if let Some(to) = live.and_then(|live| live.files.as_ref()) {
                        // More than are waited for are nobody's.
                        let _ = to.try_send((*sequence, payload));
                    }
                    return Ok(());
                }
                FromWorker::Hello(_) => return Ok(()),
            }
        }
        if let FromWorker::Settled { number, panic } = message {
            return Ok(self.settled(name, number, panic).await?);
        }
        if let FromWorker::NewIncarnation { .. } = message {
            self.store().clear_exclusions(name).await?;
        }
        if let FromWorker::Panic { .. } | FromWorker::NewIncarnation { .. } = message {
            let reason = self.with_worker(name, |w| w.place.panic.clone()).flatten();
            tracing::info!(worker = name, reason, "what the worker's panic is");
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
            farm.lookups.insert(id, (worker.to_owned(), waiting));
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
        Ok(self.registered().await?.into_iter().map(|w| w.place).collect())
    }

    /// Every known worker, connected or not; nothing of it is free.
    async fn registered(&self) -> Result<Vec<scheduler::Worker>, StoreError> {
        let known = self.known_workers().await?;
        let farm = self.farm();
        let worker = |known: KnownWorker| scheduler::Worker {
            total: farm.workers.get(&known.place.worker).map_or_else(|| total(&known.hello), |w| w.total),
            place: known.place,
            free_slots: 0,
            free: scheduler::Resources::default(),
            held: BTreeMap::new(),
        };
        Ok(known.into_iter().map(worker).collect())
    }

    /// Slots in use of a worker.
    pub(crate) fn used(&self, worker: &str) -> usize {
        self.farm().used(worker)
    }

    pub(crate) fn live_sessions(&self) -> usize {
        self.farm().sessions.len()
    }

    async fn excluded(&self, name: &str) -> Result<Vec<Excluded>, StoreError> {
        Ok(excluded_on(name, &self.store().exclusions().await?))
    }

    /// What the running tasks of a job say of themselves.
    pub(crate) fn progress(&self, job: u64) -> HashMap<Task, Progress> {
        let farm = self.farm();
        let said = farm.sessions.values().filter(|s| s.job == job).filter_map(|s| s.progress.clone());
        said.map(|p| (p.task, p)).collect()
    }

    /// A session has nothing left to do.
    fn leaves(&self, session: u64) {
        let is_new = {
            let mut farm = self.farm();
            farm.sessions.contains_key(&session) && farm.leaving.insert(session)
        };
        if is_new {
            self.wake();
        }
    }

    fn sessions_of_job(&self, job: u64) -> u64 {
        self.farm().sessions.values().filter(|s| s.job == job && !s.yielding).count() as u64
    }

    /// The decision for a worker that is connected, by what the tables say now.
    async fn decide(&self, who: &Who, job: &str, worker: &str) -> Result<Option<(Decision, Ends)>, StoreError> {
        let people = self.people(who).await?;
        let decide = |w: &Worker| {
            let place = logon::for_living(&w.place);
            policy::decide(who, Some(job), place.as_ref().unwrap_or(&w.place), &people, clock::now())
        };
        let decided = self.with_worker(worker, decide);
        let ends = match &decided {
            Some(Decision::Run(plan, _)) => ends(plan.grant, &people),
            _ => None,
        };
        Ok(decided.map(|decision| (decision, ends)))
    }

    /// What the job's user carries now.
    async fn carried(&self, who: &Who) -> Result<Carried, StoreError> {
        self.0.identity.settings(&who.user).await
    }

    async fn people(&self, who: &Who) -> Result<Arc<People>, StoreError> {
        self.0.identity.people(who.login_user.as_str(), Some(who.user.as_str())).await
    }

    fn with_worker<T>(&self, name: &str, f: impl FnOnce(&Worker) -> T) -> Option<T> {
        self.farm().workers.get(name).map(f)
    }

    fn tell_worker(&self, name: &str, message: &ToWorker) {
        self.farm().send_to(name, message, &[]);
    }

    // --- reports

    /// Takes a group of reports in: proofs are checked, the store keeps what is new, drivers hear of it.
    pub(crate) async fn report(&self, group: Reports, uid: u32) -> Result<u64, DispatchError> {
        let Reports { worker, session, first, mut reports } = group;
        let row = self.store().session(session).await?.ok_or(StoreError::NoSuchSession(session))?;
        self.is_session_from(&row, uid).await?;
        if row.worker == worker {
            self.check_proofs(&row, &mut reports).await?;
        }
        if row.worker == worker {
            self.judge_reports(&row, &mut reports).await?;
        }
        let (reported, to) = self.farm().sessions.get(&session).map_or((0, None), |l| (l.reported + 1, l.to));
        let skip = reported.saturating_sub(first);
        let new = reports.get(usize::try_from(skip).unwrap_or(usize::MAX)..).unwrap_or_default();
        let summary = Summary::of(new);
        // What becomes of file work says nothing of the job, nor of where it may run.
        let is_jobs_own = row.purpose != store::Purpose::Read;
        let excludes = is_jobs_own && new.iter().any(|r| matches!(r, Report::Refused { .. }));
        let launch = new.iter().find_map(Launch::of).filter(|_| is_jobs_own);
        let logged_on = new.iter().any(|r| matches!(r, Report::Started { .. } | Report::Refused { .. }));
        let held_up = new.iter().find_map(held_up).filter(|_| is_jobs_own);
        let answered = new.iter().filter_map(answered_recall).max();
        let bad_proxy = new.iter().find_map(|r| bad_proxy(&row, r)).filter(|_| is_jobs_own);
        let failures: Vec<String> = new.iter().filter_map(failed_stage).collect();
        let (count, ended) = (new.len() as u64, summary.ended());
        let reported = self.store().report(session, &worker, first, reports, clock::now()).await?;
        // In proxy mode it is the worker's account that is refused, and no job's.
        let is_jobs = row.mode != "proxy" && is_jobs_own;
        self.count_reports(count, ended, &failures, is_jobs);
        {
            let mut farm = self.farm();
            if let Some(live) = farm.sessions.get_mut(&session)
                && reported.through > live.reported
            {
                live.reported = reported.through;
                live.held_up = held_up.or(live.held_up.take());
                if let Some(number) = answered {
                    live.has_given_back(number);
                }
                farm.tell(session, Said::Reports(summary));
            }
        }
        if logged_on {
            self.logon_over(session);
        }
        if excludes {
            let excluded = self.excluded(&worker).await?;
            if let Some(worker) = self.farm().workers.get_mut(&worker) {
                worker.place.excluded = excluded;
            }
        }
        if let Some(launch) = &launch {
            self.launched(&row, to, launch).await?;
        }
        if let Some(reason) = bad_proxy {
            self.proxy_is_bad(&row.worker, &reason).await?;
        }
        self.settle(session, &reported).await;
        if let Some(Launch::Failed(how) | Launch::Void(how)) = launch {
            self.say_of(row.job, &format!("{worker} could not launch it: {how}")).await?;
        }
        Ok(reported.through)
    }

    fn count_reports(&self, reports: u64, ended: u64, failures: &[String], is_jobs: bool) {
        let metrics = &self.0.metrics;
        metrics.report_groups.add(1);
        metrics.reports.add(reports);
        metrics.ended.add(ended);
        for stage in failures {
            metrics.launch_failures.count(stage);
            if is_jobs && stage.starts_with(BAD_LOGIN) {
                metrics.badlogins.add(1);
            }
        }
    }

    /// A desktop worker attests nothing, and who its sessions are is not its to say: it has one account, whose uid the
    /// kernel named when it connected. One that says otherwise gets no more work.
    async fn as_the_kernel_says(&self, row: &SessionRow, reports: &mut [Report]) -> Result<(), DispatchError> {
        let uid = self.uid_of(&row.worker).await?;
        for report in reports {
            match report {
                Report::Started { run_as, proof, .. } => {
                    *proof = None;
                    if run_as.name == row.account && run_as.uid == uid {
                        continue;
                    }
                    let why = format!(
                        "it says it runs as {:?} (uid {}); its worker is uid {uid}, and the job is for {:?}",
                        run_as.name, run_as.uid, row.account
                    );
                    *run_as = wire::Account { name: row.account.clone(), uid, gid: run_as.gid, groups: Vec::new() };
                    // Once of a session: what it brings again tells nothing new.
                    if !self.farm().forged.insert(row.id) {
                        continue;
                    }
                    self.proof_refused(row, "started", &why).await?;
                    self.distrust(row, &format!("what it says of session {} was not accepted: {why}", row.id)).await?;
                }
                Report::Ended { proof, .. } | Report::Refused { proof, .. } => *proof = None,
                _ => {}
            }
        }
        Ok(())
    }

    /// A proof that doesn't hold is not kept. Where it contradicts the decision, the session is ended and the worker
    /// gets no more work: something on that host doesn't do what it was told.
    async fn check_proofs(&self, row: &SessionRow, reports: &mut [Report]) -> Result<(), DispatchError> {
        if row.mode == "desktop" {
            return self.as_the_kernel_says(row, reports).await;
        }
        let proves = |r: &Report| matches!(r, Report::Started { .. } | Report::Ended { .. } | Report::Refused { .. });
        if !reports.iter().any(proves) {
            return Ok(());
        }
        // Reports may be here before the hello, after a restart.
        let key = match self.with_worker(&row.worker, |w| w.host_key.clone()) {
            Some(key) => key,
            None => Some(self.pinned_key(&row.worker).await?.ok_or_else(|| PinError::NotSeen(row.worker.clone()))?),
        };
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
            self.proof_refused(row, fact, &error.to_string()).await?;
            if fact == "started" && error != proof::ProofError::Key {
                self.distrust(row, &format!("its proof of session {} was not accepted: {error}", row.id)).await?;
            }
        }
        Ok(())
    }

    async fn proof_refused(&self, row: &SessionRow, fact: &str, why: &str) -> Result<(), DispatchError> {
        let (session, worker) = (row.id, &row.worker);
        tracing::warn!(session, worker, fact, why, "a proof is not accepted");
        let record = Record::new(Act::ProofRefused).outcome(Outcome::Refused).by(&row.login_user, &row.user);
        let record = record.by_worker(worker).job(row.job).object(worker).with("session", session);
        self.0.audit.write(record.with("fact", fact).with("why", why)).await?;
        Ok(())
    }

    async fn distrust(&self, row: &SessionRow, reason: &str) -> Result<(), DispatchError> {
        self.tell_worker(&row.worker, &ToWorker::Kill { session: row.id });
        self.no_more_work(&row.worker, reason).await
    }

    /// Whatever the worker says of itself: until it connects again it is in panic.
    async fn no_more_work(&self, worker: &str, reason: &str) -> Result<(), DispatchError> {
        tracing::warn!(worker, reason, "the worker gets no more work");
        if let Some(worker) = self.farm().workers.get_mut(worker) {
            worker.distrusted = Some(reason.to_owned());
            worker.place.panic = Some(reason.to_owned());
        }
        self.store().set_panic(worker, Some(reason.to_owned())).await?;
        self.0.events.say(Event::Worker);
        Ok(())
    }

    /// Every job there would have that account. Asked again when the worker connects again or its launcher is new.
    async fn proxy_is_bad(&self, worker: &str, reason: &str) -> Result<(), DispatchError> {
        if let Some(worker) = self.farm().workers.get_mut(worker) {
            worker.until_new_launcher = true;
        }
        self.no_more_work(worker, reason).await
    }

    /// A launch that failed at the host is tried elsewhere; a host where it happens again and again gets no more work.
    /// What was meant for an earlier life of worker or launcher says nothing about this one.
    async fn launched(&self, row: &SessionRow, to: Option<Addressee>, launch: &Launch) -> Result<(), DispatchError> {
        let broken = {
            let mut farm = self.farm();
            let Farm { workers, avoid, .. } = &mut *farm;
            let Some(worker) = workers.get_mut(&row.worker) else { return Ok(()) };
            if *launch != Launch::Well {
                if to != Some(Addressee::of(worker)) {
                    return Ok(());
                }
                avoid.entry(row.job).or_default().insert(row.worker.clone());
            }
            worker.misfires.launched(&row.login_user, launch, Instant::now());
            worker.misfires.is_broken()
        };
        match broken {
            Some(reason) => self.no_more_work(&row.worker, &reason).await,
            None => Ok(()),
        }
    }

    /// What follows from reports that are stored.
    async fn settle(&self, session: u64, reported: &Reported) {
        let ended = if reported.session_over { self.farm().forget(session) } else { None };
        if reported.session_over {
            self.logon_over(session);
        }
        if reported.retry_at.is_some() || !reported.changed_jobs.is_empty() || reported.session_over {
            self.farm().poke(&reported.changed_jobs);
            self.changed(&reported.changed_jobs, &reported.finished_jobs);
        }
        // Whoever waits for the slot need not wait for the record.
        if let Some(mut live) = ended {
            if let Some(why) = live.held_up.take()
                && let Err(error) = self.say_of(live.job, &format!("{}: {why}; it is tried again", live.worker)).await
            {
                tracing::error!(job = live.job, %error, "the job was not told why it waits");
            }
            self.over(session, live).await;
        }
        if reported.session_over {
            self.may_be_gone();
        }
    }

    /// A session has no process any more.
    async fn over(&self, session: u64, live: Live) {
        let _ = live.to_driver.send(Said::Over);
        self.0.logs.session_over(session);
        let row = match self.store().session(session).await {
            Ok(Some(row)) => row,
            Ok(None) => return,
            Err(error) => return tracing::error!(session, %error, "its end is not in the audit"),
        };
        if let Err(error) = self.record_end(&row, end_of(&row)).await {
            tracing::error!(session, %error, "its end is not in the audit");
        }
    }

    /// Ends that are stored and that nobody came to write down: the former supervisor died, or its disk was full. One that
    /// was written just before it died is written again, and says so of itself.
    async fn record_late_ends(&self) -> Result<(), StoreError> {
        for row in self.store().unaudited_ends().await? {
            let late = end_of(&row).with("recorded", "at a later start; there may be an earlier record");
            if let Err(error) = self.record_end(&row, late).await {
                tracing::error!(session = row.id, %error, "its end is not in the audit yet");
                return Ok(());
            }
        }
        Ok(())
    }

    async fn record_end(&self, row: &SessionRow, record: Record) -> Result<(), DispatchError> {
        self.0.audit.write(record).await?;
        Ok(self.store().end_audited(row.id).await?)
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
            if let Err(error) = self.follow_desks().await {
                tracing::error!(%error, "the list of desktop workers is not followed");
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

    /// Says hello as the account `uid`; what the worker is sent comes back, as long as it is kept.
    pub(crate) async fn greet_for_tests(&self, hello: Hello, uid: u32) -> Result<mpsc::Receiver<Vec<u8>>, String> {
        let (outbox, messages) = Outbox::new(64);
        self.hello(hello, (uid, true), outbox).await.map(|_| messages).map_err(|e| e.to_string())
    }

    pub(crate) async fn retire_for_tests(&self, now: i64) {
        self.retire_once(now).await.expect("retired");
    }
}

/// Whether each has said so in time.
async fn all_heard(awaited: Vec<Option<oneshot::Receiver<()>>>, until: Instant) -> bool {
    let mut all = true;
    for heard in awaited {
        // An end without a word is the end of the session.
        let said = match heard {
            Some(heard) => tokio::time::timeout_at(until.into(), heard).await.is_ok(),
            None => false,
        };
        all &= said;
    }
    all
}

/// When a right ends by itself, if it does.
type Ends = Option<i64>;

fn ends(grant: Option<u64>, people: &People) -> Ends {
    people.grants.iter().find(|g| Some(g.id) == grant)?.until
}

/// What is only for now: the directory is down, or the account has as many processes as it may have.
fn held_up(report: &Report) -> Option<String> {
    match report {
        Report::Refused { kind, text, .. } if kind == "transient" => Some(text.clone()),
        Report::TaskEnded { end: End::CannotStart { stage, text, .. }, .. } if stage == "limit" => Some(text.clone()),
        _ => None,
    }
}

/// The recall after which a session holds nothing that was handed out before it.
fn answered_recall(report: &Report) -> Option<u64> {
    match report {
        Report::Recalled { answers, .. } => Some(*answers).filter(|number| *number != 0),
        _ => None,
    }
}

/// For the figures: what refused, and at which stage.
fn failed_stage(report: &Report) -> Option<String> {
    match report {
        Report::Refused { kind, stage, .. } => Some(format!("{kind}:{stage}")),
        _ => None,
    }
}

/// Why the account of proxy mode, or the mode itself, can't be used on that host, if that is what was refused.
fn bad_proxy(row: &SessionRow, report: &Report) -> Option<String> {
    let Report::Refused { kind, stage, text, hint, .. } = report else { return None };
    if kind == "local_policy" && stage == "mode_not_allowed" {
        return Some(format!("its mode can't be used: {text} ({stage}; {hint})"));
    }
    let of_account = matches!(kind.as_str(), "account" | "local_policy" | "bad_login");
    // Another password puts that right, and is waited for.
    let of_account = of_account && !stage.starts_with("password_");
    (row.mode == "proxy" && of_account).then(|| {
        format!("its proxy account can't be used: {text} ({stage}; {hint}; then restart the launcher or the worker)")
    })
}

fn end_of(row: &SessionRow) -> Record {
    let record = Record::new(Act::SessionEnd)
        .by(&row.login_user, &row.user)
        .grant(row.grant)
        .policy(&row.policy_version)
        .job(row.job)
        .object(&row.worker)
        .with("session", row.id)
        .with("end", &row.end)
        .with("account", row.run_as.as_ref())
        .with("attested_by", &row.attested_by)
        .with("opened", clock::rfc3339(row.opened_at))
        .with("started", row.started_at.map(clock::rfc3339))
        .with("ended", row.ended_at.map(clock::rfc3339));
    match &row.run_as {
        Some(account) => record.run_as(&account.name),
        None => record.run_as(&row.account),
    }
}

fn total(hello: &Hello) -> scheduler::Resources {
    scheduler::Resources { cpu_milli: u64::from(hello.cores) * 1000, memory: hello.memory }
}

fn excluded_on(worker: &str, exclusions: &[Exclusion]) -> Vec<Excluded> {
    let on_it = exclusions.iter().filter(|e| e.worker == worker).cloned();
    on_it.map(|e| Excluded { account: e.account, rule: e.rule, reason: e.reason }).collect()
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
