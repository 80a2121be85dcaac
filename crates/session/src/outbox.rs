//! Events on their way to the worker: numbered, packed, kept until acknowledged, sent again to a new worker.
//!
//! Bounded: what a task can make grow (its output and the text it says of itself) counts against a window, and while
//! the window is full its pipes are not read and no item is started.

use crate::sys;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use warrant::session_wire::{Event, Events, PACKET_MAX, WINDOW};

/// Events wait this long for company before they make a packet.
const DELAY_US: u64 = 5_000;
/// As much is sent without waiting.
const ENOUGH: usize = 32 << 10;
/// Number of the first event and count of events.
const HEADER: usize = 12;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    kept: VecDeque<Kept>,
    /// How many events were acknowledged: the number of the oldest kept is one more.
    acknowledged: u64,
    /// How many of `kept` the present worker was sent.
    sent: usize,
    /// The highest number any worker was sent.
    highest_sent: u64,
    unsent_bytes: usize,
    unsent_since: Option<u64>,
    windowed: usize,
    blocked: bool,
}

#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    windowed: usize,
}

/// The worker said something impossible about numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NeverSent(pub(crate) u64);

/// The other end of the channel is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl Outbox {
    pub(crate) fn push(&mut self, event: &Event, now_us: u64) {
        let bytes = event.encode();
        let windowed = match event {
            Event::Output { data, .. } | Event::EnvironmentOutput { data, .. } => data.len(),
            Event::Status { .. } | Event::Progress { .. } => bytes.len(),
            _ => 0,
        };
        self.windowed += windowed;
        self.unsent_bytes += bytes.len();
        self.unsent_since.get_or_insert(now_us);
        self.kept.push_back(Kept { bytes, windowed });
    }

    /// How many more bytes of output may be taken in.
    pub(crate) fn room(&self) -> usize {
        WINDOW.saturating_sub(self.windowed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many events are not acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The channel takes no more for now.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(crate) fn unblock(&mut self) {
        self.blocked = false;
    }

    pub(crate) fn acknowledge(&mut self, through: u64) -> Result<(), NeverSent> {
        if through > self.highest_sent {
            return Err(NeverSent(through));
        }
        while self.acknowledged < through {
            let Some(kept) = self.kept.pop_front() else { break };
            self.windowed -= kept.windowed;
            self.acknowledged += 1;
            match self.sent.checked_sub(1) {
                Some(sent) => self.sent = sent,
                // Sent to the worker before, not yet again to this one.
                None => self.unsent_bytes -= kept.bytes.len(),
            }
        }
        if self.sent == self.kept.len() {
            self.unsent_since = None;
        }
        Ok(())
    }

    /// A new worker has everything up to `acked`; it gets the rest again.
    pub(crate) fn attach(&mut self, acked: u64, now_us: u64) -> Result<(), NeverSent> {
        self.acknowledge(acked)?;
        self.sent = 0;
        self.unsent_bytes = self.kept.iter().map(|k| k.bytes.len()).sum();
        self.unsent_since = if self.kept.is_empty() { None } else { Some(now_us.saturating_sub(DELAY_US)) };
        self.blocked = false;
        Ok(())
    }

    /// When the next packet should go, if one is waiting and can. `idle`: nothing will join it soon.
    pub(crate) fn due(&self, idle: bool) -> Option<u64> {
        let since = self.unsent_since.filter(|_| !self.blocked)?;
        Some(if idle || self.unsent_bytes >= ENOUGH { since } else { since.saturating_add(DELAY_US) })
    }

    /// Sends all that is waiting, as far as the channel takes it.
    pub(crate) fn flush(&mut self, channel: BorrowedFd<'_>) -> Result<(), Gone> {
        while self.sent < self.kept.len() && !self.blocked {
            let events = self.next_packet();
            let first = self.acknowledged + 1 + self.sent as u64;
            match sys::send(channel, &Events::join(first, &events)) {
                Ok(()) => {
                    let bytes: usize = events.iter().map(|e| e.len()).sum();
                    self.sent += events.len();
                    self.unsent_bytes -= bytes;
                    self.highest_sent = self.highest_sent.max(self.acknowledged + self.sent as u64);
                }
                Err(e) => match sys::errno_of(&e) {
                    libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => self.blocked = true,
                    libc::EINTR => {}
                    _ => return Err(Gone),
                },
            }
        }
        if self.sent == self.kept.len() {
            self.unsent_since = None;
        }
        Ok(())
    }

    /// As many of the unsent events as fit a packet; at least one.
    fn next_packet(&self) -> Vec<&[u8]> {
        let mut size = HEADER;
        let fits = |kept: &&Kept| {
            size += kept.bytes.len();
            size <= PACKET_MAX
        };
        self.kept.iter().skip(self.sent).take_while(fits).map(|k| k.bytes.as_slice()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd as _, OwnedFd};
    use warrant::TaskRef;
    use warrant::session_wire::{OUTPUT_MAX, Stream};

    fn output(len: usize) -> Event {
        let task = TaskRef { step: 1, index: 2, epoch: 3 };
        Event::Output { task, stream: Stream::Stdout, offset: 0, data: vec![b'x'; len] }
    }

    /// A datagram pair keeps packet boundaries as the real channel does, and std can make it.
    fn pair() -> (OwnedFd, std::os::unix::net::UnixDatagram) {
        let (a, b) = std::os::unix::net::UnixDatagram::pair().unwrap();
        b.set_nonblocking(true).unwrap();
        (a.into(), b)
    }

    fn received(from: &std::os::unix::net::UnixDatagram) -> Vec<Events> {
        let mut buf = vec![0; PACKET_MAX + 1];
        let mut all = Vec::new();
        while let Ok(n) = from.recv(&mut buf) {
            assert!(n <= PACKET_MAX);
            all.push(Events::decode(&buf[..n]).unwrap());
        }
        all
    }

    #[test]
    fn numbers_are_consecutive_and_several_events_share_a_packet() {
        let (a, b) = pair();
        let mut outbox = Outbox::default();
        (0..100).for_each(|_| outbox.push(&Event::BatchDone { sequence: 1 }, 0));
        outbox.flush(a.as_fd()).unwrap();
        let packets = received(&b);
        assert_eq!(packets.len(), 1);
        assert_eq!((packets[0].first, packets[0].events.len()), (1, 100));
        outbox.push(&Event::Stuck, 0);
        outbox.flush(a.as_fd()).unwrap();
        assert_eq!(received(&b)[0].first, 101);
    }

    #[test]
    fn full_packets_are_never_too_long() {
        let (a, b) = pair();
        let mut outbox = Outbox::default();
        (0..4).for_each(|_| outbox.push(&output(OUTPUT_MAX), 0));
        outbox.flush(a.as_fd()).unwrap();
        let firsts: Vec<u64> = received(&b).iter().map(|p| p.first).collect();
        assert_eq!(firsts, [1, 2, 3, 4]);
    }

    #[test]
    fn a_new_worker_gets_what_was_not_acknowledged() {
        let (a, b) = pair();
        let mut outbox = Outbox::default();
        (1..=10).for_each(|sequence| outbox.push(&Event::BatchDone { sequence }, 0));
        outbox.flush(a.as_fd()).unwrap();
        received(&b);
        outbox.acknowledge(4).unwrap();
        outbox.attach(3, 0).unwrap();
        outbox.push(&Event::BatchDone { sequence: 11 }, 0);
        outbox.flush(a.as_fd()).unwrap();
        let again = received(&b);
        assert_eq!((again[0].first, again[0].events.len()), (5, 7));
        outbox.acknowledge(11).unwrap();
        assert!(outbox.is_empty() && outbox.due(true).is_none());
    }

    #[test]
    fn acknowledging_what_was_never_sent_is_an_error() {
        let mut outbox = Outbox::default();
        outbox.push(&Event::Stuck, 0);
        assert_eq!(outbox.acknowledge(1), Err(NeverSent(1)));
        assert_eq!(outbox.attach(1, 0), Err(NeverSent(1)));
    }

    #[test]
    fn a_channel_without_a_reader_blocks_and_loses_nothing() {
        let (a, b) = pair();
        let mut outbox = Outbox::default();
        (0..40).for_each(|_| outbox.push(&output(OUTPUT_MAX), 0));
        let mut seen = 0;
        while !outbox.is_empty() {
            outbox.unblock();
            outbox.flush(a.as_fd()).unwrap();
            let packets = received(&b);
            assert!(!packets.is_empty(), "no progress after {seen}");
            for p in packets {
                assert_eq!(p.first, seen + 1);
                seen += p.events.len() as u64;
            }
            outbox.acknowledge(seen).unwrap();
        }
        assert_eq!(seen, 40);
    }

    #[test]
    fn output_fills_the_window_and_an_acknowledgement_empties_it() {
        let (a, b) = pair();
        let mut outbox = Outbox::default();
        while outbox.room() > 0 {
            outbox.push(&output(OUTPUT_MAX.min(outbox.room())), 0);
        }
        outbox.flush(a.as_fd()).unwrap();
        let through: usize = received(&b).iter().map(|p| p.events.len()).sum();
        outbox.acknowledge(through as u64).unwrap();
        assert_eq!(outbox.room(), OUTPUT_MAX * through);
    }

    #[test]
    fn events_wait_for_company_unless_the_session_is_idle() {
        let mut outbox = Outbox::default();
        outbox.push(&Event::Stuck, 1000);
        assert_eq!(outbox.due(false), Some(1000 + DELAY_US));
        assert_eq!(outbox.due(true), Some(1000));
        outbox.push(&output(ENOUGH), 2000);
        assert_eq!(outbox.due(false), Some(1000));
    }
}
