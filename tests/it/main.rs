//! Everything that needs nothing but this machine, in one process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking, and says what it measured"
)]

#[path = "../support/mod.rs"]
mod support;

mod app_keys;
mod cli_jobs;
mod clouds_yaml;
mod config;
mod config_examples;
mod config_files;
mod config_guests;
mod config_lxd;
mod config_planner;
mod config_queue;
mod config_scale_set;
mod config_unwise;
mod demo;
mod e2e_cli;
mod e2e_guests;
mod e2e_kill;
mod e2e_pause;
mod e2e_scale_set;
mod e2e_strangers;
mod e2e_webhooks;
mod faulty_disk;
mod floods;
mod foreign;
mod full_disk;
mod fuzz;
mod github_contract;
mod github_cordon;
mod github_deliveries;
mod github_faults;
mod github_hooks;
mod github_jobs;
mod github_limits;
mod github_listing;
mod github_look_up;
mod github_network;
mod github_secrets;
mod grounds;
mod guest_connections;
mod guest_door;
mod guest_orders;
mod guest_user_data;
mod http;
mod http_jobs;
mod http_serve;
mod http_server;
mod http_wire;
mod journal;
mod journal_file;
mod journal_guests;
mod lxd_absent;
mod lxd_refusals;
mod openstack_faults;
mod openstack_recent;
mod openstack_warm;
mod openstack_worlds;
mod planner;
mod provider_contract;
mod readme;
mod redirects;
mod renames;
mod rotations;
mod scale_set;
mod scale_set_faults;
mod scale_set_listener;
mod tidy;
mod trouble;
mod webhooks;
