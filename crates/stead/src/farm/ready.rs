//! The moment from which jobs can be submitted.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::failure::Failure;
use crate::model::Worker;
use crate::out;

const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// What the supervisor says when it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) url: String,
    pub(crate) socket: PathBuf,
}

impl Ready {
    /// `None` for a line that is another.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let rest = line.trim_end().strip_prefix("ready url=")?;
        let (url, socket) = rest.split_once(" socket=")?;
        Some(Self { url: url.into(), socket: socket.into() })
    }

    pub(crate) fn line(&self) -> String {
        format!("ready url={} socket={}", self.url, self.socket.display())
    }

    /// `HOST:PORT`, to listen at the same place again.
    pub(crate) fn host(&self) -> Option<&str> {
        self.url.strip_prefix("http://").map(|h| h.trim_end_matches('/'))
    }
}

/// Waits until all workers are there; one that is in panic is there, and its reason is said.
pub(crate) async fn workers_there(client: &Client, names: &[String]) -> Result<(), Failure> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let workers = match client.get::<Vec<Worker>>("/api/v1/workers").await {
            Ok(workers) => workers,
            Err(Failure::NoSupervisor { .. } | Failure::Broken(_)) if Instant::now() < deadline => Vec::new(),
            Err(other) => return Err(other),
        };
        let there = |name: &String| workers.iter().any(|w| w.name == *name && w.state != "down");
        let missing: Vec<_> = names.iter().filter(|name| !there(name)).cloned().collect();
        if missing.is_empty() {
            say_panics(&workers, names);
            return Ok(());
        }
        if Instant::now() >= deadline {
            let waiting_for = format!("worker {} is not connected", missing.join(", "));
            return Err(Failure::NotReady { seconds: LIMIT.as_secs(), waiting_for });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn say_panics(workers: &[Worker], names: &[String]) {
    for worker in workers.iter().filter(|w| w.state == "panic" && names.contains(&w.name)) {
        let reason = out::plain(worker.reason.as_deref().unwrap_or("no reason given"));
        out::note(format!("worker {} takes no jobs: {reason}", worker.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_read_and_written_alike() {
        let line = "ready url=http://127.0.0.1:7878 socket=/a b/run/socket";
        let ready = Ready::parse(line).expect("ready");
        assert_eq!((ready.host(), ready.line().as_str()), (Some("127.0.0.1:7878"), line));
        assert_eq!(Ready::parse("starting"), None);
    }
}
