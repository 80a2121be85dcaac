//! The tables of who may act as whom: what is written comes back, what is written by hand is seen at once, and a row that
//! makes no sense is an error of that row alone.

mod common;

use common::*;
use job::JobState;
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use store::{
    AuditRef, GrantFilter, GrantRow, NewGrant, NewJob, NewToken, NewUser, Store, StoreError, TokenRow, UserRow,
};

/// As an administrator with `sqlite3` would.
async fn by_hand(farm: &Farm) -> SqliteConnection {
    SqliteConnectOptions::new().filename(farm.path()).connect().await.expect("connected")
}

async fn sql(conn: &mut SqliteConnection, text: impl Into<String>) {
    let text = text.into();
    sqlx::query(AssertSqlSafe(text.clone())).execute(conn).await.unwrap_or_else(|e| panic!("{text}: {e}"));
}

#[tokio::test]
async fn a_grant_by_hand_needs_two_names() {
    let farm = Farm::fresh().await;
    let mut hand = by_hand(&farm).await;
    sql(&mut hand, "INSERT INTO grants (login_user, proxy_user) VALUES ('ada', 'render')").await;
    sql(&mut hand, "INSERT INTO users (name, type) VALUES ('render', 'proxy')").await;
    sql(&mut hand, "INSERT INTO users (name) VALUES ('ada')").await;
    sql(&mut hand, "INSERT INTO may_act (who) VALUES ('ada'), ('group:artists'), ('bob')").await;
    sql(&mut hand, "INSERT INTO may_be_acted_as (proxy_user) VALUES ('render')").await;

    let (_, found) = farm.store.identity("ada", Some("render")).await.expect("read");
    let grant = found.grants[0].clone().expect("a good row");
    assert_eq!((grant.id, grant.login_user.as_str(), grant.proxy_user.as_str()), (1, "ada", "render"));
    assert_eq!((grant.state.as_str(), grant.seal, grant.approved_by), ("active", None, None));
    let login = found.login.expect("there").expect("a good row");
    assert_eq!((login.kind.as_str(), login.roles.as_str(), login.disabled), ("login", "", false));
    assert_eq!(found.target.expect("there").expect("a good row").kind, "proxy");
    let lists = [Ok(("ada".into(), true)), Ok(("group:artists".into(), true))];
    assert_eq!((found.may_act.as_slice(), found.may_be_acted_as), (&lists[..], Some(Ok(true))));
    assert_eq!(found.association, None);
}

#[tokio::test]
async fn a_question_has_the_rows_of_its_pair_and_no_others() {
    let farm = Farm::fresh().await;
    let mut hand = by_hand(&farm).await;
    sql(
        &mut hand,
        "INSERT INTO grants (login_user, proxy_user, state) VALUES ('group:b', 'render', 'active'), \
         ('ada', 'render', 'revoked'), ('bob', 'render', 'active'), ('ada', 'sim', 'active'), \
         ('groups', 'render', 'active'), ('group', 'render', 'active'), ('ada', 'render', 'requested'), \
         ('Ada', 'render', 'active'), ('*', 'render', 'active'), ('', 'render', 'active'), ('ada', '*', 'active')",
    )
    .await;
    let ids = async |login: &str, target: Option<&str>| -> Vec<u64> {
        let (_, found) = farm.store.identity(login, target).await.expect("read");
        found.grants.into_iter().map(|g| g.expect("good").id).collect()
    };
    assert_eq!(ids("ada", Some("render")).await, [1, 2, 7]);
    assert_eq!(ids("group:b", Some("render")).await, [1], "once");
    assert_eq!(ids("ada", None).await, [0_u64; 0]);
    let (_, nobody) = farm.store.identity("nobody", Some("nowhere")).await.expect("read");
    assert_eq!(nobody, store::IdentityRows::default());

    // The association names the target; one that is named goes before it.
    sql(&mut hand, "INSERT INTO associations (login_user, proxy_user, grant_id) VALUES ('ada', 'sim', 4)").await;
    sql(&mut hand, "INSERT INTO users (name, type) VALUES ('sim', 'proxy')").await;
    assert_eq!(ids("ada", None).await, [4]);
    assert_eq!(ids("ada", Some("render")).await, [1, 2, 7]);
    let (_, found) = farm.store.identity("ada", None).await.expect("read");
    assert_eq!(found.target.expect("there").expect("good").name, "sim");
    let association = found.association.expect("there").expect("good");
    assert_eq!((association.proxy_user.as_str(), association.grant_id, association.since), ("sim", Some(4), None));

    let of = async |filter: GrantFilter| -> Vec<u64> {
        let rows = farm.store.grants(filter).await.expect("read");
        rows.into_iter().map(|g| g.expect("good").id).collect()
    };
    let all = GrantFilter { limit: 100, ..GrantFilter::default() };
    let ada = || Some("ada".to_owned());
    assert_eq!(of(all.clone()).await, (1..=11).collect::<Vec<_>>());
    assert_eq!(of(GrantFilter { login_user: ada(), ..all.clone() }).await, [2, 4, 7, 11]);
    assert_eq!(of(GrantFilter { login_user: ada(), after: Some(4), limit: 1, ..all.clone() }).await, [7]);
    assert_eq!(of(GrantFilter { login_user: ada(), proxy_user: Some("sim".into()), ..all.clone() }).await, [4]);
    let active = GrantFilter { proxy_user: Some("render".into()), state: Some("active".into()), ..all };
    assert_eq!(of(active).await, [1, 3, 5, 6, 8, 9, 10]);
    let groups = ["a".to_owned(), "b".to_owned()];
    let rows = farm.store.grants_for("ada", &groups).await.expect("read");
    assert_eq!(rows.into_iter().map(|g| g.expect("good").id).collect::<Vec<_>>(), [4, 7, 11, 1]);
}

/// Another process changes rows: the next question sees it, and the stamp has moved.
#[tokio::test]
async fn a_hand_edit_is_seen_by_the_next_question() {
    let farm = Farm::fresh().await;
    let mut hand = by_hand(&farm).await;
    let mut last = farm.store.identity_stamp().await.expect("a stamp");
    let changes = [
        "INSERT INTO users (name) VALUES ('ada')",
        "UPDATE users SET disabled = TRUE",
        "DELETE FROM users",
        "INSERT INTO may_act (who) VALUES ('ada')",
        "UPDATE may_act SET allowed = FALSE",
        "REPLACE INTO may_act (who) VALUES ('ada')",
        "DELETE FROM may_act",
        "INSERT INTO may_be_acted_as (proxy_user) VALUES ('render')",
        "UPDATE may_be_acted_as SET allowed = FALSE",
        "DELETE FROM may_be_acted_as",
        "INSERT INTO grants (login_user, proxy_user) VALUES ('ada', 'render')",
        "UPDATE OR IGNORE grants SET valid_until = '2020-01-01T00:00:00Z'",
        "INSERT OR REPLACE INTO grants (id, login_user, proxy_user) VALUES (1, 'ada', 'render')",
        "DELETE FROM grants",
        "INSERT INTO associations (login_user, proxy_user) VALUES ('ada', 'render')",
        "UPDATE associations SET proxy_user = 'sim'",
        "DELETE FROM associations",
    ];
    let (_, mut before) = farm.store.identity("ada", Some("render")).await.expect("read");
    for change in changes {
        sql(&mut hand, change).await;
        let now = farm.store.identity_stamp().await.expect("a stamp");
        assert!(now.n > last.n && now.outside, "{change}: {last:?} to {now:?}");
        let (of_it, after) = farm.store.identity("ada", Some("render")).await.expect("read");
        assert_eq!(of_it, now, "{change}: what is read is of the moment its stamp says");
        // What SQL replaced by the same is the same.
        assert!(after != before, "{change}: {after:?}");
        (last, before) = (now, after);
    }
    sql(&mut hand, "INSERT INTO tokens (hash, kind, login_user) VALUES (x'00', 'token', 'ada')").await;
    sql(&mut hand, "UPDATE tokens SET last_used_at = '2026-01-01T00:00:00Z'").await;
    sql(&mut hand, "INSERT INTO accounts (name) VALUES ('ada')").await;
    sql(&mut hand, "DELETE FROM tokens").await;
    let over = "(x'01', 'token', '2026-01-01T00:00:00Z', NULL), (x'02', 'token', NULL, '2026-01-01T00:00:00Z')";
    sql(&mut hand, &format!("INSERT INTO tokens (hash, kind, expires_at, revoked_at) VALUES {over}")).await;
    sql(&mut hand, "DELETE FROM tokens").await;
    assert_eq!(farm.store.identity_stamp().await.expect("a stamp"), last, "decisions aren't made of these");
    // All but the last use of a token, and the end of one that was over, in order and as it was.
    let told = farm.store.outside(100).await.expect("read");
    assert_eq!(told.len(), changes.len() + 5, "{told:#?}");
    let of_tokens: Vec<_> =
        told.iter().filter(|t| t.table == "tokens").map(|t| (t.op.as_str(), t.row.as_str())).collect();
    assert_eq!(of_tokens, [("insert", "1"), ("delete", "1"), ("insert", "2"), ("insert", "3")]);
    assert_eq!((told[1].table.as_str(), told[1].op.as_str(), told[1].row.as_str()), ("users", "update", "'ada'"));
    let (before, after) = (told[1].before.clone().expect("before"), told[1].after.clone().expect("after"));
    assert!(before.contains("disabled=0") && after.contains("disabled=1"), "{before} / {after}");
    assert!(told.windows(2).all(|two| two[0].n < two[1].n));
    farm.store.settle_outside(told[told.len() - 2].n, Vec::new()).await.expect("settled");
    assert_eq!(farm.store.outside(100).await.expect("read"), told[told.len() - 1..]);
    farm.store.settle_outside(told[told.len() - 1].n, Vec::new()).await.expect("settled");
    assert!(!farm.store.identity_stamp().await.expect("a stamp").outside);
    let gone = sqlx::query("DELETE FROM identity_changes").execute(&mut hand).await.expect_err("refused");
    assert!(gone.to_string().contains("has to stay"), "{gone}");
    sql(&mut hand, "UPDATE identity_changes SET n = 'x'").await;
    farm.store.identity_stamp().await.expect_err("no number is no stamp");
    farm.store.identity("ada", Some("render")).await.expect_err("nor is anything read without one");
}

/// A table, a good row of it as (column, value), and for each column whether it may be NULL.
struct Shape {
    table: &'static str,
    row: &'static [(&'static str, &'static str)],
    nullable: &'static [&'static str],
    numbers: &'static [&'static str],
}

const SHAPES: [Shape; 6] = [
    Shape {
        table: "users",
        row: &[
            ("name", "'ada'"),
            ("type", "'login'"),
            ("roles", "'admin,auditor'"),
            ("disabled", "0"),
            ("note", "'n'"),
            ("environment", "'{}'"),
            ("working_root", "'/w'"),
            ("workers", "'gpu'"),
            ("default_cpus_milli", "1000"),
            ("max_cpus_milli", "8000"),
            ("default_memory", "1"),
            ("max_memory", "9223372036854775807"),
            ("answers", "'bob'"),
            ("created_at", "'2026-01-01T00:00:00Z'"),
            ("created_by", "'root'"),
        ],
        nullable: &[
            "note",
            "environment",
            "working_root",
            "workers",
            "default_cpus_milli",
            "max_cpus_milli",
            "default_memory",
            "max_memory",
            "answers",
            "created_at",
            "created_by",
        ],
        numbers: &["disabled", "default_cpus_milli", "max_cpus_milli", "default_memory", "max_memory"],
    },
    Shape { table: "may_act", row: &[("who", "'ada'"), ("allowed", "1")], nullable: &[], numbers: &["allowed"] },
    Shape {
        table: "may_be_acted_as",
        row: &[("proxy_user", "'render'"), ("allowed", "1")],
        nullable: &[],
        numbers: &["allowed"],
    },
    Shape {
        table: "grants",
        row: &[
            ("login_user", "'ada'"),
            ("proxy_user", "'render'"),
            ("given_by", "'bob'"),
            ("given_at", "'t'"),
            ("reason", "'r'"),
            ("valid_from", "'f'"),
            ("valid_until", "'u'"),
            ("workers", "'w'"),
            ("jobs", "'j'"),
            ("state", "'active'"),
            ("requested_by", "'q'"),
            ("approved_by", "'a'"),
            ("approved_at", "'at'"),
            ("ended_by", "'e'"),
            ("ended_at", "'ea'"),
            ("seal", "'s'"),
        ],
        nullable: &[
            "given_by",
            "given_at",
            "reason",
            "valid_from",
            "valid_until",
            "workers",
            "jobs",
            "requested_by",
            "approved_by",
            "approved_at",
            "ended_by",
            "ended_at",
            "seal",
        ],
        numbers: &[],
    },
    Shape {
        table: "associations",
        row: &[("login_user", "'ada'"), ("proxy_user", "'render'"), ("grant_id", "1"), ("since", "'t'")],
        nullable: &["grant_id", "since"],
        numbers: &["grant_id"],
    },
    Shape {
        table: "tokens",
        row: &[
            ("kind", "'token'"),
            ("login_user", "'ada'"),
            ("name", "'n'"),
            ("scopes", "'read'"),
            ("acting_as", "'render'"),
            ("job", "1"),
            ("client", "'c'"),
            ("created_at", "'t'"),
            ("expires_at", "'t'"),
            ("last_used_at", "'t'"),
            ("revoked_at", "'t'"),
        ],
        nullable: &[
            "name",
            "scopes",
            "acting_as",
            "job",
            "client",
            "created_at",
            "expires_at",
            "last_used_at",
            "revoked_at",
        ],
        numbers: &["job"],
    },
];

/// The one row of `table` that a question finds, as what it is or why it can't be had.
async fn the_row(store: &Store, table: &str) -> Option<Result<String, String>> {
    fn shown<T: std::fmt::Debug>(row: store::Raw<T>) -> Result<String, String> {
        row.map(|r| format!("{r:?}")).map_err(|e| e.to_string())
    }
    let (_, found) = store.identity("ada", Some("render")).await.expect("the query never fails");
    match table {
        "users" => found.login.map(shown),
        "may_act" => found.may_act.into_iter().next().map(shown),
        "may_be_acted_as" => found.may_be_acted_as.map(shown),
        "grants" => found.grants.into_iter().next().map(shown),
        "associations" => found.association.map(shown),
        _ => store.tokens("ada").await.expect("the query never fails").into_iter().next().map(shown),
    }
}

#[tokio::test]
async fn garbage_of_every_kind_is_an_error_of_its_row() {
    let farm = Farm::fresh().await;
    let mut hand = by_hand(&farm).await;
    for shape in &SHAPES {
        let table = shape.table;
        let names: Vec<&str> = shape.row.iter().map(|(name, _)| *name).collect();
        let values: Vec<&str> = shape.row.iter().map(|(_, value)| *value).collect();
        sql(&mut hand, format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", "))).await;
        let good = the_row(&farm.store, table).await.expect("found").expect("a good row");
        for (column, value) in shape.row {
            // What the row is found by can't be wrong and found.
            if ["name", "who", "login_user", "proxy_user"].contains(column)
                && table != "associations"
                && table != "tokens"
                || (table, *column) == ("associations", "login_user")
                || (table, *column) == ("tokens", "login_user")
            {
                continue;
            }
            let is_number = shape.numbers.contains(column);
            let garbage: &[&str] = if is_number {
                &["'lots'", "x'ff00'", "1.5", "-1", "CAST(x'ff' AS TEXT)", "9e99", "''", "'1 000'"]
            } else {
                &["x'ff00'", "x'616461'", "CAST(x'ff' AS TEXT)", "x''"]
            };
            for wrong in garbage {
                sql(&mut hand, format!("UPDATE {table} SET {column} = {wrong}")).await;
                let bad = the_row(&farm.store, table).await.unwrap_or_else(|| panic!("{table}.{column} = {wrong}"));
                let error = bad.expect_err(&format!("{table}.{column} = {wrong}"));
                assert!(error.contains(table) && error.contains(&format!(": {column} is ")), "{error}");
            }
            sql(&mut hand, format!("UPDATE {table} SET {column} = NULL")).await;
            let empty = the_row(&farm.store, table).await.expect("found");
            assert_eq!(empty.is_ok(), shape.nullable.contains(column), "{table}.{column} = NULL: {empty:?}");
            sql(&mut hand, format!("UPDATE {table} SET {column} = {value}")).await;
            assert_eq!(the_row(&farm.store, table).await, Some(Ok(good.clone())), "{table}.{column} is good again");
        }
    }
}

#[tokio::test]
async fn text_comes_back_as_it_stands() {
    let farm = Farm::fresh().await;
    let mut hand = by_hand(&farm).await;
    for text in ["*", "", " ", "ACTIVE", "active\n", "active\0", "αβγ", "'; DROP TABLE grants; --", "%", "NULL", "5"]
    {
        sqlx::query("INSERT INTO grants (login_user, proxy_user, state, reason) VALUES ('ada', 'render', $1, $1)")
            .bind(text)
            .execute(&mut hand)
            .await
            .expect("inserted");
        let (_, found) = farm.store.identity("ada", Some("render")).await.expect("read");
        let grant = found.grants.last().expect("there").clone().expect("it is text");
        assert_eq!((grant.state.as_str(), grant.reason.as_deref()), (text, Some(text)));
    }
    sql(&mut hand, "UPDATE grants SET state = 5 WHERE id = 1").await;
    let grant = farm.store.grant(1).await.expect("read").expect("there").expect("text by its column");
    assert_eq!(grant.state, "5");
}

/// One bad row beside good ones: those are there.
#[tokio::test]
async fn a_bad_row_spoils_no_list() {
    let farm = Farm::fresh().await;
    let mut hand = by_hand(&farm).await;
    sql(
        &mut hand,
        "INSERT INTO grants (id, login_user, proxy_user, reason) VALUES (-3, 'ada', 'render', ''), (0, 'ada', 'render', ''), \
         (5, 'ada', 'render', x'00'), (6, 'ada', 'render', 'fine'), (7, NULL, 'render', ''), (8, x'616461', 'render', '')",
    )
    .await;
    let found = farm.store.identity("ada", Some("render")).await.expect("read").1.grants;
    assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, false, false, true]);
    let all = farm.store.grants(GrantFilter { limit: 9, ..GrantFilter::default() }).await.expect("read");
    let bad: Vec<String> =
        all.iter().filter_map(|g| g.as_ref().err()).map(|b| format!("{} {}", b.key, b.column)).collect();
    assert_eq!(bad, ["-3 id", "0 id", "5 reason", "7 login_user", "8 login_user"]);
    let error = all[2].as_ref().expect_err("bad").to_string();
    assert_eq!(error, "table grants, row 5: reason is a blob, and must be text or NULL");

    sql(&mut hand, "INSERT INTO users (name, disabled) VALUES ('ada', 'maybe'), ('bob', 0), (NULL, 0), (x'ff', 0)")
        .await;
    let users = farm.store.users(9, None).await.expect("read");
    assert_eq!(users.len(), 4);
    assert_eq!(users.iter().filter(|u| u.is_ok()).count(), 1);
    let error = users[1].as_ref().expect_err("bad").to_string();
    let said =
        "table users, row \"ada\": disabled is the text \"maybe\", and must be TRUE or FALSE (1 or 0, without quotes)";
    assert_eq!(error, said);
    let rest = farm.store.users(9, Some("ada")).await.expect("read");
    assert_eq!(rest.into_iter().map(|u| u.expect("good").name).collect::<Vec<_>>(), ["bob"]);
    sql(&mut hand, "INSERT INTO accounts (name, password) VALUES ('ada', x'7365637265742d31')").await;
    let error = farm.store.account("ada").await.expect("read").expect("there").expect_err("bad").to_string();
    assert_eq!(error, "table accounts, row \"ada\": password is a blob, and must be text");
}

#[tokio::test]
async fn a_job_knows_by_what_right_it_carries_its_name() {
    let farm = Farm::fresh().await;
    let own = farm.submit(1).await;
    let by = async |login: &str, user: &str, via: &str, grant: Option<u64>| {
        let new = NewJob { login_user: login.into(), user: user.into(), via: via.into(), grant, ..job(&[1]) };
        farm.store.submit(new, T0).await.expect("job")
    };
    let ada = by("ada", "render", "grant", Some(7)).await;
    let bob = by("bob", "render", "grant", Some(9)).await;
    let forced = by("ada", "render", "impersonate", None).await;
    let row = farm.job(own).await;
    assert_eq!((row.grant, row.via.as_str()), (None, "own"));
    let row = farm.job(ada).await;
    assert_eq!((row.grant, row.via.as_str()), (Some(7), "grant"));
    let ready = farm.store.ready(9, T0).await.expect("ready");
    let seen: Vec<_> = ready.iter().map(|r| (r.job, r.grant, r.via.as_str(), r.name.as_str())).collect();
    let all = [(own, None, "own"), (ada, Some(7), "grant"), (bob, Some(9), "grant"), (forced, None, "impersonate")];
    assert_eq!(seen, all.map(|(id, grant, via)| (id, grant, via, "render")));

    let of = async |login: Option<&str>, states: &[JobState], after: Option<u64>| -> Vec<u64> {
        let jobs = farm.store.jobs_of_pair(login, "render", states, 9, after).await.expect("read");
        jobs.into_iter().map(|j| j.id).collect()
    };
    assert_eq!(of(Some("ada"), &[], None).await, [ada]);
    assert_eq!(of(None, &[JobState::Pending], None).await, [bob, ada]);
    assert_eq!(of(None, &[JobState::Pending], Some(bob)).await, [ada]);
    farm.store.block_with_reason(ada, "its grant ended".into(), T0).await.expect("blocked");
    assert_eq!(of(None, &[JobState::Pending], None).await, [bob]);
}

// --- writing

fn audit(sequence: u64) -> Option<AuditRef> {
    Some(AuditRef { chain: "audit".into(), sequence, hash: [7; 32] })
}

async fn is_audited(farm: &Farm, sequence: u64) -> bool {
    farm.store.audited("audit", sequence).await.expect("read").is_some()
}

fn grant() -> NewGrant {
    NewGrant {
        login_user: "ada".into(),
        proxy_user: "render".into(),
        given_by: Some("root".into()),
        reason: Some("nightly".into()),
        valid_from: Some("2026-01-01T00:00:00Z".into()),
        valid_until: Some("2026-12-31T00:00:00Z".into()),
        workers: Some("gpu".into()),
        jobs: Some("night-*".into()),
        state: "requested".into(),
        requested_by: Some("ada".into()),
    }
}

/// All of the row but the seal, as a real one would be made.
fn seal(row: &GrantRow) -> String {
    format!("{:?}", GrantRow { seal: None, ..row.clone() })
}

async fn grant_of(farm: &Farm, id: u64) -> GrantRow {
    farm.store.grant(id).await.expect("read").expect("there").expect("a good row")
}

#[tokio::test]
async fn a_grant_is_asked_for_approved_and_ended_under_seal() {
    let farm = Farm::fresh().await;
    let id = farm.store.add_grant(grant(), seal, audit(1), T0).await.expect("added");
    let row = grant_of(&farm, id).await;
    let asked = GrantRow {
        id,
        login_user: "ada".into(),
        proxy_user: "render".into(),
        given_by: Some("root".into()),
        given_at: Some("2023-11-14T22:13:20Z".into()),
        reason: Some("nightly".into()),
        valid_from: Some("2026-01-01T00:00:00Z".into()),
        valid_until: Some("2026-12-31T00:00:00Z".into()),
        workers: Some("gpu".into()),
        jobs: Some("night-*".into()),
        state: "requested".into(),
        requested_by: Some("ada".into()),
        approved_by: None,
        approved_at: None,
        ended_by: None,
        ended_at: None,
        seal: None,
    };
    assert_eq!(row, GrantRow { seal: Some(seal(&asked)), ..asked.clone() });

    let until = T0 + 3600 * SECOND + 999_999;
    assert!(farm.store.approve_grant(id, "bob", seal, audit(2), until).await.expect("approved"));
    let row = grant_of(&farm, id).await;
    let approved = GrantRow {
        state: "active".into(),
        approved_by: Some("bob".into()),
        approved_at: Some("2023-11-14T23:13:20Z".into()),
        ..asked
    };
    assert_eq!(row, GrantRow { seal: Some(seal(&approved)), ..approved.clone() });

    assert!(farm.store.end_grant(id, "eve", seal, audit(3), T0).await.expect("ended"));
    let ended = GrantRow {
        state: "revoked".into(),
        ended_by: Some("eve".into()),
        ended_at: Some("2023-11-14T22:13:20Z".into()),
        ..approved
    };
    let ended = GrantRow { seal: Some(seal(&ended)), ..ended };
    assert_eq!(grant_of(&farm, id).await, ended);
    assert!(!farm.store.end_grant(id, "mallory", seal, audit(4), until).await.expect("once"));
    assert!(!farm.store.approve_grant(id, "mallory", seal, audit(5), until).await.expect("not any more"));
    assert_eq!(grant_of(&farm, id).await, ended, "who ended it first stays");
    for sequence in 1..=5 {
        assert!(is_audited(&farm, sequence).await, "{sequence}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_grant_decides_what_can_be_done_with_it() {
    let farm = Farm::fresh().await;
    let error = farm.store.end_grant(9, "bob", seal, audit(1), T0).await.expect_err("none");
    assert!(matches!(error, StoreError::NoSuchGrant(9)), "{error}");
    farm.store.approve_grant(9, "bob", seal, audit(1), T0).await.expect_err("none");
    assert!(!is_audited(&farm, 1).await, "what didn't happen isn't kept as done");

    // Made by hand, it can be approved as it is, which seals it.
    let mut hand = by_hand(&farm).await;
    sql(&mut hand, "INSERT INTO grants (login_user, proxy_user) VALUES ('ada', 'render')").await;
    assert!(farm.store.approve_grant(1, "bob", seal, None, T0).await.expect("approved"));
    let row = grant_of(&farm, 1).await;
    assert_eq!(row.seal, Some(seal(&row)));

    // One that can't be read can be ended but not approved; nor can one in a state that is none.
    sql(&mut hand, "UPDATE grants SET reason = x'ff'").await;
    let error = farm.store.approve_grant(1, "bob", seal, None, T0).await.expect_err("bad");
    assert!(error.to_string().contains("reason is a blob"), "{error}");
    assert!(farm.store.end_grant(1, "bob", seal, None, T0).await.expect("ended"));
    sql(&mut hand, "UPDATE grants SET reason = NULL").await;
    let row = grant_of(&farm, 1).await;
    assert_eq!((row.state.as_str(), row.seal), ("revoked", None));
    for state in ["'Active'", "NULL"] {
        sql(&mut hand, format!("INSERT INTO grants (login_user, proxy_user, state) VALUES ('a', 'b', {state})")).await;
    }
    assert!(!farm.store.approve_grant(2, "bob", seal, None, T0).await.expect("no such state"));
    farm.store.approve_grant(3, "bob", seal, None, T0).await.expect_err("NULL is no state");
    for id in [2, 3] {
        assert!(farm.store.end_grant(id, "bob", seal, None, T0).await.expect("ended"));
        assert_eq!(grant_of(&farm, id).await.state, "revoked");
    }
    // Numbers are not used again.
    sql(&mut hand, "DELETE FROM grants").await;
    assert_eq!(farm.store.add_grant(grant(), seal, None, T0).await.expect("added"), 4);
}

/// The last number there is, written by hand: said as such and not as a full disk, and put right as the text says.
#[tokio::test]
async fn a_table_that_has_no_more_numbers_says_so() {
    let farm = Farm::fresh().await;
    let store = &farm.store;
    let mut hand = by_hand(&farm).await;
    let last = i64::MAX;
    let insert = [
        ("grants", format!("INSERT INTO grants (id, login_user, proxy_user) VALUES ({last}, 'ada', 'render')")),
        ("tokens", format!("INSERT INTO tokens (id, hash, kind, login_user) VALUES ({last}, x'00', 'token', 'ada')")),
    ];
    for (table, by_hand) in insert {
        let add = async |n: u8| match table {
            "grants" => store.add_grant(grant(), seal, audit(n.into()), T0).await,
            _ => store.add_token(token(n), audit(u64::from(n) + 100), T0).await,
        };
        let first = add(1).await.unwrap_or_else(|e| panic!("{table}: {e}"));
        sql(&mut hand, by_hand).await;
        for n in [2, 3] {
            let error = add(n).await.expect_err("no number is left");
            assert!(matches!(error, StoreError::NoNumbers { table: of, row } if (of, row) == (table, last)), "{error}");
            assert!(error.to_string().contains(&format!("row {last} of the table {table}")), "{error}");
            assert!(!error.is_unavailable(), "the store itself is well");
            let sequence = u64::from(n) + if table == "grants" { 0 } else { 100 };
            assert!(!is_audited(&farm, sequence).await, "{table}: what wasn't done isn't kept as done");
        }
        // Without its row the number was given all the same.
        sql(&mut hand, format!("DELETE FROM {table} WHERE id = {last}")).await;
        add(4).await.expect_err("numbers are not used again");
        sql(&mut hand, store::numbers_again(table)).await;
        assert_eq!(add(5).await.expect("added"), first + 1, "{table}");
        // A row that got such a number later, too.
        sql(&mut hand, format!("UPDATE {table} SET id = {last} WHERE id = {first}")).await;
        add(6).await.expect_err("no number is left");
        sql(&mut hand, format!("UPDATE {table} SET id = {first} WHERE id = {last}")).await;
        assert_eq!(add(7).await.expect("added"), first + 2, "{table}");
    }
}

/// A note that was written while somebody was disabled doesn't enable them again.
#[tokio::test]
async fn what_somebody_else_changed_meanwhile_is_not_undone() {
    let farm = Farm::fresh().await;
    let store = &farm.store;
    let ada = || NewUser { name: "ada".into(), kind: "login".into(), ..NewUser::default() };
    let row = async || store.user("ada").await.expect("read").map(|row| row.expect("good"));
    store.change_user(ada(), None, None, T0).await.expect("there was none");
    let was = row().await;
    store.change_user(NewUser { disabled: true, ..ada() }, was.clone(), None, T0).await.expect("as it was");
    let noted = || NewUser { note: Some("late".into()), ..ada() };
    for was in [was, None] {
        let error = store.change_user(noted(), was, audit(1), T0).await.expect_err("changed meanwhile");
        assert!(matches!(&error, StoreError::ChangedMeanwhile(name) if name == "ada"), "{error}");
    }
    let is = row().await.expect("there");
    assert_eq!((is.disabled, is.note), (true, None));
}

#[tokio::test]
async fn an_act_and_its_audit_record_are_kept_together() {
    let farm = Farm::fresh().await;
    let store = &farm.store;
    let ada = || NewUser { name: "ada".into(), kind: "login".into(), ..NewUser::default() };
    store.put_user(ada(), audit(1), T0).await.expect("put");
    let stamp = store.identity_stamp().await.expect("a stamp");
    // The number is taken: nothing of the act may stay.
    let refused = [
        store.put_user(NewUser { roles: "admin".into(), ..ada() }, audit(1), T0).await.err(),
        store.add_user(NewUser { name: "bob".into(), ..ada() }, audit(1), T0).await.err(),
        store.delete_user("ada", audit(1)).await.err(),
        store.set_may_act("ada", true, audit(1)).await.err(),
        store.set_may_be_acted_as("render", true, audit(1)).await.err(),
        store.add_grant(grant(), seal, audit(1), T0).await.err(),
        store.set_association("ada", "render", None, audit(1), T0).await.err(),
        store.clear_association("ada", audit(1)).await.err(),
        store.add_token(token(1), audit(1), T0).await.err(),
        store.revoke_tokens_of("ada", audit(1), T0).await.err(),
        store.put_account("ada", "phc", audit(1), T0).await.err(),
        store.delete_account("ada", audit(1)).await.err(),
    ];
    for (n, error) in refused.iter().enumerate() {
        assert!(matches!(error, Some(StoreError::AuditTaken { .. })), "{n}: {error:?}");
    }
    assert_eq!(store.identity_stamp().await.expect("a stamp"), stamp);
    assert!(store.tokens("ada").await.expect("read").is_empty());
    assert_eq!(store.account("ada").await.expect("read"), None);
    let row = store.user("ada").await.expect("read").expect("stays").expect("good");
    assert_eq!(row.roles, "");
}

#[tokio::test]
async fn users_and_lists_are_kept() {
    let farm = Farm::fresh().await;
    let store = &farm.store;
    let render = NewUser {
        name: "render".into(),
        kind: "proxy".into(),
        roles: String::new(),
        disabled: false,
        note: Some("the farm's".into()),
        environment: Some("{\"A\":\"b\"}".into()),
        working_root: Some("/mnt/r".into()),
        workers: Some("linux".into()),
        default_cpus_milli: Some(1),
        max_cpus_milli: Some(2),
        default_memory: Some(3),
        max_memory: Some(4),
        answers: Some("bob,eve".into()),
        created_by: Some("root".into()),
    };
    store.put_user(render.clone(), None, T0).await.expect("put");
    let row = store.user("render").await.expect("read").expect("there").expect("good");
    let first = UserRow {
        name: "render".into(),
        kind: "proxy".into(),
        roles: String::new(),
        disabled: false,
        note: Some("the farm's".into()),
        environment: Some("{\"A\":\"b\"}".into()),
        working_root: Some("/mnt/r".into()),
        workers: Some("linux".into()),
        default_cpus_milli: Some(1),
        max_cpus_milli: Some(2),
        default_memory: Some(3),
        max_memory: Some(4),
        answers: Some("bob,eve".into()),
        created_at: Some("2023-11-14T22:13:20Z".into()),
        created_by: Some("root".into()),
    };
    assert_eq!(row, first);

    // A first sign-in never overwrites what an administrator set.
    let plain = NewUser { name: "render".into(), kind: "login".into(), ..NewUser::default() };
    assert!(!store.add_user(plain.clone(), None, T0).await.expect("there is one"));
    assert_eq!(store.user("render").await.expect("read"), Some(Ok(first.clone())));
    // Replaced as a whole, but for its making.
    store
        .put_user(NewUser { disabled: true, created_by: Some("eve".into()), ..plain }, None, T0 * 2)
        .await
        .expect("put");
    let row = store.user("render").await.expect("read").expect("there").expect("good");
    let replaced = UserRow {
        kind: "login".into(),
        disabled: true,
        created_at: first.created_at,
        created_by: first.created_by,
        note: None,
        environment: None,
        working_root: None,
        workers: None,
        default_cpus_milli: None,
        max_cpus_milli: None,
        default_memory: None,
        max_memory: None,
        answers: None,
        ..row.clone()
    };
    assert_eq!(row, replaced);
    let large = NewUser { max_memory: Some(u64::MAX), ..render };
    assert!(matches!(store.put_user(large, None, T0).await, Err(StoreError::TooLarge { .. })), "never a smaller limit");
    assert!(store.delete_user("render", None).await.expect("deleted"));
    assert!(!store.delete_user("render", None).await.expect("gone"));
    assert_eq!(store.user("render").await.expect("read"), None);

    for allowed in [true, false, true] {
        store.set_may_act("group:artists", allowed, None).await.expect("set");
        store.set_may_be_acted_as("render", allowed, None).await.expect("set");
        let (_, found) = store.identity("ada", Some("render")).await.expect("read");
        assert_eq!(found.may_act, [Ok(("group:artists".to_owned(), allowed))]);
        assert_eq!(found.may_be_acted_as, Some(Ok(allowed)));
    }
}

const IN_2100: i64 = 4_102_444_800_000_000;

/// What the supervisor does itself is nobody else's doing, also beside and after what is.
#[tokio::test]
async fn own_changes_are_told_from_others() {
    let farm = Farm::fresh().await;
    let store = &farm.store;
    let own = async |n: u64| {
        let name = format!("p{n}");
        store.put_user(NewUser { name: name.clone(), kind: "proxy".into(), ..NewUser::default() }, None, T0).await?;
        store.set_may_act("ada", true, None).await?;
        store.set_may_be_acted_as(&name, true, None).await?;
        let id = store.add_grant(grant(), seal, None, T0).await?;
        store.approve_grant(id, "root", seal, None, T0).await?;
        store.set_association("ada", &name, Some(id), None, T0).await?;
        store.end_grant(id, "root", seal, None, T0).await?;
        store.clear_association("ada", None).await?;
        let token = store.add_token(token(u8::try_from(n).expect("small")), None, T0).await?;
        store.revoke_token(token, None, None, T0).await?;
        let far = "2099-01-01T00:00:00Z".to_owned();
        store.add_token(NewToken { expires_at: Some(far), ..self::token(100) }, None, T0).await?;
        assert_eq!(store.forget_tokens(IN_2100).await?, 2);
        store.put_account(&name, "phc", None, T0).await?;
        store.delete_account(&name, None).await?;
        farm.store.unlist(store::List::MayAct, "ada", None).await?;
        store.delete_user(&name, None).await
    };
    own(1).await.expect("done");
    assert_eq!(store.outside(9).await.expect("read"), []);
    let mut hand = by_hand(&farm).await;
    sql(&mut hand, "INSERT INTO may_act (who) VALUES ('eve')").await;
    own(2).await.expect("done");
    sql(&mut hand, "INSERT INTO accounts (name, password) VALUES ('eve', x'00')").await;
    sql(&mut hand, "UPDATE accounts SET password = 'phc'").await;
    let told = store.outside(9).await.expect("read");
    let told: Vec<_> = told.iter().map(|t| (t.table.as_str(), t.op.as_str(), t.row.as_str())).collect();
    let expected = [("may_act", "insert", "'eve'"), ("accounts", "insert", "'eve'"), ("accounts", "update", "'eve'")];
    assert_eq!(told, expected);
    let told = store.outside(9).await.expect("read");
    assert_ne!(told[2].before, told[2].after, "another password shows");
    assert!(told[2].differs);
    assert!(!format!("{told:?}").contains("phc"), "and is not shown");
    // A seal that is taken off is the supervisor's doing.
    let id = store.add_grant(grant(), seal, None, T0).await.expect("added");
    store.settle_outside(told[2].n, vec![id, 999]).await.expect("settled");
    assert_eq!(store.outside(9).await.expect("read"), []);
    assert_eq!(store.grant(id).await.expect("read").expect("there").expect("good").seal, None);
}

/// Whoever writes by hand writes what SQLite keeps: bytes that are no text, and as many as they like.
#[tokio::test]
async fn what_is_no_text_is_told_all_the_same() {
    let farm = Farm::fresh().await;
    let mut hand = by_hand(&farm).await;
    sql(&mut hand, "INSERT INTO users (name, note) VALUES ('ada', CAST(x'66fc72' AS TEXT))").await;
    sql(&mut hand, "UPDATE users SET note = hex(zeroblob(1000000))").await;
    sql(&mut hand, "UPDATE users SET note = note || 'x'").await;
    sql(&mut hand, "UPDATE users SET note = note").await;
    sql(&mut hand, "INSERT INTO may_act (who) VALUES (CAST(x'fc' AS TEXT))").await;
    let grant = "INSERT INTO grants (login_user, proxy_user, seal) VALUES ('ada', CAST(x'fc' AS TEXT), ";
    sql(&mut hand, &format!("{grant} CAST(x'fc' AS TEXT))")).await;
    sql(&mut hand, &format!("{grant} NULL)")).await;
    sql(&mut hand, "INSERT INTO identity_journal (of_table, op, row_key) VALUES (x'fc', x'fc', x'fc')").await;
    let told = farm.store.outside(100).await.expect("read");
    let all: Vec<_> = told.iter().map(|t| (t.table.as_str(), t.row.as_str(), t.differs, t.sealed)).collect();
    let expected = [
        ("users", "'ada'", true, true),
        ("users", "'ada'", true, true),
        ("users", "'ada'", true, true),
        ("users", "'ada'", false, true),
        ("may_act", "'\u{fffd}'", true, true),
        ("grants", "1", true, true),
        ("grants", "2", true, false),
        ("\u{fffd}", "\u{fffd}", false, false),
    ];
    assert_eq!(all, expected);
    assert!(told[0].after.as_ref().expect("after").contains("note='f\u{fffd}r'"), "{told:?}");
    assert!(told[2].after.as_ref().expect("after").len() <= 4096, "as long as it takes to say what it is about");
}

#[tokio::test]
async fn a_login_user_acts_as_one_at_a_time() {
    let farm = Farm::fresh().await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..20_u64 {
        let store = farm.store.clone();
        all.spawn(async move {
            let former = store.set_association("ada", &format!("proxy{n}"), Some(n + 1), None, T0).await.expect("set");
            (n, former.map(|f| f.expect("good").proxy_user))
        });
    }
    // Each replaced another one: the formers and the last are all of them.
    let mut seen: Vec<Option<String>> = all.join_all().await.into_iter().map(|(_, former)| former).collect();
    let rows = farm.store.associations(None).await.expect("read");
    assert_eq!(rows.len(), 1);
    let last = rows[0].clone().expect("good");
    assert_eq!(last.proxy_user, format!("proxy{}", last.grant_id.expect("a grant") - 1));
    seen.push(Some(last.proxy_user.clone()));
    seen.sort();
    let mut expected: Vec<Option<String>> = (0..20).map(|n| Some(format!("proxy{n}"))).collect();
    expected.push(None);
    expected.sort();
    assert_eq!(seen, expected);

    farm.store.set_association("bob", &last.proxy_user, None, None, T0).await.expect("set");
    assert_eq!(farm.store.associations(Some(&last.proxy_user)).await.expect("read").len(), 2);
    assert_eq!(farm.store.associations(Some("nobody")).await.expect("read").len(), 0);
    assert_eq!(farm.store.clear_association("ada", None).await.expect("cleared"), Some(Ok(last)));
    assert_eq!(farm.store.clear_association("ada", None).await.expect("cleared"), None);
    assert_eq!(farm.store.associations(None).await.expect("read").len(), 1, "bob's stays");
    // One that can't be read is said, and can be taken away.
    let mut hand = by_hand(&farm).await;
    sql(&mut hand, "UPDATE associations SET proxy_user = x'00'").await;
    assert!(farm.store.clear_association("bob", None).await.expect("cleared").expect("there").is_err());
    assert_eq!(farm.store.associations(None).await.expect("read").len(), 0);
}

fn token(n: u8) -> NewToken {
    NewToken { hash: [n; 32], kind: "token".into(), login_user: "ada".into(), ..NewToken::default() }
}

#[tokio::test]
async fn tokens_are_found_by_their_hash_until_they_are_revoked() {
    let farm = Farm::fresh().await;
    let store = &farm.store;
    let of_job = NewToken {
        kind: "job".into(),
        name: Some("n".into()),
        scopes: Some("read,submit".into()),
        acting_as: Some("render".into()),
        job: Some(5),
        session: Some(7),
        client: Some("10.0.0.1".into()),
        uid: Some(1501),
        expires_at: Some("2026-01-01T00:00:00Z".into()),
        ..token(1)
    };
    let first = store.add_token(of_job, None, T0).await.expect("added");
    let second = store.add_token(token(2), None, T0).await.expect("added");
    let third = store.add_token(NewToken { login_user: "bob".into(), ..token(3) }, None, T0).await.expect("added");
    store.add_token(token(2), None, T0).await.expect_err("a hash is one token's");
    let of = async |n: u8| store.token_by_hash(&[n; 32]).await.expect("read").map(|t| t.expect("good"));
    let row = of(1).await.expect("there");
    let expected = TokenRow {
        id: first,
        kind: "job".into(),
        login_user: "ada".into(),
        name: Some("n".into()),
        scopes: Some("read,submit".into()),
        acting_as: Some("render".into()),
        job: Some(5),
        session: Some(7),
        client: Some("10.0.0.1".into()),
        uid: Some(1501),
        created_at: Some("2023-11-14T22:13:20Z".into()),
        expires_at: Some("2026-01-01T00:00:00Z".into()),
        last_used_at: None,
        revoked_at: None,
    };
    assert_eq!(row, expected);
    assert_eq!(of(9).await, None);
    let ids: Vec<u64> = store.tokens("ada").await.expect("read").into_iter().map(|t| t.expect("good").id).collect();
    assert_eq!(ids, [first, second]);

    store.touch_tokens(&[(first, T0 + 60 * SECOND), (second, T0), (99, T0)]).await.expect("touched");
    store.touch_tokens(&[(first, T0)]).await.expect("touched");
    assert_eq!(of(1).await.expect("there").last_used_at.as_deref(), Some("2023-11-14T22:14:20Z"), "never goes back");

    assert!(!store.revoke_token(third, Some("ada"), None, T0).await.expect("not hers"));
    assert_eq!(of(3).await.expect("there").revoked_at, None);
    assert!(store.revoke_token(third, Some("bob"), None, T0).await.expect("his"));
    assert!(!store.revoke_token(third, None, None, T0 + SECOND).await.expect("once"));
    assert_eq!(of(3).await.expect("there").revoked_at.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(store.revoke_tokens_of_job(5, None, T0).await.expect("revoked"), 1);
    assert!(of(1).await.expect("there").revoked_at.is_some());
    assert_eq!(of(2).await.expect("there").revoked_at, None);
    assert_eq!(store.revoke_tokens_of("ada", None, T0).await.expect("revoked"), 1, "what wasn't yet");
    assert_eq!(store.revoke_tokens_of("ada", None, T0).await.expect("revoked"), 0);
}

#[tokio::test]
async fn an_account_has_a_password_that_is_never_shown() {
    let farm = Farm::fresh().await;
    let store = &farm.store;
    let of = async |name: &str| store.account(name).await.expect("read").map(|a| a.expect("good"));
    store.put_account("ada", "$argon2id$secret", None, T0).await.expect("put");
    let row = of("ada").await.expect("there");
    assert_eq!((row.password.as_str(), row.disabled), ("$argon2id$secret", false));
    assert_eq!(row.changed_at.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert!(!format!("{row:?}").contains("secret"));
    let mut hand = by_hand(&farm).await;
    sql(&mut hand, "UPDATE accounts SET disabled = TRUE").await;
    store.put_account("ada", "$argon2id$other", None, T0 + 60 * SECOND).await.expect("put");
    let row = of("ada").await.expect("there");
    assert_eq!((row.password.as_str(), row.disabled), ("$argon2id$other", true), "a new password lets nobody in again");
    assert!(store.delete_account("ada", None).await.expect("deleted"));
    assert!(!store.delete_account("ada", None).await.expect("gone"));
    assert_eq!(of("ada").await, None);
}

/// Changes of one act and what another connection writes at the same time don't lose one another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_may_write_while_the_farm_does() {
    const EACH: u64 = 100;
    let farm = Farm::fresh().await;
    let mut hand = by_hand(&farm).await;
    let store = farm.store.clone();
    let ours = tokio::spawn(async move {
        for _ in 0..EACH {
            store.add_grant(grant(), seal, None, T0).await.expect("added");
        }
    });
    for _ in 0..EACH {
        sql(&mut hand, "INSERT INTO grants (login_user, proxy_user) VALUES ('bob', 'render')").await;
    }
    ours.await.expect("done");
    let all = farm.store.grants(GrantFilter { limit: 1000, ..GrantFilter::default() }).await.expect("read");
    let by: Vec<GrantRow> = all.into_iter().map(|g| g.expect("good")).collect();
    assert_eq!(by.iter().filter(|g| g.login_user == "bob").count() as u64, EACH);
    let ours: Vec<&GrantRow> = by.iter().filter(|g| g.login_user == "ada").collect();
    assert_eq!(ours.len() as u64, EACH);
    assert!(ours.iter().all(|g| g.seal == Some(seal(g))));
}

const MANUAL: &str = include_str!("../../../docs/identity.md");

/// The part of the manual about one table.
fn section(table: &str) -> Option<&'static str> {
    let (_, rest) = MANUAL.split_once(&format!("\n### {table}\n"))?;
    Some(rest.split_once("\n### ").map_or(rest, |(section, _)| section))
}

#[tokio::test]
async fn the_manual_names_every_column_and_its_statements_work() {
    let farm = Farm::fresh().await;
    let mut hand = by_hand(&farm).await;
    for table in ["users", "may_act", "may_be_acted_as", "grants", "associations", "tokens", "accounts"] {
        let section = section(table).unwrap_or_else(|| panic!("no section on {table}"));
        let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info($1)")
            .bind(table)
            .fetch_all(&mut hand)
            .await
            .expect("columns");
        let named: Vec<&str> = section.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(named, columns, "{table}");
        let statements = section.split("```sql").nth(1).and_then(|s| s.split("```").next()).expect("an example");
        sql(&mut hand, statements).await;
    }
    let (_, found) = farm.store.identity("ada", Some("render")).await.expect("read");
    assert_eq!(grant_of(&farm, 1).await.state, "revoked");
    assert_eq!(grant_of(&farm, 2).await.valid_until.as_deref(), Some("2026-11-30T18:00:00Z"));
    let render = found.target.expect("there").expect("good");
    assert_eq!((render.kind.as_str(), render.max_memory), ("proxy", Some(16 << 30)));
    assert_eq!((found.may_act.len(), found.may_be_acted_as), (2, Some(Ok(true))));
}
