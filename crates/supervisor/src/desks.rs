//! Whose desktop workers are taken besides the farm's own: a list in the farm's folder that only root writes.
//!
//! `stead worker mode desktop` writes it. What such a worker may be is little: on this host, in desktop mode, as the
//! person it belongs to, under one name, with no key of a launcher's. So being on the list gives nobody the work of
//! others, but for those whom root has it take jobs of.

use crate::dispatch::HelloError;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use warrant::{AccountName, LoginUser};
use wire::Hello;

/// In the farm's folder.
const FILE: &str = "desktop-owners";
const HEAD: &str = "\
# Who may run a desktop worker on this host: NAME UID, and whose jobs besides their own (accept=NAME,NAME or accept=any).
# `everybody` is every person who has an account here. Written by `stead worker mode`; only root may change it.
";
/// Accounts below are the system's, and these two are nobody's.
const PERSONS_FROM: u32 = 1000;
const NOBODY: [u32; 2] = [65534, 65535];
/// Connections of one person's worker: its channel, and what it brings.
const CONNECTIONS: usize = 16;
/// Of a host's or an account's name in the name of a worker.
const HOST_MAX: usize = 40;
const OWNER_MAX: usize = 22;

/// A person who may run a desktop worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desk {
    pub owner: AccountName,
    pub uid: u32,
    /// Whose jobs it may take beside its owner's: names, or `any`.
    pub accept: Vec<String>,
}

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desks {
    pub people: Vec<Desk>,
    pub everybody: bool,
}

/// Why there is no list to go by.
#[derive(Debug, thiserror::Error)]
pub enum DesksError {
    #[error("failed to read {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error(
        "{} belongs to uid {owner} and has mode {mode:o}: only root may be able to change it",
        path.display()
    )]
    NotRoots { path: PathBuf, owner: u32, mode: u32 },
    #[error("{}:{line}: {text}", path.display())]
    Line { path: PathBuf, line: usize, text: String },
}

impl Desks {
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join(FILE)
    }

    /// The list of the farm in `data`, which the account `own` runs; there is none unless root made one.
    ///
    /// # Errors
    /// What is wrong with it. Nobody is on a list that can't be read.
    pub fn read(data: &Path, own: u32) -> Result<Self, DesksError> {
        let path = Self::path(data);
        let failed = |error| DesksError::Read { path: path.clone(), error };
        let found = match std::fs::symlink_metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            found => found.map_err(failed)?,
        };
        // Who runs the farm could do all that the list allows.
        let is_trusted = found.is_file() && [0, own].contains(&found.uid()) && found.mode() & 0o022 == 0;
        if !is_trusted {
            return Err(DesksError::NotRoots { path, owner: found.uid(), mode: found.mode() & 0o7777 });
        }
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        Self::parse(&path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, DesksError> {
        let mut desks = Self::default();
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                ["everybody"] => desks.everybody = true,
                words => {
                    let desk = desk(words);
                    let wrong = |text| DesksError::Line { path: path.to_owned(), line: number + 1, text };
                    desks.people.push(desk.map_err(wrong)?);
                }
            }
        }
        Ok(desks)
    }

    /// The file that says so.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{HEAD}{}", self.lines())
    }

    /// Without what explains it.
    pub(crate) fn lines(&self) -> String {
        let mut text = String::new();
        if self.everybody {
            text.push_str("everybody\n");
        }
        for Desk { owner, uid, accept } in &self.people {
            let accept = if accept.is_empty() { String::new() } else { format!(" accept={}", accept.join(",")) };
            let _ = writeln!(text, "{owner} {uid}{accept}");
        }
        text
    }

    /// Whether a person of that uid may have a worker at all.
    #[must_use]
    pub fn takes(&self, uid: u32) -> bool {
        let is_person = uid >= PERSONS_FROM && !NOBODY.contains(&uid);
        is_person && (self.everybody || self.people.iter().any(|desk| desk.uid == uid))
    }

    /// Whether this may be the worker of that uid, whose owner is known to be who the hello says.
    fn check(&self, hello: &Hello, uid: u32) -> Result<(), HelloError> {
        let owner = hello.owner.as_ref().ok_or(HelloError::NoOwner)?;
        let unlisted = || HelloError::Unlisted { owner: owner.name.clone(), uid };
        let claims_more = hello.host_key.is_some() || hello.sealing_key.is_some() || hello.proxy_account.is_some();
        if !self.takes(uid) || hello.mode != "desktop" || claims_more {
            return Err(unlisted());
        }
        let desk = self.people.iter().find(|desk| desk.uid == uid);
        if desk.is_some_and(|desk| desk.owner.as_str() != owner.name) {
            return Err(unlisted());
        }
        let wanted = desk_name(&owner.name, uid);
        if hello.name != wanted {
            return Err(HelloError::DeskName { name: hello.name.clone(), wanted });
        }
        let most = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        if hello.slots > most {
            return Err(HelloError::Slots { owner: owner.name.clone(), slots: hello.slots, most });
        }
        let may_accept = desk.map_or(&[][..], |desk| &desk.accept);
        let is_allowed = |user: &String| may_accept.contains(user) || may_accept.iter().any(|a| a == "any");
        match hello.accept.iter().find(|user| !is_allowed(user)) {
            Some(user) => Err(HelloError::Accepts { owner: owner.name.clone(), user: user.clone() }),
            None => Ok(()),
        }
    }
}

fn desk(words: &[&str]) -> Result<Desk, String> {
    let (name, uid, rest) = match words {
        [name, uid, rest @ ..] => (*name, *uid, rest),
        _ => return Err(format!("expected NAME UID [accept=NAME,…], got {:?}", words.join(" "))),
    };
    let owner = AccountName::parse(name).map_err(|e| format!("{name:?} is no name of an account: {e}"))?;
    let uid: u32 = uid.parse().map_err(|_| format!("{uid:?} is no uid"))?;
    if uid < PERSONS_FROM || NOBODY.contains(&uid) {
        return Err(format!("uid {uid} is no person's: those begin at {PERSONS_FROM}"));
    }
    let accept = match rest {
        [] => Vec::new(),
        [accept] => accepted(accept.strip_prefix("accept=").ok_or_else(|| format!("{accept:?} is not understood"))?)?,
        more => return Err(format!("{:?} is not understood", more.join(" "))),
    };
    Ok(Desk { owner, uid, accept })
}

fn accepted(list: &str) -> Result<Vec<String>, String> {
    let names = list.split(',').map(str::to_owned).collect::<Vec<_>>();
    for name in &names {
        LoginUser::parse(name).map_err(|e| format!("accept: {name:?} is no name of a user: {e}"))?;
    }
    Ok(names)
}

/// The one name a person's worker has on this host; with the uid where the owner's name can't be all in it.
#[must_use]
pub fn desk_name(owner: &str, uid: u32) -> String {
    let is_whole = owner.len() <= OWNER_MAX && owner.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let host = host_name();
    if is_whole {
        return format!("{host}-{owner}");
    }
    let kept: String = owner.chars().filter(char::is_ascii_alphanumeric).take(OWNER_MAX / 2).collect();
    format!("{host}-{kept}-{uid}")
}

/// The host's name without its domain, in characters that any name may have.
#[must_use]
pub fn host_name() -> String {
    let full = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    clean(full.split('.').next().unwrap_or_default())
}

fn clean(host: &str) -> String {
    let kept: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).take(HOST_MAX).collect();
    let kept = kept.trim_start_matches('-');
    if kept.is_empty() { "host".into() } else { kept.into() }
}

/// Who may knock at the workers' socket.
#[derive(Debug, Clone)]
pub(crate) struct Doorkeeper {
    data: PathBuf,
    own: u32,
    /// Accounts that the farm's own workers have.
    service: Vec<u32>,
    most: usize,
}

impl Doorkeeper {
    pub(crate) fn new(data: PathBuf, own: u32, service: Vec<u32>, most: usize) -> Self {
        Self { data, own, service, most }
    }

    /// The list as it is now. Blocks for as long as a short file takes.
    pub(crate) fn desks(&self) -> Result<Desks, DesksError> {
        Desks::read(&self.data, self.own)
    }

    pub(crate) fn is_service(&self, uid: u32) -> bool {
        self.service.contains(&uid)
    }

    /// How many connections that account may have; `None`: not one.
    pub(crate) fn connections(&self, uid: u32) -> Option<usize> {
        if self.is_service(uid) {
            return Some(self.most);
        }
        let desks = self.desks().inspect_err(|error| tracing::warn!("no desktop worker is taken: {error}")).ok()?;
        desks.takes(uid).then_some(CONNECTIONS)
    }

    /// Whether the worker at that end may bring anything now: the farm's own, or a person's who is still on the list.
    pub(crate) fn may_bring(&self, uid: u32, is_free: bool) -> bool {
        self.is_service(uid) || (is_free && self.connections(uid).is_some())
    }

    /// Whether this hello may come from there, by that list. A process that a session holds never is a person's worker.
    pub(crate) fn check(&self, desks: &Desks, hello: &Hello, uid: u32, is_free: bool) -> Result<(), HelloError> {
        if self.is_service(uid) {
            return Ok(());
        }
        if is_free { desks.check(hello, uid) } else { Err(HelloError::OfSession) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use wire::Account;

    fn parse(text: &str) -> Result<Desks, String> {
        Desks::parse(Path::new("f"), text).map_err(|e| e.to_string())
    }

    fn hello(owner: &str, uid: u32) -> Hello {
        let mut hello = crate::tests::fake_worker::Habits::of_ada(&desk_name(owner, uid)).hello;
        hello.owner = Some(Account { name: owner.into(), uid, gid: uid, groups: vec![] });
        hello.slots = 1;
        hello
    }

    #[test]
    fn what_is_written_is_read() {
        let desks = parse("ada 1501 accept=bob,eve # hers\n\n# none\nbob 1502\neverybody\n").expect("a list");
        assert_eq!(parse(&desks.text()), Ok(desks.clone()));
        assert_eq!((desks.people.len(), desks.everybody), (2, true));
        assert_eq!(parse(&Desks::default().text()), Ok(Desks::default()));
    }

    #[test]
    fn a_wrong_line_is_named_and_root_is_never_on_the_list() {
        for (line, said) in [
            ("ada", "f:2: expected NAME UID"),
            ("ada x", "\"x\" is no uid"),
            ("root 0", "uid 0 is no person's"),
            ("nobody 65534", "uid 65534 is no person's"),
            ("a/b 1501", "no name of an account"),
            ("ada 1501 accept=", "no name of a user"),
            ("ada 1501 take=any", "\"take=any\" is not understood"),
            ("ada 1501 accept=any more", "is not understood"),
        ] {
            let refused = parse(&format!("\n{line}")).expect_err(line);
            assert!(refused.starts_with("f:2: ") && refused.contains(said), "{line}: {refused}");
        }
        let everybody = parse("everybody").expect("a list");
        let taken: Vec<u32> = [0, 999, 1000, 1501, 65534].into_iter().filter(|uid| everybody.takes(*uid)).collect();
        assert_eq!(taken, [1000, 1501]);
        assert!(!parse("ada 1501").expect("a list").takes(1502));
    }

    #[test]
    fn a_persons_worker_is_hers_and_nothing_else() {
        let desks = parse("ada 1501 accept=bob").expect("a list");
        assert_eq!(desks.check(&hello("ada", 1501), 1501), Ok(()));
        let check = |change: &dyn Fn(&mut Hello)| {
            let mut hello = hello("ada", 1501);
            change(&mut hello);
            desks.check(&hello, 1501)
        };
        let unlisted = |owner: &str| Err(HelloError::Unlisted { owner: owner.into(), uid: 1501 });
        assert_eq!(check(&|h| h.mode = "user".into()), unlisted("ada"));
        assert_eq!(check(&|h| h.host_key = Some("00".into())), unlisted("ada"));
        assert_eq!(check(&|h| h.sealing_key = Some("00".into())), unlisted("ada"));
        assert_eq!(check(&|h| h.proxy_account = Some("render".into())), unlisted("ada"));
        assert_eq!(check(&|h| h.owner.as_mut().expect("hers").name = "eve".into()), unlisted("eve"));
        assert_eq!(check(&|h| h.owner = None), Err(HelloError::NoOwner));
        let named = check(&|h| h.name = "render-07".into()).expect_err("another name").to_string();
        assert!(named.contains("\"render-07\"") && named.contains(&desk_name("ada", 1501)), "{named}");
        assert_eq!(check(&|h| h.accept = vec!["bob".into()]), Ok(()));
        let many = check(&|h| h.slots = u32::MAX).expect_err("too many").to_string();
        assert!(many.contains("offers 4294967295 slots"), "{many}");
        for user in ["any", "eve"] {
            let refused = check(&|h| h.accept = vec!["bob".into(), user.into()]).expect_err(user);
            assert_eq!(refused, HelloError::Accepts { owner: "ada".into(), user: user.into() });
        }
        assert!(parse("eve 1501").expect("a list").check(&hello("ada", 1501), 1501).is_err(), "the uid was hers once");
    }

    #[test]
    fn nobody_is_on_a_list_that_others_can_write() {
        let dir = tempfile::tempdir().expect("dir");
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!(Desks::read(dir.path(), own).expect("none"), Desks::default());
        let path = Desks::path(dir.path());
        std::fs::write(&path, "everybody\n").expect("written");
        let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        set(0o644);
        assert!(Desks::read(dir.path(), own).expect("read").everybody);
        set(0o664);
        assert!(matches!(Desks::read(dir.path(), own), Err(DesksError::NotRoots { .. })));
        std::fs::rename(&path, dir.path().join("other")).expect("moved");
        std::os::unix::fs::symlink(dir.path().join("other"), &path).expect("link");
        assert!(matches!(Desks::read(dir.path(), own), Err(DesksError::NotRoots { .. })));
    }

    #[test]
    fn a_name_is_made_of_any_account() {
        assert_eq!((clean("vm-1").as_str(), clean("-x").as_str(), clean("été").as_str()), ("vm-1", "x", "t"));
        assert_eq!(clean("--"), "host");
        let made = |owner: &str| desk_name(owner, 1501).split_off(host_name().len() + 1);
        assert_eq!(made("ada.l_1-x"), "ada.l_1-x");
        // Two people never have one name.
        assert_eq!((made("STUDIO\\ada"), made("STUDIOada")), ("STUDIOada-1501".to_owned(), "STUDIOada".to_owned()));
        let long = "a".repeat(64);
        assert_eq!(made(&long), format!("{}-1501", "a".repeat(11)));
        assert!(HOST_MAX + 1 + OWNER_MAX.max(OWNER_MAX / 2 + 11) <= warrant::names::NAME_MAX);
    }

    #[test]
    fn what_a_session_runs_is_no_persons_worker() {
        let dir = tempfile::tempdir().expect("dir");
        let own = nix::unistd::geteuid().as_raw();
        std::fs::write(Desks::path(dir.path()), "ada 1501\n").expect("written");
        std::fs::set_permissions(Desks::path(dir.path()), std::fs::Permissions::from_mode(0o644)).expect("mode");
        let keeper = Doorkeeper::new(dir.path().into(), own, vec![997], 1000);
        assert_eq!(
            [997, 1501, 1502, 0].map(|uid| keeper.connections(uid)),
            [Some(1000), Some(CONNECTIONS), None, None]
        );
        let desks = keeper.desks().expect("a list");
        assert_eq!(keeper.check(&desks, &hello("ada", 1501), 1501, true), Ok(()));
        assert_eq!(keeper.check(&desks, &hello("ada", 1501), 1501, false), Err(HelloError::OfSession));
        let may = |uid, is_free| keeper.may_bring(uid, is_free);
        assert_eq!([may(997, false), may(1501, true), may(1501, false), may(1502, true)], [true, true, false, false]);
        std::fs::remove_file(Desks::path(dir.path())).expect("gone");
        assert!(!may(1501, true), "on a connection from before, too");
    }
}
