//! The two lists: who may act as another at all, and who may be acted as. Administrators change them.

use super::Service;
use super::people::{holder, manages};
use crate::audit::{Act, Record};
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::events::Event;
use crate::identity::user;
use crate::views::ListedView;
use policy::{Holder, Kind};
use schemars::JsonSchema;
use serde::Deserialize;
use store::List;

/// What an administrator says of somebody in a list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    pub(crate) allowed: bool,
}

impl Service {
    pub(crate) async fn listed(&self, caller: &Caller, list: List) -> Result<Vec<ListedView>, ServiceError> {
        caller.needs_admin("look at who may act as another")?;
        Ok(self.store.listed(list).await?.into_iter().map(ListedView::of).collect())
    }

    /// From now on a list says yes or no of somebody, or nothing any more. It counts from the next question on; what
    /// waits by a right that is gone is held when its turn comes.
    pub(crate) async fn set_listed(
        &self,
        caller: &Caller,
        list: List,
        name: &str,
        allowed: Option<bool>,
    ) -> Result<ListedView, ServiceError> {
        caller.needs_admin("change who may act as another")?;
        manages(&caller.principal)?;
        match (list, allowed) {
            (List::MayAct, Some(true)) => self.could_act(&holder(name)?).await?,
            (List::MayBeActedAs, Some(true)) => self.could_be_acted_as(name).await?,
            // No is always possible.
            (_, Some(false) | None) => {}
        }
        let record = Record::intent(Act::ListChange, caller.actor()).object(name);
        let record = record.with("list", word(list)).with("allowed", allowed);
        let put = |audit| async move {
            match (list, allowed) {
                (list, None) => self.store.unlist(list, name, audit).await.map(drop),
                (List::MayAct, Some(allowed)) => self.store.set_may_act(name, allowed, audit).await,
                (List::MayBeActedAs, Some(allowed)) => self.store.set_may_be_acted_as(name, allowed, audit).await,
            }
        };
        // Only a no surely takes something away: where nothing is said of somebody, their groups count.
        if allowed == Some(false) {
            self.ends(record, put).await?;
        } else {
            let intent = self.intent(record).await?;
            self.carried_out(&intent, put(Some(intent.reference())).await).await?;
        }
        self.events.say(Event::Rights);
        self.dispatcher.wake();
        Ok(ListedView { name: name.to_owned(), allowed, fault: None })
    }

    /// A proxy user acts as nobody, whatever a list says.
    async fn could_act(&self, holder: &Holder) -> Result<(), ServiceError> {
        let Holder::Login(login) = holder else { return Ok(()) };
        match self.kind_of(login.as_str()).await? {
            Some(Kind::Proxy) => {
                Err(ServiceError::input("name", format!("{login} is a proxy user: it acts as nobody")))
            }
            Some(Kind::Login) | None => Ok(()),
        }
    }

    async fn could_be_acted_as(&self, name: &str) -> Result<(), ServiceError> {
        let name = user(name)?;
        match self.kind_of(name.as_str()).await? {
            Some(Kind::Proxy) => Ok(()),
            Some(Kind::Login) | None => {
                let hint = format!("{name} is no proxy user: `stead users add {name} --type proxy` makes it one");
                Err(ServiceError::input("name", hint))
            }
        }
    }

    async fn kind_of(&self, name: &str) -> Result<Option<Kind>, ServiceError> {
        let row = self.store.user(name).await?.and_then(Result::ok);
        Ok(row.and_then(|row| Kind::parse(&row.kind)))
    }
}

fn word(list: List) -> &'static str {
    match list {
        List::MayAct => "may_act",
        List::MayBeActedAs => "may_be_acted_as",
    }
}
