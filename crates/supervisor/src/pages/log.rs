//! What a job printed, as a page that follows it.
//!
//! Nothing here holds a whole log: it is read in pieces, and what is kept are the lines of one window. A place in it is
//! the number of a line; the stream of new lines goes on from a byte, which a browser names again after a break.

use super::job::head;
use super::{Fields, Html, Visit};
use crate::api::logs::Reading;
use crate::api::{ApiError, App, JobId};
use crate::ask::LogScope;
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::events::Listener;
use crate::logs::{Filter, Reader, Streams};
use crate::workshop::Gone;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sse, Sse as Answer};
use futures_util::Stream;
use serde_json::json;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;
use web::ansi::{Style, line, plain};
use web::pages::{LogLine, LogLines, LogPage, LogScope as Scope, Search, Tab};
use web::{Nav, Template as _, Text};

/// Lines of a window.
const WINDOW: usize = 1000;
/// Lines shown before the first error.
const BEFORE_ERROR: usize = 20;
/// A longer line is shown as several.
const LINE_MAX: usize = 4096;
/// Matches of a search that are shown, and bytes of each.
const FOUND_MAX: usize = 200;
const FOUND_SHOWN: usize = 300;
/// Lines sent at once, and how often: a browser keeps up with that.
const AT_ONCE: usize = 500;
const PACE: Duration = Duration::from_millis(100);
/// A follower looks, and is asked whether it may, at least this often.
const LOOK: Duration = Duration::from_secs(2);
/// How long output may come after the job's end is known.
const AFTERMATH: Duration = Duration::from_millis(300);
/// Words of a line that tells of an error.
const ERRORS: &[&str] = &[
    "error",
    "fatal",
    "traceback",
    "exception",
    "panicked",
    "failed",
    "failure",
    "cannot ",
    "can't ",
    "not found",
    "no such file",
    "permission denied",
    "segmentation fault",
    "core dumped",
    "out of memory",
];
/// The same words in lines that tell of none.
const NO_ERRORS: &[&str] = &["0 error", "no error", "0 failed", "error: 0", "errors: 0"];

/// What is asked for, of which part.
struct Wanted {
    scope: Scope,
    filter: Filter,
}

fn wanted(job: u64, fields: &Fields) -> Result<Wanted, ApiError> {
    let number = |name: &'static str| {
        let parsed =
            fields.get(name).map(|v| v.parse::<u64>().map_err(|_| ServiceError::input(name, "it is no number")));
        parsed.transpose()
    };
    let small = |name: &'static str| {
        let number = number(name)?.map(u32::try_from).transpose();
        number.map_err(|_| ServiceError::input(name, "it is too large"))
    };
    let stream = fields.get("stream").unwrap_or_default();
    let streams = match stream {
        "" => Streams::All,
        "stdout" => Streams::Stdout,
        "stderr" => Streams::Stderr,
        other => return Err(ServiceError::input("stream", format!("{other:?} is neither stdout nor stderr")).into()),
    };
    let (step, task, attempt) = (small("step")?, number("task")?, small("attempt")?);
    let scope = Scope { job, step, task, attempt, stream: stream.to_owned() };
    Ok(Wanted { scope, filter: Filter { step, task, attempt, streams, prefix: task.is_none() } })
}

/// Whether they may, which is written down, and the reader.
async fn opened(app: &App, caller: &Caller, wanted: &Wanted) -> Result<(LogScope, Reader), ApiError> {
    let Wanted { scope, filter } = wanted;
    let step = scope.step.map(|s| s.to_string());
    let of = app.service.log_scope(caller, scope.job, step.as_deref(), scope.task).await?;
    app.service.views_log(caller, &of).await?;
    let reader = app.service.log_reader(&of, filter.clone());
    Ok((of, reader))
}

pub(super) async fn page(
    State(app): State<App>,
    visit: Visit,
    id: JobId,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Html, ApiError> {
    let (id, fields) = (id.0, Fields(query));
    let head = head(&app, &visit, id, Tab::Log).await?;
    let wanted = wanted(id, &fields)?;
    let (of, reader) = opened(&app, &visit.caller, &wanted).await?;
    // Asked first: what was printed before the end is then there to be read.
    let is_over = app.service.is_log_over(&of).await?;
    let look = Look {
        from: fields.get("line").and_then(|n| n.parse().ok()),
        first_error: fields.get("at") == Some("error"),
        search: fields.get("q").map(str::to_lowercase),
    };
    let person = visit.caller.principal.login_user.as_str();
    let looked = app.service.reading.work_while_wanted(person, move |gone| look.at(reader, gone)).await;
    let seen = looked.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())).map_err(|error| {
        tracing::error!(%error, job = id, "a log can't be read");
        ServiceError::Conflict("the log can't be read now".to_owned())
    })?;
    let scope = wanted.scope;
    let mut frame = visit.frame(format!("{id} {}: log", head.name), Nav::Jobs);
    frame.live = Some(format!("/events?job={id}"));
    // The whole page would be read, and recorded, again for each change: only the head is fetched.
    frame.refresh = Some(format!("/jobs/{id}/head"));
    frame.api = Some(format!("/api/v1/jobs/{id}/logs?{}", scope.query()).trim_end_matches('?').into());
    frame.cli = Some(command_line(&scope, !is_over).into());
    let note = match (fields.get("at"), seen.error) {
        (Some("error"), None) => Some("No line of it looks like an error.".into()),
        (Some("error"), Some(line)) => Some(format!("The first line that looks like an error is {line}.").into()),
        _ => None,
    };
    let found = fields.get("q").map(|q| Search { q: q.to_owned(), is_cut: seen.found_more, found: seen.found });
    Html::of(&LogPage {
        frame,
        head,
        scope,
        lines: LogLines { lines: seen.lines },
        bytes: seen.bytes,
        total: seen.total,
        search: found,
        offset: seen.next.0,
        next_line: seen.next.1,
        is_over,
        is_end: seen.is_end,
        note,
    })
}

/// What stands on top, by itself: what a page that is costly to make fetches to stay live.
pub(super) async fn only_head(State(app): State<App>, visit: Visit, id: JobId) -> Result<Html, ApiError> {
    let head = head(&app, &visit, id.0, Tab::Log).await?;
    Html::of(&web::pages::HeadPage { frame: visit.frame(format!("{}", id.0), Nav::Jobs), head })
}

fn command_line(scope: &Scope, follow: bool) -> String {
    let of = match (scope.step, scope.task) {
        (Some(step), Some(task)) => format!(".{step}.{task}"),
        (None, Some(task)) => format!(".{task}"),
        _ => String::new(),
    };
    let attempt = scope.attempt.map(|a| format!(" --attempt {a}")).unwrap_or_default();
    let stream = if scope.stream.is_empty() { String::new() } else { format!(" --stream {}", scope.stream) };
    format!("stead logs {}{of}{attempt}{stream}{}", scope.job, if follow { " -f" } else { "" })
}

// --- a window

struct Look {
    /// The first line of the window; else its end is the end of the log.
    from: Option<u64>,
    first_error: bool,
    search: Option<String>,
}

#[derive(Default)]
struct Seen {
    lines: Vec<LogLine>,
    bytes: u64,
    total: u64,
    error: Option<u64>,
    found: Vec<(u64, Text)>,
    found_more: bool,
    /// Byte and number of the first line that is not complete.
    next: (u64, u64),
    /// The window's end is the log's.
    is_end: bool,
}

/// A line as it was printed.
struct Printed {
    number: u64,
    bytes: Vec<u8>,
    is_torn: bool,
}

impl Look {
    fn at(self, mut reader: Reader, gone: &Gone) -> io::Result<Seen> {
        let mut seen = Seen::default();
        let mut window: VecDeque<Printed> = VecDeque::new();
        let mut lines = Splitter::from((0, 1));
        let mut keep = |seen: &mut Seen, printed: Printed| {
            self.note(seen, &printed);
            match (self.first_error, seen.error, self.from) {
                // It begins somewhere, and is full once.
                (true, Some(_), _) if window.len() < WINDOW => window.push_back(printed),
                (false, _, Some(from)) if printed.number >= from && window.len() < WINDOW => window.push_back(printed),
                (true, Some(_), _) | (false, _, Some(_)) => {}
                // Its end is the end of what is there, or the line before the first error.
                (true, None, _) => push_last(&mut window, printed, BEFORE_ERROR),
                (false, _, None) => push_last(&mut window, printed, WINDOW),
            }
        };
        while let Some(piece) = reader.next()? {
            if gone.is() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            lines.take(&piece, |printed| keep(&mut seen, printed));
        }
        seen.next = lines.at();
        if let Some(printed) = lines.rest() {
            keep(&mut seen, printed);
        }
        seen.bytes = lines.bytes;
        seen.is_end = window.back().is_none_or(|last| last.number == seen.total);
        let wanted = if self.first_error { seen.error } else { self.from };
        let mut style = Style::default();
        let shown = |p: Printed| LogLine {
            number: p.number,
            html: line(&p.bytes, &mut style),
            is_torn: p.is_torn,
            is_wanted: wanted == Some(p.number) && (self.first_error || p.number > 1),
        };
        seen.lines = window.into_iter().map(shown).collect();
        Ok(seen)
    }

    /// What is to be known of each line, whether it is shown or not.
    fn note(&self, seen: &mut Seen, printed: &Printed) {
        seen.total = printed.number;
        if !(self.first_error && seen.error.is_none()) && self.search.is_none() {
            return;
        }
        let text = plain(&printed.bytes);
        let low = text.to_lowercase();
        if self.first_error && seen.error.is_none() && tells_of_an_error(&low) {
            seen.error = Some(printed.number);
        }
        if self.search.as_ref().is_some_and(|q| low.contains(q.as_str())) {
            if seen.found.len() < FOUND_MAX {
                let shown: String = text.chars().take(FOUND_SHOWN).collect();
                seen.found.push((printed.number, shown.into()));
            } else {
                seen.found_more = true;
            }
        }
    }
}

fn push_last(window: &mut VecDeque<Printed>, printed: Printed, most: usize) {
    if window.len() >= most {
        window.pop_front();
    }
    window.push_back(printed);
}

fn tells_of_an_error(low: &str) -> bool {
    ERRORS.iter().any(|word| low.contains(word)) && !NO_ERRORS.iter().any(|word| low.contains(word))
}

/// Past the last byte, and the last line, of any log.
const PLACE_MAX: u64 = 1 << 53;

/// Makes lines of pieces; none is longer than [`LINE_MAX`].
struct Splitter {
    carry: Vec<u8>,
    /// Where the line in `carry` begins.
    offset: u64,
    number: u64,
    bytes: u64,
}

impl Splitter {
    /// Both may be what a browser says: no log has so many, and what is counted from there stays a number.
    fn from((offset, number): (u64, u64)) -> Self {
        let (offset, number) = (offset.min(PLACE_MAX), number.min(PLACE_MAX));
        Self { carry: Vec::new(), offset, number, bytes: offset }
    }

    fn take(&mut self, mut piece: &[u8], mut give: impl FnMut(Printed)) {
        self.bytes += piece.len() as u64;
        while !piece.is_empty() {
            let room = LINE_MAX - self.carry.len();
            let end = piece.iter().take(room).position(|b| *b == b'\n');
            match end {
                Some(end) => {
                    self.carry.extend_from_slice(&piece[..end]);
                    piece = &piece[end + 1..];
                    let bytes = std::mem::take(&mut self.carry);
                    self.give(bytes, 1, false, &mut give);
                }
                None => {
                    let taken = room.min(piece.len());
                    self.carry.extend_from_slice(&piece[..taken]);
                    piece = &piece[taken..];
                    if self.carry.len() >= LINE_MAX {
                        let rest = self.carry.split_off(whole_characters(&self.carry));
                        let bytes = std::mem::replace(&mut self.carry, rest);
                        self.give(bytes, 0, true, &mut give);
                    }
                }
            }
        }
    }

    fn give(&mut self, bytes: Vec<u8>, end: u64, is_torn: bool, give: &mut impl FnMut(Printed)) {
        self.offset += bytes.len() as u64 + end;
        let number = self.number;
        self.number += 1;
        give(Printed { number, bytes, is_torn });
    }

    /// The byte and the number of the line that isn't complete.
    fn at(&self) -> (u64, u64) {
        (self.offset, self.number)
    }

    /// That line, as far as it is there.
    fn rest(&self) -> Option<Printed> {
        let there = !self.carry.is_empty();
        there.then(|| Printed { number: self.number, bytes: self.carry.clone(), is_torn: false })
    }
}

/// So many bytes don't end within a character.
fn whole_characters(bytes: &[u8]) -> usize {
    let begins = |b: u8| b & 0b1100_0000 != 0b1000_0000;
    match bytes.iter().rev().take(4).position(|b| begins(*b)) {
        Some(back) if bytes[bytes.len() - 1 - back] >= 0b1100_0000 => (bytes.len() - 1 - back).max(1),
        _ => bytes.len(),
    }
}

// --- what comes

/// Lines from a place on, until nothing more may come. The id of each event is the place after it.
pub(super) async fn events(
    State(app): State<App>,
    caller: Caller,
    id: JobId,
    headers: HeaderMap,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Answer<impl Stream<Item = Result<Sse, Infallible>>>, ApiError> {
    let fields = Fields(query);
    let number = |name| fields.get(name).and_then(|n| n.parse().ok());
    let named = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(place);
    let from = named.unwrap_or((number("offset").unwrap_or(0), number("line").unwrap_or(1)));
    let wanted = wanted(id.0, &fields)?;
    let (scope, reader) = opened(&app, &caller, &wanted).await?;
    let listener = app.service.events.listen();
    let (to_client, events) = mpsc::channel(4);
    let lines = Splitter::from(from);
    let reading = Reading::new(app, caller, scope);
    let follower = Follower { reading, listener, skip: lines.offset, lines, to_client };
    tokio::spawn(follower.follow(reader));
    Ok(Answer::new(futures_util::stream::unfold(events, |mut events| async {
        let event: Sse = events.recv().await?;
        Some((Ok(event), events))
    })))
}

/// `OFFSET.LINE`.
fn place(id: &str) -> Option<(u64, u64)> {
    let (offset, line) = id.split_once('.')?;
    Some((offset.parse().ok()?, line.parse().ok()?))
}

struct Follower {
    reading: Reading,
    listener: Listener,
    skip: u64,
    lines: Splitter,
    to_client: mpsc::Sender<Sse>,
}

impl Follower {
    async fn follow(mut self, mut reader: Reader) {
        loop {
            if !self.reading.may_go_on().await {
                return self.over().await;
            }
            let is_over = self.reading.is_over().await;
            if is_over {
                tokio::time::sleep(AFTERMATH).await;
            }
            loop {
                let read = tokio::task::spawn_blocking(move || {
                    let piece = reader.next();
                    (reader, piece)
                });
                let Ok((back, piece)) = read.await else { return };
                reader = back;
                match piece {
                    Ok(Some(piece)) => {
                        if self.give(&piece).await.is_none() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(%error, "a log can't be read");
                        return;
                    }
                }
                // Long logs take slow readers long: their right to it may end meanwhile.
                if !self.reading.may_have_more().await {
                    return self.over().await;
                }
            }
            if self.give_rest().await.is_none() {
                return;
            }
            if is_over {
                let _ = self.to_client.send(Sse::default().event("end").data("{}")).await;
                return;
            }
            tokio::select! {
                _ = tokio::time::timeout(LOOK, self.listener.changed(self.reading.job())) => {}
                () = self.to_client.closed() => return,
            }
        }
    }

    /// They may not read it any more.
    async fn over(&self) {
        let _ = self.to_client.send(Sse::default().event("over").data("{}")).await;
    }

    /// `None` when nobody reads any more.
    async fn give(&mut self, piece: &[u8]) -> Option<()> {
        let known = usize::try_from(self.skip).unwrap_or(usize::MAX).min(piece.len());
        self.skip -= known as u64;
        let mut printed = Vec::new();
        self.lines.take(&piece[known..], |line| printed.push(line));
        let last = printed.len().saturating_sub(1) / AT_ONCE;
        let mut all = printed.into_iter();
        for n in 0..=last {
            let some: Vec<Printed> = all.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            let after = some.last().map(|p| p.number + 1).unwrap_or(1);
            // Only the last of them knows the byte after it; until then a break begins the piece again.
            let id = (n == last).then(|| self.lines.at()).filter(|(_, number)| *number == after);
            self.send(some, id).await?;
            tokio::time::sleep(PACE).await;
        }
        Some(())
    }

    /// The line that is not complete, as far as it is there: it comes again.
    async fn give_rest(&mut self) -> Option<()> {
        match self.lines.rest() {
            Some(rest) => {
                let at = self.lines.at();
                self.send(vec![rest], Some(at)).await
            }
            None => Some(()),
        }
    }

    async fn send(&self, printed: Vec<Printed>, id: Option<(u64, u64)>) -> Option<()> {
        let mut style = Style::default();
        let shown = |p: Printed| LogLine {
            number: p.number,
            html: line(&p.bytes, &mut style),
            is_torn: p.is_torn,
            is_wanted: false,
        };
        let html = LogLines { lines: printed.into_iter().map(shown).collect() }.render().ok()?;
        let event = Sse::default().event("lines").json_data(json!({ "html": html })).ok()?;
        let event = match id {
            Some((offset, number)) => event.id(format!("{offset}.{number}")),
            None => event,
        };
        self.to_client.send(event).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lines = Vec<(u64, String, bool)>;

    fn split(pieces: &[&[u8]]) -> (Lines, (u64, u64)) {
        let mut lines = Splitter::from((0, 1));
        let mut out = Vec::new();
        for piece in pieces {
            lines.take(piece, |p| out.push((p.number, String::from_utf8_lossy(&p.bytes).into_owned(), p.is_torn)));
        }
        (out, lines.at())
    }

    #[test]
    fn lines_whatever_the_pieces() {
        let (lines, at) = split(&[b"one\ntw", b"o\n\nthr", b"ee"]);
        let texts: Vec<&str> = lines.iter().map(|(_, text, _)| text.as_str()).collect();
        assert_eq!((texts, at), (vec!["one", "two", ""], (9, 4)));
    }

    #[test]
    fn a_place_that_no_log_has_stops_nobody() {
        let mut lines = Splitter::from((u64::MAX, u64::MAX));
        let mut count = 0;
        lines.take(b"one\ntwo\n", |_| count += 1);
        assert_eq!((count, lines.at()), (2, (PLACE_MAX + 8, PLACE_MAX + 2)));
    }

    #[test]
    fn a_line_without_end_is_several() {
        let long = "é".repeat(LINE_MAX);
        let (lines, at) = split(&[long.as_bytes(), b"x\nend\n"]);
        assert!(lines.iter().all(|(_, text, _)| text.len() <= LINE_MAX && !text.contains('\u{fffd}')));
        let whole: String = lines[..lines.len() - 1].iter().map(|(_, text, _)| text.as_str()).collect();
        assert_eq!(whole, format!("{long}x"));
        assert_eq!(lines.iter().filter(|(.., torn)| *torn).count(), 2);
        assert_eq!(at, (long.len() as u64 + 6, 5));
    }

    #[test]
    fn places_come_from_browsers() {
        assert_eq!(place("12.3"), Some((12, 3)));
        for bad in ["", "12", "12.", ".3", "-1.2", "a.b", "1.2.3"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_looks_like_an_error() {
        for text in ["error: no such object", "traceback (most recent call last):", "bash: povray: command not found"] {
            assert!(tells_of_an_error(text), "{text}");
        }
        for text in ["frame 7 done", "finished: 0 errors", "no errors found", "0 failed"] {
            assert!(!tells_of_an_error(text), "{text}");
        }
    }
}
