//! Proxy mode: two jobs under one account are kept apart by the kernel (B15, B16).

use e2e::{Farm, JobId, Role, root_or_skip, until};

/// A job of ada's that has secrets, and runs until it is killed.
fn victim(farm: &Farm) -> JobId {
    let script = "echo secret > /tmp/file; echo secret > file; echo up; exec sleep 86396";
    let job = farm.submit_sh("ada", &["--env", "TOKEN=canary-of-ada"], script);
    until("ada's job", || farm.log(job).contains("up").then_some(()));
    job
}

/// Runs bob's script beside ada's job and returns what it printed.
#[track_caller]
fn beside(farm: &Farm, script: &str) -> String {
    let printed = farm.output_of("bob", &[], &format!("{{ {script}; }} 2>&1; true"));
    assert!(!printed.contains("canary-of-ada"), "{printed}");
    printed
}

fn farm() -> Option<(Farm, JobId)> {
    root_or_skip().then(|| {
        let farm = Farm::proxy_mode("qubeproxy").with(&["--slots", "2"]).start();
        let job = victim(&farm);
        (farm, job)
    })
}

#[test]
fn jobs_under_one_account_do_not_see_each_other() {
    let Some((farm, _)) = farm() else { return };
    let printed = beside(
        &farm,
        "cat /proc/[0-9]*/environ | tr '\\0' '\\n'; for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done",
    );
    assert!(!printed.contains("86396"), "{printed}");
    // Its own world is there.
    assert!(printed.contains("HOME="), "{printed}");
}

#[test]
fn jobs_under_one_account_do_not_signal_each_other() {
    let Some((farm, job)) = farm() else { return };
    let _ = beside(
        &farm,
        "kill -9 -1; i=2; while [ $i -lt 500 ]; do [ $i = $$ ] || kill -9 $i 2>/dev/null; i=$((i + 1)); done",
    );
    let task = farm.processes();
    assert!(task.all().iter().any(|p| p.argv.iter().any(|a| a == "86396")), "ada's job is gone: {:#}", farm.job(job));
    assert_eq!(e2e::state(&farm.job(job)), "running");
}

#[test]
fn jobs_under_one_account_have_a_tmp_of_their_own() {
    let Some((farm, _)) = farm() else { return };
    let printed = beside(&farm, "ls -a /tmp /var/tmp /dev/shm; cat /tmp/file");
    assert!(!printed.contains("secret"), "{printed}");
    assert!(printed.contains("No such file"), "{printed}");
    // Nor does the host's /tmp fill up with it.
    assert!(!farm.path("/tmp/file").exists());
}

#[test]
fn jobs_under_one_account_do_not_trace_each_other() {
    let Some((farm, _)) = farm() else { return };
    // The outside number of ada's process means nothing inside, and inside numbers are bob's own.
    let pids: Vec<i32> =
        farm.processes().all().iter().filter(|p| p.argv.iter().any(|a| a == "86396")).map(|p| p.pid).collect();
    assert_eq!(pids.len(), 1);
    let outside = pids[0];
    let trace = "timeout -s KILL 1 strace -qq -e trace=none -o /dev/null -p";
    let printed = beside(&farm, &format!("{trace} {outside}; {trace} 1; cat /proc/{outside}/environ /proc/1/environ"));
    assert!(printed.contains("No such file") && printed.contains("No such process"), "{printed}");
    // Not even the session that runs bob's own tasks: it holds what the farm told it.
    assert!(printed.contains("not permitted") && printed.contains("Permission denied"), "{printed}");
}

/// What another job left in its folder: same uid, so only the place keeps it apart.
#[test]
fn jobs_under_one_account_do_not_read_each_others_folders() {
    let Some((farm, job)) = farm() else { return };
    let folder = farm.folder(job);
    let printed = beside(&farm, &format!("cat {folder}/file; ls {folder}"));
    assert!(!printed.contains("secret") && !printed.lines().any(|l| l == "file"), "{printed}");
}

/// B14: a proxy account that can't be one puts the worker into `panic`; no job runs under another instead.
#[test]
fn a_bad_proxy_account_takes_no_jobs() {
    if !root_or_skip() {
        return;
    }
    for account in ["nosuchaccount", "toor"] {
        let farm = Farm::proxy_mode(account).start();
        let worker = || farm.stead_as("root", &["worker", "list", "--json"]).ok().json()[0].clone();
        let worker = until(&format!("panic over {account}"), || Some(worker()).filter(|w| e2e::state(w) == "panic"));
        assert!(worker["reason"].as_str().is_some_and(|r| r.contains(account)), "{worker:#}");
        runs_nothing(&farm, account);
    }
}

/// B05: accounts that are there, and that the launcher's own floor or lists refuse: every job would have them, so the
/// worker takes none.
#[test]
fn a_proxy_account_that_the_host_refuses_takes_no_jobs() {
    if !root_or_skip() {
        return;
    }
    for (account, conf, rule) in [
        ("daemon-like", "", "uid_below_floor"),
        ("wheeled", "", "root's group"),
        ("qubeproxy", "denied_accounts = qubeproxy\\n", "account_denied"),
        ("qubeproxy", "allowed_modes = user\\n", "mode_not_allowed"),
    ] {
        let conf = format!("mkdir -p /etc/stead && printf '{conf}' > /etc/stead/launcher.conf");
        let mut farm = Farm::proxy_mode(account).after(&conf).start();
        runs_nothing(&farm, account);
        let worker = |farm: &Farm| farm.stead_as("root", &["worker", "list", "--json"]).ok().json()[0].clone();
        let panics = until("panic", || Some(worker(&farm)).filter(|w| e2e::state(w) == "panic"));
        assert!(panics["reason"].as_str().is_some_and(|r| r.contains(rule)), "{panics:#}");
        // Put right, it works again with the next life of the launcher.
        if account == "qubeproxy" {
            std::fs::write(farm.path("/etc/stead/launcher.conf"), "").expect("launcher.conf");
            assert_eq!(farm.kill9(Role::Launcher), 1);
            farm.heal();
            farm.complete(farm.submit_sh("ada", &[], "true"));
        }
    }
}

#[track_caller]
fn runs_nothing(farm: &Farm, account: &str) {
    let job = farm.submit_sh("ada", &[], "touch /tmp/ran");
    let waits = farm.until_job(job, "a reason", |j| j["reason"].as_str().is_some_and(|r| r.contains(account)));
    assert_eq!(e2e::state(&waits), "pending", "{waits:#}");
    assert!(farm.attempts(job).iter().all(|a| a["exit_code"].is_null()) && !farm.path("/tmp/ran").exists());
}

/// In user mode people share nothing that needs it: each has the host's own /tmp, and its protections.
#[test]
fn user_mode_keeps_the_hosts_tmp() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    farm.complete(farm.submit_sh("ada", &[], "echo x > /tmp/from-ada"));
    assert!(farm.path("/tmp/from-ada").exists());
}
