//! The disk under store and audit is full to the brim: what ends something is possible, nothing is begun, and the record
//! is complete when there is room again (J03, D08).

use e2e::{Account, Answer, Farm, Stage, accounts, root_or_skip, state, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;

/// More records than fit into what is left of a block.
const QUEUED: usize = 24;

fn farm() -> Farm {
    let mut all = accounts();
    let bob = all.iter().find(|a| a.name == "bob").cloned().expect("bob");
    let home = "/home/render".to_owned();
    all.push(Account { name: "render".into(), uid: 1520, gid: 1520, home, groups: Vec::new(), ..bob });
    let farm = Farm::user_mode().on(Stage::raise_with(&all)).with(&["--slots", "2"]).with_data_of("64m").start();
    let _ = farm.stead_as("root", &["users", "add", "render", "--type", "proxy"]).ok();
    farm
}

/// Bytes that the ballast really has on the disk.
fn ballast(farm: &Farm) -> u64 {
    farm.path(format!("{}/supervisor/ballast", farm.data())).metadata().map_or(0, |m| m.blocks() * 512)
}

fn disk_is(farm: &Farm, level: &str) -> Option<()> {
    let said = farm.stead_as("root", &["doctor", "--json"]).json();
    let room = said["findings"].as_array()?.iter().find(|f| f["check"] == "room")?;
    (room["level"] == level).then_some(())
}

fn fill(farm: &Farm) {
    let script = "cat /dev/zero >> /mnt/data/filler 2>/dev/null; true";
    assert!(farm.stage().command("sh").args(["-c", script]).status().expect("sh starts").success());
}

#[track_caller]
fn is_refused(answer: Answer) {
    assert_ne!(answer.code, Some(0), "{answer:?}");
    let _ = answer.complains(&["disk is full"]).complains(&["MiB free it goes on"]);
}

#[test]
fn a_full_disk_takes_endings_and_nothing_else() {
    if !root_or_skip() {
        return;
    }
    let farm = farm();
    let whole = ballast(&farm);
    assert!(whole >= 3 << 20, "it is really there: {whole}");
    let grant = farm.stead_as("root", &["grants", "add", "ada", "render", "--json"]).ok().json()["id"].to_string();
    let own = farm.submit_sh("bob", &[], "sleep 86394");
    let _ = farm.stead_as("ada", &["as", "render"]).ok();
    let granted = farm.submit_sh("ada", &[], "sleep 86394");
    for job in [own, granted] {
        farm.until_job(job, "running", |j| state(j) == "running");
    }
    let queued: Vec<_> = (0..QUEUED).map(|_| farm.submit_sh("bob", &[], "true")).collect();

    fill(&farm);
    until("the supervisor to see that the disk is full", || disk_is(&farm, "error"));
    fill(&farm);
    is_refused(farm.stead_as("bob", &["submit", "--", "true"]));
    is_refused(farm.stead_as("root", &["grants", "add", "bob", "render"]));
    for job in &queued {
        let _ = farm.stead_as("bob", &["kill", &job.to_string()]).ok();
    }
    let _ = farm.stead_as("bob", &["kill", &own.to_string()]).ok();
    let _ = farm.ends(own, "killed");
    is_refused(farm.stead_as("bob", &["retry", &own.to_string()]));
    let _ = farm.stead_as("root", &["grants", "revoke", &grant, "--kill"]).ok();
    let _ = farm.ends(granted, "killed");
    assert!(ballast(&farm) < whole, "there was room without the ballast: this shows nothing");

    std::fs::remove_file(farm.path("/mnt/data/filler")).expect("room again");
    until("the ballast to be whole again", || (ballast(&farm) == whole).then_some(()));
    until("the supervisor to see that there is room", || disk_is(&farm, "ok"));
    farm.complete(farm.submit_sh("bob", &[], "true"));
    let killed = until("a record of every kill", || {
        let chain = std::fs::read_to_string(farm.path(format!("{}/supervisor/audit/chain", farm.data()))).ok()?;
        let lines: Vec<Value> = chain.lines().map(|l| serde_json::from_str(l).expect("a record")).collect();
        assert_eq!(lines.iter().filter(|l| l["act"] == "not_done").count(), 0, "all that was acknowledged was done");
        let revoked = lines.iter().any(|l| l["act"] == "grant_revoke");
        let killed: BTreeSet<u64> =
            lines.iter().filter(|l| l["act"] == "kill").filter_map(|l| l["job"].as_u64()).collect();
        (revoked && killed.len() > QUEUED).then_some(killed)
    });
    assert!(queued.iter().chain([&own]).all(|job| killed.contains(&job.0)), "{killed:?}");
    let _ = farm.stead_as("root", &["audit", "verify"]).ok();
}
