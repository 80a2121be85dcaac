//! The harness itself: accounts that exist only on a stage, and nothing left of it.

use e2e::{Ldap, Stage, lives, root_or_skip, servers_or_skip};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// A test that is killed cleans nothing up, and nothing is left all the same.
#[test]
fn nothing_survives_a_test_that_is_killed() {
    const HOLD: &str = "STEAD_E2E_HOLD";
    if !servers_or_skip() {
        return;
    }
    if let Ok(marker) = std::env::var(HOLD) {
        let stage = Stage::raise_with_servers();
        let _ldap = Ldap::start(&stage);
        drop(stage.command("sleep").arg(marker).status());
        return;
    }
    let marker = format!("{}", 2 * 86_400 + std::process::id());
    let mut held = Command::new(std::env::current_exe().expect("this test"));
    held.args(["--exact", "nothing_survives_a_test_that_is_killed"]).env(HOLD, &marker);
    let mut held = Killed(held.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    // Others with this argument are its way onto the stage.
    let sleeps = |p: &i32| argv(*p).first().is_some_and(|a| a == "sleep");
    let sleeper = e2e::until("the sleeper", || find_all(&marker).into_iter().find(sleeps));
    let inside = same_namespace(sleeper);
    let servers: Vec<String> = inside.iter().filter_map(|p| argv(*p).first().cloned()).collect();
    assert!(["slapd", "nslcd"].iter().all(|s| servers.iter().any(|a| a == s)), "{servers:?}");
    held.0.kill().expect("SIGKILL");
    held.0.wait().expect("its end");
    e2e::until("the end of everything on the stage", || inside.iter().all(|p| !lives(*p)).then_some(()));
}

/// Accounts, name service, PAM, host name, networks and mounts of the host are what they were.
#[test]
fn a_stage_with_servers_changes_nothing_on_the_host() {
    if !servers_or_skip() {
        return;
    }
    let before = host();
    let stage = Stage::raise_with_servers();
    let _ldap = Ldap::start(&stage);
    for (path, only_there) in [("/etc/pam.d/stead", true), ("/etc/nslcd.conf", true), ("/usr/sbin/slapd", true)] {
        assert!(stage.path(path).exists(), "{path}");
        assert!(!only_there || before.contains_key(path) || !Path::new(path).exists(), "{path} is on the host");
    }
    let rename = stage.command("hostname").arg("renamed").status().expect("hostname starts");
    assert!(rename.success());
    compare(&before, &host());
    drop(stage);
    compare(&before, &host());
}

#[track_caller]
fn compare(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    let keys = before.keys().chain(after.keys());
    let changed: Vec<&String> = keys.filter(|k| before.get(*k) != after.get(*k)).collect();
    assert!(changed.is_empty(), "{changed:#?}");
}

/// All of /etc with owner, mode and content, and what else a stage could have touched.
fn host() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![Path::new("/etc").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, meta) = (entry.path(), entry.metadata().expect("an entry"));
            let content = match () {
                () if meta.is_file() => format!("{:?}", std::fs::read(&path).ok()),
                () => format!("{:?}", std::fs::read_link(&path).ok()),
            };
            let described = format!("{}:{} {:o} {content}", meta.uid(), meta.gid(), meta.mode());
            all.insert(path.display().to_string(), described);
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    // What is laid over a stage is nowhere on the host. Other mounts come and go without us.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    all.insert("mounts".into(), mounts.lines().filter(|l| l.contains("/mnt/servers")).collect());
    for file in ["/proc/sys/kernel/hostname", "/proc/net/dev"] {
        let text = std::fs::read_to_string(file).expect("the host's own");
        let names = text.lines().map(|l| l.split(':').next().unwrap_or_default());
        all.insert(file.into(), names.collect::<Vec<_>>().join("\n"));
    }
    let folders = ["/usr/sbin", "/usr/lib/x86_64-linux-gnu/security", "/var/lib", "/run"];
    for folder in folders.iter().filter(|f| Path::new(f).is_dir()) {
        let names = std::fs::read_dir(folder).expect("a folder").flatten().map(|e| e.file_name());
        let servers = |n: &std::ffi::OsString| {
            ["slapd", "nslcd", "samba", "winbind", "ldap"].iter().any(|s| n.to_string_lossy().contains(s))
        };
        let mut names: Vec<_> = names.filter(servers).collect();
        names.sort();
        all.insert((*folder).to_owned(), format!("{names:?}"));
    }
    all
}

fn argv(pid: i32) -> Vec<String> {
    let argv = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    argv.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect()
}

/// Every process in the PID namespace of this one.
fn same_namespace(pid: i32) -> Vec<i32> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let all = std::fs::read_dir("/proc").expect("proc").flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|p| namespace(*p) == namespace(pid)).collect()
}

/// A process that has this argument.
fn find(argument: &str) -> Option<i32> {
    find_all(argument).first().copied()
}

fn find_all(argument: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").expect("proc").flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|p| argv(*p).iter().any(|a| a == argument) && lives(*p)).collect()
}

/// A process that ends with the test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
