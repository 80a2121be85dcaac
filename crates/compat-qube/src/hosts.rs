//! Names of sections: one name, or a numbered range of hosts, `pfx[000-100]`.

/// Most hosts of one range.
pub(crate) const RANGE_MAX: u64 = 100_000;

/// The name of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    One(String),
    Range {
        before: String,
        first: u64,
        last: u64,
        /// Digits of a number that is written with zeros in front; 0: as it is.
        width: usize,
        after: String,
    },
}

/// Why a text names no section.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("it is empty")]
    Empty,
    #[error("it contains {0:?} (letters, digits and _ - . are allowed)")]
    Character(char),
    #[error("its range is not like [01-10]")]
    Range,
    #[error("its range goes down")]
    Backwards,
    #[error("its range has {0} hosts, at most {RANGE_MAX} are allowed")]
    TooMany(u64),
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let Some((before, rest)) = text.split_once('[') else { return Ok(Self::One(name(text)?.to_owned())) };
        let (range, after) = rest.split_once(']').ok_or(PatternError::Range)?;
        let (first, last) = range.split_once('-').ok_or(PatternError::Range)?;
        let number = |t: &str| {
            let digits = !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| t.parse::<u64>().ok()).flatten().ok_or(PatternError::Range)
        };
        let width = if first.len() > 1 && first.starts_with('0') { first.len() } else { 0 };
        let (first, last) = (number(first)?, number(last)?);
        let hosts = last.checked_sub(first).ok_or(PatternError::Backwards)?.saturating_add(1);
        if hosts > RANGE_MAX {
            return Err(PatternError::TooMany(hosts));
        }
        for part in [before, after].into_iter().filter(|p| !p.is_empty()) {
            name(part)?;
        }
        Ok(Self::Range { before: before.to_owned(), first, last, width, after: after.to_owned() })
    }

    /// The host as this pattern writes it, if it is one of these. Hosts' names have no case.
    pub(crate) fn matches(&self, host: &str) -> Option<String> {
        match self {
            Self::One(name) => name.eq_ignore_ascii_case(host).then(|| name.clone()),
            Self::Range { before, first, last, after, .. } => {
                let digits = host.len().checked_sub(before.len() + after.len())?;
                let number = host.get(before.len()..before.len() + digits)?;
                // More digits than any number has; and no sign.
                if number.len() > 20 || !number.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                let number = number.parse::<u64>().ok().filter(|n| (first..=last).contains(&n))?;
                Some(self.instance(number)).filter(|written| written.eq_ignore_ascii_case(host))
            }
        }
    }

    fn instance(&self, number: u64) -> String {
        match self {
            Self::One(name) => name.clone(),
            Self::Range { before, width, after, .. } => format!("{before}{number:0width$}{after}"),
        }
    }

    /// All of them, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let (first, last) = match self {
            Self::One(_) => (0, 0),
            Self::Range { first, last, .. } => (*first, *last),
        };
        (first..=last).map(|n| self.instance(n))
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(name) => f.write_str(name),
            Self::Range { before, first, last, width, after } => {
                write!(f, "{before}[{first:0width$}-{last:0width$}]{after}")
            }
        }
    }
}

fn name(text: &str) -> Result<&str, PatternError> {
    if text.is_empty() {
        return Err(PatternError::Empty);
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "_-.".contains(*c))) {
        Some(c) => Err(PatternError::Character(c)),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<String> {
        Pattern::parse(text).expect("a pattern").names().collect()
    }

    #[test]
    fn a_range_is_padded_as_it_is_written() {
        assert_eq!(hosts("pfx[098-100]"), ["pfx098", "pfx099", "pfx100"]);
        assert_eq!(hosts("fast[9-11]"), ["fast9", "fast10", "fast11"]);
        assert_eq!(hosts("r[0-1].farm"), ["r0.farm", "r1.farm"]);
        assert_eq!(hosts("one"), ["one"]);
        let range = Pattern::parse("host[01-05]").expect("a range");
        assert_eq!(range.matches("host05").as_deref(), Some("host05"));
        assert_eq!(range.matches("HOST05").as_deref(), Some("host05"));
        for not in ["host5", "host06", "host005", "host00", "host", "hos", "host+5", "xhost05", "host05x", "hÖst05"] {
            assert_eq!(range.matches(not), None, "{not}");
        }
        assert_eq!(range.to_string(), "host[01-05]");
    }

    #[test]
    fn what_is_no_name_says_why() {
        for (text, error) in [
            ("", PatternError::Empty),
            ("a b", PatternError::Character(' ')),
            ("a[1-2", PatternError::Range),
            ("a[1]", PatternError::Range),
            ("a[1-x]", PatternError::Range),
            ("a[1-99999999999999999999999]", PatternError::Range),
            ("a[2-1]", PatternError::Backwards),
            ("a[0-100000]", PatternError::TooMany(100_001)),
            ("a[1-2]b[1-2]", PatternError::Character('[')),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
    }
}
