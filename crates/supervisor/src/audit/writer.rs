//! The one writer of the audit: groups, checkpoints, new files when one is full, and what waits for room.

use super::act::{Act, Outcome};
use super::anchor::{Anchor, AnchorTo};
use super::fold::Fold;
use super::ledger::{Backwards, Ledger, Stem};
use super::line::{Line, Of, Tail, fixed};
use super::record::Record;
use super::seal::Seal;
use super::spool::Spool;
use super::state::State;
use super::{AuditError, Broken, Written};
use crate::clock;
use serde_json::json;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use warrant::hex;

/// A checkpoint is due after so many records, or so long after a record. Half of the minute that may be lost, so that
/// one that fails can be tried again.
const CHECKPOINT_RECORDS: u64 = 4096;
const CHECKPOINT_AFTER: Duration = Duration::from_secs(30);
/// What failed for want of room is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);
/// How far back intents without an end are looked for.
const LOOK_BACK: usize = 20_000;
/// And before a good end.
const LOOK_BACK_ENDED: usize = 1000;

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) anchor: Option<AnchorTo>,
    /// A file is full when it has so many bytes.
    pub(crate) file_max: u64,
}

/// An intent of which the files don't say what became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) sequence: u64,
    pub(crate) hash: [u8; 32],
    act: String,
    login_user: Option<String>,
    user: Option<String>,
    job: Option<u64>,
}

impl Open {
    /// What is written when the store doesn't know it either.
    pub(crate) fn unknown(&self) -> Record {
        let mut record = Record::new(Act::OutcomeUnknown).outcome(Outcome::Unknown);
        if let (Some(login), Some(user)) = (&self.login_user, &self.user) {
            record = record.by(login, user);
        }
        if let Some(job) = self.job {
            record = record.job(job);
        }
        record.with("of", self.sequence).with("act", &self.act)
    }
}

/// The audit as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Where the chain stood.
    pub(crate) at: Written,
    /// Since the last start, unless the supervisor ended well.
    pub(crate) open: Vec<Open>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Folds,
    /// May be written later, when it is known what came of it.
    Later,
    /// May be written later.
    Whenever,
}

/// Where a record is.
#[derive(Debug)]
pub(super) enum Kept {
    Written(Written),
    Counted,
    /// With this ticket it waits for room.
    Later(u64),
}

pub(super) type Reply = oneshot::Sender<Result<Kept, AuditError>>;

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) record: Record,
    pub(super) kind: Kind,
    pub(super) reply: Reply,
}

#[derive(Debug)]
pub(super) enum Message {
    Write(Box<Waiting>),
    /// What came of an act whose record waits.
    Settle {
        ticket: u64,
        why: Option<String>,
    },
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) struct Writer {
    chain: Ledger,
    proxied: Ledger,
    seal: Seal,
    anchor: Option<Anchor>,
    file_max: u64,
    fold: Fold,
    later: Spool,
    again: Option<Instant>,
    /// Records that no checkpoint signs yet, and since when there are any.
    unsigned: u64,
    unsigned_since: Option<Instant>,
    unsafe_to_go_on: bool,
    pub(super) grown: watch::Sender<()>,
    pub(super) state: State,
    #[cfg(test)]
    pub(super) full: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

/// What the end of the chain says, back to its last checkpoint and its last start.
struct End {
    named: [u8; 32],
    unsigned: u64,
    open: Vec<Open>,
    /// Since the last checkpoint, the oldest first, with their bytes.
    proxied: Vec<(Line, Vec<u8>)>,
    proxied_signed: Tail,
}

impl Writer {
    pub(super) fn open(dir: &Path, options: &Options) -> Result<(Self, Found), AuditError> {
        let (chain, key) = (Stem::chain(dir), dir.join("key"));
        let (chain, seal) = match Ledger::open(&chain)? {
            Some(ledger) => (ledger, None),
            None => {
                let seal = Seal::begin(&key)?;
                let ledger = Ledger::begin(&chain, |_| Record::new(Act::Begin).with("key", seal.public()))?;
                tracing::info!(
                    chain = ledger.name(),
                    key = seal.public(),
                    "a new audit chain begins; keep its first key elsewhere"
                );
                (ledger, Some(seal))
            }
        };
        let end = read_end(&chain)?;
        let seal = match seal {
            Some(seal) => seal,
            None => Seal::open(&key, &end.named)?,
        };
        let proxied = open_proxied(&Stem::proxied(dir), &chain, &end)?;
        let mut anchor = options.anchor.as_ref().map(Anchor::new);
        if let Some(anchor) = &mut anchor {
            // A wrong setting is found now, not by whoever misses a record.
            let line = anchor_line(&chain, "open", chain.tail(), &json!({ "key": seal.public() }));
            let failed = anchor.put(line).err();
            let path = anchor.path().to_owned();
            failed.map_or(Ok(()), |e| Err(AuditError::Anchor { path, error: e.to_string() }))?;
        }
        let (later, left) = Spool::open(&dir.join("later"));
        let mut writer = Self {
            chain,
            proxied,
            seal,
            anchor,
            file_max: options.file_max,
            fold: Fold::default(),
            later,
            again: None,
            unsigned: end.unsigned,
            unsigned_since: Some(Instant::now()).filter(|_| end.unsigned > 0),
            unsafe_to_go_on: false,
            grown: watch::Sender::new(()),
            state: State::default(),
            #[cfg(test)]
            full: Default::default(),
        };
        let open = writer.catch_up(left, end.open)?;
        let at = written(&writer.chain, writer.chain.tail());
        Ok((writer, Found { at, open }))
    }

    /// Writes what a former supervisor had no room for; returns the intents of which it doesn't say what became.
    fn catch_up(&mut self, left: Vec<Record>, mut open: Vec<Open>) -> Result<Vec<Open>, AuditError> {
        if left.is_empty() {
            return Ok(open);
        }
        self.append(&left, false).map_err(|error| self.failed(&error))?;
        self.later.written(Instant::now(), true);
        let of = |record: &Record| record.details.get("of").and_then(serde_json::Value::as_u64);
        let settled: HashSet<u64> = left.iter().filter(|r| r.act == Act::NotDone).filter_map(of).collect();
        open.retain(|open| !settled.contains(&open.sequence));
        Ok(open)
    }

    /// Ends with its front, or when a sync fails: after that nobody knows what is on the disk.
    pub(super) fn run(mut self, waiting: mpsc::Receiver<Message>) {
        self.state.stands(self.chain.tail().sequence);
        match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(self.serve(waiting)),
            Err(error) => tracing::error!(%error, "the audit's writer doesn't start"),
        }
        self.state.ended();
    }

    async fn serve(&mut self, mut waiting: mpsc::Receiver<Message>) {
        while !self.unsafe_to_go_on {
            let first = match self.due() {
                None => waiting.recv().await,
                Some(at) => match tokio::time::timeout_at(at.into(), waiting.recv()).await {
                    Ok(first) => first,
                    Err(_) => {
                        self.on_time();
                        continue;
                    }
                },
            };
            let Some(mut message) = first else { return };
            let mut group = Vec::new();
            let closing = loop {
                match message {
                    Message::Write(one) => group.push(*one),
                    Message::Settle { ticket, why } => self.later.settle(ticket, why),
                    Message::Close(reply) => break Some(reply),
                }
                match waiting.try_recv() {
                    Ok(next) => message = next,
                    Err(_) => break None,
                }
            };
            self.take(group);
            if let Some(reply) = closing {
                self.end();
                let _ = reply.send(());
                return;
            }
            if self.due().is_some_and(|at| at <= Instant::now()) {
                self.on_time();
            }
        }
    }

    /// Writes a group and tells everybody; what can wait waits.
    fn take(&mut self, group: Vec<Waiting>) {
        let now = Instant::now();
        let mut standing = Vec::new();
        for one in group {
            if one.kind == Kind::Folds && self.fold.counts(&one.record, now) {
                let _ = one.reply.send(Ok(Kept::Counted));
            } else {
                standing.push(one);
            }
        }
        if standing.is_empty() {
            return;
        }
        let (records, replies): (Vec<_>, Vec<_>) = standing.into_iter().map(|w| (w.record, (w.kind, w.reply))).unzip();
        let result = self.append(&records, false).map_err(|error| self.failed(&error));
        for (n, (record, (kind, reply))) in records.into_iter().zip(replies).enumerate() {
            let answer = match &result {
                Ok(written) => Ok(Kept::Written(written[n].clone())),
                Err(error) => self.keep_for_later(&record, kind).map(Kept::Later).ok_or_else(|| error.clone()),
            };
            if kind == Kind::Folds {
                let sequence = result.as_ref().ok().map(|written| written[n].sequence);
                self.fold.stands(&record, sequence);
            }
            // Whoever asked may have gone away; the record stands.
            let _ = reply.send(answer);
        }
    }

    fn keep_for_later(&mut self, record: &Record, kind: Kind) -> Option<u64> {
        let is_settled = match kind {
            Kind::Plain | Kind::Folds => return None,
            Kind::Later => false,
            Kind::Whenever => true,
        };
        let (act, job) = (record.act.as_str(), record.job);
        let record = Record { happened: Some(clock::now()), ..record.clone() };
        let ticket = self.later.keep(record, is_settled)?;
        self.state.waits(self.later.len());
        tracing::warn!(act, job, "it will be recorded when there is room");
        self.again.get_or_insert_with(|| Instant::now() + AGAIN);
        Some(ticket)
    }

    fn failed(&self, error: &io::Error) -> AuditError {
        let path = self.chain.path();
        tracing::error!(%error, path = %path.display(), "the audit can't be written");
        AuditError::file(&path, error)
    }

    /// When something has to be done without being asked.
    fn due(&self) -> Option<Instant> {
        let signing = self.unsigned_since.map(|since| match self.unsigned {
            0..CHECKPOINT_RECORDS => since + CHECKPOINT_AFTER,
            _ => since,
        });
        [self.again, signing.filter(|_| self.again.is_none()), self.fold.next()].into_iter().flatten().min()
    }

    fn on_time(&mut self) {
        self.again = None;
        let now = Instant::now();
        let mut records = self.later.ripe(now, false);
        let late = records.len();
        records.extend(self.fold.over(now, false));
        if !records.is_empty() && self.append(&records, false).is_err() {
            // What was counted is not lost either.
            for counted in records.split_off(late) {
                self.keep_for_later(&counted, Kind::Whenever);
            }
            self.again = Some(now + AGAIN);
            return;
        }
        if late > 0 {
            self.later.written(now, false);
        }
        self.state.waits(self.later.len());
        if self.later.len() > 0 {
            self.again = Some(now + AGAIN);
        }
        let is_due = self.unsigned >= CHECKPOINT_RECORDS
            || self.unsigned_since.is_some_and(|since| now.duration_since(since) >= CHECKPOINT_AFTER);
        if is_due && let Err(error) = self.checkpoint() {
            tracing::error!(%error, "the audit could not be signed");
            self.again = Some(now + AGAIN);
        }
        if let Some(anchor) = self.anchor.as_mut().filter(|anchor| anchor.waits()) {
            match anchor.retry() {
                Ok(()) => self.state.anchored(clock::now()),
                Err(error) => {
                    tracing::error!(%error, to = %anchor.path().display(), "the audit's anchor can't be reached");
                    self.again = Some(now + AGAIN);
                }
            }
        }
        if self.chain.len() >= self.file_max || self.proxied.len() >= self.file_max {
            self.rotate();
        }
    }

    fn end(&mut self) {
        let now = Instant::now();
        let mut records = self.later.ripe(now, true);
        let late = records.len();
        records.extend(self.fold.over(now, true));
        records.push(Record::new(Act::Stop));
        let ended = self.append(&records, false);
        if ended.is_ok() && late > 0 {
            self.later.written(now, true);
        }
        if let Err(error) = ended.and_then(|_| self.checkpoint()) {
            tracing::error!(%error, "the audit was not ended well: the next start will look at its last records");
        }
        if let Some(anchor) = self.anchor.as_mut().filter(|a| a.waits())
            && let Err(error) = anchor.retry()
        {
            tracing::error!(%error, to = %anchor.path().display(), "the audit's last checkpoint has not reached its anchor");
        }
    }

    /// All records or none, in both files.
    fn append(&mut self, records: &[Record], signed: bool) -> io::Result<Vec<Written>> {
        let appended = self.append_all(records, signed);
        match &appended {
            Ok(_) => self.state.stands(self.chain.tail().sequence),
            Err(_) => self.state.failed(),
        }
        appended
    }

    fn append_all(&mut self, records: &[Record], signed: bool) -> io::Result<Vec<Written>> {
        #[cfg(test)]
        if self.full.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let prepared = self.push(records, signed);
        let stored = prepared.and_then(|written| {
            self.chain.write()?;
            self.proxied.write()?;
            Ok(written)
        });
        let written = match stored {
            Ok(written) => written,
            Err(error) => {
                let undone = [self.chain.undo(), self.proxied.undo()];
                self.unsafe_to_go_on = undone.iter().any(Result::is_err);
                return Err(error);
            }
        };
        self.unsafe_to_go_on = true;
        self.chain.sync()?;
        self.proxied.sync()?;
        self.unsafe_to_go_on = false;
        self.grown.send_replace(());
        self.unsigned += records.len() as u64;
        self.unsigned_since.get_or_insert_with(Instant::now);
        // Not before those who wait are told.
        if self.chain.len() >= self.file_max || self.proxied.len() >= self.file_max {
            self.again.get_or_insert_with(Instant::now);
        }
        Ok(written)
    }

    fn push(&mut self, records: &[Record], signed: bool) -> io::Result<Vec<Written>> {
        let now = clock::now();
        let key = signed.then(|| self.seal.key());
        records
            .iter()
            .map(|record| {
                let tail = self.chain.push(record, now, None, key.as_ref())?;
                if record.is_proxied() {
                    let of = Of { seq: tail.sequence, hash: hex(&tail.hash) };
                    self.proxied.push(record, now, Some(&of), None)?;
                }
                Ok(written(&self.chain, tail))
            })
            .collect()
    }

    /// Signs all that is there, and forgets the key.
    fn checkpoint(&mut self) -> io::Result<()> {
        if self.unsigned == 0 {
            return Ok(());
        }
        // Afterwards the keys change whether there is room on the disk or not.
        self.seal.prepare()?;
        let proxied = self.proxied.tail();
        let (key, next) = (self.seal.public(), self.seal.next_public());
        let record = Record::new(Act::Checkpoint)
            .with("chain", self.chain.name())
            .with("key", &key)
            .with("next", &next)
            .with("proxied", json!({ "seq": proxied.sequence, "hash": hex(&proxied.hash) }));
        self.append(&[record], true)?;
        self.state.signed(clock::now());
        (self.unsigned, self.unsigned_since) = (0, None);
        // If this fails, nothing is signed any more: the key would have signed twice.
        self.unsafe_to_go_on = true;
        self.seal.advance()?;
        self.unsafe_to_go_on = false;
        if let Some(anchor) = &mut self.anchor {
            let line = anchor_line(&self.chain, "checkpoint", self.chain.tail(), &json!({ "key": key, "next": next }));
            match anchor.put(line) {
                Ok(()) => self.state.anchored(clock::now()),
                Err(error) => {
                    tracing::error!(%error, to = %anchor.path().display(), "the audit's anchor can't be reached");
                    self.again.get_or_insert_with(|| Instant::now() + AGAIN);
                }
            }
        }
        Ok(())
    }

    fn rotate(&mut self) {
        for ledger in [&mut self.chain, &mut self.proxied] {
            if ledger.len() < self.file_max {
                continue;
            }
            match ledger.rotate() {
                Ok(()) => {
                    self.unsigned += 1;
                    self.unsigned_since.get_or_insert_with(Instant::now);
                }
                Err(error) => {
                    tracing::error!(%error, path = %ledger.path().display(), "the audit goes on in a file that is full");
                    self.file_max = self.file_max.saturating_mul(2);
                }
            }
        }
    }
}

fn written(chain: &Ledger, tail: Tail) -> Written {
    Written { chain: chain.name().to_owned(), sequence: tail.sequence, hash: tail.hash }
}

fn anchor_line(chain: &Ledger, what: &str, tail: Tail, more: &serde_json::Value) -> String {
    let mut line = json!({
        "stead_audit": what,
        "chain": chain.name(),
        "seq": tail.sequence,
        "hash": hex(&tail.hash),
        "time": clock::rfc3339(clock::now()),
    });
    if let (Some(line), Some(more)) = (line.as_object_mut(), more.as_object()) {
        line.extend(more.clone());
    }
    line.to_string()
}

fn broken(path: PathBuf, what: String) -> AuditError {
    AuditError::Broken { path, broken: Broken { line: 0, what } }
}

/// Reads the chain from its end: to the last checkpoint for the key and for `proxied`, to the last start for intents.
fn read_end(chain: &Ledger) -> Result<End, AuditError> {
    let failed = |e: io::Error| AuditError::file(&chain.path(), &e);
    let files = chain.stem().files().map_err(failed)?;
    let mut end =
        End { named: [0; 32], unsigned: 0, open: Vec::new(), proxied: Vec::new(), proxied_signed: Tail::START };
    let (mut named, mut settled, mut expected) = (None, HashSet::new(), chain.tail());
    let (mut asked_enough, mut look_back) = (false, LOOK_BACK);
    for (n, bytes) in Backwards::new(files).enumerate() {
        let bytes = bytes.map_err(failed)?;
        let line = Line::read(&bytes).map_err(|bad| {
            broken(chain.path(), format!("record {}, {n} before the last: {}", expected.sequence, bad.what))
        })?;
        if line.tail() != expected {
            let what = format!("record {} doesn't follow the one before it", expected.sequence + 1);
            return Err(broken(chain.path(), what));
        }
        expected = Tail { sequence: line.seq.saturating_sub(1), hash: line.previous };
        if named.is_none() {
            if line.is(Act::Checkpoint) || line.is(Act::Begin) {
                let key = line.text(if line.is(Act::Begin) { "key" } else { "next" }).and_then(fixed);
                let what = || broken(chain.path(), format!("record {} names no key", line.seq));
                named = Some(key.ok_or_else(what)?);
                end.proxied_signed = signed_tail(&line).unwrap_or(Tail::START);
            } else {
                end.unsigned += 1;
                if line.is_proxied() {
                    end.proxied.push((line.clone(), bytes));
                }
            }
        }
        if !asked_enough {
            if line.is(Act::Stop) {
                look_back = look_back.min(n + LOOK_BACK_ENDED);
            }
            asked_enough = line.is(Act::Start) || line.is(Act::Begin) || n >= look_back;
            if line.is(Act::NotDone) || line.is(Act::OutcomeUnknown) {
                settled.extend(line.details.get("of").and_then(serde_json::Value::as_u64));
            }
            if line.outcome == "intent" && !settled.contains(&line.seq) {
                end.open.push(Open {
                    sequence: line.seq,
                    hash: line.hash,
                    act: line.act,
                    login_user: line.login_user,
                    user: line.user,
                    job: line.job,
                });
            }
        }
        if asked_enough && named.is_some() {
            break;
        }
    }
    end.named = named.ok_or_else(|| broken(chain.path(), "it has no beginning: files of it are missing".to_owned()))?;
    end.open.reverse();
    end.proxied.reverse();
    Ok(end)
}

/// What a checkpoint says of `proxied`.
pub(super) fn signed_tail(line: &Line) -> Option<Tail> {
    let proxied = line.details.get("proxied")?;
    Some(Tail { sequence: proxied.get("seq")?.as_u64()?, hash: fixed(proxied.get("hash")?.as_str()?)? })
}

/// Opens the file of proxied operations, and adds what the chain has since the last checkpoint and it has not: the
/// supervisor died between the two.
fn open_proxied(stem: &Stem, chain: &Ledger, end: &End) -> Result<Ledger, AuditError> {
    let begin = || Ledger::begin(stem, |_| Record::new(Act::Begin).with("of_chain", chain.name()));
    let mut ledger = match Ledger::open(stem)? {
        Some(ledger) => ledger,
        None => begin()?,
    };
    let signed = end.proxied_signed;
    if ledger.tail().sequence < signed.sequence {
        let what = format!(
            "it ends at record {}, but the last checkpoint of the chain signs record {} of it: it was cut or put back",
            ledger.tail().sequence,
            signed.sequence
        );
        return Err(broken(stem.path(), what));
    }
    let failed = |e: io::Error| AuditError::file(&stem.path(), &e);
    let mut has = HashSet::new();
    for bytes in Backwards::new(stem.files().map_err(failed)?) {
        let line = Line::read(&bytes.map_err(failed)?).map_err(|bad| broken(stem.path(), bad.what))?;
        if line.seq <= signed.sequence {
            break;
        }
        has.extend(line.of.map(|of| of.seq));
    }
    for (line, bytes) in end.proxied.iter().filter(|(line, _)| !has.contains(&line.seq)) {
        let of = Of { seq: line.seq, hash: hex(&line.hash) };
        ledger.push_copy(bytes, &of).map_err(failed)?;
    }
    ledger.commit().map_err(failed)?;
    Ok(ledger)
}
