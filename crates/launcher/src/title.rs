//! What `ps` shows: a forked shepherd says that it is one, and whose.

use std::fs;

/// Overwrites the arguments this process was started with, as far as they reach.
pub(crate) fn set(words: &[&str]) {
    let Some((start, end)) = area() else { return };
    let len = end.saturating_sub(start);
    let mut text: Vec<u8> = words.iter().flat_map(|w| w.bytes().chain([0])).collect();
    if text.len() > len {
        return;
    }
    text.resize(len, 0);
    let at = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the kernel says that the arguments are there, on the writable stack of this process, and everything
    // that was read from them was copied before. Strings stay NUL-terminated.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), at, len) };
}

/// `arg_start` and `arg_end` of proc_pid_stat(5).
fn area() -> Option<(usize, usize)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(45);
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (start != 0 && end > start).then_some((start, end))
}
