//! The texts that `stead install` writes: settings with their defaults as comments, and hardened systemd units.

pub(super) const LIB: &str = "/usr/local/lib/stead";
pub(super) const BIN: &str = "/usr/local/bin/stead";
pub(super) const ETC: &str = "/etc/stead";
pub(super) const DATA: &str = "/var/lib/stead";
pub(super) const UNITS: &str = "/etc/systemd/system";
pub(super) const TMPFILES: &str = "/etc/tmpfiles.d/stead.conf";

pub(super) const SUPERVISOR_TOML: &str = "\
# Settings of the supervisor. What is commented out is the default; a wrong line is refused with its number.
# `stead config check` says whether it is right; restart stead-supervisor to use it.

# Where people's HTTP listens besides the socket. Plain HTTP, so this machine only.
# listen = \"127.0.0.1:7878\"

# How many days ended jobs stay, with their folders, and how long their logs stay.
# jobs_keep_days = 30
# logs_keep_days = 30

# About how much work (ms) a session is given at once.
# batch_target_ms = 1000

# How many seconds a session lives without hearing from us.
# lease_seconds = 300

# Most MiB of output kept of one session.
# log_max_mib = 1024

# How many MiB of the disk are kept back so that jobs can be killed and rights taken away when it is full, and with how
# many free nothing is begun any more; each at most a sixteenth of the disk.
# disk_ballast_mib = 32
# disk_floor_mib = 64

# Connections of people at once: in all, of one account on the socket, of one address (IPv6: one /64) on the port. Behind
# a proxy everybody has one address.
# connections_max = 2048
# connections_per_uid = 256
# connections_per_address = 256

# MiB of requests that are being worked on: of one person, and of all.
# bodies_per_user_mib = 64
# bodies_max_mib = 512

# Where the audit's checkpoints are kept besides: \"syslog\", \"journald\", or \"file:/PATH\" on another disk. Unless set,
# nowhere: whoever has the supervisor's account could then cut off the end of the audit unnoticed.
# audit_anchor = \"syslog\"

# How many MiB a file of the audit grows before the next begins.
# audit_file_mib = 256

# Whether only grants count that somebody else than they serve has approved.
# grants_need_approval = false

# Whether people's passwords are those of the farm's own accounts, instead of this host's (PAM, service stead).
# own_accounts = false
# Take no jobs of whoever has no password here for their account (`stead password set`).
# enforce_password = false

# Qube!'s own files: the supervisor's, and the one that the workers are set by. Unless set, none but what stands where
# Qube! has it.
# qb_conf = \"/etc/qb.conf\"
# qbwrk_conf = \"/etc/qbwrk.conf\"

# A session ends that nobody used for so many minutes, and after so many days at most; a token after so many days.
# session_idle_minutes = 720
# session_max_days = 7
# token_max_days = 366

# Whether proxy users may sign in with a password of their own, and they and the accounts of proxy mode are known on the
# socket by their uid: as themselves only, without roles, tokens or grants.
# proxy_users_sign_in = false

# Whether clients of Linkis's are served at /api/rest_j/v1; a section [linkis] names commands for more kinds of code.
# linkis = true

# People sign in at an OpenID provider, with `stead login --oidc` or a browser. There is none unless this section is set;
# it needs an issuer and a client_id. It comes last: what stands below [oidc] belongs to it.
# [oidc]
# The provider, to the letter as it calls itself, and what it calls us. https:// except on this machine.
# issuer = \"https://id.example.org/realms/studio\"
# client_id = \"stead\"
# A file that only the supervisor may read. Unless set, a client without a secret.
# client_secret_file = \"/etc/stead/oidc-secret\"
# Where the provider sends browsers back to. Unless set, to the address the supervisor listens on.
# redirect_url = \"https://farm.example.org/api/v1/oidc/callback\"
# The claim that holds the login name, and what is asked for to get it.
# claim = \"preferred_username\"
# scopes = [\"openid\", \"profile\"]
# The claim has to be NAME@DOMAIN with one of these domains; without a list it is taken as it is.
# allowed_domains = [\"example.org\"]
# Whether NAME alone is the login name (takes exactly one domain), and whether capitals become small letters.
# strip_domain = false
# lower_case = false
# Only those sign in whose claim has this value, or a list that holds it. Unless set, everybody of the provider.
# required_claim = { name = \"groups\", value = \"farm\" }
";

pub(super) fn worker_toml(name: &str) -> String {
    format!(
        "\
# Settings of this host's worker. What is commented out is the default; a wrong line is refused with its number.

# Its name in the farm. stead-launcher.service names it, too: change both.
name = {name:?}

# As whom jobs run: \"user\" (each as its user) or \"proxy\" (all as proxy_account).
mode = \"user\"
# proxy_account = \"qubeproxy\"

# Tasks at once: the number of cores.
# slots = 4

# What jobs can require with --requires.
# labels = []
"
    )
}

pub(super) const LAUNCHER_CONF: &str = "\
# What this host allows, whatever a supervisor signs. Only root may be able to change this file.
# What is commented out is the default; a wrong line is refused with its number.

# Lowest uid, and lowest primary gid, that may run anything. Root is impossible, whatever stands here.
# uid_floor = 1000
# gid_floor = 100

# Lists of names. Without a list of allowed ones any may run that is not denied; an empty one is a mistake.
# allowed_accounts = ada bob
# denied_accounts = guest
# allowed_groups = film
# denied_groups = root shadow disk kmem docker lxd libvirt sudo wheel
# What a denied supplementary group does: strip (the job runs without it) or refuse.
# denied_groups_action = strip

# allowed_modes = user proxy
# The only account that proxy mode may use; without this line the supervisor's word counts.
# proxy_account = qubeproxy

# Sessions that can't gain privileges by executing something: shared (accounts), always or never.
# no_new_privs = shared

# Most processes and open files of a session.
# pids_max = 16384
# nofile = 65536
# Refuse jobs whose limits can't be enforced here.
# require_limits = no
# Log each account on with its password (`stead password set`).
# requires_password = no

# path = /usr/local/bin:/usr/bin:/bin
# lang = C.UTF-8
";

pub(super) const TMPFILES_CONF: &str = "\
# Where people's programs look for the farm's socket.
d /run/stead 0755 root root -
L+ /run/stead/socket - - - - /var/lib/stead/run/socket
";

/// For services that need nothing but their own folder, the local sockets and the network.
const UNPRIVILEGED: &str = "\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
UMask=0077
";

pub(super) fn supervisor_unit() -> String {
    format!(
        "\
[Unit]
Description=Stead supervisor: decides, stores and schedules
After=network.target nss-user-lookup.target

[Service]
User=stead
Group=stead
ExecStart={LIB}/stead supervisor --data {DATA} --worker-user stead-worker --supervisor-conf {ETC}/supervisor.toml --qube
Restart=on-failure
RestartPreventExitStatus=2
ReadWritePaths={DATA}/supervisor {DATA}/run
{UNPRIVILEGED}
[Install]
WantedBy=multi-user.target
"
    )
}

pub(super) fn worker_unit() -> String {
    format!(
        "\
[Unit]
Description=Stead worker: offers this host's slots
After=stead-launcher.service stead-supervisor.service nss-user-lookup.target
Wants=stead-launcher.service

[Service]
User=stead-worker
Group=stead-worker
ExecStart={LIB}/stead worker run --data {DATA} --conf {ETC}/worker.toml --qube
Restart=always
RestartSec=1
RestartPreventExitStatus=2
ReadWritePaths={DATA}/worker
{UNPRIVILEGED}
[Install]
WantedBy=multi-user.target
"
    )
}

/// Root. What it starts are people's jobs, which inherit what is set here: so only what no job may mind.
pub(super) fn launcher_unit(worker: &str) -> String {
    format!(
        "\
[Unit]
Description=Stead launcher: starts sessions under their accounts
After=nss-user-lookup.target

[Service]
ExecStart={LIB}/stead-launcher serve --data {DATA} --session {LIB}/stead-session --worker-user stead-worker --worker {worker}
Restart=always
RestartSec=1
RestartPreventExitStatus=2
# Control groups of its own, and sessions that live on when it is restarted.
Delegate=yes
KillMode=process
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
"
    )
}

/// Root, for what PAM's modules need: the host's password files, counters of failed tries, the audit. Not
/// `NoNewPrivileges`: a security module may give pam_unix's helper a domain of its own.
pub(super) fn checker_unit() -> String {
    format!(
        "\
[Unit]
Description=Stead checker: says whether a password is right
After=nss-user-lookup.target
Before=stead-supervisor.service

[Service]
ExecStart={LIB}/stead-launcher checker --state /run/stead-checker --socket {DATA}/run/checker.socket --supervisor-user stead
Restart=always
RestartSec=1
RestartPreventExitStatus=2
RuntimeDirectory=stead-checker
RuntimeDirectoryMode=0700
LimitCORE=0
TasksMax=64
CapabilityBoundingSet=CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID
ProtectSystem=full
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077

[Install]
WantedBy=multi-user.target
"
    )
}

/// XDG autostart: a farm of the person's own, from log-in to log-out.
pub(super) fn autostart(stead: &str) -> String {
    entry(&[stead, "dev", "--with-login"])
}

/// The same for a worker of the farm in `data`, whoever logs in: it is refused to those who are not on the list.
pub(super) fn worker_autostart(stead: &str, data: &str) -> String {
    entry(&[stead, "worker", "run", "--mode", "desktop", "--with-login", "--data", data])
}

fn entry(words: &[&str]) -> String {
    let quoted = |word: &&str| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"));
    let line = words.iter().map(quoted).collect::<Vec<_>>().join(" ");
    format!(
        "\
[Desktop Entry]
Type=Application
Name=Stead desktop worker
Comment=Runs your jobs as you while you are logged in
Exec={line}
Terminal=false
X-GNOME-Autostart-enabled=true
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in the comments, as if it were set.
    fn uncommented(text: &str) -> String {
        let is_setting = |l: &&str| l.contains(" = ") || l.starts_with('[');
        let lines = text.lines().map(|l| l.strip_prefix("# ").filter(is_setting).unwrap_or(l));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn supervisors(text: &str) -> Result<supervisor::Settings, supervisor::ConfigError> {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("supervisor.toml");
        std::fs::write(&path, text).expect("file");
        supervisor::Settings::load(Some(&path))
    }

    /// The settings there are, as the refusal of one that isn't tells them.
    fn known(text: &str) -> Vec<String> {
        let refused = supervisors(&format!("{text}colour = 1")).expect_err("no such setting").to_string();
        let (_, known) = refused.split_once("expected one of").expect("the settings there are");
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// A comment that names a setting that does not exist would mislead; so would one that is not the default.
    #[test]
    fn the_settings_in_the_comments_are_real() {
        assert_eq!(supervisors(SUPERVISOR_TOML).expect("settings"), supervisor::Settings::default());
        let all = uncommented(SUPERVISOR_TOML);
        // A build without it refuses the section.
        let readable = if cfg!(feature = "oidc") { &all[..] } else { all.split("[oidc]").next().expect("a beginning") };
        let settings = supervisors(readable).expect("settings");
        assert_eq!((settings.audit_anchor.is_some(), settings.oidc.is_some()), (true, cfg!(feature = "oidc")));
        // These are off unless they are set.
        let defaults =
            supervisor::Settings { audit_anchor: None, qb_conf: None, qbwrk_conf: None, oidc: None, ..settings };
        assert_eq!(defaults, supervisor::Settings::default(), "the comments show the defaults");
        let dir = tempfile::tempdir().expect("tempdir");
        let worker = dir.path().join("worker.toml");
        std::fs::write(&worker, uncommented(&worker_toml("host-1"))).expect("file");
        crate::services::WorkerFile::load(&worker).expect("settings");
    }

    /// Nobody has to look elsewhere for what can be set.
    #[test]
    fn every_setting_of_the_supervisor_is_in_its_file_with_what_it_is_for() {
        let file: toml::Table = uncommented(SUPERVISOR_TOML).parse().expect("toml");
        let sorted = |mut keys: Vec<String>| {
            keys.sort();
            keys
        };
        let keys = |table: &toml::Table| sorted(table.keys().cloned().collect());
        assert_eq!(keys(&file), sorted(known("")));
        let section = "[oidc]\nissuer = \"https://id.example\"\nclient_id = \"stead\"\n";
        assert_eq!(keys(file["oidc"].as_table().expect("a section")), sorted(known(section)));
        // Above each group of settings stands a sentence.
        let lines: Vec<&str> = SUPERVISOR_TOML.lines().collect();
        for (before, line) in lines.iter().zip(&lines[1..]).filter(|(_, line)| line.contains(" = ")) {
            assert!(before.starts_with("# "), "nothing is said of {line}");
        }
    }

    #[test]
    fn the_autostart_entry_starts_the_persons_own_worker() {
        let entry = autostart("/opt/a \"b\"/stead");
        assert!(entry.contains("\nExec=\"/opt/a \\\"b\\\"/stead\" \"dev\" \"--with-login\"\n"), "{entry}");
        let entry = worker_autostart("/s", "/50%");
        assert!(entry.contains("\"--mode\" \"desktop\" \"--with-login\" \"--data\" \"/50%%\"\n"), "{entry}");
        assert!(!entry.contains("sudo") && !entry.contains("User="), "{entry}");
    }

    #[test]
    fn the_unprivileged_units_hold_nothing_and_the_launchers_lets_sessions_live() {
        for unit in [supervisor_unit(), worker_unit()] {
            for line in [
                "NoNewPrivileges=yes",
                "CapabilityBoundingSet=\n",
                "ProtectSystem=strict",
                "PrivateTmp=yes",
                "User=stead",
            ] {
                assert!(unit.contains(line), "{line}\n{unit}");
            }
        }
        let checker = checker_unit();
        assert!(!checker.contains("User=") && checker.contains("LimitCORE=0") && checker.contains("CAP_AUDIT_WRITE"));
        for never in ["SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "SYS_MODULE", "NoNewPrivileges=yes"] {
            assert!(!checker.contains(never), "{never}");
        }
        let launcher = launcher_unit("w");
        assert!(
            launcher.contains("Delegate=yes") && launcher.contains("KillMode=process") && !launcher.contains("User=")
        );
    }
}
