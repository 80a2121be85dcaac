//! What a decision says of itself, word for word, and the corners of it that the tables of `decisions.rs` don't tell
//! apart: found wanting by a mutation trial.

mod common;

use common::*;
use policy::{
    ACCOUNT_UNKNOWN, Accept, AccountName, Acting, Ask, Association, Decision, Effect, Excluded, FarmFacts, GrantState,
    Identified, JobNames, Kind, Mode, People, Place, Principal, ProxyAccount, Refusal, Request, Roles, Rule, Via, Who,
    decide, identify,
};

/// ada, who may act as render.
fn rows() -> People {
    let (login, target) = (LoginRow::Is(Kind::Login), TargetRow::Is(Kind::Proxy));
    people(login, Roles::default(), target, common::Given::Is(GrantState::Active), LISTS[0], Some(true))
}

/// Nobody's rows: everybody is an ordinary person.
fn bare() -> People {
    People::default()
}

fn acting() -> Acting {
    Acting { user: user("render"), grant: 1, jobs: JobNames::default() }
}

fn asked(user: Option<&str>) -> Request {
    Request { user: user.map(str::to_owned), job: Some(JOB.to_owned()) }
}

fn of(principal: &Principal, acting: Option<&Acting>, asked: &Request, people: &People) -> Identified {
    identify(principal, acting, asked, FarmFacts::default(), people, NOW)
}

#[track_caller]
fn identified(principal: &Principal, acting: Option<&Acting>, asked: &Request, people: &People) -> (Who, Vec<Rule>) {
    match of(principal, acting, asked, people) {
        Identified::As(who, trail) => (who, trail),
        Identified::Refused(why, _) => panic!("refused: {why:?}"),
    }
}

#[track_caller]
fn refused(decision: Decision) -> (Refusal, Vec<Rule>) {
    match decision {
        Decision::Refused(why, trail) => (why, trail),
        other => panic!("not refused: {other:?}"),
    }
}

/// A step of a trail, without its effect.
fn step(rule: &Rule) -> (&str, &str, &str) {
    (&rule.rule, &rule.text, &rule.source)
}

fn names(login_user: &str, name: &str, via: Via) -> Who {
    Who { login_user: login(login_user), user: user(name), via, grant: None }
}

fn account(name: &str) -> AccountName {
    AccountName::parse(name).expect("account")
}

#[test]
fn whoever_acts_as_another_may_name_that_one_and_nobody_else() {
    let ada = principal("ada", Roles { admin: true, impersonate: true, auditor: true });
    for asked_for in [None, Some("render")] {
        let (who, trail) = identified(&ada, Some(&acting()), &asked(asked_for), &rows());
        assert_eq!(who, Who { grant: Some(1), ..names("ada", "render", Via::Grant) }, "{asked_for:?}");
        let steps: Vec<_> = trail.iter().map(step).collect();
        assert_eq!(steps[0].2, "test", "where the login user is known from");
        assert_eq!(steps[1..], [("grant", "ada acts as render by grant 1", "grant 1")], "{asked_for:?}");
    }
    for asked_for in ["ada", "bob", "", "Render", "render "] {
        let Identified::Refused(why, _) = of(&ada, Some(&acting()), &asked(Some(asked_for)), &rows()) else {
            panic!("{asked_for:?} was accepted");
        };
        assert_eq!((why.rule.as_str(), why.value.as_str()), ("acting_and_user", asked_for));
        assert_eq!(why.text, format!("ada acts as render and names {asked_for:?} as the user too"));
    }
}

#[test]
fn a_trail_says_whether_the_user_was_named_and_by_what_right() {
    let (ada, none) = (principal("ada", Roles::default()), bare());
    let told = |principal: &Principal, asked_for: Option<&str>| {
        let (who, trail) = identified(principal, None, &asked(asked_for), &none);
        let [first, second] = &trail[..] else { panic!("two steps: {trail:?}") };
        assert_eq!(step(first).2, "test");
        assert!(trail.iter().all(|rule| rule.effect == Effect::Selects));
        let (rule, text, source) = step(second);
        (who.via, rule.to_owned(), text.to_owned(), source.to_owned())
    };
    let said = |via, rule: &str, text: &str, source: &str| (via, rule.to_owned(), text.to_owned(), source.to_owned());
    let own = said(Via::Own, "own_user", "the user is ada: whoever submits, runs", "default");
    assert_eq!(told(&ada, None), own);
    let named = said(Via::Own, "own_user", "the user is ada, who submits", "request");
    assert_eq!(told(&ada, Some("ada")), named);
    let roles = "roles of the login user";
    let by_role = principal("ada", Roles { impersonate: true, ..Roles::default() });
    let impersonated = said(Via::Impersonate, "impersonate", "ada submitted it as bob", roles);
    assert_eq!(told(&by_role, Some("bob")), impersonated);
    let admin = principal("ada", Roles { admin: true, ..Roles::default() });
    assert_eq!(told(&admin, Some("bob")), said(Via::Admin, "admin", "ada submitted it as bob", roles));
    let operator = Principal { is_operator: true, ..ada };
    let by_operator = said(Via::Operator, "operator", "ada submitted it as bob", "the farm's operator");
    assert_eq!(told(&operator, Some("bob")), by_operator);
}

/// Sessions of an account that several people's jobs run under are kept apart; one person's own need not be.
#[test]
fn an_account_is_shared_when_it_is_a_proxy_users_by_whatever_right() {
    let proxy = || Some(person("render", Kind::Proxy));
    let roles = Roles { admin: true, impersonate: true, auditor: false };
    let ada = || Some(policy::Person { roles, ..person("ada", Kind::Login) });
    let is_shared = |who: &Who, people: &People| match decide(who, Some(JOB), &place(Mode::User), people, NOW) {
        Decision::Run(plan, _) => plan.shared,
        other => panic!("{who:?}: {other:?}"),
    };
    let table = [
        (names("ada", "ada", Via::Own), People { login: ada(), ..bare() }, false),
        (names("render", "render", Via::Own), People { login: proxy(), ..bare() }, true),
        (names("ada", "render", Via::Grant), rows(), true),
        (names("ada", "render", Via::Impersonate), People { login: ada(), ..bare() }, false),
        (names("ada", "render", Via::Admin), People { login: ada(), target: proxy(), ..bare() }, true),
        // Whose row the login user's is says nothing of another's account.
        (names("render", "bob", Via::Operator), People { login: proxy(), ..bare() }, false),
        (names("ada", "render", Via::Operator), People { target: proxy(), ..bare() }, true),
    ];
    for (who, people, shared) in table {
        assert_eq!(is_shared(&who, &people), shared, "{who:?}");
    }
}

#[test]
fn only_the_account_that_a_host_excluded_is_excluded_there() {
    let excluded = |account: &str| Excluded {
        account: account.into(),
        rule: ACCOUNT_UNKNOWN.into(),
        reason: "unknown here".into(),
    };
    let without =
        |accounts: &[&str], of: Place| Place { excluded: accounts.iter().map(|a| excluded(a)).collect(), ..of };
    let at = |place: &Place| decide(&names("ada", "ada", Via::Own), Some(JOB), place, &bare(), NOW);
    let proxy = |account| Place { proxy_account: Some(account), ..place(Mode::Proxy) };
    let shared = proxy(ProxyAccount::Named(account("qubeproxy")));
    for (name, place) in
        [("ada", place(Mode::User)), ("qubeproxy", shared), ("throwaway", proxy(ProxyAccount::Throwaway))]
    {
        let all = ["ada", "qubeproxy", "throwaway"];
        let others: Vec<_> = all.into_iter().filter(|other| *other != name).collect();
        assert!(matches!(at(&without(&others, place.clone())), Decision::Run(..)), "{name}: others are excluded");
        let (why, trail) = refused(at(&without(&all, place)));
        assert_eq!((why.rule.as_str(), why.value.as_str()), ("account_excluded", name));
        assert_eq!(why.text, format!("the worker could not run {name}: unknown here"));
        assert!(why.hint.contains("worker w1"), "{}", why.hint);
        let last = trail.last().expect("a trail");
        assert_eq!(step(last), ("account_excluded", why.text.as_str(), "worker w1"));
    }
}

/// Else what a session's row or a proof says of `throwaway` could be of either.
#[test]
fn no_account_has_the_name_of_the_throwaway_one() {
    let own = names("throwaway", "throwaway", Via::Own);
    let desktop = Place { owner: Some(account("throwaway")), accept: Accept::Any, ..place(Mode::Desktop) };
    for (who, place) in [(own, place(Mode::User)), (names("ada", "ada", Via::Own), desktop)] {
        let (why, _) = refused(decide(&who, Some(JOB), &place, &bare(), NOW));
        assert_eq!((why.rule.as_str(), why.value.as_str()), ("account_reserved", "throwaway"));
    }
}

/// The worker and its setting stand in each trail.
#[test]
fn a_trail_names_the_worker_and_what_is_set_there() {
    let run = |place: Place, who: &Who| match decide(who, Some(JOB), &place, &bare(), NOW) {
        Decision::Run(_, trail) => trail.iter().skip(1).map(|r| (r.rule.clone(), r.source.clone())).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let ada = names("ada", "ada", Via::Own);
    let is = |rule: &str, source: &str| (rule.to_owned(), source.to_owned());
    assert_eq!(run(place(Mode::User), &ada), [is("mode_user", "worker w1: proxy_execution_mode = user")]);
    let proxy = Place { proxy_account: Some(ProxyAccount::Throwaway), ..place(Mode::Proxy) };
    assert_eq!(run(proxy, &ada), [is("mode_proxy", "worker w1: proxy_execution_mode = proxy")]);
    let desktop = |accept| Place { owner: Some(account("ada")), accept, ..place(Mode::Desktop) };
    let some = || Accept::Users(vec![login("bob"), login("cyd")]);
    for (accept, who, said) in [
        (Accept::Owner, &ada, "accept = owner"),
        (Accept::Any, &ada, "accept = any"),
        (some(), &names("cyd", "cyd", Via::Own), "accept = bob cyd"),
        (some(), &ada, "accept = owner"),
    ] {
        let steps = run(desktop(accept), who);
        let takes = is("desktop_accept", &format!("worker w1: {said}"));
        assert_eq!(steps, [is("mode_desktop", "worker w1: desktop mode"), takes]);
    }
    let (_, trail) = refused(decide(&ada, Some(JOB), &place(Mode::Proxy), &bare(), NOW));
    assert_eq!(trail.last().expect("a trail").source, "worker w1");
    let away = Place { online: false, ..place(Mode::User) };
    match decide(&ada, Some(JOB), &away, &bare(), NOW) {
        Decision::Waiting(why, trail) => {
            assert_eq!(
                (why.rule.as_str(), trail.last().expect("a trail").source.as_str()),
                ("worker_offline", "worker w1")
            );
        }
        other => panic!("{other:?}"),
    }
}

/// One at a time: naming another for one request is refused while an association is active, oneself included.
#[test]
fn who_acts_as_one_names_no_other_for_a_request() {
    let ada = principal("ada", Roles::default());
    let associated = People { association: Some(Association { proxy_user: "render".into() }), ..rows() };
    let acts = |ask| policy::acting(&ada, ask, &associated, NOW);
    for ask in [Ask::Nothing, Ask::Named("render")] {
        assert_eq!(acts(ask), Ok(Some(acting())), "{ask:?}");
    }
    for name in ["comp", "ada", "bob", "", "Render"] {
        let why = acts(Ask::Named(name)).expect_err("refused");
        assert_eq!((why.rule.as_str(), why.value.as_str()), ("association_active", name));
        assert_eq!(why.text, "ada acts as render now, and as one at a time");
        assert_eq!(why.hint, format!("`stead as --clear` first, or `stead as {name}`"));
    }
    // What was named is refused by its own rule, and what was switched to says that it is gone.
    let ended = People { may_be_acted_as: Some(false), ..associated };
    let why = policy::acting(&ada, Ask::Named("comp"), &ended, NOW).expect_err("refused");
    assert_eq!(why.rule, "association_active");
    let why = policy::acting(&ada, Ask::Named("render"), &ended, NOW).expect_err("refused");
    assert_eq!((why.rule.as_str(), why.value.as_str()), ("association_ended", "render"));
    let alone = People { association: None, ..ended };
    let why = policy::acting(&ada, Ask::Named("render"), &alone, NOW).expect_err("refused");
    assert_eq!(why.rule, "may_be_acted_as");
    assert_eq!(policy::acting(&ada, Ask::Named("ada"), &alone, NOW), Ok(None), "oneself is no other");
}
