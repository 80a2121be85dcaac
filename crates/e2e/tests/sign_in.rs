//! Credentials on a real farm: sessions of people who gave a password over TCP, and the token of a job in the hands of
//! its tasks.

use e2e::{
    Ad, Answer, Directory, Farm, JobId, Ldap, Local, PASSWORD, Stage, root_or_skip, servers_or_skip, typed, until,
};
use serde_json::Value;
use std::process::Command;

/// A job that submits another, and tries what a token of a job is not for. The last of the lines it prints is `over`.
#[track_caller]
fn inside(farm: &Farm, others: JobId) -> (JobId, String) {
    let stead = farm.run_as("ada", "sh", &["-c", "command -v stead"]).ok().out();
    let script = format!(
        "PATH=$PATH:$(dirname {}); stead whoami --json; echo; \
         echo child $(stead submit --json -- id -un); \
         stead kill $STEAD_JOB; echo kill $?; stead tasks {others}; echo others $?; \
         stead submit --user bob -- true; echo bob $?; stead tokens create x; echo token $?; \
         echo mode $(stat -c %a-%u $STEAD_TOKEN_FILE)-$(id -u); \
         echo leaks $(cat /proc/self/environ /proc/self/cmdline | grep -c $(cut -c9- $STEAD_TOKEN_FILE)); \
         cp $STEAD_TOKEN_FILE kept; echo over",
        stead.trim()
    );
    let job = farm.submit_sh("ada", &["--token"], &script);
    farm.complete(job);
    (job, farm.log(job))
}

#[track_caller]
fn after<'a>(log: &'a str, word: &str) -> &'a str {
    let line = log.lines().find_map(|line| line.strip_prefix(&format!("{word} ")));
    line.unwrap_or_else(|| panic!("no {word} in {log}"))
}

fn holds(farm: &Farm) {
    let others = farm.submit_sh("bob", &[], "exec sleep 86395");
    let (job, log) = inside(farm, others);
    let me: Value = serde_json::from_str(log.lines().next().expect("a line")).expect("json");
    assert_eq!((&me["login_user"], &me["user"], &me["uid"]), (&"ada".into(), &"ada".into(), &Value::Null), "{me}");
    for (word, expected) in [("kill", "3"), ("others", "4"), ("bob", "3"), ("token", "3"), ("leaks", "0")] {
        assert_eq!(after(&log, word), expected, "{log}");
    }
    let (mode, uid) = after(&log, "mode").rsplit_once('-').expect("two");
    assert_eq!(mode, format!("600-{uid}"));
    let child: Value = serde_json::from_str(after(&log, "child")).expect("json");
    let child = farm.job(JobId(child["job"].as_u64().expect("a number")));
    assert_eq!((&child["login_user"], &child["user"]), (&"ada".into(), &"ada".into()), "{child:#}");

    let kept = std::fs::read_to_string(farm.path(farm.folder(job)).join("kept")).expect("a token");
    assert!(kept.starts_with("stead_j_"), "a token of a job");
    let mut again = farm.command_as("ada", "stead");
    let again = again.arg("whoami").env("STEAD_TOKEN", kept.trim()).output().expect("run");
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(3), "{said}");
    assert!(said.contains("credential_ended"), "dead with its job, and not its peer instead: {said}");
    let _ = farm.stead_as("bob", &["kill", &others.to_string()]).ok();
    until("bob's job is over", || (farm.job(others)["state"] == "killed").then_some(()));
}

#[test]
fn a_job_carries_a_token_in_user_mode() {
    if root_or_skip() {
        holds(&Farm::user_mode().with(&["--slots", "2"]).start());
    }
}

/// The peer of the socket is the shared account; the token says whose the request is.
#[test]
fn a_job_carries_a_token_in_proxy_mode() {
    if root_or_skip() {
        holds(&Farm::proxy_mode("qubeproxy").with(&["--slots", "2"]).start());
    }
}

// ---- with a password, over TCP ---------------------------------------------------------------------------------------

/// `stead` at the keyboard of this account of the farm's host, which knows the farm by its address only.
fn over_tcp(farm: &Farm, who: &str, args: &[&str]) -> Command {
    let mut command = farm.command_as(who, "stead");
    command.env("STEAD_URL", &farm.url).args(args);
    command
}

#[track_caller]
fn stead(farm: &Farm, who: &str, args: &[&str]) -> Answer {
    typed(over_tcp(farm, who, args), "")
}

/// `stead login` of somebody at the keyboard of `who`.
#[track_caller]
fn sign_in(farm: &Farm, who: &str, name: &str, password: &str) -> Answer {
    let login = ["login", &farm.url, "--user", name, "--password-stdin"];
    typed(over_tcp(farm, who, &login), &format!("{password}\n"))
}

/// What one does once signed in, all over TCP. Bob is at the keyboard; the session says who asks.
#[track_caller]
fn works_and_leaves(farm: &Farm, name: &str) {
    let me = stead(farm, "bob", &["whoami", "--json"]).ok().json();
    assert_eq!((&me["login_user"], &me["user"], &me["channel"]), (&name.into(), &name.into(), &"tcp".into()), "{me}");
    let job = stead(farm, "bob", &["submit", "--json", "--", "id", "-un"]).ok().json()["job"].clone();
    let job = JobId(job.as_u64().expect("a number"));
    farm.complete(job);
    assert_eq!(stead(farm, "bob", &["logs", &job.to_string(), "--stdout"]).ok().out().trim(), name);
    let job = farm.job(job);
    assert_eq!((&job["login_user"], &job["user"]), (&name.into(), &name.into()), "{job:#}");
    let _ = stead(farm, "bob", &["logout", &farm.url]).ok();
    let _ = stead(farm, "bob", &["whoami"]).exits(3).complains(&["not signed in", "sign in"]);
}

/// One's sessions are listed, and one that is revoked from elsewhere is good for nothing from the next request on.
#[track_caller]
fn is_ended_from_elsewhere(farm: &Farm, name: &str) {
    for keyboard in ["bob", "qubeproxy"] {
        let _ = sign_in(farm, keyboard, name, PASSWORD).ok();
    }
    let sessions = stead(farm, "qubeproxy", &["sessions", "list", "--json"]).ok().json();
    let sessions = sessions.as_array().expect("a list");
    assert_eq!(sessions.len(), 2, "{sessions:#?}");
    let other = sessions.iter().find(|s| s["current"] == false).expect("the other one");
    let _ = stead(farm, "bob", &["jobs"]).ok();
    let _ = stead(farm, "qubeproxy", &["sessions", "revoke", &other["id"].to_string()]).ok();
    for request in [&["jobs"][..], &["submit", "--", "true"], &["whoami"]] {
        let _ = stead(farm, "bob", request).exits(3).complains(&["revoked"]);
    }
    let _ = stead(farm, "qubeproxy", &["jobs"]).ok();
    let _ = stead(farm, "qubeproxy", &["logout", &farm.url]).ok();
    // Signed out there already: forgotten here.
    let _ = stead(farm, "bob", &["logout", &farm.url]).ok();
}

/// What whoever doesn't get in is told, with NAME for the name.
#[track_caller]
fn told(farm: &Farm, name: &str, password: &str) -> String {
    let answer = sign_in(farm, "bob", name, password).exits(3);
    assert!(!answer.err().contains(password), "{answer:?}");
    answer.err().replace(name, "NAME")
}

/// Signs somebody in, has them work, and turns away whoever should be. `expired`: what whoever has the right password of
/// an account that has ended is told; not every directory tells such a one from one that is locked.
#[track_caller]
fn signs_in_only_whom_it_should(farm: &Farm, directory: &impl Directory, expired: &str) {
    let name = directory.somebody();
    let said = sign_in(farm, "bob", name, PASSWORD).ok().out();
    assert!(said.contains(&format!("as {name}")), "{said}");
    works_and_leaves(farm, name);
    is_ended_from_elsewhere(farm, name);

    // One answer to all of these: whoever asks learns nothing of who is there.
    let wrong = told(farm, name, "guess-1");
    assert!(wrong.contains("the name or the password is wrong"), "{wrong}");
    assert_eq!(told(farm, "no-such-person", PASSWORD), wrong, "unknown");
    assert_eq!(told(farm, "root", PASSWORD), wrong, "root");
    directory.lock(name);
    assert_eq!(told(farm, name, PASSWORD), wrong, "locked");
    directory.unlock(name);
    let _ = sign_in(farm, "bob", name, PASSWORD).ok();
    directory.expire(name);
    assert!(told(farm, name, PASSWORD).contains(expired), "expired");
    assert_eq!(told(farm, name, "guess-1"), wrong, "expired and wrong");

    // One who has to choose a new password is told so, and told by the old one only.
    let other = directory.another();
    directory.must_change(other);
    assert!(told(farm, other, PASSWORD).contains("it must be changed first"), "must change");
    assert_eq!(told(farm, other, "guess-2"), wrong, "must change, and wrong");

    // Too many are slowed down, the name and then the address, and told for how long. Wrong or right is not said.
    let slowed =
        (0..12).map(|_| sign_in(farm, "bob", "no-such-person", "guess")).find(|a| a.err().contains("too many"));
    let _ = slowed.expect("slowed down").exits(1).complains(&["try again in"]);
    let audit = farm.stead_as("root", &["audit", "search", "--json"]).ok().out();
    assert!(audit.contains("password_wrong") && audit.contains("\"login\""), "{audit}");
    assert!(!audit.contains(PASSWORD), "a password on record");
}

/// Types at a terminal. Arguments: what is typed once it is asked for, the command. What is shown is on standard output.
const TERMINAL: &str = r#"
import os, pty, sys

pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
shown, typed = b"", False
while True:
    try:
        part = os.read(terminal, 4096)
    except OSError:
        break
    if not part:
        break
    shown += part
    if not typed and b"password of" in shown:
        os.write(terminal, sys.argv[1].encode() + b"\n")
        typed = True
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// A terminal asks, and doesn't show what is typed.
#[track_caller]
fn signs_in_at_a_terminal(farm: &Farm, name: &str) {
    for (password, code, says) in [(PASSWORD, 0, "signed in"), ("guess-3", 3, "the name or the password is wrong")] {
        let login = ["-c", TERMINAL, password, "stead", "login", &farm.url, "--user", name];
        let shown = farm.run_as("bob", "python3", &login).exits(code).out();
        assert!(shown.contains(&format!("password of {name} at {}: ", farm.url)) && shown.contains(says), "{shown}");
        assert!(!shown.contains(password), "{shown}");
    }
    works_and_leaves(farm, name);
}

fn farm_on(stage: Stage) -> Farm {
    Farm::user_mode().with(&["--slots", "2"]).on(stage).start()
}

#[test]
fn people_of_the_hosts_own_files_sign_in_and_work() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let local = Local::start(&stage);
    let farm = farm_on(stage);
    signs_in_at_a_terminal(&farm, "ada");
    signs_in_only_whom_it_should(&farm, &local, "expired");
}

#[test]
fn people_of_ldap_sign_in_and_work() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let ldap = Ldap::start(&stage);
    signs_in_only_whom_it_should(&farm_on(stage), &ldap, "expired");
}

#[test]
fn people_of_a_domain_sign_in_and_work() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let domain = Ad::start(&stage);
    signs_in_only_whom_it_should(&farm_on(stage), &domain, "the name or the password is wrong");
}

/// Nobody asks root about passwords where there is no root.
#[test]
fn a_farm_of_a_person_signs_in_nobody_unless_it_keeps_accounts_of_its_own() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::desktop("ada").start();
    let _ = sign_in(&farm, "ada", "ada", PASSWORD).exits(3).complains(&["own_accounts"]);
    let set = |farm: &Farm, name: &str, text: &str| {
        let mut command = farm.command_as("ada", "stead");
        command.args(["users", "password", name, "--password-stdin"]);
        typed(command, text)
    };
    let _ = set(&farm, "ada", "a new password\n").exits(3).complains(&["no passwords of its own"]);
    drop(farm);

    let stage = Stage::raise();
    std::fs::write(stage.path("/mnt/supervisor.toml"), "own_accounts = true\n").expect("settings");
    let farm = Farm::desktop("ada").with(&["--supervisor-conf", "/mnt/supervisor.toml"]).on(stage).start();
    let _ = set(&farm, "ada", "short\n").exits(2).complains(&["at least 8"]);
    let _ = set(&farm, "ada", "a first password\n").ok();
    let wrong = told(&farm, "ada", "a wrong password");
    assert_eq!(told(&farm, "no-such-person", "a first password"), wrong);
    let _ = sign_in(&farm, "bob", "ada", "a first password").ok();
    works_and_leaves(&farm, "ada");
    // Her own, over TCP, with the old one; the session that she changed it by ends with it.
    let _ = sign_in(&farm, "bob", "ada", "a first password").ok();
    let change = over_tcp(&farm, "bob", &["users", "password", "--password-stdin"]);
    let _ = typed(change, "a first password\na second password\n").ok();
    let _ = stead(&farm, "bob", &["whoami"]).exits(3).complains(&["revoked"]);
    assert_eq!(told(&farm, "ada", "a first password"), wrong);
    let _ = sign_in(&farm, "bob", "ada", "a second password").ok();
    works_and_leaves(&farm, "ada");
}
