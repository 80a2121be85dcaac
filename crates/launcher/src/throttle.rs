//! How often the checker may be asked: a supervisor that is not ours any more can't guess passwords through it.
//!
//! Wrong answers cost; right ones cost nothing. After a few wrong answers a name has to wait, each time twice as long
//! and never longer than half a minute, so nobody is locked out for ever by somebody else's guessing. All names
//! together have a bucket. Kept in memory: a restart forgets it, and only root restarts the checker.

use std::collections::BTreeMap;

/// Wrong answers without a wait.
const FREE: u32 = 3;
const FIRST_WAIT_MS: u64 = 1000;
const LONGEST_WAIT_MS: u64 = 30_000;
/// A name that was quiet for so long begins anew.
const FORGET_MS: u64 = 600_000;
/// All names together: this many at once, then one per interval.
const BURST: u64 = 120;
const INTERVAL_MS: u64 = 500;

#[derive(Debug, Default)]
pub(crate) struct Throttle {
    names: BTreeMap<String, Guesses>,
    /// When the bucket is full again.
    full_at: u64,
}

#[derive(Debug, Clone, Copy)]
struct Guesses {
    wrong: u32,
    not_before: u64,
    last: u64,
}

/// What an answer says about guessing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guess {
    Right,
    Wrong,
    /// Nobody could tell.
    Unknown,
}

impl Throttle {
    /// Takes the price of a wrong answer in advance, so that questions asked at once are no way around it. `Err`: the
    /// ms to wait.
    pub(crate) fn admit(&mut self, name: &str, now: u64) -> Result<(), u64> {
        self.names.retain(|_, g| now.saturating_sub(g.last) < FORGET_MS);
        let known = self.names.get(name).copied();
        if let Some(wait) = known.and_then(|g| g.not_before.checked_sub(now)).filter(|ms| *ms > 0) {
            return Err(wait);
        }
        let full_at = self.full_at.max(now);
        if let Some(wait) = (full_at - now).checked_sub((BURST - 1) * INTERVAL_MS).filter(|ms| *ms > 0) {
            return Err(wait);
        }
        self.full_at = full_at.saturating_add(INTERVAL_MS);
        let wrong = known.map_or(0, |g| g.wrong).saturating_add(1);
        // The bucket bounds how many names there can be within the time they are kept.
        self.names.insert(name.to_owned(), Guesses { wrong, not_before: now.saturating_add(wait(wrong)), last: now });
        Ok(())
    }

    /// Gives back what an answer did not cost.
    pub(crate) fn settle(&mut self, name: &str, guess: Guess, now: u64) {
        if guess != Guess::Wrong {
            self.full_at = self.full_at.saturating_sub(INTERVAL_MS);
        }
        match guess {
            Guess::Right => drop(self.names.remove(name)),
            Guess::Wrong => {
                if let Some(g) = self.names.get_mut(name) {
                    (g.not_before, g.last) = (now.saturating_add(wait(g.wrong)), now);
                }
            }
            Guess::Unknown => {
                if let Some(g) = self.names.get_mut(name) {
                    g.wrong = g.wrong.saturating_sub(1);
                    g.not_before = now;
                }
                // It was not paid for, so it may not take room.
                self.names.retain(|_, g| g.wrong > 0);
            }
        }
    }
}

fn wait(wrong: u32) -> u64 {
    match wrong.checked_sub(FREE + 1) {
        None => 0,
        Some(doublings) => FIRST_WAIT_MS.checked_shl(doublings.min(16)).unwrap_or(LONGEST_WAIT_MS).min(LONGEST_WAIT_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks and gets a wrong answer, waiting as told; the waits.
    fn guess(throttle: &mut Throttle, name: &str, now: &mut u64, times: usize) -> Vec<u64> {
        let mut waits = Vec::new();
        while waits.len() < times {
            let wait = match throttle.admit(name, *now) {
                Ok(()) => 0,
                Err(wait) => {
                    *now += wait;
                    throttle.admit(name, *now).expect("the wait is over");
                    wait
                }
            };
            throttle.settle(name, Guess::Wrong, *now);
            waits.push(wait);
        }
        waits
    }

    #[test]
    fn wrong_answers_make_a_name_wait_longer_and_never_for_ever() {
        let (mut throttle, mut now) = (Throttle::default(), 1_000_000);
        let waits = guess(&mut throttle, "ada", &mut now, 12);
        assert_eq!(waits, [0, 0, 0, 0, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(throttle.admit("bob", now), Ok(()), "bob is not ada");
        now += LONGEST_WAIT_MS;
        throttle.admit("ada", now).expect("never longer");
        throttle.settle("ada", Guess::Right, now);
        assert_eq!(guess(&mut throttle, "ada", &mut now, 4), [0; 4], "a right answer forgets the wrong ones");
        now += FORGET_MS;
        assert_eq!(guess(&mut throttle, "ada", &mut now, 4), [0; 4], "so does time");
    }

    #[test]
    fn questions_asked_at_once_are_counted_before_they_are_answered() {
        let mut throttle = Throttle::default();
        let admitted = (0..50).filter(|_| throttle.admit("ada", 5).is_ok()).count();
        assert_eq!(admitted, 4);
        throttle.settle("ada", Guess::Unknown, 6);
        assert!(throttle.admit("ada", 6).is_ok(), "nobody could tell: no guess was made");
    }

    #[test]
    fn many_names_share_a_bucket_and_right_answers_cost_nothing() {
        let mut throttle = Throttle::default();
        let now = 1_000_000;
        for i in 0..10_000 {
            throttle.admit(&format!("u{i}"), now).expect("right answers");
            throttle.settle(&format!("u{i}"), Guess::Right, now);
        }
        for i in 0..10_000 {
            throttle.admit(&format!("w{i}"), now).expect("unanswered");
            throttle.settle(&format!("w{i}"), Guess::Unknown, now);
        }
        assert!(throttle.names.is_empty());
        let mut spray = |now| {
            let mut n = 0_u64;
            while throttle.admit(&format!("v{now}-{n}"), now).is_ok() {
                throttle.settle(&format!("v{now}-{n}"), Guess::Wrong, now);
                n += 1;
            }
            (n, throttle.names.len())
        };
        assert_eq!(spray(now), (BURST, 120));
        assert_eq!(spray(now + 10 * INTERVAL_MS).0, 10);
        assert!((1..100).map(|s| spray(now + s * 60_000).1).max() < Some(1400), "the table is bounded");
    }
}
