//! Sentences for the owner of a job.

use warrant::session_wire::TEXT_MAX;

/// Cut to what an event may carry, at a character boundary.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX - 3).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Bytes of the system in double quotes; what is not printable is escaped, what is very long is shortened.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    const SHOWN: usize = 300;
    let shown = bytes.get(..SHOWN).unwrap_or(bytes);
    let dots = if shown.len() < bytes.len() { "…" } else { "" };
    format!("\"{}{dots}\"", String::from_utf8_lossy(shown).escape_debug())
}

/// Why a call failed, in a few words.
pub(crate) fn why(errno: i32) -> String {
    let known = match errno {
        libc::ENOENT => "no such file or directory",
        libc::EACCES => "permission denied",
        libc::EPERM => "operation not permitted",
        libc::ENOTDIR => "a part of the path is not a directory",
        libc::ELOOP => "too many symbolic links",
        libc::ENAMETOOLONG => "a name in the path is too long",
        libc::ENOSPC => "no space left on the device",
        libc::EDQUOT => "the disk quota is used up",
        libc::EROFS => "the file system is read-only",
        libc::ENOMEM => "out of memory",
        libc::EMFILE | libc::ENFILE => "too many open files",
        libc::ESTALE => "the file server no longer knows the file",
        libc::EIO => "input/output error",
        _ => return std::io::Error::from_raw_os_error(errno).to_string(),
    };
    known.to_owned()
}

/// Whom the session runs as, for sentences.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (uid {})", self.name, self.uid)
    }
}

/// Nothing was executed: what an item ends with then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CannotStart {
    pub(crate) stage: &'static str,
    pub(crate) errno: i32,
    pub(crate) text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        for lead in 0..4 {
            let text = cut("x".repeat(lead) + &"ä€".repeat(1000));
            assert!(text.len() <= TEXT_MAX && text.len() > TEXT_MAX - 10, "{}", text.len());
            assert!(text.ends_with('…'));
        }
        assert_eq!(cut("short".to_owned()), "short");
        assert_eq!(cut("y".repeat(TEXT_MAX)).len(), TEXT_MAX);
    }

    #[test]
    fn quotes_show_control_characters() {
        assert_eq!(quoted(b"a\nb\xff"), "\"a\\nb\u{fffd}\"");
    }
}
