//! Reading segments in the order of arrival, filtered, in bounded pieces.

use super::segment;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use wire::log::{Record, Stream};

/// Size of a note in `order`: session, length of its segment.
pub(super) const NOTE: usize = 16;
/// Most bytes read from a segment at once.
const PIECE: u64 = 256 << 10;
/// Most bytes that a record may claim: no session prints more at once, so more is not a record.
const RECORD_MAX: usize = 32 << 20;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Streams {
    Stdout,
    Stderr,
    #[default]
    All,
}

/// Which output is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) step: Option<u32>,
    pub(crate) task: Option<u64>,
    /// `None`: all attempts, one after another.
    pub(crate) attempt: Option<u32>,
    pub(crate) streams: Streams,
    /// `[step.task] ` in front of each line.
    pub(crate) prefix: bool,
}

impl Filter {
    fn takes(&self, record: &Record<'_>) -> bool {
        let stream = match record.stream {
            Stream::Stdout => self.streams != Streams::Stderr,
            Stream::Stderr => self.streams != Streams::Stdout,
            Stream::Environment => self.streams == Streams::All && self.task.is_none() && self.attempt.is_none(),
        };
        stream
            && self.step.is_none_or(|s| s == record.task.step)
            && self.task.is_none_or(|t| t == record.task.index)
            && self.attempt.is_none_or(|a| a == record.task.epoch)
    }
}

/// How far a segment was read.
#[derive(Debug, Default)]
struct Position {
    at: u64,
    /// Bytes of a record that is not complete yet.
    torn: Vec<u8>,
    full: bool,
}

/// Goes on where it stopped; so a follower asks again for what is new.
#[derive(Debug)]
pub(crate) struct Reader {
    dir: PathBuf,
    filter: Filter,
    max: u64,
    order_at: u64,
    positions: BTreeMap<u64, Position>,
    /// Source of the last byte given out, and whether its line is complete.
    line: Option<(String, bool)>,
}

impl Reader {
    pub(super) fn new(dir: PathBuf, filter: Filter, max: u64) -> Self {
        Self { dir, filter, max, order_at: 0, positions: BTreeMap::new(), line: None }
    }

    /// The next piece of output; `None` when there is none now. Blocks.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            let Some((session, end)) = self.next_note()? else { return Ok(None) };
            let mut out = Vec::new();
            self.read(session, end, &mut out)?;
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
    }

    /// The next segment to read and up to where: by the notes, then whatever has no note.
    fn next_note(&mut self) -> std::io::Result<Option<(u64, u64)>> {
        while let Some((session, end)) = self.noted()? {
            if self.at(session) < end {
                return Ok(Some((session, end)));
            }
            self.order_at += NOTE as u64;
        }
        for session in self.sessions()? {
            let end = std::fs::metadata(segment(&self.dir, session))?.len();
            if self.at(session) < end {
                return Ok(Some((session, end)));
            }
        }
        Ok(None)
    }

    fn at(&self, session: u64) -> u64 {
        self.positions.get(&session).map_or(0, |p| if p.full { u64::MAX } else { p.at })
    }

    fn noted(&self) -> std::io::Result<Option<(u64, u64)>> {
        let mut order = match File::open(self.dir.join("order")) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        order.seek(SeekFrom::Start(self.order_at))?;
        let mut note = Vec::new();
        order.take(NOTE as u64).read_to_end(&mut note)?;
        let Some((session, end)) = note.split_first_chunk::<8>() else { return Ok(None) };
        Ok(end.first_chunk::<8>().map(|end| (u64::from_le_bytes(*session), u64::from_le_bytes(*end))))
    }

    fn sessions(&self) -> std::io::Result<Vec<u64>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut sessions = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            sessions.extend(name.to_str().and_then(|n| n.strip_suffix(".log")).and_then(|n| n.parse::<u64>().ok()));
        }
        sessions.sort_unstable();
        Ok(sessions)
    }

    fn read(&mut self, session: u64, end: u64, out: &mut Vec<u8>) -> std::io::Result<()> {
        let path = segment(&self.dir, session);
        let mut position = self.positions.remove(&session).unwrap_or_default();
        let kept = end.min(self.max);
        let piece = kept.saturating_sub(position.at).min(PIECE);
        let mut file = match File::open(&path) {
            // Removed by retention while somebody reads.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                position.full = true;
                self.positions.insert(session, position);
                return Ok(());
            }
            other => other?,
        };
        file.seek(SeekFrom::Start(position.at))?;
        let got = file.take(piece).read_to_end(&mut position.torn)? as u64;
        position.at += got;
        let bytes = std::mem::take(&mut position.torn);
        let mut rest = &bytes[..];
        while let Some((record, after)) = wire::log::read(rest) {
            rest = after;
            if self.filter.takes(&record) {
                self.give(&record, out);
            }
        }
        let is_cut = end > self.max && position.at >= self.max;
        if is_cut || got == 0 || rest.len() > RECORD_MAX {
            position.full = true;
            if is_cut {
                self.give_marker(out);
            }
        }
        position.torn = rest.to_vec();
        self.positions.insert(session, position);
        Ok(())
    }

    fn give(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        if !self.filter.prefix {
            out.extend_from_slice(record.data);
            return;
        }
        let source = match record.stream {
            Stream::Environment => "env".to_owned(),
            Stream::Stdout | Stream::Stderr => format!("{}.{}", record.task.step, record.task.index),
        };
        let mut at_start = match &self.line {
            Some((last, false)) if *last == source => false,
            Some((_, false)) => {
                out.push(b'\n');
                true
            }
            _ => true,
        };
        for line in record.data.split_inclusive(|b| *b == b'\n') {
            if at_start {
                out.extend_from_slice(format!("[{source}] ").as_bytes());
            }
            out.extend_from_slice(line);
            at_start = line.ends_with(b"\n");
        }
        if !record.data.is_empty() {
            self.line = Some((source, at_start));
        }
    }

    fn give_marker(&self, out: &mut Vec<u8>) {
        let max = self.max;
        let size = if max.is_multiple_of(1 << 20) { format!("{} MiB", max >> 20) } else { format!("{max} bytes") };
        out.extend_from_slice(format!("[stead: output over {size} of this session was not kept]\n").as_bytes());
    }
}
