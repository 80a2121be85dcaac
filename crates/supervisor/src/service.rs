//! What can be done to the farm: one function per change, whatever channel asked for it. Each decides, writes the audit
//! intent, changes the store, and tells the dispatcher; nothing is acknowledged before the first three are done.
//!
//! Reading is in `ask`. Whoever may not see a job is answered by the same code as for a job that doesn't exist.

mod accounts;
mod configuration;
mod files;
mod lists;
mod logon;
mod modify;
mod oidc;
mod people;
mod sheets;
mod sign_in;
mod submitting;

pub(crate) use accounts::{NewPassword, OwnPassword};
pub(crate) use configuration::{
    ConfigurationView, ReloadView, SettingView, WorkerConfigurationView, WorkersChange, WorkersChangedView,
};
pub(crate) use files::{FileQuery, FilesQuery, OpenFile, TOGETHER};
pub(crate) use lists::Listing;
pub(crate) use logon::{CheckView, GivenPassword, LogonView};
pub(crate) use modify::Modification;
pub(crate) use oidc::{CodeRequest, SignedIn};
pub(crate) use people::{
    ActingView, GrantRequest, GrantsQuery, Revocation, RevokedView, SwitchView, UserChange, UsersQuery,
};
pub(crate) use submitting::Submitting;

pub(crate) use sheets::Sheets;
pub(crate) use sign_in::{LoginCodes, LoginRequest, TokenRequest};

use crate::audit::{Act, Actor, Audit, AuditError, Ending, Intent, Outcome, Record};
use crate::auditor::Verified;
use crate::authn::SignIn;
use crate::caller::{Asks, Caller};
use crate::clock;
use crate::config::Settings;
use crate::configuration::Configuration;
use crate::dispatch::{DispatchError, Dispatcher, Job, JobsError, Needs, who};
use crate::error::ServiceError;
use crate::events::{Event, Events};
use crate::health::Health;
use crate::identity::Identity;
use crate::logon::Logons;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::oidc::Oidc;
use crate::room::Room;
use crate::workshop::Workshop;
use job::{JobAction, JobSpec, JobState, Plan, Point, StepRef};
use policy::{Acting, FarmFacts, Identified, Kind, Principal, Refusal, Request, Scopes, Sight, Via, Who};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::path::PathBuf;
use std::sync::Arc;
use store::{After, AuditRef, JobRow, NewJob, NewStep, Store, StoreError};
use warrant::names::NAME_MAX;

/// Most tasks that can be named one by one in an act.
const TASKS_MAX: usize = 10_000;
const REASON_MAX: usize = 1000;
const REQUEST_ID_MAX: usize = 200;

/// Everything a request can reach. Clones are the same service.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) store: Store,
    pub(crate) audit: Audit,
    pub(crate) identity: Identity,
    pub(crate) logons: Logons,
    pub(crate) configuration: Configuration,
    pub(crate) sign_in: SignIn,
    pub(crate) oidc: Oidc,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) events: Events,
    pub(crate) logs: Logs,
    pub(crate) settings: Settings,
    pub(crate) facts: Facts,
    pub(crate) workshop: Workshop,
    /// Where long logs are looked through.
    pub(crate) reading: Workshop,
    pub(crate) room: Room,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) submitting: Submitting,
    pub(crate) login_codes: LoginCodes,
    pub(crate) verified: Verified,
    pub(crate) sheets: Sheets,
}

/// What doesn't change while the supervisor runs.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) farm: String,
    pub(crate) data: PathBuf,
    pub(crate) operator: Option<String>,
    pub(crate) url: String,
}

/// What is sent to submit a job.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Submission {
    #[schemars(with = "job::JobSpec")]
    pub(crate) spec: Box<RawValue>,
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) request_id: Option<String>,
    /// Hold it back until somebody unblocks it.
    #[serde(default)]
    pub(crate) blocked: bool,
    /// The job that is submitted again.
    #[serde(skip)]
    pub(crate) resubmits: Option<u64>,
}

/// What is sent to submit a job again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Resubmission {
    pub(crate) request_id: Option<String>,
}

/// The reason of a job that was submitted so.
const SUBMITTED_BLOCKED: &str = "it was submitted blocked: unblock it to let it start";

/// What is sent to act on a job.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ActRequest {
    pub(crate) reason: Option<String>,
    pub(crate) tasks: Option<Vec<String>>,
}

impl Service {
    /// Lets someone who authenticated in, with the roles the tables give them now.
    pub(crate) async fn admit(&self, principal: &mut Principal) -> Result<(), ServiceError> {
        let people = self.identity.people(principal.login_user.as_str(), None).await?;
        principal.roles = policy::admit(principal, &people).map_err(ServiceError::Refused)?;
        // The kernel's word about who has a uid, and the uid is everybody's whose jobs run under it.
        if principal.uid.is_some() && !principal.is_operator {
            let name = principal.login_user.as_str();
            let is_proxy = people.login.as_ref().is_some_and(|person| person.kind == Kind::Proxy);
            if is_proxy || self.store.is_shared_account(name).await? {
                self.admit_shared(principal, is_proxy)?;
            }
        }
        Ok(())
    }

    /// What others' jobs leave behind under such a uid must not outlast their right to it.
    fn admit_shared(&self, principal: &mut Principal, is_proxy: bool) -> Result<(), ServiceError> {
        if !self.settings.proxy_users_sign_in {
            let name = &principal.login_user;
            let what =
                if is_proxy { "is a proxy user" } else { "is the account that workers run everybody's jobs under" };
            return Err(ServiceError::Refused(Refusal {
                rule: "proxy_users_sign_in".to_owned(),
                value: name.to_string(),
                text: format!("{name} {what}: its uid says nothing of who asks"),
                hint: "come as yourself, and act as it: `stead as`; a job shows its token: `stead submit --token`; \
                       proxy_users_sign_in = true in supervisor.toml trusts the uid"
                    .to_owned(),
            }));
        }
        principal.scopes = Scopes { manage: false, metrics: false, ..principal.scopes };
        Ok(())
    }

    /// As whom they act; what is refused is on record.
    pub(crate) async fn caller(&self, principal: Principal, asks: Asks) -> Result<Caller, ServiceError> {
        let asked = asks.name().map(str::to_owned);
        match Caller::new(&self.identity, principal.clone(), asks).await {
            Err(ServiceError::Refused(refusal)) => {
                let actor = Actor::of(&principal);
                Err(self.refused_as(actor, Act::Switch, asked.as_deref(), refusal).await)
            }
            caller => caller,
        }
    }

    /// What is always one's own isn't done as another; that somebody asked for it is on record.
    pub(crate) async fn only_oneself(&self, principal: &Principal, named: &str) -> Result<(), ServiceError> {
        let login = &principal.login_user;
        if named == login.as_str() {
            return Ok(());
        }
        let refusal = Refusal {
            rule: "always_oneself".into(),
            value: named.escape_debug().to_string(),
            text: format!(
                "sessions, tokens, the password and acting itself are always one's own: {login} has them as nobody else"
            ),
            hint: "leave `--as` (the header Stead-As) out".into(),
        };
        Err(self.refused(principal, Act::Switch, refusal).await)
    }

    /// A job comes in: understood, decided, written down, stored.
    pub(crate) async fn submit(&self, caller: &Caller, submission: Submission) -> Result<u64, ServiceError> {
        let principal = &caller.principal;
        caller.needs(principal.scopes.submit, "submit")?;
        self.room.begin().map_err(ServiceError::NoRoom)?;
        check_request_id(submission.request_id.as_deref())?;
        let (spec, plan) = self.understood(principal, submission.spec).await?;
        let request = Request { user: submission.user, job: Some(plan.name().to_owned()) };
        let who = match self.identified(principal, caller.acting.as_ref(), &request, clock::now()).await? {
            Identified::As(who, _) => who,
            Identified::Refused(refusal, _) => {
                let asked = request.user.as_deref();
                return Err(self.refused_as(caller.actor(), Act::Submit, asked, refusal).await);
            }
        };
        if spec.token {
            caller.needs(principal.scopes.read, "read")?;
            if let Err(refusal) = may_carry_token(&who) {
                let actor = caller.actor().for_user(who.user.as_str());
                return Err(self.refused_as(actor, Act::Submit, None, refusal).await);
            }
        }
        if let Err(refusal) = self.has_password(who.user.as_str()).await? {
            return Err(self.refused(principal, Act::Submit, refusal).await);
        }
        if let Err(refusal) = self.may_have_priority(caller, spec.priority) {
            return Err(self.refused(principal, Act::Submit, refusal).await);
        }
        if let Err(refusal) = self.fits_its_user(&who, &plan).await? {
            let actor = caller.actor().for_user(who.user.as_str());
            return Err(self.refused_as(actor, Act::Submit, None, refusal).await);
        }
        for after in &spec.after {
            self.visible(caller, after.job).await?;
        }
        // The same request twice at once: the second waits, and finds the job of the first.
        let _turn = match &submission.request_id {
            Some(request) => Some(self.submitting.turn(who.login_user.as_str(), request).await),
            None => None,
        };
        if let Some(request) = &submission.request_id
            && let Some(known) = self.store.job_of_request(who.login_user.as_str(), who.user.as_str(), request).await?
        {
            return Ok(known);
        }
        let record = Record::intent(Act::Submit, caller.actor().for_user(who.user.as_str()))
            .grant(who.grant)
            .with("name", plan.name())
            .with("via", who.via)
            .with("tasks", plan.steps().iter().map(|s| s.tasks).sum::<u64>())
            .with("token", spec.token)
            .with("resubmits", submission.resubmits)
            .with("body", body_of(&spec));
        let record = if submission.blocked { record.with("blocked", true) } else { record };
        let intent = self.intent(record).await?;
        let text = spec.to_json()?;
        let bytes = text.len();
        let job = NewJob {
            name: plan.name().to_owned(),
            login_user: who.login_user.to_string(),
            user: who.user.to_string(),
            priority: spec.priority,
            retries: spec.retries,
            spec: text,
            steps: plan.steps().iter().map(new_step).collect(),
            after: spec.after.iter().map(|a| After { job: a.job, any_end: a.any }).collect(),
            blocked: submission.blocked.then(|| SUBMITTED_BLOCKED.to_owned()),
            request_id: submission.request_id,
            grant: who.grant,
            via: who.via.as_str().to_owned(),
            audit: Some(intent.reference()),
        };
        let is_new = job.request_id.is_none();
        let id = self.carried_out(&intent, self.store.submit(job, clock::now()).await).await?;
        if !is_new {
            self.settle_repeated(&intent, id).await?;
        }
        // A repeated request is the job of the first one.
        if is_new {
            self.dispatcher.jobs().keep(Job { id, who, spec, plan, bytes });
        }
        self.events.say(Event::Job(id));
        self.dispatcher.wake();
        Ok(id)
    }

    /// A new job like one that is there, decided anew: as whom is the caller's affair, and it must be the same user.
    pub(crate) async fn resubmit(&self, caller: &Caller, job: u64, request: Resubmission) -> Result<u64, ServiceError> {
        let row = self.open_to(caller, job).await?;
        let now = caller.acting.as_ref().map_or(caller.principal.login_user.as_str(), |a| a.user.as_str());
        if caller.acting.is_some() && now != row.user {
            let refusal = Refusal {
                rule: "resubmit_as_another".to_owned(),
                value: row.user.clone(),
                text: format!("job {job} ran as {}, and you act as {now}", row.user),
                hint: format!("act as {} for it, or as yourself", row.user),
            };
            return Err(self.refused(&caller.principal, Act::Submit, refusal).await);
        }
        let user = (now != row.user).then(|| row.user.clone());
        let spec = self.as_modified(&row).await?;
        let submission =
            Submission { spec, user, request_id: request.request_id, blocked: false, resubmits: Some(job) };
        self.submit(caller, submission).await
    }

    /// Whether what a job asks for is what its user may have. Asked again at dispatch: that may change.
    pub(crate) async fn fits_its_user(&self, who: &Who, plan: &Plan) -> Result<Result<(), Refusal>, ServiceError> {
        let settings = match self.identity.settings(&who.user).await? {
            Ok(settings) => settings,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let fits = |step| settings.asks(who.user.as_str(), Needs::of(step).asks()).map(drop);
        Ok(plan.steps().iter().try_for_each(fits))
    }

    /// As whom a job would be submitted at this time.
    pub(crate) async fn identified(
        &self,
        principal: &Principal,
        acting: Option<&Acting>,
        request: &Request,
        at: i64,
    ) -> Result<Identified, ServiceError> {
        if let Some(name) = request.user.as_ref().filter(|name| name.len() > NAME_MAX) {
            let why = format!("a name has at most {NAME_MAX} bytes, and this text {}", name.len());
            return Err(ServiceError::input("user", why));
        }
        let target = acting.map(|a| a.user.as_str()).or(request.user.as_deref());
        let people = self.identity.people(principal.login_user.as_str(), target).await?;
        let farm = FarmFacts { only_proxy: self.only_proxy().await? };
        Ok(policy::identify(principal, acting, request, farm, &people, at))
    }

    /// Someone acts on a job, or on some of its tasks. Whoever may know of it may kill it; the rest needs all of it.
    pub(crate) async fn act(
        &self,
        caller: &Caller,
        job: u64,
        action: JobAction,
        request: ActRequest,
    ) -> Result<JobState, ServiceError> {
        let principal = &caller.principal;
        let row = match action {
            JobAction::Kill => self.visible(caller, job).await?,
            _ => self.open_to(caller, job).await?,
        };
        caller.needs(principal.scopes.control, "control")?;
        let reason = request.reason.map(check_reason).transpose()?;
        let tasks = match &request.tasks {
            Some(names) => Some(named_tasks(&row, &self.worked_out(job).await?.plan, names)?),
            None => None,
        };
        if tasks.is_none() {
            row.state.after(action).map_err(StoreError::from)?;
        }
        let record = Record::intent(action.into(), caller.actor())
            .job(job)
            .with("of", &row.user)
            .with("reason", &reason)
            .with("tasks", tasks.as_ref().map(Vec::len));
        let reason = Some(said_by(principal, action, reason));
        let now = clock::now();
        let store = &self.store;
        let act = |audit| {
            let (tasks, reason) = (tasks.clone(), reason.clone());
            async move {
                match tasks {
                    None => store.act(job, action, reason, audit, now).await,
                    Some(tasks) => store.act_on_tasks(job, tasks, action, reason, audit, now).await,
                }
            }
        };
        let acted = match action {
            JobAction::Kill | JobAction::Block | JobAction::Suspend => self.ends(record, act).await?,
            JobAction::Retry | JobAction::Unblock | JobAction::Resume | JobAction::Requeue => {
                let intent = self.intent(record).await?;
                self.carried_out(&intent, act(Some(intent.reference())).await).await?
            }
        };
        self.dispatcher.acted(action, &acted);
        Ok(acted.state)
    }

    /// A job that is over goes, with its output, as soon as its folders on the workers are gone. What the audit says of
    /// it stays.
    pub(crate) async fn remove(&self, caller: &Caller, job: u64, why: Option<&str>) -> Result<JobState, ServiceError> {
        let row = self.open_to(caller, job).await?;
        caller.needs(caller.principal.scopes.control, "control")?;
        if !row.state.is_over() {
            return Err(StoreError::NotEnded(job).into());
        }
        let record = Record::intent(Act::Remove, caller.actor())
            .job(job)
            .with("of", &row.user)
            .with("name", &row.name)
            .with("state", row.state)
            .with("reason", why);
        let by = &caller.principal.login_user;
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        let reason = format!("removed by {by}{why}: it goes once its folders on the workers are gone");
        let intent = self.intent(record).await?;
        let removed = self.store.remove_job(job, reason, Some(intent.reference()), clock::now()).await;
        self.carried_out(&intent, removed).await?;
        self.events.say(Event::Job(job));
        self.dispatcher.removed();
        Ok(row.state)
    }

    /// An administrator drains a worker, or ends that.
    pub(crate) async fn drain(&self, caller: &Caller, name: &str, drained: bool) -> Result<(), ServiceError> {
        caller.needs_admin("drain a worker")?;
        let principal = &caller.principal;
        if !self.store.workers().await?.iter().any(|w| w.name == name) {
            return Err(ServiceError::NoSuchWorker(name.to_owned()));
        }
        let record = Record::intent(Act::Drain, Actor::of(principal)).object(name).with("drained", drained);
        let drain = |audit| self.store.set_drained(name, drained, audit);
        if drained {
            self.ends(record, drain).await?;
        } else {
            let intent = self.intent(record).await?;
            self.carried_out(&intent, drain(Some(intent.reference())).await).await?;
        }
        self.dispatcher.set_drained(name, drained);
        Ok(())
    }

    /// A worker reports what its sessions did.
    pub(crate) async fn report(&self, group: wire::Reports, uid: u32) -> Result<u64, ServiceError> {
        self.dispatcher.report(group, uid).await.map_err(of_dispatch)
    }

    /// Writes a refusal down and returns it.
    pub(crate) async fn refused(&self, principal: &Principal, act: Act, refusal: Refusal) -> ServiceError {
        self.refused_as(Actor::of(principal), act, None, refusal).await
    }

    /// The same of what was to be done as another, and with the name that was asked for: a rule need not name it.
    async fn refused_as(&self, actor: Actor, act: Act, asked: Option<&str>, refusal: Refusal) -> ServiceError {
        let record = Record::refused(act, actor).object(&refusal.value).with("rule", &refusal.rule);
        let record = record.with("asked", asked.filter(|name| *name != refusal.value));
        match self.audit.refusal(record).await {
            Ok(()) => ServiceError::Refused(refusal),
            Err(error) => error.into(),
        }
    }

    /// The record of what is about to begin, if there is room for it and for what follows from it.
    async fn intent(&self, record: Record) -> Result<Intent, ServiceError> {
        self.room.begin().map_err(ServiceError::NoRoom)?;
        Ok(self.audit.intent(record).await?)
    }

    /// What only ends something, and gives nobody another identity: it is done even on a full disk, with what is kept
    /// back there for it. Where even that doesn't do for its record, the record follows.
    async fn ends<T, F>(&self, record: Record, end: impl Fn(Option<AuditRef>) -> F) -> Result<T, ServiceError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let recorded = self.recorded(record).await?;
        let done = self.room.through(|| end(recorded.reference())).await;
        match recorded {
            Ending::Recorded(intent) => self.carried_out(&intent, done).await,
            Ending::Later(late) => {
                self.audit.settle(late, done.as_ref().err().map(ToString::to_string)).await;
                Ok(done?)
            }
        }
    }

    async fn recorded(&self, record: Record) -> Result<Ending, AuditError> {
        loop {
            let had = self.room.left();
            match self.audit.intent(record.clone()).await {
                Ok(intent) => return Ok(Ending::Recorded(intent)),
                Err(error) if error.is_full() && self.room.give(had) => {}
                Err(_) => return self.audit.intent_or_later(record).await,
            }
        }
    }

    /// What the store did of an act that is on record. Where it is known not to be done, that is written down, too.
    async fn carried_out<T>(&self, intent: &Intent, done: Result<T, StoreError>) -> Result<T, ServiceError> {
        if let Err(error) = &done
            && self.is_absent(intent).await
            && let Err(error) = self.audit.write_or_later(intent.not_done(Outcome::Failed, error)).await
        {
            tracing::error!(%error, "it is not in the audit that an act was not done");
        }
        done.map_err(ServiceError::from)
    }

    /// A request that was sent again changes nothing.
    async fn settle_repeated(&self, intent: &Intent, job: u64) -> Result<(), ServiceError> {
        if self.is_absent(intent).await {
            let record = intent.not_done(Outcome::Ok, "the request was carried out before").job(job);
            self.audit.write_or_later(record).await?;
        }
        Ok(())
    }

    /// If the store can't say, the next start asks it again.
    async fn is_absent(&self, intent: &Intent) -> bool {
        let known = self.store.audited(&intent.written.chain, intent.written.sequence).await;
        matches!(known, Ok(None))
    }

    /// The job, if the caller may know of it.
    pub(crate) async fn visible(&self, caller: &Caller, job: u64) -> Result<JobRow, ServiceError> {
        caller.needs(caller.principal.scopes.read, "read")?;
        let row = self.store.job(job).await?.ok_or_else(|| no_such_job(job))?;
        match self.sight(caller, &row).await? {
            Sight::None => Err(no_such_job(job)),
            Sight::Record | Sight::All => Ok(row),
        }
    }

    /// The job with all that belongs to it: output, results, another try.
    pub(crate) async fn open_to(&self, caller: &Caller, job: u64) -> Result<JobRow, ServiceError> {
        let row = self.visible(caller, job).await?;
        match self.sight(caller, &row).await? {
            Sight::All => Ok(row),
            Sight::Record | Sight::None => Err(ServiceError::Refused(Refusal {
                rule: "right_ended".to_owned(),
                value: row.user.clone(),
                text: format!("you submitted job {job} as {}, and may not act as {} any more", row.user, row.user),
                hint: format!(
                    "its state and reason stay yours to see, and you can kill it; for more, ask for a grant for {}",
                    row.user
                ),
            })),
        }
    }

    /// What the caller may know of a job. One whose names can't be read is nobody's but the administrators'.
    pub(crate) async fn sight(&self, caller: &Caller, row: &JobRow) -> Result<Sight, ServiceError> {
        let Ok(who) = who(row) else {
            return Ok(if caller.is_admin() { Sight::All } else { Sight::None });
        };
        let viewer = caller.viewer();
        let (with, without) = (viewer.sight(&who, &row.name, || true), viewer.sight(&who, &row.name, || false));
        if with == without {
            return Ok(with);
        }
        Ok(if self.identity.right(&who, &row.name).await?.is_ok() { with } else { without })
    }

    pub(crate) async fn understood(
        &self,
        principal: &Principal,
        spec: Box<RawValue>,
    ) -> Result<(JobSpec, Plan), ServiceError> {
        let service = self.clone();
        let work = move || {
            let raw = spec;
            let mut spec = JobSpec::from_json(raw.get())?;
            spec.priority = service.usual_priority(&raw, spec.priority);
            let plan = Plan::new(&spec)?;
            Ok((spec, plan))
        };
        let worked_out = self.workshop.work(principal.login_user.as_str(), work).await;
        worked_out.unwrap_or_else(|_| Err(ServiceError::input("spec", "it could not be worked out")))
    }

    /// A stored job with its plan.
    pub(crate) async fn worked_out(&self, job: u64) -> Result<Arc<Job>, ServiceError> {
        self.dispatcher.jobs().get(&self.store, job).await.map_err(|error| match error {
            JobsError::Store(error) => error.into(),
            JobsError::Gone(job) => no_such_job(job),
            JobsError::Spec { error, .. } => error.into(),
            error @ (JobsError::Name { .. }
            | JobsError::Via { .. }
            | JobsError::Interrupted(_)
            | JobsError::Needs { .. }
            | JobsError::Settings { .. }) => ServiceError::input("job", error),
        })
    }

    /// No known worker runs jobs as their user.
    async fn only_proxy(&self) -> Result<bool, ServiceError> {
        let places = self.dispatcher.places().await?;
        Ok(!places.is_empty() && places.iter().all(|p| p.mode == policy::Mode::Proxy))
    }
}

pub(crate) fn of_dispatch(error: DispatchError) -> ServiceError {
    match error {
        DispatchError::Store(error) => error.into(),
        DispatchError::Audit(error) => error.into(),
        DispatchError::Pin(error) => error.into(),
        DispatchError::Jobs(error) => ServiceError::input("job", error),
        DispatchError::Task { error, .. } => error.into(),
    }
}

pub(crate) fn no_such_job(job: impl ToString) -> ServiceError {
    ServiceError::NoSuchJob(job.to_string())
}

fn new_step(step: &job::StepInfo) -> NewStep {
    NewStep {
        name: step.name.clone(),
        tasks: step.tasks,
        depends_on: step.depends_on.clone(),
        needs: Needs::to_text(step),
    }
}

/// The body as the audit keeps it: the command; of a template and a list of lines only which they were.
fn body_of(spec: &JobSpec) -> serde_json::Value {
    let hash = |text: &str| warrant::hex(&warrant::sha256(&[text.as_bytes()]));
    match &spec.body {
        job::Body::Command(body) => serde_json::json!({ "argv": body.argv.iter().take(64).collect::<Vec<_>>() }),
        job::Body::Template(body) => serde_json::json!({ "template_sha256": hash(&body.source) }),
    }
}

/// A token in a job has nobody's role.
fn may_carry_token(who: &Who) -> Result<(), Refusal> {
    match who.via {
        Via::Own | Via::Grant => Ok(()),
        Via::Impersonate | Via::Admin | Via::Operator => Err(Refusal {
            rule: "job_token".into(),
            value: who.user.to_string(),
            text: format!("{} submits as {} by a right that no token carries", who.login_user, who.user),
            hint: format!("submit without --token, or have {} submit it, or somebody with a grant", who.user),
        }),
    }
}

fn check_request_id(id: Option<&str>) -> Result<(), ServiceError> {
    match id {
        Some(id) if id.is_empty() || id.len() > REQUEST_ID_MAX => {
            Err(ServiceError::input("request_id", format!("it has to have 1 to {REQUEST_ID_MAX} bytes")))
        }
        _ => Ok(()),
    }
}

fn check_reason(reason: String) -> Result<String, ServiceError> {
    if reason.len() > REASON_MAX {
        return Err(ServiceError::input("reason", format!("it has more than {REASON_MAX} bytes")));
    }
    if reason.chars().any(char::is_control) {
        return Err(ServiceError::input("reason", "it contains a control character"));
    }
    Ok(reason)
}

fn said_by(principal: &Principal, action: JobAction, reason: Option<String>) -> String {
    let past = match action {
        JobAction::Kill => "killed",
        JobAction::Retry => "retried",
        JobAction::Block => "blocked",
        JobAction::Unblock => "unblocked",
        JobAction::Suspend => "suspended",
        JobAction::Resume => "resumed",
        JobAction::Requeue => "requeued",
    };
    let by = format!("{past} by {}", principal.login_user);
    reason.map_or_else(|| by.clone(), |reason| format!("{by}: {reason}"))
}

/// `STEP.TASK` or `TASK`, as (step, index).
fn named_tasks(row: &JobRow, plan: &Plan, names: &[String]) -> Result<Vec<(u32, u64)>, ServiceError> {
    if names.is_empty() || names.len() > TASKS_MAX {
        return Err(ServiceError::input("tasks", format!("1 to {TASKS_MAX} tasks can be named at once")));
    }
    names.iter().map(|name| named_task(row.id, plan, name)).collect()
}

fn named_task(job: u64, plan: &Plan, name: &str) -> Result<(u32, u64), ServiceError> {
    let address = job::address(&format!("{job}.{name}")).map_err(|e| ServiceError::input("tasks", e))?;
    let step = step_of(plan, address.step.as_ref())?;
    match address.point {
        Point::Task(index) => Ok((step, index)),
        Point::Frame(frame) => plan
            .index_of_frame(step, frame)
            .map(|index| (step, index))
            .ok_or_else(|| ServiceError::input("tasks", format!("there is no frame {frame}"))),
        Point::Whole => Err(ServiceError::input("tasks", format!("{name:?} names no task"))),
    }
}

/// The step meant; may be left out when there is only one.
pub(crate) fn step_of(plan: &Plan, step: Option<&StepRef>) -> Result<u32, ServiceError> {
    let unknown = |name: String| ServiceError::input("step", format!("the job has no step {name}"));
    match step {
        None if plan.steps().len() == 1 => Ok(0),
        None => Err(ServiceError::input("step", "the job has several steps: say STEP.TASK")),
        Some(StepRef::Index(index)) => {
            let exists = usize::try_from(*index).is_ok_and(|i| i < plan.steps().len());
            exists.then_some(*index).ok_or_else(|| unknown(index.to_string()))
        }
        Some(StepRef::Name(name)) => plan.step_by_name(name).ok_or_else(|| unknown(format!("{name:?}"))),
    }
}
