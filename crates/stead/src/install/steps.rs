//! What installing consists of: steps that can be said before they are done, and undone afterwards.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Group, Uid, User, chown};
use serde::{Deserialize, Serialize};
use warrant::SecretKey;

use super::files::DATA;
use crate::failure::Failure;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A system account, or with `person` one that jobs may run as. Its password is locked.
    Account {
        name: &'static str,
        home: &'static str,
        person: bool,
    },
    Dir {
        path: &'static str,
        mode: u32,
        user: &'static str,
        group: &'static str,
    },
    /// A program of ours.
    Program {
        from: PathBuf,
        to: String,
        mode: u32,
    },
    /// Replaced when it differs: ours alone.
    Owned {
        path: String,
        text: String,
    },
    /// Kept when it is there: the administrator's.
    Settings {
        path: String,
        text: String,
    },
    Link {
        path: String,
        target: String,
    },
    /// A link that leaves alone whatever is there.
    OtherName {
        path: String,
        target: String,
    },
    /// The farm's keys, made once.
    Keys,
    Command {
        words: Vec<String>,
    },
}

/// What was really made, so that `uninstall` undoes that and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Made {
    pub(super) accounts: Vec<String>,
    pub(super) files: Vec<PathBuf>,
    pub(super) settings: Vec<PathBuf>,
    pub(super) dirs: Vec<PathBuf>,
    /// The service's worker, if it takes no jobs because the host was switched to desktop mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drained: Option<String>,
}

/// `/`, or a folder that stands for it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) root: PathBuf,
    /// Into the running system: accounts are made, owners set, services started.
    pub(super) live: bool,
}

impl Place {
    pub(super) fn at(&self, path: &str) -> PathBuf {
        let path = path.trim_start_matches('/');
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

impl Step {
    pub(super) fn say(&self) -> String {
        match self {
            Self::Account { name, person: false, .. } => format!("create the system account {name}"),
            Self::Account { name, .. } => format!("create the account {name}, without password or shell"),
            Self::Dir { path, mode, user, group } => format!("create {path} ({mode:04o} {user}:{group})"),
            Self::Program { from, to, mode } => format!("copy {} to {to} ({mode:04o})", from.display()),
            Self::Owned { path, .. } => format!("write {path}"),
            Self::Settings { path, .. } => format!("write {path}, unless it is there"),
            Self::Link { path, target } => format!("link {path} to {target}"),
            Self::OtherName { path, target } => format!("link {path} to {target}, unless something else is there"),
            Self::Keys => format!("make the farm's keys in {DATA}, unless they are there"),
            Self::Command { words } => words.join(" "),
        }
    }

    /// Does it; a second time changes nothing.
    pub(super) fn act(&self, place: &Place, made: &mut Made) -> Result<(), Failure> {
        match self {
            Self::Account { name, home, person } => account(place, name, home, *person, made),
            Self::Dir { path, mode, user, group } => dir(place, path, *mode, user, group, made),
            Self::Program { from, to, mode } => program(from, &place.at(to), *mode, made),
            Self::Owned { path, text } => owned(&place.at(path), text, made),
            Self::Settings { path, text } => settings(&place.at(path), text, made),
            Self::Link { path, target } => link(&place.at(path), target, made),
            Self::OtherName { path, target } => other_name(&place.at(path), target, made),
            Self::Keys => keys(place),
            Self::Command { words } => run(words),
        }
    }
}

fn note(list: &mut Vec<PathBuf>, path: &Path) {
    if !list.iter().any(|p| p == path) {
        list.push(path.to_owned());
    }
}

fn account(place: &Place, name: &str, home: &str, person: bool, made: &mut Made) -> Result<(), Failure> {
    if !place.live || known(name)? {
        return Ok(());
    }
    let mut words: Vec<String> = ["useradd", "--user-group", "--shell", "/usr/sbin/nologin"].map(Into::into).to_vec();
    words.extend(["--home-dir".into(), home.into()]);
    words.push(if person { "--create-home" } else { "--no-create-home" }.into());
    if !person {
        words.push("--system".into());
    }
    words.push(name.into());
    run(&words)?;
    made.accounts.push(name.into());
    Ok(())
}

fn known(name: &str) -> Result<bool, Failure> {
    User::from_name(name).map(|u| u.is_some()).map_err(|e| Failure::system("look up an account", e))
}

fn dir(place: &Place, path: &str, mode: u32, user: &str, group: &str, made: &mut Made) -> Result<(), Failure> {
    let at = place.at(path);
    let fail = |e| Failure::file("create the folder", &at, e);
    if let Some(parent) = at.parent() {
        std::fs::create_dir_all(parent).map_err(fail)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(&at) {
        Ok(()) => note(&mut made.dirs, &at),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            if !std::fs::symlink_metadata(&at).map_err(fail)?.is_dir() {
                return Err(fail(std::io::Error::other("something else is there")));
            }
        }
        Err(e) => return Err(fail(e)),
    }
    if place.live {
        chown(&at, Some(uid(user)?), Some(gid(group)?)).map_err(|e| fail(e.into()))?;
    }
    std::fs::set_permissions(&at, Permissions::from_mode(mode)).map_err(fail)
}

fn uid(name: &str) -> Result<Uid, Failure> {
    let user = User::from_name(name).map_err(|e| Failure::system("look up an account", e))?;
    user.map(|u| u.uid).ok_or_else(|| Failure::Identity(format!("there is no account {name}")))
}

fn gid(name: &str) -> Result<Gid, Failure> {
    let group = Group::from_name(name).map_err(|e| Failure::system("look up a group", e))?;
    group.map(|g| g.gid).ok_or_else(|| Failure::Identity(format!("there is no group {name}")))
}

/// Complete or not at all; a program that runs keeps its old file.
fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let fail = |e| Failure::file("write", path, e);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(fail)?;
    }
    let mut fresh = path.to_owned().into_os_string();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    // What an interrupted installation left.
    let _ = std::fs::remove_file(&fresh);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(mode)).map_err(fail)?;
    std::fs::rename(&fresh, path).map_err(fail)
}

fn program(from: &Path, to: &Path, mode: u32, made: &mut Made) -> Result<(), Failure> {
    let bytes = std::fs::read(from).map_err(|e| Failure::file("read", from, e))?;
    note(&mut made.files, to);
    put(to, &bytes, mode)
}

fn owned(path: &Path, text: &str, made: &mut Made) -> Result<(), Failure> {
    note(&mut made.files, path);
    put(path, text.as_bytes(), 0o644)
}

fn settings(path: &Path, text: &str, made: &mut Made) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    note(&mut made.settings, path);
    put(path, text.as_bytes(), 0o644)
}

fn link(path: &Path, target: &str, made: &mut Made) -> Result<(), Failure> {
    let fail = |e| Failure::file("link", path, e);
    if std::fs::read_link(path).is_ok_and(|t| t == Path::new(target)) {
        note(&mut made.files, path);
        return Ok(());
    }
    if std::fs::symlink_metadata(path).is_ok_and(|m| !m.is_symlink()) {
        return Err(fail(std::io::Error::other("something else is there")));
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(fail)?;
    }
    let _ = std::fs::remove_file(path);
    symlink(target, path).map_err(fail)?;
    note(&mut made.files, path);
    Ok(())
}

/// Qube! itself may be installed here.
fn other_name(path: &Path, target: &str, made: &mut Made) -> Result<(), Failure> {
    let is_ours = std::fs::read_link(path).is_ok_and(|t| t == Path::new(target));
    if !is_ours && std::fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    link(path, target, made)
}

/// The supervisor gets its key, root pins its public half for the launcher; both know the farm's number.
fn keys(place: &Place) -> Result<(), Failure> {
    let (supervisor, launcher) = (place.at(DATA).join("supervisor"), place.at(DATA).join("launcher"));
    let farm = kept::<16>(&launcher.join("farm"), 0o600, None)?;
    if !supervisor.is_dir() {
        return Ok(());
    }
    let owner = if place.live { Some((uid("stead")?, gid("stead")?)) } else { None };
    let seed = kept::<32>(&supervisor.join("warrant.key"), 0o600, owner)?;
    let pinned = launcher.join("trusted.keys");
    if !pinned.exists() {
        let public = warrant::hex(&SecretKey::from_seed(&seed).public().to_bytes());
        put(&pinned, format!("{public}\n").as_bytes(), 0o600)?;
    }
    let copy = supervisor.join("farm");
    if !copy.exists() {
        put(&copy, format!("{}\n", warrant::hex(&farm)).as_bytes(), 0o600)?;
        give(&copy, owner)?;
    }
    Ok(())
}

/// Bytes kept as hexadecimal text: read, or drawn once.
fn kept<const N: usize>(path: &Path, mode: u32, owner: Option<(Uid, Gid)>) -> Result<[u8; N], Failure> {
    let fail = |text: &str| Failure::Input { file: path.display().to_string(), text: text.into() };
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() => return Err(fail("is not a file")),
        Ok(_) => {
            let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, e))?;
            let bytes = warrant::unhex(text.trim()).and_then(|b| b.try_into().ok());
            return bytes.ok_or_else(|| fail("is not a key in hexadecimal"));
        }
        Err(_) => {}
    }
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|e| Failure::system("draw random bytes", std::io::Error::other(e)))?;
    put(path, format!("{}\n", warrant::hex(&bytes)).as_bytes(), mode)?;
    give(path, owner)?;
    Ok(bytes)
}

fn give(path: &Path, owner: Option<(Uid, Gid)>) -> Result<(), Failure> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).map_err(|e| Failure::file("give away", path, e))
}

pub(super) fn run(words: &[String]) -> Result<(), Failure> {
    let line = words.join(" ");
    let Some((program, args)) = words.split_first() else { return Ok(()) };
    // What they print is for people; standard output is ours.
    let done = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status();
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::ServiceEnded { program: line, said: Some(status.to_string()) }),
        Err(e) => Err(Failure::file("start", program, e)),
    }
}
