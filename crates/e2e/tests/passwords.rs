//! A worker that logs accounts on with their passwords, on the host's own PAM: a wrong one is tried once, a right one
//! runs jobs, and it is nowhere to be found.

use e2e::{Ad, Farm, JobId, Ldap, PASSWORD, Role, Stage, root_or_skip, servers_or_skip, typed, until};
use serde_json::Value;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

const RIGHT: &str = "k4nary-Swordfish#7";
const WRONG: &str = "k4nary-Haddock#12x";

/// A stage where ada's password is [`RIGHT`], every question to PAM leaves a line in `/mnt/tries`, and this host's
/// `launcher.conf` wants passwords.
fn stage(conf: &str) -> Stage {
    let stage = Stage::raise();
    let set_up = format!(
        "set -eu; echo 'ada:{RIGHT}' | chpasswd; echo 'qubeproxy:{RIGHT}' | chpasswd; mkdir -p /etc/stead; \
         printf '%b' '{conf}' > /etc/stead/launcher.conf; touch /mnt/tries; \
         printf '#!/bin/sh\\necho \"$PAM_USER\" >> /mnt/tries\\n' > /mnt/hook; chmod 755 /mnt/hook; \
         printf 'auth optional pam_exec.so /mnt/hook\\nauth required pam_unix.so\\naccount required pam_unix.so\\n' \
         > /etc/pam.d/stead"
    );
    let mut shell = stage.command("sh");
    // Not as an argument: what is looked for later must be in no process's.
    shell.arg("-s");
    let done = typed(shell, &set_up);
    assert!(done.ok().err().is_empty());
    stage
}

/// This host's `launcher.conf` wants passwords, and every question to PAM leaves a line before `module` answers it.
fn wants_passwords_of(stage: &Stage, module: &str) {
    let set_up = format!(
        "set -eu; mkdir -p /etc/stead; echo 'requires_password = true' > /etc/stead/launcher.conf; touch /mnt/tries; \
         printf '#!/bin/sh\\necho \"$PAM_USER\" >> /mnt/tries\\n' > /mnt/hook; chmod 755 /mnt/hook; \
         printf 'auth optional pam_exec.so /mnt/hook\\nauth required {module}\\naccount required {module}\\n' \
         > /etc/pam.d/stead"
    );
    let mut shell = stage.command("sh");
    let done = shell.args(["-c", &set_up]).output().expect("a shell");
    assert!(done.status.success(), "{done:?}");
}

/// A hundred tasks with a wrong password: one question to the directory. With the right one they run, with all groups.
#[track_caller]
fn the_directory_is_asked_once(farm: &Farm, who: &str) {
    let missing = farm.submit(who, &["--", "true"]);
    let reason = farm.ends(missing, "badlogin")["reason"].to_string();
    assert!(reason.contains(&format!("the farm has no password of {who}")), "{reason}");
    set(farm, who, who, WRONG);
    let job = farm.submit(who, &["--frames", "1-100", "--", "id", "-Gn"]);
    let reason = farm.ends(job, "badlogin")["reason"].to_string();
    assert!(reason.contains(&format!("stead password set {who}")), "{reason}");
    assert_eq!(tries(farm), [who], "of a hundred tasks in four slots");
    assert_eq!(farm.attempts(job).len(), 1);
    assert_eq!(listed(farm, who)["state"], "stale");
    set(farm, who, who, PASSWORD);
    let again = farm.stead_as(who, &["resubmit", "--json", &job.to_string()]).ok().json();
    let again = JobId(again["job"].as_u64().expect("a number"));
    farm.complete(again);
    let log = farm.log(again);
    let whole = |line: &str| ["artists", "lighting"].iter().all(|group| line.contains(group));
    assert!(log.lines().count() == 100 && log.lines().all(whole), "{log}");
}

#[test]
fn an_account_of_ldap_is_logged_on_once() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let mut ldap = Ldap::start(&stage);
    wants_passwords_of(&stage, "pam_ldap.so");
    let farm = Farm::user_mode().on(stage).with(&["--slots", "4"]).start();
    the_directory_is_asked_once(&farm, "lena");
    // An outage is nobody's wrong password.
    let held = farm.stead_as("lena", &["qb", "sub", "--status", "blocked", "id", "-un"]).ok().out();
    let job = JobId(held.trim().parse().expect("a number"));
    ldap.stop_server();
    let _ = farm.stead_as("root", &["unblock", &job.to_string()]).ok();
    let _ = farm.until_job(job, "a reason", |j| j["state"] == "pending" && j["reason"].is_string());
    assert_eq!(listed(&farm, "lena")["state"], "current");
    ldap.start_server();
    farm.complete(job);
}

#[test]
fn an_account_of_a_domain_is_logged_on_once() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let _domain = Ad::start(&stage);
    wants_passwords_of(&stage, "pam_winbind.so");
    let farm = Farm::user_mode().on(stage).with(&["--slots", "4"]).start();
    the_directory_is_asked_once(&farm, "anna");
}

/// The ticket that the log-on brings is the job's, works, and goes with the session.
#[test]
fn a_job_has_the_kerberos_ticket_of_its_log_on() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let _domain = Ad::start(&stage);
    wants_passwords_of(&stage, "pam_krb5.so minimum_uid=1000");
    let farm = Farm::user_mode().on(stage).start();
    set(&farm, "anna", "anna", PASSWORD);
    let script = "klist | grep -E '^(Default principal|Ticket cache)'; kvno -q ldap/dc1.farm.test && echo served; \
                  stat -c '%U %a' \"${KRB5CCNAME#FILE:}\"; touch /mnt/data/work/$STEAD_JOB/ready; \
                  while [ ! -e /mnt/data/work/$STEAD_JOB/go ]; do sleep 0.05; done";
    let job = farm.submit_sh("anna", &[], script);
    until("the job to have looked", || farm.path(format!("{}/ready", farm.folder(job))).exists().then_some(()));
    let tickets = || -> Vec<String> {
        let entries = std::fs::read_dir(farm.path(format!("{}/tickets", farm.data()))).expect("the tickets");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
    };
    let there = tickets();
    assert_eq!(there.len(), 1, "{there:?}");
    let path = format!("{}/tickets/{}", farm.data(), there[0]);
    for way in [format!("cat {path}"), format!("ls {}/tickets", farm.data())] {
        let _ = farm.run_as("bob", "sh", &["-c", &way]).complains(&["Permission denied"]);
    }
    let _ = farm.run_as("anna", "touch", &[&format!("{}/go", farm.folder(job))]).ok();
    farm.complete(job);
    let log = farm.log(job);
    assert!(log.contains("Default principal: anna@FARM.TEST"), "{log}");
    assert!(log.contains(&format!("Ticket cache: FILE:{path}")), "{log}");
    assert!(log.contains("served\n") && log.contains("anna 600"), "{log}");
    until("the ticket to go", || tickets().is_empty().then_some(()));
    let left = farm.run_as("root", "sh", &["-c", "ls /tmp"]).ok().out();
    assert!(!left.contains("krb5cc"), "{left}");

    // A shepherd that is killed takes its session along, and the ticket, too.
    let job = farm.submit_sh("anna", &["--retries", "0"], "sleep 600");
    until("another ticket", || (tickets().len() == 1).then_some(()));
    let _ = farm.until_job(job, "it runs", |job| job["tasks"]["running"] == 1);
    let _ = farm.kill9(Role::Shepherd);
    until("that ticket to go", || tickets().is_empty().then_some(()));
}

fn tries(farm: &Farm) -> Vec<String> {
    std::fs::read_to_string(farm.path("/mnt/tries")).expect("tries").lines().map(str::to_owned).collect()
}

#[track_caller]
fn set(farm: &Farm, who: &str, account: &str, password: &str) {
    let mut command = farm.command_as(who, "stead");
    command.args(["password", "set", account, "--password-stdin", "--data", &farm.data()]);
    let _ = typed(command, &format!("{password}\n")).ok();
}

fn listed(farm: &Farm, account: &str) -> Value {
    let all = farm.stead_as("root", &["password", "list", "--json"]).ok().json();
    all.as_array().expect("a list").iter().find(|l| l["account"] == account).cloned().unwrap_or_default()
}

#[test]
fn a_wrong_password_is_tried_once_and_then_the_right_one_runs_the_job() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().on(stage("requires_password = true\\n")).with(&["--slots", "4"]).after(TRACE).start();
    set(&farm, "ada", "ada", WRONG);
    let first = farm.submit("ada", &["--frames", "1-100", "--", "id", "-un"]);
    let second = farm.submit("ada", &["--frames", "1-100", "--", "id", "-un"]);
    for job in [first, second] {
        let over = farm.ends(job, "badlogin");
        let reason = over["reason"].as_str().expect("a reason").to_owned();
        for words in ["password of ada", "stead password set ada", &format!("stead resubmit {job}")] {
            assert!(reason.contains(words), "{reason}");
        }
    }
    assert_eq!(tries(&farm), ["ada"], "one question, of 200 tasks of two jobs in four slots");
    assert_eq!(listed(&farm, "ada")["state"], "stale");
    let attempts: Vec<Value> = [first, second].into_iter().flat_map(|job| farm.attempts(job)).collect();
    assert_eq!(attempts.len(), 1, "{attempts:#?}");
    assert_eq!(attempts[0]["state"], "badlogin");
    let _ = farm.stead_as("ada", &["retry", &first.to_string()]).exits(1).complains(&["resubmit"]);

    set(&farm, "ada", "ada", RIGHT);
    let again = farm.stead_as("ada", &["resubmit", "--json", &first.to_string()]).ok().json();
    let again = JobId(again["job"].as_u64().expect("a number"));
    farm.complete(again);
    let log = farm.log(again);
    assert_eq!((log.lines().count(), log.lines().all(|l| l.ends_with("ada"))), (100, true), "{log}");
    let known = listed(&farm, "ada");
    assert_eq!((&known["state"], &known["proved"]), (&"current".into(), &true.into()), "{known}");
    let checked = farm.stead_as("ada", &["password", "set", "--check"]).ok().out();
    assert!(checked.contains("the password of ada is right") && checked.contains("said at"), "{checked}");

    // Bob has none; root and qubeproxy are nobody's affair here.
    let bobs = farm.submit("bob", &["--", "true"]);
    let reason = farm.ends(bobs, "badlogin")["reason"].to_string();
    assert!(reason.contains("the farm has no password of bob"), "{reason}");
    let _ = farm.stead_as("bob", &["password", "delete", "ada"]).exits(3).complains(&["not yours"]);
    is_nowhere(&farm);
}

#[test]
fn a_proxy_account_with_a_bad_password_is_a_worker_in_panic() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::proxy_mode("qubeproxy").on(stage("requires_password = yes\\n")).after(TRACE).start();
    let panics = |words: &str| {
        until(words, || {
            let worker = farm.stead_as("root", &["worker", "list", "--json"]).ok().json()[0].clone();
            let reason = worker["reason"].as_str().unwrap_or_default().to_owned();
            (worker["state"] == "panic" && reason.contains(words)).then_some(())
        });
    };
    panics("the farm has no password of qubeproxy");
    let job = farm.submit("ada", &["--", "id", "-un"]);
    set(&farm, "root", "qubeproxy", WRONG);
    panics("the password of qubeproxy is not good");
    assert_eq!(tries(&farm).len(), 1);
    set(&farm, "root", "qubeproxy", RIGHT);
    farm.complete(job);
    assert_eq!(farm.log(job).trim_end().rsplit(' ').next(), Some("qubeproxy"));
    is_nowhere(&farm);
}

/// `proxy_password` as `qblogin --display` prints it, in the supervisor's qbwrk.conf.
#[test]
fn a_file_gives_the_proxy_account_its_password() {
    if !root_or_skip() {
        return;
    }
    let stage = stage("requires_password = yes\\n");
    let write = |farm: &Farm, line: &str| {
        let text = format!("[default]\nproxy_execution_mode = proxy\nproxy_account = qubeproxy\n{line}\n");
        std::fs::write(farm.path("/etc/qbwrk.conf"), text).expect("qbwrk.conf");
    };
    std::fs::write(stage.path("/etc/stead/supervisor.toml"), "qbwrk_conf = \"/etc/qbwrk.conf\"\n").expect("settings");
    std::fs::write(stage.path("/etc/qbwrk.conf"), "").expect("qbwrk.conf");
    let farm =
        Farm::user_mode().on(stage).with(&["--supervisor-conf", "/etc/stead/supervisor.toml"]).after(TRACE).start();
    let sealed = {
        let mut command = farm.command_as("root", "stead");
        command.args(["password", "hash", "qubeproxy", "--password-stdin", "--data", &farm.data()]);
        typed(command, &format!("{RIGHT}\n")).ok().out()
    };
    write(&farm, &format!("proxy_password = {}", sealed.trim()));
    let said = farm.stead_as("root", &["config", "reload"]).ok();
    assert!(!format!("{said:?}").contains("stead-sealed:"), "{said:?}");
    assert_eq!(farm.output_of("ada", &[], "id -un"), "qubeproxy\n");
    assert_eq!(tries(&farm), ["qubeproxy"]);
    is_nowhere(&farm);
}

/// All that any of the programs can say is looked at.
const TRACE: &str = "export RUST_LOG=trace\n";

/// Neither password is in any file of the farm, in any process's arguments and environment, or in its services' memory.
fn is_nowhere(farm: &Farm) {
    let forms: Vec<Vec<u8>> = [RIGHT, WRONG].iter().flat_map(|p| encoded(p)).collect();
    let holds = |bytes: &[u8]| forms.iter().any(|form| has(bytes, form));
    let mut files = 0;
    let mut folders = vec![farm.path(farm.data()), farm.path("/tmp"), farm.path("/run"), farm.path("/home")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folder").map(|e| e.expect("entry")) {
            let kind = entry.file_type().expect("type");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files += 1;
                assert!(!holds(&std::fs::read(entry.path()).unwrap_or_default()), "{}", entry.path().display());
            }
        }
    }
    assert!(files > 10, "there is something to look at");
    assert!(!holds(farm.said().as_bytes()), "what the services said");
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let cores = Path::new(pattern.trim()).parent().filter(|_| pattern.starts_with('/'));
    for core in cores.into_iter().flat_map(std::fs::read_dir).flatten().flatten() {
        assert!(!holds(&std::fs::read(core.path()).unwrap_or_default()), "{}", core.path().display());
    }
    let tree = farm.processes();
    let mut seen = 0;
    for process in tree.all() {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{}/{file}", process.pid)).unwrap_or_default();
            assert!(!holds(&bytes), "{file} of {process:?}");
        }
    }
    for role in [Role::Supervisor, Role::Launcher, Role::Worker, Role::Shepherd, Role::Session] {
        for pid in tree.of(role) {
            seen += usize::from(matches!(role, Role::Supervisor | Role::Launcher | Role::Worker));
            let found = memory_of(pid).into_iter().find(|(_, bytes)| holds(bytes));
            assert!(found.is_none(), "memory of {role:?} {pid}: {:?}", found.map(|(line, _)| line));
        }
    }
    assert!(seen >= 3, "supervisor, launcher and worker were looked at");
}

fn has(bytes: &[u8], form: &[u8]) -> bool {
    let (Some(first), mut rest) = (form.first(), bytes) else { return false };
    while let Some(at) = rest.iter().position(|b| b == first) {
        if rest[at..].starts_with(form) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// As it is, in base64 (of each alignment's inner part), hexadecimal, UTF-16 and percent signs.
fn encoded(text: &str) -> Vec<Vec<u8>> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let escaped: String = text
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    let mut forms = vec![text.as_bytes().to_vec(), hex(text.as_bytes()).into_bytes(), wide, escaped.into_bytes()];
    forms.extend((0..3).map(|skip| base64(&text.as_bytes()[skip..skip + 12])));
    forms
}

/// Of a whole number of threes.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let of = |three: &[u8]| {
        let number = three.iter().fold(0_usize, |n, b| n << 8 | usize::from(*b));
        [18, 12, 6, 0].map(|shift| DIGITS[number >> shift & 63])
    };
    bytes.chunks_exact(3).flat_map(of).collect()
}

/// Most of what is mapped was never written to.
fn without_empty_pages(bytes: &[u8]) -> Vec<u8> {
    const EMPTY: [u8; 4096] = [0; 4096];
    let mut written = Vec::new();
    for page in bytes.chunks(EMPTY.len()) {
        // What is left out can't have joined its neighbours to anything.
        if page == &EMPTY[..page.len()] { written.push(0) } else { written.extend_from_slice(page) }
    }
    written
}

/// Every writable part of a process's memory, with its line of `maps`.
fn memory_of(pid: i32) -> Vec<(String, Vec<u8>)> {
    let Ok(maps) = std::fs::read_to_string(format!("/proc/{pid}/maps")) else { return Vec::new() };
    let Ok(mut memory) = std::fs::File::open(format!("/proc/{pid}/mem")) else { return Vec::new() };
    let mut parts = Vec::new();
    for line in maps.lines().filter(|l| l.split(' ').nth(1).is_some_and(|p| p.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [from, to] = [from, to].map(|n| u64::from_str_radix(n, 16).expect("hex"));
        let mut bytes = vec![0; usize::try_from(to - from).expect("size")];
        if memory.seek(SeekFrom::Start(from)).is_ok() && memory.read_exact(&mut bytes).is_ok() {
            parts.push((line.to_owned(), without_empty_pages(&bytes)));
        }
    }
    parts
}
