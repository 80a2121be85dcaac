//! `supervisor.toml`: few settings, each with a default. A wrong file never opens anything: the start is refused with
//! file, line and key.

use crate::audit::AnchorTo;
use crate::linkis::LinkisSettings;
use crate::oidc::{self, OidcSettings};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("can't read {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{}:{line}: {message}{}", path.display(), hint(.did_you_mean.as_ref()))]
    Malformed { path: PathBuf, line: usize, message: String, did_you_mean: Option<String> },
    #[error("{}: {key} = {value} is out of range: {allowed} is allowed", path.display())]
    OutOfRange { path: PathBuf, key: &'static str, value: u64, allowed: &'static str },
    #[error("{}: [oidc]: {problem}", path.display())]
    Oidc { path: PathBuf, problem: String },
}

fn hint(word: Option<&String>) -> String {
    word.map_or_else(String::new, |w| format!(" (did you mean {w:?}?)"))
}

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where people's HTTP listens besides the socket. Plain HTTP: loopback only.
    pub listen: String,
    /// How long ended jobs stay, with their folders and logs.
    pub jobs_keep_days: u64,
    /// How long logs stay; at most as long as their job.
    pub logs_keep_days: u64,
    /// About how much work a session is given at once, in ms.
    pub batch_target_ms: u64,
    /// How long a session lives without a renewal.
    pub lease_seconds: u64,
    /// Most bytes of output kept of one session.
    pub log_max_mib: u64,
    /// Where the audit's checkpoints are kept besides: `syslog`, `journald`, or `file:/PATH` on another disk.
    #[serde(deserialize_with = "anchor")]
    pub audit_anchor: Option<AnchorTo>,
    /// How large a file of the audit grows before the next begins.
    pub audit_file_mib: u64,
    /// How much of the disk is kept back for endings (kill, revoke, …) when it is full; at most a sixteenth of it.
    pub disk_ballast_mib: u64,
    /// With less free than this nothing is begun; at most a sixteenth of the disk.
    pub disk_floor_mib: u64,
    /// Connections of people at once, on the socket and on the port.
    pub connections_max: u64,
    /// Of one account on the socket.
    pub connections_per_uid: u64,
    /// Of one address on the port; of version 6, of one network of 64 bits.
    pub connections_per_address: u64,
    /// Bytes of requests of one person that are being worked on.
    pub bodies_per_user_mib: u64,
    /// The same of everybody.
    pub bodies_max_mib: u64,
    /// Only grants count that somebody else than they serve has approved.
    pub grants_need_approval: bool,
    /// Passwords are those of the farm's own accounts instead of the host's.
    pub own_accounts: bool,
    /// A session that nobody used for so long has ended.
    pub session_idle_minutes: u64,
    /// How long a session lasts at most.
    pub session_max_days: u64,
    /// How long a token lasts at most.
    pub token_max_days: u64,
    /// Proxy users may sign in with a password of their own, and they and the accounts of proxy mode are known by their
    /// uid on the socket: as themselves only.
    pub proxy_users_sign_in: bool,
    /// No job is taken from whom no password is stored, or only one that was refused: for farms whose workers need them.
    pub enforce_password: bool,
    /// Qube!'s `qb.conf`, for the supervisor.
    pub qb_conf: Option<PathBuf>,
    /// Qube!'s `qbwrk.conf`, for its workers.
    pub qbwrk_conf: Option<PathBuf>,
    /// People sign in at an OpenID provider.
    pub oidc: Option<OidcSettings>,
    /// Whether, and how, clients of Linkis's are served.
    pub linkis: LinkisSettings,
}

fn anchor<'de, D: Deserializer<'de>>(value: D) -> Result<Option<AnchorTo>, D::Error> {
    let text = String::deserialize(value)?;
    let wrong =
        || D::Error::custom(format!("audit_anchor = {text:?} is not \"syslog\", \"journald\" or \"file:/PATH\""));
    AnchorTo::parse(&text).map(Some).ok_or_else(wrong)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7878".to_owned(),
            jobs_keep_days: 30,
            logs_keep_days: 30,
            batch_target_ms: 1000,
            lease_seconds: 300,
            log_max_mib: 1024,
            audit_anchor: None,
            audit_file_mib: 256,
            connections_max: 2048,
            connections_per_uid: 256,
            connections_per_address: 256,
            bodies_per_user_mib: 64,
            bodies_max_mib: 512,
            disk_ballast_mib: 32,
            disk_floor_mib: 64,
            grants_need_approval: false,
            own_accounts: false,
            session_idle_minutes: 720,
            session_max_days: 7,
            token_max_days: 366,
            proxy_users_sign_in: false,
            enforce_password: false,
            qb_conf: None,
            qbwrk_conf: None,
            oidc: None,
            linkis: LinkisSettings::default(),
        }
    }
}

const KEYS: [&str; 26] = [
    "listen",
    "jobs_keep_days",
    "logs_keep_days",
    "batch_target_ms",
    "lease_seconds",
    "log_max_mib",
    "audit_anchor",
    "audit_file_mib",
    "connections_max",
    "connections_per_uid",
    "connections_per_address",
    "bodies_per_user_mib",
    "bodies_max_mib",
    "disk_ballast_mib",
    "disk_floor_mib",
    "grants_need_approval",
    "own_accounts",
    "session_idle_minutes",
    "session_max_days",
    "token_max_days",
    "proxy_users_sign_in",
    "enforce_password",
    "qb_conf",
    "qbwrk_conf",
    "oidc",
    "linkis",
];

impl Settings {
    /// The defaults, or what the file says.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Self::parse(path, &text)
    }

    /// What a file would say; it isn't read by this.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let settings: Self = toml::from_str(text).map_err(|e| malformed(path, text, &e))?;
        let out_of_range =
            |key, value, allowed| Err(ConfigError::OutOfRange { path: path.to_owned(), key, value, allowed });
        if !(1..=60_000).contains(&settings.batch_target_ms) {
            return out_of_range("batch_target_ms", settings.batch_target_ms, "1 to 60000");
        }
        if !(10..=86_400).contains(&settings.lease_seconds) {
            return out_of_range("lease_seconds", settings.lease_seconds, "10 to 86400");
        }
        for (key, days) in [("jobs_keep_days", settings.jobs_keep_days), ("logs_keep_days", settings.logs_keep_days)] {
            if !(1..=36_500).contains(&days) {
                return out_of_range(key, days, "1 to 36500");
            }
        }
        if !(5..=10_080).contains(&settings.session_idle_minutes) {
            return out_of_range("session_idle_minutes", settings.session_idle_minutes, "5 to 10080");
        }
        if !(1..=90).contains(&settings.session_max_days) {
            return out_of_range("session_max_days", settings.session_max_days, "1 to 90");
        }
        if !(1..=366).contains(&settings.token_max_days) {
            return out_of_range("token_max_days", settings.token_max_days, "1 to 366");
        }
        if !(1..=1 << 20).contains(&settings.log_max_mib) {
            return out_of_range("log_max_mib", settings.log_max_mib, "1 to 1048576");
        }
        if !(1..=1 << 20).contains(&settings.audit_file_mib) {
            return out_of_range("audit_file_mib", settings.audit_file_mib, "1 to 1048576");
        }
        for (key, connections) in [
            ("connections_max", settings.connections_max),
            ("connections_per_uid", settings.connections_per_uid),
            ("connections_per_address", settings.connections_per_address),
        ] {
            if !(1..=65_536).contains(&connections) {
                return out_of_range(key, connections, "1 to 65536");
            }
        }
        for (key, mib) in
            [("bodies_per_user_mib", settings.bodies_per_user_mib), ("bodies_max_mib", settings.bodies_max_mib)]
        {
            // Less than one request may have would refuse it for ever.
            if !(32..=65_536).contains(&mib) {
                return out_of_range(key, mib, "32 to 65536");
            }
        }
        if !(1..=1 << 14).contains(&settings.disk_ballast_mib) {
            return out_of_range("disk_ballast_mib", settings.disk_ballast_mib, "1 to 16384");
        }
        if !(1..=1 << 20).contains(&settings.disk_floor_mib) {
            return out_of_range("disk_floor_mib", settings.disk_floor_mib, "1 to 1048576");
        }
        if let Some(oidc) = &settings.oidc {
            let absent =
                "this build of stead is without it: use a build with the cargo feature `oidc`, or take [oidc] out";
            let checked = oidc.check().and(if cfg!(feature = "oidc") { Ok(()) } else { Err(absent.to_owned()) });
            checked.map_err(|problem| ConfigError::Oidc { path: path.to_owned(), problem })?;
        }
        Ok(settings)
    }

    /// Each setting, as it holds: what it is called, what it says and what it means.
    pub(crate) fn words(&self) -> Vec<(&'static str, String, &'static str)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map_or_else(none, |p| p.display().to_string());
        let yes = |is: bool| if is { "true" } else { "false" }.to_owned();
        let Self { oidc, linkis, .. } = self;
        let anchor = self.audit_anchor.as_ref().map_or_else(none, |anchor| match anchor {
            AnchorTo::Syslog => "syslog".to_owned(),
            AnchorTo::File(path) => format!("file:{}", path.display()),
        });
        let number = |n: u64| n.to_string();
        vec![
            ("listen", self.listen.clone(), "where people's HTTP listens besides the socket: loopback only"),
            ("jobs_keep_days", number(self.jobs_keep_days), "how long ended jobs stay, with their folders"),
            ("logs_keep_days", number(self.logs_keep_days), "how long logs stay; at most as long as their job"),
            ("batch_target_ms", number(self.batch_target_ms), "about how much work a session is given at once"),
            ("lease_seconds", number(self.lease_seconds), "how long a session lives without a renewal"),
            ("log_max_mib", number(self.log_max_mib), "most output kept of one session"),
            ("audit_anchor", anchor, "where the audit's checkpoints are kept besides"),
            ("audit_file_mib", number(self.audit_file_mib), "how large a file of the audit grows"),
            ("disk_ballast_mib", number(self.disk_ballast_mib), "kept back for endings when the disk is full"),
            ("disk_floor_mib", number(self.disk_floor_mib), "with less free than this nothing is begun"),
            ("connections_max", number(self.connections_max), "connections of people at once"),
            ("connections_per_uid", number(self.connections_per_uid), "of one account on the socket"),
            ("connections_per_address", number(self.connections_per_address), "of one address on the port"),
            ("bodies_per_user_mib", number(self.bodies_per_user_mib), "requests of one person in work"),
            ("bodies_max_mib", number(self.bodies_max_mib), "the same of everybody"),
            ("grants_need_approval", yes(self.grants_need_approval), "only grants that somebody else approved count"),
            ("own_accounts", yes(self.own_accounts), "passwords are the farm's own instead of the host's"),
            ("session_idle_minutes", number(self.session_idle_minutes), "a session unused for so long has ended"),
            ("session_max_days", number(self.session_max_days), "how long a session lasts at most"),
            ("token_max_days", number(self.token_max_days), "how long a token lasts at most"),
            ("proxy_users_sign_in", yes(self.proxy_users_sign_in), "proxy users may sign in by themselves"),
            ("enforce_password", yes(self.enforce_password), "nobody submits without a password that may be good"),
            ("qb_conf", path(&self.qb_conf), "Qube!'s qb.conf, for the supervisor"),
            ("qbwrk_conf", path(&self.qbwrk_conf), "Qube!'s qbwrk.conf, for its workers"),
            ("oidc", oidc.as_ref().map_or_else(none, |o| o.issuer.clone()), "the provider that people sign in at"),
            ("linkis", yes(linkis.is_on), "whether clients of Linkis's are served"),
        ]
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }
}

fn none() -> String {
    "none".to_owned()
}

fn malformed(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |s| s.start);
    let line = text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1;
    let message = error.message().to_owned();
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let did_you_mean = unknown.and_then(nearest).map(str::to_owned);
    ConfigError::Malformed { path: path.to_owned(), line, message, did_you_mean }
}

/// The setting a mistyped key may have meant.
fn nearest(key: &str) -> Option<&'static str> {
    compat_qube::nearest(key, KEYS.into_iter().chain(oidc::KEYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Settings::parse(Path::new("supervisor.toml"), text).expect_err("refused").to_string()
    }

    #[test]
    fn a_wrong_file_says_where_and_what() {
        let unknown = error("listen = \"127.0.0.1:1\"\nlease_second = 5\n");
        assert!(unknown.starts_with("supervisor.toml:2: unknown field `lease_second`"), "{unknown}");
        assert!(unknown.ends_with("(did you mean \"lease_seconds\"?)"), "{unknown}");
        assert!(!error("colour = 1").contains("did you mean"));
        assert!(error("\n\nlisten = 5").starts_with("supervisor.toml:3: "));
        assert!(error("listen = ").starts_with("supervisor.toml:1: "));
        assert_eq!(
            error("lease_seconds = 0"),
            "supervisor.toml: lease_seconds = 0 is out of range: 10 to 86400 is allowed"
        );
        assert!(error("batch_target_ms = 0").contains("out of range"));
        let anchor = error("\naudit_anchor = \"file:relative\"\n");
        assert!(anchor.starts_with("supervisor.toml:2: audit_anchor = \"file:relative\" is not"), "{anchor}");
    }

    #[test]
    fn a_provider_is_understood_in_every_build_and_opens_nothing_where_it_is_missing() {
        let section = "[oidc]\nissuer = \"https://id.example\"\nclient_id = \"stead\"\n";
        match Settings::parse(Path::new("supervisor.toml"), section) {
            Ok(settings) => assert!(cfg!(feature = "oidc") && settings.oidc.is_some()),
            Err(refused) => {
                let refused = refused.to_string();
                assert!(!cfg!(feature = "oidc") && refused.contains("the cargo feature `oidc`"), "{refused}");
            }
        }
        let unknown = error(&format!("{section}alowed_domains = [\"a.example\"]\n"));
        assert!(unknown.starts_with("supervisor.toml:4: ") && unknown.contains("\"allowed_domains\"?"), "{unknown}");
        assert!(error("[oidc]\nissuer = \"https://id.example\"\n").contains("client_id"));
        let open = error("[oidc]\nissuer = \"http://id.example\"\nclient_id = \"stead\"\n");
        assert!(open.starts_with("supervisor.toml: [oidc]: issuer = "), "{open}");
    }

    #[test]
    fn every_setting_is_shown() {
        let shown: std::collections::BTreeSet<_> = Settings::default().words().iter().map(|(key, ..)| *key).collect();
        assert_eq!(shown, KEYS.into_iter().collect());
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let some = Settings::parse(Path::new("x"), "lease_seconds = 60").expect("fine");
        assert_eq!(some, Settings { lease_seconds: 60, ..Settings::default() });
    }

    #[test]
    fn every_setting_can_be_suggested() {
        // A table of keys of its own.
        let keys = KEYS.into_iter().filter(|k| *k != "oidc");
        let text = toml::to_string(&toml::Table::from_iter(keys.map(|k| {
            let value = match k {
                "listen" => "127.0.0.1:1".into(),
                "audit_anchor" => "syslog".into(),
                "qb_conf" | "qbwrk_conf" => "/etc/x".into(),
                "grants_need_approval" | "own_accounts" | "proxy_users_sign_in" | "enforce_password" | "linkis" => {
                    true.into()
                }
                _ => toml::Value::Integer(32),
            };
            (k.to_owned(), value)
        })))
        .expect("toml");
        Settings::parse(Path::new("x"), &text).expect("KEYS are the settings");
        assert_eq!(text.lines().count(), KEYS.len() - 1);
        let refused = error("colour = 1");
        let (_, known) = refused.split_once("expected one of").expect("the settings there are");
        let known: std::collections::BTreeSet<_> = known.split('`').skip(1).step_by(2).collect();
        assert_eq!(known, KEYS.into_iter().collect(), "and all of them");
    }
}
