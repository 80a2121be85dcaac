//! The same refusal again and again is written once and counted afterwards: who floods the audit hides nothing in it.

use super::act::{Act, Outcome};
use super::record::{Actor, Record};
use crate::clock;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
/// So many different ones of one client, login user and act are written in a window; then they are only counted
/// together. Nobody's are counted with another's, so that no flood hides who did the rest.
const DIFFERENT_MAX: u32 = 20;
/// And so many clients and acts are told apart.
const KINDS_MAX: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    act: Act,
    client: Option<String>,
    login_user: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Same {
    user: Option<String>,
    object: Option<String>,
    job: Option<u64>,
    rule: Option<String>,
}

#[derive(Debug)]
struct Count {
    actor: Actor,
    /// The record that stands for all of them.
    first: Option<u64>,
    more: u64,
    until: i64,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    since: i64,
    same: HashMap<Same, Count>,
    others: Option<Count>,
}

/// What was refused within the last minute.
#[derive(Debug, Default)]
pub(super) struct Fold(HashMap<Kind, Window>);

impl Fold {
    /// Whether this one is only counted.
    pub(super) fn counts(&mut self, record: &Record, now: Instant) -> bool {
        let (kind, same) = key(record);
        if !self.0.contains_key(&kind) && self.0.len() >= KINDS_MAX {
            return false;
        }
        let at = clock::now();
        let window =
            self.0.entry(kind).or_insert_with(|| Window { began: now, since: at, same: HashMap::new(), others: None });
        let full = window.same.len() >= DIFFERENT_MAX as usize;
        if let Some(count) = window.same.get_mut(&same) {
            (count.more, count.until) = (count.more + 1, at);
            return true;
        }
        if full {
            let actor = Actor { user: None, ..record.actor.clone() };
            let others = window.others.get_or_insert(Count { actor, first: None, more: 0, until: at });
            (others.more, others.until) = (others.more + 1, at);
            return true;
        }
        window.same.insert(same, Count { actor: record.actor.clone(), first: None, more: 0, until: at });
        false
    }

    /// The record stands, with this number; or it doesn't.
    pub(super) fn stands(&mut self, record: &Record, sequence: Option<u64>) {
        let (kind, same) = key(record);
        let Some(window) = self.0.get_mut(&kind) else { return };
        match sequence {
            Some(_) => {
                if let Some(count) = window.same.get_mut(&same) {
                    count.first = sequence;
                }
            }
            None => {
                window.same.remove(&same);
            }
        }
    }

    /// What the windows that are over counted; all of them, if `all`.
    pub(super) fn over(&mut self, now: Instant, all: bool) -> Vec<Record> {
        let mut records = Vec::new();
        self.0.retain(|kind, window| {
            if !all && now.duration_since(window.began) < WINDOW {
                return true;
            }
            let since = window.since;
            let same = window.same.drain().map(|(_, count)| count).chain(window.others.take());
            records.extend(same.filter(|c| c.more > 0).map(|c| repeated(kind.act, since, c)));
            false
        });
        records
    }

    /// When the next window is over.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|w| w.began + WINDOW).min()
    }
}

fn key(record: &Record) -> (Kind, Same) {
    let actor = &record.actor;
    let kind = Kind { act: record.act, client: actor.client.clone(), login_user: actor.login_user.clone() };
    let rule = record.details.get("rule").and_then(|r| r.as_str()).map(str::to_owned);
    let same = Same { user: actor.user.clone(), object: record.object.clone(), job: record.job, rule };
    (kind, same)
}

fn repeated(act: Act, since: i64, count: Count) -> Record {
    Record::done(Act::Repeated, count.actor)
        .outcome(Outcome::Refused)
        .with("act", act.as_str())
        .with("count", count.more)
        .with("first", count.first)
        .with("from", clock::rfc3339(since))
        .with("until", clock::rfc3339(count.until))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(login: &str, client: &str) -> Record {
        let actor = Actor { login_user: Some(login.into()), client: Some(client.into()), ..Actor::default() };
        Record::refused(Act::Login, actor).with("rule", "password")
    }

    #[test]
    fn the_first_stands_and_the_rest_is_counted() {
        let (mut fold, now) = (Fold::default(), Instant::now());
        let first = refusal("ada", "10.0.0.1");
        assert!(!fold.counts(&first, now));
        fold.stands(&first, Some(7));
        assert!(!fold.counts(&refusal("ada", "10.0.0.2"), now), "elsewhere");
        for _ in 0..10_000 {
            assert!(fold.counts(&first, now));
        }
        assert!(fold.over(now + WINDOW / 2, false).is_empty());
        let records = fold.over(now + WINDOW, false);
        assert_eq!(records.len(), 1, "what came once is not repeated");
        assert_eq!((&records[0].details["count"], &records[0].details["first"]), (&10_000.into(), &7.into()));
        assert!(!fold.counts(&first, now + WINDOW), "a new window shows it again");
    }

    #[test]
    fn many_names_from_one_place_are_counted_together() {
        let (mut fold, now) = (Fold::default(), Instant::now());
        let nobody = |said: &str| {
            let actor = Actor { client: Some("x".into()), ..Actor::default() };
            Record::refused(Act::Login, actor).object(said).with("rule", "password")
        };
        let written = (0..1000).filter(|n| !fold.counts(&nobody(&format!("u{n}")), now)).count();
        assert_eq!(written, 20);
        let records = fold.over(now, true);
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].details["count"], 980);
    }

    #[test]
    fn no_flood_hides_what_another_did() {
        let (mut fold, now) = (Fold::default(), Instant::now());
        for n in 0..1000 {
            fold.counts(&refusal("eve", "127.0.0.1").object(&format!("u{n}")), now);
        }
        assert!(!fold.counts(&refusal("ada", "127.0.0.1").object("root"), now), "hers stands by itself");
        let records = fold.over(now, true);
        let logins: Vec<_> = records.iter().map(|r| r.actor.login_user.as_deref()).collect();
        assert_eq!(logins, [Some("eve")], "and the flood keeps its name");
    }

    #[test]
    fn what_could_not_be_written_is_tried_again() {
        let (mut fold, now) = (Fold::default(), Instant::now());
        assert!(!fold.counts(&refusal("ada", "x"), now));
        fold.stands(&refusal("ada", "x"), None);
        assert!(!fold.counts(&refusal("ada", "x"), now));
    }
}
