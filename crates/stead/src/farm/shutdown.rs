//! When to end: ^C, SIGTERM, SIGHUP, or the end of the process that started us.

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::failure::Failure;

#[derive(Debug)]
pub(crate) struct Shutdown {
    interrupt: Stream,
    terminate: Stream,
    hangup: Stream,
}

impl Shutdown {
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|e| Failure::system("listen for signals", e));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Returns at the first of the signals.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Makes the kernel send SIGTERM when the parent ends, however it ends.
pub(crate) fn with_parent(parent: Option<i32>) -> Result<(), Failure> {
    let Some(parent) = parent else { return Ok(()) };
    prctl::set_pdeathsig(Signal::SIGTERM).map_err(|e| Failure::system("tie the service to its parent", e))?;
    if getppid() == Pid::from_raw(parent) {
        return Ok(());
    }
    Err(Failure::ServiceEnded { program: "the process that started this one".into(), said: None })
}
