//! Which word a mistyped one may have meant.

/// The candidate that `word` is most like, if any is like enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let near = candidates.into_iter().map(|c| (distance(&word, c), c));
    near.filter(|(d, c)| *d <= (c.len() / 3).max(1)).min().map(|(_, c)| c)
}

/// How many letters have to be put in, taken out, changed, or swapped with their neighbour, in bytes.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    // Far too long to be a slip, and not to be compared letter by letter.
    if a.len().abs_diff(b.len()) > 64 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            let change = row[j] + usize::from(x != y);
            next[j + 1] = change.min(next[j] + 1).min(row[j + 1] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                next[j + 1] = next[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        assert_eq!(distance("worker_clsuter", "worker_cluster"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(
            nearest("worker_restriction", ["worker_cluster", "worker_restrictions"]),
            Some("worker_restrictions")
        );
        assert_eq!(nearest("Proxy", ["user", "proxy"]), Some("proxy"));
        assert_eq!(nearest("usr", ["user", "proxy"]), Some("user"));
        assert_eq!(nearest("colour", ["user", "proxy"]), None);
        assert_eq!(nearest(&"x".repeat(100_000), ["user"]), None);
    }
}
