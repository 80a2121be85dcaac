//! What lies in a job's folder, had through a session under the job's account: by whom, what not, and what becomes of it
//! when something dies in the middle.

use e2e::{Account, Answer, Farm, JobId, Role, Stage, accounts, programs_or_skip, root_or_skip, until};
use serde_json::{Value, json};

const RENDER: u32 = 1520;

fn start() -> Farm {
    let mut all = accounts();
    let bob = all.iter().find(|a| a.name == "bob").cloned().expect("bob");
    let home = "/home/render".to_owned();
    all.push(Account { name: "render".into(), uid: RENDER, gid: RENDER, home, groups: Vec::new(), ..bob });
    let farm = Farm::user_mode().on(Stage::raise_with(&all)).with(&["--slots", "1"]).start();
    let _ = farm.stead_as("root", &["users", "add", "render", "--type", "proxy"]).ok();
    farm
}

fn files(farm: &Farm, who: &str, job: JobId, more: &[&str]) -> Answer {
    farm.stead_as(who, &[&["files", &job.to_string()], more].concat())
}

fn names(answer: &Answer) -> Vec<String> {
    let name = |e: &Value| e["name"].as_str().expect("a name").to_owned();
    answer.clone().ok().json()["entries"].as_array().expect("entries").iter().map(name).collect()
}

/// Warrants for file work, as the audit has them: who, as whom, by which account.
fn read_warrants(farm: &Farm) -> Vec<(String, String, String)> {
    let records = farm.stead_as("root", &["audit", "search", "--act", "warrant", "--json"]).ok().out();
    let of = |line: &str| {
        let r: Value = serde_json::from_str(line).expect("a record");
        let word = |key: &str| r[key].as_str().unwrap_or_default().to_owned();
        let is = r["details"]["purpose"] == "read";
        is.then(|| (word("login_user"), word("user"), word("run_as")))
    };
    records.lines().filter_map(of).collect()
}

fn sessions_of(farm: &Farm) -> usize {
    farm.processes().of(Role::Session).len()
}

#[test]
fn files_are_had_as_the_jobs_user_and_as_nobody_else() {
    if !root_or_skip() {
        return;
    }
    let farm = start();
    let script = "umask 077; echo mine >note.txt; mkdir out; printf frame >out/0001.png; ln -s /etc/shadow shadow; \
                  ln -s /home/bob/diary diary; mkfifo pipe; seq 200000 >long";
    let _ = farm.run_as("bob", "sh", &["-c", "umask 077; echo secret >/home/bob/diary"]).ok();
    let job = farm.submit_sh("ada", &[], script);
    farm.complete(job);

    let listed = files(&farm, "ada", job, &["--json"]);
    assert_eq!(names(&listed), [".stead", "diary", "long", "note.txt", "out", "pipe", "shadow"]);
    let kinds: Vec<Value> =
        listed.ok().json()["entries"].as_array().expect("entries").iter().map(|e| e["kind"].clone()).collect();
    assert_eq!(json!(kinds), json!(["folder", "link", "file", "file", "folder", "other", "link"]));
    assert_eq!(names(&files(&farm, "ada", job, &["out", "--json"])), ["0001.png"]);
    assert_eq!(files(&farm, "ada", job, &["note.txt", "-o", "-"]).ok().out(), "mine\n");
    let long: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(files(&farm, "ada", job, &["long", "-o", "-"]).ok().out() == long);
    let _ = files(&farm, "ada", job, &["out/0001.png", "-o", "/home/ada"]).ok();
    assert_eq!(std::fs::read(farm.path("/home/ada/0001.png")).expect("taken"), b"frame");
    let _ = files(&farm, "ada", job, &["note.txt", "-o", "/home/ada/0001.png"]).complains(&["exists"]);

    // Not by a link, not by a path, not by a pipe that nobody writes to.
    for link in ["shadow", "diary"] {
        let _ = files(&farm, "ada", job, &[link, "-o", "-"]).complains(&["leads out of the folder"]);
    }
    let _ = files(&farm, "ada", job, &["../1/note.txt", "-o", "-"]).complains(&["not one below the folder"]);
    let _ = files(&farm, "ada", job, &["pipe", "-o", "-"]).complains(&["neither a file nor a folder"]);
    let _ = files(&farm, "ada", job, &["nothing", "-o", "-"]).complains(&["no such file"]);
    let _ = files(&farm, "ada", job, &["out", "-o", "-"]).complains(&["is a folder"]);

    // Whoever may see the job is not whoever has its files.
    let _ = files(&farm, "root", job, &["note.txt", "-o", "-"]).complains(&["act as ada"]);
    let _ = files(&farm, "bob", job, &[]).complains(&["no job"]);
    assert_eq!(read_warrants(&farm), [("ada".to_owned(), "ada".to_owned(), "ada".to_owned())], "one session for all");
}

#[test]
fn files_of_anothers_name_are_had_for_as_long_as_the_right_lasts() {
    if !root_or_skip() {
        return;
    }
    let farm = start();
    let _ = farm.stead_as("root", &["grants", "add", "ada", "render"]).ok();
    let job = farm.submit_sh("ada", &["--as", "render"], "umask 077; id -un >who");
    farm.complete(job);
    // The submitter, and whoever acts as the user.
    assert_eq!(files(&farm, "ada", job, &["who", "-o", "-"]).ok().out(), "render\n");
    assert_eq!(files(&farm, "ada", job, &["who", "-o", "-", "--as", "render"]).ok().out(), "render\n");
    let _ = farm.stead_as("root", &["grants", "add", "bob", "render"]).ok();
    assert_eq!(files(&farm, "bob", job, &["who", "-o", "-", "--as", "render"]).ok().out(), "render\n");
    let own = farm.submit_sh("ada", &[], "echo own >own");
    farm.complete(own);
    let _ = files(&farm, "bob", own, &["own", "-o", "-", "--as", "render"]).complains(&["no job"]);
    let _ = farm.stead_as("root", &["grants", "revoke", "1"]).ok();
    let _ = files(&farm, "ada", job, &["who", "-o", "-"]).complains(&["may not act as render"]);
    let mut warrants = read_warrants(&farm);
    warrants.sort();
    let of = |who: &str| (who.to_owned(), "render".to_owned(), "render".to_owned());
    warrants.dedup();
    assert_eq!(warrants, [of("ada"), of("bob")]);
    // What ada's session had open ends, and nobody waits for it.
    let _ = farm.stead_as("root", &["grants", "revoke", "2"]).ok();
    until("all sessions to end", || (sessions_of(&farm) == 0).then_some(()));
}

#[test]
fn it_takes_no_slot_and_survives_what_dies_in_the_middle() {
    if !root_or_skip() || !programs_or_skip(&["timeout"]) {
        return;
    }
    let mut farm = start();
    let job = farm.submit_sh("ada", &[], "echo here >note");
    farm.complete(job);
    let note = |farm: &Farm| files(farm, "ada", job, &["note", "-o", "-"]).ok().out();
    assert_eq!(note(&farm), "here\n");
    // The only slot is free for others meanwhile.
    assert_eq!(farm.output_of("bob", &[], "id -un"), "bob\n");
    assert_eq!(sessions_of(&farm), 1, "it is kept for another request");

    assert!(farm.kill9(Role::Session) >= 1);
    assert_eq!(note(&farm), "here\n");
    for role in [Role::Worker, Role::Launcher, Role::Supervisor] {
        assert_eq!(note(&farm), "here\n", "before {role:?} dies");
        farm.kill9(role);
        farm.heal();
        let again = until("the file again", || {
            let answer = files(&farm, "ada", job, &["note", "-o", "-"]);
            (answer.code == Some(0)).then(|| answer.out())
        });
        assert_eq!(again, "here\n", "after {role:?} died");
    }
    until("the sessions of before to end", || (sessions_of(&farm) <= 1).then_some(()));
    // Nothing of it counts against the worker or the job.
    assert_eq!(farm.job(job)["state"], "complete");
    assert_eq!(farm.output_of("bob", &[], "id -un"), "bob\n");

    // A folder that is gone is said to be, and the worker goes on.
    std::fs::remove_dir_all(farm.path(farm.folder(job))).expect("removed");
    until("the last session to end", || (sessions_of(&farm) == 0).then_some(()));
    for _ in 0..4 {
        let _ = files(&farm, "ada", job, &["note", "-o", "-"]).complains(&["job_folder"]);
    }
    assert_eq!(farm.output_of("ada", &[], "echo on"), "on\n");
}
