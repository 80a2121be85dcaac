//! What dispatch has to know of a job, worked out once and remembered while the job is in use.

use crate::scheduler::Resources;
use job::{JobSpec, Plan, Requires};
use policy::{LoginUser, User, Who};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use store::{JobRow, Store, StoreError};

/// Plans of large templates take time and room; more than this are not kept.
const REMEMBERED: usize = 4096;

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) who: Who,
    pub(crate) spec: JobSpec,
    pub(crate) plan: Plan,
}

/// Why a stored job can't be worked out.
#[derive(Debug, thiserror::Error)]
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

#[derive(Debug, Clone, Default)]
pub(crate) struct Jobs(Arc<Mutex<HashMap<u64, Arc<Job>>>>);

impl Jobs {
    pub(crate) async fn get(&self, store: &Store, id: u64) -> Result<Arc<Job>, JobsError> {
        if let Some(job) = self.lock().get(&id) {
            return Ok(job.clone());
        }
        let row = store.job(id).await?.ok_or(JobsError::Gone(id))?;
        let job =
            tokio::task::spawn_blocking(move || work_out(&row)).await.map_err(|_| JobsError::Interrupted(id))??;
        let job = Arc::new(job);
        let mut known = self.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(id, job.clone());
        Ok(job)
    }

    pub(crate) fn forget(&self, jobs: &[u64]) {
        let mut known = self.lock();
        for job in jobs {
            known.remove(job);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Job>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work_out(row: &JobRow) -> Result<Job, JobsError> {
    let wrong = |error| JobsError::Spec { job: row.id, error };
    let spec = JobSpec::from_json(&row.spec).map_err(wrong)?;
    let plan = Plan::new(&spec).map_err(wrong)?;
    Ok(Job { id: row.id, who: who(row)?, spec, plan })
}
