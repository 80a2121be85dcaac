//! What a job is: commands, frame ranges and OpenJD templates as one model, its tasks down to the last argument, and
//! the states it can be in.
//!
//! Pure: no input or output, no clock, no accounts. Says nothing about who may run what (`policy`), where
//! (`supervisor`), or what was stored (`store`). Nothing here costs more for a million tasks than for ten: a step is
//! its parameter space, and a task is computed when it is needed.

#![forbid(unsafe_code)]

pub mod address;
pub mod frames;
mod lines;
pub mod pattern;
mod plan;
mod requires;
mod spec;
pub mod state;
mod template;
pub mod units;

pub use address::{AddressError, Point, StepRef, TaskAddress, address, job_number};
pub use frames::{Frames, FramesError, TASKS_MAX};
pub use lines::Lines;
pub use pattern::PatternError;
pub use plan::{COMMAND_GRACE_MS, Plan, Resolved, ResolvedEnvironment, StepInfo};
pub use requires::{Facts, Requires, RequiresError, Unmet};
pub use spec::{
    After, Body, CommandBody, JobError, JobSpec, PRIORITY_MAX, PRIORITY_MIN, Space, SpecVersion, TemplateBody,
    each_lines,
};
pub use state::{AttemptState, Counts, Hold, JobAction, JobState, TaskState, TransitionError, UnknownWord};
pub use template::{TemplateError, TemplateParameter, TemplateProblem, template_parameters};
pub use units::{UnitError, parse_cores, parse_duration, parse_size};

/// Stands for the folder of the session's own files, wherever the host has it.
pub const FILES_MARKER: &str = "@STEAD_FILES@";
/// Stands for the job's folder, wherever the host has it.
pub const JOBDIR_MARKER: &str = "@STEAD_JOBDIR@";
