//! What keeps the supervisor on its feet: bounds of connections and bytes on real sockets, whether it says that it is
//! ready, and a real disk that is full.

use super::fake_worker::{FakeWorker, Habits};
use super::{ADA, BOB, Supervised, eventually, frames, operator, tcp};
use crate::api;
use crate::authn::Peer;
use crate::listen::{self, Doorway, Limits};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

async fn configured(dir: &Path, settings: &str) -> Supervised {
    let conf = dir.join("supervisor.toml");
    std::fs::write(&conf, settings).expect("settings");
    Supervised::configured(dir, Some(conf)).await
}

async fn dialed(farm: &Supervised) -> TcpStream {
    TcpStream::connect(farm.running.url.trim_start_matches("http://")).await.expect("connected")
}

/// Asks and reads the answer: its status and body. The connection stays.
async fn asked(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), host: &str, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let _ = stream.write_all(request.as_bytes()).await;
    answer(stream).await
}

async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> (u16, String) {
    let mut text = String::new();
    let read = async {
        let mut bytes = [0; 4096];
        loop {
            let n = stream.read(&mut bytes).await.expect("readable");
            text.push_str(std::str::from_utf8(&bytes[..n]).expect("text"));
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                assert!(n > 0, "closed: {text}");
                continue;
            };
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
                return (status, body.to_owned());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("in time")
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_is_told() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = configured(dir.path(), "connections_per_address = 3\n").await;
    let host = farm.running.url.trim_start_matches("http://").to_owned();
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = dialed(&farm).await;
        assert_eq!(asked(&mut stream, &host, "/healthz").await, (200, "ok".to_owned()));
        open.push(stream);
    }
    let (status, body) = asked(&mut dialed(&farm).await, &host, "/healthz").await;
    let error: Value = serde_json::from_str(&body).expect("json");
    assert_eq!(
        (status, &error["error"]["rule"], &error["error"]["value"]),
        (429, &json!("connections_of_one"), &json!("3"))
    );
    assert!(error["error"]["hint"].as_str().is_some_and(|h| h.contains("supervisor.toml")), "{error}");
    // Nobody else is kept out.
    let mut local = UnixStream::connect(&farm.running.socket).await.expect("connected");
    assert_eq!(asked(&mut local, "x", "/healthz").await.0, 200);
    drop(open);
    eventually("there is room again", async || asked(&mut dialed(&farm).await, &host, "/healthz").await.0 == 200).await;
}

#[tokio::test]
async fn all_together_have_so_many_connections() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = configured(dir.path(), "connections_max = 2\n").await;
    let mut first = UnixStream::connect(&farm.running.socket).await.expect("connected");
    let mut second = UnixStream::connect(&farm.running.socket).await.expect("connected");
    assert_eq!(asked(&mut first, "x", "/healthz").await.0, 200);
    assert_eq!(asked(&mut second, "x", "/healthz").await.0, 200);
    let mut third = UnixStream::connect(&farm.running.socket).await.expect("connected");
    let (status, body) = asked(&mut third, "x", "/healthz").await;
    assert!(status == 503 && body.contains("connections_max"), "{status} {body}");
    assert_eq!(asked(&mut first, "x", "/healthz").await.0, 200, "who is in stays in");
}

#[tokio::test]
async fn a_head_that_never_ends_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut slow = dialed(&farm).await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").await.expect("sent");
    let began = Instant::now();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut rest)).await;
    closed.expect("it is closed").expect("readable");
    assert!(began.elapsed() >= Duration::from_millis(900), "not at once");
}

#[tokio::test]
async fn one_person_has_so_many_bytes_under_way() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = configured(dir.path(), "bodies_per_user_mib = 32\n").await;
    let begin = async |length: usize| {
        let mut stream = UnixStream::connect(&farm.running.socket).await.expect("connected");
        let head = format!("POST /api/v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream
    };
    let first = begin(32 << 20).await;
    let refused = async || {
        let mut second = begin(2).await;
        second.write_all(b"{}").await.expect("sent");
        answer(&mut second).await
    };
    eventually("the second is too much", async || refused().await.0 == 429).await;
    let error: Value = serde_json::from_str(&refused().await.1).expect("json");
    let error = &error["error"];
    assert_eq!((&error["rule"], &error["value"]), (&json!("bodies_per_user_mib"), &json!((32 << 20).to_string())));
    // Another person isn't concerned: whoever this is, it is not ada.
    let (status, _) = farm.call(Peer::Unix { uid: ADA }, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await;
    assert_eq!(status.as_u16(), 201);
    drop(first);
    eventually("the first is given up", async || refused().await.0 == 400).await;
    let mut large = begin(33 << 20).await;
    assert_eq!(answer(&mut large).await.0, 413);
}

#[tokio::test]
async fn strangers_have_a_tiny_body() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let host = farm.running.url.trim_start_matches("http://");
    for (path, expected) in [("/api/v1/login", 413), ("/api/v1/jobs", 401)] {
        let mut stream = dialed(&farm).await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 20000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        assert_eq!(answer(&mut stream).await.0, expected, "{path}: nothing of it is waited for");
    }
}

#[tokio::test]
async fn while_it_starts_it_says_so() {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let listener = listen::tcp("127.0.0.1:0").await.expect("bound");
    let host = listener.local_addr().expect("an address").to_string();
    let doorway = Doorway::closed(api::starting());
    let limits = Limits { total: 9, of_one: 9 };
    let server = tokio::spawn(listen::serve_tcp(listener, doorway.clone(), limits, stopped));
    let mut stream = TcpStream::connect(&host).await.expect("connected");
    assert_eq!(asked(&mut stream, &host, "/healthz").await, (200, "ok".to_owned()));
    let (status, body) = asked(&mut stream, &host, "/readyz").await;
    let error: Value = serde_json::from_str(&body).expect("json");
    assert_eq!((status, &error["error"]["value"]), (503, &json!("starting")));
    let (status, body) = asked(&mut stream, &host, "/api/v1/jobs").await;
    assert!(status == 503 && body.contains("starting"), "{body}");
    doorway.open(axum::Router::new().route("/readyz", axum::routing::get(async || "there")));
    assert_eq!(asked(&mut stream, &host, "/readyz").await, (200, "there".to_owned()), "on the same connection, too");
    stop.send(true).expect("somebody listens");
    server.await.expect("ended");
}

/// What isn't ready; nothing.
async fn readyz(farm: &Supervised) -> String {
    let (status, bytes) = farm.call(tcp(), "GET", "/readyz", Value::Null).await;
    let answer: Value = serde_json::from_slice(&bytes).expect("json");
    if status.as_u16() == 200 {
        assert_eq!(answer, json!({ "ready": true }));
        return String::new();
    }
    assert_eq!(status.as_u16(), 503, "{answer}");
    answer["error"]["value"].as_str().expect("what it is").to_owned()
}

#[tokio::test]
async fn it_is_ready_when_it_can_write() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    assert_eq!(readyz(&farm).await, "");
    let audit = farm.running.app.service.audit.clone();
    audit.fill_for_tests(true);
    let (status, _) = farm.call(Peer::Unix { uid: ADA }, "POST", "/api/v1/jobs", json!({ "spec": frames(1) })).await;
    assert_eq!(status.as_u16(), 503);
    eventually("the audit is missed", async || readyz(&farm).await == "audit").await;
    let told = farm.ask(operator(), "GET", "/api/v1/farm", Value::Null).await;
    assert_eq!(told["troubles"][0]["check"], "audit");
    assert!(farm.ask(BOB, "GET", "/api/v1/farm", Value::Null).await["troubles"].is_null());
    audit.fill_for_tests(false);
    eventually("it can be written again", async || readyz(&farm).await.is_empty()).await;
    farm.running.stop_dispatching_for_tests();
    eventually("the dispatcher is missed", async || readyz(&farm).await.starts_with("dispatcher")).await;
    farm.running.app.service.store.close().await;
    eventually("the store is missed", async || readyz(&farm).await.contains("store")).await;
    let (status, body) = farm.call(tcp(), "GET", "/healthz", Value::Null).await;
    assert_eq!((status.as_u16(), body), (200, b"ok".to_vec()), "alive it is");
}

/// A file system of so many MiB that only this thread, and what it starts, sees.
fn small_disk(at: &Path, mib: u32) {
    use nix::mount::{MsFlags, mount};
    let none: Option<&str> = None;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("mounts of its own");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    let size = format!("size={mib}m");
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).expect("a small disk");
}

fn fill(at: &Path) {
    let mut file = std::fs::File::options().append(true).create(true).open(at).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// Endings go on with the ballast until there is none, nothing is begun, and with room all is as before.
#[tokio::test]
async fn a_full_disk_takes_endings_and_says_that_it_is_full() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("dir");
    small_disk(dir.path(), 48);
    let farm = Supervised::start(dir.path()).await;
    let room = farm.running.app.service.room.clone();
    let whole = room.stand().left;
    assert_eq!(whole, 3 << 20, "a sixteenth");
    let mut jobs = Vec::new();
    for _ in 0..60 {
        jobs.push(farm.submit(ADA, frames(1)).await);
    }
    let filler = dir.path().join("filler");
    fill(&filler);
    eventually("it is seen", async || readyz(&farm).await == "disk").await;
    fill(&filler);
    let token = json!({ "name": "t", "scopes": ["read"] });
    for (path, body) in [("/api/v1/jobs", json!({ "spec": frames(1) })), ("/api/v1/tokens", token)] {
        let (status, bytes) = farm.call(Peer::Unix { uid: ADA }, "POST", path, body).await;
        let error: Value = serde_json::from_slice(&bytes).expect("json");
        assert_eq!((status.as_u16(), &error["error"]["rule"]), (503, &json!("disk_full")), "{path}: {error}");
        assert!(error["error"]["value"].as_str().is_some_and(|v| v.contains("of 48 MiB free")), "{error}");
        assert!(
            error["error"]["hint"]
                .as_str()
                .is_some_and(|h| h.contains("9 MiB free it goes on") || h.contains("6 MiB free it goes on")),
            "{error}"
        );
    }
    let put = async |allowed| {
        let said = json!({ "allowed": allowed });
        farm.call(Peer::Unix { uid: operator() }, "PUT", "/api/v1/may-act/ada", said).await.0.as_u16()
    };
    assert_eq!([put(true).await, put(false).await], [503, 200], "a right is taken away, none is given");
    // Each record is one the disk has no room for; now and then there is none at all in between.
    for job in &jobs {
        farm.ask(ADA, "POST", &format!("/api/v1/jobs/{job}/kill"), Value::Null).await;
        fill(&filler);
    }
    let left = room.stand().left;
    assert!(left < whole, "without the ballast it was not possible: {left}");
    std::fs::remove_file(&filler).expect("removed");
    eventually("there is room", async || readyz(&farm).await.is_empty() && room.stand().left == whole).await;
    farm.submit(ADA, frames(1)).await;
    let waiting = farm.running.app.service.audit.state().clone();
    eventually("nothing waits for its record", async || waiting.waiting() == 0).await;
    farm.running.stop().await;
    super::verified(dir.path());
    let chain = std::fs::read_to_string(dir.path().join("supervisor/audit/chain")).expect("chain");
    let lines: Vec<Value> = chain.lines().map(|l| serde_json::from_str(l).expect("json")).collect();
    for job in jobs {
        let of: Vec<_> = lines.iter().filter(|l| l["act"] == "kill" && l["job"] == job).collect();
        assert_eq!(of.len(), 1, "one record of the end of {job}: {of:?}");
    }
    assert!(!lines.iter().any(|l| l["act"] == "not_done"), "whatever was written down was done");
}

/// What the page has: names of figures, and the lines of one.
async fn figures(farm: &Supervised) -> String {
    let (status, bytes) = farm.call(Peer::Unix { uid: operator() }, "GET", "/metrics", Value::Null).await;
    assert_eq!(status.as_u16(), 200);
    String::from_utf8(bytes).expect("text")
}

fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().expect("a number")
}

#[tokio::test]
async fn every_figure_is_in_the_manual_and_the_other_way_round() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let page = figures(&farm).await;
    let shown: BTreeSet<(&str, &str)> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let manual = include_str!("../../../../docs/operating.md");
    let rows = manual.lines().filter_map(|l| {
        let mut cells = l.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`');
        Some((name, cells.next()?)).filter(|(_, kind)| ["gauge", "counter", "histogram"].contains(kind))
    });
    assert_eq!(rows.collect::<BTreeSet<_>>(), shown, "docs/operating.md lists every figure with its type");
    // Each name that a line begins with is one that was announced.
    for line in page.lines().filter(|l| !l.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_known = |name: &str| shown.iter().any(|(known, _)| *known == name);
        assert!(is_known(name) || base.is_some_and(is_known), "{line}");
    }
}

#[tokio::test]
async fn figures_say_what_happened_and_of_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let job = farm.submit(ADA, frames(5)).await;
    farm.over(job).await;
    let (status, _) = farm.call(Peer::Unix { uid: BOB }, "GET", "/metrics", Value::Null).await;
    assert_eq!(status.as_u16(), 403);
    for password in ["right", "wrong"] {
        let body = json!({ "user": "ada", "password": password });
        farm.call(tcp(), "POST", "/api/v1/login", body).await;
    }
    eventually("the session is over", async || value(&figures(&farm).await, "stead_sessions") < 0.5).await;
    let page = figures(&farm).await;
    for (series, expected) in [
        ("stead_jobs{state=\"complete\"}", 1.0),
        ("stead_jobs{state=\"badlogin\"}", 0.0),
        ("stead_tasks{state=\"complete\"}", 5.0),
        ("stead_ready_tasks", 0.0),
        ("stead_tasks_dispatched_total", 5.0),
        ("stead_tasks_ended_total", 5.0),
        ("stead_submit_seconds_count", 1.0),
        ("stead_submit_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("stead_password_answers_total{outcome=\"ok\"}", 1.0),
        ("stead_password_answers_total{outcome=\"password_wrong\"}", 1.0),
        ("stead_refused_requests_total{rule=\"admin\"}", 1.0),
        ("stead_refused_requests_total{rule=\"password_wrong\"}", 1.0),
        ("stead_disk_full", 0.0),
        ("stead_audit_waiting_records", 0.0),
    ] {
        assert!((value(&page, series) - expected).abs() < 0.1, "{series} is not {expected}: {page}");
    }
    for series in [
        "stead_sessions_opened_total",
        "stead_reports_total",
        "stead_report_groups_total",
        "stead_audit_records",
        "stead_store_commit_seconds_count",
        "stead_store_group_size_sum",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(value(&page, series) > 0.0, "{series}: {page}");
    }
    assert!(page.contains("stead_workers{state=\"idle\",mode=\"desktop\"} 1"), "{page}");
    for name in ["ada", "bob", "\"desk\"", "render"] {
        assert!(!page.contains(name), "{name} is in {page}");
    }
    drop(worker);
}

/// A token for whatever scrapes is good for that, and for nothing else.
#[tokio::test]
async fn a_token_for_figures_is_for_nothing_else() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let op = Peer::Unix { uid: operator() };
    let body = json!({ "name": "prometheus", "scopes": ["metrics"] });
    let (_, _, made) = farm.send(op, ("POST", "/api/v1/tokens"), &[], body).await;
    let bearer = format!("Bearer {}", made["token"].as_str().expect("a token"));
    let ask = async |path| farm.send(tcp(), ("GET", path), &[("authorization", bearer.as_str())], Value::Null).await;
    // Whoever runs the farm is an administrator on its socket only; by a token it is the role that counts.
    assert_eq!(ask("/metrics").await.0.as_u16(), 403);
    let admin = json!({ "name": "op", "roles": ["admin"] });
    farm.ask(operator(), "POST", "/api/v1/users", admin).await;
    assert_eq!(ask("/metrics").await.0.as_u16(), 200);
    // A public key is no secret.
    let only_who =
        ["/healthz", "/readyz", "/metrics", "/api/v1/openapi.json", "/api/v1/whoami", "/api/v1/password-key"];
    for page in crate::api::routes().iter().filter(|page| page.method == "GET") {
        let path = page.path.replace("{id}", "1").replace("{name}", "op");
        let (status, ..) = farm.send(tcp(), ("GET", &path), &[("authorization", &bearer)], Value::Null).await;
        assert_eq!(status.is_success(), only_who.contains(&page.path), "{path}: {status}");
    }
    let body = json!({ "name": "reader", "scopes": ["read"] });
    let (_, _, made) = farm.send(op, ("POST", "/api/v1/tokens"), &[], body).await;
    let bearer = format!("Bearer {}", made["token"].as_str().expect("a token"));
    let headers = [("authorization", bearer.as_str())];
    let (status, _, told) = farm.send(tcp(), ("GET", "/metrics"), &headers, Value::Null).await;
    assert_eq!((status.as_u16(), &told["error"]["rule"]), (403, &json!("scope")));
}

/// Sent many times at once, a request is one act and one record.
#[tokio::test]
async fn the_same_request_at_once_is_one_act() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let body = json!({ "spec": frames(1), "request_id": "r-1" });
    let all = (0..20).map(|_| farm.ask(ADA, "POST", "/api/v1/jobs", body.clone()));
    let jobs: BTreeSet<u64> =
        futures_util::future::join_all(all).await.iter().map(|a| a["job"].as_u64().expect("a number")).collect();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    let chain = std::fs::read_to_string(dir.path().join("supervisor/audit/chain")).expect("chain");
    let count = |act: &str| chain.lines().filter(|l| l.contains(&format!("\"act\":\"{act}\""))).count();
    assert_eq!((count("submit"), count("not_done")), (1, 0));
}
