//! `stead-session clean`: removes all that is beneath the current folder, as the account.
//!
//! Started by the launcher in the job's folder. Follows no symbolic link, crosses no mount, opens nothing by a path of
//! more than one name. The folder itself is root's to remove.

use crate::sys;
use crate::text::{quoted, why};
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Deeper folders are moved up first, so that neither the stack nor the descriptors run out.
const DEPTH: u32 = 64;

#[derive(Debug)]
pub(crate) enum CleanError {
    /// Typed by hand, or in a folder that is nobody's job.
    NotAJobFolder(&'static str),
    Open(io::Error),
    Left {
        count: usize,
        first: CString,
        error: io::Error,
    },
}

impl fmt::Display for CleanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAJobFolder(why) => {
                write!(f, "failed to clean: {why}; stead-launcher starts this in a job's folder")
            }
            Self::Open(e) => write!(f, "failed to open the current folder: {e}"),
            Self::Left { count, first, error } => {
                let reason = why(sys::errno_of(error));
                write!(f, "failed to remove {count} entries, the first being {}: {reason}", quoted(first.to_bytes()))
            }
        }
    }
}

/// Removes everything beneath the current folder, or as much as can be.
pub(crate) fn clean() -> Result<(), CleanError> {
    refuse_by_hand()?;
    open_up();
    let top = sys::open_here().map_err(CleanError::Open)?;
    let mut cleaner = Cleaner { top: &top, tried: 0, moved: 0, left: Vec::new() };
    loop {
        let before = cleaner.moved;
        cleaner.left.clear();
        cleaner.empty(&top, 0);
        if cleaner.moved == before {
            break;
        }
    }
    let count = cleaner.left.len();
    match cleaner.left.into_iter().next() {
        None => Ok(()),
        Some((first, error)) => Err(CleanError::Left { count, first, error }),
    }
}

/// The account may have closed the folder to itself. By its path: a closed one can't be entered by `.`. The folder above
/// is root's, so nobody puts anything else there; what doesn't work shows when it is emptied.
fn open_up() {
    use std::os::unix::fs::PermissionsExt as _;
    if let Ok(here) = std::env::current_dir() {
        let _ = std::fs::set_permissions(here, std::fs::Permissions::from_mode(0o700));
    }
}

fn refuse_by_hand() -> Result<(), CleanError> {
    let here = std::env::current_dir().map_err(CleanError::Open)?;
    if sys::stdin_is_terminal() {
        return Err(CleanError::NotAJobFolder("standard input is a terminal"));
    }
    if here.parent().is_none() {
        return Err(CleanError::NotAJobFolder("this is the root of the file system"));
    }
    // The launcher says whose folder it is. (HOME says nothing: an account without a home has the job's folder.)
    if std::env::var_os("STEAD_JOB").is_none() {
        return Err(CleanError::NotAJobFolder("STEAD_JOB is not set"));
    }
    Ok(())
}

struct Cleaner<'a> {
    top: &'a OwnedFd,
    /// Names made up: one that is taken is not tried again.
    tried: u64,
    moved: u64,
    left: Vec<(CString, io::Error)>,
}

impl Cleaner<'_> {
    fn empty(&mut self, dir: &OwnedFd, depth: u32) {
        let mut stuck = HashSet::new();
        loop {
            let mut removed = false;
            if sys::rewind(dir.as_fd()).is_err() {
                return;
            }
            while let Ok(Some(names)) = sys::next_entries(dir.as_fd()) {
                for name in names {
                    if stuck.contains(&name) {
                        continue;
                    }
                    match self.remove(dir, &name, depth) {
                        Ok(()) => removed = true,
                        Err(error) => {
                            self.left.push((name.clone(), error));
                            stuck.insert(name);
                        }
                    }
                }
            }
            // Entries may be passed over when others go while a folder is read.
            if !removed {
                return;
            }
        }
    }

    fn remove(&mut self, dir: &OwnedFd, name: &CStr, depth: u32) -> io::Result<()> {
        let meta = sys::stat_at(dir.as_fd(), name)?;
        if !meta.is_dir {
            return gone(sys::remove_at(dir.as_fd(), name, false));
        }
        if gone(sys::remove_at(dir.as_fd(), name, true)).is_ok() {
            return Ok(());
        }
        if depth >= DEPTH {
            return self.move_up(dir, name, meta.mode);
        }
        let inner = open(dir.as_fd(), name, meta.mode)?;
        self.empty(&inner, depth + 1);
        gone(sys::remove_at(dir.as_fd(), name, true))
    }

    /// A rename cannot leave the mount, so this moves nothing of others.
    fn move_up(&mut self, dir: &OwnedFd, name: &CStr, mode: u32) -> io::Result<()> {
        // A folder that changes its parent must itself be writable.
        drop(open(dir.as_fd(), name, mode)?);
        self.tried += 1;
        let unique = CString::new(format!(".stead-clean-{}-{}", sys::pid(), self.tried))?;
        sys::rename_at(dir.as_fd(), name, self.top.as_fd(), &unique)?;
        // Another round is only worth it for what is somewhere else now.
        self.moved += 1;
        Ok(())
    }
}

/// Opens a folder of the account's that it may have closed to itself.
fn open(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<OwnedFd> {
    let closed = mode & 0o700 != 0o700;
    match sys::open_dir_same_mount(dir, name) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && closed => {
            sys::set_mode_at(dir, name, 0o700)?;
            sys::open_dir_same_mount(dir, name)
        }
        Ok(fd) => {
            if closed {
                sys::set_mode(fd.as_fd(), 0o700)?;
            }
            Ok(fd)
        }
        Err(e) => Err(e),
    }
}

/// What is gone already needs no removing.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
