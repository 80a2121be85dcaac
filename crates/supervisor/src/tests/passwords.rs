//! Passwords of accounts: who keeps whose, where they go and where they don't, and that a wrong one is tried once.

use super::fake_worker::{FakeWorker, Habits};
use super::people::{farm as farm_of_render, grant, refused};
use super::{ADA, BOB, Supervised, eventually, frames, operator, pages, spec};
use crate::authn::Peer;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use warrant::{Account, Incarnation, SealingKey, SealingKeyOf, Secret, SecretKey, hex, seal, unhex};
use wire::FromWorker;
use zeroize::Zeroizing;

const CANARY: &str = "k4nary-Swordfish";
/// As `hello_for_tests` has it.
const INCARNATION: Incarnation = [0; 16];

async fn set(farm: &Supervised, uid: u32, account: &str, password: &str) -> Value {
    farm.ask(uid, "PUT", &format!("/api/v1/passwords/{account}"), json!({ "password": password })).await
}

async fn state(farm: &Supervised, account: &str) -> Value {
    let all = farm.ask(operator(), "GET", "/api/v1/passwords", Value::Null).await;
    let all = all.as_array().expect("a list").clone();
    all.into_iter().find(|l| l["account"] == account).unwrap_or(Value::Null)
}

/// A worker whose launcher logs accounts on: it takes `right` and counts what it is shown.
struct Needing {
    habits: Habits,
    launcher: Arc<SealingKey>,
    shown: Arc<AtomicUsize>,
    right: Arc<Mutex<String>>,
}

impl Needing {
    fn new(name: &str, seed: u8) -> Self {
        let mut habits = Habits::in_user_mode(name);
        habits.set_key([seed; 32]);
        let launcher = Arc::new(SealingKey::from_seed(&[seed + 1; 32]));
        habits.hello.sealing_key = Some(signed(&launcher, [seed; 32], INCARNATION));
        habits.refuses_by = "password_wrong";
        let (shown, right) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(CANARY.to_owned())));
        let (key, count, is_right) = (launcher.clone(), shown.clone(), right.clone());
        habits.refuses = Arc::new(move |warrant| {
            if warrant.purpose != warrant::Purpose::Run {
                return None;
            }
            let sealed = warrant.password.as_ref().expect("a password");
            let password = key.open(sealed, &warrant.password_context()).expect("for this warrant");
            count.fetch_add(1, Ordering::SeqCst);
            let is_right = is_right.lock().expect("lock").as_bytes() == password.expose();
            (!is_right).then_some(("bad_login", "the password of ada is wrong"))
        });
        Self { habits, launcher, shown, right }
    }

    fn shown(&self) -> usize {
        self.shown.load(Ordering::SeqCst)
    }
}

fn signed(key: &SealingKey, host: [u8; 32], incarnation: Incarnation) -> String {
    let of = SealingKeyOf { incarnation, public: key.public() };
    hex(&of.sign(&SecretKey::from_seed(&host)).encode())
}

/// No file below has it in any of five encodings.
fn nowhere_in(data: &Path) {
    let plain = CANARY.as_bytes();
    let wide: Vec<u8> = CANARY.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let escaped: String = CANARY.bytes().map(|b| format!("%{b:02X}")).collect();
    let forms = [plain.to_vec(), hex(plain).into_bytes(), wide, escaped.into_bytes(), b"azRuYXJ5LVN3b3JkZmlz".to_vec()];
    let mut folders = vec![data.to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("folder").map(|e| e.expect("entry")) {
            let kind = entry.file_type().expect("type");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files += 1;
                let bytes = std::fs::read(entry.path()).expect("file");
                for form in &forms {
                    assert!(!bytes.windows(form.len()).any(|w| w == form), "{}", entry.path().display());
                }
            }
        }
    }
    assert!(files > 5, "there is something to look at");
}

#[tokio::test]
async fn one_keeps_ones_own_and_an_administrator_others() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _worker) = farm_of_render(dir.path()).await;
    let body = || json!({ "password": CANARY });
    let kept = set(&farm, ADA, "ada", CANARY).await;
    assert_eq!((&kept["account"], &kept["state"], &kept["proved"]), (&json!("ada"), &json!("current"), &json!(false)));
    let another = "password_of_another".to_owned();
    for path in ["/api/v1/passwords/bob", "/api/v1/passwords/render", "/api/v1/passwords/STUDIO%5Cada"] {
        assert_eq!(refused(&farm, ADA, "PUT", path, body()).await, (403, another.clone()), "{path}");
        assert_eq!(refused(&farm, ADA, "DELETE", path, Value::Null).await.0, 403);
        assert_eq!(refused(&farm, ADA, "POST", &format!("{path}/check"), Value::Null).await.0, 403);
    }
    for account in ["root", "STUDIO%5Croot", "a%20b", "-x"] {
        let path = format!("/api/v1/passwords/{account}");
        assert_eq!(refused(&farm, operator(), "PUT", &path, body()).await.0, 400, "{account}");
    }
    for bad in [json!({}), json!({ "password": "" }), json!({ "password": "a\0b" }), json!({ "sealed": "00" })] {
        let status = refused(&farm, ADA, "PUT", "/api/v1/passwords/ada", bad.clone()).await.0;
        assert!(status == 400 || status == 409, "{bad}: {status}");
    }

    // Who may act as render keeps its password no more than anybody; who answers for it does.
    grant(&farm, "ada").await;
    let (status, answer) = super::people::as_render(&farm, ADA, "PUT", "/api/v1/passwords/render", body()).await;
    assert_eq!((status.as_u16(), &answer["error"]["rule"]), (403, &json!(another)));
    assert!(answer["error"]["hint"].as_str().expect("hint").contains("acting as it is no right"), "{answer}");
    let (_, answer) = super::people::as_render(&farm, ADA, "PUT", "/api/v1/passwords/bob", body()).await;
    assert!(answer["error"]["hint"].as_str().expect("hint").contains("`stead as --clear`"), "{answer}");
    let (status, _) = super::people::as_render(&farm, ADA, "PUT", "/api/v1/passwords/ada", body()).await;
    assert_eq!(status.as_u16(), 200, "their own they keep, whoever they act as");
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "answers": ["bob"] })).await;
    set(&farm, BOB, "render", CANARY).await;
    set(&farm, operator(), "carol", CANARY).await;

    let seen = async |uid| {
        let all = farm.ask(uid, "GET", "/api/v1/passwords", Value::Null).await;
        let all = all.as_array().expect("list").iter().map(|l| l["account"].as_str().expect("name").to_owned());
        all.collect::<Vec<_>>()
    };
    assert_eq!(seen(ADA).await, ["ada"]);
    assert_eq!(seen(BOB).await, ["bob", "render"]);
    assert_eq!(seen(operator()).await, ["ada", "carol", "render"]);
    assert_eq!(farm.ask(BOB, "GET", "/api/v1/passwords", Value::Null).await[0]["state"], "missing");

    let token = farm.ask(ADA, "POST", "/api/v1/tokens", json!({ "name": "n", "scopes": ["read", "submit"] })).await;
    let bearer = format!("Bearer {}", token["token"].as_str().expect("token"));
    let (status, ..) =
        farm.send(super::tcp(), ("PUT", "/api/v1/passwords/ada"), &[("authorization", &bearer)], body()).await;
    assert_eq!(status.as_u16(), 403, "a token without manage");

    farm.ask(ADA, "DELETE", "/api/v1/passwords/ada", Value::Null).await;
    assert_eq!(refused(&farm, ADA, "DELETE", "/api/v1/passwords/ada", Value::Null).await.0, 404);
    nowhere_in(dir.path());
    let chain = std::fs::read_to_string(dir.path().join("supervisor/audit/chain")).expect("chain");
    for (act, times) in [("password_set", 4), ("password_delete", 1)] {
        let done = chain.lines().filter(|l| l.contains(&format!("\"act\":\"{act}\"")) && l.contains("\"intent\""));
        assert_eq!(done.count(), times, "{act}");
    }
    assert_eq!(super::verified(dir.path()).findings, vec![]);
}

#[tokio::test]
async fn what_is_sealed_for_the_supervisor_is_taken_for_its_account_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let key = farm.ask(ADA, "GET", "/api/v1/password-key", Value::Null).await;
    let key: [u8; 32] = unhex(key["key"].as_str().expect("key")).expect("hex").try_into().expect("32");
    let sealed = |account: &str| {
        let context = [b"stead password to the supervisor 1\0", account.as_bytes()].concat();
        let secret = Secret::new(CANARY.into()).expect("password");
        json!({ "sealed": hex(&seal(&secret, &key, &context, Zeroizing::new([3; 32])).expect("sealed")) })
    };
    let path = "/api/v1/passwords/ada";
    assert_eq!(refused(&farm, ADA, "PUT", path, sealed("bob")).await.0, 409);
    assert_eq!(farm.ask(ADA, "PUT", path, sealed("ada")).await["state"], "current");
    let text = farm.ask(ADA, "POST", &format!("{path}/seal"), sealed("ada")).await["sealed"].clone();
    let logons = &farm.running.app.service.logons;
    let name = |account: &str| crate::logon::named(account);
    let opened = logons.open_from_file(&name("ada"), text.as_str().expect("text")).await;
    assert_eq!(opened.expect("ours").expose(), CANARY.as_bytes());
    assert!(logons.open_from_file(&name("bob"), text.as_str().expect("text")).await.is_err());
    // The checker of these tests knows one password.
    assert_eq!(farm.ask(ADA, "POST", &format!("{path}/check"), Value::Null).await["right"], "no");
    assert_eq!(state(&farm, "ada").await["state"], "stale");
    set(&farm, ADA, "ada", "right").await;
    let checked = farm.ask(ADA, "POST", &format!("{path}/check"), Value::Null).await;
    assert_eq!(
        (&checked["right"], &checked["state"], &checked["said_by"]),
        (&json!("yes"), &json!("current"), &json!("supervisor"))
    );
}

#[tokio::test]
async fn all_are_under_a_new_key_and_the_old_one_opens_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    set(&farm, ADA, "ada", CANARY).await;
    set(&farm, BOB, "bob", CANARY).await;
    let logons = farm.running.app.service.logons.clone();
    let file = dir.path().join("supervisor/passwords.key");
    let (old_key, old_rows) = (std::fs::read_to_string(&file).expect("key"), logons.rows().await.expect("rows"));
    assert_ne!(old_rows[0].sealed, old_rows[1].sealed, "the same password of two people looks different");
    assert_eq!(refused(&farm, ADA, "POST", "/api/v1/password-key", Value::Null).await.0, 403);
    let done = farm.ask(operator(), "POST", "/api/v1/password-key", Value::Null).await;
    assert_eq!(done["passwords"], 2);
    assert_ne!(std::fs::read_to_string(&file).expect("key"), old_key);
    let rows = logons.rows().await.expect("rows");
    for (row, old) in rows.iter().zip(&old_rows) {
        assert_eq!(logons.open(row).await.expect("opened").expose(), CANARY.as_bytes());
        assert!(logons.open(old).await.is_err(), "a backup of before");
    }
    // A row that was put back by hand is found at the next start, and used by nobody.
    let (ada, bob) = (&rows[0], &rows[1]);
    let swap = format!(
        "UPDATE logon_passwords SET sealed = x'{}', key_id = '{}' WHERE account = 'ada'",
        hex(&bob.sealed),
        bob.key_id
    );
    farm.by_hand(dir.path(), &swap).await;
    farm.running.die().await;
    let farm = Supervised::start(dir.path()).await;
    let found = state(&farm, "ada").await;
    assert_eq!((&found["state"], found["version"].as_u64()), (&json!("stale"), Some(ada.version)), "{found}");
    assert!(found["said"].as_str().expect("why").contains("it can't be opened"), "{found}");
    assert_eq!(state(&farm, "bob").await["state"], "current");
    assert_eq!(refused(&farm, operator(), "POST", "/api/v1/password-key", Value::Null).await.0, 409);
    farm.ask(operator(), "DELETE", "/api/v1/passwords/ada", Value::Null).await;
    assert_eq!(farm.ask(operator(), "POST", "/api/v1/password-key", Value::Null).await["passwords"], 1);
    nowhere_in(dir.path());
}

#[tokio::test]
async fn a_workers_own_word_takes_no_password_out_of_use() {
    for said in ["", "setgroups"] {
        let dir = tempfile::tempdir().expect("dir");
        let farm = Supervised::start(dir.path()).await;
        set(&farm, ADA, "ada", CANARY).await;
        let mut broken = Needing::new("node1", 10).habits;
        broken.refuses = Arc::new(|_| Some(("bad_login", "the password of ada is wrong")));
        broken.signs_refusals_as = Some(said);
        let _worker = FakeWorker::start(dir.path(), broken);
        let job = farm.submit(ADA, frames(3)).await;
        assert_eq!(farm.over(job).await["state"], "badlogin", "what it does to its own job is its own affair");
        assert_eq!(state(&farm, "ada").await["state"], "current", "signed: {said:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_wherever_and_however_much_waits_for_it() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    set(&farm, ADA, "ada", "not it").await;
    let needing: Vec<Needing> = (1..=3).map(|n| Needing::new(&format!("node{n}"), n * 10)).collect();
    let mut workers = Vec::new();
    for worker in &needing {
        let mut habits = worker.habits.clone();
        habits.hello.slots = 4;
        workers.push(FakeWorker::start(dir.path(), habits));
    }
    eventually("all are here", async || {
        let all = farm.get("/api/v1/workers").await;
        all.as_array().is_some_and(|all| all.len() == 3 && all.iter().all(|w| w["state"] == "idle"))
    })
    .await;
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(farm.submit(ADA, frames(100)).await);
    }
    for job in &jobs {
        let over = farm.over(*job).await;
        assert_eq!(over["state"], "badlogin", "{over}");
        let reason = over["reason"].as_str().expect("reason").to_owned();
        assert!(reason.contains("`stead password set ada`"), "{reason}");
        assert!(reason.contains(&format!("`stead resubmit {job}`")), "{reason}");
        assert_eq!(refused(&farm, ADA, "POST", &format!("/api/v1/jobs/{job}/retry"), Value::Null).await.0, 409);
    }
    let shown = || needing.iter().map(Needing::shown).sum::<usize>();
    assert_eq!(shown(), 1, "one try, of all jobs on all workers");
    let tried: usize = workers.iter().map(|w| w.seen().warrants.len()).sum();
    assert_eq!(tried, 1, "and nobody else was sent anything");
    let stale = state(&farm, "ada").await;
    assert_eq!(stale["state"], "stale");
    assert!(stale["said_by"].as_str().expect("who").starts_with("node"), "{stale}");
    // The page says it in the same words, and shows nobody the password.
    let looks =
        pages::Asked { peer: Peer::Unix { uid: ADA }, method: "GET", path: "/credentials", headers: &[], form: "" };
    let (_, _, text) = pages::ask(&farm, looks).await;
    assert!(text.contains("stale") && text.contains(stale["said_by"].as_str().expect("who")), "{text}");
    assert!(!text.contains(CANARY), "{text}");
    // Nothing that comes later is tried, after a restart neither.
    let later = farm.submit(ADA, frames(2)).await;
    assert_eq!(farm.over(later).await["state"], "badlogin");
    farm.running.die().await;
    let farm = Supervised::start(dir.path()).await;
    let later = farm.submit(ADA, frames(2)).await;
    assert_eq!(farm.over(later).await["state"], "badlogin");
    assert_eq!(shown(), 1);

    set(&farm, ADA, "ada", CANARY).await;
    let again = farm.ask(ADA, "POST", &format!("/api/v1/jobs/{}/resubmit", jobs[0]), json!({})).await;
    let again = again["job"].as_u64().expect("a job");
    let over = farm.over(again).await;
    assert_eq!(
        (&over["state"], &over["tasks"]["complete"], &over["user"]),
        (&json!("complete"), &json!(100), &json!("ada"))
    );
    assert_eq!(state(&farm, "ada").await["proved"], true);
    // When it isn't right any more, that is found out by one more.
    let before = shown();
    for worker in &needing {
        *worker.right.lock().expect("lock") = "changed since".to_owned();
    }
    let jobs = [farm.submit(ADA, frames(50)).await, farm.submit(ADA, frames(50)).await];
    for job in jobs {
        assert_eq!(farm.over(job).await["state"], "badlogin");
    }
    assert_eq!(shown() - before, 1);
    let chain = std::fs::read_to_string(dir.path().join("supervisor/audit/chain")).expect("chain");
    assert_eq!(chain.matches("\"act\":\"password_refused\"").count(), 2);
    nowhere_in(dir.path());
}

#[tokio::test]
async fn a_password_goes_only_where_one_is_needed_and_sealed_for_that_launcher() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    set(&farm, ADA, "ada", CANARY).await;
    // One that needs none gets none, though there is one.
    let plain = FakeWorker::start(dir.path(), Habits::in_user_mode("plain"));
    let job = farm.submit(ADA, frames(2)).await;
    assert_eq!(farm.over(job).await["state"], "complete");
    assert!(plain.seen().warrants.values().all(|w| w.password.is_none()));
    plain.crash();

    let needing = Needing::new("node", 20);
    let node = FakeWorker::start(dir.path(), needing.habits.clone());
    let job = farm.submit(ADA, frames(2)).await;
    assert_eq!(farm.over(job).await["state"], "complete");
    let warrant = node.seen().warrants.values().next_back().expect("one").clone();
    let sealed = warrant.password.clone().expect("a password");
    let mut other = warrant.clone();
    other.sequence += 1;
    assert!(needing.launcher.open(&sealed, &other.password_context()).is_err(), "in another warrant");
    other = warrant.clone();
    other.account = Account::Named { name: warrant::AccountName::parse("bob").expect("name"), uid: None };
    assert!(needing.launcher.open(&sealed, &other.password_context()).is_err(), "for another account");
    assert!(
        SealingKey::from_seed(&[99; 32]).open(&sealed, &warrant.password_context()).is_err(),
        "by another launcher"
    );

    // Another life of the launcher has another key; one that its host did not sign for this life is sent nothing.
    let forged =
        [signed(&needing.launcher, [20; 32], [9; 16]), signed(&needing.launcher, [66; 32], [1; 16]), "00".to_owned()];
    for key in forged {
        let new = FromWorker::NewIncarnation { incarnation: "01".repeat(16), tick: 1_000_000, sealing_key: Some(key) };
        node.say(new);
        let in_panic = async || {
            let worker = farm.get("/api/v1/workers").await[0].clone();
            worker["name"] == "node"
                && worker["state"] == "panic"
                && worker["reason"].as_str().is_some_and(|r| r.contains("not signed by its host's key"))
        };
        eventually("it gets no work", in_panic).await;
    }
    let before = node.seen().warrants.len();
    let job = farm.submit(ADA, frames(1)).await;
    let good = signed(&needing.launcher, [20; 32], [1; 16]);
    node.say(FromWorker::NewIncarnation { incarnation: "01".repeat(16), tick: 1_000_000, sealing_key: Some(good) });
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!(node.seen().warrants.len(), before + 1);
}

#[tokio::test]
async fn a_missing_password_is_a_bad_login_unless_somewhere_none_is_needed() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let needing = Needing::new("node", 20);
    let node = FakeWorker::start(dir.path(), needing.habits.clone());
    let job = farm.submit(ADA, frames(2)).await;
    let over = farm.over(job).await;
    assert_eq!(over["state"], "badlogin");
    assert!(over["reason"].as_str().expect("reason").contains("the farm has no password of ada"), "{over}");
    let explained = farm.ask(ADA, "GET", "/api/v1/explain?user=ada", Value::Null).await;
    assert_eq!(explained["workers"][0]["refused"]["rule"], "password_missing", "{explained}");
    let plain = FakeWorker::start(dir.path(), Habits::in_user_mode("plain"));
    eventually("both are here", async || farm.get("/api/v1/workers").await.as_array().is_some_and(|w| w.len() == 2))
        .await;
    let job = farm.submit(ADA, frames(2)).await;
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!((plain.seen().ran.len(), node.seen().warrants.len()), (2, 0));
}

#[tokio::test]
async fn an_outage_costs_nothing_and_the_password_stays_good() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    set(&farm, ADA, "ada", CANARY).await;
    let needing = Needing::new("node", 20);
    let mut habits = needing.habits.clone();
    let (asked, well) = (Arc::new(AtomicUsize::new(0)), habits.refuses.clone());
    let count = asked.clone();
    habits.refuses = Arc::new(move |warrant| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Some(("transient", "whether the password of ada is right can't be told now: the directory is down")),
        _ => well(warrant),
    });
    let _node = FakeWorker::start(dir.path(), habits);
    let job = farm.submit(ADA, frames(2)).await;
    let over = farm.over(job).await;
    assert_eq!((&over["state"], over["tasks"]["complete"].as_u64()), (&json!("complete"), Some(2)));
    assert!(asked.load(Ordering::SeqCst) >= 2);
    assert_eq!(state(&farm, "ada").await["state"], "current");
}

#[tokio::test]
async fn a_proxy_account_without_a_good_password_puts_its_worker_in_panic() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let needing = Needing::new("node", 20);
    let mut habits = needing.habits.clone();
    habits.hello.mode = "proxy".to_owned();
    habits.hello.proxy_account = Some("qubeproxy".to_owned());
    let node = FakeWorker::start(dir.path(), habits);
    let panics = async |words: &str| {
        let worker = farm.get("/api/v1/workers").await[0].clone();
        worker["state"] == "panic" && worker["reason"].as_str().is_some_and(|r| r.contains(words))
    };
    eventually("it has none", async || panics("the farm has no password of qubeproxy").await).await;
    let job = farm.submit(ADA, frames(2)).await;
    set(&farm, operator(), "qubeproxy", "not it").await;
    eventually("it is wrong", async || panics("the password of qubeproxy is not good").await).await;
    assert_eq!(needing.shown(), 1);
    // The user has nothing to do with it.
    let waits = async || farm.get(&format!("/api/v1/jobs/{job}")).await["state"] == "pending";
    eventually("the job waits", waits).await;
    set(&farm, operator(), "qubeproxy", CANARY).await;
    assert_eq!(farm.over(job).await["state"], "complete");
    assert_eq!(node.seen().ran.len(), 2);
}

/// Once for each text; what is set by hand stays until the file says another.
#[tokio::test]
async fn a_file_gives_the_proxy_account_its_password() {
    let dir = tempfile::tempdir().expect("dir");
    let (conf, qbwrk) = (dir.path().join("supervisor.toml"), dir.path().join("qbwrk.conf"));
    std::fs::write(&conf, format!("qbwrk_conf = {qbwrk:?}\n")).expect("supervisor.toml");
    let write = |line: &str| {
        let text = format!("[default]\nproxy_execution_mode = proxy\nproxy_account = render\n{line}\n");
        std::fs::write(&qbwrk, text).expect("qbwrk.conf");
    };
    write("");
    let farm = Supervised::configured(dir.path(), Some(conf)).await;
    let sealed = async |account: &str, password: &str| {
        let path = format!("/api/v1/passwords/{account}/seal");
        let answer = farm.ask(operator(), "POST", &path, json!({ "password": password })).await;
        format!("proxy_password = {}", answer["sealed"].as_str().expect("text"))
    };
    let reload = async || farm.ask(operator(), "POST", "/api/v1/configuration/reload", Value::Null).await;
    let needing = Needing::new("node", 20);
    let node = FakeWorker::start(dir.path(), needing.habits.clone());
    let panics = async |words: &str| {
        let worker = farm.get("/api/v1/workers").await[0].clone();
        worker["state"] == "panic" && worker["reason"].as_str().is_some_and(|r| r.contains(words))
    };
    eventually("it has none", async || panics("the farm has no password of render").await).await;
    let job = farm.submit(ADA, frames(1)).await;
    // Sealed for somebody else, and by somebody else.
    write(&sealed("bob", CANARY).await);
    reload().await;
    eventually("it is bob's", async || panics("qbwrk.conf:4").await && panics("`qblogin --display render`").await)
        .await;
    write("proxy_password = 0123456789abcdef0123456789abcdef");
    let warnings = reload().await["warnings"].to_string();
    assert!(warnings.contains("sealed by Qube! itself") && warnings.contains("qblogin --display render"), "{warnings}");
    eventually("it has none", async || panics("the farm has no password of render").await).await;
    assert!(node.seen().warrants.is_empty());

    let wrong = sealed("render", "not it").await;
    write(&wrong);
    reload().await;
    eventually("it is wrong", async || panics("the password of render is not good").await).await;
    assert_eq!((needing.shown(), &state(&farm, "render").await["state"]), (1, &json!("stale")));
    write(&sealed("render", CANARY).await);
    reload().await;
    assert_eq!(farm.over(job).await["state"], "complete");
    let known = state(&farm, "render").await;
    assert!(known["state"] == "current" && known["set_by"].as_str().is_some_and(|by| by.contains("qbwrk.conf:4")));
    // A text that was taken once says nothing new.
    let version = known["version"].clone();
    write(&wrong);
    reload().await;
    assert_eq!(state(&farm, "render").await["version"], version);
    super::verified(dir.path());
    nowhere_in(dir.path());
}

/// Those that join at the same moment bring the same text: it is one password, set once.
#[tokio::test]
async fn workers_that_join_at_once_take_a_files_password_once() {
    let dir = tempfile::tempdir().expect("dir");
    let (conf, qbwrk) = (dir.path().join("supervisor.toml"), dir.path().join("qbwrk.conf"));
    std::fs::write(&conf, format!("qbwrk_conf = {qbwrk:?}\n")).expect("supervisor.toml");
    std::fs::write(&qbwrk, "").expect("qbwrk.conf");
    let farm = Supervised::configured(dir.path(), Some(conf)).await;
    let sealed =
        farm.ask(operator(), "POST", "/api/v1/passwords/render/seal", json!({ "password": CANARY })).await["sealed"]
            .as_str()
            .expect("text")
            .to_owned();
    let text = "[default]\nproxy_execution_mode = proxy\nproxy_account = render\nproxy_password = ";
    std::fs::write(&qbwrk, format!("{text}{sealed}\n")).expect("qbwrk.conf");
    farm.ask(operator(), "POST", "/api/v1/configuration/reload", Value::Null).await;
    let names: Vec<String> = (0..12).map(|n| format!("node-{n}")).collect();
    let needing: Vec<Needing> = names.iter().map(|name| Needing::new(name, 20)).collect();
    let _workers: Vec<FakeWorker> =
        needing.iter().map(|needing| FakeWorker::start(dir.path(), needing.habits.clone())).collect();
    eventually("all are there", async || {
        let workers = farm.get("/api/v1/workers").await;
        workers.as_array().is_some_and(|all| all.len() == names.len() && all.iter().all(|w| w["state"] == "idle"))
    })
    .await;
    let chain = std::fs::read_to_string(dir.path().join("supervisor/audit/chain")).expect("chain");
    assert_eq!(chain.matches("\"act\":\"password_set\"").count(), 1, "{chain}");
}

#[tokio::test]
async fn where_it_is_enforced_nobody_submits_without_a_password_that_may_be_good() {
    let dir = tempfile::tempdir().expect("dir");
    let conf = dir.path().join("supervisor.toml");
    std::fs::write(&conf, "enforce_password = true\n").expect("written");
    let farm = Supervised::configured(dir.path(), Some(conf)).await;
    let body = || json!({ "spec": spec(json!({ "argv": ["true"] })) });
    let submit = async |uid| refused(&farm, uid, "POST", "/api/v1/jobs", body()).await;
    assert_eq!(submit(ADA).await, (403, "enforce_password".to_owned()));
    set(&farm, ADA, "ada", "right").await;
    assert_eq!(submit(ADA).await.0, 201);
    assert_eq!(submit(BOB).await.0, 403);
    set(&farm, ADA, "ada", "not it").await;
    farm.ask(ADA, "POST", "/api/v1/passwords/ada/check", Value::Null).await;
    let (status, bytes) = farm.call(crate::authn::Peer::Unix { uid: ADA }, "POST", "/api/v1/jobs", body()).await;
    let answer: Value = serde_json::from_slice(&bytes).expect("json");
    assert_eq!((status.as_u16(), &answer["error"]["rule"]), (403, &json!("enforce_password")));
    assert!(answer["error"]["hint"].as_str().expect("hint").contains("stead password set ada"), "{answer}");
}
