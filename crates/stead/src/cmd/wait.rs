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
/// How long a supervisor that went away may take to come back.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_503: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_millis(250);

pub(crate) async fn wait(options: &Wait) -> Result<(), Failure> {
    let client = Client::of(&options.common)?;
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
        match outcome(&job) {
            Ok(()) if options.common.json => {}
            Ok(()) => out::say(format!("job {} is complete", job.id)),
            // The first that is not complete is told at the end, as any failure is.
            Err(failure) if worst.is_ok() => worst = Err(failure),
            Err(failure) => out::note(failure.sentence()),
        }
        answers.push(answer);
    }
    if options.common.json {
        let one = answers.len() == 1;
        out::json(&if one { answers.swap_remove(0) } else { Value::Array(answers) });
    }
    worst
}

/// The job once it has ended, or as it is at the deadline.
pub(crate) async fn ended(client: &Client, job: u64, deadline: Option<Instant>) -> Result<Value, Failure> {
    let mut outage = Outage::default();
    loop {
        let left = deadline.map_or(POLL_S, |d| d.saturating_duration_since(Instant::now()).as_secs().min(POLL_S));
        let path = format!("/api/v1/jobs/{job}/wait?timeout_s={left}");
        let passed = || deadline.is_some_and(|d| Instant::now() >= d);
        match client.get::<Value>(&path).await {
            Ok(answer) if model::read::<Job>(&answer)?.ended() || passed() => return Ok(answer),
            Ok(_) => outage = Outage::over(),
            Err(failure) if is_absence(&failure) && !passed() => outage.sit_out(failure).await?,
            Err(failure) => return Err(failure),
        }
    }
}

/// It may be back in a moment: it is being restarted.
fn is_absence(failure: &Failure) -> bool {
    matches!(failure, Failure::NoSupervisor { .. } | Failure::Broken(_) | Failure::Api { status: 503, .. })
}

/// A supervisor that answered and then doesn't is given time to come back. One that never answered isn't there.
#[derive(Debug, Default)]
struct Outage {
    /// It has answered once, or at least taken a question.
    was_there: bool,
    since: Option<Instant>,
}

impl Outage {
    fn over() -> Self {
        Self { was_there: true, since: None }
    }

    async fn sit_out(&mut self, failure: Failure) -> Result<(), Failure> {
        self.was_there |= !matches!(failure, Failure::NoSupervisor { .. });
        // One that says it can't right now, for its disk is full, is there: it gets longer.
        let patience = if matches!(failure, Failure::Api { .. }) { PATIENCE_503 } else { PATIENCE };
        if !self.was_there || self.since.is_some_and(|s| s.elapsed() >= patience) {
            return Err(failure);
        }
        if self.since.is_none() {
            self.since = Some(Instant::now());
            out::note(format!("{failure}; waiting up to {} s for the supervisor", patience.as_secs()));
        }
        tokio::time::sleep(RETRY).await;
        Ok(())
    }
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Takes one question and answers it, or hangs up.
    async fn serve(listener: &tokio::net::UnixListener, answer: Option<(&str, &str)>) {
        let (mut stream, _) = listener.accept().await.expect("a question");
        let read = stream.read(&mut [0; 4096]).await.expect("read");
        assert!(read > 0);
        if let Some((status, body)) = answer {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(head.as_bytes()).await.expect("written");
        }
    }

    #[tokio::test]
    async fn a_supervisor_that_is_restarted_is_waited_for() {
        let path = std::env::temp_dir().join(format!("stead-wait-{}", std::process::id()));
        let listener = tokio::net::UnixListener::bind(&path).expect("socket");
        let client = Client::at_socket(&path);
        let story = async {
            serve(&listener, Some(("200 OK", r#"{"id": 7, "state": "running"}"#))).await;
            serve(&listener, None).await;
            drop(listener);
            std::fs::remove_file(&path).expect("removed");
            let listener = tokio::net::UnixListener::bind(&path).expect("socket");
            serve(&listener, Some(("503 Service Unavailable", "{}"))).await;
            serve(&listener, Some(("200 OK", r#"{"id": 7, "state": "complete"}"#))).await;
        };
        let (answer, ()) = tokio::join!(ended(&client, 7, None), story);
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(answer.expect("the job's end")["state"], "complete");
    }

    #[tokio::test]
    async fn a_supervisor_that_never_answered_is_not_waited_for() {
        let failure = ended(&Client::at_socket("/nonexistent/socket"), 1, None).await.expect_err("nobody is there");
        assert_eq!(failure.exit(), 6);
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
