//! The warrant: a decision of the policy, signed by the supervisor, for one session on one worker.

use crate::codec::{DecodeError, Reader, Writer};
use crate::names::{AccountName, LoginUser, NAME_MAX, User};
use crate::secret::BOX_MAX;
use crate::sign::{Domain, PublicKey, SecretKey, Signed, VerifyError};

/// Format of the signed bytes. A reader refuses every other.
const VERSION: u8 = 1;
/// A warrant with a sealed password. One without is written as ever, so that launchers of the first release take it.
const WITH_PASSWORD: u8 = 2;
/// Most bytes of a warrant: root reads no more.
pub const WARRANT_MAX: usize = 4096;

/// A launcher's life: drawn at its start, so that every older warrant is void after a restart.
pub type Incarnation = [u8; 16];

/// How a worker picks the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Service mode, `proxy_execution_mode = user`.
    User,
    /// Service mode, `proxy_execution_mode = proxy`.
    Proxy,
    /// Desktop user mode: the person who owns the worker.
    Desktop,
}

impl Mode {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Proxy => "proxy",
            Self::Desktop => "desktop",
        }
    }

    /// The inverse of [`Mode::as_str`]. Anything else is no mode.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::User, Self::Proxy, Self::Desktop].into_iter().find(|m| m.as_str() == text)
    }
}

/// What the session may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Run tasks of the job.
    Run,
    /// Do file work that the supervisor asks for in signed requests ([`crate::files`]); never a command.
    Read,
    /// Remove what is beneath the job's folder; root then removes the emptied folder itself.
    Clean,
}

/// The account the warrant asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// Looked up by name on the host; refused when `uid` is given and differs.
    Named { name: AccountName, uid: Option<u32> },
    /// The unallocated id that a launcher in `host` mode chose for its folder. Carries no number.
    Throwaway,
}

/// What the kernel is to enforce on the whole session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes; 0 = none asked for.
    pub memory: u64,
    /// Thousandths of a core; 0 = none asked for.
    pub cpu_milli: u32,
    /// Processes and threads; 0 = the launcher's default.
    pub pids: u32,
}

/// What the supervisor allows one worker's launcher to start, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warrant {
    pub farm: [u8; 16],
    /// The addressee.
    pub worker: String,
    pub incarnation: Incarnation,
    /// Used at most once within the incarnation.
    pub sequence: u64,
    /// Boot-time clock of the host, in ms, after which the launcher no longer accepts it.
    pub not_after: u64,
    /// Boot-time clock of the host, in ms, at which the shepherd ends the session unless it was renewed.
    pub lease_until: u64,
    pub purpose: Purpose,
    pub session: u64,
    pub job: u64,
    pub login_user: LoginUser,
    pub user: User,
    pub account: Account,
    pub mode: Mode,
    /// Several login users share the account: the session gets its own PID namespace and private `/tmp`.
    pub shared: bool,
    pub grant: Option<u64>,
    pub policy_version: [u8; 32],
    pub limits: Limits,
    /// File mode creation mask of the session, at most 0o777.
    pub umask: u32,
    /// Room for the submitter's own signature over the submission; empty today.
    pub submitter_signature: Vec<u8>,
    /// The account's password, sealed for the launcher in the context of this warrant ([`Warrant::password_context`]).
    pub password: Option<Vec<u8>>,
}

impl Warrant {
    /// Signs the exact bytes a launcher will read.
    #[must_use]
    pub fn sign(&self, key: &SecretKey) -> Signed {
        key.sign(Domain::Warrant, self.encode())
    }

    /// The only way to get a warrant out of received bytes: check the signature, then read what was signed.
    pub fn open(signed: &Signed, keys: &[PublicKey]) -> Result<Self, VerifyError> {
        Ok(Self::decode(signed.verify(Domain::Warrant, keys)?)?)
    }

    /// What a password is sealed for: this account, in this session, by this life of this worker's launcher, once. So a box
    /// that is taken out of one warrant opens in no other.
    #[must_use]
    pub fn password_context(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.fixed(b"stead warrant's password 1\0").fixed(&self.farm).str(&self.worker).fixed(&self.incarnation);
        w.u64(self.sequence).u64(self.session).u64(self.job);
        match &self.account {
            Account::Named { name, .. } => w.str(name.as_str()),
            Account::Throwaway => w.str(""),
        };
        w.into_bytes()
    }

    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(if self.password.is_some() { WITH_PASSWORD } else { VERSION })
            .fixed(&self.farm)
            .str(&self.worker)
            .fixed(&self.incarnation);
        w.u64(self.sequence).u64(self.not_after).u64(self.lease_until);
        w.u8(match self.purpose {
            Purpose::Run => 1,
            Purpose::Read => 2,
            Purpose::Clean => 3,
        });
        w.u64(self.session).u64(self.job);
        w.str(self.login_user.as_str()).str(self.user.as_str());
        match &self.account {
            Account::Named { name, uid } => {
                w.u8(1).str(name.as_str()).option(uid.as_ref(), |w, uid| {
                    w.u32(*uid);
                });
            }
            Account::Throwaway => {
                w.u8(2);
            }
        }
        w.u8(match self.mode {
            Mode::User => 1,
            Mode::Proxy => 2,
            Mode::Desktop => 3,
        });
        w.bool(self.shared).option(self.grant.as_ref(), |w, id| {
            w.u64(*id);
        });
        w.fixed(&self.policy_version);
        w.u64(self.limits.memory).u32(self.limits.cpu_milli).u32(self.limits.pids);
        w.u32(self.umask).bytes(&self.submitter_signature);
        if let Some(password) = &self.password {
            w.bytes(password);
        }
        w.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let with_password = match r.u8()? {
            VERSION => false,
            WITH_PASSWORD => true,
            other => return Err(unknown("version", other)),
        };
        let warrant = Self {
            farm: r.fixed()?,
            worker: r.str("worker", NAME_MAX)?,
            incarnation: r.fixed()?,
            sequence: r.u64()?,
            not_after: r.u64()?,
            lease_until: r.u64()?,
            purpose: match r.u8()? {
                1 => Purpose::Run,
                2 => Purpose::Read,
                3 => Purpose::Clean,
                other => return Err(unknown("purpose", other)),
            },
            session: r.u64()?,
            job: r.u64()?,
            login_user: name(&mut r, "login user", LoginUser::parse)?,
            user: name(&mut r, "user", User::parse)?,
            account: match r.u8()? {
                1 => Account::Named {
                    name: name(&mut r, "account", AccountName::parse)?,
                    uid: r.option("uid", Reader::u32)?,
                },
                2 => Account::Throwaway,
                other => return Err(unknown("account kind", other)),
            },
            mode: match r.u8()? {
                1 => Mode::User,
                2 => Mode::Proxy,
                3 => Mode::Desktop,
                other => return Err(unknown("mode", other)),
            },
            shared: r.bool("shared")?,
            grant: r.option("grant", Reader::u64)?,
            policy_version: r.fixed()?,
            limits: Limits { memory: r.u64()?, cpu_milli: r.u32()?, pids: r.u32()? },
            umask: match r.u32()? {
                m if m <= 0o777 => m,
                m => return Err(DecodeError::Unknown { field: "umask", value: u64::from(m) }),
            },
            submitter_signature: r.bytes("submitter signature", 512)?.to_vec(),
            password: with_password.then(|| r.bytes("password", BOX_MAX).map(<[u8]>::to_vec)).transpose()?,
        };
        r.finish()?;
        Ok(warrant)
    }
}

/// The supervisor's word that a session's lease goes on: what moves the shepherd's deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    pub farm: [u8; 16],
    pub worker: String,
    pub session: u64,
    /// Boot-time clock of the host, in ms.
    pub lease_until: u64,
}

impl Renewal {
    #[must_use]
    pub fn sign(&self, key: &SecretKey) -> Signed {
        let mut w = Writer::new();
        w.u8(VERSION).fixed(&self.farm).str(&self.worker).u64(self.session).u64(self.lease_until);
        key.sign(Domain::Renewal, w.into_bytes())
    }

    pub fn open(signed: &Signed, keys: &[PublicKey]) -> Result<Self, VerifyError> {
        let mut r = Reader::new(signed.verify(Domain::Renewal, keys)?);
        version(&mut r)?;
        let renewal =
            Self { farm: r.fixed()?, worker: r.str("worker", NAME_MAX)?, session: r.u64()?, lease_until: r.u64()? };
        r.finish()?;
        Ok(renewal)
    }
}

pub(crate) fn version(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    match r.u8()? {
        VERSION => Ok(()),
        other => Err(unknown("version", other)),
    }
}

pub(crate) fn write_version(w: &mut Writer) {
    w.u8(VERSION);
}

pub(crate) fn unknown(field: &'static str, value: u8) -> DecodeError {
    DecodeError::Unknown { field, value: u64::from(value) }
}

fn name<T>(
    r: &mut Reader<'_>,
    field: &'static str,
    parse: impl FnOnce(&str) -> Result<T, crate::names::NameError>,
) -> Result<T, DecodeError> {
    // The character set was checked before signing; a name that fails it here was never ours.
    parse(&r.str(field, NAME_MAX)?).map_err(|_| DecodeError::Unknown { field, value: 0 })
}
