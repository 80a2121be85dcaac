//! Signing in at an OpenID provider: one that says whatever a test has it say, and a real one.

use super::{BOB, Supervised, operator, tcp};
use crate::clock;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::BodyExt as _;
use openidconnect::core::{CoreEdDsaPrivateSigningKey, CoreHmacKey, CoreJwsSigningAlgorithm as Alg};
use openidconnect::{JsonWebKeyId, PkceCodeChallenge, PkceCodeVerifier, PrivateSigningKey as _};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use store::NewUser;
use tower::ServiceExt as _;
use warrant::{hex, sha256};

const SECRET: &str = "of-the-client";
/// Only tests know these two; the second is nobody's.
const KEYS: [&str; 2] = [
    "MC4CAQAwBQYDK2VwBCIEIN8avVakECN3xoicgWQLZ8QSdn41nUA9dDsKHGRdI7ft",
    "MC4CAQAwBQYDK2VwBCIEIL9Pkx2ih6yW2Jz3eTNe9jrXbYskStDmhtPipZeqAs5D",
];

fn key(n: usize, id: &str) -> CoreEdDsaPrivateSigningKey {
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", KEYS[n]);
    CoreEdDsaPrivateSigningKey::from_ed25519_pem(&pem, Some(JsonWebKeyId::new(id.to_owned()))).expect("key")
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |all, b| all << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        let digit = |i: usize| char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63]);
        text.extend((0..=chunk.len()).map(digit));
    }
    text
}

/// Header, claims, and how it is signed.
fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
    let signature = base64url(&sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn signed_by(n: usize, id: &str, claims: &Value) -> String {
    let sign = |message: &[u8]| key(n, id).sign(&Alg::EdDsa, message).expect("signature");
    token(&json!({ "alg": "EdDSA", "kid": id }), claims, sign)
}

/// What the provider answers next.
#[derive(Default)]
struct Next {
    id_token: Option<String>,
    /// What the question's own PKCE challenge was.
    challenge: String,
    /// It publishes nothing.
    is_silent: bool,
}

/// A provider that says what it is told to.
#[derive(Clone)]
struct Fake {
    issuer: String,
    next: Arc<Mutex<Next>>,
}

impl Fake {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let issuer = format!("http://{}", listener.local_addr().expect("address"));
        let fake = Self { issuer, next: Arc::default() };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(Self::published))
            .route("/keys", get(async || Json(json!({ "keys": [key(0, "one").as_verification_key()] }))))
            .route("/token", post(Self::token))
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    async fn published(State(fake): State<Self>) -> Result<Json<Value>, StatusCode> {
        if fake.next.lock().expect("lock").is_silent {
            return Err(StatusCode::BAD_GATEWAY);
        }
        let at = |path: &str| format!("{}/{path}", fake.issuer);
        Ok(Json(json!({
            "issuer": fake.issuer, "authorization_endpoint": at("authorize"), "token_endpoint": at("token"),
            "jwks_uri": at("keys"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
            // More than anybody should take.
            "id_token_signing_alg_values_supported": ["EdDSA", "HS256", "none"],
        })))
    }

    async fn token(State(fake): State<Self>, headers: HeaderMap, form: String) -> (StatusCode, Json<Value>) {
        let next = fake.next.lock().expect("lock");
        let form = reqwest::Url::parse(&format!("http://form/?{form}")).expect("a form");
        let form: HashMap<String, String> = form.query_pairs().into_owned().collect();
        let verifier = PkceCodeVerifier::new(form.get("code_verifier").cloned().unwrap_or_default());
        let fits = PkceCodeChallenge::from_code_verifier_sha256(&verifier).as_str() == next.challenge;
        if !fits || form["code"] != "code-canary" || !headers.contains_key("authorization") {
            return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" })));
        }
        let mut answer = json!({ "access_token": "access-canary", "token_type": "Bearer" });
        if let Some(id_token) = &next.id_token {
            answer["id_token"] = json!(id_token);
        }
        (StatusCode::OK, Json(answer))
    }

    /// Claims that are right for the question.
    fn claims(&self, question: &Question) -> Value {
        let now = clock::now() / 1_000_000;
        json!({
            "iss": self.issuer, "aud": "stead", "sub": "subject-7", "exp": now + 60, "iat": now,
            "nonce": question.part("nonce"), "preferred_username": "ada",
        })
    }

    fn says(&self, question: &Question, id_token: Option<String>) {
        let challenge = question.part("code_challenge");
        let mut next = self.next.lock().expect("lock");
        *next = Next { id_token, challenge, is_silent: next.is_silent };
    }
}

fn configured(dir: &Path, issuer: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let secret = dir.join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let conf = dir.join("supervisor.toml");
    let text = format!(
        "[oidc]\nissuer = {issuer:?}\nclient_id = \"stead\"\nclient_secret_file = {:?}\n",
        secret.display().to_string()
    );
    std::fs::write(&conf, text).expect("written");
    conf
}

async fn farm(dir: &Path, issuer: &str) -> Supervised {
    let conf = configured(dir, issuer);
    let data = dir.join("data");
    std::fs::create_dir(&data).expect("folder");
    Supervised::configured(&data, Some(conf)).await
}

/// What a browser gets: status, headers, text.
async fn browse(farm: &Supervised, path: &str, cookie: Option<&str>) -> (u16, HeaderMap, String) {
    let mut request = Request::get(path).body(Body::empty()).expect("request");
    request.extensions_mut().insert(tcp());
    // It comes from another site.
    request.headers_mut().insert("sec-fetch-site", "cross-site".parse().expect("value"));
    if let Some(cookie) = cookie {
        request.headers_mut().insert("cookie", cookie.parse().expect("value"));
    }
    let (head, body) = farm.router().oneshot(request).await.expect("answer").into_parts();
    let bytes = body.collect().await.expect("body").to_bytes();
    (head.status.as_u16(), head.headers, String::from_utf8(bytes.to_vec()).expect("text"))
}

/// Where a browser was sent, and the cookie it was given.
struct Question {
    url: String,
    cookie: String,
}

impl Question {
    async fn put(farm: &Supervised, query: &str) -> Self {
        let (status, headers, text) = browse(farm, &format!("/api/v1/oidc/start{query}"), None).await;
        assert_eq!(status, 303, "{text}");
        let set = headers["set-cookie"].to_str().expect("text");
        assert!(set.contains("HttpOnly; SameSite=Lax") && set.contains("Path=/api/v1/oidc/callback"), "{set}");
        let cookie = set.split(';').next().expect("a pair").to_owned();
        Self { url: headers["location"].to_str().expect("text").to_owned(), cookie }
    }

    fn part(&self, name: &str) -> String {
        let mut pairs = self.url.split(['?', '&']).filter_map(|pair| pair.split_once('='));
        pairs.find(|(k, _)| *k == name).unwrap_or_else(|| panic!("no {name} in {}", self.url)).1.to_owned()
    }

    fn answer(&self) -> String {
        format!("/api/v1/oidc/callback?code=code-canary&state={}", self.part("state"))
    }
}

fn rule(text: &str) -> Value {
    serde_json::from_str::<Value>(text).unwrap_or_else(|_| panic!("no refusal: {text}"))["error"]["rule"].take()
}

fn audit(dir: &Path) -> String {
    let files = std::fs::read_dir(dir.join("data/supervisor/audit")).expect("folder").map(|e| e.expect("entry").path());
    files.filter_map(|f| std::fs::read(f).ok()).map(|b| String::from_utf8_lossy(&b).into_owned()).collect()
}

/// The session in what a browser was given.
fn session_in(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all("set-cookie").iter().map(|c| c.to_str().expect("text").to_owned());
    cookies.filter_map(|c| c.split(';').next()?.strip_prefix("stead=").map(str::to_owned)).next()
}

async fn login_user(farm: &Supervised, session: &str) -> Value {
    let bearer = format!("Bearer {session}");
    let (_, _, me) = farm.send(tcp(), ("GET", "/api/v1/whoami"), &[("authorization", &bearer)], Value::Null).await;
    me["login_user"].clone()
}

#[tokio::test]
async fn whoever_the_provider_vouches_for_has_a_session() {
    let dir = tempfile::tempdir().expect("dir");
    let fake = Fake::start().await;
    let farm = farm(dir.path(), &fake.issuer).await;
    let question = Question::put(&farm, "").await;
    assert!(question.url.starts_with(&format!("{}/authorize?", fake.issuer)));
    assert_eq!(
        (question.part("code_challenge_method"), question.part("response_type")),
        ("S256".into(), "code".into())
    );
    assert_eq!(question.part("scope"), "openid+profile");
    fake.says(&question, Some(signed_by(0, "one", &fake.claims(&question))));
    let (status, headers, text) = browse(&farm, &question.answer(), Some(&question.cookie)).await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("signed in as ada") && headers["referrer-policy"] == "no-referrer");
    let session = session_in(&headers).expect("a session");
    assert!(!text.contains(&session[8..]));
    assert_eq!(login_user(&farm, &session).await, "ada");
    // Once.
    let (status, headers, text) = browse(&farm, &question.answer(), Some(&question.cookie)).await;
    assert_eq!((status, rule(&text), session_in(&headers)), (403, json!("oidc_state"), None));
    let audit = audit(dir.path());
    for said in ["\"by\":\"oidc\"", "\"subject\":\"subject-7\"", &fake.issuer] {
        assert!(audit.contains(said), "{said} in {audit}");
    }
    for secret in ["canary", SECRET, &session[8..], &question.part("state"), &question.part("nonce")] {
        assert!(!audit.contains(secret), "{secret}");
    }
}

/// However many others begin, whoever is at the provider comes back.
#[tokio::test]
async fn nobodys_question_is_pushed_out_by_others() {
    let dir = tempfile::tempdir().expect("dir");
    let fake = Fake::start().await;
    let farm = farm(dir.path(), &fake.issuer).await;
    let question = Question::put(&farm, "").await;
    for _ in 0..1100 {
        let other = Question::put(&farm, "").await;
        let (status, _, text) = browse(&farm, &format!("{}&error=access_denied", other.answer()), None).await;
        assert_eq!((status, rule(&text)), (403, json!("oidc_state")));
    }
    fake.says(&question, Some(signed_by(0, "one", &fake.claims(&question))));
    let (status, _, text) = browse(&farm, &question.answer(), Some(&question.cookie)).await;
    assert_eq!(status, 200, "{text}");
}

/// A token of a key that nobody knows has the provider asked for its keys again. That it says nothing just then takes
/// nothing from what it said before.
#[tokio::test]
async fn a_provider_that_falls_silent_is_believed_as_before() {
    let dir = tempfile::tempdir().expect("dir");
    let fake = Fake::start().await;
    let farm = farm(dir.path(), &fake.issuer).await;
    let first = Question::put(&farm, "").await;
    fake.next.lock().expect("lock").is_silent = true;
    fake.says(&first, Some(signed_by(1, "two", &fake.claims(&first))));
    let (status, headers, text) = browse(&farm, &first.answer(), Some(&first.cookie)).await;
    assert!(status == 503 && session_in(&headers).is_none(), "{status} {text}");
    let question = Question::put(&farm, "").await;
    fake.says(&question, Some(signed_by(0, "one", &fake.claims(&question))));
    let (status, _, text) = browse(&farm, &question.answer(), Some(&question.cookie)).await;
    assert_eq!(status, 200, "{text}");
}

/// What the provider's token is to be, from what would be right.
type Spoil = fn(&Fake, Value) -> Option<String>;

fn with(key: &str, value: Value, mut claims: Value) -> Option<String> {
    claims[key] = value;
    Some(signed_by(0, "one", &claims))
}

#[tokio::test]
async fn a_word_that_is_not_the_providers_own_for_this_question_signs_nobody_in() {
    let dir = tempfile::tempdir().expect("dir");
    let fake = Fake::start().await;
    let farm = farm(dir.path(), &fake.issuer).await;
    let store = farm.running.app.service.store.clone();
    let bob = NewUser { name: "bob".into(), kind: "login".into(), disabled: true, ..NewUser::default() };
    store.put_user(bob, None, clock::now()).await.expect("kept");
    let table: &[(&str, &str, Spoil)] = &[
        ("no ID token", "oidc_token", |_, _| None),
        ("another issuer", "oidc_token", |_, c| with("iss", json!("https://evil.example"), c)),
        ("another client's", "oidc_token", |_, c| with("aud", json!("other"), c)),
        ("another client's, too", "oidc_token", |_, c| with("aud", json!(["stead", "other"]), c)),
        ("expired", "oidc_token", |_, c| with("exp", json!(clock::now() / 1_000_000 - 1), c)),
        ("another nonce", "oidc_token", |_, c| with("nonce", json!("other"), c)),
        ("no nonce", "oidc_token", |_, c| with("nonce", Value::Null, c)),
        ("another access token's", "oidc_token", |_, c| with("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA"), c)),
        ("a foreign key", "oidc_token", |_, c| Some(signed_by(1, "one", &c))),
        ("a foreign key by its own name", "oidc_token", |_, c| Some(signed_by(1, "two", &c))),
        ("no signature", "oidc_token", |_, c| Some(token(&json!({ "alg": "none" }), &c, |_| Vec::new()))),
        ("the client's secret as key", "oidc_token", |_, c| {
            let mac = |message: &[u8]| CoreHmacKey::new(SECRET).sign(&Alg::HmacSha256, message).expect("mac");
            Some(token(&json!({ "alg": "HS256" }), &c, mac))
        }),
        ("other claims under the signature", "oidc_token", |_, mut c| {
            let good = signed_by(0, "one", &c);
            c["preferred_username"] = json!("op");
            let parts: Vec<&str> = good.split('.').collect();
            Some(format!("{}.{}.{}", parts[0], base64url(c.to_string().as_bytes()), parts[2]))
        }),
        ("no claim", "oidc_claim", |_, c| with("preferred_username", Value::Null, c)),
        ("no name", "login_name", |_, c| with("preferred_username", json!("a b"), c)),
        ("root", "system_account", |_, c| with("preferred_username", json!("root"), c)),
        ("Root", "system_account", |_, c| with("preferred_username", json!("Root"), c)),
        ("the supervisor's account", "system_account", |_, c| with("preferred_username", json!("stead"), c)),
        ("the system's", "system_account", |_, c| with("preferred_username", json!("www-data"), c)),
        ("somebody disabled", "user_disabled", |_, c| with("preferred_username", json!("bob"), c)),
    ];
    for (what, expected, spoil) in table {
        let question = Question::put(&farm, "").await;
        fake.says(&question, spoil(&fake, fake.claims(&question)));
        let (status, headers, text) = browse(&farm, &question.answer(), Some(&question.cookie)).await;
        assert_eq!((status, rule(&text), session_in(&headers)), (403, json!(expected), None), "{what}: {text}");
        assert!(!text.contains("canary"), "{what}");
    }
    let audit = audit(dir.path());
    assert!(audit.contains("oidc_token") && audit.contains("system_account") && !audit.contains("canary"));
    assert_eq!(farm.ask(operator(), "GET", "/api/v1/sessions?user=ada", Value::Null).await, json!([]));
}

#[tokio::test]
async fn an_answer_counts_in_the_browser_that_asked_and_for_its_own_question() {
    let dir = tempfile::tempdir().expect("dir");
    let fake = Fake::start().await;
    let farm = farm(dir.path(), &fake.issuer).await;
    let other = Question::put(&farm, "").await;
    for (what, expected) in [
        ("no state", "oidc_state"),
        ("another state", "oidc_state"),
        ("no cookie", "oidc_state"),
        ("another's cookie", "oidc_state"),
        ("two cookies", "oidc_state"),
        ("another provider", "oidc_issuer"),
        ("a refusal", "oidc_provider"),
        ("no code", "oidc_code"),
        ("another code", "oidc_token"),
        ("another question's code", "oidc_token"),
    ] {
        let question = Question::put(&farm, "").await;
        fake.says(&question, Some(signed_by(0, "one", &fake.claims(&question))));
        let (state, good) = (question.part("state"), question.answer());
        let (path, cookie) = match what {
            "no state" => ("/api/v1/oidc/callback?code=code-canary".to_owned(), Some(question.cookie.clone())),
            "another state" => (good.replace(&state, &hex(&[7; 32])), Some(question.cookie.clone())),
            "no cookie" => (good, None),
            "another's cookie" => (good, Some(other.cookie.clone())),
            "two cookies" => (good, Some(format!("{}; {}", question.cookie, other.cookie))),
            "another provider" => (format!("{good}&iss=https%3A%2F%2Fevil.example"), Some(question.cookie.clone())),
            "a refusal" => (format!("{good}&error=access_denied"), Some(question.cookie.clone())),
            "no code" => (good.replace("code=code-canary&", ""), Some(question.cookie.clone())),
            "another code" => (good.replace("code-canary", "stolen"), Some(question.cookie.clone())),
            // Its PKCE challenge isn't this question's.
            _ => {
                fake.next.lock().expect("lock").challenge = other.part("code_challenge");
                (good, Some(question.cookie.clone()))
            }
        };
        let (status, headers, text) = browse(&farm, &path, cookie.as_deref()).await;
        assert_eq!((status, rule(&text), session_in(&headers)), (403, json!(expected), None), "{what}: {text}");
        // And the question is used up, wherever it was known.
        if !what.ends_with(" state") {
            let (_, _, text) = browse(&farm, &question.answer(), Some(&question.cookie)).await;
            assert_eq!(rule(&text), "oidc_state", "{what}");
        }
    }
}

#[tokio::test]
async fn a_program_gets_its_session_by_a_code_that_only_it_can_use() {
    let dir = tempfile::tempdir().expect("dir");
    let fake = Fake::start().await;
    let farm = farm(dir.path(), &fake.issuer).await;
    let verifier = [7; 32];
    let challenge = sha256(&[&verifier]);
    let begin = format!("?port=40000&challenge={}&state=mine", hex(&challenge));
    let code = async || {
        let question = Question::put(&farm, &begin).await;
        fake.says(&question, Some(signed_by(0, "one", &fake.claims(&question))));
        let (status, headers, text) = browse(&farm, &question.answer(), Some(&question.cookie)).await;
        assert_eq!((status, session_in(&headers)), (200, None), "{text}");
        assert!(text.contains(&crate::login_word(&challenge)), "{text}");
        let (_, rest) = text.split_once("href=\"http://127.0.0.1:40000/?code=").expect("a link");
        let (code, rest) = rest.split_once("&amp;state=").expect("its state");
        assert!(rest.starts_with("mine\""));
        code.to_owned()
    };
    let exchange = async |code: &str, verifier: &[u8]| {
        let body = json!({ "code": code, "verifier": hex(verifier), "name": "laptop" });
        let (status, _, answer) = farm.send(tcp(), ("POST", "/api/v1/oidc/session"), &[], body).await;
        (status.as_u16(), answer)
    };
    let stolen = code().await;
    let (status, answer) = exchange(&stolen, &[8; 32]).await;
    assert_eq!((status, &answer["error"]["rule"]), (403, &json!("oidc_code")));
    assert_eq!(exchange(&stolen, &verifier).await.0, 403, "used up");
    let good = code().await;
    let (status, answer) = exchange(&good, &verifier).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(login_user(&farm, answer["token"].as_str().expect("text")).await, "ada");
    assert_eq!(exchange(&good, &verifier).await.0, 403, "once");
    for query in ["?port=40000", "?port=22&challenge=00&state=x", &begin.replace("mine", "%22%3E"), "?next=http://x"] {
        assert_eq!(browse(&farm, &format!("/api/v1/oidc/start{query}"), None).await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn a_provider_that_is_down_is_said_and_a_secret_for_all_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("dir");
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address");
    let farm = farm(dir.path(), &format!("http://{gone}")).await;
    let (status, _, text) = browse(&farm, "/api/v1/oidc/start", None).await;
    assert_eq!((status, rule(&text)), (503, json!("oidc_provider")), "{text}");
    // The local socket needs no provider.
    assert_eq!(farm.ask(BOB, "GET", "/api/v1/whoami", Value::Null).await["login_user"], "bob");
    let secret = dir.path().join("secret");
    let settings = crate::Settings::load(Some(&dir.path().join("supervisor.toml"))).expect("settings").oidc;
    let open = || crate::oidc::Oidc::new(settings.as_ref(), "http://127.0.0.1:1", operator());
    open().expect("as it has to be");
    for (mode, text, about) in [(0o640, "x", "640"), (0o600, " \n", "empty")] {
        std::fs::write(&secret, text).expect("written");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).expect("chmod");
        let refused = open().expect_err("refused").to_string();
        assert!(refused.contains(about) && refused.contains("client_secret_file"), "{refused}");
    }
    assert!(crate::oidc::Oidc::new(settings.as_ref(), "http://127.0.0.1:1", operator() + 1).is_err());
}

/// A real provider's process, and its issuer.
struct Provider(Child, String);

impl Provider {
    /// `target/debug/deps/TEST` → `target/openid-provider`. Where CI says that nothing may be skipped, one is needed.
    #[expect(clippy::print_stderr, reason = "tests speak to the person who runs them")]
    fn python_or_skip() -> Option<PathBuf> {
        let test = std::env::current_exe().expect("the test's own path");
        let python = test.ancestors().nth(3).expect("a target folder").join("openid-provider/bin/python");
        if python.is_file() {
            return Some(python);
        }
        assert!(std::env::var("CI") != Ok("true".to_owned()), "CI needs the OpenID provider of `cargo xtask servers`");
        eprintln!("SKIPPED (needs an OpenID provider: run `cargo xtask servers`)");
        None
    }

    fn start(python: &Path, dir: &Path, redirect: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/openid_provider.py");
        let mut command = Command::new(python);
        let mut child = command.arg(script).arg(dir).arg(redirect).stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("pipe")).read_line(&mut line).expect("a line");
        assert!(line.starts_with("http://"), "the provider says where it is: {line:?}");
        Self(child, line.trim().to_owned())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A person's browser, as far as the provider needs one: follows, keeps cookies, fills in the form.
async fn at_the_provider(url: &str) -> String {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("client");
    let origin = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    let mut jar: HashMap<String, String> = HashMap::new();
    let mut request = http.get(url);
    let mut at = url.to_owned();
    for _ in 0..10 {
        let cookies: Vec<String> = jar.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let answer = request.header("cookie", cookies.join("; ")).send().await.expect("answer");
        for set in answer.headers().get_all("set-cookie") {
            let pair = set.to_str().expect("text").split(';').next().expect("a pair");
            let (name, value) = pair.split_once('=').expect("a pair");
            jar.insert(name.to_owned(), value.to_owned());
        }
        if let Some(next) = answer.headers().get("location") {
            let next = next.to_str().expect("text");
            if next.contains(crate::oidc::CALLBACK) && !next.starts_with('/') {
                return next.to_owned();
            }
            at = if next.starts_with('/') { format!("{origin}{next}") } else { next.to_owned() };
            request = http.get(&at);
            continue;
        }
        let page = answer.text().await.expect("page");
        let (_, rest) =
            page.split_once("name=\"csrfmiddlewaretoken\" value=\"").unwrap_or_else(|| panic!("no form: {page}"));
        let token = rest.split('"').next().expect("a value");
        let form = [("csrfmiddlewaretoken", token), ("username", "ada"), ("password", "right")];
        request = http.post(&at).header("referer", &at).form(&form);
    }
    panic!("the provider sends nobody back");
}

/// django-oauth-toolkit: its discovery, its keys (RS256), its code flow with PKCE.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_provider_signs_people_in() {
    let Some(python) = Provider::python_or_skip() else { return };
    let dir = tempfile::tempdir().expect("dir");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address").port();
    let redirect = format!("http://127.0.0.1:{port}{}", crate::oidc::CALLBACK);
    let provider = Provider::start(&python, dir.path(), &redirect);
    let conf = configured(dir.path(), &provider.1);
    let mut text = std::fs::read_to_string(&conf).expect("read");
    text += &format!("redirect_url = {redirect:?}\nrequired_claim = {{ name = \"groups\", value = \"farm\" }}\n");
    std::fs::write(&conf, text).expect("written");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("folder");
    let farm = Supervised::configured(&data, Some(conf)).await;
    let question = Question::put(&farm, "").await;
    let back = at_the_provider(&question.url).await;
    let path = back.strip_prefix(&format!("http://127.0.0.1:{port}")).expect("the callback").to_owned();
    let (status, headers, text) = browse(&farm, &path, Some(&question.cookie)).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(login_user(&farm, &session_in(&headers).expect("a session")).await, "ada");
    // Its code is good once, and for the one whose question it answers.
    let (first, second) = (Question::put(&farm, "").await, Question::put(&farm, "").await);
    let back = at_the_provider(&first.url).await;
    let path = back.strip_prefix(&format!("http://127.0.0.1:{port}")).expect("the callback").to_owned();
    let swapped = path.replace(&first.part("state"), &second.part("state"));
    let (status, _, text) = browse(&farm, &swapped, Some(&second.cookie)).await;
    assert_eq!((status, rule(&text)), (403, json!("oidc_token")), "{text}");
}
