//! At dispatch, before every batch, and for `explain`: user × worker → run-as account.

use crate::people::{self, For, Kind, NoRight, People, Person};
use crate::types::{Accept, Decision, Effect, PASSWORD_TRIED, Place, ProxyAccount, Refusal, RunPlan, Trail, Via, Who};
use warrant::{Account, AccountName, LoginUser, Mode, sha256};

/// As whom a job of `who` named `job` would run at `place`, or the rule that refuses or holds it back.
pub fn decide(who: &Who, job: Option<&str>, place: &Place, people: &People, now: i64) -> Decision {
    let mut trail = Trail::default();
    let grant = match people::right(who, For { job, place: Some(place) }, people, now) {
        Ok(grant) => {
            people::note(&mut trail, who, grant);
            grant
        }
        Err(NoRight::Ended(refusal)) => {
            let refusal = trail.stop(Effect::Refuses, "users and grants", refusal);
            return Decision::Blocked(refusal, trail.0);
        }
        Err(NoRight::NotHere(refusal)) => {
            let refusal = trail.stop(Effect::Refuses, "users and grants", refusal);
            return Decision::Refused(refusal, trail.0);
        }
        Err(NoRight::Unknown(refusal)) => {
            let refusal = trail.stop(Effect::Waits, "the directory", refusal);
            return Decision::Waiting(refusal, trail.0);
        }
    };
    let plan = match account(who, place, people, &mut trail) {
        Ok(plan) => RunPlan { grant, ..plan },
        Err(refusal) => {
            let refusal = trail.stop(Effect::Refuses, &source(place), refusal);
            return Decision::Refused(refusal, trail.0);
        }
    };
    if let Some(refusal) = excluded(&plan, place) {
        let refusal = trail.stop(Effect::Refuses, &source(place), refusal);
        return Decision::Refused(refusal, trail.0);
    }
    match logon(&plan, place) {
        Some(refusal) if refusal.rule == PASSWORD_TRIED => {
            let refusal = trail.stop(Effect::Waits, &source(place), refusal);
            return Decision::Waiting(refusal, trail.0);
        }
        Some(refusal) => {
            let refusal = trail.stop(Effect::Refuses, &source(place), refusal);
            return Decision::Refused(refusal, trail.0);
        }
        None => {}
    }
    if let Some(refusal) = away(place) {
        let refusal = trail.stop(Effect::Waits, &source(place), refusal);
        return Decision::Waiting(refusal, trail.0);
    }
    Decision::Run(plan, trail.0)
}

/// A hash of exactly what [`decide`] looked at, so that a row edited by hand shows in the record.
#[must_use]
pub fn version(who: &Who, place: &Place, people: &People) -> [u8; 32] {
    let text = format!(
        "2\n{}\n{}\n{}\n{:?}\n{}\n{:?}\n{}\n{:?}\n{:?}\n{:?}",
        who.login_user,
        who.user,
        who.via.as_str(),
        people,
        place.worker,
        place.labels,
        place.mode.as_str(),
        place.proxy_account,
        place.owner,
        place.accept
    );
    sha256(&[text.as_bytes()])
}

fn source(place: &Place) -> String {
    format!("worker {}", place.worker)
}

/// What stands for an id that no account has: in rows, records and proofs, too.
const THROWAWAY: &str = "throwaway";

fn account(who: &Who, place: &Place, people: &People, trail: &mut Trail) -> Result<RunPlan, Refusal> {
    let plan = match place.mode {
        Mode::User => user_mode(who, place, people, trail),
        Mode::Proxy => proxy_mode(place, trail),
        Mode::Desktop => desktop_mode(who, place, trail),
    }?;
    match &plan.account {
        Account::Named { name, .. } if name.as_str() == THROWAWAY => Err(Refusal {
            rule: "account_reserved".into(),
            value: THROWAWAY.into(),
            text: "the name throwaway stands for an id that no account has, and no account of that name runs anything"
                .into(),
            hint: "give the account another name".into(),
        }),
        _ => Ok(plan),
    }
}

fn user_mode(who: &Who, place: &Place, people: &People, trail: &mut Trail) -> Result<RunPlan, Refusal> {
    if who.user.as_str() == "root" {
        return Err(Refusal {
            rule: "root_is_no_identity".into(),
            value: "root".into(),
            text: "root never runs a job".into(),
            hint: "submit it as a person with --user NAME, or to workers in proxy mode".into(),
        });
    }
    trail.note(
        "mode_user",
        Effect::Selects,
        format!("the worker runs jobs as their user, so the account is {}", who.user),
        &setting(place, "proxy_execution_mode = user"),
    );
    let name = AccountName::of_user(&who.user);
    Ok(RunPlan {
        account: Account::Named { name, uid: None },
        mode: Mode::User,
        // A proxy user's account serves everyone who holds a grant for it, whoever submitted this one.
        shared: who.via == Via::Grant || is_proxy(&people.target) || (who.via == Via::Own && is_proxy(&people.login)),
        grant: None,
    })
}

fn is_proxy(person: &Option<Person>) -> bool {
    person.as_ref().is_some_and(|p| p.kind == Kind::Proxy)
}

fn proxy_mode(place: &Place, trail: &mut Trail) -> Result<RunPlan, Refusal> {
    let (account, text) = match &place.proxy_account {
        Some(ProxyAccount::Named(name)) if name.as_str() != "root" => (
            Account::Named { name: name.clone(), uid: None },
            format!("the worker runs every job as its proxy account {name}"),
        ),
        Some(ProxyAccount::Throwaway) => (
            Account::Throwaway,
            "the worker runs every job under a throwaway account: an id that no account has".to_owned(),
        ),
        Some(ProxyAccount::Named(name)) => return Err(bad_proxy(name.as_str())),
        None => return Err(bad_proxy("")),
    };
    trail.note("mode_proxy", Effect::Selects, text, &setting(place, "proxy_execution_mode = proxy"));
    Ok(RunPlan { account, mode: Mode::Proxy, shared: true, grant: None })
}

fn bad_proxy(value: &str) -> Refusal {
    Refusal {
        rule: "proxy_account".into(),
        value: value.to_owned(),
        text: if value.is_empty() {
            "the worker is in proxy mode and names no proxy account".to_owned()
        } else {
            format!("{value} can't be a proxy account")
        },
        hint: "set proxy_account to an ordinary account of the host".into(),
    }
}

fn desktop_mode(who: &Who, place: &Place, trail: &mut Trail) -> Result<RunPlan, Refusal> {
    let Some(owner) = &place.owner else {
        return Err(Refusal {
            rule: "desktop_owner".into(),
            value: String::new(),
            text: "the desktop worker did not say whose it is".into(),
            hint: "start it again from the person's own login".into(),
        });
    };
    let takes = match &place.accept {
        Accept::Any => Some("accept = any".to_owned()),
        _ if who.login_user.as_str() == owner.as_str() && who.user.as_str() == owner.as_str() => {
            Some("accept = owner".to_owned())
        }
        Accept::Users(users) if users.contains(&who.login_user) => Some(format!("accept = {}", names(users))),
        Accept::Owner | Accept::Users(_) => None,
    };
    let Some(takes) = takes else {
        return Err(Refusal {
            rule: "desktop_accept".into(),
            value: who.login_user.to_string(),
            text: format!("the desktop worker of {owner} does not take jobs of {}", who.login_user),
            hint: format!("{owner} can start the worker with --accept {} (or any)", who.login_user),
        });
    };
    trail.note(
        "mode_desktop",
        Effect::Selects,
        format!("the worker runs every job it takes as its owner {owner}"),
        &setting(place, "desktop mode"),
    );
    trail.note(
        "desktop_accept",
        Effect::Allows,
        format!("it takes jobs of {}", who.login_user),
        &setting(place, &takes),
    );
    Ok(RunPlan {
        account: Account::Named { name: owner.clone(), uid: None },
        mode: Mode::Desktop,
        shared: place.accept != Accept::Owner,
        grant: None,
    })
}

fn names(users: &[LoginUser]) -> String {
    users.iter().map(LoginUser::as_str).collect::<Vec<_>>().join(" ")
}

fn setting(place: &Place, what: &str) -> String {
    format!("worker {}: {what}", place.worker)
}

fn excluded(plan: &RunPlan, place: &Place) -> Option<Refusal> {
    let account = match &plan.account {
        Account::Named { name, .. } => name.as_str(),
        Account::Throwaway => THROWAWAY,
    };
    let reason = &place.excluded.iter().find(|e| e.account == account)?.reason;
    Some(Refusal {
        rule: "account_excluded".into(),
        value: account.to_owned(),
        text: format!("the worker could not run {account}: {reason}"),
        hint: format!("put the account right on that host, then restart the launcher of worker {}", place.worker),
    })
}

/// What keeps the account from being logged on, where that takes its password.
fn logon(plan: &RunPlan, place: &Place) -> Option<Refusal> {
    match (&place.logons, &plan.account) {
        (Some(logons), Account::Named { name, .. }) => logons.refusal(name.as_str()),
        (None, _) | (_, Account::Throwaway) => None,
    }
}

fn away(place: &Place) -> Option<Refusal> {
    let (rule, value, text, hint) = if let Some(reason) = &place.panic {
        ("worker_panic", reason.clone(), format!("the worker takes no jobs: {reason}"), "put that right on its host")
    } else if !place.online {
        ("worker_offline", String::new(), "the worker is not connected".to_owned(), "start it")
    } else if place.drained {
        ("worker_drained", String::new(), "the worker is drained".to_owned(), "`stead worker drain NAME --undo`")
    } else {
        return None;
    };
    Some(Refusal { rule: rule.to_owned(), value, text, hint: hint.to_owned() })
}
