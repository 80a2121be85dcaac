//! Lines of text that make tasks: one buffer with the ends of the lines in it, because a million strings of their own
//! would take five times the room. Clones are the same memory.

use std::fmt;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Default, PartialEq, Eq)]
pub struct Lines(Arc<Packed>);

#[derive(Default, PartialEq, Eq)]
struct Packed {
    text: String,
    /// Where each line ends in `text`, and the next begins.
    ends: Vec<usize>,
}

impl Packed {
    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.ends.push(self.text.len());
    }

    fn finish(mut self) -> Lines {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        Lines(Arc::new(self))
    }
}

impl Lines {
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.0.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.0.ends.get(before)?,
            None => 0,
        };
        self.0.text.get(start..end)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// Bytes of all lines together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.text.len()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Lines {
    fn from_iter<I: IntoIterator<Item = S>>(lines: I) -> Self {
        let mut packed = Packed::default();
        for line in lines {
            packed.push(line.as_ref());
        }
        packed.finish()
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// As a list of strings.
impl Serialize for Lines {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Strings)
    }
}

struct Strings;

impl<'de> Visitor<'de> for Strings {
    type Value = Lines;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lines, A::Error> {
        let mut packed = Packed::default();
        while let Some(line) = seq.next_element::<String>()? {
            packed.push(&line);
        }
        Ok(packed.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_copy_takes_no_room() {
        let lines: Lines = ["a", "", "b c"].into_iter().collect();
        assert!(Arc::ptr_eq(&lines.0, &lines.clone().0));
        assert_eq!((lines.size(), lines.0.text.capacity(), lines.0.ends.capacity()), (4, 4, 3));
        assert_eq!(format!("{lines:?}"), r#"["a", "", "b c"]"#);
    }

    #[test]
    fn only_a_list_of_strings_is_one() {
        for wrong in [r#""a""#, r#"["a", 1]"#, r#"["a", null]"#, "{}"] {
            assert!(serde_json::from_str::<Lines>(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn they_are_what_they_were_made_of(strings in prop::collection::vec("\\PC{0,8}", 0..5)) {
            let lines: Lines = strings.iter().collect();
            prop_assert_eq!(lines.iter().collect::<Vec<_>>(), strings.iter().collect::<Vec<_>>());
            prop_assert_eq!((lines.len(), lines.is_empty()), (strings.len(), strings.is_empty()));
            prop_assert_eq!(lines.get(strings.len()), None);
            let json = serde_json::to_string(&strings).expect("json");
            prop_assert_eq!(&serde_json::to_string(&lines).expect("json"), &json);
            prop_assert_eq!(serde_json::from_str::<Lines>(&json).expect("back"), lines);
        }
    }
}
