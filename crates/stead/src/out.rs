//! How results look: tables for people, JSON for programs, colours only on a terminal that wants them.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// Writes a line to standard output. Whoever reads it may leave early (`| head`): then we leave too, as any
/// program of the system does.
pub(crate) fn say(line: impl Display) {
    raw(format!("{line}\n").as_bytes());
}

pub(crate) fn raw(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        // As if killed by SIGPIPE.
        std::process::exit(141);
    }
}

/// A remark for a person, on standard error.
pub(crate) fn note(line: impl Display) {
    // With standard error closed there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

pub(crate) fn json(value: &Value) {
    if std::io::stdout().is_terminal() {
        say(format!("{value:#}"));
    } else {
        say(value);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Green,
    Red,
    Yellow,
    Blue,
    Dim,
    Bold,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Green => "32",
            Self::Red => "31",
            Self::Yellow => "33",
            Self::Blue => "36",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

/// Whether standard output takes colours: a terminal, and neither `NO_COLOR` nor a dumb one.
pub(crate) fn colours() -> bool {
    wants_colour(std::io::stdout().is_terminal())
}

pub(crate) fn wants_colour(terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

pub(crate) fn paint(text: &str, colour: Colour, on: bool) -> String {
    if on { format!("\x1b[{}m{text}\x1b[0m", colour.code()) } else { text.into() }
}

/// The colour of a state's word, whether a job's, a task's, an attempt's or a worker's.
fn colour_of(state: &str) -> Option<Colour> {
    match state {
        "complete" | "idle" | "run" | "active" => Some(Colour::Green),
        "failed" | "badlogin" | "panic" | "down" | "lost" | "refused" | "launch_failed" | "invalid" => {
            Some(Colour::Red)
        }
        "running" | "busy" | "launching" => Some(Colour::Blue),
        "blocked" | "suspended" | "killed" | "locked" | "waiting" | "requested" | "later" => Some(Colour::Yellow),
        _ => None,
    }
}

pub(crate) fn state(word: &str, on: bool) -> String {
    colour_of(word).map_or_else(|| word.into(), |colour| paint(word, colour, on))
}

/// What a name or reason may not do to a terminal: control characters become visible.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// A table without lines. `states` is the column that holds a state's word; columns before it must be of one width
/// per character.
pub(crate) fn table(headers: &[&str], rows: &[Vec<String>], states: Option<usize>, colour: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    let at = states.filter(|_| colour).and_then(|i| text.lines().next().and_then(|first| first.find(headers[i])));
    let mut lines = Vec::new();
    for (i, line) in text.lines().map(str::trim_end).enumerate() {
        lines.push(match at {
            _ if i == 0 => paint(line, Colour::Bold, colour),
            Some(at) => colour_at(line, at),
            None => line.into(),
        });
    }
    lines.join("\n")
}

/// A listing of which the last column is a remark of any length: where a line would be wider than the terminal, the
/// remarks stand below their rows.
pub(crate) fn listing(headers: &[&str], rows: &[Vec<String>], states: Option<usize>, to: &Target) -> String {
    let whole = table(headers, rows, states, to.colour);
    let Some((_, rest)) = headers.split_last() else { return whole };
    if to.has_room(&table(headers, rows, states, false)) {
        return whole;
    }
    let short: Vec<_> = rows.iter().map(|row| row.split_last().map_or(Vec::new(), |(_, rest)| rest.to_vec())).collect();
    let text = table(rest, &short, states, to.colour);
    let remarks = rows.iter().map(|row| row.last().map_or("", String::as_str));
    let mut lines = Vec::new();
    for (line, remark) in text.lines().zip(std::iter::once("").chain(remarks)) {
        lines.push(line.to_owned());
        if !remark.is_empty() {
            lines.push(format!("     {}", plain(remark)));
        }
    }
    lines.join("\n")
}

/// A table or, where that is wider than the terminal, one block per row.
pub(crate) fn table_or_blocks(headers: &[&str], rows: &[Vec<String>], states: Option<usize>, to: &Target) -> String {
    if to.has_room(&table(headers, rows, states, false)) {
        return table(headers, rows, states, to.colour);
    }
    let wide = headers.iter().map(|h| h.len()).max().unwrap_or(0);
    let block = |row: &Vec<String>| {
        let line = |(i, (header, cell)): (usize, (&&str, &String))| {
            let cell = if states == Some(i) { state(cell, to.colour) } else { plain(cell) };
            format!("{}  {cell}", paint(&format!("{header:wide$}"), Colour::Bold, to.colour))
        };
        headers.iter().zip(row).enumerate().map(line).collect::<Vec<_>>().join("\n")
    };
    rows.iter().map(block).collect::<Vec<_>>().join("\n\n")
}

/// What is written to, as far as the look depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) colour: bool,
    /// Of a terminal.
    width: Option<usize>,
}

impl Target {
    pub(crate) fn stdout() -> Self {
        Self::of(&std::io::stdout())
    }

    pub(crate) fn stderr() -> Self {
        Self::of(&std::io::stderr())
    }

    fn of(stream: &(impl IsTerminal + std::os::fd::AsFd)) -> Self {
        let terminal = stream.is_terminal();
        let size = terminal_size::terminal_size_of(stream).filter(|_| terminal);
        // A terminal that doesn't know its width says 0.
        let width = size.map(|(width, _)| usize::from(width.0)).filter(|w| *w > 0);
        Self { colour: wants_colour(terminal), width }
    }

    /// Whether no line of `text`, without colours, has to be broken.
    fn has_room(&self, text: &str) -> bool {
        self.width.is_none_or(|width| text.lines().all(|line| line.chars().count() <= width))
    }
}

fn colour_at(line: &str, at: usize) -> String {
    let Some((before, rest)) = line.split_at_checked(at) else { return line.into() };
    let end = rest.find(' ').unwrap_or(rest.len());
    format!("{before}{}{}", state(&rest[..end], true), &rest[end..])
}

/// Who submitted, and as whom if not as themselves.
pub(crate) fn who(login_user: &str, user: &str) -> String {
    if login_user == user { login_user.into() } else { format!("{login_user} as {user}") }
}

/// `null` and the empty text as a dash.
pub(crate) fn or_dash(text: Option<&str>) -> String {
    text.filter(|t| !t.is_empty()).unwrap_or("-").into()
}

/// `2026-11-22T10:11:12.123Z` in the person's own time zone is beyond us without a zone database; UTC without the
/// milliseconds is short and unmistakable.
pub(crate) fn time(stamp: Option<&str>) -> String {
    stamp.map_or_else(|| "-".into(), |s| s.get(..19).map_or_else(|| s.into(), |t| t.replace('T', " ")))
}

/// Between two stamps, as `1:02:03`.
pub(crate) fn duration(from: Option<&str>, to: Option<&str>) -> String {
    let parse = |s: Option<&str>| s.and_then(|s| s.parse::<jiff::Timestamp>().ok());
    let (Some(from), Some(to)) = (parse(from), parse(to)) else { return "-".into() };
    let ms = to.as_millisecond().saturating_sub(from.as_millisecond()).max(0);
    let s = ms / 1000;
    if s < 60 {
        return format!("{s}.{} s", ms % 1000 / 100);
    }
    if s < 3600 {
        format!("{}:{:02}", s / 60, s % 60)
    } else {
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    }
}

pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = n;
    let mut rest = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit == 0 { format!("{whole} B") } else { format!("{whole}.{} {}", rest * 10 / 1024, UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_end_without_spaces() {
        let rows =
            vec![vec!["7".into(), "complete".into(), "a\nb".into()], vec!["12".into(), "failed".into(), "c".into()]];
        let text = table(&["JOB", "STATE", "NAME"], &rows, Some(1), false);
        assert_eq!(text, "JOB  STATE     NAME\n7    complete  a\\nb\n12   failed    c");
    }

    #[test]
    fn what_is_too_wide_for_a_terminal_goes_below() {
        let headers = ["JOB", "STATE", "REASON"];
        let row = |cells: [&str; 3]| cells.map(Into::into).to_vec();
        let rows = vec![row(["7", "failed", "1 of 1 tasks failed"]), row(["12", "complete", ""])];
        let at = |width| Target { colour: false, width };
        let whole = table(&headers, &rows, Some(1), false);
        for width in [None, Some(34)] {
            assert_eq!(listing(&headers, &rows, Some(1), &at(width)), whole);
            assert_eq!(table_or_blocks(&headers, &rows, Some(1), &at(width)), whole);
        }
        assert_eq!(
            listing(&headers, &rows, Some(1), &at(Some(33))),
            "JOB  STATE\n7    failed\n     1 of 1 tasks failed\n12   complete"
        );
        assert_eq!(
            table_or_blocks(&headers, &rows, Some(1), &at(Some(33))),
            "JOB     7\nSTATE   failed\nREASON  1 of 1 tasks failed\n\nJOB     12\nSTATE   complete\nREASON  "
        );
        let coloured = Target { colour: true, width: Some(9) };
        assert!(table_or_blocks(&headers, &rows, Some(1), &coloured).contains("\x1b[31mfailed\x1b[0m"));
    }

    #[test]
    fn only_the_state_is_coloured() {
        let rows = vec![vec!["7".into(), "complete".into(), "complete".into()]];
        let text = table(&["JOB", "STATE", "NAME"], &rows, Some(1), true);
        assert_eq!(text.lines().nth(1), Some("7    \x1b[32mcomplete\x1b[0m  complete"));
    }

    #[test]
    fn no_escape_sequence_of_a_name_reaches_the_terminal() {
        assert_eq!(plain("a\x1b[31mb\x07"), "a\\u{1b}[31mb\\u{7}");
    }

    #[test]
    fn durations_and_sizes() {
        let at = |s: &'static str| Some(s);
        assert_eq!(duration(at("2026-01-01T00:00:00.000Z"), at("2026-01-01T00:00:01.250Z")), "1.2 s");
        assert_eq!(duration(at("2026-01-01T00:00:00.000Z"), at("2026-01-01T01:02:03.000Z")), "1:02:03");
        assert_eq!(duration(None, at("2026-01-01T00:00:00.000Z")), "-");
        assert_eq!((bytes(12), bytes(1536), bytes(3 << 30)), ("12 B".into(), "1.5 KiB".into(), "3.0 GiB".into()));
    }
}
