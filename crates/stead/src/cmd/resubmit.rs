//! `resubmit`: a new job like one that is there.

use serde_json::{Value, json};

use crate::cli::Resubmit;
use crate::client::Client;
use crate::failure::Failure;
use crate::out;

pub(crate) async fn resubmit(options: &Resubmit) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?.acting_as(options.acting_as.as_deref())?;
    let answer: Value = client.post(&format!("/api/v1/jobs/{}/resubmit", options.job), &json!({})).await?;
    if options.common.json {
        out::json(&answer);
    } else {
        out::say(format!("job {}", answer["job"]));
    }
    Ok(())
}
