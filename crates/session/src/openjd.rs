//! The `openjd_…` lines of a task's standard output (OpenJD 2023-09, and `openjd_redacted_env`).
//!
//! The output itself goes on unchanged, but for the values of `openjd_redacted_env`, which are never shown. A line
//! that is not a message costs nothing to remember, however long it is.

/// The longest line that is looked at as a message.
const LINE_MAX: usize = 64 << 10;
const MESSAGE: &[u8] = b"openjd_";
const SECRET: &[u8] = b"openjd_redacted_env:";
pub(crate) const STARS: &[u8] = b"********";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// In hundredths of a percent.
    Progress(u32),
    Status(String),
    Fail(String),
    Set {
        name: Vec<u8>,
        value: Vec<u8>,
    },
    /// Like `Set`, and the value is hidden in all later output.
    SetSecret {
        name: Vec<u8>,
        value: Vec<u8>,
    },
    Unset(Vec<u8>),
    /// Meant to change the environment, but not understood. Carries which message it was.
    Malformed(&'static str),
}

/// One line without its end. Lines that are no message, and progress that is no percentage, mean nothing.
fn parse(line: &[u8]) -> Option<Message> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let at = line.windows(2).position(|w| w == b": ")?;
    let (kind, rest) = (line.get(..at)?, line.get(at + 2..)?);
    if rest.is_empty() {
        return None;
    }
    let text = || String::from_utf8_lossy(rest).into_owned();
    match kind {
        b"openjd_progress" => progress(rest).map(Message::Progress),
        b"openjd_status" => Some(Message::Status(text())),
        b"openjd_fail" => Some(Message::Fail(text())),
        b"openjd_env" => Some(
            assignment(rest).map_or(Message::Malformed("openjd_env"), |(name, value)| Message::Set { name, value }),
        ),
        b"openjd_redacted_env" => Some(
            assignment(rest)
                .map_or(Message::Malformed("openjd_redacted_env"), |(name, value)| Message::SetSecret { name, value }),
        ),
        b"openjd_unset_env" => {
            let name = rest.trim_ascii();
            Some(if is_name(name) { Message::Unset(name.to_vec()) } else { Message::Malformed("openjd_unset_env") })
        }
        _ => None,
    }
}

fn progress(text: &[u8]) -> Option<u32> {
    let percent: f64 = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    if !(0.0..=100.0).contains(&percent) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 10000")]
    Some((percent * 100.0).round() as u32)
}

/// `NAME=value`, plain or as a JSON string.
fn assignment(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let decoded;
    let text = if text.starts_with(b"\"") {
        decoded = json_string(std::str::from_utf8(text).ok()?.trim_end())?;
        decoded.as_bytes()
    } else {
        text
    };
    let at = text.iter().position(|b| *b == b'=')?;
    let (name, value) = (text.get(..at)?, text.get(at + 1..)?);
    (is_name(name) && !value.contains(&0)).then(|| (name.to_vec(), value.to_vec()))
}

fn is_name(name: &[u8]) -> bool {
    let first = name.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
    first && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// One JSON string with its quotes and nothing after it.
fn json_string(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\0'..='\u{1f}' => return None,
            '\\' => out.push(match chars.next()? {
                c @ ('"' | '\\' | '/') => c,
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => unicode_escape(&mut chars)?,
                _ => return None,
            }),
            c => out.push(c),
        }
    }
    Some(out)
}

/// What follows `\u`: four digits, or a surrogate pair.
fn unicode_escape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let high = four_digits(chars)?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high);
    }
    if chars.next()? != '\\' || chars.next()? != 'u' {
        return None;
    }
    let low = four_digits(chars)?;
    if !(0xdc00..0xe000).contains(&low) {
        return None;
    }
    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
}

fn four_digits(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |n, _| Some(n * 16 + chars.next()?.to_digit(16)?))
}

/// Takes a stream apart into lines as it comes, in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    state: State,
    /// The start of the line that may be a message.
    line: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// What came of the line could still become a secret, so nothing of it was passed on.
    #[default]
    Start,
    /// Passed on already; remembered to be understood at its end.
    Message,
    /// No message: nothing is remembered.
    Plain,
    /// Held back until its end, then passed on without the value.
    Secret,
    /// A secret longer than any message: the rest of it is swallowed.
    Swallow,
}

impl Lines {
    /// Appends to `out` what may be shown of `input`, and to `messages` what it says.
    pub(crate) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>, messages: &mut Vec<Message>) {
        let mut rest = input;
        while !rest.is_empty() {
            let end = rest.iter().position(|b| *b == b'\n');
            let (piece, tail) = rest.split_at(end.unwrap_or(rest.len()));
            self.piece(piece, out, messages);
            rest = tail;
            if end.is_some() {
                self.line_end(out, messages);
                out.push(b'\n');
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }

    /// The stream has ended, perhaps within a line.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>, messages: &mut Vec<Message>) {
        self.line_end(out, messages);
    }

    /// A part of one line.
    fn piece(&mut self, piece: &[u8], out: &mut Vec<u8>, messages: &mut Vec<Message>) {
        let mut piece = piece;
        while self.state == State::Start && !piece.is_empty() {
            let (head, tail) = piece.split_at(1);
            self.line.extend_from_slice(head);
            piece = tail;
            if self.line == SECRET {
                self.state = State::Secret;
            } else if !SECRET.starts_with(&self.line) {
                out.extend_from_slice(&self.line);
                self.state = if self.line.starts_with(MESSAGE) { State::Message } else { State::Plain };
            }
        }
        match self.state {
            State::Start | State::Swallow => {}
            State::Plain => out.extend_from_slice(piece),
            State::Message => {
                out.extend_from_slice(piece);
                if !self.remember(piece) {
                    self.state = State::Plain;
                }
            }
            State::Secret => {
                if !self.remember(piece) {
                    out.extend_from_slice(SECRET);
                    out.push(b' ');
                    out.extend_from_slice(STARS);
                    messages.push(Message::Malformed("openjd_redacted_env"));
                    self.state = State::Swallow;
                }
            }
        }
    }

    fn remember(&mut self, piece: &[u8]) -> bool {
        let fits = self.line.len().saturating_add(piece.len()) <= LINE_MAX;
        if fits {
            self.line.extend_from_slice(piece);
        }
        fits
    }

    fn line_end(&mut self, out: &mut Vec<u8>, messages: &mut Vec<Message>) {
        match self.state {
            State::Start => out.extend_from_slice(&self.line),
            State::Message => messages.extend(parse(&self.line)),
            State::Secret => {
                let message = parse(&self.line);
                out.extend_from_slice(SECRET);
                out.push(b' ');
                if let Some(Message::SetSecret { name, .. }) = &message {
                    out.extend_from_slice(name);
                    out.push(b'=');
                }
                out.extend_from_slice(STARS);
                messages.push(message.unwrap_or(Message::Malformed("openjd_redacted_env")));
            }
            State::Plain | State::Swallow => {}
        }
        self.line.clear();
        self.state = State::Start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Option<Message> {
        Some(Message::Set { name: name.into(), value: value.into() })
    }

    #[test]
    fn messages_are_understood() {
        let bad = |kind| Some(Message::Malformed(kind));
        let cases: [(&str, Option<Message>); 30] = [
            ("openjd_progress: 50", Some(Message::Progress(5000))),
            ("openjd_progress: 33.337", Some(Message::Progress(3334))),
            ("openjd_progress: 0", Some(Message::Progress(0))),
            ("openjd_progress: 100\r", Some(Message::Progress(10000))),
            ("openjd_progress: 100.01", None),
            ("openjd_progress: -1", None),
            ("openjd_progress: NaN", None),
            ("openjd_progress: inf", None),
            ("openjd_progress:50", None),
            ("openjd_status: at work: frame 3", Some(Message::Status("at work: frame 3".into()))),
            ("openjd_status: ", None),
            ("openjd_fail: no licence", Some(Message::Fail("no licence".into()))),
            ("openjd_env: A=b", set("A", "b")),
            ("openjd_env: A=b=c ", set("A", "b=c ")),
            ("openjd_env: A=", set("A", "")),
            (r#"openjd_env: "A=line 1\nline \"2\" \u00e4\ud83d\ude00""#, set("A", "line 1\nline \"2\" ä😀")),
            (r#"openjd_env: "A=x"#, bad("openjd_env")),
            (r#"openjd_env: "A=\q""#, bad("openjd_env")),
            (r#"openjd_env: "A=\ud83d""#, bad("openjd_env")),
            (r#"openjd_env: "A=\u0000""#, bad("openjd_env")),
            ("openjd_env: A", bad("openjd_env")),
            ("openjd_env: 1A=x", bad("openjd_env")),
            ("openjd_env: A B=x", bad("openjd_env")),
            ("openjd_env: =x", bad("openjd_env")),
            ("openjd_unset_env: A_1", Some(Message::Unset(b"A_1".to_vec()))),
            ("openjd_unset_env: A=1", bad("openjd_unset_env")),
            ("openjd_other: x", None),
            ("openjd_", None),
            (" openjd_status: x", None),
            ("", None),
        ];
        for (line, want) in cases {
            assert_eq!(parse(line.as_bytes()), want, "{line:?}");
        }
    }

    fn all(input: &[u8], piece: usize) -> (String, Vec<Message>) {
        let (mut lines, mut out, mut messages) = (Lines::default(), Vec::new(), Vec::new());
        for chunk in input.chunks(piece) {
            lines.feed(chunk, &mut out, &mut messages);
        }
        lines.finish(&mut out, &mut messages);
        (String::from_utf8(out).unwrap(), messages)
    }

    #[test]
    fn pieces_of_any_size_give_the_same() {
        let input = b"hello\n\nopenjd_status: one\nopen\nopenjd_redacted_env: KEY=pass word\nxopenjd_fail: no\n\
                      openjd_redacted_env: broken\nopenjd_status: last";
        let shown = "hello\n\nopenjd_status: one\nopen\nopenjd_redacted_env: KEY=********\nxopenjd_fail: no\n\
                     openjd_redacted_env: ********\nopenjd_status: last";
        let said = [
            Message::Status("one".into()),
            Message::SetSecret { name: b"KEY".to_vec(), value: b"pass word".to_vec() },
            Message::Malformed("openjd_redacted_env"),
            Message::Status("last".into()),
        ];
        for piece in 1..input.len() {
            assert_eq!(all(input, piece), (shown.to_owned(), said.to_vec()), "pieces of {piece}");
        }
    }

    #[test]
    fn a_very_long_line_is_passed_on_and_not_kept() {
        for start in ["", "openjd_status: "] {
            let input = [start.as_bytes(), &b"x".repeat(3 << 20)].concat();
            let (mut lines, mut shown, mut messages) = (Lines::default(), 0, Vec::new());
            for chunk in input.chunks(10_000) {
                let mut out = Vec::new();
                lines.feed(chunk, &mut out, &mut messages);
                shown += out.len();
                assert!(lines.line.len() <= LINE_MAX);
            }
            lines.finish(&mut Vec::new(), &mut messages);
            assert_eq!((shown, messages), (input.len(), vec![]));
        }
    }

    #[test]
    fn a_very_long_secret_is_not_shown() {
        let input = [b"openjd_redacted_env: K=", b"s".repeat(1 << 20).as_slice(), b"\nnext\n"].concat();
        let (shown, messages) = all(&input, 4096);
        assert_eq!(shown, "openjd_redacted_env: ********\nnext\n");
        assert_eq!(messages, [Message::Malformed("openjd_redacted_env")]);
    }

    #[test]
    fn a_prompt_without_a_line_end_is_shown_at_once() {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        lines.feed(b"Continue? ", &mut out, &mut Vec::new());
        assert_eq!(out, b"Continue? ");
    }
}
