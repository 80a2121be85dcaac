//! Numbers and words between Rust and the database, which knows only signed integers and text.

use job::{AttemptState, Hold, JobState, TaskState};
use sqlx::{ColumnIndex, Decode, Row as _, Type};

use crate::dialect::Row;
use crate::error::StoreError;
use crate::types::{Purpose, SessionState};

/// For numbers that are counted here or were checked when they came in.
pub(crate) fn i(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Columns that are never negative.
pub(crate) fn u(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(crate) fn u32_of(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(if value < 0 { 0 } else { u32::MAX })
}

/// Like `Row::try_get`, with our error.
pub(crate) fn get<'r, T, I>(row: &'r Row, column: I) -> Result<T, StoreError>
where
    T: Decode<'r, sqlx::Sqlite> + Type<sqlx::Sqlite>,
    I: ColumnIndex<Row>,
{
    Ok(row.try_get(column)?)
}

pub(crate) fn number<I: ColumnIndex<Row>>(row: &Row, column: I) -> Result<u64, StoreError> {
    get::<i64, I>(row, column).map(u)
}

pub(crate) fn small<I: ColumnIndex<Row>>(row: &Row, column: I) -> Result<u32, StoreError> {
    get::<i64, I>(row, column).map(u32_of)
}

/// At most `max` bytes of `text`, cut between characters.
pub(crate) fn clip(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

pub(crate) fn job_state(text: &str) -> Result<JobState, StoreError> {
    JobState::parse(text).map_err(|_| unknown("a job's state", text))
}

pub(crate) fn hold(text: &str) -> Result<Hold, StoreError> {
    Hold::parse(text).map_err(|_| unknown("a hold", text))
}

pub(crate) fn task_state(text: &str) -> Result<TaskState, StoreError> {
    TaskState::parse(text).map_err(|_| unknown("a task's state", text))
}

pub(crate) fn attempt_state(text: &str) -> Result<AttemptState, StoreError> {
    AttemptState::parse(text).map_err(|_| unknown("an attempt's state", text))
}

impl Purpose {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Read => "read",
            Self::Clean => "clean",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        const ALL: [Purpose; 3] = [Purpose::Run, Purpose::Read, Purpose::Clean];
        ALL.into_iter().find(|p| p.as_str() == text).ok_or_else(|| unknown("a session's purpose", text))
    }
}

impl SessionState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Launching => "launching",
            Self::Running => "running",
            Self::Ended => "ended",
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }

    #[must_use]
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Launching | Self::Running)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        const ALL: [SessionState; 5] = [
            SessionState::Launching,
            SessionState::Running,
            SessionState::Ended,
            SessionState::Refused,
            SessionState::Lost,
        ];
        ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| unknown("a session's state", text))
    }
}

pub(crate) fn unknown(what: &'static str, value: &str) -> StoreError {
    StoreError::Unknown { what, value: value.to_owned() }
}
