//! The list of those who may run a desktop worker changes while their workers are here.

use super::{DispatchError, Dispatcher};
use crate::audit::{Act, Record};
use crate::desks::Desks;
use wire::ToWorker;

/// What the list was when it was last put on record.
const KNOWN: &str = "desktop_owners";

impl Dispatcher {
    /// Sends away whom the list does not take any more, and has each change of it on record.
    pub(super) async fn follow_desks(&self) -> Result<(), DispatchError> {
        // Also when it is as it was: it may have been another in between, and somebody come by that.
        self.send_away_unlisted();
        self.record_desks().await
    }

    /// Before anybody comes by it, too.
    pub(super) async fn record_desks(&self) -> Result<(), DispatchError> {
        let mut recorded = self.0.desks.lock().await;
        let desks = self.0.doorkeeper.desks().unwrap_or_else(|error| {
            tracing::warn!("no desktop worker is taken: {error}");
            Desks::default()
        });
        if recorded.as_ref() == Some(&desks) {
            return Ok(());
        }
        let now = desks.lines();
        if self.store().meta(KNOWN).await?.unwrap_or_default() != now {
            self.0.audit.write(Record::new(Act::DesktopOwners).with("owners", &now)).await?;
            self.store().set_meta(KNOWN, &now).await?;
        }
        *recorded = Some(desks);
        Ok(())
    }

    fn send_away_unlisted(&self) {
        let workers: Vec<_> = {
            let farm = self.farm();
            farm.workers
                .iter()
                .map(|(name, w)| (name.clone(), w.connection, w.hello.clone(), w.outbox.clone()))
                .collect()
        };
        for (name, connection, hello, outbox) in workers.into_iter().filter(|(_, _, h, _)| h.mode == "desktop") {
            let uid = hello.owner.as_ref().map_or(0, |owner| owner.uid);
            // It was free when it came.
            if let Err(refused) = self.0.doorkeeper.check(&hello, uid, true) {
                tracing::warn!(worker = name, "desktop worker is sent away: {refused}");
                outbox.send(&ToWorker::Refused { reason: refused.to_string() }, &[]);
                self.goodbye(&name, connection);
            }
        }
    }
}
