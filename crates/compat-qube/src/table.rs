//! The keys as a table for people: `docs/compat-qube.md` is made of it.

use crate::keys::{KEYS, Role};
use std::fmt::Write as _;

/// Markdown: a table for each role.
#[must_use]
pub fn keys_as_markdown() -> String {
    let mut out = String::new();
    for role in [Role::Common, Role::Worker, Role::Supervisor, Role::Client] {
        let _ = writeln!(
            out,
            "### For {}\n\n| key | in Stead | Qube!'s default | note |\n|---|---|---|---|",
            role.as_str()
        );
        for key in KEYS.iter().filter(|k| k.role == role) {
            let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
            let _ = writeln!(out, "| `{}` | {} | {default} | {} |", key.name, key.standing.as_str(), key.note);
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}
