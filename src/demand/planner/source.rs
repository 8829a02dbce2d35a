//! The planner as a source of the daemon's.

use std::sync::Arc;

use async_trait::async_trait;
use runner_fleet_actors::{
    event::FleetEvent,
    port::{Clock, DemandSource, Observer},
};

use super::{Pace, Planner};
use crate::{
    config::{Config, DemandKind, Env, Mark, Marker, Pool, SecretSource},
    demand::{
        JobEars,
        source::{Change, House, Kind, Source, details, no_change},
    },
    github::Github,
    http::api::SourceStatus,
    provider::{Finding, Grade},
    tasks::Tasks,
};

/// `[planner]`, and pools with `demand = ["planner"]`.
pub struct OfPlanner;

fn followers(config: &Config) -> impl Iterator<Item = &Pool> {
    config.pools.iter().filter(|pool| pool.demand.contains(&DemandKind::Planner))
}

#[async_trait]
impl Kind for OfPlanner {
    fn name(&self) -> &'static str {
        "planner"
    }

    fn make(&self, config: &Config, house: &House) -> Result<Option<Box<dyn Source>>, String> {
        let Some(access) = &config.planner else { return Ok(None) };
        let (env, clock) = (Env::of_process(), Arc::clone(&house.clock));
        let planner = Planner::new(access, env, clock, Pace::default())
            .map_err(|error| format!("planner: {}", error.what))?;
        Ok(Some(Box::new(Following { planner, tasks: Tasks::default() })))
    }

    /// And where they lie: the old place would be read again after a refusal.
    fn held(&self, config: &Config) -> Option<Mark> {
        let access = config.planner.as_ref()?;
        let places = Marker::default().place(&access.token).place(&access.ca_file);
        Some(places.secret(&access.token).files(&access.ca_file).done())
    }

    fn holdings(&self) -> &'static str {
        "the planner's token and authorities"
    }

    fn secrets<'a>(&self, config: &'a Config) -> Vec<(&'static str, &'a SecretSource)> {
        config.planner.iter().map(|planner| ("planner.token", &planner.token)).collect()
    }

    async fn ask(
        &self,
        config: &Config,
        _: Option<&Arc<Github>>,
        clock: &Arc<dyn Clock>,
    ) -> Vec<Finding> {
        let Some(access) = &config.planner else { return Vec::new() };
        let planner = Planner::new(access, Env::of_process(), Arc::clone(clock), Pace::default());
        let told = match planner {
            Ok(planner) => planner.ask().await,
            Err(error) => Err(error),
        };
        let pressures = match told {
            Ok(pressures) => pressures,
            Err(error) => return vec![Finding::new(Grade::Fault, "pressure", error.to_string())],
        };
        let one = |flavor: &String| match pressures.get(flavor.as_str()) {
            Some(pressure) => (Grade::Fine, format!("{pressure} runners wanted in all")),
            None => {
                let known =
                    pressures.keys().map(|flavor| flavor.as_str()).collect::<Vec<_>>().join(", ");
                let what = format!("the planner does not tell this flavor; it tells {known}");
                (Grade::Fault, format!("{what}; correct planner_flavor, or make the flavor"))
            }
        };
        let asked = followers(config).map(|pool| {
            let (grade, what) = one(&pool.planner_flavor);
            Finding::new(grade, format!("flavor {}", pool.planner_flavor), what)
        });
        asked.collect()
    }
}

struct Following {
    planner: Arc<Planner>,
    tasks: Tasks,
}

#[async_trait]
impl Source for Following {
    fn configure<'a>(&'a self, config: &Config) -> Result<Change<'a>, String> {
        let flavors: Vec<_> = followers(config)
            .map(|pool| (pool.name.clone(), pool.planner_flavor.clone()))
            .collect();
        Ok(Box::new(move || {
            for (pool, flavor) in &flavors {
                self.planner.follow(pool, flavor);
            }
        }))
    }

    /// Where nothing is new the stream is not opened anew.
    fn renew<'a>(&'a self, config: &Config, anew: bool) -> Result<Change<'a>, String> {
        let Some(access) = config.planner.as_ref().filter(|_| anew) else {
            return Ok(no_change());
        };
        let renewed = self.planner.renew(access);
        Ok(Box::new(renewed.map_err(|error| format!("planner: {}", error.what))?))
    }

    fn of(&self, pool: &Pool) -> Option<Arc<dyn DemandSource>> {
        let planner = || Arc::clone(&self.planner) as Arc<dyn DemandSource>;
        pool.demand.contains(&DemandKind::Planner).then(planner)
    }

    fn status(&self) -> Vec<SourceStatus> {
        let status = self.planner.status();
        vec![SourceStatus {
            source: "planner".to_owned(),
            connected_since: status.connected_since,
            last_word_at: status.last_word_at,
            signals: status.lines,
            last_error: status.last_error.clone(),
            failing_since: status.failing_since,
            details: details(&status),
        }]
    }

    fn observe(&self, event: &FleetEvent) {
        self.planner.observe(event);
    }

    async fn start(&self, _: &Arc<dyn JobEars>) -> Result<(), String> {
        self.tasks.spawn(Arc::clone(&self.planner).run(self.tasks.stop()));
        Ok(())
    }

    async fn stop(&self) {
        self.tasks.end().await;
    }
}
