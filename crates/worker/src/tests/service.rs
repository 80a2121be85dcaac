//! Service mode, from hello to the last acknowledged byte.

use super::fake_launcher::{self, output_of};
use super::fake_supervisor::{self, Kept, Wanted};
use super::{FARM, Running, WORKER, eventually, farm_key, service};
use crate::{Mode as WorkerMode, WorkerError};
use nix::mount::MsFlags;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use warrant::launcher_wire::RefusalKind;
use warrant::{Batch, Item, ItemKind, Mode, Renewal, TaskRef};
use wire::log::Stream;
use wire::{End, FromWorker, Report, SessionEnd, Task, ToWorker};

/// Tasks by index, with what they print in bytes.
pub(crate) type Tasks = Vec<(u64, usize)>;

/// A farm in one folder: everything but the worker.
pub(crate) struct Bench {
    pub(crate) supervisor: fake_supervisor::Serving,
    pub(crate) launcher: fake_launcher::Serving,
    pub(crate) dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = fake_supervisor::Serving::start(dir.path());
        let launcher = fake_launcher::Serving::start(dir.path());
        Self { supervisor, launcher, dir }
    }

    pub(crate) fn worker(&self) -> Running {
        Running::start(service(self.dir.path()))
    }

    fn connected(&self) -> Running {
        let worker = self.worker();
        self.supervisor.supervisor.wait_connected();
        worker
    }

    /// Nothing of any session is left anywhere.
    pub(crate) fn wait_clean(&self) {
        eventually("the launcher has forgotten all sessions", || self.launcher.launcher.is_empty());
        eventually("the spool is empty", || spooled(self.dir.path()).is_empty());
    }
}

fn spooled(dir: &Path) -> Vec<std::path::PathBuf> {
    crate::spool::list(&dir.join("worker")).unwrap()
}

pub(crate) fn task(index: u64) -> TaskRef {
    TaskRef { step: 2, index, epoch: 1 }
}

fn item(kind: ItemKind, len: usize) -> Item {
    Item {
        kind,
        argv: vec![len.to_string().into_bytes()],
        env: Vec::new(),
        files: Vec::new(),
        timeout_ms: 0,
        grace_ms: 0,
    }
}

/// Tasks that print so many bytes.
pub(crate) fn batch(tasks: impl Iterator<Item = (u64, usize)>) -> Batch {
    Batch {
        farm: FARM,
        session: 0,
        sequence: 0,
        job: 5,
        not_after: u64::MAX,
        env: Vec::new(),
        cwd: None,
        files: Vec::new(),
        items: tasks.map(|(index, len)| item(ItemKind::Task(task(index)), len)).collect(),
    }
}

pub(crate) fn wanted(batches: Vec<Batch>) -> Wanted {
    let (account, user) = ("ada".to_owned(), "ada".to_owned());
    Wanted { job: 5, mode: Mode::User, account, user, batches, finish: true, clean: false }
}

/// What the log holds of each attempt; panics when anything is there twice or missing in between.
pub(crate) fn streams(log: &[u8]) -> BTreeMap<(Task, u8), Vec<u8>> {
    let mut streams: BTreeMap<(Task, u8), Vec<u8>> = BTreeMap::new();
    let whole = crate::spool::whole_records(log, |r| {
        let stream = match r.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
            Stream::Environment => 3,
        };
        let bytes = streams.entry((r.task, stream)).or_default();
        assert_eq!(r.offset, bytes.len() as u64, "{:?}", r.task);
        bytes.extend_from_slice(r.data);
    });
    assert_eq!(whole, log.len(), "the log ends within a record");
    streams
}

/// The reports a session must have made, whatever happened meanwhile.
pub(crate) fn check_whole(kept: &Kept, batches: &[Tasks]) {
    let mut expected = Vec::new();
    for (sequence, tasks) in (1..).zip(batches) {
        for (index, _) in tasks {
            let (t, code) = (task(*index).into(), u8::try_from(index % 3).unwrap());
            expected.push(Report::TaskStarted { task: t, at_us: 1 });
            let end = End::Exited { code };
            expected.push(Report::TaskEnded { task: t, end, started_us: 1, ended_us: 2, cpu_us: 3, max_rss: 4 });
        }
        expected.push(Report::BatchDone { sequence });
    }
    let last = kept.reports.len() - 1;
    assert!(matches!(&kept.reports[0], Report::Started { run_as, proof: Some(_), at_us: 1000 }
        if run_as.name == "ada" && run_as.uid == 4242 && run_as.groups == [4243, 5000]));
    assert_same(&kept.reports[1..last], &expected);
    assert!(
        matches!(&kept.reports[last], Report::Ended { end: SessionEnd::Left, text, cpu_us: 11, max_rss: 22, proof: Some(_) }
            if text == "all work is done"),
        "{:?}",
        kept.reports[last]
    );
    let printed: BTreeMap<(Task, u8), Vec<u8>> = batches
        .iter()
        .flatten()
        .filter(|(_, len)| *len > 0)
        .map(|(index, len)| ((task(*index).into(), 1), output_of(task(*index), *len)))
        .collect();
    let (have, want) = (streams(&kept.log), printed);
    assert_eq!(have.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    assert!(have == want, "the output of a task is another");
}

/// Shows where two long lists part.
fn assert_same(have: &[Report], want: &[Report]) {
    let part = have.iter().zip(want).position(|(h, w)| h != w).unwrap_or(have.len().min(want.len()));
    let around = |list: &[Report]| list.iter().skip(part).take(3).cloned().collect::<Vec<_>>();
    assert!(
        have == want,
        "{} and {} reports part at {part}: {:#?} {:#?}",
        have.len(),
        want.len(),
        around(have),
        around(want)
    );
}

#[test]
fn a_session_is_reported_from_its_start_to_its_end() {
    let bench = Bench::new();
    let worker = bench.connected();
    let tasks: Tasks = vec![(0, 10), (1, 0), (2, 5000)];
    let more: Tasks = vec![(3, 1)];
    let supervisor = &bench.supervisor.supervisor;
    let session = supervisor.want(wanted(vec![batch(tasks.clone().into_iter()), batch(more.clone().into_iter())]));
    check_whole(&supervisor.wait_over(session), &[tasks, more]);
    bench.wait_clean();
    worker.stop().unwrap();
}

#[test]
fn an_environments_output_belongs_to_the_session() {
    let bench = Bench::new();
    let _worker = bench.connected();
    let supervisor = &bench.supervisor.supervisor;
    let mut both = batch([(0, 3)].into_iter());
    both.items.insert(0, item(ItemKind::Enter { name: "gpu".to_owned() }, 40));
    both.items.push(item(ItemKind::Exit { name: "gpu".to_owned() }, 50));
    let kept = supervisor.wait_over(supervisor.want(wanted(vec![both])));
    let none = Task { step: 0, index: 0, epoch: 0 };
    assert_eq!(streams(&kept.log)[&(none, 3)].len(), 90);
    let ended = kept.reports.iter().filter(|r| matches!(r, Report::EnvironmentEnded { name, .. } if name == "gpu"));
    assert_eq!(ended.count(), 2);
}

#[test]
fn progress_goes_over_the_channel() {
    let bench = Bench::new();
    let _worker = bench.connected();
    let supervisor = &bench.supervisor.supervisor;
    let session = supervisor.want(wanted(vec![batch([(0, 3)].into_iter())]));
    supervisor.wait_over(session);
    eventually("progress was told", || {
        supervisor
            .books()
            .heard
            .iter()
            .any(|m| matches!(m, FromWorker::Progress { session: s, hundredths: Some(10_000), .. } if *s == session))
    });
}

#[test]
fn what_the_supervisor_fails_to_take_is_brought_again() {
    let bench = Bench::new();
    let supervisor = &bench.supervisor.supervisor;
    // Each kind of request fails before and after it was stored.
    supervisor.books().failures = [false, true, false, true, true, false, true].into();
    let _worker = bench.connected();
    let tasks: Tasks = (0..40).map(|n| (n, 900)).collect();
    let session = supervisor.want(wanted(vec![batch(tasks.clone().into_iter())]));
    check_whole(&supervisor.wait_over(session), &[tasks]);
    assert!(supervisor.books().failures.is_empty());
    bench.wait_clean();
}

#[test]
fn more_reports_than_fit_a_request_come_in_order() {
    let bench = Bench::new();
    let supervisor = &bench.supervisor.supervisor;
    let _worker = bench.connected();
    let tasks: Tasks = (0..1500).map(|n| (n, 0)).collect();
    // Nothing gets through until there is a lot of it.
    supervisor.books().failures = vec![false; 8].into();
    let session = supervisor.want(wanted(vec![batch(tasks.clone().into_iter())]));
    check_whole(&supervisor.wait_over(session), &[tasks]);
}

#[test]
fn a_worker_that_was_killed_goes_on_where_it_was() {
    let bench = Bench::new();
    let supervisor = &bench.supervisor.supervisor;
    let mut worker = bench.connected();
    let tasks: Tasks = (0..400).map(|n| (n, 1500)).collect();
    let session = supervisor.want(wanted(vec![batch(tasks.clone().into_iter())]));
    for reports in [3, 100, 300] {
        eventually("some reports came", || supervisor.kept(session).reports.len() > reports);
        worker.kill();
        worker = bench.worker();
    }
    check_whole(&supervisor.wait_over(session), &[tasks]);
    bench.wait_clean();
    worker.stop().unwrap();
}

#[test]
fn sessions_go_on_without_a_worker_after_it_was_stopped() {
    let bench = Bench::new();
    let supervisor = &bench.supervisor.supervisor;
    let worker = bench.connected();
    let tasks: Tasks = vec![(0, 20), (1, 20)];
    let session = supervisor.want(Wanted { finish: false, ..wanted(vec![batch(tasks.clone().into_iter())]) });
    eventually("it runs", || supervisor.kept(session).reports.len() > 2);
    worker.stop().unwrap();
    assert_eq!(bench.launcher.launcher.living(), 1);
    supervisor.books().wanted.get_mut(&session).unwrap().finish = true;
    let _worker = bench.worker();
    check_whole(&supervisor.wait_over(session), &[tasks]);
}

#[test]
fn a_living_session_whose_spool_is_lost_goes_on_where_the_supervisor_is() {
    let bench = Bench::new();
    let supervisor = &bench.supervisor.supervisor;
    let worker = bench.connected();
    let (before, after): (Tasks, Tasks) = (vec![(0, 20)], vec![(1, 30)]);
    let mut what = wanted(vec![batch(before.clone().into_iter())]);
    what.finish = false;
    let session = supervisor.want(what);
    eventually("the first batch is done", || supervisor.kept(session).reports.len() == 4);
    worker.kill();
    std::fs::remove_dir_all(bench.dir.path().join("worker")).unwrap();
    {
        let mut books = supervisor.books();
        let what = books.wanted.get_mut(&session).unwrap();
        what.batches.push(batch(after.clone().into_iter()));
        what.finish = true;
    }
    let _worker = bench.worker();
    check_whole(&supervisor.wait_over(session), &[before, after]);
    bench.wait_clean();
}

#[test]
fn a_session_nobody_wants_any_more_is_ended_and_forgotten() {
    let bench = Bench::new();
    let supervisor = &bench.supervisor.supervisor;
    let worker = bench.connected();
    let session = supervisor.want(Wanted { finish: false, ..wanted(vec![batch([(0, 9)].into_iter())]) });
    eventually("it runs", || supervisor.kept(session).reports.len() > 2);
    worker.kill();
    supervisor.books().wanted.clear();
    let _worker = bench.worker();
    bench.wait_clean();
    // Asked for again when nobody said yet that it has ended.
    let mut killed = bench.launcher.launcher.killed();
    killed.dedup();
    assert_eq!(killed, [session]);
    assert!(!supervisor.kept(session).over());
}

#[test]
fn a_restarted_launcher_is_told_and_its_sessions_go_on() {
    let mut bench = Bench::new();
    let worker = bench.connected();
    let tasks: Tasks = (0..300).map(|n| (n, 100)).collect();
    let session = {
        let supervisor = &bench.supervisor.supervisor;
        let session = supervisor.want(wanted(vec![batch(tasks.clone().into_iter())]));
        eventually("it runs", || supervisor.kept(session).reports.len() > 2);
        session
    };
    bench.launcher.restart(true);
    let supervisor = &bench.supervisor.supervisor;
    eventually("the supervisor knows of the new incarnation", || {
        supervisor
            .books()
            .heard
            .iter()
            .any(|m| matches!(m, FromWorker::NewIncarnation { incarnation, .. } if incarnation.starts_with("0202")))
    });
    eventually("the worker is well again", || supervisor.well());
    check_whole(&supervisor.wait_over(session), &[tasks]);
    bench.wait_clean();
    worker.stop().unwrap();
}

#[test]
fn every_refusal_reaches_the_supervisor() {
    let bench = Bench::new();
    let supervisor = &bench.supervisor.supervisor;
    let _worker = bench.connected();
    for (kind, stage) in [
        (RefusalKind::BadLogin, "setuid"),
        (RefusalKind::Account, "setuid"),
        (RefusalKind::LocalPolicy, "setuid"),
        (RefusalKind::Transient, "setuid"),
        (RefusalKind::Stage, "setuid"),
        (RefusalKind::Warrant, "setuid"),
        (RefusalKind::Warrant, "warrant_signature"),
    ] {
        bench.launcher.launcher.refuse_next(kind, stage);
        let session = supervisor.want(Wanted { finish: false, ..wanted(Vec::new()) });
        let kept = supervisor.wait_over(session);
        let expected = Report::Refused {
            kind: kind.as_str().to_owned(),
            stage: stage.to_owned(),
            errno: 11,
            text: "because of the test".to_owned(),
            hint: "none".to_owned(),
            proof: None,
        };
        assert_eq!(kept.reports, [expected]);
    }
    eventually("the spool is empty", || spooled(bench.dir.path()).is_empty());
}

#[test]
fn a_warrant_that_is_none_is_refused_without_asking_root() {
    let bench = Bench::new();
    let supervisor = &bench.supervisor.supervisor;
    let _worker = bench.connected();
    supervisor.order(&ToWorker::Open { session: 900, job: 1, lease_until: 0 }, b"not a warrant");
    let kept = supervisor.wait_over(900);
    assert!(matches!(&kept.reports[..], [Report::Refused { kind, .. }] if kind == "warrant"));
}

#[test]
fn a_kill_ends_the_session_and_is_reported() {
    let bench = Bench::new();
    let supervisor = &bench.supervisor.supervisor;
    let _worker = bench.connected();
    let session = supervisor.want(Wanted { finish: false, ..wanted(Vec::new()) });
    eventually("it runs", || !supervisor.kept(session).reports.is_empty());
    supervisor.order(&ToWorker::Kill { session }, &[]);
    let kept = supervisor.wait_over(session);
    assert!(matches!(kept.reports.last(), Some(Report::Ended { end: SessionEnd::Killed, proof: Some(_), .. })));
    bench.wait_clean();
}

#[test]
fn renewals_go_to_the_launcher_and_again_to_a_new_one() {
    let mut bench = Bench::new();
    let _worker = bench.connected();
    let supervisor = bench.supervisor.supervisor.clone();
    let session = supervisor.want(Wanted { finish: false, ..wanted(Vec::new()) });
    eventually("it runs", || !supervisor.kept(session).reports.is_empty());
    let renewal = Renewal { farm: FARM, worker: WORKER.to_owned(), session, lease_until: 99 }.sign(&farm_key());
    supervisor.order(&ToWorker::Renew { session }, &renewal.encode());
    eventually("it was renewed", || bench.launcher.launcher.renewed() == 1);
    bench.launcher.restart(true);
    eventually("it was renewed again", || bench.launcher.launcher.renewed() == 2);
}

#[test]
fn a_cleaning_is_reported_only_when_it_went_well() {
    let bench = Bench::new();
    let supervisor = &bench.supervisor.supervisor;
    let _worker = bench.connected();
    for (code, cleaned) in [(0, 1), (1, 0)] {
        bench.launcher.launcher.clean_with(code);
        let kept = supervisor.wait_over(supervisor.want(Wanted { clean: true, ..wanted(Vec::new()) }));
        let told = kept.reports.iter().filter(|r| matches!(r, Report::Cleaned { job: 5 })).count();
        assert_eq!(told, cleaned, "{:?}", kept.reports);
        assert!(matches!(kept.reports.last(), Some(Report::Ended { end: SessionEnd::Left, .. })));
    }
    bench.wait_clean();
}

#[test]
fn accounts_are_told_as_this_host_sees_them() {
    let bench = Bench::new();
    let supervisor = &bench.supervisor.supervisor;
    let _worker = bench.connected();
    for (id, name) in [(1, "root"), (2, "no-such-account-here")] {
        supervisor.order(&ToWorker::Lookup { id, account: name.to_owned() }, &[]);
    }
    eventually("both are answered", || {
        supervisor.books().heard.iter().filter(|m| matches!(m, FromWorker::LookedUp { .. })).count() == 2
    });
    for message in &supervisor.books().heard {
        match message {
            FromWorker::LookedUp { id: 1, account: Some(a), error: None } => assert_eq!((a.uid, a.gid), (0, 0)),
            FromWorker::LookedUp { id: 2, account: None, error: Some(e) } => {
                assert!(e.contains("no account no-such-account-here"), "{e}");
            }
            FromWorker::LookedUp { .. } => panic!("{message:?}"),
            _ => {}
        }
    }
}

#[test]
fn the_hello_says_what_the_worker_is() {
    let bench = Bench::new();
    let _worker = bench.connected();
    let hello = bench.supervisor.supervisor.books().hellos[0].clone();
    assert_eq!((hello.version, hello.name.as_str(), hello.mode.as_str()), (wire::VERSION, WORKER, "user"));
    assert_eq!(
        (hello.slots, hello.labels.as_slice(), hello.panic),
        (2, &crate::host::with_own_labels(vec!["test".to_owned()], false)[..], None)
    );
    assert!(hello.host_key.is_some() && hello.abilities.cgroup_kill && hello.owner.is_none());
}

#[test]
fn proxy_mode_without_its_account_takes_no_jobs() {
    for (proxy, says) in [("no-such-account-here", "no account"), ("root", "root"), ("throwaway", "throwaway")] {
        let bench = Bench::new();
        let mut config = service(bench.dir.path());
        let WorkerMode::Service { proxy: set, .. } = &mut config.mode else { unreachable!() };
        *set = Some(proxy.to_owned());
        let _worker = Running::start(config);
        bench.supervisor.supervisor.wait_connected();
        let hello = bench.supervisor.supervisor.books().hellos[0].clone();
        assert_eq!((hello.mode.as_str(), hello.proxy_account.as_deref()), ("proxy", Some(proxy)));
        assert!(hello.panic.as_ref().is_some_and(|p| p.contains(says)), "{:?}", hello.panic);
    }
}

/// What the supervisor says goes before the worker's own options, is looked at on this host, and is mended by the next.
#[test]
fn settings_of_the_supervisor_are_looked_at_and_answered() {
    let bench = Bench::new();
    let worker = bench.connected();
    let supervisor = &bench.supervisor.supervisor;
    let order = |number, mode: &str, account: Option<&str>| {
        let (mode, proxy_account) = (mode.to_owned(), account.map(str::to_owned));
        supervisor.order(&ToWorker::Settings { number, mode, proxy_account }, &[]);
    };
    let answer = |wanted| {
        let mut answer = None;
        eventually("the worker has answered", || {
            answer = supervisor.books().heard.iter().find_map(|m| match m {
                FromWorker::Settled { number, panic } if *number == wanted => Some(panic.clone()),
                _ => None,
            });
            answer.is_some()
        });
        answer.flatten()
    };
    order(1, "proxy", Some("no-such-account-here"));
    assert!(answer(1).is_some_and(|p| p.contains("no account no-such-account-here")));
    order(2, "proxy", Some("root"));
    assert!(answer(2).is_some_and(|p| p.contains("root")));
    order(3, "proxy", Some("daemon"));
    assert_eq!(answer(3), None);
    order(4, "proxy", None);
    assert!(answer(4).is_some_and(|p| p.contains("not understood")), "no account is no reason for another mode");
    order(5, "user", None);
    assert_eq!(answer(5), None);
    supervisor.cut();
    eventually("it is back", || supervisor.books().hellos.len() == 2);
    let hello = supervisor.books().hellos[1].clone();
    assert_eq!((hello.mode.as_str(), hello.settings, hello.panic), ("user", 5, None));
    worker.stop().unwrap();
}

#[test]
fn service_mode_needs_its_launcher() {
    let dir = tempfile::tempdir().unwrap();
    let error = Running::start(service(dir.path())).refusal();
    assert!(matches!(error, WorkerError::Launcher(_)));
    let text = error.to_string();
    assert!(text.starts_with("service mode needs stead-launcher running as root") && text.contains("--mode desktop"));
}

#[test]
fn a_launcher_that_is_someone_else_is_no_launcher() {
    let bench = Bench::new();
    let mut config = service(bench.dir.path());
    let WorkerMode::Service { launcher_uid, .. } = &mut config.mode else { unreachable!() };
    *launcher_uid += 1;
    let text = Running::start(config).refusal().to_string();
    assert!(text.contains("runs as uid"), "{text}");
}

#[test]
fn a_launch_whose_answer_is_lost_is_tried_again() {
    let mut bench = Bench::new();
    let _worker = bench.connected();
    let supervisor = bench.supervisor.supervisor.clone();
    bench.launcher.launcher.lose_next();
    let tasks: Tasks = vec![(0, 20)];
    let session = supervisor.want(wanted(vec![batch(tasks.clone().into_iter())]));
    eventually("it was asked for", || bench.launcher.launcher.lost() == 1);
    bench.launcher.restart(true);
    check_whole(&supervisor.wait_over(session), &[tasks]);
    assert!(matches!(&supervisor.kept(session).reports[..], [Report::Refused { kind, .. }] if kind == "warrant"));
    assert_ne!(supervisor.last(session), session);
}

/// Tells the process that makes the test, in a mount namespace of its own.
const OWN_MOUNTS: &str = "TEST_OWN_MOUNTS";

#[test]
fn a_full_disk_holds_sessions_back_and_loses_nothing() {
    if !nix::unistd::getuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI runs these tests as root");
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    if std::env::var_os(OWN_MOUNTS).is_none() {
        let test = "tests::service::a_full_disk_holds_sessions_back_and_loses_nothing";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
        let output = command.args(["--exact", test, "--nocapture"]).env(OWN_MOUNTS, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains(" 1 passed"), "{said}");
        return;
    }
    let bench = Bench::new();
    let spool = bench.dir.path().join("worker");
    std::fs::create_dir(&spool).unwrap();
    mount(&spool, MsFlags::empty(), "size=128k");
    let _worker = bench.connected();
    let supervisor = &bench.supervisor.supervisor;
    let tasks: Tasks = (0..300).map(|n| (n, 4000)).collect();
    let session = supervisor.want(wanted(vec![batch(tasks.clone().into_iter())]));
    let free = || nix::sys::statvfs::statvfs(&spool).unwrap().blocks_available();
    eventually("the disk is nearly full", || free() < 3);
    let mut rest = std::fs::File::create(spool.join("rest")).unwrap();
    while rest.write_all(&[0; 512]).is_ok() {}
    eventually("what is in the spool was brought", || supervisor.kept(session).log.len() > 50_000);
    assert!(!supervisor.kept(session).over());
    // A second session finds no room at all: it is not begun, and the supervisor is told why.
    let second = supervisor.want(wanted(vec![batch(tasks.clone().into_iter())]));
    eventually("the worker says what is wrong", || {
        let books = supervisor.books();
        let told = books.hellos.iter().filter_map(|h| h.panic.as_deref());
        told.into_iter().any(|p| p.contains("spool can't be written"))
    });
    mount(&spool, MsFlags::MS_REMOUNT, "size=64m");
    for session in [session, second] {
        check_whole(&supervisor.wait_over(session), std::slice::from_ref(&tasks));
    }
    eventually("the worker is well again", || supervisor.well());
    bench.wait_clean();
}

fn mount(on: &Path, flags: MsFlags, options: &str) {
    nix::mount::mount(Some("tmpfs"), on, Some("tmpfs"), flags, Some(options)).unwrap();
}
