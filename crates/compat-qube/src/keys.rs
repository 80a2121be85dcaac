//! Every key that Qube! knows, and what Stead does with it.

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Common,
    Worker,
    Supervisor,
    Client,
}

impl Role {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Common => "every host",
            Self::Worker => "workers",
            Self::Supervisor => "the supervisor",
            Self::Client => "clients",
        }
    }
}

/// What Stead does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It says as whom jobs run, or who may do what. A wrong value is an error.
    Identity,
    /// It acts, and a wrong value is an error.
    Acts,
    /// It says who may do what in Qube!, and not here; a wrong value is an error all the same.
    Checked,
    /// Accepted, so that the file need not be changed.
    NotUsed,
    /// Only read in the worker's own `qb.conf`.
    Bootstrap,
}

impl Standing {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "acts (identity)",
            Self::Acts => "acts",
            Self::Checked => "checked, not used",
            Self::NotUsed => "accepted, not used",
            Self::Bootstrap => "only in a worker's own file",
        }
    }
}

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// Not to be shown.
    Secret,
    Word(&'static [&'static str]),
    Account,
    Password,
    Domain,
    Nice,
    Cpus,
    Priority,
    Limit,
    Limits,
    Cluster,
    List,
    Map,
    Properties,
    Lookup,
    /// Names, or the sum of their numbers; 0 as a number: it is not documented.
    Flags(&'static [(&'static str, u32)]),
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    pub role: Role,
    pub standing: Standing,
    pub(crate) kind: Kind,
    /// Qube!'s own, on Linux.
    pub default: &'static str,
    /// What Stead does instead, or about it.
    pub note: &'static str,
}

impl Key {
    /// Whether its value is not to be shown.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::Password)
    }

    /// Whether it has no effect, here or anywhere in Stead.
    #[must_use]
    pub const fn is_unused(&self) -> bool {
        matches!(self.standing, Standing::NotUsed | Standing::Checked)
    }

    #[must_use]
    pub const fn is_identity(&self) -> bool {
        matches!(self.standing, Standing::Identity | Standing::Checked) || matches!(self.kind, Kind::Lookup)
    }
}

/// The key of this name.
#[must_use]
pub fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.name == name)
}

const fn k(
    name: &'static str,
    role: Role,
    standing: Standing,
    kind: Kind,
    default: &'static str,
    note: &'static str,
) -> Key {
    Key { name, role, standing, kind, default, note }
}

pub(crate) const WORKER_FLAGS: &[(&str, u32)] =
    &[("dedicated", 0), ("dynamic", 0), ("auto_mount", 0), ("remove_logs", 0), ("load_profile", 0), ("auto_remove", 0)];

pub(crate) const SUPERVISOR_FLAGS: &[(&str, u32)] = &[
    ("disable_submit_check", 0),
    ("enforce_password", 0),
    ("host_recontact", 0),
    ("heartbeat_monitor", 0),
    ("running_monitor", 0),
    ("stub_optimize", 0),
    ("remove_logs", 0),
    ("retry_busy", 0),
];

pub(crate) const JOB_FLAGS: &[(&str, u32)] = &[
    ("uninterruptible", 1),
    ("grid", 4),
    ("auto_mount", 8),
    ("export_environment", 16),
    ("expand", 32),
    ("host_list", 256),
    ("elite", 512),
    ("mail", 1024),
    ("disable_windows_job_object", 2048),
    ("disable_cpu_limit", 4096),
    ("disable_auto_complete", 8192),
    ("auto_wrangling", 16384),
    ("p_agenda", 32768),
    ("migrate_on_frame_retry", 65536),
    ("convert_path", 131_072),
    ("no_defaults", 524_288),
];

pub(crate) const PERMISSIONS: &[(&str, u32)] = &[
    ("submit_job", 1),
    ("submit_callback", 2),
    ("submit_global_callback", 4),
    ("bump", 8),
    ("kill", 16),
    ("remove", 32),
    ("modify", 64),
    ("preempt", 128),
    ("block", 256),
    ("interrupt", 512),
    ("complete", 1024),
    ("unblock", 2048),
    ("suspend", 4096),
    ("resume", 8192),
    ("retry", 16384),
    ("requeue", 32768),
    ("migrate", 65536),
    ("shove", 131_072),
    ("fail", 262_144),
    ("retire", 524_288),
    ("reset", 1_048_576),
    ("lock_host", 134_217_728),
    ("sudo_admin", 268_435_456),
    ("impersonate", 536_870_912),
    ("admin", 1_073_741_824),
];

/// All of them.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    k("qb_directory", Role::Common, Standing::Bootstrap, Kind::Text, "/usr/local/pfx/qube", "Stead's programs find each other side by side"),
    k("qb_domain", Role::Common, Standing::Bootstrap, Kind::Text, "", "a worker belongs to the farm whose socket it dials"),
    k("qb_supervisor", Role::Common, Standing::Bootstrap, Kind::Text, "", "say it with `stead worker run --data`"),
    k("proxy_execution_mode", Role::Worker, Standing::Identity, Kind::Word(&["user", "proxy"]), "proxy", "as whom jobs run: as their user, or all as `proxy_account`"),
    k("proxy_account", Role::Worker, Standing::Identity, Kind::Account, "qubeproxy", "the account of proxy mode; ignored in user mode"),
    k("proxy_password", Role::Worker, Standing::Identity, Kind::Password, "", "in qbwrk.conf, as `qblogin --display` prints it, where a worker says `requires_password`; a value that Qube! sealed is recognised, said to be of no use, and stops no Linux worker"),
    k("worker_host_domain", Role::Worker, Standing::Identity, Kind::Domain, "", "the domain of the proxy account where passwords are checked; Linux workers look accounts up through the name service"),
    k("proxy_nice_value", Role::Worker, Standing::Acts, Kind::Nice, "0", "jobs give way to others by so much; below 0 it is as 0: taking more than others is root's, and no job's"),
    k("proxy_location", Role::Worker, Standing::NotUsed, Kind::Text, "$QBDIR/sbin/proxy", "`stead-launcher` starts jobs; which one is the host's own affair"),
    k("worker_cpus", Role::Worker, Standing::Acts, Kind::Cpus, "0", "slots of the worker; 0: as it was started"),
    k("worker_resources", Role::Worker, Standing::Acts, Kind::Properties, "", "`host.processors=N` are its slots where `worker_cpus` says nothing; each is a label"),
    k("worker_properties", Role::Worker, Standing::Acts, Kind::Properties, "", "each is a label: `--requires host.maya=1`"),
    k("worker_groups", Role::Worker, Standing::Acts, Kind::List, "", "each is a label: `--requires group:NAME`"),
    k("worker_cluster", Role::Worker, Standing::Acts, Kind::Cluster, "/", "a label: `--requires cluster:/NAME`"),
    k("worker_restrictions", Role::Worker, Standing::NotUsed, Kind::Text, "", "use `--requires`, or drain the worker"),
    k("worker_path_map", Role::Worker, Standing::Acts, Kind::Map, "", "for jobs that ask for it (`qbsub --flags convert_path`, `stead submit --convert-paths`): in commands, variables and `--cwd`"),
    k("worker_flags", Role::Worker, Standing::NotUsed, Kind::Flags(WORKER_FLAGS), "remove_logs", "names are checked; workers always ship their logs and keep none"),
    k("worker_flight_check_path", Role::Worker, Standing::NotUsed, Kind::Text, "$QBDIR/flightCheck", "only a job's own flight checks run (`qbsub --preflights …`)"),
    k("worker_drive_map", Role::Worker, Standing::NotUsed, Kind::Secret, "", "drives are Windows'"),
    k("worker_job_types", Role::Worker, Standing::NotUsed, Kind::List, "", "Stead runs OpenJD's templates and command lines"),
    k("worker_template_path", Role::Worker, Standing::NotUsed, Kind::Text, "", "there are no job types to be found"),
    k("worker_boot_diagnostics_retries", Role::Worker, Standing::NotUsed, Kind::Text, "1", "the worker looks at its proxy account every few seconds and recovers by itself"),
    k("worker_boot_diagnostics_retry_interval", Role::Worker, Standing::NotUsed, Kind::Text, "30", "the worker looks at its proxy account every few seconds and recovers by itself"),
    k("worker_check_interval", Role::Worker, Standing::NotUsed, Kind::Text, "120", "the launcher is told of every end by the kernel"),
    k("worker_heartbeat_interval", Role::Worker, Standing::NotUsed, Kind::Text, "120", "a worker is heard of every 5 s"),
    k("worker_post_interval", Role::Worker, Standing::NotUsed, Kind::Text, "43200", "a worker is heard of every 5 s"),
    k("worker_idle_threads", Role::Worker, Standing::NotUsed, Kind::Text, "4", "Stead's worker needs no pool"),
    k("worker_max_clients", Role::Worker, Standing::NotUsed, Kind::Text, "256", "Stead's worker needs no pool"),
    k("worker_log_timeout", Role::Worker, Standing::NotUsed, Kind::Text, "10", "logs are shipped at once"),
    k("worker_logfile", Role::Worker, Standing::NotUsed, Kind::Text, "/var/log/workerlog", "the worker logs to its standard error: the journal, as a service"),
    k("worker_logmode", Role::Worker, Standing::NotUsed, Kind::Text, "remote", "logs are always shipped"),
    k("worker_logpath", Role::Worker, Standing::NotUsed, Kind::Text, "/var/spool/qube", "logs are on the supervisor, whole jobs' folders on the worker"),
    k("worker_description", Role::Worker, Standing::NotUsed, Kind::Text, "", "in Qube!'s example file, not in its reference"),
    k("worker_address", Role::Worker, Standing::Bootstrap, Kind::Text, "", "workers dial; nobody dials them"),
    k("worker_boot_delay", Role::Worker, Standing::Bootstrap, Kind::Text, "0", "a worker tries until its supervisor is there"),
    k("worker_journal_location", Role::Worker, Standing::Bootstrap, Kind::Text, "", "the worker's folder is below `--data`"),
    k("worker_lookup", Role::Worker, Standing::Bootstrap, Kind::Lookup, "local,supervisor", "which of the worker's own file and the supervisor's wins; acts"),
    k("worker_max_threads", Role::Worker, Standing::Bootstrap, Kind::Text, "8", "Stead's worker needs no pool"),
    k("worker_pidfile", Role::Worker, Standing::Bootstrap, Kind::Text, "", "systemd knows its services' processes"),
    k("worker_port", Role::Worker, Standing::Bootstrap, Kind::Text, "50011", "workers dial; nobody dials them"),
    k("supervisor_flags", Role::Supervisor, Standing::Identity, Kind::Flags(SUPERVISOR_FLAGS), "host_recontact,heartbeat_monitor,running_monitor,retry_busy", "`enforce_password`: nobody submits without a registered password; the others are how Stead always works"),
    k("supervisor_default_security", Role::Supervisor, Standing::Checked, Kind::Flags(PERMISSIONS), "136314867", "Stead's roles say who may do what (`qbusers`); there are no permissions for single acts"),
    k("supervisor_worker_configfile", Role::Supervisor, Standing::Acts, Kind::Text, "/etc/qbwrk.conf", "where the supervisor reads qbwrk.conf"),
    k("supervisor_default_priority", Role::Supervisor, Standing::Acts, Kind::Priority, "9999", "where it is said, what says no priority has this one: 9999 is 0 of `stead submit`"),
    k("supervisor_highest_user_priority", Role::Supervisor, Standing::Acts, Kind::Priority, "1", "where it is said, higher ones are refused to all but administrators: 1 is 9998 of `stead submit`, 9999 is 0"),
    k("supervisor_max_priority", Role::Supervisor, Standing::Acts, Kind::Priority, "9999", "where it is said, no job has a lower priority; `qbsub` itself takes what is larger than 9999 as 9999"),
    k("supervisor_default_user_subjob_limit", Role::Supervisor, Standing::Acts, Kind::Limit, "-1", "so many sessions at once, of all jobs of one user who is not named in `supervisor_user_subjob_limits`"),
    k("supervisor_user_subjob_limits", Role::Supervisor, Standing::Acts, Kind::Limits, "", "the same for those named; a job that waits for it says so. -1: no limit"),
    k("supervisor_default_pgrp_subjob_limit", Role::Supervisor, Standing::NotUsed, Kind::Limit, "-1", "jobs have no process groups (`--pgrp`); users' limits act"),
    k("supervisor_pgrp_subjob_limits", Role::Supervisor, Standing::NotUsed, Kind::Limits, "", "jobs have no process groups (`--pgrp`); users' limits act"),
    k("supervisor_job_flags", Role::Supervisor, Standing::NotUsed, Kind::Flags(JOB_FLAGS), "", "names are checked"),
    k("supervisor_host_policy", Role::Supervisor, Standing::NotUsed, Kind::Word(&["open", "restricted", "restrictedbyname", "restrictedbyaddress"]), "open", "who may dial as a worker is `--worker-user`'s to say"),
    k("supervisor_default_cluster", Role::Supervisor, Standing::NotUsed, Kind::Cluster, "/", "say `--requires cluster:/NAME`"),
    k("supervisor_default_hostorder", Role::Supervisor, Standing::NotUsed, Kind::Text, "", ""),
    k("supervisor_default_max_cpus", Role::Supervisor, Standing::NotUsed, Kind::Text, "-1", ""),
    k("supervisor_max_cpus_limit", Role::Supervisor, Standing::NotUsed, Kind::Text, "100", ""),
    k("supervisor_global_resources", Role::Supervisor, Standing::NotUsed, Kind::Text, "", ""),
    k("supervisor_address", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "`listen` in supervisor.toml"),
    k("supervisor_port", Role::Supervisor, Standing::NotUsed, Kind::Text, "50001", "`listen` in supervisor.toml"),
    k("supervisor_heartbeat_interval", Role::Supervisor, Standing::NotUsed, Kind::Text, "360", "a worker is heard of every 5 s"),
    k("supervisor_heartbeat_timeout", Role::Supervisor, Standing::NotUsed, Kind::Text, "720", "a session lives for its lease: `lease_seconds` in supervisor.toml"),
    k("supervisor_id", Role::Supervisor, Standing::NotUsed, Kind::Text, "0", ""),
    k("supervisor_idle_threads", Role::Supervisor, Standing::NotUsed, Kind::Text, "32", ""),
    k("supervisor_max_threads", Role::Supervisor, Standing::NotUsed, Kind::Text, "128", ""),
    k("supervisor_max_clients", Role::Supervisor, Standing::NotUsed, Kind::Text, "32", ""),
    k("supervisor_language_flags", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "callbacks run as jobs"),
    k("supervisor_log_flags", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "the audit says who did what"),
    k("supervisor_logfile", Role::Supervisor, Standing::NotUsed, Kind::Text, "/var/log/supelog", "the supervisor logs to its standard error: the journal, as a service"),
    k("supervisor_logpath", Role::Supervisor, Standing::NotUsed, Kind::Text, "/var/spool/qube", "logs are below the supervisor's `--data`"),
    k("supervisor_manifest", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "the audit says who did what"),
    k("supervisor_manifest_flags", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "the audit says who did what"),
    k("supervisor_max_metered_licenses", Role::Supervisor, Standing::NotUsed, Kind::Text, "", ""),
    k("supervisor_max_postboard_retry", Role::Supervisor, Standing::NotUsed, Kind::Text, "8", ""),
    k("supervisor_max_worker_requeue", Role::Supervisor, Standing::NotUsed, Kind::Text, "8", ""),
    k("supervisor_max_worker_retry", Role::Supervisor, Standing::NotUsed, Kind::Text, "64", "workers dial until somebody answers"),
    k("supervisor_migrate_timeout", Role::Supervisor, Standing::NotUsed, Kind::Text, "1200", ""),
    k("supervisor_partner_licensing_host", Role::Supervisor, Standing::NotUsed, Kind::Text, "", ""),
    k("supervisor_partner_licensing_port", Role::Supervisor, Standing::NotUsed, Kind::Text, "", ""),
    k("supervisor_pidfile", Role::Supervisor, Standing::NotUsed, Kind::Text, "/var/run/Supervisor.pid", "systemd knows its services' processes"),
    k("supervisor_policy_binding", Role::Supervisor, Standing::NotUsed, Kind::Text, "Internal", "the policy is built in; `stead explain` shows it"),
    k("supervisor_policy_library", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "the policy is built in; `stead explain` shows it"),
    k("supervisor_preempt_policy", Role::Supervisor, Standing::NotUsed, Kind::Text, "passive", ""),
    k("supervisor_queue_algorithm", Role::Supervisor, Standing::NotUsed, Kind::Text, "Internal=cluster", ""),
    k("supervisor_queue_binding", Role::Supervisor, Standing::NotUsed, Kind::Text, "Internal", ""),
    k("supervisor_queue_library", Role::Supervisor, Standing::NotUsed, Kind::Text, "cluster", ""),
    k("supervisor_reserve_timeout", Role::Supervisor, Standing::NotUsed, Kind::Text, "600", ""),
    k("supervisor_smart_share_mode", Role::Supervisor, Standing::NotUsed, Kind::Text, "jobs", ""),
    k("supervisor_smart_share_preempt_policy", Role::Supervisor, Standing::NotUsed, Kind::Text, "aggressive", ""),
    k("supervisor_tmp_path", Role::Supervisor, Standing::NotUsed, Kind::Text, "/tmp", ""),
    k("supervisor_universal_callback_path", Role::Supervisor, Standing::NotUsed, Kind::Text, "", ""),
    k("supervisor_verbosity", Role::Supervisor, Standing::NotUsed, Kind::Text, "", ""),
    k("aw_activation_work_count", Role::Supervisor, Standing::NotUsed, Kind::Text, "5", ""),
    k("aw_job_migrate_max", Role::Supervisor, Standing::NotUsed, Kind::Text, "3", ""),
    k("database_host", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "the store is below the supervisor's `--data`"),
    k("database_password", Role::Supervisor, Standing::NotUsed, Kind::Secret, "", "the store is below the supervisor's `--data`"),
    k("database_port", Role::Supervisor, Standing::NotUsed, Kind::Text, "50055", "the store is below the supervisor's `--data`"),
    k("database_user", Role::Supervisor, Standing::NotUsed, Kind::Text, "qube", "the store is below the supervisor's `--data`"),
    k("mail_administrator", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "Stead sends no mail"),
    k("mail_connection_type", Role::Supervisor, Standing::NotUsed, Kind::Text, "DEFAULT", "Stead sends no mail"),
    k("mail_domain", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "Stead sends no mail"),
    k("mail_from", Role::Supervisor, Standing::NotUsed, Kind::Text, "qube", "Stead sends no mail"),
    k("mail_host", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "Stead sends no mail"),
    k("mail_job_status_format", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "Stead sends no mail"),
    k("mail_license_status_format", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "Stead sends no mail"),
    k("mail_password", Role::Supervisor, Standing::NotUsed, Kind::Secret, "", "Stead sends no mail"),
    k("mail_port", Role::Supervisor, Standing::NotUsed, Kind::Text, "0", "Stead sends no mail"),
    k("mail_subjob_status_format", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "Stead sends no mail"),
    k("mail_user", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "Stead sends no mail"),
    k("mail_work_status_format", Role::Supervisor, Standing::NotUsed, Kind::Text, "", "Stead sends no mail"),
    k("client_account", Role::Client, Standing::NotUsed, Kind::Text, "", "for the qb commands"),
    k("client_cluster", Role::Client, Standing::NotUsed, Kind::Text, "", "for the qb commands"),
    k("client_drive_map", Role::Client, Standing::NotUsed, Kind::Secret, "", "drives are Windows'"),
    k("client_host_domain", Role::Client, Standing::NotUsed, Kind::Text, "", "for the qb commands"),
    k("client_job_flags", Role::Client, Standing::NotUsed, Kind::Flags(JOB_FLAGS), "", "for the qb commands"),
    k("client_logpath", Role::Client, Standing::NotUsed, Kind::Text, "", "logs are read through the supervisor, which knows who may"),
    k("client_priority", Role::Client, Standing::NotUsed, Kind::Text, "", "for the qb commands"),
    k("client_restrictions", Role::Client, Standing::NotUsed, Kind::Text, "", "for the qb commands"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_there_once_and_its_own_default_is_allowed() {
        for (i, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..i].iter().all(|k| k.name != key.name), "{} is there twice", key.name);
            let value = crate::Value::Text(key.default.to_owned());
            assert!(key.default.is_empty() || crate::worker::check(key, &value).is_ok(), "{}", key.name);
        }
    }
}
