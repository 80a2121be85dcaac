//! Throwaway ids: numbers that belong to nobody, chosen once for a folder.
//!
//! The range is the one systemd keeps for its dynamic users. An id is free when neither an account nor a group
//! nor a process has it.

use crate::sys::Res;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

/// Where ids are taken from.
pub(crate) const RANGE: RangeInclusive<u32> = 61_184..=65_519;

/// The ids of one folder, as its `ids` file has them; gid = uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) supervisor: (u32, u32),
    pub(crate) worker: (u32, u32),
    pub(crate) proxy: Option<u32>,
}

/// What is wrong with an `ids` file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadIds(pub(crate) usize);

impl fmt::Display for BadIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ids:{}: expected `supervisor UID GID`, `worker UID GID` and perhaps `proxy UID`", self.0)
    }
}

impl Ids {
    pub(crate) fn parse(text: &str) -> Result<Self, BadIds> {
        let (mut supervisor, mut worker, mut proxy) = (None, None, None);
        for (i, line) in text.lines().enumerate() {
            let bad = || BadIds(i + 1);
            let id = |w: Option<&str>| w.and_then(|w| w.parse::<u32>().ok()).filter(|n| *n != 0 && *n != u32::MAX);
            let mut words = line.split(' ');
            let who = words.next().ok_or_else(bad)?;
            let uid = id(words.next()).ok_or_else(bad)?;
            let gid = match words.next() {
                None => uid,
                some => id(some).ok_or_else(bad)?,
            };
            let slot_taken = match who {
                "supervisor" => supervisor.replace((uid, gid)).is_some(),
                "worker" => worker.replace((uid, gid)).is_some(),
                "proxy" => uid != gid || !RANGE.contains(&uid) || proxy.replace(uid).is_some(),
                _ => true,
            };
            if slot_taken || words.next().is_some() {
                return Err(bad());
            }
        }
        let lines = text.lines().count();
        let (Some(supervisor), Some(worker)) = (supervisor, worker) else { return Err(BadIds(lines)) };
        let ids = Self { supervisor, worker, proxy };
        if ids.distinct() { Ok(ids) } else { Err(BadIds(lines)) }
    }

    /// No two of our own share an id: one could signal and trace the other.
    fn distinct(&self) -> bool {
        let (s, w) = (self.supervisor.0, self.worker.0);
        s != w && self.proxy != Some(s) && self.proxy != Some(w)
    }

    pub(crate) fn text(&self) -> String {
        let line = |who: &str, (uid, gid): (u32, u32)| {
            if uid == gid { format!("{who} {uid}\n") } else { format!("{who} {uid} {gid}\n") }
        };
        let proxy = self.proxy.map(|p| format!("proxy {p}\n")).unwrap_or_default();
        line("supervisor", self.supervisor) + &line("worker", self.worker) + &proxy
    }
}

/// The first free id at or after `start` within the range, going round once. Not knowing of one ends the search: an
/// outage makes nothing free.
pub(crate) fn choose(start: u32, taken: &BTreeSet<u32>, used: impl Fn(u32) -> Res<bool>) -> Res<Option<u32>> {
    let (low, high) = (*RANGE.start(), *RANGE.end());
    let size = high - low + 1;
    for id in (0..size).map(|i| low + (start % size + i) % size).filter(|id| !taken.contains(id)) {
        if !used(id)? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The ids of all running processes.
pub(crate) fn of_processes() -> BTreeSet<u32> {
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        for line in
            status.lines().filter(|l| l.starts_with("Uid:") || l.starts_with("Gid:") || l.starts_with("Groups:"))
        {
            ids.extend(line.split_ascii_whitespace().filter_map(|w| w.parse::<u32>().ok()));
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Errno;

    #[test]
    fn a_choice_is_free_and_in_range_wherever_it_starts() {
        for start in [0, 1, 4335, 4336, 61_184, 65_534, u32::MAX] {
            let id = choose(start, &BTreeSet::new(), |_| Ok(false)).expect("known").expect("free");
            assert!(RANGE.contains(&id));
        }
        let all_but_one: BTreeSet<u32> = RANGE.filter(|id| *id != 62_000).collect();
        assert_eq!(choose(4000, &all_but_one, |_| Ok(false)), Ok(Some(62_000)), "goes round");
        assert_eq!(choose(0, &all_but_one, |id| Ok(id == 62_000)), Ok(None));
        assert_eq!(choose(0, &all_but_one, |_| Err(Errno(libc::ENOENT))), Err(Errno(libc::ENOENT)), "nobody knows");
        assert!(!RANGE.contains(&65_534));
    }

    #[test]
    fn an_ids_file_is_read_back_as_written_and_nothing_else() {
        for proxy in [None, Some(61_300)] {
            let ids = Ids { supervisor: (61_200, 61_200), worker: (990, 980), proxy };
            assert_eq!(Ids::parse(&ids.text()), Ok(ids));
        }
        for bad in [
            "",
            "supervisor 61200\n",
            "supervisor 0\nworker 61201\n",
            "supervisor 61200\nworker 61200\n",
            "supervisor 61200\nworker 61201\nproxy 1000\n",
            "supervisor 61200\nworker 61201\nproxy 61201\n",
            "supervisor 61200\nsupervisor 61202\nworker 61201\n",
            "supervisor 61200\nworker -1\n",
            "supervisor 61200\nworker 61201 61201 1\n",
            "supervisor 61200\nworker 61201\nroot 61202\n",
        ] {
            assert!(Ids::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn our_own_process_is_counted() {
        assert!(of_processes().contains(&sys_euid()));
    }

    fn sys_euid() -> u32 {
        crate::sys::euid()
    }
}
