//! Two vocabularies of states: what a client of Linkis's is told of a job. Whatever is over has to be final here, or
//! clients ask for ever.

use job::JobState;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    Inited,
    Scheduled,
    Running,
    Succeed,
    Failed,
    Cancelled,
    Timeout,
}

impl TaskState {
    pub const ALL: [Self; 7] =
        [Self::Inited, Self::Scheduled, Self::Running, Self::Succeed, Self::Failed, Self::Cancelled, Self::Timeout];

    /// Of a job; whether its time limit ended it is known from its tasks.
    #[must_use]
    pub const fn of(state: JobState, is_out_of_time: bool) -> Self {
        match state {
            JobState::Blocked | JobState::Suspended => Self::Inited,
            JobState::Pending => Self::Scheduled,
            JobState::Running => Self::Running,
            JobState::Complete => Self::Succeed,
            JobState::Failed if is_out_of_time => Self::Timeout,
            JobState::Failed | JobState::Badlogin => Self::Failed,
            JobState::Killed => Self::Cancelled,
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inited => "Inited",
            Self::Scheduled => "Scheduled",
            Self::Running => "Running",
            Self::Succeed => "Succeed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Timeout => "Timeout",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeed | Self::Failed | Self::Cancelled | Self::Timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_word_and_what_is_over_is_final() {
        for state in JobState::ALL {
            let word = TaskState::of(*state, false);
            assert_eq!(word.is_final(), state.is_over(), "{state}");
            assert_eq!(TaskState::parse(word.as_str()), Some(word));
        }
        assert_eq!(TaskState::of(JobState::Badlogin, false), TaskState::Failed);
        assert_eq!(TaskState::of(JobState::Failed, true), TaskState::Timeout);
        assert_eq!(TaskState::of(JobState::Complete, true), TaskState::Succeed);
        assert_eq!(TaskState::parse("Success"), None);
    }
}
