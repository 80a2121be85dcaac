//! Becoming the account: the steps between `clone` and `exec`, in one order, each with its own name.
//!
//! [`run_child`] allocates nothing and takes no lock; all it needs was prepared before. A step that fails writes
//! its name and error number to the error pipe and nothing is executed. That a step says it succeeded is not
//! believed: identity and capabilities are read back, and root is asked for once more, in vain.

use crate::sys::{Errno, close_range, last};
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

macro_rules! stages {
    ($($(#[$doc:meta])* $variant:ident $name:literal $number:literal,)*) => {
        /// The steps of a child, named as they are reported.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Stage { $($(#[$doc])* $variant = $number,)* }

        impl Stage {
            const ALL: &[Self] = &[$(Self::$variant,)*];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

stages! {
    /// All done but the exec: not a failure.
    Ready "ready" 0,
    Target "target" 1,
    CgroupJoin "cgroup_join" 2,
    Setsid "setsid" 3,
    Signals "signals" 4,
    Loginuid "loginuid" 5,
    MountPrivate "mount_private" 6,
    MountProc "mount_proc" 7,
    MountTmp "mount_tmp" 8,
    MountJob "mount_job" 9,
    Limits "limits" 10,
    Keyring "keyring" 11,
    Capabilities "capabilities" 12,
    Setgroups "setgroups" 13,
    Setresgid "setresgid" 14,
    Setresuid "setresuid" 15,
    VerifyUid "verify_uid" 16,
    VerifyGid "verify_gid" 17,
    VerifyGroups "verify_groups" 18,
    VerifyRegain "verify_regain" 19,
    VerifyCapabilities "verify_capabilities" 20,
    NoNewPrivs "no_new_privs" 21,
    Chdir "chdir" 22,
    Descriptors "descriptors" 23,
    Exec "exec" 24,
}

impl Stage {
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| *s as i32 == number)
    }
}

type Step = Result<(), (Stage, Errno)>;

fn check(stage: Stage, ret: libc::c_long) -> Step {
    if ret < 0 { Err((stage, last())) } else { Ok(()) }
}

fn refuse(stage: Stage) -> Step {
    Err((stage, Errno(libc::EPERM)))
}

/// The identity to take on.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Ascending, without doubles.
    pub(crate) groups: Vec<u32>,
    /// Room to read the groups back: one more than there should be.
    scratch: Vec<u32>,
}

impl Target {
    pub(crate) fn new(uid: u32, gid: u32, groups: Vec<u32>) -> Self {
        let scratch = vec![0; groups.len() + 1];
        Self { uid, gid, groups, scratch }
    }
}

/// Drops to `target` and proves it. The process must have a single thread. Allocates nothing.
pub(crate) fn become_target(target: &mut Target, no_new_privs: bool) -> Step {
    // The last line of defence, whatever was decided before.
    if target.uid == 0 || target.gid == 0 || target.uid == u32::MAX || target.gid == u32::MAX {
        return refuse(Stage::Target);
    }
    clear_capabilities(no_new_privs)?;
    let (uid, gid) = (target.uid, target.gid);
    // Raw system calls: glibc's wrappers would signal other threads, of which there are none. Groups first, uid
    // last: each step needs what the next one gives up (credentials(7)).
    // SAFETY: the array is as long as said.
    let ret = unsafe { libc::syscall(libc::SYS_setgroups, target.groups.len(), target.groups.as_ptr()) };
    check(Stage::Setgroups, ret)?;
    // SAFETY: plain arguments; real, effective and saved ids at once (setresgid(2)).
    check(Stage::Setresgid, unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: plain arguments (setresuid(2)).
    check(Stage::Setresuid, unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    verify(target)?;
    if no_new_privs {
        // SAFETY: plain arguments.
        check(Stage::NoNewPrivs, unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    }
    Ok(())
}

const CAP_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn capabilities() -> Result<[CapData; 2], Errno> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 has two blocks of data.
    let ret = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if ret < 0 { Err(last()) } else { Ok(data) }
}

fn clear_capabilities(bounding: bool) -> Step {
    let stage = Stage::Capabilities;
    // SAFETY: plain arguments.
    let ret = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    check(stage, ret.into())?;
    if bounding {
        // Only together with no_new_privs: alone it leaves setuid programs with euid 0 and breaks them.
        for cap in 0..64_u64 {
            // SAFETY: plain arguments; the first unknown number ends the list.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, cap, 0, 0, 0) } < 0 {
                break;
            }
        }
    }
    let mut data = capabilities().map_err(|e| (stage, e))?;
    for block in &mut data {
        block.inheritable = 0;
    }
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    // SAFETY: version 3 has two blocks of data.
    check(stage, unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })
}

/// Reads back what the process is, and tries to be root again.
fn verify(target: &mut Target) -> Step {
    let (uid, gid) = (target.uid, target.gid);
    let (mut r, mut e, mut s) = (0_u32, 0_u32, 0_u32);
    // SAFETY: three valid pointers.
    check(Stage::VerifyUid, unsafe { libc::syscall(libc::SYS_getresuid, &raw mut r, &raw mut e, &raw mut s) })?;
    // SAFETY: an invalid id changes nothing; the call gives back the present one (setfsuid(2)).
    let fs = unsafe { libc::syscall(libc::SYS_setfsuid, u32::MAX) };
    if [r, e, s] != [uid; 3] || fs != libc::c_long::from(uid) {
        return refuse(Stage::VerifyUid);
    }
    // SAFETY: three valid pointers.
    check(Stage::VerifyGid, unsafe { libc::syscall(libc::SYS_getresgid, &raw mut r, &raw mut e, &raw mut s) })?;
    // SAFETY: as above.
    let fs = unsafe { libc::syscall(libc::SYS_setfsgid, u32::MAX) };
    if [r, e, s] != [gid; 3] || fs != libc::c_long::from(gid) {
        return refuse(Stage::VerifyGid);
    }
    // SAFETY: the array is as long as said; with too many groups the call fails.
    let n = unsafe { libc::syscall(libc::SYS_getgroups, target.scratch.len(), target.scratch.as_mut_ptr()) };
    check(Stage::VerifyGroups, n)?;
    let read = usize::try_from(n).ok().and_then(|n| target.scratch.get_mut(..n));
    let Some(read) = read else { return refuse(Stage::VerifyGroups) };
    read.sort_unstable();
    if read != target.groups.as_slice() {
        return refuse(Stage::VerifyGroups);
    }
    for call in [libc::SYS_setresuid, libc::SYS_setresgid] {
        // SAFETY: plain arguments; it must not be permitted.
        let ret = unsafe { libc::syscall(call, u32::MAX, 0_u32, u32::MAX) };
        if ret == 0 || last() != Errno(libc::EPERM) {
            return refuse(Stage::VerifyRegain);
        }
    }
    let caps = capabilities().map_err(|e| (Stage::VerifyCapabilities, e))?;
    if caps.iter().any(|c| c.effective | c.permitted | c.inheritable != 0) {
        return refuse(Stage::VerifyCapabilities);
    }
    Ok(())
}

/// A private view of the file system, for sessions under a shared account.
#[derive(Debug)]
pub(crate) struct PrivateMounts {
    /// The folder of all jobs, when none of [`COVERED`] hides it already: other jobs' folders have the same owner.
    pub(crate) hide: Option<CString>,
    /// Where the job's folder is, hidden by one of those: each folder to make, then the last one to mount it on.
    pub(crate) uncover: Vec<CString>,
}

/// Folders every process may write to: each shared session gets its own.
pub(crate) const COVERED: [&CStr; 4] = [c"/tmp", c"/var/tmp", c"/dev/shm", c"/run/lock"];

/// All that a child needs, made before it exists.
#[derive(Debug)]
pub(crate) struct ChildPlan {
    pub(crate) target: Target,
    pub(crate) v1_procs: Vec<RawFd>,
    pub(crate) private: Option<PrivateMounts>,
    pub(crate) no_new_privs: bool,
    pub(crate) umask: u32,
    pub(crate) nofile: u64,
    pub(crate) loginuid: Vec<u8>,
    pub(crate) cwd: CString,
    /// Which folder `cwd` must turn out to be: device and inode.
    pub(crate) cwd_id: (u64, u64),
    pub(crate) channel: RawFd,
    pub(crate) orders: RawFd,
    /// The program, opened before.
    pub(crate) program: RawFd,
    /// Takes a stage's number and error number.
    pub(crate) errors: RawFd,
    /// Gives one byte when the shepherd has looked; closed without it, nothing is executed.
    pub(crate) go: RawFd,
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
}

/// Pointers for `execveat`, ended by a null.
pub(crate) fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// The child's whole life before its program's. `argv` and `envp` are [`pointers`] of the plan's.
pub(crate) fn run_child(plan: &mut ChildPlan, argv: &[*const libc::c_char], envp: &[*const libc::c_char]) -> ! {
    let Err((stage, errno)) = steps(plan).and_then(|fds| exec(&fds, argv, envp));
    report(plan.errors, stage, errno.0);
    crate::sys::exit(126)
}

fn report(errors: RawFd, stage: Stage, errno: i32) {
    let (stage, errno) = ((stage as i32).to_ne_bytes(), errno.to_ne_bytes());
    let [a, b, c, d] = stage;
    let [e, f, g, h] = errno;
    // SAFETY: eight bytes; a pipe takes them whole.
    unsafe { libc::write(errors, [a, b, c, d, e, f, g, h].as_ptr().cast(), 8) };
}

struct HighFds {
    program: RawFd,
    go: RawFd,
    errors: RawFd,
}

fn steps(plan: &mut ChildPlan) -> Result<HighFds, (Stage, Errno)> {
    join_v1(&plan.v1_procs)?;
    // SAFETY: no arguments. A child is no group leader, so this only fails if something is very wrong.
    check(Stage::Setsid, unsafe { libc::setsid() }.into())?;
    default_signals()?;
    set_loginuid(&plan.loginuid);
    if let Some(private) = &plan.private {
        mount_private(private, &plan.cwd, plan.cwd_id)?;
    }
    limits(plan.nofile)?;
    // SAFETY: always succeeds.
    unsafe { libc::umask(plan.umask) };
    new_keyring()?;
    become_target(&mut plan.target, plan.no_new_privs)?;
    // Cleared by the switch, so set after it: without a shepherd nobody would end this session at its deadline.
    crate::sys::die_with_parent(libc::SIGKILL);
    enter(&plan.cwd, plan.cwd_id)?;
    descriptors(plan)
}

/// v1 hierarchies have no `CLONE_INTO_CGROUP`.
fn join_v1(files: &[RawFd]) -> Step {
    for &fd in files {
        // SAFETY: one byte.
        let ret = unsafe { libc::write(fd, c"0".as_ptr().cast(), 1) };
        check(Stage::CgroupJoin, if ret == 1 { 0 } else { -1 })?;
    }
    Ok(())
}

/// Handlers and ignored signals back to their defaults, and all blocked ones open.
pub(crate) fn default_signals() -> Step {
    // The kernel's own structure, all zero: the default action with no flags. glibc's wrapper would refuse the two
    // signals it keeps for itself, and leave them ignored when they were.
    let default = [0_u64; 8];
    for signal in 1..=64_i32 {
        let old = std::ptr::null_mut::<u64>();
        // SAFETY: larger than the kernel's structure; SIGKILL and SIGSTOP are refused, and never ignored.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, 8_usize) };
    }
    let none = 0_u64;
    let old = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel's signal set has eight bytes.
    let ret = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, old, 8_usize) };
    check(Stage::Signals, ret)
}

/// For the host's audit system; where there is none, nothing is lost.
fn set_loginuid(text: &[u8]) {
    // SAFETY: a constant path, and a buffer of its own length.
    unsafe {
        let fd = libc::open(c"/proc/self/loginuid".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, text.as_ptr().cast(), text.len());
            libc::close(fd);
        }
    }
}

fn mount(stage: Stage, from: &CStr, to: &CStr, kind: &CStr, flags: libc::c_ulong, options: &CStr) -> Step {
    // SAFETY: NUL-terminated strings.
    let ret = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    check(stage, ret.into())
}

/// Own `/proc`, own `/tmp`, and of the jobs' folders only the own one. Mounts made on the host still arrive; none of these leaves.
fn mount_private(private: &PrivateMounts, job: &CStr, id: (u64, u64)) -> Step {
    let hard = libc::MS_NOSUID | libc::MS_NODEV;
    mount(Stage::MountPrivate, c"none", c"/", c"", libc::MS_REC | libc::MS_SLAVE, c"")?;
    mount(Stage::MountProc, c"proc", c"/proc", c"proc", hard | libc::MS_NOEXEC, c"")?;
    // Held open so that it can be mounted where a covered folder hides it.
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: a NUL-terminated path.
    let held = unsafe { libc::open(job.as_ptr(), flags) };
    check(Stage::MountJob, held.into())?;
    same_folder(Stage::MountJob, held, id)?;
    for dir in COVERED {
        match mount(Stage::MountTmp, c"tmpfs", dir, c"tmpfs", hard, c"mode=1777") {
            Err((_, Errno(libc::ENOENT))) => {}
            other => other?,
        }
    }
    // Message queues are the IPC namespace's, but a mount goes on showing those of the one it was made in.
    match mount(Stage::MountTmp, c"mqueue", c"/dev/mqueue", c"mqueue", hard | libc::MS_NOEXEC, c"") {
        Err((_, Errno(libc::ENOENT | libc::ENODEV))) => {}
        other => other?,
    }
    if let Some(work) = &private.hide {
        mount(Stage::MountJob, c"tmpfs", work, c"tmpfs", hard, c"mode=0711,size=64k")?;
    }
    let Some(place) = private.uncover.last() else { return refuse(Stage::MountJob) };
    // SAFETY: always succeeds; the session's own mask is set later.
    unsafe { libc::umask(0o022) };
    for dir in &private.uncover {
        // SAFETY: a NUL-terminated path in a file system that only this process has seen.
        let ret = unsafe { libc::mkdir(dir.as_ptr(), 0o755) };
        if ret < 0 && last() != Errno(libc::EEXIST) {
            return Err((Stage::MountJob, last()));
        }
    }
    let mut path = [0_u8; 32];
    mount(Stage::MountJob, fd_path(held, &mut path), place, c"", libc::MS_BIND, c"")
}

/// `/proc/self/fd/N`, without allocating.
fn fd_path(fd: RawFd, buffer: &mut [u8; 32]) -> &CStr {
    const PREFIX: &[u8] = b"/proc/self/fd/";
    let mut digits = [0_u8; 12];
    let mut n = fd.unsigned_abs();
    let mut len = 0;
    for digit in &mut digits {
        *digit = b'0' + u8::try_from(n % 10).unwrap_or(0);
        n /= 10;
        len += 1;
        if n == 0 {
            break;
        }
    }
    *buffer = [0; 32];
    let text = PREFIX.iter().chain(digits.iter().take(len).rev());
    for (to, from) in buffer.iter_mut().zip(text) {
        *to = *from;
    }
    CStr::from_bytes_until_nul(buffer).unwrap_or(c"")
}

fn same_folder(stage: Stage, fd: RawFd, id: (u64, u64)) -> Step {
    // SAFETY: plain data, filled by the call.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a valid descriptor, or AT_FDCWD, with an empty path.
    let ret = unsafe { libc::fstatat(fd, c"".as_ptr(), &raw mut st, libc::AT_EMPTY_PATH) };
    check(stage, ret.into())?;
    if (st.st_dev, st.st_ino) == id { Ok(()) } else { Err((stage, Errno(libc::ESTALE))) }
}

fn limits(nofile: u64) -> Step {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let mut files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain data. What can't be raised is set as near as allowed.
    unsafe {
        check(Stage::Limits, libc::setrlimit(libc::RLIMIT_CORE, &raw const none).into())?;
        check(Stage::Limits, libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut files).into())?;
        let most = nofile.min(files.rlim_max);
        files = libc::rlimit { rlim_cur: most, rlim_max: most };
        check(Stage::Limits, libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files).into())?;
        // A protected service's priority and score are not the job's.
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, c"0".as_ptr().cast(), 1);
            libc::close(fd);
        }
    }
    Ok(())
}

/// Otherwise root's session keyring would be inherited.
fn new_keyring() -> Step {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name means an anonymous keyring.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match check(Stage::Keyring, ret) {
        // No keyrings in this kernel, or none for this container: then the job can't reach one either.
        Err((_, Errno(libc::ENOSYS | libc::EPERM))) => Ok(()),
        other => other,
    }
}

/// Enters the job's folder as the account, and makes sure that it is the one that was prepared.
fn enter(cwd: &CStr, id: (u64, u64)) -> Step {
    // SAFETY: a NUL-terminated path.
    check(Stage::Chdir, unsafe { libc::chdir(cwd.as_ptr()) }.into())?;
    same_folder(Stage::Chdir, libc::AT_FDCWD, id)
}

/// 0, 1, 2 = `/dev/null`, 3 = channel, 4 = orders; everything else is closed by the exec.
fn descriptors(plan: &ChildPlan) -> Result<HighFds, (Stage, Errno)> {
    let high = |fd: RawFd| {
        // SAFETY: plain arguments.
        let high = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 64) };
        check(Stage::Descriptors, high.into()).map(|()| high)
    };
    let fds = HighFds { program: high(plan.program)?, go: high(plan.go)?, errors: high(plan.errors)? };
    let (channel, orders) = (high(plan.channel)?, high(plan.orders)?);
    for (from, to) in [(channel, 3), (orders, 4)] {
        // SAFETY: plain arguments.
        check(Stage::Descriptors, unsafe { libc::dup3(from, to, 0) }.into())?;
    }
    close_range(5, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    Ok(fds)
}

/// Says that it is ready, waits for the shepherd's look, and becomes the program.
fn exec(
    fds: &HighFds,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
) -> Result<std::convert::Infallible, (Stage, Errno)> {
    report(fds.errors, Stage::Ready, 0);
    let mut byte = 0_u8;
    // SAFETY: one byte.
    if unsafe { libc::read(fds.go, (&raw mut byte).cast(), 1) } != 1 || byte != b'g' {
        return Err((Stage::Exec, Errno(libc::ECANCELED)));
    }
    // SAFETY: null-terminated arrays of NUL-terminated strings that outlive the call.
    unsafe {
        libc::syscall(libc::SYS_execveat, fds.program, c"".as_ptr(), argv.as_ptr(), envp.as_ptr(), libc::AT_EMPTY_PATH)
    };
    Err((Stage::Exec, last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage_numbers_and_names_are_unique() {
        for (i, a) in Stage::ALL.iter().enumerate() {
            assert_eq!(Stage::from_number(*a as i32), Some(*a));
            assert!(Stage::ALL.iter().skip(i + 1).all(|b| a.name() != b.name()));
        }
        assert_eq!(Stage::from_number(99), None);
    }

    #[test]
    fn descriptor_paths_need_no_allocation() {
        let mut buffer = [0; 32];
        for fd in [0, 9, 10, 4096, i32::MAX] {
            assert_eq!(fd_path(fd, &mut buffer).to_str(), Ok(format!("/proc/self/fd/{fd}").as_str()));
        }
    }

    #[test]
    fn root_is_no_target() {
        for (uid, gid) in [(0, 5), (5, 0), (u32::MAX, 5), (5, u32::MAX)] {
            let refused = become_target(&mut Target::new(uid, gid, vec![gid]), false);
            assert_eq!(refused, Err((Stage::Target, Errno(libc::EPERM))));
        }
    }
}
