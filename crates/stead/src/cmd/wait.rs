//! `wait`: until jobs have ended.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::Wait;
use crate::client::Client;
use crate::failure::Failure;
use crate::model::{self, Job};
use crate::out;

/// How long one question is left open.
const POLL_S: u64 = 30;
/// How long a supervisor that has answered before may be away: restarted, or with a full disk.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) async fn wait(options: &Wait) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    let limit = match options.timeout.as_deref() {
        Some(text) => Some(job::parse_duration(text).map_err(|e| Failure::usage(format!("--timeout: {e}")))?),
        None => None,
    };
    let deadline = limit.map(|s| Instant::now() + Duration::from_secs(s));
    let mut answers = Vec::new();
    let mut worst = Ok(());
    for job in &options.jobs {
        let answer = ended(&client, *job, deadline).await?;
        let job: Job = model::read(&answer)?;
        if !options.common.json {
            out::say(format!("job {} is {}{}", job.id, job.state, reason(&job)));
        }
        // The first that is not complete gives the reason.
        worst = worst.and(outcome(&job));
        answers.push(answer);
    }
    if options.common.json {
        let one = answers.len() == 1;
        out::json(&if one { answers.swap_remove(0) } else { Value::Array(answers) });
    }
    worst
}

fn reason(job: &Job) -> String {
    job.reason.as_ref().map(|r| format!(": {}", out::plain(r))).unwrap_or_default()
}

/// The job once it has ended, or as it is at the deadline.
pub(crate) async fn ended(client: &Client, job: u64, deadline: Option<Instant>) -> Result<Value, Failure> {
    let mut heard = None;
    loop {
        let left = deadline.map_or(POLL_S, |d| d.saturating_duration_since(Instant::now()).as_secs().min(POLL_S));
        let answer: Value = match client.get(&format!("/api/v1/jobs/{job}/wait?timeout_s={left}")).await {
            Ok(answer) => answer,
            Err(failure) if passes(&failure, heard) && deadline.is_none_or(|d| Instant::now() + PAUSE < d) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        heard = Some(Instant::now());
        if model::read::<Job>(&answer)?.ended() || deadline.is_some_and(|d| Instant::now() >= d) {
            return Ok(answer);
        }
    }
}

/// Whether it is worth asking again. A supervisor that never answered, or the last time long ago, is none.
fn passes(failure: &Failure, heard: Option<Instant>) -> bool {
    let is_away =
        matches!(failure, Failure::NoSupervisor { .. } | Failure::Broken(_) | Failure::Api { status: 503, .. });
    is_away && heard.is_some_and(|at| at.elapsed() < PATIENCE + Duration::from_secs(POLL_S))
}

/// Nothing but `complete` is success.
pub(crate) fn outcome(job: &Job) -> Result<(), Failure> {
    if job.state == "complete" {
        return Ok(());
    }
    Err(Failure::Incomplete { job: job.id, state: job.state.clone(), reason: job.reason.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A supervisor that ends after its first answer, and another one on the same socket.
    #[tokio::test]
    async fn a_restart_is_waited_for() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let dir = tempfile::tempdir().expect("dir");
        let socket = dir.path().join("socket");
        let serve = async |answers: &[&str]| {
            let _ = std::fs::remove_file(&socket);
            let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("asked");
                let _ = stream.read(&mut [0; 4096]).await.expect("read");
                stream.write_all(answer.as_bytes()).await.expect("answered");
            }
        };
        let with = |body: &str| {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        };
        let running = with(r#"{"id": 7, "state": "running"}"#);
        let complete = with(r#"{"id": 7, "state": "complete"}"#);
        let full = with("{}").replace("200 OK", "503 Service Unavailable");
        let client = Client::at_socket(&socket);
        let waiting = ended(&client, 7, None);
        let serving = async {
            // The second question breaks off, the third finds nobody.
            serve(&[&running, ""]).await;
            std::fs::remove_file(&socket).expect("gone");
            tokio::time::sleep(PAUSE * 2).await;
            serve(&[&full, &complete]).await;
        };
        let (answer, ()) = tokio::join!(
            async {
                while !socket.exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                waiting.await
            },
            serving
        );
        assert_eq!(answer.expect("it came back")["state"], "complete");
        // Where nobody ever answered there is nothing to wait for.
        std::fs::remove_file(&socket).expect("gone");
        assert!(matches!(ended(&client, 7, None).await, Err(Failure::NoSupervisor { .. })));
    }

    #[test]
    fn only_complete_is_success() {
        for (state, exit) in
            [("complete", None), ("failed", Some(5)), ("killed", Some(5)), ("badlogin", Some(5)), ("running", Some(5))]
        {
            let job = Job { id: 1, state: state.into(), ..Job::default() };
            assert_eq!(outcome(&job).err().map(|e| e.exit()), exit, "{state}");
        }
    }
}
