//! Sockets: where people and workers knock. Each connection carries what the kernel says about its other end; bounded
//! in number, in the size of a request's head and in the time it may take to send it.

use crate::authn::{Peer, uid_at_loopback};
use crate::error::StartError;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

const HEAD_TIMEOUT: Duration = if cfg!(test) { Duration::from_secs(1) } else { Duration::from_secs(15) };
const HEAD_MAX: usize = 64 << 10;
/// Who is told that there is no room for them, and for how long.
const TOLD_MAX: usize = 64;
const TELLING: Duration = Duration::from_secs(1);

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

/// What is behind a door: until everything is there, only that it is being started.
#[derive(Debug, Clone)]
pub(crate) struct Doorway {
    inside: Arc<OnceLock<Router>>,
    before: Router,
}

impl Doorway {
    pub(crate) fn closed(before: Router) -> Self {
        Self { inside: Arc::default(), before }
    }

    /// Opens once.
    pub(crate) fn open(&self, inside: Router) {
        let _ = self.inside.set(inside);
    }

    fn router(&self) -> Router {
        self.inside.get().unwrap_or(&self.before).clone()
    }
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) total: usize,
    /// Of one account, or of one address.
    pub(crate) of_one: usize,
}

/// Answers on a unix socket until `stop`: each account as many connections as `of_one` says, none that it says none of.
pub(crate) async fn serve_unix(
    listener: UnixListener,
    doorway: Doorway,
    of_one: impl Fn(u32) -> Option<usize>,
    total: usize,
    stop: watch::Receiver<bool>,
) {
    let turns = Turns::new(total);
    let mut stopped = stop.clone();
    while let Some((stream, _)) = next(|| listener.accept(), &mut stopped).await {
        let peer = stream.peer_cred().map(|peer| (peer.uid(), of_one(peer.uid())));
        match peer {
            Ok((uid, Some(most))) => match turns.take(uid, most) {
                Ok(turn) => {
                    let (doorway, stop) = (doorway.clone(), stop.clone());
                    tokio::spawn(async move {
                        // Before the first byte: who connected may end.
                        let Ok(peer) = Peer::of(&stream) else { return };
                        answer(stream, doorway, peer, None, stop).await;
                        drop(turn);
                    });
                }
                Err(full) => {
                    tracing::warn!(uid, limit = full.limit, "connection refused: {}", full.rule);
                    turns.turn_away(stream, full);
                }
            },
            Ok((uid, None)) => tracing::warn!(uid, "connection refused: this socket is for other accounts"),
            Err(error) => tracing::warn!(%error, "the kernel names no peer for a connection"),
        }
    }
}

/// Answers people on a loopback port until `stop`.
pub(crate) async fn serve_tcp(listener: TcpListener, doorway: Doorway, limits: Limits, stop: watch::Receiver<bool>) {
    let Ok(own) = listener.local_addr() else { return };
    let turns = Turns::new(limits.total);
    let mut stopped = stop.clone();
    while let Some((stream, address)) = next(|| listener.accept(), &mut stopped).await {
        // One question to the kernel, and no waiting. Asked now: who connected may end.
        let uid = uid_at_loopback(address, own);
        match turns.take(uid.map_or_else(|| Whose::Address(neighbourhood(address.ip())), Whose::Account), limits.of_one)
        {
            Ok(turn) => {
                let (doorway, stop) = (doorway.clone(), stop.clone());
                tokio::spawn(async move {
                    answer(stream, doorway, Peer::Tcp { address, uid }, Some(own), stop).await;
                    drop(turn);
                });
            }
            Err(full) => {
                tracing::warn!(client = %address.ip(), limit = full.limit, "connection refused: {}", full.rule);
                turns.turn_away(stream, full);
            }
        }
    }
}

/// Who a connection to the port counts for. On this machine all addresses are everybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    Account(u32),
    Address(IpAddr),
}

/// Who has one address of version 6 mostly has 2^64 of them.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Which limit a connection met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Full {
    rule: &'static str,
    limit: usize,
}

/// How many connections there are, and of whom.
#[derive(Debug)]
struct Turns<K> {
    total: usize,
    taken: Arc<Mutex<HashMap<K, usize>>>,
    /// For those who are told that there is no room.
    told: Arc<Semaphore>,
}

/// One connection; given back when dropped.
#[derive(Debug)]
struct Turn<K: Eq + Hash>(Arc<Mutex<HashMap<K, usize>>>, K);

impl<K: Copy + Eq + Hash> Turns<K> {
    fn new(total: usize) -> Self {
        Self { total, taken: Arc::default(), told: Arc::new(Semaphore::new(TOLD_MAX)) }
    }

    fn take(&self, key: K, most: usize) -> Result<Turn<K>, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // Counted, not kept besides: there are some thousands at most, and few of them anew.
        if taken.values().sum::<usize>() >= self.total {
            return Err(Full { rule: "connections_max", limit: self.total });
        }
        let count = taken.entry(key).or_default();
        if *count >= most {
            return Err(Full { rule: "connections_of_one", limit: most });
        }
        *count += 1;
        Ok(Turn(self.taken.clone(), key))
    }

    /// Tells the client why, if it listens; of many at once only some are told.
    fn turn_away(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, full: Full) {
        if let Ok(permit) = self.told.clone().try_acquire_owned() {
            tokio::spawn(async move {
                let _ = tokio::time::timeout(TELLING, tell(stream, full)).await;
                drop(permit);
            });
        }
    }
}

impl<K: Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.1) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.1)),
        }
    }
}

async fn tell(mut stream: impl AsyncRead + AsyncWrite + Unpin, Full { rule, limit }: Full) -> std::io::Result<()> {
    let (status, whose) = if rule == "connections_max" {
        ("503 Service Unavailable", "all clients")
    } else {
        ("429 Too Many Requests", "this client")
    };
    let body = format!(
        "{{\"error\":{{\"code\":\"too_many\",\"message\":\"{whose} together have {limit} connections open already\",\
         \"rule\":\"{rule}\",\"value\":\"{limit}\",\"hint\":\"close some, or have an administrator raise it in supervisor.toml\"}}}}"
    );
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await?;
    // What it had sent is read: closed before that, it would lose the answer.
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// The next connection; `None` when it is time to stop.
async fn next<T, F>(accept: impl Fn() -> F, stopped: &mut watch::Receiver<bool>) -> Option<T>
where
    F: Future<Output = std::io::Result<T>>,
{
    let accepted = async {
        loop {
            match accept().await {
                Ok(stream) => return stream,
                Err(error) => {
                    // Out of descriptors, mostly: give those in use time to be closed.
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        accepted = accepted => Some(accepted),
        () = is_time_to_stop(stopped) => None,
    }
}

async fn is_time_to_stop(stop: &mut watch::Receiver<bool>) {
    // A supervisor that is gone is one that stops.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    doorway: Doorway,
    peer: Peer,
    own: Option<SocketAddr>,
    mut stop: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let router = doorway.router();
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
        let turns = Turns::new(6);
        let mut taken: Vec<Turn<u32>> = (0..5).map(|_| turns.take(7, 5).expect("room")).collect();
        assert_eq!(turns.take(7, 5).expect_err("full"), Full { rule: "connections_of_one", limit: 5 });
        let other = turns.take(8, 5).expect("room");
        assert_eq!(turns.take(9, 5).expect_err("full"), Full { rule: "connections_max", limit: 6 });
        taken.pop();
        assert!(turns.take(7, 5).is_ok());
        taken.clear();
        drop(other);
        assert!(turns.taken.lock().expect("lock").is_empty());
    }

    #[test]
    fn addresses_that_one_client_has_count_together() {
        let of = |text: &str| neighbourhood(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
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
