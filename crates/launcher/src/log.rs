//! The launcher's own log of every launch, refusal and end: root-owned, chained, signed with the host's key.
//!
//! One line per record: its number, the hash of the chain up to it, the signed proof, both in hexadecimal. A
//! proof carries the number and the hash before it, so a record can't be taken out or put elsewhere. Lines that
//! begin with `#` are remarks and no part of the chain.

use crate::sys::{self, Errno, Res, as_fd};
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use warrant::proof::PROOF_MAX;
use warrant::{Proof, PublicKey, SecretKey, Signed, hex, sha256, unhex};

/// The longest line: a proof of [`PROOF_MAX`] bytes with its signature, in hexadecimal, and what is before it.
const LINE_MAX: u64 = 2 * (PROOF_MAX as u64 + 128) + 256;

/// Position in the chain: the number of the next record and the hash of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) next: u64,
    pub(crate) hash: [u8; 32],
}

const START: Position = Position { next: 1, hash: [0; 32] };

#[derive(Debug)]
pub(crate) enum LogError {
    Io(Errno),
    /// The last record is not one that this host wrote there.
    BrokenTail {
        text: &'static str,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "log/launches: {e}"),
            Self::BrokenTail { text } => write!(
                f,
                "log/launches: its last record {text}; compare it with the supervisor's copy, then move it away: a new log starts"
            ),
        }
    }
}

impl From<Errno> for LogError {
    fn from(e: Errno) -> Self {
        Self::Io(e)
    }
}

pub(crate) struct Log {
    file: OwnedFd,
    len: u64,
    at: Position,
}

impl Log {
    /// Opens `launches` in `dir` and finds where its chain goes on.
    pub(crate) fn open(dir: BorrowedFd<'_>, host: &PublicKey) -> Result<Self, LogError> {
        let flags = libc::O_RDWR | libc::O_APPEND | libc::O_CREAT;
        let file = sys::openat(dir, c"launches", flags, 0o600)?;
        sys::fsync(dir)?;
        let size = sys::fstat(as_fd(&file))?.size;
        let from = size.saturating_sub(LINE_MAX.saturating_mul(2));
        let tail = sys::read_from(as_fd(&file), from, usize::try_from(size - from).unwrap_or(usize::MAX))?;
        let whole = tail.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let cut = tail.len() - whole;
        let at = last_record(tail.get(..whole).unwrap_or_default(), from == 0, host)?;
        let mut log = Self { file, len: size, at };
        if cut > 0 {
            log.len = size.saturating_sub(cut as u64);
            sys::ftruncate(as_fd(&log.file), log.len)?;
            log.remark(&format!("{cut} bytes of an unfinished record were removed at the start"))?;
        }
        Ok(log)
    }

    #[cfg(test)]
    fn position(&self) -> Position {
        self.at
    }

    /// Signs `proof` for the next place and makes it durable. On failure the log is as it was.
    pub(crate) fn append(&mut self, mut proof: Proof, key: &SecretKey) -> Res<Signed> {
        proof.log_sequence = self.at.next;
        proof.log_previous = self.at.hash;
        let signed = proof.sign(key);
        let bytes = signed.encode();
        let hash = sha256(&[&self.at.hash, &bytes]);
        self.write(&format!("{} {} {}\n", self.at.next, hex(&hash), hex(&bytes)))?;
        self.at = Position { next: self.at.next.saturating_add(1), hash };
        Ok(signed)
    }

    /// A line for whoever reads the log, outside of the chain.
    pub(crate) fn remark(&mut self, text: &str) -> Res<()> {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.write(&format!("# {text}\n"))
    }

    fn write(&mut self, line: &str) -> Res<()> {
        let done = sys::write_all(as_fd(&self.file), line.as_bytes()).and_then(|()| sys::fdatasync(as_fd(&self.file)));
        if let Err(e) = done {
            // Half a line must not stand before the next one.
            sys::ftruncate(as_fd(&self.file), self.len)?;
            return Err(e);
        }
        self.len = self.len.saturating_add(line.len() as u64);
        Ok(())
    }
}

fn last_record(lines: &[u8], whole_file: bool, host: &PublicKey) -> Result<Position, LogError> {
    let mut lines = lines.split(|b| *b == b'\n').rev().filter(|l| !l.is_empty() && !l.starts_with(b"#"));
    let Some(line) = lines.next() else {
        return if whole_file { Ok(START) } else { Err(LogError::BrokenTail { text: "is too far from the end" }) };
    };
    record(line, host).map_err(|text| LogError::BrokenTail { text })
}

fn record(line: &[u8], host: &PublicKey) -> Result<Position, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "is not text")?;
    let mut words = line.split(' ');
    let (Some(number), Some(hash), Some(bytes), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err("is no record");
    };
    let number: u64 = number.parse().map_err(|_| "has no number")?;
    let hash: [u8; 32] = unhex(hash).and_then(|h| h.try_into().ok()).ok_or("has no hash")?;
    let bytes = unhex(bytes).ok_or("is not in hexadecimal")?;
    let signed = Signed::decode(&bytes, PROOF_MAX).map_err(|_| "is no signed proof")?;
    let proof = Proof::open(&signed, std::slice::from_ref(host)).map_err(|_| "is not signed by this host")?;
    if proof.log_sequence != number || sha256(&[&proof.log_previous, &bytes]) != hash {
        return Err("stands at another place of the chain");
    }
    Ok(Position { next: number.saturating_add(1), hash })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::path::Path;
    use warrant::{Fact, SessionEnd};

    fn key() -> SecretKey {
        SecretKey::from_seed(&[7; 32])
    }

    fn proof(session: u64) -> Proof {
        Proof {
            worker: "w".into(),
            incarnation: [1; 16],
            session,
            job: 1,
            fact: Fact::Ended { end: SessionEnd::Exited(0), cpu_us: 1, max_rss: 2 },
            at_us: 3,
            log_sequence: 0,
            log_previous: [0; 32],
        }
    }

    fn open(dir: &Path) -> Result<Log, LogError> {
        let fd = std::fs::File::open(dir).expect("dir");
        Log::open(fd.as_fd(), &key().public())
    }

    #[test]
    fn the_chain_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().expect("dir");
        let mut log = open(dir.path()).expect("new");
        assert_eq!(log.position(), START);
        let first = log.append(proof(1), &key()).expect("1");
        drop(log);
        let mut log = open(dir.path()).expect("again");
        let second = log.append(proof(2), &key()).expect("2");
        let host = [key().public()];
        let (first, second_proof) = (first.encode(), Proof::open(&second, &host).expect("signed by us"));
        assert_eq!(second_proof.log_sequence, 2);
        assert_eq!(second_proof.log_previous, sha256(&[&[0; 32], &first]));
    }

    #[test]
    fn an_unfinished_line_is_removed_with_a_remark() {
        let dir = tempfile::tempdir().expect("dir");
        let mut log = open(dir.path()).expect("new");
        log.append(proof(1), &key()).expect("1");
        let at = log.position();
        drop(log);
        let path = dir.path().join("launches");
        let mut text = std::fs::read_to_string(&path).expect("text");
        text.push_str("2 abcdef 0102");
        std::fs::write(&path, &text).expect("cut");
        let log = open(dir.path()).expect("repaired");
        assert_eq!(log.position(), at);
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.ends_with("removed at the start\n"), "{text}");
        assert!(text.contains("# 13 bytes"), "{text}");
        assert_eq!(open(dir.path()).expect("and again").position(), at);
    }

    #[test]
    fn a_changed_tail_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let mut log = open(dir.path()).expect("new");
        log.append(proof(1), &key()).expect("1");
        log.append(proof(2), &key()).expect("2");
        let path = dir.path().join("launches");
        let text = std::fs::read_to_string(&path).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        let with_other_number = text.replace("\n2 ", "\n3 ");
        let swapped_hash = format!("{}\n2 {} {}\n", lines[0], "0".repeat(64), lines[1].split(' ').nth(2).expect("x"));
        for bad in [&*with_other_number, &*swapped_hash, "garbage\n", "1 00 00\n"] {
            std::fs::write(&path, bad).expect("write");
            assert!(matches!(open(dir.path()), Err(LogError::BrokenTail { .. })), "{bad}");
        }
        let other = SecretKey::from_seed(&[8; 32]);
        std::fs::write(&path, &text).expect("write");
        let fd = std::fs::File::open(dir.path()).expect("dir");
        assert!(matches!(Log::open(fd.as_fd(), &other.public()), Err(LogError::BrokenTail { .. })));
    }
}
