//! What dispatch has to know of a job, worked out once and remembered while the job is in use.

use crate::scheduler::Resources;
use crate::workshop::Workshop;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use job::{JobSpec, Plan, Requires};
use policy::{LoginUser, User, Who};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use store::{JobRow, Store, StoreError};

/// Plans take time and room: of each age so many are kept, and of so many bytes of what was submitted.
const REMEMBERED: usize = 4096;
const REMEMBERED_BYTES: usize = 64 << 20;

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) who: Who,
    pub(crate) spec: JobSpec,
    pub(crate) plan: Plan,
    /// Size of the specification.
    pub(crate) bytes: usize,
}

/// Why a stored job can't be worked out.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum JobsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("job {0} is gone")]
    Gone(u64),
    #[error("job {job} can't be read back: {error}")]
    Spec { job: u64, error: job::JobError },
    #[error("job {job} has a name that is none: {error}")]
    Name { job: u64, error: warrant::NameError },
    #[error("job {0} could not be worked out: the attempt broke off")]
    Interrupted(u64),
}

impl Job {
    /// What a session for this step asks of a host.
    pub(crate) fn asks(&self, step: u32) -> Resources {
        let info = self.step(step);
        Resources {
            cpu_milli: info.and_then(|s| s.cpus_milli).unwrap_or(0).into(),
            memory: info.and_then(|s| s.memory).unwrap_or(0),
        }
    }

    pub(crate) fn requires(&self, step: u32) -> Requires {
        self.step(step).map(|s| s.requires.clone()).unwrap_or_default()
    }

    pub(crate) fn is_template(&self) -> bool {
        matches!(self.spec.body, job::Body::Template(_))
    }

    /// A session opened for one of the two steps may run the other as well.
    pub(crate) fn is_alike(&self, a: u32, b: u32) -> bool {
        a == b || (self.asks(a) == self.asks(b) && self.requires(a) == self.requires(b))
    }

    fn step(&self, step: u32) -> Option<&job::StepInfo> {
        self.plan.steps().get(usize::try_from(step).ok()?)
    }
}

/// The names a stored job carries. It has no grant until there are grants.
pub(crate) fn who(row: &JobRow) -> Result<Who, JobsError> {
    let wrong = |error| JobsError::Name { job: row.id, error };
    Ok(Who {
        login_user: LoginUser::parse(&row.login_user).map_err(wrong)?,
        user: User::parse(&row.user).map_err(wrong)?,
        grant: None,
    })
}

/// Clones are the same memory.
#[derive(Debug, Clone)]
pub(crate) struct Jobs {
    known: Arc<Mutex<Known>>,
    workshop: Workshop,
}

type Begun = Shared<BoxFuture<'static, Result<Arc<Job>, JobsError>>>;

/// Two ages: what isn't used until the younger one is full again is forgotten.
#[derive(Debug, Default)]
struct Known {
    young: HashMap<u64, Arc<Job>>,
    old: HashMap<u64, Arc<Job>>,
    bytes: usize,
    /// Being worked out; whoever else wants it waits for the same.
    begun: HashMap<u64, Begun>,
}

impl Known {
    fn get(&mut self, id: u64) -> Option<Arc<Job>> {
        if let Some(job) = self.young.get(&id) {
            return Some(job.clone());
        }
        let job = self.old.remove(&id)?;
        self.keep(job.clone());
        Some(job)
    }

    fn keep(&mut self, job: Arc<Job>) {
        if self.young.len() >= REMEMBERED || self.bytes >= REMEMBERED_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += job.bytes;
        self.young.insert(job.id, job);
    }
}

impl Jobs {
    pub(crate) fn new(workshop: Workshop) -> Self {
        Self { known: Arc::default(), workshop }
    }

    pub(crate) async fn get(&self, store: &Store, id: u64) -> Result<Arc<Job>, JobsError> {
        let known = self.lock().get(id);
        match known {
            Some(job) => Ok(job),
            None => self.begin(store, id).await,
        }
    }

    /// The same, unless it takes longer than until then. It goes on without us, and `ready` is called at its end.
    pub(crate) async fn get_until(
        &self,
        store: &Store,
        id: u64,
        until: Instant,
        ready: impl FnOnce() + Send + 'static,
    ) -> Option<Result<Arc<Job>, JobsError>> {
        if let Some(job) = self.lock().get(id) {
            return Some(Ok(job));
        }
        let job = self.begin(store, id);
        match tokio::time::timeout_at(until.into(), job.clone()).await {
            Ok(job) => Some(job),
            Err(_) => {
                tokio::spawn(async move {
                    // Whoever looks again sees how it ended.
                    let _ = job.await;
                    ready();
                });
                None
            }
        }
    }

    /// What was worked out at submission.
    pub(crate) fn keep(&self, job: Job) {
        self.lock().keep(Arc::new(job));
    }

    /// Works it out in a task of its own: those who wait may go away.
    fn begin(&self, store: &Store, id: u64) -> Begun {
        let mut known = self.lock();
        if let Some(begun) = known.begun.get(&id) {
            return begun.clone();
        }
        let (this, store) = (self.clone(), store.clone());
        let work = async move {
            let job = this.work_out(&store, id).await;
            let mut known = this.lock();
            known.begun.remove(&id);
            job.map(|job| {
                let job = Arc::new(job);
                known.keep(job.clone());
                job
            })
        };
        let working = tokio::spawn(work);
        let begun = async move { working.await.unwrap_or(Err(JobsError::Interrupted(id))) }.boxed().shared();
        known.begun.insert(id, begun.clone());
        begun
    }

    async fn work_out(&self, store: &Store, id: u64) -> Result<Job, JobsError> {
        let row = store.job(id).await?.ok_or(JobsError::Gone(id))?;
        let person = row.login_user.clone();
        self.workshop.work(&person, move || work_out(&row)).await.map_err(|_| JobsError::Interrupted(id))?
    }

    pub(crate) fn forget(&self, jobs: &[u64]) {
        let mut known = self.lock();
        for job in jobs {
            known.young.remove(job);
            known.old.remove(job);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work_out(row: &JobRow) -> Result<Job, JobsError> {
    let wrong = |error| JobsError::Spec { job: row.id, error };
    let spec = JobSpec::from_json(&row.spec).map_err(wrong)?;
    let plan = Plan::new(&spec).map_err(wrong)?;
    Ok(Job { id: row.id, who: who(row)?, spec, plan, bytes: row.spec.len() })
}
