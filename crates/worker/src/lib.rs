//! The worker: offers slots of this host to the supervisor and drives sessions.
//!
//! It faces the network and therefore has no privilege. In service mode a launcher that runs as root starts the
//! sessions; in desktop mode the worker starts them itself, as the person who owns it. It holds no password, knows
//! no policy and chooses no account: it carries signed decisions out and reports what it saw.
//!
//! What must not be lost goes through a spool on disk and is brought to the supervisor until it is acknowledged, so
//! that a `kill -9` of the worker, the launcher or the supervisor loses nothing and reports nothing twice.
//!
//! [`run`] in desktop mode makes its process a child subreaper, and ends every child that is in another session of
//! the kernel's than its own: a program around it must not make its other children leaders.

#![forbid(unsafe_code)]

mod backoff;
mod desktop;
mod endpoint;
mod host;
mod hub;
mod launcher;
mod leftovers;
mod link;
mod meaning;
mod pace;
mod packets;
mod session;
mod spool;
#[cfg(test)]
mod tests;
mod upload;

pub use endpoint::Endpoint;
pub use host::{AccountError, this_host};
pub use launcher::LauncherError;

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What a worker is.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name on the farm; warrants are addressed to it.
    pub name: String,
    pub endpoint: Endpoint,
    /// The worker's own folder, created 0700 when missing. No two workers share one.
    pub spool: PathBuf,
    /// Where jobs' folders are. Only used in desktop mode: otherwise they are the launcher's.
    pub work: PathBuf,
    pub mode: Mode,
    pub slots: u32,
    /// Beside those every host has: its operating system's family and its processor's architecture.
    pub labels: Vec<String>,
    /// What is said on this host of the worker's settings, for the supervisor: mode, account and slots among it.
    pub own: wire::Own,
    /// Cores and bytes of memory offered; see [`this_host`].
    pub cores: u32,
    pub memory: u64,
}

/// Who starts sessions, and as whom.
#[derive(Debug, Clone)]
pub enum Mode {
    Service {
        /// The launcher's socket.
        launcher: PathBuf,
        /// Whom the kernel must name as the launcher: 0, unless in a test.
        launcher_uid: u32,
        /// The account of proxy mode (a name, or `throwaway`); `None` is user mode.
        proxy: Option<String>,
    },
    Desktop {
        /// Whose jobs it takes beside its owner's: names, or `any`.
        accept: Vec<String>,
        session_program: PathBuf,
    },
}

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("{name:?} is no name for a worker: {source}")]
    Name { name: String, source: warrant::NameError },
    #[error(
        "service mode needs stead-launcher running as root: {0}; start it (`stead-launcher`), or use --mode desktop"
    )]
    Launcher(#[from] LauncherError),
    #[error(
        "a desktop worker runs jobs as the person who started it and refuses to run as root; start it as that person, \
         or use --mode user or --mode proxy with stead-launcher"
    )]
    DesktopAsRoot,
    #[error("failed to find out whose desktop worker this is: {0}")]
    Owner(#[source] AccountError),
    #[error("failed to use {} to run sessions: {source}; build it, or name it with --session", path.display())]
    SessionProgram { path: PathBuf, source: io::Error },
    #[error("failed to use the worker's folder {}: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("another worker uses the folder {}; end it, or choose another name", path.display())]
    FolderInUse { path: PathBuf },
    #[error("failed to prepare for starting sessions: {0}")]
    Prepare(#[source] io::Error),
}

/// Works until `shutdown` completes. In service mode sessions go on without the worker and are adopted by the next
/// one; a desktop worker ends all it has started first.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), WorkerError> {
    check_name(&config.name)?;
    let host = prepare_host(&config).await?;
    let lock = take_folder(&config.spool)?;
    // A service has none, whatever it was started from.
    let screen = matches!(config.mode, Mode::Desktop { .. }) && host::has_screen();
    let config = Config { labels: host::with_own_labels(config.labels, screen), ..config };
    hub::run(config, host, shutdown).await?;
    drop(lock);
    Ok(())
}

fn check_name(name: &str) -> Result<(), WorkerError> {
    let checked = warrant::AccountName::parse(name);
    checked.map(drop).map_err(|source| WorkerError::Name { name: name.to_owned(), source })
}

async fn prepare_host(config: &Config) -> Result<hub::Prepared, WorkerError> {
    match &config.mode {
        Mode::Service { launcher, launcher_uid, .. } => {
            let address = launcher::Address { path: launcher.clone(), uid: *launcher_uid };
            let connected = launcher::connect_first(&address).await?;
            Ok(hub::Prepared::Service(address, Box::new(connected)))
        }
        Mode::Desktop { accept, session_program } => {
            let owner = host::owner().map_err(WorkerError::Owner)?;
            if owner.0.uid == 0 {
                return Err(WorkerError::DesktopAsRoot);
            }
            check_program(session_program)?;
            make_folder(&config.work, 0o711)?;
            let program = session_program.clone();
            desktop::Desktop::new(config.name.clone(), accept.clone(), owner, program, config.work.clone())
                .map(|desktop| hub::Prepared::Desktop(Box::new(desktop)))
                .map_err(WorkerError::Prepare)
        }
    }
}

fn check_program(path: &Path) -> Result<(), WorkerError> {
    let found = std::fs::metadata(path).and_then(|m| {
        let executable = m.is_file() && m.permissions().mode() & 0o111 != 0;
        if executable { Ok(()) } else { Err(io::Error::other("it is no executable file")) }
    });
    found.map_err(|source| WorkerError::SessionProgram { path: path.to_owned(), source })
}

fn make_folder(path: &Path, mode: u32) -> Result<(), WorkerError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| WorkerError::Folder { path: path.to_owned(), source })
}

/// The lock goes with the process, however it ends.
fn take_folder(path: &Path) -> Result<File, WorkerError> {
    make_folder(path, 0o700)?;
    let failed = |source| WorkerError::Folder { path: path.to_owned(), source };
    let lock = File::create(path.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(WorkerError::FolderInUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod start {
    use super::*;

    #[test]
    fn a_name_that_could_be_a_path_is_refused() {
        for bad in ["", ".", "..", "a/b", "-x", "a b"] {
            assert!(matches!(check_name(bad), Err(WorkerError::Name { .. })), "{bad:?}");
        }
        assert!(check_name("render-01.studio").is_ok());
    }

    #[test]
    fn two_workers_do_not_share_a_folder() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("worker/w");
        let lock = take_folder(&path).expect("first");
        assert!(matches!(take_folder(&path), Err(WorkerError::FolderInUse { .. })));
        drop(lock);
        take_folder(&path).expect("after the first is gone");
    }

    #[test]
    fn the_session_program_must_be_one() {
        let dir = tempfile::tempdir().expect("folder");
        let file = dir.path().join("stead-session");
        assert!(matches!(check_program(&file), Err(WorkerError::SessionProgram { .. })));
        std::fs::write(&file, "").expect("file");
        assert!(matches!(check_program(&file), Err(WorkerError::SessionProgram { .. })));
    }
}
