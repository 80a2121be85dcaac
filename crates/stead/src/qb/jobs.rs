//! Which jobs are meant, and how they are shown: `qbjobs`, and what all commands that act on jobs have in common.

use serde::Deserialize;
use serde_json::Value;

use super::priority;
use super::words::{Known, Rest, Words, help, missing, read, works};
use crate::client::{Client, with_query};
use crate::failure::Failure;
use crate::model::{self, Counts, Me};
use crate::out::{self, Target};

/// Rows per question.
const PAGE: usize = 1000;

const NO_FIELD: &str = "jobs are found by --name, --user and --status";

pub(super) const FILTERS: [Known; 10] = [
    works("user", Some("USER")),
    works("status", Some("STATE,STATE")),
    works("name", Some("NAME or PATTERN*")),
    missing("kind", Some("KIND"), NO_FIELD),
    missing("type", Some("TYPE"), NO_FIELD),
    missing("cluster", Some("CLUSTER"), NO_FIELD),
    missing("pgrp", Some("ID"), NO_FIELD),
    missing("pid", Some("ID"), NO_FIELD),
    missing("label", Some("LABEL"), NO_FIELD),
    missing("expression", Some("EXPRESSION"), NO_FIELD),
];

const SHOWS: [Known; 8] = [
    works("all", None),
    works("long", None),
    works("times", None),
    works("priority", Some("1-9999")),
    missing("sortby", Some("FIELD"), "the newest come first"),
    missing("xml", None, "--json prints JSON"),
    missing("password", None, "no job carries a password"),
    works("help", None),
];

/// A job as the supervisor tells it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Job {
    id: u64,
    name: String,
    state: String,
    login_user: String,
    user: String,
    priority: i64,
    tasks: Counts,
    submitted_at: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    reason: Option<String>,
}

/// States by Qube!'s words; `active` and `done` are several.
pub(super) fn states(words: &[String]) -> Result<Vec<String>, Failure> {
    let mut states = Vec::new();
    for word in words {
        let meant: &[&str] = match word.as_str() {
            "active" => &["pending", "running", "blocked"],
            "done" => &["complete", "failed", "killed"],
            // A job that waits for another is pending in Qube!, too.
            "pending" | "waiting" => &["pending"],
            "running" | "blocked" | "suspended" | "complete" | "failed" | "killed" | "badlogin" => &[word],
            "registering" | "dying" | "exiting" | "failing" | "retrying" => {
                return Err(super::words::unsupported(
                    &format!("the state {word}"),
                    "a job is pending, running, blocked, suspended, complete, failed, killed or badlogin",
                ));
            }
            other => return Err(Failure::usage(format!("there is no state {other:?}"))),
        };
        states.extend(meant.iter().map(|s| (*s).to_owned()));
    }
    Ok(states)
}

/// `*` is anything, everything else itself.
fn is_like(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// What is asked of jobs.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) states: Vec<String>,
    user: Option<String>,
    name: Option<String>,
    everybody: bool,
}

impl Filter {
    pub(super) fn of(given: &Words) -> Result<Self, Failure> {
        Ok(Self {
            states: states(&given.list("status"))?,
            user: given.get("user").map(Into::into),
            name: given.get("name").map(Into::into),
            everybody: false,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.states.is_empty() && self.user.is_none() && self.name.is_none()
    }

    /// All that are seen; one's own unless a user is named.
    pub(super) async fn ask(&self, client: &Client) -> Result<Vec<Value>, Failure> {
        let user = match (&self.user, self.everybody) {
            (Some(user), _) => Some(user.clone()),
            (None, true) => None,
            (None, false) => {
                let me: Me = client.get("/api/v1/whoami").await?;
                Some(me.acting_as.unwrap_or(me.login_user))
            }
        };
        let states = (!self.states.is_empty()).then(|| self.states.join(","));
        let mut jobs: Vec<Value> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let path = with_query(
                "/api/v1/jobs",
                &[
                    ("user", user.clone()),
                    ("state", states.clone()),
                    ("limit", Some(PAGE.to_string())),
                    ("after", after.clone()),
                ],
            );
            let page: Vec<Value> = client.get(&path).await?;
            let next = page.last().map(|j| j["id"].to_string());
            let is_last = page.len() < PAGE || next == after;
            let fits = |name: &str| self.name.as_ref().is_none_or(|n| is_like(name, n));
            jobs.extend(page.into_iter().filter(|j| fits(j["name"].as_str().unwrap_or_default())));
            if is_last {
                return Ok(jobs);
            }
            after = next;
        }
    }
}

pub(super) async fn show(words: &[String]) -> Result<(), Failure> {
    let table = [&FILTERS[..], &SHOWS[..]].concat();
    let given = read(&table, words, Rest::Mixed)?;
    if given.has("help") {
        out::say(help("qbjobs [OPTIONS] [JOB...]: one's own jobs, or these", &table));
        return Ok(());
    }
    given.tell();
    let client = super::client(&given)?;
    let jobs = found(&given, &client).await?;
    if given.has("json") {
        out::json(&Value::Array(jobs));
        return Ok(());
    }
    let mut jobs = jobs.iter().map(model::read::<Job>).collect::<Result<Vec<_>, _>>()?;
    if let Some(wanted) = given.number("priority")? {
        jobs.retain(|j| u64::try_from(priority::from_stead(j.priority)).is_ok_and(|p| p == wanted));
    }
    if jobs.is_empty() {
        out::note("no jobs");
        return Ok(());
    }
    let (headers, row) = if given.has("long") || given.has("times") { LONG } else { SHORT };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    out::say(out::listing(headers, &rows, Some(2), &Target::stdout()));
    Ok(())
}

async fn found(given: &Words, client: &Client) -> Result<Vec<Value>, Failure> {
    let ids: Vec<&String> = given.rest.iter().filter(|w| *w != "0").collect();
    if ids.is_empty() {
        let filter = Filter { everybody: given.has("all"), ..Filter::of(given)? };
        return filter.ask(client).await;
    }
    let mut found = Vec::new();
    for id in ids {
        let id = job::job_number(id).map_err(|e| Failure::usage(e.to_string()))?;
        found.push(client.get(&format!("/api/v1/jobs/{id}")).await?);
    }
    Ok(found)
}

type Shape = (&'static [&'static str], fn(&Job) -> Vec<String>);

const SHORT: Shape = (&["ID", "PRIORITY", "STATUS", "TODO", "DONE", "FAILED", "USER", "NAME", "REASON"], short);
const LONG: Shape = (
    &[
        "ID",
        "PRIORITY",
        "STATUS",
        "TODO",
        "DONE",
        "FAILED",
        "USER",
        "SUBMITTED (UTC)",
        "STARTED",
        "ENDED",
        "NAME",
        "REASON",
    ],
    long,
);

fn short(job: &Job) -> Vec<String> {
    let tasks = job.tasks;
    let done = tasks.complete + tasks.failed + tasks.killed;
    vec![
        job.id.to_string(),
        priority::from_stead(job.priority).to_string(),
        job.state.clone(),
        tasks.total.saturating_sub(done).to_string(),
        tasks.complete.to_string(),
        tasks.failed.to_string(),
        out::who(&job.login_user, &job.user),
        job.name.clone(),
        job.reason.clone().unwrap_or_default(),
    ]
}

fn long(job: &Job) -> Vec<String> {
    let mut row = short(job);
    let times = [&job.submitted_at, &job.started_at, &job.ended_at].map(|t| out::time(t.as_deref()));
    row.splice(7..7, times);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_by_qubes_words() {
        let of = |text: &str| states(&[text.to_owned()]).map(|s| s.join(",")).map_err(|e| e.to_string());
        assert_eq!(of("active").as_deref(), Ok("pending,running,blocked"));
        assert_eq!(of("done").as_deref(), Ok("complete,failed,killed"));
        assert_eq!(of("badlogin").as_deref(), Ok("badlogin"));
        assert!(of("registering").expect_err("none here").contains("the state registering isn't supported"));
        assert!(of("runing").expect_err("no word").contains("no state \"runing\""));
    }

    #[test]
    fn names_and_patterns() {
        for (name, pattern, fits) in [
            ("shot", "shot", true),
            ("shots", "shot", false),
            ("shots", "shot*", true),
            ("a-shot-b", "*shot*", true),
            ("aba", "a*ba", true),
            ("ab", "ab*ab", false),
            ("x", "*", true),
        ] {
            assert_eq!(is_like(name, pattern), fits, "{name} {pattern}");
        }
    }

    #[test]
    fn a_job_is_one_line() {
        let job = serde_json::json!({
            "id": 42, "name": "shot", "state": "badlogin", "login_user": "ada", "user": "film", "priority": 9998,
            "submitted_at": "2026-11-22T10:00:00.000Z", "started_at": null, "ended_at": null, "reason": "account locked",
            "tasks": {"total": 10, "pending": 7, "running": 1, "complete": 2, "failed": 0, "killed": 0, "blocked": 0,
                      "suspended": 0},
        });
        let job: Job = model::read(&job).expect("job");
        assert_eq!(short(&job), ["42", "1", "badlogin", "8", "2", "0", "ada as film", "shot", "account locked"]);
        assert_eq!(short(&job).len(), SHORT.0.len());
        assert_eq!((long(&job).len(), long(&job)[7].as_str()), (LONG.0.len(), "2026-11-22 10:00:00"));
    }
}
