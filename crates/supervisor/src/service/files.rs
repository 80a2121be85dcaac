//! What lies in a job's folder: shown and handed out by a session under the job's account (`dispatch::files`), never read
//! here. Whose right it is to see the job isn't enough: files are read as the job's user, by whoever is that user, acts
//! as it now, or submitted the job and still may.

use super::Service;
use super::sheets::Looker;
use crate::audit::{Act, Record};
use crate::caller::Caller;
use crate::clock;
use crate::dispatch::{FileError, FilePlace, who};
use crate::error::ServiceError;
use crate::views::{FileView, FilesView, UnreachedView};
use futures_util::future::join_all;
use policy::{Identified, Refusal, Request, Who};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use store::{JobRow, Purpose};
use warrant::files::{DATA_MAX, ENTRIES_MAX, Entry, FileAnswer, FileRule, FileWork, Root};

/// Workers that are asked together.
pub(crate) const TOGETHER: usize = 8;
const LIMIT: u32 = 200;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FilesQuery {
    /// Below the job's folder; empty: the folder itself.
    pub(crate) path: String,
    /// Needed where the job ran on several and the file is on more than one.
    pub(crate) worker: Option<String>,
    /// The name of the last one seen.
    pub(crate) after: String,
    /// At most 500; 200 unless told.
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileQuery {
    /// Below the job's folder.
    pub(crate) path: String,
    /// Needed where the job ran on several and the file is on more than one.
    pub(crate) worker: Option<String>,
    /// So many bytes are known already.
    pub(crate) offset: u64,
    /// At most so many bytes.
    pub(crate) length: Option<u64>,
}

/// A file that is being handed out, piece by piece.
#[derive(Debug)]
pub(crate) struct OpenFile {
    place: FilePlace,
    path: String,
    at: u64,
    left: u64,
    /// Of the whole file, when its first piece was read.
    size: Option<u64>,
}

impl OpenFile {
    pub(crate) fn size(&self) -> u64 {
        self.size.unwrap_or_default()
    }
}

impl Service {
    /// The entries of a folder on all workers that ran the job, or what a single file is.
    pub(crate) async fn files(&self, caller: &Caller, job: u64, query: FilesQuery) -> Result<FilesView, ServiceError> {
        let (row, who) = self.files_as(caller, job, Act::FileView).await?;
        let places = self.file_places(&row, &who, query.worker.as_deref()).await?;
        if places.len() > TOGETHER {
            return Err(of_several(&places));
        }
        let record = Record::done(Act::FileView, caller.actor().for_user(&row.user)).grant(who.grant).job(job);
        let record = record.with("of", &row.user).with("path", &query.path).with("worker", query.worker.as_deref());
        self.audit.write(record).await?;
        let limit = query.limit.unwrap_or(LIMIT).clamp(1, u32::try_from(ENTRIES_MAX).unwrap_or(LIMIT));
        let (mut seen, mut unreached, mut refused) = (Seen::default(), Vec::new(), Vec::new());
        let answers = join_all(places.iter().map(|place| self.listed_on(place, &query, limit))).await;
        for (place, answer) in places.iter().zip(answers) {
            match answer {
                Ok((entries, more)) => seen.add(&place.worker, entries, more),
                Err(FileError::Away(why) | FileError::Lost(why)) => {
                    unreached.push(UnreachedView { worker: place.worker.clone(), why });
                }
                Err(error) => refused.push((&place.worker, error)),
            }
        }
        // What isn't on one worker is on another: only where it is nowhere is that an answer.
        refused.sort_by_key(|(_, error)| is_missing(error));
        if seen.is_empty() {
            let why: Vec<&str> = unreached.iter().map(|u| u.why.as_str()).collect();
            return Err(match refused.into_iter().next() {
                Some((_, error)) => self.file_refused(caller, Act::FileView, &row, &query.path, error).await,
                None => ServiceError::FilesAway(why.join("; ")),
            });
        }
        for (worker, error) in refused.into_iter().filter(|(_, error)| !is_missing(error)) {
            let why = self.file_refused(caller, Act::FileView, &row, &query.path, error).await.to_string();
            unreached.push(UnreachedView { worker: worker.clone(), why });
        }
        let (entries, more) = seen.merged(limit as usize);
        Ok(FilesView { job, path: query.path, entries, more, unreached })
    }

    async fn listed_on(
        &self,
        place: &FilePlace,
        query: &FilesQuery,
        limit: u32,
    ) -> Result<(Vec<Entry>, bool), FileError> {
        let list = FileWork::List { path: query.path.clone(), after: query.after.clone(), limit };
        match self.dispatcher.file_work(place, Root::Job, list).await? {
            FileAnswer::Entries { entries, more } => Ok((entries, more)),
            FileAnswer::Refused { rule: FileRule::Kind, .. } if !query.path.is_empty() => {
                match self.dispatcher.file_work(place, Root::Job, FileWork::Stat { path: query.path.clone() }).await? {
                    FileAnswer::Entry(entry) => Ok((vec![entry], false)),
                    other => Err(FileError::of(other)),
                }
            }
            other => Err(FileError::of(other)),
        }
    }

    /// Begins to hand out a file: its first piece is here, or it is refused.
    pub(crate) async fn open_file(
        &self,
        caller: &Caller,
        job: u64,
        query: FileQuery,
    ) -> Result<(OpenFile, Vec<u8>), ServiceError> {
        self.open(caller, job, query, false).await
    }

    /// The same for a picture that a contact sheet may show: that sheet is on record already.
    pub(crate) async fn open_picture(
        &self,
        caller: &Caller,
        job: u64,
        query: FileQuery,
    ) -> Result<(OpenFile, Vec<u8>), ServiceError> {
        self.open(caller, job, query, true).await
    }

    /// Somebody is shown a page of a folder's pictures, which their browser will ask for: one record for all of them.
    pub(crate) async fn open_sheet(
        &self,
        caller: &Caller,
        job: u64,
        folder: &str,
        pictures: BTreeSet<(String, String)>,
    ) -> Result<(), ServiceError> {
        let (row, who) = self.files_as(caller, job, Act::Download).await?;
        let names: BTreeSet<&String> = pictures.iter().map(|(_, name)| name).collect();
        let record = Record::done(Act::Download, caller.actor().for_user(&row.user)).grant(who.grant).job(job);
        let record = record.with("of", &row.user).with("path", folder).with("pictures", pictures.len());
        self.audit.write(record.with("first", names.first()).with("last", names.last())).await?;
        self.sheets.open(looker(caller, job), folder, pictures, Instant::now());
        Ok(())
    }

    async fn open(
        &self,
        caller: &Caller,
        job: u64,
        query: FileQuery,
        is_picture: bool,
    ) -> Result<(OpenFile, Vec<u8>), ServiceError> {
        let (row, who) = self.files_as(caller, job, Act::Download).await?;
        let mut places = self.file_places(&row, &who, query.worker.as_deref()).await?;
        if (2..=TOGETHER).contains(&places.len()) {
            places = self.having(places, &query.path).await;
        }
        let place = match <[FilePlace; 1]>::try_from(places) {
            Ok([place]) => place,
            Err(several) => return Err(of_several(&several)),
        };
        let is_on_sheet =
            is_picture && self.sheets.shows(&looker(caller, job), &place.worker, &query.path, Instant::now());
        if !is_on_sheet {
            let record = Record::done(Act::Download, caller.actor().for_user(&row.user)).grant(who.grant).job(job);
            let record = record.run_as(&place.account).with("of", &row.user).with("path", &query.path);
            self.audit.write(record.with("worker", &place.worker)).await?;
        }
        let left = query.length.unwrap_or(u64::MAX);
        let mut file = OpenFile { place, path: query.path, at: query.offset, left, size: None };
        match self.next_piece(&mut file).await {
            Ok(first) => Ok((file, first)),
            Err(error) => Err(self.file_refused(caller, Act::Download, &row, &file.path, error).await),
        }
    }

    /// The next bytes of a file, as long as it was at first; none at its end. The decision is made again for each.
    pub(crate) async fn next_piece(&self, file: &mut OpenFile) -> Result<Vec<u8>, FileError> {
        let left = file.size.map_or(file.left, |size| file.left.min(size.saturating_sub(file.at)));
        if left == 0 {
            return Ok(Vec::new());
        }
        let length = u32::try_from(left.min(DATA_MAX as u64)).unwrap_or(0);
        let read = FileWork::Read { path: file.path.clone(), offset: file.at, length };
        match self.dispatcher.file_work(&file.place, Root::Job, read).await? {
            // The account's own word: it may be anything.
            FileAnswer::Data { data, .. } if data.len() > length as usize => {
                Err(FileError::Lost(format!("more of {:?} was given than was asked for", file.path)))
            }
            FileAnswer::Data { data, size } => {
                let promised = *file.size.get_or_insert(size);
                if data.is_empty() && file.at < promised {
                    return Err(FileError::Lost(format!("{:?} became shorter while it was read", file.path)));
                }
                file.at = file.at.saturating_add(data.len() as u64);
                file.left -= data.len() as u64;
                Ok(data)
            }
            other => Err(FileError::of(other)),
        }
    }

    /// As whom the caller has the files of a job.
    async fn files_as(&self, caller: &Caller, job: u64, act: Act) -> Result<(JobRow, Who), ServiceError> {
        let row = self.open_to(caller, job).await?;
        let login = caller.principal.login_user.as_str();
        let as_now = caller.acting.as_ref().map_or(login, |acting| acting.user.as_str());
        if as_now == row.user {
            let request = Request { user: None, job: Some(row.name.clone()) };
            let identified = self.identified(&caller.principal, caller.acting.as_ref(), &request, clock::now()).await?;
            return match identified {
                Identified::As(who, _) => Ok((row, who)),
                Identified::Refused(refusal, _) => Err(self.refused_as(caller.actor(), act, None, refusal).await),
            };
        }
        // The submitter comes by the right that the job was submitted with; it is decided about again.
        if caller.acting.is_none()
            && login == row.login_user
            && let Ok(who) = who(&row)
        {
            return Ok((row, who));
        }
        let refusal = Refusal {
            rule: "files_as_user".to_owned(),
            value: row.user.clone(),
            text: format!("the files of job {job} are {}'s, and you are {as_now} here", row.user),
            hint: format!("files are read as the job's user: act as {} if you may (`stead as`)", row.user),
        };
        Err(self.refused_as(caller.actor(), act, None, refusal).await)
    }

    /// Where the job has a folder: on each worker, of the account that it ran as there last.
    async fn file_places(&self, row: &JobRow, who: &Who, worker: Option<&str>) -> Result<Vec<FilePlace>, ServiceError> {
        let mut ran: BTreeMap<String, String> = BTreeMap::new();
        for session in self.store.sessions(row.id).await? {
            if session.purpose == Purpose::Run && session.started_at.is_some() {
                ran.insert(session.worker, session.account);
            }
        }
        let place = |(worker, account): (String, String)| FilePlace {
            who: who.clone(),
            job: row.id,
            name: row.name.clone(),
            worker,
            account,
        };
        let places: Vec<FilePlace> =
            ran.into_iter().filter(|(name, _)| worker.is_none_or(|wanted| wanted == name)).map(place).collect();
        match (places.is_empty(), worker) {
            (false, _) => Ok(places),
            (true, Some(worker)) => Err(ServiceError::input("worker", format!("the job never ran on {worker:?}"))),
            (true, None) => Err(ServiceError::FilesAway("the job has not run yet: it has no folder".to_owned())),
        }
    }

    /// Those that have the file; all, where that can't be said.
    async fn having(&self, places: Vec<FilePlace>, path: &str) -> Vec<FilePlace> {
        let stat = || FileWork::Stat { path: path.to_owned() };
        let told = join_all(places.iter().map(|place| self.dispatcher.file_work(place, Root::Job, stat()))).await;
        let is_missing = |told: &_| matches!(told, Ok(FileAnswer::Refused { rule: FileRule::Missing, .. }));
        if told.iter().all(is_missing) {
            return places.into_iter().take(1).collect();
        }
        places.into_iter().zip(&told).filter(|(_, told)| !is_missing(told)).map(|(place, _)| place).collect()
    }

    /// What was refused is on record, whoever refused it.
    async fn file_refused(
        &self,
        caller: &Caller,
        act: Act,
        row: &JobRow,
        path: &str,
        error: FileError,
    ) -> ServiceError {
        let (rule, text) = match &error {
            FileError::Refused(refusal) => (refusal.rule.clone(), refusal.text.clone()),
            FileError::Answer { rule, text } => (rule.as_str().to_owned(), text.clone()),
            _ => return error.into(),
        };
        let actor = caller.actor().for_user(&row.user);
        let record = Record::refused(act, actor).job(row.id).with("path", path);
        match self.audit.refusal(record.with("rule", rule).with("why", text)).await {
            Ok(()) => error.into(),
            Err(error) => error.into(),
        }
    }
}

fn is_missing(error: &FileError) -> bool {
    matches!(error, FileError::Answer { rule: FileRule::Missing, .. })
}

fn looker(caller: &Caller, job: u64) -> Looker {
    let login = caller.principal.login_user.as_str();
    let user = caller.acting.as_ref().map_or(login, |acting| acting.user.as_str());
    Looker { login_user: login.to_owned(), user: user.to_owned(), job }
}

fn of_several(places: &[FilePlace]) -> ServiceError {
    let names: Vec<&str> = places.iter().map(|p| p.worker.as_str()).collect();
    ServiceError::input("worker", format!("the job ran on {} workers: name one of {}", names.len(), names.join(", ")))
}

/// Entries by name and worker.
#[derive(Debug, Default)]
struct Seen {
    entries: BTreeMap<(String, String), Entry>,
    /// Where a worker stopped, there is more after the least of these.
    until: Option<String>,
    asked: bool,
}

impl Seen {
    fn add(&mut self, worker: &str, entries: Vec<Entry>, more: bool) {
        self.asked = true;
        if let Some(last) = entries.last().filter(|_| more) {
            let until = self.until.take().map_or_else(|| last.name.clone(), |u| u.min(last.name.clone()));
            self.until = Some(until);
        }
        self.entries.extend(entries.into_iter().map(|e| ((e.name.clone(), worker.to_owned()), e)));
    }

    fn is_empty(&self) -> bool {
        !self.asked
    }

    /// In the order of names; a name is never parted from the same one elsewhere.
    fn merged(self, limit: usize) -> (Vec<FileView>, bool) {
        let (mut views, mut more): (Vec<FileView>, bool) = (Vec::new(), self.until.is_some());
        for ((name, worker), entry) in self.entries {
            let is_behind = self.until.as_ref().is_some_and(|until| name > *until);
            let is_full = views.len() >= limit && views.last().is_none_or(|last| last.name != name);
            if is_behind || is_full {
                more = true;
                break;
            }
            views.push(FileView::of(entry, worker));
        }
        (views, more)
    }
}

impl FileError {
    /// An answer that isn't the one that was asked for.
    pub(crate) fn of(answer: FileAnswer) -> Self {
        match answer {
            FileAnswer::Refused { rule, text } => Self::Answer { rule, text },
            _ => Self::Lost("the session for file work answered something else than it was asked".to_owned()),
        }
    }
}

impl From<FileError> for ServiceError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Refused(refusal) => Self::Refused(refusal),
            FileError::NoRoom(refusal) => Self::NoRoom(refusal),
            FileError::Away(why) | FileError::Lost(why) => Self::FilesAway(why),
            FileError::Answer { rule, text } => Self::File { rule, text },
            FileError::Dispatch(error) => super::of_dispatch(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warrant::files::EntryKind;

    fn entries(names: &[&str]) -> Vec<Entry> {
        let entry =
            |name: &&str| Entry { name: (*name).to_owned(), kind: EntryKind::File, size: 0, modified_us: 0, mode: 0 };
        names.iter().map(entry).collect()
    }

    #[test]
    fn what_several_workers_have_is_one_list_without_a_gap() {
        let of = |seen: Seen, limit| {
            let (views, more) = seen.merged(limit);
            (views.iter().map(|v| format!("{}@{}", v.name, v.worker)).collect::<Vec<_>>().join(" "), more)
        };
        let mut seen = Seen::default();
        seen.add("w1", entries(&["a", "c"]), true);
        seen.add("w2", entries(&["a", "b", "d"]), false);
        // w1 may have something between c and d.
        assert_eq!(of(seen, 10), ("a@w1 a@w2 b@w2 c@w1".to_owned(), true));
        let mut seen = Seen::default();
        seen.add("w1", entries(&["a"]), false);
        seen.add("w2", entries(&["a", "b"]), false);
        assert_eq!(of(seen, 1), ("a@w1 a@w2".to_owned(), true));
        let mut seen = Seen::default();
        seen.add("w1", Vec::new(), false);
        assert!(!seen.is_empty());
        assert_eq!(of(seen, 1), (String::new(), false));
    }
}
