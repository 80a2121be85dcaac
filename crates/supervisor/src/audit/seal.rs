//! The keys that sign checkpoints: each signs one, names the next, and is forgotten. Whoever takes the machine over
//! finds no key that could sign another past.

use super::AuditError;
use super::line;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use warrant::{PublicKey, SecretKey, hex};
use zeroize::Zeroizing;

type Seed = Zeroizing<[u8; 32]>;

/// The key of the next checkpoint, and the one it will name.
#[derive(Debug)]
pub(super) struct Seal {
    path: PathBuf,
    current: Seed,
    next: Seed,
    /// The one after it, if its file is ready to take the place of the former.
    after: Option<Seed>,
}

impl Seal {
    /// Makes the first two keys of a chain.
    pub(super) fn begin(path: &Path) -> Result<Self, AuditError> {
        let made = || -> io::Result<Self> {
            let seal = Self { path: path.to_owned(), current: fresh()?, next: fresh()?, after: None };
            seal.draft(&seal.current, &seal.next)?;
            seal.put()?;
            Ok(seal)
        };
        made().map_err(|e| failed(path, &e))
    }

    /// Reads the keys; `named` is the one the chain says signs its next checkpoint.
    pub(super) fn open(path: &Path, named: &[u8; 32]) -> Result<Self, AuditError> {
        let mut seal = Self::read(path).map_err(|e| failed(path, &e))?;
        // It ended between a checkpoint and the change of keys.
        if public(&seal.current).to_bytes() != *named && public(&seal.next).to_bytes() == *named {
            seal.advance().map_err(|e| failed(path, &e))?;
        }
        if public(&seal.current).to_bytes() == *named { Ok(seal) } else { Err(AuditError::Sealed(path.to_owned())) }
    }

    /// The public keys in a file: of the next checkpoint, and the one after it.
    pub(super) fn peek(path: &Path) -> io::Result<[[u8; 32]; 2]> {
        let seal = Self::read(path)?;
        Ok([public(&seal.current).to_bytes(), public(&seal.next).to_bytes()])
    }

    fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        if file.metadata()?.mode() & 0o077 != 0 {
            return Err(io::Error::other(
                "it can be read by others: whoever did could sign; `chmod 600` it if nobody did",
            ));
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text)?;
        let mut seeds = text.lines().map(|l| line::fixed(l).map(Zeroizing::new));
        match (seeds.next().flatten(), seeds.next().flatten(), seeds.next()) {
            (Some(current), Some(next), None) => Ok(Self { path: path.to_owned(), current, next, after: None }),
            _ => Err(io::Error::other("it doesn't hold two keys: restore it, or move the whole folder away")),
        }
    }

    pub(super) fn key(&self) -> SecretKey {
        SecretKey::from_seed(&self.current)
    }

    pub(super) fn public(&self) -> String {
        hex(&public(&self.current).to_bytes())
    }

    pub(super) fn next_public(&self) -> String {
        hex(&public(&self.next).to_bytes())
    }

    /// Does of `advance` what needs room on the disk, before anything is signed.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        if self.after.is_none() {
            let after = fresh()?;
            self.draft(&self.next, &after)?;
            self.after = Some(after);
        }
        Ok(())
    }

    /// Forgets the key that has signed.
    pub(super) fn advance(&mut self) -> io::Result<()> {
        self.prepare()?;
        self.put()?;
        if let Some(after) = self.after.take() {
            self.current = std::mem::replace(&mut self.next, after);
        }
        Ok(())
    }

    /// Always as many bytes: a draft that was there is overwritten.
    fn draft(&self, current: &Seed, next: &Seed) -> io::Result<()> {
        let text = Zeroizing::new(format!("{}\n{}\n", hex(&**current), hex(&**next)));
        let mut file = OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(false).mode(0o600).open(self.draft_path())?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)?;
        file.sync_all()
    }

    fn draft_path(&self) -> PathBuf {
        self.path.with_extension("new")
    }

    /// Complete or as before; the bytes of the former file are overwritten.
    fn put(&self) -> io::Result<()> {
        let former = match OpenOptions::new().write(true).open(&self.path) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        std::fs::rename(self.draft_path(), &self.path)?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        if let Some(mut former) = former {
            let len = former.metadata()?.len();
            former.write_all(&vec![b'0'; usize::try_from(len).unwrap_or(0)])?;
            former.sync_all()?;
        }
        Ok(())
    }
}

fn fresh() -> io::Result<Seed> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(io::Error::other)?;
    Ok(seed)
}

fn public(seed: &Seed) -> PublicKey {
    SecretKey::from_seed(seed).public()
}

fn failed(path: &Path, error: &io::Error) -> AuditError {
    AuditError::file(path, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_signed_is_nowhere_any_more() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("key");
        let mut seal = Seal::begin(&path).expect("made");
        let first = hex(&*seal.current);
        // What a reader of the disk would find under the former file's name.
        std::fs::hard_link(&path, dir.path().join("kept")).expect("link");
        let named = public(&seal.next).to_bytes();
        seal.advance().expect("advanced");
        for name in ["key", "kept"] {
            let text = std::fs::read_to_string(dir.path().join(name)).expect("text");
            assert!(!text.contains(&first), "{name}");
        }
        assert_eq!(seal.public(), hex(&named));
        Seal::open(&path, &named).expect("the chain's word");
        assert!(matches!(Seal::open(&path, &[9; 32]), Err(AuditError::Sealed(_))));
    }

    #[test]
    fn an_end_between_checkpoint_and_change_of_keys_is_made_good() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("key");
        let seal = Seal::begin(&path).expect("made");
        let named = public(&seal.next).to_bytes();
        let after = Seal::open(&path, &named).expect("it goes on");
        assert_eq!(after.public(), hex(&named));
        Seal::open(&path, &named).expect("and again");
    }
}
