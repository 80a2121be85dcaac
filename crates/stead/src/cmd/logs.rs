//! `logs`: the bytes a job printed, as it printed them.

use http_body_util::BodyExt;
use serde_json::json;

use super::tasks::{address, resolve};
use crate::cli::Logs;
use crate::client::{Client, with_query};
use crate::failure::Failure;
use crate::out;

pub(crate) async fn logs(options: &Logs) -> Result<(), Failure> {
    let client = Client::locate(options.data.as_deref())?.acting_as(options.acting.acting_as.as_deref())?;
    let address = address(&options.job)?;
    let task = resolve(&client, &address).await?;
    let stream = if options.stdout {
        "stdout"
    } else if options.stderr {
        "stderr"
    } else {
        "all"
    };
    let (step, task) = task.unzip();
    let path = with_query(
        &format!("/api/v1/jobs/{}/logs", address.job),
        &[
            ("step", step),
            ("task", task.map(|t| t.to_string())),
            ("attempt", options.attempt.map(|n| n.to_string())),
            ("stream", Some(stream.into())),
            ("follow", options.follow.then(|| "true".into())),
            ("prefix", options.prefix.then(|| "true".into())),
        ],
    );
    if !options.json {
        return copy_output(&client, &path).await;
    }
    let response = client.stream(&path).await?;
    let end = response.headers().get("x-stead-end").is_none_or(|v| v == "true");
    let body = response.into_body().collect().await.map_err(|e| Failure::Broken(e.to_string()))?.to_bytes();
    out::json(&json!({"job": address.job, "end": end, "text": String::from_utf8_lossy(&body)}));
    Ok(())
}

/// Passes an answer on, byte for byte, as it comes.
pub(crate) async fn copy_output(client: &Client, path: &str) -> Result<(), Failure> {
    let mut body = client.stream(path).await?.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Failure::Broken(e.to_string()))?;
        if let Some(data) = frame.data_ref() {
            out::raw(data);
        }
    }
    Ok(())
}
