//! CPU time that processes used for themselves, without their children.

use std::collections::BTreeMap;
use std::fs;

/// Microseconds that the threads of a process ran so far; `None` when it is gone.
pub(crate) fn used_us(pid: i32) -> Option<f64> {
    let mut total = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        total += text.split_whitespace().next()?.parse::<f64>().ok()? / 1000.0;
    }
    Some(total)
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(pid: i32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kib| kib * 1024.0)
}

/// Last seen use of processes that may end while they are watched.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    first: BTreeMap<i32, f64>,
    last: BTreeMap<i32, f64>,
}

impl Watch {
    pub(crate) fn look(&mut self, pids: &[i32]) {
        for pid in pids {
            if let Some(used) = used_us(*pid) {
                self.first.entry(*pid).or_insert(used);
                self.last.insert(*pid, used);
            }
        }
    }

    /// Used since the first look; by a process that was not there then, all of it.
    pub(crate) fn since(&self, start: &Self) -> f64 {
        self.last.iter().map(|(pid, used)| used - start.first.get(pid).copied().unwrap_or(0.0)).sum()
    }
}
