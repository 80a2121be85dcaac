//! Text that others wrote: what would be obeyed by the eye or the browser is shown instead.

use std::fmt;

/// A string of somebody else's, with control, bidirectional and invisible characters spelled out. Escaped for HTML by the
/// template, not here: it is as good in an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Text(String);

impl Text {
    pub const EMPTY: &'static Self = &Self(String::new());

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        if !text.chars().any(is_obeyed) {
            return Self(text.to_owned());
        }
        let mut out = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            push_visible(&mut out, c);
        }
        Self(out)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Does something instead of being seen: controls, marks that turn the direction of what follows, separators of lines,
/// characters without a shape (the joiners that emoji need are left).
pub(crate) fn is_obeyed(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// The character, or what it is.
pub(crate) fn push_visible(out: &mut String, c: char) {
    use fmt::Write as _;
    match c {
        '\0'..='\u{1f}' => out.extend(char::from_u32(0x2400 + u32::from(c))),
        '\u{7f}' => out.push('\u{2421}'),
        c if is_obeyed(c) => {
            let _ = write!(out, "⟨U+{:04X}⟩", u32::from(c));
        }
        c => out.push(c),
    }
}

/// For a value in a query, or a segment of a path.
#[must_use]
pub fn encoded(text: &str) -> String {
    use fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_obeyed_is_seen() {
        for (text, expected) in [
            ("render café 日本 שלום 👩‍🎨", "render café 日本 שלום 👩‍🎨"),
            ("a\u{202e}gpj.exe", "a⟨U+202E⟩gpj.exe"),
            ("\u{1b}[2J\u{7}\r\n\t\0\u{7f}", "␛[2J␇␍␊␉␀␡"),
            (
                "\u{9b}31m\u{2066}x\u{2069}\u{200b}\u{feff}\u{e0041}",
                "⟨U+009B⟩31m⟨U+2066⟩x⟨U+2069⟩⟨U+200B⟩⟨U+FEFF⟩⟨U+E0041⟩",
            ),
            ("<script>", "<script>"),
        ] {
            assert_eq!(Text::from(text).as_str(), expected);
        }
    }

    #[test]
    fn encoded_is_safe_anywhere_in_an_address() {
        assert_eq!(encoded("a b&c=d#e?/\"'<é"), "a%20b%26c%3Dd%23e%3F%2F%22%27%3C%C3%A9");
        assert_eq!(encoded("lin-07_a.b~"), "lin-07_a.b~");
    }
}
