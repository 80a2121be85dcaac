//! Bodies of requests: how long they take to arrive, how large they are, and how much of them one person, and everybody
//! together, may have under way. Whoever isn't known has next to nothing.

use super::{ApiError, App};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Largest body of a request of a person, and of a worker.
pub(crate) const BODY_MAX: usize = 32 << 20;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for whoever isn't known yet: a name and a password, at once.
const STRANGER_BODY_MAX: usize = 16 << 10;
const STRANGER_PATIENCE: Duration = Duration::from_secs(5);

/// Who a request comes from, once it is known: they answer for its bytes.
#[derive(Debug, Clone)]
pub(super) enum Payer {
    Person(String),
    /// What workers report is never held up by what people send.
    Worker,
}

/// Clones are the same budget.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    of_one: usize,
    total: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    of: HashMap<String, usize>,
}

/// Bytes of somebody's; given back when dropped.
#[derive(Debug)]
struct Share {
    budget: Budget,
    person: String,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exceeded {
    rule: &'static str,
    max: usize,
}

impl Budget {
    pub(crate) fn new(of_one_mib: u64, total_mib: u64) -> Self {
        let bytes = |mib: u64| usize::try_from(mib << 20).unwrap_or(usize::MAX);
        Self(Arc::new(Inner { of_one: bytes(of_one_mib), total: bytes(total_mib), taken: Mutex::default() }))
    }

    fn share(&self, person: &str) -> Share {
        Share { budget: self.clone(), person: person.to_owned(), bytes: 0 }
    }

    /// What everybody has under way.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Share {
    fn take(&mut self, bytes: usize) -> Result<(), Exceeded> {
        let inner = &self.budget.0;
        let mut taken = inner.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = taken.of.get(&self.person).copied().unwrap_or(0).saturating_add(bytes);
        if of_one > inner.of_one {
            return Err(Exceeded { rule: "bodies_per_user_mib", max: inner.of_one });
        }
        if taken.total.saturating_add(bytes) > inner.total {
            return Err(Exceeded { rule: "bodies_max_mib", max: inner.total });
        }
        taken.total += bytes;
        taken.of.insert(self.person.clone(), of_one);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.budget.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(self.bytes);
        match taken.of.get_mut(&self.person) {
            Some(of_one) if *of_one > self.bytes => *of_one -= self.bytes,
            _ => drop(taken.of.remove(&self.person)),
        }
    }
}

/// What a request holds until it is answered, whatever became of its body by then.
#[derive(Debug, Clone, Default)]
pub(super) struct Holding(Arc<Mutex<Option<Share>>>);

pub(super) async fn hold(mut request: Request, next: Next) -> Response {
    let holding = Holding::default();
    request.extensions_mut().insert(holding.clone());
    let response = next.run(request).await;
    drop(holding.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    response
}

/// The whole body within its time, its size, and what whoever sent it has left.
pub(crate) async fn body(request: Request, app: &App) -> Result<Bytes, ApiError> {
    let payer = request.extensions().get::<Payer>().cloned();
    let holding = request.extensions().get::<Holding>().cloned().unwrap_or_default();
    let patience = if payer.is_some() { PATIENCE } else { STRANGER_PATIENCE };
    let arrived = match payer {
        Some(Payer::Worker) => tokio::time::timeout(patience, up_to(request, BODY_MAX)).await,
        Some(Payer::Person(person)) => {
            tokio::time::timeout(patience, of_person(request, app.bodies.share(&person), holding)).await
        }
        None => tokio::time::timeout(patience, up_to(request, STRANGER_BODY_MAX)).await,
    };
    let slow = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body took too long to arrive");
    arrived.unwrap_or_else(|e| Err(slow(e)))
}

async fn of_person(request: Request, mut share: Share, holding: Holding) -> Result<Bytes, ApiError> {
    let said = said(&request);
    if said.is_some_and(|said| said > BODY_MAX) {
        return Err(too_large(BODY_MAX));
    }
    share.take(said.unwrap_or(0)).map_err(exceeded)?;
    let read = collect(request.into_body(), BODY_MAX, said, |more| share.take(more).map_err(exceeded)).await?;
    *holding.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(share);
    Ok(read)
}

async fn up_to(request: Request, max: usize) -> Result<Bytes, ApiError> {
    let said = said(&request);
    if said.is_some_and(|said| said > max) {
        return Err(too_large(max));
    }
    collect(request.into_body(), max, said, |_| Ok(())).await
}

fn said(request: &Request) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What was `said` is paid for.
async fn collect(
    body: Body,
    max: usize,
    said: Option<usize>,
    mut pay: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Bytes, ApiError> {
    let mut stream = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, "body", &e.to_string()))?;
        if whole.len() + piece.len() > max {
            return Err(too_large(max));
        }
        if said.is_none() {
            pay(piece.len())?;
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

fn too_large(max: usize) -> ApiError {
    let message = format!("the body is larger than {max} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body", &message)
}

fn exceeded(Exceeded { rule, max }: Exceeded) -> ApiError {
    let whose = if rule == "bodies_max_mib" { "all requests" } else { "your requests" };
    let message = format!("{whose} that are being worked on have {} MiB already", max >> 20);
    let hint = "send it again when the others are answered; an administrator can raise it in supervisor.toml";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many", &message).limited(rule, max, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_leaves_room_for_others_and_everybody_has_a_bound() {
        let budget = Budget::new(2, 3);
        let mib = 1 << 20;
        let (mut ada, mut again, mut bob) = (budget.share("ada"), budget.share("ada"), budget.share("bob"));
        ada.take(2 * mib).expect("hers");
        assert_eq!(again.take(1).expect_err("too much").rule, "bodies_per_user_mib");
        bob.take(mib).expect("his");
        assert_eq!(bob.take(1).expect_err("too much").rule, "bodies_max_mib");
        drop(ada);
        again.take(mib).expect("hers again");
        drop((again, bob));
        assert_eq!(budget.taken(), 0);
        assert!(budget.0.taken.lock().expect("lock").of.is_empty());
    }
}
