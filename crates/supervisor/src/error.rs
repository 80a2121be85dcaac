//! Why a supervisor doesn't start, and why a request is not carried out.

use crate::audit::AuditError;
use crate::authn::Denial;
use crate::config::ConfigError;
use crate::configuration::ConfigurationError;
use crate::dispatch::PinError;
use job::JobError;
use policy::Refusal;
use std::net::SocketAddr;
use std::path::PathBuf;
use store::StoreError;
use warrant::files::FileRule;

/// Why a supervisor doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "refusing to run as root: the supervisor needs no privilege (start it under an account of its own, or with `stead dev`)"
    )]
    Root,
    #[error("can't use {}: {error}", path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error("{} belongs to uid {owner}, not to the supervisor's own uid {own}: start it as its owner, or give it another --data", path.display())]
    NotOurs { path: PathBuf, owner: u32, own: u32 },
    #[error("{} can be read by others (mode {mode:o}): `chmod 600` it if nobody did, else remove it to have a new key made", path.display())]
    KeyReadable { path: PathBuf, mode: u32 },
    #[error("{} does not hold {digits} hexadecimal digits: restore it from a backup", path.display())]
    KeyMalformed { path: PathBuf, digits: usize },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(
        "the audit file {} ends at record {found}, but the store knows record {stored} of it: it was cut or put back; \
         restore it, or move it away to begin a new chain", path.display()
    )]
    AuditCut { path: PathBuf, found: u64, stored: u64 },
    #[error("--operator {name:?} is no login name: {reason}")]
    Operator { name: String, reason: warrant::NameError },
    #[error("[oidc] of the configuration can't be used: {0}")]
    Oidc(String),
    #[error("--listen {0:?} is no HOST:PORT")]
    Listen(String),
    #[error(
        "refusing to listen on {0}: plain HTTP is only for this machine, and there is no TLS yet (use 127.0.0.1 or ::1, \
         and a tunnel from elsewhere)"
    )]
    NotLoopback(SocketAddr),
    #[error("can't listen on {address}: {error} (choose another port with --listen, or 127.0.0.1:0 for any free one)")]
    Bind { address: SocketAddr, error: std::io::Error },
    #[error("{} answers: another supervisor runs on the same data", .0.display())]
    SocketInUse(PathBuf),
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    /// Also for what the caller may not see.
    #[error("there is no job {0} that you may see")]
    NoSuchJob(String),
    #[error("there is no worker {0:?}")]
    NoSuchWorker(String),
    #[error("there is no user {0:?} in the farm's table")]
    NoSuchUser(String),
    #[error("there is no account {0:?} of the farm's own")]
    NoSuchAccount(String),
    #[error("there is no grant {0} that you may see")]
    NoSuchGrant(u64),
    #[error("{0}")]
    Conflict(String),
    /// Also for somebody else's.
    #[error("there is no {kind} {id} of yours")]
    NoSuchCredential { kind: &'static str, id: String },
    #[error(transparent)]
    Denied(#[from] Denial),
    #[error("there is no such page")]
    NoSuchPage,
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// There is too little room on the disk to begin anything.
    #[error("{}", .0.text)]
    NoRoom(Refusal),
    /// Whoever would have to vouch for somebody doesn't answer.
    #[error("{0}")]
    ProviderDown(String),
    /// No session can do the file work now.
    #[error("{0}")]
    FilesAway(String),
    /// The account may not, or the file is none.
    #[error("{text}")]
    File { rule: FileRule, text: String },
    #[error("only an administrator may {0}")]
    AdminOnly(&'static str),
    #[error("that takes the scope {0}, which this token, or a process of a job, doesn't have")]
    Scope(&'static str),
    #[error("only an auditor or an administrator may read the audit")]
    AuditorOnly,
    #[error("the last good configuration holds, since the new one can't be taken:\n{0}")]
    Configuration(#[from] ConfigurationError),
    /// Not the worker it says it is, or not yet.
    #[error(transparent)]
    Worker(#[from] PinError),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error("{what}: {problem}")]
    Input { what: &'static str, problem: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl ServiceError {
    pub(crate) fn input(what: &'static str, problem: impl ToString) -> Self {
        Self::Input { what, problem: problem.to_string() }
    }
}
