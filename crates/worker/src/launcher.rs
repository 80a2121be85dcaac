//! The connection to the launcher of this host: who may be root there is checked, what it says is passed on.
//!
//! Made anew when the launcher was restarted. Requests belong to the connection they were made for: after a new
//! welcome the worker says again what still holds, so nothing is kept for a launcher that is away.

use crate::backoff::Backoff;
use crate::meaning::{self, Ending, Refusal};
use crate::packets::{Packet, Packets, read_sealed};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use warrant::codec::DecodeError;
use warrant::launcher_wire::{FromLauncher, HostAbilities, ToLauncher};
use warrant::proof::{PROOF_MAX, Proof};
use warrant::{Incarnation, PublicKey, Signed, hex};
use wire::Report;

const PATIENCE: Duration = Duration::from_secs(10);
/// A launcher is back after less than this when it is restarted.
const RESTART: Duration = Duration::from_secs(1);
/// A proof with its signature around it.
const SIGNED_PROOF_MAX: usize = PROOF_MAX + 1024;

/// How the launcher of this host stands.
#[derive(Debug, Clone)]
pub(crate) struct Welcome {
    pub(crate) incarnation: Incarnation,
    pub(crate) host_key: [u8; 32],
    pub(crate) abilities: HostAbilities,
    /// Signed; what passwords are sealed for on a host that needs them.
    pub(crate) sealing_key: Option<Signed>,
    /// Living sessions and those whose end was not yet forgotten.
    pub(crate) sessions: Vec<u64>,
}

/// What whoever starts sessions on this host tells the worker.
#[derive(Debug)]
pub(crate) enum HostEvent {
    /// Connected, for the first time or again; requests of earlier connections are void.
    Up(u64, Welcome),
    Down,
    /// A session runs: its channel, its process on this host, and the report of its start. `adopted`: it ran before
    /// this worker.
    Channel {
        session: u64,
        channel: OwnedFd,
        pid: u32,
        started: Report,
        adopted: bool,
    },
    Refused {
        session: u64,
        refusal: Refusal,
    },
    /// There is no channel to attach to: it has ended, which is told, or it never ran.
    NoSession(u64),
    /// It runs, but nobody signed as whom: it is to be ended.
    Unproved(u64),
    Ended {
        session: u64,
        ending: Ending,
    },
}

/// Asked of the launcher.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// Of this session; the launcher may not know it if it can't read the warrant.
    Launch(u64, Signed),
    Attach(u64),
    Kill(u64),
    Renew(Signed),
    Forget(u64),
}

/// Why the launcher is not there, or is not to be talked to.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    #[error("nobody answers at {}: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the process listening at {} runs as uid {uid}, not as uid {expected}", path.display())]
    Peer { path: PathBuf, uid: u32, expected: u32 },
    #[error("the launcher did not say welcome within {} s", PATIENCE.as_secs())]
    Slow,
    #[error("the launcher closed the connection")]
    Closed,
    #[error("the connection to the launcher failed: {0}")]
    Io(#[from] io::Error),
    #[error("the launcher sent a message that can't be read: {0}")]
    Malformed(#[from] DecodeError),
    #[error("the launcher sent something else than a welcome first")]
    NoWelcome,
    #[error("the launcher's host key is no usable key")]
    HostKey,
}

/// Where the launcher is and who it must be.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) path: PathBuf,
    pub(crate) uid: u32,
}

/// A connection on which the launcher said welcome.
#[derive(Debug)]
pub(crate) struct Connection {
    packets: Packets,
    host_key: PublicKey,
    next_id: u32,
    /// Requests to attach that were not answered.
    attaching: BTreeSet<u32>,
    /// The sessions of launches that were not answered.
    launching: BTreeMap<u32, u64>,
    out: VecDeque<Vec<u8>>,
}

/// The worker's side.
#[derive(Debug)]
pub(crate) struct Launcher {
    to: mpsc::UnboundedSender<(u64, Request)>,
    /// Of the last welcome.
    generation: u64,
}

impl Launcher {
    pub(crate) fn new(
        address: Address,
        first: (Connection, Welcome),
        events: impl Fn(HostEvent) + Send + Sync + 'static,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (to, from) = mpsc::unbounded_channel();
        (Self { to, generation: 0 }, keep_connected(address, first, from, events))
    }

    pub(crate) fn up(&mut self, generation: u64) {
        self.generation = generation;
    }

    pub(crate) fn ask(&self, request: Request) {
        let _ = self.to.send((self.generation, request));
    }
}

/// The first connection. A launcher that is just being restarted is waited for, one that is not there is not.
pub(crate) async fn connect_first(address: &Address) -> Result<(Connection, Welcome), LauncherError> {
    let until = Instant::now() + RESTART;
    let mut backoff = Backoff::new();
    loop {
        match connect(address).await {
            Err(LauncherError::Connect { .. } | LauncherError::Closed | LauncherError::Io(_))
                if Instant::now() < until => {}
            other => return other,
        }
        backoff.wait().await;
    }
}

/// Connects, checks with the kernel who listens there, and takes the welcome.
pub(crate) async fn connect(address: &Address) -> Result<(Connection, Welcome), LauncherError> {
    let Address { path, uid: expected } = address;
    let packets = Packets::connect(path).map_err(|source| LauncherError::Connect { path: path.clone(), source })?;
    check_peer(&packets, path, *expected)?;
    packets.send(&ToLauncher::Hello { id: 0 }.encode(), None).await?;
    let packet = timeout(PATIENCE, packets.recv()).await.map_err(|_| LauncherError::Slow)??;
    let packet = packet.ok_or(LauncherError::Closed)?;
    let FromLauncher::Welcome { incarnation, host_key, abilities, sealing_key, sessions, .. } =
        FromLauncher::decode(&packet.bytes)?
    else {
        return Err(LauncherError::NoWelcome);
    };
    let key = PublicKey::from_bytes(&host_key).ok_or(LauncherError::HostKey)?;
    let (attaching, launching, out) = (BTreeSet::new(), BTreeMap::new(), VecDeque::new());
    let connection = Connection { packets, host_key: key, next_id: 1, attaching, launching, out };
    Ok((connection, Welcome { incarnation, host_key, abilities, sealing_key, sessions }))
}

fn check_peer(packets: &Packets, path: &Path, expected: u32) -> Result<(), LauncherError> {
    let uid = packets.peer_uid()?;
    if uid == expected { Ok(()) } else { Err(LauncherError::Peer { path: path.to_owned(), uid, expected }) }
}

async fn keep_connected(
    address: Address,
    first: (Connection, Welcome),
    mut from: mpsc::UnboundedReceiver<(u64, Request)>,
    events: impl Fn(HostEvent) + Send + Sync,
) {
    let mut current = first;
    for generation in 1.. {
        let (mut connection, welcome) = current;
        events(HostEvent::Up(generation, welcome));
        let Err(error) = connection.converse(generation, &mut from, &events).await else { return };
        tracing::warn!("{error}; connecting again");
        events(HostEvent::Down);
        let mut backoff = Backoff::new();
        current = loop {
            match connect(&address).await {
                Ok(connected) => break connected,
                Err(e) => backoff.complain(|| tracing::warn!("launcher is away: {e}; trying again")),
            }
            backoff.wait().await;
        };
        tracing::info!("connected to the launcher again");
    }
}

impl Connection {
    /// Until the connection ends; `Ok` when the worker is gone.
    async fn converse(
        &mut self,
        generation: u64,
        from: &mut mpsc::UnboundedReceiver<(u64, Request)>,
        events: &(impl Fn(HostEvent) + Sync),
    ) -> Result<(), LauncherError> {
        loop {
            let Self { packets, out, .. } = &*self;
            tokio::select! {
                asked = from.recv() => match asked {
                    Some((of, request)) if of == generation => self.ask(&request),
                    Some(_) => {}
                    None => return Ok(()),
                },
                sent = send_first(packets, out), if !out.is_empty() => {
                    sent?;
                    self.out.pop_front();
                }
                received = packets.recv() => {
                    let packet = received?.ok_or(LauncherError::Closed)?;
                    self.received(packet, events)?;
                }
            }
        }
    }

    fn ask(&mut self, request: &Request) {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let message = match request {
            Request::Launch(session, warrant) => {
                self.launching.insert(id, *session);
                ToLauncher::Launch { id, warrant: warrant.clone() }
            }
            Request::Attach(session) => {
                self.attaching.insert(id);
                ToLauncher::Attach { id, session: *session }
            }
            Request::Kill(session) => ToLauncher::Kill { id, session: *session },
            Request::Renew(renewal) => ToLauncher::Renew { id, renewal: renewal.clone() },
            Request::Forget(session) => ToLauncher::Forget { id, session: *session },
        };
        self.out.push_back(message.encode());
    }

    fn received(&mut self, packet: Packet, events: &impl Fn(HostEvent)) -> Result<(), LauncherError> {
        let mut fds = packet.fds.into_iter();
        match FromLauncher::decode(&packet.bytes)? {
            FromLauncher::Launched { id, session } => {
                self.launching.remove(&id);
                events(self.channel(session, fds, false));
            }
            FromLauncher::Attached { id, session } => {
                self.attaching.remove(&id);
                events(self.channel(session, fds, true));
            }
            FromLauncher::NoSession { id, session } => {
                self.launching.remove(&id);
                // What else was asked of it has no answer to wait for.
                if self.attaching.remove(&id) {
                    events(HostEvent::NoSession(session));
                }
            }
            FromLauncher::Refused { id, session, kind, stage, errno, text, hint } => {
                // Of a warrant that it does not trust the launcher doesn't say whose it is.
                let session = self.launching.remove(&id).unwrap_or(session);
                let proof = fds.next().and_then(|fd| read_sealed(fd, SIGNED_PROOF_MAX).ok()).map(|p| hex(&p));
                let refusal = Refusal { kind, stage, errno, text, hint, proof };
                events(HostEvent::Refused { session, refusal });
            }
            FromLauncher::Ended { session } => events(self.ended(session, fds.next())),
            FromLauncher::Done { .. } | FromLauncher::Welcome { .. } => {}
        }
        Ok(())
    }

    fn channel(&self, session: u64, mut fds: impl Iterator<Item = OwnedFd>, adopted: bool) -> HostEvent {
        let (channel, proof) = (fds.next(), fds.next());
        let started = self.proof(session, proof).and_then(|(proof, hex)| meaning::started(&proof, hex));
        match (channel, started) {
            (Some(channel), Some((pid, started))) => HostEvent::Channel { session, channel, pid, started, adopted },
            _ => {
                tracing::error!(session, "launcher's proof of the start can't be read; the session is ended");
                HostEvent::Unproved(session)
            }
        }
    }

    fn ended(&self, session: u64, fd: Option<OwnedFd>) -> HostEvent {
        let proved = self.proof(session, fd).and_then(|(proof, hex)| Ending::proved(&proof, hex));
        let ending = proved.unwrap_or_else(|| Ending::lost("the launcher's proof of its end can't be read"));
        HostEvent::Ended { session, ending }
    }

    /// The proof and its hex, if the host's key signed it for this session.
    fn proof(&self, session: u64, fd: Option<OwnedFd>) -> Option<(Proof, String)> {
        let bytes = read_sealed(fd?, SIGNED_PROOF_MAX).ok()?;
        let signed = Signed::decode(&bytes, PROOF_MAX).ok()?;
        let proof = Proof::open(&signed, std::slice::from_ref(&self.host_key)).ok()?;
        (proof.session == session).then(|| (proof, hex(&bytes)))
    }
}

async fn send_first(packets: &Packets, out: &VecDeque<Vec<u8>>) -> io::Result<()> {
    match out.front() {
        Some(bytes) => packets.send(bytes, None).await,
        None => Ok(()),
    }
}
