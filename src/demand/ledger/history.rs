//! Looking back: which jobs there were, and how long they waited.
//!
//! A hundred thousand jobs are answered for in less than the blink of an eye, because what is searched
//! stands in the indexes and only the rows that are shown are read. So each question is asked in the
//! way that an index can answer, and says which: SQLite would often take another one, and read every
//! record on its way.

use std::{collections::BTreeMap, time::Duration};

use runner_fleet_actors::{
    job::{JobRecord, JobWord},
    name::PoolName,
    port::Time,
};
use serde::{Deserialize, Serialize};
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{Ledger, LedgerError};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Which jobs are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Only those of this pool.
    pub pool: Option<PoolName>,
    /// Only those that were queued since then.
    pub since: Time,
    /// Only those that waited for so long or wait that long already; the longest first instead of
    /// the newest first.
    pub slow: Option<Duration>,
    /// Only those that are so far.
    pub state: Option<JobWord>,
    /// At most so many.
    pub limit: u32,
}

/// How long the jobs of one pool waited that were queued on one day (UTC).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DayOfWaits {
    /// The pool.
    pub pool: PoolName,
    /// The day on which they were queued.
    pub day: chrono::NaiveDate,
    /// Jobs that have begun.
    pub jobs: u32,
    /// Half of them waited no longer, in seconds.
    pub p50: f64,
    /// Nineteen of twenty waited no longer, in seconds.
    pub p95: f64,
    /// None waited longer, in seconds.
    pub longest: f64,
}

impl Ledger {
    /// The jobs that are asked for.
    ///
    /// # Errors
    /// Where the file cannot be read. A row that cannot be is left out and said in the log.
    pub async fn history(&self, wanted: &Wanted, now: Time) -> Result<Vec<JobRecord>, LedgerError> {
        let mut query = match wanted.slow {
            Some(least) => slowest(wanted, least, now),
            None => newest(wanted),
        };
        let rows = query.build().fetch_all(&self.disk.readers()?).await;
        Ok(self.records(&rows.map_err(|error| self.disk.unread(&error))?))
    }

    /// How long jobs waited, by pool and day, the newest day first. `since` counts in whole days.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn waits(
        &self,
        pool: Option<&PoolName>,
        since: Time,
    ) -> Result<Vec<DayOfWaits>, LedgerError> {
        let first = since.timestamp_millis().div_euclid(DAY_MS) * DAY_MS;
        // One text a pool: a row for each job costs many times as much on its way through the driver.
        let mut query = QueryBuilder::<Sqlite>::new(format!(
            "SELECT pool, group_concat((queued_at / {DAY_MS}) || ' ' || wait_ms) \
             FROM jobs INDEXED BY jobs_by_pool \
             WHERE pool IS NOT NULL AND wait_ms IS NOT NULL AND queued_at >= "
        ));
        query.push_bind(first);
        if let Some(pool) = pool {
            query.push(" AND pool = ").push_bind(pool.as_str());
        }
        query.push(" GROUP BY pool");
        let rows = query.build().fetch_all(&self.disk.readers()?).await;
        let mut days = Vec::new();
        for row in rows.map_err(|error| self.disk.unread(&error))? {
            let told = |error: sqlx::Error| self.disk.unread(&error);
            let name: String = row.try_get(0).map_err(told)?;
            let waits: String = row.try_get(1).map_err(told)?;
            // What is not a pool's name was not written here, and costs itself.
            if let Ok(pool) = name.parse() {
                days.extend(by_day(&pool, &waits));
            }
        }
        days.sort_by(|a, b| b.day.cmp(&a.day).then_with(|| a.pool.cmp(&b.pool)));
        Ok(days)
    }
}

/// The words of the index of open jobs, by which SQLite knows it again.
const OPEN: &str = "state <> 'done'";

fn is_open(state: JobWord) -> bool {
    state != JobWord::Done
}

/// The index for jobs of any state.
fn index(wanted: &Wanted) -> &'static str {
    if wanted.pool.is_some() { "jobs_by_pool" } else { "jobs_by_time" }
}

fn narrow(query: &mut QueryBuilder<Sqlite>, wanted: &Wanted) {
    query.push(" queued_at >= ").push_bind(wanted.since.timestamp_millis());
    if let Some(pool) = &wanted.pool {
        query.push(" AND pool = ").push_bind(pool.as_str().to_owned());
    }
    match wanted.state {
        Some(state) if is_open(state) => {
            query.push(" AND state = ").push_bind(state.as_str()).push(" AND ").push(OPEN);
        }
        // A look at each row's state would read its record too; the open ones are few.
        Some(_) => {
            query.push(" AND key NOT IN (SELECT key FROM jobs INDEXED BY jobs_open WHERE ");
            query.push(OPEN).push(")");
        }
        None => {}
    }
}

fn newest(wanted: &Wanted) -> QueryBuilder<Sqlite> {
    let index = if wanted.state.is_some_and(is_open) { "jobs_open" } else { index(wanted) };
    let mut query =
        QueryBuilder::new(format!("SELECT key, record FROM jobs INDEXED BY {index} WHERE"));
    narrow(&mut query, wanted);
    query.push(" ORDER BY queued_at DESC LIMIT ").push_bind(wanted.limit);
    query
}

/// Two kinds of slow jobs, each by its own index: those that began late, and those that still wait.
/// The records are read for the few that are left.
fn slowest(wanted: &Wanted, least: Duration, now: Time) -> QueryBuilder<Sqlite> {
    let least = i64::try_from(least.as_millis()).unwrap_or(i64::MAX);
    let now = now.timestamp_millis();
    let began = if wanted.state.is_some_and(is_open) { "jobs_open" } else { index(wanted) };
    let mut query = QueryBuilder::new(format!(
        "SELECT jobs.key, record FROM (SELECT key, wait_ms AS waited FROM jobs INDEXED BY {began} \
         WHERE wait_ms >= "
    ));
    query.push_bind(least).push(" AND");
    narrow(&mut query, wanted);
    if wanted.state.is_none_or(is_open) {
        query.push(" UNION ALL SELECT key, ").push_bind(now).push(format!(
            " - queued_at FROM jobs INDEXED BY jobs_open \
             WHERE {OPEN} AND wait_ms IS NULL AND queued_at <= "
        ));
        query.push_bind(now.saturating_sub(least)).push(" AND");
        narrow(&mut query, wanted);
    }
    query.push(" ORDER BY waited DESC LIMIT ").push_bind(wanted.limit);
    query.push(") AS slow JOIN jobs ON jobs.key = slow.key ORDER BY waited DESC");
    query
}

/// The waits of one pool, each `DAY MILLISECONDS`, by day.
fn by_day(pool: &PoolName, waits: &str) -> Vec<DayOfWaits> {
    let mut days: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    // The index hands them out by time, so that runs of the same day are long.
    let mut run = Vec::new();
    let mut entries = waits.split(',').filter_map(|entry| entry.split_once(' ')).peekable();
    while let Some((day, wait)) = entries.next() {
        run.extend(wait.parse::<i64>().ok());
        if entries.peek().is_none_or(|(next, _)| *next != day) {
            let mut waits = std::mem::take(&mut run);
            if let Ok(day) = day.parse() {
                days.entry(day).or_default().append(&mut waits);
            }
        }
    }
    days.into_iter()
        .filter_map(|(day, mut waits)| {
            waits.sort_unstable();
            let day = chrono::DateTime::from_timestamp_millis(day.checked_mul(DAY_MS)?)?;
            Some(DayOfWaits {
                pool: pool.clone(),
                day: day.date_naive(),
                jobs: u32::try_from(waits.len()).unwrap_or(u32::MAX),
                p50: percentile(&waits, 50),
                p95: percentile(&waits, 95),
                longest: percentile(&waits, 100),
            })
        })
        .collect()
}

/// The smallest of the sorted `waits` that so many of a hundred do not exceed (nearest rank), in
/// seconds.
fn percentile(waits: &[i64], of_hundred: usize) -> f64 {
    let rank = (waits.len() * of_hundred).div_ceil(100).max(1);
    let millis = waits.get(rank - 1).copied().unwrap_or_default();
    millis as f64 / 1000.0
}

#[cfg(test)]
#[path = "history/tests.rs"]
mod tests;
