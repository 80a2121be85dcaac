//! `launcher.conf`: what this host allows, whatever a supervisor signs.
//!
//! `key = value` lines and `#` comment lines, nothing else. A mistake is an error with file, line and key; no key
//! has a value that means "no check" by being mistyped.

use crate::sys::{self, Errno, Res, as_fd};
use std::ffi::CString;
use std::fmt;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use warrant::{AccountName, Mode};

/// Where the file is looked for when nobody names one.
pub(crate) const DEFAULT_PATH: &str = "/etc/stead/launcher.conf";
const FILE_MAX: usize = 64 << 10;
const DENIED_GROUPS: &str = "root shadow disk kmem docker lxd libvirt sudo wheel";

/// What happens to a denied supplementary group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeniedGroups {
    Strip,
    Refuse,
}

/// When a session can't gain privileges by executing something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoNewPrivs {
    Shared,
    Always,
    Never,
}

/// The local policy. The defaults are what a missing file means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conf {
    /// Lowest uid that may run anything.
    pub(crate) uid_floor: u32,
    /// Lowest primary gid. Far below: people's group may be `users`, which is 100 since long ago.
    pub(crate) gid_floor: u32,
    /// Empty = any.
    pub(crate) allowed_accounts: Vec<String>,
    pub(crate) denied_accounts: Vec<String>,
    /// The account must be in one of them. Empty = any.
    pub(crate) allowed_groups: Vec<String>,
    pub(crate) denied_groups: Vec<String>,
    pub(crate) denied_groups_action: DeniedGroups,
    pub(crate) allowed_modes: Vec<Mode>,
    /// The only account of proxy mode, when set.
    pub(crate) proxy_account: Option<String>,
    pub(crate) no_new_privs: NoNewPrivs,
    /// Most processes and threads of a session.
    pub(crate) pids_max: u32,
    /// Most open files of a process of a session.
    pub(crate) nofile: u32,
    /// Refuse what asks for a limit that can't be enforced here.
    pub(crate) require_limits: bool,
    /// Accounts are logged on with their passwords.
    pub(crate) requires_password: bool,
    pub(crate) path: String,
    pub(crate) lang: String,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            uid_floor: 1000,
            gid_floor: 100,
            allowed_accounts: Vec::new(),
            denied_accounts: Vec::new(),
            allowed_groups: Vec::new(),
            denied_groups: DENIED_GROUPS.split(' ').map(str::to_owned).collect(),
            denied_groups_action: DeniedGroups::Strip,
            allowed_modes: vec![Mode::User, Mode::Proxy],
            proxy_account: None,
            no_new_privs: NoNewPrivs::Shared,
            pids_max: 16_384,
            nofile: 65_536,
            require_limits: false,
            requires_password: false,
            path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
            lang: "C.UTF-8".to_owned(),
        }
    }
}

/// Why the file was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ConfError {
    Open {
        file: String,
        errno: Errno,
    },
    NotAFile {
        file: String,
    },
    /// Somebody but root could change it.
    NotRootOwned {
        file: String,
        uid: u32,
    },
    Writable {
        file: String,
        mode: u32,
    },
    TooLong {
        file: String,
    },
    Line {
        file: String,
        line: usize,
        what: LineError,
    },
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LineError {
    NotText,
    NoEquals,
    UnknownKey(String),
    DuplicateKey(String),
    BadValue { key: String, value: String, want: &'static str },
}

impl fmt::Display for ConfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { file, errno } => write!(f, "{file}: {errno}"),
            Self::NotAFile { file } => write!(f, "{file}: is not a regular file"),
            Self::NotRootOwned { file, uid } => {
                write!(f, "{file}: belongs to uid {uid}; it must belong to root: chown root {file}")
            }
            Self::Writable { file, mode } => {
                write!(f, "{file}: mode {mode:03o} lets others than root change it: chmod go-w {file}")
            }
            Self::TooLong { file } => write!(f, "{file}: is longer than {FILE_MAX} bytes"),
            Self::Line { file, line, what } => write!(f, "{file}:{line}:{what}"),
        }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText => f.write_str(" not UTF-8 text without control characters"),
            Self::NoEquals => f.write_str(" expected `key = value`"),
            Self::UnknownKey(key) => write!(f, "{key}: unknown key (known: {})", KEYS.join(" ")),
            Self::DuplicateKey(key) => write!(f, "{key}: given twice"),
            Self::BadValue { key, value, want } => write!(f, "{key}: {value:?} is not {want}"),
        }
    }
}

const KEYS: [&str; 16] = [
    "uid_floor",
    "gid_floor",
    "allowed_accounts",
    "denied_accounts",
    "allowed_groups",
    "denied_groups",
    "denied_groups_action",
    "allowed_modes",
    "proxy_account",
    "no_new_privs",
    "pids_max",
    "nofile",
    "require_limits",
    "requires_password",
    "path",
    "lang",
];

/// Reads the named file, or the default one, which may be missing.
pub(crate) fn load(named: Option<&Path>) -> Result<Conf, ConfError> {
    match named {
        Some(path) => read(path),
        None => match read(Path::new(DEFAULT_PATH)) {
            Err(ConfError::Open { errno: Errno(libc::ENOENT), .. }) => Ok(Conf::default()),
            other => other,
        },
    }
}

fn read(path: &Path) -> Result<Conf, ConfError> {
    let file = path.display().to_string();
    let failed = |errno| ConfError::Open { file: file.clone(), errno };
    let text = read_trusted(path, &file, failed)?;
    parse(&file, &text)
}

fn read_trusted(path: &Path, file: &str, failed: impl Fn(Errno) -> ConfError) -> Result<Vec<u8>, ConfError> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| failed(Errno(libc::EISDIR)))?;
    let dir = c_path(folder).and_then(|p| sys::open(&p, libc::O_RDONLY | libc::O_DIRECTORY)).map_err(&failed)?;
    trusted(&dir, &folder.display().to_string(), &failed)?;
    let name = sys::cstr(name.as_bytes()).map_err(&failed)?;
    let fd = sys::openat(as_fd(&dir), &name, libc::O_RDONLY | libc::O_NONBLOCK, 0).map_err(&failed)?;
    let stat = trusted(&fd, file, &failed)?;
    if !stat.is_file() {
        return Err(ConfError::NotAFile { file: file.to_owned() });
    }
    let text = sys::read_from(as_fd(&fd), 0, FILE_MAX + 1).map_err(&failed)?;
    if text.len() > FILE_MAX { Err(ConfError::TooLong { file: file.to_owned() }) } else { Ok(text) }
}

fn trusted(
    fd: &std::os::fd::OwnedFd,
    file: &str,
    failed: &impl Fn(Errno) -> ConfError,
) -> Result<sys::Stat, ConfError> {
    debug_assert!(fd.as_raw_fd() > 2);
    let stat = sys::fstat(as_fd(fd)).map_err(failed)?;
    if stat.uid != 0 {
        return Err(ConfError::NotRootOwned { file: file.to_owned(), uid: stat.uid });
    }
    if stat.open_to_others() {
        return Err(ConfError::Writable { file: file.to_owned(), mode: stat.permissions() });
    }
    Ok(stat)
}

fn c_path(path: &Path) -> Res<CString> {
    sys::cstr(path.as_os_str().as_bytes())
}

/// The whole file or nothing.
pub(crate) fn parse(file: &str, text: &[u8]) -> Result<Conf, ConfError> {
    let mut conf = Conf::default();
    let mut seen: Vec<&str> = Vec::new();
    for (index, line) in text.split(|b| *b == b'\n').enumerate() {
        let at = |what| ConfError::Line { file: file.to_owned(), line: index + 1, what };
        let line = std::str::from_utf8(line).map_err(|_| at(LineError::NotText))?;
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(at(LineError::NotText));
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| at(LineError::NoEquals))?;
        let (key, value) = (key.trim(), value.trim());
        let known = KEYS.iter().find(|k| **k == key).ok_or_else(|| at(LineError::UnknownKey(key.to_owned())))?;
        if seen.contains(known) {
            return Err(at(LineError::DuplicateKey(key.to_owned())));
        }
        seen.push(known);
        set(&mut conf, known, value)
            .map_err(|want| at(LineError::BadValue { key: key.to_owned(), value: value.to_owned(), want }))?;
    }
    Ok(conf)
}

fn set(conf: &mut Conf, key: &str, value: &str) -> Result<(), &'static str> {
    match key {
        "uid_floor" => conf.uid_floor = number(value, 1, 65_533, "a number from 1 to 65533 (uid 0 is impossible)")?,
        "gid_floor" => conf.gid_floor = number(value, 1, 65_533, "a number from 1 to 65533 (gid 0 is impossible)")?,
        "allowed_accounts" => conf.allowed_accounts = allowed(value)?,
        "denied_accounts" => conf.denied_accounts = names(value)?,
        "allowed_groups" => conf.allowed_groups = allowed(value)?,
        "denied_groups" => conf.denied_groups = names(value)?,
        "denied_groups_action" => {
            conf.denied_groups_action = match value {
                "strip" => DeniedGroups::Strip,
                "refuse" => DeniedGroups::Refuse,
                _ => return Err("strip or refuse"),
            }
        }
        "allowed_modes" => conf.allowed_modes = modes(value)?,
        "proxy_account" => {
            conf.proxy_account = Some(AccountName::parse(value).map_err(|_| "an account name")?.as_str().to_owned());
        }
        "no_new_privs" => {
            conf.no_new_privs = match value {
                "shared" => NoNewPrivs::Shared,
                "always" => NoNewPrivs::Always,
                "never" => NoNewPrivs::Never,
                _ => return Err("shared, always or never"),
            }
        }
        "pids_max" => conf.pids_max = number(value, 16, 4_194_304, "a number from 16 to 4194304")?,
        "nofile" => conf.nofile = number(value, 64, 1 << 20, "a number from 64 to 1048576")?,
        "require_limits" => conf.require_limits = flag(value)?,
        "requires_password" => conf.requires_password = flag(value)?,
        "path" => conf.path = search_path(value)?,
        "lang" => conf.lang = locale(value)?,
        _ => return Err("a known key"),
    }
    Ok(())
}

fn flag(value: &str) -> Result<bool, &'static str> {
    match value {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err("yes or no"),
    }
}

fn number(value: &str, min: u32, max: u32, want: &'static str) -> Result<u32, &'static str> {
    // `parse` would take a leading plus.
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(want);
    }
    value.parse().ok().filter(|n| (min..=max).contains(n)).ok_or(want)
}

fn names(value: &str) -> Result<Vec<String>, &'static str> {
    let words = value.split([' ', '\t', ',']).filter(|w| !w.is_empty());
    words.map(|w| AccountName::parse(w).map(|n| n.as_str().to_owned()).map_err(|_| "a list of names")).collect()
}

/// Somebody who writes an empty list means nobody, and without the line it would mean anybody.
fn allowed(value: &str) -> Result<Vec<String>, &'static str> {
    match names(value)? {
        empty if empty.is_empty() => Err("a list of names (without the line, any is allowed)"),
        names => Ok(names),
    }
}

fn modes(value: &str) -> Result<Vec<Mode>, &'static str> {
    const WANT: &str = "a list of user and proxy";
    let words: Vec<&str> = value.split([' ', '\t', ',']).filter(|w| !w.is_empty()).collect();
    if words.is_empty() {
        return Err(WANT);
    }
    let mode = |w: &&str| Mode::parse(w).filter(|m| *m != Mode::Desktop).ok_or(WANT);
    words.iter().map(mode).collect()
}

fn search_path(value: &str) -> Result<String, &'static str> {
    let clean = value.split(':').all(|part| part.starts_with('/') && !part.split('/').any(|c| c == ".."));
    if clean { Ok(value.to_owned()) } else { Err("a list of absolute folders, separated by colons") }
}

fn locale(value: &str) -> Result<String, &'static str> {
    let clean = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-@".contains(&b));
    if clean { Ok(value.to_owned()) } else { Err("the name of a locale") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse("launcher.conf", text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(parse("f", b""), Ok(Conf::default()));
        assert_eq!(parse("f", b"# only\n\n   # comments\n"), Ok(Conf::default()));
    }

    #[test]
    fn every_key_is_read() {
        let text = "uid_floor = 500\ngid_floor = 50\nallowed_accounts = ada, bob\ndenied_accounts=eve\nallowed_groups = film\n\
                    denied_groups = sudo docker\ndenied_groups_action = refuse\nallowed_modes = proxy\n\
                    proxy_account = qubeproxy\nno_new_privs = always\npids_max = 100\nnofile = 256\n\
                    require_limits = yes\nrequires_password = true\npath = /bin:/opt/x/bin\nlang = de_DE.UTF-8\n";
        let conf = parse("f", text.as_bytes()).expect("good");
        assert_eq!(
            conf,
            Conf {
                uid_floor: 500,
                gid_floor: 50,
                allowed_accounts: vec!["ada".into(), "bob".into()],
                denied_accounts: vec!["eve".into()],
                allowed_groups: vec!["film".into()],
                denied_groups: vec!["sudo".into(), "docker".into()],
                denied_groups_action: DeniedGroups::Refuse,
                allowed_modes: vec![Mode::Proxy],
                proxy_account: Some("qubeproxy".into()),
                no_new_privs: NoNewPrivs::Always,
                pids_max: 100,
                nofile: 256,
                require_limits: true,
                requires_password: true,
                path: "/bin:/opt/x/bin".into(),
                lang: "de_DE.UTF-8".into(),
            }
        );
        assert_eq!(text.lines().count(), KEYS.len(), "a new key needs a line here");
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        let cases = [
            ("uid_flor = 1", "launcher.conf:1:uid_flor: unknown key"),
            ("\n\nuid_floor = 0", "launcher.conf:3:uid_floor: \"0\" is not a number from 1"),
            ("uid_floor = -1", "uid_floor: \"-1\""),
            ("uid_floor = 1e3", "uid_floor: \"1e3\""),
            ("uid_floor = +5", "uid_floor: \"+5\""),
            ("uid_floor = 1000 # why", "uid_floor: \"1000 # why\""),
            ("uid_floor =", "uid_floor: \"\""),
            ("uid_floor = 99999999999999999999", "uid_floor"),
            ("uid_floor = 70000", "uid_floor"),
            ("UID_FLOOR = 5", "UID_FLOOR: unknown key"),
            ("uid_floor = 1\nuid_floor = 2", "launcher.conf:2:uid_floor: given twice"),
            ("gid_floor = 0", "gid_floor: \"0\" is not a number from 1"),
            ("gid_floor = users", "gid_floor: \"users\""),
            ("allowed_accounts =", "allowed_accounts: \"\" is not a list of names (without"),
            ("allowed_groups = ,", "allowed_groups: \",\""),
            ("uid_floor", "expected `key = value`"),
            ("uid_floor = 1000\r", "launcher.conf:1: not UTF-8"),
            ("\u{feff}uid_floor = 1000", "unknown key"),
            ("pids_max = 0", "pids_max"),
            ("nofile = 0", "nofile"),
            ("allowed_modes = usre", "allowed_modes: \"usre\""),
            ("allowed_modes =", "allowed_modes"),
            ("allowed_modes = desktop", "allowed_modes"),
            ("denied_groups_action = ignore", "denied_groups_action"),
            ("require_limits = maybe", "require_limits"),
            ("requires_password = 1", "requires_password"),
            ("no_new_privs = off", "no_new_privs"),
            ("proxy_account =", "proxy_account"),
            ("proxy_account = a b", "proxy_account"),
            ("allowed_accounts = -rf", "allowed_accounts"),
            ("path = bin", "path"),
            ("path = /bin::/usr/bin", "path"),
            ("path = /a/../b", "path"),
            ("lang = $(id)", "lang"),
        ];
        for (text, want) in cases {
            let got = error(text);
            assert!(got.contains(want), "{text:?}: {got}");
        }
        assert!(parse("f", b"lang = \xff").is_err());
        assert!(parse("f", b"lang = C\0").is_err());
    }
}
