//! The real checker and the real libpam, on accounts and services that exist only in a mount namespace of each test's
//! own. Needs root; in CI not being root is a failure.

#![allow(clippy::print_stdout, reason = "a skipped test says so")]

#[path = "../src/sys.rs"]
#[allow(dead_code, unused_macros, unused_imports, reason = "the launcher's own room, of which a part is used")]
mod sys;

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use sys::{Received, as_fd};
use warrant::checker_wire::{ANSWER_MAX, Answer, PASSWORD_MAX, QUESTION_MAX, Question, Word};

const RIGHT: &str = "Right-1!canary";
/// [`RIGHT`], as crypt(3) has it.
const HASH: &str =
    "$6$steadtest$iPBLsOxYxGsw7x7RAvmqV0N22Esr8VKoKgue.5kCXg5Ff6NRAwUolC6QZW5ToLI0b70UgDux.RRkcerB3l0Ku/";
const SUPERVISOR: u32 = 1700;
const PASSWD: &str = "\
root:x:0:0::/root:/bin/sh
toor:x:0:0::/root:/bin/sh
daemon:x:5:5::/:/bin/sh
stead:x:1700:1700::/:/bin/sh
ada:x:1501:1501::/home/ada:/bin/sh
bob:x:1502:1502::/home/bob:/bin/sh
sleepy:x:1503:1503::/home/x:/bin/sh
locked:x:1504:1504::/home/x:/bin/sh
never:x:1505:1505::/home/x:/bin/sh
expired:x:1506:1506::/home/x:/bin/sh
must:x:1507:1507::/home/x:/bin/sh
open:x:1508:1508::/home/x:/bin/sh
nobody:x:65534:65534::/none:/bin/sh
";

/// As Debian lays them out, and an `other` that lets everybody in.
const SERVICES: [(&str, &str); 3] = [
    (
        "common-auth",
        "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n",
    ),
    (
        "common-account",
        "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\naccount requisite pam_deny.so\n\
         account required pam_permit.so\n",
    ),
    ("other", "auth required pam_permit.so\naccount required pam_permit.so\n"),
];

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

struct Stage {
    dir: tempfile::TempDir,
    checker: Child,
    run: fs::File,
}

impl Stage {
    fn new() -> Self {
        Self::with(&[])
    }

    /// With services of the host's besides the usual ones.
    fn with(services: &[(&str, &str)]) -> Self {
        // SAFETY: moves this thread, and what it starts, into a mount namespace of its own.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "unshare: {}", sys::last());
        mount(Path::new("none"), "/", libc::MS_REC | libc::MS_PRIVATE);
        let open = fs::Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new().prefix("stead-checker-").permissions(open).tempdir().expect("dir");
        let today = sys::wall_us() / 86_400_000_000;
        let shadow = format!(
            "root:{HASH}:{today}:0:99999:7:::\ntoor:{HASH}:{today}:0:99999:7:::\ndaemon:{HASH}:{today}:0:99999:7:::\n\
             stead:{HASH}:{today}:0:99999:7:::\nada:{HASH}:{today}:0:99999:7:::\nbob:{HASH}:{today}:0:99999:7:::\n\
             sleepy:{HASH}:{today}:0:99999:7:::\nlocked:!{HASH}:{today}:0:99999:7:::\nnever:*:{today}:0:99999:7:::\n\
             expired:{HASH}:{today}:0:99999:7::{}:\nmust:{HASH}:0:0:99999:7:::\nopen::{today}:0:99999:7:::\n\
             nobody:{HASH}:{today}:0:99999:7:::\n",
            today - 5
        );
        for (name, text) in [
            ("passwd", PASSWD),
            ("group", "root:x:0:\n"),
            ("shadow", &shadow),
            ("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\n"),
        ] {
            let file = dir.path().join(name);
            fs::write(&file, text).expect("file");
            mount(&file, &format!("/etc/{name}"), libc::MS_BIND);
        }
        let pam = dir.path().join("pam.d");
        fs::create_dir(&pam).expect("folder");
        for (name, text) in SERVICES.iter().chain(services) {
            fs::write(pam.join(name), text).expect("service");
        }
        mount(&pam, "/etc/pam.d", libc::MS_BIND);
        for (name, mode) in [("launcher", 0o700), ("run", 0o755)] {
            fs::create_dir(dir.path().join(name)).expect("folder");
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).expect("mode");
        }
        fs::write(dir.path().join("launcher.conf"), "uid_floor = 1500\n").expect("conf");
        let mut checker = Command::new(env!("CARGO_BIN_EXE_stead-launcher"))
            .args(["checker", "--supervisor-uid", &SUPERVISOR.to_string(), "--data"])
            .arg(dir.path())
            .arg("--conf")
            .arg(dir.path().join("launcher.conf"))
            .stdin(Stdio::null())
            .spawn()
            .expect("checker");
        let run = fs::File::open(dir.path().join("run")).expect("run");
        until("the checker listens", || {
            assert!(checker.try_wait().expect("wait").is_none(), "the checker ended");
            sys::connect_at(run.as_fd(), "checker.socket").ok()
        });
        Self { dir, checker, run }
    }

    fn connect(&self, uid: u32) -> OwnedFd {
        let run = self.run.try_clone().expect("clone");
        let as_somebody = std::thread::spawn(move || {
            // SAFETY: the raw call changes this thread only, which does nothing else and ends.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, u32::MAX, uid, u32::MAX) }, 0);
            sys::connect_at(run.as_fd(), "checker.socket").expect("connected")
        });
        as_somebody.join().expect("connected")
    }

    fn send(&self, name: &str, password: &[u8]) -> OwnedFd {
        let conn = self.connect(SUPERVISOR);
        let mut question = Vec::with_capacity(QUESTION_MAX);
        Question { name, password }.encode_into(&mut question).expect("fits");
        sys::send(as_fd(&conn), &question, &[]).expect("sent");
        conn
    }

    fn ask(&self, name: &str, password: &str) -> Answer {
        answer(&self.send(name, password.as_bytes())).expect("an answer")
    }

    fn word(&self, name: &str, password: &str) -> Word {
        let answer = self.ask(name, password);
        assert!(!answer.text.contains(RIGHT), "{answer:?}");
        answer.word
    }

    /// What was made for questions is gone.
    fn is_tidy(&self) -> bool {
        let state = fs::read_dir(self.dir.path().join("launcher/checker")).expect("state");
        state.flatten().all(|e| e.file_name() == "lock")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let pid = self.checker.id().cast_signed();
        for below in sys::descendants(pid, &[]) {
            let _ = sys::kill(below, libc::SIGKILL);
        }
        let _ = self.checker.kill();
        let _ = self.checker.wait();
    }
}

/// The next packet, or `None` when the checker closes without one.
fn answer(conn: &OwnedFd) -> Option<Answer> {
    until("the checker answers", || match sys::receive(as_fd(conn), ANSWER_MAX, 0) {
        Ok(Received::Packet(bytes, _)) => Some(Some(Answer::decode(&bytes).expect("answer"))),
        Ok(Received::Nothing) => None,
        Ok(Received::Closed) => Some(None),
        Ok(Received::Oversized) => panic!("an answer over the limit"),
        Err(e) => panic!("{e}"),
    })
}

#[test]
fn each_account_gets_its_word() {
    if !root_or_skip() {
        return;
    }
    let stage = Stage::new();
    let long = "x".repeat(PASSWORD_MAX);
    for (name, password, want) in [
        ("ada", RIGHT, Word::Yes),
        ("ada", "wrong", Word::Wrong),
        ("ada", "Right-1!canary ", Word::Wrong),
        ("ada", &long, Word::Wrong),
        ("bob", "", Word::Wrong),
        ("bob", "Right-1!canary\0", Word::Wrong),
        ("bob", RIGHT, Word::Yes),
        ("locked", RIGHT, Word::Locked),
        ("never", "*", Word::Locked),
        ("expired", RIGHT, Word::Expired),
        ("expired", "wrong", Word::Wrong),
        ("must", RIGHT, Word::MustChange),
        ("must", "wrong", Word::Wrong),
        // Without a password in shadow: nothing is right, nullok or not.
        ("open", "", Word::Wrong),
        ("open", "x", Word::Wrong),
        ("nosuch", RIGHT, Word::Unknown),
        ("root", RIGHT, Word::Unknown),
        ("toor", RIGHT, Word::Unknown),
        ("daemon", RIGHT, Word::Unknown),
        ("stead", RIGHT, Word::Unknown),
        ("nobody", RIGHT, Word::Unknown),
        ("Ada", RIGHT, Word::Unknown),
        ("", RIGHT, Word::Wrong),
        ("-ada", RIGHT, Word::Wrong),
        ("../ada", RIGHT, Word::Wrong),
        ("ada\n", RIGHT, Word::Wrong),
        ("1501", RIGHT, Word::Unknown),
    ] {
        assert_eq!(stage.word(name, password), want, "{name:?} {password:?}");
    }
    let asked = || {
        let at = Instant::now();
        assert_eq!(stage.word("bob", "wrong"), Word::Wrong);
        at.elapsed()
    };
    let fastest = [asked(), asked(), asked()].into_iter().min();
    // It would be 1 s at least, on an idle machine as on another.
    assert!(fastest < Some(Duration::from_millis(900)), "pam_unix's delay is ours to make: {fastest:?}");
    assert!(stage.ask("daemon", RIGHT).text.contains("below 1500"), "launcher.conf decides");
    until("questions leave nothing", || stage.is_tidy().then_some(()));
}

#[test]
fn too_long_garbled_or_silent_connections_get_no_answer_and_hurt_nobody() {
    if !root_or_skip() {
        return;
    }
    let stage = Stage::new();
    let _silent: Vec<OwnedFd> = (0..10).map(|_| stage.connect(SUPERVISOR)).collect();
    let mut long = vec![1, 3, 0, 0, 0];
    long.extend_from_slice(b"ada");
    long.extend_from_slice(&2000_u32.to_le_bytes());
    long.resize(3000, b'x');
    let mut over = vec![1, 3, 0, 0, 0];
    over.extend_from_slice(b"ada");
    over.extend_from_slice(&1025_u32.to_le_bytes());
    over.resize(12 + 1025, b'x');
    for bytes in [&long[..], &over, b"x", &[1, 255, 255, 255, 255]] {
        let conn = stage.connect(SUPERVISOR);
        sys::send(as_fd(&conn), bytes, &[]).expect("sent");
        assert_eq!(answer(&conn), None, "{} bytes", bytes.len());
    }
    assert_eq!(stage.word("ada", RIGHT), Word::Yes);
}

#[test]
fn nobody_but_the_supervisor_is_answered() {
    if !root_or_skip() {
        return;
    }
    let stage = Stage::new();
    for uid in [0, 1501, 65_534] {
        let conn = stage.connect(uid);
        let mut question = Vec::new();
        Question { name: "ada", password: RIGHT.as_bytes() }.encode_into(&mut question).expect("fits");
        // It may be closed before or after.
        let _ = sys::send(as_fd(&conn), &question, &[]);
        let got = until("the checker closes", || match sys::receive(as_fd(&conn), ANSWER_MAX, 0) {
            Ok(Received::Nothing) => None,
            Ok(Received::Closed) | Err(_) => Some(false),
            Ok(_) => Some(true),
        });
        assert!(!got, "uid {uid} got an answer");
    }
    assert_eq!(stage.word("ada", RIGHT), Word::Yes);
}

#[test]
fn the_hosts_own_service_goes_first_and_other_never_counts() {
    if !root_or_skip() {
        return;
    }
    // Only `bob`; includes by name, in both spellings of Debian.
    let own = "auth required pam_succeed_if.so quiet user = bob\nauth include common-auth\n@include common-account\n";
    let stage = Stage::with(&[("stead", own)]);
    assert_eq!(stage.word("bob", RIGHT), Word::Yes);
    assert_eq!(stage.word("bob", "wrong"), Word::Wrong);
    assert_eq!(stage.word("ada", RIGHT), Word::Wrong);

    // What the file leaves out is denied, though `other` of this host lets everybody in.
    let file = stage.dir.path().join("pam.d/stead");
    fs::write(&file, "auth include common-auth\n").expect("service");
    assert_eq!(stage.word("bob", RIGHT), Word::Refused);
    fs::write(&file, "account required pam_permit.so\n").expect("service");
    assert_eq!(stage.word("bob", RIGHT), Word::Wrong);
    fs::write(&file, "auth required pam_no_such_module.so\naccount required pam_permit.so\n").expect("service");
    assert!(matches!(stage.word("bob", RIGHT), Word::Unavailable), "a module that is missing");
    fs::write(&file, "auth include no-such-file\naccount required pam_permit.so\n").expect("service");
    assert_ne!(stage.word("bob", RIGHT), Word::Yes, "a file that is missing");

    // A host without a shared part: its own files of passwords.
    for name in ["stead", "common-auth", "common-account"] {
        fs::remove_file(stage.dir.path().join("pam.d").join(name)).expect("removed");
    }
    assert_eq!(stage.word("ada", RIGHT), Word::Yes);
    assert_eq!(stage.word("ada", "wrong"), Word::Wrong);
    assert_eq!(stage.word("expired", RIGHT), Word::Expired);
}

#[test]
fn a_module_that_hangs_is_ended_with_all_it_started_and_keeps_nobody_waiting() {
    if !root_or_skip() {
        return;
    }
    let seconds = 50_000 + u32::from(u16::from_le_bytes(sys::random().expect("random")));
    let own = format!(
        "auth [success=1 default=ignore] pam_succeed_if.so quiet user != sleepy\n\
         auth requisite pam_exec.so /bin/sleep {seconds}\nauth include common-auth\naccount include common-account\n"
    );
    let stage = Stage::with(&[("stead", &own)]);
    let sleeping = || sleeping(seconds);
    let at = Instant::now();
    let hanging = [stage.send("sleepy", RIGHT.as_bytes()), stage.send("sleepy", b"wrong")];
    until("both hang", || (sleeping() == 2).then_some(()));
    assert_eq!(stage.word("ada", RIGHT), Word::Yes, "others are answered");
    for conn in &hanging {
        let answer = answer(conn).expect("an answer");
        assert_eq!(answer.word, Word::Unavailable, "{answer:?}");
        assert!(answer.text.contains("15 s"), "{answer:?}");
    }
    assert!(at.elapsed() >= Duration::from_secs(14));
    until("what hung is gone", || (sleeping() == 0 && stage.is_tidy()).then_some(()));

    // Asked more at once than there are children for; whoever gave up is not asked for.
    let full: Vec<OwnedFd> = (0..4).map(|_| stage.send("sleepy", b"x")).collect();
    until("all children hang", || (sleeping() == 4).then_some(()));
    let waits = stage.send("ada", RIGHT.as_bytes());
    drop(stage.send("bob", RIGHT.as_bytes()));
    assert!(matches!(sys::receive(as_fd(&waits), ANSWER_MAX, 0), Ok(Received::Nothing)));
    assert_eq!(sleeping(), 4, "never a fifth");
    let turn = answer(&waits).expect("its turn comes");
    assert_eq!(turn.word, Word::Yes, "{turn:?}");
    drop(full);
}

/// How many `sleep` so long.
fn sleeping(seconds: u32) -> usize {
    let words = format!("/bin/sleep\0{seconds}\0");
    let pids = fs::read_dir("/proc").expect("proc").flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let alive = |pid: &i32| sys::proc_stat(*pid).is_some_and(|(_, state, _)| state != 'Z');
    let named = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c == words.as_bytes());
    pids.filter(|pid| named(pid) && alive(pid)).count()
}

#[test]
fn what_a_module_leaves_behind_is_ended_with_the_question_and_with_the_checker() {
    if !root_or_skip() {
        return;
    }
    let seconds = 150_000 + u32::from(u16::from_le_bytes(sys::random().expect("random")));
    let mut stage = Stage::new();
    let (left, hangs) = (stage.dir.path().join("left"), stage.dir.path().join("hangs"));
    // Out of its session and away from its parent, as a daemon goes.
    let script =
        format!("#!/bin/sh\n(setsid /bin/sleep {seconds} <&- >&- 2>&- &)\ntest ! -e {} || sleep 60\n", hangs.display());
    fs::write(&left, script).expect("script");
    fs::set_permissions(&left, fs::Permissions::from_mode(0o755)).expect("mode");
    let own =
        format!("auth optional pam_exec.so {}\nauth include common-auth\n@include common-account\n", left.display());
    fs::write(stage.dir.path().join("pam.d/stead"), own).expect("service");
    assert_eq!(stage.word("ada", RIGHT), Word::Yes);
    until("what was left is gone", || (sleeping(seconds) == 0 && stage.is_tidy()).then_some(()));

    fs::write(&hangs, "").expect("file");
    let asked = stage.send("ada", RIGHT.as_bytes());
    until("it was left while the module hangs", || (sleeping(seconds) == 1).then_some(()));
    sys::kill(stage.checker.id().cast_signed(), libc::SIGTERM).expect("SIGTERM");
    assert_eq!(answer(&asked).expect("an answer").word, Word::Unavailable);
    assert!(stage.checker.wait().expect("its end").success());
    until("nothing is left", || (sleeping(seconds) == 0).then_some(()));
}

/// `hesiod`, which is part of the C library, has no server anywhere: whom it knows, nobody can tell.
#[test]
fn an_outage_is_no_unknown_name() {
    if !root_or_skip() {
        return;
    }
    let stage = Stage::new();
    let conf = stage.dir.path().join("nsswitch.conf");
    assert_eq!(stage.word("nosuch", RIGHT), Word::Unknown);
    for services in ["files hesiod", "hesiod files"] {
        fs::write(&conf, format!("passwd: {services}\ngroup: files\nshadow: files\n")).expect("nsswitch.conf");
        let answer = stage.ask("nosuch", RIGHT);
        assert_eq!(answer.word, Word::DirectoryDown, "{services}: {answer:?}");
        assert_eq!(stage.word("ada", RIGHT), Word::Yes, "{services}: she is in the files");
    }
}

#[test]
fn without_libpam_nobody_can_tell() {
    if !root_or_skip() {
        return;
    }
    let stage = Stage::new();
    assert_eq!(stage.word("ada", RIGHT), Word::Yes);
    let dirs = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib64", "/lib"];
    let found = dirs.iter().filter_map(|d| fs::canonicalize(Path::new(d).join("libpam.so.0")).ok()).next();
    let library: PathBuf = found.expect("libpam of this host");
    let empty = stage.dir.path().join("empty");
    fs::write(&empty, "").expect("file");
    mount(&empty, library.to_str().expect("path"), libc::MS_BIND);
    for _ in 0..8 {
        let answer = stage.ask("ada", RIGHT);
        assert_eq!(answer.word, Word::Unavailable, "{answer:?}: no guess was made, so none is counted");
        assert!(answer.text.contains("libpam"), "{answer:?}");
    }
}

#[test]
fn guessing_gets_slower_for_the_name_and_not_for_others() {
    if !root_or_skip() {
        return;
    }
    let stage = Stage::new();
    // How many are let through while they are asked depends on the machine.
    let until_limited = |name: &str| {
        let words: Vec<Word> = (0..200).map(|i| stage.word(name, &format!("guess {i}"))).collect();
        let first = words.iter().position(|word| *word == Word::Limited).expect("limited");
        assert!(first >= 30, "{first}: {words:?}");
        words[0]
    };
    assert_eq!(until_limited("ada"), Word::Wrong);
    let answer = until("no more", || Some(stage.ask("ada", RIGHT)).filter(|answer| answer.word == Word::Limited));
    // Whether it is right is not said either.
    assert!((1..=10_000).contains(&answer.retry_ms), "{answer:?}");
    assert_eq!(stage.word("bob", RIGHT), Word::Yes);
    // Not a name of this host: the same, so that waiting tells nothing.
    assert_eq!(until_limited("nosuch"), Word::Unknown);
    until("the wait is over", || (stage.word("ada", RIGHT) == Word::Yes).then_some(()));
}

#[test]
fn the_checker_keeps_no_password() {
    if !root_or_skip() {
        return;
    }
    let stage = Stage::new();
    assert_eq!(stage.word("ada", RIGHT), Word::Yes);
    assert_eq!(stage.word("ada", "Wrong-1!canary"), Word::Wrong);
    assert_eq!(stage.word("--bad", "Badname-1!canary"), Word::Wrong);
    assert_eq!(stage.word("root", "Forroot-1!canary"), Word::Unknown);
    let conn = stage.connect(SUPERVISOR);
    sys::send(as_fd(&conn), "Toolong-1!canary".repeat(200).as_bytes(), &[]).expect("sent");
    assert_eq!(answer(&conn), None);
    until("the children are gone", || stage.is_tidy().then_some(()));
    let pid = stage.checker.id();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    assert!(status.contains("Threads:\t1\n"));
    let memory = memory(pid);
    // What is around the text, wherever it is.
    let find = |text: &str| {
        memory.iter().find_map(|(place, bytes)| {
            let at = bytes.windows(text.len()).position(|w| w == text.as_bytes())?;
            let around = &bytes[at.saturating_sub(40)..bytes.len().min(at + 40)];
            Some(format!("{place} at {at:#x}: {}", String::from_utf8_lossy(around)))
        })
    };
    assert!(find(stage.dir.path().to_str().expect("path")).is_some(), "the memory was read");
    for half in ["1!canary", "Right-1!", "Wrong-1!", "Badname-", "Forroot-", "Toolong-"] {
        assert_eq!(find(half), None, "{half} is in the checker's memory");
    }
    // Nor can anybody but root look.
    assert_eq!(fs::metadata(format!("/proc/{pid}/mem")).map(|m| std::os::unix::fs::MetadataExt::uid(&m)).ok(), Some(0));
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).expect("core");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

/// Everything a process has that it may write to.
fn memory(pid: u32) -> Vec<(String, Vec<u8>)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("mem");
    let mut all = Vec::new();
    for line in maps.lines().filter(|l| l.split(' ').nth(1).is_some_and(|p| p.starts_with("rw"))) {
        let range = line.split(' ').next().and_then(|r| r.split_once('-')).expect("a range");
        let [from, to] = [range.0, range.1].map(|n| u64::from_str_radix(n, 16).expect("hex"));
        let mut bytes = vec![0; usize::try_from(to - from).expect("size")];
        let n = memory.read_at(&mut bytes, from).unwrap_or(0);
        bytes.truncate(n);
        all.push((line.to_owned(), bytes));
    }
    all
}
