//! What a job printed.

use crate::ansi::Html;
use crate::frame::Frame;
use crate::pages::{JobHead, Tab};
use crate::text::{Text, encoded};
use askama::Template;
use askama::filters::HtmlSafe;

#[derive(Debug, Template)]
#[template(path = "log.html")]
pub struct LogPage {
    pub frame: Frame,
    pub head: JobHead,
    pub scope: LogScope,
    pub lines: LogLines,
    /// Bytes there are, and lines, as far as is known.
    pub bytes: u64,
    pub total: u64,
    pub search: Option<Search>,
    /// What is looked at ends here; after it the stream goes on.
    pub offset: u64,
    /// The number of the first line that was not complete.
    pub next_line: u64,
    /// Nothing more will come.
    pub is_over: bool,
    pub is_end: bool,
    pub note: Option<Text>,
}

/// Which part of the output, as in the address.
#[derive(Debug, Clone, Default)]
pub struct LogScope {
    pub job: u64,
    pub step: Option<u32>,
    pub task: Option<u64>,
    pub attempt: Option<u32>,
    pub stream: String,
}

impl LogScope {
    /// The query without what moves the window.
    #[must_use]
    pub fn query(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.step.map(|n| format!("step={n}")));
        parts.extend(self.task.map(|n| format!("task={n}")));
        parts.extend(self.attempt.map(|n| format!("attempt={n}")));
        if !self.stream.is_empty() {
            parts.push(format!("stream={}", encoded(&self.stream)));
        }
        parts.join("&")
    }

    /// The page with this window.
    #[must_use]
    pub fn url(&self, more: &str) -> String {
        let query = [self.query(), more.to_owned()].into_iter().filter(|q| !q.is_empty()).collect::<Vec<_>>().join("&");
        let base = format!("/jobs/{}/log", self.job);
        if query.is_empty() { base } else { format!("{base}?{query}") }
    }

    fn stream_url(&self, stream: &str) -> String {
        Self { stream: stream.to_owned(), ..self.clone() }.url("")
    }

    fn events(&self, offset: u64, line: u64) -> String {
        let query = self.query();
        let and = if query.is_empty() { "" } else { "&" };
        format!("/jobs/{}/log/events?{query}{and}offset={offset}&line={line}", self.job)
    }

    fn raw(&self) -> String {
        format!("/api/v1/jobs/{}/logs?{}", self.job, self.query())
    }
}

/// Lines with their numbers: also what the stream of new ones sends.
#[derive(Debug, Default, Template)]
#[template(path = "parts/log_lines.html")]
pub struct LogLines {
    pub lines: Vec<LogLine>,
}
impl HtmlSafe for LogLines {}

#[derive(Debug)]
pub struct LogLine {
    pub number: u64,
    pub html: Html,
    /// It goes on in the next one, being too long.
    pub is_torn: bool,
    pub is_wanted: bool,
}

#[derive(Debug)]
pub struct Search {
    pub q: String,
    pub found: Vec<(u64, Text)>,
    /// There are more.
    pub is_cut: bool,
}

impl LogPage {
    fn first(&self) -> u64 {
        self.lines.lines.first().map_or(1, |line| line.number)
    }

    fn last(&self) -> u64 {
        self.lines.lines.last().map_or(0, |line| line.number)
    }
}
