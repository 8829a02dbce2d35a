//! The thread that writes: takes lines from the queue, and outlives every failure of the disk.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use runner_fleet_actors::backoff::{Curve, delay};

use super::{
    entry::{Entry, Line},
    file::JournalFile,
};

/// Pauses between tries at a disk that fails.
const PAUSES: Curve = Curve { base: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// One line, without its end.
    Line(String),
    /// Answer when all before is written, and whether it is.
    Flush(SyncSender<bool>),
    /// Look at the flags.
    Wake,
}

/// A disk that fails.
struct Trouble {
    failures: u32,
    retry_at: Instant,
}

pub(super) struct Writer {
    file: JournalFile,
    waiting: VecDeque<String>,
    room: usize,
    dropped: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    trouble: Option<Trouble>,
}

impl Writer {
    pub fn new(
        file: JournalFile,
        dropped: Arc<AtomicU64>,
        reopen: Arc<AtomicBool>,
        room: usize,
    ) -> Self {
        Self { file, waiting: VecDeque::new(), room, dropped, reopen, trouble: None }
    }

    /// Runs until the other end of the queue is gone.
    pub fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let order = match &self.trouble {
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(trouble) => {
                    orders.recv_timeout(trouble.retry_at.saturating_duration_since(Instant::now()))
                }
            };
            let mut flushes = Vec::new();
            match order {
                Ok(order) => {
                    self.take(order, &mut flushes);
                    // As much as is there, but bounded: the queue holds no more than that.
                    for order in orders.try_iter().take(self.room) {
                        self.take(order, &mut flushes);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write();
                    return;
                }
            }
            let due = self.trouble.as_ref().is_none_or(|t| t.retry_at <= Instant::now());
            if due || !flushes.is_empty() {
                self.write();
            }
            for flush in flushes {
                // Whoever asked may have stopped waiting.
                let _gone = flush.try_send(self.trouble.is_none());
            }
        }
    }

    fn take(&mut self, order: Order, flushes: &mut Vec<SyncSender<bool>>) {
        match order {
            Order::Line(line) if self.waiting.len() < self.room => self.waiting.push_back(line),
            Order::Line(_) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            Order::Flush(done) => flushes.push(done),
            Order::Wake => {}
        }
    }

    fn write(&mut self) {
        if self.reopen.swap(false, Ordering::AcqRel) {
            self.file.close();
        }
        let mut result = self.file.write(&mut self.waiting);
        if result.is_ok() {
            result = self.tell_dropped();
        }
        let path = self.file.path().display();
        match (result, self.trouble.take()) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => tracing::info!(%path, "journal is written again"),
            (Err(error), None) => {
                tracing::error!(%path, %error, "journal not written; tried again, and the fleet goes on");
                self.pause(1);
            }
            (Err(_), Some(trouble)) => self.pause(trouble.failures.saturating_add(1)),
        }
    }

    fn pause(&mut self, failures: u32) {
        // One disk: there is nobody to be spread from, hence no seed.
        let retry_at = Instant::now() + delay(failures, 0, PAUSES);
        self.trouble = Some(Trouble { failures, retry_at });
    }

    /// Writes how many lines found no room, once there is room again.
    fn tell_dropped(&mut self) -> std::io::Result<()> {
        let lines = self.dropped.swap(0, Ordering::Relaxed);
        if lines == 0 {
            return Ok(());
        }
        tracing::warn!(lines, "journal lines dropped");
        let line = Line::new(chrono::Utc::now(), Entry::JournalDropped { lines });
        let result = self.file.write(&mut VecDeque::from([line.to_json()]));
        if result.is_err() {
            self.dropped.fetch_add(lines, Ordering::Relaxed);
        }
        result
    }
}
