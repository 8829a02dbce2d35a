//! Loops that run beside the rest for as long as the daemon does, and that may be dropped at any moment.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;

use super::{control::Door, life::Part};
use crate::tasks::Tasks;

/// How long is waited for a loop that is in the middle of something, such as a write to a disk that hangs.
const LAST_STEP: Duration = Duration::from_secs(1);

/// One loop, which only the stop ends.
pub(super) struct Background {
    run: fn(Arc<Door>) -> BoxFuture<'static, ()>,
    tasks: Tasks,
}

impl Background {
    pub(super) fn new(run: fn(Arc<Door>) -> BoxFuture<'static, ()>) -> Self {
        Self { run, tasks: Tasks::default() }
    }
}

#[async_trait]
impl Part<Door> for Background {
    async fn start(&self, door: &Arc<Door>) -> Result<(), String> {
        self.tasks.spawn_until_stop((self.run)(Arc::clone(door)));
        Ok(())
    }

    async fn stop(&self) {
        if tokio::time::timeout(LAST_STEP, self.tasks.end()).await.is_err() {
            tracing::warn!("a loop did not end at the stop; it goes with the process");
        }
    }
}
