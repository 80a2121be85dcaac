//! A farm of a person's own: supervisor and workers as children of this process, all as that person.

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::future::select_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid, getpid};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use super::programs::{Programs, myself};
use super::ready::{Ready, workers_there};
use super::setup::{Setup, lay_out};
use crate::client::Client;
use crate::failure::Failure;
use crate::out;

/// How long services get to end by themselves.
const GRACE: Duration = Duration::from_secs(10);
/// A service that lives shorter than this, this many times in a row, is not started again.
const SHORT_LIFE: Duration = Duration::from_secs(5);
const SHORT_LIVES: u32 = 5;
/// It was started wrongly, and said how: starting it again can't help.
const EXIT_USAGE: i32 = 2;

#[derive(Debug)]
pub(crate) struct Desktop {
    pub(crate) ready: Ready,
    /// The supervisor comes first and ends last.
    services: Vec<Service>,
}

#[derive(Debug)]
struct Service {
    name: String,
    args: Vec<String>,
    log: Option<&'static str>,
    child: Child,
    started: Instant,
    short_lives: u32,
}

impl Desktop {
    pub(crate) async fn start(setup: &Setup, programs: &Programs) -> Result<Self, Failure> {
        let operator = owner_name()?;
        lay_out(&setup.data, !setup.accept.is_empty())?;
        let mut args: Vec<String> = ["supervisor", "--operator", &operator, "--data"].map(Into::into).to_vec();
        args.push(setup.data.display().to_string());
        args.extend(setup.supervisor_args());
        let log = setup.log_level();
        let mut supervisor = Service::start("supervisor", args, log)?;
        let ready = supervisor.until_ready().await?;
        supervisor.listen_again(&ready);
        let mut services = vec![supervisor];
        for name in &setup.workers {
            let mut args: Vec<String> = ["worker", "run", "--data"].map(Into::into).to_vec();
            args.extend([setup.data.display().to_string(), "--name".into(), name.clone()]);
            args.extend(["--session".into(), programs.session.display().to_string()]);
            args.extend(setup.worker_args());
            services.push(Service::start(&format!("worker {name}"), args, log)?);
        }
        let mut farm = Self { ready, services };
        let client = Client::at_socket(&farm.ready.socket);
        tokio::select! {
            there = workers_there(&client, &setup.workers) => there?,
            failure = farm.watch() => return Err(failure),
        }
        Ok(farm)
    }

    /// Starts again what dies. Returns when one dies again and again.
    pub(crate) async fn watch(&mut self) -> Failure {
        loop {
            let waits = self.services.iter_mut().map(|s| Box::pin(s.child.wait()));
            let (status, index, _) = select_all(waits).await;
            let hopeless = status.as_ref().is_ok_and(|s| s.code() == Some(EXIT_USAGE));
            let how = status.map_or_else(|e| e.to_string(), |s| s.to_string());
            if hopeless {
                return self.services[index].ended_early();
            }
            if let Err(failure) = self.services[index].again(&how).await {
                return failure;
            }
        }
    }

    /// Workers first: what they still have to report, the supervisor takes.
    pub(crate) async fn stop(mut self) {
        let mut supervisor = self.services.remove(0);
        for worker in &self.services {
            worker.terminate();
        }
        for worker in &mut self.services {
            worker.ended().await;
        }
        supervisor.terminate();
        supervisor.ended().await;
    }
}

impl Service {
    fn start(name: &str, args: Vec<String>, log: Option<&'static str>) -> Result<Self, Failure> {
        let child = spawn(&args, log)?;
        Ok(Self { name: name.into(), args, log, child, started: Instant::now(), short_lives: 0 })
    }

    async fn until_ready(&mut self) -> Result<Ready, Failure> {
        let stdout = self.child.stdout.take();
        let mut lines = BufReader::new(stdout.ok_or_else(|| self.ended_early())?).lines();
        let ready = loop {
            match lines.next_line().await {
                Ok(Some(line)) => match Ready::parse(&line) {
                    Some(ready) => break ready,
                    None => out::note(line),
                },
                Ok(None) | Err(_) => return Err(self.ended_early()),
            }
        };
        tokio::spawn(pass_on(lines));
        Ok(ready)
    }

    fn ended_early(&self) -> Failure {
        Failure::ServiceEnded { program: format!("the {}", self.name), said: None }
    }

    /// Whatever port was found free is used again after a restart.
    fn listen_again(&mut self, ready: &Ready) {
        let at = self.args.iter().position(|a| a == "--listen").map(|i| i + 1);
        if let (Some(host), Some(place)) = (ready.host(), at.and_then(|at| self.args.get_mut(at))) {
            *place = host.into();
        }
    }

    async fn again(&mut self, how: &str) -> Result<(), Failure> {
        self.short_lives = if self.started.elapsed() < SHORT_LIFE { self.short_lives + 1 } else { 0 };
        if self.short_lives >= SHORT_LIVES {
            let said = Some(format!("{how}, {SHORT_LIVES} times in a row"));
            return Err(Failure::ServiceEnded { program: format!("the {}", self.name), said });
        }
        out::note(format!("the {} ended ({how}); starting it again", self.name));
        tokio::time::sleep(Duration::from_millis(200) * self.short_lives).await;
        self.child = spawn(&self.args, self.log)?;
        self.started = Instant::now();
        if let Some(stdout) = self.child.stdout.take() {
            tokio::spawn(pass_on(BufReader::new(stdout).lines()));
        }
        Ok(())
    }

    fn terminate(&self) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    async fn ended(&mut self) {
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            out::note(format!("the {} did not end within {} s and is killed", self.name, GRACE.as_secs()));
            let _ = self.child.kill().await;
        }
    }
}

/// In a process group of its own, so that ^C reaches only us and we end things in order.
fn spawn(args: &[String], log: Option<&'static str>) -> Result<Child, Failure> {
    let mut command = tokio::process::Command::from(myself());
    command.args(args).arg("--with-parent").arg(getpid().to_string());
    if let Some(level) = log {
        command.env("RUST_LOG", level);
    }
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command.spawn().map_err(|e| Failure::system("start a service", e))
}

/// What a service prints later is for people, not for whoever parses our ready line.
async fn pass_on(mut lines: Lines<BufReader<ChildStdout>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        if Ready::parse(&line).is_none() {
            out::note(line);
        }
    }
}

/// The farm needs to know its owner by name.
pub(crate) fn owner_name() -> Result<String, Failure> {
    let uid = geteuid();
    match User::from_uid(uid) {
        Ok(Some(user)) => Ok(user.name),
        Ok(None) => Err(Failure::Refused {
            rule: "uid_has_a_name",
            text: format!("uid {uid} has no name on this machine, so nobody could say whose jobs these are"),
            hint:
                "use an account that `getent passwd` knows; as root, --mode proxy --proxy-account throwaway needs none"
                    .into(),
        }),
        Err(e) => Err(Failure::system("look up your own account", e)),
    }
}
