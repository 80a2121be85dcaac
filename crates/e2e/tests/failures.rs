//! What a failure becomes: the rows of ARCHITECTURE §6 that need a real host to show. The others are in `bad_input`
//! (locked and expired accounts), `isolation` (proxy accounts), `jobs` and `lifecycle` (time limit, memory), and in the
//! supervisor's own tests, which have several workers.

use e2e::{Farm, Role, Signal, Stage, accounts, lives, root_or_skip, until};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

fn has_reason(about: &'static [&'static str]) -> impl Fn(&Value) -> bool {
    move |j| j["reason"].as_str().is_some_and(|r| about.iter().all(|a| r.contains(a)))
}

/// A user-mode farm with one account more, of which other tests have no processes.
fn farm_with(name: &str, uid: u32, slots: &str, launcher_conf: &str) -> Farm {
    let mut all = accounts();
    let mut account = all.iter().find(|a| a.name == "bob").cloned().expect("bob");
    (account.name, account.uid, account.gid) = (name.to_owned(), uid, uid);
    (account.home, account.groups) = (format!("/home/{name}"), Vec::new());
    all.push(account);
    let conf = format!("mkdir -p /etc/stead && printf '{launcher_conf}' > /etc/stead/launcher.conf");
    Farm::user_mode().on(Stage::raise_with(&all)).with(&["--slots", slots]).after(&conf).start()
}

#[test]
fn an_account_that_no_worker_has_is_a_bad_login_once() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let asked = farm.stead_as("root", &["explain", "--user", "ghost", "--json"]).ok().json();
    assert_eq!(asked["workers"][0]["verdict"], "refused", "{asked:#}");
    let told = farm.stead_as("root", &["explain", "--user", "ghost"]).ok().out();
    assert!(told.contains("refused") && told.contains("ghost"), "{told}");

    let job = farm.submit_sh("root", &["--user", "ghost"], "touch /tmp/ran");
    let ended = farm.ends(job, "badlogin");
    let worker = farm.stead_as("root", &["worker", "list", "--json"]).ok().json()[0]["name"].to_string();
    let reason = ended["reason"].to_string();
    assert!(reason.contains("ghost") && reason.contains(worker.trim_matches('"')), "{reason}");
    assert!(!farm.path("/tmp/ran").exists());
    let _ = farm.stead_as("root", &["wait", &job.to_string()]).exits(5).complains(&["ghost"]);
    let explained = farm.stead_as("root", &["explain", &job.to_string()]).ok().out();
    assert!(explained.contains("badlogin") && explained.contains("no worker that could run it"), "{explained}");
    // For good: neither a retry nor an account that is made later brings it back.
    let _ = farm.stead_as("root", &["retry", &job.to_string()]).exits(1).complains(&["resubmit"]);
    let mut passwd = File::options().append(true).open(farm.path("/etc/passwd")).expect("passwd");
    passwd.write_all(b"ghost:x:1590:1590::/home:/bin/sh\n").expect("an account");
    farm.complete(farm.submit_sh("bob", &[], "true"));
    assert_eq!(e2e::state(&farm.job(job)), "badlogin");
}

/// F-row "directory down": the module that has the account can't reach its server.
#[test]
fn a_directory_that_is_down_holds_a_job_up_and_costs_it_nothing() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let (passwd, nsswitch) = (farm.path("/etc/passwd"), farm.path("/etc/nsswitch.conf"));
    let [known, files] = [&passwd, &nsswitch].map(|f| std::fs::read_to_string(f).expect("the stage's own"));
    // As if bob were in a directory: `hesiod`, which is part of glibc, has no server anywhere.
    let without: String = known.lines().filter(|l| !l.starts_with("bob:")).flat_map(|l| [l, "\n"]).collect();
    std::fs::write(&nsswitch, files.replace("passwd: files", "passwd: hesiod files")).expect("nsswitch.conf");
    std::fs::write(&passwd, without).expect("passwd");

    let job = farm.submit_sh("root", &["--user", "bob", "--retries", "0"], "id -un");
    let waits = farm.until_job(job, "the directory as the reason", has_reason(&["directory", "does not answer"]));
    assert_eq!(e2e::state(&waits), "pending");
    let tried_twice = |sessions: &Value| sessions.as_array().is_some_and(|s| s.len() >= 2);
    let explain = || farm.stead_as("root", &["explain", &job.to_string(), "--json"]).ok().json()["sessions"].clone();
    let sessions = until("another try", || Some(explain()).filter(tried_twice));
    assert!(sessions.as_array().is_some_and(|s| s.len() < 10), "it is asked again and again: {sessions:#}");
    let attempts = farm.attempts(job);
    assert!(attempts.iter().all(|a| e2e::state(a) == "launching"), "none was used up: {attempts:#?}");

    std::fs::write(&passwd, known).expect("passwd");
    std::fs::write(&nsswitch, files).expect("nsswitch.conf");
    farm.complete(job);
    assert_eq!((farm.log(job).as_str(), farm.attempts(job).len()), ("bob\n", 1));
}

/// Processes of an account, outside of the farm.
struct Crowd(Child);

impl Crowd {
    fn of(farm: &Farm, who: &str, size: usize) -> Self {
        let script = format!("for i in $(seq {size}); do sleep 86395 & done; echo all; wait");
        let mut command = farm.stage().command_as(who, "sh");
        let mut crowd = command.args(["-c", &script]).stdout(Stdio::piped()).spawn().expect("sh starts");
        let mut word = [0; 4];
        crowd.stdout.take().expect("stdout").read_exact(&mut word).expect("all of them");
        Self(crowd)
    }

    fn leave(mut self, farm: &Farm) {
        let processes = farm.processes();
        let sleepers = processes.all().into_iter().filter(|p| p.argv.get(1).is_some_and(|a| a == "86395"));
        sleepers.for_each(|p| e2e::signal(p.pid, Signal::SIGKILL));
        self.0.wait().expect("the shell's end");
    }
}

/// For this process, and for what it forks from now on. Asked by its own user, as not every root may do it to others.
fn limit_processes(pid: i32, uid: u32, processes: u32) {
    let id = uid.to_string();
    let set = std::process::Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "prlimit"])
        .args(["--pid", &pid.to_string(), &format!("--nproc={processes}:{processes}")])
        .status();
    assert!(set.expect("setpriv starts").success());
}

/// The launch itself meets the limit: the account may not have one process more.
#[test]
fn an_account_with_too_many_processes_waits_and_loses_no_retry() {
    if !root_or_skip() {
        return;
    }
    let farm = farm_with("crowd", 1591, "1", "");
    let launcher = farm.processes().of(Role::Launcher)[0];
    limit_processes(launcher, 0, 30);
    let crowd = Crowd::of(&farm, "crowd", 40);
    let job = farm.submit_sh("crowd", &["--retries", "0"], "echo ran");
    let waits = farm.until_job(job, "a reason", |j| j["reason"].is_string());
    assert_eq!((e2e::state(&waits), farm.attempts(job)), ("pending", vec![]), "{waits:#}");
    crowd.leave(&farm);
    farm.complete(job);
    assert_eq!((farm.log(job).as_str(), farm.attempts(job).len()), ("ran\n", 1));
}

/// A session that runs already meets it, at its next task.
#[test]
fn a_task_that_meets_the_limit_of_processes_goes_back_and_loses_no_retry() {
    if !root_or_skip() {
        return;
    }
    let farm = farm_with("queue", 1592, "1", "");
    let script = "echo {frame}; until test -e /tmp/go; do sleep 0.1; done";
    let job = farm.submit("queue", &["--frames", "1-2", "--retries", "0", "--", "sh", "-c", script]);
    until("the first frame", || (farm.log(job) == "1\n").then_some(()));
    let [session] = farm.processes().of(Role::Session)[..] else { panic!("{:#?}", farm.processes()) };
    limit_processes(session, 1592, 1);
    let crowd = Crowd::of(&farm, "queue", 10);
    std::fs::write(farm.path("/tmp/go"), "").expect("go");
    let waits = farm.until_job(job, "the limit as the reason", has_reason(&["limit of processes"]));
    assert_eq!(e2e::state(&waits), "pending", "{waits:#}");
    crowd.leave(&farm);
    farm.complete(job);
    assert_eq!(farm.attempts(job).len(), 2, "each frame once: {:#?}", farm.attempts(job));
}

/// E02: a job that does nothing but fork reaches its own limit and nobody else's.
#[test]
fn a_fork_bomb_harms_only_itself() {
    if !root_or_skip() || !e2e::programs_or_skip(&["perl"]) {
        return;
    }
    let farm = farm_with("bomber", 1593, "2", "pids_max = 64\\n");
    let mine = |tree: &e2e::Tree| tree.all().iter().filter(|p| p.uids.first() == Some(&1593)).map(|p| p.pid).collect();
    let processes = || -> Vec<i32> { mine(&farm.processes()) };
    // Unlike a shell's own, it doesn't end when it may not fork any more.
    let bomb = farm.submit("bomber", &["--retries", "0", "--", "perl", "-e", "while (1) { fork() }"]);
    until("the limit", || (processes().len() >= 50).then_some(()));
    // The farm answers, and others work.
    assert_eq!(farm.output_of("ada", &[], "echo fine"), "fine\n");
    let most = processes().len();
    assert!(most <= 64, "{most} processes");
    let began = std::time::Instant::now();
    let _ = farm.stead_as("bomber", &["kill", &bomb.to_string()]).ok();
    let _ = farm.ends(bomb, "killed");
    until("an end of all of it", || processes().is_empty().then_some(()));
    assert!(began.elapsed().as_secs() < 20, "it took {:?}", began.elapsed());
    assert_eq!(farm.output_of("bomber", &[], "echo again"), "again\n");
}

/// A file system whose server takes every request and answers none but the first: who waits for it can't be killed.
struct Hang {
    path: &'static str,
}

impl Hang {
    fn mount(stage: &Stage) -> Self {
        let path = "/mnt/hang";
        let device = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
        std::fs::create_dir(stage.path(path)).expect("a mount point");
        let mut mount = stage.command("mount");
        mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40777,user_id=0,group_id=0,allow_other", "hang", path]);
        mount.stdin(device.try_clone().expect("a descriptor"));
        assert!(mount.status().expect("mount starts").success());
        std::thread::spawn(move || serve(device));
        Self { path }
    }

    fn give_up(&self, stage: &Stage) {
        // Whoever waits gets an error. It may be busy for a moment.
        until("an end of the file system", || {
            stage.command("umount").args(["-f", self.path]).status().ok().filter(std::process::ExitStatus::success)
        });
    }
}

/// Until the file system is unmounted.
fn serve(mut device: File) {
    let mut request = vec![0; 1 << 17];
    while let Ok(size) = device.read(&mut request) {
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"));
        const INIT: u32 = 26;
        if size >= 40 && word(4) == INIT {
            // Header: length, error, the request's number. Then version 7.19, read-ahead, flags, background, longest write.
            let mut answer = Vec::new();
            answer.extend(40_u32.to_ne_bytes());
            answer.extend(0_u32.to_ne_bytes());
            answer.extend(&request[8..16]);
            for number in [7_u32, 19, 0, 0, 0, 4096] {
                answer.extend(number.to_ne_bytes());
            }
            device.write_all(&answer).expect("answered");
        }
    }
}

/// E04: nothing of it is called over before it is, nothing of it runs twice, and the attempt says why it took so long.
#[test]
fn a_process_that_cannot_be_killed_is_a_reason_of_its_own() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let hang = Hang::mount(farm.stage());
    let job = farm.submit_sh("ada", &["--retries", "0", "--time-limit", "1s"], "echo up; exec cat /mnt/hang/file");
    let cats = || -> Vec<i32> {
        let processes = farm.processes();
        let is = |argv: &[String]| argv == ["cat", "/mnt/hang/file"];
        processes.all().iter().filter(|p| is(&p.argv)).map(|p| p.pid).collect()
    };
    let [cat] = until("what hangs", || Some(cats()).filter(|c| c.len() == 1))[..] else { panic!("one") };
    until("an end of its session", || farm.processes().of(Role::Session).is_empty().then_some(()));
    assert!(lives(cat), "it could be killed: the test proves nothing");
    // The slot is kept, the task isn't handed out again, and the farm goes on.
    assert_eq!(farm.attempts(job).len(), 1, "{:#?}", farm.attempts(job));
    assert_eq!(e2e::state(&farm.job(job)), "running");
    assert_eq!(farm.output_of("bob", &[], "echo fine"), "fine\n");
    hang.give_up(farm.stage());
    let over = |a: &Value| e2e::state(a) != "running";
    let first = until("an end of the attempt", || farm.attempts(job).into_iter().next().filter(over));
    assert!(first["reason"].as_str().is_some_and(|r| r.contains("could only be ended with the session")), "{first:#}");
    assert_ne!(first["exit_code"], json!(0));
    let _ = farm.stead_as("ada", &["kill", &job.to_string()]);
    until("an end of it", || (!lives(cat)).then_some(()));
}
