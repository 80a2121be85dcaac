//! The last words of a one-shot farm: who ran what, by which rule, and who attests it.

use serde::{Deserialize, Serialize};

use crate::model::{Attempt, Explanation, Job, RunAs, Task, Verdict};
use crate::out::{self, Target};

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
    /// Who, and the beginning of the host's key.
    pub(crate) attested_by: String,
    /// Numbers of the records in the host's log.
    #[serde(default)]
    pub(crate) records: Vec<u64>,
    pub(crate) rule: String,
}

/// As many numbers of records are shown.
const RECORDS_SHOWN: usize = 3;

pub(crate) const HEADERS: [&str; 7] =
    ["TASKS", "STATE", "SUBMITTED BY", "RAN AS", "WORKER (MODE)", "ATTESTED BY", "WHY"];

impl Line {
    pub(crate) fn cells(&self) -> Vec<String> {
        vec![
            self.tasks.to_string(),
            self.state.clone(),
            out::who(&self.login_user, &self.user),
            self.ran_as.clone(),
            format!("{} ({})", self.worker, self.mode),
            self.attested(),
            self.rule.clone(),
        ]
    }

    /// `launcher 15512da3 #12,14,16…`
    fn attested(&self) -> String {
        if self.records.is_empty() {
            return self.attested_by.clone();
        }
        let shown: Vec<_> = self.records.iter().take(RECORDS_SHOWN).map(u64::to_string).collect();
        let more = if self.records.len() > RECORDS_SHOWN { "…" } else { "" };
        format!("{} #{}{more}", self.attested_by, shown.join(","))
    }

    fn take_in(&mut self, other: Self) {
        self.tasks += other.tasks;
        self.records.extend(other.records);
        self.records.sort_unstable();
        self.records.dedup();
    }
}

/// Groups the last attempts of all tasks; the order is that of the first task of each group.
pub(crate) fn lines(job: &Job, tasks: &[Task], explanation: &Explanation) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for task in tasks {
        let fresh = line(job, task, explanation);
        let rest = |l: &Line| Line { tasks: 1, records: Vec::new(), ..l.clone() };
        let same = |l: &&mut Line| rest(l) == rest(&fresh);
        match lines.iter_mut().find(same) {
            Some(line) => line.take_in(fresh),
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
        attested_by: last.map_or_else(|| "-".into(), attested),
        records: last.and_then(|a| a.proof.as_ref()).map(|p| p.log_sequence).into_iter().collect(),
        rule: why(explanation.workers.iter().find(|w| w.worker == worker)),
        worker,
        mode,
    }
}

fn attested(attempt: &Attempt) -> String {
    let by = attempt.attested_by.as_deref().unwrap_or("-");
    attempt.proof.as_ref().map_or_else(|| by.into(), |proof| format!("{by} {}", proof.key()))
}

/// The rule that picked the account or, where it was refused, the one that refused; and the grant, if one is behind it.
fn why(verdict: Option<&Verdict>) -> String {
    let Some(verdict) = verdict else { return "-".into() };
    let effect = if verdict.verdict == "refused" { "refuses" } else { "selects" };
    let rule = verdict.rules.iter().rev().find(|r| r.effect == effect).or(verdict.rules.last());
    let grant = verdict.rules.iter().find(|r| r.rule == "grant" && effect == "selects");
    let grant = grant.map(|g| format!("{}; ", g.text)).unwrap_or_default();
    rule.map_or_else(|| "-".into(), |r| format!("{grant}{}", r.text))
}

pub(crate) fn table(lines: &[Line], to: &Target) -> String {
    let rows: Vec<_> = lines.iter().map(Line::cells).collect();
    out::table_or_blocks(&HEADERS, &rows, Some(1), to)
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
                "attested_by": "launcher", "proof": {"host_key": "15512da3ff", "log_sequence": uid - 1490, "sha256": ""},
                "run_as": {"name": name, "uid": uid, "gid": uid, "groups": [uid]}})
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
            {"rule": "grant", "effect": "selects", "text": "by grant 7", "source": "grant 7"},
            {"rule": "user_mode", "effect": "selects", "text": "user mode: the user's own account", "source": "w"},
            {"rule": "open", "effect": "allows", "text": "open", "source": "w"}]}]}))
        .expect("explanation");
        let job = Job { login_user: "ada".into(), user: "ada".into(), ..Job::default() };
        let lines = lines(&job, &tasks, &explanation);
        let attested: Vec<_> = lines.iter().map(Line::attested).collect();
        assert_eq!(attested, ["launcher 15512da3 #11", "launcher 15512da3 #12", "-"]);
        let mut many = lines[0].clone();
        (5..9).for_each(|n| many.take_in(Line { records: vec![n, 5], ..lines[0].clone() }));
        assert_eq!((many.tasks, many.attested().as_str()), (10, "launcher 15512da3 #5,6,7…"));
        let short: Vec<_> = lines.iter().map(|l| (l.tasks, l.ran_as.as_str(), l.rule.as_str())).collect();
        assert_eq!(
            short,
            [
                (2, "ada uid=1501 gid=1501 groups=1501", "by grant 7; user mode: the user's own account"),
                (1, "bob uid=1502 gid=1502 groups=1502", "by grant 7; user mode: the user's own account"),
                (1, "nobody", "-"),
            ]
        );
    }
}
