//! The worker's side of a session, and the shepherd's: what the tests need to play both.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use warrant::files::{FileAnswer, FileRequest, FileWork, Piece, Root};
use warrant::session_wire::{Event, Events, Orders, PACKET_MAX, ToSession};
use warrant::{Batch, Item, SecretKey, Signed, TaskRef};

const FARM: [u8; 16] = [5; 16];
pub(crate) const SESSION: u64 = 31;
pub(crate) const JOB: u64 = 7;
/// No account of any system, and free of processes.
const UNALLOCATED: u32 = 54_321;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn task(index: u64) -> TaskRef {
    TaskRef { step: 2, index, epoch: 3 }
}

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) desktop: bool,
    pub(crate) lease_until: u64,
    pub(crate) orphan_limit_ms: u64,
    /// Started with the session's program as its last argument.
    pub(crate) wrapper: Vec<&'static str>,
    pub(crate) keep_root: bool,
    /// Handed its descriptors as standard input and output, as a desktop worker does.
    pub(crate) adopts: bool,
    /// For file work, with this home.
    pub(crate) files: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            desktop: false,
            lease_until: 0,
            orphan_limit_ms: 600_000,
            wrapper: vec![],
            keep_root: false,
            adopts: false,
            files: None,
        }
    }
}

pub(crate) struct Worker {
    pub(crate) key: SecretKey,
    /// Whether what is received is acknowledged at once.
    pub(crate) acknowledges: bool,
    channel: Option<OwnedFd>,
    /// The shepherd's duplicate, which keeps the channel open.
    shepherd: Option<OwnedFd>,
    child: Child,
    sequence: u64,
    log: Vec<Event>,
    home: tempfile::TempDir,
}

impl Worker {
    pub(crate) fn start(options: &Options) -> Self {
        let key = SecretKey::from_seed(&[7; 32]);
        let home = tempfile::tempdir().unwrap();
        let job_dir = home.path().join("job");
        std::fs::create_dir(&job_dir).unwrap();
        let program = install(home.path());
        let orders = Orders {
            farm: FARM,
            session: SESSION,
            job: JOB,
            keys: vec![SecretKey::from_seed(&[1; 32]).public().to_bytes(), key.public().to_bytes()],
            desktop: options.desktop,
            lease_until: options.lease_until,
            orphan_limit_ms: options.orphan_limit_ms,
        };
        occupy_low_descriptors();
        let (ours, theirs) = channel();
        let memfd = sealed(&orders.encode());

        let mut words: Vec<&std::ffi::OsStr> = options.wrapper.iter().map(std::ffi::OsStr::new).collect();
        words.push(program.as_os_str());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(&job_dir).env_clear().stdin(Stdio::null());
        for (name, value) in BASE {
            command.env(name, value);
        }
        if let Some(home) = &options.files {
            command.env("HOME", home);
        }
        if is_root() && !options.keep_root {
            std::os::unix::fs::chown(&job_dir, Some(UNALLOCATED), Some(UNALLOCATED)).unwrap();
            become_unallocated(&mut command);
        }
        if options.adopts {
            command.args(["adopt", "0027"]);
            command.stdin(theirs.try_clone().unwrap()).stdout(memfd.try_clone().unwrap());
        } else {
            give(&mut command, [(theirs.as_raw_fd(), 3), (memfd.as_raw_fd(), 4)]);
        }
        if options.files.is_some() {
            command.arg("files");
        }
        let child = command.spawn().unwrap();
        let mut worker = Self {
            key,
            acknowledges: true,
            shepherd: Some(ours.try_clone().unwrap()),
            channel: Some(ours),
            child,
            sequence: 0,
            log: vec![],
            home,
        };
        drop((command, theirs, memfd));
        let ready = worker.until(|e| !e.is_empty());
        assert!(matches!(ready[0], Event::Ready { .. }), "{ready:?}");
        worker
    }

    pub(crate) fn job_dir(&self) -> PathBuf {
        self.home.path().join("job")
    }

    /// A file in the session's own folder.
    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.job_dir().join(format!(".stead/{SESSION}")).join(name)
    }

    pub(crate) fn read_own(&self, name: &str) -> String {
        std::fs::read_to_string(self.own(name)).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    // ---- saying ----

    pub(crate) fn send(&self, message: &ToSession) {
        send(self.channel.as_ref().unwrap(), &message.encode(), None);
    }

    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        send(self.channel.as_ref().unwrap(), bytes, None);
    }

    pub(crate) fn send_with(&self, message: &ToSession, fd: &OwnedFd) {
        send(self.channel.as_ref().unwrap(), &message.encode(), Some(fd.as_raw_fd()));
    }

    pub(crate) fn send_signed(&self, signed: &Signed) {
        self.send_with(&ToSession::Batch, &sealed(&signed.encode()));
    }

    /// A right batch with the next number; the number is used up only by [`Worker::batch`].
    pub(crate) fn next_batch(&self, items: Vec<Item>) -> Batch {
        Batch {
            farm: FARM,
            session: SESSION,
            sequence: self.sequence + 1,
            job: JOB,
            not_after: boot_ms() + 600_000,
            env: vec![],
            cwd: None,
            files: vec![],
            items,
        }
    }

    pub(crate) fn batch(&mut self, items: Vec<Item>) -> u64 {
        let batch = self.next_batch(items);
        self.send_batch(&batch)
    }

    pub(crate) fn send_batch(&mut self, batch: &Batch) -> u64 {
        self.sequence = batch.sequence;
        self.send_signed(&batch.sign(&self.key));
        batch.sequence
    }

    /// Sends a batch and receives until it is done.
    pub(crate) fn run(&mut self, items: Vec<Item>) -> Vec<Event> {
        let batch = self.next_batch(items);
        self.run_batch(&batch)
    }

    pub(crate) fn run_batch(&mut self, batch: &Batch) -> Vec<Event> {
        let sequence = self.send_batch(batch);
        self.until(|e| e.contains(&Event::BatchDone { sequence }))
    }

    /// A right request with the next number.
    pub(crate) fn next_request(&self, root: Root, work: FileWork) -> FileRequest {
        let (sequence, not_after) = (self.sequence + 1, boot_ms() + 600_000);
        FileRequest { farm: FARM, session: SESSION, sequence, not_after, root, work }
    }

    /// Has file work done, and receives its answer.
    pub(crate) fn ask(&mut self, root: Root, work: FileWork) -> FileAnswer {
        let request = self.next_request(root, work);
        self.sequence = request.sequence;
        let (sequence, answer) = self.ask_signed(&request.sign(&self.key));
        assert_eq!(sequence, self.sequence);
        answer
    }

    pub(crate) fn ask_signed(&mut self, signed: &Signed) -> (u64, FileAnswer) {
        self.send_with(&ToSession::Files, &sealed(&signed.encode()));
        let mut whole = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no answer");
            let Some(packet) = receive(self.channel.as_ref().unwrap(), Duration::from_millis(200)) else { continue };
            if !Piece::is(&packet) {
                let events = Events::decode(&packet).unwrap();
                self.log.extend(events.events);
                continue;
            }
            let piece = Piece::decode(&packet).unwrap();
            whole.extend(piece.data);
            if piece.last {
                return (piece.sequence, FileAnswer::decode(&whole).unwrap());
            }
        }
    }

    // ---- hearing ----

    /// Number of the last event that was received.
    pub(crate) fn seen(&self) -> u64 {
        self.log.len() as u64
    }

    /// Every event of the session, each once.
    pub(crate) fn log(&self) -> &[Event] {
        &self.log
    }

    /// Goes back to having seen `through` events; what was received is returned.
    pub(crate) fn forget(&mut self, through: usize) -> Vec<Event> {
        let all = self.log.clone();
        self.log.truncate(through);
        all
    }

    pub(crate) fn acknowledge(&self) {
        self.send(&ToSession::Ack { through: self.seen() });
    }

    /// The new events of one packet, or nothing when none comes in time or the session has closed the channel.
    pub(crate) fn receive(&mut self, timeout: Duration) -> Option<Vec<Event>> {
        let packet = receive(self.channel.as_ref().unwrap(), timeout)?;
        if packet.is_empty() {
            return None;
        }
        let Events { first, events } = Events::decode(&packet).unwrap();
        let known = self.seen();
        assert!(first <= known + 1, "events between {known} and {first} were lost");
        let new: Vec<Event> = events.into_iter().skip(usize::try_from(known + 1 - first).unwrap()).collect();
        self.log.extend(new.iter().cloned());
        if self.acknowledges {
            // The session may be gone already.
            let _ = try_send(self.channel.as_ref().unwrap(), &ToSession::Ack { through: self.seen() }.encode(), None);
        }
        Some(new)
    }

    /// Receives until `enough` of the events since this call.
    pub(crate) fn until(&mut self, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let from = self.log.len();
        let deadline = Instant::now() + PATIENCE;
        while !enough(&self.log[from..]) {
            assert!(Instant::now() < deadline, "waited in vain after {:?}", tail(&self.log));
            if self.receive(Duration::from_millis(200)).is_none()
                && let Some(status) = self.child.try_wait().unwrap()
                && self.receive(Duration::ZERO).is_none()
            {
                panic!("the session ended with {status} after {:?}", tail(&self.log));
            }
        }
        self.log[from..].to_vec()
    }

    /// The worker dies; the channel stays open, and another takes over.
    pub(crate) fn replace(&mut self) {
        self.channel = Some(self.shepherd.as_ref().unwrap().try_clone().unwrap());
    }

    /// Worker and shepherd die.
    pub(crate) fn vanish(&mut self) {
        self.channel = None;
        self.shepherd = None;
    }

    // ---- the process ----

    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: takes no pointer; the child has not been reaped, so the number is its own.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    }

    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the session does not end");
            if self.channel.is_none() || self.receive(Duration::from_millis(20)).is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    pub(crate) fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The account's base environment.
const BASE: [(&str, &str); 7] = [
    ("HOME", "/home/ada"),
    ("USER", "ada"),
    ("LOGNAME", "ada"),
    ("SHELL", "/bin/sh"),
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("STEAD_JOB", "7"),
    ("STEAD_TASK", "from below"),
];

fn tail(log: &[Event]) -> &[Event] {
    &log[log.len().saturating_sub(10)..]
}

/// As it is installed: others may run it and not read it.
fn install(home: &Path) -> PathBuf {
    let program = home.join("stead-session");
    std::fs::copy(env!("CARGO_BIN_EXE_stead-session"), &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o711)).unwrap();
    std::fs::set_permissions(home, PermissionsExt::from_mode(0o755)).unwrap();
    program
}

pub(crate) fn is_root() -> bool {
    // SAFETY: never fails and takes nothing.
    unsafe { libc::geteuid() == 0 }
}

/// True when a test has to be skipped. CI has root, so there it is an error.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn skipped_without_root(what: &str) -> bool {
    if is_root() {
        return false;
    }
    assert!(std::env::var_os("CI").is_none(), "CI must run {what} as root");
    eprintln!("skipped: {what} needs root");
    true
}

pub(crate) fn boot_ms() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is valid for writing.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut t) }, 0);
    u64::try_from(t.tv_sec).unwrap() * 1000 + u64::try_from(t.tv_nsec).unwrap() / 1_000_000
}

/// The state letter of a process; nothing when there is none.
pub(crate) fn state_of(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A zombie is dead.
pub(crate) fn is_alive(pid: i32) -> bool {
    state_of(pid).is_some_and(|s| s != 'Z' && s != 'X')
}

pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to be that {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

// ---- descriptors ----

/// So that no descriptor std makes for itself in the child is 3 or 4.
fn occupy_low_descriptors() {
    loop {
        let file = std::fs::File::open("/dev/null").unwrap();
        if file.as_raw_fd() > 4 {
            return;
        }
        std::mem::forget(file);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's session needs an id without privileges, not an account")]
fn become_unallocated(command: &mut Command) {
    command.uid(UNALLOCATED).gid(UNALLOCATED);
}

fn give(command: &mut Command, fds: [(RawFd, RawFd); 2]) {
    let hook = move || {
        for (from, to) in fds {
            // SAFETY: takes no pointer; async-signal-safe.
            if unsafe { libc::dup2(from, to) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the hook only calls dup2 and allocates nothing.
    unsafe { command.pre_exec(hook) };
}

fn owned(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: callers pass a descriptor that a call just made.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

pub(crate) fn channel() -> (OwnedFd, OwnedFd) {
    let mut fds = [-1; 2];
    // SAFETY: room for two descriptors.
    let ok = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) };
    assert_eq!(ok, 0);
    (owned(fds[0]), owned(fds[1]))
}

pub(crate) fn sealed(bytes: &[u8]) -> OwnedFd {
    // SAFETY: the name is NUL-terminated.
    let fd = owned(unsafe { libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) });
    std::io::Write::write_all(&mut std::fs::File::from(fd.try_clone().unwrap()), bytes).unwrap();
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: takes no pointer.
    assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
    fd
}

fn send(channel: &OwnedFd, bytes: &[u8], fd: Option<RawFd>) {
    try_send(channel, bytes, fd).unwrap();
}

fn try_send(channel: &OwnedFd, bytes: &[u8], fd: Option<RawFd>) -> std::io::Result<()> {
    #[repr(align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: zero is a valid msghdr; what it points to lives until sendmsg returns; the control area has room for one
    // descriptor.
    let sent = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if let Some(fd) = fd {
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(4) as _;
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            (*message).cmsg_level = libc::SOL_SOCKET;
            (*message).cmsg_type = libc::SCM_RIGHTS;
            (*message).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(message).cast::<RawFd>().write_unaligned(fd);
        }
        libc::sendmsg(channel.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// One packet; empty when the other end is closed.
fn receive(channel: &OwnedFd, timeout: Duration) -> Option<Vec<u8>> {
    let mut poll = libc::pollfd { fd: channel.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry.
    let ready = unsafe { libc::poll(&raw mut poll, 1, i32::try_from(timeout.as_millis()).unwrap()) };
    if ready <= 0 {
        return None;
    }
    let mut buf = vec![0; PACKET_MAX + 1];
    // SAFETY: `buf` is valid for writing its length.
    let n = unsafe { libc::recv(channel.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), 0) };
    buf.truncate(usize::try_from(n).unwrap_or(0));
    assert!(buf.len() <= PACKET_MAX);
    Some(buf)
}

pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
