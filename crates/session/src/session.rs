//! The life of a session: say ready, take signed batches, run their items one after another, tell, leave.
//!
//! One thread, one loop: a *turn* does what is due, then the session sleeps until something happens. Doesn't know how
//! output is packed (`outbox`), how a program is found (`command`) or how it is started (`sys`).

use crate::command::Command;
use crate::environment::{self, Environments, Layers, Pairs};
use crate::files;
use crate::item::{Buffers, Pumped, Running, Said, Sink, Source, Stop, Sweep, Timeout, in_words};
use crate::leftovers;
use crate::memory::Memory;
use crate::openjd::Message;
use crate::outbox::{Gone, NeverSent, Outbox};
use crate::place::Place;
use crate::queue::{GivenBack, Pending, Queue, Refusal};
use crate::redact::Secrets;
use crate::sys::{self, Ending, Pid, PollFd, Spawner, Usage, Waited};
use crate::text::{Account, CannotStart, cut};
use std::borrow::Cow;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use warrant::batch::BATCH_MAX;
use warrant::codec::DecodeError;
use warrant::session_wire::{Event, ItemEnd, Orders, PACKET_MAX, Stream, ToSession};
use warrant::{Batch, Item, ItemKind, PublicKey, Renewal, Signed, TaskRef};

/// What is left of a task after SIGKILL is given this long; then help is asked for.
const SURVIVAL_US: u64 = 2_000_000;
/// A session that was told to leave, or has to, waits this long for its last events to be acknowledged.
const FAREWELL_US: u64 = 2_000_000;
/// The same after all work was done, when no orphan limit says otherwise.
const LONG_FAREWELL_US: u64 = 10_000_000;
/// Items that never become a process may be many; between so many the channel is looked at.
const STARTS_PER_TURN: u32 = 64;
const PACKETS_PER_TURN: u32 = 32;
/// Tasks in one `Recalled`, so that it fits a packet.
const RECALLED_MAX: usize = 2_000;
/// Key id, signature and length in front of a signed message.
const SIGNED_HEADER: usize = 8 + 64 + 4;
/// As many events may wait for an acknowledgement before nothing new is started.
const BACKLOG: usize = 100_000;

/// All that a session is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) channel: OwnedFd,
    pub(crate) signals: OwnedFd,
    pub(crate) spawner: Spawner,
    pub(crate) orders: Orders,
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) place: Place,
    pub(crate) account: Account,
    pub(crate) base: Pairs,
    pub(crate) memory: Memory,
}

#[derive(Debug)]
pub(crate) struct Session {
    setup: Setup,
    numbers: Numbers,
    outbox: Outbox,
    queue: Queue,
    environments: Environments,
    secrets: Secrets,
    running: Option<Running>,
    suspended: bool,
    /// Something survived SIGKILL; nothing is started any more.
    stuck: bool,
    /// No batch follows: when all is done, leave.
    finish: bool,
    closing: Option<Closing>,
    /// The last event was said; the session ends at this time, or when everything is acknowledged.
    leaving: Option<u64>,
    last_heard: u64,
    lease_until: u64,
    command: Command,
    buffers: Buffers,
    packet: Vec<u8>,
}

/// STEAD_JOB and STEAD_SESSION as text.
#[derive(Debug)]
struct Numbers {
    job: Vec<u8>,
    session: Vec<u8>,
}

/// Why the session takes no more work and leaves when the running item has ended.
#[derive(Debug)]
struct Closing {
    text: String,
    farewell_us: u64,
}

/// The session ends, and everything it started with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Over;

/// The worker broke the protocol.
#[derive(Debug)]
enum Breach {
    TooLong,
    Malformed(DecodeError),
    NoBatch,
    NeverSent(u64),
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the worker broke the protocol: ")?;
        match self {
            Self::TooLong => write!(f, "a packet has more than {PACKET_MAX} bytes"),
            Self::Malformed(e) => e.fmt(f),
            Self::NoBatch => f.write_str("a batch came without its descriptor"),
            Self::NeverSent(number) => write!(f, "it acknowledged event {number}, which it was never sent"),
        }
    }
}

impl From<NeverSent> for Breach {
    fn from(NeverSent(number): NeverSent) -> Self {
        Self::NeverSent(number)
    }
}

impl Session {
    pub(crate) fn new(setup: Setup) -> Self {
        Self {
            numbers: Numbers {
                job: setup.orders.job.to_string().into_bytes(),
                session: setup.orders.session.to_string().into_bytes(),
            },
            outbox: Outbox::default(),
            queue: Queue::default(),
            environments: Environments::default(),
            secrets: Secrets::default(),
            running: None,
            suspended: false,
            stuck: false,
            finish: false,
            closing: None,
            leaving: None,
            last_heard: sys::monotonic_us(),
            lease_until: setup.orders.lease_until,
            command: Command::default(),
            buffers: Buffers::new(),
            packet: vec![0; PACKET_MAX],
            setup,
        }
    }

    /// The whole story.
    pub(crate) fn run(mut self) {
        self.say(&Event::Ready { pid: sys::pid().unsigned_abs() });
        while self.turn().is_ok() && self.wait_and_listen().is_ok() {}
        self.kill_everything();
    }

    /// Everything that is due now.
    fn turn(&mut self) -> Result<(), Over> {
        let now = sys::monotonic_us();
        let boot_ms = sys::boottime_ms();
        if self.setup.orders.desktop && boot_ms > self.lease_until {
            return Err(Over);
        }
        self.watch_orphan_limit(now);
        self.look_after_running(now);
        self.give_back_expired(boot_ms);
        self.start_items(boot_ms);
        self.leave_when_done(now);
        let due = self.outbox.due(self.is_idle()).is_some_and(|at| at <= now);
        if due && self.outbox.flush(self.setup.channel.as_fd()).is_err() {
            return Err(Over);
        }
        let left = self.leaving.is_some_and(|until| self.outbox.is_empty() || now >= until);
        if left { Err(Over) } else { Ok(()) }
    }

    fn say(&mut self, event: &Event) {
        self.outbox.push(event, sys::monotonic_us());
    }

    // ---- work ----

    fn can_start(&self) -> bool {
        self.running.is_none()
            && !self.suspended
            && !self.stuck
            && self.closing.is_none()
            && self.leaving.is_none()
            && self.outbox.room() > 0
            && self.outbox.len() < BACKLOG
    }

    /// Nothing runs and nothing will without a message.
    fn is_idle(&self) -> bool {
        self.running.is_none() && (self.queue.is_empty() || !self.can_start())
    }

    fn start_items(&mut self, boot_ms: u64) {
        for _ in 0..STARTS_PER_TURN {
            self.report_finished_batches();
            if !self.can_start() || self.queue.is_empty() {
                return;
            }
            self.start_next(boot_ms);
        }
    }

    fn report_finished_batches(&mut self) {
        for sequence in self.queue.finished(self.running.is_some()) {
            self.say(&Event::BatchDone { sequence });
        }
    }

    fn start_next(&mut self, boot_ms: u64) {
        let Some(front) = self.queue.front() else { return };
        if front.not_after < boot_ms {
            return self.give_back_expired(boot_ms);
        }
        let Some(item) = front.items.pop_front() else { return };
        if let Some(end) = self.pass_over(&item.kind) {
            return self.report_unstarted(&item.kind, end);
        }
        if let ItemKind::Enter { name } = &item.kind {
            self.environments.enter(name);
        }
        if item.argv.is_empty() && !matches!(item.kind, ItemKind::Task(_)) {
            return self.report_unstarted(&item.kind, ItemEnd::Exited(0));
        }
        match self.launch(&item) {
            Ok(running) => {
                if let ItemKind::Task(task) = running.kind {
                    self.say(&Event::TaskStarted { task, at_us: running.started_wall_us });
                }
                self.running = Some(running);
            }
            Err(CannotStart { stage, errno, text }) => {
                let end = ItemEnd::CannotStart { stage: stage.to_owned(), errno, text: cut(text) };
                self.report_unstarted(&item.kind, end);
            }
        }
    }

    /// The end of an item that must not run after what happened before it.
    fn pass_over(&mut self, kind: &ItemKind) -> Option<ItemEnd> {
        let failure = self.environments.failure().map(|text| ItemEnd::Failed { text: text.to_owned() });
        match kind {
            ItemKind::Task(_) | ItemKind::Enter { .. } => failure,
            // Given back or passed over before it began, or never here: there is nothing to undo.
            ItemKind::Exit { name } if !self.environments.is_entered(name) => {
                Some(ItemEnd::Failed { text: cut(format!("the environment {name:?} was never entered")) })
            }
            ItemKind::Exit { .. } => None,
        }
    }

    /// Files, environment, program: everything as the account, nothing executed if anything fails.
    fn launch(&mut self, item: &Item) -> Result<Running, CannotStart> {
        let Self { setup, numbers, queue, environments, command, .. } = self;
        let Setup { spawner, orders, place, account, base, .. } = setup;
        let Some(batch) = queue.front() else {
            // The item was just taken from it.
            return Err(CannotStart { stage: "batch", errno: 0, text: "its batch is gone".to_owned() });
        };
        write_batch_files(batch, orders.session, place)?;
        files::write_all(&item.files, orders.session, place)?;

        let own = own_variables(numbers, place, &item.kind);
        let layers =
            Layers { base, batch: &batch.env, environments, item: &item.env, moved: batch.cwd.is_some(), own: &own };
        let variables = layers.build(place)?;
        let path = variables.get(&b"PATH"[..]).map(|p| &**p);
        environment::write(&variables, &mut command.env);
        command.nice = environment::nice(&batch.env);
        command.fill(&item.argv, batch.cwd.as_deref(), path, place)?;

        let started_us = sys::monotonic_us();
        let started_wall_us = sys::realtime_us();
        let child = spawner.spawn(&command.program()).map_err(|e| command.explain(e, path, account))?;
        Ok(Running {
            kind: item.kind.clone(),
            pid: child.pid,
            stdout: Source::new(Stream::Stdout, child.stdout),
            stderr: Source::new(Stream::Stderr, child.stderr),
            said: Said::default(),
            started_us,
            started_wall_us,
            grace_us: u64::from(item.grace_ms).saturating_mul(1000),
            timeout: Timeout::new(item.timeout_ms, started_us),
            stop: None,
            kill_at: None,
            killed_at: None,
            ended: None,
            usage: Usage::default(),
            sweep: None,
        })
    }

    /// The end of an item that never became a process.
    fn report_unstarted(&mut self, kind: &ItemKind, end: ItemEnd) {
        let now = sys::realtime_us();
        self.report_end(kind, end, [now, now], Usage::default());
    }

    fn report_end(&mut self, kind: &ItemKind, end: ItemEnd, [started_us, ended_us]: [u64; 2], usage: Usage) {
        match kind {
            ItemKind::Task(task) => {
                let Usage { cpu_us, max_rss } = usage;
                self.say(&Event::TaskEnded { task: *task, end, started_us, ended_us, cpu_us, max_rss });
            }
            ItemKind::Enter { name } => {
                if end != ItemEnd::Exited(0) && self.environments.failure().is_none() {
                    let text = format!("environment {name:?} could not be entered: {}", in_words(&end));
                    self.environments.fail(cut(text));
                }
                self.say(&Event::EnvironmentEnded { name: name.clone(), entered: true, end });
            }
            ItemKind::Exit { name } => {
                self.environments.exit(name);
                self.say(&Event::EnvironmentEnded { name: name.clone(), entered: false, end });
            }
        }
    }

    // ---- the running item ----

    /// Its clocks: time limit, grace, what it says of itself, what it left behind.
    fn look_after_running(&mut self, now: u64) {
        let Some(running) = &mut self.running else { return };
        if let ItemKind::Task(task) = running.kind
            && running.said.due().is_some_and(|at| at <= now)
        {
            running.said.tell(task, &mut self.outbox, now);
        }
        if running.timeout.at().is_some_and(|at| at <= now) {
            self.stop_running(Stop::TimedOut, now);
        }
        let Some(running) = &mut self.running else { return };
        if running.kill_at.is_some_and(|at| at <= now) {
            running.kill(now, &self.environments);
        }
        let unkillable = running.killed_at.is_some_and(|at| now >= at.saturating_add(SURVIVAL_US));
        if let Some(sweep) = &mut running.sweep {
            if now >= sweep.since.saturating_add(SURVIVAL_US) {
                self.conclude(now);
                self.become_stuck();
            } else if now >= sweep.next {
                leftovers::signal_all(libc::SIGKILL, &self.environments.kept(leaving(&running.kind)));
                sweep.pause = sweep.pause.saturating_mul(2).min(50_000);
                sweep.next = now.saturating_add(sweep.pause);
            }
        } else if unkillable {
            // Its process is alive, so it has no end: whoever ends the session from outside will say so.
            self.running = None;
            self.become_stuck();
        }
    }

    fn become_stuck(&mut self) {
        self.stuck = true;
        self.say(&Event::Stuck);
        let back = self.queue.give_back(|_| true, None);
        self.report_given_back(back, "processes of an earlier task could not be killed", 0);
    }

    /// Asks the running item to end. The first reason counts.
    fn stop_running(&mut self, why: Stop, now: u64) {
        let Some(running) = &mut self.running else { return };
        if running.stop.is_some() || running.ended.is_some() {
            return;
        }
        running.stop = Some(why);
        running.timeout = Timeout::None;
        if running.grace_us == 0 {
            return running.kill(now, &self.environments);
        }
        running.kill_at = Some(now.saturating_add(running.grace_us));
        sys::signal_group(running.pid, libc::SIGTERM);
        if self.suspended {
            sys::signal_group(running.pid, libc::SIGCONT);
            leftovers::signal_all(libc::SIGCONT, &[]);
        }
    }

    /// Collects everything that has ended.
    fn reap(&mut self, now: u64) {
        loop {
            match sys::wait_any() {
                Waited::Ended { pid, ending, usage } => self.bury(pid, ending, usage, now),
                Waited::NoChildren => return self.conclude(now),
                Waited::AllAlive => return self.sweep(now),
            }
        }
    }

    fn bury(&mut self, pid: Pid, ending: Ending, usage: Usage, now: u64) {
        let first = self.running.as_ref().map(|r| r.pid);
        let heirs = |kept: Vec<Pid>| {
            let new = |pid: &Pid| first != Some(*pid) && !kept.contains(pid) && !leftovers::is_of_a_task(*pid);
            leftovers::children().into_iter().filter(new).collect()
        };
        if self.environments.ended(pid, heirs) {
            return;
        }
        let Some(running) = &mut self.running else { return };
        running.add_usage(usage);
        if pid == running.pid {
            running.ended = Some((ending, now));
            running.kill_at = None;
            running.killed_at = None;
            running.timeout = Timeout::None;
        }
    }

    /// The first process has ended and others have not. What a successful `onEnter` left running stays, for the tasks
    /// to talk to; everything else goes now.
    fn sweep(&mut self, now: u64) {
        let Some(running) = &mut self.running else { return };
        let Some((ending, _)) = running.ended else { return };
        let kept = self.environments.kept(leaving(&running.kind));
        let strangers = || leftovers::children().into_iter().filter(|pid| !kept.contains(pid)).collect::<Vec<_>>();
        if ending == Ending::Exited(0) && running.stop.is_none() && matches!(running.kind, ItemKind::Enter { .. }) {
            self.environments.keep(strangers());
            return self.conclude(now);
        }
        // The list may miss one while others leave it, so nobody is believed to be gone before a second look.
        if !kept.is_empty() && strangers().is_empty() && strangers().is_empty() {
            return self.conclude(now);
        }
        leftovers::signal_all(libc::SIGKILL, &kept);
        let sweep = running.sweep.get_or_insert(Sweep { since: now, next: now, pause: 1_000 });
        sweep.next = now.saturating_add(sweep.pause);
    }

    /// Nothing of the item is alive: what is in its pipes is all there will be.
    fn conclude(&mut self, now: u64) {
        let Some((ending, ended_us)) = self.running.as_ref().and_then(|r| r.ended) else { return };
        let Some(mut running) = self.running.take() else { return };
        let mut sink = Sink { kind: &running.kind, outbox: &mut self.outbox, secrets: &mut self.secrets, now_us: now };
        running.stdout.drain(&mut self.buffers, &mut sink);
        running.stderr.drain(&mut self.buffers, &mut sink);
        hear(&mut self.buffers, &mut running.said, &running.kind, &mut self.environments);
        if let ItemKind::Task(task) = running.kind {
            running.said.tell(task, &mut self.outbox, now);
        }
        let end = running.end(ending, self.setup.memory.exhausted());
        let times = [running.started_wall_us, running.ended_wall_us(ended_us)];
        self.report_end(&running.kind, end, times, running.usage);
    }

    /// Reads one pipe once, as far as the window allows.
    fn pump(&mut self, stream: Stream, now: u64) {
        let Some(running) = &mut self.running else { return };
        let source = match stream {
            Stream::Stdout => &mut running.stdout,
            Stream::Stderr => &mut running.stderr,
        };
        let room = self.outbox.room();
        let mut sink = Sink { kind: &running.kind, outbox: &mut self.outbox, secrets: &mut self.secrets, now_us: now };
        if source.pump(room, &mut self.buffers, &mut sink) != Pumped::NothingNow {
            hear(&mut self.buffers, &mut running.said, &running.kind, &mut self.environments);
        }
    }

    // ---- giving back ----

    fn give_back_expired(&mut self, boot_ms: u64) {
        if self.queue.next_deadline().is_none_or(|at| at >= boot_ms) {
            return;
        }
        let back = self.queue.give_back(|b| b.not_after < boot_ms, None);
        self.report_given_back(back, "the deadline of its batch has passed", 0);
    }

    /// `answers`: the recall that is answered so, even with nothing; 0 where nobody asked.
    fn report_given_back(&mut self, back: GivenBack, why: &str, answers: u64) {
        let GivenBack { tasks, enters, exits } = back;
        for (names, entered) in [(enters, true), (exits, false)] {
            for name in names {
                let end = ItemEnd::CannotStart { stage: "recalled".to_owned(), errno: 0, text: why.to_owned() };
                self.say(&Event::EnvironmentEnded { name, entered, end });
            }
        }
        let mut rest = tasks.as_slice();
        while let Some((some, more)) = rest.split_at_checked(RECALLED_MAX).filter(|(_, more)| !more.is_empty()) {
            self.say(&Event::Recalled { tasks: some.to_vec(), answers: 0 });
            rest = more;
        }
        if !rest.is_empty() || answers != 0 {
            self.say(&Event::Recalled { tasks: rest.to_vec(), answers });
        }
        self.report_finished_batches();
    }

    // ---- leaving ----

    fn watch_orphan_limit(&mut self, now: u64) {
        let limit_ms = self.setup.orders.orphan_limit_ms;
        if self.orphaned_at().is_some_and(|at| at <= now) && self.closing.is_none() && self.leaving.is_none() {
            self.close(format!("no worker was heard from for {} s", limit_ms / 1000), 0);
        }
    }

    /// When the session gives up waiting for a worker. A limit of 0 is none.
    fn orphaned_at(&self) -> Option<u64> {
        let limit_ms = self.setup.orders.orphan_limit_ms;
        (limit_ms > 0).then(|| self.last_heard.saturating_add(limit_ms.saturating_mul(1000)))
    }

    /// Starts nothing more, and leaves when the running item has ended.
    fn close(&mut self, text: String, farewell_us: u64) {
        if self.closing.is_some() || self.leaving.is_some() {
            return;
        }
        let back = self.queue.give_back(|_| true, None);
        self.report_given_back(back, &text, 0);
        self.closing = Some(Closing { text, farewell_us });
    }

    fn leave_when_done(&mut self, now: u64) {
        if self.leaving.is_some() || self.running.is_some() {
            return;
        }
        let (text, farewell) = match &self.closing {
            Some(closing) => (closing.text.clone(), closing.farewell_us),
            None if self.finish && self.queue.is_empty() => {
                let limit = self.orphaned_at().map_or(LONG_FAREWELL_US, |at| at.saturating_sub(now));
                ("all work is done".to_owned(), limit)
            }
            None => return,
        };
        self.report_finished_batches();
        self.say(&Event::Leaving { text: cut(text) });
        self.leaving = Some(now.saturating_add(farewell));
    }

    /// All that descends from the session ends before it does.
    fn kill_everything(self) {
        if let Some(running) = self.running.filter(|r| r.ended.is_none()) {
            sys::signal_group(running.pid, libc::SIGKILL);
        }
        let until = sys::monotonic_us().saturating_add(SURVIVAL_US);
        loop {
            match sys::wait_any() {
                Waited::Ended { .. } => {}
                Waited::NoChildren => return,
                Waited::AllAlive if sys::monotonic_us() >= until => return,
                Waited::AllAlive => {
                    leftovers::signal_all(libc::SIGKILL, &[]);
                    sys::poll(&mut [], Some(1_000));
                }
            }
        }
    }

    // ---- listening ----

    /// Sleeps until something happens or is due, then takes it in.
    fn wait_and_listen(&mut self) -> Result<(), Gone> {
        let writable = if self.outbox.is_blocked() { libc::POLLOUT } else { 0 };
        let full = self.outbox.room() == 0;
        let now = sys::monotonic_us();
        let pipe = |source: Option<&OwnedFd>| match source {
            Some(fd) if !full => watched(fd, libc::POLLIN),
            _ => PollFd { fd: -1, events: 0, revents: 0 },
        };
        let mut fds = [
            watched(&self.setup.channel, libc::POLLIN | writable),
            watched(&self.setup.signals, libc::POLLIN),
            pipe(self.running.as_ref().and_then(|r| r.stdout.to_read(now))),
            pipe(self.running.as_ref().and_then(|r| r.stderr.to_read(now))),
        ];
        sys::poll(&mut fds, self.time_to_next(now));
        let now = sys::monotonic_us();
        let [channel, signals, stdout, stderr] = fds.map(|f| f.revents);
        if channel & libc::POLLOUT != 0 {
            self.outbox.unblock();
        }
        if stdout != 0 {
            self.pump(Stream::Stdout, now);
        }
        if stderr != 0 {
            self.pump(Stream::Stderr, now);
        }
        if signals != 0 {
            let arrived = sys::arrived(self.setup.signals.as_fd());
            if arrived.terminate {
                self.close("the session was told to end".to_owned(), FAREWELL_US);
                self.stop_running(Stop::Cancelled, now);
            }
            if arrived.child {
                self.reap(now);
            }
        }
        if channel & !libc::POLLOUT != 0 { self.listen(now) } else { Ok(()) }
    }

    /// How long nothing is due.
    fn time_to_next(&self, now: u64) -> Option<u64> {
        if self.can_start() && !self.queue.is_empty() {
            return Some(0);
        }
        let boot_ms = sys::boottime_ms();
        let at_boot = |ms: u64| now.saturating_add(ms.saturating_add(1).saturating_sub(boot_ms).saturating_mul(1000));
        let orphaned = self.orphaned_at().filter(|_| self.closing.is_none() && self.leaving.is_none());
        let lease = self.setup.orders.desktop.then_some(self.lease_until);
        let mut times = vec![
            self.outbox.due(self.is_idle()),
            self.queue.next_deadline().map(at_boot),
            lease.map(at_boot),
            orphaned,
            self.leaving,
        ];
        if let Some(running) = &self.running {
            times.extend([
                running.timeout.at(),
                running.kill_at,
                running.killed_at.map(|at| at.saturating_add(SURVIVAL_US)),
                running.sweep.map(|s| s.next),
                running.said.due().filter(|_| matches!(running.kind, ItemKind::Task(_))),
                running.stdout.rests_until(now),
                running.stderr.rests_until(now),
            ]);
        }
        times.into_iter().flatten().min().map(|at| at.saturating_sub(now))
    }

    fn listen(&mut self, now: u64) -> Result<(), Gone> {
        for _ in 0..PACKETS_PER_TURN {
            let packet = match sys::receive(self.setup.channel.as_fd(), &mut self.packet) {
                Ok(packet) => packet,
                Err(e) if sys::errno_of(&e) == libc::EAGAIN => return Ok(()),
                Err(e) if sys::errno_of(&e) == libc::EINTR => continue,
                Err(_) => return Err(Gone),
            };
            if packet.len == 0 {
                return Err(Gone);
            }
            self.last_heard = now;
            if let Err(breach) = self.obey(&packet, now) {
                self.close(breach.to_string(), FAREWELL_US);
                self.stop_running(Stop::Cancelled, now);
            }
        }
        Ok(())
    }

    fn obey(&mut self, packet: &sys::Packet, now: u64) -> Result<(), Breach> {
        if packet.cut {
            return Err(Breach::TooLong);
        }
        let bytes = self.packet.get(..packet.len).unwrap_or_default();
        match ToSession::decode(bytes).map_err(Breach::Malformed)? {
            ToSession::Attach { acked } => self.outbox.attach(acked, now)?,
            ToSession::Ack { through } => self.outbox.acknowledge(through)?,
            ToSession::Batch => self.take_batch(packet.fds.first().ok_or(Breach::NoBatch)?),
            ToSession::Files => {
                let text = "this session runs tasks, and does no file work".to_owned();
                self.say(&Event::BatchRefused { text });
            }
            ToSession::Cancel { task } => self.cancel(task, now),
            ToSession::Recall { through, number } => self.recall(through, number),
            ToSession::Suspend => self.suspend(now),
            ToSession::Resume => self.resume(now),
            ToSession::Finish => self.finish = true,
            ToSession::Renew(signed) => self.renew(&signed),
            ToSession::Ping => {}
        }
        Ok(())
    }

    // ---- what a worker can ask for ----

    fn take_batch(&mut self, fd: &OwnedFd) {
        match self.accept(fd) {
            // Past its deadline it counts, so that the next number follows, and is given back in the next turn.
            Ok(batch) => self.queue.push(batch),
            Err(refusal) => self.say(&Event::BatchRefused { text: cut(refusal.to_string()) }),
        }
    }

    /// Copied first, then checked, then read: nobody can change it in between.
    fn accept(&self, fd: &OwnedFd) -> Result<Batch, Refusal> {
        if self.stuck {
            return Err(Refusal::Stuck);
        }
        if self.finish || self.closing.is_some() || self.leaving.is_some() {
            return Err(Refusal::Leaving);
        }
        let bytes = sys::read_memory_file(fd.as_fd(), BATCH_MAX + SIGNED_HEADER)
            .map_err(|e| Refusal::Unreadable(sys::errno_of(&e)))?;
        let signed = Signed::decode(&bytes, BATCH_MAX).map_err(|e| Refusal::Signature(e.into()))?;
        drop(bytes);
        let batch = Batch::open(&signed, &self.setup.keys).map_err(Refusal::Signature)?;
        self.queue.check(&batch, &self.setup.orders)?;
        Ok(batch)
    }

    fn cancel(&mut self, task: TaskRef, now: u64) {
        if self.running.as_ref().is_some_and(|r| r.kind == ItemKind::Task(task)) {
            self.stop_running(Stop::Cancelled, now);
        } else if self.queue.remove(task) {
            self.report_end(&ItemKind::Task(task), ItemEnd::Cancelled, [0, 0], Usage::default());
        }
    }

    fn recall(&mut self, through: u64, number: u64) {
        let back = self.queue.give_back(|b| b.sequence <= through, Some(&self.environments));
        self.report_given_back(back, "it was recalled", number);
    }

    fn suspend(&mut self, now: u64) {
        self.suspended = true;
        let Some(running) = self.running.as_mut().filter(|r| r.stop.is_none() && r.ended.is_none()) else { return };
        running.timeout.pause(now);
        sys::signal_group(running.pid, libc::SIGSTOP);
        // Twice: what was forked before its parent stopped is met by the second pass.
        leftovers::signal_all(libc::SIGSTOP, &[]);
        leftovers::signal_all(libc::SIGSTOP, &[]);
    }

    fn resume(&mut self, now: u64) {
        self.suspended = false;
        let Some(running) = &mut self.running else { return };
        running.timeout.go_on(now);
        sys::signal_group(running.pid, libc::SIGCONT);
        leftovers::signal_all(libc::SIGCONT, &[]);
    }

    /// A renewal that is not for this session, or not signed, moves nothing; one that is older neither.
    fn renew(&mut self, signed: &Signed) {
        if let Ok(renewal) = Renewal::open(signed, &self.setup.keys)
            && renewal.farm == self.setup.orders.farm
            && renewal.session == self.setup.orders.session
        {
            self.lease_until = self.lease_until.max(renewal.lease_until);
        }
    }
}

impl Running {
    fn kill(&mut self, now: u64, environments: &Environments) {
        self.kill_at = None;
        self.killed_at = Some(now);
        sys::signal_group(self.pid, libc::SIGKILL);
        leftovers::signal_all(libc::SIGKILL, &environments.kept(leaving(&self.kind)));
    }
}

/// The environment whose processes are no longer needed when this item has ended.
fn leaving(kind: &ItemKind) -> Option<&str> {
    match kind {
        ItemKind::Exit { name } => Some(name),
        ItemKind::Enter { .. } | ItemKind::Task(_) => None,
    }
}

fn watched(fd: &OwnedFd, events: i16) -> PollFd {
    PollFd { fd: fd.as_raw_fd(), events, revents: 0 }
}

/// Acts on what an item said: environments are changed only by their own `onEnter`.
fn hear(buffers: &mut Buffers, said: &mut Said, kind: &ItemKind, environments: &mut Environments) {
    let enters = matches!(kind, ItemKind::Enter { .. });
    for message in buffers.messages.drain(..) {
        said.hear(&message);
        match message {
            Message::Set { name, value } | Message::SetSecret { name, value } if enters => {
                environments.change(name, Some(value));
            }
            Message::Unset(name) if enters => environments.change(name, None),
            _ => {}
        }
    }
}

/// Once per batch; what went wrong then holds for all its items.
fn write_batch_files(batch: &mut Pending, session: u64, place: &Place) -> Result<(), CannotStart> {
    let files = std::mem::take(&mut batch.files);
    batch.files_written.get_or_insert_with(|| files::write_all(&files, session, place)).clone()
}

fn own_variables<'a>(numbers: &'a Numbers, place: &'a Place, kind: &ItemKind) -> Vec<(&'static str, Cow<'a, [u8]>)> {
    let mut own: Vec<(&'static str, Cow<'a, [u8]>)> = vec![
        ("STEAD_JOB", Cow::Borrowed(&numbers.job)),
        ("STEAD_SESSION", Cow::Borrowed(&numbers.session)),
        ("STEAD_FILES", Cow::Borrowed(&place.files_dir)),
    ];
    if let ItemKind::Task(task) = kind {
        own.push(("STEAD_STEP", Cow::Owned(task.step.to_string().into_bytes())));
        own.push(("STEAD_TASK", Cow::Owned(task.index.to_string().into_bytes())));
        own.push(("STEAD_ATTEMPT", Cow::Owned(task.epoch.to_string().into_bytes())));
    }
    own
}
