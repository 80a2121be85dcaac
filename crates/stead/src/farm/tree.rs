//! A tree of files as a stream of bytes: one process reads it as its owner, another writes it as somebody else.
//!
//! The receiver trusts nothing it reads: a name is one part of a path, nothing is followed, nothing overwritten, and
//! what it can't understand ends it. Links, sockets and devices are counted, not sent.

use std::fs::File;
use std::io::{Error, Read, Result, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use serde::{Deserialize, Serialize};

use super::handover::{FOLDER, entries, kind_of};

/// How deep folders may be nested.
const DEPTH_MAX: usize = 64;
const NAME_MAX: usize = 255;
const CHUNK: usize = 1 << 16;
/// Most entries of a tree.
const ENTRIES_MAX: u64 = 10_000_000;

const ENTER: u8 = 1;
const LEAVE: u8 = 2;
const FILE: u8 = 3;
const PROGRAM: u8 = 4;
const SPECIAL: u8 = 5;
const CLOSED: u8 = 6;
const END: u8 = 7;

/// What was copied and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copied {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Links, sockets, devices.
    pub(crate) special: u64,
    /// Not readable even for their owner.
    pub(crate) closed: u64,
}

/// Writes what is beneath `folder`, or what is there of `only`, to `to`.
pub(super) fn send(folder: BorrowedFd<'_>, only: Option<&str>, to: impl Write) -> Result<()> {
    let mut to = std::io::BufWriter::new(to);
    match only {
        None => send_folder(folder, DEPTH_MAX, &mut to)?,
        Some(only) => send_path(folder, only, &mut to)?,
    }
    to.write_all(&[END])?;
    to.flush()
}

/// `only` is a relative path without `..`. A folder's contents are sent, not the folder itself.
fn send_path(folder: BorrowedFd<'_>, only: &str, to: &mut impl Write) -> Result<()> {
    let parts: Vec<&str> = only.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    let Some((last, folders)) = parts.split_last() else { return send_folder(folder, DEPTH_MAX, to) };
    if parts.contains(&"..") {
        return Err(Errno::EINVAL.into());
    }
    let mut at = folder.try_clone_to_owned()?;
    for part in folders {
        at = openat(&at, *part, FOLDER, Mode::empty())?;
    }
    match kind_of(&fstatat(&at, *last, AtFlags::AT_SYMLINK_NOFOLLOW)?) {
        Some(Type::Directory) => {
            let inner = openat(&at, *last, FOLDER, Mode::empty())?;
            send_folder(inner.as_fd(), DEPTH_MAX, to)
        }
        kind => send_entry(at.as_fd(), last, kind, DEPTH_MAX, to),
    }
}

fn send_folder(folder: BorrowedFd<'_>, depth: usize, to: &mut impl Write) -> Result<()> {
    for (name, kind) in entries(folder)? {
        // The session's own files are of no use to anyone.
        if name != ".stead" {
            send_entry(folder, &name, kind, depth, to)?;
        }
    }
    Ok(())
}

fn send_entry(folder: BorrowedFd<'_>, name: &str, kind: Option<Type>, depth: usize, to: &mut impl Write) -> Result<()> {
    match kind {
        Some(Type::Directory) if depth > 0 => match openat(folder, name, FOLDER, Mode::empty()) {
            Ok(inner) => {
                named(ENTER, name, to)?;
                send_folder(inner.as_fd(), depth - 1, to)?;
                to.write_all(&[LEAVE])
            }
            Err(Errno::EACCES) => to.write_all(&[CLOSED]),
            Err(e) => Err(e.into()),
        },
        Some(Type::File) => send_file(folder, name, to),
        _ => to.write_all(&[SPECIAL]),
    }
}

fn send_file(folder: BorrowedFd<'_>, name: &str, to: &mut impl Write) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::EACCES) => return to.write_all(&[CLOSED]),
        Err(e) => return Err(e.into()),
    };
    let stat = fstat(&file)?;
    if kind_of(&stat) != Some(Type::File) {
        return to.write_all(&[SPECIAL]);
    }
    named(if stat.st_mode & 0o100 == 0 { FILE } else { PROGRAM }, name, to)?;
    let (mut file, mut buffer) = (File::from(file), vec![0; CHUNK]);
    loop {
        let n = file.read(&mut buffer)?;
        to.write_all(&u32::try_from(n).map_err(Error::other)?.to_le_bytes())?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..n])?;
    }
}

fn named(kind: u8, name: &str, to: &mut impl Write) -> Result<()> {
    let length = u8::try_from(name.len()).map_err(|_| Error::from(Errno::ENAMETOOLONG))?;
    to.write_all(&[kind, length])?;
    to.write_all(name.as_bytes())
}

/// Puts a tree into the open folder `into`.
pub(super) fn receive(from: impl Read, into: BorrowedFd<'_>) -> Result<Copied> {
    let mut from = std::io::BufReader::new(from);
    let (mut copied, mut folders) = (Copied::default(), Vec::<OwnedFd>::new());
    for _ in 0..ENTRIES_MAX {
        let at = folders.last().map_or(into, AsFd::as_fd);
        match byte(&mut from)? {
            ENTER if folders.len() < DEPTH_MAX => {
                let name = name(&mut from)?;
                mkdirat(at, name.as_str(), Mode::from_bits_truncate(0o755))?;
                let inner = openat(at, name.as_str(), FOLDER, Mode::empty())?;
                folders.push(inner);
            }
            LEAVE => {
                folders.pop().ok_or_else(garbled)?;
            }
            kind @ (FILE | PROGRAM) => {
                let name = name(&mut from)?;
                copied.bytes += receive_file(&mut from, at, &name, kind == PROGRAM)?;
                copied.files += 1;
            }
            SPECIAL => copied.special += 1,
            CLOSED => copied.closed += 1,
            END if folders.is_empty() => return Ok(copied),
            _ => return Err(garbled()),
        }
    }
    Err(garbled())
}

fn receive_file(from: &mut impl Read, at: BorrowedFd<'_>, name: &str, program: bool) -> Result<u64> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(if program { 0o755 } else { 0o644 });
    let mut file = File::from(openat(at, name, flags, mode)?);
    let (mut total, mut buffer) = (0u64, vec![0; CHUNK]);
    loop {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let n = u32::from_le_bytes(length) as usize;
        if n == 0 {
            return Ok(total);
        }
        let chunk = buffer.get_mut(..n).ok_or_else(garbled)?;
        from.read_exact(chunk)?;
        file.write_all(chunk)?;
        total += n as u64;
    }
}

fn byte(from: &mut impl Read) -> Result<u8> {
    let mut one = [0];
    from.read_exact(&mut one)?;
    Ok(one[0])
}

/// One part of a path, and nothing else.
fn name(from: &mut impl Read) -> Result<String> {
    let length = usize::from(byte(from)?);
    let mut bytes = vec![0; length.min(NAME_MAX)];
    from.read_exact(&mut bytes)?;
    let name = String::from_utf8(bytes).map_err(|_| garbled())?;
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(garbled());
    }
    Ok(name)
}

fn garbled() -> Error {
    Error::other("the copy's stream is garbled")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::open;

    fn receive_into_fresh(bytes: &[u8]) -> Result<Copied> {
        let folder = tempfile::tempdir()?;
        let fd = open(folder.path(), FOLDER, Mode::empty())?;
        receive(bytes, fd.as_fd())
    }

    #[test]
    fn a_hostile_sender_reaches_nothing_outside() {
        let op = |kind: u8, name: &str| {
            let mut bytes = Vec::new();
            named(kind, name, &mut bytes).expect("named");
            bytes
        };
        let file = |name: &str| [op(FILE, name), 0u32.to_le_bytes().to_vec()].concat();
        for (what, bytes) in [
            ("parent", file("..")),
            ("slash", file("a/b")),
            ("empty", file("")),
            ("leaving the top", vec![LEAVE]),
            ("twice", [file("a"), file("a"), vec![END]].concat()),
            ("end within a folder", [op(ENTER, "a"), vec![END]].concat()),
            ("cut short", op(FILE, "a")),
            ("unknown", vec![99]),
            ("huge chunk", [op(FILE, "a"), u32::MAX.to_le_bytes().to_vec()].concat()),
            ("too deep", op(ENTER, "a").repeat(DEPTH_MAX + 1)),
        ] {
            assert!(receive_into_fresh(&bytes).is_err(), "{what}");
        }
        let fine = [op(ENTER, "a"), file("b"), vec![LEAVE], file("b"), vec![SPECIAL, CLOSED, END]].concat();
        let copied = receive_into_fresh(&fine).expect("fine");
        assert_eq!(copied, Copied { files: 2, bytes: 0, special: 1, closed: 1 });
    }
}
