//! Every value that a decision looks at, by name. A new variant or field doesn't compile until it has its place here.
#![allow(dead_code, reason = "each file of tests uses its part")]

use policy::{
    ACCOUNT_UNKNOWN, Accept, AccountName, Association, Channel, Decision, Excluded, Grant, GrantState, Groups, Holder,
    JobNames, Kind, LoginUser, Mode, NoRight, People, Person, Place, Principal, ProxyAccount, Roles, Scopes, User, Via,
    Who,
};
use warrant::Account;

/// The time of every question.
pub(crate) const NOW: i64 = 1_000;
pub(crate) const JOB: &str = "shot_7";
pub(crate) const WORKER: &str = "w1";

pub(crate) fn login(name: &str) -> LoginUser {
    LoginUser::parse(name).expect("login user")
}

pub(crate) fn user(name: &str) -> User {
    User::parse(name).expect("user")
}

pub(crate) fn person(name: &str, kind: Kind) -> Person {
    Person { name: name.into(), kind, roles: Roles::default(), disabled: false, fault: None }
}

pub(crate) fn grant(id: u64, holder: Holder) -> Grant {
    Grant {
        id,
        holder,
        state: GrantState::Active,
        from: None,
        until: None,
        workers: job::Requires::default(),
        jobs: JobNames::default(),
        approved: false,
        ended_by: None,
        changed_outside: false,
        fault: None,
    }
}

pub(crate) fn principal(name: &str, roles: Roles) -> Principal {
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

pub(crate) fn place(mode: Mode) -> Place {
    Place {
        worker: WORKER.into(),
        labels: vec!["gpu".into()],
        mode,
        proxy_account: None,
        owner: None,
        accept: Accept::Owner,
        panic: None,
        drained: false,
        online: true,
        excluded: Vec::new(),
        logons: None,
    }
}

/// Walks from each variant to the next; the compiler asks for new ones.
fn chain<T: Clone>(first: T, next: impl Fn(&T) -> Option<T>) -> Vec<T> {
    std::iter::successors(Some(first), next).collect()
}

// --- people

/// The login user's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginRow {
    Absent,
    Is(Kind),
    Disabled,
    Faulty,
    /// The database found it by another name.
    Anothers,
}

impl LoginRow {
    pub(crate) fn all() -> Vec<Self> {
        chain(Self::Absent, |row| match row {
            Self::Absent => Some(Self::Is(Kind::Login)),
            Self::Is(Kind::Login) => Some(Self::Is(Kind::Proxy)),
            Self::Is(Kind::Proxy) => Some(Self::Disabled),
            Self::Disabled => Some(Self::Faulty),
            Self::Faulty => Some(Self::Anothers),
            Self::Anothers => None,
        })
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Absent => "no row",
            Self::Is(kind) => kind.as_str(),
            Self::Disabled => "disabled",
            Self::Faulty => "faulty",
            Self::Anothers => "ADA",
        }
    }

    pub(crate) fn row(self, roles: Roles) -> Option<Person> {
        let ada = Person { roles, ..person("ada", Kind::Login) };
        match self {
            Self::Absent => None,
            Self::Is(kind) => Some(Person { kind, ..ada }),
            Self::Disabled => Some(Person { disabled: true, ..ada }),
            Self::Faulty => Some(Person { fault: Some("type".into()), ..ada }),
            Self::Anothers => Some(Person { name: "ADA".into(), ..ada }),
        }
    }
}

/// The other's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetRow {
    Absent,
    Is(Kind),
    Admin,
    DisabledProxy,
    FaultyProxy,
    AnothersProxy,
    SystemProxy,
}

impl TargetRow {
    pub(crate) fn all() -> Vec<Self> {
        chain(Self::Absent, |row| match row {
            Self::Absent => Some(Self::Is(Kind::Login)),
            Self::Is(Kind::Login) => Some(Self::Is(Kind::Proxy)),
            Self::Is(Kind::Proxy) => Some(Self::Admin),
            Self::Admin => Some(Self::DisabledProxy),
            Self::DisabledProxy => Some(Self::FaultyProxy),
            Self::FaultyProxy => Some(Self::AnothersProxy),
            Self::AnothersProxy => Some(Self::SystemProxy),
            Self::SystemProxy => None,
        })
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Absent => "no row",
            Self::Is(kind) => kind.as_str(),
            Self::Admin => "admin",
            Self::DisabledProxy => "disabled proxy",
            Self::FaultyProxy => "faulty proxy",
            Self::AnothersProxy => "RENDER",
            Self::SystemProxy => "system account",
        }
    }

    pub(crate) fn row(self) -> Option<Person> {
        let proxy = person("render", Kind::Proxy);
        match self {
            Self::Absent => None,
            Self::Is(kind) => Some(person("render", kind)),
            Self::Admin => {
                Some(Person { roles: Roles { admin: true, ..Roles::default() }, ..person("render", Kind::Login) })
            }
            Self::DisabledProxy => Some(Person { disabled: true, ..proxy }),
            Self::FaultyProxy => Some(Person { fault: Some("roles".into()), ..proxy }),
            Self::AnothersProxy => Some(Person { name: "RENDER".into(), ..proxy }),
            Self::SystemProxy => Some(proxy),
        }
    }
}

pub(crate) fn roles() -> Vec<(&'static str, Roles)> {
    let none = Roles { admin: false, impersonate: false, auditor: false };
    vec![
        ("none", none),
        ("impersonate", Roles { impersonate: true, ..none }),
        ("admin", Roles { admin: true, ..none }),
        ("auditor", Roles { auditor: true, ..none }),
        ("all", Roles { admin: true, impersonate: true, auditor: true }),
    ]
}

/// What is in the table of grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    Nothing,
    Is(GrantState),
    Expired,
    Later,
    Faulty,
    Unapproved,
    Approved,
    ChangedOutside,
    ChangedWhereApproved,
    OtherWorker,
    OtherJob,
    /// To somebody else.
    Anothers,
    InGroup,
    OutOfGroup,
    DirectoryDown,
    EndedAndDirectoryDown,
    /// The person's own has expired, the group's lives.
    ExpiredAndGroup,
    /// The person's own lives, and nobody can say of the group's.
    OwnAndDirectoryDown,
}

impl Given {
    pub(crate) fn all() -> Vec<Self> {
        chain(Self::Nothing, |given| match given {
            Self::Nothing => Some(Self::Is(GrantState::Requested)),
            Self::Is(GrantState::Requested) => Some(Self::Is(GrantState::Active)),
            Self::Is(GrantState::Active) => Some(Self::Is(GrantState::Revoked)),
            Self::Is(GrantState::Revoked) => Some(Self::Expired),
            Self::Expired => Some(Self::Later),
            Self::Later => Some(Self::Faulty),
            Self::Faulty => Some(Self::Unapproved),
            Self::Unapproved => Some(Self::Approved),
            Self::Approved => Some(Self::ChangedOutside),
            Self::ChangedOutside => Some(Self::ChangedWhereApproved),
            Self::ChangedWhereApproved => Some(Self::OtherWorker),
            Self::OtherWorker => Some(Self::OtherJob),
            Self::OtherJob => Some(Self::Anothers),
            Self::Anothers => Some(Self::InGroup),
            Self::InGroup => Some(Self::OutOfGroup),
            Self::OutOfGroup => Some(Self::DirectoryDown),
            Self::DirectoryDown => Some(Self::EndedAndDirectoryDown),
            Self::EndedAndDirectoryDown => Some(Self::ExpiredAndGroup),
            Self::ExpiredAndGroup => Some(Self::OwnAndDirectoryDown),
            Self::OwnAndDirectoryDown => None,
        })
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Is(state) => state.as_str(),
            Self::Expired => "expired",
            Self::Later => "later",
            Self::Faulty => "faulty",
            Self::Unapproved => "unapproved where needed",
            Self::Approved => "approved where needed",
            Self::ChangedOutside => "changed outside",
            Self::ChangedWhereApproved => "changed outside where approval is needed",
            Self::OtherWorker => "other worker",
            Self::OtherJob => "other job",
            Self::Anothers => "another's",
            Self::InGroup => "group, in",
            Self::OutOfGroup => "group, out",
            Self::DirectoryDown => "group, directory down",
            Self::EndedAndDirectoryDown => "group revoked, directory down",
            Self::ExpiredAndGroup => "expired, and group in",
            Self::OwnAndDirectoryDown => "own, and group with directory down",
        }
    }

    pub(crate) fn put(self, people: &mut People) {
        let artists = || Holder::Group("artists".into());
        let own = || grant(1, Holder::Login(login("ada")));
        let known = |groups: &[&str]| Groups::Known(groups.iter().map(|g| (*g).to_owned()).collect());
        let outside = Grant { changed_outside: true, ..own() };
        let (grants, groups, needs_approval) = match self {
            Self::Nothing => (vec![], known(&[]), false),
            Self::Is(state) => (vec![Grant { state, ..own() }], known(&[]), false),
            Self::Expired => (vec![Grant { until: Some(NOW), ..own() }], known(&[]), false),
            Self::Later => (vec![Grant { from: Some(NOW + 1), ..own() }], known(&[]), false),
            Self::Faulty => (vec![Grant { fault: Some("state".into()), ..own() }], known(&[]), false),
            Self::Unapproved => (vec![own()], known(&[]), true),
            Self::Approved => (vec![Grant { approved: true, ..own() }], known(&[]), true),
            Self::ChangedOutside => (vec![outside], known(&[]), false),
            Self::ChangedWhereApproved => (vec![outside], known(&[]), true),
            Self::OtherWorker => {
                let workers = job::Requires::parse("worker=w2").expect("good");
                (vec![Grant { workers, ..own() }], known(&[]), false)
            }
            Self::OtherJob => {
                (vec![Grant { jobs: JobNames::parse("comp_*").expect("good"), ..own() }], known(&[]), false)
            }
            Self::Anothers => (vec![grant(1, Holder::Login(login("bob")))], known(&[]), false),
            Self::InGroup => (vec![grant(1, artists())], known(&["artists"]), false),
            Self::OutOfGroup => (vec![grant(1, artists())], known(&["Artists", "artist"]), false),
            Self::DirectoryDown => (vec![grant(1, artists())], Groups::Unknown("down".into()), false),
            Self::EndedAndDirectoryDown => {
                let ended = Grant { state: GrantState::Revoked, ..grant(1, artists()) };
                (vec![ended], Groups::Unknown("down".into()), false)
            }
            Self::ExpiredAndGroup => {
                (vec![Grant { until: Some(NOW), ..own() }, grant(2, artists())], known(&["artists"]), false)
            }
            Self::OwnAndDirectoryDown => (vec![own(), grant(2, artists())], Groups::Unknown("down".into()), false),
        };
        (people.grants, people.groups, people.needs_approval) = (grants, groups, needs_approval);
    }
}

/// The list of those who may act: what it says of ada, and of group:artists.
pub(crate) const LISTS: [(&str, Option<bool>, Option<bool>); 6] = [
    ("both", Some(true), Some(true)),
    ("person", Some(true), None),
    ("group", None, Some(true)),
    ("person no, group yes", Some(false), Some(true)),
    ("person yes, group no", Some(true), Some(false)),
    ("nobody", None, None),
];

/// The list of those who may be acted as.
pub(crate) const LISTED: [(&str, Option<bool>); 3] =
    [("listed", Some(true)), ("refused", Some(false)), ("unlisted", None)];

/// All rows of a question.
pub(crate) fn people(
    row: LoginRow,
    roles: Roles,
    target: TargetRow,
    given: Given,
    (_, ada, artists): (&str, Option<bool>, Option<bool>),
    may_be_acted_as: Option<bool>,
) -> People {
    let of = |holder, said: Option<bool>| said.map(|said| (holder, said));
    let may_act = of(Holder::Login(login("ada")), ada).into_iter().chain(of(Holder::Group("artists".into()), artists));
    // Every field by name: a new one has to be thought of here.
    let mut people = People {
        login: row.row(roles),
        target: target.row(),
        groups: Groups::default(),
        may_act: may_act.collect(),
        may_be_acted_as,
        grants: Vec::new(),
        association: None::<Association>,
        needs_approval: false,
        is_system: target == TargetRow::SystemProxy,
    };
    given.put(&mut people);
    people
}

/// ada's job as render; her own, when that is what it is.
pub(crate) fn who(via: Via) -> Who {
    let user = match via {
        Via::Own => User::themself(&login("ada")),
        Via::Grant | Via::Impersonate | Via::Admin | Via::Operator => user("render"),
    };
    Who { login_user: login("ada"), user, via, grant: None }
}

// --- places

pub(crate) fn modes() -> Vec<(&'static str, Place)> {
    let named = |name| Some(ProxyAccount::Named(AccountName::parse(name).expect("account")));
    let owner = || Some(AccountName::parse("ada").expect("account"));
    let of_mode = |mode| match mode {
        Mode::User => vec![("user", place(Mode::User))],
        Mode::Proxy => {
            let throwaway = chain(ProxyAccount::Throwaway, |account| match account {
                ProxyAccount::Throwaway => named("qubeproxy"),
                ProxyAccount::Named(_) => None,
            });
            let with = |account: &ProxyAccount| {
                let word = match account {
                    ProxyAccount::Throwaway => "proxy throwaway",
                    ProxyAccount::Named(_) => "proxy",
                };
                (word, Place { proxy_account: Some(account.clone()), ..place(Mode::Proxy) })
            };
            let mut all: Vec<_> = throwaway.iter().map(with).collect();
            all.push(("proxy without account", place(Mode::Proxy)));
            all.push(("proxy as root", Place { proxy_account: named("root"), ..place(Mode::Proxy) }));
            all
        }
        Mode::Desktop => {
            let accepts = chain(Accept::Owner, |accept| match accept {
                Accept::Owner => Some(Accept::Any),
                Accept::Any => Some(Accept::Users(vec![login("bob")])),
                Accept::Users(_) => None,
            });
            let with = |accept: &Accept| {
                let word = match accept {
                    Accept::Owner => "desktop of ada",
                    Accept::Any => "desktop of ada, any",
                    Accept::Users(_) => "desktop of ada, bob",
                };
                (word, Place { owner: owner(), accept: accept.clone(), ..place(Mode::Desktop) })
            };
            let mut all: Vec<_> = accepts.iter().map(with).collect();
            all.push(("desktop of nobody known", place(Mode::Desktop)));
            all
        }
    };
    let modes = chain(Mode::User, |mode| match mode {
        Mode::User => Some(Mode::Proxy),
        Mode::Proxy => Some(Mode::Desktop),
        Mode::Desktop => None,
    });
    modes.into_iter().flat_map(of_mode).collect()
}

/// What a worker is like now, and what it knows of the accounts.
pub(crate) const STATES: [&str; 5] = ["well", "offline", "drained", "panic", "account excluded"];

pub(crate) fn in_state(state: &str, mut place: Place) -> Place {
    match state {
        "offline" => place.online = false,
        "drained" => place.drained = true,
        "panic" => place.panic = Some("no launcher".into()),
        "account excluded" => {
            let excluded = |account: &str| Excluded {
                account: account.into(),
                rule: ACCOUNT_UNKNOWN.into(),
                reason: "unknown here".into(),
            };
            place.excluded = ["ada", "bob", "render", "qubeproxy", "throwaway"].map(excluded).into();
        }
        _ => {}
    }
    place
}

// --- answers

pub(crate) fn of_right(right: &Result<Option<u64>, NoRight>) -> String {
    match right {
        Ok(Some(id)) => format!("yes, by grant {id}"),
        Ok(None) => "yes".to_owned(),
        Err(NoRight::Ended(why)) => format!("no: {}", why.rule),
        Err(NoRight::NotHere(why)) => format!("not here: {}", why.rule),
        Err(NoRight::Unknown(why)) => format!("not now: {}", why.rule),
    }
}

pub(crate) fn of_decision(decision: &Decision) -> String {
    match decision {
        Decision::Run(plan, _) => {
            let account = match &plan.account {
                Account::Named { name, .. } => name.to_string(),
                Account::Throwaway => "(throwaway)".into(),
            };
            format!("run as {account}{}", if plan.shared { ", shared" } else { "" })
        }
        Decision::Waiting(why, _) => format!("wait: {}", why.rule),
        Decision::Refused(why, _) => format!("refuse: {}", why.rule),
        Decision::Blocked(why, _) => format!("block: {}", why.rule),
    }
}

// --- tables

/// A table of all cells of a product, where neighbours with the same answer share a line that names all of them.
pub(crate) struct Table {
    dims: Vec<(&'static str, Vec<String>)>,
    /// For each dimension which of its values; how many cells; the answer.
    cells: Vec<(Vec<u32>, u64, String)>,
}

impl Table {
    pub(crate) fn new(dims: Vec<(&'static str, Vec<String>)>) -> Self {
        assert!(dims.iter().all(|(_, values)| values.len() <= 32));
        Self { dims, cells: Vec::new() }
    }

    /// Asks for every cell.
    pub(crate) fn fill(mut self, answer: impl Fn(&[usize]) -> String) -> Self {
        let sizes: Vec<usize> = self.dims.iter().map(|(_, values)| values.len()).collect();
        let mut at = vec![0; sizes.len()];
        'cells: loop {
            self.cells.push((at.iter().map(|i| 1 << i).collect(), 1, answer(&at)));
            for d in (0..sizes.len()).rev() {
                at[d] += 1;
                if at[d] < sizes[d] {
                    continue 'cells;
                }
                at[d] = 0;
            }
            break;
        }
        self
    }

    pub(crate) fn print(self, title: &str) -> String {
        let total = self.cells.len();
        let merged = (0..self.dims.len()).rev().fold(self.cells, merge);
        let counted: u64 = merged.iter().map(|(_, count, _)| count).sum();
        assert_eq!(counted, total as u64, "no cell is lost");
        let mut lines: Vec<Vec<String>> = Vec::new();
        let head = self.dims.iter().map(|(name, _)| (*name).to_owned());
        lines.push(head.chain(["cells".to_owned(), "answer".to_owned()]).collect());
        for (sets, count, answer) in merged {
            let shown = self.dims.iter().zip(&sets).map(|((_, values), set)| show(values, *set));
            lines.push(shown.chain([count.to_string(), answer]).collect());
        }
        let widths: Vec<usize> =
            (0..=self.dims.len()).map(|c| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0)).collect();
        let mut text = format!("## {title}\n\n{total} cells in {} lines\n\n", lines.len() - 1);
        for line in lines {
            let cell = |(c, text): (usize, &String)| match widths.get(c) {
                Some(width) => format!("{text:<width$}"),
                None => text.clone(),
            };
            text += line.iter().enumerate().map(cell).collect::<Vec<_>>().join(" | ").trim_end();
            text.push('\n');
        }
        text
    }
}

type Cells = Vec<(Vec<u32>, u64, String)>;

/// Cells that differ only here become one, in the order of the first.
fn merge(cells: Cells, dim: usize) -> Cells {
    let mut at: std::collections::HashMap<(Vec<u32>, String), usize> = std::collections::HashMap::new();
    let mut merged: Cells = Vec::new();
    for (sets, count, answer) in cells {
        let mut others = sets.clone();
        others[dim] = 0;
        match at.entry((others, answer.clone())) {
            std::collections::hash_map::Entry::Occupied(found) => {
                let known = &mut merged[*found.get()];
                known.0[dim] |= sets[dim];
                known.1 += count;
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(merged.len());
                merged.push((sets, count, answer));
            }
        }
    }
    merged
}

fn show(values: &[String], set: u32) -> String {
    let chosen = |yes: bool| -> Vec<&str> {
        let is = |i: &usize| (set >> i & 1 == 1) == yes;
        (0..values.len()).filter(is).map(|i| values[i].as_str()).collect()
    };
    let (these, others) = (chosen(true), chosen(false));
    match others.len() {
        0 => "any".to_owned(),
        n if n < these.len() && these.len() > 2 => format!("not {}", others.join("; ")),
        _ => these.join("; "),
    }
}
