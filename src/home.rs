//! Home: where the guests report, and fetch their orders.
//!
//! A room of its own beside `http`, with its own listener, because the two must never meet: guests
//! run the code of strangers, so nothing that reaches them reaches the operator's orders, no token of
//! one works at the other, and a crowd of guests takes no connection from an operator.
//!
//! Rules. *A guest speaks for its own runner only*: its token is derived from the runner's name
//! ([`GuestKey`]), so nothing is kept for it and it outlives the daemon. *What a guest says is an event
//! like any other*: it is told to the runner's actor, whose brain decides what it is worth; a replay
//! changes nothing. *An order has one answer or is withdrawn* ([`Hub`]), and the newest order is the
//! only one. *Everything has a bound*: bodies, calls, connections, polls and calls of one guest, what
//! is remembered of it. A guest that cannot be heard costs the fleet speed and nothing else, because
//! listings tell the same, later.
//!
//! The protocol (v1), under `/v1/guest/{runner}`, each call with the guest's token as bearer:
//!
//! | call | what it does |
//! | --- | --- |
//! | `POST reports` | tells what has happened so far, the newest by name; the times are of the guest's own clock, and each report repeats what the ones before it told, so a lost or repeated one harms nothing |
//! | `GET orders?after=N&wait=S` | waits at most S seconds for an order with a number greater than N: `{"number": 17, "order": "stand-down"}`, or 204 |
//! | `POST answers` | answers an order to stand down: `{"number": 17, "answer": "standing-down"}` or `"busy"`; 409 where it is withdrawn, and the guest goes on |
//!
//! `stand-down`: freeze the listener, look for a job, answer; then wait for `go-on` or `end`. A guest
//! that is frozen and hears nothing for 300 s goes on by itself. 404, 429 and 5xx are worth another
//! try, with growing pauses; every other refusal is for good.
//!
//! The alternatives: SSH into the guests, as Canonical's operator does, needs a way into every VM and a
//! key in every daemon; a message bus needs a third party that both must reach.

mod hub;
mod key;
mod routes;
mod wire;

use std::{io, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use runner_fleet_actors::{event::ReadModel, name::RunnerName};

use crate::http::server;

pub use self::{
    hub::{Hub, Order, OrderWord, Patience},
    key::GuestKey,
    routes::{BODY_MAX, Home, router},
    wire::{Answer, Told},
};

pub use crate::http::server::{Bounds, Serving, tls::Tls};

/// Serves the guests on `address` until `home.stop`. Returns when it listens.
///
/// # Errors
/// As [`crate::http::server::serve`].
pub async fn serve(
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    home: Arc<Home>,
    bounds: Bounds,
) -> io::Result<Serving> {
    let stop = home.stop.clone();
    let router = router(home, bounds.patience);
    server::serve("guests", address, tls, router, bounds, stop).await
}

/// Who is told what the guests say.
#[async_trait]
pub trait Ears: Send + Sync {
    /// Whether there is such a runner. It is asked before anything else of a call is done: a token ends
    /// with its runner, and names are never used twice, so what is not alive is dead, also after a
    /// restart.
    fn standing(&self, runner: &RunnerName) -> Standing;

    /// Takes what a guest says of itself; returns when its runner was told.
    ///
    /// # Errors
    /// There is no such runner (yet); the daemon stops.
    async fn tell(&self, runner: &RunnerName, told: Told) -> Result<(), Deaf>;

    /// Takes the last lines of a guest that came to an unusual end.
    fn log(&self, runner: &RunnerName, lines: String);
}

/// How it stands with a runner of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is there.
    Alive,
    /// There is none (any more), as far as listings show.
    Gone,
    /// Nobody can say yet: its pool was not listed since the daemon started.
    Unlisted,
}

impl Standing {
    /// How it stands by what everybody sees of the fleet.
    #[must_use]
    pub fn of(runner: &RunnerName, model: &ReadModel) -> Self {
        if model.runners.contains_key(runner) {
            return Self::Alive;
        }
        let listed = match model.pools.get(&runner.pool()) {
            Some(pool) => pool.cloud_seen_at.is_some() && pool.forge_seen_at.is_some(),
            // A pool that is not configured, unless no pool has shown itself yet.
            None => !model.pools.is_empty(),
        };
        if listed { Self::Gone } else { Self::Unlisted }
    }
}

/// Why a guest's word was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Deaf {
    /// The daemon cannot say yet whether there is such a runner.
    #[error("this daemon has just started and has not seen its VMs yet; try again")]
    Unlisted,
    /// There is no such runner, or this daemon has not seen its VM yet.
    #[error("this daemon knows no runner of that name (yet); try again")]
    Unknown,
    /// The daemon stops, or the runner's pool is being started again.
    #[error("the daemon takes no reports at the moment; try again")]
    Away,
}
