//! `login --oidc`: a browser signs in, and brings a code to a port of this machine (RFC 8252).
//!
//! The code is worth nothing without what this process keeps for itself. Session tokens are in no address. Where the
//! browser is on another machine, its last link leads nowhere; then its address is pasted at the terminal.

use std::io::BufRead as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::client::{Client, Place, with_query};
use crate::credentials::Kept;
use crate::failure::Failure;
use crate::out;

/// The longest line that is looked at.
const PASTED_MAX: u64 = 4096;
/// How long somebody may take with the browser.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the browser may take with the page at the end.
const PAGE_PATIENCE: Duration = Duration::from_secs(2);

/// What the browser brings.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Brought {
    code: String,
    state: String,
}

/// Who waits at the port.
#[derive(Clone)]
struct Waiting {
    state: String,
    code: mpsc::Sender<String>,
}

pub(super) async fn login(url: &str, host: String, name: &str) -> Result<Kept, Failure> {
    let system = |e| Failure::system("listen for the browser on 127.0.0.1", e);
    let (verifier, state) = (random()?, warrant::hex(&random()?[..16]));
    let challenge = warrant::sha256(&[&verifier]);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(system)?;
    let port = listener.local_addr().map_err(system)?.port();
    let parameters = [
        ("port", Some(port.to_string())),
        ("challenge", Some(warrant::hex(&challenge))),
        ("state", Some(state.clone())),
    ];
    let path = with_query("/api/v1/oidc/start", &parameters);
    let client = Client::at(Place::Tcp(host));
    would_be_answered(&client, &path).await?;
    let address = format!("{url}{path}");
    out::note(format!("open this in a browser, and sign in:\n\n  {address}\n"));
    out::note(format!(
        "the page at the end has to show {}; if the browser is on another machine than this terminal, copy the address of \
         that page's link and paste it here",
        supervisor::login_word(&challenge)
    ));
    open(&address);
    let code = brought(listener, state).await?;
    let body = json!({ "code": code, "verifier": warrant::hex(&verifier), "name": name });
    client.post("/api/v1/oidc/session", &body).await
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| Failure::Broken(format!("the system has no random numbers: {e}")))?;
    Ok(bytes)
}

/// Says here, and not only in the browser, that the supervisor has no provider.
async fn would_be_answered(client: &Client, path: &str) -> Result<(), Failure> {
    match client.get::<Value>(path).await {
        // On to the provider.
        Ok(_) | Err(Failure::Api { status: 303, .. }) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Where there is a screen. Who has none opens the address in another way.
fn open(address: &str) {
    let has_screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if has_screen {
        let mut command = Command::new("xdg-open");
        // It may be missing: the address is on the terminal.
        let _ = command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}

/// The first code that comes with our own state.
async fn brought(listener: TcpListener, state: String) -> Result<String, Failure> {
    let (sender, mut codes) = mpsc::channel(1);
    let waiting = Waiting { state, code: sender };
    // Ends with the process: nobody may ever type anything.
    std::thread::spawn({
        let waiting = waiting.clone();
        move || pasted(&mut std::io::stdin().lock(), &waiting)
    });
    let router = Router::new().route("/", get(take)).with_state(waiting);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, router).with_graceful_shutdown(async {
        // Dropped is as good as said.
        let _ = stopped.await;
    });
    let server = tokio::spawn(server.into_future());
    let code = timeout(PATIENCE, codes.recv()).await;
    drop(stop);
    // The browser gets its page first, if it takes it.
    let _ = timeout(PAGE_PATIENCE, server).await;
    match code {
        Ok(Some(code)) => Ok(code),
        Ok(None) => Err(Failure::Broken("nobody listens for the browser any more".into())),
        Err(_) => Err(Failure::Refused {
            rule: "oidc",
            text: "nobody came back from the browser within 10 minutes".into(),
            hint: "begin again: stead login --oidc. Where the browser is on another machine, paste the address of its \
                   last link here"
                .into(),
        }),
    }
}

/// Takes what is pasted, until it is what belongs to this login.
fn pasted(from: &mut impl std::io::BufRead, waiting: &Waiting) {
    loop {
        let mut line = String::new();
        match std::io::Read::take(&mut *from, PASTED_MAX).read_line(&mut line) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        match code_in(line.trim(), &waiting.state) {
            Some(code) => return drop(waiting.code.try_send(code)),
            None if line.trim().is_empty() => {}
            None => out::note("that is not the address of the link at the end of this sign-in"),
        }
    }
}

/// The code in the address of the last link.
fn code_in(address: &str, state: &str) -> Option<String> {
    let (_, query) = address.split_once('?')?;
    let part = |name: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name);
    let (code, theirs) = (part("code")?.1, part("state")?.1);
    (theirs == state && !code.is_empty()).then(|| code.to_owned())
}

async fn take(State(waiting): State<Waiting>, Query(brought): Query<Brought>) -> (StatusCode, &'static str) {
    if brought.state != waiting.state || brought.code.is_empty() {
        return (StatusCode::NOT_FOUND, "This is not what `stead login --oidc` waits for.\n");
    }
    match waiting.code.try_send(brought.code) {
        Ok(()) => (StatusCode::OK, "Go back to your terminal: it says who is signed in. This page can be closed.\n"),
        Err(_) => (StatusCode::NOT_FOUND, "It has its answer already.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_belongs_to_this_login_is_taken_and_once() {
        let (sender, mut codes) = mpsc::channel(1);
        let waiting = State(Waiting { state: "ours".into(), code: sender });
        let brought = |code: &str, state: &str| Query(Brought { code: code.into(), state: state.into() });
        for (code, state) in [("1", "theirs"), ("1", ""), ("", "ours"), ("", "")] {
            assert_eq!(take(waiting.clone(), brought(code, state)).await.0, StatusCode::NOT_FOUND, "{code} {state}");
        }
        assert_eq!(take(waiting.clone(), brought("7", "ours")).await.0, StatusCode::OK);
        assert_eq!(take(waiting.clone(), brought("8", "ours")).await.0, StatusCode::NOT_FOUND);
        assert_eq!(codes.recv().await.as_deref(), Some("7"));
    }

    #[tokio::test]
    async fn what_is_pasted_counts_if_it_belongs_to_this_login() {
        let (sender, mut codes) = mpsc::channel(1);
        let waiting = Waiting { state: "ours".into(), code: sender };
        let typed = "\nhello\nhttp://127.0.0.1:1/?code=1&state=theirs\nhttp://127.0.0.1:1/?code=&state=ours\n\
                     http://127.0.0.1:40000/?code=7&state=ours \nhttp://127.0.0.1:1/?code=8&state=ours\n";
        pasted(&mut typed.as_bytes(), &waiting);
        drop(waiting);
        assert_eq!((codes.recv().await.as_deref(), codes.recv().await), (Some("7"), None));
        pasted(&mut "no end of a line".as_bytes(), &Waiting { state: "s".into(), code: mpsc::channel(1).0 });
    }
}
