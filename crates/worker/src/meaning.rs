//! What the words of sessions and launchers mean in the words of the supervisor. Pure.

use warrant::proof::{Fact, Proof, RunAs};
use warrant::session_wire::{Event, ItemEnd};
use wire::{Account, End, Report, SessionEnd};

/// The report an event becomes; `None` for what is no report.
pub(crate) fn report(event: &Event) -> Option<Report> {
    Some(match event {
        Event::TaskStarted { task, at_us } => Report::TaskStarted { task: (*task).into(), at_us: *at_us },
        Event::TaskEnded { task, end, started_us, ended_us, cpu_us, max_rss } => Report::TaskEnded {
            task: (*task).into(),
            end: item_end(end),
            started_us: *started_us,
            ended_us: *ended_us,
            cpu_us: *cpu_us,
            max_rss: *max_rss,
        },
        Event::EnvironmentEnded { name, entered, end } => {
            Report::EnvironmentEnded { name: name.clone(), entered: *entered, end: item_end(end) }
        }
        Event::BatchDone { sequence } => Report::BatchDone { sequence: *sequence },
        Event::Recalled { tasks, answers } => {
            Report::Recalled { tasks: tasks.iter().map(|t| (*t).into()).collect(), answers: *answers }
        }
        Event::BatchRefused { text } => Report::BatchRefused { text: text.clone() },
        Event::Ready { .. }
        | Event::Output { .. }
        | Event::Progress { .. }
        | Event::Status { .. }
        | Event::EnvironmentOutput { .. }
        | Event::Stuck
        | Event::Leaving { .. } => return None,
    })
}

fn item_end(end: &ItemEnd) -> End {
    match end {
        ItemEnd::Exited(code) => End::Exited { code: *code },
        ItemEnd::Signalled(signal) => End::Signalled { signal: *signal },
        ItemEnd::TimedOut => End::TimedOut,
        ItemEnd::Cancelled => End::Cancelled,
        ItemEnd::CannotStart { stage, errno, text } => {
            End::CannotStart { stage: stage.clone(), errno: *errno, text: text.clone() }
        }
        ItemEnd::Failed { text } => End::Failed { text: text.clone() },
    }
}

/// How a session ended: for the report, whoever saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) end: SessionEnd,
    /// Said when the session itself left no word.
    pub(crate) text: String,
    pub(crate) cpu_us: u64,
    pub(crate) max_rss: u64,
    pub(crate) proof: Option<String>,
    /// It did all it was there for: exit code 0.
    pub(crate) well: bool,
}

impl Ending {
    /// An end that nobody saw.
    pub(crate) fn lost(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::of(SessionEnd::Lost) }
    }

    pub(crate) fn of(end: SessionEnd) -> Self {
        Self { end, text: String::new(), cpu_us: 0, max_rss: 0, proof: None, well: false }
    }

    pub(crate) fn exited(code: u8) -> Self {
        let text = if code == 0 { String::new() } else { format!("session ended with exit code {code}") };
        Self { text, well: code == 0, ..Self::of(SessionEnd::Left) }
    }

    pub(crate) fn signalled(signal: i64) -> Self {
        Self { text: format!("session was ended by signal {signal}"), ..Self::of(SessionEnd::Signalled) }
    }

    /// From the launcher's proof, whose signature was checked; `hex` is the proof itself.
    pub(crate) fn proved(proof: &Proof, hex: String) -> Option<Self> {
        use warrant::SessionEnd as Seen;
        let Fact::Ended { end, cpu_us, max_rss } = &proof.fact else { return None };
        let ending = match end {
            Seen::Exited(code) => Self::exited(*code),
            Seen::Signalled(signal) => Self::signalled(i64::from(*signal)),
            Seen::OutOfMemory => Self::of(SessionEnd::OutOfMemory),
            Seen::LeaseExpired => Self::of(SessionEnd::LeaseExpired),
            Seen::Killed => Self::of(SessionEnd::Killed),
        };
        Some(Self { cpu_us: *cpu_us, max_rss: *max_rss, proof: Some(hex), ..ending })
    }

    /// The report. What the session said when it left, or why it was killed, explains more than how its process
    /// ended.
    pub(crate) fn report(&self, leaving: Option<&str>, killed: Option<&str>) -> Report {
        let text = match self.end {
            SessionEnd::Left => leaving,
            SessionEnd::Killed => killed,
            _ => None,
        };
        Report::Ended {
            end: self.end,
            text: text.unwrap_or(&self.text).to_owned(),
            cpu_us: self.cpu_us,
            max_rss: self.max_rss,
            proof: self.proof.clone(),
        }
    }
}

/// The process and the account in a proof of a start.
pub(crate) fn started(proof: &Proof, hex: String) -> Option<(u32, Report)> {
    let Fact::Started { run_as, pid, .. } = &proof.fact else { return None };
    let RunAs { name, uid, gid, groups } = run_as.clone();
    let run_as = Account { name, uid, gid, groups };
    Some((*pid, Report::Started { run_as, proof: Some(hex), at_us: proof.at_us }))
}

/// A refusal of a launch, from whoever refused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: warrant::launcher_wire::RefusalKind,
    pub(crate) stage: String,
    pub(crate) errno: i32,
    pub(crate) text: String,
    pub(crate) hint: String,
    pub(crate) proof: Option<String>,
}

impl Refusal {
    pub(crate) fn report(self) -> Report {
        Report::Refused {
            kind: self.kind.as_str().to_owned(),
            stage: self.stage,
            errno: self.errno,
            text: self.text,
            hint: self.hint,
            proof: self.proof,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warrant::TaskRef;

    #[test]
    fn every_end_of_an_item_keeps_its_meaning() {
        let text = || "why".to_owned();
        let table = [
            (ItemEnd::Exited(3), End::Exited { code: 3 }),
            (ItemEnd::Signalled(9), End::Signalled { signal: 9 }),
            (ItemEnd::TimedOut, End::TimedOut),
            (ItemEnd::Cancelled, End::Cancelled),
            (
                ItemEnd::CannotStart { stage: "exec".into(), errno: 2, text: text() },
                End::CannotStart { stage: "exec".into(), errno: 2, text: text() },
            ),
            (ItemEnd::Failed { text: text() }, End::Failed { text: text() }),
        ];
        let task = TaskRef { step: 1, index: 2, epoch: 3 };
        for (end, expected) in table {
            let event = Event::TaskEnded { task, end: end.clone(), started_us: 1, ended_us: 2, cpu_us: 3, max_rss: 4 };
            let Some(Report::TaskEnded { task: t, end, started_us: 1, ended_us: 2, cpu_us: 3, max_rss: 4 }) =
                report(&event)
            else {
                panic!("{event:?} became something else");
            };
            assert_eq!((t, end), (task.into(), expected));
        }
    }

    #[test]
    fn every_end_of_a_session_keeps_its_meaning() {
        use warrant::SessionEnd as Seen;
        let table = [
            (Seen::Exited(0), SessionEnd::Left, "", true),
            (Seen::Exited(4), SessionEnd::Left, "session ended with exit code 4", false),
            (Seen::Signalled(11), SessionEnd::Signalled, "session was ended by signal 11", false),
            (Seen::OutOfMemory, SessionEnd::OutOfMemory, "", false),
            (Seen::LeaseExpired, SessionEnd::LeaseExpired, "", false),
            (Seen::Killed, SessionEnd::Killed, "", false),
        ];
        for (seen, end, text, well) in table {
            let proof = Proof {
                worker: "w".into(),
                incarnation: [0; 16],
                session: 1,
                job: 2,
                fact: Fact::Ended { end: seen, cpu_us: 5, max_rss: 6 },
                at_us: 7,
                log_sequence: 8,
                log_previous: [0; 32],
            };
            let ending = Ending::proved(&proof, "aa".into()).expect("an end");
            let expected = Ending { end, text: text.into(), cpu_us: 5, max_rss: 6, proof: Some("aa".into()), well };
            assert_eq!(ending, expected);
            assert!(started(&proof, String::new()).is_none());
        }
    }

    #[test]
    fn the_last_word_of_a_session_explains_only_its_own_leaving() {
        let word = |e: Ending| match e.report(Some("all work is done"), Some("it was stuck")) {
            Report::Ended { text, .. } => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(word(Ending::exited(0)), "all work is done");
        assert_eq!(word(Ending::of(SessionEnd::Killed)), "it was stuck");
        assert_eq!(word(Ending::signalled(9)), "session was ended by signal 9");
    }
}
