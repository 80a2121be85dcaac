//! What can go wrong, one variant per cause, each with what would change it.

use std::path::PathBuf;
use std::sync::Arc;

use job::TransitionError;

use crate::cell::BadRow;

/// Cloned to everybody whose change was in a transaction that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("the data of {} is in use by process {}: end that one first, or use another --data", .path.display(), pid_text(*.pid))]
    InUse { path: PathBuf, pid: Option<u32> },
    #[error("can't write {}: the directory or file is read-only for this account", .path.display())]
    ReadOnly { path: PathBuf },
    #[error("no space left for {}: free some; nothing of this change was stored, and it can be repeated", .path.display())]
    DiskFull { path: PathBuf },
    #[error("{} is damaged ({detail}): restore it from a backup", .path.display())]
    Corrupt { path: PathBuf, detail: String },
    #[error("{} is no store of this program: another file was meant, or it was overwritten", .path.display())]
    NotAStore { path: PathBuf },
    #[error("{} was written by a newer version (schema {found}, this version knows {known}): use that version", .path.display())]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    #[error("the schema of {} (version {version}) was changed by hand or by another build: restore it from a backup", .path.display())]
    ChangedSchema { path: PathBuf, version: i64 },
    #[error("can't open {}: {source}", .path.display())]
    Open { path: PathBuf, source: Arc<std::io::Error> },
    #[error("failed to read or write {}: {detail}", .path.display())]
    Storage { path: PathBuf, detail: String },
    #[error("the password can't be sealed, for the system has no random bytes: nothing was stored; try again")]
    NotSealed,
    #[error("the store is closed")]
    Closed,
    #[error("there is no job {0}")]
    NoSuchJob(u64),
    #[error("job {job} has no step {step}")]
    NoSuchStep { job: u64, step: u32 },
    #[error("step {step} of job {job} has no task {index}: it has {tasks}, counted from 0")]
    NoSuchTask { job: u64, step: u32, index: u64, tasks: u64 },
    #[error("there is no session {0}")]
    NoSuchSession(u64),
    #[error("user {0} was changed by somebody else at the same time: look again, then say it again")]
    ChangedMeanwhile(String),
    #[error("there is no grant {0}")]
    NoSuchGrant(u64),
    #[error(transparent)]
    BadRow(#[from] BadRow),
    #[error("there is no worker {0:?}")]
    NoSuchWorker(String),
    #[error("session {session} belongs to worker {owner:?}, not to {worker:?}")]
    NotYours { session: u64, owner: String, worker: String },
    #[error(transparent)]
    NotPossible(#[from] TransitionError),
    #[error("job {job} is over as a whole ({state}): its tasks can't be retried singly")]
    JobIsOver { job: u64, state: job::JobState },
    #[error("job {job} is over ({state}): nothing of it can be changed any more; submit it again")]
    Over { job: u64, state: job::JobState },
    #[error("job {0} has not ended: kill it first")]
    NotEnded(u64),
    #[error("job {0} was removed: it goes as soon as its folders are gone; submit it again")]
    Removed(u64),
    #[error("a job needs at least one step")]
    NoSteps,
    #[error("step {name:?} has no tasks: give its parameter space at least one point")]
    EmptyStep { name: String },
    #[error("step {name:?} can't depend on step number {on}: there is none, or the two wait for each other")]
    BadDependency { name: String, on: u32 },
    #[error("{what} of {value} is more than the store can count")]
    TooLarge { what: &'static str, value: u64 },
    #[error(
        "row {row} of the table {table} took the last number there is, and none is given twice: nothing can be added there"
    )]
    NoNumbers { table: &'static str, row: i64 },
    #[error("the audit record {sequence} of chain {chain:?} is stored already: two writers use one chain")]
    AuditTaken { chain: String, sequence: u64 },
    #[error("the store holds {value:?} as {what}, which this version doesn't know")]
    Unknown { what: &'static str, value: String },
    #[error("the database refused a statement: {0}")]
    Database(#[source] Arc<sqlx::Error>),
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(|| "(unknown)".into(), |p| p.to_string())
}

impl StoreError {
    /// The store itself is in trouble, not the request: later it may work.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::InUse { .. }
                | Self::ReadOnly { .. }
                | Self::DiskFull { .. }
                | Self::Corrupt { .. }
                | Self::Open { .. }
                | Self::Storage { .. }
                | Self::Closed
        )
    }
}

impl From<sqlx::Error> for StoreError {
    /// `dialect::explain` makes a cause of it.
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}
