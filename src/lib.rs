//! The daemon: adapters round the brain of `runner-fleet-actors`.

mod calls;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demand;
#[cfg(feature = "demo")]
pub mod demo;
#[cfg(any(feature = "demo", test))]
pub mod fake;
pub mod github;
pub mod guest;
pub mod home;
pub mod http;
pub mod journal;
pub mod log;
mod pause;
pub mod process;
pub mod provider;
mod redirect;
pub mod state;
mod tasks;
