//! How often a session's spool is brought: at once while little happens, together while much does.
//!
//! Each piece that is brought costs the supervisor a transaction and the disk a sync, however little is in it. So a
//! session has a few pieces to spend that go without delay (a start, a first line, an end), and gets a new one every
//! few milliseconds. It knows nothing of what is brought.

use std::time::Duration;
use tokio::time::Instant;

/// Pieces that go at once.
const SPARE: u32 = 4;
/// A new one every so often; the most that a report waits because of this.
const EVERY: Duration = Duration::from_millis(8);

#[derive(Debug)]
pub(crate) struct Pace {
    spare: u32,
    since: Instant,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { spare: SPARE, since: Instant::now() }
    }

    /// Takes a piece if there is one; otherwise says when there will be.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let gained = now.saturating_duration_since(self.since).as_nanos() / EVERY.as_nanos();
        let gained = u32::try_from(gained).unwrap_or(SPARE).min(SPARE);
        if self.spare + gained >= SPARE {
            (self.spare, self.since) = (SPARE, now);
        } else {
            self.spare += gained;
            self.since += EVERY * gained;
        }
        if self.spare == 0 {
            return Err(self.since + EVERY);
        }
        self.spare -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_go_at_once_and_then_one_at_a_time() {
        let mut pace = Pace::new();
        let start = pace.since;
        for _ in 0..SPARE {
            assert_eq!(pace.take(start), Ok(()));
        }
        assert_eq!(pace.take(start), Err(start + EVERY));
        assert_eq!(pace.take(start + EVERY / 2), Err(start + EVERY));
        assert_eq!(pace.take(start + EVERY), Ok(()));
        assert_eq!(pace.take(start + EVERY), Err(start + EVERY * 2));
    }

    #[test]
    fn what_was_not_spent_does_not_pile_up() {
        let mut pace = Pace::new();
        let later = pace.since + Duration::from_secs(3600);
        for _ in 0..SPARE {
            assert_eq!(pace.take(later), Ok(()));
        }
        assert_eq!(pace.take(later), Err(later + EVERY));
    }
}
