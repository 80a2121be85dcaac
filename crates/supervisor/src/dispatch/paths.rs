//! Paths as a worker's host has them (`worker_path_map`), for jobs that ask for it: in commands, in their variables, and
//! where they run. Files that a template brings stay as they are.
//!
//! A path is the source where a name could not go on before it and a separator, or no name, follows. Pairs are tried in
//! their order. A source of Windows (`W:/show`) has no case, and what follows it up to the end of the path gets slashes.

use super::batch::{BYTES_MAX, total};
use warrant::Batch;

/// Returns whether the batch is as it is to be: it would be too large otherwise.
pub(super) fn convert(batch: &mut Batch, map: &[(String, String)]) -> bool {
    if map.is_empty() {
        return true;
    }
    let mut items = batch.items.clone();
    for item in &mut items {
        item.argv.iter_mut().for_each(|word| *word = converted(word, map));
        item.env.iter_mut().for_each(|(_, value)| *value = converted(value, map));
    }
    if total(&items) > BYTES_MAX {
        return false;
    }
    batch.items = items;
    batch.env.iter_mut().for_each(|(_, value)| *value = converted(value, map));
    batch.cwd = batch.cwd.take().map(|cwd| converted(&cwd, map));
    true
}

fn converted(text: &[u8], map: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let goes_on = at.checked_sub(1).and_then(|i| text.get(i)).is_some_and(|before| is_of_path(*before));
        let Some((source, target)) = map.iter().find(|(source, _)| !goes_on && begins(rest, bare(source))) else {
            out.push(rest[0]);
            at += 1;
            continue;
        };
        let source = bare(source);
        out.extend_from_slice(bare(target).as_bytes());
        at += source.len();
        if is_of_windows(source) {
            let tail = text[at..].iter().take_while(|byte| is_of_path(**byte));
            out.extend(tail.map(|byte| if *byte == b'\\' { b'/' } else { *byte }));
            at += text[at..].iter().take_while(|byte| is_of_path(**byte)).count();
        }
    }
    out
}

/// Without the separators at its end.
fn bare(path: &str) -> &str {
    path.trim_end_matches(['/', '\\'])
}

fn begins(text: &[u8], source: &str) -> bool {
    let Some(head) = text.get(..source.len()).filter(|head| !head.is_empty()) else { return false };
    let is_same = if is_of_windows(source) { is_alike(head, source.as_bytes()) } else { head == source.as_bytes() };
    let next = text.get(source.len());
    is_same && next.is_none_or(|next| matches!(next, b'/' | b'\\') || !is_of_path(*next))
}

fn is_of_windows(source: &str) -> bool {
    source.contains('\\') || source.as_bytes().get(1) == Some(&b':')
}

fn is_alike(one: &[u8], other: &[u8]) -> bool {
    let plain = |byte: &u8| if *byte == b'\\' { b'/' } else { byte.to_ascii_lowercase() };
    one.iter().map(plain).eq(other.iter().map(plain))
}

/// What a path goes on with.
fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"/\\._-+~@%#".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let map = [
            ("W:/show/", "/mnt/show"),
            ("/Volumes/show", "/mnt/show/"),
            ("/Volumes", "/mnt/other"),
            ("\\\\nas\\a", "/a"),
        ];
        let map = map.map(|(from, to)| (from.to_owned(), to.to_owned()));
        String::from_utf8(converted(text.as_bytes(), &map)).expect("text")
    }

    #[test]
    fn paths_are_the_hosts_and_the_first_pair_wins() {
        for (text, becomes) in [
            ("/Volumes/show/shot 1/a.exr", "/mnt/show/shot 1/a.exr"),
            ("--out=/Volumes/show", "--out=/mnt/show"),
            ("/Volumes/showreel/a", "/mnt/other/showreel/a"),
            ("cp '/Volumes/show/a' \"/Volumes/b\"", "cp '/mnt/show/a' \"/mnt/other/b\""),
            (r"w:\SHOW\Shot\a.exr,W:/show", "/mnt/show/Shot/a.exr,/mnt/show"),
            (r"\\NAS\a\b.ma", "/a/b.ma"),
        ] {
            assert_eq!(of(text), becomes, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_one_stays() {
        for text in ["/mnt/Volumes/show", "x/Volumes/show/a", "/Volumes2", "NEW:/show/a", "", "-", r"a\\nas\a"] {
            assert_eq!(of(text), text);
        }
    }
}
