//! `login`, `logout`, `sessions` and `tokens`.

use serde_json::{Value, json};

use crate::cli::{Common, Credential, Login, Logout, MakeToken, Sessions, Tokens};
use crate::client::{Client, Place, escape, parse_url, with_query};
use crate::credentials::{Keeper, Kept, may_go_to};
use crate::failure::Failure;
use crate::model;
use crate::out::{self, Target};
use crate::prompt;

/// Where a supervisor of this machine listens unless told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:7878";

pub(crate) async fn login(options: &Login) -> Result<(), Failure> {
    if options.web {
        return web(&Common { json: options.json, data: None }).await;
    }
    let (url, host) = address(options.url.as_deref())?;
    let kept = if options.oidc {
        may_go_to(&host, "what stands for a session")?;
        super::oidc::login(&url, host, &session_name()).await?
    } else {
        may_go_to(&host, "a password")?;
        with_password(options, &url, host).await?
    };
    let (login_user, expires_at) = (kept.login_user.clone(), kept.expires_at.clone());
    Keeper::of_person()?.keep(&url, kept)?;
    if options.json {
        out::json(&json!({ "url": url, "login_user": login_user, "expires_at": expires_at }));
    } else {
        out::say(format!("signed in at {url} as {login_user} until {}", out::time(Some(&expires_at))));
        if std::env::var_os("STEAD_URL").is_none_or(|set| set != url.as_str()) {
            out::note(format!("use it with STEAD_URL={url}"));
        }
    }
    Ok(())
}

/// Says where a browser is signed in as whoever asks. To a terminal only, never to another program's arguments.
pub(crate) async fn web(common: &Common) -> Result<(), Failure> {
    let answer: Value = Client::locate(common.data.as_deref())?.post("/api/v1/login/code", &Value::Null).await?;
    if common.json {
        out::json(&answer);
        return Ok(());
    }
    let text = |key: &str| out::plain(answer[key].as_str().unwrap_or_default());
    out::note(format!(
        "open this in a browser on this machine, within two minutes; it signs {} in, once:",
        text("login_user")
    ));
    out::say(text("url"));
    Ok(())
}

async fn with_password(options: &Login, url: &str, host: String) -> Result<Kept, Failure> {
    let user = match &options.user {
        Some(user) => user.clone(),
        None => own_name()?,
    };
    let password = if options.password_stdin {
        prompt::first_line(std::io::stdin())?
    } else {
        prompt::password(&format!("password of {} at {url}: ", out::plain(&user)))?
    };
    let body = json!({ "user": user, "password": password, "name": session_name() });
    Client::at(Place::Tcp(host)).post("/api/v1/login", &body).await
}

/// How lists of sessions call this one.
fn session_name() -> String {
    let host_name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    format!("stead login{}{host_name}", if host_name.is_empty() { "" } else { " on " })
}

/// Forgets the session here even where it has ended there already.
pub(crate) async fn logout(options: &Logout) -> Result<(), Failure> {
    let (url, host) = address(options.url.as_deref())?;
    let keeper = Keeper::of_person()?;
    let Some(kept) = keeper.get(&url)? else {
        return Err(Failure::usage(format!("nobody is signed in at {url}")));
    };
    let client = Client::at(Place::Tcp(host)).showing(kept.token);
    let ended: Result<Value, Failure> = client.post("/api/v1/logout", &Value::Null).await;
    match ended {
        Ok(_) | Err(Failure::Api { status: 401, .. }) => {}
        Err(failure) => return Err(failure),
    }
    keeper.forget(&url)?;
    if options.json {
        out::json(&json!({ "url": url }));
    } else {
        out::say(format!("signed out at {url}"));
    }
    Ok(())
}

pub(crate) async fn sessions(command: &Sessions) -> Result<(), Failure> {
    match command {
        Sessions::List(options) => list("sessions", &options.common, options.user.as_deref()).await,
        Sessions::Revoke(options) => revoke("sessions", options).await,
    }
}

pub(crate) async fn tokens(command: &Tokens) -> Result<(), Failure> {
    match command {
        Tokens::List(options) => list("tokens", &options.common, options.user.as_deref()).await,
        Tokens::Revoke(options) => revoke("tokens", options).await,
        Tokens::Create(options) => create(options).await,
    }
}

async fn list(what: &str, common: &crate::cli::Common, user: Option<&str>) -> Result<(), Failure> {
    let client = Client::locate(common.data.as_deref())?;
    let path = with_query(&format!("/api/v1/{what}"), &[("user", user.map(Into::into))]);
    let answer: Value = client.get(&path).await?;
    if common.json {
        out::json(&answer);
        return Ok(());
    }
    let all: Vec<model::Credential> = model::read(&answer)?;
    if all.is_empty() {
        out::note(format!("no {what}"));
        return Ok(());
    }
    let rows: Vec<_> = all.iter().map(row).collect();
    let headers = ["ID", "NAME", "SCOPES", "FROM", "MADE (UTC)", "USED (UTC)", "UNTIL (UTC)"];
    out::say(out::listing(&headers, &rows, None, &Target::stdout()));
    Ok(())
}

fn row(c: &model::Credential) -> Vec<String> {
    vec![
        if c.current { format!("{} *", c.id) } else { c.id.to_string() },
        out::or_dash(c.name.as_deref()),
        c.scopes.join(","),
        out::or_dash(c.client.as_deref()),
        out::time(c.created_at.as_deref()),
        out::time(c.last_used_at.as_deref()),
        out::time(c.expires_at.as_deref()),
    ]
}

async fn revoke(what: &str, options: &Credential) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    for id in &options.id {
        let answer: Value = client.delete(&format!("/api/v1/{what}/{}", escape(id))).await?;
        if options.common.json {
            out::json(&answer);
        } else {
            out::say(format!("{id} has ended"));
        }
    }
    Ok(())
}

async fn create(options: &MakeToken) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    let body = json!({ "name": options.name, "scopes": options.scope, "expires": options.expires });
    let answer: Value = client.post("/api/v1/tokens", &body).await?;
    if options.common.json {
        out::json(&answer);
        return Ok(());
    }
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    out::note(format!("token {} until {}: it is shown this once", answer["id"], out::time(Some(&text("expires_at")))));
    out::say(text("token"));
    Ok(())
}

/// The address to sign in at, as it is kept, and its host.
fn address(url: Option<&str>) -> Result<(String, String), Failure> {
    let set = std::env::var("STEAD_URL").ok().filter(|url| !url.is_empty());
    let place = parse_url(url.or(set.as_deref()).unwrap_or(DEFAULT_URL))?;
    match &place {
        Place::Tcp(host) => Ok((place.to_string(), host.clone())),
        Place::Socket(path) => Err(Failure::Usage {
            text: format!("the socket {} needs no sign-in: the kernel says who you are", path.display()),
            hint: Some("`stead whoami` shows it; name an address to sign in at: stead login http://HOST:PORT".into()),
        }),
    }
}

fn own_name() -> Result<String, Failure> {
    let own =
        nix::unistd::User::from_uid(nix::unistd::getuid()).map_err(|e| Failure::system("look up your name", e))?;
    own.map(|own| own.name).ok_or_else(|| Failure::usage("your uid has no name: say whom with --user NAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_signed_in_at() {
        assert_eq!(address(Some("http://127.0.0.1:1/")).expect("address").0, "http://127.0.0.1:1");
        assert_eq!(address(Some("unix:/run/stead/socket")).map_err(|f| f.exit()), Err(2));
        assert_eq!(address(Some("farm")).map_err(|f| f.exit()), Err(2));
    }
}
