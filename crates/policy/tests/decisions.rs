//! The decision as committed tables, `matrix.txt`: every combination of what it looks at. `STEAD_UPDATE=1` rewrites
//! them; read the difference.

mod common;

use common::*;
use policy::{Acting, For, JobNames, Sight, Via, Viewer, Who};

fn words<T>(values: &[T], word: impl Fn(&T) -> &'static str) -> Vec<String> {
    values.iter().map(|v| word(v).to_owned()).collect()
}

#[test]
fn every_decision_is_as_committed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/matrix.txt");
    let head = "Every combination of what a decision looks at, and its answer. Combinations with the same answer share a \
                line, which\nnames all of them and counts them. `not` is all others of the table. Made by \
                tests/decisions.rs.";
    let text = [head.to_owned(), rights(), accounts(), sights()].join("\n\n");
    if std::env::var_os("STEAD_UPDATE").is_some() {
        std::fs::write(path, &text).expect("write the tables");
    }
    let committed = std::fs::read_to_string(path).expect("read the tables");
    let differs = text.lines().zip(committed.lines()).find(|(new, old)| new != old);
    assert!(text == committed, "tests/matrix.txt differs, first here (new, committed): {differs:?}");
}

/// Whether a job's names are right, for everything the tables of people can say.
fn rights() -> String {
    let (rows, targets, given, roles) = (LoginRow::all(), TargetRow::all(), Given::all(), roles());
    let table = Table::new(vec![
        ("via", words(&Via::ALL, |v| v.as_str())),
        ("login user", words(&rows, |r| r.word())),
        ("roles", words(&roles, |r| r.0)),
        ("the other", words(&targets, |t| t.word())),
        ("may be acted as", words(&LISTED, |l| l.0)),
        ("grant", words(&given, |g| g.word())),
        ("may act", words(&LISTS, |l| l.0)),
    ]);
    let place = place(policy::Mode::User);
    let table = table.fill(|at| {
        let [via, row, role, target, listed, grant, list] = at else { unreachable!("seven dimensions") };
        let people =
            people(rows[*row], roles[*role].1, targets[*target], given[*grant], LISTS[*list], LISTED[*listed].1);
        let wanted = For { job: Some(JOB), place: Some(&place) };
        of_right(&policy::right(&who(Via::ALL[*via]), wanted, &people, NOW))
    });
    let title = "Is ada's job as render right, on worker w1? (own: her job as herself)";
    table.print(title)
}

/// As whom it runs, once its names are right: every kind of worker, in every state.
fn accounts() -> String {
    let names =
        |login_user: &str, name: &str, via| Who { login_user: login(login_user), user: user(name), via, grant: None };
    let whos = [
        ("ada", names("ada", "ada", Via::Own)),
        ("bob", names("bob", "bob", Via::Own)),
        ("render itself", names("render", "render", Via::Own)),
        ("root", names("root", "root", Via::Own)),
        ("ada as render, grant", who(Via::Grant)),
        ("ada as render, impersonate", who(Via::Impersonate)),
        ("ada as render, admin", who(Via::Admin)),
        ("ada as render, operator", who(Via::Operator)),
        ("ada as root, operator", names("ada", "root", Via::Operator)),
        ("root as ada, operator", names("root", "ada", Via::Operator)),
        ("ada as bob, marked own", names("ada", "bob", Via::Own)),
    ];
    let modes = modes();
    let table = Table::new(vec![
        ("worker", words(&modes, |m| m.0)),
        ("its state", words(&STATES, |s| s)),
        ("job of", words(&whos, |w| w.0)),
    ]);
    let table = table.fill(|at| {
        let who = &whos[at[2]].1;
        let place = in_state(STATES[at[1]], modes[at[0]].1.clone());
        let all = policy::Roles { admin: true, impersonate: true, auditor: true };
        let (roles, target) = match who.via {
            Via::Impersonate => (policy::Roles { admin: false, ..all }, TargetRow::Is(policy::Kind::Login)),
            Via::Own | Via::Grant | Via::Admin | Via::Operator => (all, TargetRow::Is(policy::Kind::Proxy)),
        };
        let active = Given::Is(policy::GrantState::Active);
        let mut people = people(LoginRow::Is(policy::Kind::Login), roles, target, active, LISTS[0], Some(true));
        // The rows are of those whom the job names.
        let name = who.login_user.as_str();
        people.login.iter_mut().for_each(|p| p.name = name.to_owned());
        if name == "render" {
            people.login = people.target.clone();
        }
        if who.user.as_str() != "render" {
            people.target = None;
        }
        of_decision(&policy::decide(who, Some(JOB), &place, &people, NOW))
    });
    table.print("As whom does it run?")
}

/// What of which job is seen by whom.
fn sights() -> String {
    // As whom, for which jobs, and whether by a credential for that one alone.
    let acting = [
        ("nobody", None, false),
        ("nobody, by a job's token", None, true),
        ("render", Some(("render", "")), false),
        ("render, for jobs of its name", Some(("render", "comp_*,shot_*")), false),
        ("render, for jobs of other names", Some(("render", "comp_*,bake")), false),
        ("other", Some(("other", "")), false),
    ];
    let names = [
        ("ada as ada", ("ada", "ada")),
        ("ada as render", ("ada", "render")),
        ("bob as ada", ("bob", "ada")),
        ("bob as render", ("bob", "render")),
        ("render as render", ("render", "render")),
        ("bob as bob", ("bob", "bob")),
    ];
    let askers = ["ada", "render"];
    let (roles, rights) = (roles(), [true, false]);
    let table = Table::new(vec![
        ("asks", words(&askers, |a| a)),
        ("acting as", words(&acting, |a| a.0)),
        ("job of", words(&names, |n| n.0)),
        ("roles", words(&roles, |r| r.0)),
        ("its right", words(&rights, |r| if *r { "lives" } else { "ended" })),
    ]);
    let table = table.fill(|at| {
        let principal = principal(askers[at[0]], roles[at[3]].1);
        let (_, acting, is_bound) = acting[at[1]];
        let named = |jobs| JobNames::parse(jobs).expect("patterns");
        let acting = acting.map(|(name, jobs)| Acting { user: user(name), grant: 1, jobs: named(jobs) });
        let (login_user, name) = names[at[2]].1;
        let via = if login_user == name { Via::Own } else { Via::Grant };
        let who = Who { login_user: login(login_user), user: user(name), via, grant: None };
        let viewer = Viewer { principal: &principal, acting: acting.as_ref(), is_bound };
        match viewer.sight(&who, "shot_010", || rights[at[4]]) {
            Sight::All => "all",
            Sight::Record => "state, reason and kill",
            Sight::None => "not there",
        }
        .to_owned()
    });
    table.print("What of a job is seen?")
}
