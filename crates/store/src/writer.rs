//! Group commit: one task writes. It takes all changes that wait, carries out each in a savepoint of its own, commits
//! once, and only then answers. When nothing waits a change is committed at once, and needs no savepoint.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use sqlx::{Connection, Transaction};
use tokio::sync::{mpsc, oneshot};

use crate::dialect::{BEGIN, Conn, Engine, Lock, Place};
use crate::error::StoreError;
use crate::stats::Stats;

pub(crate) type Pending<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;
type Work = Box<dyn Change>;

/// Changes that may wait; beyond it callers wait to be let in.
const QUEUE: usize = 4096;
/// Changes in one transaction: bounds how long the first one waits for the last one.
const GROUP: usize = 512;

/// Something to be carried out in a transaction.
trait Change: Send {
    fn carry_out<'c>(self: Box<Self>, conn: &'c mut Conn, place: &'c Place) -> Pending<'c, Outcome>
    where
        Self: 'c;
    /// It was not carried out.
    fn refuse(self: Box<Self>, error: &StoreError);
}

struct Asked<T, F> {
    op: F,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Change for Asked<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Conn) -> Pending<'c, Result<T, StoreError>> + Send + 'static,
{
    fn carry_out<'c>(self: Box<Self>, conn: &'c mut Conn, place: &'c Place) -> Pending<'c, Outcome>
    where
        Self: 'c,
    {
        let Self { op, answer } = *self;
        Box::pin(async move {
            let result = op(conn).await.map_err(|e| place.explain_again(e));
            Outcome { verdict: verdict(&result), tell: Box::new(move |failed| tell(answer, result, failed)) }
        })
    }

    fn refuse(self: Box<Self>, error: &StoreError) {
        let _ = self.answer.send(Err(error.clone()));
    }
}

enum Message {
    Change(Work),
    Close(oneshot::Sender<()>),
}

/// Tells the caller: the change's own result, or why the transaction failed.
type Tell = Box<dyn FnOnce(Option<&StoreError>) + Send>;

/// A change that was carried out but isn't committed.
struct Outcome {
    verdict: Verdict,
    tell: Tell,
}

enum Verdict {
    Keep,
    /// Only this change is undone.
    Undo,
    /// The transaction is lost.
    Broken(StoreError),
}

#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
    stats: Stats,
}

impl Writer {
    pub(crate) fn start(place: Place, conn: Conn, lock: Lock) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let stats = Stats::default();
        tokio::spawn(run(Desk { place, stats: stats.clone() }, conn, lock, waiting));
        Self { queue, stats }
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Carries `op` out; returns when it is durable.
    pub(crate) async fn write<T, F>(&self, op: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> Pending<'c, Result<T, StoreError>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(Asked { op, answer });
        self.queue.send(Message::Change(work)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Ends after everything accepted before is committed.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

fn verdict<T>(result: &Result<T, StoreError>) -> Verdict {
    match result {
        Ok(_) => Verdict::Keep,
        Err(e) if e.is_unavailable() => Verdict::Broken(e.clone()),
        Err(_) => Verdict::Undo,
    }
}

fn tell<T>(answer: oneshot::Sender<Result<T, StoreError>>, result: Result<T, StoreError>, failed: Option<&StoreError>) {
    // A caller who has gone away doesn't want the answer.
    let _ = answer.send(match failed {
        Some(e) => Err(e.clone()),
        None => result,
    });
}

/// Where is written, and how that goes.
struct Desk {
    place: Place,
    stats: Stats,
}

impl Desk {
    async fn commit(&self, transaction: Transaction<'_, Engine>, changes: usize) -> Result<(), sqlx::Error> {
        let began = Instant::now();
        let committed = transaction.commit().await;
        self.stats.commit.took(began.elapsed());
        self.stats.group.count(u32::try_from(changes).map_or(f64::MAX, f64::from));
        committed
    }
}

async fn run(desk: Desk, conn: Conn, lock: Lock, mut waiting: mpsc::Receiver<Message>) {
    let mut conn = Some(conn);
    let mut closing = None;
    while closing.is_none()
        && let Some(message) = waiting.recv().await
    {
        let group = gather(message, &mut waiting, &mut closing);
        commit_group(&desk, &mut conn, group).await;
    }
    if let Some(conn) = conn
        && let Err(error) = conn.close().await
    {
        tracing::warn!(%error, path = %desk.place.path.display(), "the store was not closed cleanly; it will be repaired when it is opened");
    }
    drop(lock);
    if let Some(done) = closing {
        let _ = done.send(());
    }
}

fn gather(
    message: Message,
    waiting: &mut mpsc::Receiver<Message>,
    closing: &mut Option<oneshot::Sender<()>>,
) -> Vec<Work> {
    let mut group = Vec::new();
    let mut next = Some(message);
    while let Some(message) = next.take() {
        match message {
            Message::Change(work) => group.push(work),
            Message::Close(done) => {
                *closing = Some(done);
                break;
            }
        }
        if group.len() < GROUP {
            next = waiting.try_recv().ok();
        }
    }
    group
}

/// After a failure the connection is not trusted any more: SQLite may have rolled back by itself.
async fn commit_group(desk: &Desk, conn: &mut Option<Conn>, group: Vec<Work>) {
    if group.is_empty() {
        return;
    }
    let mut writing = match conn.take() {
        Some(conn) => conn,
        None => match desk.place.connect().await {
            Ok(conn) => conn,
            Err(error) => return group.into_iter().for_each(|work| work.refuse(&error)),
        },
    };
    match transaction(desk, &mut writing, group).await {
        Ok(()) => *conn = Some(writing),
        Err(error) => tracing::error!(%error, "a transaction failed; nothing of it was acknowledged"),
    }
}

async fn transaction(desk: &Desk, conn: &mut Conn, group: Vec<Work>) -> Result<(), StoreError> {
    let mut waiting = group.into_iter();
    let mut done = Vec::with_capacity(waiting.len());
    let failed = carry_out(desk, conn, &mut waiting, &mut done).await.err();
    for outcome in done {
        (outcome.tell)(failed.as_ref());
    }
    match failed {
        None => Ok(()),
        Some(error) => {
            waiting.for_each(|work| work.refuse(&error));
            Err(error)
        }
    }
}

/// Nothing else is in the transaction: it is undone with it, and no savepoint has to be made and given up, each of which
/// is a way to the database's thread and back.
async fn carry_out_alone(
    desk: &Desk,
    mut transaction: Transaction<'_, Engine>,
    work: Work,
    done: &mut Vec<Outcome>,
) -> Result<(), StoreError> {
    let mut outcome = work.carry_out(&mut transaction, &desk.place).await;
    let verdict = std::mem::replace(&mut outcome.verdict, Verdict::Keep);
    done.push(outcome);
    match verdict {
        Verdict::Keep => desk.commit(transaction, 1).await,
        Verdict::Undo => transaction.rollback().await,
        Verdict::Broken(error) => return Err(error),
    }
    .map_err(|e| desk.place.explain(e))
}

async fn carry_out(
    desk: &Desk,
    conn: &mut Conn,
    waiting: &mut std::vec::IntoIter<Work>,
    done: &mut Vec<Outcome>,
) -> Result<(), StoreError> {
    let mut transaction = conn.begin_with(BEGIN).await.map_err(|e| desk.place.explain(e))?;
    if waiting.len() == 1
        && let Some(work) = waiting.next()
    {
        return carry_out_alone(desk, transaction, work, done).await;
    }
    for work in waiting {
        let mut savepoint = transaction.begin().await.map_err(|e| desk.place.explain(e))?;
        let mut outcome = work.carry_out(&mut savepoint, &desk.place).await;
        let verdict = std::mem::replace(&mut outcome.verdict, Verdict::Keep);
        done.push(outcome);
        match verdict {
            Verdict::Keep => savepoint.commit().await,
            Verdict::Undo => savepoint.rollback().await,
            Verdict::Broken(error) => return Err(error),
        }
        .map_err(|e| desk.place.explain(e))?;
    }
    desk.commit(transaction, done.len()).await.map_err(|e| desk.place.explain(e))
}
