//! Revocations that meet something else: another recall, a connection that ends, a directory that is down.

use super::fake_worker::{FakeWorker, Habits};
use super::people::{as_render, grant};
use super::{ADA, Supervised, eventually, frames, operator};
use crate::authn::Peer;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// A farm, ada's grant for render, and a job by it of which a task runs until it is permitted to end.
struct Running {
    farm: Supervised,
    worker: FakeWorker,
    grant: u64,
    job: u64,
}

impl Running {
    async fn start(data: &Path) -> Self {
        let farm = Supervised::start(data).await;
        farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "type": "proxy" })).await;
        let mut habits = Habits::of_ada("desk");
        habits.hello.accept = vec!["any".to_owned()];
        (habits.permits, habits.begins_at_once) = (Arc::new(Semaphore::new(0)), true);
        let worker = FakeWorker::start(data, habits);
        let grant = grant(&farm, "ada").await;
        let submitted = as_render(&farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(3) })).await.1;
        let job = submitted["job"].as_u64().expect("a job");
        eventually("a task runs", async || worker.seen().started.len() == 1).await;
        Self { farm, worker, grant, job }
    }

    fn revoke(&self, kill: bool) -> JoinHandle<Value> {
        let (router, path) = (self.farm.router(), format!("/api/v1/grants/{}/revoke", self.grant));
        tokio::spawn(async move {
            let op = Peer::Unix { uid: operator() };
            let (_, bytes) = super::answer(router, op, "POST", &path, json!({ "kill": kill })).await;
            serde_json::from_slice(&bytes).expect("json")
        })
    }

    async fn recalls(&self, n: usize) {
        eventually("recalls are on their way", async || self.worker.seen().recalls.len() == n).await;
    }

    async fn job(&self) -> Value {
        self.farm.ask(operator(), "GET", &format!("/api/v1/jobs/{}", self.job), Value::Null).await
    }
}

/// Between the two the session may have been given something.
#[tokio::test]
async fn the_answer_to_an_earlier_recall_is_none_to_a_later_one() {
    let dir = tempfile::tempdir().expect("dir");
    let running = Running::start(dir.path()).await;
    running.worker.habits().is_slow = true;
    let first = running.revoke(false);
    running.recalls(2).await;
    let second = running.revoke(false);
    running.recalls(3).await;
    let settled = json!({ "grant": running.grant, "blocked": [running.job], "killed": [] });
    running.worker.pass_recall();
    running.worker.pass_recall();
    assert_eq!(first.await.expect("answered"), settled);
    running.job().await;
    assert!(!second.is_finished(), "nothing has been said yet of what was handed out before it");
    running.worker.pass_recall();
    assert_eq!(second.await.expect("answered"), settled);
}

/// Without `--kill` what runs comes to its end, also when its worker has to connect again meanwhile.
#[tokio::test]
async fn what_runs_when_a_grant_ends_outlives_a_connection() {
    let dir = tempfile::tempdir().expect("dir");
    let running = Running::start(dir.path()).await;
    running.revoke(false).await.expect("answered");
    let hellos = running.worker.seen().hellos;
    running.farm.running.app.service.dispatcher.cut_for_tests("desk");
    eventually("it is back", async || {
        running.worker.seen().hellos > hellos && running.farm.get("/api/v1/workers").await[0]["state"] != "down"
    })
    .await;
    running.worker.permit(10);
    eventually("it came to its end", async || running.job().await["tasks"]["running"] == 0).await;
    let job = running.job().await;
    assert_eq!((&job["state"], &job["tasks"]["complete"]), (&json!("blocked"), &json!(1)), "{job}");
    let seen = running.worker.seen();
    assert_eq!((seen.ran.len(), seen.killed.as_slice()), (1, &[][..]), "it was left alone, and nothing followed it");
}

/// Another grant lets the job go on, but not on this worker: what was handed out here comes back before the answer.
#[tokio::test]
async fn what_another_grant_lets_go_on_elsewhere_starts_nothing_more_here() {
    let dir = tempfile::tempdir().expect("dir");
    let running = Running::start(dir.path()).await;
    let narrow = json!({ "login_user": "ada", "proxy_user": "render", "workers": "elsewhere" });
    running.farm.ask(operator(), "POST", "/api/v1/grants", narrow).await;
    running.worker.habits().is_slow = true;
    let plain = running.revoke(false);
    running.recalls(1).await;
    running.job().await;
    assert!(!plain.is_finished(), "it is waited for");
    running.worker.pass_recall();
    let settled = json!({ "grant": running.grant, "blocked": [], "killed": [] });
    assert_eq!(plain.await.expect("answered"), settled);
    running.worker.habits().is_slow = false;
    running.worker.permit(10);
    let idle = async || running.farm.get("/api/v1/workers").await[0]["state"] == "idle";
    eventually("what ran came to its end, and its session", idle).await;
    let job = running.job().await;
    assert_eq!((&job["tasks"]["complete"], &job["tasks"]["pending"]), (&json!(1), &json!(2)), "{job}");
    assert_eq!(running.worker.seen().started.len(), 1);
}

/// And with `--kill` what runs here ends, and waits for a worker where it may run.
#[tokio::test]
async fn what_another_grant_lets_go_on_elsewhere_is_killed_here_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let running = Running::start(dir.path()).await;
    let narrow = json!({ "login_user": "ada", "proxy_user": "render", "workers": "elsewhere" });
    running.farm.ask(operator(), "POST", "/api/v1/grants", narrow).await;
    let settled = json!({ "grant": running.grant, "blocked": [], "killed": [] });
    assert_eq!(running.revoke(true).await.expect("answered"), settled);
    eventually("it was killed", async || running.worker.seen().killed.len() == 1).await;
    eventually("the job waits", async || running.job().await["tasks"]["pending"] == 3).await;
    assert_eq!(running.worker.seen().ran.len(), 0);
}

/// Nobody can tell whether ada is in the group: that is no reason to let go on what the revoked grant let run.
#[tokio::test]
async fn a_grant_can_be_revoked_while_the_directory_is_down() {
    let dir = tempfile::tempdir().expect("dir");
    let running = Running::start(dir.path()).await;
    let id = running.grant;
    let group = json!({ "login_user": "group:adrift", "proxy_user": "render" });
    let of_group = running.farm.ask(operator(), "POST", "/api/v1/grants", group).await["id"].clone();
    running.worker.habits().is_slow = true;
    let plain = running.revoke(false);
    eventually("it is called back", async || !running.worker.seen().recalls.is_empty()).await;
    running.worker.pass_recall();
    assert_eq!(plain.await.expect("answered"), json!({ "grant": id, "blocked": [], "killed": [] }));
    assert_eq!(running.job().await["state"], "running", "nobody knows yet");
    running.worker.habits().is_slow = false;
    let killed = json!({ "grant": id, "blocked": [], "killed": [running.job] });
    assert_eq!(running.revoke(true).await.expect("answered"), killed);
    // With no live grant left there is nothing that the directory would have to be asked about.
    let waits = as_render(&running.farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await;
    assert_eq!((waits.0.as_u16(), &waits.1["error"]["rule"]), (403, &json!("directory")));
    running.farm.ask(operator(), "POST", &format!("/api/v1/grants/{of_group}/revoke"), json!({})).await;
    let none = as_render(&running.farm, ADA, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await;
    assert_eq!((none.0.as_u16(), &none.1["error"]["rule"]), (403, &json!("grant_revoked")));
    assert_eq!(running.worker.seen().started.len(), 1);
}

/// What has not begun when a grant ends by itself doesn't begin, though it was handed out before.
#[tokio::test]
async fn what_is_handed_out_begins_before_the_end_of_its_grant() {
    let dir = tempfile::tempdir().expect("dir");
    let running = Running::start(dir.path()).await;
    let unbound = running.worker.seen().whole[0].not_after;
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(12);
    running.farm.by_hand(dir.path(), &format!("UPDATE grants SET valid_until = '{until:.0}'")).await;
    running.worker.permit(1);
    eventually("a second batch is there", async || running.worker.seen().whole.len() >= 2).await;
    let bound = running.worker.seen().whole[1].not_after;
    assert!(bound + 10_000 < unbound, "{bound} and {unbound}");
}
