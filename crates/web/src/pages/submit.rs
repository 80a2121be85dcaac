//! The form that submits a job, with what would become of it.

use crate::frame::Frame;
use crate::parts::{Reason, Rules, Verdicts};
use crate::text::Text;
use askama::Template;

/// What was typed stays as it was typed: only escaped.
#[derive(Debug, Default, Template)]
#[template(path = "submit.html")]
pub struct SubmitPage {
    pub frame: Frame,
    pub problem: Option<Reason>,
    pub is_template: bool,
    pub command: String,
    pub frames: String,
    pub template: String,
    pub parameters: Vec<Parameter>,
    pub name: String,
    pub priority: String,
    pub retries: String,
    pub time_limit: String,
    pub requires: String,
    pub cpus: String,
    pub memory: String,
    pub cwd: String,
    /// As whom, if not as oneself: for those who may name another.
    pub user: String,
    pub may_name: bool,
    /// Makes a second press of the button the same job.
    pub request_id: String,
    pub preview: Option<Preview>,
}

/// A parameter of an OpenJD template, as a field.
#[derive(Debug, Default)]
pub struct Parameter {
    pub name: Text,
    /// `INT`, `FLOAT`, `STRING`, `PATH`.
    pub kind: Text,
    pub description: Option<Text>,
    pub value: String,
    pub allowed: Vec<String>,
    pub min: Option<String>,
    pub max: Option<String>,
    pub is_required: bool,
}

#[derive(Debug)]
pub struct Preview {
    pub name: Text,
    pub tasks: u64,
    pub login_user: Text,
    pub user: Option<Text>,
    pub rules: Rules,
    pub refused: Option<Reason>,
    pub verdicts: Verdicts,
    /// Some worker runs it.
    pub runs: bool,
}
