//! Why nothing was executed: what the worker, the log and in the end the owner of the job get to read.

use crate::sys::Errno;
use warrant::codec::{DecodeError, Reader, Writer};
use warrant::launcher_wire::RefusalKind;
use warrant::session_wire::TEXT_MAX;

/// A refusal with the rule or stage that refused, and what would change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    /// The rule (`uid_below_floor`, …) or the failed step (`setgroups`, …).
    pub(crate) stage: String,
    pub(crate) errno: i32,
    pub(crate) text: String,
    pub(crate) hint: String,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, stage: &str, text: impl Into<String>, hint: &str) -> Self {
        Self { kind, stage: stage.to_owned(), errno: 0, text: text.into(), hint: hint.to_owned() }
    }

    /// A step failed. What only says that there is too much going on is tried again later.
    pub(crate) fn stage(stage: &str, errno: Errno, hint: &str) -> Self {
        let kind = match errno.0 {
            libc::EAGAIN | libc::EMFILE | libc::ENFILE | libc::ENOMEM => RefusalKind::Transient,
            _ => RefusalKind::Stage,
        };
        let text = format!("{stage}: {errno}");
        Self { kind, stage: stage.to_owned(), errno: errno.0, text, hint: hint.to_owned() }
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.str(self.kind.as_str()).str(cut(&self.stage)).i32(self.errno).str(cut(&self.text)).str(cut(&self.hint));
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: RefusalKind::parse(&r.str("refusal kind", 32)?)
                .ok_or(DecodeError::Unknown { field: "refusal kind", value: 0 })?,
            stage: r.str("stage", TEXT_MAX)?,
            errno: r.i32()?,
            text: r.str("text", TEXT_MAX)?,
            hint: r.str("hint", TEXT_MAX)?,
        })
    }
}

/// At most [`TEXT_MAX`] bytes, cut at a character.
pub(crate) fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(TEXT_MAX)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}
