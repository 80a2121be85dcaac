//! Where the ends of the chain are kept besides: what is cut off later is missed there.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Facility authpriv, severity notice.
const PRIORITY: u8 = 10 << 3 | 5;
const SOCKET: &str = "/dev/log";

/// The setting `audit_anchor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnchorTo {
    /// The socket that syslog and journald listen on.
    Syslog,
    File(PathBuf),
}

impl AnchorTo {
    /// `syslog`, `journald` or `file:/PATH`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "syslog" | "journald" => Some(Self::Syslog),
            _ => text.strip_prefix("file:").filter(|p| p.starts_with('/')).map(|p| Self::File(p.into())),
        }
    }
}

/// The anchor with what it still has to get.
#[derive(Debug)]
pub(super) struct Anchor {
    to: To,
    waiting: Option<String>,
}

#[derive(Debug)]
enum To {
    Socket(PathBuf),
    File(PathBuf),
}

impl Anchor {
    pub(super) fn new(to: &AnchorTo) -> Self {
        let to = match to {
            AnchorTo::Syslog => To::Socket(SOCKET.into()),
            AnchorTo::File(path) => To::File(path.clone()),
        };
        Self { to, waiting: None }
    }

    #[cfg(test)]
    pub(super) fn at_socket(path: &Path) -> Self {
        Self { to: To::Socket(path.to_owned()), waiting: None }
    }

    pub(super) fn path(&self) -> &Path {
        match &self.to {
            To::Socket(path) | To::File(path) => path,
        }
    }

    /// Only the latest end counts: what is before it is in the chain.
    pub(super) fn put(&mut self, line: String) -> io::Result<()> {
        self.waiting = Some(line);
        self.retry()
    }

    pub(super) fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    pub(super) fn retry(&mut self) -> io::Result<()> {
        let Some(line) = &self.waiting else { return Ok(()) };
        match &self.to {
            To::Socket(path) => {
                let socket = UnixDatagram::unbound()?;
                // A syslog that doesn't take it must not hold the audit up.
                socket.set_nonblocking(true)?;
                socket.connect(path)?;
                socket.send(format!("<{PRIORITY}>stead-audit: {line}").as_bytes())?;
            }
            To::File(path) => {
                let mut file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
                file.write_all(format!("{line}\n").as_bytes())?;
                file.sync_data()?;
            }
        }
        self.waiting = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_said() {
        assert_eq!(AnchorTo::parse("journald"), Some(AnchorTo::Syslog));
        assert_eq!(AnchorTo::parse("file:/other/disk"), Some(AnchorTo::File("/other/disk".into())));
        for wrong in ["", "file:", "file:relative", "/path", "Syslog"] {
            assert_eq!(AnchorTo::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_could_not_be_put_is_put_later() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("log");
        let mut anchor = Anchor::at_socket(&path);
        anchor.put("{\"seq\":1}".to_owned()).expect_err("nobody listens");
        assert!(anchor.waits());
        let log = UnixDatagram::bind(&path).expect("bound");
        anchor.retry().expect("taken");
        let mut got = [0; 100];
        let n = log.recv(&mut got).expect("message");
        assert_eq!(&got[..n], b"<85>stead-audit: {\"seq\":1}");
        assert!(!anchor.waits());
    }
}
