//! The supervisor: authenticates, decides, stores, schedules. Never root, and never runs anything of a job itself.
//!
//! The way of a job through these rooms: `api` takes a request apart, `authn` says who is there, `service` decides with
//! `policy`, writes the `audit` and the store, `scheduler` matches ready work with free slots, `dispatch` turns a match
//! into signed warrants and batches, and what comes back goes through `dispatch` into the store and `logs`.

#![forbid(unsafe_code)]

mod api;
mod ask;
mod audit;
mod auditor;
mod authn;
mod caller;
mod clock;
mod config;
mod configuration;
mod desks;
mod dispatch;
mod error;
mod events;
mod foresight;
mod health;
mod identity;
mod keys;
mod linkis;
mod listen;
mod logon;
mod logs;
#[cfg(feature = "measure")]
pub mod measure;
mod metrics;
#[cfg_attr(not(feature = "oidc"), allow(dead_code, reason = "a build without it refuses at the door"))]
mod oidc;
mod once;
mod pages;
mod room;
mod scheduler;
mod service;
mod start;
#[cfg(test)]
mod tests;
mod views;
mod workshop;

pub use api::openapi;
pub use audit::{
    AnchorTo, AuditError, Broken, Finding, Report, VerifyOptions, verify_dir, verify_files, verify_launches,
};
pub use config::{ConfigError, Settings};
pub use configuration::{ConfigurationError, QubeFiles};
pub use desks::{Desk, Desks, DesksError, desk_name, host_name};
pub use error::StartError;
pub use linkis::LinkisSettings;
pub use oidc::{OidcSettings, RequiredClaim, login_word};
pub use start::{Config, Running, run, start};
