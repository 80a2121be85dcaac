//! The commands that ask a supervisor. Each prints what it was told; none decides anything.

mod act;
mod acting;
pub(crate) mod audit;
pub(crate) mod config;
mod doctor;
mod explain;
mod grants;
mod jobs;
mod logs;
mod oidc;
mod password;
mod policy;
mod resubmit;
mod sign_in;
mod submit;
mod tasks;
mod users;
mod wait;
mod workers;

pub(crate) use act::{act, remove};
pub(crate) use acting::acting;
pub(crate) use doctor::doctor;
pub(crate) use explain::explain;
pub(crate) use grants::{grants, let_act};
pub(crate) use jobs::{jobs, whoami};
pub(crate) use logs::{copy_output, logs};
pub(crate) use password::password;
pub(crate) use policy::diff as policy_diff;
pub(crate) use resubmit::resubmit;
pub(crate) use sign_in::{login, logout, sessions, tokens, web};
pub(crate) use submit::{send, submit};
pub(crate) use tasks::{address, resolve, tasks};
pub(crate) use users::users;
pub(crate) use wait::{ended, outcome, wait};
pub(crate) use workers::{drain, list as workers};
