//! Why a launcher or a host did not start: printed once, with what would change it.

use crate::conf::ConfError;
use crate::ids::BadIds;
use crate::log::LogError;
use crate::refusal::Refusal;
use crate::sys::Errno;
use std::fmt;

#[derive(Debug)]
pub(crate) enum Fatal {
    Usage(UsageError),
    NotRoot,
    Conf(ConfError),
    Log(LogError),
    Ids(BadIds),
    /// A step on a file or folder failed.
    File {
        what: &'static str,
        path: String,
        errno: Errno,
    },
    /// A step without a file.
    Step {
        what: &'static str,
        errno: Errno,
    },
    /// Somebody else could change or replace it.
    Untrusted {
        path: String,
        why: Distrust,
    },
    /// A key or id file with something else in it.
    Malformed {
        path: String,
        want: &'static str,
    },
    NoTrustedKeys {
        path: String,
    },
    /// Another launcher or host works on the same folder.
    Locked {
        path: String,
    },
    NoFreeId,
    /// A throwaway id was given to a real account since.
    IdTaken {
        id: u32,
    },
    NoSuchAccount {
        name: String,
    },
    /// Whether an account or an id is anybody's is not known.
    DirectoryDown {
        errno: Errno,
    },
    /// A service of the directory does not answer.
    Directory(Refusal),
    /// A child says that starting it again can't help.
    ChildUsage {
        name: String,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UsageError {
    NoForm,
    Unknown(String),
    Missing(&'static str),
    NoValue(String),
    BadValue { option: String, value: String },
}

/// What is wrong with a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distrust {
    /// Belongs to this uid.
    Owner(u32),
    /// Group or others may write to it.
    Writable(u32),
    Symlink,
    NotADirectory,
    NotAFile,
    /// Other accounts can't pass through it.
    Closed(u32),
    /// Not empty, and nothing that we laid out.
    Foreign,
    DotDot,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(uid) => write!(f, "belongs to uid {uid}, who could change it"),
            Self::Writable(mode) => write!(f, "can be changed by others (mode {mode:03o}): chmod go-w it"),
            Self::Symlink => f.write_str("is a symbolic link: name the place it leads to"),
            Self::NotADirectory => f.write_str("is not a folder"),
            Self::NotAFile => f.write_str("is not a regular file"),
            Self::Closed(mode) => write!(
                f,
                "can't be passed by the accounts of jobs (mode {mode:03o}): chmod o+x it, or choose a folder elsewhere"
            ),
            Self::Foreign => f.write_str("has other things in it: name a new or empty folder"),
            Self::DotDot => f.write_str("contains `..`: write the path without it"),
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoForm => f.write_str("expected `host`, `serve` or `checker`; see --help"),
            Self::Unknown(what) => write!(f, "unknown argument {what:?}; see --help"),
            Self::Missing(option) => write!(f, "{option} is missing; see --help"),
            Self::NoValue(option) => write!(f, "{option} needs a value"),
            Self::BadValue { option, value } => write!(f, "{option}: {value:?} is not usable"),
        }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(e) => e.fmt(f),
            Self::NotRoot => f.write_str("must be started as root: it becomes other accounts"),
            Self::Conf(e) => e.fmt(f),
            Self::Log(e) => e.fmt(f),
            Self::Ids(e) => e.fmt(f),
            Self::File { what, path, errno } => write!(f, "failed to {what} {path}: {errno}"),
            Self::Step { what, errno } => write!(f, "failed to {what}: {errno}"),
            Self::Untrusted { path, why } => write!(f, "{path} {why}"),
            Self::Malformed { path, want } => write!(f, "{path} is not {want}"),
            Self::NoTrustedKeys { path } => {
                write!(f, "{path} has no key: put the supervisor's public key there, in hexadecimal")
            }
            Self::Locked { path } => write!(f, "{path} is in use by another stead-launcher"),
            Self::NoFreeId => f.write_str(
                "found no free throwaway id from 61184 to 65519: create accounts `stead` and `stead-worker`",
            ),
            Self::IdTaken { id } => {
                write!(f, "the throwaway id {id} in `ids` belongs to a real account now: use a new data folder")
            }
            Self::NoSuchAccount { name } => write!(f, "this host knows no account {name}: create it first"),
            Self::Directory(down) => f.write_str(&down.text),
            Self::DirectoryDown { errno } => {
                // How name services say that they can't ask anybody; "No such file" would mislead.
                let why = if errno.0 == libc::ENOENT { String::new() } else { format!(" ({errno})") };
                write!(
                    f,
                    "this host's account directory does not answer{why}: every service that /etc/nsswitch.conf names \
                     must; start it, or take it out there"
                )
            }
            Self::ChildUsage { name } => {
                write!(f, "{name} could not be started as it was asked to: see its message above")
            }
        }
    }
}

impl From<ConfError> for Fatal {
    fn from(e: ConfError) -> Self {
        Self::Conf(e)
    }
}

impl From<LogError> for Fatal {
    fn from(e: LogError) -> Self {
        Self::Log(e)
    }
}

impl From<BadIds> for Fatal {
    fn from(e: BadIds) -> Self {
        Self::Ids(e)
    }
}

impl From<UsageError> for Fatal {
    fn from(e: UsageError) -> Self {
        Self::Usage(e)
    }
}
