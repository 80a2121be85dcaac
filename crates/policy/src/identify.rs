//! At submission: login user → user.

use crate::types::{Effect, Identified, Principal, Refusal, Request, Trail, Who};
use warrant::User;

const ROOT: &str = "root";

/// What the farm as a whole looks like when a job is submitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FarmFacts {
    /// No worker runs jobs as their user, so that the user is a name in the record and never an account.
    pub only_proxy: bool,
}

/// As whom the job is submitted, or the rule that refused.
pub fn identify(principal: &Principal, request: &Request, farm: FarmFacts) -> Identified {
    let mut trail = Trail::default();
    let login = &principal.login_user;
    trail.note(
        "login_user",
        Effect::Selects,
        format!("the login user is {login}: said by the channel, not by the request"),
        &principal.source,
    );
    match user(principal, request, farm, &mut trail) {
        Ok(user) => Identified::As(Who { login_user: login.clone(), user, grant: None }, trail.0),
        Err(refusal) => Identified::Refused(trail.stop(Effect::Refuses, "built-in rule", refusal), trail.0),
    }
}

fn user(principal: &Principal, request: &Request, farm: FarmFacts, trail: &mut Trail) -> Result<User, Refusal> {
    let login = &principal.login_user;
    if let Some(proxy) = &request.acting_as {
        return Err(Refusal {
            rule: "no_grant".into(),
            value: proxy.clone(),
            text: format!("{login} holds no grant to act as {proxy:?}"),
            hint: "ask an administrator for a grant; this farm has none yet".into(),
        });
    }
    let user = match &request.user {
        None => User::themself(login),
        Some(asked) => impersonated(principal, asked, trail)?,
    };
    if user.as_str() == ROOT {
        if request.user.is_none() && farm.only_proxy {
            trail.note(
                "own_user",
                Effect::Selects,
                "the job is root's; every worker here runs jobs under its proxy account, never as root".into(),
                "workers' proxy_execution_mode",
            );
            return Ok(user);
        }
        return Err(Refusal {
            rule: "root_is_no_identity".into(),
            value: user.to_string(),
            text: "root administers a farm but never runs a job".into(),
            hint: "say as whom: --user NAME; or run under a shared account: --mode proxy --proxy-account NAME (or \
                   throwaway)"
                .into(),
        });
    }
    if request.user.is_none() {
        trail.note("own_user", Effect::Selects, format!("the user is {user}: whoever submits, runs"), "default");
    }
    Ok(user)
}

fn impersonated(principal: &Principal, asked: &str, trail: &mut Trail) -> Result<User, Refusal> {
    let login = &principal.login_user;
    let user = User::parse(asked).map_err(|e| Refusal {
        rule: "user_name".into(),
        value: asked.escape_debug().to_string(),
        text: format!("{asked:?} is no user name: {e}"),
        hint: "give the name of an account as `id NAME` knows it".into(),
    })?;
    if user.as_str() == login.as_str() {
        trail.note("own_user", Effect::Selects, format!("the user is {user}, who submits"), "request");
        return Ok(user);
    }
    let role = match principal.roles {
        roles if roles.admin => "admin",
        roles if roles.impersonate => "impersonate",
        _ => {
            return Err(Refusal {
                rule: "impersonate".into(),
                value: user.to_string(),
                text: format!("{login} may not submit as {user}"),
                hint: "submit without --user, or ask an administrator for the role `impersonate`".into(),
            });
        }
    };
    trail.note(
        "impersonate",
        Effect::Selects,
        format!("the user is {user}: {login} holds the role {role}"),
        "roles of the login user",
    );
    Ok(user)
}
