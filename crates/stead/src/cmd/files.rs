//! `files`: what lies in a job's folder, listed or taken, as the job's user.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::copy_output;
use crate::cli::Files;
use crate::client::{Client, with_query};
use crate::failure::Failure;
use crate::model::{self, FileEntry, FilesPage};
use crate::out::{self, Target};

pub(crate) async fn files(options: &Files) -> Result<(), Failure> {
    let client = Client::of(&options.common)?;
    let path = options.path.as_deref().map(|path| path.trim_end_matches('/').to_owned());
    let place = vec![("path", path), ("worker", options.worker.clone())];
    match options.output.as_deref() {
        None => list(&client, options, place).await,
        Some(to) => {
            let path = with_query(&format!("/api/v1/jobs/{}/file", options.job), &place);
            match to {
                to if to == Path::new("-") => copy_output(&client, &path).await,
                to if to.is_dir() => {
                    let name = options.path.as_deref().and_then(|p| Path::new(p).file_name()).unwrap_or_default();
                    save(&client, &path, &to.join(name)).await
                }
                to => save(&client, &path, to).await,
            }
        }
    }
}

/// All pages of a folder.
async fn list(client: &Client, options: &Files, place: Vec<(&str, Option<String>)>) -> Result<(), Failure> {
    let mut after = None;
    let mut entries: Vec<FileEntry> = Vec::new();
    loop {
        let mut query = place.clone();
        query.extend([("limit", Some("500".to_owned())), ("after", after)]);
        let answer: Value = client.get(&with_query(&format!("/api/v1/jobs/{}/files", options.job), &query)).await?;
        if options.common.json {
            out::json(&answer);
        }
        let page: FilesPage = model::read(&answer)?;
        for missing in &page.unreached {
            out::note(format!("{} has files of it, too: {}", missing.worker, missing.why));
        }
        after = page.entries.last().map(|e| e.name.clone());
        entries.extend(page.entries);
        if !page.more || after.is_none() {
            break;
        }
    }
    if options.common.json {
        return Ok(());
    }
    if entries.is_empty() {
        out::note("nothing is there");
        return Ok(());
    }
    let shown = |e: FileEntry| {
        let mark = if e.kind == "folder" { "/" } else { "" };
        let size = if e.kind == "file" { out::bytes(e.size) } else { e.kind };
        vec![e.mode, size, out::time(Some(&e.modified_at)), e.worker, out::plain(&e.name) + mark]
    };
    let rows: Vec<Vec<String>> = entries.into_iter().map(shown).collect();
    out::say(out::listing(&["MODE", "SIZE", "CHANGED", "WORKER", "NAME"], &rows, None, &Target::stdout()));
    Ok(())
}

/// Into a new file; what came of one that broke off is taken away again.
async fn save(client: &Client, path: &str, to: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "write", path: to.to_owned(), source };
    let mut body = client.stream(path).await?.into_body();
    let mut file = File::create_new(to).map_err(failed)?;
    let copied = copy(&mut body, &mut file).await;
    if copied.is_err() {
        let _ = std::fs::remove_file(to);
    }
    copied.map_err(|e| e.unwrap_or_else(failed))
}

async fn copy(body: &mut Incoming, file: &mut File) -> Result<(), Result<Failure, std::io::Error>> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Ok(Failure::Broken(e.to_string())))?;
        if let Some(data) = frame.data_ref() {
            file.write_all(data).map_err(Err)?;
        }
    }
    Ok(())
}
