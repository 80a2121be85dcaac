//! The audit: one record per act of a person, per warrant and per session end, in files where each record holds the
//! hash of the one before it.
//!
//! `chain` has every record, in the one order there is. Operations in another's name (the login user is not the user)
//! stand in `proxied` besides, a chain of its own whose records name their place in the first. An act is acknowledged
//! only after its record is on the disk, in both where it belongs in both; a writer of its own gathers what arrives
//! meanwhile into one `fdatasync` per file. Checkpoints sign all that is before them. Doesn't decide what is worth a
//! record: `service` and `dispatch` do.

mod act;
mod anchor;
mod fold;
mod launches;
mod ledger;
mod line;
mod read;
mod record;
mod seal;
mod spool;
mod state;
mod verify;
mod writer;

pub(crate) use act::{Act, Outcome};
pub use anchor::AnchorTo;
pub use launches::verify_launches;
pub(crate) use ledger::Stem;
pub(crate) use line::Line;
pub(crate) use read::{Filter, Reader, last};
pub(crate) use record::{Actor, Record};
pub(crate) use state::State;
pub use verify::{Finding, Options as VerifyOptions, Report, verify_dir, verify_files};
pub(crate) use writer::{Found, Options};

use std::path::{Path, PathBuf};
use store::AuditRef;
use tokio::sync::{mpsc, oneshot, watch};
use writer::{Kept, Kind, Message, Waiting, Writer};

/// Why nothing can be recorded. Nothing is acknowledged then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    #[error("can't use the audit file {}: {error}", path.display())]
    File { path: PathBuf, error: String },
    #[error("no space left for the audit file {}: free some; nothing was done", path.display())]
    Full { path: PathBuf },
    #[error("the audit file {} is broken: {broken}; restore it, or move the whole audit folder away to begin a new chain", path.display())]
    Broken { path: PathBuf, broken: Broken },
    #[error(
        "the audit's key {} is not the one that its last checkpoint names: the chain was cut, or either was put back; \
         restore both, or move the whole audit folder away to begin a new chain", .0.display()
    )]
    Sealed(PathBuf),
    #[error("the audit's anchor can't be reached at {}: {error} (setting audit_anchor)", path.display())]
    Anchor { path: PathBuf, error: String },
    #[error("the audit file is not being written any more: {0}")]
    Stopped(String),
}

impl AuditError {
    fn file(path: &Path, error: &std::io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::File { path, error: error.to_string() },
        }
    }

    /// Room on the disk would help.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

/// Where a chain doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", at_line(*.line))]
pub struct Broken {
    pub line: u64,
    pub what: String,
}

fn at_line(line: u64) -> String {
    if line == 0 { String::new() } else { format!("line {line}: ") }
}

/// Where a record is in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) chain: String,
    pub(crate) sequence: u64,
    pub(crate) hash: [u8; 32],
}

/// An act that is on record and may now be done.
#[derive(Debug)]
pub(crate) struct Intent {
    pub(crate) written: Written,
    act: Act,
    actor: Actor,
    job: Option<u64>,
}

impl Intent {
    /// For the store's transaction.
    pub(crate) fn reference(&self) -> AuditRef {
        let Written { chain, sequence, hash } = self.written.clone();
        AuditRef { chain, sequence, hash }
    }

    /// That it was not done.
    pub(crate) fn not_done(&self, outcome: Outcome, why: impl ToString) -> Record {
        let record = Record::done(Act::NotDone, self.actor.clone()).outcome(outcome);
        let record = record.with("of", self.written.sequence).with("act", self.act.as_str());
        let record = record.with("why", why.to_string());
        match self.job {
            Some(job) => record.job(job),
            None => record,
        }
    }
}

/// How the intent of what only ends something is kept.
#[derive(Debug)]
pub(crate) enum Ending {
    Recorded(Intent),
    Later(Late),
}

impl Ending {
    pub(crate) fn reference(&self) -> Option<AuditRef> {
        match self {
            Self::Recorded(intent) => Some(intent.reference()),
            Self::Later(_) => None,
        }
    }
}

/// A record that waits for room on the disk.
#[derive(Debug)]
pub(crate) struct Late {
    ticket: u64,
}

/// The writer's front.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    to_writer: mpsc::Sender<Message>,
    dir: PathBuf,
    grown: watch::Receiver<()>,
    state: State,
    #[cfg(test)]
    full: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Audit {
    /// As when there is no room on the disk, or there is again.
    #[cfg(test)]
    pub(crate) fn fill_for_tests(&self, is_full: bool) {
        self.full.store(is_full, std::sync::atomic::Ordering::SeqCst);
    }

    /// Opens the files in `dir` and starts their writer. A torn last line was never acknowledged and is cut off.
    pub(crate) fn open(dir: &Path, options: &Options) -> Result<(Self, Found), AuditError> {
        let (writer, found) = Writer::open(dir, options)?;
        #[cfg(test)]
        let full = writer.full.clone();
        let grown = writer.grown.subscribe();
        let state = writer.state.clone();
        let (to_writer, from_front) = mpsc::channel(1024);
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(from_front))
            .map_err(|e| AuditError::Stopped(e.to_string()))?;
        let front = Self {
            to_writer,
            dir: dir.to_owned(),
            grown,
            state,
            #[cfg(test)]
            full,
        };
        Ok((front, found))
    }

    /// How its writer is doing.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Changes with every group of records.
    pub(crate) fn grown(&self) -> watch::Receiver<()> {
        self.grown.clone()
    }

    /// Returns when the record is on the disk.
    pub(crate) async fn write(&self, record: Record) -> Result<Written, AuditError> {
        match self.send(record, Kind::Plain).await? {
            Kept::Written(written) => Ok(written),
            Kept::Counted | Kept::Later(_) => Err(AuditError::Stopped("a record was left out".to_owned())),
        }
    }

    /// The same for what is done afterwards.
    pub(crate) async fn intent(&self, record: Record) -> Result<Intent, AuditError> {
        let (act, actor, job) = (record.act, record.actor.clone(), record.job);
        Ok(Intent { written: self.write(record).await?, act, actor, job })
    }

    /// A refusal: the first one is written, the same again within a minute only counted.
    pub(crate) async fn refusal(&self, record: Record) -> Result<(), AuditError> {
        self.send(record, Kind::Folds).await.map(|_| ())
    }

    /// For what must be possible even without room on the disk, because it only ends something: it is written as soon
    /// as there is room, and [`Audit::settle`] has said what came of it.
    pub(crate) async fn intent_or_later(&self, record: Record) -> Result<Ending, AuditError> {
        let (act, actor, job) = (record.act, record.actor.clone(), record.job);
        match self.send(record, Kind::Later).await? {
            Kept::Written(written) => Ok(Ending::Recorded(Intent { written, act, actor, job })),
            Kept::Later(ticket) => Ok(Ending::Later(Late { ticket })),
            Kept::Counted => Err(AuditError::Stopped("a record was left out".to_owned())),
        }
    }

    /// What came of an act whose record waits; `why` it was not done.
    pub(crate) async fn settle(&self, late: Late, why: Option<String>) {
        // A writer that has ended has the record in its file; the next start says that nobody knows.
        let _ = self.to_writer.send(Message::Settle { ticket: late.ticket, why }).await;
    }

    /// What has happened already and is written as soon as there is room.
    pub(crate) async fn write_or_later(&self, record: Record) -> Result<(), AuditError> {
        self.send(record, Kind::Whenever).await.map(|_| ())
    }

    /// Writes what is counted and waits, signs it, and ends the writer.
    pub(crate) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.to_writer.send(Message::Close(reply)).await.is_ok() {
            // Without an answer it had ended already, and said why.
            let _ = answer.await;
        }
    }

    async fn send(&self, record: Record, kind: Kind) -> Result<Kept, AuditError> {
        let stopped = || AuditError::Stopped("its writer has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { record, kind, reply };
        self.to_writer.send(Message::Write(Box::new(waiting))).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

#[cfg(test)]
mod tests;
