//! Bad input and bad places: each a clear error, nothing half done.

use e2e::{Farm, root_or_skip};
use serde_json::json;

fn farm() -> (Farm, String) {
    let farm = Farm::any().start();
    let who = farm.someone().to_owned();
    (farm, who)
}

#[track_caller]
fn no_jobs(farm: &Farm, who: &str) {
    assert_eq!(farm.stead_as(who, &["jobs", "--json"]).ok().json(), json!([]));
}

#[test]
fn ranges_that_make_no_sense() {
    let (farm, who) = farm();
    for range in [
        "",
        "a",
        "1-",
        "1-2-3",
        "1-10x0",
        "1-10x-1",
        "1,,2",
        "1-99999999999999999999",
        "1-18446744073709551616",
        "-9223372036854775808-9223372036854775807",
        "1-9223372036854775807",
        "1 - 10 x",
        "1\n2",
        "0x10",
        "1.5",
        "1,1",
    ] {
        let option = format!("--frames={range}");
        let answer = farm.stead_as(&who, &["submit", &option, "--", "true"]).exits(2);
        assert!(!answer.err().trim().is_empty(), "{range:?}");
    }
    for chunk in ["0", "-1", "x", "18446744073709551616"] {
        let _ =
            farm.stead_as(&who, &["submit", "--frames", "1-10", &format!("--chunk={chunk}"), "--", "true"]).exits(2);
    }
    no_jobs(&farm, &who);
}

#[test]
fn arguments_that_no_program_can_be_given() {
    let (farm, who) = farm();
    // Just below what the kernel takes for one argument it arrives; at 128 KiB it is refused in words.
    let most = "x".repeat(128 * 1024 - 1);
    let job = farm.submit(&who, &["--", "sh", "-c", "printf %s \"$1\" | wc -c", "sh", &most]);
    farm.complete(job);
    assert_eq!(farm.log(job).trim(), (128 * 1024 - 1).to_string());
    // The shell that types it could not even pass 1 MiB, so it comes by a template and by a list.
    let huge = "y".repeat(1 << 20);
    let inside = if e2e::is_root() { "/tmp".to_owned() } else { farm.data() };
    std::fs::write(farm.path(format!("{inside}/list")), format!("short\n{huge}\n")).expect("a list");
    let _ = farm
        .stead_as(&who, &["submit", "--each", &format!("{inside}/list"), "--", "echo", "{line}"])
        .exits(2)
        .complains(&["bytes", "long"]);
    let template = json!({"specificationVersion": "jobtemplate-2023-09", "name": "huge", "steps": [
        {"name": "s", "script": {"actions": {"onRun": {"command": "echo", "args": [huge]}}}}]});
    std::fs::write(farm.path(format!("{inside}/huge.json")), template.to_string()).expect("a template");
    let answer = farm.stead_as(&who, &["submit", &format!("{inside}/huge.json")]).exits(2).complains(&["bytes"]);
    assert!(answer.stderr.len() < 10_000, "the error repeats the input");
    // Small enough for a template, too long for an argument.
    let template = template.to_string().replace(&huge, &huge[..300_000]);
    std::fs::write(farm.path(format!("{inside}/long.json")), template).expect("a template");
    let answer =
        farm.stead_as(&who, &["submit", &format!("{inside}/long.json")]).exits(2).complains(&["bytes", "long"]);
    assert!(answer.stderr.len() < 10_000, "the error repeats the input");
    assert_eq!(farm.stead_as(&who, &["jobs", "--json"]).ok().json().as_array().map(Vec::len), Some(1));
}

#[test]
fn names_that_break_lines() {
    let (farm, who) = farm();
    for name in ["a\nb", "a\rb", "\u{1b}[31mred", "", &"n".repeat(5000)] {
        let _ = farm.stead_as(&who, &["submit", &format!("--name={name}"), "--", "true"]).exits(2).complains(&["name"]);
    }
    no_jobs(&farm, &who);
    let job = farm.submit(&who, &["--name", "Höhle \u{1f3ac} <b>&\"'", "--", "true"]);
    farm.complete(job);
    assert_eq!(farm.job(job)["name"], "Höhle \u{1f3ac} <b>&\"'");
}

/// A shell can't type a NUL, so it comes by files.
#[test]
fn a_nul_is_refused_wherever_it_comes_from() {
    let (farm, who) = farm();
    let dir = if e2e::is_root() { "/tmp".to_owned() } else { farm.data() };
    let template = |name: &str, step: &str, argument: &str, variable: &str| {
        json!({"specificationVersion": "jobtemplate-2023-09", "name": name,
            "jobEnvironments": [{"name": "e", "variables": {"V": variable}}],
            "steps": [{"name": step, "script": {"actions": {"onRun": {"command": "echo", "args": [argument]}}}}]})
    };
    for (what, template, place) in [
        ("name", template("a\0b", "s", "x", "v"), "name"),
        ("a line break in the name", template("a\nb", "s", "x", "v"), "name"),
        ("step", template("n", "s\0t", "x", "v"), "steps[0].name"),
        ("a line break in a step", template("n", "s\nt", "x", "v"), "steps[0].name"),
        ("argument", template("n", "s", "x\0y", "v"), "steps[0].script.actions.onRun.args[0]"),
        ("variable", template("n", "s", "x", "v\0w"), "jobEnvironments[0].variables.V"),
    ] {
        let file = format!("{dir}/nul.json");
        std::fs::write(farm.path(&file), template.to_string()).expect("a template");
        let answer = farm.stead_as(&who, &["submit", &file]).exits(2);
        let says = answer.err().contains(place) && (answer.err().contains("control") || answer.err().contains("NUL"));
        assert!(says && answer.err().chars().all(|c| c == '\n' || !c.is_control()), "{what}: {answer:?}");
    }
    std::fs::write(farm.path(format!("{dir}/lines")), b"good\na\0b\n").expect("a list");
    let each = format!("{dir}/lines");
    let _ = farm.stead_as(&who, &["submit", "--each", &each, "--", "echo", "{line}"]).exits(2).complains(&["line 2"]);
    no_jobs(&farm, &who);
}

#[test]
fn numbers_that_make_no_sense() {
    let (farm, who) = farm();
    for option in [
        "--retries=-1",
        "--retries=99999999999",
        "--time-limit=0",
        "--time-limit=-5",
        "--time-limit=soon",
        "--cpus=0",
        "--cpus=-1",
        "--cpus=nan",
        "--mem=0",
        "--mem=-1G",
        "--mem=5X",
        "--mem=99999999999999999999G",
        "--priority=99999999999",
        "--umask=999",
        "--umask=1777",
        "--after=0",
        "--after=-1",
        "--after=x",
    ] {
        let answer = farm.stead_as(&who, &["submit", option, "--", "true"]);
        assert!(matches!(answer.code, Some(2 | 4)) && !answer.err().contains("panicked"), "{option}: {answer:?}");
    }
    no_jobs(&farm, &who);
}

#[test]
fn templates_with_mistakes_name_the_place() {
    let (farm, who) = farm();
    let dir = if e2e::is_root() { "/tmp".to_owned() } else { farm.data() };
    let head = "specificationVersion: jobtemplate-2023-09\nname: t\n";
    let run = "script: { actions: { onRun: { command: echo, args: [\"{{Task.Param.Nope}}\"] } }";
    let cases: &[(&str, String, &[&str])] = &[
        ("syntax", format!("{head}steps: [\n"), &["line"]),
        (
            "version",
            "specificationVersion: jobtemplate-1999-01\nname: t\nsteps: []\n".into(),
            &["jobtemplate-1999-01", "version"],
        ),
        ("no steps", format!("{head}steps: []\n"), &["step"]),
        ("unknown key", format!("{head}stepz: []\n"), &["stepz"]),
        (
            "unknown variable",
            format!("{head}steps:\n  - name: a\n    {run} }}\n"),
            &["steps[0].script.actions.onrun.args[0] (line 5)"],
        ),
        (
            "a circle",
            format!(
                "{head}steps:\n  - {{ name: a, dependencies: [{{dependsOn: b}}], script: {{actions: {{onRun: {{command: x}}}}}} }}\n  - {{ name: b, dependencies: [{{dependsOn: a}}], script: {{actions: {{onRun: {{command: x}}}}}} }}\n"
            ),
            &["cycle", "circle", "depend"],
        ),
        ("empty", String::new(), &["template", "empty", "line", "specificationversion"]),
        ("not a template", "just text".into(), &["template", "specificationversion", "object", "mapping"]),
    ];
    for (name, text, about) in cases {
        let file = format!("{dir}/bad.yaml");
        std::fs::write(farm.path(&file), text).expect("a template");
        let answer = farm.stead_as(&who, &["submit", &file]).exits(2).complains(about);
        assert!(answer.err().contains("bad.yaml") || answer.err().contains("template"), "{name}: {answer:?}");
    }
    std::fs::write(farm.path(format!("{dir}/bytes.yaml")), b"\xff\xfe\x00").expect("a template");
    let _ = farm.stead_as(&who, &["submit", &format!("{dir}/bytes.yaml")]).exits(2);
    let _ = farm.stead_as(&who, &["submit", &format!("{dir}/nowhere.yaml")]).exits(2).complains(&["nowhere.yaml"]);
    no_jobs(&farm, &who);
}

#[test]
fn template_parameters_are_checked() {
    let (farm, who) = farm();
    let dir = if e2e::is_root() { "/tmp".to_owned() } else { farm.data() };
    let file = format!("{dir}/p.yaml");
    std::fs::write(
        farm.path(&file),
        "specificationVersion: jobtemplate-2023-09\nname: t\nparameterDefinitions:\n  - { name: N, type: INT, maxValue: 5 }\nsteps:\n  - name: a\n    script: { actions: { onRun: { command: echo, args: [\"{{Param.N}}\"] } } }\n",
    )
    .expect("a template");
    for (parameters, about) in [
        (&[][..], "N"),
        (&["-p", "N=6"], "N"),
        (&["-p", "N=x"], "N"),
        (&["-p", "M=1", "-p", "N=1"], "M"),
        (&["-p", "N"], "N"),
    ] {
        let _ = farm.stead_as(&who, &[&["submit", &file], parameters].concat()).exits(2).complains(&[about]);
    }
    no_jobs(&farm, &who);
    let job = farm.submit(&who, &[&file, "-p", "N=5"]);
    farm.complete(job);
    assert_eq!(farm.log(job), "5\n");
}

#[test]
fn a_farm_that_is_not_there() {
    let (mut farm, who) = farm();
    farm.stop();
    let answer = farm.stead_as(&who, &["jobs"]).exits(6);
    assert!(answer.err().contains("socket") && answer.err().contains("stead dev"), "{answer:?}");
}

#[test]
fn a_second_supervisor_on_the_same_data_is_refused() {
    let (mut farm, who) = farm();
    let answer = farm.second_dev();
    assert_ne!(answer.code, Some(0), "{answer:?}");
    let _ = answer.complains(&["in use", "already", "running", "another"]);
    // The first one did not notice.
    farm.complete(farm.submit_sh(&who, &[], "true"));
}

#[test]
fn a_data_folder_that_cannot_be_written() {
    if !root_or_skip() {
        return;
    }
    let stage = e2e::Stage::raise();
    let mount = stage.command("sh").args(["-c", "mount -t tmpfs -o ro data /mnt/data"]).status();
    assert!(mount.expect("sh starts").success());
    // The harness itself can't prepare it, so it is typed by hand.
    let output = stage
        .command("stead")
        .args(["dev", "--data", "/mnt/data/farm", "--listen", "127.0.0.1:0"])
        .output()
        .expect("it starts");
    assert!(!output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(text.contains("read-only") && text.contains("/mnt/data"), "{text}");
}

#[test]
fn a_data_folder_that_others_can_write() {
    if !root_or_skip() {
        return;
    }
    let stage = e2e::Stage::raise();
    let made = stage
        .command("sh")
        .args(["-c", "mkdir /mnt/open && chmod 777 /mnt/open && mkdir /mnt/adas && chown ada /mnt/adas"])
        .status();
    assert!(made.expect("sh starts").success());
    for data in ["/mnt/open", "/mnt/adas"] {
        let output = stage
            .command("timeout")
            .args(["20", "stead", "dev", "--data", data, "--listen", "127.0.0.1:0"])
            .output()
            .expect("it starts");
        assert!(output.status.code().is_some_and(|c| c != 0 && c != 124), "{data}: {output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(data), "{text}");
    }
}

/// J03, D08: a full disk refuses what it can't store, and the farm goes on when there is room.
#[test]
fn a_full_disk_acknowledges_nothing() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().with_data_of("24m").start();
    farm.complete(farm.submit_sh("ada", &[], "echo before"));
    let fill = farm.stage().command("sh").args(["-c", "cat /dev/zero > /mnt/data/filler 2>/dev/null; true"]).status();
    assert!(fill.expect("sh starts").success());
    let before = farm.stead_as("root", &["jobs", "--json"]).ok().json().as_array().map(Vec::len);
    let answer = farm.stead_as(
        "ada",
        &[
            "submit",
            "--json",
            "--name",
            &"n".repeat(190),
            "--env",
            &format!("BIG={}", "x".repeat(100_000)),
            "--",
            "true",
        ],
    );
    assert_ne!(answer.code, Some(0), "acknowledged on a full disk: {answer:?}");
    assert!(!answer.stderr.is_empty());
    std::fs::remove_file(farm.path("/mnt/data/filler")).expect("room again");
    assert_eq!(farm.stead_as("root", &["jobs", "--json"]).ok().json().as_array().map(Vec::len), before);
    let job = e2e::until("a submission once there is room", || {
        let answer = farm.stead_as("ada", &["submit", "--json", "--", "echo", "after"]);
        (answer.code == Some(0)).then(|| e2e::JobId(answer.json()["job"].as_u64().expect("a job")))
    });
    farm.complete(job);
    assert_eq!(farm.log(job), "after\n");
}

#[test]
fn accounts_without_a_home_or_a_shell() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    // No home is no obstacle: the job has a folder of its own.
    let printed = farm.output_of("homeless", &[], "id -u; pwd -P");
    assert!(printed.starts_with("1510\n/mnt/data/work/"), "{printed}");
    // An account that may not log in runs nothing in user mode, and the reason says why.
    for account in ["shellless", "nologin"] {
        let job = farm.submit_sh(account, &[], "touch /tmp/ran");
        let over = |j: &serde_json::Value| e2e::state(j) == "badlogin" || !j["reason"].is_null();
        let refused = farm.until_job(job, "badlogin or a reason", over);
        assert!(refused["reason"].as_str().is_some_and(|r| r.contains("shell")), "{refused:#}");
        assert!(!farm.path("/tmp/ran").exists());
        if e2e::state(&refused) == "badlogin" {
            let _ = farm.stead_as(account, &["retry", &job.to_string()]).exits(1);
        }
    }
}

/// A18: an account that ended.
#[test]
fn an_expired_account_is_a_bad_login() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let shadow = std::fs::read_to_string(farm.path("/etc/shadow")).expect("shadow");
    let expired = shadow.replace("bob:*:19000:0:99999:7:::", "bob:*:19000:0:99999:7::1:");
    assert_ne!(shadow, expired);
    std::fs::write(farm.path("/etc/shadow"), expired).expect("shadow");
    let job = farm.submit_sh("bob", &[], "touch /tmp/ran");
    let ended = farm.ends(job, "badlogin");
    assert!(ended["reason"].as_str().is_some_and(|r| r.contains("expired")), "{ended:#}");
    assert!(!farm.path("/tmp/ran").exists());
    // Once, not again and again; and it can't be retried, only submitted again.
    assert!(farm.attempts(job).len() <= 1);
    assert_ne!(farm.stead_as("bob", &["retry", &job.to_string()]).code, Some(0));
}

#[test]
fn wrong_usage_ends_with_two() {
    let (farm, who) = farm();
    for args in [
        &["submit"][..],
        &["submit", "--"],
        &["submit", "--frames", "1-3"],
        &["nonsense"],
        &["wait"],
        &["wait", "x"],
        &["kill", "-5"],
        &["submit", "--wait", "--follow", "--", "true"],
        &["dev", "--mode", "usre"],
    ] {
        let _ = farm.stead_as(&who, args).exits(2);
    }
}

/// Service mode needs root, and desktop mode must not have it.
#[test]
fn a_mode_without_its_privilege_is_refused() {
    if !root_or_skip() {
        return;
    }
    let stage = e2e::Stage::raise();
    let dev = |who: &str, mode: &str, data: &str| {
        let mut command = stage.command_as(who, "timeout");
        command.args(["20", "stead", "dev", "--data", data, "--mode", mode, "--listen", "127.0.0.1:0"]);
        command.output().expect("it starts")
    };
    for (who, mode, data) in
        [("ada", "user", "/home/ada/f"), ("ada", "proxy", "/home/ada/f"), ("root", "desktop", "/mnt/data/f")]
    {
        let output = dev(who, mode, data);
        assert!(output.status.code().is_some_and(|c| c != 0 && c != 124), "{who} {mode}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("root"), "{who} {mode}: {output:?}");
    }
}
