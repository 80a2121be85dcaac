//! A batch: the tasks a session may run, resolved to the last argument and signed by the supervisor.
//!
//! Batches never pass through a root process. A session runs nothing that is not in a batch signed for it, for
//! this sequence number and before this deadline.

use crate::codec::{DecodeError, Reader, Writer};
use crate::sign::{Domain, PublicKey, SecretKey, Signed, VerifyError};
use crate::warrant::{unknown, version, write_version};

/// Most bytes of a signed batch.
pub const BATCH_MAX: usize = 64 << 20;
const ITEMS_MAX: usize = 1 << 20;
const FIELD_MAX: usize = 16 << 20;

/// A byte string of the operating system: an argument, a path, an environment value.
pub type OsBytes = Vec<u8>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub farm: [u8; 16],
    pub session: u64,
    /// 1, 2, 3 … within the session; each is run at most once.
    pub sequence: u64,
    pub job: u64,
    /// Boot-time clock of the host, in ms, after which no further item is started.
    pub not_after: u64,
    /// Laid over the account's environment for every item.
    pub env: Vec<(OsBytes, OsBytes)>,
    /// Where items run. `None` is the job's folder.
    pub cwd: Option<OsBytes>,
    /// Programs of the job's environments and tasks, written below the session's own folder before the first item.
    pub files: Vec<File>,
    pub items: Vec<Item>,
}

/// A file the session writes, as the account, before the items run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Relative to the session's folder `.stead/SESSION/` in the job's folder; no `..`, no leading `/`.
    pub path: OsBytes,
    pub data: Vec<u8>,
    pub executable: bool,
}

/// One thing to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub kind: ItemKind,
    pub argv: Vec<OsBytes>,
    /// Laid over the batch's environment.
    pub env: Vec<(OsBytes, OsBytes)>,
    /// Written before this item starts.
    pub files: Vec<File>,
    /// 0 = none. After it the item is cancelled like a kill, with `TimedOut` as its end.
    pub timeout_ms: u64,
    /// Between SIGTERM and SIGKILL when the item is cancelled; 0 = SIGKILL at once.
    pub grace_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemKind {
    /// An environment's `onEnter`: the `openjd_env` lines it prints hold until the `onExit` of the same name. When
    /// it fails, later tasks of the session are not started.
    Enter {
        name: String,
    },
    /// An environment's `onExit`, run also after failures.
    Exit {
        name: String,
    },
    Task(TaskRef),
}

/// Names an attempt: one try of one point of a step's parameter space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskRef {
    pub step: u32,
    pub index: u64,
    /// Counts the tries of this task from 1.
    pub epoch: u32,
}

impl Batch {
    #[must_use]
    pub fn sign(&self, key: &SecretKey) -> Signed {
        key.sign(Domain::Batch, self.encode())
    }

    /// The only way to get a batch out of received bytes.
    pub fn open(signed: &Signed, keys: &[PublicKey]) -> Result<Self, VerifyError> {
        Ok(Self::decode(signed.verify(Domain::Batch, keys)?)?)
    }

    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        write_version(&mut w);
        w.fixed(&self.farm).u64(self.session).u64(self.sequence).u64(self.job).u64(self.not_after);
        pairs(&mut w, &self.env);
        w.option(self.cwd.as_ref(), |w, p| {
            w.bytes(p);
        });
        w.list(&self.files, write_file);
        w.list(&self.items, |w, item| {
            match &item.kind {
                ItemKind::Enter { name } => {
                    w.u8(1).str(name);
                }
                ItemKind::Exit { name } => {
                    w.u8(2).str(name);
                }
                ItemKind::Task(task) => {
                    w.u8(3);
                    task.write(w);
                }
            }
            w.list(&item.argv, |w, a| {
                w.bytes(a);
            });
            pairs(w, &item.env);
            w.list(&item.files, write_file);
            w.u64(item.timeout_ms).u32(item.grace_ms);
        });
        w.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        version(&mut r)?;
        let batch = Self {
            farm: r.fixed()?,
            session: r.u64()?,
            sequence: r.u64()?,
            job: r.u64()?,
            not_after: r.u64()?,
            env: read_pairs(&mut r)?,
            cwd: r.option("cwd", |r| Ok(r.bytes("cwd", FIELD_MAX)?.to_vec()))?,
            files: r.list("files", ITEMS_MAX, read_file)?,
            items: r.list("items", ITEMS_MAX, |r| {
                let kind = match r.u8()? {
                    1 => ItemKind::Enter { name: r.str("environment", FIELD_MAX)? },
                    2 => ItemKind::Exit { name: r.str("environment", FIELD_MAX)? },
                    3 => ItemKind::Task(TaskRef::read(r)?),
                    other => return Err(unknown("item kind", other)),
                };
                Ok(Item {
                    kind,
                    argv: r.list("argv", ITEMS_MAX, |r| Ok(r.bytes("argument", FIELD_MAX)?.to_vec()))?,
                    env: read_pairs(r)?,
                    files: r.list("files", ITEMS_MAX, read_file)?,
                    timeout_ms: r.u64()?,
                    grace_ms: r.u32()?,
                })
            })?,
        };
        r.finish()?;
        Ok(batch)
    }
}

impl TaskRef {
    pub(crate) fn write(self, w: &mut Writer) {
        w.u32(self.step).u64(self.index).u32(self.epoch);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { step: r.u32()?, index: r.u64()?, epoch: r.u32()? })
    }
}

fn pairs(w: &mut Writer, pairs: &[(OsBytes, OsBytes)]) {
    w.list(pairs, |w, (k, v)| {
        w.bytes(k).bytes(v);
    });
}

fn read_pairs(r: &mut Reader<'_>) -> Result<Vec<(OsBytes, OsBytes)>, DecodeError> {
    r.list("environment", ITEMS_MAX, |r| {
        Ok((r.bytes("variable name", FIELD_MAX)?.to_vec(), r.bytes("variable value", FIELD_MAX)?.to_vec()))
    })
}

fn write_file(w: &mut Writer, file: &File) {
    w.bytes(&file.path).bytes(&file.data).bool(file.executable);
}

fn read_file(r: &mut Reader<'_>) -> Result<File, DecodeError> {
    Ok(File {
        path: r.bytes("file path", FIELD_MAX)?.to_vec(),
        data: r.bytes("file data", FIELD_MAX)?.to_vec(),
        executable: r.bool("executable")?,
    })
}
