//! One submission of a request id at a time: what is sent twice at once is one act, and one record.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OwnedMutexGuard;

type Key = (String, String);

/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Submitting(Arc<Mutex<HashMap<Key, Weak<tokio::sync::Mutex<()>>>>>);

impl Submitting {
    /// Waits until nobody else submits that. Until the turn is dropped nobody else does.
    pub(super) async fn turn(&self, login_user: &str, request: &str) -> OwnedMutexGuard<()> {
        let key = (login_user.to_owned(), request.to_owned());
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&key).and_then(Weak::upgrade);
            let turn = known.unwrap_or_default();
            turns.insert(key, Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}
