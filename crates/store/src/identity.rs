//! Who may act as whom, read. The tables are edited by hand, too: see `cell`.

use job::JobState;
use sqlx::{Connection as _, Row as _, query};

use crate::cell::{Cells, Raw, Table};
use crate::convert::{get, i, unknown};
use crate::dialect::{Conn, Row};
use crate::people::List;
use crate::people::{AccountRow, AssociationRow, GrantFilter, GrantRow, IdentityRows, Stamp, TokenRow, UserRow};
use crate::{JobRow, Result, Store};

/// A table, and a macro of its columns for statements.
macro_rules! table {
    ($table:ident, $columns:ident, $name:literal, $first:literal $(, $column:literal)*) => {
        pub(crate) const $table: Table = Table { name: $name, columns: &[$first $(, $column)*] };
        macro_rules! $columns {
            () => { concat!($first $(, ", ", $column)*) };
        }
    };
}

table!(
    USERS,
    user_columns,
    "users",
    "name",
    "type",
    "roles",
    "disabled",
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
    "created_by"
);
table!(MAY_ACT, may_act_columns, "may_act", "who", "allowed");
table!(MAY_BE_ACTED_AS, may_be_columns, "may_be_acted_as", "proxy_user", "allowed");
table!(
    GRANTS,
    grant_columns,
    "grants",
    "id",
    "login_user",
    "proxy_user",
    "given_by",
    "given_at",
    "reason",
    "valid_from",
    "valid_until",
    "workers",
    "jobs",
    "state",
    "requested_by",
    "approved_by",
    "approved_at",
    "ended_by",
    "ended_at",
    "seal"
);
table!(ASSOCIATIONS, association_columns, "associations", "login_user", "proxy_user", "grant_id", "since");
table!(
    TOKENS,
    token_columns,
    "tokens",
    "id",
    "kind",
    "login_user",
    "name",
    "scopes",
    "acting_as",
    "job",
    "session",
    "client",
    "uid",
    "created_at",
    "expires_at",
    "last_used_at",
    "revoked_at"
);
table!(ACCOUNTS, account_columns, "accounts", "name", "password", "disabled", "changed_at");

/// As whom: the one named, or the one of the association.
macro_rules! target {
    () => {
        "COALESCE($2, (SELECT proxy_user FROM associations WHERE login_user = $1))"
    };
}

macro_rules! stamp_columns {
    () => {
        "n, EXISTS (SELECT 1 FROM identity_journal)"
    };
}

/// Fills a row of two columns up to those of a grant.
macro_rules! nulls {
    () => {
        ", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL"
    };
}

/// The statement that reads all of one question, so that it is of one moment and one way to the database. Each branch
/// says first what it is, and is filled up to the columns of the widest. What begins with `group:` lies between that
/// and `group;`.
const IDENTITY: &str = concat!(
    "SELECT 'stamp', ",
    stamp_columns!(),
    nulls!(),
    " FROM identity_changes WHERE id = 1 ",
    "UNION ALL SELECT 'login', ",
    user_columns!(),
    ", NULL, NULL FROM users WHERE name = $1 ",
    "UNION ALL SELECT 'target', ",
    user_columns!(),
    ", NULL, NULL FROM users WHERE name = ",
    target!(),
    " UNION ALL SELECT 'may_act', ",
    may_act_columns!(),
    nulls!(),
    " FROM may_act WHERE who = $1 ",
    "UNION ALL SELECT 'may_act', ",
    may_act_columns!(),
    nulls!(),
    " FROM may_act WHERE who >= 'group:' AND who < 'group;' AND who <> $1 ",
    "UNION ALL SELECT 'may_be_acted_as', ",
    may_be_columns!(),
    nulls!(),
    " FROM may_be_acted_as WHERE proxy_user = ",
    target!(),
    " UNION ALL SELECT 'grant', ",
    grant_columns!(),
    " FROM grants WHERE login_user = $1 AND proxy_user = ",
    target!(),
    " UNION ALL SELECT 'grant', ",
    grant_columns!(),
    " FROM grants WHERE login_user >= 'group:' AND login_user < 'group;' AND login_user <> $1 AND proxy_user = ",
    target!(),
    " UNION ALL SELECT 'association', ",
    association_columns!(),
    ", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL ",
    "FROM associations WHERE login_user = $1"
);

impl Store {
    /// What now holds.
    pub async fn identity_stamp(&self) -> Result<Stamp> {
        stamp(&mut *self.reader().await?).await.map_err(|e| self.explain(e))
    }

    /// All that it is decided by whether the login user may act as `target`, or, without one, as whom he is associated
    /// with; and the stamp of that moment.
    pub async fn identity(&self, login_user: &str, target: Option<&str>) -> Result<(Stamp, IdentityRows)> {
        identity(&mut *self.reader().await?, login_user, target).await.map_err(|e| self.explain(e))
    }

    pub async fn user(&self, name: &str) -> Result<Option<Raw<UserRow>>> {
        user(&mut *self.reader().await?, name).await.map_err(|e| self.explain(e))
    }

    /// By name, from behind `after` on. Rows whose name isn't text are on the first page, or nowhere.
    pub async fn users(&self, limit: u32, after: Option<&str>) -> Result<Vec<Raw<UserRow>>> {
        users(&mut *self.reader().await?, limit, after).await.map_err(|e| self.explain(e))
    }

    /// All of one of the two lists, by name, and whether they may.
    pub async fn listed(&self, list: List) -> Result<Vec<Raw<(String, bool)>>> {
        listed(&mut *self.reader().await?, list).await.map_err(|e| self.explain(e))
    }

    pub async fn grant(&self, id: u64) -> Result<Option<Raw<GrantRow>>> {
        grant(&mut *self.reader().await?, id).await.map_err(|e| self.explain(e))
    }

    pub async fn grants(&self, filter: GrantFilter) -> Result<Vec<Raw<GrantRow>>> {
        grants(&mut *self.reader().await?, filter).await.map_err(|e| self.explain(e))
    }

    /// All grants to a login user, or to one of these groups (named without `group:`), that weren't revoked.
    pub async fn grants_for(&self, login_user: &str, groups: &[String]) -> Result<Vec<Raw<GrantRow>>> {
        let mut reader = self.reader().await?;
        let mut moment = reader.begin().await.map_err(|e| self.explain(e.into()))?;
        grants_for(&mut moment, login_user, groups).await.map_err(|e| self.explain(e))
    }

    /// All, or those with one proxy user; by login user.
    pub async fn associations(&self, proxy_user: Option<&str>) -> Result<Vec<Raw<AssociationRow>>> {
        associations(&mut *self.reader().await?, proxy_user).await.map_err(|e| self.explain(e))
    }

    /// Revoked and expired ones, too.
    pub async fn token_by_hash(&self, hash: &[u8; 32]) -> Result<Option<Raw<TokenRow>>> {
        token_by_hash(&mut *self.reader().await?, hash).await.map_err(|e| self.explain(e))
    }

    pub async fn token(&self, id: u64) -> Result<Option<Raw<TokenRow>>> {
        token(&mut *self.reader().await?, id).await.map_err(|e| self.explain(e))
    }

    pub async fn tokens(&self, login_user: &str) -> Result<Vec<Raw<TokenRow>>> {
        tokens(&mut *self.reader().await?, login_user).await.map_err(|e| self.explain(e))
    }

    pub async fn account(&self, name: &str) -> Result<Option<Raw<AccountRow>>> {
        account(&mut *self.reader().await?, name).await.map_err(|e| self.explain(e))
    }

    /// Jobs that run as `user` by a grant: those of one login user, or of all (a group's grant serves many). Newest
    /// first, and older than `after`.
    pub async fn jobs_of_pair(
        &self,
        login_user: Option<&str>,
        user: &str,
        states: &[JobState],
        limit: u32,
        after: Option<u64>,
    ) -> Result<Vec<JobRow>> {
        let filter = crate::JobFilter {
            user: Some(user.to_owned()),
            login_user: login_user.map(str::to_owned),
            states: states.to_vec(),
            limit,
            after,
            reach: None,
        };
        crate::read::jobs_by_grant(&mut *self.reader().await?, filter).await.map_err(|e| self.explain(e))
    }
}

async fn stamp(conn: &mut Conn) -> Result<Stamp> {
    let row = query(concat!("SELECT ", stamp_columns!(), " FROM identity_changes WHERE id = 1"));
    stood(row.fetch_optional(&mut *conn).await?.as_ref().and_then(|row| stamp_at(row, 0)))
}

fn stamp_at(row: &Row, first: usize) -> Option<Stamp> {
    Some(Stamp { n: row.try_get(first).ok()?, outside: row.try_get(first + 1).ok()? })
}

/// Whoever keeps something as long as the stamp stands still must not go on doing so without one.
fn stood(stamp: Option<Stamp>) -> Result<Stamp> {
    stamp.ok_or_else(|| unknown("the count of identity changes", "no number"))
}

async fn identity(conn: &mut Conn, login_user: &str, target: Option<&str>) -> Result<(Stamp, IdentityRows)> {
    let rows = query(IDENTITY).bind(login_user).bind(target).fetch_all(&mut *conn).await?;
    let (mut stamp, mut found) = (None, IdentityRows::default());
    for row in &rows {
        let of = |table| Cells { row, table, first: 1 };
        match get::<&str, _>(row, 0)? {
            "stamp" => stamp = stamp_at(row, 1),
            "login" => found.login = Some(user_row(&of(&USERS))),
            "target" => found.target = Some(user_row(&of(&USERS))),
            "may_act" => found.may_act.push(may_act_row(&of(&MAY_ACT))),
            "may_be_acted_as" => found.may_be_acted_as = Some(of(&MAY_BE_ACTED_AS).flag("allowed")),
            "grant" => found.grants.push(grant_row(&of(&GRANTS))),
            "association" => found.association = Some(association_row(&of(&ASSOCIATIONS))),
            other => return Err(unknown("a part of an identity", other)),
        }
    }
    found.grants.sort_by_key(|g| g.as_ref().map_or(0, |g| g.id));
    Ok((stood(stamp)?, found))
}

fn whole<'r>(row: &'r Row, table: &'static Table) -> Cells<'r> {
    Cells { row, table, first: 0 }
}

pub(crate) fn user_row(cells: &Cells<'_>) -> Raw<UserRow> {
    Ok(UserRow {
        name: cells.text("name")?,
        kind: cells.text("type")?,
        roles: cells.text("roles")?,
        disabled: cells.flag("disabled")?,
        note: cells.text_or_null("note")?,
        environment: cells.text_or_null("environment")?,
        working_root: cells.text_or_null("working_root")?,
        workers: cells.text_or_null("workers")?,
        default_cpus_milli: cells.number_or_null("default_cpus_milli")?,
        max_cpus_milli: cells.number_or_null("max_cpus_milli")?,
        default_memory: cells.number_or_null("default_memory")?,
        max_memory: cells.number_or_null("max_memory")?,
        answers: cells.text_or_null("answers")?,
        created_at: cells.text_or_null("created_at")?,
        created_by: cells.text_or_null("created_by")?,
    })
}

fn may_act_row(cells: &Cells<'_>) -> Raw<(String, bool)> {
    Ok((cells.text("who")?, cells.flag("allowed")?))
}

pub(crate) fn grant_row(cells: &Cells<'_>) -> Raw<GrantRow> {
    Ok(GrantRow {
        id: cells.id("id")?,
        login_user: cells.text("login_user")?,
        proxy_user: cells.text("proxy_user")?,
        given_by: cells.text_or_null("given_by")?,
        given_at: cells.text_or_null("given_at")?,
        reason: cells.text_or_null("reason")?,
        valid_from: cells.text_or_null("valid_from")?,
        valid_until: cells.text_or_null("valid_until")?,
        workers: cells.text_or_null("workers")?,
        jobs: cells.text_or_null("jobs")?,
        state: cells.text("state")?,
        requested_by: cells.text_or_null("requested_by")?,
        approved_by: cells.text_or_null("approved_by")?,
        approved_at: cells.text_or_null("approved_at")?,
        ended_by: cells.text_or_null("ended_by")?,
        ended_at: cells.text_or_null("ended_at")?,
        seal: cells.text_or_null("seal")?,
    })
}

pub(crate) fn association_row(cells: &Cells<'_>) -> Raw<AssociationRow> {
    Ok(AssociationRow {
        login_user: cells.text("login_user")?,
        proxy_user: cells.text("proxy_user")?,
        grant_id: cells.number_or_null("grant_id")?,
        since: cells.text_or_null("since")?,
    })
}

fn token_row(cells: &Cells<'_>) -> Raw<TokenRow> {
    Ok(TokenRow {
        id: cells.id("id")?,
        kind: cells.text("kind")?,
        login_user: cells.text("login_user")?,
        name: cells.text_or_null("name")?,
        scopes: cells.text_or_null("scopes")?,
        acting_as: cells.text_or_null("acting_as")?,
        job: cells.number_or_null("job")?,
        session: cells.number_or_null("session")?,
        client: cells.text_or_null("client")?,
        uid: cells.uid_or_null("uid")?,
        created_at: cells.text_or_null("created_at")?,
        expires_at: cells.text_or_null("expires_at")?,
        last_used_at: cells.text_or_null("last_used_at")?,
        revoked_at: cells.text_or_null("revoked_at")?,
    })
}

fn account_row(cells: &Cells<'_>) -> Raw<AccountRow> {
    Ok(AccountRow {
        name: cells.text("name")?,
        password: cells.text("password")?,
        disabled: cells.flag("disabled")?,
        changed_at: cells.text_or_null("changed_at")?,
    })
}

async fn user(conn: &mut Conn, name: &str) -> Result<Option<Raw<UserRow>>> {
    let row = query(USER).bind(name).fetch_optional(&mut *conn).await?;
    Ok(row.map(|row| user_row(&whole(&row, &USERS))))
}

async fn users(conn: &mut Conn, limit: u32, after: Option<&str>) -> Result<Vec<Raw<UserRow>>> {
    let all = concat!("SELECT ", user_columns!(), " FROM users ORDER BY name LIMIT $1");
    // Blobs are behind every text: they would be on every page.
    let behind = concat!(
        "SELECT ",
        user_columns!(),
        " FROM users WHERE name > $2 AND typeof(name) = 'text' ORDER BY name LIMIT $1"
    );
    let select = match after {
        None => query(all).bind(i64::from(limit)),
        Some(after) => query(behind).bind(i64::from(limit)).bind(after),
    };
    let rows = select.fetch_all(&mut *conn).await?;
    Ok(rows.iter().map(|row| user_row(&whole(row, &USERS))).collect())
}

async fn listed(conn: &mut Conn, list: List) -> Result<Vec<Raw<(String, bool)>>> {
    let may_act = concat!("SELECT ", may_act_columns!(), " FROM may_act ORDER BY who");
    let may_be = concat!("SELECT ", may_be_columns!(), " FROM may_be_acted_as ORDER BY proxy_user");
    let (select, table, name) = match list {
        List::MayAct => (may_act, &MAY_ACT, "who"),
        List::MayBeActedAs => (may_be, &MAY_BE_ACTED_AS, "proxy_user"),
    };
    let rows = query(select).fetch_all(&mut *conn).await?;
    let read = |row| {
        let cells = whole(row, table);
        Ok((cells.text(name)?, cells.flag("allowed")?))
    };
    Ok(rows.iter().map(read).collect())
}

async fn grant(conn: &mut Conn, id: u64) -> Result<Option<Raw<GrantRow>>> {
    let row = query(GRANT).bind(i(id)).fetch_optional(&mut *conn).await?;
    Ok(row.map(|row| grant_row(&whole(&row, &GRANTS))))
}

pub(crate) const USER: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE name = $1");

pub(crate) const GRANT: &str = concat!("SELECT ", grant_columns!(), " FROM grants WHERE id = $1");

/// The statement for each combination of names: an index serves each.
macro_rules! grants_where {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            grant_columns!(),
            " FROM grants WHERE id > $1 AND ($2 IS NULL OR state = $2)",
            $condition,
            " ORDER BY id LIMIT $3"
        )
    };
}

async fn grants(conn: &mut Conn, filter: GrantFilter) -> Result<Vec<Raw<GrantRow>>> {
    let sql = match (&filter.login_user, &filter.proxy_user) {
        (None, None) => grants_where!(""),
        (Some(_), None) => grants_where!(" AND login_user = $4"),
        (None, Some(_)) => grants_where!(" AND proxy_user = $4"),
        (Some(_), Some(_)) => grants_where!(" AND login_user = $4 AND proxy_user = $5"),
    };
    let mut select = query(sql).bind(filter.after.map_or(i64::MIN, i)).bind(filter.state).bind(i64::from(filter.limit));
    for name in filter.login_user.into_iter().chain(filter.proxy_user) {
        select = select.bind(name);
    }
    let rows = select.fetch_all(&mut *conn).await?;
    Ok(rows.iter().map(|row| grant_row(&whole(row, &GRANTS))).collect())
}

async fn grants_for(conn: &mut Conn, login_user: &str, groups: &[String]) -> Result<Vec<Raw<GrantRow>>> {
    let mut found = Vec::new();
    let groups = groups.iter().map(|group| format!("group:{group}"));
    for holder in std::iter::once(login_user.to_owned()).chain(groups) {
        let rows = query(concat!(
            "SELECT ",
            grant_columns!(),
            " FROM grants WHERE login_user = $1 AND state IS DISTINCT FROM 'revoked' ORDER BY id"
        ))
        .bind(holder)
        .fetch_all(&mut *conn)
        .await?;
        found.extend(rows.iter().map(|row| grant_row(&whole(row, &GRANTS))));
    }
    Ok(found)
}

async fn associations(conn: &mut Conn, proxy_user: Option<&str>) -> Result<Vec<Raw<AssociationRow>>> {
    let rows = query(concat!(
        "SELECT ",
        association_columns!(),
        " FROM associations WHERE $1 IS NULL OR proxy_user = $1 ORDER BY login_user"
    ))
    .bind(proxy_user)
    .fetch_all(&mut *conn)
    .await?;
    Ok(rows.iter().map(|row| association_row(&whole(row, &ASSOCIATIONS))).collect())
}

pub(crate) const ASSOCIATION: &str =
    concat!("SELECT ", association_columns!(), " FROM associations WHERE login_user = $1");

async fn token_by_hash(conn: &mut Conn, hash: &[u8; 32]) -> Result<Option<Raw<TokenRow>>> {
    let row = query(concat!("SELECT ", token_columns!(), " FROM tokens WHERE hash = $1"))
        .bind(&hash[..])
        .fetch_optional(&mut *conn)
        .await?;
    Ok(row.map(|row| token_row(&whole(&row, &TOKENS))))
}

async fn token(conn: &mut Conn, id: u64) -> Result<Option<Raw<TokenRow>>> {
    let row = query(concat!("SELECT ", token_columns!(), " FROM tokens WHERE id = $1"))
        .bind(i(id))
        .fetch_optional(&mut *conn)
        .await?;
    Ok(row.map(|row| token_row(&whole(&row, &TOKENS))))
}

async fn tokens(conn: &mut Conn, login_user: &str) -> Result<Vec<Raw<TokenRow>>> {
    let rows = query(concat!("SELECT ", token_columns!(), " FROM tokens WHERE login_user = $1 ORDER BY id"))
        .bind(login_user)
        .fetch_all(&mut *conn)
        .await?;
    Ok(rows.iter().map(|row| token_row(&whole(row, &TOKENS))).collect())
}

async fn account(conn: &mut Conn, name: &str) -> Result<Option<Raw<AccountRow>>> {
    let row = query(concat!("SELECT ", account_columns!(), " FROM accounts WHERE name = $1"))
        .bind(name)
        .fetch_optional(&mut *conn)
        .await?;
    Ok(row.map(|row| account_row(&whole(&row, &ACCOUNTS))))
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row as _, query};

    use super::{GRANT, IDENTITY};
    use crate::Store;

    const MANY: i64 = 1_000_000;

    async fn plan(store: &Store, sql: &str) -> Vec<String> {
        let explain = query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
        let rows = explain
            .bind("ada")
            .bind("render")
            .fetch_all(&mut *store.reader().await.expect("a connection"))
            .await
            .expect("a plan");
        rows.iter().map(|row| row.get("detail")).collect()
    }

    /// With and without statistics: the planner must not find reading everything cheaper.
    #[tokio::test]
    async fn a_question_is_answered_by_indexes_among_a_million_grants() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("store.db");
        let store = Store::open(&path).await.expect("a new store");
        let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
                    INSERT INTO grants (login_user, proxy_user) \
                    SELECT CASE i % 10 WHEN 0 THEN 'group:g' || i ELSE 'user' || (i % 100000) END, \
                    CASE WHEN i % 2 = 0 THEN 'render' ELSE 'proxy' || (i % 1000) END FROM n";
        let mut conn = store.place.connect().await.expect("connected");
        let filled = query(fill).bind(MANY).execute(&mut conn).await.expect("filled");
        assert_eq!(filled.rows_affected(), MANY.unsigned_abs());
        assert_eq!(store.identity_stamp().await.expect("a stamp").n, MANY);
        let (stamp, found) = store.identity("user31", Some("proxy31")).await.expect("read");
        assert_eq!((stamp.n, stamp.outside), (MANY, true));
        assert_eq!(found.grants.len(), 10);
        for analyzed in [false, true] {
            if analyzed {
                query("ANALYZE").execute(&mut conn).await.expect("analyzed");
            }
            for sql in [IDENTITY, GRANT] {
                let plan = plan(&store, sql).await;
                assert!(plan.iter().any(|step| step.starts_with("SEARCH grants USING ")), "{plan:#?}");
                // Of the journal only whether there is a first line.
                let is_scan = |step: &String| step.contains("SCAN") && step != "SCAN identity_journal";
                assert!(!plan.iter().any(is_scan), "{plan:#?}");
            }
            let plan = plan(&store, IDENTITY).await;
            let pairs = plan.iter().filter(|step| step.contains("grants_by_pair (proxy_user=? AND login_user")).count();
            assert_eq!(pairs, 2, "one login user, and all groups: {plan:#?}");
        }
    }
}
