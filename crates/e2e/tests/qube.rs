//! What people of a Qube! farm type and rely on, with real accounts. `docs/compat-qube.md` names these tests.

use e2e::{Answer, Farm, JobId, root_or_skip, until};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;

fn qb(farm: &Farm, who: &str, words: &[&str]) -> Answer {
    farm.stead_as(who, &[&["qb"], words].concat())
}

/// Submits by `qbsub`, which prints the number and nothing else.
#[track_caller]
fn qbsub(farm: &Farm, who: &str, words: &[&str]) -> JobId {
    let printed = qb(farm, who, &[&["sub"], words].concat()).ok().out();
    JobId(printed.trim().parse().unwrap_or_else(|e| panic!("{printed:?}: {e}")))
}

#[track_caller]
fn state_is(farm: &Farm, job: JobId, state: &'static str) {
    let _ = farm.until_job(job, state, |j| j["state"] == state);
}

/// A program that everybody may run.
fn program(farm: &Farm, name: &str, script: &str) -> String {
    let inside = format!("/tmp/{name}");
    let path = farm.path(&inside);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a program");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    inside
}

#[test]
fn frames_are_submitted_listed_read_and_tried_again() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().with(&["--slots", "2"]).start();
    let script = "echo frame QB_FRAME_NUMBER of $(id -un); echo err >&2; test QB_FRAME_NUMBER != 003 -o -e /tmp/good";
    let job = qbsub(&farm, "ada", &["--range", "1-4", "--padding", "3", "-name", "shot", "-priority", "100", script]);
    let _ = farm.ends(job, "failed");
    let frame = format!("{job}:3");
    assert_eq!(qb(&farm, "ada", &["out", &frame]).ok().out(), "frame 003 of ada\n");
    assert_eq!(qb(&farm, "ada", &["out", "--pos", "6", &frame]).ok().out(), "003 of ada\n");
    assert_eq!(qb(&farm, "ada", &["err", &format!("{job}.0")]).ok().out(), "err\n");
    let listed = qb(&farm, "ada", &["jobs", "--status", "done", "--name", "sh*"]).ok().out();
    let line: Vec<&str> = listed.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(line[..8], [&job.to_string(), "100", "failed", "0", "3", "1", "ada", "shot"], "{listed}");
    assert!(qb(&farm, "bob", &["jobs"]).ok().err().contains("no jobs"));
    std::fs::write(farm.path("/tmp/good"), "").expect("a file");
    let _ = qb(&farm, "ada", &["retry", &job.to_string()]).ok();
    farm.complete(job);
    assert_eq!(farm.attempts(job).len(), 5, "one frame ran twice");
}

#[test]
fn jobs_are_held_let_go_interrupted_stopped_and_ended() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().with(&["--slots", "2"]).start();
    let job = qbsub(&farm, "ada", &["--status", "blocked", "echo x >> starts; exec sleep 86395"]);
    let starts =
        || std::fs::read_to_string(farm.path(farm.folder(job)).join("starts")).unwrap_or_default().lines().count();
    let id = job.to_string();
    state_is(&farm, job, "blocked");
    assert!(farm.job(job)["reason"].as_str().unwrap_or("").contains("submitted blocked"), "{:#}", farm.job(job));
    let _ = qb(&farm, "bob", &["unblock", &id]).exits(4);
    let _ = qb(&farm, "ada", &["unblock", &id]).ok();
    until("the task", || (starts() == 1).then_some(()));
    let _ = qb(&farm, "ada", &["interrupt", &id]).ok();
    until("a second start", || (starts() == 2).then_some(()));
    state_is(&farm, job, "running");
    let _ = qb(&farm, "ada", &["suspend", &id]).ok();
    state_is(&farm, job, "suspended");
    let _ = qb(&farm, "ada", &["interrupt", &id]).complains(&["only what runs is interrupted"]);
    let _ = qb(&farm, "ada", &["resume", &id]).ok();
    state_is(&farm, job, "running");
    let _ = qb(&farm, "ada", &["block", &id]).ok();
    state_is(&farm, job, "blocked");
    let second = qbsub(&farm, "ada", &["sleep", "1000"]);
    let _ = qb(&farm, "ada", &["kill", "0"]).ok();
    for job in [job, second] {
        let _ = farm.ends(job, "killed");
    }
    assert!(qb(&farm, "ada", &["kill", "0"]).ok().err().contains("no jobs"));
    let _ = qb(&farm, "ada", &["migrate", &id]).exits(2).complains(&["qbmigrate isn't supported"]);
}

/// The last submitted goes first once it is more urgent, also as a job of its own; what is over is only tried again.
#[test]
fn a_job_that_waits_is_given_another_name_and_priority() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().with(&["--slots", "1"]).start();
    let first = qbsub(&farm, "ada", &["until test -e /home/go; do sleep 0.05; done"]);
    state_is(&farm, first, "running");
    let mark = "echo $STEAD_JOB >> /mnt/shared/order";
    let [second, third] = [(); 2].map(|()| qbsub(&farm, "ada", &[mark]));
    let id = third.to_string();
    let _ = qb(&farm, "bob", &["modify", "--priority", "1", &id]).exits(4);
    let _ = qb(&farm, "ada", &["modify", &id]).exits(2).complains(&["what is to be otherwise"]);
    let _ = qb(&farm, "ada", &["modify", "--user", "bob", &id]).exits(2).complains(&["--user isn't supported"]);
    let _ = qb(&farm, "ada", &["modify", "-priority", "100", "-name", "urgent", &id]).ok();
    let changed = farm.job(third);
    assert_eq!((&changed["priority"], &changed["name"]), (&9899.into(), &"urgent".into()), "{changed:#}");
    std::fs::write(farm.path("/home/go"), "").expect("a file");
    for job in [first, second, third] {
        farm.complete(job);
    }
    let order = std::fs::read_to_string(farm.path("/mnt/shared/order")).expect("the order");
    assert_eq!(order, format!("{third}\n{second}\n"));
    let _ = qb(&farm, "ada", &["modify", "--priority", "1", &id]).exits(1).complains(&["is over (complete)"]);
    // Again, and as it is now.
    let again = farm.stead_as("ada", &["resubmit", "--json", &id]).ok().json();
    let again = farm.job(JobId(again["job"].as_u64().expect("a number")));
    assert_eq!((&again["priority"], &again["name"]), (&9899.into(), &"urgent".into()), "{again:#}");
    // To be changed before it runs again.
    let _ = qb(&farm, "ada", &["requeue", &id]).ok();
    state_is(&farm, third, "blocked");
    let _ = qb(&farm, "ada", &["modify", "--name", "later", &id]).ok();
    let _ = qb(&farm, "ada", &["unblock", &id]).ok();
    farm.complete(third);
    assert_eq!(farm.job(third)["name"], "later");
    let audit = farm.stead_as("root", &["audit", "search", "--job", &id]).ok().out();
    assert!(audit.contains("modify") && audit.contains("urgent"), "{audit}");
}

/// "either the user that submitted the job, or some other specified user": only for who may name another.
#[test]
fn another_user_is_named_only_by_who_may() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let as_ada = ["--user", "ada", "id", "-un"];
    let _ = qb(&farm, "bob", &[&["sub"], &as_ada[..]].concat()).exits(3);
    // With --lenient neither.
    let _ = qb(&farm, "bob", &["sub", "--lenient", "--user", "ada", "id", "-un"]).exits(3);
    let _ = qb(&farm, "bob", &["sub", "--lenient", "--domain", "FARM", "id", "-un"]).exits(2).complains(&["--domain"]);
    let job = qbsub(&farm, "root", &as_ada);
    farm.complete(job);
    assert_eq!(farm.log(job), "ada\n");
    let _ = qb(&farm, "bob", &["users", "--add", "--impersonate", "bob"]).exits(3);
    assert_eq!(qb(&farm, "root", &["users", "--add", "--impersonate", "bob"]).ok().out(), "bob: impersonate\n");
    let job = qbsub(&farm, "bob", &as_ada);
    farm.complete(job);
    assert_eq!(farm.log(job), "ada\n");
    let ended = farm.job(job);
    assert_eq!([&ended["login_user"], &ended["user"]], ["bob", "ada"]);
    assert_eq!(qb(&farm, "root", &["users", "--delete", "--impersonate", "bob"]).ok().out(), "bob: -\n");
    let _ = qb(&farm, "bob", &[&["sub"], &as_ada[..]].concat()).exits(3);
}

#[test]
fn hosts_are_shown_and_locked_by_administrators() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let shown = qb(&farm, "ada", &["hosts"]).ok().out();
    let line: Vec<&str> = shown.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    let name = line[0];
    assert_eq!([line[1], line[2], line[4], line[5]], ["active", "-", "service", "user"], "{shown}");
    let _ = qb(&farm, "ada", &["lock", name]).exits(3);
    let _ = qb(&farm, "root", &["lock", name]).ok();
    let locked = qb(&farm, "ada", &["hosts", name]).ok().out();
    assert!(locked.lines().nth(1).is_some_and(|l| l.split_whitespace().nth(2) == Some("yes")), "{locked}");
    let job = qbsub(&farm, "ada", &["true"]);
    let _ = qb(&farm, "root", &["unlock", "--all"]).ok();
    farm.complete(job);
    let _ = qb(&farm, "root", &["lock", "nowhere"]).exits(2);
}

/// "the worker process will be unable to access screenspace" in service mode, and a job can say that it needs some.
#[test]
fn a_job_that_needs_a_screen_is_told_that_a_service_has_none() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let job = qbsub(&farm, "ada", &["--requirements", "host.screen and host.os eq linux", "xlogo"]);
    let waits = farm.until_job(job, "a reason", |j| j["reason"].as_str().is_some_and(|r| r.contains("screen")));
    assert!(waits["reason"].as_str().is_some_and(|r| r.contains("this worker has no screen")), "{waits:#}");
    let explained = farm.stead_as("ada", &["explain", &job.to_string()]).ok().out();
    assert!(explained.contains("this worker has no screen"), "{explained}");
    let mode = "host.worker_mode eq service and host.proxy_mode eq user and host.processors ge 1 and not host.screen";
    farm.complete(qbsub(&farm, "ada", &["--requirements", mode, "true"]));
}

#[test]
fn a_job_that_needs_a_desktop_runs_on_one() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::desktop("ada").after("export DISPLAY=:7").start();
    let job =
        qbsub(&farm, "ada", &["--requirements", "host.worker_mode eq desktop and host.screen", "printenv DISPLAY"]);
    farm.complete(job);
    assert_eq!(farm.log(job), ":7\n");
}

/// Flight checks are the job's account's own: before, the first failure stops the rest and the command; after, they run
/// whatever happened.
#[test]
fn flight_checks_run_as_the_job_around_it() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let before = program(&farm, "before", "echo before $(id -un) $QB_FRAME_NUMBER; test \"$QB_FRAME_NUMBER\" != 2");
    let second = program(&farm, "second", "echo second");
    let after = program(&farm, "after", "echo after $(id -un) $QB_FRAME_STATUS code ${QB_SYSTEM_EXIT_CODE-none}");
    let checks = ["--agenda_preflights", &format!("{before},{second}"), "--agenda_postflights", &after];
    let words = [&["--range", "1-3"], &checks[..], &["sh", "-c", "echo run QB_FRAME_NUMBER; test QB_FRAME_NUMBER = 1"]]
        .concat();
    let job = qbsub(&farm, "ada", &words);
    let _ = farm.ends(job, "failed");
    let out = |frame: u32| qb(&farm, "ada", &["out", &format!("{job}:{frame}")]).ok().out();
    assert_eq!(out(1), "before ada 1\nsecond\nrun 1\nafter ada complete code 0\n");
    assert_eq!(out(2), "before ada 2\nafter ada failed code none\n");
    assert_eq!(out(3), "before ada 3\nsecond\nrun 3\nafter ada failed code 1\n");
    let fails = program(&farm, "fails", "exit 7");
    let job = qbsub(&farm, "ada", &["--postflights", &fails, "echo", "done"]);
    let _ = farm.ends(job, "failed");
    assert_eq!(farm.attempts(job)[0]["exit_code"], 7, "{:#}", farm.tasks(job));
}

/// Checks of an instance stand around all that one process tree runs of a job's frames.
#[test]
fn checks_of_an_instance_stand_around_its_frames() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().with(&["--slots", "1"]).start();
    let trace = format!("{}/trace", farm.shared());
    let note = |what: &str| format!("echo {what} $(id -un) >> {trace}");
    let before = program(&farm, "before", &note("before"));
    let after = program(&farm, "after", &note("after"));
    let checks = ["--preflights", &before, "--postflights", &after];
    let job =
        qbsub(&farm, "ada", &[&["--range", "1-3"], &checks[..], &["sh", "-c", &note("QB_FRAME_NUMBER")]].concat());
    farm.complete(job);
    let noted = || std::fs::read_to_string(farm.path(&trace)).unwrap_or_default();
    let whole = until("the check after", || Some(noted()).filter(|text| text.ends_with("after ada\n")));
    assert_eq!(whole, "before ada\n1 ada\n2 ada\n3 ada\nafter ada\n", "one process tree");
    let fails = program(&farm, "fails", "echo no licence; exit 7");
    let words = ["--range", "1-3", "--retrywork", "0", "--preflights", &fails, "sh", "-c", "echo ran QB_FRAME_NUMBER"];
    let job = qbsub(&farm, "ada", &words);
    let reason = farm.ends(job, "failed")["reason"].to_string();
    assert!(reason.contains("3 of 3 tasks failed") && reason.contains("ended with exit code 7"), "{reason}");
    let all = || farm.stead_as("ada", &["logs", &job.to_string()]).ok().out();
    until("its words", || all().contains("no licence").then_some(()));
    assert!(!all().contains("ran"), "{}", all());
}

/// `export_environment` brings what the submitter has set, and never who they are or what is loaded into programs.
#[test]
fn an_exported_environment_changes_nobody() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let mut command = farm.command_as("ada", "stead");
    command.args(["qb", "sub", "--flags", "export_environment", "env"]);
    command.env("SHOW", "the film").env("HOME", "/tmp").env("LOGNAME", "bob").env("LD_LIBRARY_PATH", "/tmp");
    let answer = Answer::new("qbsub".into(), command.output().expect("it starts")).ok();
    let job = JobId(answer.out().trim().parse().expect("a number"));
    farm.complete(job);
    let printed = farm.log(job);
    let has = |line: &str| printed.lines().any(|l| l == line);
    assert!(has("SHOW=the film") && has("LOGNAME=ada") && has("USER=ada"), "{printed}");
    assert!(!printed.contains("LD_") && !has("HOME=/tmp"), "{printed}");
    let spec: Value = farm.stead_as("ada", &["jobs", "--json"]).ok().json();
    assert!(!spec.to_string().contains("LD_LIBRARY_PATH"));
}

/// A terminal for `argv[2:]`: after each question, which ends in ": ", types a line of `argv[1]`, and prints all that is shown.
const TERMINAL: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
answers, shown, seen = sys.argv[1].split(","), b"", 0
while True:
    try:
        read = os.read(terminal, 4096)
    except OSError:
        break
    if not read:
        break
    shown += read
    if shown[seen:].endswith(b": ") and answers:
        os.write(terminal, answers.pop(0).encode() + b"\n")
        seen = len(shown)
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// "qblogin": the password is asked for twice, and neither time shown.
#[test]
fn qblogin_asks_twice_and_shows_nothing() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let qblogin = |answers: &str| {
        let words = ["-c", TERMINAL, answers, "stead", "qb", "login", "--data", &farm.data()];
        farm.run_as("ada", "python3", &words)
    };
    let differ = qblogin("first-secret,other-secret").exits(2).out();
    assert!(differ.contains("the same again: ") && differ.contains("two different passwords"), "{differ}");
    let kept = || farm.stead_as("ada", &["password", "list", "--json"]).ok().json()[0]["state"].clone();
    assert_eq!(kept(), "missing", "what was typed differently is not kept");
    let given_up = qblogin("first-secret,\u{3}").exits(2).out();
    assert!(given_up.contains("given up"), "{given_up}");
    assert_eq!(kept(), "missing");
    let same = qblogin("first-secret,first-secret").exits(0).out();
    assert_eq!(same.matches(": ").count(), 2, "{same}");
    assert_eq!(kept(), "current");
    for shown in [differ, given_up, same] {
        assert!(!shown.contains("secret"), "{shown}");
    }
}

/// Qube!'s commands by a link to the program, as `stead install` makes them.
#[test]
fn a_link_is_enough() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let stead = farm.run_as("root", "sh", &["-c", "command -v stead"]).ok().out();
    for name in ["qbsub", "qbjobs"] {
        std::os::unix::fs::symlink(stead.trim(), farm.path(format!("/tmp/{name}"))).expect("a link");
    }
    let job = farm.run_as("ada", "/tmp/qbsub", &["-name", "linked", "true"]).ok().out();
    farm.complete(JobId(job.trim().parse().expect("a number")));
    assert!(farm.run_as("ada", "/tmp/qbjobs", &[]).ok().out().contains("linked"));
    let _ = farm.run_as("ada", "/tmp/qbsub", &["--mail", "true"]).exits(2).complains(&["--mail isn't supported"]);
    assert!(farm.run_as("ada", "/tmp/qbsub", &["--help"]).ok().out().contains("--requirements"));
}
