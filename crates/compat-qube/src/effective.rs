//! What holds for one host, and where each of it comes from.

use crate::conf::QbConf;
use crate::keys::{KEYS, Key, Role, Standing, key};
use crate::near::nearest;
use crate::value::Value;
use crate::worker::Bad;
use crate::wrk::{Platform, QbWrk};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything: Qube!'s own default.
    BuiltIn,
    /// The host's own qb.conf, or whatever else is said on the host itself.
    Local { file: Arc<str>, line: u32 },
    /// The supervisor's qbwrk.conf: the sections from where it is written to where it applies.
    Central { file: Arc<str>, line: u32, sections: Vec<Arc<str>> },
}

impl Origin {
    pub(crate) fn place(&self) -> (Arc<str>, u32) {
        match self {
            Self::BuiltIn => ("built in".into(), 0),
            Self::Local { file, line } | Self::Central { file, line, .. } => (file.clone(), *line),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            // Said in another way than by a file.
            Self::Local { file, line: 0 } => f.write_str(file),
            Self::Local { file, line } => write!(f, "{file}:{line}"),
            Self::Central { file, line, sections } => {
                write!(f, "{file}:{line}")?;
                for (i, section) in sections.iter().enumerate() {
                    write!(f, "{}[{section}]", if i == 0 { " " } else { " > " })?;
                }
                Ok(())
            }
        }
    }
}

/// One key's value for one host.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    pub key: Arc<str>,
    /// `None`: no key of Qube!'s.
    pub known: Option<&'static Key>,
    pub value: Value,
    pub origin: Origin,
}

impl Setting {
    /// The value for people; passwords are not shown.
    #[must_use]
    pub fn shown(&self) -> String {
        if is_secret(&self.key) { "(hidden)".to_owned() } else { self.value.line() }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?} ({})", self.key, self.shown(), self.origin)
    }
}

/// Whether a key's value is not to be shown: also where its name is misspelt.
pub(crate) fn is_secret(name: &str) -> bool {
    let near = || nearest(name, KEYS.iter().map(|k| k.name)).and_then(key);
    match key(name) {
        Some(known) => known.is_secret(),
        None => {
            let lower = name.to_ascii_lowercase();
            ["pass", "secret", "pwd"].iter().any(|w| lower.contains(w)) || near().is_some_and(Key::is_secret)
        }
    }
}

/// `worker_lookup`: whose word counts for a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lookup {
    /// The host's own file only.
    Local,
    /// The supervisor's file only.
    Supervisor,
    /// Both; the host's own wins.
    SupervisorLocal,
    /// Both; the supervisor's wins.
    #[default]
    LocalSupervisor,
}

impl Lookup {
    pub(crate) fn read(value: &Value) -> Result<Self, Bad> {
        const WORDS: [&str; 4] = ["local", "supervisor", "supervisor,local", "local,supervisor"];
        let text = value.words().join(",");
        match text.as_str() {
            "local" => Ok(Self::Local),
            "supervisor" => Ok(Self::Supervisor),
            "supervisor,local" => Ok(Self::SupervisorLocal),
            "local,supervisor" => Ok(Self::LocalSupervisor),
            _ => Err(Bad {
                allowed: format!("{} is (the later one wins)", WORDS.join(" or ")),
                nearest: nearest(&text, WORDS).map(str::to_owned),
            }),
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Supervisor => "supervisor",
            Self::SupervisorLocal => "supervisor,local",
            Self::LocalSupervisor => "local,supervisor",
        }
    }

    /// The word of `as_str`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::read(&Value::Text(text.to_owned())).ok()
    }
}

/// Everything that holds for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// As the sections write it.
    pub host: String,
    settings: BTreeMap<Arc<str>, Setting>,
}

impl Effective {
    /// What the host's own file and the supervisor's say together.
    #[must_use]
    pub fn of(host: &str, platform: Platform, local: Option<&QbConf>, central: Option<&QbWrk>) -> Self {
        let lookup = local.map_or_else(Lookup::default, QbConf::lookup);
        let central = central.map(|c| c.resolve(host, platform));
        Self::combine(host, local, central, lookup)
    }

    /// The same, with what the supervisor's file says resolved already.
    #[must_use]
    pub fn combine(host: &str, local: Option<&QbConf>, central: Option<Self>, lookup: Lookup) -> Self {
        let name = central.as_ref().map_or_else(|| host.to_owned(), |c| c.host.clone());
        let of_worker = |s: &&Setting| s.known.is_some_and(|k| matches!(k.role, Role::Worker | Role::Common));
        let own = || local.into_iter().flat_map(QbConf::settings).filter(of_worker).cloned();
        let central = || central.iter().flat_map(|c| c.settings.values().cloned()).collect::<Vec<_>>();
        let bootstrap = |s: &Setting| s.known.is_some_and(|k| k.standing == Standing::Bootstrap);
        let layers: [Vec<Setting>; 2] = match lookup {
            Lookup::Local => [own().collect(), Vec::new()],
            Lookup::Supervisor => [own().filter(bootstrap).collect(), central()],
            Lookup::SupervisorLocal => [central(), own().collect()],
            Lookup::LocalSupervisor => [own().collect(), central()],
        };
        Self::from_layers(name, layers.into_iter().flatten())
    }

    pub(crate) fn from_layers(host: String, settings: impl IntoIterator<Item = Setting>) -> Self {
        Self { host, settings: settings.into_iter().map(|s| (s.key.clone(), s)).collect() }
    }

    /// The same without what is said of a key.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// Who said what acts: `central`, `local`, `mixed`, or `default` where nobody said anything.
    #[must_use]
    pub fn said_by(&self) -> &'static str {
        let acts = |s: &&Setting| s.known.is_some_and(|k| matches!(k.standing, Standing::Identity | Standing::Acts));
        let has = |central: bool| {
            self.settings.values().filter(acts).any(|s| matches!(s.origin, Origin::Central { .. }) == central)
        };
        match (has(true), has(false)) {
            (true, true) => "mixed",
            (true, false) => "central",
            (false, true) => "local",
            (false, false) => "default",
        }
    }

    /// What some file says.
    #[must_use]
    pub fn set(&self, name: &str) -> Option<&Setting> {
        self.settings.get(name)
    }

    /// What holds: what some file says, or Qube!'s default of a key that has one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Setting> {
        self.set(name).cloned().or_else(|| built_in(key(name)?))
    }

    /// All that some file says, by key.
    pub fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.settings.values()
    }

    /// All that holds of a worker's keys that act, set or built in, and what is set besides; by key.
    #[must_use]
    pub fn all(&self) -> Vec<Setting> {
        let acts = |k: &&Key| k.role == Role::Worker && matches!(k.standing, Standing::Identity | Standing::Acts);
        let unset = KEYS.iter().filter(acts).filter(|k| self.set(k.name).is_none()).filter_map(built_in);
        let mut all: Vec<Setting> = self.settings.values().cloned().chain(unset).collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }
}

fn built_in(known: &'static Key) -> Option<Setting> {
    let value = Value::Text(known.default.to_owned());
    let setting = Setting { key: known.name.into(), known: Some(known), value, origin: Origin::BuiltIn };
    (!known.default.is_empty()).then_some(setting)
}
