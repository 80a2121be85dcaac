//! The supervisor's own key, which signs warrants, batches and renewals, and the farm's id.

use crate::error::StartError;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use warrant::{SecretKey, hex, unhex};

/// What makes this farm this farm.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) warrant: SecretKey,
    pub(crate) farm: [u8; 16],
}

impl Keys {
    /// Reads `warrant.key` and `farm` in `dir`; makes what is missing.
    pub(crate) fn load(dir: &Path) -> Result<Self, StartError> {
        let seed = read_or_make::<32>(&dir.join("warrant.key"), true)?;
        let farm = read_or_make::<16>(&dir.join("farm"), false)?;
        Ok(Self { warrant: SecretKey::from_seed(&seed), farm })
    }

    pub(crate) fn farm_hex(&self) -> String {
        hex(&self.farm)
    }
}

/// A secret of its own file; made when missing.
pub(crate) fn secret<const N: usize>(path: &Path) -> Result<[u8; N], StartError> {
    read_or_make(path, true)
}

fn read_or_make<const N: usize>(path: &Path, secret: bool) -> Result<[u8; N], StartError> {
    let file = |error| StartError::File { path: path.to_owned(), error };
    match File::open(path) {
        Ok(mut f) => {
            let meta = f.metadata().map_err(file)?;
            if secret && meta.mode() & 0o077 != 0 {
                return Err(StartError::KeyReadable { path: path.to_owned(), mode: meta.mode() & 0o7777 });
            }
            let mut text = String::new();
            f.read_to_string(&mut text).map_err(file)?;
            unhex(text.trim())
                .and_then(|b| b.try_into().ok())
                .ok_or_else(|| StartError::KeyMalformed { path: path.to_owned(), digits: N * 2 })
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut value = [0; N];
            getrandom::fill(&mut value).map_err(|e| file(std::io::Error::other(e)))?;
            // Complete or absent: a torn key would lock the farm out.
            let draft = path.with_extension("new");
            let mut f = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(if secret { 0o600 } else { 0o644 })
                .open(&draft)
                .map_err(file)?;
            f.write_all(format!("{}\n", hex(&value)).as_bytes()).and_then(|()| f.sync_all()).map_err(file)?;
            std::fs::rename(&draft, path).map_err(file)?;
            Ok(value)
        }
        Err(e) => Err(file(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn made_once_and_then_the_same() {
        let dir = tempfile::tempdir().expect("dir");
        let first = Keys::load(dir.path()).expect("made");
        let second = Keys::load(dir.path()).expect("read");
        assert_eq!(first.warrant.public(), second.warrant.public());
        assert_eq!(first.farm, second.farm);
        let mode = std::fs::metadata(dir.path().join("warrant.key")).expect("meta").mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn a_readable_or_torn_key_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        Keys::load(dir.path()).expect("made");
        let key = dir.path().join("warrant.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(Keys::load(dir.path()), Err(StartError::KeyReadable { mode: 0o640, .. })));
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        std::fs::write(&key, "abcd").expect("write");
        assert!(matches!(Keys::load(dir.path()), Err(StartError::KeyMalformed { digits: 64, .. })));
    }
}
