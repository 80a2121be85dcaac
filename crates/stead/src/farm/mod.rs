//! A farm on one machine: `dev`, and the one-shot farm of `run`.
//!
//! Not root: supervisor and worker are children of this process (`desktop`). Root: `stead-launcher host` starts
//! them under ids of their own, and this process gives up root before it reads anything (`host`).

mod desktop;
mod dev;
mod guard;
mod handover;
mod host;
mod identity;
mod login;
mod oneshot;
mod play;
mod programs;
mod ready;
mod report;
mod setup;
mod shutdown;
mod tour;
mod tree;

use std::path::PathBuf;

use crate::failure::Failure;

pub(crate) use dev::dev;
pub(crate) use guard::unblock_signals;
pub(crate) use handover::{clear, receive_as, remove_as, send_as};
pub(crate) use identity::submit_as;
pub(crate) use login::Login;
pub(crate) use oneshot::run;
pub(crate) use programs::Programs;
pub(crate) use ready::Ready;
pub(crate) use shutdown::{Shutdown, with_parent};
pub(crate) use tour::{present as present_tour, read as read_tour};

/// Where `dev` keeps a farm when nobody says otherwise.
pub(crate) fn default_data() -> Result<PathBuf, Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok("/var/lib/stead".into());
    }
    let home = || std::env::var_os("HOME").filter(|h| !h.is_empty()).map(|h| PathBuf::from(h).join(".local/share"));
    let data = std::env::var_os("XDG_DATA_HOME").filter(|d| !d.is_empty()).map(PathBuf::from).or_else(home);
    data.map(|d| d.join("stead")).ok_or_else(|| Failure::Usage {
        text: "there is no place for the farm: neither HOME nor XDG_DATA_HOME is set".into(),
        hint: Some("name one with --data DIR".into()),
    })
}
