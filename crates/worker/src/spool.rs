//! What must not be lost, on disk until the supervisor has it: one folder per session.
//!
//! * `meta`: what the session is, written before anything is launched.
//! * `reports`: one JSON line per report, with its number and the number of the session's event it came from.
//! * `log`: output as records of [`wire::log`].
//!
//! An event is acknowledged to its session only when it is here. After a `kill -9` the folder itself tells how far
//! it got: report lines carry event numbers, output carries offsets, and an environment's output, which has none
//! of its own, is announced by a mark in `reports` before it is written. So what a session sends again is neither
//! lost nor doubled. Nothing is forced to disk: a host that loses power has lost its sessions, too.

use crate::meaning;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use tokio::sync::watch;
use warrant::session_wire::{self, Event, Events};
use wire::log::{self, Record, Stream};
use wire::{Report, Task};

/// Attempts whose output may be open at once; a session runs one task after another.
const OPEN_MAX: usize = 1024;
/// How much of a log is looked at in one step; longer than any record.
pub(crate) const BLOCK: usize = 1 << 20;

/// What a session is. Written before anything is launched, so that a later worker knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) session: u64,
    pub(crate) job: u64,
    /// It removes the job's folder.
    pub(crate) clean: bool,
    /// Number of the first report here; above 1 when an earlier spool of this session was lost.
    pub(crate) first_report: u64,
    /// Where in the session's log segment the log here begins.
    pub(crate) log_base: u64,
    /// Desktop mode: process id and its start in clock ticks.
    pub(crate) process: Option<(i32, u64)>,
}

impl Meta {
    pub(crate) fn new(session: u64, job: u64) -> Self {
        Self { session, job, clean: false, first_report: 1, log_base: 0, process: None }
    }
}

/// How far the spool goes: what an uploader works towards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tail {
    /// Number of the last report.
    pub(crate) reports: u64,
    /// Bytes of `reports`.
    pub(crate) reports_len: u64,
    /// Bytes of `log`.
    pub(crate) log_len: u64,
    /// Nothing follows.
    pub(crate) over: bool,
}

/// A line of `reports`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Line<'a> {
    pub(crate) n: u64,
    /// The session's event it came from; 0 = none.
    pub(crate) e: u64,
    #[serde(borrow)]
    pub(crate) r: &'a RawValue,
}

/// The other kind of line: event `m` ends the environments' output at `end`, once that is in the log.
#[derive(Serialize, Deserialize)]
struct Mark {
    m: u64,
    end: u64,
}

/// And the third: event `e` was the session's last word.
#[derive(Serialize, Deserialize)]
struct Word {
    e: u64,
    leaving: String,
}

/// Why a session's words were not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AbsorbError {
    #[error("failed to write the spool: {0}")]
    Disk(#[from] io::Error),
    #[error("session broke the protocol: {0}")]
    Protocol(&'static str),
}

#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    pub(crate) meta: Meta,
    reports: File,
    log: File,
    tail: watch::Sender<Tail>,
    /// Last event taken in.
    seen: u64,
    /// Last event whose environment output is in the log.
    environment_seen: u64,
    environment_end: u64,
    /// Where the next output of an attempt that has not ended belongs.
    positions: HashMap<(Task, Stream), u64>,
    started: bool,
    /// The session's last word.
    leaving: Option<String>,
}

/// What one packet of events adds, worked out before anything is written.
#[derive(Default)]
struct Plan {
    marks: Vec<u8>,
    log: Vec<u8>,
    lines: Vec<u8>,
    reports: u64,
    environment_end: u64,
    positions: Vec<((Task, Stream), u64)>,
    ended: Vec<Task>,
    leaving: Option<String>,
}

impl Spool {
    /// A new folder for a session. One that is there already is taken over by [`Spool::open`], never by this.
    pub(crate) fn create(root: &Path, meta: Meta) -> io::Result<Self> {
        let dir = root.join(meta.session.to_string());
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        write_meta(&dir, &meta).and_then(|()| Self::open(&dir)).inspect_err(|_| {
            // Half a folder would be taken for a session by the next worker.
            let _ = fs::remove_dir_all(&dir);
        })
    }

    /// Takes over what an earlier worker left.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let meta: Meta = serde_json::from_slice(&fs::read(dir.join("meta"))?)?;
        let (reports, log) = (open_file(&dir.join("reports"))?, open_file(&dir.join("log"))?);
        let told = read_reports(&reports, meta.first_report)?;
        reports.set_len(told.len)?;
        let mut written = read_log(&log, meta.log_base)?;
        log.set_len(written.len)?;
        let marks = told.marks.iter().filter(|m| m.end <= written.environment_end);
        let environment_seen = marks.map(|m| m.m).max().unwrap_or(0);
        for task in &told.ended {
            written.positions.remove(&(*task, Stream::Stdout));
            written.positions.remove(&(*task, Stream::Stderr));
        }
        let tail = Tail { reports: told.last, reports_len: told.len, log_len: written.len, over: told.over };
        Ok(Self {
            dir: dir.to_owned(),
            meta,
            reports,
            log,
            tail: watch::Sender::new(tail),
            seen: told.seen,
            environment_seen,
            environment_end: written.environment_end,
            positions: written.positions,
            started: told.started,
            leaving: told.leaving,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Tail> {
        self.tail.subscribe()
    }

    /// The last event that may be acknowledged.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    pub(crate) fn started(&self) -> bool {
        // The start is the first report of all: a later spool begins after it.
        self.started || self.meta.first_report > 1
    }

    /// What the session said when it left.
    pub(crate) fn leaving(&self) -> Option<&str> {
        self.leaving.as_deref()
    }

    /// The last report of the session is here.
    pub(crate) fn over(&self) -> bool {
        self.tail.borrow().over
    }

    pub(crate) fn set_process(&mut self, process: (i32, u64)) -> io::Result<()> {
        self.meta.process = Some(process);
        write_meta(&self.dir, &self.meta)
    }

    /// Adds reports of the worker's own.
    pub(crate) fn add(&mut self, reports: &[Report]) -> io::Result<()> {
        let mut plan = Plan { reports: self.tail.borrow().reports, ..Plan::default() };
        for report in reports {
            plan.report(0, report)?;
        }
        self.append(&plan)?;
        let over = reports.iter().any(is_last);
        self.started |= reports.iter().any(|r| matches!(r, Report::Started { .. }));
        self.tail.send_modify(|t| t.over |= over);
        Ok(())
    }

    /// Takes in what a session sent. Nothing changes on an error, so that the same events can be tried again.
    pub(crate) fn absorb(&mut self, events: &Events) -> Result<(), AbsorbError> {
        if events.first == 0 {
            return Err(AbsorbError::Protocol("events are numbered from 1"));
        }
        let mut plan =
            Plan { reports: self.tail.borrow().reports, environment_end: self.environment_end, ..Plan::default() };
        let mut number = events.first;
        for event in &events.events {
            if number > self.seen {
                self.plan_event(&mut plan, number, event)?;
            }
            number = number.checked_add(1).ok_or(AbsorbError::Protocol("event numbers ran out"))?;
        }
        self.append(&plan)?;
        self.seen = self.seen.max(number - 1);
        self.environment_end = plan.environment_end;
        self.positions.extend(plan.positions);
        self.leaving = plan.leaving.or(self.leaving.take());
        for task in plan.ended {
            self.positions.remove(&(task, Stream::Stdout));
            self.positions.remove(&(task, Stream::Stderr));
        }
        Ok(())
    }

    fn plan_event(&self, plan: &mut Plan, number: u64, event: &Event) -> Result<(), AbsorbError> {
        match event {
            Event::Output { task, stream, offset, data } => {
                let stream = match stream {
                    session_wire::Stream::Stdout => Stream::Stdout,
                    session_wire::Stream::Stderr => Stream::Stderr,
                };
                self.plan_output(plan, (*task).into(), stream, *offset, data)
            }
            Event::EnvironmentOutput { data, .. } => {
                if number > self.environment_seen && !data.is_empty() {
                    plan.environment(number, data)?;
                }
                Ok(())
            }
            Event::Leaving { text } => Ok(plan.leave(number, text)?),
            other => {
                if let Event::TaskEnded { task, .. } = other {
                    plan.ended.push((*task).into());
                }
                match meaning::report(other) {
                    Some(report) => Ok(plan.report(number, &report)?),
                    None => Ok(()),
                }
            }
        }
    }

    /// Output that is in the log already is dropped: offsets make sending it again harmless.
    fn plan_output(
        &self,
        plan: &mut Plan,
        task: Task,
        stream: Stream,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AbsorbError> {
        let key = (task, stream);
        let planned = plan.positions.iter().rev().find(|(k, _)| *k == key).map(|(_, p)| *p);
        let have = planned.or_else(|| self.positions.get(&key).copied());
        if have.is_none() && self.positions.len() + plan.positions.len() >= OPEN_MAX {
            return Err(AbsorbError::Protocol("output of too many tasks at once"));
        }
        let end = offset.checked_add(data.len() as u64).ok_or(AbsorbError::Protocol("output offset ran out"))?;
        let from = have.unwrap_or(0).max(offset);
        let skip = usize::try_from(from - offset).unwrap_or(usize::MAX);
        let Some(fresh) = data.get(skip..).filter(|d| !d.is_empty()) else { return Ok(()) };
        log::write(&mut plan.log, &Record { task, stream, offset: from, data: fresh });
        plan.positions.push((key, end));
        Ok(())
    }

    /// Marks, then output, then reports: the order that recovery relies on.
    fn append(&mut self, plan: &Plan) -> io::Result<()> {
        let mut tail = *self.tail.borrow();
        tail.reports_len = append(&self.reports, tail.reports_len, &plan.marks)?;
        tail.log_len = append(&self.log, tail.log_len, &plan.log)?;
        tail.reports_len = append(&self.reports, tail.reports_len, &plan.lines)?;
        tail.reports = plan.reports;
        self.tail.send_if_modified(|t| std::mem::replace(t, tail) != tail);
        Ok(())
    }
}

impl Plan {
    fn report(&mut self, event: u64, report: &Report) -> io::Result<()> {
        self.reports += 1;
        let raw = serde_json::value::to_raw_value(report)?;
        push_line(&mut self.lines, &Line { n: self.reports, e: event, r: &raw })
    }

    fn leave(&mut self, event: u64, text: &str) -> io::Result<()> {
        self.leaving = Some(text.to_owned());
        push_line(&mut self.lines, &Word { e: event, leaving: text.to_owned() })
    }

    fn environment(&mut self, event: u64, data: &[u8]) -> io::Result<()> {
        let offset = self.environment_end;
        self.environment_end = offset.saturating_add(data.len() as u64);
        push_line(&mut self.marks, &Mark { m: event, end: self.environment_end })?;
        log::write(&mut self.log, &Record { task: NO_TASK, stream: Stream::Environment, offset, data });
        Ok(())
    }
}

/// What an environment prints belongs to the session, not to a task.
const NO_TASK: Task = Task { step: 0, index: 0, epoch: 0 };

/// The folders of a spool, by session. What is no spool is left alone.
pub(crate) fn list(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|n| n.parse::<u64>().is_ok()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Length of the whole records at the start of `bytes`, each shown to `each`.
pub(crate) fn whole_records<'a>(bytes: &'a [u8], mut each: impl FnMut(&Record<'a>)) -> usize {
    let mut rest = bytes;
    while let Some((record, after)) = log::read(rest) {
        each(&record);
        rest = after;
    }
    bytes.len() - rest.len()
}

fn is_last(report: &Report) -> bool {
    matches!(report, Report::Ended { .. } | Report::Refused { .. })
}

fn push_line<T: Serialize>(out: &mut Vec<u8>, line: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.push(b'\n');
    Ok(())
}

/// Writes at the known end, so that a failed attempt is overwritten by the next.
fn append(file: &File, len: u64, bytes: &[u8]) -> io::Result<u64> {
    file.write_all_at(bytes, len)?;
    Ok(len + bytes.len() as u64)
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn write_meta(dir: &Path, meta: &Meta) -> io::Result<()> {
    let fresh = dir.join("meta.new");
    fs::write(&fresh, serde_json::to_vec(meta)?)?;
    fs::rename(fresh, dir.join("meta"))
}

#[derive(Default)]
struct Told {
    len: u64,
    last: u64,
    seen: u64,
    started: bool,
    over: bool,
    marks: Vec<Mark>,
    ended: Vec<Task>,
    leaving: Option<String>,
}

/// Reads the report lines as far as they are whole.
fn read_reports(file: &File, first: u64) -> io::Result<Told> {
    let mut told = Told { last: first.saturating_sub(1), ..Told::default() };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 || line.last() != Some(&b'\n') || !told.take(&line) {
            return Ok(told);
        }
        told.len += line.len() as u64;
    }
}

impl Told {
    /// False at a line that is none of ours, or out of turn.
    fn take(&mut self, line: &[u8]) -> bool {
        if let Ok(mark) = serde_json::from_slice::<Mark>(line) {
            self.marks.push(mark);
            return true;
        }
        if let Ok(word) = serde_json::from_slice::<Word>(line) {
            self.seen = self.seen.max(word.e);
            self.leaving = Some(word.leaving);
            return true;
        }
        let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else { return false };
        let Ok(report) = serde_json::from_str::<Report>(line.r.get()) else { return false };
        if line.n != self.last + 1 {
            return false;
        }
        self.last = line.n;
        self.seen = self.seen.max(line.e);
        self.started |= matches!(report, Report::Started { .. });
        self.over |= is_last(&report);
        if let Report::TaskEnded { task, .. } = report {
            self.ended.push(task);
        }
        true
    }
}

#[derive(Default)]
struct Written {
    len: u64,
    environment_end: u64,
    positions: HashMap<(Task, Stream), u64>,
}

/// Reads the log as far as its records are whole.
fn read_log(file: &File, base: u64) -> io::Result<Written> {
    // A later part of a segment must not use offsets that an earlier one may have used.
    let mut written = Written { environment_end: base, ..Written::default() };
    let mut block = vec![0; BLOCK];
    loop {
        let got = read_block(file, &mut block, written.len)?;
        let Written { environment_end, positions, .. } = &mut written;
        let whole = whole_records(block.get(..got).unwrap_or_default(), |r| {
            let end = r.offset.saturating_add(r.data.len() as u64);
            if r.stream == Stream::Environment {
                *environment_end = end;
            } else {
                positions.insert((r.task, r.stream), end);
            }
        });
        if whole == 0 {
            return Ok(written);
        }
        written.len += whole as u64;
    }
}

/// Fills `block` from `offset` as far as the file goes.
pub(crate) fn read_block(file: &File, block: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while let Some(space) = block.get_mut(got..).filter(|s| !s.is_empty()) {
        match file.read_at(space, offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}
