//! Rows as the tables hold them → rows as `policy` understands them. A hand may have written them: what can't be
//! understood gets a fault and gives nothing.

use super::seal::{Seal, content};
use job::Requires;
use policy::{Association, Grant, GrantState, Groups, Holder, JobNames, Kind, LoginUser, People, Person, Roles};
use store::{GrantRow, IdentityRows, Raw, UserRow};
use warrant::sha256;

/// A row of `grants` that the supervisor did not write.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) grant: u64,
    pub(super) proxy_user: String,
    pub(super) content: [u8; 32],
    pub(super) row: serde_json::Value,
}

pub(super) fn people(rows: &IdentityRows, seal: &Seal, needs_approval: bool) -> (People, Vec<Outside>) {
    let mut outside = Vec::new();
    // A row whose columns don't even have their types gives nothing; whose it was can't be relied on.
    let grants = rows.grants.iter().filter_map(|row| row.as_ref().ok()).filter_map(|row| {
        let is_ours = seal.holds(row);
        if !is_ours {
            outside.push(Outside {
                grant: row.id,
                proxy_user: row.proxy_user.clone(),
                content: sha256(&[&content(row)]),
                row: serde_json::to_value(row).unwrap_or_default(),
            });
        }
        grant(row, is_ours)
    });
    let grants = grants.collect();
    let people = People {
        login: rows.login.as_ref().map(person),
        target: rows.target.as_ref().map(person),
        groups: Groups::default(),
        may_act: rows.may_act.iter().filter_map(listed).collect(),
        may_be_acted_as: rows.may_be_acted_as.as_ref().map(|row| row.as_ref().is_ok_and(|allowed| *allowed)),
        grants,
        association: rows.association.as_ref().map(|row| Association {
            // No name is not "nobody": they act as somebody who can't be made out, so as themselves neither.
            proxy_user: row.as_ref().map_or_else(|_| String::new(), |a| a.proxy_user.clone()),
        }),
        needs_approval,
        is_system: false,
    };
    (people, outside)
}

/// What can't be read counts as "no" for whomever it is about, as far as that can be told.
fn listed(row: &Raw<(String, bool)>) -> Option<(Holder, bool)> {
    match row {
        Ok((who, allowed)) => Holder::parse(who).ok().map(|who| (who, *allowed)),
        Err(bad) => Holder::parse(bad.key.trim_matches('"')).ok().map(|who| (who, false)),
    }
}

/// Also for those who write rows: what they would write has to be understood.
pub(crate) fn person(row: &Raw<UserRow>) -> Person {
    let nothing = |name: &str, fault: String| Person {
        name: name.to_owned(),
        kind: Kind::Login,
        roles: Roles::default(),
        disabled: true,
        fault: Some(fault),
    };
    let row = match row {
        Ok(row) => row,
        Err(bad) => return nothing(&bad.key, bad.to_string()),
    };
    let Some(kind) = Kind::parse(&row.kind) else {
        return nothing(&row.name, format!("type = {:?} is neither login nor proxy", row.kind));
    };
    match roles(&row.roles) {
        Ok(roles) => Person { name: row.name.clone(), kind, roles, disabled: row.disabled, fault: None },
        Err(fault) => nothing(&row.name, fault),
    }
}

pub(crate) fn roles(text: &str) -> Result<Roles, String> {
    let mut roles = Roles::default();
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "admin" => roles.admin = true,
            "impersonate" => roles.impersonate = true,
            "auditor" => roles.auditor = true,
            other => return Err(format!("{other:?} is no role (admin, impersonate, auditor)")),
        }
    }
    Ok(roles)
}

/// `None` when it isn't clear whose it is: then it is nobody's.
fn grant(row: &GrantRow, is_ours: bool) -> Option<Grant> {
    let holder = Holder::parse(&row.login_user).ok()?;
    let mut faults = Vec::new();
    let mut time = |column: &str, text: Option<&str>| match text.map(micros) {
        None => None,
        Some(Ok(at)) => Some(at),
        Some(Err(fault)) => {
            faults.push(format!("{column} {fault}"));
            None
        }
    };
    let (from, until) =
        (time("valid_from", row.valid_from.as_deref()), time("valid_until", row.valid_until.as_deref()));
    let state = GrantState::parse(&row.state).unwrap_or_else(|| {
        faults.push(format!("state = {:?} is not requested, active or revoked", row.state));
        GrantState::Revoked
    });
    let workers = Requires::parse(row.workers.as_deref().unwrap_or_default()).unwrap_or_else(|error| {
        faults.push(format!("workers: {error}"));
        Requires::default()
    });
    // Only no text at all is every worker: spaces were meant for something.
    if row.workers.as_deref().is_some_and(|text| !text.is_empty() && text.trim().is_empty()) {
        faults.push("workers is blank (NULL: all)".to_owned());
    }
    let jobs = JobNames::parse(row.jobs.as_deref().unwrap_or_default()).unwrap_or_else(|error| {
        faults.push(format!("jobs: {error}"));
        JobNames::default()
    });
    Some(Grant {
        id: row.id,
        approved: is_ours && is_approved(row, &holder),
        holder,
        state,
        from,
        until,
        workers,
        jobs,
        ended_by: row.ended_by.clone(),
        changed_outside: !is_ours,
        fault: (!faults.is_empty()).then(|| faults.join("; ")),
    })
}

/// What a grant is at this time, in a word; and why it can't be understood.
pub(crate) fn standing(row: &GrantRow, now: i64) -> (&'static str, Option<String>) {
    let Some(grant) = grant(row, true) else {
        return ("invalid", Some(format!("{:?} is nobody who can hold a grant", row.login_user)));
    };
    if let Some(fault) = grant.fault {
        return ("invalid", Some(fault));
    }
    let word = match grant.state {
        GrantState::Active if grant.until.is_some_and(|until| now >= until) => "expired",
        GrantState::Active if grant.from.is_some_and(|from| now < from) => "later",
        state => state.as_str(),
    };
    (word, None)
}

/// By somebody else than it serves.
fn is_approved(row: &GrantRow, holder: &Holder) -> bool {
    let Some(by) = row.approved_by.as_deref().filter(|by| !by.is_empty()) else { return false };
    let serves = match holder {
        Holder::Login(login) => login.as_str() == by,
        // Whoever asked for it for a group they are in is served by it.
        Holder::Group(_) => false,
    };
    !serves && row.requested_by.as_deref() != Some(by) && LoginUser::parse(by).is_ok()
}

/// RFC 3339, in any zone; also `2026-11-30 18:00:00Z`, as databases write it.
pub(crate) fn micros(text: &str) -> Result<i64, String> {
    let parsed: Result<jiff::Timestamp, _> = text.trim().parse();
    parsed.map(jiff::Timestamp::as_microsecond).map_err(|_| format!("= {text:?} is no time (2026-11-30T18:00:00Z)"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row(id: u64, login_user: &str, proxy_user: &str) -> GrantRow {
        GrantRow {
            id,
            login_user: login_user.to_owned(),
            proxy_user: proxy_user.to_owned(),
            given_by: None,
            given_at: None,
            reason: None,
            valid_from: None,
            valid_until: None,
            workers: None,
            jobs: None,
            state: "active".to_owned(),
            requested_by: None,
            approved_by: None,
            approved_at: None,
            ended_by: None,
            ended_at: None,
            seal: None,
        }
    }

    #[test]
    fn what_cannot_be_understood_gives_nothing_and_says_why() {
        for (change, part) in [
            ((|r| r.valid_until = Some("tomorrow".to_owned())) as fn(&mut GrantRow), "valid_until = \"tomorrow\""),
            (|r| r.valid_from = Some(String::new()), "valid_from"),
            (|r| r.state = "Active".to_owned(), "state"),
            (|r| r.workers = Some("a,,b".to_owned()), "workers"),
            (|r| r.workers = Some(" ".to_owned()), "workers"),
            (|r| r.jobs = Some(" ".to_owned()), "jobs"),
            (|r| r.jobs = Some("a,,b".to_owned()), "jobs"),
        ] {
            let mut bad = row(1, "ada", "render");
            change(&mut bad);
            let fault = grant(&bad, true).expect("hers").fault.expect("a fault");
            assert!(fault.contains(part), "{fault}");
        }
        for nobody in ["", "*", "group:", "-x", "ada,bob", "group:*"] {
            assert_eq!(grant(&row(1, nobody, "render"), true), None, "{nobody:?}");
        }
    }

    #[test]
    fn only_another_approves() {
        let approved = |holder: &str, asked: Option<&str>, by: Option<&str>| {
            let mut row = row(1, holder, "render");
            (row.requested_by, row.approved_by) = (asked.map(str::to_owned), by.map(str::to_owned));
            grant(&row, true).expect("a grant").approved
        };
        assert!(approved("ada", None, Some("root")));
        assert!(approved("ada", Some("ada"), Some("bob")));
        assert!(!approved("ada", None, None));
        assert!(!approved("ada", None, Some("")));
        assert!(!approved("ada", None, Some("ada")));
        assert!(!approved("group:artists", Some("ada"), Some("ada")));
    }

    #[test]
    fn times_are_read_as_databases_write_them() {
        assert_eq!(micros("1970-01-01T00:00:01Z"), Ok(1_000_000));
        assert_eq!(micros("1970-01-01 00:00:01.5Z"), Ok(1_500_000));
        assert_eq!(micros(" 1970-01-01T02:00:01+02:00"), Ok(1_000_000));
        for text in ["", "0", "1970-01-01", "1970-01-01T00:00:01", "now", "9999999999"] {
            assert!(micros(text).is_err(), "{text:?}");
        }
    }
}
