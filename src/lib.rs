//! The daemon: adapters round the brain of `runner-fleet-actors`.

pub mod config;
pub mod fake;
pub mod github;
pub mod provider;
