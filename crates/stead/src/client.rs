//! The way to a supervisor: HTTP/1.1 over its unix socket, or over TCP where `STEAD_URL` says so.
//!
//! Knows paths and errors, not what the answers mean. The peer of a unix socket is checked before a byte is sent:
//! whoever answers must be the owner of the socket's file.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use crate::cli::Asking;
use crate::credentials::{self, Keeper, Secret};
use crate::failure::{ApiError, Failure};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Socket(PathBuf),
    Tcp(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Tcp(host) => write!(f, "http://{host}"),
        }
    }
}

/// What the environment says about where a supervisor may be.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) url: Option<String>,
    pub(crate) runtime_dir: Option<PathBuf>,
    /// Where `stead dev` keeps its farm by default.
    pub(crate) default_data: Option<PathBuf>,
}

impl Surroundings {
    pub(crate) fn of_process() -> Self {
        Self {
            url: std::env::var("STEAD_URL").ok().filter(|u| !u.is_empty()),
            runtime_dir: std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty()).map(PathBuf::from),
            default_data: crate::farm::default_data().ok(),
        }
    }
}

/// Where to look, in this order.
fn places(data: Option<&Path>, around: &Surroundings) -> Result<Vec<Place>, Failure> {
    if let Some(data) = data {
        return Ok(vec![Place::Socket(data.join("run/socket"))]);
    }
    if let Some(url) = &around.url {
        return Ok(vec![parse_url(url)?]);
    }
    let mut places = Vec::new();
    places.extend(around.runtime_dir.as_ref().map(|d| Place::Socket(d.join("stead/socket"))));
    places.push(Place::Socket("/run/stead/socket".into()));
    places.extend(around.default_data.as_ref().map(|d| Place::Socket(d.join("run/socket"))));
    Ok(places)
}

pub(crate) fn parse_url(url: &str) -> Result<Place, Failure> {
    if let Some(path) = url.strip_prefix("unix:") {
        return Ok(Place::Socket(path.strip_prefix("//").unwrap_or(path).into()));
    }
    let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match host {
        Some(host) if !host.is_empty() && !host.contains('/') && host.contains(':') => Ok(Place::Tcp(host.into())),
        _ => Err(Failure::Usage {
            text: format!("STEAD_URL={url:?} is no address of a supervisor"),
            hint: Some("write unix:/PATH or http://HOST:PORT".into()),
        }),
    }
}

/// Names a proxy user for one request.
const ACTING_AS: &str = "stead-as";

#[derive(Debug, Clone)]
pub(crate) struct Client {
    places: Vec<Place>,
    acting_as: Option<HeaderValue>,
    shows: Shows,
}

/// What is shown of who asks.
#[derive(Debug, Clone)]
enum Shows {
    /// Nothing: a socket's kernel says it.
    Nothing,
    This(Secret),
    /// On TCP the session that was kept for the address, if there is one.
    Kept,
}

impl Client {
    /// `data` is `--data`; it comes before everything the environment says.
    pub(crate) fn locate(data: Option<&Path>) -> Result<Self, Failure> {
        let shows = credentials::of_environment()?.map_or(Shows::Kept, Shows::This);
        Ok(Self { places: places(data, &Surroundings::of_process())?, acting_as: None, shows })
    }

    /// For a command that can be given as another.
    pub(crate) fn of(asking: &Asking) -> Result<Self, Failure> {
        Self::locate(asking.data.as_deref())?.acting_as(asking.acting.acting_as.as_deref())
    }

    pub(crate) fn at_socket(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::Socket(path.into()))
    }

    /// Shows nothing of who asks.
    pub(crate) fn at(place: Place) -> Self {
        Self { places: vec![place], acting_as: None, shows: Shows::Nothing }
    }

    pub(crate) fn showing(self, token: String) -> Self {
        Self { shows: Shows::This(Secret::new(token)), ..self }
    }

    /// With `--as`, if it was given.
    pub(crate) fn acting_as(mut self, name: Option<&str>) -> Result<Self, Failure> {
        let header = |name: &str| {
            HeaderValue::from_str(name).map_err(|_| Failure::usage(format!("--as: {name:?} is no name of a user")))
        };
        self.acting_as = name.map(header).transpose()?;
        Ok(self)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        parse(&self.call(Method::GET, path, None).await?)
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Failure> {
        parse(&self.call(Method::POST, path, Some(body)).await?)
    }

    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Failure> {
        parse(&self.call(Method::PUT, path, Some(body)).await?)
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        parse(&self.call(Method::DELETE, path, None).await?)
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes, Failure> {
        let response = self.send(method, path, body).await?;
        Ok(response.into_body().collect().await.map_err(broken)?.to_bytes())
    }

    /// An answer whose body is read piece by piece.
    pub(crate) async fn stream(&self, path: &str) -> Result<Response<Incoming>, Failure> {
        self.send(Method::GET, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>, Failure> {
        let bytes = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Full::new(bytes))
            .map_err(|e| Failure::usage(format!("{path:?} can't be asked for: {e}")))?;
        if let Some(name) = &self.acting_as {
            request.headers_mut().insert(ACTING_AS, name.clone());
        }
        let response = self.connect_and_send(request).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    /// The header that says who asks, for this place.
    fn shown(&self, place: &Place) -> Result<Option<HeaderValue>, Failure> {
        let secret = match (&self.shows, place) {
            (Shows::This(secret), _) => Some(secret.clone()),
            (Shows::Kept, Place::Tcp(_)) => {
                Keeper::of_person()?.get(&place.to_string())?.map(|kept| Secret::new(kept.token))
            }
            (Shows::Kept, Place::Socket(_)) | (Shows::Nothing, _) => None,
        };
        let Some(secret) = secret else { return Ok(None) };
        if let Place::Tcp(host) = place {
            credentials::may_go_to(host, "a token")?;
        }
        let mut value = HeaderValue::from_str(&secret.bearer())
            .map_err(|_| Failure::usage("the token has characters that no token has"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    async fn connect_and_send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let mut tried = Vec::new();
        for place in &self.places {
            let stream = match connect(place).await {
                Ok(stream) => stream,
                Err(Reach::Absent(why)) => {
                    tried.push((place.to_string(), why));
                    continue;
                }
                Err(Reach::Distrusted(failure)) => return Err(*failure),
            };
            if let Some(shown) = self.shown(place)? {
                request.headers_mut().insert(AUTHORIZATION, shown);
            }
            let request = named(request, place);
            return match stream {
                Stream::Unix(stream) => exchange(TokioIo::new(stream), request).await,
                Stream::Tcp(stream) => exchange(TokioIo::new(stream), request).await,
            };
        }
        Err(Failure::NoSupervisor { tried })
    }
}

/// The supervisor checks that it is meant.
fn named(mut request: Request<Full<Bytes>>, place: &Place) -> Request<Full<Bytes>> {
    let host = match place {
        Place::Tcp(host) => HeaderValue::from_str(host).unwrap_or(HeaderValue::from_static("localhost")),
        Place::Socket(_) => HeaderValue::from_static("localhost"),
    };
    request.headers_mut().insert(HOST, host);
    request
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

enum Reach {
    Absent(String),
    Distrusted(Box<Failure>),
}

async fn connect(place: &Place) -> Result<Stream, Reach> {
    match place {
        Place::Tcp(host) => TcpStream::connect(host).await.map(Stream::Tcp).map_err(|e| absent(&e)),
        Place::Socket(path) => {
            let stream = UnixStream::connect(path).await.map_err(|e| absent(&e))?;
            check_peer(path, &stream)?;
            Ok(Stream::Unix(stream))
        }
    }
}

fn absent(error: &std::io::Error) -> Reach {
    Reach::Absent(match error.kind() {
        ErrorKind::NotFound => "no such socket".into(),
        ErrorKind::ConnectionRefused => "nobody listens".into(),
        ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    })
}

/// Only the socket's owner can have put it there; anyone else who answers is an impostor.
fn check_peer(path: &Path, stream: &UnixStream) -> Result<(), Reach> {
    let owner = std::fs::metadata(path).map_err(|e| absent(&e))?.uid();
    let peer = stream.peer_cred().map_err(|e| absent(&e))?.uid();
    if owner == peer {
        return Ok(());
    }
    Err(Reach::Distrusted(Box::new(Failure::Impostor { place: path.display().to_string(), owner, peer })))
}

async fn exchange<I>(io: I, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(broken)?;
    tokio::spawn(async move {
        // A broken connection shows itself in the answer; there is no one to tell here.
        let _ = connection.await;
    });
    sender.send_request(request).await.map_err(broken)
}

fn broken(error: hyper::Error) -> Failure {
    Failure::Broken(error.to_string())
}

async fn refusal(response: Response<Incoming>) -> Failure {
    #[derive(serde::Deserialize)]
    struct Body {
        error: ApiError,
    }
    let status = response.status();
    let bytes = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(e) => return broken(e),
    };
    let error = serde_json::from_slice::<Body>(&bytes).map(|b| b.error).unwrap_or_else(|_| ApiError {
        message: format!("the supervisor answered {status}: {}", String::from_utf8_lossy(&bytes).trim()),
        ..ApiError::default()
    });
    Failure::Api { status: status.as_u16(), error }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|e| Failure::Answer(e.to_string()))
}

/// `text` as one component or value of a URL.
pub(crate) fn escape(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            out.push(char::from(b));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

/// A path with the parameters that are there.
pub(crate) fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let query: Vec<String> =
        parameters.iter().filter_map(|(k, v)| v.as_ref().map(|v| format!("{k}={}", escape(v)))).collect();
    if query.is_empty() { path.into() } else { format!("{path}?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(url: Option<&str>) -> Surroundings {
        Surroundings {
            url: url.map(Into::into),
            runtime_dir: Some("/run/user/1".into()),
            default_data: Some("/home/ada/.local/share/stead".into()),
        }
    }

    fn shown(data: Option<&str>, url: Option<&str>) -> Vec<String> {
        let found = places(data.map(Path::new), &around(url)).expect("places");
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_order_of_places() {
        let default = ["/run/user/1/stead/socket", "/run/stead/socket", "/home/ada/.local/share/stead/run/socket"];
        assert_eq!(shown(None, None), default);
        assert_eq!(shown(None, Some("unix:/x/socket")), ["/x/socket"]);
        assert_eq!(shown(None, Some("http://127.0.0.1:7878/")), ["http://127.0.0.1:7878"]);
        assert_eq!(shown(Some("/farm"), Some("unix:/x")), ["/farm/run/socket"]);
    }

    #[test]
    fn an_address_that_is_none_is_a_usage_error() {
        for url in ["127.0.0.1:7878", "ftp://x:1", "http://", "http://host:1/path"] {
            assert_eq!(parse_url(url).map_err(|e| e.exit()), Err(2), "{url}");
        }
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escape("a b&c/é"), "a%20b%26c%2F%C3%A9");
        assert_eq!(with_query("/p", &[("a", None), ("b", Some("x y".into()))]), "/p?b=x%20y");
    }

    #[tokio::test]
    async fn nobody_there_is_exit_code_6() {
        let client = Client::at_socket("/nonexistent/socket");
        let failure = client.get::<Value>("/healthz").await.expect_err("nobody is there");
        assert_eq!(failure.exit(), 6);
        assert!(failure.sentence().to_string().contains("stead dev"), "{}", failure.sentence());
    }
}
