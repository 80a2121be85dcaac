//! `stead dev`: a farm in the foreground until ^C.

use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::default_data;
use super::desktop::Desktop;
use super::host::{Host, HostPlan};
use super::login::Login;
use super::programs::Programs;
use super::ready::workers_there;
use super::setup::{Setup, listen};
use super::shutdown::Shutdown;
use crate::cli::Dev;
use crate::client::Client;
use crate::failure::Failure;
use crate::out;

pub(crate) fn dev(options: &Dev) -> Result<(), Failure> {
    let root = nix::unistd::geteuid().is_root();
    let programs = Programs::beside_this_one()?;
    let data = match &options.data {
        Some(data) => std::path::absolute(data).map_err(|e| Failure::file("find", data, e))?,
        None => default_data()?,
    };
    let setup = Setup::new(&options.farm, data, root, listen(&options.farm))?;
    setup.remarks().iter().for_each(out::note);
    if !root {
        let login = if options.with_login { Some(Login::of_process()?) } else { None };
        return crate::single_threaded(desktop(&setup, &programs, login));
    }
    if options.with_login {
        return Err(Failure::usage("--with-login is for a farm of your own, not for root"));
    }
    service(&setup, &programs)
}

async fn desktop(setup: &Setup, programs: &Programs, login: Option<Login>) -> Result<(), Failure> {
    let mut shutdown = Shutdown::new()?;
    let logged_out = async {
        match &login {
            Some(login) => login.ended().await,
            None => std::future::pending().await,
        }
    };
    let mut farm = tokio::select! {
        farm = Desktop::start(setup, programs) => farm?,
        () = shutdown.asked() => return Ok(()),
    };
    let link = Link::make(link_dir(), &farm.ready.socket);
    out::say(farm.ready.line());
    let ended = tokio::select! {
        () = shutdown.asked() => Ok(()),
        () = logged_out => Ok(()),
        failure = farm.watch() => Err(failure),
    };
    farm.stop().await;
    drop(link);
    ended
}

/// As root: the services get ids of their own, and this process gives up root before it reads anything.
fn service(setup: &Setup, programs: &Programs) -> Result<(), Failure> {
    let plan = HostPlan { setup, programs, end_sessions: false };
    // Root's own folder; nobody else can have put anything there. What is left of it is replaced by the next `dev`.
    let link = Link::make(Some("/run/stead".into()), &setup.socket());
    let host = Host::start(&plan)?;
    std::mem::forget(link);
    crate::single_threaded(serve(host, setup))
}

async fn serve(host: Host, setup: &Setup) -> Result<(), Failure> {
    let mut shutdown = Shutdown::new()?;
    let mut host = host.attach()?;
    let client = Client::at_socket(setup.socket());
    let started = async {
        let ready = host.until_ready().await?;
        workers_there(&client, &setup.workers).await?;
        Ok(ready)
    };
    let ready = tokio::select! {
        ready = started => Some(ready?),
        () = shutdown.asked() => None,
    };
    let Some(ready) = ready else { return host.stop().await };
    out::say(ready.line());
    tokio::select! {
        () = shutdown.asked() => host.stop().await,
        failure = host.ended() => Err(failure),
    }
}

fn link_dir() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty()).map(|d| PathBuf::from(d).join("stead"))
}

/// A link to the socket at the place where clients look. Best effort: without it, `--data` finds the farm.
#[derive(Debug)]
struct Link {
    path: PathBuf,
    target: PathBuf,
}

impl Link {
    fn make(dir: Option<PathBuf>, target: &Path) -> Option<Self> {
        let dir = dir?;
        let path = dir.join("socket");
        match link(&dir, &path, target) {
            Ok(true) => Some(Self { path, target: target.into() }),
            Ok(false) => {
                out::note(format!("another farm answers at {}; use --data to reach this one", path.display()));
                None
            }
            Err(e) => {
                tracing::info!(path = %path.display(), "no link to the socket: {e}");
                None
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if std::fs::read_link(&self.path).is_ok_and(|target| target == self.target) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn link(dir: &Path, path: &Path, target: &Path) -> std::io::Result<bool> {
    let mode = if nix::unistd::geteuid().is_root() { 0o755 } else { 0o700 };
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir)?;
    let meta = std::fs::symlink_metadata(dir)?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(std::io::Error::other(format!("{} is not a folder of our own", dir.display())));
    }
    std::fs::set_permissions(dir, Permissions::from_mode(mode))?;
    let another = std::fs::read_link(path).is_ok_and(|old| old != target)
        || std::fs::symlink_metadata(path).is_ok_and(|m| !m.is_symlink());
    if another && UnixStream::connect(path).is_ok() {
        return Ok(false);
    }
    let fresh = dir.join(format!(".socket.{}", std::process::id()));
    symlink(target, &fresh)?;
    std::fs::rename(&fresh, path)?;
    Ok(true)
}
