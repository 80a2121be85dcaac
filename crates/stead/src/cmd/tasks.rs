//! `tasks`, and finding the task that an address such as `42:105` means.

use job::{Point, StepRef, TaskAddress};
use serde_json::Value;

use crate::cli::Tasks;
use crate::client::{Client, escape, with_query};
use crate::failure::Failure;
use crate::model::{self, Task};
use crate::out::{self, Target};

/// Rows per question when a frame is searched.
const PAGE: usize = 1000;

pub(crate) async fn tasks(options: &Tasks) -> Result<(), Failure> {
    let client = Client::of(&options.common)?;
    let address = address(&options.job)?;
    let step = options.step.clone().or_else(|| address.step.as_ref().map(step_text));
    let path = with_query(
        &format!("/api/v1/jobs/{}/tasks", address.job),
        &[
            ("step", step),
            ("state", (!options.state.is_empty()).then(|| options.state.join(","))),
            ("limit", options.page.limit.map(|n| n.to_string())),
            ("after", options.page.after.clone()),
        ],
    );
    let answer: Value = match address.point {
        Point::Whole => client.get(&path).await?,
        Point::Task(_) | Point::Frame(_) => Value::Array(vec![find(&client, &address).await?]),
    };
    if options.common.json {
        out::json(&answer);
        return Ok(());
    }
    let tasks: Vec<Task> = model::read(&answer)?;
    if tasks.is_empty() {
        out::note("no tasks");
        return Ok(());
    }
    let rows: Vec<_> = tasks.iter().map(row).collect();
    out::say(out::listing(&HEADERS, &rows, Some(3), &Target::stdout()));
    Ok(())
}

const HEADERS: [&str; 9] = ["STEP", "TASK", "FRAME", "STATE", "RAN AS", "WORKER", "TRIES", "TOOK", "REASON"];

fn row(task: &Task) -> Vec<String> {
    let last = task.attempts.last();
    let reason = task.reason.clone().or_else(|| last.and_then(|a| a.reason.clone()));
    vec![
        task.step_name(),
        task.task.to_string(),
        task.frame.map_or_else(|| "-".into(), |f| f.to_string()),
        task.state.clone(),
        last.and_then(|a| a.run_as.as_ref()).map_or_else(|| "-".into(), model::RunAs::short),
        out::or_dash(last.and_then(|a| a.worker.as_deref())),
        task.attempts.len().to_string(),
        last.map_or_else(|| "-".into(), |a| out::duration(a.started_at.as_deref(), a.ended_at.as_deref())),
        doing(task).or(reason).or_else(|| last.and_then(how)).unwrap_or_default(),
    ]
}

/// How far a running task says it is: `42 %, half-way`.
fn doing(task: &Task) -> Option<String> {
    let progress = task.progress.map(|p| format!("{p:.0} %"));
    let parts: Vec<String> = progress.into_iter().chain(task.status.clone()).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn how(attempt: &model::Attempt) -> Option<String> {
    match (attempt.exit_code, attempt.signal) {
        (_, Some(signal)) => Some(format!("signal {signal}")),
        (Some(code), _) if code != 0 => Some(format!("exit code {code}")),
        _ => None,
    }
}

pub(crate) fn address(text: &str) -> Result<TaskAddress, Failure> {
    job::address(text).map_err(|e| Failure::usage(e.to_string()))
}

pub(crate) fn step_text(step: &StepRef) -> String {
    match step {
        StepRef::Index(index) => index.to_string(),
        StepRef::Name(name) => name.clone(),
    }
}

/// The step and number of the task that is meant; `None` for the whole job.
pub(crate) async fn resolve(client: &Client, address: &TaskAddress) -> Result<Option<(String, u64)>, Failure> {
    match address.point {
        Point::Whole => Ok(None),
        Point::Task(_) | Point::Frame(_) => {
            let task: Task = model::read(&find(client, address).await?)?;
            Ok(Some((task.step(), task.task)))
        }
    }
}

async fn find(client: &Client, address: &TaskAddress) -> Result<Value, Failure> {
    let missing = || Failure::NoTask { job: address.job, task: address.to_string() };
    let base = format!("/api/v1/jobs/{}/tasks?limit={PAGE}", address.job);
    let base = match &address.step {
        Some(step) => format!("{base}&step={}", escape(&step_text(step))),
        None => base,
    };
    let mut after: Option<String> = match address.point {
        // Rows are in order, so that the one wanted is the first behind its predecessor.
        Point::Task(task) if address.step.is_some() && task > 0 => Some((task - 1).to_string()),
        _ => None,
    };
    loop {
        let path = after.as_ref().map_or_else(|| base.clone(), |a| format!("{base}&after={}", escape(a)));
        let rows: Vec<Value> = client.get(&path).await?;
        for row in &rows {
            let task: Task = model::read(row)?;
            let found = match address.point {
                Point::Task(number) => task.task == number,
                Point::Frame(frame) => task.has_frame(frame),
                Point::Whole => false,
            };
            if found {
                return Ok(row.clone());
            }
        }
        let last: Task = match rows.last() {
            Some(row) if rows.len() == PAGE => model::read(row)?,
            _ => return Err(missing()),
        };
        let next = Some(format!("{}.{}", last.step(), last.task));
        if next == after {
            return Err(missing());
        }
        after = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_within_its_chunk() {
        let chunk = serde_json::json!({"task": 1, "frame": 11, "params": {"start": "11", "end": "19", "step": "2"}});
        let chunk: Task = model::read(&chunk).expect("task");
        let frames: Vec<_> = (9..22).filter(|f| chunk.has_frame(*f)).collect();
        assert_eq!(frames, [11, 13, 15, 17, 19]);
        let single: Task = model::read(&serde_json::json!({"task": 1, "frame": -3, "params": {}})).expect("task");
        assert!(single.has_frame(-3) && !single.has_frame(3));
    }

    #[test]
    fn a_task_shows_who_ran_it_and_how_it_ended() {
        let answer = serde_json::json!({
            "step": 1, "step_name": "render", "task": 7, "frame": 105, "params": {}, "state": "failed", "reason": null,
            "attempts": [{"job": 42, "step": "render", "task": 7, "attempt": 1, "state": "failed", "worker": "w",
                "mode": "user", "login_user": "ada", "user": "ada",
                "run_as": {"name": "ada", "uid": 1501, "gid": 1501, "groups": [1501, 1600]}, "attested_by": "launcher",
                "grant": null, "exit_code": 3, "signal": null, "started_at": "2026-11-22T10:00:00.000Z",
                "ended_at": "2026-11-22T10:00:02.000Z", "cpu_s": 1.5, "max_rss": 1024, "reason": null}],
        });
        let task: Task = model::read(&answer).expect("task");
        assert_eq!(row(&task), ["render", "7", "105", "failed", "ada (1501)", "w", "1", "2.0 s", "exit code 3"]);
        assert_eq!(doing(&task), None);
        for (progress, status, shown) in [
            (Some(42.4), Some("half-way"), "42 %, half-way"),
            (Some(100.0), None, "100 %"),
            (None, Some("loading"), "loading"),
        ] {
            let task = Task { progress, status: status.map(Into::into), ..task.clone() };
            assert_eq!(row(&task)[8], shown);
        }
        let run_as = task.attempts[0].run_as.as_ref().expect("read back");
        assert_eq!(run_as.long(), "ada uid=1501 gid=1501 groups=1501,1600");
    }
}
