//! What others did to the tables of who may act as whom: read from the journal, which triggers write, and settled.

use sqlx::query;

use crate::convert::{get, i};
use crate::dialect::{Conn, Row};
use crate::people::Outside;
use crate::{Result, Store};

impl Store {
    /// The first of what nobody has settled yet, in order.
    pub async fn outside(&self, limit: u32) -> Result<Vec<Outside>> {
        let select = query("SELECT n, of_table, op, row_key, before, after FROM identity_journal ORDER BY n LIMIT $1");
        let rows = select.bind(i64::from(limit)).fetch_all(&self.readers).await.map_err(|e| self.explain(e.into()))?;
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
        table: get(row, 1)?,
        op: get(row, 2)?,
        row: get::<Option<String>, _>(row, 3)?.unwrap_or_default(),
        before: get(row, 4)?,
        after: get(row, 5)?,
    })
}

async fn settle(conn: &mut Conn, n: i64, unseal: Vec<u64>) -> Result<()> {
    for id in unseal {
        query("UPDATE grants SET seal = NULL WHERE id = $1").bind(i(id)).execute(&mut *conn).await?;
    }
    // Last: the lines of the above are told from others' by coming behind them.
    query("DELETE FROM identity_journal WHERE n <= $1").bind(n).execute(conn).await?;
    Ok(())
}
