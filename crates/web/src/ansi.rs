//! Lines of a log as HTML: colours become classes, whatever else a terminal would obey is left out or shown.
//!
//! What a task printed can't hide, move, overwrite or link anything here: no cursor movement, no title, no concealed
//! text, no text in the colour of its ground, no bidirectional marks, no address behind a word.

use crate::text::push_visible;
use askama::filters::HtmlSafe;
use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// Longest sequence that is taken for one; more of it is text.
const SEQUENCE_MAX: usize = 64;
/// The same of those that carry text: titles, links.
const STRING_MAX: usize = 4096;

/// HTML that was made here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Html(String);

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl HtmlSafe for Html {}

/// How text looks; goes on from line to line, as in a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    fore: Option<u8>,
    back: Option<u8>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    strike: bool,
    inverse: bool,
}

impl Style {
    fn classes(&self) -> String {
        let mut classes = Vec::new();
        // Nothing hides on a ground of its own colour.
        let back = self.back.filter(|back| self.fore != Some(*back));
        let fore = self.fore.map(|n| format!("f{n}"));
        let back = back.map(|n| format!("b{n}"));
        classes.extend(fore);
        classes.extend(back);
        for (has, class) in [
            (self.bold, "bo"),
            (self.dim, "di"),
            (self.italic, "it"),
            (self.underline, "un"),
            (self.strike, "st"),
            (self.inverse, "iv"),
        ] {
            if has {
                classes.push(class.to_owned());
            }
        }
        classes.join(" ")
    }

    /// `ESC [ … m`.
    fn select(&mut self, parameters: &str) {
        let mut numbers =
            parameters.split([';', ':']).map(|n| if n.is_empty() { Some(0) } else { n.parse::<u16>().ok() });
        while let Some(number) = numbers.next() {
            let Some(number) = number else { continue };
            match number {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underline = true,
                7 => self.inverse = true,
                9 => self.strike = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                27 => self.inverse = false,
                29 => self.strike = false,
                n @ 30..=37 => self.fore = small(n - 30),
                n @ 90..=97 => self.fore = small(n - 82),
                39 => self.fore = None,
                n @ 40..=47 => self.back = small(n - 40),
                n @ 100..=107 => self.back = small(n - 92),
                49 => self.back = None,
                38 => self.fore = extended(&mut numbers),
                48 => self.back = extended(&mut numbers),
                // Blinking and concealed text among them.
                _ => {}
            }
        }
    }
}

fn small(n: u16) -> Option<u8> {
    u8::try_from(n).ok()
}

/// One of 256, or red, green and blue: as the nearest of the sixteen.
fn extended(numbers: &mut impl Iterator<Item = Option<u16>>) -> Option<u8> {
    match numbers.next()?? {
        5 => match numbers.next()?? {
            n @ 0..=15 => small(n),
            n @ 16..=231 => {
                let n = n - 16;
                Some(nearest([n / 36, n / 6 % 6, n % 6].map(|level| level * 51)))
            }
            n => Some(nearest([(n.min(255) - 232) * 10 + 8; 3])),
        },
        2 => {
            let rgb = [numbers.next()??, numbers.next()??, numbers.next()??];
            Some(nearest(rgb.map(|n| n.min(255))))
        }
        _ => None,
    }
}

fn nearest(rgb: [u16; 3]) -> u8 {
    let most = rgb.iter().copied().max().unwrap_or(0);
    if most < 64 {
        return 0;
    }
    let bits = rgb.iter().rev().fold(0, |bits, n| bits << 1 | u8::from(*n * 2 > most));
    if most > 170 { bits + 8 } else { bits }
}

/// One line, without its end. Bytes that are no text are shown as such.
#[must_use]
pub fn line(bytes: &[u8], style: &mut Style) -> Html {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let mut out = Out { html: String::with_capacity(text.len() + 16), open: false };
    out.style(style);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => escape(&mut rest, style, &mut out),
            '\t' => out.html.push('\t'),
            c => out.push(c),
        }
    }
    out.close();
    Html(out.html)
}

/// What stands in a line, without anything that a terminal would obey: for searching.
#[must_use]
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => drop(sequence(&mut rest)),
            c => out.push(c),
        }
    }
    out
}

struct Out {
    html: String,
    open: bool,
}

impl Out {
    fn push(&mut self, c: char) {
        match c {
            '&' => self.html.push_str("&amp;"),
            '<' => self.html.push_str("&lt;"),
            '>' => self.html.push_str("&gt;"),
            '"' => self.html.push_str("&quot;"),
            '\'' => self.html.push_str("&#39;"),
            c => push_visible(&mut self.html, c),
        }
    }

    fn style(&mut self, style: &Style) {
        self.close();
        let classes = style.classes();
        if !classes.is_empty() {
            self.html.push_str("<span class=\"");
            self.html.push_str(&classes);
            self.html.push_str("\">");
            self.open = true;
        }
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.html.push_str("</span>");
        }
    }
}

enum Sequence {
    /// `ESC [ … m`, with what stands between.
    Style(String),
    /// Of no use here.
    Other,
    /// Not one: the mark itself is shown.
    None,
}

fn escape(rest: &mut Peekable<Chars<'_>>, style: &mut Style, out: &mut Out) {
    match sequence(rest) {
        Sequence::Style(parameters) => {
            style.select(&parameters);
            out.style(style);
        }
        Sequence::Other => {}
        Sequence::None => out.push('\u{1b}'),
    }
}

/// Takes what belongs to the escape before it; nothing if that isn't whole.
fn sequence(rest: &mut Peekable<Chars<'_>>) -> Sequence {
    match rest.peek() {
        Some('[') => {
            let mut ahead = rest.clone();
            ahead.next();
            let mut parameters = String::new();
            for c in ahead.by_ref().take(SEQUENCE_MAX) {
                match c {
                    '\u{20}'..='\u{3f}' => parameters.push(c),
                    'm' => {
                        *rest = ahead;
                        return Sequence::Style(parameters);
                    }
                    '\u{40}'..='\u{7e}' => {
                        *rest = ahead;
                        return Sequence::Other;
                    }
                    _ => return Sequence::None,
                }
            }
            Sequence::None
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let mut ahead = rest.clone();
            let mut before = '\0';
            for c in ahead.by_ref().take(STRING_MAX) {
                if c == '\u{7}' || (before == '\u{1b}' && c == '\\') {
                    *rest = ahead;
                    return Sequence::Other;
                }
                before = c;
            }
            Sequence::None
        }
        Some('(' | ')' | '*' | '+') => {
            rest.next();
            rest.next();
            Sequence::Other
        }
        Some('7' | '8' | '=' | '>' | 'c' | 'D' | 'E' | 'M') => {
            rest.next();
            Sequence::Other
        }
        _ => Sequence::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(text: &str) -> String {
        line(text.as_bytes(), &mut Style::default()).to_string()
    }

    #[test]
    fn colours_are_classes() {
        for (text, expected) in [
            ("plain", "plain"),
            ("\u{1b}[31merror\u{1b}[0m: x", "<span class=\"f1\">error</span>: x"),
            ("\u{1b}[1;32mok\u{1b}[22;39m.", "<span class=\"f2 bo\">ok</span>."),
            ("\u{1b}[mx", "x"),
            ("\u{1b}[38;5;196mx", "<span class=\"f9\">x</span>"),
            ("\u{1b}[38;2;0;0;140mx", "<span class=\"f4\">x</span>"),
            ("\u{1b}[97;44mx", "<span class=\"f15 b4\">x</span>"),
            ("\u{1b}[38;5;240mx", "<span class=\"f7\">x</span>"),
            ("\u{1b}[999;;1mx", "<span class=\"bo\">x</span>"),
        ] {
            assert_eq!(html(text), expected, "{text:?}");
        }
    }

    #[test]
    fn tricks_of_terminals_are_none_here() {
        for (text, expected) in [
            ("</pre><script>alert(1)</script>", "&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("\u{1b}[31m<b>\u{1b}[0m", "<span class=\"f1\">&lt;b&gt;</span>"),
            // Cleared, moved, titled, linked.
            ("a\u{1b}[2J\u{1b}[1;1H\u{1b}]0;title\u{7}b", "ab"),
            ("\u{1b}]8;;javascript:alert(1)\u{1b}\\click\u{1b}]8;;\u{1b}\\", "click"),
            // What isn't closed swallows nothing.
            ("\u{1b}]0;all the rest", "␛]0;all the rest"),
            ("\u{1b}[31", "␛[31"),
            ("\u{1b}[31\u{202e}m", "␛[31⟨U+202E⟩m"),
            // Hidden, and overwritten.
            ("\u{1b}[8msecret", "secret"),
            ("\u{1b}[30;40msecret", "<span class=\"f0\">secret</span>"),
            ("rm -rf /\recho ok", "rm -rf /␍echo ok"),
            ("bad\u{8}\u{8}\u{8}ok", "bad␈␈␈ok"),
            ("done\r", "done"),
            ("\u{202e}evil", "⟨U+202E⟩evil"),
            ("\u{9b}31mx", "⟨U+009B⟩31mx"),
            ("\u{1b}", "␛"),
            ("a\tb", "a\tb"),
        ] {
            assert_eq!(html(text), expected, "{text:?}");
        }
        assert_eq!(line(b"\xff\xfe ok \xe2\x80", &mut Style::default()).to_string(), "\u{fffd}\u{fffd} ok \u{fffd}");
    }

    #[test]
    fn a_style_goes_on_until_it_is_ended() {
        let mut style = Style::default();
        assert_eq!(line(b"\x1b[33mone", &mut style).to_string(), "<span class=\"f3\">one</span>");
        assert_eq!(line(b"two\x1b[0m", &mut style).to_string(), "<span class=\"f3\">two</span>");
        assert_eq!(line(b"three", &mut style).to_string(), "three");
    }

    #[test]
    fn what_is_searched_is_what_is_seen() {
        assert_eq!(plain(b"\x1b[1mErr\x1b[31mor\x1b[0m \x1b]0;x\x07now"), "Error now");
    }

    /// Whatever it is made of, it is text: no tag but ours.
    #[test]
    fn nothing_gets_out() {
        let alphabet =
            ["\u{1b}", "[", "]", "3", "1", "m", ";", "<", ">", "\"", "&", "\u{7}", "\\", "\r", "x", "\u{202e}"];
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            let text: String = (0..12)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    alphabet[usize::try_from(seed >> 60).expect("small")]
                })
                .collect();
            let mut got = html(&text);
            while let Some(at) = got.find("<span class=\"") {
                let end = at + got[at..].find('>').expect("closed");
                assert!(got[at + 13..end - 1].chars().all(|c| c.is_ascii_alphanumeric() || c == ' '), "{text:?}");
                got.replace_range(at..=end, "");
            }
            let got = got.replace("</span>", "");
            assert!(!got.contains(['<', '>', '"', '\u{1b}', '\u{202e}']), "{text:?}: {got}");
        }
    }
}
