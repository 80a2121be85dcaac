//! Passwords that accounts are logged on with: kept sealed, under keys that aren't here. What is in them, and who may
//! ask for what, is the caller's.

use sqlx::{Row as _, query};

use crate::convert::{get, i, number};
use crate::dialect::{Conn, Row};
use crate::error::StoreError;
use crate::submit::keep_audit;
use crate::types::AuditRef;
use crate::{Result, Store};

/// Whose password it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogonName {
    pub account: String,
    /// Empty: none.
    pub domain: String,
}

/// What is known of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogonState {
    /// Nobody has used it yet.
    Unproved,
    Good,
    /// Refused: it is used nowhere any more.
    Bad,
}

impl LogonState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unproved => "unproved",
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }

    /// What can't be understood is not to be used.
    fn of(text: &str) -> Self {
        match text {
            "unproved" => Self::Unproved,
            "good" => Self::Good,
            _ => Self::Bad,
        }
    }
}

/// A sealed password and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogonRow {
    pub name: LogonName,
    /// Moves with every change, and is never used again.
    pub version: u64,
    pub key_id: String,
    pub sealed: Vec<u8>,
    pub state: LogonState,
    pub set_by: String,
    pub set_at: i64,
    pub said_at: Option<i64>,
    /// A worker, or who checked it.
    pub said_by: Option<String>,
    pub said: Option<String>,
}

/// What a password was made into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub key_id: String,
    pub bytes: Vec<u8>,
}

/// What somebody found out about a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogonWord {
    pub state: LogonState,
    pub by: String,
    pub text: Option<String>,
}

/// Why nothing was sealed anew.
#[derive(Debug, thiserror::Error)]
pub enum ResealError<E> {
    #[error(transparent)]
    Store(#[from] crate::StoreError),
    #[error("the password of {account} can't be sealed anew: {error}", account = .name.account)]
    Seal { name: LogonName, error: E },
}

const COLUMNS: &str = "id, account, domain, key_id, sealed, state, set_by, set_at, said_at, said_by, said";

impl Store {
    /// Keeps a password in the place of what was there, sealed with what `seal` makes of its version. Returns that.
    pub async fn put_logon<S>(
        &self,
        name: LogonName,
        seal: S,
        by: &str,
        audit: Option<AuditRef>,
        now: i64,
    ) -> Result<u64>
    where
        S: FnOnce(u64) -> Option<Sealed> + Send + 'static,
    {
        let by = by.to_owned();
        self.writer.write(move |c| Box::pin(put(c, name, seal, by, audit, now))).await
    }

    pub async fn logon(&self, name: &LogonName) -> Result<Option<LogonRow>> {
        let sql = format!("SELECT {COLUMNS} FROM logon_passwords WHERE account = $1 AND domain = $2");
        let sql = sqlx::AssertSqlSafe(sql);
        let row = query(sql).bind(&name.account).bind(&name.domain).fetch_optional(&mut *self.reader().await?).await;
        row.map_err(|e| self.explain(e.into()))?.as_ref().map(read).transpose()
    }

    /// All, by account and domain.
    pub async fn logons(&self) -> Result<Vec<LogonRow>> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM logon_passwords ORDER BY account, domain"));
        let rows = query(sql).fetch_all(&mut *self.reader().await?).await.map_err(|e| self.explain(e.into()))?;
        rows.iter().map(read).collect()
    }

    /// Says whether there was one.
    pub async fn delete_logon(&self, name: LogonName, audit: Option<AuditRef>) -> Result<bool> {
        self.writer.write(move |c| Box::pin(delete(c, name, audit))).await
    }

    /// Keeps what was found out of this version of a password. What was said to be bad stays so, unless `again`: somebody
    /// has checked it. Says whether it is this version's word now.
    pub async fn logon_said(&self, version: u64, word: LogonWord, again: bool, now: i64) -> Result<bool> {
        self.writer.write(move |c| Box::pin(said(c, version, word, again, now))).await
    }

    /// Seals all passwords anew, with the meta value `key` = `value`: all of it or nothing.
    pub async fn reseal_logons<F, E>(
        &self,
        mut reseal: F,
        (key, value): (&str, &str),
        audit: Option<AuditRef>,
    ) -> std::result::Result<u64, ResealError<E>>
    where
        F: FnMut(&LogonRow) -> std::result::Result<Sealed, E> + Send + 'static,
        E: Send + 'static,
    {
        let (key, value) = (key.to_owned(), value.to_owned());
        let done = self.writer.write(move |c| {
            Box::pin(async move {
                let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM logon_passwords ORDER BY id"));
                let rows = query(sql).fetch_all(&mut *c).await?;
                let rows: Vec<LogonRow> = rows.iter().map(read).collect::<Result<_>>()?;
                // Nothing is written before all are sealed.
                let mut sealed = Vec::with_capacity(rows.len());
                for row in &rows {
                    match reseal(row) {
                        Ok(new) => sealed.push((row.version, new)),
                        Err(error) => return Ok(Err((row.name.clone(), error))),
                    }
                }
                let count = sealed.len() as u64;
                for (version, new) in sealed {
                    set_sealed(c, version, new).await?;
                }
                crate::keep::set_meta(c, key, value).await?;
                note(c, audit).await?;
                Ok(Ok(count))
            })
        });
        done.await?.map_err(|(name, error)| ResealError::Seal { name, error })
    }
}

fn read(row: &Row) -> Result<LogonRow> {
    Ok(LogonRow {
        name: LogonName { account: get(row, "account")?, domain: get(row, "domain")? },
        version: number(row, "id")?,
        key_id: get(row, "key_id")?,
        sealed: row.try_get("sealed")?,
        state: LogonState::of(&get::<String, _>(row, "state")?),
        set_by: get(row, "set_by")?,
        set_at: get(row, "set_at")?,
        said_at: get(row, "said_at")?,
        said_by: get(row, "said_by")?,
        said: get(row, "said")?,
    })
}

async fn put<S>(conn: &mut Conn, name: LogonName, seal: S, by: String, audit: Option<AuditRef>, now: i64) -> Result<u64>
where
    S: FnOnce(u64) -> Option<Sealed>,
{
    remove(conn, &name).await?;
    let row = query(
        "INSERT INTO logon_passwords (account, domain, key_id, sealed, state, set_by, set_at) \
         VALUES ($1, $2, '', x'', $3, $4, $5) RETURNING id",
    )
    .bind(name.account)
    .bind(name.domain)
    .bind(LogonState::Unproved.as_str())
    .bind(by)
    .bind(now)
    .fetch_one(&mut *conn)
    .await?;
    let version = number(&row, "id")?;
    set_sealed(conn, version, seal(version).ok_or(StoreError::NotSealed)?).await?;
    note(conn, audit).await?;
    Ok(version)
}

async fn set_sealed(conn: &mut Conn, version: u64, sealed: Sealed) -> Result<()> {
    query("UPDATE logon_passwords SET key_id = $2, sealed = $3 WHERE id = $1")
        .bind(i(version))
        .bind(sealed.key_id)
        .bind(sealed.bytes)
        .execute(conn)
        .await?;
    Ok(())
}

async fn remove(conn: &mut Conn, name: &LogonName) -> Result<bool> {
    let sql = "DELETE FROM logon_passwords WHERE account = $1 AND domain = $2";
    Ok(query(sql).bind(&name.account).bind(&name.domain).execute(conn).await?.rows_affected() > 0)
}

async fn delete(conn: &mut Conn, name: LogonName, audit: Option<AuditRef>) -> Result<bool> {
    let was_there = remove(conn, &name).await?;
    note(conn, audit).await?;
    Ok(was_there)
}

async fn said(conn: &mut Conn, version: u64, word: LogonWord, again: bool, now: i64) -> Result<bool> {
    let done = query(
        "UPDATE logon_passwords SET state = $2, said_by = $3, said = $4, said_at = $5 \
         WHERE id = $1 AND (state <> 'bad' OR $6)",
    )
    .bind(i(version))
    .bind(word.state.as_str())
    .bind(word.by)
    .bind(word.text)
    .bind(now)
    .bind(again)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

async fn note(conn: &mut Conn, audit: Option<AuditRef>) -> Result<()> {
    match audit {
        Some(audit) => keep_audit(conn, &audit).await,
        None => Ok(()),
    }
}
