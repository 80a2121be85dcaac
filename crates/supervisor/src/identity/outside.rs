//! What others than the supervisor did to the tables of who may act as whom: on record before anything is decided by it.
//! It keeps nobody from editing rows, which is allowed. A change of a grant goes on record where it is first used, with
//! the whole row; here it only loses a seal that it may have from before.

use super::Identity;
use crate::audit::{Act, Record};
use std::collections::BTreeMap;
use store::{Outside, StoreError};

/// Changes that are looked at together.
const AT_ONCE: u32 = 1000;
/// Changes of one kind among them that have a record each; of more there is one of them all.
const EACH: usize = 20;

impl Identity {
    /// Until nothing is left that nobody has recorded. What can't be recorded now (then it says so, by `false`) is tried
    /// again at the next question.
    pub(super) async fn settle(&self) -> Result<bool, StoreError> {
        let _one = self.0.settling.lock().await;
        loop {
            let changes = self.0.store.outside(AT_ONCE).await?;
            let Some(last) = changes.last().map(|change| change.n) else { return Ok(true) };
            let put_back = self.put_back(&changes).await?;
            let recorded = self.record(&changes).await;
            let settled = if recorded.is_ok() { last } else { 0 };
            self.0.store.settle_outside(settled, put_back).await?;
            if let Err(error) = recorded {
                tracing::error!(%error, "changes from outside are not on record");
                return Ok(false);
            }
        }
    }

    /// Grants that were changed to what the supervisor had written before.
    async fn put_back(&self, changes: &[Outside]) -> Result<Vec<u64>, StoreError> {
        let mut found = Vec::new();
        for change in changes.iter().filter(|c| c.table == "grants" && c.differs && c.sealed) {
            let Ok(id) = change.row.parse() else { continue };
            let row = self.0.store.grant(id).await?;
            if row.and_then(Result::ok).is_some_and(|row| self.0.seal.holds(&row)) {
                found.push(id);
            }
        }
        Ok(found)
    }

    async fn record(&self, changes: &[Outside]) -> Result<(), crate::audit::AuditError> {
        let mut kinds: BTreeMap<(&str, &str), Vec<&Outside>> = BTreeMap::new();
        for change in changes.iter().filter(|c| c.differs) {
            // What is gone can't be used.
            if change.table != "grants" || change.op == "delete" {
                kinds.entry((&change.table, &change.op)).or_default().push(change);
            }
        }
        for ((table, op), changes) in kinds {
            if changes.len() > EACH {
                let rows: Vec<&str> = changes.iter().take(EACH).map(|c| c.row.as_str()).collect();
                let record = changed(table, op).with("count", changes.len()).with("first", rows);
                self.0.audit.write(record).await?;
                continue;
            }
            for change in changes {
                let record = changed(table, op).with("row", &change.row);
                let record = record.with("before", &change.before).with("after", &change.after);
                self.0.audit.write(record).await?;
            }
        }
        Ok(())
    }
}

fn changed(table: &str, op: &str) -> Record {
    Record::new(Act::ChangedOutside).with("table", table).with("op", op)
}
