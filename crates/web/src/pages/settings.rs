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
    /// What stands in its own file, or is built in.
    pub own: Vec<OwnSetting>,
    /// What would become of a file that was given to be looked at.
    pub checked: Option<WouldBe>,
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

/// A setting of the supervisor's own.
#[derive(Debug)]
pub struct OwnSetting {
    pub key: &'static str,
    pub value: Text,
    pub built_in: Text,
    pub is_built_in: bool,
    pub means: &'static str,
}

/// A settings file that was only looked at.
#[derive(Debug)]
pub struct WouldBe {
    pub problem: Option<Reason>,
    /// Setting, as it is now and as it would be.
    pub changes: Vec<(&'static str, Text, Text)>,
}
