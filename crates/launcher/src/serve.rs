//! The launcher proper: a loop over the worker's connections and the shepherds' sockets.
//!
//! It verifies warrants, forks shepherds, hands out channels, and signs and chains what shepherds saw. It looks up
//! no account and never touches a path that a user can influence.

use crate::admit::{self, Addressee, Used};
use crate::cgroup::Cgroups;
use crate::complaints::Complaints;
use crate::conf::{self, Conf};
use crate::fatal::Fatal;
use crate::folder::{self, Folder, root};
use crate::log::Log;
use crate::refusal::{Refusal, cut};
use crate::rpc::{self, End, FromShepherd, Heard, Start, ToShepherd};
use crate::shepherd::{Task, socket_name};
use crate::sys::{self, Errno, Received, Res, as_fd, say};
use crate::ticket;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;
use warrant::launcher_wire::{FromLauncher, HostAbilities, RefusalKind, ToLauncher};
use warrant::session_wire::PACKET_MAX;
use warrant::{
    Fact, Proof, PublicKey, Renewal, SealingKey, SealingKeyOf, Secret, SecretKey, SessionEnd, Signed, Warrant, sha256,
};
use zeroize::Zeroizing;

const CLIENTS_MAX: usize = 64;
const SESSIONS_MAX: usize = 1024;
/// Kept free for root, which ends the sessions of a farm: whatever the worker's account does.
const CLIENTS_OF_ROOT: usize = 8;
const WAITING_MAX: usize = 16;
/// Connections taken per turn: strangers who come without end keep nobody waiting.
const ACCEPTS_PER_TURN: usize = 64;
/// How long a shepherd may take until its session runs: directories can hang.
pub(crate) const LAUNCH_PATIENCE_MS: u64 = 30_000;
const LOG_AGAIN_MS: u64 = 1000;

/// What `serve` was asked to do.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) state: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) session: PathBuf,
    /// Who besides root may own `stead-session`.
    pub(crate) session_owner: Option<u32>,
    pub(crate) worker_uid: Option<u32>,
    pub(crate) worker_user: Option<String>,
    /// Ids of our other services: no job runs as one of them.
    pub(crate) service_uids: Vec<u32>,
    pub(crate) workers: Vec<String>,
    pub(crate) conf: Option<PathBuf>,
    pub(crate) throwaway: Option<u32>,
    /// Started by `host`: its control group is not ours to divide, and it ends with the host.
    pub(crate) hosted: bool,
}

struct Client {
    conn: OwnedFd,
    /// It said hello, so it may be told of ends.
    greeted: bool,
}

/// A session as the launcher knows it. All of it can be learned again from the shepherd.
struct Entry {
    /// `None` when the shepherd is gone.
    conn: Option<OwnedFd>,
    /// While it is our child and not collected.
    pid: Option<i32>,
    state: State,
    /// Who asked to attach before the session ran.
    waiting: Vec<(u64, u32)>,
}

enum State {
    Launching(Launching),
    Living {
        start: Box<Start>,
        proof: Vec<u8>,
        channel: OwnedFd,
    },
    /// Over, but the log can't be written.
    Unrecorded {
        start: Box<Start>,
        end: End,
    },
    Ended {
        proof: Vec<u8>,
    },
}

struct Launching {
    /// `None`: started by an earlier launcher.
    asked: Option<Box<Asked>>,
    deadline: u64,
}

struct Asked {
    client: u64,
    id: u32,
    warrant: Warrant,
    hash: [u8; 32],
}

struct Launcher {
    conf: Conf,
    conf_path: Option<PathBuf>,
    us: Addressee,
    used: Used,
    keys: Vec<PublicKey>,
    host_key: SecretKey,
    /// What passwords are sealed for: of this life, in no file. Where it stays is kept out of swap.
    sealing_key: Box<SealingKey>,
    log: Log,
    cgroups: Cgroups,
    sessions_dir: OwnedFd,
    sessions_path: String,
    tickets: Folder,
    work: Folder,
    program: OwnedFd,
    worker_uid: u32,
    service_uids: Vec<u32>,
    throwaway: Option<u32>,
    listener: OwnedFd,
    signals: OwnedFd,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    sessions: BTreeMap<u64, Entry>,
    complaints: Complaints,
    /// Held, not used.
    _lock: OwnedFd,
}

/// Runs until asked to stop. `Some`: this process is a fork and shall live as this shepherd.
pub(crate) fn serve(options: &Options) -> Result<Option<Box<Task>>, Fatal> {
    let mut launcher = Launcher::start(options)?;
    if !sys::is_quiet() {
        say!("ready with {} sessions, host key {}", launcher.sessions.len(), warrant::hex(&launcher.host_public()));
    }
    loop {
        match launcher.turn() {
            Turn::Again => {}
            Turn::Stop => {
                launcher.cgroups.tidy();
                return Ok(None);
            }
            // Returning drops all that is the launcher's: the host key is wiped, descriptors are closed.
            Turn::Shepherd(task) => return Ok(Some(task)),
        }
    }
}

enum Turn {
    Again,
    Stop,
    Shepherd(Box<Task>),
}

// ---- start -------------------------------------------------------------------------------------------------------

impl Launcher {
    fn start(options: &Options) -> Result<Self, Fatal> {
        if sys::euid() != 0 {
            return Err(Fatal::NotRoot);
        }
        let step = |what| move |errno| Fatal::Step { what, errno };
        let worker_uid = worker_uid(options)?;
        let conf = conf::load(options.conf.as_deref())?;
        let mut owners = vec![0];
        owners.extend(options.session_owner);
        let program = folder::program(&options.session, &owners)?;
        let work = folder::walk(&options.work, false, true)?;
        let run = options.socket.parent().unwrap_or_else(|| std::path::Path::new("/"));
        let run = folder::walk(run, false, false)?;
        let socket = options.socket.file_name().and_then(|n| n.to_str()).unwrap_or("launcher.socket").to_owned();

        sys::harden().map_err(step("harden this process"))?;
        sys::become_subreaper().map_err(step("become subreaper"))?;
        sys::raise_nofile();
        let signals = sys::signal_fd(&[libc::SIGTERM, libc::SIGINT, libc::SIGCHLD, libc::SIGHUP])
            .map_err(step("watch signals"))?;

        let parent = options.state.parent().unwrap_or_else(|| std::path::Path::new("/"));
        let name = options.state.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let place = folder::walk(parent, false, false)?;
        let state = place.folder(name, root(0o700))?;
        let tickets = place.folder("tickets", root(0o711))?;
        let lock = state.lock("lock", Duration::from_secs(5))?;
        let seed = state.secret::<32>("host.key", root(0o600))?;
        let host_key = SecretKey::from_seed(&seed);
        let keys = trusted_keys(&state)?;
        let farm = state.hex::<16>("farm", 0)?;
        let farm = *farm.ok_or(Fatal::Malformed { path: format!("{}/farm", state.path), want: "there" })?;
        let log = Log::open(as_fd(&state.folder("log", root(0o700))?.fd), &host_key.public())?;
        let sessions = state.folder("sessions", root(0o700))?;
        let group = format!("stead-{}", warrant::hex(&host_key.public().id().0));
        let listener = listen(&run, &socket)?;
        let incarnation = sys::random().map_err(step("draw random bytes"))?;
        let sealing_key = sealing_key().map_err(step("draw random bytes"))?;
        let mut service_uids = options.service_uids.clone();
        service_uids.push(worker_uid);
        let mut launcher = Self {
            conf,
            conf_path: options.conf.clone(),
            us: Addressee { farm, workers: workers(options), incarnation },
            used: Used::default(),
            keys,
            host_key,
            sealing_key,
            log,
            cgroups: Cgroups::discover(&group, !options.hosted),
            sessions_dir: sessions.fd,
            sessions_path: sessions.path,
            tickets,
            work,
            program,
            worker_uid,
            service_uids,
            throwaway: options.throwaway,
            listener,
            signals,
            clients: BTreeMap::new(),
            next_client: 1,
            sessions: BTreeMap::new(),
            complaints: Complaints::default(),
            _lock: lock,
        };
        launcher.adopt();
        launcher.sweep_tickets();
        Ok(launcher)
    }

    /// What is left of sessions whose shepherds were killed.
    fn sweep_tickets(&self) {
        ticket::sweep(&self.tickets.path, |session| self.sessions.contains_key(&session));
    }

    fn host_public(&self) -> [u8; 32] {
        self.host_key.public().to_bytes()
    }

    /// Finds the sessions of an earlier launcher by their shepherds' sockets.
    fn adopt(&mut self) {
        let dir = format!("/proc/self/fd/{}", self.sessions_dir.as_raw_fd());
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let Some(session) = name.strip_suffix(".sock").and_then(|n| n.parse::<u64>().ok()) else { continue };
            match sys::connect_at(as_fd(&self.sessions_dir), name) {
                Ok(conn) => {
                    // One that runs says so at once; one that hangs must not keep its number for ever.
                    let deadline = sys::boot_ms().saturating_add(LAUNCH_PATIENCE_MS);
                    let state = State::Launching(Launching { asked: None, deadline });
                    self.sessions.insert(session, Entry { conn: Some(conn), pid: None, state, waiting: Vec::new() });
                }
                Err(Errno(libc::ECONNREFUSED)) => self.bury(session, name),
                Err(e) => say!("session {session}: its shepherd can't be reached: {e}"),
            }
        }
    }

    /// No shepherd: what is left of the session is killed, and it is not listed, so the worker knows it is lost.
    fn bury(&mut self, session: u64, socket: &str) {
        self.wipe(session, None);
        if let Ok(name) = sys::cstr(socket) {
            let _ = sys::unlinkat(as_fd(&self.sessions_dir), &name, 0);
        }
        let _ = self.log.remark(&format!("session {session}: its shepherd was gone; nothing of it is alive"));
    }

    /// Kills what a vanished shepherd left.
    fn wipe(&self, session: u64, shepherd: Option<i32>) {
        let group = self.cgroups.abandoned(session);
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let shepherds: Vec<i32> = self.sessions.values().filter_map(|e| e.pid).collect();
        // Its socket closes before its children become ours.
        let dying = || shepherd.and_then(sys::proc_stat).is_some_and(|(_, state, _)| state != 'Z');
        let mut quiet = 0;
        for _ in 0..250 {
            group.kill();
            // Orphans of a shepherd come to us; children of ours that are no shepherds are such.
            let strays = if group.can_kill() { Vec::new() } else { sys::descendants(own, &shepherds) };
            for pid in &strays {
                let _ = sys::kill(*pid, libc::SIGKILL);
            }
            // /proc is not read in one moment, so one look is not enough.
            quiet = if group.is_empty() && strays.is_empty() && !dying() { quiet + 1 } else { 0 };
            if quiet > usize::from(!group.can_kill()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(4));
        }
        group.remove();
    }
}

fn sealing_key() -> Res<Box<SealingKey>> {
    let seed = Zeroizing::new(sys::random::<32>()?);
    let key = Box::new(SealingKey::from_seed(&seed));
    sys::guard_value(&*key);
    Ok(key)
}

fn worker_uid(options: &Options) -> Result<u32, Fatal> {
    crate::account::service_uid(options.worker_uid, options.worker_user.as_deref().unwrap_or("stead-worker"))
}

fn workers(options: &Options) -> Vec<String> {
    if options.workers.is_empty() { vec![sys::host_name()] } else { options.workers.clone() }
}

fn trusted_keys(state: &Folder) -> Result<Vec<PublicKey>, Fatal> {
    let path = format!("{}/trusted.keys", state.path);
    let text = state.read("trusted.keys", 0, 4096)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let parse = |line: &str| {
        let bytes: Option<[u8; 32]> = warrant::unhex(line).and_then(|b| b.try_into().ok());
        bytes.and_then(|b| PublicKey::from_bytes(&b))
    };
    let keys: Option<Vec<PublicKey>> = lines.map(parse).collect();
    match keys {
        None => Err(Fatal::Malformed { path, want: "a list of public keys in hexadecimal" }),
        Some(keys) if keys.is_empty() => Err(Fatal::NoTrustedKeys { path }),
        Some(keys) if keys.len() > 16 => Err(Fatal::Malformed { path, want: "a list of at most 16 keys" }),
        Some(keys) => Ok(keys),
    }
}

pub(crate) fn listen(run: &Folder, name: &str) -> Result<OwnedFd, Fatal> {
    let failed = |errno| Fatal::File { what: "listen on", path: format!("{}/{name}", run.path), errno };
    let c_name = sys::cstr(name).map_err(failed)?;
    match sys::unlinkat(as_fd(&run.fd), &c_name, 0) {
        Ok(()) | Err(Errno(libc::ENOENT)) => {}
        Err(e) => return Err(failed(e)),
    }
    // Anybody may connect; the kernel tells who it is.
    let before = sys::set_umask(0o111);
    let listener = sys::listen_at(as_fd(&run.fd), name).map_err(failed);
    sys::set_umask(before);
    listener
}

// ---- the loop ----------------------------------------------------------------------------------------------------

impl Launcher {
    fn turn(&mut self) -> Turn {
        let mut fds = vec![self.signals.as_raw_fd(), self.listener.as_raw_fd()];
        fds.extend(self.clients.values().map(|c| c.conn.as_raw_fd()));
        fds.extend(self.sessions.values().filter_map(|e| e.conn.as_ref()).map(|c| c.as_raw_fd()));
        if let Err(e) = sys::wait_readable(&fds, self.patience()) {
            say!("poll: {e}");
            std::thread::sleep(Duration::from_millis(100));
        }
        for signal in sys::signals(as_fd(&self.signals)) {
            match signal {
                libc::SIGTERM | libc::SIGINT => return Turn::Stop,
                libc::SIGHUP => self.reload(),
                _ => {}
            }
        }
        self.hear_shepherds();
        self.reap();
        self.deadlines();
        self.accept();
        self.hear_clients().map_or(Turn::Again, Turn::Shepherd)
    }

    fn patience(&self) -> Option<u64> {
        let now = sys::boot_ms();
        let wait = |e: &Entry| match &e.state {
            State::Launching(l) if l.deadline != u64::MAX => Some(l.deadline.saturating_sub(now).saturating_add(1)),
            State::Unrecorded { .. } => Some(LOG_AGAIN_MS),
            _ => None,
        };
        self.sessions.values().filter_map(wait).min()
    }

    /// The last good policy stays whole.
    fn reload(&mut self) {
        match conf::load(self.conf_path.as_deref()) {
            Ok(conf) => {
                if conf.requires_password != self.conf.requires_password {
                    // They come back, and learn what is needed here now.
                    self.clients.clear();
                }
                self.conf = conf;
                say!("launcher.conf was read again");
            }
            Err(e) => say!("launcher.conf was not taken, the old one stays: {e}"),
        }
    }

    fn reap(&mut self) {
        while let Some(child) = sys::reap() {
            if let Some(entry) = self.sessions.values_mut().find(|e| e.pid == Some(child.pid)) {
                entry.pid = None;
            }
        }
    }

    fn deadlines(&mut self) {
        let now = sys::boot_ms();
        let late = |e: &Entry| matches!(&e.state, State::Launching(l) if l.deadline <= now);
        let sessions: Vec<u64> = self.sessions.iter().filter(|(_, e)| late(e)).map(|(s, _)| *s).collect();
        for session in sessions {
            if let Some(pid) = self.sessions.get(&session).and_then(|e| e.pid) {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
            let text = format!("the launch took more than {} s", LAUNCH_PATIENCE_MS / 1000);
            self.lost(
                session,
                Refusal::new(RefusalKind::Transient, "launch_late", text, "is the directory answering?"),
            );
        }
        let unrecorded = |e: &Entry| matches!(e.state, State::Unrecorded { .. });
        let sessions: Vec<u64> = self.sessions.iter().filter(|(_, e)| unrecorded(e)).map(|(s, _)| *s).collect();
        for session in sessions {
            self.record_end(session);
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Ok(Some((conn, uid))) = sys::accept(as_fd(&self.listener)) else { return };
            let most = if uid == 0 { CLIENTS_MAX + CLIENTS_OF_ROOT } else { CLIENTS_MAX };
            if uid != self.worker_uid && uid != 0 {
                self.complaints.say(&format!("refused a connection of uid {uid}"));
            } else if self.clients.len() >= most {
                self.complaints.say(&format!("refused a connection: there are {most}"));
            } else {
                self.clients.insert(self.next_client, Client { conn, greeted: false });
                self.next_client = self.next_client.saturating_add(1);
            }
        }
    }

    /// Sends to a client; one that does not read is dropped and finds everything again when it comes back.
    fn tell(&mut self, client: u64, message: &FromLauncher, fds: &[BorrowedFd<'_>]) {
        let sent = match self.clients.get(&client) {
            Some(c) => sys::send(as_fd(&c.conn), &message.encode(), fds),
            None => return,
        };
        if let Err(e) = sent {
            self.complaints.say(&format!("dropped a connection: {e}"));
            self.clients.remove(&client);
        }
    }

    // ---- the worker's requests -----------------------------------------------------------------------------------

    fn hear_clients(&mut self) -> Option<Box<Task>> {
        let clients: Vec<u64> = self.clients.keys().copied().collect();
        for client in clients {
            // A bounded share per turn: nobody keeps the others waiting.
            for _ in 0..16 {
                let Some(c) = self.clients.get(&client) else { break };
                match sys::receive(as_fd(&c.conn), PACKET_MAX, 0) {
                    Ok(Received::Nothing) => break,
                    Ok(Received::Packet(bytes, _)) => match ToLauncher::decode(&bytes) {
                        Ok(request) => {
                            if let Some(task) = self.obey(client, request) {
                                return Some(task);
                            }
                        }
                        Err(e) => {
                            self.complaints.say(&format!("closed a connection: {e}"));
                            self.clients.remove(&client);
                        }
                    },
                    Ok(Received::Closed | Received::Oversized) | Err(_) => {
                        self.clients.remove(&client);
                    }
                }
            }
        }
        None
    }

    fn obey(&mut self, client: u64, request: ToLauncher) -> Option<Box<Task>> {
        match request {
            ToLauncher::Hello { id } => self.welcome(client, id),
            ToLauncher::Launch { id, warrant } => return self.launch(client, id, &warrant),
            ToLauncher::Attach { id, session } => self.attach(client, id, session),
            ToLauncher::Kill { id, session } => self.pass_on(client, id, session, &ToShepherd::Kill),
            ToLauncher::Renew { id, renewal } => self.renew(client, id, &renewal),
            ToLauncher::Forget { id, session } => self.forget(client, id, session),
        }
        None
    }

    fn welcome(&mut self, client: u64, id: u32) {
        let abilities = HostAbilities { throwaway: self.throwaway.is_some(), ..self.cgroups.abilities() };
        let of_life = SealingKeyOf { incarnation: self.us.incarnation, public: self.sealing_key.public() };
        let message = FromLauncher::Welcome {
            id,
            incarnation: self.us.incarnation,
            tick: sys::boot_ms(),
            host_key: self.host_public(),
            abilities,
            sealing_key: self.conf.requires_password.then(|| of_life.sign(&self.host_key)),
            sessions: self.sessions.keys().copied().collect(),
        };
        self.tell(client, &message, &[]);
        if let Some(c) = self.clients.get_mut(&client) {
            c.greeted = true;
        }
        let ended = |(s, e): (&u64, &Entry)| match &e.state {
            State::Ended { proof } => Some((*s, proof.clone())),
            _ => None,
        };
        let ended: Vec<(u64, Vec<u8>)> = self.sessions.iter().filter_map(ended).collect();
        for (session, proof) in ended {
            self.tell_end(client, session, &proof);
        }
    }

    fn tell_end(&mut self, client: u64, session: u64, proof: &[u8]) {
        match sys::sealed(c"stead-proof", proof) {
            Ok(fd) => self.tell(client, &FromLauncher::Ended { session }, &[as_fd(&fd)]),
            Err(e) => {
                say!("session {session}: can't hand out a proof: {e}");
                self.clients.remove(&client);
            }
        }
    }

    fn attach(&mut self, client: u64, id: u32, session: u64) {
        let answer = match self.sessions.get_mut(&session) {
            Some(Entry { state: State::Living { channel, proof, .. }, .. }) => {
                sys::duplicate(as_fd(channel)).and_then(|c| Ok((c, sys::sealed(c"stead-proof", proof)?)))
            }
            Some(Entry { state: State::Launching(_), waiting, .. }) if waiting.len() < WAITING_MAX => {
                waiting.push((client, id));
                return;
            }
            _ => Err(Errno(libc::ESRCH)),
        };
        match answer {
            Ok((channel, proof)) => {
                self.tell(client, &FromLauncher::Attached { id, session }, &[as_fd(&channel), as_fd(&proof)]);
            }
            Err(_) => self.tell(client, &FromLauncher::NoSession { id, session }, &[]),
        }
    }

    /// To the shepherd of a session that is not over.
    fn pass_on(&mut self, client: u64, id: u32, session: u64, message: &ToShepherd) {
        let entry =
            self.sessions.get(&session).filter(|e| matches!(e.state, State::Launching(_) | State::Living { .. }));
        let answer = match entry.and_then(|e| e.conn.as_ref()).map(|c| message.send(as_fd(c))) {
            Some(Ok(())) => FromLauncher::Done { id },
            _ => FromLauncher::NoSession { id, session },
        };
        self.tell(client, &answer, &[]);
    }

    fn renew(&mut self, client: u64, id: u32, renewal: &Signed) {
        match Renewal::open(renewal, &self.keys) {
            Ok(r) if r.farm == self.us.farm && self.us.workers.contains(&r.worker) => {
                self.pass_on(client, id, r.session, &ToShepherd::Lease(r.lease_until));
            }
            Ok(r) => self.tell(client, &FromLauncher::NoSession { id, session: r.session }, &[]),
            Err(e) => {
                self.complaints.say(&format!("closed a connection: renewal: {e}"));
                self.clients.remove(&client);
            }
        }
    }

    /// Idempotent; but a session that is not over can't be forgotten.
    fn forget(&mut self, client: u64, id: u32, session: u64) {
        let answer = match self.sessions.get(&session).map(|e| (&e.state, &e.conn)) {
            Some((State::Ended { .. }, conn)) => {
                let _ = conn.as_ref().map(|c| ToShepherd::Forget.send(as_fd(c)));
                self.sessions.remove(&session);
                FromLauncher::Done { id }
            }
            None => FromLauncher::Done { id },
            Some(_) => FromLauncher::NoSession { id, session },
        };
        self.tell(client, &answer, &[]);
    }

    // ---- launching -----------------------------------------------------------------------------------------------

    /// From a signed warrant to a forked shepherd. `Some` in the shepherd.
    fn launch(&mut self, client: u64, id: u32, signed: &Signed) -> Option<Box<Task>> {
        let warrant = match Warrant::open(signed, &self.keys) {
            Ok(warrant) => warrant,
            Err(e) => {
                let text = format!("the warrant is not one of our supervisor's: {e}");
                let hint = "trusted.keys on the host says whose warrants are taken";
                let refusal = Refusal::new(RefusalKind::Warrant, "warrant_signature", text, hint);
                self.tell_refused(client, id, 0, &refusal, None);
                return None;
            }
        };
        let hash = sha256(&[&signed.bytes]);
        let session = warrant.session;
        if let Err(refusal) = self.admissible(&warrant) {
            self.refuse(Asked { client, id, warrant, hash }, &refusal);
            return None;
        }
        let password = match self.password(&warrant) {
            Ok(password) => password,
            Err(refusal) => {
                self.refuse(Asked { client, id, warrant, hash }, &refusal);
                return None;
            }
        };
        match self.fork(&warrant, hash, password) {
            Ok(Forked::Parent { conn, pid }) => {
                let deadline = sys::boot_ms().saturating_add(LAUNCH_PATIENCE_MS);
                let asked = Some(Box::new(Asked { client, id, warrant, hash }));
                let state = State::Launching(Launching { asked, deadline });
                self.sessions.insert(session, Entry { conn: Some(conn), pid: Some(pid), state, waiting: Vec::new() });
                None
            }
            Ok(Forked::Child(task)) => Some(task),
            Err(e) => {
                let refusal = Refusal::stage("shepherd", e, "the host is out of something; see its log");
                self.refuse(Asked { client, id, warrant, hash }, &refusal);
                None
            }
        }
    }

    fn admissible(&mut self, warrant: &Warrant) -> Result<(), Refusal> {
        admit::admit(warrant, &self.us, &mut self.used, sys::boot_ms())?;
        if self.sessions.contains_key(&warrant.session) {
            let text = format!("session {} exists already", warrant.session);
            return Err(Refusal::new(RefusalKind::Warrant, "warrant_session", text, "forget it first"));
        }
        if self.sessions.len() >= SESSIONS_MAX {
            let text = format!("this host has {SESSIONS_MAX} sessions");
            return Err(Refusal::new(RefusalKind::Transient, "sessions", text, "the job is tried again"));
        }
        Ok(())
    }

    /// The password that the warrant brings, if it is of use here. Its number is used up by now: it is opened once.
    fn password(&self, warrant: &Warrant) -> Result<Option<Secret>, Refusal> {
        let Some(sealed) = warrant.password.as_ref().filter(|_| self.conf.requires_password) else { return Ok(None) };
        match self.sealing_key.open(sealed, &warrant.password_context()) {
            Ok(password) => {
                sys::guard(password.expose());
                Ok(Some(password))
            }
            Err(e) => {
                let hint = "the supervisor issues a new warrant";
                Err(Refusal::new(RefusalKind::Warrant, "warrant_password", e.to_string(), hint))
            }
        }
    }

    /// The parent's copy of the password is wiped when this returns.
    fn fork(&mut self, warrant: &Warrant, hash: [u8; 32], password: Option<Secret>) -> Res<Forked> {
        let name = socket_name(warrant.session);
        let dir = as_fd(&self.sessions_dir);
        let c_name = sys::cstr(name.as_str())?;
        let _ = sys::unlinkat(dir, &c_name, 0);
        let task = Box::new(Task {
            warrant: warrant.clone(),
            warrant_hash: hash,
            host: self.host_key.public().id(),
            password: Cell::new(password),
            conf: self.conf.clone(),
            service_uids: self.service_uids.clone(),
            throwaway: self.throwaway,
            cgroups: self.cgroups.clone(),
            keys: self.keys.iter().map(PublicKey::to_bytes).collect(),
            sessions: sys::duplicate(dir)?,
            sessions_path: self.sessions_path.clone(),
            work: sys::duplicate(as_fd(&self.work.fd))?,
            work_path: self.work.path.clone(),
            tickets: sys::duplicate(as_fd(&self.tickets.fd))?,
            tickets_path: self.tickets.path.clone(),
            program: sys::duplicate(as_fd(&self.program))?,
            listener: sys::listen_at(dir, &name)?,
        });
        // In the backlog until the shepherd has something to say.
        let forked = sys::connect_at(dir, &name).and_then(|conn| Ok((sys::fork()?, conn)));
        match forked {
            Ok((Some(pid), conn)) => Ok(Forked::Parent { conn, pid }),
            Ok((None, _)) => Ok(Forked::Child(task)),
            Err(e) => {
                let _ = sys::unlinkat(dir, &c_name, 0);
                Err(e)
            }
        }
    }

    /// Logs a refusal and answers. A void warrant leaves no record: anybody could fill the log with them.
    fn refuse(&mut self, asked: Asked, refusal: &Refusal) {
        let Asked { client, id, warrant, hash } = asked;
        if refusal.kind == RefusalKind::Warrant {
            return self.tell_refused(client, id, warrant.session, refusal, None);
        }
        let fact = Fact::Refused {
            stage: refusal.stage.clone(),
            errno: refusal.errno,
            text: refusal.text.clone(),
            warrant: hash,
        };
        let proof = self.record(&warrant.worker, warrant.session, warrant.job, fact);
        self.tell_refused(client, id, warrant.session, refusal, proof.ok().as_deref());
    }

    fn tell_refused(&mut self, client: u64, id: u32, session: u64, refusal: &Refusal, proof: Option<&[u8]>) {
        let message = FromLauncher::Refused {
            id,
            session,
            kind: refusal.kind,
            stage: cut(&refusal.stage).to_owned(),
            errno: refusal.errno,
            text: cut(&refusal.text).to_owned(),
            hint: cut(&refusal.hint).to_owned(),
        };
        let proof = proof.and_then(|p| sys::sealed(c"stead-proof", p).ok());
        let fds: Vec<BorrowedFd<'_>> = proof.iter().map(as_fd).collect();
        self.tell(client, &message, &fds);
    }

    /// Signs a fact and makes it durable in the log.
    fn record(&mut self, worker: &str, session: u64, job: u64, fact: Fact) -> Res<Vec<u8>> {
        let proof = Proof {
            worker: worker.to_owned(),
            incarnation: self.us.incarnation,
            session,
            job,
            fact,
            at_us: sys::wall_us(),
            log_sequence: 0,
            log_previous: [0; 32],
        };
        let recorded = self.log.append(proof, &self.host_key);
        if let Err(e) = &recorded {
            say!("log/launches can't be written: {e}");
        }
        recorded.map(|signed| signed.encode())
    }

    // ---- what shepherds say --------------------------------------------------------------------------------------

    fn hear_shepherds(&mut self) {
        let sessions: Vec<u64> = self.sessions.keys().copied().collect();
        for session in sessions {
            while let Some(conn) = self.sessions.get(&session).and_then(|e| e.conn.as_ref()) {
                match rpc::hear_shepherd(as_fd(conn)) {
                    Heard::Nothing => break,
                    Heard::Message(FromShepherd::Started { start, channel, recorded }) => {
                        self.started(session, start, channel, recorded);
                    }
                    Heard::Message(FromShepherd::Refused(refusal)) => self.not_started(session, &refusal),
                    Heard::Message(FromShepherd::Ended { end, recorded }) => self.ended(session, end, recorded),
                    Heard::Gone => {
                        let text = "its shepherd vanished before the session ran";
                        self.lost(
                            session,
                            Refusal::new(RefusalKind::Transient, "shepherd", text, "see the host's log"),
                        );
                        break;
                    }
                }
            }
        }
    }

    fn started(&mut self, session: u64, start: Box<Start>, channel: OwnedFd, recorded: Option<Vec<u8>>) {
        let known = recorded.is_some();
        let proof = match recorded {
            Some(proof) => Ok(proof),
            None => self.record(&start.worker, session, start.job, start.fact()),
        };
        for note in start.notes.iter().filter(|_| !known) {
            let _ = self.log.remark(&format!("session {session}: {note}"));
        }
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        let proof = match proof {
            Ok(proof) => proof,
            Err(e) => return self.unprovable(session, e),
        };
        if let Some(conn) = entry.conn.as_ref().filter(|_| !known) {
            let _ = ToShepherd::StartRecorded(proof.clone()).send(as_fd(conn));
        }
        let waiting = std::mem::take(&mut entry.waiting);
        let living = State::Living { start, proof: proof.clone(), channel };
        let State::Launching(before) = std::mem::replace(&mut entry.state, living) else { return };
        if let Some(asked) = before.asked {
            self.tell_launched(asked.client, &FromLauncher::Launched { id: asked.id, session }, session, &proof);
        }
        for (client, id) in waiting {
            self.attach(client, id, session);
        }
    }

    fn tell_launched(&mut self, client: u64, message: &FromLauncher, session: u64, proof: &[u8]) {
        let Some(Entry { state: State::Living { channel, .. }, .. }) = self.sessions.get(&session) else { return };
        match sys::duplicate(as_fd(channel)).and_then(|c| Ok((c, sys::sealed(c"stead-proof", proof)?))) {
            Ok((channel, proof)) => self.tell(client, message, &[as_fd(&channel), as_fd(&proof)]),
            // It finds the session when it comes back.
            Err(_) => drop(self.clients.remove(&client)),
        }
    }

    /// What can't be recorded doesn't run.
    fn unprovable(&mut self, session: u64, errno: Errno) {
        if let Some(pid) = self.sessions.get(&session).and_then(|e| e.pid) {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        let refusal = Refusal::stage("launch_log", errno, "is the disk of the launcher's log full?");
        self.lost(session, refusal);
    }

    fn not_started(&mut self, session: u64, refusal: &Refusal) {
        let Some(entry) = self.sessions.remove(&session) else { return };
        // Its shepherd leaves when this connection closes; the pid is collected like any other child's.
        if let State::Launching(Launching { asked: Some(asked), .. }) = entry.state {
            self.refuse(*asked, refusal);
        }
        self.none_to_attach(entry.waiting, session);
    }

    fn none_to_attach(&mut self, waiting: Vec<(u64, u32)>, session: u64) {
        for (client, id) in waiting {
            self.tell(client, &FromLauncher::NoSession { id, session }, &[]);
        }
    }

    fn ended(&mut self, session: u64, end: End, recorded: Option<Vec<u8>>) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        if let Some(proof) = recorded {
            entry.state = State::Ended { proof: proof.clone() };
            // Whoever said hello before this shepherd was heard has not been told yet.
            return self.tell_all(session, &proof);
        }
        let placeholder = State::Launching(Launching { asked: None, deadline: u64::MAX });
        match std::mem::replace(&mut entry.state, placeholder) {
            State::Living { start, .. } => {
                entry.state = State::Unrecorded { start, end };
                self.record_end(session);
            }
            // A shepherd tells the start first, and an end once.
            other => entry.state = other,
        }
    }

    fn record_end(&mut self, session: u64) {
        let Some(Entry { state: State::Unrecorded { start, end }, .. }) = self.sessions.get(&session) else { return };
        let fact = Fact::Ended { end: end.end, cpu_us: end.cpu_us, max_rss: end.max_rss };
        let (worker, job) = (start.worker.clone(), start.job);
        let Ok(proof) = self.record(&worker, session, job, fact) else { return };
        if let Some(entry) = self.sessions.get_mut(&session) {
            entry.state = State::Ended { proof: proof.clone() };
            let _ = entry.conn.as_ref().map(|c| ToShepherd::EndRecorded(proof.clone()).send(as_fd(c)));
        }
        self.tell_all(session, &proof);
    }

    fn tell_all(&mut self, session: u64, proof: &[u8]) {
        let greeted: Vec<u64> = self.clients.iter().filter(|(_, c)| c.greeted).map(|(id, _)| *id).collect();
        for client in greeted {
            self.tell_end(client, session, proof);
        }
    }

    /// The shepherd is gone: nothing keeps the session any more, so nothing of it may live.
    fn lost(&mut self, session: u64, refusal: Refusal) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        entry.conn = None;
        if matches!(entry.state, State::Ended { .. } | State::Unrecorded { .. }) {
            return;
        }
        let shepherd = entry.pid;
        if let Some(pid) = shepherd {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        self.wipe(session, shepherd);
        if let Ok(name) = sys::cstr(socket_name(session)) {
            let _ = sys::unlinkat(as_fd(&self.sessions_dir), &name, 0);
        }
        let Some(entry) = self.sessions.remove(&session) else { return };
        self.sweep_tickets();
        self.none_to_attach(entry.waiting, session);
        match entry.state {
            State::Launching(Launching { asked: Some(asked), .. }) => self.refuse(*asked, &refusal),
            State::Living { start, .. } => {
                let end = End { end: SessionEnd::Killed, cpu_us: 0, max_rss: 0 };
                let state = State::Unrecorded { start, end };
                self.sessions.insert(session, Entry { conn: None, pid: entry.pid, state, waiting: Vec::new() });
                self.record_end(session);
            }
            _ => {}
        }
    }
}

enum Forked {
    Parent { conn: OwnedFd, pid: i32 },
    Child(Box<Task>),
}
