//! Room on the disk. What only ends something must be possible when there is none: some is kept back for that in a file
//! of no use, the *ballast*, and given up piece by piece. As long as there is too little, nothing is begun: what is
//! written then are endings, and what running work reports. Doesn't know what an ending is: `service` does.

use crate::audit::AuditError;
use crate::config::Settings;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use policy::Refusal;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::StoreError;

/// The ballast is given up in so many pieces: whatever else fills the disk would take all of it at once.
const PIECES: u64 = 8;
/// Neither the ballast nor the floor is more than this part of a small file system.
const PART: u64 = 16;
/// How often the disk is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Clones are the same room.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// On the file system of the store and the audit.
    path: PathBuf,
    ballast: u64,
    floor: u64,
    total: u64,
    /// Nothing is begun.
    is_short: AtomicBool,
    free: AtomicU64,
    /// What is left of the ballast, and who changes that: laying it down may take a while, and nobody waits to look.
    left: AtomicU64,
    hand: Mutex<()>,
}

/// How things stand, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) is_short: bool,
    pub(crate) free: u64,
    pub(crate) floor: u64,
    pub(crate) ballast: u64,
    pub(crate) left: u64,
}

impl Room {
    /// Looks at the disk and lays the ballast down, if there is room for it.
    pub(crate) fn open(dir: &Path, settings: &Settings) -> io::Result<Self> {
        let stat = statvfs(dir)?;
        let total = stat.blocks().saturating_mul(stat.fragment_size());
        let of = |mib: u64| (mib << 20).min(total / PART);
        let path = dir.join("ballast");
        let left = on_disk(&path);
        let room = Self(Arc::new(Inner {
            path,
            ballast: of(settings.disk_ballast_mib),
            floor: of(settings.disk_floor_mib),
            total,
            is_short: AtomicBool::new(false),
            free: AtomicU64::new(0),
            left: AtomicU64::new(left),
            hand: Mutex::default(),
        }));
        room.look();
        Ok(room)
    }

    /// Looks at the disk again and again until it is dropped.
    pub(crate) async fn keep(self) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let room = self.clone();
            // A file system that hangs holds up nothing else.
            if let Err(error) = tokio::task::spawn_blocking(move || room.look()).await {
                tracing::error!(%error, "the disk was not looked at");
            }
        }
    }

    /// Nothing is begun when there is less than the floor, or the ballast was touched; not before there is twice the
    /// floor besides a whole ballast does it end, so that it doesn't come and go.
    pub(crate) fn look(&self) {
        let inner = &self.0;
        let free = match statvfs(inner.path.parent().unwrap_or(Path::new("/"))) {
            Ok(stat) => stat.blocks_available().saturating_mul(stat.fragment_size()),
            Err(error) => return tracing::error!(%error, "the disk can't be looked at"),
        };
        inner.free.store(free, Ordering::Relaxed);
        let _hand = self.hand();
        let missing = inner.ballast.saturating_sub(self.left());
        let was_short = inner.is_short.load(Ordering::Relaxed);
        if free < inner.floor {
            return self.is_short(true);
        }
        if free < missing.saturating_add(2 * inner.floor) {
            return if missing > 0 {
                self.is_short(true)
            };
        }
        if missing > 0 {
            match lay(&inner.path, inner.ballast) {
                Ok(()) => inner.left.store(inner.ballast, Ordering::Relaxed),
                Err(error) => {
                    inner.left.store(on_disk(&inner.path), Ordering::Relaxed);
                    return tracing::error!(%error, path = %inner.path.display(), "no ballast can be laid");
                }
            }
        }
        if was_short {
            self.is_short(false);
        }
    }

    fn is_short(&self, is_short: bool) {
        if self.0.is_short.swap(is_short, Ordering::Relaxed) == is_short {
            return;
        }
        let free = self.0.free.load(Ordering::Relaxed);
        if is_short {
            tracing::error!(free, floor = self.0.floor, "the disk is full: only endings and reports are taken");
        } else {
            tracing::info!(free, "there is room on the disk again");
        }
    }

    /// Refuses to begin anything while there is too little.
    pub(crate) fn begin(&self) -> Result<(), Refusal> {
        if self.0.is_short.load(Ordering::Relaxed) { Err(self.refusal()) } else { Ok(()) }
    }

    pub(crate) fn refusal(&self) -> Refusal {
        let Stand { free, floor, ballast, left, .. } = self.stand();
        let needed = ballast.saturating_sub(left).saturating_add(2 * floor);
        let dir = self.0.path.parent().unwrap_or(Path::new("/")).display();
        Refusal {
            rule: "disk_full".to_owned(),
            value: format!("{} of {} free", mib(free), mib(self.0.total)),
            text: format!(
                "the supervisor's disk is full ({} free): nothing was done, and nothing is begun; jobs can be killed, \
                 blocked and suspended, and rights taken away",
                mib(free)
            ),
            hint: format!("free room where {dir} is: with {} free it goes on by itself", mib(needed)),
        }
    }

    pub(crate) fn stand(&self) -> Stand {
        Stand {
            is_short: self.0.is_short.load(Ordering::Relaxed),
            free: self.0.free.load(Ordering::Relaxed),
            floor: self.0.floor,
            ballast: self.0.ballast,
            left: self.left(),
        }
    }

    /// Gives a piece of the ballast up for an ending that failed for want of room when there was so much of it; false when
    /// nothing is left. What was given up meanwhile, for another ending, is room for this one, too.
    pub(crate) fn give(&self, had: u64) -> bool {
        self.is_short(true);
        let _hand = self.hand();
        let left = self.left();
        if left < had {
            return true;
        }
        let smaller = left.saturating_sub((self.0.ballast / PIECES).max(1));
        let cut = OpenOptions::new().write(true).open(&self.0.path).and_then(|file| file.set_len(smaller));
        match cut {
            Ok(()) if left > 0 => {
                tracing::warn!(left = smaller, "a piece of the ballast is given up for an ending");
                self.0.left.store(smaller, Ordering::Relaxed);
                true
            }
            Ok(()) => false,
            Err(error) => {
                tracing::error!(%error, path = %self.0.path.display(), "the ballast can't be given up");
                false
            }
        }
    }

    /// Carries an ending out, giving up ballast for it as long as there is any and that is what it lacks.
    pub(crate) async fn through<T, F>(&self, ending: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            let had = self.left();
            match ending().await {
                Err(error) if self.is_wanting(&error) && self.give(had) => {}
                done => return done,
            }
        }
    }

    /// A database whose disk is full may say that it can't write.
    fn is_wanting(&self, error: &StoreError) -> bool {
        match error {
            StoreError::DiskFull { .. } => true,
            StoreError::Storage { .. } => {
                self.look();
                self.0.free.load(Ordering::Relaxed) < self.0.floor
            }
            _ => false,
        }
    }

    /// Gives up what the first records of a start need.
    pub(crate) fn give_for_start(&self, error: &AuditError) -> bool {
        error.is_full() && self.give(self.left())
    }

    /// How much there is of the ballast.
    pub(crate) fn left(&self) -> u64 {
        self.0.left.load(Ordering::Relaxed)
    }

    fn hand(&self) -> std::sync::MutexGuard<'_, ()> {
        self.0.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The blocks of a ballast that are really there.
fn on_disk(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len().min(meta.blocks() * 512))
}

/// A file that has all its blocks.
fn lay(path: &Path, size: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let len = i64::try_from(size).unwrap_or(i64::MAX);
    let laid = match fallocate(&file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EOPNOTSUPP) => fill(&mut file, size),
        Err(errno) => Err(errno.into()),
    };
    laid.and_then(|()| file.sync_all()).inspect_err(|_| {
        // What is half there only takes room away.
        let _ = file.set_len(0);
    })
}

/// Where blocks can't be promised they are written, with what doesn't get smaller by being packed.
fn fill(file: &mut File, size: u64) -> io::Result<()> {
    let mut block = vec![0; 1 << 16];
    let mut left = size;
    while left > 0 {
        getrandom::fill(&mut block).map_err(io::Error::other)?;
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        file.write_all(&block[..part])?;
        left -= part as u64;
    }
    Ok(())
}

fn mib(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mib => format!("{mib} MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shortage_takes_one_piece_and_what_is_not_there_is_not_given() {
        let dir = tempfile::tempdir().expect("dir");
        let settings = Settings { disk_ballast_mib: 1, disk_floor_mib: 1, ..Settings::default() };
        let room = Room::open(dir.path(), &settings).expect("a disk");
        let whole = room.left();
        assert_eq!(whole, 1 << 20);
        // Two endings fail at once, and each gives up what it lacks.
        assert!(room.give(whole) && room.give(whole));
        assert_eq!(room.left(), whole / 8 * 7);
        assert!(room.give(room.left()));
        assert_eq!((room.left(), on_disk(&dir.path().join("ballast"))), (whole / 8 * 6, whole / 8 * 6));
        room.look();
        assert_eq!(room.left(), whole, "there is room again");
        // Where it can't be laid again there is none, and nobody is told that some was given up.
        assert!(room.give(whole));
        std::fs::remove_file(dir.path().join("ballast")).expect("removed");
        std::os::unix::fs::symlink("no/where", dir.path().join("ballast")).expect("a link");
        room.look();
        assert_eq!(room.left(), 0);
        assert!(!room.give(0));
    }
}
