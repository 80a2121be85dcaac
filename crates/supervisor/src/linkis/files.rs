//! Results and logs of tasks, by the paths that their records name. Nothing is read from any host's disk: other paths
//! are refused with a sentence that says so.

use super::answer::{Answer, said};
use super::guest::Guest;
use super::output;
use super::task::{self, Facts};
use crate::api::{ApiError, App, Asked, Body};
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::logs::Filter;
use axum::body::Body as Content;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use compat_linkis::{BadPath, Column, Format, Kept, Location, Table};
use serde::Deserialize;
use serde_json::{Value, json};
use store::JobRow;

/// Rows of a page unless told.
const PAGE: u64 = 5000;
/// The number of Linkis's for a table.
const TABLE: &str = "2";
/// Lines of a log that are shown: more than fit into the bytes.
const ALL_LINES: u64 = u64::MAX;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileQuery {
    path: String,
    page: Option<u64>,
    page_size: Option<u64>,
    charset: Option<String>,
    output_file_type: Option<String>,
    csv_separator: Option<String>,
    output_file_name: Option<String>,
}

/// What a path names, if the caller may open the job and the path is the one of its record.
struct Found {
    row: JobRow,
    facts: Facts,
    location: Location,
    kept: Kept,
}

async fn find(app: &App, caller: &Caller, path: &str) -> Result<Found, ApiError> {
    let (asked, kept) = Location::parse(path).map_err(bad_path)?;
    let row = app.service.open_to(caller, asked.task).await?;
    let facts = Facts::of(&app.service, &row);
    let location = task::location(&row, &facts);
    // The same answer as for a job that isn't there.
    if location != asked {
        return Err(ServiceError::NoSuchJob(asked.task.to_string()).into());
    }
    Ok(Found { row, facts, location, kept })
}

fn bad_path(error: BadPath) -> ApiError {
    ServiceError::input("path", error).into()
}

/// The files of a task's results; of one that isn't over none yet.
pub(super) async fn tree(State(app): State<App>, Guest(caller): Guest, Asked(query): Asked<FileQuery>) -> Answer {
    let Found { row, facts, location, kept } = find(&app, &caller, &query.path).await?;
    if kept != Kept::Folder {
        return Err(bad_path(BadPath::NotServed(query.path)));
    }
    let files = match task::settled(&row).is_over() {
        true => output::table(&app, &caller, &row, &facts, None).await?.files(),
        false => 0,
    };
    let folder = location.to_string();
    let parent = folder.rsplit_once('/').map_or("", |(parent, _)| parent);
    let leaf = |n: u64| {
        json!({
            "name": Location::file_name(n),
            "path": location.file(n),
            "parentPath": folder,
            "properties": { "size": Value::Null, "modifytime": row.ended_at.map(|at| at / 1000) },
            "isLeaf": true,
            "children": Value::Null,
        })
    };
    let children: Vec<Value> = (0..files).map(leaf).collect();
    Ok(said(json!({ "dirFileTrees": {
        "name": row.id.to_string(),
        "path": folder,
        "parentPath": parent,
        "properties": Value::Null,
        "isLeaf": false,
        "children": children,
    }})))
}

/// A result's table; that somebody looks at it, or takes it, is on record before it is read.
async fn opened(app: &App, caller: &Caller, query: &FileQuery, is_taken: bool) -> Result<(Found, Table), ApiError> {
    readable(query.charset.as_deref())?;
    let found = find(app, caller, &query.path).await?;
    let Kept::File(n) = found.kept else { return Err(bad_path(BadPath::NotServed(query.path.clone()))) };
    let scope = app.service.log_scope(caller, found.row.id, None, None).await?;
    match is_taken {
        true => app.service.downloads(caller, &scope, &query.path).await?,
        false => app.service.views_log(caller, &scope).await?,
    }
    let table = output::table(app, caller, &found.row, &found.facts, Some(n)).await?;
    if n >= table.files() {
        return Err(ServiceError::input("path", format!("the task has {} result files", table.files())).into());
    }
    Ok((found, table))
}

/// What jobs print is taken as UTF-8.
fn readable(charset: Option<&str>) -> Result<(), ApiError> {
    match charset.unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "utf8" | "utf-8" => Ok(()),
        other => Err(ServiceError::input("charset", format!("{other:?} is not utf-8, which all output is")).into()),
    }
}

pub(super) async fn open(State(app): State<App>, Guest(caller): Guest, Asked(query): Asked<FileQuery>) -> Answer {
    let (_, table) = opened(&app, &caller, &query, false).await?;
    let (page, size) = (query.page.unwrap_or(1).max(1), query.page_size.unwrap_or(PAGE).max(1));
    let columns = table.columns();
    let rows = table.into_rows();
    let total = rows.len();
    let skip = usize::try_from((page - 1).saturating_mul(size)).unwrap_or(usize::MAX);
    let rows: Vec<_> = rows.into_iter().skip(skip).take(usize::try_from(size).unwrap_or(usize::MAX)).collect();
    Ok(said(json!({
        "totalColumn": columns.len(),
        "metadata": columns,
        "fileContent": rows,
        "type": TABLE,
        "totalLine": total,
        "page": page,
        "totalPage": 0,
    })))
}

pub(super) async fn open_log(State(app): State<App>, Guest(caller): Guest, Asked(query): Asked<FileQuery>) -> Answer {
    let Found { row, kept, .. } = find(&app, &caller, &query.path).await?;
    if kept != Kept::Log {
        return Err(bad_path(BadPath::NotServed(query.path)));
    }
    let scope = app.service.log_scope(&caller, row.id, None, None).await?;
    app.service.views_log(&caller, &scope).await?;
    let lines = output::lines(&app, &caller, row.id, (0, ALL_LINES)).await?;
    let mut text = lines.text;
    if lines.is_cut {
        text.push_str("\n[stead: the log goes on; download it to have all of it]");
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&last_line(&row));
    Ok(said(json!({ "log": ["", "", "", text] })))
}

/// Clients know by such a line that a log is complete.
fn last_line(row: &JobRow) -> String {
    let state = task::settled(row);
    let word = match state {
        job::JobState::Complete => "Congratulations. Your job completed with status Success.",
        state if state.is_over() => "Sorry. Your job completed with a status Failed. You can view logs for the reason.",
        _ => return String::new(),
    };
    format!("INFO {word}\n")
}

/// The rows of a file as CSV.
pub(super) async fn export(
    State(app): State<App>,
    Guest(caller): Guest,
    Asked(query): Asked<FileQuery>,
) -> Result<Response, ApiError> {
    match query.output_file_type.as_deref() {
        None | Some("csv") => {}
        Some(other) => {
            let problem = format!("{other:?} is not served yet: csv is");
            return Err(ServiceError::input("outputFileType", problem).into());
        }
    }
    if query.csv_separator.as_deref().is_some_and(|separator| !matches!(separator, "" | "," | "%2C")) {
        return Err(ServiceError::input("csvSeparator", "another than a comma is not served yet").into());
    }
    let (found, table) = opened(&app, &caller, &query, true).await?;
    let columns = table.columns();
    let text = compat_linkis::csv(&columns, &table.into_rows());
    let name = query.output_file_name.unwrap_or_else(|| format!("{}.csv", found.row.id));
    Ok(attached(Content::from(text), &name, "text/csv; charset=utf-8"))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Download {
    path: String,
    charset: Option<String>,
}

/// A log as it is, or a result as its rows.
pub(super) async fn download(
    State(app): State<App>,
    Guest(caller): Guest,
    Body(asked): Body<Download>,
) -> Result<Response, ApiError> {
    let query = FileQuery { path: asked.path, charset: asked.charset, ..FileQuery::default() };
    readable(query.charset.as_deref())?;
    let found = find(&app, &caller, &query.path).await?;
    let id = found.row.id;
    match found.kept {
        Kept::Folder => Err(bad_path(BadPath::NotServed(query.path))),
        Kept::Log => {
            let scope = app.service.log_scope(&caller, id, None, None).await?;
            app.service.downloads(&caller, &scope, &query.path).await?;
            let reader = app.service.log_reader(&scope, Filter::default());
            let body = crate::api::logs::output(app, caller, scope, reader, (0, false));
            Ok(attached(body, &format!("{id}.log"), "text/plain; charset=utf-8"))
        }
        Kept::File(n) => {
            let (found, table) = opened(&app, &caller, &query, true).await?;
            let columns: Vec<Column> = match found.facts.format {
                Format::Lines => Vec::new(),
                Format::Csv => table.columns(),
            };
            let text = match found.facts.format {
                Format::Lines => table.into_rows().concat().into_iter().map(|line| line + "\n").collect(),
                Format::Csv => compat_linkis::csv(&columns, &table.into_rows()),
            };
            Ok(attached(Content::from(text), &format!("{id}_{n}.txt"), "text/plain; charset=utf-8"))
        }
    }
}

fn attached(body: Content, name: &str, kind: &'static str) -> Response {
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')).collect();
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}
