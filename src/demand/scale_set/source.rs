//! Scale sets as a source of the daemon's.

use std::sync::Arc;

use async_trait::async_trait;
use runner_fleet_actors::{
    job::Serves,
    name::FleetId,
    port::{Clock, DemandSource, Forge},
};

use super::{Found, Hears, Marks, PoolSet, ScaleSets, Setup, look};
use crate::{
    config::{Config, DemandKind, Pool},
    demand::{
        JobEars,
        source::{Change, House, Kind, Source, details},
    },
    github::Github,
    http::api::SourceStatus,
    provider::{Finding, Grade},
};

/// Pools with `demand = ["scale-set"]`.
pub struct OfScaleSets;

/// Who GitHub says has the session of a scale set.
fn owner(fleet: &FleetId) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{fleet} on {}", host.trim())
}

async fn ask(set: &PoolSet, github: &Arc<Github>) -> Finding {
    let about = format!("{} of {}", set.name, set.scope);
    match look(Arc::clone(github), set).await {
        Ok(Found::None) => {
            Finding::new(Grade::Fine, about, "none of that name yet; the daemon makes it")
        }
        Ok(Found::Set { id, missing }) if missing.is_empty() => {
            Finding::new(Grade::Fine, about, format!("there, as number {id}"))
        }
        Ok(Found::Set { id, missing }) => {
            let missing = missing.join(", ");
            let what = format!(
                "there, as number {id}, without the pool's labels {missing}: jobs that ask for \
                 them are not given to it; delete it, or choose another name"
            );
            Finding::new(Grade::Warning, about, what)
        }
        Err(error) => Finding::new(Grade::Fault, about, error.to_string()),
    }
}

#[async_trait]
impl Kind for OfScaleSets {
    fn name(&self) -> &'static str {
        "scale set"
    }

    fn make(&self, config: &Config, house: &House) -> Result<Option<Box<dyn Source>>, String> {
        let sets = ScaleSets::new(Setup {
            github: (house.github)(),
            clock: Arc::clone(&house.clock),
            marks: Arc::clone(house.desk.ledger()) as Arc<dyn Marks>,
            hears: Arc::clone(&house.desk) as Arc<dyn Hears>,
            owner: owner(&config.fleet.id),
        });
        Ok(Some(Box::new(Sets { sets, github: Arc::clone(&house.github) })))
    }

    fn names_jobs_of(&self, pool: &Pool, _: &Config) -> bool {
        pool.demand.contains(&DemandKind::ScaleSet)
    }

    fn serves(&self, pool: &Pool, serves: Serves) -> Serves {
        let Some(set) = PoolSet::of(pool) else { return serves };
        Serves { labels: set.all_labels(), group: set.group, scale_set: true, ..serves }
    }

    async fn ask(
        &self,
        config: &Config,
        github: Option<&Arc<Github>>,
        _: &Arc<dyn Clock>,
    ) -> Vec<Finding> {
        let Some(github) = github else { return Vec::new() };
        let mut found = Vec::new();
        for set in config.pools.iter().filter_map(PoolSet::of) {
            found.push(ask(&set, github).await);
        }
        found
    }
}

struct Sets {
    sets: Arc<ScaleSets>,
    github: Arc<dyn Fn() -> Arc<Github> + Send + Sync>,
}

#[async_trait]
impl Source for Sets {
    fn configure<'a>(&'a self, config: &Config) -> Result<Change<'a>, String> {
        let wanted = config.pools.iter().filter_map(PoolSet::of).collect();
        Ok(Box::new(|| self.sets.configure(wanted)))
    }

    /// The credentials are GitHub's, which is renewed before its sources are.
    fn renew<'a>(&'a self, _: &Config, _: bool) -> Result<Change<'a>, String> {
        Ok(Box::new(|| self.sets.renew((self.github)())))
    }

    fn of(&self, pool: &Pool) -> Option<Arc<dyn DemandSource>> {
        let sets = || Arc::clone(&self.sets) as Arc<dyn DemandSource>;
        pool.demand.contains(&DemandKind::ScaleSet).then(sets)
    }

    fn forge(&self, rest: Arc<dyn Forge>) -> Arc<dyn Forge> {
        self.sets.forge(rest)
    }

    fn status(&self) -> Vec<SourceStatus> {
        let all = self.sets.status().into_iter().map(|status| SourceStatus {
            source: format!("scale-set {}", status.scale_set),
            connected_since: status.connected_since,
            last_word_at: status.last_word,
            signals: status.messages,
            last_error: status.last_error.clone(),
            failing_since: status.failing_since,
            details: details(&status),
        });
        all.collect()
    }

    async fn start(&self, ears: &Arc<dyn JobEars>) -> Result<(), String> {
        self.sets.start(Arc::clone(ears));
        Ok(())
    }

    async fn stop(&self) {
        self.sets.stop().await;
    }
}
