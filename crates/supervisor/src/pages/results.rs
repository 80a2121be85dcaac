//! What a job left behind: its folder, with pictures shown as pictures. Everything here is read by a session under the
//! account that the job had (`service::files`), never by the supervisor, and for whoever may have the job's files.
//!
//! What is shown as a picture begins as one: its name says nothing. Only kinds without scripts are, and only so many
//! bytes; anything else is taken as a file, which no browser opens as a page of this site.

use super::job::{head, size};
use super::jobs::quoted;
use super::{Fields, Html, Visit, natural, reason, see, text, times};
use crate::api::{ApiError, App, JobId, handed_out};
use crate::error::ServiceError;
use crate::service::{FileQuery, FilesQuery, TOGETHER};
use crate::views::{FileView, FilesView};
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::Purpose;
use web::pages::{ResultFile, ResultsPage, Tab};
use web::{Frame, Nav, Text};

/// Bytes of the largest picture that is shown.
const PICTURE_MAX: u64 = 32 << 20;
/// Of one that a sheet shows by itself; a larger one comes when it is asked for.
const AT_SIGHT_MAX: u64 = 8 << 20;

pub(super) async fn page(
    State(app): State<App>,
    visit: Visit,
    id: JobId,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let id = id.0;
    // Asked for by its tab: where all that there is lies in one folder, that one is meant.
    let is_plain = query.is_empty();
    let fields = Fields(query);
    let get = |name| fields.get(name).unwrap_or_default().to_owned();
    let head = head(&app, &visit, id, Tab::Results).await?;
    let (workers, accounts) = ran(&app, id).await?;
    let mut worker = get("worker");
    if worker.is_empty() && workers.len() > TOGETHER {
        workers[0].as_str().clone_into(&mut worker);
    }
    let mut page = ResultsPage {
        frame: frame(&visit, id, &head.name, &get("path")),
        read_as: None,
        head,
        workers: if workers.len() > 1 { workers } else { Vec::new() },
        worker: worker.clone(),
        path: get("path"),
        problem: None,
        folders: Vec::new(),
        pictures: Vec::new(),
        files: Vec::new(),
        more_after: None,
        is_later: fields.get("after").is_some(),
        unreached: Vec::new(),
    };
    let worker = Some(worker).filter(|w| !w.is_empty());
    let asked = FilesQuery { path: get("path"), after: get("after"), worker, ..FilesQuery::default() };
    let mut status = StatusCode::OK;
    match app.service.files(&visit.caller, id, asked).await {
        Ok(view) => {
            fill(&mut page, view);
            if let ([folder], [], true) = (&page.folders[..], &page.pictures[..], is_plain) {
                return Ok(see(&page.folder(folder)));
            }
            page.read_as = read_as(&page, &accounts);
            let shown = page.pictures.iter().filter(|p| !p.is_heavy);
            let shown: BTreeSet<(String, String)> = shown.map(|p| (p.worker.clone(), p.name.clone())).collect();
            if !shown.is_empty() {
                app.service.open_sheet(&visit.caller, id, &page.path, shown).await?;
            }
        }
        Err(error @ ServiceError::NoSuchJob(_)) => return Err(error.into()),
        Err(error) => {
            let error = ApiError::from(error);
            (page.problem, status) = (Some(reason(&error)), error.status);
        }
    }
    let mut response = Html::of(&page)?.into_response();
    *response.status_mut() = status;
    Ok(response)
}

fn frame(visit: &Visit, id: u64, name: &Text, path: &str) -> Frame {
    let api = format!("/api/v1/jobs/{id}/files");
    let (api, cli) = match path {
        "" => (api, format!("stead files {id}")),
        path => (format!("{api}?path={}", web::encoded(path)), format!("stead files {id} {}", quoted(path))),
    };
    let mut frame = visit.frame(format!("{id} {name}: results"), Nav::Jobs);
    frame.live = Some(format!("/events?job={id}"));
    // A look at files is on record, and costs a session: only the head is fetched again.
    frame.refresh = Some(format!("/jobs/{id}/head"));
    Frame { api: Some(api.into()), cli: Some(cli.into()), ..frame }
}

/// Where it ran, in the order of counting, and as which account there last.
async fn ran(app: &App, id: u64) -> Result<(Vec<Text>, BTreeMap<String, String>), ApiError> {
    let sessions = app.service.store.sessions(id).await.map_err(ServiceError::from)?;
    let ran = sessions.into_iter().filter(|s| s.purpose == Purpose::Run && s.started_at.is_some());
    let accounts: BTreeMap<String, String> = ran.map(|s| (s.worker, s.account)).collect();
    let mut names: Vec<Text> = accounts.keys().map(Text::from).collect();
    names.sort_by_cached_key(|name| natural(name.as_str()));
    Ok((names, accounts))
}

/// As whom what is shown was read; nobody is named where it was more than one.
fn read_as(page: &ResultsPage, accounts: &BTreeMap<String, String>) -> Option<Text> {
    let of = |(worker, _): &(&String, &String)| page.worker.is_empty() || **worker == page.worker;
    let names: BTreeSet<&String> = accounts.iter().filter(of).map(|(_, account)| account).collect();
    names.first().filter(|_| names.len() == 1).map(|name| text(name))
}

fn fill(page: &mut ResultsPage, view: FilesView) {
    page.more_after = view.entries.last().filter(|_| view.more).map(|last| last.name.clone());
    page.unreached = view.unreached.iter().map(|u| (text(&u.worker), text(&u.why))).collect();
    let mut entries = view.entries;
    // What sessions keep there, and what programs hide.
    entries.retain(|e| !e.name.starts_with('.'));
    // Workers that share a folder have the same file: it is shown once.
    let mut seen = BTreeSet::new();
    entries.retain(|e| {
        seen.insert((e.name.clone(), e.kind, (e.kind != "folder").then(|| (e.size, e.modified_at.clone()))))
    });
    let mut times_seen: HashMap<&str, usize> = HashMap::new();
    for entry in &entries {
        *times_seen.entry(&entry.name).or_default() += 1;
    }
    for entry in &entries {
        let file = file(entry, times_seen.get(entry.name.as_str()).is_some_and(|n| *n > 1));
        match entry.kind {
            "folder" => page.folders.push(file),
            "file" if looks_like_one(entry) => page.pictures.push(file),
            _ => page.files.push(file),
        }
    }
}

fn file(entry: &FileView, is_on_several: bool) -> ResultFile {
    ResultFile {
        name: entry.name.clone(),
        shown: text(&entry.name),
        kind: entry.kind,
        size: size(entry.size),
        modified: times(&entry.modified_at),
        worker: entry.worker.clone(),
        is_on_several,
        is_heavy: entry.size > AT_SIGHT_MAX,
    }
}

/// Worth asking for as a picture; whether it is one, its first bytes say.
fn looks_like_one(entry: &FileView) -> bool {
    let end = entry.name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).unwrap_or_default();
    matches!(end.as_str(), "png" | "jpg" | "jpeg" | "gif" | "webp") && (1..=PICTURE_MAX).contains(&entry.size)
}

/// What it begins as.
fn kind_of(first: &[u8]) -> Option<&'static str> {
    match first {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

pub(super) async fn picture(
    State(app): State<App>,
    visit: Visit,
    id: JobId,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let fields = Fields(query);
    let path = fields.get("path").unwrap_or_default().to_owned();
    let wrong = |problem: String| ApiError::from(ServiceError::input("path", problem));
    let worker = fields.get("worker").map(str::to_owned);
    let asked = FileQuery { path: path.clone(), worker, length: Some(PICTURE_MAX), ..FileQuery::default() };
    let (file, first) = app.service.open_picture(&visit.caller, id.0, asked).await?;
    if file.size() > PICTURE_MAX {
        let (size, max) = (size(file.size()), size(PICTURE_MAX));
        return Err(wrong(format!("it has {size}, and no picture of more than {max} is shown: take it as a file")));
    }
    let kind =
        kind_of(&first).ok_or_else(|| wrong("it begins as no PNG, JPEG, GIF or WebP: take it as a file".into()))?;
    let whole = file.size();
    let mut response = Response::new(handed_out(app, visit.caller, id.0, file, first));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, whole.into());
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::kind_of;

    #[test]
    fn pictures_are_what_they_begin_as() {
        assert_eq!(kind_of(b"\x89PNG\r\n\x1a\nrest"), Some("image/png"));
        assert_eq!(kind_of(b"\xff\xd8\xff\xe0"), Some("image/jpeg"));
        assert_eq!(kind_of(b"GIF89a"), Some("image/gif"));
        assert_eq!(kind_of(b"RIFF\x01\x02\x03\x04WEBPVP8 "), Some("image/webp"));
        for other in [&b""[..], b"\x89PNG", b"<svg xmlns='http://www.w3.org/2000/svg'>", b"<html>", b"GIF88a", b"RIFF"]
        {
            assert_eq!(kind_of(other), None, "{other:?}");
        }
    }
}
