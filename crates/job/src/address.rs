//! How people name a job, a task or a frame: `JOB`, `JOB.TASK`, `JOB.STEP.TASK`, `JOB:FRAME`, `JOB.STEP:FRAME`.

use std::fmt;
use std::str::FromStr;

/// Why a text names no job or task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("{text:?} doesn't begin with a job's number (write 42, 42.7, 42.render.7 or 42:105)")]
    NoJob { text: String },
    #[error("{text:?} names a step but no task (write {job}.STEP.TASK or {job}.STEP:FRAME)")]
    NoTask { text: String, job: u64 },
    #[error("{text:?} has {frame:?} where a frame's number belongs")]
    BadFrame { text: String, frame: String },
    #[error("{text:?} names a task, but a whole job is wanted here (write {job})")]
    NotAJob { text: String, job: u64 },
}

/// What someone pointed at. Whether it exists, and may be seen, is for others to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskAddress {
    pub job: u64,
    /// Needed when the job has several steps.
    pub step: Option<StepRef>,
    pub point: Point,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepRef {
    Index(u32),
    Name(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The whole job.
    Whole,
    /// Zero-based, in the order of the parameter space.
    Task(u64),
    Frame(i64),
}

/// Reads an address. `42.7` is always task 7, never step 7.
pub fn address(text: &str) -> Result<TaskAddress, AddressError> {
    let no_job = || AddressError::NoJob { text: text.into() };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let job: u64 = text[..end].parse().map_err(|_| no_job())?;
    let rest = &text[end..];
    match rest.as_bytes().first() {
        None => Ok(TaskAddress { job, step: None, point: Point::Whole }),
        Some(b':') => Ok(TaskAddress { job, step: None, point: frame(text, &rest[1..])? }),
        Some(b'.') => within(text, job, &rest[1..]),
        Some(_) => Err(no_job()),
    }
}

/// A job's number, and nothing more.
pub fn job_number(text: &str) -> Result<u64, AddressError> {
    let address = address(text)?;
    match address.point {
        Point::Whole => Ok(address.job),
        Point::Task(_) | Point::Frame(_) => Err(AddressError::NotAJob { text: text.into(), job: address.job }),
    }
}

fn within(text: &str, job: u64, rest: &str) -> Result<TaskAddress, AddressError> {
    if let Some(task) = number(rest) {
        return Ok(TaskAddress { job, step: None, point: Point::Task(task) });
    }
    if let Some((step, task)) = rest.rsplit_once('.').and_then(|(step, task)| Some((step, number(task)?)))
        && !step.is_empty()
    {
        return Ok(TaskAddress { job, step: Some(step_ref(step)), point: Point::Task(task) });
    }
    match rest.rsplit_once(':') {
        Some((step, at)) if !step.is_empty() => {
            Ok(TaskAddress { job, step: Some(step_ref(step)), point: frame(text, at)? })
        }
        _ => Err(AddressError::NoTask { text: text.into(), job }),
    }
}

fn number(text: &str) -> Option<u64> {
    // `parse` alone would also take `+7`.
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn step_ref(text: &str) -> StepRef {
    match number(text).and_then(|n| u32::try_from(n).ok()) {
        Some(index) => StepRef::Index(index),
        None => StepRef::Name(text.into()),
    }
}

fn frame(text: &str, frame: &str) -> Result<Point, AddressError> {
    frame.parse().map(Point::Frame).map_err(|_| AddressError::BadFrame { text: text.into(), frame: frame.into() })
}

impl FromStr for TaskAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        address(text)
    }
}

impl fmt::Display for TaskAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.job)?;
        match &self.step {
            None => {}
            Some(StepRef::Index(index)) => write!(f, ".{index}")?,
            Some(StepRef::Name(name)) => write!(f, ".{name}")?,
        }
        match self.point {
            Point::Whole => Ok(()),
            Point::Task(task) => write!(f, ".{task}"),
            Point::Frame(frame) => write!(f, ":{frame}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(job: u64, step: Option<StepRef>, point: Point) -> Result<TaskAddress, AddressError> {
        Ok(TaskAddress { job, step, point })
    }

    #[test]
    fn all_forms() {
        let name = |n: &str| Some(StepRef::Name(n.into()));
        assert_eq!(address("42"), at(42, None, Point::Whole));
        assert_eq!(address("42.7"), at(42, None, Point::Task(7)));
        assert_eq!(address("42.1.7"), at(42, Some(StepRef::Index(1)), Point::Task(7)));
        assert_eq!(address("42.render.7"), at(42, name("render"), Point::Task(7)));
        assert_eq!(address("42.a.b c.7"), at(42, name("a.b c"), Point::Task(7)));
        assert_eq!(address("42:105"), at(42, None, Point::Frame(105)));
        assert_eq!(address("42:-5"), at(42, None, Point::Frame(-5)));
        assert_eq!(address("42.render:-5"), at(42, name("render"), Point::Frame(-5)));
        assert_eq!(job_number("42"), Ok(42));
    }

    #[test]
    fn refused() {
        for (text, sentence) in [
            ("", r#""" doesn't begin with a job's number (write 42, 42.7, 42.render.7 or 42:105)"#),
            ("x", r#""x" doesn't begin with a job's number (write 42, 42.7, 42.render.7 or 42:105)"#),
            ("-1", r#""-1" doesn't begin with a job's number (write 42, 42.7, 42.render.7 or 42:105)"#),
            ("42.render", r#""42.render" names a step but no task (write 42.STEP.TASK or 42.STEP:FRAME)"#),
            ("42.", r#""42." names a step but no task (write 42.STEP.TASK or 42.STEP:FRAME)"#),
            ("42:x", r#""42:x" has "x" where a frame's number belongs"#),
        ] {
            assert_eq!(address(text).map_err(|e| e.to_string()), Err(sentence.into()), "{text}");
        }
        assert!(matches!(job_number("42.1"), Err(AddressError::NotAJob { .. })));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,20}|[0-9.:a-]{0,12}") {
            if let Ok(found) = address(&text) {
                prop_assert_eq!(address(&found.to_string()), Ok(found));
            }
        }
    }
}
