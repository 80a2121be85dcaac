//! Checks whole chains as they lie in files, and says of each record that isn't as it was written what is wrong with it.
//!
//! Needs no supervisor and no secret. What nobody can find in the files alone is that their end was cut off since the
//! last checkpoint; the supervisor's key file, its store, and an anchor elsewhere know more.

use super::act::Act;
use super::ledger::Stem;
use super::line::{self, LINE_MAX, Line, Tail, fixed};
use super::seal::Seal;
use super::writer::signed_tail;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use warrant::{PublicKey, hex};

/// So many findings are named; a chain that has more is not worth more words.
const FINDINGS_MAX: usize = 200;

/// What is known from elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Files (or logs) that hold anchored ends.
    pub anchors: Vec<PathBuf>,
    /// The chain's first public key, in hexadecimal.
    pub first_key: Option<String>,
    /// The last record that the supervisor's store knows: chain, number, hash.
    pub stored: Option<(String, u64, [u8; 32])>,
    /// µs since 1970: files that were full before are left out.
    pub since: Option<i64>,
}

/// A record, or a place, where the audit is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    pub file: PathBuf,
    /// 0: the file as a whole.
    pub line: u64,
    pub seq: Option<u64>,
    pub what: String,
}

/// What was looked at, and found.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Report {
    pub files: Vec<PathBuf>,
    /// Names of the chains.
    pub chain: Option<String>,
    pub first_key: Option<String>,
    pub records: u64,
    pub proxied: u64,
    pub checkpoints: u64,
    /// Records after the last checkpoint.
    pub unsigned: u64,
    pub last_seq: u64,
    pub last_time: Option<String>,
    /// Anchored ends that the chain has.
    pub anchored: u64,
    /// In the hosts' own logs.
    pub launches: u64,
    pub findings: Vec<Finding>,
    pub notes: Vec<String>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    fn found(&mut self, file: &Path, line: u64, seq: Option<u64>, what: impl Into<String>) {
        self.add(Finding { file: file.to_owned(), line, seq, what: what.into() });
    }
}

/// Verifies the audit folder of a farm, also one that is being written.
pub fn verify_dir(dir: &Path, options: &Options) -> io::Result<Report> {
    // Read before the chain: a checkpoint that comes meanwhile changes it.
    let keys = Seal::peek(&dir.join("key"));
    let proxied_then = opened(&Stem::proxied(dir))?;
    let chain = opened(&Stem::chain(dir))?;
    let mut report = Report::default();
    if chain.is_empty() {
        report.found(&Stem::chain(dir).path(), 0, None, "there is no audit");
        return Ok(report);
    }
    // As it was when the chain's end was looked for, it can't know more than the chain.
    let known_then = proxied_then.last().map_or(0, |f| f.len);
    let known_files = proxied_then.len();
    let mut walk = Walk::new(options);
    let left_out = before(&chain, options.since)?;
    walk.chain.is_whole = left_out == 0;
    walk.files(&chain[left_out..], &mut report)?;
    let proxied = walk_proxied(&settled_proxied(dir, &walk)?, true, &mut report)?;
    compare(&walk, &proxied, (known_files, known_then), &mut report);
    walk.finish(true, &mut report)?;
    match keys {
        Ok(keys) => check_key(&dir.join("key"), &keys, &walk, &mut report),
        Err(error) => report
            .notes
            .push(format!("{}: {error}: whether the end was cut off can't be seen from it", dir.join("key").display())),
    }
    Ok(report)
}

/// How many files ended before a time: those whose next one begins before it.
fn before(files: &[Opened], since: Option<i64>) -> io::Result<usize> {
    let Some(since) = since.map(crate::clock::rfc3339) else { return Ok(0) };
    for (n, opened) in files.iter().enumerate().rev() {
        let mut file = &opened.file;
        io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        BufReader::new(file.take(LINE_MAX)).read_until(b'\n', &mut bytes)?;
        if Line::read(&bytes).is_ok_and(|line| line.time < since) {
            return Ok(n);
        }
    }
    Ok(0)
}

/// Verifies files by themselves, in the order of a chain each: those called `proxied…` against the others.
pub fn verify_files(files: &[PathBuf], options: &Options) -> io::Result<Report> {
    let is_proxied = |p: &&PathBuf| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("proxied"));
    let mut report = Report::default();
    let (proxied, mut chain): (Vec<&PathBuf>, Vec<&PathBuf>) = files.iter().partition(is_proxied);
    let mut walk = Walk::new(options);
    sort(&mut chain);
    walk.files(&open_all(&chain)?, &mut report)?;
    let mut proxied = proxied;
    sort(&mut proxied);
    let entries = walk_proxied(&open_all(&proxied)?, false, &mut report)?;
    if !chain.is_empty() && !proxied.is_empty() {
        compare(&walk, &entries, (usize::MAX, u64::MAX), &mut report);
    }
    if !chain.is_empty() {
        walk.finish(false, &mut report)?;
    }
    Ok(report)
}

/// `NAME.000001` before `NAME.000002` before `NAME`.
fn sort(files: &mut [&PathBuf]) {
    let number = |p: &PathBuf| p.extension().and_then(|e| e.to_str()).and_then(|e| e.parse().ok()).unwrap_or(u32::MAX);
    files.sort_by_key(|p| number(p));
}

/// Hashes that something outside knows, by number; with the file and line that say so.
type Ends = HashMap<u64, Vec<(String, PathBuf, u64)>>;

struct Opened {
    path: PathBuf,
    file: File,
    len: u64,
}

fn open_all(paths: &[&PathBuf]) -> io::Result<Vec<Opened>> {
    paths
        .iter()
        .map(|path| {
            let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
            let file = File::open(path).map_err(named)?;
            let len = file.metadata().map_err(named)?.len();
            Ok(Opened { path: (*path).clone(), file, len })
        })
        .collect()
}

/// The files of a chain as they are at one moment: none is renamed meanwhile, no line is half written.
fn opened(stem: &Stem) -> io::Result<Vec<Opened>> {
    let mut tries = 0;
    loop {
        let before = stem.files()?;
        let mut files = open_all(&before.iter().collect::<Vec<_>>())?;
        tries += 1;
        let is_settled = match files.last_mut() {
            Some(last) => ends_whole(last)?,
            None => true,
        };
        if is_settled && stem.files()? == before || tries >= 20 {
            return Ok(files);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ends_whole(opened: &mut Opened) -> io::Result<bool> {
    let end = super::ledger::find_back(&mut opened.file, opened.len)?;
    Ok(end == opened.len)
}

/// The proxied operations, as soon as they have what the chain has.
fn settled_proxied(dir: &Path, walk: &Walk<'_>) -> io::Result<Vec<Opened>> {
    let stem = Stem::proxied(dir);
    let mut files = opened(&stem)?;
    for _ in 0..20 {
        let last = super::ledger::Backwards::new(stem.files()?).next().transpose()?;
        let last = last.and_then(|bytes| Line::read(&bytes).ok()).and_then(|l| l.of).map_or(0, |of| of.seq);
        if walk.proxied.last().is_none_or(|p| last >= p.seq) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        files = opened(&stem)?;
    }
    Ok(files)
}

/// Reads line after line; `each` gets file, number of the line, and its bytes.
fn lines(files: &[Opened], mut each: impl FnMut(&Path, usize, u64, &[u8], u64)) -> io::Result<()> {
    for (nth, opened) in files.iter().enumerate() {
        let mut file = &opened.file;
        io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(256 << 10, file.take(opened.len));
        let (mut bytes, mut number, mut at) = (Vec::new(), 0, 0);
        loop {
            bytes.clear();
            let n = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut bytes)?;
            if n == 0 {
                break;
            }
            number += 1;
            each(&opened.path, nth, number, &bytes, at);
            at += n as u64;
        }
        if number == 0 {
            each(&opened.path, nth, 0, &[], 0);
        }
    }
    Ok(())
}

/// What a step of the walk along a chain knows of the record before.
#[derive(Default)]
struct Chain {
    before: Option<Tail>,
    name: Option<String>,
    /// Place in the chain of all records, by position; own tail.
    entries: Vec<Entry>,
    is_whole: bool,
}

struct Entry {
    file: PathBuf,
    nth: usize,
    line: u64,
    at: u64,
    tail: Tail,
    of: Option<(u64, String)>,
    content: [u8; 32],
}

/// Where a record of the chain is that has to be among the proxied ones, too.
struct Wanted {
    file: PathBuf,
    line: u64,
    seq: u64,
    hash: [u8; 32],
    content: [u8; 32],
}

impl Chain {
    /// Checks a line by itself and against the one before; `None` when it can't be read.
    fn step(&mut self, file: &Path, number: u64, bytes: &[u8], report: &mut Report) -> Option<Line> {
        if number == 0 {
            report.found(file, 0, None, "the file is empty");
            return None;
        }
        let expected = self.before.map_or(1, |t| t.sequence + 1);
        let (line, intact) = match Line::read(bytes) {
            Ok(line) => (line, true),
            Err(bad) => {
                report.found(file, number, bad.line.as_ref().map(|l| l.seq).or(Some(expected)), bad.what);
                match bad.line {
                    Some(line) => (*line, false),
                    None => {
                        // Whatever it was, the next one is compared with its number only.
                        self.before = self.before.map(|t| Tail { sequence: t.sequence + 1, hash: [0; 32] });
                        return None;
                    }
                }
            }
        };
        if let Some(before) = self.before {
            self.follows(file, number, &line, before, report);
        } else {
            self.begins(file, number, &line, report);
        }
        self.before = Some(line.tail());
        intact.then_some(line)
    }

    fn begins(&mut self, file: &Path, number: u64, line: &Line, report: &mut Report) {
        let begins = (line.is(Act::Begin) && line.seq == 1) || line.is(Act::Segment);
        if !begins {
            let what = "the chain doesn't begin here: what was before it is missing";
            report.found(file, number, Some(line.seq), what);
        } else if line.is(Act::Segment) && self.is_whole {
            let what = format!("records 1 to {} are missing: the files before this one are not here", line.seq - 1);
            report.found(file, number, Some(line.seq), what);
        } else if line.is(Act::Segment) {
            report.notes.push(format!(
                "{}: begins at record {}; what is before it was not given",
                file.display(),
                line.seq
            ));
        }
        self.name = line.text("chain").map(str::to_owned);
    }

    fn follows(&self, file: &Path, number: u64, line: &Line, before: Tail, report: &mut Report) {
        let mut found = |what: String| report.found(file, number, Some(line.seq), what);
        let expected = before.sequence + 1;
        match line.seq {
            seq if seq > expected + 1 => found(format!("records {expected} to {} before it are missing", seq - 1)),
            seq if seq > expected => found(format!("record {expected} before it is missing")),
            seq if seq < expected => {
                found(format!(
                    "record {seq} stands where record {expected} should: out of order, put in, or there twice"
                ));
            }
            // The record before can't be read: it is named already.
            _ if before.hash == [0; 32] && before.sequence > 0 => {}
            _ if line.previous != before.hash => {
                found("it follows another record than the one before it: either was replaced".to_owned());
            }
            _ => {}
        }
        let begins = line.is(Act::Begin) || line.is(Act::Segment);
        if begins && line.text("chain") != self.name.as_deref() {
            found("another chain begins here".to_owned());
        }
    }
}

/// Along the chain of all records, with its checkpoints.
struct Walk<'a> {
    chain: Chain,
    options: &'a Options,
    key: Option<[u8; 32]>,
    first_key: Option<[u8; 32]>,
    /// Keys that checkpoints name as the next.
    named: Vec<[u8; 32]>,
    signed: Option<u64>,
    /// Of `proxied`, as checkpoints say, with their place.
    proxied_signed: Vec<(PathBuf, u64, u64, Tail)>,
    proxied: Vec<Wanted>,
    anchors: Ends,
    stored_is_there: bool,
    last: Option<(PathBuf, u64)>,
    first_seq: Option<u64>,
}

impl<'a> Walk<'a> {
    fn new(options: &'a Options) -> Self {
        Self {
            chain: Chain::default(),
            options,
            key: None,
            first_key: None,
            named: Vec::new(),
            signed: None,
            proxied_signed: Vec::new(),
            proxied: Vec::new(),
            anchors: HashMap::new(),
            stored_is_there: false,
            last: None,
            first_seq: None,
        }
    }

    fn files(&mut self, files: &[Opened], report: &mut Report) -> io::Result<()> {
        report.files.extend(files.iter().map(|f| f.path.clone()));
        self.anchors = self.read_anchors(files, report)?;
        lines(files, |file, _, number, bytes, _| self.line(file, number, bytes, report))
    }

    fn line(&mut self, file: &Path, number: u64, bytes: &[u8], report: &mut Report) {
        report.records += u64::from(number > 0);
        self.last = Some((file.to_owned(), number));
        let Some(line) = self.chain.step(file, number, bytes, report) else { return };
        self.first_seq.get_or_insert(line.seq);
        report.last_seq = line.seq;
        report.last_time = Some(line.time.clone());
        report.unsigned += 1;
        if line.is(Act::Begin) {
            self.first_key = line.text("key").and_then(fixed);
            self.key = self.first_key;
        }
        if line.is(Act::Checkpoint) {
            self.checkpoint(file, number, bytes, &line, report);
        }
        if line.is_proxied() {
            let content = warrant::sha256(&[line::content(bytes).unwrap_or_default().as_bytes()]);
            self.proxied.push(Wanted { file: file.to_owned(), line: number, seq: line.seq, hash: line.hash, content });
        }
        if let Some((_, seq, hash)) = &self.options.stored
            && *seq == line.seq
        {
            self.stored_is_there = true;
            if *hash != line.hash {
                report.found(file, number, Some(line.seq), "the store knows another record with this number");
            }
        }
        for (hash, anchor, at) in self.anchors.remove(&line.seq).unwrap_or_default() {
            if hash == hex(&line.hash) {
                report.anchored += 1;
            } else {
                let what = format!("the anchor {}:{at} knows another record with this number", anchor.display());
                report.found(file, number, Some(line.seq), what);
            }
        }
    }

    fn checkpoint(&mut self, file: &Path, number: u64, bytes: &[u8], line: &Line, report: &mut Report) {
        report.checkpoints += 1;
        report.unsigned = 0;
        let mut found = |what: String| report.found(file, number, Some(line.seq), what);
        let says = line.text("key").and_then(fixed);
        let key = self.key.or(says);
        if says != key {
            found("this checkpoint is signed with another key than the one named for it".to_owned());
        }
        let signs = key.and_then(|k| PublicKey::from_bytes(&k)).is_some_and(|k| line::is_signed_by(bytes, &k));
        if line.signature().is_none() || !signs {
            let since = self.signed.map_or("the beginning".to_owned(), |seq| format!("record {seq}"));
            found(format!("its signature doesn't hold: what is between {since} and here may have been written anew"));
        }
        self.key = line.text("next").and_then(fixed);
        self.named.extend(self.key);
        self.signed = Some(line.seq);
        if let Some(tail) = signed_tail(line) {
            self.proxied_signed.push((file.to_owned(), number, line.seq, tail));
        }
    }

    /// What is known of the end.
    fn finish(&mut self, is_dir: bool, report: &mut Report) -> io::Result<()> {
        report.chain.clone_from(&self.chain.name);
        report.first_key = self.first_key.map(|k| hex(&k));
        let (file, number) = self.last.clone().unwrap_or_default();
        let end = report.last_seq;
        let mut missing: Vec<_> = self.anchors.iter().filter(|(seq, _)| **seq > end).collect();
        missing.sort_by_key(|(seq, _)| **seq);
        if let Some((seq, known)) = missing.last() {
            let (_, anchor, at) = &known[0];
            let what = format!(
                "records {} to {seq} at least are cut off: the anchor {}:{at} knows record {seq}",
                end + 1,
                anchor.display()
            );
            report.found(&file, number, Some(end), what);
        }
        if let Some((chain, seq, _)) = &self.options.stored
            && self.chain.name.as_ref() == Some(chain)
            && !self.stored_is_there
            && *seq > end
        {
            let what = format!("records {} to {seq} at least are cut off: the store knows record {seq}", end + 1);
            report.found(&file, number, Some(end), what);
        }
        if let Some(expected) = &self.options.first_key
            && report.first_key.as_ref() != Some(expected)
        {
            let said = report.first_key.clone().unwrap_or_else(|| "none".to_owned());
            let first = report.files.first().cloned().unwrap_or_default();
            report.found(
                &first,
                1,
                None,
                format!("the chain's first key is {said}, not {expected}: it is another chain"),
            );
        }
        if !is_dir && self.options.anchors.is_empty() {
            report
                .notes
                .push("whether records after the last checkpoint were cut off only an anchor can say".to_owned());
        }
        Ok(())
    }

    /// The ends of this chain that were put elsewhere, by number.
    fn read_anchors(&self, files: &[Opened], report: &mut Report) -> io::Result<Ends> {
        let mut known = Ends::new();
        let Some(first) = files.first() else { return Ok(known) };
        let mut bytes = Vec::new();
        io::Seek::seek(&mut &first.file, io::SeekFrom::Start(0))?;
        BufReader::new(&first.file).take(LINE_MAX).read_until(b'\n', &mut bytes)?;
        let name = Line::read(&bytes).ok().and_then(|l| l.text("chain").map(str::to_owned));
        for path in &self.options.anchors {
            let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
            let mut reader = BufReader::new(File::open(path).map_err(named)?);
            let (mut bytes, mut number, mut of_this) = (Vec::new(), 0, 0);
            while reader.read_until(b'\n', &mut bytes).map_err(named)? > 0 {
                number += 1;
                let text = String::from_utf8_lossy(&bytes);
                let json = text.find("{\"").and_then(|at| serde_json::from_str::<Value>(text[at..].trim_end()).ok());
                if let Some(json) = json.filter(|j| j["stead_audit"].is_string())
                    && json["chain"].as_str() == name.as_deref()
                    && let (Some(seq), Some(hash)) = (json["seq"].as_u64(), json["hash"].as_str())
                {
                    of_this += 1;
                    known.entry(seq).or_default().push((hash.to_owned(), path.clone(), number));
                }
                bytes.clear();
            }
            if of_this == 0 {
                report.found(path, 0, None, "this anchor knows nothing of this chain");
            }
        }
        Ok(known)
    }
}

fn walk_proxied(files: &[Opened], is_whole: bool, report: &mut Report) -> io::Result<Chain> {
    report.files.extend(files.iter().map(|f| f.path.clone()));
    let mut chain = Chain { is_whole, ..Chain::default() };
    let mut entries = Vec::new();
    lines(files, |file, nth, number, bytes, at| {
        let Some(line) = chain.step(file, number, bytes, report) else { return };
        let content = warrant::sha256(&[line::content(bytes).unwrap_or_default().as_bytes()]);
        let of = line.of.clone().map(|of| (of.seq, of.hash));
        report.proxied += u64::from(of.is_some());
        if of.is_none() && !line.is(Act::Begin) && !line.is(Act::Segment) {
            report.found(file, number, Some(line.seq), "it doesn't say where it stands in the chain of all records");
        }
        entries.push(Entry { file: file.to_owned(), nth, line: number, at, tail: line.tail(), of, content });
    })?;
    chain.entries = entries;
    Ok(chain)
}

/// Both files have to say the same. `known`: what `proxied` had when the chain's end was looked for.
fn compare(walk: &Walk<'_>, proxied: &Chain, known: (usize, u64), report: &mut Report) {
    let by_place: HashMap<u64, &Entry> =
        proxied.entries.iter().filter_map(|e| e.of.as_ref().map(|of| (of.0, e))).collect();
    for wanted in &walk.proxied {
        match by_place.get(&wanted.seq) {
            None => {
                let what = "it is an operation in another's name, and missing among the proxied ones";
                report.found(&wanted.file, wanted.line, Some(wanted.seq), what);
            }
            Some(entry) => {
                let same_place = entry.of.as_ref().is_some_and(|of| of.1 == hex(&wanted.hash));
                if !same_place || entry.content != wanted.content {
                    let what = format!("it is not what record {} of the chain says", wanted.seq);
                    report.found(&entry.file, entry.line, Some(entry.tail.sequence), what);
                }
            }
        }
    }
    let of_chain: std::collections::HashSet<u64> = walk.proxied.iter().map(|w| w.seq).collect();
    let first = walk.first_seq.unwrap_or(1);
    for entry in &proxied.entries {
        let Some((seq, _)) = &entry.of else { continue };
        // Written since the chain's end was looked for, or before what was given begins.
        let is_newer = *seq > report.last_seq && (entry.nth + 1, entry.at) >= known;
        let is_older = *seq < first;
        if !of_chain.contains(seq) && !is_newer && !is_older {
            let what = format!("the chain of all records has no operation in another's name as its record {seq}");
            report.found(&entry.file, entry.line, Some(entry.tail.sequence), what);
        }
    }
    let by_sequence: HashMap<u64, [u8; 32]> = proxied.entries.iter().map(|e| (e.tail.sequence, e.tail.hash)).collect();
    let first = proxied.entries.first().map_or(0, |e| e.tail.sequence);
    for (file, line, seq, tail) in &walk.proxied_signed {
        if tail.sequence >= first && by_sequence.get(&tail.sequence) != Some(&tail.hash) {
            let what =
                format!("it signs record {} of the proxied operations, which is missing or another", tail.sequence);
            report.found(file, *line, Some(*seq), what);
        }
    }
}

/// The supervisor's key has to be the one that some checkpoint names: else those after it were cut off.
fn check_key(path: &Path, keys: &[[u8; 32]; 2], walk: &Walk<'_>, report: &mut Report) {
    let named = |key: &[u8; 32]| walk.named.contains(key) || walk.first_key.as_ref() == Some(key);
    if !keys.iter().any(named) {
        let what =
            "the key for the next checkpoint is one that no checkpoint names: the chain was cut off, or it is another";
        report.found(path, 0, None, what);
    }
}
