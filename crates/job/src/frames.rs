//! Frame ranges: `1-100`, `1-100x5`, `1-10,20,30-40x2`, `-5-5`, `10-1`; cut into tasks of up to `chunk` frames.
//!
//! Nothing is ever expanded: memory and time grow with the number of parts of the text, not with the number of
//! frames. The order is kept as written. A frame that is named twice is refused, since two tasks would write the same
//! file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most tasks (and frames) of one step.
pub const TASKS_MAX: u64 = 1 << 40;
/// Frames lie between minus and plus this; it is what JSON numbers hold exactly everywhere.
pub const FRAME_MAX: i64 = 1 << 53;
/// Most parts of one range.
pub const PARTS_MAX: usize = 10_000;
const TEXT_MAX: usize = 256 << 10;
/// Bounds the work for parts that lie across each other.
const PAIRS_MAX: u32 = 2_000_000;

/// Why a text is no frame range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FramesError {
    #[error("the frame range is empty (write 1-100, 1-100x5 or 1-10,20,30)")]
    Empty,
    #[error("the frame range has an empty part after {after:?} (write one comma between two parts)")]
    EmptyPart { after: String },
    #[error("the frame range has {size} bytes, at most {TEXT_MAX} are allowed")]
    TextTooLong { size: usize },
    #[error("the frame range has {parts} parts, at most {PARTS_MAX} are allowed")]
    TooManyParts { parts: usize },
    #[error("{part:?} is not a frame range (write FIRST-LAST, FIRST-LASTxSTEP or one frame)")]
    BadPart { part: String },
    #[error("the frame range {part:?} has a step of 0")]
    ZeroStep { part: String },
    #[error("the step of {part:?} leads away from its last frame (write {first}-{last}x{})", step.unsigned_abs())]
    WrongWay { part: String, first: i64, last: i64, step: i64 },
    #[error("{number} in the frame range {part:?} is too large (frames lie between -{FRAME_MAX} and {FRAME_MAX})")]
    NumberTooLarge { part: String, number: String },
    #[error("up to {part:?} there are {frames} frames, at most {TASKS_MAX} are allowed in one step")]
    TooMany { part: String, frames: u64 },
    #[error("frame {frame} is in both {one:?} and {other:?} (name it once)")]
    Twice { frame: i64, one: String, other: String },
    #[error(
        "too many parts of the frame range lie across each other (put them in ascending order or submit several jobs)"
    )]
    Entangled,
    #[error("a chunk of {chunk} frames is not possible (1 to {TASKS_MAX})")]
    BadChunk { chunk: u64 },
}

/// A checked frame range, cut into tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "FramesForm", into = "FramesForm")]
#[schemars(with = "FramesForm")]
pub struct Frames {
    text: String,
    chunk: u64,
    runs: Vec<Run>,
    /// Indices of `runs` by lowest frame, each with the highest frame up to there: finds the run of a frame.
    by_low: Vec<(i64, i64, usize)>,
    frames: u64,
    tasks: u64,
}

/// What is stored: the text and the chunk, from which the rest follows.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FramesForm {
    text: String,
    #[serde(default = "one")]
    chunk: u64,
}

const fn one() -> u64 {
    1
}

/// `count` frames from `first` in steps of `step`, which is negative when they descend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: i64,
    step: i64,
    count: u64,
    /// Tasks before this run.
    tasks_before: u64,
}

/// The frames of one task, an arithmetic run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    pub first: i64,
    pub last: i64,
    /// From one frame to the next; 1 when there is only one.
    pub step: i64,
    pub count: u64,
}

impl Frames {
    /// Reads a range; each task takes up to `chunk` frames that follow one another in equal steps.
    pub fn parse(text: &str, chunk: u64) -> Result<Self, FramesError> {
        if text.len() > TEXT_MAX {
            return Err(FramesError::TextTooLong { size: text.len() });
        }
        if chunk == 0 || chunk > TASKS_MAX {
            return Err(FramesError::BadChunk { chunk });
        }
        let parts = parts(text)?;
        let frames = total(&parts)?;
        refuse_doubles(&parts)?;
        let mut runs = joined(&parts);
        let mut tasks = 0;
        for run in &mut runs {
            run.tasks_before = tasks;
            tasks += run.count.div_ceil(chunk);
        }
        let by_low = by_low(&runs);
        Ok(Self { text: text.trim().to_owned(), chunk, runs, by_low, frames, tasks })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Most frames of one task.
    #[must_use]
    pub const fn chunk(&self) -> u64 {
        self.chunk
    }

    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    #[must_use]
    pub const fn tasks(&self) -> u64 {
        self.tasks
    }

    /// The frames of a task.
    #[must_use]
    pub fn chunk_at(&self, task: u64) -> Option<Chunk> {
        if task >= self.tasks {
            return None;
        }
        let run = self.runs[self.runs.partition_point(|r| r.tasks_before <= task).checked_sub(1)?];
        let skipped = (task - run.tasks_before) * self.chunk;
        let count = (run.count - skipped).min(self.chunk);
        let step = if count == 1 { 1 } else { run.step };
        Some(Chunk { first: run.at(skipped), last: run.at(skipped + count - 1), step, count })
    }

    /// The first frame of a task.
    #[must_use]
    pub fn frame_at(&self, task: u64) -> Option<i64> {
        self.chunk_at(task).map(|c| c.first)
    }

    /// The task that covers a frame.
    #[must_use]
    pub fn index_of(&self, frame: i64) -> Option<u64> {
        let below = self.by_low.partition_point(|(low, _, _)| *low <= frame);
        self.by_low[..below].iter().rev().take_while(|(_, highest, _)| *highest >= frame).find_map(|(_, _, index)| {
            let run = self.runs[*index];
            Some(run.tasks_before + run.position(frame)? / self.chunk)
        })
    }

    /// Whether some task has several frames that don't follow each other by 1, so that a command must be told the step.
    #[must_use]
    pub fn needs_step(&self) -> bool {
        self.chunk > 1 && self.runs.iter().any(|r| r.count > 1 && r.step != 1)
    }

    /// The lowest and the highest frame.
    #[must_use]
    pub fn bounds(&self) -> (i64, i64) {
        let low = self.by_low.first().map_or(0, |(low, _, _)| *low);
        let high = self.by_low.last().map_or(0, |(_, high, _)| *high);
        (low, high)
    }
}

impl TryFrom<FramesForm> for Frames {
    type Error = FramesError;

    fn try_from(form: FramesForm) -> Result<Self, FramesError> {
        Self::parse(&form.text, form.chunk)
    }
}

impl From<Frames> for FramesForm {
    fn from(frames: Frames) -> Self {
        Self { text: frames.text, chunk: frames.chunk }
    }
}

impl Run {
    /// The frame at a position below `count`: between first and last, therefore no overflow.
    fn at(self, position: u64) -> i64 {
        let offset = i128::from(self.step) * i128::from(position);
        i64::try_from(i128::from(self.first) + offset).unwrap_or(self.first)
    }

    fn last(self) -> i64 {
        self.at(self.count - 1)
    }

    fn low(self) -> i64 {
        self.first.min(self.last())
    }

    fn high(self) -> i64 {
        self.first.max(self.last())
    }

    fn position(self, frame: i64) -> Option<u64> {
        let offset = frame - self.first;
        if offset % self.step != 0 {
            return None;
        }
        u64::try_from(offset / self.step).ok().filter(|p| *p < self.count)
    }
}

/// A part as written, for error messages, and what it means.
struct Part<'a> {
    text: &'a str,
    run: Run,
}

fn parts(text: &str) -> Result<Vec<Part<'_>>, FramesError> {
    if text.trim().is_empty() {
        return Err(FramesError::Empty);
    }
    let count = text.split(',').count();
    if count > PARTS_MAX {
        return Err(FramesError::TooManyParts { parts: count });
    }
    let mut before = "";
    text.split(',')
        .map(|part| {
            let part = part.trim();
            if part.is_empty() {
                return Err(FramesError::EmptyPart { after: before.into() });
            }
            before = part;
            Ok(Part { text: part, run: run(part)? })
        })
        .collect()
}

/// `FIRST[-LAST[xSTEP]]`, where each may be negative; `:` does as well as `x`, as in job templates.
fn run(part: &str) -> Result<Run, FramesError> {
    let bad = || FramesError::BadPart { part: part.into() };
    let (first, rest) = integer(part, part).ok_or_else(bad)?;
    let first = first?;
    let mut run = Run { first, step: 1, count: 1, tasks_before: 0 };
    if rest.is_empty() {
        return Ok(run);
    }
    let (last, rest) = integer(part, rest.strip_prefix('-').ok_or_else(bad)?).ok_or_else(bad)?;
    let last = last?;
    let step = match rest.strip_prefix(['x', ':']) {
        Some(rest) => match integer(part, rest).ok_or_else(bad)? {
            (step, "") => step?,
            _ => return Err(bad()),
        },
        None if rest.is_empty() => 1,
        None => return Err(bad()),
    };
    match step {
        0 => return Err(FramesError::ZeroStep { part: part.into() }),
        step if step < 0 && last > first => {
            return Err(FramesError::WrongWay { part: part.into(), first, last, step });
        }
        _ => {}
    }
    run.step = if last < first { -step.abs() } else { step.abs() };
    run.count = ((last - first) / run.step).unsigned_abs() + 1;
    if run.count == 1 {
        run.step = 1;
    }
    Ok(run)
}

/// An integer at the start of `text`; `None` if there is none there.
fn integer<'a>(part: &str, text: &'a str) -> Option<(Result<i64, FramesError>, &'a str)> {
    let sign = usize::from(text.starts_with('-'));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return None;
    }
    let (number, rest) = text.split_at(sign + digits);
    let value = number.parse().ok().filter(|n: &i64| (-FRAME_MAX..=FRAME_MAX).contains(n));
    let too_large = || FramesError::NumberTooLarge { part: part.into(), number: number.into() };
    Some((value.ok_or_else(too_large), rest))
}

fn total(parts: &[Part<'_>]) -> Result<u64, FramesError> {
    parts.iter().try_fold(0u64, |sum, part| {
        let frames = sum.saturating_add(part.run.count);
        if frames > TASKS_MAX { Err(FramesError::TooMany { part: part.text.into(), frames }) } else { Ok(frames) }
    })
}

/// Sweeps over the parts by their lowest frame, comparing only those that lie across each other.
fn refuse_doubles(parts: &[Part<'_>]) -> Result<(), FramesError> {
    let mut order: Vec<&Part<'_>> = parts.iter().collect();
    order.sort_by_key(|p| p.run.low());
    let mut open: Vec<&Part<'_>> = Vec::new();
    let mut pairs = 0u32;
    for part in order {
        open.retain(|o| o.run.high() >= part.run.low());
        for other in &open {
            pairs += 1;
            if pairs > PAIRS_MAX {
                return Err(FramesError::Entangled);
            }
            if let Some(frame) = common_frame(other.run, part.run) {
                return Err(FramesError::Twice { frame, one: other.text.into(), other: part.text.into() });
            }
        }
        open.push(part);
    }
    Ok(())
}

/// The lowest frame that two runs share, by the Chinese remainder theorem.
fn common_frame(one: Run, other: Run) -> Option<i64> {
    let (a, b) = (i128::from(one.low()), i128::from(other.low()));
    let (m, n) = (i128::from(one.step.unsigned_abs()), i128::from(other.step.unsigned_abs()));
    let (gcd, inverse) = gcd_and_inverse(m, n);
    if (b - a) % gcd != 0 {
        return None;
    }
    // a + m·k ≡ b (mod n)
    let k = ((b - a) / gcd * inverse).rem_euclid(n / gcd);
    let least_common = a + m * k;
    let period = m / gcd * n;
    let from = a.max(b);
    let frame = least_common + (from - least_common).div_euclid(period) * period;
    let frame = if frame < from { frame + period } else { frame };
    let to = i128::from(one.high().min(other.high()));
    if frame <= to { i64::try_from(frame).ok() } else { None }
}

/// The greatest common divisor of m and n, and the inverse of m/gcd modulo n/gcd.
fn gcd_and_inverse(m: i128, n: i128) -> (i128, i128) {
    let (mut r0, mut r1, mut s0, mut s1) = (m, n, 1, 0);
    while r1 != 0 {
        let q = r0 / r1;
        (r0, r1) = (r1, r0 - q * r1);
        (s0, s1) = (s1, s0 - q * s1);
    }
    (r0, s0)
}

/// Joins parts that go on where the one before ends, so that `1,2,3` is cut into chunks as `1-3` is.
fn joined(parts: &[Part<'_>]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for part in parts {
        let next = part.run;
        match runs.last_mut() {
            Some(run) if goes_on(*run, next) => {
                if run.count == 1 && next.count > 1 {
                    run.step = next.step;
                }
                run.count += next.count;
            }
            _ => runs.push(next),
        }
    }
    runs
}

fn goes_on(run: Run, next: Run) -> bool {
    let step = if run.count > 1 { run.step } else { next.step };
    next.first == run.last() + step && (next.count == 1 || next.step == step)
}

fn by_low(runs: &[Run]) -> Vec<(i64, i64, usize)> {
    let mut order: Vec<_> = runs.iter().enumerate().map(|(index, run)| (run.low(), run.high(), index)).collect();
    order.sort_unstable();
    let mut highest = i64::MIN;
    for (_, high, _) in &mut order {
        highest = highest.max(*high);
        *high = highest;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(text: &str, chunk: u64) -> Vec<Vec<i64>> {
        let range = Frames::parse(text, chunk).expect(text);
        (0..range.tasks())
            .map(|t| {
                let c = range.chunk_at(t).expect("below the count");
                (0..c.count).map(|i| c.first + c.step * i64::try_from(i).expect("small")).collect()
            })
            .collect()
    }

    #[test]
    fn what_people_write() {
        for (text, expected) in [
            ("7", vec![7]),
            ("1-5", vec![1, 2, 3, 4, 5]),
            (" 1-3 , 9 ", vec![1, 2, 3, 9]),
            ("1-10x4", vec![1, 5, 9]),
            ("1-10:4", vec![1, 5, 9]),
            ("1-3,20,30-34x2", vec![1, 2, 3, 20, 30, 32, 34]),
            ("-2-2", vec![-2, -1, 0, 1, 2]),
            ("-10--8", vec![-10, -9, -8]),
            ("3-1", vec![3, 2, 1]),
            ("10-1x4", vec![10, 6, 2]),
            ("10-1x-4", vec![10, 6, 2]),
            ("5-5x3", vec![5]),
            ("5-5x-3", vec![5]),
            ("-5", vec![-5]),
            ("1-9x2,2-10x2", vec![1, 3, 5, 7, 9, 2, 4, 6, 8, 10]),
        ] {
            assert_eq!(frames(text, 1).concat(), expected, "{text}");
        }
    }

    #[test]
    fn chunks_are_runs() {
        for (text, chunk, expected) in [
            ("1-5", 2, vec![vec![1, 2], vec![3, 4], vec![5]]),
            ("1,2,3,4", 3, vec![vec![1, 2, 3], vec![4]]),
            ("1-10x2", 3, vec![vec![1, 3, 5], vec![7, 9]]),
            ("1-3,7-8", 10, vec![vec![1, 2, 3], vec![7, 8]]),
            ("1-3,4-6", 10, vec![vec![1, 2, 3, 4, 5, 6]]),
            ("1-5x2,7,9-13x2", 10, vec![vec![1, 3, 5, 7, 9, 11, 13]]),
            ("1,3-7x2", 10, vec![vec![1, 3, 5, 7]]),
            ("1,10,11", 10, vec![vec![1], vec![10, 11]]),
            ("4-1", 3, vec![vec![4, 3, 2], vec![1]]),
            ("3,2,1", 3, vec![vec![3], vec![2], vec![1]]),
        ] {
            assert_eq!(frames(text, chunk), expected, "{text} by {chunk}");
        }
    }

    #[test]
    fn a_trillion_frames_are_no_trouble() {
        let range = Frames::parse("1-1000000000000", 10).expect("fits");
        assert_eq!(range.tasks(), 100_000_000_000);
        assert_eq!(range.frame_at(99_999_999_999), Some(999_999_999_991));
        assert_eq!(range.index_of(1_000_000_000_000), Some(99_999_999_999));
        assert_eq!(range.index_of(1_000_000_000_001), None);
        let all = Frames::parse(&format!("1-{TASKS_MAX}"), 1).expect("fits");
        assert_eq!(all.tasks(), TASKS_MAX);
        assert_eq!(all.chunk_at(TASKS_MAX), None);
    }

    #[test]
    fn errors_name_the_part() {
        for (text, chunk, sentence) in [
            ("", 1, "the frame range is empty (write 1-100, 1-100x5 or 1-10,20,30)"),
            ("1,,2", 1, r#"the frame range has an empty part after "1" (write one comma between two parts)"#),
            ("1-10,", 1, r#"the frame range has an empty part after "1-10" (write one comma between two parts)"#),
            ("1..10", 1, r#""1..10" is not a frame range (write FIRST-LAST, FIRST-LASTxSTEP or one frame)"#),
            ("one", 1, r#""one" is not a frame range (write FIRST-LAST, FIRST-LASTxSTEP or one frame)"#),
            ("1-10x", 1, r#""1-10x" is not a frame range (write FIRST-LAST, FIRST-LASTxSTEP or one frame)"#),
            ("1-10x2x3", 1, r#""1-10x2x3" is not a frame range (write FIRST-LAST, FIRST-LASTxSTEP or one frame)"#),
            ("5x2", 1, r#""5x2" is not a frame range (write FIRST-LAST, FIRST-LASTxSTEP or one frame)"#),
            ("1-10x0", 1, r#"the frame range "1-10x0" has a step of 0"#),
            ("1-10x-3", 1, r#"the step of "1-10x-3" leads away from its last frame (write 1-10x3)"#),
            (
                "1-99999999999999999999",
                1,
                "99999999999999999999 in the frame range \"1-99999999999999999999\" is too large (frames lie between \
                 -9007199254740992 and 9007199254740992)",
            ),
            (
                "1-5,10-9007199254740992",
                1,
                "up to \"10-9007199254740992\" there are 9007199254740988 frames, at most 1099511627776 are allowed in \
                 one step",
            ),
            ("1-10,5-15", 1, r#"frame 5 is in both "1-10" and "5-15" (name it once)"#),
            ("1-100x3,2-100x5", 1, r#"frame 7 is in both "1-100x3" and "2-100x5" (name it once)"#),
            ("3,3", 1, r#"frame 3 is in both "3" and "3" (name it once)"#),
            ("1-3", 0, "a chunk of 0 frames is not possible (1 to 1099511627776)"),
        ] {
            assert_eq!(Frames::parse(text, chunk).map_err(|e| e.to_string()), Err(sentence.into()), "{text}");
        }
    }

    #[test]
    fn hostile_ranges_are_bounded() {
        let text = (0..10_000).map(|i| format!("{i}-1000000000x10000")).collect::<Vec<_>>().join(",");
        assert_eq!(Frames::parse(&text, 1), Err(FramesError::Entangled));
        let text = "1,".repeat(PARTS_MAX) + "1";
        assert_eq!(Frames::parse(&text, 1), Err(FramesError::TooManyParts { parts: PARTS_MAX + 1 }));
        assert!(matches!(Frames::parse(&"1".repeat(TEXT_MAX + 1), 1), Err(FramesError::TextTooLong { .. })));
        let singles = (0..10_000).rev().map(|i| (i * 3).to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(Frames::parse(&singles, 1).map(|f| f.tasks()), Ok(10_000));
    }

    #[test]
    fn stored_as_text_and_chunk() {
        let range = Frames::parse("1-10x3", 2).expect("good");
        let json = serde_json::to_string(&range).expect("json");
        assert_eq!(json, r#"{"text":"1-10x3","chunk":2}"#);
        assert_eq!(serde_json::from_str::<Frames>(&json).expect("back"), range);
        let error = serde_json::from_str::<Frames>(r#"{"text":"1-x"}"#).expect_err("bad").to_string();
        assert!(error.contains("is not a frame range"), "{error}");
    }

    fn part() -> impl Strategy<Value = (i64, i64, i64)> {
        (-60i64..60, -60i64..60, 1i64..7)
    }

    proptest! {
        #[test]
        fn agrees_with_naive_expansion(parts in prop::collection::vec(part(), 1..6), chunk in 1u64..9) {
            let text = parts.iter().map(|(a, b, s)| format!("{a}-{b}x{s}")).collect::<Vec<_>>().join(",");
            let mut all = Vec::new();
            for (a, b, s) in parts {
                let mut frame = a;
                while if b < a { frame >= b } else { frame <= b } {
                    all.push(frame);
                    frame += if b < a { -s } else { s };
                }
            }
            let mut sorted = all.clone();
            sorted.sort_unstable();
            let double = sorted.windows(2).any(|w| w[0] == w[1]);
            match Frames::parse(&text, chunk) {
                Err(FramesError::Twice { frame, .. }) => {
                    prop_assert!(double && all.iter().filter(|f| **f == frame).count() > 1, "{}", text);
                }
                Err(error) => prop_assert!(false, "{text}: {error}"),
                Ok(range) => {
                    prop_assert!(!double, "{}", text);
                    prop_assert_eq!(range.frames(), all.len() as u64);
                    prop_assert_eq!(frames(&text, chunk).concat(), all.clone());
                    prop_assert_eq!(range.bounds(), (sorted[0], sorted[sorted.len() - 1]));
                    let one_each = Frames::parse(&text, 1).expect("the same range");
                    for (index, frame) in all.iter().enumerate() {
                        prop_assert_eq!(one_each.index_of(*frame), Some(index as u64));
                        prop_assert_eq!(one_each.frame_at(index as u64), Some(*frame));
                        let task = range.index_of(*frame).expect("covered");
                        let c = range.chunk_at(task).expect("exists");
                        prop_assert!(c.first.min(c.last) <= *frame && *frame <= c.first.max(c.last));
                        prop_assert!(c.count <= chunk && (frame - c.first) % c.step == 0);
                    }
                    for frame in -70..70 {
                        prop_assert_eq!(range.index_of(frame).is_some(), all.contains(&frame));
                    }
                }
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,24}|[-0-9x:, ]{0,40}|[0-9]{1,19}-[0-9]{1,19}x-?[0-9]{1,19}", chunk: u64) {
            if let Ok(range) = Frames::parse(&text, chunk) {
                let last = range.tasks() - 1;
                let frame = range.frame_at(last).expect("the last task");
                prop_assert_eq!(range.index_of(frame), Some(last));
                prop_assert_eq!(range.index_of(i64::MAX), None);
                prop_assert_eq!(range.index_of(i64::MIN), None);
            }
        }
    }
}
