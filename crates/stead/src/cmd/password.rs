//! `password`: those of the accounts that jobs run as, which some workers need to log them on.
//!
//! A password is asked for at the terminal or read from standard input, and goes out sealed for the supervisor alone:
//! never as an argument, never in the environment, and nothing between here and there can read it.

use serde::Deserialize;
use serde_json::{Value, json};
use warrant::{Secret, hex, seal, unhex};
use zeroize::Zeroizing;

use crate::cli::{PasswordCommand, PasswordDelete, PasswordHash, PasswordSet};
use crate::client::{Client, escape};
use crate::failure::Failure;
use crate::model;
use crate::out::{self, Target, plain};
use crate::prompt;
use crate::services::keep_to_oneself;

const PAGE: &str = "/api/v1/passwords";
const KEY: &str = "/api/v1/password-key";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Logon {
    account: String,
    state: String,
    proved: bool,
    set_by: Option<String>,
    set_at: Option<String>,
    said_by: Option<String>,
    said_at: Option<String>,
    said: Option<String>,
    right: String,
    why: Option<String>,
}

pub(crate) async fn password(command: &PasswordCommand) -> Result<(), Failure> {
    keep_to_oneself();
    match command {
        PasswordCommand::Set(o) if o.check => check(o).await,
        PasswordCommand::Set(o) if o.display => {
            let client = Client::locate(o.common.data.as_deref())?;
            let account = account(&client, o).await?;
            display(&client, &account, o.password_stdin, o.common.json).await
        }
        PasswordCommand::Set(o) => set(o).await,
        PasswordCommand::List(o) => list(o).await,
        PasswordCommand::Delete(o) => delete(o).await,
        PasswordCommand::RotateKey(o) => rotate(o).await,
        PasswordCommand::Hash(o) => hash(o).await,
    }
}

async fn set(options: &PasswordSet) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    let account = account(&client, options).await?;
    let body = sealed(&client, &account, options.password_stdin).await?;
    let answer: Value = client.put(&format!("{PAGE}/{}", escape(&account)), &body).await?;
    if options.common.json {
        out::json(&answer);
    } else {
        out::say(format!("the password of {} is kept; it is used from the next job on", plain(&account)));
    }
    Ok(())
}

async fn check(options: &PasswordSet) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    let account = account(&client, options).await?;
    let answer: Value = client.post(&format!("{PAGE}/{}/check", escape(&account)), &Value::Null).await?;
    let logon: Logon = model::read(&answer)?;
    if options.common.json {
        out::json(&answer);
    } else {
        out::say(sentence(&logon));
    }
    match logon.right.as_str() {
        "no" => Err(Failure::Reported(1)),
        _ => Ok(()),
    }
}

/// What is known of it, in words.
fn sentence(logon: &Logon) -> String {
    let name = plain(&logon.account);
    let why = logon.why.as_deref().map(plain).unwrap_or_default();
    let now = match (logon.state.as_str(), logon.right.as_str()) {
        ("missing", _) => return format!("the farm has no password of {name}; `stead password set {name}`"),
        (_, "yes") => format!("the password of {name} is right"),
        (_, "no") => format!("the password of {name} is not good: {why}; `stead password set {name}`"),
        _ => format!("whether the password of {name} is right can't be told here: {why}"),
    };
    let said = match (&logon.said_by, &logon.said_at) {
        (Some(by), Some(at)) if by != "supervisor" => {
            let word = logon.said.as_deref().unwrap_or("it is right");
            format!("\n{} said at {}: {}", plain(by), out::time(Some(at)), plain(word))
        }
        (None, _) => "\nno worker has used it yet".to_owned(),
        _ => String::new(),
    };
    now + &said
}

async fn list(common: &crate::cli::Common) -> Result<(), Failure> {
    let client = Client::locate(common.data.as_deref())?;
    let answer: Value = client.get(PAGE).await?;
    if common.json {
        out::json(&answer);
        return Ok(());
    }
    let all: Vec<Logon> = model::read(&answer)?;
    if all.is_empty() {
        out::note("no passwords");
        return Ok(());
    }
    let row = |l: &Logon| {
        vec![
            plain(&l.account),
            if l.state == "current" && !l.proved { "current (not used yet)".to_owned() } else { l.state.clone() },
            out::or_dash(l.set_by.as_deref()),
            out::time(l.set_at.as_deref()),
            out::or_dash(l.said_by.as_deref()),
            out::time(l.said_at.as_deref()),
            out::or_dash(l.said.as_deref()),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let headers = ["ACCOUNT", "STATE", "SET BY", "SET (UTC)", "SAID BY", "SAID (UTC)", "WHY"];
    out::say(out::listing(&headers, &rows, Some(1), &Target::stdout()));
    Ok(())
}

async fn delete(options: &PasswordDelete) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    let account = match &options.account {
        Some(account) => account.clone(),
        None => own(&client).await?,
    };
    let answer: Value = client.delete(&format!("{PAGE}/{}", escape(&account))).await?;
    if options.common.json {
        out::json(&answer);
    } else {
        out::say(format!("the farm has no password of {} any more", plain(&account)));
    }
    Ok(())
}

async fn rotate(common: &crate::cli::Common) -> Result<(), Failure> {
    let client = Client::locate(common.data.as_deref())?;
    let answer: Value = client.post(KEY, &Value::Null).await?;
    if common.json {
        out::json(&answer);
        return Ok(());
    }
    out::say(format!(
        "{} passwords are under the new key {}",
        answer["passwords"],
        plain(answer["key"].as_str().unwrap_or_default())
    ));
    out::note("make each proxy_password of a configuration file anew: `stead password hash ACCOUNT`");
    Ok(())
}

async fn hash(options: &PasswordHash) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    display(&client, &options.account, options.password_stdin, options.common.json).await
}

/// The form that a configuration file takes. Nothing is kept.
async fn display(client: &Client, account: &str, from_stdin: bool, as_json: bool) -> Result<(), Failure> {
    let body = sealed(client, account, from_stdin).await?;
    let answer: Value = client.post(&format!("{PAGE}/{}/seal", escape(account)), &body).await?;
    if as_json {
        out::json(&answer);
    } else {
        out::say(plain(answer["sealed"].as_str().unwrap_or_default()));
    }
    Ok(())
}

/// Whose it is: the one named, else one's own.
async fn account(client: &Client, options: &PasswordSet) -> Result<String, Failure> {
    let account = match options.account.as_ref().or(options.user.as_ref()) {
        Some(account) => account.clone(),
        None => own(client).await?,
    };
    Ok(match &options.domain {
        Some(domain) => format!("{domain}\\{account}"),
        None => account,
    })
}

async fn own(client: &Client) -> Result<String, Failure> {
    let who: Value = client.get("/api/v1/whoami").await?;
    let name = who["login_user"].as_str().filter(|name| !name.is_empty());
    name.map(str::to_owned).ok_or_else(|| Failure::usage("the supervisor doesn't say who you are: name the account"))
}

/// Asks for it, and seals it for the supervisor that answers there.
async fn sealed(client: &Client, account: &str, from_stdin: bool) -> Result<Value, Failure> {
    let key: Value = client.get(KEY).await?;
    let key = key["key"].as_str().and_then(unhex).and_then(|key| <[u8; 32]>::try_from(key).ok());
    let key = key.ok_or_else(|| Failure::Answer("the supervisor's key for passwords is none".into()))?;
    let typed = match from_stdin {
        true => prompt::first_line(std::io::stdin())?,
        false => prompt::new_password(&format!("password of the account {}: ", plain(account)))?,
    };
    let typed = Zeroizing::new(typed);
    let password = Secret::new(typed.as_bytes().to_vec()).map_err(|e| Failure::usage(e.to_string()))?;
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|e| Failure::system("draw random bytes", std::io::Error::other(e)))?;
    let context = [b"stead password to the supervisor 1\0", account.as_bytes()].concat();
    let sealed = seal(&password, &key, &context, seed).map_err(|e| Failure::Answer(e.to_string()))?;
    Ok(json!({ "sealed": hex(&sealed) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_said_in_words() {
        let logon = |state: &str, right: &str, said_by: Option<&str>| Logon {
            account: "ada".into(),
            state: state.into(),
            right: right.into(),
            why: Some("it is wrong".into()),
            said_by: said_by.map(Into::into),
            said_at: Some("2026-11-22T19:00:00Z".into()),
            said: Some("the password of ada is wrong".into()),
            ..Logon::default()
        };
        assert!(sentence(&logon("missing", "no", None)).contains("stead password set ada"));
        assert!(sentence(&logon("current", "yes", None)).contains("no worker has used it yet"));
        let stale = sentence(&logon("stale", "no", Some("w1")));
        assert!(stale.contains("stead password set ada") && stale.contains("w1 said at"), "{stale}");
        assert!(sentence(&logon("current", "unknown", Some("w1"))).contains("can't be told here"));
    }
}
