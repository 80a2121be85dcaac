//! Jobs from submission to their end, with everything that may come between.

use super::fake_worker::{FakeWorker, Habits};
use super::{ADA, BOB, Supervised, eventually, frames, operator, spec};
use crate::authn::Peer;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;
use wire::{End, FromWorker};

fn all_once(n: u64) -> BTreeMap<u64, usize> {
    (0..n).map(|i| (i, 1)).collect()
}

#[tokio::test]
async fn a_job_runs_on_a_desktop() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let job = farm.submit(ADA, frames(500)).await;
    let over = farm.over(job).await;
    assert_eq!((&over["state"], &over["tasks"]["complete"]), (&json!("complete"), &json!(500)));
    assert_eq!(worker.seen().counts(), all_once(500));
    {
        let seen = worker.seen();
        assert_eq!(seen.batches[0], 1, "the first batch is one task");
        assert!(seen.batches.iter().max() > Some(&16), "short tasks come in large batches: {:?}", seen.batches);
        assert_eq!(seen.warrants.len(), 1, "one slot, one session");
        let warrant = seen.warrants.values().next().expect("one");
        assert_eq!((warrant.login_user.as_str(), warrant.mode.as_str()), ("ada", "desktop"));
        assert_ne!(warrant.policy_version, [0; 32]);
    }
    let tasks = farm.get(&format!("/api/v1/jobs/{job}/tasks?limit=3&after=6")).await;
    assert_eq!(tasks.as_array().expect("array").len(), 3);
    let attempt = &tasks[0]["attempts"][0];
    assert_eq!((&tasks[0]["task"], &tasks[0]["frame"]), (&json!(7), &json!(8)));
    assert_eq!((&attempt["attested_by"], &attempt["state"]), (&json!("worker"), &json!("complete")));
    assert_eq!(attempt["run_as"], json!({"name": "ada", "uid": operator(), "gid": 1501, "groups": [1501]}));
    let explain = farm.get(&format!("/api/v1/jobs/{job}/explain")).await;
    assert_eq!(explain["workers"][0]["verdict"], "run");
    assert_eq!(explain["sessions"][0]["run_as"]["name"], "ada");
}

#[tokio::test]
async fn a_service_worker_proves_what_it_did() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let _worker = FakeWorker::start(dir.path(), Habits::in_user_mode("node"));
    let job = farm.submit(ADA, frames(3)).await;
    assert_eq!(farm.over(job).await["state"], "complete");
    let tasks = farm.get(&format!("/api/v1/jobs/{job}/tasks")).await;
    let attempt = &tasks[2]["attempts"][0];
    assert_eq!((&attempt["attested_by"], &attempt["mode"]), (&json!("launcher"), &json!("user")));
    let sessions = farm.get(&format!("/api/v1/jobs/{job}/explain")).await["sessions"].clone();
    let proof = sessions.as_array().expect("sessions").iter().find(|s| s["session"] == attempt["session"]);
    assert_eq!(proof.expect("its session")["proof"], attempt["proof"]);
    let proof = &attempt["proof"];
    assert!(proof["log_sequence"].is_u64(), "{proof}");
    assert_eq!(
        (proof["host_key"].as_str().map(str::len), proof["sha256"].as_str().map(str::len)),
        (Some(64), Some(64))
    );
}

#[tokio::test]
async fn a_proof_of_another_account_ends_the_session_and_the_trust() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut habits = Habits::in_user_mode("node");
    habits.proves = Some("mallory");
    habits.permits = Arc::new(Semaphore::new(0));
    let worker = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(3)).await;
    eventually("the session is killed", async || !worker.seen().killed.is_empty()).await;
    eventually("the worker is in panic", async || farm.get("/api/v1/workers").await[0]["state"] == "panic").await;
    let reason = farm.get("/api/v1/workers").await[0]["reason"].to_string();
    assert!(reason.contains("it is about account mallory, not ada"), "{reason}");
    eventually("the job waits again", async || farm.get(&format!("/api/v1/jobs/{job}")).await["state"] == "pending")
        .await;
    assert!(worker.seen().ran.is_empty());
    let sessions = farm.get(&format!("/api/v1/jobs/{job}/explain")).await["sessions"].clone();
    assert_eq!(
        (&sessions[0]["attested_by"], &sessions[0]["proof"]),
        (&json!("worker"), &Value::Null),
        "not the launcher"
    );
}

#[tokio::test]
async fn a_host_key_that_changed_attests_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let first = FakeWorker::start(dir.path(), Habits::in_user_mode("node"));
    let job = farm.submit(ADA, frames(1)).await;
    farm.over(job).await;
    first.crash();
    let mut habits = Habits::in_user_mode("node");
    habits.set_key([8; 32]);
    let _second = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(1)).await;
    assert_eq!(farm.over(job).await["state"], "complete");
    let tasks = farm.get(&format!("/api/v1/jobs/{job}/tasks")).await;
    assert_eq!(tasks[0]["attempts"][0]["attested_by"], "worker");
    let chain = std::fs::read_to_string(dir.path().join("supervisor/audit/chain")).expect("chain");
    assert!(chain.contains("\"act\":\"host_key_changed\""));
}

#[tokio::test]
async fn a_supervisor_that_died_goes_on_and_nothing_runs_twice() {
    let dir = tempfile::tempdir().expect("dir");
    let mut habits = Habits::of_ada("desk");
    habits.permits = Arc::new(Semaphore::new(7));
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(60)).await;
    eventually("seven tasks ran", async || worker.seen().ran.len() == 7).await;
    farm.running.die().await;
    // A task ends while nobody listens.
    worker.permit(1);
    let farm = Supervised::start(dir.path()).await;
    eventually("the worker is back", async || worker.seen().hellos >= 2).await;
    worker.permit(1000);
    let over = farm.over(job).await;
    assert_eq!((&over["state"], &over["tasks"]["complete"]), (&json!("complete"), &json!(60)));
    assert_eq!(worker.seen().counts(), all_once(60));
    let records = super::verified(dir.path()).records;
    assert!(records >= 4, "{records}");
}

#[tokio::test]
async fn a_cut_connection_drains_its_sessions() {
    let dir = tempfile::tempdir().expect("dir");
    let mut habits = Habits::of_ada("desk");
    habits.permits = Arc::new(Semaphore::new(5));
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(40)).await;
    eventually("five tasks ran", async || worker.seen().ran.len() == 5).await;
    farm.running.app.service.dispatcher.cut_for_tests("desk");
    eventually("it is back", async || worker.seen().hellos == 2).await;
    worker.permit(1000);
    assert_eq!(farm.over(job).await["tasks"]["complete"], 40);
    assert_eq!(worker.seen().counts(), all_once(40));
    assert_eq!(worker.seen().warrants.len(), 2, "the first session left, a second took the rest");
}

#[tokio::test]
async fn a_worker_that_lost_its_session_runs_the_task_again_once() {
    let dir = tempfile::tempdir().expect("dir");
    let mut habits = Habits::of_ada("desk");
    habits.permits = Arc::new(Semaphore::new(0));
    let farm = Supervised::start(dir.path()).await;
    let first = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(2)).await;
    eventually("it has its first task", async || first.seen().batches.len() == 1).await;
    first.crash();
    let second = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!(second.seen().counts(), all_once(2));
    let tasks = farm.get(&format!("/api/v1/jobs/{job}/tasks")).await;
    let states: Vec<&Value> = tasks[0]["attempts"].as_array().expect("array").iter().map(|a| &a["state"]).collect();
    assert_eq!(states, ["lost", "complete"]);
}

#[tokio::test]
async fn a_drained_worker_gets_no_further_batch() {
    let dir = tempfile::tempdir().expect("dir");
    let mut habits = Habits::of_ada("desk");
    habits.permits = Arc::new(Semaphore::new(1));
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(300)).await;
    eventually("batches are out", async || worker.seen().batches.len() >= 2).await;
    farm.ask(operator(), "POST", "/api/v1/workers/desk/drain", json!({ "drained": true })).await;
    let handed_out: usize = worker.seen().batches.iter().sum();
    worker.permit(1000);
    eventually("the session left", async || farm.get("/api/v1/farm").await["sessions_live"] == 0).await;
    assert_eq!(worker.seen().ran.len(), handed_out, "what was handed out ran, and no more");
    assert_eq!(farm.get("/api/v1/workers").await[0]["state"], "locked");
    let reason = async || farm.get(&format!("/api/v1/jobs/{job}")).await["reason"].clone();
    eventually("it says why", async || reason().await == "no worker: desk: the worker is drained").await;
    farm.ask(operator(), "POST", "/api/v1/workers/desk/drain", json!({ "drained": false })).await;
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!(worker.seen().counts(), all_once(300));
}

#[tokio::test]
async fn an_account_unknown_on_one_worker_runs_on_another() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut habits = Habits::in_user_mode("a");
    habits.hello.slots = 4;
    habits.refuses = Arc::new(|_| Some(("account", "no account ada here")));
    let refusing = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(3)).await;
    let reason = async || farm.get(&format!("/api/v1/jobs/{job}")).await["reason"].to_string();
    eventually("it says why", async || reason().await.contains("a: the worker could not run ada")).await;
    let other = FakeWorker::start(dir.path(), Habits::in_user_mode("b"));
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!(other.seen().counts(), all_once(3));
    assert!(refusing.seen().ran.is_empty());
    let tasks = farm.get(&format!("/api/v1/jobs/{job}/tasks")).await;
    assert_eq!(tasks[0]["attempts"].as_array().expect("array").len(), 1, "no retry was burnt");
    // A new life of that worker is asked again.
    let verdict = async || farm.get("/api/v1/explain?worker=a").await["workers"][0]["verdict"].clone();
    assert_eq!(verdict().await, "refused");
    refusing.crash();
    let again = FakeWorker::start(dir.path(), refusing.habits().clone());
    eventually("it may run again", async || verdict().await == "run").await;
    // So is a new life of its launcher.
    other.crash();
    let job = farm.submit(ADA, frames(1)).await;
    eventually("it is refused again", async || verdict().await == "refused").await;
    again.habits().refuses = Arc::new(|_| None);
    again.say(FromWorker::NewIncarnation { incarnation: "11".repeat(16), tick: 1_000_000, sealing_key: None });
    assert_eq!(farm.over(job).await["state"], "complete");
}

/// A worker in user mode that says of every account that it is unknown.
fn without_accounts(name: &str) -> Habits {
    let mut habits = Habits::in_user_mode(name);
    habits.refuses = Arc::new(|_| Some(("account", "this host knows no account ada")));
    habits.refuses_by = "account_unknown";
    habits
}

#[tokio::test]
async fn an_account_unknown_on_every_worker_is_badlogin_once_and_stays_it() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let workers = ["a", "b"].map(|name| FakeWorker::start(dir.path(), without_accounts(name)));
    eventually("both are here", async || farm.get("/api/v1/workers").await.as_array().map(Vec::len) == Some(2)).await;
    let _desk = FakeWorker::start(dir.path(), {
        let mut habits = Habits::of_ada("desk");
        habits.hello.labels = vec!["desk".to_owned()];
        habits
    });
    let mut on_nodes = frames(500);
    on_nodes["requires"] = json!("worker=a|b");
    let job = farm.submit(ADA, on_nodes.clone()).await;
    let over = farm.over(job).await;
    assert_eq!((&over["state"], &over["tasks"]["killed"]), (&json!("badlogin"), &json!(500)));
    let reason = over["reason"].to_string();
    assert!(reason.contains("account ada ") && reason.contains("(asked: a, b)"), "{reason}");
    let asked = || workers.each_ref().map(|w| w.seen().warrants.len());
    assert_eq!(asked(), [1, 1], "each once");
    // One that comes later changes nothing, nor does asking again: only a new submission does.
    let _later = FakeWorker::start(dir.path(), Habits::in_user_mode("c"));
    let path = format!("/api/v1/jobs/{job}");
    let workers_here = async || farm.get("/api/v1/workers").await.as_array().map(Vec::len);
    eventually("c is here", async || workers_here().await == Some(4)).await;
    let (status, _) = farm.call(Peer::Unix { uid: ADA }, "POST", &format!("{path}/retry"), Value::Null).await;
    assert_eq!((status.as_u16(), &farm.get(&path).await["state"]), (409, &json!("badlogin")));
    let explain = farm.get(&format!("{path}/explain")).await;
    assert_eq!((&explain["refused"]["rule"], &explain["refused"]["text"]), (&json!("badlogin"), &over["reason"]));
    // The next one is known to have nowhere to go without being sent anywhere.
    let next = farm.submit(ADA, on_nodes).await;
    assert_eq!(farm.over(next).await["state"], "badlogin");
    assert_eq!(asked(), [1, 1]);
    let free = farm.submit(ADA, frames(1)).await;
    assert_eq!(farm.over(free).await["state"], "complete", "where another worker has it, it runs");
    let chain = std::fs::read_to_string(dir.path().join("supervisor/audit/chain")).expect("chain");
    assert_eq!(chain.matches("\"act\":\"badlogin\"").count(), 2);
}

#[tokio::test]
async fn a_worker_that_is_away_and_was_not_asked_keeps_a_job_waiting() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let away = FakeWorker::start(dir.path(), Habits::in_user_mode("away"));
    eventually("it was here", async || farm.get("/api/v1/workers").await[0]["state"] == "idle").await;
    away.crash();
    eventually("it is gone", async || farm.get("/api/v1/workers").await[0]["state"] == "down").await;
    let _unknown = FakeWorker::start(dir.path(), without_accounts("a"));
    let job = farm.submit(ADA, frames(2)).await;
    let now = async || farm.get(&format!("/api/v1/jobs/{job}")).await;
    eventually("it says why", async || now().await["reason"].to_string().contains("a: the worker could not run ada"))
        .await;
    assert_eq!(now().await["state"], "pending");
    let again = FakeWorker::start(dir.path(), away.habits().clone());
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!(again.seen().counts(), all_once(2));
}

#[tokio::test]
async fn a_proxy_account_that_is_refused_puts_the_worker_in_panic() {
    for (kind, rule) in
        [("local_policy", "uid_below_floor"), ("account", "account_unknown"), ("bad_login", "account_expired")]
    {
        let dir = tempfile::tempdir().expect("dir");
        let farm = Supervised::start(dir.path()).await;
        let mut habits = Habits::in_user_mode(rule);
        (habits.hello.mode, habits.hello.proxy_account) = ("proxy".to_owned(), Some("render".to_owned()));
        habits.refuses = Arc::new(move |_| Some((kind, "render can't be used here")));
        habits.refuses_by = rule;
        let worker = FakeWorker::start(dir.path(), habits);
        let jobs = [farm.submit(ADA, frames(2)).await, farm.submit(BOB, frames(2)).await];
        let row = async || farm.get("/api/v1/workers").await[0].clone();
        eventually("it is in panic", async || row().await["state"] == "panic").await;
        let reason = row().await["reason"].to_string();
        assert!(reason.contains("render") && reason.contains(rule), "{reason}");
        assert_eq!(worker.seen().warrants.len(), 1, "one job is enough to know");
        for (uid, job) in [(ADA, jobs[0]), (BOB, jobs[1])] {
            let job = farm.ask(uid, "GET", &format!("/api/v1/jobs/{job}"), Value::Null).await;
            assert_eq!(job["state"], "pending", "it is not the user's account: {job}");
        }
        // The launcher that was restarted is asked again; so is a worker that connects again.
        worker.habits().refuses = Arc::new(|_| None);
        worker.say(FromWorker::NewIncarnation { incarnation: "11".repeat(16), tick: 1_000_000, sealing_key: None });
        for (uid, job) in [(ADA, jobs[0]), (BOB, jobs[1])] {
            let path = format!("/api/v1/jobs/{job}/wait?timeout_s=20");
            assert_eq!(farm.ask(uid, "GET", &path, Value::Null).await["state"], "complete");
        }
        worker.crash();
        eventually("nothing is left of it", async || row().await["state"] == "down").await;
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_ends_what_was_on_its_way() {
    let dir = tempfile::tempdir().expect("dir");
    let mut habits = Habits::of_ada("desk");
    habits.hello.slots = 4;
    habits.permits = Arc::new(Semaphore::new(0));
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), habits);
    for n in 0..60 {
        let job = farm.submit(ADA, frames(1)).await;
        tokio::time::sleep(std::time::Duration::from_micros(n * 150)).await;
        farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/kill"), Value::Null).await;
        assert_eq!(farm.over(job).await["state"], "killed", "after {n}");
    }
    assert!(worker.seen().ran.is_empty() && !worker.seen().batches.is_empty());
}

#[tokio::test]
async fn a_job_resumed_while_the_worker_is_away_goes_on() {
    let dir = tempfile::tempdir().expect("dir");
    let mut habits = Habits::of_ada("desk");
    habits.permits = Arc::new(Semaphore::new(1));
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(5)).await;
    eventually("the second batch is there", async || worker.seen().batches.len() >= 2).await;
    farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/suspend"), Value::Null).await;
    eventually("its session stands still", async || worker.seen().suspensions == 1).await;
    farm.running.app.service.dispatcher.cut_for_tests("desk");
    farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/resume"), Value::Null).await;
    worker.permit(1000);
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!(worker.seen().counts(), all_once(5));
}

#[tokio::test]
async fn an_account_that_may_not_log_in_is_badlogin_at_once() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut habits = Habits::in_user_mode("a");
    habits.refuses = Arc::new(|_| Some(("bad_login", "the account ada has expired")));
    let worker = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(500)).await;
    let over = farm.over(job).await;
    assert_eq!(over["state"], "badlogin");
    assert!(over["reason"].to_string().contains("the account ada has expired"), "{over}");
    assert_eq!(worker.seen().warrants.len(), 1, "asked once");
    let (status, _) =
        farm.call(Peer::Unix { uid: ADA }, "POST", &format!("/api/v1/jobs/{job}/retry"), Value::Null).await;
    assert_eq!(status, 409);
}

#[tokio::test]
async fn a_kill_reaches_what_runs() {
    let dir = tempfile::tempdir().expect("dir");
    let mut habits = Habits::of_ada("desk");
    habits.permits = Arc::new(Semaphore::new(3));
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(100)).await;
    eventually("three ran", async || worker.seen().ran.len() == 3).await;
    let killed = farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/kill"), json!({ "reason": "enough" })).await;
    assert_eq!(killed, json!({ "job": job, "state": "killed" }));
    let over = farm.over(job).await;
    assert_eq!((&over["state"], &over["reason"]), (&json!("killed"), &json!("killed by ada: enough")));
    assert_eq!((&over["tasks"]["complete"], &over["tasks"]["killed"]), (&json!(3), &json!(97)));
    assert_eq!(worker.seen().ran.len(), 3);
    // Retried, the rest runs, and only the rest.
    farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/retry"), Value::Null).await;
    worker.permit(1000);
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!(worker.seen().counts(), all_once(100));
}

#[tokio::test]
async fn a_kill_while_the_worker_is_away_is_delivered() {
    let dir = tempfile::tempdir().expect("dir");
    let mut habits = Habits::of_ada("desk");
    habits.permits = Arc::new(Semaphore::new(2));
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(10)).await;
    eventually("two ran", async || worker.seen().ran.len() == 2).await;
    farm.running.die().await;
    let farm = Supervised::start(dir.path()).await;
    // The worker may be back already; then it is delivered now.
    farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/kill"), Value::Null).await;
    assert_eq!(farm.over(job).await["state"], "killed");
    assert_eq!(worker.seen().ran.len(), 2);
}

#[tokio::test]
async fn suspended_is_not_finished_and_goes_on() {
    let dir = tempfile::tempdir().expect("dir");
    let mut habits = Habits::of_ada("desk");
    habits.permits = Arc::new(Semaphore::new(1));
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(50)).await;
    eventually("the second batch is out", async || worker.seen().batches.len() >= 2).await;
    farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/suspend"), Value::Null).await;
    let sessions = worker.seen().warrants.len();
    farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/resume"), Value::Null).await;
    worker.permit(1000);
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!(worker.seen().counts(), all_once(50));
    assert_eq!(worker.seen().warrants.len(), sessions, "the session stayed");
}

#[tokio::test]
async fn failures_are_tried_again_and_others_not() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut habits = Habits::of_ada("desk");
    habits.ends = Arc::new(|t| match (t.index, t.epoch) {
        (1, 1) | (2, _) => End::Exited { code: 3 },
        _ => End::Exited { code: 0 },
    });
    let worker = FakeWorker::start(dir.path(), habits);
    let mut spec = frames(4);
    spec["retries"] = json!(2);
    let job = farm.submit(ADA, spec).await;
    let over = farm.over(job).await;
    assert_eq!((&over["state"], &over["tasks"]["failed"]), (&json!("failed"), &json!(1)));
    assert_eq!(worker.seen().counts(), BTreeMap::from([(0, 1), (1, 2), (2, 3), (3, 1)]));
}

const WITH_ENVIRONMENTS: &str = r"
specificationVersion: jobtemplate-2023-09
name: envs
jobEnvironments:
- name: house
  script: {actions: {onEnter: {command: enter}, onExit: {command: leave}}}
steps:
- name: one
  stepEnvironments:
  - name: room
    script: {actions: {onEnter: {command: enter}, onExit: {command: leave}}}
  script: {actions: {onRun: {command: run}}}
- name: two
  script: {actions: {onRun: {command: run}}}
  dependencies: [{dependsOn: one}]
";

#[tokio::test]
async fn environments_are_entered_and_left_around_their_steps() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let job = farm.submit(ADA, json!({ "v": 1, "body": { "template": { "source": WITH_ENVIRONMENTS } } })).await;
    assert_eq!(farm.over(job).await["state"], "complete");
    eventually("the session left", async || farm.get("/api/v1/farm").await["sessions_live"] == 0).await;
    let seen = worker.seen();
    let entered = seen.environments.join(" ");
    let one_session = entered == "+house +room -room -house";
    let two_sessions = entered == "+house +room -room -house +house -house";
    assert!(one_session || two_sessions, "{entered}");
}

#[tokio::test]
async fn why_a_job_waits_is_said() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let job = farm.submit(BOB, frames(1)).await;
    let reason = async || farm.ask(BOB, "GET", &format!("/api/v1/jobs/{job}"), Value::Null).await["reason"].clone();
    eventually("no worker", async || reason().await == "no worker: none is connected").await;
    let _worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let expected = "no worker: desk: the desktop worker of ada does not take jobs of bob";
    eventually("another's desktop", async || reason().await == expected).await;
    let explain = farm.ask(BOB, "GET", &format!("/api/v1/jobs/{job}/explain"), Value::Null).await;
    assert_eq!(explain["workers"][0]["refused"]["rule"], "desktop_accept");
    for act in ["block", "unblock"] {
        farm.ask(BOB, "POST", &format!("/api/v1/jobs/{job}/{act}"), Value::Null).await;
    }
    eventually("it is said again", async || reason().await == expected).await;
}

#[tokio::test]
async fn a_job_waits_for_another_one() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut habits = Habits::of_ada("desk");
    habits.hello.slots = 2;
    let worker = FakeWorker::start(dir.path(), habits);
    worker.habits().permits = Arc::new(Semaphore::new(0));
    let first = farm.submit(ADA, frames(2)).await;
    let mut second = spec(json!({ "argv": ["after"] }));
    second["after"] = json!([{ "job": first }]);
    let second = farm.submit(ADA, second).await;
    eventually("the first runs", async || worker.seen().warrants.values().any(|w| w.job == first)).await;
    assert!(worker.seen().warrants.values().all(|w| w.job == first));
    worker.permit(1000);
    assert_eq!(farm.over(second).await["state"], "complete");
}

#[tokio::test]
async fn a_second_worker_of_the_same_name_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let first = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    eventually("the first is here", async || farm.get("/api/v1/workers").await[0]["state"] == "idle").await;
    let second = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    eventually("the second is refused", async || second.seen().refused.is_some()).await;
    assert_eq!(second.seen().refused.as_deref(), Some("a worker of this name is connected already"));
    assert_eq!(first.seen().hellos, 1, "the first stays");
}

#[tokio::test]
async fn a_large_job_makes_room_for_a_small_one() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut habits = Habits::of_ada("desk");
    habits.hello.slots = 2;
    habits.permits = Arc::new(Semaphore::new(2));
    let worker = FakeWorker::start(dir.path(), habits);
    let large = farm.submit(ADA, frames(10_000)).await;
    eventually("both slots are taken", async || worker.seen().warrants.len() == 2).await;
    let mut urgent = frames(1);
    urgent["priority"] = json!(5);
    let urgent = farm.submit(ADA, urgent).await;
    // Until it is placed, the large job gets one task after the other.
    let over = async || {
        worker.permit(20);
        !farm.get(&format!("/api/v1/jobs/{urgent}")).await["ended_at"].is_null()
    };
    eventually("the urgent one ran", over).await;
    assert_eq!(farm.get(&format!("/api/v1/jobs/{large}")).await["state"], "running");
}

#[tokio::test]
async fn a_second_supervisor_on_the_same_data_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let _farm = Supervised::start(dir.path()).await;
    let config =
        crate::Config { data: dir.path().to_owned(), listen: Some("127.0.0.1:0".into()), ..Default::default() };
    let accounts = Arc::new(crate::authn::tests::FakeAccounts::default());
    let error = crate::start::start_as(config, operator(), accounts).await.expect_err("refused");
    assert!(error.to_string().contains("is in use by process"), "{error}");
}

#[tokio::test]
async fn a_chain_that_was_cut_stops_the_start() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    farm.submit(ADA, frames(1)).await;
    farm.running.stop().await;
    let path = dir.path().join("supervisor/audit/chain");
    let chain = std::fs::read_to_string(&path).expect("chain");
    std::fs::write(&path, chain.split_inclusive('\n').next().expect("first")).expect("cut");
    let config =
        crate::Config { data: dir.path().to_owned(), listen: Some("127.0.0.1:0".into()), ..Default::default() };
    let accounts = Arc::new(crate::authn::tests::FakeAccounts::default());
    let error = crate::start::start_as(config, operator(), accounts).await.expect_err("refused");
    assert!(matches!(error, crate::StartError::Audit(crate::AuditError::Sealed(_))), "{error}");
}

#[tokio::test]
async fn old_jobs_go_with_their_folders_and_logs() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let job = farm.submit(ADA, frames(1)).await;
    farm.over(job).await;
    let token = async |expires: &str| {
        let body = json!({ "name": "ci", "scopes": ["read"], "expires": expires });
        farm.ask(ADA, "POST", "/api/v1/tokens", body).await["id"].as_u64().expect("a number")
    };
    let (ended, lives) = (token("30m").await, token("60d").await);
    let dispatcher = farm.running.app.service.dispatcher.clone();
    let in_a_month = crate::clock::now() + 31 * 86_400 * 1_000_000;
    let gone = async || {
        dispatcher.retire_for_tests(in_a_month).await;
        farm.call(Peer::Unix { uid: ADA }, "GET", &format!("/api/v1/jobs/{job}"), Value::Null).await.0 == 404
    };
    eventually("it is gone", gone).await;
    assert_eq!(worker.seen().cleaned, [job]);
    let kept = async |id| farm.running.app.service.store.token(id).await.expect("read").is_some();
    assert_eq!((kept(ended).await, kept(lives).await), (false, true), "what ended long ago goes, too");
    let warrant = worker.seen().warrants.values().last().expect("one").clone();
    assert_eq!(warrant.purpose, warrant::Purpose::Clean);
}

/// An errand removed what a job had left; then somebody tried it again.
#[tokio::test]
async fn a_folder_that_was_made_again_is_removed_again() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let job = farm.submit(ADA, frames(1)).await;
    farm.over(job).await;
    let idle = async || farm.get("/api/v1/farm").await["sessions_live"] == 0;
    eventually("its session is over", idle).await;
    let dispatcher = farm.running.app.service.dispatcher.clone();
    let in_a_month = crate::clock::now() + 31 * 86_400 * 1_000_000;
    dispatcher.retire_for_tests(in_a_month).await;
    eventually("its folder is gone", async || worker.seen().cleaned.len() == 1 && idle().await).await;
    farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/retry"), json!({})).await;
    farm.over(job).await;
    eventually("its session is over", idle).await;
    dispatcher.retire_for_tests(in_a_month).await;
    eventually("an errand is sent again", async || worker.seen().cleaned.len() == 2).await;
}

/// What an errand could not remove is there yet: the record stays until one can.
#[tokio::test]
async fn a_job_doesnt_go_before_its_folder() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), Habits { cannot_clean: true, ..Habits::of_ada("desk") });
    let job = farm.submit(ADA, frames(1)).await;
    farm.over(job).await;
    let idle = async || farm.get("/api/v1/farm").await["sessions_live"] == 0;
    eventually("its session is over", idle).await;
    let dispatcher = farm.running.app.service.dispatcher.clone();
    let in_a_month = crate::clock::now() + 31 * 86_400 * 1_000_000;
    let gone =
        async || farm.call(Peer::Unix { uid: ADA }, "GET", &format!("/api/v1/jobs/{job}"), Value::Null).await.0 == 404;
    for errands in 1..=3 {
        dispatcher.retire_for_tests(in_a_month).await;
        eventually("an errand", async || worker.seen().cleaned.len() == errands && idle().await).await;
        assert!(!gone().await, "after errand {errands}");
    }
    worker.habits().cannot_clean = false;
    dispatcher.retire_for_tests(in_a_month).await;
    eventually("one that could", async || worker.seen().cleaned.len() == 4 && idle().await).await;
    dispatcher.retire_for_tests(in_a_month).await;
    assert!(gone().await);
}

/// It went nevertheless, and the audit has where its folder is.
#[tokio::test]
async fn a_folder_that_nobody_could_remove_is_on_record_though_an_errand_is_under_way() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let job = farm.submit(ADA, frames(1)).await;
    farm.over(job).await;
    eventually("its session is over", async || farm.get("/api/v1/farm").await["sessions_live"] == 0).await;
    worker.habits().is_silent = true;
    let dispatcher = farm.running.app.service.dispatcher.clone();
    let days = |n: i64| crate::clock::now() + n * 86_400 * 1_000_000;
    dispatcher.retire_for_tests(days(31)).await;
    eventually("an errand is under way", async || worker.seen().cleaned == [job]).await;
    dispatcher.retire_for_tests(days(61)).await;
    assert_eq!(farm.call(Peer::Unix { uid: ADA }, "GET", &format!("/api/v1/jobs/{job}"), Value::Null).await.0, 404);
    let left = farm.ask(operator(), "GET", "/api/v1/audit?act=folder_left", Value::Null).await;
    assert!(left.to_string().contains(&format!("remove the folder of job {job} that is ada's")), "{left}");
}

/// A house around frames, and a room around those of the first of two steps.
const FRAMES_IN_ENVIRONMENTS: &str = r"
specificationVersion: jobtemplate-2023-09
name: envs
jobEnvironments:
- name: house
  script: {actions: {onEnter: {command: enter}, onExit: {command: leave}}}
steps:
- name: one
  parameterSpace: {taskParameterDefinitions: [{name: N, type: INT, range: 1-20}]}
  stepEnvironments:
  - name: room
    script: {actions: {onEnter: {command: enter}, onExit: {command: leave}}}
  script: {actions: {onRun: {command: run}}}
- name: two
  script: {actions: {onRun: {command: run}}}
  dependencies: [{dependsOn: one}]
";

fn in_environments() -> Value {
    json!({ "v": 1, "body": { "template": { "source": FRAMES_IN_ENVIRONMENTS } } })
}

/// Every environment that was entered was left, from the inside out, in each session.
fn assert_left(environments: &[String], sessions: usize) {
    let mut entered: Vec<&str> = Vec::new();
    for change in environments {
        match change.split_at(1) {
            ("+", name) => entered.push(name),
            (_, name) => assert_eq!(entered.pop(), Some(name), "{environments:?}"),
        }
    }
    assert!(entered.is_empty(), "{environments:?}");
    let houses = environments.iter().filter(|e| *e == "+house").count();
    assert_eq!(houses, sessions, "{environments:?}");
}

/// Wherever the supervisor dies or a connection is cut, a session leaves what it entered, once.
#[tokio::test]
async fn what_was_entered_is_left_after_a_restart() {
    for (ran_before, lost, supervisor_dies) in [
        (0, 0, true),
        (1, 0, true),
        (6, 0, true),
        (6, 0, false),
        (1, 2, true),
        (1, 2, false),
        (5, 3, true),
        (5, 3, false),
    ] {
        let dir = tempfile::tempdir().expect("dir");
        let mut habits = Habits::of_ada("desk");
        habits.permits = Arc::new(Semaphore::new(ran_before));
        habits.loses = Arc::new(move |sequence| sequence == lost);
        let mut farm = Supervised::start(dir.path()).await;
        let worker = FakeWorker::start(dir.path(), habits);
        let job = farm.submit(ADA, in_environments()).await;
        eventually("so many ran", async || worker.seen().ran.len() == ran_before).await;
        eventually("it is entered", async || worker.seen().environments.len() == 2).await;
        worker.habits().loses = Arc::new(|_| false);
        if supervisor_dies {
            farm.running.die().await;
            farm = Supervised::start(dir.path()).await;
        } else {
            farm.running.app.service.dispatcher.cut_for_tests("desk");
        }
        eventually("the worker is back", async || worker.seen().hellos >= 2).await;
        worker.permit(1000);
        assert_eq!(farm.over(job).await["state"], "complete");
        eventually("all left", async || farm.get("/api/v1/farm").await["sessions_live"] == 0).await;
        let seen = worker.seen();
        assert_left(&seen.environments, seen.warrants.len());
        assert!(seen.killed.is_empty(), "{:?}", seen.killed);
        assert_eq!(seen.ran.len(), 21, "each once: {ran_before} {lost} {supervisor_dies}");
    }
}

/// A session that misses a batch refuses the next one: it leaves what it entered, and another one goes on.
#[tokio::test]
async fn a_batch_that_is_lost_ends_no_session_without_its_exits() {
    for (ran_before, lost) in [(1, 2), (5, 3)] {
        let dir = tempfile::tempdir().expect("dir");
        let mut habits = Habits::of_ada("desk");
        habits.permits = Arc::new(Semaphore::new(ran_before));
        let is_lost = AtomicBool::new(false);
        habits.loses = Arc::new(move |sequence| sequence == lost && !is_lost.swap(true, Ordering::Relaxed));
        let farm = Supervised::start(dir.path()).await;
        let worker = FakeWorker::start(dir.path(), habits);
        let job = farm.submit(ADA, in_environments()).await;
        eventually("the one behind it is refused", async || worker.seen().batches_refused > 0).await;
        worker.permit(1000);
        assert_eq!(farm.over(job).await["state"], "complete");
        eventually("all left", async || farm.get("/api/v1/farm").await["sessions_live"] == 0).await;
        let seen = worker.seen();
        assert_left(&seen.environments, 2);
        assert!(seen.killed.is_empty(), "{:?}", seen.killed);
        assert_eq!((seen.ran.len(), seen.hellos), (21, 1), "each once, on one connection");
    }
}

#[tokio::test]
async fn a_kill_of_one_task_while_the_worker_is_away_is_delivered() {
    let dir = tempfile::tempdir().expect("dir");
    let mut habits = Habits::of_ada("desk");
    habits.permits = Arc::new(Semaphore::new(1));
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(4)).await;
    eventually("the second is held", async || {
        let page = farm.get(&format!("/api/v1/jobs/{job}/tasks?task=1")).await;
        worker.seen().ran.len() == 1 && page[0]["state"] == "running"
    })
    .await;
    farm.running.die().await;
    let farm = Supervised::start(dir.path()).await;
    // Said before or after the worker is back, it is heard.
    let path = format!("/api/v1/jobs/{job}/kill");
    farm.ask(ADA, "POST", &path, json!({ "tasks": ["1"], "reason": "that one" })).await;
    eventually("the worker is back", async || worker.seen().hellos >= 2).await;
    let of = async |task: u64| farm.get(&format!("/api/v1/jobs/{job}/tasks?task={task}")).await[0].clone();
    eventually("it is killed", async || of(1).await["state"] == "killed").await;
    worker.permit(1000);
    assert_eq!(farm.over(job).await["tasks"]["complete"], 3);
    assert_eq!(of(1).await["reason"], "killed by ada: that one");
    assert!(!worker.seen().counts().contains_key(&1), "it never ran");
}

#[tokio::test]
async fn what_a_task_says_of_itself_is_shown() {
    let dir = tempfile::tempdir().expect("dir");
    let mut habits = Habits::of_ada("desk");
    habits.permits = Arc::new(Semaphore::new(1));
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(2)).await;
    let task = async |n: usize| farm.get(&format!("/api/v1/jobs/{job}/tasks")).await[n].clone();
    eventually("the second is held", async || worker.seen().ran.len() == 1 && task(1).await["state"] == "running")
        .await;
    let session = *worker.seen().warrants.keys().next().expect("one");
    let mut follower = farm.follow(ADA, &format!("/api/v1/events?job={job}")).await;
    let says = |session, index, hundredths, status: Option<&str>| {
        let (task, status) = (wire::Task { step: 0, index, epoch: 1 }, status.map(str::to_owned));
        worker.say(wire::FromWorker::Progress { session, task, hundredths, status });
    };
    says(session, 1, Some(4_250), None);
    says(session, 1, None, Some("half-way"));
    says(session + 7, 1, Some(9_900), None);
    eventually("it is shown", async || task(1).await["status"] == "half-way").await;
    assert_eq!(task(1).await["progress"], 42.5);
    assert_eq!((&task(0).await["progress"], &task(0).await["status"]), (&Value::Null, &Value::Null));
    let expected = json!({ "job": job, "step": 0, "task": 1, "progress": 42.5, "status": "half-way" });
    follower.until("task", &expected).await;
    worker.permit(10);
    farm.over(job).await;
    assert_eq!(task(1).await["progress"], Value::Null, "it is over");
}

#[tokio::test]
async fn a_launch_that_failed_is_tried_elsewhere_and_a_broken_host_gets_no_more() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut habits = Habits::in_user_mode("a");
    habits.hello.slots = 4;
    habits.refuses = Arc::new(|_| Some(("stage", "not permitted")));
    let broken = FakeWorker::start(dir.path(), habits.clone());
    let good = FakeWorker::start(dir.path(), Habits::in_user_mode("b"));
    eventually("both are here", async || farm.get("/api/v1/workers").await.as_array().map(Vec::len) == Some(2)).await;
    for _ in 0..2 {
        let job = farm.submit(ADA, frames(1)).await;
        assert_eq!(farm.over(job).await["state"], "complete");
        let tasks = farm.get(&format!("/api/v1/jobs/{job}/tasks")).await;
        let attempts = tasks[0]["attempts"].as_array().expect("array");
        let seen: Vec<_> = attempts.iter().map(|a| (&a["state"], &a["worker"])).collect();
        assert_eq!(seen, [(&json!("launch_failed"), &json!("a")), (&json!("complete"), &json!("b"))]);
    }
    let worker = async || farm.get("/api/v1/workers").await[0].clone();
    assert_eq!(worker().await["state"], "idle");
    let job = farm.submit(BOB, frames(1)).await;
    assert_eq!(farm.over_for(BOB, job).await["state"], "complete");
    assert_eq!(worker().await["state"], "panic");
    let reason = "3 launches in a row failed here, the last one at setgroups: not permitted";
    assert_eq!(worker().await["reason"], reason);
    // Not even its own word changes that, but a new beginning does.
    broken.say(wire::FromWorker::Panic { reason: None });
    let job = farm.submit(ADA, frames(1)).await;
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!(worker().await["reason"], reason);
    assert_eq!(broken.seen().warrants.len(), 3);
    assert_eq!(good.seen().ran.len(), 4);
    broken.crash();
    habits.refuses = Arc::new(|_| None);
    let _mended = FakeWorker::start(dir.path(), habits);
    eventually("it works again", async || worker().await["state"] == "idle").await;
}

/// What fails for one person only may be what that person asks for: nobody else loses the worker by it.
#[tokio::test]
async fn launches_that_fail_for_one_person_keep_a_worker_from_that_person_only() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut habits = Habits::in_user_mode("a");
    habits.refuses = Arc::new(|w| (w.login_user.as_str() == "ada").then_some(("stage", "no such limit")));
    let worker = FakeWorker::start(dir.path(), habits);
    for _ in 0..5 {
        farm.submit(ADA, frames(1)).await;
    }
    let last = farm.submit(ADA, frames(1)).await;
    let reason = async || farm.get(&format!("/api/v1/jobs/{last}")).await["reason"].clone();
    let held =
        "no worker: a: 3 launches of jobs of ada in a row failed there, the last one at setgroups: no such limit";
    eventually("it says why", async || reason().await.as_str().is_some_and(|r| r.starts_with(held))).await;
    assert_eq!(farm.get("/api/v1/workers").await[0]["state"], "idle");
    assert_eq!(worker.seen().warrants.len(), 3, "no more were tried");
    let bobs = farm.submit(BOB, frames(3)).await;
    assert_eq!(farm.over_for(BOB, bobs).await["state"], "complete");
    // The host works, so ada's jobs get another try.
    worker.habits().refuses = Arc::new(|_| None);
    assert_eq!(farm.over(last).await["state"], "complete");
}

/// A task for each text, whose `files` files each have it a thousand times.
fn of_size(texts: &[String], files: u32) -> Value {
    let file = |n| json!({ "name": format!("f{n}"), "type": "TEXT", "data": "{{Task.Param.S}}".repeat(1000) });
    let files: Vec<Value> = (0..files).map(file).collect();
    let template = json!({
        "specificationVersion": "jobtemplate-2023-09",
        "name": "large",
        "steps": [{
            "name": "one",
            "parameterSpace": { "taskParameterDefinitions": [{ "name": "S", "type": "STRING", "range": texts }] },
            "script": { "actions": { "onRun": { "command": "{{Task.File.f0}}" } }, "embeddedFiles": files },
        }],
    });
    json!({ "v": 1, "body": { "template": { "source": template.to_string() } } })
}

/// How large tasks are is not known before they are worked out; batches are cut where it shows.
#[tokio::test]
async fn tasks_that_grow_come_in_batches_that_do_not() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let texts = [vec!["x".to_owned(); 21], vec!["x".repeat(1024); 20]].concat();
    let job = farm.submit(ADA, of_size(&texts, 7)).await;
    let over = farm.over(job).await;
    assert_eq!((&over["state"], &over["reason"]), (&json!("complete"), &Value::Null));
    assert_eq!(worker.seen().counts(), all_once(41));
    // 7 MiB each: none shares its batch with another large one.
    let batches = worker.seen().batches.clone();
    assert!(batches.len() >= 20 && batches.iter().rev().take(19).all(|tasks| *tasks == 1), "{batches:?}");
    assert_eq!(worker.seen().warrants.len(), 1, "the session stayed");
}

#[tokio::test]
async fn a_task_that_no_session_can_be_given_blocks_the_job_and_says_why() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let job = farm.submit(ADA, of_size(&["x".to_owned(), "x".repeat(1024), "x".to_owned()], 9)).await;
    let job_now = async || farm.get(&format!("/api/v1/jobs/{job}")).await;
    eventually("it is blocked", async || job_now().await["state"] == "blocked").await;
    let reason = job_now().await["reason"].to_string();
    assert!(reason.contains("a task of step 0 can't be worked out") && reason.contains("8388608"), "{reason}");
    eventually("the session is gone", async || farm.get("/api/v1/farm").await["sessions_live"] == 0).await;
    assert_eq!(worker.seen().ran.len(), 1, "the first one");
    assert_eq!(worker.seen().warrants.len(), 1, "tried once");
    let tasks = farm.get(&format!("/api/v1/jobs/{job}/tasks")).await;
    assert_eq!((&tasks[0]["state"], &tasks[1]["state"]), (&json!("complete"), &json!("blocked")), "{tasks}");
    // Nobody else is held up.
    let other = farm.submit(ADA, frames(2)).await;
    assert_eq!(farm.over(other).await["state"], "complete");
}

/// However much waits in front for a worker that isn't there, what can run does.
#[tokio::test]
async fn a_long_queue_without_a_place_hides_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut urgent = frames(1);
    urgent["requires"] = json!("a-label-nobody-has");
    urgent["priority"] = json!(9);
    let first = farm.submit(ADA, urgent.clone()).await;
    let store = farm.running.app.service.store.clone();
    let row = store.job(first).await.expect("read").expect("there");
    let needs = store.ready(1, 2).await.expect("read").remove(0).needs;
    let step = store::NewStep { name: "render".to_owned(), tasks: 1, ..store::NewStep::default() };
    let many = (0..6000).map(|_| {
        let job = store::NewJob {
            name: row.name.clone(),
            login_user: row.login_user.clone(),
            user: row.user.clone(),
            priority: 9,
            spec: row.spec.clone(),
            steps: vec![store::NewStep { needs: needs.clone(), ..step.clone() }],
            ..store::NewJob::default()
        };
        store.submit(job, 1)
    });
    futures_util::future::try_join_all(many).await.expect("submitted");
    let worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let modest = farm.submit(ADA, frames(3)).await;
    assert_eq!(farm.over(modest).await["state"], "complete");
    assert_eq!(worker.seen().counts(), all_once(3));
    // Every one of them is told why, in the course of the next looks at the whole queue.
    let reason = async |job| farm.get(&format!("/api/v1/jobs/{job}")).await["reason"].clone();
    for job in [first, modest / 2, modest - 1] {
        let expected = "no worker: desk: the label a-label-nobody-has is missing";
        eventually("it says why", async || reason(job).await == expected).await;
    }
}

/// The end of a session that is stored when the supervisor dies is on record after the next start, once.
#[tokio::test]
async fn an_end_that_nobody_wrote_down_is_written_at_the_next_start() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), {
        let mut habits = Habits::of_ada("desk");
        habits.permits = Arc::new(Semaphore::new(1));
        habits
    });
    let first = farm.submit(ADA, frames(1)).await;
    assert_eq!(farm.over(first).await["state"], "complete");
    let ends = || {
        let chain = std::fs::read_to_string(dir.path().join("supervisor/audit/chain")).expect("chain");
        let end = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|r| r["act"] == "session_end");
        chain.lines().filter_map(end).collect::<Vec<_>>()
    };
    eventually("the first end is on record", async || ends().len() == 1).await;
    // From here on the audit takes nothing; then the supervisor is gone.
    let second = farm.submit(ADA, frames(1)).await;
    eventually("the second runs", async || !worker.seen().started.is_empty() && worker.seen().batches.len() == 2).await;
    farm.running.app.service.audit.fill_for_tests(true);
    worker.permit(1);
    assert_eq!(farm.over(second).await["state"], "complete");
    eventually("it is over", async || farm.get("/api/v1/farm").await["sessions_live"] == 0).await;
    assert_eq!(ends().len(), 1);
    farm.running.die().await;
    for start in 1..=2 {
        let farm = Supervised::start(dir.path()).await;
        let now = ends();
        assert_eq!(now.len(), 2, "after start {start}");
        assert_eq!((&now[1]["job"], now[1]["details"]["recorded"].is_string()), (&json!(second), true), "{}", now[1]);
        assert!(now[0]["details"]["recorded"].is_null(), "{}", now[0]);
        farm.running.die().await;
    }
}

/// A disk that is full under the audit holds work back; it costs nobody a try.
#[tokio::test]
async fn a_full_audit_disk_holds_work_back_and_loses_none() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let job = farm.submit(ADA, frames(5)).await;
    let audit = farm.running.app.service.audit.clone();
    audit.fill_for_tests(true);
    let body = json!({"spec": frames(1)});
    let (status, _) = farm.call(Peer::Unix { uid: ADA }, "POST", "/api/v1/jobs", body).await;
    assert_eq!(status.as_u16(), 503, "nothing is acknowledged that is not on record");
    let worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let job_now = async || farm.get(&format!("/api/v1/jobs/{job}")).await;
    eventually("it says why it waits", async || {
        job_now().await["reason"].as_str().is_some_and(|r| r.contains("audit"))
    })
    .await;
    assert_eq!(worker.seen().ran.len(), 0, "nothing runs without its record");
    audit.fill_for_tests(false);
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!(worker.seen().counts(), all_once(5));
}
