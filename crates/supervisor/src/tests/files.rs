//! File work that meets something else: a right that ends, a file that changes, a session that says what it likes.

use super::fake_worker::{FakeWorker, Habits};
use super::people::{as_render, grant};
use super::{ADA, Supervised, eventually, frames, operator};
use serde_json::{Value, json};
use std::path::Path;
use tokio::task::JoinHandle;
use warrant::files::{Entry, EntryKind, FileAnswer, FileRequest, FileRule, FileWork};

struct Left {
    farm: Supervised,
    workers: Vec<FakeWorker>,
    grant: u64,
    job: u64,
}

impl Left {
    /// What a job of ada's as render left on some workers, one slot each.
    async fn on(data: &Path, workers: &[&str]) -> Self {
        let farm = Supervised::start(data).await;
        farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "type": "proxy" })).await;
        let grant = grant(&farm, "ada").await;
        let start = |name: &&str| {
            let mut habits = Habits::of_ada(name);
            habits.hello.accept = vec!["any".to_owned()];
            habits.hello.abilities.files = true;
            habits.hello.slots = 1;
            habits.permits = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
            habits.begins_at_once = true;
            FakeWorker::start(data, habits)
        };
        let workers: Vec<FakeWorker> = workers.iter().map(start).collect();
        let all = async || farm.get("/api/v1/workers").await.as_array().expect("workers").len() == workers.len();
        eventually("all are there", all).await;
        let spec = json!({ "spec": frames(workers.len() as u64) });
        let job = as_render(&farm, ADA, "POST", "/api/v1/jobs", spec).await.1["job"].as_u64().expect("a job");
        let began = async || workers.iter().all(|worker| worker.seen().started.len() == 1);
        eventually("each has a task of it", began).await;
        workers.iter().for_each(|worker| worker.permit(10));
        let path = format!("/api/v1/jobs/{job}");
        let over = async || farm.ask(operator(), "GET", &path, Value::Null).await["state"] == "complete";
        eventually("it is complete", over).await;
        Self { farm, workers, grant, job }
    }

    /// Status, and what was answered.
    fn ask(&self, what: &str) -> JoinHandle<(u16, Result<Vec<u8>, axum::Error>)> {
        let (router, path) = (self.farm.router(), format!("/api/v1/jobs/{}/{what}", self.job));
        tokio::spawn(async move {
            use http_body_util::BodyExt as _;
            use tower::ServiceExt as _;
            let request = axum::http::Request::builder().uri(path).body(axum::body::Body::empty());
            let mut request = request.expect("built");
            request.extensions_mut().insert(crate::authn::Peer::Unix { uid: ADA });
            let response = router.oneshot(request).await.expect("answer");
            let status = response.status().as_u16();
            (status, response.into_body().collect().await.map(|body| body.to_bytes().to_vec()))
        })
    }

    /// The next request that a worker's session gets.
    async fn asked(&self, worker: usize) -> FileRequest {
        let worker = &self.workers[worker];
        eventually("it is asked", async || !worker.seen().asked.is_empty()).await;
        worker.seen().asked.remove(0)
    }

    fn answer(&self, request: &FileRequest, data: &[u8], size: u64) {
        self.workers[0].answer(request, &FileAnswer::Data { data: data.to_vec(), size });
    }
}

fn error(answer: &(u16, Result<Vec<u8>, axum::Error>)) -> Value {
    let value: Value = serde_json::from_slice(answer.1.as_ref().expect("a body")).expect("json");
    value["error"].clone()
}

#[tokio::test]
async fn what_was_read_is_not_had_when_the_right_ended_meanwhile() {
    let dir = tempfile::tempdir().expect("dir");
    let left = Left::on(dir.path(), &["desk"]).await;
    let reading = left.ask("file?path=note");
    let request = left.asked(0).await;
    left.farm.ask(operator(), "POST", &format!("/api/v1/grants/{}/revoke", left.grant), json!({})).await;
    left.answer(&request, b"secret", 6);
    let answer = reading.await.expect("answered");
    assert_eq!((answer.0, &error(&answer)["rule"]), (403, &json!("grant_revoked")));
    let session = request.session;
    eventually("its session is ended", async || left.workers[0].seen().killed.contains(&session)).await;
}

#[tokio::test]
async fn a_request_begins_before_the_end_of_its_grant() {
    let dir = tempfile::tempdir().expect("dir");
    let left = Left::on(dir.path(), &["desk"]).await;
    let mut not_after = Vec::new();
    for until in [None, Some(12)] {
        if let Some(seconds) = until {
            let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
            left.farm.by_hand(dir.path(), &format!("UPDATE grants SET valid_until = '{until:.0}'")).await;
        }
        let reading = left.ask("file?path=note");
        let request = left.asked(0).await;
        left.answer(&request, b"", 0);
        assert_eq!(reading.await.expect("answered").0, 200);
        not_after.push(request.not_after);
    }
    assert!(not_after[1] + 20_000 < not_after[0], "{not_after:?}");
}

#[tokio::test]
async fn a_file_is_had_as_long_as_it_was_and_never_a_part_as_the_whole() {
    let dir = tempfile::tempdir().expect("dir");
    let left = Left::on(dir.path(), &["desk"]).await;
    // It grows.
    let reading = left.ask("file?path=log");
    let request = left.asked(0).await;
    left.answer(&request, b"abc", 5);
    let request = left.asked(0).await;
    assert!(matches!(request.work, FileWork::Read { offset: 3, length: 2, .. }), "{request:?}");
    left.answer(&request, b"de", 900);
    assert_eq!(reading.await.expect("answered").1.expect("whole"), b"abcde");
    // It becomes shorter.
    let reading = left.ask("file?path=log");
    let request = left.asked(0).await;
    left.answer(&request, b"abc", 5);
    let request = left.asked(0).await;
    left.answer(&request, b"", 3);
    assert!(reading.await.expect("answered").1.is_err(), "it breaks off");
    // The session gives more than it was asked for.
    let reading = left.ask("file?path=log&length=2");
    let request = left.asked(0).await;
    left.answer(&request, b"abc", 5);
    let answer = reading.await.expect("answered");
    assert_eq!(answer.0, 503);
    assert!(error(&answer)["message"].to_string().contains("more of"), "{}", error(&answer));
}

#[tokio::test]
async fn a_worker_that_refuses_is_named_beside_what_the_others_have() {
    let dir = tempfile::tempdir().expect("dir");
    let left = Left::on(dir.path(), &["desk", "other"]).await;
    let reading = left.ask("files");
    let (first, second) = (left.asked(0).await, left.asked(1).await);
    let entry = Entry { name: "note".to_owned(), kind: EntryKind::File, size: 1, modified_us: 0, mode: 0o600 };
    left.workers[0].answer(&first, &FileAnswer::Entries { entries: vec![entry], more: false });
    let text = "the folder: permission denied".to_owned();
    left.workers[1].answer(&second, &FileAnswer::Refused { rule: FileRule::Denied, text });
    let answer = reading.await.expect("answered");
    let view: Value = serde_json::from_slice(&answer.1.expect("a body")).expect("json");
    assert_eq!((answer.0, &view["entries"][0]["name"]), (200, &json!("note")));
    assert_eq!(view["unreached"], json!([{ "worker": "other", "why": "the folder: permission denied" }]));
    let refused = left.farm.ask(operator(), "GET", "/api/v1/audit?act=file_view&outcome=refused", Value::Null).await;
    assert!(refused.to_string().contains("permission denied"), "{refused}");
}
