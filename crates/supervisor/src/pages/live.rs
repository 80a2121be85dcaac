//! What keeps pages live: a stream that says *that* something changed, and which jobs; the page then asks for itself
//! again. So a page that missed something is whole after its next look, and nothing is shown but by the page's handler.
//!
//! Three events: `change` with the jobs, at most twice a second; `beat`, so that a page knows a silence from a broken
//! connection; and `over`, after which nothing comes: whoever watched may not go on as they began.

use crate::api::{ApiError, App, Asked};
use crate::authn::Authn;
use crate::caller::Caller;
use crate::events::{Event, Listener};
use crate::service::Service;
use axum::extract::State;
use axum::response::sse::{Event as Sse, Sse as Answer};
use futures_util::Stream;
use policy::Sight;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

const GATHER: Duration = Duration::from_millis(500);
const BEAT: Duration = Duration::from_secs(5);
/// More changes at once are "many": the page looks anyway.
const NAMED_MAX: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EventsQuery {
    /// Only what changes about this one.
    job: Option<u64>,
}

pub(super) async fn events(
    State(app): State<App>,
    caller: Caller,
    Asked(query): Asked<EventsQuery>,
) -> Result<Answer<impl Stream<Item = Result<Sse, Infallible>>>, ApiError> {
    let listener = app.service.events.listen();
    if let Some(job) = query.job {
        app.service.visible(&caller, job).await?;
    }
    let watch = Watch {
        service: app.service,
        authn: app.authn,
        caller,
        only: query.job,
        listener,
        is_first: true,
        is_over: false,
    };
    let stream = futures_util::stream::unfold(watch, |mut watch| async {
        let event = watch.next().await?;
        Some((Ok(event), watch))
    });
    Ok(Answer::new(stream))
}

struct Watch {
    service: Service,
    authn: Authn,
    caller: Caller,
    only: Option<u64>,
    listener: Listener,
    is_first: bool,
    is_over: bool,
}

/// What changed within the time.
#[derive(Default)]
struct Changes {
    jobs: BTreeSet<u64>,
    workers: bool,
    /// Some were missed, or more than are named.
    many: bool,
    rights: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Sse> {
        if self.is_over {
            return None;
        }
        if std::mem::take(&mut self.is_first) {
            return Some(beat());
        }
        let until = Instant::now() + BEAT;
        loop {
            let changes = self.gather(until).await;
            if !self.caller.is_still(&self.service.identity, &self.authn).await {
                self.is_over = true;
                return Some(Sse::default().event("over").data("{}"));
            }
            match changes {
                None => return Some(beat()),
                Some(changes) => {
                    if let Some(event) = self.said(changes).await {
                        return Some(event);
                    }
                }
            }
        }
    }

    /// Only what they may know of.
    async fn said(&self, changes: Changes) -> Option<Sse> {
        let mut seen = Vec::new();
        for job in &changes.jobs {
            if let Ok(Some(row)) = self.service.store.job(*job).await
                && self.service.sight(&self.caller, &row).await.is_ok_and(|sight| sight != Sight::None)
            {
                seen.push(*job);
            }
        }
        let workers = changes.workers && self.only.is_none();
        if seen.is_empty() && !workers && !changes.many && !changes.rights {
            return None;
        }
        let data = json!({ "jobs": seen, "workers": workers, "many": changes.many });
        Sse::default().event("change").json_data(data).ok()
    }

    /// What changes until half a second after the first change; `None` when nothing did until then.
    async fn gather(&mut self, until: Instant) -> Option<Changes> {
        let mut changes = Changes::default();
        let mut end = until;
        let mut began = false;
        loop {
            let Ok(event) = timeout_at(end, self.listener.next()).await else { return began.then_some(changes) };
            match event {
                Some(Event::Job(id) | Event::Task { job: id, .. }) => {
                    if self.only.is_some_and(|only| only != id) {
                        continue;
                    }
                    if changes.jobs.len() < NAMED_MAX {
                        changes.jobs.insert(id);
                    } else {
                        changes.many = true;
                    }
                }
                Some(Event::Worker) => changes.workers = true,
                Some(Event::Rights) => changes.rights = true,
                Some(Event::Log(_)) => continue,
                None => changes.many = true,
            }
            if !began {
                (began, end) = (true, Instant::now() + GATHER);
            }
        }
    }
}

fn beat() -> Sse {
    Sse::default().event("beat").data("{}")
}
