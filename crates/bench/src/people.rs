//! What a decision costs among 100,000 users and 1,000,000 grants, with and without what is read for it.
//!
//! The store is a real one on the disk, its grants carry the supervisor's seals, and the reading is the supervisor's own:
//! the stamp, the rows, their seals, the host's word on the proxy user. Each decision of a measurement is about somebody
//! else, so that nothing was remembered of them.

use anyhow::{Context as _, Result, ensure};
use policy::{Accept, Channel, Decision, LoginUser, Place, Principal, Roles, Scopes};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, SqliteConnection};
use std::path::Path;
use std::time::Instant;
use store::{GrantRow, Store};
use supervisor::measure::Decisions;
use warrant::Mode;

pub(crate) const USERS: u64 = 100_000;
pub(crate) const GRANTS: u64 = 1_000_000;
/// Users of type proxy: every hundredth.
const PROXIES: u64 = 1_000;
/// Every hundredth grant is a group's: ten for each proxy user.
const GROUPS: u64 = 100;
/// Rows per statement.
const AT_ONCE: u64 = 10_000;

/// Microseconds of each decision.
pub(crate) struct Measured {
    pub(crate) pure: Vec<f64>,
    pub(crate) with_reads: Vec<f64>,
    pub(crate) remembered: Vec<f64>,
}

pub(crate) fn measure(decisions: u64) -> Result<Measured> {
    let dir = tempfile::Builder::new().prefix("stead-bench-people-").tempdir_in("/var/tmp")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measured(dir.path(), decisions))
}

async fn measured(dir: &Path, decisions: u64) -> Result<Measured> {
    let path = dir.join("store.db");
    // Lays the tables out.
    Store::open(&path).await?.close().await;
    {
        let scratch = Store::open(&dir.join("scratch.db")).await?;
        let seals = Decisions::new(scratch.clone(), dir)?;
        let mut conn = SqliteConnectOptions::new().filename(&path).connect().await?;
        fill(&mut conn, &seals).await.context("failed to fill the store")?;
        scratch.close().await;
    }
    let store = Store::open(&path).await?;
    let folder = dir.join("own");
    std::fs::create_dir(&folder)?;
    std::fs::copy(dir.join("seal.key"), folder.join("seal.key"))?;
    let decider = Decisions::new(store.clone(), &folder)?;
    let place = place();
    let (mut pure, mut with_reads, mut remembered) = (vec![], vec![], vec![]);
    // The first ones pay for what every process pays for once: connections, statements, the host's name service.
    for (n, pair) in pairs(decisions + 100).into_iter().enumerate() {
        let principal = principal(&pair.0)?;
        let decide = |people: &policy::People| {
            let decision = Decisions::decide(&principal, &pair.1, "comp", &place, people);
            ensure!(matches!(decision, Some(Decision::Run(..))), "{pair:?} was refused: {decision:?}");
            Ok(())
        };
        let at = Instant::now();
        decide(&*decider.people(&pair.0, &pair.1).await?)?;
        let whole = micros(at);
        let at = Instant::now();
        let people = decider.people(&pair.0, &pair.1).await?;
        decide(&people)?;
        let again = micros(at);
        let at = Instant::now();
        decide(&people)?;
        let alone = micros(at);
        if n >= 100 {
            with_reads.push(whole);
            remembered.push(again);
            pure.push(alone);
        }
    }
    store.close().await;
    Ok(Measured { pure, with_reads, remembered })
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

/// Login users far apart from one another, each with one of their proxy users: another page of every index each time.
fn pairs(count: u64) -> Vec<(String, String)> {
    let grant = |n: u64| {
        let id = (n * 7_368_787) % GRANTS + 1;
        if id.is_multiple_of(GROUPS) { id + 1 } else { id }
    };
    (0..count).map(|n| (holder(grant(n)), proxy(grant(n)))).collect()
}

/// Who holds a grant: each login user ten of them, each of another proxy user.
fn holder(id: u64) -> String {
    if id.is_multiple_of(GROUPS) {
        format!("group:department{}", id / GROUPS % 500)
    } else {
        format!("artist{}", id % USERS)
    }
}

fn proxy(id: u64) -> String {
    format!("show{}", (id / USERS * 97 + id % USERS) % PROXIES)
}

fn grant(id: u64) -> GrantRow {
    GrantRow {
        id,
        login_user: holder(id),
        proxy_user: proxy(id),
        given_by: Some("lead".into()),
        given_at: Some("2026-01-01T00:00:00Z".into()),
        reason: Some("works on the show".into()),
        valid_from: None,
        valid_until: Some("2030-01-01T00:00:00Z".into()),
        workers: None,
        jobs: None,
        state: "active".into(),
        requested_by: None,
        approved_by: None,
        approved_at: None,
        ended_by: None,
        ended_at: None,
        seal: None,
    }
}

async fn fill(conn: &mut SqliteConnection, seals: &Decisions) -> Result<()> {
    sqlx::query("PRAGMA synchronous = off").execute(&mut *conn).await?;
    let people = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < $1 - 1) \
                  INSERT INTO users (name, type) SELECT $2 || i, $3 FROM n";
    for (count, name, kind) in [(USERS - PROXIES, "artist", "login"), (PROXIES, "show", "proxy")] {
        sqlx::query(people).bind(i64::try_from(count)?).bind(name).bind(kind).execute(&mut *conn).await?;
    }
    let lists = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < $1 - 1) ";
    let may_act = format!("{lists} INSERT INTO may_act (who) SELECT 'artist' || i FROM n");
    let may_be = format!("{lists} INSERT INTO may_be_acted_as (proxy_user) SELECT 'show' || i FROM n");
    for (sql, count) in [(may_act, USERS), (may_be, PROXIES)] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(i64::try_from(count)?).execute(&mut *conn).await?;
    }
    let rows = "INSERT INTO grants (id, login_user, proxy_user, given_by, given_at, reason, valid_until, state, seal) \
                SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8 \
                FROM json_each($1)";
    for from in (1..=GRANTS).step_by(usize::try_from(AT_ONCE)?) {
        let rows_of = (from..from + AT_ONCE).map(|id| {
            let row = grant(id);
            let seal = seals.seal(&row);
            serde_json::json!([
                row.id,
                row.login_user,
                row.proxy_user,
                row.given_by,
                row.given_at,
                row.reason,
                row.valid_until,
                row.state,
                seal
            ])
        });
        let text = serde_json::Value::Array(rows_of.collect()).to_string();
        sqlx::query(rows).bind(text).execute(&mut *conn).await?;
    }
    // As if the supervisor had written it all.
    sqlx::query("DELETE FROM identity_journal").execute(&mut *conn).await?;
    Ok(())
}

fn principal(name: &str) -> Result<Principal> {
    Ok(Principal {
        login_user: LoginUser::parse(name)?,
        uid: None,
        roles: Roles::default(),
        is_operator: false,
        channel: Channel::Tcp,
        client: "192.0.2.7".into(),
        credential: Some(1),
        scopes: Scopes::ALL,
        source: "session 1".into(),
    })
}

fn place() -> Place {
    Place {
        worker: "lin-07".into(),
        labels: vec!["linux".into(), "gpu".into()],
        mode: Mode::User,
        proxy_account: None,
        owner: None,
        accept: Accept::Any,
        panic: None,
        drained: false,
        online: true,
        excluded: Vec::new(),
        logons: None,
    }
}
