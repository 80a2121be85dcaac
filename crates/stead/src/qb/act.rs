//! `qbkill`, `qbretry`, `qbblock`, `qbunblock`, `qbsuspend`, `qbresume`, `qbinterrupt`, `qbrequeue`, `qbremove`, and
//! `qbout`, `qberr`.

use job::{Point, TaskAddress};
use serde_json::{Value, json};

use super::jobs::{FILTERS, Filter};
use super::words::{Known, Rest, Words, help, missing, no_effect, read, works};
use crate::client::{Client, with_query};
use crate::cmd;
use crate::failure::Failure;
use crate::out;

const OWN: [Known; 4] = [
    works("badlogin", None),
    missing("subjobbadlogin", None, "badlogin is a job's state; use --badlogin"),
    works("reason", Some("TEXT")),
    works("help", None),
];

/// What a command of Qube! is here, and of which jobs when it is told `0`: all one's own.
struct Verb {
    stead: &'static [&'static str],
    states: &'static [&'static str],
}

fn verb(command: &str) -> Option<Verb> {
    let of = |stead, states| Some(Verb { stead, states });
    match command {
        "qbkill" => of(&["kill"], &["pending", "running", "blocked", "suspended", "badlogin"]),
        "qbretry" => of(&["retry"], &["failed", "killed"]),
        "qbblock" => of(&["block"], &["pending", "running"]),
        "qbunblock" => of(&["unblock"], &["blocked"]),
        "qbsuspend" => of(&["suspend"], &["running"]),
        "qbresume" => of(&["resume"], &["suspended"]),
        // What runs ends at once, and runs again when it is its turn.
        "qbinterrupt" => of(&["block", "unblock"], &["running"]),
        // To be looked at, or modified, before it runs again.
        "qbrequeue" => of(&["requeue"], &["failed", "complete", "killed"]),
        "qbremove" => of(&[REMOVE], &["failed", "complete", "killed", "badlogin"]),
        _ => None,
    }
}

/// Has a request of its own.
const REMOVE: &str = "remove";

/// A job, and its tasks unless it is meant as a whole.
type Meant = (u64, Vec<TaskAddress>);

pub(super) async fn act(command: &str, words: &[String]) -> Result<(), Failure> {
    let Some(verb) = verb(command) else { return Err(super::unknown(command)) };
    let table = [&FILTERS[..], &OWN[..]].concat();
    let given = read(&table, words, Rest::Mixed)?;
    if given.has("help") {
        let whole = matches!(command, "qbremove" | "qbrequeue");
        let what = if whole { "JOB" } else { "JOB|JOB.SUB|JOB:FRAME" };
        out::say(help(&format!("{command} [OPTIONS] {what}...|0: these, or all of one's own"), &table));
        return Ok(());
    }
    given.tell();
    let addresses = addresses(command, &given)?;
    let client = super::client(&given)?;
    let meant = match addresses {
        Some(addresses) => grouped(addresses),
        None => chosen(&given, &verb, &client).await?,
    };
    if meant.is_empty() {
        out::note("no jobs");
    }
    for (job, tasks) in meant {
        one(&client, &given, command, &verb, job, &tasks).await?;
    }
    Ok(())
}

/// None: chosen by what they are.
fn addresses(command: &str, given: &Words) -> Result<Option<Vec<TaskAddress>>, Failure> {
    let filters = given.has("badlogin") || !Filter::of(given)?.is_empty();
    match given.rest.as_slice() {
        [] if !filters => {
            Err(Failure::usage(format!("{command}: which jobs? JOB, JOB.SUB, JOB:FRAME, or 0 for all of yours")))
        }
        [zero] if zero == "0" => Ok(None),
        [] => Ok(None),
        _ if filters => Err(Failure::usage("either jobs are named, or they are chosen by --user, --status or --name")),
        ids => ids.iter().map(|id| cmd::address(id)).collect::<Result<_, _>>().map(Some),
    }
}

/// Tasks of one job together, in the order of the first mention; a whole job swallows its tasks.
fn grouped(addresses: Vec<TaskAddress>) -> Vec<Meant> {
    let mut meant: Vec<Meant> = Vec::new();
    for address in addresses {
        let whole = address.point == Point::Whole;
        match meant.iter_mut().find(|(job, _)| *job == address.job) {
            Some((_, tasks)) if whole => tasks.clear(),
            Some((_, tasks)) if tasks.is_empty() => {}
            Some((_, tasks)) => tasks.push(address),
            None => meant.push((address.job, if whole { Vec::new() } else { vec![address] })),
        }
    }
    meant
}

async fn chosen(given: &Words, verb: &Verb, client: &Client) -> Result<Vec<Meant>, Failure> {
    let mut filter = Filter::of(given)?;
    if given.has("badlogin") {
        filter.states.push("badlogin".into());
    }
    if filter.states.is_empty() {
        filter.states = verb.states.iter().map(|s| (*s).to_owned()).collect();
    }
    Ok(filter.ask(client).await?.iter().filter_map(|j| Some((j["id"].as_u64()?, Vec::new()))).collect())
}

async fn one(
    client: &Client,
    given: &Words,
    command: &str,
    verb: &Verb,
    job: u64,
    tasks: &[TaskAddress],
) -> Result<(), Failure> {
    let mut names = Vec::new();
    for task in tasks {
        names.extend(cmd::resolve(client, task).await?.map(|(step, task)| format!("{step}.{task}")));
    }
    if command == "qbinterrupt" {
        let state: Value = client.get(&format!("/api/v1/jobs/{job}")).await?;
        if state["state"] != "running" {
            let state = state["state"].as_str().unwrap_or("?");
            return Err(Failure::Incomplete {
                job,
                state: state.into(),
                reason: Some("only what runs is interrupted".into()),
            });
        }
    }
    let tasks = (!names.is_empty()).then_some(names);
    if tasks.is_some() && matches!(command, "qbremove" | "qbrequeue") {
        return Err(Failure::usage(format!("{command} is for whole jobs: {command} {job}")));
    }
    let body = json!({"reason": given.get("reason"), "tasks": tasks});
    let mut answer = Value::Null;
    for stead in verb.stead {
        answer = match *stead {
            REMOVE => client.delete(&format!("/api/v1/jobs/{job}")).await?,
            stead => client.post(&format!("/api/v1/jobs/{job}/{stead}"), &body).await?,
        };
    }
    if given.has("json") {
        out::json(&answer);
    } else {
        let state = if command == "qbremove" { "removed" } else { answer["state"].as_str().unwrap_or("?") };
        out::say(format!("{job}: {state}"));
    }
    Ok(())
}

const SUBMITTED: &str = "a job runs what was submitted; submit another one and kill this one";
const ELSEWHERE: &str = "where a job runs was submitted with it; submit another one and kill this one";
const MODIFY: [Known; 17] = [
    works("name", Some("NAME")),
    works("priority", Some("N")),
    works("help", None),
    missing("account", Some("TEXT"), "there are no accounting texts"),
    missing("cluster", Some("CLUSTER"), ELSEWHERE),
    missing("cpus", Some("N"), SUBMITTED),
    missing("env", Some("NAME=VALUE"), SUBMITTED),
    missing("flags", Some("FLAGS"), SUBMITTED),
    missing("groups", Some("GROUPS"), ELSEWHERE),
    missing("hosts", Some("HOSTS"), ELSEWHERE),
    missing("omitgroups", Some("GROUPS"), ELSEWHERE),
    missing("omithosts", Some("HOSTS"), ELSEWHERE),
    missing("package", Some("TEXT"), SUBMITTED),
    missing("range", Some("RANGE"), SUBMITTED),
    missing("requirements", Some("EXPRESSION"), ELSEWHERE),
    missing("reservations", Some("RESERVATIONS"), ELSEWHERE),
    missing("user", Some("NAME"), "as whom a job runs is decided at its submission; submit another one"),
];

/// `qbmodify`: another name or priority for jobs that are not over.
pub(super) async fn modify(words: &[String]) -> Result<(), Failure> {
    let given = read(&MODIFY, words, Rest::Mixed)?;
    if given.has("help") {
        out::say(help("qbmodify [OPTIONS] JOB...", &MODIFY));
        return Ok(());
    }
    given.tell();
    let priority = given.number("priority")?.map(super::priority::to_stead).transpose()?;
    if priority.is_none() && given.get("name").is_none() {
        return Err(Failure::usage("qbmodify: what is to be otherwise? --name, --priority"));
    }
    let jobs: Vec<TaskAddress> = given.rest.iter().map(|id| cmd::address(id)).collect::<Result<_, _>>()?;
    if jobs.is_empty() || jobs.iter().any(|a| a.point != Point::Whole) {
        return Err(Failure::usage("qbmodify is for whole jobs: qbmodify --priority N JOB..."));
    }
    let client = super::client(&given)?;
    let mut body = serde_json::Map::new();
    body.extend(given.get("name").map(|name| ("name".to_owned(), name.into())));
    body.extend(priority.map(|priority| ("priority".to_owned(), priority.into())));
    for (job, _) in grouped(jobs) {
        let path = format!("/api/v1/jobs/{job}/modify");
        let answer: Value = client.post(&path, &Value::Object(body.clone())).await?;
        if given.has("json") {
            out::json(&answer);
        } else {
            out::say(format!("{job}: {}", answer["state"].as_str().unwrap_or("?")));
        }
    }
    Ok(())
}

const OUTPUT: [Known; 5] = [
    works("follow", None),
    works("pos", Some("BYTES")),
    no_effect("sleep", Some("SECONDS"), "output comes as soon as it is there"),
    works("attempt", Some("N")),
    works("help", None),
];

/// `qbout` and `qberr`.
pub(super) async fn output(command: &str, words: &[String]) -> Result<(), Failure> {
    let given = read(&OUTPUT, words, Rest::Mixed)?;
    if given.has("help") {
        out::say(help(&format!("{command} [OPTIONS] JOB|JOB.SUB|JOB:FRAME"), &OUTPUT));
        return Ok(());
    }
    given.tell();
    let [id] = given.rest.as_slice() else {
        return Err(Failure::usage(format!("{command} shows one job: {command} JOB, JOB.SUB or JOB:FRAME")));
    };
    let address = cmd::address(id)?;
    let (position, attempt) = (given.number("pos")?, given.number("attempt")?);
    let client = super::client(&given)?;
    let (step, task) = cmd::resolve(&client, &address).await?.unzip();
    let path = with_query(
        &format!("/api/v1/jobs/{}/logs", address.job),
        &[
            ("step", step),
            ("task", task.map(|t| t.to_string())),
            ("attempt", attempt.map(|n| n.to_string())),
            ("stream", Some(if command == "qberr" { "stderr" } else { "stdout" }.into())),
            ("offset", position.map(|n| n.to_string())),
            ("follow", given.has("follow").then(|| "true".into())),
        ],
    );
    cmd::copy_output(&client, &path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(line: &str) -> Words {
        let table = [&FILTERS[..], &OWN[..]].concat();
        let words: Vec<String> = line.split_whitespace().map(Into::into).collect();
        read(&table, &words, Rest::Mixed).expect(line)
    }

    #[test]
    fn jobs_are_named_or_chosen() {
        let of = |line: &str| addresses("qbkill", &given(line)).map_err(|e| e.exit());
        assert!(of("1 2.3 4:5").expect("named").is_some_and(|a| a.len() == 3));
        for line in ["0", "0 --status active", "--badlogin", "-user ada"] {
            assert_eq!(of(line), Ok(None), "{line}");
        }
        for line in ["", "1 --user ada", "x", "1 0x"] {
            assert_eq!(of(line), Err(2), "{line}");
        }
    }

    #[test]
    fn tasks_of_a_job_go_together() {
        let of = |words: &[&str]| {
            let addresses = words.iter().map(|w| cmd::address(w).expect("an address")).collect();
            grouped(addresses).into_iter().map(|(job, tasks)| (job, tasks.len())).collect::<Vec<_>>()
        };
        assert_eq!(of(&["7.1", "8", "7:3"]), [(7, 2), (8, 0)]);
        assert_eq!(of(&["7.1", "7", "7.2"]), [(7, 0)]);
    }

    #[test]
    fn every_command_is_something_here() {
        for command in [
            "qbkill",
            "qbretry",
            "qbblock",
            "qbunblock",
            "qbsuspend",
            "qbresume",
            "qbinterrupt",
            "qbrequeue",
            "qbremove",
        ] {
            assert!(verb(command).is_some_and(|v| !v.stead.is_empty() && !v.states.is_empty()), "{command}");
            for state in verb(command).expect("there").states {
                assert!(job::JobState::parse(state).is_ok(), "{command}: {state}");
            }
        }
        assert!(verb("qbmigrate").is_none());
    }
}
