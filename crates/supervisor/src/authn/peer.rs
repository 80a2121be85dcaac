//! The end of a connection, as the kernel sees it: whose uid, and whether a session holds the process that connected.
//!
//! A uid on the socket says who somebody is only where nobody else's programs run under it. Those that sessions run
//! are told apart by two signs that no account can put away: the control group that the launcher starts them in, and
//! the shepherd they all descend from (it reaps what they leave, so a double fork stays below it). Both are read in
//! the supervisor's own view of `/proc`, so namespaces of the process change nothing. Whose session it is, is
//! `inside`'s.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use tokio::net::UnixStream;
use warrant::{KeyId, unhex};

/// The name of the launcher's program, as the kernel shows it.
const LAUNCHER: &str = "stead-launcher";
/// Parents above a process. Who has more of them can't be told.
const DEPTH_MAX: usize = 256;
/// What such a file mostly has room in, in bytes.
const ROOM: usize = 8192;
/// How often a line of parents that changes under our eyes is read again.
const TRIES: usize = 8;

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A process that no session holds.
    Unix { uid: u32 },
    /// A process of a session, or started by one.
    Session { uid: u32, held: Held },
    /// A process of which nobody can say whether a session holds it.
    Untold { uid: u32, why: Untold },
    /// `uid`: whose socket it is, where that is on this machine and the kernel says so.
    Tcp { address: SocketAddr, uid: Option<u32> },
}

/// The session that holds a process, as far as that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// By the key of the launcher's host.
    pub(crate) launcher: Option<KeyId>,
    pub(crate) session: Option<u64>,
}

/// Why a process can't be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Untold {
    /// It connected and ended; whoever has the connection now is another.
    Gone,
    /// `/proc` doesn't show it, or not who is above it.
    Unseen,
}

/// The same of a client's name ([`Peer::client`]), where that is all there is.
pub(crate) fn origin_of(client: &str) -> String {
    if let Some((_, account)) = client.split_once(", ") {
        return account.to_owned();
    }
    match client.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V6(ip)) => format!("{}/64", Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        Ok(IpAddr::V4(ip)) => ip.to_string(),
        Err(_) => client.to_owned(),
    }
}

impl Peer {
    /// Looks at who has just connected.
    pub(crate) fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let peer = stream.peer_cred()?;
        let uid = peer.uid();
        Ok(match look(stream, peer.pid(), uid) {
            Ok(None) => Self::Unix { uid },
            Ok(Some(held)) => Self::Session { uid, held },
            Err(why) => Self::Untold { uid, why },
        })
    }

    /// Nobody is answered by TLS yet.
    pub(crate) const fn is_tls(self) -> bool {
        false
    }

    /// The other end, for people.
    pub(crate) fn client(self) -> String {
        match self {
            Self::Unix { uid } | Self::Session { uid, .. } | Self::Untold { uid, .. } => format!("uid {uid}"),
            Self::Tcp { address, uid: Some(uid) } => format!("{}, uid {uid}", address.ip()),
            Self::Tcp { address, uid: None } => address.ip().to_string(),
        }
    }

    /// The account of this machine at the other end. It says that, and not who asks.
    pub(crate) const fn account(self) -> Option<u32> {
        match self {
            Self::Unix { uid } | Self::Session { uid, .. } | Self::Untold { uid, .. } => Some(uid),
            Self::Tcp { uid, .. } => uid,
        }
    }

    /// Where guesses come from: one account of this machine has all of its loopback, and whoever has one address of an
    /// IPv6 network all of that.
    pub(crate) fn origin(self) -> String {
        origin_of(&self.client())
    }

    pub(crate) const fn channel(self) -> policy::Channel {
        match self {
            Self::Unix { .. } | Self::Untold { .. } => policy::Channel::Unix,
            Self::Session { .. } => policy::Channel::Session,
            Self::Tcp { .. } => policy::Channel::Tcp,
        }
    }
}

/// Whether this account sees in `/proc` what it has to see of others' processes.
pub(crate) fn sees_others() -> bool {
    held_by_descent(Path::new("/proc"), std::process::id()).is_ok()
}

fn look(stream: &UnixStream, pid: Option<i32>, uid: u32) -> Result<Option<Held>, Untold> {
    let handle = handle(stream)?;
    // No number: it is outside of our PID namespace.
    let pid = pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0).ok_or(Untold::Unseen)?;
    let proc = Path::new("/proc");
    let found = held(proc, pid);
    match handle {
        // What was read is of that process only if it lived all the time: its number is another's later.
        Some(handle) if !lives(&handle) => Err(Untold::Gone),
        Some(_) => found,
        None if is_of(proc, pid, uid) => found,
        None => Err(Untold::Gone),
    }
}

/// The process that connected; `None` on kernels before 6.5, where the number of an ended process may be another's.
fn handle(stream: &UnixStream) -> Result<Option<OwnedFd>, Untold> {
    match getsockopt(stream, sockopt::PeerPidfd) {
        Ok(handle) => Ok(Some(handle)),
        Err(Errno::ENOPROTOOPT) => Ok(None),
        Err(Errno::EINVAL | Errno::ESRCH | Errno::ENODATA) => Err(Untold::Gone),
        Err(_) => Err(Untold::Unseen),
    }
}

fn lives(handle: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0)
}

fn is_of(proc: &Path, pid: u32, uid: u32) -> bool {
    Process::read(proc, pid).is_ok_and(|p| p.uids.get(1) == Some(&uid))
}

// ---- the signs -------------------------------------------------------------------------------------------------

fn held(proc: &Path, pid: u32) -> Result<Option<Held>, Untold> {
    match held_by_group(&groups(proc, pid)?) {
        Some(held) => Ok(Some(held)),
        None => held_by_descent(proc, pid),
    }
}

/// The groups of a process; none where the kernel has no such thing.
fn groups(proc: &Path, pid: u32) -> Result<String, Untold> {
    match read(proc, pid, "cgroup") {
        Ok(text) => Ok(text),
        Err(e) if e.kind() == ErrorKind::NotFound && !proc.join("self/cgroup").exists() => Ok(String::new()),
        Err(_) => Err(Untold::Unseen),
    }
}

/// The launcher's groups are `…/stead-KEY/SESSION` in every hierarchy. One is enough: in an old hierarchy an account may
/// be able to move its processes elsewhere. Where they differ, something was moved, and no session is named.
fn held_by_group(groups: &str) -> Option<Held> {
    // NUMBER:CONTROLLERS:PATH; no line break can be in a path.
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut found = paths.filter_map(held_by_path);
    let first = found.next()?;
    Some(if found.all(|held| held == first) { first } else { Held::default() })
}

fn held_by_path(path: &str) -> Option<Held> {
    let mut below = None;
    for part in path.split('/').rev() {
        if let Some(launcher) = key_of(part) {
            return Some(Held { launcher: Some(launcher), session: below.and_then(number) });
        }
        below = Some(part);
    }
    None
}

fn key_of(part: &str) -> Option<KeyId> {
    let hex = part.strip_prefix("stead-")?;
    unhex(hex)?.try_into().ok().map(KeyId)
}

/// As the launcher writes it: digits, and nothing else.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|n: &u64| n.to_string() == text && i64::try_from(*n).is_ok())
}

/// Walks up the parents until there are none, or one is root's launcher.
fn held_by_descent(proc: &Path, pid: u32) -> Result<Option<Held>, Untold> {
    for _ in 0..TRIES {
        match climb(proc, pid)? {
            Climbed::Moved => {}
            Climbed::Top => return Ok(None),
            Climbed::Launcher(held) => return Ok(Some(held)),
        }
    }
    Err(Untold::Unseen)
}

enum Climbed {
    Top,
    Launcher(Held),
    /// A process on the way got another parent meanwhile.
    Moved,
}

fn climb(proc: &Path, pid: u32) -> Result<Climbed, Untold> {
    let (mut at, mut process) = (pid, Process::read(proc, pid)?);
    for _ in 0..DEPTH_MAX {
        let up = process.parent;
        if up == 0 {
            return Ok(Climbed::Top);
        }
        let parent = Process::read(proc, up);
        // Still its child: so that is who was read, and no later process of the same number.
        if Process::read(proc, at).map(|p| p.parent) != Ok(up) {
            return Ok(Climbed::Moved);
        }
        let parent = parent?;
        if parent.is_launcher() {
            return Ok(Climbed::Launcher(shepherded(proc, up)));
        }
        (at, process) = (up, parent);
    }
    Err(Untold::Unseen)
}

/// What a shepherd's title says: `stead-launcher shepherd SESSION KEY`.
fn shepherded(proc: &Path, pid: u32) -> Held {
    let title = read(proc, pid, "cmdline").unwrap_or_default();
    let mut words = title.split('\0').skip_while(|word| *word != "shepherd").skip(1);
    let session = words.next().and_then(number);
    Held { session, launcher: words.next().and_then(|key| unhex(key)?.try_into().ok()).map(KeyId) }
}

/// What `/proc/PID/status` says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    name: String,
    parent: u32,
    /// Real, effective, saved, of files.
    uids: Vec<u32>,
}

impl Process {
    fn read(proc: &Path, pid: u32) -> Result<Self, Untold> {
        read(proc, pid, "status").ok().and_then(|text| Self::parse(&text)).ok_or(Untold::Unseen)
    }

    fn parse(status: &str) -> Option<Self> {
        // A line break in a name is shown as `\n`.
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
        let uids = field("Uid")?.split_ascii_whitespace().map(|uid| uid.parse().ok()).collect::<Option<Vec<_>>>()?;
        (uids.len() == 4).then_some(())?;
        Some(Self { name: field("Name")?.to_owned(), parent: field("PPid")?.trim().parse().ok()?, uids })
    }

    /// The name alone proves nothing: anybody can choose theirs.
    fn is_launcher(&self) -> bool {
        self.name == LAUNCHER && self.uids.iter().all(|uid| *uid == 0)
    }
}

/// Such a file has no size to be asked for: with room for all of it at once it is one call, not ten.
fn read(proc: &Path, pid: u32, file: &str) -> std::io::Result<String> {
    let mut bytes = Vec::with_capacity(ROOM);
    let file = std::fs::File::open(proc.join(pid.to_string()).join(file))?;
    file.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use tokio::net::UnixListener;

    const KEY: KeyId = KeyId([0x0a, 1, 2, 3, 4, 5, 6, 0xff]);
    const ADA: [u32; 4] = [1501; 4];
    const ROOT: [u32; 4] = [0; 4];

    fn is(launcher: Option<KeyId>, session: Option<u64>) -> Option<Held> {
        Some(Held { launcher, session })
    }

    #[test]
    fn the_launchers_groups_are_known_wherever_they_are() {
        let seven = is(Some(KEY), Some(7));
        for (groups, expected) in [
            ("0::/stead-0a010203040506ff/7\n", seven),
            ("0::/system.slice/stead-launcher.service/stead-0a010203040506ff/7\n", seven),
            // Seen from a control group namespace of the supervisor's own.
            ("0::/../../stead-0a010203040506ff/7\n", seven),
            ("4:memory:/stead-0a010203040506ff/7\n0::/\n", seven),
            ("4:memory:/user.slice\n1:name=systemd:/a:b\n0::/stead-0a010203040506ff/7\n", seven),
            // Below it nothing should be; it would be inside all the same.
            ("0::/stead-0a010203040506ff/7/mine\n", seven),
            ("0::/stead-0a010203040506ff/7/stead-0a010203040506ff\n", is(Some(KEY), None)),
            ("0::/stead-0a010203040506ff/8 (deleted)\n", is(Some(KEY), None)),
            ("0::/stead-0a010203040506ff/07\n", is(Some(KEY), None)),
            ("0::/stead-0a010203040506ff/99999999999999999999\n", is(Some(KEY), None)),
            ("0::/stead-0a010203040506ff/18446744073709551615\n", is(Some(KEY), None)),
            ("0::/stead-0a010203040506ff\n", is(Some(KEY), None)),
            ("4:memory:/stead-0a010203040506ff/8\n0::/stead-0a010203040506ff/7\n", is(None, None)),
            ("0::/user.slice/user-1501.slice/session-2.scope\n", None),
            ("0::/stead-launcher.service/7\n", None),
            ("0::/stead-0a01/7\n", None),
            ("0::/mystead-0a010203040506ff/7\n", None),
            ("0::/\n", None),
            ("", None),
            ("nonsense\n::\n", None),
        ] {
            assert_eq!(held_by_group(groups), expected, "{groups}");
        }
    }

    /// A `/proc` of the test's own.
    struct Proc(tempfile::TempDir);

    impl Proc {
        fn new() -> Self {
            let proc = Self(tempfile::tempdir().expect("dir"));
            proc.put("self", "cgroup", "0::/\n");
            proc
        }

        fn put(&self, pid: &str, file: &str, text: &str) {
            std::fs::create_dir_all(self.0.path().join(pid)).expect("a folder");
            std::fs::write(self.0.path().join(pid).join(file), text).expect("written");
        }

        fn process(&self, pid: u32, parent: u32, name: &str, uids: [u32; 4]) {
            let [a, b, c, d] = uids;
            let status = format!("Name:\t{name}\nTgid:\t{pid}\nPPid:\t{parent}\nUid:\t{a}\t{b}\t{c}\t{d}\n");
            self.put(&pid.to_string(), "status", &status);
            self.put(&pid.to_string(), "cgroup", "0::/\n");
        }

        fn held(&self, pid: u32) -> Result<Option<Held>, Untold> {
            held(self.0.path(), pid)
        }
    }

    #[test]
    fn whatever_descends_from_a_shepherd_is_inside() {
        let proc = Proc::new();
        proc.process(1, 0, "init", ROOT);
        proc.process(20, 1, "stead-launcher", ROOT);
        proc.put("20", "cmdline", "stead-launcher\0shepherd\x007\x000a010203040506ff\0\0\0");
        proc.process(21, 20, "stead-session", ADA);
        proc.process(22, 21, "sh", ADA);
        // Its parent has ended: the shepherd took it.
        proc.process(23, 20, "daemon", ADA);
        proc.process(30, 1, "sh", ADA);
        // Anybody may be called so.
        proc.process(31, 1, "stead-launcher", ADA);
        proc.process(32, 31, "sh", ADA);
        proc.process(33, 1, "stead-launcher", [1501, 0, 0, 0]);
        proc.process(34, 33, "sh", ADA);
        // A shepherd that can't be asked which.
        proc.process(40, 1, "stead-launcher", ROOT);
        proc.process(41, 40, "sh", ADA);
        for (pid, expected) in [
            (21, is(Some(KEY), Some(7))),
            (22, is(Some(KEY), Some(7))),
            (23, is(Some(KEY), Some(7))),
            (30, None),
            (32, None),
            (34, None),
            (41, is(None, None)),
            (1, None),
        ] {
            assert_eq!(proc.held(pid), Ok(expected), "{pid}");
        }
    }

    #[test]
    fn what_is_hidden_is_not_outside() {
        let proc = Proc::new();
        assert_eq!(proc.held(7), Err(Untold::Unseen), "no such process, or hidepid=2");
        proc.process(7, 5, "sh", ADA);
        assert_eq!(proc.held(7), Err(Untold::Unseen), "its parent is hidden");
        proc.process(5, 0, "init", ROOT);
        assert_eq!(proc.held(7), Ok(None));
        std::fs::remove_file(proc.0.path().join("7/cgroup")).expect("removed");
        assert_eq!(proc.held(7), Err(Untold::Unseen), "its groups are hidden");
        std::fs::remove_file(proc.0.path().join("self/cgroup")).expect("removed");
        assert_eq!(proc.held(7), Ok(None), "a kernel without control groups");
        proc.put("5", "status", "Name:\tinit\nPPid:\tx\nUid:\t0\t0\t0\t0\n");
        assert_eq!(proc.held(7), Err(Untold::Unseen));
        // A ring, or more parents than anybody has.
        proc.process(5, 7, "sh", ADA);
        assert_eq!(proc.held(7), Err(Untold::Unseen));
    }

    async fn accepted(connect: impl FnOnce(&Path)) -> UnixStream {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        connect(&path);
        listener.accept().await.expect("a connection").0
    }

    #[tokio::test]
    async fn a_process_that_lives_is_told_and_one_that_ended_is_not() {
        let mut ours = None;
        let stream =
            accepted(|path| ours = Some(std::os::unix::net::UnixStream::connect(path).expect("connected"))).await;
        let peer = Peer::of(&stream).expect("a peer");
        assert_eq!(peer.client(), format!("uid {}", nix::unistd::geteuid()));
        assert!(!matches!(peer, Peer::Untold { .. }), "{peer:?}");

        let stream = accepted(|path| {
            let mut child = Command::new(std::env::current_exe().expect("this program"));
            child.args(["--exact", "authn::peer::tests::connects_and_ends"]).env("STEAD_TEST_CONNECT", path);
            assert!(child.output().expect("it runs").status.success());
        });
        let gone = Peer::of(&stream.await).expect("a peer");
        assert!(matches!(gone, Peer::Untold { why: Untold::Gone, .. }), "{gone:?}");
    }

    /// Not a test: what the one above has a process of its own do.
    #[test]
    fn connects_and_ends() {
        if let Some(path) = std::env::var_os("STEAD_TEST_CONNECT") {
            drop(std::os::unix::net::UnixStream::connect(path).expect("connected"));
        }
    }
}
