//! Records of what was done while there was no room for them. They stand in a file whose blocks are there from the
//! start, so that neither a full disk nor the supervisor's end loses them, until the chain has them. Writes no chain.

use super::act::{Act, Outcome};
use super::record::{Actor, Record};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Room for some thousand records.
const SIZE: usize = 1 << 20;
/// An act takes no longer. What came of one that did is not known.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    record: Record,
    is_settled: bool,
    since: Instant,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Record(Box<Kept>),
    Settled { ticket: u64, outcome: Outcome, why: Option<String> },
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    ticket: u64,
    is_settled: bool,
    act: String,
    outcome: Outcome,
    actor: Actor,
    run_as: Option<String>,
    policy_version: Option<String>,
    job: Option<u64>,
    object: Option<String>,
    details: Map<String, Value>,
    happened: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Spool {
    /// None: there was no room for it either.
    file: Option<File>,
    /// How far it is written.
    len: usize,
    waiting: Vec<Waiting>,
    next: u64,
}

impl Spool {
    /// Opens the file, or makes it, and returns what a former supervisor left in it.
    pub(super) fn open(path: &Path) -> (Self, Vec<Record>) {
        let mut spool = Self { file: None, len: 0, waiting: Vec::new(), next: 1 };
        match room(path) {
            Ok((file, text)) => {
                spool.file = Some(file);
                let left = left_in(&text);
                spool.len = text.len();
                (spool, left)
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "what waits for room on the disk is in memory only");
                (spool, Vec::new())
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Keeps a record and returns its ticket; `None` when there is no room for it.
    pub(super) fn keep(&mut self, record: Record, is_settled: bool) -> Option<u64> {
        let ticket = self.next;
        let line = line(&Entry::Record(Box::new(kept(ticket, is_settled, &record))))?;
        self.append(&line)?;
        self.next += 1;
        self.waiting.push(Waiting { ticket, record, is_settled, since: Instant::now() });
        Some(ticket)
    }

    /// Says what came of an act whose record waits here.
    pub(super) fn settle(&mut self, ticket: u64, why: Option<String>) {
        let Some(waiting) = self.waiting.iter_mut().find(|w| w.ticket == ticket) else { return };
        let outcome = if why.is_none() { Outcome::Ok } else { Outcome::Failed };
        waiting.is_settled = true;
        waiting.record = settled(waiting.record.clone(), outcome, why.as_deref());
        let line = line(&Entry::Settled { ticket, outcome, why });
        if line.and_then(|line| self.append(&line)).is_none() {
            tracing::error!(ticket, "what came of an act that is not in the audit yet is known in memory only");
        }
    }

    /// What can be written now: all of which the outcome is known, or will not be known any more.
    pub(super) fn ripe(&self, at: Instant, all: bool) -> Vec<Record> {
        self.waiting.iter().filter(|w| all || w.is_ripe(at)).map(Waiting::as_record).collect()
    }

    /// The chain has what was ripe at that time. What can't be taken out of the file is there twice after another start,
    /// and says so.
    pub(super) fn written(&mut self, at: Instant, all: bool) {
        self.waiting.retain(|w| !all && !w.is_ripe(at));
        let lines =
            self.waiting.iter().filter_map(|w| line(&Entry::Record(Box::new(kept(w.ticket, false, &w.record)))));
        let text: Vec<u8> = lines.flatten().collect();
        self.len = 0;
        if self.append(&text).is_none() {
            tracing::error!("records are in the audit that its file of waiting ones still has");
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len + bytes.len();
        if end >= SIZE {
            return None;
        }
        if let Some(file) = &self.file {
            let mut ended = bytes.to_vec();
            ended.push(0);
            let written = file.write_all_at(&ended, self.len as u64).and_then(|()| file.sync_data());
            if let Err(error) = written {
                tracing::error!(%error, "what waits for room on the disk can't be kept");
                return None;
            }
        }
        self.len = end;
        Some(())
    }
}

impl Waiting {
    fn is_ripe(&self, at: Instant) -> bool {
        self.is_settled || at.saturating_duration_since(self.since) >= PATIENCE
    }

    fn as_record(&self) -> Record {
        if self.is_settled { self.record.clone() } else { settled(self.record.clone(), Outcome::Unknown, None) }
    }
}

/// A record of something else than an intent says itself what came of it.
fn settled(record: Record, outcome: Outcome, why: Option<&str>) -> Record {
    if record.outcome != Outcome::Intent {
        return record;
    }
    record.outcome(outcome).with("why", why)
}

fn kept(ticket: u64, is_settled: bool, record: &Record) -> Kept {
    let Record { act, outcome, actor, run_as, policy_version, job, object, details, happened } = record.clone();
    let act = act.as_str().to_owned();
    Kept { ticket, is_settled, act, outcome, actor, run_as, policy_version, job, object, details, happened }
}

fn line(entry: &Entry) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(entry).ok()?;
    line.push(b'\n');
    Some(line)
}

/// The file with all its blocks, and what is written in it.
fn room(path: &Path) -> io::Result<(File, Vec<u8>)> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let meta = file.metadata()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    text.truncate(text.iter().position(|b| *b == 0).unwrap_or(text.len()));
    if meta.len() < SIZE as u64 || meta.blocks() * 512 < SIZE as u64 {
        let rest = vec![0; SIZE.saturating_sub(text.len())];
        // Written, not only promised: a block that was never written may need room to be.
        file.write_all_at(&rest, text.len() as u64)?;
        file.sync_all()?;
    }
    Ok((file, text))
}

/// The records of a former supervisor, with what is known of their outcome. A torn last line was never acknowledged.
fn left_in(text: &[u8]) -> Vec<Record> {
    let mut left: Vec<(u64, bool, Record)> = Vec::new();
    for line in text.split_inclusive(|b| *b == b'\n') {
        match serde_json::from_slice::<Entry>(line) {
            Ok(Entry::Record(kept)) => left.extend(record(*kept)),
            Ok(Entry::Settled { ticket, outcome, why }) => {
                for (_, is_settled, record) in left.iter_mut().filter(|(of, ..)| *of == ticket) {
                    *is_settled = true;
                    *record = settled(record.clone(), outcome, why.as_deref());
                }
            }
            Err(error) => tracing::error!(%error, "a line of the audit's waiting records is torn"),
        }
    }
    let late = "at a later start; there may be an earlier record";
    let whole = |(_, is_settled, record): (u64, bool, Record)| {
        let record = if is_settled { record } else { settled(record, Outcome::Unknown, None) };
        record.with("recorded", late)
    };
    left.into_iter().map(whole).collect()
}

fn record(kept: Kept) -> Option<(u64, bool, Record)> {
    let Kept { ticket, is_settled, act, outcome, actor, run_as, policy_version, job, object, details, happened } = kept;
    let Some(act) = Act::parse(&act) else {
        tracing::error!(act, "an act of the audit's waiting records is not known to this version");
        return None;
    };
    let record = Record { act, outcome, actor, run_as, policy_version, job, object, details, happened };
    Some((ticket, is_settled, record))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(job: u64) -> Record {
        Record::intent(Act::Kill, Actor::default()).job(job)
    }

    fn jobs(records: &[Record]) -> Vec<(Option<u64>, Outcome)> {
        records.iter().map(|r| (r.job, r.outcome)).collect()
    }

    /// Writing takes time: what became ripe meanwhile is not in the chain.
    #[test]
    fn what_ripens_while_others_are_written_waits() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("later");
        let (mut spool, _) = Spool::open(&path);
        let settled = spool.keep(kill(1), false).expect("kept");
        spool.keep(kill(2), false).expect("kept");
        spool.settle(settled, None);
        let now = Instant::now();
        assert_eq!(jobs(&spool.ripe(now, false)), [(Some(1), Outcome::Ok)]);
        for waiting in &mut spool.waiting {
            waiting.since -= PATIENCE;
        }
        // As it was looked at before the other was ripe.
        spool.written(now - PATIENCE, false);
        assert_eq!(jobs(&spool.ripe(now, false)), [(Some(2), Outcome::Unknown)]);
        spool.written(now, false);
        assert_eq!((spool.len(), Spool::open(&path).1.len()), (0, 0));
    }
}
