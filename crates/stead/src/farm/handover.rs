//! Handing a job's files to the person who asked for them, and removing what a one-shot farm leaves.
//!
//! Regular files only, and never through a symbolic link (`tree`). Where the person is root, one process that became
//! the job's account reads, another that became nobody writes into a folder closed to everyone else, and root then
//! takes over what that one wrote. Root removes nothing that is beneath a folder of another: a process that became
//! that folder's owner does.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, geteuid, unlinkat};

use super::identity;
use super::programs::myself;
use super::tree::{self, Copied};
use crate::failure::Failure;

/// How deep folders may be nested.
const DEPTH_MAX: usize = 64;
pub(super) const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A new, empty folder that only its owner can enter.
#[derive(Debug)]
pub(crate) struct OutDir {
    pub(crate) path: PathBuf,
    pub(crate) folder: OwnedFd,
}

impl OutDir {
    /// `BASE/NAME`, or `BASE/NAME-2` … when that is taken: nothing is ever overwritten.
    pub(crate) fn create(base: &Path, name: &str) -> Result<Self, Failure> {
        let parent = open_base(base)?;
        let name = file_name(name);
        for n in 1..10_000_u32 {
            let candidate = if n == 1 { name.clone() } else { format!("{name}-{n}") };
            let path = base.join(&candidate);
            match mkdirat(&parent, candidate.as_str(), Mode::S_IRWXU) {
                Ok(()) => {
                    let folder = openat(&parent, candidate.as_str(), FOLDER, Mode::empty())
                        .map_err(|e| Failure::file("open", &path, e))?;
                    return Ok(Self { path, folder });
                }
                Err(Errno::EEXIST) => {}
                Err(e) => return Err(Failure::file("create the folder", &path, e)),
            }
        }
        Err(Failure::file("find a free name in", base, Errno::EEXIST))
    }

    /// A folder within, just as closed.
    pub(crate) fn within(&self, name: &str) -> Result<Self, Failure> {
        let path = self.path.join(name);
        mkdirat(&self.folder, name, Mode::S_IRWXU).map_err(|e| Failure::file("create the folder", &path, e))?;
        let folder = openat(&self.folder, name, FOLDER, Mode::empty()).map_err(|e| Failure::file("open", &path, e))?;
        Ok(Self { path, folder })
    }

    /// A new file within.
    pub(crate) fn file(&self, name: &str) -> Result<std::fs::File, Failure> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.folder, name, flags, Mode::from_bits_truncate(0o644));
        file.map(Into::into).map_err(|e| Failure::file("create", self.path.join(name), e))
    }

    /// Gives everything to the person this process belongs to, and opens the folder to others' eyes.
    pub(crate) fn hand_over(&self) -> Result<(), Failure> {
        let fail = |e| Failure::file("hand over", &self.path, e);
        if geteuid().is_root() {
            own(self.folder.as_fd(), DEPTH_MAX).map_err(fail)?;
        }
        fchmod(&self.folder, Mode::from_bits_truncate(0o755)).map_err(fail)
    }

    pub(crate) fn remove_if_empty(&self) -> bool {
        std::fs::remove_dir(&self.path).is_ok()
    }
}

/// The folder for outputs. Root writes only into one that is root's alone.
fn open_base(base: &Path) -> Result<OwnedFd, Failure> {
    if let Some(parent) = base.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|e| Failure::file("create the folder", parent, e))?;
    }
    match std::fs::create_dir(base) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::file("create the folder", base, e));
        }
        _ => {}
    }
    // A link as the last part is followed for a person, who may do as he likes, but never for root.
    let flags = if geteuid().is_root() { FOLDER } else { FOLDER - OFlag::O_NOFOLLOW };
    let folder = open(base, flags, Mode::empty()).map_err(|e| Failure::file("open the folder", base, e))?;
    let stat = fstat(&folder).map_err(|e| Failure::file("look at", base, e))?;
    if geteuid().is_root() && (stat.st_uid != 0 || stat.st_mode & 0o022 != 0) {
        return Err(Failure::Refused {
            rule: "root_writes_only_its_own",
            text: format!(
                "{} belongs to uid {} with mode {:o}: root doesn't write into a folder that others can change",
                base.display(),
                stat.st_uid,
                stat.st_mode & 0o7777
            ),
            hint: "name another folder with --out DIR".into(),
        });
    }
    Ok(folder)
}

/// A job's name as a file's name.
fn file_name(name: &str) -> String {
    let clean: String =
        name.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' }).take(60).collect();
    let clean = clean.trim_matches(['-', '.']);
    if clean.is_empty() { "job".into() } else { clean.into() }
}

/// Copies what is beneath a job's folder into `out`: read by its owner, written by somebody else.
///
/// As root neither is this process: one that became the owner reads, one that became nobody writes.
pub(crate) fn copy(job_folder: &Path, only: Option<&str>, out: &OutDir) -> Result<Copied, Failure> {
    let fail = |e: Errno| Failure::file("copy", job_folder, e);
    let source = open(job_folder, FOLDER, Mode::empty()).map_err(fail)?;
    if geteuid().is_root() {
        let stat = fstat(&source).map_err(fail)?;
        return copy_by_others(&source, stat.st_uid, stat.st_gid, only, out);
    }
    let (reader, writer) = std::io::pipe().map_err(|e| Failure::system("make a pipe", e))?;
    std::thread::scope(|threads| {
        let sent = threads.spawn(|| tree::send(source.as_fd(), only, writer));
        let copied = tree::receive(reader, out.folder.as_fd());
        match (sent.join(), copied) {
            (Ok(Ok(())), Ok(copied)) => Ok(copied),
            (Ok(Err(e)), _) | (_, Err(e)) => Err(Failure::file("copy", job_folder, e)),
            (Err(_), _) => Err(fail(Errno::EIO)),
        }
    })
}

fn copy_by_others(source: &OwnedFd, uid: u32, gid: u32, only: Option<&str>, out: &OutDir) -> Result<Copied, Failure> {
    let fail = |e: std::io::Error| Failure::file("copy into", &out.path, e);
    let (reader, writer) = std::io::pipe().map_err(fail)?;
    let nobody = identity::unallocated_id()?;
    let id = Uid::from_raw(nobody);
    fchown(&out.folder, Some(id), Some(Gid::from_raw(nobody))).map_err(|e| fail(e.into()))?;
    let mut send = myself();
    send.args(["internal", "send-tree", "--uid", &uid.to_string(), "--gid", &gid.to_string()]);
    only.iter().for_each(|only| {
        send.args(["--only", only]);
    });
    let mut sender = send.stdin(source.try_clone().map_err(fail)?).stdout(writer).spawn().map_err(fail)?;
    drop(send);
    // The folder travels as standard error: a descriptor that needs no number.
    let answer = myself()
        .args(["internal", "receive-tree", "--uid", &nobody.to_string()])
        .stdin(reader)
        .stderr(out.folder.try_clone().map_err(fail)?)
        .output()
        .map_err(fail)?;
    let sent = sender.wait().map_err(fail)?;
    match (sent.success(), serde_json::from_slice(&answer.stdout)) {
        (true, Ok(copied)) if answer.status.success() => Ok(copied),
        _ => Err(fail(std::io::Error::other("the processes that copy did not finish"))),
    }
}

/// The reading half: its standard input is the job's folder.
pub(crate) fn send_as(uid: u32, gid: u32, only: Option<&str>) -> Result<(), Failure> {
    give_up(uid, gid)?;
    let (from, to) = (std::io::stdin(), std::io::stdout());
    tree::send(from.as_fd(), only, to.lock()).map_err(|e| Failure::system("read the job's folder", e))
}

/// The writing half: its standard error is the target's folder.
pub(crate) fn receive_as(uid: u32) -> Result<(), Failure> {
    identity::give_up_root(Uid::from_raw(uid), Gid::from_raw(uid))?;
    let folder = std::io::stderr();
    let copied = tree::receive(std::io::stdin().lock(), folder.as_fd());
    let copied = copied.map_err(|e| Failure::system("write the copies", e))?;
    crate::out::say(serde_json::to_string(&copied).map_err(|e| Failure::Answer(e.to_string()))?);
    Ok(())
}

pub(super) fn kind_of(stat: &FileStat) -> Option<Type> {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => Some(Type::Directory),
        SFlag::S_IFREG => Some(Type::File),
        _ => None,
    }
}

/// Names that are not text are left out: no program of the farm makes them, and a copy could not name them either.
pub(super) fn entries(folder: BorrowedFd<'_>) -> Result<Vec<(String, Option<Type>)>, Errno> {
    let mut found = Vec::new();
    let mut dir = Dir::openat(folder, ".", FOLDER, Mode::empty())?;
    for entry in dir.iter() {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." {
            continue;
        }
        let name = name.to_owned();
        let kind = match fstatat(folder, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => kind_of(&stat),
            // Gone meanwhile.
            Err(Errno::ENOENT) => continue,
            Err(e) => return Err(e),
        };
        found.push((name, kind));
    }
    Ok(found)
}

/// Makes this process's person the owner of a tree that was closed to everyone but the copier. What has a second
/// name somewhere else, or is neither a file nor a folder, did not come from the copier and stays as it is.
fn own(folder: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    for (name, kind) in entries(folder)? {
        match kind {
            Some(Type::Directory) if depth > 0 => {
                own(openat(folder, name.as_str(), FOLDER, Mode::empty())?.as_fd(), depth - 1)?;
            }
            Some(Type::File) => {
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let file = openat(folder, name.as_str(), flags, Mode::empty())?;
                let stat = fstat(&file)?;
                if kind_of(&stat) == Some(Type::File) && stat.st_nlink == 1 {
                    fchown(&file, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
                }
            }
            _ => {}
        }
    }
    fchown(folder, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))
}

/// Removes a one-shot farm's folder. Beneath it, every folder is emptied by a process that is its owner.
pub(crate) fn clear(data: &Path) -> Result<(), Failure> {
    if !geteuid().is_root() {
        return std::fs::remove_dir_all(data).map_err(|e| Failure::file("remove", data, e));
    }
    let fail = |e| Failure::file("remove", data, e);
    let top = open(data, FOLDER, Mode::empty()).map_err(fail)?;
    let stat = fstat(&top).map_err(fail)?;
    if stat.st_uid == 0 {
        empty_by_owners(top.as_fd(), DEPTH_MAX).map_err(fail)?;
    } else {
        empty_as(&top, stat.st_uid, stat.st_gid).map_err(fail)?;
    }
    std::fs::remove_dir(data).map_err(|e| Failure::file("remove", data, e))
}

/// `folder` is root's own; what is in it may belong to others.
fn empty_by_owners(folder: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    for (name, kind) in entries(folder)? {
        if kind != Some(Type::Directory) {
            unlinkat(folder, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
            continue;
        }
        let inner = openat(folder, name.as_str(), FOLDER, Mode::empty())?;
        let stat = fstat(&inner)?;
        if stat.st_uid == 0 {
            if depth > 0 {
                empty_by_owners(inner.as_fd(), depth - 1)?;
            }
        } else {
            empty_as(&inner, stat.st_uid, stat.st_gid)?;
        }
        unlinkat(folder, name.as_str(), UnlinkatFlags::RemoveDir)?;
    }
    Ok(())
}

fn empty_as(folder: &OwnedFd, uid: u32, gid: u32) -> Result<(), Errno> {
    let errno = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(0));
    let stdin = folder.try_clone().map_err(errno)?;
    let status = myself()
        .args(["internal", "remove", "--uid", &uid.to_string(), "--gid", &gid.to_string()])
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::null())
        .status()
        .map_err(errno)?;
    if status.success() { Ok(()) } else { Err(Errno::ENOTEMPTY) }
}

/// The helper of [`empty_as`]: its standard input is the folder.
pub(crate) fn remove_as(uid: u32, gid: u32) -> Result<(), Failure> {
    give_up(uid, gid)?;
    let stdin = std::io::stdin();
    empty(stdin.as_fd(), DEPTH_MAX).map_err(|e| Failure::system("empty a job's folder", e))
}

/// An account's group may be root's; neither reading nor removing one's own needs a group, so any other will do.
fn give_up(uid: u32, gid: u32) -> Result<(), Failure> {
    let gid = if gid == 0 { uid } else { gid };
    identity::give_up_root(Uid::from_raw(uid), Gid::from_raw(gid))
}

fn empty(folder: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    for (name, kind) in entries(folder)? {
        if kind == Some(Type::Directory) && depth > 0 {
            // A folder that its owner closed to himself.
            let inner = match openat(folder, name.as_str(), FOLDER, Mode::empty()) {
                Err(Errno::EACCES) => {
                    nix::sys::stat::fchmodat(
                        folder,
                        name.as_str(),
                        Mode::S_IRWXU,
                        nix::sys::stat::FchmodatFlags::FollowSymlink,
                    )?;
                    openat(folder, name.as_str(), FOLDER, Mode::empty())?
                }
                other => other?,
            };
            empty(inner.as_fd(), depth - 1)?;
            unlinkat(folder, name.as_str(), UnlinkatFlags::RemoveDir)?;
        } else {
            unlinkat(folder, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn job_folder() -> tempfile::TempDir {
        let job = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir_all(job.path().join("frames/deep")).expect("dirs");
        std::fs::create_dir(job.path().join(".stead")).expect("dir");
        std::fs::write(job.path().join(".stead/inner"), "x").expect("file");
        std::fs::write(job.path().join("frames/1.png"), "one").expect("file");
        std::fs::write(job.path().join("frames/deep/run.sh"), "sh").expect("file");
        let exec = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(job.path().join("frames/deep/run.sh"), exec).expect("mode");
        symlink("/etc/passwd", job.path().join("link")).expect("link");
        symlink("/etc", job.path().join("frames/etc")).expect("link");
        job
    }

    /// Both halves in this process, as for a person: a test must not give up anything.
    fn copy_here(job: &tempfile::TempDir, only: Option<&str>, out: &OutDir) -> std::io::Result<Copied> {
        let source = open(job.path(), FOLDER, Mode::empty())?;
        let mut bytes = Vec::new();
        tree::send(source.as_fd(), only, &mut bytes)?;
        tree::receive(bytes.as_slice(), out.folder.as_fd())
    }

    fn out(base: &tempfile::TempDir) -> OutDir {
        std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o755)).expect("mode");
        OutDir::create(&base.path().join("out"), "a job").expect("out folder")
    }

    #[test]
    fn regular_files_are_copied_and_links_are_not_followed() {
        let (job, base) = (job_folder(), tempfile::tempdir().expect("tempdir"));
        let target = out(&base);
        let copied = copy_here(&job, None, &target).expect("copied");
        assert_eq!((copied.files, copied.bytes, copied.special), (2, 5, 2));
        assert!(!target.path.join("link").exists() && !target.path.join("frames/etc").exists());
        assert!(!target.path.join(".stead").exists());
        target.hand_over().expect("handed over");
        let mode = |p: &str| std::fs::metadata(target.path.join(p)).expect("there").permissions().mode() & 0o777;
        assert_eq!(
            (mode("."), mode("frames/1.png") & 0o600, mode("frames/deep/run.sh") & 0o100),
            (0o755, 0o600, 0o100)
        );
    }

    #[test]
    fn only_what_was_asked_for() {
        let (job, base) = (job_folder(), tempfile::tempdir().expect("tempdir"));
        let target = out(&base);
        assert_eq!(copy_here(&job, Some("frames"), &target).expect("copied").files, 2);
        assert!(target.path.join("1.png").exists());
        assert!(copy_here(&job, Some("../x"), &target).is_err());
        assert!(copy_here(&job, Some("frames/etc/passwd"), &target).is_err());
    }

    #[test]
    fn nothing_is_overwritten() {
        let base = tempfile::tempdir().expect("tempdir");
        let first = out(&base);
        let second = out(&base);
        assert!(first.path.ends_with("a-job") && second.path.ends_with("a-job-2"));
    }

    #[test]
    fn names_become_file_names() {
        for (name, file) in [("../../etc", "etc"), ("a b/c", "a-b-c"), ("", "job"), ("..", "job"), ("été", "été")] {
            assert_eq!(file_name(name), file);
        }
    }

    #[test]
    fn a_folder_is_emptied_and_what_links_point_at_stays() {
        let job = job_folder();
        let keep = tempfile::tempdir().expect("tempdir");
        std::fs::write(keep.path().join("kept"), "x").expect("file");
        symlink(keep.path(), job.path().join("out")).expect("link");
        let folder = open(job.path(), FOLDER, Mode::empty()).expect("open");
        empty(folder.as_fd(), DEPTH_MAX).expect("emptied");
        assert_eq!(std::fs::read_dir(job.path()).expect("dir").count(), 0);
        assert!(keep.path().join("kept").exists());
    }
}
