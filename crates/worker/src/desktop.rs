//! Desktop mode: the worker starts sessions itself, as itself, and as nobody else.
//!
//! There is no launcher here, so the worker does what a launcher does first: it opens the warrant with the
//! supervisor's keys and refuses what is not signed for it, for its own life, once. No unsigned byte becomes a
//! process. It has no privilege to give, so there is no switch and no proof; it reads back who it is.

use crate::host;
use crate::launcher::HostEvent;
use crate::leftovers;
use crate::meaning::{Ending, Refusal};
use crate::packets;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, User};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use warrant::launcher_wire::RefusalKind;
use warrant::session_wire::Orders;
use warrant::{Account as Wanted, Incarnation, Mode, PublicKey, Purpose, Renewal, Signed, Warrant};
use wire::{Account, Report, SessionEnd};

/// How long a session goes on without hearing from its worker. In desktop mode it ends with its channel anyway.
const ORPHAN_LIMIT_MS: u64 = 600_000;
/// Variables of whoever started the worker that are no business of a job.
const STRIPPED: [&str; 11] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "CREDENTIALS_DIRECTORY",
    "MAINPID",
    "OLDPWD",
];

/// What a launch is checked against: what the supervisor said in its welcome.
#[derive(Debug, Clone)]
pub(crate) struct Farm {
    pub(crate) id: [u8; 16],
    pub(crate) keys: Vec<PublicKey>,
}

/// A session asked for on the channel; must agree with its warrant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) session: u64,
    pub(crate) job: u64,
}

pub(crate) struct Desktop {
    worker: String,
    accept: Vec<String>,
    owner: Account,
    user: User,
    session_program: PathBuf,
    work: PathBuf,
    incarnation: Incarnation,
    used: BTreeSet<u64>,
    living: BTreeMap<u64, Living>,
    killed: BTreeSet<u64>,
}

struct Living {
    pidfd: Arc<OwnedFd>,
    /// Boot-time clock in ms, after which the session ends itself.
    lease_until: u64,
}

/// A session that was started.
pub(crate) struct Started {
    pub(crate) channel: OwnedFd,
    pub(crate) report: Report,
    /// Process id and its start in clock ticks since boot.
    pub(crate) process: (i32, u64),
    pub(crate) watch: Watch,
}

/// What is needed to see a session's end.
pub(crate) struct Watch {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
}

impl Desktop {
    pub(crate) fn new(
        worker: String,
        accept: Vec<String>,
        (owner, user): (Account, User),
        session_program: PathBuf,
        work: PathBuf,
    ) -> io::Result<Self> {
        let mut incarnation = [0; 16];
        getrandom::fill(&mut incarnation).map_err(io::Error::other)?;
        // What a dead session leaves behind comes to this process and can be ended.
        leftovers::adopt()?;
        let (used, living, killed) = Default::default();
        Ok(Self { worker, accept, owner, user, session_program, work, incarnation, used, living, killed })
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(crate) fn session_program(&self) -> &Path {
        &self.session_program
    }

    pub(crate) fn owner(&self) -> &Account {
        &self.owner
    }

    /// Checks the warrant, then starts the session.
    pub(crate) fn launch(&mut self, farm: &Farm, asked: Asked, signed: &[u8]) -> Result<Started, Refusal> {
        let warrant = self.check(farm, asked, signed)?;
        let run_as = self.read_back()?;
        let folder = self.folder(&warrant)?;
        let started = self.start(farm, &warrant, &folder, run_as).map_err(|e| stage("exec", &e))?;
        let living = Living { pidfd: Arc::clone(&started.watch.pidfd), lease_until: warrant.lease_until };
        self.living.insert(warrant.session, living);
        Ok(started)
    }

    fn check(&mut self, farm: &Farm, asked: Asked, signed: &[u8]) -> Result<Warrant, Refusal> {
        let signed = Signed::decode(signed, warrant::WARRANT_MAX).map_err(|e| void(&e.to_string()))?;
        let warrant = Warrant::open(&signed, &farm.keys).map_err(|e| void(&e.to_string()))?;
        let checks = [
            (warrant.farm == farm.id, "warrant is of another farm"),
            (warrant.worker == self.worker, "warrant is addressed to another worker"),
            (warrant.incarnation == self.incarnation, "warrant is older than the start of this worker"),
            (warrant.not_after >= host::tick(), "warrant is no longer valid"),
            (warrant.session == asked.session && warrant.job == asked.job, "warrant is for another session"),
            (warrant.mode == Mode::Desktop, "warrant is for another mode than desktop"),
            (warrant.purpose != Purpose::Clean, "warrant is not for a session"),
            (!self.used.contains(&warrant.sequence), "warrant was used before"),
        ];
        if let Some((_, text)) = checks.iter().find(|(holds, _)| !holds) {
            return Err(void(text));
        }
        self.check_account(&warrant)?;
        self.used.insert(warrant.sequence);
        Ok(warrant)
    }

    /// A desktop worker has one account: its owner's.
    fn check_account(&self, warrant: &Warrant) -> Result<(), Refusal> {
        let owner = &self.owner;
        let is_owner = matches!(&warrant.account, Wanted::Named { name, uid }
            if name.as_str() == owner.name && uid.is_none_or(|uid| uid == owner.uid));
        if !is_owner {
            let text = format!("this desktop worker runs jobs as {} (uid {}) only", owner.name, owner.uid);
            return Err(refusal(RefusalKind::Account, "account", text, "use a worker in user or proxy mode"));
        }
        let user = warrant.user.as_str();
        if user != owner.name && !self.accept.iter().any(|a| a == "any" || a == user) {
            let text = format!("this desktop worker does not take jobs of {user}");
            let hint = format!("its owner {} can start it with --accept {user}", owner.name);
            return Err(refusal(RefusalKind::LocalPolicy, "accept", text, &hint));
        }
        Ok(())
    }

    /// Who a child of this process is, asked of the kernel at each start.
    fn read_back(&self) -> Result<Account, Refusal> {
        match host::owner() {
            Ok((account, _)) if account == self.owner => Ok(account),
            Ok((account, _)) => {
                let text = format!("this process is {} (uid {}) now", account.name, account.uid);
                Err(refusal(RefusalKind::Stage, "verify", text, "start the worker again"))
            }
            Err(e) => Err(refusal(RefusalKind::Transient, "account", e.to_string(), "")),
        }
    }

    /// The job's folder, the owner's alone. Only what runs tasks makes it.
    fn folder(&self, warrant: &Warrant) -> Result<PathBuf, Refusal> {
        let folder = self.work.join(warrant.job.to_string());
        let made = match (warrant.purpose == Purpose::Run).then(|| DirBuilder::new().mode(0o700).create(&folder)) {
            None => is_own_folder(&folder, self.owner.uid),
            Some(Err(e)) if e.kind() == io::ErrorKind::AlreadyExists => is_own_folder(&folder, self.owner.uid),
            Some(other) => other,
        };
        made.map(|()| folder).map_err(|e| stage("folder", &e))
    }

    /// The session's two descriptors travel as its standard input and output; `adopt` puts them where they belong
    /// and makes the session a leader of its own, so that no step is needed between fork and exec.
    fn start(&self, farm: &Farm, warrant: &Warrant, folder: &Path, run_as: Account) -> io::Result<Started> {
        let (ours, theirs) = packets::pair()?;
        let orders = packets::sealed("stead-orders", &orders(farm, warrant).encode())?;
        let mut command = Command::new(&self.session_program);
        command.args(["adopt", &format!("{:04o}", warrant.umask)]);
        if warrant.purpose == Purpose::Read {
            command.arg("files");
        }
        command.stdin(Stdio::from(theirs)).stdout(Stdio::from(orders)).stderr(Stdio::inherit());
        command.current_dir(folder).env_clear().envs(self.environment(folder));
        let pid = leftovers::spawn(&mut command)?;
        let pidfd = Arc::new(pidfd_open(own_pid(pid)?, PidfdFlags::empty())?);
        let process = (pid.as_raw(), leftovers::start_of(pid).unwrap_or(0));
        let report = Report::Started { run_as, proof: None, at_us: host::now_us() };
        Ok(Started { channel: ours, report, process, watch: Watch { pid, pidfd } })
    }

    /// The owner's own environment, screen and session bus included, without what belongs to the service.
    fn environment(&self, folder: &Path) -> BTreeMap<OsString, OsString> {
        environment(std::env::vars_os(), &self.user, folder)
    }

    /// The session checks and keeps its lease itself; here it only explains its end.
    pub(crate) fn renewed(&mut self, farm: &Farm, renewal: &Signed) {
        let Ok(renewal) = Renewal::open(renewal, &farm.keys) else { return };
        if let Some(living) = self.living.get_mut(&renewal.session) {
            living.lease_until = living.lease_until.max(renewal.lease_until);
        }
    }

    /// Ends the session's process; what it leaves behind is ended when it is seen to be gone.
    pub(crate) fn kill(&mut self, session: u64) {
        if let Some(living) = self.living.get(&session) {
            self.killed.insert(session);
            let _ = pidfd_send_signal(&living.pidfd, Signal::KILL);
        }
    }

    pub(crate) fn living(&self) -> Vec<u64> {
        self.living.keys().copied().collect()
    }

    /// Its end was seen: how did it come to that?
    pub(crate) fn gone(&mut self, session: u64, mut ending: Ending) -> Ending {
        let lease = self.living.remove(&session).map(|l| l.lease_until);
        let killed = self.killed.remove(&session);
        let end = match ending.end {
            SessionEnd::Signalled if killed => SessionEnd::Killed,
            SessionEnd::Left if lease.is_some_and(|until| host::tick() > until) => SessionEnd::LeaseExpired,
            _ => return ending,
        };
        ending.end = end;
        ending.text.clear();
        ending
    }
}

impl std::fmt::Debug for Desktop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desktop").field("worker", &self.worker).field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// Waits for the end of a session's process, then ends what it left, then tells.
pub(crate) async fn watch(session: u64, watch: Watch) -> HostEvent {
    let Watch { pid, pidfd } = watch;
    // Readable means that it has ended. If it can't be waited for that way, waiting blocks a thread instead.
    if let Ok(end) = pidfd.try_clone().and_then(packets::watched) {
        let _ = end.readable().await;
    }
    let seen = tokio::task::spawn_blocking(move || {
        let cpu_us = leftovers::cpu_us_of(pid);
        let status = waitpid(pid, None);
        leftovers::forget(pid);
        leftovers::sweep();
        (status, cpu_us)
    });
    let ending = match seen.await {
        Ok((Ok(status), cpu_us)) => Ending { cpu_us, ..ending(status) },
        _ => Ending::lost("nobody saw how the session ended"),
    };
    HostEvent::Ended { session, ending }
}

fn ending(status: WaitStatus) -> Ending {
    match status {
        WaitStatus::Exited(_, code) => Ending::exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        WaitStatus::Signaled(_, signal, _) => Ending::signalled(signal as i64),
        _ => Ending::lost("nobody saw how the session ended"),
    }
}

/// Removes a job's folder as its owner, never through a symbolic link. What is in it may be as deep and as odd as a
/// job could make it: that is `stead-session clean`'s, as it is in service mode.
pub(crate) fn clean(session_program: &Path, work: &Path, job: u64) -> io::Result<()> {
    let folder = work.join(job.to_string());
    match fs::symlink_metadata(&folder) {
        Ok(m) if m.is_dir() => {}
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    }
    // Its owner may have closed it to himself.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    let mut command = Command::new(session_program);
    command.arg("clean").current_dir(&folder).env_clear().env("STEAD_JOB", job.to_string());
    let cleaned = command.stdin(Stdio::null()).stdout(Stdio::null()).output()?;
    if !cleaned.status.success() {
        let said = String::from_utf8_lossy(&cleaned.stderr);
        return Err(io::Error::other(format!("{}: {}", cleaned.status, said.trim())));
    }
    fs::remove_dir(&folder)
}

fn environment(
    own: impl Iterator<Item = (OsString, OsString)>,
    user: &User,
    folder: &Path,
) -> BTreeMap<OsString, OsString> {
    let kept = |name: &OsString| {
        let name = name.to_string_lossy();
        !name.starts_with("STEAD_") && !STRIPPED.contains(&name.as_ref())
    };
    let mut env: BTreeMap<_, _> = own.filter(|(name, _)| kept(name)).collect();
    let mut default = |name: &str, value: OsString| {
        env.entry(name.into()).or_insert(value);
    };
    default("HOME", user.dir.clone().into());
    default("SHELL", user.shell.clone().into());
    default("PATH", "/usr/local/bin:/usr/bin:/bin".into());
    // Who the process is, is not a matter of the environment it was started with.
    for name in ["USER", "LOGNAME"] {
        env.insert(name.into(), user.name.clone().into());
    }
    env.insert("PWD".into(), folder.into());
    env
}

fn orders(farm: &Farm, warrant: &Warrant) -> Orders {
    Orders {
        farm: warrant.farm,
        session: warrant.session,
        job: warrant.job,
        keys: farm.keys.iter().map(PublicKey::to_bytes).collect(),
        desktop: true,
        lease_until: warrant.lease_until,
        orphan_limit_ms: ORPHAN_LIMIT_MS,
    }
}

fn is_own_folder(path: &Path, uid: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if found.uid() == uid { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

fn own_pid(pid: Pid) -> io::Result<rustix::process::Pid> {
    rustix::process::Pid::from_raw(pid.as_raw()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn refusal(kind: RefusalKind, stage: &str, text: String, hint: &str) -> Refusal {
    Refusal { kind, stage: stage.to_owned(), errno: 0, text, hint: hint.to_owned(), proof: None }
}

fn void(text: &str) -> Refusal {
    refusal(RefusalKind::Warrant, "warrant", text.to_owned(), "the job is tried again with a new warrant")
}

fn stage(stage: &str, error: &io::Error) -> Refusal {
    let kind = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => RefusalKind::Transient,
        _ => RefusalKind::Stage,
    };
    let refused = refusal(kind, stage, format!("failed to start the session: {error}"), "");
    Refusal { errno: error.raw_os_error().unwrap_or(0), ..refused }
}
