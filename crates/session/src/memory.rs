//! Whether the kernel killed something of the session for want of memory.
//!
//! The launcher gives a session a group of its own and its number as name. Its count of kills is opened once and read
//! after each item; the kernel counts before it kills, so that who has seen the death sees the count. Deliberately
//! silent where the group is not the session's own (desktop mode, no controller): others are counted there too.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// The files are a handful of short lines.
const FILE_MAX: usize = 1024;
/// What v1 says where there is no limit is this or more.
const NO_LIMIT: u64 = 1 << 60;

/// The memory group of the session, when it has one.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    group: Option<Group>,
    /// Kills that were accounted for.
    seen: u64,
}

#[derive(Debug)]
struct Group {
    kills: File,
    /// Where the limit stands.
    limit: PathBuf,
}

impl Memory {
    /// Finds the group in /proc. What can't be found or read is no group.
    pub(crate) fn of(session: u64) -> Self {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::new(find(&own, &mounts, session).and_then(|(dir, v1)| open(&dir, v1)))
    }

    fn new(group: Option<Group>) -> Self {
        let mut memory = Self { group, seen: 0 };
        memory.seen = memory.kills();
        memory
    }

    fn kills(&self) -> u64 {
        self.group.as_ref().and_then(|g| count(&g.kills)).unwrap_or(self.seen)
    }

    /// A sentence, when the kernel has killed something since the last question.
    pub(crate) fn exhausted(&mut self) -> Option<String> {
        let kills = self.kills();
        if kills <= std::mem::replace(&mut self.seen, kills) {
            return None;
        }
        Some(match self.group.as_ref().and_then(|g| number(&g.limit)).filter(|l| *l < NO_LIMIT) {
            Some(limit) => format!("out of memory: the job asked for {} (--mem)", size(limit)),
            None => "out of memory: the host had no more".to_owned(),
        })
    }
}

fn open(dir: &Path, v1: bool) -> Option<Group> {
    let (kills, limit) =
        if v1 { ("memory.oom_control", "memory.limit_in_bytes") } else { ("memory.events", "memory.max") };
    Some(Group { kills: File::open(dir.join(kills)).ok()?, limit: dir.join(limit) })
}

fn count(file: &File) -> Option<u64> {
    let mut bytes = [0; FILE_MAX];
    let len = file.read_at(&mut bytes, 0).ok()?;
    let text = std::str::from_utf8(bytes.get(..len)?).ok()?;
    text.lines().find_map(|l| l.strip_prefix("oom_kill "))?.trim().parse().ok()
}

fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Binary units, as `--mem` takes them; the kernel rounds to pages.
fn size(bytes: u64) -> String {
    let (mib, kib) = (bytes >> 20, bytes >> 10);
    if mib << 20 == bytes { format!("{mib} MiB") } else { format!("{kib} KiB") }
}

/// The folder of the session's memory group, and whether it is one of v1.
fn find(own: &str, mounts: &str, session: u64) -> Option<(PathBuf, bool)> {
    let v1 = group_of(own, |controllers| controllers.split(',').any(|c| c == "memory"));
    let (path, is_v1) = v1.map(|p| (p, true)).or_else(|| group_of(own, str::is_empty).map(|p| (p, false)))?;
    if path.rsplit('/').next() != Some(session.to_string().as_str()) {
        return None;
    }
    mounts.lines().find_map(|line| seen_at(line, path, is_v1)).map(|dir| (dir, is_v1))
}

fn group_of(own: &str, wanted: impl Fn(&str) -> bool) -> Option<&str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        wanted(controllers).then_some(path)
    })
}

/// Where a mount shows the group, if it does.
fn seen_at(line: &str, path: &str, v1: bool) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let (kind, options) = (right.next()?, right.nth(1)?);
    let is_it = if v1 { kind == "cgroup" && options.split(',').any(|o| o == "memory") } else { kind == "cgroup2" };
    let mut left = left.split(' ').skip(3);
    let (root, dir) = (left.next()?, left.next()?);
    let inside = if root == "/" { path } else { path.strip_prefix(root)? };
    is_it.then(|| Path::new(dir).join(inside.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/7 /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn only_a_group_of_the_sessions_own_is_believed() {
        let cases = [
            ("4:memory:/docker/7/stead/12\n0::/stead/12\n", Some(("/sys/fs/cgroup/memory/stead/12", true))),
            ("3:cpu:/x\n0::/stead/12\n", Some(("/sys/fs/cgroup/unified/stead/12", false))),
            ("4:memory:/docker/7/stead/112\n0::/stead/12\n", None),
            ("4:memory:/elsewhere/12\n", None),
            ("4:memory:/\n0::/stead/12\n", None),
            ("0::/\n", None),
            ("", None),
        ];
        for (own, want) in cases {
            assert_eq!(find(own, HYBRID, 12), want.map(|(dir, v1)| (PathBuf::from(dir), v1)), "{own}");
        }
    }

    #[test]
    fn a_kill_is_told_once_and_with_the_limit() {
        for (v1, kills, limit) in
            [(true, "memory.oom_control", "memory.limit_in_bytes"), (false, "memory.events", "memory.max")]
        {
            let dir = std::env::temp_dir().join(format!("stead-memory-{v1}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
            write(kills, "oom 9\noom_kill 3\noom_group_kill 4\n");
            write(limit, "52428800\n");
            let mut memory = Memory::new(open(&dir, v1));
            assert_eq!(memory.exhausted(), None, "what was before is not ours");
            write(kills, "oom 9\noom_kill 4\n");
            assert_eq!(memory.exhausted().as_deref(), Some("out of memory: the job asked for 50 MiB (--mem)"));
            assert_eq!(memory.exhausted(), None);
            write(kills, "oom_kill 6\n");
            write(limit, if v1 { "9223372036854771712\n" } else { "max\n" });
            assert_eq!(memory.exhausted().as_deref(), Some("out of memory: the host had no more"));
            write(kills, "");
            assert_eq!(memory.exhausted(), None);
            std::fs::remove_dir_all(&dir).unwrap();
        }
        assert_eq!(Memory::default().exhausted(), None);
    }

    #[test]
    fn sizes_are_what_was_asked_for() {
        for (bytes, want) in [(50 << 20, "50 MiB"), (4 << 30, "4096 MiB"), ((1 << 20) + 4096, "1028 KiB")] {
            assert_eq!(size(bytes), want);
        }
    }
}
