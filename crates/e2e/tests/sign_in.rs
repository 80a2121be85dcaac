//! Credentials on a real farm: the token of a job, in the hands of its tasks.

use e2e::{Farm, JobId, root_or_skip, until};
use serde_json::Value;

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
