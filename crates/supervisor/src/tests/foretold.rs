//! What `explain` says is what dispatch does: random rows of users, lists and grants, written after jobs came in, on
//! workers of every mode. Each job may run on one worker only, so that its answer there is its fate.

use super::fake_worker::{FakeWorker, Habits};
use super::{ADA, BOB, Supervised, eventually, operator, spec};
use crate::authn::Peer;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

const WORKERS: [&str; 4] = ["node", "shared", "desk", "open"];
const WORLDS: usize = 10;
/// Everything is allowed: jobs come in.
const ALL_ALLOWED: &str = "
    INSERT INTO users (name, type) VALUES ('render', 'proxy');
    INSERT INTO users (name, roles) VALUES ('ada', 'impersonate'), ('bob', 'impersonate');
    INSERT INTO may_act (who, allowed) VALUES ('ada', TRUE), ('bob', TRUE);
    INSERT INTO may_be_acted_as (proxy_user, allowed) VALUES ('render', TRUE);
    INSERT INTO grants (login_user, proxy_user) VALUES ('ada', 'render'), ('bob', 'render');";

/// How somebody comes to submit.
#[derive(Debug, Clone, Copy)]
struct Submits {
    uid: u32,
    acting_as: Option<&'static str>,
    user: Option<&'static str>,
}

const SUBMITS: [Submits; 6] = [
    Submits { uid: ADA, acting_as: None, user: None },
    Submits { uid: ADA, acting_as: Some("render"), user: None },
    Submits { uid: BOB, acting_as: None, user: None },
    Submits { uid: BOB, acting_as: Some("render"), user: None },
    Submits { uid: ADA, acting_as: None, user: Some("bob") },
    Submits { uid: BOB, acting_as: None, user: Some("ada") },
];

/// SQL that leaves these rows and no others, at once.
fn rows(rows: &str) -> String {
    let empty = "DELETE FROM users; DELETE FROM may_act; DELETE FROM may_be_acted_as; DELETE FROM grants;";
    format!("BEGIN IMMEDIATE; {empty} {rows} COMMIT;")
}

fn any_user(name: &'static str) -> impl Strategy<Value = String> {
    let usual = if name == "render" { "'proxy'" } else { "'login'" };
    let kind = prop_oneof![8 => Just(usual), 1 => select(vec!["'login'", "'proxy'", "'Proxy'"])];
    let roles = select(vec!["''", "'impersonate'", "'admin'", "'auditor'", "'wizard'"]);
    let roles = if name == "render" { Just("''").boxed() } else { roles.boxed() };
    let workers = prop_oneof![6 => Just("NULL"), 1 => Just("'farm'"), 1 => Just("'worker=open'")];
    let environment = prop_oneof![9 => Just("NULL"), 1 => Just("'no table'")];
    let row =
        (kind, roles, prop::bool::weighted(0.1), workers, environment).prop_map(move |(kind, roles, off, w, e)| {
            let off = u8::from(off);
            format!(
                "INSERT INTO users (name, type, roles, disabled, workers, environment) \
             VALUES ('{name}', {kind}, {roles}, {off}, {w}, {e});"
            )
        });
    prop_oneof![1 => Just(String::new()), 7 => row]
}

fn any_allowed(table: &'static str, column: &'static str, name: &'static str) -> impl Strategy<Value = String> {
    let said =
        prop_oneof![6 => Just(Some("TRUE")), 1 => Just(Some("FALSE")), 1 => Just(Some("'perhaps'")), 1 => Just(None)];
    said.prop_map(move |said| {
        let row = |said| format!("INSERT INTO {table} ({column}, allowed) VALUES ('{name}', {said});");
        said.map(row).unwrap_or_default()
    })
}

fn any_grant() -> impl Strategy<Value = String> {
    let (past, future) = ("'2001-01-01T00:00:00Z'", "'2999-01-01T00:00:00Z'");
    (
        select(vec!["ada", "ada", "bob", "group:artists", "group:nobody", "*"]),
        prop_oneof![6 => Just("'active'"), 1 => select(vec!["'revoked'", "'requested'", "'alive'"])],
        prop_oneof![4 => Just("NULL"), 1 => Just(past), 1 => Just(future), 1 => Just("'soon'")],
        prop_oneof![4 => Just("NULL"), 2 => Just(future), 1 => Just(past)],
        prop_oneof![4 => Just("NULL"), 1 => Just("'farm'"), 1 => Just("'worker=desk'"), 1 => Just("''")],
        prop_oneof![4 => Just("NULL"), 2 => Just("'shot_*'"), 1 => Just("','")],
    )
        .prop_map(|(who, state, from, until, workers, jobs)| {
            format!(
                "INSERT INTO grants (login_user, proxy_user, state, valid_from, valid_until, workers, jobs) \
                 VALUES ('{who}', 'render', {state}, {from}, {until}, {workers}, {jobs});"
            )
        })
}

fn any_world() -> impl Strategy<Value = String> {
    let lists = (
        any_allowed("may_act", "who", "ada"),
        any_allowed("may_act", "who", "bob"),
        any_allowed("may_act", "who", "group:artists"),
        any_allowed("may_be_acted_as", "proxy_user", "render"),
    );
    let users = (any_user("ada"), any_user("bob"), any_user("render"));
    (users, lists, prop::collection::vec(any_grant(), 0..5)).prop_map(|((a, b, c), (d, e, f, g), grants)| {
        [a, b, c, d, e, f, g].into_iter().chain(grants).collect::<Vec<_>>().join("\n")
    })
}

struct World {
    farm: Supervised,
    workers: Vec<FakeWorker>,
    dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let farm = Supervised::start(dir.path()).await;
        let desktop = |name: &str, accept: &[&str]| {
            let mut habits = Habits::of_ada(name);
            habits.hello.accept = accept.iter().map(|a| (*a).to_owned()).collect();
            habits
        };
        let mut node = Habits::in_user_mode("node");
        node.hello.labels = vec!["farm".to_owned()];
        let mut shared = Habits::in_user_mode("shared");
        shared.set_key([9; 32]);
        shared.hello.mode = "proxy".to_owned();
        shared.hello.proxy_account = Some("qubeproxy".to_owned());
        let all = [node, shared, desktop("desk", &[]), desktop("open", &["any"])];
        let workers = all.into_iter().map(|habits| FakeWorker::start(dir.path(), habits)).collect();
        let world = Self { farm, workers, dir };
        let there =
            async || world.ask("/api/v1/workers").await.as_array().is_some_and(|all| all.len() == WORKERS.len());
        eventually("the workers are there", there).await;
        world
    }

    async fn ask(&self, path: &str) -> Value {
        self.farm.ask(operator(), "GET", path, Value::Null).await
    }

    async fn drain(&self, drained: bool) {
        for worker in WORKERS {
            let body = json!({ "drained": drained });
            self.farm.ask(operator(), "POST", &format!("/api/v1/workers/{worker}/drain"), body).await;
        }
    }

    /// Status and answer.
    async fn submit(&self, how: Submits, name: &str, worker: &str) -> (u16, Value) {
        let mut job = spec(json!({ "argv": ["true"] }));
        (job["name"], job["requires"]) = (json!(name), json!(format!("worker={worker}")));
        let mut body = json!({ "spec": job });
        if let Some(user) = how.user {
            body["user"] = json!(user);
        }
        let headers: Vec<_> = how.acting_as.map(|name| ("stead-as", name)).into_iter().collect();
        let (status, _, answer) =
            self.farm.send(Peer::Unix { uid: how.uid }, ("POST", "/api/v1/jobs"), &headers, body).await;
        (status.as_u16(), answer)
    }

    /// The accounts that a job had warrants for, with where.
    fn ran(&self, job: u64) -> Vec<(&'static str, String)> {
        let mut ran = Vec::new();
        for (name, worker) in WORKERS.into_iter().zip(&self.workers) {
            let seen = worker.seen();
            ran.extend(seen.warrants.values().filter(|w| w.job == job).map(|w| match &w.account {
                warrant::Account::Named { name: account, .. } => (name, account.to_string()),
                warrant::Account::Throwaway => (name, "throwaway".to_owned()),
            }));
        }
        ran
    }

    /// What becomes of a job is what was said of it.
    async fn comes_true(&self, job: u64, worker: &'static str, rows: &str) {
        let told = self.ask(&format!("/api/v1/jobs/{job}/explain")).await;
        let of_worker = |all: &Value| all.as_array().expect("workers").iter().find(|v| v["worker"] == worker).cloned();
        let told = of_worker(&told["workers"]).expect("the worker's answer");
        let what = format!("{told:#} of job {job} on {worker}, with {rows}");
        let row = async || self.ask(&format!("/api/v1/jobs/{job}")).await;
        if told["verdict"] == "run" {
            let account = told["run_as"]["name"].as_str().expect("an account").to_owned();
            eventually(&what, async || row().await["state"] == "complete").await;
            assert_eq!(self.ran(job), [(worker, account)], "{what}");
            return;
        }
        assert_eq!(told["verdict"], "refused", "{what}");
        let why = told["refused"]["text"].as_str().expect("why").to_owned();
        eventually(&what, async || {
            let row = row().await;
            // Where the user's row refuses, too, that may be said first; and where no worker will do, one reason is
            // said for all of them.
            let carries = ["ada", "bob", "render"].map(|user| format!("what {user} carries"));
            let too = carries.iter().filter(|_| rows.contains("'no table'"));
            let says = |reason: &str| too.clone().chain([&why]).any(|part| reason.contains(part));
            let reason = row["reason"].as_str().unwrap_or_default();
            (row["state"] == "blocked" && says(reason)) || (row["state"] == "pending" && !reason.is_empty())
        })
        .await;
        assert_eq!(self.ran(job), [], "{what}");
    }
}

/// The rule that refuses: the request, or what it asks about.
fn rule(answer: &Value) -> Option<&str> {
    answer["error"]["rule"].as_str().or(answer["refused"]["rule"].as_str())
}

#[tokio::test]
async fn what_is_explained_is_what_is_done() {
    let mut runner = TestRunner::default();
    let world = World::start().await;
    let (mut ran, mut refused) = (0, 0);
    for _ in 0..WORLDS {
        let sql = any_world().new_tree(&mut runner).expect("a world").current();
        world.farm.by_hand(world.dir.path(), &rows(ALL_ALLOWED)).await;
        world.drain(true).await;
        let mut jobs = Vec::new();
        for how in SUBMITS {
            let pick = (select(WORKERS.to_vec()), select(vec!["shot_1", "comp_1"]));
            let (worker, name) = pick.new_tree(&mut runner).expect("a job").current();
            let (status, answer) = world.submit(how, name, worker).await;
            assert_eq!(status, 201, "{how:?}: {answer}");
            jobs.push((answer["job"].as_u64().expect("a job"), worker));
        }
        world.farm.by_hand(world.dir.path(), &rows(&sql)).await;
        // What is asked before it is submitted.
        // `user` asks there as if another had signed in, which is something else.
        for how in SUBMITS.into_iter().filter(|how| how.user.is_none()) {
            let path = how.acting_as.map_or("/api/v1/explain".to_owned(), |user| format!("/api/v1/explain?as={user}"));
            let peer = Peer::Unix { uid: how.uid };
            let (_, _, told) = world.farm.send(peer, ("GET", &path), &[], Value::Null).await;
            // No label of any worker: it stays where it is.
            let (status, answer) = world.submit(how, "shot_2", "nowhere").await;
            let refusal = rule(&answer);
            assert_eq!(status == 201, refusal.is_none(), "{answer}");
            // What the user carries is said of each worker.
            let workers = told["workers"].as_array().into_iter().flatten();
            let everywhere = workers.map(rule).reduce(|a, b| a.filter(|_| a == b)).flatten();
            let said = rule(&told).or(everywhere.filter(|_| refusal.is_some()));
            assert_eq!(said, refusal, "{how:?} with {sql}\n{told:#}");
        }
        world.drain(false).await;
        for (job, worker) in jobs {
            world.comes_true(job, worker, &sql).await;
            if world.ran(job).is_empty() { refused += 1 } else { ran += 1 }
        }
    }
    assert!(ran > 0 && refused > 0, "{ran} ran, {refused} were refused: the worlds are all of one kind");
}
