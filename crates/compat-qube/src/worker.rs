//! A worker's settings as values that say what they are.

use crate::effective::{Effective, Setting};
use crate::keys::{Key, Kind, Standing, WORKER_FLAGS};
use crate::near::nearest;
use crate::problem::{Finding, Problem};
use crate::secret::ProxyPassword;
use crate::value::Value;
use warrant::AccountName;

/// As whom a worker in service mode runs jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionMode {
    /// Each as its user.
    User,
    /// All as `proxy_account`.
    Proxy,
}

impl ExecutionMode {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Proxy => "proxy",
        }
    }
}

/// `worker_flags`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerFlags {
    pub dynamic: bool,
    pub auto_mount: bool,
    pub remove_logs: bool,
    pub load_profile: bool,
    pub auto_remove: bool,
}

/// What a worker is told. Whatever no file says has Qube!'s own default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSettings {
    pub mode: ExecutionMode,
    /// Only of use in proxy mode.
    pub proxy_account: AccountName,
    pub proxy_password: Option<ProxyPassword>,
    pub host_domain: Option<String>,
    /// −20 to 20.
    pub nice: i8,
    /// Slots; `None`: as the worker was started.
    pub slots: Option<u32>,
    pub cluster: String,
    pub groups: Vec<String>,
    /// `host.maya=1`, of properties and of resources.
    pub properties: Vec<String>,
    /// In the order in which they apply.
    pub path_map: Vec<(String, String)>,
    pub flags: WorkerFlags,
    pub flight_check_path: Vec<String>,
}

/// Most slots that a file may give a worker.
const SLOTS_MAX: u32 = 4096;
/// What a label may be made of besides letters and digits; as in `job::Requires`.
const LABEL: &str = "_.-+:/=<>";

impl WorkerSettings {
    /// Reads them; what can't be read of keys that act is said with its place, and nothing is guessed.
    pub fn read(effective: &Effective) -> Result<Self, Vec<Finding>> {
        let mut wrong = Vec::new();
        let mut read = Reader { effective, wrong: &mut wrong };
        let (mode, proxy_account) = (read.one("proxy_execution_mode", mode), read.one("proxy_account", account));
        let proxy_password = read.set("proxy_password", |v| Ok(ProxyPassword::new(&v.line())));
        let host_domain = read.set("worker_host_domain", domain);
        let nice = read.one("proxy_nice_value", nice).unwrap_or(0);
        let slots = read.set("worker_cpus", cpus).filter(|n| *n > 0).or_else(|| read.processors());
        let cluster = read.one("worker_cluster", cluster).unwrap_or_else(|| "/".to_owned());
        let groups = read.set("worker_groups", list).unwrap_or_default();
        let keys = ["worker_properties", "worker_resources"];
        let properties = keys.into_iter().flat_map(|key| read.set(key, properties).unwrap_or_default());
        let properties = properties.map(|(name, value)| format!("{name}={value}")).collect();
        let path_map = read.set("worker_path_map", map).unwrap_or_default();
        let flags = read.one("worker_flags", |v| flags(WORKER_FLAGS, v)).map(|f| worker_flags(&f)).unwrap_or_default();
        let flight_check_path = read.set("worker_flight_check_path", |v| Ok(v.words())).unwrap_or_default();
        match (mode, proxy_account) {
            (Some(mode), Some(proxy_account)) if wrong.is_empty() => Ok(Self {
                mode,
                proxy_account,
                proxy_password,
                host_domain,
                nice,
                slots,
                cluster,
                groups,
                properties,
                path_map,
                flags,
                flight_check_path,
            }),
            _ => Err(wrong),
        }
    }

    /// What jobs can ask for with `--requires`: groups, cluster, properties. Those that can't be asked for are left out.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        let groups = self.groups.iter().map(|g| format!("group:{g}"));
        let cluster = std::iter::once(format!("cluster:{}", self.cluster));
        let all = groups.chain(cluster).chain(self.properties.iter().cloned());
        all.filter(|l| l.chars().all(|c| c.is_ascii_alphanumeric() || LABEL.contains(c))).collect()
    }
}

struct Reader<'a> {
    effective: &'a Effective,
    wrong: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    /// What is set, or Qube!'s default.
    fn one<T>(&mut self, key: &'static str, read: impl Fn(&Value) -> Result<T, Bad>) -> Option<T> {
        let setting = self.effective.get(key)?;
        self.value(&setting, read)
    }

    /// What is set.
    fn set<T>(&mut self, key: &'static str, read: impl Fn(&Value) -> Result<T, Bad>) -> Option<T> {
        let setting = self.effective.set(key)?.clone();
        // `key =` takes back what was said before.
        if setting.value == Value::Text(String::new()) {
            return None;
        }
        self.value(&setting, read)
    }

    fn value<T>(&mut self, setting: &Setting, read: impl Fn(&Value) -> Result<T, Bad>) -> Option<T> {
        match read(&setting.value) {
            Ok(value) => Some(value),
            Err(bad) => {
                let key = setting.known?;
                let (file, line) = setting.origin.place();
                let problem = bad.problem(key, &setting.value);
                let finding = Finding { file, line, problem };
                if finding.problem.level() == crate::problem::Level::Error && !self.wrong.contains(&finding) {
                    self.wrong.push(finding);
                }
                None
            }
        }
    }

    fn processors(&mut self) -> Option<u32> {
        let all = self.set("worker_resources", properties)?;
        let (_, number) = all.iter().find(|(name, _)| name == "host.processors")?;
        number.parse().ok().filter(|n| (1..=SLOTS_MAX).contains(n))
    }
}

/// What would be allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) allowed: String,
    pub(crate) nearest: Option<String>,
}

impl Bad {
    pub(crate) fn new(allowed: impl Into<String>) -> Self {
        Self { allowed: allowed.into(), nearest: None }
    }

    pub(crate) fn problem(self, key: &Key, value: &Value) -> Problem {
        let Self { allowed, nearest } = self;
        let acts = key.standing != Standing::NotUsed;
        Problem::BadValue { key: key.name.to_owned(), value: value.line(), allowed, nearest, acts }
    }
}

/// Whether a key may have this value.
pub(crate) fn check(key: &Key, value: &Value) -> Result<(), Bad> {
    let is_unset = *value == Value::Text(String::new());
    match key.kind {
        Kind::Account => account(value).map(drop),
        Kind::Word(allowed) => word(allowed, value).map(drop),
        Kind::Lookup => crate::effective::Lookup::read(value).map(drop),
        _ if is_unset => Ok(()),
        Kind::Text | Kind::Secret | Kind::Password => Ok(()),
        Kind::Domain => domain(value).map(drop),
        Kind::Nice => nice(value).map(drop),
        Kind::Cpus => cpus(value).map(drop),
        Kind::Priority => priority(value).map(drop),
        Kind::Limit => limit(value).map(drop),
        Kind::Limits => limits(value).map(drop),
        Kind::Cluster => cluster(value).map(drop),
        Kind::List => list(value).map(drop),
        Kind::Map => map(value).map(drop),
        Kind::Properties => properties(value).map(drop),
        Kind::Flags(names) => flags(names, value).map(drop),
    }
}

fn text(value: &Value) -> String {
    value.words().join(",")
}

pub(crate) fn word<'a>(allowed: &[&'a str], value: &Value) -> Result<&'a str, Bad> {
    let text = text(value);
    allowed.iter().find(|a| **a == text).copied().ok_or_else(|| Bad {
        allowed: format!("{} is", allowed.join(" or ")),
        nearest: nearest(&text, allowed.iter().copied()).map(str::to_owned),
    })
}

fn mode(value: &Value) -> Result<ExecutionMode, Bad> {
    Ok(if word(&["user", "proxy"], value)? == "user" { ExecutionMode::User } else { ExecutionMode::Proxy })
}

fn account(value: &Value) -> Result<AccountName, Bad> {
    let name = value.line();
    if name.contains(['\\', '@']) {
        return Err(Bad::new("a bare name is (the domain goes into worker_host_domain)"));
    }
    if name == "root" {
        return Err(Bad::new("any account but root's is"));
    }
    if name == "throwaway" {
        return Err(Bad::new("another name is (for Stead it means an account that doesn't exist)"));
    }
    AccountName::parse(&name).map_err(|reason| Bad::new(format!("an account's name is ({reason})")))
}

fn domain(value: &Value) -> Result<String, Bad> {
    let name = value.line();
    let fine = !name.is_empty() && name.len() <= 253 && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let fine = fine && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if fine { Ok(name) } else { Err(Bad::new("a domain's name is (letters, digits and . _ -)")) }
}

fn number<T: std::str::FromStr + PartialOrd>(value: &Value, from: T, to: T, allowed: &str) -> Result<T, Bad> {
    let number = value.line().trim().parse::<T>().ok().filter(|n| *n >= from && *n <= to);
    number.ok_or_else(|| Bad::new(format!("{allowed} is")))
}

fn nice(value: &Value) -> Result<i8, Bad> {
    number(value, -20, 20, "a whole number from -20 to 20")
}

fn cpus(value: &Value) -> Result<u32, Bad> {
    number(value, 0, SLOTS_MAX, "a whole number from 0 to 4096")
}

pub(crate) fn priority(value: &Value) -> Result<u32, Bad> {
    number(value, 1, i32::MAX.unsigned_abs(), "a whole number from 1 (the highest)")
}

/// `None`: no limit.
pub(crate) fn limit(value: &Value) -> Result<Option<u32>, Bad> {
    let limit: i64 = number(value, -1, i64::from(u32::MAX), "a whole number, or -1 for none,")?;
    Ok(u32::try_from(limit).ok())
}

pub(crate) fn limits(value: &Value) -> Result<Vec<(String, Option<u32>)>, Bad> {
    let bad = || Bad::new("NAME=NUMBER,NAME=NUMBER is (-1: no limit)");
    let one = |(name, number): (String, String)| Ok((name, limit(&Value::Text(number)).map_err(|_| bad())?));
    pairs(value).map_err(|_| bad())?.into_iter().map(one).collect()
}

pub(crate) fn cluster(value: &Value) -> Result<String, Bad> {
    let name = text(value);
    let fine = name.starts_with('/') && name.chars().all(|c| c.is_ascii_alphanumeric() || "/_.-+*,".contains(c));
    if fine { Ok(name) } else { Err(Bad::new("a path like /show/lighting is")) }
}

fn list(value: &Value) -> Result<Vec<String>, Bad> {
    let words = value.words();
    let fine = |w: &String| w.chars().all(|c| c.is_ascii_alphanumeric() || LABEL.contains(c));
    if words.iter().all(fine) {
        Ok(words)
    } else {
        Err(Bad::new("NAME,NAME is (letters, digits and _ . - + : / = < >)"))
    }
}

fn map(value: &Value) -> Result<Vec<(String, String)>, Bad> {
    let bad = || Bad::new("{ \"FROM\" = \"TO\" … } is, each in double quotes");
    let Value::Block(items) = value else { return Err(bad()) };
    items.iter().map(|i| Some((i.left.clone(), i.right.clone()?))).collect::<Option<_>>().ok_or_else(bad)
}

/// `name=value` between commas, or as pairs of a block.
fn pairs(value: &Value) -> Result<Vec<(String, String)>, Bad> {
    let bad = || Bad::new("NAME=VALUE,NAME=VALUE is");
    let split = |word: String| {
        let (name, value) = word.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    match value {
        Value::Block(items) if items.iter().any(|i| i.right.is_some()) => {
            items.iter().map(|i| Some((i.left.clone(), i.right.clone()?))).collect::<Option<_>>().ok_or_else(bad)
        }
        value => value.words().into_iter().map(split).collect::<Option<_>>().ok_or_else(bad),
    }
}

fn properties(value: &Value) -> Result<Vec<(String, String)>, Bad> {
    let pairs = pairs(value).map_err(|_| Bad::new("host.NAME=VALUE,host.NAME=VALUE is"))?;
    let fine = pairs.iter().all(|(name, _)| name.strip_prefix("host.").is_some_and(|n| !n.is_empty()));
    if fine { Ok(pairs) } else { Err(Bad::new("host.NAME=VALUE,host.NAME=VALUE is")) }
}

/// The names that are set. A number is the sum of its flags' where these are documented.
pub(crate) fn flags(known: &[(&'static str, u32)], value: &Value) -> Result<Vec<&'static str>, Bad> {
    let names = || known.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(",");
    let words = value.words();
    if let [mask] = words.as_slice()
        && mask.bytes().all(|b| b.is_ascii_digit())
    {
        return mask_flags(known, mask).ok_or_else(|| Bad::new(format!("a list of names is ({})", names())));
    }
    let one = |word: &String| {
        let found = known.iter().find(|(name, _)| name == word).map(|(name, _)| *name);
        found.ok_or_else(|| Bad {
            allowed: format!("a list of these is: {}", names()),
            nearest: nearest(word, known.iter().map(|(n, _)| *n)).map(str::to_owned),
        })
    };
    words.iter().map(one).collect()
}

fn mask_flags(known: &[(&'static str, u32)], mask: &str) -> Option<Vec<&'static str>> {
    let mask: u32 = mask.parse().ok()?;
    let all = known.iter().fold(0, |sum, (_, bit)| sum | bit);
    (mask & !all == 0).then(|| known.iter().filter(|(_, bit)| mask & bit != 0).map(|(n, _)| *n).collect())
}

fn worker_flags(set: &[&str]) -> WorkerFlags {
    let has = |name| set.contains(&name);
    WorkerFlags {
        dynamic: has("dynamic"),
        auto_mount: has("auto_mount"),
        remove_logs: has("remove_logs"),
        load_profile: has("load_profile"),
        auto_remove: has("auto_remove"),
    }
}
