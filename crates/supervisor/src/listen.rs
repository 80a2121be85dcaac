//! Sockets: where people and workers knock. Each connection carries what the kernel says about its other end; bounded
//! in number, in the size of a request's head and in the time it may take to send it.

use crate::authn::Peer;
use crate::error::StartError;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
const HEAD_MAX: usize = 64 << 10;
const CONNECTIONS_MAX: usize = 2048;
/// Nobody takes all connections away from the others.
pub(crate) const OF_ONE_UID_MAX: usize = 256;

/// Binds a unix socket that everybody may connect to; who they are is asked of the kernel. Takes the place of a
/// socket that nobody answers.
pub(crate) async fn unix(path: &Path) -> Result<UnixListener, StartError> {
    let file = |error| StartError::File { path: path.to_owned(), error };
    match UnixStream::connect(path).await {
        Ok(_) => return Err(StartError::SocketInUse(path.to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(_) => std::fs::remove_file(path).map_err(file)?,
    }
    let listener = UnixListener::bind(path).map_err(file)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(file)?;
    Ok(listener)
}

/// Binds a loopback address.
pub(crate) async fn tcp(text: &str) -> Result<TcpListener, StartError> {
    let address = loopback(text)?;
    TcpListener::bind(address).await.map_err(|error| StartError::Bind { address, error })
}

fn loopback(text: &str) -> Result<SocketAddr, StartError> {
    let wrong = || StartError::Listen(text.to_owned());
    let mut addresses = text.to_socket_addrs().map_err(|_| wrong())?;
    let address = addresses.next().ok_or_else(wrong)?;
    if address.ip().is_loopback() { Ok(address) } else { Err(StartError::NotLoopback(address)) }
}

/// Answers the accounts that `allowed` names on a unix socket until `stop`.
pub(crate) async fn serve_unix(
    listener: UnixListener,
    router: Router,
    allowed: impl Fn(u32) -> bool,
    of_one_uid: usize,
    stop: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let turns = Turns::default();
    let mut stopped = stop.clone();
    loop {
        let Some((stream, permit)) = next(&connections, listener.accept(), &mut stopped).await else { return };
        let Some((stream, _)) = stream else { continue };
        match stream.peer_cred() {
            Ok(peer) if allowed(peer.uid()) => {
                let Some(turn) = turns.take(peer.uid(), of_one_uid) else {
                    tracing::warn!(uid = peer.uid(), "connection refused: it has {of_one_uid} already");
                    continue;
                };
                let router = router.clone();
                let stop = stop.clone();
                tokio::spawn(async move {
                    // Before the first byte: who connected may end.
                    let Ok(peer) = Peer::of(&stream) else { return };
                    answer(stream, router, peer, None, stop).await;
                    drop((permit, turn));
                });
            }
            Ok(peer) => tracing::warn!(uid = peer.uid(), "connection refused: this socket is for other accounts"),
            Err(error) => tracing::warn!(%error, "the kernel names no peer for a connection"),
        }
    }
}

/// How many connections each account has.
#[derive(Debug, Default, Clone)]
struct Turns(Arc<Mutex<HashMap<u32, usize>>>);

/// One connection of an account; given back when dropped.
#[derive(Debug)]
struct Turn(Turns, u32);

impl Turns {
    fn take(&self, uid: u32, max: usize) -> Option<Turn> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(uid).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Turn(self.clone(), uid))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.1) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.1)),
        }
    }
}

/// Answers people on a loopback port until `stop`.
pub(crate) async fn serve_tcp(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    let Ok(own) = listener.local_addr() else { return };
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stopped = stop.clone();
    loop {
        let Some((stream, permit)) = next(&connections, listener.accept(), &mut stopped).await else { return };
        let Some((stream, address)) = stream else { continue };
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            answer(stream, router, Peer::Tcp { address }, Some(own), stop).await;
            drop(permit);
        });
    }
}

/// The next connection with its permit; `None` when it is time to stop.
async fn next<T>(
    connections: &Arc<Semaphore>,
    accept: impl Future<Output = std::io::Result<T>>,
    stopped: &mut watch::Receiver<bool>,
) -> Option<(Option<T>, tokio::sync::OwnedSemaphorePermit)> {
    let accepted = async {
        let permit = connections.clone().acquire_owned().await.ok()?;
        match accept.await {
            Ok(stream) => Some((Some(stream), permit)),
            Err(error) => {
                // Out of descriptors, mostly: give those in use time to be closed.
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                Some((None, permit))
            }
        }
    };
    tokio::select! {
        accepted = accepted => accepted,
        () = is_time_to_stop(stopped) => None,
    }
}

async fn is_time_to_stop(stop: &mut watch::Receiver<bool>) {
    // A supervisor that is gone is one that stops.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    peer: Peer,
    own: Option<SocketAddr>,
    mut stop: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            if let Some(own) = own
                && !is_own_host(&request, own)
            {
                return Ok::<_, Infallible>(misdirected());
            }
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            router.oneshot(request).await
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX * 4)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A connection that breaks is the client's business.
        _ = connection.as_mut() => {}
        () = is_time_to_stop(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(Duration::from_secs(2), connection).await;
        }
    }
}

/// A page in a browser may have its own name resolve to our address; its requests carry that name.
fn is_own_host(request: &Request<Incoming>, own: SocketAddr) -> bool {
    let host = request.headers().get(HOST).and_then(|h| h.to_str().ok()).or_else(|| request.uri().host());
    host.is_some_and(|host| host_is(host, own))
}

fn host_is(host: &str, own: SocketAddr) -> bool {
    let Ok(uri) = format!("http://{host}/").parse::<Uri>() else { return false };
    let name = uri.host().unwrap_or_default();
    let named = name == "localhost" || name.trim_matches(['[', ']']).parse() == Ok(own.ip());
    named && uri.port_u16().unwrap_or(80) == own.port()
}

fn misdirected() -> Response<Body> {
    let mut response = Response::new(Body::from(
        "{\"error\":{\"code\":\"wrong_host\",\"message\":\"the Host header does not name this supervisor\",\"rule\":null,\
         \"value\":null,\"hint\":\"use the address it prints when it is ready\"}}",
    ));
    *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on() {
        assert_eq!(loopback("127.0.0.1:0").expect("fine").port(), 0);
        assert!(loopback("[::1]:7878").is_ok());
        for text in ["0.0.0.0:7878", "[::]:7878", "192.0.2.1:7878"] {
            assert!(matches!(loopback(text), Err(StartError::NotLoopback(_))), "{text}");
        }
        for text in ["", "7878", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"] {
            assert!(matches!(loopback(text), Err(StartError::Listen(_))), "{text}");
        }
    }

    #[test]
    fn one_account_leaves_room_for_others() {
        let turns = Turns::default();
        let mut taken: Vec<Turn> = (0..5).map(|_| turns.take(7, 5).expect("room")).collect();
        assert!(turns.take(7, 5).is_none());
        assert!(turns.take(8, 5).is_some());
        taken.pop();
        assert!(turns.take(7, 5).is_some());
        taken.clear();
        assert!(turns.0.lock().expect("lock").is_empty());
    }

    #[test]
    fn a_foreign_name_for_our_address_is_refused() {
        let own = "127.0.0.1:7878".parse().expect("address");
        for (host, expected) in [
            ("127.0.0.1:7878", true),
            ("localhost:7878", true),
            ("localhost", false),
            ("127.0.0.1:7879", false),
            ("evil.example:7878", false),
            ("127.0.0.1.evil.example:7878", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(host_is(host, own), expected, "{host}");
        }
        assert!(host_is("[::1]:1", "[::1]:1".parse().expect("address")));
    }

    #[tokio::test]
    async fn a_socket_nobody_answers_is_replaced_and_another_is_not() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("socket");
        let first = unix(&path).await.expect("bound");
        assert!(matches!(unix(&path).await, Err(StartError::SocketInUse(_))));
        drop(first);
        unix(&path).await.expect("replaced");
        let mode = std::fs::metadata(&path).expect("meta").permissions().mode() & 0o777;
        assert_eq!(mode, 0o666);
    }
}
