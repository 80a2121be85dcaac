//! The farm's own accounts: set, used, changed, taken away, and what each of that ends.

use super::{ADA, BOB, Supervised, operator, tcp};
use crate::authn::Peer;
use serde_json::{Value, json};
use std::path::Path;

const FIRST: &str = "first canary";
const SECOND: &str = "second canary";

/// Status and rule of what a peer is answered.
async fn asked(farm: &Supervised, peer: Peer, method: &str, path: &str, body: Value) -> (u16, String) {
    let (status, _, answer) = farm.send(peer, (method, path), &[], body).await;
    let said = answer.to_string();
    assert!(!said.contains("canary"), "no password in {said}");
    (status.as_u16(), answer["error"]["rule"].as_str().unwrap_or_default().to_owned())
}

async fn set(farm: &Supervised, uid: u32, name: &str, password: &str) -> (u16, String) {
    let path = format!("/api/v1/accounts/{name}");
    asked(farm, Peer::Unix { uid }, "PUT", &path, json!({ "password": password })).await
}

async fn change(farm: &Supervised, uid: u32, old: &str, new: &str) -> (u16, String) {
    let body = json!({ "old": old, "new": new });
    asked(farm, Peer::Unix { uid }, "PUT", "/api/v1/password", body).await
}

async fn login(farm: &Supervised, name: &str, password: &str) -> Result<String, u16> {
    let body = json!({ "user": name, "password": password });
    let (status, _, answer) = farm.send(tcp(), ("POST", "/api/v1/login"), &[], body).await;
    answer["token"].as_str().map(str::to_owned).ok_or(status.as_u16())
}

async fn whoami(farm: &Supervised, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    farm.send(tcp(), ("GET", "/api/v1/whoami"), &[("authorization", &bearer)], Value::Null).await.0.as_u16()
}

fn done() -> (u16, String) {
    (200, String::new())
}

/// By hand any name can get into the table; by no password anybody comes in as the system's.
#[tokio::test]
async fn no_account_of_the_farms_is_the_systems() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::with_own_accounts(dir.path()).await;
    for (name, refused) in [
        ("www-data", (403, "system_account".to_owned())),
        ("adrift", (403, "directory".to_owned())),
        ("root", (400, String::new())),
        ("Root", (400, String::new())),
    ] {
        assert_eq!(set(&farm, operator(), name, FIRST).await, refused, "{name}");
    }
    assert_eq!(set(&farm, operator(), "ada", FIRST).await, done());
    farm.by_hand(dir.path(), "UPDATE accounts SET name = 'www-data' WHERE name = 'ada'").await;
    assert_eq!(login(&farm, "www-data", FIRST).await, Err(401));
    farm.by_hand(dir.path(), "UPDATE accounts SET name = 'adrift' WHERE name = 'www-data'").await;
    assert_eq!(login(&farm, "adrift", FIRST).await, Err(503), "nobody can tell: it is no wrong password");
    farm.by_hand(dir.path(), "UPDATE accounts SET name = 'www-data' WHERE name = 'adrift'").await;
    let gone = asked(&farm, Peer::Unix { uid: operator() }, "DELETE", "/api/v1/accounts/www-data", Value::Null).await;
    assert_eq!(gone, done(), "it can be taken away");
}

#[tokio::test]
async fn a_password_is_set_used_changed_and_taken_away() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::with_own_accounts(dir.path()).await;
    assert_eq!(login(&farm, "ada", FIRST).await, Err(401), "there is no account yet");
    assert_eq!(set(&farm, operator(), "ada", FIRST).await, done());
    let session = login(&farm, "ada", FIRST).await.expect("a session");
    assert_eq!(whoami(&farm, &session).await, 200);

    let bearer = format!("Bearer {session}");
    let watch = farm.follow_as(tcp(), "/api/v1/events", &[("authorization", &bearer)]).await;
    assert_eq!(change(&farm, ADA, FIRST, SECOND).await, done());
    watch.ended().await;
    assert_eq!(whoami(&farm, &session).await, 401, "whoever came in by the old one is out");
    assert_eq!(login(&farm, "ada", FIRST).await, Err(401));
    let session = login(&farm, "ada", SECOND).await.expect("a session");

    assert_eq!(set(&farm, operator(), "ada", FIRST).await, done());
    assert_eq!(whoami(&farm, &session).await, 401, "by an administrator, too");
    let session = login(&farm, "ada", FIRST).await.expect("a session");
    let path = "/api/v1/accounts/ada";
    assert_eq!(asked(&farm, Peer::Unix { uid: operator() }, "DELETE", path, Value::Null).await, done());
    assert_eq!((whoami(&farm, &session).await, login(&farm, "ada", FIRST).await), (401, Err(401)));
    assert_eq!(asked(&farm, Peer::Unix { uid: operator() }, "DELETE", path, Value::Null).await.0, 404);
    nowhere(dir.path());
}

/// What is kept names who, and is no password.
fn nowhere(data: &Path) {
    let mut changes = 0;
    for folder in [data.join("supervisor"), data.join("supervisor/audit")] {
        for entry in std::fs::read_dir(folder).expect("folder").map(|e| e.expect("entry").path()) {
            let text = String::from_utf8_lossy(&std::fs::read(&entry).unwrap_or_default()).into_owned();
            assert!(!text.contains("canary"), "{}", entry.display());
            if entry.ends_with("audit/chain") {
                changes = text.matches("\"act\":\"password\"").count();
            }
        }
    }
    assert_eq!(changes, 4, "three set, one taken away");
}

#[tokio::test]
async fn only_who_may_and_nothing_that_is_no_password() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::with_own_accounts(dir.path()).await;
    assert_eq!(set(&farm, ADA, "ada", FIRST).await, (403, "admin".to_owned()), "not even one's own without the old");
    assert_eq!(set(&farm, BOB, "ada", FIRST).await, (403, "admin".to_owned()));
    let path = "/api/v1/accounts/ada";
    assert_eq!(asked(&farm, Peer::Unix { uid: ADA }, "DELETE", path, Value::Null).await.1, "admin");
    let long = format!("canary{}", "x".repeat(1019));
    for wrong in ["", "canary7", "canary\n8", "canary\u{0}8", "canary\u{9b}8", &long] {
        assert_eq!(set(&farm, operator(), "ada", wrong).await.0, 400, "{wrong:?}");
    }
    assert_eq!(set(&farm, operator(), "margarethe", "Margarethe").await.0, 400, "the name");
    for name in ["root", "-x", "*", "a%20b"] {
        assert_eq!(set(&farm, operator(), name, FIRST).await.0, 400, "{name}");
    }
    assert_eq!(set(&farm, operator(), "ada", "pässwörd").await, done(), "characters, not bytes");
    assert_eq!(set(&farm, operator(), "ada", FIRST).await, done());
    assert_eq!(change(&farm, ADA, FIRST, FIRST).await.0, 400, "the same again");
    assert_eq!(change(&farm, ADA, FIRST, "short").await.0, 400);
    assert_eq!(change(&farm, BOB, FIRST, SECOND).await, (401, "password_wrong".to_owned()), "bob has none");
    // A stolen session doesn't guess any faster than anybody.
    let mut said = Vec::new();
    for _ in 0..6 {
        said.push(change(&farm, ADA, "a wrong canary", SECOND).await);
    }
    assert_eq!(said[0], (401, "password_wrong".to_owned()));
    assert!(said.contains(&(429, "password_tries".to_owned())), "{said:?}");
}

#[tokio::test]
async fn a_removed_user_leaves_no_password() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::with_own_accounts(dir.path()).await;
    assert_eq!(set(&farm, operator(), "ada", FIRST).await, done());
    login(&farm, "ada", FIRST).await.expect("a session");
    farm.ask(operator(), "DELETE", "/api/v1/users/ada", Value::Null).await;
    assert_eq!(login(&farm, "ada", FIRST).await, Err(401));
}

#[tokio::test]
async fn where_the_hosts_passwords_count_the_farm_keeps_none() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let off = (403, "own_accounts".to_owned());
    assert_eq!(set(&farm, operator(), "ada", FIRST).await, off);
    assert_eq!(change(&farm, ADA, "right", SECOND).await, off);
    let path = "/api/v1/accounts/ada";
    assert_eq!(asked(&farm, Peer::Unix { uid: operator() }, "DELETE", path, Value::Null).await, off);
}
