//! Work that may cost seconds: plans with a template's expressions, looks through long logs. It happens on threads of its
//! own, so many at a time, and one at a time for each person: nobody keeps the others waiting.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// People remembered; those that wait for nothing are forgotten beyond it.
const PEOPLE: usize = 1024;

/// Clones are the same workshop.
#[derive(Debug, Clone)]
pub(crate) struct Workshop {
    benches: Arc<Semaphore>,
    turns: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// The work broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupted;

/// Whether whoever wanted the work has gone away.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gone(Arc<AtomicBool>);

impl Gone {
    pub(crate) fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Says so when it is dropped.
struct Wanted(Gone);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Workshop {
    /// As many at a time as there are cores, times so many.
    pub(crate) fn new(per_core: usize) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
        Self { benches: Arc::new(Semaphore::new(threads * per_core)), turns: Arc::default() }
    }

    /// Carries `work` out for a person, when it is their turn.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        person: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Interrupted> {
        self.work_while_wanted(person, |_| work()).await
    }

    /// The same with work that looks now and then whether it is still wanted.
    pub(crate) async fn work_while_wanted<T: Send + 'static>(
        &self,
        person: &str,
        work: impl FnOnce(&Gone) -> T + Send + 'static,
    ) -> Result<T, Interrupted> {
        let turn = self.turn(person).acquire_owned().await.map_err(|_| Interrupted)?;
        let bench = self.benches.clone().acquire_owned().await.map_err(|_| Interrupted)?;
        // Who has gone away meanwhile doesn't make room for more: the work itself holds its place.
        let gone = Gone::default();
        let _wanted = Wanted(gone.clone());
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&gone);
            drop((turn, bench));
            done
        });
        done.await.map_err(|_| Interrupted)
    }

    fn turn(&self, person: &str) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() >= PEOPLE {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        turns.entry(person.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[tokio::test]
    async fn one_person_leaves_room_for_others() {
        let workshop = Workshop::new(1);
        let (go_on, wait) = channel::<()>();
        let busy = workshop.clone();
        let first = tokio::spawn(async move { busy.work("ada", move || wait.recv().is_err()).await });
        while workshop.turn("ada").available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let mut second = std::pin::pin!(workshop.work("ada", || 2));
        let early = tokio::time::timeout(Duration::from_millis(50), second.as_mut()).await;
        assert!(early.is_err(), "ada's second waits for her first");
        assert_eq!(workshop.work("bob", || 3).await, Ok(3));
        drop(go_on);
        assert_eq!(first.await.expect("joined"), Ok(true));
        assert_eq!(second.await, Ok(2));
        let (to_us, told) = channel::<()>();
        let watching = workshop.work_while_wanted("eve", move |gone| {
            while !gone.is() {
                std::thread::yield_now();
            }
            drop(to_us);
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), watching).await.is_err(), "nobody wants it any more");
        let ended = tokio::task::spawn_blocking(move || told.recv_timeout(Duration::from_secs(20)));
        let ended = ended.await.expect("joined").expect_err("nothing is said");
        assert_eq!(ended, std::sync::mpsc::RecvTimeoutError::Disconnected, "so it ends");
        assert_eq!(workshop.work("eve", || panic!("broken")).await, Err::<(), _>(Interrupted));
    }
}
