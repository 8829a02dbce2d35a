//! The journal: everything that the fleet does, one JSON object a line in a file.
//!
//! Rules. What is written follows from the events alone ([`lines`], pure); the metric events keep the
//! names and fields of Canonical's github-runner operator (its `metrics/events.py`), so that LogQL
//! dashboards made for it work here. The fleet never waits for a disk: lines go through a bounded
//! queue to a thread of their own, what does not fit is counted and the count is written as a line
//! when there is room again. A failing disk is logged once, tried again with growing pauses, and
//! never stops the fleet. The file is cut at a size, and opened anew when it was moved.
//!
//! The alternative, logging metrics through `tracing`, mixes a format that others parse with lines
//! that are for people and change freely.

mod entry;
mod file;
mod lines;
mod memory;
mod writer;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use runner_fleet_actors::{event::FleetEvent, port::Observer};

pub use self::{
    entry::{Entry, JobStatus, Line, StatusInfo, Workflow},
    lines::lines,
    memory::Memory,
};
use self::{
    file::JournalFile,
    writer::{Order, Writer},
};

/// Lines that may wait for the disk: some megabytes, and minutes of a busy fleet.
const QUEUE: usize = 8_192;

/// How often a flush looks whether the queue has room again.
const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// The observer that writes the journal.
#[derive(Debug)]
pub struct Journal {
    memory: Mutex<Memory>,
    queue: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
}

impl Journal {
    /// Writes to `path`, which becomes `path.1` when it would grow beyond `max_bytes`. A path that
    /// cannot be written is logged and tried again; it is no error here.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn open(path: &Path, max_bytes: u64) -> io::Result<Self> {
        let (queue, orders) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let reopen = Arc::new(AtomicBool::new(false));
        let file = JournalFile::new(path.to_path_buf(), max_bytes);
        let writer = Writer::new(file, Arc::clone(&dropped), Arc::clone(&reopen), QUEUE);
        thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run(&orders))?;
        Ok(Self { memory: Mutex::new(Memory::default()), queue, dropped, reopen })
    }

    /// Opens the file anew before the next line; for SIGHUP and a reload. A file that was moved away
    /// is noticed without it.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // A full queue wakes the writer as well.
        let _full = self.queue.try_send(Order::Wake);
    }

    /// Waits until everything observed so far is on the disk, at most `within`. For the end of the
    /// process and for tests. Returns whether it is.
    #[must_use]
    pub fn flush(&self, within: Duration) -> bool {
        let end = Instant::now() + within;
        let (done, answer) = sync_channel(1);
        let mut order = Order::Flush(done);
        loop {
            match self.queue.try_send(order) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < end => order = back,
                Err(_) => return false,
            }
            thread::sleep(FLUSH_LOOK);
        }
        answer.recv_timeout(end.saturating_duration_since(Instant::now())).unwrap_or(false)
    }
}

impl Observer for Journal {
    fn observe(&self, event: &FleetEvent) {
        // Lines are made here, in order, so that a full queue costs lines and never the memory of
        // who was started when.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines(event, &mut memory) {
            if self.queue.try_send(Order::Line(line.to_json())).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
