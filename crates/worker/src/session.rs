//! One session, as the worker sees it: from the order to open it until the supervisor has all there is to know.
//!
//! The actor owns the session's channel and its spool. Events are acknowledged when they are in the spool and not
//! before; when the spool's disk fails, the session is simply not read, and its own bounded window holds it back.
//! A session belongs to the user it runs as: what it sends is bounded and checked, and breaking the protocol ends
//! it. Which tasks it may speak of is the supervisor's to know.

use crate::endpoint::Endpoint;
use crate::link::Link;
use crate::meaning::{Ending, Refusal};
use crate::packets::Packets;
use crate::spool::{AbsorbError, Spool};
use crate::upload::Uploader;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use warrant::files::{ANSWER_MAX, Piece};
use warrant::session_wire::{Event, Events, ToSession};
use wire::{FromWorker, Keep, Report, Task};

/// Packets taken in before they are acknowledged together: a small part of a session's window, so that it goes on
/// meanwhile.
const DRAIN: usize = 8;
/// How often a failing spool is tried again, and after how long the worker takes no more jobs.
const RETRY: Duration = Duration::from_secs(1);
const PANIC_AFTER: Duration = Duration::from_secs(30);
/// A session that closed its channel has this long to end.
const AFTER_CLOSE: Duration = Duration::from_secs(5);
const PING: Duration = Duration::from_secs(5);
/// A session found stopped at so many pings in a row is ended.
const STOPPED_MAX: u32 = 2;
const PROGRESS: Duration = Duration::from_millis(250);
/// Attempts whose progress is kept until it is sent.
const PROGRESS_MAX: usize = 64;

/// What the worker tells a session's actor.
#[derive(Debug)]
pub(crate) enum Order {
    /// It runs. `adopted`: it ran before this worker.
    Channel {
        channel: OwnedFd,
        pid: u32,
        started: Report,
        adopted: bool,
    },
    Refused(Refusal),
    Ended(Ending),
    Send(ToSession, Option<OwnedFd>),
    /// Desktop mode: its process.
    Process(i32, u64),
    /// The supervisor goes on from here.
    Keep(Keep),
    /// The supervisor does not want it: end without a report.
    Discard,
}

/// What a session's actor tells the worker.
#[derive(Debug)]
pub(crate) enum Said {
    /// End every process of it.
    Kill,
    /// Its end is in the spool: whoever saw it may forget it.
    EndStored,
    /// Nothing of it is left here.
    Gone,
    /// Its spool can't be written, or can be again.
    Spool(Option<String>),
}

pub(crate) struct Setup {
    pub(crate) spool: Spool,
    pub(crate) worker: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) link: Link,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) said: Box<dyn Fn(Said) + Send + Sync>,
}

/// Runs until nothing of the session is left here.
pub(crate) async fn run(setup: Setup) {
    let said = setup.said;
    let (keep, kept) = watch::channel(None);
    let uploader = Uploader::new(&setup.spool, setup.worker, setup.endpoint, kept);
    let mut uploads = JoinSet::new();
    match uploader {
        Ok(uploader) => drop(uploads.spawn(uploader.run())),
        // The reports stay where they are; the next worker tries again.
        Err(e) => tracing::error!(session = setup.spool.meta.session, "failed to read the spool: {e}"),
    }
    let mut actor = Actor {
        session: setup.spool.meta.session,
        spool: setup.spool,
        link: setup.link,
        said: &*said,
        keep,
        channel: None,
        pid: None,
        stopped: 0,
        outbox: VecDeque::new(),
        unspooled: None,
        to_report: Vec::new(),
        failing: None,
        why: None,
        closed: None,
        ending: None,
        discarded: false,
        progress: BTreeMap::new(),
        answer: Vec::new(),
    };
    actor.live(setup.orders, &mut uploads).await;
    uploads.shutdown().await;
    if let Err(e) = fs::remove_dir_all(actor.spool.dir()) {
        tracing::warn!(session = actor.session, "failed to remove a spool that is done: {e}");
    }
    said(Said::Gone);
}

struct Actor<'a> {
    session: u64,
    spool: Spool,
    link: Link,
    said: &'a (dyn Fn(Said) + Send + Sync),
    keep: watch::Sender<Option<Keep>>,
    channel: Option<Packets>,
    /// The session's process on this host, and how often in a row it was found stopped.
    pid: Option<u32>,
    stopped: u32,
    /// For the session, once it has a channel and room.
    outbox: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    /// Taken from the channel, not yet in the spool: nothing more is taken until it is.
    unspooled: Option<Events>,
    /// Reports of the worker's own, not yet in the spool.
    to_report: Vec<Report>,
    failing: Option<Failing>,
    /// Why its end was asked for here.
    why: Option<String>,
    /// When the session closed its channel.
    closed: Option<Instant>,
    ending: Option<Ending>,
    discarded: bool,
    progress: BTreeMap<Task, (Option<u32>, Option<String>)>,
    /// The answer to a request for file work, as far as it is here.
    answer: Vec<u8>,
}

struct Failing {
    since: Instant,
    retry: Instant,
    told: bool,
}

impl Actor<'_> {
    /// The session's life. Returns when the supervisor has everything, or wants nothing.
    async fn live(&mut self, mut orders: mpsc::UnboundedReceiver<Order>, uploads: &mut JoinSet<()>) {
        let mut pings = interval(PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.discarded && self.spool_is_over() {
                return;
            }
            let reading = self.failing.is_none() && self.closed.is_none();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    // The worker is ending; what is in the spool stays there.
                    None => return pending().await,
                },
                received = recv(self.channel.as_ref()), if reading => self.received(received),
                sent = send(self.channel.as_ref(), self.outbox.front()), if !self.outbox.is_empty() => {
                    self.outbox.pop_front();
                    self.sent(&sent);
                }
                () = until(self.failing.as_ref().map(|f| f.retry)) => self.store(),
                () = until(self.closed.map(|t| t + AFTER_CLOSE)) => self.overdue(),
                _ = pings.tick(), if self.channel.is_some() => self.beat(),
                _ = progress.tick(), if !self.progress.is_empty() => self.tell_progress(),
                Some(ended) = uploads.join_next() => match ended {
                    Ok(()) => return,
                    // Not all was brought: the spool stays for the next worker.
                    Err(e) => tracing::error!(session = self.session, "uploading failed: {e}"),
                },
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Channel { channel, pid, started, adopted } => {
                self.pid = Some(pid);
                self.begin(channel, started, adopted);
            }
            Order::Refused(refusal) => {
                self.to_report.push(refusal.report());
                self.store();
            }
            Order::Ended(ending) => self.end(ending),
            Order::Send(message, fd) => self.outbox.push_back((message.encode(), fd)),
            Order::Process(pid, start) => {
                if let Err(e) = self.spool.set_process((pid, start)) {
                    tracing::warn!(session = self.session, "failed to note the session's process: {e}");
                }
            }
            Order::Keep(keep) => drop(self.keep.send_replace(Some(keep))),
            Order::Discard => self.discarded = true,
        }
    }

    fn begin(&mut self, channel: OwnedFd, started: Report, adopted: bool) {
        if self.channel.is_some() || self.spool_is_over() {
            return;
        }
        match Packets::new(channel) {
            Ok(packets) => self.channel = Some(packets),
            Err(e) => {
                tracing::error!(session = self.session, "failed to use the session's channel: {e}");
                return (self.said)(Said::Kill);
            }
        }
        if !self.spool.started() && !self.to_report.iter().any(|r| matches!(r, Report::Started { .. })) {
            self.to_report.push(started);
            self.store();
        }
        if adopted {
            // Before all that waits for the channel.
            let attach = ToSession::Attach { acked: self.spool.seen() };
            self.outbox.push_front((attach.encode(), None));
        }
    }

    fn send(&mut self, message: &ToSession) {
        self.outbox.push_back((message.encode(), None));
    }

    fn sent(&mut self, result: &io::Result<()>) {
        if let Err(e) = result {
            // The session is gone or going; its end is told by who sees it.
            tracing::debug!(session = self.session, "failed to send to the session: {e}");
        }
    }

    /// Takes what the session said, and what it said meanwhile, then acknowledges.
    fn received(&mut self, first: io::Result<Option<Vec<u8>>>) {
        let mut more = self.taken(first);
        for _ in 1..DRAIN {
            // Nothing is read that could not be kept.
            let Some(channel) = self.channel.as_ref().filter(|_| more && self.failing.is_none()) else { break };
            let next = channel.try_recv().map(|p| p.map(|p| p.bytes));
            more = self.taken(next);
        }
        self.acknowledge();
    }

    /// False when nothing more is to be read for now.
    fn taken(&mut self, received: io::Result<Option<Vec<u8>>>) -> bool {
        match received {
            Ok(Some(packet)) => self.take(&packet),
            Ok(None) => {
                self.closed.get_or_insert_with(Instant::now);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
            Err(e) => self.broke_protocol(&e.to_string()),
        }
        self.closed.is_none()
    }

    fn take(&mut self, packet: &[u8]) {
        if self.closed.is_some() || self.discarded {
            return;
        }
        if Piece::is(packet) {
            return self.take_piece(packet);
        }
        match Events::decode(packet) {
            Ok(events) => {
                self.notice(&events);
                self.unspooled = Some(events);
                self.store();
            }
            Err(e) => self.broke_protocol(&e.to_string()),
        }
    }

    /// An answer is passed on when it is whole, and kept nowhere: whoever asked asks again.
    fn take_piece(&mut self, packet: &[u8]) {
        let piece = match Piece::decode(packet) {
            Ok(piece) => piece,
            Err(e) => return self.broke_protocol(&e.to_string()),
        };
        if self.answer.len() + piece.data.len() > ANSWER_MAX {
            return self.broke_protocol("an answer is too long");
        }
        self.answer.extend_from_slice(&piece.data);
        if piece.last {
            let (session, sequence) = (self.session, piece.sequence);
            self.link.send_with(FromWorker::Answered { session, sequence }, std::mem::take(&mut self.answer).into());
        }
    }

    /// What is not for the spool.
    fn notice(&mut self, events: &Events) {
        let fresh = self.spool.seen().saturating_add(1).saturating_sub(events.first);
        for event in events.events.iter().skip(usize::try_from(fresh).unwrap_or(usize::MAX)) {
            match event {
                Event::Progress { task, hundredths } => {
                    if let Some(progress) = self.progress_of(*task) {
                        progress.0 = Some(*hundredths);
                    }
                }
                Event::Status { task, text } => {
                    if let Some(progress) = self.progress_of(*task) {
                        progress.1 = Some(text.clone());
                    }
                }
                Event::Stuck => self.end_it("a process that a task left behind could only be ended with the session"),
                _ => {}
            }
        }
    }

    /// A stopped session obeys nobody, and its own tasks can stop it: then neither a kill nor a time limit would end them.
    fn beat(&mut self) {
        if self.outbox.is_empty() {
            self.send(&ToSession::Ping);
        }
        self.stopped = if self.pid.is_some_and(is_stopped) { self.stopped + 1 } else { 0 };
        if self.stopped >= STOPPED_MAX {
            self.end_it("the session itself was stopped by a signal");
        }
    }

    fn progress_of(&mut self, task: warrant::TaskRef) -> Option<&mut (Option<u32>, Option<String>)> {
        let task = task.into();
        let room = self.progress.len() < PROGRESS_MAX || self.progress.contains_key(&task);
        room.then(|| self.progress.entry(task).or_default())
    }

    fn tell_progress(&mut self) {
        for (task, (hundredths, status)) in std::mem::take(&mut self.progress) {
            self.link.send(FromWorker::Progress { session: self.session, task, hundredths, status });
        }
    }

    fn broke_protocol(&mut self, how: &str) {
        tracing::warn!(session = self.session, "session broke the protocol and is ended: {how}");
        self.closed.get_or_insert_with(Instant::now);
        self.end_it(&format!("the session broke the protocol: {how}"));
    }

    fn end_it(&mut self, why: &str) {
        self.why.get_or_insert_with(|| why.to_owned());
        (self.said)(Said::Kill);
    }

    fn overdue(&mut self) {
        // What removes a folder has nothing to say, and may take its time.
        if self.ending.is_none() && !self.spool_is_over() && !self.spool.meta.clean {
            self.end_it("the session closed its channel and did not end");
        }
        // Asked again as long as nobody says that it has ended.
        self.closed = Some(Instant::now());
    }

    fn acknowledge(&mut self) {
        if self.failing.is_none() && self.closed.is_none() {
            let through = self.spool.seen();
            self.send(&ToSession::Ack { through });
        }
    }

    /// Its processes are gone: what it had sent before is still to be read.
    fn end(&mut self, ending: Ending) {
        if self.spool_is_over() {
            return (self.said)(Said::EndStored);
        }
        self.ending.get_or_insert(ending);
        self.outbox.clear();
        self.store();
    }

    /// Brings everything that waits into the spool, in order.
    fn store(&mut self) {
        match self.try_store() {
            Ok(()) => self.stores_again(),
            Err(e) => self.fails(&e),
        }
    }

    fn try_store(&mut self) -> io::Result<()> {
        // The worker's own reports come first: nothing is read from a session whose start is not stored.
        self.flush_reports()?;
        self.absorb()?;
        if self.ending.is_none() {
            return Ok(());
        }
        self.drain()?;
        self.flush_end()
    }

    fn flush_end(&mut self) -> io::Result<()> {
        let Some(ending) = self.ending.as_ref() else { return Ok(()) };
        let reports = self.last_reports(ending);
        self.spool.add(&reports)?;
        self.ending = None;
        self.channel = None;
        self.closed = None;
        (self.said)(Said::EndStored);
        Ok(())
    }

    fn flush_reports(&mut self) -> io::Result<()> {
        if !self.to_report.is_empty() {
            self.spool.add(&self.to_report)?;
            self.to_report.clear();
        }
        Ok(())
    }

    fn absorb(&mut self) -> io::Result<()> {
        let Some(events) = self.unspooled.take() else { return Ok(()) };
        match self.spool.absorb(&events) {
            Ok(()) => Ok(()),
            Err(AbsorbError::Disk(e)) => {
                self.unspooled = Some(events);
                Err(e)
            }
            Err(AbsorbError::Protocol(how)) => {
                self.broke_protocol(how);
                Ok(())
            }
        }
    }

    /// Reads what an ended session left in its channel.
    fn drain(&mut self) -> io::Result<()> {
        while let Some(channel) = self.channel.as_ref().filter(|_| self.closed.is_none() && !self.discarded) {
            let Ok(Some(packet)) = channel.try_recv() else { break };
            if Piece::is(&packet.bytes) {
                continue;
            }
            match Events::decode(&packet.bytes) {
                Ok(events) => {
                    self.notice(&events);
                    self.unspooled = Some(events);
                    self.absorb()?;
                }
                Err(e) => self.broke_protocol(&e.to_string()),
            }
        }
        Ok(())
    }

    fn last_reports(&self, ending: &Ending) -> Vec<Report> {
        let cleaned = (self.spool.meta.clean && ending.well).then_some(Report::Cleaned { job: self.spool.meta.job });
        cleaned.into_iter().chain([ending.report(self.spool.leaving(), self.why.as_deref())]).collect()
    }

    fn spool_is_over(&self) -> bool {
        self.spool.over()
    }

    fn fails(&mut self, error: &io::Error) {
        let now = Instant::now();
        let session = self.session;
        let failing = self.failing.get_or_insert_with(|| {
            tracing::warn!(session, "failed to write the spool: {error}; the session waits");
            Failing { since: now, retry: now, told: false }
        });
        failing.retry = now + RETRY;
        if !failing.told && now - failing.since > PANIC_AFTER {
            failing.told = true;
            (self.said)(Said::Spool(Some(format!("the worker's spool can't be written: {error}"))));
        }
    }

    fn stores_again(&mut self) {
        let Some(failed) = self.failing.take() else { return };
        tracing::info!(session = self.session, "spool can be written again");
        if failed.told {
            (self.said)(Said::Spool(None));
        }
        self.acknowledge();
    }
}

async fn recv(channel: Option<&Packets>) -> io::Result<Option<Vec<u8>>> {
    match channel {
        Some(channel) => Ok(channel.recv().await?.map(|p| p.bytes)),
        None => pending().await,
    }
}

async fn send(channel: Option<&Packets>, first: Option<&(Vec<u8>, Option<OwnedFd>)>) -> io::Result<()> {
    match (channel, first) {
        (Some(channel), Some((bytes, fd))) => channel.send(bytes, fd.as_ref()).await,
        _ => pending().await,
    }
}

/// What anyone on the host may see of a process.
fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in front of it may hold anything, parentheses and blanks too.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T') || rest.starts_with('t'))
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
