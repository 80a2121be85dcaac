//! Which processes a farm has, and which of them is what. Looks at `/proc` from outside.

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a process of a farm is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The foreground process of `stead dev`.
    Dev,
    Host,
    Launcher,
    /// Answers whether a password is right.
    Checker,
    Shepherd,
    Supervisor,
    Worker,
    Session,
    /// Anything that a session started.
    Task,
}

/// A process as `/proc` shows it.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub argv: Vec<String>,
    /// Real, effective, saved, file system.
    pub uids: Vec<u32>,
}

impl Process {
    /// `None` when it is gone or only waits to be collected.
    fn read(pid: i32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        if field("State:")?.starts_with('Z') {
            return None;
        }
        let argv = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // A process that wrote another title over its own leaves its old arguments' room behind.
        let words = argv.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned());
        let argv = words.filter(|a| !a.is_empty()).collect();
        let uids = field("Uid:")?.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        Some(Self { pid, parent: field("PPid:")?.parse().ok()?, argv, uids })
    }

    fn role(&self) -> Option<Role> {
        let program = Path::new(self.argv.first()?).file_name()?.to_str()?.to_owned();
        let words: Vec<&str> = self.argv.iter().skip(1).map(String::as_str).collect();
        match (program.as_str(), words.first().copied()) {
            ("stead", Some("dev")) => Some(Role::Dev),
            ("stead", Some("supervisor")) => Some(Role::Supervisor),
            ("stead", Some("worker")) => Some(Role::Worker),
            ("stead-launcher", Some("host")) => Some(Role::Host),
            ("stead-launcher", Some("checker")) => Some(Role::Checker),
            ("stead-launcher", Some("shepherd")) => Some(Role::Shepherd),
            ("stead-launcher", _) => Some(Role::Launcher),
            (name, _) if name.starts_with("stead-session") => Some(Role::Session),
            _ => None,
        }
    }
}

/// The processes below one.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    processes: BTreeMap<i32, Process>,
}

impl Tree {
    /// All living descendants of `root` and of processes that entered its PID namespace.
    #[must_use]
    pub(crate) fn below(root: i32) -> Self {
        let namespace = std::fs::read_link(format!("/proc/{root}/ns/pid")).ok();
        let all: BTreeMap<i32, Process> = pids().filter_map(Process::read).map(|p| (p.pid, p)).collect();
        let entered = |p: &Process| std::fs::read_link(format!("/proc/{}/ns/pid", p.pid)).ok() == namespace;
        let mut inside: BTreeSet<i32> = BTreeSet::new();
        if namespace.is_some() {
            inside.extend(all.values().filter(|p| p.pid != root && entered(p)).map(|p| p.pid));
        }
        while let Some(more) = Some(children(&all, &inside, root)).filter(|m| !m.is_empty()) {
            inside.extend(more);
        }
        // The first process holds the namespace open by waiting for this one.
        let holds = |p: &Process| p.parent == root && p.argv == ["cat"];
        Self { processes: all.into_iter().filter(|(pid, p)| inside.contains(pid) && !holds(p)).collect() }
    }

    /// All living descendants of `root`, where it has no namespace of its own.
    #[must_use]
    pub(crate) fn descendants(root: i32) -> Self {
        let all: BTreeMap<i32, Process> = pids().filter_map(Process::read).map(|p| (p.pid, p)).collect();
        let mut inside = BTreeSet::from([root]);
        while let Some(more) = Some(children(&all, &inside, root)).filter(|m| !m.is_empty()) {
            inside.extend(more);
        }
        Self { processes: all.into_iter().filter(|(pid, _)| inside.contains(pid)).collect() }
    }

    #[must_use]
    pub fn all(&self) -> Vec<&Process> {
        self.processes.values().collect()
    }

    /// The processes of a role.
    #[must_use]
    pub fn of(&self, role: Role) -> Vec<i32> {
        if role == Role::Task {
            return self.tasks();
        }
        self.processes.values().filter(|p| p.role() == Some(role)).map(|p| p.pid).collect()
    }

    /// What is below a session and is not one.
    fn tasks(&self) -> Vec<i32> {
        let sessions: BTreeSet<i32> = self.of(Role::Session).into_iter().collect();
        let mut inside = sessions.clone();
        while let Some(more) = Some(children(&self.processes, &inside, 0)).filter(|m| !m.is_empty()) {
            inside.extend(more);
        }
        inside.difference(&sessions).copied().collect()
    }
}

fn children(all: &BTreeMap<i32, Process>, of: &BTreeSet<i32>, except: i32) -> Vec<i32> {
    let child = |p: &&Process| p.pid != except && of.contains(&p.parent) && !of.contains(&p.pid);
    all.values().filter(child).map(|p| p.pid).collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// Sends a signal; a process that is gone already is no error.
pub fn signal(pid: i32, signal: Signal) {
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
}

/// Whether a process lives; one that waits to be collected does not.
#[must_use]
pub fn lives(pid: i32) -> bool {
    Process::read(pid).is_some()
}

/// Removes the control groups of a farm that was killed, the one thing of it that no namespace holds. They are named
/// after the launcher's key.
pub(crate) fn remove_control_groups(host_key: &str) {
    let name = format!("stead-{}", key_id(host_key));
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path());
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        remove_groups(&hierarchy.join(&name));
    }
}

/// The first eight bytes of the key's SHA-256, in hexadecimal.
fn key_id(key: &str) -> String {
    let bytes: Vec<u8> =
        (0..key.len() / 2).filter_map(|i| u8::from_str_radix(key.get(2 * i..2 * i + 2)?, 16).ok()).collect();
    Sha256::digest(bytes).iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// A group and those in it. A group may be busy for a moment after its last process was killed.
fn remove_groups(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ =
        crate::within_or(Duration::from_secs(2), || (!dir.exists() || std::fs::remove_dir(dir).is_ok()).then_some(()));
}
