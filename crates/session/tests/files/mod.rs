//! File work: what is done, and above all what is not.

use super::worker::{Options, Worker, boot_ms, skipped_without_root};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use warrant::SecretKey;
use warrant::files::{DATA_MAX, EntryKind, FileAnswer, FileRequest, FileWork, Root};
use warrant::session_wire::{Event, ToSession};

fn start() -> Worker {
    Worker::start(&Options { files: Some(PathBuf::from("/nonexistent")), ..Options::default() })
}

fn list(path: &str, after: &str, limit: u32) -> FileWork {
    FileWork::List { path: path.into(), after: after.into(), limit }
}

fn read(path: &str, offset: u64, length: u32) -> FileWork {
    FileWork::Read { path: path.into(), offset, length }
}

fn write(path: &str, offset: u64, new: bool, data: &[u8]) -> FileWork {
    FileWork::Write { path: path.into(), offset, new, data: data.to_vec() }
}

fn rename(from: &str, to: &str, replace: bool) -> FileWork {
    FileWork::Rename { from: from.into(), to: to.into(), replace }
}

fn remove(path: &str) -> FileWork {
    FileWork::Remove { path: path.into() }
}

fn names(answer: FileAnswer) -> (Vec<(String, EntryKind)>, bool) {
    match answer {
        FileAnswer::Entries { entries, more } => (entries.into_iter().map(|e| (e.name, e.kind)).collect(), more),
        other => panic!("no entries: {other:?}"),
    }
}

fn data(answer: FileAnswer) -> (Vec<u8>, u64) {
    match answer {
        FileAnswer::Data { data, size } => (data, size),
        other => panic!("no data: {other:?}"),
    }
}

fn rule(answer: FileAnswer) -> String {
    match answer {
        FileAnswer::Refused { rule, text } => {
            assert!(!text.is_empty());
            rule.as_str().to_owned()
        }
        other => panic!("it was done: {other:?}"),
    }
}

/// What tests put there belongs to whoever runs them; the session may be another account.
fn put(path: &Path, text: &[u8]) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
}

#[test]
fn a_folder_is_shown_page_by_page_and_a_file_part_by_part() {
    let mut worker = start();
    let dir = worker.job_dir();
    let long: Vec<u8> = (0..=250).cycle().take(DATA_MAX + 1000).collect();
    put(&dir.join("long"), &long);
    for n in 0..7 {
        put(&dir.join(format!("f{n}")), b"x");
    }
    std::fs::create_dir(dir.join("sub")).unwrap();
    put(&dir.join("sub/in"), b"inside");
    let (first, more) = names(worker.ask(Root::Job, list("", "", 5)));
    assert!(more);
    let (rest, more) = names(worker.ask(Root::Job, list("", &first[4].0, 5)));
    assert!(!more);
    let all: Vec<&str> = first.iter().chain(&rest).map(|(name, _)| name.as_str()).collect();
    assert_eq!(all, ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "long", "sub"]);
    assert_eq!(rest.last().unwrap().1, EntryKind::Folder);
    assert_eq!(data(worker.ask(Root::Job, read("sub/in", 2, 3))), (b"sid".to_vec(), 6));
    let mut whole = Vec::new();
    while whole.len() < long.len() {
        let (part, size) = data(worker.ask(Root::Job, read("long", whole.len() as u64, u32::MAX)));
        assert_eq!(size, long.len() as u64);
        assert!(!part.is_empty() && part.len() <= DATA_MAX);
        whole.extend(part);
    }
    assert!(whole == long);
    assert_eq!(data(worker.ask(Root::Job, read("long", 1 << 40, 10))).0, b"");
    match worker.ask(Root::Job, FileWork::Stat { path: "sub/in".into() }) {
        FileAnswer::Entry(entry) => {
            assert_eq!((entry.name.as_str(), entry.kind, entry.size, entry.mode), ("in", EntryKind::File, 6, 0o644));
            assert!(entry.modified_us > 1_600_000_000_000_000);
        }
        other => panic!("{other:?}"),
    }
}

/// Those that look alike may be left out behind the end of a page, but nobody goes through the same ones for ever.
#[test]
fn names_that_are_no_text_come_to_an_end() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut worker = start();
    let dir = worker.job_dir();
    for byte in 0xf5..=0xff_u8 {
        put(&dir.join(std::ffi::OsStr::from_bytes(&[b'x', byte])), b"");
    }
    put(&dir.join("y"), b"");
    let (first, more) = names(worker.ask(Root::Job, list("", "", 3)));
    assert!(more && first.len() == 3 && first.iter().all(|(name, _)| name == "x\u{fffd}"), "{first:?}");
    let (rest, more) = names(worker.ask(Root::Job, list("", &first[2].0, 3)));
    assert_eq!((rest.len(), rest[0].0.as_str(), more), (1, "y", false));
}

#[test]
fn files_are_made_changed_moved_and_removed() {
    let mut worker = start();
    let dir = worker.job_dir();
    let mut done = |work| assert_eq!(worker.ask(Root::Job, work), FileAnswer::Done);
    done(FileWork::MakeFolder { path: "a".into() });
    done(FileWork::MakeFolder { path: "a/b".into() });
    done(write("a/new", 0, true, b"hello"));
    done(write("a/new", 5, false, b" world"));
    done(rename("a/new", "a/b/old", false));
    assert_eq!(std::fs::read(dir.join("a/b/old")).unwrap(), b"hello world");
    done(write("other", 0, true, b"other"));
    assert_eq!(rule(worker.ask(Root::Job, rename("other", "a/b/old", false))), "file_exists");
    assert_eq!(rule(worker.ask(Root::Job, write("other", 0, true, b"!"))), "file_exists");
    assert_eq!(worker.ask(Root::Job, rename("other", "a/b/old", true)), FileAnswer::Done);
    assert_eq!(std::fs::read(dir.join("a/b/old")).unwrap(), b"other");
    assert_eq!(rule(worker.ask(Root::Job, remove("a"))), "file_exists");
    for path in ["a/b/old", "a/b", "a"] {
        assert_eq!(worker.ask(Root::Job, remove(path)), FileAnswer::Done);
    }
    assert!(!dir.join("a").exists() && dir.exists());
}

#[test]
fn nothing_outside_is_reached_by_any_path() {
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
    put(&home.path().join("mine"), b"at home");
    let mut worker = Worker::start(&Options { files: Some(home.path().to_owned()), ..Options::default() });
    let dir = worker.job_dir();
    symlink("/etc/passwd", dir.join("absolute")).unwrap();
    symlink("../../../../../../../etc/passwd", dir.join("relative")).unwrap();
    symlink("/etc", dir.join("folder")).unwrap();
    symlink("/proc/self/root/etc/passwd", dir.join("magic")).unwrap();
    symlink("here", dir.join("within")).unwrap();
    put(&dir.join("here"), b"here");
    for path in ["absolute", "relative", "folder/passwd", "magic"] {
        assert_eq!(rule(worker.ask(Root::Job, read(path, 0, 10))), "file_leads_out", "{path}");
        assert_eq!(rule(worker.ask(Root::Job, write(path, 0, false, b"x"))), "file_leads_out", "{path}");
        let stat = FileWork::Stat { path: path.into() };
        assert_eq!(rule(worker.ask(Root::Job, stat)), "file_leads_out", "{path}");
    }
    assert_eq!(rule(worker.ask(Root::Job, list("folder", "", 10))), "file_leads_out");
    assert_eq!(rule(worker.ask(Root::Job, rename("here", "folder/here", true))), "file_leads_out");
    assert_eq!(rule(worker.ask(Root::Job, remove("folder/passwd"))), "file_leads_out");
    assert_eq!(rule(worker.ask(Root::Job, FileWork::MakeFolder { path: "folder/new".into() })), "file_leads_out");
    for path in ["/etc/passwd", "..", "../job/here", "a/../here", "a//b", "./here", "here/", "a\0b"] {
        assert_eq!(rule(worker.ask(Root::Job, read(path, 0, 10))), "file_path", "{path:?}");
    }
    // A link within the folder is as good as what it names; it is shown as a link, and removed as one.
    assert_eq!(data(worker.ask(Root::Job, read("within", 0, 10))).0, b"here");
    let (all, _) = names(worker.ask(Root::Job, list("", "", 100)));
    assert!(all.contains(&("within".to_owned(), EntryKind::Link)), "{all:?}");
    assert_eq!(worker.ask(Root::Job, remove("absolute")), FileAnswer::Done);
    assert!(Path::new("/etc/passwd").exists());
    assert_eq!(data(worker.ask(Root::Home, read("mine", 0, 10))).0, b"at home");
    assert_eq!(rule(worker.ask(Root::Home, read("here", 0, 10))), "file_missing");
}

#[test]
fn pipes_and_devices_are_never_opened() {
    let mut worker = start();
    let pipe = worker.job_dir().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::set_permissions(&pipe, PermissionsExt::from_mode(0o666)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(worker.job_dir().join("socket")).unwrap();
    let began = Instant::now();
    for path in ["pipe", "socket"] {
        assert_eq!(rule(worker.ask(Root::Job, read(path, 0, 10))), "file_kind");
        assert_eq!(rule(worker.ask(Root::Job, write(path, 0, false, b"x"))), "file_kind");
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    let (all, _) = names(worker.ask(Root::Job, list("", "", 100)));
    assert_eq!(all, [("pipe".to_owned(), EntryKind::Other), ("socket".to_owned(), EntryKind::Other)]);
}

#[test]
fn what_the_account_may_not_read_it_does_not_read() {
    if skipped_without_root("reading as another account") {
        return;
    }
    let mut worker = start();
    let secret = worker.job_dir().join("secret");
    put(&secret, b"secret");
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(rule(worker.ask(Root::Job, read("secret", 0, 10))), "file_denied");
}

#[test]
fn only_what_is_signed_for_it_is_done_and_once() {
    let mut worker = start();
    let dir = worker.job_dir();
    let right = worker.next_request(Root::Job, write("made", 0, true, b"x"));
    let wrong: [(&str, FileRequest); 3] = [
        ("another farm's", FileRequest { farm: [9; 16], ..right.clone() }),
        ("another session's", FileRequest { session: 99, ..right.clone() }),
        ("late", FileRequest { not_after: boot_ms().saturating_sub(1000), ..right.clone() }),
    ];
    let mut signed: Vec<_> = wrong.iter().map(|(what, r)| (*what, r.sign(&worker.key))).collect();
    signed.push(("signed by somebody", right.sign(&SecretKey::from_seed(&[8; 32]))));
    let mut changed = right.sign(&worker.key);
    changed.bytes[10] ^= 1;
    signed.push(("changed", changed));
    signed.push(("a batch", worker.next_batch(vec![]).sign(&worker.key)));
    for (what, signed) in signed {
        let (sequence, answer) = worker.ask_signed(&signed);
        assert_eq!((sequence, rule(answer).as_str()), (0, "file_request"), "{what}");
        assert!(!dir.join("made").exists(), "{what}");
    }
    let good = right.sign(&worker.key);
    assert_eq!(worker.ask_signed(&good), (1, FileAnswer::Done));
    std::fs::remove_file(dir.join("made")).unwrap();
    assert_eq!(worker.ask_signed(&good).0, 0, "a second time");
    assert!(!dir.join("made").exists());
}

#[test]
fn it_runs_nothing_and_leaves_when_it_is_told() {
    let mut worker = start();
    let batch = worker.next_batch(vec![]);
    worker.send_signed(&batch.sign(&worker.key));
    worker.until(|events| events.iter().any(|e| matches!(e, Event::BatchRefused { .. })));
    worker.send(&ToSession::Recall { through: u64::MAX, number: 3 });
    worker.until(|events| events.contains(&Event::Recalled { tasks: vec![], answers: 3 }));
    worker.send(&ToSession::Finish);
    worker.until(|events| events.iter().any(|e| matches!(e, Event::Leaving { .. })));
    assert_eq!(worker.exit_code(), Some(0));
    // And one that runs tasks does no file work.
    let mut other = Worker::start(&Options::default());
    other.send(&ToSession::Files);
    other.until(|events| events.iter().any(|e| matches!(e, Event::BatchRefused { .. })));
}

#[test]
fn a_new_worker_takes_it_over_and_one_that_nobody_has_leaves() {
    let mut worker = start();
    worker.replace();
    worker.send(&ToSession::Attach { acked: worker.seen() });
    put(&worker.job_dir().join("f"), b"still here");
    assert_eq!(data(worker.ask(Root::Job, read("f", 0, 100))).0, b"still here");
    worker.vanish();
    assert_eq!(worker.exit_code(), Some(0));
    let options = Options { orphan_limit_ms: 50, files: Some("/nonexistent".into()), ..Options::default() };
    let mut orphan = Worker::start(&options);
    assert_eq!(orphan.exit_code(), Some(0));
}
