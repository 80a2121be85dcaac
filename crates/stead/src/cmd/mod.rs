//! The commands that ask a supervisor. Each prints what it was told; none decides anything.

mod act;
pub(crate) mod audit;
mod config;
mod doctor;
mod explain;
mod jobs;
mod logs;
mod submit;
mod tasks;
mod wait;
mod workers;

pub(crate) use act::act;
pub(crate) use config::check as config_check;
pub(crate) use doctor::doctor;
pub(crate) use explain::explain;
pub(crate) use jobs::{jobs, whoami};
pub(crate) use logs::{copy_output, logs};
pub(crate) use submit::submit;
pub(crate) use tasks::tasks;
pub(crate) use wait::{ended, outcome, wait};
pub(crate) use workers::{drain, list as workers};
