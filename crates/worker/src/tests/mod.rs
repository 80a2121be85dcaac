//! The worker against a supervisor, a launcher and sessions that can be told to misbehave.

#![expect(clippy::print_stderr, reason = "a test says its seed, and that it was skipped")]

mod chaos;
mod desktop;
mod fake_launcher;
mod fake_supervisor;
mod service;
mod spool;

use crate::{Config, Endpoint, Mode, WorkerError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use warrant::{PublicKey, SecretKey};

/// The supervisor's key in these tests.
pub(crate) fn farm_key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

pub(crate) const FARM: [u8; 16] = [3; 16];
pub(crate) const WORKER: &str = "bench-1";

pub(crate) fn farm_public() -> PublicKey {
    farm_key().public()
}

/// A worker on a runtime of its own, which can be ended like a process: at once and completely.
pub(crate) struct Running {
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    result: std::sync::mpsc::Receiver<Result<(), WorkerError>>,
}

impl Running {
    pub(crate) fn start(config: Config) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (done, result) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            let _ = done.send(crate::run(config, shutdown).await);
        });
        Self { runtime: Some(runtime), stop: Some(stop), result }
    }

    /// As `kill -9`.
    pub(crate) fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }

    /// As SIGTERM.
    pub(crate) fn stop(mut self) -> Result<(), WorkerError> {
        drop(self.stop.take());
        let result = self.result.recv_timeout(Duration::from_secs(30)).expect("the worker ends");
        self.kill();
        result
    }

    /// A worker that does not start.
    pub(crate) fn refusal(self) -> WorkerError {
        let result = self.result.recv_timeout(Duration::from_secs(30)).expect("the worker says why");
        self.kill();
        result.expect_err("a refusal")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn config(dir: &Path, mode: Mode) -> Config {
    Config {
        name: WORKER.to_owned(),
        endpoint: Endpoint::Unix(dir.join("worker.socket")),
        spool: dir.join("worker"),
        work: dir.join("work"),
        mode,
        slots: 2,
        labels: vec!["test".to_owned()],
        own: wire::Own::default(),
        cores: 2,
        memory: 1 << 30,
    }
}

pub(crate) fn service(dir: &Path) -> Config {
    let launcher_uid = nix::unistd::getuid().as_raw();
    config(dir, Mode::Service { launcher: launcher_socket(dir), launcher_uid, proxy: None })
}

pub(crate) fn launcher_socket(dir: &Path) -> PathBuf {
    dir.join("launcher.socket")
}

/// Looks until it is so.
pub(crate) fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    eventually_or(what, is_so, String::new);
}

/// The same; says how things stand when it never is.
pub(crate) fn eventually_or(what: &str, mut is_so: impl FnMut() -> bool, state: impl Fn() -> String) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "still not so: {what} {}", state());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A small generator: which numbers come is told by the seed printed when a test fails.
#[derive(Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}
