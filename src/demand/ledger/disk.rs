//! The file under the ledger: opened, written with proof, and opened anew after every failure.
//!
//! SQLite rolls a transaction back by itself when the disk is full or fails (sqlite.org, "Response To
//! Errors Within A Transaction"); whoever counts transactions beside it, as a driver does, is wrong from
//! then on, and what it takes for commits are none. So no connection outlives an error, and no write
//! counts before its proof: each transaction carries a number, which is read back by another connection
//! after the commit, and the files under the path must still be those that are open. Until that is so,
//! nobody is told that anything was kept.
//!
//! A disk that fails is tried again with growing pauses; between them a write fails at once. What cannot
//! be read as a ledger is moved aside, and a new one is begun.

use std::{
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{
        Mutex as Lock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use runner_fleet_actors::backoff::{self, Curve};
use sqlx::{
    Connection, Row, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use super::{
    FILE, LedgerError,
    sound::{self, Fault},
};
use crate::state::StateFolder;

/// Between two tries at a disk that fails.
const PAUSES: Curve = Curve { base: Duration::from_millis(200), cap: Duration::from_secs(5) };
/// How long the closing of connections may take whose disk fails.
const CLOSING: Duration = Duration::from_secs(5);
/// What a damaged ledger costs.
const COSTS: &str = "a new one is begun: jobs that wait are asked of GitHub again, the history of jobs \
                     is in the old one";
/// The mark that proves a write.
pub(super) const PROOF: &str = "ledger/proof";

/// The file, with the connections to it while it works.
#[derive(Debug)]
pub(super) struct Disk {
    folder: StateFolder,
    file: PathBuf,
    /// What its trouble is called.
    named: String,
    writer: Mutex<Writer>,
    readers: Lock<Option<Readers>>,
    /// A reader has failed: all connections are to be opened anew.
    unread: AtomicBool,
    /// How often a new file was begun in the place of one that was there at the start.
    begun: AtomicU64,
}

/// The connections that read.
#[derive(Debug)]
struct Readers {
    all: SqlitePool,
    /// For proofs alone: a write waits for nobody who reads much.
    proof: SqlitePool,
}

impl Readers {
    async fn close(self) {
        let both = async { tokio::join!(self.all.close(), self.proof.close()) };
        let _late = tokio::time::timeout(CLOSING, both).await;
    }
}

/// The one connection that writes, and what is known of the disk.
#[derive(Debug, Default)]
struct Writer {
    connection: Option<SqliteConnection>,
    /// The files that are open, by device and number.
    files: Vec<Option<(u64, u64)>>,
    proofs: u64,
    failures: u32,
    retry_at: Option<Instant>,
    /// Whether the whole file is to be looked through at the next opening.
    doubted: bool,
}

/// The right to write once. Dropped before [`Writing::proven`], it leaves no connection behind.
pub(super) struct Writing<'a> {
    disk: &'a Disk,
    writer: MutexGuard<'a, Writer>,
    pub connection: SqliteConnection,
}

impl Disk {
    /// Opens or makes the file. A disk that does not take it now is a trouble and no error: jobs are
    /// refused until it does.
    ///
    /// # Errors
    /// Where it was written by a newer runner-fleet.
    pub async fn open(folder: &StateFolder) -> Result<Self, LedgerError> {
        let file = folder.file(FILE);
        let disk = Self {
            folder: folder.clone(),
            named: format!("the ledger {}", file.display()),
            file,
            writer: Mutex::new(Writer { doubted: true, ..Writer::default() }),
            readers: Lock::default(),
            unread: AtomicBool::new(false),
            begun: AtomicU64::new(0),
        };
        let mut writer = disk.writer.lock().await;
        match disk.reopen(&mut writer).await {
            Err(Fault::Newer(why)) => return Err(disk.fault(why)),
            Err(Fault::Damaged(why) | Fault::Unavailable(why)) => disk.failed(&mut writer, &why),
            Ok(()) => {}
        }
        drop(writer);
        disk.begun.store(0, Ordering::Release);
        Ok(disk)
    }

    pub fn fault(&self, what: impl Into<String>) -> LedgerError {
        LedgerError { file: self.file.clone(), what: what.into() }
    }

    pub fn file(&self) -> &std::path::Path {
        &self.file
    }

    /// Whether it was not written, or not read, when it was last tried.
    pub fn is_in_trouble(&self) -> bool {
        self.unread.load(Ordering::Acquire) || self.folder.troubles().of(&self.named).is_some()
    }

    /// How often a new file was begun while this daemon lives: what an earlier one kept is not in it.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Connections that read.
    ///
    /// # Errors
    /// Where there are none, because the file cannot be opened.
    pub fn readers(&self) -> Result<SqlitePool, LedgerError> {
        let all = self.pool().as_ref().map(|readers| readers.all.clone());
        all.ok_or_else(|| self.trouble())
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Option<Readers>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader has failed. What cannot be understood, and that all connections are in use or were just
    /// closed, says nothing of the disk.
    pub fn unread(&self, error: &sqlx::Error) -> LedgerError {
        use sqlx::Error::{ColumnDecode, Decode, PoolClosed, PoolTimedOut};
        if !matches!(error, ColumnDecode { .. } | Decode(_) | PoolClosed | PoolTimedOut) {
            self.unread.store(true, Ordering::Release);
            self.folder.troubles().begin(&self.named, format!("it cannot be read: {error}"));
        }
        self.fault(error.to_string())
    }

    fn trouble(&self) -> LedgerError {
        let trouble = self.folder.troubles().of(&self.named);
        self.fault(trouble.map_or_else(|| "it is not open".to_owned(), |trouble| trouble.what))
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// Where the disk does not take one, or has failed so short a while ago that it is left alone.
    pub async fn begin(&self) -> Result<Writing<'_>, LedgerError> {
        let mut writer = self.writer.lock().await;
        if writer.retry_at.is_some_and(|at| at > Instant::now()) {
            return Err(self.trouble());
        }
        if self.unread.load(Ordering::Acquire) {
            self.close(&mut writer, true).await;
        }
        if writer.connection.is_none()
            && let Err(fault) = self.reopen(&mut writer).await
        {
            let (Fault::Newer(why) | Fault::Damaged(why) | Fault::Unavailable(why)) = fault;
            self.failed(&mut writer, &why);
            return Err(self.trouble());
        }
        // Taken out: whatever ends this call early leaves none behind.
        let Some(mut connection) = writer.connection.take() else { return Err(self.trouble()) };
        if let Err(error) = sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await {
            writer.connection = Some(connection);
            self.give_up(&mut writer, &error).await;
            return Err(self.trouble());
        }
        Ok(Writing { disk: self, writer, connection })
    }

    /// The disk has failed: nothing that was open is trusted any more.
    async fn give_up(&self, writer: &mut Writer, error: &sqlx::Error) {
        let code = sound::code(error);
        // Readers of a disk that is only full, or only read, go on: opening anew needs room.
        let readable = matches!(code, Some(sound::FULL | sound::READONLY | sound::BUSY));
        writer.doubted |= matches!(code, Some(sound::CORRUPT | sound::NOTADB));
        self.close(writer, !readable).await;
        self.failed(writer, &error.to_string());
    }

    fn failed(&self, writer: &mut Writer, why: &str) {
        writer.failures = writer.failures.saturating_add(1);
        // One disk: there is nobody to be spread from, hence no seed.
        writer.retry_at = Some(Instant::now() + backoff::delay(writer.failures, 0, PAUSES));
        let what = format!(
            "it is not written: {why}; deliveries are refused and nothing is acknowledged until it is. \
             Make room on the disk, or mend it"
        );
        self.folder.troubles().begin(&self.named, what);
    }

    async fn close(&self, writer: &mut Writer, readers: bool) {
        if readers {
            self.unread.store(false, Ordering::Release);
            let readers = self.pool().take();
            if let Some(readers) = readers {
                readers.close().await;
            }
        }
        // The last to close puts what is in the log into the file, and only who may write can do so; also
        // where the log has lost its name.
        if let Some(connection) = writer.connection.take() {
            // Rolls back what was begun. It fails where the disk does, and is gone all the same.
            let _failed = tokio::time::timeout(CLOSING, connection.close_hard()).await;
        }
    }

    /// Opens everything that is not open. A damaged file is moved aside, once.
    async fn reopen(&self, writer: &mut Writer) -> Result<(), Fault> {
        self.close(writer, false).await;
        let mut opened = self.connect(writer.doubted).await;
        if let Err(Fault::Damaged(why)) = &opened {
            self.close(writer, true).await;
            let beside = ["-wal", "-shm", "-journal"];
            self.folder.move_aside(FILE, &beside, why, COSTS).map_err(|error| {
                Fault::Unavailable(format!(
                    "it is damaged ({why}), and cannot be moved aside: {error}"
                ))
            })?;
            opened = self.connect(false).await;
        }
        let (connection, new) = opened?;
        if new {
            self.begun.fetch_add(1, Ordering::AcqRel);
        }
        let open = self.pool().is_some();
        if !open || new {
            let readers = Readers { all: self.reading(4).await?, proof: self.reading(1).await? };
            let old = self.pool().replace(readers);
            if let Some(old) = old {
                old.close().await;
            }
        }
        writer.connection = Some(connection);
        writer.files = self.files();
        writer.doubted = false;
        Ok(())
    }

    /// The connection that writes, and whether the file is a new one.
    async fn connect(&self, doubted: bool) -> Result<(SqliteConnection, bool), Fault> {
        let unavailable = |error: std::io::Error| Fault::Unavailable(error.to_string());
        // Made before SQLite does, so that nobody else may open it; SQLite gives the files beside it
        // the same mode. Not while a reader has it open: a process that closes a file loses all of its
        // locks on it (fcntl_locking(2)), SQLite's as well.
        if self.pool().is_none() {
            let file = self.folder.ensure(FILE).map_err(unavailable)?;
            sound::header(&file)?;
        }
        let mut connection = SqliteConnection::connect_with(&self.options())
            .await
            .map_err(|error| sound::fault(&error))?;
        let new = match sound::look(&mut connection, doubted).await {
            Ok(new) => new,
            Err(fault) => {
                let _failed = tokio::time::timeout(CLOSING, connection.close_hard()).await;
                return Err(fault);
            }
        };
        Ok((connection, new))
    }

    async fn reading(&self, connections: u32) -> Result<SqlitePool, Fault> {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(self.options().read_only(true).create_if_missing(false))
            .await
            .map_err(|error| sound::fault(&error))
    }

    fn options(&self) -> SqliteConnectOptions {
        sound::options().filename(&self.file).create_if_missing(true)
    }

    /// Which files lie at the paths now.
    fn files(&self) -> Vec<Option<(u64, u64)>> {
        let beside = ["", "-wal", "-shm"].map(|ending| {
            let found = std::fs::symlink_metadata(self.folder.file(&format!("{FILE}{ending}")));
            found.ok().map(|found| (found.dev(), found.ino()))
        });
        beside.into()
    }
}

impl Writing<'_> {
    /// Ends the transaction. What it wrote is kept when this returns, and was read back.
    ///
    /// # Errors
    /// Where it is not, or nobody can say; everything is opened anew then.
    pub async fn proven(mut self) -> Result<(), LedgerError> {
        self.writer.proofs += 1;
        let number = format!("{}-{}", std::process::id(), self.writer.proofs);
        match self.commit(&number).await {
            Ok(()) => {}
            Err(error) => return Err(self.failed(&error).await),
        }
        let Self { disk, mut writer, connection } = self;
        writer.connection = Some(connection);
        let lost = match disk.read_back().await {
            // Removed or replaced beneath us: what was written is in files that nobody will find.
            Ok(Some(read)) if read == number && writer.files == disk.files() => None,
            Ok(Some(read)) if read == number => {
                Some("its files were moved or removed while they were open".to_owned())
            }
            Ok(_) => Some("a commit was answered for and is not there".to_owned()),
            Err(error) => Some(format!("what was written cannot be read back: {error}")),
        };
        if let Some(why) = lost {
            writer.doubted = true;
            disk.close(&mut writer, true).await;
            disk.failed(&mut writer, &why);
            return Err(disk.trouble());
        }
        writer.failures = 0;
        writer.retry_at = None;
        disk.folder.troubles().end(&disk.named);
        Ok(())
    }

    async fn commit(&mut self, number: &str) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)")
            .bind(PROOF)
            .bind(number)
            .execute(&mut self.connection)
            .await?;
        sqlx::raw_sql("COMMIT").execute(&mut self.connection).await.map(|_| ())
    }

    /// Gives up after an error in the transaction.
    pub async fn failed(self, error: &sqlx::Error) -> LedgerError {
        let Self { disk, mut writer, connection } = self;
        writer.connection = Some(connection);
        disk.give_up(&mut writer, error).await;
        disk.trouble()
    }
}

impl Disk {
    async fn read_back(&self) -> Result<Option<String>, String> {
        let proof = self.pool().as_ref().map(|readers| readers.proof.clone());
        let proof = proof.ok_or_else(|| self.trouble().to_string())?;
        let row = sqlx::query("SELECT value FROM marks WHERE name = ?")
            .bind(PROOF)
            .fetch_optional(&proof)
            .await
            .map_err(|error| error.to_string())?;
        row.map(|row| row.try_get(0)).transpose().map_err(|error| error.to_string())
    }
}
