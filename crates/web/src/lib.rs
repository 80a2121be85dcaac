//! The pages of the web UI: templates, style, scripts, and the structs that become HTML. Pure: no input or output, no
//! clock, no knowledge of the store or of rights. Whoever fills the structs (`supervisor::pages`) has decided what may be
//! seen.
//!
//! # Adding a screen
//!
//! 1. A struct in [`pages`] with `frame: Frame` and what the screen shows; `#[derive(Template)]` with a file under
//!    `templates/` that begins with `{% extends "frame.html" %}` and fills the block `main`.
//! 2. **Every string that somebody else may have written is a [`Text`]**, not a `String`: it shows control and bidirectional
//!    characters instead of obeying them; the template escapes the rest. Put it into `<bdi>` where it stands beside ours.
//!    Lines of logs go through [`ansi`].
//! 3. States are [`State`]s (word, shape and colour together), times are [`Moment`]s, refusals are [`Reason`]s, progress is
//!    a [`Bar`], the rules of a decision are [`Rules`] and [`Verdicts`]: each prints itself as HTML with `{{ x }}`.
//! 4. No inline script or style, no `style=` or `on…=` attribute, no `hx-on`, no `js:` value, no trigger filter: the
//!    content security policy forbids them, and a test reads all templates for them. Widths are SVG attributes; behaviour
//!    is `assets/app.js`, which looks for `data-` attributes (its head lists them).
//! 5. Everything works without the script: forms are forms, lists are links. A part that is to be live has an `id` and
//!    `data-live`: the script fetches the page's own URL when the farm says that something changed, and morphs the part.
//! 6. Set [`Frame::api`] and [`Frame::cli`]: every page names the API URL and the command that do the same.
//!
//! Classes that screens share are listed at the head of `assets/app.css`.

#![forbid(unsafe_code)]

pub mod ansi;
pub mod assets;
mod frame;
pub mod pages;
mod parts;
mod text;

pub use askama::Template;
pub use frame::{ActingBar, Frame, Me, Nav};
pub use parts::{Badge, Bar, Fact, Moment, Reason, RuleLine, Rules, State, VerdictRow, Verdicts, took};
pub use text::{Text, encoded};
