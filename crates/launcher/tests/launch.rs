//! The real launcher, on accounts that exist only in a mount namespace of each test's own.
//!
//! The session is this test program itself: started under the name `stead-session`, it obeys packets on its
//! channel. Needs root; in CI not being root is a failure.

#![allow(clippy::print_stdout, reason = "a skipped test says so")]

#[path = "../src/sys.rs"]
#[allow(dead_code, unused_macros, unused_imports, reason = "the launcher's own room, of which a part is used")]
mod sys;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use sys::{Received, as_fd};
use warrant::launcher_wire::{FromLauncher, RefusalKind, ToLauncher};
use warrant::session_wire::{ORDERS_FD, Orders};
use warrant::{
    Account, AccountName, Fact, Limits, LoginUser, Mode, Proof, PublicKey, Purpose, Renewal, SealingKeyOf, Secret,
    SecretKey, SessionEnd, Signed, User, Warrant, hex, seal, sha256, unhex,
};

// ---- the other lives of this program -------------------------------------------------------------------------------

/// Runs before the test harness: under the name of one of the farm's programs this is that program.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn(i32, *const *const libc::c_char) = before_main;

extern "C" fn before_main(count: i32, argv: *const *const libc::c_char) {
    let word = |i: i32| {
        // SAFETY: the C library passes `count` arguments.
        (i < count).then(|| unsafe { std::ffi::CStr::from_ptr(*argv.offset(i as isize)) }.to_bytes().to_vec())
    };
    match (word(0).as_deref(), word(1).as_deref()) {
        (Some(b"stead-session"), None) => fake_session(),
        (Some(b"stead-session"), Some(b"clean")) => fake_clean(),
        (Some(b"stead"), Some(b"supervisor" | b"worker")) => loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        },
        _ => {}
    }
}

fn fake_session() -> ! {
    let mut buffer = [0_u8; 256];
    loop {
        // SAFETY: the channel is descriptor 3.
        let n = unsafe { libc::recv(3, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let order = usize::try_from(n).ok().and_then(|n| buffer.get(..n)).unwrap_or_default();
        let answer = match order {
            b"" => sys::exit(9),
            b"exit" => sys::exit(7),
            // SAFETY: ends this process.
            b"crash" => unsafe { libc::abort() },
            b"tree" => tree(),
            b"hog" => hog(),
            b"child-hog" => child_hog(),
            b"orders" => orders(),
            b"touch" => format!("{:?}", fs::write("file", "x").map_err(|e| e.kind())),
            other => match other.strip_prefix(b"write ").map(std::str::from_utf8) {
                Some(Ok(path)) => format!("{:?}", fs::write(path, "x").map_err(|e| e.kind())),
                _ => "pong".to_owned(),
            },
        };
        // SAFETY: a buffer and its length.
        unsafe { libc::send(3, answer.as_ptr().cast(), answer.len(), libc::MSG_NOSIGNAL) };
    }
}

/// Three generations, each in its own session, deaf to polite signals.
fn tree() -> String {
    for _ in 0..3 {
        // SAFETY: this process has one thread.
        if unsafe { libc::fork() } == 0 {
            // SAFETY: plain arguments.
            unsafe {
                libc::setsid();
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                if libc::fork() == 0 {
                    libc::setsid();
                    loop {
                        libc::pause();
                    }
                }
            }
            sys::exit(0);
        }
    }
    "grown".to_owned()
}

fn hog() -> ! {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
    }
}

/// What a task would do: its end is the session's to tell.
fn child_hog() -> String {
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        hog();
    }
    let mut status = 0;
    // SAFETY: one number for the result.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    format!("{:?}", sys::ending(status))
}

fn orders() -> String {
    let mut bytes = vec![0_u8; 4096];
    // SAFETY: a buffer and its length.
    let n = unsafe { libc::pread(ORDERS_FD, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    bytes.truncate(usize::try_from(n).unwrap_or(0));
    // SAFETY: one byte; a sealed file refuses it.
    let written = unsafe { libc::pwrite(ORDERS_FD, bytes.as_ptr().cast(), 1, 0) };
    let orders = Orders::decode(&bytes);
    format!("{:?} {written}", orders.map(|o| (o.session, o.job, o.keys.len(), o.desktop, o.orphan_limit_ms)))
}

fn fake_clean() -> ! {
    for entry in fs::read_dir(".").into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
    sys::exit(0)
}

// ---- the stage -----------------------------------------------------------------------------------------------------

const PASSWD: &str = "\
root:x:0:0::/root:/bin/sh
sys:x:5:5::/:/bin/sh
ada:x:1501:1501::/home/ada:/bin/sh
bob:x:1502:1502::/home/bob:/bin/sh
qubeproxy:x:1503:1503::/var/empty:/usr/sbin/nologin
root2:x:0:0::/root:/bin/sh
rootgroup:x:1510:0::/home/x:/bin/sh
nobody:x:65534:65534::/none:/bin/sh
nologin:x:1511:1511::/home/x:/usr/sbin/nologin
nohome:x:1512:1512:::/bin/sh
noshell:x:1513:1513::/home/x:
expired:x:1514:1514::/home/x:/bin/sh
denied:x:1515:1515::/home/x:/bin/sh
1501:x:1516:1516::/home/x:/bin/sh
worker:x:1700:1700::/home/x:/bin/sh
shadowy:x:1517:1042::/home/x:/bin/sh
";
const GROUP: &str = "\
root:x:0:
ada:x:1501:
bob:x:1502:
film:x:1601:ada
sudo:x:1027:ada
shadow:x:1042:
";
const SHADOW: &str = "ada:!:19000::::::\nexpired:*:19000:::::1:\n";
const FARM: [u8; 16] = [7; 16];
const WORKER_UID: u32 = 1700;

fn root_or_skip() -> bool {
    if sys::euid() == 0 {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "these tests need root, and CI must run them");
    println!("skipped: needs root");
    false
}

fn mount(from: &Path, to: &str, flags: libc::c_ulong) {
    let from = sys::cstr(from.as_os_str().as_encoded_bytes()).expect("path");
    let to = sys::cstr(to).expect("path");
    // SAFETY: NUL-terminated strings.
    let ret = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), c"".as_ptr(), flags, std::ptr::null()) };
    assert_eq!(ret, 0, "mount {from:?} {to:?}: {}", sys::last());
}

/// A private world: the accounts of [`PASSWD`], and a farm's folder.
struct Stage {
    dir: tempfile::TempDir,
    supervisor: SecretKey,
    launcher: Option<Child>,
    strace: Vec<String>,
    extra: Vec<String>,
    sequence: u64,
    /// Sessions of tests that run at the same time have other numbers.
    base: u64,
}

impl Stage {
    fn new() -> Self {
        // SAFETY: moves this thread, and what it starts, into a mount namespace of its own.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "unshare: {}", sys::last());
        mount(Path::new("none"), "/", libc::MS_REC | libc::MS_PRIVATE);
        let open = fs::Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new().prefix("stead-launch-").permissions(open).tempdir().expect("dir");
        for (name, text) in [
            ("passwd", PASSWD),
            ("group", GROUP),
            ("shadow", SHADOW),
            ("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\n"),
        ] {
            let file = dir.path().join(name);
            fs::write(&file, text).expect("file");
            mount(&file, &format!("/etc/{name}"), libc::MS_BIND);
        }
        for (name, mode) in [("launcher", 0o700), ("run", 0o755), ("work", 0o711)] {
            fs::create_dir(dir.path().join(name)).expect("folder");
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).expect("mode");
        }
        let supervisor = SecretKey::from_seed(&[42; 32]);
        let public = hex(&supervisor.public().to_bytes());
        fs::write(dir.path().join("launcher/trusted.keys"), format!("# ours\n{public}\n")).expect("keys");
        fs::write(dir.path().join("launcher/farm"), hex(&FARM)).expect("farm");
        let mut stage = Self {
            dir,
            supervisor,
            launcher: None,
            strace: Vec::new(),
            extra: Vec::new(),
            sequence: 0,
            base: u32::from_le_bytes(sys::random().expect("random")).into(),
        };
        stage.conf("denied_accounts = denied\n");
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn conf(&mut self, text: &str) {
        fs::write(self.path("launcher.conf"), text).expect("conf");
    }

    fn command(&self) -> Command {
        let launcher = env!("CARGO_BIN_EXE_stead-launcher");
        let mut command = match self.strace.split_first() {
            None => Command::new(launcher),
            Some((first, rest)) => {
                let mut c = Command::new(first);
                c.args(rest).arg(launcher);
                c
            }
        };
        command
            .args(["serve", "--hosted", "--worker-uid"])
            .arg(WORKER_UID.to_string())
            .arg("--data")
            .arg(self.dir.path());
        command.arg("--session").arg(std::env::current_exe().expect("exe"));
        command.arg("--conf").arg(self.path("launcher.conf")).args(["--worker", "w1"]).args(&self.extra);
        // Whatever the launcher inherits must not reach a session.
        command.env("CANARY", "secret").stdin(Stdio::null());
        command
    }

    /// Starts the launcher and says hello.
    fn start(&mut self) -> Worker {
        let child = self.command().spawn().expect("launcher");
        self.launcher = Some(child);
        self.connect()
    }

    fn connect(&mut self) -> Worker {
        let run = fs::File::open(self.path("run")).expect("run");
        let conn = until("the launcher listens", || {
            let child = self.launcher.as_mut().expect("started");
            assert!(child.try_wait().expect("wait").is_none(), "the launcher ended");
            sys::connect_at(std::os::fd::AsFd::as_fd(&run), "launcher.socket").ok()
        });
        Worker::hello(conn)
    }

    /// `kill -9`, and all that is left of it collected.
    fn kill_launcher(&mut self) {
        if let Some(mut child) = self.launcher.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    fn warrant(&mut self, worker: &Worker, account: &str) -> Warrant {
        self.sequence += 1;
        let login_user = LoginUser::parse("ada").expect("name");
        Warrant {
            farm: FARM,
            worker: "w1".into(),
            incarnation: worker.incarnation,
            sequence: self.sequence,
            not_after: sys::boot_ms() + 60_000,
            lease_until: sys::boot_ms() + 60_000,
            purpose: Purpose::Run,
            session: self.base + self.sequence,
            job: 500 + self.sequence,
            user: User::themself(&login_user),
            login_user,
            account: Account::Named { name: AccountName::parse(account).expect("name"), uid: None },
            mode: Mode::User,
            shared: false,
            grant: None,
            policy_version: [0; 32],
            limits: Limits::default(),
            umask: 0o027,
            submitter_signature: Vec::new(),
            password: None,
        }
    }

    fn launch(&self, worker: &mut Worker, warrant: &Warrant) -> (FromLauncher, Vec<OwnedFd>) {
        worker.ask(&ToLauncher::Launch { id: 5, warrant: warrant.sign(&self.supervisor) })
    }

    fn launched(&self, worker: &mut Worker, warrant: &Warrant) -> Started {
        let (answer, fds) = self.launch(worker, warrant);
        assert_eq!(answer, FromLauncher::Launched { id: 5, session: warrant.session });
        Started::new(worker, fds)
    }

    fn refused(&self, worker: &mut Worker, warrant: &Warrant) -> (RefusalKind, String) {
        let (answer, fds) = self.launch(worker, warrant);
        let FromLauncher::Refused { kind, stage, text, hint, session, .. } = answer else { panic!("{answer:?}") };
        assert!(!text.is_empty() && !hint.is_empty(), "{stage}");
        assert_eq!(fds.len(), usize::from(kind != RefusalKind::Warrant), "{stage}");
        if let Some(fd) = fds.first() {
            let proof = worker.proof(fd);
            assert!(matches!(&proof.fact, Fact::Refused { stage: s, .. } if *s == stage), "{proof:?}");
            assert_eq!(session, warrant.session);
        }
        assert_eq!(processes_of(warrant.session), [0; 0], "{stage}: something was executed");
        (kind, stage)
    }

    /// Every record of the log, its chain and signatures checked.
    fn log(&self, host: &PublicKey) -> Vec<Proof> {
        let text = fs::read_to_string(self.path("launcher/log/launches")).expect("log");
        let mut hash = [0; 32];
        let mut proofs = Vec::new();
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            let bytes = unhex(words[2]).expect("hex");
            let signed = Signed::decode(&bytes, 1 << 20).expect("signed");
            let proof = Proof::open(&signed, std::slice::from_ref(host)).expect("by this host");
            assert_eq!((proof.log_previous, words[0].parse()), (hash, Ok(proof.log_sequence)));
            hash = sha256(&[&hash, &bytes]);
            assert_eq!(words[1], hex(&hash));
            proofs.push(proof);
        }
        let mode = fs::metadata(self.path("launcher/log/launches")).expect("log").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        proofs
    }
}

impl Drop for Stage {
    /// Nothing of a test outlives it, whatever happened.
    fn drop(&mut self) {
        let below = fs::read_dir(self.path("launcher/sessions")).into_iter().flatten().flatten();
        let sessions: Vec<u64> =
            below.filter_map(|e| e.file_name().to_str()?.strip_suffix(".sock")?.parse().ok()).collect();
        if let Some(child) = &self.launcher {
            for pid in shepherds(child.id()) {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
        }
        self.kill_launcher();
        for session in sessions {
            for pid in processes_of(session).into_iter().chain(titled(session)) {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
        }
        self.remove_groups();
    }
}

impl Stage {
    /// A launcher that is killed leaves its empty control groups to the next one; here there is none.
    fn remove_groups(&self) {
        let Ok(seed) = fs::read_to_string(self.path("launcher/host.key")) else { return };
        let seed = unhex(seed.trim()).and_then(|s| s.try_into().ok()).expect("seed");
        let name = format!("stead-{}", hex(&SecretKey::from_seed(&seed).public().id().0));
        let deadline = Instant::now() + Duration::from_secs(5);
        for group in folders(Path::new("/sys/fs/cgroup"), &name, 5) {
            while fs::read_dir(&group).is_ok() && Instant::now() < deadline {
                for below in fs::read_dir(&group).into_iter().flatten().flatten() {
                    let _ = fs::remove_dir(below.path());
                }
                let _ = fs::remove_dir(&group);
            }
        }
    }
}

/// The folders called `name` below `dir`.
fn folders(dir: &Path, name: &str, depth: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name() == name {
            found.push(entry.path());
        } else if depth > 0 && entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(folders(&entry.path(), name, depth - 1));
        }
    }
    found
}

/// Polls, with a deadline.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pids() -> Vec<i32> {
    fs::read_dir("/proc").expect("proc").flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Living processes whose environment names the session.
fn processes_of(session: u64) -> Vec<i32> {
    let mark = format!("STEAD_SESSION={session}");
    let has = |pid: &i32| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|e| e.split(|b| *b == 0).any(|v| v == mark.as_bytes()))
            && sys::proc_stat(*pid).is_some_and(|(_, state, _)| state != 'Z')
    };
    pids().into_iter().filter(has).collect()
}

/// The shepherd of a session, by the title it shows.
fn titled(session: u64) -> Vec<i32> {
    let title = format!("stead-launcher\0shepherd\0{session}\0");
    let has = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.starts_with(title.as_bytes()));
    pids().into_iter().filter(has).collect()
}

fn shepherds(launcher: u32) -> Vec<i32> {
    let launcher = i32::try_from(launcher).expect("pid");
    pids().into_iter().filter(|p| sys::proc_stat(*p).is_some_and(|(parent, ..)| parent == launcher)).collect()
}

struct Worker {
    conn: OwnedFd,
    incarnation: [u8; 16],
    host: PublicKey,
    sessions: Vec<u64>,
    abilities: warrant::launcher_wire::HostAbilities,
    sealing_key: Option<Signed>,
    /// Ends that came while something else was waited for.
    ends: Vec<(u64, Proof)>,
}

impl Worker {
    fn hello(conn: OwnedFd) -> Self {
        sys::send(as_fd(&conn), &ToLauncher::Hello { id: 1 }.encode(), &[]).expect("hello");
        let (answer, _) = receive(&conn).expect("welcome");
        let FromLauncher::Welcome { id: 1, incarnation, tick, host_key, abilities, sealing_key, sessions } = answer
        else {
            panic!("{answer:?}");
        };
        assert!(tick <= sys::boot_ms());
        let host = PublicKey::from_bytes(&host_key).expect("key");
        Self { conn, incarnation, host, sessions, abilities, sealing_key, ends: Vec::new() }
    }

    fn proof(&self, fd: &OwnedFd) -> Proof {
        let bytes = sys::read_from(as_fd(fd), 0, 1 << 20).expect("memfd");
        let signed = Signed::decode(&bytes, 1 << 20).expect("signed");
        Proof::open(&signed, std::slice::from_ref(&self.host)).expect("by this host")
    }

    fn next(&mut self) -> Option<(FromLauncher, Vec<OwnedFd>)> {
        let (message, fds) = receive(&self.conn)?;
        if let FromLauncher::Ended { session } = message {
            self.ends.push((session, self.proof(&fds[0])));
        }
        Some((message, fds))
    }

    fn ask(&mut self, request: &ToLauncher) -> (FromLauncher, Vec<OwnedFd>) {
        sys::send(as_fd(&self.conn), &request.encode(), &[]).expect("sent");
        loop {
            let answer = self.next().expect("an answer");
            if !matches!(answer.0, FromLauncher::Ended { .. }) {
                return answer;
            }
        }
    }

    fn end_of(&mut self, session: u64) -> (SessionEnd, u64, u64) {
        loop {
            if let Some((_, proof)) = self.ends.iter().find(|(s, _)| *s == session) {
                let Fact::Ended { end, cpu_us, max_rss } = proof.fact else { panic!("{proof:?}") };
                assert_eq!((proof.worker.as_str(), proof.session), ("w1", session));
                return (end, cpu_us, max_rss);
            }
            self.next().expect("an end");
        }
    }
}

/// The next packet; `None` when the launcher closed the connection.
fn receive(conn: &OwnedFd) -> Option<(FromLauncher, Vec<OwnedFd>)> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        sys::wait_readable(&[conn.as_raw_fd()], Some(1000)).expect("poll");
        match sys::receive(as_fd(conn), 64 << 10, 2).expect("receive") {
            Received::Packet(bytes, fds) => return Some((FromLauncher::decode(&bytes).expect("answer"), fds)),
            Received::Closed => return None,
            Received::Oversized => panic!("oversized"),
            Received::Nothing => assert!(Instant::now() < deadline, "no answer"),
        }
    }
}

/// A session that runs.
struct Started {
    channel: OwnedFd,
    proof: Proof,
    pid: i32,
    run_as: warrant::RunAs,
}

impl Started {
    fn new(worker: &Worker, fds: Vec<OwnedFd>) -> Self {
        let [channel, proof]: [OwnedFd; 2] = fds.try_into().expect("two descriptors");
        let proof = worker.proof(&proof);
        let Fact::Started { pid, ref run_as, .. } = proof.fact else { panic!("{proof:?}") };
        Self { channel, pid: pid.cast_signed(), run_as: run_as.clone(), proof }
    }

    fn order(&self, order: &str) {
        sys::send(as_fd(&self.channel), order.as_bytes(), &[]).expect("order");
    }

    fn say(&self, order: &str) -> String {
        self.order(order);
        until(order, || match sys::receive(as_fd(&self.channel), 4096, 0).expect("receive") {
            Received::Packet(bytes, _) => Some(String::from_utf8(bytes).expect("text")),
            Received::Nothing => None,
            Received::Closed | Received::Oversized => panic!("the session is gone"),
        })
    }

    fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("status");
        let mut lines = status.lines().filter_map(|l| l.split_once(':'));
        lines.find(|(k, _)| *k == field).expect(field).1.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn link(&self, name: &str) -> PathBuf {
        fs::read_link(format!("/proc/{}/{name}", self.pid)).expect(name)
    }
}

// ---- identity ------------------------------------------------------------------------------------------------------

#[test]
fn a_session_is_exactly_its_account() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    let warrant = stage.warrant(&worker, "ada");
    let session = stage.launched(&mut worker, &warrant);
    assert_eq!(session.say("hi"), "pong");

    for (field, want) in [
        ("Uid", "1501 1501 1501 1501"),
        ("Gid", "1501 1501 1501 1501"),
        ("Groups", "1501 1601"), // sudo is stripped
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "0"),
        ("SigBlk", "0000000000000000"),
        ("SigIgn", "0000000000000000"),
        ("Umask", "0027"),
        ("Threads", "1"),
    ] {
        assert_eq!(session.status(field), want, "{field}");
    }
    let run_as = &session.run_as;
    assert_eq!((run_as.name.as_str(), run_as.uid, run_as.gid, &*run_as.groups), ("ada", 1501, 1501, &[1501, 1601][..]));
    assert_eq!(session.proof.job, warrant.job);

    let environ = fs::read(format!("/proc/{}/environ", session.pid)).expect("environ");
    let environ: Vec<String> =
        environ.split(|b| *b == 0).filter(|v| !v.is_empty()).map(|v| String::from_utf8_lossy(v).into()).collect();
    assert_eq!(
        environ,
        [
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "HOME=/home/ada",
            "USER=ada",
            "LOGNAME=ada",
            "SHELL=/bin/sh",
            "LANG=C.UTF-8",
            &format!("STEAD_JOB={}", warrant.job),
            &format!("STEAD_SESSION={}", warrant.session),
        ]
    );

    let fds: BTreeSet<String> = fs::read_dir(format!("/proc/{}/fd", session.pid))
        .expect("fd")
        .map(|e| e.expect("entry").file_name().into_string().expect("number"))
        .collect();
    assert_eq!(fds, ["0", "1", "2", "3", "4"].map(str::to_owned).into());
    for fd in 0..3 {
        assert_eq!(session.link(&format!("fd/{fd}")), Path::new("/dev/null"));
    }
    let orders = session.say("orders");
    let want = format!("Ok(({}, {}, 1, false, 600000)) -1", warrant.session, warrant.job);
    assert_eq!(orders, want, "readable and sealed");

    let folder = stage.path(&format!("work/{}", warrant.job));
    assert_eq!(session.link("cwd"), folder);
    let meta = fs::metadata(&folder).expect("folder");
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1501, 1501, 0o700));
    assert_eq!(session.say("touch"), "Ok(())");
    let file = fs::metadata(folder.join("file")).expect("file");
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (1501, 1501, 0o640));

    let limits = fs::read_to_string(format!("/proc/{}/limits", session.pid)).expect("limits");
    assert!(limits.lines().any(|l| l.starts_with("Max core file size") && l.contains(" 0 ")), "{limits}");
    let stat = fs::read_to_string(format!("/proc/{}/stat", session.pid)).expect("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    assert_eq!((fields[3], fields[4]), (&*session.pid.to_string(), "0"), "own session, no terminal");
    if let Ok(id) = fs::read_to_string(format!("/proc/{}/loginuid", session.pid)) {
        assert_eq!(id, "1501");
    }
    assert_eq!(titled(warrant.session).len(), 1, "the shepherd says whose it is");

    session.order("exit");
    let (end, ..) = worker.end_of(warrant.session);
    assert_eq!(end, SessionEnd::Exited(7));
    let facts = stage.log(&worker.host);
    assert!(matches!(facts[0].fact, Fact::Started { .. }) && matches!(facts[1].fact, Fact::Ended { .. }));
    assert_eq!(facts.len(), 2);
}

#[test]
fn every_bad_account_is_refused_by_its_rule() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    use RefusalKind::{Account as Unfit, BadLogin, LocalPolicy};
    let cases = [
        ("nosuch", Unfit, "account_unknown"),
        ("root", LocalPolicy, "uid_zero"),
        ("root2", LocalPolicy, "uid_zero"),
        ("rootgroup", LocalPolicy, "gid_zero"),
        ("nobody", LocalPolicy, "id_reserved"),
        ("sys", LocalPolicy, "uid_below_floor"),
        ("nologin", BadLogin, "account_nologin"),
        ("nohome", Unfit, "account_without_home"),
        ("noshell", Unfit, "account_without_shell"),
        ("expired", BadLogin, "account_expired"),
        ("denied", LocalPolicy, "account_denied"),
        ("worker", LocalPolicy, "service_account"),
        ("shadowy", LocalPolicy, "group_denied"),
    ];
    for (account, kind, rule) in cases {
        let warrant = stage.warrant(&worker, account);
        assert_eq!(stage.refused(&mut worker, &warrant), (kind, rule.to_owned()), "{account}");
        assert!(!stage.path(&format!("work/{}", warrant.job)).exists(), "{account}: a folder was made");
    }
    let mut other_uid = stage.warrant(&worker, "ada");
    other_uid.account = Account::Named { name: AccountName::parse("ada").expect("name"), uid: Some(1502) };
    assert_eq!(stage.refused(&mut worker, &other_uid), (Unfit, "uid_mismatch".into()));
    let mut throwaway = stage.warrant(&worker, "ada");
    throwaway.account = Account::Throwaway;
    assert_eq!(stage.refused(&mut worker, &throwaway), (LocalPolicy, "throwaway_not_allowed".into()));
    let mut desktop = stage.warrant(&worker, "ada");
    desktop.mode = Mode::Desktop;
    assert_eq!(stage.refused(&mut worker, &desktop), (LocalPolicy, "mode_not_allowed".into()));
    assert_eq!(stage.log(&worker.host).len(), cases.len() + 3, "every refusal is logged");

    // A name of digits is a name.
    let digits = stage.warrant(&worker, "1501");
    assert_eq!(stage.launched(&mut worker, &digits).run_as.uid, 1516);
}

/// `hesiod`, which is part of the C library, has no server anywhere: an outage.
#[test]
fn an_outage_is_seen_wherever_in_its_order_a_service_stands() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    let conf = stage.path("nsswitch.conf");
    for (database, services, account) in [
        ("passwd", "files hesiod", "nosuch"),
        ("passwd", "hesiod files", "nosuch"),
        ("passwd", "hesiod [!SUCCESS=continue] files", "nosuch"),
        // Whose groups nobody knows all of.
        ("group", "files hesiod", "ada"),
        ("group", "hesiod files", "ada"),
        ("initgroups", "hesiod files", "ada"),
        // She is in the files, which are not asked.
        ("passwd", "hesiod", "ada"),
    ] {
        let rest = ["passwd", "group", "shadow"].into_iter().filter(|d| *d != database);
        let rest: String = rest.map(|d| format!("{d}: files\n")).collect();
        fs::write(&conf, format!("{database}: {services}\n{rest}")).expect("nsswitch.conf");
        let warrant = stage.warrant(&worker, account);
        let FromLauncher::Refused { kind, stage: rule, text, .. } = stage.launch(&mut worker, &warrant).0 else {
            panic!("{database}: {services}: not refused");
        };
        assert_eq!((kind, rule.as_str()), (RefusalKind::Transient, "directory"), "{database}: {services}: {text}");
        assert!(text.contains("service hesiod"), "which one is said: {text}");
    }
    // What isn't installed has nobody.
    fs::write(&conf, "passwd: stead_none files\ngroup: files stead_none\nshadow: stead_none files\n").expect("conf");
    let nosuch = stage.warrant(&worker, "nosuch");
    assert_eq!(stage.refused(&mut worker, &nosuch), (RefusalKind::Account, "account_unknown".into()));
    let ada = stage.warrant(&worker, "ada");
    assert_eq!(stage.launched(&mut worker, &ada).run_as.uid, 1501);
}

#[test]
fn a_folder_of_another_account_is_never_given_away() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    let make = |stage: &mut Stage, worker: &Worker, plant: &dyn Fn(&Path)| {
        let warrant = stage.warrant(worker, "ada");
        plant(&stage.path(&format!("work/{}", warrant.job)));
        warrant
    };
    let of_bob = make(&mut stage, &worker, &|p| {
        fs::create_dir(p).expect("dir");
        std::os::unix::fs::chown(p, Some(1502), Some(1502)).expect("chown");
    });
    let of_root = make(&mut stage, &worker, &|p| fs::create_dir(p).expect("dir"));
    let link = make(&mut stage, &worker, &|p| std::os::unix::fs::symlink("/etc", p).expect("link"));
    let file = make(&mut stage, &worker, &|p| fs::write(p, "").expect("file"));
    for warrant in [of_root, link, file] {
        assert_eq!(stage.refused(&mut worker, &warrant), (RefusalKind::Stage, "job_folder".into()));
    }
    assert_eq!(fs::metadata("/etc").expect("etc").uid(), 0);
    // The job went on as another account: it has a folder of its own, also after the first one is gone.
    let (shared, own) = (format!("work/{}", of_bob.job), format!("work/{}.1501", of_bob.job));
    stage.launched(&mut worker, &of_bob).order("exit");
    worker.end_of(of_bob.session);
    assert_eq!([&shared, &own].map(|p| fs::metadata(stage.path(p)).expect("a folder").uid()), [1502, 1501]);
    fs::remove_dir(stage.path(&shared)).expect("removed");
    for purpose in [Purpose::Run, Purpose::Clean] {
        let mut again = stage.warrant(&worker, "ada");
        (again.job, again.purpose) = (of_bob.job, purpose);
        let session = stage.launched(&mut worker, &again);
        if purpose == Purpose::Run {
            assert_eq!([&shared, &own].map(|p| stage.path(p).exists()), [false, true]);
            session.order("exit");
        }
        worker.end_of(again.session);
    }
    assert!(!stage.path(&own).exists());

    // Its own is entered again, by a second session of the job.
    let first = stage.warrant(&worker, "ada");
    stage.launched(&mut worker, &first);
    let mut second = stage.warrant(&worker, "ada");
    second.job = first.job;
    stage.launched(&mut worker, &second);
}

#[test]
fn a_void_warrant_starts_nothing() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    type Change = fn(&mut Warrant);
    let cases: [(&str, Change); 5] = [
        ("warrant_farm", |w| w.farm = [0; 16]),
        ("warrant_worker", |w| w.worker = "w2".into()),
        ("warrant_incarnation", |w| w.incarnation = [0; 16]),
        ("warrant_expired", |w| w.not_after = 1),
        ("warrant_lease", |w| w.lease_until = 1),
    ];
    for (rule, change) in cases {
        let mut warrant = stage.warrant(&worker, "ada");
        change(&mut warrant);
        assert_eq!(stage.refused(&mut worker, &warrant), (RefusalKind::Warrant, rule.to_owned()));
    }
    let good = stage.warrant(&worker, "ada");
    for signed in [
        good.sign(&SecretKey::from_seed(&[1; 32])),
        Signed { key: stage.supervisor.public().id(), ..good.sign(&SecretKey::from_seed(&[1; 32])) },
        Signed { bytes: stage.warrant(&worker, "bob").sign(&stage.supervisor).bytes, ..good.sign(&stage.supervisor) },
    ] {
        let (answer, _) = worker.ask(&ToLauncher::Launch { id: 5, warrant: signed });
        assert!(
            matches!(&answer, FromLauncher::Refused { kind: RefusalKind::Warrant, stage, .. } if stage == "warrant_signature"),
            "{answer:?}"
        );
    }
    let session = stage.launched(&mut worker, &good);
    for _ in 0..2 {
        let (answer, _) = stage.launch(&mut worker, &good);
        assert!(matches!(&answer, FromLauncher::Refused { stage, .. } if stage == "warrant_used"), "{answer:?}");
    }
    let mut replayed = good.clone();
    replayed.session += 1000;
    let (answer, _) = stage.launch(&mut worker, &replayed);
    assert!(matches!(answer, FromLauncher::Refused { stage, .. } if stage == "warrant_used"));
    assert_eq!(session.say("hi"), "pong");

    // Older than the launcher's start.
    stage.kill_launcher();
    let stale = stage.warrant(&worker, "ada");
    let mut worker = stage.start();
    assert_eq!(stage.refused(&mut worker, &stale), (RefusalKind::Warrant, "warrant_incarnation".into()));
}

#[test]
fn a_shared_account_gets_a_world_of_its_own() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    stage.extra = vec!["--throwaway".into(), "61999".into()];
    let mut worker = stage.start();
    assert!(worker.abilities.throwaway);
    let mut proxy = stage.warrant(&worker, "qubeproxy");
    (proxy.mode, proxy.shared) = (Mode::Proxy, true);
    let mut throwaway = stage.warrant(&worker, "ada");
    (throwaway.mode, throwaway.account) = (Mode::Proxy, Account::Throwaway);
    for (warrant, uid) in [(proxy, 1503), (throwaway, 61_999)] {
        let session = stage.launched(&mut worker, &warrant);
        assert_eq!((session.run_as.uid, &*session.run_as.groups), (uid, &[uid][..]));
        assert_eq!(session.status("NSpid").split(' ').next_back(), Some("1"), "first of its namespace");
        assert_eq!((session.status("NoNewPrivs"), session.status("CapBnd")), ("1".into(), "0".repeat(16)));
        for ns in ["ns/pid", "ns/mnt", "ns/ipc"] {
            assert_ne!(session.link(ns), fs::read_link(format!("/proc/self/{ns}")).expect(ns), "{ns}");
        }
        let private = format!("/tmp/stead-of-session-{}", warrant.session);
        assert_eq!(session.say(&format!("write {private}")), "Ok(())");
        assert!(!Path::new(&private).exists(), "/tmp is private");
        // The job's folder lies in /tmp here, and is seen all the same.
        assert_eq!(session.say("touch"), "Ok(())");
        let file = stage.path(&format!("work/{}/file", warrant.job));
        assert_eq!(fs::metadata(file).expect("file").uid(), uid);
        session.say("tree");
        session.order("exit");
        assert_eq!(worker.end_of(warrant.session).0, SessionEnd::Exited(7));
        assert_eq!(processes_of(warrant.session), [0; 0]);
    }
}

/// Jobs under one account have the same uid, so only the view keeps them out of each other's folders (B15).
#[test]
fn jobs_under_a_shared_account_do_not_reach_each_others_folders() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    // A place that no covered folder hides, seen by this test only.
    mount(&stage.dir.path().join("run"), "/mnt", libc::MS_BIND);
    let work = Path::new("/mnt/work");
    fs::create_dir(work).expect("work");
    fs::set_permissions(work, fs::Permissions::from_mode(0o711)).expect("mode");
    stage.extra = vec!["--work".into(), "/mnt/work".into()];
    let mut worker = stage.start();
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let mut warrant = stage.warrant(&worker, "qubeproxy");
        (warrant.mode, warrant.shared) = (Mode::Proxy, true);
        let session = stage.launched(&mut worker, &warrant);
        assert_eq!(session.say("touch"), "Ok(())", "its own folder");
        sessions.push((warrant.job, session));
    }
    let (first, second) = (&sessions[0], &sessions[1]);
    assert_eq!(first.1.say(&format!("write /mnt/work/{}/file", first.0)), "Ok(())");
    assert_eq!(second.1.say(&format!("write /mnt/work/{}/file", first.0)), "Err(NotFound)");
    assert_eq!(second.1.say("write /mnt/work/new"), "Err(PermissionDenied)");
    assert_eq!(fs::metadata(format!("/mnt/work/{}/file", second.0)).expect("on the host").uid(), 1503);
}

/// A step that fails, or only says that it succeeded, executes nothing.
#[test]
fn injected_faults_execute_nothing() {
    if !root_or_skip() {
        return;
    }
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing, and CI must have it");
        println!("skipped: needs strace");
        return;
    }
    use RefusalKind::{Stage as Failed, Transient};
    let cases = [
        ("setresuid:retval=0", Failed, "verify_uid"),
        ("setresuid:error=EAGAIN", Transient, "setresuid"),
        ("setresuid:error=EPERM", Failed, "setresuid"),
        ("setresgid:retval=0", Failed, "verify_gid"),
        ("setgroups:retval=0", Failed, "verify_groups"),
        ("setgroups:error=EPERM", Failed, "setgroups"),
        ("getresuid:retval=0", Failed, "verify_uid"),
        ("keyctl:error=EDQUOT", Failed, "keyring"),
        ("execveat:error=EACCES", Failed, "exec"),
        ("execveat:error=EAGAIN", Transient, "exec"),
        ("clone3:error=EAGAIN", Transient, "clone"),
    ];
    let mut stage = Stage::new();
    for (fault, kind, name) in cases {
        let call = fault.split(':').next().expect("call");
        stage.strace =
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"].map(str::to_owned).into();
        stage.strace.push(format!("inject={fault}"));
        let mut worker = stage.start();
        let warrant = stage.warrant(&worker, "ada");
        assert_eq!(stage.refused(&mut worker, &warrant), (kind, name.to_owned()), "{fault}");
        // strace dies of the same signal; the launcher it traced is ended by its own.
        let tracer = i32::try_from(stage.launcher.as_ref().expect("started").id()).expect("pid");
        let traced = sys::descendants(tracer, &[]);
        for pid in &traced {
            let _ = sys::kill(*pid, libc::SIGKILL);
        }
        stage.kill_launcher();
        let dead = |pid: &i32| sys::proc_stat(*pid).is_none_or(|(_, state, _)| state == 'Z');
        until("the traced launcher is dead", || traced.iter().all(dead).then_some(()));
    }
}

// ---- life and death ------------------------------------------------------------------------------------------------

#[test]
fn sessions_outlive_the_launcher_and_are_adopted() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    let warrant = stage.warrant(&worker, "ada");
    let first = stage.launched(&mut worker, &warrant);
    assert_eq!(first.say("hi"), "pong");
    drop(first.channel);

    stage.kill_launcher();
    let mut worker = stage.start();
    assert_eq!(worker.sessions, [warrant.session]);
    let (answer, fds) = worker.ask(&ToLauncher::Attach { id: 8, session: warrant.session });
    assert_eq!(answer, FromLauncher::Attached { id: 8, session: warrant.session });
    let again = Started::new(&worker, fds);
    assert_eq!(again.proof, first.proof, "the start is told as it was recorded");
    assert_eq!(again.say("hi"), "pong");
    let (answer, _) = worker.ask(&ToLauncher::Forget { id: 9, session: warrant.session });
    assert_eq!(answer, FromLauncher::NoSession { id: 9, session: warrant.session }, "it lives");

    let (answer, _) = worker.ask(&ToLauncher::Kill { id: 10, session: warrant.session });
    assert_eq!(answer, FromLauncher::Done { id: 10 });
    assert_eq!(worker.end_of(warrant.session).0, SessionEnd::Killed);

    // Told again to every launcher's worker, as it was recorded, until it is forgotten.
    stage.kill_launcher();
    let mut worker = stage.start();
    assert_eq!(worker.sessions, [warrant.session]);
    assert_eq!(worker.end_of(warrant.session).0, SessionEnd::Killed);
    let (answer, _) = worker.ask(&ToLauncher::Attach { id: 11, session: warrant.session });
    assert_eq!(answer, FromLauncher::NoSession { id: 11, session: warrant.session });
    let (answer, _) = worker.ask(&ToLauncher::Forget { id: 12, session: warrant.session });
    assert_eq!(answer, FromLauncher::Done { id: 12 });
    until("the shepherd leaves", || titled(warrant.session).is_empty().then_some(()));
    assert!(!stage.path(&format!("launcher/sessions/{}.sock", warrant.session)).exists());
    stage.kill_launcher();
    let worker = stage.start();
    assert_eq!(worker.sessions, [0; 0]);
    assert_eq!(stage.log(&worker.host).len(), 2, "one start, one end");
}

/// Nobody can ever adopt a session whose shepherd can't be found.
#[test]
fn living_sessions_end_with_their_farm() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    let warrant = stage.warrant(&worker, "bob");
    let session = stage.launched(&mut worker, &warrant);
    assert_eq!(session.say("tree"), "grown");
    until("the tree stands", || (processes_of(warrant.session).len() == 4).then_some(()));
    stage.kill_launcher();
    assert_eq!(titled(warrant.session).len(), 1, "it waits for the next launcher");
    fs::remove_dir_all(stage.path("launcher/sessions")).expect("removed");
    until("it leaves", || titled(warrant.session).is_empty().then_some(()));
    assert_eq!(processes_of(warrant.session), [0; 0]);
}

#[test]
fn the_lease_ends_a_whole_tree_unless_renewed() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    let mut short = stage.warrant(&worker, "ada");
    short.lease_until = sys::boot_ms() + 2500;
    let mut renewed = stage.warrant(&worker, "bob");
    renewed.lease_until = short.lease_until;
    let one = stage.launched(&mut worker, &short);
    let two = stage.launched(&mut worker, &renewed);
    assert_eq!(one.say("tree"), "grown");
    until("the tree stands", || (processes_of(short.session).len() == 4).then_some(()));
    let renewal = |lease_until| Renewal { farm: FARM, worker: "w1".into(), session: renewed.session, lease_until };
    let (answer, _) =
        worker.ask(&ToLauncher::Renew { id: 6, renewal: renewal(sys::boot_ms() + 60_000).sign(&stage.supervisor) });
    assert_eq!(answer, FromLauncher::Done { id: 6 });
    // An older one that comes late takes nothing back.
    worker.ask(&ToLauncher::Renew { id: 7, renewal: renewal(1).sign(&stage.supervisor) });

    assert_eq!(worker.end_of(short.session).0, SessionEnd::LeaseExpired);
    assert!(sys::boot_ms() >= short.lease_until, "not before");
    assert_eq!(processes_of(short.session), [0; 0]);
    assert_eq!(two.say("hi"), "pong");

    // A renewal that the supervisor didn't sign closes the connection.
    let forged = renewal(u64::MAX).sign(&SecretKey::from_seed(&[1; 32]));
    sys::send(as_fd(&worker.conn), &ToLauncher::Renew { id: 8, renewal: forged }.encode(), &[]).expect("sent");
    assert!(worker.next().is_none());
}

#[test]
fn what_a_session_leaves_dies_with_it() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    for (order, end) in [("exit", SessionEnd::Exited(7)), ("crash", SessionEnd::Signalled(6))] {
        let warrant = stage.warrant(&worker, "ada");
        let session = stage.launched(&mut worker, &warrant);
        assert_eq!(session.say("tree"), "grown");
        until("the tree stands", || (processes_of(warrant.session).len() == 4).then_some(()));
        session.order(order);
        assert_eq!(worker.end_of(warrant.session).0, end);
        assert_eq!(processes_of(warrant.session), [0; 0]);
    }
}

/// An account's own systemd may have its processes put into a group of its own.
#[test]
fn what_was_put_into_another_group_dies_too() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let v2 = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    let Some(top) = v2.filter(|_| worker.abilities.cgroup_kill) else { return };
    // Where some stay, the group becomes empty while the others are being looked for.
    for moved in [4, 1, 3, 1, 3] {
        let warrant = stage.warrant(&worker, "ada");
        let session = stage.launched(&mut worker, &warrant);
        assert_eq!(session.say("tree"), "grown");
        let [shepherd] = titled(warrant.session)[..] else { panic!("one shepherd") };
        let is_its = |pid: &i32| sys::proc_stat(*pid).is_some_and(|(parent, ..)| parent == shepherd);
        let tree = until("the tree stands", || {
            Some(processes_of(warrant.session)).filter(|pids| pids.len() == 4 && pids.iter().all(is_its))
        });
        for pid in tree.into_iter().take(moved) {
            fs::write(format!("{top}/cgroup.procs"), pid.to_string()).expect("moved");
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("groups");
            assert!(groups.lines().any(|line| line == "0::/"), "{groups}");
        }
        session.order("exit");
        assert_eq!(worker.end_of(warrant.session).0, SessionEnd::Exited(7));
        assert_eq!(processes_of(warrant.session), [0; 0]);
    }
}

/// Where the host has no control groups, the process tree is walked, and unenforced limits are said or refused.
#[test]
fn without_control_groups_nothing_survives_either() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    // SAFETY: a constant path, in this test's own mount namespace.
    assert_eq!(unsafe { libc::umount2(c"/sys/fs/cgroup".as_ptr(), libc::MNT_DETACH) }, 0, "{}", sys::last());
    let mut worker = stage.start();
    assert_eq!(worker.abilities, warrant::launcher_wire::HostAbilities::default());
    for (order, end) in [("exit", SessionEnd::Exited(7)), ("", SessionEnd::Killed)] {
        let mut warrant = stage.warrant(&worker, "ada");
        warrant.limits.memory = 1 << 30;
        let session = stage.launched(&mut worker, &warrant);
        assert_eq!(session.say("tree"), "grown");
        until("the tree stands", || (processes_of(warrant.session).len() == 4).then_some(()));
        if order.is_empty() {
            worker.ask(&ToLauncher::Kill { id: 2, session: warrant.session });
        } else {
            session.order(order);
        }
        assert_eq!(worker.end_of(warrant.session).0, end);
        assert_eq!(processes_of(warrant.session), [0; 0]);
        let log = fs::read_to_string(stage.path("launcher/log/launches")).expect("log");
        assert!(log.contains(&format!("# session {}: the limit of memory is not enforced", warrant.session)));
    }
    let warrant = stage.warrant(&worker, "ada");
    stage.launched(&mut worker, &warrant).say("tree");
    let [shepherd] = titled(warrant.session)[..] else { panic!("one shepherd") };
    sys::kill(shepherd, libc::SIGKILL).expect("kill");
    assert_eq!(worker.end_of(warrant.session).0, SessionEnd::Killed);
    assert_eq!(processes_of(warrant.session), [0; 0]);

    stage.kill_launcher();
    stage.conf("require_limits = yes\n");
    let mut worker = stage.start();
    for (limits, name) in [
        (Limits { memory: 1 << 30, ..Limits::default() }, "cgroup_memory"),
        (Limits { cpu_milli: 1000, ..Limits::default() }, "cgroup_cpu"),
    ] {
        let mut warrant = stage.warrant(&worker, "ada");
        warrant.limits = limits;
        assert_eq!(stage.refused(&mut worker, &warrant), (RefusalKind::Stage, name.to_owned()));
    }
}

#[test]
fn a_session_whose_shepherd_is_killed_is_ended_and_said_to_be() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    let warrant = stage.warrant(&worker, "ada");
    let session = stage.launched(&mut worker, &warrant);
    assert_eq!(session.say("tree"), "grown");
    let [shepherd] = titled(warrant.session)[..] else { panic!("one shepherd") };
    sys::kill(shepherd, libc::SIGKILL).expect("kill");
    assert_eq!(worker.end_of(warrant.session).0, SessionEnd::Killed);
    assert_eq!(processes_of(warrant.session), [0; 0]);
    let (answer, _) = worker.ask(&ToLauncher::Forget { id: 3, session: warrant.session });
    assert_eq!(answer, FromLauncher::Done { id: 3 });

    // And when there was no launcher to see it: it is not listed, and nothing of it lives.
    let warrant = stage.warrant(&worker, "ada");
    stage.launched(&mut worker, &warrant).say("tree");
    stage.kill_launcher();
    let [shepherd] = titled(warrant.session)[..] else { panic!("one shepherd") };
    sys::kill(shepherd, libc::SIGKILL).expect("kill");
    until("the shepherd is dead", || titled(warrant.session).is_empty().then_some(()));
    let worker = stage.start();
    assert_eq!(worker.sessions, [0; 0]);
    until("nothing lives", || processes_of(warrant.session).is_empty().then_some(()));
}

#[test]
fn out_of_memory_is_an_end_of_its_own() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    if !worker.abilities.cgroup_memory {
        println!("skipped: no memory controller here");
        return;
    }
    let mut warrant = stage.warrant(&worker, "ada");
    warrant.limits = Limits { memory: 48 << 20, cpu_milli: 500, pids: 50 };
    let session = stage.launched(&mut worker, &warrant);
    assert_eq!(session.say("child-hog"), "Err(9)", "a task that is killed leaves its session alive");
    assert_eq!(session.say("ping"), "pong");
    session.order("hog");
    let (end, cpu_us, max_rss) = worker.end_of(warrant.session);
    assert_eq!(end, SessionEnd::OutOfMemory);
    assert!(cpu_us > 0 && max_rss > 16 << 20 && max_rss <= 64 << 20, "{cpu_us} {max_rss}");
}

#[test]
fn a_clean_warrant_removes_the_emptied_folder_and_only_that() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    let run = stage.warrant(&worker, "ada");
    let session = stage.launched(&mut worker, &run);
    session.say("touch");
    session.order("exit");
    worker.end_of(run.session);
    let folder = stage.path(&format!("work/{}", run.job));
    assert!(folder.join("file").exists());

    let clean = |stage: &mut Stage, worker: &Worker, account: &str| {
        let mut warrant = stage.warrant(worker, account);
        (warrant.job, warrant.purpose) = (run.job, Purpose::Clean);
        warrant
    };
    let by_bob = clean(&mut stage, &worker, "bob");
    assert_eq!(stage.refused(&mut worker, &by_bob), (RefusalKind::Stage, "job_folder".into()));
    // What the account can't remove keeps the folder, and the end says so.
    fs::create_dir(folder.join("stays")).expect("folder");
    let warrant = clean(&mut stage, &worker, "ada");
    stage.launched(&mut worker, &warrant);
    assert_eq!(worker.end_of(warrant.session).0, SessionEnd::Exited(1));
    fs::remove_dir(folder.join("stays")).expect("removed");
    let warrant = clean(&mut stage, &worker, "ada");
    stage.launched(&mut worker, &warrant);
    assert_eq!(worker.end_of(warrant.session).0, SessionEnd::Exited(0));
    assert!(!folder.exists());
    let warrant = clean(&mut stage, &worker, "ada");
    assert_eq!(stage.refused(&mut worker, &warrant), (RefusalKind::Stage, "job_folder".into()));
}

// ---- strangers and mistakes ----------------------------------------------------------------------------------------

#[test]
fn only_the_workers_account_is_listened_to_and_only_while_it_makes_sense() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    let run = fs::File::open(stage.path("run")).expect("run");
    let connect_as = |uid: u32| {
        std::thread::scope(|s| {
            let thread = s.spawn(|| {
                // SAFETY: the raw call changes this thread alone, which ends here.
                unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
                sys::connect_at(std::os::fd::AsFd::as_fd(&run), "launcher.socket").expect("may connect")
            });
            thread.join().expect("thread")
        })
    };
    for stranger in [1501, 1502, 65_534] {
        let conn = connect_as(stranger);
        let _ = sys::send(as_fd(&conn), &ToLauncher::Hello { id: 1 }.encode(), &[]);
        assert!(receive(&conn).is_none(), "{stranger} was answered");
    }
    Worker::hello(connect_as(WORKER_UID));

    let hello = ToLauncher::Hello { id: 1 }.encode();
    let trailing = [&hello[..], b"x"].concat();
    for bad in [&b"\xff"[..], b"\x02\0\0\0\0\xff\xff\xff\xff", &trailing, &hello[..2], &[0; 60_000]] {
        let conn = connect_as(WORKER_UID);
        sys::send(as_fd(&conn), bad, &[]).expect("sent");
        assert!(receive(&conn).is_none(), "{:?}", &bad[..bad.len().min(8)]);
    }
    // Descriptors where none belong.
    let conn = connect_as(WORKER_UID);
    sys::send(as_fd(&conn), &hello, &[std::os::fd::AsFd::as_fd(&run)]).expect("sent");
    assert!(receive(&conn).is_none());

    let warrant = stage.warrant(&worker, "ada");
    assert_eq!(stage.launched(&mut worker, &warrant).say("hi"), "pong", "all others are served as before");
    for request in [ToLauncher::Attach { id: 4, session: 9 }, ToLauncher::Kill { id: 4, session: 9 }] {
        assert_eq!(worker.ask(&request).0, FromLauncher::NoSession { id: 4, session: 9 });
    }
}

/// A stranger on the host may connect as often as they like: nobody waits for them, and no disk is filled with them.
#[test]
fn strangers_in_numbers_change_nothing() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let said = stage.path("said");
    let mut command = stage.command();
    stage.launcher = Some(command.stderr(fs::File::create(&said).expect("file")).spawn().expect("launcher"));
    let mut worker = stage.connect();
    let run = fs::File::open(stage.path("run")).expect("run");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        let stranger = s.spawn(|| {
            // SAFETY: the raw call changes this thread alone, which ends here.
            unsafe { libc::syscall(libc::SYS_setresuid, 1502, 1502, 1502) };
            let mut times = 0;
            while times < 5000 || !stop.load(std::sync::atomic::Ordering::Relaxed) {
                times += usize::from(sys::connect_at(std::os::fd::AsFd::as_fd(&run), "launcher.socket").is_ok());
            }
        });
        for _ in 0..5 {
            let warrant = stage.warrant(&worker, "ada");
            assert_eq!(stage.launched(&mut worker, &warrant).say("hi"), "pong");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        stranger.join().expect("thread");
    });
    let text = until("it was told", || {
        Some(fs::read_to_string(&said).expect("text")).filter(|t| t.contains("refused a connection of uid 1502"))
    });
    assert!(text.lines().count() < 60, "{} lines", text.lines().count());
}

/// A directory that hangs costs its own launch and nothing else, also when the launcher is replaced meanwhile.
#[test]
fn a_directory_that_hangs_delays_nobody_else() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    let good = stage.warrant(&worker, "ada");
    let session = stage.launched(&mut worker, &good);
    // Opened by a look-up, it waits for a writer who never comes.
    let fifo = sys::cstr(stage.path("fifo").as_os_str().as_encoded_bytes()).expect("path");
    // SAFETY: a NUL-terminated path.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o644) }, 0);
    mount(&stage.path("fifo"), "/etc/passwd", libc::MS_BIND);

    let adopted = stage.warrant(&worker, "bob");
    let launch = ToLauncher::Launch { id: 5, warrant: adopted.sign(&stage.supervisor) };
    sys::send(as_fd(&worker.conn), &launch.encode(), &[]).expect("sent");
    let shepherd = until("it looks for the account", || titled(adopted.session).first().copied());
    stage.kill_launcher();
    let mut worker = stage.start();
    assert_eq!(worker.sessions.len(), 2, "{:?}", worker.sessions);

    let late = stage.warrant(&worker, "bob");
    let before = sys::boot_ms();
    let launch = ToLauncher::Launch { id: 6, warrant: late.sign(&stage.supervisor) };
    sys::send(as_fd(&worker.conn), &launch.encode(), &[]).expect("sent");
    let mut other = stage.connect();
    assert_eq!(
        other.ask(&ToLauncher::Attach { id: 7, session: good.session }).0,
        FromLauncher::Attached { id: 7, session: good.session }
    );
    assert_eq!(session.say("hi"), "pong");
    assert!(sys::boot_ms() - before < 10_000, "others are served meanwhile");

    let (answer, fds) = worker.next().expect("an answer");
    let FromLauncher::Refused { id: 6, kind: RefusalKind::Transient, stage: step, .. } = answer else {
        panic!("{answer:?}")
    };
    assert_eq!((step.as_str(), fds.len()), ("launch_late", 1));
    until("both are forgotten", || (stage.connect().sessions == [good.session]).then_some(()));
    assert_eq!(titled(late.session), [0; 0]);
    // The adopted one is no child of this launcher. When the directory answers after all, it executes nothing.
    // SAFETY: a NUL-terminated path.
    unsafe { libc::umount2(c"/etc/passwd".as_ptr(), libc::MNT_DETACH) };
    assert_eq!(titled(adopted.session), [shepherd], "it hangs as before");
    drop(fs::OpenOptions::new().write(true).open(stage.path("fifo")).expect("a reader waits"));
    until("it leaves", || sys::proc_stat(shepherd).is_none_or(|(_, state, _)| state == 'Z').then_some(()));
    assert_eq!(processes_of(adopted.session), [0; 0]);
}

/// A farm whose folder was removed leaves no root process behind.
#[test]
fn shepherds_leave_with_their_farm() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    let warrant = stage.warrant(&worker, "ada");
    let session = stage.launched(&mut worker, &warrant);
    session.order("exit");
    assert_eq!(worker.end_of(warrant.session).0, SessionEnd::Exited(7));
    let shepherd = titled(warrant.session)[0];
    stage.kill_launcher();
    fs::remove_dir_all(stage.path("launcher/sessions")).expect("removed");
    until("it leaves", || sys::proc_stat(shepherd).is_none_or(|(_, state, _)| state == 'Z').then_some(()));
}

/// What can't be recorded doesn't run, and what has ended is told when it can be recorded again.
#[test]
fn a_full_disk_under_the_log_starts_nothing_and_loses_nothing() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let log = stage.path("launcher/log");
    fs::create_dir(&log).expect("folder");
    let target = sys::cstr(log.as_os_str().as_encoded_bytes()).expect("path");
    let disk = |flags: libc::c_ulong, options: &std::ffi::CStr| {
        let (kind, options) = (c"tmpfs".as_ptr(), options.as_ptr().cast());
        // SAFETY: NUL-terminated strings.
        let ret = unsafe { libc::mount(kind, target.as_ptr(), kind, flags, options) };
        assert_eq!(ret, 0, "{}", sys::last());
    };
    disk(0, c"size=8k,mode=700");
    let mut worker = stage.start();
    let first = stage.warrant(&worker, "ada");
    let living = stage.launched(&mut worker, &first);
    let mut refused = None;
    for _ in 0..20 {
        let warrant = stage.warrant(&worker, "ada");
        match stage.launch(&mut worker, &warrant) {
            (FromLauncher::Launched { .. }, _) => {}
            (FromLauncher::Refused { stage, .. }, fds) => {
                refused = Some((warrant, stage, fds.len()));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let (warrant, step, proofs) = refused.expect("the disk is full");
    assert_eq!((step.as_str(), proofs), ("launch_log", 0));
    until("nothing of it runs", || processes_of(warrant.session).is_empty().then_some(()));

    living.order("exit");
    until("it has ended", || processes_of(first.session).is_empty().then_some(()));
    assert_eq!(
        worker.ask(&ToLauncher::Forget { id: 8, session: first.session }).0,
        FromLauncher::NoSession { id: 8, session: first.session }
    );
    disk(libc::MS_REMOUNT, c"size=1m,mode=700");
    assert_eq!(worker.end_of(first.session).0, SessionEnd::Exited(7));
    let proofs = stage.log(&worker.host);
    assert!(proofs.iter().any(|p| p.session == first.session && matches!(p.fact, Fact::Ended { .. })));
    assert!(!proofs.iter().any(|p| p.session == warrant.session), "no half of a record");
}

#[test]
fn it_does_not_start_on_anything_doubtful() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let fails = |stage: &Stage, what: &str| {
        let output = stage.command().stderr(Stdio::piped()).output().expect("launcher");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(what), "{what}: {text}");
    };
    stage.conf("uid_floor = 0\n");
    fails(&stage, "launcher.conf:1:uid_floor");
    stage.conf("");
    let set = |name: &str, mode: u32| {
        fs::set_permissions(stage.path(name), fs::Permissions::from_mode(mode)).expect("mode");
    };
    set("launcher.conf", 0o666);
    fails(&stage, "chmod go-w");
    set("launcher.conf", 0o644);
    std::os::unix::fs::chown(stage.path("launcher.conf"), Some(1501), None).expect("chown");
    fails(&stage, "belongs to uid 1501");
    fs::rename(stage.path("launcher.conf"), stage.path("real.conf")).expect("rename");
    std::os::unix::fs::symlink("real.conf", stage.path("launcher.conf")).expect("link");
    fails(&stage, "launcher.conf");
    fs::remove_file(stage.path("launcher.conf")).expect("removed");
    fails(&stage, "launcher.conf");
    fs::write(stage.path("launcher.conf"), "").expect("conf");

    set("work", 0o777);
    fails(&stage, "work can be changed by others");
    set("work", 0o700);
    fails(&stage, "can't be passed");
    set("work", 0o711);
    fs::write(stage.path("launcher/trusted.keys"), "# none\n").expect("keys");
    fails(&stage, "trusted.keys has no key");
    fs::write(stage.path("launcher/trusted.keys"), "beef\n").expect("keys");
    fails(&stage, "trusted.keys is not");
    fs::write(stage.path("launcher/trusted.keys"), hex(&stage.supervisor.public().to_bytes())).expect("keys");
    fs::create_dir_all(stage.path("launcher/log")).expect("log");
    fs::write(stage.path("launcher/log/launches"), "1 00 00\n").expect("log");
    fails(&stage, "last record");
}

// ---- passwords -----------------------------------------------------------------------------------------------------

const RIGHT: &str = "Right-1!canary";
/// [`RIGHT`], as crypt(3) has it.
const RIGHT_HASH: &str =
    "$6$steadtest$iPBLsOxYxGsw7x7RAvmqV0N22Esr8VKoKgue.5kCXg5Ff6NRAwUolC6QZW5ToLI0b70UgDux.RRkcerB3l0Ku/";

impl Stage {
    /// Accounts are logged on here; each try leaves a line in `tries`.
    fn needs_passwords(&mut self) {
        let today = sys::wall_us() / 86_400_000_000;
        let line = |name: &str, before: &str, last: u64| format!("{name}:{before}{RIGHT_HASH}:{last}:0:99999:7:::\n");
        let shadow = [line("ada", "", today), line("bob", "!", today), line("qubeproxy", "", 0)].concat();
        // The same file, which is bound over the host's.
        fs::write(self.path("shadow"), shadow).expect("shadow");
        let pam = self.path("pam.d");
        fs::create_dir(&pam).expect("folder");
        let hook = self.path("hook");
        fs::write(&hook, format!("#!/bin/sh\necho \"$PAM_USER\" >> {}\n", self.path("tries").display())).expect("hook");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("mode");
        fs::write(self.path("tries"), "").expect("tries");
        fs::write(pam.join("stead"), self.service("auth required pam_unix.so")).expect("service");
        mount(&pam, "/etc/pam.d", libc::MS_BIND);
        self.conf("requires_password = true\n");
    }

    fn service(&self, auth: &str) -> String {
        format!("auth optional pam_exec.so {}\n{auth}\naccount required pam_unix.so\n", self.path("hook").display())
    }

    fn tries(&self) -> usize {
        fs::read_to_string(self.path("tries")).expect("tries").lines().count()
    }

    fn with_password(&mut self, worker: &Worker, account: &str, password: &str) -> Warrant {
        let warrant = self.warrant(worker, account);
        sealed(worker, warrant, password)
    }
}

/// The warrant with this password, sealed for the launcher that said welcome.
fn sealed(worker: &Worker, warrant: Warrant, password: &str) -> Warrant {
    let key = SealingKeyOf::open(worker.sealing_key.as_ref().expect("a key"), &worker.host).expect("its host's");
    assert_eq!(key.incarnation, worker.incarnation);
    let secret = Secret::new(password.into()).expect("a password");
    let seed = zeroize::Zeroizing::new(sys::random().expect("random"));
    let sealed = seal(&secret, &key.public, &warrant.password_context(), seed).expect("sealed");
    Warrant { password: Some(sealed), ..warrant }
}

#[test]
fn an_account_is_logged_on_with_its_password_once() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    stage.needs_passwords();
    let mut worker = stage.start();
    let warrant = stage.with_password(&worker, "ada", RIGHT);
    let session = stage.launched(&mut worker, &warrant);
    assert_eq!(stage.tries(), 1);
    assert_eq!(session.status("Uid"), "1501 1501 1501 1501");
    let below: Vec<_> = fs::read_dir(stage.path("launcher/sessions")).expect("folder").flatten().collect();
    assert_eq!(below.len(), 1, "nothing but the socket is left of the question: {below:?}");
    for pid in shepherds(stage.launcher.as_ref().expect("launcher").id()) {
        holds_no(pid, RIGHT);
    }
    holds_no(stage.launcher.as_ref().expect("launcher").id().cast_signed(), RIGHT);
    holds_no(session.pid, RIGHT);
    session.order("exit");
    worker.end_of(warrant.session);

    use RefusalKind::{BadLogin, LocalPolicy, Transient, Warrant as Void};
    let cases = [
        ("ada", "wrong", BadLogin, "password_wrong"),
        ("bob", RIGHT, BadLogin, "account_locked"),
        ("qubeproxy", RIGHT, BadLogin, "password_expired"),
    ];
    for (n, (account, password, kind, stage_name)) in cases.into_iter().enumerate() {
        let mut warrant = stage.warrant(&worker, account);
        if account == "qubeproxy" {
            (warrant.mode, warrant.shared) = (Mode::Proxy, true);
        }
        let warrant = sealed(&worker, warrant, password);
        assert_eq!(stage.refused(&mut worker, &warrant), (kind, stage_name.to_owned()), "{account}");
        assert_eq!(stage.tries(), n + 2, "{account}: once");
    }
    // None of these asks anybody.
    let without = stage.warrant(&worker, "ada");
    assert_eq!(stage.refused(&mut worker, &without), (Transient, "password_missing".to_owned()));
    let mut moved = stage.with_password(&worker, "ada", RIGHT);
    (moved.sequence, moved.session) = (moved.sequence + 1000, moved.session + 1000);
    assert_eq!(stage.refused(&mut worker, &moved), (Void, "warrant_password".to_owned()), "for another warrant");
    let mut other = stage.with_password(&worker, "bob", RIGHT);
    other.account = Account::Named { name: AccountName::parse("ada").expect("name"), uid: None };
    other.sequence += 2000;
    assert_eq!(stage.refused(&mut worker, &other).1, "warrant_password", "for another account");
    let mut flipped = stage.with_password(&worker, "ada", RIGHT);
    flipped.sequence += 3000;
    flipped.password.as_mut().expect("box")[40] ^= 1;
    assert_eq!(stage.refused(&mut worker, &flipped).1, "warrant_password");
    let mut throwaway = stage.with_password(&worker, "ada", RIGHT);
    throwaway.account = Account::Throwaway;
    let refused = stage.refused(&mut worker, &throwaway);
    assert!(matches!(refused.0, LocalPolicy | Void), "{refused:?}");
    assert_eq!(stage.tries(), cases.len() + 1);

    // An outage is none of the account's affair.
    fs::write(stage.path("pam.d/stead"), stage.service("auth requisite pam_no_such_module.so")).expect("service");
    let warrant = stage.with_password(&worker, "ada", RIGHT);
    assert_eq!(stage.refused(&mut worker, &warrant), (Transient, "logon_unavailable".to_owned()));
    let text = fs::read(stage.path("launcher/log/launches")).expect("log");
    assert!(!text.windows(RIGHT.len()).any(|w| w == RIGHT.as_bytes()));
}

/// What `launcher.conf` says counts from the next launch on, and the worker learns of it.
#[test]
fn whether_a_host_needs_passwords_is_told_again_when_it_changes() {
    if !root_or_skip() {
        return;
    }
    let mut stage = Stage::new();
    let mut worker = stage.start();
    assert!(worker.sealing_key.is_none());
    stage.needs_passwords();
    let launcher = stage.launcher.as_ref().expect("launcher").id().cast_signed();
    sys::kill(launcher, libc::SIGHUP).expect("told");
    assert!(receive(&worker.conn).is_none(), "the connection ends");
    worker = stage.connect();
    assert!(worker.sealing_key.is_some());
    let warrant = stage.with_password(&worker, "ada", RIGHT);
    let session = stage.launched(&mut worker, &warrant);
    session.order("exit");
    worker.end_of(warrant.session);
    assert_eq!(stage.tries(), 1);
    // A key is good for one life of the launcher.
    let old = stage.with_password(&worker, "ada", RIGHT);
    stage.kill_launcher();
    let mut worker = stage.start();
    let late = Warrant { incarnation: worker.incarnation, not_after: sys::boot_ms() + 60_000, ..old };
    assert_eq!(stage.refused(&mut worker, &late), (RefusalKind::Warrant, "warrant_password".to_owned()));
    assert_eq!(stage.tries(), 1);
}

/// No readable page of the process has the text, plain or as UTF-16.
fn holds_no(pid: i32, text: &str) {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).expect("memory");
    let mut read = 0;
    for line in maps.lines().filter(|l| l.split(' ').nth(1).is_some_and(|p| p.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().and_then(|r| r.split_once('-')).expect("a range");
        let [from, to] = [from, to].map(|n| u64::from_str_radix(n, 16).expect("hex"));
        let mut bytes = vec![0; usize::try_from(to - from).expect("size")];
        memory.seek(SeekFrom::Start(from)).expect("seek");
        if memory.read_exact(&mut bytes).is_ok() {
            read += bytes.len();
            for form in [text.as_bytes(), &wide] {
                assert!(!bytes.windows(form.len()).any(|w| w == form), "process {pid}: {line}");
            }
        }
    }
    assert!(read > 10_000, "process {pid}: there was something to read");
}
