//! The bytes of the chain: JSON lines, each `{…,"prev":HASH,"hash":HASH}`, where `hash` is SHA-256 over the previous
//! hash and the line up to `,"hash"`. The first record begins the chain and names it.

use super::{AuditError, Record, Written};
use crate::clock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use warrant::{hex, sha256, unhex};

const HASH_FIELD: &str = ",\"hash\":\"";
/// No record is longer: its values are capped.
const LINE_MAX: u64 = 4 << 20;

/// Where a chain doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Broken {
    pub line: u64,
    pub what: String,
}

#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    at: &'a str,
    act: &'a str,
    login_user: Option<&'a str>,
    user: Option<&'a str>,
    job: Option<u64>,
    details: &'a Map<String, Value>,
    prev: &'a str,
}

#[derive(Deserialize)]
struct Read {
    seq: u64,
    act: String,
    details: Map<String, Value>,
    prev: String,
}

/// The end of a chain.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    chain: String,
    sequence: u64,
    hash: [u8; 32],
}

impl Tail {
    pub(super) fn written(&self) -> Written {
        Written { chain: self.chain.clone(), sequence: self.sequence, hash: self.hash }
    }

    /// Appends the line of `record` to `out`.
    pub(super) fn push(&mut self, record: &Record, out: &mut Vec<u8>) -> std::io::Result<()> {
        let line = Line {
            seq: self.sequence + 1,
            at: &clock::rfc3339(clock::now()),
            act: record.act,
            login_user: record.login_user.as_deref(),
            user: record.user.as_deref(),
            job: record.job,
            details: &record.details,
            prev: &hex(&self.hash),
        };
        let mut body = serde_json::to_vec(&line)?;
        body.pop();
        let hash = sha256(&[&self.hash, &body]);
        out.extend_from_slice(&body);
        out.extend_from_slice(HASH_FIELD.as_bytes());
        out.extend_from_slice(hex(&hash).as_bytes());
        out.extend_from_slice(b"\"}\n");
        self.sequence += 1;
        self.hash = hash;
        Ok(())
    }
}

/// Opens for appending; begins a new chain in an empty file.
pub(super) fn open(path: &Path) -> Result<(File, Tail), AuditError> {
    let error = |e: std::io::Error| AuditError::File { path: path.to_owned(), error: e.to_string() };
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(error)?;
    let whole = whole_lines(&mut file).map_err(error)?;
    file.set_len(whole).map_err(error)?;
    if whole == 0 {
        return begin(file).map_err(error);
    }
    let broken = |broken| AuditError::Broken { path: path.to_owned(), broken };
    let first = line_at(&mut file, 0).map_err(error)?;
    let (_, name) = check(1, &first, None).map_err(broken)?;
    let start = last_line_start(&mut file, whole).map_err(error)?;
    let last = line_at(&mut file, start).map_err(error)?;
    let (mut tail, _) = check(0, &last, None).map_err(broken)?;
    tail.chain = name;
    Ok((file, tail))
}

/// Reads the whole chain and returns its last sequence number and hash, or the first place where it doesn't hold.
pub fn verify(path: &Path) -> Result<(u64, [u8; 32]), Broken> {
    let at = |line, e: std::io::Error| Broken { line, what: e.to_string() };
    let mut file = BufReader::new(File::open(path).map_err(|e| at(0, e))?);
    let mut tail: Option<Tail> = None;
    for number in 1.. {
        let mut line = Vec::new();
        if file.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).map_err(|e| at(number, e))? == 0 {
            break;
        }
        let (mut next, name) = check(number, &line, tail.as_ref())?;
        if let Some(before) = tail {
            next.chain = before.chain;
        } else {
            next.chain = name;
        }
        tail = Some(next);
    }
    tail.map(|t| (t.sequence, t.hash)).ok_or(Broken { line: 0, what: "the chain is empty".to_owned() })
}

fn begin(mut file: File) -> std::io::Result<(File, Tail)> {
    let mut name = [0; 16];
    getrandom::fill(&mut name).map_err(std::io::Error::other)?;
    let mut tail = Tail { chain: hex(&name), sequence: 0, hash: [0; 32] };
    let mut bytes = Vec::new();
    tail.push(&Record::new("begin").with("chain", hex(&name)), &mut bytes)?;
    std::io::Write::write_all(&mut file, &bytes)?;
    file.sync_all()?;
    Ok((file, tail))
}

/// Checks one line by itself and, if given, against the one before it; also returns the name a first record gives.
fn check(number: u64, line: &[u8], before: Option<&Tail>) -> Result<(Tail, String), Broken> {
    let broken = |what: &str| Broken { line: number, what: what.to_owned() };
    let text = std::str::from_utf8(line).map_err(|_| broken("not UTF-8"))?;
    let text = text.strip_suffix("\"}\n").ok_or_else(|| broken("the line is cut short"))?;
    let (body, hash) = text.rsplit_once(HASH_FIELD).ok_or_else(|| broken("no hash"))?;
    let record: Read = serde_json::from_str(&format!("{body}}}")).map_err(|e| broken(&e.to_string()))?;
    let fixed = |hex: &str| unhex(hex).filter(|b| hex == self::hex(b)).and_then(|b| <[u8; 32]>::try_from(b).ok());
    let prev = fixed(&record.prev).ok_or_else(|| broken("no previous hash"))?;
    let hash = fixed(hash).ok_or_else(|| broken("no hash"))?;
    if sha256(&[&prev, body.as_bytes()]) != hash {
        return Err(broken("the record does not have the hash it says"));
    }
    let (sequence, expected) = before.map_or((0, [0; 32]), |t| (t.sequence, t.hash));
    let is_alone = before.is_none() && number == 0;
    if !is_alone && (record.seq != sequence + 1 || prev != expected) {
        return Err(broken("the record does not follow the one before it"));
    }
    let name = record.details.get("chain").and_then(Value::as_str).unwrap_or_default().to_owned();
    if number == 1 && (record.act != "begin" || name.is_empty()) {
        return Err(broken("the chain does not begin here"));
    }
    Ok((Tail { chain: String::new(), sequence: record.seq, hash }, name))
}

/// Length of the file without a torn last line.
fn whole_lines(file: &mut File) -> std::io::Result<u64> {
    let len = file.seek(SeekFrom::End(0))?;
    find_back(file, len)
}

fn last_line_start(file: &mut File, whole: u64) -> std::io::Result<u64> {
    find_back(file, whole.saturating_sub(1))
}

/// The position after the last newline before `end`; 0 if there is none.
fn find_back(file: &mut File, mut end: u64) -> std::io::Result<u64> {
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

fn line_at(file: &mut File, start: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut line = Vec::new();
    BufReader::new(file.take(LINE_MAX)).read_until(b'\n', &mut line)?;
    Ok(line)
}
