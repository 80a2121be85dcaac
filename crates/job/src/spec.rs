//! What a person submits, whatever its form, and whether it makes sense. It is stored as JSON, as it is here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::frames::{Frames, FramesError};
use crate::lines::Lines;
use crate::pattern::PatternError;
use crate::requires::{Requires, RequiresError};
use crate::template::TemplateError;
use crate::{FILES_MARKER, JOBDIR_MARKER};

pub const PRIORITY_MIN: i32 = -10_000;
pub const PRIORITY_MAX: i32 = 10_000;
const NAME_MAX: usize = 200;
/// Linux's `MAX_ARG_STRLEN` without the NUL.
pub(crate) const ARGUMENT_MAX: usize = 128 * 1024 - 1;
/// What Linux takes for arguments and environment together, with the usual stack limit.
pub(crate) const COMMAND_MAX: usize = 2 << 20;
const PATH_MAX: usize = 4095;
const LINES_MAX: usize = 1_000_000;
const LINES_SIZE_MAX: usize = 16 << 20;
const RETRIES_MAX: u32 = 1000;
const TIME_LIMIT_MAX_S: u64 = 366 * 86_400;
const CORES_MAX_MILLI: u32 = 1_000_000;
const MEMORY_MIN: u64 = 1 << 20;
const AFTER_MAX: usize = 1000;

/// Why a job makes no sense as submitted, or why one of its tasks can't be worked out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    #[error("the job's description can't be read: {reason}")]
    Json { reason: String },
    #[error("the job's name is empty (leave it out to have it named after its command)")]
    NameEmpty,
    #[error("the job's name has {chars} characters, at most {NAME_MAX} are allowed")]
    NameTooLong { chars: usize },
    #[error("the job's name contains the control character {character:?} (a name is one line of printable text)")]
    NameControl { character: char },
    #[error("priority {priority} is not possible ({PRIORITY_MIN} to {PRIORITY_MAX}; higher runs first, 0 is usual)")]
    Priority { priority: i32 },
    #[error("there is no command (put it after --)")]
    NoCommand,
    #[error("the command's first word is empty (it is the program to run)")]
    EmptyProgram,
    #[error("argument {position} contains a NUL character, which no program can be given")]
    ArgumentNul { position: usize },
    #[error(
        "argument {position} has up to {size} bytes, at most {ARGUMENT_MAX} are possible (put long data in a file and \
         pass its name)"
    )]
    ArgumentTooLong { position: usize, size: usize },
    #[error(
        "arguments and environment have up to {size} bytes together, at most {COMMAND_MAX} are possible (put long data \
         in a file and pass its name)"
    )]
    CommandTooLong { size: usize },
    #[error("{name:?} is not the name of an environment variable (letters, digits and _, not beginning with a digit)")]
    EnvName { name: String },
    #[error("the environment variable {name} contains a NUL character, which no program can be given")]
    EnvNul { name: String },
    #[error("the environment variable {name} has {size} bytes with its name, at most {ARGUMENT_MAX} are possible")]
    EnvTooLong { name: String, size: usize },
    #[error(
        "the working directory {cwd:?} is not absolute (begin it with /, or leave it out for the job's own folder)"
    )]
    CwdRelative { cwd: String },
    #[error("the working directory contains a NUL character, which no path can")]
    CwdNul,
    #[error("the working directory has {size} bytes, at most {PATH_MAX} are possible")]
    CwdTooLong { size: usize },
    #[error("umask {umask:o} is not possible (000 to 777)")]
    Umask { umask: u32 },
    #[error("{retries} retries are too many (at most {RETRIES_MAX})")]
    Retries { retries: u32 },
    #[error("a time limit of {seconds} s is not possible (1 to {TIME_LIMIT_MAX_S}; leave it out for none)")]
    TimeLimit { seconds: u64 },
    #[error("{milli} thousandths of a core are not possible (1 to {CORES_MAX_MILLI})")]
    Cores { milli: u32 },
    #[error("{bytes} bytes of memory are not enough to start a program (at least {MEMORY_MIN})")]
    Memory { bytes: u64 },
    #[error("the job waits for {jobs} jobs, at most {AFTER_MAX} are allowed")]
    AfterTooMany { jobs: usize },
    #[error("there are no lines to make tasks of (empty lines don't count)")]
    NoLines,
    #[error("there are {lines} lines, at most {LINES_MAX} are allowed in one job")]
    TooManyLines { lines: usize },
    #[error("the lines have {size} bytes together, at most {LINES_SIZE_MAX} are allowed in one job")]
    LinesTooLong { size: usize },
    #[error("line {line} contains a NUL character, which no program can be given")]
    LineNul { line: usize },
    #[error("{{frame}} can't stand for the {chunk} frames of a chunk (use {{start}} and {{end}}, or no --chunk)")]
    FrameInChunk { chunk: u64 },
    #[error(
        "the chunks of {text:?} leave frames out, but the command doesn't use {{step}}, so that it would run those too \
         (pass {{step}} to it, or use no --chunk)"
    )]
    StepUnused { text: String },
    #[error("{place} contains {marker}, which Stead replaces by a folder of the host (write it differently)")]
    Marker { place: String, marker: &'static str },
    #[error("there is no step {step}, the job has {steps}")]
    NoStep { step: u32, steps: usize },
    #[error("step {step:?} has no task {index}, the last one is {}", tasks.saturating_sub(1))]
    NoTask { step: String, index: u64, tasks: u64 },
    #[error("{key}: {error}")]
    Around { key: &'static str, error: Box<Self> },
    #[error(transparent)]
    Frames(#[from] FramesError),
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error(transparent)]
    Requires(#[from] RequiresError),
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// Everything a job is. Who submitted it, and as whom it runs, is never part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    pub v: SpecVersion,
    /// `None` names it after the template, or the command's program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Higher runs first.
    #[serde(default)]
    pub priority: i32,
    /// Laid over the account's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// `None` is the job's own folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// How often a task that failed is tried again.
    #[serde(default)]
    pub retries: u32,
    /// For each try of each task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Requires::is_empty")]
    pub requires: Requires,
    /// Thousandths of a core, for each task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus_milli: Option<u32>,
    /// Bytes, for each task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<After>,
    /// Its tasks get a token, by which they may submit and read as the job's user while they run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub token: bool,
    /// Paths in its command, variables and folder are what `worker_path_map` makes of them on each worker.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub convert_paths: bool,
    pub body: Body,
}

/// The version of the stored form, the number 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u32", into = "u32")]
#[schemars(with = "u32", extend("const" = 1))]
pub struct SpecVersion;

impl TryFrom<u32> for SpecVersion {
    type Error = String;

    fn try_from(version: u32) -> Result<Self, String> {
        if version == 1 { Ok(Self) } else { Err(format!("its version is {version}, this release knows 1")) }
    }
}

impl From<SpecVersion> for u32 {
    fn from(_: SpecVersion) -> Self {
        1
    }
}

/// Waits for another job: to be complete or, with `any`, to be over however it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct After {
    pub job: u64,
    #[serde(default)]
    pub any: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    Command(CommandBody),
    Template(TemplateBody),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandBody {
    pub argv: Vec<String>,
    #[serde(default, skip_serializing_if = "Space::is_single")]
    pub space: Space,
    /// Runs before a session's first task, as the tasks do: program and arguments, with no placeholders. None of them
    /// runs if it fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub session_enter: Vec<String>,
    /// Runs after a session's last task, however they ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub session_exit: Vec<String>,
}

/// What the tasks of a command are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    #[default]
    Single,
    Frames(Frames),
    Each(#[schemars(with = "Vec<String>")] Lines),
}

impl Space {
    const fn is_single(&self) -> bool {
        matches!(self, Self::Single)
    }
}

/// An OpenJD template as it was written, and the values given for its parameters. The job is made of it anew when it
/// is needed, which is always the same job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateBody {
    /// YAML, or JSON if it begins with a brace.
    pub source: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// The lines of a file that make tasks: all but the empty ones, without their line ends.
#[must_use]
pub fn each_lines(text: &str) -> Lines {
    text.lines().filter(|line| !line.trim().is_empty()).collect()
}

impl JobSpec {
    /// A job with all options as usual.
    #[must_use]
    pub fn new(body: Body) -> Self {
        Self {
            v: SpecVersion,
            name: None,
            priority: 0,
            env: BTreeMap::new(),
            cwd: None,
            umask: None,
            retries: 0,
            time_limit_s: None,
            requires: Requires::default(),
            cpus_milli: None,
            memory: None,
            after: Vec::new(),
            token: false,
            convert_paths: false,
            body,
        }
    }

    /// One command, run once.
    #[must_use]
    pub fn command<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self::new(Body::Command(CommandBody {
            argv: argv.into_iter().map(Into::into).collect(),
            ..CommandBody::default()
        }))
    }

    /// A template with values for its parameters.
    #[must_use]
    pub fn template(source: impl Into<String>, parameters: BTreeMap<String, String>) -> Self {
        Self::new(Body::Template(TemplateBody { source: source.into(), parameters }))
    }

    pub fn from_json(json: &str) -> Result<Self, JobError> {
        serde_json::from_str(json).map_err(|e| JobError::Json { reason: e.to_string() })
    }

    pub fn to_json(&self) -> Result<String, JobError> {
        serde_json::to_string(self).map_err(|e| JobError::Json { reason: e.to_string() })
    }

    /// Everything but the body, which `Plan::new` checks as well.
    pub fn check_options(&self) -> Result<(), JobError> {
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        if !(PRIORITY_MIN..=PRIORITY_MAX).contains(&self.priority) {
            return Err(JobError::Priority { priority: self.priority });
        }
        for (name, value) in &self.env {
            check_variable(name, value)?;
        }
        self.cwd.as_deref().map_or(Ok(()), check_cwd)?;
        self.check_numbers()
    }

    fn check_numbers(&self) -> Result<(), JobError> {
        match self.umask {
            Some(umask) if umask > 0o777 => return Err(JobError::Umask { umask }),
            _ => {}
        }
        if self.retries > RETRIES_MAX {
            return Err(JobError::Retries { retries: self.retries });
        }
        match self.time_limit_s {
            Some(seconds) if !(1..=TIME_LIMIT_MAX_S).contains(&seconds) => {
                return Err(JobError::TimeLimit { seconds });
            }
            _ => {}
        }
        match self.cpus_milli {
            Some(milli) if !(1..=CORES_MAX_MILLI).contains(&milli) => return Err(JobError::Cores { milli }),
            _ => {}
        }
        match self.memory {
            Some(bytes) if bytes < MEMORY_MIN => return Err(JobError::Memory { bytes }),
            _ => {}
        }
        if self.after.len() > AFTER_MAX {
            return Err(JobError::AfterTooMany { jobs: self.after.len() });
        }
        Ok(())
    }

    /// What the environment variables take of the room for a command.
    pub(crate) fn env_size(&self) -> usize {
        self.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum()
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), JobError> {
    if name.trim().is_empty() {
        return Err(JobError::NameEmpty);
    }
    if let Some(character) = name.chars().find(|c| c.is_control() || is_invisible(*c)) {
        return Err(JobError::NameControl { character });
    }
    match name.chars().count() {
        chars if chars > NAME_MAX => Err(JobError::NameTooLong { chars }),
        _ => refuse_markers("the job's name", name),
    }
}

/// Line separators and marks that turn the direction of text around: a name with these could pass for another.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

pub(crate) fn check_variable(name: &str, value: &str) -> Result<(), JobError> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(JobError::EnvName { name: name.into() });
    }
    if value.contains('\0') {
        return Err(JobError::EnvNul { name: name.into() });
    }
    match name.len() + 1 + value.len() {
        size if size > ARGUMENT_MAX => Err(JobError::EnvTooLong { name: name.into(), size }),
        _ => refuse_markers(&format!("the environment variable {name}"), value),
    }
}

fn check_cwd(cwd: &str) -> Result<(), JobError> {
    if cwd.contains('\0') {
        return Err(JobError::CwdNul);
    }
    if !cwd.starts_with('/') {
        return Err(JobError::CwdRelative { cwd: cwd.into() });
    }
    if cwd.len() > PATH_MAX {
        return Err(JobError::CwdTooLong { size: cwd.len() });
    }
    refuse_markers("the working directory", cwd)
}

/// What a person writes never contains the words that the session replaces by folders of the host.
pub(crate) fn refuse_markers(place: &str, text: &str) -> Result<(), JobError> {
    match [FILES_MARKER, JOBDIR_MARKER].into_iter().find(|m| text.contains(m)) {
        Some(marker) => Err(JobError::Marker { place: place.into(), marker }),
        None => Ok(()),
    }
}

pub(crate) fn check_lines(lines: &Lines) -> Result<(), JobError> {
    if lines.is_empty() {
        return Err(JobError::NoLines);
    }
    if lines.len() > LINES_MAX {
        return Err(JobError::TooManyLines { lines: lines.len() });
    }
    if lines.size() > LINES_SIZE_MAX {
        return Err(JobError::LinesTooLong { size: lines.size() });
    }
    for (index, line) in lines.iter().enumerate() {
        if line.contains('\0') {
            return Err(JobError::LineNul { line: index + 1 });
        }
        refuse_markers("a line", line)?;
    }
    Ok(())
}
