//! At submission: login user → user.

use crate::people::{self, Acting, For, NoRight, People};
use crate::types::{Effect, Identified, Principal, Refusal, Request, Trail, Via, Who};
use warrant::User;

const ROOT: &str = "root";

/// What the farm as a whole looks like when a job is submitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FarmFacts {
    /// No worker runs jobs as their user, so that the user is a name in the record and never an account.
    pub only_proxy: bool,
}

/// As whom the job is submitted, or the rule that refused.
pub fn identify(
    principal: &Principal,
    acting: Option<&Acting>,
    request: &Request,
    farm: FarmFacts,
    people: &People,
    now: i64,
) -> Identified {
    let mut trail = Trail::default();
    let login = &principal.login_user;
    trail.note(
        "login_user",
        Effect::Selects,
        format!("the login user is {login}: said by the channel, not by the request"),
        &principal.source,
    );
    let who = match acting {
        Some(acting) => proxied(principal, acting, request, people, now, &mut trail),
        None => people::able(login, people).and_then(|()| own(principal, request, farm, people, &mut trail)),
    };
    match who {
        Ok(who) => Identified::As(who, trail.0),
        Err(refusal) => Identified::Refused(trail.stop(Effect::Refuses, "built-in rule", refusal), trail.0),
    }
}

/// By a grant, which may be for some jobs only.
fn proxied(
    principal: &Principal,
    acting: &Acting,
    request: &Request,
    people: &People,
    now: i64,
    trail: &mut Trail,
) -> Result<Who, Refusal> {
    let login = &principal.login_user;
    if let Some(asked) = request.user.as_deref().filter(|asked| *asked != acting.user.as_str()) {
        return Err(Refusal {
            rule: "acting_and_user".into(),
            value: asked.escape_debug().to_string(),
            text: format!("{login} acts as {} and names {asked:?} as the user too", acting.user),
            hint: "leave --user out, or `stead as --clear` first".into(),
        });
    }
    let wanted = For { job: request.job.as_deref(), place: None };
    let grant = people::acts(login, &acting.user, wanted, people, now).map_err(NoRight::refusal)?.id;
    let who = Who { login_user: login.clone(), user: acting.user.clone(), via: Via::Grant, grant: Some(grant) };
    people::note(trail, &who, who.grant);
    Ok(who)
}

fn own(
    principal: &Principal,
    request: &Request,
    farm: FarmFacts,
    people: &People,
    trail: &mut Trail,
) -> Result<Who, Refusal> {
    let login = &principal.login_user;
    let (user, via) = match &request.user {
        None => (User::themself(login), Via::Own),
        Some(asked) => named(principal, asked, people)?,
    };
    let who = Who { login_user: login.clone(), user, via, grant: None };
    if who.user.as_str() == ROOT {
        if request.user.is_none() && farm.only_proxy {
            trail.note(
                "own_user",
                Effect::Selects,
                "the job is root's; every worker here runs jobs under its proxy account, never as root".into(),
                "workers' proxy_execution_mode",
            );
            return Ok(who);
        }
        return Err(Refusal {
            rule: "root_is_no_identity".into(),
            value: who.user.to_string(),
            text: "root administers a farm but never runs a job".into(),
            hint: "say as whom: --user NAME; or run under a shared account: --mode proxy --proxy-account NAME (or \
                   throwaway)"
                .into(),
        });
    }
    match (who.via, &request.user) {
        (Via::Own, None) => trail.note(
            "own_user",
            Effect::Selects,
            format!("the user is {}: whoever submits, runs", who.user),
            "default",
        ),
        (Via::Own, Some(_)) => {
            trail.note("own_user", Effect::Selects, format!("the user is {}, who submits", who.user), "request");
        }
        _ => people::note(trail, &who, None),
    }
    Ok(who)
}

fn named(principal: &Principal, asked: &str, people: &People) -> Result<(User, Via), Refusal> {
    let user = User::parse(asked).map_err(|e| Refusal {
        rule: "user_name".into(),
        value: asked.escape_debug().to_string(),
        text: format!("{asked:?} is no user name: {e}"),
        hint: "give the name of an account as `id NAME` knows it".into(),
    })?;
    if user.as_str() == principal.login_user.as_str() {
        return Ok((user, Via::Own));
    }
    if principal.is_operator {
        people::nameable(&user, people)?;
        return Ok((user, Via::Operator));
    }
    let via = people::may_name(&principal.login_user, principal.roles, &user, people)?;
    Ok((user, via))
}
