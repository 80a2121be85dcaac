//! Holds the hosts' own signed logs of launches against the audit: launches that nobody decided, decisions whose launch
//! is in no log. The logs themselves are verified, too: each record is signed with the host's key and names the one
//! before it.

use super::act::Act;
use super::ledger::Stem;
use super::line::{LINE_MAX, Line, fixed};
use super::verify::{Finding, Report};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use warrant::proof::{Fact, PROOF_MAX, Proof};
use warrant::{PublicKey, Signed, hex, sha256, unhex};

/// A record of a log is at most so long.
const RECORD_MAX: u64 = 2 * (PROOF_MAX as u64 + 128) + 256;

/// What the audit says of a session.
#[derive(Debug, Default)]
struct Decided {
    at: (PathBuf, u64, u64),
    login_user: String,
    user: String,
    account: String,
    worker: String,
    mode: String,
    /// That the launcher attests it.
    is_attested: bool,
    is_over: bool,
}

/// Compares the audit in `dir` with logs of launchers; adds to `report`.
pub fn verify_launches(dir: &Path, logs: &[PathBuf], report: &mut Report) -> io::Result<()> {
    let (mut decided, keys) = decisions(dir)?;
    let (mut launched, mut ended) = (HashSet::new(), 0_u64);
    let mut workers = HashSet::new();
    for path in logs {
        report.files.push(path.clone());
        read_log(path, &keys, report, |line, proof, report| {
            workers.insert(proof.worker.clone());
            let found = |what: String| Finding { file: path.clone(), line, seq: Some(proof.log_sequence), what };
            match &proof.fact {
                Fact::Started { login_user, user, mode, run_as, .. } => {
                    launched.insert(proof.session);
                    let says = (login_user.as_str(), user.as_str(), run_as.name.as_str(), mode.as_str());
                    match decided.get(&proof.session) {
                        None => report.add(found(format!(
                            "session {} was launched as {} (uid {}) without a decision",
                            proof.session, run_as.name, run_as.uid
                        ))),
                        Some(decision) => {
                            if let Some(what) = differs(decision, &proof.worker, says) {
                                report.add(found(format!("session {}: {what}", proof.session)));
                            }
                        }
                    }
                }
                Fact::Refused { .. } => {
                    if !decided.contains_key(&proof.session) {
                        report.add(found(format!("session {} was refused without having been decided", proof.session)));
                    }
                    decided.remove(&proof.session);
                }
                Fact::Ended { .. } => ended += 1,
            }
        })?;
    }
    let mut never = 0;
    for (session, decision) in &decided {
        if decision.mode == "desktop" || launched.contains(session) || !workers.contains(&decision.worker) {
            continue;
        }
        if decision.is_attested {
            let (file, line, seq) = decision.at.clone();
            let what = format!(
                "session {session} ran on {} as {}, says the supervisor, but its launch is not in that host's log",
                decision.worker, decision.account
            );
            report.add(Finding { file, line, seq: Some(seq), what });
        } else {
            never += 1;
        }
    }
    let silent = decided.values().filter(|d| d.mode != "desktop" && !workers.contains(&d.worker));
    let silent: std::collections::BTreeSet<&str> = silent.map(|d| d.worker.as_str()).collect();
    if !silent.is_empty() {
        let names = silent.into_iter().collect::<Vec<_>>().join(", ");
        report
            .notes
            .push(format!("no log was given of {names}: its launches are not compared (name it with --launch-log)"));
    }
    let unsaid =
        decided.iter().filter(|(session, d)| launched.contains(session) && d.is_over && !d.is_attested).count();
    if unsaid > 0 {
        report.notes.push(format!("{unsaid} launches are in the logs of which the supervisor has no proof"));
    }
    report.launches = launched.len() as u64;
    report.notes.push(format!(
        "{} launches and {ended} ends in {} logs; {never} warrants were never launched",
        launched.len(),
        logs.len()
    ));
    Ok(())
}

fn differs(decision: &Decided, worker: &str, says: (&str, &str, &str, &str)) -> Option<String> {
    let (login_user, user, account, mode) = says;
    let differ =
        |what: &str, log: &str, audit: &str| Some(format!("the log has the {what} {log}, the decision {audit}"));
    if decision.worker != worker {
        return differ("worker", worker, &decision.worker);
    }
    if decision.login_user != login_user {
        return differ("login user", login_user, &decision.login_user);
    }
    if decision.user != user {
        return differ("user", user, &decision.user);
    }
    if decision.mode != mode {
        return differ("mode", mode, &decision.mode);
    }
    if decision.account != account && decision.account != "throwaway" {
        return differ("account", account, &decision.account);
    }
    None
}

/// Sessions by number, and the hosts' keys by id, as the audit has them.
#[expect(clippy::type_complexity, reason = "two maps, taken apart at once")]
fn decisions(dir: &Path) -> io::Result<(BTreeMap<u64, Decided>, HashMap<[u8; 8], PublicKey>)> {
    let (mut decided, mut keys) = (BTreeMap::<u64, Decided>::new(), HashMap::new());
    for path in Stem::chain(dir).files()? {
        let mut reader = BufReader::new(File::open(&path)?);
        let (mut bytes, mut number) = (Vec::new(), 0);
        while reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut bytes)? > 0 {
            number += 1;
            // What can't be read is named by who verifies the chain.
            if let Ok(line) = Line::read(&bytes) {
                if line.is(Act::HostKeyPinned)
                    && let Some(key) = line.text("host_key").and_then(fixed).and_then(|k| PublicKey::from_bytes(&k))
                {
                    keys.insert(key.id().0, key);
                }
                take(&path, number, &line, &mut decided);
            }
            bytes.clear();
        }
    }
    Ok((decided, keys))
}

fn take(path: &Path, number: u64, line: &Line, decided: &mut BTreeMap<u64, Decided>) {
    let Some(session) = line.details.get("session").and_then(serde_json::Value::as_u64) else { return };
    if line.is(Act::Warrant) {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let decision = Decided {
            at: (path.to_owned(), number, line.seq),
            login_user: text(&line.login_user),
            user: text(&line.user),
            account: text(&line.run_as),
            worker: text(&line.object),
            mode: line.text("mode").unwrap_or_default().to_owned(),
            ..Decided::default()
        };
        decided.insert(session, decision);
    }
    if line.is(Act::SessionEnd)
        && let Some(decision) = decided.get_mut(&session)
    {
        decision.is_over = true;
        decision.is_attested = line.text("attested_by") == Some("launcher");
    }
}

/// Reads a log: each record in its place and signed with a key that the audit knows.
fn read_log(
    path: &Path,
    keys: &HashMap<[u8; 8], PublicKey>,
    report: &mut Report,
    mut each: impl FnMut(u64, &Proof, &mut Report),
) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let mut reader = BufReader::new(File::open(path).map_err(named)?);
    let (mut bytes, mut number) = (Vec::new(), 0);
    let (mut next, mut previous) = (1_u64, Some([0_u8; 32]));
    while reader.by_ref().take(RECORD_MAX).read_until(b'\n', &mut bytes).map_err(named)? > 0 {
        number += 1;
        // A remark is outside of the chain; half a record is being written.
        if bytes.starts_with(b"#") || !bytes.ends_with(b"\n") {
            bytes.clear();
            continue;
        }
        let mut found =
            |seq: u64, what: String| report.add(Finding { file: path.to_owned(), line: number, seq: Some(seq), what });
        match record(&bytes, keys) {
            Err(what) => {
                found(next, what);
                (next, previous) = (next + 1, None);
            }
            Ok((said, proof, hash)) => {
                let at = proof.log_sequence;
                if said != at || at != next {
                    let what = if at > next {
                        format!("records {next} to {} before it are missing", at - 1)
                    } else {
                        format!("record {at} stands where record {next} should")
                    };
                    found(at, what);
                } else if previous.is_some_and(|p| p != proof.log_previous) {
                    found(at, "it follows another record than the one before it".to_owned());
                }
                (next, previous) = (at + 1, Some(hash));
                each(number, &proof, report);
            }
        }
        bytes.clear();
    }
    Ok(())
}

fn record(line: &[u8], keys: &HashMap<[u8; 8], PublicKey>) -> Result<(u64, Proof, [u8; 32]), String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not text")?.trim_end();
    let mut words = text.split(' ');
    let (Some(number), Some(hash), Some(bytes), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err("it is no record".to_owned());
    };
    let number: u64 = number.parse().map_err(|_| "it has no number")?;
    let hash = fixed(hash).ok_or("it has no hash")?;
    let bytes = unhex(bytes).filter(|b| text.ends_with(&hex(b))).ok_or("it is not in hexadecimal")?;
    let signed = Signed::decode(&bytes, PROOF_MAX).map_err(|_| "it is no signed proof")?;
    let key = keys.get(&signed.key.0).ok_or("it is signed with a key that no worker was first seen with")?;
    let proof = Proof::open(&signed, std::slice::from_ref(key)).map_err(|e| format!("it was changed: {e}"))?;
    if sha256(&[&proof.log_previous, &bytes]) != hash {
        return Err("it was changed: it doesn't have the hash it says".to_owned());
    }
    Ok((number, proof, hash))
}

#[cfg(test)]
mod tests {
    use super::super::{Audit, Options, Record, VerifyOptions, verify_dir};
    use super::*;
    use warrant::SecretKey;
    use warrant::proof::{RunAs, SessionEnd};

    fn key() -> SecretKey {
        SecretKey::from_seed(&[7; 32])
    }

    fn started(session: u64, account: &str) -> Fact {
        let run_as = RunAs { name: account.to_owned(), uid: 1501, gid: 1501, groups: vec![] };
        let (login_user, user) = ("ada".to_owned(), "ada".to_owned());
        let _ = session;
        Fact::Started { login_user, user, mode: "user".to_owned(), run_as, warrant: [0; 32], pid: 9, pid_start: 9 }
    }

    fn log(facts: &[(u64, Fact)]) -> Vec<String> {
        let (mut lines, mut previous) = (Vec::new(), [0; 32]);
        for (n, (session, fact)) in (1..).zip(facts) {
            let proof = Proof {
                worker: "node".to_owned(),
                incarnation: [1; 16],
                session: *session,
                job: 1,
                fact: fact.clone(),
                at_us: 3,
                log_sequence: n,
                log_previous: previous,
            };
            let bytes = proof.sign(&key()).encode();
            previous = sha256(&[&previous, &bytes]);
            lines.push(format!("{n} {} {}\n", hex(&previous), hex(&bytes)));
        }
        lines
    }

    async fn audit(dir: &Path) {
        let (audit, _) = Audit::open(dir, &Options { anchor: None, file_max: u64::MAX }).expect("open");
        let pinned = Record::new(Act::HostKeyPinned).with("host_key", hex(&key().public().to_bytes()));
        audit.write(pinned).await.expect("written");
        for session in 1..=3_u64 {
            let warrant = Record::new(Act::Warrant).by("ada", "ada").run_as("ada").object("node");
            audit.write(warrant.with("session", session).with("mode", "user")).await.expect("written");
            let end = Record::new(Act::SessionEnd).by("ada", "ada").run_as("ada").object("node");
            let attested = (session < 3).then_some("launcher");
            audit.write(end.with("session", session).with("attested_by", attested)).await.expect("written");
        }
        audit.close().await;
    }

    fn compared(dir: &Path, lines: &[String]) -> Vec<String> {
        let path = dir.join("launches");
        std::fs::write(&path, lines.concat()).expect("written");
        let mut report = verify_dir(dir, &VerifyOptions::default()).expect("read");
        verify_launches(dir, &[path], &mut report).expect("read");
        report.findings.into_iter().map(|f| format!("{}: {}", f.line, f.what)).collect()
    }

    #[tokio::test]
    async fn launches_and_decisions_are_compared_both_ways() {
        let dir = tempfile::tempdir().expect("dir");
        audit(dir.path()).await;
        let ended = |session| (session, Fact::Ended { end: SessionEnd::Exited(0), cpu_us: 1, max_rss: 1 });
        let good = log(&[(1, started(1, "ada")), (2, started(2, "ada")), ended(1), ended(2)]);
        assert_eq!(compared(dir.path(), &good), [] as [&str; 0], "the third was never launched");
        let more = log(&[(1, started(1, "ada")), (2, started(2, "ada")), (9, started(9, "bob"))]);
        assert_eq!(compared(dir.path(), &more), ["3: session 9 was launched as bob (uid 1501) without a decision"]);
        let other = log(&[(1, started(1, "bob")), (2, started(2, "ada"))]);
        assert_eq!(compared(dir.path(), &other), ["1: session 1: the log has the account bob, the decision ada"]);
        let fewer = log(&[(1, started(1, "ada"))]);
        assert!(compared(dir.path(), &fewer)[0].contains("session 2 ran on node as ada, says the supervisor, but"));
    }

    #[tokio::test]
    async fn a_log_that_was_changed_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        audit(dir.path()).await;
        let good = log(&[(1, started(1, "ada")), (2, started(2, "ada")), (1, started(1, "ada"))]);
        let without = [good[0].clone(), good[2].clone()];
        assert!(
            compared(dir.path(), &without).iter().any(|f| f.starts_with("2: records 2 to 2 before it are missing"))
        );
        let swapped = [good[1].clone(), good[0].clone(), good[2].clone()];
        assert!(compared(dir.path(), &swapped).iter().any(|f| f.starts_with("1: ")));
        for at in (0..good[1].len() - 1).step_by(7) {
            let mut bytes = good[1].clone().into_bytes();
            bytes[at] ^= 1;
            let bad = [good[0].clone(), String::from_utf8_lossy(&bytes).into_owned(), good[2].clone()];
            let found = compared(dir.path(), &bad);
            assert!(found.iter().any(|f| f.starts_with("2: ") || f.starts_with("3: ")), "byte {at}: {found:?}");
        }
    }
}
