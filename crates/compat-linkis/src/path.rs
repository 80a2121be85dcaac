//! Paths that name a job's output. They lead to no file of any host: what they mean is kept by the supervisor.

use std::fmt;

const SCHEME: &str = "stead://";
/// Linkis's word for it, in the path.
const LINKIS: &str = "linkis";

/// Why a path names nothing that is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("no path is given")]
    Empty,
    #[error("{0:?} is no result or log of a job, and other files are not served yet (use paths of the task's record)")]
    NotServed(String),
}

/// Where a task's results are, as its record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub user: String,
    /// `2026-11-22` and `101500`.
    pub date: String,
    pub time: String,
    pub creator: String,
    pub task: u64,
}

/// What of a task a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    Folder,
    /// `_3.dolphin` is 3.
    File(u64),
    Log,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, date, time, creator, task } = self;
        write!(f, "{SCHEME}{user}/{LINKIS}/{date}/{time}/{creator}/{task}")
    }
}

impl Location {
    #[must_use]
    pub fn file(&self, n: u64) -> String {
        format!("{self}/{}", Self::file_name(n))
    }

    #[must_use]
    pub fn file_name(n: u64) -> String {
        format!("_{n}.dolphin")
    }

    #[must_use]
    pub fn log(&self) -> String {
        format!("{self}.log")
    }

    /// Which task a path is about, and what of it. Whoever asks has to see that the path is exactly the one that the
    /// task's record has: the same words with another user or time name nothing.
    pub fn parse(path: &str) -> Result<(Self, Kept), BadPath> {
        let other = || BadPath::NotServed(path.chars().take(200).collect());
        if path.is_empty() {
            return Err(BadPath::Empty);
        }
        let rest = path.strip_prefix(SCHEME).ok_or_else(other)?;
        let parts: Vec<&str> = rest.strip_suffix('/').unwrap_or(rest).split('/').collect();
        let (user, date, time, creator, last, file) = match parts[..] {
            [user, LINKIS, date, time, creator, last] => (user, date, time, creator, last, None),
            [user, LINKIS, date, time, creator, last, file] => (user, date, time, creator, last, Some(file)),
            _ => return Err(other()),
        };
        let (task, kept) = match (last.strip_suffix(".log"), file) {
            (Some(task), None) => (task, Kept::Log),
            (None, None) => (last, Kept::Folder),
            (None, Some(file)) => (last, Kept::File(file_number(file).ok_or_else(other)?)),
            (Some(_), Some(_)) => return Err(other()),
        };
        let task = crate::task_number(task).ok_or_else(other)?;
        let [user, date, time, creator] = [user, date, time, creator].map(str::to_owned);
        Ok((Self { user, date, time, creator, task }, kept))
    }
}

fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix('_')?.strip_suffix(".dolphin")?;
    let is_plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let is_short = digits == "0" || !digits.starts_with('0');
    if is_plain && is_short { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location() -> Location {
        Location {
            user: "bob".to_owned(),
            date: "2026-11-22".to_owned(),
            time: "101500".to_owned(),
            creator: "IDE".to_owned(),
            task: 7,
        }
    }

    #[test]
    fn there_and_back() {
        let location = location();
        assert_eq!(location.to_string(), "stead://bob/linkis/2026-11-22/101500/IDE/7");
        assert_eq!(Location::parse(&location.to_string()), Ok((location.clone(), Kept::Folder)));
        assert_eq!(Location::parse(&location.file(12)), Ok((location.clone(), Kept::File(12))));
        assert_eq!(Location::parse(&location.log()), Ok((location, Kept::Log)));
    }

    #[test]
    fn nothing_else_is_a_path_of_ours() {
        assert_eq!(Location::parse(""), Err(BadPath::Empty));
        for bad in [
            "/etc/passwd",
            "file:///etc/passwd",
            "hdfs:///tmp/x",
            "stead:///etc/passwd",
            "stead://bob/linkis/d/t/IDE/7/../8",
            "stead://bob/linkis/d/t/IDE/7/_0.dolphin/x",
            "stead://bob/linkis/d/t/IDE/07",
            "stead://bob/linkis/d/t/IDE/7/_00.dolphin",
            "stead://bob/linkis/d/t/IDE/7/_-1.dolphin",
            "stead://bob/linkis/d/t/IDE/7.log/_0.dolphin",
            "stead://bob/other/d/t/IDE/7",
            "stead://bob/linkis/d/t/7",
        ] {
            assert_eq!(Location::parse(bad), Err(BadPath::NotServed(bad.to_owned())), "{bad}");
        }
    }
}
