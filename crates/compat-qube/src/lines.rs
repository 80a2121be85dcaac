//! From a text to sections and settings, with the lines they are in.

use crate::problem::{Findings, Problem};
use crate::value::{self, Form};

/// Longest file that is read.
pub(crate) const FILE_MAX: usize = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    Section { name: String, parents: Vec<String> },
    Setting { key: String, form: Form },
}

/// A statement and the line it begins in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) number: u32,
    pub(crate) what: Statement,
}

/// Reads all lines; what is not understood becomes a finding. `macros`: the file knows them.
pub(crate) fn read(text: &str, macros: bool, findings: &mut Findings) -> Vec<Line> {
    if text.len() > FILE_MAX {
        findings.add(1, Problem::FileTooLong(text.len()));
        return Vec::new();
    }
    // Editors of Windows begin a file so.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().zip(1_u32..);
    let mut read = Vec::new();
    while let Some((line, number)) = lines.next() {
        match statement(line, &mut lines, macros) {
            Ok(Some((what, single))) => {
                if let (Statement::Setting { key, .. }, true) = (&what, single) {
                    findings.add(number, Problem::SingleQuotes(key.clone()));
                }
                read.push(Line { number, what });
            }
            Ok(None) => {}
            Err(problem) => findings.add(number, problem),
        }
    }
    read
}

/// One statement, with the further lines of its block; and whether its value stands in single quotes.
fn statement<'a>(
    line: &str,
    more: &mut impl Iterator<Item = (&'a str, u32)>,
    macros: bool,
) -> Result<Option<(Statement, bool)>, Problem> {
    let line = without_comment(line)?.trim();
    if line.is_empty() {
        return Ok(None);
    }
    if line.starts_with('[') {
        return section(line).map(|s| Some((s, false)));
    }
    let (key, text) = line.split_once('=').ok_or(Problem::NotALine)?;
    let key = key.trim();
    // Such a line belongs into a block.
    if key.starts_with(['"', '}']) {
        return Err(Problem::NotALine);
    }
    if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Problem::BadKey(key.to_owned()));
    }
    let mut text = text.trim().to_owned();
    if text.starts_with('{') {
        take_block(&mut text, more)?;
    }
    let (form, single) = value::parse(&text, macros)?;
    Ok(Some((Statement::Setting { key: key.to_owned(), form }, single)))
}

/// Takes further lines until the block is closed.
fn take_block<'a>(text: &mut String, more: &mut impl Iterator<Item = (&'a str, u32)>) -> Result<(), Problem> {
    let mut depth = depth_after(text, 0)?;
    while depth > 0 {
        let (line, _) = more.next().ok_or(Problem::OpenBlock)?;
        let line = without_comment(line)?;
        depth = depth_after(line, depth)?;
        text.push('\n');
        text.push_str(line.trim_end());
    }
    Ok(())
}

/// How many braces are open behind a line; nothing may follow the one that closes the block.
fn depth_after(line: &str, mut depth: usize) -> Result<usize, Problem> {
    let mut quotes = Quotes::default();
    let mut closed = false;
    for c in line.trim_end().chars() {
        if closed {
            return Err(Problem::AfterBlock);
        }
        if quotes.inside(c) {
            continue;
        }
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                closed = depth == 0;
            }
            _ => {}
        }
    }
    Ok(depth)
}

#[derive(Debug, Default)]
struct Quotes {
    open: bool,
    escaped: bool,
}

impl Quotes {
    /// Whether this character is quoted, or a quotation mark.
    fn inside(&mut self, c: char) -> bool {
        match c {
            _ if self.open && self.escaped => self.escaped = false,
            '\\' if self.open => self.escaped = true,
            '"' => {
                self.open = !self.open;
                return true;
            }
            _ => {}
        }
        self.open
    }
}

pub(crate) fn without_comment(line: &str) -> Result<&str, Problem> {
    let mut quotes = Quotes::default();
    for (at, c) in line.char_indices() {
        if c == '#' && !quotes.open {
            return Ok(&line[..at]);
        }
        if c.is_control() && c != '\t' {
            return Err(Problem::Control(c));
        }
        quotes.inside(c);
    }
    if quotes.open { Err(Problem::OpenQuotes) } else { Ok(line) }
}

/// `[name]`, `[name[01-10]]`, either with `: parent parent`.
fn section(line: &str) -> Result<Statement, Problem> {
    let mut depth = 0_usize;
    let end = line.char_indices().find_map(|(at, c)| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        (depth == 0).then_some(at)
    });
    let (name, rest) = line.split_at(end.ok_or(Problem::NotALine)? + 1);
    let name = name[1..name.len() - 1].trim().to_owned();
    let parents = match rest.trim().strip_prefix(':') {
        Some(parents) => parents,
        None if rest.trim().is_empty() => "",
        None => return Err(Problem::NotALine),
    };
    let parents = parents.split(|c: char| c.is_whitespace() || c == ',').filter(|p| !p.is_empty());
    Ok(Statement::Section { name, parents: parents.map(str::to_owned).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<(u32, Problem)> {
        let mut findings = Findings::new("f");
        read(text, true, &mut findings);
        findings.iter().map(|f| (f.line, f.problem.clone())).collect()
    }

    #[test]
    fn lines_are_counted_over_blocks_and_comments() {
        let mut findings = Findings::new("f");
        let text = "\u{feff}# a\r\n\r\n[a[1-2]] : b  c # d\r\nk = { x # y }\n \"}#\" = z\n}\nl = \"#\" # m\n";
        let lines = read(text, true, &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
        let numbers: Vec<u32> = lines.iter().map(|l| l.number).collect();
        assert_eq!(numbers, [3, 4, 7]);
        let Statement::Section { name, parents } = &lines[0].what else { panic!("{lines:?}") };
        assert_eq!((name.as_str(), parents.join("+").as_str()), ("a[1-2]", "b+c"));
        let Statement::Setting { form, .. } = &lines[1].what else { panic!("{lines:?}") };
        assert_eq!(form.for_host("h").line(), r##"{ "x", "}#" = "z" }"##);
    }

    #[test]
    fn what_is_not_understood_says_where() {
        assert_eq!(
            problems("nonsense\na = \"b\nc d = 1\nk = { \n x\n} y\n \"/a\" = \"/b\"\n[a\n[a] b\n= 1\nx = '1'\n"),
            [
                (1, Problem::NotALine),
                (2, Problem::OpenQuotes),
                (3, Problem::BadKey("c d".into())),
                (4, Problem::AfterBlock),
                (7, Problem::NotALine),
                (8, Problem::NotALine),
                (9, Problem::NotALine),
                (10, Problem::BadKey(String::new())),
                (11, Problem::SingleQuotes("x".into())),
            ]
        );
        assert_eq!(problems("a = 1\nb = {\nc = 2\n"), [(2, Problem::OpenBlock)]);
        assert_eq!(problems("a = \u{7}"), [(1, Problem::Control('\u{7}'))]);
        assert_eq!(problems(&" ".repeat(FILE_MAX + 1)), [(1, Problem::FileTooLong(FILE_MAX + 1))]);
    }
}
