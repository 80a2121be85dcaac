//! People of real directories: the host's own files, OpenLDAP, a Samba domain.

use e2e::{Ad, Directory, Farm, JobId, Ldap, Local, PASSWORD, Stage, Verdict, servers_or_skip};
use serde_json::json;
use std::os::unix::fs::MetadataExt as _;

/// Right and wrong passwords, nobody, a locked account, an expired one. Not every directory tells one that has ended
/// from one that is locked.
#[track_caller]
fn signs_in_only_whom_it_should(directory: &impl Directory, expired: Verdict) {
    let who = directory.somebody();
    assert_eq!(directory.ask(who, PASSWORD), Verdict::Yes);
    for wrong in ["wrong", "", "right-1!pw"] {
        assert_eq!(directory.ask(who, wrong), Verdict::Wrong, "{wrong:?}");
    }
    assert_eq!(directory.ask("no-such-person", PASSWORD), Verdict::Unknown);
    directory.lock(who);
    // A directory may keep to itself why it denies somebody; whoever asked is told the same of both.
    assert!(matches!(directory.ask(who, PASSWORD), Verdict::Wrong | Verdict::Locked), "locked");
    directory.unlock(who);
    assert_eq!(directory.ask(who, PASSWORD), Verdict::Yes, "unlocked again");
    directory.expire(who);
    assert_eq!(directory.ask(who, PASSWORD), expired);
}

#[test]
fn local_accounts_sign_in() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    signs_in_only_whom_it_should(&Local::start(&stage), Verdict::Expired);
}

#[test]
fn ldap_accounts_sign_in() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let mut ldap = Ldap::start(&stage);
    signs_in_only_whom_it_should(&ldap, Verdict::Expired);
    ldap.stop_server();
    assert_eq!(ldap.ask("otto", PASSWORD), Verdict::DirectoryDown);
    ldap.stop_client();
    assert_eq!(ldap.ask("otto", PASSWORD), Verdict::DirectoryDown);
}

#[test]
fn accounts_of_a_domain_sign_in() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let mut domain = Ad::start(&stage);
    signs_in_only_whom_it_should(&domain, Verdict::Locked);
    domain.stop_controller();
    assert_eq!(domain.ask("otto", PASSWORD), Verdict::DirectoryDown);
}

/// The ids and groups that a job had, read where the kernel keeps them, and what it says the account is.
const STATUS: &str = "grep -E '^(Uid|Gid|Groups):' /proc/self/status | tr -s '\\t ' ' '; id -Gn; echo $HOME";

/// A folder of root's that only one group may use.
#[track_caller]
fn folder_for(farm: &Farm, group: &str, path: &str) {
    let made = "mkdir \"$2\"; chown \"root:$1\" \"$2\"; chmod 2770 \"$2\"";
    let mut command = farm.stage().command("sh");
    let output = command.args(["-euc", made, "sh", group, path]).output().expect("a shell");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_job_has_the_whole_group_list_of_its_ldap_account() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let ldap = Ldap::start(&stage);
    let farm = Farm::user_mode().on(stage).start();
    folder_for(&farm, "lighting", "/mnt/lighting");
    let printed = farm.output_of("lena", &[], &format!("{STATUS}; touch /mnt/lighting/lena"));
    let lines: Vec<&str> = printed.lines().map(str::trim).collect();
    assert_eq!(lines[0], "Uid: 21001 21001 21001 21001");
    assert_eq!(lines[1], "Gid: 22000 22000 22000 22000");
    assert_eq!(lines[2], "Groups: 22000 22001 22002");
    assert_eq!(lines[3..], ["artists lighting show-x", "/home/lena"]);
    let made = farm.path("/mnt/lighting/lena").metadata().expect("the file");
    assert_eq!((made.uid(), made.gid()), (21_001, 22_001));
    let job = farm.submit_sh("otto", &[], "touch /mnt/lighting/otto");
    let _ = farm.ends(job, "failed");
    assert_eq!(
        farm.attempts(job)[0]["run_as"],
        json!({"name": "otto", "uid": 21_002, "gid": 22_000, "groups": [22_000, 22_002]})
    );

    // An account that the directory does not let in any more.
    ldap.expire("otto");
    let ended = farm.ends(farm.submit_sh("otto", &[], "true"), "badlogin");
    assert!(ended["reason"].as_str().is_some_and(|r| r.contains("expired")), "{ended:#}");
}

#[test]
fn a_job_has_the_whole_group_list_of_its_domain_account() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let _domain = Ad::start(&stage);
    let farm = Farm::user_mode().on(stage).start();
    folder_for(&farm, "lighting", "/mnt/lighting");
    let printed = farm.output_of("anna", &[], &format!("{STATUS}; touch /mnt/lighting/anna"));
    let lines: Vec<&str> = printed.lines().map(str::trim).collect();
    // The relative id of a domain's users is 513 everywhere.
    assert!(lines[0].starts_with("Uid: 101") && lines[1].starts_with("Gid: 100513 100513"), "{printed}");
    // Those three, and the one that winbind gives every account of its own.
    assert_eq!(lines[2].split(' ').skip(1).count(), 4, "{printed}");
    for group in ["artists", "lighting", "domain users"] {
        assert!(lines[3].contains(group), "{group} in {printed}");
    }
    assert_eq!(lines[4], "/home/anna");
    let lightings = farm.path("/mnt/lighting").metadata().expect("the folder").gid();
    assert_eq!(farm.path("/mnt/lighting/anna").metadata().expect("the file").gid(), lightings);
    let _ = farm.ends(farm.submit_sh("otto", &[], "touch /mnt/lighting/otto"), "failed");
}

/// "qubeproxy" may be an account of the network: all jobs are its, with its groups.
#[test]
fn the_proxy_account_may_be_of_the_network() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let mut ldap = Ldap::start(&stage);
    let farm = Farm::proxy_mode("lena").on(stage).start();
    assert_eq!(farm.output_of("bob", &[], "id -un; id -Gn"), "lena\nartists lighting show-x\n");
    // The account is the directory's to say: while nobody answers, nothing runs, and then it goes on.
    ldap.stop_server();
    let job = farm.submit_sh("bob", &[], "id -u");
    let _ = farm.until_job(job, "a reason", |j| e2e::state(j) == "pending" && j["reason"].is_string());
    ldap.start_server();
    farm.complete(job);
    assert_eq!(farm.log(job), "21001\n");
}

/// Neither the host's files nor a directory we know: whatever the name service has is an account.
#[test]
fn accounts_of_another_name_service_run_jobs() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let write = |path: &str, text: &str| std::fs::write(stage.path(path), text).expect("a file of accounts");
    std::fs::create_dir_all(stage.path("/var/lib/extrausers")).expect("a folder");
    write("/var/lib/extrausers/passwd", "nina:x:23001:23000::/home/nina:/bin/sh\n");
    write("/var/lib/extrausers/group", "comp:x:23000:\nnight:x:23001:nina,bob\n");
    write("/var/lib/extrausers/shadow", "nina:*:19000:0:99999:7:::\n");
    write("/etc/nsswitch.conf", "passwd: files extrausers\ngroup: files extrausers\nshadow: files extrausers\n");
    let home = stage.path("/home/nina");
    std::fs::create_dir(&home).expect("her home");
    std::os::unix::fs::chown(&home, Some(23_001), Some(23_000)).expect("hers");
    let farm = Farm::user_mode().on(stage).start();
    let printed = farm.output_of("nina", &[], STATUS);
    let lines: Vec<&str> = printed.lines().map(str::trim).collect();
    assert_eq!(lines[..2], ["Uid: 23001 23001 23001 23001", "Gid: 23000 23000 23000 23000"]);
    assert_eq!(lines[2..], ["Groups: 23000 23001", "comp night", "/home/nina"]);
    // And groups of both, for an account of the host's own files.
    let bobs = farm.output_of("bob", &[], "id -Gn");
    assert!(bobs.contains("film") && bobs.contains("night"), "{bobs}");
    // A lock in its shadow file counts.
    std::fs::write(farm.path("/var/lib/extrausers/shadow"), "nina:!:19000:0:99999:7::1:\n").expect("shadow");
    let _ = farm.ends(farm.submit_sh("nina", &[], "true"), "badlogin");
    drop(farm);
    let stage = Stage::raise_with_servers();
    std::fs::create_dir_all(stage.path("/var/lib/extrausers")).expect("a folder");
    for (file, text) in [
        ("passwd", "nina:x:23001:23000::/nonexistent:/usr/sbin/nologin\n"),
        ("group", "comp:x:23000:\n"),
        ("shadow", "nina:*:19000:0:99999:7:::\n"),
    ] {
        std::fs::write(stage.path(format!("/var/lib/extrausers/{file}")), text).expect("a file of accounts");
    }
    let services = "passwd: files extrausers\ngroup: files extrausers\nshadow: files extrausers\n";
    std::fs::write(stage.path("/etc/nsswitch.conf"), services).expect("nsswitch.conf");
    let farm = Farm::proxy_mode("nina").on(stage).start();
    assert_eq!(farm.output_of("ada", &[], "id -un"), "nina\n");
}

/// A farm with one slot and a job in it that ends when the test says so.
#[track_caller]
fn busy_farm(stage: Stage) -> (Farm, JobId) {
    let farm = Farm::user_mode().with(&["--slots", "1"]).on(stage).start();
    let first = farm.submit_sh("bob", &[], "until test -e /mnt/shared/go; do sleep 0.05; done");
    let _ = farm.until_job(first, "running", |j| e2e::state(j) == "running");
    (farm, first)
}

#[track_caller]
fn go(farm: &Farm) {
    std::fs::write(farm.path("/mnt/shared/go"), "").expect("a file");
}

/// The job waits for the directory, and nothing was counted against it.
#[track_caller]
fn waits_for_the_directory(farm: &Farm, job: JobId) {
    // While a launch asks, the task counts as running.
    let told = |j: &serde_json::Value| j["reason"].as_str().is_some_and(|r| r.contains("directory does not answer"));
    let waits = |j: &serde_json::Value| e2e::state(j) == "pending" && told(j);
    let _ = farm.until_job(job, "a word about the directory", waits);
    let attempts = farm.attempts(job);
    assert!(attempts.iter().all(|a| e2e::state(a) == "launching"), "none was used up: {attempts:#?}");
}

#[test]
fn a_job_waits_while_its_ldap_server_is_down() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let mut ldap = Ldap::start(&stage);
    let (farm, _) = busy_farm(stage);
    let job = farm.submit_sh("lena", &["--retries", "0"], "id -u; id -G");
    ldap.stop_server();
    go(&farm);
    waits_for_the_directory(&farm, job);
    ldap.start_server();
    farm.complete(job);
    assert_eq!(farm.log(job), "21001\n22000 22001 22002\n");
    assert_eq!(farm.attempts(job).len(), 1);
}

#[test]
fn a_job_waits_while_its_host_can_not_ask_the_directory() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let mut ldap = Ldap::start(&stage);
    let (farm, _) = busy_farm(stage);
    let lenas = farm.submit_sh("lena", &["--retries", "0"], "id -u");
    // Her account is in the host's own files; which groups of the directory she is in, nobody knows.
    let adas = farm.submit_sh("ada", &["--retries", "0"], "id -u");
    ldap.stop_client();
    go(&farm);
    waits_for_the_directory(&farm, lenas);
    waits_for_the_directory(&farm, adas);
    ldap.start_client();
    farm.complete(lenas);
    farm.complete(adas);
    assert_eq!((farm.log(lenas), farm.log(adas)), ("21001\n".to_owned(), "1501\n".to_owned()));
}

/// Deleted is not down: the directory answers, and its answer counts.
#[test]
fn an_account_that_was_deleted_is_not_waited_for() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let ldap = Ldap::start(&stage);
    let (farm, _) = busy_farm(stage);
    let job = farm.submit_sh("lena", &[], "true");
    ldap.delete("lena");
    go(&farm);
    let refused = farm.ends(job, "badlogin");
    assert!(refused["reason"].as_str().is_some_and(|r| r.contains("account lena")), "{refused:#}");
}

/// Whoever asks by the socket during an outage is told of the outage, and not that nobody knows them; so is whoever signs
/// in, and an administrator who looks for the cause.
#[test]
fn an_outage_of_the_directory_is_called_that() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let mut ldap = Ldap::start(&stage);
    // The other way round than usual: the files' "not found" is the last word, and hides what is down.
    std::fs::write(
        stage.path("/etc/nsswitch.conf"),
        "passwd: ldap files\ngroup: ldap files\nshadow: files\nhosts: files\n",
    )
    .expect("nsswitch.conf");
    let farm = Farm::user_mode().on(stage).start();
    let submit = ["submit", "--", "true"];
    let _ = farm.stead_as("#21001", &submit).ok();
    let doctor = || farm.stead_as("root", &["doctor"]).out();
    assert!(doctor().contains("every service of accounts and groups"), "{}", doctor());
    ldap.stop_client();
    let told = e2e::until("the supervisor asks anew", || {
        let answer = farm.stead_as("#21001", &submit);
        (answer.code != Some(0)).then_some(answer)
    });
    let _ = told.complains(&["account directory does not answer"]);
    // Nobody's, while it is not known whose.
    let _ = farm.stead_as("#21999", &submit).complains(&["account directory does not answer"]);
    let mut login = farm.command_as("root", "stead");
    login.args(["login", &farm.url, "--user", "lena", "--password-stdin"]);
    let _ = e2e::typed(login, PASSWORD).complains(&["directory of accounts can't be reached"]);
    assert!(doctor().contains("does not answer (service ldap of passwd"), "{}", doctor());
    // Those of the host's own files go on.
    let _ = farm.stead_as("ada", &["whoami"]).ok();
    ldap.start_client();
    e2e::until("she is known again", || (farm.stead_as("#21001", &submit).code == Some(0)).then_some(()));
    let told = e2e::until("nobody is told that nobody knows them", || {
        let answer = farm.stead_as("#21999", &submit);
        (answer.code == Some(3)).then_some(answer)
    });
    let _ = told.complains(&["no entry"]);
}

/// Whoever is in the group may act, by the directory's word and by nothing else: while it hangs, nobody knows, and what
/// isn't known is no right. Nobody else notices.
#[test]
fn a_grant_to_a_group_is_as_good_as_the_directorys_word() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let ldap = Ldap::start(&stage);
    let farm = Farm::user_mode().on(stage).start();
    let _ = farm.stead_as("root", &["users", "add", "qubeproxy", "--type", "proxy"]).ok();
    let _ = farm.stead_as("root", &["grants", "add", "group:lighting", "qubeproxy"]).ok();
    let submit = ["submit", "--as", "qubeproxy", "--json", "--", "true"];
    // Becomes somebody without asking who that is, which would wait for the directory itself.
    let stead = |uid: &str, words: &[&str]| {
        let mut command = farm.stage().command("nsenter");
        command.args(["--setuid", uid, "--setgid", uid, "--", "stead"]).args(words);
        command.env("STEAD_URL", format!("unix:{}/run/socket", farm.data()));
        e2e::typed(command, "")
    };
    let lenas = || stead("21001", &submit);
    let _ = e2e::until("lena acts as it", || Some(lenas()).filter(|answer| answer.code == Some(0)));
    let _ = stead("21002", &submit).exits(3);
    // As herself she is known to the session, whatever the directory does.
    let login = |name: &str, password: &str| {
        let mut login = farm.stage().command("nsenter");
        login.args(["--setuid", "1502", "--setgid", "1502", "--", "stead", "login", &farm.url, "--user", name]);
        login.arg("--password-stdin").env("HOME", "/home/bob");
        e2e::typed(login, password)
    };

    ldap.freeze_server();
    let frozen = std::time::Instant::now();
    let mut refused = 0;
    while frozen.elapsed() < std::time::Duration::from_secs(12) {
        let began = std::time::Instant::now();
        let _ = stead("1501", &["whoami"]).ok();
        let _ = stead("1501", &["submit", "--", "true"]).ok();
        assert!(began.elapsed() < std::time::Duration::from_secs(8), "others wait for it: {:?}", began.elapsed());
        let answer = lenas();
        // What the directory said a moment ago is believed for that moment.
        if answer.code != Some(0) {
            let _ = answer.complains(&["directory"]);
            refused += 1;
        }
    }
    assert!(refused > 0, "nobody knew any more");
    // No wrong password, however often.
    for _ in 0..2 {
        // Whether the host knows of the outage, or only waited for too long, is a matter of who asked first.
        let answer = login("lena", PASSWORD).exits(1);
        let is_told = ["rule: directory", "rule: password_unavailable"].iter().any(|rule| answer.err().contains(rule));
        assert!(is_told, "{answer:?}");
    }

    ldap.thaw_server();
    e2e::until("she acts as it again", || (lenas().code == Some(0)).then_some(()));
    // Nothing was counted against her.
    let _ = login("lena", PASSWORD).ok();
    ldap.leave("lena", "lighting");
    let told = e2e::until("she is in the group no more", || Some(lenas()).filter(|answer| answer.code == Some(3)));
    let _ = told.complains(&["qubeproxy"]);
    // All that was taken runs, or ran, as the one whom it was taken for.
    let jobs = farm.stead_as("root", &["jobs", "--json", "--limit", "500"]).ok().json();
    let jobs = jobs.as_array().expect("jobs").clone();
    assert!(jobs.len() > 3, "{jobs:?}");
    for job in jobs {
        let who = (job["login_user"].as_str().expect("a name"), job["user"].as_str().expect("a name"));
        assert!([("ada", "ada"), ("lena", "qubeproxy")].contains(&who), "{job}");
    }
}

/// A member of a domain whose controller is gone says "not found" of everybody whom it doesn't remember.
#[test]
fn a_job_waits_while_the_controller_of_its_domain_is_down() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let mut domain = Ad::start(&stage);
    let (farm, _) = busy_farm(stage);
    let job = farm.submit_sh("root", &["--user", "mona", "--retries", "0"], "id -un");
    domain.stop_controller();
    assert!(!domain.knows("mona"), "somebody asked about her before");
    go(&farm);
    waits_for_the_directory(&farm, job);
    let mut login = farm.command_as("root", "stead");
    login.args(["login", &farm.url, "--user", "mona", "--password-stdin"]);
    let _ = e2e::typed(login, PASSWORD).complains(&["directory of accounts can't be reached"]);
    let doctor = farm.stead_as("root", &["doctor"]).out();
    assert!(doctor.contains("winbind reaches no controller of its domain"), "{doctor}");
    domain.start_controller();
    farm.complete(job);
    assert_eq!(farm.log(job), "mona\n");
    assert_eq!(farm.attempts(job).len(), 1);
}

/// Hosts let PAM's modules take turns, and the last one denies: so does one whose directory is down, of a right password.
#[test]
fn a_denial_of_a_shared_stack_is_no_wrong_password_while_the_domain_is_down() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let mut domain = Ad::start(&stage);
    domain.share_the_stack();
    assert_eq!(domain.ask("anna", PASSWORD), Verdict::Yes);
    assert_eq!(domain.ask("anna", "wrong"), Verdict::Wrong);
    domain.stop_controller();
    assert!(domain.knows("anna"), "she is remembered");
    assert_eq!(domain.ask("anna", PASSWORD), Verdict::DirectoryDown);
    // Of the host's own people the host's own files know: she has no password.
    assert_eq!(domain.ask("ada", "wrong"), Verdict::Locked);
}
