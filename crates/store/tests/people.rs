//! The tables of who may act as whom: what is written comes back, what is written by hand is seen at once, and a row that
//! makes no sense is an error of that row alone.

mod common;

use common::*;
use job::JobState;
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use store::{GrantFilter, NewJob, Store};

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

    let found = farm.store.identity("ada", Some("render")).await.expect("read");
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
        let found = farm.store.identity(login, target).await.expect("read");
        found.grants.into_iter().map(|g| g.expect("good").id).collect()
    };
    assert_eq!(ids("ada", Some("render")).await, [1, 2, 7]);
    assert_eq!(ids("group:b", Some("render")).await, [1], "once");
    assert_eq!(ids("ada", None).await, [0_u64; 0]);
    let nobody = farm.store.identity("nobody", Some("nowhere")).await.expect("read");
    assert_eq!(nobody, store::IdentityRows::default());

    // The association names the target; one that is named goes before it.
    sql(&mut hand, "INSERT INTO associations (login_user, proxy_user, grant_id) VALUES ('ada', 'sim', 4)").await;
    sql(&mut hand, "INSERT INTO users (name, type) VALUES ('sim', 'proxy')").await;
    assert_eq!(ids("ada", None).await, [4]);
    assert_eq!(ids("ada", Some("render")).await, [1, 2, 7]);
    let found = farm.store.identity("ada", None).await.expect("read");
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
    let mut before = farm.store.identity("ada", Some("render")).await.expect("read");
    for change in changes {
        sql(&mut hand, change).await;
        let now = farm.store.identity_stamp().await.expect("a stamp");
        assert!(now > last, "{change}: {last} to {now}");
        let after = farm.store.identity("ada", Some("render")).await.expect("read");
        // What SQL replaced by the same is the same.
        assert!(after != before, "{change}: {after:?}");
        (last, before) = (now, after);
    }
    sql(&mut hand, "INSERT INTO tokens (hash, kind, login_user) VALUES (x'00', 'token', 'ada')").await;
    sql(&mut hand, "UPDATE tokens SET last_used_at = '2026-01-01T00:00:00Z'").await;
    sql(&mut hand, "INSERT INTO accounts (name) VALUES ('ada')").await;
    assert_eq!(farm.store.identity_stamp().await.expect("a stamp"), last, "decisions aren't made of these");
    let gone = sqlx::query("DELETE FROM identity_changes").execute(&mut hand).await.expect_err("refused");
    assert!(gone.to_string().contains("has to stay"), "{gone}");
    sql(&mut hand, "UPDATE identity_changes SET n = 'x'").await;
    farm.store.identity_stamp().await.expect_err("no number is no stamp");
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
    let found = store.identity("ada", Some("render")).await.expect("the query never fails");
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
        let found = farm.store.identity("ada", Some("render")).await.expect("read");
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
    let found = farm.store.identity("ada", Some("render")).await.expect("read").grants;
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
