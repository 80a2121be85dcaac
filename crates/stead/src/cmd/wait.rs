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
    loop {
        let left = deadline.map_or(POLL_S, |d| d.saturating_duration_since(Instant::now()).as_secs().min(POLL_S));
        let answer: Value = client.get(&format!("/api/v1/jobs/{job}/wait?timeout_s={left}")).await?;
        if model::read::<Job>(&answer)?.ended() || deadline.is_some_and(|d| Instant::now() >= d) {
            return Ok(answer);
        }
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
