//! What must not work: wrong identities, bad places to start a farm in, and jobs that reach out. Case numbers are
//! those of SECURITY.md's table.

use e2e::{Farm, JobId, Role, lives, root_or_skip, until};
use std::os::unix::fs::MetadataExt as _;

/// What a hostile submission would create if it ever ran.
const TRACE: &str = "/tmp/ran-as-another";

/// Refused at once, or accepted and then never run: no process, and a reason.
#[track_caller]
fn never_runs(farm: &Farm, who: &str, args: &[&str]) {
    let script = format!("id -u > {TRACE}.$$; sleep 3");
    let answer = farm.stead_as(who, &[&["submit", "--json"], args, &["--", "sh", "-c", &script]].concat());
    if answer.code == Some(0) {
        let job = JobId(answer.json()["job"].as_u64().expect("a job"));
        let waits = |j: &serde_json::Value| j["reason"].as_str().is_some_and(|r| !r.is_empty());
        let refused = farm.until_job(job, "a reason why it does not run", waits);
        assert!(matches!(e2e::state(&refused), "pending" | "badlogin" | "failed" | "blocked"), "{refused:#}");
        let attempts = farm.attempts(job);
        let ran = attempts.iter().any(|a| matches!(e2e::state(a), "running" | "complete"));
        assert!(!ran, "{attempts:#?}");
        let _ = farm.stead_as("root", &["kill", &job.to_string()]);
    } else {
        assert!(matches!(answer.code, Some(2 | 3)), "{answer:?}");
        assert!(!answer.stderr.is_empty() && !answer.err().contains("panicked"), "{answer:?}");
    }
    assert_eq!(traces(farm), Vec::<String>::new(), "{args:?} by {who}");
}

fn traces(farm: &Farm) -> Vec<String> {
    let entries = std::fs::read_dir(farm.path("/tmp")).expect("/tmp").flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n.starts_with("ran-as")).collect()
}

/// A01
#[test]
fn nobody_submits_as_someone_else() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let _ = farm.stead_as("ada", &["submit", "--user", "bob", "--", "id"]).exits(3).complains(&["impersonate", "bob"]);
    // Neither does the environment choose.
    let mut submit = farm.command_as("ada", "stead");
    submit
        .args(["submit", "--json", "--", "id", "-u"])
        .env("USER", "bob")
        .env("LOGNAME", "bob")
        .env("STEAD_USER", "bob");
    let answer = submit.output().expect("stead starts");
    let job: serde_json::Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    let job = JobId(job["job"].as_u64().expect("a job"));
    farm.complete(job);
    assert_eq!(farm.log(job), "1501\n");
    assert_eq!(farm.job(job)["login_user"], "ada");
    // The refused one left no job behind.
    assert_eq!(farm.stead_as("root", &["jobs", "--json"]).ok().json().as_array().map(Vec::len), Some(1));
}

/// A02, B05, B10
#[test]
fn no_spelling_of_root_runs_anything() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let spellings = [
        "root",
        "toor",
        "0",
        "#0",
        "+0",
        "00",
        "-1",
        "-0",
        "4294967295",
        "4294967296",
        " root",
        "root ",
        "Root",
        "ROOT",
        "0x0",
        "uid=0",
        "root:root",
        "1501",
        "#1501",
    ];
    for user in spellings {
        let user = format!("--user={user}");
        never_runs(&farm, "ada", &[&user]);
        never_runs(&farm, "root", &[&user]);
    }
}

/// B05: the launcher's own floor and lists, for accounts that are really there and submit for themselves.
#[test]
fn accounts_of_the_system_run_nothing() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    for account in ["daemon-like", "nobody", "wheeled"] {
        never_runs(&farm, account, &[]);
        never_runs(&farm, "root", &["--user", account]);
    }
}

/// B05: groups that are as good as root are refused or taken away, never handed on in silence.
#[test]
fn groups_that_mean_root_are_not_handed_on() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let job = farm.submit_sh("powerful", &[], "id -G");
    let over =
        |j: &serde_json::Value| e2e::state(j) != "running" && (e2e::state(j) != "pending" || !j["reason"].is_null());
    let ended = farm.until_job(job, "an end or a reason", over);
    if e2e::state(&ended) == "complete" {
        assert_eq!(farm.log(job), "1513\n", "denied groups were handed on");
    } else {
        assert!(farm.attempts(job).iter().all(|a| a["exit_code"].is_null()), "{ended:#}");
    }
}

/// B07: no account, no job; and no account is made for it.
#[test]
fn an_id_without_an_account_submits_nothing() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let _ = farm.stead_as("#4242", &["submit", "--", "id"]).exits(3).complains(&["4242", "account", "name"]);
    never_runs(&farm, "root", &["--user", "carol"]);
    let passwd = std::fs::read_to_string(farm.path("/etc/passwd")).expect("passwd");
    assert!(!passwd.contains("carol") && !passwd.contains("4242"));
}

/// B07, B09
#[test]
fn an_account_that_vanished_before_its_job_ran_runs_nothing() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let worker = farm.stead_as("root", &["worker", "list", "--json"]).ok().json()[0]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let _ = farm.stead_as("root", &["worker", "drain", &worker]).ok();
    let job = farm.submit_sh("ada", &[], &format!("touch {TRACE}"));
    let passwd = std::fs::read_to_string(farm.path("/etc/passwd")).expect("passwd");
    let without: String = passwd.lines().filter(|l| !l.starts_with("ada:")).flat_map(|l| [l, "\n"]).collect();
    std::fs::write(farm.path("/etc/passwd"), without).expect("passwd");
    let _ = farm.stead_as("root", &["worker", "drain", "--undo", &worker]).ok();
    let waits = |j: &serde_json::Value| j["reason"].as_str().is_some_and(|r| r.contains("ada"));
    let job_then = farm.until_job(job, "a reason that names the account", waits);
    assert!(matches!(e2e::state(&job_then), "pending" | "badlogin"), "{job_then:#}");
    assert_eq!(traces(&farm), Vec::<String>::new());
}

/// B06: the number behind a name changed.
#[test]
fn a_recycled_name_is_not_the_same_account() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let worker = farm.stead_as("root", &["worker", "list", "--json"]).ok().json()[0]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let _ = farm.stead_as("root", &["worker", "drain", &worker]).ok();
    let job = farm.submit_sh("ada", &[], &format!("id -u > {TRACE}"));
    let passwd = std::fs::read_to_string(farm.path("/etc/passwd")).expect("passwd");
    std::fs::write(farm.path("/etc/passwd"), passwd.replace("ada:x:1501:", "ada:x:1599:")).expect("passwd");
    let _ = farm.stead_as("root", &["worker", "drain", "--undo", &worker]).ok();
    let over = |j: &serde_json::Value| e2e::state(j) == "complete" || !j["reason"].is_null();
    let then = farm.until_job(job, "an end or a reason", over);
    // If it ran, then as whom the name is now, and the record says so; it may never be half of each.
    if e2e::state(&then) == "complete" {
        assert_eq!(farm.attempts(job)[0]["run_as"]["uid"], 1599);
        assert_eq!(std::fs::read_to_string(farm.path(TRACE)).expect("trace"), "1599\n");
    } else {
        assert_eq!(traces(&farm), Vec::<String>::new());
    }
}

/// B11
#[test]
fn hostile_names_are_refused_in_words_that_can_be_printed() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let long = "a".repeat(4096);
    let names = [
        "-x",
        "a\nb",
        "a\rb",
        "a\tb",
        "a b",
        "a/b",
        "..",
        ".",
        "../../etc/cron.d/x",
        "%s%n",
        "$(id)",
        ";id",
        "`id`",
        "'",
        "\"",
        "",
        "\u{1f600}",
        "\u{202e}ada",
        "ada\u{200b}",
        "\u{430}da",
        &long,
        "ada\u{1b}[31m",
        "ada:x",
    ];
    for name in names {
        let option = format!("--user={name}");
        for who in ["ada", "root"] {
            let answer = farm.stead_as(who, &["submit", &option, "--", "touch", TRACE]);
            assert!(matches!(answer.code, Some(2 | 3)), "{name:?}: {answer:?}");
            let printable = |b: &u8| *b == b'\n' || *b >= 0x20 && *b != 0x7f;
            assert!(answer.stderr.iter().all(printable), "{name:?}: {answer:?}");
        }
    }
    assert_eq!(traces(&farm), Vec::<String>::new());
    assert_eq!(farm.stead_as("root", &["jobs", "--json"]).ok().json(), serde_json::json!([]));
}

/// C01: the dynamic linker writes down as whom it was told to; it was told only in the job itself.
#[test]
fn a_jobs_environment_reaches_nothing_but_the_job() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let options = [
        "--env",
        "LD_DEBUG=files",
        "--env",
        "LD_DEBUG_OUTPUT=/tmp/linker",
        "--env",
        "BASH_ENV=/tmp/nothing",
        "--env",
        "ENV=/tmp/nothing",
        "--env",
        "PATH=/tmp/evil:/usr/bin:/bin",
        "--env",
        "IFS=/",
    ];
    farm.complete(farm.submit("ada", &[&options[..], &["--", "sleep", "0"]].concat()));
    let files: Vec<_> = std::fs::read_dir(farm.path("/tmp")).expect("/tmp").flatten().collect();
    let owners: Vec<u32> = files
        .iter()
        .filter(|f| f.file_name().to_string_lossy().starts_with("linker."))
        .map(|f| f.metadata().expect("metadata").uid())
        .collect();
    assert!(!owners.is_empty(), "the canary does not sing");
    assert!(owners.iter().all(|uid| *uid == 1501), "{owners:?}");
}

/// C02
#[test]
fn nothing_of_the_farms_environment_reaches_a_job() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().after("export CANARY_SECRET=tweet AWS_SECRET_ACCESS_KEY=tweet SSH_AUTH_SOCK=/tweet NOTIFY_SOCKET=/tweet DISPLAY=:tweet").start();
    let printed = farm.output_of("ada", &[], "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'");
    assert!(printed.contains("HOME=/home/ada"), "{printed}");
    assert!(!printed.contains("tweet"), "{printed}");
    // The shell adds PWD and may add OLDPWD, SHLVL and _.
    let expected = ["HOME", "LANG", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHELL", "SHLVL", "TMPDIR", "TZ", "USER", "_"];
    let own = farm.output_of("ada", &[], "env");
    let other = |l: &&str| !expected.contains(l) && !l.starts_with("STEAD_") && !l.starts_with("QB_");
    let strangers: Vec<&str> = own.lines().filter_map(|l| l.split('=').next()).filter(other).collect();
    assert_eq!(strangers, Vec::<&str>::new(), "{own}");
}

/// C03: descriptors that the farm was started with, or opened itself, end before the job.
#[test]
fn a_job_has_three_descriptors() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().with(&["--slots", "4"]).after("exec 9</etc/shadow 8>/mnt/leaked 7</").start();
    let job = farm.submit_sh("ada", &["--frames", "1-40"], "ls -m /proc/$$/fd; :");
    let others: Vec<JobId> = (0..8).map(|_| farm.submit_sh("bob", &[], "ls -m /proc/$$/fd; :")).collect();
    for job in others.into_iter().chain([job]) {
        farm.complete(job);
        let printed = farm.log(job);
        assert!(printed.lines().all(|l| l == "0, 1, 2"), "{printed}");
    }
}

/// C04
#[test]
fn a_farm_started_without_standard_descriptors_works() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().after("exec <&-").start();
    assert_eq!(farm.output_of("ada", &[], "ls -m /proc/$$/fd; readlink /proc/$$/fd/0").trim(), "0, 1, 2\n/dev/null");
}

/// C05
#[test]
fn the_umask_is_the_jobs_own() {
    if !root_or_skip() {
        return;
    }
    for (inherited, options, expected) in
        [("umask 0", &[][..], "0022"), ("umask 0777", &["--umask", "027"][..], "0027")]
    {
        let farm = Farm::user_mode().after(inherited).start();
        assert_eq!(farm.output_of("ada", options, "umask").trim(), expected);
    }
}

/// C06
#[test]
fn a_folder_is_entered_as_the_account_or_nothing_runs() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    std::os::unix::fs::symlink("/proc/self/fd/3", farm.path("/mnt/shared/fd")).expect("a link");
    for cwd in ["/nonexistent", "/home/bob", "/etc/passwd", "/mnt/shared/fd", "/root"] {
        let job = farm.submit_sh("ada", &["--cwd", cwd], &format!("touch {TRACE}"));
        let _ = farm.ends(job, "failed");
        let attempts = farm.attempts(job);
        let reason = attempts[0]["reason"].as_str().unwrap_or("").to_owned();
        assert!(reason.contains(cwd) || reason.to_lowercase().contains("director"), "{cwd}: {attempts:#?}");
    }
    let long = format!("/{}", "x".repeat(5000));
    for cwd in ["relative", "../..", &long] {
        let _ =
            farm.stead_as("ada", &["submit", "--cwd", cwd, "--", "touch", TRACE]).exits(2).complains(&["directory"]);
    }
    assert_eq!(traces(&farm), Vec::<String>::new());
    // And where the account may go, it is there.
    assert_eq!(farm.output_of("ada", &["--cwd", "/home/ada"], "pwd -P"), "/home/ada\n");
}

/// C07
#[test]
fn a_job_starts_with_clean_signals() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().after("trap '' PIPE HUP USR1 CHLD").start();
    let printed = farm.output_of("ada", &[], "grep -E '^Sig(Blk|Ign):' /proc/self/status");
    assert_eq!(printed.lines().count(), 2);
    assert!(printed.lines().all(|l| l.ends_with("0000000000000000")), "{printed}");
}

/// C08: a farm on a person's terminal does not hand that terminal on.
#[test]
fn a_job_has_no_terminal() {
    if !root_or_skip() || !e2e::programs_or_skip(&["script"]) {
        return;
    }
    let farm = Farm::user_mode().after("exec script -qefc \"stead $*\" /dev/null").start();
    let printed = farm.output_of("ada", &[], "cut -d' ' -f7 /proc/self/stat; (: < /dev/tty) 2>&1; true");
    let mut lines = printed.lines();
    assert_eq!(lines.next(), Some("0"), "{printed}");
    assert!(printed.contains("No such device or address"), "{printed}");
}

/// C09
#[test]
fn a_job_that_kills_everything_it_can_kills_only_itself() {
    if !root_or_skip() {
        return;
    }
    for farm in [Farm::user_mode().start(), Farm::proxy_mode("qubeproxy").start()] {
        let before = farm.processes();
        // In user mode it reaches ada's own: what submitted it has ended by then.
        let wait = "while ! [ -e /home/go ]; do sleep 0.1; done";
        let job = farm.submit_sh("ada", &[], &format!("{wait}; kill -9 -1; kill -9 0; kill -9 $PPID; sleep 30"));
        std::fs::write(farm.path("/home/go"), "").expect("written");
        let _ = farm.wait(job);
        assert_eq!(farm.output_of("bob", &[], "echo alive"), "alive\n");
        let after = farm.processes();
        for role in [Role::Dev, Role::Host, Role::Supervisor, Role::Worker] {
            assert_eq!(before.of(role), after.of(role), "{role:?}");
        }
    }
}

/// C12, C13
#[test]
fn arguments_arrive_as_they_were_typed() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let words = ["-x", "--", "a b", "$(id)", "*", "", "é\u{1f600}", "'\"", "\\n", "a\tb", "{frame}", "{{", "}}"];
    let job = farm.submit("ada", &[&["--", "printf", "<%s>"], &words[..]].concat());
    farm.complete(job);
    let expected: String = words.iter().map(|w| format!("<{w}>")).collect();
    assert_eq!(farm.log(job), expected);
    for env in ["=x", "1A=b", "A-B=c", "NOVALUE"] {
        let _ = farm.stead_as("ada", &["submit", "--env", env, "--", "true"]).exits(2).complains(&[
            "environment",
            "variable",
            "env",
        ]);
    }
}

/// The launcher's and the workers' own sockets are not for people.
#[test]
fn people_have_no_business_at_the_inner_sockets() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    for folder in ["supervisor", "worker", "launcher"] {
        let answer = farm.run_as("ada", "ls", &[&format!("{}/{folder}", farm.data())]);
        assert_ne!(answer.code, Some(0), "{answer:?}");
    }
    // Names of other jobs' folders can't be listed either.
    let _ = farm.run_as("ada", "ls", &[&format!("{}/work", farm.data())]).complains(&["permission denied"]);
}

/// D06
#[test]
fn what_is_not_yours_looks_like_what_is_not_there() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let job = farm.submit_sh("ada", &[], "echo private > secret.txt; chmod 600 secret.txt; echo private");
    farm.complete(job);
    let (mine, nowhere) = (job.to_string(), "987654".to_owned());
    for command in [
        &["logs"][..],
        &["tasks"],
        &["explain"],
        &["wait"],
        &["kill"],
        &["retry"],
        &["block"],
        &["unblock"],
        &["suspend"],
        &["resume"],
        &["logs", "--stderr"],
        &["tasks", "--json"],
        &["explain", "--json"],
    ] {
        let ask = |id: &str| farm.stead_as("bob", &[command, &[id]].concat());
        let (foreign, unknown) = (ask(&mine), ask(&nowhere));
        assert_eq!((foreign.code, unknown.code), (Some(4), Some(4)), "{command:?} {foreign:?} {unknown:?}");
        assert_eq!(foreign.err().replace(&mine, "N"), unknown.err().replace(&nowhere, "N"), "{command:?}");
        assert_eq!(foreign.out(), unknown.out());
    }
    assert_eq!(farm.stead_as("bob", &["jobs", "--json"]).ok().json(), serde_json::json!([]));
    // Nor on disk: the folder is its account's own.
    let folder = farm.folder(job);
    let _ = farm.run_as("bob", "cat", &[&format!("{folder}/secret.txt")]).exits(1);
    for file in files_below(&farm, &farm.data()) {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap_or_default()).into_owned();
        if text.contains("private") {
            let shown = file.display().to_string();
            let inside = shown.split_once("/root/").map_or(shown.clone(), |(_, p)| format!("/{p}"));
            assert_ne!(farm.run_as("bob", "cat", &[&inside]).code, Some(0), "bob reads {inside}");
        }
    }
    // Ada still may.
    assert_eq!(farm.stead_as("ada", &["logs", &mine]).ok().out(), "private\n");
}

fn files_below(farm: &Farm, dir: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![farm.path(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.path().symlink_metadata() else { continue };
            if meta.is_dir() {
                dirs.push(entry.path());
            } else if meta.is_file() {
                found.push(entry.path());
            }
        }
    }
    found
}

/// E01: three generations, each in a session of its own, deaf to every signal that can be.
#[test]
fn a_tree_that_runs_away_is_caught_when_the_job_is_killed() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let job = farm.submit_sh("ada", &[], RUNAWAY);
    let runaways = until("the runaways", || Some(sleepers(&farm, "86399")).filter(|s| s.len() == 3));
    let _ = farm.stead_as("ada", &["kill", &job.to_string()]).ok();
    let _ = farm.ends(job, "killed");
    until("an end of the runaways", || runaways.iter().all(|p| !lives(*p)).then_some(()));
}

/// E01
#[test]
fn what_a_task_leaves_behind_ends_with_it() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let job = farm.submit_sh("ada", &[], &RUNAWAY.replace("wait; sleep 1000", "sleep 1"));
    farm.complete(job);
    until("an end of the runaways", || sleepers(&farm, "86399").is_empty().then_some(()));
    assert_eq!(farm.output_of("ada", &[], "echo next"), "next\n");
}

const RUNAWAY: &str = "\
    for i in 1 2 3; do
        setsid sh -c 'trap \"\" TERM HUP INT; setsid sh -c \"trap \\\"\\\" TERM HUP INT; exec sleep 86399\" <&- >&- 2>&- &' &
    done
    wait; sleep 1000";

/// E03: a child that the account itself may not signal.
#[test]
fn a_setuid_child_dies_with_its_job() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let sleep =
        farm.stage().command("sh").args(["-c", "cp /bin/sleep /mnt/rootsleep && chmod 4755 /mnt/rootsleep"]).status();
    assert!(sleep.expect("sh starts").success());
    let job = farm.submit_sh("ada", &[], "setsid /mnt/rootsleep 86398 & wait");
    let pids = until("the setuid child", || Some(sleepers(&farm, "86398")).filter(|s| !s.is_empty()));
    let euid = farm.processes().all().iter().find(|p| p.pid == pids[0]).map(|p| p.uids[1]);
    assert_eq!(euid, Some(0), "the child is not setuid: the test proves nothing");
    let _ = farm.stead_as("ada", &["kill", &job.to_string()]).ok();
    let _ = farm.ends(job, "killed");
    until("an end of the setuid child", || (!lives(pids[0])).then_some(()));
}

/// E04
#[test]
fn a_stopped_job_can_be_killed() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let job = farm.submit_sh("ada", &[], "sleep 86397 & sleep 0.2; kill -STOP $! $$");
    let pids = until("the stopped job", || Some(sleepers(&farm, "86397")).filter(|s| !s.is_empty()));
    let _ = farm.stead_as("ada", &["kill", &job.to_string()]).ok();
    let _ = farm.ends(job, "killed");
    until("an end of the stopped job", || (!lives(pids[0])).then_some(()));
}

/// Processes of the farm that sleep for exactly this long.
fn sleepers(farm: &Farm, seconds: &str) -> Vec<i32> {
    let sleeps = |argv: &[String]| {
        argv.first().is_some_and(|a| a.ends_with("sleep")) && argv.get(1).is_some_and(|s| s == seconds)
    };
    farm.processes().all().iter().filter(|p| sleeps(&p.argv)).map(|p| p.pid).collect()
}

/// E04: a task of the same account can stop its session, which then obeys nobody; the host ends it all the same.
#[test]
fn a_job_that_stops_its_session_can_be_killed() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let job = farm.submit_sh("ada", &[], "echo up; kill -STOP $PPID; sleep 600");
    farm.until_job(job, "running", |job| e2e::state(job) == "running");
    let _ = farm.stead_as("ada", &["kill", &job.to_string()]).ok();
    farm.until_job(job, "over", |job| !job["ended_at"].is_null());
}
