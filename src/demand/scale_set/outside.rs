//! What scale sets need of the rest of the daemon: small traits, so that a test can be
//! the rest. Who is told of runners is a [`JobEars`](crate::demand::JobEars).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use runner_fleet_actors::{job::JobNews, name::PoolName};

use crate::demand::{
    desk::Desk,
    ledger::{Entry, Ledger},
};

/// Why something could not be kept, for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotKept(pub String);

/// Small facts that outlive the process.
#[async_trait]
pub trait Marks: Send + Sync {
    /// What was kept under that name, if anything was.
    ///
    /// # Errors
    /// Where that cannot be known.
    async fn get(&self, name: &str) -> Result<Option<String>, NotKept>;

    /// Keeps it; durable when it returns.
    ///
    /// # Errors
    /// Where it may not be durable.
    async fn keep(&self, name: &str, value: &str) -> Result<(), NotKept>;
}

/// Whoever keeps the books of jobs.
#[async_trait]
pub trait Hears: Send + Sync {
    /// Takes news of jobs in; durable when it returns. The same news may come twice.
    ///
    /// # Errors
    /// Where they may not be durable; they come again.
    async fn hear(&self, news: Vec<JobNews>) -> Result<(), NotKept>;

    /// Jobs that wait for a pool that does not take them. Never waits.
    fn refused(&self, pool: &PoolName) -> u32 {
        let _none = pool;
        0
    }
}

#[async_trait]
impl Marks for Ledger {
    async fn get(&self, name: &str) -> Result<Option<String>, NotKept> {
        self.mark(name).await.map_err(|error| NotKept(error.to_string()))
    }

    async fn keep(&self, name: &str, value: &str) -> Result<(), NotKept> {
        let mark = Entry::Mark { name: name.to_owned(), value: Some(value.to_owned()) };
        self.write(&[mark]).await.map_err(|error| NotKept(error.to_string()))
    }
}

#[async_trait]
impl Hears for Desk {
    async fn hear(&self, news: Vec<JobNews>) -> Result<(), NotKept> {
        Self::hear(self, news).await.map_err(|error| NotKept(error.to_string()))
    }

    fn refused(&self, pool: &PoolName) -> u32 {
        self.book(|book| book.refused(pool))
    }
}

/// Marks that end with the process: the first start of everything, and tests.
#[derive(Debug, Default)]
pub struct MarksInMemory(Mutex<HashMap<String, String>>);

#[async_trait]
impl Marks for MarksInMemory {
    async fn get(&self, name: &str) -> Result<Option<String>, NotKept> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned())
    }

    async fn keep(&self, name: &str, value: &str) -> Result<(), NotKept> {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.insert(name.to_owned(), value.to_owned());
        Ok(())
    }
}
