//! Small things that print themselves as HTML, the same on every screen.

use crate::text::Text;
use askama::Template;
use askama::filters::HtmlSafe;
use std::fmt;

/// A state: word, shape and colour together, never a colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    word: &'static str,
    shape: &'static str,
    /// The class of the colour.
    kind: &'static str,
}

impl State {
    /// All that are known: of jobs, tasks, attempts, sessions, workers and grants.
    const ALL: &'static [Self] = &[
        Self::new("running", "▶", "go"),
        Self::new("busy", "▶", "go"),
        Self::new("launching", "▷", "go"),
        Self::new("draining", "▽", "go"),
        Self::new("pending", "○", "wait"),
        Self::new("opening", "○", "wait"),
        Self::new("waiting", "◔", "wait"),
        Self::new("requested", "?", "wait"),
        Self::new("later", "◔", "wait"),
        Self::new("complete", "✓", "ok"),
        Self::new("run", "✓", "ok"),
        Self::new("idle", "✓", "ok"),
        Self::new("active", "✓", "ok"),
        Self::new("ended", "•", "off"),
        Self::new("failed", "✕", "bad"),
        Self::new("badlogin", "!", "bad"),
        Self::new("refused", "⊘", "bad"),
        Self::new("lost", "✕", "bad"),
        Self::new("launch_failed", "✕", "bad"),
        Self::new("panic", "!", "bad"),
        Self::new("invalid", "!", "bad"),
        Self::new("down", "▼", "bad"),
        Self::new("blocked", "■", "hold"),
        Self::new("suspended", "‖", "hold"),
        Self::new("locked", "▣", "hold"),
        Self::new("killed", "⊗", "off"),
        Self::new("revoked", "⊗", "off"),
        Self::new("expired", "◌", "off"),
        Self::new("disabled", "⊘", "off"),
        Self::new("yes", "✓", "ok"),
        Self::new("ok", "✓", "ok"),
        Self::new("intent", "→", "go"),
        Self::new("current", "✓", "ok"),
        Self::new("stale", "!", "bad"),
        Self::new("missing", "○", "wait"),
        Self::new("no", "⊘", "bad"),
    ];

    const fn new(word: &'static str, shape: &'static str, kind: &'static str) -> Self {
        Self { word, shape, kind }
    }

    /// What isn't known looks like nothing that is.
    #[must_use]
    pub fn of(word: &str) -> Self {
        Self::ALL.iter().copied().find(|s| s.word == word).unwrap_or(Self::new("unknown", "?", "hold"))
    }

    #[must_use]
    pub const fn word(&self) -> &'static str {
        self.word
    }

    #[must_use]
    pub const fn shape(&self) -> &'static str {
        self.shape
    }

    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { word, shape, kind } = self;
        let word = if *word == "launch_failed" { "launch failed" } else { word };
        write!(f, "<span class=\"state is-{kind}\"><i aria-hidden=\"true\">{shape}</i>{word}</span>")
    }
}
impl HtmlSafe for State {}

/// A small word in a box, with what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Badge {
    pub word: &'static str,
    pub means: &'static str,
}

impl fmt::Display for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<span class=\"badge\" title=\"{}\">{}</span>", self.means, self.word)
    }
}
impl HtmlSafe for Badge {}

/// A time: how long ago or until then, and exactly when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// RFC 3339, made by us.
    exact: String,
    words: String,
}

impl Moment {
    /// `at` and `now` in µs since 1970; `exact` is `at` as RFC 3339.
    #[must_use]
    pub fn new(exact: String, at: i64, now: i64) -> Self {
        let seconds = now.saturating_sub(at) / 1_000_000;
        let words = if seconds >= 0 { format!("{} ago", span(seconds)) } else { format!("in {}", span(-seconds)) };
        Self { exact, words }
    }

    #[must_use]
    pub fn exact(&self) -> &str {
        &self.exact
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exact, words } = self;
        write!(f, "<time datetime=\"{exact}\" title=\"{exact}\">{words}</time>")
    }
}
impl HtmlSafe for Moment {}

/// A span of time in its two greatest units.
#[must_use]
pub(crate) fn span(seconds: i64) -> String {
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, m) if m >= 10 => format!("{m} min"),
        (0, 0, m) => format!("{m} min {s} s"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) if d < 10 => format!("{d} d {h} h"),
        (d, ..) => format!("{d} d"),
    }
}

/// How long something took, or `–`.
#[must_use]
pub fn took(from: Option<i64>, until: Option<i64>) -> String {
    match (from, until) {
        (Some(from), Some(until)) if until - from < 10_000_000 => {
            let tenths = (until - from).max(0) / 100_000;
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        (Some(from), Some(until)) => span((until - from) / 1_000_000),
        _ => "–".to_owned(),
    }
}

/// Why not, and what would change it: the same on error pages, in previews and beside jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Template)]
#[template(path = "parts/reason.html")]
pub struct Reason {
    pub text: Text,
    /// What it says below its first line, as it stands: where in a file, with a mark under it.
    pub more: Vec<Text>,
    pub rule: Option<Text>,
    pub value: Option<Text>,
    pub hint: Option<Text>,
}
impl HtmlSafe for Reason {}

impl Reason {
    /// What stands between back quotes is a command or a setting.
    fn marked(&self, text: &Text) -> Vec<(bool, String)> {
        let parts = text.as_str().split('`').enumerate();
        parts.map(|(n, part)| (n % 2 == 1, part.to_owned())).filter(|(_, part)| !part.is_empty()).collect()
    }

    #[must_use]
    pub fn new(text: impl Into<Text>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// One numbered rule of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleLine {
    /// `selects`, `allows`, `refuses`, `waits`.
    pub effect: &'static str,
    pub rule: Text,
    pub text: Text,
    pub source: Text,
}

/// The rules of a decision, numbered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Template)]
#[template(path = "parts/rules.html")]
pub struct Rules {
    pub lines: Vec<RuleLine>,
}
impl HtmlSafe for Rules {}

/// What would be decided, on workers for which it is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictRow {
    pub workers: Vec<Text>,
    pub mode: &'static str,
    pub state: State,
    pub run_as: Option<Text>,
    /// Uid, gid and groups.
    pub exact: Option<Text>,
    pub refused: Option<Reason>,
    pub rules: Rules,
}

impl VerdictRow {
    /// More than anybody reads in a sentence.
    fn is_on_many(&self) -> bool {
        self.workers.len() > 6
    }
}

/// As whom, where, and why or why not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Template)]
#[template(path = "parts/verdicts.html")]
pub struct Verdicts {
    pub rows: Vec<VerdictRow>,
}
impl HtmlSafe for Verdicts {}

/// A name and what it is, of a list of such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub name: &'static str,
    pub value: Text,
}

impl Fact {
    #[must_use]
    pub fn new(name: &'static str, value: impl Into<Text>) -> Self {
        Self { name, value: value.into() }
    }
}

/// Progress by state, as one bar: its parts in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    pub total: u64,
    pub parts: Vec<(State, u64)>,
}

impl Bar {
    /// Whole percents that are over.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let over = self.parts.iter().filter(|(s, _)| matches!(s.word, "complete" | "failed" | "killed"));
        over.map(|(_, n)| n).sum::<u64>().saturating_mul(100).checked_div(self.total).unwrap_or(0)
    }

    fn words(&self) -> String {
        let some = self.parts.iter().filter(|(_, n)| *n > 0);
        let words: Vec<String> = some.map(|(s, n)| format!("{n} {}", s.word)).collect();
        format!("{} of {} tasks", words.join(", "), self.total)
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDTH: u64 = 1000;
        let words = self.words();
        write!(
            f,
            "<svg class=\"bar\" viewBox=\"0 0 {WIDTH} 10\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{words}\">"
        )?;
        write!(f, "<title>{words}</title>")?;
        let mut sum = 0_u64;
        for (state, n) in self.parts.iter().filter(|(_, n)| *n > 0) {
            let at = |sum: u64| sum.saturating_mul(WIDTH) / self.total.max(1);
            // What is there at all can be seen.
            let (x, end) = (at(sum), at(sum + n).max(at(sum) + 6));
            write!(f, "<rect class=\"fill-{}\" x=\"{x}\" y=\"0\" width=\"{}\" height=\"10\"/>", state.kind, end - x)?;
            sum += n;
        }
        f.write_str("</svg>")
    }
}
impl HtmlSafe for Bar {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_a_hint_are_marked() {
        let reason = Reason { hint: Some("run `stead as <b>` first".into()), ..Reason::new("no") };
        let html = reason.render().expect("rendered");
        assert!(html.contains("run <code>stead as &#60;b&#62;</code> first") && !html.contains('`'), "{html}");
    }

    #[test]
    fn spans_in_words() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3599, "59 min"),
            (3600, "1 h 0 min"),
            (90_000, "1 d 1 h"),
            (8_640_000, "100 d"),
        ] {
            assert_eq!(span(seconds), expected);
        }
        assert_eq!(took(Some(0), Some(1_250_000)), "1.2 s");
        assert_eq!(took(Some(0), None), "–");
        let at = Moment::new("T".to_owned(), 0, -5_000_000);
        assert_eq!(at.to_string(), "<time datetime=\"T\" title=\"T\">in 5 s</time>");
    }

    #[test]
    fn a_bar_of_a_million_shows_the_one_that_failed() {
        let bar = Bar { total: 1_000_000, parts: vec![(State::of("failed"), 1), (State::of("complete"), 999_999)] };
        let html = bar.to_string();
        assert!(html.contains("<rect class=\"fill-bad\" x=\"0\" y=\"0\" width=\"6\""), "{html}");
        assert!(html.contains("aria-label=\"1 failed, 999999 complete of 1000000 tasks\""), "{html}");
        assert_eq!(bar.percent(), 100);
        assert_eq!(Bar { total: 0, parts: vec![] }.percent(), 0);
    }

    #[test]
    fn each_state_has_a_word_a_shape_and_a_colour() {
        for state in State::ALL {
            assert!(!state.word.is_empty() && !state.shape.is_empty() && !state.kind.is_empty());
            assert_eq!(State::of(state.word), *state);
        }
        assert_eq!(State::of("<b>").to_string(), State::of("nonsense").to_string());
    }
}
