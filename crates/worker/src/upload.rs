//! Brings one session's spool to the supervisor: in order, again and again until it is acknowledged.
//!
//! The log goes ahead of the reports, so that whoever sees that a task has ended can read what it printed; a log
//! that can't be brought doesn't hold the reports up for long. Reads the spool's files itself, so memory does not grow with
//! what is waiting.

use crate::backoff::Backoff;
use crate::endpoint::{Endpoint, Poster, PosterError};
use crate::pace::Pace;
use crate::spool::{self, BLOCK, Line, Tail, whole_records};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fs::File;
use std::io;
use std::path::Path;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::{Keep, Reported};

/// Most reports in one request.
const GROUP: usize = 1000;
/// Pieces of the log that go ahead of a group of reports.
const AHEAD: usize = 4;
/// Most bytes of a piece: each costs the supervisor two syncs.
const PIECE: usize = 4 << 20;

/// What goes at once, whatever went before it: a piece of this size is worth its syncs.
const WORTH_IT: u64 = 1 << 20;
/// As much for reports: about a thousand of them.
const WORTH_IT_REPORTS: u64 = 128 << 10;

/// How often in a row the log may fail before the reports go without it; about two seconds.
const HOLD: u32 = 5;

/// Why a piece was not acknowledged.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error("failed to read the spool: {0}")]
    Spool(#[from] io::Error),
    #[error(transparent)]
    Poster(#[from] PosterError),
    #[error("supervisor answered {0}: {1}")]
    Answer(StatusCode, String),
    #[error("supervisor's answer can't be read: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("supervisor has {have} bytes of the log, which can't be joined to bytes {base} to {end} here")]
    LogGap { have: u64, base: u64, end: u64 },
}

#[derive(Debug)]
pub(crate) struct Uploader {
    session: u64,
    worker: String,
    first_report: u64,
    log_base: u64,
    reports: File,
    log: File,
    poster: Poster,
    tail: watch::Receiver<Tail>,
    keep: watch::Receiver<Option<Keep>>,
    /// Last report acknowledged.
    reported: u64,
    /// Bytes of the session's log segment acknowledged.
    logged: u64,
    cursor: Cursor,
    pace: Pace,
    log_failures: u32,
}

/// Where in `reports` the report of this number is, or an earlier place.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    number: u64,
    at: u64,
}

/// Body of a group; the same bytes as [`wire::Reports`], without reading the reports again.
#[derive(Serialize)]
struct Group<'a> {
    worker: &'a str,
    session: u64,
    first: u64,
    reports: &'a [Box<RawValue>],
}

/// Answer to a piece of log that begins elsewhere than where the supervisor's ends.
#[derive(Deserialize)]
struct Have {
    have: u64,
}

impl Uploader {
    pub(crate) fn new(
        spool: &spool::Spool,
        worker: String,
        endpoint: Endpoint,
        keep: watch::Receiver<Option<Keep>>,
    ) -> io::Result<Self> {
        let open = |name: &str| File::open(Path::join(spool.dir(), name));
        let first_report = spool.meta.first_report;
        Ok(Self {
            session: spool.meta.session,
            worker,
            first_report,
            log_base: spool.meta.log_base,
            reports: open("reports")?,
            log: open("log")?,
            poster: Poster::new(endpoint),
            tail: spool.watch(),
            keep,
            reported: first_report.saturating_sub(1),
            logged: spool.meta.log_base,
            cursor: Cursor { number: first_report, at: 0 },
            pace: Pace::new(),
            log_failures: 0,
        })
    }

    /// Returns when the session is over and the supervisor has all of it.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new();
        if self.keep.wait_for(Option::is_some).await.is_err() {
            return std::future::pending().await;
        }
        self.resume();
        loop {
            if self.keep.has_changed().unwrap_or(false) {
                self.resume();
            }
            let tail = *self.tail.borrow_and_update();
            if !self.has_all(&tail) {
                let tail = self.gather(tail).await;
                self.push_or_wait(&tail, &mut backoff).await;
            } else if tail.over {
                return;
            } else {
                self.wait_for_more().await;
            }
        }
    }

    /// Waits for more to bring, unless this is the end, or much already, or little was brought lately.
    async fn gather(&mut self, mut tail: Tail) -> Tail {
        let Err(until) = self.pace.take(Instant::now()) else { return tail };
        let enough = tokio::time::sleep_until(until);
        tokio::pin!(enough);
        while !tail.over && !self.is_worth_it(&tail) {
            tokio::select! {
                () = &mut enough => {
                    let _ = self.pace.take(until);
                    break;
                }
                Ok(()) = self.tail.changed() => tail = *self.tail.borrow_and_update(),
            }
        }
        tail
    }

    fn is_worth_it(&self, tail: &Tail) -> bool {
        self.log_base + tail.log_len >= self.logged + WORTH_IT || tail.reports_len >= self.cursor.at + WORTH_IT_REPORTS
    }

    async fn push_or_wait(&mut self, tail: &Tail, backoff: &mut Backoff) {
        let Err(e) = self.push(tail).await else { return backoff.reset() };
        backoff.complain(|| tracing::warn!(session = self.session, "failed to upload: {e}; trying again"));
        tokio::select! {
            () = backoff.wait() => {}
            Ok(()) = self.keep.changed() => self.resume(),
        }
    }

    async fn wait_for_more(&mut self) {
        tokio::select! {
            Ok(()) = self.tail.changed() => {}
            Ok(()) = self.keep.changed() => self.resume(),
            // Whoever writes the spool is gone, and ends this, too.
            else => std::future::pending().await,
        }
    }

    /// After each welcome the supervisor's word counts, in both directions: it may have been restored.
    fn resume(&mut self) {
        if let Some(keep) = self.keep.borrow_and_update().clone() {
            self.reported = keep.reported;
            self.logged = keep.logged.max(self.log_base);
        }
    }

    fn has_all(&self, tail: &Tail) -> bool {
        self.reported >= tail.reports && self.logged >= self.log_base + tail.log_len
    }

    async fn push(&mut self, tail: &Tail) -> Result<(), UploadError> {
        let log = self.push_log(tail).await;
        self.log_failures = if log.is_ok() { 0 } else { self.log_failures + 1 };
        if self.log_failures == 0 || self.log_failures > HOLD {
            self.push_reports(tail).await?;
        }
        log
    }

    async fn push_log(&mut self, tail: &Tail) -> Result<(), UploadError> {
        for _ in 0..AHEAD {
            let end = self.log_base + tail.log_len;
            if self.logged >= end {
                break;
            }
            let piece = self.piece(tail.log_len)?;
            let path = format!("{}/{}?offset={}", wire::LOGS_PATH, self.session, self.logged);
            let sent = piece.len() as u64;
            let (status, body) = self.poster.send(Method::PUT, &path, "application/octet-stream", piece).await?;
            match status {
                s if s.is_success() => self.logged += sent,
                StatusCode::CONFLICT => self.adjust(serde_json::from_slice::<Have>(&body)?.have, end)?,
                s => return Err(answer(s, &body)),
            }
        }
        Ok(())
    }

    /// Whole records only, so that the supervisor's segment never ends within one.
    fn piece(&self, log_len: u64) -> io::Result<Bytes> {
        let at = self.logged.saturating_sub(self.log_base);
        let left = usize::try_from(log_len - at).unwrap_or(usize::MAX);
        let mut block = vec![0; left.min(PIECE)];
        let got = spool::read_block(&self.log, &mut block, at)?;
        block.truncate(got);
        let whole = whole_records(&block, |_| ());
        // What is not ours to cut (the supervisor's end lies within a record) goes as it is.
        if whole > 0 {
            block.truncate(whole);
        }
        if block.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(block.into()) }
    }

    fn adjust(&mut self, have: u64, end: u64) -> Result<(), UploadError> {
        if have < self.log_base || have > end {
            // The rest of this log can't be joined to what is there; the reports are worth more than waiting.
            self.logged = end;
            return Err(UploadError::LogGap { have, base: self.log_base, end });
        }
        if have == self.logged {
            return Err(UploadError::Answer(StatusCode::CONFLICT, format!("it has {have} and was sent {have}")));
        }
        self.logged = have;
        Ok(())
    }

    async fn push_reports(&mut self, tail: &Tail) -> Result<(), UploadError> {
        if self.reported >= tail.reports {
            return Ok(());
        }
        // What was before this spool is gone; the supervisor says whether it has it.
        let first = (self.reported + 1).max(self.first_report);
        let (group, cursor) = self.group(first, tail.reports_len)?;
        let sent = first + group.len() as u64 - 1;
        let body = serde_json::to_vec(&Group { worker: &self.worker, session: self.session, first, reports: &group })?;
        let (status, answered) =
            self.poster.send(Method::POST, wire::REPORTS_PATH, "application/json", body.into()).await?;
        if !status.is_success() {
            return Err(answer(status, &answered));
        }
        self.reported = serde_json::from_slice::<Reported>(&answered)?.through.min(tail.reports);
        if self.reported == sent {
            self.cursor = cursor;
        } else if self.reported < first {
            let said = format!("it has reports up to {} and was sent {first} to {sent}", self.reported);
            return Err(UploadError::Answer(status, said));
        }
        Ok(())
    }

    /// The reports from number `first` on, as many as go into one request, and where the next one is.
    fn group(&mut self, first: u64, end: u64) -> io::Result<(Vec<Box<RawValue>>, Cursor)> {
        if first < self.cursor.number {
            self.cursor = Cursor { number: self.first_report, at: 0 };
        }
        let mut cursor = self.cursor;
        let mut group = Vec::new();
        let mut size = 0;
        while group.is_empty() && cursor.at < end {
            let lines = self.lines(cursor.at, end)?;
            for line in lines.split_inclusive(|b| *b == b'\n') {
                if group.len() == GROUP || size > BLOCK {
                    break;
                }
                cursor.at += line.len() as u64;
                let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else { continue };
                cursor.number = line.n + 1;
                if line.n >= first {
                    size += line.r.get().len();
                    group.push(line.r.to_owned());
                } else {
                    self.cursor = cursor;
                }
            }
        }
        if group.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((group, cursor)) }
    }

    /// Whole lines from `at`: about a block of them, or one that is longer.
    fn lines(&self, at: u64, end: u64) -> io::Result<Vec<u8>> {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let mut size = left.min(BLOCK);
        loop {
            let mut block = vec![0; size];
            let got = spool::read_block(&self.reports, &mut block, at)?;
            block.truncate(got);
            if let Some(last) = block.iter().rposition(|b| *b == b'\n') {
                block.truncate(last + 1);
                return Ok(block);
            }
            if size == left || got < size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            size = size.saturating_mul(2).min(left);
        }
    }
}

fn answer(status: StatusCode, body: &Bytes) -> UploadError {
    let text = String::from_utf8_lossy(body.get(..200).unwrap_or(body));
    UploadError::Answer(status, text.into_owned())
}
