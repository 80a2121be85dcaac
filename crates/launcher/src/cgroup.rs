//! Control groups: what a whole session can't escape from, and what limits it.
//!
//! A session has one group in the v2 hierarchy (for the kill, and for the limits whose controllers are there) and
//! one in each v1 hierarchy that has a controller v2 lacks. All belong to root and nothing is delegated. Without
//! v2 there is no atomic kill; then the shepherd walks the process tree.

use crate::conf::Conf;
use crate::sys::{self, Errno, Res};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use warrant::Limits;
use warrant::launcher_wire::HostAbilities;

const PERIOD_US: u64 = 100_000;

/// Where the groups of this launcher's sessions are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cgroups {
    v2: Option<V2>,
    v1: Vec<V1>,
}

#[derive(Debug, Clone)]
struct V2 {
    dir: PathBuf,
    controllers: Vec<String>,
}

#[derive(Debug, Clone)]
struct V1 {
    controller: &'static str,
    dir: PathBuf,
}

impl Cgroups {
    /// Finds the hierarchies and makes `name` in each. `delegated`: the launcher is a service of its own, so its
    /// own group is ours to divide; otherwise the groups are made at the top.
    pub(crate) fn discover(name: &str, delegated: bool) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map(|t| mounts(&t)).unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let v2 = mounts.iter().find(|m| m.controllers.is_none()).and_then(|m| v2(m, &own, name, delegated));
        let has = |c: &str| v2.as_ref().is_some_and(|v: &V2| v.controllers.iter().any(|x| x == c));
        let v1 = ["memory", "cpu", "pids", "cpuacct"].into_iter().filter(|c| !has(c)).filter_map(|controller| {
            let mount = mounts.iter().find(|m| m.has(controller))?;
            let dir = mount.at(own_path(&own, controller)?).join(name);
            make(&dir).ok()?;
            Some(V1 { controller, dir })
        });
        let v1 = v1.collect();
        Self { v2, v1 }
    }

    pub(crate) fn abilities(&self) -> HostAbilities {
        let can = |c: &str| {
            self.v1.iter().any(|v| v.controller == c)
                || self.v2.as_ref().is_some_and(|v| v.controllers.iter().any(|x| x == c))
        };
        HostAbilities {
            cgroup_kill: self.v2.is_some(),
            cgroup_memory: can("memory"),
            cgroup_cpu: can("cpu"),
            cgroup_pids: can("pids"),
            throwaway: false,
        }
    }

    /// The group of a session, with its limits set. An error names the step.
    pub(crate) fn make(&self, session: u64, limits: Limits, conf: &Conf) -> Result<Group, (&'static str, Errno)> {
        let name = session.to_string();
        let mut group = Group { v2: None, v1: Vec::new() };
        if let Some(v2) = &self.v2 {
            let dir = v2.dir.join(&name);
            // Somebody may have tidied up the empty parent.
            if make(&v2.dir) == Ok(true) {
                enable(&v2.dir);
            }
            make_fresh(&dir).map_err(|e| ("cgroup", e))?;
            group.v2 = Some(dir);
        }
        for v1 in &self.v1 {
            let dir = v1.dir.join(&name);
            if let Err(e) = make(&v1.dir).and_then(|_| make_fresh(&dir)) {
                group.remove();
                return Err(("cgroup", e));
            }
            group.v1.push(V1 { controller: v1.controller, dir });
        }
        if let Err(e) = group.limit(limits, conf, self) {
            group.remove();
            return Err(e);
        }
        Ok(group)
    }

    /// The group of a session whose shepherd is gone.
    pub(crate) fn abandoned(&self, session: u64) -> Group {
        let name = session.to_string();
        let v1 = self.v1.iter().map(|v| V1 { controller: v.controller, dir: v.dir.join(&name) });
        Group { v2: self.v2.as_ref().map(|v| v.dir.join(&name)), v1: v1.collect() }
    }

    /// Removes what is empty, at the end of a launcher.
    pub(crate) fn tidy(&self) {
        for dir in self.v2.iter().map(|v| &v.dir).chain(self.v1.iter().map(|v| &v.dir)) {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// The groups of one session.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    v2: Option<PathBuf>,
    v1: Vec<V1>,
}

impl Group {
    fn limit(&self, limits: Limits, conf: &Conf, all: &Cgroups) -> Result<(), (&'static str, Errno)> {
        let can = all.abilities();
        if limits.memory > 0 && can.cgroup_memory {
            self.limit_memory(limits.memory).map_err(|e| ("cgroup_memory", e))?;
        }
        if limits.cpu_milli > 0 && can.cgroup_cpu {
            let quota = (u64::from(limits.cpu_milli) * PERIOD_US / 1000).max(1000);
            self.limit_cpu(quota).map_err(|e| ("cgroup_cpu", e))?;
        }
        if can.cgroup_pids {
            let asked = if limits.pids == 0 { conf.pids_max } else { limits.pids.min(conf.pids_max) };
            self.set("pids", "pids.max", "pids.max", &asked.to_string()).map_err(|e| ("cgroup_pids", e))?;
        }
        Ok(())
    }

    fn limit_memory(&self, bytes: u64) -> Res<()> {
        self.set("memory", "memory.max", "memory.limit_in_bytes", &bytes.to_string())?;
        // Swap would be a second memory. Where swap isn't counted, these files are missing.
        let _ = self.set("memory", "memory.swap.max", "memory.memsw.limit_in_bytes", &bytes_of_swap(self, bytes));
        Ok(())
    }

    fn limit_cpu(&self, quota: u64) -> Res<()> {
        match self.v1("cpu") {
            Some(dir) => {
                write(&dir.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
                write(&dir.join("cpu.cfs_quota_us"), &quota.to_string())
            }
            None => self.set("cpu", "cpu.max", "", &format!("{quota} {PERIOD_US}")),
        }
    }

    fn v1(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|v| v.controller == controller).map(|v| v.dir.as_path())
    }

    fn set(&self, controller: &str, in_v2: &str, in_v1: &str, value: &str) -> Res<()> {
        match (self.v1(controller), &self.v2) {
            (Some(dir), _) => write(&dir.join(in_v1), value),
            (None, Some(dir)) => write(&dir.join(in_v2), value),
            (None, None) => Err(Errno(libc::ENOENT)),
        }
    }

    /// For `clone3(CLONE_INTO_CGROUP)`: the child is inside before its first instruction.
    pub(crate) fn open(&self) -> Res<Option<OwnedFd>> {
        let open =
            |dir: &PathBuf| sys::open(&sys::cstr(dir.as_os_str().as_bytes())?, libc::O_RDONLY | libc::O_DIRECTORY);
        self.v2.as_ref().map(open).transpose()
    }

    /// The v1 `tasks` files, for the child to write itself into while it is still root and has one thread. `cgroup.procs`
    /// would make the kernel wait until no process anywhere is between two groups: milliseconds for each hierarchy.
    pub(crate) fn open_v1(&self) -> Res<Vec<OwnedFd>> {
        let path = |v: &V1| sys::cstr(v.dir.join("tasks").as_os_str().as_bytes());
        self.v1.iter().map(|v| sys::open(&path(v)?, libc::O_WRONLY)).collect()
    }

    /// Whether there is a group that can be killed as a whole.
    pub(crate) fn can_kill(&self) -> bool {
        self.v2.is_some()
    }

    /// Kills all that is inside. To be repeated until [`Group::is_empty`].
    pub(crate) fn kill(&self) {
        let Some(dir) = &self.v2 else { return };
        if write(&dir.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        // Kernels before 5.14: nothing can fork while it is frozen.
        let _ = write(&dir.join("cgroup.freeze"), "1");
        for pid in self.processes() {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        let _ = write(&dir.join("cgroup.freeze"), "0");
    }

    fn processes(&self) -> Vec<i32> {
        let Some(dir) = &self.v2 else { return Vec::new() };
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|l| l.parse().ok()).collect()
    }

    /// No process is inside. A group that is gone is empty.
    pub(crate) fn is_empty(&self) -> bool {
        let Some(dir) = &self.v2 else { return true };
        match fs::read_to_string(dir.join("cgroup.events")) {
            Ok(text) => text.lines().any(|l| l == "populated 0"),
            Err(e) => e.raw_os_error() == Some(libc::ENOENT) || e.raw_os_error() == Some(libc::ENODEV),
        }
    }

    /// How often the kernel killed something inside for want of memory. A task's end by it is told by the session, which
    /// looks at the same count; here it matters only when it was the session itself.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = match (self.v1("memory"), &self.v2) {
            (Some(dir), _) => dir.join("memory.oom_control"),
            (None, Some(dir)) => dir.join("memory.events"),
            (None, None) => return 0,
        };
        keyed(&file, "oom_kill").unwrap_or(0)
    }

    /// CPU time in µs and peak memory in bytes, where they are counted.
    pub(crate) fn usage(&self) -> (Option<u64>, Option<u64>) {
        let v2 = |file: &str| self.v2.as_ref().map(|d| d.join(file));
        let cpu = v2("cpu.stat").and_then(|f| keyed(&f, "usage_usec")).filter(|us| *us > 0);
        let cpu = cpu.or_else(|| Some(number(&self.v1("cpuacct")?.join("cpuacct.usage"))? / 1000));
        let memory = v2("memory.peak").and_then(|f| number(&f));
        let memory = memory.or_else(|| number(&self.v1("memory")?.join("memory.max_usage_in_bytes")));
        (cpu, memory)
    }

    /// Removes the groups. What is still busy stays, and is taken over by the next session of that number.
    pub(crate) fn remove(&self) {
        for dir in self.v2.iter().chain(self.v1.iter().map(|v| &v.dir)) {
            for _ in 0..50 {
                match fs::remove_dir(dir) {
                    Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// v2 limits swap alone, v1 memory and swap together.
fn bytes_of_swap(group: &Group, bytes: u64) -> String {
    if group.v1("memory").is_some() { bytes.to_string() } else { "0".to_owned() }
}

fn write(file: &Path, value: &str) -> Res<()> {
    let fd = sys::open(&sys::cstr(file.as_os_str().as_bytes())?, libc::O_WRONLY)?;
    sys::write_all(sys::as_fd(&fd), value.as_bytes())
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn keyed(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().filter_map(|l| l.split_once(' ')).find(|(k, _)| *k == key)?.1.trim().parse().ok()
}

/// Whether it was missing.
fn make(dir: &Path) -> Res<bool> {
    match fs::create_dir(dir) {
        Ok(()) => readable(dir).map(|()| true),
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// A group that holds nothing and has counted nothing yet.
fn make_fresh(dir: &Path) -> Res<()> {
    let _ = fs::remove_dir(dir);
    fs::create_dir(dir)?;
    readable(dir)
}

/// A session reads its own counts there, whatever our umask is; only root writes.
fn readable(dir: &Path) -> Res<()> {
    Ok(fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?)
}

// ---- finding the hierarchies ---------------------------------------------------------------------------------

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// Which part of the hierarchy is mounted.
    root: String,
    dir: PathBuf,
    /// `None`: v2.
    controllers: Option<Vec<String>>,
}

impl Mount {
    fn has(&self, controller: &str) -> bool {
        self.controllers.as_ref().is_some_and(|c| c.iter().any(|x| x == controller))
    }

    /// Where the group `path` of the hierarchy is seen; the top of the mount when it is outside.
    fn at(&self, path: &str) -> PathBuf {
        let inside = if self.root == "/" { Some(path) } else { path.strip_prefix(self.root.as_str()) };
        let inside = inside.unwrap_or_default().trim_start_matches('/');
        let clean = !inside.split('/').any(|c| c == "..");
        if clean { self.dir.join(inside) } else { self.dir.clone() }
    }
}

fn mounts(text: &str) -> Vec<Mount> {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, dir) = (left.next()?.to_owned(), PathBuf::from(left.next()?));
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let controllers = match kind {
            "cgroup2" => None,
            "cgroup" => Some(options.split(',').map(str::to_owned).collect()),
            _ => return None,
        };
        Some(Mount { root, dir, controllers })
    };
    text.lines().filter_map(parse).collect()
}

/// The group this process is in; the empty controller means v2.
fn own_path<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|c| c == controller).then_some(path)
    })
}

fn v2(mount: &Mount, own: &str, name: &str, delegated: bool) -> Option<V2> {
    let own = own_path(own, "")?;
    let base = if delegated && own != "/" { divide(mount, own) } else { mount.dir.clone() };
    let dir = base.join(name);
    enable(&base);
    make(&dir).ok()?;
    enable(&dir);
    let controllers = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    Some(V2 { dir, controllers: controllers.split_ascii_whitespace().map(str::to_owned).collect() })
}

/// Controllers can only be handed down by a group without processes of its own: we move into a leaf.
fn divide(mount: &Mount, own: &str) -> PathBuf {
    if let Some(base) = own.strip_suffix("/launcher") {
        return mount.at(base);
    }
    let base = mount.at(own);
    let leaf = base.join("launcher");
    if make(&leaf).is_ok() {
        let _ = write(&leaf.join("cgroup.procs"), "0");
    }
    base
}

/// Hands down what there is; what can't be is seen by reading back.
fn enable(dir: &Path) {
    for controller in ["memory", "cpu", "pids"] {
        let _ = write(&dir.join("cgroup.subtree_control"), &format!("+{controller}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/7 /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hierarchies_are_found_in_mountinfo() {
        let mounts = mounts(HYBRID);
        assert_eq!(mounts.len(), 3);
        let memory = mounts.iter().find(|m| m.has("memory")).expect("memory");
        assert_eq!(memory.at("/docker/7/x"), Path::new("/sys/fs/cgroup/memory/x"));
        assert_eq!(memory.at("/elsewhere"), Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(memory.at("/docker/7/../8"), Path::new("/sys/fs/cgroup/memory"));
        assert!(mounts.iter().any(|m| m.has("cpuacct") && m.has("cpu")));
        assert!(mounts.iter().any(|m| m.controllers.is_none()));
    }

    #[test]
    fn the_own_group_is_found_per_controller() {
        let own = "4:memory:/a\n3:cpu,cpuacct:/b\n1:name=systemd:/c\n0::/d:e\n";
        let cases = [("memory", Some("/a")), ("cpuacct", Some("/b")), ("", Some("/d:e")), ("pids", None)];
        for (controller, want) in cases {
            assert_eq!(own_path(own, controller), want, "{controller}");
        }
    }
}
