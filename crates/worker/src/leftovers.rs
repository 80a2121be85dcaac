//! Desktop mode: the processes this worker started, and what they leave behind.
//!
//! The worker is child subreaper: when a session dies, everything it had started, double forks included, becomes
//! a child of this process. A child that leads or belongs to a session of the kernel's other than ours, and is no
//! living session of a worker here, is such a leftover. So a program around the worker may have children of its
//! own, as long as it does not make them leaders.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid, getsid};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a sweep goes on while there is something left.
const SWEEP: Duration = Duration::from_secs(10);
/// What a session is given to end by itself.
const POLITE: Duration = Duration::from_secs(2);

/// Sessions of all workers in this process. Held while one is started, so that it is never taken for a leftover.
static SESSIONS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn sessions() -> MutexGuard<'static, BTreeSet<i32>> {
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes this process the one that orphans below it come to.
pub(crate) fn adopt() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Starts a session. It is waited for with its process id, so nothing else may be waited for here.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Pid> {
    let mut sessions = sessions();
    let pid = Pid::from_raw(i32::try_from(command.spawn()?.id()).unwrap_or(i32::MAX));
    sessions.insert(pid.as_raw());
    Ok(pid)
}

/// The session's process was waited for.
pub(crate) fn forget(pid: Pid) {
    sessions().remove(&pid.as_raw());
}

/// Ends all leftovers, generation by generation: the children of each become children of this process.
pub(crate) fn sweep() {
    let until = Instant::now() + SWEEP;
    loop {
        let found = leftovers(&sessions());
        if found.is_empty() {
            return;
        }
        // Unwaited children of ours: their numbers can't have gone to others.
        for pid in &found {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        for pid in &found {
            let _ = waitpid(*pid, Some(WaitPidFlag::WNOHANG));
        }
        if Instant::now() > until {
            tracing::warn!("{} processes of ended sessions can't be ended", found.len());
            return;
        }
        sleep(Duration::from_millis(2));
    }
}

fn leftovers(sessions: &BTreeSet<i32>) -> Vec<Pid> {
    let (own, own_session) = (getpid(), getsid(None).unwrap_or(getpid()));
    let is_leftover = |s: &Stat| s.parent == own.as_raw() && s.session != own_session.as_raw();
    let Ok(proc) = fs::read_dir("/proc") else { return Vec::new() };
    proc.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| !sessions.contains(pid) && stat(*pid).as_ref().is_some_and(is_leftover))
        .map(Pid::from_raw)
        .collect()
}

/// What `/proc/PID/stat` says of interest here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: String,
    parent: i32,
    session: i32,
    /// Clock ticks of the process and of those it has waited for.
    cpu: u64,
    start: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name may hold anything, closing brackets included.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |n: usize| fields.get(n)?.parse::<u64>().ok();
    let signed = |n: usize| fields.get(n)?.parse::<i32>().ok();
    let cpu = number(11)? + number(12)? + number(13)? + number(14)?;
    let state = (*fields.first()?).to_owned();
    Some(Stat { state, parent: signed(1)?, session: signed(3)?, cpu, start: number(19)? })
}

/// When the process started, in clock ticks since boot: with its number, a name that is never used again.
pub(crate) fn start_of(pid: Pid) -> Option<u64> {
    Some(stat(pid.as_raw())?.start)
}

/// Processor time of a process that has ended but was not waited for, with all it has waited for itself.
pub(crate) fn cpu_us_of(pid: Pid) -> u64 {
    let ticks = stat(pid.as_raw()).map_or(0, |s| s.cpu);
    ticks.saturating_mul(1_000_000) / rustix::param::clock_ticks_per_second().max(1)
}

/// Ends a session that an earlier worker started and waits until it is gone.
///
/// Asked first, it ends its tasks itself. What is below one that doesn't listen is ended with it: nobody else would.
pub(crate) fn end_stray(stray: (i32, u64)) {
    let (pid, _) = stray;
    if pid > 1 && lives(stray) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let until = Instant::now() + POLITE;
        while lives(stray) && Instant::now() < until {
            sleep(Duration::from_millis(2));
        }
    }
    let until = Instant::now() + SWEEP;
    while pid > 1 && lives(stray) && Instant::now() < until {
        kill_tree(stray);
        sleep(Duration::from_millis(2));
    }
    // It was ours after all if that worker was a task of this process.
    if sessions().remove(&pid) {
        let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
    }
}

/// Whether it is still the process with this number that started then.
fn lives((pid, start): (i32, u64)) -> bool {
    stat(pid).is_some_and(|s| s.start == start && s.state != "Z")
}

/// Stopped first, so that it starts nothing meanwhile; its orphans come to it, so it is the last to go.
fn kill_tree(root: (i32, u64)) {
    let _ = kill(Pid::from_raw(root.0), Signal::SIGSTOP);
    let until = Instant::now() + POLITE;
    while let below = descendants(root.0)
        && !below.is_empty()
        && Instant::now() < until
    {
        for process in below {
            if lives(process) {
                let _ = kill(Pid::from_raw(process.0), Signal::SIGKILL);
            }
        }
        sleep(Duration::from_millis(2));
    }
    if lives(root) {
        let _ = kill(Pid::from_raw(root.0), Signal::SIGKILL);
    }
}

/// Living processes below another, with when they started.
fn descendants(root: i32) -> Vec<(i32, u64)> {
    let Ok(proc) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = proc.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let all: Vec<(i32, Stat)> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        found.extend(all.iter().filter(|(_, s)| found.contains(&s.parent)).map(|(p, _)| *p).collect::<Vec<_>>());
        if found.len() == before {
            break;
        }
    }
    let is_below = |(pid, s): &&(i32, Stat)| *pid != root && s.state != "Z" && found.contains(pid);
    all.iter().filter(is_below).map(|(pid, s)| (*pid, s.start)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session that is deaf to politeness, with a task that left its kernel session.
    #[test]
    fn a_stray_ends_with_all_below_it() {
        let script =
            "trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do sleep 60; done' & while :; do sleep 60; done";
        let mut child = Command::new("sh").args(["-c", script]).spawn().expect("sh");
        let pid = i32::try_from(child.id()).expect("pid");
        let start = start_of(Pid::from_raw(pid)).expect("start");
        let until = Instant::now() + Duration::from_secs(10);
        // The task's shell, its sleep, and the stray's own.
        while descendants(pid).len() < 3 {
            assert!(Instant::now() < until, "{:?}", descendants(pid));
            sleep(Duration::from_millis(2));
        }
        let below = descendants(pid);
        // A number that went to another process is left alone.
        end_stray((pid, start + 1));
        assert!(lives((pid, start)));
        end_stray((pid, start));
        assert!(!lives((pid, start)));
        // Killed is killed, but this shell takes in no orphans as a session does, so nobody waited for them.
        let until = Instant::now() + Duration::from_secs(10);
        while below.iter().any(|p| lives(*p)) {
            assert!(Instant::now() < until, "{below:?}");
            sleep(Duration::from_millis(2));
        }
        child.wait().expect("wait");
    }

    #[test]
    fn a_process_may_call_itself_anything() {
        let text = "42 (a) R 1 (b) S 7 42 41 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 12345 1 2";
        assert_eq!(parse_stat(text), Some(Stat { state: "S".into(), parent: 7, session: 41, cpu: 100, start: 12345 }));
        assert_eq!(parse_stat("42 (x"), None);
        assert_eq!(parse_stat("42 (x) S 1"), None);
    }

    #[test]
    fn the_kernel_writes_what_is_read_here() {
        let own = stat(getpid().as_raw()).expect("own stat");
        assert_eq!(own.parent, nix::unistd::getppid().as_raw());
        assert_eq!(own.session, getsid(None).expect("sid").as_raw());
        assert!(own.start > 0);
    }
}
