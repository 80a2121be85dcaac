//! Reads the audit for people: from a time or a record on, filtered, and what comes as it comes. Files and parts of files
//! that are before what is asked for aren't read.

use super::act::Act;
use super::ledger::{Backwards, Stem, find_back, line_at};
use super::line::{LINE_MAX, Line};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// About so much is given at once.
const PIECE: usize = 64 << 10;
/// Clocks may be set back so far without a record being missed.
const SLACK_US: i64 = 600 * 1_000_000;

/// Which records are wanted. Times are RFC 3339 in UTC with milliseconds, as they are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) since: Option<i64>,
    pub(crate) until: Option<i64>,
    pub(crate) actor: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) act: Option<Act>,
    pub(crate) outcome: Option<String>,
    pub(crate) job: Option<u64>,
    pub(crate) object: Option<String>,
    /// Only records after this one, or before it.
    pub(crate) after: Option<u64>,
    pub(crate) before: Option<u64>,
}

impl Filter {
    fn takes(&self, line: &Line) -> bool {
        let since = self.since.map(crate::clock::rfc3339);
        let until = self.until.map(crate::clock::rfc3339);
        since.is_none_or(|t| line.time >= t)
            && until.is_none_or(|t| line.time < t)
            && self.after.is_none_or(|n| line.seq > n)
            && self.before.is_none_or(|n| line.seq < n)
            && self.object.as_ref().is_none_or(|o| line.object.as_ref() == Some(o))
            && self.actor.as_ref().is_none_or(|a| line.login_user.as_ref() == Some(a))
            && self.user.as_ref().is_none_or(|u| line.user.as_ref() == Some(u))
            && self.act.is_none_or(|a| line.is(a))
            && self.outcome.as_ref().is_none_or(|o| line.outcome == *o)
            && self.job.is_none_or(|j| line.job == Some(j))
    }

    /// Cheap, and true for every record that is wanted.
    fn may_take(&self, bytes: &[u8]) -> bool {
        let has = |needle: String| memchr(bytes, needle.as_bytes());
        self.before.is_none_or(|n| sequence_of(bytes).is_none_or(|seq| seq < n))
            && self.act.is_none_or(|a| has(format!("\"act\":\"{}\"", a.as_str())))
            && self.job.is_none_or(|j| has(format!("\"job\":{j}")))
            && self.actor.as_ref().is_none_or(|a| !is_plain(a) || has(format!("\"login_user\":\"{a}\"")))
            && self.user.as_ref().is_none_or(|u| !is_plain(u) || has(format!("\"user\":\"{u}\"")))
            && self.object.as_ref().is_none_or(|o| !is_plain(o) || has(format!("\"object\":\"{o}\"")))
    }

    fn wants(&self, bytes: &[u8]) -> bool {
        self.may_take(bytes) && serde_json::from_slice::<Line>(bytes).is_ok_and(|line| self.takes(&line))
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

fn memchr(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|w| w == needle)
}

/// The last `n` records that are wanted, the oldest first.
pub(crate) fn last(stem: &Stem, filter: &Filter, n: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let stop = filter.since.map(|t| crate::clock::rfc3339(t.saturating_sub(SLACK_US)));
    for bytes in Backwards::new(stem.files()?) {
        let bytes = bytes?;
        if found.len() >= n || stop.as_ref().is_some_and(|stop| time_of(&bytes).is_some_and(|t| t < stop.as_str())) {
            break;
        }
        if filter.wants(&bytes) {
            found.push(bytes);
        }
    }
    found.reverse();
    Ok(found)
}

/// Reads on from where it is; at the end it can be asked again later.
#[derive(Debug)]
pub(crate) struct Reader {
    stem: Stem,
    filter: Filter,
    open: Option<BufReader<File>>,
    /// Of a line that is being written.
    half: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(stem: Stem, filter: Filter) -> io::Result<Self> {
        let files = stem.files()?;
        let mut reader = Self { stem, filter, open: None, half: Vec::new() };
        let at = reader.first_file(&files)?;
        if let Some(path) = files.get(at) {
            let mut file = File::open(path)?;
            let start = reader.start_in(&mut file)?;
            file.seek(SeekFrom::Start(start))?;
            reader.open = Some(BufReader::with_capacity(PIECE, file));
        }
        Ok(reader)
    }

    /// The last file that begins before what is wanted.
    fn first_file(&self, files: &[PathBuf]) -> io::Result<usize> {
        for (n, path) in files.iter().enumerate().rev() {
            if n == 0 || self.is_before(&line_at(&mut File::open(path)?, 0)?) {
                return Ok(n);
            }
        }
        Ok(0)
    }

    /// Whether the record is surely before all that is wanted. Without a wish nothing is.
    fn is_before(&self, bytes: &[u8]) -> bool {
        let since = self.filter.since.map(|t| crate::clock::rfc3339(t.saturating_sub(SLACK_US)));
        let by_time = since.is_some_and(|since| time_of(bytes).is_some_and(|t| t < since.as_str()));
        let by_number = self.filter.after.is_some_and(|after| sequence_of(bytes).is_some_and(|n| n <= after));
        by_time || by_number
    }

    /// The line to begin with: found by halving.
    fn start_in(&self, file: &mut File) -> io::Result<u64> {
        let (mut low, mut high) = (0, file.metadata()?.len());
        while high - low > PIECE as u64 {
            let middle = find_back(file, low + (high - low) / 2)?;
            if middle <= low {
                break;
            }
            if self.is_before(&line_at(file, middle)?) { low = middle } else { high = middle }
        }
        Ok(low)
    }

    /// The next lines that are wanted; none: there are no more now.
    pub(crate) fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < PIECE {
            let Some(open) = &mut self.open else {
                if !self.next_file()? {
                    break;
                }
                continue;
            };
            let n = open.by_ref().take(LINE_MAX).read_until(b'\n', &mut self.half)?;
            if n == 0 {
                // A file that is full is never written again; there may be several since.
                if !self.next_file()? {
                    break;
                }
            } else if self.half.ends_with(b"\n") {
                if self.filter.wants(&self.half) {
                    out.extend_from_slice(&self.half);
                }
                self.half.clear();
            }
        }
        Ok(out)
    }

    fn next_file(&mut self) -> io::Result<bool> {
        let files = self.stem.files()?;
        let next = match &self.open {
            None => 0,
            Some(open) => {
                let now = open.get_ref().metadata()?;
                let at = files
                    .iter()
                    .position(|p| std::fs::metadata(p).is_ok_and(|m| (m.dev(), m.ino()) == (now.dev(), now.ino())));
                at.map_or(files.len(), |at| at + 1)
            }
        };
        let Some(path) = files.get(next) else { return Ok(false) };
        self.open = Some(BufReader::with_capacity(PIECE, File::open(path)?));
        Ok(true)
    }
}

/// As every line begins: `{"seq":N,"time":"…"`.
fn sequence_of(bytes: &[u8]) -> Option<u64> {
    let rest = std::str::from_utf8(bytes.get(7..30)?).ok()?;
    rest.split(',').next()?.parse().ok()
}

fn time_of(bytes: &[u8]) -> Option<&str> {
    let start = std::str::from_utf8(bytes.get(..80)?).ok()?;
    start.split_once("\"time\":\"")?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::super::{Act, Actor, Audit, Options, Record};
    use super::*;
    use std::path::Path;

    async fn filled(dir: &Path, n: u64) -> Audit {
        let (audit, _) = Audit::open(dir, &Options { anchor: None, file_max: 20_000 }).expect("open");
        for n in 0..n {
            let who = if n % 2 == 0 { "ada" } else { "bob" };
            let actor = Actor { login_user: Some(who.into()), user: Some(who.into()), ..Actor::default() };
            audit
                .write(Record::done(Act::Submit, actor).job(n).with("filler", "x".repeat(300)))
                .await
                .expect("written");
        }
        audit
    }

    fn numbers(bytes: &[u8]) -> Vec<u64> {
        bytes.split_inclusive(|b| *b == b'\n').map(|l| sequence_of(l).expect("a number")).collect()
    }

    fn all(reader: &mut Reader) -> Vec<u64> {
        let mut found = Vec::new();
        loop {
            let piece = reader.next().expect("read");
            if piece.is_empty() {
                return found;
            }
            found.extend(numbers(&piece));
        }
    }

    #[tokio::test]
    async fn it_begins_where_it_is_asked_to_and_follows_from_file_to_file() {
        let dir = tempfile::tempdir().expect("dir");
        let audit = filled(dir.path(), 300).await;
        let stem = Stem::chain(dir.path());
        assert!(stem.files().expect("files").len() > 3);
        let read = |filter| Reader::new(stem.clone(), filter).expect("reader");
        let whole = all(&mut read(Filter::default()));
        assert_eq!(whole, (1..=*whole.last().expect("some")).collect::<Vec<_>>());
        for after in [0, 1, 57, 200, 299] {
            let rest = all(&mut read(Filter { after: Some(after), ..Filter::default() }));
            assert_eq!(rest.first(), Some(&(after + 1)));
            assert_eq!(rest.len() as u64, whole.len() as u64 - after);
        }
        let of_bob = Filter { actor: Some("bob".into()), act: Some(Act::Submit), ..Filter::default() };
        assert_eq!(all(&mut read(of_bob.clone())).len(), 150);
        assert_eq!(all(&mut read(Filter { job: Some(7), ..Filter::default() })).len(), 1);
        let future = Filter { since: Some(crate::clock::now() + 1_000_000), ..Filter::default() };
        assert_eq!(all(&mut read(future.clone())), [] as [u64; 0]);
        let past = Filter { until: Some(crate::clock::now() - 3_600_000_000), ..Filter::default() };
        assert_eq!(all(&mut read(past)), [] as [u64; 0]);
        let lasting = last(&stem, &of_bob, 3).expect("read");
        assert_eq!(lasting.len(), 3);
        assert!(lasting[0] < lasting[2]);
        let first = sequence_of(&lasting[0]).expect("a number");
        let earlier = last(&stem, &Filter { before: Some(first), ..of_bob.clone() }, 3).expect("read");
        assert_eq!(
            earlier.iter().map(|l| sequence_of(l).expect("a number")).collect::<Vec<_>>(),
            [first - 6, first - 4, first - 2]
        );
        let of_nothing = Filter { object: Some("nothing".into()), ..Filter::default() };
        assert_eq!(last(&stem, &of_nothing, 3).expect("read").len(), 0);
        // What comes later, over several files.
        let mut follower = read(Filter { after: whole.last().copied(), ..Filter::default() });
        assert_eq!(all(&mut follower), [] as [u64; 0]);
        for n in 0..150 {
            audit.write(Record::new(Act::Warrant).job(n).with("filler", "x".repeat(300))).await.expect("written");
        }
        let new = all(&mut follower);
        assert!(new.len() >= 150, "{}", new.len());
        assert_eq!(new.first(), Some(&(whole.len() as u64 + 1)));
        assert!(new.windows(2).all(|w| w[1] == w[0] + 1), "none is missed");
    }
}
