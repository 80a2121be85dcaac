//! What a job left: its folder, with pictures shown as pictures.

use crate::frame::Frame;
use crate::pages::{JobHead, Tab};
use crate::parts::{Moment, Reason};
use crate::text::{Text, encoded};
use askama::Template;

#[derive(Debug, Template)]
#[template(path = "results.html")]
pub struct ResultsPage {
    pub frame: Frame,
    pub head: JobHead,
    /// Below the job's folder, as asked for; empty: that folder itself.
    pub path: String,
    /// Where the job ran, if that was in several places.
    pub workers: Vec<Text>,
    /// The one whose files these are; empty: all of them.
    pub worker: String,
    /// `None`: as whom isn't known before something is read.
    pub read_as: Option<Text>,
    pub problem: Option<Reason>,
    pub folders: Vec<ResultFile>,
    pub pictures: Vec<ResultFile>,
    pub files: Vec<ResultFile>,
    /// The name to go on after.
    pub more_after: Option<String>,
    pub is_later: bool,
    /// Workers that have something of it and could not be asked, and why.
    pub unreached: Vec<(Text, Text)>,
}

#[derive(Debug)]
pub struct ResultFile {
    /// As it is, for addresses.
    pub name: String,
    pub shown: Text,
    /// What it is, for a file that can't be had.
    pub kind: &'static str,
    pub size: String,
    pub modified: Option<Moment>,
    pub worker: String,
    /// Another one of that name is elsewhere.
    pub is_on_several: bool,
    /// Too large to be shown before it is asked for.
    pub is_heavy: bool,
}

impl ResultsPage {
    fn address(&self, page: &str, path: &str, worker: Option<&str>) -> String {
        let worker = worker.map(|w| format!("&worker={}", encoded(w))).unwrap_or_default();
        format!("{page}?path={}{worker}", encoded(path))
    }

    fn of_job(&self, what: &str) -> String {
        format!("/jobs/{}/{what}", self.head.id)
    }

    fn below(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) }
    }

    fn chosen(&self) -> Option<&str> {
        Some(self.worker.as_str()).filter(|worker| !worker.is_empty())
    }

    /// Where a folder is shown.
    #[must_use]
    pub fn folder(&self, file: &ResultFile) -> String {
        self.address(&self.of_job("results"), &self.below(&file.name), self.chosen())
    }

    pub(crate) fn picture(&self, file: &ResultFile) -> String {
        self.address(&self.of_job("picture"), &self.below(&file.name), Some(&file.worker))
    }

    pub(crate) fn download(&self, file: &ResultFile) -> String {
        let api = format!("/api/v1/jobs/{}/file", self.head.id);
        self.address(&api, &self.below(&file.name), Some(&file.worker))
    }

    /// The folders above: address and name.
    pub(crate) fn above(&self) -> Vec<(String, Text)> {
        let mut crumbs =
            vec![(self.address(&self.of_job("results"), "", self.chosen()), Text::from("the job's folder"))];
        let mut path = String::new();
        for part in self.path.split('/').filter(|part| !part.is_empty()) {
            path = if path.is_empty() { part.to_owned() } else { format!("{path}/{part}") };
            crumbs.push((self.address(&self.of_job("results"), &path, self.chosen()), Text::from(part)));
        }
        crumbs
    }

    pub(crate) fn first(&self) -> String {
        self.address(&self.of_job("results"), &self.path, self.chosen())
    }

    pub(crate) fn later(&self, after: &str) -> String {
        format!("{}&after={}", self.first(), encoded(after))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.folders.is_empty() && self.pictures.is_empty() && self.files.is_empty()
    }
}
