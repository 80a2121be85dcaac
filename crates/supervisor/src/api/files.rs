//! What lies in a job's folder: listed, and handed out byte by byte.

use super::describe::{Contents, Made};
use super::{Answer, ApiError, App, Asked, Caller, JobId};
use crate::service::{FileQuery, FilesQuery, OpenFile};
use crate::views::FilesView;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often it is asked again whether a long file may go on.
const LOOK: Duration = Duration::from_secs(2);

pub(super) async fn files(
    State(app): State<App>,
    caller: Caller,
    id: JobId,
    Asked(query): Asked<FilesQuery>,
) -> Answer<FilesView> {
    Ok(Json(app.service.files(&caller, id.0, query).await?))
}

pub(super) async fn file(
    State(app): State<App>,
    caller: Caller,
    id: JobId,
    Asked(query): Asked<FileQuery>,
) -> Result<Made<Contents>, ApiError> {
    let name = query.path.rsplit('/').next().unwrap_or_default().to_owned();
    let (file, first) = app.service.open_file(&caller, id.0, query).await?;
    let size = file.size();
    let mut response = Response::new(handed_out(app, caller, id.0, file, first));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind_of(&name)));
    // Somebody else's file is never a page of this site.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-stead-size", size.into());
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')).collect();
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{plain}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response.into())
}

/// Pictures may be shown where a page asks for a picture; everything else is only taken.
fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).as_deref() {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("avif") => "image/avif",
        _ => "application/octet-stream",
    }
}

/// The first piece and those behind it, for as long as the caller may have them. An end before the end is an error, so
/// that nobody takes a part for the whole.
pub(crate) fn handed_out(app: App, caller: Caller, job: u64, mut file: OpenFile, first: Vec<u8>) -> Body {
    let (to_client, pieces) = mpsc::channel::<io::Result<Bytes>>(2);
    tokio::spawn(async move {
        let mut asked = Instant::now();
        let mut piece = first;
        while !piece.is_empty() {
            if to_client.send(Ok(piece.into())).await.is_err() {
                return;
            }
            if asked.elapsed() >= LOOK {
                asked = Instant::now();
                let service = &app.service;
                let may =
                    caller.is_still(&service.identity, &app.authn).await && service.open_to(&caller, job).await.is_ok();
                if !may {
                    let _ = to_client.send(Err(io::ErrorKind::PermissionDenied.into())).await;
                    return;
                }
            }
            piece = match app.service.next_piece(&mut file).await {
                Ok(piece) => piece,
                Err(error) => {
                    tracing::warn!(job, %error, "a file was not handed out to its end");
                    let _ = to_client.send(Err(io::Error::other(error))).await;
                    return;
                }
            };
        }
    });
    Body::from_stream(futures_util::stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    }))
}
