//! A question whose answer has not come yet. The browser keeps it, sealed with a key of this life of ours: however many are
//! put, nobody's is pushed out by others', and none costs us memory.

use super::provider::Question;
use super::{PATIENCE, Program};
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use std::time::Instant;
use warrant::{hex, unhex};
use zeroize::Zeroizing;

const ABOUT: &[u8] = b"stead oidc question 1";
const NONCE: usize = 24;
const TAG: usize = 16;

/// What the browser keeps and can't read.
#[derive(Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) state: String,
    nonce: String,
    verifier: String,
    pub(super) program: Option<Program>,
    /// ms since our start.
    until: u64,
}

impl Pending {
    pub(super) fn question(&self) -> Question {
        Question::of(&self.nonce, &self.verifier)
    }
}

pub(super) struct Questions {
    cipher: XChaCha20Poly1305,
    began: Instant,
}

impl Questions {
    pub(super) fn new() -> std::io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(std::io::Error::other)?;
        Ok(Self { cipher: XChaCha20Poly1305::new((&*key).into()), began: Instant::now() })
    }

    /// For the browser's cookie.
    pub(super) fn seal(
        &self,
        state: &str,
        question: &Question,
        program: Option<Program>,
    ) -> std::io::Result<Zeroizing<String>> {
        let (nonce, verifier) = question.words();
        let until = self.now().saturating_add(u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX));
        let pending = Pending { state: state.to_owned(), nonce, verifier, program, until };
        let mut text = Zeroizing::new(serde_json::to_vec(&pending).map_err(std::io::Error::other)?);
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
        let text_in_place = InOutBuf::from(text.as_mut_slice());
        let tag = self.cipher.encrypt_inout_detached(&XNonce::from(nonce), ABOUT, text_in_place);
        let tag = tag.map_err(|_| std::io::Error::other("the question can't be sealed"))?;
        Ok(Zeroizing::new(hex(&[&nonce[..], &text, &tag].concat())))
    }

    /// What was sealed here and is still to be answered.
    pub(super) fn open(&self, cookie: &str) -> Option<Pending> {
        let bytes = unhex(cookie)?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE>()?;
        let (text, tag) = rest.split_last_chunk::<TAG>()?;
        let mut text = Zeroizing::new(text.to_vec());
        let text_in_place = InOutBuf::from(text.as_mut_slice());
        self.cipher.decrypt_inout_detached(&XNonce::from(*nonce), ABOUT, text_in_place, &Tag::from(*tag)).ok()?;
        let pending: Pending = serde_json::from_slice(&text).ok()?;
        (self.now() < pending.until).then_some(pending)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_here_is_a_question_and_only_for_a_while() {
        let mut questions = Questions::new().expect("a key");
        let question = Question::of("nonce", "verifier-of-at-least-forty-three-characters-0123");
        let cookie = questions.seal("state", &question, None).expect("sealed");
        let opened = questions.open(&cookie).expect("opened");
        assert_eq!((opened.state.as_str(), opened.question().words()), ("state", question.words()));
        assert!(!cookie.contains(&hex(b"nonce")) && !cookie.contains("nonce"));
        let altered = format!("{}{}", &cookie[..cookie.len() - 1], if cookie.ends_with('0') { "1" } else { "0" });
        for wrong in ["", "00", &altered, &cookie[2..]] {
            assert!(questions.open(wrong).is_none(), "{wrong}");
        }
        assert!(Questions::new().expect("a key").open(&cookie).is_none(), "another life's");
        questions.began -= PATIENCE;
        assert!(questions.open(&cookie).is_none(), "too late");
    }
}
