//! Who may act as whom, written: each change with its audit record, in one transaction. Checks no rule: whoever calls
//! has decided.

use sqlx::{QueryBuilder, Row as _, query};

use crate::cell::{Cells, Raw};
use crate::convert::{i, number};
use crate::dialect::{Conn, NUMBERED_GRANTS, NUMBERED_TOKENS};
use crate::error::StoreError;
use crate::identity::{ASSOCIATION, ASSOCIATIONS, GRANT, GRANTS, USER, USERS, association_row, grant_row, user_row};
use crate::people::{AssociationRow, GrantRow, List, NewGrant, NewToken, NewUser, UserRow};
use crate::submit::keep_audit;
use crate::types::AuditRef;
use crate::writer::Pending;
use crate::{Result, Store};

impl Store {
    /// Keeps a user as given; when and by whom the row was made stays.
    pub async fn put_user(&self, user: NewUser, audit: Option<AuditRef>, now: i64) -> Result<()> {
        self.own(move |c| Box::pin(async move { put_user(c, user, true, audit, now).await.map(drop) })).await
    }

    /// The same of one that was as given when it was decided, or wasn't there or readable: what somebody else changed
    /// meanwhile is not undone.
    pub async fn change_user(
        &self,
        user: NewUser,
        was: Option<UserRow>,
        audit: Option<AuditRef>,
        now: i64,
    ) -> Result<()> {
        self.own(move |c| Box::pin(change_user(c, user, was, audit, now))).await
    }

    /// Keeps a user unless there is one of that name, which then stays as it is. Says whether there was none.
    pub async fn add_user(&self, user: NewUser, audit: Option<AuditRef>, now: i64) -> Result<bool> {
        self.own(move |c| Box::pin(put_user(c, user, false, audit, now))).await
    }

    /// Removes the user's own row, and his name from the lists that allow and from the answers of others. Grants and
    /// tokens stay. Says whether there was one.
    pub async fn delete_user(&self, name: &str, audit: Option<AuditRef>) -> Result<bool> {
        let name = name.to_owned();
        self.own(move |c| Box::pin(delete_user(c, name, audit))).await
    }

    /// List 1, for a login user or `group:NAME`.
    pub async fn set_may_act(&self, who: &str, allowed: bool, audit: Option<AuditRef>) -> Result<()> {
        let sql = "INSERT INTO may_act (who, allowed) VALUES ($1, $2) \
                   ON CONFLICT (who) DO UPDATE SET allowed = excluded.allowed";
        let who = who.to_owned();
        self.own(move |c| Box::pin(set_allowed(c, sql, who, allowed, audit))).await
    }

    /// Puts somebody in list 1 of whom it says nothing. If it says no, it goes on saying no.
    pub async fn list_may_act(&self, who: &str) -> Result<()> {
        let sql = "INSERT INTO may_act (who, allowed) VALUES ($1, $2) ON CONFLICT (who) DO NOTHING";
        let who = who.to_owned();
        self.own(move |c| Box::pin(set_allowed(c, sql, who, true, None))).await
    }

    /// Takes somebody out of a list: it says nothing of them any more, which is no. Says whether they were in it.
    pub async fn unlist(&self, list: List, name: &str, audit: Option<AuditRef>) -> Result<bool> {
        let sql = match list {
            List::MayAct => "DELETE FROM may_act WHERE who = $1",
            List::MayBeActedAs => "DELETE FROM may_be_acted_as WHERE proxy_user = $1",
        };
        self.delete(sql, name, audit).await
    }

    /// List 2.
    pub async fn set_may_be_acted_as(&self, proxy_user: &str, allowed: bool, audit: Option<AuditRef>) -> Result<()> {
        let sql = "INSERT INTO may_be_acted_as (proxy_user, allowed) VALUES ($1, $2) \
                   ON CONFLICT (proxy_user) DO UPDATE SET allowed = excluded.allowed";
        let proxy_user = proxy_user.to_owned();
        self.own(move |c| Box::pin(set_allowed(c, sql, proxy_user, allowed, audit))).await
    }

    /// Keeps a grant, sealed with what `seal` makes of the row as it is then, its id included.
    pub async fn add_grant<S>(&self, grant: NewGrant, seal: S, audit: Option<AuditRef>, now: i64) -> Result<u64>
    where
        S: FnOnce(&GrantRow) -> String + Send + 'static,
    {
        self.own(move |c| Box::pin(add_grant(c, grant, seal, audit, now))).await
    }

    /// Makes a grant that wasn't revoked active and approved, and seals it anew. Says whether it did: not when it was
    /// revoked. A row that can't be understood can't be approved.
    pub async fn approve_grant<S>(&self, id: u64, by: &str, seal: S, audit: Option<AuditRef>, now: i64) -> Result<bool>
    where
        S: FnOnce(&GrantRow) -> String + Send + 'static,
    {
        let by = by.to_owned();
        self.own(move |c| Box::pin(approve_grant(c, id, by, seal, audit, now))).await
    }

    /// Revokes a grant, whatever else is in its row, and seals it anew. Says whether it wasn't revoked before.
    pub async fn end_grant<S>(&self, id: u64, by: &str, seal: S, audit: Option<AuditRef>, now: i64) -> Result<bool>
    where
        S: FnOnce(&GrantRow) -> String + Send + 'static,
    {
        let by = by.to_owned();
        self.own(move |c| Box::pin(end_grant(c, id, by, seal, audit, now))).await
    }

    /// From now on the login user acts as this one. Returns what was before.
    pub async fn set_association(
        &self,
        login_user: &str,
        proxy_user: &str,
        grant_id: Option<u64>,
        audit: Option<AuditRef>,
        now: i64,
    ) -> Result<Option<Raw<AssociationRow>>> {
        let (login_user, proxy_user) = (login_user.to_owned(), proxy_user.to_owned());
        self.own(move |c| Box::pin(set_association(c, login_user, proxy_user, grant_id, audit, now))).await
    }

    /// Returns what was before; `None` when he acted as nobody.
    pub async fn clear_association(
        &self,
        login_user: &str,
        audit: Option<AuditRef>,
    ) -> Result<Option<Raw<AssociationRow>>> {
        let login_user = login_user.to_owned();
        self.own(move |c| Box::pin(clear_association(c, login_user, audit))).await
    }

    pub async fn add_token(&self, token: NewToken, audit: Option<AuditRef>, now: i64) -> Result<u64> {
        self.own(move |c| Box::pin(add_token(c, token, audit, now))).await
    }

    /// Only of this login user, if one is named. Says whether it did: not when it was revoked, or is not there.
    pub async fn revoke_token(
        &self,
        id: u64,
        login_user: Option<&str>,
        audit: Option<AuditRef>,
        now: i64,
    ) -> Result<bool> {
        let which = Tokens::One(id, login_user.map(str::to_owned));
        self.revoke(which, audit, now).await.map(|n| n > 0)
    }

    /// All of a login user; returns how many.
    pub async fn revoke_tokens_of(&self, login_user: &str, audit: Option<AuditRef>, now: i64) -> Result<u64> {
        self.revoke(Tokens::OfLoginUser(login_user.to_owned()), audit, now).await
    }

    /// All of a job; returns how many.
    pub async fn revoke_tokens_of_job(&self, job: u64, audit: Option<AuditRef>, now: i64) -> Result<u64> {
        self.revoke(Tokens::OfJob(job), audit, now).await
    }

    /// The one of a session of a job; returns how many.
    pub async fn revoke_tokens_of_session(&self, session: u64, now: i64) -> Result<u64> {
        self.revoke(Tokens::OfSession(session), None, now).await
    }

    /// Forgets those that ended before; returns how many.
    pub async fn forget_tokens(&self, ended_before: i64) -> Result<u64> {
        self.own(move |c| Box::pin(forget_tokens(c, ended_before))).await
    }

    /// When tokens were last used; never goes back.
    pub async fn touch_tokens(&self, used: &[(u64, i64)]) -> Result<()> {
        let used = used.to_vec();
        self.writer.write(move |c| Box::pin(touch_tokens(c, used))).await
    }

    /// Sets the password (PHC string) of an account, made if there is none. One that is disabled stays so.
    pub async fn put_account(&self, name: &str, phc: &str, audit: Option<AuditRef>, now: i64) -> Result<()> {
        let (name, phc) = (name.to_owned(), phc.to_owned());
        self.own(move |c| Box::pin(put_account(c, name, phc, audit, now))).await
    }

    /// Says whether there was one.
    pub async fn delete_account(&self, name: &str, audit: Option<AuditRef>) -> Result<bool> {
        self.delete("DELETE FROM accounts WHERE name = $1", name, audit).await
    }

    async fn delete(&self, sql: &'static str, name: &str, audit: Option<AuditRef>) -> Result<bool> {
        let name = name.to_owned();
        self.own(move |c| Box::pin(delete(c, sql, name, audit))).await
    }

    async fn revoke(&self, which: Tokens, audit: Option<AuditRef>, now: i64) -> Result<u64> {
        self.own(move |c| Box::pin(revoke(c, which, audit, now))).await
    }

    /// Carries out a change of our own: the journal is for those of others.
    pub(crate) async fn own<T, F>(&self, op: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> Pending<'c, Result<T>> + Send + 'static,
    {
        self.writer.write(move |c| Box::pin(own(c, op))).await
    }
}

/// As the tables have times. Of one length, so that their order is that of the texts.
fn rfc3339(us: i64) -> Result<String> {
    Ok(format!("{:.0}", timestamp(us)?))
}

fn timestamp(us: i64) -> Result<jiff::Timestamp> {
    let time = jiff::Timestamp::from_microsecond(us);
    time.map_err(|_| StoreError::TooLarge { what: "a time", value: us.unsigned_abs() })
}

async fn own<T, F>(conn: &mut Conn, op: F) -> Result<T>
where
    F: for<'c> FnOnce(&'c mut Conn) -> Pending<'c, Result<T>> + Send + 'static,
{
    let last: i64 =
        query("SELECT coalesce(max(n), 0) FROM identity_journal").fetch_one(&mut *conn).await?.try_get(0)?;
    let done = op(&mut *conn).await?;
    query("DELETE FROM identity_journal WHERE n > $1").bind(last).execute(conn).await?;
    Ok(done)
}

async fn note(conn: &mut Conn, audit: Option<AuditRef>) -> Result<()> {
    match audit {
        Some(audit) => keep_audit(conn, &audit).await,
        None => Ok(()),
    }
}

async fn delete(conn: &mut Conn, sql: &'static str, name: String, audit: Option<AuditRef>) -> Result<bool> {
    let done = query(sql).bind(name).execute(&mut *conn).await?;
    note(conn, audit).await?;
    Ok(done.rows_affected() > 0)
}

/// Also what a name alone gives: nobody answers for a proxy user, or is allowed by a list, because another was called
/// so before. What a list refuses it goes on refusing.
async fn delete_user(conn: &mut Conn, name: String, audit: Option<AuditRef>) -> Result<bool> {
    let rows = query("SELECT name, answers FROM users WHERE answers IS NOT NULL").fetch_all(&mut *conn).await?;
    for row in rows {
        // What can't be read gives nobody anything.
        let (Ok(of), Ok(answers)) = (row.try_get::<String, _>("name"), row.try_get::<String, _>("answers")) else {
            continue;
        };
        let names = || answers.split(',').map(str::trim).filter(|n| !n.is_empty());
        if !names().any(|n| n == name) {
            continue;
        }
        let rest = names().filter(|n| *n != name).collect::<Vec<_>>().join(",");
        let rest = Some(rest).filter(|rest| !rest.is_empty());
        query("UPDATE users SET answers = $2 WHERE name = $1").bind(of).bind(rest).execute(&mut *conn).await?;
    }
    for sql in [
        "DELETE FROM may_act WHERE who = $1 AND allowed = TRUE",
        "DELETE FROM may_be_acted_as WHERE proxy_user = $1 AND allowed = TRUE",
    ] {
        query(sql).bind(name.clone()).execute(&mut *conn).await?;
    }
    delete(conn, "DELETE FROM users WHERE name = $1", name, audit).await
}

async fn set_allowed(
    conn: &mut Conn,
    sql: &'static str,
    name: String,
    allowed: bool,
    audit: Option<AuditRef>,
) -> Result<()> {
    query(sql).bind(name).bind(allowed).execute(&mut *conn).await?;
    note(conn, audit).await
}

// --- users

macro_rules! insert_user {
    ($conflict:literal) => {
        concat!(
            "INSERT INTO users (name, type, roles, disabled, note, environment, working_root, workers, \
             default_cpus_milli, max_cpus_milli, default_memory, max_memory, answers, created_at, created_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT (name) DO ",
            $conflict
        )
    };
}

async fn change_user(
    conn: &mut Conn,
    user: NewUser,
    was: Option<UserRow>,
    audit: Option<AuditRef>,
    now: i64,
) -> Result<()> {
    let row = query(USER).bind(user.name.clone()).fetch_optional(&mut *conn).await?;
    let is = row.and_then(|row| user_row(&Cells { row: &row, table: &USERS, first: 0 }).ok());
    if is != was {
        return Err(StoreError::ChangedMeanwhile(user.name));
    }
    put_user(conn, user, true, audit, now).await.map(drop)
}

/// Says whether a row was written.
async fn put_user(conn: &mut Conn, user: NewUser, replace: bool, audit: Option<AuditRef>, now: i64) -> Result<bool> {
    let sql = if replace {
        insert_user!(
            "UPDATE SET type = excluded.type, roles = excluded.roles, disabled = excluded.disabled, \
             note = excluded.note, environment = excluded.environment, working_root = excluded.working_root, \
             workers = excluded.workers, default_cpus_milli = excluded.default_cpus_milli, \
             max_cpus_milli = excluded.max_cpus_milli, default_memory = excluded.default_memory, \
             max_memory = excluded.max_memory, answers = excluded.answers"
        )
    } else {
        insert_user!("NOTHING")
    };
    let done = query(sql)
        .bind(user.name)
        .bind(user.kind)
        .bind(user.roles)
        .bind(user.disabled)
        .bind(user.note)
        .bind(user.environment)
        .bind(user.working_root)
        .bind(user.workers)
        .bind(amount(user.default_cpus_milli)?)
        .bind(amount(user.max_cpus_milli)?)
        .bind(amount(user.default_memory)?)
        .bind(amount(user.max_memory)?)
        .bind(user.answers)
        .bind(rfc3339(now)?)
        .bind(user.created_by)
        .execute(&mut *conn)
        .await?;
    note(conn, audit).await?;
    Ok(done.rows_affected() > 0)
}

/// A limit is kept exactly, or not at all.
fn amount(value: Option<u64>) -> Result<Option<i64>> {
    let fits = |value| i64::try_from(value).map_err(|_| StoreError::TooLarge { what: "an amount", value });
    value.map(fits).transpose()
}

/// A number that somebody wrote by hand may be the last there is. The database would call that a full disk.
async fn has_numbers(conn: &mut Conn, table: &'static str, last: &'static str) -> Result<()> {
    let last: i64 = query(last).fetch_one(conn).await?.try_get(0)?;
    if last == i64::MAX { Err(StoreError::NoNumbers { table, row: last }) } else { Ok(()) }
}

// --- grants

async fn add_grant<S>(conn: &mut Conn, grant: NewGrant, seal: S, audit: Option<AuditRef>, now: i64) -> Result<u64>
where
    S: FnOnce(&GrantRow) -> String,
{
    has_numbers(conn, "grants", NUMBERED_GRANTS).await?;
    let row = query(
        "INSERT INTO grants (login_user, proxy_user, given_by, given_at, reason, valid_from, valid_until, workers, \
         jobs, state, requested_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id",
    )
    .bind(grant.login_user)
    .bind(grant.proxy_user)
    .bind(grant.given_by)
    .bind(rfc3339(now)?)
    .bind(grant.reason)
    .bind(grant.valid_from)
    .bind(grant.valid_until)
    .bind(grant.workers)
    .bind(grant.jobs)
    .bind(grant.state)
    .bind(grant.requested_by)
    .fetch_one(&mut *conn)
    .await?;
    let id = number(&row, "id")?;
    let row = read_grant(conn, id).await??;
    set_seal(conn, id, Some(seal(&row))).await?;
    note(conn, audit).await?;
    Ok(id)
}

async fn approve_grant<S>(
    conn: &mut Conn,
    id: u64,
    by: String,
    seal: S,
    audit: Option<AuditRef>,
    now: i64,
) -> Result<bool>
where
    S: FnOnce(&GrantRow) -> String,
{
    read_grant(conn, id).await??;
    let done = query(
        "UPDATE grants SET state = 'active', approved_by = $2, approved_at = $3 \
         WHERE id = $1 AND state IN ('requested', 'active')",
    )
    .bind(i(id))
    .bind(by)
    .bind(rfc3339(now)?)
    .execute(&mut *conn)
    .await?;
    let changed = done.rows_affected() > 0;
    if changed {
        let row = read_grant(conn, id).await??;
        set_seal(conn, id, Some(seal(&row))).await?;
    }
    note(conn, audit).await?;
    Ok(changed)
}

async fn end_grant<S>(conn: &mut Conn, id: u64, by: String, seal: S, audit: Option<AuditRef>, now: i64) -> Result<bool>
where
    S: FnOnce(&GrantRow) -> String,
{
    let done = query(
        "UPDATE grants SET state = 'revoked', ended_by = $2, ended_at = $3 \
         WHERE id = $1 AND state IS DISTINCT FROM 'revoked'",
    )
    .bind(i(id))
    .bind(by)
    .bind(rfc3339(now)?)
    .execute(&mut *conn)
    .await?;
    let row = read_grant(conn, id).await?;
    let changed = done.rows_affected() > 0;
    if changed {
        // What can't be read can't be sealed, but must be possible to end.
        set_seal(conn, id, row.ok().as_ref().map(seal)).await?;
    }
    note(conn, audit).await?;
    Ok(changed)
}

async fn read_grant(conn: &mut Conn, id: u64) -> Result<Raw<GrantRow>> {
    let row = query(GRANT).bind(i(id)).fetch_optional(conn).await?.ok_or(StoreError::NoSuchGrant(id))?;
    Ok(grant_row(&Cells { row: &row, table: &GRANTS, first: 0 }))
}

async fn set_seal(conn: &mut Conn, id: u64, seal: Option<String>) -> Result<()> {
    query("UPDATE grants SET seal = $2 WHERE id = $1").bind(i(id)).bind(seal).execute(conn).await?;
    Ok(())
}

// --- associations

async fn set_association(
    conn: &mut Conn,
    login_user: String,
    proxy_user: String,
    grant_id: Option<u64>,
    audit: Option<AuditRef>,
    now: i64,
) -> Result<Option<Raw<AssociationRow>>> {
    let former = read_association(conn, &login_user).await?;
    query(
        "INSERT INTO associations (login_user, proxy_user, grant_id, since) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (login_user) DO UPDATE SET proxy_user = excluded.proxy_user, grant_id = excluded.grant_id, \
         since = excluded.since",
    )
    .bind(login_user)
    .bind(proxy_user)
    .bind(grant_id.map(i))
    // Exactly: of two of one second, what was made for the first is not good for the second.
    .bind(format!("{:.6}", timestamp(now)?))
    .execute(&mut *conn)
    .await?;
    note(conn, audit).await?;
    Ok(former)
}

async fn clear_association(
    conn: &mut Conn,
    login_user: String,
    audit: Option<AuditRef>,
) -> Result<Option<Raw<AssociationRow>>> {
    let former = read_association(conn, &login_user).await?;
    query("DELETE FROM associations WHERE login_user = $1").bind(login_user).execute(&mut *conn).await?;
    note(conn, audit).await?;
    Ok(former)
}

async fn read_association(conn: &mut Conn, login_user: &str) -> Result<Option<Raw<AssociationRow>>> {
    let row = query(ASSOCIATION).bind(login_user).fetch_optional(conn).await?;
    Ok(row.map(|row| association_row(&Cells { row: &row, table: &ASSOCIATIONS, first: 0 })))
}

// --- tokens

async fn add_token(conn: &mut Conn, token: NewToken, audit: Option<AuditRef>, now: i64) -> Result<u64> {
    has_numbers(conn, "tokens", NUMBERED_TOKENS).await?;
    let row = query(
        "INSERT INTO tokens (hash, kind, login_user, name, scopes, acting_as, job, session, client, uid, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id",
    )
    .bind(&token.hash[..])
    .bind(token.kind)
    .bind(token.login_user)
    .bind(token.name)
    .bind(token.scopes)
    .bind(token.acting_as)
    .bind(token.job.map(i))
    .bind(token.session.map(i))
    .bind(token.client)
    .bind(token.uid.map(i64::from))
    .bind(rfc3339(now)?)
    .bind(token.expires_at)
    .fetch_one(&mut *conn)
    .await?;
    let id = number(&row, "id")?;
    note(conn, audit).await?;
    Ok(id)
}

enum Tokens {
    One(u64, Option<String>),
    OfLoginUser(String),
    OfJob(u64),
    OfSession(u64),
}

async fn revoke(conn: &mut Conn, which: Tokens, audit: Option<AuditRef>, now: i64) -> Result<u64> {
    let mut update = QueryBuilder::new("UPDATE tokens SET revoked_at = ");
    update.push_bind(rfc3339(now)?).push(" WHERE revoked_at IS NULL AND ");
    match which {
        Tokens::One(id, login_user) => {
            update.push("id = ").push_bind(i(id));
            if let Some(login_user) = login_user {
                update.push(" AND login_user = ").push_bind(login_user);
            }
        }
        Tokens::OfLoginUser(login_user) => {
            update.push("login_user = ").push_bind(login_user);
        }
        Tokens::OfJob(job) => {
            update.push("job = ").push_bind(i(job));
        }
        Tokens::OfSession(session) => {
            // By the index of jobs' tokens.
            update.push("job = (SELECT job FROM sessions WHERE id = ").push_bind(i(session));
            update.push(") AND session = ").push_bind(i(session));
        }
    }
    let done = update.build().execute(&mut *conn).await?;
    note(conn, audit).await?;
    Ok(done.rows_affected())
}

async fn forget_tokens(conn: &mut Conn, ended_before: i64) -> Result<u64> {
    let done = query("DELETE FROM tokens WHERE revoked_at < $1 OR expires_at < $1")
        .bind(rfc3339(ended_before)?)
        .execute(&mut *conn)
        .await?;
    Ok(done.rows_affected())
}

async fn touch_tokens(conn: &mut Conn, used: Vec<(u64, i64)>) -> Result<()> {
    for (id, at) in used {
        query("UPDATE tokens SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)")
            .bind(i(id))
            .bind(rfc3339(at)?)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

// --- accounts

async fn put_account(conn: &mut Conn, name: String, phc: String, audit: Option<AuditRef>, now: i64) -> Result<()> {
    query(
        "INSERT INTO accounts (name, password, changed_at) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET password = excluded.password, changed_at = excluded.changed_at",
    )
    .bind(name)
    .bind(phc)
    .bind(rfc3339(now)?)
    .execute(&mut *conn)
    .await?;
    note(conn, audit).await
}
