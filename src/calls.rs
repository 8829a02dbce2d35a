//! What a client counts of its calls, for its status.
//!
//! One place for all of them: what "under way" and "failed" mean on the status page must not depend
//! on which cloud it speaks of. What counts as a failure is the client's to say, because only it knows
//! which refusals are answers.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use runner_fleet_actors::port::{PortStatus, Time};

/// The counts of one client since its start.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    made: AtomicU64,
    failed: AtomicU64,
    under_way: AtomicU64,
    last_error: Mutex<Option<(Time, String)>>,
}

/// Counts a call as under way for as long as it lives, also when its future is dropped.
pub(crate) struct UnderWay<'a>(&'a AtomicU64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Calls {
    /// One call more; it is under way until the answer of this is dropped.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.made.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(&self.under_way)
    }

    /// One failure more.
    pub(crate) fn count_failure(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps the text of an error that was met at `at`, in place of the one before.
    pub(crate) fn keep_error(&self, what: String, at: Time) {
        *self.last_error() = Some((at, what));
    }

    /// The counts; what else there is to say is the client's.
    pub(crate) fn status(&self) -> PortStatus {
        let (at, what) = self.last_error().clone().unzip();
        PortStatus {
            calls: self.made.load(Ordering::Relaxed),
            failures: self.failed.load(Ordering::Relaxed),
            in_flight: self.under_way.load(Ordering::Relaxed),
            last_error: what,
            last_error_at: at,
            ..PortStatus::default()
        }
    }

    /// A poisoned lock holds a text; it is as good as before the panic.
    fn last_error(&self) -> MutexGuard<'_, Option<(Time, String)>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_under_way_until_it_ends_or_is_given_up() {
        let calls = Calls::default();
        let first = calls.begin();
        let second = calls.begin();
        assert_eq!(calls.status().in_flight, 2);
        drop(first);
        calls.count_failure();
        calls.keep_error("no answer".to_owned(), Time::UNIX_EPOCH);
        drop(second);
        let status = calls.status();
        assert_eq!((status.calls, status.failures, status.in_flight), (2, 1, 0));
        assert_eq!(status.last_error.as_deref(), Some("no answer"));
        assert_eq!(status.last_error_at, Some(Time::UNIX_EPOCH));
    }
}
