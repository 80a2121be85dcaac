//! Whatever changes something leaves its record: a row for every route that isn't GET, in an order in which each can be
//! done, and the act that has to be on record after it. A route without a row fails.

use super::fake_worker::{FakeWorker, Habits};
use super::{ADA, Supervised, eventually, frames, operator, tcp};
use crate::api;
use crate::authn::Peer;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;

#[derive(Debug, Clone, Copy)]
enum By {
    Ada,
    Operator,
    /// Ada from elsewhere, by what her log-in answered.
    Session,
    Anybody,
}
use By::{Ada, Anybody, Operator, Session};

struct Row {
    route: (&'static str, &'static str),
    query: &'static str,
    by: By,
    body: Value,
    act: &'static str,
    /// Stands in the path: what the answer called so had in a field.
    of: (&'static str, &'static str),
    /// What this answer is called.
    called: &'static str,
}

fn row(method: &'static str, path: &'static str, by: By, body: Value, act: &'static str) -> Row {
    Row { route: (method, path), query: "", by, body, act, of: ("", ""), called: "" }
}

impl Row {
    fn of(self, answer: &'static str, field: &'static str) -> Self {
        Self { of: (answer, field), ..self }
    }

    fn asking(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    fn called(self, called: &'static str) -> Self {
        Self { called, ..self }
    }
}

fn table() -> Vec<Row> {
    let none = || Value::Null;
    let job = |act: &'static str, path| row("POST", path, Ada, Value::Null, act);
    let new = || json!({ "spec": frames(1) });
    let token = || json!({ "name": "ci", "scopes": ["read"] });
    let pair = || json!({ "login_user": "ada", "proxy_user": "render" });
    vec![
        row("PUT", "/api/v1/accounts/{name}", Operator, json!({ "password": "first one" }), "password"),
        row("POST", "/api/v1/login", Anybody, json!({ "user": "ada", "password": "first one" }), "login")
            .called("session"),
        row("POST", "/api/v1/tokens", Session, token(), "token_create").called("token"),
        row("DELETE", "/api/v1/tokens/{id}", Session, none(), "token_revoke").of("token", "id"),
        row("POST", "/api/v1/logout", Session, none(), "logout"),
        row("PUT", "/api/v1/password", Ada, json!({ "old": "first one", "new": "second one" }), "password"),
        row("POST", "/api/v1/login", Anybody, json!({ "user": "ada", "password": "second one" }), "login")
            .called("session"),
        row("DELETE", "/api/v1/sessions/{id}", Operator, none(), "session_revoke").of("session", "id"),
        row("DELETE", "/api/v1/accounts/{name}", Operator, none(), "password"),
        row("PUT", "/api/v1/passwords/{account}", Ada, json!({ "password": "right" }), "password_set"),
        row("POST", "/api/v1/passwords/{account}/check", Ada, none(), "password_check"),
        row("POST", "/api/v1/password-key", Operator, none(), "password_rotate"),
        row("DELETE", "/api/v1/passwords/{account}", Ada, none(), "password_delete"),
        // One runs, the other waits for the only slot.
        row("POST", "/api/v1/jobs", Ada, new(), "submit").called("running"),
        row("GET", "/api/v1/jobs/{id}/logs", Ada, none(), "view_log").of("running", "job"),
        row("GET", "/api/v1/audit", Operator, none(), "audit_read"),
        row("GET", "/api/v1/audit/verify", Operator, none(), "audit_verify"),
        row("GET", "/api/v1/audit/whence", Operator, none(), "audit_read")
            .asking("?path=/nowhere&uid=1&time=2026-11-22T10:00:00Z"),
        job("suspend", "/api/v1/jobs/{id}/suspend").of("running", "job"),
        job("resume", "/api/v1/jobs/{id}/resume").of("running", "job"),
        row("POST", "/api/v1/workers/{name}/drain", Operator, json!({ "drained": true }), "drain"),
        row("POST", "/api/v1/configuration/reload", Operator, none(), "configuration"),
        row(
            "POST",
            "/api/v1/configuration/workers",
            Operator,
            json!({ "workers": ["desk"], "worker_host_domain": "STUDIO" }),
            "configuration",
        ),
        row("POST", "/api/v1/jobs", Ada, new(), "submit").called("waiting"),
        row("POST", "/api/v1/jobs/{id}/modify", Ada, json!({ "priority": -1, "name": "later" }), "modify")
            .of("waiting", "job"),
        job("block", "/api/v1/jobs/{id}/block").of("waiting", "job"),
        job("unblock", "/api/v1/jobs/{id}/unblock").of("waiting", "job"),
        job("kill", "/api/v1/jobs/{id}/kill").of("waiting", "job"),
        job("requeue", "/api/v1/jobs/{id}/requeue").of("waiting", "job"),
        job("kill", "/api/v1/jobs/{id}/kill").of("waiting", "job"),
        job("retry", "/api/v1/jobs/{id}/retry").of("waiting", "job"),
        row("POST", "/api/v1/jobs/{id}/resubmit", Ada, json!({}), "submit").of("waiting", "job"),
        job("kill", "/api/v1/jobs/{id}/kill").of("waiting", "job"),
        row("DELETE", "/api/v1/jobs/{id}", Ada, none(), "remove").of("waiting", "job"),
        row("POST", "/api/v1/users", Operator, json!({ "name": "render", "type": "proxy" }), "user_create"),
        row("POST", "/api/v1/users", Operator, json!({ "name": "render", "note": "n" }), "user_change"),
        row("PUT", "/api/v1/may-be-acted-as/{name}", Operator, json!({ "allowed": false }), "list_change"),
        row("DELETE", "/api/v1/may-be-acted-as/{name}", Operator, none(), "list_change"),
        row("PUT", "/api/v1/may-be-acted-as/{name}", Operator, json!({ "allowed": true }), "list_change"),
        row("PUT", "/api/v1/may-act/{name}", Operator, json!({ "allowed": true }), "list_change"),
        row("DELETE", "/api/v1/may-act/{name}", Operator, none(), "list_change"),
        row("POST", "/api/v1/grants", Operator, pair(), "grant_give").called("given"),
        row("PUT", "/api/v1/as", Ada, json!({ "proxy_user": "render" }), "switch"),
        row("DELETE", "/api/v1/as", Ada, none(), "switch"),
        row("POST", "/api/v1/grants/{id}/revoke", Operator, none(), "grant_revoke").of("given", "id"),
        row("POST", "/api/v1/grants/request", Ada, json!({ "proxy_user": "render" }), "grant_request").called("asked"),
        row("POST", "/api/v1/grants/{id}/approve", Operator, none(), "grant_approve").of("asked", "id"),
        row("DELETE", "/api/v1/users/{name}", Operator, none(), "user_remove"),
    ]
}

/// The act that a page leaves.
pub(super) fn act_of(page: (&str, &str)) -> Option<&'static str> {
    match table().into_iter().find(|row| row.route == page) {
        Some(row) => Some(row.act),
        None => (page == ("POST", "/api/v1/oidc/session")).then_some("login"),
    }
}

/// Those that have no row here: two only ask, with something to say; a code changes nothing before it is used, and `pages`
/// looks for the record of that; the last needs a provider, and `oidc` looks for its record.
const ELSEWHERE: [(&str, &str); 4] = [
    ("POST", "/api/v1/policy/diff"),
    ("POST", "/api/v1/passwords/{account}/seal"),
    ("POST", "/api/v1/login/code"),
    ("POST", "/api/v1/oidc/session"),
];

#[tokio::test]
async fn whatever_changes_something_leaves_its_record() {
    let rows = table();
    let rows: BTreeSet<(&str, &str)> = rows.iter().map(|row| row.route).filter(|route| route.0 != "GET").collect();
    let routes = api::routes();
    let changing =
        routes.iter().map(|p| (p.method, p.path)).filter(|route| route.0 != "GET" && !ELSEWHERE.contains(route));
    assert_eq!(rows, changing.collect(), "every route that changes something has a row");

    let dir = tempfile::tempdir().expect("dir");
    let (conf, qbwrk) = (dir.path().join("supervisor.toml"), dir.path().join("qbwrk.conf"));
    std::fs::write(&qbwrk, "").expect("qbwrk.conf");
    std::fs::write(&conf, format!("own_accounts = true\nqbwrk_conf = {qbwrk:?}\n")).expect("settings");
    let farm = Supervised::configured(dir.path(), Some(conf)).await;
    let permits = Arc::new(Semaphore::new(0));
    let _worker = FakeWorker::start(dir.path(), Habits { permits, ..Habits::of_ada("desk") });
    eventually("the worker is there", async || !farm.get("/api/v1/workers").await[0].is_null()).await;
    let mut answers: BTreeMap<&str, Value> = BTreeMap::new();
    for row in table() {
        let (method, template) = row.route;
        let id = answers.get(row.of.0).map(|answer| answer[row.of.1].to_string()).unwrap_or_default();
        let name = match template.split('/').nth(3) {
            Some("workers") => "desk",
            Some("accounts" | "may-act") => "ada",
            _ => "render",
        };
        let path = template.replace("{id}", &id).replace("{name}", name).replace("{account}", "ada") + row.query;
        if row.act == "suspend" {
            let job = path.trim_end_matches("/suspend").to_owned();
            eventually("it runs", async || farm.get(&job).await["state"] == "running").await;
        }
        let before = records(dir.path()).len();
        let bearer = answers.get("session").map(|s| format!("Bearer {}", s["token"].as_str().expect("text")));
        let (peer, login_user) = match row.by {
            Ada => (Peer::Unix { uid: ADA }, "ada"),
            Operator => (Peer::Unix { uid: operator() }, "op"),
            Session | Anybody => (tcp(), "ada"),
        };
        let shown = bearer.iter().filter(|_| matches!(row.by, Session)).map(|b| ("authorization", b.as_str()));
        let shown: Vec<_> = shown.collect();
        let (status, _, answer) = farm.send(peer, (method, &path), &shown, row.body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        // Before the answer, not some time after it.
        let written = records(dir.path()).split_off(before);
        let is_it = |r: &&Value| {
            r["act"] == row.act
                && r["login_user"] == login_user
                && ["ok", "intent"].contains(&r["outcome"].as_str().unwrap_or_default())
        };
        assert_eq!(written.iter().filter(is_it).count(), 1, "{method} {path} by {login_user}: {written:#?}");
        if !row.called.is_empty() {
            answers.insert(row.called, answer);
        }
    }
    super::verified(dir.path());
}

fn records(data: &Path) -> Vec<Value> {
    let chain = std::fs::read_to_string(data.join("supervisor/audit/chain")).expect("chain");
    chain.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
