//! The pages for browsers: who gets what from which, what every answer carries, and what a hostile name can do.

use super::fake_worker::{FakeWorker, Habits};
use super::{ADA, BOB, NOBODY, Supervised, eventually, frames, operator, spec, tcp};
use crate::authn::Peer;
use crate::events::Event;
use crate::pages;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tower::ServiceExt as _;

/// A browser's request for a page: a form where there is one.
pub(super) struct Asked<'a> {
    pub(super) peer: Peer,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) form: &'a str,
}

pub(super) async fn ask(farm: &Supervised, asked: Asked<'_>) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(asked.method).uri(asked.path).header("host", "127.0.0.1:7878");
    if asked.method == "POST" {
        request = request.header("content-type", "application/x-www-form-urlencoded");
    }
    let request = asked.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let mut request = request.body(Body::from(asked.form.to_owned())).expect("request");
    request.extensions_mut().insert(asked.peer);
    let (head, body) = farm.router().oneshot(request).await.expect("answer").into_parts();
    if head.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream") {
        return (head.status, head.headers, String::new());
    }
    let bytes = body.collect().await.expect("body").to_bytes();
    (head.status, head.headers, String::from_utf8_lossy(&bytes).into_owned())
}

async fn page(farm: &Supervised, uid: u32, path: &str) -> (u16, String) {
    let (status, _, text) =
        ask(farm, Asked { peer: Peer::Unix { uid }, method: "GET", path, headers: &[], form: "" }).await;
    (status.as_u16(), text)
}

async fn post(farm: &Supervised, uid: u32, path: &str, form: &str) -> (u16, String) {
    let (status, _, text) =
        ask(farm, Asked { peer: Peer::Unix { uid }, method: "POST", path, headers: &[], form }).await;
    (status.as_u16(), text)
}

/// Method and path; form; what these get: TCP, an id without an entry, bob, ada (whose job it is), the operator.
type Row = (&'static str, &'static str, &'static str, [u16; 5]);

const TABLE: &[Row] = &[
    ("GET", "/", "", [303; 5]),
    ("GET", "/assets/{name}", "", [200; 5]),
    ("GET", "/login", "", [200; 5]),
    // Nothing says that a page of ours asks.
    ("POST", "/login", "user=ada&password=right", [403; 5]),
    ("GET", "/login/code", "", [200; 5]),
    ("POST", "/login/code", "code=0", [403; 5]),
    ("POST", "/logout", "", [401, 401, 303, 303, 303]),
    ("GET", "/as", "", [401, 401, 200, 200, 200]),
    ("POST", "/as", "proxy_user=render", [401, 401, 403, 403, 403]),
    ("POST", "/as/stop", "", [401, 401, 303, 303, 303]),
    ("GET", "/events", "", [401, 401, 200, 200, 200]),
    ("GET", "/jobs", "", [401, 401, 200, 200, 200]),
    ("POST", "/jobs/act", "act=retry&job=99999", [401, 401, 200, 200, 200]),
    ("GET", "/jobs/new", "", [401, 401, 200, 200, 200]),
    ("POST", "/jobs/new", "kind=command&command=true", [401, 401, 303, 303, 303]),
    ("POST", "/jobs/new/preview", "kind=command&command=true", [401, 401, 200, 200, 200]),
    ("POST", "/jobs/new/parameters", "kind=template&template=x", [401, 401, 200, 200, 200]),
    ("GET", "/jobs/{id}", "", [401, 401, 404, 200, 200]),
    ("GET", "/jobs/{id}/head", "", [401, 401, 404, 200, 200]),
    ("GET", "/jobs/{id}/ran-as", "", [401, 401, 404, 200, 200]),
    ("GET", "/jobs/{id}/log", "", [401, 401, 404, 200, 200]),
    ("GET", "/jobs/{id}/log/events", "", [401, 401, 404, 200, 200]),
    // It has not run, so nothing lies anywhere; and files are read as the job's user, whom the operator isn't.
    ("GET", "/jobs/{id}/results", "", [401, 401, 404, 503, 403]),
    ("GET", "/jobs/{id}/picture", "", [401, 401, 404, 503, 403]),
    // Whoever is no administrator is shown their grants instead.
    ("GET", "/users", "", [401, 401, 303, 303, 200]),
    ("POST", "/users", "name=comp&type=proxy", [401, 401, 403, 403, 303]),
    ("GET", "/users/{user}", "", [401, 401, 403, 200, 200]),
    ("POST", "/users/{user}", "note=x", [401, 401, 403, 403, 303]),
    ("GET", "/grants", "", [401, 401, 200, 200, 200]),
    ("GET", "/grants/matrix", "", [401, 401, 403, 403, 200]),
    ("GET", "/grants/new", "", [401, 401, 200, 200, 200]),
    ("POST", "/grants/new", "how=give&login_user=bob&proxy_user=comp", [401, 401, 403, 403, 303]),
    ("POST", "/grants/{grant}/approve", "", [401, 401, 404, 403, 303]),
    ("GET", "/grants/{grant}/revoke", "", [401, 401, 404, 200, 200]),
    ("GET", "/may-act", "", [401, 401, 403, 403, 200]),
    ("POST", "/may-act", "list=may_act&name=eve&allowed=no", [401, 401, 403, 403, 303]),
    ("GET", "/what-if", "", [401, 401, 200, 200, 200]),
    ("POST", "/grants/{grant}/revoke", "", [401, 401, 404, 200, 200]),
    ("POST", "/users/{user}/remove", "", [401, 401, 403, 403, 303]),
    ("POST", "/jobs/{id}/resubmit", "request_id=again", [401, 401, 404, 303, 303]),
    ("GET", "/audit", "", [401, 401, 403, 403, 200]),
    ("POST", "/audit/verify", "", [401, 401, 403, 403, 303]),
    ("GET", "/settings", "", [401, 401, 403, 403, 200]),
    ("POST", "/settings/check", "text=lease_seconds+%3D+60", [401, 401, 403, 403, 200]),
    ("POST", "/settings/reload", "", [401, 401, 403, 403, 303]),
    ("GET", "/me", "", [401, 401, 200, 200, 200]),
    ("POST", "/me/tokens", "name=x&scope=read", [401, 401, 200, 200, 200]),
    ("POST", "/me/end", "kind=token&id=99999", [401, 401, 404, 404, 404]),
    ("GET", "/credentials", "", [401, 401, 200, 200, 200]),
    ("POST", "/credentials", "account=ada&password=p&again=p", [401, 401, 403, 200, 200]),
    ("POST", "/credentials/check", "account=ada", [401, 401, 403, 200, 200]),
    ("POST", "/credentials/remove", "account=ada", [401, 401, 403, 303, 404]),
    ("GET", "/workers", "", [401, 401, 200, 200, 200]),
    ("POST", "/workers", "act=drain&worker=lin-07", [401, 401, 403, 403, 303]),
    ("GET", "/workers/{worker}", "", [401, 401, 200, 200, 200]),
    ("GET", "/account-check", "", [401, 401, 200, 200, 200]),
    // None is selected.
    ("GET", "/worker-config", "", [401, 401, 403, 403, 400]),
    ("POST", "/worker-config", "worker=lin-07&proxy_execution_mode=proxy", [401, 401, 403, 403, 200]),
];

/// The farm that the table is about: ada has a row, a job, and the right to ask to be render.
async fn peopled(data: &std::path::Path) -> (Supervised, u64, u64) {
    let farm = Supervised::start(data).await;
    for user in [json!({ "name": "ada" }), json!({ "name": "render", "type": "proxy" })] {
        farm.ask(operator(), "POST", "/api/v1/users", user).await;
    }
    let job = farm.submit(ADA, frames(2)).await;
    let asked = farm.ask(ADA, "POST", "/api/v1/grants/request", json!({ "proxy_user": "render" })).await;
    (farm, job, asked["id"].as_u64().expect("an id"))
}

fn filled(path: &str, job: u64, grant: u64) -> String {
    let path = path.replace("{id}", &job.to_string()).replace("{name}", "app.css");
    path.replace("{user}", "ada").replace("{worker}", "lin-07").replace("{grant}", &grant.to_string())
}

#[tokio::test]
async fn everybody_at_every_page() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, job, grant) = peopled(dir.path()).await;
    let _worker = FakeWorker::start(dir.path(), Habits::in_user_mode("lin-07"));
    eventually("the worker is there", async || {
        !farm.get("/api/v1/workers").await.as_array().expect("a list").is_empty()
    })
    .await;
    let rows: BTreeSet<(&str, &str)> = TABLE.iter().map(|(method, path, ..)| (*method, *path)).collect();
    let routes: BTreeSet<(&str, &str)> = pages::routes().iter().map(|(method, path, _)| (*method, *path)).collect();
    assert_eq!(rows, routes, "every page has a row, and every row a page");
    let unix = |uid| Peer::Unix { uid };
    let peers = [tcp(), unix(NOBODY), unix(BOB), unix(ADA), unix(operator())];
    for (method, path, form, expected) in TABLE {
        let path = filled(path, job, grant);
        let mut got = [0; 5];
        for (peer, got) in peers.iter().zip(&mut got) {
            let (status, headers, _) = ask(&farm, Asked { peer: *peer, method, path: &path, headers: &[], form }).await;
            *got = status.as_u16();
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
                ("referrer-policy", "same-origin"),
                ("cross-origin-opener-policy", "same-origin"),
            ] {
                assert_eq!(headers.get(name).expect(name), value, "{method} {path}");
            }
            let policy = headers["content-security-policy"].to_str().expect("text");
            assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            let kept = headers["cache-control"].to_str().expect("text");
            assert_eq!(kept == "no-store", !path.starts_with("/assets/"), "{path}: {kept}");
        }
        assert_eq!(got, *expected, "{method} {path}");
    }
}

#[tokio::test]
async fn a_job_of_somebody_elses_is_no_job() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let job = farm.submit(ADA, frames(2)).await;
    for (method, path, ..) in TABLE.iter().filter(|(_, path, ..)| path.contains("{id}")) {
        let told = async |id: String| {
            let path = path.replace("{id}", &id);
            let (status, _, text) =
                ask(&farm, Asked { peer: Peer::Unix { uid: BOB }, method, path: &path, headers: &[], form: "" }).await;
            (status, without(&text, &id))
        };
        assert_eq!(told(job.to_string()).await, told("99999".to_owned()).await, "{method} {path}");
    }
    let acted = async |id: u64| {
        let (_, text) = post(&farm, BOB, "/jobs/act", &format!("act=kill&job={id}")).await;
        assert!(text.contains("that you may see"), "{text}");
        without(&text, &id.to_string())
    };
    assert_eq!(acted(job).await, acted(99_999).await);
    let (_, list) = page(&farm, BOB, &format!("/jobs?q={job}")).await;
    assert!(!list.contains(&format!("/jobs/{job}")) && list.contains("all <b>0</b>"), "{list}");
}

#[tokio::test]
async fn a_grant_of_somebody_elses_is_no_grant() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _, grant) = peopled(dir.path()).await;
    for (method, path, form, _) in TABLE.iter().filter(|(_, path, ..)| path.contains("{grant}")) {
        let told = async |id: u64| {
            let path = filled(path, 0, id);
            let (status, _, text) =
                ask(&farm, Asked { peer: Peer::Unix { uid: BOB }, method, path: &path, headers: &[], form }).await;
            let id = id.to_string();
            (
                status,
                [format!("grants/{id}"), format!("grant {id}"), format!("grants%2F{id}")]
                    .iter()
                    .fold(text, |t, w| t.replace(w, "N")),
            )
        };
        let (theirs, none) = (told(grant).await, told(99_999).await);
        assert_eq!(theirs.0, 404, "{method} {path}");
        assert_eq!(theirs, none, "{method} {path}");
    }
    let (_, list) = page(&farm, BOB, "/grants").await;
    assert!(!list.contains(&format!("grant-{grant}\"")), "{list}");
    let (status, text) = page(&farm, BOB, "/users/ada").await;
    assert_eq!(status, 403, "{text}");
    assert_eq!(page(&farm, BOB, "/users/nobody-at-all").await.0, 403, "whether there is such a user isn't told");
}

/// Asked for, approved, used, looked at before it is ended, and ended.
#[tokio::test]
async fn a_grant_from_its_request_to_its_end() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _, _) = peopled(dir.path()).await;
    let op = operator();
    assert_eq!(post(&farm, op, "/users", "name=comp&type=proxy&answers=bob&note=for+comp").await.0, 303);
    let (status, text) = post(&farm, ADA, "/grants/new", "how=request&proxy_user=comp&until=soon").await;
    assert!(status == 400 && text.contains("soon") && text.contains("value=\"comp\""), "what was typed stays: {text}");
    assert_eq!(post(&farm, ADA, "/grants/new", "how=request&proxy_user=comp&until=8h&reason=shot+40").await.0, 303);
    let (_, text) = page(&farm, ADA, "/grants?proxy_user=comp").await;
    assert!(text.contains("shot 40") && text.contains("requested") && text.contains("Revoke…"), "{text}");
    assert!(!text.contains("Approve"), "nobody approves their own: {text}");
    // Bob answers for it, but who may act at all is an administrator's word.
    let (_, text) = page(&farm, BOB, "/grants").await;
    assert!(text.contains("Approve") && text.contains("asked for by ada"), "{text}");
    assert_eq!(post(&farm, BOB, "/grants/2/approve", "").await.0, 403);
    assert_eq!(post(&farm, op, "/may-act", "list=may_act&name=ada&allowed=yes").await.0, 303);
    assert_eq!(post(&farm, BOB, "/grants/2/approve", "next=%2Fgrants").await.0, 303);
    let (_, text) = page(&farm, op, "/grants/matrix").await;
    assert!(
        text.contains("/grants?login_user=ada&amp;proxy_user=comp&amp;all=yes")
            || text.contains("login_user=ada&#38;proxy_user=comp"),
        "{text}"
    );
    assert_eq!(post(&farm, ADA, "/as", "proxy_user=comp").await.0, 303);
    let job = farm.submit(ADA, frames(1)).await;
    assert_eq!(post(&farm, ADA, "/as/stop", "").await.0, 303);
    // Whoever answers for it learns how many there are, and no more of them.
    let (_, text) = page(&farm, BOB, "/grants/2/revoke").await;
    assert!(text.contains("1 job would") && text.contains("not yours to see"), "{text}");
    assert!(!text.contains(&format!("/jobs/{job}\"")), "{text}");
    let (_, text) = page(&farm, ADA, "/grants/2/revoke").await;
    assert!(text.contains(&format!("/jobs/{job}\"")) && text.contains("1 job would"), "{text}");
    let (_, text) = post(&farm, ADA, "/grants/2/revoke", "kill=yes").await;
    assert!(text.contains("is revoked") && text.contains(&format!("/jobs/{job}\"")), "{text}");
    let (_, text) = page(&farm, ADA, &format!("/jobs/{job}")).await;
    assert!(text.contains("blocked"), "{text}");
    let (_, text) = page(&farm, op, "/grants?login_user=ada&all=yes").await;
    assert!(text.contains("ended by ada"), "{text}");
}

#[tokio::test]
async fn what_if_is_asked_of_others_by_whom_it_may() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _, grant) = peopled(dir.path()).await;
    let op = operator();
    let (_, text) = page(&farm, op, "/what-if?user=ada&as=render").await;
    assert!(text.contains("could submit nothing so") && text.contains("grant"), "{text}");
    assert_eq!(post(&farm, op, &format!("/grants/{grant}/approve"), "").await.0, 303);
    let (_, text) = page(&farm, op, "/what-if?user=ada&as=render&at=3d").await;
    assert!(text.contains("would submit as <b><bdi>render</bdi></b>"), "{text}");
    let (_, text) = page(&farm, BOB, "/what-if?user=ada").await;
    assert!(text.contains("impersonate") && !text.contains("Who submits"), "{text}");
    let (_, text) = page(&farm, BOB, "/what-if?at=soon").await;
    assert!(text.contains("is no time"), "{text}");
    let (_, text) = post(&farm, op, "/grants/new", "how=foresee&login_user=bob&proxy_user=render").await;
    assert!(text.contains("Of the last 1 jobs none would run otherwise"), "{text}");
}

/// Whoever acts as another is nobody's administrator, and has no grants.
#[tokio::test]
async fn acting_as_another_shows_nothing_of_people() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _, grant) = peopled(dir.path()).await;
    let op = operator();
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "ada", "roles": ["admin"] })).await;
    assert_eq!(post(&farm, op, &format!("/grants/{grant}/approve"), "").await.0, 303);
    assert_eq!(page(&farm, ADA, "/users").await.0, 200);
    assert_eq!(post(&farm, ADA, "/as", "proxy_user=render").await.0, 303);
    for (path, expected) in
        [("/users", 303), ("/grants/matrix", 403), ("/may-act", 403), ("/users/bob", 403), ("/users/ada", 403)]
    {
        assert_eq!(page(&farm, ADA, path).await.0, expected, "{path}");
    }
    let (_, text) = page(&farm, ADA, "/grants").await;
    assert!(text.contains("be yourself again") && !text.contains("grant-"), "{text}");
    assert_eq!(post(&farm, ADA, &format!("/grants/{grant}/revoke"), "").await.0, 404);
    assert_eq!(post(&farm, ADA, "/users", "name=eve&role=admin").await.0, 403);
}

/// What a page was shown to is what it does: not somebody whose cookie the browser has by now, nor who they act as now.
#[tokio::test]
async fn a_form_does_nothing_as_anybody_else_than_its_page_was_shown_to() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _, grant) = peopled(dir.path()).await;
    assert_eq!(post(&farm, operator(), &format!("/grants/{grant}/approve"), "").await.0, 303);
    let shown = async |uid, path: &str| {
        let (_, text) = page(&farm, uid, path).await;
        let field = text.split("name=\"shown\" value=\"").nth(1).and_then(|t| t.split('"').next()).expect("a field");
        assert!(text.contains(&format!("data-shown=\"{field}\"")), "{path}");
        field.to_owned()
    };
    let jobs = async || farm.ask(operator(), "GET", "/api/v1/jobs", Value::Null).await.as_array().expect("jobs").len();
    let before = jobs().await;
    let form = |shown: &str| format!("command=true&shown={shown}");
    let (hers, bobs) = (shown(ADA, "/jobs/new").await, shown(BOB, "/jobs/new").await);
    assert_eq!(post(&farm, ADA, "/as", &format!("proxy_user=render&shown={hers}")).await.0, 303);
    let as_render = shown(ADA, "/jobs/new").await;
    for (uid, stale) in [(ADA, &hers), (ADA, &bobs), (BOB, &hers), (BOB, &as_render), (ADA, &"x".to_owned())] {
        let (status, text) = post(&farm, uid, "/jobs/new", &form(stale)).await;
        assert_eq!(status, 409, "{text}");
        assert!(text.contains("this page was shown to somebody else"), "{text}");
    }
    // Also what has nothing to say but that, and what is done as oneself.
    assert_eq!(post(&farm, operator(), "/audit/verify", &form(&bobs)).await.0, 409);
    assert_eq!(post(&farm, ADA, "/as/stop", &form(&bobs)).await.0, 409);
    assert_eq!(jobs().await, before);
    assert_eq!(post(&farm, ADA, "/jobs/new", &form(&as_render)).await.0, 303);
    assert_eq!(post(&farm, ADA, "/as/stop", &form(&as_render)).await.0, 303);
    assert_eq!(post(&farm, ADA, "/jobs/new", &form(&as_render)).await.0, 409, "she is herself again");
    assert_eq!(post(&farm, ADA, "/jobs/new", &form(&hers)).await.0, 303);
    assert_eq!(jobs().await, before + 2);
}

/// Who may not read it any more is given nothing more of what is there.
#[tokio::test]
async fn a_log_that_is_shown_ends_with_the_right_to_it() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _, grant) = peopled(dir.path()).await;
    let op = operator();
    assert_eq!(post(&farm, op, &format!("/grants/{grant}/approve"), "").await.0, 303);
    assert_eq!(post(&farm, ADA, "/as", "proxy_user=render").await.0, 303);
    let job = farm.submit(ADA, frames(1)).await;
    assert_eq!(post(&farm, ADA, "/as/stop", "").await.0, 303);
    // More than is sent at its pace in the time that this takes.
    let printed = "a line\n".repeat(200_000);
    let mut out = Vec::new();
    let task = wire::Task { step: 0, index: 0, epoch: 1 };
    let stream = wire::log::Stream::Stdout;
    for (n, data) in printed.as_bytes().chunks(70_000).enumerate() {
        wire::log::write(&mut out, &wire::log::Record { task, stream, offset: n as u64 * 70_000, data });
    }
    farm.running.app.service.logs.append(job, 77, 0, &out).expect("append");
    let mut follower = farm.follow(ADA, &format!("/jobs/{job}/log/events")).await;
    follower.until_said("a line").await;
    farm.ask(op, "POST", &format!("/api/v1/grants/{grant}/revoke"), json!({})).await;
    follower.until_its_end().await;
    let said = follower.said();
    assert!(said.ends_with("event: over\ndata: {}\n\n"), "{}", &said[said.len().saturating_sub(200)..]);
    assert!(said.matches("a line").count() < 100_000);
}

/// What a page names for programs gives the same, in the same order.
#[tokio::test]
async fn the_api_lists_what_the_jobs_page_does() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    for name in ["beta", "alpha shot", "gamma shot", "shot of bob's"] {
        let uid = if name.ends_with("bob's") { BOB } else { ADA };
        farm.submit(uid, json!({ "v": 1, "name": name, "body": { "command": { "argv": ["true"] } } })).await;
    }
    let names = async |query: &str| -> Vec<String> {
        let jobs = farm.get(&format!("/api/v1/jobs?{query}")).await;
        jobs.as_array().expect("jobs").iter().map(|j| j["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names("sort=name").await, ["alpha shot", "beta", "gamma shot"], "hers alone");
    assert_eq!(names("text=shot&sort=oldest").await, ["alpha shot", "gamma shot"]);
    assert_eq!(names("sort=name&offset=1&limit=1").await, ["beta"]);
    assert_eq!(names("text=2").await, ["alpha shot"], "by its number");
    assert_eq!(names("text=bob&state=pending").await, Vec::<String>::new());
    for wrong in ["sort=size", "sort=name&after=3", "text=x&state=pending,running"] {
        let (status, _) =
            farm.call(Peer::Unix { uid: ADA }, "GET", &format!("/api/v1/jobs?{wrong}"), Value::Null).await;
        assert_eq!(status, 400, "{wrong}");
    }
}

/// Searched, a page at a time; whoever is no auditor learns nothing, and is on record for having asked.
#[tokio::test]
async fn the_audit_is_searched_and_checked() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, job, _) = peopled(dir.path()).await;
    let op = operator();
    for n in 0..60 {
        farm.ask(op, "POST", "/api/v1/users", json!({ "name": "render", "note": format!("n{n} <b>") })).await;
    }
    let (_, text) = page(&farm, op, "/audit?act=user_change&object=render").await;
    assert!(text.contains("Nobody has had the chain checked") && text.contains("older →"), "{text}");
    assert_eq!(text.matches("data-row id=\"record-").count(), 50, "a page at a time");
    assert!(!text.contains("<b>\"") && !text.contains("n59 <b>"), "{text}");
    let older = text.split("before=").nth(1).and_then(|t| t.split('"').next()).expect("an address").to_owned();
    let (_, text) = page(&farm, op, &format!("/audit?act=user_change&object=render&before={older}")).await;
    assert_eq!(text.matches("data-row id=\"record-").count(), 10);
    let (_, text) = page(&farm, op, &format!("/audit?job={job}")).await;
    assert!(
        text.contains("No record is like that") || text.contains("warrant"),
        "a submission has no number yet: {text}"
    );
    let (_, text) = page(&farm, op, "/audit?actor=ada&act=submit&since=1h").await;
    assert_eq!(text.matches("data-row id=\"record-").count(), 1, "{text}");
    for wrong in ["act=nonsense", "since=soon", "job=x", "before=-1"] {
        let (status, text) = page(&farm, op, &format!("/audit?{wrong}")).await;
        assert!(status == 200 && text.contains("role=\"alert\""), "{wrong}: {text}");
    }
    assert_eq!(post(&farm, op, "/audit/verify", "").await.0, 303);
    let (_, text) = page(&farm, op, "/audit").await;
    assert!(text.contains("</span> checked to record") || text.contains("whole"), "{text}");
    let (status, text) = page(&farm, ADA, "/audit?actor=op").await;
    assert!(status == 403 && !text.contains("user_change") && !text.contains("href=\"/audit\""), "{text}");
    let (_, text) = page(&farm, op, "/audit?actor=ada&outcome=refused").await;
    assert!(text.contains("audit_read"), "{text}");
}

/// A token is shown once; what ends one is one's own; a password is never shown.
#[tokio::test]
async fn tokens_and_passwords_are_ones_own() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _, _) = peopled(dir.path()).await;
    let (status, text) = post(&farm, ADA, "/me/tokens", "name=nightly&scope=read&scope=submit&expires=2d").await;
    let secret = text.split("id=\"secret\" class=\"long\">").nth(1).and_then(|t| t.split('<').next()).expect("a token");
    assert!(status == 200 && secret.len() > 30, "{text}");
    let bearer = format!("Bearer {secret}");
    let me = farm.send(tcp(), ("GET", "/api/v1/whoami"), &[("authorization", &bearer)], Value::Null).await.2;
    assert_eq!((&me["login_user"], &me["scopes"]), (&json!("ada"), &json!(["read", "submit"])));
    let (_, text) = page(&farm, ADA, "/me").await;
    assert!(text.contains("nightly") && !text.contains(secret), "{text}");
    let id = text.split("aria-label=\"Revoke token ").nth(1).and_then(|t| t.split('"').next()).expect("its number");
    let (status, text) = post(&farm, ADA, "/me/tokens", "name=x&scope=everything&expires=2d").await;
    assert!(status == 400 && text.contains("is no scope") && text.contains("value=\"2d\""), "{text}");
    assert_eq!(post(&farm, BOB, "/me/end", &format!("kind=token&id={id}")).await.0, 404);
    assert_eq!(post(&farm, ADA, "/me/end", &format!("kind=session&id={id}")).await.0, 404);
    assert_eq!(post(&farm, ADA, "/me/end", &format!("kind=token&id={id}")).await.0, 303);
    assert_eq!(farm.send(tcp(), ("GET", "/api/v1/whoami"), &[("authorization", &bearer)], Value::Null).await.0, 401);

    let (status, text) = post(&farm, ADA, "/credentials", "account=ada&password=s3cr%C3%A9t&again=other").await;
    assert!(status == 400 && text.contains("not the same") && text.contains("missing"), "{text}");
    assert!(!text.contains("s3cr") && !text.contains("other\""), "{text}");
    let (status, text) =
        post(&farm, ADA, "/credentials", "account=ada&password=right&again=right&next=%2Fjobs%2F1").await;
    assert!(
        status == 200 && text.contains("is kept") && text.contains("href=\"/jobs/1\"") && text.contains("not proved"),
        "{text}"
    );
    let (_, text) = post(&farm, ADA, "/credentials/check", "account=ada").await;
    assert!(text.contains("The password of ada is right."), "{text}");
    let (_, text) = page(&farm, BOB, "/credentials?next=https%3A%2F%2Fevil.example").await;
    assert!(!text.contains("<bdi>ada</bdi></b>") && !text.contains("evil.example"), "{text}");
    let (status, text) = post(&farm, BOB, "/credentials", "account=ada&password=p&again=p").await;
    assert!(status == 403 && text.contains("password_of_another"), "{text}");
    let chain = std::fs::read_to_string(dir.path().join("supervisor/audit/chain")).expect("chain");
    assert!(chain.contains("password_set") && !chain.contains("s3cr") && !chain.contains(secret), "{chain}");
    // What acts as another alone has none of this.
    let as_render = [("stead-as", "render")];
    for (method, path, form) in
        [("GET", "/me", ""), ("POST", "/me/tokens", "name=x&scope=read"), ("POST", "/me/end", "kind=token&id=1")]
    {
        let (status, _, _) =
            ask(&farm, Asked { peer: Peer::Unix { uid: ADA }, method, path, headers: &as_render, form }).await;
        assert_eq!(status, 403, "{method} {path}");
    }
}

/// Of a job that is over; nobody else's, and no tasks by themselves. Then nothing is offered that would be refused.
#[tokio::test]
async fn what_is_removed_says_so_and_offers_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let job = farm.submit(ADA, frames(2)).await;
    let remove = async |uid, more: &str| post(&farm, uid, "/jobs/act", &format!("act=remove&job={job}{more}")).await;
    let (_, text) = page(&farm, ADA, &format!("/jobs/{job}")).await;
    assert!(!text.contains("value=\"remove\"") && !text.contains("value=\"requeue\""), "it isn't over: {text}");
    let (_, text) = remove(ADA, "").await;
    assert!(text.contains("said-refused") && !text.contains("Removed:"), "{text}");
    assert!(post(&farm, ADA, "/jobs/act", &format!("act=kill&job={job}")).await.1.contains("Killed"));
    let (_, text) = page(&farm, ADA, &format!("/jobs/{job}")).await;
    for act in ["requeue", "remove", "retry"] {
        assert!(text.contains(&format!("value=\"{act}\"")), "{act}: {text}");
    }
    assert_eq!(remove(ADA, "&task=0.0").await.0, 400);
    let (_, text) = remove(BOB, "").await;
    assert!(text.contains("that you may see"), "{text}");
    let (_, text) = remove(ADA, "").await;
    assert!(text.contains(&format!("Removed: {job}.")), "{text}");
    // Either it has gone already, or says that it does.
    let (status, text) = page(&farm, ADA, &format!("/jobs/{job}")).await;
    assert!(status == 404 || text.contains("removed by ada"), "{text}");
    assert!(!text.contains("name=\"act\""), "{text}");
}

/// What can't be shown says why and where to go, and doesn't say besides that there is nothing.
#[tokio::test]
async fn a_list_that_cannot_be_shown_says_why() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let _ = farm.submit(ADA, frames(1)).await;
    let (_, text) = page(&farm, ADA, "/jobs?sort=nonsense").await;
    assert!(text.contains("is not newest") && !text.contains("No jobs yet"), "{text}");
    let (_, text) = page(&farm, ADA, "/jobs?page=7&sort=name").await;
    assert!(text.contains("There is no page 7. <a href=\"/jobs?sort=name\">The first</a>"), "{text}");
    assert!(
        text.contains("/api/v1/jobs?sort=name&#38;offset=") && text.contains("stead jobs --sort name --skip "),
        "{text}"
    );
    let (_, text) = page(&farm, ADA, "/grants").await;
    assert!(text.contains("What a group of yours may is under your name"), "{text}");
}

/// A file is looked at before it would keep the supervisor from its next start; nothing is changed by that.
#[tokio::test]
async fn a_settings_file_is_checked_before_it_holds() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let op = operator();
    let checked = async |text: &str| {
        let (status, text) = post(&farm, op, "/settings/check", &format!("text={}", web::encoded(text))).await;
        assert_eq!(status, 200);
        let (_, part) = text.split_once("id=\"checked\"").expect("its part");
        part.split("</section>").next().expect("an end").to_owned()
    };
    let text = checked("listen = \"127.0.0.1:1\"\r\nlease_second = 5\r\n").await;
    assert!(text.contains("supervisor.toml:2: ") && text.contains("did you mean"), "{text}");
    let text = checked("lease_seconds = 1").await;
    assert!(text.contains("10 to 86400 is allowed"), "{text}");
    let text = checked("token_max_days = 12\nqb_conf = \"/etc/<b>\"").await;
    assert!(text.contains("<code>token_max_days</code>") && text.contains("<bdi>12</bdi>"), "{text}");
    assert!(text.contains("/etc/&#60;b&#62;") || text.contains("/etc/&lt;b&gt;"), "{text}");
    let (_, text) = page(&farm, op, "/settings").await;
    let (_, row) = text.split_once("<code>token_max_days</code>").expect("a row of each");
    let section = checked("[linkis]\n\"wds.linkis.session.ticket.key\" = \"another\"").await;
    assert!(section.contains("<code>[linkis]</code>") && !section.contains("[oidc]"), "{section}");
    assert!(row.split("</tr>").next().expect("a row").contains("<bdi>366</bdi>"), "only looked at: {row}");
}

/// The page but for the number that was asked for.
fn without(text: &str, id: &str) -> String {
    [format!("/jobs/{id}"), format!("job {id}"), format!("%2Fjobs%2F{id}")]
        .iter()
        .fold(text.to_owned(), |text, word| text.replace(word, "N"))
}

const HOSTILE: &[&str] = &[
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'onmouseover='alert(1)",
    "{{ 7*7 }} {% raw %} ${7*7}",
    "\u{202e}gpj.exe \u{2066}x\u{200b}",
    "שלום עולם مرحبا",
    "</title></textarea></pre><b>",
];

/// No name is anything but text, on any page that shows it.
#[tokio::test]
async fn a_name_is_text() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let long = "n".repeat(120);
    for name in HOSTILE.iter().copied().chain([long.as_str()]) {
        let mut job = spec(json!({ "argv": ["true", name] }));
        job["name"] = json!(name);
        let (status, answer) = farm.call(Peer::Unix { uid: ADA }, "POST", "/api/v1/jobs", json!({ "spec": job })).await;
        let id = match serde_json::from_slice::<Value>(&answer).expect("json")["job"].as_u64() {
            Some(id) => id,
            // What isn't taken can't be shown.
            None => {
                assert_eq!(status, 400, "{name:?}");
                continue;
            }
        };
        let q = web::encoded(name);
        for path in [
            "/jobs".to_owned(),
            format!("/jobs?q={q}"),
            format!("/jobs?user={q}&login_user={q}&sort={q}&state={q}"),
            format!("/jobs/{id}"),
            format!("/as?next={q}"),
            format!("/grants?login_user={q}&proxy_user={q}&all={q}"),
            format!("/grants/new?login_user={q}&proxy_user={q}&reason={q}&until={q}&jobs={q}"),
            format!("/what-if?user={q}&as={q}&worker={q}&at={q}"),
            format!("/workers?state={q}"),
            format!("/credentials?account={q}&next={q}"),
            format!("/account-check?account={q}"),
        ] {
            let (_, text) = page(&farm, ADA, &path).await;
            for bad in [
                "<script>alert",
                "<img src=x",
                "onerror=alert(1)>",
                "'onmouseover",
                "<b>\"",
                "\u{202e}",
                "\u{2066}",
                "\u{200b}",
                "</textarea></pre>",
            ] {
                assert!(!text.contains(bad), "{bad} in {path}: {text}");
            }
        }
    }
}

/// What is hostile in a template, in a reason or in a note is text to whoever looks, an administrator above all.
#[tokio::test]
async fn what_others_wrote_is_text_to_an_administrator() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _, _) = peopled(dir.path()).await;
    let op = operator();
    let evil = "\"><img src=x onerror=alert(1)></td></textarea><script>alert(1)</script>";
    let q = web::encoded(evil);
    let template = json!({
        "specificationVersion": "jobtemplate-2023-09", "name": "<script>alert(1)</script>{{Param.P}}", "description": evil,
        "parameterDefinitions": [
            { "name": "P", "type": "STRING", "description": evil, "default": "<img src=x", "allowedValues": ["<img src=x", evil] },
        ],
        "steps": [{
            "name": "<img src=x onerror=alert(1)>", "description": evil,
            "parameterSpace": { "taskParameterDefinitions": [{ "name": "T", "type": "STRING", "range": [evil, "b"] }] },
            "script": { "actions": { "onRun": { "command": evil, "args": [evil] } } },
        }],
    });
    let template = web::encoded(&template.to_string());
    let form = format!("kind=template&template={template}&param.P={q}&request_id=r");
    let mut seen = Vec::new();
    let (_, text) = post(&farm, ADA, "/jobs/new/parameters", &form).await;
    assert!(text.contains("name=\"param.P\""), "it is understood: {text}");
    seen.push(("parameters".to_owned(), text));
    seen.push(("preview".to_owned(), post(&farm, ADA, "/jobs/new/preview", &form).await.1));
    let (status, text) = post(&farm, ADA, "/jobs/new", &form).await;
    assert_eq!(status, 303, "it is taken: {text}");
    let jobs = farm.get("/api/v1/jobs").await;
    let newest = jobs.as_array().expect("jobs").iter().filter_map(|j| j["id"].as_u64()).max().expect("a job");
    let acted = post(&farm, ADA, "/jobs/act", &format!("act=block&job={newest}&reason={q}&back={q}")).await;
    seen.push(("acted".to_owned(), acted.1));
    farm.ask(op, "POST", "/api/v1/users", json!({ "name": "render", "note": evil })).await;
    farm.ask(op, "POST", "/api/v1/grants", json!({ "login_user": "bob", "proxy_user": "render", "reason": evil }))
        .await;
    seen.push(("token".to_owned(), post(&farm, ADA, "/me/tokens", &format!("name={q}&scope=read")).await.1));
    for (who, path) in [
        (op, "/jobs".to_owned()),
        (op, format!("/jobs/{newest}")),
        (op, format!("/jobs/{newest}?state={q}&at={q}&after={q}")),
        (op, format!("/jobs/{newest}/ran-as")),
        (op, format!("/jobs/{newest}/log?q={q}&step={q}&task={q}&attempt={q}&stream={q}&at={q}")),
        (ADA, format!("/jobs/{newest}/results?path={q}&worker={q}&after={q}")),
        (ADA, format!("/jobs/{newest}/picture?path={q}&worker={q}")),
        (op, "/users".to_owned()),
        (op, "/users/render".to_owned()),
        (op, format!("/users/{q}")),
        (op, "/grants".to_owned()),
        (op, "/grants/2/revoke".to_owned()),
        (op, "/grants/matrix".to_owned()),
        (op, "/may-act".to_owned()),
        (op, "/audit".to_owned()),
        (op, format!("/audit?actor={q}&as={q}&act={q}&outcome={q}&object={q}&job={q}&since={q}&until={q}&before={q}")),
        (op, format!("/workers/{q}")),
        (op, format!("/worker-config?worker={q}")),
        (op, "/settings".to_owned()),
        (ADA, "/me".to_owned()),
        (ADA, format!("/{q}")),
    ] {
        seen.push((path.clone(), page(&farm, who, &path).await.1));
    }
    for (path, text) in &seen {
        assert!(text.contains("</html>"), "{path} is a page: {text}");
        for bad in ["<script>alert", "<img src=x", "</td></textarea>"] {
            assert!(!text.contains(bad), "{bad} in {path}: {text}");
        }
    }
    for path in [format!("/jobs/{newest}"), "/users/render".to_owned(), "/grants".to_owned()] {
        let text = &seen.iter().find(|(p, _)| *p == path).expect("seen").1;
        assert!(text.contains("onerror=alert(1)"), "it is shown, as text, on {path}: {text}");
    }
}

/// Whoever asks about a name that isn't theirs learns the same of one that there is as of one that there isn't.
#[tokio::test]
async fn whom_there_is_is_told_to_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let (farm, _, _) = peopled(dir.path()).await;
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "zzyzx", "type": "proxy" })).await;
    for (method, path, form) in [
        ("POST", "/as", "proxy_user=NAME"),
        ("GET", "/what-if?as=NAME", ""),
        ("GET", "/what-if?user=NAME", ""),
        ("GET", "/what-if?user=ada&as=NAME", ""),
        ("GET", "/grants?proxy_user=NAME", ""),
        ("GET", "/grants?login_user=NAME", ""),
        ("GET", "/users/NAME", ""),
        ("GET", "/jobs?user=NAME", ""),
        ("GET", "/jobs?login_user=NAME", ""),
        ("GET", "/credentials?account=NAME", ""),
        ("POST", "/credentials/check", "account=NAME"),
        ("POST", "/jobs/new/preview", "kind=command&command=true&user=NAME&request_id=r"),
    ] {
        let told = async |name: &str| {
            let (path, form) = (path.replace("NAME", name), form.replace("NAME", name));
            let (status, _, text) =
                ask(&farm, Asked { peer: Peer::Unix { uid: BOB }, method, path: &path, headers: &[], form: &form })
                    .await;
            (status, text.replace(name, "NAME"))
        };
        // A proxy user that there is, and one of as many letters that there isn't; neither is an account of this host.
        let (is, is_not) = (told("zzyzx").await, told("zzyzy").await);
        assert_eq!(is, is_not, "{method} {path} {form}");
    }
}

#[tokio::test]
async fn an_error_is_a_page_in_the_same_words_as_the_api() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let (status, text) = page(&farm, ADA, "/nothing").await;
    assert!(status == 404 && text.contains("there is no such page") && text.contains("<bdi>ada</bdi>"), "{text}");
    let (status, headers, text) =
        ask(&farm, Asked { peer: tcp(), method: "GET", path: "/jobs?state=failed", headers: &[], form: "" }).await;
    assert_eq!(status, 401);
    assert!(text.contains("/login?next=%2Fjobs%3Fstate%3Dfailed"), "{text}");
    assert_eq!(headers["hx-reselect"], "#error");
    let (status, text) = page(&farm, NOBODY, "/jobs").await;
    assert!(status == 401 && text.contains("uid_without_entry"), "{text}");
}

/// The cookie is left out, or comes with the word that another site asks: both are asked for again from a page of ours.
#[tokio::test]
async fn a_link_from_elsewhere_opens_the_page() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    for site in ["cross-site", "same-site"] {
        let headers = [("sec-fetch-site", site), ("sec-fetch-mode", "navigate")];
        let asked = Asked { peer: tcp(), method: "GET", path: "/jobs?q=\"<x>", headers: &headers, form: "" };
        // Not an address that a browser sends: it encodes.
        let asked = Asked { path: "/jobs?q=%22%3Cx%3E", ..asked };
        let (status, headers, text) = ask(&farm, asked).await;
        assert!(status == 200 && text.contains("http-equiv=\"refresh\""), "{text}");
        assert!(headers["content-security-policy"].to_str().expect("text").contains("default-src 'none'"));
        let frame = [("sec-fetch-site", site), ("sec-fetch-mode", "cors")];
        let asked = Asked { peer: tcp(), method: "GET", path: "/jobs", headers: &frame, form: "" };
        assert_eq!(ask(&farm, asked).await.0, 401);
    }
}

fn cookie_of(headers: &HeaderMap) -> String {
    let cookie = headers["set-cookie"].to_str().expect("text");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    cookie.split(';').next().expect("a part").to_owned()
}

const OURS: (&str, &str) = ("origin", "http://127.0.0.1:7878");

#[tokio::test]
async fn one_signs_in_looks_and_signs_out() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let login = async |headers: &[(&str, &str)], form: &str| {
        ask(&farm, Asked { peer: tcp(), method: "POST", path: "/login", headers, form }).await
    };
    let (status, headers, text) = login(&[OURS], "user=ada&password=wrong&next=%2Fjobs").await;
    assert!(status == 401 && text.contains("value=\"ada\"") && text.contains("password_wrong"), "{text}");
    assert!(!headers.contains_key("set-cookie") && !text.contains("wrong\"") && !text.contains("=wrong"), "{text}");
    for foreign in [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        assert_eq!(login(&[foreign], "user=ada&password=right").await.0, 403, "{foreign:?}");
    }
    let (status, headers, _) = login(&[OURS], "user=ada&password=right&next=https%3A%2F%2Fevil.example").await;
    assert_eq!((status.as_u16(), headers["location"].to_str().expect("text")), (303, "/jobs"));
    let cookie = cookie_of(&headers);
    let with = [("cookie", cookie.as_str()), OURS];
    fn asked<'a>(method: &'a str, path: &'a str, headers: &'a [(&'a str, &'a str)], form: &'a str) -> Asked<'a> {
        Asked { peer: tcp(), method, path, headers, form }
    }
    let (status, _, text) = ask(&farm, asked("GET", "/jobs", &with[..1], "")).await;
    assert!(status == 200 && text.contains("<bdi>ada</bdi>"), "{text}");
    // A form of another page, with the cookie: nothing is done.
    for foreign in [("origin", "http://evil.example"), ("sec-fetch-site", "same-site"), ("x", "y")] {
        let headers = [("cookie", cookie.as_str()), foreign];
        for (path, form) in [("/jobs/act", "act=kill&job=1"), ("/as/stop", ""), ("/logout", "")] {
            assert_eq!(ask(&farm, asked("POST", path, &headers, form)).await.0, 403, "{path} {foreign:?}");
        }
    }
    let (status, headers, _) = ask(&farm, asked("POST", "/logout", &with, "")).await;
    assert_eq!((status.as_u16(), headers["location"].to_str().expect("text")), (303, "/login"));
    assert!(headers["set-cookie"].to_str().expect("text").contains("Max-Age=0"));
    assert_eq!(ask(&farm, asked("GET", "/jobs", &with[..1], "")).await.0, 401);
}

#[tokio::test]
async fn a_code_signs_in_whom_the_kernel_knows_once() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let made = farm.ask(ADA, "POST", "/api/v1/login/code", Value::Null).await;
    let url = made["url"].as_str().expect("url");
    let (page, code) = url.split_once('#').expect("in the fragment");
    assert!(page.ends_with("/login/code") && code.len() == 64 && made["login_user"] == "ada", "{made}");
    let form = format!("code={code}");
    let exchange = async |headers: &[(&str, &str)]| {
        ask(&farm, Asked { peer: tcp(), method: "POST", path: "/login/code", headers, form: &form }).await
    };
    assert_eq!(exchange(&[("origin", "http://evil.example")]).await.0, 403);
    let (status, headers, _) = exchange(&[OURS]).await;
    assert_eq!(status, 303);
    let cookie = cookie_of(&headers);
    let (status, _, text) = exchange(&[OURS]).await;
    assert!(status == 403 && text.contains("used already"), "{text}");
    let me = farm.send(tcp(), ("GET", "/api/v1/whoami"), &[("cookie", &cookie)], Value::Null).await.2;
    assert_eq!((&me["login_user"], &me["roles"]), (&json!("ada"), &json!([])));
    // A session has no code made: it would outlast it.
    let (status, _, _) =
        farm.send(tcp(), ("POST", "/api/v1/login/code"), &[("cookie", &cookie), OURS], Value::Null).await;
    assert_eq!(status, 403);
    let chain = std::fs::read_to_string(dir.path().join("supervisor/audit/chain")).expect("chain");
    assert!(chain.contains("\"by\":\"code\"") && !chain.contains(code), "{chain}");
}

/// However much happens, a page is told twice a second at most, and that something was missed where it was.
#[tokio::test]
async fn many_changes_are_few_events() {
    const CHANGES: usize = 600;
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let mut jobs = Vec::new();
    for _ in 0..20 {
        jobs.push(farm.submit(ADA, frames(1)).await);
    }
    let mut request =
        Request::builder().uri("/events").header("host", "127.0.0.1:7878").body(Body::empty()).expect("x");
    request.extensions_mut().insert(Peer::Unix { uid: ADA });
    let mut stream = farm.router().oneshot(request).await.expect("a stream").into_body().into_data_stream();
    let first = stream.next().await.expect("a beat").expect("bytes");
    assert!(first.starts_with(b"event: beat"), "{first:?}");
    let began = Instant::now();
    let said = farm.events();
    let happens = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        for n in 0..CHANGES {
            pace.tick().await;
            said.say(Event::Job(jobs[n % jobs.len()]));
        }
    });
    let mut seen = Vec::new();
    while !happens.is_finished() {
        seen.push(String::from_utf8_lossy(&stream.next().await.expect("an event").expect("bytes")).into_owned());
    }
    let seconds = began.elapsed().as_secs_f64();
    assert!(seconds >= 2.9, "200 a second: {seconds}");
    let changes: Vec<&String> = seen.iter().filter(|text| text.starts_with("event: change")).collect();
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let rate = changes.len() as f64 / seconds;
    assert!((0.5..=2.1).contains(&rate), "{rate} a second: {changes:#?}");
    // Twenty jobs in each, named once.
    assert!(changes[1].matches(',').count() >= 20 && changes[1].len() < 400, "{}", changes[1]);
}
