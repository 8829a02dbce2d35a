//! Tasks that begin one by one and end together: what a part of the daemon has running.

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of one owner. Those that are left when it is dropped are told to end, and not awaited.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    stop: CancellationToken,
    running: TaskTracker,
}

impl Tasks {
    /// What tells a task to end.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Begins a task, which must end by itself once [`Tasks::stop`] says so. Must be called inside the
    /// I/O runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(task);
    }

    /// Begins a task that may be dropped at any moment.
    pub(crate) fn spawn_until_stop(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop();
        self.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Takes a listener over that was given [`Tasks::stop`].
    pub(crate) fn take(&self, whom: &'static str, listener: JoinHandle<()>) {
        self.spawn(async move {
            if let Err(error) = listener.await {
                tracing::warn!(whom, %error, "a listener did not end by itself");
            }
        });
    }

    /// Tells all tasks to end, and waits until they have. Harmless where none was begun.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.running.close();
        self.running.wait().await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
