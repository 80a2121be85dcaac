//! Root's farm: `stead-launcher host` starts the services under ids of their own; this process gives up root.
//!
//! The order matters: the launcher is started, it says which id the supervisor has, and this process takes that id
//! for good before it reads anything that anybody else has written.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{Gid, Uid, User};

use super::identity::give_up_root;
use super::programs::Programs;
use super::ready::Ready;
use super::setup::Setup;
use crate::failure::Failure;

const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct HostPlan<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) programs: &'a Programs,
    /// A one-shot farm leaves nothing alive.
    pub(crate) end_sessions: bool,
}

/// The launcher's process. It ends everything when our end of the control channel is closed.
#[derive(Debug)]
pub(crate) struct Host {
    child: Child,
    control: UnixStream,
    ready_file: PathBuf,
}

impl Host {
    /// Starts the services. When this returns, this process has the supervisor's id and no way back to root.
    pub(crate) fn start(plan: &HostPlan<'_>) -> Result<Self, Failure> {
        Self::start_with(plan, || Ok(())).map(|(host, ())| host)
    }

    /// As [`Host::start`]; `last` is done when the services are being started, just before root is given up.
    pub(crate) fn start_with<T>(
        plan: &HostPlan<'_>,
        last: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<(Self, T), Failure> {
        let fail = |e: std::io::Error| Failure::system("make the launcher's control channel", e);
        let (control, theirs) = UnixStream::pair().map_err(fail)?;
        let theirs = inheritable(theirs.into())?;
        let ready_name = format!("ready.{}", std::process::id());
        let mut child =
            command(plan, &theirs, &ready_name).spawn().map_err(|e| Failure::system("start stead-launcher", e))?;
        drop(theirs);
        let uid = match supervisor_uid(&control) {
            Some(uid) => uid,
            None => return Err(ended_early(&mut child)),
        };
        let done = last()?;
        let gid = match User::from_uid(uid) {
            Ok(Some(account)) => account.gid,
            _ => Gid::from_raw(uid.as_raw()),
        };
        give_up_root(uid, gid)?;
        let ready_file = plan.setup.data.join("supervisor").join(ready_name);
        Ok((Self { child, control, ready_file }, done))
    }

    pub(crate) fn attach(self) -> Result<Running, Failure> {
        Ok(Running { host: self })
    }
}

fn command(plan: &HostPlan<'_>, control: &OwnedFd, ready_name: &str) -> Command {
    let setup = plan.setup;
    let mut command = Command::new(&plan.programs.launcher);
    command.arg("host").arg("--data").arg(&setup.data);
    command.arg("--stead").arg(&plan.programs.stead).arg("--session").arg(&plan.programs.session);
    command.arg("--control-fd").arg(control.as_raw_fd().to_string());
    for name in &setup.workers {
        command.args(["--worker", name]);
    }
    let mut supervisor = setup.supervisor_args();
    supervisor.extend(["--ready-file".into(), ready_name.into()]);
    for arg in supervisor {
        command.arg("--supervisor-arg").arg(arg);
    }
    for arg in setup.worker_args() {
        command.arg("--worker-arg").arg(arg);
    }
    if setup.throwaway() {
        command.arg("--throwaway-proxy");
    }
    if plan.end_sessions {
        command.arg("--end-sessions");
    }
    // In a group of its own: ^C is for us, who then close the control channel.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::null());
    if let Some(level) = setup.log_level() {
        command.env("RUST_LOG", level);
    }
    command
}

/// Survives the exec of the next child. Nothing else is started in between.
pub(super) fn inheritable(fd: OwnedFd) -> Result<OwnedFd, Failure> {
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|e| Failure::system("keep a descriptor open", e))?;
    Ok(fd)
}

/// From the line `uids supervisor=N worker=N proxy=N`. `None` when the launcher ended instead.
fn supervisor_uid(control: &UnixStream) -> Option<Uid> {
    let mut line = String::new();
    BufReader::new(control).read_line(&mut line).ok()?;
    parse_uid(&line)
}

fn parse_uid(line: &str) -> Option<Uid> {
    let words = line.trim_end().strip_prefix("uids ")?;
    let uid: u32 = words.split(' ').find_map(|w| w.strip_prefix("supervisor="))?.parse().ok()?;
    (uid != 0 && uid != u32::MAX).then(|| Uid::from_raw(uid))
}

/// It has said why itself, on standard error.
fn ended_early(child: &mut Child) -> Failure {
    match child.wait() {
        Ok(status) => Failure::ServiceEnded { program: "stead-launcher".into(), said: Some(status.to_string()) },
        Err(e) => Failure::system("wait for stead-launcher", e),
    }
}

/// The services, seen from the process that gave up root.
#[derive(Debug)]
pub(crate) struct Running {
    host: Host,
}

impl Running {
    /// The supervisor writes its line to a file in its own folder, which is readable to us alone.
    pub(crate) async fn until_ready(&mut self) -> Result<Ready, Failure> {
        loop {
            if let Ok(text) = std::fs::read_to_string(&self.host.ready_file)
                && let Some(ready) = Ready::parse(&text)
            {
                return Ok(ready);
            }
            self.alive()?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn alive(&mut self) -> Result<(), Failure> {
        match self.host.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(Failure::ServiceEnded { program: "stead-launcher".into(), said: Some(status.to_string()) })
            }
            Err(e) => Err(Failure::system("wait for stead-launcher", e)),
        }
    }

    /// Returns when the launcher ends by itself.
    pub(crate) async fn ended(&mut self) -> Failure {
        loop {
            if let Err(failure) = self.alive() {
                return failure;
            }
            tokio::time::sleep(PAUSE * 5).await;
        }
    }

    /// Ends the services, and with `end_sessions` all that runs.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        let Host { mut child, control, ready_file } = self.host;
        let _ = std::fs::remove_file(ready_file);
        drop(control);
        let status = tokio::task::spawn_blocking(move || child.wait()).await;
        match status {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                Err(Failure::ServiceEnded { program: "stead-launcher".into(), said: Some(status.to_string()) })
            }
            Ok(Err(e)) => Err(Failure::system("wait for stead-launcher", e)),
            Err(e) => Err(Failure::system("wait for stead-launcher", std::io::Error::other(e))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launchers_line_is_read_strictly() {
        let uid = |line| parse_uid(line).map(Uid::as_raw);
        assert_eq!(uid("uids supervisor=61200 worker=61201 proxy=-\n"), Some(61_200));
        for line in
            ["", "uids worker=5\n", "uids supervisor=0 worker=5\n", "uids supervisor=4294967295\n", "x supervisor=5"]
        {
            assert_eq!(uid(line), None, "{line:?}");
        }
    }
}
