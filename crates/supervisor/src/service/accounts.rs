//! The farm's own accounts: how a password comes in, changes, and goes. Only where `own_accounts` says that they count:
//! elsewhere the host's do, and those are changed there. What a password is good for is `sign_in`'s.

use super::Service;
use super::sign_in::manages;
use crate::audit::{Act, Actor, Record};
use crate::authn::{Password, hash_password, origin_of};
use crate::caller::Caller;
use crate::clock;
use crate::error::ServiceError;
use crate::events::Event;
use policy::{LoginUser, Principal, Refusal};
use schemars::JsonSchema;
use serde::Deserialize;

const LEAST: usize = 8;

/// What an administrator sends to set somebody's password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPassword {
    #[schemars(with = "String")]
    password: Password,
}

/// What somebody sends to change their own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnPassword {
    #[schemars(with = "String")]
    old: Password,
    #[schemars(with = "String")]
    new: Password,
}

impl Service {
    /// An administrator makes an account, or gives one another password.
    pub(crate) async fn set_password(
        &self,
        caller: &Caller,
        name: &str,
        request: NewPassword,
    ) -> Result<(), ServiceError> {
        caller.needs_admin("set a password without the old one")?;
        manages(&caller.principal)?;
        let name = account_name(name)?;
        self.keeps_accounts(&caller.principal, name.as_str()).await?;
        if let Some(refusal) = self.systems(&name, "no account of the farm is for it").await? {
            return Err(self.refused(&caller.principal, Act::Password, refusal).await);
        }
        self.store_password(&caller.principal, name, request.password).await
    }

    /// Whoever knows their password changes it.
    pub(crate) async fn change_password(
        &self,
        principal: &Principal,
        request: OwnPassword,
    ) -> Result<(), ServiceError> {
        manages(principal)?;
        let name = account_name(principal.login_user.as_str())?;
        self.keeps_accounts(principal, name.as_str()).await?;
        // By the door of everybody who says a password: a stolen session guesses no faster.
        let signed_in = self.sign_in.sign_in(name.as_str(), &request.old, &origin_of(&principal.client)).await;
        self.count_password(signed_in.as_ref().err());
        if let Err(denial) = signed_in {
            let record = Record::refused(Act::Password, Actor::of(principal)).object(name.as_str());
            self.audit.refusal(record.with("rule", denial.rule())).await?;
            return Err(denial.into());
        }
        if request.old == request.new {
            return Err(ServiceError::input("password", "the new one is the old one"));
        }
        self.store_password(principal, name, request.new).await
    }

    /// An administrator takes an account away: nobody signs in by it any more.
    pub(crate) async fn remove_account(&self, caller: &Caller, name: &str) -> Result<(), ServiceError> {
        caller.needs_admin("remove accounts")?;
        manages(&caller.principal)?;
        self.keeps_accounts(&caller.principal, name).await?;
        if self.store.account(name).await?.is_none() {
            return Err(ServiceError::NoSuchAccount(name.to_owned()));
        }
        let record = Record::intent(Act::Password, caller.actor()).object(name).with("removed", true);
        self.ends(record, |audit| self.store.delete_account(name, audit)).await?;
        self.end_all_of(name).await
    }

    async fn store_password(
        &self,
        principal: &Principal,
        name: LoginUser,
        password: Password,
    ) -> Result<(), ServiceError> {
        check(&password, &name)?;
        let hashed = self.workshop.work(principal.login_user.as_str(), move || hash_password(&password)).await;
        let Ok(Ok(hash)) = hashed else {
            return Err(ServiceError::Conflict("the password could not be hashed; nothing was changed".to_owned()));
        };
        let name = name.as_str();
        let intent = self.intent(Record::intent(Act::Password, Actor::of(principal)).object(name)).await?;
        let stored = self.store.put_account(name, &hash, Some(intent.reference()), clock::now()).await;
        self.carried_out(&intent, stored).await?;
        self.end_all_of(name).await
    }

    /// Whoever came in by the old password is out.
    async fn end_all_of(&self, name: &str) -> Result<(), ServiceError> {
        self.room.through(|| self.store.revoke_tokens_of(name, None, clock::now())).await?;
        self.events.say(Event::Rights);
        Ok(())
    }

    async fn keeps_accounts(&self, principal: &Principal, name: &str) -> Result<(), ServiceError> {
        if self.settings.own_accounts {
            return Ok(());
        }
        let refusal = Refusal {
            rule: "own_accounts".into(),
            value: name.escape_debug().to_string(),
            text: "this farm keeps no passwords of its own: those of the supervisor's host count".into(),
            hint:
                "change it where you usually do (`passwd`); own_accounts = true in supervisor.toml would have the farm \
                   keep them instead"
                    .into(),
        };
        Err(self.refused(principal, Act::Password, refusal).await)
    }
}

/// root never signs in.
fn account_name(name: &str) -> Result<LoginUser, ServiceError> {
    match LoginUser::parse(name) {
        Ok(name) if !name.as_str().eq_ignore_ascii_case("root") => Ok(name),
        Ok(_) => Err(ServiceError::input("name", "root doesn't sign in: it has the local socket")),
        Err(error) => Err(ServiceError::input("name", format!("{name:?} is no login name: {error}"))),
    }
}

/// Few rules; what was given is in no answer.
fn check(password: &Password, name: &LoginUser) -> Result<(), ServiceError> {
    let wrong = |problem: String| Err(ServiceError::input("password", problem));
    let text = password.as_str();
    if text.chars().count() < LEAST {
        return wrong(format!("it has to have at least {LEAST} characters"));
    }
    if !password.is_possible() {
        return wrong(format!("it has to have at most {} bytes", Password::MAX));
    }
    if text.chars().any(char::is_control) {
        return wrong("it has a control character".to_owned());
    }
    if text.to_lowercase() == name.as_str().to_lowercase() {
        return wrong("it is the name".to_owned());
    }
    Ok(())
}
