//! Finding and signalling all that descends from the session.
//!
//! As child subreaper the session is the parent of every orphan below it, so whatever a task left behind is found by
//! walking down from here, however often it forked and whatever session or group it made.

use crate::sys::{self, Pid};
use std::collections::{HashMap, VecDeque};

/// Sends `signal` to every descendant but those below `keep`. One pass: what is forked meanwhile is met by the next.
pub(crate) fn signal_all(signal: i32, keep: &[Pid]) {
    if keep.is_empty() && sys::pid() == 1 {
        // First of a PID namespace: everybody else in it is a descendant, and the kernel reaches them all at once.
        return sys::signal_namespace(signal);
    }
    for pid in descendants(keep) {
        sys::signal(pid, signal);
    }
}

/// The session's own children, orphans that it inherited included.
pub(crate) fn children() -> Vec<Pid> {
    if !sees_itself() {
        return Vec::new();
    }
    listed_children(OWN_LIST).unwrap_or_else(|| whole_tree().remove(&sys::pid()).unwrap_or_default())
}

/// Whether a process still has the mark that every task gets.
pub(crate) fn is_of_a_task(pid: Pid) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|b| *b == 0).any(|v| v.starts_with(b"STEAD_TASK="))
}

const OWN_LIST: &str = "/proc/thread-self/children";

/// False when /proc shows another PID namespace: its numbers would name strangers.
fn sees_itself() -> bool {
    let shown = std::fs::read_link("/proc/self").ok();
    shown.is_some_and(|s| s.to_str().and_then(|s| s.parse().ok()) == Some(sys::pid()))
}

/// Nearest first, without `keep` and what is below it.
fn descendants(keep: &[Pid]) -> Vec<Pid> {
    let mut first = children();
    first.retain(|pid| !keep.contains(pid));
    if std::path::Path::new(OWN_LIST).exists() {
        return walk(first, children_of);
    }
    let tree = whole_tree();
    walk(first, |pid| tree.get(&pid).cloned().unwrap_or_default())
}

fn walk(first: Vec<Pid>, children: impl Fn(Pid) -> Vec<Pid>) -> Vec<Pid> {
    let mut todo = VecDeque::from(first);
    let mut all = Vec::new();
    while let Some(pid) = todo.pop_front() {
        // Processes come and go while we look; a number seen twice must not keep us here.
        if !all.contains(&pid) {
            all.push(pid);
            todo.extend(children(pid));
        }
    }
    all
}

/// Each thread has its own list.
fn children_of(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|t| listed_children(t.path().join("children")));
    lists.flatten().collect()
}

fn listed_children(path: impl AsRef<std::path::Path>) -> Option<Vec<Pid>> {
    let list = std::fs::read_to_string(path).ok()?;
    Some(list.split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect())
}

/// Every process by its parent, for kernels without lists of children.
fn whole_tree() -> HashMap<Pid, Vec<Pid>> {
    let mut tree: HashMap<Pid, Vec<Pid>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent_in(&stat) {
            tree.entry(parent).or_default().push(pid);
        }
    }
    tree
}

/// The fourth field of a stat line. The second, the program's name, may contain anything, so it is read from the end.
fn parent_in(stat: &[u8]) -> Option<Pid> {
    let after_name = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(stat.get(after_name + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_cannot_name_itself_another_parent() {
        assert_eq!(parent_in(b"12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in(b"12 (a) S 1 () R 7 12"), Some(7));
        assert_eq!(parent_in(b"12 (a\xff) S 7 12"), Some(7));
        assert_eq!(parent_in(b""), None);
    }

    #[test]
    fn a_walk_meets_everybody_once() {
        let tree = HashMap::from([(2, vec![3, 4]), (3, vec![5]), (5, vec![2])]);
        let children = |pid| tree.get(&pid).cloned().unwrap_or_default();
        assert_eq!(walk(vec![2], children), [2, 3, 4, 5]);
    }

    #[test]
    fn both_ways_of_looking_find_a_grandchild() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let grandchild: Pid = line.trim().parse().unwrap();
        let parent = Pid::try_from(shell.id()).unwrap();
        assert!(children_of(parent).contains(&grandchild));
        assert!(whole_tree().get(&parent).is_some_and(|c| c.contains(&grandchild)));
        sys::signal(grandchild, libc::SIGKILL);
        shell.wait().unwrap();
    }
}
