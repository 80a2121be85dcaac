//! Decisions, by the code by which requests and dispatch make them, for the bench: only in builds with the feature
//! `measure`. Neither listens nor schedules.

use crate::audit::{self, Audit};
use crate::identity::{HostGroups, Identity, Seal};
use crate::{StartError, clock};
use policy::{Ask, Decision, FarmFacts, Identified, People, Place, Principal, Request};
use std::path::Path;
use std::sync::Arc;
use store::{GrantRow, Store, StoreError};

/// People of a real store, and what is decided by them.
#[derive(Debug)]
pub struct Decisions {
    identity: Identity,
}

impl Decisions {
    /// With a seal and an audit of its own in `folder`.
    pub fn new(store: Store, folder: &Path) -> Result<Self, StartError> {
        let audits = folder.join("audit");
        std::fs::create_dir_all(&audits).map_err(|error| StartError::File { path: audits.clone(), error })?;
        let options = audit::Options { anchor: None, file_max: 64 << 20 };
        let (audit, _) = Audit::open(&audits, &options)?;
        let identity = Identity::new(store, audit, Arc::new(HostGroups), Seal::load(folder)?, false);
        Ok(Self { identity })
    }

    /// The seal of a grant that the supervisor would have written.
    #[must_use]
    pub fn seal(&self, row: &GrantRow) -> String {
        self.identity.seal().of(row)
    }

    /// What is read for a decision; remembered as it is in a supervisor.
    pub async fn people(&self, login: &str, user: &str) -> Result<Arc<People>, StoreError> {
        self.identity.people(login, Some(user)).await
    }

    /// May the login user act as the user, is the job theirs, and does it run there: what a submission asks and what
    /// dispatch asks.
    #[must_use]
    pub fn decide(principal: &Principal, user: &str, job: &str, place: &Place, people: &People) -> Option<Decision> {
        let now = clock::now();
        let acting = policy::acting(principal, Ask::Named(user), people, now).ok()?;
        let request = Request { user: None, job: Some(job.to_owned()) };
        match policy::identify(principal, acting.as_ref(), &request, FarmFacts::default(), people, now) {
            Identified::As(who, _) => Some(policy::decide(&who, Some(job), place, people, now)),
            Identified::Refused(..) => None,
        }
    }
}
