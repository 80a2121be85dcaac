//! Who gets what from which page: a table that has to have a row for every page of the OpenAPI document, each asked by
//! everybody, before and after the right to it ended. `docs/endpoints.md` is this table.

use super::document::{is_committed, operations};
use super::fake_worker::{FakeWorker, Habits};
use super::people::{as_render, grant};
use super::{ADA, BOB, NOBODY, Supervised, eventually, frames, operator, spec, tcp};
use crate::api;
use crate::authn::Peer;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Who asks, from left to right.
const COLUMNS: [(&str, &str); 8] = [
    ("nobody", "over TCP, without a credential"),
    ("no name", "on the socket, an id that the user database has no name for"),
    ("wrong user", "bob, who has nothing to do with it"),
    ("right user", "ada, whose job it is and who holds a grant for the proxy user render"),
    ("administrator", "whoever runs the farm"),
    ("acting as", "ada, with `Stead-As: render`, at a job that runs as render"),
    ("after revocation", "the same request when the grant has been revoked"),
    ("… as oneself", "then ada as herself, at what she submitted as render"),
];

struct Row {
    page: (&'static str, &'static str),
    query: &'static str,
    body: Value,
    gets: [u16; 8],
}

fn row(method: &'static str, path: &'static str, body: Value, gets: [u16; 8]) -> Row {
    Row { page: (method, path), query: "", body, gets }
}

impl Row {
    fn asking(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    fn address(&self, id: &str) -> String {
        let name = match self.page.1.split('/').nth(3) {
            Some("workers") => "desk",
            Some("accounts") => "ada",
            _ => "carol",
        };
        self.page.1.replace("{id}", id).replace("{name}", name).replace("{account}", "ada") + self.query
    }
}

/// In this order each makes sense after the one before.
fn table() -> Vec<Row> {
    let none = || Value::Null;
    let submission = json!({ "spec": spec(json!({ "argv": ["true"] })) });
    // Whoever is known is let in, whoever acts as nobody any more isn't.
    let known = [401, 401, 200, 200, 200, 200, 403, 200];
    // Always one's own: not done as another, also not as oneself instead.
    let oneself = [401, 401, 200, 200, 200, 403, 403, 200];
    let ones_own = [401, 401, 404, 200, 200, 403, 403, 200];
    // The job's own people. The record stays to whoever submitted it, what was printed doesn't.
    let record = [401, 401, 404, 200, 200, 200, 403, 200];
    let output = [401, 401, 404, 200, 200, 200, 403, 403];
    let files = [401, 401, 404, 503, 403, 503, 403, 403];
    let own = [401, 401, 403, 200, 200, 200, 403, 200];
    let admin = [401, 401, 403, 403, 200, 403, 403, 403];
    // The act itself isn't possible in the job's state: whoever may act is told so, nobody else is told anything.
    let act = |path| row("POST", path, none(), [401, 401, 404, 409, 409, 409, 403, 403]);
    vec![
        row("GET", "/healthz", none(), [200; 8]),
        row("GET", "/readyz", none(), [200; 8]),
        row("GET", "/api/v1/openapi.json", none(), [200; 8]),
        row("GET", "/metrics", none(), admin),
        row("GET", "/api/v1/whoami", none(), [401, 401, 200, 200, 200, 200, 200, 200]),
        row("POST", "/api/v1/login", json!({ "user": "ada", "password": "right" }), [200; 8]),
        row("POST", "/api/v1/login/code", none(), oneself),
        // Nobody has configured a provider.
        row("GET", "/api/v1/oidc/start", none(), [403; 8]),
        row("GET", "/api/v1/oidc/callback", none(), [403; 8]),
        row("POST", "/api/v1/oidc/session", json!({ "code": "0", "verifier": "0" }), [403; 8]),
        row("GET", "/api/v1/sessions", none(), oneself),
        row("DELETE", "/api/v1/sessions/{id}", none(), ones_own),
        // The socket needs no session; whoever has none ends none, their own or others'.
        row("POST", "/api/v1/logout", none(), oneself),
        // This farm keeps no accounts of its own.
        row(
            "PUT",
            "/api/v1/password",
            json!({ "old": "right", "new": "hunter22x" }),
            [401, 401, 403, 403, 403, 403, 403, 403],
        ),
        row(
            "PUT",
            "/api/v1/accounts/{name}",
            json!({ "password": "hunter22x" }),
            [401, 401, 403, 403, 403, 403, 403, 403],
        ),
        row("DELETE", "/api/v1/accounts/{name}", none(), [401, 401, 403, 403, 403, 403, 403, 403]),
        row("GET", "/api/v1/password-key", none(), known),
        row("POST", "/api/v1/password-key", none(), admin),
        row("GET", "/api/v1/passwords", none(), known),
        // Of ada's own, whoever she acts as.
        row("PUT", "/api/v1/passwords/{account}", json!({ "password": "hunter22x" }), own),
        row("POST", "/api/v1/passwords/{account}/check", none(), own),
        row("POST", "/api/v1/passwords/{account}/seal", json!({ "password": "hunter22x" }), own),
        row("DELETE", "/api/v1/passwords/{account}", none(), [401, 401, 403, 200, 404, 404, 403, 200]),
        row("GET", "/api/v1/tokens", none(), oneself),
        row(
            "POST",
            "/api/v1/tokens",
            json!({ "name": "n", "scopes": ["read"] }),
            oneself.map(|s| if s == 200 { 201 } else { s }),
        ),
        row("DELETE", "/api/v1/tokens/{id}", none(), ones_own),
        row("GET", "/api/v1/jobs", none(), known),
        row("POST", "/api/v1/jobs", submission, known.map(|s| if s == 200 { 201 } else { s })),
        row("GET", "/api/v1/jobs/{id}", none(), record),
        act("/api/v1/jobs/{id}/block"),
        act("/api/v1/jobs/{id}/unblock"),
        act("/api/v1/jobs/{id}/suspend"),
        act("/api/v1/jobs/{id}/resume"),
        row("POST", "/api/v1/jobs/{id}/modify", json!({ "priority": 1 }), [401, 401, 404, 409, 409, 409, 403, 403]),
        // Ends something: whoever may know of the job may do it.
        row("POST", "/api/v1/jobs/{id}/kill", none(), [401, 401, 404, 409, 409, 409, 403, 200]),
        row("GET", "/api/v1/jobs/{id}/tasks", none(), output),
        row("GET", "/api/v1/jobs/{id}/logs", none(), output),
        // As the job's user only; nothing can be asked here.
        row("GET", "/api/v1/jobs/{id}/files", none(), files),
        row("GET", "/api/v1/jobs/{id}/file", none(), files).asking("?path=x"),
        row("GET", "/api/v1/jobs/{id}/wait", none(), record).asking("?timeout_s=0"),
        row("GET", "/api/v1/jobs/{id}/explain", none(), record),
        row("GET", "/api/v1/explain", none(), known),
        row("POST", "/api/v1/policy/diff", json!({ "users": { "ada": { "disabled": true } } }), admin),
        row("GET", "/api/v1/events", none(), known),
        row("GET", "/api/v1/workers", none(), known),
        row("POST", "/api/v1/workers/{name}/drain", json!({ "drained": false }), admin),
        row("GET", "/api/v1/workers/{name}/configuration", none(), known),
        row("GET", "/api/v1/configuration", none(), admin),
        row("POST", "/api/v1/configuration/reload", none(), admin),
        // The farm has no such file.
        row(
            "POST",
            "/api/v1/configuration/workers",
            json!({ "workers": ["desk"], "proxy_account": "x" }),
            [401, 401, 403, 403, 409, 403, 403, 403],
        ),
        row("GET", "/api/v1/account-check/{account}", none(), [401, 401, 403, 200, 200, 403, 403, 200]),
        row("GET", "/api/v1/farm", none(), known),
        row("GET", "/api/v1/as", none(), oneself),
        // Of those here only ada holds a grant, until it is revoked.
        row("PUT", "/api/v1/as", json!({ "proxy_user": "render" }), [401, 401, 403, 200, 403, 403, 403, 403]),
        row("DELETE", "/api/v1/as", none(), oneself),
        row("POST", "/api/v1/users", json!({ "name": "carol" }), admin),
        row("GET", "/api/v1/users", none(), admin),
        row("GET", "/api/v1/users/{name}", none(), admin),
        row("DELETE", "/api/v1/users/{name}", none(), admin),
        row("GET", "/api/v1/may-act", none(), admin),
        row("PUT", "/api/v1/may-act/{name}", json!({ "allowed": true }), admin),
        row("DELETE", "/api/v1/may-act/{name}", none(), admin),
        row("GET", "/api/v1/may-be-acted-as", none(), admin),
        row("PUT", "/api/v1/may-be-acted-as/{name}", json!({ "allowed": false }), admin),
        row("DELETE", "/api/v1/may-be-acted-as/{name}", none(), admin),
        row("GET", "/api/v1/grants", none(), known),
        row(
            "POST",
            "/api/v1/grants",
            json!({ "login_user": "bob", "proxy_user": "comp" }),
            [401, 401, 403, 403, 201, 403, 403, 403],
        ),
        // Ada has asked by the time she acts as render.
        row(
            "POST",
            "/api/v1/grants/request",
            json!({ "proxy_user": "comp" }),
            [401, 401, 201, 201, 201, 409, 403, 409],
        ),
        // Of what ada asked for herself. What serves oneself is approved by another.
        row("POST", "/api/v1/grants/{id}/approve", none(), [401, 401, 404, 403, 200, 404, 403, 403]),
        row("POST", "/api/v1/grants/{id}/revoke", none(), [401, 401, 404, 200, 200, 404, 403, 200]),
        row("GET", "/api/v1/audit", none(), admin).asking("?last=1"),
        row("GET", "/api/v1/audit/verify", none(), admin),
        row("GET", "/api/v1/audit/whence", none(), admin).asking("?path=/nowhere&uid=1&time=2026-11-22T10:00:00Z"),
        row("POST", "/api/v1/jobs/{id}/resubmit", none(), [401, 401, 404, 201, 201, 201, 403, 403]),
        // Last: they make the job another one.
        row("POST", "/api/v1/jobs/{id}/retry", none(), [401, 401, 404, 200, 409, 200, 403, 403]),
        row("POST", "/api/v1/jobs/{id}/requeue", none(), [401, 401, 404, 409, 409, 409, 403, 403]),
        row("DELETE", "/api/v1/jobs/{id}", none(), [401, 401, 404, 409, 409, 409, 403, 403]),
    ]
}

/// What the rows are about.
struct Things {
    own: u64,
    as_render: u64,
    session: Value,
    token: Value,
    asked: Value,
    grant: u64,
}

impl Things {
    /// A job of ada's own and one that she submitted as render, both over; what else she has.
    async fn of(farm: &Supervised) -> Self {
        for name in ["render", "comp", "edit"] {
            farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": name, "type": "proxy" })).await;
        }
        let grant = grant(farm, "ada").await;
        let own = farm.submit(ADA, frames(2)).await;
        let (_, job) = as_render(farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(2) })).await;
        let as_render = job["job"].as_u64().expect("a number");
        for job in [own, as_render] {
            farm.ask(operator(), "POST", &format!("/api/v1/jobs/{job}/kill"), Value::Null).await;
        }
        let login = json!({ "user": "ada", "password": "right" });
        let session = farm.ask(ADA, "POST", "/api/v1/login", login).await["id"].clone();
        let token = json!({ "name": "n", "scopes": ["read"] });
        let token = farm.ask(ADA, "POST", "/api/v1/tokens", token).await["id"].clone();
        let asked =
            farm.ask(ADA, "POST", "/api/v1/grants/request", json!({ "proxy_user": "edit" })).await["id"].clone();
        Self { own, as_render, session, token, asked, grant }
    }

    fn id(&self, path: &str, column: usize) -> String {
        match path.split('/').nth(3) {
            Some("jobs") if column < 5 => self.own.to_string(),
            Some("jobs") => self.as_render.to_string(),
            Some("sessions") => self.session.to_string(),
            Some("tokens") => self.token.to_string(),
            _ => self.asked.to_string(),
        }
    }
}

async fn asked(farm: &Supervised, things: &Things, row: &Row, column: usize) -> u16 {
    let uid = [0, NOBODY, BOB, ADA, operator(), ADA, ADA, ADA][column];
    let peer = if column == 0 { tcp() } else { Peer::Unix { uid } };
    let headers: &[(&str, &str)] = if [5, 6].contains(&column) { &[("stead-as", "render")] } else { &[] };
    let (method, path) = (row.page.0, row.address(&things.id(row.page.1, column)));
    if row.page.1 == "/api/v1/events" {
        return farm.head(peer, (method, &path), headers).await.as_u16();
    }
    farm.send(peer, (method, &path), headers, row.body.clone()).await.0.as_u16()
}

#[tokio::test]
async fn everybody_at_every_page() {
    let rows: BTreeSet<_> = table().iter().map(|row| row.page).collect();
    let documented: Vec<_> = operations();
    let documented = documented.iter().map(|(method, path, _)| (method.as_str(), *path)).collect();
    assert_eq!(rows, documented, "every page of the document has a row, and every row a page");
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    eventually("the worker is there", async || farm.get("/api/v1/workers").await[0]["state"] == "idle").await;
    // What is retried below doesn't get far.
    worker.crash();
    eventually("the worker is gone", async || farm.get("/api/v1/workers").await[0]["state"] == "down").await;
    let things = Things::of(&farm).await;
    let mut wrong = Vec::new();
    for columns in [0..6, 6..8] {
        if columns.start == 6 {
            farm.ask(operator(), "POST", &format!("/api/v1/grants/{}/revoke", things.grant), Value::Null).await;
        }
        for row in table() {
            for column in columns.clone() {
                let got = asked(&farm, &things, &row, column).await;
                if got != row.gets[column] {
                    let (name, _) = COLUMNS[column];
                    wrong.push(format!("{:?}, {name}: {got} instead of {}", row.page, row.gets[column]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_is_the_committed_one() {
    let mut text = "# Who gets what from which page\n\nMade by the supervisor's tests, which ask each page as each of these and fail where a \
                    page of the [OpenAPI document](openapi.json) has no row here. `STEAD_UPDATE=1` writes it anew.\n\n"
        .to_owned();
    for (name, who) in COLUMNS {
        text += &format!("* **{name}**: {who}\n");
    }
    text += "* **on record**: the act that is in the audit before the answer ([audit.md](audit.md)). It is looked for after each of \
             these, too.\n\n\
             ✓ done · 401 nobody is known · 403 refused, with the rule · 404 not there, or not visible: the same answer · 409 not \
             possible in its state: only whoever may do it is told so. \
             Where it is 403 for everybody, the farm that is asked keeps no passwords of its own, or has no OpenID provider.\n\n";
    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    text += &format!("| page | {} | on record |\n|---|{}---|\n", names.join(" | "), "---|".repeat(names.len()));
    for row in table() {
        let gets = row.gets.map(|status| if status < 400 { "✓".to_owned() } else { status.to_string() });
        let act = super::recorded::act_of(row.page).map_or("–".to_owned(), |act| format!("`{act}`"));
        text += &format!("| `{} {}` | {} | {act} |\n", row.page.0, row.page.1, gets.join(" | "));
    }
    is_committed("endpoints.md", &text);
}

#[tokio::test]
async fn hidden_and_absent_are_the_same_bytes() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let job = farm.submit(ADA, frames(2)).await;
    for Row { page: (method, path), query, body, .. } in table().into_iter().filter(|row| row.page.1.contains("{id}")) {
        let ask = async |id: String| {
            let path = path.replace("{id}", &id) + query;
            let (status, bytes) = farm.call(Peer::Unix { uid: BOB }, method, &path, body.clone()).await;
            (status, String::from_utf8(bytes).expect("text").replace(&id, "N"))
        };
        assert_eq!(ask(job.to_string()).await, ask("99999".to_owned()).await, "{method} {path}");
    }
    let mut after = spec(json!({ "argv": ["true"] }));
    after["after"] = json!([{ "job": job }]);
    let (status, bytes) = farm.call(Peer::Unix { uid: BOB }, "POST", "/api/v1/jobs", json!({ "spec": after })).await;
    assert_eq!((status.as_u16(), String::from_utf8_lossy(&bytes).contains("there is no job")), (404, true));
    assert_eq!(farm.ask(BOB, "GET", "/api/v1/jobs", Value::Null).await, json!([]));
}

#[tokio::test]
async fn no_field_of_a_request_makes_somebody_another() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let command = spec(json!({ "argv": ["true"] }));
    for body in [
        json!({ "spec": command, "user": "ada" }),
        json!({ "spec": command, "user": "root" }),
        json!({ "spec": command, "user": "" }),
    ] {
        let (status, bytes) = farm.call(Peer::Unix { uid: BOB }, "POST", "/api/v1/jobs", body.clone()).await;
        let error: Value = serde_json::from_slice(&bytes).expect("json");
        assert_eq!(status, 403, "{body}");
        assert!(error["error"]["rule"].is_string() && error["error"]["hint"].is_string(), "{error}");
    }
    for body in [
        json!({ "spec": command, "login_user": "ada" }),
        json!({ "spec": command, "as": "qubeproxy" }),
        json!({ "spec": { "v": 1, "user": "ada", "body": { "command": { "argv": ["true"] } } } }),
        json!({ "user": "ada" }),
        json!([]),
        Value::Null,
    ] {
        let (status, _) = farm.call(Peer::Unix { uid: BOB }, "POST", "/api/v1/jobs", body.clone()).await;
        assert_eq!(status, 400, "{body}");
    }
    let job = farm.ask(operator(), "POST", "/api/v1/jobs", json!({ "spec": command, "user": "ada" })).await;
    let job = farm.get(&format!("/api/v1/jobs/{}", job["job"])).await;
    assert_eq!((&job["login_user"], &job["user"]), (&json!("op"), &json!("ada")));
}

#[tokio::test]
async fn every_act_is_in_the_audit_before_it_is_acknowledged() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let _worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let job = farm.submit(ADA, frames(1)).await;
    farm.over(job).await;
    farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/retry"), json!({ "reason": "once more" })).await;
    farm.over(job).await;
    farm.ask(operator(), "POST", "/api/v1/workers/desk/drain", json!({ "drained": true })).await;
    let waiting = farm.submit(ADA, frames(1)).await;
    for act in ["block", "unblock", "kill"] {
        farm.ask(ADA, "POST", &format!("/api/v1/jobs/{waiting}/{act}"), Value::Null).await;
    }
    let _refused =
        farm.call(Peer::Unix { uid: BOB }, "POST", "/api/v1/jobs", json!({ "spec": frames(1), "user": "ada" }));
    _refused.await;
    eventually("the sessions' ends are written", async || {
        acts(dir.path()).iter().filter(|a| *a == "session_end").count() == 2
    })
    .await;
    let mut acts = acts(dir.path());
    acts.sort();
    assert_eq!(
        acts,
        [
            "begin",
            "block",
            "drain",
            "kill",
            "retry",
            "session_end",
            "session_end",
            "start",
            "submit",
            "submit",
            "submit",
            "unblock",
            "warrant",
            "warrant"
        ]
    );
    super::verified(dir.path());
}

fn acts(data: &std::path::Path) -> Vec<String> {
    let chain = std::fs::read_to_string(data.join("supervisor/audit/chain")).expect("chain");
    let act = |line: &str| serde_json::from_str::<Value>(line).expect("json")["act"].as_str().expect("act").to_owned();
    chain.lines().map(act).collect()
}

#[tokio::test]
async fn a_request_id_makes_one_job() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let body = json!({ "spec": frames(1), "request_id": "abc" });
    let first = farm.ask(ADA, "POST", "/api/v1/jobs", body.clone()).await;
    assert_eq!(farm.ask(ADA, "POST", "/api/v1/jobs", body.clone()).await, first);
    assert_ne!(farm.ask(BOB, "POST", "/api/v1/jobs", body).await, first);
    let intents = acts(dir.path()).iter().filter(|a| *a == "submit").count();
    assert_eq!(intents, 2, "what changes nothing is no act");
}

#[tokio::test]
async fn output_is_read_filtered_and_followed() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let job = farm.submit(ADA, frames(2)).await;
    let logs = farm.running.app.service.logs.clone();
    let chunk = |index, stream, data: &[u8]| {
        let mut out = Vec::new();
        let task = wire::Task { step: 0, index, epoch: 1 };
        wire::log::write(&mut out, &wire::log::Record { task, stream, offset: 0, data });
        out
    };
    let a = chunk(0, wire::log::Stream::Stdout, b"frame 1\n");
    logs.append(job, 77, 0, &a).expect("append");
    let b = chunk(1, wire::log::Stream::Stderr, b"oops\n");
    logs.append(job, 77, a.len() as u64, &b).expect("append");
    let text = async |query: &str| {
        let path = format!("/api/v1/jobs/{job}/logs{query}");
        let (status, bytes) = farm.call(Peer::Unix { uid: ADA }, "GET", &path, Value::Null).await;
        (status.as_u16(), String::from_utf8(bytes).expect("text"))
    };
    assert_eq!(text("").await, (200, "frame 1\noops\n".to_owned()));
    assert_eq!(text("?offset=8").await, (200, "oops\n".to_owned()));
    assert_eq!(text("?task=1&stream=stderr").await, (200, "oops\n".to_owned()));
    assert_eq!(text("?task=1&stream=stdout").await, (200, String::new()));
    assert_eq!(text("?prefix=true&stream=stdout").await, (200, "[0.0] frame 1\n".to_owned()));
    for wrong in ["?task=2", "?stream=x", "?step=nine", "?bogus=1"] {
        assert_eq!(text(wrong).await.0, 400, "{wrong}");
    }
    let follow = async || text("?follow=true").await;
    let kill = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let c = chunk(0, wire::log::Stream::Stdout, b"late\n");
        logs.append(job, 77, (a.len() + b.len()) as u64, &c).expect("append");
        farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/kill"), Value::Null).await
    };
    let (followed, _) = tokio::join!(follow(), kill);
    assert_eq!(followed, (200, "frame 1\noops\nlate\n".to_owned()));
}

#[tokio::test]
async fn only_named_accounts_reach_the_workers_socket() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let paths: BTreeSet<&str> = api::worker_routes().iter().map(|p| p.path).collect();
    assert_eq!(paths.len(), 3);
    for path in paths {
        let (status, _) = farm.call(Peer::Unix { uid: operator() }, "GET", path, Value::Null).await;
        assert_eq!(status, 404, "{path} is no page for people");
    }
}

#[tokio::test]
async fn the_audit_is_read_searched_followed_and_verified() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let job = farm.submit(ADA, frames(1)).await;
    farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/block"), Value::Null).await;
    let refused = json!({ "spec": spec(json!({ "argv": ["true"] })), "user": "ada" });
    for _ in 0..5 {
        let (status, _) = farm.call(Peer::Unix { uid: BOB }, "POST", "/api/v1/jobs", refused.clone()).await;
        assert_eq!(status, 403);
    }
    let read = async |query: &str| {
        let path = format!("/api/v1/audit{query}");
        let (status, bytes) = farm.call(Peer::Unix { uid: operator() }, "GET", &path, Value::Null).await;
        assert_eq!(status, 200, "{query}: {}", String::from_utf8_lossy(&bytes));
        let text = String::from_utf8(bytes).expect("text");
        text.lines().map(|l| serde_json::from_str::<Value>(l).expect("json")).collect::<Vec<_>>()
    };
    let acts =
        |records: &[Value]| records.iter().map(|r| r["act"].as_str().expect("act").to_owned()).collect::<Vec<_>>();
    assert_eq!(acts(&read("?actor=ada").await), ["submit", "block"]);
    let of_bob = read("?actor=bob&act=submit").await;
    assert_eq!(of_bob.len(), 1, "the same refusal again is only counted");
    assert_eq!((&of_bob[0]["outcome"], &of_bob[0]["details"]["rule"].is_string()), (&json!("refused"), &true));
    assert_eq!(acts(&read(&format!("?job={job}")).await), ["block"]);
    let last = read("?last=2&act=audit_read").await;
    assert_eq!(
        last[1]["details"]["asked"], "act=audit_read last=2",
        "that it was read is on record, before it is read"
    );
    assert_eq!(read("?since=2100-01-01T00:00:00Z").await.len(), 0);
    for wrong in ["?act=nothing", "?since=noon", "?bogus=1"] {
        let path = format!("/api/v1/audit{wrong}");
        let (status, _) = farm.call(Peer::Unix { uid: operator() }, "GET", &path, Value::Null).await;
        assert_eq!(status, 400, "{wrong}");
    }
    let report = farm.ask(operator(), "GET", "/api/v1/audit/verify", Value::Null).await;
    assert_eq!(report["findings"], json!([]), "{report}");
    let mut follower = farm.follow(operator(), "/api/v1/audit?act=kill&follow=true").await;
    farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/kill"), json!({ "reason": "followed" })).await;
    follower.until_said("\"reason\":\"followed\"").await;
    // One byte, and it is named.
    let path = dir.path().join("supervisor/audit/chain");
    let text = std::fs::read_to_string(&path).expect("text");
    std::fs::write(&path, text.replacen("\"act\":\"block\"", "\"act\":\"blocK\"", 1)).expect("written");
    let report = farm.ask(operator(), "GET", "/api/v1/audit/verify", Value::Null).await;
    assert!(report["findings"][0]["what"].as_str().is_some_and(|w| w.contains("was changed")), "{report}");
}

/// Nothing of what a person keeps to himself gets into a file of the audit.
#[tokio::test]
async fn no_secret_is_in_the_audit() {
    const CANARY: &str = "c4n4ry-s3cret";
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let _worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let mut body = spec(json!({ "argv": ["true"] }));
    body["env"] = json!({ "PASSWORD": CANARY });
    let with_env = farm.submit(ADA, body).await;
    farm.over(with_env).await;
    let template = format!(
        "specificationVersion: jobtemplate-2023-09\nname: t\nparameterDefinitions: [{{name: P, type: STRING}}]\nsteps:\n- name: s\n  \
         script: {{actions: {{onRun: {{command: echo, args: ['{CANARY}', '{{{{Param.P}}}}']}}}}}}\n"
    );
    let body = json!({ "v": 1, "body": { "template": { "source": template, "parameters": { "P": CANARY } } } });
    farm.submit(ADA, body).await;
    farm.running.stop().await;
    for entry in std::fs::read_dir(dir.path().join("supervisor/audit")).expect("dir") {
        let path = entry.expect("entry").path();
        let text = String::from_utf8(std::fs::read(&path).expect("bytes")).expect("text");
        assert!(!text.contains(CANARY), "{}", path.display());
    }
    super::verified(dir.path());
}

#[tokio::test]
async fn a_file_and_its_job_are_brought_together() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let _worker = FakeWorker::start(dir.path(), Habits::in_user_mode("node"));
    let job = farm.submit(ADA, frames(1)).await;
    let over = farm.over(job).await;
    eventually("the session's end is written", async || acts(dir.path()).iter().any(|a| a == "session_end")).await;
    let attempt = farm.get(&format!("/api/v1/jobs/{job}/tasks")).await[0]["attempts"][0].clone();
    let uid = &attempt["run_as"]["uid"];
    let work = std::fs::canonicalize(dir.path()).expect("path").join("work");
    let time = over["ended_at"].as_str().expect("time");
    let ask =
        async |query: String| farm.ask(operator(), "GET", &format!("/api/v1/audit/whence?{query}"), Value::Null).await;
    let exact = ask(format!("path={}/{job}/out.png&uid={uid}&time={time}", work.display())).await;
    assert_eq!((&exact["label"], &exact["found"][0]["login_user"]), (&json!("exact"), &json!("ada")), "{exact}");
    let elsewhere = ask(format!("path=/projects/out.png&uid={uid}&time={time}")).await;
    assert_eq!((&elsewhere["label"], &elsewhere["found"][0]["job"]), (&json!("candidate"), &json!(job)), "{elsewhere}");
    let other = ask(format!("path=/projects/out.png&uid=4242&time={time}")).await;
    assert_eq!(other["label"], "none", "{other}");
    let before = ask(format!("path=/projects/out.png&uid={uid}&time=1960-01-01T00:00:00Z")).await;
    assert_eq!(before["label"], "none", "{before}");
    let process = ask(format!("host=node&pids=1&time={time}")).await;
    assert_eq!((&process["label"], &process["found"][0]["worker"]), (&json!("candidate"), &json!("node")), "{process}");
}

/// By whose leave: of a grant that was given, of one that was asked for, and of one whose row somebody wrote over.
#[tokio::test]
async fn whose_leave_it_was_is_told() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let _worker = FakeWorker::start(dir.path(), Habits::in_user_mode("node"));
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "type": "proxy" })).await;
    let work = std::fs::canonicalize(dir.path()).expect("path").join("work");
    let behind = async |job: u64| {
        let query = format!("path={}/{job}/out.png", work.display());
        let answer = farm.ask(operator(), "GET", &format!("/api/v1/audit/whence?{query}"), Value::Null).await;
        assert_eq!(answer["label"], "exact", "{answer}");
        let found = &answer["found"][0];
        (found["grant"].clone(), found["given_by"].clone(), found["grant_changed_outside"].clone())
    };
    let run = async |uid: u32| {
        let (_, made) = as_render(&farm, uid, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await;
        let job = made["job"].as_u64().unwrap_or_else(|| panic!("{made}"));
        farm.over_for(operator(), job).await;
        eventually("its session's end is written", async || {
            let ended = farm.ask(operator(), "GET", &format!("/api/v1/jobs/{job}/tasks"), Value::Null).await;
            !ended[0]["attempts"][0]["run_as"].is_null()
                && acts(dir.path()).iter().filter(|act| *act == "session_end").count()
                    >= usize::try_from(job).expect("small")
        })
        .await;
        job
    };
    let given = grant(&farm, "ada").await;
    let first = run(ADA).await;
    assert_eq!(behind(first).await, (json!(given), json!("op"), json!(false)));
    let asked = farm.ask(BOB, "POST", "/api/v1/grants/request", json!({ "proxy_user": "render" })).await["id"].clone();
    farm.ask(operator(), "POST", &format!("/api/v1/grants/{asked}/approve"), json!({})).await;
    let second = run(BOB).await;
    assert_eq!(behind(second).await, (asked, json!("op"), json!(false)));
    farm.by_hand(dir.path(), "UPDATE grants SET given_by = 'mallory' WHERE id = 1").await;
    assert_eq!(behind(first).await, (json!(given), json!("mallory"), json!(true)));
    farm.by_hand(dir.path(), "DELETE FROM grants WHERE id = 1").await;
    assert_eq!(behind(first).await, (json!(given), Value::Null, json!(true)));
    let own = farm.submit(ADA, frames(1)).await;
    farm.over(own).await;
    eventually("its session's end is written", async || {
        acts(dir.path()).iter().filter(|act| *act == "session_end").count() == 3
    })
    .await;
    assert_eq!(behind(own).await, (Value::Null, Value::Null, json!(false)));
}
