//! One job: what it is, what its tasks do, what went wrong and what helps.

use crate::frame::Frame;
use crate::pages::{JobHead, Tab};
use crate::parts::{Moment, State};
use crate::text::Text;
use askama::Template;

#[derive(Debug, Template)]
#[template(path = "job.html")]
pub struct JobPage {
    pub frame: Frame,
    pub head: JobHead,
    /// `None`: the right to its user has ended, and only the record is theirs.
    pub tasks: Option<Tasks>,
}

#[derive(Debug)]
pub struct Tasks {
    /// The state they are filtered by, or nothing.
    pub filter: String,
    pub chips: Vec<(State, u64)>,
    pub total: u64,
    pub steps: Vec<StepLine>,
    /// Tasks at one glance, as far as they fit.
    pub cells: Vec<Cell>,
    pub cells_left_out: u64,
    pub rows: Vec<TaskRow>,
    /// `STEP.TASK` of the last row, if there are more.
    pub more_after: Option<String>,
    /// It isn't the first page.
    pub is_later: bool,
}

#[derive(Debug)]
pub struct StepLine {
    pub name: Text,
    pub bar: crate::parts::Bar,
    pub waits_for: Vec<Text>,
}

#[derive(Debug)]
pub struct Cell {
    /// `STEP.TASK`.
    pub task: String,
    pub state: State,
    pub label: String,
}

#[derive(Debug)]
pub struct TaskRow {
    /// `STEP.TASK`.
    pub task: String,
    pub step: u32,
    pub index: u64,
    pub step_name: Option<Text>,
    pub label: Text,
    pub state: State,
    pub reason: Option<Text>,
    pub progress: Option<u8>,
    pub status: Option<Text>,
    pub attempts: Vec<AttemptRow>,
}

#[derive(Debug)]
pub struct AttemptRow {
    pub attempt: u32,
    pub state: State,
    pub worker: Option<Text>,
    /// Name, uid, gid and groups as they were read back.
    pub ran_as: Option<Text>,
    pub ran_as_exact: Text,
    /// Decision and fact agree; `None`: nothing is known yet.
    pub agrees: Option<bool>,
    pub exit: Text,
    pub started: Option<Moment>,
    pub took: String,
    pub cpu: String,
    pub memory: String,
    pub reason: Option<Text>,
}
