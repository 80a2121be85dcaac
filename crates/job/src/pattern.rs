//! Placeholders in a command's arguments: `{frame}`, `{start}`, `{end}`, `{step}` with `--frames`, `{line}` with
//! `--each`. A command submitted with neither is taken as it is, braces and all.

use std::fmt;

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Frame,
    Start,
    End,
    Step,
    Line,
}

impl Field {
    pub const FRAMES: &'static [Self] = &[Self::Frame, Self::Start, Self::End, Self::Step];
    pub const EACH: &'static [Self] = &[Self::Line];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Start => "start",
            Self::End => "end",
            Self::Step => "step",
            Self::Line => "line",
        }
    }
}

/// Why an argument can't be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("unknown placeholder {{{word}}} in {argument:?} (there is {known}; write {{{{ for a literal brace)")]
    Unknown { word: String, argument: String, known: KnownFields },
    #[error("a {{ without }} in {argument:?} (write {{{{ for a literal brace)")]
    Open { argument: String },
    #[error("a single }} in {argument:?} (write }}}} for a literal brace)")]
    Close { argument: String },
    #[error("{{{word}:{format}}} in {argument:?} has a format that isn't known (write {{{word}:04}} for four digits)")]
    Format { word: String, format: String, argument: String },
}

/// Written as a list of placeholders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownFields(pub &'static [Field]);

impl fmt::Display for KnownFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, field) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{{{}}}", field.as_str())?;
        }
        Ok(())
    }
}

/// An argument with its placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The digits wanted, 0 for as many as needed.
    Value(Field, usize),
}

/// What the placeholders of one task stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values<'a> {
    Frames { start: i64, end: i64, step: i64 },
    Line(&'a str),
}

impl Pattern {
    /// An argument in which braces mean nothing.
    #[must_use]
    pub fn literal(argument: &str) -> Self {
        Self { pieces: vec![Piece::Text(argument.into())] }
    }

    pub fn parse(argument: &str, known: &'static [Field]) -> Result<Self, PatternError> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = argument;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            text.push_str(before);
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                text.push_str(&brace[..1]);
                rest = after;
                continue;
            }
            let inside = brace.strip_prefix('{').ok_or_else(|| PatternError::Close { argument: argument.into() })?;
            let (inside, after) =
                inside.split_once('}').ok_or_else(|| PatternError::Open { argument: argument.into() })?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(placeholder(inside, argument, known)?);
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self { pieces })
    }

    #[must_use]
    pub fn uses(&self, field: Field) -> bool {
        self.pieces.iter().any(|p| matches!(p, Piece::Value(f, _) if *f == field))
    }

    /// Bytes that the filled-in argument has at most, when a value has at most `value_max`.
    #[must_use]
    pub fn size_max(&self, value_max: usize) -> usize {
        self.pieces.iter().fold(0, |sum: usize, piece| {
            sum.saturating_add(match piece {
                Piece::Text(text) => text.len(),
                Piece::Value(_, digits) => value_max.max(*digits),
            })
        })
    }

    #[must_use]
    pub fn fill(&self, values: Values<'_>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value(field, digits) => match (values, field) {
                    (Values::Line(line), _) => out.push_str(line),
                    (Values::Frames { end, .. }, Field::End) => out += &format!("{end:0digits$}"),
                    (Values::Frames { step, .. }, Field::Step) => out += &format!("{step:0digits$}"),
                    (Values::Frames { start, .. }, _) => out += &format!("{start:0digits$}"),
                },
            }
        }
        out
    }
}

fn placeholder(inside: &str, argument: &str, known: &'static [Field]) -> Result<Piece, PatternError> {
    let (word, format) = inside.split_once(':').map_or((inside, None), |(word, format)| (word, Some(format)));
    let field = known.iter().copied().find(|f| f.as_str() == word).ok_or_else(|| PatternError::Unknown {
        word: word.into(),
        argument: argument.into(),
        known: KnownFields(known),
    })?;
    let digits = match format {
        None => Some(0),
        Some(_) if field == Field::Line => None,
        Some(format) => zero_padding(format),
    };
    let digits = digits.ok_or_else(|| PatternError::Format {
        word: word.into(),
        format: format.unwrap_or_default().into(),
        argument: argument.into(),
    })?;
    Ok(Piece::Value(field, digits))
}

/// `04` → 4.
fn zero_padding(format: &str) -> Option<usize> {
    let width = format.strip_prefix('0').filter(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_digit()))?;
    width.parse().ok().filter(|w| (1..=18).contains(w))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(argument: &str) -> String {
        let values = Values::Frames { start: 7, end: -12, step: 2 };
        Pattern::parse(argument, Field::FRAMES).expect(argument).fill(values)
    }

    #[test]
    fn filled_in() {
        for (argument, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("{frame}", "7"),
            ("f{frame:04}.png", "f0007.png"),
            ("{start}..{end:05}/{step}", "7..-0012/2"),
            ("{{{frame}}}", "{7}"),
            ("{{frame}}", "{frame}"),
            ("é{start}ü", "é7ü"),
        ] {
            assert_eq!(frames(argument), expected, "{argument}");
        }
        let line = Pattern::parse("<{line}>", Field::EACH).expect("good").fill(Values::Line("a {frame} b"));
        assert_eq!(line, "<a {frame} b>");
    }

    #[test]
    fn refused() {
        for (argument, sentence) in [
            (
                "{fram}",
                r#"unknown placeholder {fram} in "{fram}" (there is {frame}, {start}, {end}, {step}; write {{ for a literal brace)"#,
            ),
            (
                "{line}",
                r#"unknown placeholder {line} in "{line}" (there is {frame}, {start}, {end}, {step}; write {{ for a literal brace)"#,
            ),
            (
                "{}",
                r#"unknown placeholder {} in "{}" (there is {frame}, {start}, {end}, {step}; write {{ for a literal brace)"#,
            ),
            ("{frame", r#"a { without } in "{frame" (write {{ for a literal brace)"#),
            ("frame}", r#"a single } in "frame}" (write }} for a literal brace)"#),
            (
                "{frame:4}",
                r#"{frame:4} in "{frame:4}" has a format that isn't known (write {frame:04} for four digits)"#,
            ),
            (
                "{frame:099}",
                r#"{frame:099} in "{frame:099}" has a format that isn't known (write {frame:04} for four digits)"#,
            ),
        ] {
            let error = Pattern::parse(argument, Field::FRAMES).expect_err(argument);
            assert_eq!(error.to_string(), sentence);
        }
    }

    proptest! {
        #[test]
        fn escaped_text_comes_back(text in "[a{}b:0é]{0,20}") {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(frames(&escaped), text);
        }

        #[test]
        fn never_panics_and_keeps_its_bound(text in "[a{}frmesndlip:049é]{0,30}|\\PC{0,20}") {
            if let Ok(pattern) = Pattern::parse(&text, Field::FRAMES) {
                let filled = pattern.fill(Values::Frames { start: i64::MIN, end: 0, step: -1 });
                prop_assert!(filled.len() <= pattern.size_max(20));
            }
        }
    }
}
