//! What dispatch has to know of a job, worked out once and remembered while the job is in use.

use crate::identity::Carried;
use crate::scheduler::{Candidate, Resources};
use crate::workshop::Workshop;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use job::{JobSpec, Plan, Requires, StepInfo};
use policy::{LoginUser, People, Refusal, User, Via, Who};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
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
    #[error("job {job} has its user's name by {via:?}, which is no right")]
    Via { job: u64, via: String },
    #[error("job {0} could not be worked out: the attempt broke off")]
    Interrupted(u64),
    #[error("what job {job} asks of a worker can't be read back: {text:?}")]
    Needs { job: u64, text: String },
    /// What its user carries doesn't let it run.
    #[error("{}; {}", .refusal.text, .refusal.hint)]
    Settings { who: Box<Who>, refusal: Box<Refusal> },
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

/// The names a stored job carries.
pub(crate) fn who(row: &JobRow) -> Result<Who, JobsError> {
    named(row.id, (&row.login_user, &row.user), &row.via, row.grant)
}

fn named(job: u64, (login_user, user): (&str, &str), via: &str, grant: Option<u64>) -> Result<Who, JobsError> {
    let wrong = |error| JobsError::Name { job, error };
    Ok(Who {
        login_user: LoginUser::parse(login_user).map_err(wrong)?,
        user: User::parse(user).map_err(wrong)?,
        via: Via::parse(via).ok_or_else(|| JobsError::Via { job, via: via.to_owned() })?,
        grant,
    })
}

/// What a step asks of a worker, as it is stored beside the step: to find a place nobody has to work out a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Needs {
    #[serde(default)]
    requires: Requires,
    #[serde(default)]
    cpu_milli: u32,
    #[serde(default)]
    memory: u64,
}

impl Needs {
    pub(crate) fn of(step: &StepInfo) -> Self {
        let (cpu_milli, memory) = (step.cpus_milli.unwrap_or(0), step.memory.unwrap_or(0));
        Self { requires: step.requires.clone(), cpu_milli, memory }
    }

    pub(crate) fn to_text(step: &StepInfo) -> String {
        serde_json::to_string(&Self::of(step)).unwrap_or_default()
    }

    pub(crate) fn asks(&self) -> Resources {
        Resources { cpu_milli: self.cpu_milli.into(), memory: self.memory }
    }
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
    /// Came too late for whoever wanted them; kept until they come back for them.
    late: HashMap<u64, Arc<Job>>,
    /// Of those being worked out: for whom somebody is called when they are there.
    awaited: HashSet<u64>,
    /// Being worked out; whoever else wants it waits for the same.
    begun: HashMap<u64, Begun>,
}

impl Known {
    fn get(&mut self, id: u64) -> Option<Arc<Job>> {
        if let Some(job) = self.young.get(&id) {
            return Some(job.clone());
        }
        let job = self.late.remove(&id).or_else(|| self.old.remove(&id))?;
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
                let this = self.clone();
                this.lock().awaited.insert(id);
                tokio::spawn(async move {
                    let job = job.await;
                    {
                        let mut known = this.lock();
                        known.awaited.remove(&id);
                        // Whoever looks again sees how it ended.
                        if let Ok(job) = job {
                            known.late.insert(id, job);
                        }
                    }
                    ready();
                });
                None
            }
        }
    }

    /// What has to be known to find a place for a step.
    pub(crate) async fn candidate(
        &self,
        store: &Store,
        ready: &store::Ready,
        people: Arc<People>,
        carried: Carried,
    ) -> Result<Candidate, JobsError> {
        let who = named(ready.job, (&ready.login_user, &ready.user), &ready.via, ready.grant)?;
        let needs = if ready.needs.is_empty() {
            // Stored by an earlier version.
            self.get(store, ready.job).await?.step(ready.step).map(Needs::of).unwrap_or_default()
        } else {
            let wrong = |_| JobsError::Needs { job: ready.job, text: ready.needs.clone() };
            serde_json::from_str(&ready.needs).map_err(wrong)?
        };
        let gets = carried.and_then(|settings| Ok((settings.asks(&ready.user, needs.asks())?, settings)));
        let (asks, settings) = match gets {
            Ok(gets) => gets,
            Err(refusal) => return Err(JobsError::Settings { who: Box::new(who), refusal: Box::new(refusal) }),
        };
        Ok(Candidate {
            job: ready.job,
            step: ready.step,
            priority: ready.priority,
            who,
            name: ready.name.clone(),
            people,
            count: ready.count,
            requires: needs.requires.and(&settings.workers),
            asks,
            settings,
            avoids: BTreeSet::new(),
        })
    }

    /// Those that are being worked out just now, and somebody is called for.
    pub(crate) fn awaited(&self) -> HashSet<u64> {
        self.lock().awaited.clone()
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
            known.late.remove(job);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn what_comes_too_late_is_there_the_next_time() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::open(&dir.path().join("store.db")).await.expect("store");
        let spec = r#"{"v": 1, "body": {"command": {"argv": ["true"]}}}"#;
        let step = store::NewStep { name: "one".to_owned(), tasks: 1, ..store::NewStep::default() };
        let (login_user, user) = ("ada".to_owned(), "ada".to_owned());
        let new = store::NewJob { login_user, user, spec: spec.to_owned(), steps: vec![step], ..Default::default() };
        let id = store.submit(new, 1).await.expect("submitted");
        let jobs = Jobs::new(Workshop::new(1));
        let (called, mut calls) = tokio::sync::mpsc::unbounded_channel();
        let call = move || called.send(()).expect("heard");
        // A timer that ends now still waits for the next tick, and the work may be done by then.
        let past = Instant::now().checked_sub(Duration::from_secs(1)).expect("up for a second");
        assert!(jobs.get_until(&store, id, past, call).await.is_none());
        assert_eq!(jobs.awaited(), HashSet::from([id]));
        calls.recv().await.expect("called");
        assert!(jobs.awaited().is_empty());
        // Whatever else is worked out meanwhile, it is kept until it was asked for.
        jobs.lock().young.clear();
        let job = jobs.get_until(&store, id, Instant::now(), || {}).await.expect("at once").expect("well");
        assert_eq!((job.id, job.plan.steps().len()), (id, 1));
        assert!(jobs.lock().late.is_empty());
        // What an earlier version stored says what it needs by its plan.
        let ready = store.ready(1, 2).await.expect("ready").remove(0);
        assert_eq!(ready.needs, "");
        let candidate = jobs.candidate(&store, &ready, Arc::default(), Ok(Arc::default()));
        let candidate = candidate.await.expect("a candidate");
        assert_eq!((candidate.job, candidate.count, candidate.who.user.as_str()), (id, 1, "ada"));
        let gone = jobs.get_until(&store, id + 1, Instant::now() + Duration::from_secs(9), || {}).await;
        assert!(matches!(gone, Some(Err(JobsError::Gone(_)))));
    }

    #[test]
    fn needs_come_back_as_they_were() {
        let requires = Requires::parse("gpu,a100|h100,worker=n1").expect("good");
        let step = StepInfo {
            name: "s".to_owned(),
            tasks: 1,
            depends_on: Vec::new(),
            cpus_milli: Some(1500),
            memory: Some(1 << 30),
            requires: requires.clone(),
        };
        let needs: Needs = serde_json::from_str(&Needs::to_text(&step)).expect("read back");
        assert_eq!(needs, Needs { requires, cpu_milli: 1500, memory: 1 << 30 });
    }
}
