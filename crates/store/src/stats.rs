//! Counts that cost next to nothing to keep: how much came together, and how long it took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How often something was at most so large. Clones are the same histogram.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above them all.
    buckets: Vec<AtomicU64>,
    /// In millionths.
    sum: AtomicU64,
}

/// What a histogram has counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// Upper bound, and how many were at most that; each includes the ones before.
    pub buckets: Vec<(f64, u64)>,
    pub sum: f64,
    pub count: u64,
}

impl Histogram {
    /// `bounds` in rising order.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds, buckets, sum: AtomicU64::new(0) }))
    }

    pub fn count(&self, value: f64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.0.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
        self.0.sum.fetch_add((value * 1e6) as u64, Relaxed);
    }

    pub fn took(&self, time: Duration) {
        self.count(time.as_secs_f64());
    }

    #[must_use]
    pub fn counted(&self) -> Counted {
        let each: Vec<u64> = self.0.buckets.iter().map(|b| b.load(Relaxed)).collect();
        let mut count = 0;
        let so_far: Vec<u64> = each
            .iter()
            .map(|n| {
                count += n;
                count
            })
            .collect();
        let buckets = self.0.bounds.iter().copied().zip(so_far).collect();
        #[expect(clippy::cast_precision_loss, reason = "a sum of what was measured")]
        let sum = self.0.sum.load(Relaxed) as f64 / 1e6;
        Counted { buckets, sum, count }
    }
}

/// How the store writes.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Changes in one transaction.
    pub group: Histogram,
    /// Seconds that a commit took, which is mostly the disk's `fsync`.
    pub commit: Histogram,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            group: Histogram::new(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
            commit: Histogram::new(&[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_has_those_before_it() {
        let histogram = Histogram::new(&[1.0, 2.0, 4.0]);
        for value in [0.5, 1.0, 1.5, 4.0, 100.0] {
            histogram.count(value);
        }
        let counted = histogram.counted();
        assert_eq!(counted.buckets, [(1.0, 2), (2.0, 3), (4.0, 4)]);
        assert_eq!((counted.count, counted.sum), (5, 107.0));
    }
}
