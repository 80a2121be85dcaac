//! Complete tasks, packed: a version byte, then per task the start (as the difference to the one before, the first to
//! zero; zig-zag), duration, cpu time and peak memory as LEB128 numbers.
//!
//! Memory is measured in KiB by most kernels: the lowest bit says whether the number is KiB (0) or bytes (1).

use sqlx::query;

use crate::convert::{get, i};
use crate::dialect::Conn;
use crate::edit::Range;
use crate::error::StoreError;

const VERSION: u8 = 1;
/// A chunk that has so many bytes isn't added to: adding writes it anew.
const CHUNK: i64 = 6 * 1024;

/// What is kept of a task that simply completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) started_at: i64,
    pub(crate) duration_us: u64,
    pub(crate) cpu_us: u64,
    pub(crate) max_rss: u64,
}

impl Done {
    pub(crate) fn ended_at(&self) -> i64 {
        self.started_at.saturating_add_unsigned(self.duration_us)
    }
}

pub(crate) fn encode(tasks: &[Done]) -> Vec<u8> {
    let mut data = Vec::with_capacity(1 + tasks.len() * 10);
    data.push(VERSION);
    append(&mut data, 0, tasks);
    data
}

/// Appends to an encoded chunk whose last task started at `previous`.
pub(crate) fn append(data: &mut Vec<u8>, mut previous: i64, tasks: &[Done]) {
    for task in tasks {
        write(data, zigzag(task.started_at.wrapping_sub(previous)));
        write(data, task.duration_us);
        write(data, task.cpu_us);
        write(data, memory(task.max_rss));
        previous = task.started_at;
    }
}

/// `None` for bytes that are none of ours.
pub(crate) fn decode(data: &[u8]) -> Option<Vec<Done>> {
    let (&VERSION, mut rest) = data.split_first()? else { return None };
    let mut tasks = Vec::with_capacity(rest.len() / 8);
    let mut previous = 0_i64;
    while !rest.is_empty() {
        previous = previous.wrapping_add(unzigzag(read(&mut rest)?));
        let (duration_us, cpu_us) = (read(&mut rest)?, read(&mut rest)?);
        let max_rss = unmemory(read(&mut rest)?);
        tasks.push(Done { started_at: previous, duration_us, cpu_us, max_rss });
    }
    Some(tasks)
}

fn write(data: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        data.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    data.push(value.to_le_bytes()[0]);
}

fn read(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn memory(bytes: u64) -> u64 {
    let bytes = bytes.min(u64::MAX >> 1);
    if bytes.is_multiple_of(1024) { bytes / 1024 * 2 } else { bytes * 2 + 1 }
}

fn unmemory(value: u64) -> u64 {
    if value.is_multiple_of(2) { (value / 2).saturating_mul(1024) } else { value / 2 }
}

pub(crate) fn damaged() -> StoreError {
    StoreError::Unknown { what: "packed tasks", value: "bytes that are no version 1 chunk".into() }
}

/// The tasks of `range`, out of those of a chunk that begins with task `first`.
pub(crate) fn slice(tasks: &[Done], first: u64, range: Range) -> &[Done] {
    let from = usize::try_from(range.first.saturating_sub(first)).unwrap_or(usize::MAX).min(tasks.len());
    let len = usize::try_from(range.len()).unwrap_or(usize::MAX).min(tasks.len() - from);
    tasks.get(from..from + len).unwrap_or_default()
}

/// A chunk of its own.
pub(crate) async fn insert(
    conn: &mut Conn,
    job: u64,
    session: u64,
    range: Range,
    tasks: &[Done],
    current: bool,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO done (job, step, first, last, epoch, session, current, data) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(i(job))
    .bind(i64::from(range.step))
    .bind(i(range.first))
    .bind(i(range.last))
    .bind(i64::from(range.epoch))
    .bind(i(session))
    .bind(current)
    .bind(encode(tasks))
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps complete tasks: joined with the session's chunk right before them while that is small, else apart.
pub(crate) async fn keep(
    conn: &mut Conn,
    job: u64,
    session: u64,
    range: Range,
    tasks: &[Done],
) -> Result<(), StoreError> {
    let Some(before) = range.first.checked_sub(1) else { return insert(conn, job, session, range, tasks, true).await };
    let row = query(
        "SELECT id, data FROM done WHERE job = $1 AND step = $2 AND last = $3 AND session = $4 AND epoch = $5 \
         AND current AND length(data) < $6",
    )
    .bind(i(job))
    .bind(i64::from(range.step))
    .bind(i(before))
    .bind(i(session))
    .bind(i64::from(range.epoch))
    .bind(CHUNK)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return insert(conn, job, session, range, tasks, true).await };
    let mut data: Vec<u8> = get(&row, "data")?;
    let previous = decode(&data).ok_or_else(damaged)?.last().map_or(0, |t| t.started_at);
    append(&mut data, previous, tasks);
    query("UPDATE done SET last = $2, data = $3 WHERE id = $1")
        .bind(get::<i64, _>(&row, "id")?)
        .bind(i(range.last))
        .bind(data)
        .execute(conn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_done() -> impl Strategy<Value = Done> {
        (any::<i64>(), any::<u64>(), any::<u64>(), 0..u64::MAX >> 1)
            .prop_map(|(started_at, duration_us, cpu_us, max_rss)| Done { started_at, duration_us, cpu_us, max_rss })
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_back(first in prop::collection::vec(any_done(), 1..20), more in prop::collection::vec(any_done(), 0..20)) {
            let mut data = encode(&first);
            append(&mut data, first.last().expect("one").started_at, &more);
            let all: Vec<Done> = first.iter().chain(&more).copied().collect();
            prop_assert_eq!(decode(&data), Some(all));
        }

        #[test]
        fn any_bytes_are_read_without_panic(data in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&data);
        }
    }

    /// Files of the first release: these bytes must stay readable.
    #[test]
    fn version_1_bytes() {
        let tasks = [
            Done { started_at: 1_000_000, duration_us: 300, cpu_us: 5, max_rss: 4096 },
            Done { started_at: 1_000_400, duration_us: 2, cpu_us: 0, max_rss: 7 },
        ];
        let bytes = [1, 0x80, 0x89, 0x7a, 0xac, 2, 5, 8, 0xa0, 6, 2, 0, 15];
        assert_eq!(encode(&tasks), bytes);
        assert_eq!(decode(&bytes).as_deref(), Some(&tasks[..]));
        assert_eq!(decode(&[2, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_short_task_takes_few_bytes() {
        let tasks: Vec<Done> = (0..1000)
            .map(|n| Done {
                started_at: 1_700_000_000_000_000 + n * 1000,
                duration_us: 900,
                cpu_us: 700,
                max_rss: 2 << 20,
            })
            .collect();
        assert!(encode(&tasks).len() <= 9 * 1000);
    }
}
