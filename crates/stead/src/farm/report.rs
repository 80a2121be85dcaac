//! The last words of a one-shot farm: who ran what, by which rule, and who attests it.

use serde::{Deserialize, Serialize};

use crate::model::{Attempt, Explanation, Job, RunAs, Task, Verdict};
use crate::out;

/// One line: tasks that ran as the same account on the same worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) tasks: u64,
    pub(crate) state: String,
    pub(crate) login_user: String,
    pub(crate) user: String,
    pub(crate) ran_as: String,
    pub(crate) worker: String,
    pub(crate) mode: String,
    pub(crate) attested_by: String,
    pub(crate) rule: String,
}

pub(crate) const HEADERS: [&str; 7] =
    ["TASKS", "STATE", "SUBMITTED BY", "RAN AS", "WORKER (MODE)", "ATTESTED BY", "WHY"];

impl Line {
    pub(crate) fn cells(&self) -> Vec<String> {
        let who = if self.login_user == self.user {
            self.login_user.clone()
        } else {
            format!("{} as {}", self.login_user, self.user)
        };
        vec![
            self.tasks.to_string(),
            self.state.clone(),
            who,
            self.ran_as.clone(),
            format!("{} ({})", self.worker, self.mode),
            self.attested_by.clone(),
            self.rule.clone(),
        ]
    }
}

/// Groups the last attempts of all tasks; the order is that of the first task of each group.
pub(crate) fn lines(job: &Job, tasks: &[Task], explanation: &Explanation) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for task in tasks {
        let fresh = line(job, task, explanation);
        let same = |l: &&mut Line| Line { tasks: 1, ..(**l).clone() } == fresh;
        match lines.iter_mut().find(same) {
            Some(line) => line.tasks += 1,
            None => lines.push(fresh),
        }
    }
    lines
}

fn line(job: &Job, task: &Task, explanation: &Explanation) -> Line {
    let last = task.attempts.last();
    let mode = last.and_then(|a| a.mode.clone()).unwrap_or_else(|| "-".into());
    let worker = last.and_then(|a| a.worker.clone()).unwrap_or_else(|| "-".into());
    let name = |of: fn(&Attempt) -> &Option<String>, job: &String| {
        last.and_then(|a| of(a).clone()).unwrap_or_else(|| job.clone())
    };
    Line {
        tasks: 1,
        state: task.state.clone(),
        login_user: name(|a| &a.login_user, &job.login_user),
        user: name(|a| &a.user, &job.user),
        ran_as: last.and_then(|a| a.run_as.as_ref()).map_or_else(|| "nobody".into(), RunAs::long),
        attested_by: last.and_then(|a| a.attested_by.clone()).unwrap_or_else(|| "-".into()),
        rule: why(explanation.workers.iter().find(|w| w.worker == worker)),
        worker,
        mode,
    }
}

/// The rule that picked the account or, where it was refused, the one that refused.
fn why(verdict: Option<&Verdict>) -> String {
    let Some(verdict) = verdict else { return "-".into() };
    let effect = if verdict.verdict == "refused" { "refuses" } else { "selects" };
    let rule = verdict.rules.iter().rev().find(|r| r.effect == effect).or(verdict.rules.last());
    rule.map_or_else(|| "-".into(), |r| r.text.clone())
}

pub(crate) fn table(lines: &[Line], colour: bool) -> String {
    let rows: Vec<_> = lines.iter().map(Line::cells).collect();
    out::table(&HEADERS, &rows, Some(1), colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::read;
    use serde_json::json;

    #[test]
    fn tasks_of_one_account_are_one_line() {
        let attempt = |name: &str, uid: u32| {
            json!({"state": "complete", "worker": "w", "mode": "user", "login_user": "ada", "user": "ada",
                "attested_by": "launcher", "run_as": {"name": name, "uid": uid, "gid": uid, "groups": [uid]}})
        };
        let task = |n: u64, attempts: serde_json::Value| json!({"step": "s", "task": n, "state": "complete", "attempts": attempts});
        let tasks: Vec<Task> = read(&json!([
            task(0, json!([attempt("ada", 1501)])),
            task(1, json!([attempt("bob", 1502), attempt("ada", 1501)])),
            task(2, json!([attempt("bob", 1502)])),
            {"step": "s", "task": 3, "state": "pending", "attempts": []},
        ]))
        .expect("tasks");
        let explanation: Explanation = read(&json!({"workers": [{"worker": "w", "verdict": "run", "rules": [
            {"rule": "user_mode", "effect": "selects", "text": "user mode: the user's own account", "source": "w"},
            {"rule": "open", "effect": "allows", "text": "open", "source": "w"}]}]}))
        .expect("explanation");
        let job = Job { login_user: "ada".into(), user: "ada".into(), ..Job::default() };
        let lines = lines(&job, &tasks, &explanation);
        let short: Vec<_> = lines.iter().map(|l| (l.tasks, l.ran_as.as_str(), l.rule.as_str())).collect();
        assert_eq!(
            short,
            [
                (2, "ada uid=1501 gid=1501 groups=1501", "user mode: the user's own account"),
                (1, "bob uid=1502 gid=1502 groups=1502", "user mode: the user's own account"),
                (1, "nobody", "-"),
            ]
        );
    }
}
