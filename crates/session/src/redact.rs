//! Hides the values of `openjd_redacted_env` in all that a session's items print.

use crate::openjd::STARS;

/// The values to hide, longest first.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    values: Vec<Vec<u8>>,
}

impl Secrets {
    pub(crate) fn add(&mut self, value: Vec<u8>) {
        if !value.is_empty() && !self.values.contains(&value) {
            self.values.push(value);
            self.values.sort_by_key(|v| std::cmp::Reverse(v.len()));
        }
    }
}

/// What of one stream is held back because it may be the start of a secret.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    held: Vec<u8>,
}

impl Redactor {
    /// Turns `text` into what may be shown now.
    pub(crate) fn filter(&mut self, text: &mut Vec<u8>, secrets: &Secrets) {
        self.run(text, secrets, false);
    }

    /// As `filter`, for the last piece: nothing is held back.
    pub(crate) fn finish(&mut self, text: &mut Vec<u8>, secrets: &Secrets) {
        self.run(text, secrets, true);
    }

    fn run(&mut self, text: &mut Vec<u8>, secrets: &Secrets, last: bool) {
        if secrets.values.is_empty() {
            return;
        }
        let mut input = std::mem::take(&mut self.held);
        input.append(text);
        let mut rest = input.as_slice();
        while let Some(byte) = rest.first() {
            match look(rest, secrets, last) {
                Found::Nothing => {
                    text.push(*byte);
                    rest = rest.get(1..).unwrap_or_default();
                }
                Found::Secret(len) => {
                    text.extend_from_slice(STARS);
                    rest = rest.get(len..).unwrap_or_default();
                }
                Found::Perhaps => {
                    self.held = rest.to_vec();
                    break;
                }
            }
        }
    }
}

enum Found {
    Nothing,
    Secret(usize),
    /// More has to come to know.
    Perhaps,
}

fn look(rest: &[u8], secrets: &Secrets, last: bool) -> Found {
    for secret in &secrets.values {
        if rest.first() != secret.first() {
            continue;
        }
        if rest.starts_with(secret) {
            return Found::Secret(secret.len());
        }
        if !last && secret.starts_with(rest) {
            return Found::Perhaps;
        }
    }
    Found::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(input: &[u8], piece: usize, values: &[&[u8]]) -> String {
        let mut secrets = Secrets::default();
        values.iter().for_each(|v| secrets.add(v.to_vec()));
        let (mut redactor, mut out) = (Redactor::default(), Vec::new());
        for chunk in input.chunks(piece) {
            let mut text = chunk.to_vec();
            redactor.filter(&mut text, &secrets);
            out.extend(text);
        }
        let mut text = Vec::new();
        redactor.finish(&mut text, &secrets);
        out.extend(text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn secrets_are_hidden_across_any_boundary() {
        let input = b"key=hunter2 hunter hunter22 hunhunter2 hunt";
        for piece in 1..=input.len() {
            let want = "key=******** hunter ********2 hun******** hunt";
            assert_eq!(shown(input, piece, &[b"hunter2"]), want, "pieces of {piece}");
        }
    }

    #[test]
    fn the_longest_secret_wins() {
        for piece in 1..8 {
            assert_eq!(shown(b"abc abcdef ab", piece, &[b"abc", b"abcdef"]), "******** ******** ab");
        }
    }

    #[test]
    fn an_empty_value_hides_nothing() {
        assert_eq!(shown(b"as it is", 3, &[b""]), "as it is");
    }
}
