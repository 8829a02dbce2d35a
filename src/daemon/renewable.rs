//! Ports that a reload can renew in place: runners that live keep their hands, and the hands get the
//! new credentials. Restarting every actor for a rotated password would be the alternative.

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use runner_fleet_actors::{
    event::Job,
    job::{Identity, JobNews},
    name::{PoolName, RegistrationId, RunnerName, Scope},
    port::{
        Door, Finding, Forge, Listing, PortError, PortStatus, RegisterOrder, Registered,
        Registration,
    },
};

use crate::{
    demand::webhook::repair::Hook,
    github::{
        applications::Offer,
        budget::CallKind,
        downloads::Catalogue,
        freshness::{Deprecation, Version},
        names::Question,
        records::{Page, Records},
    },
};

/// A port that stands for whichever was set last. Calls under way end with the one they began with.
pub(super) struct Renewable<P: ?Sized>(RwLock<Arc<P>>);

impl<P: ?Sized> Renewable<P> {
    pub(super) fn new(port: Arc<P>) -> Self {
        Self(RwLock::new(port))
    }

    pub(super) fn renew(&self, port: Arc<P>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = port;
    }

    pub(super) fn now(&self) -> Arc<P> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Records for Renewable<dyn Records> {
    async fn job(&self, repository: &str, id: u64) -> Result<Option<JobNews>, PortError> {
        self.now().job(repository, id).await
    }

    async fn deliveries(&self, hook: &Hook, cursor: Option<&str>) -> Result<Page, PortError> {
        self.now().deliveries(hook, cursor).await
    }

    async fn redeliver(&self, hook: &Hook, delivery: u64) -> Result<(), PortError> {
        self.now().redeliver(hook, delivery).await
    }

    async fn identity(&self, question: &Question) -> Result<Option<Identity>, PortError> {
        self.now().identity(question).await
    }
}

#[async_trait]
impl Catalogue for Renewable<dyn Catalogue> {
    async fn offer(&self, scope: &Scope, kind: CallKind) -> Result<Offer, PortError> {
        self.now().offer(scope, kind).await
    }

    async fn deprecation(
        &self,
        scope: &Scope,
        version: Version,
    ) -> Result<Option<Deprecation>, PortError> {
        self.now().deprecation(scope, version).await
    }
}

#[async_trait]
impl Forge for Renewable<dyn Forge> {
    async fn register(&self, order: &RegisterOrder) -> Result<Registered, PortError> {
        self.now().register(order).await
    }

    async fn deregister(
        &self,
        scope: &Scope,
        name: &RunnerName,
        id: Option<RegistrationId>,
    ) -> Result<(), PortError> {
        self.now().deregister(scope, name, id).await
    }

    async fn list(&self, scope: &Scope) -> Result<Listing<Registration>, PortError> {
        self.now().list(scope).await
    }

    async fn look_up(
        &self,
        scope: &Scope,
        name: &RunnerName,
        id: Option<RegistrationId>,
        job: Option<&Job>,
    ) -> Result<Finding, PortError> {
        self.now().look_up(scope, name, id, job).await
    }

    fn status(&self) -> PortStatus {
        self.now().status()
    }

    async fn cordon(&self, order: &RegisterOrder, id: RegistrationId) -> Result<(), PortError> {
        self.now().cordon(order, id).await
    }

    async fn uncordon(&self, order: &RegisterOrder, id: RegistrationId) -> Result<(), PortError> {
        self.now().uncordon(order, id).await
    }

    fn door(&self, pool: &PoolName) -> Door {
        self.now().door(pool)
    }

    fn end_hold(&self) {
        self.now().end_hold();
    }
}
