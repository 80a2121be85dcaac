//! `stead-launcher`: the only program of the farm that holds root.
//!
//! Small, single-threaded, without network, TLS or generated parsers. `host` lays out a folder and runs the
//! services of one machine, `serve` is the launcher proper, and it forks one shepherd per session; `checker` says
//! whether a password is right. It decides nothing about jobs: it carries out signed warrants, within what the host's own
//! `launcher.conf` allows, and signs what it saw. Root never opens, makes, changes or removes a path that a user can influence.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)
)]

#[cfg(not(target_os = "linux"))]
compile_error!("stead-launcher needs Linux: desktop mode works without it");

mod account;
mod admit;
mod cgroup;
mod checker;
mod complaints;
mod conf;
mod fatal;
mod folder;
mod host;
mod ids;
mod log;
mod logon;
mod nsswitch;
mod pam;
mod question;
mod refusal;
mod rpc;
mod serve;
mod shepherd;
mod switch;
mod sys;
mod throttle;
mod ticket;
mod title;
mod winbind;

use fatal::{Fatal, UsageError};
use std::io::Write as _;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
stead-launcher starts sessions under the accounts of their users. It needs root.

stead-launcher host --data DIR --stead STEAD --session SESSION [--worker NAME]... [--throwaway-proxy]
                    [--supervisor-arg ARG]... [--worker-arg ARG]... [--conf FILE] [--control-fd N] [--end-sessions]
    lays out DIR and runs launcher, supervisor and workers in it until the other end of N is closed (or SIGTERM)

stead-launcher serve --data DIR --session SESSION [common]
stead-launcher serve --state DIR --socket PATH --work DIR --session SESSION [common]
    the launcher alone; common: [--session-owner UID] --worker-uid UID | --worker-user NAME [--service-uid UID]...
                                [--worker NAME]... [--conf FILE]

stead-launcher checker --data DIR [who]
stead-launcher checker --state DIR --socket PATH [who]
    says whether a password is right, through PAM's service `stead`, to the supervisor's account and to nobody else;
    who: --supervisor-uid UID | --supervisor-user NAME, and [--conf FILE]

stead-launcher directory
    whether every service answers that /etc/nsswitch.conf names for accounts and groups; needs no root
stead-launcher --check-conf [FILE]
    reads launcher.conf (default /etc/stead/launcher.conf) and says what is wrong with it
stead-launcher --version | --help
";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).map(|a| a.into_string());
    let mut words = Vec::new();
    while let Some(Ok(word)) = args.next() {
        words.push(word);
    }
    match run(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            sys::say_line(&e.to_string());
            // 2: starting again without a change can't help.
            ExitCode::from(match e {
                Fatal::Step { .. }
                | Fatal::File { .. }
                | Fatal::Locked { .. }
                | Fatal::DirectoryDown { .. }
                | Fatal::Directory(_) => 1,
                _ => 2,
            })
        }
    }
}

fn run(words: Vec<String>) -> Result<(), Fatal> {
    let mut args = Args { words: words.into_iter() };
    match args.words.next().as_deref() {
        Some("host") => host::host(host_options(args)?),
        Some("serve") => match serve::serve(&serve_options(args)?)? {
            None => Ok(()),
            Some(task) => {
                // The supervisor reads it, too, where there are no control groups: a session's shepherd is above it.
                let (session, host) = (task.warrant.session.to_string(), warrant::hex(&task.host.0));
                title::set(&["stead-launcher", "shepherd", &session, &host]);
                shepherd::run(&task)
            }
        },
        Some("checker") => checker::serve(&checker_options(args)?),
        Some("directory") => Ok(account::directory_answers().map_err(Fatal::Directory)?),
        Some("--check-conf") => Ok(conf::load(args.words.next().map(PathBuf::from).as_deref()).map(drop)?),
        Some("--version") => print(concat!("stead-launcher ", env!("CARGO_PKG_VERSION"), "\n")),
        Some("--help" | "-h") => print(HELP),
        Some(other) => Err(UsageError::Unknown(other.to_owned()).into()),
        None => Err(UsageError::NoForm.into()),
    }
}

fn print(text: &str) -> Result<(), Fatal> {
    let done = std::io::stdout().write_all(text.as_bytes());
    done.map_err(|e| Fatal::Step { what: "print", errno: e.into() })
}

struct Args {
    words: std::vec::IntoIter<String>,
}

impl Args {
    fn value(&mut self, option: &str) -> Result<String, Fatal> {
        self.words.next().ok_or_else(|| UsageError::NoValue(option.to_owned()).into())
    }

    fn path(&mut self, option: &str) -> Result<PathBuf, Fatal> {
        self.value(option).map(PathBuf::from)
    }

    fn number(&mut self, option: &str) -> Result<u32, Fatal> {
        let value = self.value(option)?;
        let bad = |value| UsageError::BadValue { option: option.to_owned(), value }.into();
        value.parse().map_err(|_| bad(value))
    }

    /// An id of ours, which is never root's.
    fn uid(&mut self, option: &str) -> Result<u32, Fatal> {
        match self.number(option)? {
            uid @ (0 | u32::MAX) => {
                Err(UsageError::BadValue { option: option.to_owned(), value: uid.to_string() }.into())
            }
            uid => Ok(uid),
        }
    }
}

fn required(path: &Path, option: &'static str) -> Result<(), Fatal> {
    if path.as_os_str().is_empty() { Err(UsageError::Missing(option).into()) } else { Ok(()) }
}

fn host_options(mut args: Args) -> Result<host::Options, Fatal> {
    let mut o = host::Options::default();
    while let Some(word) = args.words.next() {
        match word.as_str() {
            "--data" => o.data = args.path(&word)?,
            "--stead" => o.stead = args.path(&word)?,
            "--session" => o.session = args.path(&word)?,
            "--worker" => o.workers.push(args.value(&word)?),
            "--supervisor-arg" => o.supervisor_args.push(args.value(&word)?),
            "--worker-arg" => o.worker_args.push(args.value(&word)?),
            "--conf" => o.conf = Some(args.path(&word)?),
            "--throwaway-proxy" => o.throwaway_proxy = true,
            "--end-sessions" => o.end_sessions = true,
            "--control-fd" => o.control = Some(inherited(args.number(&word)?)?),
            _ => return Err(UsageError::Unknown(word).into()),
        }
    }
    required(&o.data, "--data")?;
    required(&o.stead, "--stead")?;
    required(&o.session, "--session")?;
    Ok(o)
}

/// A descriptor that whoever started us left open for this.
fn inherited(number: u32) -> Result<OwnedFd, Fatal> {
    let bad = || UsageError::BadValue { option: "--control-fd".to_owned(), value: number.to_string() };
    let fd = i32::try_from(number).ok().filter(|fd| *fd > 2).ok_or_else(bad)?;
    // SAFETY: asks about a descriptor.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(bad().into());
    }
    // SAFETY: it is open, was given to us by number, and nothing else here knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn serve_options(mut args: Args) -> Result<serve::Options, Fatal> {
    let mut o = serve::Options::default();
    while let Some(word) = args.words.next() {
        match word.as_str() {
            "--data" => {
                let data = args.path(&word)?;
                (o.state, o.work) = (data.join("launcher"), data.join("work"));
                o.socket = data.join("run").join("launcher.socket");
            }
            "--state" => o.state = args.path(&word)?,
            "--socket" => o.socket = args.path(&word)?,
            "--work" => o.work = args.path(&word)?,
            "--session" => o.session = args.path(&word)?,
            "--session-owner" => o.session_owner = Some(args.uid(&word)?),
            "--worker-uid" => o.worker_uid = Some(args.uid(&word)?),
            "--worker-user" => o.worker_user = Some(args.value(&word)?),
            "--service-uid" => o.service_uids.push(args.uid(&word)?),
            "--worker" => o.workers.push(args.value(&word)?),
            "--conf" => o.conf = Some(args.path(&word)?),
            "--throwaway" => o.throwaway = Some(args.uid(&word)?),
            "--hosted" => o.hosted = true,
            _ => return Err(UsageError::Unknown(word).into()),
        }
    }
    required(&o.state, "--data or --state")?;
    required(&o.socket, "--data or --socket")?;
    required(&o.work, "--data or --work")?;
    required(&o.session, "--session")?;
    if o.throwaway.is_some() && !o.hosted {
        return Err(UsageError::Unknown("--throwaway".to_owned()).into());
    }
    Ok(o)
}

fn checker_options(mut args: Args) -> Result<checker::Options, Fatal> {
    let mut o = checker::Options::default();
    while let Some(word) = args.words.next() {
        match word.as_str() {
            "--data" => {
                let data = args.path(&word)?;
                o.state = data.join("launcher").join("checker");
                o.socket = data.join("run").join("checker.socket");
            }
            "--state" => o.state = args.path(&word)?,
            "--socket" => o.socket = args.path(&word)?,
            "--supervisor-uid" => o.supervisor_uid = Some(args.uid(&word)?),
            "--supervisor-user" => o.supervisor_user = Some(args.value(&word)?),
            "--conf" => o.conf = Some(args.path(&word)?),
            _ => return Err(UsageError::Unknown(word).into()),
        }
    }
    required(&o.state, "--data or --state")?;
    required(&o.socket, "--data or --socket")?;
    Ok(o)
}
