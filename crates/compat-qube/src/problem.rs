//! What can be wrong with a file: file, line, key, value, and what is allowed.

use crate::hosts::PatternError;
use crate::value::VALUE_MAX;
use std::fmt;
use std::sync::Arc;

/// Most findings that are kept of one file.
const FINDINGS_MAX: usize = 1000;

/// What a finding means for the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The file is taken; what is named here has no effect, or not the one it has in Qube!.
    Warning,
    /// The file is not taken.
    Error,
}

impl Level {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the file has {0} bytes, at most {max} are read", max = crate::lines::FILE_MAX)]
    FileTooLong(usize),
    #[error("templates and macros make too much of this file: let hosts inherit less")]
    TooMuch,
    #[error("[{section}] inherits over more than {max} sections")]
    TooDeep { section: String, max: usize },
    #[error("there is a control character {0:?} here: take it out")]
    Control(char),
    #[error("this is neither [section], nor key = value, nor a comment")]
    NotALine,
    #[error("quotes are open at the end of the line (a backslash before quotes must be doubled: \\\\)")]
    OpenQuotes,
    #[error("the block that begins here with {{ has no }}")]
    OpenBlock,
    #[error("nothing can stand behind the }} of a block")]
    AfterBlock,
    #[error("{0:?} can't be a key (letters, digits and _ only)")]
    BadKey(String),
    #[error("[{name}] can't be a section: {reason}")]
    BadSection { name: String, reason: PatternError },
    #[error("[{0}]: qb.conf has no sections; settings of single workers belong in the supervisor's qbwrk.conf")]
    SectionHere(String),
    #[error("{0} stands before the first section: put it below [default] if it is for all workers")]
    NoSection(String),
    #[error(
        "[{section}] inherits from [{parent}], and there is no such section above{}", meant(nearest.as_ref())
    )]
    UnknownParent { section: String, parent: String, nearest: Option<String> },
    #[error("[{section}] was inherited in line {by} already: the sections above keep what it said before")]
    Late { section: String, by: u32 },
    #[error("{key} is no key of Qube!'s: it has no effect{}", meant(nearest.as_ref()))]
    UnknownKey { key: String, nearest: Option<String>, identity: bool },
    #[error("{key}: {written} is not set above; it stays as it is written")]
    UnknownMacro { key: String, written: String, identity: bool },
    #[error("{key}: {written} is a password, and a password can't be part of another value")]
    SecretElsewhere { key: String, written: String },
    #[error("{0}: single quotes don't quote here, and Qube! may ignore such a value: write double quotes")]
    SingleQuotes(String),
    #[error("{key} is longer than {VALUE_MAX} bytes when its macros are replaced")]
    TooLong { key: String },
    #[error("{key} = {value:?} is not allowed: {allowed}{}", meant(nearest.as_ref()))]
    BadValue { key: String, value: String, allowed: String, nearest: Option<String>, acts: bool },
    #[error("[{0}] can't be a section: the word has a meaning of its own")]
    Reserved(String),
    #[error(
        "{0} has no effect here: a worker needs it before it hears from the supervisor; put it in that worker's own qb.conf"
    )]
    Bootstrap(String),
    #[error("{key} has no effect here: it is for {role}, in its qb.conf")]
    OtherRole { key: String, role: &'static str },
    #[error(
        "proxy_password was sealed by Qube! itself and only Qube! can open it. Linux workers need none; for others \
         replace it by what `qblogin --display {account}` prints"
    )]
    SealedByQube { account: String },
    #[error(
        "proxy_password has no effect here: a worker's own word replaces no password. Put it into the supervisor's \
         qbwrk.conf, or run `stead password set {account}`"
    )]
    PasswordHere { account: String },
    #[error(
        "proxy_password is not sealed: it is of no use, and whoever reads this file reads it. Change that password, and \
         write what `qblogin --display {account}` prints"
    )]
    NotSealed { account: String },
}

fn meant(nearest: Option<&String>) -> String {
    nearest.map_or_else(String::new, |word| format!(" (did you mean {word}?)"))
}

impl Problem {
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::UnknownKey { identity: false, .. }
            | Self::BadValue { acts: false, .. }
            | Self::UnknownMacro { identity: false, .. }
            | Self::Late { .. }
            | Self::SingleQuotes(_)
            | Self::Bootstrap(_)
            | Self::OtherRole { .. }
            | Self::SealedByQube { .. }
            | Self::PasswordHere { .. }
            | Self::NotSealed { .. } => Level::Warning,
            _ => Level::Error,
        }
    }
}

/// A problem and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub file: Arc<str>,
    pub line: u32,
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.problem.level().as_str(), self.problem)
    }
}

/// All of a file, by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    file: Arc<str>,
    list: Vec<Finding>,
    errors: usize,
}

impl Findings {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.into(), list: Vec::new(), errors: 0 }
    }

    pub(crate) fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// The same thing is said once, and errors are counted even where there are too many to list.
    pub(crate) fn add(&mut self, line: u32, problem: Problem) {
        let finding = Finding { file: self.file.clone(), line, problem };
        if self.list.contains(&finding) {
            return;
        }
        self.errors += usize::from(finding.problem.level() == Level::Error);
        if self.list.len() < FINDINGS_MAX || (self.errors == 1 && finding.problem.level() == Level::Error) {
            self.list.push(finding);
        }
    }

    pub(crate) fn sort(&mut self) {
        self.list.sort_by_key(|f| f.line);
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.list.iter()
    }

    /// What keeps the file from being taken.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.list.iter().filter(|f| f.problem.level() == Level::Error)
    }

    #[must_use]
    pub const fn has_errors(&self) -> bool {
        self.errors > 0
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl<'a> IntoIterator for &'a Findings {
    type Item = &'a Finding;
    type IntoIter = std::slice::Iter<'a, Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
