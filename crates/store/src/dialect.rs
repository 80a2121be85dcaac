//! All that differs between database engines: how to connect and lock, begin, migrate, and read their errors.
//! Statements elsewhere are written once, with `$1` placeholders.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::error::StoreError;

pub(crate) type Conn = sqlx::SqliteConnection;
pub(crate) type Engine = sqlx::Sqlite;
pub(crate) type Row = sqlx::sqlite::SqliteRow;

/// A deferred transaction would fail at its first write, without waiting, when another one writes.
pub(crate) const BEGIN: &str = "BEGIN IMMEDIATE";

/// The last number that was given to a row, or written into one.
macro_rules! numbered {
    ($table:literal) => {
        concat!(
            "SELECT max(coalesce((SELECT max(id) FROM ",
            $table,
            "), 0), coalesce((SELECT seq FROM sqlite_sequence WHERE name = '",
            $table,
            "'), 0))"
        )
    };
}
pub(crate) const NUMBERED_GRANTS: &str = numbered!("grants");
pub(crate) const NUMBERED_TOKENS: &str = numbered!("tokens");

/// What an administrator does when the last number was given, and the row that has it is gone or has another one.
#[must_use]
pub fn numbers_again(table: &str) -> String {
    format!("UPDATE sqlite_sequence SET seq = (SELECT coalesce(max(id), 0) FROM {table}) WHERE name = '{table}'")
}

/// "STED": tells our file from somebody else's.
const APPLICATION_ID: i64 = 0x5354_4544;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Where the data is, and how to connect to it again.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    options: SqliteConnectOptions,
}

impl Place {
    pub(crate) fn new(path: &Path, max_pages: Option<u32>) -> Self {
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .statement_cache_capacity(512)
            .pragma("cache_size", "-16000")
            // What a savepoint may have to undo: not worth a file for each transaction.
            .pragma("temp_store", "memory")
            .pragma("journal_size_limit", "67108864")
            .disable_statement_logging();
        if let Some(pages) = max_pages {
            options = options.pragma("max_page_count", pages.to_string());
        }
        Self { path: path.to_owned(), options }
    }

    /// The connection that writes; there is never more than one.
    pub(crate) async fn connect(&self) -> Result<Conn, StoreError> {
        self.options.connect().await.map_err(|e| self.explain(e))
    }

    pub(crate) async fn connect_to_read(&self) -> Result<Conn, StoreError> {
        self.options.clone().pragma("query_only", "on").connect().await.map_err(|e| self.explain(e))
    }

    /// Brings the schema up to date, after a look whether it is ours at all.
    pub(crate) async fn migrate(&self, conn: &mut Conn) -> Result<(), StoreError> {
        self.recognise(conn).await?;
        match MIGRATIONS.run(&mut *conn).await {
            Ok(()) => Ok(()),
            Err(MigrateError::VersionMissing(found)) => {
                Err(StoreError::NewerSchema { path: self.path.clone(), found, known: known_schema() })
            }
            Err(MigrateError::VersionMismatch(version)) => {
                Err(StoreError::ChangedSchema { path: self.path.clone(), version })
            }
            Err(MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _)) => Err(self.explain(e)),
            Err(e) => Err(self.explain(sqlx::Error::Migrate(Box::new(e)))),
        }
    }

    async fn recognise(&self, conn: &mut Conn) -> Result<(), StoreError> {
        let id: i64 =
            sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *conn).await.map_err(|e| self.explain(e))?;
        if id == APPLICATION_ID {
            return Ok(());
        }
        let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
            .fetch_one(&mut *conn)
            .await
            .map_err(|e| self.explain(e))?;
        if id != 0 || tables != 0 {
            return Err(StoreError::NotAStore { path: self.path.clone() });
        }
        // 0x53544544
        sqlx::query("PRAGMA application_id = 1398031684").execute(&mut *conn).await.map_err(|e| self.explain(e))?;
        Ok(())
    }

    /// The cause behind an error that came from deeper down, where the path isn't known.
    pub(crate) fn explain_again(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Database(e) => match Arc::try_unwrap(e) {
                Ok(e) => self.explain(e),
                Err(shared) => StoreError::Database(shared),
            },
            other => other,
        }
    }

    /// The cause behind a database error.
    pub(crate) fn explain(&self, error: sqlx::Error) -> StoreError {
        let path = self.path.clone();
        let Some((extended, detail)) = code_of(&error) else {
            return StoreError::Database(Arc::new(error));
        };
        if extended == NO_ROOM_FOR_INDEX {
            return StoreError::DiskFull { path };
        }
        match extended & 0xff {
            8 => StoreError::ReadOnly { path },
            13 => StoreError::DiskFull { path },
            11 => StoreError::Corrupt { path, detail },
            26 => StoreError::NotAStore { path },
            // No memory, interrupted, input or output, can't open, busy, locked, protocol: SQLite may have rolled back.
            5 | 6 | 7 | 9 | 10 | 14 | 15 => StoreError::Storage { path, detail },
            _ => StoreError::Database(Arc::new(error)),
        }
    }
}

/// The index of the log can't grow (SQLITE_IOERR_SHMSIZE): it is a file on the same disk.
const NO_ROOM_FOR_INDEX: u32 = 10 | 19 << 8;

/// SQLite's extended result code.
fn code_of(error: &sqlx::Error) -> Option<(u32, String)> {
    let error = error.as_database_error()?;
    let extended: u32 = error.code()?.parse().ok()?;
    Some((extended, error.message().to_owned()))
}

fn known_schema() -> i64 {
    MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0)
}

/// Only one process may have the data open; the lock ends with it, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let mut file = private_file(Path::new(&name)).map_err(|e| opening(path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { path: path.to_owned(), pid: read_pid(&mut file) });
            }
            Err(TryLockError::Error(e)) => return Err(opening(path, e)),
        }
        write_pid(&mut file).map_err(|e| opening(path, e))?;
        Ok(Self { _file: file })
    }
}

/// Makes sure that the files' names are on the disk, too: SQLite syncs only what is in them (`fdatasync`).
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| opening(path, e))
}

/// Makes the file, readable by its owner alone; SQLite gives its other files the same mode.
pub(crate) fn create(path: &Path) -> Result<(), StoreError> {
    private_file(path).map(drop).map_err(|e| opening(path, e))
}

fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn opening(path: &Path, error: std::io::Error) -> StoreError {
    let path = path.to_owned();
    match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path },
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::DiskFull { path },
        _ => StoreError::Open { path, source: Arc::new(error) },
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}
