//! Plays the worker against the real binary: the channel, sealed memfds, batches signed with a test key.
//!
//! As root the session runs as an unallocated id, as it would behind a launcher; otherwise as whoever runs the tests.

mod files;
mod worker;

use std::path::Path;
use std::time::{Duration, Instant};
use warrant::session_wire::{Event, ItemEnd, OUTPUT_MAX, Stream, ToSession, WINDOW};
use warrant::{Batch, File, Item, ItemKind, Renewal, SecretKey};
use worker::{Options, Worker, boot_ms, is_alive, skipped_without_root, task};

fn sh(index: u64, script: &str) -> Item {
    command(index, &["sh", "-c", script])
}

fn command(index: u64, argv: &[&str]) -> Item {
    Item {
        kind: ItemKind::Task(task(index)),
        argv: argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
        env: vec![],
        files: vec![],
        timeout_ms: 0,
        grace_ms: 0,
    }
}

fn enter(name: &str, script: &str) -> Item {
    Item { kind: ItemKind::Enter { name: name.to_owned() }, ..sh(0, script) }
}

fn exit(name: &str, script: &str) -> Item {
    Item { kind: ItemKind::Exit { name: name.to_owned() }, ..sh(0, script) }
}

fn pair(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

/// Ends of tasks in the order they were told.
fn ends(events: &[Event]) -> Vec<(u64, ItemEnd)> {
    let end = |e: &Event| match e {
        Event::TaskEnded { task, end, .. } => Some((task.index, end.clone())),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

fn one_end(events: &[Event]) -> ItemEnd {
    let mut ends = ends(events);
    assert_eq!(ends.len(), 1, "{events:?}");
    ends.remove(0).1
}

fn refusals(events: &[Event]) -> Vec<String> {
    let text = |e: &Event| match e {
        Event::BatchRefused { text } => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

fn recalled(events: &[Event]) -> Vec<u64> {
    let tasks = |e: &Event| match e {
        Event::Recalled { tasks, .. } => tasks.clone(),
        _ => vec![],
    };
    events.iter().flat_map(tasks).map(|t| t.index).collect()
}

/// One stream of one task, with its offsets checked.
fn output(events: &[Event], index: u64, wanted: Stream) -> String {
    let mut all = Vec::new();
    for event in events {
        if let Event::Output { task, stream, offset, data } = event
            && (task.index, *stream) == (index, wanted)
        {
            assert_eq!(*offset, all.len() as u64, "offset of {wanted:?} of task {index}");
            assert!(data.len() <= OUTPUT_MAX);
            all.extend_from_slice(data);
        }
    }
    String::from_utf8(all).unwrap()
}

fn stdout(events: &[Event], index: u64) -> String {
    output(events, index, Stream::Stdout)
}

fn environment_ends(events: &[Event]) -> Vec<(String, bool, ItemEnd)> {
    let end = |e: &Event| match e {
        Event::EnvironmentEnded { name, entered, end } => Some((name.clone(), *entered, end.clone())),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

fn cannot_start(end: ItemEnd) -> (String, i32, String) {
    match end {
        ItemEnd::CannotStart { stage, errno, text } => (stage, errno, text),
        other => panic!("it started: {other:?}"),
    }
}

#[test]
fn says_what_it_is_when_started_by_hand() {
    let run =
        |args: &[&str]| std::process::Command::new(env!("CARGO_BIN_EXE_stead-session")).args(args).output().unwrap();
    let plain = run(&[]);
    assert_eq!(plain.status.code(), Some(2));
    assert_eq!(String::from_utf8(plain.stderr).unwrap().lines().count(), 1);
    for wrong in [&["--nonsense"][..], &["adopt"], &["adopt", "0999"], &["adopt", "01000"], &["adopt", "0022", "more"]]
    {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let version = run(&["--version"]);
    assert!(String::from_utf8(version.stdout).unwrap().starts_with("stead-session "));
}

#[test]
fn a_desktop_worker_hands_over_standard_descriptors() {
    let lease_until = boot_ms() + 600_000;
    let mut worker = Worker::start(&Options { adopts: true, desktop: true, lease_until, ..Options::default() });
    let script = "umask; for f in /proc/$$/fd/*; do [ -e $f ] && echo ${f##*/}; done; cut -d' ' -f6 /proc/$$/stat";
    let events = worker.run(vec![sh(0, script)]);
    assert_eq!(stdout(&events, 0), format!("0027\n0\n1\n2\n{}\n", worker.pid()), "umask, descriptors, session");
    worker.vanish();
    assert_eq!(worker.exit_code(), Some(0));
}

#[test]
fn exit_codes_signals_times_and_usage() {
    let mut worker = Worker::start(&Options::default());
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    let events = worker.run(vec![
        command(0, &["true"]),
        sh(1, "exit 7"),
        sh(2, "kill -SEGV $$"),
        sh(3, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"),
    ]);
    let want = [ItemEnd::Exited(0), ItemEnd::Exited(7), ItemEnd::Signalled(11), ItemEnd::Exited(0)];
    assert_eq!(ends(&events), (0..4).zip(want).collect::<Vec<_>>());
    let mut started = vec![];
    for event in &events {
        match event {
            Event::TaskStarted { task, at_us } => started.push((task.index, *at_us)),
            Event::TaskEnded { task, started_us, ended_us, cpu_us, max_rss, .. } => {
                assert_eq!(started.last(), Some(&(task.index, *started_us)));
                assert!(u128::from(*started_us) >= before && started_us < ended_us);
                assert!((100_000..500_000_000).contains(max_rss), "max_rss {max_rss}");
                assert!(task.index != 3 || *cpu_us > 1000, "cpu {cpu_us}");
            }
            _ => {}
        }
    }
    assert_eq!(started.len(), 4);
    assert_eq!(events.last(), Some(&Event::BatchDone { sequence: 1 }));
}

#[test]
fn both_streams_are_told_apart_and_counted() {
    let mut worker = Worker::start(&Options::default());
    let script = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done; printf end";
    let events = worker.run(vec![sh(0, script), sh(1, "echo second")]);
    assert_eq!(stdout(&events, 0), "out 1\nout 2\nout 3\nout 4\nout 5\nend");
    assert_eq!(output(&events, 0, Stream::Stderr), "err 1\nerr 2\nerr 3\nerr 4\nerr 5\n");
    assert_eq!(stdout(&events, 1), "second\n");
    let last_output = events.iter().rposition(|e| matches!(e, Event::Output { task, .. } if task.index == 0));
    let ended = events.iter().position(|e| matches!(e, Event::TaskEnded { task, .. } if task.index == 0));
    assert!(last_output < ended, "output was told after the end");
}

#[test]
fn a_slow_worker_makes_the_task_wait_and_not_the_session_grow() {
    const BYTES: usize = 100_000_000;
    let mut worker = Worker::start(&Options::default());
    worker.acknowledges = false;
    worker.batch(vec![command(0, &["head", "-c", &BYTES.to_string(), "/dev/zero"])]);
    let (mut total, mut pending, mut most) = (0, 0, 0);
    loop {
        let Some(events) = worker.receive(Duration::from_millis(100)) else {
            worker.acknowledge();
            pending = 0;
            continue;
        };
        for event in &events {
            if let Event::Output { offset, data, .. } = event {
                assert_eq!(*offset, total as u64);
                total += data.len();
                pending += data.len();
            }
        }
        most = most.max(pending);
        if pending >= WINDOW {
            worker.acknowledge();
            pending = 0;
        }
        if events.iter().any(|e| matches!(e, Event::TaskEnded { .. })) {
            break;
        }
    }
    assert_eq!(total, BYTES);
    assert!(most >= WINDOW / 2, "the window was never filled: {most}");
    assert!(most <= WINDOW + (2 << 20), "more than the window was sent: {most}");
    let peak = worker.peak_memory();
    assert!(peak < 24 << 20, "the session grew to {peak} bytes");
}

#[test]
fn nothing_survives_its_task() {
    let mut worker = Worker::start(&Options::default());
    let script = "(setsid sh -c '(sleep 1000 & echo $! >$STEAD_FILES/a) ; exec sleep 1000' & echo $! >$STEAD_FILES/b) &
        setsid setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >$STEAD_FILES/c
        while ! [ -s $STEAD_FILES/a ] || ! [ -s $STEAD_FILES/b ]; do sleep 0.01; done";
    let started = Instant::now();
    let events = worker.run(vec![sh(0, script), sh(1, "echo next")]);
    assert!(started.elapsed() < Duration::from_secs(10), "waited for what the task left behind");
    assert_eq!(ends(&events), [(0, ItemEnd::Exited(0)), (1, ItemEnd::Exited(0))]);
    for file in ["a", "b", "c"] {
        let pid: i32 = worker.read_own(file).trim().parse().unwrap();
        assert!(!is_alive(pid), "process {pid} of {file} survived its task");
    }
}

#[test]
fn what_a_task_starts_may_live_as_long_as_the_task() {
    let mut worker = Worker::start(&Options::default());
    let script =
        "(setsid sh -c 'sleep 0.3; echo done >$STEAD_FILES/d' &) ; while ! [ -s $STEAD_FILES/d ]; do sleep 0.01; done";
    assert_eq!(one_end(&worker.run(vec![sh(0, script)])), ItemEnd::Exited(0));
}

#[test]
fn time_limits_end_a_task_gently_then_hard() {
    let mut worker = Worker::start(&Options::default());
    let loops = "while :; do sleep 0.02; done";
    let gentle = format!("trap 'echo bye; exit 0' TERM; {loops}");
    let stubborn = format!("trap '' TERM; {loops}");
    let limited = |index, script: &str, grace_ms| Item { timeout_ms: 200, grace_ms, ..sh(index, script) };
    let started = Instant::now();
    let events = worker.run(vec![limited(0, loops, 0), limited(1, &gentle, 60_000), limited(2, &stubborn, 200)]);
    assert!(started.elapsed() >= Duration::from_millis(800), "ended early");
    assert_eq!(ends(&events), (0..3).map(|i| (i, ItemEnd::TimedOut)).collect::<Vec<_>>());
    assert_eq!(stdout(&events, 1), "bye\n");
}

#[test]
fn running_and_waiting_tasks_are_cancelled() {
    let mut worker = Worker::start(&Options::default());
    worker.batch(vec![sh(0, "echo up; exec sleep 1000"), command(1, &["true"]), command(2, &["true"])]);
    let mut events = worker.until(|e| stdout(e, 0) == "up\n");
    worker.send(&ToSession::Cancel { task: task(1) });
    worker.send(&ToSession::Cancel { task: task(0) });
    worker.send(&ToSession::Cancel { task: task(77) });
    events.extend(worker.until(|e| e.contains(&Event::BatchDone { sequence: 1 })));
    assert_eq!(ends(&events), [(1, ItemEnd::Cancelled), (0, ItemEnd::Cancelled), (2, ItemEnd::Exited(0))]);
    let never_ran =
        |e: &Event| matches!(e, Event::TaskEnded { task, started_us: 0, ended_us: 0, .. } if task.index == 1);
    assert!(events.iter().any(never_ran));
}

#[test]
fn suspended_means_stopped_and_the_time_limit_stands_still() {
    let mut worker = Worker::start(&Options::default());
    let script = "setsid sleep 1000 & echo $! $$; while ! [ -e go ]; do sleep 0.01; done";
    worker.batch(vec![Item { timeout_ms: 3000, ..sh(0, script) }, sh(1, "echo next")]);
    let mut events = worker.until(|e| stdout(e, 0).ends_with('\n'));
    worker.send(&ToSession::Suspend);
    let pids: Vec<i32> = stdout(&events, 0).split_whitespace().map(|p| p.parse().unwrap()).collect();
    for pid in pids {
        worker::eventually(&format!("process {pid} is stopped"), || worker::state_of(pid) == Some('T'));
    }
    assert!(worker.receive(Duration::from_millis(3500)).is_none_or(|e| ends(&e).is_empty()), "it ended while stopped");
    std::fs::write(worker.job_dir().join("go"), "").unwrap();
    worker.send(&ToSession::Resume);
    events.extend(worker.until(|e| e.contains(&Event::BatchDone { sequence: 1 })));
    assert_eq!(ends(&events), [(0, ItemEnd::Exited(0)), (1, ItemEnd::Exited(0))]);
}

#[test]
fn only_the_next_batch_signed_for_this_session_runs() {
    let mut worker = Worker::start(&Options::default());
    let mark = |name: &str| vec![sh(0, &format!("touch $STEAD_FILES/{name}"))];
    let good = worker.next_batch(mark("bad"));
    let stranger = SecretKey::from_seed(&[9; 32]);
    worker.send_signed(&good.sign(&stranger));
    let mut forged = good.sign(&worker.key);
    let at = forged.bytes.len() - 20;
    forged.bytes[at] ^= 1;
    worker.send_signed(&forged);
    for wrong in [
        Batch { farm: [8; 16], ..good.clone() },
        Batch { session: 99, ..good.clone() },
        Batch { job: 99, ..good.clone() },
        Batch { sequence: 2, ..good.clone() },
        Batch { sequence: 0, ..good.clone() },
    ] {
        worker.send_signed(&wrong.sign(&worker.key));
    }
    // The first one that is right, and then once more.
    let right = worker.next_batch(mark("good"));
    worker.send_signed(&right.sign(&worker.key));
    worker.send_signed(&right.sign(&worker.key));
    let events = worker.until(|e| refusals(e).len() == 8 && e.contains(&Event::BatchDone { sequence: 1 }));
    let texts = refusals(&events);
    for (text, want) in texts.iter().zip([
        "unknown key",
        "signature does not match",
        "another farm",
        "session 99",
        "job 99",
        "sequence number 2",
        "sequence number 0",
        "sequence number 1, the next one to run is 2",
    ]) {
        assert!(text.contains(want), "{text:?} does not say {want:?}");
    }
    assert_eq!(ends(&events), [(0, ItemEnd::Exited(0))]);
    assert!(!worker.own("bad").exists() && worker.own("good").exists());
}

#[test]
fn a_batch_that_is_no_memory_file_is_refused() {
    let mut worker = Worker::start(&Options::default());
    worker.send_with(&ToSession::Batch, &std::fs::File::open("/dev/zero").unwrap().into());
    let events = worker.until(|e| !refusals(e).is_empty());
    assert!(refusals(&events)[0].contains("could not be read"));
    assert_eq!(one_end(&worker.run(vec![command(0, &["true"])])), ItemEnd::Exited(0));
}

#[test]
fn nothing_starts_after_the_deadline_of_its_batch() {
    let mut worker = Worker::start(&Options::default());
    let late = Batch { not_after: boot_ms() - 1, ..worker.next_batch(vec![command(0, &["true"])]) };
    let soon =
        Batch { sequence: 2, not_after: boot_ms() + 400, ..worker.next_batch(vec![sh(1, "sleep 0.8"), sh(2, "")]) };
    let never = Batch { sequence: 3, not_after: 0, ..worker.next_batch(vec![command(3, &["true"])]) };
    for batch in [late, soon, never] {
        worker.send_signed(&batch.sign(&worker.key));
    }
    let events = worker.until(|e| (1..=3).all(|sequence| e.contains(&Event::BatchDone { sequence })));
    assert_eq!(recalled(&events).iter().copied().collect::<std::collections::BTreeSet<_>>(), [0, 2, 3].into());
    assert_eq!(ends(&events), [(1, ItemEnd::Exited(0))]);
    let given_back = events.iter().rposition(|e| matches!(e, Event::Recalled { .. }));
    let ended = events.iter().position(|e| matches!(e, Event::TaskEnded { .. }));
    assert!(given_back < ended, "what can't start any more is given back without waiting for what runs");
}

#[test]
fn recall_gives_back_what_has_not_started() {
    let mut worker = Worker::start(&Options::default());
    worker.batch(vec![sh(0, "echo up; while ! [ -e go ]; do sleep 0.01; done"), command(1, &["true"])]);
    worker.batch(vec![command(2, &["true"])]);
    worker.batch(vec![command(3, &["true"])]);
    let mut events = worker.until(|e| stdout(e, 0) == "up\n");
    worker.send(&ToSession::Recall { through: 2, number: 7 });
    events.extend(worker.until(|e| !recalled(e).is_empty()));
    std::fs::write(worker.job_dir().join("go"), "").unwrap();
    events.extend(worker.until(|e| e.contains(&Event::BatchDone { sequence: 3 })));
    assert_eq!(recalled(&events), [1, 2]);
    assert_eq!(ends(&events), [(0, ItemEnd::Exited(0)), (3, ItemEnd::Exited(0))]);
    worker.send(&ToSession::Recall { through: 9, number: 8 });
    let events = worker.until(|e| !e.is_empty());
    assert_eq!(events, [Event::Recalled { tasks: vec![], answers: 8 }]);
}

#[test]
fn a_new_worker_gets_everything_once() {
    let mut worker = Worker::start(&Options::default());
    worker.acknowledges = false;
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    worker.batch(vec![sh(0, script), sh(1, script)]);
    worker.until(|e| stdout(e, 0).len() > 5000);
    worker.acknowledge();
    // The rest is sent to this worker, which dies before it reads it; the next one begins where the last said it was.
    worker.replace();
    worker.send(&ToSession::Attach { acked: worker.seen() });
    worker.acknowledges = true;
    worker.until(|e| e.contains(&Event::BatchDone { sequence: 1 }));
    // And a third one asks for what was acknowledged long ago: nothing of it is there, nothing is counted twice.
    worker.replace();
    worker.send(&ToSession::Attach { acked: 0 });
    worker.run(vec![command(2, &["true"])]);
    let events = worker.log();
    assert_eq!(ends(events).len(), 3);
    for index in 0..2 {
        let text = stdout(events, index);
        assert_eq!(text.lines().count(), 3000);
        assert!(text.lines().enumerate().all(|(i, l)| l == format!("line {i}")));
    }
}

#[test]
fn what_was_sent_and_not_acknowledged_is_sent_again() {
    let mut worker = Worker::start(&Options::default());
    worker.acknowledges = false;
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    worker.batch(vec![sh(0, script)]);
    worker.until(|e| e.contains(&Event::BatchDone { sequence: 1 }));
    let first_time = worker.forget(1);
    worker.replace();
    worker.send(&ToSession::Attach { acked: 1 });
    worker.until(|e| e.contains(&Event::BatchDone { sequence: 1 }));
    assert_eq!(worker.log(), first_time);
}

#[test]
fn openjd_environments_reach_tasks_and_end_with_their_exit() {
    let mut worker = Worker::start(&Options::default());
    let outer = r#"echo openjd_env: A=outer; printf '%s\n' 'openjd_env: "B=two\nlines"'; echo openjd_unset_env: GONE;
        echo openjd_env: HOME=/evil; echo openjd_env: STEAD_JOB=666"#;
    let show = "echo \"$A|$B|$GONE|$HOME|$STEAD_JOB\"; echo openjd_env: A=task";
    let mut batch = worker.next_batch(vec![
        sh(0, show),
        enter("outer", outer),
        sh(1, show),
        enter("inner", "echo openjd_env: A=inner; echo entering $A"),
        sh(2, show),
        exit("inner", "echo leaving $A"),
        sh(3, show),
        exit("outer", "true"),
        sh(4, show),
    ]);
    batch.env = vec![pair("GONE", "here")];
    let events = worker.run_batch(&batch);
    let first = |index| stdout(&events, index).split("\nopenjd_env").next().unwrap().to_owned();
    assert_eq!(first(0), "||here|/home/ada|7");
    assert_eq!(first(1), "outer|two\nlines||/home/ada|7");
    assert_eq!(first(2), "inner|two\nlines||/home/ada|7");
    assert_eq!(first(3), "outer|two\nlines||/home/ada|7");
    assert_eq!(first(4), "||here|/home/ada|7");
    let told: Vec<u8> = events
        .iter()
        .filter_map(|e| match e {
            Event::EnvironmentOutput { name, data } if name == "inner" => Some(data.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(String::from_utf8(told).unwrap(), "openjd_env: A=inner\nentering outer\nleaving inner\n");
    assert_eq!(environment_ends(&events).len(), 4);
}

#[test]
fn what_an_environment_starts_lives_until_its_exit() {
    let mut worker = Worker::start(&Options::default());
    // One of them daemonizes slowly, so that its last parent dies when the environment is entered already.
    let daemons = "sleep 1000 >/dev/null 2>&1 & echo $! >$STEAD_FILES/plain
        (setsid sh -c '(sleep 0.3; setsid sh -c \"echo \\$\\$ >$STEAD_FILES/slow; exec sleep 1000\" & sleep 0.3)' >/dev/null 2>&1 &)";
    let leftover = "setsid sleep 1000 & echo $! >$STEAD_FILES/left; while ! [ -s $STEAD_FILES/slow ]; do sleep 0.01; done; sleep 0.4";
    let events = worker.run(vec![enter("e", daemons), enter("other", "true"), sh(0, leftover), sh(1, leftover)]);
    assert_eq!(ends(&events), [(0, ItemEnd::Exited(0)), (1, ItemEnd::Exited(0))]);
    let pid = |worker: &Worker, file: &str| worker.read_own(file).trim().parse().unwrap();
    let (plain, slow, left) = (pid(&worker, "plain"), pid(&worker, "slow"), pid(&worker, "left"));
    assert!(is_alive(plain) && is_alive(slow), "the environment's processes are gone");
    assert!(!is_alive(left), "the task's are not");
    worker.run(vec![exit("other", "true")]);
    assert!(is_alive(plain) && is_alive(slow));
    let events = worker.run(vec![exit("e", "true"), sh(2, "true")]);
    assert_eq!(one_end(&events), ItemEnd::Exited(0));
    assert!(!is_alive(plain) && !is_alive(slow), "the environment's processes survived its exit");

    worker.run(vec![enter("f", "sleep 1000 >/dev/null 2>&1 & echo $! >$STEAD_FILES/plain")]);
    let plain = pid(&worker, "plain");
    assert!(is_alive(plain));
    worker.send(&ToSession::Finish);
    worker.until(|e| e.iter().any(|e| matches!(e, Event::Leaving { .. })));
    assert_eq!(worker.exit_code(), Some(0));
    assert!(!is_alive(plain), "it survived the session");
}

#[test]
fn what_cannot_be_killed_stops_the_session_from_taking_work() {
    if skipped_without_root("a process that its session cannot kill") {
        return;
    }
    let mut worker = Worker::start(&Options::default());
    let switch = worker.job_dir().join("switch");
    std::fs::copy("/usr/bin/setpriv", &switch).unwrap();
    std::fs::set_permissions(&switch, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    let script = "./switch --reuid 0 --regid 0 --clear-groups sleep 1000 & echo $!; sleep 0.2";
    let started = Instant::now();
    worker.batch(vec![sh(0, script), command(1, &["true"])]);
    worker.batch(vec![command(2, &["true"])]);
    let mut events = worker.until(|e| e.contains(&Event::BatchDone { sequence: 2 }));
    assert!(started.elapsed() >= Duration::from_secs(2), "it gave up early");
    let runaway: i32 = stdout(&events, 0).trim().parse().unwrap();
    let was_alive = is_alive(runaway);
    // SAFETY: takes no pointer; the process is the one the task above started.
    unsafe { libc::kill(runaway, libc::SIGKILL) };
    assert!(was_alive);
    assert_eq!(one_end(&events), ItemEnd::Exited(0));
    assert!(events.contains(&Event::Stuck));
    assert_eq!(recalled(&events), [1, 2]);
    worker.batch(vec![command(3, &["true"])]);
    events = worker.until(|e| !refusals(e).is_empty());
    assert!(refusals(&events)[0].contains("could not be killed"));
}

#[test]
fn after_a_failed_environment_no_task_runs_and_exits_do() {
    let mut worker = Worker::start(&Options::default());
    let events = worker.run(vec![
        enter("good", "true"),
        enter("bad", "echo openjd_fail: no licence; exit 3"),
        enter("never", "touch $STEAD_FILES/never"),
        sh(0, "touch $STEAD_FILES/never"),
        exit("never", "touch $STEAD_FILES/never"),
        exit("bad", "touch $STEAD_FILES/bad"),
        exit("good", "touch $STEAD_FILES/good"),
    ]);
    let text = "environment \"bad\" could not be entered: no licence".to_owned();
    assert_eq!(one_end(&events), ItemEnd::Failed { text: text.clone() });
    let ends = environment_ends(&events);
    let of = |name: &str, entered| ends.iter().find(|e| e.0 == name && e.1 == entered).map(|e| e.2.clone());
    assert_eq!(of("bad", true), Some(ItemEnd::Failed { text: "no licence".to_owned() }));
    assert_eq!(of("never", true), Some(ItemEnd::Failed { text }));
    assert_eq!(of("bad", false), Some(ItemEnd::Exited(0)));
    assert_eq!(of("good", false), Some(ItemEnd::Exited(0)));
    assert!(matches!(of("never", false), Some(ItemEnd::Failed { .. })));
    assert!(worker.own("bad").exists() && worker.own("good").exists() && !worker.own("never").exists());
}

#[test]
fn only_what_was_entered_is_left() {
    let mut worker = Worker::start(&Options::default());
    worker.run(vec![enter("house", "true")]);
    // As after a restart of the supervisor, which doesn't know how far it had come.
    let both = || vec![exit("room", "touch $STEAD_FILES/room"), exit("house", "echo x >>$STEAD_FILES/house")];
    let ends = [environment_ends(&worker.run(both())), environment_ends(&worker.run(both()))];
    let of = |at: usize, name: &str| ends[at].iter().find(|e| e.0 == name && !e.1).map(|e| e.2.clone());
    assert!(matches!(of(0, "room"), Some(ItemEnd::Failed { .. })));
    assert_eq!(of(0, "house"), Some(ItemEnd::Exited(0)));
    assert!(matches!(of(1, "house"), Some(ItemEnd::Failed { .. })));
    assert!(!worker.own("room").exists());
    assert_eq!(worker.read_own("house"), "x\n");
}

#[test]
fn tasks_say_how_far_they_are_and_why_they_failed() {
    let mut worker = Worker::start(&Options::default());
    let flood =
        "i=0; while [ $i -lt 5000 ]; do echo openjd_status: step $i; i=$((i+1)); done; echo openjd_progress: 99.5";
    let events = worker.run(vec![
        sh(0, flood),
        sh(1, "echo openjd_fail: no textures; exit 4"),
        sh(2, "echo openjd_fail: just saying"),
        sh(3, "printf 'openjd_fail: no line end'; exit 1"),
    ]);
    let said: Vec<&Event> =
        events.iter().filter(|e| matches!(e, Event::Status { .. } | Event::Progress { .. })).collect();
    assert!(said.contains(&&Event::Progress { task: task(0), hundredths: 9950 }));
    assert!(said.contains(&&Event::Status { task: task(0), text: "step 4999".to_owned() }));
    assert!(said.len() < 1000, "{} progress events", said.len());
    assert_eq!(stdout(&events, 0).lines().count(), 5001);
    let failed = |text: &str| ItemEnd::Failed { text: text.to_owned() };
    let want = [ItemEnd::Exited(0), failed("no textures"), ItemEnd::Exited(0), failed("no line end")];
    assert_eq!(ends(&events), (0..4).zip(want).collect::<Vec<_>>());
}

#[test]
fn redacted_values_are_known_to_tasks_and_shown_to_nobody() {
    let mut worker = Worker::start(&Options::default());
    let events = worker.run(vec![
        enter("secret", "echo openjd_redacted_env: TOKEN=hunter2; echo it is hunter2"),
        sh(0, "echo $TOKEN; echo x${TOKEN}x >&2; [ \"$TOKEN\" = hunter2 ]"),
    ]);
    assert_eq!(one_end(&events), ItemEnd::Exited(0));
    assert_eq!(stdout(&events, 0), "********\n");
    assert_eq!(output(&events, 0, Stream::Stderr), "x********x\n");
    assert!(!format!("{events:?}").contains("hunter2"));
    let bytes = b"hunter2";
    for event in &events {
        if let Event::EnvironmentOutput { data, .. } | Event::Output { data, .. } = event {
            assert!(!data.windows(bytes.len()).any(|w| w == bytes));
        }
    }
}

#[test]
fn a_command_that_cannot_be_executed_says_why() {
    let mut worker = Worker::start(&Options::default());
    let script = |path: &str, text: &str, executable| File { path: path.into(), data: text.into(), executable };
    let mut batch = worker.next_batch(vec![
        command(0, &["povrayy", "+W640"]),
        command(1, &["@STEAD_FILES@/plain"]),
        command(2, &["@STEAD_FILES@/badint"]),
        command(3, &["@STEAD_FILES@/garbage"]),
        command(4, &["./missing"]),
        command(5, &["/etc"]),
        command(6, &[]),
        command(7, &["true"]),
    ]);
    batch.files = vec![
        script("plain", "#!/bin/sh\n", false),
        script("badint", "#!/opt/perl6\n", true),
        script("garbage", "no program", true),
    ];
    let events = worker.run_batch(&batch);
    assert!(!events.iter().any(|e| matches!(e, Event::TaskStarted { task, .. } if task.index != 7)));
    let ends = ends(&events);
    assert_eq!(ends[7], (7, ItemEnd::Exited(0)));
    let wants = [
        (libc::ENOENT, "command not found: \"povrayy\" (searched /usr/local/bin:/usr/bin:/bin)"),
        (libc::EACCES, "no execute permission"),
        (libc::ENOENT, "names \"/opt/perl6\", which does not exist"),
        (libc::ENOEXEC, "is no program of this machine"),
        (libc::ENOENT, "command not found: \"./missing\""),
        (libc::EACCES, "it is a directory"),
        (libc::EINVAL, "the command is empty"),
    ];
    for ((_, end), (want_errno, want)) in ends.into_iter().zip(wants) {
        let (stage, errno, text) = cannot_start(end);
        assert_eq!((stage.as_str(), errno), ("exec", want_errno), "{text}");
        assert!(text.contains(want), "{text:?} does not say {want:?}");
    }
}

#[test]
fn a_working_directory_that_cannot_be_entered_says_why() {
    let mut worker = Worker::start(&Options::default());
    let closed = tempfile::tempdir().unwrap();
    std::fs::create_dir(closed.path().join("inner")).unwrap();
    std::fs::set_permissions(closed.path(), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let inner = closed.path().join("inner");
    let cases = [
        (b"/no/such/place".to_vec(), libc::ENOENT, "no such file"),
        (b"/etc/passwd".to_vec(), libc::ENOTDIR, "not a directory"),
        (worker::bytes(&inner), libc::EACCES, "permission denied"),
    ];
    for (cwd, want_errno, want) in cases {
        let mut batch = worker.next_batch(vec![command(0, &["true"])]);
        batch.cwd = Some(cwd.clone());
        let (stage, errno, text) = cannot_start(one_end(&worker.run_batch(&batch)));
        assert_eq!((stage.as_str(), errno), ("cwd", want_errno), "{text}");
        let path = String::from_utf8(cwd).unwrap();
        assert!(text.contains(want) && text.contains(&path) && text.contains("ada (uid "), "{text}");
    }
    std::fs::set_permissions(closed.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut batch = worker.next_batch(vec![command(0, &["pwd"])]);
    batch.cwd = Some(b"@STEAD_FILES@".to_vec());
    let events = worker.run_batch(&batch);
    assert_eq!(Path::new(stdout(&events, 0).trim_end()), worker.own("").parent().unwrap().join("31"));
}

#[test]
fn a_huge_argument_is_a_clear_error() {
    let mut worker = Worker::start(&Options::default());
    let long = "x".repeat(1 << 20);
    let many: Vec<String> = vec!["y".repeat(100_000); 200];
    let mut words = vec!["true"];
    words.extend(many.iter().map(String::as_str));
    let events = worker.run(vec![command(0, &["true", &long]), command(1, &words), command(2, &["true"])]);
    let ends = ends(&events);
    for (index, want) in [(0, "1048576 bytes"), (1, "together they have 20")] {
        let (stage, errno, text) = cannot_start(ends[index].1.clone());
        assert_eq!((stage.as_str(), errno), ("exec", libc::E2BIG));
        assert!(text.contains("too long for the kernel") && text.contains(want), "{text}");
    }
    assert_eq!(ends[2].1, ItemEnd::Exited(0));
    let just_right = "z".repeat((128 << 10) - 1);
    assert_eq!(one_end(&worker.run(vec![command(3, &["true", &just_right])])), ItemEnd::Exited(0));
}

#[test]
fn the_environment_of_a_task() {
    let mut worker = Worker::start(&Options::default());
    let reserved = ["HOME", "USER", "LOGNAME", "SHELL", "STEAD_JOB", "STEAD_TASK", "STEAD_SOMETHING"];
    let evil: Vec<_> = reserved.iter().map(|name| pair(name, "evil")).collect();
    let mut item = command(5, &["env"]);
    item.env = evil.clone();
    item.env.push(pair("B", "item @STEAD_JOBDIR@"));
    let mut batch = worker.next_batch(vec![item]);
    batch.env = evil;
    batch.env.extend([pair("A", "batch"), pair("B", "batch")]);
    let events = worker.run_batch(&batch);
    let job_dir = worker.job_dir();
    let mut lines: Vec<String> = stdout(&events, 5).lines().map(str::to_owned).collect();
    lines.sort();
    let want = [
        "A=batch".to_owned(),
        format!("B=item {}", job_dir.display()),
        "HOME=/home/ada".to_owned(),
        "LOGNAME=ada".to_owned(),
        "PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
        "SHELL=/bin/sh".to_owned(),
        "STEAD_ATTEMPT=3".to_owned(),
        format!("STEAD_FILES={}/.stead/31", job_dir.display()),
        "STEAD_JOB=7".to_owned(),
        "STEAD_SESSION=31".to_owned(),
        "STEAD_STEP=2".to_owned(),
        "STEAD_TASK=5".to_owned(),
        "USER=ada".to_owned(),
    ];
    assert_eq!(lines, want);
    for (name, value) in [("", "x"), ("A=B", "x"), ("A\0B", "x"), ("A", "x\0")] {
        let item = Item { env: vec![pair(name, value)], ..command(0, &["true"]) };
        assert_eq!(cannot_start(one_end(&worker.run(vec![item]))).0, "environment");
    }
}

#[test]
fn a_task_starts_with_nothing_of_the_session() {
    let mut worker = Worker::start(&Options::default());
    let fds = "for f in /proc/$$/fd/*; do [ -e $f ] && echo ${f##*/}; done; readlink /proc/$$/fd/0";
    let signals = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let group = "ps -o pid=,pgid= -p $$ 2>/dev/null || awk '{print $1, $5}' /proc/$$/stat";
    let events = worker.run(vec![sh(0, fds), command(1, &["sh", "-c", signals]), sh(2, group)]);
    assert_eq!(stdout(&events, 0), "0\n1\n2\n/dev/null\n");
    let zero = "0000000000000000";
    assert_eq!(stdout(&events, 1), format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n"));
    let text = stdout(&events, 2);
    let numbers: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(numbers[0], numbers[1], "not the leader of its own group");
    // A writer whose reader is gone is ended by SIGPIPE.
    let events = worker.run(vec![sh(3, "yes | head -n 1 >/dev/null; sh -c 'kill -PIPE $$'; echo $?")]);
    assert_eq!(stdout(&events, 3), "141\n");
}

#[test]
fn files_are_written_where_only_they_can_go() {
    let mut worker = Worker::start(&Options::default());
    let file = |path: &str, data: &str| File { path: path.into(), data: data.into(), executable: false };
    let program = File { executable: true, ..file("bin/run", "#!/bin/sh\ncat @STEAD_FILES@/deep/er/data $1\n") };
    let mut batch = worker.next_batch(vec![Item {
        files: vec![file("item", "of the item\n")],
        ..command(0, &["@STEAD_FILES@/bin/run", "@STEAD_FILES@/item"])
    }]);
    batch.files = vec![program, file("deep/er/data", "of the batch\n")];
    let events = worker.run_batch(&batch);
    assert_eq!(stdout(&events, 0), "of the batch\nof the item\n");
    let mode =
        |name: &str| std::os::unix::fs::PermissionsExt::mode(&worker.own(name).metadata().unwrap().permissions());
    assert_eq!((mode("bin/run") & 0o7777, mode("item") & 0o7777, mode("deep") & 0o7777), (0o700, 0o600, 0o700));

    for path in ["", "/abs", "../up", "a/../../b", "a//b", "nul\0"] {
        let item = Item { files: vec![file(path, "x")], ..command(1, &["true"]) };
        assert_eq!(cannot_start(one_end(&worker.run(vec![item]))).0, "files", "{path:?}");
    }
    // What a task puts in the way is replaced, never followed.
    let trap = "cd $STEAD_FILES && rm -f item && echo keep >@STEAD_JOBDIR@/mine && ln -s @STEAD_JOBDIR@/mine item && mkfifo pipe \
        && ln -s @STEAD_JOBDIR@ dir";
    assert_eq!(one_end(&worker.run(vec![sh(2, trap)])), ItemEnd::Exited(0));
    let over = Item {
        files: vec![file("item", "new"), file("pipe", "new")],
        ..sh(3, "cat $STEAD_FILES/item $STEAD_FILES/pipe")
    };
    assert_eq!(stdout(&worker.run(vec![over]), 3), "newnew");
    assert_eq!(std::fs::read_to_string(worker.job_dir().join("mine")).unwrap(), "keep\n");
    let through = Item { files: vec![file("dir/x", "new")], ..command(4, &["true"]) };
    assert_eq!(cannot_start(one_end(&worker.run(vec![through]))).0, "files");
    assert!(!worker.job_dir().join("x").exists());
}

#[test]
fn finish_does_what_is_queued_and_leaves() {
    let mut worker = Worker::start(&Options::default());
    worker.batch(vec![enter("e", "true"), sh(0, "sleep 0.1; echo last")]);
    worker.batch(vec![exit("e", "touch $STEAD_FILES/exited")]);
    worker.send(&ToSession::Finish);
    let events = worker.until(|e| e.iter().any(|e| matches!(e, Event::Leaving { .. })));
    assert_eq!(one_end(&events), ItemEnd::Exited(0));
    assert!(worker.own("exited").exists());
    assert_eq!(worker.exit_code(), Some(0));
}

#[test]
fn a_broken_worker_ends_the_session() {
    type Break = fn(&Worker);
    let breaks: [(Break, &str); 4] = [
        (|w| w.send_raw(&[99]), "unknown value 99"),
        (|w| w.send_raw(&[10, 0]), "1 bytes follow"),
        (|w| w.send(&ToSession::Batch), "without its descriptor"),
        (|w| w.send(&ToSession::Ack { through: 1000 }), "acknowledged event 1000"),
    ];
    for (break_it, want) in breaks {
        let mut worker = Worker::start(&Options::default());
        worker.batch(vec![sh(0, "echo $$; exec sleep 1000"), command(1, &["true"])]);
        let mut events = worker.until(|e| stdout(e, 0).ends_with('\n'));
        break_it(&worker);
        events.extend(worker.until(|e| e.iter().any(|e| matches!(e, Event::Leaving { .. }))));
        let text = events.iter().find_map(|e| match e {
            Event::Leaving { text } => Some(text.clone()),
            _ => None,
        });
        assert!(text.as_ref().is_some_and(|t| t.contains(want)), "{text:?} does not say {want:?}");
        assert_eq!(recalled(&events), [1]);
        assert_eq!(one_end(&events), ItemEnd::Cancelled);
        assert_eq!(worker.exit_code(), Some(0));
        assert!(!is_alive(stdout(&events, 0).trim().parse().unwrap()));
    }
}

#[test]
fn sigterm_cancels_and_leaves() {
    let mut worker = Worker::start(&Options::default());
    worker.batch(vec![sh(0, "echo up; exec sleep 1000"), command(1, &["true"])]);
    let mut events = worker.until(|e| stdout(e, 0) == "up\n");
    worker.terminate();
    events.extend(worker.until(|e| e.iter().any(|e| matches!(e, Event::Leaving { .. }))));
    assert_eq!(one_end(&events), ItemEnd::Cancelled);
    assert_eq!(recalled(&events), [1]);
    assert_eq!(worker.exit_code(), Some(0));
}

#[test]
fn without_a_worker_the_started_task_is_finished_and_then_it_leaves() {
    let mut worker = Worker::start(&Options { orphan_limit_ms: 700, ..Options::default() });
    worker.batch(vec![sh(0, "sleep 1.5; touch $STEAD_FILES/finished"), sh(1, "touch $STEAD_FILES/second")]);
    worker.until(|e| e.iter().any(|e| matches!(e, Event::TaskStarted { .. })));
    worker.acknowledges = false;
    assert_eq!(worker.exit_code(), Some(0));
    assert!(worker.own("finished").exists() && !worker.own("second").exists());
}

#[test]
fn pings_keep_a_session_alive() {
    let mut worker = Worker::start(&Options { orphan_limit_ms: 500, ..Options::default() });
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        worker.send(&ToSession::Ping);
        worker.receive(Duration::from_millis(100));
    }
    assert_eq!(one_end(&worker.run(vec![command(0, &["true"])])), ItemEnd::Exited(0));
}

/// Starts a task that left its process and its group, and says its pid.
fn start_runaway(worker: &mut Worker) -> i32 {
    worker.batch(vec![sh(0, "setsid sleep 1000 & echo $!; exec sleep 1000")]);
    let events = worker.until(|e| stdout(e, 0).ends_with('\n'));
    stdout(&events, 0).trim().parse().unwrap()
}

#[test]
fn everything_ends_with_the_channel() {
    for desktop in [true, false] {
        let lease_until = boot_ms() + 600_000;
        let mut worker = Worker::start(&Options { desktop, lease_until, ..Options::default() });
        let runaway = start_runaway(&mut worker);
        worker.vanish();
        assert_eq!(worker.exit_code(), Some(0));
        assert!(!is_alive(runaway), "desktop={desktop}");
    }
}

#[test]
fn a_desktop_session_ends_with_its_lease_and_lives_by_renewals() {
    let mut worker = Worker::start(&Options { desktop: true, lease_until: boot_ms() + 1500, ..Options::default() });
    let runaway = start_runaway(&mut worker);
    let until = boot_ms() + 4000;
    let renewal = |session, lease_until| Renewal { farm: [5; 16], worker: "w".to_owned(), session, lease_until };
    worker.send(&ToSession::Renew(renewal(31, until).sign(&worker.key)));
    worker.send(&ToSession::Renew(renewal(30, until + 600_000).sign(&worker.key)));
    worker.send(&ToSession::Renew(renewal(31, until + 600_000).sign(&SecretKey::from_seed(&[9; 32]))));
    worker.send(&ToSession::Renew(renewal(31, until - 3000).sign(&worker.key)));
    assert_eq!(worker.exit_code(), Some(0));
    assert!(boot_ms() >= until, "ended before its lease");
    assert!(!is_alive(runaway));
}

#[test]
fn a_killed_session_takes_its_task_along() {
    let mut worker = Worker::start(&Options::default());
    worker.batch(vec![sh(0, "echo $$; exec sleep 1000")]);
    let events = worker.until(|e| stdout(e, 0).ends_with('\n'));
    let pid: i32 = stdout(&events, 0).trim().parse().unwrap();
    drop(worker);
    worker::eventually("the task is gone", || !is_alive(pid));
}

#[test]
fn the_first_process_of_a_namespace_reaps_and_obeys() {
    if skipped_without_root("a session as first process of a PID namespace") {
        return;
    }
    let wrapper = vec!["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let mut worker = Worker::start(&Options { wrapper, keep_root: true, ..Options::default() });
    assert_eq!(worker.log()[0], Event::Ready { pid: 1 });
    let script = "setsid sh -c 'setsid sleep 1000 & exec sleep 1000' & (sleep 0 &) ; echo done";
    let events = worker.run(vec![sh(0, script), command(1, &["ls", "/proc"])]);
    assert_eq!(ends(&events), [(0, ItemEnd::Exited(0)), (1, ItemEnd::Exited(0))]);
    let listed = stdout(&events, 1);
    let processes: Vec<&str> = listed.lines().filter(|n| n.parse::<u32>().is_ok()).collect();
    assert_eq!(processes.len(), 2, "besides the session and the task there are {processes:?}");
    let inner: i32 =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", worker.pid())).unwrap().trim().parse().unwrap();
    // SAFETY: takes no pointer.
    assert_eq!(unsafe { libc::kill(inner, libc::SIGTERM) }, 0);
    let events = worker.until(|e| e.iter().any(|e| matches!(e, Event::Leaving { .. })));
    assert!(format!("{events:?}").contains("told to end"));
}

#[test]
fn others_of_the_account_cannot_look_into_a_session() {
    let worker = Worker::start(&Options::default());
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{}/mem", worker.pid())).unwrap());
    assert_eq!(owner, 0, "/proc of an undumpable process belongs to root");
}

#[test]
fn clean_removes_everything_beneath_and_nothing_beside() {
    let home = tempfile::tempdir().unwrap();
    let (job, beside) = (home.path().join("job"), home.path().join("beside"));
    std::fs::create_dir_all(job.join("a/b/c")).unwrap();
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("keep"), "x").unwrap();
    std::os::unix::fs::symlink(&beside, job.join("a/link")).unwrap();
    std::os::unix::fs::symlink("/nonexistent", job.join(".dangling")).unwrap();
    (0..3000).for_each(|i| std::fs::write(job.join(format!("a/frame{i}")), "x").unwrap());
    // Deeper than descriptors would last if one were kept for each.
    let mut deep = job.join("deep");
    for _ in 0..600 {
        deep.push("d");
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("bottom"), "x").unwrap();
    std::fs::create_dir(job.join("closed")).unwrap();
    std::fs::write(job.join("closed/x"), "x").unwrap();
    std::fs::set_permissions(job.join("closed"), std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    let clean = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_stead-session"))
            .arg("clean")
            .current_dir(&job)
            .env("STEAD_JOB", "7")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    };
    let output = clean();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(std::fs::read_dir(&job).unwrap().count(), 0);
    assert_eq!(std::fs::read_to_string(beside.join("keep")).unwrap(), "x");
    assert_eq!(clean().status.code(), Some(0));
}

/// A folder is moved up where the tree is too deep, and to change its parent it must be writable, which its owner can
/// have forbidden.
#[test]
fn clean_removes_what_its_owner_made_hard_to_remove() {
    let home = tempfile::tempdir().unwrap();
    let job = home.path().join("job");
    std::fs::create_dir(&job).unwrap();
    let as_account = |program: &str, argument: &str, script: &str| {
        // Root may do what a folder's mode forbids, an account may not.
        let mut command = if worker::is_root() {
            let mut command = std::process::Command::new("setpriv");
            command.args(["--reuid", "61777", "--regid", "61777", "--clear-groups", program]);
            command
        } else {
            std::process::Command::new(program)
        };
        command.arg(argument).current_dir(&job).env("STEAD_JOB", "7").stdin(std::process::Stdio::null());
        if !script.is_empty() {
            command.arg(script);
        }
        command.output().unwrap()
    };
    if worker::is_root() {
        std::os::unix::fs::chown(&job, Some(61_777), Some(61_777)).unwrap();
        std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    }
    let hostile = "i=0; while [ $i -lt 200 ]; do mkdir d; cd d; mkfifo pipe; : > '-rf
*'; i=$((i + 1)); done; while [ $i -gt 0 ]; do cd ..; chmod 0 d; i=$((i - 1)); done; chmod 0 .";
    let made = as_account("sh", "-c", hostile);
    assert!(made.status.success(), "{made:?}");
    let output = as_account(env!("CARGO_BIN_EXE_stead-session"), "clean", "");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(std::fs::read_dir(&job).unwrap().count(), 0);

    // Where nothing can be moved up, it says what is left, and ends.
    if worker::is_root() {
        assert!(
            as_account("sh", "-c", "i=0; while [ $i -lt 80 ]; do mkdir d; cd d; i=$((i + 1)); done").status.success()
        );
        std::os::unix::fs::chown(&job, Some(0), Some(0)).unwrap();
        std::fs::set_permissions(&job, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let output = as_account(env!("CARGO_BIN_EXE_stead-session"), "clean", "");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}

#[test]
fn clean_removes_nothing_when_nobody_says_whose_folder_it_is() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("precious"), "x").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_stead-session"))
        .arg("clean")
        .current_dir(home.path())
        .env_remove("STEAD_JOB")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(home.path().join("precious").exists());
}

#[test]
fn clean_stops_at_mounts() {
    if skipped_without_root("cleaning around a mount") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let script = format!(
        "mkdir job job/m job/sub outside && echo x >outside/keep && mount --bind outside job/m && echo x >job/sub/f && cd job \
         && ! STEAD_JOB=7 {} clean </dev/null && ls ../outside . && ! [ -e sub ]",
        env!("CARGO_BIN_EXE_stead-session")
    );
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-ec", &script])
        .current_dir(home.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(home.path().join("outside/keep").exists());
}

/// Prints how fast tasks are; a figure for people, so nothing is asserted but that all ended well.
#[test]
#[expect(clippy::print_stdout, reason = "the figure is the point")]
fn how_many_tasks_per_second() {
    const TASKS: u64 = 3000;
    let mut worker = Worker::start(&Options::default());
    let items = (0..TASKS).map(|i| command(i, &["/bin/true"])).collect();
    let started = Instant::now();
    let events = worker.run(items);
    let taken = started.elapsed().as_secs_f64();
    assert!(ends(&events).iter().all(|(_, end)| *end == ItemEnd::Exited(0)));
    assert_eq!(ends(&events).len() as u64, TASKS);
    println!("{TASKS} tasks of /bin/true in {taken:.2} s: {:.0} tasks/s", TASKS as f64 / taken);
}
