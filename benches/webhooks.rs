//! How many deliveries a second the daemon's door takes, each on the disk before its answer, and how
//! soon a delivery is demand.
//!
//! Over HTTP on loopback, from as many connections as GitHub might open; sender and door share the
//! machine. `cargo bench --bench webhooks`
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, Mac};
use runner_fleet::{
    demand::{
        desk::Desk,
        ledger::Ledger,
        webhook::{
            door::{BODY_MAX, Door, router},
            signature::Secrets,
        },
    },
    http::server::{self, Bounds},
};
use runner_fleet_actors::{
    job::{JobFacts, JobNews, JobWord, Serves},
    name::PoolName,
    port::{Clock, DemandSource, Secret, TokioClock},
};
use sha2::Sha256;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "of the bench";
const SENDERS: u64 = 64;
const BURST: u64 = 1000;

struct House {
    _state: tempfile::TempDir,
    desk: Arc<Desk>,
    url: String,
    client: reqwest::Client,
    example: String,
    ids: AtomicU64,
}

async fn house() -> House {
    let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
    let ledger = Arc::new(Ledger::open(state.path()).await.unwrap());
    let serves = vec![Serves::new(
        "k8s".parse().unwrap(),
        "lineville".parse().unwrap(),
        vec!["self-hosted".to_owned(), "k8s".to_owned()],
    )];
    let (desk, serving) = Desk::open(ledger, serves, Arc::clone(&clock)).await;
    let secrets = Secrets::new(Secret::new(SECRET), None);
    let door = Arc::new(Door::new(Arc::clone(&desk), secrets, clock));
    let stop = CancellationToken::new();
    tokio::spawn(serving.run(stop.clone()));
    let bounds = Bounds::webhooks(BODY_MAX);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let router = router(door, bounds.patience);
    let listening = server::serve("webhooks", any, None, router, bounds, stop).await.unwrap();
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/webhooks/api.github.com.workflow_job.waiting.1.json"
    );
    House {
        _state: state,
        desk,
        url: format!("http://{}/webhooks/github", listening.address),
        client: reqwest::Client::new(),
        // A real payload, with its real size, of a job that waits.
        example: std::fs::read_to_string(example).unwrap().replace("\"waiting\"", "\"queued\""),
        ids: AtomicU64::new(1),
    }
}

impl House {
    async fn deliver(&self) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let body = self.example.replace("12877621891", &id.to_string());
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(body.as_bytes());
        let digest = mac.finalize().into_bytes();
        let signature = digest.iter().fold("sha256=".to_owned(), |s, b| format!("{s}{b:02x}"));
        let answer = self
            .client
            .post(&self.url)
            .header("x-github-event", "workflow_job")
            .header("x-github-delivery", format!("delivery-{id}"))
            .header("x-hub-signature-256", signature)
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    }

    async fn burst(self: &Arc<Self>) {
        let senders = (0..SENDERS).map(|sender| {
            let house = Arc::clone(self);
            tokio::spawn(async move {
                for _ in 0..(BURST / SENDERS + u64::from(sender < BURST % SENDERS)) {
                    house.deliver().await;
                }
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await.unwrap();
        }
    }

    /// From the first byte sent to the demand that the scaler sees, in milliseconds.
    async fn reaction(&self) -> f64 {
        let mut demand = self.desk.watch(&"k8s".parse().unwrap());
        demand.mark_unchanged();
        let began = Instant::now();
        let (changed, ()) = tokio::join!(
            async {
                demand.changed().await.unwrap();
                began.elapsed()
            },
            self.deliver()
        );
        changed.as_secs_f64() * 1e3
    }
}

fn webhooks(c: &mut Criterion) {
    let io = tokio::runtime::Runtime::new().unwrap();
    let house = Arc::new(io.block_on(house()));
    let mut group = c.benchmark_group("webhooks");
    group.sample_size(10).measurement_time(Duration::from_secs(15));
    group.throughput(Throughput::Elements(BURST));
    group.bench_function("durable deliveries", |b| b.iter(|| io.block_on(house.burst())));
    group.finish();
    let mut reactions: Vec<f64> = (0..500).map(|_| io.block_on(house.reaction())).collect();
    reactions.sort_by(f64::total_cmp);
    let kept = io.block_on(house.desk.ledger().open_jobs()).unwrap().len() as u64;
    assert_eq!(kept, house.ids.load(Ordering::Relaxed) - 1, "every answer was kept");
    println!(
        "delivery -> demand: p50 {:.1} ms, p99 {:.1} ms of 500, with {kept} open jobs",
        reactions[250], reactions[495]
    );
}

/// A fleet asks for the demand of each of its pools, at its start and at each reload.
fn watches(c: &mut Criterion) {
    const JOBS: u64 = 2000;
    let io = tokio::runtime::Runtime::new().unwrap();
    let mut group = c.benchmark_group("each pool's demand is asked for, with 2,000 jobs");
    group.sample_size(10);
    for pools in [30_u64, 300, 3000] {
        let names: Vec<PoolName> =
            (0..pools).map(|n| format!("pool-{n}").parse().unwrap()).collect();
        let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let desk = io.block_on(async {
            let serves = names
                .iter()
                .map(|pool| {
                    Serves::new(
                        pool.clone(),
                        "lineville".parse().unwrap(),
                        vec![pool.as_str().to_owned()],
                    )
                })
                .collect();
            let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
            let ledger = Arc::new(Ledger::open(state.path()).await.unwrap());
            let (desk, serving) = Desk::open(ledger, serves, clock).await;
            tokio::spawn(serving.run(CancellationToken::new()));
            let news = |id: u64| JobNews {
                key: id.into(),
                word: JobWord::Queued,
                at: chrono::Utc::now(),
                facts: JobFacts {
                    labels: vec![format!("pool-{}", id % pools).into()],
                    ..JobFacts::default()
                },
            };
            desk.hear((0..JOBS).map(news).collect()).await.unwrap();
            desk
        });
        group.throughput(Throughput::Elements(pools));
        group.bench_function(format!("{pools} pools"), |b| {
            b.iter(|| names.iter().for_each(|pool| drop(std::hint::black_box(desk.watch(pool)))));
        });
    }
    group.finish();
}

criterion_group!(benches, webhooks, watches);
criterion_main!(benches);
