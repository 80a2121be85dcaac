//! What people submit and what they do with it. Works in any mode, so it runs without root, too.

use e2e::{Farm, JobId, Role, until};
use serde_json::{Value, json};

fn farm() -> (Farm, String) {
    let farm = Farm::any().with(&["--slots", "2"]).start();
    let who = farm.someone().to_owned();
    (farm, who)
}

/// A file in the job's folder, as text.
#[track_caller]
fn made(farm: &Farm, job: JobId, name: &str) -> String {
    let path = farm.path(farm.folder(job)).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn write(farm: &Farm, name: &str, text: &str) -> String {
    let inside = if e2e::is_root() { format!("/tmp/{name}") } else { format!("{}.{name}", farm.data()) };
    std::fs::write(farm.path(&inside), text).expect("a file");
    inside
}

#[test]
fn a_command() {
    let (farm, who) = farm();
    let job = farm.submit(&who, &["--name", "greeting", "--", "echo", "hello", "world"]);
    let ended = farm.ends(job, "complete");
    assert_eq!(farm.log(job), "hello world\n");
    assert_eq!(ended["name"], "greeting");
    assert_eq!(
        ended["tasks"],
        json!({"total": 1, "pending": 0, "running": 0, "complete": 1, "failed": 0, "killed": 0, "blocked": 0, "suspended": 0})
    );
    for time in ["submitted_at", "started_at", "ended_at"] {
        let text = ended[time].as_str().unwrap_or("");
        assert!(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{time}: {ended:#}");
    }
    assert_eq!(ended["reason"], Value::Null);
}

#[test]
fn a_frame_range() {
    let (farm, who) = farm();
    let job = farm.submit_sh(&who, &["--frames", "1-9x4,20"], "echo frame {frame}");
    farm.complete(job);
    assert_eq!(sorted(&farm.log(job)), ["frame 1", "frame 20", "frame 5", "frame 9"]);
    let tasks = farm.tasks(job);
    let frames: Vec<&Value> = tasks.as_array().expect("an array").iter().map(|t| &t["frame"]).collect();
    assert_eq!(frames, [&json!(1), &json!(5), &json!(9), &json!(20)]);
    assert_eq!(farm.stead_as(&who, &["logs", &format!("{job}:20")]).ok().out(), "frame 20\n");
    assert_eq!(farm.stead_as(&who, &["logs", &format!("{job}.1")]).ok().out(), "frame 5\n");
}

#[test]
fn negative_frames_and_literal_braces() {
    let (farm, who) = farm();
    let job = farm.submit_sh(&who, &["--frames", "-2-1"], "echo {frame} '{{frame}}'");
    farm.complete(job);
    assert_eq!(sorted(&farm.log(job)), ["-1 {frame}", "-2 {frame}", "0 {frame}", "1 {frame}"]);
}

#[test]
fn chunks() {
    let (farm, who) = farm();
    let job = farm.submit_sh(&who, &["--frames", "1-25", "--chunk", "10"], "echo {start} to {end}");
    farm.complete(job);
    assert_eq!(sorted(&farm.log(job)), ["1 to 10", "11 to 20", "21 to 25"]);
    assert_eq!(farm.job(job)["tasks"]["total"], 3);
}

#[test]
fn one_task_per_line() {
    let (farm, who) = farm();
    let list = write(&farm, "list", "alpha\nbeta gamma\n\n$(touch x); 'quoted'\n");
    let job = farm.submit(&who, &["--each", &list, "--", "printf", "<%s>\\n", "{line}"]);
    farm.complete(job);
    assert_eq!(sorted(&farm.log(job)), ["<$(touch x); 'quoted'>", "<alpha>", "<beta gamma>"]);
}

#[test]
fn a_million_frames_are_submitted_like_ten() {
    let (farm, who) = farm();
    let blocker = farm.submit_sh(&who, &[], "sleep 1000");
    let time = |frames: &str| {
        let started = std::time::Instant::now();
        let job = farm.submit(&who, &["--frames", frames, "--after", &blocker.to_string(), "--", "true"]);
        (job, started.elapsed())
    };
    let (_, few) = time("1-10");
    let (job, many) = time("1-1000000");
    assert!(many < few * 5 + std::time::Duration::from_millis(300), "{few:?} for 10, {many:?} for 1000000");
    assert_eq!(farm.job(job)["tasks"]["total"], 1_000_000);
    let _ = farm.stead_as(&who, &["kill", &job.to_string()]).ok();
    let _ = farm.until_job(job, "a million killed tasks", |j| j["tasks"]["killed"] == 1_000_000);
}

const TEMPLATE: &str = r#"
specificationVersion: jobtemplate-2023-09
name: "shots of {{Param.Show}}"
parameterDefinitions:
  - name: Show
    type: STRING
    minLength: 2
  - name: Last
    type: INT
    default: 3
    maxValue: 10
jobEnvironments:
  - name: license
    script:
      actions:
        onEnter: { command: sh, args: ["{{Env.File.enter}}"] }
        onExit: { command: sh, args: ["-c", "echo left $TOKEN"] }
      embeddedFiles:
        - name: enter
          type: TEXT
          data: |
            echo "openjd_env: TOKEN=t-1"
            echo entered
steps:
  - name: gather
    dependencies:
      - dependsOn: render
    script:
      actions:
        onRun: { command: sh, args: ["-c", "cat out.* | sort > all; wc -l < all"] }
  - name: render
    parameterSpace:
      taskParameterDefinitions:
        - { name: Frame, type: INT, range: "1-{{Param.Last}}" }
        - { name: Eye, type: STRING, range: [left, right] }
      combination: "Frame * Eye"
    script:
      actions:
        onRun: { command: sh, args: ["{{Task.File.run}}", "{{Task.Param.Frame}}", "{{Task.Param.Eye}}"] }
      embeddedFiles:
        - name: run
          type: TEXT
          data: |
            echo "openjd_progress: 50"
            echo "openjd_status: half of {{Param.Show}}"
            echo "$1 $2 $TOKEN" > out.$1.$2
"#;

#[test]
fn a_template_with_parameters_environments_and_dependencies() {
    let (farm, who) = farm();
    let template = write(&farm, "job.yaml", TEMPLATE);
    let job = farm.submit(&who, &[&template, "-p", "Show=storm", "-p", "Last=2"]);
    let ended = farm.ends(job, "complete");
    assert_eq!(ended["name"], "shots of storm");
    assert_eq!(made(&farm, job, "all"), "1 left t-1\n1 right t-1\n2 left t-1\n2 right t-1\n");
    let tasks = farm.tasks(job);
    let render: Vec<&Value> =
        tasks.as_array().expect("an array").iter().filter(|t| t["step_name"] == "render").collect();
    assert_eq!(render.len(), 4, "{tasks:#}");
    assert_eq!(render[1]["params"], json!({"Frame": "1", "Eye": "right"}), "{tasks:#}");
    // A step of one task, addressed by its name.
    assert_eq!(farm.stead_as(&who, &["logs", &format!("{job}.gather.0"), "--stdout"]).ok().out().trim(), "4");
}

#[test]
fn a_template_that_says_it_failed_has_failed() {
    let (farm, who) = farm();
    let template = write(
        &farm,
        "fail.yaml",
        r#"
specificationVersion: jobtemplate-2023-09
name: fails
steps:
  - name: only
    script:
      actions:
        onRun: { command: sh, args: ["-c", "echo 'openjd_fail: no scene'; exit 3"] }
"#,
    );
    let job = farm.submit(&who, &[&template]);
    let _ = farm.ends(job, "failed");
    let attempts = farm.attempts(job);
    assert!(attempts[0]["reason"].as_str().is_some_and(|r| r.contains("no scene")), "{attempts:#?}");
}

#[test]
fn a_jobs_end_lets_others_start() {
    let (farm, who) = farm();
    let first = farm.submit_sh(&who, &[], "sleep 0.5; false");
    let id = first.to_string();
    let only_after_success = farm.submit_sh(&who, &["--after", &id], "true");
    let after_any_end = farm.submit_sh(&who, &["--after-any", &id], "true");
    let _ = farm.ends(first, "failed");
    farm.complete(after_any_end);
    let waits = farm.job(only_after_success);
    assert!(matches!(e2e::state(&waits), "pending" | "blocked"), "{waits:#}");
    assert!(waits["reason"].as_str().is_some_and(|r| r.contains(&id)), "{waits:#}");
    let _ = farm.stead_as(&who, &["submit", "--after", "4711", "--", "true"]).exits(4);
}

#[test]
fn priority_goes_first() {
    let (farm, who) = (Farm::any().with(&["--slots", "1"]).start(), ());
    let () = who;
    let who = farm.someone().to_owned();
    let order = if e2e::is_root() { "/mnt/shared/order".to_owned() } else { format!("{}.order", farm.data()) };
    let blocker = farm.submit_sh(&who, &[], "sleep 1");
    let _ = farm.until_job(blocker, "running", |j| e2e::state(j) == "running");
    let jobs: Vec<JobId> = [("low", "-5"), ("usual", "0"), ("high", "7")]
        .iter()
        .map(|(name, priority)| farm.submit_sh(&who, &["--priority", priority], &format!("echo {name} >> {order}")))
        .collect();
    for job in jobs {
        farm.complete(job);
    }
    assert_eq!(std::fs::read_to_string(farm.path(order)).expect("the order"), "high\nusual\nlow\n");
}

#[test]
fn output_is_kept_by_stream_and_task() {
    let (farm, who) = farm();
    let job = farm.submit_sh(&who, &["--frames", "1-2"], "echo out {frame}; echo err {frame} >&2");
    farm.complete(job);
    let logs = |args: &[&str]| sorted(&farm.stead_as(&who, &[&["logs"], args].concat()).ok().out());
    let id = job.to_string();
    assert_eq!(logs(&[&id, "--stdout"]), ["out 1", "out 2"]);
    assert_eq!(logs(&[&id, "--stderr"]), ["err 1", "err 2"]);
    assert_eq!(logs(&[&id]), ["err 1", "err 2", "out 1", "out 2"]);
    assert_eq!(logs(&[&format!("{job}.1"), "--stderr"]), ["err 2"]);
}

#[test]
fn output_is_followed_to_its_end() {
    let (farm, who) = farm();
    let gate = if e2e::is_root() { "/mnt/shared/gate".to_owned() } else { format!("{}.gate", farm.data()) };
    let job = farm.submit_sh(&who, &[], &format!("echo first; until [ -e {gate} ]; do sleep 0.05; done; echo last"));
    let mut follow = farm.command_as(&who, "stead");
    follow.args(["logs", "-f", &job.to_string()]).stdout(std::process::Stdio::piped());
    let mut child = follow.spawn().expect("stead starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("stdout")));
    assert_eq!(lines.next().expect("a line").expect("a line"), "first");
    // Only now may it end: what was shown before came as it was written.
    std::fs::write(farm.path(&gate), "").expect("the gate");
    assert_eq!(lines.next().expect("a line").expect("a line"), "last");
    assert!(lines.next().is_none());
    assert!(child.wait().expect("its end").success());
}

#[test]
fn any_bytes_are_kept() {
    let (farm, who) = farm();
    let job =
        farm.submit_sh(&who, &[], "printf 'a\\000\\377\\033[31m\\r\\nno newline'; yes 0123456789 | head -c 3000000");
    farm.complete(job);
    let bytes = farm.stead_as(&who, &["logs", &job.to_string(), "--stdout"]).ok().stdout;
    assert!(bytes.starts_with(b"a\0\xff\x1b[31m\r\nno newline0123456789\n"), "{:?}", &bytes[..bytes.len().min(60)]);
    assert_eq!(bytes.len(), 20 + 3_000_000);
}

#[test]
fn waiting_tells_how_it_ended() {
    let (farm, who) = farm();
    let wait = |job: JobId| farm.stead_as(&who, &["wait", &job.to_string()]);
    let good = farm.submit_sh(&who, &[], "sleep 0.3");
    let _ = wait(good).ok();
    let bad = farm.submit_sh(&who, &[], "exit 7");
    let _ = wait(bad).exits(5);
    assert_eq!(farm.attempts(bad)[0]["exit_code"], 7);
    let _ = farm.stead_as(&who, &["wait", "4711"]).exits(4);
    let _ = farm.stead_as(&who, &["submit", "--wait", "--", "true"]).ok();
    let _ = farm.stead_as(&who, &["submit", "--wait", "--", "false"]).exits(5);
    let followed = farm.stead_as(&who, &["submit", "--follow", "--", "echo", "shown"]).ok();
    assert!(followed.out().contains("shown"), "{followed:?}");
    let long = farm.submit_sh(&who, &[], "sleep 1000");
    let _ = farm.stead_as(&who, &["wait", &long.to_string(), "--timeout", "1"]).exits(5);
}

/// E10
#[test]
fn how_a_task_ended_is_told_apart() {
    let (farm, who) = farm();
    let attempt = |script: &str| {
        let job = farm.submit_sh(&who, &[], script);
        let _ = farm.ends(job, "failed");
        let attempt = farm.attempts(job)[0].clone();
        (attempt["exit_code"].clone(), attempt["signal"].clone())
    };
    assert_eq!(attempt("exit 137"), (json!(137), Value::Null));
    assert_eq!(attempt("kill -9 $$"), (Value::Null, json!(9)));
    assert_eq!(attempt("exit 126"), (json!(126), Value::Null));
}

#[test]
fn a_failed_task_is_tried_again_as_often_as_asked() {
    let (farm, who) = farm();
    let job = farm.submit_sh(&who, &["--retries", "2"], "echo x >> tries; [ $(wc -l < tries) = 3 ]");
    farm.complete(job);
    let states: Vec<Value> = farm.attempts(job).iter().map(|a| a["state"].clone()).collect();
    assert_eq!(states, ["failed", "failed", "complete"]);
    let job = farm.submit_sh(&who, &["--retries", "1"], "exit 1");
    let _ = farm.ends(job, "failed");
    assert_eq!(farm.attempts(job).len(), 2);
}

#[test]
fn kill_and_retry() {
    let (farm, who) = farm();
    let flag = if e2e::is_root() { "/mnt/shared/go".to_owned() } else { format!("{}.go", farm.data()) };
    let job = farm.submit_sh(&who, &["--frames", "1-3"], &format!("echo up; [ -e {flag} ] || exec sleep 86395"));
    let id = job.to_string();
    until("two tasks", || (farm.processes().of(Role::Task).len() >= 2).then_some(()));
    let _ = farm.stead_as(&who, &["kill", &id, "--reason", "wrong scene"]).ok();
    let _ = farm.ends(job, "killed");
    // The job is killed at once; a task when its last process is gone.
    let killed = farm.until_job(job, "three killed tasks", |j| j["tasks"]["killed"] == 3);
    assert!(killed["reason"].as_str().is_some_and(|r| r.contains("wrong scene")), "{killed:#}");
    until("an end of the tasks", || farm.processes().of(Role::Task).is_empty().then_some(()));
    std::fs::write(farm.path(&flag), "").expect("the flag");
    let _ = farm.stead_as(&who, &["retry", &id]).ok();
    farm.complete(job);
    assert_eq!(farm.job(job)["tasks"]["complete"], 3);
}

#[test]
fn one_task_is_killed_and_retried_by_its_address() {
    let (farm, who) = farm();
    let job = farm.submit_sh(
        &who,
        &["--frames", "10-12"],
        "[ {frame} = 11 ] && [ ! -e again ] && touch again && exit 1; true",
    );
    let _ = farm.ends(job, "failed");
    let _ = farm.stead_as(&who, &["retry", &format!("{job}:11")]).ok();
    farm.complete(job);
    let tries: Vec<usize> = farm
        .tasks(job)
        .as_array()
        .expect("tasks")
        .iter()
        .map(|t| t["attempts"].as_array().map_or(0, Vec::len))
        .collect();
    assert_eq!(tries, [1, 2, 1]);
}

#[test]
fn block_and_unblock() {
    let (farm, who) = farm();
    let job = farm.submit_sh(&who, &[], "echo x >> starts; [ $(wc -l < starts) = 2 ] || exec sleep 86394");
    let id = job.to_string();
    until("the task", || (!farm.processes().of(Role::Task).is_empty()).then_some(()));
    let _ = farm.stead_as(&who, &["block", &id, "--reason", "wait for the director"]).ok();
    let blocked = farm.until_job(job, "blocked", |j| e2e::state(j) == "blocked");
    assert!(blocked["reason"].as_str().is_some_and(|r| r.contains("director")), "{blocked:#}");
    until("an end of the task", || farm.processes().of(Role::Task).is_empty().then_some(()));
    let _ = farm.stead_as(&who, &["unblock", &id]).ok();
    farm.complete(job);
}

#[test]
fn suspend_and_resume() {
    let (farm, who) = farm();
    let beat = if e2e::is_root() { "/mnt/shared/beat".to_owned() } else { format!("{}.beat", farm.data()) };
    let job = farm.submit_sh(
        &who,
        &[],
        &format!("i=0; while [ $i -lt 40 ]; do echo x >> {beat}; sleep 0.1; i=$((i + 1)); done"),
    );
    let id = job.to_string();
    let beats = || std::fs::read(farm.path(&beat)).map_or(0, |b| b.len());
    until("a beat", || (beats() > 0).then_some(()));
    let _ = farm.stead_as(&who, &["suspend", &id]).ok();
    let _ = farm.until_job(job, "suspended", |j| e2e::state(j) == "suspended");
    // It stands still: the same number at two moments that are further apart than two beats.
    let still = || {
        let a = beats();
        std::thread::sleep(std::time::Duration::from_millis(400));
        (beats() == a).then_some(a)
    };
    let stood = until("a job that stands still", still);
    let _ = farm.stead_as(&who, &["resume", &id]).ok();
    farm.complete(job);
    assert!(beats() > stood);
    assert_eq!(beats(), 80, "it did not go on where it was");
    // What is not suspended can't be resumed.
    let _ = farm.stead_as(&who, &["resume", &id]).exits(1).complains(&["suspended"]);
}

#[test]
fn a_time_limit_ends_a_task_in_words() {
    let (farm, who) = farm();
    let job = farm.submit_sh(&who, &["--time-limit", "1"], "trap '' TERM; setsid sleep 86393 & sleep 86393");
    let _ = farm.ends(job, "failed");
    let attempts = farm.attempts(job);
    assert!(attempts[0]["reason"].as_str().is_some_and(|r| r.contains("time limit")), "{attempts:#?}");
    until("an end of the task", || farm.processes().of(Role::Task).is_empty().then_some(()));
}

#[test]
fn a_program_that_is_not_there_is_looked_for_by_name() {
    let (farm, who) = farm();
    let job = farm.submit(&who, &["--retries", "0", "--", "no-such-renderer", "scene"]);
    let _ = farm.ends(job, "failed");
    let attempts = farm.attempts(job);
    let reason = attempts[0]["reason"].as_str().unwrap_or("");
    assert!(reason.contains("no-such-renderer") && reason.contains("/usr/bin:/bin"), "{attempts:#?}");
    let job = farm.submit(&who, &["--retries", "0", "--", "/etc/passwd"]);
    let _ = farm.ends(job, "failed");
    let attempts = farm.attempts(job);
    assert!(attempts[0]["reason"].as_str().is_some_and(|r| r.to_lowercase().contains("permission")), "{attempts:#?}");
}

#[test]
fn resource_use_is_recorded() {
    let (farm, who) = farm();
    let job = farm.submit_sh(&who, &[], "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done");
    farm.complete(job);
    let attempt = &farm.attempts(job)[0];
    assert!(attempt["cpu_s"].as_f64().is_some_and(|s| s > 0.01 && s < 60.0), "{attempt:#}");
    assert!(attempt["max_rss"].as_u64().is_some_and(|b| b > 100_000 && b < 1 << 30), "{attempt:#}");
}

#[test]
fn a_requirement_nobody_meets_is_named() {
    let farm = Farm::any().with(&["--label", "big"]).start();
    let who = farm.someone().to_owned();
    farm.complete(farm.submit_sh(&who, &["--requires", "big"], "true"));
    let job = farm.submit_sh(&who, &["--requires", "gpu"], "true");
    let waits = farm.until_job(job, "a reason", |j| !j["reason"].is_null());
    assert_eq!(e2e::state(&waits), "pending");
    assert!(waits["reason"].as_str().is_some_and(|r| r.contains("gpu")), "{waits:#}");
}

#[test]
fn a_drained_worker_takes_nothing_new() {
    let (farm, who) = farm();
    let admin = if e2e::is_root() { "root".to_owned() } else { who.clone() };
    let list = || farm.stead_as(&admin, &["worker", "list", "--json"]).ok().json();
    let name = list()[0]["name"].as_str().expect("a name").to_owned();
    let _ = farm.stead_as(&admin, &["worker", "drain", &name]).ok();
    assert_eq!(e2e::state(&list()[0]), "locked");
    let job = farm.submit_sh(&who, &[], "true");
    let waits = farm.until_job(job, "a reason", |j| !j["reason"].is_null());
    assert_eq!(e2e::state(&waits), "pending");
    let _ = farm.stead_as(&admin, &["worker", "drain", "--undo", &name]).ok();
    farm.complete(job);
}

/// One session runs many tasks of a job: the switch of identity is paid once.
#[test]
fn tasks_of_a_job_share_a_session() {
    let farm = Farm::any().with(&["--slots", "1"]).start();
    let who = farm.someone().to_owned();
    let job = farm.submit_sh(&who, &["--frames", "1-20"], "echo $PPID");
    farm.complete(job);
    let mut sessions = sorted(&farm.log(job));
    assert_eq!(sessions.len(), 20);
    sessions.dedup();
    assert!(sessions.len() <= 3, "{} sessions for 20 tasks", sessions.len());
}

#[test]
fn memory_is_a_limit_with_a_name() {
    if !e2e::root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let job = farm.submit_sh(
        "ada",
        &["--mem", "64M", "--retries", "0"],
        "x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo survived",
    );
    let _ = farm.ends(job, "failed");
    let attempts = farm.attempts(job);
    assert!(attempts.iter().any(|a| a["reason"].as_str().is_some_and(|r| r.contains("memory"))), "{attempts:#?}");
    assert!(!farm.log(job).contains("survived"));
}

#[test]
fn listings_come_in_pieces_and_in_json() {
    let (farm, who) = farm();
    let jobs: Vec<u64> = (0..5).map(|_| farm.submit_sh(&who, &[], "true").0).collect();
    for job in &jobs {
        farm.complete(JobId(*job));
    }
    let ids = |args: &[&str]| -> Vec<u64> {
        let list = farm.stead_as(&who, &[&["jobs", "--json"], args].concat()).ok().json();
        list.as_array().expect("an array").iter().map(|j| j["id"].as_u64().expect("an id")).collect()
    };
    assert_eq!(ids(&[]).len(), 5);
    let first = ids(&["--limit", "2"]);
    assert_eq!(first.len(), 2);
    let next = ids(&["--limit", "2", "--after", &first[1].to_string()]);
    assert!(next.iter().all(|id| !first.contains(id)) && next.len() == 2, "{first:?} {next:?}");
    assert_eq!(ids(&["--state", "failed"]), Vec::<u64>::new());
    // For people, too.
    let table = farm.stead_as(&who, &["jobs"]).ok().out();
    assert!(jobs.iter().all(|j| table.contains(&j.to_string())), "{table}");
    let _ = farm.stead_as(&who, &["tasks", &jobs[0].to_string()]).ok();
}
