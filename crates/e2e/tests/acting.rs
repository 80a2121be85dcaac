//! Acting as another, on real accounts: from the grant to its end, with what others see of it, and what the record says.
//!
//! ada can have no process on the worker: its `launcher.conf` denies her account, as if the host didn't know her. What
//! runs there by her leave runs as `render`.

use e2e::{Account, Answer, Farm, JobId, Stage, accounts, programs_or_skip, root_or_skip, state, until};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt as _;

const RENDER: u32 = 1520;

/// A farm with one slot, the proxy user render (of whom bob knows nothing), and no process for ada.
fn farm() -> Farm {
    farm_where("", "1")
}

/// The same, on a host that this shell text makes another.
fn farm_where(host: &str, slots: &str) -> Farm {
    let mut all = accounts();
    let bob = all.iter().find(|a| a.name == "bob").cloned().expect("bob");
    let home = "/home/render".to_owned();
    all.push(Account { name: "render".into(), uid: RENDER, gid: RENDER, home, groups: Vec::new(), ..bob });
    let conf = "mkdir -p /etc/stead && echo 'denied_accounts = ada' > /etc/stead/launcher.conf";
    let conf = format!("{conf}\n{host}");
    let farm = Farm::user_mode().on(Stage::raise_with(&all)).with(&["--slots", slots]).after(&conf).start();
    let _ = farm.stead_as("root", &["users", "add", "render", "--type", "proxy"]).ok();
    farm
}

/// Returns the grant's number.
fn grant(farm: &Farm, options: &[&str]) -> u64 {
    let answer = farm.stead_as("root", &[&["grants", "add", "ada", "render", "--json"], options].concat()).ok().json();
    answer["id"].as_u64().unwrap_or_else(|| panic!("no id in {answer}"))
}

fn sql(farm: &Farm, statement: &str) -> String {
    let store = format!("{}/supervisor/store.db", farm.data());
    // As the account whose database it is: what SQLite writes beside it has to stay its own.
    let owner = format!("#{}", farm.path(&store).metadata().expect("the store").uid());
    farm.run_as(&owner, "sqlite3", &["-cmd", ".timeout 10000", &store, statement]).ok().out().trim().to_owned()
}

fn ids(jobs: &Answer) -> Vec<u64> {
    let jobs = jobs.clone().ok().json();
    jobs.as_array().expect("a list").iter().map(|j| j["id"].as_u64().expect("an id")).collect()
}

/// A job of ada's as render that runs until it is told to end, and one that waits for the slot.
fn one_runs_and_one_waits(farm: &Farm) -> (JobId, JobId) {
    let running = farm.submit_sh("ada", &[], "touch on; until [ -e go ]; do sleep 0.05; done; echo through");
    until("the first to run", || farm.path(format!("{}/on", farm.folder(running))).exists().then_some(()));
    (running, farm.submit_sh("ada", &[], "touch ran"))
}

fn let_go(farm: &Farm, running: JobId) {
    std::fs::write(farm.path(format!("{}/go", farm.folder(running))), "").expect("written");
}

#[track_caller]
fn is_held_back(farm: &Farm, queued: JobId, why: &str) {
    let held = farm.until_job(queued, "blocked", |j| state(j) == "blocked");
    assert!(held["reason"].as_str().is_some_and(|r| r.contains(why)), "{held:#}");
    assert!(farm.attempts(queued).is_empty(), "{:#?}", farm.attempts(queued));
    assert!(!farm.path(format!("{}/ran", farm.folder(queued))).exists());
}

#[track_caller]
fn ran_to_its_end(farm: &Farm, running: JobId) {
    let attempt =
        until("the end of what ran", || farm.attempts(running).into_iter().find(|a| !a["ended_at"].is_null()));
    assert_eq!((state(&attempt), &attempt["exit_code"]), ("complete", &json!(0)), "{attempt:#}");
    assert_eq!(farm.log(running), "through\n");
    let _ = farm.ends(running, "complete");
}

#[test]
fn ada_acts_as_render_until_she_may_no_more() {
    if !root_or_skip() || !programs_or_skip(&["sqlite3"]) {
        return;
    }
    let farm = farm();
    let ada = |args: &[&str]| farm.stead_as("ada", args);

    // Without a grant she is nobody here, and is told whom to ask.
    let _ = ada(&["as", "--list"]).ok().complains(&["ask root for a grant"]);
    let _ = ada(&["as", "render"]).exits(3).complains(&["no_grant"]);
    let _ = ada(&["submit", "--as", "render", "--", "true"]).exits(3).complains(&["no_grant"]);
    let own = farm.submit_sh("ada", &[], "true");
    farm.until_job(own, "what the host says of her", |j| j["reason"].as_str().is_some_and(|r| r.contains("ada")));
    let _ = ada(&["kill", &own.to_string()]).ok();

    let first = grant(&farm, &["--until", "3d", "--reason", "the night shots"]);
    assert!(ada(&["as", "--list"]).ok().out().contains("the night shots"));
    let of_render = farm.submit_sh("root", &["--user", "render"], "echo a result of render");
    farm.complete(of_render);
    assert_eq!(ada(&["as", "render"]).ok().out(), "you act as render now\n");

    // What she makes belongs to render, and the record has all the names.
    let job = farm.submit_sh("ada", &["--name", "shot"], "id -u; echo made > made.txt");
    farm.complete(job);
    assert_eq!(farm.log(job), format!("{RENDER}\n"));
    let made = format!("{}/made.txt", farm.folder(job));
    let meta = farm.path(&made).metadata().expect("what she made");
    assert_eq!((meta.uid(), meta.gid()), (RENDER, RENDER));
    let attempt = &farm.attempts(job)[0];
    assert_eq!((&attempt["login_user"], &attempt["user"]), (&json!("ada"), &json!("render")));
    assert_eq!((&attempt["run_as"]["name"], &attempt["grant"]), (&json!("render"), &json!(first)), "{attempt:#}");

    // As render she sees what is render's, and nothing of her own.
    assert_eq!(ids(&ada(&["jobs", "--json"])), [job.0, of_render.0]);
    assert_eq!(ada(&["logs", &of_render.to_string()]).ok().out(), "a result of render\n");
    let _ = ada(&["tasks", &own.to_string()]).exits(4);

    // bob sees none of it.
    assert_eq!(ids(&farm.stead_as("bob", &["jobs", "--json"])), [0; 0]);
    for command in ["tasks", "logs", "explain", "kill", "retry", "wait"] {
        let about = |job: &str| farm.stead_as("bob", &[command, job]).exits(4).err().replace(job, "N");
        assert_eq!(about(&job.to_string()), about("9999"), "{command}");
    }
    let _ = farm.stead_as("bob", &["jobs", "--as", "render"]).exits(3).complains(&["no_grant"]);
    assert_ne!(farm.run_as("bob", "cat", &[&made]).code, Some(0), "the file is not his to read");

    // Revoked by command: what waits is blocked, what runs comes to its end.
    let (running, queued) = one_runs_and_one_waits(&farm);
    let said = farm.stead_as("root", &["grants", "revoke", &first.to_string()]).ok().out();
    assert!(said.contains(&format!("grant {first} is revoked")) && said.contains(&queued.to_string()), "{said}");
    is_held_back(&farm, queued, "was revoked by root");
    let_go(&farm, running);
    ran_to_its_end(&farm, running);
    is_held_back(&farm, queued, "was revoked by root");
    // She is refused, never silently herself, until she says so; then the record is left to her, and no more.
    let _ = ada(&["jobs"]).exits(3).complains(&["association_ended"]);
    let _ = ada(&["submit", "--", "true"]).exits(3).complains(&["association_ended"]);
    assert!(ada(&["as"]).ok().out().contains("that right is gone"));
    assert!(ada(&["as", "--clear"]).ok().out().contains("no longer act as render"));
    assert!(ids(&ada(&["jobs", "--json"])).contains(&job.0));
    let _ = ada(&["logs", &job.to_string()]).exits(3).complains(&["right_ended"]);

    // By hand, in the table.
    let second = grant(&farm, &[]);
    let _ = ada(&["as", "render"]).ok();
    let (running, queued) = one_runs_and_one_waits(&farm);
    sql(&farm, &format!("UPDATE grants SET state = 'revoked' WHERE id = {second}"));
    let _ = ada(&["jobs"]).exits(3).complains(&["association_ended"]);
    let_go(&farm, running);
    ran_to_its_end(&farm, running);
    is_held_back(&farm, queued, &format!("grant {second} was revoked"));
    let _ = ada(&["as", "--clear"]).ok();

    // By time.
    let third = grant(&farm, &["--until", "4s"]);
    let _ = ada(&["as", "render"]).ok();
    let (running, queued) = one_runs_and_one_waits(&farm);
    until("its end", || (ada(&["jobs"]).code == Some(3)).then_some(()));
    let_go(&farm, running);
    ran_to_its_end(&farm, running);
    is_held_back(&farm, queued, &format!("grant {third}"));
    let _ = ada(&["as", "--clear"]).ok();

    // With --kill what runs dies.
    let fourth = grant(&farm, &[]);
    let _ = ada(&["as", "render"]).ok();
    let (running, queued) = one_runs_and_one_waits(&farm);
    let said = farm.stead_as("root", &["grants", "revoke", &fourth.to_string(), "--kill", "--json"]).ok().json();
    assert_eq!(said, json!({"grant": fourth, "blocked": [queued.0], "killed": [running.0]}));
    let killed = farm.ends(running, "killed");
    assert!(killed["reason"].as_str().is_some_and(|r| r.contains("was revoked by root")), "{killed:#}");
    is_held_back(&farm, queued, "was revoked by root");

    the_record_tells_it_all(&farm, job, &[first, second, third, fourth]);
    a_changed_byte_is_found(&farm);
}

#[track_caller]
fn the_record_tells_it_all(farm: &Farm, job: JobId, grants: &[u64]) {
    let search = |options: &[&str]| {
        let text = farm.stead_as("root", &[&["audit", "search", "--json"], options].concat()).ok().out();
        let record = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        text.lines().map(record).collect::<Vec<_>>()
    };
    let has = |records: &[Value], act: &str, about: &dyn Fn(&Value) -> bool| {
        assert!(records.iter().any(|r| r["act"] == act && about(r)), "no {act} in {records:#?}");
    };
    let hers = search(&["--actor", "ada", "--as", "render"]);
    for grant in grants {
        has(&hers, "switch", &|r| r["grant"] == *grant);
        has(&hers, "submit", &|r| r["grant"] == *grant);
    }
    has(&hers, "warrant", &|r| r["job"] == job.0 && r["grant"] == grants[0]);
    let ends = until("the session's end in the audit", || {
        let records = search(&["--job", &job.to_string(), "--act", "session_end"]);
        (!records.is_empty()).then_some(records)
    });
    has(&ends, "session_end", &|r| {
        r["login_user"] == "ada" && r["user"] == "render" && r.to_string().contains(&RENDER.to_string())
    });
    has(&search(&["--act", "changed_outside"]), "changed_outside", &|r| r["grant"] == grants[1]);
    let refused = search(&["--actor", "ada", "--outcome", "refused"]);
    has(&refused, "switch", &|r| r.to_string().contains("association_ended"));
    has(&search(&["--actor", "bob"]), "switch", &|r| r["outcome"] == "refused");
    assert_eq!(search(&["--act", "grant_revoke"]).len(), 2, "as many as were revoked by command");
    let report = farm.stead_as("root", &["audit", "verify", "--workers", "--data", &farm.data(), "--json"]).ok().json();
    assert_eq!(report["findings"], json!([]), "{report:#}");
}

/// A changed letter in the record of a submission: the record is named.
#[track_caller]
fn a_changed_byte_is_found(farm: &Farm) {
    let chain = farm.path(format!("{}/supervisor/audit/chain", farm.data()));
    let text = std::fs::read_to_string(&chain).expect("the chain");
    let (line, record) = text
        .lines()
        .filter_map(|line| Some((line, serde_json::from_str::<Value>(line).ok()?)))
        .find(|(_, r)| r["act"] == "submit" && r["user"] == "render" && r["login_user"] == "ada")
        .expect("her submission");
    let changed = line.replacen("\"ada\"", "\"bob\"", 1);
    assert_ne!(line, changed);
    std::fs::write(&chain, text.replacen(line, &changed, 1)).expect("written");
    let report = farm.stead_as("root", &["audit", "verify", "--data", &farm.data(), "--json"]).exits(1).json();
    let first = &report["findings"][0];
    assert_eq!(first["seq"], record["seq"], "{report:#}");
}

#[test]
fn one_acts_as_one_at_a_time_from_wherever() {
    if !root_or_skip() || !programs_or_skip(&["sqlite3"]) {
        return;
    }
    let farm = farm();
    let _ = farm.stead_as("root", &["users", "add", "comp", "--type", "proxy"]).ok();
    let _ = farm.stead_as("root", &["grants", "add", "ada", "comp"]).ok();
    grant(&farm, &[]);
    let ada = |args: &[&str]| farm.stead_as("ada", args);
    let proxies = ["render", "comp"];
    let mut switching: Vec<_> = (0..20)
        .map(|n| {
            let mut command = farm.command_as("ada", "stead");
            command.args(["as", proxies[n % 2], "--json"]).stdout(std::process::Stdio::piped());
            command.spawn().expect("stead starts")
        })
        .collect();
    for child in &mut switching {
        assert!(child.wait().expect("its end").success());
    }
    assert_eq!(sql(&farm, "SELECT count(*) FROM associations"), "1");
    let active = ada(&["as", "--json"]).ok().json()["active"].as_str().expect("one").to_owned();
    assert!(proxies.contains(&active.as_str()), "{active}");

    // Whatever she switches to in one place holds in all.
    let said = ada(&["as", "render"]).ok().out();
    assert!(said.contains("render"), "{said}");
    let _ = ada(&["as", "comp"]).ok();
    assert_eq!(ada(&["as", "render"]).ok().out(), "you act as render now, and no longer as comp\n");
    let job = farm.submit("ada", &["--", "true"]);
    farm.complete(job);
    assert_eq!(farm.job(job)["user"], "render");
    let _ = ada(&["jobs", "--as", "comp"]).exits(3).complains(&["association_active"]);

    // What can't be had leaves it as it is.
    for (name, rule) in [("nosuch", "no_grant"), ("bob", "no_grant"), ("root", "no_grant"), ("a b", "user")] {
        let refused = ada(&["as", name]);
        assert!(matches!(refused.code, Some(2 | 3)) && refused.err().contains(rule), "{refused:?}");
    }
    assert_eq!(ada(&["as", "--json"]).ok().json()["active"], "render");
    assert!(ada(&["as", "--clear"]).ok().out().contains("no longer act as render"));
    assert_eq!(ids(&ada(&["jobs", "--as", "render", "--json"])), [job.0]);
    assert!(ada(&["as"]).ok().out().contains("act as yourself"), "--as changes nothing");
}

/// What a job's program does at the socket of people by its uid alone, in several disguises; a line for each. `$ASK` is
/// the question.
const DISGUISES: &str = r#"
says() { echo "$1 $(cat "$1.out") end"; }
eval "$ASK" > plain.out 2>&1; echo "exit $?" >> plain.out; says plain
( setsid sh -c 'eval "$ASK" > away.out 2>&1; echo "exit $?" >> away.out; mv away.out away.done' & )
while [ ! -e away.done ]; do sleep 0.05; done; mv away.done away.out; says away
unshare --user --map-root-user --mount --pid --fork --cgroup sh -c 'eval "$ASK"' > spaces.out 2>&1; echo "exit $?" >> spaces.out; says spaces
curl -s --unix-socket "${STEAD_SOCKET}" http://x/api/v1/jobs > raw.out 2>&1; says raw
perl -MIO::Socket::UNIX -e '
# A child connects and ends; its parent has the connection.
socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die;
if (!fork) { connect($s, pack_sockaddr_un($ENV{STEAD_SOCKET})) or die; exit 0 }
wait;
syswrite $s, "GET /api/v1/jobs HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
print while <$s>;
' > orphan.out 2>&1; says orphan
"#;

fn disguised(farm: &Farm, ask: &str) -> String {
    let stead = farm.run_as("ada", "sh", &["-c", "command -v stead"]).ok().out();
    let socket = format!("{}/run/socket", farm.data());
    format!(
        "PATH=$PATH:$(dirname {}); export PATH ASK='{ask}' STEAD_SOCKET={socket} STEAD_URL=unix:{socket}\n{DISGUISES}",
        stead.trim()
    )
}

/// What was said of one disguise.
fn part<'a>(log: &'a str, name: &str) -> &'a str {
    let begin = log.find(&format!("{name} ")).unwrap_or_else(|| panic!("no {name} in {log}"));
    let rest = &log[begin..];
    &rest[..rest.find(" end\n").unwrap_or(rest.len())]
}

#[track_caller]
fn is_nobody_inside(farm: &Farm, job: JobId) {
    farm.complete(job);
    let log = farm.log(job);
    for (name, exit) in [("plain", true), ("away", true), ("spaces", true), ("raw", false)] {
        let said = part(&log, name);
        assert!(said.contains("in_a_session") && said.contains("submit --token"), "{name}: {log}");
        assert!(!exit || said.contains("exit 3"), "{name}: {log}");
    }
    // The child may be seen before it ends.
    let orphan = part(&log, "orphan");
    assert!(orphan.contains("HTTP/1.1 401"), "{log}");
    assert!(orphan.contains("peer_gone") || orphan.contains("in_a_session"), "{log}");
}

/// By a grant, by a role, or under the account of everybody: the uid of a job's process is not who asks.
#[test]
fn a_job_is_nobody_by_its_uid_alone() {
    if !root_or_skip() || !programs_or_skip(&["curl", "perl", "unshare"]) {
        return;
    }
    let farm = farm();
    grant(&farm, &[]);
    let list = disguised(&farm, "stead jobs --json");
    is_nobody_inside(&farm, farm.submit_sh("ada", &["--as", "render"], &list));
    is_nobody_inside(&farm, farm.submit_sh("root", &["--user", "bob"], &disguised(&farm, "stead submit -- true")));
    let kill = disguised(&farm, "stead kill 1");
    is_nobody_inside(&farm, farm.submit_sh("root", &["--user", "render"], &kill));
    let jobs = farm.stead_as("root", &["jobs", "--json"]).ok().json();
    assert_eq!(jobs.as_array().expect("a list").len(), 3, "nothing was submitted: {jobs:#}");
    let refused = farm.stead_as("root", &["audit", "search", "--outcome", "refused", "--json"]).ok().out();
    assert!(refused.contains("in_a_session") && refused.contains(&format!("uid {RENDER}")), "{refused}");

    // Nor is a program of that account that no session holds, unless the farm says so.
    let outside = farm.stead_as("render", &["jobs"]).exits(3);
    let _ = outside.complains(&["proxy_users_sign_in", "stead as"]);
    let _ = farm.stead_as("bob", &["jobs"]).ok();

    // With its token it is what the token says, wherever it goes.
    let submit = "stead submit --json -- true";
    let job = farm.submit_sh("ada", &["--as", "render", "--token"], &disguised(&farm, submit));
    farm.complete(job);
    let log = farm.log(job);
    for name in ["plain", "away"] {
        let said = part(&log, name);
        let json = said.lines().find_map(|line| line.find('{').map(|at| &line[at..]));
        let answer: Value = serde_json::from_str(json.unwrap_or_else(|| panic!("{name}: {log}"))).expect("json");
        let made = farm.job(JobId(answer["job"].as_u64().expect("a number")));
        assert_eq!((&made["login_user"], &made["user"]), (&json!("ada"), &json!("render")), "{made:#}");
    }
    assert!(part(&log, "raw").contains("in_a_session"), "curl shows none: {log}");
}

/// On a host without control groups the shepherds are the sign.
const NO_GROUPS: &str = "mount -t tmpfs -o ro none /sys/fs/cgroup";

#[test]
fn a_job_is_nobody_by_its_uid_alone_without_control_groups() {
    if !root_or_skip() || !programs_or_skip(&["curl", "perl", "unshare"]) {
        return;
    }
    let farm = farm_where(NO_GROUPS, "1");
    grant(&farm, &[]);
    let list = disguised(&farm, "stead jobs --json");
    let job = farm.submit_sh("ada", &["--as", "render"], &format!("cat /proc/self/cgroup\n{list}"));
    is_nobody_inside(&farm, job);
    assert!(!farm.log(job).contains("/stead-"), "{}", farm.log(job));
    in_ones_own_job(&Farm::user_mode().with(&["--slots", "1"]).after(NO_GROUPS).start());
}

#[test]
fn in_ones_own_job_one_submits_as_oneself() {
    if root_or_skip() && programs_or_skip(&["curl", "perl", "unshare"]) {
        in_ones_own_job(&Farm::user_mode().with(&["--slots", "1"]).start());
    }
}

/// Of a job of one's own one is the same person: as much as the token of that job.
#[track_caller]
fn in_ones_own_job(farm: &Farm) {
    let job = farm.submit_sh("ada", &[], &disguised(farm, "stead submit --json -- true && stead kill 1"));
    farm.complete(job);
    let log = farm.log(job);
    for name in ["plain", "away", "spaces"] {
        assert!(part(&log, name).contains("scope") && part(&log, name).contains("exit 3"), "{name}: {log}");
    }
    assert_eq!(ids(&farm.stead_as("ada", &["jobs", "--json"])).len(), 4, "three were submitted: {log}");
    let found = farm.stead_as("root", &["audit", "search", "--actor", "ada", "--act", "submit", "--json"]).ok().out();
    assert_eq!(found.matches(&format!("uid 1501, job {job}")).count(), 3, "{found}");
    assert_eq!(found.matches("\"session\"").count(), 3, "{found}");
}

/// The account that everybody's jobs run under is nobody, in a job and elsewhere.
#[test]
fn the_shared_account_is_nobody() {
    if !root_or_skip() || !programs_or_skip(&["curl", "perl", "unshare"]) {
        return;
    }
    let farm = Farm::proxy_mode("qubeproxy").start();
    is_nobody_inside(&farm, farm.submit_sh("ada", &[], &disguised(&farm, "stead jobs --json")));
    let _ = farm.stead_as("qubeproxy", &["jobs"]).exits(3).complains(&["proxy_users_sign_in"]);
}

/// Where the supervisor can't see who connects, nobody is known by the socket alone: not even who is outside of a job.
#[test]
fn on_a_host_that_hides_processes_nobody_is_known_by_the_socket() {
    if !root_or_skip() || !programs_or_skip(&["curl", "perl", "unshare"]) {
        return;
    }
    let farm = farm_where("mount -o remount,hidepid=2 /proc", "1");
    assert!(farm.said().contains("/proc hides others' processes"), "{}", farm.said());
    grant(&farm, &[]);
    for who in ["ada", "bob", "render"] {
        let _ = farm.stead_as(who, &["jobs"]).exits(3).complains(&["peer_unseen", "hidepid="]);
    }
    let job = farm.submit_sh("root", &["--user", "render"], &disguised(&farm, "stead jobs"));
    farm.complete(job);
    let log = farm.log(job);
    for name in ["plain", "away", "spaces"] {
        assert!(part(&log, name).contains("peer_unseen") && part(&log, name).contains("exit 3"), "{name}: {log}");
    }
}

/// Ends a grant, and says when the answer was there, as the farm's own records write times.
fn revoked_at(farm: &Farm, id: u64) -> (Value, String) {
    let post = r#"curl -sS --unix-socket "$1" -X POST -H 'content-type: application/json' -d '{}' "http://stead/api/v1/grants/$2/revoke"
        echo; date -u +%Y-%m-%dT%H:%M:%S.%6NZ"#;
    let socket = format!("{}/run/socket", farm.data());
    let answer = farm.run_as("root", "sh", &["-euc", post, "sh", &socket, &id.to_string()]).ok().out();
    let (said, at) = answer.trim().rsplit_once('\n').expect("two lines");
    (serde_json::from_str(said).unwrap_or_else(|e| panic!("{e}: {said}")), at.to_owned())
}

/// What was decided before a revocation is on its way when it comes: it starts before the answer, or never.
#[test]
fn nothing_starts_after_the_answer_to_a_revocation() {
    if !root_or_skip() {
        return;
    }
    let farm = farm_where("", "8");
    let (mut begun, mut held) = (0, 0);
    for round in 0..8 {
        let id = grant(&farm, &[]);
        // Many short tasks in batches, and jobs of one task each, which need a session each.
        let many = farm.submit_sh("ada", &["--as", "render", "--frames", "1-300"], "true");
        let submit = "for i in $(seq 24); do stead submit --as render -- true >/dev/null & done; wait";
        let _ = farm.run_as("ada", "sh", &["-euc", submit]).ok();
        let (said, answered) = revoked_at(&farm, id);
        assert_eq!(said["unsettled"], Value::Null, "{said}");
        let jobs = || (0..=24).map(|n| JobId(many.0 + n));
        until("nothing runs", || jobs().all(|job| farm.job(job)["tasks"]["running"] == 0).then_some(()));
        for job in jobs() {
            for attempt in farm.attempts(job) {
                let started = attempt["started_at"].as_str().unwrap_or_default();
                assert!(
                    *started <= *answered,
                    "round {round}: {job:?} began at {started}, after {answered}: {attempt:#}"
                );
                begun += 1;
            }
            held += usize::from(state(&farm.job(job)) == "blocked");
        }
    }
    assert!(begun > 10 && held > 10, "the rounds say something: {begun} begun, {held} held back");
}
