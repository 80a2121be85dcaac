//! Durations, sizes and counts of cores as people type them.

/// Why a text is no duration, size or number of cores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("{text:?} is not a duration (write seconds, or a number with s, m, h or d: 90, 90s, 5m, 1h30m)")]
    Duration { text: String },
    #[error("{text:?} is not a size (write bytes, or a number with K, M, G or T: 512M, 1.5G, 1GiB)")]
    Size { text: String },
    #[error("{text:?} is not a number of cores (write 1, 4 or 0.5; at most three decimals)")]
    Cores { text: String },
    #[error("{text:?} is too large")]
    TooLarge { text: String },
}

/// Seconds from `90`, `90s`, `5m`, `2h`, `1d` or a sequence of these such as `1h30m`.
pub fn parse_duration(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Duration { text: text.into() };
    let large = || UnitError::TooLarge { text: text.into() };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let (mut total, mut first) = (0u64, true);
    while !rest.is_empty() {
        let (number, tail) = digits(rest);
        if number.is_empty() {
            return Err(bad());
        }
        let number: u64 = number.parse().map_err(|_| large())?;
        let unit = tail.chars().next();
        let seconds = match unit {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            None if first => 1,
            _ => return Err(bad()),
        };
        total = number.checked_mul(seconds).and_then(|s| total.checked_add(s)).ok_or_else(large)?;
        rest = unit.map_or("", |u| &tail[u.len_utf8()..]);
        first = false;
    }
    Ok(total)
}

/// Bytes from `1024`, `512M`, `1.5G`, `1GiB`. K, M, G, T and KiB … are powers of 1024; KB, MB … powers of 1000.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Size { text: text.into() };
    let large = || UnitError::TooLarge { text: text.into() };
    let trimmed = text.trim();
    let (whole, rest) = digits(trimmed);
    let (fraction, unit) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() || (rest.starts_with('.') && fraction.is_empty()) {
        return Err(bad());
    }
    let factor = unit_factor(unit.trim_start()).ok_or_else(bad)?;
    if factor == 1 && !fraction.is_empty() {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| large())?;
    let whole = whole.checked_mul(factor).ok_or_else(large)?;
    let part = billionths(fraction).ok_or_else(bad)?;
    let part = u64::try_from(u128::from(factor) * u128::from(part) / 1_000_000_000).map_err(|_| large())?;
    whole.checked_add(part).ok_or_else(large)
}

/// Thousandths of a core from `4` or `0.5`.
pub fn parse_cores(text: &str) -> Result<u32, UnitError> {
    let bad = || UnitError::Cores { text: text.into() };
    let (whole, rest) = digits(text.trim());
    let fraction = match rest.strip_prefix('.') {
        Some(fraction) if !fraction.is_empty() && fraction.len() <= 3 => fraction,
        None if rest.is_empty() => "",
        _ => return Err(bad()),
    };
    if whole.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let large = || UnitError::TooLarge { text: text.into() };
    let whole: u32 = whole.parse().map_err(|_| large())?;
    let part: u32 = format!("{fraction:0<3}").parse().map_err(|_| bad())?;
    let milli = whole.checked_mul(1000).and_then(|m| m.checked_add(part)).ok_or_else(large)?;
    if milli == 0 { Err(bad()) } else { Ok(milli) }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// `5` → 500,000,000: the decimals after the point, in billionths.
fn billionths(fraction: &str) -> Option<u64> {
    if fraction.len() > 9 {
        return None;
    }
    format!("{fraction:0<9}").parse().ok()
}

fn unit_factor(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let (letter, base) = match unit.as_str() {
        "" | "b" => return Some(1),
        u if u.len() == 1 => (u, 1024u64),
        u if u.ends_with("ib") => (&u[..u.len() - 2], 1024),
        u if u.ends_with('b') => (&u[..u.len() - 1], 1000),
        _ => return None,
    };
    let power = match letter {
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    Some(base.pow(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86_400), (" 1h30m ", 5400), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(seconds), "{text}");
        }
        for text in ["", "x", "5x", "1h30", "-5", "1.5h", "5 m", "m", "５m", "1é"] {
            assert!(matches!(parse_duration(text), Err(UnitError::Duration { .. })), "{text}");
        }
        for text in ["99999999999999999999", "300000000000000000d"] {
            assert!(matches!(parse_duration(text), Err(UnitError::TooLarge { .. })), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("77", 77),
            ("77B", 77),
            ("1k", 1024),
            ("512M", 512 << 20),
            ("4G", 4 << 30),
            ("1GiB", 1 << 30),
            ("1 GiB", 1 << 30),
            ("1GB", 1_000_000_000),
            ("1.5G", 3 << 29),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "1.G", ".5G", "1.5", "1X", "-1G", "1ib", "1éB", "1.0000000001G"] {
            assert!(matches!(parse_size(text), Err(UnitError::Size { .. })), "{text}");
        }
        assert!(matches!(parse_size("99999999T"), Err(UnitError::TooLarge { .. })));
    }

    #[test]
    fn cores() {
        for (text, milli) in [("1", 1000), ("0.5", 500), ("12", 12_000), ("0.125", 125)] {
            assert_eq!(parse_cores(text), Ok(milli), "{text}");
        }
        for text in ["", "0", "0.0", "1.", ".5", "0.0625", "-1", "two", "1e3"] {
            assert!(matches!(parse_cores(text), Err(UnitError::Cores { .. })), "{text}");
        }
        assert!(matches!(parse_cores("9999999"), Err(UnitError::TooLarge { .. })));
    }
}
