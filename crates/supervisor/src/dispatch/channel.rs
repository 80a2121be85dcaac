//! One worker's WebSocket: hello, then messages both ways until it ends.

use super::Dispatcher;
use super::desks::Pace;
use super::farm::Outbox;
use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use wire::{FromWorker, Hello, ToWorker, decode_frame, encode_frame};

/// How long a worker may take to say hello, and to take a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages that wait for a slow worker.
const ROOM: usize = 8192;

/// Most bytes that a person's worker says of itself: it is kept.
const HELLO_MAX: usize = 64 << 10;

/// Serves a worker until it goes or falls silent. `is_free`: no session holds the process that connected.
pub(crate) async fn channel(dispatcher: Dispatcher, socket: WebSocket, (uid, is_free): (u32, bool)) {
    let (mut to_worker, mut from_worker) = socket.split();
    let Some(hello) = first_message(&mut from_worker).await else { return };
    if !dispatcher.is_service(uid) && serde_json::to_string(&hello).map_or(true, |text| text.len() > HELLO_MAX) {
        tracing::warn!(uid, "worker was not taken: its hello is too long");
        return refuse(&mut to_worker, "the hello of a desktop worker is too long".to_owned()).await;
    }
    let wait = dispatcher.before_hello(uid);
    if wait > PATIENCE {
        tracing::warn!(uid, "worker was not taken: it says hello too often");
        return refuse(&mut to_worker, "it says hello too often; it is tried again later".to_owned()).await;
    }
    tokio::time::sleep(wait).await;
    let name = hello.name.clone();
    let (outbox, queue) = Outbox::new(ROOM);
    let full = outbox.full();
    let connection = match dispatcher.hello(hello, (uid, is_free), outbox).await {
        Ok((_, connection)) => connection,
        Err(error) => {
            tracing::warn!(worker = name.escape_debug().to_string(), uid, %error, "worker was not taken");
            return refuse(&mut to_worker, error.to_string()).await;
        }
    };
    tokio::select! {
        () = send_all(queue, &mut to_worker) => {}
        () = hear_all(&dispatcher, (&name, uid), connection, &mut from_worker) => {}
        () = full.notified() => tracing::warn!(worker = name, "it does not take its messages: its connection is ended"),
    }
    dispatcher.goodbye(&name, connection);
}

async fn first_message(from_worker: &mut SplitStream<WebSocket>) -> Option<Hello> {
    let message = tokio::time::timeout(PATIENCE, next(from_worker)).await.ok()??;
    match decode_frame(&message) {
        Ok((FromWorker::Hello(hello), _)) => Some(hello),
        Ok(_) => {
            tracing::warn!("a worker did not begin with a hello");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "a worker's hello is not understood");
            None
        }
    }
}

async fn next(from_worker: &mut SplitStream<WebSocket>) -> Option<Bytes> {
    loop {
        match from_worker.next().await?.ok()? {
            Message::Binary(bytes) => return Some(bytes),
            Message::Close(_) => return None,
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

async fn refuse(to_worker: &mut SplitSink<WebSocket, Message>, reason: String) {
    if let Ok(frame) = encode_frame(&ToWorker::Refused { reason }, &[]) {
        let _ = tokio::time::timeout(PATIENCE, to_worker.send(Message::Binary(frame.into()))).await;
        let _ = tokio::time::timeout(PATIENCE, to_worker.close()).await;
    }
}

async fn send_all(mut queue: mpsc::Receiver<Vec<u8>>, to_worker: &mut SplitSink<WebSocket, Message>) {
    while let Some(frame) = queue.recv().await {
        match tokio::time::timeout(PATIENCE, to_worker.send(Message::Binary(frame.into()))).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

async fn hear_all(
    dispatcher: &Dispatcher,
    (name, uid): (&str, u32),
    connection: u64,
    from_worker: &mut SplitStream<WebSocket>,
) {
    let mut pace = (!dispatcher.is_service(uid)).then_some(Pace::MESSAGES);
    while let Some(message) = next(from_worker).await {
        if let Some(pace) = &mut pace {
            // What it sends meanwhile waits at its own end.
            tokio::time::sleep(pace.turn(Instant::now())).await;
        }
        let heard = match decode_frame::<FromWorker>(&message) {
            Ok((header, payload)) => {
                let payload = message.slice_ref(payload);
                dispatcher.hear(name, connection, header, payload).await
            }
            Err(error) => return tracing::warn!(worker = name, %error, "a message is not understood"),
        };
        if let Err(error) = heard {
            tracing::error!(worker = name, %error, "a message could not be taken in");
        }
    }
}
