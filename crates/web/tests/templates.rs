//! What every template keeps: nothing inline that the content security policy would forbid, nothing unescaped, and a
//! word for whoever doesn't see.

use std::path::{Path, PathBuf};

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("dir") {
        let path = entry.expect("entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn templates() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("templates"), &mut found);
    assert!(found.len() > 5, "{found:?}");
    found.iter().map(|p| (p.display().to_string(), std::fs::read_to_string(p).expect("text"))).collect()
}

#[test]
fn nothing_is_inline_and_nothing_unescaped() {
    for (name, text) in templates() {
        let low = text.to_lowercase();
        for bad in [
            " style=",
            "<style",
            "javascript:",
            "hx-on",
            "js:",
            "|safe",
            "| safe",
            "{% autoescape",
            "http-equiv=\"content",
        ] {
            assert!(!low.contains(bad), "{name}: {bad}");
        }
        for (at, _) in low.match_indices(" on") {
            let word: String = low[at + 1..].chars().take_while(char::is_ascii_alphanumeric).collect();
            assert!(!low[at + 1 + word.len()..].starts_with('='), "{name}: {word}=");
        }
        for (at, _) in low.match_indices("<script") {
            let tag = &text[at..at + text[at..].find("</script>").expect("closed")];
            assert!(tag.contains(" src=") && tag.ends_with('>'), "{name}: {tag}");
        }
        for (at, _) in low.match_indices("hx-trigger=\"") {
            let value: String = low[at + 12..].chars().take_while(|c| *c != '"').collect();
            assert!(!value.contains('['), "{name}: a filter needs eval: {value}");
        }
    }
}

#[test]
fn every_field_and_picture_has_a_name() {
    for (name, text) in templates() {
        for (at, _) in text.match_indices("<img ") {
            assert!(text[at..].split('>').next().expect("tag").contains(" alt="), "{name}");
        }
        assert!(!text.contains("target=\"_blank\""), "{name}: a new window is theirs to open");
    }
}

#[test]
fn scripts_evaluate_nothing() {
    let script = include_str!("../assets/app.js");
    for bad in ["eval(", "new Function", "innerHTML", "document.write", "setAttribute('on", "javascript:"] {
        assert!(!script.contains(bad), "{bad}");
    }
}
