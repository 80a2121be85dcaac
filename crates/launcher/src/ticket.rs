//! A Kerberos ticket that a module of PAM got at the log-on, as a file of the session's account.
//!
//! The child that asked PAM copies it from the module's own file into a folder of the farm's in which only root makes
//! files, so no job can have another file taken for one. `KRB5CCNAME` names it to the session, and it goes with the
//! session. What a module keeps elsewhere than in a file (a keyring, KCM) stays there: no job is given that.

use crate::switch;
use crate::sys::{self, Errno, Res, as_fd};
use std::os::fd::OwnedFd;
use zeroize::Zeroizing;

/// More than a ticket with the rights of any person has.
const BYTES_MAX: usize = 256 << 10;

/// Where the child is to put it, and whose it is then.
pub(crate) struct Keep<'a> {
    pub(crate) path: &'a str,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// In the child, as root: copies what `name` (of `KRB5CCNAME`) says. The file has to be the account's own.
pub(crate) fn keep(name: &str, keep: &Keep<'_>) -> Result<(), String> {
    let path = name.strip_prefix("FILE:").unwrap_or(name);
    if !path.starts_with('/') {
        let kind = name.split(':').next().unwrap_or_default();
        return Err(format!("PAM has a ticket in {kind}: only one in a file can be given to a job"));
    }
    let failed = |what: &'static str| move |e: Errno| format!("PAM has a ticket, and it can't be {what}: {e}");
    let bytes = read(path, keep.uid).map_err(failed("read"))?;
    write(&bytes, keep).map_err(failed("kept"))
}

fn read(path: &str, uid: u32) -> Res<Zeroizing<Vec<u8>>> {
    let path = sys::cstr(path)?;
    let file = sys::open(&path, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)?;
    let stat = sys::fstat(as_fd(&file))?;
    // Whatever it holds then, its owner could have handed to the job himself.
    if !stat.is_file() || stat.uid != uid || stat.permissions() & 0o077 != 0 {
        return Err(Errno(libc::EPERM));
    }
    let bytes = Zeroizing::new(sys::read_from(as_fd(&file), 0, BYTES_MAX + 1)?);
    if bytes.len() > BYTES_MAX { Err(Errno(libc::EFBIG)) } else { Ok(bytes) }
}

fn write(bytes: &[u8], keep: &Keep<'_>) -> Res<()> {
    let path = sys::cstr(keep.path)?;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let file = sys::create(&path, flags, 0o600)?;
    sys::write_all(as_fd(&file), bytes)?;
    sys::fchmod(as_fd(&file), 0o600)?;
    sys::fchown(as_fd(&file), keep.uid, keep.gid)
}

/// A session's ticket, or the place for one. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    folder: OwnedFd,
    name: String,
    pub(crate) path: String,
}

impl Ticket {
    /// A name that nobody can guess, in the folder `at`.
    pub(crate) fn place(folder: &OwnedFd, at: &str, session: u64) -> Res<Self> {
        let name = format!("{session}-{}", warrant::hex(&sys::random::<16>()?));
        Ok(Self { folder: sys::duplicate(as_fd(folder))?, path: format!("{at}/{name}"), name })
    }

    /// Whether the child put one there.
    pub(crate) fn is_there(&self) -> bool {
        let opened =
            sys::cstr(self.name.as_str()).and_then(|name| sys::openat(as_fd(&self.folder), &name, libc::O_PATH, 0));
        opened.and_then(|fd| sys::fstat(as_fd(&fd))).is_ok_and(|stat| stat.is_file())
    }

    /// A session with private folders in place of the host's doesn't see what is below those.
    pub(crate) fn is_covered(&self) -> bool {
        let tops = switch::COVERED.iter().filter_map(|top| top.to_str().ok());
        tops.into_iter().any(|top| self.path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/')))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Ok(name) = sys::cstr(self.name.as_str()) {
            let _ = sys::unlinkat(as_fd(&self.folder), &name, 0);
        }
    }
}

/// Removes what killed shepherds left: tickets of sessions that `lives` doesn't know.
pub(crate) fn sweep(at: &str, lives: impl Fn(u64) -> bool) {
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let session = name.to_str().and_then(|name| name.split_once('-')?.0.parse().ok());
        if session.is_some_and(|session| !lives(session)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn ids() -> (u32, u32) {
        let own = fs::metadata("/proc/self").expect("proc");
        (own.uid(), own.gid())
    }

    #[test]
    fn only_a_closed_file_of_the_accounts_own_is_a_ticket() {
        let dir = tempfile::tempdir().expect("dir");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let (uid, gid) = ids();
        let made = |name: &str, mode: u32, text: &[u8]| {
            fs::write(at(name), text).expect("written");
            fs::set_permissions(at(name), Permissions::from_mode(mode)).expect("mode");
        };
        made("good", 0o600, b"ticket");
        made("open", 0o640, b"ticket");
        made("huge", 0o600, &vec![0; BYTES_MAX + 1]);
        symlink(at("good"), at("link")).expect("link");
        let to = at("kept");
        let kept = |name: &str, uid: u32| keep(name, &Keep { path: &to, uid, gid });
        for wrong in ["open", "huge", "link", "missing", "."] {
            assert!(kept(&at(wrong), uid).is_err(), "{wrong}");
        }
        for kind in ["KCM:", "KEYRING:persistent:1", "good"] {
            assert!(kept(kind, uid).expect_err(kind).contains("only one in a file"));
        }
        assert!(kept(&at("good"), uid + 1).is_err(), "somebody else's");
        assert!(!fs::exists(&to).expect("looked"));
        assert_eq!(kept(&format!("FILE:{}", at("good")), uid), Ok(()));
        assert_eq!(fs::read(&to).expect("kept"), b"ticket");
        assert_eq!(fs::metadata(&to).expect("kept").mode() & 0o777, 0o600);
        assert!(kept(&at("good"), uid).is_err(), "never over another");
    }

    #[test]
    fn a_ticket_goes_with_its_session() {
        let dir = tempfile::tempdir().expect("dir");
        let at = dir.path().display().to_string();
        let folder =
            sys::open(&sys::cstr(at.as_str()).expect("path"), libc::O_RDONLY | libc::O_DIRECTORY).expect("open");
        let ticket = Ticket::place(&folder, &at, 7).expect("a place");
        assert!(!ticket.is_there() && ticket.is_covered(), "below /tmp");
        fs::write(&ticket.path, "x").expect("written");
        assert!(ticket.is_there());
        let path = ticket.path.clone();
        sweep(&at, |session| session == 7);
        assert!(fs::exists(&path).expect("looked"));
        drop(ticket);
        assert!(!fs::exists(&path).expect("looked"));
        for name in ["7-aa", "8-bb", "other"] {
            fs::write(dir.path().join(name), "x").expect("written");
        }
        sweep(&at, |session| session == 8);
        assert_eq!(["7-aa", "8-bb", "other"].map(|name| dir.path().join(name).exists()), [false, true, true]);
    }
}
