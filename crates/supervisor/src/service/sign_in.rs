//! Sessions and tokens: how they begin and end, and who may look after them. What they are is `authn::tokens`'s.

use super::Service;
use crate::audit::{Act, Actor, Record};
use crate::authn::{AuthnError, Denial, Kind, Password, Peer, Secret, narrower, scope_words, scopes};
use crate::caller::{Asks, Caller};
use crate::clock;
use crate::error::ServiceError;
use crate::events::Event;
use crate::identity::micros;
use crate::oidc::Subject;
use crate::once::Once;
use crate::views::{CredentialView, LoginCodeView, NewCredentialView};
use policy::{LoginUser, Principal, Refusal, Roles, Scopes, User};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use store::{NewToken, NewUser, TokenRow};
use zeroize::Zeroizing;

const NAME_MAX: usize = 100;
/// Characters kept of a name that nobody has proved to have.
const SAID_MAX: usize = 64;
/// Live sessions and tokens of one login user.
const OF_ONE_MAX: usize = 1000;
/// A token's life unless another is asked for.
const TOKEN_DAYS: i64 = 90;
/// How long a code to sign in with is good.
const CODE_LASTS: Duration = Duration::from_secs(120);
const DAY: i64 = 86_400_000_000;

/// What is sent to have a token made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    pub(crate) name: String,
    pub(crate) scopes: Vec<String>,
    /// `30d`, or a time.
    #[serde(default)]
    pub(crate) expires: Option<String>,
}

/// What is sent to sign in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginRequest {
    pub(crate) user: String,
    #[schemars(with = "String")]
    pub(crate) password: Password,
    /// Of the session, for people.
    #[serde(default)]
    pub(crate) name: Option<String>,
}

impl Service {
    /// Somebody signs in with a password, and has a session from then on.
    pub(crate) async fn login(&self, peer: Peer, request: LoginRequest) -> Result<NewCredentialView, ServiceError> {
        let name = request.name.map(named).transpose()?;
        let signed_in = self.sign_in.sign_in(&request.user, &request.password, &peer.origin()).await;
        self.count_password(signed_in.as_ref().err());
        // root administers from the local socket.
        let login_user = match signed_in {
            Ok(login_user) if login_user.as_str() != "root" => login_user,
            Ok(_) => return Err(self.denied(peer, &request.user, Denial::Wrong).await),
            Err(denial) => return Err(self.denied(peer, &request.user, denial).await),
        };
        // The checker knows the host's own; the farm's table may have any name in it.
        if self.settings.own_accounts
            && let Some(refusal) = self.systems(&login_user, "no account of the farm is for it").await?
        {
            // Whoever can't be told from the system's has said no wrong password.
            let denial = if refusal.rule == "directory" { Denial::DirectoryDown } else { Denial::Wrong };
            return Err(self.denied(peer, &request.user, denial).await);
        }
        self.enter(peer, newcomer(login_user, peer, "password"), name, By::Password).await
    }

    /// The refusal, if it is root's or an account of the system's: as those nobody comes in but by the kernel's word.
    pub(super) async fn systems(&self, name: &LoginUser, so: &str) -> Result<Option<Refusal>, ServiceError> {
        let mut people = (*self.identity.people(name.as_str(), None).await?).clone();
        match self.identity.is_system(name.as_str()).await {
            Ok(is_system) => people.is_system = is_system,
            Err(down) => return Ok(Some(down)),
        }
        let is_systems = policy::may_be_proxy(&User::themself(name), &people).is_err();
        Ok(is_systems.then(|| Refusal {
            rule: "system_account".into(),
            value: name.to_string(),
            text: format!("{name} is a system account: {so}"),
            hint: "use the local socket of the supervisor's machine".into(),
        }))
    }

    /// A code by which somebody whom the kernel knows is signed in once, elsewhere on the same machine. Not for whoever
    /// shows a credential: that would outlast it.
    pub(crate) async fn login_code(&self, principal: &Principal) -> Result<LoginCodeView, ServiceError> {
        manages(principal)?;
        let name = &principal.login_user;
        let refusal = |rule: &str, text: String, hint: &str| {
            ServiceError::Refused(Refusal { rule: rule.into(), value: name.to_string(), text, hint: hint.into() })
        };
        if principal.credential.is_some() {
            let text = "a code to sign in with is only for whom the kernel vouches for".to_owned();
            return Err(refusal("login_code", text, "ask on the supervisor's machine, by its socket, without a token"));
        }
        if name.as_str() == "root" {
            let text = "root is nobody in a browser: it administers from the local socket".to_owned();
            let hint =
                "ask as yourself: `runuser -u NAME -- stead web`; an administrator gives roles with `stead users add`";
            return Err(refusal("login_code", text, hint));
        }
        let no_random = |_| ServiceError::input("random", "the system has none");
        let code = self.login_codes.0.put(name.clone()).map_err(no_random)?;
        let url = Zeroizing::new(format!("{}/login/code#{}", self.facts.url, *code));
        Ok(LoginCodeView { url, login_user: name.to_string(), expires_s: CODE_LASTS.as_secs() })
    }

    /// Whoever brings such a code is who asked for it.
    pub(crate) async fn enter_with_code(
        &self,
        peer: Peer,
        code: &str,
        name: &str,
    ) -> Result<NewCredentialView, ServiceError> {
        let Some(login_user) = self.login_codes.0.take(code.trim()) else {
            let actor = Actor { channel: peer.channel().into(), client: Some(peer.client()), ..Actor::default() };
            self.audit
                .refusal(Record::refused(Act::Login, actor).with("rule", "login_code").with("by", "code"))
                .await?;
            return Err(ServiceError::Refused(Refusal {
                rule: "login_code".into(),
                value: String::new(),
                text: "this code was used already, is too old, or was never one".into(),
                hint: "ask for a new one: `stead web`".into(),
            }));
        };
        self.enter(peer, newcomer(login_user, peer, "one-time code"), Some(named(name.to_owned())?), By::Code).await
    }

    pub(super) fn count_password(&self, denial: Option<&Denial>) {
        self.metrics.passwords.count(denial.map_or("ok", Denial::rule));
    }

    /// Somebody who has proved who they are has a session, if they may.
    pub(super) async fn enter(
        &self,
        peer: Peer,
        mut principal: Principal,
        name: Option<String>,
        by: By,
    ) -> Result<NewCredentialView, ServiceError> {
        match self.admit(&mut principal).await {
            Err(ServiceError::Refused(refusal)) => return Err(self.refused(&principal, Act::Login, refusal).await),
            admitted => admitted?,
        }
        self.know(&principal).await?;
        let now = clock::now();
        let lasts = i64::try_from(self.settings.session_max_days).unwrap_or(0).saturating_mul(DAY);
        let until = now.saturating_add(lasts);
        let uid = peer.account();
        let new = Fresh { kind: Kind::Session, scopes: Scopes::ALL, name, until, by: Some(by), uid };
        self.begin(&principal, new, Act::Login, now).await
    }

    /// Writes down that somebody didn't sign in. Who they said they were is only what they said.
    async fn denied(&self, peer: Peer, said: &str, denial: Denial) -> ServiceError {
        let said: String = said.chars().take(SAID_MAX).collect();
        let actor = Actor { channel: peer.channel().into(), client: Some(peer.client()), ..Actor::default() };
        let record = Record::refused(Act::Login, actor).object(&said).with("rule", denial.rule());
        match self.audit.refusal(record).await {
            Ok(()) => denial.into(),
            Err(error) => error.into(),
        }
    }

    /// Writes down that a process of a job, or what may be one, wanted to be more than its job.
    pub(crate) async fn nobody(&self, peer: Peer, error: &AuthnError) -> Result<(), ServiceError> {
        let job = match error {
            AuthnError::InSession(job) => Some(*job),
            AuthnError::InOtherSession
            | AuthnError::PeerGone
            | AuthnError::PeerUnseen
            | AuthnError::OthersSession { .. } => None,
            _ => return Ok(()),
        };
        let actor = Actor { channel: peer.channel().into(), client: Some(peer.client()), ..Actor::default() };
        let record = Record::refused(Act::Login, actor).with("rule", error.rule());
        let record = match error {
            AuthnError::OthersSession { login_user } => record.object(login_user),
            _ => record,
        };
        let record = job.into_iter().fold(record, Record::job);
        Ok(self.audit.refusal(record).await?)
    }

    /// Whoever signs in for the first time has a row from then on, which gives nothing. A proxy user who has one may be
    /// kept from signing in.
    async fn know(&self, principal: &Principal) -> Result<(), ServiceError> {
        let name = principal.login_user.as_str();
        let people = self.identity.people(name, None).await?;
        match &people.login {
            Some(person) if person.kind == policy::Kind::Proxy && !self.settings.proxy_users_sign_in => {
                let refusal = Refusal {
                    rule: "proxy_users_sign_in".into(),
                    value: name.to_owned(),
                    text: format!("{name} is a proxy user, and those don't sign in here"),
                    hint: "sign in as yourself, and act as it: `stead as`".into(),
                };
                Err(self.refused(principal, Act::Login, refusal).await)
            }
            Some(_) => Ok(()),
            None => {
                let record = Record::intent(Act::UserCreate, Actor::of(principal)).object(name);
                let intent = self.intent(record).await?;
                let user = NewUser {
                    name: name.to_owned(),
                    kind: "login".to_owned(),
                    created_by: Some(name.to_owned()),
                    ..NewUser::default()
                };
                self.store.add_user(user, Some(intent.reference()), clock::now()).await?;
                Ok(())
            }
        }
    }

    /// The sessions or tokens of somebody: one's own, or anybody's for an administrator.
    pub(crate) async fn credentials(
        &self,
        principal: &Principal,
        kind: Kind,
        user: Option<&str>,
    ) -> Result<Vec<CredentialView>, ServiceError> {
        manages(principal)?;
        let own = principal.login_user.as_str();
        let user = user.unwrap_or(own);
        if user != own && !self.looks_after_all(principal).await? {
            return Err(ServiceError::AdminOnly("see the sessions and tokens of others"));
        }
        let now = clock::now();
        let rows = self.store.tokens(user).await?.into_iter().filter_map(Result::ok);
        let rows = rows.filter(|row| row.kind == kind.as_str() && is_open(row, now));
        Ok(rows.map(|row| CredentialView::new(&row, principal.credential)).collect())
    }

    /// The credential that a request showed.
    pub(crate) async fn shown(&self, principal: &Principal) -> Result<Option<CredentialView>, ServiceError> {
        let Some(id) = principal.credential else { return Ok(None) };
        let row = self.store.token(id).await?.and_then(Result::ok);
        Ok(row.map(|row| CredentialView::new(&row, principal.credential)))
    }

    /// Somebody ends a session or a token.
    pub(crate) async fn end_credential(&self, principal: &Principal, kind: Kind, id: &str) -> Result<(), ServiceError> {
        manages(principal)?;
        let none = || ServiceError::NoSuchCredential { kind: kind.as_str(), id: id.escape_debug().to_string() };
        let number: u64 = id.parse().map_err(|_| none())?;
        let row = self.store.token(number).await?.and_then(Result::ok).ok_or_else(none)?;
        let is_own = row.login_user == principal.login_user.as_str();
        if row.kind != kind.as_str() || !(is_own || self.looks_after_all(principal).await?) {
            return Err(none());
        }
        let act = match kind {
            Kind::Session => Act::SessionRevoke,
            Kind::Token | Kind::Job => Act::TokenRevoke,
        };
        self.revoke(principal, act, &row).await
    }

    /// Of whoever has just signed in, ends the sessions of this name that were not used for the longest time, but for so
    /// many: programs that sign in for every question would otherwise soon have as many as one may. Says their roles.
    pub(crate) async fn retire(
        &self,
        made: &NewCredentialView,
        peer: Peer,
        (name, keep): (&str, usize),
    ) -> Result<Roles, ServiceError> {
        let login_user = LoginUser::parse(&made.login_user).map_err(|e| ServiceError::input("user", e))?;
        let mut principal = Principal { credential: Some(made.id), ..newcomer(login_user, peer, "password") };
        self.admit(&mut principal).await?;
        let principal = &principal;
        let now = clock::now();
        let rows = self.store.tokens(principal.login_user.as_str()).await?.into_iter().filter_map(Result::ok);
        let is_such = |row: &TokenRow| row.kind == Kind::Session.as_str() && row.name.as_deref() == Some(name);
        let mut rows: Vec<TokenRow> = rows.filter(|row| is_such(row) && is_open(row, now)).collect();
        let used = |row: &TokenRow| row.last_used_at.clone().max(row.created_at.clone());
        rows.sort_by_key(|row| (used(row), row.id));
        for row in rows.iter().take(rows.len().saturating_sub(keep)) {
            self.revoke(principal, Act::SessionRevoke, row).await?;
        }
        Ok(principal.roles)
    }

    /// The session that was shown ends.
    pub(crate) async fn logout(&self, principal: &Principal) -> Result<Option<u64>, ServiceError> {
        let Some(id) = principal.credential else { return Ok(None) };
        match self.store.token(id).await?.and_then(Result::ok) {
            Some(row) if row.kind == Kind::Session.as_str() => {
                self.revoke(principal, Act::Logout, &row).await?;
                Ok(Some(id))
            }
            _ => Err(ServiceError::input("logout", "this is a token, not a session: `stead tokens revoke` ends it")),
        }
    }

    async fn revoke(&self, principal: &Principal, act: Act, row: &TokenRow) -> Result<(), ServiceError> {
        let record = Record::intent(act, Actor::of(principal)).object(&row.login_user).with("credential", row.id);
        self.ends(record, |audit| self.store.revoke_token(row.id, None, audit, clock::now())).await?;
        self.events.say(Event::Rights);
        Ok(())
    }

    /// A token for scripts: never good for more, nor, by a token, for longer than what it was made with.
    pub(crate) async fn make_token(
        &self,
        principal: &Principal,
        request: TokenRequest,
    ) -> Result<NewCredentialView, ServiceError> {
        manages(principal)?;
        let now = clock::now();
        let name = named(request.name)?;
        let asked = scopes(&request.scopes.join(",")).map_err(|e| ServiceError::input("scopes", e))?;
        if narrower(asked, principal.scopes) != asked {
            return Err(ServiceError::Scope("of all that the token is to have"));
        }
        let until = self.until(request.expires.as_deref(), now)?;
        let until = match self.shown(principal).await? {
            Some(maker) if maker.kind == Kind::Token.as_str() => {
                maker.expires_at.as_deref().and_then(|at| micros(at).ok()).map_or(now, |at| at.min(until))
            }
            _ => until,
        };
        let new = Fresh { kind: Kind::Token, scopes: asked, name: Some(name), until, by: None, uid: None };
        self.begin(principal, new, Act::TokenCreate, now).await
    }

    /// Makes, records and keeps a credential of the principal's.
    async fn begin(
        &self,
        principal: &Principal,
        new: Fresh,
        act: Act,
        now: i64,
    ) -> Result<NewCredentialView, ServiceError> {
        let login_user = principal.login_user.as_str();
        let others = self.store.tokens(login_user).await?;
        let open = others.iter().filter(|row| row.as_ref().is_ok_and(|row| row.job.is_none() && is_open(row, now)));
        if open.count() >= OF_ONE_MAX {
            return Err(ServiceError::Refused(Refusal {
                rule: "credentials_max".into(),
                value: OF_ONE_MAX.to_string(),
                text: format!("{login_user} has {OF_ONE_MAX} sessions and tokens already"),
                hint: "end some: `stead sessions revoke`, `stead tokens revoke`".into(),
            }));
        }
        let secret = Secret::new(new.kind).map_err(|_| ServiceError::input("random", "the system has none"))?;
        let words = scope_words(new.scopes).join(",");
        let expires_at = clock::rfc3339_seconds(new.until);
        let record = Record::intent(act, Actor::of(principal))
            .with("name", &new.name)
            .with("scopes", &words)
            .with("expires_at", &expires_at)
            .with("by", new.by.as_ref().and_then(By::word))
            .with("issuer", new.by.as_ref().and_then(By::subject).map(|s| &s.issuer))
            .with("subject", new.by.as_ref().and_then(By::subject).map(|s| &s.subject));
        let intent = self.intent(record).await?;
        let row = NewToken {
            hash: secret.hash(),
            kind: new.kind.as_str().to_owned(),
            login_user: login_user.to_owned(),
            name: new.name,
            scopes: Some(words),
            acting_as: None,
            job: None,
            session: None,
            client: Some(principal.client.clone()),
            uid: new.uid,
            expires_at: Some(expires_at.clone()),
        };
        let id = self.store.add_token(row, Some(intent.reference()), now).await?;
        Ok(NewCredentialView { id, token: secret.reveal(), login_user: login_user.to_owned(), expires_at })
    }

    fn until(&self, expires: Option<&str>, now: i64) -> Result<i64, ServiceError> {
        let days = self.settings.token_max_days;
        let most = i64::try_from(days).unwrap_or(0).saturating_mul(DAY);
        let Some(text) = expires else { return Ok(now + most.min(TOKEN_DAYS * DAY)) };
        let too_long = || {
            ServiceError::Refused(Refusal {
                rule: "token_lifetime".into(),
                value: text.escape_debug().to_string(),
                text: format!("a token lasts at most {days} days here"),
                hint: "give a shorter time, such as 90d (the default); token_max_days of supervisor.toml is the limit"
                    .into(),
            })
        };
        if matches!(text, "never" | "none" | "forever") {
            return Err(too_long());
        }
        let until = match job::parse_duration(text) {
            Ok(seconds) => now.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)),
            Err(_) => micros(text).map_err(|_| {
                ServiceError::input("expires", format!("{text:?} is neither like 30d nor like 2026-11-30T18:00:00Z"))
            })?,
        };
        match until {
            until if until <= now => Err(ServiceError::input("expires", format!("{text:?} is over already"))),
            until if until > now.saturating_add(most) => Err(too_long()),
            until => Ok(until),
        }
    }

    /// An administrator, and as oneself.
    async fn looks_after_all(&self, principal: &Principal) -> Result<bool, ServiceError> {
        if !principal.roles.admin {
            return Ok(false);
        }
        match Caller::new(&self.identity, principal.clone(), Asks::Nothing).await {
            Ok(caller) => Ok(caller.is_admin()),
            Err(ServiceError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A credential that is about to be made.
struct Fresh {
    kind: Kind,
    scopes: Scopes,
    name: Option<String>,
    until: i64,
    /// How they proved who they are.
    by: Option<By>,
    /// The account of this machine that made a session.
    uid: Option<u32>,
}

/// How somebody proved who they are.
#[derive(Debug)]
pub(super) enum By {
    Password,
    /// A code that a program of theirs was given.
    Code,
    /// A provider vouched for them.
    Provider(Subject),
}

impl By {
    /// For the record, where it is not a password.
    const fn word(&self) -> Option<&'static str> {
        match self {
            Self::Password => None,
            Self::Code => Some("code"),
            Self::Provider(_) => Some("oidc"),
        }
    }

    const fn subject(&self) -> Option<&Subject> {
        match self {
            Self::Provider(subject) => Some(subject),
            Self::Password | Self::Code => None,
        }
    }
}

/// Codes that sign somebody in once, in memory only.
#[derive(Debug, Clone)]
pub(crate) struct LoginCodes(Arc<Once<LoginUser>>);

impl Default for LoginCodes {
    fn default() -> Self {
        Self(Arc::new(Once::new(CODE_LASTS)))
    }
}

/// Somebody who has just proved who they are.
pub(super) fn newcomer(login_user: LoginUser, peer: Peer, source: &str) -> Principal {
    Principal {
        login_user,
        uid: None,
        roles: Roles::default(),
        is_operator: false,
        channel: peer.channel(),
        client: peer.client(),
        credential: None,
        scopes: Scopes::ALL,
        source: source.to_owned(),
    }
}

/// One's own credentials are looked after with all of one's rights.
pub(super) fn manages(principal: &Principal) -> Result<(), ServiceError> {
    if principal.scopes.manage { Ok(()) } else { Err(ServiceError::Scope("manage")) }
}

/// It was not ended, and its time isn't over.
fn is_open(row: &TokenRow, now: i64) -> bool {
    let until = row.expires_at.as_deref().and_then(|at| micros(at).ok());
    row.revoked_at.is_none() && until.is_some_and(|until| now < until)
}

pub(super) fn named(name: String) -> Result<String, ServiceError> {
    match name.chars().count() {
        1..=NAME_MAX if !name.chars().any(char::is_control) => Ok(name),
        _ => Err(ServiceError::input("name", format!("it has to have 1 to {NAME_MAX} printable characters"))),
    }
}
