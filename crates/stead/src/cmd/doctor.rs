//! `doctor`: is this machine, and the farm, as they should be? Each finding in words, with what would change it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use nix::unistd::{User, geteuid};
use serde_json::{Value, json};

use crate::cli::Common;
use crate::client::Client;
use crate::failure::Failure;
use crate::farm::Programs;
use crate::model::{self, Me, Worker};
use crate::out::{self, Colour, paint};

const GIB: u64 = 1 << 30;
/// A user database slower than this holds up every session.
const SLOW: Duration = Duration::from_millis(500);
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Fine,
    Warn,
    Bad,
}

#[derive(Debug, Clone)]
struct Finding {
    check: &'static str,
    level: Level,
    text: String,
    hint: Option<String>,
}

impl Finding {
    fn fine(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, level: Level::Fine, text: text.into(), hint: None }
    }

    fn warn(check: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, text: text.into(), hint: Some(hint.into()) }
    }

    fn bad(check: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, level: Level::Bad, text: text.into(), hint: Some(hint.into()) }
    }

    fn json(&self) -> Value {
        json!({"check": self.check, "level": self.level.word(), "text": self.text, "hint": self.hint})
    }

    fn line(&self, colour: bool) -> String {
        let (mark, shade) = match self.level {
            Level::Fine => ("✓", Colour::Green),
            Level::Warn => ("!", Colour::Yellow),
            Level::Bad => ("✗", Colour::Red),
        };
        let hint = self.hint.as_ref().map(|h| format!("\n  {}", paint(&out::plain(h), Colour::Dim, colour)));
        format!("{} {}{}", paint(mark, shade, colour), out::plain(&self.text), hint.unwrap_or_default())
    }
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warn => "warning",
            Self::Bad => "error",
        }
    }
}

pub(crate) async fn doctor(options: &Common) -> Result<(), Failure> {
    let mut findings = vec![programs(), privilege()];
    findings.push(cgroups(Path::new("/proc/self/mountinfo"), Path::new("/proc/cgroups")));
    findings.push(own_name());
    findings.push(name_service());
    findings.extend(directory());
    findings.extend(service_accounts());
    findings.extend(settings());
    let farm = farm(options, &mut findings).await;
    let data = farm.or_else(|| options.data.clone());
    if let Some(data) = data.as_deref().filter(|d| d.exists()) {
        findings.extend(folders(data));
        findings.extend(space(data));
    }
    let bad = findings.iter().any(|f| f.level == Level::Bad);
    if options.json {
        out::json(&json!({"ok": !bad, "findings": findings.iter().map(Finding::json).collect::<Vec<_>>()}));
    } else {
        let colour = out::colours();
        findings.iter().for_each(|f| out::say(f.line(colour)));
    }
    if bad { Err(Failure::Reported(1)) } else { Ok(()) }
}

// --- the machine

fn programs() -> Finding {
    let programs = match Programs::beside_this_one() {
        Ok(programs) => programs,
        Err(e) => return Finding::bad("programs", e.to_string(), e.hint().unwrap_or_default()),
    };
    let own = env!("CARGO_PKG_VERSION");
    let said = Command::new(&programs.launcher).arg("--version").output();
    let said = said.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
    if said == format!("stead-launcher {own}") {
        return Finding::fine("programs", format!("stead, stead-launcher and stead-session {own} are side by side"));
    }
    Finding::bad(
        "programs",
        format!("this is stead {own}, but the launcher beside it is {said:?}"),
        "build or install all three together",
    )
}

fn privilege() -> Finding {
    if geteuid().is_root() {
        return Finding::fine("privilege", "this is root: `stead dev` can run jobs as their users");
    }
    let launcher = Path::new("/var/lib/stead/run/launcher.socket");
    if launcher.exists() {
        return Finding::fine("privilege", "a launcher is installed: jobs can run as their users");
    }
    Finding::fine("privilege", "this is not root and no launcher is installed: a farm of your own runs jobs as you")
}

/// Which limits the kernel can enforce, by either version of control groups.
fn cgroups(mounts: &Path, v1: &Path) -> Finding {
    let mounts = std::fs::read_to_string(mounts).unwrap_or_default();
    let unified = mounts.lines().filter(|l| l.contains(" - cgroup2 ")).find_map(|l| l.split(' ').nth(4));
    let v2 = unified.map(|at| std::fs::read_to_string(Path::new(at).join("cgroup.controllers")).unwrap_or_default());
    let kill = unified.is_some();
    let old = std::fs::read_to_string(v1).unwrap_or_default();
    let has_v2 = |name: &str| v2.as_ref().is_some_and(|c| c.split_whitespace().any(|w| w == name));
    let mounted_v1 = |name: &str| {
        let listed = old.lines().any(|l| l.split('\t').next() == Some(name));
        listed && mounts.lines().any(|l| l.contains(" - cgroup ") && l.split([',', ' ']).any(|w| w == name))
    };
    let missing: Vec<_> = CONTROLLERS.into_iter().filter(|c| !has_v2(c) && !mounted_v1(c)).collect();
    match (kill, missing.is_empty()) {
        (true, true) => {
            Finding::fine("cgroups", "control groups: whole trees are killed, memory, cores and processes limited")
        }
        (true, false) => Finding::warn(
            "cgroups",
            format!("control groups kill whole trees, but there is no controller for {}", missing.join(", ")),
            "--mem and --cpus are not enforced here; mount the controllers, or set require_limits = yes in launcher.conf \
             to refuse such jobs",
        ),
        (false, _) => Finding::warn(
            "cgroups",
            "there is no cgroup v2 hierarchy",
            "trees are killed process by process; mount cgroup2 at /sys/fs/cgroup",
        ),
    }
}

fn own_name() -> Finding {
    let uid = geteuid();
    if uid.is_root() {
        return Finding::fine("identity", "root administers farms; jobs of its own need --user or a proxy account");
    }
    match User::from_uid(uid) {
        Ok(Some(user)) => match User::from_name(&user.name) {
            Ok(Some(back)) if back.uid == uid => {
                Finding::fine("identity", format!("you are {} (uid {uid}), by name and by number", user.name))
            }
            _ => Finding::bad(
                "identity",
                format!("uid {uid} is called {}, but {} is another uid", user.name, user.name),
                "two accounts share a name or a number; the supervisor refuses both until `getent passwd` agrees",
            ),
        },
        Ok(None) => Finding::bad(
            "identity",
            format!("uid {uid} has no name"),
            "the supervisor refuses who has no name; use an account that `getent passwd` knows",
        ),
        Err(e) => {
            Finding::bad("identity", format!("your own account can't be looked up: {e}"), "see /etc/nsswitch.conf")
        }
    }
}

fn name_service() -> Finding {
    let text = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let sources = text.lines().find_map(|l| l.strip_prefix("passwd:")).map_or("files", str::trim).to_owned();
    let started = Instant::now();
    let found = User::from_name("root");
    let took = started.elapsed();
    match found {
        Ok(Some(root)) if root.uid.is_root() && took < SLOW => {
            Finding::fine("names", format!("accounts come from: {sources}"))
        }
        Ok(Some(root)) if root.uid.is_root() => Finding::warn(
            "names",
            format!("the user database ({sources}) took {} ms for one answer", took.as_millis()),
            "each session waits for it once; see the directory's client on this host",
        ),
        _ => Finding::bad(
            "names",
            format!("the user database ({sources}) doesn't answer rightly for root"),
            "see /etc/nsswitch.conf",
        ),
    }
}

/// Each service that `/etc/nsswitch.conf` names, asked by itself: the C library hides one that is down behind another.
fn directory() -> Option<Finding> {
    // Without the programs another finding says so.
    let launcher = Programs::beside_this_one().ok()?.launcher;
    let asked = Command::new(launcher).arg("directory").output().ok()?;
    if asked.status.success() {
        return Some(Finding::fine("directory", "every service of accounts and groups in /etc/nsswitch.conf answers"));
    }
    let said = String::from_utf8_lossy(&asked.stderr).trim().trim_start_matches("stead-launcher: ").to_owned();
    Some(Finding::warn(
        "directory",
        said,
        "jobs of its people wait until it answers: start the service, or take it out of /etc/nsswitch.conf",
    ))
}

fn service_accounts() -> Vec<Finding> {
    let mut missing = Vec::new();
    let mut findings = Vec::new();
    for name in ["stead", "stead-worker"] {
        match User::from_name(name) {
            Ok(Some(user)) if user.uid.is_root() => findings.push(Finding::bad(
                "accounts",
                format!("the service account {name} is root"),
                "a service must have an id of its own",
            )),
            Ok(Some(_)) => {}
            _ => missing.push(name),
        }
    }
    if missing.is_empty() && findings.is_empty() {
        findings.push(Finding::fine("accounts", "the service accounts stead and stead-worker exist"));
    } else if !missing.is_empty() {
        findings.push(Finding::fine(
            "accounts",
            format!("no account {}: `stead dev` as root uses throwaway ids instead", missing.join(", ")),
        ));
    }
    findings.push(match User::from_name("qubeproxy") {
        Ok(Some(user)) if user.uid.as_raw() < 1000 => Finding::bad(
            "proxy_account",
            format!("qubeproxy has uid {}, below the floor of 1000", user.uid),
            "give it a higher uid, or lower uid_floor in launcher.conf",
        ),
        Ok(Some(_)) => Finding::fine("proxy_account", "qubeproxy exists: proxy mode has its default account"),
        _ => Finding::fine("proxy_account", "no account qubeproxy: proxy mode needs --proxy-account"),
    });
    findings
}

fn settings() -> Vec<Finding> {
    let file = |name: &str| Path::new("/etc/stead").join(name);
    let mut findings = Vec::new();
    for name in ["supervisor.toml", "worker.toml", "launcher.conf"] {
        let path = file(name);
        if !path.exists() {
            continue;
        }
        findings.push(match super::config::read(&path) {
            Ok(_) => Finding::fine("settings", format!("{} is right", path.display())),
            Err(e) => Finding::bad("settings", e.to_string(), "the service refuses to start with it"),
        });
    }
    findings
}

fn folders(data: &Path) -> Vec<Finding> {
    use std::os::unix::fs::MetadataExt;
    let Ok(top) = std::fs::metadata(data) else { return Vec::new() };
    let mut wrong = Vec::new();
    for (name, mode) in [("supervisor", 0o700), ("worker", 0o700), ("launcher", 0o700), ("work", 0o711)] {
        let Ok(meta) = std::fs::symlink_metadata(data.join(name)) else { continue };
        if !meta.is_dir() || meta.mode() & 0o777 & !mode != 0 {
            wrong.push(format!("{name} has mode {:o}, not {mode:o}", meta.mode() & 0o777));
        }
    }
    if top.mode() & 0o022 != 0 {
        wrong.push(format!("it is writable by others (mode {:o})", top.mode() & 0o777));
    }
    if wrong.is_empty() {
        return vec![Finding::fine("folders", format!("{} is closed to others where it must be", data.display()))];
    }
    vec![Finding::bad("folders", format!("{}: {}", data.display(), wrong.join("; ")), "chmod them as said")]
}

fn space(data: &Path) -> Option<Finding> {
    let stat = statvfs(data).ok()?;
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    let text = format!("{} free at {}", out::bytes(free), data.display());
    Some(match free {
        0..=104_857_600 => Finding::bad("disk", text, "jobs and their records need space: make some"),
        _ if free < GIB => Finding::warn("disk", text, "less than 1 GiB: shorter jobs_keep_days frees some"),
        _ => Finding::fine("disk", text),
    })
}

// --- the farm

/// Asks the supervisor; returns where the farm's folder is, if it tells.
async fn farm(options: &Common, findings: &mut Vec<Finding>) -> Option<PathBuf> {
    let client = match Client::locate(options.data.as_deref()) {
        Ok(client) => client,
        Err(e) => {
            findings.push(Finding::bad("supervisor", e.to_string(), e.hint().unwrap_or_default()));
            return None;
        }
    };
    let farm: Value = match client.get("/api/v1/farm").await {
        Ok(farm) => farm,
        Err(e) => {
            findings.push(unreachable(&e));
            return None;
        }
    };
    findings.push(version(farm["version"].as_str().unwrap_or("?")));
    findings.push(match client.get::<Value>("/api/v1/whoami").await.and_then(|v| model::read::<Me>(&v)) {
        Ok(me) => Finding::fine("whoami", format!("the supervisor knows you as {} ({})", me.login_user, me.source)),
        Err(e) => Finding::bad("whoami", e.to_string(), e.hint().unwrap_or_default()),
    });
    match client.get::<Vec<Worker>>("/api/v1/workers").await {
        Ok(workers) => {
            findings.extend(worker_findings(&workers));
            findings.extend(enforcement(&farm["config"], &workers));
        }
        Err(e) => findings.push(Finding::bad("workers", e.to_string(), e.hint().unwrap_or_default())),
    }
    findings.extend(exclusions(&farm["exclusions"]));
    findings.extend(troubles(&farm["troubles"]));
    farm["data"].as_str().map(PathBuf::from)
}

/// Passwords that are asked for and that nobody would use. Told to administrators.
fn enforcement(config: &Value, workers: &[Worker]) -> Option<Finding> {
    let is_useless =
        config["enforce_password"] == true && !workers.is_empty() && workers.iter().all(|w| w.mode != "user");
    is_useless.then(|| {
        Finding::warn(
            "enforce_password",
            "jobs of people without a password are refused, and no worker would use one: none runs jobs as their users",
            "take enforce_password out of supervisor.toml, or out of supervisor_flags in qb.conf",
        )
    })
}

/// Accounts that a host refused: their jobs go elsewhere or wait. Told to administrators.
fn exclusions(listed: &Value) -> Vec<Finding> {
    let finding = |e: &Value| {
        let text = |key: &str| e[key].as_str().unwrap_or("?").to_owned();
        let (worker, account) = (text("worker"), text("account"));
        Finding::warn(
            "exclusions",
            format!("worker {worker} gets no jobs that run as {account}: {}", text("reason")),
            "put the account right on that host, then restart its launcher",
        )
    };
    listed.as_array().map(|all| all.iter().map(finding).collect()).unwrap_or_default()
}

/// What keeps the supervisor from its work. Told to administrators.
fn troubles(listed: &Value) -> Vec<Finding> {
    let Some(all) = listed.as_array() else { return Vec::new() };
    let about = |check: &str| match check {
        "disk" => "room",
        "store" => "store",
        _ => "audit",
    };
    let text = |trouble: &Value, key: &str| trouble[key].as_str().unwrap_or("?").to_owned();
    let finding = |t: &Value| Finding::bad(about(&text(t, "check")), text(t, "text"), text(t, "hint"));
    let fine = Finding::fine("room", "the supervisor can write its store and its audit, and has room to end things");
    if all.is_empty() { vec![fine] } else { all.iter().map(finding).collect() }
}

/// No farm at all is fine on a machine where none is installed.
fn unreachable(failure: &Failure) -> Finding {
    let hint = failure.hint().unwrap_or_default();
    let installed = Path::new("/etc/systemd/system/stead-supervisor.service").exists();
    match failure {
        Failure::NoSupervisor { .. } if !installed => Finding::warn("supervisor", failure.to_string(), hint),
        _ => Finding::bad("supervisor", failure.to_string(), hint),
    }
}

fn version(theirs: &str) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    if theirs == own {
        return Finding::fine("supervisor", format!("a supervisor answers (version {theirs})"));
    }
    Finding::warn(
        "supervisor",
        format!("the supervisor has version {theirs}, this program {own}"),
        "use programs of one version",
    )
}

fn worker_findings(workers: &[Worker]) -> Vec<Finding> {
    if workers.is_empty() {
        return vec![Finding::bad("workers", "the farm has no worker", "start one: nothing runs without it")];
    }
    let finding = |w: &Worker| {
        let reason = w.reason.clone().unwrap_or_else(|| "no reason given".into());
        let text = format!("worker {} ({} mode) is {}: {reason}", w.name, w.mode, w.state);
        match w.state.as_str() {
            "panic" => Finding::bad("workers", text, "it takes no jobs until that is put right on its host"),
            "down" => Finding::warn("workers", text, "start it, or see why it can't reach the supervisor"),
            "locked" => {
                Finding::warn("workers", text, format!("stead worker drain {} --undo lets it take jobs", w.name))
            }
            state => Finding::fine(
                "workers",
                format!("worker {} ({} mode) is {state}, {} of {} slots used", w.name, w.mode, w.used, w.slots),
            ),
        }
    };
    workers.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup_level(mounts: &str, controllers: &str, v1: &str) -> Level {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("cgroup.controllers"), controllers).expect("file");
        let mounts = mounts.replace("DIR", dir.path().to_str().expect("text"));
        let (m, v) = (dir.path().join("mountinfo"), dir.path().join("cgroups"));
        std::fs::write(&m, mounts).expect("file");
        std::fs::write(&v, v1).expect("file");
        cgroups(&m, &v).level
    }

    #[test]
    fn limits_count_in_either_version_of_control_groups() {
        let unified = "30 20 0:26 / DIR rw - cgroup2 cgroup2 rw\n";
        let old = "31 20 0:27 / /m rw - cgroup cgroup rw,memory\n32 20 0:28 / /c rw - cgroup cgroup rw,cpu,cpuacct\n\
                   33 20 0:29 / /p rw - cgroup cgroup rw,pids\n";
        let v1 = "#subsys_name\thierarchy\nmemory\t1\ncpu\t2\npids\t3\n";
        assert_eq!(cgroup_level(unified, "cpu memory pids", ""), Level::Fine);
        assert_eq!(cgroup_level(unified, "", ""), Level::Warn);
        assert_eq!(cgroup_level(&format!("{unified}{old}"), "", v1), Level::Fine);
        assert_eq!(cgroup_level(old, "", v1), Level::Warn);
    }

    #[test]
    fn what_keeps_the_supervisor_from_its_work_is_an_error() {
        assert_eq!(troubles(&json!(null)).len(), 0, "only administrators are told");
        assert_eq!(troubles(&json!([]))[0].level, Level::Fine);
        let found = troubles(&json!([{"check": "disk", "text": "it is full", "hint": "free some"}]));
        assert_eq!((found[0].check, found[0].level), ("room", Level::Bad));
        assert!(found[0].text.contains("full"));
    }

    #[test]
    fn a_worker_in_panic_is_an_error_and_says_why() {
        let worker = |state: &str| Worker {
            name: "w".into(),
            state: state.into(),
            reason: Some("no account qubeproxy".into()),
            ..Worker::default()
        };
        let found = worker_findings(&[worker("panic"), worker("down"), worker("idle")]);
        let levels: Vec<_> = found.iter().map(|f| f.level).collect();
        assert_eq!(levels, [Level::Bad, Level::Warn, Level::Fine]);
        assert!(found[0].text.contains("qubeproxy"));
        assert_eq!(worker_findings(&[])[0].level, Level::Bad);
    }
}
