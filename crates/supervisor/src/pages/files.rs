//! Style, scripts and pictures: for anybody, and kept by browsers, since their address changes with them.

use crate::api::ApiError;
use crate::error::ServiceError;
use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};

pub(super) async fn asset(Path(name): Path<String>) -> Result<Response, ApiError> {
    let asset = web::assets::find(&name).ok_or(ServiceError::NoSuchPage)?;
    let mut response = asset.bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Ok(response)
}
