//! What PAM says of a name and a password.

use super::{fed, write};
use crate::stage::Door;

/// The answer to "is that this person, and may they sign in?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// Not this person, or nobody, or not today; PAM's text tells an administrator which, and a stranger nothing.
    No,
    /// Nobody knows: who should answer does not.
    Unavailable,
}

/// Sets up `/etc/pam.d/stead` with these modules' opinion of passwords and of accounts.
pub(super) fn configure(door: &Door, auth: &str, account: &str) {
    write(door, "/etc/pam.d/stead", &format!("auth required {auth}\naccount required {account}\n"));
}

/// Asks authentication and account management, as root, and never one without the other.
pub(super) fn ask(door: &Door, name: &str, password: &str) -> Verdict {
    let mut command = door.command("pamtester");
    command.args(["stead", name, "authenticate", "acct_mgmt"]);
    let output = fed(command, &format!("{password}\n"));
    if output.status.success() {
        return Verdict::Right;
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let says = |texts: &[&str]| texts.iter().any(|t| said.contains(t));
    if says(&["cannot retrieve authentication info"]) {
        return Verdict::Unavailable;
    }
    let refusals = [
        "Authentication failure",
        "User not known",
        "User account has expired",
        "Permission denied",
        "Have exhausted maximum number of retries",
    ];
    // A harness that can't ask must not pass for one that was refused.
    assert!(says(&refusals), "pamtester: {output:?}");
    Verdict::No
}
