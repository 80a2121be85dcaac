//! What holds for any rows at all, also such as only a hand writes.

mod common;

use common::*;
use policy::{
    Acting, Ask, Association, Decision, FarmFacts, For, Grant, GrantState, Groups, Holder, Identified, JobNames, Kind,
    LoginUser, Mode, NoRight, People, Person, Place, ProxyAccount, Refusal, Request, Roles, Sight, Via, Viewer, Who,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use warrant::{Account, AccountName};

/// Few, so that they meet; with those that are the machine's.
const NAMES: [&str; 7] = ["ada", "bob", "render", "comp", "root", "nobody", "ADA"];
const GROUPS: [&str; 2] = ["artists", "interns"];

fn any_name() -> impl Strategy<Value = String> {
    prop::sample::select(&NAMES[..]).prop_map(str::to_owned)
}

/// The pair most questions are about, and others now and then.
fn any_pair() -> impl Strategy<Value = (String, String)> {
    prop_oneof![4 => Just(("ada".to_owned(), "render".to_owned())), 3 => (any_name(), any_name())]
}

fn any_holder() -> impl Strategy<Value = Holder> {
    prop_oneof![
        4 => Just(Holder::Login(login("ada"))),
        2 => any_name().prop_map(|name| Holder::Login(login(&name))),
        3 => prop::sample::select(&GROUPS[..]).prop_map(|g| Holder::Group(g.to_owned())),
    ]
}

fn any_roles() -> impl Strategy<Value = Roles> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(admin, impersonate, auditor)| Roles {
        admin,
        impersonate,
        auditor,
    })
}

fn rarely() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.1)
}

fn mostly() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.8)
}

prop_compose! {
    fn any_person(of: &'static str, proxy: f64)(
        // The right row mostly; a database that doesn't mind case, or a fault in the reading, finds others.
        name in prop_oneof![9 => Just(of.to_owned()), 1 => any_name()],
        is_proxy in prop::bool::weighted(proxy),
        roles in any_roles(),
        disabled in rarely(),
        is_faulty in rarely(),
    ) -> Person {
        let kind = if is_proxy { Kind::Proxy } else { Kind::Login };
        Person { name, kind, roles, disabled, fault: is_faulty.then(|| "it is odd".to_owned()) }
    }
}

prop_compose! {
    fn any_grant()(
        id in 1_u64..5,
        holder in any_holder(),
        state in prop_oneof![4 => Just(GrantState::Active), 1 => prop::sample::select(&GrantState::ALL[..])],
        from in option::weighted(0.3, NOW - 2..NOW + 3),
        until in option::weighted(0.3, NOW - 2..NOW + 3),
        workers in option::weighted(0.2, prop::sample::select(&["worker=w1", "worker=w2", "gpu", "tape"][..])),
        jobs in option::weighted(0.2, prop::sample::select(&["shot_*", "comp_*", "*", "shot_?"][..])),
        approved in any::<bool>(),
        changed_outside in rarely(),
        is_faulty in rarely(),
    ) -> Grant {
        Grant {
            from, until, state, approved, changed_outside,
            workers: job::Requires::parse(workers.unwrap_or_default()).expect("good"),
            jobs: JobNames::parse(jobs.unwrap_or_default()).expect("good"),
            fault: is_faulty.then(|| "it is odd".to_owned()),
            ..grant(id, holder)
        }
    }
}

prop_compose! {
    fn any_people()(
        login in option::weighted(0.7, any_person("ada", 0.15)),
        target in option::weighted(0.9, any_person("render", 0.85)),
        groups in prop_oneof![
            4 => prop::sample::subsequence(&GROUPS[..], 0..=2).prop_map(|g| Groups::Known(g.into_iter().map(str::to_owned).collect())),
            1 => Just(Groups::Unknown("down".to_owned())),
        ],
        may_act in vec((any_holder(), mostly()), 0..5),
        may_be_acted_as in option::weighted(0.9, mostly()),
        grants in vec(any_grant(), 0..4),
        association in option::weighted(0.4, prop_oneof![4 => Just("render".to_owned()), 1 => any_name(), 1 => Just(String::new())]),
        needs_approval in prop::bool::weighted(0.3),
        is_system in rarely(),
    ) -> People {
        let association = association.map(|proxy_user| Association { proxy_user });
        People { login, target, groups, may_act, may_be_acted_as, grants, association, needs_approval, is_system }
    }
}

fn any_via() -> impl Strategy<Value = Via> {
    prop_oneof![3 => Just(Via::Grant), 1 => prop::sample::select(&Via::ALL[..])]
}

prop_compose! {
    fn any_who()((login_user, name) in any_pair(), via in any_via(), grant in option::of(0_u64..5)) -> Who {
        Who { login_user: login(&login_user), user: user(&name), via, grant }
    }
}

prop_compose! {
    fn any_place()(
        mode in prop::sample::select(&[Mode::User, Mode::User, Mode::Proxy, Mode::Desktop][..]),
        account in option::of(any_name()),
        owner in option::of(any_name().prop_filter("no desktop of root", |n| n != "root")),
        accept in 0..3,
        online in mostly(),
    ) -> Place {
        let account_name = |name: String| AccountName::parse(&name).expect("account");
        Place {
            online,
            proxy_account: account.map(|name| ProxyAccount::Named(account_name(name))),
            owner: owner.map(account_name),
            accept: match accept {
                0 => policy::Accept::Owner,
                1 => policy::Accept::Any,
                _ => policy::Accept::Users(vec![login("bob")]),
            },
            ..place(mode)
        }
    }
}

/// The rule said again, in other words: whether this grant gives `login` the right to be `name`.
fn is_live(grant: &Grant, login: &LoginUser, people: &People, job: Option<&str>, place: Option<&Place>) -> bool {
    let serves = match (&grant.holder, &people.groups) {
        (Holder::Login(holder), _) => holder == login,
        (Holder::Group(group), Groups::Known(groups)) => groups.contains(group),
        (Holder::Group(_), Groups::Unknown(_)) => false,
    };
    let said = |holder: &Holder| -> Vec<bool> {
        people.may_act.iter().filter(|(who, _)| who == holder).map(|(_, allowed)| *allowed).collect()
    };
    serves
        && grant.fault.is_none()
        && grant.state == GrantState::Active
        && grant.from.is_none_or(|from| from <= NOW)
        && grant.until.is_none_or(|until| NOW < until)
        && (grant.approved || !people.needs_approval)
        && said(&grant.holder).contains(&true)
        && !said(&grant.holder).contains(&false)
        && !said(&Holder::Login(login.clone())).contains(&false)
        && job.is_none_or(|job| grant.jobs.has(job))
        && place.is_none_or(|place| grant.workers.admits(&place.worker, &place.labels).is_ok())
}

/// Nobody acts by a chain, as a person, as a machine's account, or as one whom the rows don't say so of.
fn may_be_acted_as(name: &str, people: &People) -> bool {
    let proxy = |p: &Person| p.kind == Kind::Proxy && !p.disabled && p.fault.is_none() && p.name == name;
    people.target.as_ref().is_some_and(proxy)
        && people.may_be_acted_as == Some(true)
        && !people.is_system
        && !["root", "nobody"].contains(&name)
}

fn may_act(name: &str, people: &People) -> bool {
    let able = |p: &Person| p.kind == Kind::Login && !p.disabled && p.fault.is_none() && p.name == name;
    people.login.as_ref().is_none_or(able) && !["root", "nobody"].contains(&name)
}

fn is_for_people(why: &Refusal) -> Result<(), TestCaseError> {
    prop_assert!(!why.rule.is_empty() && !why.text.is_empty() && !why.hint.is_empty(), "{:?}", why);
    let word = why.rule.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    prop_assert!(word, "{:?}", why);
    // What was looked at, unless nothing was there.
    let may_be_empty = ["association_ended", "user_name", "proxy_account", "desktop_owner", "worker_offline"];
    prop_assert!(!why.value.is_empty() || may_be_empty.contains(&why.rule.as_str()), "{:?}", why);
    Ok(())
}

fn refusal(decision: &Decision) -> Option<&Refusal> {
    match decision {
        Decision::Run(..) => None,
        Decision::Waiting(why, _) | Decision::Refused(why, _) | Decision::Blocked(why, _) => Some(why),
    }
}

/// How much of a right an answer is.
fn rank(right: &Result<Option<u64>, NoRight>) -> bool {
    right.is_ok()
}

/// Everything that takes something away from somebody.
fn lessened(people: &People, which: usize, at: usize) -> People {
    let mut less = people.clone();
    let grant = |less: &mut People, f: &dyn Fn(&mut Grant)| {
        if !less.grants.is_empty() {
            let at = at % less.grants.len();
            f(&mut less.grants[at]);
        }
    };
    let ada = || person("ada", Kind::Login);
    match which {
        0 if !less.grants.is_empty() => drop(less.grants.remove(at % people.grants.len())),
        1 => grant(&mut less, &|g| g.until = Some(NOW)),
        2 => grant(&mut less, &|g| g.from = Some(NOW + 1)),
        3 => grant(&mut less, &|g| g.state = GrantState::Revoked),
        4 => grant(&mut less, &|g| g.state = GrantState::Requested),
        5 => grant(&mut less, &|g| g.fault = Some("odd".to_owned())),
        6 => grant(&mut less, &|g| g.approved = false),
        7 => less.needs_approval = true,
        8 => less.may_be_acted_as = Some(false),
        9 => less.may_be_acted_as = None,
        10 if !less.may_act.is_empty() => {
            let at = at % less.may_act.len();
            less.may_act[at].1 = false;
        }
        11 => less.login = Some(Person { disabled: true, ..less.login.unwrap_or_else(ada) }),
        12 => less.login = Some(Person { fault: Some("odd".to_owned()), ..less.login.unwrap_or_else(ada) }),
        13 => less.target.iter_mut().for_each(|t| t.disabled = true),
        14 => less.target.iter_mut().for_each(|t| t.fault = Some("odd".to_owned())),
        15 => less.is_system = true,
        16 => less.groups = Groups::Known(Vec::new()),
        17 => less.groups = Groups::Unknown("down".to_owned()),
        18 => less.login.iter_mut().for_each(|l| l.roles = Roles::default()),
        19 => less.login = Some(Person { kind: Kind::Proxy, ..less.login.unwrap_or_else(ada) }),
        20 => less.may_act.push((Holder::Login(login("ada")), false)),
        _ => {}
    }
    less
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    /// Acting needs a grant that lives now, and gives the id of one.
    #[test]
    fn nobody_acts_without_a_live_grant(
        (login_user, name) in any_pair(), people in any_people(), place in any_place(), job in option::of(Just(JOB)),
    ) {
        let (login, user) = (login(&login_user), user(&name));
        let answer = policy::acts(&login, &user, For { job, place: Some(&place) }, &people, NOW);
        let live = |g: &&Grant| is_live(g, &login, &people, job, Some(&place));
        let expected = may_act(&login_user, &people) && may_be_acted_as(&name, &people) && people.grants.iter().any(|g| live(&g));
        prop_assert_eq!(answer.is_ok(), expected, "{:?}", answer);
        match answer {
            Ok(grant) => prop_assert!(live(&grant)),
            Err(no) => is_for_people(&no.refusal())?,
        }
    }

    /// Whatever the rows and the worker say: never root, never by a chain, never by a right that isn't there.
    #[test]
    fn what_runs_has_its_right(who in any_who(), people in any_people(), place in any_place()) {
        let decision = policy::decide(&who, Some(JOB), &place, &people, NOW);
        prop_assert_eq!(&decision, &policy::decide(&who, Some(JOB), &place, &people, NOW), "the same question");
        if let Some(why) = refusal(&decision) {
            is_for_people(why)?;
            prop_assert_eq!(&decision.rules().last().expect("a trail").rule, &why.rule);
        }
        let right = policy::right(&who, For { job: Some(JOB), place: Some(&place) }, &people, NOW);
        match (&decision, &right) {
            (Decision::Run(plan, _), Ok(grant)) => prop_assert_eq!(plan.grant, *grant),
            (Decision::Blocked(a, _), Err(NoRight::Ended(b)))
            | (Decision::Refused(a, _), Err(NoRight::NotHere(b)))
            | (Decision::Waiting(a, _), Err(NoRight::Unknown(b))) => prop_assert_eq!(a, b),
            (Decision::Refused(..) | Decision::Waiting(..), Ok(_)) => {}
            disagree => prop_assert!(false, "{:?}", disagree),
        }
        let Decision::Run(plan, _) = decision else { return Ok(()) };
        if let Account::Named { name, .. } = &plan.account {
            prop_assert_ne!(name.as_str(), "root");
            if place.mode == Mode::User {
                prop_assert_eq!(name.as_str(), who.user.as_str());
            }
        }
        let is_proxy = people.login.as_ref().is_some_and(|p| p.kind == Kind::Proxy);
        match who.via {
            Via::Own => prop_assert_eq!(who.login_user.as_str(), who.user.as_str()),
            Via::Grant => {
                prop_assert!(may_act(who.login_user.as_str(), &people) && may_be_acted_as(who.user.as_str(), &people));
                let by = people.grants.iter().filter(|g| Some(g.id) == plan.grant);
                prop_assert!(by.into_iter().any(|g| is_live(g, &who.login_user, &people, Some(JOB), Some(&place))));
            }
            Via::Impersonate | Via::Admin => {
                let roles = people.login.as_ref().expect("a row").roles;
                prop_assert!(!is_proxy && (roles.admin || roles.impersonate));
            }
            Via::Operator => {}
        }
        prop_assert!(people.login.as_ref().is_none_or(|p| !p.disabled && p.fault.is_none()), "a person who may do nothing");
        if who.via != Via::Own {
            prop_assert!(people.target.as_ref().is_none_or(|p| !p.disabled && p.fault.is_none()), "{:?}", people.target);
        }
    }

    /// Taking something away never gives anything.
    #[test]
    fn less_is_never_more(
        who in any_who(), people in any_people(), place in any_place(), which in 0_usize..21, at in 0_usize..8,
    ) {
        let less = lessened(&people, which, at);
        let wanted = For { job: Some(JOB), place: Some(&place) };
        let (before, after) = (policy::right(&who, wanted, &people, NOW), policy::right(&who, wanted, &less, NOW));
        prop_assert!(rank(&before) || !rank(&after), "{which}: {before:?} became {after:?}");
        let runs = |people| matches!(policy::decide(&who, Some(JOB), &place, people, NOW), Decision::Run(..));
        prop_assert!(runs(&people) || !runs(&less), "{which}");
        let ada = principal(who.login_user.as_str(), Roles::default());
        let roles = |people| policy::admit(&ada, people).unwrap_or_default();
        let (before, after) = (roles(&people), roles(&less));
        prop_assert!(before.admin || !after.admin, "{which}");
        prop_assert!(before.impersonate || !after.impersonate, "{which}");
        prop_assert!(before.auditor || !after.auditor, "{which}");
    }

    /// A grant ends of itself, and doesn't come back.
    #[test]
    fn what_has_expired_stays_so(who in any_who(), people in any_people(), later in 0_i64..6) {
        let wanted = For { job: Some(JOB), place: None };
        let begun = people.grants.iter().all(|g| g.from.is_none_or(|from| from <= NOW));
        let at = |now| policy::right(&who, wanted, &people, now).is_ok();
        prop_assert!(!begun || at(NOW) || !at(NOW + later));
    }

    /// What a request acts as, what is submitted by it, and what is decided of the job are one answer.
    #[test]
    fn a_request_its_job_and_its_decision_agree(
        name in any_name(), people in any_people(), asked in option::of(any_name()), named in option::of(any_name()),
    ) {
        let principal = principal(&name, policy::admit(&principal(&name, Roles::default()), &people).unwrap_or_default());
        let ask = asked.as_deref().map_or(Ask::Nothing, Ask::Named);
        let acting = match policy::acting(&principal, ask, &people, NOW) {
            Ok(acting) => acting,
            Err(why) => return is_for_people(&why),
        };
        let active = people.association.as_ref().map(|a| a.proxy_user.as_str());
        match &acting {
            Some(acting) => {
                prop_assert!(asked.as_deref().is_none_or(|asked| asked == acting.user.as_str()));
                prop_assert!(active.is_none_or(|active| active == acting.user.as_str()));
                prop_assert!(may_be_acted_as(acting.user.as_str(), &people));
            }
            // Whoever acts as somebody is never themself by accident.
            None => prop_assert!(active.is_none() && asked.as_deref().is_none_or(|asked| asked == name)),
        }
        let request = Request { user: named.clone(), job: Some(JOB.to_owned()) };
        let who = match policy::identify(&principal, acting.as_ref(), &request, FarmFacts::default(), &people, NOW) {
            Identified::As(who, rules) => {
                prop_assert!(!rules.is_empty());
                who
            }
            Identified::Refused(why, rules) => {
                prop_assert_eq!(&rules.last().expect("a trail").rule, &why.rule);
                return is_for_people(&why);
            }
        };
        prop_assert_eq!(&who.login_user, &principal.login_user);
        prop_assert_ne!(who.user.as_str(), "root");
        match &acting {
            Some(Acting { user, .. }) => prop_assert!(who.via == Via::Grant && who.user == *user),
            None => prop_assert_ne!(who.via, Via::Grant),
        }
        if let Some(named) = &named {
            prop_assert_eq!(who.user.as_str(), named.as_str());
        }
        // The job is right at once, and runs where its user's account is asked for.
        let right = policy::right(&who, For { job: Some(JOB), place: None }, &people, NOW);
        prop_assert_eq!(&right, &Ok(who.grant));
        let decision = policy::decide(&who, Some(JOB), &place(Mode::User), &people, NOW);
        let here = matches!(decision, Decision::Run(..)) || who.via == Via::Grant;
        prop_assert!(here, "{:?}", decision);
    }

    /// Of the proxy user's jobs, acting reaches those for which a live grant would let one act, besides one's own.
    #[test]
    fn acting_reaches_what_a_grant_names((name, proxy) in any_pair(), people in any_people(), job in "[a-z]{4}_?[0-9]?", mine in any::<bool>()) {
        let asker = principal(&name, Roles::default());
        let Ok(Some(acting)) = policy::acting(&asker, Ask::Named(&proxy), &people, NOW) else { return Ok(()) };
        for job in [job.as_str(), JOB, "shot_1", "comp_x"] {
            let by_grant = policy::acts(&asker.login_user, &acting.user, For { job: Some(job), place: None }, &people, NOW);
            let submitter = if mine { asker.login_user.clone() } else { login("somebody-else") };
            let who = Who { login_user: submitter, user: acting.user.clone(), via: Via::Grant, grant: Some(1) };
            let viewer = Viewer { principal: &asker, acting: Some(&acting), is_bound: false };
            let expected = match (by_grant.is_ok(), mine) {
                (true, _) => Sight::All,
                (false, true) => Sight::Record,
                (false, false) => Sight::None,
            };
            prop_assert_eq!(viewer.sight(&who, job, || by_grant.is_ok()), expected, "{} {:?}", job, acting);
        }
    }

    /// A credential for one user is good for that one, by a grant that lives, whoever is acted as otherwise.
    #[test]
    fn a_bound_credential_is_for_its_user_alone((name, bound) in any_pair(), people in any_people()) {
        let bound = user(&bound);
        match policy::acting(&principal(&name, Roles::default()), Ask::Bound(&bound), &people, NOW) {
            Ok(Some(acting)) => {
                prop_assert_eq!(&acting.user, &bound);
                prop_assert!(may_be_acted_as(bound.as_str(), &people));
            }
            Ok(None) => prop_assert_eq!(bound.as_str(), name.as_str()),
            Err(why) => is_for_people(&why)?,
        }
    }

    /// What may be granted is never a chain or a machine's account.
    #[test]
    fn no_grant_is_given_that_could_never_be_used(holder in any_holder(), name in any_name(), people in any_people()) {
        match policy::may_grant(&holder, &user(&name), &people) {
            Err(why) => is_for_people(&why)?,
            Ok(()) => {
                let listed = People { may_be_acted_as: Some(true), ..people.clone() };
                prop_assert!(may_be_acted_as(&name, &listed));
                prop_assert_ne!(people.may_be_acted_as, Some(false));
                if let Holder::Login(login) = &holder {
                    prop_assert_ne!(login.as_str(), name.as_str());
                    prop_assert!(!["root", "nobody"].contains(&login.as_str()));
                    prop_assert!(people.login.as_ref().is_none_or(|p| p.kind != Kind::Proxy));
                }
            }
        }
    }
}

#[test]
fn a_proxy_user_has_no_roles_of_its_own() {
    // Whoever acts as it runs processes of its account, and those could ask for themselves.
    let all = Roles { admin: true, impersonate: true, auditor: true };
    let row = |kind| People { login: Some(Person { roles: all, ..person("render", kind) }), ..People::default() };
    assert_eq!(policy::admit(&principal("render", Roles::default()), &row(Kind::Proxy)), Ok(Roles::default()));
    assert_eq!(policy::admit(&principal("render", Roles::default()), &row(Kind::Login)), Ok(all));
}

#[test]
fn the_operator_is_let_in_whatever_his_row_says_and_nobody_else_is() {
    let row = |name: &str| Some(Person { disabled: true, ..person(name, Kind::Login) });
    let operator = policy::Principal { is_operator: true, ..principal("root", Roles::default()) };
    let people = People { login: row("root"), ..People::default() };
    assert_eq!(policy::admit(&operator, &people), Ok(Roles { admin: true, ..Roles::default() }));
    let ada = policy::admit(&principal("ada", Roles::default()), &People { login: row("ada"), ..People::default() });
    assert_eq!(ada.map_err(|why| why.rule), Err("user_disabled".to_owned()));
}

#[test]
fn a_grant_to_the_machines_accounts_gives_nothing() {
    // As only a hand writes it.
    for name in ["root", "Root", "nobody", "stead"] {
        let people = People {
            target: Some(person("render", Kind::Proxy)),
            may_act: vec![(Holder::Login(login(name)), true)],
            may_be_acted_as: Some(true),
            grants: vec![grant(1, Holder::Login(login(name)))],
            ..People::default()
        };
        let acts = policy::acts(&login(name), &user("render"), For::default(), &people, NOW);
        assert_eq!(acts.map_err(|no| no.refusal().rule), Err("system_account".to_owned()), "{name}");
    }
}

#[test]
fn a_list_of_jobs_is_never_all_jobs_by_mistake() {
    assert!(JobNames::parse("").expect("all").has(JOB));
    for text in [" ", ",", "a,,b", ",a", "\t"] {
        assert!(JobNames::parse(text).is_err(), "{text:?}");
    }
    let names = JobNames::parse("shot_*, comp_?").expect("good");
    assert!(names.has("shot_7") && names.has("comp_1") && !names.has("comp_12") && !names.has("Shot_7"));
}
