//! The brain of runner-fleet and the actors around it.
#![doc = "Every decision is a pure, total function; every actor is a thin shell around one of them."]

pub mod backoff;
pub mod demand;
pub mod event;
pub mod fleet;
pub mod foreign;
pub mod guard;
pub mod hands;
pub mod invariant;
pub mod job;
pub mod name;
pub mod pool;
pub mod port;
pub mod runner;
pub mod scaler;
pub mod sight;
#[cfg(feature = "sim")]
pub mod sim;
pub mod supervision;
pub mod sweep;
