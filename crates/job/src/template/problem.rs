//! What is wrong with a template, and where: the path within it, and the line if it can be found.

use std::fmt;

use openjd_model::error::{ModelError, PathElement};

const PROBLEMS_SHOWN: usize = 10;

/// Why a template makes no job, or a task of it can't be worked out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("the template has {size} bytes, at most {max} are allowed")]
    TooLarge { size: usize, max: usize },
    #[error("the template is neither YAML nor JSON: {message}")]
    Syntax { message: String },
    #[error("the template is not valid:{}", lines(.problems))]
    Invalid { problems: Vec<TemplateProblem> },
    #[error("the template's parameters don't fit:{}", lines(.problems))]
    Parameters { problems: Vec<String> },
    #[error("step {step:?} has {tasks} tasks (1 to {} are possible)", crate::frames::TASKS_MAX)]
    TaskCount { step: String, tasks: u64 },
    #[error("step {step:?} has chunks of {size} (1 to {max} are possible)")]
    ChunkSize { step: String, size: usize, max: usize },
    #[error(
        "step {step:?} wants contiguous chunks of {values} values that don't follow each other (use rangeConstraint \
         NONCONTIGUOUS)"
    )]
    ChunksNotContiguous { step: String, values: u64 },
    #[error("{place}: {what} can't be worked out: {message}")]
    Resolve { place: String, what: String, message: String },
    #[error("{place}: {what} is {value:?}, which is not a whole number of seconds from 1 to {max}")]
    Seconds { place: String, what: String, value: String, max: u64 },
    #[error("{place}: the cancelation mode is {value:?} (TERMINATE and NOTIFY_THEN_TERMINATE are known)")]
    CancelationMode { place: String, value: String },
    #[error("{place}: the command is empty (it is the program to run)")]
    EmptyCommand { place: String },
    #[error("{place}: {what} contains a NUL character, which no program can be given")]
    Nul { place: String, what: String },
    #[error("{place}: the embedded files have {size} bytes together, at most {max} are allowed")]
    FilesTooLarge { place: String, size: usize, max: usize },
    #[error(
        "the batch of a single task would have {size} bytes or more, at most {max} are allowed (the biggest part is \
         {part} with {part_size}; let tasks read large files from a shared folder)"
    )]
    BatchTooLarge { size: usize, max: usize, part: String, part_size: usize },
    #[error("{place}: the embedded files {one} and {other} have the same filename {filename:?} (name one differently)")]
    SameFile { place: String, one: String, other: String, filename: String },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateProblem {
    /// `steps[0].script.actions`; empty for the template as a whole.
    pub path: String,
    /// Counted from 1; of the nearest part of the path that was found.
    pub line: Option<usize>,
    pub message: String,
}

impl fmt::Display for TemplateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path.as_str(), self.line) {
            ("", None) => {}
            ("", Some(line)) => write!(f, "line {line}: ")?,
            (path, None) => write!(f, "{path}: ")?,
            (path, Some(line)) => write!(f, "{path} (line {line}): ")?,
        }
        f.write_str(&self.message)
    }
}

fn lines<T: fmt::Display>(problems: &[T]) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(PROBLEMS_SHOWN) {
        text += &format!("\n  {problem}");
    }
    match problems.len().saturating_sub(PROBLEMS_SHOWN) {
        0 => text,
        more => text + &format!("\n  and {more} more"),
    }
}

/// What the model said, with paths as people write them and lines of the source.
pub(crate) fn from_model(error: &ModelError, source: &str) -> TemplateError {
    match error {
        ModelError::ModelValidation(errors) => {
            let mut problems: Vec<_> =
                errors.errors.iter().map(|e| problem(&e.path, tidy(&e.message), source)).collect();
            // The model's own order is another each time.
            problems.sort_by(|a, b| (a.line, &a.path).cmp(&(b.line, &b.path)));
            TemplateError::Invalid { problems }
        }
        other => TemplateError::Invalid { problems: vec![problem(&[], tidy(&other.to_string()), source)] },
    }
}

pub(crate) fn problem(path: &[PathElement], message: String, source: &str) -> TemplateProblem {
    TemplateProblem { path: path_text(path), line: line_of(source, path), message }
}

pub(crate) fn path_text(path: &[PathElement]) -> String {
    path.iter().fold(String::new(), |text, element| match element {
        PathElement::Index(index) => format!("{text}[{index}]"),
        PathElement::Field(name) if text.is_empty() => name.clone(),
        PathElement::Field(name) => format!("{text}.{name}"),
    })
}

/// Without the model's own preambles, and without its final stop.
pub(crate) fn tidy(message: &str) -> String {
    let mut text = message.trim();
    for preamble in ["Validation error: ", "Model validation error: ", "Expression error: ", "Format string error: "] {
        text = text.strip_prefix(preamble).unwrap_or(text);
    }
    text = text.split_once("' failed checks: ").map_or(text, |(_, rest)| rest);
    text.strip_suffix('.').unwrap_or(text).replace('\n', "\n    ")
}

/// The line of the deepest part of `path` that is there, in block-style YAML. Flow style and JSON give the line of
/// what surrounds it, or none.
fn line_of(source: &str, path: &[PathElement]) -> Option<usize> {
    let tokens = tokens(source);
    let mut within = tokens.as_slice();
    let mut line = None;
    for element in path {
        let column = within.first()?.column;
        let mut children = within.iter().enumerate().filter(|(_, t)| t.column == column);
        let found = match element {
            PathElement::Field(name) => children.find(|(_, t)| t.key.as_deref() == Some(name)),
            PathElement::Index(index) => children.filter(|(_, t)| t.key.is_none()).nth(*index),
        };
        let Some((at, token)) = found else { break };
        line = Some(token.line);
        let rest = &within[at + 1..];
        // Items of a sequence may stand in the same column as the key they belong to.
        let end = rest
            .iter()
            .position(|t| t.column < column || (t.column == column && (token.key.is_none() || t.key.is_some())));
        within = &rest[..end.unwrap_or(rest.len())];
        if within.is_empty() {
            break;
        }
    }
    line
}

/// A key (`name:`) or the mark of an item (`-`).
struct Token {
    line: usize,
    column: usize,
    key: Option<String>,
}

fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    // Lines further in than this belong to a block of text.
    let mut text_below: Option<usize> = None;
    for (number, line) in source.lines().enumerate() {
        let mut column = line.len() - line.trim_start_matches(' ').len();
        let mut rest = line[column..].trim_end();
        if rest.is_empty() || text_below.is_some_and(|below| column > below) {
            continue;
        }
        text_below = None;
        if rest.starts_with('#') {
            continue;
        }
        while let Some(after) = rest.strip_prefix("- ").or_else(|| (rest == "-").then_some("")) {
            tokens.push(Token { line: number + 1, column, key: None });
            let spaces = after.len() - after.trim_start().len();
            column += rest.len() - after.len() + spaces;
            rest = after.trim_start();
        }
        let owner = tokens.last().map_or(0, |t| t.column);
        if let Some((key, value)) = key(rest) {
            tokens.push(Token { line: number + 1, column, key: Some(key) });
            text_below = is_text(value).then_some(column);
        } else if is_text(rest) {
            text_below = Some(owner);
        }
    }
    tokens
}

/// `name: value` → name and value, with quotes taken off the name.
fn key(text: &str) -> Option<(String, &str)> {
    if text.starts_with(['{', '[', '|', '>', '&', '*', '!']) {
        return None;
    }
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let (name, rest) = match quote {
        Some(quote) => {
            let (name, rest) = text[1..].split_once(quote)?;
            (name, rest.trim_start().strip_prefix(':')?)
        }
        None => {
            let at = text
                .match_indices(':')
                .map(|(at, _)| at)
                .find(|at| text[at + 1..].chars().next().is_none_or(char::is_whitespace))?;
            (text[..at].trim_end(), &text[at + 1..])
        }
    };
    Some((name.to_owned(), rest.trim()))
}

/// The head of a block of text: `|`, `>-`, `|2`.
fn is_text(value: &str) -> bool {
    value.strip_prefix(['|', '>']).is_some_and(|rest| {
        rest.split('#').next().unwrap_or_default().trim().chars().all(|c| matches!(c, '+' | '-' | '0'..='9'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> Vec<PathElement> {
        text.split_whitespace()
            .map(|part| part.parse().map_or_else(|_| PathElement::Field(part.into()), PathElement::Index))
            .collect()
    }

    const SOURCE: &str = r#"specificationVersion: 'jobtemplate-2023-09'
# name: not this
name: A
steps:
- name: one
  script:
    embeddedFiles:
      - name: f
        type: TEXT
        data: |
          name: text
          - steps: text

      - name: g
        data: >-
          more
    actions:
      onRun: { command: x, args: [a] }
-   name: two
    "script":
        actions:
            onRun:
                command: "a: b"
                args:
                - a
                - |
                  b: c
                - d
"#;

    #[test]
    fn lines_of_paths() {
        for (text, line) in [
            ("name", Some(3)),
            ("steps", Some(4)),
            ("steps 0", Some(5)),
            ("steps 0 script embeddedFiles 0 data", Some(10)),
            ("steps 0 script embeddedFiles 1", Some(14)),
            ("steps 0 script embeddedFiles 1 data", Some(15)),
            ("steps 0 script actions onRun", Some(18)),
            ("steps 0 script actions onRun command", Some(18)),
            ("steps 1", Some(19)),
            ("steps 1 script actions onRun command", Some(23)),
            ("steps 1 script actions onRun args 0", Some(25)),
            ("steps 1 script actions onRun args 2", Some(28)),
            ("steps 1 script actions onRun timeout", Some(22)),
            ("steps 2", Some(4)),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(line_of(SOURCE, &path(text)), line, "{text}");
        }
        assert_eq!(path_text(&path("steps 0 script actions")), "steps[0].script.actions");
    }

    proptest! {
        #[test]
        fn never_panics(source in "([ -]{0,4}[a-c\"':é|>#\\[]{0,6}\n){0,12}", text in "([a-c]|[0-3])( ([a-c]|[0-3])){0,3}") {
            let _ = line_of(&source, &path(&text));
        }
    }
}
