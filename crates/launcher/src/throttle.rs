//! How often the checker may be asked: a supervisor that is not ours any more can't guess passwords through it.
//!
//! Wrong answers cost; right ones cost nothing. Each name has a number of them at once and then one per interval, so
//! nobody is locked out for ever by somebody else's guessing. All names together have such a bucket, too; those that have
//! signed in have one of their own, so that whoever tries one name after the other keeps nobody out who is known here.
//! Where questions come from, the supervisor counts, and slows much earlier: here it is only its word. Kept in memory: a
//! restart forgets it, and only root restarts the checker.

use std::collections::{BTreeMap, BTreeSet};

/// So many wrong answers at once, then one per interval.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u64,
    interval_ms: u64,
}

/// Far beyond what one guesser is let through with by a supervisor that is ours: its owner still comes in.
const OF_NAME: Rate = Rate { burst: 30, interval_ms: 10_000 };
/// All names of a bucket together.
const OF_ALL: Rate = Rate { burst: 120, interval_ms: 500 };
/// Names that are known: real people's, as each has signed in.
const KNOWN_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct Throttle {
    names: BTreeMap<String, Meter>,
    /// Who has given a right answer.
    known: BTreeSet<String>,
    strangers: Meter,
    of_known: Meter,
}

/// The bucket that a question was paid from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bucket {
    Strangers,
    Known,
}

/// When a bucket is full again.
#[derive(Debug, Default, Clone, Copy)]
struct Meter {
    full_at: u64,
}

impl Meter {
    /// In ms; 0: there is one more.
    fn wait(self, rate: Rate, now: u64) -> u64 {
        self.full_at.saturating_sub(now).saturating_sub((rate.burst - 1) * rate.interval_ms)
    }

    fn take(&mut self, rate: Rate, now: u64) {
        self.full_at = self.full_at.max(now).saturating_add(rate.interval_ms);
    }

    fn give_back(&mut self, rate: Rate) {
        self.full_at = self.full_at.saturating_sub(rate.interval_ms);
    }
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
        // Whose is full has nothing to be remembered.
        self.names.retain(|_, of_name| of_name.full_at > now);
        let bucket = if self.known.contains(name) { Bucket::Known } else { Bucket::Strangers };
        let mut of_name = self.names.get(name).copied().unwrap_or_default();
        let all = self.all(bucket);
        match of_name.wait(OF_NAME, now).max(all.wait(OF_ALL, now)) {
            0 => all.take(OF_ALL, now),
            wait => return Err(wait),
        }
        of_name.take(OF_NAME, now);
        // The other bucket bounds how many names there can be within the time they are kept.
        self.names.insert(name.to_owned(), of_name);
        Ok(bucket)
    }

    /// Gives back what an answer did not cost.
    pub(crate) fn settle(&mut self, name: &str, bucket: Bucket, guess: Guess) {
        if guess == Guess::Wrong {
            return;
        }
        self.all(bucket).give_back(OF_ALL);
        if let Some(of_name) = self.names.get_mut(name) {
            of_name.give_back(OF_NAME);
        }
        if guess == Guess::Right && self.known.len() < KNOWN_MAX {
            self.known.insert(name.to_owned());
        }
    }

    fn all(&mut self, bucket: Bucket) -> &mut Meter {
        if bucket == Bucket::Known { &mut self.of_known } else { &mut self.strangers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_some_wrong_answers_at_once_and_then_one_per_interval() {
        let (mut throttle, now) = (Throttle::default(), 1_000_000);
        let guess = |throttle: &mut Throttle, now| {
            let bucket = throttle.admit("ada", now)?;
            throttle.settle("ada", bucket, Guess::Wrong);
            Ok::<_, u64>(())
        };
        let at_once = (0..100).filter(|_| guess(&mut throttle, now).is_ok()).count();
        assert_eq!((at_once, guess(&mut throttle, now)), (30, Err(10_000)));
        assert!(throttle.admit("bob", now).is_ok(), "bob is not ada");
        let minutes = (1..=60).filter(|s| guess(&mut throttle, now + s * 1000).is_ok()).count();
        assert_eq!(minutes, 6);
        // Somebody else's two in a minute leave its owner every try.
        let mut later = now + 10 * 60_000;
        for _ in 0..100 {
            guess(&mut throttle, later).expect("a guess");
            later += 30_000;
            for _ in 0..5 {
                let bucket = throttle.admit("ada", later).expect("the owner's");
                throttle.settle("ada", bucket, Guess::Right);
            }
        }
    }

    #[test]
    fn questions_asked_at_once_are_counted_before_they_are_answered() {
        let mut throttle = Throttle::default();
        let admitted = (0..50).filter(|_| throttle.admit("ada", 5).is_ok()).count();
        assert_eq!(admitted, 30);
        throttle.settle("ada", Bucket::Strangers, Guess::Unknown);
        assert!(throttle.admit("ada", 6).is_ok(), "nobody could tell: no guess was made");
    }

    #[test]
    fn many_names_share_a_bucket_and_right_answers_cost_nothing() {
        let mut throttle = Throttle::default();
        let now = 1_000_000;
        for i in 0..10_000 {
            let bucket = throttle.admit(&format!("u{i}"), now).expect("right answers");
            throttle.settle(&format!("u{i}"), bucket, Guess::Right);
        }
        for i in 0..10_000 {
            let bucket = throttle.admit(&format!("w{i}"), now).expect("unanswered");
            throttle.settle(&format!("w{i}"), bucket, Guess::Unknown);
            assert!(throttle.names.len() <= 1, "what cost nothing takes no room");
        }
        let mut spray = |now| {
            let mut n = 0_u64;
            while let Ok(bucket) = throttle.admit(&format!("v{now}-{n}"), now) {
                throttle.settle(&format!("v{now}-{n}"), bucket, Guess::Wrong);
                n += 1;
            }
            (n, throttle.names.len())
        };
        assert_eq!(spray(now), (120, 120));
        assert_eq!(spray(now + 10 * OF_ALL.interval_ms).0, 10);
        assert!((1..100).map(|s| spray(now + s * 60_000).1).max() < Some(1400), "the table is bounded");
    }

    #[test]
    fn who_tries_many_names_keeps_nobody_out_who_is_known() {
        let (mut throttle, now) = (Throttle::default(), 1_000_000);
        let right = |throttle: &mut Throttle, name: &str, now| {
            let bucket = throttle.admit(name, now).map_err(|_| "slowed down")?;
            throttle.settle(name, bucket, Guess::Right);
            Ok::<_, &str>(())
        };
        right(&mut throttle, "ada", now).expect("ada");
        let mut sprayed = 0;
        while let Ok(bucket) = throttle.admit(&format!("n{sprayed}"), now) {
            throttle.settle(&format!("n{sprayed}"), bucket, Guess::Wrong);
            sprayed += 1;
        }
        assert_eq!(sprayed, OF_ALL.burst);
        right(&mut throttle, "ada", now).expect("she has signed in before");
        assert!(right(&mut throttle, "bob", now).is_err(), "whether he is somebody is not known");
        right(&mut throttle, "bob", now + OF_ALL.interval_ms).expect("in a moment");
        // Nor are guesses at those who are known without an end.
        let names: Vec<String> = (0..OF_ALL.burst + 10).map(|n| format!("k{n}")).collect();
        let later = now + 600_000;
        names.iter().for_each(|name| right(&mut throttle, name, later).expect("each signs in"));
        let guessed = names.iter().filter(|name| throttle.admit(name, later).is_ok()).count();
        assert_eq!(guessed as u64, OF_ALL.burst);
        right(&mut throttle, "cyd", later).expect("and that keeps no stranger out");
    }
}
