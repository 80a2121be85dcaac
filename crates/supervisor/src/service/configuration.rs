//! Qube!'s files read again, and what they say of a worker.

use super::Service;
use crate::audit::{Act, Outcome, Record};
use crate::caller::Caller;
use crate::configuration::{FileView, Held, Loaded, held};
use crate::dispatch::KnownWorker;
use crate::error::ServiceError;
use compat_qube::{Role, Setting};
use policy::Refusal;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

const HIGHEST: &str = "supervisor_highest_user_priority";
/// Qube!'s usual priority, 0 here.
const LOWEST: i64 = 9999;
/// Most changes that are said one by one.
const CHANGES_MAX: usize = 200;

/// What the files say of the supervisor.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigurationView {
    files: Vec<FileView>,
    warnings: Vec<String>,
    /// Nobody is to submit before their password is registered.
    enforce_password: bool,
    settings: Vec<SettingView>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SettingView {
    key: String,
    /// Passwords are not shown.
    value: String,
    /// File and line, and the sections it came through; or that it is built in.
    from: String,
}

/// What came of reading the files again.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReloadView {
    files: Vec<FileView>,
    warnings: Vec<String>,
    /// At most 200 of them.
    changes: Vec<String>,
    changed: usize,
    /// Workers that are connected: they have it.
    workers: usize,
    /// Of these, the ones that run jobs as somebody else from now on.
    told: usize,
    /// They have not answered yet, and take no jobs until they do.
    late: Vec<String>,
}

/// What holds for a worker, and where each of it comes from.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WorkerConfigurationView {
    worker: String,
    mode: &'static str,
    proxy_account: Option<String>,
    slots: u32,
    labels: Vec<String>,
    /// Whose word counts on its host.
    lookup: &'static str,
    /// Who said it: `central`, `local`, `mixed`, `default`.
    said_by: &'static str,
    settings: Vec<SettingView>,
    /// Why nothing can be made of them.
    trouble: Option<String>,
}

impl From<&Setting> for SettingView {
    fn from(setting: &Setting) -> Self {
        Self { key: setting.key.to_string(), value: setting.shown(), from: setting.origin.to_string() }
    }
}

impl Service {
    /// An administrator has the files read again. With an error in them nothing changes.
    pub(crate) async fn reload(&self, caller: &Caller) -> Result<ReloadView, ServiceError> {
        caller.needs_admin("have the configuration read again")?;
        let _alone = self.configuration.alone().await;
        let record = Record::done(Act::Configuration, caller.actor());
        let new = match self.configuration.read_again() {
            Ok(new) => new,
            Err(error) => {
                let record = record.outcome(Outcome::Failed).with("why", error.to_string());
                self.audit.write(record).await?;
                return Err(error.into());
            }
        };
        let mut changes = self.differences(&new).await?;
        let changed = changes.len();
        changes.truncate(CHANGES_MAX);
        let record = record.with("files", &new.files).with("changed", changed).with("changes", &changes);
        self.audit.write(record).await?;
        self.configuration.take(new.clone());
        let configured = self.dispatcher.configure(&new).await?;
        let mut warnings = new.warnings.clone();
        warnings.extend(self.dispatcher.enforced_in_vain(self.settings.enforce_password).await?);
        Ok(ReloadView {
            files: new.files.clone(),
            warnings,
            changes,
            changed,
            workers: configured.here,
            told: configured.told,
            late: configured.late,
        })
    }

    /// What would be otherwise, a line each.
    async fn differences(&self, new: &Loaded) -> Result<Vec<String>, ServiceError> {
        let old = self.configuration.current();
        let mut changes = differences("supervisor", &of_supervisor(&old), &of_supervisor(new));
        for KnownWorker { hello, .. } in self.dispatcher.known_workers().await? {
            if let (Ok(before), Ok(after)) = (held(&hello, &old), held(&hello, new)) {
                changes.extend(differences(&hello.name, &of_worker(&before), &of_worker(&after)));
            }
        }
        Ok(changes)
    }

    /// `supervisor_highest_user_priority`: what only administrators may go beyond.
    pub(super) fn may_have_priority(&self, caller: &Caller, priority: i32) -> Result<(), Refusal> {
        let loaded = self.configuration.current();
        let Some(setting) = loaded.qb_conf.as_ref().and_then(|conf| conf.set(HIGHEST)) else { return Ok(()) };
        let highest = loaded.supervisor.highest_user_priority;
        let most = LOWEST - i64::from(highest);
        if caller.is_admin() || i64::from(priority) <= most {
            return Ok(());
        }
        Err(Refusal {
            rule: HIGHEST.to_owned(),
            value: priority.to_string(),
            text: format!(
                "a priority above {most} ({highest} in Qube!'s scale) is for administrators ({})",
                setting.origin
            ),
            hint: format!("submit with --priority {most} (qbsub: --priority {highest}), or ask an administrator"),
        })
    }

    /// What the files say of the supervisor itself.
    pub(crate) fn configuration(&self, caller: &Caller) -> Result<ConfigurationView, ServiceError> {
        caller.needs_admin("see the configuration")?;
        let loaded = self.configuration.current();
        let settings = of_supervisor(&loaded);
        Ok(ConfigurationView {
            files: loaded.files.clone(),
            warnings: loaded.warnings.clone(),
            enforce_password: loaded.supervisor.flags.enforce_password,
            settings: settings.values().map(SettingView::from).collect(),
        })
    }

    /// What holds for a worker, here or away.
    pub(crate) async fn worker_configuration(&self, name: &str) -> Result<WorkerConfigurationView, ServiceError> {
        let known = self.dispatcher.known_workers().await?.into_iter().find(|k| k.place.worker == name);
        let known = known.ok_or_else(|| ServiceError::NoSuchWorker(name.to_owned()))?;
        let held = held(&known.hello, &self.configuration.current()).map_err(|e| ServiceError::input("worker", e))?;
        let proxy_account = known.place.proxy_account.as_ref().map(|account| match account {
            policy::ProxyAccount::Named(name) => name.to_string(),
            policy::ProxyAccount::Throwaway => "throwaway".to_owned(),
        });
        Ok(WorkerConfigurationView {
            worker: name.to_owned(),
            mode: known.place.mode.as_str(),
            proxy_account,
            slots: known.slots,
            labels: known.place.labels,
            lookup: held.lookup.as_str(),
            said_by: known.said_by,
            settings: held.effective.all().iter().map(SettingView::from).collect(),
            trouble: held.trouble,
        })
    }
}

type BySettingKey = BTreeMap<String, Setting>;

fn of_supervisor(loaded: &Loaded) -> BySettingKey {
    let is_own = |s: &&Setting| s.known.is_some_and(|k| matches!(k.role, Role::Supervisor | Role::Common));
    let settings = loaded.qb_conf.iter().flat_map(compat_qube::QbConf::settings).filter(is_own);
    settings.map(|s| (s.key.to_string(), s.clone())).collect()
}

fn of_worker(held: &Held) -> BySettingKey {
    held.effective.all().into_iter().map(|s| (s.key.to_string(), s)).collect()
}

/// `lin-07: proxy_execution_mode: user -> proxy (/etc/qbwrk.conf:12 [farm])`. Of passwords only that they changed.
fn differences(of: &str, before: &BySettingKey, after: &BySettingKey) -> Vec<String> {
    let none = || "(not set)".to_owned();
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let gone = gone.map(|key| format!("{of}: {key}: {} -> {}", before[key].shown(), none()));
    let new = after.iter().filter(|(key, s)| before.get(*key).is_none_or(|b| b.value != s.value));
    let new = new.map(|(key, s)| {
        let was = before.get(key).map_or_else(none, Setting::shown);
        format!("{of}: {key}: {was} -> {} ({})", s.shown(), s.origin)
    });
    gone.chain(new).collect()
}
