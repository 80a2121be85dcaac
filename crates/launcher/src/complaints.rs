//! What strangers and broken peers make a root process say.

use crate::sys::{self, say};

/// What they make us say: so much, then only how much more there was. The disk that our
/// messages end on is not theirs to fill.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    /// Start of the present minute, boot-time clock in ms.
    since: u64,
    said: u32,
    more: u64,
}

impl Complaints {
    const PER_MINUTE: u32 = 20;

    pub(crate) fn say(&mut self, line: &str) {
        for line in self.lines(line, sys::boot_ms()).into_iter().flatten() {
            say!("{line}");
        }
    }

    fn lines(&mut self, line: &str, now: u64) -> [Option<String>; 2] {
        let mut about_more = None;
        if now.saturating_sub(self.since) >= 60_000 {
            about_more = (self.more > 0).then(|| format!("{} more connections were refused or closed", self.more));
            *self = Self { since: now, said: 0, more: 0 };
        }
        if self.said >= Self::PER_MINUTE {
            self.more = self.more.saturating_add(1);
            return [about_more, None];
        }
        self.said += 1;
        [about_more, Some(line.to_owned())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_strangers_is_told_in_few_lines() {
        let mut complaints = Complaints::default();
        let mut said = Vec::new();
        for i in 0..300_000_u64 {
            said.extend(complaints.lines("refused", 1_000_000 + i).into_iter().flatten());
        }
        assert!(said.len() <= 6 * 21, "{}", said.len());
        let more: u64 = said.iter().filter_map(|l| l.split(' ').next()?.parse::<u64>().ok()).sum();
        let plain = said.iter().filter(|l| *l == "refused").count() as u64;
        assert_eq!(plain + more + complaints.more, 300_000, "every one is counted");
    }
}
