//! Qube!'s priorities, of which 1 is the highest and 9999 the usual, as Stead's, of which higher is higher and 0 the usual.

use crate::failure::Failure;

/// Qube!'s `supervisor_max_priority`; a larger number counts as that.
const LOWEST: u64 = 9999;

pub(super) fn to_stead(priority: u64) -> Result<i64, Failure> {
    if priority == 0 {
        return Err(Failure::usage("--priority 0: 1 is the highest, 9999 the usual"));
    }
    Ok(i64::try_from(LOWEST - priority.min(LOWEST)).unwrap_or(0))
}

/// A job that is below the usual has more than 9999.
pub(super) const fn from_stead(priority: i64) -> i64 {
    9999 - priority
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_the_highest() {
        for (qube, stead) in [(1, 9998), (100, 9899), (9998, 1), (9999, 0), (20000, 0)] {
            assert_eq!(to_stead(qube).expect("a priority"), stead);
            assert!(stead <= i64::from(job::PRIORITY_MAX));
        }
        assert_eq!([from_stead(9998), from_stead(0), from_stead(-5)], [1, 9999, 10004]);
        assert!(to_stead(0).is_err());
    }
}
