//! The audit: one record per act of a person, per warrant and per session end, in a file where each record holds the
//! hash of the one before it.
//!
//! An act is acknowledged only after its record is on the disk; a writer of its own gathers what arrives meanwhile
//! into one `fdatasync`. Doesn't decide what is worth a record: `service` and `dispatch` do.

mod chain;

pub use chain::{Broken, verify};

use chain::Tail;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use tokio::sync::{mpsc, oneshot};
use warrant::{hex, sha256};

/// Longest text kept of one value; what is longer is cut and named by its hash.
const VALUE_MAX: usize = 512;

/// Why nothing can be recorded. Nothing is acknowledged then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    #[error("can't use the audit file {}: {error}", path.display())]
    File { path: PathBuf, error: String },
    #[error("the audit file {} is broken: {broken}", path.display())]
    Broken { path: PathBuf, broken: Broken },
    #[error("the audit file is not being written any more: {0}")]
    Stopped(String),
}

/// What happened, as it is written down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) act: &'static str,
    pub(crate) login_user: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) job: Option<u64>,
    pub(crate) details: Map<String, Value>,
}

impl Record {
    pub(crate) fn new(act: &'static str) -> Self {
        Self { act, ..Self::default() }
    }

    pub(crate) fn by(mut self, login_user: &str, user: &str) -> Self {
        self.login_user = Some(login_user.to_owned());
        self.user = Some(user.to_owned());
        self
    }

    pub(crate) fn job(mut self, job: u64) -> Self {
        self.job = Some(job);
        self
    }

    pub(crate) fn with(mut self, key: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or_else(|e| Value::String(format!("not recordable: {e}")));
        self.details.insert(key.to_owned(), capped(value));
        self
    }
}

/// Where a record is in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) chain: String,
    pub(crate) sequence: u64,
    pub(crate) hash: [u8; 32],
}

type Waiting = (Record, oneshot::Sender<Result<Written, AuditError>>);

/// The writer's front.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    to_writer: mpsc::Sender<Waiting>,
    tail: Written,
    #[cfg(test)]
    full: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Audit {
    /// As when there is no room on the disk, or there is again.
    #[cfg(test)]
    pub(crate) fn fill_for_tests(&self, is_full: bool) {
        self.full.store(is_full, std::sync::atomic::Ordering::SeqCst);
    }

    /// Opens the chain and starts its writer. A torn last line was never acknowledged and is cut off.
    pub(crate) fn open(path: &Path) -> Result<Self, AuditError> {
        let (file, tail) = chain::open(path)?;
        let (to_writer, from_front) = mpsc::channel(1024);
        let front = Self {
            to_writer,
            tail: tail.written(),
            #[cfg(test)]
            full: Default::default(),
        };
        let writer = Writer { file, tail, path: path.to_owned(), unsafe_to_go_on: false };
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(from_front))
            .map_err(|e| AuditError::Stopped(e.to_string()))?;
        Ok(front)
    }

    /// Where the chain stood when it was opened.
    pub(crate) fn opened_at(&self) -> &Written {
        &self.tail
    }

    /// Returns when the record is on the disk.
    pub(crate) async fn write(&self, record: Record) -> Result<Written, AuditError> {
        #[cfg(test)]
        if self.full.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(AuditError::File { path: "chain".into(), error: "no space left".to_owned() });
        }
        let stopped = || AuditError::Stopped("its writer has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        self.to_writer.send((record, reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

struct Writer {
    file: File,
    tail: Tail,
    path: PathBuf,
    unsafe_to_go_on: bool,
}

impl Writer {
    /// Ends with its front, or when a sync fails: after that nobody knows what is on the disk.
    fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut group = vec![first];
            while let Ok(next) = waiting.try_recv() {
                group.push(next);
            }
            let (records, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
            let result = self.append(&records).map_err(|error| {
                tracing::error!(%error, path = %self.path.display(), "the audit can't be written");
                AuditError::File { path: self.path.clone(), error: error.to_string() }
            });
            for (n, reply) in replies.into_iter().enumerate() {
                // Whoever asked may have gone away; the record stands.
                let _ = reply.send(result.as_ref().map(|written| written[n].clone()).map_err(Clone::clone));
            }
            if self.unsafe_to_go_on {
                return;
            }
        }
    }

    /// All records or none: what a full disk cut off is taken back, so that the chain goes on when there is room.
    fn append(&mut self, records: &[Record]) -> std::io::Result<Vec<Written>> {
        let before = (self.file.metadata()?.len(), self.tail.clone());
        let mut bytes = Vec::new();
        let mut written = Vec::new();
        for record in records {
            self.tail.push(record, &mut bytes)?;
            written.push(self.tail.written());
        }
        if let Err(error) = self.file.write_all(&bytes) {
            self.unsafe_to_go_on = self.file.set_len(before.0).is_err();
            self.tail = before.1;
            return Err(error);
        }
        self.unsafe_to_go_on = true;
        self.file.sync_data()?;
        self.unsafe_to_go_on = false;
        Ok(written)
    }
}

fn capped(value: Value) -> Value {
    match value {
        Value::String(s) if s.len() > VALUE_MAX => Value::String(format!(
            "{}… ({} bytes, sha256 {})",
            &s[..s.floor_char_boundary(VALUE_MAX)],
            s.len(),
            hex(&sha256(&[s.as_bytes()]))
        )),
        Value::Array(list) => Value::Array(list.into_iter().map(capped).collect()),
        Value::Object(map) => Value::Object(map.into_iter().map(|(k, v)| (k, capped(v))).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn three(path: &Path) -> Vec<Written> {
        let audit = Audit::open(path).expect("open");
        let mut written = Vec::new();
        for n in 0..3u64 {
            let record = Record::new("submit").by("ada", "bob").job(n).with("name", "line\nbreak \u{1b}[31m");
            written.push(audit.write(record).await.expect("written"));
        }
        written
    }

    #[tokio::test]
    async fn a_chain_goes_on_where_it_ended() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("chain");
        let first = three(&path).await;
        let second = three(&path).await;
        assert_eq!(first.iter().chain(&second).map(|w| w.sequence).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
        assert!(first.iter().chain(&second).all(|w| w.chain == first[0].chain));
        assert_eq!(verify(&path).expect("whole").0, 7);
        let text = std::fs::read_to_string(&path).expect("text");
        assert_eq!(text.lines().count(), 7, "a value never breaks a line");
    }

    #[tokio::test]
    async fn every_changed_byte_shows() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("chain");
        three(&path).await;
        let good = std::fs::read(&path).expect("bytes");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).expect("write");
            assert!(verify(&path).is_err(), "byte {at} ({:?}) can be changed", good[at] as char);
        }
        let lines: Vec<&[u8]> = good.split_inclusive(|b| *b == b'\n').collect();
        std::fs::write(&path, [lines[0], lines[2], lines[3]].concat()).expect("write");
        assert!(verify(&path).is_err(), "a record was taken out");
        std::fs::write(&path, [lines[0], lines[2], lines[1], lines[3]].concat()).expect("write");
        assert!(verify(&path).is_err(), "two records were exchanged");
    }

    #[tokio::test]
    async fn a_torn_last_line_is_cut_and_a_broken_one_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("chain");
        three(&path).await;
        let good = std::fs::read(&path).expect("bytes");
        std::fs::write(&path, &good[..good.len() - 5]).expect("write");
        assert_eq!(Audit::open(&path).expect("cut").opened_at().sequence, 3);
        assert_eq!(verify(&path).expect("whole").0, 3);
        let mut bad = good.clone();
        let at = bad.len() - 100;
        bad[at] ^= 1;
        std::fs::write(&path, &bad).expect("write");
        assert!(matches!(Audit::open(&path), Err(AuditError::Broken { .. })));
    }

    #[test]
    fn long_values_are_cut_and_named() {
        let record = Record::new("x").with("argv", ["ü".repeat(1000), "short".to_owned()]);
        let argv = record.details["argv"].as_array().expect("array");
        let cut = argv[0].as_str().expect("text");
        assert!(cut.len() < 700 && cut.contains("(2000 bytes, sha256 "), "{cut}");
        assert_eq!(argv[1], "short");
    }
}
