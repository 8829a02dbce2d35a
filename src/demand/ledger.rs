//! The ledger: jobs, deliveries and small facts in one SQLite file in the state folder.
//!
//! Cloud and forge are the store of everything that is a runner; what a forge says only once, that a
//! job waits, is nowhere else, so it is written down before it is answered for. `synchronous=FULL`
//! over a write-ahead log: what [`Ledger::write`] has returned for outlives a cut of the power, and
//! one call is one transaction, so that a burst costs one sync (group commit is the [desk]'s).
//!
//! A file beside the daemon, and no server: losing the machine loses the ledger, and then the
//! deliveries and the listings of the forge fill it again. Rows hold the record as JSON beside the few
//! columns that are searched, so that a new fact needs no migration.
//!
//! [desk]: super::desk

mod history;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use runner_fleet_actors::{
    job::{JobKey, JobRecord},
    port::Time,
};
use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Mutex;

pub use self::history::{DayOfWaits, Wanted};

/// The file in the state folder.
pub const FILE: &str = "demand.sqlite";
/// How long jobs are kept after they were last heard of.
pub const JOBS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long deliveries are known by: GitHub redelivers those of three days (GitHub docs,
/// "Redelivering webhooks").
pub const DELIVERIES_KEPT: Duration = Duration::from_secs(4 * 24 * 3600);
/// The version of the tables; a newer file is refused, an older one is brought up to date.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE jobs (
    key TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    pool TEXT,
    queued_at INTEGER NOT NULL,
    wait_ms INTEGER,
    last_at INTEGER NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX jobs_open ON jobs (state) WHERE state <> 'done';
CREATE INDEX jobs_by_time ON jobs (queued_at, pool, wait_ms);
CREATE INDEX jobs_by_pool ON jobs (pool, queued_at, wait_ms);
CREATE INDEX jobs_by_age ON jobs (last_at);
CREATE TABLE deliveries (id TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX deliveries_by_age ON deliveries (at);
CREATE TABLE marks (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
";

/// Why the ledger could not be read or written, with its file.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the ledger {}: {what}", file.display())]
pub struct LedgerError {
    file: PathBuf,
    what: String,
}

/// One thing to be kept.
#[derive(Debug, Clone)]
pub enum Entry {
    /// What is known of a job; replaces what was known of it.
    Job(Box<JobRecord>),
    /// A delivery was taken.
    Delivery {
        /// GitHub's `X-GitHub-Delivery`.
        id: String,
        /// When.
        at: Time,
    },
    /// A small fact; `None` forgets it.
    Mark {
        /// Whose, such as `scale-set/linux`.
        name: String,
        /// What.
        value: Option<String>,
    },
}

/// The open ledger. One writer at a time; readers do not wait for it.
#[derive(Debug)]
pub struct Ledger {
    file: PathBuf,
    writer: Mutex<SqliteConnection>,
    readers: SqlitePool,
}

impl Ledger {
    /// Opens or makes the ledger in the state folder. Only the daemon's user may read it: repository
    /// and job names are not everybody's.
    ///
    /// # Errors
    /// Where the file cannot be opened, is damaged, or was written by a newer runner-fleet.
    pub async fn open(state_dir: &Path) -> Result<Self, LedgerError> {
        let file = state_dir.join(FILE);
        let error = |what: String| LedgerError { file: file.clone(), what };
        let told = |what: sqlx::Error| {
            error(format!(
                "{what}; mend or remove it (jobs that wait are then asked of GitHub again)"
            ))
        };
        own_file(&file).map_err(|cause| error(cause.to_string()))?;
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let mut writer = SqliteConnection::connect_with(&options).await.map_err(told)?;
        let version: i64 = sqlx::query("PRAGMA user_version")
            .fetch_one(&mut writer)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(told)?;
        match version {
            0 => {
                let mut transaction = writer.begin().await.map_err(told)?;
                sqlx::raw_sql(TABLES).execute(&mut *transaction).await.map_err(told)?;
                transaction.commit().await.map_err(told)?;
            }
            VERSION => {}
            newer => {
                return Err(error(format!(
                    "its tables have version {newer}, and this runner-fleet knows {VERSION}; it was \
                     written by a newer one: start that one, or move the file away"
                )));
            }
        }
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(told)?;
        Ok(Self { file, writer: Mutex::new(writer), readers })
    }

    /// Keeps all entries, or none. They are on the disk when it returns.
    ///
    /// # Errors
    /// Where the disk did not take them; nothing is kept then.
    pub async fn write(&self, entries: &[Entry]) -> Result<(), LedgerError> {
        if entries.is_empty() {
            return Ok(());
        }
        let told = |error: sqlx::Error| self.error(&error);
        let mut writer = self.writer.lock().await;
        let mut transaction = writer.begin().await.map_err(told)?;
        for entry in entries {
            match entry {
                Entry::Job(job) => {
                    let record = serde_json::to_string(job)
                        .map_err(|error| self.fault(error.to_string()))?;
                    let queued = job.facts.queued_at.unwrap_or(job.heard_at);
                    let wait =
                        job.facts.started_at.map(|at| (at - queued).num_milliseconds().max(0));
                    sqlx::query(
                        "INSERT OR REPLACE INTO jobs \
                         (key, state, pool, queued_at, wait_ms, last_at, record) \
                         VALUES (?, ?, ?, ?, ?, ?, ?)",
                    )
                    .bind(job.key.as_str())
                    .bind(job.word.as_str())
                    .bind(job.pool.as_ref().map(|pool| pool.as_str()))
                    .bind(queued.timestamp_millis())
                    .bind(wait)
                    .bind(job.last_at.timestamp_millis())
                    .bind(record)
                    .execute(&mut *transaction)
                    .await
                    .map_err(told)?;
                }
                Entry::Delivery { id, at } => {
                    sqlx::query("INSERT OR IGNORE INTO deliveries (id, at) VALUES (?, ?)")
                        .bind(id)
                        .bind(at.timestamp_millis())
                        .execute(&mut *transaction)
                        .await
                        .map_err(told)?;
                }
                Entry::Mark { name, value: Some(value) } => {
                    sqlx::query("INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)")
                        .bind(name)
                        .bind(value)
                        .execute(&mut *transaction)
                        .await
                        .map_err(told)?;
                }
                Entry::Mark { name, value: None } => {
                    sqlx::query("DELETE FROM marks WHERE name = ?")
                        .bind(name)
                        .execute(&mut *transaction)
                        .await
                        .map_err(told)?;
                }
            }
        }
        transaction.commit().await.map_err(told)
    }

    /// A small fact, if it was kept.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn mark(&self, name: &str) -> Result<Option<String>, LedgerError> {
        let row = sqlx::query("SELECT value FROM marks WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.error(&error))?;
        row.map(|row| row.try_get(0)).transpose().map_err(|error| self.error(&error))
    }

    /// All small facts whose names begin with `prefix`.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn marks(&self, prefix: &str) -> Result<Vec<(String, String)>, LedgerError> {
        let rows =
            sqlx::query("SELECT name, value FROM marks WHERE substr(name, 1, length(?1)) = ?1")
                .bind(prefix)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.error(&error))?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|error| self.error(&error))
    }

    /// Whether a delivery was taken before.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn took(&self, delivery: &str) -> Result<bool, LedgerError> {
        let row = sqlx::query("SELECT 1 FROM deliveries WHERE id = ?")
            .bind(delivery)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.error(&error))?;
        Ok(row.is_some())
    }

    /// All jobs that are not over.
    ///
    /// # Errors
    /// Where the file cannot be read. A row that cannot be is left out and said in the log.
    pub async fn open_jobs(&self) -> Result<Vec<JobRecord>, LedgerError> {
        let rows = sqlx::query("SELECT key, record FROM jobs WHERE state <> 'done'")
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(&error))?;
        Ok(self.records(&rows))
    }

    /// The jobs of these keys, as far as they are kept.
    ///
    /// # Errors
    /// As [`Ledger::open_jobs`].
    pub async fn jobs_of(&self, keys: &[JobKey]) -> Result<Vec<JobRecord>, LedgerError> {
        let keys = serde_json::to_string(keys).map_err(|error| self.fault(error.to_string()))?;
        let rows = sqlx::query(
            "SELECT key, record FROM jobs WHERE key IN (SELECT value FROM json_each(?))",
        )
        .bind(keys)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.error(&error))?;
        Ok(self.records(&rows))
    }

    /// Forgets jobs and deliveries that are older than they are kept. Returns how many rows went.
    ///
    /// # Errors
    /// Where the disk did not take it.
    pub async fn forget(&self, now: Time) -> Result<u64, LedgerError> {
        let told = |error: sqlx::Error| self.error(&error);
        let mut writer = self.writer.lock().await;
        let mut gone = 0;
        for (sql, kept) in [
            ("DELETE FROM jobs WHERE last_at < ?", JOBS_KEPT),
            ("DELETE FROM deliveries WHERE at < ?", DELIVERIES_KEPT),
        ] {
            let done = sqlx::query(sql)
                .bind((now - kept).timestamp_millis())
                .execute(&mut *writer)
                .await
                .map_err(told)?;
            gone += done.rows_affected();
        }
        Ok(gone)
    }

    fn error(&self, error: &sqlx::Error) -> LedgerError {
        self.fault(error.to_string())
    }

    pub(super) fn fault(&self, what: String) -> LedgerError {
        LedgerError { file: self.file.clone(), what }
    }

    /// The records of rows whose second column is one. One that cannot be read costs itself.
    fn records(&self, rows: &[sqlx::sqlite::SqliteRow]) -> Vec<JobRecord> {
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let text: String = row.try_get(1).ok()?;
            serde_json::from_str(&text)
                .inspect_err(|error| {
                    let key: String = row.try_get(0).unwrap_or_default();
                    tracing::warn!(file = %self.file.display(), %key, %error, "a job in the ledger cannot be read and is left out");
                })
                .ok()
        };
        rows.iter().filter_map(read).collect()
    }
}

/// Makes the file before SQLite does, so that nobody else may read it; SQLite gives the files beside
/// it the same mode.
fn own_file(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let made = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file);
    made.map(drop)
}

#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
