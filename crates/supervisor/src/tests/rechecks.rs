//! A right that ends between submission and the last task: what is queued doesn't start, what runs comes to its end and
//! nothing after it begins, another try is not to be had, and whoever watches sees nothing more.

use super::fake_worker::{FakeWorker, Habits};
use super::{ADA, Supervised, eventually, operator, spec};
use crate::authn::Peer;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How a right ends.
enum Ends {
    ByHand(&'static str),
    /// Method, path with the grant's number, body.
    ByPage(&'static str, &'static str, Value),
}

/// What gives the right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Grant,
    Impersonate,
}

const TASKS: u64 = 6;

async fn farm(data: &Path, by: By) -> (Supervised, FakeWorker, u64) {
    let farm = Supervised::start(data).await;
    let op = operator();
    let mut habits = Habits::of_ada("desk");
    (habits.hello.accept, habits.hello.slots) = (vec!["any".to_owned()], 2);
    habits.permits = Arc::new(Semaphore::new(0));
    let worker = FakeWorker::start(data, habits);
    if by == By::Impersonate {
        farm.ask(op, "POST", "/api/v1/users", json!({ "name": "ada", "roles": ["impersonate"] })).await;
        return (farm, worker, 0);
    }
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "render", "type": "proxy" })).await;
    let given = json!({ "login_user": "ada", "proxy_user": "render" });
    let grant = farm.ask(op, "POST", "/api/v1/grants", given).await["id"].as_u64().expect("an id");
    farm.ask(ADA, "PUT", "/api/v1/as", json!({ "proxy_user": "render" })).await;
    (farm, worker, grant)
}

async fn submit(farm: &Supervised, by: By, tasks: u64, requires: &str) -> u64 {
    let command = json!({ "argv": ["x"], "space": { "frames": { "text": format!("1-{tasks}") } } });
    let mut spec = spec(command);
    spec["requires"] = json!(requires);
    let mut body = json!({ "spec": spec });
    if by == By::Impersonate {
        body["user"] = json!("render");
    }
    farm.ask(ADA, "POST", "/api/v1/jobs", body).await["job"].as_u64().expect("a number")
}

async fn job(farm: &Supervised, id: u64) -> Value {
    farm.ask(operator(), "GET", &format!("/api/v1/jobs/{id}"), Value::Null).await
}

async fn until_blocked(farm: &Supervised, id: u64, said: &str) {
    let what = format!("job {id} is blocked because {said}");
    eventually(&what, async || {
        let job = job(farm, id).await;
        job["state"] == "blocked" && job["reason"].as_str().is_some_and(|r| r.contains(said))
    })
    .await;
}

/// `said`: a part of the reason people see.
async fn ends(by: By, how: Ends, said: &str) {
    let dir = tempfile::tempdir().expect("dir");
    let data = dir.path();
    let (farm, worker, grant) = farm(data, by).await;
    let before = submit(&farm, by, 1, "").await;
    worker.permit(1);
    farm.over_for(operator(), before).await;
    let queued = submit(&farm, by, 1, "tape").await;
    let running = submit(&farm, by, TASKS, "").await;
    eventually("two sessions have a task each", async || worker.seen().surroundings.len() == 3).await;
    let mut events = farm.follow(ADA, "/api/v1/events").await;
    let logs = {
        let (router, path) = (farm.router(), format!("/api/v1/jobs/{running}/logs?follow=true"));
        tokio::spawn(async move { super::answer(router, Peer::Unix { uid: ADA }, "GET", &path, Value::Null).await })
    };

    match how {
        Ends::ByHand(statement) => farm.by_hand(data, statement).await,
        Ends::ByPage(method, path, body) => {
            farm.ask(operator(), method, &path.replace("{grant}", &grant.to_string()), body).await;
        }
    }
    // The next request is the first that is refused.
    let logs_path = format!("/api/v1/jobs/{before}/logs");
    let (status, _) = farm.call(Peer::Unix { uid: ADA }, "GET", &logs_path, Value::Null).await;
    assert_eq!(status, 403, "{said}: output is gone at once");
    worker.permit(1);
    until_blocked(&farm, running, said).await;
    until_blocked(&farm, queued, said).await;
    // What was handed out is called back: with a permit at hand before it hears that, it would begin.
    eventually("what was handed out is over, or back", async || job(&farm, running).await["tasks"]["running"] == 0)
        .await;
    let counts = job(&farm, running).await["tasks"].clone();
    let complete = counts["complete"].as_u64().expect("a number");
    assert!(complete <= 1, "{said}: what ran came to its end, and no more: {counts}");
    logs.await.expect("ended");
    if by == By::Grant {
        events.until_its_end().await;
    }

    // Another try, and being let go on, only come to the same.
    worker.permit(100);
    for (act, id) in [("retry", before), ("unblock", queued), ("unblock", running)] {
        let path = format!("/api/v1/jobs/{id}/{act}");
        let (status, _) = farm.call(Peer::Unix { uid: ADA }, "POST", &path, Value::Null).await;
        assert_eq!(status, 403, "{said}: {act}");
        farm.ask(operator(), "POST", &path, Value::Null).await;
        until_blocked(&farm, id, said).await;
    }
    let seen = worker.seen();
    let ran = usize::try_from(complete).expect("small") + 1;
    assert_eq!((seen.ran.len(), seen.warrants.len()), (ran, 3), "{said}: nothing else began");
}

#[tokio::test]
async fn a_grant_that_ends() {
    let page = |method, path| Ends::ByPage(method, path, json!({}));
    ends(By::Grant, page("POST", "/api/v1/grants/{grant}/revoke"), "was revoked by op").await;
    for (statement, said) in [
        ("UPDATE grants SET state = 'revoked'", "was revoked"),
        ("UPDATE grants SET valid_until = '2001-01-01T00:00:00Z'", "has ended"),
        ("UPDATE grants SET valid_until = 'soon'", "can't be understood"),
        ("UPDATE grants SET login_user = 'bob'", "holds no grant"),
        ("DELETE FROM grants", "holds no grant"),
    ] {
        ends(By::Grant, Ends::ByHand(statement), said).await;
    }
}

#[tokio::test]
async fn a_list_that_says_no() {
    for (statement, said) in [
        ("UPDATE may_act SET allowed = 0", "list of those who may act"),
        ("DELETE FROM may_act", "list of those who may act"),
        ("UPDATE may_be_acted_as SET allowed = 0", "list of those who may be acted as"),
        ("UPDATE may_be_acted_as SET allowed = 'perhaps'", "list of those who may be acted as"),
    ] {
        ends(By::Grant, Ends::ByHand(statement), said).await;
    }
}

#[tokio::test]
async fn a_user_who_is_not_what_they_were() {
    for (statement, said) in [
        ("UPDATE users SET type = 'login' WHERE name = 'render'", "is no proxy user"),
        ("UPDATE users SET type = 'Proxy' WHERE name = 'render'", "is no proxy user"),
        ("UPDATE users SET disabled = 1 WHERE name = 'render'", "render is disabled"),
        ("DELETE FROM users WHERE name = 'render'", "is no proxy user"),
        ("INSERT INTO users (name, disabled) VALUES ('ada', 1)", "ada is disabled"),
        ("INSERT INTO users (name, type) VALUES ('ada', 'proxy')", "never act as another"),
        ("INSERT INTO users (name, roles) VALUES ('ada', 'wizard')", "can't be understood"),
    ] {
        ends(By::Grant, Ends::ByHand(statement), said).await;
    }
    let page = Ends::ByPage("POST", "/api/v1/users", json!({ "name": "render", "disabled": true }));
    ends(By::Grant, page, "render is disabled").await;
}

#[tokio::test]
async fn a_role_that_is_taken_away() {
    let page = Ends::ByPage("POST", "/api/v1/users", json!({ "name": "ada", "roles": [] }));
    ends(By::Impersonate, page, "may not submit as render").await;
    for (statement, said) in [
        ("UPDATE users SET roles = 'auditor' WHERE name = 'ada'", "may not submit as render"),
        ("DELETE FROM users WHERE name = 'ada'", "may not submit as render"),
        ("INSERT INTO users (name, roles) VALUES ('render', 'admin')", "does not reach render"),
        ("INSERT INTO users (name, disabled) VALUES ('render', 1)", "render is disabled"),
    ] {
        ends(By::Impersonate, Ends::ByHand(statement), said).await;
    }
}

/// Nobody asks anything, no worker is there, and no task ends: what waits is held all the same, and streams end.
#[tokio::test]
async fn rows_edited_by_hand_are_noticed_by_themselves() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, worker, _) = farm(dir.path(), By::Grant).await;
    worker.crash();
    let queued = submit(&farm, By::Grant, 1, "tape").await;
    let waits = async || job(&farm, queued).await["reason"].is_string();
    super::eventually("the scheduler rests", waits).await;
    let events = farm.follow(ADA, "/api/v1/events").await;
    farm.by_hand(dir.path(), "UPDATE grants SET state = 'revoked'").await;
    events.ended().await;
    until_blocked(&farm, queued, "was revoked").await;
}
