//! Loops that run beside the rest for as long as the daemon does, and that may be dropped at any moment.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;

use super::{control::Door, life::Part};
use crate::tasks::Tasks;

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
        self.tasks.end().await;
    }
}
