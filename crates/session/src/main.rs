//! `stead-session`: runs signed batches of tasks under the account it was started as, one after another.
//!
//! It is started by the launcher's shepherd (or, in desktop mode, by the worker), already *being* the account: with the
//! job's folder as its current one, the account's base environment, its umask, a session of its own, the channel to
//! the worker at descriptor 3 and its orders in a sealed memfd at descriptor 4. It believes the orders, and what is
//! signed with one of their keys; everything else on the channel can at most make it wait, stop or leave.
//!
//! It deliberately doesn't: change identity, know templates or job states, open a network connection, decide what may
//! run, or write anything outside the job's folder.
//!
//! `stead-session adopt UMASK` is for a desktop worker, which runs no code between fork and exec: channel and orders come
//! as standard input and output, and the session and the umask (octal) are made here.
//! `stead-session files` (also after `adopt UMASK`) does file work that is asked for in signed requests, and runs nothing.
//! `stead-session clean` removes what is beneath the current folder.
//!
//! # Markers
//! The supervisor knows no path of the host. In the arguments, environment values, working directory and file contents
//! of a batch, exactly two markers are replaced: `@STEAD_JOBDIR@` by the job's folder and `@STEAD_FILES@` by the
//! session's own folder in it, `.stead/SESSION`, where the batch's files are (also in the variable `STEAD_FILES`).
//! Nothing else is ever replaced, and there is no way to write a marker literally.
//!
//! # An item's environment
//! Lowest first: the base environment, the batch's, the item's (among it a template's `variables`), what entered
//! environments set with `openjd_env`. HOME, USER, LOGNAME, SHELL and STEAD_… come only from the base environment and
//! from the session itself.
//!
//! # Rooms
//! [`session`] is the story: it waits, listens, starts, ends. `queue` has what is to run, `item` what runs, `outbox`
//! what is to be told. `serve` is the story of a session for file work, `folder` does it. `sys` has every `unsafe` line.

#![deny(unsafe_code)]

mod clean;
mod command;
mod environment;
mod files;
mod folder;
mod item;
mod leftovers;
mod memory;
mod openjd;
mod outbox;
mod place;
mod queue;
mod redact;
mod serve;
mod session;
#[expect(unsafe_code, reason = "the one room that calls the kernel directly")]
mod sys;
mod text;

use std::fmt;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;
use warrant::PublicKey;
use warrant::codec::DecodeError;
use warrant::session_wire::{CHANNEL_FD, ORDERS_FD, Orders, PACKET_MAX};

const WHAT_IT_IS: &str =
    "stead-session runs the tasks of one job under its account; stead-launcher or a worker starts it, nobody else can";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(|a| a.to_str()).collect();
    match words.as_slice() {
        [] => run(start(), session::Session::run),
        [Some("adopt"), Some(umask)] => run(adopt(umask).and_then(|()| start()), session::Session::run),
        [Some("files")] => run(start_files(), serve::Server::run),
        [Some("adopt"), Some(umask), Some("files")] => {
            run(adopt(umask).and_then(|()| start_files()), serve::Server::run)
        }
        [Some("clean")] => match clean::clean() {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => complain(&e, 1),
        },
        [Some("--version")] => {
            let _ = writeln!(std::io::stdout(), "stead-session {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => complain(&StartError::NotStartedRight, 2),
    }
}

fn run<T>(started: Result<T, StartError>, live: impl FnOnce(T)) -> ExitCode {
    match started {
        Ok(session) => {
            live(session);
            ExitCode::SUCCESS
        }
        Err(e @ StartError::NotStartedRight) => complain(&e, 2),
        Err(e) => complain(&e, 1),
    }
}

fn prepared<T>(what: &'static str, result: std::io::Result<T>) -> Result<T, StartError> {
    result.map_err(|error| StartError::Prepare { what, error })
}

fn complain(error: &dyn fmt::Display, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "stead-session: {error}");
    ExitCode::from(code)
}

/// Why no session came to be.
#[derive(Debug)]
enum StartError {
    /// Descriptors 3 and 4 are not a channel and orders.
    NotStartedRight,
    OrdersUnreadable(std::io::Error),
    OrdersMalformed(DecodeError),
    /// One of the supervisors' keys is no usable Ed25519 key.
    BadKey,
    /// The current folder has no path.
    NoFolder(std::io::Error),
    Prepare {
        what: &'static str,
        error: std::io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStartedRight => f.write_str(WHAT_IT_IS),
            Self::OrdersUnreadable(e) => write!(f, "failed to read the orders: {e}"),
            Self::OrdersMalformed(e) => write!(f, "failed to understand the orders: {e}"),
            Self::BadKey => f.write_str("failed to understand the orders: a supervisor's public key is unusable"),
            Self::NoFolder(e) => write!(f, "failed to find the job's folder: {e}"),
            Self::Prepare { what, error } => write!(f, "failed to {what}: {error}"),
        }
    }
}

/// A desktop worker can run no code between fork and exec, so what it would do there is done here.
fn adopt(umask: &str) -> Result<(), StartError> {
    let umask = u32::from_str_radix(umask, 8).ok().filter(|m| *m <= 0o777).ok_or(StartError::NotStartedRight)?;
    prepared("take over the worker's descriptors", sys::adopt(CHANNEL_FD, ORDERS_FD, umask))
}

/// The inherited descriptors, hidden from everything that is started, and what the orders say.
fn inherit() -> Result<(OwnedFd, Orders, Vec<PublicKey>), StartError> {
    let (channel, orders) = sys::inherited(CHANNEL_FD, ORDERS_FD).ok_or(StartError::NotStartedRight)?;
    sys::hide_descriptors_from(ORDERS_FD.unsigned_abs());
    prepared("become undumpable", sys::become_undumpable())?;
    let bytes = sys::read_memory_file(orders.as_fd(), PACKET_MAX).map_err(StartError::OrdersUnreadable)?;
    let orders = Orders::decode(&bytes).map_err(StartError::OrdersMalformed)?;
    let keys: Option<Vec<_>> = orders.keys.iter().map(PublicKey::from_bytes).collect();
    Ok((channel, orders, keys.ok_or(StartError::BadKey)?))
}

fn base_environment() -> environment::Pairs {
    std::env::vars_os().map(|(k, v)| (k.into_vec(), v.into_vec())).collect()
}

fn start_files() -> Result<serve::Server, StartError> {
    let (channel, orders, keys) = inherit()?;
    Ok(serve::Server::new(channel, orders, keys, &base_environment()))
}

/// From the inherited descriptors to a session that is ready to say so.
fn start() -> Result<session::Session, StartError> {
    let (channel, orders, keys) = inherit()?;
    if sys::pid() != 1 {
        prepared("become the reaper of orphans", sys::become_subreaper())?;
    }
    let signals = prepared("catch signals", sys::catch_signals())?;
    let spawner = prepared("prepare for starting", sys::Spawner::new())?;

    let job_dir = std::env::current_dir().map_err(StartError::NoFolder)?.into_os_string().into_vec();
    let place = place::Place::new(job_dir, orders.session);
    let base = base_environment();
    let account = text::Account { name: account_name(&base), uid: sys::uid() };
    // Nobody limits a person's own session.
    let memory = if orders.desktop { memory::Memory::default() } else { memory::Memory::of(orders.session) };
    files::make_folder(orders.session);
    let setup = session::Setup { channel, signals, spawner, orders, keys, place, account, base, memory };
    Ok(session::Session::new(setup))
}

/// Only for sentences: who the process is, the kernel says.
fn account_name(base: &environment::Pairs) -> String {
    let named = |wanted: &str| base.iter().find(|(name, _)| name == wanted.as_bytes());
    match named("USER").or_else(|| named("LOGNAME")) {
        Some((_, name)) => String::from_utf8_lossy(name).into_owned(),
        None => "the account".to_owned(),
    }
}
