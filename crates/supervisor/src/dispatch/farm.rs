//! What is known right now: connected workers and living sessions. Lives in memory only; after a restart it is made
//! anew from the store and from what the workers say. No waiting happens while it is locked.

use super::desks::Greetings;
use super::logon::Needs;
use super::misfires::Misfires;
use super::open::Addressee;
use super::place::HostClock;
use super::session::Said;
use crate::clock;
use crate::configuration::GivenByFile;
use crate::events::Event;
use crate::scheduler::{self, Resources};
use bytes::Bytes;
use policy::{Logons, Place};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};
use warrant::{Incarnation, PublicKey};
use wire::{Account, FromWorker, Hello, Task, ToWorker};

/// What a host says of an account.
type LookedUp = Result<Option<Account>, String>;

/// A worker that said nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(15);

/// Messages to one worker, in order and without a gap: a connection that could not take one is ended.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Vec<u8>>,
    /// One did not fit.
    full: Arc<Notify>,
}

impl Outbox {
    pub(crate) fn new(room: usize) -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (queue, messages) = mpsc::channel(room);
        (Self { queue, full: Arc::default() }, messages)
    }

    /// Sends, or gives the message up, and with it the connection: what counts is settled when the worker is back.
    pub(crate) fn send(&self, message: &ToWorker, payload: &[u8]) -> bool {
        match wire::encode_frame(message, payload) {
            Ok(frame) => {
                let sent = self.queue.try_send(frame).is_ok();
                if !sent {
                    self.full.notify_one();
                }
                sent
            }
            Err(error) => {
                tracing::error!(%error, "a message can't be sent");
                false
            }
        }
    }

    /// Notified when a message was given up. It keeps no queue open.
    pub(crate) fn full(&self) -> Arc<Notify> {
        self.full.clone()
    }

    fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

#[derive(Debug)]
pub(crate) struct Worker {
    /// Tells connections of the same name apart.
    pub(crate) connection: u64,
    pub(crate) place: Place,
    pub(crate) slots: u32,
    /// By how much its jobs give way to others.
    pub(crate) nice: i8,
    /// What paths of jobs that ask for it are on its host.
    pub(crate) path_map: Arc<[(String, String)]>,
    /// Who said what its settings are.
    pub(crate) said_by: &'static str,
    pub(crate) total: Resources,
    pub(crate) incarnation: Incarnation,
    /// What proofs are checked with; `None` in desktop mode, or when the key changed.
    pub(crate) host_key: Option<PublicKey>,
    pub(crate) clock: HostClock,
    pub(crate) heard: Instant,
    /// Of its host, as it said last.
    pub(crate) load_milli: Option<u32>,
    pub(crate) outbox: Outbox,
    pub(crate) misfires: Misfires,
    /// What it says is wrong with itself.
    pub(crate) trouble: Option<String>,
    /// Why it gets no work, whatever it says of itself.
    pub(crate) distrusted: Option<String>,
    /// It is distrusted for what its launcher said, so that another launcher may say something else.
    pub(crate) until_new_launcher: bool,
    /// Which passwords it needs to be sent, and how.
    pub(crate) needs: Needs,
    /// Why its own account, or nobody, can be logged on there.
    pub(crate) no_logon: Option<String>,
    /// The password that a file gives its own account.
    pub(crate) given: Option<GivenByFile>,
    /// Why that is of no use.
    pub(crate) not_opened: Option<String>,
    /// What it said of itself.
    pub(crate) hello: Arc<Hello>,
    /// The settings it was sent and has not taken over yet.
    pub(crate) settling: Option<u64>,
    /// Why nothing can be made of its settings.
    pub(crate) misconfigured: Option<String>,
}

impl Worker {
    /// Works out why it takes no jobs, if it takes none.
    pub(crate) fn look_at_panic(&mut self) {
        self.place.panic = self.panic();
    }
}

/// What a task said of itself last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Progress {
    pub(crate) task: Task,
    /// 0 to 100.
    pub(crate) percent: Option<f64>,
    pub(crate) status: Option<String>,
}

/// Longest status kept.
const STATUS_MAX: usize = 1024;

/// A session that may have processes.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) job: u64,
    pub(crate) user: String,
    pub(crate) worker: String,
    /// Whom it was opened for; `None` when that was an earlier connection's.
    pub(crate) to: Option<Addressee>,
    pub(crate) priority: i32,
    pub(crate) asks: Resources,
    /// The host ends it at this time unless it is renewed.
    pub(crate) deadline: Instant,
    pub(crate) since: Instant,
    /// Number of the last report passed on.
    pub(crate) reported: u64,
    pub(crate) to_driver: mpsc::UnboundedSender<Said>,
    /// Asked to make room.
    pub(crate) yielding: bool,
    /// Of the task it runs.
    pub(crate) progress: Option<Progress>,
    /// Why it could not go on with the job for now: said when it is over, and the job waits.
    pub(crate) held_up: Option<String>,
    /// It is to start nothing more: no batch goes out to it, not even one that was decided before.
    pub(crate) withdrawn: bool,
    /// Who waits for it to say so, and by which recall it was told. Gone with it: a session that is over starts nothing.
    pub(crate) awaited: Vec<(u64, oneshot::Sender<()>)>,
    /// It does file work, and this is who waits for its answers: it takes no slot, and makes room for nobody.
    pub(crate) files: Option<mpsc::Sender<(u64, Bytes)>>,
}

impl Live {
    /// One that nobody asked anything of yet, and that says nothing of slots.
    pub(crate) fn new(
        job: u64,
        user: String,
        worker: String,
        deadline: Instant,
        to_driver: mpsc::UnboundedSender<Said>,
    ) -> Self {
        Self {
            job,
            user,
            worker,
            to: None,
            priority: 0,
            asks: Resources::default(),
            deadline,
            since: Instant::now(),
            reported: 0,
            to_driver,
            yielding: true,
            progress: None,
            held_up: None,
            withdrawn: false,
            awaited: Vec::new(),
            files: None,
        }
    }

    /// It has obeyed this recall, and with it all before: an answer to an earlier one says nothing of what was handed out
    /// since.
    pub(crate) fn has_given_back(&mut self, number: u64) {
        // Whoever stopped waiting needs no word.
        self.awaited.extract_if(.., |(recall, _)| *recall <= number).for_each(|(_, waits)| _ = waits.send(()));
    }
}

#[derive(Debug, Default)]
pub(crate) struct Farm {
    pub(crate) workers: BTreeMap<String, Worker>,
    pub(crate) sessions: HashMap<u64, Live>,
    pub(crate) lookups: HashMap<u64, (String, oneshot::Sender<LookedUp>)>,
    /// What each pending job was last said to wait for.
    pub(crate) reasons: HashMap<u64, Option<String>>,
    /// Workers where a launch of the job failed.
    pub(crate) avoid: HashMap<u64, BTreeSet<String>>,
    /// Sessions with nothing left to do, which only have to end.
    pub(crate) leaving: HashSet<u64>,
    /// Accounts of the workers, by name.
    pub(crate) owners: HashMap<String, u32>,
    pub(super) greetings: Greetings,
    /// Sessions of which it is on record that a desktop worker said they run as another.
    pub(super) forged: HashSet<u64>,
    /// Since when people's jobs wait for the plan of one in front of them.
    pub(crate) held: HashMap<String, Instant>,
    /// What the farm knows of passwords.
    pub(crate) logons: Arc<Logons>,
    /// Accounts whose password is in use: by the launch of which session (0: not known yet), and where.
    pub(crate) trying: HashMap<String, (u64, String)>,
    pub(crate) last_number: u64,
    /// How many jobs were held: a session that is being opened meanwhile may be of one.
    pub(crate) holds: u64,
}

impl Farm {
    /// Its numbers follow those of the supervisor before it: sessions may still answer to them.
    pub(crate) fn new() -> Self {
        Self { last_number: u64::try_from(clock::now()).unwrap_or_default(), ..Self::default() }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// A worker that is connected and was heard of lately.
    pub(crate) fn is_alive(&self, name: &str) -> bool {
        self.workers.get(name).is_some_and(|w| w.heard.elapsed() < SILENCE && !w.outbox.is_closed())
    }

    pub(crate) fn silent(&self) -> Vec<(String, u64)> {
        let silent = self.workers.values().filter(|w| w.heard.elapsed() >= SILENCE);
        silent.map(|w| (w.place.worker.clone(), w.connection)).collect()
    }

    /// What the scheduler looks at.
    pub(crate) fn for_scheduler(&self) -> Vec<scheduler::Worker> {
        let mut taken: HashMap<&str, (u32, Resources)> = HashMap::new();
        let mut leaving: HashMap<&str, u32> = HashMap::new();
        for (id, live) in self.sessions.iter().filter(|(_, live)| live.files.is_none()) {
            if self.leaving.contains(id) {
                let before = leaving.entry(&live.worker).or_default();
                *before += 1;
                // The next one need not wait for the end of this one; but they must not pile up.
                if self.workers.get(&live.worker).is_some_and(|w| *before <= w.slots) {
                    continue;
                }
            }
            let (slots, resources) = taken.entry(&live.worker).or_default();
            *slots += 1;
            resources.cpu_milli += live.asks.cpu_milli;
            resources.memory += live.asks.memory;
        }
        let now = Instant::now();
        let worker = |w: &Worker| {
            let (slots, resources) = taken.get(w.place.worker.as_str()).copied().unwrap_or_default();
            scheduler::Worker {
                place: w.place.clone(),
                free_slots: w.slots.saturating_sub(slots),
                total: w.total,
                free: w.total.minus(resources),
                held: w.misfires.held(now),
            }
        };
        self.workers.values().map(worker).collect()
    }

    /// Keeps what a task says of itself: the newest word, of the newest task of the session.
    pub(crate) fn progress(&mut self, worker: &str, message: FromWorker) -> Option<Event> {
        let FromWorker::Progress { session, task, hundredths, status } = message else { return None };
        let live = self.sessions.get_mut(&session).filter(|s| s.worker == worker)?;
        let progress = match &mut live.progress {
            Some(known) if known.task == task => known,
            other => other.insert(Progress { task, percent: None, status: None }),
        };
        if let Some(hundredths) = hundredths {
            progress.percent = Some(f64::from(hundredths.min(10_000)) / 100.0);
        }
        if let Some(status) = status {
            progress.status = Some(status.chars().take(STATUS_MAX).collect());
        }
        Some(Event::Task { job: live.job, task })
    }

    pub(crate) fn avoided_by(&self, job: u64) -> BTreeSet<String> {
        self.avoid.get(&job).cloned().unwrap_or_default()
    }

    /// Living sessions of each job.
    pub(crate) fn sessions_by_job(&self) -> HashMap<u64, u32> {
        let mut count = HashMap::new();
        for live in self.sessions.values().filter(|live| live.files.is_none()) {
            *count.entry(live.job).or_default() += 1;
        }
        count
    }

    /// The same of each user.
    pub(crate) fn sessions_by_user(&self) -> HashMap<String, u32> {
        let mut count = HashMap::new();
        for live in self.sessions.values().filter(|live| live.files.is_none()) {
            *count.entry(live.user.clone()).or_default() += 1;
        }
        count
    }

    pub(crate) fn is_withdrawn(&self, session: u64) -> bool {
        self.sessions.get(&session).is_some_and(|live| live.withdrawn)
    }

    /// Has the sessions of a job start nothing more. What to wait for until each has said so; nothing of one whose worker
    /// isn't there.
    pub(crate) fn withdraw(&mut self, job: u64) -> Vec<Option<oneshot::Receiver<()>>> {
        let sessions = self.sessions_of(job);
        self.withdraw_some(sessions)
    }

    /// Living sessions of a job, with their workers.
    pub(crate) fn sessions_of(&self, job: u64) -> Vec<(u64, String)> {
        self.sessions.iter().filter(|(_, l)| l.job == job).map(|(id, l)| (*id, l.worker.clone())).collect()
    }

    /// The same of these sessions, as far as they live.
    pub(crate) fn withdraw_some(&mut self, mut sessions: Vec<(u64, String)>) -> Vec<Option<oneshot::Receiver<()>>> {
        self.holds += 1;
        sessions.retain(|(session, _)| self.sessions.contains_key(session));
        let withdraw = |(session, worker): (u64, String)| {
            let recall = self.recall(session, &worker);
            let live = self.sessions.get_mut(&session)?;
            live.withdrawn = true;
            let (said, heard) = oneshot::channel();
            recall.map(|number| live.awaited.push((number, said))).map(|()| heard)
        };
        sessions.into_iter().map(withdraw).collect()
    }

    /// Calls back all that the session has not started. The number of the recall, if its worker is there to hear it.
    pub(crate) fn recall(&mut self, session: u64, worker: &str) -> Option<u64> {
        let number = self.number();
        let is_told = self.send_to(worker, &ToWorker::Recall { session, through: u64::MAX, number }, &[]);
        is_told.then_some(number)
    }

    pub(crate) fn running(&self) -> Vec<scheduler::Running> {
        let running = |(id, live): (&u64, &Live)| scheduler::Running {
            session: *id,
            job: live.job,
            worker: live.worker.clone(),
            priority: live.priority,
            age: live.since.elapsed(),
            yielding: live.yielding,
        };
        let counts = |(id, live): &(&u64, &Live)| !self.leaving.contains(id) && live.files.is_none();
        self.sessions.iter().filter(counts).map(running).collect()
    }

    pub(crate) fn used(&self, worker: &str) -> usize {
        let counts = |(id, s): &(&u64, &Live)| s.worker == worker && !self.leaving.contains(id) && s.files.is_none();
        self.sessions.iter().filter(counts).count()
    }

    /// Takes out a session that has no process any more.
    pub(crate) fn forget(&mut self, session: u64) -> Option<Live> {
        self.leaving.remove(&session);
        self.sessions.remove(&session)
    }

    pub(crate) fn sessions_of_worker(&self, worker: &str) -> Vec<u64> {
        self.sessions.iter().filter(|(_, s)| s.worker == worker).map(|(id, _)| *id).collect()
    }

    pub(crate) fn tell(&self, session: u64, said: Said) {
        if let Some(live) = self.sessions.get(&session) {
            // A driver that ended needs no news.
            let _ = live.to_driver.send(said);
        }
    }

    /// Tells all sessions of these jobs that there may be something new for them.
    pub(crate) fn poke(&self, jobs: &[u64]) {
        let jobs: HashSet<u64> = jobs.iter().copied().collect();
        for live in self.sessions.values().filter(|s| jobs.contains(&s.job)) {
            let _ = live.to_driver.send(Said::Poke);
        }
    }

    /// Sends to the worker of a session, if it is there.
    pub(crate) fn send_to(&self, worker: &str, message: &ToWorker, payload: &[u8]) -> bool {
        self.workers.get(worker).is_some_and(|w| w.outbox.send(message, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::place::{check, tests::hello};

    fn farm(slots: u32, sessions: u64) -> Farm {
        let place = check(&hello("desk")).expect("a place").place;
        let worker = Worker {
            connection: 1,
            place,
            slots,
            nice: 0,
            path_map: Arc::default(),
            said_by: "default",
            total: Resources::default(),
            incarnation: [0; 16],
            host_key: None,
            clock: HostClock::set(0),
            heard: Instant::now(),
            outbox: Outbox::new(1).0,
            misfires: Misfires::default(),
            trouble: None,
            distrusted: None,
            until_new_launcher: false,
            needs: Needs::Nothing,
            no_logon: None,
            given: None,
            not_opened: None,
            hello: Arc::new(hello("desk")),
            settling: None,
            misconfigured: None,
            load_milli: None,
        };
        let live = || {
            let to_driver = mpsc::unbounded_channel().0;
            Live::new(1, "ada".to_owned(), "desk".to_owned(), Instant::now(), to_driver)
        };
        Farm {
            workers: BTreeMap::from([("desk".to_owned(), worker)]),
            sessions: (1..=sessions).map(|id| (id, live())).collect(),
            ..Farm::default()
        }
    }

    /// What comes after a gap would be misunderstood.
    #[tokio::test]
    async fn a_message_that_found_no_room_ends_the_connection() {
        let (outbox, mut messages) = Outbox::new(1);
        let full = outbox.full();
        assert!(outbox.send(&ToWorker::Finish { session: 1 }, &[]));
        let nothing = tokio::time::timeout(Duration::ZERO, full.notified()).await;
        assert!(nothing.is_err(), "there was room");
        assert!(!outbox.send(&ToWorker::Finish { session: 2 }, &[]));
        // Room that comes later changes nothing.
        assert!(messages.recv().await.is_some());
        tokio::time::timeout(Duration::from_secs(20), full.notified()).await.expect("notified");
    }

    #[test]
    fn a_session_that_leaves_gives_its_slot_and_no_more_than_the_slots_pile_up() {
        let free = |sessions, leaving: std::ops::RangeInclusive<u64>| {
            let mut farm = farm(2, sessions);
            farm.leaving.extend(leaving);
            farm.for_scheduler()[0].free_slots
        };
        assert_eq!(free(2, 3..=3), 0);
        assert_eq!(free(2, 1..=1), 1);
        assert_eq!(free(2, 1..=2), 2);
        assert_eq!(free(3, 1..=3), 1, "the third one that leaves counts");
        assert_eq!(free(4, 1..=4), 0);
        let mut farm = farm(2, 1);
        farm.leaving.insert(1);
        assert!(farm.running().is_empty() && farm.used("desk") == 0);
        assert!(farm.forget(1).is_some() && farm.leaving.is_empty());
    }

    #[test]
    fn file_work_takes_nothing_of_what_jobs_may_have() {
        let mut farm = farm(2, 2);
        farm.sessions.get_mut(&1).expect("there").files = Some(mpsc::channel(1).0);
        assert_eq!(farm.for_scheduler()[0].free_slots, 1);
        assert_eq!((farm.sessions_by_job()[&1], farm.sessions_by_user()["ada"]), (1, 1));
        assert_eq!((farm.running().len(), farm.used("desk")), (1, 1));
    }
}
