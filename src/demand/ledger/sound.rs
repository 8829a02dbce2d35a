//! Whether a file is a ledger that can be worked with: its header, its tables, its pages.

use std::{os::unix::fs::FileExt, time::Duration};

use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{TABLES, VERSION};

/// Primary result codes of SQLite (sqlite.org, "Result and Error Codes").
pub(super) const ERROR: u32 = 1;
pub(super) const BUSY: u32 = 5;
pub(super) const READONLY: u32 = 8;
pub(super) const CORRUPT: u32 = 11;
pub(super) const FULL: u32 = 13;
pub(super) const NOTADB: u32 = 26;

/// Beyond this a version is no version: the bits of a damaged header.
const VERSION_MAX: i64 = 999;

/// Why a file cannot be worked with.
#[derive(Debug)]
pub(super) enum Fault {
    /// A newer runner-fleet wrote it.
    Newer(String),
    /// It is no ledger, or none any more.
    Damaged(String),
    /// The disk does not give it now.
    Unavailable(String),
}

/// SQLite's primary code of an error.
pub(super) fn code(error: &sqlx::Error) -> Option<u32> {
    let extended: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// What an error at the opening means. An SQL error at a text that is always the same is the file's.
pub(super) fn fault(error: &sqlx::Error) -> Fault {
    match code(error) {
        Some(CORRUPT | NOTADB | ERROR) => Fault::Damaged(error.to_string()),
        _ => Fault::Unavailable(error.to_string()),
    }
}

/// How every connection to a ledger is.
pub(super) fn options() -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
}

/// Looks at the first bytes (sqlite.org, "Database File Format", 1.3): some of them make SQLite take a
/// damaged file for one that may only be read.
pub(super) fn header(file: &std::fs::File) -> Result<(), Fault> {
    let unavailable = |error: std::io::Error| Fault::Unavailable(error.to_string());
    let length = file.metadata().map_err(unavailable)?.len();
    if length == 0 {
        return Ok(());
    }
    let mut header = [0; 100];
    if length < 100 {
        return Err(Fault::Damaged(format!("it has {length} bytes, and its header alone has 100")));
    }
    file.read_exact_at(&mut header, 0).map_err(unavailable)?;
    let versions = |byte: u8| matches!(byte, 1 | 2);
    let sane = header.starts_with(b"SQLite format 3\0")
        && versions(header[18])
        && versions(header[19])
        && header[20..24] == [0, 64, 32, 32];
    if sane { Ok(()) } else { Err(Fault::Damaged("it has no header of SQLite".to_owned())) }
}

/// Looks at the tables, and with `doubted` at every page; makes the tables where there are none.
/// Whether they were made.
pub(super) async fn look(connection: &mut SqliteConnection, doubted: bool) -> Result<bool, Fault> {
    let told = |error: sqlx::Error| fault(&error);
    let version: i64 = first(connection, "PRAGMA user_version").await.map_err(told)?;
    match version {
        0 | VERSION => {}
        2..=VERSION_MAX => {
            return Err(Fault::Newer(format!(
                "its tables have version {version}, and this runner-fleet knows {VERSION}; it was \
                 written by a newer one: start that one, or move the file away"
            )));
        }
        _ => return Err(Fault::Damaged(format!("its tables have version {version}"))),
    }
    let tables = schema(connection).await.map_err(told)?;
    if version == 0 && tables.is_empty() {
        // One transaction: a process that is killed here leaves an empty file.
        for sql in ["BEGIN IMMEDIATE", TABLES, "COMMIT"] {
            sqlx::raw_sql(sql).execute(&mut *connection).await.map_err(told)?;
        }
        return Ok(true);
    }
    if version == 0 || tables != expected().await.map_err(told)? {
        return Err(Fault::Damaged("its tables are not those of a ledger".to_owned()));
    }
    if doubted {
        let found: String = first(connection, "PRAGMA quick_check(1)").await.map_err(told)?;
        if found != "ok" {
            return Err(Fault::Damaged(found));
        }
    }
    Ok(false)
}

async fn first<T>(connection: &mut SqliteConnection, sql: &'static str) -> Result<T, sqlx::Error>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    sqlx::query(sql).fetch_one(connection).await?.try_get(0)
}

/// The texts by which its tables and indexes were made.
async fn schema(connection: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
    let sql = "SELECT type || ' ' || name || ' ' || tbl_name || ' ' || coalesce(sql, '') \
               FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let rows = sqlx::query(sql).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn expected() -> Result<Vec<String>, sqlx::Error> {
    let mut memory = SqliteConnectOptions::new().in_memory(true).connect().await?;
    sqlx::raw_sql(TABLES).execute(&mut memory).await?;
    let expected = schema(&mut memory).await?;
    memory.close().await?;
    Ok(expected)
}
