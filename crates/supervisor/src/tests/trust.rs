//! Whom the supervisor believes: which worker a name is, what is heard before a hello, warrants that are void.

use super::fake_worker::{FakeWorker, Habits};
use super::{ADA, BOB, Supervised, eventually, frames, operator};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;
use warrant::SecretKey;
use wire::{FromWorker, Report, Reports, SessionEnd};

async fn attempts(farm: &Supervised, job: u64) -> Vec<Value> {
    let tasks = farm.get(&format!("/api/v1/jobs/{job}/tasks")).await;
    let of = |task: &Value| task["attempts"].as_array().expect("attempts").clone();
    tasks.as_array().expect("tasks").iter().flat_map(of).collect()
}

/// An end of the session, told as the worker of that name.
fn ended(worker: &str, session: u64, first: u64) -> Reports {
    let end = Report::Ended { end: SessionEnd::Killed, text: String::new(), cpu_us: 0, max_rss: 0, proof: None };
    Reports { worker: worker.to_owned(), session, first, reports: vec![end] }
}

#[tokio::test]
async fn a_name_is_the_worker_of_the_account_that_had_it_first() {
    let dir = tempfile::tempdir().expect("dir");
    let (own, other) = (operator(), operator() + 1);
    let farm = Supervised::start(dir.path()).await;
    let habits = Habits { permits: Arc::new(Semaphore::new(1)), ..Habits::in_user_mode("node") };
    let hello = habits.hello.clone();
    let worker = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(4)).await;
    eventually("the second is held", async || worker.seen().batches.len() > 1).await;
    let session = *worker.seen().warrants.keys().next().expect("one");
    let refused =
        format!("the name node is the worker's of uid {own}, and this is uid {other}: give this worker another name");

    let dispatcher = &farm.running.app.service.dispatcher;
    let error = dispatcher.greet_for_tests(hello.clone(), other).await.expect_err("another account's");
    assert_eq!(error, refused);
    let (status, text) = farm.report(other, &ended("node", session, 1000)).await;
    assert_eq!(status, 403, "{text}");
    assert!(text.contains(&format!("worker node is uid {own}'s, and this is uid {other}")), "{text}");

    // The name is kept for a worker that is away, and over a restart of the supervisor.
    worker.habits().stays_away = true;
    farm.running.die().await;
    let farm = Supervised::start(dir.path()).await;
    let dispatcher = &farm.running.app.service.dispatcher;
    assert_eq!(dispatcher.greet_for_tests(hello, other).await.expect_err("another account's"), refused);
    assert_eq!(farm.report(other, &ended("node", session, 1)).await.0, 403);

    worker.habits().stays_away = false;
    worker.permit(1000);
    assert_eq!(farm.over(job).await["state"], "complete");
    assert!(worker.seen().refused.is_none(), "the first one goes on");
    assert_eq!(worker.seen().ran.len(), 4);
}

#[tokio::test]
async fn a_desktop_worker_is_its_owners_own() {
    let dir = tempfile::tempdir().expect("dir");
    let own = operator();
    let farm = Supervised::start(dir.path()).await;
    let dispatcher = &farm.running.app.service.dispatcher;
    let good = Habits::of_ada("desk").hello;
    let owned_by = |name: &str, uid: u32| {
        let owner = wire::Account { name: name.to_owned(), uid, gid: uid, groups: vec![uid] };
        wire::Hello { owner: Some(owner), ..good.clone() }
    };
    let not_the_peer = "a desktop worker has to run as its owner";
    for (hello, peer, expected) in [
        (owned_by("bob", own), own, not_the_peer),
        (owned_by("ada", ADA), own, not_the_peer),
        (owned_by("ada", own + 1), own + 1, "a desktop worker's account has to be known here"),
        (owned_by("ada", own), own + 1, "a desktop worker's account has to be known here"),
        (wire::Hello { owner: None, ..good.clone() }, own, "a desktop worker has to say whose it is"),
    ] {
        let error = dispatcher.greet_for_tests(hello, peer).await.expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    // None of them left anything behind.
    let worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let job = farm.submit(ADA, frames(2)).await;
    assert_eq!(farm.over(job).await["state"], "complete");
    assert!(worker.seen().refused.is_none());
}

/// What a person's program says of itself proves nothing: not with a key of its own, and not about another account.
#[tokio::test]
async fn a_desktop_worker_attests_nothing_and_is_nobody_else() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let signs = Habits { host_key: Some(Arc::new(SecretKey::from_seed(&[5; 32]))), ..Habits::of_ada("desk") };
    let worker = FakeWorker::start(dir.path(), signs);
    let job = farm.submit(ADA, frames(1)).await;
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!(attempts(&farm, job).await[0]["attested_by"], "worker");

    worker.habits().proves = Some("eve");
    let forged = farm.submit(ADA, frames(1)).await;
    let refused = async || farm.get("/api/v1/workers").await[0]["reason"].clone();
    eventually("no more work", async || refused().await.is_string()).await;
    let why = refused().await;
    let said = format!("it says it runs as \"eve\" (uid {0}); its worker is uid {0}", operator());
    assert!(why.as_str().expect("text").contains(&said), "{why}");
    let record = farm.ask(operator(), "GET", "/api/v1/audit?act=proof_refused", Value::Null).await.to_string();
    assert!(record.contains("\"outcome\":\"refused\"") && record.contains("eve"), "{record}");
    for attempt in attempts(&farm, forged).await {
        let run_as = &attempt["run_as"];
        assert!(
            run_as.is_null() || (&run_as["name"], &run_as["uid"]) == (&json!("ada"), &json!(operator())),
            "{run_as}"
        );
    }
}

/// Who is listed may have a worker of their own, and nothing more: others' sessions aren't there for them, and once
/// several people's jobs run under their account, neither are they.
#[tokio::test]
async fn a_listed_person_is_told_nothing_of_others_sessions_and_goes_when_the_account_is_shared() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let habits = Habits { permits: Arc::new(Semaphore::new(0)), ..Habits::in_user_mode("node") };
    let worker = FakeWorker::start(dir.path(), habits);
    farm.submit(ADA, frames(1)).await;
    eventually("a session", async || worker.seen().batches.len() == 1).await;
    let session = *worker.seen().warrants.keys().next().expect("one");
    let list = dir.path().join("desktop-owners");
    std::fs::write(&list, format!("bob {BOB}\n")).expect("list");
    std::fs::set_permissions(&list, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("mode");

    let mut hello = Habits::of_ada(&crate::desk_name("bob", BOB)).hello;
    hello.owner = Some(wire::Account { name: "bob".into(), uid: BOB, gid: BOB, groups: vec![] });
    hello.slots = 1;
    let dispatcher = &farm.running.app.service.dispatcher;
    let mut messages = dispatcher.greet_for_tests(hello.clone(), BOB).await.expect("taken");
    let reported = async |session: u64| farm.report(BOB, &ended("node", session, 1)).await;
    let (others, none) = (reported(session).await, reported(session + 1000).await);
    assert_eq!(others.0, 404, "{others:?}");
    assert_eq!(others.1.replace(&session.to_string(), "N"), none.1.replace(&(session + 1000).to_string(), "N"));

    farm.ask(operator(), "POST", "/api/v1/users", json!({"name": "bob", "type": "proxy"})).await;
    let shared = "bob is an account that jobs of several people run under";
    let mut said = String::new();
    while let Some(frame) = messages.recv().await {
        said.push_str(&String::from_utf8_lossy(&frame));
    }
    assert!(said.contains(shared), "sent away: {said}");
    let refused = dispatcher.greet_for_tests(hello, BOB).await.expect_err("not again");
    assert!(refused.contains(shared), "{refused}");
}

/// After a restart reports may be here before the hello. Their proofs are checked with the key known from before.
#[tokio::test]
async fn reports_before_the_hello_are_taken_and_their_proofs_checked() {
    for (signs_with, attested_by) in [([7; 32], "launcher"), ([9; 32], "worker")] {
        let dir = tempfile::tempdir().expect("dir");
        let mut habits =
            Habits { permits: Arc::new(Semaphore::new(0)), is_silent: true, ..Habits::in_user_mode("node") };
        habits.host_key = Some(Arc::new(SecretKey::from_seed(&signs_with)));
        let farm = Supervised::start(dir.path()).await;
        let worker = FakeWorker::start(dir.path(), habits);
        let job = farm.submit(ADA, frames(2)).await;
        eventually("a batch is there", async || worker.seen().batches.len() == 1).await;
        worker.habits().stays_away = true;
        farm.running.die().await;
        let farm = Supervised::start(dir.path()).await;
        worker.habits().is_silent = false;
        worker.permit(1);
        let complete = async || farm.get(&format!("/api/v1/jobs/{job}")).await["tasks"]["complete"] == 1;
        eventually("it is known to have run", complete).await;
        assert_eq!(worker.seen().hellos, 1, "not connected");
        let known = attempts(&farm, job).await;
        assert_eq!((known.len(), &known[0]["attested_by"]), (1, &json!(attested_by)), "{known:?}");
        worker.habits().stays_away = false;
        worker.permit(1000);
        assert_eq!(farm.over(job).await["state"], "complete");
        assert_eq!(worker.seen().ran.len(), 2, "each once");
    }
}

/// What can't be judged yet is neither believed nor thrown away: the worker is to try again.
#[tokio::test]
async fn reports_of_a_worker_that_was_never_seen_wait_for_its_hello() {
    for unknown in ["peer_uid/node", "host_key/node"] {
        let dir = tempfile::tempdir().expect("dir");
        let habits = Habits { permits: Arc::new(Semaphore::new(0)), ..Habits::in_user_mode("node") };
        let farm = Supervised::start(dir.path()).await;
        let worker = FakeWorker::start(dir.path(), habits);
        let job = farm.submit(ADA, frames(1)).await;
        eventually("a batch is there", async || worker.seen().batches.len() == 1).await;
        let session = *worker.seen().warrants.keys().next().expect("one");
        worker.crash();
        // As in a store of before names or keys were noted.
        farm.running.app.service.store.set_meta(unknown, "").await.expect("stored");
        farm.running.die().await;
        let farm = Supervised::start(dir.path()).await;
        let (status, text) = farm.report(operator(), &ended("node", session, 2)).await;
        assert_eq!(status, 503, "{unknown}: {text}");
        assert!(text.contains("worker node has not said hello yet: once it has, try again"), "{text}");
        let task = farm.get(&format!("/api/v1/jobs/{job}/tasks")).await[0].clone();
        assert_eq!(task["state"], "running", "{unknown}: nothing of it was taken in");
    }
}

/// A launcher takes no warrant that was made for the one before it.
fn takes_only(incarnation: [u8; 16]) -> Habits {
    let mut habits = Habits::in_user_mode("node");
    habits.refuses = Arc::new(move |w| {
        (w.incarnation != incarnation).then_some(("warrant", "the warrant is older than the launcher's start"))
    });
    habits
}

fn begins(incarnation: [u8; 16]) -> FromWorker {
    FromWorker::NewIncarnation { incarnation: warrant::hex(&incarnation), tick: 1_000_000, sealing_key: None }
}

#[tokio::test]
async fn a_void_warrant_is_replaced_by_a_new_one_and_is_no_attempt() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), takes_only([0x11; 16]));
    let job = farm.submit(ADA, frames(3)).await;
    let void = "node could not launch it: its warrant: the warrant is older than the launcher's start";
    eventually("it says why", async || farm.get(&format!("/api/v1/jobs/{job}")).await["reason"] == void).await;
    assert!(attempts(&farm, job).await.is_empty(), "nothing was tried");
    worker.say(begins([0x11; 16]));
    assert_eq!(farm.over(job).await["state"], "complete");
    let attempts = attempts(&farm, job).await;
    assert_eq!((attempts.len(), worker.seen().ran.len()), (3, 3), "each once: {attempts:?}");
    assert!(attempts.iter().all(|a| a["state"] == "complete"), "{attempts:?}");
    let seen = worker.seen();
    let made_for: Vec<[u8; 16]> = seen.warrants.values().map(|w| w.incarnation).collect();
    assert_eq!((made_for[0], made_for.last()), ([0; 16], Some(&[0x11; 16])), "a number is used once");
}

/// However many warrants were on their way to a launcher that ended, the next one is not to blame.
#[tokio::test]
async fn void_warrants_of_the_former_launcher_blame_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut habits = takes_only([0x11; 16]);
    (habits.hello.slots, habits.is_silent) = (5, true);
    let worker = FakeWorker::start(dir.path(), habits);
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(farm.submit(ADA, frames(1)).await);
    }
    eventually("four are on their way", async || worker.seen().warrants.len() == 4).await;
    worker.say(begins([0x11; 16]));
    // Until a warrant is made for it, the new launcher isn't known there.
    eventually("it is known", async || {
        jobs.push(farm.submit(ADA, frames(1)).await);
        worker.seen().warrants.values().any(|w| w.incarnation == [0x11; 16])
    })
    .await;
    worker.habits().is_silent = false;
    for job in &jobs {
        assert_eq!(farm.over(*job).await["state"], "complete");
        assert_eq!(attempts(&farm, *job).await.len(), 1);
    }
    assert_eq!(farm.get("/api/v1/workers").await[0]["state"], "idle");
    assert_eq!(worker.seen().ran.len(), jobs.len(), "each once");
}

#[tokio::test]
async fn a_launcher_that_takes_no_warrant_is_given_no_more_of_them() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut habits = Habits::in_user_mode("node");
    habits.refuses = Arc::new(|_| Some(("warrant", "the warrant is of another farm")));
    let worker = FakeWorker::start(dir.path(), habits);
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(farm.submit(ADA, frames(1)).await);
    }
    let node = async || farm.get("/api/v1/workers").await[0].clone();
    eventually("the worker is in panic", async || node().await["state"] == "panic").await;
    let reason = "3 launches in a row failed here, the last one at its warrant: the warrant is of another farm";
    assert_eq!(node().await["reason"], reason);
    assert_eq!(worker.seen().warrants.len(), 3);
    worker.habits().refuses = Arc::new(|_| None);
    worker.say(begins([0x22; 16]));
    for job in jobs {
        assert_eq!(farm.over(job).await["state"], "complete");
        assert_eq!(attempts(&farm, job).await.len(), 1, "a refused warrant is no attempt");
    }
    assert_eq!(worker.seen().ran.len(), 5);
}
