//! `jobs` and `whoami`.

use serde_json::Value;

use crate::cli::{Asking, Jobs};
use crate::client::{Client, with_query};
use crate::failure::Failure;
use crate::model::{self, Job, Me};
use crate::out::{self, Target};

pub(crate) async fn jobs(options: &Jobs) -> Result<(), Failure> {
    let client = Client::of(&options.common)?;
    let states = (!options.state.is_empty()).then(|| options.state.join(","));
    let path = with_query(
        "/api/v1/jobs",
        &[
            ("user", options.user.clone()),
            ("login_user", options.login_user.clone()),
            ("state", states),
            ("limit", options.page.limit.map(|n| n.to_string())),
            ("after", options.page.after.clone()),
            ("text", options.search.clone()),
            ("sort", options.sort.clone()),
            ("offset", options.skip.map(|n| n.to_string())),
        ],
    );
    let answer: Value = client.get(&path).await?;
    if options.common.json {
        out::json(&answer);
        return Ok(());
    }
    let jobs: Vec<Job> = model::read(&answer)?;
    if jobs.is_empty() {
        out::note("no jobs");
        return Ok(());
    }
    let rows: Vec<_> = jobs.iter().map(row).collect();
    let headers = ["JOB", "STATE", "TASKS", "USER", "SUBMITTED (UTC)", "TOOK", "NAME", "REASON"];
    out::say(out::listing(&headers, &rows, Some(1), &Target::stdout()));
    Ok(())
}

fn row(job: &Job) -> Vec<String> {
    vec![
        job.id.to_string(),
        job.state.clone(),
        format!("{}/{}", job.tasks.complete, job.tasks.total),
        out::who(&job.login_user, &job.user),
        out::time(job.submitted_at.as_deref()),
        out::duration(job.started_at.as_deref(), job.ended_at.as_deref()),
        job.name.clone(),
        job.reason.clone().unwrap_or_default(),
    ]
}

pub(crate) async fn whoami(options: &Asking) -> Result<(), Failure> {
    let client = Client::of(options)?;
    let answer: Value = client.get("/api/v1/whoami").await?;
    if options.json {
        out::json(&answer);
        return Ok(());
    }
    let me: Me = model::read(&answer)?;
    let uid = me.uid.map(|uid| format!(" (uid {uid})")).unwrap_or_default();
    out::say(format!("login user  {}{uid}", me.login_user));
    out::say(format!("user        {}", out::or_dash(me.user.as_deref())));
    out::say(format!("roles       {}", if me.roles.is_empty() { "-".into() } else { me.roles.join(", ") }));
    if let Some(user) = &me.acting_as {
        out::say(format!("acting as   {user}"));
    }
    out::say(format!("known from  {}", me.source));
    if let Some(until) = &me.expires_at {
        out::say(format!("until       {} (UTC), for {}", out::time(Some(until)), me.scopes.join(", ")));
    }
    if let Some(problem) = &me.problem {
        out::say(format!("but         {}\n            {}", problem.text, problem.hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_one_line() {
        let answer = serde_json::json!({
            "id": 42, "name": "shot", "state": "running", "login_user": "ada", "user": "film",
            "submitted_at": "2026-11-22T10:00:00.000Z", "started_at": null, "ended_at": null, "priority": 0,
            "tasks": {"total": 10, "pending": 7, "running": 1, "complete": 2, "failed": 0, "killed": 0, "blocked": 0,
                      "suspended": 0},
            "reason": null,
        });
        let job: Job = model::read(&answer).expect("job");
        assert!(!job.ended());
        assert_eq!(row(&job), ["42", "running", "2/10", "ada as film", "2026-11-22 10:00:00", "-", "shot", ""]);
    }
}
