//! Every call into the kernel that std has no safe form for, each behind a small safe function.
//!
//! Knows nothing of batches, items or events.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) type Pid = libc::pid_t;
pub(crate) use libc::pollfd as PollFd;

fn check(ret: c_int) -> io::Result<c_int> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

fn size(ret: isize) -> io::Result<usize> {
    usize::try_from(ret).map_err(|_| io::Error::last_os_error())
}

pub(crate) fn errno_of(e: &io::Error) -> i32 {
    e.raw_os_error().unwrap_or(libc::EIO)
}

// ---- the process itself ----

/// The channel and the orders as they were handed over, once. `None` when the two descriptors are not what they must be.
pub(crate) fn inherited(channel: RawFd, orders: RawFd) -> Option<(OwnedFd, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let mut kind: c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of::<c_int>()).ok()?;
    // SAFETY: `kind` and `len` are valid for writing an int and its length; the descriptor may be anything.
    let is_socket = unsafe {
        libc::getsockopt(channel, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast::<c_void>(), &raw mut len)
    } == 0;
    // SAFETY: fcntl(F_GET_SEALS) takes no pointer; it fails on what is no memory file.
    let seals = unsafe { libc::fcntl(orders, libc::F_GET_SEALS) };
    let sealed = seals >= 0 && seals & libc::F_SEAL_WRITE != 0;
    if !is_socket || kind != libc::SOCK_SEQPACKET || !sealed || TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    for fd in [channel, orders] {
        // SAFETY: takes no pointer.
        check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
    }
    // SAFETY: both descriptors are open (the calls above succeeded), were inherited, so that nothing in this process
    // owns them, and are taken only once.
    Some(unsafe { (OwnedFd::from_raw_fd(channel), OwnedFd::from_raw_fd(orders)) })
}

/// Desktop mode: puts the channel (standard input) and the orders (standard output) where a launched session has them,
/// and makes the process what a shepherd makes it: a leader without a terminal, with its umask.
pub(crate) fn adopt(channel: RawFd, orders: RawFd, umask: u32) -> io::Result<()> {
    // SAFETY: these calls take no pointer but the one to a constant string that ends with NUL. Nothing in this process
    // owns the descriptors replaced: it runs before anything else is opened.
    unsafe {
        check(libc::dup2(0, channel))?;
        check(libc::dup2(1, orders))?;
        let nothing = check(libc::open(c"/dev/null".as_ptr(), libc::O_RDWR))?;
        check(libc::dup2(nothing, 0))?;
        check(libc::dup2(nothing, 1))?;
        check(libc::close(nothing))?;
        check(libc::setsid())?;
        libc::umask(umask);
    }
    Ok(())
}

/// Marks every descriptor above the orders' to be closed in tasks: nothing that was inherited by mistake goes on.
pub(crate) fn hide_descriptors_from(first: u32) {
    // SAFETY: takes no pointer; only sets the close-on-exec flag.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// No core file, no ptrace and no /proc access by others of the same account.
pub(crate) fn become_undumpable() -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

/// Orphans among the descendants become children of this process.
pub(crate) fn become_subreaper() -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

pub(crate) fn pid() -> Pid {
    // SAFETY: never fails and takes nothing.
    unsafe { libc::getpid() }
}

pub(crate) fn uid() -> u32 {
    // SAFETY: never fails and takes nothing.
    unsafe { libc::geteuid() }
}

pub(crate) fn stdin_is_terminal() -> bool {
    // SAFETY: takes no pointer.
    unsafe { libc::isatty(0) == 1 }
}

// ---- clocks ----

fn clock_us(clock: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is valid for writing; the clocks used here always exist.
    unsafe { libc::clock_gettime(clock, &raw mut t) };
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0) / 1000)
}

pub(crate) fn monotonic_us() -> u64 {
    clock_us(libc::CLOCK_MONOTONIC)
}

pub(crate) fn boottime_ms() -> u64 {
    clock_us(libc::CLOCK_BOOTTIME) / 1000
}

pub(crate) fn realtime_us() -> u64 {
    clock_us(libc::CLOCK_REALTIME)
}

// ---- signals ----

/// Which signals came since the last look.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Arrived {
    pub(crate) child: bool,
    pub(crate) terminate: bool,
}

/// Puts every signal back to its default, which tasks inherit, and turns SIGCHLD and SIGTERM into a descriptor.
///
/// A blocked signal reaches the descriptor even when this process is the first of a PID namespace, which is
/// otherwise deaf to signals without a handler.
pub(crate) fn catch_signals() -> io::Result<OwnedFd> {
    // The kernel's own form of sigaction: the C library refuses to touch two signals that it keeps for itself, and a
    // parent may have left them ignored. Handler, flags, restorer and mask, all zero, are the default.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: `default` is a valid kernel sigaction of this size; no old one is asked for. SIGKILL and SIGSTOP are
        // refused, which is no loss.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<c_void>(), 8usize) };
    }
    let mut set = empty_set();
    // SAFETY: `set` is an initialised signal set; the numbers are valid; no old set is asked for.
    let fd = unsafe {
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()))?;
        check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?
    };
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn arrived(signals: BorrowedFd<'_>) -> Arrived {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut seen = Arrived::default();
    let mut buf = [0u8; 4 * SIZE];
    while let Ok(n) = read(signals, &mut buf) {
        for info in buf.get(..n).unwrap_or_default().chunks_exact(SIZE) {
            // The number is the first field of the record.
            let number = info.first_chunk::<4>().map_or(0, |b| u32::from_ne_bytes(*b));
            seen.child |= number == libc::SIGCHLD.unsigned_abs();
            seen.terminate |= number == libc::SIGTERM.unsigned_abs();
        }
        if n < buf.len() {
            break;
        }
    }
    seen
}

fn empty_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Signals one process. Numbers that mean a group or everybody are ignored.
pub(crate) fn signal(pid: Pid, signal: c_int) {
    if pid > 1 {
        // SAFETY: takes no pointer.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Signals a process group whose leader has not been reaped.
pub(crate) fn signal_group(leader: Pid, signal: c_int) {
    if leader > 1 {
        // SAFETY: takes no pointer.
        unsafe { libc::kill(-leader, signal) };
    }
}

/// Signals every other process of a PID namespace, and does nothing unless this process is its first.
pub(crate) fn signal_namespace(signal: c_int) {
    if pid() == 1 {
        // SAFETY: takes no pointer.
        unsafe { libc::kill(-1, signal) };
    }
}

// ---- children ----

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Exited(u8),
    Signalled(u8),
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_us: u64,
    pub(crate) max_rss: u64,
}

#[derive(Debug)]
pub(crate) enum Waited {
    NoChildren,
    AllAlive,
    Ended { pid: Pid, ending: Ending, usage: Usage },
}

/// Reaps one child that has ended, if there is one.
pub(crate) fn wait_any() -> Waited {
    let mut status: c_int = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writing.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    match pid {
        0 => Waited::AllAlive,
        p if p < 0 => Waited::NoChildren,
        pid => {
            // SAFETY: it was zeroed, which is a valid rusage, and the kernel filled it.
            let usage = unsafe { usage.assume_init() };
            let ending = if libc::WIFSIGNALED(status) {
                Ending::Signalled(u8::try_from(libc::WTERMSIG(status)).unwrap_or(u8::MAX))
            } else {
                Ending::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
            };
            let cpu_us = micros(usage.ru_utime).saturating_add(micros(usage.ru_stime));
            let max_rss = u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024);
            Waited::Ended { pid, ending, usage: Usage { cpu_us, max_rss } }
        }
    }
}

fn micros(t: libc::timeval) -> u64 {
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(t.tv_usec).unwrap_or(0))
}

// ---- starting a program ----

/// A byte string with a NUL inside, which no program can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HasNul;

/// NUL-terminated strings one after another in one allocation that is used again for the next task.
#[derive(Debug, Default)]
pub(crate) struct CStrings {
    /// Invariant: every element of `starts` is the place of a string that ends with a NUL within `bytes`.
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl CStrings {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Adds one string made of `parts`.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> Result<(), HasNul> {
        if parts.iter().any(|p| p.contains(&0)) {
            return Err(HasNul);
        }
        self.starts.push(self.bytes.len());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(crate) fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let rest = self.bytes.get(*self.starts.get(index)?..)?;
        CStr::from_bytes_until_nul(rest).ok().map(CStr::to_bytes)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    /// The addresses of all strings, and a null; valid while `self` is not changed.
    fn pointers(&self) -> Vec<*const c_char> {
        let at = |&start: &usize| self.bytes.get(start..).map_or(ptr::null(), |s| s.as_ptr().cast::<c_char>());
        self.starts.iter().map(at).chain([ptr::null()]).collect()
    }
}

/// What to start: the first of `programs` that the kernel accepts.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) programs: &'a CStrings,
    pub(crate) argv: &'a CStrings,
    pub(crate) env: &'a CStrings,
    /// Entered by the task before its program is looked for.
    pub(crate) cwd: Option<&'a CStr>,
    /// By how much it gives way to others. Never less than 0: an account can't take more.
    pub(crate) nice: u8,
}

#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Nothing was executed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SpawnError {
    Pipe {
        errno: i32,
    },
    /// No process could be made.
    Process {
        errno: i32,
    },
    /// The process's descriptors or group could not be set.
    Prepare {
        errno: i32,
    },
    Cwd {
        errno: i32,
    },
    /// `program` is the index of the one that `errno` is about.
    Exec {
        errno: i32,
        program: usize,
    },
}

/// Starts programs with clone(CLONE_VM | CLONE_VFORK): no page table is copied, and the child's errors come back
/// through the memory it shares.
#[derive(Debug)]
pub(crate) struct Spawner {
    stack: *mut c_void,
    null: OwnedFd,
}

const STACK: usize = 64 << 10;
const GUARD: usize = 4 << 10;

impl Spawner {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping.
        let stack = unsafe {
            libc::mmap(
                ptr::null_mut(),
                STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if stack == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the lowest page of the mapping made above, which is not in use yet.
        check(unsafe { libc::mprotect(stack, GUARD, libc::PROT_NONE) })?;
        let null = std::fs::OpenOptions::new().read(true).open("/dev/null")?;
        Ok(Self { stack, null: null.into() })
    }

    /// The child has its own process group, default signals, nothing but 0, 1 and 2 open, and dies with this process.
    pub(crate) fn spawn(&mut self, program: &Program<'_>) -> Result<Child, SpawnError> {
        let pipe = || pipe().map_err(|e| SpawnError::Pipe { errno: errno_of(&e) });
        let (stdout, write_out) = pipe()?;
        let (stderr, write_err) = pipe()?;
        let programs = program.programs.pointers();
        let argv = program.argv.pointers();
        let env = program.env.pointers();
        let mut plan = Plan {
            fds: [self.null.as_raw_fd(), write_out.as_raw_fd(), write_err.as_raw_fd()],
            cwd: program.cwd.map_or(ptr::null(), CStr::as_ptr),
            programs: programs.as_ptr(),
            argv: argv.as_ptr(),
            env: env.as_ptr(),
            mask: empty_set(),
            nice: c_int::from(program.nice),
            stage: Stage::Started,
            errno: 0,
            program: 0,
        };
        // SAFETY: the stack is mapped, ours and used by nobody else, as the calling thread sleeps until the child has
        // executed a program or ended (CLONE_VFORK), and there is only this thread. `plan` and all it points to
        // outlive that moment. `child` makes only system calls, never returns to Rust code of the parent, and neither
        // allocates nor unwinds.
        let pid = unsafe {
            let top = self.stack.cast::<u8>().add(STACK).cast::<c_void>();
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            libc::clone(child, top, flags, (&raw mut plan).cast::<c_void>())
        };
        if pid < 0 {
            return Err(SpawnError::Process { errno: errno_of(&io::Error::last_os_error()) });
        }
        // SAFETY: `plan` is a live local; the child wrote it before it ended.
        let plan = unsafe { ptr::read_volatile(&raw const plan) };
        let errno = plan.errno;
        let failed = match plan.stage {
            Stage::Started => return Ok(Child { pid, stdout, stderr }),
            Stage::Prepare => SpawnError::Prepare { errno },
            Stage::Cwd => SpawnError::Cwd { errno },
            Stage::Exec => SpawnError::Exec { errno, program: plan.program },
        };
        // SAFETY: our own child, which is ending; no status is asked for.
        unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        Err(failed)
    }
}

#[derive(Clone, Copy)]
#[repr(i32)]
enum Stage {
    Started,
    Prepare,
    Cwd,
    Exec,
}

/// What the child reads and where it leaves its error.
#[derive(Clone, Copy)]
struct Plan {
    fds: [RawFd; 3],
    cwd: *const c_char,
    programs: *const *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    mask: libc::sigset_t,
    nice: c_int,
    stage: Stage,
    errno: i32,
    program: usize,
}

/// Runs in the child, in the parent's memory, on the spawner's stack.
extern "C" fn child(arg: *mut c_void) -> c_int {
    // SAFETY: the parent passed its `Plan` and sleeps, so that this is the only access. Only system calls are made.
    unsafe {
        let plan = &mut *arg.cast::<Plan>();
        let mut ok = libc::setpgid(0, 0) == 0;
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        for (target, &fd) in (0..).zip(&plan.fds) {
            ok = ok && libc::dup2(fd, target) == target;
        }
        // Everything of ours is close-on-exec already; this is for what we don't know of.
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if !ok {
            return give_up(plan, Stage::Prepare);
        }
        // Nobody needs leave for it, so that it does not fail; a job that runs as fast as others is no harm either.
        if plan.nice > 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, plan.nice);
        }
        if !plan.cwd.is_null() && libc::chdir(plan.cwd) != 0 {
            return give_up(plan, Stage::Cwd);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const plan.mask, ptr::null_mut());
        execute(plan)
    }
}

/// As execvp searches: what is missing is passed over, what may not be run is remembered, anything else ends it.
///
/// # Safety
/// As for `child`: the lists of `plan` end with a null.
unsafe fn execute(plan: &mut Plan) -> c_int {
    let (mut worst, mut index) = ((libc::ENOENT, 0), 0);
    loop {
        // SAFETY: `index` does not pass the null at the end of the list; strings and lists are the caller's promise.
        let errno = unsafe {
            let program = *plan.programs.add(index);
            if program.is_null() {
                break;
            }
            libc::execve(program, plan.argv, plan.env);
            *libc::__errno_location()
        };
        match errno {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES if worst.0 == libc::EACCES => {}
            libc::EACCES => worst = (errno, index),
            _ => {
                worst = (errno, index);
                break;
            }
        }
        index = index.wrapping_add(1);
    }
    // Only now: after a successful execve nothing may say that it failed.
    (plan.stage, plan.errno, plan.program) = (Stage::Exec, worst.0, worst.1);
    127
}

/// # Safety
/// As for `child`.
unsafe fn give_up(plan: &mut Plan, stage: Stage) -> c_int {
    plan.stage = stage;
    // SAFETY: the calling thread's errno.
    plan.errno = unsafe { *libc::__errno_location() };
    127
}

// ---- descriptors ----

/// A pipe whose reading end doesn't block.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: two new descriptors that nobody else owns.
    let (reading, writing) = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
    // SAFETY: takes no pointer.
    check(unsafe { libc::fcntl(reading.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok((reading, writing))
}

pub(crate) fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buf` is valid for writing its length.
    size(unsafe { libc::read(fd.as_raw_fd(), buf.as_mut_ptr().cast::<c_void>(), buf.len()) })
}

/// Waits for one of `fds`, at most `timeout_us`. An interruption counts as nothing having happened.
pub(crate) fn poll(fds: &mut [PollFd], timeout_us: Option<u64>) {
    let timeout = timeout_us.map(|us| libc::timespec {
        tv_sec: i64::try_from(us / 1_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(us % 1_000_000).unwrap_or(0).saturating_mul(1000),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let count = libc::nfds_t::try_from(fds.len()).unwrap_or(0);
    // SAFETY: `fds` is valid for `count` entries, `timeout` is null or valid, and no signal mask is given.
    let ready = unsafe { libc::ppoll(fds.as_mut_ptr(), count, timeout, ptr::null()) };
    if ready < 0 {
        for fd in fds {
            fd.revents = 0;
        }
    }
}

/// One packet of the channel.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) len: usize,
    /// It was longer than the buffer.
    pub(crate) cut: bool,
    pub(crate) fds: Vec<OwnedFd>,
}

#[repr(align(8))]
struct Control([u8; 128]);

pub(crate) fn receive(channel: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Packet> {
    let mut control = Control([0; 128]);
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast::<c_void>(), iov_len: buf.len() };
    // SAFETY: an all-zero msghdr is valid: no address, no parts, no control data.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast::<c_void>();
    header.msg_controllen = control.0.len() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points to one buffer and one control area, both valid for writing their lengths.
    let len = size(unsafe { libc::recvmsg(channel.as_raw_fd(), &raw mut header, flags) })?;
    Ok(Packet { len, cut: header.msg_flags & libc::MSG_TRUNC != 0, fds: passed_descriptors(&header) })
}

/// Owns every descriptor that came with a packet, so that none stays open unnoticed.
fn passed_descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: `header` was filled by recvmsg and its control area lives; the CMSG macros stay within it. The
    // descriptors are new ones that the kernel just made for us.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(message);
                let bytes = ((*message).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                for i in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.cast::<RawFd>().add(i).read_unaligned()));
                }
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    fds
}

pub(crate) fn send(channel: BorrowedFd<'_>, packet: &[u8]) -> io::Result<()> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `packet` is valid for reading its length.
    size(unsafe { libc::send(channel.as_raw_fd(), packet.as_ptr().cast::<c_void>(), packet.len(), flags) }).map(drop)
}

/// Copies a memory file of at most `max` bytes. Anything else is refused: reading it could block.
pub(crate) fn read_memory_file(fd: BorrowedFd<'_>, max: usize) -> io::Result<Vec<u8>> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) })?;
    let mut bytes = Vec::new();
    let mut buf = [0u8; 16 << 10];
    loop {
        let offset = libc::off_t::try_from(bytes.len()).unwrap_or(libc::off_t::MAX);
        // SAFETY: `buf` is valid for writing its length.
        let n = size(unsafe { libc::pread(fd.as_raw_fd(), buf.as_mut_ptr().cast::<c_void>(), buf.len(), offset) })?;
        if n == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(buf.get(..n).unwrap_or_default());
        if bytes.len() > max {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
    }
}

// ---- files below a folder ----

/// What is known of a name without following it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) is_dir: bool,
    /// `S_IFREG` and so on.
    pub(crate) file_type: u32,
    pub(crate) dev: u64,
    pub(crate) mode: u32,
    pub(crate) size: u64,
    /// µs since 1970; 0 before that.
    pub(crate) modified_us: u64,
}

fn meta(stat: &libc::stat) -> Meta {
    let file_type = stat.st_mode & libc::S_IFMT;
    let modified_us = |seconds: u64| seconds.saturating_mul(1_000_000).saturating_add(micros_of(stat.st_mtime_nsec));
    Meta {
        is_dir: file_type == libc::S_IFDIR,
        file_type,
        dev: stat.st_dev,
        mode: stat.st_mode & 0o7777,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified_us: u64::try_from(stat.st_mtime).map_or(0, modified_us),
    }
}

fn micros_of(nanoseconds: i64) -> u64 {
    u64::try_from(nanoseconds).unwrap_or(0) / 1000
}

pub(crate) fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Meta> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `name` is NUL-terminated and `stat` valid for writing.
    check(unsafe { libc::fstatat(dir.as_raw_fd(), name.as_ptr(), stat.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) })?;
    // SAFETY: zeroed is a valid stat, and the kernel filled it.
    Ok(meta(unsafe { stat.assume_init_ref() }))
}

pub(crate) fn stat_of(fd: BorrowedFd<'_>) -> io::Result<Meta> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `stat` is valid for writing.
    check(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: zeroed is a valid stat, and the kernel filled it.
    Ok(meta(unsafe { stat.assume_init_ref() }))
}

const DIRECTORY: c_int = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;

/// The current folder.
pub(crate) fn open_here() -> io::Result<OwnedFd> {
    open_at_raw(libc::AT_FDCWD, c".", DIRECTORY | libc::O_RDONLY, 0)
}

/// A folder in `dir`, never through a symbolic link.
pub(crate) fn open_dir_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    open_at_raw(dir.as_raw_fd(), name, DIRECTORY | libc::O_RDONLY, 0)
}

/// A folder in `dir` that is on the same mount: EXDEV for a mount point, bind mounts included.
pub(crate) fn open_dir_same_mount(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: an all-zero open_how is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((DIRECTORY | libc::O_RDONLY).unsigned_abs());
    how.resolve = libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_BENEATH;
    // SAFETY: `name` is NUL-terminated, `how` valid for its size.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, dir.as_raw_fd(), name.as_ptr(), &raw const how, size_of::<libc::open_how>())
    };
    match c_int::try_from(fd) {
        // SAFETY: a new descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => match io::Error::last_os_error() {
            // An older kernel: a device number of its own is the most it can tell of a mount.
            e if errno_of(&e) == libc::ENOSYS => {
                let fd = open_dir_at(dir, name)?;
                let same = stat_of(std::os::fd::AsFd::as_fd(&fd))?.dev == stat_of(dir)?.dev;
                if same { Ok(fd) } else { Err(io::Error::from_raw_os_error(libc::EXDEV)) }
            }
            e => Err(e),
        },
    }
}

/// A folder by its absolute path.
pub(crate) fn open_folder(path: &CStr) -> io::Result<OwnedFd> {
    open_at_raw(libc::AT_FDCWD, path, libc::O_DIRECTORY | libc::O_CLOEXEC | libc::O_RDONLY, 0)
}

/// What a relative path names beneath `dir`: EXDEV for one that leads out of it. `mode` is for a file that is made.
pub(crate) fn open_beneath(dir: BorrowedFd<'_>, path: &CStr, flags: c_int, mode: u32) -> io::Result<OwnedFd> {
    // SAFETY: an all-zero open_how is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | libc::O_CLOEXEC).unsigned_abs());
    how.mode = mode.into();
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: `path` is NUL-terminated, `how` valid for its size.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, dir.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>())
    };
    match c_int::try_from(fd) {
        // SAFETY: a new descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A new file in `dir`; whatever has the name already is an error.
pub(crate) fn create_at(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<OwnedFd> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    open_at_raw(dir.as_raw_fd(), name, flags, mode)
}

fn open_at_raw(dir: RawFd, name: &CStr, flags: c_int, mode: u32) -> io::Result<OwnedFd> {
    // SAFETY: `name` is NUL-terminated.
    let fd = check(unsafe { libc::openat(dir, name.as_ptr(), flags, mode) })?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn make_dir_at(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

pub(crate) fn remove_at(dir: BorrowedFd<'_>, name: &CStr, is_dir: bool) -> io::Result<()> {
    let flags = if is_dir { libc::AT_REMOVEDIR } else { 0 };
    // SAFETY: `name` is NUL-terminated.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) }).map(drop)
}

pub(crate) fn rename_at(from: BorrowedFd<'_>, old: &CStr, to: BorrowedFd<'_>, new: &CStr) -> io::Result<()> {
    // SAFETY: both names are NUL-terminated.
    check(unsafe { libc::renameat(from.as_raw_fd(), old.as_ptr(), to.as_raw_fd(), new.as_ptr()) }).map(drop)
}

/// The same, and what has the new name already is an error.
pub(crate) fn rename_new_at(from: BorrowedFd<'_>, old: &CStr, to: BorrowedFd<'_>, new: &CStr) -> io::Result<()> {
    // SAFETY: both names are NUL-terminated.
    let renamed = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            from.as_raw_fd(),
            old.as_ptr(),
            to.as_raw_fd(),
            new.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if renamed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(crate) fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) }).map(drop)
}

pub(crate) fn set_mode_at(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated.
    check(unsafe { libc::fchmodat(dir.as_raw_fd(), name.as_ptr(), mode, 0) }).map(drop)
}

/// Goes back to the first entry of a folder.
pub(crate) fn rewind(dir: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointer.
    let at = unsafe { libc::lseek(dir.as_raw_fd(), 0, libc::SEEK_SET) };
    if at < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The next entries of a folder without `.` and `..`; `None` at its end.
pub(crate) fn next_entries(dir: BorrowedFd<'_>) -> io::Result<Option<Vec<CString>>> {
    const NAME_AT: usize = 19;
    let mut buf = vec![0u8; 32 << 10];
    // SAFETY: `buf` is valid for writing its length.
    let n = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buf.as_mut_ptr(), buf.len()) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    if n == 0 {
        return Ok(None);
    }
    let mut rest = buf.get(..n).unwrap_or_default();
    let mut names = Vec::new();
    // A record is: inode (8), offset (8), length of the record (2), type (1), name.
    while let Some(length) = rest.get(16..18).and_then(|l| l.first_chunk::<2>()) {
        let length = usize::from(u16::from_ne_bytes(*length));
        let (Some(name), Some(tail)) = (rest.get(NAME_AT..length), rest.get(length..)) else { break };
        if let Ok(name) = CStr::from_bytes_until_nul(name)
            && name != c"."
            && name != c".."
        {
            names.push(name.to_owned());
        }
        rest = tail;
    }
    Ok(Some(names))
}
