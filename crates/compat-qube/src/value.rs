//! Values: what stands behind the `=`.
//!
//! A value is first read as it is written, with its macros ([`Written`]), then bound to what its macros mean
//! ([`Bound`]); only the name of the host is still open then. For one host it becomes a [`Value`].

use crate::problem::Problem;
use std::fmt::Write as _;

/// Longest value once its macros are replaced.
pub(crate) const VALUE_MAX: usize = 64 << 10;

/// A setting's value for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    /// `{ … }`.
    Block(Vec<Item>),
}

/// One entry of a block: a word, or a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub left: String,
    pub right: Option<String>,
}

impl Value {
    /// On one line, as people write it.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Block(items) => {
                let item = |i: &Item| match &i.right {
                    Some(right) => format!("{} = {}", in_quotes(&i.left), in_quotes(right)),
                    None => in_quotes(&i.left),
                };
                format!("{{ {} }}", items.iter().map(item).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// The words of a list: between commas, or in a block.
    pub(crate) fn words(&self) -> Vec<String> {
        let comma = |t: &str| t.split(',').map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect::<Vec<_>>();
        match self {
            Self::Text(text) => comma(text),
            Self::Block(items) => items.iter().flat_map(|i| comma(&i.left)).collect(),
        }
    }

    /// As it is written in a file so that it reads back the same.
    pub(crate) fn written(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Block(items) => {
                let mut out = String::from("{\n");
                for Item { left, right } in items {
                    let _ = match right {
                        Some(right) => writeln!(out, "  {} = {}", in_quotes(left), in_quotes(right)),
                        None => writeln!(out, "  {}", in_quotes(left)),
                    };
                }
                out.push('}');
                out
            }
        }
    }
}

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@+=*,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    in_quotes(text)
}

fn in_quotes(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        if "\\\"$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    /// `$_`: the name of the section, or of the one that inherits it.
    Name,
    /// `$section.key`, and how it was written.
    Ref {
        section: String,
        key: String,
        written: String,
    },
}

pub(crate) type Pieces = Vec<Piece>;

/// A value with its pieces: as written, or bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    Text(Pieces),
    Block(Vec<(Pieces, Option<Pieces>)>),
}

impl Form {
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Pieces> {
        let (text, block) = match self {
            Self::Text(pieces) => (Some(pieces), None),
            Self::Block(items) => (None, Some(items)),
        };
        let of_block = block.into_iter().flatten().flat_map(|(l, r)| std::iter::once(l).chain(r.as_ref()));
        text.into_iter().chain(of_block)
    }

    /// Replaces every part by what `f` makes of it.
    pub(crate) fn map(&self, mut f: impl FnMut(&Pieces) -> Pieces) -> Self {
        match self {
            Self::Text(pieces) => Self::Text(f(pieces)),
            Self::Block(items) => Self::Block(items.iter().map(|(l, r)| (f(l), r.as_ref().map(&mut f))).collect()),
        }
    }

    /// The value for the host of this name. Nothing but the name is open any more.
    pub(crate) fn for_host(&self, host: &str) -> Value {
        let text = |pieces: &Pieces| {
            let mut out = String::new();
            for piece in pieces {
                match piece {
                    Piece::Text(t) => out.push_str(t),
                    Piece::Name => out.push_str(host),
                    Piece::Ref { written, .. } => out.push_str(written),
                }
            }
            out
        };
        match self {
            Self::Text(pieces) => Value::Text(text(pieces)),
            Self::Block(items) => {
                Value::Block(items.iter().map(|(l, r)| Item { left: text(l), right: r.as_ref().map(text) }).collect())
            }
        }
    }

    /// As it is written in a file, the host's name left open.
    pub(crate) fn written(&self) -> String {
        // A name that no text contains: control characters are refused where texts are read.
        const OPEN: &str = "\u{1}";
        self.for_host(OPEN).written().replace(OPEN, "${_}")
    }

    /// How long it is, not counting hosts' names.
    pub(crate) fn size(&self) -> usize {
        let piece = |p: &Piece| match p {
            Piece::Text(t) => t.len(),
            Piece::Name => 1,
            Piece::Ref { written, .. } => written.len(),
        };
        self.parts().flatten().map(piece).sum()
    }

    /// The text of a form that is just text, for putting it into another.
    pub(crate) fn inner(&self) -> Option<&Pieces> {
        match self {
            Self::Text(pieces) => Some(pieces),
            Self::Block(_) => None,
        }
    }
}

/// Reads what stands behind the `=`: one line, or all lines of a block. `macros`: the file knows them.
pub(crate) fn parse(text: &str, macros: bool) -> Result<(Form, bool), Problem> {
    let text = text.trim();
    if text.starts_with('{') {
        return block(text, macros).map(|form| (form, false));
    }
    let single = text.len() >= 2 && text.starts_with('\'') && text.ends_with('\'');
    if single {
        return Ok((Form::Text(pieces(&text[1..text.len() - 1], false, macros)), true));
    }
    let whole = text.starts_with('"') && end_of_quotes(text) == Some(text.len());
    let form = if whole { pieces(&text[1..text.len() - 1], true, macros) } else { pieces(text, false, macros) };
    Ok((Form::Text(form), false))
}

/// Behind the closing quotes of a text that begins with quotes.
fn end_of_quotes(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn block(text: &str, macros: bool) -> Result<Form, Problem> {
    let inner = text[1..].trim_end().strip_suffix('}').ok_or(Problem::OpenBlock)?;
    let mut items: Vec<(Pieces, Option<Pieces>)> = Vec::new();
    for line in inner.lines() {
        let mut rest = line.trim();
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if rest.is_empty() {
                break;
            }
            let (left, quoted, after) = word(rest, true, macros);
            let (sep, behind) = separator(after, quoted);
            rest = behind;
            let right = if sep {
                let (right, _, after) = word(rest, false, macros);
                rest = after;
                Some(right)
            } else {
                None
            };
            items.push((left, right));
        }
    }
    Ok(Form::Block(items))
}

/// The separator of a pair, if one follows; what is behind it. A colon separates only where it can't belong to a word.
fn separator(after: &str, quoted: bool) -> (bool, &str) {
    let rest = after.trim_start();
    let apart = quoted || rest.len() < after.len();
    let found = rest.strip_prefix('=').or_else(|| rest.strip_prefix(':').filter(|_| apart));
    found.map_or((false, after), |behind| (true, behind.trim_start()))
}

/// The next word of a block's line, whether it was quoted, and what is behind it.
fn word(text: &str, left: bool, macros: bool) -> (Pieces, bool, &str) {
    if text.starts_with('"')
        && let Some(end) = end_of_quotes(text)
    {
        return (pieces(&text[1..end - 1], true, macros), true, &text[end..]);
    }
    let stops = |c: char| c.is_whitespace() || c == ',' || (left && c == '=');
    let end = text.find(stops).unwrap_or(text.len());
    (pieces(&text[..end], false, macros), false, &text[end..])
}

/// A text in pieces. Quoted: a backslash escapes a backslash, quotes or a dollar sign, and else is itself.
fn pieces(text: &str, quoted: bool, macros: bool) -> Pieces {
    let mut out = Pieces::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let escaped = rest.strip_prefix('\\').and_then(|r| r.chars().next()).filter(|n| "\\\"$".contains(*n));
        if let Some(next) = escaped.filter(|_| quoted) {
            plain.push(next);
            rest = &rest[1 + next.len_utf8()..];
        } else if let Some((piece, len)) = (c == '$' && macros).then(|| macro_at(rest)).flatten() {
            if !plain.is_empty() {
                out.push(Piece::Text(std::mem::take(&mut plain)));
            }
            out.push(piece);
            rest = &rest[len..];
        } else {
            plain.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    if !plain.is_empty() {
        out.push(Piece::Text(plain));
    }
    out
}

/// `$_`, `${_}`, `$section.key`, `${section.key}`, and how long it is. Any other dollar sign is just one.
fn macro_at(text: &str) -> Option<(Piece, usize)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let reference = |inner: &str, len: usize| {
        let (section, key) = inner.rsplit_once('.')?;
        let fine = !section.is_empty() && !key.is_empty() && key.chars().all(is_word);
        let fine = fine && section.chars().all(|c| is_word(c) || "-.".contains(c));
        let piece = Piece::Ref { section: section.to_owned(), key: key.to_owned(), written: text[..len].to_owned() };
        fine.then_some((piece, len))
    };
    let behind = text.strip_prefix('$')?;
    if let Some(braced) = behind.strip_prefix('{') {
        let inner = &braced[..braced.find('}')?];
        let len = inner.len() + 3;
        return if inner == "_" { Some((Piece::Name, len)) } else { reference(inner, len) };
    }
    let section = behind.find(|c| !is_word(c)).unwrap_or(behind.len());
    if &behind[..section] == "_" {
        return Some((Piece::Name, 2));
    }
    let key = behind[section..].strip_prefix('.')?;
    let key = key.find(|c| !is_word(c)).unwrap_or(key.len());
    let inner = &behind[..section + 1 + key];
    reference(inner, inner.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(written: &str) -> String {
        parse(written, true).expect("a value").0.for_host("HOST").line()
    }

    fn items(written: &str) -> Vec<(String, Option<String>)> {
        match parse(written, true).expect("a block").0.for_host("h") {
            Value::Block(items) => items.into_iter().map(|i| (i.left, i.right)).collect(),
            Value::Text(t) => panic!("{t}"),
        }
    }

    #[test]
    fn quotes_and_macros() {
        assert_eq!(text(" plain words "), "plain words");
        assert_eq!(text(r#""a \"b\" \\ \c""#), r#"a "b" \ \c"#);
        assert_eq!(text(r#""a", "b""#), r#""a", "b""#);
        assert_eq!(text("/logs/$_.log"), "/logs/HOST.log");
        assert_eq!(text(r#""/logs/${_}x""#), "/logs/HOSTx");
        assert_eq!(text(r"$_x $ $$ $QBDIR/x ${open \\s\c$"), r"$_x $ $$ $QBDIR/x ${open \\s\c$");
        assert_eq!(text(r#""\$_ \${a.b}""#), "$_ ${a.b}");
        let (form, single) = parse("'user'", true).expect("a value");
        assert_eq!((form.for_host("h").line().as_str(), single), ("user", true));
        assert_eq!(parse("$t.key/x", true).expect("v").0.parts().flatten().count(), 2);
        assert_eq!(parse("$t.key/x", false).expect("v").0.parts().flatten().count(), 1);
    }

    #[test]
    fn blocks_take_both_separators() {
        let some = |l: &str, r: &str| (l.to_owned(), Some(r.to_owned()));
        let block = "{\n \"\\\\\" : \"/\",\n \"X:/project\" = \"/Volumes/x\"\n \"H:/\":\"/home\", }";
        assert_eq!(items(block), [some("\\", "/"), some("X:/project", "/Volumes/x"), some("H:/", "/home")]);
        assert_eq!(items("{ value1 value2,value3 }").len(), 3);
        assert_eq!(items(r"{X:|\\SERVER\SHARE}"), [(r"X:|\\SERVER\SHARE".to_owned(), None)]);
        assert_eq!(items("{ a=b C:/x = /y Z: : /z }"), [some("a", "b"), some("C:/x", "/y"), some("Z:", "/z")]);
        assert_eq!(items("{}"), []);
        assert_eq!(parse("{ a", true), Err(Problem::OpenBlock));
    }

    #[test]
    fn what_is_written_reads_back() {
        for value in ["", "plain", "a b", "\"q\" \\ $_ ${a.b} #x", "{", "'x'", "a=b", "ü\t"] {
            let value = Value::Text(value.to_owned());
            assert_eq!(parse(&value.written(), true).expect("reads").0.for_host("h"), value);
        }
        let item = |l: &str, r: Option<&str>| Item { left: l.to_owned(), right: r.map(str::to_owned) };
        let block = Value::Block(vec![item("a:", Some("=")), item("}", None), item("", Some("")), item(":x", None)]);
        assert_eq!(parse(&block.written(), true).expect("reads").0.for_host("h"), block);
    }
}
