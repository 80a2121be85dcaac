//! Central configuration on real accounts: what `qbwrk.conf` says is in force with a reload, what runs keeps its
//! account, a wrong file changes nothing, and the host's own `launcher.conf` has the last word.

use e2e::{Answer, Farm, Stage, root_or_skip, until};
use serde_json::Value;

const QBWRK: &str = "/etc/qbwrk.conf";
const USER: &str = "[default]\nproxy_execution_mode = user\n";
const PROXY: &str = "[default]\nproxy_execution_mode = proxy\nproxy_account = qubeproxy\n";

/// A farm whose supervisor reads a `qbwrk.conf` that says this, on a host with this `launcher.conf`.
fn farm(qbwrk: &str, launcher: &str) -> Farm {
    let stage = Stage::raise();
    let write = |path: &str, text: &str| std::fs::write(stage.path(path), text).expect("a settings file");
    std::fs::create_dir_all(stage.path("/etc/stead")).expect("a folder");
    write("/etc/stead/launcher.conf", launcher);
    write("/etc/stead/supervisor.toml", &format!("qbwrk_conf = \"{QBWRK}\"\nqb_conf = \"/etc/qb.conf\"\n"));
    write("/etc/qb.conf", "");
    write(QBWRK, qbwrk);
    let with = ["--supervisor-conf", "/etc/stead/supervisor.toml", "--slots", "1"];
    Farm::user_mode().on(stage).with(&with).start()
}

fn edit(farm: &Farm, text: &str) {
    std::fs::write(farm.path(QBWRK), text).expect("qbwrk.conf");
}

fn reload(farm: &Farm) -> Answer {
    farm.stead_as("root", &["config", "reload"])
}

fn worker(farm: &Farm) -> Value {
    farm.stead_as("root", &["worker", "list", "--json"]).ok().json()[0].clone()
}

/// What `stead config show` says of the worker.
fn in_force(farm: &Farm) -> Value {
    let name = worker(farm)["name"].as_str().expect("a name").to_owned();
    farm.stead_as("root", &["config", "show", "--worker", &name, "--json"]).ok().json()
}

#[track_caller]
fn panics(farm: &Farm, words: &str) {
    until(words, || {
        let worker = worker(farm);
        let says = worker["reason"].as_str().is_some_and(|r| r.contains(words));
        (worker["state"] == "panic" && says).then_some(())
    });
}

/// As whom each attempt ran, as the launcher read it back.
fn ran_as(farm: &Farm, job: e2e::JobId) -> Vec<String> {
    farm.attempts(job).iter().map(|a| a["run_as"]["name"].as_str().unwrap_or("?").to_owned()).collect()
}

#[test]
fn a_worker_changes_its_mode_by_the_file_and_what_runs_keeps_its_account() {
    if !root_or_skip() {
        return;
    }
    let farm = farm(USER, "");
    let held = "id -un; touch started; until test -e /home/go; do sleep 0.05; done; id -un";
    let job = farm.submit_sh("ada", &["--frames", "1-2"], held);
    let started = farm.path(farm.folder(job)).join("started");
    until("the first frame", || started.exists().then_some(()));
    edit(&farm, PROXY);
    let said = reload(&farm).ok().out();
    assert!(said.contains("proxy_execution_mode: user -> proxy") && said.contains("qbwrk.conf:2"), "{said}");
    let now = worker(&farm);
    assert_eq!([&now["mode"], &now["proxy_account"], &now["settings"]], ["proxy", "qubeproxy", "mixed"], "{now:#}");
    let bobs = farm.submit("bob", &["--", "id", "-un"]);
    std::fs::write(farm.path("/home/go"), "").expect("a file");
    farm.complete(job);
    assert_eq!(farm.log(job), "ada\nada\nqubeproxy\nqubeproxy\n");
    assert_eq!(ran_as(&farm, job), ["ada", "qubeproxy"]);
    farm.complete(bobs);
    assert_eq!(farm.log(bobs), "qubeproxy\n");

    // And back, in Qube!'s words.
    edit(&farm, USER);
    let _ = farm.stead_as("root", &["qb", "admin", "worker", "--reconfigure"]).ok();
    assert_eq!(farm.output_of("bob", &[], "id -un"), "bob\n");
    let _ = farm.stead_as("ada", &["config", "reload"]).exits(3);
}

/// Each folder goes as the account that made it, also where the worker runs jobs as somebody else by now.
#[test]
fn a_removed_job_goes_with_the_folders_of_all_its_accounts() {
    if !root_or_skip() {
        return;
    }
    let farm = farm(USER, "");
    let make = "mkdir deep && touch deep/$(id -un) && chmod 500 deep; test ! -e /home/fail";
    std::fs::write(farm.path("/home/fail"), "").expect("a file");
    let job = farm.submit_sh("ada", &["--retries", "0"], make);
    let _ = farm.ends(job, "failed");
    std::fs::remove_file(farm.path("/home/fail")).expect("removed");
    edit(&farm, PROXY);
    let _ = reload(&farm).ok();
    let id = job.to_string();
    let _ = farm.stead_as("ada", &["retry", &id]).ok();
    farm.complete(job);
    assert_eq!(ran_as(&farm, job), ["ada", "qubeproxy"]);
    let folders = || -> Vec<String> {
        let all = std::fs::read_dir(farm.path(format!("{}/work", farm.data()))).expect("the jobs' folders");
        all.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
    };
    assert_eq!(folders().len(), 2, "one for each account: {:?}", folders());
    let _ = farm.stead_as("bob", &["remove", &id]).exits(4);
    assert_eq!(farm.stead_as("ada", &["remove", &id]).ok().out(), format!("job {id} is removed\n"));
    let is_listed = || farm.stead_as("ada", &["jobs", "--json"]).ok().json() != serde_json::json!([]);
    until("the record is gone", || (!is_listed()).then_some(()));
    assert!(folders().is_empty(), "{:?}", folders());
    let _ = farm.stead_as("ada", &["logs", &id]).exits(4);
    let audit = farm.stead_as("root", &["audit", "search", "--job", &id]).ok().out();
    assert!(audit.contains("remove") && audit.contains("retry"), "{audit}");
}

#[test]
fn a_wrong_file_leaves_the_last_good_one_whole() {
    if !root_or_skip() {
        return;
    }
    let farm = farm(&format!("{PROXY}worker_groups = old\n"), "");
    assert_eq!(farm.output_of("ada", &[], "id -un"), "qubeproxy\n");
    // What is right in it doesn't count either.
    edit(&farm, "[default]\nproxy_account = bob\nworker_groups = new\nproxy_execution_mode = usr\n");
    let _ = reload(&farm).exits(2).complains(&["/etc/qbwrk.conf:4", "proxy_execution_mode", "usr"]);
    let now = in_force(&farm);
    assert_eq!([&now["mode"], &now["proxy_account"]], ["proxy", "qubeproxy"], "{now:#}");
    let labels = now["labels"].to_string();
    assert!(labels.contains("group:old") && !labels.contains("group:new"), "{labels}");
    assert_eq!(farm.output_of("ada", &[], "id -un"), "qubeproxy\n");
    std::fs::remove_file(farm.path(QBWRK)).expect("removed");
    let _ = reload(&farm).exits(2).complains(&["/etc/qbwrk.conf"]);
    assert_eq!(farm.output_of("ada", &[], "id -un"), "qubeproxy\n");
}

#[test]
fn a_wrong_proxy_account_is_panic_until_the_file_or_the_host_is_right_again() {
    if !root_or_skip() {
        return;
    }
    let farm = farm(PROXY, "");
    edit(&farm, "[default]\nproxy_execution_mode = proxy\nproxy_account = ghost\n");
    let _ = reload(&farm).ok();
    panics(&farm, "ghost");
    let job = farm.submit("ada", &["--", "id", "-un"]);
    let waits = farm.until_job(job, "a reason", |j| j["reason"].is_string());
    assert!(waits["reason"].as_str().is_some_and(|r| r.contains("ghost")), "{waits:#}");
    edit(&farm, PROXY);
    let _ = reload(&farm).ok();
    farm.complete(job);
    assert_eq!(farm.log(job), "qubeproxy\n");
    assert_eq!(farm.attempts(job).len(), 1, "nothing was tried as anybody else");

    // The account appears: nobody has to say so.
    edit(&farm, "[default]\nproxy_execution_mode = proxy\nproxy_account = late\n");
    let _ = reload(&farm).ok();
    panics(&farm, "late");
    let late = farm.submit("ada", &["--", "id", "-un"]);
    let _ = farm.run_as("root", "useradd", &["--uid", "1777", "--create-home", "late"]).ok();
    farm.complete(late);
    assert_eq!(farm.log(late), "late\n");
    edit(&farm, "[default]\nproxy_execution_mode = proxy\nproxy_account = root\n");
    let _ = reload(&farm).exits(2).complains(&["/etc/qbwrk.conf:3: error: proxy_account"]);
    edit(&farm, "[default]\nproxy_execution_mode = proxy\nproxy_account = toor\n");
    let _ = reload(&farm).ok();
    panics(&farm, "toor");
}

/// The machine that has root has the last word: what is pushed and not allowed here is panic, and runs nothing.
#[test]
fn the_hosts_own_floor_outranks_what_is_pushed() {
    if !root_or_skip() {
        return;
    }
    let farm = farm(USER, "proxy_account = qubeproxy\n");
    edit(&farm, "[default]\nproxy_execution_mode = proxy\nproxy_account = bob\n");
    let _ = reload(&farm).ok();
    let job = farm.submit("ada", &["--", "id", "-un"]);
    panics(&farm, "proxy_account in launcher.conf of the host decides");
    edit(&farm, PROXY);
    let _ = reload(&farm).ok();
    farm.complete(job);
    assert_eq!(farm.log(job), "qubeproxy\n");
}

#[test]
fn a_mode_that_the_host_does_not_allow_runs_nothing() {
    if !root_or_skip() {
        return;
    }
    let farm = farm(USER, "allowed_modes = user\n");
    edit(&farm, PROXY);
    let _ = reload(&farm).ok();
    let job = farm.submit("ada", &["--", "id", "-un"]);
    panics(&farm, "proxy");
    edit(&farm, USER);
    let _ = reload(&farm).ok();
    farm.complete(job);
    assert_eq!(farm.log(job), "ada\n");
}

/// Jobs give way to others of their host; the priorities that only administrators give are refused with what would do.
#[test]
fn niceness_and_the_highest_priority_are_what_the_files_say() {
    if !root_or_skip() {
        return;
    }
    let farm = farm(&format!("{USER}proxy_nice_value = 7\n"), "");
    assert_eq!(farm.output_of("ada", &[], "nice; printenv STEAD_NICE"), "7\n7\n");
    // Less than others is nobody's to take.
    edit(&farm, &format!("{USER}proxy_nice_value = -5\n"));
    let _ = reload(&farm).ok();
    assert_eq!(farm.output_of("ada", &["--env", "STEAD_NICE=9"], "nice"), "0\n");
    std::fs::write(farm.path("/etc/qb.conf"), "supervisor_highest_user_priority = 5000\n").expect("qb.conf");
    let _ = reload(&farm).ok();
    let refused = farm.stead_as("ada", &["qb", "sub", "--priority", "4999", "true"]).exits(3);
    let _ = refused.complains(&["supervisor_highest_user_priority"]).complains(&["qbsub: --priority 5000"]);
    let _ = farm.stead_as("ada", &["qb", "sub", "--priority", "5000", "true"]).ok();
    let _ = farm.stead_as("root", &["qb", "sub", "--user", "ada", "--priority", "1", "true"]).ok();
    // Told before it is submitted, to whom it is refused.
    let foretold = |who, priority| farm.stead_as(who, &["explain", "--priority", priority]).ok().out();
    assert!(foretold("ada", "5000").contains("for administrators"), "{}", foretold("ada", "5000"));
    for (who, priority) in [("ada", "4999"), ("root", "5000")] {
        assert!(!foretold(who, priority).contains("for administrators"), "{who}");
    }
}

/// What says no priority has the site's, nothing has a lower one than there is, and nobody more sessions than they may.
#[test]
fn the_usual_priority_and_the_limits_of_users_are_the_sites() {
    if !root_or_skip() {
        return;
    }
    let farm = farm(&format!("{USER}worker_cpus = 3\n"), "");
    let limits = "supervisor_default_priority = 5000\nsupervisor_max_priority = 8000\n\
                  supervisor_default_user_subjob_limit = 1\nsupervisor_user_subjob_limits = \"bob=-1\"\n";
    std::fs::write(farm.path("/etc/qb.conf"), limits).expect("qb.conf");
    let _ = reload(&farm).ok();
    let held = "until test -e /home/go; do sleep 0.05; done";
    let [first, second] = [(); 2].map(|()| farm.submit_sh("ada", &[], held));
    let running = |job| farm.job(job)["state"] == "running";
    until("ada's first", || running(first).then_some(()));
    let bobs = [(); 2].map(|()| farm.submit_sh("bob", &[], held));
    until("both of bob's", || bobs.iter().all(|job| running(*job)).then_some(()));
    let waits = farm.until_job(second, "says what it waits for", |job| {
        job["reason"].as_str().is_some_and(|why| why.contains("supervisor_default_user_subjob_limit"))
    });
    assert_eq!((&waits["state"], &waits["priority"]), (&"pending".into(), &4999.into()), "{waits:#}");
    let low = farm.submit("bob", &["--priority", "-7", "--", "true"]);
    let usual = farm.submit("bob", &["--priority", "0", "--", "true"]);
    assert_eq!([&farm.job(low)["priority"], &farm.job(usual)["priority"]], [1999, 1999]);
    std::fs::write(farm.path("/home/go"), "").expect("a file");
    for job in [first, second, bobs[0], bobs[1]] {
        farm.complete(job);
    }
}

/// What a job calls `W:/show` is where that is on its worker, if the job wants it so.
#[test]
fn paths_are_those_of_the_worker_for_jobs_that_ask_for_it() {
    if !root_or_skip() {
        return;
    }
    let farm = farm(&format!("{USER}worker_path_map = {{ \"W:/show\" = \"/mnt/shared\" }}\n"), "");
    let script = "printf '%s %s' \"$PLATE\" \"$1\"";
    let line = |more: &[&'static str]| {
        [more, &["--env", "PLATE=w:\\Show\\a b.exr", "--", "sh", "-c", script, "sh", "W:/show/b"]].concat()
    };
    for (more, printed) in
        [(&["--convert-paths"][..], "/mnt/shared/a b.exr /mnt/shared/b"), (&[], "w:\\Show\\a b.exr W:/show/b")]
    {
        let job = farm.submit("ada", &line(more));
        farm.complete(job);
        assert_eq!(farm.log(job), printed);
    }
    let sub = ["qb", "sub", "--flags", "convert_path", "echo", "W:/show/c"];
    let job = farm.stead_as("ada", &sub).ok().out().trim().parse().map(e2e::JobId).expect("a number");
    farm.complete(job);
    assert_eq!(farm.log(job), "/mnt/shared/c\n");
}
