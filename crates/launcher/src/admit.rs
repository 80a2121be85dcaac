//! Whether a warrant is for us, now, and for the first time. Pure: the clock and the past come in as arguments.

use crate::refusal::Refusal;
use std::collections::BTreeMap;
use warrant::launcher_wire::RefusalKind;
use warrant::{Incarnation, Warrant};

/// Numbers used in this incarnation. What has expired is refused for that, and needs no memory.
#[derive(Debug, Default)]
pub(crate) struct Used {
    /// Number → when the warrant expires.
    numbers: BTreeMap<u64, u64>,
}

impl Used {
    const MAX: usize = 65_536;

    /// `false` when it was used before.
    fn take(&mut self, number: u64, not_after: u64) -> bool {
        self.numbers.insert(number, not_after).is_none()
    }

    /// Forgets what has expired; `false` when even so there is no room. Only a supervisor that signs warrants which
    /// hardly expire gets there.
    fn make_room(&mut self, now: u64) -> bool {
        if self.numbers.len() >= Self::MAX {
            self.numbers.retain(|_, until| *until >= now);
        }
        self.numbers.len() < Self::MAX
    }
}

/// Who we are to the supervisor.
#[derive(Debug)]
pub(crate) struct Addressee {
    pub(crate) farm: [u8; 16],
    pub(crate) workers: Vec<String>,
    pub(crate) incarnation: Incarnation,
}

/// Checks a warrant whose signature was checked, and uses up its number.
pub(crate) fn admit(warrant: &Warrant, us: &Addressee, used: &mut Used, now: u64) -> Result<(), Refusal> {
    const HINT: &str = "the supervisor issues a new warrant";
    let void = |rule: &str, text: String| Err(Refusal::new(RefusalKind::Warrant, rule, text, HINT));
    if warrant.farm != us.farm {
        return void("warrant_farm", "the warrant is of another farm".to_owned());
    }
    if !us.workers.contains(&warrant.worker) {
        return void("warrant_worker", format!("the warrant is for the worker {}", warrant.worker));
    }
    if warrant.incarnation != us.incarnation {
        return void("warrant_incarnation", "the warrant is older than the launcher's start".to_owned());
    }
    if now > warrant.not_after {
        return void("warrant_expired", format!("the warrant ended {} ms ago", now - warrant.not_after));
    }
    if now >= warrant.lease_until {
        return void("warrant_lease", "the lease ended before the session could start".to_owned());
    }
    if !used.make_room(now) {
        return void("warrants", format!("{} used warrants are still valid", Used::MAX));
    }
    if !used.take(warrant.sequence, warrant.not_after) {
        return void("warrant_used", format!("the warrant {} was used before", warrant.sequence));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use warrant::{Account, AccountName, Limits, LoginUser, Mode, Purpose, User};

    pub(crate) fn warrant() -> Warrant {
        let login_user = LoginUser::parse("ada").expect("name");
        Warrant {
            farm: [1; 16],
            worker: "w1".into(),
            incarnation: [2; 16],
            sequence: 1,
            not_after: 1000,
            lease_until: 5000,
            purpose: Purpose::Run,
            session: 1,
            job: 1,
            user: User::themself(&login_user),
            login_user,
            account: Account::Named { name: AccountName::parse("ada").expect("name"), uid: None },
            mode: Mode::User,
            shared: false,
            grant: None,
            policy_version: [0; 32],
            limits: Limits::default(),
            umask: 0o022,
            submitter_signature: Vec::new(),
            password: None,
        }
    }

    fn us() -> Addressee {
        Addressee { farm: [1; 16], workers: vec!["w1".into(), "w2".into()], incarnation: [2; 16] }
    }

    #[test]
    fn a_warrant_is_taken_once() {
        let mut used = Used::default();
        assert_eq!(admit(&warrant(), &us(), &mut used, 1000), Ok(()));
        assert_eq!(admit(&warrant(), &us(), &mut used, 1000).expect_err("again").stage, "warrant_used");
    }

    #[test]
    fn whatever_is_not_for_us_is_void_and_uses_nothing_up() {
        type Change = fn(&mut Warrant);
        let cases: [(&str, u64, Change); 5] = [
            ("warrant_farm", 0, |w| w.farm = [9; 16]),
            ("warrant_worker", 0, |w| w.worker = "w".into()),
            ("warrant_incarnation", 0, |w| w.incarnation = [0; 16]),
            ("warrant_expired", 1001, |_| {}),
            ("warrant_lease", 5, |w| w.lease_until = 5),
        ];
        let mut used = Used::default();
        for (rule, now, change) in cases {
            let mut w = warrant();
            change(&mut w);
            let refusal = admit(&w, &us(), &mut used, now).expect_err(rule);
            assert_eq!((refusal.stage.as_str(), refusal.kind), (rule, RefusalKind::Warrant));
        }
        assert_eq!(admit(&warrant(), &us(), &mut used, 0), Ok(()));
    }

    #[test]
    fn memory_of_used_numbers_is_bounded_by_what_is_still_valid() {
        let mut used = Used::default();
        for n in 0..200_000 {
            assert!(used.make_room(n) && used.take(n, n + 10));
            assert!(!used.take(n, n + 10), "still remembered");
        }
        assert!(used.numbers.len() <= Used::MAX);
    }

    #[test]
    fn warrants_that_never_expire_do_not_fill_the_memory() {
        let mut used = Used::default();
        let mut w = warrant();
        w.not_after = u64::MAX;
        for n in 0..Used::MAX {
            w.sequence = n as u64;
            assert_eq!(admit(&w, &us(), &mut used, 0), Ok(()));
        }
        for n in [0, Used::MAX] {
            w.sequence = n as u64;
            let refusal = admit(&w, &us(), &mut used, 0).expect_err("full");
            assert_eq!((refusal.stage.as_str(), refusal.kind), ("warrants", RefusalKind::Warrant));
        }
        assert_eq!(used.numbers.len(), Used::MAX);
    }
}
