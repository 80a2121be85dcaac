//! Writing the files that come with batches, as the account, below the session's own folder.
//!
//! The folder belongs to the account, so a task may have put anything there: no symbolic link is followed and no
//! existing file is written to.

use crate::place::Place;
use crate::sys;
use crate::text::{CannotStart, quoted, why};
use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use warrant::File;

/// Makes the session's own folder. A failure shows when a file is needed there.
pub(crate) fn make_folder(session: u64) {
    let _ = open_folder(session);
}

pub(crate) fn write_all(files: &[File], session: u64, place: &Place) -> Result<(), CannotStart> {
    if files.is_empty() {
        return Ok(());
    }
    let folder = open_folder(session).map_err(|e| {
        let errno = sys::errno_of(&e);
        let text = format!("the folder {} could not be made: {}", quoted(&place.files_dir), why(errno));
        CannotStart { stage: "files", errno, text }
    })?;
    for file in files {
        write(&folder, file, place).map_err(|errno| {
            let text = format!("the file {} could not be written: {}", quoted(&file.path), why(errno));
            CannotStart { stage: "files", errno, text }
        })?;
    }
    Ok(())
}

fn open_folder(session: u64) -> std::io::Result<OwnedFd> {
    let here = sys::open_here()?;
    let number = CString::new(session.to_string()).unwrap_or_default();
    make_and_open(&make_and_open(&here, c".stead")?, &number)
}

fn make_and_open(dir: &OwnedFd, name: &std::ffi::CStr) -> std::io::Result<OwnedFd> {
    match sys::make_dir_at(dir.as_fd(), name, 0o700) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e),
        _ => sys::open_dir_at(dir.as_fd(), name),
    }
}

fn write(folder: &OwnedFd, file: &File, place: &Place) -> Result<(), i32> {
    let errno = |e: std::io::Error| sys::errno_of(&e);
    let mut parts = components(&file.path).ok_or(libc::EINVAL)?;
    let name = parts.pop().ok_or(libc::EINVAL)?;
    let mut deeper: Option<OwnedFd> = None;
    for part in &parts {
        deeper = Some(make_and_open(deeper.as_ref().unwrap_or(folder), part).map_err(errno)?);
    }
    let dir = deeper.as_ref().unwrap_or(folder);
    let mode = if file.executable { 0o700 } else { 0o600 };
    match sys::remove_at(dir.as_fd(), &name, false) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(errno(e)),
        _ => {}
    }
    let mut created = std::fs::File::from(sys::create_at(dir.as_fd(), &name, mode).map_err(errno)?);
    sys::set_mode(created.as_fd(), mode).map_err(errno)?;
    created.write_all(&place.fill(&file.data)).map_err(errno)
}

/// The names of a relative path, or nothing when it would leave the folder.
fn components(path: &[u8]) -> Option<Vec<CString>> {
    let name = |part: &[u8]| match part {
        b"" | b"." | b".." => None,
        part => CString::new(part).ok(),
    };
    path.split(|b| *b == b'/').map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_folder() {
        let bad: [&[u8]; 10] =
            [b"", b"/", b"/etc/passwd", b"..", b"a/../b", b"a//b", b"a/", b"./a", b"a\0b", b"a/b/.."];
        for path in bad {
            assert_eq!(components(path), None, "{}", String::from_utf8_lossy(path));
        }
        let good: [(&[u8], usize); 4] = [(b"a", 1), (b"a/b", 2), (b"...", 1), (b"a b\n", 1)];
        for (path, parts) in good {
            assert_eq!(components(path).map(|p| p.len()), Some(parts), "{}", String::from_utf8_lossy(path));
        }
    }
}
