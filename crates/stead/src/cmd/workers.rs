//! `worker list` and `worker drain`.

use serde_json::{Value, json};

use crate::cli::{Asking, Drain};
use crate::client::{Client, escape};
use crate::failure::Failure;
use crate::model::{self, Worker};
use crate::out::{self, Target};

pub(crate) async fn list(options: &Asking) -> Result<(), Failure> {
    let client = Client::of(options)?;
    let answer: Value = client.get("/api/v1/workers").await?;
    if options.json {
        out::json(&answer);
        return Ok(());
    }
    let workers: Vec<Worker> = model::read(&answer)?;
    if workers.is_empty() {
        out::note("no workers");
        return Ok(());
    }
    let rows: Vec<_> = workers
        .iter()
        .map(|w| {
            let mode = match w.proxy_account.as_ref().or(w.owner.as_ref()) {
                Some(account) => format!("{} ({account})", w.mode),
                None => w.mode.clone(),
            };
            vec![
                w.state.clone(),
                w.name.clone(),
                mode,
                format!("{}/{}", w.used, w.slots),
                w.load.map_or_else(|| "-".to_owned(), |load| format!("{load:.2}")),
                w.settings.clone(),
                w.reason.clone().unwrap_or_default(),
            ]
        })
        .collect();
    out::say(out::listing(
        &["STATE", "WORKER", "MODE", "SLOTS", "LOAD", "SETTINGS", "REASON"],
        &rows,
        Some(0),
        &Target::stdout(),
    ));
    Ok(())
}

pub(crate) async fn drain(options: &Drain) -> Result<(), Failure> {
    let client = Client::of(&options.common)?;
    let path = format!("/api/v1/workers/{}/drain", escape(&options.name));
    let answer: Value = client.post(&path, &json!({"drained": !options.undo})).await?;
    if options.common.json {
        out::json(&answer);
    } else if options.undo {
        out::say(format!("{} takes jobs again", options.name));
    } else {
        out::say(format!("{} finishes what it runs and takes nothing new", options.name));
    }
    Ok(())
}
