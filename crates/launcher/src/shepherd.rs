//! A shepherd: root, one per session, forked by the launcher and outliving it and the worker.
//!
//! It resolves the account, makes the folder and the groups, becomes the parent of the session, looks at the
//! stopped child before it may execute anything, keeps the lease, and at the end sees to it that no process is
//! left. It holds the session's channel but never reads it: no byte written by a user passes through root.

use crate::account::{self, Ask, Identity};
use crate::cgroup::{Cgroups, Group};
use crate::conf::{Conf, NoNewPrivs};
use crate::logon;
use crate::refusal::Refusal;
use crate::rpc::{self, End, Heard, Start, ToShepherd};
use crate::serve::LAUNCH_PATIENCE_MS;
use crate::switch::{self, ChildPlan, PrivateMounts, Stage, Target};
use crate::sys::{self, Errno, Res, as_fd};
use crate::ticket::Ticket;
use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use warrant::launcher_wire::RefusalKind;
use warrant::proof::RunAs;
use warrant::session_wire::Orders;
use warrant::{KeyId, Purpose, Secret, SessionEnd, Warrant};

/// How long a session goes on without a worker.
const ORPHAN_LIMIT_MS: u64 = 600_000;
/// How long a child may take for its steps.
const CHILD_PATIENCE_MS: u64 = 20_000;
/// Between two tries to kill what is left.
const KILL_AGAIN_MS: u64 = 20;
const CONNECTIONS_MAX: usize = 4;
/// How often a shepherd looks whether its farm is still there.
const FARM_LOOK_MS: u64 = 5000;
/// How long an end is kept for whom it concerns.
const KEEP_END_MS: u64 = 24 * 3_600_000;

/// What the launcher hands to a shepherd by forking it.
pub(crate) struct Task {
    pub(crate) warrant: Warrant,
    /// SHA-256 of its signed bytes.
    pub(crate) warrant_hash: [u8; 32],
    /// The host's key, by its name: tells sessions of this launcher from another's.
    pub(crate) host: KeyId,
    /// The account's, where this host logs accounts on. Taken when it is used.
    pub(crate) password: Cell<Option<Secret>>,
    pub(crate) conf: Conf,
    pub(crate) service_uids: Vec<u32>,
    pub(crate) throwaway: Option<u32>,
    pub(crate) cgroups: Cgroups,
    /// Supervisors' keys, for the session's orders.
    pub(crate) keys: Vec<[u8; 32]>,
    /// Our own socket, in `sessions`.
    pub(crate) listener: OwnedFd,
    pub(crate) sessions: OwnedFd,
    pub(crate) sessions_path: String,
    pub(crate) work: OwnedFd,
    pub(crate) work_path: String,
    /// Of what a log-on brings.
    pub(crate) tickets: OwnedFd,
    pub(crate) tickets_path: String,
    /// `stead-session`, opened and checked.
    pub(crate) program: OwnedFd,
}

impl Task {
    /// Whether the session gets a view of the file system of its own: others' sessions have the same account.
    pub(crate) fn is_shared(&self) -> bool {
        self.warrant.shared || matches!(self.warrant.account, warrant::Account::Throwaway)
    }
}

/// The name of a session's socket.
pub(crate) fn socket_name(session: u64) -> String {
    format!("{session}.sock")
}

/// The whole life of a shepherd.
pub(crate) fn run(task: &Task) -> ! {
    if settle(task).is_ok() {
        match launch(task) {
            Err(refusal) => tell_refusal(task, &refusal),
            Ok(session) => watch(task, session),
        }
    }
    if let Ok(name) = sys::cstr(socket_name(task.warrant.session)) {
        let _ = sys::unlinkat(as_fd(&task.sessions), &name, 0);
    }
    sys::exit(0)
}

/// Leaves the launcher's surroundings: its terminal, its descriptors, its signals.
fn settle(task: &Task) -> Res<()> {
    sys::harden()?;
    sys::set_session();
    sys::become_subreaper()?;
    sys::null_stdio()?;
    let kept = [&task.listener, &task.sessions, &task.work, &task.tickets, &task.program];
    sys::close_all_but(&kept.map(|fd| fd.as_raw_fd()));
    Ok(())
}

/// Nothing was executed: says why to the launcher that waits, and leaves.
fn tell_refusal(task: &Task, refusal: &Refusal) {
    let until = sys::boot_ms().saturating_add(10_000);
    while sys::boot_ms() < until {
        let _ = sys::wait_readable(&[task.listener.as_raw_fd()], Some(1000));
        if let Ok(Some((conn, 0))) = sys::accept(as_fd(&task.listener)) {
            let _ = rpc::send_refused(as_fd(&conn), refusal);
            // The launcher closes when it has read.
            let _ = sys::wait_readable(&[conn.as_raw_fd()], Some(10_000));
            return;
        }
    }
}

// ---- from the warrant to the exec ----------------------------------------------------------------------------

/// A session that was started.
struct Session {
    pid: i32,
    group: Group,
    channel: OwnedFd,
    start: Start,
    /// Its job's, in `work`.
    folder: String,
    /// Until it ends.
    ticket: Option<Ticket>,
}

/// The main story: `docs/launch.md` is its list of steps.
fn launch(task: &Task) -> Result<Session, Refusal> {
    let warrant = &task.warrant;
    let deadline = sys::boot_ms().saturating_add(LAUNCH_PATIENCE_MS);
    let mut notes = limits_possible(task)?;
    let identity = account::resolve(&Ask {
        account: &warrant.account,
        mode: warrant.mode,
        conf: &task.conf,
        service_uids: &task.service_uids,
        throwaway: task.throwaway,
    })?;
    let ticket = logon::log_on(task, &identity, &mut notes)?;
    let folder = job_folder(task, &identity)?;
    let group = task
        .cgroups
        .make(warrant.session, warrant.limits, &task.conf)
        .map_err(|(stage, e)| Refusal::stage(stage, e, "see the control groups of the host"))?;
    start(task, &identity, &folder, &group, ticket, (notes, deadline)).inspect_err(|_| {
        wipe(&group);
        group.remove();
    })
}

/// Kills what a failed launch may have left.
fn wipe(group: &Group) {
    for _ in 0..250 {
        group.kill();
        let strays = if group.can_kill() { Vec::new() } else { sys::descendants(own_pid(), &[]) };
        for pid in &strays {
            let _ = sys::kill(*pid, libc::SIGKILL);
        }
        while sys::reap().is_some() {}
        if group.is_empty() && strays.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(4));
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

/// Limits that nothing here enforces: a refusal when the host says so, otherwise a remark in the log.
fn limits_possible(task: &Task) -> Result<Vec<String>, Refusal> {
    let can = task.cgroups.abilities();
    let asked = task.warrant.limits;
    let missing = [
        ("cgroup_memory", asked.memory > 0 && !can.cgroup_memory, "memory"),
        ("cgroup_cpu", asked.cpu_milli > 0 && !can.cgroup_cpu, "cpu"),
    ];
    let mut notes = Vec::new();
    for (stage, _, what) in missing.into_iter().filter(|(_, missing, _)| *missing) {
        if task.conf.require_limits {
            let text = format!("a limit of {what} was asked for and this host has no such controller");
            return Err(Refusal::new(RefusalKind::Stage, stage, text, "require_limits in launcher.conf decides"));
        }
        notes.push(format!("the limit of {what} is not enforced: no such controller"));
    }
    Ok(notes)
}

/// The job's folder: what it is called in `work`, where it is, and which one it is.
struct Folder {
    name: String,
    path: String,
    id: (u64, u64),
}

/// `work/JOB` for the account that the job began as on this host; for every other one, and only for it, `work/JOB.UID`.
/// It is made, or checked to be the account's. An existing one is never given away.
fn job_folder(task: &Task, identity: &Identity) -> Result<Folder, Refusal> {
    let job = task.warrant.job.to_string();
    let own = format!("{job}.{}", identity.uid);
    let found = match open_folder(task, &own)? {
        Some(found) => Some((own.as_str(), found)),
        None => open_or_make(task, identity, &job)?.map(|found| (job.as_str(), found)),
    };
    let found = match found {
        Some((_, stat)) if stat.uid != identity.uid && stat.uid != 0 => {
            open_or_make(task, identity, &own)?.map(|found| (own.as_str(), found))
        }
        found => found,
    };
    let (name, stat) = found.ok_or_else(|| no_folder(Errno(libc::ENOENT)))?;
    if stat.uid != identity.uid {
        let text = format!("work/{name} belongs to uid {}, not {}", stat.uid, identity.uid);
        let hint = "only the launcher makes folders there: an administrator of the host has to remove it";
        return Err(Refusal::new(RefusalKind::Stage, "job_folder", text, hint));
    }
    Ok(Folder { path: format!("{}/{name}", task.work_path), name: name.to_owned(), id: (stat.dev, stat.ino) })
}

fn no_folder(errno: Errno) -> Refusal {
    Refusal::stage("job_folder", errno, "see the job's folder on the host, and whether the disk is full")
}

fn open_folder(task: &Task, name: &str) -> Result<Option<sys::Stat>, Refusal> {
    let name = sys::cstr(name).map_err(no_folder)?;
    match sys::open_dir(as_fd(&task.work), &name) {
        Err(Errno(libc::ENOENT)) => Ok(None),
        other => other.and_then(|fd| sys::fstat(as_fd(&fd))).map(Some).map_err(no_folder),
    }
}

/// Only what runs tasks makes a folder.
fn open_or_make(task: &Task, identity: &Identity, name: &str) -> Result<Option<sys::Stat>, Refusal> {
    let found = open_folder(task, name)?;
    if found.is_some() || task.warrant.purpose != Purpose::Run {
        return Ok(found);
    }
    make_folder(task, identity, &sys::cstr(name).map_err(no_folder)?).map_err(no_folder)?;
    open_folder(task, name)
}

/// Made under another name and then renamed: under its own name it is never anybody else's, not for a moment.
fn make_folder(task: &Task, identity: &Identity, name: &CString) -> Res<()> {
    let work = as_fd(&task.work);
    let new = sys::cstr(format!(".new-{}", task.warrant.session))?;
    let _ = sys::unlinkat(work, &new, libc::AT_REMOVEDIR);
    sys::mkdirat(work, &new, 0o700)?;
    let fd = sys::open_dir(work, &new)?;
    sys::fchmod(as_fd(&fd), 0o700)?;
    sys::fchown(as_fd(&fd), identity.uid, identity.gid)?;
    match sys::renameat(work, &new, name, libc::RENAME_NOREPLACE) {
        // Another session of the job was quicker; whose folder it is gets checked by the caller.
        Err(Errno(libc::EEXIST)) => sys::unlinkat(work, &new, libc::AT_REMOVEDIR),
        other => other,
    }
}

fn start(
    task: &Task,
    identity: &Identity,
    folder: &Folder,
    group: &Group,
    ticket: Option<Ticket>,
    (notes, deadline): (Vec<String>, u64),
) -> Result<Session, Refusal> {
    const HINT: &str = "the host is out of something; see its log";
    let failed = |stage: &'static str| move |e| Refusal::stage(stage, e, HINT);
    let warrant = &task.warrant;
    let (ours, theirs) = sys::packet_pair().map_err(failed("channel"))?;
    let orders = orders(task).map_err(failed("orders"))?;
    let (errors_read, errors_write) = sys::pipe().map_err(failed("pipe"))?;
    let (go_read, go_write) = sys::pipe().map_err(failed("pipe"))?;
    let group_fd = group.open().map_err(failed("cgroup"))?;
    let v1 = group.open_v1().map_err(failed("cgroup"))?;
    let shared = task.is_shared();
    let fds = [&theirs, &orders, &errors_write, &go_read].map(|fd| fd.as_raw_fd());
    let mut plan = plan(task, identity, folder, fds, shared).map_err(failed("plan"))?;
    if let Some(ticket) = &ticket {
        plan.envp.push(sys::cstr(format!("KRB5CCNAME=FILE:{}", ticket.path)).map_err(failed("plan"))?);
    }
    plan.v1_procs = v1.iter().map(|fd| fd.as_raw_fd()).collect();
    let pid = clone(&mut plan, group_fd.as_ref(), shared).map_err(failed("clone"))?;
    drop((theirs, orders, errors_write, go_read, v1, group_fd));

    await_ready(&errors_read)?;
    let run_as = look(pid, identity)?;
    let (_, _, pid_start) = sys::proc_stat(pid).ok_or_else(|| failed("read_back")(Errno(libc::ESRCH)))?;
    // Whoever asked has given up on it, and a launcher that came meanwhile can't end a shepherd that is not its child.
    if sys::boot_ms() >= deadline {
        let text = format!("the launch took more than {} s", LAUNCH_PATIENCE_MS / 1000);
        return Err(Refusal::new(RefusalKind::Transient, "launch_late", text, "is the directory answering?"));
    }
    sys::write_all(as_fd(&go_write), b"g").map_err(failed("exec"))?;
    await_exec(&errors_read)?;
    let start = Start {
        job: warrant.job,
        worker: warrant.worker.clone(),
        login_user: warrant.login_user.as_str().to_owned(),
        user: warrant.user.as_str().to_owned(),
        mode: warrant.mode.as_str().to_owned(),
        run_as,
        warrant: task.warrant_hash,
        pid: pid.unsigned_abs(),
        pid_start,
        notes,
    };
    Ok(Session { pid, group: group.clone(), channel: ours, start, folder: folder.name.clone(), ticket })
}

fn orders(task: &Task) -> Res<OwnedFd> {
    let orders = Orders {
        farm: task.warrant.farm,
        session: task.warrant.session,
        job: task.warrant.job,
        keys: task.keys.clone(),
        desktop: false,
        lease_until: task.warrant.lease_until,
        orphan_limit_ms: ORPHAN_LIMIT_MS,
    };
    sys::sealed(c"stead-orders", &orders.encode())
}

fn plan(task: &Task, who: &Identity, folder: &Folder, fds: [i32; 4], shared: bool) -> Res<ChildPlan> {
    let [channel, orders, errors, go] = fds;
    let argv = match task.warrant.purpose {
        Purpose::Clean => vec![sys::cstr("stead-session")?, sys::cstr("clean")?],
        Purpose::Read => vec![sys::cstr("stead-session")?, sys::cstr("files")?],
        Purpose::Run => vec![sys::cstr("stead-session")?],
    };
    Ok(ChildPlan {
        target: Target::new(who.uid, who.gid, who.groups.clone()),
        v1_procs: Vec::new(),
        private: if shared { Some(private_mounts(&task.work_path, &folder.path)?) } else { None },
        no_new_privs: match task.conf.no_new_privs {
            NoNewPrivs::Always => true,
            NoNewPrivs::Shared => shared,
            NoNewPrivs::Never => false,
        },
        umask: task.warrant.umask,
        nofile: task.conf.nofile.into(),
        loginuid: who.uid.to_string().into_bytes(),
        cwd: sys::cstr(folder.path.as_str())?,
        cwd_id: folder.id,
        channel,
        orders,
        program: task.program.as_raw_fd(),
        errors,
        go,
        argv,
        envp: environment(task, who, folder)?,
    })
}

/// What hides the other jobs' folders, and the folders to make again so that this job's own is seen.
fn private_mounts(work: &str, job: &str) -> Res<PrivateMounts> {
    let covered = switch::COVERED.iter().filter_map(|c| c.to_str().ok());
    let top = covered.into_iter().find(|c| job.strip_prefix(c).is_some_and(|rest| rest.starts_with('/')));
    let hide = if top.is_none() { Some(sys::cstr(work)?) } else { None };
    let from = top.unwrap_or(work).len();
    let cuts = job.match_indices('/').map(|(i, _)| i).filter(|i| *i > from).chain([job.len()]);
    let uncover = cuts.map(|i| sys::cstr(job.get(..i).unwrap_or_default())).collect::<Res<_>>()?;
    Ok(PrivateMounts { hide, uncover })
}

/// The session's environment, from nothing.
fn environment(task: &Task, who: &Identity, folder: &Folder) -> Res<Vec<CString>> {
    let home = who.home.as_deref().unwrap_or(&folder.path);
    let vars = [
        ("PATH", task.conf.path.as_str()),
        ("HOME", home),
        ("USER", &who.name),
        ("LOGNAME", &who.name),
        ("SHELL", &who.shell),
        ("LANG", &task.conf.lang),
        ("STEAD_JOB", &task.warrant.job.to_string()),
        ("STEAD_SESSION", &task.warrant.session.to_string()),
    ];
    vars.iter().map(|(name, value)| sys::cstr(format!("{name}={value}"))).collect()
}

/// Makes the child inside its group and its namespaces: there is no moment in which it is outside.
fn clone(plan: &mut ChildPlan, group: Option<&OwnedFd>, shared: bool) -> Res<i32> {
    // Made before: the child allocates nothing.
    let (argv, envp) = (switch::pointers(&plan.argv), switch::pointers(&plan.envp));
    // SAFETY: plain data.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    let flag = |f: i32| u64::from(f.cast_unsigned());
    if let Some(fd) = group {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = u64::from(fd.as_raw_fd().cast_unsigned());
    }
    if shared {
        args.flags |= flag(libc::CLONE_NEWPID) | flag(libc::CLONE_NEWNS) | flag(libc::CLONE_NEWIPC);
    }
    // SAFETY: without CLONE_VM this is a fork of a single-threaded process; the structure has the size given.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        0 => switch::run_child(plan, &argv, &envp),
        pid if pid > 0 => i32::try_from(pid).map_err(|_| Errno(libc::ERANGE)),
        _ => Err(sys::last()),
    }
}

/// The next report of the child: a stage and its error number, or `None` when the pipe is closed.
fn report(errors: &OwnedFd) -> Result<Option<(Stage, Errno)>, Refusal> {
    let late = || {
        let text = "the child did not get ready in time";
        Refusal::new(RefusalKind::Transient, "child_late", text, "the job is tried again")
    };
    let ready = sys::wait_readable(&[errors.as_raw_fd()], Some(CHILD_PATIENCE_MS)).unwrap_or_default();
    if ready.first() != Some(&true) {
        return Err(late());
    }
    let mut bytes = [0_u8; 8];
    // SAFETY: eight bytes.
    let n = unsafe { libc::read(errors.as_raw_fd(), bytes.as_mut_ptr().cast(), 8) };
    let [a, b, c, d, e, f, g, h] = bytes;
    match n {
        8 => {
            Ok(Stage::from_number(i32::from_ne_bytes([a, b, c, d]))
                .map(|s| (s, Errno(i32::from_ne_bytes([e, f, g, h])))))
        }
        _ => Ok(None),
    }
}

fn await_ready(errors: &OwnedFd) -> Result<(), Refusal> {
    match report(errors)? {
        Some((Stage::Ready, _)) => Ok(()),
        Some((stage, errno)) => Err(stage_failed(stage, errno)),
        None => Err(Refusal::stage("child_died", Errno(libc::ECHILD), "see the kernel's log of the host")),
    }
}

/// The pipe is closed by a successful exec.
fn await_exec(errors: &OwnedFd) -> Result<(), Refusal> {
    match report(errors)? {
        None => Ok(()),
        Some((stage, errno)) => Err(stage_failed(stage, errno)),
    }
}

fn stage_failed(stage: Stage, errno: Errno) -> Refusal {
    let hint = match stage {
        Stage::Chdir => "every folder above the job's must let the account pass (mode o+x)",
        Stage::Exec => "is stead-session built for this host, and may the account execute it?",
        Stage::Setresuid | Stage::Setgroups | Stage::Setresgid => "the launcher needs CAP_SETUID and CAP_SETGID",
        _ => "see docs/launch.md for what this step does",
    };
    Refusal::stage(stage.name(), errno, hint)
}

// ---- the look --------------------------------------------------------------------------------------------------

/// Reads from the kernel who the stopped child is. Anything but the plan is a refusal.
fn look(pid: i32, who: &Identity) -> Result<RunAs, Refusal> {
    let failed = |e| Refusal::stage("read_back", e, "the switch of identity did not hold; nothing was executed");
    let status = std::fs::read(format!("/proc/{pid}/status")).map_err(|e| failed(e.into()))?;
    seen(&String::from_utf8_lossy(&status), who).ok_or_else(|| failed(Errno(libc::EPERM)))
}

fn seen(status: &str, who: &Identity) -> Option<RunAs> {
    let field = |key: &str| {
        let mut lines = status.lines().filter_map(|l| l.split_once(':')).filter(|(k, _)| *k == key);
        lines.next().map(|(_, v)| v.trim())
    };
    let ids =
        |key: &str| -> Option<Vec<u32>> { field(key)?.split_ascii_whitespace().map(|w| w.parse().ok()).collect() };
    let mut groups = ids("Groups")?;
    groups.sort_unstable();
    let no_caps = ["CapInh", "CapPrm", "CapEff", "CapAmb"]
        .iter()
        .all(|key| field(key).and_then(|v| u64::from_str_radix(v, 16).ok()) == Some(0));
    let right = ids("Uid")? == [who.uid; 4] && ids("Gid")? == [who.gid; 4] && groups == who.groups && no_caps;
    right.then(|| RunAs { name: who.name.clone(), uid: who.uid, gid: who.gid, groups })
}

// ---- the life of the session -----------------------------------------------------------------------------------

enum Life {
    Alive,
    /// Everything is being killed.
    Ending,
    Ended(End),
}

struct Watch<'a> {
    task: &'a Task,
    session: Session,
    life: Life,
    /// Why we end it; `None`: it ended by itself.
    why: Option<SessionEnd>,
    /// How the session's first process ended.
    status: Option<i32>,
    cpu_us: u64,
    max_rss: u64,
    lease: u64,
    connections: Vec<OwnedFd>,
    start_proof: Option<Vec<u8>>,
    end_proof: Option<Vec<u8>>,
    /// When it ended, since boot.
    ended_ms: u64,
    forgotten: bool,
}

/// Keeps a session until its end is known elsewhere.
fn watch(task: &Task, session: Session) {
    // A shepherd without its signals and timers keeps no lease, so such a session must not live.
    let signals = sys::signal_fd(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP]);
    let timer = sys::boot_timer();
    let why = (signals.is_err() || timer.is_err()).then_some(SessionEnd::Killed);
    let lease = task.warrant.lease_until;
    if let Ok(timer) = &timer {
        let _ = sys::set_timer(as_fd(timer), lease);
    }
    let mut watch = Watch {
        task,
        session,
        life: Life::Alive,
        why,
        status: None,
        cpu_us: 0,
        max_rss: 0,
        lease,
        connections: Vec::new(),
        start_proof: None,
        end_proof: None,
        ended_ms: 0,
        forgotten: false,
    };
    while !watch.forgotten {
        watch.turn(signals.as_ref().ok(), timer.as_ref().ok());
    }
}

impl Watch<'_> {
    fn turn(&mut self, signals: Option<&OwnedFd>, timer: Option<&OwnedFd>) {
        let mut fds = vec![self.task.listener.as_raw_fd()];
        fds.extend(self.connections.iter().map(|c| c.as_raw_fd()));
        fds.extend(signals.map(|s| s.as_raw_fd()));
        fds.extend(timer.filter(|_| matches!(self.life, Life::Alive)).map(|t| t.as_raw_fd()));
        let _ = sys::wait_readable(&fds, self.patience());
        // Asked to end politely or not: a shepherd ends when its session is over, not before.
        let _ = signals.map(|s| sys::signals(as_fd(s)));
        self.reap();
        let new = self.accept();
        // What an earlier launcher said before this one came is heard first, so that it is told what was recorded.
        self.hear(timer);
        self.greet_all(new);
        match self.life {
            Life::Alive => self.look_after(),
            Life::Ending => self.finish(),
            Life::Ended(_) => self.forgotten |= self.is_stale(),
        }
    }

    fn patience(&self) -> Option<u64> {
        match self.life {
            Life::Alive if self.why.is_some() => Some(0),
            Life::Ending => Some(KILL_AGAIN_MS),
            Life::Alive | Life::Ended(_) => Some(FARM_LOOK_MS),
        }
    }

    /// In a folder that was removed no launcher will ever find this shepherd.
    fn is_lost(&self) -> bool {
        sys::is_removed(as_fd(&self.task.sessions))
    }

    /// Nobody will ask for the end any more.
    fn is_stale(&self) -> bool {
        self.is_lost() || sys::boot_ms() >= self.ended_ms.saturating_add(KEEP_END_MS)
    }

    fn reap(&mut self) {
        while let Some(child) = sys::reap() {
            self.cpu_us = self.cpu_us.saturating_add(child.cpu_us);
            self.max_rss = self.max_rss.max(child.max_rss);
            if child.pid == self.session.pid {
                self.status = Some(child.status);
            }
        }
    }

    fn look_after(&mut self) {
        if self.status.is_none() && self.why.is_none() && sys::boot_ms() >= self.lease {
            self.why = Some(SessionEnd::LeaseExpired);
        }
        if self.status.is_none() && self.why.is_none() && self.is_lost() {
            self.why = Some(SessionEnd::Killed);
        }
        if self.status.is_some() || self.why.is_some() {
            self.life = Life::Ending;
            self.finish();
        }
    }

    /// Kills all there is; goes on until nothing is left, however long that takes.
    fn finish(&mut self) {
        self.session.group.kill();
        self.reap();
        let group = &self.session.group;
        let mut left = Vec::new();
        // Its account's own systemd may have put a process into another group: that is still our child in the end.
        if !group.can_kill() || (group.is_empty() && sys::has_children()) {
            left = sys::descendants(own_pid(), &[]);
            // Stopped first, so that none forks while the others are killed.
            for signal in [libc::SIGSTOP, libc::SIGKILL] {
                for pid in &left {
                    let _ = sys::kill(*pid, signal);
                }
            }
        }
        if self.status.is_none() {
            let _ = sys::kill(self.session.pid, libc::SIGKILL);
        }
        self.reap();
        if let Some(status) = self.status
            && left.is_empty()
            && self.session.group.is_empty()
            // The group may have become empty only now: whoever isn't in it was not looked for yet.
            && !sys::has_children()
        {
            self.ended(status);
        }
    }

    fn ended(&mut self, status: i32) {
        let group = &self.session.group;
        let mut end = match (self.why, sys::ending(status)) {
            (Some(why), _) => why,
            (None, Err(9)) if group.oom_kills() > 0 => SessionEnd::OutOfMemory,
            (None, Err(signal)) => SessionEnd::Signalled(signal),
            (None, Ok(code)) => SessionEnd::Exited(code),
        };
        if self.task.warrant.purpose == Purpose::Clean && end == SessionEnd::Exited(0) && self.remove_folder().is_err()
        {
            end = SessionEnd::Exited(1);
        }
        let (cpu, memory) = group.usage();
        let end = End { end, cpu_us: cpu.unwrap_or(self.cpu_us), max_rss: memory.unwrap_or(self.max_rss) };
        group.remove();
        self.session.ticket = None;
        self.life = Life::Ended(end);
        self.ended_ms = sys::boot_ms();
        self.connections.retain(|c| rpc::send_ended(as_fd(c), end, None).is_ok());
    }

    /// The folder itself, in root's own folder, and only when the account has emptied it.
    fn remove_folder(&self) -> Res<()> {
        let name = sys::cstr(self.session.folder.as_str())?;
        sys::unlinkat(as_fd(&self.task.work), &name, libc::AT_REMOVEDIR)
    }

    fn accept(&self) -> Vec<OwnedFd> {
        let mut new = Vec::new();
        while let Ok(Some((conn, uid))) = sys::accept(as_fd(&self.task.listener)) {
            if uid == 0 {
                new.push(conn);
            }
        }
        new
    }

    fn greet_all(&mut self, new: Vec<OwnedFd>) {
        for conn in new {
            if self.greet(&conn).is_ok() {
                if self.connections.len() >= CONNECTIONS_MAX {
                    self.connections.remove(0);
                }
                self.connections.push(conn);
            }
        }
    }

    /// Tells a launcher that has just come everything so far.
    fn greet(&self, conn: &OwnedFd) -> Res<()> {
        let s = &self.session;
        rpc::send_started(as_fd(conn), &s.start, &s.channel, self.start_proof.as_deref())?;
        match self.life {
            Life::Ended(end) => rpc::send_ended(as_fd(conn), end, self.end_proof.as_deref()),
            Life::Alive | Life::Ending => Ok(()),
        }
    }

    fn hear(&mut self, timer: Option<&OwnedFd>) {
        for conn in std::mem::take(&mut self.connections) {
            let mut alive = true;
            loop {
                match ToShepherd::hear(as_fd(&conn)) {
                    Heard::Message(message) => self.obey(message, timer),
                    Heard::Nothing => break,
                    Heard::Gone => {
                        alive = false;
                        break;
                    }
                }
            }
            if alive {
                self.connections.push(conn);
            }
        }
    }

    fn obey(&mut self, message: ToShepherd, timer: Option<&OwnedFd>) {
        match message {
            ToShepherd::StartRecorded(proof) => self.start_proof = Some(proof),
            ToShepherd::EndRecorded(proof) => self.end_proof = Some(proof),
            ToShepherd::Kill => {
                if matches!(self.life, Life::Alive) && self.status.is_none() {
                    self.why.get_or_insert(SessionEnd::Killed);
                }
            }
            // Never back: an older renewal may come late.
            ToShepherd::Lease(until) => {
                self.lease = self.lease.max(until);
                if let Some(timer) = timer {
                    let _ = sys::set_timer(as_fd(timer), self.lease);
                }
            }
            ToShepherd::Forget => self.forgotten = matches!(self.life, Life::Ended(_)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> Identity {
        Identity {
            name: "ada".into(),
            uid: 1501,
            gid: 1501,
            groups: vec![1501, 1601],
            home: Some("/home/ada".into()),
            shell: "/bin/sh".into(),
        }
    }

    const STATUS: &str = "Name:\tx\nUid:\t1501\t1501\t1501\t1501\nGid:\t1501\t1501\t1501\t1501\n\
        Groups:\t1501 1601 \nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
        CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\n";

    #[test]
    fn the_look_accepts_exactly_the_plan() {
        let run_as = seen(STATUS, &ada()).expect("as planned");
        assert_eq!((run_as.uid, run_as.gid, run_as.groups), (1501, 1501, vec![1501, 1601]));
        let wrong = [
            ("1501\t1501\t1501\t1501\nGid", "1501\t1501\t0\t1501\nGid"),
            ("1501\t1501\t1501\t1501\nGroups", "1501\t1501\t1501\t0\nGroups"),
            ("1501 1601", "1501"),
            ("1501 1601", "0 1501 1601"),
            ("CapPrm:\t0000000000000000", "CapPrm:\t0000000000000001"),
            ("CapEff:\t0000000000000000", "CapEff:\t0000000000200000"),
            ("CapInh:\t0000000000000000", "CapInh:\t0000000000000400"),
            ("CapAmb:\t0000000000000000", "CapAmb:\t"),
            ("Groups:", "Gruppen:"),
        ];
        for (from, to) in wrong {
            let status = STATUS.replacen(from, to, 1);
            assert_ne!(status, STATUS, "{from}");
            assert_eq!(seen(&status, &ada()), None, "{to}");
        }
    }

    #[test]
    fn of_the_jobs_folders_only_the_own_one_is_uncovered() {
        let texts =
            |list: Vec<CString>| -> Vec<String> { list.into_iter().map(|c| c.into_string().expect("text")).collect() };
        let cases: [(&str, Option<&str>, &[&str]); 5] = [
            ("/srv/farm/work", Some("/srv/farm/work"), &["/srv/farm/work/3"]),
            ("/tmpfoo/work", Some("/tmpfoo/work"), &["/tmpfoo/work/3"]),
            ("/tmp/a/work", None, &["/tmp/a", "/tmp/a/work", "/tmp/a/work/3"]),
            ("/dev/shm", None, &["/dev/shm/3"]),
            ("/run/lock/w", None, &["/run/lock/w", "/run/lock/w/3"]),
        ];
        for (work, hide, uncover) in cases {
            let mounts = private_mounts(work, &format!("{work}/3")).expect("no NUL");
            assert_eq!(mounts.hide.map(|c| c.into_string().expect("text")).as_deref(), hide, "{work}");
            assert_eq!(texts(mounts.uncover), uncover, "{work}");
        }
    }
}
