//! How often the checker may be asked: a supervisor that is not ours any more can't guess passwords through it.
//!
//! Wrong answers cost; right ones cost nothing. After a few wrong answers a name has to wait, each time twice as long
//! and never longer than half a minute, so nobody is locked out for ever by somebody else's guessing. All names
//! together have a bucket; those that have signed in have one of their own, so that whoever tries one name after the other
//! keeps nobody out who is known here. Where questions come from, the supervisor counts: here it is only its word. Kept in
//! memory: a restart forgets it, and only root restarts the checker.

use std::collections::{BTreeMap, BTreeSet};

/// Wrong answers without a wait.
const FREE: u32 = 3;
const FIRST_WAIT_MS: u64 = 1000;
const LONGEST_WAIT_MS: u64 = 30_000;
/// A name that was quiet for so long begins anew.
const FORGET_MS: u64 = 600_000;
/// All names of a bucket together: this many at once, then one per interval.
const BURST: u64 = 120;
const INTERVAL_MS: u64 = 500;
/// Names that are known: real people's, as each has signed in.
const KNOWN_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct Throttle {
    names: BTreeMap<String, Guesses>,
    /// Who has given a right answer.
    known: BTreeSet<String>,
    /// When each bucket is full again.
    full_at: [u64; 2],
}

/// The bucket that a question was paid from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bucket {
    Strangers,
    Known,
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
    pub(crate) fn admit(&mut self, name: &str, now: u64) -> Result<Bucket, u64> {
        self.names.retain(|_, g| now.saturating_sub(g.last) < FORGET_MS);
        let known = self.names.get(name).copied();
        if let Some(wait) = known.and_then(|g| g.not_before.checked_sub(now)).filter(|ms| *ms > 0) {
            return Err(wait);
        }
        let bucket = if self.known.contains(name) { Bucket::Known } else { Bucket::Strangers };
        let [strangers, of_known] = &mut self.full_at;
        let paid = if bucket == Bucket::Known { of_known } else { strangers };
        let full_at = (*paid).max(now);
        if let Some(wait) = (full_at - now).checked_sub((BURST - 1) * INTERVAL_MS).filter(|ms| *ms > 0) {
            return Err(wait);
        }
        *paid = full_at.saturating_add(INTERVAL_MS);
        let wrong = known.map_or(0, |g| g.wrong).saturating_add(1);
        // The bucket bounds how many names there can be within the time they are kept.
        self.names.insert(name.to_owned(), Guesses { wrong, not_before: now.saturating_add(wait(wrong)), last: now });
        Ok(bucket)
    }

    /// Gives back what an answer did not cost.
    pub(crate) fn settle(&mut self, name: &str, bucket: Bucket, guess: Guess, now: u64) {
        if guess != Guess::Wrong {
            let [strangers, known] = &mut self.full_at;
            let paid = if bucket == Bucket::Known { known } else { strangers };
            *paid = paid.saturating_sub(INTERVAL_MS);
        }
        match guess {
            Guess::Right => {
                self.names.remove(name);
                if self.known.len() < KNOWN_MAX {
                    self.known.insert(name.to_owned());
                }
            }
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
            let (bucket, wait) = match throttle.admit(name, *now) {
                Ok(bucket) => (bucket, 0),
                Err(wait) => {
                    *now += wait;
                    (throttle.admit(name, *now).expect("the wait is over"), wait)
                }
            };
            throttle.settle(name, bucket, Guess::Wrong, *now);
            waits.push(wait);
        }
        waits
    }

    #[test]
    fn wrong_answers_make_a_name_wait_longer_and_never_for_ever() {
        let (mut throttle, mut now) = (Throttle::default(), 1_000_000);
        let waits = guess(&mut throttle, "ada", &mut now, 12);
        assert_eq!(waits, [0, 0, 0, 0, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert!(throttle.admit("bob", now).is_ok(), "bob is not ada");
        now += LONGEST_WAIT_MS;
        let bucket = throttle.admit("ada", now).expect("never longer");
        throttle.settle("ada", bucket, Guess::Right, now);
        assert_eq!(guess(&mut throttle, "ada", &mut now, 4), [0; 4], "a right answer forgets the wrong ones");
        now += FORGET_MS;
        assert_eq!(guess(&mut throttle, "ada", &mut now, 4), [0; 4], "so does time");
    }

    #[test]
    fn questions_asked_at_once_are_counted_before_they_are_answered() {
        let mut throttle = Throttle::default();
        let admitted = (0..50).filter(|_| throttle.admit("ada", 5).is_ok()).count();
        assert_eq!(admitted, 4);
        throttle.settle("ada", Bucket::Strangers, Guess::Unknown, 6);
        assert!(throttle.admit("ada", 6).is_ok(), "nobody could tell: no guess was made");
    }

    #[test]
    fn many_names_share_a_bucket_and_right_answers_cost_nothing() {
        let mut throttle = Throttle::default();
        let now = 1_000_000;
        for i in 0..10_000 {
            let bucket = throttle.admit(&format!("u{i}"), now).expect("right answers");
            throttle.settle(&format!("u{i}"), bucket, Guess::Right, now);
        }
        for i in 0..10_000 {
            let bucket = throttle.admit(&format!("w{i}"), now).expect("unanswered");
            throttle.settle(&format!("w{i}"), bucket, Guess::Unknown, now);
        }
        assert!(throttle.names.is_empty());
        let mut spray = |now| {
            let mut n = 0_u64;
            while let Ok(bucket) = throttle.admit(&format!("v{now}-{n}"), now) {
                throttle.settle(&format!("v{now}-{n}"), bucket, Guess::Wrong, now);
                n += 1;
            }
            (n, throttle.names.len())
        };
        assert_eq!(spray(now), (BURST, 120));
        assert_eq!(spray(now + 10 * INTERVAL_MS).0, 10);
        assert!((1..100).map(|s| spray(now + s * 60_000).1).max() < Some(1400), "the table is bounded");
    }

    #[test]
    fn who_tries_many_names_keeps_nobody_out_who_is_known() {
        let (mut throttle, now) = (Throttle::default(), 1_000_000);
        let right = |throttle: &mut Throttle, name: &str, now| {
            let bucket = throttle.admit(name, now).map_err(|_| "slowed down")?;
            throttle.settle(name, bucket, Guess::Right, now);
            Ok::<_, &str>(())
        };
        right(&mut throttle, "ada", now).expect("ada");
        let mut sprayed = 0;
        while let Ok(bucket) = throttle.admit(&format!("n{sprayed}"), now) {
            throttle.settle(&format!("n{sprayed}"), bucket, Guess::Wrong, now);
            sprayed += 1;
        }
        assert_eq!(sprayed, BURST);
        right(&mut throttle, "ada", now).expect("she has signed in before");
        assert!(right(&mut throttle, "bob", now).is_err(), "whether he is somebody is not known");
        right(&mut throttle, "bob", now + INTERVAL_MS).expect("in a moment");
        // Nor are guesses at those who are known without an end.
        let names: Vec<String> = (0..BURST + 10).map(|n| format!("k{n}")).collect();
        let later = now + FORGET_MS;
        names.iter().for_each(|name| right(&mut throttle, name, later).expect("each signs in"));
        let guessed = names.iter().filter(|name| throttle.admit(name, later).is_ok()).count();
        assert_eq!(guessed as u64, BURST);
        right(&mut throttle, "cyd", later).expect("and that keeps no stranger out");
    }
}
