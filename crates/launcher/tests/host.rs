//! The real `host` on a folder of its own, with this test program in the place of `stead`.

#![allow(clippy::print_stdout, reason = "a skipped test says so")]

#[path = "../src/sys.rs"]
#[allow(dead_code, unused_macros, unused_imports, reason = "the launcher's own room, of which a part is used")]
mod sys;

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use sys::{Received, as_fd};
use warrant::launcher_wire::{FromLauncher, ToLauncher};
use warrant::{Account, Limits, LoginUser, Mode, Purpose, SecretKey, User, Warrant, unhex};

/// Runs before the test harness: under the name `stead` this program is a service that waits.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn(i32, *const *const libc::c_char) = before_main;

extern "C" fn before_main(count: i32, argv: *const *const libc::c_char) {
    // SAFETY: the C library passes `count` arguments.
    let name = (count > 0).then(|| unsafe { std::ffi::CStr::from_ptr(*argv) }.to_bytes());
    if name == Some(b"stead-session") {
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }
    if name == Some(b"stead") {
        let words = fs::read("/proc/self/cmdline").unwrap_or_default();
        if words.split(|b| *b == 0).any(|w| w == b"--bad-usage") {
            // SAFETY: ends this process.
            unsafe { libc::_exit(2) };
        }
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }
}

fn root_or_skip() -> bool {
    // SAFETY: always succeeds.
    if unsafe { libc::geteuid() } == 0 {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "these tests need root, and CI must run them");
    println!("skipped: needs root");
    false
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

struct Farm {
    top: tempfile::TempDir,
    host: Option<(Child, UnixStream)>,
    extra: Vec<&'static str>,
}

impl Farm {
    fn new() -> Self {
        let open = fs::Permissions::from_mode(0o755);
        let top = tempfile::Builder::new().prefix("stead-host-").permissions(open).tempdir().expect("dir");
        Self { top, host: None, extra: Vec::new() }
    }

    fn data(&self) -> PathBuf {
        self.top.path().join("farm")
    }

    fn command(&self, data: &Path, control: Option<&OwnedFd>) -> Command {
        let exe = std::env::current_exe().expect("exe");
        let mut command = Command::new(env!("CARGO_BIN_EXE_stead-launcher"));
        command.arg("host").arg("--data").arg(data).arg("--stead").arg(&exe).arg("--session").arg(&exe);
        command.args(["--worker", "w1", "--worker", "w2", "--supervisor-arg", "--listen", "--supervisor-arg", "x:1"]);
        command.args(&self.extra).arg("--throwaway-proxy").env("CANARY", "secret").env("STEAD_TEST", "yes");
        if let Some(fd) = control.map(|c| c.as_raw_fd()) {
            command.arg("--control-fd").arg(fd.to_string());
            // SAFETY: only system calls between fork and exec.
            unsafe {
                command.pre_exec(move || {
                    libc::fcntl(fd, libc::F_SETFD, 0);
                    Ok(())
                })
            };
        }
        command
    }

    /// Starts the host and reads the line of ids.
    fn start(&mut self) -> Vec<u32> {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let theirs = OwnedFd::from(theirs);
        let child = self.command(&self.data(), Some(&theirs)).spawn().expect("host");
        drop(theirs);
        let mut line = Vec::new();
        let mut byte = [0];
        let mut reader = &ours;
        while !line.ends_with(b"\n") {
            assert_eq!(reader.read(&mut byte).expect("line"), 1, "the host ended");
            line.push(byte[0]);
        }
        let line = String::from_utf8(line).expect("text");
        let values: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(values[0], "uids");
        let ids = values[1..].iter().zip(["supervisor=", "worker=", "proxy="]);
        let ids = ids.map(|(v, key)| v.strip_prefix(key).expect(key).parse().expect("number")).collect();
        self.host = Some((child, ours));
        ids
    }

    fn host_pid(&self) -> u32 {
        self.host.as_ref().expect("started").0.id()
    }

    /// The service whose command line begins so.
    fn service(&self, words: &[&str]) -> Option<u32> {
        let start: Vec<u8> = words.iter().flat_map(|w| w.bytes().chain([0])).collect();
        children(self.host_pid())
            .into_iter()
            .find(|p| fs::read(format!("/proc/{p}/cmdline")).is_ok_and(|c| c.starts_with(&start)))
    }

    /// Ends the host as the foreground process does: by ending.
    fn stop(&mut self) -> Option<i32> {
        let (mut child, control) = self.host.take()?;
        drop(control);
        child.wait().expect("wait").code()
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.stop();
    }
}

fn children(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("proc").flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| status(*pid, "PPid").is_some_and(|p| p == parent.to_string())).collect()
}

fn status(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().filter_map(|l| l.split_once(':')).find(|(k, _)| *k == field)?.1;
    Some(value.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn owner(path: &Path) -> (u32, u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

#[test]
fn a_folder_is_laid_out_once_and_the_services_hold_nothing() {
    if !root_or_skip() {
        return;
    }
    let mut farm = Farm::new();
    let ids = farm.start();
    let [supervisor, worker, proxy] = ids[..] else { panic!("{ids:?}") };
    assert!(supervisor != worker && worker != proxy && supervisor != proxy);
    for (name, want) in [
        ("", (0, 0, 0o755)),
        ("ids", (0, 0, 0o644)),
        ("launcher", (0, 0, 0o700)),
        ("launcher/host.key", (0, 0, 0o600)),
        ("launcher/farm", (0, 0, 0o600)),
        ("launcher/trusted.keys", (0, 0, 0o600)),
        ("supervisor", (supervisor, supervisor, 0o700)),
        ("supervisor/warrant.key", (supervisor, supervisor, 0o600)),
        ("supervisor/farm", (supervisor, supervisor, 0o600)),
        ("worker", (worker, worker, 0o700)),
        ("work", (0, 0, 0o711)),
        ("run", (0, supervisor, 0o1775)),
    ] {
        assert_eq!(owner(&farm.data().join(name)), want, "{name}");
    }
    let text = |name: &str| fs::read_to_string(farm.data().join(name)).expect(name);
    assert_eq!(text("launcher/farm"), text("supervisor/farm"));
    let seed = warrant::unhex(text("supervisor/warrant.key").trim()).and_then(|s| s.try_into().ok()).expect("seed");
    let public = warrant::SecretKey::from_seed(&seed).public().to_bytes();
    assert_eq!(text("launcher/trusted.keys").trim(), warrant::hex(&public));
    let before: Vec<String> = ["ids", "launcher/host.key", "launcher/farm", "supervisor/warrant.key"].map(text).into();

    let data = farm.data().display().to_string();
    let socket = format!("{data}/run/launcher.socket");
    let supervisor_words =
        ["stead", "supervisor", "--data", &data, "--operator", "root", "--listen", "x:1", "--worker-uid"];
    let worker_words =
        |name| ["stead", "worker", "run", "--data", &data, "--name", name, "--launcher", &socket].map(str::to_owned);
    let (w1, w2) = (worker_words("w1"), worker_words("w2"));
    let w1: Vec<&str> = w1.iter().map(String::as_str).collect();
    let w2: Vec<&str> = w2.iter().map(String::as_str).collect();
    for (words, id) in [(&supervisor_words[..], supervisor), (&w1, worker), (&w2, worker)] {
        let pid = until("it runs", || farm.service(words));
        let four = [id; 4].map(|n| n.to_string()).join(" ");
        for (field, want) in [
            ("Uid", four.as_str()),
            ("Gid", &four),
            ("Groups", ""),
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapInh", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("CapBnd", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("SigBlk", "0000000000000000"),
            ("SigIgn", "0000000000000000"),
            ("Umask", "0077"),
        ] {
            assert_eq!(status(pid, field).as_deref(), Some(want), "{words:?} {field}");
        }
        let mut fds: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("fd")
            .map(|e| e.expect("entry").file_name().into_string().expect("number"))
            .collect();
        fds.sort();
        assert_eq!(fds, ["0", "1", "2"], "{words:?}");
        let environ = fs::read(format!("/proc/{pid}/environ")).expect("environ");
        let environ = String::from_utf8_lossy(&environ).into_owned();
        assert!(environ.contains("STEAD_TEST=yes") && !environ.contains("CANARY"), "{environ}");
    }

    // The next start finds everything as it was.
    assert_eq!(farm.stop(), Some(0));
    assert_eq!(farm.start(), ids);
    let after: Vec<String> = ["ids", "launcher/host.key", "launcher/farm", "supervisor/warrant.key"]
        .map(|n| fs::read_to_string(farm.data().join(n)).expect(n))
        .into();
    assert_eq!(after, before);
}

#[test]
fn what_dies_starts_again_and_all_end_with_the_foreground() {
    if !root_or_skip() {
        return;
    }
    let mut farm = Farm::new();
    farm.start();
    let services = [
        &["stead", "supervisor"][..],
        &["stead", "worker"],
        &["stead-launcher", "serve"],
        &["stead-launcher", "checker"],
    ];
    for words in services {
        let pid = until("it runs", || farm.service(words));
        // SAFETY: a child of our host, still there.
        assert_eq!(unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) }, 0);
        until("another one runs", || farm.service(words).filter(|p| *p != pid));
    }
    until("the launcher listens", || farm.data().join("run/launcher.socket").exists().then_some(()));

    // A second host on the same folder is refused while this one lives.
    let second = farm.command(&farm.data(), None).stderr(Stdio::piped()).output().expect("second");
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && text.contains("in use by another"), "{text}");

    let all = children(farm.host_pid());
    assert_eq!(all.len(), 5);
    assert_eq!(farm.stop(), Some(0));
    for pid in all {
        assert_eq!(status(pid, "PPid"), None, "{pid} lives on");
    }
}

/// Whether an id is free is not known while a service of the host's is down. `hesiod`, which is part of the C library, has
/// no server anywhere.
#[test]
fn no_id_is_taken_while_the_directory_is_down() {
    if !root_or_skip() {
        return;
    }
    let mut farm = Farm::new();
    let conf = farm.top.path().join("nsswitch.conf");
    fs::write(&conf, "passwd: files\ngroup: files\n").expect("nsswitch.conf");
    // SAFETY: moves this thread, and what it starts, into a mount namespace of its own.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "unshare: {}", sys::last());
    let mount = |from: &Path, to: &Path, flags| {
        let [from, to] = [from, to].map(|p| sys::cstr(p.as_os_str().as_encoded_bytes()).expect("path"));
        // SAFETY: NUL-terminated strings.
        let ret = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), c"".as_ptr(), flags, std::ptr::null()) };
        assert_eq!(ret, 0, "mount {from:?} {to:?}: {}", sys::last());
    };
    mount(Path::new("none"), Path::new("/"), libc::MS_REC | libc::MS_PRIVATE);
    mount(&conf, Path::new("/etc/nsswitch.conf"), libc::MS_BIND);

    let is_refused = |farm: &Farm, services: &str| {
        fs::write(&conf, services).expect("nsswitch.conf");
        let output = farm.command(&farm.data(), None).stderr(Stdio::piped()).output().expect("host");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("directory does not answer"), "{services}: {text}");
        assert_eq!(output.status.code(), Some(1), "starting again may help");
    };
    for services in ["passwd: hesiod files\ngroup: files\n", "passwd: files\ngroup: hesiod files\n"] {
        is_refused(&farm, services);
        assert!(!farm.data().join("ids").exists(), "{services}");
    }
    fs::write(&conf, "passwd: files\ngroup: files\n").expect("nsswitch.conf");
    let ids = farm.start();
    assert_eq!(farm.stop(), Some(0));
    // Nor are those of a folder kept.
    is_refused(&farm, "passwd: files\ngroup: files hesiod\n");
    fs::write(&conf, "passwd: files\ngroup: files\n").expect("nsswitch.conf");
    assert_eq!(farm.start(), ids);
}

/// `kill -9` of the host takes the services with it: the next start is never locked out.
#[test]
fn services_do_not_outlive_a_killed_host() {
    if !root_or_skip() {
        return;
    }
    let mut farm = Farm::new();
    farm.start();
    until("the launcher listens", || farm.data().join("run/launcher.socket").exists().then_some(()));
    until("all run", || (children(farm.host_pid()).len() == 5).then_some(()));
    let all = children(farm.host_pid());
    if let Some((child, _)) = &mut farm.host {
        child.kill().expect("kill");
    }
    farm.stop();
    let gone = |pid: &u32| status(*pid, "State").is_none_or(|s| s.starts_with('Z'));
    until("all are gone", || all.iter().all(gone).then_some(()));
    farm.start();
}

fn receive(conn: &OwnedFd) -> (FromLauncher, Vec<OwnedFd>) {
    until("the launcher answers", || match sys::receive(as_fd(conn), 64 << 10, 2).expect("receive") {
        Received::Packet(bytes, fds) => Some((FromLauncher::decode(&bytes).expect("answer"), fds)),
        Received::Nothing => None,
        Received::Closed | Received::Oversized => panic!("the connection was closed"),
    })
}

/// Starts sessions under the throwaway account, as the supervisor would, and returns the first one's process.
fn launch(farm: &Farm, count: u64) -> Vec<u32> {
    let hex = |name: &str| unhex(fs::read_to_string(farm.data().join(name)).expect(name).trim()).expect("hex");
    let key = SecretKey::from_seed(&hex("supervisor/warrant.key").try_into().expect("seed"));
    let run = fs::File::open(farm.data().join("run")).expect("run");
    let conn =
        until("the launcher listens", || sys::connect_at(std::os::fd::AsFd::as_fd(&run), "launcher.socket").ok());
    sys::send(as_fd(&conn), &ToLauncher::Hello { id: 1 }.encode(), &[]).expect("hello");
    let FromLauncher::Welcome { incarnation, .. } = receive(&conn).0 else { panic!("no welcome") };
    let login_user = LoginUser::parse("ada").expect("name");
    let mut pids = Vec::new();
    for session in 1..=count {
        let warrant = Warrant {
            farm: hex("launcher/farm").try_into().expect("farm"),
            worker: "w1".into(),
            incarnation,
            sequence: session,
            not_after: sys::boot_ms() + 60_000,
            lease_until: sys::boot_ms() + 600_000,
            purpose: Purpose::Run,
            session,
            job: 1,
            user: User::themself(&login_user),
            login_user: login_user.clone(),
            account: Account::Throwaway,
            mode: Mode::Proxy,
            shared: true,
            grant: None,
            policy_version: [0; 32],
            limits: Limits::default(),
            umask: 0o022,
            submitter_signature: Vec::new(),
            password: None,
        };
        let request = ToLauncher::Launch { id: 2, warrant: warrant.sign(&key) };
        sys::send(as_fd(&conn), &request.encode(), &[]).expect("launch");
        let (answer, fds) = receive(&conn);
        assert_eq!(answer, FromLauncher::Launched { id: 2, session });
        let proof = sys::read_from(as_fd(&fds[1]), 0, 1 << 20).expect("proof");
        let signed = warrant::Signed::decode(&proof, 1 << 20).expect("signed");
        let host: [u8; 32] = hex("launcher/host.key").try_into().expect("seed");
        let proof = warrant::Proof::open(&signed, &[SecretKey::from_seed(&host).public()]).expect("proof");
        let warrant::Fact::Started { pid, .. } = proof.fact else { panic!("{proof:?}") };
        pids.push(pid);
    }
    pids
}

/// With `--end-sessions` nothing of the farm outlives it, whatever the worker's account does to the launcher's socket.
#[test]
fn sessions_end_with_the_host_when_they_are_to() {
    if !root_or_skip() {
        return;
    }
    let mut farm = Farm::new();
    farm.extra = vec!["--end-sessions"];
    let worker = farm.start()[1];
    let pids = launch(&farm, 40);
    assert!(pids.iter().all(|pid| status(*pid, "State").is_some()));
    // Every connection there is, taken by a worker that does not let go.
    let run = fs::File::open(farm.data().join("run")).expect("run");
    let held: Vec<OwnedFd> = std::thread::scope(|s| {
        let thread = s.spawn(|| {
            // SAFETY: the raw call changes this thread alone, which ends here.
            unsafe { libc::syscall(libc::SYS_setresuid, worker, worker, worker) };
            let connect = || sys::connect_at(std::os::fd::AsFd::as_fd(&run), "launcher.socket");
            (0..80).map(|_| until("it may connect", || connect().ok())).collect()
        });
        thread.join().expect("thread")
    });
    assert_eq!(farm.stop(), Some(0));
    drop(held);
    let left: Vec<&u32> = pids.iter().filter(|pid| status(**pid, "State").is_some()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn doubtful_folders_and_programs_are_refused_untouched() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::new();
    let top = farm.top.path();
    let dir = |name: &str, uid: u32, mode: u32| {
        fs::create_dir(top.join(name)).expect("dir");
        std::os::unix::fs::chown(top.join(name), Some(uid), Some(uid)).expect("chown");
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).expect("mode");
    };
    dir("adas", 1501, 0o755);
    dir("open", 0, 0o777);
    dir("closed", 0, 0o700);
    dir("full", 0, 0o755);
    fs::write(top.join("full/notes"), "").expect("file");
    std::os::unix::fs::symlink("full", top.join("link")).expect("link");
    fs::write(top.join("file"), "").expect("file");
    for (name, why) in [
        ("adas", "belongs to uid 1501"),
        ("adas/farm", "belongs to uid 1501"),
        ("open/farm", "can be changed by others"),
        ("closed/farm", "can't be passed"),
        ("full", "has other things in it"),
        ("link", "symbolic link"),
        ("link/farm", "symbolic link"),
        ("file", "is not a folder"),
        ("full/../farm", ".."),
    ] {
        let output = farm.command(&top.join(name), None).stderr(Stdio::piped()).output().expect("host");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {text}");
        assert!(text.contains(why), "{name}: {text}");
    }
    assert_eq!(fs::read_dir(top.join("full")).expect("dir").count(), 1, "nothing was laid out");
    assert_eq!(fs::read_dir(top.join("closed")).expect("dir").count(), 0);

    let program = top.join("stead");
    fs::copy(std::env::current_exe().expect("exe"), &program).expect("copy");
    for (uid, mode, why) in [(0, 0o777, "chmod go-w"), (1501, 0o755, "belongs to uid 1501")] {
        std::os::unix::fs::chown(&program, Some(uid), None).expect("chown");
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("mode");
        let mut command = Command::new(env!("CARGO_BIN_EXE_stead-launcher"));
        command.arg("host").arg("--data").arg(farm.data()).arg("--stead").arg(&program).arg("--session").arg(&program);
        let output = command.env_remove("SUDO_UID").stderr(Stdio::piped()).output().expect("host");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(why), "{text}");
    }
}

#[test]
fn a_service_that_was_asked_wrongly_ends_the_host() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::new();
    let mut command = farm.command(&farm.data(), None);
    let output = command.args(["--worker-arg", "--bad-usage"]).stderr(Stdio::piped()).output().expect("host");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("worker w1 could not be started") || text.contains("worker w2 could not"), "{text}");
}
