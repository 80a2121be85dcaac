//! Qube!'s files read again, what they say of a worker, and what an administrator has written into them.

use super::Service;
use super::people::manages;
use crate::audit::{Act, Outcome, Record};
use crate::caller::Caller;
use crate::configuration::{Configuration, ConfigurationError, FileView, Held, Loaded, held};
use crate::dispatch::KnownWorker;
use crate::error::ServiceError;
use crate::foresight::{Change, DiffView, WorkerChange};
use compat_qube::{Role, Setting};
use policy::Refusal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Workers changed at once.
const WORKERS_MAX: usize = 200;

const HIGHEST: &str = "supervisor_highest_user_priority";
/// Qube!'s usual priority, 0 here.
const LOWEST: i64 = 9999;
/// Most changes that are said one by one.
const CHANGES_MAX: usize = 200;

/// What the files say of the supervisor.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigurationView {
    pub(crate) files: Vec<FileView>,
    pub(crate) warnings: Vec<String>,
    /// Nobody is to submit before their password is registered.
    enforce_password: bool,
    pub(crate) settings: Vec<SettingView>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SettingView {
    pub(crate) key: String,
    /// Passwords are not shown.
    pub(crate) value: String,
    /// File and line, and the sections it came through; or that it is built in.
    pub(crate) from: String,
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
    pub(crate) told: usize,
    /// They have not answered yet, and take no jobs until they do.
    pub(crate) late: Vec<String>,
}

/// What is to stand in qbwrk.conf of some workers; what is left out stays as it is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WorkersChange {
    pub(crate) workers: Vec<String>,
    /// `user` or `proxy`.
    pub(crate) proxy_execution_mode: Option<String>,
    pub(crate) proxy_account: Option<String>,
    pub(crate) worker_host_domain: Option<String>,
    /// In its sealed form only (`stead password hash`, `POST /api/v1/passwords/{account}/seal`). It is never shown.
    pub(crate) proxy_password: Option<String>,
    /// Only says what would be.
    pub(crate) dry_run: bool,
    /// The file as it was when somebody looked what would be (`sha256` of that answer).
    pub(crate) sha256: Option<String>,
}

/// What becomes, or would become, of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WorkersChangedView {
    pub(crate) file: PathBuf,
    /// Of the file as it was.
    pub(crate) sha256: String,
    /// At most 200 of them.
    pub(crate) changes: Vec<String>,
    pub(crate) changed: usize,
    /// Workers whose host goes by its own settings alone: for them the file changes nothing.
    pub(crate) unheeded: Vec<String>,
    /// Which of the last jobs would run as somebody else.
    pub(crate) jobs: DiffView,
    /// What came of it; nothing, where it was only asked.
    pub(crate) done: Option<ReloadView>,
}

/// What holds for a worker, and where each of it comes from.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WorkerConfigurationView {
    worker: String,
    pub(crate) mode: &'static str,
    pub(crate) proxy_account: Option<String>,
    slots: u32,
    labels: Vec<String>,
    /// Whose word counts on its host.
    pub(crate) lookup: &'static str,
    /// Who said it: `central`, `local`, `mixed`, `default`.
    said_by: &'static str,
    pub(crate) settings: Vec<SettingView>,
    /// Why nothing can be made of them.
    pub(crate) trouble: Option<String>,
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
        self.put_into_force(new, changes, changed).await
    }

    async fn put_into_force(
        &self,
        new: Arc<Loaded>,
        changes: Vec<String>,
        changed: usize,
    ) -> Result<ReloadView, ServiceError> {
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

    /// An administrator says of some workers as whom they run jobs: written into qbwrk.conf, and in force at once.
    pub(crate) async fn configure_workers(
        &self,
        caller: &Caller,
        change: WorkersChange,
    ) -> Result<WorkersChangedView, ServiceError> {
        caller.needs_admin("change the configuration of workers")?;
        manages(&caller.principal)?;
        let _alone = self.configuration.alone().await;
        let known = self.dispatcher.known_workers().await?;
        let names: Vec<String> = known.iter().map(|k| k.place.worker.clone()).collect();
        let (asked, configuration) = (change.clone(), self.configuration.clone());
        // A file with many hosts takes a while: each of them is compared.
        let read = move || -> Result<_, ServiceError> {
            let settings = wanted(&asked)?;
            let (path, text, sha256) = file_as_it_is_in_force(&configuration, asked.sha256.as_deref())?;
            let text = with_all(&path, text, &asked.workers, &settings, &names)?;
            let new = configuration.read_as_if(&path, &text)?;
            Ok((path, text, sha256, new))
        };
        let (path, text, sha256, new) = waiting(read).await?;
        let mut changes = self.differences(&new).await?;
        let changed = changes.len();
        changes.truncate(CHANGES_MAX);
        let jobs = self.policy_diff(caller, as_policy(&known, &new)?).await?;
        let mut view = WorkersChangedView {
            sha256,
            changes: changes.clone(),
            changed,
            unheeded: unheeded(&known, &change.workers),
            jobs,
            done: None,
            file: path,
        };
        if change.dry_run || changed == 0 {
            return Ok(view);
        }
        let file = view.file.clone();
        let draft = waiting(move || Draft::write(&file, &text)).await?;
        let record = Record::intent(Act::Configuration, caller.actor()).with("workers", &change.workers);
        let record = record.with("files", &new.files).with("changed", changed).with("changes", &changes);
        self.audit.write(record).await?;
        let file = view.file.clone();
        if let Err(error) = waiting(move || Ok(draft.replaces(&file))).await? {
            let record = Record::done(Act::Configuration, caller.actor()).outcome(Outcome::Failed);
            self.audit.write_or_later(record.with("workers", &change.workers).with("why", error.to_string())).await?;
            return Err(not_written(&view.file, &error));
        }
        view.done = Some(self.put_into_force(new, changes, changed).await?);
        Ok(view)
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
        self.may_anybody_have_priority(caller.is_admin(), priority)
    }

    /// The same of who is not here.
    pub(crate) fn may_anybody_have_priority(&self, is_admin: bool, priority: i32) -> Result<(), Refusal> {
        let loaded = self.configuration.current();
        let Some(setting) = loaded.qb_conf.as_ref().and_then(|conf| conf.set(HIGHEST)) else { return Ok(()) };
        let highest = loaded.supervisor.highest_user_priority;
        let most = LOWEST - i64::from(highest);
        if is_admin || i64::from(priority) <= most {
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

    /// `supervisor_default_priority`, of what says none, and `supervisor_max_priority`, the lowest there is. Both only
    /// where they are said.
    pub(super) fn usual_priority(&self, spec: &RawValue, said: i32) -> i32 {
        let loaded = self.configuration.current();
        let says = |key| loaded.qb_conf.as_ref().is_some_and(|conf| conf.set(key).is_some());
        let mut priority = said;
        if says("supervisor_default_priority") && said == 0 && !says_priority(spec) {
            priority = in_stead(loaded.supervisor.default_priority);
        }
        self.no_lower_than_there_is(priority)
    }

    pub(super) fn no_lower_than_there_is(&self, priority: i32) -> i32 {
        let loaded = self.configuration.current();
        if loaded.qb_conf.as_ref().is_none_or(|conf| conf.set("supervisor_max_priority").is_none()) {
            return priority;
        }
        priority.max(in_stead(loaded.supervisor.max_priority))
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
        let proxy_account = known.place.proxy_account.as_ref().map(account_word);
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

/// On a thread that may wait.
async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, ServiceError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(ServiceError::Conflict(format!("qbwrk.conf could not be looked at: {error}"))))
}

/// The file that says what is in force, if it still does.
fn file_as_it_is_in_force(
    configuration: &Configuration,
    seen: Option<&str>,
) -> Result<(PathBuf, String, String), ServiceError> {
    let loaded = configuration.current();
    let none = "this farm has no qbwrk.conf: name one in supervisor.toml (qbwrk_conf), an empty one will do, and start \
                the supervisor again";
    let path = loaded.qbwrk_path.clone().ok_or_else(|| ServiceError::Conflict(none.to_owned()))?;
    let bytes = std::fs::read(&path).map_err(|error| ConfigurationError::Read { path: path.clone(), error })?;
    let sha256 = warrant::hex(&warrant::sha256(&[&bytes]));
    let in_force = loaded.files.iter().find(|f| f.path == path).map(|f| f.sha256.as_str());
    if in_force != Some(&sha256) || seen.is_some_and(|seen| seen != sha256) {
        let text =
            "was changed meanwhile: have it read first (`stead config reload`), and look at what would change again";
        return Err(ServiceError::Conflict(format!("{} {text}", path.display())));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| ServiceError::Conflict(format!("{} is no UTF-8 text: edit it by hand", path.display())))?;
    Ok((path, text, sha256))
}

/// A priority of Qube!'s.
fn in_stead(priority: u32) -> i32 {
    i32::try_from(LOWEST - i64::from(priority)).unwrap_or(job::PRIORITY_MIN).max(job::PRIORITY_MIN)
}

fn says_priority(spec: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Says {
        priority: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_str::<Says>(spec.get()).is_ok_and(|says| says.priority.is_some())
}

/// Keys and values that were asked for.
fn wanted(change: &WorkersChange) -> Result<Vec<(&'static str, &str)>, ServiceError> {
    if change.workers.is_empty() {
        return Err(ServiceError::input("workers", "none is named"));
    }
    if change.workers.len() > WORKERS_MAX {
        return Err(ServiceError::input("workers", format!("at most {WORKERS_MAX} at once")));
    }
    let asked = [
        ("proxy_execution_mode", &change.proxy_execution_mode),
        ("proxy_account", &change.proxy_account),
        ("worker_host_domain", &change.worker_host_domain),
        ("proxy_password", &change.proxy_password),
    ];
    if change.proxy_password.as_ref().is_some_and(|text| !text.starts_with(compat_qube::STEAD_MARK)) {
        let problem = "only its sealed form may stand in a file: what `stead password hash ACCOUNT` prints";
        return Err(ServiceError::input("proxy_password", problem));
    }
    let settings: Vec<_> = asked.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?))).collect();
    if settings.is_empty() {
        return Err(ServiceError::input("settings", "nothing is to be changed"));
    }
    Ok(settings)
}

/// The file's text with what each of these workers is to have.
fn with_all(
    path: &Path,
    text: String,
    workers: &[String],
    settings: &[(&str, &str)],
    known: &[String],
) -> Result<String, ServiceError> {
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let there: HashSet<&str> = names.iter().copied().collect();
    if let Some(unknown) = workers.iter().find(|worker| !there.contains(worker.as_str())) {
        return Err(ServiceError::NoSuchWorker(unknown.clone()));
    }
    let hosts: Vec<&str> = workers.iter().map(String::as_str).collect();
    let new = compat_qube::with_settings_of(&path.display().to_string(), &text, &hosts, settings, &names);
    new.map_err(|error| ServiceError::input("qbwrk.conf", error))
}

/// The same as the policy has it.
fn as_policy(known: &[KnownWorker], new: &Loaded) -> Result<Change, ServiceError> {
    let mut change = Change::default();
    for worker in known {
        let after = held(&worker.hello, new).map_err(|e| ServiceError::input("worker", e))?.checked.place;
        if (after.mode, &after.proxy_account) == (worker.place.mode, &worker.place.proxy_account) {
            continue;
        }
        let as_policy = WorkerChange {
            mode: Some(after.mode.as_str().to_owned()),
            proxy_account: after.proxy_account.as_ref().map(account_word),
            ..WorkerChange::default()
        };
        change.workers.insert(worker.place.worker.clone(), as_policy);
    }
    Ok(change)
}

/// Those of them that take no word from the supervisor.
fn unheeded(known: &[KnownWorker], workers: &[String]) -> Vec<String> {
    let is_own = |k: &&KnownWorker| k.hello.own.lookup == "local" || k.place.mode == policy::Mode::Desktop;
    let of_them = known.iter().filter(|k| workers.contains(&k.place.worker)).filter(is_own);
    of_them.map(|k| k.place.worker.clone()).collect()
}

/// A file beside the one that it replaces: complete, or not there.
struct Draft(PathBuf);

impl Draft {
    fn write(path: &Path, text: &str) -> Result<Self, ServiceError> {
        let failed = |error: std::io::Error| not_written(path, &error);
        let real = std::fs::canonicalize(path).map_err(failed)?;
        let meta = std::fs::metadata(&real).map_err(failed)?;
        let own = nix::unistd::geteuid().as_raw();
        if meta.uid() != own {
            let why = format!("{} belongs to uid {}, and the supervisor is uid {own}", path.display(), meta.uid());
            let hint = "whoever it belongs to edits it and runs `stead config reload`, or gives it and its folder to the supervisor";
            return Err(ServiceError::Conflict(format!("{why}: {hint}")));
        }
        let mut name = real.clone().into_os_string();
        name.push(".stead-new");
        let draft = Self(name.into());
        let mode = meta.permissions().mode() & 0o777;
        drop(std::fs::remove_file(&draft.0));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft.0).map_err(failed)?;
        // Whose group may read or write the old one, and nobody else's, may do so with the new one. Where the group can't
        // be given to it, ours may what everybody may.
        let is_same = file.metadata().map_err(failed)?.gid() == meta.gid();
        let is_kept = is_same || fchown(&file, None, Some(meta.gid())).is_ok();
        if !is_kept {
            tracing::warn!(path = %path.display(), group = meta.gid(), "the supervisor can't keep the file's group");
        }
        let mode = if is_kept { mode } else { (mode & 0o707) | ((mode & 0o007) << 3) };
        file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(draft)
    }

    fn replaces(&self, path: &Path) -> std::io::Result<()> {
        let real = std::fs::canonicalize(path)?;
        std::fs::rename(&self.0, &real)?;
        match real.parent() {
            Some(folder) => std::fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Drop for Draft {
    /// Gone already, once it has replaced the other.
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn not_written(path: &Path, error: &std::io::Error) -> ServiceError {
    let hint =
        "the supervisor's account needs to write the file and its folder; or edit it and run `stead config reload`";
    ServiceError::Conflict(format!("{} can't be written: {error}: {hint}", path.display()))
}

fn account_word(account: &policy::ProxyAccount) -> String {
    match account {
        policy::ProxyAccount::Named(name) => name.to_string(),
        policy::ProxyAccount::Throwaway => "throwaway".to_owned(),
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
