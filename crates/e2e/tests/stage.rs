//! The harness itself: accounts that exist only on a stage, and nothing left of it.

use e2e::{Stage, lives, root_or_skip};

#[test]
fn accounts_of_a_stage_exist_only_there() {
    if !root_or_skip() {
        return;
    }
    let stage = Stage::raise();
    let inside = stage.command_as("ada", "id").output().expect("id starts");
    assert_eq!(
        String::from_utf8_lossy(&inside.stdout),
        "uid=1501(ada) gid=1501(ada) groups=1501(ada),1600(film),1601(secret)\n"
    );
    let outside = std::process::Command::new("id").arg("ada").output().expect("id starts");
    assert!(!outside.status.success(), "{outside:?}");
    assert!(!std::fs::read_to_string("/etc/passwd").expect("passwd").contains("qubeproxy:x:1503"));
}

#[test]
fn nothing_survives_a_stage() {
    if !root_or_skip() {
        return;
    }
    let stage = Stage::raise();
    let marker = format!("{}", 86_400 + std::process::id());
    let script = format!("setsid sh -c 'sleep {marker}' >/dev/null 2>&1 & sleep 0");
    assert!(stage.command("sh").args(["-c", &script]).status().expect("sh starts").success());
    let sleeper = e2e::until("the sleeper", || find(&marker));
    drop(stage);
    // The kernel ends a PID namespace's processes before its first one is reaped, but not in that moment.
    e2e::until("the sleeper is gone", || (!lives(sleeper) && find(&marker).is_none()).then_some(()));
}

/// A process that has this argument.
fn find(argument: &str) -> Option<i32> {
    std::fs::read_dir("/proc").expect("proc").flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let argv = std::fs::read(entry.path().join("cmdline")).ok()?;
        argv.split(|b| *b == 0).any(|a| a == argument.as_bytes()).then_some(pid).filter(|p| lives(*p))
    })
}
