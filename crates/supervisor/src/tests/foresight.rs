//! What would be: asked before, and compared with what then was.

use super::people::{as_render, farm, grant, refused};
use super::{ADA, BOB, Supervised, eventually, frames, operator};
use serde_json::{Value, json};

async fn explain(farm: &Supervised, uid: u32, query: &str) -> Value {
    farm.ask(uid, "GET", &format!("/api/v1/explain{query}"), Value::Null).await
}

/// Login user, user, and the rule that refused.
fn said(answer: &Value) -> (&str, &str, &str) {
    (
        answer["login_user"].as_str().unwrap_or("-"),
        answer["user"].as_str().unwrap_or("-"),
        answer["refused"]["rule"].as_str().unwrap_or("-"),
    )
}

async fn switch(farm: &Supervised, uid: u32, to: Option<&str>) {
    match to {
        Some(name) => farm.ask(uid, "PUT", "/api/v1/as", json!({ "proxy_user": name })).await,
        None => farm.ask(uid, "DELETE", "/api/v1/as", Value::Null).await,
    };
}

#[tokio::test]
async fn an_administrator_is_told_what_another_would_get() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let op = operator();
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "comp", "type": "proxy" })).await;
    grant(&farm, "ada").await;
    let row = |query: &'static str, expected: (&'static str, &'static str, &'static str)| (query, expected);
    let table = [
        row("?user=ada", ("ada", "ada", "-")),
        row("?user=ada&as=render", ("ada", "render", "-")),
        row("?user=ada&as=comp", ("ada", "-", "no_grant")),
        row("?user=bob&as=render", ("bob", "-", "no_grant")),
        row("?user=render&as=comp", ("render", "-", "proxy_user_acts")),
        row("?user=root", ("root", "-", "root_is_no_identity")),
        row("?as=render", ("op", "-", "no_grant")),
    ];
    for (query, expected) in table {
        assert_eq!(said(&explain(&farm, op, query).await), expected, "{query}");
    }
    // As whom they act is part of the answer, unless the question names another.
    switch(&farm, ADA, Some("render")).await;
    assert_eq!(said(&explain(&farm, op, "?user=ada").await), ("ada", "render", "-"));
    assert_eq!(said(&explain(&farm, op, "?user=ada&as=comp").await), ("ada", "-", "no_grant"));
    assert_eq!(refused(&farm, op, "GET", "/api/v1/explain?user=a%20b", Value::Null).await.0, 400);
    // Somebody without a role asks about themselves; of others they learn that they may not submit as them.
    assert_eq!(said(&explain(&farm, BOB, "?user=ada").await), ("bob", "-", "impersonate"));
    assert_eq!(said(&explain(&farm, BOB, "?user=ada&as=render").await), ("bob", "-", "no_grant"));
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "bob", "roles": ["impersonate"] })).await;
    assert_eq!(said(&explain(&farm, BOB, "?user=ada").await), ("bob", "ada", "-"), "what they would do themselves");
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "bob", "roles": ["auditor"] })).await;
    assert_eq!(said(&explain(&farm, BOB, "?user=ada").await), ("ada", "render", "-"));
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "ada", "disabled": true })).await;
    assert_eq!(said(&explain(&farm, op, "?user=ada&as=render").await), ("ada", "-", "user_disabled"));
}

#[tokio::test]
async fn another_time_gives_the_answer_of_that_time() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let body = json!({ "login_user": "ada", "proxy_user": "render", "from": "2099-01-01T00:00:00Z",
        "until": "2099-02-01T00:00:00Z" });
    farm.ask(operator(), "POST", "/api/v1/grants", body).await;
    for (uid, query) in [(ADA, "?as=render"), (operator(), "?user=ada&as=render")] {
        let at = async |time: &str| explain(&farm, uid, &format!("{query}{time}")).await;
        assert_eq!(said(&at("").await).2, "grant_not_yet", "{query}");
        assert_eq!(said(&at("&at=2099-01-15T00:00:00Z").await), ("ada", "render", "-"), "{query}");
        assert_eq!(said(&at("&at=2099-02-01T00:00:00Z").await).2, "grant_expired", "{query}");
    }
    assert_eq!(refused(&farm, ADA, "GET", "/api/v1/explain?at=soon", Value::Null).await.0, 400);
    assert_eq!(refused(&farm, ADA, "GET", "/api/v1/explain?worker=nowhere", Value::Null).await.0, 404);
}

async fn diff(farm: &Supervised, change: Value) -> Value {
    farm.ask(operator(), "POST", "/api/v1/policy/diff", change).await
}

/// Job, before → after, rule.
fn changes(answer: &Value) -> Vec<(u64, String, String)> {
    let list = answer["changes"].as_array().expect("a list");
    let told = |v: &Value| v["run_as"].as_str().or(v["verdict"].as_str()).expect("an answer").to_owned();
    let change = |c: &Value| {
        let rule = c["rule"]["rule"].as_str().unwrap_or("-").to_owned();
        (c["job"].as_u64().expect("a job"), format!("{} → {}", told(&c["before"]), told(&c["after"])), rule)
    };
    list.iter().map(change).collect()
}

#[tokio::test]
async fn a_change_is_foreseen_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let id = grant(&farm, "ada").await;
    let theirs = as_render(&farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await.1["job"].clone();
    let theirs = theirs.as_u64().expect("a job");
    let own = farm.submit(ADA, frames(1)).await;
    farm.over(theirs).await;
    farm.over(own).await;
    let blocked = |rule: &str| vec![(theirs, "ada → blocked".to_owned(), rule.to_owned())];
    // The worker is ada's, and takes everybody's jobs.
    let table = [
        (json!({ "revoke": [id] }), blocked("grant_revoked")),
        (json!({ "users": { "render": { "disabled": true } } }), blocked("user_disabled")),
        (json!({ "users": { "render": { "type": "login" } } }), blocked("not_a_proxy_user")),
        (
            json!({ "workers": { "desk": { "accept": [] } } }),
            vec![(theirs, "ada → refused".to_owned(), "desktop_accept".to_owned())],
        ),
        (
            json!({ "workers": { "desk": { "mode": "proxy", "proxy_account": "qubeproxy" } } }),
            vec![
                (own, "ada → qubeproxy".to_owned(), "mode_proxy".to_owned()),
                (theirs, "ada → qubeproxy".to_owned(), "mode_proxy".to_owned()),
            ],
        ),
        (json!({ "users": { "ada": { "type": "proxy" } } }), blocked("proxy_user_acts")),
        // Another grant takes the place of the one that goes.
        (json!({ "revoke": [id], "grants": [{ "login_user": "ada", "proxy_user": "render" }] }), vec![]),
        (
            json!({ "revoke": [id], "grants": [{ "login_user": "ada", "proxy_user": "render", "workers": "farm" }] }),
            vec![(theirs, "ada → refused".to_owned(), "grant_workers".to_owned())],
        ),
        (
            json!({ "revoke": [id], "grants": [{ "login_user": "ada", "proxy_user": "render", "workers": "farm" }],
                "workers": { "desk": { "labels": ["farm"] } } }),
            vec![],
        ),
        // ada is in no such group.
        (
            json!({ "revoke": [id], "grants": [{ "login_user": "group:artists", "proxy_user": "render" }] }),
            blocked("grant_revoked"),
        ),
        (json!({ "jobs": 1, "revoke": [id] }), vec![]),
    ];
    for (change, expected) in table {
        let answer = diff(&farm, change.clone()).await;
        assert_eq!(changes(&answer), expected, "{change}: {answer:#}");
    }
    assert_eq!(diff(&farm, json!({})).await, json!({ "jobs": 2, "changes": [] }), "and nothing was changed");
    let revoked = farm.ask(operator(), "POST", &format!("/api/v1/grants/{id}/revoke"), json!({})).await;
    assert_eq!(revoked["grant"], id);
    // What a proxy user carries counts, too.
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "workers": "farm" })).await;
    let back = json!([{ "login_user": "ada", "proxy_user": "render" }]);
    let labelled = diff(&farm, json!({ "grants": back, "workers": { "desk": { "labels": ["farm"] } } })).await;
    assert_eq!(changes(&labelled), [(theirs, "blocked → ada".to_owned(), "mode_desktop".to_owned())]);
    let unlabelled = diff(&farm, json!({ "grants": back })).await;
    assert_eq!(changes(&unlabelled), [(theirs, "blocked → refused".to_owned(), "user_workers".to_owned())]);
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "workers": "" })).await;
    // What was foreseen is so, and what would give it back is foreseen.
    let again = diff(&farm, json!({ "grants": [{ "login_user": "ada", "proxy_user": "render" }] })).await;
    assert_eq!(changes(&again), [(theirs, "blocked → ada".to_owned(), "mode_desktop".to_owned())]);
}

#[tokio::test]
async fn a_change_that_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    eventually("the worker is there", async || farm.get("/api/v1/workers").await[0]["name"] == "desk").await;
    let table = [
        (json!({ "revoke": [99] }), 404),
        (json!({ "workers": { "nowhere": {} } }), 404),
        (json!({ "workers": { "desk": { "mode": "root" } } }), 400),
        (json!({ "workers": { "desk": { "proxy_account": "" } } }), 400),
        (json!({ "workers": { "desk": { "colour": "red" } } }), 400),
        (json!({ "users": { "a b": {} } }), 400),
        (json!({ "users": { "ada": { "roles": ["god"] } } }), 400),
        (json!({ "grants": [{ "login_user": "*", "proxy_user": "render" }] }), 400),
        (json!({ "grants": [{ "login_user": "ada", "proxy_user": "render", "until": "soon" }] }), 400),
        (json!({ "grants": [{ "login_user": "ada", "proxy_user": "render", "jobs": "a,,b" }] }), 400),
        (json!({ "grant": [] }), 400),
    ];
    for (change, status) in table {
        assert_eq!(
            refused(&farm, operator(), "POST", "/api/v1/policy/diff", change.clone()).await.0,
            status,
            "{change}"
        );
    }
}
