//! Sealed passwords at rest: XChaCha20-Poly1305 under a key that is in a file of its own, apart from the database.
//!
//! What a password is for (farm, domain, account, version, key) is bound to it: a row that is copied into another, or an
//! older one that is put back under another number, opens no more than one under another key. The key is replaced for
//! all at once: the next one waits in a second file until the store has everything under it, so that whenever the
//! supervisor dies there is exactly one key that opens all.

use crate::error::StartError;
use crate::keys::secret;
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use store::{LogonName, Sealed};
use warrant::secret::scrub_stack;
use warrant::{SealError, Secret, hex, sha256, unhex};
use zeroize::Zeroizing;

const FILE: &str = "passwords.key";
const NEXT: &str = "passwords.next.key";
const NONCE: usize = 24;
const TAG: usize = 16;
/// How a password that is to stand in a configuration file begins.
pub(crate) const CONFIGURED: &str = "stead-sealed:";

/// Why a sealed password is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VaultError {
    #[error("it was sealed with the key {found}, and the farm's is {own}")]
    Key { found: String, own: String },
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("{0:?} is no password that this farm sealed; `stead password hash ACCOUNT` makes one")]
    NotOurs(String),
}

/// A key, and what it is known by. Wiped when it goes out of use.
#[derive(Clone)]
pub(crate) struct Key {
    bytes: Zeroizing<[u8; 32]>,
    id: String,
}

impl Key {
    fn new(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let digest = sha256(&[b"stead password key 1\0", bytes.as_slice()]);
        Self { bytes, id: hex(digest.first_chunk::<8>().map_or(&digest[..], |id| id)) }
    }

    /// Nonce, sealed password, tag.
    fn seal(&self, password: &Secret, about: &[u8]) -> Result<Vec<u8>, SealError> {
        let sealed = self.sealed(password, about);
        scrub_stack();
        sealed
    }

    #[inline(never)]
    fn sealed(&self, password: &Secret, about: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Malformed)?;
        let mut text = password.padded();
        let cipher = XChaCha20Poly1305::new((&*self.bytes).into());
        let tag = cipher.encrypt_inout_detached(&XNonce::from(nonce), about, InOutBuf::from(text.as_mut_slice()));
        Ok([&nonce[..], &text, &tag.map_err(|_| SealError::Malformed)?].concat())
    }

    fn open(&self, sealed: &[u8], about: &[u8]) -> Result<Secret, SealError> {
        let opened = self.opened(sealed, about);
        scrub_stack();
        opened
    }

    #[inline(never)]
    fn opened(&self, sealed: &[u8], about: &[u8]) -> Result<Secret, SealError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or(SealError::Malformed)?;
        let (text, tag) = rest.split_last_chunk::<TAG>().ok_or(SealError::Malformed)?;
        let mut text = Zeroizing::new(text.to_vec());
        XChaCha20Poly1305::new((&*self.bytes).into())
            .decrypt_inout_detached(&XNonce::from(*nonce), about, InOutBuf::from(text.as_mut_slice()), &Tag::from(*tag))
            .map_err(|_| SealError::NotForUs)?;
        Secret::unpad(&text)
    }
}

/// The key in use, and where it is kept.
pub(crate) struct Vault {
    dir: PathBuf,
    sealer: Sealer,
}

/// Seals and opens for one farm, with one key.
#[derive(Clone)]
pub(crate) struct Sealer {
    farm: [u8; 16],
    key: Key,
}

impl Vault {
    /// `in_use`: the key that the store's passwords are under, as far as it knows.
    pub(crate) fn load(dir: &Path, farm: [u8; 16], in_use: Option<&str>) -> Result<Self, StartError> {
        let (path, next) = (dir.join(FILE), dir.join(NEXT));
        let file = |error| StartError::File { path: path.clone(), error };
        if next.exists() {
            let candidate = Key::new(secret::<32>(&next)?);
            if in_use == Some(candidate.id.as_str()) {
                replace(&path, &next).map_err(file)?;
            } else {
                destroy(&next).map_err(file)?;
            }
        }
        let key = Key::new(secret::<32>(&path)?);
        Ok(Self { dir: dir.to_owned(), sealer: Sealer { farm, key } })
    }

    pub(crate) fn sealer(&self) -> Sealer {
        self.sealer.clone()
    }

    /// The key that is to come, safe on the disk before anything is sealed with it.
    pub(crate) fn next(&self) -> Result<Sealer, StartError> {
        let next = self.dir.join(NEXT);
        match destroy(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StartError::File { path: next, error });
            }
            _ => {}
        }
        let key = Key::new(secret::<32>(&next)?);
        sync_folder(&self.dir).map_err(|error| StartError::File { path: next, error })?;
        Ok(Sealer { key, ..self.sealer })
    }

    /// Everything is under the next key: it is the only one from now on.
    pub(crate) fn turn(&mut self, next: Sealer) -> io::Result<()> {
        self.sealer = next;
        replace(&self.dir.join(FILE), &self.dir.join(NEXT))
    }
}

impl std::ops::Deref for Vault {
    type Target = Sealer;

    fn deref(&self) -> &Sealer {
        &self.sealer
    }
}

impl Sealer {
    pub(crate) fn id(&self) -> &str {
        &self.key.id
    }

    pub(crate) fn seal(&self, name: &LogonName, version: u64, password: &Secret) -> Result<Sealed, SealError> {
        let bytes = self.key.seal(password, &self.about(b"stead logon password 1\0", name, version))?;
        Ok(Sealed { key_id: self.key.id.clone(), bytes })
    }

    pub(crate) fn open(&self, name: &LogonName, version: u64, sealed: &Sealed) -> Result<Secret, VaultError> {
        self.is_ours(&sealed.key_id)?;
        Ok(self.key.open(&sealed.bytes, &self.about(b"stead logon password 1\0", name, version))?)
    }

    /// One for a configuration file: good for this account of this farm, until the key is replaced.
    pub(crate) fn seal_for_file(&self, name: &LogonName, password: &Secret) -> Result<String, SealError> {
        let bytes = self.key.seal(password, &self.about(b"stead configured password 1\0", name, 0))?;
        Ok(format!("{CONFIGURED}{}:{}", self.key.id, hex(&bytes)))
    }

    pub(crate) fn open_from_file(&self, name: &LogonName, text: &str) -> Result<Secret, VaultError> {
        // What isn't ours may be a password that somebody wrote there: it is not repeated.
        let ours = text.strip_prefix(CONFIGURED).and_then(|rest| rest.split_once(':'));
        let not_ours = || VaultError::NotOurs(format!("{}…", text.chars().take(2).collect::<String>()));
        let (id, digits) = ours.ok_or_else(not_ours)?;
        self.is_ours(id)?;
        let bytes = unhex(digits).ok_or_else(not_ours)?;
        Ok(self.key.open(&bytes, &self.about(b"stead configured password 1\0", name, 0))?)
    }

    fn is_ours(&self, id: &str) -> Result<(), VaultError> {
        if id == self.key.id {
            return Ok(());
        }
        Err(VaultError::Key { found: id.chars().take(16).collect(), own: self.key.id.clone() })
    }

    /// Each part with its length in front, so that nothing can move from one into the next.
    fn about(&self, label: &[u8], name: &LogonName, version: u64) -> Vec<u8> {
        let mut about = label.to_vec();
        about.extend(self.farm);
        for part in [&name.domain, &name.account, &self.key.id] {
            about.extend((part.len() as u64).to_le_bytes());
            about.extend(part.as_bytes());
        }
        about.extend(version.to_le_bytes());
        about
    }
}

/// The old key is overwritten as far as a file system does that, then its name is the new one's.
fn replace(path: &Path, next: &Path) -> io::Result<()> {
    match blank(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::rename(next, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

fn destroy(path: &Path) -> io::Result<()> {
    blank(path)?;
    std::fs::remove_file(path)
}

fn blank(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(0).min(4096);
    file.write_all(&vec![b'0'; len])?;
    file.sync_all()
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(dir: &Path) -> Vault {
        Vault::load(dir, [7; 16], None).expect("a vault")
    }

    fn name(account: &str, domain: &str) -> LogonName {
        LogonName { account: account.to_owned(), domain: domain.to_owned() }
    }

    fn hunter2() -> Secret {
        Secret::new(b"hunter2".to_vec()).expect("a password")
    }

    #[test]
    fn what_is_sealed_opens_for_its_account_version_farm_and_key_alone() {
        let dir = tempfile::tempdir().expect("dir");
        let vault = vault(dir.path());
        let sealed = vault.seal(&name("ada", ""), 3, &hunter2()).expect("sealed");
        assert_eq!(vault.open(&name("ada", ""), 3, &sealed).expect("opened").expose(), b"hunter2");
        let again = vault.seal(&name("ada", ""), 3, &hunter2()).expect("sealed");
        assert_ne!(sealed.bytes, again.bytes, "the same password looks different each time");
        let not_for_us = Err(VaultError::Seal(SealError::NotForUs));
        let opened = |vault: &Vault, name, version, sealed: &Sealed| vault.open(&name, version, sealed).map(drop);
        assert_eq!(opened(&vault, name("bob", ""), 3, &sealed), not_for_us, "another's row");
        assert_eq!(opened(&vault, name("ada", "STUDIO"), 3, &sealed), not_for_us, "another domain");
        assert_eq!(opened(&vault, name("ad", "a"), 3, &sealed), not_for_us);
        assert_eq!(opened(&vault, name("ada", ""), 2, &sealed), not_for_us, "an older version");
        for at in 0..sealed.bytes.len() {
            let mut bytes = sealed.bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(opened(&vault, name("ada", ""), 3, &Sealed { bytes, ..sealed.clone() }), not_for_us, "{at}");
        }
        let elsewhere = Vault::load(dir.path(), [8; 16], None).expect("of another farm");
        assert_eq!(opened(&elsewhere, name("ada", ""), 3, &sealed), not_for_us);
        let other = tempfile::tempdir().expect("dir");
        let other = self::vault(other.path());
        assert!(matches!(opened(&other, name("ada", ""), 3, &sealed), Err(VaultError::Key { .. })));
        let claimed = Sealed { key_id: other.key.id.clone(), ..sealed };
        assert_eq!(opened(&other, name("ada", ""), 3, &claimed), not_for_us);
    }

    #[test]
    fn one_for_a_file_is_good_for_its_account_and_for_nothing_in_the_store() {
        let dir = tempfile::tempdir().expect("dir");
        let vault = vault(dir.path());
        let text = vault.seal_for_file(&name("qubeproxy", ""), &hunter2()).expect("sealed");
        assert!(text.starts_with(CONFIGURED) && !text.contains("hunter2"));
        assert_eq!(vault.open_from_file(&name("qubeproxy", ""), &text).expect("opened").expose(), b"hunter2");
        assert!(vault.open_from_file(&name("render", ""), &text).is_err());
        let digits = text.rsplit(':').next().expect("digits");
        let as_row = Sealed { key_id: vault.key.id.clone(), bytes: unhex(digits).expect("hex") };
        assert!(vault.open(&name("qubeproxy", ""), 0, &as_row).is_err());
        for wrong in ["", "Pip3lin3P@$$wd", &"ab".repeat(32), "stead-sealed:", "stead-sealed:00:zz"] {
            let error = vault.open_from_file(&name("qubeproxy", ""), wrong).err().expect("refused").to_string();
            assert!(!error.contains("Pip3lin3"), "{error}");
        }
    }

    #[test]
    fn whenever_it_dies_one_key_is_left_and_it_is_the_one_in_use() {
        let dir = tempfile::tempdir().expect("dir");
        let (file, next) = (dir.path().join(FILE), dir.path().join(NEXT));
        let load = |in_use: Option<&str>| Vault::load(dir.path(), [7; 16], in_use).expect("a vault");
        let first = load(None).key.id.clone();
        // Before the store has taken it: the next key is given up.
        load(None).next().expect("made");
        assert!(next.exists());
        assert_eq!((load(Some(&first)).key.id.as_str(), next.exists()), (first.as_str(), false));
        // After: it is the key.
        let second = load(None).next().expect("made").id().to_owned();
        assert_eq!(load(Some(&second)).key.id, second);
        assert!(!next.exists());
        // To the end.
        let mut vault = load(Some(&second));
        let third = vault.next().expect("made");
        let id = third.id().to_owned();
        let old = std::fs::read_to_string(&file).expect("key");
        vault.turn(third).expect("turned");
        assert_eq!((vault.key.id.as_str(), load(Some(&id)).key.id.as_str()), (id.as_str(), id.as_str()));
        assert_ne!(std::fs::read_to_string(&file).expect("key"), old);
        assert!(!next.exists());
    }
}
