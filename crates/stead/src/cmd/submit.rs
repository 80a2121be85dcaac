//! `submit`.

use serde_json::{Value, json};

use super::{copy_output, ended, outcome};
use crate::cli::Submit;
use crate::client::Client;
use crate::failure::Failure;
use crate::model::{self, Job};
use crate::out;
use crate::submission::{Sources, request};

/// The job's number, and who was asked.
pub(crate) async fn send(options: &Submit) -> Result<(Client, u64), Failure> {
    let spec = Sources::open(options.template.as_ref(), &options.command, &options.job)?.spec(&options.job)?;
    let client = Client::of(&options.common)?;
    let mut body = request(&spec, &options.job)?;
    if options.blocked {
        body["blocked"] = Value::Bool(true);
    }
    let answer: Value = client.post("/api/v1/jobs", &body).await?;
    let job = answer["job"].as_u64().ok_or_else(|| Failure::Answer(format!("no job number in {answer}")))?;
    Ok((client, job))
}

pub(crate) async fn submit(options: &Submit) -> Result<(), Failure> {
    let (client, job) = send(options).await?;
    if options.common.json {
        out::json(&json!({"job": job}));
    } else if options.follow {
        out::note(format!("job {job}"));
    } else {
        out::say(format!("job {job}"));
    }
    if options.follow {
        copy_output(&client, &format!("/api/v1/jobs/{job}/logs?follow=true")).await?;
    }
    if options.wait || options.follow {
        return outcome(&model::read::<Job>(&ended(&client, job, None).await?)?);
    }
    Ok(())
}
