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

mod disk;
mod history;
mod sound;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use runner_fleet_actors::{
    job::{JobKey, JobRecord},
    port::Time,
};
use sqlx::{Row, SqliteConnection};

use self::disk::Disk;
pub use self::history::{DayOfWaits, Wanted};
use crate::state::StateFolder;

/// The file in the state folder.
pub const FILE: &str = "demand.sqlite";
/// How long jobs are kept after they were last heard of.
pub const JOBS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long deliveries are known by: GitHub redelivers those of three days (GitHub docs,
/// "Redelivering webhooks").
pub const DELIVERIES_KEPT: Duration = Duration::from_secs(4 * 24 * 3600);
/// Deliveries that are known at most: a captured body can be sent under any number of ids. Of more than
/// that the oldest are forgotten; a job that is told again by one of those is known by its own word.
const DELIVERIES_MAX: u32 = 300_000;
/// After so many new ones it is looked whether there are more.
const DELIVERIES_LOOK: u32 = 10_000;
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

/// The ledger. One writer at a time; readers do not wait for it.
#[derive(Debug)]
pub struct Ledger {
    disk: Disk,
    /// Deliveries since they were last counted.
    deliveries: AtomicU32,
}

impl Ledger {
    /// Opens or makes the ledger in a state folder that nobody else has open.
    ///
    /// # Errors
    /// As [`Ledger::open_in`], and where the folder cannot be had.
    pub async fn open(state_dir: &Path) -> Result<Self, LedgerError> {
        let told = |what| LedgerError { file: state_dir.join(FILE), what };
        Self::open_in(&StateFolder::open(state_dir).map_err(told)?).await
    }

    /// Opens or makes the ledger. Only the daemon's user may read it: repository and job names are not
    /// everybody's. A damaged one is moved aside and a new one begun; one that the disk does not give
    /// or take now is a trouble of the folder, and every call fails until it does.
    ///
    /// # Errors
    /// Where it was written by a newer runner-fleet.
    pub async fn open_in(folder: &StateFolder) -> Result<Self, LedgerError> {
        Ok(Self { disk: Disk::open(folder).await?, deliveries: AtomicU32::new(DELIVERIES_LOOK) })
    }

    /// Whether it was not written, or not read, when it was last tried. [`Ledger::prove`] tries again.
    #[must_use]
    pub fn is_in_trouble(&self) -> bool {
        self.disk.is_in_trouble()
    }

    /// How often a new file was begun in the place of a damaged or lost one while this is open.
    #[must_use]
    pub fn begun_anew(&self) -> u64 {
        self.disk.begun()
    }

    /// Keeps all entries, or none. They are on the disk when it returns, and were read back.
    ///
    /// # Errors
    /// Where the disk did not take them, or nobody can say whether it did; they may be kept all the
    /// same, and writing them again does no harm.
    pub async fn write(&self, entries: &[Entry]) -> Result<(), LedgerError> {
        if entries.is_empty() {
            return Ok(());
        }
        // First: a disk that is left alone for a while costs nobody a copy of all records.
        let mut writing = self.disk.begin().await?;
        for entry in entries {
            let record = match entry {
                Entry::Job(job) => {
                    serde_json::to_string(job).map_err(|error| self.fault(error.to_string()))?
                }
                Entry::Delivery { .. } | Entry::Mark { .. } => String::new(),
            };
            if let Err(error) = put(&mut writing.connection, entry, record).await {
                return Err(writing.failed(&error).await);
            }
        }
        let deliveries = entries.iter().filter(|entry| matches!(entry, Entry::Delivery { .. }));
        let new = u32::try_from(deliveries.count()).unwrap_or(u32::MAX);
        let new = self.deliveries.fetch_add(new, Ordering::AcqRel).saturating_add(new);
        if new >= DELIVERIES_LOOK {
            self.deliveries.store(0, Ordering::Release);
            if let Err(error) = bound(&mut writing.connection).await {
                return Err(writing.failed(&error).await);
            }
        }
        writing.proven().await
    }

    /// Shows that the disk takes what is written, by writing.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn prove(&self) -> Result<(), LedgerError> {
        self.disk.begin().await?.proven().await
    }

    /// A small fact, if it was kept.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn mark(&self, name: &str) -> Result<Option<String>, LedgerError> {
        let row = sqlx::query("SELECT value FROM marks WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.disk.readers()?)
            .await
            .map_err(|error| self.disk.unread(&error))?;
        // One that is no text was not written here, and costs itself.
        Ok(row.and_then(|row| row.try_get(0).ok()))
    }

    /// All small facts whose names begin with `prefix`.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn marks(&self, prefix: &str) -> Result<Vec<(String, String)>, LedgerError> {
        let rows =
            sqlx::query("SELECT name, value FROM marks WHERE substr(name, 1, length(?1)) = ?1")
                .bind(prefix)
                .fetch_all(&self.disk.readers()?)
                .await
                .map_err(|error| self.disk.unread(&error))?;
        let read =
            |row: &sqlx::sqlite::SqliteRow| Some((row.try_get(0).ok()?, row.try_get(1).ok()?));
        Ok(rows.iter().filter_map(read).collect())
    }

    /// Whether a delivery was taken before.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn took(&self, delivery: &str) -> Result<bool, LedgerError> {
        let row = sqlx::query("SELECT 1 FROM deliveries WHERE id = ?")
            .bind(delivery)
            .fetch_optional(&self.disk.readers()?)
            .await
            .map_err(|error| self.disk.unread(&error))?;
        Ok(row.is_some())
    }

    /// All jobs that are not over.
    ///
    /// # Errors
    /// Where the file cannot be read. A row that cannot be is left out and said in the log.
    pub async fn open_jobs(&self) -> Result<Vec<JobRecord>, LedgerError> {
        let rows = sqlx::query("SELECT key, record FROM jobs WHERE state <> 'done'")
            .fetch_all(&self.disk.readers()?)
            .await
            .map_err(|error| self.disk.unread(&error))?;
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
        .fetch_all(&self.disk.readers()?)
        .await
        .map_err(|error| self.disk.unread(&error))?;
        Ok(self.records(&rows))
    }

    /// Forgets jobs and deliveries that are older than they are kept. Returns how many rows went.
    ///
    /// # Errors
    /// Where the disk did not take it.
    pub async fn forget(&self, now: Time) -> Result<u64, LedgerError> {
        let mut writing = self.disk.begin().await?;
        match forget(&mut writing.connection, now).await {
            // Proven also where nothing went: a disk that fails is known before the next delivery.
            Ok(gone) => writing.proven().await.map(|()| gone),
            Err(error) => Err(writing.failed(&error).await),
        }
    }

    pub(super) fn fault(&self, what: String) -> LedgerError {
        self.disk.fault(what)
    }

    /// The records of rows whose second column is one. One that cannot be read costs itself.
    fn records(&self, rows: &[sqlx::sqlite::SqliteRow]) -> Vec<JobRecord> {
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let text: String = row.try_get(1).ok()?;
            serde_json::from_str(&text)
                .inspect_err(|error| {
                    let key: String = row.try_get(0).unwrap_or_default();
                    tracing::warn!(file = %self.disk.file().display(), %key, %error, "a job in the ledger cannot be read and is left out");
                })
                .ok()
        };
        rows.iter().filter_map(read).collect()
    }
}

async fn put(
    connection: &mut SqliteConnection,
    entry: &Entry,
    record: String,
) -> Result<(), sqlx::Error> {
    let query = match entry {
        Entry::Job(job) => {
            let queued = job.facts.queued_at.unwrap_or(job.heard_at);
            // Of a job that was first heard of when it ran, nobody knows how long it waited.
            let wait = job.facts.queued_at.zip(job.facts.started_at);
            let wait = wait.map(|(queued, at)| (at - queued).num_milliseconds().max(0));
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
        }
        Entry::Delivery { id, at } => {
            sqlx::query("INSERT OR IGNORE INTO deliveries (id, at) VALUES (?, ?)")
                .bind(id)
                .bind(at.timestamp_millis())
        }
        Entry::Mark { name, value: Some(value) } => {
            sqlx::query("INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)")
                .bind(name)
                .bind(value)
        }
        Entry::Mark { name, value: None } => {
            sqlx::query("DELETE FROM marks WHERE name = ?").bind(name)
        }
    };
    query.execute(connection).await.map(|_| ())
}

/// Forgets what is older than it is kept.
async fn forget(connection: &mut SqliteConnection, now: Time) -> Result<u64, sqlx::Error> {
    let mut gone = 0;
    for (sql, kept) in [
        ("DELETE FROM jobs WHERE last_at < ?", JOBS_KEPT),
        ("DELETE FROM deliveries WHERE at < ?", DELIVERIES_KEPT),
    ] {
        let before = (now - kept).timestamp_millis();
        let done = sqlx::query(sql).bind(before).execute(&mut *connection).await?;
        gone += done.rows_affected();
    }
    Ok(gone + bound(connection).await?)
}

/// Forgets the oldest of too many deliveries.
async fn bound(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let sql = "DELETE FROM deliveries WHERE at <= \
               (SELECT at FROM deliveries ORDER BY at DESC LIMIT 1 OFFSET ?)";
    let done = sqlx::query(sql).bind(DELIVERIES_MAX).execute(connection).await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
