//! Giving up root, or becoming an account, in a process of its own: for good, and verified.
//!
//! This is for the program's own helper processes. What jobs run as is the launcher's business alone.

use std::ffi::CString;
use std::io::Read;
use std::path::Path;

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, User, getgroups, getresgid, getresuid, initgroups, setgroups, setresgid, setresuid};
use serde_json::Value;

use crate::client::Client;
use crate::failure::Failure;
use crate::out;

/// Most bytes of a submission a helper reads.
const BODY_MAX: u64 = 64 << 20;
/// Unallocated ids: free in `passwd` and `group` by convention of the system's own dynamic users.
const FREE_IDS: std::ops::RangeInclusive<u32> = 61_184..=65_519;

fn failed(what: &'static str) -> impl Fn(nix::Error) -> Failure {
    move |e| Failure::Identity(format!("{what}: {e}"))
}

/// To an id without groups and without a way back.
pub(crate) fn give_up_root(uid: Uid, gid: Gid) -> Result<(), Failure> {
    setgroups(&[]).map_err(failed("setgroups"))?;
    switch(uid, gid)?;
    prctl::set_no_new_privs().map_err(failed("no_new_privs"))?;
    if getgroups().map_err(failed("getgroups"))?.iter().any(|g| *g != gid) {
        return Err(Failure::Identity("supplementary groups are left".into()));
    }
    Ok(())
}

/// An id that nobody has.
pub(crate) fn unallocated_id() -> Result<u32, Failure> {
    let free = FREE_IDS.rev().find(|id| {
        matches!(User::from_uid(Uid::from_raw(*id)), Ok(None))
            && matches!(nix::unistd::Group::from_gid(Gid::from_raw(*id)), Ok(None))
    });
    free.ok_or_else(|| Failure::Identity("no unallocated id was found".into()))
}

pub(crate) fn become_nobody() -> Result<(), Failure> {
    let id = unallocated_id()?;
    give_up_root(Uid::from_raw(id), Gid::from_raw(id))
}

/// To an account with all its groups. Never to root, under whatever name.
pub(crate) fn become_account(name: &str) -> Result<(), Failure> {
    let user = User::from_name(name)
        .map_err(failed("look up the account"))?
        .ok_or_else(|| Failure::Identity(format!("there is no account {name}")))?;
    if user.uid.is_root() || user.gid.as_raw() == 0 || user.name != name {
        return Err(Failure::Identity(format!("{name} is not an account to become")));
    }
    let c_name = CString::new(name).map_err(|_| Failure::Identity("a name contains NUL".into()))?;
    initgroups(&c_name, user.gid).map_err(failed("initgroups"))?;
    switch(user.uid, user.gid)
}

fn switch(uid: Uid, gid: Gid) -> Result<(), Failure> {
    if uid.is_root() || gid.as_raw() == 0 {
        return Err(Failure::Identity("root is not an identity to become".into()));
    }
    setresgid(gid, gid, gid).map_err(failed("setresgid"))?;
    setresuid(uid, uid, uid).map_err(failed("setresuid"))?;
    verify(uid, gid)
}

/// Reads back, then tries to regain root: both must show that there is no way.
fn verify(uid: Uid, gid: Gid) -> Result<(), Failure> {
    let u = getresuid().map_err(failed("getresuid"))?;
    let g = getresgid().map_err(failed("getresgid"))?;
    if [u.real, u.effective, u.saved] != [uid; 3] || [g.real, g.effective, g.saved] != [gid; 3] {
        return Err(Failure::Identity(format!("asked for {uid}:{gid}, the kernel says {u:?} {g:?}")));
    }
    let (keep_uid, keep_gid) = (Uid::from_raw(u32::MAX), Gid::from_raw(u32::MAX));
    let root_again = setresuid(keep_uid, Uid::from_raw(0), keep_uid).is_ok()
        || setresgid(keep_gid, Gid::from_raw(0), keep_gid).is_ok()
        || setgroups(&[Gid::from_raw(0)]).is_ok();
    if root_again {
        return Err(Failure::Identity("root could be regained".into()));
    }
    no_capabilities()
}

fn no_capabilities() -> Result<(), Failure> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|e| Failure::Identity(format!("capabilities can't be read: {e}")))?;
    let set = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).map(str::to_owned);
    for name in ["CapPrm:", "CapEff:"] {
        match set(name).map(|hex| u64::from_str_radix(&hex, 16)) {
            Some(Ok(0)) => {}
            other => return Err(Failure::Identity(format!("capabilities are left: {name} {other:?}"))),
        }
    }
    Ok(())
}

/// Submits, as `account`, what it reads. Becomes the account before it reads or connects.
pub(crate) fn submit_as(account: &str, acting_as: Option<&str>, socket: &Path) -> Result<(), Failure> {
    become_account(account)?;
    let mut body = Vec::new();
    std::io::stdin().take(BODY_MAX).read_to_end(&mut body).map_err(|e| Failure::system("read the submission", e))?;
    let body: Value = serde_json::from_slice(&body).map_err(|e| Failure::Answer(e.to_string()))?;
    let client = Client::at_socket(socket).acting_as(acting_as)?;
    let answer: Value = crate::single_threaded(async move { client.post("/api/v1/jobs", &body).await })?;
    out::say(&answer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_never_an_identity_to_become() {
        for (uid, gid) in [(0, 5), (5, 0), (0, 0)] {
            assert!(switch(Uid::from_raw(uid), Gid::from_raw(gid)).is_err());
        }
        assert!(become_account("root").is_err());
        assert!(become_account("no-such-account-here").is_err());
    }
}
