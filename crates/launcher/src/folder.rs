//! Root's own folders and small files: made, opened and checked by descriptor, never followed through a link.

use crate::fatal::{Distrust, Fatal};
use crate::sys::{self, Errno, Res, Stat, as_fd, cstr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use zeroize::Zeroizing;

/// An opened folder and what it is called.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) fd: OwnedFd,
    pub(crate) path: String,
}

/// Owner and mode of a folder or file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

pub(crate) const fn root(mode: u32) -> Owner {
    Owner { uid: 0, gid: 0, mode }
}

fn file_error<'a>(what: &'static str, path: &'a str) -> impl Fn(Errno) -> Fatal + 'a {
    move |errno| Fatal::File { what, path: path.to_owned(), errno }
}

fn untrusted(path: &str, why: Distrust) -> Fatal {
    Fatal::Untrusted { path: path.to_owned(), why }
}

/// Walks to `path` from the top, one component after the other. Each must be a real folder of root's that nobody
/// else can write to (or a sticky one, like `/tmp`) and, with `passable`, that other accounts can pass. What is
/// missing is made when `make`.
pub(crate) fn walk(path: &Path, make: bool, passable: bool) -> Result<Folder, Fatal> {
    let path = absolute(path)?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let mut fd = sys::open(c"/", flags).map_err(file_error("open", "/"))?;
    let mut name = String::new();
    for component in path.components() {
        let part = match component {
            Component::Normal(part) => part,
            Component::RootDir | Component::CurDir => continue,
            Component::ParentDir | Component::Prefix(_) => {
                return Err(untrusted(&path.display().to_string(), Distrust::DotDot));
            }
        };
        name = format!("{name}/{}", part.to_string_lossy());
        let part = cstr(part.as_encoded_bytes()).map_err(file_error("open", &name))?;
        if make {
            match sys::mkdirat(as_fd(&fd), &part, 0o755) {
                Ok(()) => {
                    // Whatever the umask was.
                    let new = sys::open_dir(as_fd(&fd), &part).map_err(file_error("open", &name))?;
                    sys::fchmod(as_fd(&new), 0o755).map_err(file_error("set the mode of", &name))?;
                }
                Err(Errno(libc::EEXIST)) => {}
                Err(e) => return Err(file_error("create", &name)(e)),
            }
        }
        fd = match sys::open_dir(as_fd(&fd), &part) {
            Err(Errno(libc::ENOTDIR | libc::ELOOP)) => return Err(untrusted(&name, kind_of(as_fd(&fd), &part))),
            other => other.map_err(file_error("open", &name))?,
        };
        let stat = sys::fstat(as_fd(&fd)).map_err(file_error("look at", &name))?;
        trusted(&stat, &name, passable)?;
    }
    Ok(Folder { fd, path: if name.is_empty() { "/".to_owned() } else { name } })
}

fn absolute(path: &Path) -> Result<PathBuf, Fatal> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let here = std::env::current_dir().map_err(|e| Fatal::Step { what: "find the current folder", errno: e.into() })?;
    Ok(here.join(path))
}

fn kind_of(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Distrust {
    let link = sys::openat(dir, name, libc::O_PATH, 0)
        .and_then(|fd| sys::fstat(as_fd(&fd)))
        .is_ok_and(|s| s.mode & libc::S_IFMT == libc::S_IFLNK);
    if link { Distrust::Symlink } else { Distrust::NotADirectory }
}

fn trusted(stat: &Stat, name: &str, passable: bool) -> Result<(), Fatal> {
    let sticky = stat.mode & libc::S_ISVTX != 0;
    let why = if stat.uid != 0 {
        Distrust::Owner(stat.uid)
    } else if stat.open_to_others() && !sticky {
        Distrust::Writable(stat.permissions())
    } else if passable && stat.mode & 0o001 == 0 {
        Distrust::Closed(stat.permissions())
    } else {
        return Ok(());
    };
    Err(untrusted(name, why))
}

impl Folder {
    fn child(&self, name: &str) -> String {
        format!("{}/{name}", self.path.trim_end_matches('/'))
    }

    /// Opens a folder in this one, or makes it. One that is there must be as it would have been made.
    pub(crate) fn folder(&self, name: &str, owner: Owner) -> Result<Self, Fatal> {
        self.prepared(name, owner, |_| Ok(()))
    }

    /// As [`Folder::folder`], with `prepare` called while a new one is still root's.
    pub(crate) fn prepared(
        &self,
        name: &str,
        owner: Owner,
        prepare: impl FnOnce(&Self) -> Result<(), Fatal>,
    ) -> Result<Self, Fatal> {
        let path = self.child(name);
        let c_name = cstr(name).map_err(file_error("create", &path))?;
        match sys::mkdirat(as_fd(&self.fd), &c_name, 0o700) {
            Ok(()) | Err(Errno(libc::EEXIST)) => {}
            Err(e) => return Err(file_error("create", &path)(e)),
        }
        let fd = match sys::open_dir(as_fd(&self.fd), &c_name) {
            Err(Errno(libc::ENOTDIR | libc::ELOOP)) => return Err(untrusted(&path, kind_of(as_fd(&self.fd), &c_name))),
            other => other.map_err(file_error("open", &path))?,
        };
        let stat = sys::fstat(as_fd(&fd)).map_err(file_error("look at", &path))?;
        // Root's: made a moment ago, by us or by one of us that was interrupted.
        if stat.uid != 0 && stat.uid != owner.uid {
            return Err(untrusted(&path, Distrust::Owner(stat.uid)));
        }
        if stat.open_to_others() && stat.permissions() != owner.mode {
            return Err(untrusted(&path, Distrust::Writable(stat.permissions())));
        }
        let folder = Self { fd, path };
        prepare(&folder)?;
        sys::fchown(as_fd(&folder.fd), owner.uid, owner.gid).map_err(file_error("give away", &folder.path))?;
        sys::fchmod(as_fd(&folder.fd), owner.mode).map_err(file_error("set the mode of", &folder.path))?;
        Ok(folder)
    }

    /// The folder of a farm itself: new, empty, or laid out before. Nothing else is taken over.
    pub(crate) fn farm(path: &Path) -> Result<Self, Fatal> {
        let path = absolute(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(untrusted("/", Distrust::Foreign));
        };
        let parent = walk(parent, true, true)?;
        let found = Self::existing(&parent, name)?;
        if let Some(found) = found {
            let laid_out = sys::open_dir(as_fd(&found.fd), c"launcher").is_ok();
            if !laid_out && !is_empty(&found.fd) {
                return Err(untrusted(&found.path, Distrust::Foreign));
            }
        }
        parent.folder(&name.to_string_lossy(), root(0o755))
    }

    fn existing(parent: &Self, name: &std::ffi::OsStr) -> Result<Option<Self>, Fatal> {
        let path = format!("{}/{}", parent.path.trim_end_matches('/'), name.to_string_lossy());
        let c_name = cstr(name.as_encoded_bytes()).map_err(file_error("open", &path))?;
        match sys::open_dir(as_fd(&parent.fd), &c_name) {
            Err(Errno(libc::ENOENT)) => Ok(None),
            Err(Errno(libc::ENOTDIR | libc::ELOOP)) => Err(untrusted(&path, kind_of(as_fd(&parent.fd), &c_name))),
            other => other.map(|fd| Some(Self { fd, path: path.clone() })).map_err(file_error("open", &path)),
        }
    }

    /// The content of a small file that belongs to `uid` and that nobody else can write to; `None` when missing.
    pub(crate) fn read(&self, name: &str, uid: u32, max: usize) -> Result<Option<Zeroizing<Vec<u8>>>, Fatal> {
        let path = self.child(name);
        let c_name = cstr(name).map_err(file_error("open", &path))?;
        let fd = match sys::openat(as_fd(&self.fd), &c_name, libc::O_RDONLY | libc::O_NONBLOCK, 0) {
            Err(Errno(libc::ENOENT)) => return Ok(None),
            Err(Errno(libc::ELOOP)) => return Err(untrusted(&path, Distrust::Symlink)),
            other => other.map_err(file_error("open", &path))?,
        };
        let stat = sys::fstat(as_fd(&fd)).map_err(file_error("look at", &path))?;
        if !stat.is_file() {
            return Err(untrusted(&path, Distrust::NotAFile));
        }
        if stat.uid != uid {
            return Err(untrusted(&path, Distrust::Owner(stat.uid)));
        }
        if stat.open_to_others() {
            return Err(untrusted(&path, Distrust::Writable(stat.permissions())));
        }
        let bytes = sys::read_from(as_fd(&fd), 0, max).map_err(file_error("read", &path))?;
        Ok(Some(Zeroizing::new(bytes)))
    }

    /// Puts a file there, complete or not at all, replacing an older one.
    pub(crate) fn write(&self, name: &str, bytes: &[u8], owner: Owner) -> Result<(), Fatal> {
        let path = self.child(name);
        self.try_write(name, bytes, owner).map_err(file_error("write", &path))
    }

    fn try_write(&self, name: &str, bytes: &[u8], owner: Owner) -> Res<()> {
        let dir = as_fd(&self.fd);
        let (new, name) = (cstr(format!(".{name}.new"))?, cstr(name)?);
        match sys::unlinkat(dir, &new, 0) {
            Ok(()) | Err(Errno(libc::ENOENT)) => {}
            Err(e) => return Err(e),
        }
        let fd = sys::openat(dir, &new, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600)?;
        sys::write_all(as_fd(&fd), bytes)?;
        sys::fchown(as_fd(&fd), owner.uid, owner.gid)?;
        sys::fchmod(as_fd(&fd), owner.mode)?;
        sys::fsync(as_fd(&fd))?;
        sys::renameat(dir, &new, &name, 0)?;
        sys::fsync(dir)
    }

    /// 32 or 16 bytes kept as hexadecimal text: read, or drawn once.
    pub(crate) fn secret<const N: usize>(&self, name: &str, owner: Owner) -> Result<Zeroizing<[u8; N]>, Fatal> {
        if let Some(bytes) = self.hex(name, owner.uid)? {
            return Ok(bytes);
        }
        let draw = |errno| Fatal::Step { what: "draw random bytes", errno };
        let bytes = Zeroizing::new(sys::random::<N>().map_err(draw)?);
        let text = Zeroizing::new(warrant::hex(bytes.as_slice()) + "\n");
        self.write(name, text.as_bytes(), owner)?;
        Ok(bytes)
    }

    /// As [`Folder::secret`], but `None` when missing.
    pub(crate) fn hex<const N: usize>(&self, name: &str, uid: u32) -> Result<Option<Zeroizing<[u8; N]>>, Fatal> {
        let Some(text) = self.read(name, uid, 4096)? else { return Ok(None) };
        let bytes = std::str::from_utf8(&text).ok().and_then(|t| warrant::unhex(t.trim())).map(Zeroizing::new);
        let bytes: Option<[u8; N]> = bytes.and_then(|b| b.as_slice().try_into().ok());
        match bytes {
            Some(bytes) => Ok(Some(Zeroizing::new(bytes))),
            None => Err(Fatal::Malformed { path: self.child(name), want: "a key in hexadecimal" }),
        }
    }

    /// Held as long as the descriptor is: one of us per folder.
    pub(crate) fn lock(&self, name: &str, patience: std::time::Duration) -> Result<OwnedFd, Fatal> {
        let path = self.child(name);
        let open = || sys::openat(as_fd(&self.fd), &cstr(name)?, libc::O_RDWR | libc::O_CREAT, 0o600);
        let fd = open().map_err(file_error("open", &path))?;
        match sys::lock(as_fd(&fd), patience) {
            Err(Errno(libc::EWOULDBLOCK)) => Err(Fatal::Locked { path: self.path.clone() }),
            other => other.map(|()| fd).map_err(file_error("lock", &path)),
        }
    }
}

pub(crate) fn is_empty(fd: &OwnedFd) -> bool {
    use std::os::fd::AsRawFd as _;
    std::fs::read_dir(format!("/proc/self/fd/{}", fd.as_raw_fd())).is_ok_and(|mut d| d.next().is_none())
}

/// Opens a program once, to be started by descriptor: one of `owners`', and nobody else can write to it.
pub(crate) fn program(path: &Path, owners: &[u32]) -> Result<OwnedFd, Fatal> {
    let name = path.display().to_string();
    let open = || sys::open(&cstr(path.as_os_str().as_encoded_bytes())?, libc::O_PATH);
    let fd = open().map_err(file_error("open", &name))?;
    let stat = sys::fstat(as_fd(&fd)).map_err(file_error("look at", &name))?;
    if !stat.is_file() {
        return Err(untrusted(&name, Distrust::NotAFile));
    }
    if !owners.contains(&stat.uid) {
        return Err(untrusted(&name, Distrust::Owner(stat.uid)));
    }
    if stat.open_to_others() {
        return Err(untrusted(&name, Distrust::Writable(stat.permissions())));
    }
    Ok(fd)
}
