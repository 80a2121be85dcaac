//! Settings, read only: they stand in files, and are changed there. And what a new farm still lacks.

use crate::frame::Frame;
use crate::pages::SettingLine;
use crate::parts::{Fact, Reason};
use crate::text::Text;
use askama::Template;

#[derive(Debug, Template)]
#[template(path = "settings.html")]
pub struct SettingsPage {
    pub frame: Frame,
    /// What keeps the supervisor from its work.
    pub troubles: Vec<Reason>,
    pub checks: Vec<Check>,
    pub facts: Vec<Fact>,
    /// Qube!'s files, with what they hash to.
    pub files: Vec<Fact>,
    pub warnings: Vec<Text>,
    pub settings: Vec<SettingLine>,
}

/// One thing that a farm should have.
#[derive(Debug)]
pub struct Check {
    pub is_done: bool,
    pub what: &'static str,
    /// As it is, or what does it.
    pub how: Text,
    pub href: Option<&'static str>,
}
