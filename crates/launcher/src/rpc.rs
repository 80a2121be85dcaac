//! What a launcher and its shepherds say to each other, root to root, on the shepherd's socket.
//!
//! A shepherd speaks first: to every launcher that connects it tells what became of its session, with the
//! session's channel and the proofs that an earlier launcher made of it. So nothing is lost with a launcher.

use crate::refusal::Refusal;
use crate::sys::{self, Errno, Received, Res, as_fd};
use std::os::fd::{BorrowedFd, OwnedFd};
use warrant::codec::{DecodeError, Reader, Writer};
use warrant::proof::{PROOF_MAX, RunAs};
use warrant::{Fact, SessionEnd};

const PACKET_MAX: usize = 16 << 10;
const BLOB_MAX: usize = PROOF_MAX + 4096;
const TEXT_MAX: usize = 4096;

/// What a shepherd saw when it looked at the stopped child, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) job: u64,
    pub(crate) worker: String,
    pub(crate) login_user: String,
    pub(crate) user: String,
    pub(crate) mode: String,
    pub(crate) run_as: RunAs,
    pub(crate) warrant: [u8; 32],
    pub(crate) pid: u32,
    pub(crate) pid_start: u64,
    /// What was asked for and can't be had here.
    pub(crate) notes: Vec<String>,
}

impl Start {
    pub(crate) fn fact(&self) -> Fact {
        Fact::Started {
            login_user: self.login_user.clone(),
            user: self.user.clone(),
            mode: self.mode.clone(),
            run_as: self.run_as.clone(),
            warrant: self.warrant,
            pid: self.pid,
            pid_start: self.pid_start,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u64(self.job).str(&self.worker).str(&self.login_user).str(&self.user).str(&self.mode);
        w.str(&self.run_as.name).u32(self.run_as.uid).u32(self.run_as.gid);
        w.list(&self.run_as.groups, |w, g| {
            w.u32(*g);
        });
        w.fixed(&self.warrant).u32(self.pid).u64(self.pid_start);
        w.list(&self.notes, |w, n| {
            w.str(n);
        });
        w.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let text = |r: &mut Reader<'_>| r.str("text", TEXT_MAX);
        let start = Self {
            job: r.u64()?,
            worker: text(&mut r)?,
            login_user: text(&mut r)?,
            user: text(&mut r)?,
            mode: text(&mut r)?,
            run_as: RunAs {
                name: text(&mut r)?,
                uid: r.u32()?,
                gid: r.u32()?,
                groups: r.list("groups", 65_536, Reader::u32)?,
            },
            warrant: r.fixed()?,
            pid: r.u32()?,
            pid_start: r.u64()?,
            notes: r.list("notes", 16, text)?,
        };
        r.finish()?;
        Ok(start)
    }
}

/// How a session ended and what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) end: SessionEnd,
    pub(crate) cpu_us: u64,
    pub(crate) max_rss: u64,
}

pub(crate) enum FromShepherd {
    /// `recorded`: the signed proof an earlier launcher made.
    Started {
        start: Box<Start>,
        channel: OwnedFd,
        recorded: Option<Vec<u8>>,
    },
    Refused(Refusal),
    Ended {
        end: End,
        recorded: Option<Vec<u8>>,
    },
}

pub(crate) enum ToShepherd {
    /// The signed proof of the start is in the log.
    StartRecorded(Vec<u8>),
    EndRecorded(Vec<u8>),
    Kill,
    /// The lease goes on until then, boot-time clock in ms.
    Lease(u64),
    /// The end is stored elsewhere: leave.
    Forget,
}

/// What a read of such a socket gives.
pub(crate) enum Heard<T> {
    Message(T),
    Nothing,
    /// Closed, or not understood: both end the connection.
    Gone,
}

fn blob(bytes: &[u8]) -> Res<OwnedFd> {
    sys::sealed(c"stead-launcher", bytes)
}

fn unblob(fd: &OwnedFd) -> Res<Vec<u8>> {
    sys::read_from(as_fd(fd), 0, BLOB_MAX)
}

/// Tells a launcher of the start.
pub(crate) fn send_started(to: BorrowedFd<'_>, start: &Start, channel: &OwnedFd, recorded: Option<&[u8]>) -> Res<()> {
    let facts = blob(&start.encode())?;
    let recorded = recorded.map(blob).transpose()?;
    let mut fds = vec![as_fd(channel), as_fd(&facts)];
    fds.extend(recorded.as_ref().map(as_fd));
    sys::send(to, &[1], &fds)
}

pub(crate) fn send_refused(to: BorrowedFd<'_>, refusal: &Refusal) -> Res<()> {
    let mut w = Writer::new();
    w.u8(2);
    refusal.write(&mut w);
    sys::send(to, &w.into_bytes(), &[])
}

pub(crate) fn send_ended(to: BorrowedFd<'_>, end: End, recorded: Option<&[u8]>) -> Res<()> {
    let mut w = Writer::new();
    let (kind, value) = match end.end {
        SessionEnd::Exited(code) => (1, code),
        SessionEnd::Signalled(signal) => (2, signal),
        SessionEnd::OutOfMemory => (3, 0),
        SessionEnd::LeaseExpired => (4, 0),
        SessionEnd::Killed => (5, 0),
    };
    w.u8(3).u8(kind).u8(value).u64(end.cpu_us).u64(end.max_rss);
    let recorded = recorded.map(blob).transpose()?;
    let fds: Vec<_> = recorded.iter().map(as_fd).collect();
    sys::send(to, &w.into_bytes(), &fds)
}

/// The launcher's side of a read.
pub(crate) fn hear_shepherd(from: BorrowedFd<'_>) -> Heard<FromShepherd> {
    match sys::receive(from, PACKET_MAX, 3) {
        Ok(Received::Packet(bytes, fds)) => from_shepherd(&bytes, fds).map_or(Heard::Gone, Heard::Message),
        Ok(Received::Nothing) => Heard::Nothing,
        Ok(Received::Closed | Received::Oversized) | Err(_) => Heard::Gone,
    }
}

fn from_shepherd(bytes: &[u8], fds: Vec<OwnedFd>) -> Option<FromShepherd> {
    let mut r = Reader::new(bytes);
    let mut fds = fds.into_iter();
    let message = match r.u8().ok()? {
        1 => {
            let channel = fds.next()?;
            let start = Box::new(Start::decode(&unblob(&fds.next()?).ok()?).ok()?);
            let recorded = fds.next().map(|fd| unblob(&fd)).transpose().ok()?;
            FromShepherd::Started { start, channel, recorded }
        }
        2 => FromShepherd::Refused(Refusal::read(&mut r).ok()?),
        3 => {
            let (kind, value) = (r.u8().ok()?, r.u8().ok()?);
            let end = match kind {
                1 => SessionEnd::Exited(value),
                2 => SessionEnd::Signalled(value),
                3 => SessionEnd::OutOfMemory,
                4 => SessionEnd::LeaseExpired,
                5 => SessionEnd::Killed,
                _ => return None,
            };
            let end = End { end, cpu_us: r.u64().ok()?, max_rss: r.u64().ok()? };
            let recorded = fds.next().map(|fd| unblob(&fd)).transpose().ok()?;
            FromShepherd::Ended { end, recorded }
        }
        _ => return None,
    };
    r.finish().ok()?;
    Some(message)
}

impl ToShepherd {
    pub(crate) fn send(&self, to: BorrowedFd<'_>) -> Res<()> {
        match self {
            Self::StartRecorded(proof) => sys::send(to, &[1], &[as_fd(&blob(proof)?)]),
            Self::EndRecorded(proof) => sys::send(to, &[2], &[as_fd(&blob(proof)?)]),
            Self::Kill => sys::send(to, &[3], &[]),
            Self::Lease(until) => {
                let mut w = Writer::new();
                w.u8(4).u64(*until);
                sys::send(to, &w.into_bytes(), &[])
            }
            Self::Forget => sys::send(to, &[5], &[]),
        }
    }

    /// The shepherd's side of a read.
    pub(crate) fn hear(from: BorrowedFd<'_>) -> Heard<Self> {
        match sys::receive(from, PACKET_MAX, 1) {
            Ok(Received::Packet(bytes, fds)) => Self::decode(&bytes, fds).map_or(Heard::Gone, Heard::Message),
            Ok(Received::Nothing) => Heard::Nothing,
            Ok(Received::Closed | Received::Oversized) | Err(_) => Heard::Gone,
        }
    }

    fn decode(bytes: &[u8], fds: Vec<OwnedFd>) -> Result<Self, Errno> {
        let bad = Errno(libc::EBADMSG);
        let mut r = Reader::new(bytes);
        let proof = |fds: Vec<OwnedFd>| unblob(fds.first().ok_or(bad)?);
        Ok(match r.u8().map_err(|_| bad)? {
            1 => Self::StartRecorded(proof(fds)?),
            2 => Self::EndRecorded(proof(fds)?),
            3 => Self::Kill,
            4 => Self::Lease(r.u64().map_err(|_| bad)?),
            5 => Self::Forget,
            _ => return Err(bad),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warrant::launcher_wire::RefusalKind;

    fn start(groups: u32) -> Start {
        Start {
            job: 7,
            worker: "w".into(),
            login_user: "ada".into(),
            user: "ada".into(),
            mode: "user".into(),
            run_as: RunAs { name: "ada".into(), uid: 1501, gid: 1501, groups: (0..groups).collect() },
            warrant: [3; 32],
            pid: 4,
            pid_start: 5,
            notes: vec!["memory".into()],
        }
    }

    #[test]
    fn starts_cross_whole_even_with_very_many_groups() {
        let (a, b) = sys::packet_pair().expect("pair");
        let (channel, _other) = sys::packet_pair().expect("channel");
        for (groups, proof) in [(3, None), (65_536, Some(vec![9; PROOF_MAX]))] {
            send_started(as_fd(&a), &start(groups), &channel, proof.as_deref()).expect("sent");
            let Heard::Message(FromShepherd::Started { start: got, recorded, .. }) = hear_shepherd(as_fd(&b)) else {
                panic!("no start");
            };
            assert_eq!((*got, recorded), (start(groups), proof));
        }
    }

    #[test]
    fn ends_and_refusals_cross() {
        let (a, b) = sys::packet_pair().expect("pair");
        let ends = [
            SessionEnd::Exited(3),
            SessionEnd::Signalled(9),
            SessionEnd::OutOfMemory,
            SessionEnd::LeaseExpired,
            SessionEnd::Killed,
        ];
        for end in ends {
            let end = End { end, cpu_us: 1, max_rss: 2 };
            send_ended(as_fd(&a), end, Some(b"proof")).expect("sent");
            let Heard::Message(FromShepherd::Ended { end: got, recorded }) = hear_shepherd(as_fd(&b)) else {
                panic!("no end");
            };
            assert_eq!((got, recorded.as_deref()), (end, Some(&b"proof"[..])));
        }
        let refusal = Refusal::new(RefusalKind::Account, "account_unknown", "é".repeat(2000), "h");
        send_refused(as_fd(&a), &refusal).expect("sent");
        let Heard::Message(FromShepherd::Refused(got)) = hear_shepherd(as_fd(&b)) else { panic!("no refusal") };
        assert_eq!(got.stage, refusal.stage);
        assert!(got.text.len() <= 1024 && refusal.text.starts_with(&got.text));
        drop(a);
        assert!(matches!(hear_shepherd(as_fd(&b)), Heard::Gone));
    }
}
