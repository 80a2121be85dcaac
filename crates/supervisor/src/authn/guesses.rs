//! How often somebody guessed wrong, and how long that makes him wait.
//!
//! After a few wrong answers in a row each next one costs twice as long, half a minute at most: nobody is locked out for
//! ever. What is counted are names together with where they are tried from, names, and places; who counts what is
//! [`super::password`]'s. Bounded: when there is no room, what was quiet longest is forgotten.

use std::collections::HashMap;
use std::time::{Duration, Instant};

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// What was quiet for so long is forgotten.
const FORGET: Duration = Duration::from_secs(600);
const ROOM: usize = 16_384;

#[derive(Debug)]
pub(crate) struct Guesses {
    /// Wrong answers without a wait.
    free: u32,
    known: HashMap<String, Guess>,
}

#[derive(Debug, Clone, Copy)]
struct Guess {
    wrong: u32,
    not_before: Instant,
    last: Instant,
}

impl Guesses {
    /// One name from one place.
    pub(crate) fn of_pairs() -> Self {
        Self { free: 3, known: HashMap::new() }
    }

    /// One name from anywhere it isn't known from: somebody with many places doesn't guess faster for ever.
    pub(crate) fn of_names() -> Self {
        Self { free: 29, known: HashMap::new() }
    }

    /// Many people may come from one address.
    pub(crate) fn of_clients() -> Self {
        Self { free: 9, known: HashMap::new() }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Counts a wrong answer in advance, so that asking many at once is no way around it. `Err`: how long to wait.
    pub(crate) fn admit(&mut self, who: &str, now: Instant) -> Result<(), Duration> {
        if let Some(guess) = self.known.get_mut(who) {
            if now.saturating_duration_since(guess.last) >= FORGET {
                guess.wrong = 0;
            } else if guess.not_before > now {
                return Err(guess.not_before - now);
            }
        }
        self.make_room(now);
        let free = self.free;
        let guess = self.known.entry(who.to_owned()).or_insert(Guess { wrong: 0, not_before: now, last: now });
        guess.wrong = guess.wrong.saturating_add(1);
        (guess.not_before, guess.last) = (now + wait(guess.wrong, free), now);
        Ok(())
    }

    fn make_room(&mut self, now: Instant) {
        if self.known.len() < ROOM {
            return;
        }
        self.known.retain(|_, g| now.saturating_duration_since(g.last) < FORGET);
        // A tenth at once: a flood of names must not make each of them cost a search.
        if self.known.len() >= ROOM {
            let mut times: Vec<Instant> = self.known.values().map(|g| g.last).collect();
            let (_, oldest, _) = times.select_nth_unstable(ROOM / 10);
            let oldest = *oldest;
            self.known.retain(|_, g| g.last > oldest);
        }
    }

    pub(crate) fn was_wrong(&mut self, who: &str, now: Instant) {
        let free = self.free;
        if let Some(guess) = self.known.get_mut(who) {
            (guess.not_before, guess.last) = (now + wait(guess.wrong, free), now);
        }
    }

    pub(crate) fn give_back(&mut self, who: &str) {
        if let Some(guess) = self.known.get_mut(who) {
            guess.wrong = guess.wrong.saturating_sub(1);
            guess.not_before = guess.last;
            if guess.wrong == 0 {
                self.known.remove(who);
            }
        }
    }

    pub(crate) fn forget(&mut self, who: &str) {
        self.known.remove(who);
    }
}

fn wait(wrong: u32, free: u32) -> Duration {
    match wrong.checked_sub(free + 1) {
        None => Duration::ZERO,
        Some(doublings) => (FIRST_WAIT * 2_u32.pow(doublings.min(10))).min(LONGEST_WAIT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_are_forgotten() {
        let mut guesses = Guesses::of_pairs();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..12 {
            if let Err(wait) = guesses.admit("ada", now) {
                waits.push(wait.as_secs());
                now += wait;
                guesses.admit("ada", now).expect("the wait is over");
            }
            guesses.was_wrong("ada", now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert!(guesses.admit("bob", now).is_ok());
        now += FORGET;
        for _ in 0..4 {
            guesses.admit("ada", now).expect("forgotten");
        }
        assert!(guesses.admit("ada", now).is_err(), "at once or one after the other");
    }

    #[test]
    fn what_is_given_back_was_never_taken() {
        let mut guesses = Guesses::of_pairs();
        let now = Instant::now();
        for _ in 0..100 {
            guesses.admit("ada", now).expect("free");
            guesses.give_back("ada");
        }
        assert!(guesses.is_empty());
    }

    #[test]
    fn a_flood_takes_bounded_room_and_forgets_the_quietest() {
        let mut guesses = Guesses::of_pairs();
        let mut now = Instant::now();
        for i in 0..3 * ROOM {
            now += Duration::from_millis(1);
            guesses.admit(&format!("u{i}"), now).expect("each for the first time");
            assert!(guesses.known.len() <= ROOM);
        }
        assert!(guesses.known.contains_key(&format!("u{}", 3 * ROOM - 1)) && !guesses.known.contains_key("u0"));
    }
}
