//! Desktop mode with the real `stead-session`, as a person: started by root, these tests go on as one.

use super::fake_supervisor::{self, Kept, Wanted};
use super::service::streams;
use super::{FARM, Running, WORKER, config, eventually, farm_key, farm_public};
use crate::desktop::{Asked, Desktop, Farm, clean};
use crate::host;
use crate::{Mode as WorkerMode, WorkerError};
use nix::unistd::{User, getuid};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use warrant::names::{AccountName, LoginUser, User as JobUser};
use warrant::{Account, Batch, Item, ItemKind, Limits, Mode, Purpose, SecretKey, TaskRef, Warrant};
use wire::{End, FromWorker, Report, SessionEnd, Task, ToWorker};

/// Says that this process is the person, and where the session program is.
const PROGRAM: &str = "TEST_SESSION_PROGRAM";
/// Accounts that every Debian has; one who may not log in will do.
const PERSONS: [&str; 3] = ["games", "daemon", "nobody"];

fn session_program() -> PathBuf {
    if let Some(path) = std::env::var_os(PROGRAM) {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("stead-session");
    if !path.exists() {
        let built = Command::new(env!("CARGO")).args(["build", "-p", "stead-session"]).status().unwrap();
        assert!(built.success() && path.exists(), "{} can't be built", path.display());
    }
    path
}

/// True in the process that is to make the test. Root starts that process as somebody else, and waits for it.
fn as_a_person(test: &str) -> bool {
    if !getuid().is_root() {
        return true;
    }
    let person = PERSONS.iter().find_map(|name| User::from_name(name).unwrap()).expect("an account that is not root");
    // They may not be able to enter the folder where this was built.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (exe, program) = (dir.path().join("test"), dir.path().join("stead-session"));
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    fs::copy(session_program(), &program).unwrap();
    let output = Command::new("setpriv")
        .args([format!("--reuid={}", person.uid), format!("--regid={}", person.gid), "--clear-groups".to_owned()])
        .arg(exe)
        .args(["--exact", &format!("tests::desktop::{test}"), "--nocapture"])
        .env_clear()
        .env(PROGRAM, program)
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .output()
        .expect("setpriv (util-linux) is needed to test as a person");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(" 1 passed"), "it failed as {}:\n{said}", person.name);
    false
}

struct Bench {
    supervisor: fake_supervisor::Serving,
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = fake_supervisor::Serving::start(dir.path());
        Self { supervisor, dir }
    }

    fn worker(&self, accept: &[&str]) -> Running {
        let accept = accept.iter().map(|a| (*a).to_owned()).collect();
        let mode = WorkerMode::Desktop { accept, session_program: session_program() };
        let worker = Running::start(config(self.dir.path(), mode));
        self.supervisor.supervisor.wait_connected();
        worker
    }

    fn want(&self, scripts: &[&str], finish: bool) -> u64 {
        let owner = host::owner().unwrap().0.name;
        let batches = vec![batch(scripts)];
        let wanted =
            Wanted { job: 5, mode: Mode::Desktop, account: owner.clone(), user: owner, batches, finish, clean: false };
        self.supervisor.supervisor.want(wanted)
    }

    fn run(&self, scripts: &[&str]) -> Kept {
        let session = self.want(scripts, true);
        self.supervisor.supervisor.wait_over(session);
        eventually("the spool is empty", || crate::spool::list(&self.dir.path().join("worker")).unwrap().is_empty());
        self.supervisor.supervisor.kept(session)
    }

    fn log(&self, session: u64) -> String {
        String::from_utf8_lossy(&stdout(&self.supervisor.supervisor.kept(session), 0)).into_owned()
    }
}

fn task(index: u64) -> Task {
    Task { step: 0, index, epoch: 1 }
}

fn stdout(kept: &Kept, index: u64) -> Vec<u8> {
    streams(&kept.log).remove(&(task(index), 1)).unwrap_or_default()
}

fn batch(scripts: &[&str]) -> Batch {
    let item = |(index, script): (u64, &&str)| Item {
        kind: ItemKind::Task(TaskRef { step: 0, index, epoch: 1 }),
        argv: ["/bin/sh", "-c", script].map(|a| a.as_bytes().to_vec()).to_vec(),
        env: Vec::new(),
        files: Vec::new(),
        timeout_ms: 0,
        grace_ms: 0,
    };
    Batch {
        farm: FARM,
        session: 0,
        sequence: 0,
        job: 5,
        not_after: u64::MAX,
        env: Vec::new(),
        cwd: None,
        files: Vec::new(),
        items: (0..).zip(scripts).map(item).collect(),
    }
}

fn exists(pid: &str) -> bool {
    // A zombie is gone but for its number.
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn jobs_run_as_the_owner_and_nobody_else() {
    if !as_a_person("jobs_run_as_the_owner_and_nobody_else") {
        return;
    }
    let bench = Bench::new();
    let worker = bench.worker(&[]);
    let hello = bench.supervisor.supervisor.books().hellos[0].clone();
    let owner = host::owner().unwrap().0;
    assert_eq!((hello.mode.as_str(), hello.owner.as_ref(), hello.host_key), ("desktop", Some(&owner), None));
    let kept = bench.run(&["id -u; umask; pwd; env", "echo no >&2; exit 3"]);
    let Report::Started { run_as, proof: None, .. } = &kept.reports[0] else { panic!("{:?}", kept.reports) };
    assert_eq!((run_as, run_as.uid), (&owner, getuid().as_raw()));
    let ends: Vec<(u64, End)> = kept
        .reports
        .iter()
        .filter_map(
            |r| if let Report::TaskEnded { task, end, .. } = r { Some((task.index, end.clone())) } else { None },
        )
        .collect();
    assert_eq!(ends, [(0, End::Exited { code: 0 }), (1, End::Exited { code: 3 })]);
    assert!(
        matches!(kept.reports.last(), Some(Report::Ended { end: SessionEnd::Left, proof: None, .. })),
        "{:?}",
        kept.reports.last()
    );
    let printed = String::from_utf8(stdout(&kept, 0)).unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    let folder = bench.dir.path().join("work/5");
    assert_eq!(lines[..3], [&owner.uid.to_string(), "0027", folder.to_str().unwrap()]);
    assert!(lines.contains(&format!("USER={}", owner.name).as_str()), "{printed}");
    assert!(!printed.contains("NOTIFY_SOCKET"), "{printed}");
    assert_eq!(streams(&kept.log)[&(task(1), 2)], b"no\n");
    let made = fs::metadata(folder).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o777), (owner.uid, 0o700));
    worker.stop().unwrap();
}

#[test]
fn a_kill_takes_double_forks_along() {
    if !as_a_person("a_kill_takes_double_forks_along") {
        return;
    }
    let bench = Bench::new();
    let _worker = bench.worker(&[]);
    let session = bench.want(&["setsid sh -c 'sleep 1000 & echo $!; wait' & sleep 1000"], false);
    eventually("the task runs", || bench.log(session).ends_with('\n'));
    let pid = bench.log(session);
    assert!(exists(&pid));
    bench.supervisor.supervisor.order(&ToWorker::Kill { session }, &[]);
    let kept = bench.supervisor.supervisor.wait_over(session);
    assert!(matches!(kept.reports.last(), Some(Report::Ended { end: SessionEnd::Killed, .. })), "{kept:?}");
    assert!(!exists(&pid), "a process outlived the report of its end");
}

#[test]
fn a_worker_that_ends_takes_everything_along() {
    if !as_a_person("a_worker_that_ends_takes_everything_along") {
        return;
    }
    let bench = Bench::new();
    let worker = bench.worker(&[]);
    let session = bench.want(&["setsid sh -c 'sleep 1000 & echo $!; wait' & sleep 1000"], false);
    eventually("the task runs", || bench.log(session).ends_with('\n'));
    let pid = bench.log(session);
    worker.stop().unwrap();
    assert!(!exists(&pid));
    let kept = bench.supervisor.supervisor.kept(session);
    assert!(matches!(kept.reports.last(), Some(Report::Ended { end: SessionEnd::Killed, .. })), "{kept:?}");
}

#[test]
fn a_killed_worker_s_sessions_are_known_lost() {
    if !as_a_person("a_killed_worker_s_sessions_are_known_lost") {
        return;
    }
    let bench = Bench::new();
    let worker = bench.worker(&[]);
    let session = bench.want(&["echo $PPID; exec sleep 1000"], false);
    eventually("the task runs", || bench.log(session).ends_with('\n'));
    let pid = bench.log(session);
    worker.kill();
    let _worker = bench.worker(&[]);
    let kept = bench.supervisor.supervisor.wait_over(session);
    assert!(matches!(kept.reports.last(), Some(Report::Ended { end: SessionEnd::Lost, .. })), "{kept:?}");
    assert!(!exists(&pid), "the session lives on");
}

#[test]
fn the_owner_is_the_answer_to_every_look_up() {
    if !as_a_person("the_owner_is_the_answer_to_every_look_up") {
        return;
    }
    let bench = Bench::new();
    let _worker = bench.worker(&[]);
    bench.supervisor.supervisor.order(&ToWorker::Lookup { id: 3, account: "root".to_owned() }, &[]);
    let owner = host::owner().unwrap().0;
    eventually("it is answered", || {
        let books = bench.supervisor.supervisor.books();
        books.heard.iter().any(|m| matches!(m, FromWorker::LookedUp { id: 3, account: Some(a), .. } if *a == owner))
    });
}

#[test]
fn cleaning_is_reported() {
    if !as_a_person("cleaning_is_reported") {
        return;
    }
    let bench = Bench::new();
    let _worker = bench.worker(&[]);
    bench.run(&["mkdir a && touch a/b && chmod 500 a"]);
    let supervisor = &bench.supervisor.supervisor;
    supervisor.order(&ToWorker::Clean { session: 77, job: 5 }, &[]);
    let kept = supervisor.wait_over(77);
    assert!(
        matches!(&kept.reports[..], [Report::Cleaned { job: 5 }, Report::Ended { end: SessionEnd::Left, .. }]),
        "{kept:?}"
    );
    assert!(!bench.dir.path().join("work/5").exists());
}

#[test]
fn root_has_no_desktop() {
    if !getuid().is_root() {
        // Only root can be refused for being root; under CI these tests run as root.
        assert!(std::env::var_os("CI").is_none(), "CI runs these tests as root");
        eprintln!("skipped: not root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mode = WorkerMode::Desktop { accept: Vec::new(), session_program: "/bin/true".into() };
    let error = Running::start(config(dir.path(), mode)).refusal();
    assert!(matches!(error, WorkerError::DesktopAsRoot), "{error}");
    assert!(!dir.path().join("worker").exists() && !dir.path().join("work").exists());
}

fn desktop(dir: &Path, accept: &[&str]) -> Desktop {
    let accept = accept.iter().map(|a| (*a).to_owned()).collect();
    let program = PathBuf::from("/nonexistent/stead-session");
    Desktop::new(WORKER.to_owned(), accept, host::owner().unwrap(), program, dir.join("work")).unwrap()
}

fn good(desktop: &Desktop) -> Warrant {
    let owner = desktop.owner().name.clone();
    Warrant {
        farm: FARM,
        worker: WORKER.to_owned(),
        incarnation: desktop.incarnation(),
        sequence: 8,
        not_after: u64::MAX,
        lease_until: u64::MAX,
        purpose: Purpose::Run,
        session: 8,
        job: 5,
        login_user: LoginUser::parse(&owner).unwrap(),
        user: JobUser::parse(&owner).unwrap(),
        account: Account::Named { name: AccountName::parse(&owner).unwrap(), uid: None },
        mode: Mode::Desktop,
        shared: false,
        grant: None,
        policy_version: [0; 32],
        limits: Limits::default(),
        umask: 0o022,
        submitter_signature: Vec::new(),
        password: None,
    }
}

fn refused(desktop: &mut Desktop, key: &SecretKey, warrant: &Warrant) -> (String, String) {
    let farm = Farm { id: FARM, keys: vec![farm_public()] };
    let asked = Asked { session: 8, job: 5 };
    match desktop.launch(&farm, asked, &warrant.sign(key).encode()) {
        Ok(_) => panic!("it was launched"),
        Err(refusal) => (refusal.kind.as_str().to_owned(), refusal.text),
    }
}

#[test]
fn nothing_unsigned_or_meant_for_others_becomes_a_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut desktop = desktop(dir.path(), &[]);
    let good = good(&desktop);
    let other_user = || JobUser::parse("somebody-else").unwrap();
    let other_account = |name: &str, uid| Account::Named { name: AccountName::parse(name).unwrap(), uid };
    let own = good.user.as_str().to_owned();
    let uid = desktop.owner().uid;
    let table: Vec<(&str, Warrant, &str)> = vec![
        ("warrant", Warrant { farm: [9; 16], ..good.clone() }, "another farm"),
        ("warrant", Warrant { worker: "other".to_owned(), ..good.clone() }, "another worker"),
        ("warrant", Warrant { incarnation: [1; 16], ..good.clone() }, "older than the start"),
        ("warrant", Warrant { not_after: 0, ..good.clone() }, "no longer valid"),
        ("warrant", Warrant { session: 9, ..good.clone() }, "another session"),
        ("warrant", Warrant { job: 6, ..good.clone() }, "another session"),
        ("warrant", Warrant { mode: Mode::User, ..good.clone() }, "another mode"),
        ("warrant", Warrant { purpose: Purpose::Clean, ..good.clone() }, "not for a session"),
        ("account", Warrant { account: other_account("somebody-else", None), ..good.clone() }, "only"),
        ("account", Warrant { account: other_account(&own, Some(uid + 1)), ..good.clone() }, "only"),
        ("account", Warrant { account: Account::Throwaway, ..good.clone() }, "only"),
        ("local_policy", Warrant { user: other_user(), ..good.clone() }, "does not take jobs of somebody-else"),
    ];
    for (kind, warrant, text) in table {
        let (got, said) = refused(&mut desktop, &farm_key(), &warrant);
        assert!(got == kind && said.contains(text), "{text}: {got}: {said}");
    }
    let (kind, said) = refused(&mut desktop, &SecretKey::from_seed(&[1; 32]), &good);
    assert!(kind == "warrant" && said.contains("unknown key"), "{said}");
    // None of these made anything, or used the warrant up.
    assert!(!dir.path().join("work").exists());
}

#[test]
fn a_warrant_works_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut desktop = desktop(dir.path(), &[]);
    let good = good(&desktop);
    // The checks pass; what fails is what comes after them.
    let (kind, said) = refused(&mut desktop, &farm_key(), &good);
    assert!(kind == "stage" && said.contains("failed to start"), "{kind}: {said}");
    let (kind, said) = refused(&mut desktop, &farm_key(), &good);
    assert!(kind == "warrant" && said.contains("used before"), "{kind}: {said}");
}

#[test]
fn accept_names_whose_jobs_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    for (accept, taken) in [(&["any"][..], true), (&["x", "ada"], true), (&["x"], false), (&[], false)] {
        let mut desktop = desktop(dir.path(), accept);
        let user = JobUser::parse("ada").unwrap();
        let warrant = Warrant { user, ..good(&desktop) };
        let (kind, _) = refused(&mut desktop, &farm_key(), &warrant);
        assert_eq!(kind, if taken { "stage" } else { "local_policy" }, "{accept:?}");
    }
}

#[test]
fn cleaning_follows_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let (work, outside) = (dir.path().join("work"), dir.path().join("outside"));
    fs::create_dir_all(work.join("5/sub")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "kept").unwrap();
    symlink(&outside, work.join("5/sub/link")).unwrap();
    clean(&session_program(), &work, 5).unwrap();
    assert!(!work.join("5").exists());
    symlink(&outside, work.join("6")).unwrap();
    assert!(clean(&session_program(), &work, 6).is_err());
    clean(&session_program(), &work, 7).unwrap();
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
}

/// Deeper than a path or the descriptors of a process go, and closed at the top and at the bottom.
#[test]
fn cleaning_is_deep() {
    if !as_a_person("cleaning_is_deep") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (work, job) = (dir.path().join("work"), dir.path().join("work/5"));
    fs::create_dir_all(job.join("tree/shut")).unwrap();
    fs::write(job.join("tree/shut/file"), "").unwrap();
    fs::set_permissions(job.join("tree/shut"), fs::Permissions::from_mode(0o000)).unwrap();
    for _ in 0..1_500 {
        fs::create_dir(job.join("next")).unwrap();
        fs::rename(job.join("tree"), job.join("next/deep")).unwrap();
        fs::rename(job.join("next"), job.join("tree")).unwrap();
    }
    fs::set_permissions(&job, fs::Permissions::from_mode(0o000)).unwrap();
    clean(&session_program(), &work, 5).unwrap();
    assert!(!job.exists());
}

/// What can't be removed is said, and the folder stays for the next try.
#[test]
fn cleaning_says_what_it_left() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    fs::create_dir_all(work.join("5")).unwrap();
    let error = clean(Path::new("/bin/false"), &work, 5).unwrap_err();
    assert!(error.to_string().contains("exit status: 1"), "{error}");
    assert!(work.join("5").exists());
}
