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
}
