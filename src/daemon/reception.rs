//! The reception of the guests: what they say goes to their runners' actors, orders come back.
//!
//! It exists in two steps, because each side needs the other: the hub of orders is a port of the fleet
//! and is there before it, the listener needs the fleet's address and comes after.

use std::sync::Arc;

use actix::Addr;
use async_trait::async_trait;
use futures::FutureExt;
use runner_fleet_actors::{
    event::{FleetEvent, SharedModel},
    fleet::{FleetActor, Route, RouteError},
    hands::NoGuests,
    name::RunnerName,
    pool::actor::{Order, Refused},
    port::{Clock, Guests, Observer},
    runner::{Event, Report},
};

use super::{
    control::Door,
    life::{Change, Part, Renewal},
};
use crate::{
    config,
    demand::desk::Desk,
    github::downloads::Downloads,
    home::{self, Bounds, Deaf, Ears, GuestKey, Home, Hub, Standing, Tls, Told},
    http::Refusal,
    state::StateFolder,
    tasks::Tasks,
};

/// All that guests need of a daemon.
#[derive(Debug)]
pub(super) struct Reception {
    config: config::Guests,
    folder: StateFolder,
    key: GuestKey,
    hub: Arc<Hub>,
    tls: Option<Arc<Tls>>,
    tasks: Tasks,
}

impl Reception {
    /// Reads key and certificate; listens to nobody yet.
    ///
    /// # Errors
    /// What is not to be had, for the person who must provide it.
    pub(super) fn prepare(config: &config::Guests, folder: &StateFolder) -> Result<Self, String> {
        let tls = config.tls.clone().map(Tls::read).transpose()?.map(Arc::new);
        let key = GuestKey::open_in(folder)?;
        let (config, folder, hub) = (config.clone(), folder.clone(), Arc::default());
        Ok(Self { config, folder, key, hub, tls, tasks: Tasks::default() })
    }

    /// Writes the key where the disk has refused it so far.
    pub(super) fn keep_key(&self) {
        self.key.keep(&self.folder);
    }

    /// What a runner proves itself with.
    pub(super) fn key(&self) -> &GuestKey {
        &self.key
    }

    /// The way to the guests, where there is one.
    pub(super) fn guests(of: Option<&Self>) -> Arc<dyn Guests> {
        match of {
            Some(reception) => Arc::clone(&reception.hub) as Arc<dyn Guests>,
            None => Arc::new(NoGuests),
        }
    }
}

#[async_trait]
impl Part<Door> for Reception {
    async fn start(&self, door: &Arc<Door>) -> Result<(), String> {
        let ears = Arc::new(Fleet {
            model: Arc::clone(&door.model),
            fleet: door.fleet.clone(),
            observer: Arc::clone(&door.observers) as Arc<dyn Observer>,
            clock: Arc::clone(&door.clock),
            downloads: Arc::clone(&door.downloads),
            desk: Arc::clone(&door.sources.desk),
        });
        let (key, hub) = (self.key.clone(), Arc::clone(&self.hub));
        let home = Arc::new(Home { key, hub, ears, stop: self.tasks.stop() });
        let (listen, bounds) = (self.config.listen, Bounds::guests(home::BODY_MAX));
        let serving = home::serve(listen, self.tls.clone(), home, bounds)
            .await
            .map_err(|error| format!("guests.listen: {error}"))?;
        self.tasks.take("guests", serving.task);
        Ok(())
    }

    async fn renew<'a>(&'a self, _: &'a Door, to: &'a Renewal) -> Result<Change<'a>, Refusal> {
        // Where other paths wait for a restart, there may be nothing at the old ones any more.
        let mine = self.tls.as_ref().filter(|_| to.changes.guests);
        let certificate = mine.map(|tls| tls.renew()).transpose();
        let certificate = certificate.map_err(Refusal::Invalid)?;
        let said = to.changes.guests.then(|| "the guests' certificate is renewed".to_owned());
        let change = async move {
            if let Some(show) = certificate {
                show();
            }
            Vec::from_iter(said)
        };
        Ok(change.boxed())
    }

    async fn stop(&self) {
        self.tasks.end().await;
    }
}

/// The fleet, as far as it listens to guests.
struct Fleet {
    model: SharedModel,
    fleet: Addr<FleetActor>,
    observer: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
    downloads: Arc<Downloads>,
    desk: Arc<Desk>,
}

#[async_trait]
impl Ears for Fleet {
    fn standing(&self, runner: &RunnerName) -> Standing {
        Standing::of(runner, &self.model)
    }

    async fn tell(&self, runner: &RunnerName, told: Told) -> Result<(), Deaf> {
        // Before demand hears of it: the word of the dead would take another run's waiting job away.
        match self.standing(runner) {
            Standing::Alive => {}
            Standing::Gone => return Err(Deaf::Unknown),
            Standing::Unlisted => return Err(Deaf::Unlisted),
        }
        let Told { mut reports, times, version, .. } = told;
        // Every report repeats it; the actors need not hear it each time.
        let new = |version: &String| {
            let known = self.model.runners.get(runner).and_then(|entry| entry.version.clone());
            known.as_ref() != Some(version)
        };
        if let Some(version) = version.filter(new) {
            // What there is to say of an old one is said in the log, once a version.
            if let Some(pool) = self.model.pools.get(&runner.pool()) {
                let _said = self.downloads.freshness(&pool.scope, &version);
            }
            reports.push(Report::Version(version));
        }
        let (mut job, mut end) = (None, None);
        for report in &reports {
            match report {
                Report::JobStarted(told) => job = Some(told.clone()),
                Report::Stopped(told) => end = Some(told.clone()),
                _ => {}
            }
        }
        if let Some(job) = &job {
            self.desk.guest_started(runner.as_str(), &runner.pool(), job.run_id);
        }
        let over = |report: &Report| matches!(report, Report::JobCompleted(_) | Report::Stopped(_));
        if reports.iter().any(over) {
            self.desk.runner_ended(runner.as_str());
        }
        for report in reports {
            let event = Box::new(Event::Guest(report, times));
            let order = Order::Tell(runner.clone(), event);
            let route = Route { pool: runner.pool(), order };
            match self.fleet.send(route).await {
                Ok(Ok(_)) => {}
                Ok(Err(RouteError::NoPool(_) | RouteError::Refused(Refused::NoRunner(_)))) => {
                    // It went in this instant, and demand must not keep its last word.
                    self.desk.runner_gone(runner.as_str());
                    return Err(Deaf::Unknown);
                }
                Ok(Err(_)) | Err(_) => return Err(Deaf::Away),
            }
        }
        if job.is_some() || end.is_some() {
            let (at, pool, runner) = (self.clock.now(), runner.pool(), runner.clone());
            self.observer.observe(&FleetEvent::GuestTold { at, pool, runner, job, end, times });
        }
        Ok(())
    }

    fn log(&self, runner: &RunnerName, log: String) {
        self.observer.observe(&FleetEvent::GuestLog {
            at: self.clock.now(),
            pool: runner.pool(),
            runner: runner.clone(),
            log,
        });
    }
}
