//! What the supervisor's host says of accounts: groups, and whether a name is the system's.

use std::ffi::CString;

/// The first id of people's accounts: whose is below belongs to the system.
const FIRST_PERSON: u32 = 1000;
const OVERFLOW_UID: u32 = 65_534;

/// An argument, so that tests have their own.
pub(crate) trait Host: Send + Sync + 'static {
    /// Names of all groups the account is in; empty for one that the host doesn't know.
    fn groups_of(&self, name: &str) -> Result<Vec<String>, String>;
    fn is_system(&self, name: &str) -> bool;
}

/// Through NSS, so local files and directories alike.
#[derive(Debug)]
pub(crate) struct HostGroups;

impl Host for HostGroups {
    fn groups_of(&self, name: &str) -> Result<Vec<String>, String> {
        use nix::unistd::{Group, User, getgrouplist};
        let Some(account) = User::from_name(name).map_err(|e| e.to_string())? else { return Ok(Vec::new()) };
        let name = CString::new(name).map_err(|e| e.to_string())?;
        let ids = getgrouplist(&name, account.gid).map_err(|e| e.to_string())?;
        let mut names = Vec::with_capacity(ids.len());
        for id in ids {
            // A group without a name can't be meant by one.
            names.extend(Group::from_gid(id).map_err(|e| e.to_string())?.map(|g| g.name));
        }
        Ok(names)
    }

    fn is_system(&self, name: &str) -> bool {
        match nix::unistd::User::from_name(name) {
            Ok(Some(account)) => account.uid.as_raw() < FIRST_PERSON || account.uid.as_raw() == OVERFLOW_UID,
            Ok(None) | Err(_) => false,
        }
    }
}
