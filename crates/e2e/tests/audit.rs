//! The audit of a whole farm: it holds, the host's own log agrees with it, and a file leads back to who asked for it.

use e2e::{Farm, until};

#[test]
fn a_farm_is_verified_and_a_file_leads_back_to_its_job() {
    if !e2e::root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let job = farm.submit_sh("ada", &[], "echo made > made.txt");
    farm.complete(job);
    let data = farm.data();
    let file = format!("{}/made.txt", farm.folder(job));
    // The session's end may be on its way into the audit.
    let answer = until("it leads back", || {
        let answer = farm.stead_as("root", &["audit", "whence", &file, "--json"]);
        (answer.code == Some(0)).then(|| answer.json())
    });
    assert_eq!(answer["label"], "exact", "{answer}");
    assert_eq!(
        (&answer["found"][0]["job"], &answer["found"][0]["login_user"]),
        (&job.0.into(), &"ada".into()),
        "{answer}"
    );
    let report = farm.stead_as("root", &["audit", "verify", "--workers", "--data", &data, "--json"]).ok().json();
    assert_eq!(report["findings"], serde_json::json!([]), "{report}");
    assert_eq!(report["launches"], 1, "{report}");
    let nowhere = farm.stead_as("root", &["audit", "verify", "--workers"]);
    assert!(nowhere.code == Some(2) && nowhere.err().contains("--data DIR"), "{nowhere:?}");
}

/// A process, as a line of some other log names it: who asked for it, while it runs and afterwards.
#[test]
fn a_process_leads_back_to_its_job() {
    if !e2e::root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let other = farm.submit_sh("bob", &[], "sleep 1000");
    let job = farm.submit_sh("ada", &[], "(sleep 1000 & echo $! > /mnt/shared/deep; wait)");
    let deep = farm.path("/mnt/shared/deep");
    let pid = until("the process", || std::fs::read_to_string(&deep).ok().filter(|t| t.ends_with('\n')));
    let whence = |what: &str| farm.stead_as("root", &["audit", "whence", what, "--json"]);
    let here = whence(&format!("localhost:{}", pid.trim())).ok().json();
    assert_eq!(here["label"], "exact", "{here:#}");
    let found = here["found"].as_array().expect("a list");
    assert_eq!(found.iter().map(|f| &f["job"]).collect::<Vec<_>>(), [job.0], "{here:#}");
    assert_eq!((&found[0]["login_user"], &found[0]["run_as"]), (&"ada".into(), &"ada".into()), "{here:#}");
    // Nobody else learns that it is there.
    let refused = farm.stead_as("bob", &["audit", "whence", &format!("localhost:{}", pid.trim())]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    // It is over: what is left is when, and where.
    let host = here["found"][0]["worker"].as_str().expect("a worker").to_owned();
    let at = here["found"][0]["started"].as_str().expect("a time").to_owned();
    let _ = farm.stead_as("ada", &["kill", &job.to_string()]).ok();
    farm.ends(job, "killed");
    let later = whence(&format!("{host}:{}@{at}", pid.trim()));
    assert!(later.ok().json()["found"].as_array().expect("a list").iter().any(|f| f["job"] == job.0));
    let nobody = whence(&format!("{host}:1@{at}")).json();
    assert_ne!(nobody["label"], "exact", "{nobody:#}");
    let nothing = whence("localhost:ten");
    assert!(nothing.code == Some(2) && nothing.err().contains("HOST:PID"), "{nothing:?}");
    let _ = farm.stead_as("bob", &["kill", &other.to_string()]).ok();
}
