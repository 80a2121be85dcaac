//! What a worker and the launcher say to each other on the launcher's SEQPACKET socket.
//!
//! The launcher checks the peer's uid with the kernel; the worker may ask for nothing that a warrant signed for
//! this host does not allow. Each request has an answer with the same id; `Ended` comes unasked. A proof may be
//! larger than a packet, so it is passed as a sealed memfd.

use crate::codec::{DecodeError, Reader, Writer};
use crate::secret::SEALING_KEY_MAX;
use crate::session_wire::TEXT_MAX;
use crate::sign::Signed;
use crate::warrant::{Incarnation, WARRANT_MAX, unknown};

const WELCOME_WITH_KEY: u8 = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToLauncher {
    Hello {
        id: u32,
    },
    /// A signed [`crate::Warrant`].
    Launch {
        id: u32,
        warrant: Signed,
    },
    /// A new duplicate of the channel of a living session.
    Attach {
        id: u32,
        session: u64,
    },
    /// End every process of the session now.
    Kill {
        id: u32,
        session: u64,
    },
    /// A signed [`crate::Renewal`].
    Renew {
        id: u32,
        renewal: Signed,
    },
    /// The end of this session is stored: forget it.
    Forget {
        id: u32,
        session: u64,
    },
}

/// Whose fault a refusal is: decides what becomes of the job (architecture §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// The account itself is refused (expired, locked): `badlogin`.
    BadLogin,
    /// Unknown here, or another uid than expected: this (worker, account) pair is excluded.
    Account,
    /// `launcher.conf` of this host says no: the pair is excluded.
    LocalPolicy,
    /// Directory down, process limit: try again later, no retry burnt.
    Transient,
    /// A stage of the launch failed: `launch_failed:<stage>`.
    Stage,
    /// The warrant is void: older than the launcher's start, used, addressed elsewhere, or not signed by us.
    Warrant,
}

impl RefusalKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadLogin => "bad_login",
            Self::Account => "account",
            Self::LocalPolicy => "local_policy",
            Self::Transient => "transient",
            Self::Stage => "stage",
            Self::Warrant => "warrant",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const ALL: [RefusalKind; 6] = [
            RefusalKind::BadLogin,
            RefusalKind::Account,
            RefusalKind::LocalPolicy,
            RefusalKind::Transient,
            RefusalKind::Stage,
            RefusalKind::Warrant,
        ];
        ALL.into_iter().find(|k| k.as_str() == text)
    }
}

/// What this host can do for sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostAbilities {
    /// Whole trees are killed through a cgroup.
    pub cgroup_kill: bool,
    pub cgroup_memory: bool,
    pub cgroup_cpu: bool,
    pub cgroup_pids: bool,
    /// The launcher runs in `host` mode and has a throwaway account.
    pub throwaway: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromLauncher {
    Welcome {
        id: u32,
        incarnation: Incarnation,
        /// Boot-time clock now, in ms.
        tick: u64,
        host_key: [u8; 32],
        abilities: HostAbilities,
        /// A signed [`crate::SealingKeyOf`], on a host that logs accounts on with their passwords (`requires_password` in
        /// `launcher.conf`): what these are sealed for, in this life.
        sealing_key: Option<Signed>,
        /// Living sessions and those whose end was not yet forgotten.
        sessions: Vec<u64>,
    },
    /// Descriptors: the session's channel, then a memfd with the signed proof.
    Launched {
        id: u32,
        session: u64,
    },
    /// Nothing was executed. Descriptor: a memfd with the signed proof, absent for `Warrant` refusals.
    Refused {
        id: u32,
        session: u64,
        kind: RefusalKind,
        stage: String,
        errno: i32,
        text: String,
        hint: String,
    },
    /// Descriptors: the session's channel, then a memfd with the signed proof of its start.
    Attached {
        id: u32,
        session: u64,
    },
    Done {
        id: u32,
    },
    /// No living session of that number.
    NoSession {
        id: u32,
        session: u64,
    },
    /// Descriptor: a memfd with the signed proof. Repeated at each `Hello` until forgotten.
    Ended {
        session: u64,
    },
}

impl ToLauncher {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Hello { id } => {
                w.u8(1).u32(*id);
            }
            Self::Launch { id, warrant } => {
                w.u8(2).u32(*id);
                warrant.write(&mut w);
            }
            Self::Attach { id, session } => {
                w.u8(3).u32(*id).u64(*session);
            }
            Self::Kill { id, session } => {
                w.u8(4).u32(*id).u64(*session);
            }
            Self::Renew { id, renewal } => {
                w.u8(5).u32(*id);
                renewal.write(&mut w);
            }
            Self::Forget { id, session } => {
                w.u8(6).u32(*id).u64(*session);
            }
        }
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let kind = r.u8()?;
        let id = r.u32()?;
        let message = match kind {
            1 => Self::Hello { id },
            2 => Self::Launch { id, warrant: Signed::read(&mut r, WARRANT_MAX)? },
            3 => Self::Attach { id, session: r.u64()? },
            4 => Self::Kill { id, session: r.u64()? },
            5 => Self::Renew { id, renewal: Signed::read(&mut r, 1024)? },
            6 => Self::Forget { id, session: r.u64()? },
            other => return Err(unknown("request", other)),
        };
        r.finish()?;
        Ok(message)
    }
}

impl FromLauncher {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Welcome { id, incarnation, tick, host_key, abilities, sealing_key, sessions } => {
                // A welcome without a key is written as in the first release.
                w.u8(if sealing_key.is_some() { WELCOME_WITH_KEY } else { 1 })
                    .u32(*id)
                    .fixed(incarnation)
                    .u64(*tick)
                    .fixed(host_key);
                w.bool(abilities.cgroup_kill).bool(abilities.cgroup_memory).bool(abilities.cgroup_cpu);
                w.bool(abilities.cgroup_pids).bool(abilities.throwaway);
                if let Some(key) = sealing_key {
                    key.write(&mut w);
                }
                w.list(sessions, |w, s| {
                    w.u64(*s);
                });
            }
            Self::Launched { id, session } => {
                w.u8(2).u32(*id).u64(*session);
            }
            Self::Refused { id, session, kind, stage, errno, text, hint } => {
                w.u8(3).u32(*id).u64(*session).str(kind.as_str()).str(stage).i32(*errno).str(text).str(hint);
            }
            Self::Attached { id, session } => {
                w.u8(4).u32(*id).u64(*session);
            }
            Self::Done { id } => {
                w.u8(5).u32(*id);
            }
            Self::NoSession { id, session } => {
                w.u8(6).u32(*id).u64(*session);
            }
            Self::Ended { session } => {
                w.u8(7).u64(*session);
            }
        }
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let message = match r.u8()? {
            kind @ (1 | WELCOME_WITH_KEY) => Self::Welcome {
                id: r.u32()?,
                incarnation: r.fixed()?,
                tick: r.u64()?,
                host_key: r.fixed()?,
                abilities: HostAbilities {
                    cgroup_kill: r.bool("cgroup_kill")?,
                    cgroup_memory: r.bool("cgroup_memory")?,
                    cgroup_cpu: r.bool("cgroup_cpu")?,
                    cgroup_pids: r.bool("cgroup_pids")?,
                    throwaway: r.bool("throwaway")?,
                },
                sealing_key: (kind == WELCOME_WITH_KEY).then(|| Signed::read(&mut r, SEALING_KEY_MAX)).transpose()?,
                sessions: r.list("sessions", 4096, Reader::u64)?,
            },
            2 => Self::Launched { id: r.u32()?, session: r.u64()? },
            3 => Self::Refused {
                id: r.u32()?,
                session: r.u64()?,
                kind: RefusalKind::parse(&r.str("refusal kind", 32)?)
                    .ok_or(DecodeError::Unknown { field: "refusal kind", value: 0 })?,
                stage: r.str("stage", TEXT_MAX)?,
                errno: r.i32()?,
                text: r.str("text", TEXT_MAX)?,
                hint: r.str("hint", TEXT_MAX)?,
            },
            4 => Self::Attached { id: r.u32()?, session: r.u64()? },
            5 => Self::Done { id: r.u32()? },
            6 => Self::NoSession { id: r.u32()?, session: r.u64()? },
            7 => Self::Ended { session: r.u64()? },
            other => return Err(unknown("answer", other)),
        };
        r.finish()?;
        Ok(message)
    }
}
