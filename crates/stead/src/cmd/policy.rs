//! `policy diff`: what a change would do.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::PolicyDiff;
use crate::client::Client;
use crate::failure::Failure;
use crate::model;
use crate::out::{self, Target};
use crate::submission::Input;

/// Jobs named in one line.
const JOBS_SHOWN: usize = 5;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Diff {
    jobs: u64,
    changes: Vec<Change>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Change {
    job: u64,
    login_user: String,
    user: String,
    worker: String,
    before: Foretold,
    after: Foretold,
    rule: Option<model::Rule>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Foretold {
    verdict: String,
    run_as: Option<String>,
}

pub(crate) async fn diff(options: &PolicyDiff) -> Result<(), Failure> {
    let mut change = read(Input::open(&options.file)?, &options.file.display().to_string())?;
    change["jobs"] = json!(options.jobs);
    let answer: Value = Client::of(&options.common)?.post("/api/v1/policy/diff", &change).await?;
    if options.common.json {
        out::json(&answer);
        return Ok(());
    }
    let diff: Diff = model::read(&answer)?;
    if diff.changes.is_empty() {
        out::say(format!("of the last {} jobs all would run as they do now", diff.jobs));
        return Ok(());
    }
    let headers = ["WHO", "WORKER", "NOW", "THEN", "JOBS", "WHY"];
    out::say(out::listing(&headers, &rows(&diff.changes), None, &Target::stdout()));
    Ok(())
}

/// TOML is what people write; what it means, the supervisor says.
fn read(file: Input, name: &str) -> Result<Value, Failure> {
    let fail = |text: String| Failure::Input { file: name.into(), text };
    let table: toml::Table =
        toml::from_str(&file.read()?.into_text()).map_err(|e| fail(e.to_string().trim_end().into()))?;
    if table.contains_key("jobs") {
        return Err(fail("how many jobs is said with --jobs".into()));
    }
    if table.is_empty() {
        return Err(fail("changes nothing (`stead policy diff --help` shows what it may say)".into()));
    }
    serde_json::to_value(table).map_err(|e| fail(e.to_string()))
}

/// Jobs to which the same would happen are one row.
fn rows(changes: &[Change]) -> Vec<Vec<String>> {
    let mut groups: Vec<(Vec<String>, Vec<u64>)> = Vec::new();
    for change in changes {
        let why = change.rule.as_ref().map_or_else(String::new, |r| format!("{} [{}]", r.text, r.rule));
        let who = out::who(&change.login_user, &change.user);
        let cells = vec![who, change.worker.clone(), told(&change.before), told(&change.after), why];
        match groups.iter_mut().find(|(known, _)| *known == cells) {
            Some((_, jobs)) => jobs.push(change.job),
            None => groups.push((cells, vec![change.job])),
        }
    }
    let row = |(mut cells, jobs): (Vec<String>, Vec<u64>)| {
        let named: Vec<_> = jobs.iter().take(JOBS_SHOWN).map(u64::to_string).collect();
        let more = jobs.len().saturating_sub(JOBS_SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        cells.insert(4, format!("{}{more}", named.join(", ")));
        cells
    };
    groups.into_iter().map(row).collect()
}

fn told(what: &Foretold) -> String {
    match &what.run_as {
        Some(name) => format!("runs as {name}"),
        None => what.verdict.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str) -> Result<Value, Failure> {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("change.toml");
        std::fs::write(&path, text).expect("written");
        read(Input::open(&path)?, "change.toml")
    }

    #[test]
    fn the_example_of_the_help_is_sent_as_it_is_written() {
        let text = "revoke = [7]\n[[grants]]\nlogin_user = \"ada\"\nproxy_user = \"render\"\n\
                    [users.bob]\ndisabled = true\n[workers.lin-07]\nmode = \"proxy\"\n";
        let expected = json!({"revoke": [7], "grants": [{"login_user": "ada", "proxy_user": "render"}],
            "users": {"bob": {"disabled": true}}, "workers": {"lin-07": {"mode": "proxy"}}});
        assert_eq!(change(text).expect("read"), expected);
        for (wrong, part) in [("", "changes nothing"), ("jobs = 3", "--jobs"), ("a\n= [", "line 1")] {
            let failure = change(wrong).expect_err(wrong);
            assert!(failure.exit() == 2 && failure.to_string().contains(part), "{failure}");
        }
    }

    #[test]
    fn jobs_of_the_same_fate_are_one_row() {
        let change = |job: u64, after: Value| {
            json!({"job": job, "login_user": "ada", "user": "render", "worker": "w", "after": after,
                "before": {"verdict": "run", "run_as": "render"},
                "rule": {"rule": "grant_revoked", "text": "grant 7 was revoked"}})
        };
        let blocked = || json!({"verdict": "blocked", "run_as": null});
        let mut changes: Vec<_> = (0..7).map(|n| change(9 - n, blocked())).collect();
        changes.push(change(1, json!({"verdict": "run", "run_as": "qubeproxy"})));
        let changes: Vec<Change> = model::read(&Value::Array(changes)).expect("changes");
        let why = "grant 7 was revoked [grant_revoked]";
        assert_eq!(
            rows(&changes),
            [
                ["ada as render", "w", "runs as render", "blocked", "9, 8, 7, 6, 5 and 2 more", why],
                ["ada as render", "w", "runs as render", "runs as qubeproxy", "1", why],
            ]
        );
    }
}
