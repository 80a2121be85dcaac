//! Where the supervisor is, and requests to it that are repeated until they are answered.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

const CONNECT: Duration = Duration::from_secs(10);
const SEND_BUFFER: usize = 1 << 20;
const ANSWER: Duration = Duration::from_secs(60);
/// Most bytes of an answer: it is a few numbers or a sentence.
const ANSWER_MAX: usize = 64 << 10;

/// Where the supervisor is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// A unix socket on this host.
    Unix(PathBuf),
}

impl Endpoint {
    pub(crate) async fn connect(&self) -> io::Result<UnixStream> {
        match self {
            Self::Unix(path) => {
                let stream = timeout(CONNECT, UnixStream::connect(path)).await??;
                // A log fills it: each time both sides have to wake. The kernel gives what it allows.
                let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER);
                Ok(stream)
            }
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PosterError {
    #[error("supervisor can't be reached: {0}")]
    Connect(#[from] io::Error),
    #[error("request failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("request could not be made: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("answer can't be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {} s", ANSWER.as_secs())]
    Slow,
}

/// Sends one request after another on a connection that is made anew when it broke.
#[derive(Debug)]
pub(crate) struct Poster {
    endpoint: Endpoint,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// Drives the connection; ends with the poster.
    driver: JoinSet<()>,
}

impl Poster {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, sender: None, driver: JoinSet::new() }
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), PosterError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "supervisor")
            .header(CONTENT_TYPE, kind)
            .body(Full::new(body))?;
        // Taken out: after an error or a cancelled wait the connection is not used again.
        let mut sender = match self.idle().await {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let answer = timeout(ANSWER, async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(PosterError::Body)?;
            Ok::<_, PosterError>((status, body.to_bytes()))
        });
        let answer = answer.await.map_err(|_| PosterError::Slow)??;
        self.sender = Some(sender);
        Ok(answer)
    }

    /// The connection of the last request, if it is still there.
    async fn idle(&mut self) -> Option<SendRequest<Full<Bytes>>> {
        let mut sender = self.sender.take()?;
        sender.ready().await.is_ok().then_some(sender)
    }

    async fn connect(&mut self) -> Result<SendRequest<Full<Bytes>>, PosterError> {
        self.driver.shutdown().await;
        let stream = self.endpoint.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        self.driver.spawn(async move {
            // Its error is the request's error, too.
            let _ = connection.await;
        });
        Ok(sender)
    }
}
