//! `stead-launcher host`: a farm's folder on one machine, and the services that work in it.
//!
//! Lays out the folder once, chooses ids, makes keys, starts launcher, checker, supervisor and workers each under its
//! own id, starts again what dies, and ends them with the foreground process. Sessions are not its business: they
//! belong to their shepherds and live on.

use crate::account;
use crate::fatal::Fatal;
use crate::folder::{self, Folder, Owner, root};
use crate::ids::{self, Ids};
use crate::switch::{self, Target};
use crate::sys::{self, Errno, Received, Res, as_fd, cstr, say};
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use warrant::launcher_wire::{FromLauncher, ToLauncher};
use warrant::session_wire::PACKET_MAX;
use warrant::{SecretKey, hex};

const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A service that lived this long starts again at the shortest back-off.
const STEADY: Duration = Duration::from_secs(10);
const END_PATIENCE: Duration = Duration::from_secs(5);
const SESSIONS_PATIENCE: Duration = Duration::from_secs(10);
/// "Usage": starting again can't help.
const EXIT_USAGE: u8 = 2;

/// What `host` was asked to do.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) data: PathBuf,
    pub(crate) stead: PathBuf,
    pub(crate) session: PathBuf,
    pub(crate) throwaway_proxy: bool,
    pub(crate) workers: Vec<String>,
    pub(crate) supervisor_args: Vec<String>,
    pub(crate) worker_args: Vec<String>,
    pub(crate) conf: Option<PathBuf>,
    /// The foreground process: it is told the ids, and its end is ours.
    pub(crate) control: Option<OwnedFd>,
    pub(crate) end_sessions: bool,
}

/// Runs until the foreground process ends or a signal comes.
pub(crate) fn host(options: Options) -> Result<(), Fatal> {
    if sys::euid() != 0 {
        return Err(Fatal::NotRoot);
    }
    let step = |what| move |errno| Fatal::Step { what, errno };
    let stead = folder::program(&options.stead, &starters())?;
    let own = sys::open(c"/proc/self/exe", libc::O_PATH).map_err(step("open this program"))?;
    let session = std::path::absolute(&options.session)
        .map_err(|e| Fatal::Step { what: "find stead-session", errno: e.into() })?;
    let conf = options.conf.as_ref().map(std::path::absolute).transpose();
    let conf = conf.map_err(|e| Fatal::Step { what: "find launcher.conf", errno: e.into() })?;
    let farm = lay_out(&options)?;
    sys::harden().map_err(step("harden this process"))?;
    let watched = [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD, libc::SIGHUP];
    let signals = sys::signal_fd(&watched).map_err(step("watch signals"))?;
    if let Some(control) = &options.control {
        let proxy = farm.ids.proxy.map_or_else(|| "-".to_owned(), |p| p.to_string());
        let line = format!("uids supervisor={} worker={} proxy={proxy}\n", farm.ids.supervisor.0, farm.ids.worker.0);
        sys::write_all(as_fd(control), line.as_bytes()).map_err(step("answer the foreground process"))?;
    }
    let services = services(&options, &farm, &session, conf.as_deref()).map_err(step("prepare the services"))?;
    let mut host = Host {
        services,
        programs: Programs { own, stead },
        signals,
        control: options.control,
        run: farm.run,
        end_sessions: options.end_sessions,
    };
    let ended = host.run();
    host.stop();
    drop(farm.lock);
    ended
}

/// Who may own our programs: root, and who started us (`sudo` names that person; the environment is root's here).
fn starters() -> Vec<u32> {
    let sudo = std::env::var("SUDO_UID").ok().and_then(|v| v.parse().ok());
    [Some(0), Some(sys::ruid()), sudo].into_iter().flatten().collect()
}

// ---- the folder --------------------------------------------------------------------------------------------------

struct Farm {
    path: String,
    ids: Ids,
    run: Folder,
    lock: OwnedFd,
}

fn lay_out(options: &Options) -> Result<Farm, Fatal> {
    let data = Folder::farm(&options.data)?;
    let launcher = data.folder("launcher", root(0o700))?;
    let lock = launcher.lock("host.lock", Duration::from_secs(8))?;
    let ids = ids(&data, options.throwaway_proxy)?;
    let of = |(uid, gid): (u32, u32), mode| Owner { uid, gid, mode };
    launcher.secret::<32>("host.key", root(0o600))?;
    let farm = launcher.secret::<16>("farm", root(0o600))?;
    let secret = of(ids.supervisor, 0o600);
    data.prepared("supervisor", of(ids.supervisor, 0o700), |supervisor| {
        // The key is pinned once; later the supervisor's folder is the supervisor's.
        if launcher.read("trusted.keys", 0, 4096)?.is_none() {
            let seed = supervisor.secret::<32>("warrant.key", secret)?;
            let public = SecretKey::from_seed(&seed).public().to_bytes();
            launcher.write("trusted.keys", (hex(&public) + "\n").as_bytes(), root(0o600))?;
        }
        if supervisor.read("farm", ids.supervisor.0, 64)?.is_none() {
            supervisor.write("farm", (hex(farm.as_slice()) + "\n").as_bytes(), secret)?;
        }
        Ok(())
    })?;
    data.folder("worker", of(ids.worker, 0o700))?;
    data.folder("work", root(0o711))?;
    // The supervisor makes its sockets here; sticky, so the launcher's is not the supervisor's to replace.
    let run = data.folder("run", Owner { uid: 0, gid: ids.supervisor.1, mode: 0o1775 })?;
    Ok(Farm { path: data.path, ids, run, lock })
}

/// The ids of the folder, chosen once.
fn ids(data: &Folder, want_proxy: bool) -> Result<Ids, Fatal> {
    let down = |errno| Fatal::DirectoryDown { errno };
    let known = match data.read("ids", 0, 4096)? {
        Some(text) => Some(Ids::parse(&String::from_utf8_lossy(&text))?),
        None => None,
    };
    if let Some(ids) = known {
        let throwaway = [ids.supervisor.0, ids.worker.0].into_iter().chain(ids.proxy);
        for id in throwaway.filter(|id| ids::RANGE.contains(id)) {
            if account::has_id(id).map_err(down)? {
                return Err(Fatal::IdTaken { id });
            }
        }
        if ids.proxy.is_some() || !want_proxy {
            return Ok(ids);
        }
    }
    let mut taken = ids::of_processes();
    let mut throwaway = || -> Result<u32, Fatal> {
        let start = sys::random::<4>().map(u32::from_le_bytes);
        let start = start.map_err(|errno| Fatal::Step { what: "draw random bytes", errno })?;
        let id = ids::choose(start, &taken, account::has_id).map_err(down)?.ok_or(Fatal::NoFreeId)?;
        taken.insert(id);
        Ok(id)
    };
    let mut service = |name: &'static str| match account::ids_of(name) {
        Ok(Some((uid, gid))) if uid != 0 && gid != 0 => Ok((uid, gid)),
        Ok(Some(_)) => Err(Fatal::Step { what: "use the service account: it is root's", errno: Errno(libc::EPERM) }),
        Ok(None) => throwaway().map(|id| (id, id)),
        Err(errno) => Err(down(errno)),
    };
    let (supervisor, worker) = match known {
        Some(ids) => (ids.supervisor, ids.worker),
        None => (service("stead")?, service("stead-worker")?),
    };
    let proxy = if want_proxy { Some(throwaway()?) } else { None };
    let ids = Ids { supervisor, worker, proxy };
    // Read back as it will be the next time: what would be refused then is refused now.
    Ids::parse(&ids.text())?;
    data.write("ids", ids.text().as_bytes(), root(0o644))?;
    Ok(ids)
}

// ---- the services ------------------------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Own,
    Stead,
}

struct Service {
    name: String,
    program: Program,
    argv: Vec<CString>,
    /// `None`: stays root (the launcher and the checker).
    ids: Option<(u32, u32)>,
    pid: Option<i32>,
    started: Instant,
    back_off: Duration,
    start_at: Instant,
}

struct Programs {
    own: OwnedFd,
    stead: OwnedFd,
}

struct Host {
    services: Vec<Service>,
    programs: Programs,
    signals: OwnedFd,
    control: Option<OwnedFd>,
    run: Folder,
    end_sessions: bool,
}

fn services(
    options: &Options,
    farm: &Farm,
    session: &std::path::Path,
    conf: Option<&std::path::Path>,
) -> Res<Vec<Service>> {
    let names = if options.workers.is_empty() { vec![sys::host_name()] } else { options.workers.clone() };
    let data = farm.path.as_str();
    let session = session.to_string_lossy().into_owned();
    let ((supervisor, _), (worker, _)) = (farm.ids.supervisor, farm.ids.worker);
    let text = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<String>>();

    let mut launcher = text(&["stead-launcher", "serve", "--hosted", "--data", data, "--session", &session]);
    launcher.extend(text(&["--worker-uid", &worker.to_string(), "--service-uid", &supervisor.to_string()]));
    for owner in starters().into_iter().filter(|uid| *uid != 0) {
        launcher.extend(text(&["--session-owner", &owner.to_string()]));
    }
    for name in &names {
        launcher.extend(text(&["--worker", name]));
    }
    if let Some(conf) = conf {
        launcher.extend(text(&["--conf", &conf.to_string_lossy()]));
    }
    if let (Some(id), true) = (farm.ids.proxy, options.throwaway_proxy) {
        launcher.extend(text(&["--throwaway", &id.to_string()]));
    }
    let mut services = vec![service("launcher", Program::Own, &launcher, None)?];

    let mut checker = text(&["stead-launcher", "checker", "--data", data, "--supervisor-uid", &supervisor.to_string()]);
    if let Some(conf) = conf {
        checker.extend(text(&["--conf", &conf.to_string_lossy()]));
    }
    services.push(service("checker", Program::Own, &checker, None)?);

    let mut argv = text(&["stead", "supervisor", "--data", data, "--operator", "root"]);
    argv.extend(options.supervisor_args.iter().cloned());
    argv.extend(text(&["--worker-uid", &worker.to_string()]));
    services.push(service("supervisor", Program::Stead, &argv, Some(farm.ids.supervisor))?);
    for name in &names {
        let socket = format!("{data}/run/launcher.socket");
        let mut argv = text(&["stead", "worker", "run", "--data", data, "--name", name, "--launcher", &socket]);
        argv.extend(options.worker_args.iter().cloned());
        services.push(service(&format!("worker {name}"), Program::Stead, &argv, Some(farm.ids.worker))?);
    }
    Ok(services)
}

fn service(name: &str, program: Program, argv: &[String], ids: Option<(u32, u32)>) -> Res<Service> {
    let now = Instant::now();
    Ok(Service {
        name: name.to_owned(),
        program,
        argv: argv.iter().map(|a| cstr(a.as_str())).collect::<Res<_>>()?,
        ids,
        pid: None,
        started: now,
        back_off: BACK_OFF.0,
        start_at: now,
    })
}

impl Host {
    fn run(&mut self) -> Result<(), Fatal> {
        loop {
            self.start_due();
            let mut fds = vec![self.signals.as_raw_fd()];
            fds.extend(self.control.iter().map(|c| c.as_raw_fd()));
            let ready = sys::wait_readable(&fds, self.patience());
            let ready = ready.map_err(|errno| Fatal::Step { what: "wait for the services", errno })?;
            if ready.get(1) == Some(&true) && self.control.as_ref().is_none_or(|c| at_end(as_fd(c))) {
                return Ok(());
            }
            let signals = sys::signals(as_fd(&self.signals));
            if signals.iter().any(|s| matches!(*s, libc::SIGTERM | libc::SIGINT)) {
                return Ok(());
            }
            self.collect()?;
        }
    }

    fn patience(&self) -> Option<u64> {
        let now = Instant::now();
        let due = self.services.iter().filter(|s| s.pid.is_none()).map(|s| s.start_at.saturating_duration_since(now));
        due.min().map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX).saturating_add(1))
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for service in self.services.iter_mut().filter(|s| s.pid.is_none() && s.start_at <= now) {
            match spawn(service, &self.programs) {
                Ok(pid) => service.pid = Some(pid),
                Err(e) => say!("{} could not be forked: {e}", service.name),
            }
            service.started = now;
            service.start_at = now + service.back_off;
        }
    }

    /// Plans the next start of what ended.
    fn collect(&mut self) -> Result<(), Fatal> {
        while let Some(child) = sys::reap() {
            let Some(service) = self.services.iter_mut().find(|s| s.pid == Some(child.pid)) else { continue };
            service.pid = None;
            let how = match sys::ending(child.status) {
                Ok(EXIT_USAGE) => return Err(Fatal::ChildUsage { name: service.name.clone() }),
                Ok(code) => format!("ended with exit code {code}"),
                Err(signal) => format!("was killed by signal {signal}"),
            };
            if service.started.elapsed() >= STEADY {
                service.back_off = BACK_OFF.0;
            }
            say!("{} {how}; it starts again in {} ms", service.name, service.back_off.as_millis());
            service.start_at = Instant::now() + service.back_off;
            service.back_off = (service.back_off * 2).min(BACK_OFF.1);
        }
        Ok(())
    }

    /// Ends the services, those that talk to the launcher first.
    fn stop(&mut self) {
        if self.end_sessions {
            end_sessions(&self.run);
        }
        self.stop_all(|s| s.program == Program::Stead);
        self.stop_all(|_| true);
    }

    fn stop_all(&mut self, which: impl Fn(&Service) -> bool) {
        let until = Instant::now() + END_PATIENCE;
        self.signal(&which, libc::SIGTERM);
        while self.services.iter().any(|s| which(s) && s.pid.is_some()) {
            if Instant::now() >= until {
                self.signal(&which, libc::SIGKILL);
            }
            let _ = sys::wait_readable(&[self.signals.as_raw_fd()], Some(50));
            let _ = sys::signals(as_fd(&self.signals));
            while let Some(child) = sys::reap() {
                for service in self.services.iter_mut().filter(|s| s.pid == Some(child.pid)) {
                    service.pid = None;
                }
            }
        }
    }

    fn signal(&self, which: &impl Fn(&Service) -> bool, signal: i32) {
        for pid in self.services.iter().filter(|s| which(s)).filter_map(|s| s.pid) {
            let _ = sys::kill(pid, signal);
        }
    }
}

/// Whether the foreground process is gone. What it says is not listened to.
fn at_end(control: BorrowedFd<'_>) -> bool {
    let mut chunk = [0_u8; 512];
    // SAFETY: a buffer of the length given.
    let n = unsafe { libc::read(control.as_raw_fd(), chunk.as_mut_ptr().cast(), chunk.len()) };
    n <= 0
}

// ---- starting one ------------------------------------------------------------------------------------------------

fn spawn(service: &Service, programs: &Programs) -> Res<i32> {
    let parent = std::process::id();
    match sys::fork()? {
        Some(pid) => Ok(pid),
        None => {
            let Err((step, errno)) = become_service(service, programs, parent);
            say!("{} could not be started: {step}: {errno}", service.name);
            sys::exit(126)
        }
    }
}

/// In the child: from a fork of the host to the service's program.
fn become_service(
    service: &Service,
    programs: &Programs,
    parent: u32,
) -> Result<std::convert::Infallible, (&'static str, Errno)> {
    let program = match service.program {
        Program::Own => &programs.own,
        Program::Stead => &programs.stead,
    };
    switch::default_signals().map_err(|(s, e)| (s.name(), e))?;
    sys::set_session();
    stdio().map_err(|e| ("stdio", e))?;
    if let Some((uid, gid)) = service.ids {
        // No supplementary group, not even the account's own: a service needs none.
        let mut target = Target::new(uid, gid, Vec::new());
        switch::become_target(&mut target, true).map_err(|(s, e)| (s.name(), e))?;
    }
    sys::die_with_parent(libc::SIGTERM);
    if std::os::unix::process::parent_id() != parent {
        return Err(("parent", Errno(libc::ESRCH)));
    }
    let envp = environment().map_err(|e| ("environment", e))?;
    let (argv, envp) = (switch::pointers(&service.argv), switch::pointers(&envp));
    sys::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: null-terminated arrays of NUL-terminated strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(("exec", sys::last()))
}

/// Nothing to read; what is printed goes where our messages go, so that standard output stays the foreground's.
fn stdio() -> Res<()> {
    let null = sys::open(c"/dev/null", libc::O_RDONLY)?;
    // SAFETY: valid descriptors.
    let bad = unsafe { libc::dup2(null.as_raw_fd(), 0) < 0 || libc::dup2(2, 1) < 0 };
    if bad { Err(sys::last()) } else { Ok(()) }
}

/// Few variables, and none that a library takes orders from.
fn environment() -> Res<Vec<CString>> {
    let passes = |name: &str| matches!(name, "LANG" | "RUST_LOG") || name.starts_with("STEAD_");
    let mut vars = vec![cstr("PATH=/usr/local/bin:/usr/bin:/bin")?];
    for (name, value) in std::env::vars_os() {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        if passes(name) {
            vars.push(cstr(format!("{name}={value}"))?);
        }
    }
    Ok(vars)
}

// ---- ending the sessions -----------------------------------------------------------------------------------------

/// Asks the launcher to end every session and waits until it says that none is alive.
fn end_sessions(run: &Folder) {
    if let Err(e) = try_end_sessions(run) {
        say!("the sessions could not be ended: {e}");
    }
}

fn try_end_sessions(run: &Folder) -> Res<()> {
    /// Asked at once: more would overflow the queues of the two sockets.
    const AT_ONCE: usize = 32;
    let until = Instant::now() + SESSIONS_PATIENCE;
    let conn = sys::connect_at(as_fd(&run.fd), "launcher.socket")?;
    sys::send(as_fd(&conn), &ToLauncher::Hello { id: 0 }.encode(), &[])?;
    let mut welcome = false;
    let (mut waiting, mut asked): (Vec<u64>, Vec<u64>) = Default::default();
    while !(welcome && waiting.is_empty() && asked.is_empty()) {
        if Instant::now() >= until {
            return Err(Errno(libc::ETIMEDOUT));
        }
        while asked.len() < AT_ONCE
            && let Some(session) = waiting.pop()
        {
            sys::send(as_fd(&conn), &ToLauncher::Kill { id: 1, session }.encode(), &[])?;
            asked.push(session);
        }
        let _ = sys::wait_readable(&[conn.as_raw_fd()], Some(200));
        let bytes = match sys::receive(as_fd(&conn), PACKET_MAX, 2)? {
            Received::Packet(bytes, _) => bytes,
            Received::Nothing => continue,
            Received::Closed | Received::Oversized => return Err(Errno(libc::ECONNRESET)),
        };
        match FromLauncher::decode(&bytes) {
            Ok(FromLauncher::Welcome { sessions, .. }) => (welcome, waiting) = (true, sessions),
            // Over already, or gone.
            Ok(FromLauncher::Ended { session } | FromLauncher::NoSession { session, .. }) => {
                waiting.retain(|s| *s != session);
                asked.retain(|s| *s != session);
            }
            Ok(_) => {}
            Err(_) => return Err(Errno(libc::EBADMSG)),
        }
    }
    Ok(())
}
