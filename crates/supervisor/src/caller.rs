//! Who a request comes from, and as whom it acts. Made once per request; asked again while an answer goes on.

use crate::audit::Actor;
use crate::authn::Authn;
use crate::error::ServiceError;
use crate::identity::Identity;
use policy::{Acting, Ask, Principal, User, Viewer};

/// What a request says of whom it acts as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asks {
    Nothing,
    Named(String),
    /// Its credential was made for this user.
    Bound(User),
}

impl Asks {
    /// Whom it names.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Nothing => None,
            Self::Named(name) => Some(name),
            Self::Bound(user) => Some(user.as_str()),
        }
    }

    fn as_ask(&self) -> Ask<'_> {
        match self {
            Self::Nothing => Ask::Nothing,
            Self::Named(name) => Ask::Named(name),
            Self::Bound(user) => Ask::Bound(user),
        }
    }
}

/// The eyes and hands of a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) asks: Asks,
    pub(crate) acting: Option<Acting>,
}

impl Caller {
    pub(crate) async fn new(identity: &Identity, principal: Principal, asks: Asks) -> Result<Self, ServiceError> {
        let acting = identity.acting(&principal, asks.as_ask()).await?;
        Ok(Self { principal, asks, acting })
    }

    /// Whether it may still go on as it began: asked while a stream is open.
    pub(crate) async fn is_still(&self, identity: &Identity, authn: &Authn) -> bool {
        if !authn.is_still(&self.principal).await || !self.is_still_admitted(identity).await {
            return false;
        }
        match identity.acting(&self.principal, self.asks.as_ask()).await {
            // By another grant, but for the same jobs, is the same.
            Ok(acting) => acting.map(|a| (a.user, a.jobs)) == self.acting.clone().map(|a| (a.user, a.jobs)),
            Err(_) => false,
        }
    }

    /// Not disabled since, and with the same roles.
    async fn is_still_admitted(&self, identity: &Identity) -> bool {
        let Ok(people) = identity.people(self.principal.login_user.as_str(), None).await else { return false };
        policy::admit(&self.principal, &people).is_ok_and(|roles| roles == self.principal.roles)
    }

    pub(crate) fn viewer(&self) -> Viewer<'_> {
        Viewer { principal: &self.principal, acting: self.acting.as_ref(), is_bound: self.is_bound() }
    }

    /// Its credential is for one user alone, and then for what is that user's.
    pub(crate) fn is_bound(&self) -> bool {
        matches!(self.asks, Asks::Bound(_))
    }

    /// Who it is, for the record.
    pub(crate) fn actor(&self) -> Actor {
        let actor = Actor::of(&self.principal);
        match &self.acting {
            Some(acting) => Actor { grant: Some(acting.grant), ..actor.for_user(acting.user.as_str()) },
            None => actor,
        }
    }

    /// An administrator, and as oneself.
    pub(crate) fn is_admin(&self) -> bool {
        self.principal.roles.admin && self.acting.is_none() && !self.is_bound()
    }

    /// May read the audit, as oneself and with a credential that is good for what needs a role.
    pub(crate) fn is_auditor(&self) -> bool {
        let roles = self.principal.roles;
        (roles.auditor || roles.admin) && self.principal.scopes.manage && self.acting.is_none() && !self.is_bound()
    }

    pub(crate) fn needs_admin(&self, what: &'static str) -> Result<(), ServiceError> {
        if self.is_admin() { Ok(()) } else { Err(ServiceError::AdminOnly(what)) }
    }

    pub(crate) fn needs(&self, has: bool, scope: &'static str) -> Result<(), ServiceError> {
        if has { Ok(()) } else { Err(ServiceError::Scope(scope)) }
    }
}
