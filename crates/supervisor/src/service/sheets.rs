//! Contact sheets that somebody has open, and the pictures on them. A sheet is on record once, with how many it shows; its
//! pictures then are not one by one. In memory only: what isn't known here is on record by itself.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sheets that are known at once, of everybody.
const SHEETS: usize = 256;
/// How long a sheet's pictures are asked for: they come as somebody gets to them.
const LIFE: Duration = Duration::from_secs(600);

/// Who looks as whom at which job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Looker {
    pub(crate) login_user: String,
    pub(crate) user: String,
    pub(crate) job: u64,
}

/// One page of a folder: workers and names.
#[derive(Debug, PartialEq, Eq)]
struct Sheet {
    looker: Looker,
    folder: String,
    pictures: BTreeSet<(String, String)>,
    until: Instant,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Sheets(Arc<Mutex<VecDeque<Sheet>>>);

impl Sheets {
    pub(crate) fn open(&self, looker: Looker, folder: &str, pictures: BTreeSet<(String, String)>, now: Instant) {
        let mut sheets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sheets.retain(|s| s.until > now && (&s.looker, s.folder.as_str(), &s.pictures) != (&looker, folder, &pictures));
        if sheets.len() >= SHEETS {
            sheets.pop_front();
        }
        sheets.push_back(Sheet { looker, folder: folder.to_owned(), pictures, until: now + LIFE });
    }

    /// Whether they have a sheet open with this file on it.
    pub(crate) fn shows(&self, looker: &Looker, worker: &str, path: &str, now: Instant) -> bool {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let wanted = (worker.to_owned(), name.to_owned());
        let sheets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sheets
            .iter()
            .any(|s| s.until > now && s.looker == *looker && s.folder == folder && s.pictures.contains(&wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looker(login_user: &str, user: &str, job: u64) -> Looker {
        Looker { login_user: login_user.to_owned(), user: user.to_owned(), job }
    }

    #[test]
    fn a_sheet_covers_its_own_pictures_for_its_own_person_for_a_while() {
        let (sheets, now) = (Sheets::default(), Instant::now());
        let ada = looker("ada", "ada", 1);
        sheets.open(ada.clone(), "a/b", [("lin-1".to_owned(), "1.png".to_owned())].into(), now);
        assert!(sheets.shows(&ada, "lin-1", "a/b/1.png", now));
        assert!(!sheets.shows(&ada, "lin-1", "a/b/1.png", now + LIFE));
        for path in ["a/b/2.png", "a/1.png", "1.png", "a/b//1.png", "a/b/../b/1.png", "a/b/1.png/"] {
            assert!(!sheets.shows(&ada, "lin-1", path, now), "{path}");
        }
        assert!(!sheets.shows(&ada, "lin-2", "a/b/1.png", now));
        for other in [looker("bob", "ada", 1), looker("ada", "render", 1), looker("ada", "ada", 2)] {
            assert!(!sheets.shows(&other, "lin-1", "a/b/1.png", now), "{other:?}");
        }
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let (sheets, now) = (Sheets::default(), Instant::now());
        let one = || [("lin-1".to_owned(), "1.png".to_owned())].into();
        for job in 0..SHEETS as u64 + 1 {
            sheets.open(looker("ada", "ada", job), "", one(), now);
            sheets.open(looker("ada", "ada", job), "", one(), now);
        }
        assert_eq!(sheets.0.lock().expect("lock").len(), SHEETS);
        assert!(!sheets.shows(&looker("ada", "ada", 0), "lin-1", "1.png", now));
        assert!(sheets.shows(&looker("ada", "ada", 1), "lin-1", "1.png", now));
    }
}
