//! A queue that kombu keeps in MongoDB.
//!
//! Kombu's consumers take a message out of the collection before they work on it (`find_one_and_delete`),
//! and a consumer that is killed then has lost it. Here a message is read and left where it is, and
//! deleted when its job runs or is gone: the collection itself remembers what is held, and a restart
//! finds all of it.
//!
//! The price: reading excludes nobody. Two fleets that read one queue both see every message, and both
//! make a runner for each job; a queue in MongoDB is for one fleet. A consumer of kombu's beside it takes
//! messages away; that is noticed, and the job is left to it.
//!
//! Kombu knows no dead letters, so what nobody can act on moves to a collection of its own, with the
//! reason: copied first, then deleted, both by the message's own id, so that a crash between the two
//! costs nothing and a repetition changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use async_trait::async_trait;
use futures::TryStreamExt;
use mongodb::{
    Client, Collection, Database,
    bson::{Bson, Document, doc},
    error::ErrorKind,
    options::{ClientOptions, FindOptions, Tls, TlsOptions},
};
use runner_fleet_actors::port::{ErrorClass, PortError, Time};

use super::{
    held::Tag,
    kombu,
    line::{Arrival, Broker, Line, address, within},
    message::Refusal,
};
use crate::github::TokenSource;

/// How often is looked for messages: as often as kombu's own consumers do (`polling_interval`).
const PERIOD: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(8);
/// MongoDB's codes of a refusal: Unauthorized, AuthenticationFailed.
const UNAUTHORIZED: [i32; 2] = [13, 18];

/// A MongoDB, or what speaks like one, with kombu's collections.
pub struct Mongo {
    address: TokenSource,
    ca_file: Option<PathBuf>,
}

impl Mongo {
    /// Prepares; connects to nothing.
    #[must_use]
    pub fn new(address: TokenSource, ca_file: Option<PathBuf>) -> Self {
        Self { address, ca_file }
    }
}

fn class(error: &mongodb::error::Error) -> (ErrorClass, String) {
    let refused = match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => true,
        ErrorKind::Command(command) => UNAUTHORIZED.contains(&command.code),
        _ => false,
    };
    if refused {
        let why = "; check user, password, authSource and the user's role (readWrite)";
        return (ErrorClass::Auth, format!("{}{why}", error.kind));
    }
    (ErrorClass::Transient, error.kind.to_string())
}

impl Mongo {
    /// The database, which has answered, and what is done there.
    async fn connect(&self, queue: &str) -> Result<(Database, String), PortError> {
        let secret = address(&self.address)?;
        // The parser's own words may quote the address, and that holds a password.
        let parsed = ClientOptions::parse(secret.expose()).await;
        let mut options = parsed.map_err(|_| {
            let why = "the queue's address is not usable: write mongodb://USER:PASSWORD@HOST/DATABASE \
                       (several hosts with commas; mongodb+srv:// is not read), with %-escapes \
                       where a part holds one of :/?#[]@";
            PortError::certain(ErrorClass::Invalid, why)
        })?;
        drop(secret);
        options.app_name = Some("runner-fleet".to_owned());
        options.connect_timeout = Some(TIMEOUT);
        options.server_selection_timeout = Some(TIMEOUT);
        // No client retries by itself.
        options.retry_reads = Some(false);
        options.retry_writes = Some(false);
        if let Some(path) = &self.ca_file {
            let tls = TlsOptions::builder().ca_file_path(path.clone()).build();
            options.tls = Some(Tls::Enabled(tls));
        }
        let hosts: Vec<_> = options.hosts.iter().map(ToString::to_string).collect();
        let what = format!("read queue {queue:?} on {}", hosts.join(","));
        let database = options.default_database.clone();
        let client = Client::with_options(options).map_err(|error| {
            PortError::certain(ErrorClass::Invalid, format!("{what}: {}", error.kind))
        })?;
        let database = client.database(database.as_deref().unwrap_or(kombu::DATABASE));
        within(&what, async { database.run_command(doc! { "ping": 1 }).await }, class).await?;
        Ok((database, what))
    }
}

#[async_trait]
impl Broker for Mongo {
    async fn open(&self, queue: &str, most: u16) -> Result<Box<dyn Line>, PortError> {
        let (database, what) = self.connect(queue).await?;
        Ok(Box::new(MongoLine {
            messages: database.collection(kombu::MESSAGES),
            rejected: database.collection(kombu::REJECTED),
            queue: queue.to_owned(),
            most: usize::from(most),
            what,
            known: BTreeMap::new(),
            last_tag: 0,
        }))
    }

    async fn waiting(&self, queue: &str) -> Result<Option<u64>, PortError> {
        let (database, what) = self.connect(queue).await?;
        let messages = database.collection::<Document>(kombu::MESSAGES);
        let count = async { messages.count_documents(doc! { "queue": queue }).await };
        within(&what, count, class).await.map(Some)
    }
}

struct MongoLine {
    messages: Collection<Document>,
    rejected: Collection<Document>,
    queue: String,
    most: usize,
    what: String,
    /// What is held, by the text of its id: kombu's ids are MongoDB's own, but need not be.
    known: BTreeMap<String, (Tag, Bson)>,
    last_tag: u64,
}

impl MongoLine {
    async fn find(
        &self,
        filter: Document,
        options: FindOptions,
    ) -> Result<Vec<Document>, PortError> {
        let finding = async {
            let found = self.messages.find(filter).with_options(options).await?;
            found.try_collect::<Vec<_>>().await
        };
        within(&self.what, finding, class).await
    }

    /// The ids of the first messages, as kombu's consumers would take them.
    async fn first(&self) -> Result<Vec<Bson>, PortError> {
        let limit = i64::try_from(self.most).unwrap_or(i64::MAX);
        let options = FindOptions::builder()
            .projection(doc! { "_id": 1 })
            .sort(doc! { "priority": 1, "_id": 1 })
            .limit(limit)
            .build();
        self.find(doc! { "queue": &self.queue }, options).await.map(ids)
    }

    /// Messages that are held and no longer there.
    async fn gone(&self, seen: &BTreeSet<String>) -> Result<Vec<String>, PortError> {
        let mut missing: BTreeMap<_, _> =
            self.known.iter().filter(|(key, _)| !seen.contains(*key)).collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        // Not among the first need not be gone: others may have been put before it.
        let ids_missing: Vec<_> = missing.values().map(|(_, id)| id.clone()).collect();
        let options = FindOptions::builder().projection(doc! { "_id": 1 }).build();
        let there = self.find(doc! { "_id": { "$in": ids_missing } }, options).await?;
        for id in ids(there) {
            missing.remove(&id.to_string());
        }
        Ok(missing.into_keys().cloned().collect())
    }

    fn id_of(&self, tag: Tag) -> Option<(String, Bson)> {
        let found = self.known.iter().find(|(_, (known, _))| *known == tag);
        found.map(|(key, (_, id))| (key.clone(), id.clone()))
    }
}

fn ids(found: Vec<Document>) -> Vec<Bson> {
    found.into_iter().filter_map(|mut document| document.remove("_id")).collect()
}

/// MongoDB's own ids tell when they were made.
fn sent_at(id: &Bson) -> Option<Time> {
    let millis = id.as_object_id()?.timestamp().timestamp_millis();
    Time::from_timestamp_millis(millis)
}

#[async_trait]
impl Line for MongoLine {
    fn period(&self) -> Duration {
        PERIOD
    }

    async fn next(&mut self) -> Result<Arrival, PortError> {
        // Nothing comes by itself.
        std::future::pending().await
    }

    async fn beat(&mut self) -> Result<Vec<Arrival>, PortError> {
        let mut arrivals = Vec::new();
        let first = self.first().await?;
        let full = first.len() >= self.most;
        let seen: BTreeSet<_> = first.iter().map(ToString::to_string).collect();
        for key in self.gone(&seen).await? {
            arrivals.extend(self.known.remove(&key).map(|(tag, _)| Arrival::Withdrawn(tag)));
        }
        let room = self.most.saturating_sub(self.known.len());
        let new: Vec<_> = first
            .into_iter()
            .filter(|id| !self.known.contains_key(&id.to_string()))
            .take(room)
            .collect();
        if !new.is_empty() {
            let sort = doc! { "priority": 1, "_id": 1 };
            let options = FindOptions::builder().sort(sort).build();
            for document in self.find(doc! { "_id": { "$in": new } }, options).await? {
                let Some(id) = document.get("_id").cloned() else { continue };
                self.last_tag += 1;
                let tag = Tag(self.last_tag);
                let payload = document.get_str("payload");
                let raw = payload
                    .map_err(|_| Refusal::Envelope("it has no payload"))
                    .and_then(kombu::open);
                arrivals.push(Arrival::Message { tag, raw, again: false, sent_at: sent_at(&id) });
                self.known.insert(id.to_string(), (tag, id));
            }
        }
        let mut ready = 0;
        if full {
            let filter = doc! { "queue": &self.queue };
            let counting = async { self.messages.count_documents(filter).await };
            let all = within(&self.what, counting, class).await?;
            let held = u64::try_from(self.known.len()).unwrap_or(u64::MAX);
            ready = u32::try_from(all.saturating_sub(held)).unwrap_or(u32::MAX);
        }
        arrivals.push(Arrival::Ready(ready));
        Ok(arrivals)
    }

    async fn done(&mut self, tags: &[Tag]) -> Result<(), PortError> {
        let over: BTreeMap<_, _> = tags.iter().filter_map(|tag| self.id_of(*tag)).collect();
        if over.is_empty() {
            return Ok(());
        }
        let these = doc! { "_id": { "$in": over.values().cloned().collect::<Vec<_>>() } };
        within(&self.what, async { self.messages.delete_many(these).await }, class).await?;
        self.known.retain(|key, _| !over.contains_key(key));
        Ok(())
    }

    async fn reject(&mut self, tag: Tag, why: &str) -> Result<(), PortError> {
        let Some((_, id)) = self.id_of(tag) else { return Ok(()) };
        let this = doc! { "_id": id };
        let moving = async {
            let Some(mut message) = self.messages.find_one(this.clone()).await? else {
                return Ok(());
            };
            message.insert("rejected_because", why);
            message.insert("rejected_at", mongodb::bson::DateTime::now());
            self.rejected.replace_one(this, message).upsert(true).await.map(|_| ())
        };
        within(&self.what, moving, class).await?;
        self.done(&[tag]).await
    }

    async fn close(&mut self) {}
}
