//! Qube!'s configuration files, `qb.conf` and `qbwrk.conf`, read as they are.
//!
//! Pure: no input or output, no clock; texts come in, settings and findings come out. Every setting knows where it
//! comes from: file, line, the sections it came through, or that it is built in. What is found wrong names file, line,
//! key, value, and what is allowed.
//!
//! A finding is an error when going on could open something, or give a worker another identity than was meant: such a
//! file is not taken. It is a warning when the worst is that a wish is not granted. Passwords are never part of a text
//! that this crate makes.
//!
//! It deliberately looks up no name, neither of hosts nor of accounts, and sends nothing anywhere.

#![forbid(unsafe_code)]

mod conf;
mod edit;
mod effective;
mod hosts;
mod keys;
mod lines;
mod near;
mod problem;
mod secret;
mod supervisor;
mod table;
mod value;
mod worker;
mod wrk;

pub use conf::QbConf;
pub use edit::{EditError, with_settings_of};
pub use effective::{Effective, Lookup, Origin, Setting};
pub use keys::{KEYS, Key, Role, Standing, key};
pub use near::nearest;
pub use problem::{Finding, Findings, Level, Problem};
pub use secret::{ProxyPassword, STEAD_MARK, SealedBy};
pub use supervisor::{HostPolicy, Limits, Permissions, SupervisorFlags, SupervisorSettings};
pub use table::keys_as_markdown;
pub use value::{Item, Value};
pub use worker::{ExecutionMode, WorkerFlags, WorkerSettings};
pub use wrk::{Platform, QbWrk};

/// Where Qube! has its files on Linux and macOS.
pub const QB_CONF: &str = "/etc/qb.conf";
pub const QBWRK_CONF: &str = "/etc/qbwrk.conf";
