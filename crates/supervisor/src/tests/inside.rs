//! A process of a job at the socket of people: its uid alone makes it nobody but itself.

use super::fake_worker::{FakeWorker, Habits};
use super::{ADA, BOB, Supervised, eventually, frames, operator};
use crate::authn::{Held, Peer, Untold};
use crate::clock;
use serde_json::{Value, json};
use std::path::Path;
use warrant::{KeyId, SecretKey};

const KEY: [u8; 32] = [7; 32];

fn launcher(seed: [u8; 32]) -> KeyId {
    SecretKey::from_seed(&seed).public().id()
}

/// A farm whose worker runs each job as its user, and ends none.
async fn farm(data: &Path) -> (Supervised, FakeWorker) {
    let farm = Supervised::start(data).await;
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let mut habits = Habits { permits, ..Habits::in_user_mode("node") };
    habits.hello.slots = 4;
    let worker = FakeWorker::start(data, habits);
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "bob", "type": "proxy" })).await;
    farm.ask(operator(), "POST", "/api/v1/grants", json!({ "login_user": "ada", "proxy_user": "bob" })).await;
    (farm, worker)
}

/// Submits, and waits for the job's session.
async fn runs(farm: &Supervised, worker: &FakeWorker, uid: u32, headers: &[(&str, &str)], body: Value) -> (u64, Held) {
    let (status, _, answer) = farm.send(Peer::Unix { uid }, ("POST", "/api/v1/jobs"), headers, body).await;
    let job = answer["job"].as_u64().unwrap_or_else(|| panic!("{status} {answer}"));
    let session = || worker.seen().warrants.values().find(|w| w.job == job).map(|w| w.session);
    eventually("its session", async || session().is_some()).await;
    (job, Held { launcher: Some(launcher(KEY)), session: session() })
}

#[track_caller]
fn rule((status, _, answer): (axum::http::StatusCode, axum::http::HeaderMap, Value)) -> (u16, String) {
    (status.as_u16(), answer["error"]["rule"].as_str().unwrap_or_default().to_owned())
}

async fn asked(farm: &Supervised, peer: Peer, method: &str, path: &str, body: Value) -> (u16, String) {
    rule(farm.send(peer, (method, path), &[], body).await)
}

async fn recorded(farm: &Supervised, query: &str) -> String {
    let path = format!("/api/v1/audit?{query}");
    let (status, bytes) = farm.call(Peer::Unix { uid: operator() }, "GET", &path, Value::Null).await;
    assert!(status.is_success());
    String::from_utf8(bytes).expect("text")
}

#[tokio::test]
async fn in_a_job_of_ones_own_one_is_what_its_token_would_be() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, worker) = farm(dir.path()).await;
    let (job, held) = runs(&farm, &worker, ADA, &[], json!({ "spec": frames(1) })).await;
    // Whatever she acts as elsewhere meanwhile, and whatever role she has.
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "ada", "roles": ["admin"] })).await;
    farm.ask(ADA, "PUT", "/api/v1/as", json!({ "proxy_user": "bob" })).await;
    let peer = Peer::Session { uid: ADA, held };
    let (_, _, me) = farm.send(peer, ("GET", "/api/v1/whoami"), &[], Value::Null).await;
    assert_eq!((&me["login_user"], &me["user"]), (&json!("ada"), &json!("ada")), "{me}");
    assert_eq!((&me["channel"], &me["client"]), (&json!("session"), &json!(format!("uid {ADA}, job {job}"))), "{me}");
    let (_, _, made) = farm.send(peer, ("POST", "/api/v1/jobs"), &[], json!({ "spec": frames(1) })).await;
    let made = made["job"].as_u64().unwrap_or_else(|| panic!("{made}"));
    let made = farm.ask(operator(), "GET", &format!("/api/v1/jobs/{made}"), Value::Null).await;
    assert_eq!((&made["login_user"], &made["user"]), (&json!("ada"), &json!("ada")));
    let kill = format!("/api/v1/jobs/{job}/kill");
    assert_eq!(asked(&farm, peer, "POST", &kill, json!({})).await, (403, "scope".to_owned()));
    let token = json!({ "name": "keep", "scopes": ["read"] });
    assert_eq!(asked(&farm, peer, "POST", "/api/v1/tokens", token).await, (403, "scope".to_owned()));
    let another = json!({ "spec": frames(1), "user": "bob" });
    assert_eq!(asked(&farm, peer, "POST", "/api/v1/jobs", another).await.0, 403);
    let switched = farm.send(peer, ("GET", "/api/v1/jobs"), &[("stead-as", "bob")], Value::Null).await;
    assert_eq!(switched.0.as_u16(), 400, "{}", switched.2);
    let found = recorded(&farm, "act=submit").await;
    assert!(found.contains("\"channel\":\"session\""), "{found}");
}

#[tokio::test]
async fn in_a_job_that_is_not_its_accounts_own_a_process_is_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut farm, worker) = farm(dir.path()).await;
    // Even where the uid of a proxy user is believed.
    farm.configure(|settings| settings.proxy_users_sign_in = true);
    let (granted, by_grant) = runs(&farm, &worker, ADA, &[("stead-as", "bob")], json!({ "spec": frames(1) })).await;
    let (_, own) = runs(&farm, &worker, ADA, &[], json!({ "spec": frames(1) })).await;
    let (_, lent) = runs(&farm, &worker, operator(), &[], json!({ "spec": frames(1), "user": "ada" })).await;
    let inside = |uid, held| Peer::Session { uid, held };
    for (peer, what) in [
        (inside(BOB, by_grant), "by a grant"),
        (inside(ADA, lent), "by an operator's word"),
        (inside(BOB, own), "another's"),
        (inside(super::NOBODY, own), "without an entry"),
        (inside(ADA, Held { launcher: Some(launcher([8; 32])), ..own }), "another farm's, of the same number"),
        (inside(ADA, Held { launcher: None, ..own }), "nobody knows whose"),
        (inside(ADA, Held { session: None, ..own }), "nobody knows which"),
        (inside(ADA, Held { session: Some(9999), ..own }), "unknown"),
    ] {
        for (method, path, body) in [
            ("GET", "/api/v1/jobs", Value::Null),
            ("GET", "/api/v1/whoami", Value::Null),
            ("POST", "/api/v1/jobs", json!({ "spec": frames(1) })),
            ("DELETE", "/api/v1/as", Value::Null),
        ] {
            let got = asked(&farm, peer, method, path, body).await;
            assert_eq!(got, (401, "in_a_session".to_owned()), "{what}: {method} {path}");
        }
    }
    // Outside of any job it is itself, and so is the farm's own account everywhere.
    assert_eq!(asked(&farm, Peer::Unix { uid: BOB }, "GET", "/api/v1/jobs", Value::Null).await.0, 200);
    assert_eq!(asked(&farm, inside(operator(), own), "GET", "/api/v1/jobs", Value::Null).await.0, 200);
    let found = recorded(&farm, "act=login&outcome=refused").await;
    assert!(found.contains("in_a_session") && found.contains(&format!("\"job\":{granted}")), "{found}");
}

#[tokio::test]
async fn the_token_of_a_job_says_who_its_process_is() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, worker) = farm(dir.path()).await;
    let mut spec = frames(1);
    spec["token"] = json!(true);
    let (_, held) = runs(&farm, &worker, ADA, &[("stead-as", "bob")], json!({ "spec": spec })).await;
    eventually("its batch", async || !worker.seen().whole.is_empty()).await;
    let batch = worker.seen().whole.last().cloned().expect("a batch");
    let token = String::from_utf8(batch.files[0].data.clone()).expect("text");
    let show = [("authorization", format!("Bearer {token}"))];
    let show: Vec<_> = show.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let peer = Peer::Session { uid: BOB, held };
    let (_, _, me) = farm.send(peer, ("GET", "/api/v1/whoami"), &show, Value::Null).await;
    assert_eq!((&me["login_user"], &me["user"]), (&json!("ada"), &json!("bob")), "{me}");
    let (_, _, made) = farm.send(peer, ("POST", "/api/v1/jobs"), &show, json!({ "spec": frames(1) })).await;
    let made = farm.ask(operator(), "GET", &format!("/api/v1/jobs/{}", made["job"]), Value::Null).await;
    assert_eq!((&made["login_user"], &made["user"]), (&json!("ada"), &json!("bob")));
    // With its grant it is over.
    farm.by_hand(dir.path(), "UPDATE grants SET state = 'revoked'").await;
    assert_eq!(rule(farm.send(peer, ("GET", "/api/v1/jobs"), &show, Value::Null).await).0, 403);
    assert_eq!(asked(&farm, peer, "GET", "/api/v1/jobs", Value::Null).await.1, "in_a_session");
}

#[tokio::test]
async fn who_cannot_be_told_is_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    for (why, expected) in [(Untold::Gone, "peer_gone"), (Untold::Unseen, "peer_unseen")] {
        let asked = async |uid| asked(&farm, Peer::Untold { uid, why }, "GET", "/api/v1/jobs", Value::Null).await;
        assert_eq!(asked(ADA).await, (401, expected.to_owned()));
        // The supervisor's own id is the supervisor.
        assert_eq!(asked(operator()).await.0, 200);
    }
}

#[tokio::test]
async fn the_account_of_proxy_mode_is_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let mut farm = Supervised::start(dir.path()).await;
    let bob = Peer::Unix { uid: BOB };
    assert_eq!(asked(&farm, bob, "GET", "/api/v1/jobs", Value::Null).await.0, 200);
    let shared = store::NewWorker {
        name: "node".to_owned(),
        mode: "proxy".to_owned(),
        proxy_account: Some("bob".to_owned()),
        slots: 1,
        labels: Vec::new(),
        panic: None,
        hello: "{}".to_owned(),
    };
    farm.running.app.service.store.upsert_worker(shared, clock::now()).await.expect("kept");
    let got = asked(&farm, bob, "GET", "/api/v1/jobs", Value::Null).await;
    assert_eq!(got, (403, "proxy_users_sign_in".to_owned()));
    assert_eq!(asked(&farm, Peer::Unix { uid: ADA }, "GET", "/api/v1/jobs", Value::Null).await.0, 200);
    farm.configure(|settings| settings.proxy_users_sign_in = true);
    assert_eq!(asked(&farm, bob, "GET", "/api/v1/jobs", Value::Null).await.0, 200);
    // Whatever role the account's own person has.
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "bob", "roles": ["admin"] })).await;
    for path in ["/api/v1/tokens", "/metrics"] {
        assert_eq!(asked(&farm, bob, "GET", path, Value::Null).await, (403, "scope".to_owned()), "{path}");
    }
}
