//! Facts of this host: its clocks, its accounts, its size. Reads only.

use nix::unistd::{Gid, Uid, User, getgrouplist, getgroups, getresgid, getresuid};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::CString;
use std::time::{SystemTime, UNIX_EPOCH};
use warrant::names::AccountName;
use wire::{Account, directory};

/// Boot-time clock in ms: what warrants and leases are measured with. Goes on while the machine sleeps.
pub(crate) fn tick() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// How busy the host is: processes that run or wait to, on average over a minute, in thousandths.
pub(crate) fn load() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let (whole, parts) = text.split_whitespace().next()?.split_once('.')?;
    let hundredths: u32 = parts.parse().ok().filter(|_| parts.len() == 2)?;
    whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(hundredths * 10)
}

/// Wall clock in µs since 1970: only ever a label on a record.
pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

/// Why an account could not be told.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("{0:?} is no account name: {1}")]
    Name(String, warrant::NameError),
    #[error("there is no account {0} on this host")]
    Unknown(String),
    #[error("uid {0} has no entry in this host's user database")]
    NoName(u32),
    #[error("the user database of this host can't be asked: {0}")]
    Database(nix::errno::Errno),
    #[error("{0}")]
    Directory(String),
    #[error("the process has several identities at once (real, effective and saved ids differ)")]
    Mixed,
}

/// What this account is here, as the host's name service sees it. Blocks.
pub(crate) fn look_up(name: &str) -> Result<Account, AccountError> {
    let name = AccountName::parse(name).map_err(|e| AccountError::Name(name.to_owned(), e))?;
    let unknown = || AccountError::Unknown(name.to_string());
    let found = directory::one(|| Ok(User::from_name(name.as_str())?)).map_err(AccountError::Directory)?;
    let user = found.ok_or_else(unknown)?;
    // A directory may answer for another spelling; that is another account.
    if user.name != name.as_str() {
        return Err(unknown());
    }
    let c_name = CString::new(user.name.as_str()).map_err(|_| unknown())?;
    let groups = || Ok(ascending(getgrouplist(&c_name, user.gid)?));
    let groups = directory::list(groups, |_| false).map_err(AccountError::Directory)?;
    Ok(Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
}

/// Who this process really is, as the kernel says: the owner of a desktop worker.
pub(crate) fn owner() -> Result<(Account, User), AccountError> {
    let (uid, gid) = (getresuid().map_err(AccountError::Database)?, getresgid().map_err(AccountError::Database)?);
    if uid.real != uid.effective || uid.real != uid.saved || gid.real != gid.effective || gid.real != gid.saved {
        return Err(AccountError::Mixed);
    }
    let groups = getgroups().map_err(AccountError::Database)?;
    let user = named(uid.real)?;
    let account =
        Account { name: user.name.clone(), uid: uid.real.as_raw(), gid: gid.real.as_raw(), groups: ascending(groups) };
    Ok((account, user))
}

fn named(uid: Uid) -> Result<User, AccountError> {
    let none = || AccountError::NoName(uid.as_raw());
    let user = directory::one(|| Ok(User::from_uid(uid)?)).map_err(AccountError::Directory)?.ok_or_else(none)?;
    AccountName::parse(&user.name).map_err(|e| AccountError::Name(user.name.clone(), e))?;
    Ok(user)
}

fn ascending(groups: Vec<Gid>) -> Vec<u32> {
    let mut groups: Vec<u32> = groups.into_iter().map(Gid::as_raw).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// Cores this process may use and bytes of memory of the host, for [`crate::Config`].
#[must_use]
pub fn this_host() -> (u32, u64) {
    let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text)).unwrap_or(0);
    (cores, memory)
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Labels with those that jobs may ask for without anybody having given them: `linux`, `x86_64`, the words of OpenJD's
/// `attr.worker.os.family` and `attr.worker.cpu.arch`, and the same as properties of the host.
pub(crate) fn with_own_labels(mut labels: Vec<String>, screen: bool) -> Vec<String> {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    for own in [std::env::consts::OS, architecture] {
        if !labels.iter().any(|l| l == own) {
            labels.push(own.to_owned());
        }
    }
    let (cores, memory) = this_host();
    let properties = [
        ("host.os", std::env::consts::OS.to_owned()),
        ("host.architecture", architecture.to_owned()),
        ("host.processors", cores.to_string()),
        // MB, as in Qube!.
        ("host.memory", (memory >> 20).to_string()),
        ("host.screen", u8::from(screen).to_string()),
    ];
    for (name, value) in properties {
        // What somebody said of the host in its settings is meant so; whether it has a screen is seen.
        let is_said = labels.iter().any(|l| l.split_once('=').is_some_and(|(n, _)| n == name));
        if name == "host.screen" {
            labels.retain(|l| l.split_once('=').is_none_or(|(n, _)| n != name));
        }
        if !is_said || name == "host.screen" {
            labels.push(format!("{name}={value}"));
        }
    }
    labels
}

/// Whether programs of this process can show something.
pub(crate) fn has_screen() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_answers_for_root_and_not_for_nonsense() {
        let root = look_up("root").expect("root");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(matches!(look_up("no-such-account-here"), Err(AccountError::Unknown(_))));
        for bad in ["", "../etc", "#0", "-1", "a b", "root\n"] {
            assert!(matches!(look_up(bad), Err(AccountError::Name(..))), "{bad:?}");
        }
    }

    #[test]
    fn groups_are_ascending_without_doubles() {
        let groups = [7, 3, 7, 1].map(Gid::from_raw).to_vec();
        assert_eq!(ascending(groups), [1, 3, 7]);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(total_memory("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16384));
        assert_eq!(total_memory("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn the_clock_goes_forward() {
        let before = tick();
        assert!(before > 0 && tick() >= before);
        // 2020-01-01: anything earlier means that the unit is wrong.
        assert!(now_us() > 1_577_836_800_000_000);
    }

    #[test]
    fn every_host_says_what_it_is() {
        let labels = with_own_labels(vec!["gpu".to_owned()], false);
        assert_eq!(labels.len(), 8);
        assert_eq!((labels[0].as_str(), labels[1].as_str()), ("gpu", "linux"));
        assert!(
            ["x86_64", "arm64"].contains(&labels[2].as_str())
                || cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64")))
        );
        assert_eq!(with_own_labels(labels.clone(), false), labels, "each once");
        assert!(labels.contains(&"host.os=linux".to_owned()) && labels.contains(&"host.screen=0".to_owned()));
        let said = with_own_labels(vec!["host.memory=7".to_owned(), "host.screen=0".to_owned()], true);
        let of = |name: &str| said.iter().filter(|l| l.starts_with(name)).cloned().collect::<Vec<_>>();
        assert_eq!(
            (of("host.memory="), of("host.screen=")),
            (vec!["host.memory=7".into()], vec!["host.screen=1".into()])
        );
    }
}
