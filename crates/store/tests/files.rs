//! What is particular to a store in files: locks, full disks, damaged files, and a process that is killed.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use common::*;
use job::{JobAction, JobState};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use store::{JobFilter, NewJob, Options, Store, StoreError};

#[tokio::test]
async fn a_second_opener_is_refused_by_name() {
    let farm = Farm::fresh().await;
    let error = Store::open(&farm.path()).await.expect_err("in use");
    let StoreError::InUse { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    farm.store.close().await;
    Store::open(&farm.path()).await.expect("free again").close().await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let farm = Farm::fresh().await;
    let id = farm.submit(1).await;
    farm.store.close().await;
    assert!(matches!(farm.store.submit(job(&[1]), T0).await, Err(StoreError::Closed)));
    assert!(matches!(farm.store.job(id).await, Err(StoreError::Closed)));
    farm.store.close().await;
    let again = Store::open(&farm.path()).await.expect("opened again");
    assert_eq!(again.job(id).await.expect("read").expect("kept").state, JobState::Pending);
}

#[tokio::test]
async fn only_its_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let farm = Farm::fresh().await;
    farm.submit(1).await;
    for file in std::fs::read_dir(farm.dir.path()).expect("listed") {
        let file = file.expect("entry");
        let mode = file.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o555)).expect("read-only");
    // Root may write anywhere but in the kernel's own file systems.
    let root = std::fs::write(dir.path().join("probe"), "").is_ok();
    let path = if root { "/sys/store.db".into() } else { dir.path().join("store.db") };
    let error = Store::open(&path).await.expect_err("read-only");
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    let error = Store::open(&dir.path().join("none/store.db")).await.expect_err("no folder");
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
}

#[tokio::test]
async fn another_file_is_not_taken_for_a_store() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = dir.path().join("text");
    std::fs::write(&text, "once upon a time there was a file that was long enough to be looked at ".repeat(100))
        .expect("written");
    let error = Store::open(&text).await.expect_err("text");
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    assert!(std::fs::read_to_string(&text).expect("still there").starts_with("once upon"));

    let other = dir.path().join("other.db");
    let mut conn = by_hand(&other).await;
    sqlx::query("CREATE TABLE songs (title TEXT)").execute(&mut conn).await.expect("made");
    conn.close().await.expect("closed");
    let error = Store::open(&other).await.expect_err("another program's");
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let farm = Farm::fresh().await;
    for _ in 0..200 {
        farm.submit(1).await;
    }
    farm.store.close().await;
    let mut bytes = std::fs::read(farm.path()).expect("read");
    bytes[4096..].fill(0xa5);
    std::fs::write(farm.path(), bytes).expect("damaged");
    let error = match Store::open(&farm.path()).await {
        Err(error) => error,
        Ok(store) => store.jobs(JobFilter { limit: 1000, ..JobFilter::default() }).await.expect_err("damaged"),
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_newer_or_changed_schema_is_left_alone() {
    let farm = Farm::fresh().await;
    farm.store.close().await;
    let mut conn = by_hand(&farm.path()).await;
    let last = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut conn);
    let last: i64 = last.await.expect("read");
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of the future', TRUE, x'00', 0)",
    )
    .execute(&mut conn)
    .await
    .expect("inserted");
    let error = Store::open(&farm.path()).await.expect_err("newer");
    assert!(
        matches!(error, StoreError::NewerSchema { found: 9999, known, .. } if i128::from(known) == i128::from(last)),
        "{error}"
    );
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 9999").execute(&mut conn).await.expect("deleted");
    sqlx::query("UPDATE _sqlx_migrations SET checksum = x'00'").execute(&mut conn).await.expect("changed");
    let error = Store::open(&farm.path()).await.expect_err("changed");
    assert!(matches!(error, StoreError::ChangedSchema { version: 1, .. }), "{error}");
}

/// Jobs of before it was said by what right one runs as another.
#[tokio::test]
async fn an_old_job_with_two_names_was_an_administrators() {
    let farm = Farm::fresh().await;
    let own = farm.store.submit(job(&[1]), 1).await.expect("submitted");
    let as_another = NewJob { user: "render".to_owned(), via: "own".to_owned(), ..job(&[1]) };
    let as_another = farm.store.submit(as_another, 1).await.expect("submitted");
    farm.store.close().await;
    let mut conn = by_hand(&farm.path()).await;
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 9").execute(&mut conn).await.expect("deleted");
    drop(conn);
    let store = Store::open(&farm.path()).await.expect("opened");
    let via = async |id| store.job(id).await.expect("read").expect("a job").via;
    assert_eq!((via(own).await.as_str(), via(as_another).await.as_str()), ("own", "admin"));
}

async fn by_hand(path: &std::path::Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.expect("connected")
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_half_done() {
    let farm = Farm::with(Options { max_pages: Some(84) }).await;
    let big = || NewJob { spec: "x".repeat(20_000), ..job(&[3]) };
    let mut kept = Vec::new();
    let error = loop {
        match farm.store.submit(big(), T0).await {
            Ok(id) => kept.push(id),
            Err(error) => break error,
        }
        assert!(kept.len() < 100, "the disk is never full");
    };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("no space left"), "{error}");
    // All of a group are told, and none is kept.
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (store, new) = (farm.store.clone(), big());
        all.spawn(async move { store.submit(new, T0).await });
    }
    for result in all.join_all().await {
        assert!(matches!(result, Err(StoreError::DiskFull { .. })), "{result:?}");
    }
    let ids = async || -> Vec<u64> {
        let jobs = farm.store.jobs(JobFilter { limit: 1000, ..JobFilter::default() }).await.expect("jobs");
        jobs.iter().rev().map(|j| j.id).collect()
    };
    assert_eq!(ids().await, kept);
    for id in &kept {
        farm.check(*id).await;
    }
    // Space comes back, and it goes on.
    let old = kept.remove(0);
    farm.store.act(old, JobAction::Kill, None, None, T0).await.expect("killed");
    farm.store.delete_job(old).await.expect("deleted");
    kept.push(farm.store.submit(big(), T0).await.expect("there is room again"));
    assert_eq!(ids().await, kept);
}

const CHILD: &str = "STORE_TEST_PATH";

/// Not a test: the process that `what_was_acknowledged_survives_a_kill` starts and kills.
#[tokio::test]
#[ignore = "is started by another test"]
#[expect(clippy::print_stdout, reason = "speaks to the test that started it")]
async fn child_that_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = Store::open(path.as_ref()).await.expect("opened");
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            loop {
                let id = store.submit(job(&[10]), T0).await.expect("job");
                let (session, lease) = store.open_session(session(id), 0, 5, T0).await.expect("opened").expect("work");
                store.report(session, WORKER, 1, complete(&lease), T0).await.expect("reported");
                println!("\ndone {id}");
                std::io::stdout().flush().expect("told");
            }
        });
    }
    writers.join_all().await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    let mut acknowledged: Vec<u64> = Vec::new();
    for round in 1..=3_usize {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--ignored", "--exact", "child_that_is_killed", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        while acknowledged.len() < round * 60 {
            let line = lines.next().expect("goes on").expect("readable");
            acknowledged.extend(line.strip_prefix("done ").and_then(|id| id.parse::<u64>().ok()));
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        acknowledged.extend(lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("done ")?.parse::<u64>().ok()));

        let farm =
            Farm { store: Store::open(&path).await.expect("opened again"), dir: tempfile::tempdir().expect("x") };
        for id in &acknowledged {
            assert_eq!(farm.job(*id).await.counts.complete, 5, "job {id} was acknowledged");
        }
        for job in farm.store.jobs(JobFilter { limit: 100_000, ..JobFilter::default() }).await.expect("jobs") {
            farm.check(job.id).await;
        }
        farm.store.close().await;
    }
}

/// A look at the files as they are between two commits, as a power cut would leave them.
#[tokio::test]
async fn a_copy_taken_in_between_is_whole() {
    let farm = Farm::fresh().await;
    let id = farm.submit(100).await;
    let (session, lease) = farm.open(id, 100).await;
    for (number, index) in (1..).zip(0..100_u64) {
        farm.report_at(session, number, vec![exit(&lease, index, 0)], T0).await;
        if index % 20 != 7 {
            continue;
        }
        let copy = tempfile::tempdir().expect("a folder");
        for file in ["store.db", "store.db-wal"] {
            std::fs::copy(farm.dir.path().join(file), copy.path().join(file)).expect("copied");
        }
        let store = Store::open(&copy.path().join("store.db")).await.expect("opened");
        let then = Farm { store, dir: copy };
        assert_eq!(then.job(id).await.counts.complete, index + 1);
        then.check(id).await;
        let rest = then.report_at(session, number + 1, vec![exit(&lease, index + 1, 0)], T0).await;
        assert_eq!(rest.through, number + 1, "goes on from there");
    }
}
