//! The supervisor as a whole, with people at its router and a worker that only pretends at its socket.

mod accounts;
mod configuration;
mod credentials;
mod document;
pub(crate) mod fake_worker;
mod farm;
mod files;
mod foresight;
mod foretold;
mod inside;
mod limits;
mod linkis;
#[cfg(feature = "oidc")]
mod oidc;
mod pages;
mod passwords;
mod people;
mod rechecks;
mod recorded;
mod revoked;
mod routes;
mod settings;
mod trust;

use crate::api;
use crate::authn::password::tests::FakePasswords;
use crate::authn::tests::FakeAccounts;
use crate::authn::{Denial, Peer, SignIn};
use crate::start::{Config, Running, start_with};
use axum::Router;
use axum::body::Body;
use axum::http::response::Parts;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tower::ServiceExt as _;

pub(crate) const ADA: u32 = 61_501;
pub(crate) const BOB: u32 = 61_502;
/// Has no entry.
pub(crate) const NOBODY: u32 = 61_999;

/// Everybody's password is `right`.
fn passwords() -> SignIn {
    let off = Denial::Off { why: "nobody checks passwords".to_owned(), hint: "start the checker" };
    let verdicts = vec![
        ("ada", Ok(())),
        ("bob", Ok(())),
        ("render", Ok(())),
        ("root", Ok(())),
        ("old", Err(Denial::Expired)),
        ("must", Err(Denial::MustChange)),
        ("kept_out", Err(Denial::Refused)),
        ("down", Err(Denial::Unavailable)),
        ("off", Err(off)),
    ];
    SignIn::with(Arc::new(FakePasswords(verdicts)))
}

/// Somebody who isn't on the farm's own machine's socket.
pub(crate) fn tcp() -> Peer {
    Peer::Tcp { address: "127.0.0.1:50000".parse().expect("address"), uid: None }
}

/// The one who runs the tests: the farm's operator, called `op`.
pub(crate) fn operator() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// What the host says of accounts.
#[derive(Debug)]
pub(crate) struct FakeHost;

impl crate::identity::Host for FakeHost {
    fn groups_of(&self, name: &str, wanted: Option<&[String]>) -> Result<Vec<String>, String> {
        if wanted.is_some_and(|wanted| wanted.iter().any(|group| group == "adrift")) {
            return Err("the directory is down".to_owned());
        }
        // One is in a group of people; nobody else is in any.
        Ok(if name == "bob" { vec!["artists".to_owned()] } else { Vec::new() })
    }

    fn seems_system(&self, name: &str) -> bool {
        name == "www-data"
    }

    fn is_system(&self, name: &str) -> Result<bool, String> {
        if name == "adrift" { Err("the directory is down".to_owned()) } else { Ok(name == "www-data") }
    }
}

/// A supervisor in a folder.
pub(crate) struct Supervised {
    pub(crate) running: Running,
    router: Router,
    for_workers: Router,
}

impl Supervised {
    pub(crate) async fn start(data: &Path) -> Self {
        Self::configured(data, None).await
    }

    /// It keeps passwords of its own, and asks nobody else about them.
    pub(crate) async fn with_own_accounts(data: &Path) -> Self {
        let conf = data.join("supervisor.toml");
        std::fs::write(&conf, "own_accounts = true\n").expect("settings");
        Self::configured(data, Some(conf)).await
    }

    pub(crate) async fn configured(data: &Path, conf: Option<PathBuf>) -> Self {
        let uid = operator();
        let config = Config {
            data: data.to_owned(),
            operator: Some("op".to_owned()),
            worker_uids: vec![uid, uid + 1],
            listen: Some("127.0.0.1:0".to_owned()),
            conf,
            ..Config::default()
        };
        let accounts = FakeAccounts(vec![(ADA, "ada"), (BOB, "bob")]);
        // Workers run as the one who runs the tests, who has to be ada there.
        let owners = FakeAccounts(vec![(uid, "ada"), (BOB, "bob")]);
        // Folders belong to the one who runs the tests; people are played.
        let mut running =
            start_with(config, uid, Arc::new(accounts), Arc::new(owners), Arc::new(FakeHost)).await.expect("started");
        if !running.app.service.settings.own_accounts {
            running.app.service.sign_in = passwords();
        }
        let router = api::for_people(running.app.clone());
        let for_workers = api::for_workers(running.app.clone());
        Self { running, router, for_workers }
    }

    /// The same supervisor, as if its settings were others.
    pub(crate) fn configure(&mut self, change: impl FnOnce(&mut crate::config::Settings)) {
        change(&mut self.running.app.service.settings);
        self.router = api::for_people(self.running.app.clone());
    }

    pub(crate) fn events(&self) -> crate::events::Events {
        self.running.app.service.events.clone()
    }

    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    pub(crate) async fn call(&self, peer: Peer, method: &str, path: &str, body: Value) -> (StatusCode, Vec<u8>) {
        let (head, bytes) = answer(self.router.clone(), peer, method, path, body.clone()).await;
        document::holds(method, path, &body, head.status, kind(&head.headers), &bytes);
        (head.status, bytes)
    }

    /// At the workers' socket.
    pub(crate) async fn report(&self, uid: u32, reports: &wire::Reports) -> (StatusCode, String) {
        let body = serde_json::to_value(reports).expect("json");
        let router = self.for_workers.clone();
        let (head, bytes) = answer(router, Peer::Unix { uid }, "POST", wire::REPORTS_PATH, body).await;
        (head.status, String::from_utf8(bytes).expect("text"))
    }

    /// With headers; the answer's headers, too.
    pub(crate) async fn send(
        &self,
        peer: Peer,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: Value,
    ) -> (StatusCode, HeaderMap, Value) {
        let sent = body;
        let body = if sent.is_null() { Body::empty() } else { Body::from(sent.to_string()) };
        let request = Request::builder().method(method).uri(path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let mut request = request.body(body).expect("request");
        request.extensions_mut().insert(peer);
        let (head, body) = self.router.clone().oneshot(request).await.expect("answer").into_parts();
        let whole = tokio::time::timeout(Duration::from_secs(20), body.collect());
        let bytes = whole.await.expect("in time").expect("body").to_bytes();
        document::holds(method, path, &sent, head.status, kind(&head.headers), &bytes);
        (head.status, head.headers, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Only the head of the answer: its body may have no end.
    pub(crate) async fn status(&self, peer: Peer, method: &str, path: &str) -> StatusCode {
        self.head(peer, (method, path), &[]).await
    }

    pub(crate) async fn head(&self, peer: Peer, (method, path): (&str, &str), headers: &[(&str, &str)]) -> StatusCode {
        let request = Request::builder().method(method).uri(path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let mut request = request.body(Body::empty()).expect("request");
        request.extensions_mut().insert(peer);
        self.router.clone().oneshot(request).await.expect("answer").status()
    }

    pub(crate) async fn follow(&self, uid: u32, path: &str) -> Follower {
        self.follow_as(Peer::Unix { uid }, path, &[]).await
    }

    pub(crate) async fn follow_as(&self, peer: Peer, path: &str, headers: &[(&str, &str)]) -> Follower {
        let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
        let mut request = request.body(Body::empty()).expect("request");
        request.extensions_mut().insert(peer);
        let response = self.router.clone().oneshot(request).await.expect("answer");
        assert_eq!(response.status(), StatusCode::OK);
        Follower { body: response.into_body(), text: String::new() }
    }

    /// What an administrator does to the tables with a client of the database.
    pub(crate) async fn by_hand(&self, data: &Path, statement: &str) {
        use sqlx::Connection as _;
        let path = data.join("supervisor/store.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(10));
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("connected");
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        sqlx::raw_sql(statement).execute(&mut connection).await.expect("done");
        connection.close().await.expect("closed");
    }

    pub(crate) async fn ask(&self, uid: u32, method: &str, path: &str, body: Value) -> Value {
        let (status, bytes) = self.call(Peer::Unix { uid }, method, path, body).await;
        let text = String::from_utf8_lossy(&bytes);
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{method} {path}: {e}: {text}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask(ADA, "GET", path, Value::Null).await
    }

    pub(crate) async fn submit(&self, uid: u32, spec: Value) -> u64 {
        let answer = self.ask(uid, "POST", "/api/v1/jobs", json!({ "spec": spec })).await;
        answer["job"].as_u64().expect("a number")
    }

    /// Waits until ada's job is over, and returns it.
    pub(crate) async fn over(&self, job: u64) -> Value {
        self.over_for(ADA, job).await
    }

    pub(crate) async fn over_for(&self, uid: u32, job: u64) -> Value {
        for _ in 0..20 {
            let job = self.ask(uid, "GET", &format!("/api/v1/jobs/{job}/wait?timeout_s=2"), Value::Null).await;
            if !job["ended_at"].is_null() {
                return job;
            }
        }
        panic!("job {job} did not end: {}", self.ask(uid, "GET", &format!("/api/v1/jobs/{job}"), Value::Null).await);
    }
}

async fn answer(router: Router, peer: Peer, method: &str, path: &str, body: Value) -> (Parts, Vec<u8>) {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let mut request = Request::builder().method(method).uri(path).body(body).expect("request");
    request.extensions_mut().insert(peer);
    let (head, body) = router.oneshot(request).await.expect("answer").into_parts();
    let whole = tokio::time::timeout(Duration::from_secs(20), body.collect());
    let bytes = whole.await.expect("in time").expect("body").to_bytes().to_vec();
    (head, bytes)
}

fn kind(headers: &HeaderMap) -> Option<&str> {
    headers.get("content-type").and_then(|kind| kind.to_str().ok())
}

/// A stream of events.
pub(crate) struct Follower {
    body: Body,
    text: String,
}

impl Follower {
    /// Waits until it is over.
    pub(crate) async fn ended(mut self) {
        let end = async { while self.body.frame().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(10), end).await.expect("it ends");
    }

    /// Reads on until an event of this kind has come that says so.
    pub(crate) async fn until(&mut self, kind: &str, expected: &Value) {
        let said = |text: &str| {
            let data = text.split("\n\n").filter_map(|e| e.strip_prefix(&format!("event: {kind}\ndata: ")));
            data.filter_map(|d| serde_json::from_str::<Value>(d).ok()).any(|d| d == *expected)
        };
        let until = Instant::now() + Duration::from_secs(20);
        while !said(&self.text) {
            assert!(Instant::now() < until, "no {kind} {expected} in {}", self.text);
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame());
            let frame = frame.await.expect("in time").expect("no end").expect("whole");
            self.text += &String::from_utf8_lossy(frame.data_ref().expect("data"));
        }
    }
}

impl Follower {
    /// Reads on until this was said.
    pub(crate) async fn until_said(&mut self, expected: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        while !self.text.contains(expected) {
            assert!(Instant::now() < until, "no {expected} in {}", self.text);
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame());
            let frame = frame.await.expect("in time").expect("no end").expect("whole");
            self.text += &String::from_utf8_lossy(frame.data_ref().expect("data"));
        }
    }
}

impl Follower {
    pub(crate) fn said(&self) -> &str {
        &self.text
    }

    /// Reads on until there is nothing more to come.
    pub(crate) async fn until_its_end(&mut self) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < until, "it goes on: {}", self.text);
            match tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await.expect("in time") {
                None => return,
                Some(frame) => self.text += &String::from_utf8_lossy(frame.expect("whole").data_ref().expect("data")),
            }
        }
    }
}

/// So many frames of a command.
pub(crate) fn frames(n: u64) -> Value {
    spec(json!({ "argv": ["render", "{frame}"], "space": { "frames": { "text": format!("1-{n}") } } }))
}

pub(crate) fn spec(command: Value) -> Value {
    json!({ "v": 1, "body": { "command": command } })
}

/// Looks again and again until it is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The audit of a farm, which holds.
pub(crate) fn verified(data: &Path) -> crate::Report {
    let report = crate::verify_dir(&data.join("supervisor/audit"), &Default::default()).expect("read");
    assert_eq!(report.findings, [], "the audit holds");
    report
}
