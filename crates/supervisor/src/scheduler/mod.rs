//! Matches ready steps with free slots. Pure: plain structs in, placements and reasons out; no store, no clock, no
//! socket. Whether a worker may run a job is asked of `policy` alone, once per pair of person and worker.
//!
//! Higher priority first. Among jobs of the same priority the one with the fewest sessions is next, so that a large
//! job doesn't starve a small one; then the older job and the earlier step. Of the workers that fit, the one with most
//! free slots is taken.

mod nowhere;

pub(crate) use nowhere::nowhere;

use crate::identity::UserSettings;
use job::Requires;
use policy::{Decision, People, Place, Refusal, Rule, RunPlan, Who};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A connected worker, as far as matching needs it.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) place: Place,
    pub(crate) free_slots: u32,
    pub(crate) total: Resources,
    pub(crate) free: Resources,
    /// Login users whose jobs it gets none of for now, and why.
    pub(crate) held: BTreeMap<String, String>,
}

impl Worker {
    fn held_from(&self, who: &Who) -> Option<&String> {
        self.held.get(who.login_user.as_str())
    }
}

/// What sessions ask of a host; 0 = nothing in particular.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) cpu_milli: u64,
    pub(crate) memory: u64,
}

impl Resources {
    pub(crate) fn fits(self, room: Self) -> bool {
        self.cpu_milli <= room.cpu_milli && self.memory <= room.memory
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            memory: self.memory.saturating_sub(other.memory),
        }
    }
}

/// A step with work that may start.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) job: u64,
    pub(crate) step: u32,
    pub(crate) priority: i32,
    pub(crate) who: Who,
    /// The job's name: a grant may be for some only.
    pub(crate) name: String,
    /// What the tables say of the two; the same for all jobs of a pair.
    pub(crate) people: Arc<People>,
    /// What its user carries; `requires` and `asks` have it in them.
    pub(crate) settings: Arc<UserSettings>,
    /// Ready tasks: no more sessions than that.
    pub(crate) count: u64,
    pub(crate) requires: Requires,
    pub(crate) asks: Resources,
    /// Workers that failed to launch it: only where no other one could run it.
    pub(crate) avoids: BTreeSet<String>,
}

/// A session to open.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    pub(crate) worker: String,
    pub(crate) job: u64,
    pub(crate) step: u32,
    pub(crate) priority: i32,
    pub(crate) who: Who,
    pub(crate) people: Arc<People>,
    pub(crate) settings: Arc<UserSettings>,
    pub(crate) asks: Resources,
    pub(crate) plan: RunPlan,
    pub(crate) rules: Vec<Rule>,
}

/// What to do now.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) placements: Vec<Placement>,
    /// For each job that got nothing in this round: why. `None`: it waits for a free slot only.
    pub(crate) waiting: BTreeMap<u64, Option<String>>,
    /// Jobs whose right to their user's name has ended.
    pub(crate) blocked: BTreeMap<u64, Refusal>,
}

/// How many sessions at once each user has, and may have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shares {
    pub(crate) sessions: HashMap<String, u32>,
    /// Whoever is not named; `None`: any number.
    pub(crate) usual: Option<u32>,
    pub(crate) of: BTreeMap<String, Option<u32>>,
}

impl Shares {
    /// Why a user gets no more just now.
    fn used_up(&self, user: &str) -> Option<String> {
        let named = self.of.get(user).copied();
        let most = named.unwrap_or(self.usual)?;
        let has = self.sessions.get(user).copied().unwrap_or(0);
        let key =
            if named.is_some() { "supervisor_user_subjob_limits" } else { "supervisor_default_user_subjob_limit" };
        (has >= most).then(|| format!("{user} has {has} sessions, and may have {most} at once ({key} in qb.conf)"))
    }

    fn took(&mut self, user: &str) {
        *self.sessions.entry(user.to_owned()).or_default() += 1;
    }
}

/// Matches until slots or work run out. `sessions` counts the living sessions of each job.
pub(crate) fn plan(
    workers: &[Worker],
    candidates: &[Candidate],
    sessions: &HashMap<u64, u32>,
    shares: &Shares,
    now: i64,
) -> Plan {
    let mut farm = Farm::new(workers, shares, now);
    let mut sessions = sessions.clone();
    let mut plan = Plan::default();
    let mut by_priority: BTreeMap<i32, Vec<Open<'_>>> = BTreeMap::new();
    for candidate in candidates {
        if let Some(refusal) = farm.has_no_right(candidate) {
            plan.blocked.insert(candidate.job, refusal);
            continue;
        }
        by_priority.entry(candidate.priority).or_default().push(Open { candidate, left: candidate.count });
    }
    for open in by_priority.into_values().rev() {
        farm.place_all(open, &mut sessions, &mut plan);
    }
    for placement in &plan.placements {
        plan.waiting.remove(&placement.job);
    }
    plan
}

/// A living session, as far as making room is concerned.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) session: u64,
    pub(crate) job: u64,
    pub(crate) worker: String,
    pub(crate) priority: i32,
    pub(crate) age: Duration,
    pub(crate) yielding: bool,
}

/// A session isn't asked to make room for a job of its own priority before this age: opening one costs something.
const SETTLED: Duration = Duration::from_secs(2);

/// Which sessions should get no more tasks, because a job that waits for a slot has a better claim to it: a higher
/// priority, or the same and at least two sessions fewer. Running tasks are never interrupted.
pub(crate) fn yields(
    workers: &[Worker],
    candidates: &[Candidate],
    running: &[Running],
    plan: &Plan,
    now: i64,
) -> Vec<u64> {
    let mut sessions: HashMap<u64, i64> = HashMap::new();
    for session in running.iter().filter(|r| !r.yielding) {
        *sessions.entry(session.job).or_default() += 1;
    }
    // Slots that are about to be free serve those in front.
    let coming = running.iter().filter(|r| r.yielding).count();
    let mut waiting: Vec<&Candidate> =
        candidates.iter().filter(|c| matches!(plan.waiting.get(&c.job), Some(None))).collect();
    waiting.sort_by_key(|c| (-i64::from(c.priority), c.job, c.step));
    waiting.dedup_by_key(|c| c.job);
    let mut chosen = Vec::new();
    for candidate in waiting.into_iter().skip(coming) {
        let mine = sessions.get(&candidate.job).copied().unwrap_or(0);
        let victim = running
            .iter()
            .filter(|r| !r.yielding && !chosen.contains(&r.session) && r.job != candidate.job)
            .filter(|r| {
                let theirs = sessions.get(&r.job).copied().unwrap_or(0);
                r.priority < candidate.priority
                    || (r.priority == candidate.priority && theirs >= mine + 2 && r.age >= SETTLED)
            })
            .filter(|r| workers.iter().any(|w| w.place.worker == r.worker && could_run(w, candidate, now)))
            .max_by_key(|r| (-i64::from(r.priority), sessions.get(&r.job).copied().unwrap_or(0), r.session));
        if let Some(victim) = victim {
            chosen.push(victim.session);
            *sessions.entry(victim.job).or_default() -= 1;
            *sessions.entry(candidate.job).or_default() += 1;
        }
    }
    chosen
}

fn could_run(worker: &Worker, candidate: &Candidate, now: i64) -> bool {
    candidate.asks.fits(worker.total)
        && worker.held_from(&candidate.who).is_none()
        && worker.place.admits(&candidate.requires).is_ok()
        && matches!(decide(candidate, &worker.place, now), Decision::Run(..))
}

fn decide(candidate: &Candidate, place: &Place, now: i64) -> Decision {
    policy::decide(&candidate.who, Some(&candidate.name), place, &candidate.people, now)
}

struct Open<'a> {
    candidate: &'a Candidate,
    left: u64,
}

/// Workers with what this round has taken of them, and the decisions already asked for.
struct Farm<'a> {
    workers: &'a [Worker],
    free: Vec<(u32, Resources)>,
    decisions: HashMap<(usize, Asked), Decision>,
    rights: HashMap<Asked, Option<Refusal>>,
    shares: Shares,
    now: i64,
}

/// What decisions about one job and another have in common if they are the same.
type Asked = (*const People, String, String, policy::Via, Option<String>);

fn asked(candidate: &Candidate) -> Asked {
    // Where no grant looks at names, all jobs of a pair have the same answer.
    let by_name = candidate.people.grants.iter().any(|g| !g.jobs.is_all());
    let who = &candidate.who;
    let names = (who.login_user.to_string(), who.user.to_string());
    (Arc::as_ptr(&candidate.people), names.0, names.1, who.via, by_name.then(|| candidate.name.clone()))
}

impl<'a> Farm<'a> {
    fn new(workers: &'a [Worker], shares: &Shares, now: i64) -> Self {
        let free = workers.iter().map(|w| (w.free_slots, w.free)).collect();
        Self { workers, free, decisions: HashMap::new(), rights: HashMap::new(), shares: shares.clone(), now }
    }

    /// Why a job may run nowhere, whatever workers there are.
    fn has_no_right(&mut self, candidate: &Candidate) -> Option<Refusal> {
        let (now, wanted) = (self.now, policy::For { job: Some(&candidate.name), place: None });
        let right = || match policy::right(&candidate.who, wanted, &candidate.people, now) {
            Err(policy::NoRight::Ended(refusal)) => Some(refusal),
            // The others depend on the worker, or on a directory that may answer later.
            Ok(_) | Err(policy::NoRight::NotHere(_) | policy::NoRight::Unknown(_)) => None,
        };
        self.rights.entry(asked(candidate)).or_insert_with(right).clone()
    }

    fn place_all(&mut self, open: Vec<Open<'a>>, sessions: &mut HashMap<u64, u32>, plan: &mut Plan) {
        let mut jobs: HashMap<u64, VecDeque<Open<'a>>> = HashMap::new();
        for step in open {
            jobs.entry(step.candidate.job).or_default().push_back(step);
        }
        // The fewest sessions first, then the older job; within a job the earlier step.
        let turn = |job: u64, sessions: &HashMap<u64, u32>| (sessions.get(&job).copied().unwrap_or(0), job);
        let mut turns: BTreeSet<(u32, u64)> = jobs.keys().map(|job| turn(*job, sessions)).collect();
        while let Some((_, job)) = turns.pop_first() {
            let Some(steps) = jobs.get_mut(&job) else { continue };
            let Some(first) = steps.front_mut() else { continue };
            let candidate = first.candidate;
            let used_up = self.shares.used_up(candidate.who.user.as_str());
            if let Some(reason) = used_up {
                plan.waiting.entry(job).or_insert(Some(reason));
                steps.pop_front();
            } else if let Some(placement) = self.place(candidate) {
                self.shares.took(candidate.who.user.as_str());
                plan.placements.push(placement);
                *sessions.entry(job).or_default() += 1;
                first.left -= 1;
                if first.left == 0 {
                    steps.pop_front();
                }
            } else {
                plan.waiting.entry(job).or_insert_with(|| self.reason(candidate));
                steps.pop_front();
            }
            turns.insert(turn(job, sessions));
        }
    }

    /// Takes a slot of the worker with most free slots among those that may and can.
    fn place(&mut self, candidate: &Candidate) -> Option<Placement> {
        let mut best: Option<(u32, usize, RunPlan, Vec<Rule>)> = None;
        let avoids = |w: &Worker| candidate.avoids.contains(&w.place.worker);
        let elsewhere = !candidate.avoids.is_empty()
            && self.workers.iter().any(|w| !avoids(w) && could_run(w, candidate, self.now));
        for index in 0..self.workers.len() {
            let (slots, room) = self.free[index];
            let is_better = slots > best.as_ref().map_or(0, |(most, ..)| *most);
            let place = &self.workers[index].place;
            if !is_better
                || (elsewhere && avoids(&self.workers[index]))
                || self.workers[index].held_from(&candidate.who).is_some()
                || !candidate.asks.fits(room)
                || place.admits(&candidate.requires).is_err()
            {
                continue;
            }
            if let Decision::Run(plan, rules) = self.decision(index, candidate) {
                best = Some((slots, index, plan.clone(), rules.clone()));
            }
        }
        let (_, index, plan, rules) = best?;
        self.free[index].0 -= 1;
        self.free[index].1 = self.free[index].1.minus(candidate.asks);
        let worker = self.workers[index].place.worker.clone();
        let (job, step, who, asks) = (candidate.job, candidate.step, candidate.who.clone(), candidate.asks);
        let (people, settings) = (candidate.people.clone(), candidate.settings.clone());
        let priority = candidate.priority;
        Some(Placement { worker, job, step, priority, who, people, settings, asks, plan, rules })
    }

    fn decision(&mut self, worker: usize, candidate: &Candidate) -> &Decision {
        let (place, now) = (&self.workers[worker].place, self.now);
        self.decisions.entry((worker, asked(candidate))).or_insert_with(|| decide(candidate, place, now))
    }

    /// Why no worker would take it, if free slots alone would not help.
    fn reason(&mut self, candidate: &Candidate) -> Option<String> {
        if self.workers.is_empty() {
            return Some("no worker: none is connected".to_owned());
        }
        let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
        for index in 0..self.workers.len() {
            let text = self.unfit(index, candidate)?;
            let name = self.workers[index].place.worker.as_str();
            match reasons.iter_mut().find(|(known, _)| *known == text) {
                Some((_, names)) => names.push(name),
                None => reasons.push((text, vec![name])),
            }
        }
        let parts: Vec<String> = reasons.iter().map(|(text, names)| format!("{}: {text}", some(names))).collect();
        Some(format!("no worker: {}", parts.join("; ")))
    }

    /// Why this worker would not take it even if it were idle.
    fn unfit(&mut self, index: usize, candidate: &Candidate) -> Option<String> {
        let worker = &self.workers[index];
        if let Err(unmet) = worker.place.admits(&candidate.requires) {
            return Some(unmet.to_string());
        }
        if !candidate.asks.fits(worker.total) {
            let (asks, has) = (candidate.asks, worker.total);
            return Some(if asks.cpu_milli > has.cpu_milli {
                format!("it has {} cores, {} are asked for", cores(has.cpu_milli), cores(asks.cpu_milli))
            } else {
                format!("it has {} MiB of memory, {} are asked for", has.memory >> 20, asks.memory >> 20)
            });
        }
        let held = worker.held_from(&candidate.who).cloned();
        match self.decision(index, candidate) {
            Decision::Run(..) => held,
            Decision::Waiting(refusal, _) | Decision::Refused(refusal, _) | Decision::Blocked(refusal, _) => {
                Some(refusal.text.clone())
            }
        }
    }
}

pub(crate) fn cores(milli: u64) -> String {
    if milli.is_multiple_of(1000) {
        (milli / 1000).to_string()
    } else {
        format!("{}.{:03}", milli / 1000, milli % 1000)
    }
}

fn some(names: &[&str]) -> String {
    match names {
        [a, b, c, rest @ ..] if !rest.is_empty() => format!("{a}, {b}, {c} and {} more", rest.len()),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Accept, AccountName, LoginUser, Mode, User};

    fn plan(workers: &[Worker], candidates: &[Candidate], sessions: &HashMap<u64, u32>) -> Plan {
        super::plan(workers, candidates, sessions, &Shares::default(), 0)
    }

    fn yields(workers: &[Worker], candidates: &[Candidate], running: &[Running], plan: &Plan) -> Vec<u64> {
        super::yields(workers, candidates, running, plan, 0)
    }

    fn who(name: &str) -> Who {
        let login_user = LoginUser::parse(name).expect("name");
        Who { user: User::themself(&login_user), login_user, via: policy::Via::Own, grant: None }
    }

    pub(super) fn worker(name: &str, slots: u32) -> Worker {
        let place = Place {
            worker: name.to_owned(),
            labels: vec!["linux".to_owned()],
            mode: Mode::User,
            proxy_account: None,
            owner: None,
            accept: Accept::Owner,
            panic: None,
            drained: false,
            online: true,
            excluded: Vec::new(),
            logons: None,
        };
        let total = Resources { cpu_milli: 4000, memory: 8 << 30 };
        Worker { place, free_slots: slots, total, free: total, held: BTreeMap::new() }
    }

    pub(super) fn candidate(job: u64, count: u64) -> Candidate {
        Candidate {
            job,
            step: 0,
            priority: 0,
            who: who("ada"),
            name: format!("job {job}"),
            people: Arc::default(),
            settings: Arc::default(),
            count,
            requires: Requires::default(),
            asks: Resources::default(),
            avoids: BTreeSet::new(),
        }
    }

    fn jobs(plan: &Plan) -> Vec<(u64, &str)> {
        plan.placements.iter().map(|p| (p.job, p.worker.as_str())).collect()
    }

    #[test]
    fn a_worker_held_from_a_person_takes_the_jobs_of_others() {
        let mut held = worker("a", 2);
        held.held.insert("ada".to_owned(), "it failed".to_owned());
        let bobs = Candidate { who: who("bob"), ..candidate(2, 1) };
        let plan = plan(&[held], &[candidate(1, 1), bobs], &HashMap::new());
        assert_eq!(jobs(&plan), [(2, "a")]);
        assert_eq!(plan.waiting[&1].as_deref(), Some("no worker: a: it failed"));
    }

    #[test]
    fn nobody_has_more_sessions_than_they_may() {
        let workers = [worker("a", 9)];
        let bobs = Candidate { who: who("bob"), ..candidate(2, 9) };
        let shares = Shares {
            sessions: HashMap::from([("ada".to_owned(), 1), ("carol".to_owned(), 7)]),
            usual: Some(3),
            of: BTreeMap::from([("bob".to_owned(), Some(1)), ("carol".to_owned(), None)]),
        };
        let carols = Candidate { who: who("carol"), ..candidate(3, 2) };
        let candidates = [candidate(1, 9), bobs, carols, candidate(4, 1)];
        let plan = super::plan(&workers, &candidates, &HashMap::new(), &shares, 0);
        let of = |job: u64| plan.placements.iter().filter(|p| p.job == job).count();
        assert_eq!([of(1) + of(4), of(2), of(3)], [2, 1, 2], "one of ada's is there already");
        assert!(yields(&workers, &candidates, &[], &plan).is_empty());
        let none = Shares { usual: Some(0), ..Shares::default() };
        let plan = super::plan(&workers, &[candidate(1, 1)], &HashMap::new(), &none, 0);
        let why = plan.waiting[&1].as_deref().expect("a reason");
        assert!(why.contains("may have 0 at once (supervisor_default_user_subjob_limit in qb.conf)"), "{why}");
    }

    #[test]
    fn priority_then_fairness_then_age() {
        let mut urgent = candidate(9, 1);
        urgent.priority = 5;
        let plan = plan(&[worker("w", 6)], &[candidate(1, 100), candidate(2, 100), urgent], &HashMap::from([(1, 1)]));
        assert_eq!(jobs(&plan).iter().map(|(j, _)| *j).collect::<Vec<_>>(), [9, 2, 1, 2, 1, 2]);
        assert!(plan.waiting.is_empty(), "each got something");
    }

    #[test]
    fn no_more_sessions_than_tasks_and_slots_spread() {
        let plan = plan(&[worker("a", 2), worker("b", 3)], &[candidate(1, 4)], &HashMap::new());
        assert_eq!(jobs(&plan), [(1, "b"), (1, "a"), (1, "b"), (1, "a")]);
    }

    #[test]
    fn resources_are_counted() {
        let mut big = candidate(1, 10);
        big.asks = Resources { cpu_milli: 1500, memory: 0 };
        assert_eq!(plan(&[worker("w", 9)], &[big.clone()], &HashMap::new()).placements.len(), 2);
        big.asks = Resources { cpu_milli: 4500, memory: 0 };
        let none = plan(&[worker("w", 9)], &[big], &HashMap::new());
        assert_eq!(none.waiting[&1].as_deref(), Some("no worker: w: it has 4 cores, 4.500 are asked for"));
    }

    #[test]
    fn why_a_job_waits() {
        let mut desktop = worker("desk", 1);
        desktop.place.mode = Mode::Desktop;
        desktop.place.owner = Some(AccountName::parse("bob").expect("name"));
        let mut panic = worker("p", 1);
        panic.place.panic = Some("no such account: qubeproxy".to_owned());
        let mut gpu = candidate(2, 1);
        gpu.requires = Requires::parse("gpu").expect("fine");
        let reason = |workers: &[Worker], c: Candidate| {
            let job = c.job;
            plan(workers, &[c], &HashMap::new()).waiting.get(&job).cloned()
        };
        assert_eq!(reason(&[], candidate(1, 1)), Some(Some("no worker: none is connected".to_owned())));
        assert_eq!(
            reason(&[desktop.clone(), panic], candidate(1, 1)),
            Some(Some(
                "no worker: desk: the desktop worker of bob does not take jobs of ada; p: the worker takes no jobs: \
                 no such account: qubeproxy"
                    .to_owned()
            ))
        );
        assert_eq!(
            reason(&[worker("a", 1), worker("b", 1)], gpu),
            Some(Some("no worker: a, b: the label gpu is missing".to_owned()))
        );
        // A busy worker that would take it is no reason to name the others.
        assert_eq!(reason(&[desktop, worker("w", 0)], candidate(1, 1)), Some(None));
    }

    #[test]
    fn an_excluded_account_goes_elsewhere() {
        let mut a = worker("a", 5);
        let (account, rule, reason) = ("ada".to_owned(), "account_unknown".to_owned(), "unknown here".to_owned());
        a.place.excluded.push(policy::Excluded { account, rule, reason });
        let plan = plan(&[a, worker("b", 1)], &[candidate(1, 9)], &HashMap::new());
        assert_eq!(jobs(&plan), [(1, "b")]);
    }

    #[test]
    fn where_a_launch_failed_is_the_last_choice() {
        let mut burnt = candidate(1, 1);
        burnt.avoids = BTreeSet::from(["a".to_owned()]);
        let plan = |workers: &[Worker]| plan(workers, &[burnt.clone()], &HashMap::new());
        assert_eq!(jobs(&plan(&[worker("a", 9), worker("b", 1)])), [(1, "b")]);
        let full = plan(&[worker("a", 9), worker("b", 0)]);
        assert!(full.placements.is_empty());
        assert_eq!(full.waiting, BTreeMap::from([(1, None)]), "it waits for the other");
        let mut other = worker("b", 1);
        other.place.panic = Some("broken".to_owned());
        assert_eq!(jobs(&plan(&[worker("a", 9), other])), [(1, "a")], "there is no other");
        assert_eq!(jobs(&plan(&[worker("a", 9)])), [(1, "a")]);
    }

    #[test]
    fn who_makes_room_for_whom() {
        let running = |session, job, priority, age| Running {
            session,
            job,
            worker: "w".to_owned(),
            priority,
            age: Duration::from_secs(age),
            yielding: false,
        };
        let yields_of = |running: &[Running], candidates: &[Candidate]| {
            let workers = [worker("w", 0)];
            let counts = running.iter().fold(HashMap::new(), |mut m, r| {
                *m.entry(r.job).or_default() += 1;
                m
            });
            yields(&workers, candidates, running, &plan(&workers, candidates, &counts))
        };
        let two = [running(1, 1, 0, 9), running(2, 1, 0, 9)];
        assert_eq!(yields_of(&two, &[candidate(2, 5)]), [2], "one of two goes to a job that has none");
        assert_eq!(yields_of(&two, &[candidate(1, 5)]), [0; 0], "never to the job itself");
        assert_eq!(yields_of(&two[..1], &[candidate(2, 5)]), [0; 0], "the older job keeps its only one");
        assert_eq!(yields_of(&[running(1, 1, 0, 1), running(2, 1, 0, 1)], &[candidate(2, 5)]), [0; 0], "too young");
        let mut urgent = candidate(3, 5);
        urgent.priority = 1;
        assert_eq!(yields_of(&[running(1, 1, 0, 0)], &[urgent.clone()]), [1], "priority doesn't wait");
        let mut leaving = two.clone();
        leaving[0].yielding = true;
        assert_eq!(yields_of(&leaving, &[urgent.clone()]), [0; 0], "a slot is coming");
        urgent.who = who("bob");
        let mut desk = worker("w", 0);
        desk.place.mode = Mode::Desktop;
        desk.place.owner = Some(AccountName::parse("ada").expect("name"));
        let none = yields(&[desk], &[urgent], &two, &Plan { waiting: BTreeMap::from([(3, None)]), ..Plan::default() });
        assert_eq!(none, [0; 0], "room where it may not run is no use");
    }

    #[test]
    fn a_thousand_jobs_and_a_hundred_workers() {
        let workers: Vec<_> = (0..100).map(|n| worker(&format!("w{n}"), 8)).collect();
        let candidates: Vec<_> = (1..=1000).map(|j| candidate(j, 1000)).collect();
        let plan = plan(&workers, &candidates, &HashMap::new());
        assert_eq!(plan.placements.len(), 800);
        assert_eq!(plan.waiting.len(), 200, "the others wait for a slot");
    }
}
