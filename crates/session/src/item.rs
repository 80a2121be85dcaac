//! One running item: its process, what it printed and said, and how it ended.

use crate::openjd::{Lines, Message};
use crate::outbox::Outbox;
use crate::redact::{Redactor, Secrets};
use crate::sys::{self, Ending, Pid, Usage};
use crate::text::cut;
use std::os::fd::{AsFd as _, OwnedFd};
use warrant::session_wire::{Event, ItemEnd, OUTPUT_MAX, Stream};
use warrant::{ItemKind, TaskRef};

/// Progress and status are told no more often than this; only the newest counts.
const TELL_EVERY_US: u64 = 100_000;
/// What is left in a pipe when nobody can write to it any more is at most this.
const DRAIN_MAX: usize = 8 << 20;
/// A piece that is smaller, so soon after the last one, lets the pipe rest. A pipe of the usual size takes what comes
/// meanwhile at a million lines of 100 bytes a second.
const SMALL: usize = 8 << 10;
const SUCCESSION_US: u64 = 2_000;
const REST_US: u64 = 400;

/// Why the session ends an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    TimedOut,
    Cancelled,
}

#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) kind: ItemKind,
    pub(crate) pid: Pid,
    pub(crate) stdout: Source,
    pub(crate) stderr: Source,
    pub(crate) said: Said,
    pub(crate) started_us: u64,
    pub(crate) started_wall_us: u64,
    pub(crate) grace_us: u64,
    pub(crate) timeout: Timeout,
    pub(crate) stop: Option<Stop>,
    pub(crate) kill_at: Option<u64>,
    pub(crate) killed_at: Option<u64>,
    /// How its first process ended, and when.
    pub(crate) ended: Option<(Ending, u64)>,
    pub(crate) usage: Usage,
    pub(crate) sweep: Option<Sweep>,
}

/// Killing what the first process left behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sweep {
    pub(crate) since: u64,
    pub(crate) next: u64,
    pub(crate) pause: u64,
}

/// The time an item may take; it stands still while the session is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timeout {
    None,
    At(u64),
    Left(u64),
}

impl Timeout {
    pub(crate) fn new(timeout_ms: u64, now_us: u64) -> Self {
        if timeout_ms == 0 { Self::None } else { Self::At(now_us.saturating_add(timeout_ms.saturating_mul(1000))) }
    }

    pub(crate) fn pause(&mut self, now_us: u64) {
        if let Self::At(at) = *self {
            *self = Self::Left(at.saturating_sub(now_us));
        }
    }

    pub(crate) fn go_on(&mut self, now_us: u64) {
        if let Self::Left(left) = *self {
            *self = Self::At(now_us.saturating_add(left));
        }
    }

    pub(crate) fn at(self) -> Option<u64> {
        match self {
            Self::At(at) => Some(at),
            Self::None | Self::Left(_) => None,
        }
    }
}

/// One of an item's two pipes.
#[derive(Debug)]
pub(crate) struct Source {
    stream: Stream,
    fd: Option<OwnedFd>,
    /// Bytes of this stream that became output.
    offset: u64,
    /// When it was read last, and until when it is left to fill up.
    read_us: u64,
    rests_until: u64,
    lines: Option<Lines>,
    redactor: Redactor,
}

impl Source {
    /// Messages are looked for in the standard output only.
    pub(crate) fn new(stream: Stream, fd: OwnedFd) -> Self {
        let lines = (stream == Stream::Stdout).then(Lines::default);
        Self { stream, fd: Some(fd), offset: 0, read_us: 0, rests_until: 0, lines, redactor: Redactor::default() }
    }

    /// The pipe, unless it is left to fill up.
    pub(crate) fn to_read(&self, now_us: u64) -> Option<&OwnedFd> {
        self.fd.as_ref().filter(|_| self.rests_until(now_us).is_none())
    }

    /// Until when it is left to fill up.
    pub(crate) fn rests_until(&self, now_us: u64) -> Option<u64> {
        Some(self.rests_until).filter(|until| *until > now_us && self.fd.is_some())
    }

    /// Small pieces in quick succession gather in the pipe: a turn for each line would cost more than the line.
    fn pace(&mut self, len: usize, now_us: u64) {
        let is_chatty = len < SMALL && now_us.saturating_sub(self.read_us) < SUCCESSION_US;
        self.rests_until = if is_chatty { now_us.saturating_add(REST_US) } else { 0 };
        self.read_us = now_us;
    }
}

/// What a piece of a stream turned into.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    input: Vec<u8>,
    shown: Vec<u8>,
    pub(crate) messages: Vec<Message>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self { input: vec![0; 64 << 10], shown: Vec::new(), messages: Vec::new() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// There may be more.
    Some(usize),
    NothingNow,
    Closed,
}

/// Where the output of an item goes.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    pub(crate) kind: &'a ItemKind,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) secrets: &'a mut Secrets,
    pub(crate) now_us: u64,
}

impl Source {
    /// Reads once, at most `room` bytes, and passes it on. Messages are left in `buffers`.
    pub(crate) fn pump(&mut self, room: usize, buffers: &mut Buffers, sink: &mut Sink<'_>) -> Pumped {
        let Some(fd) = &self.fd else { return Pumped::Closed };
        let size = room.min(buffers.input.len());
        let Some(input) = buffers.input.get_mut(..size).filter(|i| !i.is_empty()) else { return Pumped::NothingNow };
        match sys::read(fd.as_fd(), input) {
            Ok(0) => {
                self.close(buffers, sink);
                Pumped::Closed
            }
            Ok(n) => {
                self.pace(n, sink.now_us);
                self.take_in(n, buffers, sink);
                Pumped::Some(n)
            }
            Err(e) if matches!(sys::errno_of(&e), libc::EAGAIN | libc::EINTR) => Pumped::NothingNow,
            Err(_) => {
                self.close(buffers, sink);
                Pumped::Closed
            }
        }
    }

    /// Everything that is in the pipe now; whoever still holds its other end writes to nobody afterwards.
    pub(crate) fn drain(&mut self, buffers: &mut Buffers, sink: &mut Sink<'_>) {
        let mut total = 0;
        while let Pumped::Some(n) = self.pump(usize::MAX, buffers, sink) {
            total += n;
            if total >= DRAIN_MAX {
                break;
            }
        }
        self.close(buffers, sink);
    }

    fn close(&mut self, buffers: &mut Buffers, sink: &mut Sink<'_>) {
        if self.fd.take().is_none() {
            return;
        }
        buffers.shown.clear();
        let said = buffers.messages.len();
        if let Some(lines) = &mut self.lines {
            lines.finish(&mut buffers.shown, &mut buffers.messages);
        }
        learn(buffers.messages.get(said..).unwrap_or_default(), sink.secrets);
        self.redactor.finish(&mut buffers.shown, sink.secrets);
        self.show(&buffers.shown, sink);
    }

    fn take_in(&mut self, len: usize, buffers: &mut Buffers, sink: &mut Sink<'_>) {
        let Buffers { input, shown, messages } = buffers;
        let input = input.get(..len).unwrap_or_default();
        shown.clear();
        let said = messages.len();
        match &mut self.lines {
            Some(lines) => lines.feed(input, shown, messages),
            None => shown.extend_from_slice(input),
        }
        learn(messages.get(said..).unwrap_or_default(), sink.secrets);
        self.redactor.filter(shown, sink.secrets);
        self.show(shown, sink);
    }

    fn show(&mut self, shown: &[u8], sink: &mut Sink<'_>) {
        for data in shown.chunks(OUTPUT_MAX) {
            let (stream, offset, data) = (self.stream, self.offset, data.to_vec());
            self.offset += data.len() as u64;
            let event = match sink.kind {
                ItemKind::Task(task) => Event::Output { task: *task, stream, offset, data },
                ItemKind::Enter { name } | ItemKind::Exit { name } => {
                    Event::EnvironmentOutput { name: name.clone(), data }
                }
            };
            sink.outbox.push(&event, sink.now_us);
        }
    }
}

fn learn(messages: &[Message], secrets: &mut Secrets) {
    for message in messages {
        if let Message::SetSecret { value, .. } = message {
            secrets.add(value.clone());
        }
    }
}

/// What an item said of itself with `openjd_…` lines.
#[derive(Debug, Default)]
pub(crate) struct Said {
    fail: Option<String>,
    malformed: Option<&'static str>,
    progress: Option<u32>,
    status: Option<String>,
    told_us: u64,
}

impl Said {
    pub(crate) fn hear(&mut self, message: &Message) {
        match message {
            Message::Progress(hundredths) => self.progress = Some(*hundredths),
            Message::Status(text) => self.status = Some(text.clone()),
            Message::Fail(text) => self.fail = Some(text.clone()),
            Message::Malformed(kind) => self.malformed = self.malformed.or(Some(kind)),
            Message::Set { .. } | Message::SetSecret { .. } | Message::Unset(_) => {}
        }
    }

    /// When the newest progress and status should be told.
    pub(crate) fn due(&self) -> Option<u64> {
        let something = self.progress.is_some() || self.status.is_some();
        something.then(|| self.told_us.saturating_add(TELL_EVERY_US))
    }

    pub(crate) fn tell(&mut self, task: TaskRef, outbox: &mut Outbox, now_us: u64) {
        if let Some(hundredths) = self.progress.take() {
            outbox.push(&Event::Progress { task, hundredths }, now_us);
        }
        if let Some(text) = self.status.take() {
            outbox.push(&Event::Status { task, text: cut(text) }, now_us);
        }
        self.told_us = now_us;
    }
}

impl Running {
    /// How the item ended, from how its first process ended. `exhausted`: the kernel killed some process of it, which
    /// makes its result worthless even where the first process took it for a success.
    pub(crate) fn end(&mut self, ending: Ending, exhausted: Option<String>) -> ItemEnd {
        let enters = matches!(self.kind, ItemKind::Enter { .. });
        match (self.stop, ending) {
            (Some(Stop::TimedOut), _) => ItemEnd::TimedOut,
            (Some(Stop::Cancelled), _) => ItemEnd::Cancelled,
            (None, _) if exhausted.is_some() => ItemEnd::Failed { text: exhausted.unwrap_or_default() },
            (None, Ending::Signalled(signal)) => ItemEnd::Signalled(signal),
            (None, Ending::Exited(0)) => match self.said.malformed {
                Some(kind) if enters => {
                    ItemEnd::Failed { text: format!("it printed an {kind} line that is no NAME=value") }
                }
                _ => ItemEnd::Exited(0),
            },
            (None, Ending::Exited(code)) => match self.said.fail.take() {
                Some(text) => ItemEnd::Failed { text: cut(text) },
                None => ItemEnd::Exited(code),
            },
        }
    }

    pub(crate) fn ended_wall_us(&self, ended_us: u64) -> u64 {
        self.started_wall_us.saturating_add(ended_us.saturating_sub(self.started_us))
    }

    pub(crate) fn add_usage(&mut self, usage: Usage) {
        self.usage.cpu_us = self.usage.cpu_us.saturating_add(usage.cpu_us);
        self.usage.max_rss = self.usage.max_rss.max(usage.max_rss);
    }
}

/// An end in a few words, for sentences about environments.
pub(crate) fn in_words(end: &ItemEnd) -> String {
    match end {
        ItemEnd::Exited(code) => format!("it ended with exit code {code}"),
        ItemEnd::Signalled(signal) => format!("it was ended by signal {signal}"),
        ItemEnd::TimedOut => "it took longer than its time limit".to_owned(),
        ItemEnd::Cancelled => "it was cancelled".to_owned(),
        ItemEnd::CannotStart { text, .. } | ItemEnd::Failed { text } => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_pieces_in_quick_succession_let_a_pipe_rest() {
        let (read, _write) = std::io::pipe().expect("pipe");
        let mut source = Source::new(Stream::Stdout, read.into());
        source.pace(100, 10_000);
        assert_eq!(source.rests_until(10_000), None, "the first line is shown at once");
        source.pace(100, 10_000 + SUCCESSION_US - 1);
        let until = 10_000 + SUCCESSION_US - 1 + REST_US;
        assert_eq!(source.rests_until(until - 1), Some(until));
        assert!(source.to_read(until - 1).is_none() && source.to_read(until).is_some());
        source.pace(SMALL, until);
        assert_eq!(source.rests_until(until), None);
        source.pace(100, until + SUCCESSION_US);
        assert_eq!(source.rests_until(until + SUCCESSION_US), None);
    }

    #[test]
    fn a_timeout_stands_still_while_suspended() {
        let mut timeout = Timeout::new(10, 1_000);
        assert_eq!(timeout.at(), Some(11_000));
        timeout.pause(3_000);
        assert_eq!(timeout.at(), None);
        timeout.pause(5_000);
        timeout.go_on(100_000);
        assert_eq!(timeout.at(), Some(108_000));
        assert_eq!(Timeout::new(0, 5).at(), None);
        assert_eq!(Timeout::new(u64::MAX, 5).at(), Some(u64::MAX));
    }

    #[test]
    fn only_the_newest_status_is_told() {
        let task = TaskRef { step: 0, index: 0, epoch: 1 };
        let (mut said, mut outbox) = (Said::default(), Outbox::default());
        assert_eq!(said.due(), None);
        for i in 0..1000 {
            said.hear(&Message::Status(format!("frame {i}")));
        }
        assert_eq!(said.due(), Some(TELL_EVERY_US));
        let before = outbox.room();
        said.tell(task, &mut outbox, 7);
        let event = Event::Status { task, text: "frame 999".to_owned() };
        assert_eq!(before - outbox.room(), event.encode().len());
        assert_eq!(said.due(), None);
    }
}
