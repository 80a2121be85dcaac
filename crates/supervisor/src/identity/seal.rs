//! A seal over a row of `grants`: made when the supervisor writes it, so that a row written by hand shows. It keeps
//! nobody from editing rows, which is allowed; it only tells who did.

use crate::error::StartError;
use crate::keys::secret;
use sha2::{Digest as _, Sha256};
use std::path::Path;
use store::GrantRow;
use warrant::hex;

/// The key of the seals.
#[derive(Clone)]
pub(crate) struct Seal([u8; 32]);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    pub(crate) fn load(dir: &Path) -> Result<Self, StartError> {
        secret::<32>(&dir.join("seal.key")).map(Self)
    }

    /// HMAC-SHA256 over everything in the row but the seal itself.
    pub(crate) fn of(&self, row: &GrantRow) -> String {
        hex(&self.mac(&content(row)))
    }

    pub(crate) fn holds(&self, row: &GrantRow) -> bool {
        is_same(row.seal.as_deref().unwrap_or_default(), &self.of(row))
    }

    /// A ticket that says these words belong together: each has its length in front. Begins as no row does.
    pub(crate) fn ticket(&self, words: &[&str]) -> String {
        let mut bytes = u64::MAX.to_be_bytes().to_vec();
        for word in words {
            bytes.extend((word.len() as u64).to_be_bytes());
            bytes.extend(word.as_bytes());
        }
        hex(&self.mac(&bytes))
    }

    fn mac(&self, text: &[u8]) -> [u8; 32] {
        let pad = |with: u8| {
            let mut block = [with; 64];
            for (b, k) in block.iter_mut().zip(self.0) {
                *b ^= k;
            }
            block
        };
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
        Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
    }
}

/// Without a shortcut at the first difference.
pub(crate) fn is_same(given: &str, own: &str) -> bool {
    given.len() == own.len() && given.bytes().zip(own.bytes()).fold(0, |d, (a, b)| d | (a ^ b)) == 0
}

/// Each column with its length in front, so that nothing can move from one into the next.
pub(crate) fn content(row: &GrantRow) -> Vec<u8> {
    let mut bytes = row.id.to_be_bytes().to_vec();
    let (login_user, proxy_user, state) = (&row.login_user, &row.proxy_user, &row.state);
    let always = [login_user, proxy_user, state];
    for text in always {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    let columns = [
        &row.given_by,
        &row.given_at,
        &row.reason,
        &row.valid_from,
        &row.valid_until,
        &row.workers,
        &row.jobs,
        &row.requested_by,
        &row.approved_by,
        &row.approved_at,
        &row.ended_by,
        &row.ended_at,
    ];
    for column in columns {
        match column {
            None => bytes.push(0),
            Some(text) => {
                bytes.push(1);
                bytes.extend((text.len() as u64).to_be_bytes());
                bytes.extend(text.as_bytes());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_sealed() {
        let seal = Seal([7; 32]);
        let mut row = crate::identity::rows::tests::row(3, "ada", "render");
        row.seal = Some(seal.of(&row));
        assert!(seal.holds(&row));
        assert!(!Seal([8; 32]).holds(&row), "another key");
        let changes: [fn(&mut GrantRow); 17] = [
            |r| r.id = 4,
            |r| r.login_user = "bob".to_owned(),
            |r| r.proxy_user = String::new(),
            |r| r.given_by = Some("x".to_owned()),
            |r| r.given_at = Some("x".to_owned()),
            |r| r.reason = Some("x".to_owned()),
            |r| r.valid_from = Some("x".to_owned()),
            |r| r.valid_until = Some("x".to_owned()),
            |r| r.workers = Some("x".to_owned()),
            |r| r.jobs = Some("x".to_owned()),
            |r| r.state = "x".to_owned(),
            |r| r.requested_by = Some("x".to_owned()),
            |r| r.approved_by = Some("x".to_owned()),
            |r| r.approved_at = Some("x".to_owned()),
            |r| r.ended_by = Some("x".to_owned()),
            |r| r.ended_at = Some("x".to_owned()),
            |r| r.seal = None,
        ];
        for (n, change) in changes.iter().enumerate() {
            let mut changed = row.clone();
            change(&mut changed);
            assert!(!seal.holds(&changed), "change {n}");
        }
    }

    #[test]
    fn a_ticket_is_for_its_words_alone() {
        let seal = Seal([7; 32]);
        let ticket = seal.ticket(&["ada", "render", "7"]);
        for other in [&["ada", "render7", ""][..], &["adar", "ender", "7"], &["ada", "render"], &["ada", "render", "8"]]
        {
            assert!(!is_same(&ticket, &seal.ticket(other)), "{other:?}");
        }
        assert!(!is_same(&ticket, &Seal([8; 32]).ticket(&["ada", "render", "7"])), "another key");
        assert!(is_same(&ticket, &seal.ticket(&["ada", "render", "7"])) && !is_same(&ticket, ""));
    }

    #[test]
    fn it_is_the_standard_mac() {
        // RFC 4231, test case 2, with its key padded as the standard pads it.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(&Seal(key).mac(b"what do ya want for nothing?")), expected);
    }
}
