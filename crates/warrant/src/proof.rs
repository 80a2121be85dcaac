//! The proof: what the launcher saw in the kernel after the switch of identity, signed with the host's own key.

use crate::codec::{DecodeError, Reader, Writer};
use crate::sign::{Domain, PublicKey, SecretKey, Signed, VerifyError};
use crate::warrant::{Incarnation, unknown, version, write_version};

/// Most bytes of a proof: a user may be in very many groups.
pub const PROOF_MAX: usize = 512 * 1024;
const GROUPS_MAX: usize = 65_536;
const TEXT_MAX: usize = 4096;

/// The account a process really has, as read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Ascending, without doubles.
    pub groups: Vec<u32>,
}

/// One signed fact about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub worker: String,
    pub incarnation: Incarnation,
    pub session: u64,
    pub job: u64,
    pub fact: Fact,
    /// Wall clock of the host, µs since 1970.
    pub at_us: u64,
    /// Position in the launcher's log and the hash of the record before it.
    pub log_sequence: u64,
    pub log_previous: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The switch was made and read back; the session was then started.
    Started {
        login_user: String,
        user: String,
        mode: String,
        run_as: RunAs,
        /// SHA-256 of the warrant's signed bytes.
        warrant: [u8; 32],
        /// Process id on the host and its start time in clock ticks since boot.
        pid: u32,
        pid_start: u64,
    },
    /// Nothing was executed.
    Refused { stage: String, errno: i32, text: String, warrant: [u8; 32] },
    /// No process of the session is alive.
    Ended { end: SessionEnd, cpu_us: u64, max_rss: u64 },
}

/// How a session ended, as its shepherd saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    Exited(u8),
    Signalled(u8),
    /// The kernel ran out of the memory asked for.
    OutOfMemory,
    /// The lease was not renewed in time.
    LeaseExpired,
    /// Ended on request.
    Killed,
}

impl Proof {
    #[must_use]
    pub fn sign(&self, key: &SecretKey) -> Signed {
        key.sign(Domain::Proof, self.encode())
    }

    pub fn open(signed: &Signed, keys: &[PublicKey]) -> Result<Self, VerifyError> {
        Ok(Self::decode(signed.verify(Domain::Proof, keys)?)?)
    }

    /// For one that was checked before it was stored, and whose key may be unknown here.
    pub fn read_unchecked(signed: &Signed) -> Result<Self, DecodeError> {
        Self::decode(&signed.bytes)
    }

    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        write_version(&mut w);
        w.str(&self.worker).fixed(&self.incarnation).u64(self.session).u64(self.job);
        match &self.fact {
            Fact::Started { login_user, user, mode, run_as, warrant, pid, pid_start } => {
                w.u8(1).str(login_user).str(user).str(mode);
                w.str(&run_as.name).u32(run_as.uid).u32(run_as.gid).list(&run_as.groups, |w, g| {
                    w.u32(*g);
                });
                w.fixed(warrant).u32(*pid).u64(*pid_start);
            }
            Fact::Refused { stage, errno, text, warrant } => {
                w.u8(2).str(stage).i32(*errno).str(text).fixed(warrant);
            }
            Fact::Ended { end, cpu_us, max_rss } => {
                w.u8(3);
                match end {
                    SessionEnd::Exited(code) => w.u8(1).u8(*code),
                    SessionEnd::Signalled(signal) => w.u8(2).u8(*signal),
                    SessionEnd::OutOfMemory => w.u8(3).u8(0),
                    SessionEnd::LeaseExpired => w.u8(4).u8(0),
                    SessionEnd::Killed => w.u8(5).u8(0),
                };
                w.u64(*cpu_us).u64(*max_rss);
            }
        }
        w.u64(self.at_us).u64(self.log_sequence).fixed(&self.log_previous);
        w.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        version(&mut r)?;
        let (worker, incarnation) = (r.str("worker", TEXT_MAX)?, r.fixed()?);
        let (session, job) = (r.u64()?, r.u64()?);
        let fact = match r.u8()? {
            1 => Fact::Started {
                login_user: r.str("login user", TEXT_MAX)?,
                user: r.str("user", TEXT_MAX)?,
                mode: r.str("mode", TEXT_MAX)?,
                run_as: RunAs {
                    name: r.str("account", TEXT_MAX)?,
                    uid: r.u32()?,
                    gid: r.u32()?,
                    groups: r.list("groups", GROUPS_MAX, Reader::u32)?,
                },
                warrant: r.fixed()?,
                pid: r.u32()?,
                pid_start: r.u64()?,
            },
            2 => Fact::Refused {
                stage: r.str("stage", TEXT_MAX)?,
                errno: r.i32()?,
                text: r.str("text", TEXT_MAX)?,
                warrant: r.fixed()?,
            },
            3 => {
                let (kind, value) = (r.u8()?, r.u8()?);
                let end = match kind {
                    1 => SessionEnd::Exited(value),
                    2 => SessionEnd::Signalled(value),
                    3 => SessionEnd::OutOfMemory,
                    4 => SessionEnd::LeaseExpired,
                    5 => SessionEnd::Killed,
                    other => return Err(unknown("session end", other)),
                };
                Fact::Ended { end, cpu_us: r.u64()?, max_rss: r.u64()? }
            }
            other => return Err(unknown("fact", other)),
        };
        let proof = Self {
            worker,
            incarnation,
            session,
            job,
            fact,
            at_us: r.u64()?,
            log_sequence: r.u64()?,
            log_previous: r.fixed()?,
        };
        r.finish()?;
        Ok(proof)
    }
}
