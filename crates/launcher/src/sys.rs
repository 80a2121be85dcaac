//! The kernel, as far as root needs it: thin, typed wrappers that turn a failure into an [`Errno`].
//!
//! Decides nothing. Paths reach the kernel relative to a descriptor that was opened and checked before.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// An error number of the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<std::io::Error> for Errno {
    fn from(e: std::io::Error) -> Self {
        Self(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

pub(crate) type Res<T> = Result<T, Errno>;

/// One line on standard error. A terminal that is gone must not end a root process, so the result is dropped.
macro_rules! say {
    ($($arg:tt)*) => {
        $crate::sys::say_line(&format!($($arg)*))
    };
}
pub(crate) use say;

/// Whether only what is wrong is to be said: `RUST_LOG` is the one setting for all of the house.
pub(crate) fn is_quiet() -> bool {
    std::env::var("RUST_LOG").is_ok_and(|level| matches!(level.as_str(), "off" | "error" | "warn"))
}

pub(crate) fn say_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "stead-launcher: {line}");
}

pub(crate) fn last() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

fn check(ret: i32) -> Res<i32> {
    if ret < 0 { Err(last()) } else { Ok(ret) }
}

fn check_size(ret: isize) -> Res<usize> {
    usize::try_from(ret).map_err(|_| last())
}

fn owned(fd: i32) -> Res<OwnedFd> {
    let fd = check(fd)?;
    // SAFETY: the kernel has just handed out this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Text for the kernel. A NUL inside is an error, never a cut.
pub(crate) fn cstr(text: impl Into<Vec<u8>>) -> Res<CString> {
    CString::new(text).map_err(|_| Errno(libc::EINVAL))
}

// ---- files ---------------------------------------------------------------------------------------------------

/// What is decided upon: who owns a file, what it is, and which one it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) uid: u32,
    pub(crate) mode: u32,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
}

impl Stat {
    pub(crate) fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// Group or others may write.
    pub(crate) fn open_to_others(&self) -> bool {
        self.mode & 0o022 != 0
    }

    pub(crate) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

pub(crate) fn fstat(fd: BorrowedFd<'_>) -> Res<Stat> {
    // SAFETY: stat is plain data; the kernel fills it or reports an error.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a valid descriptor and a buffer of the right type.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut st) })?;
    Ok(Stat {
        uid: st.st_uid,
        mode: st.st_mode,
        dev: st.st_dev,
        ino: st.st_ino,
        size: u64::try_from(st.st_size).unwrap_or(0),
    })
}

/// Whether the folder has no name any more.
pub(crate) fn is_removed(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: stat is plain data; the kernel fills it or reports an error.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a valid descriptor and a buffer of the right type.
    unsafe { libc::fstat(fd.as_raw_fd(), &raw mut st) == 0 && st.st_nlink == 0 }
}

/// `O_CLOEXEC` is always added.
pub(crate) fn open(path: &CStr, flags: i32) -> Res<OwnedFd> {
    // SAFETY: a NUL-terminated path.
    owned(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) })
}

/// The same for a file that is made.
pub(crate) fn create(path: &CStr, flags: i32, mode: u32) -> Res<OwnedFd> {
    // SAFETY: a NUL-terminated path.
    owned(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) })
}

/// `O_CLOEXEC` and `O_NOFOLLOW` are always added.
pub(crate) fn openat(dir: BorrowedFd<'_>, name: &CStr, flags: i32, mode: u32) -> Res<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: a valid descriptor and a NUL-terminated name.
    owned(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags, mode) })
}

/// A real directory, by name in `dir`.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Res<OwnedFd> {
    openat(dir, name, libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

pub(crate) fn mkdirat(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Res<()> {
    // SAFETY: a valid descriptor and a NUL-terminated name.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

pub(crate) fn unlinkat(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> Res<()> {
    // SAFETY: a valid descriptor and a NUL-terminated name.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) }).map(drop)
}

/// Renames within `dir`; with `RENAME_NOREPLACE` in `flags` an existing target is an error.
pub(crate) fn renameat(dir: BorrowedFd<'_>, from: &CStr, to: &CStr, flags: u32) -> Res<()> {
    let fd = dir.as_raw_fd();
    // SAFETY: a valid descriptor and NUL-terminated names.
    check(unsafe { libc::renameat2(fd, from.as_ptr(), fd, to.as_ptr(), flags) }).map(drop)
}

pub(crate) fn fchown(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Res<()> {
    // SAFETY: a valid descriptor.
    check(unsafe { libc::fchown(fd.as_raw_fd(), uid, gid) }).map(drop)
}

pub(crate) fn fchmod(fd: BorrowedFd<'_>, mode: u32) -> Res<()> {
    // SAFETY: a valid descriptor.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) }).map(drop)
}

pub(crate) fn fdatasync(fd: BorrowedFd<'_>) -> Res<()> {
    // SAFETY: a valid descriptor.
    check(unsafe { libc::fdatasync(fd.as_raw_fd()) }).map(drop)
}

pub(crate) fn fsync(fd: BorrowedFd<'_>) -> Res<()> {
    // SAFETY: a valid descriptor.
    check(unsafe { libc::fsync(fd.as_raw_fd()) }).map(drop)
}

pub(crate) fn ftruncate(fd: BorrowedFd<'_>, len: u64) -> Res<()> {
    let len = i64::try_from(len).map_err(|_| Errno(libc::EFBIG))?;
    // SAFETY: a valid descriptor.
    check(unsafe { libc::ftruncate(fd.as_raw_fd(), len) }).map(drop)
}

/// Takes an exclusive lock, waiting at most `patience`. `EWOULDBLOCK` when somebody else keeps it.
pub(crate) fn lock(fd: BorrowedFd<'_>, patience: Duration) -> Res<()> {
    let until = Instant::now() + patience;
    loop {
        // SAFETY: a valid descriptor.
        match check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
            Err(Errno(libc::EWOULDBLOCK)) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            other => return other.map(drop),
        }
    }
}

/// Everything from `offset` to the end, at most `max` bytes.
pub(crate) fn read_from(fd: BorrowedFd<'_>, offset: u64, max: usize) -> Res<Vec<u8>> {
    let mut all = Vec::new();
    let mut chunk = [0_u8; 8192];
    while all.len() < max {
        let at = offset.saturating_add(u64::try_from(all.len()).unwrap_or(u64::MAX));
        let at = i64::try_from(at).map_err(|_| Errno(libc::EFBIG))?;
        let want = chunk.len().min(max.saturating_sub(all.len()));
        // SAFETY: the buffer is at least `want` bytes long.
        let n = check_size(unsafe { libc::pread(fd.as_raw_fd(), chunk.as_mut_ptr().cast(), want, at) });
        match n {
            Err(Errno(libc::EINTR)) => {}
            Err(e) => return Err(e),
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(chunk.get(..n).unwrap_or_default()),
        }
    }
    Ok(all)
}

pub(crate) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Res<()> {
    while !bytes.is_empty() {
        // SAFETY: the buffer is valid for its whole length.
        match check_size(unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) }) {
            Err(Errno(libc::EINTR)) => {}
            Err(e) => return Err(e),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// A memory file that nobody can change any more.
pub(crate) fn sealed(name: &CStr, bytes: &[u8]) -> Res<OwnedFd> {
    // SAFETY: a NUL-terminated name.
    let fd = owned(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) })?;
    write_all(as_fd(&fd), bytes)?;
    // SAFETY: a valid descriptor; the reader starts at the beginning.
    if unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_SET) } < 0 {
        return Err(last());
    }
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: a valid descriptor of our own memory file.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(fd)
}

pub(crate) fn as_fd(fd: &OwnedFd) -> BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(fd)
}

pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Res<OwnedFd> {
    // SAFETY: a valid descriptor.
    owned(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) })
}

pub(crate) fn pipe() -> Res<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((owned(fds[0])?, owned(fds[1])?))
}

// ---- local sockets -------------------------------------------------------------------------------------------

/// The two ends of a session's channel.
pub(crate) fn packet_pair() -> Res<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    Ok((owned(fds[0])?, owned(fds[1])?))
}

fn packet_socket() -> Res<OwnedFd> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    owned(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })
}

/// The address of `name` in an opened directory: however long its path is, and whatever it is called today.
fn address(dir: BorrowedFd<'_>, name: &str) -> Res<libc::sockaddr_un> {
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    // SAFETY: plain data.
    let mut addr: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    addr.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or(1);
    if path.len() >= addr.sun_path.len() {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    for (to, from) in addr.sun_path.iter_mut().zip(path.bytes()) {
        *to = from.cast_signed();
    }
    Ok(addr)
}

const ADDRESS_LEN: u32 = size_of_u32::<libc::sockaddr_un>();

const fn size_of_u32<T>() -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "sizes of kernel structures are small")]
    let n = size_of::<T>() as u32;
    n
}

/// Listens as `name` in `dir`. The file mode follows from the umask: nothing is changed afterwards by name.
pub(crate) fn listen_at(dir: BorrowedFd<'_>, name: &str) -> Res<OwnedFd> {
    let fd = packet_socket()?;
    let addr = address(dir, name)?;
    // SAFETY: a filled address and its length.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const addr).cast(), ADDRESS_LEN) })?;
    // SAFETY: a bound socket.
    check(unsafe { libc::listen(fd.as_raw_fd(), 64) })?;
    Ok(fd)
}

/// Connects to `name` in `dir`.
pub(crate) fn connect_at(dir: BorrowedFd<'_>, name: &str) -> Res<OwnedFd> {
    let fd = packet_socket()?;
    let addr = address(dir, name)?;
    // SAFETY: a filled address and its length.
    check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const addr).cast(), ADDRESS_LEN) })?;
    Ok(fd)
}

/// The next connection and the uid its peer had when it connected, or `None`.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Res<Option<(OwnedFd, u32)>> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: a listening socket; no address is wanted.
    let fd = match owned(unsafe {
        libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags)
    }) {
        Ok(fd) => fd,
        Err(Errno(libc::EAGAIN | libc::ECONNABORTED | libc::EINTR)) => return Ok(None),
        Err(e) => return Err(e),
    };
    let uid = peer_uid(as_fd(&fd))?;
    Ok(Some((fd, uid)))
}

pub(crate) fn peer_uid(fd: BorrowedFd<'_>) -> Res<u32> {
    let mut cred = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of_u32::<libc::ucred>();
    // SAFETY: a buffer of the right type and its length.
    check(unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut cred).cast(), &raw mut len)
    })?;
    Ok(cred.uid)
}

const FDS_MAX: usize = 4;

/// Sends one packet with descriptors beside it. Never waits: a peer that does not read is the caller's to drop.
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Res<()> {
    let mut control = [0_u64; 8];
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: plain data.
    let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    if !fds.is_empty() {
        if fds.len() > FDS_MAX {
            return Err(Errno(libc::EINVAL));
        }
        let payload = u32::try_from(size_of::<RawFd>() * fds.len()).unwrap_or(0);
        msg.msg_control = control.as_mut_ptr().cast();
        // SAFETY: computes a length.
        msg.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as usize;
        // SAFETY: the control buffer (64 bytes) holds one header and at most FDS_MAX descriptors.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const msg);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as usize;
            let data: *mut RawFd = libc::CMSG_DATA(header).cast();
            for (i, fd) in fds.iter().enumerate() {
                data.add(i).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    // SAFETY: all pointers in `msg` outlive the call.
    let sent = check_size(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const msg, libc::MSG_NOSIGNAL) })?;
    if sent == bytes.len() { Ok(()) } else { Err(Errno(libc::EMSGSIZE)) }
}

/// What a read of a packet socket gives.
pub(crate) enum Received {
    Packet(Vec<u8>, Vec<OwnedFd>),
    Nothing,
    Closed,
    /// Larger than allowed, or with more descriptors than expected.
    Oversized,
}

/// Receives one packet of at most `max` bytes with at most `max_fds` descriptors; never waits.
pub(crate) fn receive(fd: BorrowedFd<'_>, max: usize, max_fds: usize) -> Res<Received> {
    let mut buf = vec![0_u8; max];
    let mut control = [0_u64; 8];
    let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: plain data.
    let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    if max_fds > 0 {
        let payload = u32::try_from(size_of::<RawFd>() * max_fds.min(FDS_MAX)).unwrap_or(0);
        msg.msg_control = control.as_mut_ptr().cast();
        // SAFETY: computes a length, at most 32 of the 64 bytes.
        msg.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as usize;
    }
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: all pointers in `msg` outlive the call.
    let n = match check_size(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut msg, flags) }) {
        Ok(n) => n,
        Err(Errno(libc::EAGAIN | libc::EINTR)) => return Ok(Received::Nothing),
        Err(Errno(libc::ECONNRESET)) => return Ok(Received::Closed),
        Err(e) => return Err(e),
    };
    let mut fds = Vec::new();
    // SAFETY: walks the headers the kernel wrote; each descriptor in them is new and ours.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const msg);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let data: *const RawFd = libc::CMSG_DATA(header).cast();
                for i in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const msg, header);
        }
    }
    if msg.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Ok(Received::Oversized);
    }
    // No message of ours is empty, so an empty one is the end of the connection.
    if n == 0 {
        return Ok(Received::Closed);
    }
    buf.truncate(n);
    Ok(Received::Packet(buf, fds))
}

/// Receives one packet into `buffer`, which the caller wipes; never waits. `None`: there is none yet; `Some(0)`: closed,
/// or a packet that fills the buffer, which is too long.
pub(crate) fn receive_into(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Res<Option<usize>> {
    // SAFETY: a buffer of the length given.
    let n = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
    match check_size(n) {
        Ok(n) if n == buffer.len() => Ok(Some(0)),
        Ok(n) => Ok(Some(n)),
        Err(Errno(libc::EAGAIN | libc::EINTR)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the other end is closed.
pub(crate) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one entry.
    let n = unsafe { libc::poll(&raw mut poll, 1, 0) };
    n > 0 && poll.revents & (libc::POLLHUP | libc::POLLERR) != 0
}

// ---- waiting -------------------------------------------------------------------------------------------------

/// Waits until one of `fds` can be read or has failed; says which. `None` waits for ever.
pub(crate) fn wait_readable(fds: &[RawFd], timeout_ms: Option<u64>) -> Res<Vec<bool>> {
    let mut polls: Vec<libc::pollfd> =
        fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    let timeout = timeout_ms.map_or(-1, |ms| i32::try_from(ms).unwrap_or(i32::MAX));
    let count = libc::nfds_t::try_from(polls.len()).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: the array has `count` entries.
    match check(unsafe { libc::poll(polls.as_mut_ptr(), count, timeout) }) {
        Ok(_) | Err(Errno(libc::EINTR)) => Ok(polls.iter().map(|p| p.revents != 0).collect()),
        Err(e) => Err(e),
    }
}

/// Blocks `signals` and makes them readable.
pub(crate) fn signal_fd(signals: &[i32]) -> Res<OwnedFd> {
    // SAFETY: plain data, initialised by sigemptyset.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &s in signals {
            libc::sigaddset(&raw mut set, s);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        owned(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))
    }
}

/// The signals that came since the last call.
pub(crate) fn signals(fd: BorrowedFd<'_>) -> Vec<i32> {
    let mut got = Vec::new();
    loop {
        // SAFETY: plain data.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let len = size_of::<libc::signalfd_siginfo>();
        // SAFETY: a buffer of `len` bytes.
        let n = unsafe { libc::read(fd.as_raw_fd(), (&raw mut info).cast(), len) };
        if usize::try_from(n) != Ok(len) {
            return got;
        }
        got.push(info.ssi_signo.cast_signed());
    }
}

/// A timer on the boot-time clock: it goes on while the host sleeps, and nobody can set it.
pub(crate) fn boot_timer() -> Res<OwnedFd> {
    // SAFETY: no pointers.
    owned(unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })
}

/// Makes the timer readable at `at_ms` of the boot-time clock.
pub(crate) fn set_timer(fd: BorrowedFd<'_>, at_ms: u64) -> Res<()> {
    // An all-zero time would switch the timer off.
    let at = at_ms.clamp(1, u64::MAX / 2);
    let value = libc::timespec {
        tv_sec: i64::try_from(at / 1000).unwrap_or(i64::MAX / 2_000_000_000),
        tv_nsec: i64::try_from(at % 1000).unwrap_or(0) * 1_000_000,
    };
    let spec = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    // SAFETY: a filled structure.
    check(unsafe {
        libc::timerfd_settime(fd.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &raw const spec, std::ptr::null_mut())
    })
    .map(drop)
}

/// The boot-time clock in ms.
pub(crate) fn boot_ms() -> u64 {
    let t = clock(libc::CLOCK_BOOTTIME);
    t.0.saturating_mul(1000).saturating_add(t.1 / 1_000_000)
}

/// The wall clock in µs since 1970.
pub(crate) fn wall_us() -> u64 {
    let t = clock(libc::CLOCK_REALTIME);
    t.0.saturating_mul(1_000_000).saturating_add(t.1 / 1000)
}

fn clock(id: libc::clockid_t) -> (u64, u64) {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a buffer of the right type. These clocks exist on every kernel that has clone3.
    unsafe { libc::clock_gettime(id, &raw mut t) };
    (u64::try_from(t.tv_sec).unwrap_or(0), u64::try_from(t.tv_nsec).unwrap_or(0))
}

/// Bytes of the kernel's random source.
pub(crate) fn random<const N: usize>() -> Res<[u8; N]> {
    let mut bytes = [0_u8; N];
    // SAFETY: the buffer has N bytes; up to 256 are never cut short.
    let n = check_size(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) })?;
    if n == N { Ok(bytes) } else { Err(Errno(libc::EIO)) }
}

// ---- processes -----------------------------------------------------------------------------------------------

/// `None` in the child. Sound because every form of this program has a single thread.
pub(crate) fn fork() -> Res<Option<i32>> {
    // SAFETY: single-threaded, so the child may do all that the parent may.
    let pid = check(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid))
}

/// Ends this process at once: no destructors, no exit handlers of libraries.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(code) }
}

pub(crate) fn kill(pid: i32, signal: i32) -> Res<()> {
    if pid <= 1 {
        // 0, -1 and 1 mean groups, everybody and init.
        return Err(Errno(libc::ESRCH));
    }
    // SAFETY: no pointers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// A child that ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    pub(crate) pid: i32,
    pub(crate) status: i32,
    pub(crate) cpu_us: u64,
    pub(crate) max_rss: u64,
}

/// The next ended child, without waiting.
pub(crate) fn reap() -> Option<Reaped> {
    let mut status = 0;
    // SAFETY: plain data.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: buffers of the right types.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
    let micros = |t: libc::timeval| {
        let (s, us) = (u64::try_from(t.tv_sec).unwrap_or(0), u64::try_from(t.tv_usec).unwrap_or(0));
        s.saturating_mul(1_000_000).saturating_add(us)
    };
    (pid > 0).then(|| Reaped {
        pid,
        status,
        cpu_us: micros(usage.ru_utime).saturating_add(micros(usage.ru_stime)),
        max_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
    })
}

/// Whether there is any child, ended or not.
pub(crate) fn has_children() -> bool {
    // SAFETY: plain data.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: a buffer of the right type.
    unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, look) == 0 }
}

/// The exit code, or the signal that ended the child.
pub(crate) fn ending(status: i32) -> Result<u8, u8> {
    if libc::WIFSIGNALED(status) {
        Err(u8::try_from(libc::WTERMSIG(status)).unwrap_or(0))
    } else {
        Ok(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(255))
    }
}

/// What every root process of ours does first: nobody may look into it, and it drops no core.
pub(crate) fn harden() -> Res<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain arguments.
    unsafe {
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))?;
        check(libc::setrlimit(libc::RLIMIT_CORE, &raw const none))?;
        libc::umask(0o077);
        check(libc::chdir(c"/".as_ptr()))?;
    }
    Ok(())
}

/// Keeps the pages of a secret out of swap and of every dump, as far as the kernel does it.
pub(crate) fn guard(secret: &[u8]) {
    guard_value(secret);
}

/// The same, of a value that stays where it is.
pub(crate) fn guard_value<T: ?Sized>(secret: &T) {
    let page = 4096_usize;
    let at = std::ptr::from_ref(secret).addr();
    let start = at & !(page - 1);
    let len = at.saturating_add(size_of_val(secret)).saturating_sub(start).next_multiple_of(page);
    // SAFETY: the pages hold memory of ours; neither call changes what is in it.
    unsafe {
        libc::mlock(std::ptr::without_provenance(start), len);
        libc::madvise(std::ptr::without_provenance_mut(start), len, libc::MADV_DONTDUMP);
    }
}

/// Orphans below this process become its children.
pub(crate) fn become_subreaper() -> Res<()> {
    // SAFETY: plain arguments.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Asks for `signal` when the parent ends. Must come after a switch of identity, which clears it.
pub(crate) fn die_with_parent(signal: i32) {
    // SAFETY: plain arguments; signal numbers are small and positive.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::from(signal.unsigned_abs()), 0, 0, 0) };
}

/// As many descriptors as the hard limit allows.
pub(crate) fn raise_nofile() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: buffers of the right type; failing leaves the limit as it was.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

pub(crate) fn set_umask(mask: u32) -> u32 {
    // SAFETY: always sound.
    unsafe { libc::umask(mask) }
}

pub(crate) fn set_session() {
    // SAFETY: no arguments; failing means this process leads its session already.
    unsafe { libc::setsid() };
}

/// Descriptors 0, 1 and 2 become `/dev/null`.
pub(crate) fn null_stdio() -> Res<()> {
    let null = open(c"/dev/null", libc::O_RDWR)?;
    for fd in 0..=2 {
        // SAFETY: valid descriptors.
        check(unsafe { libc::dup2(null.as_raw_fd(), fd) })?;
    }
    Ok(())
}

/// Closes every descriptor from 3 on that is not in `keep`. No `OwnedFd` of a closed one may be alive.
pub(crate) fn close_all_but(keep: &[RawFd]) {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&fd| u32::try_from(fd).ok()).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut from = 3_u32;
    for fd in keep {
        if fd > from {
            close_range(from, fd - 1, 0);
        }
        from = fd.saturating_add(1);
    }
    close_range(from, u32::MAX, 0);
}

/// `close_range(2)`; on older kernels the same, one by one. Allocates nothing.
pub(crate) fn close_range(from: u32, to: u32, flags: u32) {
    // SAFETY: plain arguments.
    if unsafe { libc::syscall(libc::SYS_close_range, from, to, flags) } == 0 {
        return;
    }
    for fd in from..=to.min(65_536) {
        let fd = fd.cast_signed();
        // SAFETY: closing or marking a descriptor that may not exist is an error without effect.
        unsafe {
            if flags == 0 {
                libc::close(fd);
            } else {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

pub(crate) fn euid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

pub(crate) fn ruid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::getuid() }
}

pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|s| s.trim().to_owned()).unwrap_or_default()
}

/// Runs `f` in a child and gives back the bytes it returned: for what a long-lived root process must not load.
pub(crate) fn in_child(f: impl FnOnce() -> Vec<u8>) -> Res<Vec<u8>> {
    let (read, write) = pipe()?;
    let Some(pid) = fork()? else {
        let bytes = f();
        let _ = write_all(as_fd(&write), &bytes);
        exit(0);
    };
    drop(write);
    let mut all = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        // SAFETY: a buffer of the length given.
        match check_size(unsafe { libc::read(read.as_raw_fd(), chunk.as_mut_ptr().cast(), chunk.len()) }) {
            Err(Errno(libc::EINTR)) => {}
            Err(_) | Ok(0) => break,
            Ok(n) => all.extend_from_slice(chunk.get(..n).unwrap_or_default()),
        }
    }
    let mut status = 0;
    // SAFETY: our own child.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    Ok(all)
}

// ---- /proc ---------------------------------------------------------------------------------------------------

/// (pid, parent, state, start time in ticks since boot) of a process.
pub(crate) fn proc_stat(pid: i32) -> Option<(i32, char, u64)> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    // The name may contain anything, so fields are counted from its last parenthesis.
    let rest = text.rsplit_once(')')?.1;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((parent, state, start))
}

/// Every living process below `root`, zombies left out; `except` and what is below them too.
pub(crate) fn descendants(root: i32, except: &[i32]) -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok())
            && let Some((parent, state, _)) = proc_stat(pid)
        {
            parents.push((pid, parent, state));
        }
    }
    let mut found = vec![root];
    let mut i = 0;
    while let Some(&at) = found.get(i) {
        let children = parents.iter().filter(|(pid, parent, _)| *parent == at && !except.contains(pid));
        let new: Vec<i32> = children.map(|(pid, _, _)| *pid).filter(|pid| !found.contains(pid)).collect();
        found.extend(new);
        i += 1;
    }
    let zombie = |pid: &i32| parents.iter().any(|(p, _, state)| p == pid && *state == 'Z');
    found.into_iter().skip(1).filter(|pid| !zombie(pid)).collect()
}
