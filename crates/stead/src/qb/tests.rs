//! What is typed, and what becomes of it.

use super::*;

fn split(line: &str) -> Vec<String> {
    line.split_whitespace().map(Into::into).collect()
}

fn environment() -> impl Iterator<Item = (String, String)> {
    [
        ("MAYA_VERSION", "2024"),
        ("LD_PRELOAD", "/tmp/evil.so"),
        ("LD_LIBRARY_PATH", "/tmp"),
        ("HOME", "/home/eve"),
        ("USER", "eve"),
        ("LOGNAME", "eve"),
        ("DISPLAY", ":0"),
        ("XDG_RUNTIME_DIR", "/run/user/7"),
        ("SSH_AUTH_SOCK", "/tmp/agent"),
        ("STEAD_URL", "unix:/x"),
        ("BASH_FUNC_ls%%", "() { evil; }"),
        ("AWS_SECRET_ACCESS_KEY", "canary"),
        ("GITHUB_TOKEN", "canary"),
    ]
    .map(|(n, v)| (n.to_owned(), v.to_owned()))
    .into_iter()
}

fn qbsub(words: &[&str]) -> Result<(Vec<String>, Vec<String>), Failure> {
    let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    sub::translate(&words, &mut environment())
}

#[test]
fn a_submission_in_steads_words() {
    for (qube, stead) in [
        ("render a.mb", "submit -- render a.mb"),
        ("--name n --priority 1 -user ada render", "submit --name n --user ada --priority=9998 -- render"),
        ("-priority 9999 render", "submit --priority=0 -- render"),
        ("--range 1-200 render -s QB_FRAME_NUMBER", "submit --frames=1-200 -- render -s {frame}"),
        ("--range 1-9 --padding 4 render QB_FRAME_NUMBER.exr", "submit --frames=1-9 -- render {frame:04}.exr"),
        (
            "--range 1-100 --chunk 10 render QB_FRAME_START QB_FRAME_END QB_FRAME_STEP",
            "submit --frames=1-100 --chunk 10 -- render {start} {end} {step}",
        ),
        ("--range 1-100 --partitions 3 r QB_FRAME_RANGE", "submit --frames=1-100 --chunk 34 -- r {start}-{end}x{step}"),
        ("--range 1-9 r QB_FRAME_RANGE QB_FRAME_STEP", "submit --frames=1-9 -- r {frame} 1"),
        ("--range 1-10x3,20 --reverse r QB_FRAME_NUMBER", "submit --frames=20,10-1x3 -- r {frame}"),
        ("--range -5-5 r {} QB_FRAME_NUMBER", "submit --frames=-5-5 -- r {{}} {frame}"),
        ("--cpus 3 r {a}", "submit --frames=0-2 -- r {{a}}"),
        ("--cpus 1 r {a}", "submit -- r {a}"),
        ("--status blocked r", "submit --blocked -- r"),
        ("--retrywork 2 --retrysubjob 3 r", "submit --retries 3 -- r"),
        ("--timelimit 100 --agendatimelimit 60 r", "submit --time-limit 60 -- r"),
        ("--timelimit 0 r", "submit -- r"),
        ("--cluster /film --groups a,b r", "submit --requires cluster:/film,group:a|group:b -- r"),
        ("--cluster / r", "submit -- r"),
        ("--hosts n1,n2 --omithosts n3 r", "submit --requires worker=n1|n2,!host.name=n3 -- r"),
        ("--omitgroups a,b r", "submit --requires !group:a,!group:b -- r"),
        ("--requirements host.screen --groups a r", "submit --requires group:a,host.screen=1 -- r"),
        ("--reservations host.processors=2,host.memory=512 r", "submit --mem 512M --cpus 2 -- r"),
        ("--processors 4 r", "submit --cpus 4 -- r"),
        ("--dependency link-complete-job-4,link-done-job-5 r", "submit --after 4 --after-any 5 -- r"),
        ("--waitfor 7 r", "submit --after 7 -- r"),
        ("--env A=1,2,B=3 --env C=4 r", "submit --env A=1,2 --env B=3 --env C=4 -- r"),
        ("--flags export_environment r", "submit --env MAYA_VERSION=2024 -- r"),
        ("--flags 16 --env MAYA_VERSION=1 r", "submit --env MAYA_VERSION=1 -- r"),
        ("--data /d --as film r", "submit --data /d --as film -- r"),
    ] {
        let words = split(qube);
        let (line, _) = sub::translate(&words, &mut environment()).unwrap_or_else(|e| panic!("{qube}: {e}"));
        assert_eq!(line.join(" "), stead, "{qube}");
        assert!(matches!(parsed(&line), Ok(Command::Submit(_))), "{qube}");
    }
}

#[test]
fn one_word_with_a_shells_characters_is_a_line_for_the_shell() {
    let of = |words: &[&str]| qbsub(words).expect("a job").0;
    assert_eq!(of(&["sleep 10; ls"]), ["submit", "--", "/bin/sh", "-c", "sleep 10; ls"]);
    assert_eq!(of(&["echo", "a;b"]), ["submit", "--", "echo", "a;b"]);
    assert_eq!(of(&["--shell", "/bin/bash", "echo", "$X"]), ["submit", "--", "/bin/bash", "-c", "echo $X"]);
}

/// `export_environment` (seeds' trap 26): neither who somebody is, nor what is loaded into programs, nor their secrets.
#[test]
fn an_exported_environment_names_nobody_and_loads_nothing() {
    let (line, notes) = qbsub(&["--flags", "export_environment", "r"]).expect("a job");
    let all = line.join(" ");
    for never in ["LD_", "HOME", "USER", "LOGNAME", "DISPLAY", "XDG_", "SSH_", "STEAD_", "BASH_FUNC", "canary"] {
        assert!(!all.contains(never), "{never} in {all}");
    }
    assert_eq!(notes, ["export_environment leaves out what may be secret: AWS_SECRET_ACCESS_KEY, GITHUB_TOKEN"]);
}

#[test]
fn what_has_no_meaning_here_is_refused_by_its_name() {
    for (qube, part) in [
        ("--mail r", "--mail isn't supported"),
        ("--domain STUDIO r", "--domain isn't supported"),
        ("--flags elite r", "--flags elite isn't supported"),
        ("--flags 512 r", "--flags elite isn't supported"),
        ("--flags 64 r", "the bits 64 are no flags"),
        ("--flags nonsense r", "there is no flag nonsense"),
        ("--account film r", "--account isn't supported"),
        ("--cluster /a+ r", "--cluster /a+ isn't supported"),
        ("--reservations global.maya=1 r", "--reservations global.maya=1 isn't supported"),
        ("--reservations host.processors=1+ r", "--reservations host.processors=1+ isn't supported"),
        ("--dependency link-failed-job-3 r", "--dependency link-failed-job-3 isn't supported"),
        ("--status running r", "submitted pending or blocked"),
        ("--chunk 3 r", "there is no --range"),
        ("r QB_FRAME_NUMBER", "there is no --range"),
        ("--range 1-9 --chunk 3 r QB_FRAME_NUMBER", "can't stand for the frames of a chunk"),
        ("--range 1-9 --chunk 3 --partitions 2 r", "both say"),
        ("--range 1- r QB_FRAME_NUMBER", "--range"),
        ("--priority 0 r", "1 is the highest"),
        ("--priority high r", "is no number"),
        ("--env HOME=/root r", "HOME says who somebody is"),
        ("--env A r", "write NAME=VALUE"),
        ("--requirements job.id r", "job.id can't be translated"),
        ("--cpus 0 r", "at least one instance"),
        ("--name n", "there is no command"),
        ("--preflights relative r", "no absolute path"),
        ("--nome n r", "there is no option --nome"),
    ] {
        let failure = sub::translate(&split(qube), &mut environment()).expect_err(qube);
        assert_eq!(failure.exit(), 2, "{qube}");
        assert!(failure.to_string().contains(part), "{qube}: {failure}");
    }
    let (line, notes) = qbsub(&["--lenient", "--mail", "--flags", "elite", "r"]).expect("lenient");
    assert_eq!((line.join(" ").as_str(), notes.len()), ("submit -- r", 2));
    // To leave these out would run something else than was meant.
    for never in ["--lenient --domain X r", "--lenient --dependency x r", "--lenient --requirements job.id r"] {
        assert!(sub::translate(&split(never), &mut environment()).is_err(), "{never}");
    }
}

#[test]
fn every_option_is_there_once() {
    let mut names: Vec<&str> = sub::TABLE.iter().map(|k| k.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn flight_checks_stand_around_the_command() {
    let line = qbsub(&["--preflights", "/f/a,/f/b's", "--postflights", "/f/z", "render", "x"]).expect("a job").0;
    assert_eq!(line[..4], ["submit", "--", "/bin/sh", "-c"]);
    assert_eq!(line[5..], ["qbsub", "render", "x"]);
    let script = &line[4];
    let at = |part: &str| script.find(part).unwrap_or_else(|| panic!("{part} in {script}"));
    assert!(
        at("before '/f/a'") < at(r"before '/f/b'\''s'")
            && at(r"b'\''s'") < at("\"$@\"; code")
            && at("code=$?;") < at("after '/f/z'")
    );
    let around =
        qbsub(&["--range", "1-9", "--preflights", "/f/a,/f/b", "--postflights", "/f/z", "r", "QB_FRAME_NUMBER"]);
    let around = around.expect("a job").0;
    assert_eq!(around[around.len() - 2..], ["r", "{frame}"], "the command itself is as it was");
    let line = |option: &str| around.iter().find_map(|word| word.strip_prefix(option)).expect("a line");
    assert!(line("--session-enter=").find("'/f/a' ||") < line("--session-enter=").find("'/f/b' ||"));
    assert!(line("--session-exit=").contains("'/f/z' ||"));
    let Ok(Command::Submit(_)) = parsed(&around) else { panic!("{around:?}") };
    let framed = qbsub(&["--range", "1-9", "--padding", "3", "--agenda_preflights", "/f/a", "r", "QB_FRAME_NUMBER"]);
    let framed = framed.expect("a job").0;
    assert!(framed[5].contains("_NUMBER\"='{frame:03}'") && framed[5].contains("before() {{"), "{}", framed[5]);
    let Ok(Command::Submit(_)) = parsed(&framed) else { panic!("{framed:?}") };
}

#[test]
fn the_name_a_program_is_called_by_says_what_it_is() {
    let of = |line: &str| {
        let words = renamed(line.split(' ').map(Into::into).collect());
        words.iter().map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of("/usr/local/bin/qbsub --name a b"), "stead qb qbsub --name a b");
    assert_eq!(of("qbmodify 4"), "stead qb qbmodify 4");
    assert_eq!(of("/usr/bin/stead jobs"), "/usr/bin/stead jobs");
    assert_eq!(of("qbert"), "qbert");
}

#[test]
fn commands_that_are_not_here_say_what_is() {
    for (command, part) in
        [("migrate", "qbmigrate isn't supported: qbinterrupt ends"), ("nothing", "there is no command qbnothing")]
    {
        let failure = run(&[command.into()]).expect_err("not here");
        assert_eq!(failure.exit(), 2);
        assert!(failure.to_string().contains(part), "{failure}");
    }
    for name in NAMES {
        assert!(!MISSING.iter().any(|(n, _)| *n == name), "{name}");
    }
}

/// Every statement of Qube!'s documents has a row, and every test that a row names is there.
#[test]
fn the_tests_that_the_manual_names_are_there() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manual = std::fs::read_to_string(repository.join("docs/compat-qube.md")).expect("the manual");
    let mut sources = String::new();
    read_sources(&repository.join("crates"), &mut sources);
    let mut numbers = Vec::new();
    for row in manual.lines() {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [number, statement, tests, verdict] = cells[..] else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        numbers.push(number);
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!verdict.is_empty(), "{number}: {statement} has no verdict");
        assert!(
            !named.is_empty() || verdict.contains("*missing*"),
            "{number}: {statement} has no test and isn't missing"
        );
        for test in named {
            assert!(sources.contains(&format!("fn {test}(")), "{number}: there is no test {test}");
        }
    }
    assert_eq!(numbers, (1..=56).collect::<Vec<_>>());
}

fn read_sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            read_sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push_str(&std::fs::read_to_string(&path).expect("a source"));
        }
    }
}
