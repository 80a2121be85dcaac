//! Qube!'s files: what they say is in force everywhere at once, a wrong one changes nothing, what runs keeps its account.

use super::fake_worker::{FakeWorker, Habits};
use super::{ADA, BOB, Supervised, eventually, frames, operator, verified};
use crate::authn::Peer;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;
use wire::{Own, OwnSetting};

const RELOAD: &str = "/api/v1/configuration/reload";

/// A farm with a qbwrk.conf that says this.
struct Farm {
    dir: tempfile::TempDir,
    supervised: Supervised,
}

impl Farm {
    async fn start(qbwrk: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(file(dir.path()), qbwrk).expect("qbwrk.conf");
        let conf = dir.path().join("supervisor.toml");
        std::fs::write(&conf, format!("qbwrk_conf = {:?}\n", file(dir.path()))).expect("supervisor.toml");
        let supervised = Supervised::configured(dir.path(), Some(conf)).await;
        Self { dir, supervised }
    }

    fn edit(&self, qbwrk: &str) {
        std::fs::write(file(self.dir.path()), qbwrk).expect("qbwrk.conf");
    }

    async fn reload(&self) -> Value {
        self.supervised.ask(operator(), "POST", RELOAD, Value::Null).await
    }

    async fn worker(&self, name: &str) -> Value {
        let workers = self.supervised.get("/api/v1/workers").await;
        let found = workers.as_array().expect("a list").iter().find(|w| w["name"] == name).cloned();
        found.unwrap_or(Value::Null)
    }

    async fn is(&self, name: &str, state: &str) {
        eventually(&format!("{name} is {state}"), async || self.worker(name).await["state"] == state).await;
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("qbwrk.conf")
}

fn who(worker: &Value) -> (&str, Option<&str>) {
    (worker["mode"].as_str().expect("a mode"), worker["proxy_account"].as_str())
}

fn own(lookup: &str, settings: &[(&str, &str)]) -> Own {
    let setting = |(key, value): &(&str, &str)| OwnSetting {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
        file: "worker.toml".to_owned(),
        line: 0,
    };
    Own { lookup: lookup.to_owned(), settings: settings.iter().map(setting).collect() }
}

#[tokio::test]
async fn fifty_workers_have_what_the_file_says_after_one_reload() {
    let farm = Farm::start("[default]\nproxy_execution_mode = user\n").await;
    let names: Vec<String> = (1..=50).map(|n| format!("lin-{n:02}")).collect();
    let workers: Vec<FakeWorker> =
        names.iter().map(|n| FakeWorker::start(farm.dir.path(), Habits::in_user_mode(n))).collect();
    for name in &names {
        farm.is(name, "idle").await;
    }
    farm.edit("[default]\nproxy_account = render\n[lin-[01-10]]\nproxy_account = comp\nworker_cpus = 3\n");
    let answer = farm.reload().await;
    assert_eq!((&answer["workers"], &answer["told"], &answer["late"]), (&json!(50), &json!(50), &json!([])));
    for (name, worker) in names.iter().zip(&workers) {
        let account = if name.as_str() <= "lin-10" { "comp" } else { "render" };
        let seen = worker.seen().settings.clone();
        let expected = [("user".to_owned(), None), ("proxy".to_owned(), Some(account.to_owned()))];
        assert_eq!(seen, expected, "{name}");
        let view = farm.worker(name).await;
        assert_eq!((who(&view), &view["state"]), (("proxy", Some(account)), &json!("idle")), "{name}");
        assert_eq!(view["settings"], "central");
        assert_eq!(view["slots"], if account == "comp" { 3 } else { 1 });
    }
    let again = farm.reload().await;
    assert_eq!((&again["changed"], &again["told"]), (&json!(0), &json!(0)), "nothing new");
}

#[tokio::test]
async fn what_runs_keeps_its_account_and_what_follows_has_the_new_one() {
    let farm = Farm::start("[default]\nproxy_execution_mode = user\n").await;
    let permits = Arc::new(Semaphore::new(0));
    let worker = FakeWorker::start(farm.dir.path(), Habits { permits, ..Habits::in_user_mode("lin-07") });
    farm.is("lin-07", "idle").await;
    let job = farm.supervised.submit(ADA, frames(2)).await;
    eventually("the first task is with the worker", async || worker.seen().batches.len() == 1).await;
    farm.edit("[default]\nproxy_execution_mode = proxy\n[lin-07]\nproxy_account = render\n");
    farm.reload().await;
    worker.permit(2);
    let job = farm.supervised.over(job).await;
    assert_eq!(job["state"], "complete");
    let warrants: Vec<(String, String)> = {
        let seen = worker.seen();
        let words = |w: &warrant::Warrant| (w.mode.as_str().to_owned(), format!("{:?}", w.account));
        seen.warrants.values().map(words).collect()
    };
    assert_eq!(warrants.len(), 2, "{warrants:?}");
    assert!(warrants[0].0 == "user" && warrants[0].1.contains("\"ada\""), "{warrants:?}");
    assert!(warrants[1].0 == "proxy" && warrants[1].1.contains("\"render\""), "{warrants:?}");
    assert!(worker.seen().killed.is_empty());
    let sessions: Vec<u64> = worker.seen().ran.iter().map(|(session, _)| *session).collect();
    assert_eq!(sessions.len(), 2);
    assert_ne!(sessions[0], sessions[1], "the second task has a session of its own");
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_says_where_and_is_on_record() {
    let farm = Farm::start("[default]\nproxy_execution_mode = user\n").await;
    let worker = FakeWorker::start(farm.dir.path(), Habits::in_user_mode("lin-07"));
    farm.is("lin-07", "idle").await;
    for (wrong, part) in [
        ("[default]\nproxy_execution_mode = prxy\n", "qbwrk.conf:2: error: proxy_execution_mode = \"prxy\""),
        ("[lin-07] : farm\nproxy_account = render\n", "qbwrk.conf:1: error: [lin-07] inherits from [farm]"),
        ("[default]\nworker_cpus = 2\nproxy_acount = a\n", "(did you mean proxy_account?)"),
    ] {
        farm.edit(wrong);
        let (status, body) = farm.supervised.call(Peer::Unix { uid: operator() }, "POST", RELOAD, Value::Null).await;
        let body = String::from_utf8(body).expect("text");
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(body.replace("\\\"", "\"").contains(part), "{body}");
    }
    let writable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    farm.edit("[default]\nproxy_execution_mode = proxy\n");
    std::fs::set_permissions(file(farm.dir.path()), writable).expect("chmod");
    let (status, body) = farm.supervised.call(Peer::Unix { uid: operator() }, "POST", RELOAD, Value::Null).await;
    assert!(status == StatusCode::BAD_REQUEST && String::from_utf8_lossy(&body).contains("chmod o-w"));
    std::fs::remove_file(file(farm.dir.path())).expect("removed");
    let (status, _) = farm.supervised.call(Peer::Unix { uid: operator() }, "POST", RELOAD, Value::Null).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a file that is named has to be there");
    assert_eq!(who(&farm.worker("lin-07").await), ("user", None));
    assert_eq!(worker.seen().settings, [("user".to_owned(), None)], "it was told nothing");
    // Ada may not.
    let (status, _) = farm.supervised.call(Peer::Unix { uid: ADA }, "POST", RELOAD, Value::Null).await;
    assert_eq!(status, StatusCode::FORBIDDEN);

    farm.edit("[default]\nproxy_execution_mode = proxy\nproxy_password = hunter2\n");
    let answer = farm.reload().await;
    let change = answer["changes"].as_array().expect("a list")[0].as_str().expect("text").to_owned();
    assert!(change.starts_with("lin-07: proxy_execution_mode: user -> proxy (") && change.contains("qbwrk.conf:2"));
    let audit = std::fs::read_to_string(farm.dir.path().join("supervisor/audit/chain")).expect("the audit");
    let records: Vec<&str> = audit.lines().filter(|l| l.contains("\"configuration\"")).collect();
    assert_eq!(records.iter().filter(|r| r.contains("\"failed\"")).count(), 5, "{records:?}");
    assert!(records.last().is_some_and(|r| r.contains("user -> proxy")), "{records:?}");
    assert!(!audit.contains("hunter2") && !answer.to_string().contains("hunter2"));
    verified(farm.dir.path());
}

#[tokio::test]
async fn an_account_that_is_not_there_is_panic_until_it_is_mended() {
    let farm = Farm::start("[default]\nproxy_account = ghost\n").await;
    let worker = FakeWorker::start(farm.dir.path(), Habits::in_user_mode("lin-07"));
    farm.is("lin-07", "panic").await;
    eventually("it says why", async || farm.worker("lin-07").await["reason"] == "there is no ghost").await;
    let job = farm.supervised.submit(ADA, frames(1)).await;
    let path = format!("/api/v1/jobs/{job}");
    eventually("the job waits", async || !farm.supervised.get(&path).await["reason"].is_null()).await;
    assert!(worker.seen().warrants.is_empty());
    farm.edit("[default]\nproxy_account = render\n");
    farm.reload().await;
    assert_eq!(farm.supervised.over(job).await["state"], "complete");
    assert_eq!(who(&farm.worker("lin-07").await), ("proxy", Some("render")));
}

#[tokio::test]
async fn a_worker_that_does_not_answer_takes_no_jobs_as_anybody() {
    let farm = Farm::start("[default]\nproxy_execution_mode = user\n").await;
    let worker = FakeWorker::start(farm.dir.path(), Habits::in_user_mode("lin-07"));
    farm.is("lin-07", "idle").await;
    worker.habits().settles = Arc::new(|_| None);
    farm.edit("[default]\nproxy_account = render\n");
    assert_eq!(farm.reload().await["late"], json!(["lin-07"]));
    let view = farm.worker("lin-07").await;
    assert_eq!(
        (&view["state"], &view["reason"]),
        (&json!("panic"), &json!("it has not taken over its new settings yet"))
    );
    let job = farm.supervised.submit(ADA, frames(1)).await;
    let path = format!("/api/v1/jobs/{job}");
    eventually("the job waits", async || !farm.supervised.get(&path).await["reason"].is_null()).await;
    assert!(worker.seen().warrants.is_empty());
}

/// The host has the last word: what its launcher does not allow is shown, and mended by another setting.
#[tokio::test]
async fn a_mode_that_the_host_does_not_allow_is_panic_until_the_file_says_another() {
    let farm = Farm::start("[default]\nproxy_execution_mode = user\n").await;
    let mut habits = Habits::in_user_mode("lin-07");
    habits.refuses_by = "mode_not_allowed";
    habits.refuses = Arc::new(|warrant| {
        (warrant.mode == warrant::Mode::User).then_some(("local_policy", "this host does not allow user mode"))
    });
    let worker = FakeWorker::start(farm.dir.path(), habits);
    farm.is("lin-07", "idle").await;
    let job = farm.supervised.submit(ADA, frames(1)).await;
    farm.is("lin-07", "panic").await;
    let reason = farm.worker("lin-07").await["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("this host does not allow user mode (mode_not_allowed"), "{reason}");
    farm.edit("[default]\nproxy_account = render\n");
    farm.reload().await;
    assert_eq!(farm.supervised.over(job).await["state"], "complete");
    assert_eq!(worker.seen().ran.len(), 1);
}

#[tokio::test]
async fn the_hosts_own_file_says_whose_word_counts() {
    let farm = Farm::start("[default]\nproxy_account = render\nworker_groups = farm\n").await;
    let with = |name: &str, own| {
        let mut habits = Habits::in_user_mode(name);
        habits.hello.own = own;
        FakeWorker::start(farm.dir.path(), habits)
    };
    let user = &[("proxy_execution_mode", "user"), ("worker_cpus", "2")];
    let _workers = [
        with("central", own("", user)),
        with("later", own("supervisor,local", user)),
        with("alone", own("local", user)),
        with("none", own("supervisor", user)),
    ];
    let cases = [
        // proxy_execution_mode is not said centrally: the host's word stands where it may.
        ("central", "user", 2, "mixed"),
        ("later", "user", 2, "mixed"),
        ("alone", "user", 2, "local"),
        ("none", "proxy", 1, "central"),
    ];
    for (name, mode, slots, said_by) in cases {
        farm.is(name, "idle").await;
        let view = farm.worker(name).await;
        assert_eq!((who(&view).0, &view["slots"], &view["settings"]), (mode, &json!(slots), &json!(said_by)), "{name}");
    }
    farm.edit("[default]\nproxy_account = render\nproxy_execution_mode = proxy\n");
    farm.reload().await;
    for (name, mode) in [("central", "proxy"), ("later", "user"), ("alone", "user"), ("none", "proxy")] {
        assert_eq!(who(&farm.worker(name).await).0, mode, "{name}");
    }
    let shown = farm.supervised.ask(BOB, "GET", "/api/v1/workers/central/configuration", Value::Null).await;
    let of = |key: &str| {
        let list = shown["settings"].as_array().expect("a list");
        let found = list.iter().find(|s| s["key"] == key).expect("the key");
        (found["value"].as_str().expect("text").to_owned(), found["from"].as_str().expect("text").to_owned())
    };
    assert!(of("proxy_execution_mode").1.ends_with("qbwrk.conf:3 [default]"), "{shown}");
    assert_eq!(of("worker_cpus"), ("2".to_owned(), "worker.toml".to_owned()));
    assert_eq!(of("worker_cluster"), ("/".to_owned(), "built in".to_owned()));
    assert_eq!((&shown["lookup"], &shown["said_by"]), (&json!("local,supervisor"), &json!("mixed")));
    let (status, _) =
        farm.supervised.call(Peer::Unix { uid: BOB }, "GET", "/api/v1/workers/nobody/configuration", Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_desktop_worker_stays_its_owners_and_has_the_files_labels() {
    let farm =
        Farm::start("[default]\nproxy_execution_mode = proxy\nworker_groups = ws\n[desk]\nworker_cpus = 4\n").await;
    let worker = FakeWorker::start(farm.dir.path(), Habits::of_ada("desk"));
    farm.is("desk", "idle").await;
    let view = farm.worker("desk").await;
    assert_eq!((who(&view), &view["slots"]), (("desktop", None), &json!(4)));
    assert!(worker.seen().settings.is_empty());
    let spec = json!({ "v": 1, "requires": "group:ws", "body": { "command": { "argv": ["true"] } } });
    let job = farm.supervised.submit(ADA, spec).await;
    assert_eq!(farm.supervised.over(job).await["state"], "complete");
}

/// Step 4 of the document: who asks for passwords in proxy mode lets nobody submit.
#[tokio::test]
async fn passwords_that_nobody_would_use_are_warned_about() {
    let dir = tempfile::tempdir().expect("dir");
    let (conf, qb_conf) = (dir.path().join("supervisor.toml"), dir.path().join("qb.conf"));
    std::fs::write(file(dir.path()), "[default]\nproxy_execution_mode = user\n").expect("qbwrk.conf");
    std::fs::write(&qb_conf, "\nsupervisor_flags = enforce_password\n").expect("qb.conf");
    let text = format!("qbwrk_conf = {:?}\nqb_conf = {qb_conf:?}\n", file(dir.path()));
    std::fs::write(&conf, text).expect("supervisor.toml");
    let supervised = Supervised::configured(dir.path(), Some(conf)).await;
    let farm = Farm { dir, supervised };
    let _worker = FakeWorker::start(farm.dir.path(), Habits::in_user_mode("lin-07"));
    farm.is("lin-07", "idle").await;
    assert_eq!(farm.reload().await["warnings"], json!([]));
    farm.edit("[default]\nproxy_execution_mode = proxy\nproxy_account = render\n");
    let warnings = farm.reload().await["warnings"].to_string();
    assert!(warnings.contains("take it out of supervisor_flags (") && warnings.contains("qb.conf:2"), "{warnings}");
}

#[tokio::test]
async fn without_files_everything_is_as_the_hosts_say() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), Habits::in_user_mode("lin-07"));
    eventually("it is here", async || farm.get("/api/v1/workers").await[0]["state"] == "idle").await;
    assert_eq!(who(&farm.get("/api/v1/workers").await[0]), ("user", None));
    let answer = farm.ask(operator(), "POST", RELOAD, Value::Null).await;
    assert_eq!((&answer["told"], &answer["files"]), (&json!(0), &json!([])));
    assert!(worker.seen().settings.is_empty());
}

const WORKERS: &str = "/api/v1/configuration/workers";

/// Looked at, then saved: nothing else of the file is other, the worker has it at once, and it is on record.
#[tokio::test]
async fn an_administrator_says_as_whom_a_worker_runs_jobs() {
    let text = "# The farm.\n[default]\nproxy_execution_mode = user # all\n\n[lin-07]\n  # the odd one\n  proxy_account = comp\n";
    let farm = Farm::start(text).await;
    let worker = FakeWorker::start(farm.dir.path(), Habits::in_user_mode("lin-07"));
    let other = FakeWorker::start(farm.dir.path(), Habits::in_user_mode("lin-08"));
    farm.is("lin-07", "idle").await;
    farm.is("lin-08", "idle").await;
    let job = farm.supervised.submit(ADA, frames(1)).await;
    farm.supervised.over(job).await;
    let op = operator();
    let mut asked = json!({ "workers": ["lin-07"], "proxy_execution_mode": "proxy", "dry_run": true });
    let would = farm.supervised.ask(op, "POST", WORKERS, asked.clone()).await;
    let now = || std::fs::read_to_string(file(farm.dir.path())).expect("qbwrk.conf");
    assert_eq!((now().as_str(), &would["done"]), (text, &Value::Null), "only asked");
    let told = &would["jobs"]["changes"][0];
    assert_eq!((&told["worker"], &told["job"]), (&json!("lin-07"), &json!(job)), "{would}");
    assert_eq!((&told["before"]["run_as"], &told["after"]["run_as"]), (&json!("ada"), &json!("comp")), "{would}");
    assert!(would["changes"][0].as_str().expect("text").contains("user -> proxy"), "{would}");

    // Another group than the supervisor's, where it may give one.
    let given = std::os::unix::fs::chown(file(farm.dir.path()), None, Some(61_184)).is_ok();
    let group = || std::fs::metadata(file(farm.dir.path())).expect("qbwrk.conf").gid();
    let before = group();
    assert!(!given || before == 61_184);
    asked["dry_run"] = json!(false);
    asked["sha256"] = would["sha256"].clone();
    let done = farm.supervised.ask(op, "POST", WORKERS, asked.clone()).await;
    assert_eq!((&done["done"]["told"], &done["done"]["late"]), (&json!(1), &json!([])), "{done}");
    assert_eq!(now(), text.replace("[lin-07]\n", "[lin-07]\n  proxy_execution_mode = proxy\n"));
    assert_eq!(group(), before, "whoever might read and edit it still may");
    assert_eq!(worker.seen().settings.last().expect("told"), &("proxy".to_owned(), Some("comp".to_owned())));
    assert_eq!(other.seen().settings.last().expect("told").0, "user");
    assert_eq!(who(&farm.worker("lin-07").await), ("proxy", Some("comp")));
    assert_eq!(farm.reload().await["changed"], 0, "it is in force already");
    let chain = std::fs::read_to_string(farm.dir.path().join("supervisor/audit/chain")).expect("chain");
    assert!(chain.contains("\"workers\":[\"lin-07\"]") && chain.contains("user -> proxy"), "{chain}");
    assert_eq!(
        std::fs::read_dir(farm.dir.path())
            .expect("dir")
            .filter(|e| { e.as_ref().is_ok_and(|e| e.file_name().to_string_lossy().contains("stead-new")) })
            .count(),
        0
    );
    // A password is written, sealed, and shown by nothing.
    let sealed = farm.supervised.ask(op, "POST", "/api/v1/passwords/comp/seal", json!({ "password": "s3cret" })).await;
    let sealed = sealed["sealed"].as_str().expect("text");
    let change = json!({ "workers": ["lin-07"], "proxy_password": sealed });
    let written = farm.supervised.ask(op, "POST", WORKERS, change).await;
    assert!(now().contains(sealed) && !written.to_string().contains(sealed), "{written}");
    assert!(written["changes"][0].as_str().expect("text").contains("proxy_password"), "{written}");
    let chain = std::fs::read_to_string(farm.dir.path().join("supervisor/audit/chain")).expect("chain");
    assert!(!chain.contains(sealed) && !chain.contains("s3cret"), "{chain}");
    // What was looked at is no more, or what is in force is not what stands there.
    let (status, _) = farm.supervised.call(Peer::Unix { uid: op }, "POST", WORKERS, asked.clone()).await;
    assert_eq!(status, StatusCode::CONFLICT);
    farm.edit(text);
    asked["sha256"] = Value::Null;
    let (status, answer) = farm.supervised.call(Peer::Unix { uid: op }, "POST", WORKERS, asked).await;
    assert!(status == StatusCode::CONFLICT && String::from_utf8_lossy(&answer).contains("stead config reload"));
    assert_eq!(now(), text);
}

#[tokio::test]
async fn what_can_not_be_is_written_nowhere() {
    let farm = Farm::start("[default]\nproxy_execution_mode = user\n").await;
    let _worker = FakeWorker::start(farm.dir.path(), Habits::in_user_mode("lin-07"));
    farm.is("lin-07", "idle").await;
    let before = std::fs::read_to_string(file(farm.dir.path())).expect("qbwrk.conf");
    let ask = async |uid: u32, change: Value| {
        farm.supervised.call(Peer::Unix { uid }, "POST", WORKERS, change).await.0.as_u16()
    };
    let op = operator();
    for (change, expected) in [
        (json!({ "workers": ["lin-07"], "proxy_execution_mode": "root" }), 400),
        (json!({ "workers": ["lin-07"], "proxy_account": "root" }), 400),
        (json!({ "workers": ["lin-07"], "proxy_account": "x\n[default]\nproxy_account = root" }), 400),
        (json!({ "workers": ["lin-07"], "proxy_account": "" }), 400),
        (json!({ "workers": ["lin-07"] }), 400),
        (json!({ "workers": ["lin-07"], "proxy_password": "in clear" }), 400),
        (json!({ "workers": [], "proxy_account": "x" }), 400),
        (json!({ "workers": ["lin-99"], "proxy_account": "x" }), 404),
    ] {
        assert_eq!(ask(op, change.clone()).await, expected, "{change}");
    }
    assert_eq!(ask(ADA, json!({ "workers": ["lin-07"], "proxy_account": "x" })).await, 403);
    assert_eq!(ask(BOB, json!({ "workers": ["lin-07"], "proxy_account": "x", "dry_run": true })).await, 403);
    assert_eq!(std::fs::read_to_string(file(farm.dir.path())).expect("qbwrk.conf"), before);
}
