//! `stead supervisor` and `stead worker run`: options and settings become the services' configuration.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use compat_qube::{Effective, ExecutionMode, Lookup, QbConf, WorkerSettings};
use nix::unistd::User;
use serde::Deserialize;

use crate::cli::{ModeArg, Supervisor, WorkerRun};
use crate::failure::Failure;
use crate::farm::{Login, Ready, Shutdown, with_parent};

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
    /// Qube!'s file of this host; what it says goes before this one.
    pub(crate) qb_conf: Option<PathBuf>,
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
    let login = if options.with_login { Some(Login::of_process()?) } else { None };
    let is_desktop = matches!(config.mode, worker::Mode::Desktop { .. });
    if login.is_some() && !is_desktop {
        return Err(Failure::usage("--with-login has a meaning in desktop mode only"));
    }
    crate::single_threaded(async {
        let mut shutdown = Shutdown::new()?;
        if let worker::Mode::Service { launcher, .. } = &config.mode {
            tokio::select! {
                () = there(launcher) => {}
                () = shutdown.asked() => return Ok(()),
            }
        }
        let asked = async move {
            match login {
                Some(login) => tokio::select! {
                    () = login.ended() => {}
                    () = shutdown.asked() => {}
                },
                None => shutdown.asked().await,
            }
        };
        let ended = worker::run(config, asked).await;
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
    let desk = Desk::at(&data, options, &file)?;
    let name = options.name.clone().or(file.name.clone());
    let name = name.or_else(|| desk.as_ref().map(|desk| desk.name.clone())).unwrap_or_else(supervisor::host_name);
    let (own, has_file) = own(options, &file)?;
    let settings = own_settings(&name, &own)?;
    let mode = mode(options, &file, &own, has_file, &settings)?;
    let (cores, memory) = worker::this_host();
    let mut labels = file.labels.clone();
    labels.extend(options.label.iter().cloned());
    let folder = desk.as_ref().map_or(&data, |desk| &desk.folder);
    let spool = folder.join("worker").join(if is_name(&name) { &name } else { "unnamed" });
    Ok(worker::Config {
        endpoint: worker::Endpoint::Unix(data.join("run/worker.socket")),
        spool,
        work: folder.join("work"),
        mode: match mode {
            ModeArg::Desktop => desktop(options, &file, desk.as_ref())?,
            service => service_mode(service, options, &file, &own, &data),
        },
        slots: settings.slots.unwrap_or(cores).max(1),
        labels,
        own: for_supervisor(&own),
        cores,
        memory,
        name,
    })
}

/// What is said on this host, in Qube!'s words: worker.toml, then Qube!'s own file, then options; the later one counts.
/// And whether there is such a file.
fn own(options: &WorkerRun, file: &WorkerFile) -> Result<(QbConf, bool), Failure> {
    let at_its_place = || Some(PathBuf::from(compat_qube::QB_CONF)).filter(|p| options.qube && p.exists());
    let path = options.qb_conf.clone().or(file.qb_conf.clone()).or_else(at_its_place);
    let (mut conf, has_file) = match &path {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|e| Failure::file("read", path, e))?;
            (QbConf::parse(&path.display().to_string(), &String::from_utf8_lossy(&bytes)), true)
        }
        None => (QbConf::parse("qb.conf", ""), false),
    };
    for finding in conf.findings() {
        tracing::warn!("{finding}");
    }
    if let Some(error) = conf.findings().errors().next() {
        let count = conf.findings().errors().count();
        return Err(Failure::Usage {
            text: error.to_string(),
            hint: Some(format!("there are {count} such errors; `stead config check` says them all")),
        });
    }
    let service = file.mode.clone().filter(|m| m != "desktop");
    let said = [
        ("proxy_execution_mode", service),
        ("proxy_account", file.proxy_account.clone()),
        ("worker_cpus", file.slots.map(|n| n.to_string())),
    ];
    let unsaid = said.into_iter().filter(|(key, _)| conf.set(key).is_none()).collect::<Vec<_>>();
    conf.say(unsaid.into_iter().filter_map(|(key, value)| Some((key.into(), value?, "worker.toml".into(), 0))));
    let mode = options.mode.and_then(|mode| match mode {
        ModeArg::User => Some("user".to_owned()),
        ModeArg::Proxy => Some("proxy".to_owned()),
        ModeArg::Desktop => None,
    });
    let said = [
        ("proxy_execution_mode", mode, "--mode"),
        ("proxy_account", options.proxy_account.clone(), "--proxy-account"),
        ("worker_cpus", options.slots.map(|n| n.to_string()), "--slots"),
    ];
    conf.say(said.into_iter().filter_map(|(key, value, option)| Some((key.into(), value?, option.into(), 0))));
    Ok((conf, has_file))
}

/// The same as values. `throwaway` is a word of Stead's options only.
fn own_settings(name: &str, own: &QbConf) -> Result<WorkerSettings, Failure> {
    let effective = Effective::combine(name, Some(own), None, Lookup::Local);
    let is_throwaway = own.set("proxy_account").is_some_and(|s| s.value.line() == "throwaway");
    let effective = if is_throwaway { effective.without("proxy_account") } else { effective };
    let say = |wrong: Vec<compat_qube::Finding>| wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    WorkerSettings::read(&effective).map_err(|wrong| Failure::usage(say(wrong)))
}

fn for_supervisor(own: &QbConf) -> wire::Own {
    let setting = |(key, value, file, line)| wire::OwnSetting { key, value, file, line };
    let lookup = own.set("worker_lookup").map_or("", |_| own.lookup().as_str());
    wire::Own { lookup: lookup.to_owned(), settings: own.for_supervisor().map(setting).collect() }
}

/// Only a name becomes part of a path; the worker itself refuses what is none.
fn is_name(name: &str) -> bool {
    warrant::AccountName::parse(name).is_ok()
}

fn mode(
    options: &WorkerRun,
    file: &WorkerFile,
    own: &QbConf,
    has_file: bool,
    settings: &WorkerSettings,
) -> Result<ModeArg, Failure> {
    if let Some(mode) = options.mode {
        return Ok(mode);
    }
    match file.mode.as_deref() {
        Some("desktop") => return Ok(ModeArg::Desktop),
        None | Some("user" | "proxy") => {}
        Some(other) => {
            return Err(Failure::usage(format!("worker.toml: mode = {other:?} is not one of user, proxy, desktop")));
        }
    }
    if own.set("proxy_execution_mode").is_none() && !has_file {
        return Err(Failure::Usage {
            text: "the worker's mode is not said".into(),
            hint: Some("--mode desktop, or --mode user or proxy with --launcher SOCKET".into()),
        });
    }
    Ok(match settings.mode {
        ExecutionMode::User => ModeArg::User,
        ExecutionMode::Proxy => ModeArg::Proxy,
    })
}

/// A person's worker for a farm that is not theirs.
struct Desk {
    /// What it keeps is not in the farm's folder, but in one of the person's own.
    folder: PathBuf,
    name: String,
    accept: Vec<String>,
}

impl Desk {
    /// `None` where the farm is the person's own, or in service mode.
    fn at(data: &Path, options: &WorkerRun, file: &WorkerFile) -> Result<Option<Self>, Failure> {
        use std::os::unix::fs::MetadataExt as _;
        let said = options.mode.map(|mode| mode == ModeArg::Desktop);
        let is_desktop = said.unwrap_or_else(|| file.mode.as_deref() == Some("desktop"));
        let uid = nix::unistd::geteuid();
        let folder = std::fs::metadata(data.join("worker")).or_else(|_| std::fs::metadata(data));
        let is_ours = folder.is_ok_and(|m| m.uid() == uid.as_raw());
        if !is_desktop || is_ours || uid.is_root() {
            return Ok(None);
        }
        let user = User::from_uid(uid).map_err(|e| Failure::system("look up your own account", e))?;
        let name =
            user.map(|user| user.name).ok_or_else(|| Failure::Identity(format!("uid {uid} has no name here")))?;
        let desks = supervisor::Desks::read(data, 0).map_err(|e| Failure::usage(e.to_string()))?;
        if !desks.takes(uid.as_raw()) {
            return Err(Failure::Refused {
                rule: "desktop_owner_listed",
                text: format!("{name} may not run a desktop worker for the farm in {}", data.display()),
                hint: format!("root of this host can let them: `stead worker mode desktop --user {name}`"),
            });
        }
        let listed = desks.people.iter().find(|desk| desk.uid == uid.as_raw());
        let accept = listed.map(|desk| desk.accept.clone()).unwrap_or_default();
        Ok(Some(Self { folder: state_folder()?, name: supervisor::desk_name(&name, uid.as_raw()), accept }))
    }
}

fn state_folder() -> Result<PathBuf, Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    let folder = state.map(|state| state.join("stead")).ok_or_else(|| Failure::Usage {
        text: "there is no place for what the worker keeps: neither HOME nor XDG_STATE_HOME is an absolute path".into(),
        hint: Some("start it from your own login".into()),
    })?;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|e| Failure::file("create the folder", &folder, e))?;
    Ok(folder)
}

fn desktop(options: &WorkerRun, file: &WorkerFile, desk: Option<&Desk>) -> Result<worker::Mode, Failure> {
    let beside = || {
        let own = std::env::current_exe().map_err(|e| Failure::system("find this program's own file", e))?;
        Ok(own.with_file_name("stead-session"))
    };
    let session = options.session.clone().or(file.session.clone());
    let mut accept = file.accept.clone();
    accept.extend(options.accept.iter().cloned());
    // What root lets it take, unless the person wants less.
    if let Some(desk) = desk.filter(|_| accept.is_empty()) {
        accept.clone_from(&desk.accept);
    }
    Ok(worker::Mode::Desktop { accept, session_program: session.map_or_else(beside, Ok)? })
}

fn service_mode(mode: ModeArg, options: &WorkerRun, file: &WorkerFile, own: &QbConf, data: &Path) -> worker::Mode {
    let launcher = options.launcher.clone().or(file.launcher.clone());
    let proxy = match mode {
        ModeArg::Proxy => Some(own.set("proxy_account").map_or_else(|| "qubeproxy".into(), |s| s.value.line())),
        _ => None,
    };
    let launcher = launcher.unwrap_or_else(|| data.join("run/launcher.socket"));
    worker::Mode::Service { launcher, launcher_uid: 0, proxy }
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
        qube: supervisor::QubeFiles {
            qb_conf: options.qb_conf.clone(),
            qbwrk_conf: options.qbwrk_conf.clone(),
            at_qubes_places: options.qube,
        },
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
            qb_conf: None,
            qube: false,
            with_login: false,
            with_parent: None,
        };
        let config = worker_config(&options, file).expect("config");
        let said: Vec<_> = config.own.settings.iter().map(|s| (s.key.as_str(), s.value.as_str(), &*s.file)).collect();
        assert_eq!(
            said,
            [("proxy_execution_mode", "proxy", "worker.toml"), ("worker_cpus", "3", "worker.toml")],
            "and the supervisor is told"
        );
        assert_eq!((config.name.as_str(), config.slots, config.labels), ("b", 3, vec!["x".to_owned(), "y".into()]));
        assert_eq!(config.spool, Path::new("/d/worker/b"));
        match config.mode {
            worker::Mode::Service { launcher, launcher_uid: 0, proxy: Some(account) } => {
                assert_eq!((launcher, account.as_str()), ("/d/run/launcher.socket".into(), "qubeproxy"));
            }
            other => panic!("{other:?}"),
        }
    }

    fn with_qb_conf(text: &str, mut change: impl FnMut(&mut WorkerRun)) -> Result<worker::Config, Failure> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("qb.conf");
        std::fs::write(&path, text).expect("written");
        let mut options = WorkerRun {
            data: Some("/d".into()),
            conf: None,
            name: Some("b".into()),
            launcher: None,
            mode: None,
            proxy_account: None,
            accept: vec![],
            slots: None,
            label: vec![],
            session: None,
            qb_conf: Some(path),
            qube: false,
            with_login: false,
            with_parent: None,
        };
        change(&mut options);
        worker_config(&options, WorkerFile::parse("f", "mode = 'user'\nslots = 3").expect("file"))
    }

    #[test]
    fn qubes_own_file_goes_before_worker_toml_and_options_before_both() {
        let proxy = |config: &worker::Config| match &config.mode {
            worker::Mode::Service { proxy, .. } => proxy.clone(),
            worker::Mode::Desktop { .. } => panic!("desktop"),
        };
        let config = with_qb_conf("proxy_execution_mode = proxy\nworker_lookup = local\n", |_| {}).expect("fine");
        assert_eq!((proxy(&config).as_deref(), config.slots), (Some("qubeproxy"), 3));
        assert_eq!(config.own.lookup, "local");
        let config = with_qb_conf("worker_cpus = 7\n", |_| {}).expect("fine");
        assert_eq!((proxy(&config), config.slots, config.own.lookup.as_str()), (None, 7, ""));
        let config = with_qb_conf("proxy_execution_mode = user\n", |o| {
            (o.mode, o.proxy_account) = (Some(ModeArg::Proxy), Some("throwaway".into()));
        });
        assert_eq!(proxy(&config.expect("fine")).as_deref(), Some("throwaway"));
        let wrong = with_qb_conf("\nproxy_execution_mode = usr\n", |_| {}).expect_err("misspelt");
        assert!(wrong.to_string().contains("qb.conf:2: error: proxy_execution_mode"), "{wrong}");
    }
}
