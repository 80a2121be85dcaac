//! What a worker says of itself, checked and put into policy's words.

use policy::{Accept, AccountName, LoginUser, Mode, Place, ProxyAccount};
use std::time::Instant;
use warrant::{Incarnation, PublicKey, unhex};
use wire::Hello;

/// Why a worker was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("the worker speaks version {0} of the protocol, the supervisor {version}: install the same release", version = wire::VERSION)]
    Version(u32),
    #[error("{0:?} can't be a worker's name (letters, digits and _ . - only, at most {max})", max = warrant::names::NAME_MAX)]
    Name(String),
    #[error("{0:?} is no mode (user, proxy or desktop)")]
    Mode(String),
    #[error("{what} {value:?} is no name: {error}")]
    Account { what: &'static str, value: String, error: warrant::NameError },
    #[error("{0} is not the hexadecimal it should be")]
    Hex(&'static str),
    #[error("a worker in {0} mode has to bring its launcher's key")]
    NoHostKey(&'static str),
    #[error("a worker with no slots has nothing to offer")]
    NoSlots,
    #[error("a worker of this name is connected already")]
    Taken,
    #[error("a desktop worker has to say whose it is")]
    NoOwner,
    #[error(
        "a desktop worker has to run as its owner: it names {owner} (uid {owner_uid}) and runs as {peer} (uid {uid})"
    )]
    Owner { owner: String, owner_uid: u32, peer: String, uid: u32 },
    #[error(
        "uid {uid} ({owner}) is not on the list of those who may run a desktop worker here, or this is more than that: \
         root adds people with `stead worker mode desktop --user NAME`"
    )]
    Unlisted { owner: String, uid: u32 },
    #[error("a desktop worker that belongs to a person of this host is named {wanted:?}, and this one {name:?}")]
    DeskName { name: String, wanted: String },
    #[error(
        "the desktop worker of {owner} may not take jobs of {user}: root lets it with `stead worker mode desktop --user \
         {owner} --accept {user}`"
    )]
    Accepts { owner: String, user: String },
    #[error("the desktop worker of {owner} offers {slots} slots, and this host has {most} cores")]
    Slots { owner: String, slots: u32, most: u32 },
    #[error("a process that a job started can't be a worker: start it from the person's own login")]
    OfSession,
    #[error("{0} is an account that jobs of several people run under, and a desktop is one person's: name that person")]
    Shared(String),
    #[error("a desktop worker's account has to be known here: {0}")]
    Peer(crate::authn::AuthnError),
    #[error("the name {name} is the worker's of uid {owner}, and this is uid {uid}: give this worker another name")]
    NotYours { name: String, owner: String, uid: u32 },
    #[error(
        "worker {name} was in {from} mode and its host's key is known, so it can't be in {to} mode now: give this worker another name"
    )]
    Changes { name: String, from: String, to: String },
    #[error("the supervisor can't look the worker up: {0}")]
    Store(String),
}

/// In ms; some 285,000 years.
const TICK_MAX: u64 = 1 << 53;

/// The clock of a host: what it said last, and when that was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostClock {
    tick: u64,
    at: Instant,
}

impl HostClock {
    pub(crate) fn set(tick: u64) -> Self {
        // More than any host has been up: what is reckoned from it stays a number, whoever says it.
        Self { tick: tick.min(TICK_MAX), at: Instant::now() }
    }

    /// Never ahead of the host's own clock: the message took its time, too.
    pub(crate) fn now(&self) -> u64 {
        self.tick.saturating_add(u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// What is kept of a hello besides the place.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) place: Place,
    pub(crate) incarnation: Incarnation,
    pub(crate) host_key: Option<PublicKey>,
}

/// Checks a hello without believing anything that could widen what the worker is given.
pub(crate) fn check(hello: &Hello) -> Result<Checked, HelloError> {
    if hello.version != wire::VERSION {
        return Err(HelloError::Version(hello.version));
    }
    let is_name = LoginUser::parse(&hello.name).is_ok() && !hello.name.contains(['\\', '@']);
    if !is_name {
        return Err(HelloError::Name(hello.name.clone()));
    }
    let mode = Mode::parse(&hello.mode).ok_or_else(|| HelloError::Mode(hello.mode.clone()))?;
    if hello.slots == 0 {
        return Err(HelloError::NoSlots);
    }
    let host_key = hello.host_key.as_deref().map(host_key).transpose()?;
    if host_key.is_none() && mode != Mode::Desktop {
        return Err(HelloError::NoHostKey(mode.as_str()));
    }
    let place = Place {
        worker: hello.name.clone(),
        labels: hello.labels.clone(),
        mode,
        proxy_account: hello.proxy_account.as_deref().map(proxy_account).transpose()?,
        owner: hello.owner.as_ref().map(|o| account("owner", &o.name)).transpose()?,
        accept: accept(&hello.accept)?,
        panic: hello.panic.clone(),
        drained: false,
        online: true,
        excluded: Vec::new(),
        logons: None,
    };
    Ok(Checked { place, incarnation: incarnation(&hello.incarnation)?, host_key })
}

pub(crate) fn incarnation(text: &str) -> Result<Incarnation, HelloError> {
    unhex(text).and_then(|b| b.try_into().ok()).ok_or(HelloError::Hex("the incarnation"))
}

fn host_key(text: &str) -> Result<PublicKey, HelloError> {
    let bytes = unhex(text).and_then(|b| <[u8; 32]>::try_from(b).ok());
    bytes.and_then(|b| PublicKey::from_bytes(&b)).ok_or(HelloError::Hex("the host's key"))
}

pub(crate) fn proxy_account(text: &str) -> Result<ProxyAccount, HelloError> {
    match text {
        "throwaway" => Ok(ProxyAccount::Throwaway),
        name => account("proxy account", name).map(ProxyAccount::Named),
    }
}

fn account(what: &'static str, name: &str) -> Result<AccountName, HelloError> {
    AccountName::parse(name).map_err(|error| HelloError::Account { what, value: name.to_owned(), error })
}

pub(crate) fn accept(names: &[String]) -> Result<Accept, HelloError> {
    match names {
        [] => Ok(Accept::Owner),
        [any] if any == "any" => Ok(Accept::Any),
        names => names
            .iter()
            .map(|n| {
                LoginUser::parse(n).map_err(|error| HelloError::Account {
                    what: "accepted user",
                    value: n.clone(),
                    error,
                })
            })
            .collect::<Result<_, _>>()
            .map(Accept::Users),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn hello(name: &str) -> Hello {
        Hello {
            version: wire::VERSION,
            name: name.to_owned(),
            mode: "desktop".to_owned(),
            proxy_account: None,
            owner: Some(wire::Account { name: "ada".to_owned(), uid: 1501, gid: 1501, groups: vec![1501] }),
            accept: Vec::new(),
            panic: None,
            slots: 1,
            labels: Vec::new(),
            cores: 4,
            memory: 8 << 30,
            incarnation: "00".repeat(16),
            tick: 1_000_000,
            host_key: None,
            abilities: wire::Abilities::default(),
            sealing_key: None,
            own: wire::Own::default(),
            settings: 0,
            sessions: Vec::new(),
        }
    }

    #[test]
    fn a_hello_that_is_not_understood_is_refused() {
        let good = hello("desk");
        assert_eq!(check(&good).expect("good").place.accept, Accept::Owner);
        let change = |f: fn(&mut Hello)| {
            let mut hello = good.clone();
            f(&mut hello);
            check(&hello).err().map(|e| e.to_string())
        };
        for (f, part) in [
            ((|h| h.version = 9) as fn(&mut Hello), "version 9"),
            (|h| h.name = "../x".to_owned(), "worker's name"),
            (|h| h.name.clear(), "worker's name"),
            (|h| h.mode = "root".to_owned(), "no mode"),
            (|h| h.slots = 0, "no slots"),
            (|h| h.mode = "user".to_owned(), "launcher's key"),
            (|h| h.incarnation = "zz".to_owned(), "incarnation"),
            (|h| h.host_key = Some("00".repeat(32)), "host's key"),
            (|h| h.proxy_account = Some(String::new()), "proxy account"),
            (|h| h.accept = vec!["any".to_owned(), "-x".to_owned()], "accepted user"),
        ] {
            let error = change(f).unwrap_or_else(|| panic!("{part} was taken"));
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn any_is_only_any_when_it_stands_alone() {
        let names = |n: &[&str]| accept(&n.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).expect("fine");
        assert_eq!(names(&["any"]), Accept::Any);
        assert!(matches!(names(&["any", "bob"]), Accept::Users(users) if users.len() == 2));
    }
}
