//! The channel to the supervisor: one WebSocket, made anew for ever.
//!
//! What goes over it is only worth something now. Nothing is kept for a supervisor that is away: the hello after
//! the next connection says how things stand then.

use crate::backoff::Backoff;
use crate::endpoint::Endpoint;
use crate::host;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use std::io;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use wire::{FromWorker, Hello, ToWorker};

/// How long the supervisor may take to answer a handshake or a hello.
const PATIENCE: Duration = Duration::from_secs(10);
/// The supervisor hears from a worker at least this often.
const TICK: Duration = Duration::from_secs(5);
/// Room for what is sent; progress that does not fit is dropped.
const ROOM: usize = 1024;

/// What the link tells the worker.
#[derive(Debug)]
pub(crate) enum FromLink {
    /// Connected: how do things stand?
    Hello(oneshot::Sender<Hello>),
    /// The first message after a hello is always a welcome.
    Message(ToWorker, Bytes),
    Down,
}

/// The link's end of [`Link`].
#[derive(Debug)]
struct FromHandle {
    messages: mpsc::Receiver<(FromWorker, Bytes)>,
    again: mpsc::Receiver<()>,
}

/// The worker's side of the link.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    to: mpsc::Sender<(FromWorker, Bytes)>,
    /// Say hello again; asked twice is asked once.
    again: mpsc::Sender<()>,
}

impl Link {
    /// The handle, and the task that keeps the connection.
    pub(crate) fn new(
        endpoint: Endpoint,
        events: impl Fn(FromLink) + Send + Sync + 'static,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (link, from) = Self::pair();
        (link, keep_connected(endpoint, from, events))
    }

    fn pair() -> (Self, FromHandle) {
        let ((to, messages), (again, asked)) = (mpsc::channel(ROOM), mpsc::channel(1));
        (Self { to, again }, FromHandle { messages, again: asked })
    }

    /// Sends if there is room. Progress that finds none is worth nothing later, and whoever waits for an answer asks
    /// again; anything else is said by the hello of a new connection.
    pub(crate) fn send(&self, message: FromWorker) {
        self.send_with(message, Bytes::new());
    }

    /// The same with a payload.
    pub(crate) fn send_with(&self, message: FromWorker, payload: Bytes) {
        if let Err(TrySendError::Full((message, _))) = self.to.try_send((message, payload))
            && !matches!(message, FromWorker::Progress { .. } | FromWorker::Answered { .. })
        {
            self.reconnect();
        }
    }

    /// Says hello again, however much waits to be sent.
    pub(crate) fn reconnect(&self) {
        let _ = self.again.try_send(());
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("supervisor can't be reached at {0}: {1}")]
    Connect(Endpoint, io::Error),
    #[error("supervisor did not answer within {} s", PATIENCE.as_secs())]
    Slow,
    #[error("connection to the supervisor failed: {0}")]
    WebSocket(#[from] tungstenite::Error),
    #[error("supervisor sent a frame that can't be read: {0}")]
    Frame(#[from] wire::FrameError),
    #[error("supervisor sent something else than a welcome first")]
    NoWelcome,
    #[error("supervisor will not have this worker: {0}")]
    Refused(String),
    #[error("supervisor closed the connection")]
    Closed,
    #[error("worker asked for a new connection")]
    Asked,
}

type Socket = WebSocketStream<UnixStream>;

async fn keep_connected(endpoint: Endpoint, mut from: FromHandle, events: impl Fn(FromLink) + Sync) {
    let mut backoff = Backoff::new();
    loop {
        let mut welcomed = false;
        let Err(error) = talk(&endpoint, &mut from, &events, &mut welcomed).await else { return };
        if welcomed {
            // What the worker has to say again is not better said at once, and again, and again.
            if !matches!(error, LinkError::Asked) {
                backoff.reset();
            }
            tracing::info!("{error}");
            events(FromLink::Down);
        } else {
            backoff.complain(|| tracing::warn!("{error}; trying again"));
        }
        backoff.wait().await;
    }
}

/// One connection, until it ends. `Ok` when the worker is gone.
async fn talk(
    endpoint: &Endpoint,
    from: &mut FromHandle,
    events: &(impl Fn(FromLink) + Sync),
    welcomed: &mut bool,
) -> Result<(), LinkError> {
    let mut socket = timeout(PATIENCE, open(endpoint)).await.map_err(|_| LinkError::Slow)??;
    // Said before this connection: the hello says it anew.
    while from.messages.try_recv().is_ok() {}
    while from.again.try_recv().is_ok() {}
    let (ask, hello) = oneshot::channel();
    events(FromLink::Hello(ask));
    let Ok(hello) = hello.await else { return Ok(()) };
    send(&mut socket, &FromWorker::Hello(hello), &[]).await?;
    let (welcome, payload) = timeout(PATIENCE, receive(&mut socket)).await.map_err(|_| LinkError::Slow)??;
    match welcome {
        ToWorker::Welcome { .. } => events(FromLink::Message(welcome, payload)),
        ToWorker::Refused { reason } => return Err(LinkError::Refused(reason)),
        _ => return Err(LinkError::NoWelcome),
    }
    *welcomed = true;
    tracing::info!("connected to the supervisor at {endpoint}");
    converse(&mut socket, from, events).await
}

async fn converse(
    socket: &mut Socket,
    from: &mut FromHandle,
    events: &(impl Fn(FromLink) + Sync),
) -> Result<(), LinkError> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => send(socket, &FromWorker::Tick { tick: host::tick(), load_milli: host::load() }, &[]).await?,
            message = from.messages.recv() => match message {
                Some((message, payload)) => send(socket, &message, &payload).await?,
                None => return Ok(()),
            },
            Some(()) = from.again.recv() => return Err(LinkError::Asked),
            received = receive(socket) => match received? {
                (ToWorker::Refused { reason }, _) => return Err(LinkError::Refused(reason)),
                (message, payload) => events(FromLink::Message(message, payload)),
            },
        }
    }
}

async fn open(endpoint: &Endpoint) -> Result<Socket, LinkError> {
    let stream = endpoint.connect().await.map_err(|e| LinkError::Connect(endpoint.clone(), e))?;
    let config =
        WebSocketConfig::default().max_message_size(Some(wire::FRAME_MAX)).max_frame_size(Some(wire::FRAME_MAX));
    let url = format!("ws://supervisor{}", wire::CHANNEL_PATH);
    Ok(client_async_with_config(url, stream, Some(config)).await?.0)
}

async fn send(socket: &mut Socket, message: &FromWorker, payload: &[u8]) -> Result<(), LinkError> {
    let frame = wire::encode_frame(message, payload)?;
    Ok(socket.send(Message::Binary(frame.into())).await?)
}

/// Keeps nothing between calls but what the socket keeps itself, so that it may be given up and called again.
async fn receive(socket: &mut Socket) -> Result<(ToWorker, Bytes), LinkError> {
    loop {
        let message = socket.next().await.ok_or(LinkError::Closed)?;
        match message? {
            Message::Binary(frame) => {
                let (header, payload) = wire::decode_frame(&frame)?;
                let payload = frame.slice_ref(payload);
                return Ok((header, payload));
            }
            Message::Close(_) => return Err(LinkError::Closed),
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_progress_is_dropped_for_want_of_room() {
        let (link, mut from) = Link::pair();
        let task = wire::Task { step: 0, index: 0, epoch: 1 };
        for _ in 0..=ROOM {
            link.send(FromWorker::Progress { session: 1, task, hundredths: None, status: None });
        }
        assert!(from.again.try_recv().is_err(), "progress is worth no new connection");
        link.send(FromWorker::Panic { reason: None });
        link.send(FromWorker::NewIncarnation { incarnation: String::new(), tick: 1, sealing_key: None });
        assert!(from.again.try_recv().is_ok(), "the hello says it instead");
        assert!(from.again.try_recv().is_err(), "once");
        while from.messages.try_recv().is_ok() {}
        link.send(FromWorker::Panic { reason: None });
        assert!(matches!(from.messages.try_recv(), Ok((FromWorker::Panic { .. }, _))));
        assert!(from.again.try_recv().is_err(), "there was room");
    }
}
