//! From the words of the services to those of the crate `web`.

use crate::api::ApiError;
use crate::clock;
use crate::error::ServiceError;
use crate::identity::micros;
use job::{Counts, TaskState};
use policy::{Effect, Rule};
use web::{Badge, Bar, Moment, Reason, RuleLine, Rules, State, Text};

/// The year 9999: what is written is four digits.
const LATEST: i64 = 253_000_000_000 * 1_000_000;

/// Lines that are shown of what is wrong.
const LINES_MAX: usize = 40;

pub(crate) fn text(text: &str) -> Text {
    Text::from(text)
}

/// A time in µs since 1970.
pub(crate) fn moment(at: i64) -> Moment {
    Moment::new(clock::rfc3339_seconds(at), at, clock::now())
}

/// A time as the views have it.
pub(crate) fn times(rfc3339: &str) -> Option<Moment> {
    micros(rfc3339).ok().map(moment)
}

pub(crate) fn reason(error: &ApiError) -> Reason {
    let text = |t: &Option<String>| t.as_ref().map(Text::from);
    let mut lines = error.message.lines();
    Reason {
        text: lines.next().unwrap_or_default().into(),
        more: lines.take(LINES_MAX).map(Text::from).collect(),
        rule: text(&error.rule),
        value: text(&error.value),
        hint: text(&error.hint),
    }
}

pub(crate) fn rules(rules: &[Rule]) -> Rules {
    let line = |rule: &Rule| RuleLine {
        effect: match rule.effect {
            Effect::Selects => "selects",
            Effect::Allows => "allows",
            Effect::Refuses => "refuses",
            Effect::Waits => "waits",
        },
        rule: Text::from(&rule.rule),
        text: Text::from(&rule.text),
        source: Text::from(&rule.source),
    };
    Rules { lines: rules.iter().map(line).collect() }
}

/// By what right a job carries its user's name, in a word.
pub(crate) fn badge(via: &str) -> Badge {
    match via {
        "own" => Badge { word: "own", means: "the submitter's own name" },
        "grant" => Badge { word: "acting", means: "a proxy user, whom the submitter may act as by a grant" },
        "impersonate" => Badge { word: "by role", means: "named by somebody with the role impersonate" },
        "admin" => Badge { word: "by admin", means: "named by an administrator" },
        "operator" => Badge { word: "by operator", means: "named by whoever runs the farm" },
        _ => Badge { word: "unknown", means: "a right that this release doesn't know" },
    }
}

/// Tasks by state: what needs somebody's eyes first.
pub(crate) fn counts(counts: &Counts) -> Bar {
    let order = [
        TaskState::Failed,
        TaskState::Complete,
        TaskState::Running,
        TaskState::Suspended,
        TaskState::Blocked,
        TaskState::Killed,
        TaskState::Pending,
    ];
    Bar { total: counts.total, parts: order.map(|s| (State::of(s.as_str()), counts.get(s))).to_vec() }
}

/// To sort names as people count: `lin-2` before `lin-10`.
pub(crate) fn natural(name: &str) -> (String, u64, String) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (stem.to_owned(), name[stem.len()..].parse().unwrap_or(0), name.to_owned())
}

/// A time as people write it: `8h` and `3d` from now, or in full.
pub(crate) fn when(what: &'static str, text: Option<&str>) -> Result<Option<String>, ServiceError> {
    let Some(text) = text.map(str::trim).filter(|t| !t.is_empty()) else { return Ok(None) };
    if micros(text).is_ok() {
        return Ok(Some(text.to_owned()));
    }
    let wrong = || ServiceError::input(what, format!("{text:?} is no time: write 8h, 3d or 2026-11-30T18:00:00Z"));
    let unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
    let seconds = job::parse_duration(text).ok().filter(|_| unit).ok_or_else(wrong)?;
    let micros = i64::try_from(seconds).ok().and_then(|s| s.checked_mul(1_000_000)).ok_or_else(wrong)?;
    let at = clock::now().checked_add(micros).filter(|at| *at < LATEST).ok_or_else(wrong)?;
    Ok(Some(clock::rfc3339_seconds(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_order_of_counting() {
        let mut names = ["lin-10", "lin-2", "gpu", "lin-02", "lin-99999999999999999999999"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["gpu", "lin-99999999999999999999999", "lin-02", "lin-2", "lin-10"]);
    }

    #[test]
    fn times_as_people_write_them() {
        assert_eq!(when("at", None).expect("nothing"), None);
        assert_eq!(when("at", Some(" ")).expect("nothing"), None);
        let full = "2026-11-30T18:00:00Z";
        assert_eq!(when("at", Some(full)).expect("a time").as_deref(), Some(full));
        let soon = when("at", Some("2h30m")).expect("a time").expect("some");
        let at = micros(&soon).expect("a time") - clock::now();
        assert!((8_990_000_000..=9_000_000_000).contains(&at), "{at}");
        for wrong in ["90", "yesterday", "-2h", "18:00", "99999999999d", "2026-13-01T00:00:00Z"] {
            assert!(when("at", Some(wrong)).is_err(), "{wrong}");
        }
    }
}
