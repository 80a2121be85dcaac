//! Who wants to know that a job changed: `wait`, followers of logs, the event stream. Carries ids only; whoever listens
//! reads the store and asks what it may see. Events may be missed by a slow listener, who then looks at everything.

use tokio::sync::broadcast;

/// Something changed about this job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Job(u64),
    /// What a running task says of itself changed.
    Task {
        job: u64,
        task: wire::Task,
    },
    Log(u64),
    Worker,
    /// Somebody's credential or right ended: whoever watches asks again.
    Rights,
}

#[derive(Debug, Clone)]
pub(crate) struct Events(broadcast::Sender<Event>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(4096).0)
    }

    pub(crate) fn say(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.0.send(event);
    }

    pub(crate) fn jobs(&self, jobs: &[u64]) {
        for job in jobs {
            self.say(Event::Job(*job));
        }
    }

    pub(crate) fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

pub(crate) struct Listener(broadcast::Receiver<Event>);

impl Listener {
    /// The next event; `None` when some were missed.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(_)) => None,
            // The sender lives as long as the supervisor.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Returns when something may have changed about `job`.
    pub(crate) async fn changed(&mut self, job: u64) {
        loop {
            match self.next().await {
                None => return,
                Some(Event::Job(id) | Event::Log(id)) if id == job => return,
                Some(Event::Rights) => return,
                Some(_) => {}
            }
        }
    }
}
