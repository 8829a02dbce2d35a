//! Pools, and a fleet of them that runs.

use super::*;

pub fn shape(image: &str) -> Shape {
    Shape { image: image.to_owned(), flavor: "m1.small".to_owned(), ..Shape::default() }
}

pub fn pool(name: &str, min: u32, max: u32) -> PoolSetup {
    pool_of_shape(name, min, max, shape("noble"))
}

pub fn pool_of_shape(name: &str, min: u32, max: u32, shape: Shape) -> PoolSetup {
    PoolSetup {
        configure: Configure {
            policy: Policy {
                max,
                replace_at_once: 1,
                shape: Some(shape.digest()),
                retiring: false,
            },
            blueprint: Arc::new(Blueprint {
                pool: name.parse().unwrap(),
                scope: "org".parse().unwrap(),
                group: None,
                labels: vec!["self-hosted".to_owned()],
                shape,
                user_data: Arc::new(Plain),
            }),
            scaling: scaler::Policy {
                min,
                spare: 0,
                max,
                shrink_after: Duration::ZERO,
                fixed: None,
            },
            limits: Limits::default(),
            provider: "cloud".to_owned(),
        },
        demand: Vec::new(),
    }
}

/// A running fleet, its read model, and the news of its end.
pub struct Running {
    pub fleet: Addr<FleetActor>,
    pub model: SharedModel,
    pub ending: oneshot::Receiver<Ending>,
}

pub fn fleet_id() -> FleetId {
    "ci".parse().unwrap()
}

pub fn start(world: &World, pools: Vec<PoolSetup>) -> Running {
    start_remembering(world, pools, &[])
}

/// Starts a fleet that remembers scopes which no pool has.
pub fn start_remembering(world: &World, pools: Vec<PoolSetup>, scopes: &[&str]) -> Running {
    let model: SharedModel = Arc::new(ReadModel::default());
    let setup = FleetSetup {
        id: fleet_id(),
        providers: [("cloud".to_owned(), Arc::new(world.clone()) as Arc<dyn Provider>)].into(),
        forge: Arc::new(world.clone()),
        guests: Arc::new(world.clone()),
        pools,
        remembered: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
        clock: world.clock.clone(),
        observer: Arc::new(world.clone()),
        model: Arc::clone(&model),
        boots: Arc::clone(&world.boots),
        habits: Arc::clone(&world.habits),
        io: tokio::runtime::Handle::current(),
        cloud_cadence: Cadence::CLOUD,
        forge_cadence: Cadence::FORGE,
        intensity: Intensity::default(),
    };
    let (fleet, ending) = FleetActor::new(setup);
    Running { fleet: fleet.start(), model, ending }
}

impl Running {
    pub fn count(&self, phase: Phase) -> usize {
        self.model.runners.iter().filter(|runner| runner.state == phase).count()
    }

    pub fn names(&self, phase: Phase) -> Vec<RunnerName> {
        let mut names: Vec<_> = self
            .model
            .runners
            .iter()
            .filter(|runner| runner.state == phase)
            .map(|runner| runner.name.clone())
            .collect();
        names.sort();
        names
    }

    /// Waits, in virtual time, until `reached` holds.
    pub async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        for _ in 0..200_000 {
            if reached(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let seen: Vec<_> = self.model.runners.iter().map(|r| r.value().clone()).collect();
        panic!("never reached in virtual hours: {what}; runners: {seen:#?}");
    }

    /// Stops the fleet; an actor that stays behind fails the test.
    pub async fn stop(self) {
        self.fleet.send(Stop).await.unwrap();
        assert_eq!(self.ending.await, Ok(Ending::Stopped));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!self.fleet.connected(), "the fleet's actor is still there");
    }
}
