//! The farm's settings in Qube!'s files: `qb.conf` for the supervisor itself, `qbwrk.conf` for its workers.
//!
//! They are read at the start and when an administrator says so, never by themselves: who changes a file changes nothing
//! until then. A file with an error is not taken, and the last good ones hold, both of them. What holds for one worker
//! is worked out in [`held`], of what the files say and what its host says of itself.

use crate::dispatch::place::{self, Checked, HelloError};
use compat_qube::{
    Effective, ExecutionMode, Lookup, Origin, Platform, ProxyPassword, QbConf, QbWrk, SealedBy, SupervisorSettings,
    WorkerSettings,
};
use policy::{AccountName, Mode, ProxyAccount};
use schemars::JsonSchema;
use serde::Serialize;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use wire::Hello;

/// Where the files are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QubeFiles {
    /// The supervisor's own.
    pub qb_conf: Option<PathBuf>,
    /// Its workers'.
    pub qbwrk_conf: Option<PathBuf>,
    /// Also look where Qube! has them; they need not be there.
    pub at_qubes_places: bool,
}

/// Why the files were not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("can't read {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error(
        "everybody may write to {}, and it says as whom jobs run: chmod o-w {}", path.display(), path.display()
    )]
    Writable { path: PathBuf },
    #[error(
        "everybody may put another {} in its place, and it says as whom jobs run: chmod o-w {}",
        path.display(),
        folder.display()
    )]
    Replaceable { path: PathBuf, folder: PathBuf },
    #[error("{}", .0.join("\n"))]
    Wrong(Vec<String>),
}

/// What the files say.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) qb_conf: Option<QbConf>,
    pub(crate) qbwrk_conf: Option<QbWrk>,
    /// Where that is.
    pub(crate) qbwrk_path: Option<PathBuf>,
    /// Where no file says anything it is as in Qube!.
    pub(crate) supervisor: SupervisorSettings,
    pub(crate) files: Vec<FileView>,
    pub(crate) warnings: Vec<String>,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct FileView {
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
}

/// Clones are the same settings.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    files: QubeFiles,
    loaded: Arc<Mutex<Arc<Loaded>>>,
    /// One reload at a time.
    reload: Arc<tokio::sync::Mutex<()>>,
}

impl Configuration {
    pub(crate) fn load(files: QubeFiles) -> Result<Self, ConfigurationError> {
        let loaded = Arc::new(Mutex::new(Arc::new(read(&files, None)?)));
        Ok(Self { files, loaded, reload: Arc::default() })
    }

    /// Held by whoever reads the files again, until all go by them.
    pub(crate) async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.reload.lock().await
    }

    /// The last good ones.
    pub(crate) fn current(&self) -> Arc<Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the files say now. Nothing goes by it yet.
    pub(crate) fn read_again(&self) -> Result<Arc<Loaded>, ConfigurationError> {
        read(&self.files, None).map(Arc::new)
    }

    /// What they would say if this file had this text.
    pub(crate) fn read_as_if(&self, path: &Path, text: &str) -> Result<Arc<Loaded>, ConfigurationError> {
        read(&self.files, Some((path, text))).map(Arc::new)
    }

    pub(crate) fn take(&self, loaded: Arc<Loaded>) {
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
    }
}

fn read(files: &QubeFiles, as_if: Option<(&Path, &str)>) -> Result<Loaded, ConfigurationError> {
    let there = |place: &str| Some(PathBuf::from(place)).filter(|p| files.at_qubes_places && p.exists());
    let (mut read_files, mut wrong, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    let mut sort = |findings: &compat_qube::Findings| {
        for finding in findings {
            match finding.problem.level() {
                compat_qube::Level::Error => wrong.push(finding.to_string()),
                compat_qube::Level::Warning => warnings.push(finding.to_string()),
            }
        }
    };
    let mut text = |path: &Path| -> Result<String, ConfigurationError> {
        let (mut text, mut view) = text_of(path)?;
        if let Some((_, new)) = as_if.filter(|(other, _)| *other == path) {
            (view.sha256, text) = (warrant::hex(&warrant::sha256(&[new.as_bytes()])), new.to_owned());
        }
        read_files.push(view);
        Ok(text)
    };
    let qb_conf = match files.qb_conf.clone().or_else(|| there(compat_qube::QB_CONF)) {
        Some(path) => Some(QbConf::parse(&path.display().to_string(), &text(&path)?)),
        None => None,
    };
    let mut supervisor = SupervisorSettings::default();
    if let Some(conf) = &qb_conf {
        sort(conf.findings());
        if let Ok(settings) = SupervisorSettings::read(conf) {
            supervisor = settings;
        }
    }
    let named = files.qbwrk_conf.clone().or_else(|| supervisor.worker_configfile.clone().map(PathBuf::from));
    let qbwrk_path = named.or_else(|| there(compat_qube::QBWRK_CONF));
    let qbwrk_conf = match &qbwrk_path {
        Some(path) => Some(QbWrk::parse(&path.display().to_string(), &text(path)?)),
        None => None,
    };
    if let Some(wrk) = &qbwrk_conf {
        sort(wrk.findings());
    }
    if !wrong.is_empty() {
        return Err(ConfigurationError::Wrong(wrong));
    }
    Ok(Loaded { qb_conf, qbwrk_conf, qbwrk_path, supervisor, files: read_files, warnings })
}

/// Bytes of a file of Qube!'s.
const FILE_MAX: u64 = 16 << 20;

fn text_of(path: &Path) -> Result<(String, FileView), ConfigurationError> {
    let failed = |error| ConfigurationError::Read { path: path.to_owned(), error };
    let found = std::fs::metadata(path).map_err(failed)?;
    // A pipe would be waited for.
    if !found.is_file() || found.len() > FILE_MAX {
        return Err(failed(std::io::Error::other("it is no ordinary file of at most 16 MiB")));
    }
    if found.permissions().mode() & 0o002 != 0 {
        return Err(ConfigurationError::Writable { path: path.to_owned() });
    }
    let own = std::fs::canonicalize(path).map_err(failed)?;
    for folder in [path, &own].into_iter().filter_map(|path| path.parent()) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let mode = std::fs::metadata(folder).map_err(failed)?.permissions().mode();
        // In one with the sticky bit everybody replaces only what is theirs.
        if mode & 0o1002 == 0o002 {
            return Err(ConfigurationError::Replaceable { path: path.to_owned(), folder: folder.to_owned() });
        }
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let sha256 = warrant::hex(&warrant::sha256(&[&bytes]));
    // Comments of old files may be in any encoding.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok((text, FileView { path: path.to_owned(), sha256 }))
}

/// A password of a proxy account, in the supervisor's own file, sealed for this farm.
#[derive(Debug, Clone)]
pub(crate) struct GivenByFile {
    pub(crate) account: AccountName,
    pub(crate) sealed: ProxyPassword,
    /// File and line.
    pub(crate) said: String,
}

impl GivenByFile {
    /// Only the supervisor's file: by its word alone no worker replaces anybody's password.
    fn of(settings: &WorkerSettings, effective: &Effective) -> Option<Self> {
        let setting = effective.set("proxy_password")?;
        let sealed = settings.proxy_password.clone().filter(|p| p.sealed_by() == SealedBy::Stead)?;
        let is_central = matches!(setting.origin, Origin::Central { .. });
        let account = settings.proxy_account.clone();
        is_central.then(|| Self { account, sealed, said: setting.origin.to_string() })
    }
}

/// Why passwords are asked for that nobody would ever use, where that is so. `modes` are the known workers'.
pub(crate) fn enforced_in_vain(settings: bool, loaded: &Loaded, modes: &[Mode]) -> Option<String> {
    let flags = || loaded.qb_conf.as_ref().and_then(|conf| conf.set("supervisor_flags"));
    let by = match (settings, loaded.supervisor.flags.enforce_password) {
        (true, _) => "supervisor.toml".to_owned(),
        (false, true) => format!("supervisor_flags ({})", flags().map_or_else(String::new, |s| s.origin.to_string())),
        (false, false) => return None,
    };
    (!modes.is_empty() && !modes.contains(&Mode::User)).then(|| {
        format!(
            "enforce_password refuses jobs of whoever has no password here, and no worker would use one: none runs jobs as \
             their users; take it out of {by}"
        )
    })
}

/// What holds for one worker.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) checked: Checked,
    pub(crate) slots: u32,
    /// By how much its jobs give way to others.
    pub(crate) nice: i8,
    /// What paths are on its host, in the order in which the pairs apply.
    pub(crate) path_map: Arc<[(String, String)]>,
    /// What files and the host say together.
    pub(crate) effective: Effective,
    /// Who said it.
    pub(crate) said_by: &'static str,
    pub(crate) lookup: Lookup,
    /// As whom the worker is to be told to run jobs: it may think otherwise.
    pub(crate) differs: bool,
    /// Why nothing can be made of it: it takes no jobs.
    pub(crate) trouble: Option<String>,
    /// What a file says of the password of the account that all jobs run as.
    pub(crate) given: Option<GivenByFile>,
}

/// What holds for a worker that says this of itself. The mode of a desktop worker is never another.
pub(crate) fn held(hello: &Hello, loaded: &Loaded) -> Result<Held, HelloError> {
    let mut checked = place::check(hello)?;
    let (own, lookup) = own(hello);
    let central = loaded.qbwrk_conf.as_ref().map(|c| c.resolve(&hello.name, Platform::Linux));
    let has_central = central.is_some();
    let effective = Effective::combine(&hello.name, Some(&own), central, lookup);
    // A word of Stead's, which no file may say.
    let throwaway =
        |s: &compat_qube::Setting| matches!(s.origin, Origin::Local { .. }) && s.value.line() == "throwaway";
    let is_throwaway = effective.set("proxy_account").is_some_and(throwaway);
    let for_reading = if is_throwaway { effective.clone().without("proxy_account") } else { effective.clone() };
    let mut held = Held {
        slots: hello.slots,
        nice: 0,
        path_map: Arc::default(),
        said_by: effective.said_by(),
        lookup,
        differs: false,
        trouble: own.findings().errors().next().map(ToString::to_string),
        checked: checked.clone(),
        given: None,
        effective,
    };
    let settings = match WorkerSettings::read(&for_reading) {
        Ok(settings) => settings,
        Err(wrong) => {
            let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            held.trouble = Some(format!("its settings can't be used: {}", wrong.join("; ")));
            return Ok(held);
        }
    };
    let place = &mut checked.place;
    if has_central && place.mode != Mode::Desktop {
        let account =
            if is_throwaway { ProxyAccount::Throwaway } else { ProxyAccount::Named(settings.proxy_account.clone()) };
        (place.mode, place.proxy_account) = match settings.mode {
            ExecutionMode::User => (Mode::User, None),
            ExecutionMode::Proxy => (Mode::Proxy, Some(account)),
        };
    }
    let says_cluster = has_central || held.effective.set("worker_cluster").is_some();
    for label in settings.labels().into_iter().filter(|l| says_cluster || !l.starts_with("cluster:")) {
        if !place.labels.contains(&label) {
            place.labels.push(label);
        }
    }
    if let (Mode::Proxy, Some(ProxyAccount::Named(_))) = (place.mode, &place.proxy_account) {
        held.given = GivenByFile::of(&settings, &held.effective);
    }
    held.slots = settings.slots.unwrap_or(hello.slots);
    (held.nice, held.path_map) = (settings.nice, settings.path_map.into());
    held.differs = place.mode != Mode::Desktop && (has_central || hello.settings != 0);
    held.checked = checked;
    Ok(held)
}

/// What the worker's host says, as if it were one file.
fn own(hello: &Hello) -> (QbConf, Lookup) {
    let mut conf = QbConf::parse(&format!("what {} says of itself", hello.name), "");
    let own = &hello.own;
    conf.say(own.settings.iter().map(|s| (s.key.clone(), s.value.clone(), s.file.clone(), s.line)));
    // `combine` takes it as it is said here.
    (conf, Lookup::parse(&own.lookup).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};

    #[test]
    fn whatever_everybody_may_change_says_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let (folder, file) = (dir.path().join("conf"), dir.path().join("conf/qbwrk.conf"));
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(&file, "[default]\n").expect("written");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        for (of_folder, of_file, part) in [
            (0o755, 0o644, None),
            (0o775, 0o664, None),
            (0o1777, 0o644, None),
            (0o777, 0o644, Some("in its place")),
            (0o755, 0o646, Some("everybody may write")),
        ] {
            set_permissions(&folder, Permissions::from_mode(of_folder)).expect("set");
            set_permissions(&file, Permissions::from_mode(of_file)).expect("set");
            for path in [&file, &link] {
                let said = text_of(path).err().map(|e| e.to_string());
                assert_eq!(said.is_some(), part.is_some(), "{of_folder:o} {of_file:o}: {said:?}");
                assert!(said.unwrap_or_default().contains(part.unwrap_or_default()), "{of_folder:o} {of_file:o}");
            }
        }
        // Read, it would wait for somebody to write.
        std::fs::remove_file(&file).expect("gone");
        let path = std::ffi::CString::new(file.as_os_str().as_encoded_bytes()).expect("a path");
        nix::unistd::mkfifo(path.as_c_str(), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        assert!(text_of(&file).expect_err("a pipe").to_string().contains("no ordinary file"));
    }
}
