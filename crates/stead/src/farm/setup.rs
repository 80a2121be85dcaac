//! What a farm on this machine is to be: the options, with every default filled in and every contradiction refused.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use warrant::{AccountName, Mode};

use crate::cli::{FarmOptions, ModeArg};
use crate::failure::Failure;
use crate::out;

const LISTEN: &str = "127.0.0.1:7878";
/// The account Qube's installations use for proxy mode.
const PROXY_ACCOUNT: &str = "qubeproxy";
const THROWAWAY: &str = "throwaway";

#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) data: PathBuf,
    pub(crate) listen: String,
    pub(crate) mode: Mode,
    /// Proxy mode only: a name, or `throwaway`.
    pub(crate) proxy_account: Option<String>,
    pub(crate) accept: Vec<String>,
    pub(crate) slots: u32,
    pub(crate) labels: Vec<String>,
    pub(crate) workers: Vec<String>,
    pub(crate) supervisor_conf: Option<PathBuf>,
    /// The services say only what is wrong: a one-shot farm's output is the job's.
    pub(crate) quiet: bool,
}

impl Setup {
    pub(crate) fn new(options: &FarmOptions, data: PathBuf, root: bool, listen: String) -> Result<Self, Failure> {
        let mode = mode(options.mode, root)?;
        Ok(Self {
            data,
            listen,
            mode,
            proxy_account: proxy_account(options, mode)?,
            accept: accept(options, mode)?,
            slots: slots(options.slots)?,
            labels: options.label.clone(),
            workers: worker_names(options.workers)?,
            supervisor_conf: options.supervisor_conf.clone(),
            quiet: false,
        })
    }

    pub(crate) fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// What the services' logging is told, unless the person said it.
    pub(crate) fn log_level(&self) -> Option<&'static str> {
        (self.quiet && std::env::var_os("RUST_LOG").is_none()).then_some("warn")
    }

    pub(crate) fn throwaway(&self) -> bool {
        self.proxy_account.as_deref() == Some(THROWAWAY)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.data.join("run/socket")
    }

    /// What follows `stead worker run --data DIR --name NAME`.
    pub(crate) fn worker_args(&self) -> Vec<String> {
        let mut args: Vec<String> = vec!["--mode".into(), self.mode.as_str().into()];
        let mut option = |name: &str, value: &str| args.extend([name.to_owned(), value.to_owned()]);
        option("--slots", &self.slots.to_string());
        self.labels.iter().for_each(|label| option("--label", label));
        self.proxy_account.iter().for_each(|account| option("--proxy-account", account));
        self.accept.iter().for_each(|user| option("--accept", user));
        args
    }

    /// What follows `stead supervisor --data DIR --operator NAME`.
    pub(crate) fn supervisor_args(&self) -> Vec<String> {
        let mut args: Vec<String> = vec!["--listen".into(), self.listen.clone()];
        if let Some(file) = &self.supervisor_conf {
            args.extend(["--supervisor-conf".into(), file.display().to_string()]);
        }
        args
    }

    /// Choices that a person should know he made.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.throwaway() {
            remarks.push(
                "jobs run as a throwaway account: an id that nobody has, chosen for this farm's folder (you asked for it \
                 with --proxy-account throwaway)"
                    .into(),
            );
        }
        match self.accept.iter().any(|user| user == "any") {
            true => remarks.push("--accept any: whoever submits, the job runs as you".into()),
            false if !self.accept.is_empty() => {
                remarks.push(format!("--accept: jobs of {} run as you, too", self.accept.join(", ")));
            }
            false => {}
        }
        remarks
    }
}

fn mode(asked: Option<ModeArg>, root: bool) -> Result<Mode, Failure> {
    match (asked, root) {
        (None, true) | (Some(ModeArg::User), true) => Ok(Mode::User),
        (Some(ModeArg::Proxy), true) => Ok(Mode::Proxy),
        (None | Some(ModeArg::Desktop), false) => Ok(Mode::Desktop),
        (Some(ModeArg::Desktop), true) => Err(Failure::Refused {
            rule: "desktop_never_root",
            text: "a desktop worker refuses to run as root: every job would run as root".into(),
            hint: "start it as the person who owns it, or leave --mode out: jobs then run as their users".into(),
        }),
        (Some(asked), false) => Err(Failure::Refused {
            rule: "service_mode_needs_root",
            text: format!(
                "{} mode needs root: only root can start processes as another account",
                if asked == ModeArg::User { "user" } else { "proxy" }
            ),
            hint: "start it with sudo, or leave --mode out: jobs then run as you".into(),
        }),
    }
}

fn proxy_account(options: &FarmOptions, mode: Mode) -> Result<Option<String>, Failure> {
    match (&options.proxy_account, mode) {
        (None, Mode::Proxy) => Ok(Some(PROXY_ACCOUNT.into())),
        (Some(name), Mode::Proxy) => match AccountName::parse(name) {
            Ok(_) => Ok(Some(name.clone())),
            Err(e) => Err(Failure::usage(format!("--proxy-account {name:?}: {e}"))),
        },
        (Some(_), _) => Err(Failure::Usage {
            text: "--proxy-account has a meaning in proxy mode only".into(),
            hint: Some("add --mode proxy".into()),
        }),
        (None, _) => Ok(None),
    }
}

fn accept(options: &FarmOptions, mode: Mode) -> Result<Vec<String>, Failure> {
    if !options.accept.is_empty() && mode != Mode::Desktop {
        return Err(Failure::Usage {
            text: "--accept has a meaning in desktop mode only: there, jobs of others run as you".into(),
            hint: None,
        });
    }
    for user in &options.accept {
        warrant::LoginUser::parse(user).map_err(|e| Failure::usage(format!("--accept {user:?}: {e}")))?;
    }
    Ok(options.accept.clone())
}

pub(crate) fn slots(asked: Option<u32>) -> Result<u32, Failure> {
    match asked {
        Some(0) => Err(Failure::usage("--slots 0: a worker without slots does nothing")),
        Some(slots) => Ok(slots),
        None => Ok(std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))),
    }
}

fn worker_names(workers: u32) -> Result<Vec<String>, Failure> {
    if !(1..=256).contains(&workers) {
        return Err(Failure::usage(format!("--workers {workers}: 1 to 256 are possible on one machine")));
    }
    let host = supervisor::host_name();
    Ok((1..=workers).map(|n| format!("{host}-{n}")).collect())
}

/// `--listen`, or the usual port, or a free one when that is taken.
pub(crate) fn listen(options: &FarmOptions) -> String {
    if let Some(listen) = &options.listen {
        return listen.clone();
    }
    match TcpListener::bind(LISTEN) {
        Ok(_) => LISTEN.into(),
        Err(_) => {
            out::note(format!("{LISTEN} is taken; the web address is on a free port (--listen names one)"));
            "127.0.0.1:0".into()
        }
    }
}

/// A farm's folder is the starter's own, and nobody else may put anything into it.
pub(crate) fn lay_out(data: &Path, others: bool) -> Result<(), Failure> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    let make = |path: &Path, mode: u32| {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(|e| Failure::file("create the farm's folder", path, e))
    };
    make(data, 0o700)?;
    let meta = std::fs::metadata(data).map_err(|e| Failure::file("look at", data, e))?;
    let me = nix::unistd::geteuid().as_raw();
    if meta.uid() != me || meta.mode() & 0o022 != 0 {
        return Err(Failure::Refused {
            rule: "own_folder",
            text: format!(
                "{} belongs to uid {} with mode {:o}; a farm's folder must be yours (uid {me}) and writable by nobody else",
                data.display(),
                meta.uid(),
                meta.mode() & 0o7777
            ),
            hint: "name another folder with --data DIR".into(),
        });
    }
    // Only when others' jobs are taken must others reach the socket.
    if others && meta.mode() & 0o111 != 0o111 {
        std::fs::set_permissions(data, std::fs::Permissions::from_mode(meta.mode() & 0o777 | 0o111))
            .map_err(|e| Failure::file("set the mode of", data, e))?;
    }
    for (name, mode) in [("supervisor", 0o700), ("worker", 0o700), ("work", 0o711), ("run", 0o755)] {
        make(&data.join(name), mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(change: impl FnOnce(&mut FarmOptions), root: bool) -> Result<Setup, Failure> {
        let mut options = FarmOptions { workers: 1, ..FarmOptions::default() };
        change(&mut options);
        Setup::new(&options, "/farm".into(), root, LISTEN.into())
    }

    #[test]
    fn the_mode_follows_who_starts_it() {
        let mode = |asked, root| setup(|o| o.mode = asked, root).map(|s| s.mode).map_err(|e| e.exit());
        assert_eq!(mode(None, false), Ok(Mode::Desktop));
        assert_eq!(mode(None, true), Ok(Mode::User));
        assert_eq!(mode(Some(ModeArg::Proxy), true), Ok(Mode::Proxy));
        assert_eq!(mode(Some(ModeArg::Desktop), true), Err(3));
        assert_eq!(mode(Some(ModeArg::User), false), Err(3));
        assert_eq!(mode(Some(ModeArg::Proxy), false), Err(3));
    }

    #[test]
    fn a_throwaway_account_is_an_explicit_choice_and_said() {
        let setup = |account: Option<&str>| {
            setup(
                |o| {
                    o.mode = Some(ModeArg::Proxy);
                    o.proxy_account = account.map(Into::into);
                },
                true,
            )
        };
        let default = setup(None).expect("proxy mode");
        assert_eq!(default.proxy_account.as_deref(), Some("qubeproxy"));
        assert!(default.remarks().is_empty() && !default.throwaway());
        let chosen = setup(Some("throwaway")).expect("throwaway");
        assert!(chosen.throwaway() && chosen.remarks()[0].contains("throwaway"));
        assert_eq!(setup(Some("a b")).expect_err("no name").exit(), 2);
    }

    #[test]
    fn options_of_another_mode_are_refused_not_ignored() {
        assert!(setup(|o| o.proxy_account = Some("x".into()), true).is_err());
        assert!(setup(|o| o.accept = vec!["any".into()], true).is_err());
        assert!(setup(|o| o.slots = Some(0), true).is_err());
        assert!(setup(|o| o.workers = 0, true).is_err());
    }

    #[test]
    fn accept_any_is_said() {
        let any = setup(|o| o.accept = vec!["any".into()], false).expect("desktop");
        assert!(any.remarks()[0].contains("runs as you"));
        assert_eq!(any.worker_args()[..2], ["--mode".to_owned(), "desktop".into()]);
    }
}
