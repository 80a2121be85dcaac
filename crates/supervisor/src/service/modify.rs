//! A job that is not over is given another name or priority. What it runs, and as whom, is what was submitted: for
//! anything else there is another job.

use super::Service;
use crate::audit::{Act, Record};
use crate::caller::Caller;
use crate::error::ServiceError;
use job::{JobSpec, JobState};
use policy::Refusal;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use store::{JobRow, StoreError};

/// What is to be otherwise.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Modification {
    name: Option<String>,
    /// −10000 to 10000; higher runs first.
    priority: Option<i32>,
}

impl Service {
    pub(crate) async fn modify(
        &self,
        caller: &Caller,
        job: u64,
        change: Modification,
    ) -> Result<JobState, ServiceError> {
        let row = self.open_to(caller, job).await?;
        caller.needs(caller.principal.scopes.control, "control")?;
        let Modification { name, priority } = change;
        let priority = priority.map(|priority| self.no_lower_than_there_is(priority));
        if name.is_none() && priority.is_none() {
            return Err(ServiceError::input("modify", "say what is to be otherwise: name, priority"));
        }
        if row.state.is_over() {
            return Err(StoreError::Over { job, state: row.state }.into());
        }
        let would_be =
            JobSpec { name: name.clone(), priority: priority.unwrap_or(0), ..JobSpec::from_json(&row.spec)? };
        would_be.check_options()?;
        if let Err(refusal) = self.may_modify(caller, &row, name.as_deref(), priority) {
            return Err(self.refused(&caller.principal, Act::Modify, refusal).await);
        }
        let record = Record::intent(Act::Modify, caller.actor())
            .job(job)
            .with("of", &row.user)
            .with("name", &name)
            .with("former_name", name.as_ref().map(|_| &row.name))
            .with("priority", priority)
            .with("former_priority", priority.map(|_| row.priority));
        let intent = self.intent(record).await?;
        let sessions = self.store.modify(job, name, priority, Some(intent.reference())).await;
        let sessions = self.carried_out(&intent, sessions).await?;
        self.dispatcher.modified(job, priority, &sessions);
        Ok(row.state)
    }

    /// A grant may be for jobs of certain names: whoever used one has said which job it was for.
    fn may_modify(
        &self,
        caller: &Caller,
        row: &JobRow,
        name: Option<&str>,
        priority: Option<i32>,
    ) -> Result<(), Refusal> {
        if let Some(name) = name.filter(|_| row.grant.is_some()) {
            return Err(Refusal {
                rule: "name_of_a_granted_job".to_owned(),
                value: name.to_owned(),
                text: format!("job {} runs as {} by a grant, which may be for jobs of its name", row.id, row.user),
                hint: "submit it anew under the other name".to_owned(),
            });
        }
        // What it had already stays possible.
        priority.filter(|p| *p > row.priority).map_or(Ok(()), |priority| self.may_have_priority(caller, priority))
    }

    /// What was submitted, with the name and the priority that the job has now.
    pub(super) async fn as_modified(&self, row: &JobRow) -> Result<Box<RawValue>, ServiceError> {
        let raw = |text: String| {
            RawValue::from_string(text).map_err(|e| ServiceError::Conflict(format!("job {}: {e}", row.id)))
        };
        let known = self.worked_out(row.id).await?;
        if known.plan.name() == row.name && known.spec.priority == row.priority {
            return raw(row.spec.clone());
        }
        let mut spec = known.spec.clone();
        spec.priority = row.priority;
        if known.plan.name() != row.name {
            spec.name = Some(row.name.clone());
        }
        raw(spec.to_json()?)
    }
}
