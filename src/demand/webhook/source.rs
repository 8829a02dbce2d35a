//! Webhooks as a source of the daemon's: a door where the configuration has one, and in any case what
//! asks for news that were lost, because queues tell of no job's end.

use std::sync::Arc;

use async_trait::async_trait;
use runner_fleet_actors::port::{Clock, DemandSource};

use super::{
    door::{self, Door},
    repair::Repair,
    signature::Secrets,
};
use crate::{
    config::{self, Config, DemandKind, Env, Mark, Marker, Pool, SecretSource},
    demand::{
        JobEars,
        source::{Change, House, Kind, Source, details, no_change},
    },
    github::Github,
    http::{
        api::SourceStatus,
        server::{self, Bounds, tls::Tls},
    },
    provider::{Finding, Grade},
    tasks::Tasks,
};

/// `[webhooks]`, and pools with `demand = ["webhook"]`.
pub struct OfWebhooks;

/// What GitHub signs with. Must not be called where a disk may not be waited for.
fn secrets(config: &config::Webhooks) -> Result<Secrets, String> {
    let env = Env::of_process();
    let read = |source: &SecretSource| source.read(&env).map_err(|e| e.to_string());
    let previous = config.previous_secret.as_ref().map(read).transpose()?;
    Ok(Secrets::new(read(&config.secret)?, previous))
}

#[async_trait]
impl Kind for OfWebhooks {
    fn name(&self) -> &'static str {
        "webhooks"
    }

    fn make(&self, config: &Config, house: &House) -> Result<Option<Box<dyn Source>>, String> {
        let listener = match &config.webhooks {
            Some(config) => {
                let secrets = secrets(config).map_err(|why| format!("webhooks: {why}"))?;
                let tls = config.tls.clone().map(Tls::read).transpose()?.map(Arc::new);
                let (desk, clock) = (Arc::clone(&house.desk), Arc::clone(&house.clock));
                let door = Arc::new(Door::new(desk, secrets, clock));
                Some(Listener { config: config.clone(), door, tls })
            }
            None => None,
        };
        Ok(Some(Box::new(Listening { house: house.clone(), listener, tasks: Tasks::default() })))
    }

    fn held(&self, config: &Config) -> Option<Mark> {
        let hooks = config.webhooks.as_ref()?;
        let mut marker = Marker::default().secret(&hooks.secret).certificate(hooks.tls.as_ref());
        if let Some(previous) = &hooks.previous_secret {
            marker = marker.secret(previous);
        }
        Some(marker.done())
    }

    fn holdings(&self) -> &'static str {
        "the webhooks' secrets and certificate"
    }

    fn secrets<'a>(&self, config: &'a Config) -> Vec<(&'static str, &'a SecretSource)> {
        let Some(hooks) = &config.webhooks else { return Vec::new() };
        let previous = hooks.previous_secret.iter().map(|one| ("webhooks.previous_secret", one));
        std::iter::once(("webhooks.secret", &hooks.secret)).chain(previous).collect()
    }

    /// Every pool's: deliveries name jobs whoever asked for runners.
    fn names_jobs_of(&self, _: &Pool, config: &Config) -> bool {
        config.webhooks.is_some()
    }

    /// A webhook cannot be asked for, so only what lies on this machine is read; that they arrive is shown
    /// by the status later.
    async fn ask(
        &self,
        config: &Config,
        _: Option<&Arc<Github>>,
        _: &Arc<dyn Clock>,
    ) -> Vec<Finding> {
        let Some(hooks) = &config.webhooks else { return Vec::new() };
        let secrets = match secrets(hooks) {
            Ok(_) => Finding::new(Grade::Fine, "secrets", "can be read"),
            Err(why) => Finding::new(Grade::Fault, "secrets", why),
        };
        let certificate = hooks.tls.clone().map(Tls::check);
        std::iter::once(secrets).chain(certificate).collect()
    }
}

struct Listener {
    config: config::Webhooks,
    door: Arc<Door>,
    tls: Option<Arc<Tls>>,
}

struct Listening {
    house: House,
    listener: Option<Listener>,
    tasks: Tasks,
}

#[async_trait]
impl Source for Listening {
    fn renew<'a>(&'a self, config: &Config, anew: bool) -> Result<Change<'a>, String> {
        let Some((old, new)) = self.listener.as_ref().zip(config.webhooks.as_ref()) else {
            return Ok(no_change());
        };
        let secrets = secrets(new).map_err(|why| format!("webhooks: {why}"))?;
        // Where other paths wait for a restart, there may be nothing at the old ones any more.
        let same = anew && old.config.tls == new.tls;
        let certificate = old.tls.as_ref().filter(|_| same).map(|tls| tls.renew()).transpose()?;
        Ok(Box::new(|| {
            if let Some(show) = certificate {
                show();
            }
            old.door.renew(secrets);
        }))
    }

    fn of(&self, pool: &Pool) -> Option<Arc<dyn DemandSource>> {
        let desk = || Arc::clone(&self.house.desk) as Arc<dyn DemandSource>;
        pool.demand.contains(&DemandKind::Webhook).then(desk)
    }

    fn status(&self) -> Vec<SourceStatus> {
        let status = self.listener.iter().map(|listener| listener.door.status());
        status
            .map(|status| SourceStatus {
                source: "webhooks".to_owned(),
                connected_since: None,
                last_word_at: status.last_at,
                signals: status.taken,
                last_error: status.last_fault.as_ref().map(ToString::to_string),
                failing_since: None,
                details: details(&status),
            })
            .collect()
    }

    async fn start(&self, ears: &Arc<dyn JobEars>) -> Result<(), String> {
        let House { desk, records, clock, terms, .. } = self.house.clone();
        let repair = Repair::new(desk, records, clock, terms.repair);
        let stop = self.tasks.stop();
        let Some(Listener { config, door, tls }) = &self.listener else {
            self.tasks.spawn(repair.run_jobs(stop));
            return Ok(());
        };
        let repair = repair.hearing_of(Arc::clone(door.hooks()));
        door.listen_for(Arc::clone(ears));
        let bounds = Bounds::webhooks(door::BODY_MAX);
        let router = door::router(Arc::clone(door), bounds.patience);
        let (listen, tls) = (config.listen, tls.clone());
        let serving = server::serve("webhooks", listen, tls, router, bounds, stop.clone())
            .await
            .map_err(|error| format!("webhooks.listen: {error}"))?;
        self.tasks.take("webhooks", serving.task);
        self.tasks.spawn(repair.run(stop));
        Ok(())
    }

    async fn stop(&self) {
        self.tasks.end().await;
    }
}
