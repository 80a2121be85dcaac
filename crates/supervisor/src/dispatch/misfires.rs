//! Launches that fail at a host one after another, and who gets no more of them.
//!
//! What somebody asks for can be what makes a launch fail. So what fails for one person only is kept from that person,
//! for a while, and from nobody else; where it fails for different people, or the launcher takes no warrant, it is the
//! host that is broken. Which job is tried elsewhere first is not decided here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use wire::Report;

/// Launches that fail in a row before no more are tried.
const IN_A_ROW: u32 = 3;
/// How long a person's jobs are kept from a host.
const HOLD: Duration = Duration::from_secs(300);

/// How a host did with a launch, as far as the host itself may be to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Launch {
    Well,
    /// A step of it failed, which the request may have brought about: at which stage, and why.
    Failed(String),
    /// The launcher did not take the warrant, which no request brings about.
    Void(String),
}

impl Launch {
    pub(super) fn of(report: &Report) -> Option<Self> {
        match report {
            Report::Started { .. } => Some(Self::Well),
            Report::Refused { kind, stage, text, .. } if kind == "stage" => {
                Some(Self::Failed(format!("{stage}: {text}")))
            }
            Report::Refused { kind, text, .. } if kind == "warrant" => Some(Self::Void(format!("its warrant: {text}"))),
            _ => None,
        }
    }
}

/// What failed since the last launch that went well.
#[derive(Debug, Default)]
pub(crate) struct Misfires {
    by_person: BTreeMap<String, Run>,
    void: u32,
    last: String,
}

#[derive(Debug)]
struct Run {
    failed: u32,
    since: Instant,
    how: String,
}

impl Misfires {
    /// Takes in how a launch of this login user went.
    pub(super) fn launched(&mut self, person: &str, launch: &Launch, now: Instant) {
        match launch {
            Launch::Well => *self = Self::default(),
            Launch::Failed(how) => {
                self.last.clone_from(how);
                let run = Run { failed: 0, since: now, how: String::new() };
                let run = self.by_person.entry(person.to_owned()).or_insert(run);
                (run.failed, run.since) = (run.failed + 1, now);
                run.how.clone_from(how);
            }
            Launch::Void(how) => {
                self.last.clone_from(how);
                self.void += 1;
            }
        }
    }

    /// Why the host is to get nobody's jobs any more.
    pub(super) fn is_broken(&self) -> Option<String> {
        let failed = self.void + self.by_person.values().map(|r| r.failed).sum::<u32>();
        let is_the_hosts = self.void >= IN_A_ROW || self.by_person.len() > 1;
        (failed >= IN_A_ROW && is_the_hosts)
            .then(|| format!("{failed} launches in a row failed here, the last one at {}", self.last))
    }

    /// Whose jobs are kept from the host, and why.
    pub(crate) fn held(&self, now: Instant) -> BTreeMap<String, String> {
        let is_held = |r: &Run| r.failed >= IN_A_ROW && now.saturating_duration_since(r.since) < HOLD;
        let why = |person: &str, r: &Run| {
            let (failed, minutes) = (r.failed, HOLD.as_secs() / 60);
            format!(
                "{failed} launches of jobs of {person} in a row failed there, the last one at {}; they are tried again \
                 {minutes} minutes after it, or when another job is launched there",
                r.how
            )
        };
        self.by_person.iter().filter(|(_, r)| is_held(r)).map(|(p, r)| (p.clone(), why(p, r))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Launch {
        Launch::Failed("cgroup: no space".to_owned())
    }

    fn after(launches: &[(&str, Launch)], now: Instant) -> Misfires {
        let mut misfires = Misfires::default();
        launches.iter().for_each(|(person, launch)| misfires.launched(person, launch, now));
        misfires
    }

    #[test]
    fn one_person_stops_a_host_for_nobody_else() {
        let now = Instant::now();
        let misfires = after(&vec![("ada", failed()); 50], now);
        assert_eq!(misfires.is_broken(), None);
        assert_eq!(misfires.held(now).keys().collect::<Vec<_>>(), ["ada"]);
        assert!(misfires.held(now)["ada"].contains("at cgroup: no space"));
        assert!(after(&vec![("ada", failed()); 2], now).held(now).is_empty());
    }

    #[test]
    fn a_host_that_fails_for_different_people_is_broken() {
        let now = Instant::now();
        assert_eq!(after(&[("ada", failed()), ("bob", failed())], now).is_broken(), None);
        let broken = after(&[("ada", failed()), ("bob", failed()), ("ada", failed())], now).is_broken();
        assert_eq!(broken.as_deref(), Some("3 launches in a row failed here, the last one at cgroup: no space"));
        let mended =
            [("ada", failed()), ("bob", failed()), ("ada", Launch::Well), ("bob", failed()), ("ada", failed())];
        assert_eq!(after(&mended, now).is_broken(), None, "not in a row");
    }

    #[test]
    fn a_launcher_that_takes_no_warrant_is_broken_whoever_asks() {
        let now = Instant::now();
        let void = || ("ada", Launch::Void("its warrant: older".to_owned()));
        assert_eq!(after(&[void(), void()], now).is_broken(), None);
        assert!(after(&[void(), void(), void()], now).is_broken().is_some());
        assert!(after(&[void(), void(), void()], now).held(now).is_empty());
    }

    #[test]
    fn a_person_is_kept_away_for_a_while_and_again_at_the_next_failure() {
        let now = Instant::now();
        let mut misfires = after(&vec![("ada", failed()); 3], now);
        assert!(misfires.held(now + HOLD).is_empty());
        misfires.launched("ada", &failed(), now + HOLD);
        assert!(misfires.held(now + HOLD).contains_key("ada"));
        misfires.launched("bob", &Launch::Well, now + HOLD);
        assert!(misfires.held(now + HOLD).is_empty(), "the host works");
    }
}
