//! `stead-session files`: does the file work that it is asked for in requests signed by a supervisor, one after another,
//! until it is told to leave. It starts no process.
//!
//! A request that is not for this session, not signed, too late or not the next is not done, and answered with a refusal.

use crate::environment::Pairs;
use crate::folder;
use crate::outbox::{Gone, Outbox};
use crate::sys::{self, PollFd};
use crate::text::cut;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use warrant::codec::DecodeError;
use warrant::files::{FileAnswer, FileRequest, FileRule, Piece, REQUEST_MAX, Root};
use warrant::session_wire::{Event, Orders, PACKET_MAX, ToSession};
use warrant::{PublicKey, Renewal, Signed, VerifyError};

/// How long the worker may take no packet.
const PATIENCE_US: u64 = 30_000_000;
/// Its last events wait this long for an acknowledgement.
const FAREWELL_US: u64 = 2_000_000;

pub(crate) struct Server {
    channel: OwnedFd,
    orders: Orders,
    keys: Vec<PublicKey>,
    home: Option<CString>,
    outbox: Outbox,
    /// The number of the last request.
    last: u64,
    lease_until: u64,
    last_heard: u64,
    leaving: Option<u64>,
    packet: Vec<u8>,
}

/// Why a request is not done.
#[derive(Debug)]
enum Void {
    Unreadable,
    Signature(VerifyError),
    Malformed(DecodeError),
    Other,
    Late,
    Repeated,
    Leaving,
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("the request can't be read"),
            Self::Signature(e) => write!(f, "the request is not signed by this farm's supervisor: {e}"),
            Self::Malformed(e) => write!(f, "the request is not understood: {e}"),
            Self::Other => f.write_str("the request is for another session"),
            Self::Late => f.write_str("the request came too late"),
            Self::Repeated => f.write_str("the request's number was used before"),
            Self::Leaving => f.write_str("the session is ending"),
        }
    }
}

impl Server {
    pub(crate) fn new(channel: OwnedFd, orders: Orders, keys: Vec<PublicKey>, base: &Pairs) -> Self {
        let home = base.iter().find(|(name, _)| name == b"HOME").map(|(_, value)| value.clone());
        Self {
            channel,
            home: home.filter(|h| h.starts_with(b"/")).and_then(|h| CString::new(h).ok()),
            outbox: Outbox::default(),
            last: 0,
            lease_until: orders.lease_until,
            last_heard: sys::monotonic_us(),
            leaving: None,
            packet: vec![0; PACKET_MAX],
            orders,
            keys,
        }
    }

    /// The whole story.
    pub(crate) fn run(mut self) {
        self.say(&Event::Ready { pid: sys::pid().unsigned_abs() });
        while self.turn().is_ok() {}
    }

    fn say(&mut self, event: &Event) {
        self.outbox.push(event, sys::monotonic_us());
    }

    fn turn(&mut self) -> Result<(), Gone> {
        let now = sys::monotonic_us();
        if self.orders.desktop && sys::boottime_ms() > self.lease_until {
            return Err(Gone);
        }
        let orphaned = self.orphaned_at().is_some_and(|at| now >= at);
        if orphaned && self.leaving.is_none() {
            self.leave("no worker was heard of", now);
        }
        self.outbox.flush(self.channel.as_fd())?;
        if self.leaving.is_some_and(|until| self.outbox.is_empty() || now >= until) {
            return Err(Gone);
        }
        let writable = if self.outbox.is_blocked() { libc::POLLOUT } else { 0 };
        let revents = self.wait(libc::POLLIN | writable, self.rest(now));
        if revents & libc::POLLOUT != 0 {
            self.outbox.unblock();
        }
        if revents & !libc::POLLOUT != 0 { self.listen() } else { Ok(()) }
    }

    fn orphaned_at(&self) -> Option<u64> {
        let limit = self.orders.orphan_limit_ms;
        (limit > 0).then(|| self.last_heard.saturating_add(limit.saturating_mul(1000)))
    }

    /// How long nothing is due.
    fn rest(&self, now: u64) -> Option<u64> {
        let lease = self.orders.desktop.then(|| {
            let left = self.lease_until.saturating_add(1).saturating_sub(sys::boottime_ms());
            now.saturating_add(left.saturating_mul(1000))
        });
        let orphaned = if self.leaving.is_some() { None } else { self.orphaned_at() };
        [self.leaving, orphaned, lease].into_iter().flatten().min().map(|at| at.saturating_sub(now))
    }

    fn wait(&self, events: i16, timeout_us: Option<u64>) -> i16 {
        let mut fds = [PollFd { fd: self.channel.as_raw_fd(), events, revents: 0 }];
        sys::poll(&mut fds, timeout_us);
        let [channel] = fds;
        channel.revents
    }

    fn leave(&mut self, why: &str, now: u64) {
        self.say(&Event::Leaving { text: cut(why.to_owned()) });
        self.leaving = Some(now.saturating_add(FAREWELL_US));
    }

    fn listen(&mut self) -> Result<(), Gone> {
        let packet = match sys::receive(self.channel.as_fd(), &mut self.packet) {
            Ok(packet) => packet,
            Err(e) if matches!(sys::errno_of(&e), libc::EAGAIN | libc::EINTR) => return Ok(()),
            Err(_) => return Err(Gone),
        };
        if packet.len == 0 {
            return Err(Gone);
        }
        let now = sys::monotonic_us();
        self.last_heard = now;
        let said = self.packet.get(..packet.len).filter(|_| !packet.cut).map(ToSession::decode);
        let Some(Ok(message)) = said else {
            self.leave("the worker broke the protocol", now);
            return Ok(());
        };
        let numbered = match message {
            ToSession::Attach { acked } => self.outbox.attach(acked, now),
            ToSession::Ack { through } => self.outbox.acknowledge(through),
            ToSession::Files => return self.serve(packet.fds.first()),
            ToSession::Finish => {
                if self.leaving.is_none() {
                    self.leave("its work is done", now);
                }
                Ok(())
            }
            // What came before is answered; the supervisor asks nothing more.
            ToSession::Recall { number, .. } => {
                self.say(&Event::Recalled { tasks: Vec::new(), answers: number });
                Ok(())
            }
            ToSession::Batch => {
                let text = "this session does file work, and runs nothing".to_owned();
                self.say(&Event::BatchRefused { text });
                Ok(())
            }
            ToSession::Renew(signed) => {
                self.renew(&signed);
                Ok(())
            }
            ToSession::Cancel { .. } | ToSession::Suspend | ToSession::Resume | ToSession::Ping => Ok(()),
        };
        if numbered.is_err() {
            self.leave("the worker broke the protocol", now);
        }
        Ok(())
    }

    fn serve(&mut self, fd: Option<&OwnedFd>) -> Result<(), Gone> {
        let (sequence, answer) = match self.accept(fd) {
            Ok(request) => (request.sequence, self.done(&request)),
            // 0: which one it was is nobody's word.
            Err(void) => {
                let text = cut(void.to_string());
                (0, FileAnswer::Refused { rule: FileRule::Request, text })
            }
        };
        for piece in Piece::all(sequence, &answer.encode()) {
            self.send(&piece)?;
        }
        Ok(())
    }

    /// Copied first, then checked, then read: nobody can change it in between.
    fn accept(&mut self, fd: Option<&OwnedFd>) -> Result<FileRequest, Void> {
        if self.leaving.is_some() {
            return Err(Void::Leaving);
        }
        let bytes = sys::read_memory_file(fd.ok_or(Void::Unreadable)?.as_fd(), REQUEST_MAX);
        let signed = Signed::decode(&bytes.map_err(|_| Void::Unreadable)?, REQUEST_MAX).map_err(Void::Malformed)?;
        let request = FileRequest::open(&signed, &self.keys).map_err(Void::Signature)?;
        if (request.farm, request.session) != (self.orders.farm, self.orders.session) {
            return Err(Void::Other);
        }
        if sys::boottime_ms() > request.not_after {
            return Err(Void::Late);
        }
        if request.sequence <= self.last {
            return Err(Void::Repeated);
        }
        self.last = request.sequence;
        Ok(request)
    }

    fn done(&self, request: &FileRequest) -> FileAnswer {
        let root = match (request.root, &self.home) {
            (Root::Job, _) => sys::open_here(),
            (Root::Home, Some(home)) => sys::open_folder(home),
            (Root::Home, None) => Err(std::io::Error::from_raw_os_error(libc::ENOENT)),
        };
        match root {
            Ok(root) => folder::work(&root, &request.work),
            Err(e) => {
                let what = if request.root == Root::Job { "the job's folder" } else { "the account's home" };
                let text = cut(format!("{what} can't be opened: {}", crate::text::why(sys::errno_of(&e))));
                FileAnswer::Refused { rule: FileRule::Root, text }
            }
        }
    }

    fn send(&self, piece: &[u8]) -> Result<(), Gone> {
        let until = sys::monotonic_us().saturating_add(PATIENCE_US);
        loop {
            match sys::send(self.channel.as_fd(), piece) {
                Ok(()) => return Ok(()),
                Err(e) => match sys::errno_of(&e) {
                    libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR => {}
                    _ => return Err(Gone),
                },
            }
            let now = sys::monotonic_us();
            // A worker that died has a successor, which asks nobody for this answer.
            if now >= until {
                return Ok(());
            }
            self.wait(libc::POLLOUT, Some(until - now));
        }
    }

    fn renew(&mut self, signed: &Signed) {
        if let Ok(renewal) = Renewal::open(signed, &self.keys)
            && (renewal.farm, renewal.session) == (self.orders.farm, self.orders.session)
        {
            self.lease_until = self.lease_until.max(renewal.lease_until);
        }
    }
}
