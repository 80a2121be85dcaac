//! Who a process is that a session holds and that shows no credential. Its uid is the one the job runs under, and says
//! nothing of who asks: the job may be anybody's who may act as that user, or anybody's at all under a shared account.
//! Only of a job that its account submitted as itself is it the same person; and then it is what the token of that
//! job would be, no more: whoever has a credential to submit, and no other, must not get all rights by submitting.

use super::peer::Held;
use super::tokens::Credentials;
use super::{Authn, AuthnError, Known};
use policy::{Channel, LoginUser, Principal, Roles, Scopes, User};
use store::{SessionRow, StoreError};

impl Authn {
    pub(super) async fn inside(&self, uid: u32, held: Held) -> Result<Known, AuthnError> {
        let Some(credentials) = &self.credentials else { return Err(AuthnError::InOtherSession) };
        let session = credentials.session_of(held).await.map_err(super::tokens::unreadable)?;
        // What is left of one that is over is nobody's any more.
        let session = session.filter(|s| s.state.is_alive()).ok_or(AuthnError::InOtherSession)?;
        // root's too: a program of a job became it.
        let login_user = if uid == 0 { None } else { self.login_user(uid).await.ok() };
        let login_user = login_user.filter(|name| is_own(&session, name)).ok_or(AuthnError::InSession(session.job))?;
        let job = session.job;
        let bound = Some(User::themself(&login_user));
        let principal = Principal {
            login_user,
            uid: Some(uid),
            roles: Roles::default(),
            is_operator: false,
            channel: Channel::Session,
            client: format!("uid {uid}, job {job}"),
            credential: None,
            scopes: Scopes::JOB,
            source: format!("unix socket, uid {uid}, in job {job} of its own"),
        };
        Ok(Known { principal, bound })
    }
}

/// Whoever has the account submitted the job, as themself, to run under that account.
fn is_own(session: &SessionRow, name: &LoginUser) -> bool {
    [&session.login_user, &session.user, &session.account].into_iter().all(|n| n == name.as_str())
}

impl Credentials {
    /// The session of this farm that holds a process. Its number alone could be that of another farm's on the host.
    async fn session_of(&self, held: Held) -> Result<Option<SessionRow>, StoreError> {
        let (Some(launcher), Some(session)) = (held.launcher, held.session) else { return Ok(None) };
        let Some(row) = self.store().session(session).await? else { return Ok(None) };
        let key = crate::dispatch::pinned_key(self.store(), &row.worker).await?;
        Ok(Some(row).filter(|_| key.is_some_and(|key| key.id() == launcher)))
    }
}
