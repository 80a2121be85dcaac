//! Server-sent events: which jobs changed, as they are now. A job that changes often is shown at most ten times a second.

use super::{ApiError, App, Asked, Caller};
use crate::authn::Authn;
use crate::events::{Event, Listener};
use crate::service::Service;
use crate::views::{JobView, ProgressView};
use axum::extract::State;
use axum::response::sse::{Event as Sse, KeepAlive, Sse as Answer};
use futures_util::Stream;
use policy::Sight;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;
use store::JobRow;

const GATHER: Duration = Duration::from_millis(100);

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EventsQuery {
    job: Option<u64>,
}

pub(crate) async fn events(
    State(app): State<App>,
    caller: Caller,
    Asked(query): Asked<EventsQuery>,
) -> Result<Answer<impl Stream<Item = Result<Sse, Infallible>>>, ApiError> {
    caller.needs(caller.principal.scopes.read, "read")?;
    let listener = app.service.events.listen();
    let mut out = VecDeque::new();
    if let Some(job) = query.job {
        out.extend(sse(&app.service.job(&caller, job).await?));
    }
    let watch = Watch { service: app.service, authn: app.authn, caller, only: query.job, listener, out };
    let stream = futures_util::stream::unfold(watch, |mut watch| async {
        let event = watch.next().await?;
        Some((Ok(event), watch))
    });
    Ok(Answer::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

struct Watch {
    service: Service,
    authn: Authn,
    caller: Caller,
    only: Option<u64>,
    listener: Listener,
    out: VecDeque<Sse>,
}

impl Watch {
    /// `None` when whoever watches may not any more.
    async fn next(&mut self) -> Option<Sse> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Some(event);
            }
            let (jobs, tasks, workers) = self.gather().await;
            if !self.caller.is_still(&self.service.identity, &self.authn).await {
                return None;
            }
            for (job, changed) in tasks {
                if let Some((_, Sight::All)) = self.seen(job).await {
                    self.out.extend(self.progress(job, &changed));
                }
            }
            for id in jobs {
                if let Some((row, _)) = self.seen(id).await {
                    self.out.extend(sse(&JobView::from(&row)));
                }
            }
            if workers {
                self.out.push_back(Sse::default().event("worker").data("{}"));
            }
        }
    }

    /// A job and what may be known of it. What changed but can't be read now shows at its next change.
    async fn seen(&self, job: u64) -> Option<(JobRow, Sight)> {
        let row = self.service.store.job(job).await.ok()??;
        match self.service.sight(&self.caller, &row).await.ok()? {
            Sight::None => None,
            sight => Some((row, sight)),
        }
    }

    /// What these tasks say of themselves now.
    fn progress(&self, job: u64, tasks: &BTreeSet<wire::Task>) -> Vec<Sse> {
        let said = self.service.dispatcher.progress(job).into_values().filter(|p| tasks.contains(&p.task));
        said.filter_map(|p| Sse::default().event("task").json_data(ProgressView::new(job, p)).ok()).collect()
    }

    /// What changed until a tenth of a second after the first change: jobs, tasks by their job, workers.
    async fn gather(&mut self) -> (BTreeSet<u64>, BTreeMap<u64, BTreeSet<wire::Task>>, bool) {
        let (mut jobs, mut tasks, mut workers) = (BTreeSet::new(), BTreeMap::<_, BTreeSet<_>>::new(), false);
        let mut until = None;
        loop {
            let event = match until {
                None => self.listener.next().await,
                Some(until) => match tokio::time::timeout_at(until, self.listener.next()).await {
                    Ok(event) => event,
                    Err(_) => return (jobs, tasks, workers),
                },
            };
            match event {
                Some(Event::Job(id)) if self.only.is_none_or(|only| only == id) => {
                    jobs.insert(id);
                }
                Some(Event::Task { job, task }) if self.only.is_none_or(|only| only == job) => {
                    tasks.entry(job).or_default().insert(task);
                }
                Some(Event::Worker) if self.only.is_none() => workers = true,
                Some(Event::Rights) => {}
                Some(_) => continue,
                // Some were missed: the one that is watched may be among them.
                None => jobs.extend(self.only),
            }
            until.get_or_insert_with(|| tokio::time::Instant::now() + GATHER);
        }
    }
}

fn sse(job: &JobView) -> Option<Sse> {
    Sse::default().event("job").json_data(job).ok()
}
