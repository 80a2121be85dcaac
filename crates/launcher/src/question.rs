//! One question, asked in a child of the checker that ends with its answer: look-up, this host's rules, then PAM.
//!
//! PAM's service is `stead`: the host's own file, else one of ours that follows what the host does for everybody. A part
//! that the file leaves out is denied: libpam would take it from `other`, which some hosts leave open.

use crate::account::{self, SignIn};
use crate::pam::{self, Library, Outcome};
use crate::ticket::Keep;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use warrant::LoginUser;
use warrant::checker_wire::{Answer, Word};

/// Where a host keeps its services; a later one goes before an earlier one.
const HOST_DIRS: [&str; 2] = ["/usr/lib/pam.d", "/etc/pam.d"];
const SERVICE: &str = "stead";
const OTHER: &str = "other";
const DENY: &str = "auth required pam_deny.so\naccount required pam_deny.so\n\
                    password required pam_deny.so\nsession required pam_deny.so\n";
/// What hosts call the part that all services share, for `auth` and for `account`.
const SHARED: [(&str, &str); 3] =
    [("common-auth", "common-account"), ("password-auth", "password-auth"), ("system-auth", "system-auth")];

/// With [`Word::DirectoryDown`]: PAM said no before it was found that it couldn't know. It may have compared the password
/// with one that a module remembers, so it counts as a guess.
pub(crate) const COUNTED_MS: u32 = 1000;

/// What is asked, and what the host holds against it.
pub(crate) struct Ask<'a> {
    pub(crate) name: &'a LoginUser,
    pub(crate) password: &'a [u8],
    pub(crate) uid_floor: u32,
    /// Made for this question; the checker removes it.
    pub(crate) confdir: &'a Path,
    /// A log-on: where a Kerberos ticket goes that comes of it.
    pub(crate) keep: Option<Keep<'a>>,
}

/// The checker's word.
pub(crate) fn answer(ask: &Ask<'_>) -> Answer {
    let name = ask.name.as_str();
    let known = match SignIn::find(name) {
        Ok(Some(known)) => known,
        Ok(None) => return Answer::new(Word::Unknown, "this host knows no such account"),
        Err(down) => return Answer::new(Word::DirectoryDown, down.text),
    };
    if known.name != name {
        return Answer::new(Word::Unknown, format!("the directory calls it {}", known.name));
    }
    if let Some(why) = known.unfit(ask.uid_floor) {
        return Answer::new(Word::Unknown, why);
    }
    let services = match host_services(&HOST_DIRS.map(Path::new)) {
        Ok(services) => services,
        Err(why) => return Answer::new(Word::Unavailable, why),
    };
    if let Err(e) = lay_out(ask.confdir, &services) {
        return Answer::new(Word::Unavailable, format!("{}: {e}", ask.confdir.display()));
    }
    match Library::load() {
        Ok(library) => {
            while_known(&known, judge(&known, library.ask(ask.confdir, name, ask.password, ask.keep.as_ref())))
        }
        Err(why) => Answer::new(Word::Unavailable, why),
    }
}

/// A "no" of PAM, unless the directory that has the account doesn't answer: what a shared stack makes of a module that
/// can't ask anybody is a denial, too (Debian's does).
fn while_known(known: &SignIn, answer: Answer) -> Answer {
    if !matches!(answer.word, Word::Wrong | Word::Unknown) || known.local {
        return answer;
    }
    match account::directory_answers() {
        Ok(()) => answer,
        Err(down) => Answer { word: Word::DirectoryDown, retry_ms: COUNTED_MS, text: down.text },
    }
}

/// The right word. What a shared stack makes of a module's answer (Debian's makes a denial of an expired account) is
/// told apart by what the host's own files say.
fn judge(known: &SignIn, outcome: Outcome) -> Answer {
    let Outcome { auth, account, user, said } = outcome;
    let word = match (auth, account) {
        (pam::SUCCESS, Some(_)) if user.as_deref() != Some(known.name.as_bytes()) => {
            let other = user.map(|u| String::from_utf8_lossy(&u).into_owned()).unwrap_or_default();
            return Answer::new(Word::Refused, format!("PAM calls {} {other:?}", known.name));
        }
        (pam::SUCCESS, Some(pam::SUCCESS)) => Word::Yes,
        (pam::SUCCESS, Some(pam::NEW_AUTHTOK_REQD)) | (pam::NEW_AUTHTOK_REQD, _) => Word::MustChange,
        (pam::SUCCESS, Some(pam::ACCT_EXPIRED | pam::AUTHTOK_EXPIRED)) => Word::Expired,
        (pam::SUCCESS, Some(pam::AUTH_ERR | pam::PERM_DENIED | pam::USER_UNKNOWN)) if known.expired => Word::Expired,
        (pam::SUCCESS, Some(pam::AUTH_ERR | pam::PERM_DENIED | pam::USER_UNKNOWN)) => Word::Refused,
        (pam::AUTH_ERR | pam::PERM_DENIED, _) if known.locked => Word::Locked,
        (pam::AUTH_ERR | pam::PERM_DENIED, _) => Word::Wrong,
        // Said before it is known whether the password is right.
        (pam::MAXTRIES | pam::ACCT_EXPIRED, _) => Word::Locked,
        (pam::USER_UNKNOWN, _) => Word::Unknown,
        (pam::AUTHINFO_UNAVAIL, _) | (pam::SUCCESS, Some(pam::AUTHINFO_UNAVAIL)) => Word::DirectoryDown,
        _ => Word::Unavailable,
    };
    Answer::new(word, said)
}

// ---- the service -------------------------------------------------------------------------------------------------

/// The services of this host and where they are. A folder may be missing; one that can't be read may hold rules that
/// would have denied.
fn host_services(dirs: &[&Path]) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut services = BTreeMap::new();
    for dir in dirs {
        let failed = |e: io::Error| format!("{}: {e}", dir.display());
        let entries = match std::fs::read_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if let Ok(name) = entry.file_name().into_string() {
                services.insert(name, entry.path());
            }
        }
    }
    Ok(services)
}

/// A folder in which libpam finds the host's services under their names, `other` closed, and `stead` in any case. So
/// a file may include others by name, whichever of the two folders a version of libpam looks in.
fn lay_out(confdir: &Path, services: &BTreeMap<String, PathBuf>) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(confdir)?;
    for (name, path) in services.iter().filter(|(name, _)| *name != OTHER) {
        symlink(path, confdir.join(name))?;
    }
    std::fs::write(confdir.join(OTHER), DENY)?;
    if !services.contains_key(SERVICE) {
        std::fs::write(confdir.join(SERVICE), own_service(services))?;
    }
    Ok(())
}

/// What everybody's sign-in goes through here, else the host's own files of passwords.
fn own_service(services: &BTreeMap<String, PathBuf>) -> String {
    match SHARED.into_iter().find(|(auth, account)| services.contains_key(*auth) && services.contains_key(*account)) {
        Some((auth, account)) => format!("auth include {auth}\naccount include {account}\n"),
        None => "auth required pam_unix.so\naccount required pam_unix.so\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(names: &[&str]) -> BTreeMap<String, PathBuf> {
        names.iter().map(|n| ((*n).to_owned(), Path::new("/etc/pam.d").join(n))).collect()
    }

    #[test]
    fn ours_follows_what_the_host_does_for_everybody() {
        let own = |names: &[&str]| own_service(&services(names));
        assert!(own(&["common-auth", "common-account", "sshd"]).starts_with("auth include common-auth\n"));
        assert_eq!(own(&["system-auth", "password-auth"]).matches("password-auth").count(), 2);
        assert!(own(&["common-auth", "system-auth"]).contains("system-auth"), "half of a pair is none");
        assert!(own(&[]).contains("pam_unix"));
    }

    #[test]
    fn the_hosts_own_file_goes_first_and_other_is_always_closed() {
        let dir = tempfile::tempdir().expect("dir");
        let lay = |name: &str, names: &[&str]| {
            let dir = dir.path().join(name);
            lay_out(&dir, &services(names)).expect("laid out");
            assert_eq!(std::fs::read_to_string(dir.join("other")).expect("other"), DENY);
            dir.join("stead")
        };
        assert!(std::fs::read_to_string(lay("a", &["other", "login"])).expect("ours").contains("pam_unix"));
        let theirs = std::fs::read_link(lay("b", &["other", "stead"])).expect("a link");
        assert_eq!(theirs, Path::new("/etc/pam.d/stead"));
    }

    #[test]
    fn a_later_folder_goes_first_and_one_that_cannot_be_read_is_no_empty_one() {
        let dir = tempfile::tempdir().expect("dir");
        let [usr, etc, none, file] = ["usr", "etc", "none", "file"].map(|n| dir.path().join(n));
        for folder in [&usr, &etc] {
            std::fs::create_dir(folder).expect("folder");
            std::fs::write(folder.join("stead"), "").expect("service");
        }
        std::fs::write(usr.join("login"), "").expect("service");
        let found = host_services(&[&usr, &none, &etc]).expect("read");
        assert_eq!((found["stead"].as_path(), found["login"].as_path()), (&*etc.join("stead"), &*usr.join("login")));
        std::fs::write(&file, "").expect("file");
        assert!(host_services(&[&usr, &file]).is_err());
    }

    #[test]
    fn each_result_has_its_word() {
        let word = |auth, account, locked, expired, user: &str| {
            let known = SignIn { name: "ada".into(), uid: 1501, locked, expired, local: false };
            judge(&known, Outcome { auth, account, user: Some(user.into()), said: String::new() }).word
        };
        let plain = |auth, account| word(auth, account, false, false, "ada");
        assert_eq!(plain(0, Some(0)), Word::Yes);
        assert_eq!(plain(0, None), Word::Unavailable, "never yes without the account's word");
        assert_eq!(word(0, Some(0), false, false, "Ada"), Word::Refused);
        assert_eq!(plain(0, Some(12)), Word::MustChange);
        assert_eq!(plain(0, Some(13)), Word::Expired);
        assert_eq!(word(0, Some(7), false, true, "ada"), Word::Expired);
        assert_eq!(plain(0, Some(7)), Word::Refused);
        assert_eq!(plain(0, Some(6)), Word::Refused);
        assert_eq!(word(7, None, true, false, "ada"), Word::Locked);
        assert_eq!(word(7, None, false, true, "ada"), Word::Wrong, "an expired account is told to its owner only");
        assert_eq!(plain(7, None), Word::Wrong);
        assert_eq!(plain(10, None), Word::Unknown);
        assert_eq!(plain(11, None), Word::Locked);
        assert_eq!([plain(9, None), plain(0, Some(9))], [Word::DirectoryDown; 2]);
        for broken in [1, 2, 3, 4, 5, 8, 14, 15, 17, 19, 20, 24, 25, 26, 28, 30, 31, 32, -1, 99] {
            assert_eq!(plain(broken, None), Word::Unavailable, "{broken}");
            assert_eq!(plain(0, Some(broken)), Word::Unavailable, "{broken}");
        }
    }
}
