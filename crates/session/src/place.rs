//! Where the session is: the job's folder and the session's own folder in it, and the markers that stand for them.
//!
//! The supervisor doesn't know the host's paths, so it writes `@STEAD_JOBDIR@` and `@STEAD_FILES@`; here they become
//! absolute paths. Nothing else is ever replaced.

use std::borrow::Cow;

const PREFIX: &[u8] = b"@STEAD_";
const FILES: &[u8] = b"FILES@";
const JOBDIR: &[u8] = b"JOBDIR@";

#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Absolute path of the job's folder, the session's current one.
    pub(crate) job_dir: Vec<u8>,
    /// Absolute path of the session's own folder.
    pub(crate) files_dir: Vec<u8>,
}

impl Place {
    pub(crate) fn new(job_dir: Vec<u8>, session: u64) -> Self {
        let mut files_dir = job_dir.clone();
        if !files_dir.ends_with(b"/") {
            files_dir.push(b'/');
        }
        files_dir.extend_from_slice(format!(".stead/{session}").as_bytes());
        Self { job_dir, files_dir }
    }

    /// `text` with the two markers replaced; borrowed when there is none.
    pub(crate) fn fill<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let mut out: Option<Vec<u8>> = None;
        let mut copied = 0;
        let mut at = 0;
        while let Some(found) = find(text, PREFIX, at) {
            let after = text.get(found + PREFIX.len()..).unwrap_or_default();
            let (marker, path) = if after.starts_with(FILES) {
                (FILES, &self.files_dir)
            } else if after.starts_with(JOBDIR) {
                (JOBDIR, &self.job_dir)
            } else {
                at = found + 1;
                continue;
            };
            let out = out.get_or_insert_default();
            out.extend_from_slice(text.get(copied..found).unwrap_or_default());
            out.extend_from_slice(path);
            at = found + PREFIX.len() + marker.len();
            copied = at;
        }
        match out {
            None => Cow::Borrowed(text),
            Some(mut out) => {
                out.extend_from_slice(text.get(copied..).unwrap_or_default());
                Cow::Owned(out)
            }
        }
    }
}

fn find(text: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.windows(what.len()).position(|w| w == what).map(|i| from + i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_markers_are_replaced() {
        let place = Place::new(b"/work/7".to_vec(), 3);
        let cases: [(&[u8], &[u8]); 7] = [
            (b"plain", b"plain"),
            (b"@STEAD_FILES@", b"/work/7/.stead/3"),
            (b"a @STEAD_FILES@/x @STEAD_JOBDIR@!", b"a /work/7/.stead/3/x /work/7!"),
            (b"@STEAD_OTHER@ @STEAD_FILES", b"@STEAD_OTHER@ @STEAD_FILES"),
            (b"@STEAD_@STEAD_FILES@", b"@STEAD_/work/7/.stead/3"),
            (b"@STEAD_JOBDIR@@STEAD_JOBDIR@", b"/work/7/work/7"),
            (b"", b""),
        ];
        for (text, want) in cases {
            assert_eq!(place.fill(text).as_ref(), want, "{}", String::from_utf8_lossy(text));
        }
        assert!(matches!(place.fill(b"none"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_job_folder_at_the_root_gets_one_slash() {
        assert_eq!(Place::new(b"/".to_vec(), 1).files_dir, b"/.stead/1");
    }
}
