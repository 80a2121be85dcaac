//! What a worker and a session say to each other on the session's SEQPACKET pair (descriptor 3 of the session).
//!
//! A message is one packet of at most [`PACKET_MAX`] bytes. A batch travels as a sealed memfd passed beside its
//! packet, so that a task's arguments may be as long as the kernel allows.
//!
//! Events carry consecutive numbers from 1. The session keeps each until it is acknowledged and sends all that
//! are not acknowledged again after [`ToSession::Attach`]; the worker ignores numbers it has seen. Output that is
//! not acknowledged counts against a bounded window; when it is full, the session stops reading the task's pipes.

use crate::batch::TaskRef;
use crate::codec::{DecodeError, Reader, Writer};
use crate::sign::Signed;
use crate::warrant::unknown;

/// Largest packet on a local socket.
pub const PACKET_MAX: usize = 64 << 10;
/// Most bytes of a task's output in one event.
pub const OUTPUT_MAX: usize = 32 << 10;
/// Most bytes of unacknowledged output a session holds.
pub const WINDOW: usize = 4 << 20;
/// Longest text in an event; longer ones are cut at a character boundary.
pub const TEXT_MAX: usize = 1024;

/// The file descriptor of the channel in a session.
pub const CHANNEL_FD: i32 = 3;
/// The file descriptor of the session's orders: a sealed memfd with an encoded [`Orders`].
pub const ORDERS_FD: i32 = 4;

/// What a session knows from the one who started it; it believes nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    pub farm: [u8; 16],
    pub session: u64,
    pub job: u64,
    /// Supervisors' public keys that may sign batches and renewals.
    pub keys: Vec<[u8; 32]>,
    /// True in desktop mode: nobody stands behind the session, so it ends with its channel and enforces the lease.
    pub desktop: bool,
    pub lease_until: u64,
    /// How long a session goes on without hearing from a worker, in ms.
    pub orphan_limit_ms: u64,
}

impl Orders {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(1).fixed(&self.farm).u64(self.session).u64(self.job).list(&self.keys, |w, k| {
            w.fixed(k);
        });
        w.bool(self.desktop).u64(self.lease_until).u64(self.orphan_limit_ms);
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        match r.u8()? {
            1 => {}
            other => return Err(unknown("orders version", other)),
        }
        let orders = Self {
            farm: r.fixed()?,
            session: r.u64()?,
            job: r.u64()?,
            keys: r.list("keys", 16, Reader::fixed::<32>)?,
            desktop: r.bool("desktop")?,
            lease_until: r.u64()?,
            orphan_limit_ms: r.u64()?,
        };
        r.finish()?;
        Ok(orders)
    }
}

/// From the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToSession {
    /// A worker took over the channel: send again everything after `acked`.
    Attach {
        acked: u64,
    },
    /// Everything up to and including this event is safe.
    Ack {
        through: u64,
    },
    /// A signed batch is in the memfd passed with this packet.
    Batch,
    /// A signed request for file work is in the memfd passed with this packet; only for a session opened for that.
    Files,
    /// End this attempt if it is running or waiting; its end is `Cancelled`.
    Cancel {
        task: TaskRef,
    },
    /// Give back what has not started of batches up to this sequence number; answered by `Recalled`, with this number
    /// of the recall.
    Recall {
        through: u64,
        number: u64,
    },
    /// Stop the processes of the running item; start nothing.
    Suspend,
    Resume,
    /// No batch follows: run the exits of entered environments, then leave.
    Finish,
    /// Only meaningful in desktop mode.
    Renew(Signed),
    /// Resets the orphan clock.
    Ping,
}

/// Which stream of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How an item ended. Exit codes and times are the account's own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemEnd {
    Exited(u8),
    Signalled(u8),
    TimedOut,
    Cancelled,
    /// Nothing was executed: `stage` is `cwd`, `files`, `exec`, `limit` …; `text` is a sentence for the owner.
    CannotStart {
        stage: String,
        errno: i32,
        text: String,
    },
    /// The task said `openjd_fail`, or an environment it needs could not be entered.
    Failed {
        text: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// First event of a session.
    Ready {
        pid: u32,
    },
    TaskStarted {
        task: TaskRef,
        /// Wall clock, µs since 1970, as are the other times of a task.
        at_us: u64,
    },
    /// `offset` counts the bytes of this stream of this attempt.
    Output {
        task: TaskRef,
        stream: Stream,
        offset: u64,
        data: Vec<u8>,
    },
    /// `openjd_progress`, in hundredths of a percent.
    Progress {
        task: TaskRef,
        hundredths: u32,
    },
    /// `openjd_status`.
    Status {
        task: TaskRef,
        text: String,
    },
    TaskEnded {
        task: TaskRef,
        end: ItemEnd,
        started_us: u64,
        ended_us: u64,
        cpu_us: u64,
        max_rss: u64,
    },
    /// Output and end of an environment's action.
    EnvironmentOutput {
        name: String,
        data: Vec<u8>,
    },
    EnvironmentEnded {
        name: String,
        /// True for the end of `onEnter`, false for that of `onExit`; `end` says whether it succeeded.
        entered: bool,
        end: ItemEnd,
    },
    /// Everything of this batch is done or given back.
    BatchDone {
        sequence: u64,
    },
    /// The attempts of the recalled batches that were never started.
    Recalled {
        tasks: Vec<TaskRef>,
        /// The recall that has been obeyed by now; 0: more is to come, or nobody asked.
        answers: u64,
    },
    /// A batch was refused; nothing of it ran.
    BatchRefused {
        text: String,
    },
    /// What a task left behind could not be killed from inside: the session wants to be ended from outside.
    Stuck,
    /// Last event of a session.
    Leaving {
        text: String,
    },
}

/// From the session: consecutive events, the first having the number `first`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    pub first: u64,
    pub events: Vec<Event>,
}

impl ToSession {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Attach { acked } => w.u8(1).u64(*acked),
            Self::Ack { through } => w.u8(2).u64(*through),
            Self::Batch => w.u8(3),
            Self::Cancel { task } => {
                w.u8(4);
                task.write(&mut w);
                &mut w
            }
            Self::Recall { through, number } => w.u8(5).u64(*through).u64(*number),
            Self::Suspend => w.u8(6),
            Self::Resume => w.u8(7),
            Self::Finish => w.u8(8),
            Self::Renew(signed) => {
                w.u8(9);
                signed.write(&mut w);
                &mut w
            }
            Self::Ping => w.u8(10),
            Self::Files => w.u8(11),
        };
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let message = match r.u8()? {
            1 => Self::Attach { acked: r.u64()? },
            2 => Self::Ack { through: r.u64()? },
            3 => Self::Batch,
            4 => Self::Cancel { task: TaskRef::read(&mut r)? },
            5 => Self::Recall { through: r.u64()?, number: r.u64()? },
            6 => Self::Suspend,
            7 => Self::Resume,
            8 => Self::Finish,
            9 => Self::Renew(Signed::read(&mut r, 1024)?),
            10 => Self::Ping,
            11 => Self::Files,
            other => return Err(unknown("message", other)),
        };
        r.finish()?;
        Ok(message)
    }
}

impl Events {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u64(self.first).list(&self.events, write_event);
        w.into_bytes()
    }

    /// The packet of events that were encoded one by one with [`Event::encode`], the first having the number `first`.
    #[must_use]
    pub fn join(first: u64, events: &[&[u8]]) -> Vec<u8> {
        let mut w = Writer::new();
        w.u64(first).list(events, |w, e| {
            w.fixed(e);
        });
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let events = Self { first: r.u64()?, events: r.list("events", PACKET_MAX, read_event)? };
        r.finish()?;
        Ok(events)
    }
}

impl Event {
    /// The event's own bytes within a packet, for a sender that keeps events until they are acknowledged.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        write_event(&mut w, self);
        w.into_bytes()
    }
}

fn write_event(w: &mut Writer, event: &Event) {
    match event {
        Event::Ready { pid } => {
            w.u8(1).u32(*pid);
        }
        Event::TaskStarted { task, at_us } => {
            w.u8(2);
            task.write(w);
            w.u64(*at_us);
        }
        Event::Output { task, stream, offset, data } => {
            w.u8(3);
            task.write(w);
            w.u8(match stream {
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            });
            w.u64(*offset).bytes(data);
        }
        Event::Progress { task, hundredths } => {
            w.u8(4);
            task.write(w);
            w.u32(*hundredths);
        }
        Event::Status { task, text } => {
            w.u8(5);
            task.write(w);
            w.str(text);
        }
        Event::TaskEnded { task, end, started_us, ended_us, cpu_us, max_rss } => {
            w.u8(6);
            task.write(w);
            write_end(w, end);
            w.u64(*started_us).u64(*ended_us).u64(*cpu_us).u64(*max_rss);
        }
        Event::EnvironmentOutput { name, data } => {
            w.u8(7).str(name).bytes(data);
        }
        Event::EnvironmentEnded { name, entered, end } => {
            w.u8(8).str(name).bool(*entered);
            write_end(w, end);
        }
        Event::BatchDone { sequence } => {
            w.u8(9).u64(*sequence);
        }
        Event::Recalled { tasks, answers } => {
            w.u8(10).list(tasks, |w, t| t.write(w)).u64(*answers);
        }
        Event::BatchRefused { text } => {
            w.u8(11).str(text);
        }
        Event::Stuck => {
            w.u8(12);
        }
        Event::Leaving { text } => {
            w.u8(13).str(text);
        }
    }
}

fn read_event(r: &mut Reader<'_>) -> Result<Event, DecodeError> {
    Ok(match r.u8()? {
        1 => Event::Ready { pid: r.u32()? },
        2 => Event::TaskStarted { task: TaskRef::read(r)?, at_us: r.u64()? },
        3 => Event::Output {
            task: TaskRef::read(r)?,
            stream: match r.u8()? {
                1 => Stream::Stdout,
                2 => Stream::Stderr,
                other => return Err(unknown("stream", other)),
            },
            offset: r.u64()?,
            data: r.bytes("output", OUTPUT_MAX)?.to_vec(),
        },
        4 => Event::Progress { task: TaskRef::read(r)?, hundredths: r.u32()? },
        5 => Event::Status { task: TaskRef::read(r)?, text: r.str("status", TEXT_MAX)? },
        6 => Event::TaskEnded {
            task: TaskRef::read(r)?,
            end: read_end(r)?,
            started_us: r.u64()?,
            ended_us: r.u64()?,
            cpu_us: r.u64()?,
            max_rss: r.u64()?,
        },
        7 => Event::EnvironmentOutput {
            name: r.str("environment", TEXT_MAX)?,
            data: r.bytes("output", OUTPUT_MAX)?.to_vec(),
        },
        8 => Event::EnvironmentEnded {
            name: r.str("environment", TEXT_MAX)?,
            entered: r.bool("entered")?,
            end: read_end(r)?,
        },
        9 => Event::BatchDone { sequence: r.u64()? },
        10 => Event::Recalled { tasks: r.list("tasks", PACKET_MAX, TaskRef::read)?, answers: r.u64()? },
        11 => Event::BatchRefused { text: r.str("text", TEXT_MAX)? },
        12 => Event::Stuck,
        13 => Event::Leaving { text: r.str("text", TEXT_MAX)? },
        other => return Err(unknown("event", other)),
    })
}

fn write_end(w: &mut Writer, end: &ItemEnd) {
    match end {
        ItemEnd::Exited(code) => w.u8(1).u8(*code),
        ItemEnd::Signalled(signal) => w.u8(2).u8(*signal),
        ItemEnd::TimedOut => w.u8(3),
        ItemEnd::Cancelled => w.u8(4),
        ItemEnd::CannotStart { stage, errno, text } => w.u8(5).str(stage).i32(*errno).str(text),
        ItemEnd::Failed { text } => w.u8(6).str(text),
    };
}

fn read_end(r: &mut Reader<'_>) -> Result<ItemEnd, DecodeError> {
    Ok(match r.u8()? {
        1 => ItemEnd::Exited(r.u8()?),
        2 => ItemEnd::Signalled(r.u8()?),
        3 => ItemEnd::TimedOut,
        4 => ItemEnd::Cancelled,
        5 => ItemEnd::CannotStart { stage: r.str("stage", TEXT_MAX)?, errno: r.i32()?, text: r.str("text", TEXT_MAX)? },
        6 => ItemEnd::Failed { text: r.str("text", TEXT_MAX)? },
        other => return Err(unknown("item end", other)),
    })
}
