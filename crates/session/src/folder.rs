//! File work below one folder, as the account: the kernel decides what the account may, and resolves every path beneath
//! the folder, so that no symbolic link and no `..` leads out of it. Nothing but files and folders is opened.

use crate::sys::{self, Meta};
use crate::text::{quoted, why};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use warrant::files::{DATA_MAX, ENTRIES_MAX, Entry, EntryKind, FileAnswer, FileRule, FileWork};

/// How often a path is resolved again that was changed meanwhile.
const TRIES: u32 = 8;
const FOLDER: i32 = libc::O_DIRECTORY | libc::O_RDONLY;

/// Why nothing was done.
#[derive(Debug)]
enum Refused {
    Path(String),
    LeadsOut(String),
    NotAFile(String, &'static str),
    OldKernel,
    System(String, io::Error),
}

type Done<T> = Result<T, Refused>;

impl Refused {
    fn answer(self) -> FileAnswer {
        let (rule, text) = match self {
            Self::Path(path) => {
                (FileRule::Path, format!("the path {path} is not one below the folder: names between single `/`"))
            }
            Self::LeadsOut(path) => (FileRule::LeadsOut, format!("{path} leads out of the folder")),
            Self::NotAFile(path, what) => (FileRule::Kind, format!("{path} is {what}")),
            Self::OldKernel => {
                (FileRule::System, "this host's kernel is older than Linux 5.6, which file work needs".to_owned())
            }
            Self::System(path, e) => {
                let errno = sys::errno_of(&e);
                (rule_of(errno), format!("{path}: {}", why(errno)))
            }
        };
        FileAnswer::Refused { rule, text: crate::text::cut(text) }
    }
}

fn rule_of(errno: i32) -> FileRule {
    match errno {
        libc::ENOENT => FileRule::Missing,
        libc::ENOTDIR | libc::EISDIR => FileRule::Kind,
        libc::EEXIST | libc::ENOTEMPTY => FileRule::Exists,
        libc::EACCES | libc::EPERM | libc::EROFS => FileRule::Denied,
        _ => FileRule::System,
    }
}

/// Does one piece of work below `root`.
pub(crate) fn work(root: &OwnedFd, work: &FileWork) -> FileAnswer {
    let done = match work {
        FileWork::List { path, after, limit } => list(root, path, after, *limit),
        FileWork::Stat { path } => stat(root, path),
        FileWork::Read { path, offset, length } => read(root, path, *offset, *length),
        FileWork::Write { path, offset, new, data } => write(root, path, *offset, *new, data),
        FileWork::MakeFolder { path } => make_folder(root, path),
        FileWork::Rename { from, to, replace } => rename(root, from, to, *replace),
        FileWork::Remove { path } => remove(root, path),
    };
    done.unwrap_or_else(Refused::answer)
}

/// A path as the kernel takes it. `..` would be resolved beneath the folder, too; it only confuses people.
fn relative(path: &str) -> Done<CString> {
    let is_name = |part: &str| !matches!(part, "" | "." | "..");
    let text = if path.is_empty() { "." } else { path };
    if !path.is_empty() && !path.split('/').all(is_name) {
        return Err(Refused::Path(quoted(path.as_bytes())));
    }
    CString::new(text).map_err(|_| Refused::Path(quoted(path.as_bytes())))
}

fn open(root: &OwnedFd, path: &str, flags: i32, mode: u32) -> Done<OwnedFd> {
    let name = relative(path)?;
    let mut tries = 0;
    loop {
        match sys::open_beneath(root.as_fd(), &name, flags, mode) {
            Err(e) if sys::errno_of(&e) == libc::EAGAIN && tries < TRIES => tries += 1,
            other => return other.map_err(|e| failed(path, e)),
        }
    }
}

fn failed(path: &str, e: io::Error) -> Refused {
    let path = quoted(path.as_bytes());
    match sys::errno_of(&e) {
        libc::EXDEV => Refused::LeadsOut(path),
        libc::ENOSYS => Refused::OldKernel,
        libc::ENXIO => Refused::NotAFile(path, "neither a file nor a folder, and is not opened"),
        _ => Refused::System(path, e),
    }
}

/// The folder that holds the path's last name, and that name.
fn parent<'a>(root: &OwnedFd, path: &'a str) -> Done<(OwnedFd, CString)> {
    let (above, name): (&'a str, &'a str) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() {
        return Err(Refused::Path(quoted(path.as_bytes())));
    }
    Ok((open(root, above, libc::O_PATH | libc::O_DIRECTORY, 0)?, relative(name)?))
}

/// Opens a file, and nothing else: it is looked at before it is opened, and again.
fn open_file(root: &OwnedFd, path: &str, flags: i32) -> Done<(File, Meta)> {
    is_file(path, &stat_of(path, &open(root, path, libc::O_PATH, 0)?)?)?;
    let fd = open(root, path, flags | libc::O_NONBLOCK | libc::O_NOCTTY, 0)?;
    let meta = stat_of(path, &fd)?;
    is_file(path, &meta)?;
    Ok((File::from(fd), meta))
}

fn stat_of(path: &str, fd: &OwnedFd) -> Done<Meta> {
    sys::stat_of(fd.as_fd()).map_err(|e| failed(path, e))
}

fn is_file(path: &str, meta: &Meta) -> Done<()> {
    match kind(meta) {
        EntryKind::File => Ok(()),
        EntryKind::Folder => Err(Refused::NotAFile(quoted(path.as_bytes()), "a folder")),
        EntryKind::Link | EntryKind::Other => {
            Err(Refused::NotAFile(quoted(path.as_bytes()), "neither a file nor a folder, and is not opened"))
        }
    }
}

fn kind(meta: &Meta) -> EntryKind {
    match meta.file_type {
        libc::S_IFREG => EntryKind::File,
        libc::S_IFDIR => EntryKind::Folder,
        libc::S_IFLNK => EntryKind::Link,
        _ => EntryKind::Other,
    }
}

fn entry(name: String, meta: &Meta) -> Entry {
    Entry { name, kind: kind(meta), size: meta.size, modified_us: meta.modified_us, mode: meta.mode }
}

/// The next names of a folder; only as many are kept as are given. A name that goes away meanwhile is left out.
fn list(root: &OwnedFd, path: &str, after: &str, limit: u32) -> Done<FileAnswer> {
    let dir = open(root, path, FOLDER, 0)?;
    let limit = usize::try_from(limit).unwrap_or(ENTRIES_MAX).clamp(1, ENTRIES_MAX);
    // By what they are told as, which is what `after` is: by their bytes, some that are no text would be behind it always.
    let mut names: BTreeSet<(String, CString)> = BTreeSet::new();
    while let Some(some) = sys::next_entries(dir.as_fd()).map_err(|e| failed(path, e))? {
        let told = |name: CString| (name.to_string_lossy().into_owned(), name);
        for name in some.into_iter().map(told).filter(|(told, _)| told.as_str() > after) {
            names.insert(name);
            if names.len() > limit + 1 {
                names.pop_last();
            }
        }
    }
    let more = names.len() > limit;
    let shown = |(told, name): (String, CString)| Some(entry(told, &sys::stat_at(dir.as_fd(), &name).ok()?));
    Ok(FileAnswer::Entries { entries: names.into_iter().take(limit).filter_map(shown).collect(), more })
}

fn stat(root: &OwnedFd, path: &str) -> Done<FileAnswer> {
    let meta = stat_of(path, &open(root, path, libc::O_PATH, 0)?)?;
    let name = path.rsplit('/').next().unwrap_or_default();
    Ok(FileAnswer::Entry(entry(name.to_owned(), &meta)))
}

fn read(root: &OwnedFd, path: &str, offset: u64, length: u32) -> Done<FileAnswer> {
    let (file, meta) = open_file(root, path, libc::O_RDONLY)?;
    let mut data = vec![0; usize::try_from(length).unwrap_or(DATA_MAX).min(DATA_MAX)];
    let mut filled = 0;
    while let Some(rest) = data.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(path, e)),
        }
    }
    data.truncate(filled);
    Ok(FileAnswer::Data { data, size: meta.size })
}

fn write(root: &OwnedFd, path: &str, offset: u64, new: bool, data: &[u8]) -> Done<FileAnswer> {
    let file = if new {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        File::from(open(root, path, flags, 0o666)?)
    } else {
        open_file(root, path, libc::O_WRONLY)?.0
    };
    file.write_all_at(data, offset).map_err(|e| failed(path, e))?;
    Ok(FileAnswer::Done)
}

fn make_folder(root: &OwnedFd, path: &str) -> Done<FileAnswer> {
    let (dir, name) = parent(root, path)?;
    sys::make_dir_at(dir.as_fd(), &name, 0o777).map_err(|e| failed(path, e))?;
    Ok(FileAnswer::Done)
}

fn rename(root: &OwnedFd, from: &str, to: &str, replace: bool) -> Done<FileAnswer> {
    let ((old_dir, old), (new_dir, new)) = (parent(root, from)?, parent(root, to)?);
    let renamed = if replace {
        sys::rename_at(old_dir.as_fd(), &old, new_dir.as_fd(), &new)
    } else {
        sys::rename_new_at(old_dir.as_fd(), &old, new_dir.as_fd(), &new)
    };
    renamed.map_err(|e| {
        let errno = sys::errno_of(&e);
        // Not out of the folder, but onto another disk.
        if errno == libc::EXDEV { Refused::System(quoted(to.as_bytes()), e) } else { failed(to, e) }
    })?;
    Ok(FileAnswer::Done)
}

fn remove(root: &OwnedFd, path: &str) -> Done<FileAnswer> {
    let (dir, name) = parent(root, path)?;
    let meta = sys::stat_at(dir.as_fd(), &name).map_err(|e| failed(path, e))?;
    sys::remove_at(dir.as_fd(), &name, meta.is_dir).map_err(|e| failed(path, e))?;
    Ok(FileAnswer::Done)
}
