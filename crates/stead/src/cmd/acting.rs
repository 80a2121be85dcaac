//! `as`: as whom a person acts.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::As;
use crate::client::Client;
use crate::failure::Failure;
use crate::model;
use crate::out::{self, Target, plain};
use crate::times;

const PAGE: &str = "/api/v1/as";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Standing {
    login_user: String,
    active: Option<String>,
    ended: Option<String>,
    since: Option<String>,
    permitted: Vec<Permitted>,
    ask: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Permitted {
    proxy_user: String,
    grant: u64,
    until: Option<String>,
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Switch {
    active: Option<String>,
    before: Option<String>,
}

pub(crate) async fn acting(options: &As) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    let json = options.common.json;
    let answer: Value = match (&options.proxy_user, options.clear) {
        (Some(name), _) => client.put(PAGE, &json!({ "proxy_user": name })).await?,
        (None, true) => client.delete(PAGE).await?,
        (None, false) => return show(&client, options.list, json).await,
    };
    if json {
        out::json(&answer);
    } else {
        out::say(switched(&model::read(&answer)?));
    }
    Ok(())
}

async fn show(client: &Client, list: bool, json: bool) -> Result<(), Failure> {
    let answer: Value = client.get(PAGE).await?;
    if json {
        out::json(if list { &answer["permitted"] } else { &answer });
        return Ok(());
    }
    let standing: Standing = model::read(&answer)?;
    if !list {
        out::say(sentence(&standing, Timestamp::now()));
        return Ok(());
    }
    if standing.permitted.is_empty() {
        out::note(nobody(&standing));
        return Ok(());
    }
    let rows: Vec<_> = standing.permitted.iter().map(|p| row(p, &standing, Timestamp::now())).collect();
    out::say(out::listing(&["PROXY USER", "UNTIL (UTC)", "GRANT", "NOW", "REASON"], &rows, None, &Target::stdout()));
    Ok(())
}

fn row(permitted: &Permitted, standing: &Standing, now: Timestamp) -> Vec<String> {
    let is_active = standing.active.as_deref() == Some(permitted.proxy_user.as_str());
    vec![
        permitted.proxy_user.clone(),
        times::end(permitted.until.as_deref(), now),
        permitted.grant.to_string(),
        if is_active { "active".into() } else { "-".into() },
        permitted.reason.clone().unwrap_or_default(),
    ]
}

fn switched(switch: &Switch) -> String {
    let before = switch.before.as_deref().map(named);
    match (&switch.active, before) {
        (Some(active), None) => format!("you act as {} now", plain(active)),
        (Some(active), Some(before)) if named(active) == before => format!("you act as {before}, as you did before"),
        (Some(active), Some(before)) => format!("you act as {} now, and no longer as {before}", plain(active)),
        (None, Some(before)) => format!("you are yourself again, and no longer act as {before}"),
        (None, None) => "you are yourself, as you were before".into(),
    }
}

/// A row that nobody can read names nobody.
fn named(name: &str) -> String {
    if name.is_empty() { "somebody whose name can't be read".into() } else { plain(name) }
}

fn sentence(standing: &Standing, now: Timestamp) -> String {
    let login = plain(&standing.login_user);
    let Some(active) = &standing.active else { return format!("you are {login}, and act as yourself") };
    if let Some(ended) = &standing.ended {
        return format!("{}\n`stead as --clear` makes you {login} again", plain(ended));
    }
    let since = standing.since.as_deref().map(|s| format!(" since {}", out::time(Some(s)))).unwrap_or_default();
    let grant = standing.permitted.iter().find(|p| p.proxy_user == *active);
    let until = grant.map(|g| format!(", by grant {}: {}", g.grant, times::end(g.until.as_deref(), now)));
    format!("you are {login}, and act as {}{since}{}", plain(active), until.unwrap_or_default())
}

fn nobody(standing: &Standing) -> String {
    let ask = match standing.ask.as_slice() {
        [] => "an administrator".into(),
        names => names.iter().map(|n| plain(n)).collect::<Vec<_>>().join(" or "),
    };
    format!("you may act as nobody but yourself; ask {ask} for a grant: `stead grants request PROXYUSER`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().expect("time")
    }

    #[test]
    fn a_switch_says_what_it_replaced() {
        let said = |active: Value, before: Value| {
            switched(&model::read(&json!({ "active": active, "before": before })).expect("switch"))
        };
        assert_eq!(said(json!("render"), Value::Null), "you act as render now");
        assert_eq!(said(json!("render"), json!("comp")), "you act as render now, and no longer as comp");
        assert_eq!(said(json!("render"), json!("render")), "you act as render, as you did before");
        assert_eq!(said(Value::Null, json!("render")), "you are yourself again, and no longer act as render");
        assert_eq!(said(Value::Null, Value::Null), "you are yourself, as you were before");
        assert!(said(Value::Null, json!("")).contains("can't be read"));
    }

    #[test]
    fn how_one_stands_is_a_sentence() {
        let mut answer = json!({"login_user": "ada", "active": null, "ended": null, "since": null, "permitted": [],
            "ask": ["op", "zoe"]});
        let standing = |answer: &Value| model::read::<Standing>(answer).expect("standing");
        assert_eq!(sentence(&standing(&answer), now()), "you are ada, and act as yourself");
        assert!(nobody(&standing(&answer)).contains("ask op or zoe for a grant"));
        answer["active"] = json!("render");
        answer["since"] = json!("2026-11-22T09:00:00Z");
        answer["permitted"] = json!([{"proxy_user": "render", "grant": 7, "until": "2026-11-22T18:00:00Z"}]);
        assert_eq!(
            sentence(&standing(&answer), now()),
            "you are ada, and act as render since 2026-11-22 09:00:00, by grant 7: 2026-11-22 18:00 (in 8 h)"
        );
        answer["ended"] = json!("you act as render, and that right is gone: grant 7 was revoked by op");
        assert!(sentence(&standing(&answer), now()).ends_with("`stead as --clear` makes you ada again"));
    }
}
