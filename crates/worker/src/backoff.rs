//! Waiting longer after each failure, and saying so only when it starts.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    complained: bool,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST, complained: false }
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Calls `say` once per row of failures that lasts.
    pub(crate) fn complain(&mut self, say: impl FnOnce()) {
        // A restart of the other side takes a moment and is no news.
        if !self.complained && self.next > Duration::from_millis(500) {
            self.complained = true;
            say();
        }
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.step()).await;
    }

    fn step(&mut self) -> Duration {
        let now = self.next;
        self.next = (self.next * 2).min(LONGEST);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_complaints_come_once() {
        let mut backoff = Backoff::new();
        let mut waits = Vec::new();
        let mut complaints = 0;
        for _ in 0..9 {
            backoff.complain(|| complaints += 1);
            waits.push(u64::try_from(backoff.step().as_millis()).expect("short"));
        }
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        assert_eq!(complaints, 1);
        backoff.reset();
        assert_eq!(backoff.step(), FIRST);
    }
}
