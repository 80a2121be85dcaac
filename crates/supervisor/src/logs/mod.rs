//! What tasks print: one segment per session, `logs/JOB/SESSION.log`, of records as in [`wire::log`].
//!
//! A worker appends at an exact offset and is told what we have when it is wrong, so that a repeated chunk is never
//! kept twice. `logs/JOB/order` notes in which order chunks of several sessions arrived. Bytes over the limit of a
//! session are not kept but counted: the segment is made longer without being filled. Paths are made of numbers
//! only; who may read is decided elsewhere.

mod read;

pub(crate) use read::{Filter, Reader, Streams};

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The chunk doesn't begin where the segment ends.
    #[error("the segment has {have} bytes")]
    Offset { have: u64 },
    #[error("can't write the log {}: {error}", path.display())]
    Write { path: PathBuf, error: std::io::Error },
}

/// The folder of all segments.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    dir: PathBuf,
    max: u64,
    /// One append per session at a time.
    busy: Arc<Mutex<HashMap<u64, Arc<Mutex<()>>>>>,
}

impl Logs {
    pub(crate) fn new(dir: PathBuf, max: u64) -> Self {
        Self { dir, max, busy: Arc::default() }
    }

    /// Appends and syncs; returns the segment's length. Blocks.
    pub(crate) fn append(&self, job: u64, session: u64, offset: u64, data: &[u8]) -> Result<u64, LogError> {
        let turn = self.busy.lock().unwrap_or_else(PoisonError::into_inner).entry(session).or_default().clone();
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = segment(&self.dir.join(job.to_string()), session);
        append_at(&path, self.max, offset, data).map_err(|error| LogError::Write { path: path.clone(), error })??;
        let end = offset + data.len() as u64;
        self.note_order(job, session, end).map_err(|error| LogError::Write { path, error })?;
        Ok(end)
    }

    /// No more will be appended.
    pub(crate) fn session_over(&self, session: u64) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }

    /// One small append is not torn by another: `O_APPEND`. A lost note only changes the order in which it is shown.
    fn note_order(&self, job: u64, session: u64, end: u64) -> std::io::Result<()> {
        let mut note = [0; read::NOTE];
        note[..8].copy_from_slice(&session.to_le_bytes());
        note[8..].copy_from_slice(&end.to_le_bytes());
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.dir.join(job.to_string()).join("order"))?
            .write_all(&note)
    }

    pub(crate) fn reader(&self, job: u64, filter: Filter) -> Reader {
        Reader::new(self.dir.join(job.to_string()), filter, self.max)
    }

    /// Removes everything a job printed.
    pub(crate) fn remove(&self, job: u64) -> std::io::Result<()> {
        match std::fs::remove_dir_all(self.dir.join(job.to_string())) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// `dir` is the job's.
fn segment(dir: &Path, session: u64) -> PathBuf {
    dir.join(format!("{session}.log"))
}

fn append_at(path: &Path, max: u64, offset: u64, data: &[u8]) -> std::io::Result<Result<(), LogError>> {
    let file = open_or_create(path)?;
    let have = file.metadata()?.len();
    if have != offset {
        return Ok(Err(LogError::Offset { have }));
    }
    let room = usize::try_from(max.saturating_sub(offset)).unwrap_or(usize::MAX).min(data.len());
    if let Err(error) = file.write_all_at(&data[..room], offset) {
        // A half-written chunk would look like an acknowledged one.
        file.set_len(have)?;
        return Err(error);
    }
    if room < data.len() {
        file.set_len(offset + data.len() as u64)?;
    }
    file.sync_data()?;
    Ok(Ok(()))
}

fn open_or_create(path: &Path) -> std::io::Result<File> {
    let open = || OpenOptions::new().write(true).create(true).truncate(false).open(path);
    match open() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            open()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Task;
    use wire::log::{Record, Stream, write};

    fn chunk(index: u64, stream: Stream, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, &Record { task: Task { step: 0, index, epoch: 1 }, stream, offset: 0, data: text.as_bytes() });
        out
    }

    fn all(logs: &Logs, job: u64, filter: Filter) -> String {
        let mut reader = logs.reader(job, filter);
        let mut out = Vec::new();
        while let Some(part) = reader.next().expect("read") {
            out.extend(part);
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_chunk_is_kept_exactly_once() {
        let dir = tempfile::tempdir().expect("dir");
        let logs = Logs::new(dir.path().to_owned(), 1 << 20);
        let a = chunk(0, Stream::Stdout, "a\n");
        assert_eq!(logs.append(1, 5, 0, &a).expect("first"), a.len() as u64);
        assert!(matches!(logs.append(1, 5, 0, &a), Err(LogError::Offset { have }) if have == a.len() as u64));
        assert!(matches!(logs.append(1, 5, 99, &a), Err(LogError::Offset { .. })));
        logs.append(1, 5, a.len() as u64, &a).expect("second");
        assert_eq!(all(&logs, 1, Filter::default()), "a\na\n");
    }

    #[test]
    fn filters_and_order_of_arrival() {
        let dir = tempfile::tempdir().expect("dir");
        let logs = Logs::new(dir.path().to_owned(), 1 << 20);
        let (a, b) = (chunk(0, Stream::Stdout, "zero\n"), chunk(1, Stream::Stderr, "one, "));
        let (c, d) = (chunk(0, Stream::Environment, "env\n"), chunk(1, Stream::Stderr, "again\n"));
        logs.append(1, 9, 0, &a).expect("append");
        logs.append(1, 5, 0, &b).expect("append");
        logs.append(1, 9, a.len() as u64, &c).expect("append");
        // Records may be cut anywhere between two chunks.
        let at = b.len() as u64;
        logs.append(1, 5, at, &d[..7]).expect("append");
        assert_eq!(all(&logs, 1, Filter::default()), "zero\none, env\n");
        logs.append(1, 5, at + 7, &d[7..]).expect("append");
        assert_eq!(all(&logs, 1, Filter::default()), "zero\none, env\nagain\n");
        let of = |filter| all(&logs, 1, filter);
        assert_eq!(of(Filter { task: Some(1), ..Filter::default() }), "one, again\n");
        assert_eq!(of(Filter { streams: Streams::Stdout, ..Filter::default() }), "zero\n");
        assert_eq!(of(Filter { attempt: Some(2), ..Filter::default() }), "");
        assert_eq!(of(Filter { step: Some(1), ..Filter::default() }), "");
        assert_eq!(
            of(Filter { prefix: true, ..Filter::default() }),
            "[0.0] zero\n[0.1] one, \n[env] env\n[0.1] again\n"
        );
        std::fs::remove_file(dir.path().join("1/order")).expect("remove");
        assert_eq!(of(Filter::default()), "one, again\nzero\nenv\n");
        logs.remove(1).expect("removed");
        assert_eq!(all(&logs, 1, Filter::default()), "");
    }

    #[test]
    fn over_the_limit_nothing_is_kept_and_it_says_so() {
        let dir = tempfile::tempdir().expect("dir");
        let logs = Logs::new(dir.path().to_owned(), 100);
        let mut at = 0;
        for n in 0..5 {
            at = logs.append(1, 5, at, &chunk(0, Stream::Stdout, &format!("line {n}\n"))).expect("append");
        }
        assert_eq!(at, 5 * 36);
        assert_eq!(
            all(&logs, 1, Filter::default()),
            "line 0\nline 1\n[stead: output over 100 bytes of this session was not kept]\n"
        );
    }
}
