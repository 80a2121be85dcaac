//! Sessions and tokens: whose a request is that shows one, and what ends them.

use super::fake_worker::{FakeWorker, Habits};
use super::{ADA, BOB, Supervised, eventually, frames, operator, spec, tcp};
use crate::authn::{Kind, Peer, Secret};
use crate::clock;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{NewToken, NewUser};
use tokio::sync::Semaphore;

const HOUR: i64 = 3_600_000_000;

fn unix(uid: u32) -> Peer {
    Peer::Unix { uid }
}

/// A credential of somebody, as if made `ago` and good for `lasts` from now on (µs).
async fn made(farm: &Supervised, kind: Kind, login_user: &str, (ago, lasts): (i64, i64)) -> (u64, String) {
    let secret = Secret::new(kind).expect("random");
    let now = clock::now();
    let row = NewToken {
        hash: secret.hash(),
        kind: kind.as_str().to_owned(),
        login_user: login_user.to_owned(),
        scopes: Some("read,submit,control,manage".to_owned()),
        expires_at: Some(clock::rfc3339_seconds(now + lasts)),
        ..NewToken::default()
    };
    let id = farm.running.app.service.store.add_token(row, None, now - ago).await.expect("kept");
    (id, secret.reveal().to_string())
}

async fn session(farm: &Supervised, login_user: &str) -> (u64, String) {
    made(farm, Kind::Session, login_user, (0, HOUR)).await
}

async fn whoami(farm: &Supervised, peer: Peer, headers: &[(&str, &str)]) -> (u16, Value) {
    let (status, _, answer) = farm.send(peer, ("GET", "/api/v1/whoami"), headers, Value::Null).await;
    (status.as_u16(), answer)
}

/// What a request with this bearer gets, on both channels; on the socket as bob.
async fn with_bearer(farm: &Supervised, credential: &str) -> [(u16, Value); 2] {
    let bearer = format!("Bearer {credential}");
    let headers = [("authorization", bearer.as_str())];
    [whoami(farm, tcp(), &headers).await, whoami(farm, unix(BOB), &headers).await]
}

async fn refused(farm: &Supervised, credential: &str, rule: &str, why: &str) {
    for (status, answer) in with_bearer(farm, credential).await {
        assert_eq!((status, &answer["error"]["rule"]), (401, &json!(rule)), "{why}: {answer}");
        assert!(answer["login_user"].is_null(), "{why}");
    }
}

#[tokio::test]
async fn whoever_shows_a_credential_is_its_owner_or_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let (id, ada) = session(&farm, "ada").await;
    for (status, answer) in with_bearer(&farm, &ada).await {
        assert_eq!((status, &answer["login_user"], &answer["user"]), (200, &json!("ada"), &json!("ada")), "{answer}");
        assert_eq!((&answer["uid"], &answer["credential"]["id"]), (&Value::Null, &json!(id)));
        assert!(!answer.to_string().contains(&ada[8..]));
    }
    // Every bit of it counts.
    for at in 0..ada.len() {
        for bit in 0..7 {
            let mut bytes = ada.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            // No header has control characters, and none ends in a space.
            if changed.chars().any(char::is_control) {
                continue;
            }
            let bearer = format!("Bearer {changed}");
            let (status, answer) = whoami(&farm, unix(BOB), &[("authorization", &bearer)]).await;
            assert_eq!((status, &answer["login_user"]), (401, &Value::Null), "byte {at} bit {bit}");
        }
    }
    for bad in
        [&ada[..ada.len() - 1], &ada.replace("stead_s_", "stead_t_"), &ada.replace("stead_s_", "stead_j_"), &ada[8..]]
    {
        refused(&farm, bad, "credential", "a changed form").await;
    }
    let (bearer, other) = (format!("Bearer {ada}"), format!("Bearer {}", session(&farm, "bob").await.1));
    let both = [("authorization", bearer.as_str()), ("authorization", other.as_str())];
    assert_eq!(whoami(&farm, unix(ADA), &both).await.0, 401);
    let both = [("authorization", other.as_str()), ("cookie", &format!("stead={ada}"))];
    assert_eq!(whoami(&farm, tcp(), &both).await.0, 401);
    for name in ["x-remote-user", "x-forwarded-user", "remote-user", "token-user", "x-qb-user", "x_remote_user"] {
        assert_eq!(whoami(&farm, tcp(), &[(name, "ada")]).await.0, 401, "{name}");
        assert_eq!(whoami(&farm, unix(BOB), &[(name, "ada")]).await.1["login_user"], "bob", "{name}");
    }
}

/// A browser sends a cookie to every port of a host: what another account got that way is nobody's there.
#[tokio::test]
async fn a_session_is_good_for_the_account_that_made_it_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let at = |uid| Peer::Tcp { address: "127.0.0.1:50000".parse().expect("address"), uid };
    let login = json!({"user": "ada", "password": "right"});
    let (status, _, made) = farm.send(at(Some(7001)), ("POST", "/api/v1/login"), &[], login.clone()).await;
    assert_eq!(status, 200, "{made}");
    let session = made["token"].as_str().expect("a session").to_owned();
    let (bearer, cookie) = (format!("Bearer {session}"), format!("stead={session}"));
    for shown in [("authorization", bearer.as_str()), ("cookie", cookie.as_str())] {
        let (status, answer) = whoami(&farm, at(Some(7001)), &[shown]).await;
        assert_eq!((status, &answer["login_user"]), (200, &json!("ada")), "{shown:?}");
        // Another account, one that nobody can tell, and bob by the kernel's own word.
        for peer in [at(Some(7002)), at(Some(0)), unix(BOB)] {
            let (status, answer) = whoami(&farm, peer, &[shown]).await;
            assert_eq!((status, &answer["error"]["rule"]), (401, &json!("session_account")), "{peer:?}: {answer}");
        }
        assert_eq!(whoami(&farm, at(None), &[shown]).await.0, 503);
    }
    let record = audit(dir.path());
    assert!(record.contains("session_account") && record.contains("127.0.0.1, uid 7002"), "{record}");
    // Where the kernel didn't say who made it, the session is as good as before; so is a token anywhere.
    let (_, _, made) = farm.send(at(None), ("POST", "/api/v1/login"), &[], login).await;
    let bearer = format!("Bearer {}", made["token"].as_str().expect("a session"));
    let shown = [("authorization", bearer.as_str())];
    assert_eq!(whoami(&farm, at(Some(7002)), &shown).await.0, 200);
    let token = json!({"name": "n", "scopes": ["read"]});
    let (status, _, made) = farm.send(at(Some(7002)), ("POST", "/api/v1/tokens"), &shown, token).await;
    assert!(status.is_success(), "{made}");
    let bearer = format!("Bearer {}", made["token"].as_str().expect("a token"));
    assert_eq!(whoami(&farm, at(Some(7003)), &[("authorization", &bearer)]).await.0, 200);
}

#[tokio::test]
async fn what_has_ended_is_nobodys() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let store = farm.running.app.service.store.clone();
    let is = async |kind, ago, lasts| made(&farm, kind, "ada", (ago, lasts)).await.1;
    refused(&farm, &is(Kind::Session, HOUR, -1_000_000).await, "credential_ended", "its time is over").await;
    refused(&farm, &is(Kind::Token, HOUR, -1_000_000).await, "credential_ended", "its time is over").await;
    refused(&farm, &is(Kind::Session, 13 * HOUR, HOUR).await, "credential_ended", "idle").await;
    for (status, _) in with_bearer(&farm, &is(Kind::Token, 1000 * HOUR, HOUR).await).await {
        assert_eq!(status, 200, "a script may rest");
    }
    // Used in between, it is not idle.
    let (id, used) = made(&farm, Kind::Session, "ada", (13 * HOUR, HOUR)).await;
    store.touch_tokens(&[(id, clock::now() - HOUR)]).await.expect("touched");
    assert_eq!(with_bearer(&farm, &used).await[0].0, 200);
    eventually("the use is written down", async || {
        let row = store.token(id).await.expect("read").expect("there").expect("good");
        row.last_used_at.is_some_and(|at| crate::identity::micros(&at).expect("time") > clock::now() - HOUR / 2)
    })
    .await;
    store.revoke_token(id, None, None, clock::now()).await.expect("revoked");
    refused(&farm, &used, "credential_ended", "revoked").await;
    // A job's token without a session of that job.
    refused(&farm, &is(Kind::Job, 0, HOUR).await, "credential_ended", "no session").await;
    // Rows by hand: garbage gives nothing.
    for (column, value) in [
        ("scopes", "''"),
        ("scopes", "NULL"),
        ("scopes", "'read,all'"),
        ("scopes", "x'00'"),
        ("login_user", "''"),
        ("login_user", "'*'"),
        ("kind", "'token'"),
        ("acting_as", "'*'"),
        ("expires_at", "NULL"),
        ("expires_at", "'never'"),
        ("created_at", "NULL"),
    ] {
        let (id, secret) = session(&farm, "ada").await;
        by_hand(dir.path(), &format!("UPDATE tokens SET {column} = {value} WHERE id = {id}"));
        let got = with_bearer(&farm, &secret).await.map(|(status, _)| status);
        assert_eq!(got, [401; 2], "{column} = {value}");
    }
}

/// As an administrator would, with another program.
fn by_hand(data: &Path, sql: &str) {
    let db = data.join("supervisor/store.db");
    let done = std::process::Command::new("sqlite3").arg("-cmd").arg(".timeout 10000").arg(db).arg(sql).status();
    assert!(done.expect("sqlite3").success(), "{sql}");
}

#[tokio::test]
async fn roles_and_people_are_looked_up_at_every_request() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let store = farm.running.app.service.store.clone();
    let (_, ada) = session(&farm, "ada").await;
    let roles = async || with_bearer(&farm, &ada).await[0].1["roles"].clone();
    let user = |roles: &str, disabled| NewUser {
        name: "ada".into(),
        kind: "login".into(),
        roles: roles.into(),
        disabled,
        ..NewUser::default()
    };
    assert_eq!(roles().await, json!([]));
    store.put_user(user("admin", false), None, clock::now()).await.expect("kept");
    assert_eq!(roles().await, json!(["admin"]));
    store.put_user(user("", false), None, clock::now()).await.expect("kept");
    assert_eq!(roles().await, json!([]));
    store.put_user(user("admin", true), None, clock::now()).await.expect("kept");
    for (status, answer) in with_bearer(&farm, &ada).await {
        assert_eq!((status, &answer["error"]["rule"]), (403, &json!("user_disabled")));
    }
}

#[tokio::test]
async fn a_cookie_serves_our_own_pages() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let (_, ada) = session(&farm, "ada").await;
    let cookie = format!("stead={ada}");
    let job = json!({ "spec": spec(json!({ "argv": ["true"] })) });
    let host = ("host", "127.0.0.1:7878");
    for (headers, expected) in [
        (vec![], 403),
        (vec![("origin", "http://evil.example")], 403),
        (vec![("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:7878")], 403),
        (vec![("origin", "http://127.0.0.1:7878")], 201),
        (vec![("sec-fetch-site", "same-origin")], 201),
    ] {
        let headers = [vec![host, ("cookie", cookie.as_str())], headers].concat();
        let (status, _, answer) = farm.send(tcp(), ("POST", "/api/v1/jobs"), &headers, job.clone()).await;
        assert_eq!(status.as_u16(), expected, "{headers:?} {answer}");
    }
    let ours = [host, ("cookie", cookie.as_str()), ("origin", "http://127.0.0.1:7878")];
    let (status, headers, _) = farm.send(tcp(), ("POST", "/api/v1/logout"), &ours, Value::Null).await;
    let forget = headers["set-cookie"].to_str().expect("text");
    assert_eq!((status, forget), (StatusCode::OK, "stead=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"));
    assert_eq!(whoami(&farm, tcp(), &ours).await.0, 401, "the old cookie");
    let jobs = farm.ask(ADA, "GET", "/api/v1/jobs", Value::Null).await;
    assert_eq!(jobs.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_token_never_has_more_than_its_maker() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let store = farm.running.app.service.store.clone();
    let admin = NewUser { name: "ada".into(), kind: "login".into(), roles: "admin".into(), ..NewUser::default() };
    store.put_user(admin, None, clock::now()).await.expect("kept");
    let make = async |headers: &[(&str, &str)], body: Value| {
        let (status, _, answer) = farm.send(unix(ADA), ("POST", "/api/v1/tokens"), headers, body).await;
        (status.as_u16(), answer)
    };
    let (status, made) = make(&[], json!({ "name": "ci", "scopes": ["read", "submit"], "expires": "30d" })).await;
    assert_eq!(status, 201, "{made}");
    let token = made["token"].as_str().expect("text").to_owned();
    assert!(token.starts_with("stead_t_"), "the kind shows");
    let bearer = format!("Bearer {token}");
    let show = [("authorization", bearer.as_str())];
    let (_, me) = whoami(&farm, tcp(), &show).await;
    assert_eq!((&me["scopes"], &me["roles"]), (&json!(["read", "submit"]), &json!([])), "no role without manage");
    // What it lacks it can't do, nor have made.
    let job = farm.submit(BOB, frames(1)).await;
    let own = farm.submit(ADA, frames(1)).await;
    for (method, path, body, expected) in [
        ("POST", "/api/v1/jobs".to_owned(), json!({ "spec": spec(json!({ "argv": ["true"] })) }), 201),
        ("GET", format!("/api/v1/jobs/{own}"), Value::Null, 200),
        ("GET", format!("/api/v1/jobs/{job}"), Value::Null, 404),
        ("POST", format!("/api/v1/jobs/{own}/kill"), Value::Null, 403),
        ("GET", "/api/v1/tokens".to_owned(), Value::Null, 403),
        ("GET", "/api/v1/sessions".to_owned(), Value::Null, 403),
        ("DELETE", format!("/api/v1/tokens/{}", made["id"]), Value::Null, 403),
        ("POST", "/api/v1/tokens".to_owned(), json!({ "name": "x", "scopes": ["read"] }), 403),
        ("POST", "/api/v1/logout".to_owned(), Value::Null, 400),
    ] {
        let (status, _, answer) = farm.send(tcp(), (method, &path), &show, body).await;
        assert_eq!(status.as_u16(), expected, "{method} {path}: {answer}");
    }
    for (body, expected) in [
        (json!({ "name": "x", "scopes": ["all"] }), 400),
        (json!({ "name": "x", "scopes": [] }), 400),
        (json!({ "name": "", "scopes": ["read"] }), 400),
        (json!({ "name": "a\nb", "scopes": ["read"] }), 400),
        (json!({ "name": "x", "scopes": ["read"], "login_user": "bob" }), 400),
        (json!({ "name": "x", "scopes": ["read"], "expires": "0" }), 400),
        (json!({ "name": "x", "scopes": ["read"], "expires": "soon" }), 400),
        (json!({ "name": "x", "scopes": ["read"], "expires": "2020-01-01T00:00:00Z" }), 400),
        (json!({ "name": "x", "scopes": ["read"], "expires": "never" }), 403),
        (json!({ "name": "x", "scopes": ["read"], "expires": "367d" }), 403),
        (json!({ "name": "x", "scopes": ["read"], "expires": "366d" }), 201),
    ] {
        let (status, answer) = make(&[], body.clone()).await;
        assert_eq!(status, expected, "{body}: {answer}");
    }
    // With `manage` a token makes tokens, for no longer than itself.
    let (_, wide) = make(&[], json!({ "name": "w", "scopes": ["manage", "read"], "expires": "1h" })).await;
    let bearer = format!("Bearer {}", wide["token"].as_str().expect("text"));
    let show = [("authorization", bearer.as_str())];
    assert_eq!(make(&show, json!({ "name": "x", "scopes": ["submit"] })).await.0, 403);
    let (status, narrow) = make(&show, json!({ "name": "x", "scopes": ["read"], "expires": "9d" })).await;
    assert_eq!((status, &narrow["expires_at"]), (201, &wide["expires_at"]));
}

#[tokio::test]
async fn sessions_and_tokens_are_listed_and_ended_by_their_owner_and_by_administrators() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let (one, first) = session(&farm, "ada").await;
    let (two, _) = session(&farm, "ada").await;
    made(&farm, Kind::Session, "ada", (HOUR, -1)).await;
    let (token, _) = made(&farm, Kind::Token, "ada", (0, HOUR)).await;
    let bearer = format!("Bearer {first}");
    let show = [("authorization", bearer.as_str())];
    let (_, _, listed) = farm.send(tcp(), ("GET", "/api/v1/sessions"), &show, Value::Null).await;
    let ids = |list: &Value| -> Vec<(Value, Value)> {
        list.as_array().expect("list").iter().map(|s| (s["id"].clone(), s["current"].clone())).collect()
    };
    assert_eq!(ids(&listed), [(json!(one), json!(true)), (json!(two), json!(false))]);
    assert_eq!(ids(&farm.get("/api/v1/tokens").await), [(json!(token), json!(false))]);
    assert_eq!(farm.ask(BOB, "GET", "/api/v1/sessions", Value::Null).await, json!([]));
    let status = async |uid, method: &str, path: &str| farm.call(unix(uid), method, path, Value::Null).await;
    assert_eq!(status(BOB, "GET", "/api/v1/sessions?user=ada").await.0, 403);
    let all = farm.ask(operator(), "GET", "/api/v1/sessions?user=ada", Value::Null).await;
    assert_eq!(ids(&all).len(), 2);
    // Not yours is not there, in the same words.
    let (code, hidden) = status(BOB, "DELETE", &format!("/api/v1/sessions/{one}")).await;
    let (_, absent) = status(BOB, "DELETE", "/api/v1/sessions/99999").await;
    let text = |bytes: Vec<u8>, id: &str| String::from_utf8(bytes).expect("text").replace(id, "N");
    assert_eq!((code.as_u16(), text(hidden, &one.to_string())), (404, text(absent, "99999")));
    for path in
        [format!("sessions/{token}"), format!("tokens/{one}"), "sessions/x".to_owned(), "sessions/-1".to_owned()]
    {
        assert_eq!(status(ADA, "DELETE", &format!("/api/v1/{path}")).await.0, 404, "{path}");
    }
    // A stream ends with the session it was opened by, though nothing happens on the farm.
    let watch = farm.follow_as(tcp(), "/api/v1/events", &show).await;
    assert_eq!(status(operator(), "DELETE", &format!("/api/v1/sessions/{one}")).await.0, 200);
    watch.ended().await;
    refused(&farm, &first, "credential_ended", "ended by an administrator").await;
    assert_eq!(status(ADA, "DELETE", &format!("/api/v1/sessions/{two}")).await.0, 200);
    assert_eq!(status(ADA, "DELETE", &format!("/api/v1/tokens/{token}")).await.0, 200);
    assert_eq!(farm.get("/api/v1/tokens").await, json!([]));
}

#[tokio::test]
async fn a_job_has_a_token_while_it_runs() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let permits = Arc::new(Semaphore::new(0));
    let worker = FakeWorker::start(dir.path(), Habits { permits: permits.clone(), ..Habits::of_ada("desk") });
    let others = farm.submit(BOB, frames(1)).await;
    let mut carrying = frames(1);
    carrying["token"] = json!(true);
    carrying["env"] = json!({ "STEAD_URL": "unix:/elsewhere", "STEAD_TOKEN_FILE": "/etc/passwd", "A": "b" });
    let job = farm.submit(ADA, carrying.clone()).await;
    eventually("it is handed out", async || worker.seen().whole.len() == 1).await;
    let batch = worker.seen().whole.first().cloned().expect("a batch");
    let [file] = &batch.files[..] else { panic!("one file") };
    assert_eq!((&file.path[..], file.executable), (&b"token"[..], false));
    let token = String::from_utf8(file.data.clone()).expect("text");
    assert!(token.starts_with("stead_j_"));
    let env: Vec<(String, String)> = batch.env.iter().map(|(k, v)| (text(k), text(v))).collect();
    let socket = format!("unix:{}", dir.path().join("run/socket").display());
    let says = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(env, [says("A", "b"), says("STEAD_TOKEN_FILE", "@STEAD_FILES@/token"), says("STEAD_URL", &socket)]);

    let bearer = format!("Bearer {token}");
    let show = [("authorization", bearer.as_str())];
    let (_, me) = whoami(&farm, unix(BOB), &show).await;
    assert_eq!((&me["login_user"], &me["scopes"]), (&json!("ada"), &json!(["read", "submit"])));
    let child = json!({ "spec": spec(json!({ "argv": ["true"] })) });
    let as_other = |key: &str| {
        let mut body = child.clone();
        body[key] = json!("bob");
        body
    };
    for (method, path, body, expected) in [
        ("POST", "/api/v1/jobs".to_owned(), child.clone(), 201),
        ("POST", "/api/v1/jobs".to_owned(), as_other("user"), 403),
        ("POST", "/api/v1/jobs".to_owned(), as_other("as"), 400),
        ("GET", format!("/api/v1/jobs/{job}"), Value::Null, 200),
        ("GET", format!("/api/v1/jobs/{others}"), Value::Null, 404),
        ("POST", format!("/api/v1/jobs/{job}/kill"), Value::Null, 403),
        ("POST", format!("/api/v1/jobs/{others}/kill"), Value::Null, 404),
        ("GET", "/api/v1/tokens".to_owned(), Value::Null, 403),
        ("POST", "/api/v1/tokens".to_owned(), json!({ "name": "x", "scopes": ["read"] }), 403),
        ("POST", "/api/v1/logout".to_owned(), Value::Null, 400),
    ] {
        let (status, _, answer) = farm.send(unix(BOB), (method, &path), &show, body).await;
        assert_eq!(status.as_u16(), expected, "{method} {path}: {answer}");
    }
    let children = farm.get("/api/v1/jobs?limit=1").await;
    assert_eq!((&children[0]["login_user"], &children[0]["user"]), (&json!("ada"), &json!("ada")));
    permits.add_permits(Semaphore::MAX_PERMITS / 2);
    farm.over(job).await;
    refused(&farm, &token, "credential_ended", "its job is over").await;
    // Nowhere but in the file it was sent with.
    for file in walk(dir.path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let digits = &token.as_bytes()[8..];
        assert!(!bytes.windows(digits.len()).any(|w| w == digits), "{}", file.display());
    }
    // Who submits for another by a role hands that role to nobody.
    let body = json!({ "spec": carrying, "user": "ada" });
    let (status, _, answer) = farm.send(unix(operator()), ("POST", "/api/v1/jobs"), &[], body).await;
    assert_eq!((status.as_u16(), &answer["error"]["rule"]), (403, &json!("job_token")), "{answer}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// All files below a folder.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("folder").map(|e| e.expect("entry").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).filter(|p| p.is_file()).collect()
}

async fn login(farm: &Supervised, user: &str, password: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, Value) {
    let body = json!({ "user": user, "password": password, "name": "laptop" });
    let (status, headers, answer) = farm.send(tcp(), ("POST", "/api/v1/login"), headers, body).await;
    (status.as_u16(), headers, answer)
}

#[tokio::test]
async fn whoever_knows_the_password_has_a_session() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let store = farm.running.app.service.store.clone();
    let (status, headers, answer) = login(&farm, "ada", "right", &[]).await;
    assert_eq!((status, headers.get("set-cookie")), (200, None), "{answer}");
    let token = answer["token"].as_str().expect("text").to_owned();
    assert!(token.starts_with("stead_s_"), "the kind shows");
    let [(status, me), _] = with_bearer(&farm, &token).await;
    assert_eq!((status, &me["login_user"], &me["expires_at"]), (200, &json!("ada"), &answer["expires_at"]));
    let row = store.user("ada").await.expect("read").expect("there").expect("good");
    assert_eq!((row.kind.as_str(), row.roles.as_str(), row.disabled), ("login", "", false));
    // Another time it is another session, whatever was shown before.
    let (_, _, second) = login(&farm, "ada", "right", &[("authorization", &format!("Bearer {token}"))]).await;
    assert_ne!(second["token"], answer["token"]);
    // A page of ours gets it as a cookie, and only so; another page gets nobody signed in.
    let ours = [("host", "127.0.0.1:7878"), ("origin", "http://127.0.0.1:7878")];
    let (status, headers, answer) = login(&farm, "ada", "right", &ours).await;
    assert_eq!((status, &answer["token"]), (200, &Value::Null));
    let cookie = headers["set-cookie"].to_str().expect("text");
    assert!(
        cookie.starts_with("stead=stead_s_") && cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800")
    );
    let theirs = [("host", "127.0.0.1:7878"), ("origin", "http://evil.example")];
    let (status, headers, _) = login(&farm, "ada", "right", &theirs).await;
    assert_eq!((status, headers.get("set-cookie")), (403, None));
    // What is on record names who, and holds no secret.
    let audit = audit(dir.path());
    assert_eq!(audit.matches("\"act\":\"login\"").count(), 3, "{audit}");
    assert!(!audit.contains("right\"") && !audit.contains(&token[8..]));
}

#[tokio::test]
async fn whoever_does_not_is_told_what_helps_and_no_more() {
    let dir = tempfile::tempdir().expect("dir");
    let mut farm = Supervised::start(dir.path()).await;
    let store = farm.running.app.service.store.clone();
    let user = |name: &str, kind: &str, disabled| NewUser {
        name: name.into(),
        kind: kind.into(),
        disabled,
        ..NewUser::default()
    };
    store.put_user(user("bob", "login", true), None, clock::now()).await.expect("kept");
    store.put_user(user("render", "proxy", false), None, clock::now()).await.expect("kept");
    for (name, password, expected, rule) in [
        ("ada", "wrong-canary", 401, "password_wrong"),
        ("nosuch", "right", 401, "password_wrong"),
        ("root", "right", 401, "password_wrong"),
        ("", "right", 401, "password_wrong"),
        ("old", "right", 403, "account_expired"),
        ("must", "right", 403, "password_must_change"),
        ("kept_out", "right", 403, "account_refused"),
        ("down", "right", 503, "password_unavailable"),
        ("off", "right", 403, "password_sign_in"),
        ("bob", "right", 403, "user_disabled"),
    ] {
        let (status, headers, answer) = login(&farm, name, password, &[]).await;
        assert_eq!((status, &answer["error"]["rule"]), (expected, &json!(rule)), "{name}: {answer}");
        assert!(answer["error"]["hint"].is_string() && headers.get("set-cookie").is_none());
    }
    let long = "x".repeat(5000);
    login(&farm, &long, "right", &[]).await;
    let mut limited = None;
    for _ in 0..10 {
        let (status, headers, _) = login(&farm, "eve", "wrong-canary", &[]).await;
        if status == 429 {
            limited = headers.get("retry-after").cloned();
            break;
        }
    }
    let wait: u64 = limited.expect("slowed down").to_str().expect("text").parse().expect("seconds");
    assert!(wait >= 1);
    let audit = audit(dir.path());
    assert!(audit.contains("password_wrong") && audit.contains("user_disabled"), "{audit}");
    assert!(!audit.contains("canary") && !audit.contains(&long[..100]));
    // A proxy user does not sign in; one who may is itself.
    let peer = Peer::Tcp { address: "127.0.0.2:50000".parse().expect("address"), uid: None };
    let body = json!({ "user": "render", "password": "right" });
    let (status, _, answer) = farm.send(peer, ("POST", "/api/v1/login"), &[], body.clone()).await;
    assert_eq!((status.as_u16(), &answer["error"]["rule"]), (403, &json!("proxy_users_sign_in")), "{answer}");
    farm.configure(|settings| settings.proxy_users_sign_in = true);
    let (status, _, answer) = farm.send(peer, ("POST", "/api/v1/login"), &[], body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let [(_, me), _] = with_bearer(&farm, answer["token"].as_str().expect("text")).await;
    assert_eq!((&me["login_user"], &me["user"]), (&json!("render"), &json!("render")));
    for body in [json!({ "user": "ada" }), json!({ "user": "ada", "password": 1 }), json!({}), json!([])] {
        let (status, _, answer) = farm.send(tcp(), ("POST", "/api/v1/login"), &[], body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
    // Strangers aren't listened to for long.
    let body = json!({ "user": "x".repeat(1 << 20), "password": "y" });
    let (status, ..) = farm.send(tcp(), ("POST", "/api/v1/login"), &[], body).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

/// All that is on record.
fn audit(data: &Path) -> String {
    let files = walk(&data.join("supervisor/audit"));
    files.iter().map(|f| String::from_utf8_lossy(&std::fs::read(f).expect("read")).into_owned()).collect()
}
