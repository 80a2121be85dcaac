//! `grants`: who may act as whom, until when.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::{GrantList, GrantTerms, Grants};
use crate::client::{Client, with_query};
use crate::failure::Failure;
use crate::model;
use crate::out::{self, Target, plain};
use crate::times;

const PAGE: &str = "/api/v1/grants";
/// Rows asked for at once.
const ROWS: usize = 1000;
const ENDED: [&str; 2] = ["revoked", "expired"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Grant {
    id: Option<u64>,
    login_user: Option<String>,
    proxy_user: Option<String>,
    given_by: Option<String>,
    reason: Option<String>,
    from: Option<String>,
    until: Option<String>,
    workers: Option<String>,
    jobs: Option<String>,
    state: String,
    requested_by: Option<String>,
    ended_by: Option<String>,
    fault: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Revoked {
    grant: u64,
    blocked: Vec<u64>,
    killed: Vec<u64>,
    #[serde(default)]
    pub(crate) unsettled: Vec<u64>,
}

pub(crate) async fn grants(options: &Grants) -> Result<(), Failure> {
    let (common, path, body) = match options {
        Grants::List(o) => return list(o).await,
        Grants::Add(o) => (&o.common, PAGE.to_owned(), terms(Some(&o.login), &o.proxy, &o.terms)?),
        Grants::Request(o) => (&o.common, format!("{PAGE}/request"), terms(None, &o.proxy, &o.terms)?),
        Grants::Approve(o) => (&o.common, format!("{PAGE}/{}/approve", o.id), json!({})),
        Grants::Revoke(o) => (&o.common, format!("{PAGE}/{}/revoke", o.id), json!({ "kill": o.kill })),
    };
    let answer: Value = Client::of(common)?.post(&path, &body).await?;
    if common.json {
        out::json(&answer);
    } else if matches!(options, Grants::Revoke(_)) {
        out::say(revoked(&model::read(&answer)?));
    } else {
        out::say(sentence(&model::read(&answer)?, Timestamp::now()));
    }
    Ok(())
}

/// Makes a proxy user, and lets somebody act as it.
pub(crate) async fn let_act(client: &Client, login: &str, proxy: &str) -> Result<(), Failure> {
    let _user: Value = client.post("/api/v1/users", &json!({ "name": proxy, "type": "proxy" })).await?;
    let _grant: Value = client.post(PAGE, &json!({ "login_user": login, "proxy_user": proxy })).await?;
    Ok(())
}

fn terms(login: Option<&str>, proxy: &str, terms: &GrantTerms) -> Result<Value, Failure> {
    let now = Timestamp::now();
    let time = |option: &str, text: &Option<String>| match text {
        Some(text) => times::ahead(option, text, now).map(|t| Some(times::rfc3339(t))),
        None => Ok(None),
    };
    Ok(json!({
        "login_user": login,
        "proxy_user": proxy,
        "reason": terms.reason,
        "from": time("--from", &terms.from)?,
        "until": time("--until", &terms.until)?,
        "workers": terms.workers,
        "jobs": terms.jobs,
    }))
}

fn sentence(grant: &Grant, now: Timestamp) -> String {
    let name = |name: &Option<String>| plain(name.as_deref().unwrap_or("?"));
    let (id, who, proxy) = (grant.id.unwrap_or(0), name(&grant.login_user), name(&grant.proxy_user));
    let verb = if grant.state == "requested" { "asks to act" } else { "may act" };
    let from = times::beginning(grant.from.as_deref(), now).map(|t| format!(" from {t}")).unwrap_or_default();
    let until = match &grant.until {
        Some(until) => format!(" until {}", times::end(Some(until), now)),
        None => " until it is revoked".into(),
    };
    let only = limits(grant).map(|l| format!("; {l}")).unwrap_or_default();
    let next = if grant.state == "requested" {
        format!("\nsomebody else approves it: `stead grants approve {id}`")
    } else {
        String::new()
    };
    format!("grant {id}: {who} {verb} as {proxy}{from}{until}{only}{next}")
}

/// What it is not good for.
fn limits(grant: &Grant) -> Option<String> {
    let only = |what: &str, text: &Option<String>| {
        text.as_ref().filter(|t| !t.is_empty()).map(|t| format!("only {what} {}", plain(t)))
    };
    let parts: Vec<_> = only("on", &grant.workers).into_iter().chain(only("jobs", &grant.jobs)).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn revoked(revoked: &Revoked) -> String {
    let jobs = |word: &str, jobs: &[u64]| match jobs {
        [] => String::new(),
        [one] => format!("; {word}: job {one}"),
        many => format!("; {word}: jobs {}", many.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
    };
    let (blocked, killed) = (jobs("blocked", &revoked.blocked), jobs("killed", &revoked.killed));
    let unsettled = jobs("may still start what its worker was given before", &revoked.unsettled);
    format!("grant {} is revoked{blocked}{killed}{unsettled}", revoked.grant)
}

async fn list(options: &GrantList) -> Result<(), Failure> {
    let client = Client::of(&options.common)?;
    let rows = rows(&client, options).await?;
    if options.common.json {
        out::json(&Value::Array(rows));
        return Ok(());
    }
    if rows.is_empty() {
        out::note(if options.all {
            "no grants"
        } else {
            "no grants that live or are asked for; --all shows the others"
        });
        return Ok(());
    }
    let now = Timestamp::now();
    let rows = rows.iter().map(|r| Ok(row(&model::read(r)?, now))).collect::<Result<Vec<_>, Failure>>()?;
    let headers = ["STATE", "GRANT", "WHO", "AS", "UNTIL (UTC)", "GIVEN BY", "REASON"];
    out::say(out::listing(&headers, &rows, Some(0), &Target::stdout()));
    Ok(())
}

/// Page by page: which have ended by the time, their rows don't say.
async fn rows(client: &Client, options: &GrantList) -> Result<Vec<Value>, Failure> {
    let wanted = options.page.limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let (mut rows, mut after) = (Vec::new(), options.page.after.clone());
    while rows.len() < wanted {
        let parameters = [
            ("login_user", options.login.clone()),
            ("proxy_user", options.proxy.clone()),
            ("limit", Some(ROWS.to_string())),
            ("after", after.clone()),
        ];
        let page: Vec<Value> = client.get(&with_query(PAGE, &parameters)).await?;
        let last = page.iter().rev().find_map(|r| r["id"].as_u64()).map(|id| id.to_string());
        let is_last = page.len() < ROWS || last.is_none() || last == after;
        after = last;
        rows.extend(page.into_iter().filter(|r| options.all || !ENDED.iter().any(|state| r["state"] == *state)));
        if is_last {
            break;
        }
    }
    rows.truncate(wanted);
    Ok(rows)
}

fn row(grant: &Grant, now: Timestamp) -> Vec<String> {
    let ended = grant.ended_by.as_ref().map(|by| format!("revoked by {by}"));
    let asked =
        grant.requested_by.as_ref().filter(|_| grant.state == "requested").map(|by| format!("asked for by {by}"));
    let from = times::beginning(grant.from.as_deref(), now).map(|t| format!("from {t}"));
    let parts = [grant.fault.clone(), ended, asked, from, limits(grant), grant.reason.clone()];
    vec![
        grant.state.clone(),
        grant.id.map_or_else(|| "?".into(), |id| id.to_string()),
        out::or_dash(grant.login_user.as_deref()),
        out::or_dash(grant.proxy_user.as_deref()),
        times::end(grant.until.as_deref(), now),
        out::or_dash(grant.given_by.as_deref()),
        parts.into_iter().flatten().collect::<Vec<_>>().join("; "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().expect("time")
    }

    fn grant() -> Value {
        json!({"id": 7, "login_user": "ada", "proxy_user": "render", "given_by": "op", "given_at": null, "reason": "shots",
            "from": null, "until": "2026-11-22T18:00:00Z", "workers": "farm", "jobs": "shot-*", "state": "active",
            "requested_by": null, "approved_by": "op", "approved_at": null, "ended_by": null, "ended_at": null, "fault": null})
    }

    #[test]
    fn a_grant_is_a_sentence_and_a_row() {
        let active: Grant = model::read(&grant()).expect("grant");
        assert_eq!(
            sentence(&active, now()),
            "grant 7: ada may act as render until 2026-11-22 18:00 (in 8 h); only on farm, only jobs shot-*"
        );
        let shown = ["active", "7", "ada", "render", "2026-11-22 18:00 (in 8 h)", "op"];
        assert_eq!(row(&active, now())[..6], shown);
        assert_eq!(row(&active, now())[6], "only on farm, only jobs shot-*; shots");
        let mut asked = grant();
        asked["state"] = json!("requested");
        asked["from"] = json!("2026-11-25T10:00:00Z");
        let asked = sentence(&model::read(&asked).expect("grant"), now());
        assert!(asked.contains("asks to act as render from 2026-11-25 10:00 (in 3 days)"), "{asked}");
        assert!(asked.ends_with("`stead grants approve 7`"), "{asked}");
    }

    #[test]
    fn what_a_revocation_did_is_said() {
        let said = |answer: Value| revoked(&model::read(&answer).expect("answer"));
        assert_eq!(said(json!({"grant": 7, "blocked": [], "killed": []})), "grant 7 is revoked");
        assert_eq!(
            said(json!({"grant": 7, "blocked": [3], "killed": [4, 5]})),
            "grant 7 is revoked; blocked: job 3; killed: jobs 4, 5"
        );
    }

    #[test]
    fn terms_are_sent_as_the_supervisor_takes_them() {
        let given = GrantTerms { until: Some("2026-11-30T19:00:00+01:00".into()), ..GrantTerms::default() };
        let body = terms(Some("ada"), "render", &given).expect("terms");
        assert_eq!((&body["until"], &body["from"]), (&json!("2026-11-30T18:00:00Z"), &Value::Null));
        let given = GrantTerms { from: Some("soon".into()), ..GrantTerms::default() };
        assert!(terms(None, "render", &given).expect_err("no time").to_string().starts_with("--from"));
    }
}
