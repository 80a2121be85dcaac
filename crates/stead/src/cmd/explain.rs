//! `explain`: the trail of rules, from the same function that dispatch uses.

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::Explain;
use crate::client::{Client, with_query};
use crate::failure::Failure;
use crate::model::{self, Explanation, Refused, Rule, Session, Verdict};
use crate::out::{self, Colour, paint};
use crate::times;

pub(crate) async fn explain(options: &Explain) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    let at = options.at.as_deref().map(|t| times::ahead("--at", t, Timestamp::now())).transpose()?;
    // Of a job one acts as another; before there is one, that is part of the question.
    let (client, path) = match options.job {
        Some(job) => (client.acting_as(options.acting_as.as_deref())?, format!("/api/v1/jobs/{job}/explain")),
        None => {
            let (user, acting_as, worker) = (options.user.clone(), options.acting_as.clone(), options.worker.clone());
            let (at, priority) = (at.map(times::rfc3339), options.priority.map(|p| p.to_string()));
            let asked = [("user", user), ("as", acting_as), ("worker", worker), ("at", at), ("priority", priority)];
            let path = with_query("/api/v1/explain", &asked);
            (client, path)
        }
    };
    let mut answer: Value = client.get(&path).await?;
    if let (Some(_), Some(name)) = (options.job, &options.worker) {
        only_worker(&mut answer, name);
    }
    if options.common.json {
        out::json(&answer);
        return Ok(());
    }
    out::say(trail(&model::read(&answer)?, out::colours()));
    Ok(())
}

fn only_worker(answer: &mut Value, name: &str) {
    if let Some(workers) = answer["workers"].as_array_mut() {
        workers.retain(|w| w["worker"] == name);
    }
}

/// For a person: who it is, per worker the verdict, and the rules, numbered.
fn trail(explanation: &Explanation, colour: bool) -> String {
    let mut text = heading(explanation);
    text += &rules_text(&explanation.rules, colour);
    // Of a job that was refused later than at once no rule has said it.
    let said = |r: &&Refused| explanation.rules.iter().any(|rule| rule.rule == r.rule);
    if let Some(why) = explanation.refused.as_ref().filter(|r| !said(r)).and_then(|r| r.text.as_ref()) {
        text += &format!("\n  {} {}", paint("✗", Colour::Red, colour), out::plain(why));
    }
    text += &refused_text(explanation.refused.as_ref());
    if explanation.workers.is_empty() && explanation.refused.is_none() {
        text += "\n\nthere is no worker";
    }
    // What was refused at once is refused everywhere, by the same rules.
    let verdicts = if explanation.refused.is_some() { &[][..] } else { &explanation.workers };
    for verdict in verdicts {
        text += "\n\n";
        text += &verdict_text(verdict, colour);
    }
    if !explanation.sessions.is_empty() {
        text += "\n\nWhat ran:";
    }
    for session in &explanation.sessions {
        text += &session_text(session);
    }
    text
}

fn heading(explanation: &Explanation) -> String {
    let what = explanation.job.map_or_else(|| "A job".into(), |job| format!("Job {job}"));
    let login = out::plain(explanation.login_user.as_deref().unwrap_or("?"));
    match explanation.user.as_deref().map(out::plain) {
        Some(user) if user == login => format!("{what} of {login}"),
        Some(user) => format!("{what} that {login} submits as {user}"),
        None => format!("{what} that {login} submits"),
    }
}

fn session_text(session: &Session) -> String {
    let ran = session
        .run_as
        .as_ref()
        .map_or_else(|| format!("nobody (asked for: {})", out::plain(&session.account)), |r| out::plain(&r.long()));
    let reason = session.reason.as_ref().map(|r| format!(": {}", out::plain(r))).unwrap_or_default();
    let purpose = match session.purpose.as_str() {
        "read" => ", for its files",
        "clean" => ", to remove its folder",
        _ => "",
    };
    format!(
        "\n  session {} on {} ({} mode){purpose}: as {ran}; {}{reason}{}",
        session.session,
        out::plain(&session.worker),
        session.mode,
        session.state,
        attested_text(session)
    )
}

/// On a line of its own: it is what one looks for in the host's log.
fn attested_text(session: &Session) -> String {
    let by = session.attested_by.as_deref().map(out::plain);
    match (&session.proof, by) {
        (Some(proof), by) => format!(
            "\n    attested by {}, host key {}…, record {} of its log",
            by.unwrap_or_else(|| "launcher".into()),
            out::plain(proof.key()),
            proof.log_sequence
        ),
        (None, Some(by)) => format!("\n    attested by {by}"),
        (None, None) => String::new(),
    }
}

fn rules_text(rules: &[Rule], colour: bool) -> String {
    let mut text = String::new();
    for (number, rule) in rules.iter().enumerate() {
        let (tick, shade) = match rule.effect.as_str() {
            "allows" => ("✓", Colour::Green),
            "selects" => ("→", Colour::Blue),
            "refuses" => ("✗", Colour::Red),
            _ => ("·", Colour::Dim),
        };
        let tick = paint(tick, shade, colour);
        let source = paint(&format!("[{}, {}]", out::plain(&rule.rule), out::plain(&rule.source)), Colour::Dim, colour);
        text += &format!("\n  {}. {tick} {} {source}", number + 1, out::plain(&rule.text));
    }
    text
}

fn refused_text(refused: Option<&Refused>) -> String {
    let Some(refused) = refused else { return String::new() };
    let value =
        refused.value.as_ref().filter(|v| !v.is_empty()).map(|v| format!(" = {}", out::plain(v))).unwrap_or_default();
    let hint = refused.hint.as_ref().map(|h| format!("\n  hint: {}", out::plain(h))).unwrap_or_default();
    format!("\n  rule: {}{value}{hint}", out::plain(&refused.rule))
}

fn verdict_text(verdict: &Verdict, colour: bool) -> String {
    let run_as = verdict.run_as.as_ref().map(|r| out::plain(&r.long()));
    let says = match (verdict.verdict.as_str(), &run_as) {
        ("run", Some(run_as)) => format!("{} as {run_as}", paint("runs", Colour::Green, colour)),
        ("run", None) => paint("runs", Colour::Green, colour),
        ("waiting", _) => paint("waits", Colour::Yellow, colour),
        (other, _) => paint(other, Colour::Red, colour),
    };
    let head = paint(&out::plain(&verdict.worker), Colour::Bold, colour);
    let mut rules = rules_text(&verdict.rules, colour);
    // The host's own answer is no rule of the farm.
    if let Some(refused) = verdict.refused.as_ref().filter(|r| !verdict.rules.iter().any(|rule| rule.rule == r.rule)) {
        let text = out::plain(refused.text.as_deref().unwrap_or_default());
        rules += &format!("\n  {}. {} {text}", verdict.rules.len() + 1, paint("✗", Colour::Red, colour));
    }
    format!("{head} ({} mode): {says}{rules}{}", verdict.mode, refused_text(verdict.refused.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_says_is_shown_as_what_refused() {
        let verdict = serde_json::json!({"worker": "w1", "mode": "user", "verdict": "refused", "rules": [],
            "refused": {"rule": "account_on_host", "value": "zoe", "hint": "h", "text": "w1 knows no account zoe"}});
        assert_eq!(
            verdict_text(&model::read(&verdict).expect("verdict"), false),
            "w1 (user mode): refused\n  1. ✗ w1 knows no account zoe\n  rule: account_on_host = zoe\n  hint: h"
        );
    }

    #[test]
    fn who_attests_it_is_said_with_the_place_in_the_log() {
        let session = |proof: Value| {
            let session = serde_json::json!({"session": 3, "worker": "w1", "mode": "user", "state": "ended",
                "account": "ada", "run_as": {"name": "ada"}, "attested_by": "launcher", "proof": proof});
            session_text(&model::read(&session).expect("session"))
        };
        let proof = serde_json::json!({"host_key": "15512da3aabb", "log_sequence": 12, "sha256": "00"});
        assert_eq!(
            session(proof),
            "\n  session 3 on w1 (user mode): as ada; ended\n    \
             attested by launcher, host key 15512da3…, record 12 of its log"
        );
        assert_eq!(session(Value::Null), "\n  session 3 on w1 (user mode): as ada; ended\n    attested by launcher");
        let files = serde_json::json!({"session": 4, "purpose": "read", "worker": "w1", "mode": "user",
            "state": "running", "account": "ada", "run_as": {"name": "ada"}});
        let files = session_text(&model::read(&files).expect("session"));
        assert_eq!(files, "\n  session 4 on w1 (user mode), for its files: as ada; running");
    }

    #[test]
    fn the_trail_numbers_and_ticks_every_rule() {
        let answer = serde_json::json!({"job": 42, "login_user": "ada", "user": "ada", "workers": [
            {"worker": "w1", "mode": "user", "run_as": {"name": "ada", "uid": 1501, "gid": 1501, "groups": [1501]},
             "verdict": "run", "refused": null, "rules": [
                {"rule": "user_mode", "effect": "selects", "text": "the account is the user's", "source": "worker w1"},
                {"rule": "uid_floor", "effect": "allows", "text": "1501 is above 1000", "source": "launcher.conf"}]},
            {"worker": "w2", "mode": "desktop", "run_as": null, "verdict": "refused",
             "refused": {"rule": "accept", "value": "bob", "hint": "bob can start it with --accept ada"},
             "rules": [{"rule": "accept", "effect": "refuses", "text": "bob takes only his own jobs", "source": "worker w2"}]},
        ]});
        let text = trail(&model::read(&answer).expect("explanation"), false);
        assert_eq!(
            text,
            "Job 42 of ada\n\n\
             w1 (user mode): runs as ada uid=1501 gid=1501 groups=1501\n  \
             1. → the account is the user's [user_mode, worker w1]\n  \
             2. ✓ 1501 is above 1000 [uid_floor, launcher.conf]\n\n\
             w2 (desktop mode): refused\n  \
             1. ✗ bob takes only his own jobs [accept, worker w2]\n  \
             rule: accept = bob\n  hint: bob can start it with --accept ada"
        );
    }
}
