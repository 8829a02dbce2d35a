//! From a configuration to the parts of a fleet.

use std::{io, sync::Arc, time::Duration};

use runner_fleet_actors::{
    fleet::PoolSetup,
    hands::Blueprint,
    name::FleetId,
    pool::{Policy, actor::Configure},
    port::{Clock, DemandSource, ErrorClass, PortError, Provider, Shape},
    runner, scaler,
};

use super::{Pace, targets::Targets, user_data::Makings};
#[cfg(feature = "openstack")]
use crate::provider::openstack::{OpenStack, OpenStackConfig, cloud::CloudConfig};
use crate::{
    config::{
        Config, Env, GithubAuth, Limits, Pool, Provider as ProviderConfig, ProviderKind,
        SecretSource,
    },
    github::{Auth, Github, GithubConfig, Lessons, TokenSource, names::Names},
    provider::{
        Finding, Limited, Limits as Rates,
        lxd::{Lxd, LxdConfig},
    },
};

/// The client of the configured GitHub, whose minute is so long, whose scopes have these names and of which
/// this was learnt before. Must be called inside the I/O runtime.
pub(super) fn github(
    config: &Config,
    clock: &Arc<dyn Clock>,
    minute: Duration,
    names: Arc<Names>,
    lessons: Lessons,
) -> Result<Github, PortError> {
    let place = |source: &SecretSource| {
        let (source, env) = (source.clone(), Env::of_process());
        TokenSource::from_fn(move || {
            source.read(&env).map_err(|error| io::Error::other(error.to_string()))
        })
    };
    let auth = match &config.github.auth {
        GithubAuth::Token(source) => Auth::Token(place(source)),
        GithubAuth::App { id, installation_id, private_key } => Auth::App {
            id: id.clone(),
            installation_id: *installation_id,
            private_key: place(private_key),
        },
    };
    let github = GithubConfig {
        url: config.github.url.to_string(),
        ca_file: config.github.ca_file.clone(),
        cordon_group: config.github.cordon_group.clone(),
        minute,
        names,
        lessons,
        ..GithubConfig::new(auth, config.fleet.id.clone())
    };
    Github::new(github, Arc::clone(clock))
}

/// The client of one configured cloud, without its limits.
pub(super) enum Cloud {
    #[cfg(feature = "openstack")]
    OpenStack(Box<OpenStack>),
    Lxd(Lxd),
}

impl Cloud {
    pub(super) async fn connect(
        name: &str,
        provider: &ProviderConfig,
        fleet: &FleetId,
        clock: &Arc<dyn Clock>,
        shapes: Vec<Shape>,
    ) -> Result<Self, PortError> {
        let invalid = |faults: String| {
            PortError::certain(ErrorClass::Invalid, format!("providers.{name}: {faults}"))
        };
        match &provider.kind {
            #[cfg(feature = "openstack")]
            ProviderKind::OpenStack { cloud, clouds_file } => {
                let cloud = CloudConfig::load(clouds_file.as_deref(), cloud.as_deref())
                    .map_err(|faults| invalid(faults.to_string()))?;
                let config = OpenStackConfig::new(cloud, fleet.clone());
                let config = OpenStackConfig { shapes, ..config };
                let connected = OpenStack::connect(config, Arc::clone(clock)).await;
                connected.map(|cloud| Self::OpenStack(Box::new(cloud)))
            }
            #[cfg(not(feature = "openstack"))]
            ProviderKind::OpenStack { .. } => {
                drop(shapes);
                Err(invalid("this runner-fleet was built without openstack".to_owned()))
            }
            ProviderKind::Lxd(access) => {
                let config = LxdConfig::new(access.clone(), fleet.clone());
                let connected = Lxd::connect(config, Arc::clone(clock));
                connected.map(Self::Lxd).map_err(|error| invalid(error.what))
            }
        }
    }

    /// Whether it could launch these shapes.
    pub(super) async fn check_online(&self, shapes: &[Shape]) -> Vec<Finding> {
        match self {
            #[cfg(feature = "openstack")]
            Self::OpenStack(cloud) => cloud.check_online(shapes).await,
            Self::Lxd(cloud) => cloud.check_online(shapes).await,
        }
    }

    fn into_provider(self) -> Arc<dyn Provider> {
        match self {
            #[cfg(feature = "openstack")]
            Self::OpenStack(cloud) => Arc::new(*cloud),
            Self::Lxd(cloud) => Arc::new(cloud),
        }
    }
}

/// What the pools will launch at that provider.
pub(super) fn shapes(config: &Config, provider: &str) -> Vec<Shape> {
    let pools = config.pools.iter().filter(|pool| pool.provider == provider);
    pools.map(|pool| pool.shape.clone()).collect()
}

/// One provider behind its limits.
pub(super) async fn limited(
    name: &str,
    provider: &ProviderConfig,
    fleet: &FleetId,
    clock: &Arc<dyn Clock>,
    shapes: Vec<Shape>,
) -> Result<Arc<dyn Provider>, PortError> {
    let inner = Cloud::connect(name, provider, fleet, clock, shapes).await?.into_provider();
    let usual = Rates::default();
    let concurrency = provider.concurrency.unwrap_or(usual.concurrency);
    let rates = Rates { concurrency, rate: provider.rate, ..usual };
    Ok(Arc::new(Limited::new(inner, rates, Arc::clone(clock))))
}

/// One pool as the fleet takes it.
pub(super) fn pool(
    pool: &Pool,
    makings: &Makings,
    targets: &Targets,
    pace: &Pace,
    demand: Vec<Arc<dyn DemandSource>>,
) -> PoolSetup {
    let guests_report = makings.home.is_some();
    let shape = Shape { guest: Some(makings.digest(&pool.guest)), ..pool.shape.clone() };
    let digest = shape.digest();
    PoolSetup {
        configure: Configure {
            blueprint: Arc::new(Blueprint {
                pool: pool.name.clone(),
                scope: pool.scope.clone(),
                group: pool.group.clone(),
                labels: pool.labels.clone(),
                shape,
                user_data: makings.user_data(&pool.guest, &pool.scope),
            }),
            policy: Policy {
                max: pool.max,
                replace_at_once: pool.replace_at_once,
                shape: Some(digest),
                retiring: false,
            },
            scaling: scaler::Policy {
                min: pool.min,
                spare: pool.spare,
                max: pool.max,
                // A pool's own busy runners are its demand. A listing late by one turn must not drain
                // runners that the next one asks for again; a longer wait keeps idle VMs paid for.
                shrink_after: pace.shrink_after,
                fixed: targets.of(&pool.name),
            },
            limits: runner::Limits {
                guests_report,
                // A scale set hands out its jobs itself, whatever labels a runner has.
                cordons: pool.cordon && pool.scale_set.is_none(),
                ..limits(&pool.limits, pace)
            },
            provider: pool.provider.clone(),
        },
        demand,
    }
}

fn limits(limits: &Limits, pace: &Pace) -> runner::Limits {
    let Limits { launch, register, idle, busy, idle_proof, watch, idle_alone, settle, ask } =
        *limits;
    runner::Limits {
        launch,
        register,
        idle,
        busy,
        idle_proof,
        watch,
        idle_alone,
        settle,
        ask,
        listing_lag: pace.listing_lag,
        registration_grace: pace.registration_grace,
        ..runner::Limits::default()
    }
}
