use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn scope() -> Scope {
    "octo-org".parse().unwrap()
}

fn application(architecture: &str, version: &str, sha256: Option<String>) -> Application {
    Application {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        version: version.parse().unwrap(),
        url: "https://git.example.net/runner.tar.gz".parse().unwrap(),
        filename: "runner.tar.gz".to_owned(),
        sha256,
    }
}

fn offer(version: &str) -> Result<Offer, PortError> {
    let sum = |digit: &str| Some(digit.repeat(64));
    let applications = vec![
        application("x64", "2.300.0", sum("a")),
        application("x64", version, sum("b")),
        application("arm64", version, None),
    ];
    Ok(Offer { applications, faults: Vec::new() })
}

fn away() -> PortError {
    PortError::certain(ErrorClass::Transient, "GitHub is away")
}

/// Answers from a script, then with the last answer again; notes who asked when.
struct Script {
    clock: Arc<dyn Clock>,
    offers: Mutex<VecDeque<Result<Offer, PortError>>>,
    schedule: Option<Deprecation>,
    asked: Mutex<Vec<(Time, CallKind)>>,
    schedules: AtomicUsize,
}

#[async_trait]
impl Catalogue for Script {
    async fn offer(&self, _: &Scope, kind: CallKind) -> Result<Offer, PortError> {
        self.asked.lock().unwrap().push((self.clock.now(), kind));
        let mut offers = self.offers.lock().unwrap();
        if offers.len() > 1 { offers.pop_front().unwrap() } else { offers[0].clone() }
    }

    async fn deprecation(&self, _: &Scope, _: Version) -> Result<Option<Deprecation>, PortError> {
        self.schedules.fetch_add(1, Ordering::Relaxed);
        Ok(self.schedule)
    }
}

/// The cell, its source, and the time, which passes only here.
struct World {
    downloads: Downloads,
    script: Script,
    clock: Arc<HandClock>,
}

impl World {
    fn new(
        offers: impl IntoIterator<Item = Result<Offer, PortError>>,
        schedule: Option<Deprecation>,
    ) -> Self {
        let clock = Arc::new(HandClock(Mutex::new("2026-11-01T00:00:00Z".parse().unwrap())));
        let script = Script {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            offers: Mutex::new(offers.into_iter().collect()),
            schedule,
            asked: Mutex::default(),
            schedules: AtomicUsize::new(0),
        };
        let downloads = Downloads::new(Arc::clone(&clock) as Arc<dyn Clock>);
        Self { downloads, script, clock }
    }

    /// What the task does until then.
    async fn passes(&self, time: Duration) {
        let end = self.clock.now() + time;
        loop {
            let next = self.downloads.ask_what_is_due(&self.script).await;
            let until = next.map_or(end, |next| next.min(end));
            if until == end {
                *self.clock.0.lock().unwrap() = end;
                self.downloads.ask_what_is_due(&self.script).await;
                return;
            }
            *self.clock.0.lock().unwrap() = until;
        }
    }

    fn asked(&self) -> Vec<(Time, CallKind)> {
        self.script.asked.lock().unwrap().clone()
    }

    fn freshness(&self, version: &str) -> Option<Freshness> {
        self.downloads.freshness(&scope(), version)
    }

    fn latest(&self, os: &str, architecture: &str) -> Option<Application> {
        self.downloads.latest(&scope(), os, architecture)
    }
}

struct HandClock(Mutex<Time>);

impl Clock for HandClock {
    fn now(&self) -> Time {
        *self.0.lock().unwrap()
    }
}

#[tokio::test]
async fn who_reads_gets_it_a_moment_later_and_nobody_waits() {
    let world = World::new([offer("2.336.0")], None);
    world.passes(HOUR).await;
    assert!(world.asked().is_empty(), "nothing is asked that nobody wants");
    assert_eq!(world.latest("linux", "x64"), None);
    world.passes(Duration::ZERO).await;
    let latest = world.latest("linux", "x64").unwrap();
    assert_eq!(latest.version, Version(2, 336, 0), "the newest of those on offer");
    assert_eq!(world.latest("linux", "arm64"), None, "its checksum is not known");
    assert_eq!(world.latest("win", "x64"), None);
    for _ in 0..100 {
        world.passes(HOUR / 100).await;
        world.latest("linux", "x64").unwrap();
    }
    let kinds: Vec<_> = world.asked().iter().map(|asked| asked.1).collect();
    assert_eq!(kinds, [CallKind::Launch, CallKind::List], "once an hour, whoever reads");
}

#[tokio::test]
async fn the_task_is_woken_by_whoever_reads_first() {
    let world = World::new([offer("2.336.0")], None);
    let reads = async {
        while world.latest("linux", "x64").is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = reads => {}
        () = world.downloads.keep_fresh(&world.script) => panic!("it ends by itself"),
    }
}

#[tokio::test]
async fn while_github_is_away_the_old_list_holds_and_the_tries_become_rare() {
    let world = World::new([offer("2.336.0"), Err(away())], None);
    world.downloads.want(&scope());
    world.passes(24 * HOUR).await;
    assert!(world.latest("linux", "x64").is_some());
    assert_eq!(world.downloads.as_of(&scope()), Some(world.asked()[0].0));
    let asked = world.asked().len();
    assert!((24..40).contains(&asked), "{asked} calls in a day of failures");
}

#[tokio::test]
async fn a_rate_limit_is_waited_out() {
    let until = "2026-11-01T05:00:00Z".parse().unwrap();
    let limited = Err(PortError::certain(ErrorClass::RateLimited { until }, "not tried"));
    let world = World::new([limited, offer("2.336.0")], None);
    world.downloads.want(&scope());
    world.passes(5 * HOUR + HOUR / 2).await;
    let asked: Vec<_> = world.asked().iter().map(|asked| asked.0).collect();
    assert!(asked.len() == 2 && asked[1] == until, "{asked:?}");
}

#[tokio::test]
async fn a_reported_version_is_judged_by_the_list_first_and_by_the_schedule_then() {
    let end: Time = "2026-11-20T00:00:00Z".parse().unwrap();
    let runtime = Some(end);
    let schedule = Some(Deprecation { registration: None, runtime });
    let world = World::new([offer("2.336.0")], schedule);
    assert_eq!(world.freshness("2.335.0"), Some(Freshness::Current));
    world.passes(Duration::ZERO).await;
    let newest = Some(Version(2, 336, 0));
    let old = Freshness::Old { newest, refused_from: runtime };
    assert_eq!(world.freshness("2.335.0"), Some(old));
    assert_eq!(world.freshness("nonsense"), None);
    world.passes(24 * HOUR).await;
    assert_eq!(world.script.schedules.load(Ordering::Relaxed), 5, "every six hours");
    for _ in 0..18 {
        assert_eq!(world.freshness("2.335.0"), Some(old));
        world.passes(24 * HOUR).await;
    }
    let refused = Freshness::Refused { newest, since: end };
    assert_eq!(world.freshness("2.335.0"), Some(refused));
}

#[tokio::test]
async fn a_newer_release_makes_a_version_old_where_no_schedule_is_told() {
    let world = World::new([offer("2.335.0"), offer("2.336.0")], None);
    world.freshness("2.335.0");
    world.passes(Duration::ZERO).await;
    assert_eq!(world.freshness("2.335.0"), Some(Freshness::Current));
    world.passes(HOUR).await;
    let refused_from = Some(world.asked()[1].0 + super::super::freshness::GRACE);
    let newest = Some(Version(2, 336, 0));
    assert_eq!(world.freshness("2.335.0"), Some(Freshness::Old { newest, refused_from }));
    assert_eq!(world.freshness("2.336.0"), Some(Freshness::Current));
}

#[tokio::test]
async fn what_nobody_reads_is_not_asked_for_for_ever_and_versions_have_an_end() {
    let world = World::new([offer("2.336.0")], None);
    for minor in 0..100 {
        world.freshness(&format!("2.{minor}.0"));
    }
    world.passes(Duration::ZERO).await;
    assert_eq!(world.script.schedules.load(Ordering::Relaxed), VERSIONS_MAX);
    world.passes(FORGOTTEN).await;
    let asked = world.asked().len();
    world.passes(FORGOTTEN).await;
    assert_eq!(world.asked().len(), asked);
    assert_eq!(world.downloads.as_of(&scope()), None);
}
