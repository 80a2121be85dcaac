//! How the audit's writer is doing, for whoever looks on: counters that cost it nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

#[derive(Debug, Clone, Default)]
pub(crate) struct State(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    failing: AtomicBool,
    ended: AtomicBool,
    records: AtomicU64,
    waiting: AtomicU64,
    /// Microseconds; 0 is never.
    signed_at: AtomicI64,
    anchored_at: AtomicI64,
}

impl State {
    /// The last thing that was to be written was not.
    pub(crate) fn is_failing(&self) -> bool {
        self.0.failing.load(Relaxed)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.ended.load(Relaxed)
    }

    /// The number of the last record.
    pub(crate) fn records(&self) -> u64 {
        self.0.records.load(Relaxed)
    }

    /// Records that wait for room on the disk.
    pub(crate) fn waiting(&self) -> u64 {
        self.0.waiting.load(Relaxed)
    }

    /// When this supervisor last signed a checkpoint.
    pub(crate) fn signed_at(&self) -> Option<i64> {
        Some(self.0.signed_at.load(Relaxed)).filter(|at| *at > 0)
    }

    pub(crate) fn anchored_at(&self) -> Option<i64> {
        Some(self.0.anchored_at.load(Relaxed)).filter(|at| *at > 0)
    }

    pub(super) fn failed(&self) {
        self.0.failing.store(true, Relaxed);
    }

    pub(super) fn stands(&self, sequence: u64) {
        self.0.failing.store(false, Relaxed);
        self.0.records.store(sequence, Relaxed);
    }

    pub(super) fn waits(&self, records: usize) {
        self.0.waiting.store(records as u64, Relaxed);
    }

    pub(super) fn signed(&self, at: i64) {
        self.0.signed_at.store(at, Relaxed);
    }

    pub(super) fn anchored(&self, at: i64) {
        self.0.anchored_at.store(at, Relaxed);
    }

    pub(super) fn ended(&self) {
        self.0.ended.store(true, Relaxed);
    }
}
