//! `kill`, `retry`, `requeue`, `block`, `unblock`, `suspend`, `resume`, `remove`: what a person does to a job.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::tasks::{address, resolve};
use crate::cli::{Act, Remove};
use crate::client::Client;
use crate::failure::Failure;
use crate::out;

/// Tasks of one job are asked for together; a whole job swallows its tasks.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Whole,
    Tasks(Vec<String>),
}

pub(crate) async fn act(verb: &str, options: &Act) -> Result<(), Failure> {
    let client = Client::of(&options.common)?;
    let mut answers = Vec::new();
    for (job, target) in targets(&client, &options.targets).await? {
        let tasks = match target {
            Target::Whole => None,
            Target::Tasks(tasks) => Some(tasks),
        };
        let body = json!({"reason": options.reason, "tasks": tasks});
        let answer: Value = client.post(&format!("/api/v1/jobs/{job}/{verb}"), &body).await?;
        if !options.common.json {
            out::say(format!("job {job} is {}", answer["state"].as_str().unwrap_or("?")));
        }
        answers.push(answer);
    }
    if options.common.json {
        let one = answers.len() == 1;
        out::json(&if one { answers.swap_remove(0) } else { Value::Array(answers) });
    }
    Ok(())
}

pub(crate) async fn remove(options: &Remove) -> Result<(), Failure> {
    let client = Client::of(&options.common)?;
    let mut answers = Vec::new();
    for job in &options.jobs {
        let answer: Value = client.delete(&format!("/api/v1/jobs/{job}")).await?;
        if !options.common.json {
            out::say(format!("job {job} is removed"));
        }
        answers.push(answer);
    }
    if options.common.json {
        let one = answers.len() == 1;
        out::json(&if one { answers.swap_remove(0) } else { Value::Array(answers) });
    }
    Ok(())
}

/// All addresses are understood before the first job is touched.
async fn targets(client: &Client, texts: &[String]) -> Result<BTreeMap<u64, Target>, Failure> {
    let addresses = texts.iter().map(|t| address(t)).collect::<Result<Vec<_>, _>>()?;
    let mut targets = BTreeMap::new();
    for address in addresses {
        let task = resolve(client, &address).await?.map(|(step, task)| format!("{step}.{task}"));
        add(&mut targets, address.job, task);
    }
    Ok(targets)
}

fn add(targets: &mut BTreeMap<u64, Target>, job: u64, task: Option<String>) {
    let target = targets.entry(job).or_insert_with(|| Target::Tasks(Vec::new()));
    match (task, target) {
        (None, target) => *target = Target::Whole,
        (Some(task), Target::Tasks(tasks)) => tasks.push(task),
        (Some(_), Target::Whole) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_job_swallows_its_tasks() {
        let mut targets = BTreeMap::new();
        for (job, task) in [(1, Some("0.7")), (2, Some("0.1")), (1, None), (1, Some("0.8")), (2, Some("0.2"))] {
            add(&mut targets, job, task.map(Into::into));
        }
        assert_eq!(targets[&1], Target::Whole);
        assert_eq!(targets[&2], Target::Tasks(vec!["0.1".into(), "0.2".into()]));
    }
}
