//! `stead supervisor` and `stead worker run`: options and settings become the services' configuration.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::User;
use serde::Deserialize;

use crate::cli::{ModeArg, Supervisor, WorkerRun};
use crate::failure::Failure;
use crate::farm::{Ready, Shutdown, host_name, with_parent};

const DATA: &str = "/var/lib/stead";
const LAUNCHER_PATIENCE: Duration = Duration::from_secs(5);

/// `worker.toml`. Options on the command line come first.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WorkerFile {
    pub(crate) data: Option<PathBuf>,
    pub(crate) name: Option<String>,
    pub(crate) mode: Option<String>,
    pub(crate) proxy_account: Option<String>,
    pub(crate) accept: Vec<String>,
    pub(crate) launcher: Option<PathBuf>,
    pub(crate) session: Option<PathBuf>,
    pub(crate) slots: Option<u32>,
    pub(crate) labels: Vec<String>,
}

impl WorkerFile {
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, e))?;
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(file: &str, text: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|e| {
            let before = &text.as_bytes()[..e.span().map_or(0, |s| s.start).min(text.len())];
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            Failure::Input { file: format!("{file}:{line}"), text: e.message().into() }
        })
    }
}

pub(crate) fn worker(options: &WorkerRun) -> Result<(), Failure> {
    with_parent(options.with_parent)?;
    let file = options.conf.as_deref().map(WorkerFile::load).transpose()?.unwrap_or_default();
    let config = worker_config(options, file)?;
    crate::single_threaded(async {
        let mut shutdown = Shutdown::new()?;
        if let worker::Mode::Service { launcher, .. } = &config.mode {
            tokio::select! {
                () = there(launcher) => {}
                () = shutdown.asked() => return Ok(()),
            }
        }
        let ended = worker::run(config, async move { shutdown.asked().await }).await;
        ended.map_err(|e| match e {
            // Whoever starts it again could only hear the same.
            worker::WorkerError::Name { .. }
            | worker::WorkerError::DesktopAsRoot
            | worker::WorkerError::SessionProgram { .. } => Failure::usage(e.to_string()),
            e => Failure::Service { service: "worker", text: e.to_string() },
        })
    })
}

/// Worker and launcher are started together; the worker's socket to it may appear a moment later.
async fn there(launcher: &Path) {
    let deadline = Instant::now() + LAUNCHER_PATIENCE;
    while !launcher.exists() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn worker_config(options: &WorkerRun, file: WorkerFile) -> Result<worker::Config, Failure> {
    let data = options.data.clone().or(file.data.clone()).unwrap_or_else(|| DATA.into());
    let name = options.name.clone().or(file.name.clone()).unwrap_or_else(host_name);
    let mode = mode(options, &file)?;
    let (cores, memory) = worker::this_host();
    let mut labels = file.labels.clone();
    labels.extend(options.label.iter().cloned());
    let spool = if is_name(&name) { data.join("worker").join(&name) } else { data.join("worker/unnamed") };
    Ok(worker::Config {
        endpoint: worker::Endpoint::Unix(data.join("run/worker.socket")),
        spool,
        work: data.join("work"),
        mode: match mode {
            ModeArg::Desktop => desktop(options, &file)?,
            service => service_mode(service, options, &file, &data)?,
        },
        slots: options.slots.or(file.slots).unwrap_or(cores).max(1),
        labels,
        cores,
        memory,
        name,
    })
}

/// Only a name becomes part of a path; the worker itself refuses what is none.
fn is_name(name: &str) -> bool {
    warrant::AccountName::parse(name).is_ok()
}

fn mode(options: &WorkerRun, file: &WorkerFile) -> Result<ModeArg, Failure> {
    if let Some(mode) = options.mode {
        return Ok(mode);
    }
    match file.mode.as_deref() {
        None => Err(Failure::Usage {
            text: "the worker's mode is not said".into(),
            hint: Some("--mode desktop, or --mode user or proxy with --launcher SOCKET".into()),
        }),
        Some("user") => Ok(ModeArg::User),
        Some("proxy") => Ok(ModeArg::Proxy),
        Some("desktop") => Ok(ModeArg::Desktop),
        Some(other) => Err(Failure::usage(format!("worker.toml: mode = {other:?} is not one of user, proxy, desktop"))),
    }
}

fn desktop(options: &WorkerRun, file: &WorkerFile) -> Result<worker::Mode, Failure> {
    let beside = || {
        let own = std::env::current_exe().map_err(|e| Failure::system("find this program's own file", e))?;
        Ok(own.with_file_name("stead-session"))
    };
    let session = options.session.clone().or(file.session.clone());
    let mut accept = file.accept.clone();
    accept.extend(options.accept.iter().cloned());
    Ok(worker::Mode::Desktop { accept, session_program: session.map_or_else(beside, Ok)? })
}

fn service_mode(mode: ModeArg, options: &WorkerRun, file: &WorkerFile, data: &Path) -> Result<worker::Mode, Failure> {
    let launcher = options.launcher.clone().or(file.launcher.clone());
    let proxy = match mode {
        ModeArg::Proxy => {
            Some(options.proxy_account.clone().or(file.proxy_account.clone()).unwrap_or_else(|| "qubeproxy".into()))
        }
        _ => None,
    };
    let launcher = launcher.unwrap_or_else(|| data.join("run/launcher.socket"));
    Ok(worker::Mode::Service { launcher, launcher_uid: 0, proxy })
}

pub(crate) fn supervisor(options: &Supervisor) -> Result<(), Failure> {
    with_parent(options.with_parent)?;
    keep_to_oneself();
    let config = supervisor::Config {
        data: options.data.clone(),
        operator: options.operator.clone(),
        worker_uids: worker_uids(options)?,
        listen: options.listen.clone(),
        conf: options.supervisor_conf.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| Failure::system("start", e))?.block_on(async {
        let mut shutdown = Shutdown::new()?;
        let running = supervisor::start(config).await.map_err(|e| not_started(&e))?;
        let ready = Ready { url: running.url.clone(), socket: running.socket.clone() };
        say_ready(&ready, options)?;
        shutdown.asked().await;
        running.stop().await;
        Ok(())
    })
}

/// Nobody but root looks into this process, and it leaves no core: passwords come through it.
pub(crate) fn keep_to_oneself() {
    // Where that can't be had, they are as safe as in any other program of this account.
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
}

fn worker_uids(options: &Supervisor) -> Result<Vec<u32>, Failure> {
    let mut uids = options.worker_uid.clone();
    for name in &options.worker_user {
        let user = User::from_name(name).map_err(|e| Failure::system("look up the worker's account", e))?;
        let user = user.ok_or_else(|| Failure::usage(format!("--worker-user: there is no account {name}")))?;
        uids.push(user.uid.as_raw());
    }
    Ok(uids)
}

/// Where nobody could hear it on standard output, into a file that appears at once and whole.
fn say_ready(ready: &Ready, options: &Supervisor) -> Result<(), Failure> {
    let Some(name) = options.ready_file.as_deref().filter(|n| !n.contains('/')) else {
        // Whoever started it may not listen.
        let _ = writeln!(std::io::stdout(), "{}", ready.line());
        return Ok(());
    };
    let path = options.data.join("supervisor").join(name);
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, ready.line())
        .and_then(|()| std::fs::rename(&fresh, &path))
        .map_err(|e| Failure::file("write", path, e))
}

/// What starting again can't help is a usage error, so that whoever looks after the service stops trying.
fn not_started(error: &supervisor::StartError) -> Failure {
    use supervisor::StartError as E;
    match error {
        E::File { .. } | E::Store(_) | E::Audit(_) | E::SocketInUse(_) | E::Bind { .. } => {
            Failure::Service { service: "supervisor", text: error.to_string() }
        }
        _ => Failure::usage(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_worker_file_says_file_and_line() {
        let fail = |text: &str| WorkerFile::parse("worker.toml", text).expect_err("wrong").to_string();
        assert!(
            fail("name = 'a'\nslot = 2\n").starts_with("worker.toml:2: unknown field `slot`"),
            "{}",
            fail("slot = 2")
        );
        assert!(fail("slots = 'x'").starts_with("worker.toml:1: "));
    }

    #[test]
    fn options_come_before_the_file() {
        let file = WorkerFile::parse("f", "name = 'a'\nmode = 'proxy'\nslots = 3\nlabels = ['x']").expect("file");
        let options = WorkerRun {
            data: Some("/d".into()),
            conf: None,
            name: Some("b".into()),
            launcher: None,
            mode: None,
            proxy_account: None,
            accept: vec![],
            slots: None,
            label: vec!["y".into()],
            session: None,
            with_parent: None,
        };
        let config = worker_config(&options, file).expect("config");
        assert_eq!((config.name.as_str(), config.slots, config.labels), ("b", 3, vec!["x".to_owned(), "y".into()]));
        assert_eq!(config.spool, Path::new("/d/worker/b"));
        match config.mode {
            worker::Mode::Service { launcher, launcher_uid: 0, proxy: Some(account) } => {
                assert_eq!((launcher, account.as_str()), ("/d/run/launcher.socket".into(), "qubeproxy"));
            }
            other => panic!("{other:?}"),
        }
    }
}
