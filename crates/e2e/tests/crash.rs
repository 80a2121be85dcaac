//! `kill -9` of every part at moments nobody chose: nothing is lost and nothing runs twice.
//!
//! Each task writes down that it began and that it ended, in a file that outlives everything. What must hold is
//! read from there, not from what the farm says of itself.

use e2e::{Farm, JobId, Role, lives, root_or_skip, rounds, until};
use std::collections::BTreeMap;
use std::time::Duration;

/// A job of this many frames, each of which takes about this long and writes down its beginning and its end.
#[track_caller]
fn submit_frames(farm: &Farm, who: &str, frames: u32, seconds: &str) -> JobId {
    let notes = notes(farm);
    let script = format!(
        "echo begin {{frame}} $$ >> {notes}; sleep {seconds} & wait $!; echo end {{frame}} $$ >> {notes}; echo frame {{frame}}"
    );
    farm.submit_sh(who, &["--frames", &format!("1-{frames}"), "--retries", "0"], &script)
}

fn notes(farm: &Farm) -> String {
    if e2e::is_root() { format!("{}/notes", farm.shared()) } else { format!("{}.notes", farm.data()) }
}

/// What the tasks wrote: per frame, how often it began and how often it ended.
fn noted(farm: &Farm) -> BTreeMap<u32, (u32, u32)> {
    let text = std::fs::read_to_string(farm.path(notes(farm))).unwrap_or_default();
    let mut noted = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let frame: u32 = words[1].parse().expect("a frame");
        let counts: &mut (u32, u32) = noted.entry(frame).or_default();
        if words[0] == "begin" { counts.0 += 1 } else { counts.1 += 1 }
    }
    noted
}

/// Every frame began once and ended once: no second copy ever started.
#[track_caller]
fn each_ran_once(farm: &Farm, frames: u32) {
    let noted = noted(farm);
    let wrong: Vec<_> = (1..=frames).filter(|f| noted.get(f) != Some(&(1, 1))).map(|f| (f, noted.get(&f))).collect();
    assert!(wrong.is_empty(), "frames with (begun, ended) other than once: {wrong:?}");
}

/// The record says so, too: one complete attempt each, with its output. A task whose batch was on its way when its
/// session came to an end may be recorded as lost besides, if nobody can say that it never began.
#[track_caller]
fn each_is_recorded_once(farm: &Farm, job: JobId, frames: u32) {
    let attempts = farm.attempts(job);
    let complete = attempts.iter().filter(|a| e2e::state(a) == "complete").count();
    assert_eq!(complete, frames as usize, "{attempts:#?}");
    let never_began = |a: &&serde_json::Value| e2e::state(a) == "lost" && a["started_at"].is_null();
    assert_eq!(attempts.iter().filter(never_began).count(), attempts.len() - complete, "{attempts:#?}");
    let log = farm.log(job);
    for frame in 1..=frames {
        let line = format!("frame {frame}");
        assert_eq!(log.lines().filter(|l| *l == line).count(), 1, "{line} in:\n{log}");
    }
}

/// A moment within a job that nobody chose.
fn at_some_moment() {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("chance");
    let dice = u64::from_str_radix(&uuid[..4], 16).expect("hexadecimal");
    // Not a wait for something to have happened: the moment itself is what is varied.
    std::thread::sleep(Duration::from_millis(dice % 700));
}

fn begun(farm: &Farm) -> usize {
    noted(farm).len()
}

fn killed_at_random(role: Role, times: u32) {
    killed_together(&[role], times);
}

fn killed_together(roles: &[Role], times: u32) {
    if !root_or_skip() {
        return;
    }
    let mut farm = Farm::user_mode().with(&["--slots", "2"]).start();
    let frames = 12 + 4 * times;
    let job = submit_frames(&farm, "ada", frames, "0.3");
    until("the first frame", || (begun(&farm) > 0).then_some(()));
    for _ in 0..times {
        at_some_moment();
        farm.kill9_all(roles);
        farm.heal();
    }
    farm.complete(job);
    each_ran_once(&farm, frames);
    each_is_recorded_once(&farm, job, frames);
}

/// E06
#[test]
fn a_worker_that_is_killed_adopts_its_sessions() {
    killed_at_random(Role::Worker, rounds(4));
}

#[test]
fn a_launcher_that_is_killed_finds_its_sessions() {
    killed_at_random(Role::Launcher, rounds(4));
}

/// J01
#[test]
fn a_supervisor_that_is_killed_loses_nothing() {
    killed_at_random(Role::Supervisor, rounds(4));
}

#[test]
fn supervisor_worker_and_launcher_killed_together_lose_nothing() {
    killed_together(&[Role::Launcher, Role::Worker, Role::Supervisor], rounds(2));
}

#[test]
fn a_whole_farm_that_is_killed_goes_on_when_it_is_started_again() {
    killed_together(&[Role::Host, Role::Launcher, Role::Worker, Role::Supervisor, Role::Dev], rounds(2));
}

/// A house around all frames and a room in it; each line says of which session it is.
fn nested_environments(notes: &str) -> String {
    let note =
        |what: &str| format!("{{ command: sh, args: [\"-c\", \"echo $STEAD_SESSION {what} >> {notes}; sleep 0.1\"] }}");
    let environment = |name: &str| {
        let (enter, exit) = (note(&format!("+{name}")), note(&format!("-{name}")));
        format!("{{ name: {name}, script: {{ actions: {{ onEnter: {enter}, onExit: {exit} }} }} }}")
    };
    let (house, room, run) = (environment("house"), environment("room"), note("{{Task.Param.N}}"));
    format!(
        "specificationVersion: jobtemplate-2023-09\nname: nested\njobEnvironments: [{house}]\nsteps:\n- name: frames\n  \
         stepEnvironments: [{room}]\n  \
         parameterSpace: {{ taskParameterDefinitions: [{{ name: N, type: INT, range: 1-30 }}] }}\n  \
         script: {{ actions: {{ onRun: {run} }} }}\n"
    )
}

/// Whatever dies around it, a session leaves what it entered: each environment once, from the inside out.
fn what_is_entered_is_left(roles: &[Role]) {
    if !root_or_skip() {
        return;
    }
    let mut farm = Farm::user_mode().with(&["--slots", "1"]).start();
    let (template, notes) = (format!("{}/nested.yaml", farm.shared()), notes(&farm));
    std::fs::write(farm.path(&template), nested_environments(&notes)).expect("a template");
    let job = farm.submit("ada", &[&template]);
    let path = farm.path(&notes);
    let lines = || std::fs::read_to_string(&path).unwrap_or_default();
    until("both entered, and a frame", || (lines().lines().count() > 2).then_some(()));
    for _ in 0..rounds(3) {
        at_some_moment();
        farm.kill9_all(roles);
        farm.heal();
    }
    farm.complete(job);
    until("an end of every session", || farm.processes().of(Role::Session).is_empty().then_some(()));
    let text = lines();
    let mut sessions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut frames: Vec<u32> = Vec::new();
    for line in text.lines() {
        let (session, what) = line.split_once(' ').expect("two words");
        match what.parse() {
            Ok(frame) => frames.push(frame),
            Err(_) => sessions.entry(session).or_default().push(what),
        }
    }
    assert!(sessions.len() > 1, "nothing was drained:\n{text}");
    for (session, environments) in sessions {
        assert_eq!(environments.join(" "), "+house +room -room -house", "session {session} in:\n{text}");
    }
    frames.sort_unstable();
    assert_eq!(frames, (1..=30).collect::<Vec<u32>>(), "each frame once:\n{text}");
}

#[test]
fn environments_are_left_when_the_supervisor_was_killed() {
    what_is_entered_is_left(&[Role::Supervisor]);
}

#[test]
fn environments_are_left_when_supervisor_and_worker_were_killed() {
    what_is_entered_is_left(&[Role::Worker, Role::Supervisor]);
}

/// ^C ends the services; what runs goes on and is adopted.
#[test]
fn a_farm_that_is_stopped_and_started_adopts_what_runs() {
    if !root_or_skip() {
        return;
    }
    let mut farm = Farm::user_mode().with(&["--slots", "2"]).start();
    let job = farm.submit_sh("ada", &[], "echo $$ > /mnt/shared/pid; sleep 4; echo through");
    let pid_file = farm.path("/mnt/shared/pid");
    let _ = until("the task", || std::fs::read_to_string(&pid_file).ok().filter(|t| t.ends_with('\n')));
    let tasks = farm.processes().of(Role::Task);
    farm.stop();
    assert!(tasks.iter().all(|t| lives(*t)), "the task ended with the farm");
    farm.start_again();
    farm.complete(job);
    assert_eq!(farm.log(job), "through\n");
    assert_eq!(farm.attempts(job).len(), 1);
}

/// A submission that was acknowledged is there after a crash; one that was not is there once or not at all.
#[test]
fn what_was_acknowledged_is_stored() {
    if !root_or_skip() {
        return;
    }
    let mut farm = Farm::user_mode().start();
    let mut acknowledged = Vec::new();
    for round in 0..rounds(3) {
        let name = format!("round {round}");
        acknowledged.push(farm.submit("ada", &["--name", &name, "--", "true"]));
        assert!(farm.kill9(Role::Supervisor) > 0);
        farm.heal();
    }
    for job in acknowledged {
        farm.complete(job);
    }
}

/// A session that is killed is known to be lost, and only what may have run is tried again, once.
#[test]
fn a_session_that_is_killed_is_lost_and_its_task_tried_again() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().with(&["--slots", "1"]).start();
    let job = submit_frames(&farm, "ada", 3, "1");
    until("the first frame", || (begun(&farm) > 0).then_some(()));
    let tasks = farm.processes().of(Role::Task);
    assert!(farm.kill9(Role::Session) > 0);
    farm.complete(job);
    assert!(tasks.iter().all(|t| !lives(*t)), "a task outlived its session");
    let attempts = farm.attempts(job);
    let lost = attempts.iter().filter(|a| e2e::state(a) == "lost").count();
    assert_eq!((attempts.len(), lost), (4, 1), "{attempts:#?}");
    let noted = noted(&farm);
    assert_eq!(noted.values().filter(|(begun, _)| *begun == 2).count(), 1, "{noted:?}");
    assert!(noted.values().all(|(_, ended)| *ended == 1), "{noted:?}");
}

/// E13
#[test]
fn a_shepherd_that_is_killed_leaves_no_process_behind() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().with(&["--slots", "1"]).start();
    let job = submit_frames(&farm, "ada", 2, "1");
    until("the first frame", || (begun(&farm) > 0).then_some(()));
    let before: Vec<i32> = [Role::Session, Role::Task].iter().flat_map(|r| farm.processes().of(*r)).collect();
    assert!(farm.kill9(Role::Shepherd) > 0);
    farm.complete(job);
    until("an end of the session without a shepherd", || before.iter().all(|p| !lives(*p)).then_some(()));
    // Its end may have been seen or not; a second copy beside a living first one never.
    let noted = noted(&farm);
    assert!(noted.values().all(|(begun, ended)| *begun <= 2 && *ended == 1), "{noted:?}");
}

/// E08: a worker that was away for longer than its leases finds its work given away, and none of it running.
#[test]
fn nothing_runs_twice_when_a_worker_sleeps() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().with(&["--slots", "1"]).start();
    let job = submit_frames(&farm, "ada", 4, "0.5");
    until("the first frame", || (begun(&farm) > 0).then_some(()));
    let workers = farm.processes().of(Role::Worker);
    for pid in &workers {
        e2e::signal(*pid, e2e::Signal::SIGSTOP);
    }
    // Its started task goes on alone and ends.
    until("the end of a frame without a worker", || noted(&farm).values().any(|(_, e)| *e > 0).then_some(()));
    for pid in &workers {
        e2e::signal(*pid, e2e::Signal::SIGCONT);
    }
    farm.complete(job);
    each_ran_once(&farm, 4);
}

/// A desktop farm ends with its owner's log-in and takes what runs with it; the tasks go back to the queue.
#[test]
fn a_desktop_farm_that_is_killed_takes_its_tasks_along() {
    let mut farm = Farm::desktop("ada").with(&["--slots", "1"]).start();
    let who = farm.someone().to_owned();
    let job = submit_frames(&farm, &who, 3, "1");
    until("the first frame", || (begun(&farm) > 0).then_some(()));
    let running: Vec<i32> = [Role::Session, Role::Task].iter().flat_map(|r| farm.processes().of(*r)).collect();
    assert!(!running.is_empty());
    for role in [Role::Supervisor, Role::Worker, Role::Dev] {
        let _ = farm.kill9(role);
    }
    until("an end of all that ran", || running.iter().all(|p| !lives(*p)).then_some(()));
    farm.heal();
    farm.complete(job);
    let noted = noted(&farm);
    assert!(noted.len() == 3 && noted.values().all(|(_, ended)| *ended == 1), "{noted:?}");
}

#[test]
fn a_desktop_farm_that_is_stopped_takes_its_tasks_along() {
    let mut farm = Farm::desktop("ada").with(&["--slots", "1"]).start();
    let who = farm.someone().to_owned();
    let job = submit_frames(&farm, &who, 2, "2");
    until("the first frame", || (begun(&farm) > 0).then_some(()));
    let running: Vec<i32> = [Role::Session, Role::Task].iter().flat_map(|r| farm.processes().of(*r)).collect();
    farm.stop();
    until("an end of all that ran", || running.iter().all(|p| !lives(*p)).then_some(()));
    farm.start_again();
    farm.complete(job);
    assert!(noted(&farm).values().all(|(_, ended)| *ended == 1), "{:?}", noted(&farm));
}

/// E11
#[test]
fn killing_twice_or_at_once_is_killing_once() {
    let farm = Farm::any().start();
    let who = farm.someone().to_owned();
    let job = farm.submit_sh(&who, &[], "sleep 1000");
    let id = job.to_string();
    let _ = farm.stead_as(&who, &["kill", &id]).ok();
    let _ = farm.stead_as(&who, &["kill", &id]);
    let _ = farm.ends(job, "killed");
    // The job is killed at once; its task when its last process is gone.
    let ended = farm.until_job(job, "a killed task", |j| j["tasks"]["killed"] == 1);
    assert_eq!((e2e::state(&ended), &ended["tasks"]["running"]), ("killed", &serde_json::json!(0)), "{ended:#}");
    until("an end of every session", || farm.processes().of(Role::Task).is_empty().then_some(()));
}
