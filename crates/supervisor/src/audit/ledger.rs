//! One chain of records in files: `NAME` grows; when it is full it becomes `NAME.000001`, and the next one begins with a
//! record `segment` that follows the last record of the one before. Nothing is ever removed here.

use super::act::Act;
use super::line::{self, LINE_MAX, Line, Of, Tail};
use super::record::Record;
use super::{AuditError, Broken};
use crate::clock;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use warrant::{SecretKey, hex};

/// Where the files of a chain are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stem {
    dir: PathBuf,
    name: &'static str,
}

impl Stem {
    pub(crate) fn chain(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), name: "chain" }
    }

    pub(crate) fn proxied(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), name: "proxied" }
    }

    /// The file that grows.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(self.name)
    }

    fn full(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{}.{number:06}", self.name))
    }

    /// The full ones with their numbers, the oldest first.
    pub(super) fn closed(&self) -> io::Result<Vec<(u32, PathBuf)>> {
        let mut closed = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|n| n.strip_prefix(self.name)?.strip_prefix('.'));
            if let Some(number) = number.filter(|n| n.len() >= 6).and_then(|n| n.parse().ok()) {
                closed.push((number, self.dir.join(name)));
            }
        }
        closed.sort_unstable();
        Ok(closed)
    }

    /// All of them, the oldest first.
    pub(crate) fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = self.closed()?.into_iter().map(|(_, path)| path).collect();
        files.extend(Some(self.path()).filter(|p| p.exists()));
        Ok(files)
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

/// A chain that is being written. What was pushed is in no file until `write`, and may be lost until `sync`.
#[derive(Debug)]
pub(super) struct Ledger {
    stem: Stem,
    name: String,
    file: File,
    len: u64,
    tail: Tail,
    /// The number of the file that grows.
    number: u32,
    pushed: Vec<u8>,
    settled: Tail,
}

impl Ledger {
    /// Opens what is there. A torn last line was never acknowledged and is cut off. `None`: the chain has to begin.
    pub(super) fn open(stem: &Stem) -> Result<Option<Self>, AuditError> {
        let path = stem.path();
        let failed = |e: io::Error| AuditError::file(&path, &e);
        let closed = stem.closed().map_err(failed)?;
        let mut file = match OpenOptions::new().read(true).append(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound && closed.is_empty() => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => create(&path).map_err(failed)?,
            Err(e) => return Err(failed(e)),
        };
        let len = whole_lines(&mut file).map_err(failed)?;
        file.set_len(len).map_err(failed)?;
        let Some((last, full)) = closed.last() else {
            return if len == 0 { Ok(None) } else { Self::of(stem, file, len, 1).map(Some) };
        };
        if len > 0 {
            return Self::of(stem, file, len, last + 1).map(Some);
        }
        // It ended while one file was being followed by the next.
        let mut before = File::open(full).map_err(failed)?;
        let (name, tail) = ends(full, &mut before, *last)?;
        let mut ledger = Self::at(stem, name, file, 0, tail, last + 1);
        ledger.begin_segment().map_err(failed)?;
        Ok(Some(ledger))
    }

    /// Begins a chain: its first record says how it is called.
    pub(super) fn begin(stem: &Stem, record: impl FnOnce(&str) -> Record) -> Result<Self, AuditError> {
        let path = stem.path();
        let begun = || {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(io::Error::other)?;
            let name = hex(&bytes);
            let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
            let mut ledger = Self::at(stem, name.clone(), file, 0, Tail::START, 1);
            ledger.push(&record(&name).with("chain", &name), clock::now(), None, None)?;
            ledger.commit()?;
            stem.sync_dir()?;
            Ok(ledger)
        };
        begun().map_err(|e: io::Error| AuditError::file(&path, &e))
    }

    fn of(stem: &Stem, mut file: File, len: u64, number: u32) -> Result<Self, AuditError> {
        let (name, tail) = ends(&stem.path(), &mut file, number)?;
        Ok(Self::at(stem, name, file, len, tail, number))
    }

    fn at(stem: &Stem, name: String, file: File, len: u64, tail: Tail, number: u32) -> Self {
        Self { stem: stem.clone(), name, file, len, tail, number, pushed: Vec::new(), settled: tail }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn tail(&self) -> Tail {
        self.tail
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn path(&self) -> PathBuf {
        self.stem.path()
    }

    pub(super) fn stem(&self) -> &Stem {
        &self.stem
    }

    pub(super) fn push(
        &mut self,
        record: &Record,
        now: i64,
        of: Option<&Of>,
        signer: Option<&SecretKey>,
    ) -> io::Result<Tail> {
        self.tail = line::write(record, now, of, self.tail, signer, &mut self.pushed)?;
        Ok(self.tail)
    }

    /// The same as a record of another chain.
    pub(super) fn push_copy(&mut self, bytes: &[u8], of: &Of) -> io::Result<()> {
        self.tail = line::copy(bytes, of, self.tail, &mut self.pushed)?;
        Ok(())
    }

    pub(super) fn write(&mut self) -> io::Result<()> {
        self.file.write_all(&self.pushed)
    }

    /// Afterwards what was written stays.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.pushed.is_empty() {
            return Ok(());
        }
        self.file.sync_data()?;
        self.len += self.pushed.len() as u64;
        self.pushed.clear();
        self.settled = self.tail;
        Ok(())
    }

    pub(super) fn commit(&mut self) -> io::Result<()> {
        self.write()?;
        self.sync()
    }

    /// Takes back what was pushed since the last `sync`, so that the chain goes on when there is room.
    pub(super) fn undo(&mut self) -> io::Result<()> {
        if self.pushed.is_empty() {
            return Ok(());
        }
        self.pushed.clear();
        self.tail = self.settled;
        self.file.set_len(self.len)
    }

    /// Goes on in a new file. If that fails, this one goes on growing.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        let (path, full) = (self.stem.path(), self.stem.full(self.number));
        if full.exists() {
            return Err(io::Error::other(format!("{} is there already", full.display())));
        }
        std::fs::rename(&path, &full)?;
        let old = match create(&path) {
            Ok(file) => std::mem::replace(&mut self.file, file),
            Err(e) => {
                std::fs::rename(&full, &path)?;
                return Err(e);
            }
        };
        let len = std::mem::replace(&mut self.len, 0);
        self.number += 1;
        if let Err(e) = self.begin_segment() {
            self.undo()?;
            (self.file, self.len, self.number) = (old, len, self.number - 1);
            std::fs::rename(&full, &path)?;
            return Err(e);
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        self.stem.sync_dir()?;
        let record = Record::new(Act::Segment).with("chain", &self.name).with("segment", self.number);
        self.push(&record, clock::now(), None, None)?;
        self.commit()
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)
}

/// The name of the chain from the first record of a file, and its end from the last.
fn ends(path: &Path, file: &mut File, number: u32) -> Result<(String, Tail), AuditError> {
    let failed = |e: io::Error| AuditError::file(path, &e);
    let broken = |what: String| AuditError::Broken { path: path.to_owned(), broken: Broken { line: 0, what } };
    let first = line_at(file, 0).map_err(failed)?;
    let first = Line::read(&first).map_err(|bad| broken(format!("the first record: {}", bad.what)))?;
    let segment = first.details.get("segment").and_then(serde_json::Value::as_u64);
    let begins = first.is(Act::Begin) && number == 1 || first.is(Act::Segment) && segment == Some(number.into());
    let Some(name) = first.text("chain").filter(|_| begins) else {
        return Err(broken(format!("file {number} of the chain doesn't begin here")));
    };
    let end = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let start = find_back(file, end.saturating_sub(1)).map_err(failed)?;
    let last = line_at(file, start).map_err(failed)?;
    let last = Line::read(&last).map_err(|bad| broken(format!("the last record: {}", bad.what)))?;
    Ok((name.to_owned(), last.tail()))
}

/// Length of the file without a torn last line.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let len = file.seek(SeekFrom::End(0))?;
    find_back(file, len)
}

/// The position after the last newline before `end`; 0 if there is none.
pub(super) fn find_back(file: &mut File, mut end: u64) -> io::Result<u64> {
    let mut block = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..usize::try_from(end - start).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|b| *b == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

pub(super) fn line_at(file: &mut File, start: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut line = Vec::new();
    BufReader::new(file.take(LINE_MAX)).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// The lines of files from the end of the last to the beginning of the first. A torn last line is passed over.
pub(super) struct Backwards {
    files: Vec<PathBuf>,
    file: Option<File>,
    at: u64,
    have: Vec<u8>,
}

impl Backwards {
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        Self { files, file: None, at: 0, have: Vec::new() }
    }

    fn step(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let before = self.have.len().saturating_sub(1);
            if let Some(at) = self.have[..before].iter().rposition(|b| *b == b'\n') {
                return Ok(Some(self.have.split_off(at + 1)));
            }
            match &mut self.file {
                Some(file) if self.at > 0 => {
                    let start = self.at.saturating_sub(64 << 10);
                    let mut block = vec![0; usize::try_from(self.at - start).unwrap_or(0)];
                    file.seek(SeekFrom::Start(start))?;
                    file.read_exact(&mut block)?;
                    block.append(&mut self.have);
                    (self.have, self.at) = (block, start);
                }
                _ if !self.have.is_empty() => return Ok(Some(std::mem::take(&mut self.have))),
                _ => {
                    let Some(path) = self.files.pop() else { return Ok(None) };
                    let mut file = File::open(path)?;
                    self.at = whole_lines(&mut file)?;
                    self.file = Some(file);
                }
            }
        }
    }
}

impl Iterator for Backwards {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
