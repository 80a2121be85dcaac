//! The middle of the worker: what supervisor, launcher and sessions say comes here and goes on from here.
//!
//! One task owns this state; each session has an actor of its own ([`crate::session`]), so that a slow one holds up
//! nobody else.

use crate::desktop::{self, Asked, Desktop, Farm};
use crate::host;
use crate::launcher::{Address, Connection, HostEvent, Launcher, Request, Welcome};
use crate::leftovers;
use crate::link::{FromLink, Link};
use crate::meaning::{Ending, Refusal};
use crate::packets::sealed;
use crate::session::{self, Order, Said};
use crate::spool::{self, Meta, Spool};
use crate::{Config, Mode, WorkerError};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use warrant::launcher_wire::{HostAbilities, RefusalKind};
use warrant::session_wire::ToSession;
use warrant::{PublicKey, Signed, WARRANT_MAX, hex, unhex};
use wire::{Abilities, FromWorker, Hello, Keep, ToWorker};

/// How often the worker asks itself whether it can work.
const HEALTH: Duration = Duration::from_secs(5);
/// The host's user database may take this long.
const DATABASE: Duration = Duration::from_secs(10);
/// What a desktop worker waits at its end: for processes to be gone, then for the supervisor to hear of it.
const END_PROCESSES: Duration = Duration::from_secs(15);
const END_REPORTS: Duration = Duration::from_secs(2);
/// Stands for the spool as a whole where sessions have their number.
const WHOLE_SPOOL: u64 = 0;
/// Most bytes of a signed renewal.
const RENEWAL_MAX: usize = 1024;

/// Who starts sessions, as found before the worker began.
#[derive(Debug)]
pub(crate) enum Prepared {
    Service(Address, Box<(Connection, Welcome)>),
    Desktop(Box<Desktop>),
}

#[derive(Debug)]
enum Host {
    Service {
        launcher: Launcher,
        /// The last one; `None` before the first.
        welcome: Option<Welcome>,
        up: bool,
    },
    Desktop(Box<Desktop>),
}

/// Anything that happens.
#[derive(Debug)]
enum Happening {
    Link(FromLink),
    Host(HostEvent),
    Said(u64, Said),
    /// An answer that took a while.
    Answer(Box<FromWorker>),
    /// What is wrong with the account of proxy mode of the settings of this number.
    Proxy(u64, Option<String>),
    /// The same of settings that were just taken over.
    Settled(u64, Option<String>),
}

#[derive(Debug)]
enum Phase {
    /// Asked of the launcher; nothing is known yet. `None`: by an earlier worker.
    Opening(Option<Signed>),
    Alive,
    /// Its last report is stored.
    Over,
}

#[derive(Debug)]
struct Entry {
    orders: mpsc::UnboundedSender<Order>,
    phase: Phase,
    killed: bool,
    /// Its end was seen, if not stored.
    ended: bool,
    renewal: Option<Signed>,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Hub {
    config: Config,
    /// As whom jobs run by what the supervisor said last; else by the configuration.
    mode: Mode,
    /// The number of what it said; 0: nothing.
    settings: u64,
    host: Host,
    link: Link,
    /// Connects to the supervisor; started when there is something to say in the hello.
    connect: Option<Task>,
    happened: mpsc::UnboundedSender<Happening>,
    /// Everything started here ends with the hub.
    tasks: JoinSet<()>,
    entries: BTreeMap<u64, Entry>,
    /// Sessions of the launcher without a spool here, until the supervisor says what it knows of them.
    strays: BTreeMap<u64, Option<Ending>>,
    /// The sessions of the last hello.
    greeted: BTreeSet<u64>,
    farm: Option<Farm>,
    /// Why no jobs are taken: by session, for its spool.
    spool_trouble: BTreeMap<u64, String>,
    proxy_trouble: Option<String>,
    /// The last word on it to the supervisor.
    told: Option<String>,
    ending: bool,
}

/// Works until `shutdown` completes.
pub(crate) async fn run(
    config: Config,
    prepared: Prepared,
    shutdown: impl Future<Output = ()>,
) -> Result<(), WorkerError> {
    let (happened, mut happenings) = mpsc::unbounded_channel();
    let mut hub = Hub::new(config, prepared, happened);
    hub.proxy_trouble = proxy_trouble(&hub.config.mode).await;
    hub.recover()?;
    let mut shutdown = pin!(shutdown);
    let mut health = interval(HEALTH);
    health.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(happening) = happenings.recv() => hub.happen(happening),
            _ = health.tick() => hub.check_health(),
            Some(ended) = hub.tasks.join_next() => if let Err(e) = ended {
                tracing::error!("a task of the worker failed: {e}");
            },
        }
    }
    hub.finish(&mut happenings).await;
    Ok(())
}

impl Hub {
    fn new(config: Config, prepared: Prepared, happened: mpsc::UnboundedSender<Happening>) -> Self {
        let mut tasks = JoinSet::new();
        let to_hub = happened.clone();
        let (link, connect) = Link::new(config.endpoint.clone(), move |e| tell(&to_hub, Happening::Link(e)));
        let mut connect: Option<Task> = Some(Box::pin(connect));
        let host = match prepared {
            Prepared::Service(address, first) => {
                let to_hub = happened.clone();
                let (launcher, keep) = Launcher::new(address, *first, move |e| tell(&to_hub, Happening::Host(e)));
                tasks.spawn(keep);
                Host::Service { launcher, welcome: None, up: false }
            }
            Prepared::Desktop(desktop) => {
                if let Some(connect) = connect.take() {
                    tasks.spawn(connect);
                }
                Host::Desktop(desktop)
            }
        };
        Self {
            mode: config.mode.clone(),
            settings: 0,
            config,
            host,
            link,
            connect,
            happened,
            tasks,
            entries: BTreeMap::new(),
            strays: BTreeMap::new(),
            greeted: BTreeSet::new(),
            farm: None,
            spool_trouble: BTreeMap::new(),
            proxy_trouble: None,
            told: None,
            ending: false,
        }
    }

    /// Takes over what an earlier worker left in the spool.
    fn recover(&mut self) -> Result<(), WorkerError> {
        let root = self.config.spool.clone();
        let failed = |source| WorkerError::Folder { path: root.clone(), source };
        for dir in spool::list(&root).map_err(failed)? {
            match Spool::open(&dir) {
                Ok(spool) => self.take_over(spool),
                Err(e) => {
                    tracing::warn!("failed to read the spool {}: {e}; it is put aside", dir.display());
                    std::fs::rename(&dir, dir.with_extension("unreadable")).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    fn take_over(&mut self, spool: Spool) {
        let (session, process) = (spool.meta.session, spool.meta.process);
        let (over, started) = (spool.over(), spool.started());
        tracing::info!(session, over, "taking over a session of an earlier worker");
        let phase = match () {
            () if over => Phase::Over,
            () if started => Phase::Alive,
            () => Phase::Opening(None),
        };
        self.enter(spool, phase);
        if matches!(self.host, Host::Desktop(_)) && !over {
            if let Some(process) = process {
                leftovers::end_stray(process);
            }
            self.lost(session);
        }
    }

    /// Nobody knows this session any more.
    fn lost(&mut self, session: u64) {
        let Some(entry) = self.entries.get(&session) else { return };
        match entry.phase {
            Phase::Opening(_) => self.refuse(session, void("the one it was given to ended before the launch")),
            Phase::Alive => {
                entry.order(Order::Ended(Ending::lost("the session was gone when its worker or launcher came back")));
            }
            Phase::Over => {}
        }
    }

    fn refuse(&mut self, session: u64, refusal: Refusal) {
        if let Some(entry) = self.entries.get_mut(&session) {
            entry.phase = Phase::Over;
            entry.order(Order::Refused(refusal));
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Link(FromLink::Hello(ask)) => drop(ask.send(self.hello())),
            Happening::Link(FromLink::Message(message, payload)) => self.told_by_supervisor(message, &payload),
            Happening::Link(FromLink::Down) => {}
            Happening::Host(event) => self.told_by_host(event),
            Happening::Said(session, said) => self.told_by_session(session, said),
            Happening::Answer(answer) => self.link.send(*answer),
            Happening::Proxy(settings, trouble) if settings == self.settings => {
                self.proxy_trouble = trouble;
                self.tell_trouble();
            }
            Happening::Settled(number, trouble) if number == self.settings => {
                self.proxy_trouble = trouble;
                self.told = self.trouble();
                self.link.send(FromWorker::Settled { number, panic: self.told.clone() });
            }
            // Of settings that are no more.
            Happening::Proxy(..) | Happening::Settled(..) => {}
        }
    }

    // --- the supervisor

    fn hello(&mut self) -> Hello {
        self.greeted = self.entries.keys().chain(self.strays.keys()).copied().collect();
        self.told = self.trouble();
        let (mode, proxy_account, accept) = match &self.config.mode {
            Mode::Service { proxy: None, .. } => ("user", None, Vec::new()),
            Mode::Service { proxy, .. } => ("proxy", proxy.clone(), Vec::new()),
            Mode::Desktop { accept, .. } => ("desktop", None, accept.clone()),
        };
        let (incarnation, host_key, abilities, sealing_key, owner) = match &self.host {
            Host::Service { welcome: Some(w), .. } => {
                (hex(&w.incarnation), Some(hex(&w.host_key)), abilities(w.abilities), sealing_key(w), None)
            }
            Host::Service { welcome: None, .. } => (String::new(), None, Abilities::default(), None, None),
            Host::Desktop(d) => {
                let abilities = Abilities { files: true, ..Abilities::default() };
                (hex(&d.incarnation()), None, abilities, None, Some(d.owner().clone()))
            }
        };
        Hello {
            version: wire::VERSION,
            name: self.config.name.clone(),
            mode: mode.to_owned(),
            proxy_account,
            owner,
            accept,
            panic: self.told.clone(),
            slots: self.config.slots,
            labels: self.config.labels.clone(),
            cores: self.config.cores,
            memory: self.config.memory,
            incarnation,
            tick: host::tick(),
            host_key,
            abilities,
            sealing_key,
            own: self.config.own.clone(),
            settings: self.settings,
            sessions: self.greeted.iter().copied().collect(),
        }
    }

    fn told_by_supervisor(&mut self, message: ToWorker, payload: &Bytes) {
        match message {
            ToWorker::Welcome { farm, keys, keep } => self.welcomed(&farm, &keys, keep),
            ToWorker::Settings { number, mode, proxy_account } => self.settings(number, &mode, proxy_account),
            ToWorker::Open { session, job, .. } => self.open(session, job, payload, false),
            ToWorker::Clean { session, job } => self.open(session, job, payload, true),
            ToWorker::Batch { session, .. } => self.batch(session, payload),
            ToWorker::Files { session } => self.files(session, payload),
            ToWorker::Renew { session } => self.renew(session, payload),
            ToWorker::Cancel { session, task } => self.send(session, ToSession::Cancel { task: task.into() }),
            ToWorker::Recall { session, through, number } => {
                self.send(session, ToSession::Recall { through, number });
            }
            ToWorker::Suspend { session } => self.send(session, ToSession::Suspend),
            ToWorker::Resume { session } => self.send(session, ToSession::Resume),
            ToWorker::Finish { session } => self.send(session, ToSession::Finish),
            ToWorker::Kill { session } => self.kill(session),
            ToWorker::Lookup { id, account } => self.look_up(id, account),
            // The link deals with it.
            ToWorker::Refused { .. } => {}
        }
    }

    /// Goes by the supervisor's settings from now on. They say nothing to sessions that run.
    fn settings(&mut self, number: u64, mode: &str, proxy_account: Option<String>) {
        self.settings = number;
        let proxy = match (mode, proxy_account) {
            ("user", None) => None,
            ("proxy", Some(account)) => Some(account),
            (mode, account) => {
                let text = format!("the supervisor's settings are not understood: mode {mode:?}, account {account:?}");
                return tell(&self.happened, Happening::Settled(number, Some(text)));
            }
        };
        if let Mode::Service { launcher, launcher_uid, .. } = &self.config.mode {
            tracing::info!(mode, proxy, "the supervisor's settings");
            self.mode = Mode::Service { launcher: launcher.clone(), launcher_uid: *launcher_uid, proxy };
        }
        let (mode, to_hub) = (self.mode.clone(), self.happened.clone());
        self.tasks.spawn(async move { tell(&to_hub, Happening::Settled(number, proxy_trouble(&mode).await)) });
    }

    fn welcomed(&mut self, farm: &str, keys: &[String], keep: Vec<Keep>) {
        let Some(farm) = read_farm(farm, keys) else {
            tracing::error!("supervisor's welcome has no readable farm id or keys");
            return self.link.reconnect();
        };
        self.farm = Some(farm);
        let mut keep: BTreeMap<u64, Keep> = keep.into_iter().map(|k| (k.session, k)).collect();
        for session in std::mem::take(&mut self.greeted) {
            let kept = keep.remove(&session);
            if let Some(ending) = self.strays.remove(&session) {
                self.settle_stray(session, kept, ending);
            } else if let Some(keep) = kept {
                self.order(session, Order::Keep(keep));
            } else {
                tracing::info!(session, "supervisor does not know this session any more: it is ended");
                self.order(session, Order::Discard);
                self.kill(session);
            }
        }
    }

    /// A living session whose spool is gone goes on where the supervisor says it is.
    fn settle_stray(&mut self, session: u64, keep: Option<Keep>, ending: Option<Ending>) {
        let spool = keep.and_then(|keep| {
            let meta = Meta { first_report: keep.reported + 1, log_base: keep.logged, ..Meta::new(session, 0) };
            Some((self.create(meta)?, keep))
        });
        let Some((spool, keep)) = spool else {
            return self.ask(if ending.is_some() { Request::Forget(session) } else { Request::Kill(session) });
        };
        self.enter(spool, Phase::Alive);
        self.order(session, Order::Keep(keep));
        match ending {
            Some(ending) => self.order(session, Order::Ended(ending)),
            None => self.ask(Request::Attach(session)),
        }
    }

    fn open(&mut self, session: u64, job: u64, payload: &[u8], clean: bool) {
        if self.ending || self.entries.contains_key(&session) {
            return;
        }
        let Some(spool) = self.create(Meta { clean, ..Meta::new(session, job) }) else {
            // The next hello says that this session is not here, and why.
            return self.link.reconnect();
        };
        self.enter(spool, Phase::Opening(None));
        self.order(session, Order::Keep(Keep { session, reported: 0, logged: 0 }));
        match &self.host {
            Host::Service { .. } => self.launch(session, payload),
            Host::Desktop(_) if clean => self.clean_here(session, job),
            Host::Desktop(_) => self.start_here(Asked { session, job }, payload),
        }
    }

    fn create(&mut self, meta: Meta) -> Option<Spool> {
        match Spool::create(&self.config.spool, meta) {
            Ok(spool) => Some(spool),
            Err(e) => {
                let text = format!("the worker's spool can't be written: {e}");
                tracing::error!("{text}");
                self.spool_trouble.insert(WHOLE_SPOOL, text);
                None
            }
        }
    }

    /// Gives a session an actor.
    fn enter(&mut self, spool: Spool, phase: Phase) {
        let session = spool.meta.session;
        let (orders, received) = mpsc::unbounded_channel();
        let to_hub = self.happened.clone();
        self.tasks.spawn(session::run(session::Setup {
            spool,
            worker: self.config.name.clone(),
            endpoint: self.config.endpoint.clone(),
            link: self.link.clone(),
            orders: received,
            said: Box::new(move |said| tell(&to_hub, Happening::Said(session, said))),
        }));
        self.entries.insert(session, Entry { orders, phase, killed: false, ended: false, renewal: None });
    }

    fn launch(&mut self, session: u64, warrant: &[u8]) {
        match Signed::decode(warrant, WARRANT_MAX) {
            Ok(signed) => {
                if let Some(entry) = self.entries.get_mut(&session) {
                    entry.phase = Phase::Opening(Some(signed.clone()));
                }
                self.ask(Request::Launch(session, signed));
            }
            Err(e) => self.refuse(session, void(&e.to_string())),
        }
    }

    fn start_here(&mut self, asked: Asked, warrant: &[u8]) {
        let session = asked.session;
        let Host::Desktop(desktop) = &mut self.host else { return };
        let Some(farm) = &self.farm else { return };
        match desktop.launch(farm, asked, warrant) {
            Ok(started) => {
                let (pid, start) = started.process;
                self.order(session, Order::Process(pid, start));
                let (channel, started, watch) = (started.channel, started.report, started.watch);
                let pid = pid.unsigned_abs();
                self.told_by_host(HostEvent::Channel { session, channel, pid, started, adopted: false });
                let to_hub = self.happened.clone();
                self.tasks.spawn(async move {
                    tell(&to_hub, Happening::Host(desktop::watch(session, watch).await));
                });
            }
            Err(refusal) => self.refuse(session, refusal),
        }
    }

    fn clean_here(&mut self, session: u64, job: u64) {
        let Host::Desktop(desktop) = &self.host else { return };
        let program = desktop.session_program().to_owned();
        let (work, to_hub) = (self.config.work.clone(), self.happened.clone());
        self.set_phase(session, Phase::Alive);
        self.tasks.spawn_blocking(move || {
            let ending = match desktop::clean(&program, &work, job) {
                Ok(()) => Ending::exited(0),
                Err(e) => Ending { text: format!("failed to remove the job's folder: {e}"), ..Ending::exited(1) },
            };
            tell(&to_hub, Happening::Host(HostEvent::Ended { session, ending }));
        });
    }

    fn batch(&mut self, session: u64, payload: &[u8]) {
        match sealed("stead-batch", payload) {
            Ok(memfd) => self.order(session, Order::Send(ToSession::Batch, Some(memfd))),
            Err(e) => {
                tracing::error!(session, "failed to hold a batch: {e}; the session is ended");
                self.kill(session);
            }
        }
    }

    /// A request that can't be handed on is answered by nobody: whoever asked has a deadline.
    fn files(&mut self, session: u64, payload: &[u8]) {
        match sealed("stead-files", payload) {
            Ok(memfd) => self.order(session, Order::Send(ToSession::Files, Some(memfd))),
            Err(e) => tracing::error!(session, "failed to hold a request: {e}"),
        }
    }

    fn renew(&mut self, session: u64, payload: &[u8]) {
        let Ok(renewal) = Signed::decode(payload, RENEWAL_MAX) else {
            return tracing::warn!(session, "supervisor's renewal can't be read");
        };
        let Some(entry) = self.entries.get_mut(&session) else { return };
        match &mut self.host {
            Host::Service { launcher, .. } => {
                entry.renewal = Some(renewal.clone());
                launcher.ask(Request::Renew(renewal));
            }
            Host::Desktop(desktop) => {
                if let Some(farm) = &self.farm {
                    desktop.renewed(farm, &renewal);
                }
                self.send(session, ToSession::Renew(renewal));
            }
        }
    }

    fn send(&self, session: u64, message: ToSession) {
        self.order(session, Order::Send(message, None));
    }

    fn kill(&mut self, session: u64) {
        if let Some(entry) = self.entries.get_mut(&session) {
            entry.killed = true;
        }
        match &mut self.host {
            Host::Service { launcher, .. } => launcher.ask(Request::Kill(session)),
            Host::Desktop(desktop) => desktop.kill(session),
        }
    }

    fn look_up(&mut self, id: u64, account: String) {
        if let Host::Desktop(desktop) = &self.host {
            let account = Some(desktop.owner().clone());
            return self.link.send(FromWorker::LookedUp { id, account, error: None });
        }
        let to_hub = self.happened.clone();
        self.tasks.spawn_blocking(move || {
            let (account, error) = match host::look_up(&account) {
                Ok(account) => (Some(account), None),
                Err(e) => (None, Some(e.to_string())),
            };
            tell(&to_hub, Happening::Answer(Box::new(FromWorker::LookedUp { id, account, error })));
        });
    }

    // --- the launcher, or what stands for it

    fn told_by_host(&mut self, event: HostEvent) {
        match event {
            HostEvent::Up(generation, welcome) => self.launcher_up(generation, welcome),
            HostEvent::Down => {
                if let Host::Service { up, .. } = &mut self.host {
                    *up = false;
                }
                self.tell_trouble();
            }
            HostEvent::Channel { session, channel, pid, started, adopted } => {
                let killed = self.entries.get(&session).is_none_or(|e| e.killed);
                self.set_phase(session, Phase::Alive);
                self.order(session, Order::Channel { channel, pid, started, adopted });
                if killed {
                    self.kill(session);
                }
            }
            HostEvent::Refused { session, refusal } => self.refuse(session, refusal),
            HostEvent::NoSession(session) => {
                let opening = |e: &Entry| matches!(e.phase, Phase::Opening(_)) && !e.ended;
                if self.entries.get(&session).is_some_and(opening) {
                    self.refuse(session, void("the launch failed, and its reason was lost with a connection"));
                }
            }
            HostEvent::Unproved(session) => {
                self.set_phase(session, Phase::Alive);
                self.kill(session);
            }
            HostEvent::Ended { session, ending } => self.ended(session, ending),
        }
    }

    /// Says again what holds: requests of an earlier connection may be lost.
    fn launcher_up(&mut self, generation: u64, welcome: Welcome) {
        let Host::Service { launcher, welcome: last, up } = &mut self.host else { return };
        launcher.up(generation);
        *up = true;
        let first = last.is_none();
        let same_life = last.as_ref().is_some_and(|l| l.incarnation == welcome.incarnation);
        // `launcher.conf` may say something else since.
        let is_new = last.as_ref().is_some_and(|l| !same_life || l.sealing_key != welcome.sealing_key);
        let sealing_key = sealing_key(&welcome);
        let listed: BTreeSet<u64> = welcome.sessions.iter().copied().collect();
        let incarnation = hex(&welcome.incarnation);
        *last = Some(welcome);
        if is_new {
            self.link.send(FromWorker::NewIncarnation { incarnation, tick: host::tick(), sealing_key });
        }
        for session in self.entries.keys().copied().collect::<Vec<_>>() {
            self.settle(session, listed.contains(&session), same_life);
        }
        let unknown: Vec<u64> = listed.into_iter().filter(|s| !self.entries.contains_key(s)).collect();
        for session in unknown {
            // Only the supervisor knows about sessions of an earlier worker; there are none of ours.
            if first {
                self.strays.insert(session, None);
            } else if !self.strays.contains_key(&session) {
                self.ask(Request::Kill(session));
            }
        }
        self.tell_trouble();
        if let Some(connect) = self.connect.take() {
            self.tasks.spawn(connect);
        }
    }

    fn settle(&mut self, session: u64, listed: bool, same_life: bool) {
        let Some(entry) = self.entries.get(&session) else { return };
        let (killed, renewal) = (entry.killed, entry.renewal.clone());
        match &entry.phase {
            Phase::Over if listed => return self.ask(Request::Forget(session)),
            Phase::Over => return,
            Phase::Opening(_) | Phase::Alive if listed => self.ask(Request::Attach(session)),
            Phase::Opening(Some(warrant)) if same_life => self.ask(Request::Launch(session, warrant.clone())),
            Phase::Opening(_) | Phase::Alive => return self.lost(session),
        }
        if let Some(renewal) = renewal {
            self.ask(Request::Renew(renewal));
        }
        if killed {
            self.ask(Request::Kill(session));
        }
    }

    fn ended(&mut self, session: u64, mut ending: Ending) {
        if let Host::Desktop(desktop) = &mut self.host {
            ending = desktop.gone(session, ending);
        }
        if let Some(entry) = self.entries.get_mut(&session) {
            entry.ended = true;
            entry.order(Order::Ended(ending));
        } else if let Some(stray) = self.strays.get_mut(&session) {
            *stray = Some(ending);
        } else {
            self.ask(Request::Forget(session));
        }
    }

    fn ask(&self, request: Request) {
        if let Host::Service { launcher, .. } = &self.host {
            launcher.ask(request);
        }
    }

    // --- sessions

    fn told_by_session(&mut self, session: u64, said: Said) {
        match said {
            Said::Kill => self.kill(session),
            Said::EndStored => {
                self.set_phase(session, Phase::Over);
                self.ask(Request::Forget(session));
            }
            Said::Gone => {
                self.entries.remove(&session);
                self.spool_trouble.remove(&session);
                self.tell_trouble();
            }
            Said::Spool(trouble) => {
                match trouble {
                    Some(text) => self.spool_trouble.insert(session, text),
                    None => self.spool_trouble.remove(&session),
                };
                self.tell_trouble();
            }
        }
    }

    fn order(&self, session: u64, order: Order) {
        if let Some(entry) = self.entries.get(&session) {
            entry.order(order);
        }
    }

    fn set_phase(&mut self, session: u64, phase: Phase) {
        if let Some(entry) = self.entries.get_mut(&session) {
            entry.phase = phase;
        }
    }

    // --- can it work?

    fn trouble(&self) -> Option<String> {
        let launcher = match &self.host {
            Host::Service { up: false, .. } => Some("stead-launcher does not answer on this host".to_owned()),
            Host::Service { welcome: Some(w), .. } => no_throwaway(&self.mode, w.abilities),
            _ => None,
        };
        launcher.or_else(|| self.proxy_trouble.clone()).or_else(|| self.spool_trouble.values().next().cloned())
    }

    fn tell_trouble(&mut self) {
        let trouble = self.trouble();
        if trouble != self.told {
            self.told.clone_from(&trouble);
            self.link.send(FromWorker::Panic { reason: trouble });
        }
    }

    fn check_health(&mut self) {
        if self.spool_trouble.contains_key(&WHOLE_SPOOL) && probe(&self.config.spool).is_ok() {
            self.spool_trouble.remove(&WHOLE_SPOOL);
        }
        if matches!(&self.mode, Mode::Service { proxy: Some(_), .. }) {
            let (mode, settings, to_hub) = (self.mode.clone(), self.settings, self.happened.clone());
            self.tasks.spawn(async move { tell(&to_hub, Happening::Proxy(settings, proxy_trouble(&mode).await)) });
        }
        self.tell_trouble();
    }

    // --- the end

    /// Sessions of a launcher go on without their worker. A desktop worker's end with it.
    async fn finish(mut self, happenings: &mut mpsc::UnboundedReceiver<Happening>) {
        let Host::Desktop(desktop) = &self.host else { return };
        self.ending = true;
        for session in desktop.living() {
            self.kill(session);
        }
        let gone = |hub: &Self| matches!(&hub.host, Host::Desktop(d) if d.living().is_empty());
        let _ = timeout(END_PROCESSES, self.happen_until(happenings, gone)).await;
        let _ = tokio::task::spawn_blocking(leftovers::sweep).await;
        let _ = timeout(END_REPORTS, self.happen_until(happenings, |hub| hub.entries.is_empty())).await;
    }

    async fn happen_until(
        &mut self,
        happenings: &mut mpsc::UnboundedReceiver<Happening>,
        done: impl Fn(&Self) -> bool,
    ) {
        while !done(self) {
            let Some(happening) = happenings.recv().await else { return };
            self.happen(happening);
        }
    }
}

impl Entry {
    /// An actor that is gone has nothing left to do.
    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }
}

/// Nobody listens any more when the worker ends.
fn tell(to_hub: &mpsc::UnboundedSender<Happening>, happening: Happening) {
    let _ = to_hub.send(happening);
}

fn void(text: &str) -> Refusal {
    Refusal {
        kind: RefusalKind::Warrant,
        stage: "warrant".to_owned(),
        errno: 0,
        text: text.to_owned(),
        hint: "the job is tried again with a new warrant".to_owned(),
        proof: None,
    }
}

fn sealing_key(welcome: &Welcome) -> Option<String> {
    welcome.sealing_key.as_ref().map(|key| hex(&key.encode()))
}

fn abilities(a: HostAbilities) -> Abilities {
    Abilities {
        cgroup_kill: a.cgroup_kill,
        cgroup_memory: a.cgroup_memory,
        cgroup_cpu: a.cgroup_cpu,
        cgroup_pids: a.cgroup_pids,
        throwaway: a.throwaway,
        files: true,
    }
}

fn read_farm(id: &str, keys: &[String]) -> Option<Farm> {
    let id = unhex(id)?.try_into().ok()?;
    let key = |text: &String| PublicKey::from_bytes(&unhex(text)?.try_into().ok()?);
    Some(Farm { id, keys: keys.iter().map(key).collect::<Option<_>>()? })
}

fn no_throwaway(mode: &Mode, abilities: HostAbilities) -> Option<String> {
    let wanted = matches!(mode, Mode::Service { proxy: Some(p), .. } if p == "throwaway");
    (wanted && !abilities.throwaway).then(|| {
        "proxy account is to be a throwaway one, and this host's launcher has none (it is not in host mode)".to_owned()
    })
}

/// Proxy mode without its account takes no jobs.
async fn proxy_trouble(mode: &Mode) -> Option<String> {
    let Mode::Service { proxy: Some(name), .. } = mode else { return None };
    if name == "throwaway" {
        return None;
    }
    let asked = name.clone();
    let answer = tokio::task::spawn_blocking(move || host::look_up(&asked));
    match timeout(DATABASE, answer).await {
        Ok(Ok(Ok(account))) if account.uid == 0 => Some(format!("proxy account {name} is root by another name")),
        Ok(Ok(Ok(account))) if account.gid == 0 => Some(format!("proxy account {name} has root's group (gid 0)")),
        Ok(Ok(Ok(_))) => None,
        Ok(Ok(Err(e))) => Some(format!("proxy account {name} can't be used: {e}")),
        Ok(Err(_)) | Err(_) => Some(format!("this host's user database does not answer for proxy account {name}")),
    }
}

/// Can anything be written?
fn probe(spool: &std::path::Path) -> io::Result<()> {
    let path = spool.join("probe");
    std::fs::write(&path, [0; 4096])?;
    std::fs::remove_file(path)
}
