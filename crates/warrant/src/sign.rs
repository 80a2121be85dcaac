//! Signing and checking: a signature covers a domain label and exactly the bytes that are then read.

use crate::codec::{DecodeError, Reader, Writer};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// What a signature is for. The label is signed with the bytes, so a signature for one can't be shown as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    Warrant,
    Renewal,
    Batch,
    /// A request to a session that does file work.
    Files,
    /// Signed by a host's launcher with the host's own key.
    Proof,
    /// Signs the supervisor's audit up to a record.
    Checkpoint,
    /// A launcher's key for sealed passwords, signed with the host's own key.
    SealingKey,
}

impl Domain {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Warrant => b"stead warrant 1\0",
            Self::Renewal => b"stead renewal 1\0",
            Self::Batch => b"stead batch 1\0",
            Self::Files => b"stead files 1\0",
            Self::Proof => b"stead proof 1\0",
            Self::Checkpoint => b"stead checkpoint 1\0",
            Self::SealingKey => b"stead sealing key 1\0",
        }
    }
}

/// The first eight bytes of a public key's SHA-256: names the key in what it signed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A public key that warrants, batches or proofs are checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// `None` when the bytes are no usable Ed25519 key.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(bytes).ok()?;
        (!key.is_weak()).then_some(Self(key))
    }

    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = sha256(&[&self.to_bytes()]);
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        KeyId(id)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex(&self.to_bytes()))
    }
}

/// A private key. Never printed, wiped when dropped.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// From 32 bytes of a cryptographic random source.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `bytes` for `domain`.
    #[must_use]
    pub fn sign(&self, domain: Domain, bytes: Vec<u8>) -> Signed {
        let signature = self.0.sign(&message(domain, &bytes)).to_bytes();
        Signed { key: self.public().id(), bytes, signature }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// Bytes with a signature that nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub key: KeyId,
    pub bytes: Vec<u8>,
    pub signature: [u8; 64],
}

/// Why a signature was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyError {
    /// None of the keys known here has this id.
    UnknownKey(KeyId),
    BadSignature,
    Malformed(DecodeError),
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(id) => write!(f, "signed with the unknown key {id:?}"),
            Self::BadSignature => f.write_str("signature does not match"),
            Self::Malformed(e) => write!(f, "signed message is malformed: {e}"),
        }
    }
}

impl std::error::Error for VerifyError {}

impl From<DecodeError> for VerifyError {
    fn from(e: DecodeError) -> Self {
        Self::Malformed(e)
    }
}

impl Signed {
    /// The bytes, if one of `keys` signed them for `domain`.
    pub fn verify(&self, domain: Domain, keys: &[PublicKey]) -> Result<&[u8], VerifyError> {
        let key = keys.iter().find(|k| k.id() == self.key).ok_or(VerifyError::UnknownKey(self.key))?;
        key.0
            .verify_strict(&message(domain, &self.bytes), &Signature::from_bytes(&self.signature))
            .map_err(|_| VerifyError::BadSignature)?;
        Ok(&self.bytes)
    }

    /// key id, signature, length, bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write(&mut w);
        w.into_bytes()
    }

    /// The inverse of [`Signed::encode`]; `max` bounds the signed bytes.
    pub fn decode(bytes: &[u8], max: usize) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let signed = Self::read(&mut r, max)?;
        r.finish()?;
        Ok(signed)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.fixed(&self.key.0).fixed(&self.signature).bytes(&self.bytes);
    }

    pub(crate) fn read(r: &mut Reader<'_>, max: usize) -> Result<Self, DecodeError> {
        let key = KeyId(r.fixed()?);
        let signature = r.fixed()?;
        let bytes = r.bytes("signed message", max)?.to_vec();
        Ok(Self { key, bytes, signature })
    }
}

fn message(domain: Domain, bytes: &[u8]) -> Vec<u8> {
    let mut m = Vec::with_capacity(domain.label().len() + bytes.len());
    m.extend_from_slice(domain.label());
    m.extend_from_slice(bytes);
    m
}

/// SHA-256 over the parts one after another.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut h = Sha256::new();
    for p in parts {
        h.update(p);
    }
    h.finalize().into()
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

/// The inverse of [`hex`]; `None` for an odd length or another character.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    fn digit(c: u8) -> Option<u8> {
        (c as char).to_digit(16).and_then(|d| u8::try_from(d).ok())
    }
    let text = text.as_bytes();
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2).map(|p| Some(digit(p[0])? << 4 | digit(p[1])?)).collect()
}
