//! The real brokers of the tests, and a daemon's worth of parts round one queue.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::TryStreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
        ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, LongString},
};
use mongodb::bson::{Document, doc};
use runner_fleet::{
    config::QueueKind,
    demand::{
        desk::Desk,
        ledger::Ledger,
        queue::{Queue, QueueConfig, QueuePool, Surroundings},
        webhook::repair::Hook,
    },
    github::{
        auth::TokenSource,
        names::Question,
        records::{Page, Records},
    },
};
use runner_fleet_actors::{
    demand::Demand,
    event::FleetEvent,
    job::{Identity, JobFacts, JobNews, JobWord, Serves},
    name::PoolName,
    port::{Clock, DemandSource, ErrorClass, Observer, PortError, Secret, TokioClock},
};
use tokio::{
    io::AsyncWriteExt,
    sync::{RwLock, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(90);

/// Stories share the brokers; one that takes a broker away has both for itself.
pub static BROKERS: RwLock<()> = RwLock::const_new(());

/// A broker that `tests/queue/up.sh` started.
#[derive(Debug, Clone)]
pub struct RealBroker {
    pub kind: QueueKind,
    pub url: String,
}

impl RealBroker {
    /// The one that the environment names.
    pub fn found(kind: QueueKind) -> Self {
        let name = match kind {
            QueueKind::Amqp => "RUNNER_FLEET_TEST_AMQP_URL",
            QueueKind::Mongodb => "RUNNER_FLEET_TEST_MONGODB_URL",
        };
        let Ok(url) = std::env::var(name) else {
            panic!("{name} names a broker; tests/queue/up.sh starts one")
        };
        Self { kind, url }
    }

    pub fn config(&self) -> QueueConfig {
        let url = self.url.clone();
        QueueConfig {
            kind: self.kind,
            address: TokenSource::from_fn(move || Ok::<_, io::Error>(Secret::new(url.clone()))),
            ca_file: None,
            github: "https://github.com".to_owned(),
        }
    }

    /// Messages as Canonical's router puts them: written by kombu.
    pub async fn send(&self, queue: &str, messages: &[String]) {
        self.send_with(queue, messages, &[]).await;
    }

    pub async fn send_with(&self, queue: &str, messages: &[String], options: &[&str]) {
        let folder = std::env::var("RUNNER_FLEET_TEST_QUEUE");
        let folder = folder.unwrap_or_else(|_| "/var/tmp/runner-fleet-queue".to_owned());
        let mut sender = tokio::process::Command::new(Path::new(&folder).join("venv/bin/python"))
            .arg(tests().join("queue/send.py"))
            .args([&self.url, queue])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = sender.stdin.take().unwrap();
        input.write_all((messages.join("\n") + "\n").as_bytes()).await.unwrap();
        drop(input);
        assert!(sender.wait().await.unwrap().success(), "kombu could not send");
    }

    /// Takes the broker away, or brings it back.
    pub async fn turn(&self, order: &str) {
        let name = match self.kind {
            QueueKind::Amqp => "rabbitmq",
            QueueKind::Mongodb => "ferretdb",
        };
        let script = tests().join("queue/broker.sh");
        let done = tokio::process::Command::new(script).args([order, name]).status().await.unwrap();
        assert!(done.success(), "{order} {name}");
    }

    /// Messages in the queue that nobody holds.
    pub async fn left(&self, queue: &str) -> u64 {
        match self.kind {
            QueueKind::Amqp => {
                let (_connection, channel) = self.channel().await;
                let passive =
                    QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let asked = channel.queue_declare(queue.into(), passive, FieldTable::default());
                asked.await.map_or(0, |queue| queue.message_count().into())
            }
            QueueKind::Mongodb => {
                let messages = self.collection("messages").await;
                messages.count_documents(doc! { "queue": queue }).await.unwrap()
            }
        }
    }

    /// Takes this queue's messages out of the dead letters.
    pub async fn dead(&self, queue: &str) -> Vec<String> {
        let mut dead = Vec::new();
        match self.kind {
            QueueKind::Amqp => {
                let (_connection, channel) = self.channel().await;
                let get = || channel.basic_get("dead-letters".into(), BasicGetOptions::default());
                let mut foreign = Vec::new();
                while let Some(letter) = get().await.unwrap() {
                    if letter.routing_key.as_str() == "dead-letters"
                        && died_in(&letter.properties).as_deref() == Some(queue)
                    {
                        letter.acker.ack(BasicAckOptions::default()).await.unwrap();
                        dead.push(String::from_utf8_lossy(&letter.data).into_owned());
                    } else {
                        foreign.push(letter);
                    }
                }
                for letter in foreign {
                    let back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                    letter.acker.nack(back).await.unwrap();
                }
            }
            QueueKind::Mongodb => {
                let rejected = self.collection("messages.rejected").await;
                let found = rejected.find(doc! { "queue": queue }).await.unwrap();
                for letter in found.try_collect::<Vec<_>>().await.unwrap() {
                    dead.push(letter.get_str("rejected_because").unwrap().to_owned());
                }
                rejected.delete_many(doc! { "queue": queue }).await.unwrap();
            }
        }
        dead
    }

    /// What the gateway publishes: GitHub's event, whole.
    pub async fn publish_event(&self, queue: &str, event: &str, body: &[u8]) {
        let (_connection, channel) = self.channel().await;
        let declared = channel.queue_declare(
            queue.into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        );
        declared.await.unwrap();
        let mut headers = FieldTable::default();
        headers.insert("X-GitHub-Event".into(), AMQPValue::LongString(LongString::from(event)));
        let properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), queue.into(), options, body, properties);
        sent.await.unwrap().await.unwrap();
    }

    pub async fn remove(&self, queue: &str) {
        match self.kind {
            QueueKind::Amqp => {
                let (_connection, channel) = self.channel().await;
                let options = QueueDeleteOptions::default();
                channel.queue_delete(queue.into(), options).await.unwrap();
                let options = ExchangeDeleteOptions::default();
                channel.exchange_delete(queue.into(), options).await.unwrap();
            }
            QueueKind::Mongodb => {
                let messages = self.collection("messages").await;
                messages.delete_many(doc! { "queue": queue }).await.unwrap();
            }
        }
    }

    async fn channel(&self) -> (Connection, Channel) {
        // The path `//` of kombu's addresses is the client's `%2f`.
        let url = format!("{}/%2f", self.url.trim_end_matches('/'));
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    pub async fn collection(&self, name: &str) -> mongodb::Collection<Document> {
        let client = mongodb::Client::with_uri_str(&self.url).await.unwrap();
        client.default_database().unwrap().collection(name)
    }
}

fn died_in(properties: &BasicProperties) -> Option<String> {
    let deaths = properties.headers().as_ref()?.inner().get("x-first-death-queue")?;
    match deaths {
        AMQPValue::LongString(queue) => Some(queue.to_string()),
        _ => None,
    }
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The router's message for a job.
pub fn message(id: u64, labels: &[&str]) -> String {
    let url = format!("https://api.github.com/repos/octo-org/app/actions/jobs/{id}");
    serde_json::json!({"labels": labels, "status": "queued", "url": url}).to_string()
}

/// A queue's name that nobody else has. The dead letters of such queues are kept.
pub fn queue_name() -> String {
    format!("test-{}", uuid::Uuid::new_v4().simple())
}

/// GitHub, as far as jobs are concerned. A job that nothing was said of waits.
#[derive(Default)]
pub struct Forge {
    words: Mutex<BTreeMap<u64, JobWord>>,
    others: Mutex<Option<JobWord>>,
    pub takes: Duration,
}

impl Forge {
    pub fn say(&self, id: u64, word: JobWord) {
        self.words.lock().unwrap().insert(id, word);
    }

    /// Every job that nothing else was said of.
    pub fn all(word: JobWord, takes: Duration) -> Arc<Self> {
        let others = Mutex::new(Some(word));
        Arc::new(Self { words: Mutex::default(), others, takes })
    }
}

#[async_trait]
impl Records for Forge {
    async fn job(&self, repository: &str, id: u64) -> Result<Option<JobNews>, PortError> {
        tokio::time::sleep(self.takes).await;
        let word = self.words.lock().unwrap().get(&id).copied();
        let word = word.or(*self.others.lock().unwrap()).unwrap_or(JobWord::Queued);
        let facts = JobFacts {
            repository: Some(repository.into()),
            run_id: Some(id),
            labels: vec!["large".into()],
            ..JobFacts::default()
        };
        Ok(Some(JobNews { key: id.into(), word, at: chrono::Utc::now(), facts }))
    }

    async fn deliveries(&self, _: &Hook, _: Option<&str>) -> Result<Page, PortError> {
        Err(PortError::certain(ErrorClass::Invalid, "no webhooks here"))
    }

    async fn redeliver(&self, _: &Hook, _: u64) -> Result<(), PortError> {
        Err(PortError::certain(ErrorClass::Invalid, "no webhooks here"))
    }

    async fn identity(&self, _: &Question) -> Result<Option<Identity>, PortError> {
        Ok(None)
    }
}

#[derive(Default)]
pub struct Faults(Mutex<Vec<String>>);

impl Faults {
    pub fn said(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Faults {
    fn observe(&self, event: &FleetEvent) {
        if let FleetEvent::Fault { error, .. } = event {
            self.0.lock().unwrap().push(error.what.clone());
        }
    }
}

pub fn large() -> PoolName {
    "large".parse().unwrap()
}

pub fn pool(name: &str, queue: &str, max: u32) -> QueuePool {
    let labels = vec!["self-hosted".into(), name.into()];
    let serves = Serves::new(name.parse().unwrap(), "octo-org".parse().unwrap(), labels);
    QueuePool { queue: queue.to_owned(), serves, max }
}

/// The parts of a daemon that a queue concerns.
pub struct Fleet {
    pub desk: Arc<Desk>,
    pub source: Arc<Queue>,
    pub faults: Arc<Faults>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Fleet {
    pub async fn start(
        broker: &RealBroker,
        pools: &[QueuePool],
        state: &Path,
        forge: &Arc<Forge>,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
        let ledger = Arc::new(Ledger::open(state).await.unwrap());
        let serves = pools.iter().map(|pool| pool.serves.clone()).collect();
        let (desk, serving) = Desk::open(ledger, serves, Arc::clone(&clock)).await;
        let faults = Arc::new(Faults::default());
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(serving.run(stop.clone()));
        let config = broker.config();
        let around = Surroundings {
            desk: Arc::clone(&desk),
            forge: Arc::clone(forge) as Arc<dyn Records>,
            observer: Arc::clone(&faults) as Arc<dyn Observer>,
            clock,
        };
        let (source, watching) =
            Queue::new(&config, config.broker().unwrap(), pools, &around, stop.clone()).unwrap();
        tasks.spawn(watching);
        Self { desk, source, faults, stop, tasks }
    }

    pub fn demand(&self, pool: &PoolName) -> watch::Receiver<Option<Demand>> {
        self.source.watch(pool)
    }

    /// Waits until the queue says that so many jobs wait and run, and that these are all.
    #[track_caller]
    pub fn counts(&self, pool: &PoolName, waiting: u32, running: u32) -> impl Future<Output = ()> {
        let mut demand = self.demand(pool);
        async move {
            let wanted = |demand: &Option<Demand>| {
                demand.is_some_and(|d| d == Demand::exact(waiting, running, d.as_of))
            };
            let waited = tokio::time::timeout(PATIENCE, demand.wait_for(wanted)).await;
            let seen = waited.is_ok_and(|seen| seen.is_ok());
            let last = *demand.borrow();
            assert!(seen, "{waiting} waiting and {running} running are wanted: {last:?}");
        }
    }

    /// Whether demand becomes unknown.
    pub async fn becomes_unknown(&self, pool: &PoolName) -> bool {
        let mut demand = self.demand(pool);
        let waited = tokio::time::timeout(PATIENCE, demand.wait_for(Option::is_none)).await;
        waited.is_ok_and(|seen| seen.is_ok())
    }

    /// A graceful stop.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Waits until something is seen.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    look: impl FnMut() -> F,
) -> T {
    super::e2e::eventually(PATIENCE, what, look).await
}
