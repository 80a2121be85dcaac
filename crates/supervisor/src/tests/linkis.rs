//! Linkis's interface: the two cookies at every page, what clients read, and as whom anything is done.

use super::document::is_committed;
use super::fake_worker::{FakeWorker, Habits};
use super::people::grant;
use super::{ADA, Supervised, eventually, operator, tcp, verified};
use crate::authn::Peer;
use crate::linkis::routes;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use wire::End;
use wire::log::Stream;

const LOGIN: &str = "linkis_user_session_ticket_id_v1";
const PROXY: &str = "linkis_user_session_proxy_ticket_id_v1";
const BASE: &str = "/api/rest_j/v1";

/// A client with the cookies that it was given.
#[derive(Debug, Clone, Default)]
struct Client {
    login: Option<String>,
    proxy: Option<String>,
}

type Answer = (u16, HeaderMap, Value);

impl Client {
    async fn of(farm: &Supervised, name: &str) -> Self {
        let mut client = Self::default();
        let body = json!({ "userName": name, "password": "right" });
        let (status, _, answer) = client.ask(farm, "POST", "user/login", body).await;
        assert_eq!(
            (status, &answer["status"], &answer["data"]["userName"]),
            (200, &json!(0), &json!(name)),
            "{answer}"
        );
        client
    }

    fn cookies(&self) -> String {
        let pair = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name}={value}"));
        [pair(LOGIN, &self.login), pair(PROXY, &self.proxy)].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Keeps cookies as a browser does.
    async fn ask(&mut self, farm: &Supervised, method: &str, page: &str, body: Value) -> Answer {
        let (cookies, path) = (self.cookies(), format!("{BASE}/{page}"));
        let (status, headers, answer) = farm.send(tcp(), (method, &path), &[("cookie", &cookies)], body).await;
        for cookie in headers.get_all("set-cookie") {
            let text = cookie.to_str().expect("text");
            let (name, rest) = text.split_once('=').expect("a pair");
            let (value, flags) = rest.split_once(';').expect("flags");
            assert!(flags.contains("HttpOnly") && flags.contains("SameSite=Strict"), "{text}");
            let value = (!flags.contains("Max-Age=0")).then(|| value.to_owned());
            match name {
                LOGIN => self.login = value,
                PROXY => self.proxy = value,
                other => panic!("a cookie {other}"),
            }
        }
        (status.as_u16(), headers, answer)
    }

    async fn data(&mut self, farm: &Supervised, method: &str, page: &str, body: Value) -> Value {
        let (status, _, answer) = self.ask(farm, method, page, body).await;
        assert_eq!((status, &answer["status"]), (200, &json!(0)), "{method} {page}: {answer}");
        assert_eq!(answer["method"], format!("{BASE}/{}", page.split('?').next().expect("a path")));
        answer["data"].clone()
    }

    async fn refused(&mut self, farm: &Supervised, method: &str, page: &str, body: Value) -> (u16, String) {
        let (status, _, answer) = self.ask(farm, method, page, body).await;
        assert!(status >= 400 && answer["status"] != 0, "{method} {page}: {answer}");
        (status, answer["message"].as_str().expect("a message").to_owned())
    }

    async fn act_as_render(&mut self, farm: &Supervised) {
        let choice = json!({ "proxyUserName": "render" });
        self.data(farm, "POST", "dss/framework/proxy/setProxyUser", choice).await;
        assert!(self.proxy.is_some());
    }

    async fn submit(&mut self, farm: &Supervised, code: &str) -> u64 {
        self.data(farm, "POST", "entrance/submit", submission("shell", code)).await["taskID"]
            .as_u64()
            .expect("a number")
    }

    async fn record(&mut self, farm: &Supervised, job: u64) -> Value {
        self.data(farm, "GET", &format!("jobhistory/{job}/get"), Value::Null).await["task"].clone()
    }
}

fn submission(run_type: &str, code: &str) -> Value {
    json!({
        "executionContent": { "code": code, "runType": run_type },
        "labels": { "engineType": run_type, "userCreator": "ada-IDE" },
    })
}

async fn farm(data: &std::path::Path) -> Supervised {
    let farm = Supervised::start(data).await;
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "render", "type": "proxy" })).await;
    farm
}

/// What a session of the job would have printed.
fn prints(farm: &Supervised, job: u64, stream: Stream, data: &[u8]) {
    let mut out = Vec::new();
    let task = wire::Task { step: 0, index: 0, epoch: 1 };
    for (n, data) in data.chunks(100_000).enumerate() {
        wire::log::write(&mut out, &wire::log::Record { task, stream, offset: (n * 100_000) as u64, data });
    }
    let session = if stream == Stream::Stdout { 77 } else { 78 };
    farm.running.app.service.logs.append(job, session, 0, &out).expect("append");
}

// --- every page × whoever asks

const COLUMNS: [(&str, &str); 6] = [
    ("nobody", "no cookie, over TCP"),
    ("login cookie", "ada's, who acts as nobody and may act as render; about a job of hers"),
    ("both", "ada's login cookie and the proxy cookie for render; about a job as render"),
    ("proxy only", "the same proxy cookie by itself"),
    ("mismatched", "ada's login cookie with the proxy cookie of another session of hers"),
    ("revoked", "both, when the grant was revoked"),
];

struct Row {
    page: (&'static str, &'static str),
    query: &'static str,
    body: Value,
    gets: [u16; 6],
}

fn row(method: &'static str, page: &'static str, query: &'static str, body: Value, gets: [u16; 6]) -> Row {
    Row { page: (method, page), query, body, gets }
}

fn table() -> Vec<Row> {
    let none = || Value::Null;
    let anybody = [200; 6];
    let usual = [401, 200, 200, 401, 403, 403];
    // What only the login user is, they are whatever became of their right to another's name.
    let oneself = [401, 200, 200, 401, 403, 200];
    let get = |page, query| row("GET", page, query, Value::Null, usual);
    let login = json!({ "userName": "ada", "password": "right" });
    let old = json!({ "executionCode": "true", "runType": "shell", "requestApplicationName": "IDE" });
    let mut rows = vec![
        row("POST", "user/login", "", login, anybody),
        // Always possible, so that a client can begin anew.
        row("POST", "user/logout", "", none(), [401, 200, 200, 401, 200, 200]),
        get("user/userInfo", ""),
        get("user/heartbeat", ""),
        row("GET", "user/publicKey", "", none(), anybody),
        get("user/baseinfo", ""),
        row("POST", "entrance/submit", "", submission("shell", "true"), usual),
        row("POST", "entrance/execute", "", old, usual),
        get("entrance/{id}/status", ""),
        get("entrance/{id}/progress", ""),
        get("entrance/{id}/log", "?fromLine=0&size=10"),
        get("entrance/{id}/kill", ""),
        row("POST", "entrance/{id}/killJobs", "", json!({ "idList": [], "taskIDList": [] }), usual),
        get("jobhistory/{id}/get", ""),
        get("jobhistory/list", "?pageNow=1&pageSize=5"),
        get("jobhistory/listundonetasks", ""),
        get("jobhistory/governanceStationAdmin", ""),
        get("filesystem/getDirFileTrees", "?path={location}"),
        get("filesystem/openFile", "?path={location}/_0.dolphin"),
        get("filesystem/openLog", "?path={location}.log"),
        get("filesystem/resultsetToExcel", "?path={location}/_0.dolphin"),
        row("POST", "filesystem/download", "", json!({ "path": "{location}.log" }), usual),
    ];
    for (method, page, query, body, gets) in [
        (
            "POST",
            ["dss/framework/proxy/setProxyUser", "dss/scriptis/proxy/setProxyUser"],
            "",
            json!({ "proxyUserName": "render" }),
            usual,
        ),
        // 400: ada acts as nobody else.
        (
            "GET",
            ["dss/framework/proxy/getProxyUser", "dss/scriptis/proxy/getProxyUser"],
            "",
            none(),
            [401, 400, 200, 401, 403, 403],
        ),
        ("GET", ["dss/framework/proxy/listProxyUsers", "dss/scriptis/proxy/listProxyUsers"], "", none(), oneself),
        ("GET", ["dss/framework/proxy/list", "dss/scriptis/proxy/list"], "", none(), oneself),
        // Ada may give none.
        (
            "POST",
            ["dss/framework/proxy/add", "dss/scriptis/proxy/add"],
            "",
            json!({ "userName": "bob", "proxyUserName": "render" }),
            [401, 403, 403, 401, 403, 403],
        ),
        // Her own she may end, as herself.
        (
            "POST",
            ["dss/framework/proxy/revokeProxyUser", "dss/scriptis/proxy/revokeProxyUser"],
            "",
            json!({ "userName": "ada", "proxyUserNames": ["render"] }),
            [401, 200, 400, 401, 403, 403],
        ),
        (
            "GET",
            ["dss/framework/proxy/getProxyUserName", "dss/scriptis/proxy/getProxyUserName"],
            "?userName=ada",
            none(),
            usual,
        ),
    ] {
        rows.extend(page.map(|page| row(method, page, query, body.clone(), gets)));
    }
    rows
}

/// Everything as the column says, and then the question.
async fn asked(farm: &Supervised, row: &Row, column: usize) -> u16 {
    let given = grant(farm, "ada").await;
    let mut client = Client::of(farm, "ada").await;
    if column >= 2 {
        client.act_as_render(farm).await;
    }
    let job = client.submit(farm, "true").await;
    let location = client.record(farm, job).await["resultLocation"].as_str().expect("a path").to_owned();
    match column {
        0 => client = Client::default(),
        3 => client.login = None,
        4 => client.login = Client::of(farm, "ada").await.login,
        _ => {}
    }
    if column == 5 {
        farm.ask(operator(), "POST", &format!("/api/v1/grants/{given}/revoke"), json!({})).await;
    }
    let filled = |text: &str| text.replace("{id}", &job.to_string()).replace("{location}", &location);
    let page = filled(row.page.1) + &filled(row.query);
    let body = match &row.body {
        Value::Null => Value::Null,
        body => serde_json::from_str(&filled(&body.to_string())).expect("json"),
    };
    let (status, headers, answer) = client.ask(farm, row.page.0, &page, body).await;
    if headers["content-type"] == "application/json" {
        assert_eq!(answer["status"] == 0, status == 200, "{page}: {answer}");
        assert_eq!(answer["method"], json!(format!("{BASE}/{}", page.split('?').next().expect("a path"))));
        assert!(answer["message"].is_string() && answer["data"].is_object(), "{page}: {answer}");
    } else {
        assert_eq!((status, headers.contains_key("content-disposition")), (200, true), "{page}");
    }
    farm.ask(ADA, "DELETE", "/api/v1/as", Value::Null).await;
    let _ =
        farm.call(Peer::Unix { uid: operator() }, "POST", &format!("/api/v1/grants/{given}/revoke"), json!({})).await;
    status
}

#[tokio::test]
async fn every_page_for_everybody() {
    let rows: BTreeSet<_> = table().iter().map(|row| (row.page.0, format!("{BASE}/{}", row.page.1))).collect();
    let pages = routes().into_iter().map(|(method, path, _)| (method, path.to_owned()));
    let pages: BTreeSet<_> = pages.filter(|(_, path)| !path.ends_with("{*rest}")).collect();
    assert_eq!(rows, pages, "every page has a row, and every row a page");
    // Each column on a farm of its own, all at once.
    let wrong = futures_util::future::join_all((0..COLUMNS.len()).map(column)).await.concat();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What somebody got that isn't in the table.
async fn column(column: usize) -> Vec<String> {
    let dir = tempfile::tempdir().expect("dir");
    let farm = farm(dir.path()).await;
    let mut wrong = Vec::new();
    for row in table() {
        let (got, gets) = (asked(&farm, &row, column).await, row.gets[column]);
        if got != gets {
            wrong.push(format!("{:?}, {}: {got} instead of {gets}", row.page, COLUMNS[column].0));
        }
    }
    drop(farm);
    verified(dir.path());
    wrong
}

#[test]
fn the_table_is_the_committed_one() {
    let mut text = "# Who gets what from which page of Linkis's interface\n\nMade by the supervisor's tests, which ask each page as \
                    each of these. What the interface is: [compat-linkis.md](compat-linkis.md). `STEAD_UPDATE=1` writes it anew.\n\n"
        .to_owned();
    for (name, who) in COLUMNS {
        text += &format!("* **{name}**: {who}\n");
    }
    text += "\n✓ done · 401 nobody is known (status -1) · 403 refused, with the rule (status 3) · 400 an error (status 1): there \
             is nothing to show or to end. Nowhere is anything done as either user alone when both were named.\n\n";
    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    text += &format!("| page | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for row in table() {
        let gets = row.gets.map(|status| if status < 400 { "✓".to_owned() } else { status.to_string() });
        text += &format!("| `{} {}` | {} |\n", row.page.0, row.page.1, gets.join(" | "));
    }
    is_committed("linkis-endpoints.md", &text);
}

// --- the proxy mode

#[tokio::test]
async fn a_proxy_ticket_is_for_its_session_and_its_association_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = farm(dir.path()).await;
    grant(&farm, "ada").await;
    grant(&farm, "bob").await;
    let mut ada = Client::of(&farm, "ada").await;
    ada.act_as_render(&farm).await;
    let info = ada.data(&farm, "GET", "user/userInfo", Value::Null).await;
    assert_eq!(info, json!({ "userName": "ada", "proxyUser": "render" }));
    let good = ada.proxy.clone().expect("a ticket");
    assert!(good.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "cookie-safe: {good}");
    let quoted = Client { proxy: Some(format!("\"{good}\"")), login: ada.login.as_ref().map(|t| format!("\"{t}\"")) };
    quoted.clone().data(&farm, "GET", "user/userInfo", Value::Null).await;
    let mut bob = Client::of(&farm, "bob").await;
    bob.act_as_render(&farm).await;
    let flipped = |at: usize| {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        String::from_utf8(bytes).expect("text")
    };
    let forged = [
        String::new(),
        "render".to_owned(),
        "stead_p_".to_owned(),
        format!("{good}0"),
        good[..good.len() - 1].to_owned(),
        good.to_uppercase(),
        flipped(8),
        flipped(40),
        flipped(good.len() - 1),
        "stead_p_".to_owned() + &"0".repeat(64),
        // Linkis's own, made with the keys that everybody has.
        "FotUrJ9JmhQ=render".to_owned(),
        ada.login.clone().expect("a ticket"),
        bob.proxy.clone().expect("a ticket"),
    ];
    for ticket in forged {
        let mut client = Client { proxy: Some(ticket.clone()), ..ada.clone() };
        let (status, why) = client.refused(&farm, "GET", "user/userInfo", Value::Null).await;
        assert_eq!((status, why.contains("the proxy cookie is not")), (403, true), "{ticket:?}: {why}");
        let (status, _) = client.refused(&farm, "POST", "entrance/submit", submission("shell", "true")).await;
        assert_eq!(status, 403, "{ticket:?}");
    }
    assert_eq!(farm.ask(operator(), "GET", "/api/v1/jobs", Value::Null).await, json!([]), "nothing was done as either");
    let mut forged = Client { login: Some("EiGPCaXRrevefns+m+4JOgQW6swVb98J".to_owned()), proxy: None };
    assert_eq!(forged.refused(&farm, "GET", "user/userInfo", Value::Null).await.0, 401, "a ticket of Linkis's own");
    // Chosen anew in another session: the old one is nobody's any more.
    let mut second = Client::of(&farm, "ada").await;
    second.data(&farm, "POST", "dss/scriptis/proxy/setProxyUser", json!({ "proxyUserName": "ada" })).await;
    assert_eq!(ada.refused(&farm, "GET", "user/userInfo", Value::Null).await.0, 403, "not as herself instead");
    second.act_as_render(&farm).await;
    assert_eq!(ada.refused(&farm, "GET", "user/userInfo", Value::Null).await.0, 403, "not by another session's choice");
    assert_eq!(ada.ask(&farm, "POST", "user/logout", Value::Null).await.0, 200);
    assert_eq!((&ada.login, &ada.proxy), (&None, &None), "both are dropped");
    second.data(&farm, "GET", "user/userInfo", Value::Null).await;
    drop(farm);
    verified(dir.path());
}

#[tokio::test]
async fn rows_that_are_edited_by_hand_act_at_once() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = farm(dir.path()).await;
    let given = grant(&farm, "ada").await;
    let mut ada = Client::of(&farm, "ada").await;
    ada.act_as_render(&farm).await;
    farm.by_hand(dir.path(), &format!("UPDATE grants SET state = 'revoked' WHERE id = {given}")).await;
    let (status, why) = ada.refused(&farm, "GET", "user/userInfo", Value::Null).await;
    assert_eq!((status, why.contains("that right is gone")), (403, true), "{why}");
    let other = grant(&farm, "ada").await;
    assert_ne!(given, other);
    let (status, why) = ada.refused(&farm, "GET", "user/userInfo", Value::Null).await;
    assert_eq!((status, why.contains("the proxy cookie is not")), (403, true), "a new grant doesn't revive it: {why}");
    farm.by_hand(dir.path(), "UPDATE users SET disabled = 1 WHERE name = 'ada'").await;
    assert_eq!(ada.refused(&farm, "GET", "user/userInfo", Value::Null).await.0, 403);
}

#[tokio::test]
async fn as_whom_it_runs_is_said_by_grants_and_by_nothing_else() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = farm(dir.path()).await;
    let mut ada = Client::of(&farm, "ada").await;
    let with = |key: &str, value: &str| {
        let mut body = submission("shell", "true");
        match key {
            "userCreator" => body["labels"][key] = json!(value),
            _ => body[key] = json!(value),
        }
        body
    };
    for (key, value, status, why) in [
        ("executeUser", "render", 403, "render"),
        ("executeUser", "bob", 403, "bob"),
        ("executeUser", "root", 403, "root"),
        ("executeUser", "", 400, "empty"),
        ("userCreator", "bob-IDE", 403, "50080"),
        ("userCreator", "IDE", 400, "alice-IDE"),
    ] {
        let got = ada.refused(&farm, "POST", "entrance/submit", with(key, value)).await;
        assert_eq!((got.0, got.1.contains(why)), (status, true), "{key} {value:?}: {got:?}");
    }
    grant(&farm, "ada").await;
    let job = ada.data(&farm, "POST", "entrance/submit", with("executeUser", "render")).await["taskID"].clone();
    let task = ada.record(&farm, job.as_u64().expect("a number")).await;
    assert_eq!((&task["umUser"], &task["executeUser"]), (&json!("ada"), &json!("render")), "{task}");
    let info = ada.data(&farm, "GET", "user/userInfo", Value::Null).await;
    assert_eq!(info["proxyUser"], Value::Null, "for one submission");
    let own = ada.submit(&farm, "true").await;
    assert_eq!(ada.record(&farm, own).await["executeUser"], "ada");
    // As render: its records and none of her own; and nobody else's name.
    ada.act_as_render(&farm).await;
    let theirs = ada.submit(&farm, "true").await;
    let listed = ada.data(&farm, "GET", "jobhistory/list", Value::Null).await;
    let ids: Vec<&Value> = listed["tasks"].as_array().expect("a list").iter().map(|task| &task["taskID"]).collect();
    assert_eq!((ids, &listed["totalPage"]), (vec![&json!(theirs), &job], &json!(2)));
    assert_eq!(ada.refused(&farm, "GET", &format!("jobhistory/{own}/get"), Value::Null).await.0, 400);
    assert_eq!(ada.refused(&farm, "POST", "entrance/submit", with("executeUser", "ada")).await.0, 403);
    let mut bob = Client::of(&farm, "bob").await;
    let absent = bob.refused(&farm, "GET", "jobhistory/99999/get", Value::Null).await;
    for page in
        ["jobhistory/{}/get", "entrance/{}/status", "entrance/{}/progress", "entrance/{}/log", "entrance/{}/kill"]
    {
        let got = bob.refused(&farm, "GET", &page.replace("{}", &theirs.to_string()), Value::Null).await;
        assert_eq!((got.0, got.1.replace(&theirs.to_string(), "99999")), absent, "{page}");
    }
    // A proxy user acts as nobody.
    farm.ask(operator(), "POST", "/api/v1/users", json!({ "name": "bob", "type": "proxy" })).await;
    let choice = json!({ "proxyUserName": "render" });
    assert_eq!(bob.refused(&farm, "POST", "dss/framework/proxy/setProxyUser", choice).await.0, 403);
}

#[tokio::test]
async fn tokens_come_with_whom_they_are_for() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = farm(dir.path()).await;
    let body = json!({ "name": "n", "scopes": ["read", "submit", "control"] });
    let made = farm.ask(ADA, "POST", "/api/v1/tokens", body).await;
    let token = made["token"].as_str().expect("a token").to_owned();
    let ask = async |headers: &[(&str, &str)]| {
        let (status, _, answer) =
            farm.send(tcp(), ("GET", &format!("{BASE}/user/userInfo")), headers, Value::Null).await;
        (status.as_u16(), answer["data"]["userName"].clone(), answer["data"]["proxyUser"].clone())
    };
    let code = ("token-code", token.as_str());
    assert_eq!(ask(&[code, ("token-user", "ada")]).await, (200, json!("ada"), Value::Null));
    assert_eq!(ask(&[code, ("token-user", "render")]).await.0, 403, "without a grant");
    assert_eq!(ask(&[code, ("token-user", "bob")]).await.0, 403);
    assert_eq!(ask(&[code]).await.0, 401, "alone");
    assert_eq!(ask(&[("token-user", "ada")]).await.0, 401, "alone");
    assert_eq!(ask(&[("token-code", "BML-AUTH"), ("token-user", "ada")]).await.0, 401, "Linkis's own");
    let bearer = format!("Bearer {token}");
    assert_eq!(ask(&[code, ("token-user", "ada"), ("authorization", &bearer)]).await.0, 401, "two");
    let cookie = format!("{LOGIN}={token}");
    assert_eq!(ask(&[("cookie", &cookie)]).await.0, 401, "a token is no ticket");
    grant(&farm, "ada").await;
    assert_eq!(ask(&[code, ("token-user", "render")]).await, (200, json!("ada"), json!("render")));
    let mut ada = Client::of(&farm, "ada").await;
    ada.act_as_render(&farm).await;
    assert_eq!(ask(&[code, ("token-user", "ada")]).await.0, 403, "as one at a time");
}

#[tokio::test]
async fn only_our_own_pages_and_programs_may_use_a_browsers_cookie() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = farm(dir.path()).await;
    let mut ada = Client::of(&farm, "ada").await;
    let job = ada.submit(&farm, "true").await;
    let cookies = ada.cookies();
    let kill = format!("{BASE}/entrance/{job}/kill");
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "none"),
    ] {
        let headers = [("cookie", cookies.as_str()), (name, value)];
        assert_eq!(farm.send(tcp(), ("GET", &kill), &headers, Value::Null).await.0.as_u16(), 403, "{name}: {value}");
    }
    // The farm's own cookie isn't asked here, and this one isn't there.
    let stead = format!("stead={}", ada.login.clone().expect("a ticket"));
    assert_eq!(farm.send(tcp(), ("GET", &kill), &[("cookie", &stead)], Value::Null).await.0.as_u16(), 401);
    let whoami = farm.send(tcp(), ("GET", "/api/v1/whoami"), &[("cookie", &cookies)], Value::Null).await;
    assert_eq!(whoami.0.as_u16(), 401);
    assert_eq!(ada.record(&farm, job).await["status"], "Scheduled");
    ada.data(&farm, "GET", &format!("entrance/{job}/kill"), Value::Null).await;
    assert_eq!(ada.record(&farm, job).await["status"], "Cancelled");
}

// --- what clients read

#[tokio::test]
async fn what_was_printed_is_a_table() {
    let dir = tempfile::tempdir().expect("dir");
    let conf = dir.path().join("supervisor.toml");
    let text = "[linkis.run]\nsql = { command = [\"sqlite3\", \"-csv\", \"-header\", \"x.db\"], result = \"csv\" }\n";
    std::fs::write(&conf, text).expect("settings");
    let farm = Supervised::configured(dir.path(), Some(conf)).await;
    let _worker = FakeWorker::start(dir.path(), Habits::of_ada("desk"));
    let mut ada = Client::of(&farm, "ada").await;
    let answer = ada.data(&farm, "POST", "entrance/submit", submission("shell", "seq 20000")).await;
    let job = answer["taskID"].as_u64().expect("a number");
    let exec_id = answer["execID"].as_str().expect("text").to_owned();
    assert!(exec_id.starts_with("exec_id018") && exec_id.ends_with(&format!("IDE_ada_shell_{job}")), "{exec_id}");
    farm.over(job).await;
    let printed: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    prints(&farm, job, Stream::Stdout, printed.as_bytes());
    prints(&farm, job, Stream::Stderr, b"a word\n");
    let task = ada.record(&farm, job).await;
    assert_eq!(
        (&task["status"], &task["executionCode"], &task["runType"], &task["progress"]),
        (&json!("Succeed"), &json!("seq 20000"), &json!("shell"), &json!("1"))
    );
    assert!(task["createdTime"].is_u64() && task["updatedTime"].is_u64(), "{task}");
    assert_eq!(ada.data(&farm, "GET", &format!("entrance/{exec_id}/status"), Value::Null).await["status"], "Succeed");
    let over = ada.refused(&farm, "GET", &format!("entrance/{exec_id}/log"), Value::Null).await;
    assert!(over.1.contains("has ended: download the log file"), "{over:?}");
    let location = task["resultLocation"].as_str().expect("a path");
    let encoded = location.replace("://", "%3A%2F%2F");
    let tree = ada.data(&farm, "GET", &format!("filesystem/getDirFileTrees?path={encoded}"), Value::Null).await;
    let files = tree["dirFileTrees"]["children"].as_array().expect("children").clone();
    let mut rows = Vec::new();
    for file in &files {
        assert_eq!(file["isLeaf"], true);
        let page = format!("filesystem/openFile?charset=utf8&path={}", file["path"].as_str().expect("a path"));
        let opened = ada.data(&farm, "GET", &page, Value::Null).await;
        assert_eq!((&opened["type"], &opened["metadata"][0]["columnName"]), (&json!("2"), &json!("line")));
        rows.extend(
            opened["fileContent"].as_array().expect("rows").iter().map(|row| row[0].as_str().expect("text").to_owned()),
        );
    }
    assert_eq!((files.len(), rows.len()), (4, 20_000));
    assert_eq!((rows[0].as_str(), rows[19_999].as_str()), ("1", "20000"));
    let page = format!("filesystem/openFile?page=3&pageSize=2&path={location}/_1.dolphin");
    let opened = ada.data(&farm, "GET", &page, Value::Null).await;
    assert_eq!((&opened["fileContent"], &opened["totalLine"]), (&json!([["5005"], ["5006"]]), &json!(5000)));
    let log = ada.data(&farm, "GET", &format!("filesystem/openLog?path={location}.log"), Value::Null).await;
    let log = log["log"][3].as_str().expect("text");
    assert!(log.contains("\n20000\n") && log.contains("a word\n") && log.ends_with("Success.\n"), "{}", log.len());

    let sql = ada.data(&farm, "POST", "entrance/submit", submission("sql", "select 1")).await["taskID"]
        .as_u64()
        .expect("a number");
    farm.over(sql).await;
    prints(&farm, sql, Stream::Stdout, b"id,name\r\n1,\"x, y\"\r\n2,\r\n");
    let location = ada.record(&farm, sql).await["resultLocation"].as_str().expect("a path").to_owned();
    let opened = ada.data(&farm, "GET", &format!("filesystem/openFile?path={location}/_0.dolphin"), Value::Null).await;
    assert_eq!(opened["fileContent"], json!([["1", "x, y"], ["2", ""]]));
    assert_eq!(
        (&opened["metadata"][0]["dataType"], &opened["metadata"][1]["columnName"]),
        (&json!("bigint"), &json!("name"))
    );

    // No path leads elsewhere, and none of a path's words can be another.
    for path in [
        "/etc/passwd".to_owned(),
        "file:///etc/passwd".to_owned(),
        format!("{location}/_9.dolphin"),
        format!("{location}/../{job}"),
        location.replace("stead://ada", "stead://bob") + "/_0.dolphin",
        location.replace("/IDE/", "/XDE/") + "/_0.dolphin",
        String::new(),
    ] {
        let (status, why) = ada.refused(&farm, "GET", &format!("filesystem/openFile?path={path}"), Value::Null).await;
        assert_eq!(status, 400, "{path}: {why}");
    }
    let mut bob = Client::of(&farm, "bob").await;
    for page in ["openFile?path={}/_0.dolphin", "openLog?path={}.log", "getDirFileTrees?path={}"] {
        let page = format!("filesystem/{}", page.replace("{}", &location));
        let got = bob.refused(&farm, "GET", &page, Value::Null).await;
        assert!(got.0 == 400 && got.1.contains("there is no job"), "{page}: {got:?}");
    }
    let none = ada.refused(&farm, "GET", "filesystem/getUserRootPath", Value::Null).await;
    assert!(none.1.contains("no such page"), "{none:?}");
    drop(farm);
    let said = std::fs::read_to_string(dir.path().join("supervisor/audit/audit.log")).unwrap_or_default();
    assert!(!said.contains("stead_s_") && !said.contains("stead_p_"), "a ticket on record");
    verified(dir.path());
}

#[tokio::test]
async fn what_failed_says_why_and_is_over() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let habits = Habits { ends: Arc::new(|_| End::Exited { code: 7 }), ..Habits::of_ada("desk") };
    let worker = FakeWorker::start(dir.path(), habits);
    let mut ada = Client::of(&farm, "ada").await;
    let job = ada.submit(&farm, "boom").await;
    farm.over(job).await;
    prints(&farm, job, Stream::Stderr, b"Traceback\nNameError: boom\n");
    let task = ada.record(&farm, job).await;
    assert_eq!((&task["status"], &task["errCode"]), (&json!("Failed"), &json!(7)));
    let why = task["errDesc"].as_str().expect("a sentence");
    assert!(why.contains('7') && why.ends_with("NameError: boom"), "{why}");
    worker.crash();
    eventually("the worker is gone", async || farm.get("/api/v1/workers").await[0]["state"] == "down").await;
    let waits = ada.submit(&farm, "true").await;
    for (query, ids) in [
        ("status=Failed", vec![job]),
        ("status=Scheduled,Running", vec![waits]),
        ("runType=shell&pageSize=1&pageNow=2", vec![job]),
        ("runType=python", vec![]),
        ("creator=IDE", vec![waits, job]),
        ("endDate=1", vec![]),
    ] {
        let listed = ada.data(&farm, "GET", &format!("jobhistory/list?{query}"), Value::Null).await;
        let got = listed["tasks"].as_array().expect("a list").iter().map(|task| task["taskID"].as_u64().expect("one"));
        assert_eq!(got.collect::<Vec<_>>(), ids, "{query}");
    }
    let listed = ada.data(&farm, "GET", "jobhistory/list?status=Timeout", Value::Null).await;
    assert_eq!(listed["totalPage"], 0, "it failed by itself: {listed}");
    let undone = ada.data(&farm, "GET", "jobhistory/listundonetasks", Value::Null).await;
    assert_eq!((undone["tasks"][0]["taskID"].as_u64(), &undone["totalPage"]), (Some(waits), &json!(1)));
    for wrong in ["status=Success", "pageNow=x", "startDate=yesterday"] {
        assert_eq!(ada.refused(&farm, "GET", &format!("jobhistory/list?{wrong}"), Value::Null).await.0, 400, "{wrong}");
    }
    let body = json!({ "idList": [], "taskIDList": [waits, job, 99_999] });
    let killed = ada.data(&farm, "POST", &format!("entrance/{waits}/killJobs"), body).await;
    let states: Vec<&Value> = killed["messages"].as_array().expect("a list").iter().map(|m| &m["status"]).collect();
    assert_eq!(states, [0, 1, 1]);
    assert_eq!(ada.record(&farm, waits).await["status"], "Cancelled");
    for (run_type, code) in [("hql", "x"), ("shell", ""), ("shell", " \n"), ("", "x")] {
        let got = ada.refused(&farm, "POST", "entrance/submit", submission(run_type, code)).await;
        assert_eq!(got.0, 400, "{run_type:?} {code:?}: {got:?}");
    }
}

#[tokio::test]
async fn a_time_limit_is_a_word_of_its_own() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    let habits = Habits { ends: Arc::new(|_| End::TimedOut), ..Habits::of_ada("desk") };
    let _worker = FakeWorker::start(dir.path(), habits);
    let mut ada = Client::of(&farm, "ada").await;
    let job = ada.submit(&farm, "sleep 9").await;
    farm.over(job).await;
    let task = ada.record(&farm, job).await;
    assert_eq!(task["status"], "Timeout");
    assert!(task["errDesc"].as_str().is_some_and(|why| why.contains("time limit reached")), "{task}");
    assert_eq!(ada.data(&farm, "GET", &format!("entrance/{job}/status"), Value::Null).await["status"], "Timeout");
    for (state, n) in [("Timeout", 1), ("Failed", 0), ("Failed,Timeout", 1)] {
        let listed = ada.data(&farm, "GET", &format!("jobhistory/list?status={state}"), Value::Null).await;
        assert_eq!((&listed["totalPage"], listed["tasks"].as_array().map(Vec::len)), (&json!(n), Some(n)), "{state}");
        assert!(n == 0 || listed["tasks"][0]["status"] == "Timeout", "{listed}");
    }
}

#[tokio::test]
async fn it_can_be_off_and_its_cookies_can_have_other_names() {
    let dir = tempfile::tempdir().expect("dir");
    let conf = dir.path().join("supervisor.toml");
    std::fs::write(&conf, "linkis = false\n").expect("settings");
    let farm = Supervised::configured(dir.path(), Some(conf.clone())).await;
    let login = json!({ "userName": "ada", "password": "right" });
    let path = format!("{BASE}/user/login");
    assert_eq!(farm.send(tcp(), ("POST", &path), &[], login.clone()).await.0.as_u16(), 404);
    drop(farm);
    let dir = tempfile::tempdir().expect("dir");
    std::fs::write(dir.path().join("x.toml"), "[linkis]\n\"wds.linkis.session.ticket.key\" = \"ours\"\n")
        .expect("settings");
    let farm = Supervised::configured(dir.path(), Some(dir.path().join("x.toml"))).await;
    let (status, headers, _) = farm.send(tcp(), ("POST", &path), &[], login).await;
    assert_eq!(status.as_u16(), 200);
    assert!(headers["set-cookie"].to_str().expect("text").starts_with("ours=stead_s_"));
}

#[tokio::test]
async fn clients_that_sign_in_for_every_question_never_run_out() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = farm(dir.path()).await;
    let mut first = Client::of(&farm, "ada").await;
    for _ in 0..200 {
        Client::of(&farm, "ada").await;
    }
    let sessions = farm.ask(ADA, "GET", "/api/v1/sessions", Value::Null).await;
    assert_eq!(sessions.as_array().map(Vec::len), Some(200));
    assert_eq!(first.refused(&farm, "GET", "user/userInfo", Value::Null).await.0, 401, "the one used longest ago");
    let wrong = json!({ "userName": "ada", "password": "wrong" });
    let (status, why) = Client::default().refused(&farm, "POST", "user/login", wrong).await;
    assert_eq!((status, why.contains("the name or the password is wrong")), (401, true), "{why}");
}
