//! What must hold for every name and every worker, where no tables of people matter.

use policy::{
    ACCOUNT_UNKNOWN, Accept, AccountName, Channel, Decision, Excluded, FarmFacts, Identified, LoginUser, Mode, People,
    Place, Principal, ProxyAccount, Request, Roles, Scopes, User, Via, Who, identify,
};
use proptest::prelude::*;
use warrant::Account;

fn login(name: &str) -> LoginUser {
    LoginUser::parse(name).expect("login user")
}

fn who(login_user: &str, user: &str) -> Who {
    let via = if login_user == user { Via::Own } else { Via::Operator };
    Who { login_user: login(login_user), user: User::parse(user).expect("user"), via, grant: None }
}

fn decide(who: &Who, place: &Place) -> Decision {
    policy::decide(who, None, place, &People::default(), 0)
}

fn version(who: &Who, place: &Place) -> [u8; 32] {
    policy::version(who, place, &People::default())
}

fn excluded(account: &str) -> Excluded {
    Excluded { account: account.into(), rule: ACCOUNT_UNKNOWN.into(), reason: "unknown here".into() }
}

fn named(name: &str) -> Option<ProxyAccount> {
    Some(ProxyAccount::Named(AccountName::parse(name).expect("account")))
}

fn principal(name: &str, roles: Roles) -> Principal {
    Principal {
        login_user: login(name),
        uid: None,
        roles,
        is_operator: false,
        channel: Channel::Unix,
        client: "uid 1".into(),
        credential: None,
        scopes: Scopes::ALL,
        source: "test".into(),
    }
}

fn asked(user: &str) -> Request {
    Request { user: Some(user.into()), job: None }
}

fn identified(principal: &Principal, request: &Request, farm: FarmFacts) -> Identified {
    identify(principal, None, request, farm, &People::default(), 0)
}

#[test]
fn nobody_becomes_another_without_a_role() {
    let ada = principal("ada", Roles::default());
    for (user, rule) in [
        ("bob", "impersonate"),
        ("root", "impersonate"),
        ("", "user_name"),
        ("#0", "user_name"),
        ("-1", "user_name"),
        ("+0", "user_name"),
        (" root", "user_name"),
        ("ada\n", "user_name"),
        ("а", "user_name"),
        ("../../etc/shadow", "user_name"),
        ("$(id)", "user_name"),
    ] {
        match identified(&ada, &asked(user), FarmFacts::default()) {
            Identified::Refused(refusal, rules) => {
                assert_eq!(refusal.rule, rule, "{user:?}");
                assert!(!refusal.hint.is_empty() && !rules.is_empty());
            }
            Identified::As(who, _) => panic!("{user:?} was accepted as {who:?}"),
        }
    }
}

#[test]
fn an_administrator_names_a_user_but_never_root() {
    let root = principal("root", Roles { admin: true, ..Roles::default() });
    let refused = |request: &Request, farm| match identified(&root, request, farm) {
        Identified::Refused(refusal, _) => refusal.rule,
        Identified::As(who, _) => panic!("accepted as {who:?}"),
    };
    assert_eq!(refused(&Request::default(), FarmFacts::default()), "root_is_no_identity");
    assert_eq!(refused(&asked("root"), FarmFacts { only_proxy: true }), "root_is_no_identity");
    assert!(matches!(identified(&root, &asked("ada"), FarmFacts::default()),
        Identified::As(who, _) if who.user.as_str() == "ada" && who.login_user.as_str() == "root"));
    assert!(matches!(identified(&root, &Request::default(), FarmFacts { only_proxy: true }), Identified::As(..)));
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![Just("root".to_owned()), Just("ada".to_owned()), Just("qubeproxy".to_owned()), "[a-z_][a-z0-9_.-]{0,8}"]
}

prop_compose! {
    fn any_place()(
        mode in prop_oneof![Just(Mode::User), Just(Mode::Proxy), Just(Mode::Desktop)],
        proxy in proptest::option::of(any_name()),
        throwaway in any::<bool>(),
        owner in proptest::option::of(any_name().prop_filter("no desktop of root", |n| n != "root")),
        accept in 0..3,
        online in any::<bool>(),
        drained in any::<bool>(),
        panic in proptest::option::of("[a-z]{1,5}"),
        without in proptest::option::of(any_name()),
    ) -> Place {
        Place {
            worker: "w1".into(),
            labels: Vec::new(),
            mode,
            proxy_account: if throwaway { Some(ProxyAccount::Throwaway) } else { proxy.and_then(|p| named(&p)) },
            owner: owner.map(|o| AccountName::parse(&o).expect("account")),
            accept: match accept { 0 => Accept::Owner, 1 => Accept::Any, _ => Accept::Users(vec![login("bob")]) },
            panic, drained, online,
            excluded: without.iter().map(|name| excluded(name)).collect(),
            logons: None,
        }
    }
}

proptest! {
    #[test]
    fn no_decision_is_ever_root_and_every_no_says_why(l in any_name(), u in any_name(), place in any_place()) {
        let who = who(&l, &u);
        match decide(&who, &place) {
            Decision::Run(plan, rules) => {
                let allowed = place.online && !place.drained && place.panic.is_none();
                prop_assert!(allowed);
                prop_assert_eq!(plan.mode, place.mode);
                prop_assert!(!rules.is_empty());
                if let Account::Named { name, .. } = plan.account {
                    prop_assert_ne!(name.as_str(), "root");
                    let expected = match place.mode {
                        Mode::User => Some(u),
                        Mode::Desktop => place.owner.map(|o| o.to_string()),
                        Mode::Proxy => place.proxy_account.map(|p| match p {
                            ProxyAccount::Named(n) => n.to_string(),
                            ProxyAccount::Throwaway => "(throwaway)".into(),
                        }),
                    };
                    prop_assert_eq!(Some(name.to_string()), expected);
                }
            }
            Decision::Refused(why, rules) | Decision::Waiting(why, rules) | Decision::Blocked(why, rules) => {
                prop_assert!(!why.rule.is_empty() && !why.text.is_empty() && !why.hint.is_empty());
                prop_assert_eq!(&rules.last().expect("a trail").rule, &why.rule);
            }
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer(l in any_name(), u in any_name(), place in any_place()) {
        let who = who(&l, &u);
        prop_assert_eq!(decide(&who, &place), decide(&who, &place));
        prop_assert_eq!(version(&who, &place), version(&who, &place));
    }

    #[test]
    fn what_a_request_says_never_changes_who_asks(l in any_name(), user in ".{0,12}", admin in any::<bool>()) {
        let principal = principal(&l, Roles { admin, ..Roles::default() });
        if let Identified::As(who, _) = identified(&principal, &asked(&user), FarmFacts::default()) {
            prop_assert_eq!(who.login_user, login(&l));
            prop_assert_eq!(who.user.as_str(), user.as_str());
            prop_assert!(admin || user == l);
            prop_assert_ne!(user.as_str(), "root");
        }
    }
}
