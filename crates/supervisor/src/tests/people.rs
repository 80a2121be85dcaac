//! Who acts as whom, over the pages: given, used, shown, ended.

use super::document::operations;
use super::fake_worker::{FakeWorker, Habits};
use super::pages::Asked;
use super::{ADA, BOB, Supervised, eventually, frames, operator, spec};
use crate::ask::JobsPageQuery;
use crate::authn::Peer;
use crate::caller::Asks;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// A farm with the proxy user render and a worker that takes everybody's jobs.
pub(super) async fn farm(data: &std::path::Path) -> (Supervised, FakeWorker) {
    let farm = Supervised::start(data).await;
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "type": "proxy" })).await;
    let mut habits = Habits::of_ada("desk");
    habits.hello.accept = vec!["any".to_owned()];
    (farm, FakeWorker::start(data, habits))
}

pub(super) async fn grant(farm: &Supervised, login_user: &str) -> u64 {
    let body = json!({ "login_user": login_user, "proxy_user": "render" });
    farm.ask(operator(), "POST", "/api/v1/grants", body).await["id"].as_u64().expect("an id")
}

/// What is refused: status, rule.
pub(super) async fn refused(farm: &Supervised, uid: u32, method: &str, path: &str, body: Value) -> (u16, String) {
    let (status, bytes) = farm.call(Peer::Unix { uid }, method, path, body).await;
    let answer: Value = serde_json::from_slice(&bytes).expect("json");
    (status.as_u16(), answer["error"]["rule"].as_str().unwrap_or_default().to_owned())
}

/// A request that names whom it acts as.
pub(super) async fn as_render(
    farm: &Supervised,
    uid: u32,
    method: &str,
    path: &str,
    body: Value,
) -> (StatusCode, Value) {
    acting(farm, uid, "render", method, path, body).await
}

async fn acting(farm: &Supervised, uid: u32, name: &str, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let mut request = Request::builder().method(method).uri(path).header("stead-as", name).body(body).expect("built");
    request.extensions_mut().insert(Peer::Unix { uid });
    let response = farm.router().oneshot(request).await.expect("answer");
    let status = response.status();
    let bytes = response.into_body().collect().await.expect("body").to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn ids(jobs: &Value) -> Vec<u64> {
    jobs.as_array().expect("a list").iter().map(|j| j["id"].as_u64().expect("an id")).collect()
}

#[tokio::test]
async fn acting_as_shows_one_life_and_never_both() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    grant(&farm, "ada").await;
    let own = farm.submit(ADA, frames(1)).await;
    let switched = farm.ask(ADA, "PUT", "/api/v1/as", json!({ "proxy_user": "render" })).await;
    assert_eq!(switched, json!({ "active": "render", "before": null }));
    let theirs = farm.submit(ADA, frames(1)).await;
    let of = |uid| farm.ask(uid, "GET", "/api/v1/jobs", Value::Null);
    let job = farm.ask(ADA, "GET", &format!("/api/v1/jobs/{theirs}"), Value::Null).await;
    assert_eq!((&job["login_user"], &job["user"]), (&json!("ada"), &json!("render")));
    assert_eq!(ids(&of(ADA).await), [theirs], "as render: its jobs, and none of one's own");
    assert_eq!(refused(&farm, ADA, "GET", &format!("/api/v1/jobs/{own}"), Value::Null).await.0, 404);
    assert_eq!(ids(&of(BOB).await), [0; 0]);
    // One at a time.
    let (status, other) = acting(&farm, ADA, "other", "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await;
    assert_eq!((status.as_u16(), &other["error"]["rule"]), (403, &json!("association_active")));
    let cleared = farm.ask(ADA, "DELETE", "/api/v1/as", Value::Null).await;
    assert_eq!(cleared, json!({ "active": null, "before": "render" }));
    assert_eq!(ids(&of(ADA).await), [theirs, own], "as oneself: what one submitted, as whomever");
    let (status, jobs) = as_render(&farm, ADA, "GET", "/api/v1/jobs", Value::Null).await;
    assert_eq!((status, ids(&jobs)), (StatusCode::OK, vec![theirs]), "for one request");
    assert_eq!(ids(&of(ADA).await), [theirs, own], "which changed nothing");
    assert_eq!(as_render(&farm, BOB, "GET", "/api/v1/jobs", Value::Null).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_grant_that_ended_leaves_the_record_and_a_kill() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, worker) = farm(dir.path()).await;
    let id = grant(&farm, "ada").await;
    let ran = as_render(&farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await.1["job"].clone();
    farm.over(ran.as_u64().expect("a job")).await;
    worker.crash();
    eventually("the worker is gone", async || farm.get("/api/v1/workers").await[0]["state"] == "down").await;
    let queued = as_render(&farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await.1["job"].clone();
    farm.ask(ADA, "PUT", "/api/v1/as", json!({ "proxy_user": "render" })).await;
    let revoked = farm.ask(operator(), "POST", &format!("/api/v1/grants/{id}/revoke"), json!({})).await;
    assert_eq!(revoked, json!({ "grant": id, "blocked": [queued], "killed": [] }));
    // Never silently oneself again.
    let lost = (403, "association_ended".to_owned());
    assert_eq!(refused(&farm, ADA, "GET", "/api/v1/jobs", Value::Null).await, lost);
    assert_eq!(refused(&farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await, lost);
    let acting = farm.ask(ADA, "GET", "/api/v1/as", Value::Null).await;
    assert_eq!((&acting["active"], &acting["permitted"]), (&json!("render"), &json!([])));
    assert_eq!(acting["ask"], json!(["op"]), "whom to ask");
    farm.ask(ADA, "DELETE", "/api/v1/as", Value::Null).await;
    let job = farm.get(&format!("/api/v1/jobs/{queued}")).await;
    assert_eq!(job["state"], "blocked");
    assert!(job["reason"].as_str().expect("why").contains("was revoked by op"), "{job}");
    for (method, path) in [("GET", "logs"), ("GET", "tasks"), ("POST", "retry"), ("POST", "unblock")] {
        let path = format!("/api/v1/jobs/{ran}/{path}");
        assert_eq!(refused(&farm, ADA, method, &path, Value::Null).await, (403, "right_ended".to_owned()), "{path}");
    }
    farm.ask(ADA, "POST", &format!("/api/v1/jobs/{queued}/kill"), json!({})).await;
    assert_eq!(refused(&farm, BOB, "GET", &format!("/api/v1/jobs/{ran}"), Value::Null).await.0, 404);
}

async fn revoked(farm: &Supervised, id: u64, kill: bool) -> Value {
    farm.ask(operator(), "POST", &format!("/api/v1/grants/{id}/revoke"), json!({ "kill": kill })).await
}

/// Submits as render, and waits until it runs.
async fn running_as_render(farm: &Supervised) -> (Value, String) {
    let job = as_render(farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await.1["job"].clone();
    let path = format!("/api/v1/jobs/{job}");
    is(farm, &path, "running").await;
    // So far it was only sent: what did not begin can be called back, or was never there.
    eventually("its task has begun", async || {
        let tasks = farm.ask(operator(), "GET", &format!("{path}/tasks"), Value::Null).await;
        !tasks[0]["attempts"][0]["started_at"].is_null()
    })
    .await;
    (job, path)
}

async fn is(farm: &Supervised, path: &str, state: &str) {
    eventually(state, async || farm.ask(operator(), "GET", path, Value::Null).await["state"] == state).await;
}

/// Held back is not ended: what a plain revocation left alive is killed by one that says so.
#[tokio::test]
async fn a_revocation_that_kills_reaches_what_was_blocked_before() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, worker) = stuck(dir.path()).await;
    let id = grant(&farm, "ada").await;
    let (running, path) = running_as_render(&farm).await;
    eventually("it was handed out", async || !worker.seen().batches.is_empty()).await;
    // So that its task can't be called back: it runs.
    worker.crash();
    eventually("the worker is gone", async || farm.get("/api/v1/workers").await[0]["state"] == "down").await;
    let waits = as_render(&farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await.1["job"].clone();
    let held = json!({ "grant": id, "blocked": [waits, running], "killed": [], "unsettled": [running] });
    assert_eq!(revoked(&farm, id, false).await, held, "its worker isn't there to say that nothing more starts");
    is(&farm, &path, "blocked").await;
    let killed = json!({ "grant": id, "blocked": [waits], "killed": [running], "unsettled": [running] });
    assert_eq!(revoked(&farm, id, true).await, killed);
    is(&farm, &path, "killed").await;
    is(&farm, &format!("/api/v1/jobs/{waits}"), "blocked").await;
}

/// The page says of which jobs it isn't certain, as the API does.
#[tokio::test]
async fn the_page_names_what_is_not_settled() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, worker) = stuck(dir.path()).await;
    let id = grant(&farm, "ada").await;
    let (running, _) = running_as_render(&farm).await;
    worker.crash();
    eventually("the worker is gone", async || farm.get("/api/v1/workers").await[0]["state"] == "down").await;
    let waits = as_render(&farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await.1["job"].clone();
    let path = format!("/grants/{id}/revoke");
    let form = Asked { peer: Peer::Unix { uid: operator() }, method: "POST", path: &path, headers: &[], form: "" };
    let (status, _, page) = super::pages::ask(&farm, form).await;
    assert_eq!(status.as_u16(), 200, "{page}");
    let (_, note) = page.split_once("id=\"unsettled\"").unwrap_or_else(|| panic!("no note: {page}"));
    let note = note.split("</p>").next().expect("its end");
    assert!(note.contains(&format!("/jobs/{running}\"")) && !note.contains(&format!("/jobs/{waits}\"")), "{note}");
}

#[tokio::test]
async fn a_revocation_that_kills_reaches_what_is_suspended() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = stuck(dir.path()).await;
    let id = grant(&farm, "ada").await;
    let (suspended, path) = running_as_render(&farm).await;
    farm.ask(operator(), "POST", &format!("{path}/suspend"), json!({})).await;
    is(&farm, &path, "suspended").await;
    assert_eq!(revoked(&farm, id, true).await, json!({ "grant": id, "blocked": [], "killed": [suspended] }));
}

#[tokio::test]
async fn whoever_is_removed_leaves_their_name_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let op = operator();
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "render", "answers": ["ada", "bob"] })).await;
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "bob", "listed": true })).await;
    farm.ask(op, "PUT", "/api/v1/may-act/ada", json!({ "allowed": false })).await;
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "ada" })).await;
    farm.ask(op, "DELETE", "/api/v1/users/bob", Value::Null).await;
    let to = |name| json!({ "login_user": name, "proxy_user": "render" });
    assert_eq!(refused(&farm, BOB, "POST", "/api/v1/grants", to("ada")).await, (403, "admin".to_owned()));
    assert_eq!(farm.ask(op, "GET", "/api/v1/users/render", Value::Null).await["answers"], json!(["ada"]));
    farm.ask(op, "DELETE", "/api/v1/users/ada", Value::Null).await;
    assert_eq!(farm.ask(op, "GET", "/api/v1/users/render", Value::Null).await["answers"], json!([]));
    let people = async |name| farm.running.app.service.identity.people(name, Some("render")).await.expect("people");
    assert_eq!(people("bob").await.may_act, []);
    assert_eq!(people("ada").await.may_act.len(), 1, "whom a list refuses it goes on refusing");
    assert_eq!(people("ada").await.may_be_acted_as, Some(true));
    farm.ask(op, "DELETE", "/api/v1/users/render", Value::Null).await;
    assert_eq!(people("ada").await.may_be_acted_as, None);
}

/// A refusal is on record with whom it was to be, whatever the rule is about.
#[tokio::test]
async fn what_is_refused_to_whoever_acts_is_on_record_as_such() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let body = json!({ "login_user": "ada", "proxy_user": "render", "jobs": "ok-*" });
    let id = farm.ask(operator(), "POST", "/api/v1/grants", body).await["id"].clone();
    let submit = async || as_render(&farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await.0;
    assert_eq!(submit().await, StatusCode::FORBIDDEN, "a job of another name");
    farm.ask(operator(), "POST", &format!("/api/v1/grants/{id}/revoke"), json!({})).await;
    assert_eq!(submit().await, StatusCode::FORBIDDEN);
    let act = refused(&farm, ADA, "PUT", "/api/v1/as", json!({ "proxy_user": "render" })).await;
    assert_eq!(act, (403, "grant_revoked".to_owned()));
    let text = std::fs::read_to_string(dir.path().join("supervisor/audit/chain")).expect("the chain");
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("json"));
    let refusals: Vec<_> = records.filter(|r| r["outcome"] == "refused").collect();
    let told: Vec<_> = refusals.iter().map(|r| (&r["act"], &r["user"], &r["grant"], &r["details"])).collect();
    let asked = json!({ "rule": "grant_revoked", "asked": "render" });
    assert_eq!(
        told,
        [
            (&json!("submit"), &json!("render"), &id, &json!({ "rule": "grant_jobs" })),
            (&json!("switch"), &json!("ada"), &Value::Null, &asked),
        ],
        "the same refusal twice is counted"
    );
    let proxied = std::fs::read_to_string(dir.path().join("supervisor/audit/proxied")).expect("the file");
    assert!(proxied.lines().any(|line| line.contains("\"refused\"") && line.contains("grant_jobs")), "{proxied}");
}

/// Names that nobody can have are neither repeated nor remembered, however many are tried.
#[tokio::test]
async fn endless_names_fill_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let endless = "x".repeat(65);
    let submission = json!({ "spec": frames(1), "user": endless });
    let (status, answer) = farm.call(Peer::Unix { uid: ADA }, "POST", "/api/v1/jobs", submission).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(!String::from_utf8_lossy(&answer).contains(&endless), "not said back");
    let identity = &farm.running.app.service.identity;
    let remembered = identity.remembered_names();
    assert!(remembered > 0);
    assert_eq!(acting(&farm, ADA, &endless, "GET", "/api/v1/jobs", Value::Null).await.0, StatusCode::FORBIDDEN);
    assert_eq!(identity.remembered_names(), remembered);
}

#[tokio::test]
async fn nobody_acts_as_a_system_account_by_rows_written_by_hand() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let rows = "INSERT INTO users (name, type) VALUES ('www-data', 'proxy'); \
                INSERT INTO may_be_acted_as (proxy_user) VALUES ('www-data'); \
                INSERT INTO grants (login_user, proxy_user) VALUES ('ada', 'www-data'), ('bob', 'www-data')";
    farm.by_hand(dir.path(), rows).await;
    // The host is asked for the first only: what it said holds for the others, too.
    for uid in [ADA, BOB, ADA] {
        let (status, answer) = acting(&farm, uid, "www-data", "GET", "/api/v1/jobs", Value::Null).await;
        assert_eq!((status, &answer["error"]["rule"]), (StatusCode::FORBIDDEN, &json!("system_account")), "{uid}");
    }
}

#[tokio::test]
async fn proxies_are_never_chained_and_nobody_grants_themselves() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut farm, _worker) = farm(dir.path()).await;
    let op = operator();
    let table = [
        (op, json!({ "login_user": "render", "proxy_user": "render" }), 403, "grant_to_self"),
        (op, json!({ "login_user": "ada", "proxy_user": "root" }), 403, "system_account"),
        (op, json!({ "login_user": "ada", "proxy_user": "adrift" }), 403, "directory"),
        (op, json!({ "login_user": "ada", "proxy_user": "www-data" }), 403, "system_account"),
        (op, json!({ "login_user": "ada", "proxy_user": "bob" }), 403, "not_a_proxy_user"),
        (op, json!({ "login_user": "root", "proxy_user": "render" }), 403, "system_account"),
        (op, json!({ "login_user": "*", "proxy_user": "render" }), 400, ""),
        (op, json!({ "login_user": "", "proxy_user": "render" }), 400, ""),
        (op, json!({ "login_user": "ada", "proxy_user": "render", "until": "soon" }), 400, ""),
        (op, json!({ "login_user": "ada", "proxy_user": "render", "until": "2001-01-01T00:00:00Z" }), 400, ""),
        (ADA, json!({ "login_user": "ada", "proxy_user": "render" }), 403, "admin"),
    ];
    for (uid, body, status, rule) in table {
        let got = refused(&farm, uid, "POST", "/api/v1/grants", body.clone()).await;
        assert_eq!(got, (status, rule.to_owned()), "{body}");
    }
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "comp", "type": "proxy", "answers": ["bob"] })).await;
    let chained = json!({ "login_user": "comp", "proxy_user": "render" });
    assert_eq!(refused(&farm, op, "POST", "/api/v1/grants", chained).await.1, "proxy_user_acts");
    // Who answers for a proxy user gives others its name, not themselves.
    let to = |name| json!({ "login_user": name, "proxy_user": "comp" });
    farm.ask(op, "PUT", "/api/v1/may-act/ada", json!({ "allowed": true })).await;
    farm.ask(BOB, "POST", "/api/v1/grants", to("ada")).await;
    for oneself in ["bob", "group:artists"] {
        assert_eq!(refused(&farm, BOB, "POST", "/api/v1/grants", to(oneself)).await.1, "grant_to_self");
    }
    // A proxy user that was a person: what they held gives nothing, even where its uid is believed.
    farm.configure(|settings| settings.proxy_users_sign_in = true);
    grant(&farm, "bob").await;
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "bob", "type": "proxy" })).await;
    let acted = refused(&farm, BOB, "PUT", "/api/v1/as", json!({ "proxy_user": "render" })).await;
    assert_eq!(acted, (403, "proxy_user_acts".to_owned()));
    let submitted = json!({ "spec": spec(json!({ "argv": ["true"] })), "user": "ada" });
    assert_eq!(refused(&farm, BOB, "POST", "/api/v1/jobs", submitted).await.1, "proxy_user_acts");
}

/// Whatever table somebody edits: it is on record before anything is decided by it.
#[tokio::test]
async fn what_is_edited_by_hand_is_on_record() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let id = grant(&farm, "ada").await;
    farm.get("/api/v1/whoami").await;
    assert_eq!(outside(dir.path()), Vec::<Value>::new());
    for (sql, table, op, row, after) in [
        ("INSERT INTO users (name, roles) VALUES ('bob', 'admin')", "users", "insert", "'bob'", "roles='admin'"),
        ("UPDATE users SET roles = ''", "users", "update", "'render'", ""),
        ("DELETE FROM may_be_acted_as", "may_be_acted_as", "delete", "'render'", ""),
        ("REPLACE INTO may_act (who, allowed) VALUES ('ada', 0)", "may_act", "insert", "'ada'", "allowed=0"),
        (
            "INSERT INTO associations (login_user, proxy_user) VALUES ('eve', 'x')",
            "associations",
            "insert",
            "'eve'",
            "x",
        ),
        (
            "INSERT INTO tokens (hash, kind, login_user) VALUES (x'00', 'token', 'ada')",
            "tokens",
            "insert",
            "1",
            "'ada'",
        ),
        ("DELETE FROM tokens", "tokens", "delete", "1", ""),
        ("INSERT INTO accounts (name, password) VALUES ('eve', 'secret')", "accounts", "insert", "'eve'", "name='eve'"),
        ("DELETE FROM grants", "grants", "delete", &id.to_string(), ""),
    ] {
        farm.by_hand(dir.path(), sql).await;
        farm.call(Peer::Unix { uid: BOB }, "GET", "/api/v1/whoami", Value::Null).await;
        let records = outside(dir.path());
        let told = records.iter().filter(|r| r["details"]["table"] == table && r["details"]["op"] == op);
        let told: Vec<_> = told.filter(|r| r["details"]["row"] == row).collect();
        assert_eq!(told.len(), usize::from(!sql.starts_with("UPDATE users")), "{sql}: {records:#?}");
        assert!(told.iter().all(|r| r["details"]["after"].as_str().unwrap_or_default().contains(after)), "{told:#?}");
    }
    assert!(!format!("{:?}", outside(dir.path())).contains("secret"));
    // Many at once are one record.
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90) \
                INSERT INTO may_act (who) SELECT 'p' || i FROM n";
    let before = outside(dir.path()).len();
    farm.by_hand(dir.path(), many).await;
    farm.get("/api/v1/whoami").await;
    let records = outside(dir.path());
    assert_eq!(records.len(), before + 1);
    assert_eq!(records[before]["details"]["count"], 90);
    // What is no text keeps nobody from being decided about.
    farm.by_hand(dir.path(), "INSERT INTO users (name, note) VALUES ('eve', CAST(x'66fc72' AS TEXT))").await;
    let (status, _) = farm.call(Peer::Unix { uid: BOB }, "GET", "/api/v1/whoami", Value::Null).await;
    assert_eq!(status, 200);
    let records = outside(dir.path());
    assert_eq!(records[before + 1]["details"]["row"], "'eve'");
}

/// A row as the supervisor once wrote it has a seal that fits.
#[tokio::test]
async fn a_revoked_grant_that_is_put_back_is_nobodys_word() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let id = grant(&farm, "ada").await;
    let copy = "CREATE TABLE kept AS SELECT * FROM grants";
    farm.by_hand(dir.path(), copy).await;
    farm.ask(operator(), "POST", &format!("/api/v1/grants/{id}/revoke"), json!({})).await;
    farm.by_hand(dir.path(), "REPLACE INTO grants SELECT * FROM kept").await;
    let people = farm.running.app.service.identity.people("ada", Some("render")).await.expect("people");
    assert_eq!(people.grants.len(), 1);
    assert!(people.grants[0].changed_outside && !people.grants[0].approved, "{people:#?}");
    let told = outside(dir.path());
    assert!(told.iter().any(|r| r["grant"] == id), "{told:#?}");
    // What changes nothing takes nothing away.
    let second = grant(&farm, "bob").await;
    farm.by_hand(dir.path(), &format!("UPDATE grants SET reason = reason WHERE id = {second}")).await;
    let people = farm.running.app.service.identity.people("bob", Some("render")).await.expect("people");
    assert!(!people.grants[0].changed_outside, "{people:#?}");
}

fn outside(data: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(data.join("supervisor/audit/chain")).expect("the chain");
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("json"));
    records.filter(|r| r["act"] == "changed_outside").collect()
}

#[tokio::test]
async fn asked_for_by_one_and_approved_by_another() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let asked =
        farm.ask(ADA, "POST", "/api/v1/grants/request", json!({ "proxy_user": "render", "reason": "shots" })).await;
    assert_eq!((&asked["state"], &asked["requested_by"]), (&json!("requested"), &json!("ada")));
    let id = &asked["id"];
    let listed = async || {
        let people = farm.running.app.service.identity.people("ada", Some("render")).await.expect("people");
        people.may_act.iter().map(|(who, allowed)| (who.to_string(), *allowed)).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [], "asking puts nobody in the list of those who may act");
    let again = refused(&farm, ADA, "POST", "/api/v1/grants/request", json!({ "proxy_user": "render" })).await;
    assert_eq!(again.0, 409, "once is enough");
    let act = json!({ "proxy_user": "render" });
    assert_eq!(refused(&farm, ADA, "PUT", "/api/v1/as", act.clone()).await.1, "grant_requested");
    assert_eq!(refused(&farm, ADA, "POST", &format!("/api/v1/grants/{id}/approve"), json!({})).await.1, "admin");
    assert_eq!(refused(&farm, BOB, "POST", &format!("/api/v1/grants/{id}/approve"), json!({})).await.0, 404);
    let given = farm.ask(operator(), "POST", &format!("/api/v1/grants/{id}/approve"), json!({})).await;
    assert_eq!((&given["state"], &given["approved_by"]), (&json!("active"), &json!("op")));
    assert_eq!(listed().await, [("ada".to_owned(), true)]);
    farm.ask(ADA, "PUT", "/api/v1/as", act).await;
    // Giving it up needs nobody's leave.
    farm.ask(ADA, "DELETE", "/api/v1/as", Value::Null).await;
    farm.ask(ADA, "POST", &format!("/api/v1/grants/{id}/revoke"), json!({})).await;
    let again = refused(&farm, operator(), "POST", &format!("/api/v1/grants/{id}/approve"), json!({})).await;
    assert_eq!(again.0, 409, "a revoked grant stays so");
}

#[tokio::test]
async fn only_an_administrator_says_who_may_act_at_all() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let op = operator();
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "render", "answers": ["bob"] })).await;
    let give = json!({ "login_user": "ada", "proxy_user": "render" });
    let asked = farm.ask(ADA, "POST", "/api/v1/grants/request", json!({ "proxy_user": "render" })).await;
    let approve = format!("/api/v1/grants/{}/approve", asked["id"]);
    let by_bob = async |path: &str, body: &Value| refused(&farm, BOB, "POST", path, body.clone()).await;
    let may_act = async || farm.ask(op, "GET", "/api/v1/may-act", Value::Null).await;
    // Never in the list, taken out of it, and kept out of it: the one who answers for render changes none of that.
    for allowed in [None, Some(true), Some(false)] {
        match allowed {
            None => {}
            Some(true) => {
                farm.ask(op, "PUT", "/api/v1/may-act/ada", json!({ "allowed": true })).await;
                farm.by_hand(dir.path(), "DELETE FROM may_act").await;
            }
            Some(false) => {
                farm.ask(op, "PUT", "/api/v1/may-act/ada", json!({ "allowed": false })).await;
            }
        }
        let before = may_act().await;
        let refused = (403, "may_act".to_owned());
        assert_eq!(by_bob("/api/v1/grants", &give).await, refused, "{allowed:?}");
        assert_eq!(by_bob(&approve, &json!({})).await, refused, "{allowed:?}");
        assert_eq!(may_act().await, before, "{allowed:?}");
    }
    farm.ask(op, "PUT", "/api/v1/may-act/ada", json!({ "allowed": true })).await;
    farm.ask(BOB, "POST", &approve, json!({})).await;
    farm.ask(BOB, "POST", "/api/v1/grants", give).await;
    farm.ask(ADA, "PUT", "/api/v1/as", json!({ "proxy_user": "render" })).await;
    // Out of the list nothing is left of it, at the next request.
    farm.ask(op, "DELETE", "/api/v1/may-act/ada", Value::Null).await;
    assert_eq!(refused(&farm, ADA, "GET", "/api/v1/jobs", Value::Null).await, (403, "association_ended".to_owned()));
    farm.ask(op, "PUT", "/api/v1/may-act/ada", json!({ "allowed": true })).await;
    farm.ask(ADA, "GET", "/api/v1/jobs", Value::Null).await;
    farm.ask(op, "PUT", "/api/v1/may-be-acted-as/render", json!({ "allowed": false })).await;
    assert_eq!(refused(&farm, ADA, "GET", "/api/v1/jobs", Value::Null).await.0, 403);
    for (path, status) in [("may-act/render", 400), ("may-act/A*", 400), ("may-be-acted-as/ada", 400)] {
        let path = format!("/api/v1/{path}");
        assert_eq!(refused(&farm, op, "PUT", &path, json!({ "allowed": true })).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn whom_a_list_refuses_it_goes_on_refusing() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let op = operator();
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "ada", "listed": false })).await;
    grant(&farm, "ada").await;
    let act = async |uid| refused(&farm, uid, "PUT", "/api/v1/as", json!({ "proxy_user": "render" })).await.1;
    assert_eq!(act(ADA).await, "may_act");
    let asked = farm.ask(ADA, "POST", "/api/v1/grants/request", json!({ "proxy_user": "render" })).await;
    farm.ask(op, "POST", &format!("/api/v1/grants/{}/approve", asked["id"]), json!({})).await;
    assert_eq!(act(ADA).await, "may_act");
    let padded = json!({ "proxy_user": "render", "until": format!("2999-01-01T00:00:00Z{}", " ".repeat(100)) });
    assert_eq!(refused(&farm, BOB, "POST", "/api/v1/grants/request", padded).await.0, 400);
}

#[tokio::test]
async fn what_runs_as_a_proxy_user_leaves_nothing_that_outlasts_it() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut farm, _worker) = farm(dir.path()).await;
    // Whoever has the uid of a proxy user is one of the jobs that run as it, or what one of them left.
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "bob", "type": "proxy" })).await;
    let got = refused(&farm, BOB, "GET", "/api/v1/jobs", Value::Null).await;
    assert_eq!(got, (403, "proxy_users_sign_in".to_owned()));
    farm.configure(|settings| settings.proxy_users_sign_in = true);
    farm.ask(BOB, "GET", "/api/v1/jobs", Value::Null).await;
    for (method, path, body) in [
        ("POST", "/api/v1/tokens", json!({ "name": "keep", "scopes": ["read"] })),
        ("GET", "/api/v1/tokens", Value::Null),
        ("DELETE", "/api/v1/as", Value::Null),
        ("POST", "/api/v1/grants/request", json!({ "proxy_user": "render" })),
        ("POST", "/api/v1/grants", json!({ "login_user": "ada", "proxy_user": "render" })),
    ] {
        assert_eq!(refused(&farm, BOB, method, path, body).await, (403, "scope".to_owned()), "{method} {path}");
    }
}

#[tokio::test]
async fn what_is_open_ends_with_a_role_and_with_a_user_who_is_disabled() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let put = async |body| farm.ask(operator(), "POST", "/api/v1/users", body).await;
    put(json!({ "name": "bob", "roles": ["admin"] })).await;
    let job = farm.submit(ADA, frames(1)).await;
    let app = &farm.running.app;
    let caller = async |uid| {
        let mut principal = app.authn.principal(Peer::Unix { uid }).await.expect("somebody");
        app.service.admit(&mut principal).await.expect("admitted");
        app.service.caller(principal, Asks::Nothing).await.expect("a caller")
    };
    let callers = [caller(BOB).await, caller(ADA).await];
    let log = format!("/api/v1/jobs/{job}/logs?follow=true");
    let followers = [farm.follow(BOB, &log).await, farm.follow(ADA, &log).await];
    for caller in &callers {
        assert!(caller.is_still(&app.service.identity, &app.authn).await);
    }
    put(json!({ "name": "bob", "roles": [] })).await;
    put(json!({ "name": "ada", "disabled": true })).await;
    for caller in &callers {
        assert!(!caller.is_still(&app.service.identity, &app.authn).await);
        assert!(app.service.wait(caller, &app.authn, job, Some(30)).await.is_err());
    }
    for follower in followers {
        follower.ended().await;
    }
}

#[tokio::test]
async fn a_group_is_asked_of_the_directory_each_time() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    grant(&farm, "group:artists").await;
    farm.ask(BOB, "PUT", "/api/v1/as", json!({ "proxy_user": "render" })).await;
    let ada = refused(&farm, ADA, "PUT", "/api/v1/as", json!({ "proxy_user": "render" })).await;
    assert_eq!(ada, (403, "no_grant".to_owned()), "she is in no such group");
}

/// Every page that knows who asks and isn't done as another refuses the header, with its rule and on record.
#[tokio::test]
async fn what_is_always_ones_own_is_not_done_as_another() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    grant(&farm, "ada").await;
    let pages: Vec<_> = crate::api::routes().into_iter().filter(crate::api::Page::is_ones_own).collect();
    assert_eq!(pages.len(), 11, "sessions and tokens, log-in and log-out, the password, acting itself");
    for page in pages {
        let path = page.path.replace("{id}", "1");
        for name in ["render", "bob", "", "ADA", "ada "] {
            let (status, answer) = acting(&farm, ADA, name, page.method, &path, Value::Null).await;
            let rule = &answer["error"]["rule"];
            assert_eq!((status.as_u16(), rule), (403, &json!("always_oneself")), "{path} as {name:?}: {answer}");
            assert!(answer["error"]["hint"].as_str().is_some_and(|hint| hint.contains("--as")), "{answer}");
        }
        let (_, answer) = acting(&farm, ADA, "ada", page.method, &path, Value::Null).await;
        assert_ne!(answer["error"]["rule"], "always_oneself", "{path}: oneself is no other");
    }
    let chain = std::fs::read_to_string(dir.path().join("supervisor/audit/chain")).expect("chain");
    let is_on_record = |line: &&str| line.contains("\"always_oneself\"") && line.contains("\"login_user\":\"ada\"");
    assert!(chain.lines().any(|line| is_on_record(&line)));
}

/// Submits a job that carries a token, and returns the job and the token as its session got it.
async fn carrying(farm: &Supervised, worker: &FakeWorker, acting_as: Option<&str>) -> (u64, String) {
    let before = worker.seen().whole.len();
    let mut spec = frames(1);
    spec["token"] = json!(true);
    let show: Vec<_> = acting_as.iter().map(|name| ("stead-as", *name)).collect();
    let body = json!({ "spec": spec });
    let (_, _, answer) = farm.send(Peer::Unix { uid: ADA }, ("POST", "/api/v1/jobs"), &show, body).await;
    let job = answer["job"].as_u64().expect("a job");
    eventually("it is handed out", async || worker.seen().whole.len() > before).await;
    let batch = worker.seen().whole.last().cloned().expect("a batch");
    (job, String::from_utf8(batch.files[0].data.clone()).expect("text"))
}

/// A farm whose worker starts jobs and never ends them.
async fn stuck(data: &std::path::Path) -> (Supervised, FakeWorker) {
    let farm = Supervised::start(data).await;
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "type": "proxy" })).await;
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let mut habits = Habits { permits, begins_at_once: true, ..Habits::of_ada("desk") };
    habits.hello.accept = vec!["any".to_owned()];
    (farm, FakeWorker::start(data, habits))
}

#[tokio::test]
async fn the_token_of_ones_own_job_sees_nothing_that_one_submitted_as_others() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, worker) = stuck(dir.path()).await;
    grant(&farm, "ada").await;
    let (own, token) = carrying(&farm, &worker, None).await;
    let theirs = as_render(&farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await.1;
    let theirs = theirs["job"].as_u64().expect("a job");
    assert_eq!(ids(&farm.get("/api/v1/jobs").await), [theirs, own], "she sees both");
    let bearer = format!("Bearer {token}");
    let asked = async |path: &str| {
        let show = [("authorization", bearer.as_str())];
        let (status, _, answer) = farm.send(Peer::Unix { uid: BOB }, ("GET", path), &show, Value::Null).await;
        (status.as_u16(), answer)
    };
    for query in ["", "?user=ada", "?login_user=ada"] {
        assert_eq!(ids(&asked(&format!("/api/v1/jobs{query}")).await.1), [own], "{query}");
    }
    assert_eq!(asked("/api/v1/jobs?user=render").await, (200, json!([])));
    for page in ["", "/tasks", "/logs", "/wait?timeout_s=0", "/explain"] {
        assert_eq!(asked(&format!("/api/v1/jobs/{theirs}{page}")).await.0, 404, "{page}");
        assert_eq!(asked(&format!("/api/v1/jobs/{own}{page}")).await.0, 200, "{page}");
    }
    // Also when she acts as the other meanwhile: the token is for ada.
    farm.ask(ADA, "PUT", "/api/v1/as", json!({ "proxy_user": "render" })).await;
    assert_eq!(ids(&asked("/api/v1/jobs").await.1), [own]);
}

#[tokio::test]
async fn the_token_of_a_job_by_a_grant_is_the_proxy_users_while_that_grant_lives() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, worker) = stuck(dir.path()).await;
    let id = grant(&farm, "ada").await;
    let (parent, token) = carrying(&farm, &worker, Some("render")).await;
    let own = farm.submit(ADA, frames(1)).await;
    let bearer = format!("Bearer {token}");
    let show = [("authorization", bearer.as_str())];
    let asked = async |method: &str, path: &str, body: Value| {
        let (status, _, answer) = farm.send(Peer::Unix { uid: BOB }, (method, path), &show, body).await;
        (status.as_u16(), answer)
    };
    let (status, child) = asked("POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await;
    assert_eq!(status, 201, "{child}");
    let child = child["job"].as_u64().expect("a job");
    let job = farm.get(&format!("/api/v1/jobs/{child}")).await;
    assert_eq!((&job["login_user"], &job["user"]), (&json!("ada"), &json!("render")), "{job}");
    assert_eq!(ids(&asked("GET", "/api/v1/jobs", Value::Null).await.1), [child, parent]);
    assert_eq!(asked("GET", &format!("/api/v1/jobs/{own}"), Value::Null).await.0, 404, "hers, not render's");
    // Nobody's role, and no other name.
    for key in ["as", "user"] {
        let mut body = json!({ "spec": frames(1) });
        body[key] = json!("ada");
        assert!([400, 403].contains(&asked("POST", "/api/v1/jobs", body).await.0), "{key}");
    }
    farm.ask(operator(), "POST", &format!("/api/v1/grants/{id}/revoke"), json!({})).await;
    // For want of the grant; soon also because the session that the token was made for is let go.
    let path = format!("/api/v1/jobs/{parent}");
    for (method, path, body) in [("POST", "/api/v1/jobs", json!({ "spec": frames(1) })), ("GET", &path, Value::Null)] {
        let (status, refused) = asked(method, path, body).await;
        let why = (status, refused["error"]["rule"].as_str().unwrap_or_default());
        assert!([(403, "grant_revoked"), (401, "credential_ended")].contains(&why), "{method}: {refused}");
    }
    let jobs = farm.ask(operator(), "GET", "/api/v1/jobs", Value::Null).await;
    assert_eq!(ids(&jobs).len(), 3, "none came in after it: {jobs}");
}

/// Whoever watches as another is cut off with the right to, though nothing else happens.
#[tokio::test]
async fn a_stream_ends_with_the_right_it_was_opened_by() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "type": "proxy" })).await;
    let peer = Peer::Unix { uid: ADA };
    let watch = async || farm.follow_as(peer, "/api/v1/events", &[("stead-as", "render")]).await;
    let id = grant(&farm, "ada").await;
    let watching = watch().await;
    farm.ask(operator(), "POST", &format!("/api/v1/grants/{id}/revoke"), json!({})).await;
    watching.ended().await;

    grant(&farm, "ada").await;
    let watching = watch().await;
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "disabled": true })).await;
    watching.ended().await;

    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "disabled": false })).await;
    let watching = watch().await;
    farm.ask(operator(), "DELETE", "/api/v1/users/render", Value::Null).await;
    watching.ended().await;

    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "type": "proxy" })).await;
    grant(&farm, "ada").await;
    farm.ask(ADA, "PUT", "/api/v1/as", json!({ "proxy_user": "render" })).await;
    let watching = farm.follow(ADA, "/api/v1/events").await;
    farm.ask(ADA, "DELETE", "/api/v1/as", Value::Null).await;
    watching.ended().await;
}

/// What runs dies, whatever was made of its job meanwhile; what waits is held.
#[tokio::test]
async fn with_a_grant_that_is_revoked_dies_all_that_runs_by_it() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "type": "proxy" })).await;
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let mut habits = Habits { permits, begins_at_once: true, ..Habits::of_ada("desk") };
    habits.hello.accept = vec!["any".to_owned()];
    habits.hello.slots = 4;
    let worker = FakeWorker::start(dir.path(), habits);
    let id = grant(&farm, "ada").await;
    let submit = async |requires: &str| {
        let mut spec = frames(1);
        spec["requires"] = json!(requires);
        let made = as_render(&farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": spec })).await.1;
        made["job"].as_u64().expect("a job")
    };
    let jobs = [submit("").await, submit("").await, submit("").await, submit("").await, submit("tape").await];
    let [runs, suspended, held, over, waits] = jobs;
    let by_hand = submit("tape").await;
    let job = async |id: u64| farm.ask(operator(), "GET", &format!("/api/v1/jobs/{id}"), Value::Null).await;
    eventually("they run", async || worker.seen().started.len() == 4).await;
    for id in [runs, suspended, held, over] {
        eventually("it runs", async || job(id).await["tasks"]["running"] == 1).await;
    }
    farm.ask(operator(), "POST", &format!("/api/v1/jobs/{suspended}/suspend"), json!({})).await;
    farm.ask(operator(), "POST", &format!("/api/v1/jobs/{by_hand}/block"), json!({})).await;
    farm.ask(operator(), "POST", &format!("/api/v1/jobs/{over}/kill"), json!({})).await;
    // As the dispatcher does that comes upon the grant's end first.
    farm.running.app.service.dispatcher.hold(held, "no more leave".to_owned()).await.expect("held");
    for (id, state, task) in [(suspended, "suspended", "suspended"), (held, "blocked", "running")] {
        let job = job(id).await;
        assert_eq!((&job["state"], &job["tasks"][task]), (&json!(state), &json!(1)), "its task is not over: {job}");
    }
    let ended = farm.ask(operator(), "POST", &format!("/api/v1/grants/{id}/revoke"), json!({ "kill": true })).await;
    assert_eq!(ended, json!({ "grant": id, "blocked": [waits], "killed": [held, suspended, runs] }));
    for id in [runs, suspended, held] {
        eventually("its task dies", async || job(id).await["tasks"]["killed"] == 1).await;
        let job = job(id).await;
        assert_eq!(job["state"], "killed");
        assert!(job["reason"].as_str().expect("why").contains("was revoked by op"), "{job}");
    }
    for id in [waits, by_hand] {
        assert_eq!(job(id).await["state"], "blocked");
    }
}

/// Also what was suspended: it goes on to its end, and nothing begins after it.
#[tokio::test]
async fn without_kill_what_runs_comes_to_its_end() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "type": "proxy" })).await;
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let mut habits = Habits { permits, begins_at_once: true, ..Habits::of_ada("desk") };
    habits.hello.accept = vec!["any".to_owned()];
    habits.hello.slots = 2;
    let worker = FakeWorker::start(dir.path(), habits);
    let id = grant(&farm, "ada").await;
    let job = async |id: u64| farm.ask(operator(), "GET", &format!("/api/v1/jobs/{id}"), Value::Null).await;
    let mut jobs = Vec::new();
    for n in 1..=2 {
        let made = as_render(&farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await.1;
        let id = made["job"].as_u64().unwrap_or_else(|| panic!("{made}"));
        eventually("it runs", async || worker.seen().started.len() == n && job(id).await["tasks"]["running"] == 1)
            .await;
        jobs.push(id);
    }
    farm.ask(operator(), "POST", &format!("/api/v1/jobs/{}/suspend", jobs[1]), json!({})).await;
    eventually("it is told so", async || worker.seen().suspensions == 1).await;
    let ended = farm.ask(operator(), "POST", &format!("/api/v1/grants/{id}/revoke"), json!({})).await;
    assert_eq!(ended, json!({ "grant": id, "blocked": [jobs[1], jobs[0]], "killed": [] }));
    worker.permit(10);
    for id in jobs {
        eventually("what ran is through", async || job(id).await["tasks"]["complete"] == 1).await;
    }
    assert_eq!(worker.seen().killed, [0; 0]);
}

/// The database would say that its disk is full, and everybody would look for room.
#[tokio::test]
async fn whoever_took_the_last_number_by_hand_is_named() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm(dir.path()).await;
    let last = i64::MAX;
    let row = format!("INSERT INTO grants (id, login_user, proxy_user) VALUES ({last}, 'bob', 'render')");
    farm.by_hand(dir.path(), &row).await;
    let body = json!({ "login_user": "ada", "proxy_user": "render" });
    let (status, answer) = farm.call(Peer::Unix { uid: operator() }, "POST", "/api/v1/grants", body.clone()).await;
    let error = serde_json::from_slice::<Value>(&answer).expect("json")["error"].clone();
    let said = (status.as_u16(), &error["rule"], &error["value"]);
    assert_eq!(said, (409, &json!("row_numbers"), &json!(format!("grants {last}"))), "{error}");
    let hint = error["hint"].as_str().expect("what to do");
    let (_, statement) = hint.split_once("database: ").expect("a statement");
    farm.by_hand(dir.path(), &format!("DELETE FROM grants WHERE id = {last}; {statement}")).await;
    farm.ask(operator(), "POST", "/api/v1/grants", body).await;
    super::verified(dir.path());
}

fn called(name: &str) -> Value {
    json!({ "spec": { "v": 1, "name": name, "body": { "command": { "argv": ["true"] } } } })
}

/// Of a proxy user's jobs, whoever acts as it by a grant for some names has those: in every list, at every page of a job.
#[tokio::test]
async fn a_grant_for_some_jobs_reaches_those_and_what_one_submitted() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "type": "proxy" })).await;
    grant(&farm, "bob").await;
    let submit = async |uid, name| {
        let (status, job) = as_render(&farm, uid, "POST", "/api/v1/jobs", called(name)).await;
        assert_eq!(status, StatusCode::CREATED, "{name}: {job}");
        job["job"].as_u64().expect("a number")
    };
    // What ada submitted while she might: its names are those of no grant of hers later.
    let before = grant(&farm, "ada").await;
    let mine = submit(ADA, "mine").await;
    revoked(&farm, before, false).await;
    // In policy and in the store a pattern is the same.
    let patterns = "comp_*,c?mp,[x]*,*_ß";
    let names = [
        ("comp_1", true),
        ("comp_", true),
        ("Comp_1", false),
        ("a comp_1", false),
        ("cömp", true),
        ("comp", true),
        ("coomp", false),
        ("[x]y", true),
        ("xy", false),
        ("a_ß", true),
        ("100%", false),
        ("shot_1", false),
    ];
    let mut jobs = Vec::new();
    for (name, is_reached) in names {
        jobs.push((submit(BOB, name).await, name, is_reached));
    }
    let body = json!({ "login_user": "ada", "proxy_user": "render", "jobs": patterns });
    let scoped = farm.ask(operator(), "POST", "/api/v1/grants", body).await["id"].as_u64().expect("an id");
    let get = async |path: &str| as_render(&farm, ADA, "GET", path, Value::Null).await;

    let mut reached: Vec<u64> = jobs.iter().filter(|(_, _, is_reached)| *is_reached).map(|(id, ..)| *id).collect();
    reached.insert(0, mine);
    reached.reverse();
    assert_eq!(ids(&get("/api/v1/jobs").await.1), reached);
    assert_eq!(ids(&get("/api/v1/jobs?login_user=bob").await.1), reached[..reached.len() - 1]);
    assert_eq!(ids(&get("/api/v1/jobs?limit=2").await.1), reached[..2], "a page is full as long as there is more");
    for (id, name, is_reached) in &jobs {
        let status = get(&format!("/api/v1/jobs/{id}")).await.0;
        assert_eq!(status == StatusCode::OK, *is_reached, "{name}");
    }
    let app = &farm.running.app;
    let mut principal = app.authn.principal(Peer::Unix { uid: ADA }).await.expect("ada");
    app.service.admit(&mut principal).await.expect("admitted");
    let caller = app.service.caller(principal, Asks::Named("render".to_owned())).await.expect("acting");
    let page = async |sort: &str, text: &str| {
        let query =
            JobsPageQuery { sort: sort.to_owned(), text: text.to_owned(), limit: 100, ..JobsPageQuery::default() };
        let page = app.service.jobs_page(&caller, query).await.expect("a page");
        let ids: Vec<u64> = page.rows.iter().map(|(row, _)| row.id).collect();
        (ids, page.counts.iter().map(|(_, n)| n).sum::<u64>())
    };
    for sort in ["newest", "oldest", "priority", "name"] {
        let (mut listed, counted) = page(sort, "").await;
        listed.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!((listed, counted), (reached.clone(), reached.len() as u64), "{sort}");
    }
    let comp_1 = jobs[0].0;
    assert_eq!(page("newest", "comp_1").await, (vec![comp_1], 1), "what is searched, too");

    // Every page of a job, whatever it does: not there, in the same words as of a job that isn't.
    let shot = jobs.last().expect("a job").0;
    let of_jobs = operations().into_iter().filter(|(_, path, _)| path.starts_with("/api/v1/jobs/{id}"));
    let mut asked = 0;
    for (method, path, _) in of_jobs {
        let ask = async |id: u64| {
            let (status, answer) =
                as_render(&farm, ADA, &method, &path.replace("{id}", &id.to_string()), json!({})).await;
            (status, answer.to_string().replace(&id.to_string(), "N"))
        };
        let (status, said) = ask(shot).await;
        assert_eq!((status, &said), (StatusCode::NOT_FOUND, &ask(987_654).await.1), "{method} {path}");
        asked += 1;
    }
    assert!(asked > 10, "{asked}");
    // What she submitted herself as render is still hers to see and to kill, by its own right.
    assert_eq!(get(&format!("/api/v1/jobs/{mine}")).await.0, StatusCode::OK);
    assert_eq!(get(&format!("/api/v1/jobs/{mine}/logs")).await.0, StatusCode::FORBIDDEN);
    for job in [mine, comp_1] {
        let (status, answer) = as_render(&farm, ADA, "POST", &format!("/api/v1/jobs/{job}/kill"), json!({})).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    assert_eq!(as_render(&farm, ADA, "POST", "/api/v1/jobs", called("shot_2")).await.0, StatusCode::FORBIDDEN);
    // Whoever watches is told when what they reach changes; a grant for every job reaches all.
    assert!(caller.is_still(&app.service.identity, &app.authn).await);
    let whole = grant(&farm, "ada").await;
    assert!(!caller.is_still(&app.service.identity, &app.authn).await);
    assert_eq!(ids(&get("/api/v1/jobs").await.1).len(), names.len() + 1);
    revoked(&farm, whole, false).await;
    assert_eq!(ids(&get("/api/v1/jobs").await.1), reached, "and then again only those");
    revoked(&farm, scoped, false).await;
    assert_eq!(get("/api/v1/jobs").await.0, StatusCode::FORBIDDEN);
}
