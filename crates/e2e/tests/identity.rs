//! As whom processes run, and what the records say about it.

use e2e::{Farm, JobId, Role, root_or_skip};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Prints the kernel's word about the process, one `Name: values` per line.
const STATUS: &str =
    "grep -E '^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapAmb):' /proc/self/status | tr '\\t' ' ' | tr -s ' '";

fn ada() -> Value {
    json!({"name": "ada", "uid": 1501, "gid": 1501, "groups": [1501, 1600, 1601]})
}

fn proxy() -> Value {
    json!({"name": "qubeproxy", "uid": 1503, "gid": 1503, "groups": [1503]})
}

/// The only attempt of a job that has one.
#[track_caller]
fn only_attempt(farm: &Farm, job: JobId) -> Value {
    let attempts = farm.attempts(job);
    assert_eq!(attempts.len(), 1, "{attempts:#?}");
    attempts[0].clone()
}

/// Owner and group of everything in a folder, the folder too.
fn owners(dir: &Path) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    let meta = dir.symlink_metadata().expect("a folder");
    found.push((meta.uid(), meta.gid()));
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        let meta = entry.path().symlink_metadata().expect("an entry");
        if meta.is_dir() {
            found.extend(owners(&entry.path()));
        } else {
            found.push((meta.uid(), meta.gid()));
        }
    }
    found
}

/// B01, B02: four times the same id, every group of the account and no other, no capability, whatever the farm had.
#[test]
fn user_mode_gives_exactly_the_accounts_ids_and_groups() {
    if !root_or_skip() {
        return;
    }
    // A farm started with groups of its own must not hand them on.
    let farm = Farm::user_mode().after("exec setpriv --groups 0,4,27,6 stead \"$@\"").start();
    let job = farm.submit_sh("ada", &[], STATUS);
    farm.complete(job);
    let status = farm.log(job);
    let line = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {status}"));
        line.trim().to_owned()
    };
    assert_eq!(line("Uid:"), "1501 1501 1501 1501");
    assert_eq!(line("Gid:"), "1501 1501 1501 1501");
    assert_eq!(line("Groups:"), "1501 1600 1601");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(line(set).trim_matches('0'), "", "{set}");
    }
    let attempt = only_attempt(&farm, job);
    assert_eq!(attempt["run_as"], ada());
    assert_eq!(attempt["login_user"], "ada");
    assert_eq!(attempt["user"], "ada");
    assert_eq!(attempt["mode"], "user");
    assert_eq!(attempt["attested_by"], "launcher");
    assert_eq!(attempt["exit_code"], 0);
}

#[test]
fn there_is_no_way_back_to_root() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    for way in ["setpriv --reuid 0", "setpriv --regid 0 --clear-groups", "setpriv --clear-groups"] {
        let job = farm.submit_sh("ada", &[], &format!("{way} id"));
        let ended = farm.ends(job, "failed");
        assert!(!farm.log(job).contains("uid="), "{way}: {ended:#}");
    }
}

#[test]
fn a_supplementary_group_opens_a_shared_folder() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    for (who, uid) in [("ada", 1501), ("bob", 1502)] {
        farm.complete(farm.submit_sh(who, &[], "id -un > /mnt/shared/$(id -un).txt"));
        let meta = farm.path(format!("/mnt/shared/{who}.txt")).metadata().expect("the file");
        // The folder hands its group on.
        assert_eq!((meta.uid(), meta.gid()), (uid, 1600));
    }
    // `secret` is ada's and not bob's.
    let farm_path = farm.path("/mnt/secret");
    std::fs::create_dir(&farm_path).expect("a folder");
    std::os::unix::fs::chown(&farm_path, Some(0), Some(1601)).expect("its group");
    std::fs::set_permissions(&farm_path, std::os::unix::fs::PermissionsExt::from_mode(0o770)).expect("its mode");
    farm.complete(farm.submit_sh("ada", &[], "touch /mnt/secret/a"));
    let _ = farm.ends(farm.submit_sh("bob", &[], "touch /mnt/secret/b"), "failed");
}

#[test]
fn proxy_mode_runs_everybodys_jobs_as_the_proxy_account() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::proxy_mode("qubeproxy").start();
    for who in ["ada", "bob"] {
        let job = farm.submit_sh(who, &[], "id -u; id -G; touch mine");
        farm.complete(job);
        assert_eq!(farm.log(job), "1503\n1503\n");
        let attempt = only_attempt(&farm, job);
        assert_eq!(attempt["run_as"], proxy());
        assert_eq!((&attempt["login_user"], &attempt["user"]), (&json!(who), &json!(who)));
        assert_eq!((&attempt["mode"], &attempt["attested_by"]), (&json!("proxy"), &json!("launcher")));
        let owners = owners(&farm.path(farm.folder(job)));
        assert!(owners.iter().all(|o| *o == (1503, 1503)), "{owners:?}");
    }
    // The proxy account is in no group of the people whose jobs it runs.
    let _ = farm.ends(farm.submit_sh("ada", &[], "touch /mnt/shared/x"), "failed");
}

#[test]
fn a_throwaway_account_is_an_id_that_nobody_has() {
    if !root_or_skip() {
        return;
    }
    let mut farm = Farm::proxy_mode("throwaway").start();
    let uid_of = |farm: &Farm| {
        let job = farm.submit_sh("ada", &[], "id -u; id -g; id -G; echo x > mine");
        farm.complete(job);
        let printed = farm.log(job);
        let ids: Vec<u32> = printed.split_whitespace().map(|n| n.parse().expect("an id")).collect();
        assert!(ids.iter().all(|id| (61_184..=65_519).contains(id) && *id == ids[0]), "{printed}");
        let attempt = only_attempt(farm, job);
        assert_eq!(attempt["run_as"]["uid"], ids[0]);
        let owners = owners(&farm.path(farm.folder(job)));
        assert!(owners.iter().all(|o| *o == (ids[0], ids[0])), "{owners:?}");
        ids[0]
    };
    let first = uid_of(&farm);
    // It is chosen once per folder.
    farm.stop();
    farm.start_again();
    assert_eq!(uid_of(&farm), first);
}

#[test]
fn desktop_mode_runs_as_the_workers_owner() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::desktop("ada").start();
    let job = farm.submit_sh("ada", &[], "id -u; id -g; id -G; touch mine");
    farm.complete(job);
    assert_eq!(farm.log(job), "1501\n1501\n1501 1600 1601\n");
    let attempt = only_attempt(&farm, job);
    assert_eq!(attempt["run_as"], ada());
    assert_eq!(attempt["mode"], "desktop");
    // There is no launcher to attest anything.
    assert_eq!(attempt["attested_by"], "worker");
    let owners = owners(&farm.path(farm.folder(job)));
    assert!(owners.iter().all(|o| *o == (1501, 1501)), "{owners:?}");
    let all = farm.processes();
    assert!(all.of(Role::Launcher).is_empty() && all.of(Role::Host).is_empty());
    assert!(all.all().iter().all(|p| p.uids.iter().all(|u| *u == 1501) || p.argv[0].contains("setpriv")), "{all:#?}");
}

/// B22: someone else's code would run as the worker's owner, so the owner must have said yes.
#[test]
fn a_desktop_worker_takes_only_its_owners_jobs_unless_told() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::desktop("ada").start();
    let foreign = farm.stead_as("bob", &["submit", "--json", "--", "touch", "/mnt/shared/bobs"]);
    farm.complete(farm.submit_sh("ada", &[], "true"));
    assert!(!farm.path("/mnt/shared/bobs").exists());
    if foreign.code == Some(0) {
        let job = JobId(foreign.json()["job"].as_u64().expect("a job"));
        assert_eq!(e2e::state(&farm.job(job)), "pending");
        let reason = farm.job(job)["reason"].as_str().unwrap_or("").to_owned();
        assert!(reason.contains("ada") || reason.contains("owner") || reason.contains("accept"), "{reason}");
    } else {
        let _ = foreign.exits(3);
    }
    drop(farm);

    let farm = Farm::desktop("ada").with(&["--accept", "bob"]).start();
    let job = farm.submit_sh("bob", &[], "id -u");
    farm.complete(job);
    assert_eq!(farm.log(job), "1501\n");
    let attempt = only_attempt(&farm, job);
    assert_eq!((&attempt["login_user"], &attempt["run_as"]["name"]), (&json!("bob"), &json!("ada")));
}

#[test]
fn every_file_of_a_job_is_its_accounts() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let job = farm.submit_sh(
        "bob",
        &["--frames", "1-6"],
        "mkdir -p a/b; echo x > a/b/$STEAD_TASK.$$; ln -s /etc/shadow a/link.$$; pwd -P",
    );
    farm.complete(job);
    let folder = farm.folder(job);
    let owners = owners(&farm.path(&folder));
    assert!(owners.len() > 8 && owners.iter().all(|o| *o == (1502, 1502)), "{owners:?}");
    assert!(farm.log(job).lines().all(|l| l == folder), "{}", farm.log(job));
    // What a link of the job's points at is still root's.
    let shadow = farm.path("/etc/shadow").metadata().expect("shadow");
    assert_eq!((shadow.uid(), shadow.mode() & 0o777), (0, 0o600));
}

#[test]
fn root_is_an_administrator_and_never_an_execution_identity() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let _ = farm.stead_as("root", &["submit", "--", "id"]).exits(3).complains(&["--user", "root"]);
    let job = farm.submit_sh("root", &["--user", "ada"], "id -u; id -G");
    farm.complete(job);
    assert_eq!(farm.log(job), "1501\n1501 1600 1601\n");
    let record = farm.job(job);
    assert_eq!((&record["login_user"], &record["user"]), (&json!("root"), &json!("ada")));
    let attempt = only_attempt(&farm, job);
    assert_eq!((&attempt["login_user"], &attempt["user"], &attempt["run_as"]), (&json!("root"), &json!("ada"), &ada()));
}

#[test]
fn the_environment_is_the_accounts_own() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let printed =
        farm.output_of("ada", &["--env", "SCENE=forest"], "echo $HOME $USER $LOGNAME $SHELL $SCENE; echo $PATH");
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], "/home/ada ada ada /bin/sh forest");
    assert!(lines[1].split(':').all(|p| p.starts_with('/')), "{printed}");
}

#[test]
fn whoami_and_explain_say_it_beforehand() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    assert_eq!(farm.stead_as("ada", &["whoami", "--json"]).ok().json()["login_user"], "ada");
    let before = farm.stead_as("ada", &["explain", "--user", "ada", "--json"]).ok().json();
    let worker = &before["workers"][0];
    assert_eq!((&worker["verdict"], &worker["mode"]), (&json!("run"), &json!("user")), "{before:#}");
    assert_eq!(worker["run_as"], ada(), "{before:#}");
    assert!(worker["rules"].as_array().is_some_and(|r| !r.is_empty()), "{before:#}");

    let job = farm.submit_sh("ada", &[], "true");
    farm.complete(job);
    let after = farm.stead_as("ada", &["explain", &job.to_string(), "--json"]).ok().json();
    assert_eq!((&after["login_user"], &after["user"]), (&json!("ada"), &json!("ada")), "{after:#}");
    assert_eq!(after["workers"][0]["run_as"]["uid"], 1501, "{after:#}");
    // The same in words names the account, too.
    assert!(farm.stead_as("ada", &["explain", &job.to_string()]).ok().out().contains("ada"));
}

#[test]
fn explain_of_a_proxy_worker_names_the_proxy_account() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::proxy_mode("qubeproxy").start();
    let before = farm.stead_as("bob", &["explain", "--user", "bob", "--json"]).ok().json();
    assert_eq!(before["workers"][0]["run_as"], proxy(), "{before:#}");
}

/// The services hold no privilege once they serve.
#[test]
fn only_the_launcher_has_root() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let job = farm.submit_sh("ada", &[], "sleep 1000");
    let _ = farm.until_job(job, "running", |j| e2e::state(j) == "running");
    e2e::until("the task", || (!farm.processes().of(Role::Task).is_empty()).then_some(()));
    let tree = farm.processes();
    for role in [Role::Dev, Role::Supervisor, Role::Worker, Role::Session, Role::Task] {
        let pids = tree.of(role);
        assert!(!pids.is_empty(), "no {role:?} in {tree:#?}");
        for process in tree.all().into_iter().filter(|p| pids.contains(&p.pid)) {
            assert!(process.uids.iter().all(|u| *u != 0), "{role:?} has root: {process:?}");
        }
    }
}

/// One-shot farms, as the README shows them.
#[test]
fn run_as_root_with_a_throwaway_account() {
    if !root_or_skip() {
        return;
    }
    let stage = e2e::Stage::raise();
    let mut run = stage.command_as("root", "sh");
    run.args(["-c", "cd /tmp && stead run --mode proxy --proxy-account throwaway -- sh -c 'id -u; id -G'"]);
    let output = run.output().expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let id =
        printed.lines().find_map(|l| l.trim().parse::<u32>().ok()).unwrap_or_else(|| panic!("an id in {output:?}"));
    assert!((61_184..=65_519).contains(&id), "{printed}");
}

#[test]
fn run_as_a_person_runs_as_that_person() {
    if !root_or_skip() {
        return;
    }
    let stage = e2e::Stage::raise();
    let mut run = stage.command_as("ada", "sh");
    run.args(["-c", "cd && stead run -- sh -c 'id -u; id -G; echo made > here.txt' && cat stead-out/*/here.txt && stat -c %U stead-out/*/here.txt"]);
    let output = run.output().expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    for expected in ["1501", "1501 1600 1601", "made", "ada"] {
        assert!(
            printed.lines().any(|l| l.trim() == expected),
            "{expected} in {printed}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn run_tells_how_the_job_ended() {
    if !root_or_skip() {
        return;
    }
    let stage = e2e::Stage::raise();
    let mut run = stage.command_as("ada", "sh");
    run.args(["-c", "cd && stead run -- false"]);
    let output = run.output().expect("it starts");
    assert_eq!(output.status.code(), Some(5), "{output:?}");
}
