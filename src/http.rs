//! The HTTP API: what an operator, a charm and the command line see of the fleet, and may order.
//!
//! Rules. Whoever looks is answered from the read model, without a message to any actor, so a
//! thousand questions never slow the fleet. Orders go through [`Control`], the one door to the
//! actors. A refusal is a problem document (RFC 9457) with a 4xx, and nothing was changed. Whatever
//! kills a job must be asked for twice, with `force`. The socket is guarded by its file mode; TCP
//! by a bearer token; only `/healthz` answers without one.
//!
//! The alternative, gRPC or a bus, gives a charm's hook and `curl` nothing and every reader a tool
//! to install.

pub mod api;
mod limits;
mod refusal;
mod routes;
mod serve;
pub mod server;
mod socket;
mod token;

use std::collections::BTreeMap;

use async_trait::async_trait;
use runner_fleet_actors::{
    event::ReadModel,
    name::{PoolName, RunnerName},
    port::PortStatus,
};

use self::api::{FleetInfo, Readiness, SourceStatus};
pub use self::{
    refusal::Refusal,
    routes::router,
    serve::{Serving, serve, serve_within},
    token::ApiToken,
};
use crate::demand::desk::Desk;

/// What the API may ask of the daemon.
#[async_trait]
pub trait Control: Send + Sync {
    /// What everything that only looks is answered from.
    fn model(&self) -> &ReadModel;

    /// Who answers.
    fn fleet(&self) -> FleetInfo;

    /// Whether the fleet can do its work.
    fn readiness(&self) -> Readiness;

    /// The token of the API over TCP, where it may be replaced while it is in use.
    fn api_token(&self) -> Option<&ApiToken> {
        None
    }

    /// What the ports say of themselves: providers by name, and the forge as `github`.
    fn ports(&self) -> BTreeMap<String, PortStatus> {
        self.model().ports.iter().map(|e| (e.key().clone(), e.value().clone())).collect()
    }

    /// What the sources of demand say of themselves.
    fn sources(&self) -> Vec<SourceStatus> {
        Vec::new()
    }

    /// Where the jobs are known; `None` where none are kept.
    fn desk(&self) -> Option<&Desk> {
        None
    }

    /// Fixes a pool's target, or lets it follow demand again (`None`).
    ///
    /// # Errors
    /// No such pool; more than its `max`; the daemon stops.
    async fn set_target(&self, pool: &PoolName, runners: Option<u32>) -> Result<(), Refusal>;

    /// Drains one runner; returns when the order is taken, not when it is gone.
    ///
    /// # Errors
    /// No such runner; it runs a job; the daemon stops.
    async fn drain(&self, runner: &RunnerName) -> Result<(), Refusal>;

    /// Deletes one runner. With `force` whatever it does: its job is killed.
    ///
    /// # Errors
    /// No such runner; without `force`: it runs a job; the daemon stops.
    async fn delete(&self, runner: &RunnerName, force: bool) -> Result<(), Refusal>;

    /// Drains all idle runners of a pool, and says how many.
    ///
    /// # Errors
    /// No such pool; the daemon stops.
    async fn flush(&self, pool: &PoolName) -> Result<u32, Refusal>;

    /// Lists cloud and forge now instead of at the next turn.
    ///
    /// # Errors
    /// The daemon stops.
    async fn reconcile(&self) -> Result<(), Refusal>;

    /// Reads the configuration again and says what changed.
    ///
    /// # Errors
    /// Every fault of the new configuration; the old one stays in force.
    async fn reload(&self) -> Result<String, Refusal>;
}
