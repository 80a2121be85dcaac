//! Wall-clock times as they are stored (µs since 1970) and shown (RFC 3339, UTC, ms). Deadlines never come from here:
//! those are counted on the monotonic clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in µs since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

/// `2026-11-22T10:00:00.123Z`.
pub(crate) fn rfc3339(us: i64) -> String {
    match jiff::Timestamp::from_microsecond(us) {
        Ok(t) => format!("{t:.3}"),
        Err(_) => format!("{us} µs"),
    }
}

/// `2026-11-22T10:00:00Z`, as the tables that people edit have times.
pub(crate) fn rfc3339_seconds(us: i64) -> String {
    match jiff::Timestamp::from_microsecond(us) {
        Ok(t) => format!("{t:.0}"),
        Err(_) => format!("{us} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn three_digits_and_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_700_000_000_123_999), "2023-11-14T22:13:20.123Z");
    }
}
