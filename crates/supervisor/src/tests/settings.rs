//! What a proxy user carries reaches its jobs, is read anew each time, and is never ignored.

use super::fake_worker::{FakeWorker, Habits};
use super::{ADA, Supervised, eventually, frames, operator};
use crate::authn::Peer;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;

const MIB: u64 = 1 << 20;

fn carried() -> Value {
    json!({
        "name": "render", "type": "proxy", "environment": { "SHOW": "winter", "OCIO": "/render" },
        "working_root": "/shots", "workers": "gpu", "default_cpus_milli": 500, "max_cpus_milli": 1000,
        "default_memory": 64 * MIB, "max_memory": 128 * MIB,
    })
}

/// Two workers, of which the one called `gpu` has the label; ada acts as render.
async fn farm(data: &Path, permits: usize) -> (Supervised, FakeWorker, FakeWorker) {
    let farm = Supervised::start(data).await;
    let worker = |name: &str, labels: Vec<String>| {
        let mut habits = Habits::of_ada(name);
        (habits.hello.accept, habits.hello.labels) = (vec!["any".to_owned()], labels);
        habits.permits = Arc::new(Semaphore::new(permits));
        FakeWorker::start(data, habits)
    };
    let workers = (worker("gpu", vec!["gpu".to_owned()]), worker("plain", Vec::new()));
    farm.ask(operator(), "POST", "/api/v1/users", carried()).await;
    let given = json!({ "login_user": "ada", "proxy_user": "render" });
    farm.ask(operator(), "POST", "/api/v1/grants", given).await;
    farm.ask(ADA, "PUT", "/api/v1/as", json!({ "proxy_user": "render" })).await;
    (farm, workers.0, workers.1)
}

async fn refused(farm: &Supervised, uid: u32, path: &str, body: Value) -> (u16, Value) {
    let (status, bytes) = farm.call(Peer::Unix { uid }, "POST", path, body).await;
    (status.as_u16(), serde_json::from_slice::<Value>(&bytes).expect("json")["error"].clone())
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn until_blocked(farm: &Supervised, job: u64, said: &str) {
    eventually(said, async || {
        let job = farm.get(&format!("/api/v1/jobs/{job}")).await;
        job["state"] == "blocked" && job["reason"].as_str().is_some_and(|r| r.contains(said))
    })
    .await;
}

#[tokio::test]
async fn what_a_proxy_user_carries_reaches_its_jobs() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, gpu, plain) = farm(dir.path(), Semaphore::MAX_PERMITS).await;
    let bare = farm.submit(ADA, frames(1)).await;
    farm.over(bare).await;
    let mut own = frames(1);
    (own["env"], own["cwd"]) = (json!({ "OCIO": "/own" }), json!("/own"));
    (own["cpus_milli"], own["memory"]) = (json!(1000), json!(128 * MIB));
    let own = farm.submit(ADA, own).await;
    farm.over(own).await;
    {
        let seen = gpu.seen();
        let limits: Vec<_> = seen.warrants.values().map(|w| (w.job, w.limits.cpu_milli, w.limits.memory)).collect();
        assert_eq!(limits, [(bare, 500, 64 * MIB), (own, 1000, 128 * MIB)]);
        let expected = [
            (variables(&[("OCIO", "/render"), ("SHOW", "winter")]), Some("/shots".to_owned())),
            (variables(&[("OCIO", "/own"), ("SHOW", "winter")]), Some("/own".to_owned())),
        ];
        assert_eq!(seen.surroundings, expected);
        assert!(plain.seen().warrants.is_empty(), "it has no such label");
    }
    // A person's jobs get nothing of it.
    farm.ask(ADA, "DELETE", "/api/v1/as", Value::Null).await;
    let herself = farm.submit(ADA, frames(1)).await;
    farm.over(herself).await;
    let seen = [gpu.seen().surroundings.clone(), plain.seen().surroundings.clone()].concat();
    assert!(seen.contains(&(BTreeMap::new(), None)), "{seen:?}");
}

#[tokio::test]
async fn more_than_it_may_have_is_refused_and_held_when_that_changes() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, gpu, _plain) = farm(dir.path(), 0).await;
    for (field, value, rule) in [("cpus_milli", 2000, "max_cores"), ("memory", 256 * MIB, "max_memory")] {
        let mut greedy = frames(1);
        greedy[field] = json!(value);
        let (status, error) = refused(&farm, ADA, "/api/v1/jobs", json!({ "spec": greedy })).await;
        assert_eq!((status, &error["rule"]), (403, &json!(rule)), "{error}");
        assert!(error["hint"].as_str().is_some_and(|h| h.contains("stead users add render")), "{error}");
    }
    let mut most = frames(4);
    most["cpus_milli"] = json!(1000);
    let running = farm.submit(ADA, most.clone()).await;
    most["requires"] = json!("tape");
    let queued = farm.submit(ADA, most).await;
    eventually("a task runs", async || gpu.seen().warrants.len() == 1).await;
    farm.by_hand(dir.path(), "UPDATE users SET default_cpus_milli = 100, max_cpus_milli = 500").await;
    gpu.permit(1);
    until_blocked(&farm, running, "asks for 1 cores, and jobs of render get 0.500 at most").await;
    until_blocked(&farm, queued, "get 0.500 at most").await;
    assert_eq!(gpu.seen().ran.len(), 1, "what ran came to its end, and nothing followed");
}

#[tokio::test]
async fn what_it_carries_is_read_at_every_batch() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, gpu, plain) = farm(dir.path(), 0).await;
    let job = farm.submit(ADA, frames(400)).await;
    eventually("a task is there", async || gpu.seen().surroundings.len() == 1).await;
    farm.by_hand(dir.path(), r#"UPDATE users SET environment = '{"SHOW": "spring"}', working_root = NULL"#).await;
    gpu.permit(1);
    eventually("the next batch is there", async || gpu.seen().surroundings.len() >= 2).await;
    assert_eq!(gpu.seen().surroundings[1], (variables(&[("SHOW", "spring")]), None));
    // Other workers: the session here ends, and what is left goes there.
    farm.by_hand(dir.path(), "UPDATE users SET workers = 'worker=plain'").await;
    gpu.permit(1000);
    plain.permit(1000);
    farm.over(job).await;
    assert!(!plain.seen().ran.is_empty(), "the rest ran where it may");
    assert!(gpu.seen().ran.len() < 400);
}

#[tokio::test]
async fn what_cannot_be_understood_lets_nothing_run() {
    for (column, value, said) in [
        ("environment", "'SHOW=winter'", "no JSON object"),
        ("environment", r#"'{"LD_PRELOAD": "/tmp/x.so"}'"#, "LD_PRELOAD can't be set"),
        ("working_root", "'shots'", "working_root"),
        ("workers", "'gpu,,'", "workers"),
        ("max_memory", "1", "max_memory"),
        ("max_cpus_milli", "'many'", "max_cpus_milli"),
    ] {
        let dir = tempfile::tempdir().expect("dir");
        let (farm, gpu, _plain) = farm(dir.path(), 0).await;
        let job = farm.submit(ADA, frames(3)).await;
        eventually("a task runs", async || gpu.seen().warrants.len() == 1).await;
        farm.by_hand(dir.path(), &format!("UPDATE users SET {column} = {value} WHERE name = 'render'")).await;
        let (status, error) = refused(&farm, ADA, "/api/v1/jobs", json!({ "spec": frames(1) })).await;
        assert_eq!(status, 403, "{column}: {error}");
        gpu.permit(100);
        eventually(said, async || {
            let job = farm.ask(operator(), "GET", &format!("/api/v1/jobs/{job}"), Value::Null).await;
            job["state"] == "blocked"
                && job["reason"].as_str().is_some_and(|r| r.contains(said) || column == "max_cpus_milli")
        })
        .await;
        assert_eq!(gpu.seen().ran.len(), 1, "{column}");
    }
}

#[tokio::test]
async fn an_administrator_is_told_what_cannot_be_carried() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    for (field, value) in [
        ("environment", json!({ "HOME": "/root" })),
        ("environment", json!({ "A B": "x" })),
        ("working_root", json!("shots")),
        ("workers", json!("gpu,,")),
        ("max_cpus_milli", json!(100)),
        ("max_memory", json!(5)),
    ] {
        let mut user = carried();
        user[field] = value;
        let (status, error) = refused(&farm, operator(), "/api/v1/users", user).await;
        assert_eq!(status, 400, "{field}: {error}");
    }
}
