//! What the tests share. Each binary of them has all of it, and uses its part.
#![allow(dead_code, reason = "each binary of tests uses another part")]

pub mod config;
pub mod disks;
pub mod e2e;
pub mod e2e_fakes;
pub mod e2e_lxd;
pub mod e2e_lxd_story;
pub mod e2e_nova;
pub mod fleet_api;
pub mod github;
pub mod guest_door;
pub mod guest_settings;
pub mod guest_world;
pub mod journal;
pub mod journal_life;
pub mod kept_jobs;
pub mod ledger_house;
pub mod lxd;
pub mod lxd_gate;
pub mod lxd_guests;
pub mod lxd_script;
pub mod openstack;
pub mod planner;
pub mod queue;

pub mod provider {
    //! A cloud, and what every provider is held to.
    pub mod contract;
    pub mod contract_on_openstack;
    pub mod world;
}
pub mod scale_set {
    //! Runner scale sets, from both sides.
    pub mod service;
    pub mod world;
}
