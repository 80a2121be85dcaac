//! What the supervisor asks the checker, and what it answers: is this the password of that name?
//!
//! One question and one answer per connection of a SEQPACKET socket. Each side asks the kernel who the other is before
//! a password is sent or read. A question borrows its password and is written into a buffer of the caller's, which can
//! so be wiped: nothing here keeps a copy.

use crate::codec::{DecodeError, Reader, Writer};
use crate::names::NAME_MAX;
use crate::warrant::unknown;
use std::fmt;

/// Longest password, in bytes.
pub const PASSWORD_MAX: usize = 1024;
/// Longest text of an answer, in bytes.
pub const TEXT_MAX: usize = 512;
const VERSION: u8 = 1;
/// No question is longer: a buffer with this capacity never grows, so none of it is left behind by growing.
pub const QUESTION_MAX: usize = 1 + 4 + NAME_MAX + 4 + PASSWORD_MAX;
/// No answer is longer.
pub const ANSWER_MAX: usize = 1 + 4 + 4 + TEXT_MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    pub name: &'a str,
    pub password: &'a [u8],
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> Question<'a> {
    /// Appends the question to `out`, which shall have room for [`QUESTION_MAX`]; writes nothing that is too long.
    pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let checked = |field, bytes: &[u8], max| match bytes.len() {
            len if len > max => Err(DecodeError::TooLong { field, len, max }),
            len => u32::try_from(len).map_err(|_| DecodeError::TooLong { field, len, max }),
        };
        let name = checked("name", self.name.as_bytes(), NAME_MAX)?;
        let password = checked("password", self.password, PASSWORD_MAX)?;
        out.push(VERSION);
        out.extend_from_slice(&name.to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&password.to_le_bytes());
        out.extend_from_slice(self.password);
        Ok(())
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        match r.u8()? {
            VERSION => {}
            other => return Err(unknown("version", other)),
        }
        let name = std::str::from_utf8(r.bytes("name", NAME_MAX)?).map_err(|_| DecodeError::NotUtf8("name"))?;
        let password = r.bytes("password", PASSWORD_MAX)?;
        r.finish()?;
        Ok(Self { name, password })
    }
}

/// The checker's word on a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    /// Right, and the account may sign in.
    Yes,
    Wrong,
    /// No account of that name that may be asked about. Outside this is [`Word::Wrong`].
    Unknown,
    /// The account has no password that could be right. Outside this is [`Word::Wrong`].
    Locked,
    /// The password is right; the account is expired.
    Expired,
    /// The password is right; it must be changed first.
    MustChange,
    /// The password is right; the host refuses the account for another reason.
    Refused,
    /// Nobody could tell.
    Unavailable,
    /// Not asked: there were too many wrong answers.
    Limited,
    /// Nobody could tell, for the host's directory of accounts does not answer.
    DirectoryDown,
}

impl Word {
    pub const ALL: [Self; 10] = [
        Self::Yes,
        Self::Wrong,
        Self::Unknown,
        Self::Locked,
        Self::Expired,
        Self::MustChange,
        Self::Refused,
        Self::Unavailable,
        Self::Limited,
        Self::DirectoryDown,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Wrong => "wrong",
            Self::Unknown => "unknown",
            Self::Locked => "locked",
            Self::Expired => "expired",
            Self::MustChange => "must_change",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Limited => "limited",
            Self::DirectoryDown => "directory_down",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Yes => 1,
            Self::Wrong => 2,
            Self::Unknown => 3,
            Self::Locked => 4,
            Self::Expired => 5,
            Self::MustChange => 6,
            Self::Refused => 7,
            Self::Unavailable => 8,
            Self::Limited => 9,
            Self::DirectoryDown => 10,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub word: Word,
    /// When to ask again, if [`Word::Limited`].
    pub retry_ms: u32,
    /// Why, for the log only: it may tell more than whoever asked may know.
    pub text: String,
}

impl Answer {
    #[must_use]
    pub fn new(word: Word, text: impl Into<String>) -> Self {
        Self { word, retry_ms: 0, text: text.into() }
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let end = (0..=self.text.len().min(TEXT_MAX)).rev().find(|i| self.text.is_char_boundary(*i)).unwrap_or(0);
        let mut w = Writer::new();
        w.u8(self.word.number()).u32(self.retry_ms).str(&self.text[..end]);
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let number = r.u8()?;
        let word = Word::ALL.into_iter().find(|w| w.number() == number).ok_or_else(|| unknown("word", number))?;
        let answer = Self { word, retry_ms: r.u32()?, text: r.str("text", TEXT_MAX)? };
        r.finish()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_cross_whole_and_only_within_their_limits() {
        let (name, password) = ("n".repeat(NAME_MAX), vec![b'p'; PASSWORD_MAX]);
        let mut out = Vec::with_capacity(QUESTION_MAX);
        let start = out.as_ptr();
        let question = Question { name: &name, password: &password };
        question.encode_into(&mut out).expect("fits");
        assert_eq!((out.len(), out.as_ptr()), (QUESTION_MAX, start), "it never grows");
        assert_eq!(Question::decode(&out), Ok(question));
        assert!(!format!("{question:?}").contains("ppp"));
        for cut in 0..out.len() {
            assert!(Question::decode(&out[..cut]).is_err(), "{cut}");
        }
        out.push(0);
        assert_eq!(Question::decode(&out), Err(DecodeError::Trailing(1)));
        let too_long = Question { name: "ada", password: &[b'p'; PASSWORD_MAX + 1] };
        let mut none = Vec::new();
        assert!(too_long.encode_into(&mut none).is_err() && none.is_empty());
    }

    #[test]
    fn answers_cross_and_texts_are_cut_at_a_character() {
        for word in Word::ALL {
            let answer = Answer { word, retry_ms: 7, text: "é".repeat(TEXT_MAX) };
            let bytes = answer.encode();
            assert!(bytes.len() <= ANSWER_MAX);
            let got = Answer::decode(&bytes).expect("read back");
            assert_eq!((got.word, got.retry_ms), (word, 7));
            assert!(answer.text.starts_with(&got.text) && got.text.len() == TEXT_MAX);
        }
        assert!(Answer::decode(&[99, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
