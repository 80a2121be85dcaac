//! Passwords on their way: a type that is shown nowhere and wiped when it goes out of use, and a box that only one
//! reader can open.
//!
//! A box is made for a public X25519 key with a key pair of its own, of which only the public half goes along: so nobody
//! but the reader opens it, not even whoever made it. What it is for (worker, warrant, account …) is its *context*: not
//! in the box, but bound to it, so that in another context the same bytes open nothing. Nothing here is random: whoever
//! makes a box or a key brings the random bytes.

use crate::codec::{DecodeError, Reader, Writer};
use crate::sign::{Domain, PublicKey, SecretKey, Signed, VerifyError, sha256};
use crate::warrant::{Incarnation, version, write_version};
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce, Tag};
use std::fmt;
use x25519_dalek::{PublicKey as Point, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

/// Longest password, in bytes.
pub const PASSWORD_MAX: usize = crate::checker_wire::PASSWORD_MAX;
/// Passwords are filled up to a multiple of this, so that their length shows little.
const BLOCK: usize = 64;
const TAG: usize = 16;
/// No box is longer.
pub const BOX_MAX: usize = 32 + padded(PASSWORD_MAX) + TAG;

/// A password, or what else must not be seen. It has no `Debug`, no `Display` and can't be copied by accident.
#[expect(missing_debug_implementations, reason = "nothing of it is ever printed")]
pub struct Secret(Zeroizing<Vec<u8>>);

/// What can't be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    Empty,
    TooLong,
    Nul,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty password is none"),
            Self::TooLong => write!(f, "a password has at most {PASSWORD_MAX} bytes"),
            Self::Nul => f.write_str("a password can't contain a NUL"),
        }
    }
}

impl std::error::Error for SecretError {}

impl Secret {
    /// Takes exactly these bytes over; they are wiped also when they can't be a password.
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(bytes);
        match () {
            () if bytes.is_empty() => Err(SecretError::Empty),
            () if bytes.len() > PASSWORD_MAX => Err(SecretError::TooLong),
            () if bytes.contains(&0) => Err(SecretError::Nul),
            () => Ok(Self(bytes)),
        }
    }

    /// For the one moment in which it is used.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length, password and zeros up to a whole number of blocks. Allocated once: nothing is left behind by growing.
    #[must_use]
    pub fn padded(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(vec![0; padded(self.0.len())]);
        // At most `PASSWORD_MAX`.
        let len = u16::try_from(self.0.len()).unwrap_or(u16::MAX).to_le_bytes();
        for (to, from) in out.iter_mut().zip(len.iter().chain(self.0.iter())) {
            *to = *from;
        }
        out
    }

    /// The inverse of [`Secret::padded`].
    pub fn unpad(padding: &[u8]) -> Result<Self, SealError> {
        let (len, rest) = padding.split_first_chunk::<2>().ok_or(SealError::Malformed)?;
        let (password, zeros) = rest.split_at_checked(u16::from_le_bytes(*len).into()).ok_or(SealError::Malformed)?;
        if padding.len() != padded(password.len()) || zeros.iter().any(|b| *b != 0) {
            return Err(SealError::Malformed);
        }
        Self::new(password.to_vec()).map_err(|_| SealError::Malformed)
    }
}

const fn padded(len: usize) -> usize {
    (2 + len).next_multiple_of(BLOCK)
}

/// Why a box was not opened. It never says what was in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealError {
    /// No box, or a key that is none.
    Malformed,
    /// For somebody else, for something else, or changed on the way.
    NotForUs,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "what should be a sealed password is none",
            Self::NotForUs => "the sealed password is for another reader or another purpose, or was changed",
        })
    }
}

impl std::error::Error for SealError {}

/// Opens boxes. Never printed, wiped when dropped.
pub struct SealingKey(StaticSecret);

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

impl SealingKey {
    /// From 32 bytes of a cryptographic random source.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(StaticSecret::from(*seed))
    }

    /// What boxes are made for.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        Point::from(&self.0).to_bytes()
    }

    /// What is in a box that was made for this key and this context.
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Secret, SealError> {
        let opened = self.opened(sealed, context);
        scrub_stack();
        opened
    }

    #[inline(never)]
    fn opened(&self, sealed: &[u8], context: &[u8]) -> Result<Secret, SealError> {
        let (theirs, rest) = sealed.split_first_chunk::<32>().ok_or(SealError::Malformed)?;
        let (text, tag) = rest.split_last_chunk::<TAG>().ok_or(SealError::Malformed)?;
        if sealed.len() > BOX_MAX || text.is_empty() {
            return Err(SealError::Malformed);
        }
        let key = agreed(&self.0, theirs, theirs, &self.public())?;
        let mut text = Zeroizing::new(text.to_vec());
        cipher(&key)
            .decrypt_inout_detached(&Nonce::default(), context, InOutBuf::from(text.as_mut_slice()), &Tag::from(*tag))
            .map_err(|_| SealError::NotForUs)?;
        Secret::unpad(&text)
    }
}

/// Seals a password for the owner of the public key `to`. `seed`: 32 bytes of a cryptographic random source, for this box
/// alone.
pub fn seal(password: &Secret, to: &[u8; 32], context: &[u8], seed: Zeroizing<[u8; 32]>) -> Result<Vec<u8>, SealError> {
    let sealed = sealed(password, to, context, seed);
    scrub_stack();
    sealed
}

/// Ciphers work on copies below their caller's frame, which nobody wipes: overwrites what lies there. To be called by whoever
/// called what used a secret, when that has returned.
#[inline(never)]
pub fn scrub_stack() {
    let mut below = [0_u8; 32 << 10];
    below.zeroize();
    std::hint::black_box(&below);
}

#[inline(never)]
fn sealed(password: &Secret, to: &[u8; 32], context: &[u8], seed: Zeroizing<[u8; 32]>) -> Result<Vec<u8>, SealError> {
    let own = StaticSecret::from(*seed);
    let ours = Point::from(&own).to_bytes();
    let key = agreed(&own, to, &ours, to)?;
    let mut text = password.padded();
    // The key serves this box alone, so the nonce may be any.
    let tag = cipher(&key)
        .encrypt_inout_detached(&Nonce::default(), context, InOutBuf::from(text.as_mut_slice()))
        .map_err(|_| SealError::Malformed)?;
    Ok([&ours[..], &text, &tag].concat())
}

fn cipher(key: &[u8; 32]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(key.into())
}

/// The key of one box: what both sides agree on, with both public halves.
fn agreed(
    own: &StaticSecret,
    other: &[u8; 32],
    made: &[u8; 32],
    to: &[u8; 32],
) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let shared = own.diffie_hellman(&Point::from(*other));
    // A point of small order would agree on the same with everybody.
    if !shared.was_contributory() {
        return Err(SealError::Malformed);
    }
    Ok(Zeroizing::new(sha256(&[b"stead sealed password 1\0", shared.as_bytes(), made, to])))
}

/// What a launcher says of the key that passwords are sealed for, signed with the host's own key: good for one life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealingKeyOf {
    pub incarnation: Incarnation,
    pub public: [u8; 32],
}

/// Most bytes of it that are signed.
pub const SEALING_KEY_MAX: usize = 64;

impl SealingKeyOf {
    #[must_use]
    pub fn sign(&self, host: &SecretKey) -> Signed {
        let mut w = Writer::new();
        write_version(&mut w);
        w.fixed(&self.incarnation).fixed(&self.public);
        host.sign(Domain::SealingKey, w.into_bytes())
    }

    pub fn open(signed: &Signed, host: &PublicKey) -> Result<Self, VerifyError> {
        let mut r = Reader::new(signed.verify(Domain::SealingKey, std::slice::from_ref(host))?);
        version(&mut r)?;
        let of = Self { incarnation: r.fixed()?, public: r.fixed()? };
        r.finish()?;
        Ok(of)
    }

    /// As it crosses a wire.
    pub fn decode(bytes: &[u8]) -> Result<Signed, DecodeError> {
        Signed::decode(bytes, SEALING_KEY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(bytes: &[u8]) -> Secret {
        Secret::new(bytes.to_vec()).expect("a password")
    }

    fn boxed(password: &[u8], to: &SealingKey, context: &[u8], seed: u8) -> Vec<u8> {
        seal(&secret(password), &to.public(), context, Zeroizing::new([seed; 32])).expect("sealed")
    }

    #[test]
    fn what_can_be_no_password_is_none() {
        let refused = |bytes: &[u8]| Secret::new(bytes.to_vec()).err();
        assert_eq!(refused(b""), Some(SecretError::Empty));
        assert_eq!(refused(b"a\0b"), Some(SecretError::Nul));
        assert_eq!(refused(&[b'x'; PASSWORD_MAX + 1]), Some(SecretError::TooLong));
        assert!(refused(&[b'x'; PASSWORD_MAX]).is_none() && refused("  ö\n".as_bytes()).is_none());
    }

    #[test]
    fn a_box_of_the_longest_has_the_greatest_length_and_short_ones_have_one_length() {
        let key = SealingKey::from_seed(&[1; 32]);
        assert_eq!(boxed(&[b'x'; PASSWORD_MAX], &key, b"", 2).len(), BOX_MAX);
        assert_eq!(boxed(b"x", &key, b"", 2).len(), boxed(&[b'x'; 62], &key, b"", 2).len());
    }

    #[test]
    fn keys_that_agree_with_everybody_are_none() {
        assert_eq!(seal(&secret(b"x"), &[0; 32], b"", Zeroizing::new([7; 32])), Err(SealError::Malformed));
        let key = SealingKey::from_seed(&[1; 32]);
        let mut bytes = boxed(b"x", &key, b"c", 2);
        bytes[..32].fill(0);
        assert_eq!(key.open(&bytes, b"c").err(), Some(SealError::Malformed));
    }

    #[test]
    fn it_is_x25519_sha256_and_chacha20poly1305_as_written_down() {
        // Made once with this code: boxes of a former release are read.
        let key = SealingKey::from_seed(&[1; 32]);
        let expected = include_str!("../tests/sealed-password-1.hex").trim();
        assert_eq!(crate::hex(&boxed(b"hunter2", &key, b"context", 2)), expected);
    }

    #[test]
    fn a_sealing_key_is_good_for_the_host_that_signed_it() {
        let host = SecretKey::from_seed(&[3; 32]);
        let of = SealingKeyOf { incarnation: [4; 16], public: SealingKey::from_seed(&[5; 32]).public() };
        let signed = SealingKeyOf::decode(&of.sign(&host).encode()).expect("decoded");
        assert_eq!(SealingKeyOf::open(&signed, &host.public()), Ok(of));
        assert!(SealingKeyOf::open(&signed, &SecretKey::from_seed(&[6; 32]).public()).is_err());
    }

    proptest! {
        #[test]
        fn a_box_opens_for_its_reader_in_its_context_and_unchanged(
            password in proptest::collection::vec(1_u8.., 1..200), context: Vec<u8>, other: Vec<u8>,
            reader: [u8; 32], stranger: [u8; 32], seed: [u8; 32], at: prop::sample::Index, bit in 0_u8..8,
        ) {
            let key = SealingKey::from_seed(&reader);
            let sealed = seal(&secret(&password), &key.public(), &context, Zeroizing::new(seed)).expect("sealed");
            prop_assert!(!sealed.windows(password.len()).any(|w| password.len() > 3 && w == password));
            let opened = key.open(&sealed, &context).expect("opened");
            prop_assert_eq!(opened.expose(), &password[..]);
            if other != context {
                prop_assert_eq!(key.open(&sealed, &other).err(), Some(SealError::NotForUs));
            }
            let stranger = SealingKey::from_seed(&stranger);
            if stranger.public() != key.public() {
                prop_assert!(stranger.open(&sealed, &context).is_err());
            }
            let mut changed = sealed.clone();
            changed[at.index(sealed.len())] ^= 1 << bit;
            // The highest bit of a point doesn't count in X25519, but the key is made of the bytes.
            prop_assert!(key.open(&changed, &context).is_err());
            for cut in [0, 31, 48, sealed.len() - 1] {
                prop_assert!(key.open(&sealed[..cut], &context).is_err());
            }
        }
    }
}
