//! Whether the supervisor can do its work now: what `/readyz` and `stead doctor` say. Only looks, when it is asked, and
//! not more often than it costs nothing.

use crate::audit::{Act, Audit, Record};
use crate::clock;
use crate::room::Room;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use store::Store;
use tokio::sync::Mutex;

/// Whoever asks again so soon is told the same.
const FRESH: Duration = Duration::from_secs(1);
/// A disk that takes longer is not one to work with.
const PATIENCE: Duration = Duration::from_secs(3);
const PROBE: &str = "ready_probe";

/// Something that keeps the supervisor from its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Trouble {
    /// `store`, `audit`, `disk`, or `dispatcher`.
    pub(crate) check: &'static str,
    pub(crate) text: String,
    pub(crate) hint: String,
}

/// When it was found, and what.
type Found = (Instant, Vec<Trouble>);

/// Clones share what was found.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    store: Store,
    audit: Audit,
    room: Room,
    dispatching: Dispatching,
    last: Arc<Mutex<Option<Found>>>,
}

/// Whether what hands out work still does: until it is dropped there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dispatching(Arc<AtomicBool>);

impl Dispatching {
    pub(crate) fn until_dropped(&self) -> impl Drop + use<> {
        struct Ended(Arc<AtomicBool>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        Ended(self.0.clone())
    }
}

impl Health {
    pub(crate) fn new(store: Store, audit: Audit, room: Room, dispatching: Dispatching) -> Self {
        Self { store, audit, room, dispatching, last: Arc::default() }
    }

    /// Nothing: ready.
    pub(crate) async fn troubles(&self) -> Vec<Trouble> {
        let mut last = self.last.lock().await;
        if let Some((at, known)) = &*last
            && at.elapsed() < FRESH
        {
            return known.clone();
        }
        let found = [self.dispatcher(), self.disk(), self.store().await, self.audit().await];
        let found: Vec<Trouble> = found.into_iter().flatten().collect();
        *last = Some((Instant::now(), found.clone()));
        found
    }

    fn dispatcher(&self) -> Option<Trouble> {
        self.dispatching.0.load(Ordering::Relaxed).then(|| Trouble {
            check: "dispatcher",
            text: "no work is handed out any more: what does so has ended".to_owned(),
            hint: "see the log; restart the supervisor: what runs goes on".to_owned(),
        })
    }

    fn disk(&self) -> Option<Trouble> {
        let refusal = self.room.begin().err()?;
        Some(Trouble { check: "disk", text: refusal.text, hint: refusal.hint })
    }

    /// It is asked to write. What is kept back for endings isn't spent on that.
    async fn store(&self) -> Option<Trouble> {
        if self.room.begin().is_err() {
            return None;
        }
        let now = clock::rfc3339(clock::now());
        let text = match tokio::time::timeout(PATIENCE, self.store.set_meta(PROBE, &now)).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the store has not answered for {} s", PATIENCE.as_secs()),
        };
        let hint = "see the disk of the supervisor's folder, and its log".to_owned();
        Some(Trouble { check: "store", text, hint })
    }

    /// A record is only written to find out whether one can be written again.
    async fn audit(&self) -> Option<Trouble> {
        let state = self.audit.state();
        let trouble = |text: String, hint: &str| Some(Trouble { check: "audit", text, hint: hint.to_owned() });
        if state.has_ended() {
            return trouble(
                "the audit is not being written any more".to_owned(),
                "see the log; restart the supervisor",
            );
        }
        if !state.is_failing() {
            return None;
        }
        if self.room.begin().is_err() {
            return trouble("the audit can't be written".to_owned(), "free room on its disk");
        }
        match tokio::time::timeout(PATIENCE, self.audit.write(Record::new(Act::AuditResumed))).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => trouble(error.to_string(), "see the disk of the audit's folder"),
            Err(_) => trouble(
                format!("the audit has not answered for {} s", PATIENCE.as_secs()),
                "see the disk of the audit's folder",
            ),
        }
    }
}
