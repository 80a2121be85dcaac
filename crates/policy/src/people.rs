//! Who may act as whom: what the tables say of the people of one question, and what follows from it.
//!
//! The rows are read afresh for each question and passed in. A row that can't be understood gives nothing: it is
//! never "everybody". Doesn't know tables, seals or directories: whoever fills [`People`] does.

use crate::types::{Effect, Place, Principal, Refusal, Roles, Trail, Via, Who};
use job::Requires;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warrant::names::NAME_MAX;
use warrant::{LoginUser, User, sha256};

/// Names that no one acts as, whatever a table says: they are the machine's, or the farm's own.
const MACHINE: [&str; 8] = ["root", "daemon", "bin", "sys", "nobody", "toor", "stead", "stead-worker"];

/// What a user is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A person.
    Login,
    /// Acted as by others; never acts as anybody.
    Proxy,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Login, Self::Proxy];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Proxy => "proxy",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A row of `users`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub kind: Kind,
    pub roles: Roles,
    pub disabled: bool,
    /// Why the row can't be understood; it gives nothing then.
    pub fault: Option<String>,
}

/// Who holds a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    Login(LoginUser),
    /// Everyone whom the directory says is in it, at the time of the question.
    Group(String),
}

impl Holder {
    /// `ada`, or `group:artists`. Nothing stands for everybody.
    pub fn parse(text: &str) -> Result<Self, warrant::NameError> {
        match text.strip_prefix("group:") {
            // A group's name goes through the same look-ups, so it has the same form.
            Some(group) => LoginUser::parse(group).map(|g| Self::Group(g.to_string())),
            None => LoginUser::parse(text).map(Self::Login),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Login(login) => write!(f, "{login}"),
            Self::Group(group) => write!(f, "group:{group}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    Requested,
    Active,
    Revoked,
}

impl GrantState {
    pub const ALL: [Self; 3] = [Self::Requested, Self::Active, Self::Revoked];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Revoked => "revoked",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// Jobs by name: patterns with `*` and `?`, separated by commas. None at all: every job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobNames(Vec<String>);

impl JobNames {
    /// A text that holds only commas or spaces was meant for something, and is never every job.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let patterns: Vec<String> = text.split(',').map(|p| p.trim().to_owned()).collect();
        match patterns.iter().any(String::is_empty) {
            true => Err(format!("{text:?} has an empty name in it")),
            false => Ok(Self(patterns)),
        }
    }

    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// The patterns; none where it is every job.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.0
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        self.0.is_empty() || self.0.iter().any(|pattern| is_like(&chars(pattern), &chars(name)))
    }

    /// What any of them has. Nothing of none: who holds no grant reaches no job.
    fn together<'a>(all: impl Iterator<Item = &'a Self>) -> Option<Self> {
        all.cloned().reduce(|a, b| match a.is_all() || b.is_all() {
            true => Self::default(),
            false => Self([a.0, b.0].concat()),
        })
    }
}

impl std::fmt::Display for JobNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Linear: remembers only the last `*`.
fn is_like(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// A row of `grants` of the pair asked about. Times in µs since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub id: u64,
    pub holder: Holder,
    pub state: GrantState,
    pub from: Option<i64>,
    pub until: Option<i64>,
    /// On which workers.
    pub workers: Requires,
    /// For which jobs.
    pub jobs: JobNames,
    /// By somebody else than whom it serves, and the row is as the supervisor wrote it.
    pub approved: bool,
    pub ended_by: Option<String>,
    /// The row is not as the supervisor wrote it.
    pub changed_outside: bool,
    /// Why the row can't be understood; it gives nothing then.
    pub fault: Option<String>,
}

/// The directory's groups of the login user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    Known(Vec<String>),
    /// The directory could not be asked.
    Unknown(String),
}

impl Default for Groups {
    fn default() -> Self {
        Self::Known(Vec::new())
    }
}

/// The one proxy user that a login user acts as for the time being.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    pub proxy_user: String,
}

/// All rows that matter for one login user and one user they want to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People {
    /// The login user's own row; none is an ordinary person's.
    pub login: Option<Person>,
    /// The other's.
    pub target: Option<Person>,
    pub groups: Groups,
    /// Rows of the list of those who may act: the login user's, and groups'.
    pub may_act: Vec<(Holder, bool)>,
    /// The other's row in the list of those who may be acted as.
    pub may_be_acted_as: Option<bool>,
    /// Grants of the login user and of groups for the other.
    pub grants: Vec<Grant>,
    pub association: Option<Association>,
    /// Only approved grants count.
    pub needs_approval: bool,
    /// The other is a system account of the supervisor's host.
    pub is_system: bool,
}

impl People {
    /// A hash of exactly these rows, so that one edited by hand shows in the record.
    #[must_use]
    pub fn version(&self) -> [u8; 32] {
        sha256(&[format!("{self:?}").as_bytes()])
    }
}

/// Acting as a proxy user, by a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acting {
    pub user: User,
    pub grant: u64,
    /// Which of the user's jobs it reaches: those that live grants name, besides what one submitted oneself.
    pub jobs: JobNames,
}

/// How a request says that it acts as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// It doesn't: what holds is the association.
    Nothing,
    /// It names one, for itself alone.
    Named(&'a str),
    /// Its credential was made for exactly this user.
    Bound(&'a User),
}

/// Why there is no right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRight {
    /// Nowhere, for this job.
    Ended(Refusal),
    /// Not on this worker.
    NotHere(Refusal),
    /// Nobody knows: the directory did not answer.
    Unknown(Refusal),
}

impl NoRight {
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Ended(refusal) | Self::NotHere(refusal) | Self::Unknown(refusal) => refusal,
        }
    }
}

/// For what a right is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct For<'a> {
    /// `None`: for no job in particular.
    pub job: Option<&'a str>,
    /// `None`: on no worker in particular.
    pub place: Option<&'a Place>,
}

/// Whether someone who authenticated may do anything here, and with which roles.
pub fn admit(principal: &Principal, people: &People) -> Result<Roles, Refusal> {
    if principal.is_operator {
        return Ok(Roles { admin: true, ..Roles::default() });
    }
    able(&principal.login_user, people)?;
    // A credential for less carries no role. Nor does a proxy user: else whoever runs as it could take its role.
    let row = people.login.as_ref().filter(|row| principal.scopes.manage && row.kind != Kind::Proxy);
    Ok(row.map(|p| p.roles).unwrap_or_default())
}

/// As whom a request acts, if it does. What can't be had is refused: it never becomes an act of oneself.
pub fn acting(principal: &Principal, ask: Ask<'_>, people: &People, now: i64) -> Result<Option<Acting>, Refusal> {
    let login = &principal.login_user;
    let active = people.association.as_ref().map(|a| a.proxy_user.as_str());
    let (name, by_association) = match (ask, active) {
        (Ask::Bound(user), _) if user.as_str() == login.as_str() => return Ok(None),
        (Ask::Bound(user), _) => (user.as_str(), false),
        (Ask::Named(name), Some(active)) if name != active => return Err(busy(login, active, name)),
        (Ask::Nothing, None) => return Ok(None),
        (Ask::Nothing | Ask::Named(_), Some(active)) => (active, true),
        (Ask::Named(name), None) if name == login.as_str() => return Ok(None),
        (Ask::Named(name), None) => (name, false),
    };
    let found = match User::parse(name) {
        Ok(user) => acts(login, &user, For::default(), people, now).map(|grant| {
            let jobs = reach(login, people, now).unwrap_or_else(|| grant.jobs.clone());
            Acting { user, grant: grant.id, jobs }
        }),
        Err(error) => Err(NoRight::Ended(bad_name(name, &error))),
    };
    found.map(Some).map_err(|no| match no.refusal() {
        why if by_association => Refusal {
            rule: "association_ended".into(),
            value: active.unwrap_or_default().to_owned(),
            text: match name {
                "" => "you act as a user whose name can't be read (table associations)".to_owned(),
                name => format!("you act as {name}, and that right is gone: {}", why.text),
            },
            hint: "`stead as --clear` makes you yourself again".into(),
        },
        why => why,
    })
}

fn busy(login: &LoginUser, active: &str, asked: &str) -> Refusal {
    let asked: String = asked.chars().take(NAME_MAX).collect();
    Refusal {
        rule: "association_active".into(),
        value: asked.escape_debug().to_string(),
        text: format!("{login} acts as {active} now, and as one at a time"),
        hint: format!("`stead as --clear` first, or `stead as {}`", asked.escape_debug()),
    }
}

/// What is far too long for a name is not said back.
fn bad_name(name: &str, error: &warrant::NameError) -> Refusal {
    let name: String = name.chars().take(NAME_MAX).collect();
    Refusal {
        rule: "user_name".into(),
        value: name.escape_debug().to_string(),
        text: format!("{name:?} is no user name: {error}"),
        hint: "`stead as --list` shows whom you may act as".into(),
    }
}

/// Whether a stored job's names are still right: asked at every warrant, batch and retry. The grant that gives it.
pub fn right(who: &Who, wanted: For<'_>, people: &People, now: i64) -> Result<Option<u64>, NoRight> {
    able(&who.login_user, people).map_err(NoRight::Ended)?;
    match who.via {
        Via::Own if who.user.as_str() == who.login_user.as_str() => Ok(None),
        Via::Own => Err(NoRight::Ended(Refusal {
            rule: "own_user".into(),
            value: who.user.to_string(),
            text: format!("the job says it is {}'s own, and names {}", who.login_user, who.user),
            hint: "submit it again".into(),
        })),
        Via::Grant => acts(&who.login_user, &who.user, wanted, people, now).map(|grant| Some(grant.id)),
        Via::Impersonate | Via::Admin => {
            let roles = people.login.as_ref().map(|p| p.roles).unwrap_or_default();
            may_name(&who.login_user, roles, &who.user, people).map(|_| None).map_err(NoRight::Ended)
        }
        Via::Operator => nameable(&who.user, people).map(|()| None).map_err(NoRight::Ended),
    }
}

/// Nobody's jobs run as a user who is disabled, whoever submits them.
pub(crate) fn nameable(user: &User, people: &People) -> Result<(), Refusal> {
    let Some(target) = &people.target else { return Ok(()) };
    if let Some(why) = misread(target, user.as_str()) {
        return Err(bad_row(user.as_str(), &why));
    }
    if target.disabled {
        return Err(disabled(user.as_str()));
    }
    Ok(())
}

/// Why a row says nothing of this user. Some databases find `ADA` for `ada`.
fn misread(person: &Person, name: &str) -> Option<String> {
    let other = || (person.name != name).then(|| format!("it is of {:?}", person.name));
    person.fault.clone().or_else(other)
}

fn bad_row(name: &str, why: &str) -> Refusal {
    Refusal {
        rule: "user_row".into(),
        value: name.to_owned(),
        text: format!("the row of {name} in the table users can't be understood: {why}"),
        hint: format!("an administrator puts it right: `stead users add {name}`"),
    }
}

fn disabled(name: &str) -> Refusal {
    Refusal {
        rule: "user_disabled".into(),
        value: name.to_owned(),
        text: format!("{name} is disabled on this farm"),
        hint: "ask an administrator of the farm".into(),
    }
}

/// The login user can do anything at all.
pub(crate) fn able(login: &LoginUser, people: &People) -> Result<(), Refusal> {
    let Some(person) = &people.login else { return Ok(()) };
    if let Some(why) = misread(person, login.as_str()) {
        return Err(bad_row(login.as_str(), &why));
    }
    if person.disabled {
        return Err(disabled(login.as_str()));
    }
    Ok(())
}

/// The role by which someone may name another as the user.
pub(crate) fn may_name(login: &LoginUser, roles: Roles, user: &User, people: &People) -> Result<Via, Refusal> {
    if people.login.as_ref().is_some_and(|p| p.kind == Kind::Proxy) {
        return Err(proxy_acts(login));
    }
    let refused = |text: String, hint: &str| {
        Err(Refusal { rule: "impersonate".into(), value: user.to_string(), text, hint: hint.into() })
    };
    if roles.admin {
        return nameable(user, people).map(|()| Via::Admin);
    }
    if !roles.impersonate {
        return refused(
            format!("{login} may not submit as {user}"),
            "submit without --user, or ask an administrator for the role `impersonate`",
        );
    }
    match &people.target {
        Some(target) if target.roles.admin => refused(
            format!("{login} holds the role impersonate, which does not reach {user}"),
            "an administrator can submit it",
        ),
        Some(target) if target.kind == Kind::Proxy => refused(
            format!("{user} is a proxy user: it is acted as by a grant, not by the role impersonate"),
            "ask for a grant, and use --as",
        ),
        _ => nameable(user, people).map(|()| Via::Impersonate),
    }
}

/// The live grant by which `login` acts as `user`.
pub fn acts<'p>(
    login: &LoginUser,
    user: &User,
    wanted: For<'_>,
    people: &'p People,
    now: i64,
) -> Result<&'p Grant, NoRight> {
    let ended = NoRight::Ended;
    able(login, people).map_err(ended)?;
    if is_machines_name(login.as_str()) {
        return Err(ended(system_acts(login)));
    }
    if people.login.as_ref().is_some_and(|p| p.kind == Kind::Proxy) {
        return Err(ended(proxy_acts(login)));
    }
    let (own, unknown) = held(login, wanted, people, now);
    // Who holds none learns nothing of whether there is such a user.
    if own.is_empty() {
        return Err(if unknown { directory(login, people) } else { ended(no_grant(login, user)) });
    }
    actable(user, people).map_err(ended)?;
    // Being named oneself counts for more than what holds for a group.
    if listed(&Holder::Login(login.clone()), people) == Some(false) {
        return Err(ended(not_listed(login.as_str())));
    }
    let mut why = None;
    for grant in &own {
        match gives(grant, wanted, people, now) {
            Ok(()) => return Ok(grant),
            // Told is what is nearest to a right: on another worker, then the newest grant.
            Err(no) if matches!((&why, &no), (Some(NoRight::NotHere(_)), NoRight::Ended(_))) => {}
            Err(no) => why = Some(no),
        }
    }
    if unknown {
        return Err(directory(login, people));
    }
    Err(why.unwrap_or_else(|| ended(no_grant(login, user))))
}

/// Jobs that the live grants of a login user name together.
fn reach(login: &LoginUser, people: &People, now: i64) -> Option<JobNames> {
    let own = held(login, For::default(), people, now).0;
    let live = own.into_iter().filter(|grant| gives(grant, For::default(), people, now).is_ok());
    JobNames::together(live.map(|grant| &grant.jobs))
}

/// The grants that name the login user or one of their groups; and whether there may be more, if the directory is down:
/// one that gives nothing whoever is in its group isn't waited for.
fn held<'p>(login: &LoginUser, wanted: For<'_>, people: &'p People, now: i64) -> (Vec<&'p Grant>, bool) {
    let mut unknown = false;
    let own = people.grants.iter().filter(|grant| match (&grant.holder, &people.groups) {
        (Holder::Login(name), _) => name == login,
        (Holder::Group(group), Groups::Known(groups)) => groups.contains(group),
        (Holder::Group(_), Groups::Unknown(_)) => {
            unknown |= !matches!(gives(grant, wanted, people, now), Err(NoRight::Ended(_)));
            false
        }
    });
    (own.collect(), unknown)
}

fn gives(grant: &Grant, wanted: For<'_>, people: &People, now: i64) -> Result<(), NoRight> {
    let id = grant.id;
    let no = |rule: &str, text: String, hint: &str| Refusal {
        rule: rule.into(),
        value: id.to_string(),
        text,
        hint: hint.to_owned(),
    };
    let ended = |rule, text, hint: &str| Err(NoRight::Ended(no(rule, text, hint)));
    if let Some(fault) = &grant.fault {
        return ended(
            "grant_row",
            format!("grant {id} can't be understood: {fault}"),
            "an administrator puts its row right",
        );
    }
    match grant.state {
        GrantState::Active => {}
        GrantState::Requested => {
            return ended(
                "grant_requested",
                format!("grant {id} is only asked for"),
                "somebody else approves it: `stead grants approve`",
            );
        }
        GrantState::Revoked => {
            let by = grant.ended_by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
            return ended("grant_revoked", format!("grant {id} was revoked{by}"), "ask for a new one");
        }
    }
    if grant.from.is_some_and(|from| now < from) {
        return ended(
            "grant_not_yet",
            format!("grant {id} begins later"),
            "wait for its beginning (`stead grants list`)",
        );
    }
    if grant.until.is_some_and(|until| now >= until) {
        return ended("grant_expired", format!("grant {id} has ended"), "ask for a new one");
    }
    if people.needs_approval && !grant.approved {
        let outside = if grant.changed_outside { " (it was changed outside of Stead)" } else { "" };
        return ended(
            "grant_approval",
            format!("grant {id} is not approved{outside}, and this farm wants that"),
            "somebody else than it serves approves it: `stead grants approve`",
        );
    }
    if listed(&grant.holder, people) != Some(true) {
        return Err(NoRight::Ended(not_listed(&grant.holder.to_string())));
    }
    if let Some(job) = wanted.job
        && !grant.jobs.has(job)
    {
        return ended(
            "grant_jobs",
            format!("grant {id} is for jobs named {}, not {job:?}", grant.jobs),
            "give the job such a name",
        );
    }
    if let Some(place) = wanted.place
        && let Err(unmet) = place.admits(&grant.workers)
    {
        return Err(NoRight::NotHere(no(
            "grant_workers",
            format!("grant {id} is for workers with {}: {unmet}", grant.workers),
            "it runs on a worker that the grant names",
        )));
    }
    Ok(())
}

/// Whether a grant of this holder could give anything: only administrators put somebody in the list.
pub fn is_listed(holder: &Holder, people: &People) -> Result<(), Refusal> {
    match listed(holder, people) {
        Some(true) => Ok(()),
        Some(false) | None => Err(not_listed(&holder.to_string())),
    }
}

/// What the list of those who may act says; nothing, if they aren't in it.
fn listed(holder: &Holder, people: &People) -> Option<bool> {
    let said = people.may_act.iter().filter(|(who, _)| who == holder).map(|(_, allowed)| *allowed);
    said.reduce(|a, b| a && b)
}

/// Whether anybody may act as this user.
fn actable(user: &User, people: &People) -> Result<(), Refusal> {
    let no = |rule: &str, text: String, hint: String| {
        Err(Refusal { rule: rule.into(), value: user.to_string(), text, hint })
    };
    if is_machines(user, people) {
        return no(
            "system_account",
            format!("{user} is a system account: nobody acts as it"),
            "name a proxy user".into(),
        );
    }
    let Some(target) = people.target.as_ref().filter(|t| t.kind == Kind::Proxy && misread(t, user.as_str()).is_none())
    else {
        return no(
            "not_a_proxy_user",
            format!("{user} is no proxy user"),
            format!("an administrator can make it one: `stead users add {user} --type proxy`"),
        );
    };
    if target.disabled {
        return Err(disabled(user.as_str()));
    }
    if people.may_be_acted_as != Some(true) {
        return no(
            "may_be_acted_as",
            format!("{user} is not in the list of those who may be acted as"),
            "an administrator puts it there (table may_be_acted_as)".into(),
        );
    }
    Ok(())
}

/// Whether a user may be made a proxy user.
pub fn may_be_proxy(user: &User, people: &People) -> Result<(), Refusal> {
    if !is_machines(user, people) {
        return Ok(());
    }
    Err(Refusal {
        rule: "system_account".into(),
        value: user.to_string(),
        text: format!("{user} is a system account: nobody acts as it"),
        hint: "make an ordinary account for the work, and name that".into(),
    })
}

fn is_machines(user: &User, people: &People) -> bool {
    people.is_system || is_machines_name(user.as_str())
}

/// However it is written: a directory may know `Root`, too.
fn is_machines_name(name: &str) -> bool {
    MACHINE.iter().any(|machine| machine.eq_ignore_ascii_case(name))
}

/// Whether a grant may be given at all. `people` is about the holder and the proxy user.
pub fn may_grant(holder: &Holder, user: &User, people: &People) -> Result<(), Refusal> {
    if let Holder::Login(login) = holder {
        if login.as_str() == user.as_str() {
            return Err(Refusal {
                rule: "grant_to_self".into(),
                value: user.to_string(),
                text: format!("{user} is {user} without a grant"),
                hint: "name two different users".into(),
            });
        }
        if is_machines_name(login.as_str()) {
            return Err(system_acts(login));
        }
        if people.login.as_ref().is_some_and(|p| p.kind == Kind::Proxy) {
            return Err(proxy_acts(login));
        }
    }
    // The lists are kept beside the grants; a grant may come first.
    let listed = People { may_be_acted_as: Some(people.may_be_acted_as.unwrap_or(true)), ..people.clone() };
    actable(user, &listed)
}

fn system_acts(login: &LoginUser) -> Refusal {
    Refusal {
        rule: "system_account".into(),
        value: login.to_string(),
        text: format!("{login} is a system account: it acts as nobody"),
        hint: "grant it to a person, who signs in as themself".into(),
    }
}

fn proxy_acts(login: &LoginUser) -> Refusal {
    Refusal {
        rule: "proxy_user_acts".into(),
        value: login.to_string(),
        text: format!("{login} is a proxy user, and those never act as another"),
        hint: "sign in as yourself".into(),
    }
}

fn no_grant(login: &LoginUser, user: &User) -> Refusal {
    Refusal {
        rule: "no_grant".into(),
        value: user.to_string(),
        text: format!("{login} holds no grant to act as {user}"),
        hint: "`stead as --list` shows whom you may act as, and whom to ask".into(),
    }
}

fn not_listed(who: &str) -> Refusal {
    Refusal {
        rule: "may_act".into(),
        value: who.to_owned(),
        text: format!("{who} is not in the list of those who may act as another"),
        hint: format!("an administrator puts them there: `stead users may-act {who}`"),
    }
}

fn directory(login: &LoginUser, people: &People) -> NoRight {
    let error = match &people.groups {
        Groups::Unknown(error) => error.as_str(),
        Groups::Known(_) => "",
    };
    NoRight::Unknown(Refusal {
        rule: "directory".into(),
        value: login.to_string(),
        text: format!("the groups of {login} can't be asked: {error}"),
        hint: "try again when the directory answers".into(),
    })
}

/// Notes the right in a trail.
pub(crate) fn note(trail: &mut Trail, who: &Who, grant: Option<u64>) {
    let (login, user) = (&who.login_user, &who.user);
    let (rule, text, source) = match (who.via, grant) {
        (Via::Grant, Some(id)) => ("grant", format!("{login} acts as {user} by grant {id}"), format!("grant {id}")),
        (Via::Own | Via::Grant, _) => ("own_user", format!("the job is {user}'s own"), "job".to_owned()),
        (Via::Impersonate, _) => {
            ("impersonate", format!("{login} submitted it as {user}"), "roles of the login user".into())
        }
        (Via::Admin, _) => ("admin", format!("{login} submitted it as {user}"), "roles of the login user".into()),
        (Via::Operator, _) => ("operator", format!("{login} submitted it as {user}"), "the farm's operator".into()),
    };
    trail.note(rule, Effect::Selects, text, &source);
}
