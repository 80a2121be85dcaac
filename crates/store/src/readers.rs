//! The connections that only read. sqlx's own pool asks a connection whether it lives before and after every use, by way
//! of its thread, which costs more than most of these reads; a file beside us doesn't hang up.

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Object, Pool, PoolConfig, PoolError, QueueMode, RecycleResult};

use crate::Result;
use crate::dialect::{Conn, Place};
use crate::error::StoreError;

/// As many read at once.
const READERS: usize = 4;
/// How long a connection that was used is taken to live.
const TRUSTED: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(crate) struct Readers(Pool<Connects>);

/// A connection for one reading. Who drops it in the middle of that leaves its thread to give up by itself.
pub(crate) type Reader = Object<Connects>;

#[derive(Debug)]
pub(crate) struct Connects(Arc<Place>);

impl Manager for Connects {
    type Type = Conn;
    type Error = StoreError;

    async fn create(&self) -> Result<Conn> {
        self.0.connect_to_read().await
    }

    /// Asked only where that costs no more than a reading in a second: a thread that died would else be given out for ever.
    async fn recycle(&self, conn: &mut Conn, metrics: &Metrics) -> RecycleResult<StoreError> {
        if metrics.last_used() >= TRUSTED {
            sqlx::Connection::ping(conn).await.map_err(StoreError::from)?;
        }
        Ok(())
    }
}

impl Readers {
    /// Connects once, so that what keeps it from reading is known at once.
    pub(crate) async fn open(place: Arc<Place>) -> Result<Self> {
        // The one used last has its pages at hand.
        let config = PoolConfig { queue_mode: QueueMode::Lifo, ..PoolConfig::new(READERS) };
        // Fails only where something has a time limit.
        let readers = Self(Pool::builder(Connects(place)).config(config).build().map_err(|_| StoreError::Closed)?);
        drop(readers.get().await?);
        Ok(readers)
    }

    pub(crate) async fn get(&self) -> Result<Reader> {
        self.0.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            // Nothing has a time limit or a hook.
            PoolError::Timeout(_)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_) => StoreError::Closed,
        })
    }

    /// Closes what is idle; what is in use is closed by whoever has it.
    pub(crate) async fn close(&self) {
        for conn in self.0.retain(|_, _| false).removed {
            if let Err(error) = sqlx::Connection::close(conn).await {
                tracing::debug!(%error, "a connection that reads was not closed cleanly");
            }
        }
        self.0.close();
    }
}
