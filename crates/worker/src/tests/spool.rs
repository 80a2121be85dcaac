//! The spool after a crash at any byte.

use super::Dice;
use super::fake_launcher::output_of;
use crate::spool::{Meta, Spool, whole_records};
use std::fs::{self, OpenOptions};
use std::path::Path;
use warrant::TaskRef;
use warrant::session_wire::{Event, Events, ItemEnd, Stream};
use wire::{Report, SessionEnd};

fn task(index: u64) -> TaskRef {
    TaskRef { step: 1, index, epoch: 1 }
}

/// What a session says in its life.
fn life(dice: &mut Dice) -> Vec<Event> {
    let mut events = vec![Event::Ready { pid: 1 }];
    for index in 0..8 {
        let name = "e".to_owned();
        let data = vec![b'e'; usize::try_from(dice.below(50)).unwrap()];
        events.push(Event::EnvironmentOutput { name, data });
        events.push(Event::TaskStarted { task: task(index), at_us: index });
        let all = output_of(task(index), usize::try_from(dice.below(400)).unwrap());
        let mut offset = 0;
        for piece in all.chunks(64) {
            events.push(Event::Output { task: task(index), stream: Stream::Stderr, offset, data: piece.to_vec() });
            offset += piece.len() as u64;
        }
        let end = ItemEnd::Exited(0);
        events.push(Event::TaskEnded { task: task(index), end, started_us: 1, ended_us: 2, cpu_us: 3, max_rss: 4 });
    }
    events
}

fn packet(events: &[Event], from: u64, count: u64) -> Events {
    let range = usize::try_from(from).unwrap()..usize::try_from(from + count).unwrap();
    Events { first: from + 1, events: events[range].to_vec() }
}

fn contents(dir: &Path) -> (Vec<String>, Vec<u8>) {
    let reports = fs::read_to_string(dir.join("reports")).unwrap();
    let lines = reports.lines().filter(|l| l.starts_with("{\"n\"")).map(str::to_owned).collect();
    (lines, fs::read(dir.join("log")).unwrap())
}

/// A kill leaves a prefix of what was being written: of the marks, or all marks and some of the log, or both and
/// some of the lines.
fn cut(dir: &Path, before: (u64, u64), after: (u64, u64), marks: u64, dice: &mut Dice) {
    let cut = |name: &str, len: u64| OpenOptions::new().write(true).open(dir.join(name)).unwrap().set_len(len).unwrap();
    let (reports, log) = (after.0 - before.0, after.1 - before.1);
    let written = dice.below(reports + log + 1);
    cut("log", before.1 + written.saturating_sub(marks).min(log));
    cut("reports", before.0 + written.min(marks) + written.saturating_sub(marks + log));
}

fn lengths(dir: &Path) -> (u64, u64) {
    let len = |name: &str| fs::metadata(dir.join(name)).unwrap().len();
    (len("reports"), len("log"))
}

/// Bytes of the marks that were written since.
fn marks_since(dir: &Path, before: u64) -> u64 {
    let text = fs::read(dir.join("reports")).unwrap();
    let fresh = &text[usize::try_from(before).unwrap()..];
    let marks = fresh.split_inclusive(|b| *b == b'\n').take_while(|l| l.starts_with(b"{\"m\""));
    marks.map(|l| l.len() as u64).sum()
}

fn crashes(seed: u64) {
    let mut dice = Dice::new(seed);
    let events = life(&mut dice);
    let total = events.len() as u64;

    let calm = tempfile::tempdir().unwrap();
    let mut spool = Spool::create(calm.path(), Meta::new(1, 1)).unwrap();
    spool.absorb(&packet(&events, 0, total)).unwrap();
    let expected = contents(&calm.path().join("1"));

    let wild = tempfile::tempdir().unwrap();
    let dir = wild.path().join("1");
    let mut spool = Spool::create(wild.path(), Meta::new(1, 1)).unwrap();
    let mut at = 0;
    while at < total {
        let count = (1 + dice.below(9)).min(total - at);
        let before = lengths(&dir);
        spool.absorb(&packet(&events, at, count)).unwrap();
        match dice.below(3) {
            0 => {
                let marks = marks_since(&dir, before.0);
                cut(&dir, before, lengths(&dir), marks, &mut dice);
                spool = Spool::open(&dir).unwrap();
                // The session has what was not acknowledged; that it may send more is for free.
                at = if dice.below(2) == 0 { at } else { at.min(spool.seen()) };
            }
            // Sent again though it was taken in.
            1 => at += dice.below(count + 1),
            _ => at += count,
        }
    }
    let have = contents(&dir);
    assert!(have.1 == expected.1, "seed {seed}: logs of {} and {} bytes", have.1.len(), expected.1.len());
    assert_eq!(have.0, expected.0, "seed {seed}");
}

#[test]
fn a_crash_at_any_byte_loses_nothing_and_doubles_nothing() {
    let now = crate::host::now_us();
    for round in 0..300 {
        crashes(now.wrapping_add(round));
    }
}

#[test]
fn the_last_report_ends_the_spool_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let ended = Report::Ended { end: SessionEnd::Left, text: String::new(), cpu_us: 1, max_rss: 2, proof: None };
    let mut spool = Spool::create(dir.path(), Meta::new(4, 1)).unwrap();
    assert!(!spool.over() && !spool.started());
    spool.add(&[ended]).unwrap();
    assert!(spool.over());
    let again = Spool::open(&dir.path().join("4")).unwrap();
    assert!(again.over());
    assert_eq!(again.watch().borrow().reports, 1);
}

#[test]
fn a_session_can_not_fill_the_memory_of_its_worker() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::create(dir.path(), Meta::new(1, 1)).unwrap();
    let output = |index| Event::Output { task: task(index), stream: Stream::Stdout, offset: 0, data: vec![1] };
    let events = Events { first: 1, events: (0..2000).map(output).collect() };
    assert!(spool.absorb(&events).is_err());
    let overflow = Events { first: u64::MAX, events: vec![Event::Stuck, Event::Stuck] };
    assert!(spool.absorb(&overflow).is_err());
    assert!(spool.absorb(&Events { first: 0, events: vec![Event::Stuck] }).is_err());
    let far = Event::Output { task: task(1), stream: Stream::Stdout, offset: u64::MAX, data: vec![1] };
    assert!(spool.absorb(&Events { first: 1, events: vec![far] }).is_err());
    assert_eq!(lengths(&dir.path().join("1")), (0, 0));
}

#[test]
fn overlapping_output_is_kept_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::create(dir.path(), Meta::new(1, 1)).unwrap();
    let piece =
        |offset: u64, data: &[u8]| Event::Output { task: task(1), stream: Stream::Stdout, offset, data: data.to_vec() };
    let events = vec![piece(0, b"abc"), piece(1, b"bcd"), piece(0, b"ab"), piece(4, b"e")];
    spool.absorb(&Events { first: 1, events }).unwrap();
    let log = fs::read(dir.path().join("1/log")).unwrap();
    let mut data = Vec::new();
    whole_records(&log, |r| {
        assert_eq!(r.offset, data.len() as u64);
        data.extend_from_slice(r.data);
    });
    assert_eq!(data, b"abcde");
}
