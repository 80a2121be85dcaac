//! Log segments: one append-only file per session, of records, each one chunk of one stream of one attempt.
//!
//! Record: `u32` step, `u64` index, `u32` epoch, `u8` stream (1 stdout, 2 stderr, 3 environment action), `u64` offset
//! in that stream, `u32` length, data; integers little-endian. A torn last record is ignored by readers.

use crate::Task;

/// Bytes in front of a record's data.
pub const HEADER: usize = 29;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
    /// What an environment's enter or exit action printed; belongs to the session, `index` is 0.
    Environment,
}

impl Stream {
    fn byte(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Environment => 3,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    pub task: Task,
    pub stream: Stream,
    pub offset: u64,
    pub data: &'a [u8],
}

/// Appends a record to `out`.
pub fn write(out: &mut Vec<u8>, record: &Record<'_>) {
    out.extend_from_slice(&record.task.step.to_le_bytes());
    out.extend_from_slice(&record.task.index.to_le_bytes());
    out.extend_from_slice(&record.task.epoch.to_le_bytes());
    out.push(record.stream.byte());
    out.extend_from_slice(&record.offset.to_le_bytes());
    out.extend_from_slice(&u32::try_from(record.data.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(record.data);
}

/// The first record of `bytes` and what follows it; `None` at the end, in a torn record, or at a byte that is none
/// of ours.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (step, rest) = bytes.split_first_chunk::<4>()?;
    let (index, rest) = rest.split_first_chunk::<8>()?;
    let (epoch, rest) = rest.split_first_chunk::<4>()?;
    let (stream, rest) = rest.split_first()?;
    let stream = match stream {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        3 => Stream::Environment,
        _ => return None,
    };
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (data, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    let task =
        Task { step: u32::from_le_bytes(*step), index: u64::from_le_bytes(*index), epoch: u32::from_le_bytes(*epoch) };
    Some((Record { task, stream, offset: u64::from_le_bytes(*offset), data }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_a_torn_one_does_not() {
        let task = Task { step: 1, index: 1 << 40, epoch: 3 };
        let first = Record { task, stream: Stream::Stderr, offset: 7, data: b"hello\n" };
        let second = Record { task, stream: Stream::Stdout, offset: 0, data: b"" };
        let mut bytes = Vec::new();
        write(&mut bytes, &first);
        write(&mut bytes, &second);
        let (got, rest) = read(&bytes).expect("first record");
        assert_eq!(got, first);
        assert_eq!(read(rest).expect("second record"), (second, &[][..]));
        assert!(read(&bytes[..HEADER + 5]).is_none());
    }
}
