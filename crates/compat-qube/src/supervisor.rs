//! The supervisor's own settings as values that say what they are.

use crate::conf::QbConf;
use crate::effective::Setting;
use crate::keys::{JOB_FLAGS, PERMISSIONS, SUPERVISOR_FLAGS, key};
use crate::problem::Finding;
use crate::value::Value;
use crate::worker::{self, Bad};

/// `supervisor_flags`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SupervisorFlags {
    pub disable_submit_check: bool,
    /// Nobody submits before their password is registered.
    pub enforce_password: bool,
    pub host_recontact: bool,
    pub heartbeat_monitor: bool,
    pub running_monitor: bool,
    pub stub_optimize: bool,
    pub remove_logs: bool,
    pub retry_busy: bool,
}

/// `supervisor_default_security`: what somebody may do for whom nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// By Qube!'s name of it: `submit_job`, `kill`, `impersonate` …
    #[must_use]
    pub fn has(self, name: &str) -> bool {
        PERMISSIONS.iter().any(|(n, bit)| *n == name && self.0 & bit != 0)
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        PERMISSIONS.iter().filter(move |(_, bit)| self.0 & bit != 0).map(|(n, _)| *n)
    }
}

/// `supervisor_host_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPolicy {
    Open,
    Restricted,
    ByName,
    ByAddress,
}

/// How many instances run at once; `None`: any number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub default: Option<u32>,
    pub of: Vec<(String, Option<u32>)>,
}

/// All that Stead can use of them. Whatever the file does not say has Qube!'s own default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorSettings {
    pub flags: SupervisorFlags,
    pub default_security: Permissions,
    /// 1 is the highest.
    pub default_priority: u32,
    /// The highest that people without a role may give.
    pub highest_user_priority: u32,
    pub max_priority: u32,
    pub user_limits: Limits,
    pub pgrp_limits: Limits,
    /// For every job: names.
    pub job_flags: Vec<&'static str>,
    pub host_policy: HostPolicy,
    pub default_cluster: String,
    /// Where qbwrk.conf is, if it is said.
    pub worker_configfile: Option<String>,
}

impl SupervisorSettings {
    /// Reads them; what can't be read of keys that act is said with its place, and nothing is guessed.
    pub fn read(conf: &QbConf) -> Result<Self, Vec<Finding>> {
        let (settings, wrong) = Self::as_far_as_it_goes(conf);
        if wrong.is_empty() { Ok(settings) } else { Err(wrong) }
    }

    fn as_far_as_it_goes(conf: &QbConf) -> (Self, Vec<Finding>) {
        let mut wrong: Vec<Finding> = conf.findings().errors().cloned().collect();
        let mut read = Reader { conf, wrong: &mut wrong };
        let flags = read.one("supervisor_flags", |v| worker::flags(SUPERVISOR_FLAGS, v)).unwrap_or_default();
        let security = read.one("supervisor_default_security", |v| worker::flags(PERMISSIONS, v)).unwrap_or_default();
        let bits = PERMISSIONS.iter().filter(|(n, _)| security.contains(n)).fold(0, |sum, (_, bit)| sum | bit);
        let settings = Self {
            flags: supervisor_flags(&flags),
            default_security: Permissions(bits),
            default_priority: read.one("supervisor_default_priority", worker::priority).unwrap_or(9999),
            highest_user_priority: read.one("supervisor_highest_user_priority", worker::priority).unwrap_or(1),
            max_priority: read.one("supervisor_max_priority", worker::priority).unwrap_or(9999),
            user_limits: read.limits("supervisor_default_user_subjob_limit", "supervisor_user_subjob_limits"),
            pgrp_limits: read.limits("supervisor_default_pgrp_subjob_limit", "supervisor_pgrp_subjob_limits"),
            job_flags: read.one("supervisor_job_flags", |v| worker::flags(JOB_FLAGS, v)).unwrap_or_default(),
            host_policy: read.one("supervisor_host_policy", host_policy).unwrap_or(HostPolicy::Open),
            default_cluster: read.one("supervisor_default_cluster", worker::cluster).unwrap_or_else(|| "/".to_owned()),
            worker_configfile: conf
                .set("supervisor_worker_configfile")
                .map(|s| s.value.line())
                .filter(|p| !p.is_empty()),
        };
        (settings, wrong)
    }
}

impl Default for SupervisorSettings {
    /// Those of Qube! where no file says anything.
    fn default() -> Self {
        Self::as_far_as_it_goes(&QbConf::parse("", "")).0
    }
}

struct Reader<'a> {
    conf: &'a QbConf,
    wrong: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    fn one<T>(&mut self, name: &'static str, read: impl Fn(&Value) -> Result<T, Bad>) -> Option<T> {
        let Some(Setting { value, origin, .. }) = self.conf.set(name) else {
            return read(&Value::Text(key(name)?.default.to_owned())).ok();
        };
        match read(value) {
            Ok(value) => Some(value),
            Err(bad) => {
                let (file, line) = origin.place();
                let finding = Finding { file, line, problem: bad.problem(key(name)?, value) };
                // The file says so itself; a value of no effect has its default.
                if finding.problem.level() == crate::problem::Level::Error && !self.wrong.contains(&finding) {
                    self.wrong.push(finding);
                }
                None
            }
        }
    }

    fn limits(&mut self, default: &'static str, of: &'static str) -> Limits {
        Limits {
            default: self.one(default, worker::limit).flatten(),
            of: self.one(of, worker::limits).unwrap_or_default(),
        }
    }
}

fn host_policy(value: &Value) -> Result<HostPolicy, Bad> {
    let words = ["open", "restricted", "restrictedbyname", "restrictedbyaddress"];
    Ok(match worker::word(&words, value)? {
        "restricted" => HostPolicy::Restricted,
        "restrictedbyname" => HostPolicy::ByName,
        "restrictedbyaddress" => HostPolicy::ByAddress,
        _ => HostPolicy::Open,
    })
}

fn supervisor_flags(set: &[&str]) -> SupervisorFlags {
    let has = |name| set.contains(&name);
    SupervisorFlags {
        disable_submit_check: has("disable_submit_check"),
        enforce_password: has("enforce_password"),
        host_recontact: has("host_recontact"),
        heartbeat_monitor: has("heartbeat_monitor"),
        running_monitor: has("running_monitor"),
        stub_optimize: has("stub_optimize"),
        remove_logs: has("remove_logs"),
        retry_busy: has("retry_busy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SupervisorSettings, Vec<String>> {
        let conf = QbConf::parse("qb.conf", text);
        SupervisorSettings::read(&conf).map_err(|f| f.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_not_said_is_as_in_qube() {
        let settings = read("").expect("fine");
        assert_eq!(settings, SupervisorSettings::default());
        assert!(!settings.flags.enforce_password && settings.flags.retry_busy);
        assert_eq!(settings.default_security.bits(), 136_314_867);
        assert!(settings.default_security.has("submit_job") && !settings.default_security.has("bump"));
        assert!(!settings.default_security.has("admin") && !settings.default_security.has("nonsense"));
        assert_eq!((settings.default_priority, settings.highest_user_priority, settings.max_priority), (9999, 1, 9999));
        assert_eq!(settings.user_limits, Limits::default());
        assert_eq!(settings.worker_configfile, None);
    }

    #[test]
    fn names_masks_and_limits_are_read() {
        let text = "supervisor_flags = enforce_password, host_recontact\nsupervisor_default_security = 17\n\
                    supervisor_default_user_subjob_limit = 5\nsupervisor_user_subjob_limits = \"ann=20,root=-1\"\n";
        let settings = read(text).expect("fine");
        assert!(settings.flags.enforce_password && settings.flags.host_recontact && !settings.flags.retry_busy);
        assert_eq!(settings.default_security.names().collect::<Vec<_>>(), ["submit_job", "kill"]);
        assert_eq!(settings.user_limits.default, Some(5));
        assert_eq!(settings.user_limits.of, [("ann".to_owned(), Some(20)), ("root".to_owned(), None)]);
        assert_eq!(read("supervisor_flags = 0").expect("none").flags, SupervisorFlags::default());
        assert_eq!(read("supervisor_flags =").expect("none").flags, SupervisorFlags::default());
    }

    #[test]
    fn a_misspelt_security_key_says_where_and_what_is_allowed() {
        let wrong = read("\nsupervisor_flags = enforce_pasword").expect_err("refused");
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("qb.conf:2: error: supervisor_flags = \"enforce_pasword\" is not allowed: "));
        assert!(wrong[0].contains("retry_busy") && wrong[0].ends_with("(did you mean enforce_password?)"), "{wrong:?}");
        // The numbers of these flags are nowhere written, so that nobody can say what 12 means.
        assert!(read("supervisor_flags = 12").is_err());
        assert!(read("supervisor_default_security = 2097152").is_err(), "no such permission");
        for wrong in
            ["supervisor_default_priority = high", "supervisor_max_priority = 0", "supervisor_user_subjob_limits = ann"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read("supervisor_default_pgrp_subjob_limit = many").is_ok(), "a warning: nothing acts on it");
    }
}
