//! A launcher without root, and sessions that live in this process: they "run" a batch by saying so.

use super::{farm_public, launcher_socket};
use crate::packets::{Packets, pair, read_sealed, sealed};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};
use warrant::batch::BATCH_MAX;
use warrant::launcher_wire::{FromLauncher, HostAbilities, RefusalKind, ToLauncher};
use warrant::proof::RunAs;
use warrant::session_wire::{Event, Events, ItemEnd, Stream, ToSession};
use warrant::{Batch, Fact, ItemKind, Proof, Purpose, SecretKey, SessionEnd, Signed, TaskRef, Warrant, sha256};

/// Output of one task, in events of this many bytes.
pub(crate) const PIECE: usize = 700;

/// What a task of a batch prints here: its argument.
pub(crate) fn output_of(task: TaskRef, len: usize) -> Vec<u8> {
    let stamp = format!("{}.{}.{}|", task.step, task.index, task.epoch);
    stamp.bytes().cycle().take(len).collect()
}

#[derive(Debug)]
struct Living {
    worker_end: Arc<OwnedFd>,
    start: Vec<u8>,
    job: u64,
    kill: Arc<Notify>,
    ended: Option<SessionEnd>,
}

#[derive(Default)]
struct State {
    incarnation: [u8; 16],
    used: Vec<u64>,
    sessions: BTreeMap<u64, Living>,
    refuse: Option<(RefusalKind, String)>,
    renewed: usize,
    forgotten: Vec<u64>,
    killed: Vec<u64>,
    clean_code: u8,
    lose_next: bool,
    /// Launches that came to nothing, and nobody was told.
    lost: Vec<u64>,
}

#[derive(Clone)]
pub(crate) struct Launcher {
    state: Arc<Mutex<State>>,
    /// A session ended, or the launcher did.
    changed: watch::Sender<u64>,
    path: PathBuf,
}

pub(crate) struct Serving {
    pub(crate) launcher: Launcher,
    runtime: Runtime,
    life: Option<tokio::task::JoinHandle<()>>,
}

fn host_key() -> SecretKey {
    SecretKey::from_seed(&[9; 32])
}

impl Serving {
    pub(crate) fn start(dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let launcher = Launcher { state: Arc::default(), changed: watch::Sender::new(0), path: launcher_socket(dir) };
        let mut serving = Self { launcher, runtime, life: None };
        serving.restart(true);
        serving
    }

    /// As `kill -9` and a new start. Sessions live on.
    pub(crate) fn restart(&mut self, forgets: bool) {
        if let Some(life) = self.life.take() {
            life.abort();
            let _ = self.runtime.block_on(life);
        }
        if forgets {
            let mut state = self.launcher.state();
            state.incarnation = [state.incarnation[0] + 1; 16];
            state.used.clear();
        }
        let launcher = self.launcher.clone();
        let _ = std::fs::remove_file(&launcher.path);
        let _in_runtime = self.runtime.enter();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&launcher.path).unwrap()).unwrap();
        rustix::net::listen(&socket, 8).unwrap();
        self.life = Some(self.runtime.spawn(async move {
            let socket = crate::packets::watched(socket).unwrap();
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let accepted = socket.async_io(tokio::io::Interest::READABLE, |s| {
                    Ok(rustix::net::accept_with(s, SocketFlags::CLOEXEC)?)
                });
                let packets = Packets::new(accepted.await.unwrap()).unwrap();
                connections.spawn(launcher.clone().serve(packets));
            }
        }));
    }
}

impl Launcher {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn refuse_next(&self, kind: RefusalKind, stage: &str) {
        self.state().refuse = Some((kind, stage.to_owned()));
    }

    /// The next launch fails, and the answer never comes.
    pub(crate) fn lose_next(&self) {
        self.state().lose_next = true;
    }

    pub(crate) fn lost(&self) -> usize {
        self.state().lost.len()
    }

    /// What a session that cleans exits with.
    pub(crate) fn clean_with(&self, code: u8) {
        self.state().clean_code = code;
    }

    pub(crate) fn killed(&self) -> Vec<u64> {
        self.state().killed.clone()
    }

    pub(crate) fn renewed(&self) -> usize {
        self.state().renewed
    }

    /// Neither living nor waiting to be forgotten.
    pub(crate) fn is_empty(&self) -> bool {
        self.state().sessions.is_empty()
    }

    pub(crate) fn living(&self) -> usize {
        self.state().sessions.values().filter(|s| s.ended.is_none()).count()
    }

    async fn serve(self, packets: Packets) {
        let mut changed = self.changed.subscribe();
        let mut told: Vec<u64> = Vec::new();
        let mut greeted = false;
        loop {
            tokio::select! {
                packet = packets.recv() => {
                    let Ok(Some(packet)) = packet else { return };
                    let request = ToLauncher::decode(&packet.bytes).unwrap();
                    greeted |= matches!(request, ToLauncher::Hello { .. });
                    if self.answer(&packets, request).await.is_none() { return }
                }
                _ = changed.changed() => {}
            }
            if greeted && self.tell_ends(&packets, &mut told).await.is_none() {
                return;
            }
        }
    }

    async fn tell_ends(&self, packets: &Packets, told: &mut Vec<u64>) -> Option<()> {
        let ended: Vec<(u64, OwnedFd)> = {
            let state = self.state();
            let ended = state.sessions.iter().filter_map(|(id, s)| Some((*id, s.ended?, s.job)));
            let fresh = ended.filter(|(id, ..)| !told.contains(id));
            let proved = |(id, end, job): (u64, SessionEnd, u64)| {
                let fact = Fact::Ended { end, cpu_us: 11, max_rss: 22 };
                (id, sealed("proof", &proof(state.incarnation, id, job, fact)).unwrap())
            };
            fresh.map(proved).collect()
        };
        for (session, fd) in ended {
            packets.send(&FromLauncher::Ended { session }.encode(), Some(&fd)).await.ok()?;
            told.push(session);
        }
        Some(())
    }

    async fn answer(&self, packets: &Packets, request: ToLauncher) -> Option<()> {
        let reply = match request {
            ToLauncher::Hello { id } => {
                let state = self.state();
                let abilities = HostAbilities { cgroup_kill: true, ..HostAbilities::default() };
                FromLauncher::Welcome {
                    id,
                    incarnation: state.incarnation,
                    tick: crate::host::tick(),
                    host_key: host_key().public().to_bytes(),
                    abilities,
                    sealing_key: None,
                    sessions: state.sessions.keys().chain(&state.lost).copied().collect(),
                }
            }
            ToLauncher::Launch { warrant, .. } if std::mem::take(&mut self.state().lose_next) => {
                let session = Warrant::open(&warrant, &[farm_public()]).unwrap().session;
                self.state().lost.push(session);
                return Some(());
            }
            ToLauncher::Launch { id, warrant } => match self.launch(&warrant) {
                Ok(session) => {
                    return self.send_channel(packets, FromLauncher::Launched { id, session }, session).await;
                }
                Err((session, kind, stage)) => {
                    // As the real one: what isn't signed by one it trusts is not read.
                    let session = if stage == "warrant_signature" { 0 } else { session };
                    let text = "because of the test".to_owned();
                    FromLauncher::Refused { id, session, kind, stage, errno: 11, text, hint: "none".to_owned() }
                }
            },
            ToLauncher::Attach { id, session } if self.alive(session) => {
                return self.send_channel(packets, FromLauncher::Attached { id, session }, session).await;
            }
            ToLauncher::Attach { id, session } => FromLauncher::NoSession { id, session },
            ToLauncher::Kill { id, session } => {
                self.state().killed.push(session);
                if self.alive(session) {
                    self.state().sessions[&session].kill.notify_one();
                    FromLauncher::Done { id }
                } else {
                    FromLauncher::NoSession { id, session }
                }
            }
            ToLauncher::Renew { id, .. } => {
                self.state().renewed += 1;
                FromLauncher::Done { id }
            }
            ToLauncher::Forget { id, session } => {
                let mut state = self.state();
                assert!(state.sessions.get(&session).is_none_or(|s| s.ended.is_some()), "a living one was forgotten");
                state.sessions.remove(&session);
                state.forgotten.push(session);
                FromLauncher::Done { id }
            }
        };
        packets.send(&reply.encode(), None).await.ok()
    }

    fn alive(&self, session: u64) -> bool {
        self.state().sessions.get(&session).is_some_and(|s| s.ended.is_none())
    }

    /// Two descriptors in one packet: what the worker must be able to take, though it never sends that itself.
    async fn send_channel(&self, packets: &Packets, message: FromLauncher, session: u64) -> Option<()> {
        let (channel, proof) = {
            let state = self.state();
            let living = state.sessions.get(&session)?;
            (Arc::clone(&living.worker_end), sealed("proof", &living.start).unwrap())
        };
        packets.send_two(&message.encode(), &channel, &proof).await.ok()
    }

    fn launch(&self, signed: &Signed) -> Result<u64, (u64, RefusalKind, String)> {
        let warrant = Warrant::open(signed, &[farm_public()]).unwrap();
        let session = warrant.session;
        let mut state = self.state();
        if let Some((kind, stage)) = state.refuse.take() {
            return Err((session, kind, stage));
        }
        if warrant.incarnation != state.incarnation || state.used.contains(&warrant.sequence) {
            return Err((session, RefusalKind::Warrant, "warrant".to_owned()));
        }
        state.used.push(warrant.sequence);
        let (worker_end, session_end) = pair().unwrap();
        let fact = Fact::Started {
            login_user: "ada".to_owned(),
            user: "ada".to_owned(),
            mode: "user".to_owned(),
            run_as: RunAs { name: "ada".to_owned(), uid: 4242, gid: 4243, groups: vec![4243, 5000] },
            warrant: sha256(&[&signed.bytes]),
            pid: 77,
            pid_start: 78,
        };
        let start = proof(state.incarnation, session, warrant.job, fact);
        let kill = Arc::new(Notify::new());
        let living =
            Living { worker_end: Arc::new(worker_end), start, job: warrant.job, kill: Arc::clone(&kill), ended: None };
        state.sessions.insert(session, living);
        let (launcher, clean) = (self.clone(), (warrant.purpose == Purpose::Clean).then_some(state.clean_code));
        // Not in the launcher's task: sessions outlive it.
        tokio::spawn(async move {
            let run = async {
                match clean {
                    Some(code) => SessionEnd::Exited(code),
                    None => FakeSession::new(session_end).run().await,
                }
            };
            let end = tokio::select! {
                end = run => end,
                () = kill.notified() => SessionEnd::Killed,
            };
            if let Some(living) = launcher.state().sessions.get_mut(&session) {
                living.ended = Some(end);
            }
            launcher.changed.send_modify(|n| *n += 1);
        });
        Ok(session)
    }
}

fn proof(incarnation: [u8; 16], session: u64, job: u64, fact: Fact) -> Vec<u8> {
    let worker = super::WORKER.to_owned();
    let (at_us, log_sequence, log_previous) = (1_000, 1, [0; 32]);
    Proof { worker, incarnation, session, job, fact, at_us, log_sequence, log_previous }.sign(&host_key()).encode()
}

/// Keeps what is not acknowledged and sends it again, as a real one does.
struct FakeSession {
    channel: Packets,
    kept: VecDeque<Event>,
    acked: u64,
    sent: usize,
    last_batch: u64,
    finish: bool,
    said_leaving: bool,
}

impl FakeSession {
    fn new(channel: OwnedFd) -> Self {
        let channel = Packets::new(channel).unwrap();
        let (kept, acked, sent, last_batch) = (VecDeque::from([Event::Ready { pid: 77 }]), 0, 0, 0);
        Self { channel, kept, acked, sent, last_batch, finish: false, said_leaving: false }
    }

    async fn run(mut self) -> SessionEnd {
        loop {
            if self.said_leaving && self.kept.is_empty() {
                return SessionEnd::Exited(0);
            }
            let packet = self.next_packet();
            let count = packet.as_ref().map_or(0, |p| p.events.len());
            tokio::select! {
                received = self.channel.recv() => {
                    let Ok(Some(packet)) = received else { return SessionEnd::Exited(9) };
                    let message = ToSession::decode(&packet.bytes).unwrap();
                    self.obey(message, packet.fds).await;
                }
                sent = async { match &packet {
                    Some(p) => self.channel.send(&p.encode(), None).await,
                    None => std::future::pending().await,
                }} => {
                    if sent.is_err() { return SessionEnd::Exited(8) }
                    self.sent += count;
                }
            }
        }
    }

    /// A few events at a time.
    fn next_packet(&self) -> Option<Events> {
        let events: Vec<Event> = self.kept.iter().skip(self.sent).take(7).cloned().collect();
        (!events.is_empty()).then_some(Events { first: self.acked + 1 + self.sent as u64, events })
    }

    async fn obey(&mut self, message: ToSession, fds: Vec<OwnedFd>) {
        match message {
            ToSession::Attach { acked } => {
                self.ack(acked);
                self.sent = 0;
            }
            ToSession::Ack { through } => self.ack(through),
            ToSession::Batch => {
                let bytes = read_sealed(fds.into_iter().next().unwrap(), BATCH_MAX + 200).unwrap();
                let signed = Signed::decode(&bytes, BATCH_MAX).unwrap();
                self.work(Batch::open(&signed, &[farm_public()]).unwrap()).await;
            }
            ToSession::Finish => self.finish = true,
            _ => {}
        }
        if self.finish && !self.said_leaving {
            self.said_leaving = true;
            self.kept.push_back(Event::Leaving { text: "all work is done".to_owned() });
        }
    }

    fn ack(&mut self, through: u64) {
        while self.acked < through {
            self.kept.pop_front().expect("only what was sent is acknowledged");
            self.acked += 1;
            self.sent = self.sent.saturating_sub(1);
        }
    }

    async fn work(&mut self, batch: Batch) {
        if batch.sequence <= self.last_batch {
            return;
        }
        assert_eq!(batch.sequence, self.last_batch + 1);
        self.last_batch = batch.sequence;
        for item in batch.items {
            let len: usize = String::from_utf8_lossy(&item.argv[0]).parse().unwrap();
            match item.kind {
                ItemKind::Task(task) => self.task(task, len),
                ItemKind::Enter { name } | ItemKind::Exit { name } => {
                    let task = TaskRef { step: 0, index: 0, epoch: 0 };
                    let data = output_of(task, len);
                    self.kept.push_back(Event::EnvironmentOutput { name: name.clone(), data });
                    let end = ItemEnd::Exited(0);
                    self.kept.push_back(Event::EnvironmentEnded { name, entered: true, end });
                }
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        self.kept.push_back(Event::BatchDone { sequence: batch.sequence });
    }

    fn task(&mut self, task: TaskRef, len: usize) {
        self.kept.push_back(Event::TaskStarted { task, at_us: 1 });
        let data = output_of(task, len);
        for (n, piece) in data.chunks(PIECE).enumerate() {
            let (offset, data) = ((n * PIECE) as u64, piece.to_vec());
            self.kept.push_back(Event::Output { task, stream: Stream::Stdout, offset, data });
        }
        self.kept.push_back(Event::Progress { task, hundredths: 10_000 });
        let end = ItemEnd::Exited(u8::try_from(task.index % 3).unwrap());
        self.kept.push_back(Event::TaskEnded { task, end, started_us: 1, ended_us: 2, cpu_us: 3, max_rss: 4 });
    }
}
