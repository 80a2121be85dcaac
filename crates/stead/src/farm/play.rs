//! One job on a farm that is there: submit it, show what happens, and tell at the end who ran what.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use job::{Body, JobSpec, Space};
use serde_json::{Value, json};

use super::programs::myself;
use super::report::{self, Line};
use crate::client::Client;
use crate::cmd;
use crate::failure::{ApiError, Failure};
use crate::model::{self, Explanation, Job, Task};
use crate::out;

const TICK: Duration = Duration::from_millis(100);
/// How often a job that waits is asked why.
const ASK_WHY: Duration = Duration::from_millis(500);
/// Tasks that the last table takes into account.
const TASKS_SHOWN: usize = 10_000;
/// Lines of a failed task's output that are shown.
const TAIL: usize = 20;

/// How the job came out.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) job: Job,
    pub(crate) lines: Vec<Line>,
    answer: Value,
    tasks: Value,
}

impl Outcome {
    pub(crate) fn json(&self, out: Option<&str>) -> Value {
        json!({"job": self.answer, "tasks": self.tasks, "out": out})
    }

    pub(crate) fn result(&self) -> Result<(), Failure> {
        cmd::outcome(&self.job)
    }
}

/// Who submits: this process, or a helper that became somebody else.
#[derive(Debug)]
pub(crate) enum Submitter {
    Us(Client),
    Helper(Child),
}

impl Submitter {
    /// A helper is started while this process is still root; it waits for what it is to submit.
    pub(crate) fn helper(account: &str, acting_as: Option<&str>, socket: &std::path::Path) -> Result<Self, Failure> {
        let child = myself()
            .args(["internal", "submit-as", "--account", account, "--socket"])
            .arg(socket)
            .args(acting_as.map(|name| format!("--as={name}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Failure::system("start the process that submits", e))?;
        Ok(Self::Helper(child))
    }

    async fn submit(self, request: &Value) -> Result<u64, Failure> {
        let answer: Value = match self {
            Self::Us(client) => client.post("/api/v1/jobs", request).await?,
            Self::Helper(child) => submit_by(child, request)?,
        };
        answer["job"].as_u64().ok_or_else(|| Failure::Answer(format!("no job number in {answer}")))
    }
}

fn submit_by(mut child: Child, request: &Value) -> Result<Value, Failure> {
    let fail = |e| Failure::system("speak with the process that submits", e);
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(request.to_string().as_bytes()).map_err(fail)?;
    }
    let answer = child.wait_with_output().map_err(fail)?;
    match answer.status.code() {
        Some(0) => serde_json::from_slice(&answer.stdout).map_err(|e| Failure::Answer(e.to_string())),
        // It said why itself.
        code => Err(Failure::Reported(code.and_then(|c| u8::try_from(c).ok()).unwrap_or(1))),
    }
}

/// What of a job is shown while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Its output, on standard output.
    Output,
    /// A bar, on a terminal.
    Bar,
    /// Nothing: a program reads the result.
    Nothing,
}

impl Show {
    /// One command's output is what one wants to see; of many tasks, how far they are.
    pub(crate) fn of(spec: &JobSpec, json: bool) -> Self {
        match &spec.body {
            _ if json => Self::Nothing,
            Body::Command(body) if body.space == Space::Single => Self::Output,
            _ => Self::Bar,
        }
    }
}

/// Runs the job to its end.
pub(crate) async fn play(
    client: &Client,
    submitter: Submitter,
    request: &Value,
    show: Show,
) -> Result<Outcome, Failure> {
    let job = submitter.submit(request).await?;
    match show {
        Show::Output => {
            let (path, hidden) = (format!("/api/v1/jobs/{job}/logs?follow=true"), ProgressBar::hidden());
            let output = cmd::copy_output(client, &path);
            tokio::pin!(output);
            let ended = watch(client, job, &hidden);
            tokio::pin!(ended);
            tokio::select! {
                shown = &mut output => {
                    shown?;
                    ended.await?;
                }
                ended = &mut ended => {
                    ended?;
                    output.await?;
                }
            }
        }
        Show::Bar => watch(client, job, &bar()).await?,
        Show::Nothing => watch(client, job, &ProgressBar::hidden()).await?,
    }
    let outcome = outcome(client, job).await?;
    if show == Show::Bar {
        last_words(client, &outcome).await?;
    }
    Ok(outcome)
}

/// indicatif draws it on standard error, and only on a terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new(1);
    let template = "{spinner} {prefix} [{wide_bar}] {pos}/{len} {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}

async fn watch(client: &Client, number: u64, bar: &ProgressBar) -> Result<(), Failure> {
    let mut asked = Instant::now();
    loop {
        let job: Job = client.get(&format!("/api/v1/jobs/{number}")).await?;
        let tasks = job.tasks;
        bar.set_prefix(out::plain(&job.name));
        bar.set_length(tasks.total);
        bar.set_position(tasks.complete + tasks.failed + tasks.killed);
        bar.set_message(if tasks.failed > 0 { format!("{} failed", tasks.failed) } else { String::new() });
        if job.ended() {
            bar.finish_and_clear();
            return Ok(());
        }
        if job.state == "pending" && tasks.running == 0 && job.reason.is_some() && asked.elapsed() > ASK_WHY {
            asked = Instant::now();
            never(client, number).await?;
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Nothing will change on a farm of one's own: what every worker refuses, it refuses for good.
async fn never(client: &Client, job: u64) -> Result<(), Failure> {
    let explanation: Explanation = client.get(&format!("/api/v1/jobs/{job}/explain")).await?;
    match refusal(&explanation) {
        Some(error) => Err(Failure::Api { status: 403, error }),
        None => Ok(()),
    }
}

fn refusal(explanation: &Explanation) -> Option<ApiError> {
    let hopeless =
        |v: &model::Verdict| v.verdict == "refused" || v.refused.as_ref().is_some_and(|r| r.rule.contains("panic"));
    if explanation.workers.is_empty() || !explanation.workers.iter().all(hopeless) {
        return None;
    }
    let first = explanation.workers.first()?;
    let refused = first.refused.clone().unwrap_or_default();
    let rule = first.rules.iter().find(|r| r.rule == refused.rule).or(first.rules.last());
    Some(ApiError {
        code: "refused".into(),
        message: rule.map_or_else(|| "no worker runs this job".into(), |r| r.text.clone()),
        rule: Some(refused.rule),
        value: refused.value,
        hint: refused.hint,
    })
}

async fn outcome(client: &Client, number: u64) -> Result<Outcome, Failure> {
    let answer: Value = client.get(&format!("/api/v1/jobs/{number}")).await?;
    let tasks: Value = client.get(&format!("/api/v1/jobs/{number}/tasks?limit={TASKS_SHOWN}")).await?;
    let explanation: Explanation = client.get(&format!("/api/v1/jobs/{number}/explain")).await?;
    let job: Job = model::read(&answer)?;
    let lines = report::lines(&job, &model::read::<Vec<Task>>(&tasks)?, &explanation);
    Ok(Outcome { job, lines, answer, tasks })
}

/// The end of what the first failed task printed. Why it failed, the job's reason says.
async fn last_words(client: &Client, outcome: &Outcome) -> Result<(), Failure> {
    let tasks: Vec<Task> = model::read(&outcome.tasks)?;
    let Some(task) = tasks.iter().find(|t| t.state == "failed") else { return Ok(()) };
    let number = outcome.job.id;
    let several = tasks.iter().any(|t| t.step != task.step);
    let step = if several { format!("{}.", out::plain(&task.step_name())) } else { String::new() };
    let name = format!("{number}.{step}{}", task.task);
    let path = format!(
        "/api/v1/jobs/{number}/logs?step={}&task={}&stream=all",
        crate::client::escape(&task.step()),
        task.task
    );
    let body = client.stream(&path).await?.into_body();
    let bytes = http_body_util::BodyExt::collect(body).await.map_err(|e| Failure::Broken(e.to_string()))?.to_bytes();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return Ok(());
    }
    out::note(format!("the last words of task {name}:"));
    lines[lines.len().saturating_sub(TAIL)..].iter().for_each(|l| out::note(format!("  {}", out::plain(l))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_worker_refuses_is_given_up_and_what_waits_is_not() {
        let verdict = |verdict: &str, rule: &str| {
            json!({"worker": "w", "verdict": verdict, "refused": {"rule": rule, "value": "root", "hint": "h"},
                   "rules": [{"rule": rule, "effect": "refuses", "text": "no"}]})
        };
        let refused = |workers: Value| refusal(&model::read(&json!({"workers": workers})).expect("explanation"));
        let given_up = refused(json!([verdict("refused", "uid_floor")])).expect("hopeless");
        assert_eq!((given_up.message.as_str(), given_up.rule.as_deref()), ("no", Some("uid_floor")));
        assert!(refused(json!([verdict("waiting", "worker_panic")])).is_some());
        assert!(refused(json!([verdict("refused", "a"), verdict("waiting", "offline")])).is_none());
        assert!(refused(json!([])).is_none());
    }
}
