//! The audit as a whole, in folders of its own.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn options() -> Options {
    Options { anchor: None, file_max: u64::MAX }
}

fn opened(dir: &Path) -> (Audit, Found) {
    Audit::open(dir, &options()).expect("open")
}

fn submit(login: &str, user: &str, n: u64) -> Record {
    let actor = Actor { login_user: Some(login.into()), user: Some(user.into()), ..Actor::default() };
    Record::intent(Act::Submit, actor).job(n).with("name", "line\nbreak \u{1b}[31m")
}

async fn fill(dir: &Path, options: &Options, n: u64) -> Vec<Written> {
    let (audit, _) = Audit::open(dir, options).expect("open");
    let mut written = vec![audit.write(Record::new(Act::Start)).await.expect("start")];
    for n in 0..n {
        let user = if n % 3 == 0 { "render" } else { "ada" };
        written.push(audit.write(submit("ada", user, n)).await.expect("written"));
    }
    audit.close().await;
    written
}

fn whole(dir: &Path) -> Report {
    let report = verify_dir(dir, &VerifyOptions::default()).expect("read");
    assert_eq!(report.findings, [], "it holds");
    report
}

fn findings(dir: &Path) -> Vec<Finding> {
    verify_dir(dir, &VerifyOptions::default()).expect("read").findings
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("bytes")
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::write(path, bytes).expect("written");
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("dir") {
        let entry = entry.expect("entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[tokio::test]
async fn a_chain_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().expect("dir");
    let first = fill(dir.path(), &options(), 3).await;
    let second = fill(dir.path(), &options(), 3).await;
    // begin, start, 3, stop, checkpoint; start, 3, stop, checkpoint
    assert_eq!(first.iter().chain(&second).map(|w| w.sequence).collect::<Vec<_>>(), [2, 3, 4, 5, 8, 9, 10, 11]);
    assert!(first.iter().chain(&second).all(|w| w.chain == first[0].chain));
    let report = whole(dir.path());
    assert_eq!((report.records, report.proxied, report.checkpoints, report.unsigned), (13, 2, 2, 0));
    let text = std::fs::read_to_string(dir.path().join("chain")).expect("text");
    assert_eq!(text.lines().count(), 13, "a value never breaks a line");
}

#[tokio::test]
async fn operations_in_anothers_name_stand_in_both_files() {
    let dir = tempfile::tempdir().expect("dir");
    fill(dir.path(), &options(), 4).await;
    let proxied = std::fs::read_to_string(dir.path().join("proxied")).expect("text");
    let users: Vec<_> = lines(proxied.as_bytes()).iter().map(|l| line::Line::read(l).expect("line").user).collect();
    assert_eq!(users, [None, Some("render".to_owned()), Some("render".to_owned())]);
    // Taken out of one of them.
    write(&dir.path().join("proxied"), lines(proxied.as_bytes())[..2].concat());
    assert!(findings(dir.path()).iter().any(|f| f.what.contains("missing among the proxied ones")));
    assert!(matches!(Audit::open(dir.path(), &options()), Err(AuditError::Broken { .. })), "the checkpoint knows it");
}

#[tokio::test]
async fn a_supervisor_that_died_between_the_two_files_makes_it_good() {
    let dir = tempfile::tempdir().expect("dir");
    let (audit, _) = opened(dir.path());
    for n in 0..3 {
        audit.write(submit("ada", "render", n)).await.expect("written");
    }
    drop(audit);
    let path = dir.path().join("proxied");
    let good = read(&path);
    let first_two = lines(&good)[..2].concat();
    for torn in [0, 7] {
        write(&path, [&first_two[..], &lines(&good)[2][..torn]].concat());
        drop(opened(dir.path()));
        assert_eq!(read(&path), good, "the same bytes again");
    }
    whole(dir.path());
}

#[tokio::test]
async fn every_changed_byte_shows() {
    let dir = tempfile::tempdir().expect("dir");
    fill(dir.path(), &options(), 3).await;
    for name in ["chain", "proxied"] {
        let path = dir.path().join(name);
        let good = read(&path);
        let mut line = 1;
        for at in 0..good.len() {
            // All of a short record, and some of each other.
            let is_asked = at < 300 || at % 17 == 0;
            line += u64::from(at > 0 && good[at - 1] == b'\n');
            if !is_asked {
                continue;
            }
            let mut bad = good.clone();
            bad[at] ^= 1;
            write(&path, &bad);
            let found = findings(dir.path());
            assert!(
                found.iter().any(|f| f.file == path && (f.line == line || f.line == line + 1)),
                "byte {at} ({:?}) of {name}: {found:?}",
                good[at] as char
            );
        }
        write(&path, &good);
    }
}

/// What somebody may do to a file.
#[derive(Debug, Clone)]
enum Edit {
    Change(prop::sample::Index, prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Exchange(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
    CutLines(prop::sample::Index),
    CutBytes(prop::sample::Index),
    /// Changes a record and works out all hashes anew.
    Forge(prop::sample::Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), any::<Index>(), 1..=255_u8).prop_map(|(l, b, x)| Edit::Change(l, b, x)),
        any::<Index>().prop_map(Edit::Remove),
        any::<Index>().prop_map(Edit::Exchange),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Edit::Repeat(a, b)),
        any::<Index>().prop_map(Edit::CutLines),
        any::<Index>().prop_map(Edit::CutBytes),
        any::<Index>().prop_map(Edit::Forge),
    ]
}

/// Carries an edit out; the number of the line where something is wrong now at the latest.
fn spoil(edit: &Edit, good: &[Vec<u8>]) -> (Vec<u8>, usize) {
    let mut bad = good.to_vec();
    let last = good.len() - 1;
    let wrong = match edit {
        Edit::Change(line, byte, x) => {
            let line = line.index(good.len());
            let byte = byte.index(good[line].len());
            bad[line][byte] ^= x;
            line + 2
        }
        Edit::Remove(line) => {
            let line = line.index(good.len());
            bad.remove(line);
            line + 1
        }
        Edit::Exchange(line) => {
            let line = line.index(last);
            bad.swap(line, line + 1);
            line + 1
        }
        Edit::Repeat(line, to) => {
            let (line, to) = (line.index(good.len()), to.index(good.len() + 1));
            bad.insert(to, good[line].clone());
            to + 2
        }
        Edit::CutLines(line) => {
            let line = 1 + line.index(last);
            bad.truncate(line);
            line
        }
        Edit::CutBytes(at) => {
            let all = good.concat();
            let at = 1 + at.index(all.len() - 1);
            let cut = all[..at].to_vec();
            return (cut.clone(), lines(&cut).len());
        }
        Edit::Forge(line) => {
            let line = line.index(good.len());
            return (forge(good, line), good.len());
        }
    };
    (bad.concat(), wrong)
}

/// As somebody would who has everything but the keys that were forgotten.
fn forge(good: &[Vec<u8>], from: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut hash = None::<[u8; 32]>;
    for (n, bytes) in good.iter().enumerate() {
        let text = String::from_utf8(bytes.clone()).expect("text");
        let mut body = text.rsplit_once(",\"hash\":\"").expect("hash").0.to_owned();
        if n == from {
            body = body.replace("\"time\":\"20", "\"time\":\"21");
        }
        if let Some(hash) = hash {
            let (start, rest) = body.rsplit_once("\"prev\":\"").expect("prev");
            body = format!("{start}\"prev\":\"{}{}", warrant::hex(&hash), &rest[64..]);
        }
        if n >= from {
            let made = warrant::sha256(&[body.as_bytes()]);
            hash = Some(made);
            out.extend_from_slice(format!("{body},\"hash\":\"{}\"}}\n", warrant::hex(&made)).as_bytes());
        } else {
            out.extend_from_slice(bytes);
        }
    }
    out
}

fn spoiled_chain() -> &'static (tempfile::TempDir, Vec<Vec<u8>>) {
    static CHAIN: std::sync::OnceLock<(tempfile::TempDir, Vec<Vec<u8>>)> = std::sync::OnceLock::new();
    CHAIN.get_or_init(|| {
        let dir = tempfile::tempdir().expect("dir");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
        runtime.block_on(async {
            for _ in 0..4 {
                fill(dir.path(), &options(), 5).await;
            }
        });
        let good = lines(&read(&dir.path().join("chain")));
        (dir, good)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever is done to a chain, the place is named.
    #[test]
    fn every_edit_is_found_and_named(edit in edit()) {
        let (made, good) = spoiled_chain();
        let (bad, wrong) = spoil(&edit, good);
        prop_assume!(bad != good.concat());
        let dir = tempfile::tempdir().expect("dir");
        copy_dir(made.path(), dir.path());
        let path = dir.path().join("chain");
        write(&path, &bad);
        let found = findings(dir.path());
        prop_assert!(!found.is_empty(), "{edit:?}");
        let named = found.iter().filter(|f| f.file == path && f.line > 0).map(|f| f.line).min();
        match edit {
            // The end is gone: what knows it is the key and the other file.
            Edit::CutLines(_) | Edit::Remove(_) if wrong > lines(&bad).len() => {}
            Edit::CutLines(_) => {}
            // At the end of a line, it is whole lines that were cut.
            Edit::CutBytes(_) if bad.ends_with(b"\n") => {}
            _ => prop_assert!(named.is_some_and(|line| line <= wrong as u64), "{edit:?}: {wrong}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn the_files_of_a_chain_follow_each_other() {
    let dir = tempfile::tempdir().expect("dir");
    let small = Options { anchor: None, file_max: 2000 };
    for _ in 0..4 {
        fill(dir.path(), &small, 10).await;
    }
    let report = whole(dir.path());
    let names: Vec<_> =
        report.files.iter().map(|f| f.file_name().expect("name").to_string_lossy().into_owned()).collect();
    assert!(
        names.len() > 5 && names.contains(&"chain.000001".into()) && names.contains(&"proxied.000001".into()),
        "{names:?}"
    );
    assert_eq!(report.records, 4 * 13 + 1 + names.iter().filter(|n| n.starts_with("chain.")).count() as u64);
    // One by itself is fine, and says where it begins.
    let some = [dir.path().join("chain.000002"), dir.path().join("chain.000003")];
    let part = verify_files(&some, &VerifyOptions::default()).expect("read");
    assert_eq!(part.findings, []);
    assert!(part.notes[0].contains("begins at record"), "{:?}", part.notes);
    // One that is missing is missed, at both ends.
    for gone in ["chain.000001", "chain.000002", "proxied.000001"] {
        let dir2 = tempfile::tempdir().expect("dir");
        copy_dir(dir.path(), dir2.path());
        std::fs::remove_file(dir2.path().join(gone)).expect("gone");
        assert!(findings(dir2.path()).iter().any(|f| f.what.contains("missing")), "{gone}");
    }
}

/// Whatever of the last things it did is on the disk: it goes on, and nothing is found.
#[tokio::test]
async fn an_end_at_any_moment_is_made_good() {
    let made = tempfile::tempdir().expect("dir");
    fill(made.path(), &Options { anchor: None, file_max: 1500 }, 12).await;
    let first_record = lines(&read(&made.path().join("chain")))[0].clone();
    for cut in (0..=first_record.len()).step_by(9).chain([1, first_record.len()]) {
        let dir = tempfile::tempdir().expect("dir");
        // Only what is before the first checkpoint: the key is the first then.
        let (audit, _) = opened(dir.path());
        for n in 0..3 {
            audit.write(submit("ada", "ada", n)).await.expect("written");
        }
        drop(audit);
        std::fs::rename(dir.path().join("chain"), dir.path().join("chain.000001")).expect("full");
        if cut > 0 {
            write(&dir.path().join("chain"), &first_record[..cut - 1]);
        }
        drop(opened(dir.path()));
        let report = whole(dir.path());
        assert_eq!(report.records, 5, "cut at {cut}: begin, three, segment");
    }
}

#[tokio::test]
async fn an_end_within_a_checkpoint_is_made_good() {
    let dir = tempfile::tempdir().expect("dir");
    let (audit, _) = opened(dir.path());
    audit.write(submit("ada", "ada", 1)).await.expect("written");
    let key = read(&dir.path().join("key"));
    audit.close().await;
    // The record is there, the key is still the one before.
    let chain = read(&dir.path().join("chain"));
    write(&dir.path().join("key"), &key);
    drop(opened(dir.path()));
    assert_ne!(read(&dir.path().join("key")), key, "it is forgotten now");
    whole(dir.path());
    // The record is half there.
    for cut in [1, 100] {
        let dir = tempfile::tempdir().expect("dir");
        write(&dir.path().join("chain"), &chain[..chain.len() - cut]);
        write(&dir.path().join("key"), &key);
        std::fs::set_permissions(dir.path().join("key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("mode");
        drop(opened(dir.path()));
        whole(dir.path());
    }
}

#[tokio::test]
async fn a_broken_or_cut_end_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    fill(dir.path(), &options(), 3).await;
    let path = dir.path().join("chain");
    let good = read(&path);
    let mut bad = good.clone();
    let at = bad.len() - 100;
    bad[at] ^= 1;
    write(&path, &bad);
    assert!(matches!(Audit::open(dir.path(), &options()), Err(AuditError::Broken { .. })));
    write(&path, lines(&good)[..4].concat());
    assert!(matches!(Audit::open(dir.path(), &options()), Err(AuditError::Sealed(_))));
    assert!(findings(dir.path()).iter().any(|f| f.what.contains("cut off")));
    std::fs::remove_file(dir.path().join("key")).expect("gone");
    assert!(matches!(Audit::open(dir.path(), &options()), Err(AuditError::File { .. })));
}

#[tokio::test]
async fn an_anchor_knows_what_was_cut_off() {
    let (dir, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("other"));
    let anchor = other.path().join("ends");
    let anchored = Options { anchor: Some(AnchorTo::File(anchor.clone())), file_max: u64::MAX };
    fill(dir.path(), &anchored, 3).await;
    let (chain, key, proxied) =
        (read(&dir.path().join("chain")), read(&dir.path().join("key")), read(&dir.path().join("proxied")));
    fill(dir.path(), &anchored, 3).await;
    let asked = VerifyOptions { anchors: vec![anchor.clone()], ..VerifyOptions::default() };
    let report = verify_dir(dir.path(), &asked).expect("read");
    assert_eq!((report.findings, report.anchored), (vec![], 4), "two starts, two ends");
    // Everything is put back as it was before: consistent in itself.
    write(&dir.path().join("chain"), &chain);
    write(&dir.path().join("key"), &key);
    write(&dir.path().join("proxied"), &proxied);
    whole(dir.path());
    let found = verify_dir(dir.path(), &asked).expect("read").findings;
    assert_eq!(found.len(), 1);
    assert!(found[0].what.starts_with("records 8 to 13 at least are cut off: the anchor"), "{found:?}");
    // Another chain altogether.
    for name in ["chain", "key", "proxied"] {
        std::fs::remove_file(dir.path().join(name)).expect("gone");
    }
    fill(dir.path(), &options(), 3).await;
    let found = verify_dir(dir.path(), &asked).expect("read").findings;
    assert!(found[0].what.contains("knows nothing of this chain"), "{found:?}");
    let wrong = Options { anchor: Some(AnchorTo::File("/nonexistent/x".into())), file_max: 1 };
    assert!(matches!(Audit::open(dir.path(), &wrong), Err(AuditError::Anchor { .. })));
}

#[tokio::test]
async fn intents_without_an_end_are_found() {
    let dir = tempfile::tempdir().expect("dir");
    let (audit, found) = opened(dir.path());
    assert_eq!(found.open, []);
    audit.write(Record::new(Act::Start)).await.expect("start");
    let done = audit.intent(submit("ada", "ada", 1)).await.expect("intent");
    let open = audit.intent(submit("ada", "render", 2)).await.expect("intent");
    audit.write(done.not_done(Outcome::Failed, "no such job")).await.expect("written");
    audit.write(Record::new(Act::Warrant).by("ada", "ada")).await.expect("no intent");
    drop(audit);
    let (audit, found) = opened(dir.path());
    assert_eq!(
        found.open.iter().map(|o| (o.sequence, o.hash)).collect::<Vec<_>>(),
        [(open.written.sequence, open.written.hash)]
    );
    audit.write(Record::new(Act::Start)).await.expect("start");
    audit.write(found.open[0].unknown()).await.expect("unknown");
    drop(audit);
    assert_eq!(opened(dir.path()).1.open, [], "said once");
    let proxied = std::fs::read_to_string(dir.path().join("proxied")).expect("text");
    assert!(proxied.contains("outcome_unknown"), "{proxied}");
}

#[tokio::test]
async fn a_full_disk_refuses_acts_and_lets_a_kill_be_recorded_later() {
    let dir = tempfile::tempdir().expect("dir");
    let (audit, _) = opened(dir.path());
    audit.fill_for_tests(true);
    let refusal = || Record::refused(Act::Submit, Actor::default()).with("rule", "x");
    audit.write(submit("ada", "render", 1)).await.expect_err("refused");
    audit.refusal(refusal()).await.expect_err("refused");
    let kill = Record::intent(Act::Kill, Actor::default()).by("ada", "render").job(7);
    let Ending::Later(late) = audit.intent_or_later(kill).await.expect("done") else { panic!("there is no room") };
    audit.settle(late, None).await;
    audit.fill_for_tests(false);
    audit.refusal(refusal()).await.expect("written now");
    audit.close().await;
    let report = whole(dir.path());
    assert_eq!(report.proxied, 1);
    let chain = std::fs::read_to_string(dir.path().join("chain")).expect("text");
    let acts: Vec<_> = chain.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("json")).collect();
    let words: Vec<_> = acts.iter().map(|a| a["act"].as_str().expect("act")).collect();
    assert_eq!(words.iter().filter(|w| **w == "kill").count(), 1);
    assert_eq!(words.iter().filter(|w| **w == "submit").count(), 1);
    let kill = acts.iter().find(|a| a["act"] == "kill").expect("kill");
    assert!(kill["happened"].is_string(), "both times are kept: {kill}");
    assert_eq!(kill["outcome"], "ok", "it is known by then what came of it");
}

/// Three endings on a full disk: one was done, one was not, and of one nobody knows when the supervisor is gone.
#[tokio::test]
async fn what_waits_for_room_outlives_the_supervisor_and_says_what_came_of_it() {
    let dir = tempfile::tempdir().expect("dir");
    let (audit, _) = opened(dir.path());
    let submitted = audit.intent(submit("ada", "render", 1)).await.expect("recorded");
    audit.fill_for_tests(true);
    let mut late = Vec::new();
    for job in 1..=3 {
        let kill = Record::intent(Act::Kill, Actor::default()).by("ada", "render").job(job);
        let Ending::Later(one) = audit.intent_or_later(kill).await.expect("kept") else { panic!("there is no room") };
        late.push(one);
    }
    let _never_settled = late.pop();
    audit.settle(late.pop().expect("the second"), Some("it had ended".to_owned())).await;
    audit.settle(late.pop().expect("the first"), None).await;
    audit.write_or_later(submitted.not_done(Outcome::Failed, "no room")).await.expect("kept");
    gone(audit).await;

    let (audit, found) = opened(dir.path());
    assert_eq!(found.open, [], "the first act was not done, and that is on record");
    gone(audit).await;
    let (audit, found) = opened(dir.path());
    assert_eq!(found.open, []);
    audit.close().await;
    whole(dir.path());
    let chain = std::fs::read_to_string(dir.path().join("chain")).expect("text");
    let lines: Vec<serde_json::Value> = chain.lines().map(|l| serde_json::from_str(l).expect("json")).collect();
    let kills: Vec<_> = lines.iter().filter(|l| l["act"] == "kill").map(|l| (&l["job"], &l["outcome"])).collect();
    assert_eq!(kills, [(&1.into(), &"ok".into()), (&2.into(), &"failed".into()), (&3.into(), &"unknown".into())]);
    let settled: Vec<_> = lines.iter().filter(|l| l["act"] == "not_done").collect();
    assert_eq!(settled.len(), 1);
    assert_eq!(settled[0]["details"]["of"], submitted.written.sequence);
    assert!(settled[0]["happened"].is_string() && settled[0]["details"]["recorded"].is_string(), "{}", settled[0]);
}

/// As after a `kill -9`: its writer finishes nothing.
async fn gone(audit: Audit) {
    let mut grown = audit.grown();
    drop(audit);
    while grown.changed().await.is_ok() {}
}

#[tokio::test]
async fn refusals_again_and_again_are_counted() {
    let dir = tempfile::tempdir().expect("dir");
    let (audit, _) = opened(dir.path());
    let actor = Actor { login_user: Some("eve".into()), client: Some("10.0.0.9".into()), ..Actor::default() };
    for _ in 0..1000 {
        audit.refusal(Record::refused(Act::Login, actor.clone()).with("rule", "password")).await.expect("taken");
    }
    audit.close().await;
    whole(dir.path());
    let chain = std::fs::read_to_string(dir.path().join("chain")).expect("text");
    let mut acts = BTreeMap::new();
    for line in chain.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("json");
        if line["act"] == "repeated" {
            assert_eq!(
                (&line["details"]["count"], &line["details"]["first"], &line["login_user"]),
                (&999.into(), &2.into(), &"eve".into())
            );
        }
        *acts.entry(line["act"].as_str().expect("act").to_owned()).or_insert(0) += 1;
    }
    assert_eq!(acts["login"], 1);
    assert_eq!(acts["repeated"], 1);
}

/// The script that the manual gives an auditor, run for real.
fn script(files: &[PathBuf]) -> (bool, String) {
    let manual = include_str!("../../../../docs/audit.md");
    let script = manual.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a script");
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("check.sh");
    write(&path, script);
    let done = std::process::Command::new("sh").arg(&path).args(files).output().expect("sh");
    (done.status.success(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
}

#[tokio::test]
async fn standard_tools_find_the_same() {
    for tool in ["jq", "openssl", "basenc"] {
        let is_there =
            std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|d| d.join(tool).exists());
        assert!(is_there, "{tool} is needed: install jq, openssl and coreutils");
    }
    let dir = tempfile::tempdir().expect("dir");
    let small = Options { anchor: None, file_max: 4000 };
    for _ in 0..2 {
        fill(dir.path(), &small, 8).await;
    }
    let files = Stem::chain(dir.path()).files().expect("files");
    assert!(files.len() > 1);
    let last = whole(dir.path()).last_seq;
    assert_eq!(script(&files), (true, format!("records up to {last} hold\n")));
    let proxied = script(&Stem::proxied(dir.path()).files().expect("files"));
    assert!(proxied.0, "{proxied:?}");
    let good = read(&files[0]);
    let all = lines(&good);
    let mut changed = all.clone();
    let at = changed[3].len() / 2;
    changed[3][at] ^= 1;
    let cases: [(&str, Vec<u8>); 5] = [
        (":4: record", changed.concat()),
        (":4: record 5: stands where record 4 should", [&all[..3], &all[4..]].concat().concat()),
        (":4: record 5: stands where record 4 should", {
            let mut all = all.clone();
            all.swap(3, 4);
            all.concat()
        }),
        ("a signature that doesn't hold", forge(&all, 2)),
        ("is cut short", good[..good.len() - 1].to_vec()),
    ];
    for (expected, bad) in cases {
        write(&files[0], bad);
        let (ok, said) = script(&files);
        assert!(!ok && said.contains(expected), "{expected}: {said}");
    }
}
