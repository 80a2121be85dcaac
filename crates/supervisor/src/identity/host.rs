//! What the supervisor's host says of accounts: groups, and whether a name is the system's.

use nix::unistd::{Group, User, getgrouplist};
use std::ffi::CString;
use wire::directory;

/// The first id of people's accounts: whose is below belongs to the system.
const FIRST_PERSON: u32 = 1000;
const OVERFLOW_UID: u32 = 65_534;

/// An argument, so that tests have their own. An error: the directory can't be asked.
pub(crate) trait Host: Send + Sync + 'static {
    /// Names of all groups the account is in; empty for one that the host doesn't know. `wanted`: those that count, if no
    /// other does.
    fn groups_of(&self, name: &str, wanted: Option<&[String]>) -> Result<Vec<String>, String>;
    /// As far as is told at once.
    fn seems_system(&self, name: &str) -> bool;
    fn is_system(&self, name: &str) -> Result<bool, String>;
}

/// Through NSS, so local files and directories alike.
#[derive(Debug)]
pub(crate) struct HostGroups;

impl Host for HostGroups {
    fn groups_of(&self, name: &str, wanted: Option<&[String]>) -> Result<Vec<String>, String> {
        let enough = |found: &Vec<String>| wanted.is_some_and(|wanted| wanted.iter().all(|g| found.contains(g)));
        directory::list(|| Ok(groups_now(name)?), enough)
    }

    fn seems_system(&self, name: &str) -> bool {
        matches!(User::from_name(name), Ok(Some(account)) if is_systems(&account))
    }

    fn is_system(&self, name: &str) -> Result<bool, String> {
        Ok(directory::one(|| Ok(User::from_name(name)?))?.is_some_and(|account| is_systems(&account)))
    }
}

fn is_systems(account: &User) -> bool {
    let uid = account.uid.as_raw();
    uid < FIRST_PERSON || uid == OVERFLOW_UID
}

/// As far as the C library tells: an outage leaves groups out and says nothing.
fn groups_now(name: &str) -> nix::Result<Vec<String>> {
    let Some(account) = User::from_name(name)? else { return Ok(Vec::new()) };
    let name = CString::new(name).map_err(|_| nix::Error::EINVAL)?;
    let ids = getgrouplist(&name, account.gid)?;
    let mut names = Vec::with_capacity(ids.len());
    for id in ids {
        // A group without a name can't be meant by one.
        names.extend(Group::from_gid(id)?.map(|g| g.name));
    }
    // A directory may say the same in another order each time.
    names.sort_unstable();
    Ok(names)
}
