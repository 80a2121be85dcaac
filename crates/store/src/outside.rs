//! What others did to the tables of who may act as whom: read from the journal, which triggers write, and settled.

use sqlx::query;

use crate::convert::{get, i};
use crate::dialect::{Conn, Row};
use crate::people::Outside;
use crate::{Result, Store};

/// As bytes, since whoever writes rows by hand isn't held to UTF-8, nor to any length: what can't be read must not keep
/// everybody from being decided about.
const JOURNAL: &str = "SELECT n, CAST(of_table AS BLOB), CAST(op AS BLOB), substr(CAST(row_key AS BLOB), 1, 1024), \
                       substr(CAST(before AS BLOB), 1, 4096), substr(CAST(after AS BLOB), 1, 4096), \
                       before IS NOT after, after IS NOT NULL AND substr(after, -9) <> 'seal=NULL' \
                       FROM identity_journal ORDER BY n LIMIT $1";

impl Store {
    /// The first of what nobody has settled yet, in order.
    pub async fn outside(&self, limit: u32) -> Result<Vec<Outside>> {
        let rows = query(JOURNAL)
            .bind(i64::from(limit))
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.explain(e.into()))?;
        rows.iter().map(outside).collect::<Result<_>>().map_err(|e| self.explain(e))
    }

    /// Forgets what is in the journal up to `n`. These grants are the supervisor's no more, whatever their seals say.
    pub async fn settle_outside(&self, n: i64, unseal: Vec<u64>) -> Result<()> {
        self.own(move |c| Box::pin(settle(c, n, unseal))).await
    }
}

fn outside(row: &Row) -> Result<Outside> {
    Ok(Outside {
        n: get(row, 0)?,
        table: text(row, 1)?.unwrap_or_default(),
        op: text(row, 2)?.unwrap_or_default(),
        row: text(row, 3)?.unwrap_or_default(),
        before: text(row, 4)?,
        after: text(row, 5)?,
        differs: get(row, 6)?,
        sealed: get(row, 7)?,
    })
}

/// With a mark in place of what is no text.
fn text(row: &Row, column: usize) -> Result<Option<String>> {
    let bytes: Option<&[u8]> = get(row, column)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

async fn settle(conn: &mut Conn, n: i64, unseal: Vec<u64>) -> Result<()> {
    for id in unseal {
        query("UPDATE grants SET seal = NULL WHERE id = $1").bind(i(id)).execute(&mut *conn).await?;
    }
    // Last: the lines of the above are told from others' by coming behind them.
    query("DELETE FROM identity_journal WHERE n <= $1").bind(n).execute(conn).await?;
    Ok(())
}
