//! Times as people type and read them. UTC throughout, as everywhere on this command line.

use jiff::{SignedDuration, Timestamp};

use crate::failure::Failure;
use crate::out;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A time that is still to come, unless it is written out in full: `18:00` (the next one), `tomorrow` (when it begins),
/// `2h`, `3d`, `1h30m` (from now), or RFC 3339.
pub(crate) fn ahead(option: &str, text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let wrong = || Failure::Usage {
        text: format!("{option}: {text:?} is no time"),
        hint: Some("write 18:00 (UTC), tomorrow, 2h, 3d or 2026-11-30T18:00:00Z".into()),
    };
    let midnight = now.as_second().div_euclid(DAY) * DAY;
    let second = if text == "tomorrow" {
        midnight + DAY
    } else if let Some(clock) = clock(text) {
        let today = midnight + clock;
        if today > now.as_second() { today } else { today + DAY }
    } else if text.ends_with(['s', 'm', 'h', 'd']) {
        let seconds = job::parse_duration(text).ok().and_then(|s| i64::try_from(s).ok()).ok_or_else(wrong)?;
        now.checked_add(SignedDuration::from_secs(seconds)).map_err(|_| wrong())?.as_second()
    } else {
        text.parse::<Timestamp>().map_err(|_| wrong())?.as_second()
    };
    Timestamp::from_second(second).map_err(|_| wrong())
}

/// Seconds since midnight, of `18:00`.
fn clock(text: &str) -> Option<i64> {
    let two = |digits: &str, max: i64| {
        let plain = digits.len() <= 2 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|n: &i64| plain && *n < max)
    };
    let (hours, minutes) = text.split_once(':').filter(|(_, minutes)| minutes.len() == 2)?;
    Some(two(hours, 24)? * HOUR + two(minutes, 60)? * MINUTE)
}

/// As the supervisor takes it: `2026-11-30T18:00:00Z`.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// When something ends, for a person: `2026-11-30 18:00 (in 3 h)`.
pub(crate) fn end(until: Option<&str>, now: Timestamp) -> String {
    let Some(until) = until else { return "until revoked".into() };
    let Ok(time) = until.parse::<Timestamp>() else { return out::plain(until) };
    format!("{} ({})", short(until), distance(time.as_second() - now.as_second()))
}

/// When something begins, if that is still to come.
pub(crate) fn beginning(from: Option<&str>, now: Timestamp) -> Option<String> {
    let time = from?.parse::<Timestamp>().ok()?;
    (time > now)
        .then(|| format!("{} ({})", short(from.unwrap_or_default()), distance(time.as_second() - now.as_second())))
}

/// To the minute.
fn short(stamp: &str) -> String {
    stamp.get(..16).map_or_else(|| out::plain(stamp), |s| out::plain(s).replace('T', " "))
}

fn distance(seconds: i64) -> String {
    let length = match seconds.abs() {
        s if s < 2 * MINUTE => format!("{s} s"),
        s if s < 2 * HOUR => format!("{} min", s / MINUTE),
        s if s < 2 * DAY => format!("{} h", s / HOUR),
        s => format!("{} days", s / DAY),
    };
    if seconds < 0 { format!("{length} ago") } else { format!("in {length}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:11:12.5Z".parse().expect("time")
    }

    #[test]
    fn what_people_type() {
        for (text, expected) in [
            ("18:00", "2026-11-22T18:00:00Z"),
            ("9:05", "2026-11-23T09:05:00Z"),
            ("10:11", "2026-11-23T10:11:00Z"),
            ("tomorrow", "2026-11-23T00:00:00Z"),
            ("2h", "2026-11-22T12:11:12Z"),
            ("3d", "2026-11-25T10:11:12Z"),
            ("1h30m", "2026-11-22T11:41:12Z"),
            ("2026-11-30T18:00:00+01:00", "2026-11-30T17:00:00Z"),
        ] {
            assert_eq!(rfc3339(ahead("--until", text, now()).expect(text)), expected, "{text}");
        }
        for wrong in
            ["", "18", "24:00", "18:60", "+1:00", "18:0", "-2h", "d", "soon", "2026-11-30", "99999999999999d", "é:00"]
        {
            let failure = ahead("--until", wrong, now()).expect_err(wrong);
            assert!(failure.exit() == 2 && failure.to_string().starts_with("--until"), "{wrong}");
        }
    }

    #[test]
    fn what_people_read() {
        for (until, expected) in [
            (None, "until revoked"),
            (Some("2026-11-22T10:12:12Z"), "2026-11-22 10:12 (in 60 s)"),
            (Some("2026-11-22T11:11:12.000Z"), "2026-11-22 11:11 (in 60 min)"),
            (Some("2026-11-23T10:11:12Z"), "2026-11-23 10:11 (in 24 h)"),
            (Some("2026-12-22T10:11:12Z"), "2026-12-22 10:11 (in 30 days)"),
            (Some("2026-11-22T07:11:12Z"), "2026-11-22 07:11 (3 h ago)"),
            (Some("soon\u{1b}"), "soon\\u{1b}"),
        ] {
            assert_eq!(end(until, now()), expected);
        }
        assert_eq!(beginning(Some("2026-11-22T10:00:00Z"), now()), None);
        assert_eq!(beginning(Some("2026-11-25T10:11:12Z"), now()).as_deref(), Some("2026-11-25 10:11 (in 3 days)"));
    }
}
