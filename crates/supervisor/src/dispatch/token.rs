//! The token of a job: what its tasks show to submit more work, and to read, as the job's user.

use super::jobs::Job;
use super::{DispatchError, Dispatcher};
use crate::audit::{Act, Actor, AuditError, Record};
use crate::authn::{Kind, Secret, scope_words};
use crate::clock;
use policy::Scopes;
use store::NewToken;

/// It ends with its session; no session lasts as long as this.
const LONGEST: i64 = 366 * 86_400_000_000;

impl Dispatcher {
    /// Makes the token of a session, good while that session lives.
    pub(super) async fn make_token(&self, job: &Job, session: u64) -> Result<Secret, DispatchError> {
        let secret = Secret::new(Kind::Job).map_err(|e| AuditError::Stopped(format!("no randomness: {e}")))?;
        let now = clock::now();
        let (login_user, user) = (job.who.login_user.as_str(), job.who.user.as_str());
        let scopes = scope_words(Scopes::JOB).join(",");
        let record = Record::intent(Act::TokenCreate, Actor::default())
            .by(login_user, user)
            .job(job.id)
            .with("session", session)
            .with("scopes", &scopes);
        let intent = self.0.audit.intent(record).await?;
        let token = NewToken {
            hash: secret.hash(),
            kind: Kind::Job.as_str().to_owned(),
            login_user: login_user.to_owned(),
            name: None,
            scopes: Some(scopes),
            acting_as: Some(user.to_owned()),
            job: Some(job.id),
            session: Some(session),
            client: None,
            uid: None,
            expires_at: Some(clock::rfc3339_seconds(now.saturating_add(LONGEST))),
        };
        self.store().add_token(token, Some(intent.reference()), now).await?;
        Ok(secret)
    }
}
