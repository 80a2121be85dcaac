//! Leases of a session or a job, changed in memory and written back where they differ.

use sqlx::query;

use crate::Result;
use crate::convert::{get, i, number, unknown};
use crate::dialect::{Conn, Row};
use crate::edit::{Range, range_of};

/// What the tasks of a lease become instead of going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Kill,
    /// They come back blocked.
    Block,
    /// They come back pending.
    Requeue,
}

impl Ask {
    fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Block => "block",
            Self::Requeue => "requeue",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        const ALL: [Ask; 3] = [Ask::Kill, Ask::Block, Ask::Requeue];
        ALL.into_iter().find(|a| a.as_str() == text).ok_or_else(|| unknown("what was asked of a lease", text))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// `None` until it is written.
    id: Option<i64>,
    pub(crate) session: u64,
    pub(crate) range: Range,
    pub(crate) ask: Option<Ask>,
    pub(crate) why: Option<String>,
    /// The task that runs now, and since when.
    pub(crate) started: Option<(u64, i64)>,
}

impl Held {
    fn of(row: &Row) -> Result<Self> {
        let started: Option<i64> = get(row, "started")?;
        let started_at: Option<i64> = get(row, "started_at")?;
        Ok(Self {
            id: get(row, "id")?,
            session: number(row, "session")?,
            range: range_of(row)?,
            ask: get::<Option<&str>, _>(row, "asked")?.map(Ask::parse).transpose()?,
            why: get(row, "asked_why")?,
            started: started.map(crate::convert::u).zip(started_at),
        })
    }

    /// The part of it that is `range`, as a lease of its own.
    fn part(&self, range: Range) -> Self {
        let started = self.started.filter(|(task, _)| range.contains(*task));
        Self { id: None, range, started, ..self.clone() }
    }

    pub(crate) fn ask(&mut self, ask: Ask, why: Option<&str>) {
        self.ask = Some(ask);
        self.why = why.map(str::to_owned);
    }
}

/// Leases as they were and as they are to be, in the order in which they were given.
#[derive(Debug)]
pub(crate) struct Leases {
    job: u64,
    before: Vec<Held>,
    pub(crate) now: Vec<Held>,
}

impl Leases {
    pub(crate) async fn of_session(conn: &mut Conn, job: u64, session: u64) -> Result<Self> {
        let rows = query(
            "SELECT id, session, step, first, last, epoch, fails, losses, misfires, asked, asked_why, started, \
             started_at FROM leases WHERE session = $1 ORDER BY id",
        )
        .bind(i(session))
        .fetch_all(conn)
        .await?;
        Self::of(job, &rows)
    }

    pub(crate) async fn of_job(conn: &mut Conn, job: u64) -> Result<Self> {
        let rows = query(
            "SELECT id, session, step, first, last, epoch, fails, losses, misfires, asked, asked_why, started, \
             started_at FROM leases WHERE job = $1 ORDER BY step, first",
        )
        .bind(i(job))
        .fetch_all(conn)
        .await?;
        Self::of(job, &rows)
    }

    fn of(job: u64, rows: &[Row]) -> Result<Self> {
        let before = rows.iter().map(Held::of).collect::<Result<Vec<_>>>()?;
        Ok(Self { job, now: before.clone(), before })
    }

    /// Where the task is held, under this epoch if one is given.
    pub(crate) fn find(&self, step: u32, index: u64, epoch: Option<u32>) -> Option<usize> {
        self.now
            .iter()
            .position(|l| l.range.step == step && l.range.contains(index) && epoch.is_none_or(|e| e == l.range.epoch))
    }

    /// Takes tasks `first..=last` out of lease `at`; what is left of it stays (the front keeps its place).
    pub(crate) fn take(&mut self, at: usize, first: u64, last: u64) -> Held {
        let held = self.now.remove(at);
        let (front, back) = (held.range.before(first), held.range.after(last));
        let taken = held.part(Range { first, last, ..held.range });
        let mut rest: Vec<Held> = front.into_iter().chain(back).map(|range| held.part(range)).collect();
        if let Some(keeper) = rest.first_mut() {
            keeper.id = held.id;
        }
        self.now.splice(at..at, rest);
        taken
    }

    /// Puts a part that was taken back as a lease of its own.
    pub(crate) fn add(&mut self, at: usize, held: Held) {
        self.now.insert(at.min(self.now.len()), held);
    }

    pub(crate) async fn write(self, conn: &mut Conn) -> Result<()> {
        for old in &self.before {
            match self.now.iter().find(|l| l.id == old.id) {
                None => {
                    query("DELETE FROM leases WHERE id = $1").bind(old.id).execute(&mut *conn).await?;
                }
                Some(new) if new != old => update(conn, new).await?,
                Some(_) => {}
            }
        }
        for new in self.now.iter().filter(|l| l.id.is_none()) {
            insert(conn, self.job, new).await?;
        }
        Ok(())
    }
}

async fn update(conn: &mut Conn, lease: &Held) -> Result<()> {
    query(
        "UPDATE leases SET first = $2, last = $3, asked = $4, asked_why = $5, started = $6, started_at = $7 \
         WHERE id = $1",
    )
    .bind(lease.id)
    .bind(i(lease.range.first))
    .bind(i(lease.range.last))
    .bind(lease.ask.map(Ask::as_str))
    .bind(lease.why.as_deref())
    .bind(lease.started.map(|(task, _)| i(task)))
    .bind(lease.started.map(|(_, at)| at))
    .execute(conn)
    .await?;
    Ok(())
}

/// A new lease; returns its id.
pub(crate) async fn grant(conn: &mut Conn, job: u64, session: u64, range: Range) -> Result<u64> {
    insert(conn, job, &Held { id: None, session, range, ask: None, why: None, started: None }).await
}

async fn insert(conn: &mut Conn, job: u64, lease: &Held) -> Result<u64> {
    let row = query(
        "INSERT INTO leases (session, job, step, first, last, epoch, fails, losses, misfires, asked, asked_why, \
         started, started_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING id",
    )
    .bind(i(lease.session))
    .bind(i(job))
    .bind(i64::from(lease.range.step))
    .bind(i(lease.range.first))
    .bind(i(lease.range.last))
    .bind(i64::from(lease.range.epoch))
    .bind(lease.range.tries.fails)
    .bind(lease.range.tries.losses)
    .bind(lease.range.tries.misfires)
    .bind(lease.ask.map(Ask::as_str))
    .bind(lease.why.as_deref())
    .bind(lease.started.map(|(task, _)| i(task)))
    .bind(lease.started.map(|(_, at)| at))
    .fetch_one(conn)
    .await?;
    number(&row, "id")
}
