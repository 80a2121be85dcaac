//! When waiting is no use any more: every worker that could run a job has answered that it doesn't have the account, or
//! needs a password of it that the farm doesn't have, or knows to be bad. Pure, and about one moment: a worker that joins later changes nothing for a job that was given up.

use super::{Candidate, Worker};
use policy::{ACCOUNT_UNKNOWN, Decision, Mode, PASSWORD_TRIED, Place, Refusal};
use warrant::Account;

/// What one worker that meets the requirements means for the job.
enum Standing {
    /// Its rules never let the job run there.
    Never,
    /// It may run it, now or when it is back: it wasn't asked, or refused for another reason, or it was too busy to know.
    MayYet,
    /// It answered that it has no such account. `here`: it takes work now.
    Unknown { account: String, here: bool },
    /// It needs a password of the account, and there is none that may be good.
    NoPassword { refusal: Refusal, here: bool },
}

/// Why this step can't run anywhere, if it can't. `workers` are all that are known, connected or not: one that is away
/// and was not asked may have the account, so the job waits for it.
pub(crate) fn nowhere(candidate: &Candidate, workers: &[Worker], now: i64) -> Option<String> {
    let (mut name, mut answered, mut any_here) = (None, Vec::new(), false);
    let mut no_password = None;
    for worker in workers.iter().filter(|w| meets(w, candidate)) {
        match standing(candidate, &worker.place, now) {
            Standing::Never => {}
            Standing::MayYet => return None,
            Standing::Unknown { account, here } => {
                any_here |= here;
                answered.push(worker.place.worker.as_str());
                name = Some(account);
            }
            Standing::NoPassword { refusal, here } => {
                any_here |= here;
                no_password = Some(refusal);
            }
        }
    }
    if let Some(Refusal { text, hint, .. }) = no_password.filter(|_| any_here) {
        // Where the account isn't known at all no password helps, but here it does.
        return Some(format!("{text}; {hint}, then `stead resubmit {}`", candidate.job));
    }
    let account = name.filter(|_| any_here)?;
    Some(format!(
        "no worker that could run it has an account {account} (asked: {}); create the account there, then submit it again",
        super::some(&answered)
    ))
}

fn meets(worker: &Worker, candidate: &Candidate) -> bool {
    candidate.asks.fits(worker.total) && worker.place.admits(&candidate.requires).is_ok()
}

fn standing(candidate: &Candidate, place: &Place, now: i64) -> Standing {
    let here = place.online && !place.drained && place.panic.is_none();
    let at_its_best =
        Place { online: true, drained: false, panic: None, excluded: Vec::new(), logons: None, ..place.clone() };
    let plan = match super::decide(candidate, &at_its_best, now) {
        Decision::Run(plan, _) => plan,
        // The directory may answer later.
        Decision::Waiting(..) => return Standing::MayYet,
        Decision::Refused(..) | Decision::Blocked(..) => return Standing::Never,
    };
    let Account::Named { name, .. } = &plan.account else { return Standing::MayYet };
    let refusal = place.logons.as_ref().and_then(|logons| logons.refusal(name.as_str()));
    if let Some(refusal) = refusal.filter(|r| plan.mode == Mode::User && r.rule != PASSWORD_TRIED) {
        return Standing::NoPassword { refusal, here };
    }
    match place.excluded.iter().find(|e| e.account == name.as_str()) {
        Some(e) if e.rule == ACCOUNT_UNKNOWN && plan.mode == Mode::User => {
            Standing::Unknown { account: name.to_string(), here }
        }
        _ => Standing::MayYet,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{candidate, worker};
    use super::*;
    use policy::{AccountName, Excluded, Logon, Logons, ProxyAccount};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn without_ada(name: &str) -> Worker {
        refusing(name, ACCOUNT_UNKNOWN)
    }

    fn refusing(name: &str, rule: &str) -> Worker {
        let mut worker = worker(name, 1);
        let (account, rule, reason) = ("ada".to_owned(), rule.to_owned(), "said the host".to_owned());
        worker.place.excluded.push(Excluded { account, rule, reason });
        worker
    }

    fn with(mut worker: Worker, change: impl FnOnce(&mut Worker)) -> Worker {
        change(&mut worker);
        worker
    }

    #[test]
    fn a_password_that_is_missing_or_bad_is_waited_for_nowhere_unless_somewhere_none_is_needed() {
        let needing = |name: &str, logon: Option<Logon>| {
            let known: BTreeMap<String, Logon> = logon.into_iter().map(|logon| ("ada".to_owned(), logon)).collect();
            with(worker(name, 1), |w| w.place.logons = Some(Arc::new(Logons(known))))
        };
        let bad = || Some(Logon::Bad { why: "it is wrong".to_owned() });
        let tried = || Some(Logon::Tried { worker: "a".to_owned() });
        let cases: Vec<(&str, Vec<Worker>, Option<&str>)> = vec![
            ("missing", vec![needing("a", None)], Some("the farm has no password of ada")),
            ("bad", vec![needing("a", bad()), needing("b", bad())], Some("not good: it is wrong")),
            ("good", vec![needing("a", Some(Logon::Ready))], None),
            ("being tried", vec![needing("a", tried())], None),
            ("another needs none", vec![needing("a", bad()), worker("b", 0)], None),
            ("another lacks the account", vec![needing("a", None), without_ada("b")], Some("stead password set ada")),
            ("all are away", vec![with(needing("a", None), |w| w.place.online = false)], None),
        ];
        let mut asked = candidate(7, 1);
        asked.requires = job::Requires::default();
        for (what, workers, expected) in cases {
            match (nowhere(&asked, &workers, 0), expected) {
                (None, None) => {}
                (Some(reason), Some(words)) => {
                    assert!(reason.contains(words) && reason.contains("stead resubmit 7"), "{what}: {reason}");
                }
                (other, _) => panic!("{what}: {other:?}"),
            }
        }
    }

    #[test]
    fn only_when_every_worker_that_could_run_it_said_unknown() {
        let away = |w| with(w, |w| w.place.online = false);
        let desktop = |owner: &str| {
            let owner = AccountName::parse(owner).expect("name");
            with(worker("desk", 1), |w| (w.place.mode, w.place.owner) = (Mode::Desktop, Some(owner)))
        };
        let proxy = |w| {
            with(w, |w: &mut Worker| {
                w.place.mode = Mode::Proxy;
                w.place.proxy_account = Some(ProxyAccount::Named(AccountName::parse("ada").expect("name")));
            })
        };
        let cases: Vec<(&str, Vec<Worker>, bool)> = vec![
            ("nobody was asked", vec![], false),
            ("the only one said so", vec![without_ada("a")], true),
            ("both said so", vec![without_ada("a"), without_ada("b")], true),
            ("another was not asked yet", vec![without_ada("a"), worker("b", 0)], false),
            ("another is away and was not asked", vec![without_ada("a"), away(worker("b", 1))], false),
            ("another is drained", vec![without_ada("a"), with(worker("b", 1), |w| w.place.drained = true)], false),
            (
                "another is in panic",
                vec![without_ada("a"), with(worker("b", 1), |w| w.place.panic = Some("disk".to_owned()))],
                false,
            ),
            ("another said so and went away", vec![without_ada("a"), away(without_ada("b"))], true),
            ("all that said so are away", vec![away(without_ada("a"))], false),
            ("another refuses it by its own policy", vec![without_ada("a"), refusing("b", "account_denied")], false),
            ("another has it with another uid", vec![without_ada("a"), refusing("b", "uid_mismatch")], false),
            ("a proxy worker runs it as its own account", vec![without_ada("a"), proxy(worker("b", 1))], false),
            ("a proxy worker lacks its own account", vec![proxy(without_ada("a"))], false),
            ("ada's own desktop takes it", vec![without_ada("a"), desktop("ada")], false),
            ("another's desktop never does", vec![without_ada("a"), desktop("bob")], true),
            ("another lacks a label", vec![without_ada("a"), with(worker("b", 1), |w| w.place.labels.clear())], true),
            ("another is too small", vec![without_ada("a"), with(worker("b", 1), |w| w.total.cpu_milli = 1)], true),
        ];
        let mut asked = candidate(1, 1);
        asked.requires = job::Requires::parse("linux").expect("a requirement");
        asked.asks.cpu_milli = 1000;
        for (case, workers, given_up) in cases {
            assert_eq!(nowhere(&asked, &workers, 0).is_some(), given_up, "{case}");
        }
    }

    #[test]
    fn the_reason_names_the_account_and_the_workers() {
        let reason = nowhere(&candidate(1, 1), &[without_ada("a"), without_ada("b")], 0).expect("given up");
        assert!(reason.contains("account ada ") && reason.contains("(asked: a, b)"), "{reason}");
    }
}
