//! What a job's life promises across restarts, limits and refusals, on the whole stack.

use e2e::{Farm, JobId, Role, until};
use serde_json::Value;

fn farm() -> (Farm, String) {
    let farm = Farm::any().with(&["--slots", "1"]).start();
    let who = farm.someone().to_owned();
    (farm, who)
}

fn template(farm: &Farm, who: &str, name: &str, text: &str) -> JobId {
    let inside = if e2e::is_root() { format!("/tmp/{name}") } else { format!("{}.{name}", farm.data()) };
    std::fs::write(farm.path(&inside), text).expect("a file");
    farm.submit(who, &[&inside])
}

fn states(farm: &Farm, job: JobId) -> Vec<String> {
    farm.attempts(job).iter().map(|a| e2e::state(a).to_owned()).collect()
}

#[test]
fn false_is_tried_three_times_and_again_when_a_person_asks() {
    let (farm, who) = farm();
    let job = farm.submit(&who, &["--retries", "2", "--", "false"]);
    let ended = farm.ends(job, "failed");
    assert_eq!(states(&farm, job), ["failed"; 3]);
    assert!(ended["reason"].as_str().is_some_and(|r| r.starts_with("1 of 1 tasks failed")), "{ended:#}");
    let reasons: Vec<Value> = farm.attempts(job).iter().map(|a| a["exit_code"].clone()).collect();
    assert_eq!(reasons, [1, 1, 1]);
    let _ = farm.stead_as(&who, &["retry", &job.to_string()]).ok();
    until("three more attempts", || (farm.attempts(job).len() == 6).then_some(()));
    let _ = farm.ends(job, "failed");
    let numbers: Vec<Value> = farm.attempts(job).iter().map(|a| a["attempt"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn out_of_memory_is_said_so() {
    if !e2e::root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let script = "x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo survived";
    let job = farm.submit_sh("ada", &["--mem", "64M", "--retries", "0"], script);
    let _ = farm.ends(job, "failed");
    let reason = farm.attempts(job)[0]["reason"].as_str().unwrap_or("").to_owned();
    assert!(reason.starts_with("out of memory"), "{reason:?}");
}

#[test]
fn a_template_asks_for_what_a_host_is() {
    let (farm, who) = farm();
    let with = |arch: &str| {
        format!(
            "specificationVersion: jobtemplate-2023-09\nname: picky\nsteps:\n- name: one\n  \
             script: {{actions: {{onRun: {{command: 'true'}}}}}}\n  hostRequirements:\n    attributes:\n    \
             - {{name: attr.worker.os.family, anyOf: [linux]}}\n    - {{name: attr.worker.cpu.arch, anyOf: [{arch}]}}\n"
        )
    };
    let (own, other) =
        if std::env::consts::ARCH == "aarch64" { ("arm64", "x86_64") } else { (std::env::consts::ARCH, "arm64") };
    farm.complete(template(&farm, &who, "own.yaml", &with(own)));
    let job = template(&farm, &who, "other.yaml", &with(other));
    let waits = farm.until_job(job, "a reason", |j| !j["reason"].is_null());
    assert!(waits["reason"].as_str().is_some_and(|r| r.contains(other)), "{waits:#}");
}

#[test]
fn what_a_task_says_of_itself_is_seen() {
    let (farm, who) = farm();
    let flag = if e2e::is_root() { "/mnt/shared/go".to_owned() } else { format!("{}.go", farm.data()) };
    let says = "echo 'openjd_progress: 42.5'; echo 'openjd_status: half-way'";
    let job = farm.submit_sh(&who, &[], &format!("{says}; until [ -e {flag} ]; do sleep 0.05; done"));
    let task = until("its word", || {
        let task = farm.tasks(job)[0].clone();
        (!task["status"].is_null()).then_some(task)
    });
    assert_eq!((&task["progress"], &task["status"]), (&Value::from(42.5), &Value::from("half-way")));
    let table = farm.stead_as(&who, &["tasks", &job.to_string()]).ok().out();
    assert!(table.contains("42 %, half-way") || table.contains("43 %, half-way"), "{table}");
    std::fs::write(farm.path(&flag), "").expect("the flag");
    farm.complete(job);
    assert_eq!(farm.tasks(job)[0]["progress"], Value::Null);
}

/// Whoever of us is killed meanwhile, what was entered is left, once.
#[test]
fn environments_are_left_after_a_kill() {
    for role in [Role::Supervisor, Role::Worker] {
        let (mut farm, who) = farm();
        let place = if e2e::is_root() { "/mnt/shared".to_owned() } else { format!("{}.shared", farm.data()) };
        if !e2e::is_root() {
            std::fs::create_dir(&place).expect("a folder");
        }
        let (notes, flag) = (format!("{place}/notes"), format!("{place}/go"));
        let action = |what: &str| format!("{{command: sh, args: ['-c', 'echo {what} >> {notes}']}}");
        let text = format!(
            "specificationVersion: jobtemplate-2023-09\nname: envs\njobEnvironments:\n- name: house\n  \
             script: {{actions: {{onEnter: {}, onExit: {}}}}}\nsteps:\n- name: one\n  \
             parameterSpace: {{taskParameterDefinitions: [{{name: N, type: INT, range: 1-4}}]}}\n  \
             script: {{actions: {{onRun: {{command: sh, args: ['-c', 'until [ -e {flag} ]; do sleep 0.05; done']}}}}}}\n",
            action("in"),
            action("out"),
        );
        let job = template(&farm, &who, "envs.yaml", &text);
        until("a task", || (!farm.processes().of(Role::Task).is_empty()).then_some(()));
        assert!(farm.kill9(role) > 0);
        farm.heal();
        std::fs::write(farm.path(&flag), "").expect("the flag");
        farm.complete(job);
        let read = || std::fs::read_to_string(farm.path(&notes)).unwrap_or_default();
        let noted = until("every exit", || {
            let text = read();
            (text.matches("in\n").count() == text.matches("out\n").count()).then_some(text)
        });
        let sessions = noted.matches("in\n").count();
        assert!((1..=2).contains(&sessions), "{role:?}: {noted}");
        assert_eq!(noted, "in\nout\n".repeat(sessions), "{role:?}");
        assert_eq!(farm.job(job)["tasks"]["complete"], 4);
    }
}

#[test]
fn a_wait_outlives_its_supervisor() {
    let (mut farm, who) = farm();
    let flag = if e2e::is_root() { "/mnt/shared/go".to_owned() } else { format!("{}.go", farm.data()) };
    let job = farm.submit_sh(&who, &[], &format!("until [ -e {flag} ]; do sleep 0.05; done"));
    until("the task", || (!farm.processes().of(Role::Task).is_empty()).then_some(()));
    let mut waiting = farm.command_as(&who, "stead").args(["wait", &job.to_string()]).spawn().expect("stead starts");
    until("a question", || (!farm.said().is_empty()).then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(farm.kill9(Role::Supervisor) > 0);
    farm.heal();
    assert!(waiting.try_wait().expect("its status").is_none(), "it gave up");
    std::fs::write(farm.path(&flag), "").expect("the flag");
    let status = until("an end of the waiting", || waiting.try_wait().expect("its status"));
    assert!(status.success(), "{status}");
}

/// A full disk is answered by 503 and a sentence, and nothing is half done.
#[test]
fn a_full_disk_is_said_in_a_sentence() {
    if !e2e::root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().with_data_of("24m").start();
    farm.complete(farm.submit_sh("ada", &[], "echo before"));
    let fill = farm.stage().command("sh").args(["-c", "cat /dev/zero > /mnt/data/filler 2>/dev/null; true"]).status();
    assert!(fill.expect("sh starts").success());
    let big = format!("BIG={}", "x".repeat(100_000));
    let answer = farm.stead_as("ada", &["submit", "--json", "--env", &big, "--", "true"]);
    assert!(answer.code.is_some_and(|c| c != 0), "{answer:?}");
    let answer = answer.complains(&["space", "disk"]);
    assert!(answer.err().contains("nothing"), "{answer:?}");
    // Nothing else of the farm fell over: what is there can still be read.
    assert_eq!(farm.stead_as("ada", &["jobs", "--json"]).ok().json().as_array().map(Vec::len), Some(1));
    std::fs::remove_file(farm.path("/mnt/data/filler")).expect("room again");
    let job = until("a submission once there is room", || {
        let answer = farm.stead_as("ada", &["submit", "--json", "--", "echo", "after"]);
        (answer.code == Some(0)).then(|| JobId(answer.json()["job"].as_u64().expect("a job")))
    });
    farm.complete(job);
    assert_eq!(farm.stead_as("ada", &["jobs", "--json"]).ok().json().as_array().map(Vec::len), Some(2));
}
