//! The states of jobs, tasks and attempts, and which of them may follow which.
//!
//! Only says what is legal; the supervisor's one service function carries it out and writes it down.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A word that is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind} (there are: {known})")]
pub struct UnknownWord {
    pub kind: &'static str,
    pub text: String,
    pub known: String,
}

macro_rules! words {
    ($(#[$doc:meta])* $type:ident, $kind:literal, { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $type {
            $($(#[$vdoc])* $variant),+
        }

        impl $type {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            pub fn parse(text: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|v| v.as_str() == text).ok_or_else(|| UnknownWord {
                    kind: $kind,
                    text: text.into(),
                    known: Self::ALL.iter().map(|v| v.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                Self::parse(text)
            }
        }
    };
}

words! {
    /// The state of a job.
    JobState, "a job's state", {
        Blocked = "blocked",
        Pending = "pending",
        Running = "running",
        Suspended = "suspended",
        Complete = "complete",
        Failed = "failed",
        Killed = "killed",
        /// The account itself was refused. Not retryable: resubmit once the account is right.
        Badlogin = "badlogin",
    }
}

words! {
    /// The state of a task.
    TaskState, "a task's state", {
        Pending = "pending",
        Running = "running",
        Complete = "complete",
        Failed = "failed",
        Killed = "killed",
        Blocked = "blocked",
        Suspended = "suspended",
    }
}

words! {
    /// The state of an attempt: one try of one task.
    AttemptState, "an attempt's state", {
        Launching = "launching",
        Running = "running",
        Complete = "complete",
        Failed = "failed",
        Killed = "killed",
        /// The worker or session is gone and can't have finished it.
        Lost = "lost",
        Badlogin = "badlogin",
        /// A rule refused it when it was about to start.
        Refused = "refused",
        /// A stage between warrant and exec failed; nothing was executed.
        LaunchFailed = "launch_failed",
    }
}

words! {
    /// What a person can do to a job or a task.
    JobAction, "an action", {
        Kill = "kill",
        Retry = "retry",
        Block = "block",
        Unblock = "unblock",
        Suspend = "suspend",
        Resume = "resume",
        /// Tried again, but held back before anything starts.
        Requeue = "requeue",
    }
}

/// An action that the present state doesn't allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("can't {action} a {kind} that is {state}: {action} is possible when it is {}{}", list(.from), hint(.state, *.action))]
pub struct TransitionError {
    pub kind: &'static str,
    pub state: &'static str,
    pub action: JobAction,
    pub from: Vec<&'static str>,
}

fn list(words: &[&'static str]) -> String {
    match words {
        [] => "never".into(),
        [one] => (*one).into(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

fn hint(state: &str, action: JobAction) -> &'static str {
    match (state, action) {
        ("badlogin", JobAction::Retry | JobAction::Requeue) => " (resubmit it once the account is right)",
        ("pending", JobAction::Suspend) => " (block keeps one that hasn't started from starting)",
        ("suspended", JobAction::Unblock) => " (resume lets it go on)",
        ("blocked", JobAction::Resume) => " (unblock lets it go on)",
        _ => "",
    }
}

impl JobState {
    /// The state that an action leads to.
    pub fn after(self, action: JobAction) -> Result<Self, TransitionError> {
        let from: &[Self] = match action {
            JobAction::Kill => &[Self::Blocked, Self::Pending, Self::Running, Self::Suspended, Self::Badlogin],
            JobAction::Retry | JobAction::Requeue => &[Self::Complete, Self::Failed, Self::Killed],
            JobAction::Block => &[Self::Pending, Self::Running],
            JobAction::Unblock => &[Self::Blocked],
            JobAction::Suspend => &[Self::Running],
            JobAction::Resume => &[Self::Suspended],
        };
        if !from.contains(&self) {
            let from = from.iter().map(|s| s.as_str()).collect();
            return Err(TransitionError { kind: "job", state: self.as_str(), action, from });
        }
        Ok(match action {
            JobAction::Kill => Self::Killed,
            JobAction::Retry | JobAction::Unblock => Self::Pending,
            JobAction::Block | JobAction::Requeue => Self::Blocked,
            JobAction::Suspend => Self::Suspended,
            JobAction::Resume => Self::Running,
        })
    }

    /// Nothing more happens by itself.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Killed | Self::Badlogin)
    }

    /// The state that follows from the tasks and from what was done to the job as a whole.
    ///
    /// Tasks that can't be reached any more (a step they depend on failed) count as blocked, not as pending.
    #[must_use]
    pub const fn of(counts: &Counts, hold: Hold) -> Self {
        match hold {
            Hold::Badlogin => return Self::Badlogin,
            Hold::Killed => return Self::Killed,
            Hold::None | Hold::Blocked | Hold::Suspended => {}
        }
        if counts.total > 0 && counts.complete == counts.total {
            return Self::Complete;
        }
        if counts.over() == counts.total && counts.total > 0 {
            return if counts.failed > 0 { Self::Failed } else { Self::Killed };
        }
        match hold {
            Hold::Blocked => return Self::Blocked,
            Hold::Suspended => return Self::Suspended,
            _ => {}
        }
        if counts.running > 0 {
            Self::Running
        } else if counts.pending > 0 || counts.total == 0 {
            Self::Pending
        } else if counts.suspended > 0 {
            Self::Suspended
        } else if counts.failed > 0 {
            Self::Failed
        } else {
            Self::Blocked
        }
    }
}

words! {
    /// What was done to a job as a whole and still holds.
    Hold, "a hold", {
        None = "none",
        Blocked = "blocked",
        Suspended = "suspended",
        Killed = "killed",
        Badlogin = "badlogin",
    }
}

impl Hold {
    /// The hold that an action leaves behind.
    #[must_use]
    pub const fn after(action: JobAction) -> Self {
        match action {
            JobAction::Kill => Self::Killed,
            JobAction::Block | JobAction::Requeue => Self::Blocked,
            JobAction::Suspend => Self::Suspended,
            JobAction::Retry | JobAction::Unblock | JobAction::Resume => Self::None,
        }
    }
}

impl TaskState {
    /// The state that an action leads to.
    pub fn after(self, action: JobAction) -> Result<Self, TransitionError> {
        let from: &[Self] = match action {
            JobAction::Kill => &[Self::Pending, Self::Running, Self::Blocked, Self::Suspended],
            JobAction::Retry => &[Self::Complete, Self::Failed, Self::Killed],
            JobAction::Block => &[Self::Pending, Self::Running],
            JobAction::Unblock => &[Self::Blocked],
            JobAction::Suspend => &[Self::Running],
            JobAction::Resume => &[Self::Suspended],
            // A task by itself is tried again, or blocked.
            JobAction::Requeue => &[],
        };
        if !from.contains(&self) {
            let from = from.iter().map(|s| s.as_str()).collect();
            return Err(TransitionError { kind: "task", state: self.as_str(), action, from });
        }
        Ok(match action {
            JobAction::Kill => Self::Killed,
            JobAction::Retry | JobAction::Unblock => Self::Pending,
            JobAction::Block | JobAction::Requeue => Self::Blocked,
            JobAction::Suspend => Self::Suspended,
            JobAction::Resume => Self::Running,
        })
    }

    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Killed)
    }
}

impl AttemptState {
    /// An attempt that is over stays as it is.
    #[must_use]
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Launching | Self::Running)
    }

    /// Whether `next` may follow. What only happens before the first instruction can't follow `running`.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Launching => !matches!(next, Self::Launching),
            Self::Running => matches!(next, Self::Complete | Self::Failed | Self::Killed | Self::Lost),
            _ => false,
        }
    }

    /// What this end means for the task, before retries are looked at. `None` while it goes on, and where the task
    /// simply waits for another attempt.
    #[must_use]
    pub const fn task_end(self) -> Option<TaskState> {
        match self {
            Self::Complete => Some(TaskState::Complete),
            Self::Failed => Some(TaskState::Failed),
            Self::Killed => Some(TaskState::Killed),
            Self::Launching | Self::Running | Self::Lost | Self::Badlogin | Self::Refused | Self::LaunchFailed => None,
        }
    }
}

/// How many tasks are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    pub total: u64,
    pub pending: u64,
    pub running: u64,
    pub complete: u64,
    pub failed: u64,
    pub killed: u64,
    pub blocked: u64,
    pub suspended: u64,
}

impl Counts {
    /// `total` tasks that wait.
    #[must_use]
    pub const fn pending(total: u64) -> Self {
        Self { total, pending: total, running: 0, complete: 0, failed: 0, killed: 0, blocked: 0, suspended: 0 }
    }

    /// Tasks that are over.
    #[must_use]
    pub const fn over(&self) -> u64 {
        self.complete.saturating_add(self.failed).saturating_add(self.killed)
    }

    #[must_use]
    pub const fn get(&self, state: TaskState) -> u64 {
        match state {
            TaskState::Pending => self.pending,
            TaskState::Running => self.running,
            TaskState::Complete => self.complete,
            TaskState::Failed => self.failed,
            TaskState::Killed => self.killed,
            TaskState::Blocked => self.blocked,
            TaskState::Suspended => self.suspended,
        }
    }

    pub const fn get_mut(&mut self, state: TaskState) -> &mut u64 {
        match state {
            TaskState::Pending => &mut self.pending,
            TaskState::Running => &mut self.running,
            TaskState::Complete => &mut self.complete,
            TaskState::Failed => &mut self.failed,
            TaskState::Killed => &mut self.killed,
            TaskState::Blocked => &mut self.blocked,
            TaskState::Suspended => &mut self.suspended,
        }
    }

    /// The counts of several steps together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.total = self.total.saturating_add(other.total);
        for state in TaskState::ALL {
            let sum = self.get(*state).saturating_add(other.get(*state));
            *self.get_mut(*state) = sum;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_agree<T: Copy + Serialize + for<'a> Deserialize<'a> + PartialEq + fmt::Debug>(
        all: &[T],
        word: fn(T) -> &'static str,
        parse: fn(&str) -> Result<T, UnknownWord>,
    ) {
        for value in all {
            let json = serde_json::to_value(value).expect("json");
            assert_eq!(json, serde_json::json!(word(*value)));
            assert_eq!(serde_json::from_value::<T>(json).expect("back"), *value);
            assert_eq!(parse(word(*value)).as_ref(), Ok(value));
        }
    }

    #[test]
    fn words_are_the_same_in_text_and_json() {
        words_agree(JobState::ALL, JobState::as_str, JobState::parse);
        words_agree(TaskState::ALL, TaskState::as_str, TaskState::parse);
        words_agree(AttemptState::ALL, AttemptState::as_str, AttemptState::parse);
        words_agree(JobAction::ALL, JobAction::as_str, JobAction::parse);
        words_agree(Hold::ALL, Hold::as_str, Hold::parse);
        assert_eq!(
            JobAction::parse("stop").expect_err("unknown").to_string(),
            r#""stop" is not an action (there are: kill, retry, block, unblock, suspend, resume, requeue)"#
        );
    }

    /// The whole matrix, so that a changed or new state shows here.
    #[test]
    fn every_state_and_action() {
        let mut table = String::new();
        for state in JobState::ALL {
            for action in JobAction::ALL {
                let after = state.after(*action).map_or("-", JobState::as_str);
                table += &format!("{state} {action} {after}\n");
            }
        }
        let legal: Vec<_> = table.lines().filter(|l| !l.ends_with('-')).collect();
        assert_eq!(
            legal,
            [
                "blocked kill killed",
                "blocked unblock pending",
                "pending kill killed",
                "pending block blocked",
                "running kill killed",
                "running block blocked",
                "running suspend suspended",
                "suspended kill killed",
                "suspended resume running",
                "complete retry pending",
                "complete requeue blocked",
                "failed retry pending",
                "failed requeue blocked",
                "killed retry pending",
                "killed requeue blocked",
                "badlogin kill killed",
            ]
        );
        for state in TaskState::ALL {
            assert!(state.after(JobAction::Requeue).is_err(), "only whole jobs: {state}");
            for action in JobAction::ALL.iter().filter(|action| **action != JobAction::Requeue) {
                let job = JobState::parse(state.as_str()).expect("same word").after(*action).ok();
                let task = state.after(*action).ok();
                assert_eq!(task.map(TaskState::as_str), job.map(JobState::as_str), "{state} {action}");
            }
        }
    }

    #[test]
    fn refusals_say_what_is_possible() {
        let sentence = |s: JobState, a| s.after(a).expect_err("refused").to_string();
        assert_eq!(
            sentence(JobState::Running, JobAction::Retry),
            "can't retry a job that is running: retry is possible when it is complete, failed or killed"
        );
        assert_eq!(
            sentence(JobState::Badlogin, JobAction::Retry),
            "can't retry a job that is badlogin: retry is possible when it is complete, failed or killed (resubmit it \
             once the account is right)"
        );
        assert_eq!(
            sentence(JobState::Pending, JobAction::Suspend),
            "can't suspend a job that is pending: suspend is possible when it is running (block keeps one that hasn't \
             started from starting)"
        );
        assert_eq!(
            TaskState::Complete.after(JobAction::Unblock).expect_err("refused").to_string(),
            "can't unblock a task that is complete: unblock is possible when it is blocked"
        );
    }

    #[test]
    fn job_state_follows_from_counts() {
        let c = |pending, running, complete, failed, killed, blocked, suspended| Counts {
            total: pending + running + complete + failed + killed + blocked + suspended,
            pending,
            running,
            complete,
            failed,
            killed,
            blocked,
            suspended,
        };
        for (counts, hold, state) in [
            (Counts::pending(3), Hold::None, JobState::Pending),
            (c(1, 1, 1, 0, 0, 0, 0), Hold::None, JobState::Running),
            (c(1, 0, 1, 1, 0, 0, 0), Hold::None, JobState::Pending),
            (c(0, 0, 3, 0, 0, 0, 0), Hold::None, JobState::Complete),
            (c(0, 0, 3, 0, 0, 0, 0), Hold::Blocked, JobState::Complete),
            (c(0, 0, 2, 1, 0, 0, 0), Hold::None, JobState::Failed),
            (c(0, 0, 1, 1, 1, 0, 0), Hold::None, JobState::Failed),
            (c(0, 0, 1, 0, 2, 0, 0), Hold::None, JobState::Killed),
            (c(0, 1, 1, 1, 0, 0, 0), Hold::None, JobState::Running),
            (c(0, 0, 1, 1, 0, 5, 0), Hold::None, JobState::Failed),
            (c(0, 0, 1, 0, 0, 5, 0), Hold::None, JobState::Blocked),
            (c(0, 0, 1, 0, 0, 0, 5), Hold::None, JobState::Suspended),
            (c(5, 1, 0, 0, 0, 0, 0), Hold::Blocked, JobState::Blocked),
            (c(5, 1, 0, 0, 0, 0, 0), Hold::Suspended, JobState::Suspended),
            (c(0, 0, 1, 1, 3, 0, 0), Hold::Killed, JobState::Killed),
            (c(0, 0, 0, 1, 3, 0, 0), Hold::Badlogin, JobState::Badlogin),
        ] {
            assert_eq!(JobState::of(&counts, hold), state, "{counts:?} {hold}");
        }
    }

    #[test]
    fn attempts_end_once() {
        for state in AttemptState::ALL {
            let next = AttemptState::ALL.iter().filter(|n| state.may_become(**n)).count();
            assert_eq!(next == 0, state.is_over(), "{state}");
            assert!(!state.may_become(*state), "{state}");
        }
        assert!(!AttemptState::Running.may_become(AttemptState::LaunchFailed));
    }

    #[test]
    fn sums_of_counts() {
        let sum = Counts::pending(3).plus(&Counts { total: 2, failed: 2, ..Counts::default() });
        assert_eq!(sum, Counts { total: 5, pending: 3, failed: 2, ..Counts::default() });
    }
}
